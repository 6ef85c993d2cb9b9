//! Making graphs by hand, and taking them apart: nodes, attributes and types in a line, and one graph inside another.

use std::collections::BTreeSet;
use std::mem;

use super::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, attribute_type,
    data_type,
};

impl NodeProto {
    /// An operator of the standard set with one output, after which the node is called.
    pub fn of(
        operator: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) -> Self {
        Self {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(output.to_owned()),
            op_type: Some(operator.to_owned()),
            attribute,
            ..Self::default()
        }
    }
}

impl AttributeProto {
    /// An integer.
    pub fn int(name: &str, value: i64) -> Self {
        Self {
            name: Some(name.to_owned()),
            i: Some(value),
            r#type: Some(attribute_type::INT),
            ..Self::default()
        }
    }

    /// Several integers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        Self {
            name: Some(name.to_owned()),
            ints: values.to_vec(),
            r#type: Some(attribute_type::INTS),
            ..Self::default()
        }
    }
}

impl TensorProto {
    /// Floats.
    pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Self {
        Self {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(data_type::FLOAT),
            raw_data: Some(
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            ..Self::default()
        }
    }
}

impl ValueInfoProto {
    /// A tensor with a batch in front of these dimensions, or of a shape that is not said.
    pub fn batch(name: &str, element: i32, dimensions: Option<&[i64]>) -> Self {
        let dimension = |value| DimensionProto { value: Some(value) };
        let shape = dimensions.map(|sizes| {
            let batch = dimension(DimensionValue::Symbolic("N".to_owned()));
            let rest = sizes
                .iter()
                .map(|&size| dimension(DimensionValue::Fixed(size)));
            TensorShapeProto {
                dim: [batch].into_iter().chain(rest).collect(),
            }
        });
        Self {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                value: Some(TypeValue::Tensor(TensorTypeProto {
                    elem_type: Some(element),
                    shape,
                })),
            }),
            ..Self::default()
        }
    }
}

impl GraphProto {
    /// Leaves the nodes and constants that `wanted` depends on, and the inputs that are no constants. No output remains.
    pub fn keep_what_makes(&mut self, wanted: &str) {
        let mut needed = BTreeSet::from([wanted.to_owned()]);
        let mut kept = Vec::new();
        for node in mem::take(&mut self.node).into_iter().rev() {
            if node.output.iter().any(|name| needed.contains(name)) {
                add_read(&node, &mut needed);
                kept.push(node);
            }
        }
        kept.reverse();
        self.node = kept;
        self.initializer
            .retain(|tensor| needed.contains(tensor.name()));
        let constants: BTreeSet<&str> = self.initializer.iter().map(TensorProto::name).collect();
        self.input
            .retain(|input| needed.contains(input.name()) && !constants.contains(input.name()));
        self.value_info.clear();
        self.output.clear();
        self.doc_string = None;
    }

    /// Puts `scope` before every name of the graph, and of the graphs inside it, so that none meets one of another graph.
    pub fn put_names_in(&mut self, scope: &str) {
        let scoped = |name: &mut String| {
            if !name.is_empty() {
                name.insert_str(0, scope);
            }
        };
        for node in &mut self.node {
            node.input.iter_mut().for_each(scoped);
            node.output.iter_mut().for_each(scoped);
            node.name.iter_mut().for_each(scoped);
            node.doc_string = None;
            for attribute in &mut node.attribute {
                let inner = attribute.g.iter_mut().chain(&mut attribute.graphs);
                inner.for_each(|graph| graph.put_names_in(scope));
            }
        }
        let values = self.input.iter_mut().chain(&mut self.output);
        for value in values.chain(&mut self.value_info) {
            value.name.iter_mut().for_each(scoped);
        }
        for tensor in &mut self.initializer {
            tensor.name.iter_mut().for_each(scoped);
        }
    }
}

/// Adds the names a node reads, those that the graphs inside it read among them.
fn add_read(node: &NodeProto, names: &mut BTreeSet<String>) {
    names.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            for node in &graph.node {
                add_read(node, names);
            }
            // A branch may hand out a value of the graph around it.
            names.extend(graph.output.iter().map(|output| output.name().to_owned()));
        }
    }
}
