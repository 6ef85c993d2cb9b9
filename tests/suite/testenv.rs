//! What the tests run and what they run it on: the built program in a folder of its own, and small data sets on disk.
//!
//! The program runs inside its folder, so paths in its messages are relative and the same everywhere; it runs offline, because
//! what it needs was fetched when the suite started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use catalog::dataset::{self, Dataset, LoadSettings, Parts, Pixels, Purpose, Source, Split, idx};
use catalog::runtime::RuntimeSettings;
use image::{GrayImage, Luma};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Random;
use tempfile::TempDir;

use crate::runtime;

/// Longest time that anything the suite starts may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// A folder that goes away with the test.
pub struct TestEnv {
    folder: TempDir,
}

/// What came of running the program.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` where a signal ended the program.
    pub code: Option<i32>,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

impl TestEnv {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The program, to be run in the folder, with the library this process uses.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Makes sure that the library is there.
        runtime::training();
        let mut command = self.bare_command(arguments);
        command.env("CATALOG_OFFLINE", "1");
        command
    }

    /// The program, to be run in the folder, whatever library there is.
    pub fn bare_command(&self, arguments: &[&str]) -> Command {
        heed_signals();
        let mut command = Command::new(env!("CARGO_BIN_EXE_catalog"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    /// Runs the program, which has to succeed.
    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> Finished {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
        finished
    }
}

impl Finished {
    /// The rows of stderr that say that something went wrong.
    pub fn error_lines(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect()
    }
}

/// Runs a command to its end, with its output captured where the command says nothing else.
pub fn finish(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Makes the programs that are started listen to signals, even where the tests were started with these ignored (`nohup`, a job
/// in the background of a script): a signal that is ignored is so in children, too, one that is handled is not.
fn heed_signals() {
    #[cfg(unix)]
    {
        use std::sync::atomic::AtomicBool;
        use std::sync::{Arc, Once};

        use signal_hook::consts::{SIGHUP, SIGINT};

        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            for signal in [SIGINT, SIGHUP] {
                let always = Arc::new(AtomicBool::new(true));
                signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, always)
                    .unwrap();
            }
        });
    }
}

/// Waits for a child; one that hangs fails the test instead of stopping it for ever.
pub fn wait(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the program did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Fashion-MNIST, fetched once into the program's cache.
pub fn fashion_mnist() -> &'static Dataset {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    DATASET.get_or_init(|| {
        let settings = RuntimeSettings::from_environment().unwrap();
        let settings = LoadSettings {
            cache: settings.cache,
            offline: settings.offline,
            ..load_settings()
        };
        dataset::load(&Source::FashionMnist, &settings).unwrap()
    })
}

/// How to load a data set that is on disk.
pub fn load_settings() -> LoadSettings {
    LoadSettings {
        pixels: Pixels::Wished {
            size: None,
            colour: None,
            fit: None,
        },
        parts: Parts::All,
        purpose: Purpose::Evaluation,
        cache: PathBuf::new(),
        memory: u64::MAX,
        offline: true,
    }
}

/// The first images of Fashion-MNIST as an IDX folder: so many to learn from, so many to judge by, neither none.
pub fn fashion_mnist_folder(folder: &Path, train: usize, test: usize) {
    let dataset = fashion_mnist();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("classes.txt"), dataset.classes.join("\n")).unwrap();
    write_idx(folder, "train", &first(&dataset.train, train));
    write_idx(folder, "t10k", &first(dataset.test.as_ref().unwrap(), test));
}

fn first(split: &Split, count: usize) -> Split {
    assert!(count <= split.len());
    split.subset(&(0..count).collect::<Vec<_>>())
}

/// Writes 28×28 grey images in IDX form.
pub fn write_idx(folder: &Path, part: &str, split: &Split) {
    let images = idx::Images {
        height: 28,
        width: 28,
        pixels: split.pixels.to_vec().unwrap(),
    };
    let labels: Vec<u8> = split.labels.iter().map(|&label| label as u8).collect();
    idx::write_images(&folder.join(format!("{part}-images-idx3-ubyte")), &images).unwrap();
    idx::write_labels(&folder.join(format!("{part}-labels-idx1-ubyte")), &labels).unwrap();
}

/// A row of the 785-column CSV whose pixels are all the same.
pub fn csv_row(label: &str, columns: usize, pixel: u8) -> String {
    format!("{label}{}\n", format!(",{pixel}").repeat(columns - 1))
}

/// Which half of an image is bright: a problem that is easy to learn and that no turned or mirrored image gets away with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Bottom,
    Left,
    Right,
    Top,
}

impl Half {
    /// In the natural order of their names.
    pub const ALL: [Self; 4] = [Self::Bottom, Self::Left, Self::Right, Self::Top];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bottom => "bottom",
            Self::Left => "left",
            Self::Right => "right",
            Self::Top => "top",
        }
    }

    /// A square grey image with some noise.
    pub fn image(self, side: u32, seed: u64) -> GrayImage {
        let mut random = Random::seed_from_u64(seed);
        GrayImage::from_fn(side, side, |x, y| {
            let is_bright = match self {
                Self::Bottom => y >= side / 2,
                Self::Left => x < side / 2,
                Self::Right => x >= side / 2,
                Self::Top => y < side / 2,
            };
            let level = if is_bright { 200 } else { 40 };
            Luma([level + random.random_range(0..40)])
        })
    }
}

/// A folder of class folders with `count` PNG images of each [`Half`].
pub fn write_halves(folder: &Path, count: u64) {
    for half in Half::ALL {
        let class = folder.join(half.name());
        fs::create_dir_all(&class).unwrap();
        for index in 0..count {
            half.image(12, index * 4 + half as u64)
                .save(class.join(format!("{index:03}.png")))
                .unwrap();
        }
    }
}

/// A model that knows the [`Half`]s, trained by the program itself, once for the whole suite.
pub fn halves_model() -> &'static [u8] {
    static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
    MODEL.get_or_init(|| {
        let env = TestEnv::new();
        write_halves(&env.path("halves"), 40);
        env.succeed(&[&["train", "halves", "--out", "model"], QUICK].concat());
        fs::read(env.path("model/model.onnx")).unwrap()
    })
}

/// Options of a training of the halves that takes about a second.
pub const QUICK: &[&str] = &[
    "--network",
    "seed",
    "--filters",
    "8",
    "--dense-units",
    "16",
    "--dropout",
    "0",
    "--no-augment",
    "--optimizer",
    "adamw",
    "--learning-rate",
    "0.02",
    "--batch-size",
    "16",
    "--seed",
    "1",
    "--validation-fraction",
    "0.2",
];

/// Reads lines until one has `wanted` in it, and gives that one.
pub fn line_with(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    wanted: &str,
) -> String {
    let mut said = String::new();
    for line in lines {
        let line = line.unwrap();
        if line.contains(wanted) {
            return line;
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("no line with {wanted:?} in:\n{said}");
}
