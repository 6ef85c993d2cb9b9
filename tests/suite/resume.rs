//! Trainings that are stopped by whatever means, and continued.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::testenv::{TestEnv, fashion_mnist_folder, wait, write_halves};

/// A training with everything that has a state: momentum, batch statistics, dropout, augmentation, mixing.
const RUN: [&str; 20] = [
    "train",
    "data",
    "--network",
    "seed",
    "--filters",
    "8,8",
    "--dense-units",
    "16",
    "--batch-norm",
    "--dropout",
    "0.4",
    "--mixup",
    "0.3",
    "--batch-size",
    "10",
    "--epochs",
    "4",
    "--checkpoint-minutes",
    "0.00001",
    "--out",
];

fn env() -> TestEnv {
    let env = TestEnv::new();
    fashion_mnist_folder(&env.path("data"), 600, 10);
    env
}

fn model(env: &TestEnv, out: &str) -> Vec<u8> {
    fs::read(env.path(out).join("model.onnx")).unwrap()
}

#[test]
fn a_killed_run_continues_to_the_same_bytes() {
    continues_to_the_same_bytes(&RUN);
}

#[test]
fn a_killed_run_that_leaves_out_easy_images_continues_to_the_same_bytes() {
    continues_to_the_same_bytes(&RUN.map(|word| match word {
        "--mixup" => "--prune",
        word => word,
    }));
}

#[test]
fn a_killed_run_that_averages_its_weights_continues_to_the_same_bytes() {
    continues_to_the_same_bytes(&RUN.map(|word| match word {
        "--mixup" => "--average-weights",
        word => word,
    }));
}

fn continues_to_the_same_bytes(run: &[&str]) {
    let env = env();
    env.succeed(&[run, &["whole"]].concat());
    let whole = model(&env, "whole");
    // At a checkpoint in the first epoch, behind an epoch, and several times.
    for kills in [
        vec![""],
        vec!["epoch 1/4:"],
        vec!["epoch 1/4:", "", "epoch 3/4:"],
    ] {
        let out = format!("killed{}{}", kills.len(), kills[0].len());
        for line in kills {
            let mut child = env
                .command(&[run, &[&out, "--resume"]].concat())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let checkpoint = env.path(&out).join("training.checkpoint");
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let mut lines = stderr.lines().map_while(Result::ok);
            if line.is_empty() {
                lines.find(|text| text.contains("training on"));
                while !checkpoint.exists() {
                    std::thread::yield_now();
                }
            } else {
                assert!(lines.any(|text| text.contains(line)), "{line}");
            }
            child.kill().unwrap();
            wait(&mut child);
            assert!(checkpoint.exists());
        }
        let finished = env.succeed(&[run, &[&out, "--resume"]].concat());
        assert!(
            finished.stderr.contains("continuing in epoch"),
            "{finished:?}"
        );
        assert_eq!(model(&env, &out), whole, "{out}");
        let left: Vec<String> = fs::read_dir(env.path(&out))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("checkpoint"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        // Of a finished run nothing is left to do.
        let finished = env.succeed(&[run, &[&out, "--resume"]].concat());
        assert!(finished.stderr.contains("nothing to do"), "{finished:?}");
    }
}

#[test]
fn a_new_run_over_a_finished_one_is_not_taken_for_it_when_it_is_killed_at_once() {
    let env = env();
    env.succeed(&[&RUN[..], &["whole", "--seed", "7"]].concat());
    env.succeed(&[&RUN[..], &["out"]].concat());
    let longer = [&RUN[..], &["out", "--seed", "7"]].concat();
    // Before the first checkpoint that an epoch or the clock would make.
    let mut arguments = longer.clone();
    arguments.extend(["--checkpoint-minutes", "1000"]);
    arguments.retain(|argument| *argument != "0.00001");
    let place = arguments
        .iter()
        .position(|&argument| argument == "--checkpoint-minutes");
    arguments.remove(place.unwrap());
    let mut child = env
        .command(&arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let checkpoint = env.path("out/training.checkpoint");
    while !checkpoint.exists() {
        std::thread::yield_now();
    }
    // The folder is taken.
    let second = env.run(&[&longer[..], &["--resume"]].concat());
    assert_eq!(second.code, Some(1));
    assert!(
        second.stderr.contains("another run writes to out"),
        "{second:?}"
    );
    child.kill().unwrap();
    wait(&mut child);
    let finished = env.succeed(&[&longer[..], &["--resume"]].concat());
    assert!(
        finished.stderr.contains("continuing in epoch"),
        "{finished:?}"
    );
    assert_eq!(model(&env, "out"), model(&env, "whole"));
    // What was trained with other options is not what was asked for.
    let other = env.run(&[&RUN[..], &["out", "--resume"]].concat());
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("seed was 7 and is 1"), "{other:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_a_model_and_continues_to_the_same_bytes() {
    let env = env();
    env.succeed(&[&RUN[..], &["whole"]].concat());
    let mut child = env
        .command(&[&RUN[..], &["out"]].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("epoch 2/4:")));
    std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(wait(&mut child), Some(130), "{rest:?}");
    assert!(env.path("out/model.onnx").exists());
    let refused = env.run(&[&RUN[..], &["out"]].concat());
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .stderr
            .contains("--resume continues it, --overwrite throws it away"),
        "{refused:?}"
    );
    env.succeed(&[&RUN[..], &["out", "--resume"]].concat());
    assert_eq!(model(&env, "out"), model(&env, "whole"));
}

#[test]
fn only_the_same_run_is_continued() {
    let env = env();
    // What a kill would leave.
    let mut child = env
        .command(&[&RUN[..], &["out"]].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    assert!(
        stderr
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("epoch 1/4:"))
    );
    child.kill().unwrap();
    wait(&mut child);

    let error = |arguments: &[&str]| {
        let finished = env.run(arguments);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        finished.stderr
    };
    let other = error(&[&RUN[..], &["out", "--resume", "--learning-rate", "0.01"]].concat());
    assert!(other.contains("schedule.peak was"), "{other}");
    write_halves(&env.path("halves"), 10);
    let mut arguments = [&RUN[..], &["out", "--resume", "--size", "28"]].concat();
    arguments[1] = "halves";
    let other = error(&arguments);
    assert!(other.contains("learnt from other data"), "{other}");
    let checkpoint = env.path("out/training.checkpoint");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    let damaged = error(&[&RUN[..], &["out", "--resume"]].concat());
    assert!(
        damaged.contains("training.checkpoint") && damaged.contains("damaged"),
        "{damaged}"
    );
    // And anew.
    env.succeed(&[&RUN[..], &["out", "--overwrite"]].concat());
    assert!(!checkpoint.exists());
}

#[test]
fn patience_and_a_time_budget_end_a_run() {
    let env = env();
    let with_epochs = |epochs: &'static str, more: &[&'static str]| {
        let mut arguments = RUN.to_vec();
        let place = RUN.iter().position(|&argument| argument == "--epochs");
        arguments[place.unwrap() + 1] = epochs;
        arguments.extend_from_slice(more);
        env.succeed(&arguments)
    };
    let patience = ["early", "--learning-rate", "0.000001", "--patience", "2"];
    let early = with_epochs("50", &patience);
    assert!(early.stderr.contains("the run ends early"), "{early:?}");
    let rows = env.read("early/history.csv").lines().count() - 1;
    assert!((3..50).contains(&rows), "{rows}");

    let timed = with_epochs("100000", &["timed", "--time-budget", "6s"]);
    assert!(timed.stderr.contains("done after"), "{timed:?}");
    let history = env.read("timed/history.csv");
    let last_rate: f64 = history
        .lines()
        .last()
        .and_then(|row| row.split(',').nth(5))
        .and_then(|cell| cell.parse().ok())
        .unwrap();
    // Its schedule came near its end, as far as a busy machine lets speed be foreseen.
    assert!(last_rate < 0.03, "{history}");
}
