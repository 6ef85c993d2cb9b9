//! Time of one training step, without data set, loader or validation: random images, a session, some steps.
//!
//! It prints one line of JSON. `scripts/compare/step.sh` runs it in turn with the same step in PyTorch. Without `--architecture`
//! it only takes one step, to see that it works.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use catalog::artifacts::{self, Optimizer, OptimizerOptions};
use catalog::network::{self, Architecture, ResnetOptions, SeedOptions, Task, VggOptions};
use catalog::runtime::{Need, RuntimeSettings, load};
use catalog::training::formulation::{FormulationChoice, choose};
use catalog::training::loader::write_targets;
use catalog::training::session::{Compute, TrainingSession};
use clap::Parser;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Batches that are made beforehand and used in turn.
const BATCHES: usize = 4;
const CLASSES: usize = 10;
const LABEL_SMOOTHING: f32 = 0.05;
const LEARNING_RATE: f32 = 0.01;

/// Time training steps on random images
#[derive(Debug, Parser)]
struct Arguments {
    /// `seed`, `seed-bn`, `resnet`, `vgg`, `vgg-bn`, or JSON as in an options.json; without it one step is taken
    #[arg(long, value_name = "NAME|JSON")]
    architecture: Option<String>,
    /// Height and width of the images
    #[arg(long, value_name = "PIXELS", default_value_t = 28)]
    side: usize,
    /// Channels of the images
    #[arg(long, value_name = "N", default_value_t = 1)]
    channels: usize,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch: usize,
    /// `auto`, `portable`, `mixed` or `blocked`
    #[arg(long, value_name = "NAME", default_value = "auto")]
    formulation: String,
    /// Threads of ONNX Runtime; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Steps before the clock runs
    #[arg(long, value_name = "N", default_value_t = 5)]
    warmup: usize,
    /// Timed steps
    #[arg(long, value_name = "N", default_value_t = 30)]
    steps: usize,
    /// Let idle threads of ONNX Runtime spin
    #[arg(long)]
    spinning: bool,
    /// Write ONNX Runtime's profile of all steps, for scripts/compare/profile_step.py; it makes the steps slower
    #[arg(long, value_name = "FILE.json")]
    profile: Option<PathBuf>,
    /// What cargo hands to every benchmark and test
    #[arg(long = "bench", alias = "test", hide = true)]
    _cargo: bool,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    let name = match arguments.architecture.take() {
        Some(name) => name,
        None => {
            (arguments.batch, arguments.warmup, arguments.steps) = (8, 0, 1);
            "seed".to_owned()
        }
    };
    let measured = measure(&arguments, &name)?;
    // A closed stream is the reader's business.
    let _ = writeln!(std::io::stdout(), "{measured}");
    Ok(())
}

fn measure(arguments: &Arguments, name: &str) -> Result<Value> {
    ensure!(
        arguments.steps > 0 && arguments.batch > 0,
        "--steps and --batch must be at least 1"
    );
    let architecture = architecture(name)?;
    let choice: FormulationChoice =
        serde_json::from_value(json!(arguments.formulation)).context("--formulation")?;
    let task = Task {
        height: arguments.side,
        width: arguments.side,
        channels: arguments.channels,
        classes: CLASSES,
        // Of uniformly random bytes.
        mean: vec![127.5; arguments.channels],
        deviation: vec![73.9; arguments.channels],
    };
    let optimizer = OptimizerOptions {
        optimizer: Optimizer::Sgd { momentum: 0.9 },
        weight_decay: 5e-4,
        clip_norm: None,
    };
    let environment = load(&RuntimeSettings::from_environment()?, Need::Training)?.environment;
    let network = network::build(&architecture, &task)?;
    let chosen = choose(choice, &network.graph, (&environment).into())?;
    let artifacts = artifacts::build(&network, &optimizer, chosen.formulation, 1)?;
    // ONNX Runtime adds the time to the name; the profile gets its own name when it is complete.
    let profiles = match &arguments.profile {
        Some(_) => Some(tempfile::tempdir()?),
        None => None,
    };
    let mut session = TrainingSession::new(
        &environment,
        &artifacts,
        optimizer.optimizer.clone(),
        &[task.height, task.width, task.channels],
        task.classes,
        Compute {
            threads: arguments.threads,
            seed: 1,
            spinning: arguments.spinning,
            profile: profiles.as_ref().map(|folder| folder.path().join("step")),
        },
    )?;

    let batches = random_batches(&task, arguments.batch);
    let mut batches = batches.iter().cycle();
    let mut step = || -> Result<(f64, f32)> {
        let (images, targets) = batches.next().context("there are no batches")?;
        let started = Instant::now();
        let loss = session.step(images, targets, LEARNING_RATE)?.loss;
        Ok((started.elapsed().as_secs_f64() * 1e3, loss))
    };
    let mut losses = Vec::new();
    for _ in 0..arguments.warmup {
        losses.push(step()?.1);
    }
    let mut milliseconds = Vec::new();
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    for _ in 0..arguments.steps {
        let (time, loss) = step()?;
        milliseconds.push(time);
        losses.push(loss);
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds().zip(cpu_before);
    drop(session);
    if let (Some(folder), Some(path)) = (profiles, &arguments.profile) {
        save_profile(folder.path(), path)?;
    }

    let steps = arguments.steps as f64;
    milliseconds.sort_by(f64::total_cmp);
    let median =
        (milliseconds[(arguments.steps - 1) / 2] + milliseconds[arguments.steps / 2]) / 2.0;
    Ok(json!({
        "network": name,
        "formulation": chosen.description,
        "batch": arguments.batch,
        "warmup": arguments.warmup,
        "steps": arguments.steps,
        "spinning": arguments.spinning,
        "median_ms": rounded(median),
        "min_ms": milliseconds.first().copied().map(rounded),
        "mean_ms": rounded(seconds * 1e3 / steps),
        "cpu_seconds_per_step": cpu.map(|(after, before)| rounded((after - before) / steps)),
        "images_per_second": (arguments.batch as f64 / median * 1e3).round(),
        "first_loss": losses.first(),
        "last_loss": losses.last(),
        // All that another program needs to do the same.
        "setup": {
            "architecture": architecture,
            "task": task,
            "optimizer": optimizer,
            "learning_rate": LEARNING_RATE,
            "label_smoothing": LABEL_SMOOTHING,
            "batch": arguments.batch,
            "batches": BATCHES,
        },
    }))
}

fn architecture(name: &str) -> Result<Architecture> {
    let seed = |batch_norm| {
        Architecture::Seed(SeedOptions {
            batch_norm,
            ..SeedOptions::default()
        })
    };
    let vgg = |batch_norm| {
        Architecture::Vgg(VggOptions {
            batch_norm,
            ..VggOptions::default()
        })
    };
    Ok(match name {
        "seed" => seed(false),
        "seed-bn" => seed(true),
        "resnet" => Architecture::Resnet(ResnetOptions::default()),
        "vgg" => vgg(false),
        "vgg-bn" => vgg(true),
        json if json.starts_with('{') => serde_json::from_str(json).context("--architecture")?,
        _ => {
            bail!("--architecture is `{name}`, expected seed, seed-bn, resnet, vgg, vgg-bn or JSON")
        }
    })
}

/// Random images `[N, H, W, C]` and smoothed targets `[N, K]` of random labels.
fn random_batches(task: &Task, count: usize) -> Vec<(Vec<u8>, Vec<f32>)> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut batch = || {
        let mut images = vec![0; count * task.height * task.width * task.channels];
        random.fill_bytes(&mut images);
        let labels: Vec<u32> = (0..count)
            .map(|_| random.random_range(0..CLASSES as u32))
            .collect();
        let mut targets = Vec::new();
        write_targets(&labels, CLASSES, LABEL_SMOOTHING, None, &mut targets);
        (images, targets)
    };
    (0..BATCHES).map(|_| batch()).collect()
}

/// Moves the profile of the training model out of the folder that ONNX Runtime wrote into.
///
/// The sessions of evaluation and optimizer write theirs too, and into the same file where all three began in the same second. The
/// training model's is the longest and the last that is written, so it is complete; nothing behind it counts.
fn save_profile(folder: &Path, path: &Path) -> Result<()> {
    let mut longest = String::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        if text.len() > longest.len() {
            longest = text;
        }
    }
    let events = serde_json::Deserializer::from_str(&longest)
        .into_iter::<Vec<Value>>()
        .next()
        .context("ONNX Runtime wrote no profile")?
        .context("ONNX Runtime's profile")?;
    fs::write(path, serde_json::to_vec(&events)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// CPU time of all threads of this process; nothing where the system has no `/proc`.
fn cpu_seconds() -> Option<f64> {
    // The unit of these fields, which is 1/100 s on every Linux this program runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold spaces; utime and stime are the 14th and the 15th.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Without the digits that mean nothing.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
