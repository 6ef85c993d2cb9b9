//! What to train next: asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020,
//! algorithm 2) with one worker. A pure function of the results so far; no clock, no costs.

use std::cmp::{Ordering, Reverse};

/// Of this many trials of a rung one goes on to the next.
pub const ETA: usize = 3;

/// How good a result is; larger is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Validation accuracy in millionths.
    accuracy: i64,
    /// Validation loss in millionths; of two equal accuracies the lower loss is better.
    loss: Reverse<i64>,
}

impl Score {
    /// Rounded to millionths, so that a result read back from a file orders as it did when it was fresh.
    pub fn new(accuracy: f64, loss: f64) -> Self {
        let millionths = |value: f64| (value * 1e6).round() as i64;
        Self {
            accuracy: millionths(accuracy),
            loss: Reverse(millionths(loss)),
        }
    }
}

/// A trial that has been through a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Number of the trial, from 0.
    pub trial: usize,
    /// Number of the rung, from 0 for the shortest training.
    pub rung: usize,
    /// How good it was; `None` where the training failed, which is worse than anything.
    pub score: Option<Score>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Train a new configuration in rung 0.
    Start {
        /// The number it gets.
        trial: usize,
    },
    /// Train a known configuration for longer.
    Promote {
        /// Its number.
        trial: usize,
        /// The rung it goes to.
        rung: usize,
    },
    /// Nothing is left to do.
    Done,
}

/// Successive halving over rungs of growing length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// Number of rungs; the last one trains at full length.
    pub rungs: usize,
    /// Most configurations to start.
    pub trials: Option<usize>,
}

impl Scheduler {
    /// The best of a rung goes on as soon as it is among the best [`ETA`]th of those that were there; else a new configuration
    /// starts. When there are no more, and none has been trained at full length, the best of the furthest is.
    pub fn next(&self, outcomes: &[Outcome]) -> Action {
        let top = self.top();
        for rung in (0..top).rev() {
            let ranked = ranked(outcomes, rung);
            let good = ranked.len() / ETA;
            let next = ranked[..good]
                .iter()
                .filter(|outcome| outcome.score.is_some())
                .find(|outcome| !has_passed(outcomes, outcome.trial, rung));
            if let Some(outcome) = next {
                return Action::Promote {
                    trial: outcome.trial,
                    rung: rung + 1,
                };
            }
        }
        let started = outcomes
            .iter()
            .map(|outcome| outcome.trial + 1)
            .max()
            .unwrap_or_default();
        if self.trials.is_none_or(|trials| started < trials) {
            return Action::Start { trial: started };
        }
        let is_full = |outcome: &Outcome| outcome.rung == top && outcome.score.is_some();
        match self.finalists(outcomes).first() {
            Some(&trial) if !outcomes.iter().any(is_full) => Action::Promote { trial, rung: top },
            _ => Action::Done,
        }
    }

    /// Trials worth training at full length next, the best first: those furthest up, and of these the best. Failed ones and those
    /// that have been trained at full length are not among them.
    pub fn finalists(&self, outcomes: &[Outcome]) -> Vec<usize> {
        (0..self.top())
            .rev()
            .flat_map(|rung| ranked(outcomes, rung))
            .filter(|outcome| {
                outcome.score.is_some() && !has_passed(outcomes, outcome.trial, outcome.rung)
            })
            .map(|outcome| outcome.trial)
            .collect()
    }

    /// The best result so far: that of the longest training any has survived, and there the best.
    pub fn best(&self, outcomes: &[Outcome]) -> Option<Outcome> {
        (0..self.rungs)
            .rev()
            .flat_map(|rung| ranked(outcomes, rung))
            .find(|outcome| outcome.score.is_some())
    }

    /// The rung of full length.
    pub fn top(&self) -> usize {
        self.rungs.saturating_sub(1)
    }

    /// Epochs of a training of `full` epochs in `rung`: a third of the next rung's, never none.
    pub fn epochs(&self, full: usize, rung: usize) -> usize {
        let below = u32::try_from(self.top().saturating_sub(rung)).unwrap_or(u32::MAX);
        let divisor = ETA.saturating_pow(below);
        ((full + divisor / 2) / divisor).max(1)
    }
}

/// The results of a rung, the best first; of equals the older trial.
fn ranked(outcomes: &[Outcome], rung: usize) -> Vec<Outcome> {
    let mut ranked: Vec<Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.rung == rung)
        .copied()
        .collect();
    ranked.sort_by(|a, b| match b.score.cmp(&a.score) {
        Ordering::Equal => a.trial.cmp(&b.trial),
        order => order,
    });
    ranked
}

fn has_passed(outcomes: &[Outcome], trial: usize, rung: usize) -> bool {
    outcomes
        .iter()
        .any(|outcome| outcome.trial == trial && outcome.rung > rung)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Plays a whole search in which trial t always has accuracy `accuracies[t]`, or fails.
    fn play(scheduler: Scheduler, accuracies: &[Option<u8>]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        loop {
            let (trial, rung) = match scheduler.next(&outcomes) {
                Action::Start { trial } => (trial, 0),
                Action::Promote { trial, rung } => (trial, rung),
                Action::Done => return outcomes,
            };
            let score =
                accuracies[trial].map(|percent| Score::new(f64::from(percent) / 100.0, 1.0));
            outcomes.push(Outcome { trial, rung, score });
            assert!(outcomes.len() < 10_000, "the search does not end");
        }
    }

    proptest! {
        #[test]
        fn every_search_keeps_to_the_rules(
            accuracies in prop::collection::vec(prop::option::weighted(0.9, 0u8..=100), 1..60),
            rungs in 1usize..5,
        ) {
            let scheduler = Scheduler { rungs, trials: Some(accuracies.len()) };
            let outcomes = play(scheduler, &accuracies);
            prop_assert_eq!(&outcomes, &play(scheduler, &accuracies), "deterministic");

            let started: Vec<usize> = outcomes.iter().filter(|o| o.rung == 0).map(|o| o.trial).collect();
            prop_assert_eq!(started, (0..accuracies.len()).collect::<Vec<_>>(), "no trial is lost or comes twice");
            let places: BTreeSet<_> = outcomes.iter().map(|o| (o.trial, o.rung)).collect();
            prop_assert_eq!(places.len(), outcomes.len(), "nothing is trained twice");

            for (index, outcome) in outcomes.iter().enumerate().filter(|(_, o)| o.rung > 0) {
                let before = &outcomes[..index];
                let from = before.iter().filter(|o| o.trial == outcome.trial).max_by_key(|o| o.rung).unwrap();
                prop_assert!(from.score.is_some(), "failed trials do not go on");
                let is_last = index + 1 == outcomes.len()
                    || before.iter().filter(|o| o.rung == 0).count() == accuracies.len();
                let ranked = ranked(before, from.rung);
                let rank = ranked.iter().position(|o| o.trial == outcome.trial).unwrap();
                prop_assert!(
                    rank < ranked.len() / ETA || is_last,
                    "only the best third of a rung goes on: {} of {}", rank, ranked.len()
                );
            }
            let any_good = accuracies.iter().any(Option::is_some);
            prop_assert_eq!(
                outcomes.iter().any(|o| o.rung == scheduler.top() && o.score.is_some()), any_good,
                "the winner is trained at full length"
            );
            prop_assert_eq!(scheduler.best(&outcomes).is_some(), any_good);
        }
    }

    #[test]
    fn the_best_of_three_goes_on_and_so_up_to_the_top() {
        let scheduler = Scheduler {
            rungs: 3,
            trials: Some(9),
        };
        let accuracies: Vec<_> = (1..=9).rev().map(|value| Some(value * 10)).collect();
        let moves: Vec<_> = play(scheduler, &accuracies)
            .iter()
            .map(|outcome| (outcome.trial, outcome.rung))
            .collect();
        let expected = [
            (0, 0),
            (1, 0),
            (2, 0),
            (0, 1),
            (3, 0),
            (4, 0),
            (5, 0),
            (1, 1),
            (6, 0),
            (7, 0),
            (8, 0),
            (2, 1),
            (0, 2),
        ];
        assert_eq!(moves, expected);
    }

    #[test]
    fn a_finalist_that_fails_makes_room_for_the_next() {
        let scheduler = Scheduler {
            rungs: 2,
            trials: Some(2),
        };
        let outcome = |trial, rung, accuracy: Option<f64>| Outcome {
            trial,
            rung,
            score: accuracy.map(|accuracy| Score::new(accuracy, 1.0)),
        };
        let mut outcomes = vec![outcome(0, 0, Some(0.5)), outcome(1, 0, Some(0.6))];
        assert_eq!(
            scheduler.next(&outcomes),
            Action::Promote { trial: 1, rung: 1 }
        );
        outcomes.push(outcome(1, 1, None));
        assert_eq!(
            scheduler.next(&outcomes),
            Action::Promote { trial: 0, rung: 1 }
        );
        outcomes.push(outcome(0, 1, Some(0.7)));
        assert_eq!(scheduler.next(&outcomes), Action::Done);
        assert_eq!(scheduler.best(&outcomes).map(|best| best.trial), Some(0));
    }

    #[test]
    fn of_equal_accuracies_the_lower_loss_is_better() {
        assert!(Score::new(0.9, 0.3) > Score::new(0.9, 0.4));
        assert!(Score::new(0.91, 9.0) > Score::new(0.9, 0.4));
        assert!(None < Some(Score::new(0.0, 99.0)));
    }

    #[test]
    fn rungs_are_thirds_of_thirds_and_never_empty() {
        let scheduler = Scheduler {
            rungs: 3,
            trials: None,
        };
        let lengths = |full| [0, 1, 2].map(|rung| scheduler.epochs(full, rung));
        assert_eq!(lengths(27), [3, 9, 27]);
        assert_eq!(lengths(12), [1, 4, 12]);
        assert_eq!(lengths(1), [1, 1, 1]);
    }
}
