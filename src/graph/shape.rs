//! Types and shapes.

use std::fmt;

/// Element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// Unsigned byte.
    U8,
    /// 64-bit integer.
    I64,
    /// Boolean.
    Bool,
}

/// Size of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known when the graph is built.
    Fixed(usize),
    /// So many times the batch size, which is known at each run only.
    Batch(usize),
}

/// Sizes of all axes, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<Dim>);

/// Element type and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub element: ElementType,
    /// Shape.
    pub shape: Shape,
}

/// Inputs that do not fit an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node `{node}`: {problem} (inputs: {})", inputs.join(", "))]
pub struct ShapeError {
    /// Name of the node.
    pub node: String,
    /// Names and types of its inputs.
    pub inputs: Vec<String>,
    /// What does not fit.
    pub problem: String,
}

impl Shape {
    /// From the sizes.
    pub fn new(dims: Vec<Dim>) -> Self {
        Self(dims)
    }

    /// All sizes fixed.
    pub fn fixed(sizes: &[usize]) -> Self {
        Self(sizes.iter().map(|&size| Dim::Fixed(size)).collect())
    }

    /// `[N, sizes…]`.
    pub fn batch(sizes: &[usize]) -> Self {
        let mut dims = vec![Dim::Batch(1)];
        dims.extend(sizes.iter().map(|&size| Dim::Fixed(size)));
        Self(dims)
    }

    /// The sizes.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements, if no axis depends on the batch size.
    pub fn fixed_len(&self) -> Option<usize> {
        self.0
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => Some(*size),
                Dim::Batch(_) => None,
            })
            .product()
    }

    /// Number of elements.
    pub fn len(&self) -> Dim {
        let mut product = 1;
        let mut is_batch = false;
        for dim in &self.0 {
            match dim {
                Dim::Fixed(size) => product *= size,
                Dim::Batch(times) => {
                    product *= times;
                    is_batch = true;
                }
            }
        }
        if is_batch {
            Dim::Batch(product)
        } else {
            Dim::Fixed(product)
        }
    }
}

impl TensorType {
    /// From its parts.
    pub fn new(element: ElementType, shape: Shape) -> Self {
        Self { element, shape }
    }

    /// A float tensor.
    pub fn f32(shape: Shape) -> Self {
        Self::new(ElementType::F32, shape)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::U8 => "u8",
            Self::I64 => "i64",
            Self::Bool => "bool",
        })
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(formatter, "{size}"),
            Self::Batch(1) => write!(formatter, "N"),
            Self::Batch(times) => write!(formatter, "{times}N"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(formatter, "[{}]", sizes.join(","))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.element, self.shape)
    }
}
