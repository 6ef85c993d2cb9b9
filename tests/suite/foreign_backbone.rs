//! Training behind a part of a model that another tool made.

use std::fs;

use pipeline::onnx::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue,
    ValueInfoProto, attribute_type, data_type,
};
use prost::Message;

use crate::testenv::{TestEnv, write_halves};

/// Says how the model takes images: 12×12, grey, values from −1 to 1.
const CONTRACT: &str = r#"{
    "preprocess": {"height": 12, "width": 12, "colour": "grey", "fit": "stretch", "filter": "bilinear", "orientation": "apply", "background": [255, 255, 255]},
    "layout": "nchw", "scale": 0.00784314, "mean": [1.0], "std": [1.0]
}"#;

/// One convolution over quarters of the image, as another tool would write it: `relu` is `[N, 6, 2, 2]`, `flat` `[N, 24]`, and
/// `scores` are of its own five classes.
fn model(operator_set: i64) -> Vec<u8> {
    let tensor = |name: &str, dims: &[i64]| {
        let count = dims.iter().product::<i64>();
        let values = (0..count).map(|at| ((at * 37 % 101) as f32 - 50.0) / 400.0);
        TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(data_type::FLOAT),
            float_data: values.collect(),
            ..TensorProto::default()
        }
    };
    let node = |operator: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: Some(operator.to_owned()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let ints = |name: &str| AttributeProto {
        name: Some(name.to_owned()),
        ints: vec![6, 6],
        r#type: Some(attribute_type::INTS),
        ..AttributeProto::default()
    };
    let value = |name: &str, sizes: &[i64]| {
        let dimension = |value| DimensionProto { value: Some(value) };
        let sizes = sizes
            .iter()
            .map(|&size| dimension(DimensionValue::Fixed(size)));
        let batch = dimension(DimensionValue::Symbolic("batch".to_owned()));
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                value: Some(TypeValue::Tensor(TensorTypeProto {
                    elem_type: Some(data_type::FLOAT),
                    shape: Some(TensorShapeProto {
                        dim: [batch].into_iter().chain(sizes).collect(),
                    }),
                })),
            }),
            ..ValueInfoProto::default()
        }
    };
    let mut convolution = node("Conv", &["x", "images"], "conv");
    convolution.attribute = vec![ints("kernel_shape"), ints("strides")];
    ModelProto {
        ir_version: Some(7),
        producer_name: Some("another tool".to_owned()),
        graph: Some(GraphProto {
            name: Some("foreign".to_owned()),
            node: vec![
                convolution,
                node("Relu", &["conv"], "relu"),
                node("Flatten", &["relu"], "flat"),
                node("Gemm", &["flat", "logits"], "scores"),
            ],
            // The names of its weights are those of values of ours.
            initializer: vec![tensor("images", &[6, 1, 6, 6]), tensor("logits", &[24, 5])],
            input: vec![value("x", &[1, 12, 12])],
            output: vec![value("scores", &[5])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(operator_set),
        }],
        ..ModelProto::default()
    }
    .encode_to_vec()
}

fn env() -> TestEnv {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 40);
    env.write("other.onnx", model(13));
    env.write("contract.json", CONTRACT);
    env
}

fn train<'a>(features: &'a str, out: &'a str) -> Vec<&'a str> {
    let behind = ["train", "halves", "--out", out, "--backbone", "other.onnx"];
    let how = ["--features", features, "--preprocess", "contract.json"];
    let fast = [
        "--no-augment",
        "--variants",
        "0",
        "--epochs",
        "60",
        "--learning-rate",
        "0.05",
    ];
    [&behind[..], &how, &fast].concat()
}

#[test]
fn a_layer_learns_behind_it_and_the_model_is_one_file() {
    let env = env();
    env.succeed(&train("flat", "model"));
    // Away from the file it was made of.
    fs::remove_file(env.path("other.onnx")).unwrap();
    let judge = ["evaluate", "halves", "--model", "model/model.onnx"];
    env.succeed(&[&judge[..], &["--metrics", "metrics.json"]].concat());
    let metrics: serde_json::Value = serde_json::from_str(&env.read("metrics.json")).unwrap();
    assert!(metrics["accuracy"].as_f64().unwrap() > 0.9, "{metrics}");
    env.succeed(&[
        "classify",
        "halves",
        "--model",
        "model/model.onnx",
        "--out",
        "labels.csv",
    ]);
    assert_eq!(env.read("labels.csv").lines().count(), 161);
    let shown = env.succeed(&["inspect", "model/model.onnx"]).stdout;
    assert!(shown.contains("behind a backbone from a file"), "{shown}");
}

#[test]
fn features_with_rows_and_columns_are_averaged_and_folds_judge_them() {
    let env = env();
    let trained = env.succeed(&[&train("relu", "model")[..], &["--folds", "4"]].concat());
    assert!(
        trained.stderr.contains("fold 4 of 4: accuracy"),
        "{trained:?}"
    );
    let shown = env.succeed(&["inspect", "model/model.onnx"]).stdout;
    // Six features, four classes and a bias each.
    assert!(shown.contains("28 trained numbers"), "{shown}");
    // The options are enough to do it again, and say so where the file is another.
    let again = [
        "train",
        "halves",
        "--out",
        "again",
        "--config",
        "model/options.json",
    ];
    env.succeed(&again);
    assert_eq!(
        fs::read(env.path("model/model.onnx")).unwrap(),
        fs::read(env.path("again/model.onnx")).unwrap()
    );
    env.write("other.onnx", model(14));
    let other = [
        "train",
        "halves",
        "--out",
        "other",
        "--config",
        "model/options.json",
    ];
    let refused = env.run(&other);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .stderr
            .contains("is not the file these options were made for"),
        "{refused:?}"
    );
}

#[test]
fn what_cannot_be_a_backbone_is_refused_in_one_line() {
    let env = env();
    env.write("old.onnx", model(9));
    env.write("notes.onnx", "no model");
    env.write(
        "wide.json",
        CONTRACT.replace("\"width\": 12", "\"width\": 14"),
    );
    let cases: [(&[&str], &str); 8] = [
        (&["--backbone", "other.onnx"], "--preprocess FILE.json"),
        (
            &["--backbone", "other.onnx", "--preprocess", "contract.json"],
            "--features NAME; from its end, it has \"scores\", \"flat\", \"relu\", \"conv\"",
        ),
        (
            &[
                "--backbone",
                "other.onnx",
                "--preprocess",
                "contract.json",
                "--features",
                "pool",
            ],
            "it has no value \"pool\"",
        ),
        (
            &[
                "--backbone",
                "old.onnx",
                "--preprocess",
                "contract.json",
                "--features",
                "flat",
            ],
            "operator set 9",
        ),
        (
            &[
                "--backbone",
                "notes.onnx",
                "--preprocess",
                "contract.json",
                "--features",
                "flat",
            ],
            "notes.onnx is not an ONNX model",
        ),
        (
            &[
                "--backbone",
                "other.onnx",
                "--preprocess",
                "wide.json",
                "--features",
                "conv",
                "--size",
                "9",
            ],
            "leave out --size",
        ),
        (
            &[
                "--backbone",
                "other.onnx",
                "--preprocess",
                "contract.json",
                "--features",
                "flat",
                "--freeze",
                "none",
            ],
            "a backbone from a file stays as it is",
        ),
        (&["--backbone", "efficientnet-lite7"], "or an .onnx file"),
    ];
    for (arguments, expected) in cases {
        let all = [&["train", "halves", "--out", "model"], arguments].concat();
        let finished = env.run(&all);
        assert_ne!(finished.code, Some(0), "{arguments:?}");
        assert!(
            finished.stderr.contains(expected),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(!env.path("model").exists(), "{arguments:?}");
    }
}
