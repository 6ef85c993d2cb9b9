//! From calibration to decision: what training measures, classify uses, evaluate checks and inspect shows.

use std::collections::BTreeMap;
use std::fs;

use image::{GrayImage, ImageFormat, Luma};
use pipeline::model::{ModelFile, seal};
use pipeline::onnx::ModelProto;
use prost::Message as _;
use serde_json::Value;

use crate::testenv::{Half, TestEnv, halves_model, write_halves};

/// The model of the halves and some of their images; one more says nothing, one is damaged, one is none.
fn shop() -> TestEnv {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    fs::create_dir_all(env.path("shop")).unwrap();
    let save = |image: GrayImage, name: &str| image.save(env.path(name)).unwrap();
    for number in 0..12 {
        let half = Half::ALL[number as usize % 4];
        save(
            half.image(20, 900 + number),
            &format!("shop/{number:02}.png"),
        );
    }
    save(GrayImage::from_pixel(20, 20, Luma([120])), "shop/flat.png");
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let image = Half::Top.image(200, 1);
    image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    env.write("shop/cut.jpg", &jpeg[..jpeg.len() - 40]);
    env.write("shop/notes.txt", "no image");
    env
}

fn classify<'a>(out: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let command = ["classify", "shop", "--model", "model.onnx", "--out", out];
    [&command[..], options].concat()
}

/// Runs to the end; two files are not whole images.
#[track_caller]
fn labels(env: &TestEnv, out: &str, options: &[&str]) -> String {
    let finished = env.run(&classify(out, options));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    env.read(out)
}

/// The rows by path: confidence, status and decision.
fn rows(csv: &str) -> BTreeMap<String, (Option<f64>, String, String)> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let place = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let places = ["path", "confidence", "status", "decision"].map(place);
    assert_eq!(places[3], headers.len() - 1);
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let [path, confidence, status, decision] = places.map(|place| record[place].to_owned());
            (path, (confidence.parse().ok(), status, decision))
        })
        .collect()
}

fn json(env: &TestEnv, name: &str) -> Value {
    serde_json::from_str(&env.read(name)).unwrap()
}

/// The same model as if it had been made before anything was measured.
fn without_calibration(model: &[u8]) -> Vec<u8> {
    let file = ModelFile::from_bytes(model.to_vec(), "model").unwrap();
    let mut metadata = file.metadata().clone();
    assert!(metadata.calibration.take().is_some());
    let mut onnx = ModelProto::decode(model).unwrap();
    onnx.metadata_props
        .retain(|entry| !entry.key().starts_with("catalog."));
    seal(onnx, &metadata).unwrap()
}

/// A confidence between that of the image that says nothing and that of the surest.
fn confidence_between(env: &TestEnv) -> String {
    let rows = rows(&labels(env, "first.csv", &["--review-below", "0"]));
    let least = rows["./flat.png"].0.unwrap();
    assert!(least < 0.99, "a picture without content is {least}");
    format!("{:.4}", (least + 1.0) / 2.0)
}

#[test]
fn labels_below_a_confidence_are_reviewed() {
    let env = shop();
    let limit = confidence_between(&env);
    let rows = rows(&labels(&env, "labels.csv", &["--review-below", &limit]));
    let limit: f64 = limit.parse().unwrap();
    let mut counts = [0, 0];
    for (path, (confidence, status, decision)) in &rows {
        let expected = match (status.as_str(), confidence) {
            ("ok", Some(confidence)) if *confidence >= limit => "accept",
            ("ok" | "degraded", Some(_)) => "review",
            _ => "",
        };
        assert_eq!(decision, expected, "{path}");
        counts[0] += u64::from(decision == "accept");
        counts[1] += u64::from(decision == "review");
    }
    assert_eq!(rows["./cut.jpg"].1, "degraded");
    assert_eq!(rows["./notes.txt"].2, "");
    assert!(counts[0] > 0 && counts[1] > 1, "{counts:?}");
    let report = json(&env, "labels.csv.report.json");
    let decisions = &report["summary"]["decisions"];
    assert_eq!([&decisions["accept"], &decisions["review"]], counts);
    assert_eq!(report["accepting"]["thresholds"][0]["label"], "bottom");
    assert!(report["accepting"]["expected"]["coverage"].is_number());

    // The same as JSON lines; without thresholds there is no such field.
    let limit = limit.to_string();
    let jsonl = labels(
        &env,
        "a.jsonl",
        &["--format", "jsonl", "--review-below", &limit],
    );
    for line in jsonl.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let decision = line["decision"].as_str().unwrap_or_default();
        assert_eq!(decision, rows[line["path"].as_str().unwrap()].2);
    }
    assert!(!labels(&env, "plain.csv", &[]).contains("decision"));
    assert!(!env.read("plain.csv.report.json").contains("accepting"));
}

#[test]
fn a_precision_is_aimed_at_as_far_as_the_validation_images_reach() {
    let env = shop();
    // Thirty-two images without a mistake: enough for nine in ten, not for 999 in a thousand.
    let accepted = |precision: &str| {
        let csv = labels(&env, "labels.csv", &["--target-precision", precision]);
        let rows = rows(&csv);
        rows.values().filter(|row| row.2 == "accept").count()
    };
    assert_eq!([accepted("0.9"), accepted("0.999")], [13, 0]);
    // Of two demands both have to be met.
    let both = ["--target-precision", "0.9", "--review-below", "1.0"];
    assert!(rows(&labels(&env, "labels.csv", &both))["./flat.png"].2 == "review");

    for (wrong, said) in [
        (["--target-precision", "1"], "above 0 and below 1"),
        (["--target-precision", "99"], "above 0 and below 1"),
        (["--review-below", "1.1"], "from 0 to 1"),
    ] {
        let finished = env.run(&classify("labels.csv", &wrong));
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
}

#[test]
fn a_model_that_measured_nothing_is_refused_only_where_a_precision_is_asked_for() {
    let env = shop();
    env.write("model.onnx", without_calibration(halves_model()));
    let finished = env.run(&classify("labels.csv", &["--target-precision", "0.9"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let [error] = finished.error_lines()[..] else {
        panic!("not one error line: {finished:?}");
    };
    assert!(
        error.contains("train it again") && error.contains("--review-below"),
        "{error}"
    );
    assert!(!env.path("labels.csv").exists());
    labels(&env, "labels.csv", &["--review-below", "0.5"]);
    assert_eq!(
        json(&env, "labels.csv.report.json")["accepting"]["expected"],
        Value::Null
    );
    let text = env.succeed(&["inspect", "model.onnx"]).stdout;
    assert!(text.contains("calibration  not measured"), "{text}");
}

#[test]
fn decisions_follow_the_thresholds_of_this_run_whatever_an_earlier_one_had() {
    let env = shop();
    let limit = confidence_between(&env);
    let strict = ["--review-below", limit.as_str()];
    let anew = labels(&env, "anew.csv", &strict);
    let all = labels(&env, "labels.csv", &["--review-below", "0"]);
    assert_ne!(all, anew);
    // The rows of the last run serve, its decisions do not.
    assert_eq!(labels(&env, "labels.csv", &strict), anew);
    let comparison =
        |out: &str| json(&env, &format!("{out}.report.json"))["summary"]["comparison"].clone();
    assert_eq!(comparison("labels.csv")["reused"], 14);
    let with_previous = [&strict[..], &["--previous", "first.csv"]].concat();
    assert_eq!(labels(&env, "other.csv", &with_previous), anew);
    assert_eq!(comparison("other.csv")["reused"], 14);
    // Nor are there decisions where none are wished for any more.
    assert!(!labels(&env, "labels.csv", &[]).contains("decision"));
}

#[test]
fn a_stopped_run_goes_on_with_other_thresholds() {
    let env = shop();
    let limit = confidence_between(&env);
    let strict = ["--review-below", limit.as_str()];
    let anew = labels(&env, "anew.csv", &strict);
    labels(&env, "labels.csv", &["--review-below", "0"]);
    // As if it had been killed just before its end.
    let state = env.path("labels.csv.state");
    fs::rename(state.join("finished"), state.join("running")).unwrap();
    fs::remove_file(env.path("labels.csv")).unwrap();
    assert_eq!(labels(&env, "labels.csv", &strict), anew);
    let report = json(&env, "labels.csv.report.json");
    assert_eq!(report["summary"]["comparison"]["continued"], 15);
}

#[test]
fn shards_with_different_thresholds_are_not_joined() {
    let env = shop();
    let part = |number: &str, limit: &str| {
        let (out, shard) = (format!("{number}.csv"), format!("{number}/2"));
        let finished = env.run(&classify(
            &out,
            &["--shard", &shard, "--review-below", limit],
        ));
        assert!(matches!(finished.code, Some(0 | 3)), "{finished:?}");
    };
    part("1", "0.5");
    part("2", "0.6");
    let merge = ["merge", "1.csv", "2.csv", "--out", "all.csv"];
    let finished = env.run(&merge);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.error_lines()[0].contains("--review-below was 0.6 there, 0.5 here"),
        "{finished:?}"
    );
    part("2", "0.5");
    assert_eq!(env.run(&merge).code, Some(3));
    assert_eq!(
        env.read("all.csv"),
        labels(&env, "whole.csv", &["--review-below", "0.5"])
    );
    let decisions = |name: &str| json(&env, name);
    assert_eq!(
        decisions("all.csv.report.json")["decisions"],
        decisions("whole.csv.report.json")["summary"]["decisions"]
    );
}

#[test]
fn what_is_to_be_reviewed_is_sorted_apart() {
    let env = shop();
    let limit = confidence_between(&env);
    let options = ["--review-below", limit.as_str(), "--sort-into", "sorted"];
    let rows = rows(&labels(&env, "labels.csv", &options));
    let mut reviewed = 0;
    for entry in walkdir::WalkDir::new(env.path("sorted")).min_depth(1) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = format!("./{}", entry.file_name().to_str().unwrap());
            let place = entry.path().strip_prefix(env.path("sorted")).unwrap();
            assert_eq!(
                place.starts_with("review"),
                rows[&name].2 == "review",
                "{name}"
            );
            assert_eq!(
                place.starts_with("failed"),
                rows[&name].2.is_empty(),
                "{name}"
            );
            reviewed += usize::from(place.starts_with("review") && place.components().count() == 3);
        }
    }
    assert!(reviewed >= 2, "{reviewed}");
}

#[test]
fn training_says_what_it_measured_and_evaluate_and_inspect_show_it() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 40);
    let trained = env.succeed(
        &[
            &["train", "halves", "--out", "model"],
            crate::testenv::QUICK,
        ]
        .concat(),
    );
    let line = trained
        .stderr
        .lines()
        .find(|line| line.contains("temperature "))
        .unwrap_or_else(|| panic!("{trained:?}"));
    assert!(
        line.contains("calibration error") && line.contains("on 32 validation images"),
        "{line}"
    );
    let model = fs::read(env.path("model/model.onnx")).unwrap();
    let file = ModelFile::from_bytes(model, "model").unwrap();
    let calibration = file.metadata().calibration.as_ref().unwrap();
    assert_eq!((calibration.images, calibration.classes.len()), (32, 4));
    assert_ne!(file.metadata().temperature, 1.0);

    let inspected = env.succeed(&["inspect", "model/model.onnx"]).stdout;
    for part in ["Lowest confidence that is accepted", "0.995", "options "] {
        assert!(inspected.contains(part), "{part:?} is not in:\n{inspected}");
    }
    let described: Value = serde_json::from_str(
        &env.succeed(&["inspect", "model/model.onnx", "--json"])
            .stdout,
    )
    .unwrap();
    assert_eq!(described["calibration"]["images"], 32);
    assert_eq!(described["thresholds"][0]["target_precision"], 0.9);

    let evaluate = [
        "evaluate",
        "halves",
        "--model",
        "model/model.onnx",
        "--metrics",
        "m.json",
    ];
    let plain = env.succeed(&evaluate).stdout;
    assert!(plain.contains("expected calibration error"), "{plain}");
    assert!(!plain.contains("target precision"), "{plain}");
    assert!(json(&env, "m.json")["calibration"]["expected_calibration_error"].is_number());
    assert_eq!(
        json(&env, "m.json")["calibration"]["bins"]
            .as_array()
            .unwrap()
            .len(),
        15
    );
    let aimed = env
        .succeed(&[&evaluate[..], &["--target-precision", "0.9"]].concat())
        .stdout;
    assert!(
        aimed.contains("target precision 0.9: 1.0000 of the images accepted"),
        "{aimed}"
    );
    let metrics = json(&env, "m.json");
    assert_eq!(metrics["acceptance"]["target_precision"], 0.9);
    assert_eq!(metrics["acceptance"]["classes"][3]["name"], "top");
}
