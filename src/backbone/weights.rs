//! The names of the published weights, and the same weights under the names of our networks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::{Classifier, Weights};
use crate::graph::{Tensor, TensorData};

/// What the names of our parameters begin with.
pub(super) const SCOPE: &str = "backbone";

/// Where a published tensor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The parameter of this name.
    Parameter(String),
    /// The weight of the classifier.
    ClassifierWeight,
    /// The bias of the classifier.
    ClassifierBias,
    /// Nowhere: it counts the steps of a training that is over.
    Nowhere,
}

/// Weights under our names, and the classifier that was trained with them.
///
/// Each parameter that `wanted` names has to be there, in the shape it says, and there may be no others.
///
/// # Errors
/// When one is missing, has another shape, holds a value that is not finite, or is not known.
pub(super) fn rename(
    tensors: BTreeMap<String, Tensor>,
    wanted: &[(String, Vec<usize>)],
) -> Result<(BTreeMap<String, Weights>, Classifier)> {
    let (mut weight, mut bias) = (None, None);
    let mut found = BTreeMap::new();
    for (name, tensor) in tensors {
        let place = place(&name).with_context(|| format!("the tensor {name:?} is not known"))?;
        if place == Place::Nowhere {
            continue;
        }
        let weights = floats(tensor).with_context(|| format!("the tensor {name:?}"))?;
        match place {
            Place::Parameter(ours) => {
                found.insert(ours, weights);
            }
            Place::ClassifierWeight => weight = Some(weights),
            Place::ClassifierBias => bias = Some(weights),
            Place::Nowhere => {}
        }
    }
    let classifier = classifier(
        weight.context("the classifier's weight is missing")?,
        bias.context("the classifier's bias is missing")?,
    )?;

    let mut parameters = BTreeMap::new();
    for (name, shape) in wanted {
        let weights = found
            .remove(name)
            .with_context(|| format!("the parameter {name} is missing"))?;
        ensure!(
            weights.shape == *shape,
            "the parameter {name} has the shape {:?} instead of {shape:?}",
            weights.shape
        );
        parameters.insert(name.clone(), weights);
    }
    if let Some(name) = found.keys().next() {
        bail!("the network has no parameter {name}");
    }
    Ok((parameters, classifier))
}

fn classifier(weight: Weights, bias: Weights) -> Result<Classifier> {
    ensure!(
        matches!((&*weight.shape, &*bias.shape), ([classes, _], [biases]) if classes == biases),
        "the classifier's weight has the shape {:?} and its bias {:?}",
        weight.shape,
        bias.shape
    );
    Ok(Classifier { weight, bias })
}

fn floats(tensor: Tensor) -> Result<Weights> {
    let TensorData::F32(values) = tensor.data else {
        bail!("it does not hold floats");
    };
    ensure!(
        values.iter().all(|value| value.is_finite()),
        "it has a value that is not finite"
    );
    Ok(Weights {
        shape: tensor.shape,
        values,
    })
}

/// Where a tensor goes, by its published name; none if the name is not known.
fn place(name: &str) -> Option<Place> {
    if name.ends_with(".num_batches_tracked") {
        return Some(Place::Nowhere);
    }
    match name {
        "_fc.weight" => return Some(Place::ClassifierWeight),
        "_fc.bias" => return Some(Place::ClassifierBias),
        _ => {}
    }
    let (unit, layer) = match name.strip_prefix("_blocks.") {
        Some(block) => {
            let (number, layer) = block.split_once('.')?;
            let number: u8 = number.parse().ok()?;
            (Some(number), layer)
        }
        None => (None, name),
    };
    let (layer, value) = layer.split_once('.')?;
    // A block without a convolution that widens has no `_bn0`; the names of the others stay.
    let layer = match (unit, layer) {
        (None, "_conv_stem") => "stem.conv",
        (None, "_bn0") => "stem.norm",
        (None, "_conv_head") => "top.conv",
        (None, "_bn1") => "top.norm",
        (Some(_), "_expand_conv") => "expand.conv",
        (Some(_), "_bn0") => "expand.norm",
        (Some(_), "_depthwise_conv") => "depthwise.conv",
        (Some(_), "_bn1") => "depthwise.norm",
        (Some(_), "_project_conv") => "project.conv",
        (Some(_), "_bn2") => "project.norm",
        _ => return None,
    };
    let value = match (layer.ends_with(".norm"), value) {
        (false, "weight") => "weight",
        (true, "weight") => "scale",
        (true, "bias") => "bias",
        (true, "running_mean") => "mean",
        (true, "running_var") => "variance",
        _ => return None,
    };
    Some(Place::Parameter(match unit {
        Some(number) => format!("{SCOPE}.block{number:02}.{layer}.{value}"),
        None => format!("{SCOPE}.{layer}.{value}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize]) -> Tensor {
        Tensor::f32(shape, vec![0.5; shape.iter().product()])
    }

    /// A stem, half a block, a counter and a classifier.
    fn published() -> BTreeMap<String, Tensor> {
        [
            ("_conv_stem.weight", tensor(&[2, 3, 3, 3])),
            ("_bn0.running_var", tensor(&[2])),
            ("_bn0.num_batches_tracked", Tensor::i64s(vec![7])),
            ("_blocks.3._bn1.bias", tensor(&[4])),
            ("_fc.weight", tensor(&[5, 6])),
            ("_fc.bias", tensor(&[5])),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
    }

    fn wanted() -> Vec<(String, Vec<usize>)> {
        [
            ("backbone.stem.conv.weight", vec![2, 3, 3, 3]),
            ("backbone.stem.norm.variance", vec![2]),
            ("backbone.block03.depthwise.norm.bias", vec![4]),
        ]
        .map(|(name, shape)| (name.to_owned(), shape))
        .into()
    }

    fn message(tensors: BTreeMap<String, Tensor>, wanted: &[(String, Vec<usize>)]) -> String {
        format!("{:#}", rename(tensors, wanted).unwrap_err())
    }

    #[test]
    fn each_name_has_its_place() {
        for (name, ours) in [
            ("_conv_stem.weight", "stem.conv.weight"),
            ("_bn0.weight", "stem.norm.scale"),
            ("_bn0.bias", "stem.norm.bias"),
            ("_bn0.running_mean", "stem.norm.mean"),
            ("_conv_head.weight", "top.conv.weight"),
            ("_bn1.running_var", "top.norm.variance"),
            (
                "_blocks.0._depthwise_conv.weight",
                "block00.depthwise.conv.weight",
            ),
            ("_blocks.0._bn1.weight", "block00.depthwise.norm.scale"),
            ("_blocks.0._bn2.bias", "block00.project.norm.bias"),
            (
                "_blocks.12._expand_conv.weight",
                "block12.expand.conv.weight",
            ),
            ("_blocks.12._bn0.running_mean", "block12.expand.norm.mean"),
            (
                "_blocks.12._project_conv.weight",
                "block12.project.conv.weight",
            ),
        ] {
            let expected = Place::Parameter(format!("backbone.{ours}"));
            assert_eq!(place(name), Some(expected), "{name}");
        }
        for name in [
            "",
            "_conv_stem",
            "_conv_stem.bias",
            "_bn2.weight",
            "_bn0.running_std",
            "_blocks.1000._bn0.weight",
            "_blocks.x._bn0.weight",
            "_blocks.0._se_reduce.weight",
            "_fc.scale",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    #[test]
    fn all_that_is_wanted_comes_under_our_names() {
        let (parameters, classifier) = rename(published(), &wanted()).unwrap();
        let names: Vec<_> = parameters.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "backbone.block03.depthwise.norm.bias",
                "backbone.stem.conv.weight",
                "backbone.stem.norm.variance"
            ]
        );
        assert_eq!(classifier.weight.shape, [5, 6]);
        assert_eq!(classifier.bias.values, [0.5; 5]);
    }

    #[test]
    fn what_is_missing_left_over_or_of_another_shape_is_named() {
        let mut fewer = published();
        fewer.remove("_blocks.3._bn1.bias");
        assert_eq!(
            message(fewer, &wanted()),
            "the parameter backbone.block03.depthwise.norm.bias is missing"
        );
        assert_eq!(
            message(published(), &wanted()[..2]),
            "the network has no parameter backbone.block03.depthwise.norm.bias"
        );
        let mut other = wanted();
        other[1].1 = vec![3];
        assert_eq!(
            message(published(), &other),
            "the parameter backbone.stem.norm.variance has the shape [2] instead of [3]"
        );
        let mut unknown = published();
        unknown.insert("_se.weight".to_owned(), tensor(&[1]));
        assert_eq!(
            message(unknown, &wanted()),
            "the tensor \"_se.weight\" is not known"
        );
        let mut headless = published();
        headless.remove("_fc.bias");
        assert_eq!(
            message(headless, &wanted()),
            "the classifier's bias is missing"
        );
    }

    #[test]
    fn weights_are_finite_floats() {
        let mut infinite = published();
        infinite.insert("_fc.bias".to_owned(), Tensor::f32(&[5], vec![f32::NAN; 5]));
        assert_eq!(
            message(infinite, &wanted()),
            "the tensor \"_fc.bias\": it has a value that is not finite"
        );
        let mut whole = published();
        whole.insert("_fc.bias".to_owned(), Tensor::i64s(vec![1; 5]));
        assert_eq!(
            message(whole, &wanted()),
            "the tensor \"_fc.bias\": it does not hold floats"
        );
    }
}
