//! Batches of one epoch: shuffled, augmented and prefetched while the caller trains on the one before.
//!
//! The only place around training that starts a thread: one, scoped to the epoch, which fills batches, large ones with rayon, and
//! hands them over a bounded channel. The same seed and epoch give the same batches whatever the number of threads. Validation
//! needs none of this and takes its batches from the [`Split`] as they lie.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::augment::{
    AugmentSettings, ImageShape, MixSettings, augment, image_rng, mix, mix_rng, shuffle_rng,
};
use crate::dataset::Split;

/// Batches of fewer bytes are made by the loader's own thread: waking others, whose cores the training step wants, takes longer.
const PARALLEL_FROM: usize = 1 << 20;

/// What a [`Loader`] makes of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Images per batch.
    pub batch_size: usize,
    /// Seed of the order and of the augmentation.
    pub seed: u64,
    /// What may happen to an image.
    pub augment: AugmentSettings,
    /// How pairs of images are mixed.
    pub mixing: MixSettings,
    /// Label smoothing ε: targets are `(1 − ε) · one-hot + ε / K`; from 0 to below 1.
    pub label_smoothing: f32,
    /// A weight per class: an image counts in the loss as its class does. `None` is 1 for every class.
    pub class_weights: Option<Vec<f32>>,
    /// Batches that are made ahead of the one in use, beside the one being made; at least 1.
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 128,
            seed: 0,
            augment: AugmentSettings::default(),
            mixing: MixSettings::default(),
            label_smoothing: 0.0,
            class_weights: None,
            prefetch: 2,
        }
    }
}

/// One batch of training images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Pixels, `[N, H, W, C]`.
    pub images: Vec<u8>,
    /// Soft targets, `[N, K]`, before images are mixed: the smoothed one-hot row of each image times its class weight over the mean class weight of
    /// the batch. So the mean over the batch of `−Σₖ targetₖ · log pₖ` is the mean cross-entropy weighted by class; without weights each
    /// row sums to 1, with weights only their mean is 1, and the gradient of the logits is `p · Σₖ targetₖ − target`.
    pub targets: Vec<f32>,
    /// True classes, `[N]`, before images are mixed.
    pub labels: Vec<u32>,
}

impl Batch {
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
pub struct Loader<'a> {
    split: &'a Split,
    shape: ImageShape,
    classes: usize,
    options: LoaderOptions,
}

impl<'a> Loader<'a> {
    /// A loader of the images of `split`, all of one `shape`, with labels below `classes`.
    ///
    /// # Errors
    /// When the split is empty or its parts do not fit together, a label is out of range, or an option is.
    pub fn new(
        split: &'a Split,
        shape: ImageShape,
        classes: usize,
        options: LoaderOptions,
    ) -> Result<Self> {
        ensure!(
            !split.is_empty() && !shape.is_empty(),
            "there are no images to train on"
        );
        let expected = split.len() * shape.len();
        ensure!(
            split.pixels.len() == expected,
            "{} images of {}×{}×{} have {expected} bytes, found {}",
            split.len(),
            shape.height,
            shape.width,
            shape.channels,
            split.pixels.len()
        );
        if let Some((index, label)) = split
            .labels
            .iter()
            .enumerate()
            .find(|(_, label)| **label as usize >= classes)
        {
            let source = split.sources.get(index).map_or("", String::as_str);
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
        options.augment.validate()?;
        options.mixing.validate()?;
        Ok(Self {
            split,
            shape,
            classes,
            options,
        })
    }

    /// Batches in an epoch.
    ///
    /// All have `batch_size` images. The images left over when that does not divide the split are dropped from the epoch; it is shuffled
    /// anew each time, so they are others in the next. Only a split smaller than one batch is one short batch.
    pub fn batches_per_epoch(&self) -> usize {
        (self.split.len() / self.options.batch_size).max(1)
    }

    /// Images used in an epoch.
    pub fn images_per_epoch(&self) -> usize {
        self.split
            .len()
            .min(self.batches_per_epoch() * self.options.batch_size)
    }

    /// Runs `consume` on the batches of an epoch, which are made meanwhile on another thread.
    ///
    /// `consume` may stop early. At most `prefetch + 2` batches exist at a time, and their buffers are used again.
    ///
    /// # Panics
    /// When making a batch panics, which would be a defect of this program; an epoch never just ends early.
    pub fn epoch<R>(&self, epoch: u64, consume: impl FnOnce(&mut Batches) -> R) -> R {
        self.epoch_from(epoch, 0, consume)
    }

    /// As [`Loader::epoch`], without the first `done` batches.
    ///
    /// # Panics
    /// As [`Loader::epoch`].
    pub fn epoch_from<R>(
        &self,
        epoch: u64,
        done: usize,
        consume: impl FnOnce(&mut Batches) -> R,
    ) -> R {
        let order = self.order(epoch);
        let behind = (done * self.options.batch_size).min(order.len());
        let order = &order[behind..];
        // Capacity in batches of `batch_size · bytes per image` each: `prefetch` wait, one is being made, one is in use.
        let prefetch = self.options.prefetch;
        let (full_sender, full) = sync_channel(prefetch);
        let (empty, empty_receiver) = sync_channel(prefetch + 2);
        for _ in 0..prefetch + 2 {
            // Cannot fail: there is room for all of them and the receiver is right here.
            let _ = empty.send(Batch::default());
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.produce(epoch, order, empty_receiver, full_sender));
            // Owned by this closure, so that the channels close, and the thread with them, also when `consume` stops early or panics.
            let mut batches = Batches {
                current: None,
                full,
                empty,
            };
            consume(&mut batches)
        })
    }

    /// Indices of the images of an epoch, in the order in which they come.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.split.len()).collect();
        order.shuffle(&mut shuffle_rng(self.options.seed, epoch));
        order.truncate(self.images_per_epoch());
        order
    }

    /// Fills empty batches and sends them on until the epoch is over or nobody listens any more.
    fn produce(
        &self,
        epoch: u64,
        order: &[usize],
        empty: Receiver<Batch>,
        full: SyncSender<Batch>,
    ) {
        for indices in order.chunks(self.options.batch_size) {
            let Ok(mut batch) = empty.recv() else { return };
            self.fill(epoch, indices, &mut batch);
            if full.send(batch).is_err() {
                return;
            }
        }
    }

    fn fill(&self, epoch: u64, indices: &[usize], batch: &mut Batch) {
        let bytes = self.shape.len();
        let Batch {
            images,
            targets,
            labels,
        } = batch;
        images.resize(indices.len() * bytes, 0);
        let make = |(out, &index): (&mut [u8], &usize)| {
            let image = &self.split.pixels[index * bytes..(index + 1) * bytes];
            let mut rng = image_rng(self.options.seed, epoch, index as u64);
            augment(image, self.shape, &self.options.augment, &mut rng, out);
        };
        match images.len() < PARALLEL_FROM {
            true => images.chunks_exact_mut(bytes).zip(indices).for_each(make),
            false => images
                .par_chunks_exact_mut(bytes)
                .zip(indices.par_iter())
                .for_each(make),
        }
        labels.clear();
        labels.extend(indices.iter().map(|&index| self.split.labels[index]));
        write_targets(
            labels,
            self.classes,
            self.options.label_smoothing,
            self.options.class_weights.as_deref(),
            targets,
        );
        if let (true, Some(&first)) = (self.options.mixing.is_on(), indices.first()) {
            let mut rng = mix_rng(self.options.seed, epoch, first as u64);
            let Batch {
                images, targets, ..
            } = batch;
            mix(
                images,
                targets,
                self.shape,
                self.classes,
                &self.options.mixing,
                &mut rng,
            );
        }
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
pub struct Batches {
    current: Option<Batch>,
    full: Receiver<Batch>,
    empty: SyncSender<Batch>,
}

impl Batches {
    /// The next batch, waiting for it where it is not ready; `None` at the end of the epoch. The one before is given back.
    pub fn next_batch(&mut self) -> Option<&Batch> {
        if let Some(used) = self.current.take() {
            // Fails only at the end of the epoch, when no empty batch is wanted any more.
            let _ = self.empty.send(used);
        }
        self.current = self.full.recv().ok();
        self.current.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        height: 2,
        width: 3,
        channels: 1,
    };

    /// Image `i` has label `i % 3` and holds `i` in its first pixel.
    fn split(images: usize) -> Split {
        let pixels = (0..images)
            .flat_map(|image| [image as u8, 1, 2, 3, 4, 5])
            .collect();
        let labels = (0..images).map(|image| (image % 3) as u32).collect();
        Split {
            pixels,
            labels,
            sources: (0..images).map(|image| format!("file#{image}")).collect(),
        }
    }

    fn options(batch_size: usize) -> LoaderOptions {
        LoaderOptions {
            batch_size,
            augment: AugmentSettings::none(),
            prefetch: 1,
            ..LoaderOptions::default()
        }
    }

    fn batches(loader: &Loader<'_>, epoch: u64) -> Vec<Batch> {
        loader.epoch(epoch, |batches| {
            let mut all = Vec::new();
            while let Some(batch) = batches.next_batch() {
                all.push(batch.clone());
            }
            all
        })
    }

    fn first_pixels(batches: &[Batch]) -> Vec<u8> {
        batches
            .iter()
            .flat_map(|batch| batch.images.chunks(6).map(|image| image[0]))
            .collect()
    }

    #[test]
    fn every_image_comes_once_with_its_own_label() {
        let split = split(40);
        let loader = Loader::new(&split, SHAPE, 3, options(8)).unwrap();
        let batches = batches(&loader, 0);
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [8; 5]);
        let mut seen = first_pixels(&batches);
        let labels: Vec<u32> = batches
            .iter()
            .flat_map(|batch| batch.labels.clone())
            .collect();
        assert!(
            seen.iter()
                .zip(&labels)
                .all(|(&image, &label)| u32::from(image) % 3 == label)
        );
        assert_ne!(seen, (0..40).collect::<Vec<u8>>(), "the order is shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..40).collect::<Vec<u8>>());
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own_and_keep_them() {
        let split = split(40);
        let order = |seed: u64, epoch: u64| {
            let loader =
                Loader::new(&split, SHAPE, 3, LoaderOptions { seed, ..options(8) }).unwrap();
            first_pixels(&batches(&loader, epoch))
        };
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn a_short_last_batch_is_dropped_and_its_images_come_in_other_epochs() {
        let split = split(10);
        let loader = Loader::new(&split, SHAPE, 3, options(4)).unwrap();
        assert_eq!(
            (loader.batches_per_epoch(), loader.images_per_epoch()),
            (2, 8)
        );
        let mut seen: Vec<u8> = (0..20)
            .flat_map(|epoch| first_pixels(&batches(&loader, epoch)))
            .collect();
        assert_eq!(seen.len(), 20 * 8);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn a_split_smaller_than_a_batch_is_one_short_batch() {
        let split = split(5);
        let loader = Loader::new(&split, SHAPE, 3, options(64)).unwrap();
        assert_eq!(
            (loader.batches_per_epoch(), loader.images_per_epoch()),
            (1, 5)
        );
        let batches = batches(&loader, 0);
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [5]);
        assert_eq!(
            (batches[0].images.len(), batches[0].targets.len()),
            (5 * 6, 5 * 3)
        );
    }

    /// The batches of an epoch are the same from any number of threads and buffers.
    fn check_threads(split: &Split, shape: ImageShape, batch_size: usize) {
        let with = |threads: usize, prefetch: usize| {
            let options = LoaderOptions {
                prefetch,
                augment: AugmentSettings::default(),
                ..options(batch_size)
            };
            let loader = Loader::new(split, shape, 3, options).unwrap();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            // Straight to `fill`, because the thread of an epoch uses the global pool, not this one.
            let order = loader.order(3);
            let alone: Vec<Batch> = pool.install(|| {
                order
                    .chunks(batch_size)
                    .map(|indices| {
                        let mut batch = Batch::default();
                        loader.fill(3, indices, &mut batch);
                        batch
                    })
                    .collect()
            });
            assert_eq!(batches(&loader, 3), alone);
            alone
        };
        let expected = with(1, 1);
        assert_eq!(with(2, 1), expected);
        assert_eq!(with(5, 4), expected);
        assert_ne!(
            expected,
            batches(
                &Loader::new(split, shape, 3, options(batch_size)).unwrap(),
                3
            ),
            "images are augmented"
        );
    }

    #[test]
    fn the_same_batches_whatever_the_number_of_threads_and_buffers() {
        check_threads(&split(60), SHAPE, 7);
    }

    #[test]
    fn large_batches_are_made_by_several_threads_and_are_the_same() {
        let shape = ImageShape {
            height: 64,
            width: 80,
            channels: 3,
        };
        let batch_size = PARALLEL_FROM / shape.len() + 1;
        let count = 2 * batch_size;
        let large = Split {
            pixels: (0..count * shape.len())
                .map(|index| (index * 31 % 251) as u8)
                .collect(),
            ..split(count)
        };
        check_threads(&large, shape, batch_size);
    }

    #[test]
    fn stopping_early_ends_the_epoch() {
        let split = split(200);
        let loader = Loader::new(&split, SHAPE, 3, options(1)).unwrap();
        for stop_after in [0, 1, 2, 5] {
            let seen = loader.epoch(0, |batches| {
                (0..stop_after)
                    .filter(|_| batches.next_batch().is_some())
                    .count()
            });
            assert_eq!(seen, stop_after);
        }
        assert_eq!(
            batches(&loader, 0).len(),
            200,
            "and the loader goes on working"
        );
    }

    #[test]
    fn a_panic_of_the_consumer_does_not_hang() {
        let split = split(200);
        let loader = Loader::new(&split, SHAPE, 3, options(1)).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            loader.epoch(0, |_| panic!("stop"))
        }));
        assert!(result.is_err());
    }

    #[test]
    fn after_the_end_there_is_nothing_more() {
        let split = split(4);
        let loader = Loader::new(&split, SHAPE, 3, options(4)).unwrap();
        loader.epoch(0, |batches| {
            assert!(batches.next_batch().is_some());
            assert!(batches.next_batch().is_none());
            assert!(batches.next_batch().is_none());
        });
    }

    #[test]
    fn buffers_are_used_again() {
        let split = split(200);
        let loader = Loader::new(&split, SHAPE, 3, options(1)).unwrap();
        loader.epoch(0, |batches| {
            let mut places = std::collections::BTreeSet::new();
            while let Some(batch) = batches.next_batch() {
                places.insert(batch.images.as_ptr() as usize);
            }
            assert!(places.len() <= 3, "{} buffers for prefetch 1", places.len());
        });
    }

    fn targets(labels: &[u32], smoothing: f32, weights: Option<&[f32]>) -> Vec<f32> {
        let mut targets = vec![9.0; 2];
        write_targets(labels, 4, smoothing, weights, &mut targets);
        targets
    }

    #[test]
    fn targets_are_one_hot_and_smoothing_takes_from_the_true_class() {
        assert_eq!(
            targets(&[2, 0], 0.0, None),
            [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        );
        let smoothed = targets(&[1], 0.2, None);
        for (found, expected) in smoothed.iter().zip([0.05, 0.85, 0.05, 0.05]) {
            assert!((found - expected).abs() < 1e-7, "{smoothed:?}");
        }
    }

    #[test]
    fn class_weights_make_the_mean_loss_the_weighted_mean() {
        let (labels, weights) = ([0, 1, 1, 3], [4.0, 1.0, 100.0, 0.0]);
        // Any probabilities do.
        let probabilities = [
            [0.1, 0.2, 0.3, 0.4],
            [0.7, 0.1, 0.1, 0.1],
            [0.25, 0.25, 0.25, 0.25],
            [0.1, 0.1, 0.1, 0.7],
        ];
        for smoothing in [0.0, 0.1] {
            let loss = |targets: &[f32], image: usize| -> f32 {
                (0..4)
                    .map(|class| -targets[image * 4 + class] * f32::ln(probabilities[image][class]))
                    .sum()
            };
            let plain = targets(&labels, smoothing, None);
            let weighted_sum: f32 = (0..4)
                .map(|image| weights[labels[image] as usize] * loss(&plain, image))
                .sum();
            let expected = weighted_sum / (4.0 + 1.0 + 1.0 + 0.0);
            let weighted = targets(&labels, smoothing, Some(&weights));
            let found = (0..4).map(|image| loss(&weighted, image)).sum::<f32>() / 4.0;
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_batch_of_weightless_classes_has_no_target_and_no_nan() {
        assert_eq!(targets(&[3, 3], 0.1, Some(&[1.0, 1.0, 1.0, 0.0])), [0.0; 8]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = split(4);
        let message = |split: &Split, classes: usize, options: LoaderOptions| {
            Loader::new(split, SHAPE, classes, options)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message(&Split::default(), 3, options(2)),
            "there are no images to train on"
        );
        let cut = Split {
            pixels: good.pixels[1..].to_vec(),
            ..good.clone()
        };
        assert_eq!(
            message(&cut, 3, options(2)),
            "4 images of 2×3×1 have 24 bytes, found 23"
        );
        assert_eq!(
            message(&good, 2, options(2)),
            "image 2 (file#2) has label 2, expected a number below 2"
        );
        assert!(message(&good, 3, options(0)).contains("batch size is 0"));
        assert!(
            message(
                &good,
                3,
                LoaderOptions {
                    prefetch: 0,
                    ..options(2)
                }
            )
            .contains("prefetched")
        );
        assert!(
            message(
                &good,
                3,
                LoaderOptions {
                    label_smoothing: 1.0,
                    ..options(2)
                }
            )
            .contains("label smoothing is 1")
        );
        let weights = |weights: &[f32]| LoaderOptions {
            class_weights: Some(weights.to_vec()),
            ..options(2)
        };
        assert_eq!(
            message(&good, 3, weights(&[1.0])),
            "there are 1 class weights for 3 classes"
        );
        assert!(message(&good, 3, weights(&[1.0, -1.0, 1.0])).contains("a class weight is -1"));
        assert!(message(&good, 3, weights(&[0.0; 3])).contains("every class weight is 0"));
        let augment = AugmentSettings {
            vertical_flip: 2.0,
            ..AugmentSettings::none()
        };
        assert!(
            message(
                &good,
                3,
                LoaderOptions {
                    augment,
                    ..options(2)
                }
            )
            .contains("vertical flip is 2")
        );
    }
}
