//! The run under way: epoch after epoch of steps, validation and checkpoint.

use std::cmp::Ordering;
use std::mem;
use std::sync::atomic::{self, AtomicBool};
use std::time::Instant;

use anyhow::Result;

use super::averaging::AveragingOptions;
use super::checkpoint::{Checkpoint, CheckpointFile, RunIdentity, RunState};
use super::events::{EpochSummary, Event};
use super::examples::Examples;
use super::loader::{Draw, Loader};
use super::options::TrainOptions;
use super::pruning::ImageLosses;
use super::run::Ending;
use super::session::{Step, TrainingSession};
use super::validation::evaluate;
use super::watch;

/// A run under way.
pub(super) struct Epochs<'a, E> {
    pub(super) session: TrainingSession,
    pub(super) loader: &'a Loader<E>,
    pub(super) validation: &'a E,
    /// Places of training examples on which the network is judged, too.
    pub(super) sample: Vec<usize>,
    pub(super) options: &'a TrainOptions,
    pub(super) identity: RunIdentity,
    pub(super) checkpoints: Option<&'a CheckpointFile>,
    /// When the last checkpoint was written.
    pub(super) saved: Instant,
    pub(super) state: RunState,
    /// All parameters of the best epoch.
    pub(super) best: Option<Vec<Vec<f32>>>,
    /// The average of all parameters over the steps, where that is what is judged; none before the first sample.
    pub(super) average: Option<Vec<Vec<f32>>>,
    /// Loss of each training image, where that decides about the images of an epoch.
    pub(super) losses: Option<ImageLosses>,
}

impl<E: Examples> Epochs<'_, E> {
    /// Trains and validates epoch after epoch, keeping the best parameters, until the end, a stop or a divergence.
    pub(super) fn run(
        &mut self,
        stop: &AtomicBool,
        emit: &mut dyn FnMut(&Event),
    ) -> Result<Ending> {
        while !self.is_over() {
            let epoch = self.state.history.len() + 1;
            emit(&Event::EpochStarted { epoch });
            let interrupted = self.train_epoch(epoch, stop, emit)?;
            if interrupted == Some(Ending::Stopped) {
                self.save()?;
            }
            // A stop in the first epoch still leaves a model behind; later ones leave the best one.
            match interrupted {
                Some(ending @ Ending::Diverged { .. }) => return Ok(ending),
                Some(ending) if self.best.is_some() => return Ok(ending),
                _ => {}
            }
            if !self.end_epoch(epoch, emit)? {
                return Ok(Ending::Diverged {
                    step: self.state.steps_done,
                });
            }
            if let Some(ending) = interrupted {
                return Ok(ending);
            }
            self.save()?;
            if let Some(warning) =
                watch::parting(&self.state.history, self.validation.labels().len())
            {
                emit(&Event::Warning(warning));
            }
        }
        if self.has_stalled() && !self.state.plan.is_done(self.state.steps_done) {
            emit(&Event::Note(
                "no better epoch within the patience: the run ends early".to_owned(),
            ));
        }
        Ok(Ending::Finished)
    }

    fn is_over(&self) -> bool {
        let is_between_epochs = self.state.step == 0;
        is_between_epochs && (self.state.plan.is_done(self.state.steps_done) || self.has_stalled())
    }

    fn has_stalled(&self) -> bool {
        let rule = &self.options.early_stopping;
        rule.is_some_and(|rule| rule.is_over(&self.state.history))
    }

    /// The steps of an epoch that are left; what ended it before its last step, if something did.
    fn train_epoch(
        &mut self,
        epoch: usize,
        stop: &AtomicBool,
        emit: &mut dyn FnMut(&Event),
    ) -> Result<Option<Ending>> {
        let (loader, steps) = (self.loader, self.loader.batches_per_epoch());
        let draws = self.draws(epoch as u64);
        let counted: f32 = draws.iter().map(|draw| draw.weight).sum();
        let mean_weight = counted / draws.len().max(1) as f32;
        let mut clock = Instant::now();
        loader.epoch(epoch as u64, &draws, self.state.step, |batches| {
            while let Some(batch) = batches.next_batch()? {
                let state = &mut self.state;
                state.learning_rate = state
                    .plan
                    .learning_rate(&self.options.schedule, state.steps_done);
                let Step { loss, logits } =
                    self.session
                        .step(&batch.inputs, &batch.targets, state.learning_rate)?;
                if let Some(averaging) = &self.options.averaging
                    && AveragingOptions::is_due(self.session.steps_done())
                {
                    let sample = self.session.parameters()?;
                    averaging.add(&mut self.average, sample, self.session.steps_done(), steps);
                }
                if let Some(losses) = &mut self.losses {
                    losses.learn(&batch.draws, &batch.labels, &logits);
                }
                // As if all images had been drawn.
                let loss = loss / mean_weight;
                state.step += 1;
                state.steps_done += 1;
                state.images += batch.len();
                state.loss_sum += f64::from(loss);
                let seconds = mem::replace(&mut clock, Instant::now())
                    .elapsed()
                    .as_secs_f64();
                state.epoch_seconds += seconds;
                state.seconds += seconds;
                state.training_seconds += seconds;
                let planned = state.plan.steps(state.steps_done);
                state
                    .plan
                    .step_done(state.steps_done, state.seconds, state.training_seconds);
                if !loss.is_finite() {
                    return Ok(Some(Ending::Diverged {
                        step: state.steps_done,
                    }));
                }
                emit(&Event::StepDone {
                    step: state.step,
                    steps,
                    loss,
                    learning_rate: state.learning_rate,
                    images: batch.len(),
                });
                if state.plan.steps(state.steps_done) != planned {
                    emit(&Event::Planned {
                        epochs: state.plan.epochs(state.steps_done),
                        steps: state.plan.steps(state.steps_done),
                    });
                }
                if state.plan.is_done(state.steps_done) {
                    break;
                }
                if stop.load(atomic::Ordering::Relaxed) {
                    return Ok(Some(Ending::Stopped));
                }
                let is_time = |file: &CheckpointFile| self.saved.elapsed() >= file.interval;
                if self.state.step < steps && self.checkpoints.is_some_and(is_time) {
                    self.save()?;
                }
            }
            Ok(None)
        })
    }

    /// The images of an epoch. What a run that is continued had decided at the beginning of the epoch stays decided.
    fn draws(&mut self, epoch: u64) -> Vec<Draw> {
        let (Some(losses), Some(pruning)) = (&self.losses, &self.options.pruning) else {
            return self.loader.draws(epoch);
        };
        let state = &mut self.state;
        if state.step == 0 {
            let progress = state.steps_done as f64 / state.plan.steps(state.steps_done) as f64;
            let is_first = state.history.is_empty();
            state.is_pruned = !is_first && progress < f64::from(pruning.until);
        }
        match state.is_pruned {
            true => losses.draws(pruning, self.options.seed, epoch),
            false => self.loader.draws(epoch),
        }
    }

    /// Validates, and notes what the epoch came to; whether all logits were numbers.
    fn end_epoch(&mut self, epoch: usize, emit: &mut dyn FnMut(&Event)) -> Result<bool> {
        let clock = Instant::now();
        let own = match &self.average {
            None => None,
            Some(average) => {
                let own = self.session.parameters()?;
                self.session.restore(average)?;
                Some(own)
            }
        };
        let all: Vec<usize> = (0..self.validation.labels().len()).collect();
        let Some((loss, accuracy)) = evaluate(&self.session, self.validation, &all)? else {
            return Ok(false);
        };
        let learnt_from = self.loader.examples();
        let Some((_, train_accuracy)) = evaluate(&self.session, learnt_from, &self.sample)? else {
            return Ok(false);
        };
        let seconds = clock.elapsed().as_secs_f64();
        let state = &mut self.state;
        state.plan.validated(seconds);
        state.seconds += seconds;
        let best = state.history.iter().rev().find(|epoch| epoch.is_best);
        let summary = EpochSummary {
            epoch,
            train_loss: state.loss_sum / state.step as f64,
            train_accuracy,
            validation_loss: loss,
            validation_accuracy: accuracy,
            learning_rate: state.learning_rate,
            seconds: state.epoch_seconds + seconds,
            images_per_second: state.images as f64 / state.epoch_seconds,
            is_best: best.is_none_or(|before| is_better((accuracy, loss), before)),
        };
        if summary.is_best {
            self.best = Some(self.session.parameters()?);
        }
        if let Some(own) = own {
            self.session.restore(&own)?;
        }
        state.history.push(summary);
        (state.step, state.images) = (0, 0);
        if let Some(losses) = &mut self.losses {
            losses.end_epoch();
        }
        (state.loss_sum, state.epoch_seconds) = (0.0, 0.0);
        emit(&Event::EpochDone(summary));
        Ok(true)
    }

    /// Writes a checkpoint, where there is a file for it.
    pub(super) fn save(&mut self) -> Result<()> {
        if let Some(file) = self.checkpoints {
            let checkpoint = Checkpoint {
                identity: self.identity.clone(),
                state: self.state.clone(),
                parameters: self.session.parameters()?,
                best: self.best.clone(),
                average: self.average.clone(),
                losses: self.losses.clone(),
            };
            checkpoint.save(&file.path)?;
            self.saved = Instant::now();
        }
        Ok(())
    }
}

/// More validation images are right, or as many with a lower loss: few images tie often, and the first epoch that gets them all
/// right is hardly sure of any.
fn is_better((accuracy, loss): (f64, f64), before: &EpochSummary) -> bool {
    match accuracy.total_cmp(&before.validation_accuracy) {
        Ordering::Greater => true,
        Ordering::Equal => loss < before.validation_loss,
        Ordering::Less => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_decides_between_epochs_of_the_same_accuracy() {
        let before = EpochSummary::example(1, 0.9);
        assert!(is_better((0.91, 9.0), &before));
        assert!(is_better((0.9, 0.3), &before));
        assert!(!is_better((0.9, 0.4), &before));
        assert!(!is_better((0.89, 0.1), &before));
    }
}
