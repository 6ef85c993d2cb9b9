//! What happens around `catalog classify` while it runs: signals, limits, files that go away; and the scripts that inject the rest.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pipeline::model::ModelFile;

use crate::nightly::{classify, labels, png, shop};
use crate::testenv::{Half, TestEnv, finish, wait};

/// A run that stands still: stopped by SIGSTOP when the first rows were in its journal.
#[cfg(unix)]
struct Paused(std::process::Child);

#[cfg(unix)]
impl Paused {
    fn start(env: &TestEnv, out: &str) -> Self {
        let mut child = env
            .command(&classify(out, &["--batch-size", "4", "--jobs", "1"]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let journal = env.path(&format!("{out}.state/running"));
        let started = Instant::now();
        while fs::metadata(&journal).map_or(0, |journal| journal.len()) < 1000 {
            assert!(started.elapsed() < Duration::from_secs(60), "no row came");
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended before it could be stopped"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let paused = Self(child);
        paused.signal("STOP");
        paused
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(kill.unwrap().success());
    }

    /// Lets it run on to its end; its exit code and what it said.
    fn go_on(mut self) -> (Option<i32>, String) {
        self.signal("CONT");
        let code = wait(&mut self.0);
        let said = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        (code, said)
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_run_at_once_and_the_next_one_goes_on() {
    let env = shop(3000);
    let whole = labels(&env, "whole.csv", &[]);
    env.write("labels.csv", "old");
    let run = Paused::start(&env, "labels.csv");
    // Both wait until the run goes on, and come before it does anything else.
    run.signal("INT");
    run.signal("TERM");
    let (code, said) = run.go_on();
    assert!(matches!(code, Some(130 | 143)), "{code:?}: {said}");
    assert!(!said.contains("stopped"), "it took its leave: {said}");
    assert_eq!(env.read("labels.csv"), "old");
    let finished = env.run(&classify("labels.csv", &[]));
    assert!(
        finished.stderr.contains("going on where the last run"),
        "{finished:?}"
    );
    assert_eq!(env.read("labels.csv"), whole);
}

#[cfg(unix)]
#[test]
fn files_that_go_away_or_change_while_the_run_goes() {
    let env = shop(3000);
    let run = Paused::start(&env, "labels.csv");
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

#[cfg(unix)]
#[test]
fn a_limit_of_file_size_ends_the_run_with_a_message() {
    let env = shop(400);
    let whole = labels(&env, "whole.csv", &[]);
    env.write("labels.csv", "old");
    let program = env.command(&classify("labels.csv", &[]));
    // Blocks of 512 bytes; the limit comes with SIGXFSZ, which ends a program that does not expect it.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -f 8 && exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(env.path(""))
        .env("CATALOG_OFFLINE", "1");
    let finished = finish(&mut limited);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.error_lines()[0].contains("File too large"),
        "{finished:?}"
    );
    assert_eq!(env.read("labels.csv"), "old");
    assert_eq!(labels(&env, "labels.csv", &[]), whole);
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
