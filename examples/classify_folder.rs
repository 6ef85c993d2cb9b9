//! Labels every image of a folder from Rust code, with the model that is part of the program:
//!
//! ```text
//! cargo run --example classify_folder -- FOLDER labels.csv [MODEL.onnx]
//! ```
//!
//! ONNX Runtime is found, or fetched on first use, as the program itself does it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use catalog::default_model::default_model;
use catalog::runtime::{self, Need, RuntimeSettings};
use pipeline::classify::{self, Destination, Inputs, Naming, Settings};
use pipeline::model::{Classifier, ModelFile, SessionSettings};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: classify_folder FOLDER LABELS.csv [MODEL.onnx]";
    let folder = arguments.next().context(usage)?;
    let output = arguments.next().context(usage)?;
    let model = match arguments.next() {
        Some(path) => ModelFile::read(&path)?,
        None => default_model()?,
    };
    label(&folder, &output, &model)
}

fn label(folder: &Path, output: &Path, model: &ModelFile) -> Result<()> {
    // One library for the whole process; every session is made in its environment.
    let runtime = runtime::load(&RuntimeSettings::from_environment()?, Need::Inference)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let session = SessionSettings::on_processor(cores);
    // This runs the self-test that the model carries.
    let mut classifiers = [Classifier::load(&runtime.environment, model, &session)?];

    let inputs = Inputs::new(&[folder.to_owned()], Naming::AsGiven)?;
    let settings = Settings {
        jobs: cores,
        ..Settings::new(inputs, Destination::File(output.to_owned()))
    };
    // Set it from anywhere, such as a signal handler, to end the run early.
    let stop = AtomicBool::new(false);
    let finished = classify::run(&mut classifiers, &settings, &stop, |_event| {})?;
    let summary = finished.summary.clone();
    // Until here nothing is at `output` but what was there before.
    finished.publish()?;

    let mut stdout = std::io::stdout().lock();
    for class in summary.classes.iter().filter(|class| class.count > 0) {
        writeln!(stdout, "{:>8}  {}", class.count, class.label)?;
    }
    writeln!(stdout, "{:>8}  files found", summary.found)?;
    Ok(())
}
