//! Real trainings, and what must hold of the models they leave behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use catalog::dataset::{self, Source, Split};
use catalog::training::history::History;
use ndarray::Array2;
use pipeline::model::{Classifier, ModelFile, SessionSettings};

use crate::runtime;
use crate::testenv::{
    QUICK, TestEnv, fashion_mnist, fashion_mnist_folder, line_with, load_settings, wait,
    write_halves,
};

const TRAIN_IMAGES: usize = 4000;
/// Images to judge by.
pub const TEST_IMAGES: usize = 2000;
const EPOCHS: &str = "8";

/// What training on part of Fashion-MNIST left in its folder.
pub struct FashionModel {
    pub model: Vec<u8>,
    history: History,
    options: String,
}

/// The one training of the suite that takes more than a second.
pub fn fashion_model() -> &'static FashionModel {
    static MODEL: OnceLock<FashionModel> = OnceLock::new();
    MODEL.get_or_init(|| {
        let env = TestEnv::new();
        fashion_mnist_folder(&env.path("data"), TRAIN_IMAGES, TEST_IMAGES);
        env.succeed(&[
            "train",
            "data",
            "--out",
            "model",
            "--network",
            "seed",
            "--filters",
            "16,32",
            "--dense-units",
            "64",
            "--batch-norm",
            "--optimizer",
            "adamw",
            "--learning-rate",
            "0.004",
            "--batch-size",
            "50",
            "--epochs",
            EPOCHS,
            "--shift",
            "0.04",
            "--erasing",
            "0",
            "--seed",
            "1",
        ]);
        FashionModel {
            model: fs::read(env.path("model/model.onnx")).unwrap(),
            history: History::read_csv(env.read("model/history.csv").as_bytes()).unwrap(),
            options: env.read("model/options.json"),
        }
    })
}

fn classifier(model: &[u8]) -> Classifier {
    let file = ModelFile::from_bytes(model.to_vec(), "the model").unwrap();
    let settings = SessionSettings::on_processor(1);
    Classifier::load(&runtime::training().environment, &file, &settings).unwrap()
}

fn test_part(count: usize) -> Split {
    let test = fashion_mnist().test.as_ref().unwrap();
    test.subset(&(0..count).collect::<Vec<_>>())
}

/// Index of the largest value of each row.
fn argmax(values: &Array2<f32>) -> Vec<usize> {
    let largest = |row: ndarray::ArrayView1<'_, f32>| {
        (0..row.len())
            .max_by(|&a, &b| row[a].total_cmp(&row[b]))
            .unwrap()
    };
    values.outer_iter().map(largest).collect()
}

#[test]
fn a_short_training_on_real_images_reaches_an_accuracy_of_80_percent() {
    let trained = fashion_model();
    let mut classifier = classifier(&trained.model);
    assert_eq!(classifier.labels(), fashion_mnist().classes);
    let test = test_part(TEST_IMAGES);
    let predictions = classifier
        .classify(&test.pixels.to_vec().unwrap(), TEST_IMAGES)
        .unwrap();
    let right = argmax(&predictions.logits)
        .into_iter()
        .zip(&test.labels)
        .filter(|(found, expected)| *found == **expected as usize)
        .count();
    let accuracy = right as f64 / TEST_IMAGES as f64;
    assert!(
        accuracy >= 0.80,
        "accuracy {accuracy} on {TEST_IMAGES} test images"
    );
    // Probabilities are those of the logits at the temperature that the file says.
    let model = ModelFile::from_bytes(trained.model.clone(), "model").unwrap();
    let temperature = f64::from(model.metadata().temperature);
    assert!(
        (0.3..3.0).contains(&temperature) && temperature != 1.0,
        "{temperature}"
    );
    let weight = |logit: f32| (f64::from(logit) / temperature).exp();
    for (logits, probabilities) in predictions
        .logits
        .outer_iter()
        .zip(predictions.probabilities.outer_iter())
    {
        let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        for (&logit, &probability) in logits.iter().zip(probabilities) {
            assert!((weight(logit) / sum - f64::from(probability)).abs() < 1e-5);
        }
    }
}

#[test]
fn the_model_and_its_records_say_how_it_was_made() {
    let trained = fashion_model();
    assert_eq!(trained.history.epochs.len().to_string(), EPOCHS);
    assert!(trained.history.epochs[7].train_loss < trained.history.epochs[0].train_loss);
    let file = ModelFile::from_bytes(trained.model.clone(), "the model").unwrap();
    let metadata = file.metadata();
    let summary = &metadata.summary;
    let options: serde_json::Value = serde_json::from_str(&trained.options).unwrap();
    assert_eq!(summary["options"], options);
    assert_eq!(options["seed"], 1);
    assert_eq!(
        options["architecture"]["filters"],
        serde_json::json!([16, 32])
    );
    assert_eq!(summary["data"]["train_images"], 3600);
    assert_eq!(summary["data"]["validation_images"], 400);
    assert_eq!(
        summary["epochs"].as_array().unwrap().len(),
        trained.history.epochs.len()
    );
    let best = trained.history.best().unwrap();
    assert_eq!(summary["run"]["best_epoch"], best.epoch);
    assert_eq!(summary["run"]["best_accuracy"], best.validation_accuracy);
    assert_eq!(metadata.self_test.len(), 4);
    assert_eq!(
        (metadata.preprocess.height, metadata.preprocess.width),
        (28, 28)
    );
}

#[test]
fn images_written_as_files_get_the_labels_of_the_raw_pixels() {
    let env = TestEnv::new();
    env.write("model.onnx", &fashion_model().model);
    fashion_mnist_folder(&env.path("data"), 100, TEST_IMAGES);
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

    let test = test_part(TEST_IMAGES);
    let mut classifier = classifier(&fashion_model().model);
    let predictions = classifier
        .classify(&test.pixels.to_vec().unwrap(), TEST_IMAGES)
        .unwrap();
    let expected = argmax(&predictions.logits);

    let mut reader = csv::Reader::from_path(env.path("labels.csv")).unwrap();
    let mut seen = [false; TEST_IMAGES];
    for row in reader.records() {
        let row = row.unwrap();
        let index: usize = Path::new(&row[0])
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            !std::mem::replace(&mut seen[index], true),
            "{} twice",
            &row[0]
        );
        assert_eq!(row[1], classifier.labels()[expected[index]], "{}", &row[0]);
        let confidence: f32 = row[2].parse().unwrap();
        let probability = predictions.probabilities[[index, expected[index]]];
        assert!(
            (confidence - probability).abs() < 1e-5,
            "{}: {confidence}, expected {probability}",
            &row[0]
        );
        assert_eq!(&row[3], "ok");
    }
    assert!(seen.iter().all(|&seen| seen), "an image has no row");
}

#[test]
fn the_same_seed_gives_the_same_model_file_and_another_another() {
    let env = TestEnv::new();
    fashion_mnist_folder(&env.path("data"), 300, 10);
    let train = |out: &str, seed: &str| {
        // Augmentation, dropout and batch statistics on purpose: everything random has to come from the seed.
        env.succeed(&[
            "train",
            "data",
            "--out",
            out,
            "--network",
            "seed",
            "--filters",
            "8",
            "--dense-units",
            "16",
            "--batch-norm",
            "--batch-size",
            "32",
            "--epochs",
            "2",
            "--rotation",
            "10",
            "--seed",
            seed,
        ]);
        fs::read(env.path(out).join("model.onnx")).unwrap()
    };
    let first = train("first", "5");
    assert_eq!(first, train("again", "5"));
    assert_ne!(first, train("other", "6"));
}

#[test]
fn options_that_were_saved_train_the_same_model_again() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 10);
    env.succeed(
        &[
            &["train", "halves", "--out", "first", "--rotation", "5"],
            QUICK,
        ]
        .concat(),
    );
    env.succeed(&[
        "train",
        "halves",
        "--out",
        "again",
        "--config",
        "first/options.json",
    ]);
    let model = |out: &str| fs::read(env.path(out).join("model.onnx")).unwrap();
    assert_eq!(model("first"), model("again"));
    assert_eq!(
        env.read("first/options.json"),
        env.read("again/options.json")
    );
}

#[test]
fn a_mirror_averaged_model_cannot_tell_left_from_right_and_half_floats_halve_it() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    let train = |out: &str, more: &[&str]| {
        let common = ["train", "halves", "--out", out, "--colour", "rgb"];
        let network = ["--network", "vgg", "--stages", "16:32", "--epochs", "2"];
        env.succeed(&[&common[..], &network, more].concat());
        fs::read(env.path(out).join("model.onnx")).unwrap()
    };
    let plain = train("plain", &["--weights", "float32"]);
    // Training compares the file with its own logits of both images, widened half floats included.
    let averaged = train("averaged", &["--mirror-averaging", "--weights", "float16"]);
    assert!(
        averaged.len() * 4 < plain.len() * 3,
        "{} {}",
        averaged.len(),
        plain.len()
    );

    let mut classifier = classifier(&averaged);
    let (width, channels) = (classifier.preprocess().width as usize, 3);
    let image: Vec<u8> = (0..classifier.preprocess().bytes_per_image())
        .map(|index| (index * 7 % 251) as u8)
        .collect();
    let mirrored: Vec<u8> = image
        .chunks(width * channels)
        .flat_map(|row| row.rchunks(channels).flatten().copied())
        .collect();
    let mut logits = |image: &[u8]| {
        classifier
            .classify(image, 1)
            .unwrap()
            .logits
            .row(0)
            .to_vec()
    };
    let (one, other) = (logits(&image), logits(&mirrored));
    for (one, other) in one.iter().zip(&other) {
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
}

#[test]
fn a_residual_network_trains_on_colour_images_of_an_odd_size() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    env.succeed(&[
        "train",
        "halves",
        "--out",
        "model",
        "--size",
        "9x7",
        "--colour",
        "rgb",
        "--network",
        "resnet",
        "--stem",
        "4",
        "--widths",
        "6,8",
        "--epochs",
        "2",
        "--batch-size",
        "16",
    ]);
    let model = fs::read(env.path("model/model.onnx")).unwrap();
    let classifier = classifier(&model);
    assert_eq!(classifier.labels(), ["bottom", "left", "right", "top"]);
    assert_eq!(classifier.preprocess().bytes_per_image(), 7 * 9 * 3);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_the_best_model_so_far() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    let arguments = [
        &["train", "halves", "--out", "model", "--epochs", "100000"],
        QUICK,
    ]
    .concat();
    let mut child = env
        .command(&arguments)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    line_with(&mut lines, "epoch 1/100000: ");
    let pid = child.id().to_string();
    assert!(
        Command::new("sh")
            .args(["-c", "kill -INT $0", &pid])
            .status()
            .unwrap()
            .success()
    );
    line_with(&mut lines, "exported ");
    assert!(lines.all(|line| !line.unwrap().starts_with("error: ")));
    assert_eq!(wait(&mut child), Some(130));

    let model = fs::read(env.path("model/model.onnx")).unwrap();
    assert_eq!(classifier(&model).labels().len(), 4);
    let history = History::read_csv(env.read("model/history.csv").as_bytes()).unwrap();
    assert!((1..100_000).contains(&history.epochs.len()));
    let file = ModelFile::from_bytes(model, "the model").unwrap();
    assert_eq!(file.metadata().summary["run"]["stopped"], true);
}

#[test]
fn a_diverging_training_says_so_in_one_line() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    let finished = env.run(&[
        "train",
        "halves",
        "--out",
        "model",
        "--network",
        "seed",
        "--filters",
        "8",
        "--dense-units",
        "16",
        "--optimizer",
        "sgd",
        "--schedule",
        "constant",
        "--learning-rate",
        "1e6",
        "--batch-size",
        "16",
        "--epochs",
        "3",
        "--seed",
        "1",
    ]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let [line] = finished.error_lines()[..] else {
        panic!("not one error line: {finished:?}");
    };
    assert!(
        line.contains("lower") && line.contains("learning rate"),
        "{line}"
    );
    // Not a stack trace either.
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    assert!(!env.path("model/model.onnx").exists());
    assert!(
        !env.path("model/training.checkpoint").exists(),
        "it would diverge again"
    );
}

#[test]
fn a_gpu_that_cannot_be_used_is_refused_with_the_missing_piece() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 4);
    let finished = env.run(&["train", "halves", "--out", "model", "--device", "cuda:99"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("cannot train on cuda:99"),
        "{finished:?}"
    );
    // Which piece that is depends on the machine: the build of ONNX Runtime, the driver, a library, or a hundredth GPU.
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    let finished = env.run(&["train", "halves", "--out", "model", "--device", "cuda:0,1"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("training runs on one GPU"),
        "{finished:?}"
    );
    let finished = env.run(&[
        "train",
        "halves",
        "--out",
        "model",
        "--device",
        "tensorrt:1",
    ]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("TensorRT does not train: train with --device cuda:1"),
        "{finished:?}"
    );
    assert!(!env.path("model").exists());
}

#[test]
fn images_that_are_too_many_for_memory_train_the_same_model() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    env.write("halves/left/notes.txt", "not an image");
    let train = |out: &str, memory: &str| {
        let arguments = ["train", "halves", "--out", out, "--data-memory", memory];
        let finished = env.succeed(&[&arguments, QUICK, &["--epochs", "2"]].concat());
        let model = fs::read(env.path(out).join("model.onnx")).unwrap();
        (model, finished.stderr)
    };
    let (in_memory, quiet) = train("one", "1M");
    let (in_a_file, told) = train("two", "1K");
    assert_eq!(in_memory, in_a_file);
    assert!(!quiet.contains("not in memory"), "{quiet}");
    assert!(told.contains("81 images take"), "{told}");
}

#[test]
fn files_that_are_no_images_are_named_and_counted() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 20);
    env.write("halves/left/notes.txt", "not an image");
    env.write(
        "halves/top/cut.png",
        &fs::read(env.path("halves/top/000.png")).unwrap()[..60],
    );
    let train = |failures| {
        let arguments = [
            "train",
            "halves",
            "--out",
            "model",
            "--max-failures",
            failures,
        ];
        env.run(&[&arguments, QUICK].concat())
    };
    for too_few in ["1", "1.5%"] {
        let refused = train(too_few);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.stderr.contains("2 of 82 files cannot be used"),
            "{refused:?}"
        );
        assert!(!env.path("model").exists());
    }
    let finished = train("2");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let warnings: Vec<&str> = finished
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    assert_eq!(warnings.len(), 2, "{finished:?}");
    assert!(warnings[0].contains("left/notes.txt"), "{}", warnings[0]);
    assert!(warnings[1].contains("top/cut.png"), "{}", warnings[1]);
    let model = ModelFile::read(&env.path("model/model.onnx")).unwrap();
    assert_eq!(model.metadata().summary["data"]["skipped_files"], 2);
    let source = Source::detect(env.path("halves").to_str().unwrap()).unwrap();
    let dataset = dataset::load(&source, &load_settings()).unwrap();
    assert_eq!(
        model.metadata().summary["data"]["fingerprint"],
        dataset.fingerprint.as_str()
    );
}
