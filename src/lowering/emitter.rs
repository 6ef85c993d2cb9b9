//! Collects ONNX nodes, constants and value types while a graph is emitted.

use pipeline::onnx::{
    AttributeProto, DimensionProto, DimensionValue, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, attribute_type, data_type as onnx_type,
};

use crate::graph::{Dim, ElementType, Graph, Origin, Shape, Tensor, TensorType, ValueId};

use super::Mode;

/// Domain of ONNX Runtime's own operators.
const MICROSOFT: &str = "com.microsoft";
/// Domain of ONNX Runtime's operators on blocked layout.
pub(crate) const NCHWC: &str = "com.microsoft.nchwc";

/// Which operator set a node belongs to.
#[derive(Clone, Copy)]
pub(super) enum Domain {
    Standard,
    Microsoft,
    /// ONNX Runtime's operators on blocked layout.
    Nchwc,
    /// This program's own.
    Catalog,
}

impl Domain {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Standard => None,
            Self::Microsoft => Some(MICROSOFT),
            Self::Nchwc => Some(NCHWC),
            Self::Catalog => Some(crate::operators::DOMAIN),
        }
    }
}

/// Layouts in which a value is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layouts {
    Plain,
    Blocked,
    Both,
}

pub(super) struct Emitter<'g> {
    pub(super) graph: &'g Graph,
    pub(super) mode: Mode,
    needed: &'g [bool],
    /// ONNX name of each value of the graph; empty until a constant is used.
    names: Vec<String>,
    /// Which layouts of each value there are already.
    layouts: Vec<Layouts>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    value_infos: Vec<ValueInfoProto>,
}

impl<'g> Emitter<'g> {
    pub(super) fn new(graph: &'g Graph, mode: Mode, needed: &'g [bool]) -> Self {
        let name = |value: &crate::graph::Value| match value.origin {
            Origin::Constant(_) => String::new(),
            Origin::Input | Origin::Parameter(_) | Origin::Node => value.name.clone(),
        };
        Self {
            graph,
            mode,
            needed,
            names: graph.values().iter().map(name).collect(),
            layouts: vec![Layouts::Plain; graph.values().len()],
            nodes: Vec::new(),
            initializers: Vec::new(),
            value_infos: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Vec<NodeProto>, Vec<TensorProto>, Vec<ValueInfoProto>) {
        (self.nodes, self.initializers, self.value_infos)
    }

    /// Gives a value another name in the emitted graph.
    pub(super) fn rename(&mut self, id: ValueId, name: &str) {
        self.names[id.index()] = name.to_owned();
    }

    /// ONNX name of a value in plain layout; a constant is written, and a value in blocked layout reordered, the first time it is
    /// asked for.
    pub(super) fn name(&mut self, id: ValueId) -> String {
        if self.layouts[id.index()] == Layouts::Blocked {
            self.layouts[id.index()] = Layouts::Both;
            let name = self.names[id.index()].clone();
            let ty = self.graph.value(id).ty.clone();
            let channels = int("channels", fixed(&ty.shape.dims()[1]) as i64);
            let operands = vec![blocked_name(&name)];
            self.reorder("ReorderOutput", operands, &name, &ty, vec![channels]);
            return name;
        }
        if self.names[id.index()].is_empty() {
            let value = self.graph.value(id);
            if let Origin::Constant(tensor) = &value.origin {
                self.initializers.push(tensor_proto(&value.name, tensor));
            }
            self.names[id.index()] = value.name.clone();
        }
        self.names[id.index()].clone()
    }

    /// ONNX name of a value in blocked layout; a value in plain layout is reordered the first time it is asked for.
    pub(super) fn blocked(&mut self, id: ValueId) -> String {
        let plain = self.name_if_plain(id);
        let name = blocked_name(&self.names[id.index()]);
        if let Some(plain) = plain {
            self.layouts[id.index()] = Layouts::Both;
            let ty = self.graph.value(id).ty.clone();
            self.reorder("ReorderInput", vec![plain], &name, &ty, vec![]);
        }
        name
    }

    /// Adds the node that puts a value into its other layout.
    fn reorder(
        &mut self,
        operator: &str,
        operands: Vec<String>,
        output: &str,
        ty: &TensorType,
        attributes: Vec<AttributeProto>,
    ) {
        self.value_infos.push(value_info(output, ty));
        // A value has the name of the node that made it.
        let name = format!("{output}/reordered");
        let outputs = vec![output.to_owned()];
        self.raw_node(
            (Domain::Nchwc, operator),
            &name,
            operands,
            outputs,
            attributes,
        );
    }

    fn name_if_plain(&mut self, id: ValueId) -> Option<String> {
        (self.layouts[id.index()] == Layouts::Plain).then(|| self.name(id))
    }

    /// Records that a value of the graph is made in blocked layout, and returns the name it has there.
    pub(super) fn declare_blocked(&mut self, id: ValueId) -> String {
        self.layouts[id.index()] = Layouts::Blocked;
        let name = blocked_name(&self.names[id.index()]);
        self.value_infos
            .push(value_info(&name, &self.graph.value(id).ty));
        name
    }

    pub(super) fn is_needed(&self, id: ValueId) -> bool {
        self.needed[id.index()]
    }

    /// A constant that only the emitted graph knows.
    pub(super) fn constant(&mut self, node: &str, suffix: &str, tensor: &Tensor) -> String {
        let name = format!("{node}/{suffix}");
        self.initializers.push(tensor_proto(&name, tensor));
        name
    }

    /// Adds a node whose outputs are values of the graph; an output nobody needs is left out.
    pub(super) fn node(
        &mut self,
        (domain, op_type): (Domain, &str),
        name: &str,
        inputs: Vec<String>,
        outputs: &[ValueId],
        attributes: Vec<AttributeProto>,
    ) {
        let output_names = outputs
            .iter()
            .map(|&id| match self.is_needed(id) {
                true => self.declare(id),
                false => String::new(),
            })
            .collect();
        self.raw_node((domain, op_type), name, inputs, output_names, attributes);
    }

    /// Records the type of a value of the graph and returns its name.
    pub(super) fn declare(&mut self, id: ValueId) -> String {
        let name = self.name(id);
        self.value_infos
            .push(value_info(&name, &self.graph.value(id).ty));
        name
    }

    /// Adds a node with one output that only the emitted graph knows, and returns the output's name.
    pub(super) fn intermediate(
        &mut self,
        (domain, op_type): (Domain, &str),
        name: String,
        inputs: Vec<String>,
        ty: &TensorType,
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.value_infos.push(value_info(&name, ty));
        self.raw_node(
            (domain, op_type),
            &name,
            inputs,
            vec![name.clone()],
            attributes,
        );
        name
    }

    pub(super) fn raw_node(
        &mut self,
        (domain, op_type): (Domain, &str),
        name: &str,
        inputs: Vec<String>,
        mut outputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) {
        while outputs.last().is_some_and(String::is_empty) {
            outputs.pop();
        }
        self.nodes.push(NodeProto {
            input: inputs,
            output: outputs,
            name: Some(name.to_owned()),
            op_type: Some(op_type.to_owned()),
            attribute: attributes,
            domain: domain.name().map(str::to_owned),
            ..NodeProto::default()
        });
    }
}

fn blocked_name(name: &str) -> String {
    format!("{name}/blocked")
}

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

fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape.iter().map(|&size| size as i64).collect(),
        data_type: Some(data_type(tensor.data.element())),
        name: Some(name.to_owned()),
        raw_data: Some(tensor.data.to_le_bytes()),
        ..TensorProto::default()
    }
}

pub(crate) fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(TensorTypeProto {
                elem_type: Some(data_type(ty.element)),
                shape: Some(shape_proto(&ty.shape)),
            })),
        }),
        ..ValueInfoProto::default()
    }
}

fn shape_proto(shape: &Shape) -> TensorShapeProto {
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
