//! `RectifierGradient(dY, Y) → dX`.

use ort::operator::{ComputeContext, KernelContext};

use crate::kernels::{Bounds, Instructions, rectifier_gradient};

use super::attributes::{instructions, required};
use super::tensors::{Threads, floats, floats_mut, image_batch, input, output};
use super::{Compute, CustomOperator, Operand};

pub(super) const GRADIENT: CustomOperator = CustomOperator {
    name: "RectifierGradient",
    inputs: &[Operand::Floats, Operand::Floats],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(Gradient {
            instructions: instructions(context)?,
            bounds: bounds(context)?,
        }))
    },
};

/// The attributes `low` and `high`.
pub(super) fn bounds(context: &KernelContext<'_>) -> ort::Result<Bounds> {
    Ok(Bounds {
        low: required(context, "low")?,
        high: required(context, "high")?,
    })
}

struct Gradient {
    instructions: Instructions,
    bounds: Bounds,
}

impl Compute for Gradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, y) = (input(context, 0)?, input(context, 1)?);
        let (images, channels, [height, width], dy) = image_batch::<f32>(&dy)?;
        let mut dx = output(context, 0, [images, channels, height, width])?;
        rectifier_gradient(
            self.instructions,
            self.bounds,
            dy,
            floats(&y)?,
            floats_mut(&mut dx)?,
            &Threads(context),
        );
        Ok(())
    }
}
