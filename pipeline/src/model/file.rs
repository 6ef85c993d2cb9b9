//! Writing and reading model files. Reading verifies everything that can be verified without running the graph.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;

use super::checksum::{self, Ending};
use super::foreign::ForeignFacts;
use super::interface::{self, Interface};
use super::metadata::{FORMAT_VERSION, Metadata, PREFIX};
use super::safety;
use crate::onnx::ModelProto;

/// Largest model file: a protobuf message cannot be larger.
const MAX_BYTES: u64 = 2 << 30;

/// Puts the metadata into a model, encodes it and appends the checksum: the bytes of a model file.
///
/// The same model and metadata give the same bytes. A model that [`ModelFile::from_bytes`] would refuse is an error.
pub fn seal(mut model: ModelProto, metadata: &Metadata) -> Result<Vec<u8>> {
    if let Some(entry) = model
        .metadata_props
        .iter()
        .find(|entry| entry.key().starts_with(PREFIX))
    {
        bail!("the model carries {} already", entry.key());
    }
    model.metadata_props.extend(metadata.to_entries()?);
    safety::check(&model)?;
    let graph = model.graph.as_ref().context("the model has no graph")?;
    interface::native(graph, metadata).context("the graph and the metadata do not agree")?;
    let mut bytes = model.encode_to_vec();
    checksum::append(&mut bytes);
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "the model takes {} bytes, more than {MAX_BYTES}",
        bytes.len()
    );
    Ok(bytes)
}

/// Reads an ONNX model that was not made by `catalog`, to take it apart: nothing is known of it but that it holds nothing that is
/// never run.
pub fn read_unknown(path: &Path) -> Result<(Vec<u8>, ModelProto), ModelFileError> {
    let name = path.display().to_string();
    let bytes = read(path, &name)?;
    let model = parse(&bytes, &name)?;
    match safety::check(&model) {
        Ok(()) => Ok((bytes, model)),
        Err(error) => Err(ModelFileError::Refused {
            name,
            reason: format!("{error:#}"),
        }),
    }
}

/// A model file whose content is whole, safe and consistent.
#[derive(Clone, Debug)]
pub struct ModelFile {
    name: String,
    bytes: Vec<u8>,
    checksum: String,
    /// Of the facts about a foreign model.
    facts: Option<String>,
    metadata: Metadata,
    /// Whether JPEGs are decoded in another way than the file says.
    other_decoding: bool,
    pub(crate) interface: Interface,
}

/// Why a file cannot be used as a model. Each message is one line and begins with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file could not be read.
    #[error("{name} cannot be read: {reason}")]
    Read {
        /// The file.
        name: String,
        /// What the operating system said. Not called `source`: the message has it, and a chain of causes would repeat it.
        reason: io::Error,
    },
    /// The content is not that of an ONNX model.
    #[error("{name} is not an ONNX model: {reason}")]
    NotAModel {
        /// The file.
        name: String,
        /// What it seems to be instead.
        reason: String,
    },
    /// The content is not what was written.
    #[error(
        "{name} was changed or cut after it was written: its checksum does not agree with its content; copy it again"
    )]
    Changed {
        /// The file.
        name: String,
    },
    /// An ONNX model that says nothing about labels and preprocessing.
    #[error("{name} was not made by catalog and does not say its labels and its preprocessing")]
    Foreign {
        /// The file.
        name: String,
    },
    /// Facts were given for a model that carries its own.
    #[error(
        "{name} carries its own labels and preprocessing; facts for foreign models do not apply to it"
    )]
    NotForeign {
        /// The file.
        name: String,
    },
    /// The model contains what is never run, or disagrees with its metadata.
    #[error("{name} cannot be used: {reason}")]
    Refused {
        /// The file.
        name: String,
        /// What was found.
        reason: String,
    },
}

impl ModelFile {
    /// Reads a model file made by `catalog`; a foreign model is [`ModelFileError::Foreign`].
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let name = path.display().to_string();
        Self::from_bytes(read(path, &name)?, name)
    }

    /// Takes a model file made by `catalog` that is in memory; `name` is what errors call it.
    pub fn from_bytes(bytes: Vec<u8>, name: impl Into<String>) -> Result<Self, ModelFileError> {
        let name = name.into();
        let checksum = match checksum::verify(&bytes) {
            Ending::Valid(checksum) => checksum,
            Ending::Wrong => return Err(ModelFileError::Changed { name }),
            Ending::Absent => {
                let model = parse(&bytes, &name)?;
                return Err(if is_ours(&model) {
                    ModelFileError::Changed { name }
                } else {
                    ModelFileError::Foreign { name }
                });
            }
        };
        let model = parse(&bytes, &name)?;
        match understand(&model) {
            Ok((metadata, interface)) => Ok(Self {
                name,
                bytes,
                checksum,
                facts: None,
                metadata,
                other_decoding: false,
                interface,
            }),
            Err(error) => Err(ModelFileError::Refused {
                name,
                reason: format!("{error:#}"),
            }),
        }
    }

    /// Reads an ONNX model that was not made by `catalog`, with the facts it does not carry.
    pub fn read_foreign(path: &Path, facts: ForeignFacts) -> Result<Self, ModelFileError> {
        let name = path.display().to_string();
        Self::foreign_from_bytes(read(path, &name)?, name, facts)
    }

    /// Takes an ONNX model in memory that was not made by `catalog`; see [`ModelFile::read_foreign`].
    pub fn foreign_from_bytes(
        bytes: Vec<u8>,
        name: impl Into<String>,
        facts: ForeignFacts,
    ) -> Result<Self, ModelFileError> {
        let name = name.into();
        match checksum::verify(&bytes) {
            Ending::Valid(_) => return Err(ModelFileError::NotForeign { name }),
            Ending::Wrong => return Err(ModelFileError::Changed { name }),
            Ending::Absent => {}
        }
        let model = parse(&bytes, &name)?;
        if is_ours(&model) {
            return Err(ModelFileError::Changed { name });
        }
        let interface = match understand_foreign(&model, &facts) {
            Ok(interface) => interface,
            Err(error) => {
                return Err(ModelFileError::Refused {
                    name,
                    reason: format!("{error:#}"),
                });
            }
        };
        let facts_checksum = checksum::sha256_hex(format!("{facts:?}").as_bytes());
        let metadata = Metadata {
            format_version: FORMAT_VERSION,
            labels: facts.labels,
            preprocess: facts.contract.preprocess,
            temperature: 1.0,
            calibration: None,
            familiarity: None,
            summary: serde_json::Value::Null,
            self_test: Vec::new(),
        };
        Ok(Self {
            name,
            checksum: checksum::sha256_hex(&bytes),
            facts: Some(facts_checksum),
            bytes,
            metadata,
            other_decoding: false,
            interface,
        })
    }

    /// What the file is called in messages: its path, or the name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model says about itself; for a foreign one, the facts that were given.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// SHA-256 over graph, weights and metadata, in hexadecimal; for a foreign model, over the whole file.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Decodes JPEGs whole, whatever the contract says: slower, and there to see what decoding them at a fraction of their size
    /// changes.
    #[must_use]
    pub fn with_whole_jpegs(mut self) -> Self {
        self.other_decoding = self.metadata.preprocess.reduced_jpeg;
        self.metadata.preprocess.reduced_jpeg = false;
        self
    }

    /// What decides the labels: the checksum, for a foreign model one over its facts, and what was changed in the contract.
    pub fn identity(&self) -> String {
        let mut identity = self.checksum.clone();
        if let Some(facts) = &self.facts {
            identity = format!("{identity} with facts {facts}");
        }
        if self.other_decoding {
            identity += " with whole JPEGs";
        }
        identity
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn understand(model: &ModelProto) -> Result<(Metadata, Interface)> {
    safety::check(model)?;
    let metadata = Metadata::from_entries(&model.metadata_props)?;
    let graph = model.graph.as_ref().context("it has no graph")?;
    let interface = interface::native(graph, &metadata)?;
    Ok((metadata, interface))
}

fn understand_foreign(model: &ModelProto, facts: &ForeignFacts) -> Result<Interface> {
    facts.validate()?;
    safety::check(model)?;
    interface::foreign(model.graph.as_ref().context("it has no graph")?, facts)
}

fn is_ours(model: &ModelProto) -> bool {
    model
        .metadata_props
        .iter()
        .any(|entry| entry.key().starts_with(PREFIX))
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, ModelFileError> {
    let failed = |reason| ModelFileError::Read {
        name: name.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {MAX_BYTES} bytes"),
        )));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8], name: &str) -> Result<ModelProto, ModelFileError> {
    let not_a_model = |reason: &str| {
        Err(ModelFileError::NotAModel {
            name: name.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if bytes.is_empty() {
        return not_a_model("it is empty");
    }
    match ModelProto::decode(bytes) {
        Ok(model) if model.graph.is_some() => Ok(model),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            not_a_model("it is a Git LFS pointer; fetch the file itself")
        }
        _ if std::str::from_utf8(&bytes[..bytes.len().min(256)])
            .is_ok_and(|text| !text.contains('\0')) =>
        {
            not_a_model("it is a text file")
        }
        Ok(_) => not_a_model("it contains no graph"),
        Err(error) => not_a_model(&format!("it is cut short or something else ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{foreign_facts, foreign_model, metadata, model};

    fn sealed() -> Vec<u8> {
        seal(model(), &metadata()).unwrap()
    }

    #[test]
    fn a_sealed_model_round_trips_and_its_bytes_are_deterministic() {
        let bytes = sealed();
        assert_eq!(bytes, sealed());
        let file = ModelFile::from_bytes(bytes.clone(), "tiny").unwrap();
        assert_eq!(file.metadata(), &metadata());
        assert_eq!(file.bytes(), bytes);
        assert_eq!(file.checksum().len(), 64);
        assert_eq!(file.name(), "tiny");
    }

    #[test]
    fn a_flipped_bit_anywhere_never_loads() {
        let bytes = sealed();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                ModelFile::from_bytes(flipped.clone(), "flipped").is_err(),
                "bit {bit}"
            );
            // Nor does giving facts smuggle it in.
            assert!(
                ModelFile::foreign_from_bytes(flipped, "flipped", foreign_facts()).is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_file_cut_anywhere_never_loads() {
        let bytes = sealed();
        for length in 0..bytes.len() {
            assert!(
                ModelFile::from_bytes(bytes[..length].to_vec(), "cut").is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn each_wrong_file_gives_its_own_line() {
        let error = |bytes: &[u8]| {
            let line = ModelFile::from_bytes(bytes.to_vec(), "m.onnx")
                .unwrap_err()
                .to_string();
            assert!(line.starts_with("m.onnx") && !line.contains('\n'), "{line}");
            line
        };
        let bytes = sealed();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        assert!(error(&flipped).contains("was changed or cut after it was written"));
        assert!(
            error(&bytes[..bytes.len() - 86]).contains("was changed or cut after it was written")
        );
        assert!(error(&bytes[..bytes.len() / 2]).contains("cut short"));
        assert!(error(b"labels: none\n").contains("it is a text file"));
        assert!(
            error(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
                .contains("Git LFS")
        );
        assert!(error(b"").contains("empty"));
        assert!(error(&[0xFF; 300]).contains("not an ONNX model"));
        assert!(error(&foreign_model().encode_to_vec()).contains("was not made by catalog"));
    }

    #[test]
    fn a_folder_or_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = ModelFile::read(&folder.path().join("none.onnx")).unwrap_err();
        assert!(
            missing.to_string().contains("none.onnx cannot be read"),
            "{missing}"
        );
        let line = format!("{:#}", anyhow::Error::from(missing));
        assert_eq!(line.matches("os error").count(), 1, "{line}");
        assert!(ModelFile::read(folder.path()).is_err());
    }

    #[test]
    fn a_foreign_model_loads_with_its_facts_and_one_of_ours_refuses_them() {
        let file =
            ModelFile::foreign_from_bytes(foreign_model().encode_to_vec(), "f", foreign_facts())
                .unwrap();
        assert_eq!(file.metadata().labels, foreign_facts().labels);
        let error = ModelFile::foreign_from_bytes(sealed(), "m", foreign_facts()).unwrap_err();
        assert!(
            matches!(error, ModelFileError::NotForeign { .. }),
            "{error}"
        );
    }

    #[test]
    fn unsafe_content_is_refused_even_under_a_valid_checksum() {
        let mut unsafe_model = model();
        unsafe_model.metadata_props = metadata().to_entries().unwrap();
        unsafe_model.graph.as_mut().unwrap().initializer[0].data_location = Some(1);
        let mut bytes = unsafe_model.encode_to_vec();
        checksum::append(&mut bytes);
        let error = ModelFile::from_bytes(bytes, "m").unwrap_err();
        assert!(
            matches!(&error, ModelFileError::Refused { reason, .. } if reason.contains("another file")),
            "{error}"
        );
    }

    #[test]
    fn sealing_refuses_what_reading_would() {
        let mut twice = model();
        twice.metadata_props = metadata().to_entries().unwrap();
        assert!(
            seal(twice, &metadata())
                .unwrap_err()
                .to_string()
                .contains("already")
        );
        let mut other = metadata();
        other.labels.push("more".into());
        other.self_test.clear();
        assert!(
            format!("{:#}", seal(model(), &other).unwrap_err()).contains("[?, 3], expected [N, 4]")
        );
    }
}
