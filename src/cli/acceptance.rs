//! The options that say which labels are accepted, shared by the commands that decide and those that check decisions.

use clap::Args;
use pipeline::classify::Acceptance;

/// Which labels are accepted as they are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decisions")]
pub(super) struct AcceptanceArgs {
    /// Accept a label where the model's validation images show this precision for its class, such as 0.99
    #[arg(long, value_name = "P", value_parser = precision)]
    target_precision: Option<f64>,
    /// Accept no label of a lower confidence
    #[arg(long, value_name = "C", value_parser = confidence)]
    review_below: Option<f32>,
}

impl AcceptanceArgs {
    /// What a label has to reach.
    pub(super) fn acceptance(&self) -> Acceptance {
        let Self {
            target_precision,
            review_below,
        } = *self;
        Acceptance {
            target_precision,
            review_below,
        }
    }
}

/// What was asked for, in words: `target precision 0.99, nothing below 0.5`.
pub(super) fn described(acceptance: &Acceptance) -> String {
    let Acceptance {
        target_precision,
        review_below,
    } = acceptance;
    let parts = [
        target_precision.map(|precision| format!("target precision {precision}")),
        review_below.map(|confidence| format!("nothing below {confidence}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn precision(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(precision) if precision > 0.0 && precision < 1.0 => Ok(precision),
        _ => Err("expected a number above 0 and below 1, such as 0.99"),
    }
}

fn confidence(text: &str) -> Result<f32, &'static str> {
    match text.parse() {
        Ok(confidence) if (0.0..=1.0).contains(&confidence) => Ok(confidence),
        _ => Err("expected a number from 0 to 1, such as 0.8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_their_ranges() {
        assert_eq!((precision("0.99"), confidence("1")), (Ok(0.99), Ok(1.0)));
        for wrong in ["0", "1", "99", "99%", "-1", "NaN", "inf", ""] {
            assert!(precision(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1.5", "-0.1", "80%", "NaN", ""] {
            assert!(confidence(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_asked_is_said() {
        let acceptance = Acceptance {
            target_precision: Some(0.99),
            review_below: Some(0.5),
        };
        assert_eq!(
            described(&acceptance),
            "target precision 0.99, nothing below 0.5"
        );
    }
}
