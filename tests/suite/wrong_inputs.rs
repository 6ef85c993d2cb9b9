//! Wrong inputs: each gives exactly one line that names the file and says what to do, and an exit code other than zero.

use std::fs;

use catalog::dataset::{PixelStore, Split};
use pipeline::onnx::{
    DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorShapeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, data_type,
};
use prost::Message as _;

use crate::testenv::{TestEnv, csv_row, halves_model, write_halves, write_idx};

/// Runs each command and puts what was said into one text, for a snapshot.
fn messages(env: &TestEnv, commands: &[(&str, &[&str], &str)]) -> String {
    let mut all = String::new();
    for (what, arguments, name) in commands {
        let finished = env.run(arguments);
        assert_eq!(finished.code, Some(1), "{what}: {finished:?}");
        assert_eq!(finished.stdout, "", "{what}");
        let said = finished.stderr.as_str();
        assert_eq!(said.lines().count(), 1, "{what}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(name),
            "{what}: {said}"
        );
        all.push_str(&format!("{what}:\n  {said}"));
    }
    all
}

#[test]
fn data_sets_that_cannot_be_trained_on() {
    let env = TestEnv::new();
    fs::create_dir(env.path("empty")).unwrap();
    write_halves(&env.path("one-class"), 3);
    for half in ["bottom", "left", "right"] {
        fs::remove_dir_all(env.path("one-class").join(half)).unwrap();
    }
    write_halves(&env.path("single"), 3);
    for file in ["001.png", "002.png"] {
        fs::remove_file(env.path("single/left").join(file)).unwrap();
    }
    write_halves(&env.path("no-images"), 0);
    for half in ["left", "right"] {
        env.write(&format!("no-images/{half}/notes.txt"), "text");
    }
    env.write("784.csv", csv_row("1", 785, 7) + &csv_row("2", 784, 7));
    env.write("300.csv", csv_row("1", 785, 7) + &csv_row("300", 785, 7));
    env.write("word.csv", csv_row("1", 785, 7) + &csv_row("shoe", 785, 7));
    env.write(
        "pixel.csv",
        csv_row("1", 785, 7) + &csv_row("2", 785, 7).replacen(",7", ",256", 1),
    );
    env.write(
        "names/pixels.csv",
        csv_row("0", 785, 7) + &csv_row("2", 785, 7),
    );
    env.write("names/classes.txt", "bag\ncoat\n");
    let split = Split {
        pixels: PixelStore::in_memory(vec![0; 784 * 4], 784),
        labels: vec![0, 1, 0, 1],
        sources: vec![String::new(); 4],
    };
    for folder in ["cut", "unequal", "no-labels", "not-idx"] {
        fs::create_dir(env.path(folder)).unwrap();
        write_idx(&env.path(folder), "train", &split);
    }
    let images = fs::read(env.path("cut/train-images-idx3-ubyte")).unwrap();
    env.write("cut/train-images-idx3-ubyte", &images[..2000]);
    env.write("not-idx/train-images-idx3-ubyte", "these are no images");
    let labels = fs::read(env.path("unequal/train-labels-idx1-ubyte")).unwrap();
    env.write(
        "unequal/train-labels-idx1-ubyte",
        [&[0, 0, 8, 1, 0, 0, 0, 3], &labels[8..11]].concat(),
    );
    fs::remove_file(env.path("no-labels/train-labels-idx1-ubyte")).unwrap();
    env.write("notes.txt", "hello");
    env.write(
        "listed.csv",
        "path,label\nsingle/left/000.png,left\nnowhere.png,right\n",
    );

    let train = |data: &'static str| -> [&'static str; 4] { ["train", data, "--out", "model"] };
    let cases = [
        ("missing folder", train("missing"), "missing"),
        ("empty folder", train("empty"), "empty"),
        ("one class", train("one-class"), "one-class"),
        ("one image of a class", train("single"), "single"),
        ("no images", train("no-images"), "no-images"),
        ("CSV with 784 columns", train("784.csv"), "784.csv"),
        ("label 300", train("300.csv"), "300.csv"),
        ("label that is no number", train("word.csv"), "word.csv"),
        ("pixel 256", train("pixel.csv"), "pixel.csv"),
        (
            "label without a name",
            train("names/pixels.csv"),
            "pixels.csv",
        ),
        ("truncated IDX", train("cut"), "cut/train-images-idx3-ubyte"),
        (
            "IDX of something else",
            train("not-idx"),
            "not-idx/train-images-idx3-ubyte",
        ),
        (
            "IDX files of unequal length",
            train("unequal"),
            "unequal/train-",
        ),
        (
            "IDX images without labels",
            train("no-labels"),
            "no-labels/train-images-idx3-ubyte",
        ),
        ("text file", train("notes.txt"), "notes.txt"),
        ("manifest of missing files", train("listed.csv"), "listed"),
    ];
    let cases: Vec<(&str, &[&str], &str)> = cases
        .iter()
        .map(|(what, arguments, name)| (*what, arguments.as_slice(), *name))
        .collect();
    insta::assert_snapshot!(messages(&env, &cases), @r#"
    missing folder:
      error: missing: no such file or folder; a data set is `fashion-mnist`, a folder of class folders, a folder of IDX files, a CSV of 785 columns, or a CSV with the columns path and label
    empty folder:
      error: empty: the folder is empty; a data set is `fashion-mnist`, a folder of class folders, a folder of IDX files, a CSV of 785 columns, or a CSV with the columns path and label
    one class:
      error: one-class: only one class, "top": a classifier needs at least two (one folder or label for each)
    one image of a class:
      error: single: class "left" has 1 training images: at least 2 are needed
    no images:
      error: no-images: none of the 2 files could be used; the first is left/notes.txt: the content is not that of an image
    CSV with 784 columns:
      error: 784.csv: line 2: 784 columns, expected 785: the label, then the 784 pixels of a 28×28 image
    label 300:
      error: 300.csv: line 2, column 1: label "300", expected a whole number from 0 to 255
    label that is no number:
      error: word.csv: line 2, column 1: label "shoe", expected a whole number from 0 to 255
    pixel 256:
      error: pixel.csv: line 2, column 2: pixel "256", expected a whole number from 0 to 255
    label without a name:
      error: names/pixels.csv: image 1: label 2 is out of range, expected 0 to 1 (2 classes)
    truncated IDX:
      error: cut/train-images-idx3-ubyte: byte 4: the header promises 3152 bytes (4×28×28), but the file has only 2000: it is truncated or damaged
    IDX of something else:
      error: not-idx/train-images-idx3-ubyte: byte 0: found 0x74686573, expected 0x00000803 for an IDX file of images (count, height, width)
    IDX files of unequal length:
      error: unequal/train-images-idx3-ubyte: 4 images, but unequal/train-labels-idx1-ubyte has 3 labels: the files do not belong together
    IDX images without labels:
      error: no-labels/train-images-idx3-ubyte: no train-labels-idx1-ubyte file beside it
    text file:
      error: notes.txt: not recognised; a data set is `fashion-mnist`, a folder of class folders, a folder of IDX files, a CSV of 785 columns, or a CSV with the columns path and label
    manifest of missing files:
      error: listed: class "left" has 1 training images (1 files of the data set could not be used): at least 2 are needed
    "#);
    assert!(!env.path("model/model.onnx").exists());
}

/// A classifier as another tool would write it.
fn foreign_model() -> Vec<u8> {
    let value = |name: &str, sizes: &[i64]| {
        let dimension = |&size: &i64| DimensionProto {
            value: Some(DimensionValue::Fixed(size)),
        };
        let tensor = TensorTypeProto {
            elem_type: Some(data_type::FLOAT),
            shape: Some(TensorShapeProto {
                dim: sizes.iter().map(dimension).collect(),
            }),
        };
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                value: Some(TypeValue::Tensor(tensor)),
            }),
            doc_string: None,
        }
    };
    let flatten = NodeProto {
        op_type: Some("Flatten".to_owned()),
        input: vec!["x".to_owned()],
        output: vec!["scores".to_owned()],
        ..NodeProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        producer_name: Some("another tool".to_owned()),
        graph: Some(GraphProto {
            name: Some("foreign".to_owned()),
            node: vec![flatten],
            input: vec![value("x", &[1, 1, 1, 2])],
            output: vec![value("scores", &[1, 2])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(17),
        }],
        ..ModelProto::default()
    }
    .encode_to_vec()
}

#[test]
fn models_that_cannot_be_used() {
    let env = TestEnv::new();
    write_halves(&env.path("images"), 1);
    env.write("notes.onnx", "labels: none\n");
    env.write("empty.onnx", "");
    env.write("foreign.onnx", foreign_model());
    let model = halves_model();
    let mut flipped = model.to_vec();
    flipped[model.len() / 2] ^= 4;
    env.write("flipped.onnx", flipped);
    env.write("cut.onnx", &model[..model.len() - 100]);

    let classify = |model: &'static str| -> [&'static str; 6] {
        [
            "classify",
            "images",
            "--out",
            "labels.csv",
            "--model",
            model,
        ]
    };
    let cases = [
        ("missing file", classify("missing.onnx"), "missing.onnx"),
        ("folder", classify("images"), "images"),
        ("empty file", classify("empty.onnx"), "empty.onnx"),
        ("text file", classify("notes.onnx"), "notes.onnx"),
        (
            "model of another tool",
            classify("foreign.onnx"),
            "foreign.onnx",
        ),
        ("flipped bit", classify("flipped.onnx"), "flipped.onnx"),
        ("cut", classify("cut.onnx"), "cut.onnx"),
    ];
    let cases: Vec<(&str, &[&str], &str)> = cases
        .iter()
        .map(|(what, arguments, name)| (*what, arguments.as_slice(), *name))
        .collect();
    insta::assert_snapshot!(messages(&env, &cases), @r#"
    missing file:
      error: missing.onnx cannot be read: No such file or directory (os error 2)
    folder:
      error: images cannot be read: Is a directory (os error 21)
    empty file:
      error: empty.onnx is not an ONNX model: it is empty
    text file:
      error: notes.onnx is not an ONNX model: it is a text file
    model of another tool:
      error: foreign.onnx was not made by catalog and does not say its labels and its preprocessing: give them with --labels and --preprocess
    flipped bit:
      error: flipped.onnx was changed or cut after it was written: its checksum does not agree with its content; copy it again
    cut:
      error: cut.onnx is not an ONNX model: it is cut short or something else (failed to decode Protobuf message: ModelProto.metadata_props: buffer underflow)
    "#);
    assert!(!env.path("labels.csv").exists());
}

#[test]
fn options_that_are_out_of_range() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 3);
    env.write("options.json", "{\"epochs\": \"many\"}");
    let train = |option: &'static [&'static str]| -> Vec<&'static str> {
        [&["train", "halves", "--out", "model"], option].concat()
    };
    let cases = [
        ("no epoch", train(&["--epochs", "0"]), "epoch"),
        ("batch of one", train(&["--batch-size", "1"]), "batch"),
        (
            "label smoothing of 1",
            train(&["--label-smoothing", "1"]),
            "smoothing",
        ),
        (
            "nothing to validate",
            train(&["--validation-fraction", "1"]),
            "validation",
        ),
        (
            "option of the other network",
            train(&["--filters", "8"]),
            "--filters",
        ),
        (
            "option of the other optimizer",
            train(&["--optimizer", "adamw", "--momentum", "0.5"]),
            "--momentum",
        ),
        (
            "options of the wrong type",
            train(&["--config", "options.json"]),
            "options.json",
        ),
    ];
    let cases: Vec<(&str, &[&str], &str)> = cases
        .iter()
        .map(|(what, arguments, name)| (*what, arguments.as_slice(), *name))
        .collect();
    insta::assert_snapshot!(messages(&env, &cases), @r#"
    no epoch:
      error: at least 1 epoch is needed
    batch of one:
      error: a batch needs at least 2 images
    label smoothing of 1:
      error: label smoothing is from 0 to below 1, not 1
    nothing to validate:
      error: validation fraction 1: expected a number between 0 and 1
    option of the other network:
      error: --filters and --dense-units belong to --network seed
    option of the other optimizer:
      error: --momentum belongs to --optimizer sgd
    options of the wrong type:
      error: options.json: not the options of a training run: invalid type: string "many", expected usize at line 1 column 17
    "#);
}
