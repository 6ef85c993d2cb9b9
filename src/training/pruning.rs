//! Leaving out images that the network knows already, so that the same time has room for more epochs.
//!
//! After InfoBatch (Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024): of the images
//! with a low loss an epoch leaves out some by chance, and those that it keeps count for them too, so that the expected
//! gradient is that of all images. Towards the end nothing weighs more than anything else, and images are drawn regardless of their
//! loss. Unlike there, "low" is not "below the mean" but a fixed share of the images, and every epoch has the same length: so the
//! schedule knows its steps.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::loader::Draw;
use super::loader::order::natural;

/// How images are left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PruningOptions {
    /// Share of all images that are easy: those with the lowest loss when they were last seen. Default 0.7.
    pub easy: f32,
    /// Share of the easy images that an epoch leaves out. Default 0.5.
    pub left_out: f32,
    /// Share of the run after which images are drawn regardless of their loss. Default 0.875.
    pub until: f32,
}

impl Default for PruningOptions {
    fn default() -> Self {
        Self {
            easy: 0.7,
            left_out: 0.5,
            until: 0.875,
        }
    }
}

impl PruningOptions {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the option and its range.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            (0.0..1.0).contains(&self.left_out),
            "the share of easy images that is left out is {}, expected 0 to below 1",
            self.left_out
        );
        for (name, share) in [("easy images", self.easy), ("the run", self.until)] {
            ensure!(
                (0.0..=1.0).contains(&share),
                "the share of {name} is {share}, expected 0 to 1"
            );
        }
        Ok(())
    }

    /// Images of an epoch, of so many.
    pub fn epoch_images(&self, images: usize) -> usize {
        images - self.left_out_images(images)
    }

    fn easy_images(&self, images: usize) -> usize {
        (f64::from(self.easy) * images as f64).round() as usize
    }

    fn left_out_images(&self, images: usize) -> usize {
        (f64::from(self.left_out) * self.easy_images(images) as f64).round() as usize
    }
}

/// The loss of every training image when it was last learnt from, infinite before the first time.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageLosses {
    /// At the beginning of the epoch: what decides about its images.
    pub known: Vec<f32>,
    /// Now.
    pub latest: Vec<f32>,
}

impl ImageLosses {
    /// Of images that nothing is known about.
    pub fn unknown(images: usize) -> Self {
        Self {
            known: vec![f32::INFINITY; images],
            latest: vec![f32::INFINITY; images],
        }
    }

    /// Notes the cross-entropy of a batch: its draws, true labels and logits `[N, K]`.
    pub fn learn(&mut self, draws: &[Draw], labels: &[u32], logits: &[f32]) {
        let classes = logits.len() / draws.len().max(1);
        let rows = logits.chunks_exact(classes.max(1));
        for ((draw, &label), row) in draws.iter().zip(labels).zip(rows) {
            self.latest[draw.number] = cross_entropy(row, label);
        }
    }

    /// What was learnt in an epoch decides about the next.
    pub fn end_epoch(&mut self) {
        self.known.clone_from(&self.latest);
    }

    /// The draws of an epoch, shuffled: all hard images, and of the easy ones those that are kept, which count for the others.
    pub fn draws(&self, options: &PruningOptions, seed: u64, epoch: u64) -> Vec<Draw> {
        let images = self.known.len();
        let mut by_loss: Vec<usize> = (0..images).collect();
        // Stable: images of the same loss stay in their order, whatever the machine.
        by_loss.sort_by(|&a, &b| self.known[a].total_cmp(&self.known[b]));
        let (easy, hard) = by_loss.split_at(options.easy_images(images));
        let kept = easy.len() - options.left_out_images(images);
        let weight = easy.len() as f32 / kept.max(1) as f32;
        let mut draws: Vec<Draw> = natural(easy.len(), kept, seed, epoch)
            .into_iter()
            .map(|place| Draw {
                number: easy[place],
                weight,
            })
            .collect();
        draws.extend(hard.iter().map(|&number| Draw {
            number,
            weight: 1.0,
        }));
        shuffled(draws, seed, epoch)
    }
}

/// In another order than the one in which the easy images were chosen.
fn shuffled(draws: Vec<Draw>, seed: u64, epoch: u64) -> Vec<Draw> {
    let order = natural(draws.len(), draws.len(), !seed, epoch);
    order.into_iter().map(|place| draws[place]).collect()
}

/// `log Σ exp(logits) − logit of the label`.
fn cross_entropy(logits: &[f32], label: u32) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    sum.ln() + highest - logits[label as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses() -> ImageLosses {
        let mut losses = ImageLosses::unknown(100);
        for image in 0..90 {
            losses.latest[image] = (image * 7 % 90) as f32;
        }
        losses.end_epoch();
        losses
    }

    #[test]
    fn hard_images_all_come_and_kept_easy_ones_count_for_the_rest() {
        let losses = losses();
        let options = PruningOptions::default();
        for epoch in 0..5 {
            let draws = losses.draws(&options, 1, epoch);
            assert_eq!(draws.len(), options.epoch_images(100));
            assert_eq!(draws.len(), 65);
            let mut numbers: Vec<usize> = draws.iter().map(|draw| draw.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 65, "no image comes twice");
            let weights: f32 = draws.iter().map(|draw| draw.weight).sum();
            assert_eq!(weights, 100.0);
            for draw in &draws {
                let is_easy = losses.known[draw.number] < 70.0;
                assert_eq!(draw.weight, if is_easy { 2.0 } else { 1.0 });
            }
        }
        assert_eq!(losses.draws(&options, 1, 2), losses.draws(&options, 1, 2));
        assert_ne!(losses.draws(&options, 1, 2), losses.draws(&options, 1, 3));
        assert_ne!(losses.draws(&options, 1, 2), losses.draws(&options, 2, 2));
    }

    #[test]
    fn an_epoch_decides_about_the_next_one_only() {
        let mut losses = ImageLosses::unknown(4);
        let draw = |number| Draw {
            number,
            weight: 1.0,
        };
        losses.learn(&[draw(2), draw(0)], &[1, 0], &[0.0, 0.0, 1000.0, 0.0]);
        assert!(losses.known.iter().all(|loss| loss.is_infinite()));
        losses.end_epoch();
        assert!((losses.known[2] - 2f32.ln()).abs() < 1e-6);
        assert_eq!(losses.known[0], 0.0);
        assert!(losses.known[1].is_infinite());
    }

    #[test]
    fn nothing_left_out_is_every_image_once() {
        let options = PruningOptions {
            left_out: 0.0,
            ..PruningOptions::default()
        };
        let draws = losses().draws(&options, 1, 0);
        assert_eq!(draws.len(), 100);
        assert!(draws.iter().all(|draw| draw.weight == 1.0));
        for (easy, left_out) in [(1.0, 0.9), (0.0, 0.5)] {
            let options = PruningOptions {
                easy,
                left_out,
                ..options
            };
            options.validate().unwrap();
            let draws = losses().draws(&options, 1, 0);
            assert_eq!(draws.len(), options.epoch_images(100));
        }
        for wrong in [1.0, -0.1, f32::NAN] {
            let options = PruningOptions {
                left_out: wrong,
                ..options
            };
            assert!(options.validate().is_err(), "{wrong}");
        }
    }
}
