//! Names, types and shapes of a graph's input and outputs, checked against what the metadata promise.

use anyhow::{Context as _, Result, bail, ensure};

use super::foreign::{ForeignFacts, Layout, OutputKind};
use super::metadata::Metadata;
use crate::onnx::{DimensionValue, GraphProto, TypeValue, ValueInfoProto, data_type};

/// How to feed a model and what to take from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interface {
    pub(crate) input_name: String,
    pub(crate) input: Input,
    pub(crate) outputs: Outputs,
    /// Images a run, where the graph fixes that.
    pub(crate) batch: Option<usize>,
}

/// Form of the input tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    /// uint8 `[N, H, W, C]`; the graph does the rest.
    Bytes,
    /// float32 in the given layout.
    Floats {
        layout: Layout,
        scale: f32,
        mean: Vec<f32>,
        std: Vec<f32>,
    },
}

/// The output or outputs that are read, each `[N, K]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outputs {
    /// Both, under their fixed names.
    Both,
    /// Only logits, under this name.
    Logits(String),
    /// Only probabilities, under this name.
    Probabilities(String),
}

/// Name of the input of a model of ours.
pub(crate) const IMAGES: &str = "images";
/// Name of the first output of a model of ours.
pub(crate) const LOGITS: &str = "logits";
/// Name of the second output of a model of ours.
pub(crate) const PROBABILITIES: &str = "probabilities";

/// Checks a model of ours: `images` uint8 `[N, H, W, C]`; `logits` and `probabilities` float32 `[N, K]`.
pub(crate) fn native(graph: &GraphProto, metadata: &Metadata) -> Result<Interface> {
    let preprocess = &metadata.preprocess;
    let inputs = real_inputs(graph);
    ensure!(
        matches!(inputs.as_slice(), [input] if input.name() == IMAGES),
        "its inputs are {}, expected only {IMAGES:?}",
        names(&inputs)
    );
    let shape = [
        preprocess.height as usize,
        preprocess.width as usize,
        preprocess.colour.channels(),
    ];
    let batch = tensor(inputs[0], data_type::UINT8)?.starts_a_batch_of(IMAGES, &shape)?;
    for name in [LOGITS, PROBABILITIES] {
        let output = graph.output.iter().find(|output| output.name() == name);
        let output = output.with_context(|| format!("it has no output {name:?}"))?;
        tensor(output, data_type::FLOAT)?.starts_a_batch_of(name, &[metadata.labels.len()])?;
    }
    Ok(Interface {
        input_name: IMAGES.to_owned(),
        input: Input::Bytes,
        outputs: Outputs::Both,
        batch,
    })
}

/// Checks a foreign model: one float input, one output of one number per label.
pub(crate) fn foreign(graph: &GraphProto, facts: &ForeignFacts) -> Result<Interface> {
    let contract = &facts.contract;
    let inputs = real_inputs(graph);
    let [input] = inputs.as_slice() else {
        bail!("it has the inputs {}, expected one", names(&inputs))
    };
    let (height, width) = (
        contract.preprocess.height as usize,
        contract.preprocess.width as usize,
    );
    let channels = contract.preprocess.colour.channels();
    let shape = match contract.layout {
        Layout::Nchw => [channels, height, width],
        Layout::Nhwc => [height, width, channels],
    };
    let batch = tensor(input, data_type::FLOAT)?.starts_a_batch_of(input.name(), &shape)?;
    let output = foreign_output(graph, contract.output_name.as_deref())?;
    tensor(output, data_type::FLOAT)?.starts_a_batch_of(output.name(), &[facts.labels.len()])?;
    let output_name = output.name().to_owned();
    Ok(Interface {
        input_name: input.name().to_owned(),
        input: Input::Floats {
            layout: contract.layout,
            scale: contract.scale,
            mean: contract.mean.clone(),
            std: contract.std.clone(),
        },
        outputs: match contract.output {
            OutputKind::Logits => Outputs::Logits(output_name),
            OutputKind::Probabilities => Outputs::Probabilities(output_name),
        },
        batch,
    })
}

fn foreign_output<'a>(graph: &'a GraphProto, wanted: Option<&str>) -> Result<&'a ValueInfoProto> {
    let all: Vec<&ValueInfoProto> = graph.output.iter().collect();
    match (wanted, all.as_slice()) {
        (Some(name), all) => {
            let found = all.iter().find(|output| output.name() == name);
            found
                .copied()
                .with_context(|| format!("it has no output {name:?}, only {}", names(all)))
        }
        (None, [output]) => Ok(output),
        (None, all) => bail!(
            "it has the outputs {}: say which with \"output_name\" in the contract",
            names(all)
        ),
    }
}

/// Old exporters list constants among the inputs.
fn real_inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let constant = |input: &ValueInfoProto| {
        graph
            .initializer
            .iter()
            .any(|tensor| tensor.name() == input.name())
    };
    graph
        .input
        .iter()
        .filter(|input| !constant(input))
        .collect()
}

fn names(values: &[&ValueInfoProto]) -> String {
    let names: Vec<String> = values
        .iter()
        .map(|value| format!("{:?}", value.name()))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// A tensor's shape; `None` for a dimension that is a name or unknown, or altogether where there is no shape.
struct Shape(Option<Vec<Option<i64>>>);

fn tensor(value: &ValueInfoProto, expected: i32) -> Result<Shape> {
    let Some(TypeValue::Tensor(tensor)) =
        value.r#type.as_ref().and_then(|typed| typed.value.as_ref())
    else {
        bail!("{:?} is not a tensor", value.name());
    };
    ensure!(
        tensor.elem_type() == expected,
        "the elements of {:?} are {}, expected {}",
        value.name(),
        type_name(tensor.elem_type()),
        type_name(expected)
    );
    let fixed = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Fixed(size)) => Some(*size),
        Some(DimensionValue::Symbolic(_)) | None => None,
    };
    Ok(Shape(tensor.shape.as_ref().map(|shape| {
        shape
            .dim
            .iter()
            .map(|dimension| fixed(&dimension.value))
            .collect()
    })))
}

impl Shape {
    /// Checks that everything after the first dimension agrees with `rest` as far as it is known, and gives the first.
    fn starts_a_batch_of(&self, name: &str, rest: &[usize]) -> Result<Option<usize>> {
        let Some(dimensions) = &self.0 else {
            return Ok(None);
        };
        let agrees = dimensions.len() == rest.len() + 1
            && dimensions[1..]
                .iter()
                .zip(rest)
                .all(|(&known, &size)| known.is_none_or(|known| known == size as i64));
        ensure!(
            agrees,
            "the shape of {name:?} is {}, expected {}",
            written(dimensions),
            written_batch(rest)
        );
        match dimensions[0] {
            Some(images) if images < 1 => bail!("the shape of {name:?} is {}", written(dimensions)),
            images => Ok(images.map(|images| images as usize)),
        }
    }
}

fn written(dimensions: &[Option<i64>]) -> String {
    let dimensions: Vec<String> = dimensions
        .iter()
        .map(|size| size.map_or_else(|| "?".to_owned(), |size| size.to_string()))
        .collect();
    format!("[{}]", dimensions.join(", "))
}

fn written_batch(rest: &[usize]) -> String {
    let rest: Vec<String> = rest.iter().map(usize::to_string).collect();
    format!("[N, {}]", rest.join(", "))
}

fn type_name(element: i32) -> String {
    match element {
        data_type::FLOAT => "float32".to_owned(),
        data_type::UINT8 => "uint8".to_owned(),
        data_type::FLOAT16 => "float16".to_owned(),
        data_type::INT64 => "int64".to_owned(),
        other => format!("of ONNX type {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{float_value, foreign_facts, foreign_model, metadata, model};
    use crate::preprocess::Colour;

    #[test]
    fn a_model_of_ours_agrees_with_its_metadata() {
        let graph = model().graph.unwrap();
        let interface = native(&graph, &metadata()).unwrap();
        assert_eq!(
            (interface.input, interface.outputs, interface.batch),
            (Input::Bytes, Outputs::Both, None)
        );

        let mut other = metadata();
        other.labels.push("fourth".into());
        let error = native(&graph, &other).unwrap_err().to_string();
        assert!(
            error.contains("\"logits\" is [?, 3], expected [N, 4]"),
            "{error}"
        );
        let mut other = metadata();
        other.preprocess.colour = Colour::Grey;
        let error = native(&graph, &other).unwrap_err().to_string();
        assert!(
            error.contains("\"images\" is [?, 2, 4, 3], expected [N, 2, 4, 1]"),
            "{error}"
        );
    }

    #[test]
    fn missing_and_mistyped_values_are_named() {
        let mut graph = model().graph.unwrap();
        graph.output.truncate(1);
        assert!(
            native(&graph, &metadata())
                .unwrap_err()
                .to_string()
                .contains("no output \"probabilities\"")
        );
        let mut graph = model().graph.unwrap();
        graph.input[0] = float_value("images", &[2, 4, 3]);
        assert!(
            native(&graph, &metadata())
                .unwrap_err()
                .to_string()
                .contains("float32, expected uint8")
        );
    }

    #[test]
    fn a_foreign_model_has_to_agree_with_the_facts() {
        let graph = foreign_model().graph.unwrap();
        let interface = foreign(&graph, &foreign_facts()).unwrap();
        assert_eq!(interface.outputs, Outputs::Logits("scores".into()));

        let mut facts = foreign_facts();
        facts.contract.layout = Layout::Nhwc;
        let error = foreign(&graph, &facts).unwrap_err().to_string();
        assert!(
            error.contains("[?, 3, 2, 4], expected [N, 2, 4, 3]"),
            "{error}"
        );
        let mut two = graph.clone();
        two.output.push(float_value("more", &[3]));
        let error = foreign(&two, &foreign_facts()).unwrap_err().to_string();
        assert!(
            error.contains("\"scores\", \"more\"") && error.contains("output_name"),
            "{error}"
        );
    }
}
