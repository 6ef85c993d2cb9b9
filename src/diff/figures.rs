//! Two files of labels compared, in numbers: what a reader wants to know without reading every row.
//!
//! All of it grows with the classes and the lists that were asked for, never with the files.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, ensure};
use pipeline::classify::{Decision, decode_text};
use pipeline::decode::Status;

use super::change::{Change, Kind, Said};
use super::largest::Largest;

/// More different labels than any model has: what has them is no file of labels.
const MOST_LABELS: usize = 1 << 16;
/// Ranges of the histogram of moves; each is a twentieth wide.
pub const MOVE_BINS: usize = 40;

/// The label of a file, by its place in [`Figures::labels`]; none where it has none.
pub type Label = Option<usize>;

/// The old and the new decision on a file.
pub type DecisionChange = (Option<Decision>, Option<Decision>);

/// What two files of labels have in common and what not.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Every label that occurs, in alphabetical order, as people read it.
    pub labels: Vec<String>,
    /// Rows of the old labels.
    pub old_files: u64,
    /// Rows of the new labels.
    pub new_files: u64,
    /// Files that are in both.
    pub files: u64,
    /// How many files changed in which way, in the order of [`Kind::ALL`].
    pub kinds: [u64; Kind::ALL.len()],
    /// Files that are in both, by their old and their new label.
    pub labels_of_files: BTreeMap<(Label, Label), u64>,
    /// Rows of each label, old and new, in the order of `labels`.
    pub classes: Vec<[u64; 2]>,
    /// Files that are in both, by their old and their new status.
    pub statuses: BTreeMap<(Status, Status), u64>,
    /// Files that are in both, by their old and their new decision; none where not both files of labels have decisions.
    pub decisions: Option<BTreeMap<DecisionChange, u64>>,
    /// The files that keep their label.
    pub moves: Moves,
    /// Files of the changed label that both sides were surest of, by the lower of the two confidences, largest first.
    pub surest_changes: Vec<Change>,
    /// Files that keep their label and whose confidence moved most, largest first.
    pub largest_moves: Vec<Change>,
}

/// How confidences of files that keep their label moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Moves {
    /// How many files there are.
    pub files: u64,
    /// How many confidences rose.
    pub rose: u64,
    /// How many fell.
    pub fell: u64,
    /// Sum of the old confidences.
    pub old_sum: f64,
    /// Sum of the new ones.
    pub new_sum: f64,
    /// How many moved how far: from −1 to 1 in ranges of a twentieth. A range below zero has its lower end, one above its upper.
    pub bins: [u64; MOVE_BINS],
    /// How many did not move at all; those are in no range.
    pub still: u64,
}

impl Figures {
    /// Files whose category is another one: their label changed, was lost, or gained.
    pub fn changed(&self) -> u64 {
        let kinds = Kind::ALL.into_iter().zip(self.kinds);
        let counted = kinds.filter(|(kind, _)| kind.is_other_category());
        counted.map(|(_, count)| count).sum()
    }

    /// Files that changed in this way.
    pub fn with(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize]
    }

    /// The pairs of different labels, the most frequent first and of equal ones in the order of the labels.
    pub fn relabellings(&self) -> Vec<(Label, Label, u64)> {
        let mut pairs: Vec<(Label, Label, u64)> = self
            .labels_of_files
            .iter()
            .filter(|((old, new), _)| old != new)
            .map(|(&(old, new), &count)| (old, new, count))
            .collect();
        pairs.sort_by_key(|&(_, _, count)| std::cmp::Reverse(count));
        pairs
    }

    /// Files in both with this old label.
    pub fn with_old_label(&self, label: Label) -> u64 {
        let counts = self.labels_of_files.range((label, None)..);
        let counts = counts.take_while(|((old, _), _)| *old == label);
        counts.map(|(_, count)| count).sum()
    }

    /// Files in both that keep this label.
    pub fn keeping(&self, label: usize) -> u64 {
        let key = (Some(label), Some(label));
        self.labels_of_files.get(&key).copied().unwrap_or(0)
    }

    /// The name of a label.
    pub fn label_name(&self, label: Label) -> &str {
        match label {
            None => "no label",
            Some(label) => self.labels.get(label).map_or("", String::as_str),
        }
    }
}

impl Moves {
    /// Mean of the old and of the new confidences; none without files.
    pub fn means(&self) -> Option<[f64; 2]> {
        let mean = |sum: f64| sum / self.files as f64;
        (self.files > 0).then(|| [mean(self.old_sum), mean(self.new_sum)])
    }

    /// From where to where a range of the histogram reaches.
    pub fn range(bin: usize) -> [f64; 2] {
        let end = |place: usize| place as f64 * 2.0 / MOVE_BINS as f64 - 1.0;
        [end(bin), end(bin + 1)]
    }

    fn add(&mut self, old: f32, new: f32) {
        let moved = f64::from(new) - f64::from(old);
        self.files += 1;
        self.old_sum += f64::from(old);
        self.new_sum += f64::from(new);
        // Confidences have six decimals; a millionth of a range keeps what lies on its end on the right side of it.
        let ranges = moved * (MOVE_BINS / 2) as f64;
        let bin = if new > old {
            self.rose += 1;
            MOVE_BINS / 2 + (ranges - 1e-6).max(0.0).floor() as usize
        } else if new < old {
            self.fell += 1;
            MOVE_BINS / 2 - 1 - (-ranges - 1e-6).max(0.0).floor() as usize
        } else {
            self.still += 1;
            return;
        };
        self.bins[bin.min(MOVE_BINS - 1)] += 1;
    }
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            files: 0,
            rose: 0,
            fell: 0,
            old_sum: 0.0,
            new_sum: 0.0,
            bins: [0; MOVE_BINS],
            still: 0,
        }
    }
}

/// Counts changes as they come.
#[derive(Debug)]
pub(super) struct Tally {
    /// Places of labels in `names`, by the text of their cells.
    places: HashMap<String, usize>,
    names: Vec<String>,
    figures: Figures,
    surest_changes: Largest<Change>,
    largest_moves: Largest<Change>,
}

impl Tally {
    pub(super) fn new(listed: usize, has_decisions: bool) -> Self {
        Self {
            places: HashMap::new(),
            names: Vec::new(),
            figures: Figures {
                labels: Vec::new(),
                old_files: 0,
                new_files: 0,
                files: 0,
                kinds: [0; Kind::ALL.len()],
                labels_of_files: BTreeMap::new(),
                classes: Vec::new(),
                statuses: BTreeMap::new(),
                decisions: has_decisions.then(BTreeMap::new),
                moves: Moves::default(),
                surest_changes: Vec::new(),
                largest_moves: Vec::new(),
            },
            surest_changes: Largest::new(listed),
            largest_moves: Largest::new(listed),
        }
    }

    pub(super) fn add(&mut self, change: &Change) -> Result<()> {
        let labels = [
            self.label(change.old.as_ref())?,
            self.label(change.new.as_ref())?,
        ];
        let figures = &mut self.figures;
        for (side, label) in labels.into_iter().enumerate() {
            if let Some(label) = label {
                figures.classes[label][side] += 1;
            }
        }
        figures.old_files += u64::from(change.old.is_some());
        figures.new_files += u64::from(change.new.is_some());
        if let Some(kind) = change.kind {
            figures.kinds[kind as usize] += 1;
        }
        let (Some(old), Some(new)) = (&change.old, &change.new) else {
            return Ok(());
        };
        figures.files += 1;
        let [old_label, new_label] = labels;
        *figures
            .labels_of_files
            .entry((old_label, new_label))
            .or_default() += 1;
        *figures
            .statuses
            .entry((old.status, new.status))
            .or_default() += 1;
        if let Some(decisions) = &mut figures.decisions {
            *decisions.entry((old.decision, new.decision)).or_default() += 1;
        }
        if let (Some((_, before)), Some((_, after))) = (&old.label, &new.label) {
            if old_label == new_label {
                figures.moves.add(*before, *after);
                if before != after {
                    self.largest_moves
                        .offer((after - before).abs(), || change.clone());
                }
            } else {
                self.surest_changes
                    .offer(before.min(*after), || change.clone());
            }
        }
        Ok(())
    }

    /// The place of a label, a new one where it was not seen before.
    fn label(&mut self, said: Option<&Said>) -> Result<Label> {
        let Some((cell, _)) = said.and_then(|said| said.label.as_ref()) else {
            return Ok(None);
        };
        if let Some(&place) = self.places.get(cell) {
            return Ok(Some(place));
        }
        ensure!(
            self.names.len() < MOST_LABELS,
            "there are more than {MOST_LABELS} different labels: are these files of labels that `catalog classify` wrote?"
        );
        let place = self.names.len();
        self.places.insert(cell.clone(), place);
        self.names
            .push(String::from_utf8_lossy(&decode_text(cell)).into_owned());
        self.figures.classes.push([0; 2]);
        Ok(Some(place))
    }

    /// The figures, their labels in alphabetical order whichever came first.
    pub(super) fn finish(self) -> Figures {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by(|&a, &b| self.names[a].cmp(&self.names[b]).then(a.cmp(&b)));
        let mut sorted_place = vec![0; order.len()];
        for (sorted, &place) in order.iter().enumerate() {
            sorted_place[place] = sorted;
        }
        let sorted = |label: Label| label.map(|place| sorted_place[place]);
        let pairs = self.figures.labels_of_files.iter();
        Figures {
            labels: order
                .iter()
                .map(|&place| self.names[place].clone())
                .collect(),
            classes: order
                .iter()
                .map(|&place| self.figures.classes[place])
                .collect(),
            labels_of_files: pairs
                .map(|(&(old, new), &count)| ((sorted(old), sorted(new)), count))
                .collect(),
            surest_changes: self.surest_changes.into_sorted(),
            largest_moves: self.largest_moves.into_sorted(),
            ..self.figures
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use pipeline::classify::LabelsReader;

    use super::*;
    use crate::diff::{Settings, compare};

    const OLD: &str = "path,label,confidence,status,error,decision
./a,shoe,0.900000,ok,,accept
./b,coat,0.800000,ok,,accept
./c,shoe,0.700000,ok,,accept
./d,coat,0.600000,ok,,review
./e,,,corrupt,broken,
./f,bag,0.950000,ok,,accept
./g,shoe,0.500000,degraded,cut,review
./gone,shoe,0.500000,ok,,review
";
    const NEW: &str = "path,label,confidence,status,error,decision
./a,boot,0.950000,ok,,accept
./added,bag,0.400000,ok,,review
./b,coat,0.850000,ok,,accept
./c,boot,0.600000,ok,,review
./d,coat,0.200000,ok,,review
./e,bag,0.300000,degraded,cut,review
./f,,,corrupt,broken,
./g,shoe,0.500000,ok,,accept
";

    /// A small comparison with one of each kind.
    pub(crate) fn example() -> Figures {
        figures(OLD, NEW)
    }

    pub(crate) fn figures(old: &str, new: &str) -> Figures {
        let reader = |name: &str, text| LabelsReader::new(Path::new(name), text).unwrap();
        let settings = Settings {
            listed: 2,
            least_move: Some(0.0),
        };
        let (old, new) = (
            reader("old.csv", old.as_bytes()),
            reader("new.csv", new.as_bytes()),
        );
        compare(old, new, &settings, |_| Ok(())).unwrap()
    }

    #[test]
    fn every_file_is_counted_where_it_belongs() {
        let figures = example();
        assert_eq!(
            (figures.old_files, figures.new_files, figures.files),
            (8, 8, 7)
        );
        assert_eq!(figures.labels, ["bag", "boot", "coat", "shoe"]);
        // Label, lost, gained, status, decision, confidence, added, gone.
        assert_eq!(figures.kinds, [2, 1, 1, 1, 0, 2, 1, 1]);
        assert_eq!(figures.changed(), 4);
        assert_eq!(figures.classes, [[1, 2], [0, 2], [2, 2], [4, 1]]);
        assert_eq!(
            figures.relabellings(),
            [
                (Some(3), Some(1), 2),
                (None, Some(0), 1),
                (Some(0), None, 1)
            ]
        );
        assert_eq!(
            [
                figures.with_old_label(Some(3)),
                figures.with_old_label(None)
            ],
            [3, 1]
        );
        assert_eq!(figures.keeping(2), 2);
        assert_eq!(figures.statuses[&(Status::Degraded, Status::Ok)], 1);
        let decisions = figures.decisions.unwrap();
        assert_eq!(
            decisions[&(Some(Decision::Accept), Some(Decision::Review))],
            1
        );
        let paths = |changes: &[Change]| -> Vec<String> {
            changes.iter().map(|change| change.path.clone()).collect()
        };
        assert_eq!(paths(&figures.surest_changes), ["./a", "./c"]);
        assert_eq!(paths(&figures.largest_moves), ["./d", "./b"]);
    }

    #[test]
    fn moves_lie_in_the_range_that_ends_where_they_do() {
        let mut moves = Moves::default();
        for (old, new) in [
            (0.5, 0.5),
            (0.5, 0.55),
            (0.5, 0.5501),
            (0.55, 0.5),
            (0.0, 1.0),
            (1.0, 0.0),
            (0.5, 0.500001),
        ] {
            moves.add(old, new);
        }
        let filled: Vec<(usize, u64)> = moves
            .bins
            .into_iter()
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(filled, [(0, 1), (19, 1), (20, 2), (21, 1), (39, 1)]);
        assert_eq!(
            (moves.still, moves.rose, moves.fell, moves.files),
            (1, 4, 2, 7)
        );
        assert_eq!(
            Moves::range(20).map(|end| (end * 100.0).round()),
            [0.0, 5.0]
        );
        assert_eq!(Moves::default().means(), None);
    }

    #[test]
    fn the_same_twice_has_no_change() {
        let figures = figures(OLD, OLD);
        assert_eq!(
            (figures.changed(), figures.kinds.iter().sum::<u64>()),
            (0, 0)
        );
        assert_eq!(figures.moves.still, figures.moves.files);
    }
}
