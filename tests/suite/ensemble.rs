//! Several trained models as one: what it says, what it is made of, and what cannot be joined.

use std::fs;

use pipeline::model::{Classifier, ModelFile, SessionSettings};

use crate::runtime;
use crate::testenv::{TestEnv, write_halves};

const IMAGE: usize = 12 * 12;
const IMAGES: usize = 16;

/// Two models of the same halves: other weights, another network, the same images held out.
fn two_models() -> TestEnv {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 40);
    train(&env, "a", &["--weights", "float16"]);
    train(
        &env,
        "b",
        &[
            "--seed",
            "2",
            "--split-seed",
            "1",
            "--filters",
            "6,8",
            "--weights",
            "float32",
        ],
    );
    env
}

/// Trains in a few seconds; `more` goes before the defaults of these tests.
fn train(env: &TestEnv, out: &str, more: &[&str]) {
    const DEFAULTS: [[&str; 2]; 10] = [
        ["--network", "seed"],
        ["--filters", "8"],
        ["--dense-units", "64"],
        ["--dropout", "0"],
        ["--optimizer", "adamw"],
        ["--learning-rate", "0.02"],
        ["--batch-size", "16"],
        ["--epochs", "4"],
        ["--seed", "1"],
        ["--validation-fraction", "0.2"],
    ];
    let defaults = DEFAULTS.iter().filter(|[name, _]| !more.contains(name));
    let defaults: Vec<&str> = defaults.flatten().copied().collect();
    let begin = ["train", "halves", "--out", out, "--no-augment"];
    env.succeed(&[&begin[..], more, &defaults].concat());
}

fn classifier(env: &TestEnv, name: &str) -> Classifier {
    let file = ModelFile::read(&env.path(name)).unwrap();
    let settings = SessionSettings::on_processor(1);
    Classifier::load(&runtime::training().environment, &file, &settings).unwrap()
}

/// Images with every level of grey, so that the models are not of one mind.
fn images() -> Vec<u8> {
    (0..IMAGES * IMAGE)
        .map(|place| ((place * 7 + place / IMAGE * 31) % 256) as u8)
        .collect()
}

#[test]
fn the_logits_are_the_mean_of_those_of_the_models_at_their_temperatures() {
    let env = two_models();
    let joined = env.succeed(&[
        "ensemble",
        "halves",
        "a/model.onnx",
        "b/model.onnx",
        "--out",
        "both",
    ]);
    let images = images();
    let mut expected = ndarray::Array2::<f32>::zeros((IMAGES, 4));
    for name in ["a/model.onnx", "b/model.onnx"] {
        let mut classifier = classifier(&env, name);
        let temperature = classifier.temperature();
        expected += &(classifier.classify(&images, IMAGES).unwrap().logits / temperature / 2.0);
    }
    let found = classifier(&env, "both/model.onnx")
        .classify(&images, IMAGES)
        .unwrap()
        .logits;
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
    }

    // A row for each model and one for the mean.
    let lines: Vec<&str> = joined.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", joined.stdout);
    assert!(lines[1].starts_with("a/model.onnx"), "{}", joined.stdout);
    assert!(lines[3].starts_with("mean of all"), "{}", joined.stdout);
    for file in ["report.html", "metrics.json", "plots"] {
        assert!(env.path("both").join(file).exists(), "{file}");
    }

    // The file says what it is made of, and works like any other.
    let text = env.succeed(&["inspect", "both/model.onnx"]).stdout;
    assert!(text.contains("the mean of 2 models"), "{text}");
    assert!(text.contains("[6,8]"), "{text}");
    let [.., accuracy, loss] = lines[3].split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{}", joined.stdout);
    };
    let judged = format!("validation   accuracy {accuracy}, loss {loss} on ");
    assert!(text.contains(&judged), "{judged:?} is not in:\n{text}");
    let labelled = env.succeed(&[
        "classify",
        "halves/left",
        "--model",
        "both/model.onnx",
        "--out",
        "labels.csv",
    ]);
    assert_eq!(labelled.code, Some(0));
    let rows = env.read("labels.csv");
    assert_eq!(
        rows.lines().filter(|row| row.contains(",left,")).count(),
        40
    );
    let report = env.read("labels.csv.report.json");
    assert!(report.contains("\"members\"") && !report.contains("\"train_loss\""));
    let judged = env.succeed(&["evaluate", "halves", "--model", "both/model.onnx"]);
    assert!(
        judged.stdout.starts_with("accuracy 1.0000"),
        "{}",
        judged.stdout
    );
}

#[test]
fn whole_numbers_make_the_file_smaller_and_the_same_models_give_the_same_bytes() {
    let env = two_models();
    train(
        &env,
        "int8",
        &["--seed", "4", "--split-seed", "1", "--weights", "int8"],
    );
    let join = |out: &str, more: &[&str]| {
        let models = [
            "ensemble",
            "halves",
            "a/model.onnx",
            "b/model.onnx",
            "--out",
        ];
        env.succeed(&[&models[..], &[out], more].concat());
        fs::read(env.path(out).join("model.onnx")).unwrap()
    };
    let plain = join("plain", &[]);
    assert_eq!(plain, join("again", &[]));
    let half = join("half", &["--weights", "float16"]);
    let small = join("small", &["--weights", "int8"]);
    assert!(
        half.len() < plain.len(),
        "{} of {}",
        half.len(),
        plain.len()
    );
    assert!(
        small.len() < half.len(),
        "{} of {}",
        small.len(),
        half.len()
    );
    let nothing_left = env.run(&[
        "ensemble",
        "halves",
        "int8/model.onnx",
        "b/model.onnx",
        "--out",
        "no",
        "--weights",
        "int8",
    ]);
    assert!(
        nothing_left
            .stderr
            .contains("int8/model.onnx cannot be a member: its weights are neither"),
        "{}",
        nothing_left.stderr
    );
    assert!(
        small.len() < plain.len(),
        "{} of {}",
        small.len(),
        plain.len()
    );
    let text = env.succeed(&["inspect", "small/model.onnx"]).stdout;
    assert!(text.contains("rounded to int8"), "{text}");

    // The weights are off by half a step at most, and the logits hardly.
    let said = |name: &str| {
        let mut classifier = classifier(&env, name);
        classifier.classify(&images(), IMAGES).unwrap().logits
    };
    let (plain, small) = (said("plain/model.onnx"), said("small/model.onnx"));
    let largest = plain
        .iter()
        .fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
    assert_ne!(plain, small);
    for (plain, small) in plain.iter().zip(&small) {
        assert!(
            (plain - small).abs() < 0.05 * largest,
            "{small}, not {plain}"
        );
    }
}

#[test]
fn the_seed_of_the_split_alone_decides_what_is_held_out() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    let held_out = |out: &str, seeds: &[&str]| {
        train(&env, out, seeds);
        let model = ModelFile::read(&env.path(out).join("model.onnx")).unwrap();
        // The self-test has the first images that were held out.
        let tests = model.metadata().self_test.iter();
        tests.map(|test| test.image.clone()).collect::<Vec<_>>()
    };
    let first = held_out("first", &["--seed", "1"]);
    assert_eq!(
        held_out("same", &["--seed", "2", "--split-seed", "1"]),
        first
    );
    assert_ne!(
        held_out("other", &["--seed", "1", "--split-seed", "2"]),
        first
    );
}

#[test]
fn data_with_a_validation_part_needs_no_seed_of_the_split() {
    let env = TestEnv::new();
    write_halves(&env.path("halves/train"), 20);
    write_halves(&env.path("halves/val"), 5);
    // With mirror averaging, as the presets have it.
    train(&env, "a", &["--mirror-averaging", "true"]);
    train(&env, "b", &["--seed", "2"]);
    let models = ["a/model.onnx", "b/model.onnx"];
    let joined = env.succeed(&[&["ensemble", "halves"], &models[..], &["--out", "both"]].concat());
    assert!(joined.stdout.contains("mean of all"), "{}", joined.stdout);
}

#[test]
fn a_training_stores_whole_numbers_too() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    let size = |out: &str, storage: &str| {
        train(&env, out, &["--weights", storage]);
        fs::metadata(env.path(out).join("model.onnx"))
            .unwrap()
            .len()
    };
    let (whole, half) = (size("whole", "int8"), size("half", "float16"));
    assert!(whole < half, "{whole} of {half} bytes");
    let judged = env.succeed(&["evaluate", "halves", "--model", "whole/model.onnx"]);
    assert!(judged.stdout.starts_with("accuracy"), "{}", judged.stdout);
}

#[test]
fn models_that_do_not_go_together_are_named() {
    let env = two_models();
    train(&env, "c", &["--seed", "3"]);
    train(&env, "small", &["--size", "8"]);
    let refused = |arguments: &[&str]| {
        let finished = env.run(&[&["ensemble"], arguments, &["--out", "out"]].concat());
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(!env.path("out").exists());
        finished.error_lines().join("\n")
    };
    let (a, b) = ("a/model.onnx", "b/model.onnx");
    let text = refused(&["halves", a]);
    assert!(text.contains("two models or more"), "{text}");
    let text = refused(&["halves", a, a]);
    assert!(text.contains("are the same model"), "{text}");
    let text = refused(&["halves", a, "c/model.onnx"]);
    assert!(
        text.contains(
            "a/model.onnx held out 0.2 of the images by seed 1, c/model.onnx held out 0.2 by seed 3"
        ),
        "{text}"
    );
    assert!(text.contains("--split-seed"), "{text}");
    let text = refused(&["halves", a, "small/model.onnx"]);
    assert!(text.contains("prepared in different ways"), "{text}");
    env.succeed(&["ensemble", "halves", a, b, "--out", "both"]);
    let text = refused(&["halves", a, "both/model.onnx"]);
    assert!(text.contains("a mean of models already"), "{text}");
    write_halves(&env.path("others"), 30);
    let text = refused(&["others", a, b]);
    assert!(
        text.contains("learnt from other data than others"),
        "{text}"
    );
}

#[test]
fn a_model_is_not_replaced_by_the_mean_it_is_part_of() {
    let env = two_models();
    let before = fs::read(env.path("a/model.onnx")).unwrap();
    let arguments = [
        "ensemble",
        "halves",
        "a/model.onnx",
        "b/model.onnx",
        "--out",
    ];
    let finished = env.run(&[&arguments[..], &["a"]].concat());
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("take another --out"),
        "{}",
        finished.stderr
    );
    assert_eq!(fs::read(env.path("a/model.onnx")).unwrap(), before);
}
