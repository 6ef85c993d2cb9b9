//! Training that starts from a model that was trained before: what it takes from it, and what it refuses.

use std::fs;

use ndarray::Array2;
use pipeline::model::{Classifier, ModelFile, SessionSettings};

use crate::runtime;
use crate::testenv::{Half, TestEnv, write_halves};

const SIDE: usize = 12;
const IMAGES: usize = 16;
/// So slow that a network stays what it was.
const FROZEN: [&str; 6] = [
    "--optimizer",
    "sgd",
    "--learning-rate",
    "1e-9",
    "--epochs",
    "1",
];
const MODEL: &str = "before/model.onnx";

/// A model of halves, `before/model.onnx`.
fn trained(weights: &str) -> TestEnv {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 40);
    let network = ["--network", "seed", "--filters", "6", "--dense-units", "32"];
    let fit = [
        "--dropout",
        "0",
        "--optimizer",
        "adamw",
        "--learning-rate",
        "0.02",
        "--batch-size",
        "16",
        "--epochs",
        "4",
        "--split-seed",
        "7",
        "--size",
        "12",
        "--weights",
        weights,
    ];
    let begin = ["train", "halves", "--out", "before", "--no-augment"];
    env.succeed(&[&begin[..], &network, &fit].concat());
    env
}

/// The arguments of a training that starts from it.
fn after<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let begin = [
        "train",
        data,
        "--out",
        out,
        "--start-from",
        MODEL,
        "--no-augment",
        "--weights",
        "float32",
        "--seed",
        "5",
    ];
    [&begin[..], more].concat()
}

fn logits(env: &TestEnv, name: &str) -> Array2<f32> {
    let file = ModelFile::read(&env.path(name)).unwrap();
    let settings = SessionSettings::on_processor(1);
    let mut classifier =
        Classifier::load(&runtime::training().environment, &file, &settings).unwrap();
    let images: Vec<u8> = (0..IMAGES as u64)
        .flat_map(|seed| {
            Half::ALL[seed as usize % 4]
                .image(SIDE as u32, seed)
                .into_raw()
        })
        .collect();
    classifier.classify(&images, IMAGES).unwrap().logits
}

/// The first columns of `found` are `expected`, to within what normalising with other statistics explains.
#[track_caller]
fn assert_near(found: &Array2<f32>, expected: &Array2<f32>) {
    for (found, expected) in found.outer_iter().zip(expected.outer_iter()) {
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 0.02 * expected.abs().max(1.0),
                "{found}, not {expected}"
            );
        }
    }
}

#[test]
fn a_network_goes_on_from_the_weights_however_they_are_held() {
    for weights in ["float32", "float16", "int8"] {
        let env = trained(weights);
        let said = env.succeed(&after("halves", "after", &FROZEN)).stderr;
        assert!(
            said.contains("starting from before/model.onnx, which knows 4 of the 4 classes"),
            "{said}"
        );
        assert_near(&logits(&env, "after/model.onnx"), &logits(&env, MODEL));
        // Network and split are those of the model, whatever the preset and the seed say.
        let options = env.read("after/options.json");
        assert!(options.contains("\"split_seed\": 7"), "{options}");
        assert!(
            options.contains("\"path\": \"before/model.onnx\""),
            "{options}"
        );
        let text = env.succeed(&["inspect", "after/model.onnx"]).stdout;
        assert!(
            text.contains("start.path") && text.contains(MODEL),
            "{text}"
        );
        // The options alone do it again, as long as the file is the same.
        let again = [
            "train",
            "halves",
            "--out",
            "again",
            "--config",
            "after/options.json",
        ];
        env.succeed(&again);
        assert_eq!(
            fs::read(env.path("after/model.onnx")).unwrap(),
            fs::read(env.path("again/model.onnx")).unwrap()
        );
    }
}

#[test]
fn classes_that_are_new_begin_anew_and_the_others_stay() {
    let env = trained("float32");
    // In front of the others, so that every row is at another place.
    for number in 0..40 {
        let image = image::GrayImage::from_pixel(12, 12, image::Luma([number + 100]));
        let path = env.path(&format!("halves/all/{number:03}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }
    let said = env.succeed(&after("halves", "after", &FROZEN)).stderr;
    assert!(said.contains("knows 4 of the 5 classes"), "{said}");
    assert!(said.contains("learnt from other data"), "{said}");
    let found = logits(&env, "after/model.onnx");
    // The images have other statistics with the new ones among them, so the logits are near at best.
    let known = found.slice(ndarray::s![.., 1..]).to_owned();
    let before = logits(&env, MODEL);
    let largest = |row: ndarray::ArrayView1<'_, f32>| {
        let places = row.iter().enumerate();
        places
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(place, _)| place)
    };
    for (found, before) in known.outer_iter().zip(before.outer_iter()) {
        assert_eq!(largest(found), largest(before));
    }

    // It then learns the new one.
    let learnt = [
        "--optimizer",
        "adamw",
        "--learning-rate",
        "0.01",
        "--epochs",
        "4",
    ];
    env.succeed(&after(
        "halves",
        "learnt",
        &[&learnt[..], &["--batch-size", "16"]].concat(),
    ));
    let judged = env.succeed(&["evaluate", "halves", "--model", "learnt/model.onnx"]);
    assert!(
        judged.stdout.starts_with("accuracy 1.0000"),
        "{}",
        judged.stdout
    );
}

#[test]
fn what_it_cannot_start_from_is_named() {
    let env = trained("float32");
    let refused = |arguments: &[&str]| {
        let finished = env.run(arguments);
        assert_ne!(finished.code, Some(0), "{arguments:?}");
        assert!(!env.path("after").exists(), "{arguments:?}");
        finished.stderr
    };
    let text = refused(&after("halves", "after", &["--filters", "8"]));
    assert!(
        text.contains(
            "before/model.onnx is of another network, or of images of another kind: its "
        ),
        "{text}"
    );
    let text = refused(&after("halves", "after", &["--size", "24"]));
    assert!(text.contains("of images of another kind"), "{text}");
    let text = refused(&after("halves", "after", &["--split-seed", "8"]));
    assert!(
        text.contains("learnt from images that would be held out now")
            && text.contains("0.1 and 7"),
        "{text}"
    );
    let text = refused(&after(
        "halves",
        "after",
        &["--backbone", "efficientnet-lite0"],
    ));
    assert!(text.contains("cannot be used with"), "{text}");
    let text = refused(&[
        "train",
        "halves",
        "--out",
        "after",
        "--start-from",
        "none.onnx",
    ]);
    assert!(text.contains("none.onnx"), "{text}");

    // A mean of models has more than one network.
    let other = ["--out", "other", "--optimizer", "adamw", "--epochs", "1"];
    env.succeed(&[&["train", "halves", "--start-from", MODEL], &other[..]].concat());
    env.succeed(&[
        "ensemble",
        "halves",
        MODEL,
        "other/model.onnx",
        "--out",
        "mean",
    ]);
    let text = refused(&[
        "train",
        "halves",
        "--out",
        "after",
        "--start-from",
        "mean/model.onnx",
    ]);
    assert!(text.contains("is a mean of several models"), "{text}");

    // Options go with the file that they were made for.
    fs::copy(env.path(MODEL), env.path("kept.onnx")).unwrap();
    fs::copy(env.path("other/model.onnx"), env.path(MODEL)).unwrap();
    let text = refused(&[
        "train",
        "halves",
        "--out",
        "after",
        "--config",
        "other/options.json",
    ]);
    assert!(
        text.contains("is not the file these options were made for"),
        "{text}"
    );
}

#[test]
fn a_network_without_dense_layers_goes_on_with_larger_images() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    let network = [
        "--network",
        "vgg",
        "--stages",
        "8:8",
        "--prune",
        "0",
        "--epochs",
        "1",
    ];
    let begin = [
        "train",
        "halves",
        "--no-augment",
        "--batch-size",
        "16",
        "--size",
    ];
    env.succeed(&[&begin[..], &["8", "--out", "before"], &network].concat());
    let more = ["--epochs", "1", "--size", "12", "--batch-size", "16"];
    env.succeed(&after("halves", "after", &more));
    let text = env.succeed(&["inspect", "after/model.onnx"]).stdout;
    assert!(text.contains("12×12"), "{text}");
}
