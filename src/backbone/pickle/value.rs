//! The values that a pickle of tensors is made of, and what may be made of them.

use std::rc::Rc;

use anyhow::{Result, bail, ensure};

/// Most axes of a tensor.
const MAX_AXES: usize = 8;
/// Deepest nesting of tuples: a tensor's arguments hold a tuple for its storage.
const MAX_DEPTH: usize = 4;

/// A value of the machine.
#[derive(Clone, Debug)]
pub(in crate::backbone) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    Tuple(Tuple),
    /// A dictionary or a list, by its position among the containers: unlike the others they change after they were made.
    Container(usize),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<TensorRecord>),
}

/// A tuple, with how deep tuples are nested in it.
#[derive(Clone, Debug)]
pub(in crate::backbone) struct Tuple {
    values: Rc<[Value]>,
    depth: usize,
}

/// The names that a pickle may mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backbone) enum Global {
    OrderedDict,
    RebuildTensor,
    Storage(Element),
}

/// What a storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backbone) enum Element {
    /// 32-bit floats.
    Float,
    /// 64-bit integers.
    Long,
}

/// A row of elements that lies outside the pickle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backbone) struct Storage {
    pub key: Rc<str>,
    pub element: Element,
    pub len: u64,
}

/// A view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backbone) struct TensorRecord {
    pub storage: Rc<Storage>,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

impl Tuple {
    /// # Errors
    /// When tuples are nested too deep in it.
    pub fn new(values: Vec<Value>) -> Result<Self> {
        let inner = values.iter().map(|value| match value {
            Value::Tuple(tuple) => tuple.depth,
            _ => 0,
        });
        let depth = inner.max().unwrap_or(0) + 1;
        ensure!(
            depth <= MAX_DEPTH,
            "tuples are nested deeper than {MAX_DEPTH}"
        );
        Ok(Self {
            values: values.into(),
            depth,
        })
    }

    /// Its values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

impl Global {
    /// What a module of Python calls so, if a file of tensors may mention it.
    pub fn named(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch", "FloatStorage") => Self::Storage(Element::Float),
            ("torch", "LongStorage") => Self::Storage(Element::Long),
            _ => {
                bail!("the pickle wants {module:?} {name:?}, which is none of a file of tensors")
            }
        })
    }
}

impl Storage {
    /// From `("storage", torch.FloatStorage, key, device, length, None)`.
    pub fn from_reference(reference: &Value) -> Result<Self> {
        if let Value::Tuple(tuple) = reference
            && let [
                Value::Text(kind),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(length),
                Value::None,
            ] = tuple.values()
            && &**kind == "storage"
            && let Ok(len) = u64::try_from(*length)
        {
            return Ok(Self {
                key: Rc::clone(key),
                element: *element,
                len,
            });
        }
        bail!("a reference is not to a storage of floats or integers")
    }
}

impl TensorRecord {
    /// From `(storage, offset, shape, strides, requires_grad, hooks)`.
    pub fn from_arguments(arguments: &[Value]) -> Result<Self> {
        if let [
            Value::Storage(storage),
            Value::Int(offset),
            Value::Tuple(shape),
            Value::Tuple(strides),
            Value::Bool(_),
            Value::Container(_),
        ] = arguments
            && let Ok(offset) = u64::try_from(*offset)
            && let (Some(shape), Some(strides)) = (sizes(shape), sizes(strides))
        {
            return Ok(Self {
                storage: Rc::clone(storage),
                offset,
                shape,
                strides,
            });
        }
        bail!("a tensor has other arguments than storage, offset, shape and strides")
    }
}

fn sizes(tuple: &Tuple) -> Option<Vec<u64>> {
    let size = |value: &Value| match value {
        Value::Int(size) => u64::try_from(*size).ok(),
        _ => None,
    };
    match tuple.values().len() {
        0..=MAX_AXES => tuple.values().iter().map(size).collect(),
        _ => None,
    }
}
