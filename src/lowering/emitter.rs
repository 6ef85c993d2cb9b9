//! Collects ONNX nodes, constants and value types while a graph is emitted.

use pipeline::onnx::{
    AttributeProto, NodeProto, TensorProto, ValueInfoProto, data_type as onnx_type,
};

use crate::graph::{ElementType, Graph, Origin, Shape, Tensor, TensorData, TensorType, ValueId};

use super::Mode;
use super::proto::{data_type, element_info, fixed, halves, int, tensor_proto, value_info};

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

/// Forms in which a value is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forms {
    Plain,
    Other,
    Both,
}

/// The form that a formulation knows beside the plain one: 32-bit floats in the order of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherForm {
    /// In blocks of channels.
    Blocked,
    /// 16-bit floats.
    Half,
}

impl OtherForm {
    fn name_of(self, plain: &str) -> String {
        match self {
            Self::Blocked => format!("{plain}/blocked"),
            Self::Half => format!("{plain}/half"),
        }
    }
}

pub(super) struct Emitter<'g> {
    pub(super) graph: &'g Graph,
    pub(super) mode: Mode,
    needed: &'g [bool],
    /// ONNX name of each value of the graph; empty until a constant is used.
    names: Vec<String>,
    other_form: OtherForm,
    /// Which forms of each value there are already.
    forms: Vec<Forms>,
    /// Whether float values are asked for, made and declared as 16-bit floats.
    is_halving: bool,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    value_infos: Vec<ValueInfoProto>,
}

impl<'g> Emitter<'g> {
    pub(super) fn new(
        graph: &'g Graph,
        mode: Mode,
        needed: &'g [bool],
        other_form: OtherForm,
    ) -> Self {
        let name = |value: &crate::graph::Value| match value.origin {
            Origin::Constant(_) => String::new(),
            Origin::Input | Origin::Parameter(_) | Origin::Node => value.name.clone(),
        };
        Self {
            graph,
            mode,
            needed,
            names: graph.values().iter().map(name).collect(),
            other_form,
            forms: vec![Forms::Plain; graph.values().len()],
            is_halving: false,
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

    /// ONNX name of a value in the form that nodes are emitted in: as 16-bit floats within [`Emitter::halved`], else plain. A constant is
    /// written, and a value in another form converted, the first time it is asked for.
    pub(super) fn name(&mut self, id: ValueId) -> String {
        match self.is_halved(self.graph.value(id).ty.element) {
            true => self.other(id),
            false => self.plain(id),
        }
    }

    /// ONNX name of a value in plain form.
    pub(super) fn plain(&mut self, id: ValueId) -> String {
        if self.forms[id.index()] == Forms::Other {
            self.forms[id.index()] = Forms::Both;
            let name = self.names[id.index()].clone();
            self.convert_back(id, &name);
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

    /// ONNX name of a value in the formulation's other form.
    pub(super) fn other(&mut self, id: ValueId) -> String {
        let plain = (self.forms[id.index()] == Forms::Plain).then(|| self.plain(id));
        let name = self.other_form.name_of(&self.names[id.index()]);
        if let Some(plain) = plain {
            self.forms[id.index()] = Forms::Both;
            self.convert(id, plain, &name);
        }
        name
    }

    /// Adds the node that brings a value from plain into the other form.
    fn convert(&mut self, id: ValueId, plain: String, output: &str) {
        let ty = self.graph.value(id).ty.clone();
        let (operator, element, attributes) = match self.other_form {
            OtherForm::Blocked => (
                (Domain::Nchwc, "ReorderInput"),
                data_type(ty.element),
                vec![],
            ),
            OtherForm::Half => (
                (Domain::Standard, "Cast"),
                onnx_type::FLOAT16,
                vec![int("to", onnx_type::FLOAT16.into())],
            ),
        };
        self.add_conversion(operator, plain, output, (element, &ty.shape), attributes);
    }

    /// Adds the node that brings a value from the other form into the plain one.
    fn convert_back(&mut self, id: ValueId, output: &str) {
        let ty = self.graph.value(id).ty.clone();
        let (operator, attributes) = match self.other_form {
            OtherForm::Blocked => {
                let channels = fixed(&ty.shape.dims()[1]) as i64;
                (
                    (Domain::Nchwc, "ReorderOutput"),
                    vec![int("channels", channels)],
                )
            }
            OtherForm::Half => (
                (Domain::Standard, "Cast"),
                vec![int("to", onnx_type::FLOAT.into())],
            ),
        };
        let other = self.other_form.name_of(output);
        let ty = (data_type(ty.element), &ty.shape);
        self.add_conversion(operator, other, output, ty, attributes);
    }

    fn add_conversion(
        &mut self,
        operator: (Domain, &str),
        operand: String,
        output: &str,
        (element, shape): (i32, &Shape),
        attributes: Vec<AttributeProto>,
    ) {
        self.value_infos.push(element_info(output, element, shape));
        // A value has the name of the node that made it.
        let name = format!("{output}/converted");
        let outputs = vec![output.to_owned()];
        self.raw_node(operator, &name, vec![operand], outputs, attributes);
    }

    /// Records that a value of the graph is made in the other form, and returns the name it has there.
    pub(super) fn declare_other(&mut self, id: ValueId) -> String {
        self.forms[id.index()] = Forms::Other;
        let name = self.other_form.name_of(&self.names[id.index()]);
        let ty = &self.graph.value(id).ty;
        let element = match self.other_form {
            OtherForm::Blocked => data_type(ty.element),
            OtherForm::Half => onnx_type::FLOAT16,
        };
        self.value_infos
            .push(element_info(&name, element, &ty.shape));
        name
    }

    /// Emits with all float values, constants included, as 16-bit floats.
    pub(super) fn halved(&mut self, emit: impl FnOnce(&mut Self)) {
        debug_assert_eq!(self.other_form, OtherForm::Half);
        self.is_halving = true;
        emit(self);
        self.is_halving = false;
    }

    /// Whether what is emitted now has 16-bit floats for values of this type.
    pub(super) fn is_halved(&self, element: ElementType) -> bool {
        self.is_halving && element == ElementType::F32
    }

    pub(super) fn is_needed(&self, id: ValueId) -> bool {
        self.needed[id.index()]
    }

    /// A constant that only the emitted graph knows.
    pub(super) fn constant(&mut self, node: &str, suffix: &str, tensor: &Tensor) -> String {
        let name = format!("{node}/{suffix}");
        let proto = match &tensor.data {
            TensorData::F32(values) if self.is_halving => halves(&name, &tensor.shape, values),
            _ => tensor_proto(&name, tensor),
        };
        self.initializers.push(proto);
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
        if self.is_halved(self.graph.value(id).ty.element) {
            return self.declare_other(id);
        }
        let name = self.plain(id);
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
        let element = match self.is_halved(ty.element) {
            true => onnx_type::FLOAT16,
            false => data_type(ty.element),
        };
        self.value_infos
            .push(element_info(&name, element, &ty.shape));
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
