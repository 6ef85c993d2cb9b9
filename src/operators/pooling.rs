//! `MaxPool(Z) → P, winners` and `MaxPoolGradient(dP, winners) → dZ`.

use ort::operator::ComputeContext;

use crate::kernels::{Instructions, max_pool, max_pool_gradient};

use super::attributes::{PoolAttributes, instructions, required};
use super::tensors::{Threads, floats_mut, image_batch, input, output};
use super::{Compute, CustomOperator, Operand};

pub(super) const MAX_POOL: CustomOperator = CustomOperator {
    name: "MaxPool",
    inputs: &[Operand::Floats],
    outputs: &[Operand::Floats, Operand::Bytes],
    create: |context| {
        Ok(Box::new(MaxPool {
            instructions: instructions(context)?,
            pool: PoolAttributes::read(context)?,
            rectify: required::<i64>(context, "rectify")? != 0,
        }))
    },
};

pub(super) const MAX_POOL_GRADIENT: CustomOperator = CustomOperator {
    name: "MaxPoolGradient",
    inputs: &[Operand::Floats, Operand::Bytes],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(MaxPoolGradient {
            instructions: instructions(context)?,
            pool: PoolAttributes::read(context)?,
        }))
    },
};

struct MaxPool {
    instructions: Instructions,
    pool: PoolAttributes,
    rectify: bool,
}

impl Compute for MaxPool {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let z = input(context, 0)?;
        let (images, channels, _, z) = image_batch::<f32>(&z)?;
        let pooling = self.pool.with_batch(images, channels);
        let [height, width] = pooling.out_size;
        let mut pooled = output(context, 0, [images, channels, height, width])?;
        let mut winners = output(context, 1, [images, channels, height, width])?;
        max_pool(
            self.instructions,
            &pooling,
            self.rectify,
            z,
            floats_mut(&mut pooled)?,
            winners.try_extract_tensor_mut::<u8>()?.1,
            &Threads(context),
        );
        Ok(())
    }
}

struct MaxPoolGradient {
    instructions: Instructions,
    pool: PoolAttributes,
}

impl Compute for MaxPoolGradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (gradient, winners) = (input(context, 0)?, input(context, 1)?);
        let (images, channels, _, gradient) = image_batch::<f32>(&gradient)?;
        let (_, _, _, winners) = image_batch::<u8>(&winners)?;
        let pooling = self.pool.with_batch(images, channels);
        let [height, width] = pooling.in_size;
        let mut dz = output(context, 0, [images, channels, height, width])?;
        max_pool_gradient(
            self.instructions,
            &pooling,
            gradient,
            winners,
            floats_mut(&mut dz)?,
            &Threads(context),
        );
        Ok(())
    }
}
