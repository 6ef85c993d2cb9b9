//! What accepting only the labels above some thresholds would have given on the images that were judged.

use pipeline::classify::{Acceptance, Thresholding};
use serde::Serialize;

use crate::cli::acceptance::described;
use crate::evaluation::Judgement;
use crate::metrics::thresholds::{Accepted, Answers, accepted};

/// How far the confidences can be trusted.
#[derive(Debug, Serialize)]
pub(super) struct Trust {
    #[serde(skip)]
    expected_calibration_error: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    acceptance: Option<Realised>,
}

/// What thresholds gave.
#[derive(Debug, Serialize)]
struct Realised {
    #[serde(skip)]
    asked: String,
    target_precision: Option<f64>,
    review_below: Option<f32>,
    /// Share of the images that are accepted.
    coverage: f64,
    /// Share of the accepted ones that are right; `null` where there is none.
    precision: Option<f64>,
    /// What the model's validation images let expect.
    expected_coverage: Option<f64>,
    expected_precision: Option<f64>,
    classes: Vec<RealisedClass>,
}

/// What the threshold of one class gave.
#[derive(Debug, Serialize)]
struct RealisedClass {
    name: String,
    threshold: Option<f32>,
    #[serde(flatten)]
    counts: Accepted,
    precision: Option<f64>,
}

impl Trust {
    /// Of everything that got an answer.
    pub(super) fn new(
        judgement: &Judgement,
        labels: &[String],
        wish: &Acceptance,
        thresholding: Option<&Thresholding>,
    ) -> Self {
        let answers = judgement.answers();
        Self {
            expected_calibration_error: answers.calibration_error(),
            acceptance: thresholding
                .map(|thresholding| Realised::new(&answers, labels, wish, thresholding)),
        }
    }

    /// For a person: a line, and a table where labels were accepted or not.
    pub(super) fn text(&self) -> String {
        let error = self.expected_calibration_error;
        let mut text = format!("expected calibration error {error:.4}\n");
        if let Some(acceptance) = &self.acceptance {
            text.push('\n');
            text.push_str(&acceptance.text());
        }
        text
    }
}

impl Realised {
    fn new(
        answers: &Answers,
        labels: &[String],
        wish: &Acceptance,
        thresholding: &Thresholding,
    ) -> Self {
        let counts = accepted(answers, &thresholding.thresholds);
        let total = counts
            .iter()
            .fold(Accepted::default(), |sum, class| Accepted {
                predicted: sum.predicted + class.predicted,
                accepted: sum.accepted + class.accepted,
                correct: sum.correct + class.correct,
            });
        let classes = labels.iter().zip(&thresholding.thresholds).zip(counts);
        Self {
            asked: described(wish),
            target_precision: wish.target_precision,
            review_below: wish.review_below,
            coverage: total.coverage(),
            precision: total.precision(),
            expected_coverage: thresholding.expected.map(|expected| expected.coverage),
            expected_precision: thresholding
                .expected
                .and_then(|expected| expected.precision),
            classes: classes
                .map(|((name, &threshold), counts)| RealisedClass {
                    name: name.clone(),
                    threshold,
                    precision: counts.precision(),
                    counts,
                })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {:.4} of the images accepted, {} of these right\n",
            self.asked,
            self.coverage,
            share(self.precision)
        );
        if let Some(coverage) = self.expected_coverage {
            text += &format!(
                "on the model's validation images: {coverage:.4} accepted, {} of these right\n",
                share(self.expected_precision)
            );
        }
        let width = self
            .classes
            .iter()
            .map(|class| class.name.chars().count())
            .max()
            .unwrap_or(0)
            .max("class".len());
        text += &format!(
            "\n{:width$}  accepted from  said  accepted   share  precision\n",
            "class"
        );
        for class in &self.classes {
            let threshold = class
                .threshold
                .map_or_else(|| "never".to_owned(), |lowest| format!("{lowest:.6}"));
            text += &format!(
                "{:width$}  {threshold:>13}  {:>4}  {:>8}  {:.4}  {:>9}\n",
                class.name,
                class.counts.predicted,
                class.counts.accepted,
                class.counts.coverage(),
                share(class.precision)
            );
        }
        text
    }
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{share:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Verdict;
    use crate::metrics::{Evaluation, Scores};

    #[test]
    fn what_was_accepted_is_counted_by_class() {
        let labels = ["bag", "boot"].map(str::to_owned);
        let rows: [(&[f32], u32); 1] = [(&[0.75, 0.25], 0)];
        let verdict = |label, answer| Verdict {
            source: String::new(),
            label,
            answer,
        };
        let judgement = Judgement {
            evaluation: Evaluation::from_rows(&labels, Scores::Probabilities, &[], rows).unwrap(),
            verdicts: vec![
                verdict(0, Some((0, 0.75))),
                verdict(1, Some((0, 0.9))),
                verdict(1, Some((0, 0.5))),
                verdict(1, Some((1, 1.0))),
                verdict(1, None),
            ],
            without_answer: 1,
        };
        let wish = Acceptance {
            target_precision: None,
            review_below: Some(0.7),
        };
        let thresholding = Thresholding {
            above_labels: 0.0,
            thresholds: vec![Some(0.7), None],
            expected: None,
        };
        let trust = Trust::new(&judgement, &labels, &wish, Some(&thresholding));
        insta::assert_snapshot!(trust.text(), @r"
        expected calibration error 0.4125

        nothing below 0.7: 0.5000 of the images accepted, 0.5000 of these right

        class  accepted from  said  accepted   share  precision
        bag         0.700000     3         2  0.6667     0.5000
        boot           never     1         0  0.0000          –
        ");
        let json = serde_json::to_value(&trust).unwrap();
        assert_eq!(json["acceptance"]["classes"][0]["accepted"], 2);
        assert_eq!(
            json["acceptance"]["classes"][1]["threshold"],
            serde_json::Value::Null
        );
    }
}
