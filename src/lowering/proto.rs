//! Small parts of ONNX files: types, constants, attributes.

use half::f16;
use pipeline::onnx::{
    AttributeProto, DimensionProto, DimensionValue, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, TypeValue, ValueInfoProto, attribute_type, data_type as onnx_type,
};

use crate::graph::{Dim, ElementType, Shape, Tensor, TensorType};

/// A dimension without the batch.
pub(super) fn fixed(dim: &Dim) -> usize {
    match dim {
        Dim::Fixed(size) | Dim::Batch(size) => *size,
    }
}

pub(super) fn data_type(element: ElementType) -> i32 {
    match element {
        ElementType::F32 => onnx_type::FLOAT,
        ElementType::U8 => onnx_type::UINT8,
        ElementType::I64 => onnx_type::INT64,
        ElementType::Bool => onnx_type::BOOL,
    }
}

pub(super) fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape.iter().map(|&size| size as i64).collect(),
        data_type: Some(data_type(tensor.data.element())),
        name: Some(name.to_owned()),
        raw_data: Some(tensor.data.to_le_bytes()),
        ..TensorProto::default()
    }
}

pub(super) fn halves(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    let bytes = values
        .iter()
        .flat_map(|&value| f16::from_f32(value).to_le_bytes());
    TensorProto {
        dims: shape.iter().map(|&size| size as i64).collect(),
        data_type: Some(onnx_type::FLOAT16),
        name: Some(name.to_owned()),
        raw_data: Some(bytes.collect()),
        ..TensorProto::default()
    }
}

pub(crate) fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    element_info(name, data_type(ty.element), &ty.shape)
}

pub(super) fn element_info(name: &str, element: i32, shape: &Shape) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(TensorTypeProto {
                elem_type: Some(element),
                shape: Some(shape_proto(shape)),
            })),
        }),
        ..ValueInfoProto::default()
    }
}

pub(super) fn shape_proto(shape: &Shape) -> TensorShapeProto {
    let dim = |dim: &Dim| DimensionProto {
        value: Some(match dim {
            Dim::Fixed(size) => DimensionValue::Fixed(*size as i64),
            Dim::Batch(1) => DimensionValue::Symbolic("N".to_owned()),
            Dim::Batch(times) => DimensionValue::Symbolic(format!("N*{times}")),
        }),
    };
    TensorShapeProto {
        dim: shape.dims().iter().map(dim).collect(),
    }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto::int(name, value)
}

pub(super) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    AttributeProto::ints(name, &values)
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(value),
        r#type: Some(attribute_type::FLOAT),
        ..AttributeProto::default()
    }
}

pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        s: Some(value.as_bytes().to_vec()),
        r#type: Some(attribute_type::STRING),
        ..AttributeProto::default()
    }
}
