//! What is in a data set: how many images of each class and part, and what they look like.

use maud::{Markup, html};

use crate::dataset::{Dataset, Part, Skipped, Split};

use super::page::{facts, name, scrolling};
use super::text::{grouped, printable};
use super::thumbnail::data_uri;
use pipeline::preprocess::Colour;

/// Examples of each class, where there is room.
const EXAMPLES: usize = 8;
/// Longer side of an example in pixels.
const SIDE: u32 = 40;
/// All examples together take at most so many bytes of the page.
const BUDGET: usize = 500_000;
/// Files that could not be used and are named.
const NAMED: usize = 10;

/// The facts about a data set that a report tells; small, so that the images need not be kept for it.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSheet {
    name: String,
    fingerprint: String,
    shape: String,
    parts: Vec<Part>,
    classes: Vec<ClassSheet>,
    skipped: Vec<Skipped>,
    skipped_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct ClassSheet {
    name: String,
    /// One for each part.
    counts: Vec<usize>,
    /// Data URIs.
    examples: Vec<String>,
}

impl DataSheet {
    /// Counts the images of each class, and takes examples evenly from the first part that has images.
    pub fn of(dataset: &Dataset) -> Self {
        let preprocess = &dataset.preprocess;
        let colour = match preprocess.colour {
            Colour::Grey => "grey",
            Colour::Rgb => "RGB",
        };
        let parts: Vec<(Part, &Split)> = dataset
            .parts()
            .filter(|(_, split)| !split.is_empty())
            .collect();
        let counts: Vec<Vec<usize>> = parts
            .iter()
            .map(|(_, split)| split.class_counts(dataset.classes.len()))
            .collect();
        let mut classes: Vec<ClassSheet> = dataset
            .classes
            .iter()
            .enumerate()
            .map(|(class, name)| ClassSheet {
                name: name.clone(),
                counts: counts.iter().map(|counts| counts[class]).collect(),
                examples: Vec::new(),
            })
            .collect();
        if let Some((_, split)) = parts.first() {
            add_examples(&mut classes, split, dataset);
        }
        Self {
            name: dataset.name.clone(),
            fingerprint: dataset.fingerprint.clone(),
            shape: format!("{} × {} {colour}", preprocess.width, preprocess.height),
            parts: parts.iter().map(|(part, _)| *part).collect(),
            classes,
            skipped: dataset.skipped.iter().take(NAMED).cloned().collect(),
            skipped_count: dataset.skipped.len(),
        }
    }

    /// The sheet as facts and a table.
    pub fn section(&self) -> Markup {
        let total =
            |part: usize| -> usize { self.classes.iter().map(|class| class.counts[part]).sum() };
        let has_examples = self.classes.iter().any(|class| !class.examples.is_empty());
        html! {
            (facts([
                ("data set", name(&self.name)),
                ("classes", html! { (grouped(self.classes.len() as u64)) }),
                ("image size (width × height)", html! { (self.shape) }),
                ("files not used", html! { (grouped(self.skipped_count as u64)) }),
                ("fingerprint (SHA-256)", html! { code { (self.fingerprint) } }),
            ]))
            (scrolling("Images of each class", html! {
                table.numbers.sheet {
                    caption.hidden { "Images of each class" }
                    thead {
                        tr {
                            th scope="col" { "class" }
                            @for part in &self.parts { th scope="col" { (part.name()) } }
                            @if has_examples { th.words scope="col" { "examples" } }
                        }
                    }
                    tbody {
                        @for class in &self.classes {
                            tr {
                                th scope="row" { (name(&class.name)) }
                                @for count in &class.counts { td { (grouped(*count as u64)) } }
                                @if has_examples {
                                    td.examples {
                                        @if !class.examples.is_empty() {
                                            div role="img" aria-label={ "Examples of " (printable(&class.name)) } {
                                                @for picture in &class.examples { img src=(picture) width=(SIDE) height=(SIDE) alt=""; }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    tfoot {
                        tr {
                            th scope="row" { "all" }
                            @for part in 0..self.parts.len() { td { (grouped(total(part) as u64)) } }
                            @if has_examples { td {} }
                        }
                    }
                }
            }))
            @if !self.skipped.is_empty() {
                h3 { "Files that could not be used" }
                ul.files { @for skipped in &self.skipped { li { code { (name(&skipped.path)) } ": " (printable(&skipped.reason)) } } }
                @if self.skipped_count > self.skipped.len() {
                    p.note { "and " (grouped((self.skipped_count - self.skipped.len()) as u64)) " more" }
                }
            }
        }
    }
}

/// One example of each class after the other, until each has enough or the page has no more room.
fn add_examples(classes: &mut [ClassSheet], split: &Split, dataset: &Dataset) {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes.len()];
    for (index, &label) in split.labels.iter().enumerate() {
        if let Some(members) = members.get_mut(label as usize) {
            members.push(index);
        }
    }
    let mut used = 0;
    for example in 0..EXAMPLES {
        for (class, members) in classes.iter_mut().zip(&members) {
            let count = members.len().min(EXAMPLES);
            if example >= count {
                continue;
            }
            let index = members[example * members.len() / count];
            let pixels = split.image(index).ok();
            let Some(picture) =
                pixels.and_then(|pixels| data_uri(&pixels, &dataset.preprocess, SIDE))
            else {
                continue;
            };
            used += picture.len();
            if used > BUDGET {
                return;
            }
            class.examples.push(picture);
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::Preprocess;

    use super::*;
    use crate::dataset::PixelStore;

    #[test]
    fn counts_examples_and_totals() {
        let labels: Vec<u32> = [vec![0; 20], vec![1; 3]].concat();
        let split = |labels: &[u32]| Split {
            pixels: PixelStore::in_memory(vec![9; labels.len()], 1),
            labels: labels.to_vec(),
            sources: vec![String::new(); labels.len()],
        };
        let dataset = Dataset {
            name: "shop".into(),
            classes: ["bag", "<b>", "none"].map(str::to_owned).to_vec(),
            preprocess: Preprocess::stretch(1, 1, Colour::Grey),
            train: split(&labels),
            validation: None,
            test: Some(split(&[1])),
            skipped: vec![
                Skipped {
                    path: "a<b>.png".into(),
                    reason: "broken".into()
                };
                12
            ],
            fingerprint: "ab12".into(),
        };
        let sheet = DataSheet::of(&dataset);
        let examples: Vec<usize> = sheet
            .classes
            .iter()
            .map(|class| class.examples.len())
            .collect();
        assert_eq!(examples, [EXAMPLES, 3, 0]);
        assert_eq!(sheet.classes[1].counts, [3, 1]);
        let html = sheet.section().into_string();
        assert!(html.contains("<td>23</td><td>1</td>"), "{html}");
        assert!(html.contains("and 2 more") && !html.contains("<b>"));
    }
}
