//! How good a model is on each level of a taxonomy.

use std::collections::BTreeSet;

use pipeline::classify::Taxonomy;
use serde::Serialize;

use crate::evaluation::Judgement;

/// Figures of one level, counted from the topmost.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Level {
    level: usize,
    /// Categories of this level, and those above it that go no deeper.
    categories: usize,
    /// Share of the images whose label lies in the same category as the true one.
    accuracy: f64,
}

/// Accuracy by level; images without an answer are left out.
pub(super) fn levels(judgement: &Judgement, taxonomy: &Taxonomy) -> Vec<Level> {
    let leaves: Vec<&[String]> = (0..taxonomy.classes())
        .filter_map(|class| taxonomy.leaf(class))
        .map(|leaf| taxonomy.categories()[leaf].levels.as_slice())
        .collect();
    let deepest = leaves.iter().map(|levels| levels.len()).max().unwrap_or(0);
    let answers: Vec<(usize, usize)> = judgement
        .verdicts
        .iter()
        .filter_map(|verdict| Some((verdict.label as usize, verdict.answer?.0)))
        .collect();
    (1..=deepest)
        .map(|level| {
            let category = |class: usize| &leaves[class][..level.min(leaves[class].len())];
            let right = answers
                .iter()
                .filter(|&&(truth, answer)| category(truth) == category(answer))
                .count();
            let categories: BTreeSet<&[String]> = (0..leaves.len()).map(category).collect();
            Level {
                level,
                categories: categories.len(),
                accuracy: right as f64 / answers.len().max(1) as f64,
            }
        })
        .collect()
}

/// The same for a person.
pub(super) fn text(levels: &[Level]) -> String {
    let mut text = "level  categories  accuracy\n".to_owned();
    for Level {
        level,
        categories,
        accuracy,
    } in levels
    {
        text += &format!("{level:<5}  {categories:>10}  {accuracy:>8.4}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Verdict;
    use crate::metrics::{Evaluation, Scores};

    #[test]
    fn a_mistake_within_a_category_is_none_on_its_level() {
        let labels = ["shirt", "pullover", "bag"].map(str::to_owned);
        let csv = b"label,path\nshirt,Clothes > Tops > Shirts\npullover,Clothes > Tops > Pullovers\nbag,Bags\n";
        let taxonomy = Taxonomy::from_bytes("t.csv", csv, &labels).unwrap();
        let verdict = |label, answer| Verdict {
            source: String::new(),
            label,
            answer,
        };
        let row: (&[f32], u32) = (&[1.0, 0.0, 0.0], 0);
        let judgement = Judgement {
            evaluation: Evaluation::from_rows(&labels, Scores::Probabilities, &[1], [row]).unwrap(),
            verdicts: vec![
                verdict(0, Some((0, 0.9))),
                verdict(0, Some((1, 0.9))),
                verdict(1, Some((2, 0.9))),
                verdict(2, Some((2, 0.9))),
                verdict(2, None),
            ],
            without_answer: 1,
        };
        insta::assert_snapshot!(text(&levels(&judgement, &taxonomy)), @r"
        level  categories  accuracy
        1               2    0.7500
        2               2    0.7500
        3               3    0.5000
        ");
    }
}
