use super::*;
use crate::dataset::{PixelStore, Split};
use crate::training::augment::{AugmentSettings, ImageShape};
use crate::training::examples::LabelledImages;

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
        pixels: PixelStore::in_memory(pixels, SHAPE.len()),
        labels,
        sources: (0..images).map(|image| format!("file#{image}")).collect(),
    }
}

fn options(batch_size: usize) -> LoaderOptions {
    LoaderOptions {
        batch_size,
        prefetch: 1,
        ..LoaderOptions::default()
    }
}

fn images(split: &Split) -> LabelledImages<'_> {
    LabelledImages::new(split, SHAPE, AugmentSettings::none()).unwrap()
}

fn batches(loader: &Loader<LabelledImages<'_>>, epoch: u64) -> Vec<Batch<u8>> {
    loader.epoch(epoch, &loader.draws(epoch), 0, |batches| {
        let mut all = Vec::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            all.push(batch.clone());
        }
        all
    })
}

fn first_pixels(batches: &[Batch<u8>]) -> Vec<u8> {
    batches
        .iter()
        .flat_map(|batch| batch.inputs.chunks(6).map(|image| image[0]))
        .collect()
}

#[test]
fn every_image_comes_once_with_its_own_label() {
    let split = split(40);
    let loader = Loader::new(images(&split), 3, options(8)).unwrap();
    let batches = batches(&loader, 0);
    assert_eq!(
        batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(),
        [8; 5]
    );
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
        let loader = Loader::new(images(&split), 3, LoaderOptions { seed, ..options(8) }).unwrap();
        first_pixels(&batches(&loader, epoch))
    };
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
}

#[test]
fn a_short_last_batch_is_dropped_and_its_images_come_in_other_epochs() {
    let split = split(10);
    let loader = Loader::new(images(&split), 3, options(4)).unwrap();
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
    let loader = Loader::new(images(&split), 3, options(64)).unwrap();
    assert_eq!(
        (loader.batches_per_epoch(), loader.images_per_epoch()),
        (1, 5)
    );
    let batches = batches(&loader, 0);
    assert_eq!(
        batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(),
        [5]
    );
    assert_eq!(
        (batches[0].inputs.len(), batches[0].targets.len()),
        (5 * 6, 5 * 3)
    );
}

/// The batches of an epoch are the same from any number of threads and buffers.
fn check_threads(split: &Split, shape: ImageShape, batch_size: usize) {
    let with = |threads: usize, prefetch: usize| {
        let options = LoaderOptions {
            prefetch,
            ..options(batch_size)
        };
        let images = LabelledImages::new(split, shape, AugmentSettings::default()).unwrap();
        let loader = Loader::new(images, 3, options).unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        // Straight to `fill`, because the thread of an epoch uses the global pool, not this one.
        let draws = loader.draws(3);
        let alone: Vec<Batch<u8>> = pool.install(|| {
            draws
                .chunks(batch_size)
                .map(|draws| {
                    let mut batch = Batch::default();
                    loader.fill(3, draws, &mut batch).unwrap();
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
    let as_they_are = LabelledImages::new(split, shape, AugmentSettings::none()).unwrap();
    let plain = Loader::new(as_they_are, 3, options(batch_size)).unwrap();
    assert_ne!(expected, batches(&plain, 3), "images are augmented");
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
        pixels: PixelStore::in_memory(
            (0..count * shape.len())
                .map(|index| (index * 31 % 251) as u8)
                .collect(),
            shape.len(),
        ),
        ..split(count)
    };
    check_threads(&large, shape, batch_size);
}

#[test]
fn stopping_early_ends_the_epoch() {
    let split = split(200);
    let loader = Loader::new(images(&split), 3, options(1)).unwrap();
    for stop_after in [0, 1, 2, 5] {
        let seen = loader.epoch(0, &loader.draws(0), 0, |batches| {
            (0..stop_after)
                .filter(|_| batches.next_batch().unwrap().is_some())
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
    let loader = Loader::new(images(&split), 3, options(1)).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        loader.epoch(0, &loader.draws(0), 0, |_| panic!("stop"))
    }));
    assert!(result.is_err());
}

#[test]
fn after_the_end_there_is_nothing_more() {
    let split = split(4);
    let loader = Loader::new(images(&split), 3, options(4)).unwrap();
    loader.epoch(0, &loader.draws(0), 0, |batches| {
        assert!(batches.next_batch().unwrap().is_some());
        assert!(batches.next_batch().unwrap().is_none());
        assert!(batches.next_batch().unwrap().is_none());
    });
}

#[test]
fn buffers_are_used_again() {
    let split = split(200);
    let loader = Loader::new(images(&split), 3, options(1)).unwrap();
    loader.epoch(0, &loader.draws(0), 0, |batches| {
        let mut places = std::collections::BTreeSet::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            places.insert(batch.inputs.as_ptr() as usize);
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
        Loader::new(images(split), classes, options)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message(&Split::default(), 3, options(2)),
        "there are no images to train on"
    );
    let cut = Split {
        pixels: good.pixels.subset(&[1, 2, 3]),
        ..good.clone()
    };
    let refused = |split: &Split, augment: AugmentSettings| {
        LabelledImages::new(split, SHAPE, augment)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&cut, AugmentSettings::none()),
        "4 labels of images of 2×3×1, but 3 images of 6 bytes"
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
    assert!(refused(&good, augment).contains("vertical flip is 2"));
}

#[test]
fn draws_say_which_images_come_and_how_much_they_count() {
    let split = split(40);
    let options = LoaderOptions {
        epoch_images: Some(17),
        ..options(8)
    };
    let loader = Loader::new(images(&split), 3, options).unwrap();
    assert_eq!(
        (loader.batches_per_epoch(), loader.images_per_epoch()),
        (2, 16)
    );
    assert_eq!(loader.draws(0).len(), 16);
    let draws: Vec<Draw> = (0..17)
        .map(|number| Draw {
            number: 39 - number,
            weight: 1.0 + (number % 2) as f32,
        })
        .collect();
    loader.epoch(0, &draws, 1, |batches| {
        let batch = batches.next_batch().unwrap().unwrap();
        assert_eq!(batch.draws, draws[8..16]);
        let first: Vec<u8> = batch.inputs.chunks(6).map(|image| image[0]).collect();
        assert_eq!(first, [31, 30, 29, 28, 27, 26, 25, 24]);
        let sums: Vec<f32> = batch
            .targets
            .chunks(3)
            .map(|row| row.iter().sum())
            .collect();
        assert_eq!(sums, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert!(
            batches.next_batch().unwrap().is_none(),
            "the last draw is less than a batch"
        );
    });
}
