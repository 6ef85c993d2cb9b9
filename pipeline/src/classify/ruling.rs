//! What a row says beside its classes: whether its label can be used, and which category follows.
//!
//! It follows from what the journal holds of a row, so it is made anew whenever rows are written, and rows of earlier runs serve
//! whatever the thresholds are now. What it needs of the model is kept with each row: how familiar the image is, and what the
//! categories above its class have together. The latter depends on the tree, which is why the tree is part of a run's identity;
//! external ids are not.

use anyhow::{Result, ensure};

use super::decision::{Decision, Thresholding, unknown_below};
use super::rows::Outcome;
use super::settings::Settings;
use super::taxonomy::Taxonomy;
use crate::model::Classifier;

/// What is ruled about rows, and by what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// From which confidence on labels are accepted, where anything is decided.
    pub thresholding: Option<Thresholding>,
    /// The score below which an image shows something unknown, where that is decided.
    pub unknown_below: Option<f32>,
    /// The categories of the labels, where rows have one.
    pub taxonomy: Option<Taxonomy>,
}

/// What was ruled about a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ruling {
    /// What is to become of it; none where it has no label, or nothing is decided.
    pub decision: Option<Decision>,
    /// The category that it has; none where it has none that can be relied on.
    pub category: Option<Placed>,
}

/// A category and how probable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Index into the categories of the taxonomy.
    pub category: usize,
    /// Probability of the labels in it together, 0 to 1.
    pub confidence: f32,
}

impl Rules {
    /// What the settings and the model say about rows.
    ///
    /// # Errors
    /// When the taxonomy is one of other labels, or the model does not say what the settings ask for.
    pub(super) fn of(settings: &Settings, classifier: &Classifier) -> Result<Rules> {
        let classes = classifier.labels().len();
        if let Some(taxonomy) = &settings.taxonomy {
            ensure!(
                taxonomy.classes() == classes,
                "{} has categories for {} labels, the model has {classes}; give a taxonomy of this model's labels",
                taxonomy.name(),
                taxonomy.classes()
            );
        }
        let mut thresholding = settings
            .acceptance
            .thresholding(classes, classifier.calibration())?;
        let unknown_below = match settings.reject_unknown {
            None => None,
            Some(share) => {
                thresholding.get_or_insert_with(|| Thresholding::everything(classes));
                Some(unknown_below(share, classifier.familiarity())?)
            }
        };
        Ok(Self {
            thresholding,
            unknown_below,
            taxonomy: settings.taxonomy.clone(),
        })
    }

    /// Rules about a row. One without a label has neither decision nor category.
    ///
    /// The label of a damaged image is never accepted, and nothing follows from its score: thresholds were measured on whole images.
    pub fn rule(&self, outcome: &Outcome) -> Ruling {
        let Outcome::Labelled {
            best,
            above,
            familiarity,
            damage,
        } = outcome
        else {
            return Ruling::default();
        };
        let Some(first) = best.first() else {
            return Ruling::default();
        };
        let taxonomy = self.taxonomy.as_ref();
        let leaf = taxonomy
            .and_then(|taxonomy| taxonomy.leaf(first.class))
            .map(|category| Placed {
                category,
                confidence: first.confidence,
            });
        let Some(thresholding) = &self.thresholding else {
            return Ruling {
                decision: None,
                category: leaf,
            };
        };
        let (decision, category) = if damage.is_some() {
            (Decision::Review, None)
        } else if self
            .unknown_below
            .is_some_and(|lowest| *familiarity < lowest)
        {
            (Decision::Unknown, None)
        } else if thresholding.accepts(first) {
            (Decision::Accept, leaf)
        } else {
            let mut ancestors = taxonomy
                .into_iter()
                .flat_map(|taxonomy| taxonomy.ancestors(first.class))
                .zip(above)
                .map(|(category, &confidence)| Placed {
                    category,
                    confidence,
                });
            match ancestors.find(|above| above.confidence >= thresholding.above_labels) {
                Some(above) => (Decision::RolledUp, Some(above)),
                None => (Decision::Review, None),
            }
        };
        Ruling {
            decision: Some(decision),
            category,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::decision::Acceptance;
    use crate::classify::rows::Candidate;
    use crate::classify::taxonomy::tests::taxonomy;
    use crate::decode::{Fault, Status};

    /// A shirt, which may be a pullover; see [`taxonomy`].
    fn shirt(confidence: f32, tops: f32, familiarity: f32) -> Outcome {
        Outcome::Labelled {
            best: vec![Candidate {
                class: 0,
                confidence,
            }],
            above: vec![tops, 0.99],
            familiarity,
            damage: None,
        }
    }

    fn rules(review_below: Option<f32>, unknown_below: Option<f32>) -> Rules {
        let acceptance = Acceptance {
            target_precision: None,
            review_below,
        };
        Rules {
            thresholding: acceptance.thresholding(3, None).unwrap(),
            unknown_below,
            taxonomy: Some(taxonomy()),
        }
    }

    fn ruled(rules: &Rules, outcome: &Outcome) -> (Option<Decision>, Option<(String, f32)>) {
        let ruling = rules.rule(outcome);
        let categories = rules.taxonomy.as_ref().unwrap().categories();
        let placed = |placed: Placed| (categories[placed.category].path(), placed.confidence);
        (ruling.decision, ruling.category.map(placed))
    }

    #[test]
    fn a_row_gets_the_deepest_category_that_clears_its_threshold() {
        let at = |path: &str, confidence| Some((path.to_owned(), confidence));
        let rules = |limit| rules(Some(limit), None);
        for (limit, decision, category) in [
            (0.5, Decision::Accept, at("Clothes > Tops > Shirts", 0.5)),
            (0.51, Decision::RolledUp, at("Clothes > Tops", 0.9)),
            (0.95, Decision::RolledUp, at("Clothes", 0.99)),
            (0.995, Decision::Review, None),
        ] {
            let row = shirt(0.5, 0.9, 0.0);
            assert_eq!(
                ruled(&rules(limit), &row),
                (Some(decision), category),
                "{limit}"
            );
        }
    }

    #[test]
    fn without_thresholds_it_is_the_category_of_the_label() {
        let rules = rules(None, None);
        let leaf = Some(("Clothes > Tops > Shirts".to_owned(), 0.5));
        assert_eq!(ruled(&rules, &shirt(0.5, 0.9, 0.0)), (None, leaf.clone()));
        let mut damaged = shirt(0.5, 0.9, 0.0);
        if let Outcome::Labelled { damage, .. } = &mut damaged {
            *damage = Some("cut short".to_owned());
        }
        assert_eq!(ruled(&rules, &damaged), (None, leaf));
        let failed = Outcome::Failed(Fault::new(Status::Corrupt, "no"));
        assert_eq!(rules.rule(&failed), Ruling::default());
    }

    #[test]
    fn unknown_wins_over_all_but_damage() {
        for limit in [0.0, 0.6, 1.0] {
            let rules = rules(Some(limit), Some(2.0));
            let mut strange = shirt(0.5, 0.9, 1.9);
            assert_eq!(ruled(&rules, &strange), (Some(Decision::Unknown), None));
            if let Outcome::Labelled { damage, .. } = &mut strange {
                *damage = Some("cut short".to_owned());
            }
            assert_eq!(ruled(&rules, &strange), (Some(Decision::Review), None));
            let known = ruled(&rules, &shirt(0.5, 0.9, 2.0)).0;
            assert_ne!(known, Some(Decision::Unknown));
        }
    }
}
