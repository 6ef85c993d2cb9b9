//! The floor under `classify`: how many images a second all cores decode when they do nothing else, and how many the model takes when it
//! has them to itself.
//!
//! It prints one line of JSON. `scripts/compare/classify.sh` runs it beside whole runs. Without `--model` it only takes a look at the
//! model in the program, to see that it works.

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use catalog::default_model;
use catalog::runtime::{Need, RuntimeSettings, load};
use clap::Parser;
use mozjpeg::Decompress;
use pipeline::decode::{Limits, decode_bytes, reduced_jpeg};
use pipeline::model::{Classifier, ModelFile, SessionSettings};
use pipeline::preprocess::Colour;
use rayon::prelude::*;
use serde_json::{Value, json};
use walkdir::WalkDir;

/// Time decoding alone and the model alone
#[derive(Debug, Parser)]
struct Arguments {
    /// Model whose input is filled, and that is run
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// JPEGs to decode, as many as fit into memory
    #[arg(long, value_name = "DIR", requires = "model")]
    photos: Option<PathBuf>,
    /// Eighths of their size at which the JPEGs are decoded
    #[arg(long, value_name = "1|2|4|8", default_value_t = 8)]
    eighths: u8,
    /// Images per run of the model
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    /// Passes over the photos, and as many times 32 runs of the model; the fastest counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// What cargo hands to every benchmark and test
    #[arg(long = "bench", alias = "test", hide = true)]
    _cargo: bool,
}

/// Runs of the model in a round.
const RUNS: usize = 32;

fn main() -> Result<()> {
    let measured = measure(&Arguments::parse())?;
    // A closed stream is the reader's business.
    let _ = writeln!(std::io::stdout(), "{measured}");
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Value> {
    let (model, rounds, runs) = match &arguments.model {
        Some(path) => (ModelFile::read(path)?, arguments.rounds, RUNS),
        None => (default_model::default_model()?, 1, 1),
    };
    ensure!(rounds > 0, "--rounds must be at least 1");
    let environment = load(&RuntimeSettings::from_environment()?, Need::Inference)?.environment;
    let settings = SessionSettings {
        spinning: true,
        ..SessionSettings::on_processor(0)
    };
    let mut classifier = Classifier::load(&environment, &model, &settings)?;
    let preprocess = classifier.preprocess().clone();
    let bytes = preprocess.bytes_per_image();
    let batch: Vec<u8> = (0..arguments.batch * bytes)
        .map(|index| (index * 31 % 251) as u8)
        .collect();
    let inferred = best(rounds, arguments.batch * runs, || {
        for _ in 0..runs {
            black_box(classifier.classify(&batch, arguments.batch)?);
        }
        Ok(())
    })?;
    let Some(folder) = &arguments.photos else {
        return Ok(json!({ "inferred_per_second": inferred.round() }));
    };

    let photos = read_all(folder)?;
    let colour = preprocess.colour;
    let decoded = best(rounds, photos.len(), || {
        photos
            .par_iter()
            .try_for_each(|photo| decode(photo, arguments.eighths, colour))
    })?;
    let limits = Limits::default();
    let filled = best(rounds, photos.len(), || {
        photos.par_iter().try_for_each_init(
            || vec![0; bytes],
            |input, photo| {
                black_box(decode_bytes(photo, &preprocess, &limits, input)?);
                Ok(())
            },
        )
    })?;
    Ok(json!({
        "photos": photos.len(),
        "decoded_per_second": decoded.round(),
        "filled_per_second": filled.round(),
        "inferred_per_second": inferred.round(),
        // One after the other on the same cores.
        "floor_per_second": (1.0 / (1.0 / decoded + 1.0 / inferred)).round(),
    }))
}

/// What the decoder does for one photo: that of `classify` for fractions, libjpeg for whole pictures.
fn decode(photo: &[u8], eighths: u8, colour: Colour) -> Result<()> {
    if eighths < 8 {
        let image = reduced_jpeg(photo, eighths, colour);
        ensure!(black_box(image).is_some(), "a photo is not flawless");
        return Ok(());
    }
    let decoder = Decompress::new_mem(photo)?;
    let mut started = match colour {
        Colour::Grey => decoder.grayscale()?,
        Colour::Rgb => decoder.rgb()?,
    };
    let pixels: Vec<u8> = started.read_scanlines()?;
    black_box(pixels);
    started.finish()?;
    Ok(())
}

/// Images a second in the fastest of some rounds.
fn best(rounds: usize, images: usize, mut round: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = f64::INFINITY;
    for _ in 0..rounds {
        let started = Instant::now();
        round()?;
        seconds = seconds.min(started.elapsed().as_secs_f64());
    }
    Ok(images as f64 / seconds)
}

fn read_all(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut photos = Vec::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let path = entry.path();
            photos.push(fs::read(path).with_context(|| path.display().to_string())?);
        }
    }
    ensure!(!photos.is_empty(), "{} is empty", folder.display());
    Ok(photos)
}
