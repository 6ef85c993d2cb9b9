//! Files of tensors as PyTorch wrote them before version 1.6: pickles that say what there is, then the elements as they lie in memory.
//!
//! In this order: a magic number, the format's version, facts about the machine, the dictionary of tensors, the keys of their
//! storages, and for each key the number of elements and the elements. Only the plain case is read: little endian, every tensor
//! the whole of a storage of its own, though its axes may lie there in any order: the published weights were permuted from another
//! program's order. The zip files that later versions write are not read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::pickle::{self, Element, TensorRecord, Value};
use crate::graph::{Tensor, TensorData};

/// The magic number and the version 1001, each a pickle.
pub(super) const HEADER: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e\x80\x02\x4d\xe9\x03\x2e";

/// Reads all tensors of a file, by their names.
///
/// # Errors
/// When the content is not of this format, uses what is not read here, or is not as long as it says.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    ensure!(
        !bytes.starts_with(b"PK\x03\x04"),
        "the file is in the zip format of PyTorch 1.6 and later, which is not read"
    );
    let mut rest = bytes
        .strip_prefix(HEADER)
        .context("the file does not begin as PyTorch's do")?;
    let machine = next_pickle(&mut rest, "the facts about the machine")?;
    check_machine(&machine)?;
    let state = next_pickle(&mut rest, "the list of tensors")?;
    let mut tensors = by_storage(&state)?;
    let keys = next_pickle(&mut rest, "the list of storages")?;
    let keys = keys.elements().context("the list of storages is no list")?;

    let mut read = BTreeMap::new();
    for key in keys {
        let Value::Text(key) = key else {
            bail!("a storage's key is no text");
        };
        let (name, record) = tensors.remove(&**key).with_context(|| {
            format!("the storage {key:?} belongs to no tensor, or is there twice")
        })?;
        let tensor = tensor(&mut rest, record).with_context(|| format!("the tensor {name:?}"))?;
        ensure!(
            read.insert(name.to_owned(), tensor).is_none(),
            "the tensor {name:?} is there twice"
        );
    }
    if let Some((name, _)) = tensors.values().next() {
        bail!("the elements of the tensor {name:?} are missing");
    }
    ensure!(rest.is_empty(), "{} bytes are left over", rest.len());
    Ok(read)
}

fn next_pickle(rest: &mut &[u8], what: &str) -> Result<pickle::Unpickled> {
    let unpickled = pickle::read(rest).with_context(|| format!("{what} cannot be read"))?;
    *rest = rest.get(unpickled.length..).unwrap_or_default();
    Ok(unpickled)
}

fn check_machine(machine: &pickle::Unpickled) -> Result<()> {
    let entries = machine
        .entries()
        .context("the facts about the machine are no dictionary")?;
    let little_endian = entries.iter().any(
        |entry| matches!(entry, (Value::Text(key), Value::Bool(true)) if &**key == "little_endian"),
    );
    ensure!(little_endian, "the numbers are not little endian");
    Ok(())
}

/// The tensors, with their names, by the keys of their storages.
fn by_storage(state: &pickle::Unpickled) -> Result<BTreeMap<&str, (&str, &TensorRecord)>> {
    let entries = state
        .entries()
        .context("the list of tensors is no dictionary")?;
    let mut tensors = BTreeMap::new();
    for entry in entries {
        let (Value::Text(name), Value::Tensor(record)) = entry else {
            bail!("the list of tensors holds something else than tensors with names");
        };
        if let Some((other, _)) = tensors.insert(&*record.storage.key, (&**name, &**record)) {
            bail!("the tensors {other:?} and {name:?} share their elements");
        }
    }
    Ok(tensors)
}

/// The tensor whose storage is next: its number of elements, then the elements.
fn tensor(rest: &mut &[u8], record: &TensorRecord) -> Result<Tensor> {
    let len = record
        .shape
        .iter()
        .try_fold(1_u64, |len, &size| len.checked_mul(size));
    let len = len.context("its shape is too large")?;
    ensure!(
        record.offset == 0 && record.storage.len == len,
        "it has {len} elements at {} of a storage of {}; only whole storages are read",
        record.offset,
        record.storage.len
    );
    let stored = u64::from_le_bytes(*take(rest)?);
    ensure!(
        stored == len,
        "{stored} elements are stored, {len} are needed"
    );
    let size = match record.storage.element {
        Element::Float => size_of::<f32>(),
        Element::Long => size_of::<i64>(),
    };
    let bytes = usize::try_from(len)?.checked_mul(size);
    let (elements, behind) = bytes
        .and_then(|bytes| rest.split_at_checked(bytes))
        .context("the file ends before its elements")?;
    *rest = behind;
    let layout = Layout::new(&record.shape, &record.strides)?;
    let data = match record.storage.element {
        Element::Float => TensorData::F32(layout.gather(&numbers(elements, f32::from_le_bytes))?),
        Element::Long => TensorData::I64(layout.gather(&numbers(elements, i64::from_le_bytes))?),
    };
    Ok(Tensor {
        shape: layout.shape,
        data,
    })
}

/// Where the elements of a tensor lie, each in a place of its own and without gaps.
struct Layout {
    shape: Vec<usize>,
    /// How far two neighbours along an axis are apart.
    strides: Vec<usize>,
}

impl Layout {
    fn new(shape: &[u64], strides: &[u64]) -> Result<Self> {
        // Along an axis of one element no step is ever made.
        let mut steps: Vec<_> = shape
            .iter()
            .zip(strides)
            .filter(|(size, _)| **size != 1)
            .collect();
        steps.sort_by_key(|(_, stride)| **stride);
        let mut expected = 1_u64;
        let is_dense = steps.into_iter().all(|(&size, &stride)| {
            let fits = stride == expected;
            expected = expected.saturating_mul(size);
            fits
        });
        ensure!(
            shape.len() == strides.len() && is_dense,
            "its elements overlap or have gaps between them: shape {shape:?}, strides {strides:?}"
        );
        Ok(Self {
            shape: sizes(shape)?,
            strides: sizes(strides)?,
        })
    }

    /// The elements in the order of the axes, the last one's neighbours next to each other.
    fn gather<T: Copy>(&self, stored: &[T]) -> Result<Vec<T>> {
        let place = |element: usize| {
            let (mut rest, mut place) = (element, 0);
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                if *size != 1 {
                    place += rest % size * stride;
                    rest /= size;
                }
            }
            place
        };
        let elements = (0..stored.len()).map(|element| stored.get(place(element)).copied());
        let gathered: Option<Vec<T>> = elements.collect();
        gathered.context("an element lies outside of its storage")
    }
}

fn sizes(values: &[u64]) -> Result<Vec<usize>> {
    let sizes = values.iter().map(|&value| usize::try_from(value));
    Ok(sizes.collect::<Result<_, _>>()?)
}

fn take<'a, const COUNT: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; COUNT]> {
    let (taken, behind) = rest
        .split_first_chunk()
        .context("the file ends before its elements")?;
    *rest = behind;
    Ok(taken)
}

fn numbers<T, const SIZE: usize>(bytes: &[u8], number: fn([u8; SIZE]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<SIZE>();
    chunks.iter().map(|&chunk| number(chunk)).collect()
}

#[cfg(test)]
#[path = "torch_file_tests.rs"]
mod tests;
