//! A model small enough to look at, for the tests: three classes, the mean of each channel of a 2×4 RGB image.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::json;

use super::calibration::{CALIBRATION_VERSION, Calibration, Step};
use super::foreign::{ForeignContract, ForeignFacts, Layout, OutputKind};
use super::metadata::{FORMAT_VERSION, Metadata, SelfTest};
use crate::onnx::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue,
    ValueInfoProto, attribute_type, data_type,
};
use crate::preprocess::{Colour, Preprocess};

/// Cast, mean over rows and columns, division by a constant 255, softmax.
pub(crate) fn model() -> ModelProto {
    let graph = GraphProto {
        name: Some("tiny".into()),
        node: vec![
            node(
                "Cast",
                &["images"],
                &["floats"],
                vec![int("to", data_type::FLOAT.into())],
            ),
            node(
                "ReduceMean",
                &["floats"],
                &["means"],
                vec![ints("axes", &[1, 2]), int("keepdims", 0)],
            ),
            node("Div", &["means", "divisor"], &["logits"], vec![]),
            node(
                "Softmax",
                &["logits"],
                &["probabilities"],
                vec![int("axis", 1)],
            ),
        ],
        initializer: vec![TensorProto {
            name: Some("divisor".into()),
            data_type: Some(data_type::FLOAT),
            raw_data: Some(255f32.to_le_bytes().to_vec()),
            ..TensorProto::default()
        }],
        input: vec![value("images", data_type::UINT8, &[2, 4, 3])],
        output: vec![
            float_value("logits", &[3]),
            float_value("probabilities", &[3]),
        ],
        ..GraphProto::default()
    };
    in_a_model(graph)
}

/// The same for float NCHW and without softmax, as another tool would export it.
pub(crate) fn foreign_model() -> ModelProto {
    in_a_model(GraphProto {
        name: Some("foreign".into()),
        node: vec![node(
            "ReduceMean",
            &["x"],
            &["scores"],
            vec![ints("axes", &[2, 3]), int("keepdims", 0)],
        )],
        input: vec![float_value("x", &[3, 2, 4])],
        output: vec![float_value("scores", &[3])],
        ..GraphProto::default()
    })
}

pub(crate) fn metadata() -> Metadata {
    let mut png = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 2, Rgb([255, 0, 51]))
        .write_to(&mut png, ImageFormat::Png)
        .unwrap();
    Metadata {
        format_version: FORMAT_VERSION,
        labels: ["red", "green", "blue"].map(str::to_owned).to_vec(),
        preprocess: Preprocess::stretch(2, 4, Colour::Rgb),
        temperature: 1.0,
        calibration: None,
        familiarity: None,
        summary: json!({"seed": 7, "epochs": 1}),
        self_test: vec![SelfTest {
            image: BASE64_STANDARD.encode(png.into_inner()),
            logits: vec![1.0, 0.0, 0.2],
        }],
    }
}

/// Of 1000 images, 500 for each of two classes and none for the third.
pub(crate) fn calibration() -> Calibration {
    let step = |(threshold, accepted, correct)| Step {
        threshold,
        accepted,
        correct,
    };
    Calibration {
        version: CALIBRATION_VERSION,
        images: 1000,
        error_before: 0.08,
        error_after: 0.01,
        pooled: [(0.9, 250, 250), (0.6, 600, 590), (0.0, 1000, 890)]
            .map(step)
            .to_vec(),
        classes: vec![
            [(0.9, 199, 199), (0.6, 399, 398), (0.0, 500, 490)]
                .map(step)
                .to_vec(),
            [(0.8, 49, 49), (0.0, 500, 400)].map(step).to_vec(),
            Vec::new(),
        ],
    }
}

pub(crate) fn foreign_facts() -> ForeignFacts {
    ForeignFacts {
        labels: metadata().labels,
        contract: ForeignContract {
            preprocess: metadata().preprocess,
            layout: Layout::Nchw,
            scale: 1.0 / 255.0,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            output: OutputKind::Logits,
            output_name: None,
        },
    }
}

pub(crate) fn float_value(name: &str, rest: &[i64]) -> ValueInfoProto {
    value(name, data_type::FLOAT, rest)
}

/// A value `[N, rest…]`.
fn value(name: &str, element: i32, rest: &[i64]) -> ValueInfoProto {
    let images = DimensionValue::Symbolic("N".into());
    let dimensions =
        std::iter::once(images).chain(rest.iter().map(|&size| DimensionValue::Fixed(size)));
    let shape = TensorShapeProto {
        dim: dimensions
            .map(|value| DimensionProto { value: Some(value) })
            .collect(),
    };
    let tensor = TensorTypeProto {
        elem_type: Some(element),
        shape: Some(shape),
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(tensor)),
        }),
        doc_string: None,
    }
}

fn node(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        name: Some(operator.to_lowercase()),
        op_type: Some(operator.into()),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: outputs.iter().map(|&name| name.into()).collect(),
        attribute,
        ..NodeProto::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        i: Some(value),
        r#type: Some(attribute_type::INT),
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        ints: values.to_vec(),
        r#type: Some(attribute_type::INTS),
        ..AttributeProto::default()
    }
}

fn in_a_model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        producer_name: Some("tests".into()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(17),
        }],
        ..ModelProto::default()
    }
}
