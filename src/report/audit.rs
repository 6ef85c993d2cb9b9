//! The page of an audit: a gallery of what may be wrong with a data set.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::audit::Finding;
use crate::dataset::{Dataset, Skipped};

use super::page::{Page, Section, facts, name};
use super::text::{grouped, percent, printable};
use super::thumbnail::data_uri;

/// Longer side of a picture in pixels.
const SIDE: u32 = 96;

/// Everything the page tells.
#[derive(Clone, Debug)]
pub struct AuditReport<'a> {
    /// The data, all of it in the training part.
    pub dataset: &'a Dataset,
    /// A finding for every image, the likeliest wrong labels first.
    pub findings: &'a [Finding],
    /// Share of the images whose label is the most probable class.
    pub agreement: f64,
    /// What the findings were made with: names and values.
    pub method: Vec<(&'static str, String)>,
    /// The most pictures of each kind.
    pub most: usize,
    /// The last line, with version and time.
    pub footer: String,
}

impl AuditReport<'_> {
    /// The report as one HTML file.
    pub fn html(&self) -> String {
        let section = |id, title: &str, body| Section {
            id,
            title: title.to_owned(),
            body,
        };
        Page {
            kind: "Audit".to_owned(),
            title: self.dataset.name.clone(),
            subtitle: "What may be wrong with this data, for a person to look at.".to_owned(),
            sections: vec![
                section("summary", "Summary", self.summary()),
                section("labels", "Labels that are probably wrong", self.labels()),
                section(
                    "contradictions",
                    "Copies with different labels",
                    self.copies(true),
                ),
                section("copies", "Copies", self.copies(false)),
                section("odd", "Odd pictures", self.odd()),
                section("unreadable", "Files that cannot be read", self.unreadable()),
                section(
                    "method",
                    "Method",
                    facts(
                        self.method
                            .iter()
                            .map(|(label, value)| (*label, name(value))),
                    ),
                ),
            ],
            footer: self.footer.clone(),
        }
        .html()
    }

    fn count(&self, is_one: impl Fn(&Finding) -> bool) -> usize {
        self.findings
            .iter()
            .filter(|finding| is_one(finding))
            .count()
    }

    fn summary(&self) -> Markup {
        let number = |count: usize| html! { (grouped(count as u64)) };
        facts([
            ("images", number(self.findings.len())),
            ("classes", number(self.dataset.classes.len())),
            (
                "labels that the models agree with",
                html! { (percent(self.agreement, 1)) },
            ),
            (
                "labels that are probably wrong",
                number(self.count(|finding| finding.opinion.other.is_some())),
            ),
            (
                "images with copies of another label",
                number(self.count(|finding| finding.contradicts)),
            ),
            (
                "images with copies",
                number(self.count(|finding| finding.copies.is_some())),
            ),
            (
                "odd pictures",
                number(self.count(|finding| !finding.oddities.is_empty())),
            ),
            (
                "files that cannot be read",
                number(self.dataset.skipped.len()),
            ),
        ])
    }

    fn class(&self, index: usize) -> &str {
        self.dataset.classes.get(index).map_or("", String::as_str)
    }

    fn labels(&self) -> Markup {
        let wrong = self
            .findings
            .iter()
            .filter(|finding| finding.opinion.other.is_some());
        self.gallery(wrong.collect(), "No label looks wrong.")
    }

    fn odd(&self) -> Markup {
        let odd = self
            .findings
            .iter()
            .filter(|finding| !finding.oddities.is_empty());
        self.gallery(odd.collect(), "")
    }

    /// The groups of copies whose labels differ, or those whose labels are the same.
    fn copies(&self, contradicts: bool) -> Markup {
        let mut groups: BTreeMap<usize, Vec<&Finding>> = BTreeMap::new();
        for finding in self.findings {
            if let Some(number) = finding.copies
                && finding.contradicts == contradicts
            {
                groups.entry(number).or_default().push(finding);
            }
        }
        let mut findings: Vec<&Finding> = groups.into_values().flatten().collect();
        // Copies stand side by side.
        findings.sort_by_key(|finding| (finding.copies, finding.place));
        self.gallery(findings, "")
    }

    fn gallery(&self, findings: Vec<&Finding>, if_none: &str) -> Markup {
        let all = findings.len();
        html! {
            @if all == 0 {
                @if !if_none.is_empty() { p { (if_none) } }
            } @else {
                @if all > self.most {
                    p { "The first " (grouped(self.most as u64)) " of " (grouped(all as u64)) "; all are in the CSV." }
                }
                ol.mistakes {
                    @for finding in findings.into_iter().take(self.most) { (self.card(finding)) }
                }
            }
        }
    }

    fn card(&self, finding: &Finding) -> Markup {
        let split = &self.dataset.train;
        let label = self.class(split.labels[finding.place] as usize);
        let picture = split
            .image(finding.place)
            .ok()
            .and_then(|pixels| data_uri(&pixels, &self.dataset.preprocess, SIDE));
        let opinion = finding.opinion;
        html! {
            li {
                @if let Some(picture) = picture {
                    img src=(picture) width=(SIDE) height=(SIDE) alt={ "Picture labelled " (printable(label)) };
                }
                dl {
                    div { dt { "label" } dd { (name(label)) " " span.sure { (percent(f64::from(opinion.label_probability), 0)) } } }
                    @if finding.opinion.other.is_some() {
                        div { dt { "rather" } dd { (name(self.class(opinion.rival.0))) " " span.sure { (percent(f64::from(opinion.rival.1), 0)) } } }
                    }
                    @for oddity in &finding.oddities {
                        div { dt { "odd" } dd { (oddity) } }
                    }
                    @if let Some(number) = finding.copies {
                        div { dt { "copy" } dd { "group " (number) } }
                    }
                    div.source { dt.hidden { "source" } dd { (name(&split.sources[finding.place])) } }
                }
            }
        }
    }

    fn unreadable(&self) -> Markup {
        let skipped = &self.dataset.skipped;
        html! {
            @if !skipped.is_empty() {
                ul.files {
                    @for Skipped { path, reason } in skipped.iter().take(self.most) {
                        li { (name(path)) ": " (printable(reason)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::{Colour, Preprocess};

    use super::*;
    use crate::audit::{Oddity, Opinion};
    use crate::dataset::PixelStore;
    use crate::dataset::Split;

    #[test]
    fn each_kind_of_finding_has_its_gallery() {
        let dataset = Dataset {
            name: "shop".into(),
            classes: vec!["<bag>".into(), "boot".into()],
            preprocess: Preprocess::stretch(1, 1, Colour::Grey),
            train: Split {
                pixels: PixelStore::in_memory(vec![0, 100, 200], 1),
                labels: vec![0, 1, 1],
                sources: ["a", "b", "c"].map(String::from).to_vec(),
            },
            validation: None,
            test: None,
            skipped: vec![],
            fingerprint: String::new(),
        };
        let finding = |place, other, copies, oddities| Finding {
            place,
            opinion: Opinion {
                label_probability: 0.1,
                rival: (1, 0.9),
                other,
            },
            copies,
            contradicts: false,
            oddities,
        };
        let findings = [
            finding(0, Some(1), None, vec![]),
            finding(1, None, Some(1), vec![Oddity::Dark]),
            finding(2, None, Some(1), vec![]),
        ];
        let report = AuditReport {
            dataset: &dataset,
            findings: &findings,
            agreement: 0.5,
            method: vec![("folds", "5".into())],
            most: 1,
            footer: String::new(),
        };
        let html = report.html();
        for part in [
            "Picture labelled &lt;bag&gt;",
            "rather",
            "The first 1 of 2; all are in the CSV.",
            "dark",
            "50.0",
        ] {
            assert!(html.contains(part), "{part:?} is not in {html}");
        }
        // Sections of what is not there are left out.
        assert!(
            !html.contains("Copies with different labels") && !html.contains("cannot be read</h2>")
        );
    }
}
