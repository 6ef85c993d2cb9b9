//! Batches of one epoch: shuffled, augmented and prefetched while the caller trains on the one before.
//!
//! The only place around training that starts a thread: one, scoped to the epoch, which fills batches, large ones with rayon, and
//! hands them over a bounded channel. The same seed and epoch give the same batches whatever the number of threads. Validation
//! needs none of this and takes its examples as they are.

pub(super) mod order;

use std::mem::size_of;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Result, ensure};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::augment::{MixSettings, image_rng, mix_rng};
use super::balance::Sampling;
use super::examples::Examples;

/// Batches of fewer bytes are made by the loader's own thread: waking others, whose cores the training step wants, takes longer.
const PARALLEL_FROM: usize = 1 << 20;

/// What a [`Loader`] makes of its examples.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Images per batch.
    pub batch_size: usize,
    /// Seed of the order and of the augmentation.
    pub seed: u64,
    /// How pairs of images are mixed.
    pub mixing: MixSettings,
    /// Label smoothing ε: targets are `(1 − ε) · one-hot + ε / K`; from 0 to below 1.
    pub label_smoothing: f32,
    /// A weight per class: an image counts in the loss as its class does. `None` is 1 for every class.
    pub class_weights: Option<Vec<f32>>,
    /// Which images an epoch is made of.
    pub sampling: Sampling,
    /// Images of an epoch, where they are not all.
    pub epoch_images: Option<usize>,
    /// Batches that are made ahead of the one in use, beside the one being made; at least 1.
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 128,
            seed: 0,
            mixing: MixSettings::default(),
            label_smoothing: 0.0,
            class_weights: None,
            sampling: Sampling::Natural,
            epoch_images: None,
            prefetch: 2,
        }
    }
}

/// One image of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Its number; see [`order`].
    pub number: usize,
    /// How much it counts in the loss.
    pub weight: f32,
}

/// One batch of training images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch<T> {
    /// The examples, `[N, …]`: of images the pixels, `[N, H, W, C]`.
    pub inputs: Vec<T>,
    /// Soft targets, `[N, K]`, before images are mixed: the smoothed one-hot row of each image times its class weight over the mean class weight of
    /// the batch, times the weight of its draw. So the mean over the batch of `−Σₖ targetₖ · log pₖ` is the mean cross-entropy weighted by class; without weights each
    /// row sums to 1, with weights only their mean is 1, and the gradient of the logits is `p · Σₖ targetₖ − target`.
    pub targets: Vec<f32>,
    /// True classes, `[N]`, before images are mixed.
    pub labels: Vec<u32>,
    /// The draws it is made of, `[N]`.
    pub draws: Vec<Draw>,
}

impl<T> Batch<T> {
    /// Number of images, `N`.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Makes the batches of every epoch of a run.
#[derive(Debug)]
pub struct Loader<E> {
    examples: E,
    classes: usize,
    options: LoaderOptions,
}

impl<E: Examples> Loader<E> {
    /// A loader of examples with labels below `classes`.
    ///
    /// # Errors
    /// When there are none, a label is out of range, or an option is.
    pub fn new(examples: E, classes: usize, options: LoaderOptions) -> Result<Self> {
        let labels = examples.labels();
        ensure!(
            !labels.is_empty() && examples.width() > 0,
            "there are no images to train on"
        );
        if let Some((index, label)) = labels
            .iter()
            .enumerate()
            .find(|(_, label)| **label as usize >= classes)
        {
            let source = examples.source(index);
            anyhow::bail!(
                "image {index} ({source}) has label {label}, expected a number below {classes}"
            );
        }
        ensure!(
            options.batch_size > 0,
            "the batch size is 0, expected at least 1"
        );
        ensure!(
            options.prefetch > 0,
            "0 batches are to be prefetched, expected at least 1"
        );
        let smoothing = options.label_smoothing;
        ensure!(
            (0.0..1.0).contains(&smoothing),
            "the label smoothing is {smoothing}, expected 0 to below 1"
        );
        if let Some(weights) = &options.class_weights {
            ensure!(
                weights.len() == classes,
                "there are {} class weights for {classes} classes",
                weights.len()
            );
            if let Some(weight) = weights
                .iter()
                .find(|weight| !weight.is_finite() || **weight < 0.0)
            {
                anyhow::bail!("a class weight is {weight}, expected a number from 0");
            }
            ensure!(
                weights.iter().any(|weight| *weight > 0.0),
                "every class weight is 0: nothing would be learnt"
            );
        }
        options.mixing.validate()?;
        ensure!(
            examples.can_be_mixed() || !options.mixing.is_on(),
            "features that were computed before cannot be mixed; leave out mixup and CutMix"
        );
        Ok(Self {
            examples,
            classes,
            options,
        })
    }

    /// Batches in an epoch.
    ///
    /// All have `batch_size` images. The images left over when that does not divide the split are dropped from the epoch; it is shuffled
    /// anew each time, so they are others in the next. Only a split smaller than one batch is one short batch.
    pub fn batches_per_epoch(&self) -> usize {
        (self.available() / self.options.batch_size).max(1)
    }

    /// Images used in an epoch.
    pub fn images_per_epoch(&self) -> usize {
        self.available()
            .min(self.batches_per_epoch() * self.options.batch_size)
    }

    /// What the batches are made of.
    pub fn examples(&self) -> &E {
        &self.examples
    }

    fn count(&self) -> usize {
        self.examples.labels().len()
    }

    fn available(&self) -> usize {
        let images = self.count();
        self.options
            .epoch_images
            .map_or(images, |wanted| wanted.clamp(1, images))
    }

    /// Runs `consume` on the batches of these draws but for the first `done` ones. They are made meanwhile on another thread, and
    /// are as many as [`Loader::batches_per_epoch`] says.
    ///
    /// `consume` may stop early. At most `prefetch + 2` batches exist at a time, and their buffers are used again.
    ///
    /// # Panics
    /// When making a batch panics, which would be a defect of this program; an epoch never just ends early.
    pub fn epoch<R>(
        &self,
        epoch: u64,
        draws: &[Draw],
        done: usize,
        consume: impl FnOnce(&mut Batches<E::Element>) -> R,
    ) -> R {
        let end = self.images_per_epoch().min(draws.len());
        let behind = (done * self.options.batch_size).min(end);
        let draws = &draws[behind..end];
        // Capacity in batches of `batch_size · bytes per example` each: `prefetch` wait, one is being made, one is in use.
        let prefetch = self.options.prefetch;
        let (full_sender, full) = sync_channel(prefetch);
        let (empty, empty_receiver) = sync_channel(prefetch + 2);
        for _ in 0..prefetch + 2 {
            // Cannot fail: there is room for all of them and the receiver is right here.
            let _ = empty.send(Batch::default());
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.produce(epoch, draws, empty_receiver, full_sender));
            // Owned by this closure, so that the channels close, and the thread with them, also when `consume` stops early or panics.
            let mut batches = Batches {
                current: None,
                full,
                empty,
            };
            consume(&mut batches)
        })
    }

    /// Draws of an epoch in which all count the same, in the order in which they come; see [`order`].
    pub fn draws(&self, epoch: u64) -> Vec<Draw> {
        let (seed, count) = (self.options.seed, self.images_per_epoch());
        let order = match self.options.sampling {
            Sampling::Natural => order::natural(self.count(), count, seed, epoch),
            Sampling::Balanced => {
                order::balanced(self.examples.labels(), self.classes, count, seed, epoch)
            }
        };
        let draw = |number| Draw {
            number,
            weight: 1.0,
        };
        order.into_iter().map(draw).collect()
    }

    /// Fills empty batches and sends them on until the epoch is over, an example cannot be read, or nobody listens any more.
    fn produce(
        &self,
        epoch: u64,
        draws: &[Draw],
        empty: Receiver<Batch<E::Element>>,
        full: SyncSender<Result<Batch<E::Element>>>,
    ) {
        for draws in draws.chunks(self.options.batch_size) {
            let Ok(mut batch) = empty.recv() else { return };
            let filled = self.fill(epoch, draws, &mut batch).map(|()| batch);
            let is_over = filled.is_err();
            if full.send(filled).is_err() || is_over {
                return;
            }
        }
    }

    fn fill(&self, epoch: u64, draws: &[Draw], batch: &mut Batch<E::Element>) -> Result<()> {
        let width = self.examples.width();
        let Batch {
            inputs,
            targets,
            labels,
            draws: drawn,
        } = batch;
        drawn.clear();
        drawn.extend_from_slice(draws);
        inputs.resize(draws.len() * width, E::Element::default());
        let place = |draw: &Draw| order::image_of(draw.number, self.count());
        let make = |(out, draw): (&mut [E::Element], &Draw)| {
            let mut rng = image_rng(self.options.seed, epoch, draw.number as u64);
            self.examples.vary(place(draw), &mut rng, out)
        };
        match inputs.len() * size_of::<E::Element>() < PARALLEL_FROM {
            true => inputs
                .chunks_exact_mut(width)
                .zip(draws)
                .try_for_each(make)?,
            false => inputs
                .par_chunks_exact_mut(width)
                .zip(draws.par_iter())
                .try_for_each(make)?,
        }
        let all_labels = self.examples.labels();
        labels.clear();
        labels.extend(draws.iter().map(|draw| all_labels[place(draw)]));
        write_targets(
            labels,
            self.classes,
            self.options.label_smoothing,
            self.options.class_weights.as_deref(),
            targets,
        );
        for (target, draw) in targets.chunks_exact_mut(self.classes).zip(draws) {
            target.iter_mut().for_each(|share| *share *= draw.weight);
        }
        if let (true, Some(first)) = (self.options.mixing.is_on(), draws.first()) {
            let mut rng = mix_rng(self.options.seed, epoch, first.number as u64);
            let mixing = &self.options.mixing;
            self.examples
                .mix(inputs, targets, self.classes, mixing, &mut rng);
        }
        Ok(())
    }
}

/// Writes the soft targets `[N, K]` of `labels` to `targets`, as [`Batch::targets`] defines them.
///
/// A batch in which every class weighs nothing has targets of 0: no loss and no gradient.
pub fn write_targets(
    labels: &[u32],
    classes: usize,
    label_smoothing: f32,
    class_weights: Option<&[f32]>,
    targets: &mut Vec<f32>,
) {
    let weight = |label: u32| class_weights.map_or(1.0, |weights| weights[label as usize]);
    let sum: f32 = labels.iter().map(|&label| weight(label)).sum();
    let mean = sum / labels.len().max(1) as f32;
    let smoothed = label_smoothing / classes as f32;
    targets.clear();
    for &label in labels {
        let scale = if mean > 0.0 {
            weight(label) / mean
        } else {
            0.0
        };
        let start = targets.len();
        targets.resize(start + classes, scale * smoothed);
        targets[start + label as usize] = scale * (1.0 - label_smoothing + smoothed);
    }
}

/// The batches of an epoch, one after another.
#[derive(Debug)]
pub struct Batches<T> {
    current: Option<Batch<T>>,
    full: Receiver<Result<Batch<T>>>,
    empty: SyncSender<Batch<T>>,
}

impl<T> Batches<T> {
    /// The next batch, waiting for it where it is not ready; `None` at the end of the epoch. The one before is given back.
    ///
    /// # Errors
    /// When an example cannot be read; the epoch is over then.
    pub fn next_batch(&mut self) -> Result<Option<&Batch<T>>> {
        if let Some(used) = self.current.take() {
            // Fails only at the end of the epoch, when no empty batch is wanted any more.
            let _ = self.empty.send(used);
        }
        // The channel is closed at the end of the epoch.
        self.current = self.full.recv().ok().transpose()?;
        Ok(self.current.as_ref())
    }
}

#[cfg(test)]
mod tests;
