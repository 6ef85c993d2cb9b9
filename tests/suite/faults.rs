//! What happens around `catalog classify` while it runs: signals, limits, files that go away; and the scripts that inject the rest.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::DynamicImage;
use image::codecs::webp::WebPEncoder;
use pipeline::model::ModelFile;

use crate::nightly::{classify, labels, png, shop};
use crate::testenv::{Half, TestEnv, finish, wait};

/// Waits until the first rows are in the journal of a run.
#[cfg(unix)]
fn await_rows(child: &mut Child, journal: &Path) {
    let started = Instant::now();
    while fs::metadata(journal).map_or(0, |journal| journal.len()) < 1000 {
        assert!(started.elapsed() < Duration::from_secs(60), "no row came");
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be stopped"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until no signal is pending for a process, and then as long as a handler may take that has just begun.
#[cfg(target_os = "linux")]
fn await_handled(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    let started = Instant::now();
    let is_pending = || {
        let status = fs::read_to_string(&status).unwrap();
        !status.contains("\nShdPnd:\t0000000000000000\n")
    };
    while is_pending() {
        assert!(started.elapsed() < Duration::from_secs(60), "not handled");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
}

#[cfg(unix)]
fn signal(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(kill.unwrap().success());
}

/// A run that stands still: stopped by SIGSTOP when the first rows were in its journal.
#[cfg(unix)]
struct Paused(Child);

#[cfg(unix)]
impl Paused {
    fn start(env: &TestEnv, mut command: Command, out: &str) -> Self {
        let mut child = command.spawn().unwrap();
        await_rows(&mut child, &env.path(&format!("{out}.state/running")));
        signal(&child, "STOP");
        Self(child)
    }

    /// Lets it run on to its end: its exit code and what it said.
    fn go_on(mut self) -> (Option<i32>, String) {
        signal(&self.0, "CONT");
        let code = wait(&mut self.0);
        let said = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        (code, said)
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_signal_ends_the_run_at_once_and_the_next_one_goes_on() {
    let env = shop(3000);
    let names: String = (0..3000)
        .map(|number| format!("shop/{}/{number:04}.png\n", ["coats", "shoes"][number % 2]))
        .collect();
    env.write("names", &names);
    let from_list = |list: Stdio, out: &str| {
        let options = ["--model", "model.onnx", "--batch-size", "4", "--jobs", "1"];
        let command = [
            &["classify", "--files-from", "-", "--out", out],
            &options[..],
        ]
        .concat();
        let mut command = env.command(&command);
        command
            .stdin(list)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let names = || fs::File::open(env.path("names")).unwrap().into();
    let whole = finish(&mut from_list(names(), "whole.csv"));
    assert_eq!(whole.code, Some(0), "{whole:?}");
    env.write("labels.csv", "old");
    let run = Paused::start(&env, from_list(names(), "labels.csv"), "labels.csv");
    signal(&run.0, "KILL");
    assert_eq!(run.go_on().0, None);

    // Now the list does not end: the run cannot stop where it would like to, however long it takes to see the first signal.
    let mut child = from_list(Stdio::piped(), "labels.csv").spawn().unwrap();
    let mut list = child.stdin.take().unwrap();
    // More than a pipe holds: what is left of it is in the run's hands.
    list.write_all(&[b'\n'; 1 << 20]).unwrap();
    signal(&child, "INT");
    await_handled(&child);
    signal(&child, "TERM");
    let code = wait(&mut child);
    drop(list);
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(code, Some(143), "{said}");
    assert!(!said.contains("stopped"), "it took its leave: {said}");
    assert_eq!(env.read("labels.csv"), "old");

    let finished = finish(&mut from_list(names(), "labels.csv"));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stderr.contains("going on where the last run"),
        "{finished:?}"
    );
    assert_eq!(env.read("labels.csv"), env.read("whole.csv"));
}

#[cfg(unix)]
#[test]
fn files_that_go_away_or_change_while_the_run_goes() {
    let env = shop(3000);
    let mut command = env.command(&classify(
        "labels.csv",
        &["--batch-size", "4", "--jobs", "1"],
    ));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let run = Paused::start(&env, command, "labels.csv");
    // The folder is listed, its last files are not read yet.
    fs::remove_file(env.path("shop/coats/2998.png")).unwrap();
    env.write("shop/coats/2996.png", png(Half::Right, 1));
    let (code, said) = run.go_on();
    assert_eq!(code, Some(3), "{said}");
    let rows = env.read("labels.csv");
    let row = |path: &str| rows.lines().find(|row| row.starts_with(path)).unwrap();
    assert!(row("./coats/2998.png").contains(",vanished,"), "{rows}");
    // It was at the bottom when the run began.
    assert!(row("./coats/2996.png").starts_with("./coats/2996.png,right,"));
    assert_eq!(rows.lines().count(), 1 + 3002);
    // What is gone has no row the night after, and nothing else is another than in a run that never saw it.
    assert_eq!(
        labels(&env, "labels.csv", &[]),
        labels(&env, "anew.csv", &[])
    );
}

/// A command under a limit of its shell.
#[cfg(unix)]
fn limited(env: &TestEnv, limit: &str, arguments: &[&str]) -> Command {
    let program = env.command(arguments);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(env.path(""))
        .env("CATALOG_OFFLINE", "1");
    limited
}

#[cfg(unix)]
#[test]
fn a_limit_of_file_size_ends_the_run_with_a_message() {
    let env = shop(400);
    let whole = labels(&env, "whole.csv", &[]);
    env.write("labels.csv", "old");
    // Blocks of 512 bytes; the limit comes with SIGXFSZ, which ends a program that does not expect it.
    let finished = finish(&mut limited(&env, "-f 8", &classify("labels.csv", &[])));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.error_lines()[0].contains("File too large"),
        "{finished:?}"
    );
    assert_eq!(env.read("labels.csv"), "old");
    assert_eq!(labels(&env, "labels.csv", &[]), whole);
}

/// Found by fuzzing: the decoder took the 4 GiB that a chunk of metadata claimed, which ended the program where there is a limit.
#[cfg(unix)]
#[test]
fn a_picture_that_claims_gigabytes_of_metadata_is_classified_all_the_same() {
    let env = shop(4);
    let mut picture = Vec::new();
    let grey = DynamicImage::ImageLuma8(Half::Right.image(20, 7)).into_rgb8();
    grey.write_with_encoder(WebPEncoder::new_lossless(&mut picture))
        .unwrap();
    // The encoder wrote RIFF, a length, WEBP and one chunk; metadata need a chunk of facts before it.
    let mut webp = b"RIFF\xf0\xff\xff\xffWEBPVP8X\x0a\0\0\0\x08\0\0\0\x13\0\0\x13\0\0".to_vec();
    webp.extend(&picture[12..]);
    webp.extend(b"EXIF\xf0\xff\xff\xff");
    env.write("shop/coats/greedy.webp", webp);
    let finished = finish(&mut limited(
        &env,
        "-v 3000000",
        &classify("labels.csv", &[]),
    ));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let labels = env.read("labels.csv");
    assert!(labels.contains("./coats/greedy.webp,right,"), "{labels}");
}

#[test]
fn labels_do_not_depend_on_the_size_of_batches() {
    let env = shop(300);
    let cells = |csv: &str| -> Vec<(Vec<String>, f64)> {
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let place = reader.headers().unwrap().iter();
        let place = place.clone().position(|name| name == "confidence").unwrap();
        reader
            .records()
            .map(|record| {
                let mut cells: Vec<String> = record.unwrap().iter().map(str::to_owned).collect();
                let confidence = cells.remove(place).parse().unwrap_or(0.0);
                (cells, confidence)
            })
            .collect()
    };
    let one = cells(&labels(&env, "1.csv", &["--batch-size", "1"]));
    assert_eq!(one.len(), 302);
    for size in ["32", "256"] {
        let many = cells(&labels(
            &env,
            "many.csv",
            &["--overwrite", "--batch-size", size],
        ));
        assert_eq!(many.len(), one.len());
        for ((cells, confidence), (expected, expected_confidence)) in many.iter().zip(&one) {
            assert_eq!(cells, expected, "batches of {size}");
            assert!(
                (confidence - expected_confidence).abs() < 1e-5,
                "batches of {size}: {cells:?}"
            );
        }
    }
}

/// Runs a script of `scripts/faults/` on the built program. What a machine does not permit, or does not have, is skipped, and said.
#[expect(clippy::print_stderr)]
fn script(interpreter: &str, name: &str, options: &[&str]) -> Option<String> {
    let found = |program: &str| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    };
    for needed in [interpreter, "python3"] {
        if !found(needed) {
            eprintln!("skipped: {name}: {needed} is not there");
            return None;
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts/faults")
        .join(name);
    // Makes sure that the library is there.
    drop(TestEnv::new().command(&[]));
    let finished = finish(Command::new(interpreter).arg(script).args(options));
    for line in finished
        .stdout
        .lines()
        .filter(|line| line.contains("SKIPPED"))
    {
        eprintln!("skipped: {name}: {line}");
    }
    assert_eq!(
        finished.code,
        Some(0),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    Some(finished.stdout)
}

#[cfg(target_os = "linux")]
#[test]
fn every_fault_of_the_table_ends_as_promised() {
    let program = env!("CARGO_BIN_EXE_catalog");
    let Some(table) = script("bash", "table.sh", &[program]) else {
        return;
    };
    assert!(table.lines().count() >= 2 + 14, "{table}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_short_sweep_finds_no_problem() {
    let program = env!("CARGO_BIN_EXE_catalog");
    script(
        "python3",
        "sweep.py",
        &["errors", program, "--images", "12", "--points", "4"],
    );
    script(
        "python3",
        "sweep.py",
        &["kill", program, "--images", "12", "--points", "8"],
    );
    script(
        "python3",
        "sweep.py",
        &["random", program, "--images", "40", "--points", "6"],
    );
}

#[test]
fn not_one_bit_of_the_shipped_model_can_be_flipped_unnoticed() {
    const FLIPS: usize = 1009;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mnist/model.onnx");
    let mut bytes = fs::read(path).unwrap();
    assert!(ModelFile::from_bytes(bytes.clone(), "whole").is_ok());
    for flip in 0..FLIPS {
        // All over the file, and each of a byte's bits in turn.
        let (place, mask) = (flip * (bytes.len() - 1) / (FLIPS - 1), 1 << (flip % 8));
        bytes[place] ^= mask;
        let loaded = ModelFile::from_bytes(bytes.clone(), "flipped");
        assert!(loaded.is_err(), "byte {place} ^ {mask}");
        bytes[place] ^= mask;
    }
}
