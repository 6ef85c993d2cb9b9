//! Categories above the labels, and pictures of unknown things: what classify writes, sorts, continues and joins with them.

use std::collections::BTreeMap;
use std::fs;

use image::{GrayImage, Luma};
use pipeline::model::{ModelFile, seal};
use pipeline::onnx::ModelProto;
use prost::Message as _;
use serde_json::Value;

use crate::testenv::{Half, TestEnv, halves_model, write_halves};

const TAXONOMY: &str = "\
label,path,external_id
bottom,Halves > Lying > Bottom,11
top,Halves > Lying > Top,12
left,Halves > Standing > Left,21
right,Halves > Standing > Right,22
,Halves > Lying,10
";

/// The model of the halves, some of their images, and between each two of them a mixture.
fn shop() -> TestEnv {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    env.write("taxonomy.csv", TAXONOMY);
    fs::create_dir_all(env.path("shop")).unwrap();
    for number in 0..8 {
        let half = Half::ALL[number as usize % 4];
        let image = half.image(20, 900 + number);
        image
            .save(env.path(&format!("shop/{number:02}.png")))
            .unwrap();
        for (place, other) in Half::ALL.into_iter().enumerate() {
            let mut mixed = image.clone();
            let second = other.image(20, 800 + number);
            for (x, y, Luma([value])) in mixed.enumerate_pixels_mut() {
                *value = (*value / 2).saturating_add(second.get_pixel(x, y).0[0] / 2);
            }
            mixed
                .save(env.path(&format!("shop/{number:02}-{place}.png")))
                .unwrap();
        }
    }
    let flat = GrayImage::from_pixel(20, 20, Luma([120]));
    flat.save(env.path("shop/flat.png")).unwrap();
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let image = Half::Top.image(200, 1);
    image.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
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

fn json(env: &TestEnv, name: &str) -> Value {
    serde_json::from_str(&env.read(name)).unwrap()
}

/// The rows by path, each as its cells by column.
fn rows(csv: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let headers = reader.headers().unwrap().clone();
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let cells = headers.iter().zip(&record);
            let cells = cells.map(|(name, cell)| (name.to_owned(), cell.to_owned()));
            (record[0].to_owned(), cells.collect())
        })
        .collect()
}

/// A limit between the confidences of the mixtures, so that some labels do not reach it.
fn limit(env: &TestEnv) -> String {
    let rows = rows(&labels(env, "first.csv", &[]));
    let mut confidences: Vec<f64> = rows
        .values()
        .filter_map(|row| row["confidence"].parse().ok())
        .collect();
    confidences.sort_by(f64::total_cmp);
    format!("{:.6}", confidences[confidences.len() / 2] + 1e-6)
}

#[test]
fn without_thresholds_the_category_is_that_of_the_label() {
    let env = shop();
    let plain = rows(&labels(&env, "plain.csv", &[]));
    let text = labels(&env, "labels.csv", &["--taxonomy", "taxonomy.csv"]);
    assert!(
        text.starts_with(
            "path,label,confidence,status,error,category,category_id,category_confidence\n"
        ),
        "{text}"
    );
    for (path, row) in rows(&text) {
        for column in ["label", "confidence", "status"] {
            assert_eq!(row[column], plain[&path][column]);
        }
        let (category, id) = match row["label"].as_str() {
            "bottom" => ("Halves > Lying > Bottom", "11"),
            "top" => ("Halves > Lying > Top", "12"),
            "left" => ("Halves > Standing > Left", "21"),
            "right" => ("Halves > Standing > Right", "22"),
            _ => ("", ""),
        };
        let said = [
            &row["category"],
            &row["category_id"],
            &row["category_confidence"],
        ];
        assert_eq!(said, [category, id, row["confidence"].as_str()]);
    }
    let report = json(&env, "labels.csv.report.json");
    assert_eq!(report["taxonomy"]["file"], "taxonomy.csv");
    assert_eq!(report["taxonomy"]["categories"], 7);
    assert_eq!(report["taxonomy"]["sha256"].as_str().unwrap().len(), 64);
    assert!(json(&env, "plain.csv.report.json")["taxonomy"].is_null());
}

#[test]
fn what_is_not_sure_rolls_up_to_what_its_labels_are_sure_of_together() {
    let env = shop();
    let limit = limit(&env);
    let options = ["--taxonomy", "taxonomy.csv", "--review-below", &limit];
    let text = labels(
        &env,
        "labels.csv",
        &[&options[..], &["--top-k", "4", "--sort-into", "sorted"]].concat(),
    );
    let threshold: f64 = limit.parse().unwrap();
    let mut rolled_up = 0;
    for (path, row) in rows(&text) {
        let number = |column: &str| row[column].parse::<f64>().unwrap();
        let folder = match row["decision"].as_str() {
            "accept" => {
                assert!(number("confidence") >= threshold - 1e-6);
                row["category"].replace(" > ", "/")
            }
            "rolled_up" => {
                rolled_up += 1;
                // The sum over all labels in the category, from the cells.
                let inside = |label: &str| match row["category"].as_str() {
                    "Halves > Lying" => ["bottom", "top"].contains(&label),
                    "Halves > Standing" => ["left", "right"].contains(&label),
                    "Halves" => true,
                    other => panic!("{other}"),
                };
                assert!(inside(&row["label"]) && number("confidence") < threshold + 1e-6);
                let sum: f64 = ["", "_2", "_3", "_4"]
                    .into_iter()
                    .filter(|place| inside(&row[&format!("label{place}")]))
                    .map(|place| number(&format!("confidence{place}")))
                    .sum();
                assert!(
                    (number("category_confidence") - sum).abs() < 1e-5,
                    "{row:?}"
                );
                assert!(sum > threshold - 1e-5);
                row["category"].replace(" > ", "/") + "/rolled_up"
            }
            "review" => {
                assert_eq!(row["status"], "degraded", "everything is surely some half");
                assert_eq!((&*row["category"], &*row["category_confidence"]), ("", ""));
                format!("review/{}", row["label"])
            }
            "" => "failed".to_owned(),
            other => panic!("{other}"),
        };
        let name = path.trim_start_matches("./");
        assert!(
            env.path("sorted").join(&folder).join(name).is_file(),
            "{folder}/{name}"
        );
    }
    assert!(rolled_up >= 3, "{rolled_up} of {text}");
    let report = json(&env, "labels.csv.report.json");
    assert_eq!(report["summary"]["decisions"]["rolled_up"], rolled_up);
    assert!((report["accepting"]["above_labels"].as_f64().unwrap() - threshold).abs() < 1e-6);

    // The other formats say the same.
    let jsonl = labels(
        &env,
        "labels.jsonl",
        &[&options[..], &["--format", "jsonl"]].concat(),
    );
    let excel = labels(&env, "excel.csv", &[&options[..], &["--excel"]].concat());
    let csv = labels(&env, "again.csv", &options);
    assert_eq!(excel, format!("\u{feff}{}", csv.replace('\n', "\r\n")));
    let rows = rows(&csv);
    assert_eq!(jsonl.lines().count(), rows.len());
    for line in jsonl.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let row = &rows[object["path"].as_str().unwrap()];
        for column in ["decision", "category", "category_id"] {
            assert_eq!(
                object[column].as_str().unwrap_or_default(),
                row[column],
                "{line}"
            );
        }
        assert_eq!(
            object["category_confidence"].as_f64(),
            row["category_confidence"].parse().ok()
        );
    }
    // A comparison reads the new words.
    let compared = env.run(&["diff", "again.csv", "labels.csv"]);
    assert_eq!(compared.code, Some(0), "{compared:?}");
}

#[test]
fn earlier_rows_serve_as_long_as_the_tree_is_the_same() {
    let env = shop();
    let limit = limit(&env);
    let options = [
        "--taxonomy",
        "taxonomy.csv",
        "--review-below",
        &limit,
        "--reject-unknown=0.9",
    ];
    let anew = labels(&env, "anew.csv", &options);
    // As if another night with other thresholds had been killed just before its end.
    labels(&env, "labels.csv", &["--taxonomy", "taxonomy.csv"]);
    let state = env.path("labels.csv.state");
    fs::rename(state.join("finished"), state.join("running")).unwrap();
    fs::remove_file(env.path("labels.csv")).unwrap();
    assert_eq!(labels(&env, "labels.csv", &options), anew);
    let comparison =
        |name: &str| json(&env, &format!("{name}.report.json"))["summary"]["comparison"].clone();
    let files = rows(&anew).len();
    assert_eq!(comparison("labels.csv")["continued"], files);

    // Other external ids: nothing is looked at again, and the new ids are written.
    env.write("taxonomy.csv", TAXONOMY.replace(",10\n", ",99\n"));
    let renamed = labels(
        &env,
        "renamed.csv",
        &[&options[..], &["--previous", "anew.csv"]].concat(),
    );
    assert_eq!(
        renamed,
        anew.replace("Halves > Lying,10,", "Halves > Lying,99,")
    );
    assert_eq!(comparison("renamed.csv")["reused"], files - 1);

    // Another tree: everything is, and nothing of a stopped run is taken for it.
    env.write(
        "taxonomy.csv",
        TAXONOMY.replace("Halves > Lying > Bottom", "Halves > Bottom"),
    );
    let moved = labels(&env, "moved.csv", &options);
    let again = env.run(&classify("anew.csv", &options));
    assert!(
        again
            .stderr
            .contains("every file is done anew: the tree of --taxonomy was"),
        "{again:?}"
    );
    assert_eq!(env.read("anew.csv"), moved);
    fs::rename(
        env.path("anew.csv.state/finished"),
        env.path("anew.csv.state/running"),
    )
    .unwrap();
    env.write("taxonomy.csv", TAXONOMY);
    let refused = env.run(&classify("anew.csv", &options));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.error_lines()[0].contains("the tree of --taxonomy was"),
        "{refused:?}"
    );
}

#[test]
fn shards_are_joined_to_the_bytes_of_the_whole_and_only_of_one_taxonomy() {
    let env = shop();
    let limit = limit(&env);
    let options = [
        "--taxonomy",
        "taxonomy.csv",
        "--review-below",
        &limit,
        "--reject-unknown",
    ];
    let part = |number: &str| {
        let (out, shard) = (format!("{number}.csv"), format!("{number}/2"));
        let finished = env.run(&classify(
            &out,
            &[&options[..], &["--shard", &shard]].concat(),
        ));
        assert!(matches!(finished.code, Some(0 | 3)), "{finished:?}");
    };
    let whole = labels(&env, "whole.csv", &options);
    let merge = ["merge", "1.csv", "2.csv", "--out", "all.csv"];
    part("1");
    part("2");
    assert_eq!(env.run(&merge).code, Some(3));
    assert_eq!(env.read("all.csv"), whole);
    assert_eq!(
        json(&env, "all.csv.report.json")["decisions"],
        json(&env, "whole.csv.report.json")["summary"]["decisions"]
    );
    env.write("taxonomy.csv", TAXONOMY.replace(",10\n", ",99\n"));
    part("2");
    let refused = env.run(&merge);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.error_lines()[0].contains("--taxonomy was"),
        "{refused:?}"
    );
}

#[test]
fn a_taxonomy_that_does_not_fit_is_refused_before_anything_runs() {
    let env = shop();
    env.write("taxonomy.csv", TAXONOMY.replace("top,", "tip,"));
    let refused = env.run(&classify("labels.csv", &["--taxonomy", "taxonomy.csv"]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(
        refused.error_lines(),
        [
            "error: line 3 of taxonomy.csv: the model has no label \"tip\"; its labels are \"bottom\", \"left\", \"right\", \"top\". Correct \
          the line or remove it"
        ]
    );
    assert!(!env.path("labels.csv").exists());
    let missing = env.run(&classify("labels.csv", &["--taxonomy", "none.csv"]));
    assert!(
        missing.error_lines()[0].contains("none.csv cannot be read"),
        "{missing:?}"
    );
}

#[test]
fn the_example_fits_the_default_model() {
    let env = TestEnv::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let taxonomy = root.join("examples/taxonomy/fashion-mnist.csv");
    let images = root.join("examples/images");
    let command = ["classify", images.to_str().unwrap(), "--out", "labels.csv"];
    let taxonomy = [
        "--taxonomy",
        taxonomy.to_str().unwrap(),
        "--target-precision",
        "0.99",
    ];
    env.succeed(&[&command[..], &taxonomy].concat());
    let rows = rows(&env.read("labels.csv"));
    assert!(
        rows.values()
            .any(|row| row["category"] == "Clothes > Tops" && row["category_id"] == "111")
    );
}

#[test]
fn what_looks_like_nothing_known_is_told_apart() {
    let env = shop();
    // So much is rejected that some of the mixtures must be.
    let options = ["--reject-unknown=0.5", "--taxonomy", "taxonomy.csv"];
    let text = labels(
        &env,
        "labels.csv",
        &[&options[..], &["--sort-into", "sorted"]].concat(),
    );
    let mut unknown = 0;
    for (path, row) in rows(&text) {
        let expected = match row["status"].as_str() {
            "ok" if row["decision"] == "unknown" => {
                unknown += 1;
                assert!(row["category"].is_empty() && !row["label"].is_empty());
                let name = path.trim_start_matches("./");
                assert!(env.path("sorted/unknown").join(name).is_file(), "{name}");
                continue;
            }
            // Without thresholds every label of a known picture is accepted.
            "ok" => "accept",
            "degraded" => "review",
            _ => "",
        };
        assert_eq!(row["decision"], expected, "{path}");
    }
    assert!(unknown > 0, "{text}");
    let report = json(&env, "labels.csv.report.json");
    assert_eq!(report["summary"]["decisions"]["unknown"], unknown);
    assert_eq!(report["settings"]["reject_unknown"], 0.5);
    let limit = report["accepting"]["unknown_below"].as_f64().unwrap();
    let model = ModelFile::from_bytes(halves_model().to_vec(), "model").unwrap();
    let familiarity = model.metadata().familiarity.as_ref().unwrap();
    assert!((limit - f64::from(familiarity.threshold(0.5))).abs() < 1e-6);
    let inspected = env.succeed(&["inspect", "model.onnx"]).stdout;
    assert!(
        inspected.contains("familiarity  score of --reject-unknown; of 32 validation"),
        "{inspected}"
    );
}

#[test]
fn a_model_that_was_made_before_says_what_to_do() {
    let env = shop();
    let file = ModelFile::from_bytes(halves_model().to_vec(), "model").unwrap();
    let mut metadata = file.metadata().clone();
    assert!(metadata.familiarity.take().is_some());
    let mut onnx = ModelProto::decode(halves_model()).unwrap();
    onnx.metadata_props
        .retain(|entry| !entry.key().starts_with("catalog."));
    env.write("model.onnx", seal(onnx, &metadata).unwrap());
    labels(&env, "labels.csv", &[]);
    for command in [
        classify("labels.csv", &["--reject-unknown"]),
        vec![
            "evaluate",
            "halves",
            "--model",
            "model.onnx",
            "--unknown",
            "shop",
        ],
    ] {
        write_halves(&env.path("halves"), 4);
        let refused = env.run(&command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.error_lines()[0].contains("train it again with this version of catalog"),
            "{refused:?}"
        );
    }
    let inspected = env.succeed(&["inspect", "model.onnx"]).stdout;
    assert!(
        inspected.contains("familiarity  not measured"),
        "{inspected}"
    );
}
