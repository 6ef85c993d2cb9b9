//! What is done to a batch before it is trained on: augmentation, targets, and whole epochs of the loader.

use std::hint::black_box;
use std::time::Duration;

use catalog::dataset::{PixelStore, Split};
use catalog::training::augment::{AugmentSettings, Erasing, ImageShape, augment, image_rng};
use catalog::training::examples::LabelledImages;
use catalog::training::loader::{Loader, LoaderOptions, write_targets};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHAPE: ImageShape = ImageShape {
    height: 28,
    width: 28,
    channels: 1,
};
const BATCH: usize = 128;
const BATCHES: usize = 64;
const CLASSES: u32 = 10;

/// Random images with random labels.
fn split() -> Split {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let count = BATCH * BATCHES;
    let mut pixels = vec![0; count * SHAPE.len()];
    random.fill_bytes(&mut pixels);
    Split {
        pixels: PixelStore::in_memory(pixels, SHAPE.len()),
        labels: (0..count)
            .map(|_| random.random_range(0..CLASSES))
            .collect(),
        sources: vec![String::new(); count],
    }
}

/// Everything on: each pixel is interpolated, and every other image loses a rectangle.
fn strong() -> AugmentSettings {
    AugmentSettings {
        rotation_degrees: 10.0,
        zoom: [0.9, 1.1],
        erasing: Erasing {
            probability: 0.5,
            ..Erasing::default()
        },
        ..AugmentSettings::default()
    }
}

fn augmentation(criterion: &mut Criterion) {
    let split = split();
    let mut group = criterion.benchmark_group("augment a batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, settings) in [
        ("none", AugmentSettings::none()),
        ("default", AugmentSettings::default()),
        ("strong", strong()),
    ] {
        let mut out = vec![0; BATCH * SHAPE.len()];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let images = split.pixels.images().map(Result::unwrap);
                for (index, (image, out)) in
                    images.zip(out.chunks_exact_mut(SHAPE.len())).enumerate()
                {
                    let mut rng = image_rng(1, 1, index as u64);
                    augment(&image, SHAPE, &settings, &mut rng, out);
                }
                black_box(&out);
            });
        });
    }
}

fn targets(criterion: &mut Criterion) {
    let split = split();
    let mut out = Vec::new();
    criterion.bench_function("targets of a batch", |bencher| {
        bencher.iter(|| {
            write_targets(
                black_box(&split.labels[..BATCH]),
                CLASSES as usize,
                0.05,
                None,
                &mut out,
            );
            black_box(&out);
        });
    });
}

/// Time from the first batch to the last when nobody trains: what the loader can deliver, its thread and channels included.
fn epoch(criterion: &mut Criterion) {
    let split = split();
    let options = LoaderOptions {
        batch_size: BATCH,
        label_smoothing: 0.05,
        ..LoaderOptions::default()
    };
    #[expect(clippy::expect_used, reason = "a benchmark of options that are right")]
    let images = LabelledImages::new(&split, SHAPE, AugmentSettings::default()).expect("options");
    #[expect(clippy::expect_used, reason = "a benchmark of options that are right")]
    let loader = Loader::new(images, CLASSES as usize, options).expect("options");
    let mut group = criterion.benchmark_group("loader");
    group.throughput(Throughput::Elements((BATCH * BATCHES) as u64));
    group.measurement_time(Duration::from_secs(5));
    group.bench_function(format!("epoch of {BATCHES} batches"), |bencher| {
        bencher.iter(|| {
            loader.epoch(1, &loader.draws(1), 0, |batches| {
                while let Ok(Some(batch)) = batches.next_batch() {
                    black_box(batch);
                }
            });
        });
    });
}

criterion_group!(benches, augmentation, targets, epoch);
criterion_main!(benches);
