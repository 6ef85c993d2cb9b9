//! From a point of the unit cube to the options of a training.

use crate::artifacts::{Optimizer, OptimizerOptions};
use crate::network::{Architecture, ResnetOptions, SeedOptions, VggOptions};
use crate::training::options::TrainOptions;
use crate::training::schedule::Schedule;

use super::points::Point;
use super::space::{NetworkKind, OptimizerKind, ScheduleKind, Space};

/// Vector kernels work on so many filters at once; other numbers cost as much as the next multiple.
const FILTER_STEP: usize = 16;
/// Learning rates of the space belong to this batch size.
const REFERENCE_BATCH: f64 = 128.0;
/// An epoch of fewer steps than that learns little: batches are halved until there are as many.
const STEPS_PER_EPOCH: usize = 8;
/// No batch is made smaller than that.
const SMALLEST_BATCH: usize = 8;
/// Shift at the strongest augmentation, as a share of the side: 3 pixels of 28.
const STRONGEST_SHIFT: f64 = 0.107;
/// Probability of random erasing at the strongest augmentation.
const STRONGEST_ERASING: f64 = 0.4;

/// What a point of the cube is turned into options with.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Kinds of network to choose from; not empty.
    pub networks: &'a [NetworkKind],
    /// Everything that the space does not vary.
    pub base: &'a TrainOptions,
    /// Images to learn from.
    pub train_images: usize,
}

impl Space {
    /// Options at a point. A space that [`Space::validate`] accepts gives options that train.
    pub fn options(&self, point: &Point, setting: &Setting<'_>) -> TrainOptions {
        // The order is that of importance: quasi-random points spread best over the first axes.
        let [
            learning_rate,
            depth,
            width,
            growth,
            optimizer,
            batch_norm,
            weight_decay,
            augmentation,
            epochs,
            kind,
            batch_size,
            dropout,
            units,
            flip,
            schedule,
            label_smoothing,
            layers,
        ] = *point;
        let kind = pick(setting.networks, kind).unwrap_or(NetworkKind::Resnet);
        let architecture = self.architecture(
            kind,
            &Shape {
                depth,
                width,
                growth,
                batch_norm,
                dropout,
                units,
                layers,
            },
        );
        let batch_size = batch_for(
            pick(&self.batch_size, batch_size).unwrap_or(128),
            setting.train_images,
        );
        let relative = batch_size as f64 / REFERENCE_BATCH;
        let (optimizer, rates, factor) = match pick(&self.optimizer, optimizer) {
            Some(OptimizerKind::Adamw) => (Optimizer::adamw(), &self.adamw, relative.sqrt()),
            Some(OptimizerKind::Sgd) | None => {
                (Optimizer::Sgd { momentum: 0.9 }, &self.sgd, relative)
            }
        };
        let peak = short(logarithmic(rates.learning_rate, learning_rate) * factor);
        let strength = linear(self.augmentation, augmentation);
        let mut options = TrainOptions {
            architecture,
            epochs: whole(self.epochs, epochs),
            batch_size,
            schedule: match pick(&self.schedule, schedule) {
                Some(ScheduleKind::Cosine) => Schedule::cosine(peak),
                Some(ScheduleKind::OneCycle) | None => Schedule::one_cycle(peak),
            },
            optimizer: OptimizerOptions {
                optimizer,
                weight_decay: short(logarithmic(rates.weight_decay, weight_decay)),
                ..setting.base.optimizer.clone()
            },
            label_smoothing: hundredths(linear(self.label_smoothing, label_smoothing)),
            ..setting.base.clone()
        };
        let shift = short(strength * STRONGEST_SHIFT);
        options.augment.shift_x = shift;
        options.augment.shift_y = shift;
        options.augment.erasing.probability = hundredths(strength * STRONGEST_ERASING);
        options.augment.horizontal_flip = pick(&self.horizontal_flip, flip).unwrap_or(0.5) as f32;
        options
    }

    fn architecture(&self, kind: NetworkKind, shape: &Shape) -> Architecture {
        match kind {
            NetworkKind::Seed => {
                let space = &self.seed;
                let units = to_multiple(
                    logarithmic_count(space.dense_units, shape.units),
                    space.dense_units,
                );
                Architecture::Seed(SeedOptions {
                    filters: shape.widths(whole(space.convolutions, shape.depth), space.filters),
                    dense_units: vec![units; whole(space.dense_layers, shape.layers)],
                    dropout: hundredths(linear(space.dropout, shape.dropout)),
                    batch_norm: pick(&space.batch_norm, shape.batch_norm).unwrap_or(true),
                })
            }
            NetworkKind::Resnet => {
                let space = &self.resnet;
                let widths = shape.widths(whole(space.stages, shape.depth), space.filters);
                Architecture::Resnet(ResnetOptions {
                    // The stem works at full size, where filters are dearest.
                    stem: widths.first().map_or(FILTER_STEP, |&first| first.min(32)),
                    widths,
                    first_stride: 2,
                    blocks: whole(space.blocks, shape.layers),
                    dropout: hundredths(linear(space.dropout, shape.dropout)),
                })
            }
            NetworkKind::Vgg => {
                let space = &self.vgg;
                let convolutions = whole(space.convolutions, shape.layers);
                Architecture::Vgg(VggOptions {
                    stages: shape
                        .widths(whole(space.stages, shape.depth), space.filters)
                        .into_iter()
                        .map(|filters| vec![filters; convolutions])
                        .collect(),
                    batch_norm: pick(&space.batch_norm, shape.batch_norm).unwrap_or(true),
                    dropout: hundredths(linear(space.dropout, shape.dropout)),
                })
            }
        }
    }
}

/// The axes that make a network, each from 0 to below 1.
struct Shape {
    depth: f64,
    width: f64,
    growth: f64,
    batch_norm: f64,
    dropout: f64,
    units: f64,
    layers: f64,
}

impl Shape {
    /// Filters of each of `layers`: the first within the lower half of the range on a logarithmic scale, each further one up to
    /// twice as many as the one before, as networks that halve the image are shaped.
    fn widths(&self, layers: usize, [low, high]: [usize; 2]) -> Vec<usize> {
        let middle = ((low as f64) * (high as f64))
            .sqrt()
            .max((low as f64 * 4.0).min(high as f64));
        let first = logarithmic([low as f64, middle], self.width);
        (0..layers)
            .map(|layer| {
                let filters = first * (1.0 + self.growth).powi(layer as i32);
                to_multiple(filters.min(high as f64), [low, high])
            })
            .collect()
    }
}

/// Halves a batch until the images make enough steps.
fn batch_for(wanted: usize, train_images: usize) -> usize {
    let mut batch = wanted;
    while batch > SMALLEST_BATCH && batch * STEPS_PER_EPOCH > train_images {
        batch /= 2;
    }
    batch.max(2)
}

fn linear([low, high]: [f64; 2], place: f64) -> f64 {
    low + (high - low) * place
}

fn logarithmic([low, high]: [f64; 2], place: f64) -> f64 {
    low * (high / low).powf(place)
}

fn logarithmic_count([low, high]: [usize; 2], place: f64) -> f64 {
    logarithmic([low as f64, high as f64], place)
}

/// Each number of the range as likely as the others.
fn whole([low, high]: [usize; 2], place: f64) -> usize {
    (low + ((high - low + 1) as f64 * place) as usize).min(high)
}

fn to_multiple(value: f64, [low, high]: [usize; 2]) -> usize {
    let steps = (value / FILTER_STEP as f64).round() as usize;
    (steps * FILTER_STEP).clamp(low, high)
}

fn pick<T: Copy>(choices: &[T], place: f64) -> Option<T> {
    let index = (choices.len() as f64 * place) as usize;
    choices.get(index).or(choices.last()).copied()
}

/// Two significant digits: nobody can tell 0.0213 from 0.021, and a reader is glad.
fn short(value: f64) -> f32 {
    format!("{value:.1e}").parse().unwrap_or(value as f32)
}

fn hundredths(value: f64) -> f32 {
    (value * 100.0).round() as f32 / 100.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::{self, Task};
    use crate::tune::points::DIMENSIONS;

    fn task(side: usize) -> Task {
        Task {
            height: side,
            width: side,
            channels: 1,
            classes: 10,
            mean: vec![0.0],
            deviation: vec![1.0],
        }
    }

    proptest! {
        #[test]
        fn every_point_gives_options_that_are_valid_and_build(
            coordinates in prop::collection::vec(0.0..1.0_f64, DIMENSIONS),
            train_images in 4usize..100_000,
            side in 4usize..65,
        ) {
            let point: Point = coordinates.try_into().unwrap();
            let base = TrainOptions::default();
            for kind in NetworkKind::ALL {
                let setting = Setting { networks: &[kind], base: &base, train_images };
                let options = Space::default().options(&point, &setting);
                prop_assert!(options.validate().is_ok(), "{options:?}");
                prop_assert!(network::build(&options.architecture, &task(side)).is_ok(), "{options:?}");
                prop_assert_eq!(&options, &Space::default().options(&point, &setting));
                let json = serde_json::to_string(&options).unwrap();
                prop_assert_eq!(serde_json::from_str::<TrainOptions>(&json).unwrap(), options);
            }
        }
    }

    #[test]
    fn the_corners_are_the_ends_of_the_ranges() {
        let base = TrainOptions::default();
        let setting = Setting {
            networks: &[NetworkKind::Seed],
            base: &base,
            train_images: 48_000,
        };
        let space = Space::default();
        let low = space.options(&[0.0; DIMENSIONS], &setting);
        let high = space.options(&[1.0 - 1e-9; DIMENSIONS], &setting);
        assert_eq!((low.epochs, high.epochs), (9, 27));
        assert_eq!((low.batch_size, high.batch_size), (64, 256));
        assert_eq!(low.schedule.peak(), 0.01, "0.02 for 128 images");
        assert_eq!(high.schedule.peak(), 0.014, "0.01 for 128 images");
        assert_eq!(high.augment.shift_x, 0.11);
        let (Architecture::Seed(low), Architecture::Seed(high)) =
            (low.architecture, high.architecture)
        else {
            panic!("another network");
        };
        assert_eq!(low.filters, [16]);
        assert_eq!(high.filters, [64, 128, 128, 128]);
        assert_eq!(
            (low.dense_units, high.dense_units),
            (vec![], vec![512, 512])
        );
    }

    #[test]
    fn small_data_gets_small_batches() {
        assert_eq!(batch_for(256, 48_000), 256);
        assert_eq!(batch_for(128, 512), 64);
        assert_eq!(batch_for(128, 10), 8);
    }
}
