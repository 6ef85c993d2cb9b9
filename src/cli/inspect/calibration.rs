//! The part of `catalog inspect` about confidences: what they are worth, and from which one on labels can be accepted.

use pipeline::model::{Calibration, Expectation, Familiarity};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::{fact, printable};

/// Precisions that thresholds are shown for.
const PRECISIONS: [f64; 5] = [0.9, 0.95, 0.98, 0.99, 0.995];
/// Shares of known pictures that scores of familiarity are shown for.
const KEPT_SHARES: [f64; 4] = [0.999, 0.99, 0.95, 0.9];
/// Columns that the name of a class may take.
const NAME_COLUMNS: usize = 28;

/// The thresholds for one precision, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct AtPrecision {
    target_precision: f64,
    /// In the order of the labels; `null` for a class that is never accepted.
    thresholds: Vec<Option<f32>>,
    /// What they give on the validation images.
    expected: Expectation,
}

/// Thresholds for some usual precisions.
pub(super) fn at_precisions(calibration: &Calibration) -> Vec<AtPrecision> {
    PRECISIONS
        .into_iter()
        .map(|target_precision| {
            let thresholds = calibration.thresholds(target_precision).classes;
            AtPrecision {
                target_precision,
                expected: calibration.expectation(&thresholds),
                thresholds,
            }
        })
        .collect()
}

/// The same for a person.
pub(super) fn lines(calibration: Option<&Calibration>, labels: &[String]) -> Vec<String> {
    let Some(calibration) = calibration else {
        return vec![fact(
            "calibration",
            "not measured; --target-precision needs a model that was trained since it is",
        )];
    };
    let mut lines = vec![
        fact(
            "calibration",
            format!(
                "error {:.4} without the temperature, {:.4} with it, on {} validation images",
                calibration.error_before, calibration.error_after, calibration.images
            ),
        ),
        String::new(),
        "Lowest confidence that is accepted, by --target-precision".to_owned(),
    ];
    let names: Vec<String> = labels.iter().map(|label| shortened(label)).collect();
    let ending = ["class", "accepted", "of these right"];
    let all_names = names.iter().map(String::as_str).chain(ending);
    let width = all_names.map(|name| name.width()).max().unwrap_or(0);
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:>7}")).collect();
        let padding = " ".repeat(width.saturating_sub(name.width()));
        format!("{name}{padding}{cells}")
    };
    let columns = at_precisions(calibration);
    let cells = |cell: &dyn Fn(&AtPrecision) -> String| columns.iter().map(cell).collect();
    lines.push(line(
        "class",
        cells(&|column| column.target_precision.to_string()),
    ));
    for (class, name) in names.iter().enumerate() {
        let threshold = |column: &AtPrecision| match column.thresholds.get(class) {
            Some(Some(0.0)) => "any".to_owned(),
            // Rounded down it would promise what is not accepted.
            Some(Some(lowest)) => format!("{:.5}", (f64::from(*lowest) * 1e5).ceil() / 1e5),
            Some(None) | None => "never".to_owned(),
        };
        lines.push(line(name, cells(&threshold)));
    }
    let coverage = |column: &AtPrecision| format!("{:.4}", column.expected.coverage);
    lines.push(line("accepted", cells(&coverage)));
    let precision = |column: &AtPrecision| {
        let precision = column.expected.precision;
        precision.map_or_else(|| "–".to_owned(), |precision| format!("{precision:.4}"))
    };
    lines.push(line("of these right", cells(&precision)));
    lines
}

/// Below which score `--reject-unknown` tells a picture, for some shares of known ones.
pub(super) fn familiarity_line(familiarity: Option<&Familiarity>) -> String {
    let text = match familiarity {
        None => {
            "not measured; --reject-unknown needs a model that was trained since it is".to_owned()
        }
        Some(familiarity) => {
            let scores: Vec<String> = KEPT_SHARES
                .iter()
                .map(|&share| {
                    let score = familiarity.threshold(share);
                    format!("{score:.3} keeps {}", percent(share))
                })
                .collect();
            format!(
                "score of --reject-unknown; of {} validation images {}",
                familiarity.images,
                scores.join(", ")
            )
        }
    };
    fact("familiarity", text)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A name that leaves room for the table.
fn shortened(label: &str) -> String {
    let mut name = String::new();
    for letter in printable(label).chars() {
        if name.width() >= NAME_COLUMNS {
            name.push('…');
            break;
        }
        name.push(letter);
    }
    name
}

#[cfg(test)]
mod tests {
    use pipeline::model::{CALIBRATION_VERSION, Step};

    use super::*;

    #[test]
    fn thresholds_are_a_table_of_80_columns() {
        let step = |(threshold, accepted, correct)| Step {
            threshold,
            accepted,
            correct,
        };
        let calibration = Calibration {
            version: CALIBRATION_VERSION,
            images: 1000,
            error_before: 0.0812,
            error_after: 0.0101,
            pooled: [(0.9, 250, 250), (0.6, 600, 590), (0.0, 1000, 890)]
                .map(step)
                .to_vec(),
            classes: vec![
                [(0.9, 199, 199), (0.6, 399, 398), (0.0, 500, 490)]
                    .map(step)
                    .to_vec(),
                [(0.8, 49, 49), (0.0, 500, 400)].map(step).to_vec(),
                Vec::new(),
            ],
        };
        let labels = [
            "T-shirt/top",
            "größe 3",
            "a name that is much too long for the table",
        ];
        let labels = labels.map(str::to_owned);
        let lines = lines(Some(&calibration), &labels);
        assert!(
            lines[1..].iter().all(|line| line.width() <= 80),
            "{lines:#?}"
        );
        insta::assert_snapshot!(lines[3..].join("\n"), @r"
        class                              0.9     0.95     0.98     0.99    0.995
        T-shirt/top                        any      any  0.60001  0.60001  0.60001
        größe 3                        0.80001  0.80001  0.80001  0.80001  0.80001
        a name that is much too long…    never    never    never    never    never
        accepted                        0.5490   0.5490   0.4480   0.4480   0.4480
        of these right                  0.9818   0.9818   0.9978   0.9978   0.9978
        ");
    }

    #[test]
    fn scores_of_familiarity_are_told_by_what_they_keep() {
        let scores = (0..=1000).map(|score| score as f32 / 100.0).collect();
        let line = familiarity_line(Familiarity::of(scores).as_ref());
        let text = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            text,
            "familiarity score of --reject-unknown; of 1001 validation images 0.010 keeps 99.9 %, 0.100 keeps 99.0 %, \
             0.500 keeps 95.0 %, 1.000 keeps 90.0 %"
        );
        assert!(familiarity_line(None).contains("not measured"));
    }

    #[test]
    fn a_model_without_calibration_says_so() {
        let lines = lines(None, &[]);
        assert!(lines[0].contains("not measured"), "{lines:?}");
    }
}
