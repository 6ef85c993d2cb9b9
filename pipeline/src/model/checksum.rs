//! The checksum at the very end of a model file.
//!
//! The last bytes of a file of ours are one protobuf field, a `metadata_props` entry `catalog.checksum` whose value is the
//! SHA-256 of every byte before it. Appending a field keeps a protobuf message valid, so the file stays ordinary ONNX; and
//! since the entry's form is fixed, verifying is comparing: nothing has to be parsed before the content is known to be whole.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::onnx::{ModelProto, StringStringEntryProto};

/// Key of the entry.
pub(crate) const KEY: &str = "catalog.checksum";

/// Bytes of the entry: two-byte head; key and value, each with a two-byte head.
const ENTRY_BYTES: usize = 2 + 2 + KEY.len() + 2 + 64;

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Appends the checksum of `model` to it.
pub(crate) fn append(model: &mut Vec<u8>) {
    let entry = entry(sha256_hex(model));
    model.extend(entry);
}

/// What the end of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The checksum, which agrees with the content.
    Valid(String),
    /// A checksum, which does not agree with the content.
    Wrong,
    /// No checksum.
    Absent,
}

/// Looks at the end of a file.
pub(crate) fn verify(file: &[u8]) -> Ending {
    let Some((content, ending)) = file
        .len()
        .checked_sub(ENTRY_BYTES)
        .map(|middle| file.split_at(middle))
    else {
        return Ending::Absent;
    };
    let checksum = sha256_hex(content);
    if ending == entry(checksum.clone()) {
        Ending::Valid(checksum)
    } else if ending
        .windows(KEY.len())
        .any(|window| window == KEY.as_bytes())
    {
        Ending::Wrong
    } else {
        Ending::Absent
    }
}

/// A model whose only content is the entry encodes to just the entry's field.
fn entry(checksum: String) -> Vec<u8> {
    let entry = StringStringEntryProto {
        key: Some(KEY.to_owned()),
        value: Some(checksum),
    };
    ModelProto {
        metadata_props: vec![entry],
        ..ModelProto::default()
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_is_an_entry_of_fixed_size_that_parses() {
        let mut file = ModelProto {
            ir_version: Some(8),
            ..ModelProto::default()
        }
        .encode_to_vec();
        let content = file.len();
        append(&mut file);
        assert_eq!(file.len(), content + ENTRY_BYTES);
        let model = ModelProto::decode(file.as_slice()).unwrap();
        assert_eq!(model.metadata_props[0].key(), KEY);
        assert_eq!(
            verify(&file),
            Ending::Valid(model.metadata_props[0].value().to_owned())
        );
    }

    #[test]
    fn changed_cut_and_foreign_files_are_told_apart() {
        let mut file = b"\x08\x08".to_vec();
        append(&mut file);
        let mut changed = file.clone();
        changed[1] = 9;
        assert_eq!(verify(&changed), Ending::Wrong);
        // Most of the entry is there still, none of it after a longer cut.
        let long: Vec<u8> = [&[8; 200][..], &file].concat();
        assert_eq!(verify(&long[..long.len() - 1]), Ending::Wrong);
        assert_eq!(verify(&long[..200]), Ending::Absent);
        assert_eq!(verify(b"text"), Ending::Absent);
        assert_eq!(
            sha256_hex(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
