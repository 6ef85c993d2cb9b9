//! What became of one file from the old labels to the new ones.

use pipeline::classify::{Decision, LabelRow, Pair};
use pipeline::decode::Status;

/// What is different about a file; of several differences the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another label.
    Label,
    /// It had a label and has none.
    Lost,
    /// It had no label and has one.
    Gained,
    /// The same label or none, and another status.
    Status,
    /// The same label and status, and another decision.
    Decision,
    /// Only another confidence.
    Confidence,
    /// Only the new labels have it.
    Added,
    /// Only the old labels have it.
    Gone,
}

/// One file and what the two files of labels say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The path, as the cell of the labels has it.
    pub path: String,
    /// What is different; none where nothing is that counts.
    pub kind: Option<Kind>,
    /// What the old labels say; none where they do not have it.
    pub old: Option<Said>,
    /// What the new labels say; none where they do not have it.
    pub new: Option<Said>,
}

/// What one file of labels says about a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The label as the cell has it, and its confidence; none where the file was not classified.
    pub label: Option<(String, f32)>,
    /// What became of the file.
    pub status: Status,
    /// What was decided about it.
    pub decision: Option<Decision>,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Label,
        Self::Lost,
        Self::Gained,
        Self::Status,
        Self::Decision,
        Self::Confidence,
        Self::Added,
        Self::Gone,
    ];

    /// The word in the column `change`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Lost => "lost",
            Self::Gained => "gained",
            Self::Status => "status",
            Self::Decision => "decision",
            Self::Confidence => "confidence",
            Self::Added => "added",
            Self::Gone => "gone",
        }
    }

    /// The same in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Label => "another label",
            Self::Lost => "no label any more",
            Self::Gained => "a label for the first time",
            Self::Status => "the same label, another status",
            Self::Decision => "the same label, another decision",
            Self::Confidence => "only another confidence",
            Self::Added => "only in the new labels",
            Self::Gone => "only in the old labels",
        }
    }

    /// Whether the file is in another category than before: it got another label, lost or gained one.
    pub fn is_other_category(self) -> bool {
        matches!(self, Self::Label | Self::Lost | Self::Gained)
    }
}

impl Change {
    /// What a pair of rows amounts to. A confidence that moved by less than `least_move` is no change.
    pub fn of(pair: Pair, least_move: Option<f32>, has_decisions: bool) -> Self {
        match pair {
            Pair::Old(row) => Self {
                kind: Some(Kind::Gone),
                path: row.path.clone(),
                old: Some(Said::of(row)),
                new: None,
            },
            Pair::New(row) => Self {
                kind: Some(Kind::Added),
                path: row.path.clone(),
                old: None,
                new: Some(Said::of(row)),
            },
            Pair::Both(old, new) => {
                let path = new.path.clone();
                let (old, new) = (Said::of(old), Said::of(new));
                Self {
                    kind: kind(&old, &new, least_move, has_decisions),
                    path,
                    old: Some(old),
                    new: Some(new),
                }
            }
        }
    }

    /// By how much the confidence of a file that keeps its label moved.
    pub fn confidence_move(&self) -> Option<f32> {
        match (
            self.old.as_ref()?.label.as_ref()?,
            self.new.as_ref()?.label.as_ref()?,
        ) {
            ((old, before), (new, after)) if old == new => Some(after - before),
            _ => None,
        }
    }
}

impl Said {
    fn of(row: LabelRow) -> Self {
        Self {
            label: row.label,
            status: row.status,
            decision: row.decision,
        }
    }
}

fn kind(old: &Said, new: &Said, least_move: Option<f32>, has_decisions: bool) -> Option<Kind> {
    let rest = |moved: f32| {
        if old.status != new.status {
            Some(Kind::Status)
        } else if has_decisions && old.decision != new.decision {
            Some(Kind::Decision)
        } else {
            least_move
                .filter(|&least| moved > 0.0 && moved >= least)
                .map(|_| Kind::Confidence)
        }
    };
    match (&old.label, &new.label) {
        (Some((old, _)), Some((new, _))) if old != new => Some(Kind::Label),
        (Some(_), None) => Some(Kind::Lost),
        (None, Some(_)) => Some(Kind::Gained),
        (Some((_, before)), Some((_, after))) => rest((after - before).abs()),
        (None, None) => rest(0.0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn said(label: &str, confidence: f32) -> Said {
        Said {
            label: (!label.is_empty()).then(|| (label.to_owned(), confidence)),
            status: if label.is_empty() {
                Status::Corrupt
            } else {
                Status::Ok
            },
            decision: None,
        }
    }

    #[test]
    fn the_weightiest_difference_names_the_change() {
        let bag = said("bag", 0.5);
        let of = |old: &Said, new: &Said| kind(old, new, Some(0.25), true);
        assert_eq!(of(&bag, &bag), None);
        assert_eq!(of(&bag, &said("boot", 0.5)), Some(Kind::Label));
        assert_eq!(of(&bag, &said("", 0.0)), Some(Kind::Lost));
        assert_eq!(of(&said("", 0.0), &bag), Some(Kind::Gained));
        let mut other = said("bag", 0.875);
        assert_eq!(of(&bag, &other), Some(Kind::Confidence));
        assert_eq!(kind(&bag, &other, None, true), None);
        assert_eq!(of(&bag, &said("bag", 0.625)), None);
        other.decision = Some(Decision::Accept);
        assert_eq!(of(&bag, &other), Some(Kind::Decision));
        assert_eq!(kind(&bag, &other, None, false), None);
        other.status = Status::Degraded;
        assert_eq!(of(&bag, &other), Some(Kind::Status));
        // Every confidence that moved at all can be asked for, and one that did not is still no change.
        assert_eq!(kind(&bag, &bag, Some(0.0), true), None);
    }
}
