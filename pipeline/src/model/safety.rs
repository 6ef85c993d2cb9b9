//! What a model must not contain, looked for before ONNX Runtime sees a byte of it.
//!
//! ONNX Runtime reads files named inside a model (external data, compiled contexts) and runs whatever operators a library
//! registered under a custom domain. A classifier needs none of that.

use anyhow::{Result, bail, ensure};

use crate::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Domains whose operators are part of the ONNX standard; the first two are the same one.
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// An error names what was found and where.
pub(crate) fn check(model: &ModelProto) -> Result<()> {
    ensure!(model.functions.is_empty(), "it contains local functions");
    ensure!(
        model.training_info.is_empty(),
        "it contains training information"
    );
    // Imports without a node are harmless, and converters leave them behind; every node is checked.
    let Some(graph) = &model.graph else {
        bail!("it contains no graph")
    };
    check_graph(graph)
}

fn check_graph(graph: &GraphProto) -> Result<()> {
    ensure!(
        graph.sparse_initializer.is_empty(),
        "it contains sparse initializers"
    );
    graph.initializer.iter().try_for_each(check_tensor)?;
    graph.node.iter().try_for_each(check_node)
}

fn check_node(node: &NodeProto) -> Result<()> {
    let (name, operator) = (node.name(), node.op_type());
    ensure!(
        DOMAINS.contains(&node.domain()),
        "node {name:?} is {operator} of the domain {:?}, which is not part of the ONNX standard",
        node.domain()
    );
    ensure!(
        operator != "EPContext",
        "node {name:?} is a compiled context (EPContext)"
    );
    node.attribute.iter().try_for_each(check_attribute)
}

fn check_attribute(attribute: &AttributeProto) -> Result<()> {
    ensure!(
        attribute.sparse_tensor.is_empty() && attribute.sparse_tensors.is_empty(),
        "attribute {:?} is a sparse tensor",
        attribute.name()
    );
    attribute
        .t
        .iter()
        .chain(&attribute.tensors)
        .try_for_each(check_tensor)?;
    attribute
        .g
        .iter()
        .chain(&attribute.graphs)
        .try_for_each(check_graph)
}

fn check_tensor(tensor: &TensorProto) -> Result<()> {
    ensure!(
        tensor.external_data.is_empty() && tensor.data_location.unwrap_or(0) == 0,
        "the data of tensor {:?} lie in another file; save the model with its weights inside",
        tensor.name()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::model;
    use crate::onnx::StringStringEntryProto;

    fn refused(change: impl FnOnce(&mut ModelProto)) -> String {
        let mut model = model();
        change(&mut model);
        check(&model).unwrap_err().to_string()
    }

    fn graph(model: &mut ModelProto) -> &mut GraphProto {
        model.graph.as_mut().unwrap()
    }

    fn external() -> TensorProto {
        let location = StringStringEntryProto {
            key: Some("location".into()),
            value: Some("/etc/passwd".into()),
        };
        TensorProto {
            name: Some("weights".into()),
            external_data: vec![location],
            ..TensorProto::default()
        }
    }

    #[test]
    fn an_ordinary_model_passes() {
        check(&model()).unwrap();
    }

    #[test]
    fn whatever_reaches_outside_the_file_is_refused() {
        assert!(
            refused(|model| graph(model).initializer.push(external()))
                .contains("\"weights\" lie in another file")
        );
        assert!(
            refused(|model| graph(model).initializer[0].data_location = Some(1))
                .contains("another file")
        );
        assert!(
            refused(|model| graph(model).node[0].domain = Some("com.evil".into()))
                .contains("\"com.evil\"")
        );
        assert!(
            refused(|model| graph(model).node[0].op_type = Some("EPContext".into()))
                .contains("EPContext")
        );
        assert!(refused(|model| model.functions.push(vec![])).contains("local functions"));
        assert!(refused(|model| model.training_info.push(vec![])).contains("training information"));
        assert!(refused(|model| graph(model).sparse_initializer.push(vec![])).contains("sparse"));
        assert!(refused(|model| model.graph = None).contains("no graph"));
    }

    #[test]
    fn attributes_and_subgraphs_are_looked_into() {
        let attribute = |attribute: AttributeProto| {
            let inner = NodeProto {
                attribute: vec![attribute],
                ..NodeProto::default()
            };
            let subgraph = GraphProto {
                node: vec![inner],
                ..GraphProto::default()
            };
            let holder = AttributeProto {
                g: Some(subgraph),
                ..AttributeProto::default()
            };
            refused(|model| graph(model).node[0].attribute.push(holder))
        };
        assert!(
            attribute(AttributeProto {
                t: Some(external()),
                ..AttributeProto::default()
            })
            .contains("another file")
        );
        assert!(
            attribute(AttributeProto {
                tensors: vec![external()],
                ..AttributeProto::default()
            })
            .contains("another file")
        );
        assert!(
            attribute(AttributeProto {
                sparse_tensor: vec![vec![]],
                ..AttributeProto::default()
            })
            .contains("sparse")
        );
        let inner = GraphProto {
            sparse_initializer: vec![vec![]],
            ..GraphProto::default()
        };
        assert!(
            attribute(AttributeProto {
                graphs: vec![inner],
                ..AttributeProto::default()
            })
            .contains("sparse")
        );
    }
}
