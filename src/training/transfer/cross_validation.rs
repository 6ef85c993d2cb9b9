//! Cross-validation of the layer behind a frozen backbone, for data so few that none should be held out.
//!
//! The images are cut into folds, and for each a layer learns from the others. Every image is judged by the layer that did not learn
//! from it, so all of them say how good the model is and fit its temperature and thresholds. What is exported is the mean of the layers:
//! they are linear, so the layer with their mean weights gives the mean of their logits, and among them they learnt from every image.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ndarray::Array2;

use super::Transfer;
use super::features::{LabelledFeatures, Views};
use super::folds::{Chosen, fit_to_the_end, stopped};
use super::parts::{Parts, Whole, settings};
use crate::dataset::Dataset;
use crate::dataset::split::folds;
use crate::network::Task;
use crate::training::events::{EpochSummary, Event, RunSummary};
use crate::training::fit::Job;
use crate::training::history::History;
use crate::training::machine::Machine;
use crate::training::options::TrainOptions;
use crate::training::run::{Ending, Trained};
use crate::training::session::TrainingSession;
use crate::training::validation::{self, HeldOut};

/// Trains a layer for each of `count` folds of the training images; see [`crate::training::run::train`].
///
/// # Errors
/// When features cannot be computed or kept, a layer diverges, ONNX Runtime reports an error, or `stop` is set.
#[expect(
    clippy::too_many_arguments,
    reason = "the run's own, and the number of folds"
)]
pub(in crate::training) fn cross_validate(
    dataset: &Dataset,
    options: &TrainOptions,
    transfer: Transfer<'_>,
    count: usize,
    task: Task,
    machine: Machine<'_>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Trained> {
    let begun = Instant::now();
    let split = &dataset.train;
    let settings = settings(options)?;
    let Parts {
        mut extractor,
        tail,
        frozen,
    } = Parts::prepare(options, &task, transfer, 0, machine)?;
    let features = transfer.features;
    let learning = Views::Random(settings.variants, options.augment);
    let mirrors = options.mirror_averaging.then_some(Views::Mirrored);
    let views = learning.count() + mirrors.as_ref().map_or(0, Views::count);
    let total = split.len() * views;
    let mut done = 0;
    let mut progress = |images: usize| {
        done += images;
        emit(&Event::FeaturesDone { done, total });
        stopped(stop)
    };
    let learnt_from = extractor.features(split, &learning, features, &mut progress)?;
    let mirrored = mirrors
        .map(|views| extractor.features(split, &views, features, &mut progress))
        .transpose()?;
    drop(extractor);
    let of = |store, view| LabelledFeatures { store, split, view };
    let as_they_are = of(&learnt_from, 0);
    // Logits of some images, or of them and their mirror images on average, as the exported network gives them.
    let judge = |session: &TrainingSession, places: &[usize]| -> Result<Array2<f32>> {
        let mut logits = validation::logits(session, &Chosen::new(as_they_are, places.to_vec()))?;
        if let Some(mirrored) = &mirrored {
            let mirrored = Chosen::new(of(mirrored, 1), places.to_vec());
            logits += &validation::logits(session, &mirrored)?;
            logits *= 0.5;
        }
        Ok(logits)
    };

    let groups = crate::dataset::duplicates::groups(&[split], &dataset.preprocess)?;
    let folds = folds(&split.labels, &groups, count, options.seed);
    let mut out_of_fold = Array2::zeros((split.len(), task.classes));
    let mut sum: Vec<Vec<f32>> = Vec::new();
    let mut histories = Vec::new();
    let mut session = None;
    for fold in 0..count {
        let (left_out, others): (Vec<usize>, Vec<usize>) =
            (0..split.len()).partition(|&place| folds[place] == fold);
        ensure!(
            !left_out.is_empty(),
            "{count} folds are too many for {} different images; give a smaller --folds",
            split.len()
        );
        let job = Job {
            network: &tail,
            classes: task.classes,
            train: Chosen::new(as_they_are, others),
            validation: &Chosen::new(as_they_are, left_out.clone()),
            data_fingerprint: &dataset.fingerprint,
            options,
            seconds_before: 0.0,
        };
        let fitted = fit_to_the_end(job, machine, stop)?;
        // The weights of the last step: to choose an epoch by the images left out would be to look at their labels.
        let last = fitted.session;
        add(&mut sum, &last.parameters()?);
        let logits = judge(&last, &left_out)?;
        for (&place, row) in left_out.iter().zip(logits.rows()) {
            out_of_fold.row_mut(place).assign(&row);
        }
        emit(&Event::Note(format!(
            "fold {} of {count}: accuracy {:.4} on its {} images",
            fold + 1,
            fitted
                .history
                .epochs
                .last()
                .map_or(0.0, |epoch| epoch.validation_accuracy),
            left_out.len()
        )));
        histories.push(fitted.history);
        session = Some(last);
    }

    let mean: Vec<Vec<f32>> = sum
        .into_iter()
        .map(|values| {
            values
                .into_iter()
                .map(|value| value / count as f32)
                .collect()
        })
        .collect();
    let mean = options.weight_storage.stored(&tail.graph, mean)?;
    let mut session = session.context("there are no folds")?;
    session.restore(&mean)?;
    let all: Vec<usize> = (0..split.len()).collect();
    let of_the_mean = judge(&session, &all)?;
    let history = averaged(&histories);
    let summary = RunSummary {
        epochs: history.epochs.len(),
        best_epoch: history.epochs.len(),
        best_accuracy: accuracy(&out_of_fold, &split.labels),
        seconds: begun.elapsed().as_secs_f64(),
        stopped: false,
    };
    emit(&Event::RunDone(summary));
    let trained_scalars = tail.graph.trained_scalars();
    let Whole {
        network,
        parameters,
        behind,
    } = frozen.completed(options, &task, tail, mean)?;
    Ok(Trained {
        parameters,
        trained_scalars,
        network,
        behind,
        task,
        history,
        summary,
        ending: Ending::Finished,
        held_out: HeldOut {
            judged_by_others: Some(out_of_fold),
            ..HeldOut::of_split(split, of_the_mean)?
        },
    })
}

/// Adds the values of one network to those of others.
fn add(sum: &mut Vec<Vec<f32>>, weights: &[Vec<f32>]) {
    if sum.is_empty() {
        sum.extend_from_slice(weights);
        return;
    }
    for (sum, weights) in sum.iter_mut().zip(weights) {
        for (sum, weight) in sum.iter_mut().zip(weights) {
            *sum += weight;
        }
    }
}

/// The means of every epoch over the folds, which all have as many; the last one is what is kept.
fn averaged(histories: &[History]) -> History {
    let epochs = histories.first().map_or(0, |history| history.epochs.len());
    let count = histories.len() as f64;
    let epochs = (0..epochs).map(|place| {
        let of_folds = || histories.iter().map(|history| &history.epochs[place]);
        let mean = |figure: fn(&EpochSummary) -> f64| of_folds().map(figure).sum::<f64>() / count;
        EpochSummary {
            epoch: place + 1,
            train_loss: mean(|epoch| epoch.train_loss),
            train_accuracy: mean(|epoch| epoch.train_accuracy),
            validation_loss: mean(|epoch| epoch.validation_loss),
            validation_accuracy: mean(|epoch| epoch.validation_accuracy),
            learning_rate: histories[0].epochs[place].learning_rate,
            seconds: mean(|epoch| epoch.seconds) * count,
            images_per_second: mean(|epoch| epoch.images_per_second),
            is_best: place + 1 == epochs,
        }
    });
    History {
        epochs: epochs.collect(),
    }
}

/// Share of the rows whose largest logit is that of the label.
fn accuracy(logits: &Array2<f32>, labels: &[u32]) -> f64 {
    let right = logits.outer_iter().zip(labels).filter(|(row, label)| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.is_some_and(|(class, _)| class == **label as usize)
    });
    right.count() as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn curves_are_means_and_the_last_epoch_is_kept() {
        let history = |accuracies: [f64; 2]| History {
            epochs: accuracies
                .into_iter()
                .zip(1..)
                .map(|(accuracy, epoch)| EpochSummary::example(epoch, accuracy))
                .collect(),
        };
        let mean = averaged(&[history([0.9, 0.5]), history([0.7, 0.6])]);
        let figures = mean.epochs.iter().map(|epoch| epoch.validation_accuracy);
        assert_eq!(figures.collect::<Vec<_>>(), [0.8, 0.55]);
        assert_eq!(mean.best().map(|epoch| epoch.epoch), Some(2));
        assert_eq!(averaged(&[]).epochs, []);
    }

    #[test]
    fn weights_add_up_and_rows_are_counted() {
        let mut sum = Vec::new();
        add(&mut sum, &[vec![1.0, 2.0], vec![3.0]]);
        add(&mut sum, &[vec![0.5, 0.5], vec![1.0]]);
        assert_eq!(sum, [vec![1.5, 2.5], vec![4.0]]);
        let logits = array![[1.0, 2.0], [2.0, 1.0], [0.0, 5.0]];
        assert_eq!(accuracy(&logits, &[1, 1, 1]), 2.0 / 3.0);
    }
}
