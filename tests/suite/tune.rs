//! Real searches on a small data set, and what must hold of what they leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::testenv::{Half, TestEnv, line_with, wait, write_halves};

/// Small and quick: every training takes a fraction of a second.
const SPACE: &str = r#"{
    "epochs": [9, 9],
    "batch_size": [16, 32],
    "horizontal_flip": [0],
    "augmentation": [0, 0],
    "seed": {"convolutions": [1, 2], "filters": [8, 16], "dense_layers": [1, 1], "dense_units": [16, 32]}
}"#;

const TUNE: &[&str] = &[
    "tune",
    "data",
    "--network",
    "seed",
    "--space",
    "space.json",
    "--trials",
    "5",
    "--out",
];

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("space.json", SPACE);
    write_halves(&env.path("data/train"), 16);
    env
}

fn tune(out: &str, more: &[&str]) -> Vec<String> {
    let words = [TUNE, &[out], more].concat();
    words.into_iter().map(str::to_owned).collect()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Cells of `trials.csv` by column, without the clock's.
fn trials(env: &TestEnv, out: &str) -> Vec<BTreeMap<String, String>> {
    let text = env.read(&format!("{out}/trials.csv"));
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let rows = csv.deserialize().map(|row| {
        let mut row: BTreeMap<String, String> = row.unwrap();
        assert!(row.remove("seconds").is_some());
        assert!(row.remove("elapsed_seconds").is_some());
        row
    });
    rows.collect()
}

#[test]
fn a_search_leaves_a_table_plots_and_options_that_train_takes() {
    let env = env();
    let said = env.succeed(&words(&tune("search", &[]))).stderr;
    let rows = trials(&env, "search");
    let started = rows.iter().filter(|row| row["rung"] == "0").count();
    assert_eq!(started, 5, "{said}");
    assert_eq!(rows[0]["filters"], "32 64", "the defaults come first");
    assert!(
        rows.iter().any(|row| row["rung"] == "2"),
        "the winner was trained at full length"
    );
    assert!(said.matches("trial ").count() > rows.len(), "{said}");
    for plot in ["accuracy-by-trial", "best-over-time", "by-learning-rate"] {
        assert!(
            env.read(&format!("search/plots/{plot}.svg"))
                .starts_with("<svg")
        );
    }
    let report = env.read("search/report.html");
    assert!(report.contains("Tuning report") && report.contains("Best options"));

    let best: serde_json::Value = serde_json::from_str(&env.read("search/best.json")).unwrap();
    env.succeed(&[
        "train",
        "data",
        "--config",
        "search/best.json",
        "--out",
        "model",
    ]);
    let trained: serde_json::Value = serde_json::from_str(&env.read("model/options.json")).unwrap();
    assert_eq!(trained, best);

    let again = env.succeed(&words(&tune("search", &[]))).stderr;
    assert!(
        again.contains("going on after") && again.contains("best: trial"),
        "{again}"
    );
    assert_eq!(trials(&env, "search"), rows, "nothing is left to do");
}

#[test]
fn a_search_that_was_killed_goes_on_and_ends_as_one_that_was_not() {
    let env = env();
    env.succeed(&words(&tune("whole", &[])));
    let arguments = tune("killed", &[]);
    let mut child = env
        .command(&words(&arguments))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    line_with(&mut lines, "trial 2, rung 0");
    child.kill().unwrap();
    wait(&mut child);
    // Killed in the middle of a line.
    let journal = env.path("killed/trials.jsonl");
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() - 7]).unwrap();

    let said = env.succeed(&words(&arguments)).stderr;
    assert!(said.contains("going on after"), "{said}");
    assert_eq!(trials(&env, "killed"), trials(&env, "whole"));
    assert_eq!(env.read("killed/best.json"), env.read("whole/best.json"));

    let other = env.run(&words(&tune("killed", &["--search", "random"])));
    assert_eq!(other.code, Some(1));
    assert!(
        other
            .stderr
            .contains("belongs to a search with another --search"),
        "{other:?}"
    );
}

#[test]
fn the_test_part_is_not_seen() {
    let env = env();
    env.succeed(&words(&tune("without", &[])));
    // A test part whose labels are all wrong: whoever looked at it would find something else.
    for (class, image) in Half::ALL.into_iter().zip([1, 2, 3, 0]) {
        let folder = env.path(&format!("data/test/{}", class.name()));
        fs::create_dir_all(&folder).unwrap();
        Half::ALL[image]
            .image(12, 9)
            .save(folder.join("0.png"))
            .unwrap();
    }
    env.succeed(&words(&tune("with", &[])));
    assert_eq!(trials(&env, "with"), trials(&env, "without"));
    assert_eq!(env.read("with/best.json"), env.read("without/best.json"));
    // The journal knows the fingerprint of what was loaded.
    env.succeed(&words(&tune("without", &[])));
}

#[test]
fn a_training_that_diverges_is_a_row_and_not_the_end() {
    let env = env();
    env.write(
        "space.json",
        SPACE.replacen(
            '{',
            r#"{"optimizer": ["sgd"], "sgd": {"learning_rate": [9.9, 10], "weight_decay": [9, 10]},"#,
            1,
        ),
    );
    let said = env.succeed(&words(&tune("search", &[]))).stderr;
    let rows = trials(&env, "search");
    assert!(rows.iter().any(|row| row["status"] == "diverged"), "{said}");
    assert!(rows.iter().all(|row| row["status"] != "failed"), "{said}");
    let best: serde_json::Value = serde_json::from_str(&env.read("search/best.json")).unwrap();
    assert_ne!(best["schedule"]["peak"], 10.0);
}

#[test]
fn a_time_budget_is_kept_and_the_winner_trained_at_full_length() {
    let env = env();
    let arguments = [
        "tune",
        "data",
        "--network",
        "seed",
        "--space",
        "space.json",
        "--time-budget",
        "12s",
        "--out",
        "search",
    ];
    let started = std::time::Instant::now();
    let said = env.succeed(&arguments).stderr;
    assert!(started.elapsed().as_secs() < 40, "{said}");
    let rows = trials(&env, "search");
    assert!(rows.iter().any(|row| row["rung"] == "2"), "{said}");
}

#[test]
#[cfg(unix)]
fn a_signal_stops_it_and_keeps_everything() {
    let env = env();
    let arguments = tune("search", &[]);
    let mut child = env
        .command(&words(&arguments))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    line_with(&mut lines, "trial 1, rung 0");
    let status = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    line_with(&mut lines, "stopped; the same command goes on");
    assert_eq!(wait(&mut child), Some(130));
    assert!(trials(&env, "search").len() >= 2);
    assert!(env.path("search/best.json").exists());
}

#[test]
fn wrong_ranges_are_refused_before_anything_is_made() {
    let env = env();
    env.write("space.json", r#"{"epochs": [5, 2]}"#);
    let finished = env.run(&words(&tune("search", &[])));
    assert_eq!(finished.code, Some(1));
    assert!(
        finished
            .stderr
            .contains("space.json: epochs is 5 to 2, expected"),
        "{finished:?}"
    );
    env.write("space.json", r#"{"epoch": [1, 2]}"#);
    let finished = env.run(&words(&tune("search", &[])));
    assert!(
        finished.stderr.contains("unknown field `epoch`"),
        "{finished:?}"
    );
    assert!(!env.path("search").exists());
}
