//! A tree of categories above the labels: where a label lies in a shop, and what several labels have together.
//!
//! It comes from a CSV of the columns `label`, `path` and, if wished, `external_id`. A path is `A > B > C`, the topmost category
//! first, and ends with the category of its label alone. A row without a label gives the external id of a category above labels.
//! Whatever does not fit together is refused with its line: a shop must not be filled by a list that someone mistyped.

mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use ndarray::ArrayView1;

use self::rows::{Entry, entries};
use super::path_text::cell_text;
use crate::model::sha256_hex;

/// At most so many labels are listed in a message.
const LISTED_LABELS: usize = 20;

/// The categories of a model's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taxonomy {
    name: String,
    sha256: String,
    categories: Vec<Category>,
    /// For each class, the place of its category.
    leaves: Vec<usize>,
}

/// A category: that of a label, or one above several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// Names from the topmost category to this one.
    pub levels: Vec<String>,
    /// What it is called elsewhere; empty where that was not given.
    pub external_id: String,
    /// The category above it.
    parent: Option<usize>,
    /// The classes in it, in the order of the labels.
    classes: Vec<usize>,
}

impl Category {
    /// The path as it is written: `A > B > C`.
    pub fn path(&self) -> String {
        written(&self.levels)
    }
}

impl Taxonomy {
    /// Reads the categories of a model's labels.
    ///
    /// # Errors
    /// When the file cannot be read, or does not give each label one category of its own.
    pub fn read(path: &Path, labels: &[String]) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Self::from_bytes(&path.display().to_string(), &bytes, labels)
    }

    /// The same from memory; messages call it `name`.
    ///
    /// # Errors
    /// As [`Taxonomy::read`].
    pub fn from_bytes(name: &str, bytes: &[u8], labels: &[String]) -> Result<Self> {
        let mut taxonomy = Self {
            name: name.to_owned(),
            sha256: sha256_hex(bytes),
            categories: Vec::new(),
            leaves: Vec::new(),
        };
        let entries = entries(name, bytes)?;
        taxonomy.add_labels(&entries, labels)?;
        taxonomy.add_ids(&entries)?;
        Ok(taxonomy)
    }

    /// The file it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checksum of that file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// All categories.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Path and external id of each category as cells of the output.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (String, String)> {
        self.categories.iter().map(|category| {
            (
                cell_text(&category.path()),
                cell_text(&category.external_id),
            )
        })
    }

    /// Number of the labels that it has categories for.
    pub fn classes(&self) -> usize {
        self.leaves.len()
    }

    /// The place of the category of a class.
    pub fn leaf(&self, class: usize) -> Option<usize> {
        self.leaves.get(class).copied()
    }

    /// The places of the categories above that of a class, the nearest first.
    pub fn ancestors(&self, class: usize) -> impl Iterator<Item = usize> {
        let parent = |place: &usize| self.categories.get(*place)?.parent;
        std::iter::successors(
            self.leaf(class).and_then(move |leaf| parent(&leaf)),
            move |place| parent(place),
        )
    }

    /// What the categories above a class have together, the nearest first.
    pub(crate) fn sums(&self, class: usize, probabilities: ArrayView1<'_, f32>) -> Vec<f32> {
        self.ancestors(class)
            .map(|place| {
                let classes = self.categories[place].classes.iter();
                let sum: f64 = classes.map(|&class| f64::from(probabilities[class])).sum();
                // Rounding alone must not make it more than everything.
                (sum as f32).min(1.0)
            })
            .collect()
    }

    /// The same for trees that give every row the same sums, whatever the external ids are and however the file is written.
    pub(crate) fn tree_digest(&self) -> String {
        let mut digest = blake3::Hasher::new();
        for &leaf in &self.leaves {
            for level in &self.categories[leaf].levels {
                digest.update(level.as_bytes());
                digest.update(&[0]);
            }
            digest.update(&[0]);
        }
        digest.finalize().to_hex()[..16].to_owned()
    }

    /// Gives every label its category, and makes those above.
    fn add_labels(&mut self, entries: &[Entry], labels: &[String]) -> Result<()> {
        let name = self.name.clone();
        let mut by_label: BTreeMap<&str, &Entry> = BTreeMap::new();
        let mut by_path: BTreeMap<&[String], &Entry> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.label.is_empty()) {
            let Entry { line, label, .. } = entry;
            ensure!(
                labels.contains(label),
                "line {line} of {name}: the model has no label {label:?}; its labels are {}. Correct the line or remove it",
                listed(labels)
            );
            if let Some(other) = by_label.insert(label, entry) {
                bail!(
                    "line {line} of {name}: the label {label:?} stands in line {} already; remove one of the two",
                    other.line
                );
            }
            if let Some(other) = by_path.insert(&entry.levels, entry) {
                bail!(
                    "line {line} of {name}: {:?} is the category of {:?} already (line {}); give each label a category of its own",
                    written(&entry.levels),
                    other.label,
                    other.line
                );
            }
        }
        for entry in by_path.values() {
            let above =
                (1..entry.levels.len()).find_map(|depth| by_path.get(&entry.levels[..depth]));
            if let Some(above) = above {
                bail!(
                    "line {} of {name}: {:?} is the category of the label {:?} (line {}), so nothing can lie below it; give that \
                     label a level of its own",
                    entry.line,
                    written(&above.levels),
                    above.label,
                    above.line
                );
            }
        }
        let mut places: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for (class, label) in labels.iter().enumerate() {
            let entry = by_label.get(label.as_str()).with_context(|| {
                format!("{name} has no line for the label {label:?}; add one with its path")
            })?;
            let mut parent = None;
            for depth in 1..=entry.levels.len() {
                let levels = &entry.levels[..depth];
                let place = *places.entry(levels.to_vec()).or_insert_with(|| {
                    self.categories.push(Category {
                        levels: levels.to_vec(),
                        external_id: String::new(),
                        parent,
                        classes: Vec::new(),
                    });
                    self.categories.len() - 1
                });
                self.categories[place].classes.push(class);
                parent = Some(place);
            }
            if let Some(leaf) = parent {
                self.categories[leaf]
                    .external_id
                    .clone_from(&entry.external_id);
                self.leaves.push(leaf);
            }
        }
        Ok(())
    }

    /// Takes the external ids of categories above labels from the rows without one.
    fn add_ids(&mut self, entries: &[Entry]) -> Result<()> {
        let name = &self.name;
        let mut lines: BTreeMap<usize, u64> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.label.is_empty()) {
            let Entry {
                line,
                levels,
                external_id,
                ..
            } = entry;
            ensure!(
                !external_id.is_empty(),
                "line {line} of {name} has neither a label nor an external id; add one of them or remove the line"
            );
            let mut categories = self.categories.iter();
            let place = categories.position(|category| category.levels == *levels);
            let place = place.with_context(|| {
                format!(
                    "line {line} of {name}: no label lies in {:?}; add the label or remove the line",
                    written(levels)
                )
            })?;
            ensure!(
                !self.leaves.contains(&place),
                "line {line} of {name}: {:?} is the category of a label; give the external id in the line of the label",
                written(levels)
            );
            if let Some(other) = lines.insert(place, *line) {
                bail!(
                    "line {line} of {name}: {:?} has its external id in line {other} already; remove one of the two",
                    written(levels)
                );
            }
            self.categories[place].external_id.clone_from(external_id);
        }
        Ok(())
    }
}

fn written(levels: &[String]) -> String {
    levels.join(" > ")
}

fn listed(labels: &[String]) -> String {
    let shown: Vec<String> = labels
        .iter()
        .take(LISTED_LABELS)
        .map(|label| format!("{label:?}"))
        .collect();
    match labels.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ndarray::array;

    use super::*;

    fn labels() -> Vec<String> {
        ["shirt", "pullover", "bag"].map(str::to_owned).to_vec()
    }

    fn parse(text: &str) -> Result<Taxonomy> {
        Taxonomy::from_bytes("taxonomy.csv", text.as_bytes(), &labels())
    }

    /// Two tops among the clothes, and a bag.
    pub(crate) fn taxonomy() -> Taxonomy {
        parse(
            "label,path,external_id\n\
             bag,Accessories > Bags,7\n\
             shirt,Clothes > Tops > Shirts,11\n\
             pullover,Clothes>Tops>Pullovers,\n\
             ,Clothes > Tops,10\n",
        )
        .unwrap()
    }

    #[test]
    fn categories_stand_above_labels_and_have_what_these_have_together() {
        let taxonomy = taxonomy();
        let path = |place: usize| taxonomy.categories()[place].path();
        assert_eq!(
            path(taxonomy.leaf(1).unwrap()),
            "Clothes > Tops > Pullovers"
        );
        let above: Vec<String> = taxonomy.ancestors(0).map(path).collect();
        assert_eq!(above, ["Clothes > Tops", "Clothes"]);
        assert_eq!(taxonomy.ancestors(9).count(), 0);
        let ids: Vec<&str> = taxonomy
            .categories()
            .iter()
            .map(|category| category.external_id.as_str())
            .collect();
        assert_eq!(ids, ["", "10", "11", "", "", "7"]);
        let probabilities = array![0.5, 0.25, 0.25];
        assert_eq!(taxonomy.sums(0, probabilities.view()), [0.75, 0.75]);
        assert_eq!(taxonomy.sums(2, probabilities.view()), [0.25]);
        let rounded = array![0.6, 0.4000001, 0.0];
        assert_eq!(taxonomy.sums(0, rounded.view()), [1.0, 1.0]);
    }

    #[test]
    fn what_excel_saves_is_the_same_tree() {
        let other = parse(
            "\u{feff}external_id,path,label\r\n99,\"Clothes > Tops > Shirts\",shirt\r\n\
             ,Clothes > Tops > Pullovers,pullover\r\n,Accessories > Bags,bag\r\n",
        )
        .unwrap();
        let taxonomy = taxonomy();
        assert_eq!(other.tree_digest(), taxonomy.tree_digest());
        assert_ne!(other.sha256(), taxonomy.sha256());
        let moved =
            parse("label,path\nshirt,Clothes > Shirts\npullover,Clothes > Pullovers\nbag,Bags\n")
                .unwrap();
        assert_ne!(moved.tree_digest(), taxonomy.tree_digest());
    }

    #[test]
    fn what_does_not_fit_together_is_told_with_its_line_and_what_to_do() {
        let error = |rows: &str| {
            format!(
                "{:#}",
                parse(&format!("label,path,external_id\n{rows}")).unwrap_err()
            )
        };
        let rest = "pullover,A > P,\nbag,B,\n";
        for (rows, said) in [
            (
                "coat,A > C,\n",
                "line 2 of taxonomy.csv: the model has no label \"coat\"; its labels are \"shirt\", \"pullover\", \"bag\"",
            ),
            (
                &format!("{rest}bag,C,\n"),
                "line 4 of taxonomy.csv: the label \"bag\" stands in line 3 already",
            ),
            (rest, "has no line for the label \"shirt\"; add one"),
            (
                &format!("{rest}shirt,A >  > S,\n"),
                "line 4 of taxonomy.csv: the path \"A >  > S\" has an empty level",
            ),
            (&format!("{rest}shirt,,\n"), "has an empty level"),
            (
                &format!("{rest}shirt,B > S,\n"),
                "line 4 of taxonomy.csv: \"B\" is the category of the label \"bag\" (line 3)",
            ),
            (
                &format!("{rest}shirt,A,\n"),
                "line 2 of taxonomy.csv: \"A\" is the category of the label \"shirt\" (line 4)",
            ),
            (
                &format!("{rest}shirt,B,\n"),
                "line 4 of taxonomy.csv: \"B\" is the category of \"bag\" already (line 3)",
            ),
            (
                &format!("{rest}shirt,A > S,\n,A,\n"),
                "line 5 of taxonomy.csv has neither a label nor an external id",
            ),
            (
                &format!("{rest}shirt,A > S,\n,C,1\n"),
                "line 5 of taxonomy.csv: no label lies in \"C\"",
            ),
            (
                &format!("{rest}shirt,A > S,\n,B,1\n"),
                "line 5 of taxonomy.csv: \"B\" is the category of a label",
            ),
            (
                &format!("{rest}shirt,A > S,\n,A,1\n,A,2\n"),
                "line 6 of taxonomy.csv: \"A\" has its external id in line 5 already",
            ),
            (
                "shirt,A\n",
                "line 2 of taxonomy.csv has 2 cells where the first line has 3",
            ),
        ] {
            assert!(error(rows).contains(said), "{}", error(rows));
        }
        for header in [
            "",
            "shirt,A > S\n",
            "label;path\n",
            "label,path,id\n",
            "label,path,label\n",
        ] {
            let error = parse(header).unwrap_err().to_string();
            assert!(
                error.contains("line 1 of taxonomy.csv has to name the columns"),
                "{error}"
            );
        }
        let bytes = Taxonomy::from_bytes("t.csv", b"label,path\nh\xf6t,A\n", &labels());
        let error = bytes.unwrap_err().to_string();
        assert!(error.contains("line 2 of t.csv is not UTF-8"), "{error}");
    }
}
