//! `catalog evaluate` and `catalog inspect`: the same answers as `classify`, figures that add up, and a model that says what it is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::testenv::{
    Half, QUICK, TestEnv, fashion_mnist, fashion_mnist_folder, finish, halves_model, write_halves,
};
use crate::training::{TEST_IMAGES, fashion_model};

/// Two columns of a CSV file by the image's index, which ends the first one: `…#12` or `…/00012.png`.
fn by_index(env: &TestEnv, name: &str, columns: [&str; 2]) -> BTreeMap<usize, (String, f64)> {
    let mut reader = csv::Reader::from_path(env.path(name)).unwrap();
    let headers = reader.headers().unwrap().clone();
    let [label, confidence] =
        columns.map(|wanted| headers.iter().position(|name| name == wanted).unwrap());
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let name = Path::new(&record[0]).file_stem().unwrap().to_str().unwrap();
        let index = name.rsplit('#').next().unwrap().parse().unwrap();
        let row = (
            record[label].to_owned(),
            record[confidence].parse().unwrap(),
        );
        assert!(rows.insert(index, row).is_none(), "image {index} twice");
    }
    rows
}

fn metrics(env: &TestEnv, name: &str) -> serde_json::Value {
    serde_json::from_str(&env.read(name)).unwrap()
}

#[test]
fn evaluate_and_classify_give_every_image_the_same_label() {
    let env = TestEnv::new();
    env.write("model.onnx", &fashion_model().model);
    fashion_mnist_folder(&env.path("data"), 20, TEST_IMAGES);
    env.succeed(&[
        "dataset", "export", "data", "--as", "images", "--out", "images",
    ]);
    env.succeed(&[
        "classify",
        "images/test",
        "--model",
        "model.onnx",
        "--out",
        "labels.csv",
    ]);
    for (data, name) in [("data", "raw"), ("images", "files")] {
        let file = |ending: &str| format!("{name}-{ending}");
        env.succeed(&[
            "evaluate",
            data,
            "--model",
            "model.onnx",
            "--predictions",
            &file("predictions.csv"),
            "--metrics",
            &file("metrics.json"),
            "--confusion",
            &file("confusion.csv"),
        ]);
    }

    let classified = by_index(&env, "labels.csv", ["label", "confidence"]);
    assert_eq!(classified.len(), TEST_IMAGES);
    let raw = by_index(&env, "raw-predictions.csv", ["predicted", "confidence"]);
    assert_eq!(raw.len(), TEST_IMAGES);
    for (index, (label, confidence)) in &raw {
        let (other, other_confidence) = &classified[index];
        assert_eq!(label, other, "image {index}");
        assert!(
            (confidence - other_confidence).abs() < 1e-5,
            "image {index}"
        );
    }
    assert_eq!(
        by_index(&env, "files-predictions.csv", ["predicted", "confidence"]).len(),
        TEST_IMAGES
    );

    let labels = &fashion_mnist().test.as_ref().unwrap().labels;
    let classes = &fashion_mnist().classes;
    let right = raw
        .iter()
        .filter(|(index, (label, _))| *label == classes[labels[**index] as usize])
        .count();
    let accuracy = right as f64 / TEST_IMAGES as f64;
    for name in ["raw-metrics.json", "files-metrics.json"] {
        let metrics = metrics(&env, name);
        assert!(
            (metrics["accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-9,
            "{name}"
        );
        assert_eq!(metrics["data"]["parts"], serde_json::json!(["test"]));
    }
    assert!(accuracy >= 0.80, "{accuracy}");
    assert_eq!(
        env.read("raw-confusion.csv"),
        env.read("files-confusion.csv")
    );
    let cells: usize = env
        .read("raw-confusion.csv")
        .lines()
        .skip(1)
        .flat_map(|line| {
            line.split(',')
                .skip(1)
                .map(|cell| cell.parse::<usize>().unwrap())
                .collect::<Vec<_>>()
        })
        .sum();
    assert_eq!(cells, TEST_IMAGES);
}

#[test]
fn files_that_are_no_images_are_named_and_the_rest_is_judged() {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    write_halves(&env.path("halves"), 5);
    let clean = env.succeed(&[
        "evaluate",
        "halves",
        "--model",
        "model.onnx",
        "--metrics",
        "clean.json",
    ]);
    assert!(
        Half::ALL
            .iter()
            .all(|half| clean.stdout.contains(half.name())),
        "{clean:?}"
    );
    assert_eq!(metrics(&env, "clean.json")["accuracy"], 1.0);

    env.write("halves/left/notes.txt", "text");
    let finished = env.run(&[
        "evaluate",
        "halves",
        "--model",
        "model.onnx",
        "--metrics",
        "other.json",
    ]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("warning: left/notes.txt: not used"),
        "{finished:?}"
    );
    let other = metrics(&env, "other.json");
    assert_eq!(
        (&other["accuracy"], &other["data"]["skipped_files"]),
        (&1.0.into(), &1.into())
    );

    // A class that the model does not know is no image that it got wrong.
    env.write(
        "halves/middle/000.png",
        std::fs::read(env.path("halves/left/000.png")).unwrap(),
    );
    let unknown = env.run(&["evaluate", "halves", "--model", "model.onnx"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let [line] = unknown.error_lines()[..] else {
        panic!("not one error line: {unknown:?}");
    };
    assert!(line.contains("middle"), "{line}");
}

#[test]
fn a_model_describes_itself_where_there_is_no_library() {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    let inspect = |arguments: &[&str]| {
        let mut command = env.bare_command(arguments);
        command
            .env_remove("ORT_DYLIB_PATH")
            .env("CATALOG_OFFLINE", "1")
            .env("CATALOG_CACHE", env.path("empty-cache"));
        let finished = finish(&mut command);
        assert_eq!(
            (finished.code, finished.stderr.as_str()),
            (Some(0), ""),
            "{finished:?}"
        );
        finished.stdout
    };
    let text = inspect(&["inspect", "model.onnx"]);
    for part in [
        "0  bottom\n",
        "1  left\n",
        "2  right\n",
        "3  top\n",
        "images uint8 [N, 12, 12, 1]",
        "128 images to learn from",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&inspect(&["inspect", "model.onnx", "--json"])).unwrap();
    assert_eq!(
        json["labels"],
        serde_json::json!(["bottom", "left", "right", "top"])
    );
    assert_eq!(json["training"]["options"]["seed"], 1);
    assert!(inspect(&["inspect"]).contains("T-shirt/top"));
}

#[test]
fn the_model_inside_the_program_needs_no_option() {
    let env = TestEnv::new();
    fashion_mnist_folder(&env.path("data"), 20, 20);
    env.succeed(&[
        "dataset", "export", "data", "--as", "images", "--out", "images",
    ]);
    env.succeed(&["classify", "images/test", "--out", "labels.csv"]);
    let classes = &fashion_mnist().classes;
    let labels = by_index(&env, "labels.csv", ["label", "confidence"]);
    assert_eq!(labels.len(), 20);
    assert!(labels.values().all(|(label, _)| classes.contains(label)));
    assert!(
        env.succeed(&["evaluate", "data"])
            .stdout
            .contains("20 images")
    );
}

#[test]
fn what_a_training_held_out_can_be_judged_again() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    // Too short a training to be right everywhere: figures of other images would differ.
    let train = ["train", "halves", "--out", "model", "--epochs", "1"];
    env.succeed(&[&train[..], QUICK].concat());
    let trained = metrics(&env, "model/metrics.json");
    let judge = |data, more: &[&str]| {
        let command = [
            "evaluate",
            data,
            "--model",
            "model/model.onnx",
            "--metrics",
            "m.json",
        ];
        env.run(&[&command[..], more].concat())
    };
    let finished = judge("halves", &["--part", "validation"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("what the training held out of it, 0.2 by seed 1")
            && !finished.stderr.contains("the model learnt from"),
        "{finished:?}"
    );
    let judged = metrics(&env, "m.json");
    assert_eq!(judged["images"], 16, "{judged}");
    for figure in ["accuracy", "confusion_matrix"] {
        assert_eq!(judged[figure], trained[figure], "{figure}");
    }

    // All of it holds what was learnt.
    let finished = judge("halves", &[]);
    assert_eq!(metrics(&env, "m.json")["images"], 80);
    let said = "the model learnt from images of halves";
    assert!(finished.stderr.contains(said), "{finished:?}");

    // Nothing is known of other images.
    write_halves(&env.path("others"), 3);
    let finished = judge("others", &["--part", "validation"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let said = "the model learnt from other data";
    assert!(finished.error_lines()[0].contains(said), "{finished:?}");
    let finished = judge("others", &[]);
    assert!(
        !finished.stderr.contains("the model learnt"),
        "{finished:?}"
    );
}
