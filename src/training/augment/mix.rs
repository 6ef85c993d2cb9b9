//! Mixing of two images of a batch, and of their targets: mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019).

use anyhow::{Result, ensure};
use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use super::ImageShape;

/// How pairs of images are mixed. Fields left out of a file have their default, which is no mixing.
///
/// Image `i` of a batch of N meets image `N − 1 − i`, and each pair has a share λ of its own. Where both kinds are on, each pair is mixed
/// by one of them, as likely by the one as by the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixSettings {
    /// Mixup: pixels are `λ a + (1 − λ) b` with λ from Beta(α, α). This is α; 0 for none.
    pub mixup_alpha: f32,
    /// CutMix: a rectangle of the image comes from the other one, with λ from Beta(α, α) the share that stays. This is α; 0 for none.
    pub cutmix_alpha: f32,
    /// Probability that a pair is mixed at all. Default 1.
    pub probability: f32,
}

impl Default for MixSettings {
    fn default() -> Self {
        Self {
            mixup_alpha: 0.0,
            cutmix_alpha: 0.0,
            probability: 1.0,
        }
    }
}

impl MixSettings {
    /// Whether anything is mixed.
    pub fn is_on(&self) -> bool {
        (self.mixup_alpha > 0.0 || self.cutmix_alpha > 0.0) && self.probability > 0.0
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// Names the first number that is not, and its range.
    pub fn validate(&self) -> Result<()> {
        for (name, value, highest) in [
            ("α of mixup", self.mixup_alpha, 100.0),
            ("α of CutMix", self.cutmix_alpha, 100.0),
            ("probability of mixing", self.probability, 1.0),
        ] {
            ensure!(
                (0.0..=highest).contains(&value),
                "the {name} is {value}, expected 0 to {highest}"
            );
        }
        Ok(())
    }
}

/// Mixes the pairs of a batch: pixels `[N, H, W, C]` and targets `[N, K]`.
pub(crate) fn mix(
    images: &mut [u8],
    targets: &mut [f32],
    shape: ImageShape,
    classes: usize,
    settings: &MixSettings,
    rng: &mut impl Rng,
) {
    let pairs = images.len() / shape.len() / 2;
    let (front_images, back_images) = images.split_at_mut(pairs * shape.len());
    let (front_targets, back_targets) = targets.split_at_mut(pairs * classes);
    let images = front_images
        .chunks_exact_mut(shape.len())
        .zip(back_images.rchunks_exact_mut(shape.len()));
    let targets = front_targets
        .chunks_exact_mut(classes)
        .zip(back_targets.rchunks_exact_mut(classes));
    for ((a, b), (a_target, b_target)) in images.zip(targets) {
        if !rng.random_bool(f64::from(settings.probability)) {
            continue;
        }
        let share = match draw_kind(settings, rng) {
            Kind::Mixup { alpha } => {
                let share = draw_share(alpha, rng);
                blend(a, b, share);
                share
            }
            Kind::CutMix { alpha } => {
                let share = draw_share(alpha, rng);
                exchange_rectangle(a, b, shape, share, rng)
            }
        };
        for (a, b) in a_target.iter_mut().zip(b_target) {
            (*a, *b) = (
                share * *a + (1.0 - share) * *b,
                share * *b + (1.0 - share) * *a,
            );
        }
    }
}

enum Kind {
    Mixup { alpha: f32 },
    CutMix { alpha: f32 },
}

fn draw_kind(settings: &MixSettings, rng: &mut impl Rng) -> Kind {
    let mixup = Kind::Mixup {
        alpha: settings.mixup_alpha,
    };
    let cutmix = Kind::CutMix {
        alpha: settings.cutmix_alpha,
    };
    match (settings.mixup_alpha > 0.0, settings.cutmix_alpha > 0.0) {
        (true, false) => mixup,
        (false, _) => cutmix,
        (true, true) if rng.random_bool(0.5) => mixup,
        (true, true) => cutmix,
    }
}

/// λ from Beta(α, α).
fn draw_share(alpha: f32, rng: &mut impl Rng) -> f32 {
    // Only an α that is not positive has no distribution.
    Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(rng))
}

/// `a ← λ a + (1 − λ) b` and `b ← λ b + (1 − λ) a`, in 256ths.
fn blend(a: &mut [u8], b: &mut [u8], share: f32) {
    let share = (share * 256.0).round() as u32;
    let mixed = |own: u8, other: u8| {
        ((share * u32::from(own) + (256 - share) * u32::from(other) + 128) >> 8) as u8
    };
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (mixed(*a, *b), mixed(*b, *a));
    }
}

/// Exchanges a rectangle of `1 − share` of the area around a random point; what reaches beyond the border is cut off. Returns the
/// share that stayed.
fn exchange_rectangle(
    a: &mut [u8],
    b: &mut [u8],
    shape: ImageShape,
    share: f32,
    rng: &mut impl Rng,
) -> f32 {
    let side = (1.0 - share).max(0.0).sqrt();
    let mut extent = |size: usize| {
        let length = (side * size as f32).round() as usize;
        let centre = rng.random_range(0..size);
        let start = centre.saturating_sub(length / 2);
        let end = (centre + length.div_ceil(2)).min(size);
        start..end
    };
    let (rows, columns) = (extent(shape.height), extent(shape.width));
    let exchanged = rows.len() * columns.len();
    for row in rows {
        let start = (row * shape.width + columns.start) * shape.channels;
        let end = start + columns.len() * shape.channels;
        a[start..end].swap_with_slice(&mut b[start..end]);
    }
    1.0 - exchanged as f32 / (shape.height * shape.width) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::augment::image_rng;

    const SHAPE: ImageShape = ImageShape {
        height: 10,
        width: 20,
        channels: 3,
    };
    const CLASSES: usize = 3;

    /// A batch whose image `i` holds `values[i]` everywhere and whose target is the one-hot row of `i % CLASSES`.
    fn batch(values: &[u8]) -> (Vec<u8>, Vec<f32>) {
        let images = values
            .iter()
            .flat_map(|&value| vec![value; SHAPE.len()])
            .collect();
        let targets = (0..values.len())
            .flat_map(|image| {
                (0..CLASSES).map(move |class| f32::from(u8::from(class == image % CLASSES)))
            })
            .collect();
        (images, targets)
    }

    fn mixed(values: &[u8], settings: &MixSettings, seed: u64) -> (Vec<u8>, Vec<f32>) {
        let (mut images, mut targets) = batch(values);
        let mut rng = image_rng(seed, 0, 0);
        mix(
            &mut images,
            &mut targets,
            SHAPE,
            CLASSES,
            settings,
            &mut rng,
        );
        (images, targets)
    }

    #[test]
    fn pixels_and_targets_are_mixed_by_the_same_share() {
        let mixup = MixSettings {
            mixup_alpha: 1.0,
            ..MixSettings::default()
        };
        let cutmix = MixSettings {
            cutmix_alpha: 1.0,
            ..MixSettings::default()
        };
        let mut different = 0;
        for seed in 0..200 {
            for settings in [mixup, cutmix] {
                // White meets black, so the mean pixel is the share that stayed; the middle image meets nobody.
                let (images, targets) = mixed(&[255, 100, 0], &settings, seed);
                let mean = |image: usize| {
                    let pixels = &images[image * SHAPE.len()..][..SHAPE.len()];
                    pixels.iter().map(|&value| f32::from(value)).sum::<f32>()
                        / (255.0 * SHAPE.len() as f32)
                };
                let share = targets[0];
                assert!((mean(0) - share).abs() < 0.005, "{} {share}", mean(0));
                assert!((mean(2) - (1.0 - share)).abs() < 0.005);
                assert!((targets[2] - (1.0 - share)).abs() < 1e-6);
                assert!((targets[8] - share).abs() < 1e-6);
                assert_eq!(&targets[3..6], [0.0, 1.0, 0.0]);
                assert!(
                    images[SHAPE.len()..][..SHAPE.len()]
                        .iter()
                        .all(|&v| v == 100)
                );
                different += usize::from(share > 0.01 && share < 0.99);
            }
        }
        assert!(different > 300, "{different}");
    }

    #[test]
    fn shares_follow_the_distribution() {
        let count = 4000;
        let mean_distance = |alpha: f32| {
            let mut rng = image_rng(1, 0, 0);
            let distances = (0..count).map(|_| (draw_share(alpha, &mut rng) - 0.5).abs());
            distances.sum::<f32>() / count as f32
        };
        // Uniform shares are a quarter away from the middle on average.
        assert!((mean_distance(1.0) - 0.25).abs() < 0.01);
        assert!(mean_distance(0.2) > 0.35);
        assert!(mean_distance(20.0) < 0.08);
    }

    #[test]
    fn both_kinds_take_turns_and_a_probability_leaves_pairs_alone() {
        let both = MixSettings {
            mixup_alpha: 1.0,
            cutmix_alpha: 1.0,
            probability: 0.5,
        };
        let (mut blended, mut cut, mut alone) = (0, 0, 0);
        for seed in 0..400 {
            let (images, targets) = mixed(&[255, 0], &both, seed);
            match () {
                () if targets[0] == 1.0 => alone += 1,
                () if images.iter().all(|&value| value == 0 || value == 255) => cut += 1,
                () => blended += 1,
            }
        }
        assert!(
            blended > 60 && cut > 60 && alone > 150,
            "{blended} {cut} {alone}"
        );
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let message = |settings: MixSettings| settings.validate().unwrap_err().to_string();
        let none = MixSettings::default();
        assert!(!none.is_on());
        none.validate().unwrap();
        assert_eq!(
            message(MixSettings {
                mixup_alpha: -1.0,
                ..none
            }),
            "the α of mixup is -1, expected 0 to 100"
        );
        assert!(
            message(MixSettings {
                probability: 2.0,
                ..none
            })
            .contains("probability of mixing is 2")
        );
    }
}
