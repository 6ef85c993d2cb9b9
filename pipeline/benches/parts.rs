//! What one image costs in each stage before and behind the model: from the bytes of a file to a row of the input, and from a label to a
//! line of CSV.

use std::hint::black_box;
use std::io::Cursor;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{ImageFormat, Rgb, RgbImage};
use mozjpeg::Decompress;
use pipeline::classify::{Candidate, Columns, CsvOutput, Origin, Outcome, Row, Ruling, Source};
use pipeline::decode::{Limits, Stamp, decode_bytes, reduced_jpeg};
use pipeline::preprocess::{Colour, Preprocess};

/// Pixels with detail, so that compression has something to do: a bright object with stripes on a ground with a gradient.
fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let inside = x.abs_diff(width / 2) < width / 4 && y.abs_diff(height / 2) < height / 3;
        let grain = (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)) % 13;
        let level = match inside {
            true => 90 + (x / 6 % 2) * 60 + grain,
            false => 200 + 40 * y / height + grain / 3,
        };
        Rgb([level as u8, (level - level / 5) as u8, (level / 2) as u8])
    })
}

fn file(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    photo(width, height)
        .write_to(&mut bytes, format)
        .unwrap_or_else(|error| panic!("{format:?}: {error}"));
    bytes.into_inner()
}

fn fill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("file to input");
    group.throughput(Throughput::Elements(1));
    let grey = Preprocess::stretch(28, 28, Colour::Grey);
    let rgb = Preprocess::stretch(224, 224, Colour::Rgb);
    let whole = Preprocess {
        reduced_jpeg: false,
        ..grey.clone()
    };
    let trimmed = Preprocess::fashion_mnist(28, 28, Colour::Grey);
    let (small, large) = ((400, 533), (2000, 3000));
    for (name, (width, height), format, preprocess) in [
        (
            "JPEG 400×533 to 28×28 grey",
            small,
            ImageFormat::Jpeg,
            &grey,
        ),
        ("the same, decoded whole", small, ImageFormat::Jpeg, &whole),
        (
            "the same, trimmed and sharpened",
            small,
            ImageFormat::Jpeg,
            &trimmed,
        ),
        (
            "JPEG 400×533 to 224×224 RGB",
            small,
            ImageFormat::Jpeg,
            &rgb,
        ),
        (
            "JPEG 2000×3000 to 28×28 grey",
            large,
            ImageFormat::Jpeg,
            &grey,
        ),
        (
            "JPEG 2000×3000 to 224×224 RGB",
            large,
            ImageFormat::Jpeg,
            &rgb,
        ),
        ("PNG 400×533 to 28×28 grey", small, ImageFormat::Png, &grey),
        // Hardly anything to decode: the rest is conversion and resizing.
        ("BMP 400×533 to 28×28 grey", small, ImageFormat::Bmp, &grey),
        ("BMP 400×533 to 224×224 RGB", small, ImageFormat::Bmp, &rgb),
        (
            "PNG of the model's own 28×28",
            (28, 28),
            ImageFormat::Png,
            &grey,
        ),
    ] {
        let bytes = file(width, height, format);
        let mut input = vec![0; preprocess.bytes_per_image()];
        let limits = Limits::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let decoded = decode_bytes(black_box(&bytes), preprocess, &limits, &mut input);
                assert!(black_box(decoded).is_ok());
            });
        });
    }
    group.finish();
}

/// What is behind the header of a JPEG at a fraction of its size, by the program's own decoder and by libjpeg.
fn fractions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("JPEG at a fraction");
    let bytes = file(2000, 3000, ImageFormat::Jpeg);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for (eighths, colour) in [
        (1, Colour::Grey),
        (2, Colour::Grey),
        (1, Colour::Rgb),
        (2, Colour::Rgb),
    ] {
        group.bench_function(format!("{eighths}/8, {colour:?}"), |bencher| {
            bencher.iter(|| assert!(reduced_jpeg(black_box(&bytes), eighths, colour).is_some()));
        });
        group.bench_function(format!("{eighths}/8, {colour:?}, libjpeg"), |bencher| {
            bencher.iter(|| assert!(by_libjpeg(black_box(&bytes), eighths, colour).is_ok()));
        });
    }
    group.finish();
}

fn by_libjpeg(bytes: &[u8], eighths: u8, colour: Colour) -> std::io::Result<Vec<u8>> {
    let mut decoder = Decompress::new_mem(bytes)?;
    decoder.scale(eighths);
    let mut started = match colour {
        Colour::Grey => decoder.grayscale()?,
        Colour::Rgb => decoder.rgb()?,
    };
    started.read_scanlines()
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(1));
    let labels: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    for top_k in [1, 5] {
        let path = PathBuf::from("2026/11/shoes/0a69db60-c052-4b9a-a90d-e53120d091d5.jpg");
        let best = (0..top_k)
            .map(|class| Candidate {
                class,
                confidence: 0.9 / (class + 1) as f32,
            })
            .collect();
        let row = Row {
            source: Source {
                shown: path.clone(),
                path,
            },
            stamp: Stamp::default(),
            content: None,
            outcome: Outcome::Labelled {
                best,
                above: vec![],
                familiarity: 0.0,
                damage: None,
            },
            origin: Origin::ThisRun,
        };
        let columns = Columns {
            labels: &labels,
            top_k,
            decision: false,
            taxonomy: None,
        };
        let mut output = CsvOutput::new(std::io::sink(), columns)
            .unwrap_or_else(|error| panic!("header: {error}"));
        group.bench_function(format!("CSV, {top_k} classes"), |bencher| {
            bencher.iter(|| assert!(output.write(black_box(&row), Ruling::default()).is_ok()));
        });
    }
    group.finish();
}

criterion_group!(benches, fill, fractions, rows);
criterion_main!(benches);
