//! What the model's own thresholds, one for each class, give on the images that were judged.

use maud::{Markup, html};
use pipeline::model::{Calibration, Expectation, Thresholds};

use crate::metrics::thresholds::{Accepted, Answers, accepted};

use super::page::{name, scrolling};
use super::text::{grouped, percent};

/// Precisions that the table of thresholds gives a row.
const PRECISIONS: [f64; 6] = [0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
/// The precision whose thresholds are listed for each class.
const LISTED_PRECISION: f64 = 0.99;

/// What `classify --target-precision` would do with these images, for several precisions and for each class.
pub(super) fn section(
    calibration: Option<&Calibration>,
    labels: &[String],
    answers: &Answers,
) -> Markup {
    let Some(calibration) = calibration else {
        return html! {
            p { "The model carries no thresholds: classify --target-precision needs a model that this program has trained." }
        };
    };
    html! {
        h3 { "What thresholds would accept" }
        p {
            "With classify --target-precision, labels below the threshold of their class go to a person. The thresholds and what they let expect were measured on "
            (grouped(calibration.images)) " validation images. The temperature that the confidences are tempered with brought their calibration error from "
            (percent(calibration.error_before, 2)) " to " (percent(calibration.error_after, 2)) "."
        }
        (by_precision(calibration, answers))
        (by_class(calibration, labels, answers))
    }
}

fn by_precision(calibration: &Calibration, answers: &Answers) -> Markup {
    let row = |precision: f64| {
        let thresholds = calibration.thresholds(precision).classes;
        let Expectation {
            coverage,
            precision: expected,
        } = calibration.expectation(&thresholds);
        let here = total(&accepted(answers, &thresholds));
        html! {
            tr {
                th scope="row" { (percent(precision, 1)) }
                td { (percent(coverage, 1)) }
                td { (share(expected)) }
                td { (percent(here.coverage(), 1)) }
                td { (share(here.precision())) }
            }
        }
    };
    scrolling(
        "What thresholds would accept",
        html! {
            table.numbers.short.slim {
                caption.hidden { "What thresholds on the confidence would accept" }
                thead { tr {
                    th scope="col" { "precision wanted" }
                    th scope="col" { "coverage expected" }
                    th scope="col" { "precision expected" }
                    th scope="col" { "coverage here" }
                    th scope="col" { "precision here" }
                } }
                tbody { @for precision in PRECISIONS { (row(precision)) } }
            }
        },
    )
}

fn by_class(calibration: &Calibration, labels: &[String], answers: &Answers) -> Markup {
    let Thresholds {
        target_precision,
        classes,
    } = calibration.thresholds(LISTED_PRECISION);
    let counts = accepted(answers, &classes);
    let title = format!(
        "Thresholds of each class for a precision of {}",
        percent(target_precision, 0)
    );
    html! {
        details {
            summary { (title) }
            (scrolling(&title, html! {
                table.numbers.short.slim {
                    caption.hidden { (title) }
                    thead { tr {
                        th scope="col" { "class" }
                        th scope="col" { "accepted from confidence" }
                        th scope="col" { "coverage here" }
                        th scope="col" { "precision here" }
                    } }
                    tbody {
                        @for ((label, threshold), count) in labels.iter().zip(&classes).zip(&counts) {
                            tr {
                                th scope="row" { (name(label)) }
                                td { (threshold.map_or_else(|| "never".to_owned(), |lowest| format!("{lowest:.4}"))) }
                                td { (percent(count.coverage(), 1)) }
                                td { (share(count.precision())) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

fn total(counts: &[Accepted]) -> Accepted {
    counts
        .iter()
        .fold(Accepted::default(), |sum, class| Accepted {
            predicted: sum.predicted + class.predicted,
            accepted: sum.accepted + class.accepted,
            correct: sum.correct + class.correct,
        })
}

/// A share, or a dash where nothing was accepted.
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| percent(share, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::thresholds::calibration;

    #[test]
    fn thresholds_of_the_model_are_applied_to_the_images() {
        // 200 validation images: those of the first class are all right, those of the second are no better than chance.
        let labels: Vec<u32> = (0..200)
            .map(|image| u32::from(image >= 100 && image % 2 == 0))
            .collect();
        let logits = [[4.0, 0.0].repeat(100), [0.0, 1.0].repeat(100)].concat();
        let calibration = calibration(&logits, 2, &labels, 1.0);
        let mut answers = Answers::default();
        answers.add(0, 0.99, true);
        answers.add(1, 0.7, true);
        let names = ["bag", "boot"].map(str::to_owned);
        let html = section(Some(&calibration), &names, &answers).into_string();
        assert!(html.contains("200 validation images"), "{html}");
        // 0.9 is within reach of a hundred images without a mistake, 0.999 is not; the second class is never accepted.
        assert!(html.contains("<th scope=\"row\">90.0\u{a0}%</th><td>50.0\u{a0}%</td><td>100.00\u{a0}%</td><td>50.0\u{a0}%</td><td>100.00\u{a0}%</td>"), "{html}");
        assert!(
            html.contains("<th scope=\"row\">99.9\u{a0}%</th><td>0.0\u{a0}%</td><td>–</td>"),
            "{html}"
        );
        assert!(html.contains("<td>never</td>"), "{html}");
    }

    #[test]
    fn a_model_without_thresholds_says_so() {
        let html = section(None, &[], &Answers::default()).into_string();
        assert!(html.contains("no thresholds"), "{html}");
    }
}
