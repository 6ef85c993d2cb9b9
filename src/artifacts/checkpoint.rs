//! ONNX Runtime's checkpoint format, version 2: a FlatBuffers file with the identifier `ODTC`.
//!
//! Only what a fresh start needs is written: the parameters. ONNX Runtime adds its own optimizer state.

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, WIPOffset};

use crate::graph::Graph;

const FORMAT_VERSION: i32 = 2;
const FILE_IDENTIFIER: &str = "ODTC";
/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;

/// Offset of field `slot` in a FlatBuffers vtable.
const fn field(slot: u16) -> u16 {
    4 + 2 * slot
}

/// A checkpoint with `values`, one slice per parameter of `graph`, in its order.
pub(super) fn encode(graph: &Graph, values: &[Vec<f32>]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let mut trained = Vec::new();
    let mut frozen = Vec::new();
    for ((_, value, parameter), data) in graph.parameters().zip(values) {
        let dims = value.ty.shape.dims().iter().map(|dim| match dim {
            crate::graph::Dim::Fixed(size) | crate::graph::Dim::Batch(size) => *size as i64,
        });
        let tensor = tensor(&mut builder, &value.name, &dims.collect::<Vec<_>>(), data);
        match parameter.role.is_trained() {
            true => trained.push(tensor),
            false => frozen.push(tensor),
        }
    }
    let trained = builder.create_vector(&trained);
    let frozen = builder.create_vector(&frozen);

    let module = builder.start_table();
    builder.push_slot_always(field(0), trained);
    builder.push_slot_always(field(1), frozen);
    let module = builder.end_table(module);

    let root = builder.start_table();
    builder.push_slot_always(field(0), FORMAT_VERSION);
    builder.push_slot_always(field(1), module);
    let root = builder.end_table(root);
    builder.finish(root, Some(FILE_IDENTIFIER));
    builder.finished_data().to_vec()
}

fn tensor(
    builder: &mut FlatBufferBuilder<'_>,
    name: &str,
    dims: &[i64],
    data: &[f32],
) -> WIPOffset<TableFinishedWIPOffset> {
    let name = builder.create_string(name);
    let dims = builder.create_vector(dims);
    let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = builder.create_vector(&bytes);
    let table = builder.start_table();
    builder.push_slot_always(field(0), name);
    builder.push_slot_always(field(2), dims);
    builder.push_slot_always(field(3), FLOAT);
    builder.push_slot_always(field(4), bytes);
    builder.end_table(table)
}
