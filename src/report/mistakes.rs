//! The mistakes the model was surest of, each with its picture: wrong labels and hard cases show up here first.

use maud::{Markup, html};

use crate::dataset::{Dataset, Split};
use crate::evaluation::Verdict;

use super::page::name;
use super::text::{percent, printable};
use super::thumbnail::data_uri;

/// Mistakes that are shown.
const SHOWN: usize = 24;
/// Longer side of a picture in pixels.
const SIDE: u32 = 96;

/// A wrong answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Index of the true class.
    pub truth: usize,
    /// Index of the class that the model said.
    pub prediction: usize,
    /// Its probability.
    pub confidence: f32,
    /// Where the image came from.
    pub source: String,
    /// The picture as a data URI; none where it is not to be had.
    pub picture: Option<String>,
}

/// The wrong answers with the highest confidence, the surest first. `verdicts` are those of all images of `dataset`, in order.
pub fn surest(dataset: &Dataset, verdicts: &[Verdict]) -> Vec<Mistake> {
    let places: Vec<(&Split, usize)> = dataset
        .parts()
        .flat_map(|(_, split)| (0..split.len()).map(move |index| (split, index)))
        .collect();
    let mut wrong: Vec<(f32, usize, &Verdict, usize)> = verdicts
        .iter()
        .enumerate()
        .filter_map(|(place, verdict)| {
            let (class, confidence) = verdict.answer?;
            (class != verdict.label as usize).then_some((confidence, place, verdict, class))
        })
        .collect();
    // Of equal confidence the first in the data comes first.
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    wrong
        .into_iter()
        .take(SHOWN)
        .map(|(confidence, place, verdict, prediction)| Mistake {
            truth: verdict.label as usize,
            prediction,
            confidence,
            source: verdict.source.clone(),
            picture: places.get(place).and_then(|(split, index)| {
                let pixels = split.image(*index).ok()?;
                data_uri(&pixels, &dataset.preprocess, SIDE)
            }),
        })
        .collect()
}

/// The mistakes as cards.
pub fn section(mistakes: &[Mistake], classes: &[String]) -> Markup {
    let class = |index: usize| classes.get(index).map_or("", String::as_str);
    html! {
        @if mistakes.is_empty() {
            p { "The model made no mistake." }
        } @else {
            p { "The wrong answers the model was surest of. Look here for wrong labels, and for what the pictures do not show." }
            ol.mistakes {
                @for mistake in mistakes {
                    li {
                        @if let Some(picture) = &mistake.picture {
                            img src=(picture) width=(SIDE) height=(SIDE) alt={ "Picture labelled " (printable(class(mistake.truth))) };
                        }
                        dl {
                            div { dt { "truth" } dd { (name(class(mistake.truth))) } }
                            div { dt { "said" } dd { (name(class(mistake.prediction))) " " span.sure { (percent(f64::from(mistake.confidence), 1)) } } }
                            div.source { dt.hidden { "source" } dd { (name(&mistake.source)) } }
                        }
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
    use crate::dataset::PixelStore;

    #[test]
    fn the_surest_come_first_with_their_own_picture() {
        let split = |first: u8, count: u8| Split {
            pixels: PixelStore::in_memory((first..first + count).collect(), 1),
            labels: vec![0; usize::from(count)],
            sources: (first..first + count)
                .map(|index| format!("#{index}"))
                .collect(),
        };
        let dataset = Dataset {
            name: "shop".into(),
            classes: vec!["bag".into(), "boot".into()],
            preprocess: Preprocess::stretch(1, 1, Colour::Grey),
            train: split(0, 2),
            validation: None,
            test: Some(split(2, 3)),
            skipped: Vec::new(),
            fingerprint: String::new(),
        };
        let answers = [
            Some((1, 0.6)),
            Some((0, 0.9)),
            None,
            Some((1, 0.8)),
            Some((1, 0.8)),
        ];
        let verdicts: Vec<Verdict> = (0..5)
            .map(|index| Verdict {
                source: format!("#{index}"),
                label: 0,
                answer: answers[index],
            })
            .collect();
        let mistakes = surest(&dataset, &verdicts);
        let sources: Vec<&str> = mistakes
            .iter()
            .map(|mistake| mistake.source.as_str())
            .collect();
        assert_eq!(sources, ["#3", "#4", "#0"]);
        assert_eq!(
            mistakes[0].picture,
            data_uri(&[3], &dataset.preprocess, SIDE)
        );
        let html = section(&mistakes, &["<bag>".into(), "\"boot\"".into()]).into_string();
        assert!(
            html.contains("alt=\"Picture labelled &lt;bag&gt;\""),
            "{html}"
        );
        assert!(section(&[], &[]).into_string().contains("no mistake"));
    }
}
