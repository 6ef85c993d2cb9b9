//! The first thing a reader sees: the few figures that say how good a model is, and how sure that is.

use maud::{Markup, html};

use crate::metrics::Evaluation;

use super::confusion;
use super::text::{grouped, percent, printable};

/// Half of the values of a normal distribution lie further than this from none: 95 % within.
const Z: f64 = 1.959_964;

/// Headline figures, the most frequent mistake, and what else the reader should know.
pub(super) fn section(
    evaluation: &Evaluation,
    labels: &[String],
    part: &str,
    calibration_error: f64,
    remarks: &[String],
) -> Markup {
    let [low, high] = interval(evaluation.accuracy, evaluation.images);
    let weakest = evaluation
        .classes
        .iter()
        .filter(|class| class.images > 0)
        .min_by(|a, b| a.f1.total_cmp(&b.f1));
    html! {
        dl.tiles {
            div.main { dt { "Accuracy" } dd { (percent(evaluation.accuracy, 2)) } dd.more { (percent(low, 1)) " to " (percent(high, 1)) " with 95\u{a0}% confidence" } }
            @for top in evaluation.top_k.iter().filter(|top| top.k > 1 && top.k < evaluation.classes.len()) {
                div { dt { "Top-" (top.k) } dd { (percent(top.accuracy, 2)) } dd.more { "true class among the " (top.k) " most probable" } }
            }
            div { dt { "Macro F1" } dd { (format!("{:.4}", evaluation.macro_f1)) } dd.more { "weighted by images " (format!("{:.4}", evaluation.weighted_f1)) } }
            div { dt { "Loss" } dd { (format!("{:.4}", evaluation.loss)) } dd.more { "mean cross-entropy in nats" } }
            div { dt { "Calibration error" } dd { (percent(calibration_error, 2)) } dd.more { "how far confidence is from accuracy" } }
            div { dt { "Images" } dd { (grouped(evaluation.images)) } dd.more { (part) " part, " (grouped(evaluation.classes.len() as u64)) " classes" } }
        }
        p { (confusion::sentence(&evaluation.confusion_matrix, labels))
            @if let Some(class) = weakest {
                " The weakest class: " strong { bdi { (printable(&class.name)) } } " (F1 " (format!("{:.4}", class.f1)) ")."
            }
        }
        @if !remarks.is_empty() {
            ul.remarks { @for remark in remarks { li { (printable(remark)) } } }
        }
    }
}

/// The 95 % confidence interval of a share, after Wilson.
fn interval(share: f64, count: u64) -> [f64; 2] {
    let n = count.max(1) as f64;
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [
        ((middle - spread) / scale).max(0.0),
        ((middle + spread) / scale).min(1.0),
    ]
}

/// Precision, recall and F1 of each class, and what it is most often taken for.
pub(super) fn class_table(evaluation: &Evaluation) -> Markup {
    let matrix = &evaluation.confusion_matrix;
    let figure = |value: f64| {
        html! { td.bar style={ "--share:" (format!("{:.3}", value)) } { (format!("{value:.4}")) } }
    };
    super::page::scrolling(
        "Figures of each class",
        html! {
            table.numbers {
                caption.hidden { "Figures of each class" }
                thead {
                    tr {
                        th scope="col" { "class" }
                        th scope="col" { "images" }
                        th scope="col" { "precision" }
                        th scope="col" { "recall" }
                        th scope="col" { "F1" }
                        th.words scope="col" { "most often taken for" }
                    }
                }
                tbody {
                    @for (index, class) in evaluation.classes.iter().enumerate() {
                        tr {
                            th scope="row" { bdi { (printable(&class.name)) } }
                            td { (grouped(class.images)) }
                            (figure(class.precision))
                            (figure(class.recall))
                            (figure(class.f1))
                            td.words {
                                @if let Some(worst) = confusion::most_confused_with(matrix, index) {
                                    bdi { (printable(&evaluation.classes[worst.prediction].name)) } " (" (grouped(worst.count)) ")"
                                } @else { "–" }
                            }
                        }
                    }
                }
                tfoot {
                    tr {
                        th scope="row" { "mean of the classes" }
                        td { (grouped(evaluation.images)) }
                        (figure(evaluation.macro_precision))
                        (figure(evaluation.macro_recall))
                        (figure(evaluation.macro_f1))
                        td {}
                    }
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let rounded = |share, count| interval(share, count).map(|end| (end * 1e4).round() / 1e4);
        assert_eq!(rounded(0.5, 100), [0.4038, 0.5962]);
        assert_eq!(rounded(1.0, 10), [0.7225, 1.0]);
        assert_eq!(rounded(0.0, 0), [0.0, 0.7935]);
    }
}
