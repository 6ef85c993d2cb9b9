//! Constant tensors.

use super::ElementType;

/// A tensor with its data, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: TensorData,
}

/// Elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// Booleans.
    Bool(Vec<bool>),
}

impl Tensor {
    /// A float scalar of shape `[]`.
    pub fn scalar(value: f32) -> Self {
        Self::f32(&[], vec![value])
    }

    /// A float tensor; `data` holds as many elements as `shape` says.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self {
            shape: shape.to_vec(),
            data: TensorData::F32(data),
        }
    }

    /// A one-dimensional integer tensor.
    pub fn i64s(data: Vec<i64>) -> Self {
        Self {
            shape: vec![data.len()],
            data: TensorData::I64(data),
        }
    }

    /// A one-element boolean tensor of shape `[1]`.
    pub fn flag(value: bool) -> Self {
        Self {
            shape: vec![1],
            data: TensorData::Bool(vec![value]),
        }
    }
}

impl TensorData {
    /// Element type.
    pub fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::I64(_) => ElementType::I64,
            Self::Bool(_) => ElementType::Bool,
        }
    }

    /// Elements as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(data) => data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I64(data) => data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bool(data) => data.iter().map(|&value| u8::from(value)).collect(),
        }
    }
}
