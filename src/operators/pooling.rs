//! `MaxPool(Z) → P, winners`, `ConvMaxPool(X, W[, B]) → P, winners` and `MaxPoolGradient(dP, winners) → dZ`.

use ort::operator::ComputeContext;

use crate::kernels::{self, Instructions, max_pool, max_pool_gradient};

use super::attributes::{ConvAttributes, PoolAttributes, instructions, required};
use super::tensors::{Threads, floats, floats_mut, image_batch, input, optional_input, output};
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

pub(super) const CONV_MAX_POOL: CustomOperator = CustomOperator {
    name: "ConvMaxPool",
    inputs: &[Operand::Floats, Operand::Floats, Operand::OptionalFloats],
    outputs: &[Operand::Floats, Operand::Bytes],
    create: |context| {
        Ok(Box::new(ConvMaxPool {
            instructions: instructions(context)?,
            conv: ConvAttributes::read(context)?,
            pool: PoolAttributes::read(context)?,
            rectify: required::<i64>(context, "rectify")? != 0,
            packed: Vec::new(),
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

struct ConvMaxPool {
    instructions: Instructions,
    conv: ConvAttributes,
    pool: PoolAttributes,
    rectify: bool,
    packed: Vec<f32>,
}

impl Compute for ConvMaxPool {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, weight, bias) = (
            input(context, 0)?,
            input(context, 1)?,
            optional_input(context, 2)?,
        );
        let (images, _, _, x) = image_batch::<f32>(&x)?;
        let (filters, _, _, weight) = image_batch::<f32>(&weight)?;
        let conv = self.conv.with_output(images, filters, self.pool.in_size);
        let pooling = self.pool.with_batch(images, filters);
        let [height, width] = pooling.out_size;
        let mut pooled = output(context, 0, [images, filters, height, width])?;
        let mut winners = output(context, 1, [images, filters, height, width])?;
        let job = kernels::ConvMaxPool {
            conv: &conv,
            pooling: &pooling,
            rectify: self.rectify,
            x,
            weight,
            bias: bias.as_ref().map(floats).transpose()?,
        };
        job.run(
            self.instructions,
            floats_mut(&mut pooled)?,
            winners.try_extract_tensor_mut::<u8>()?.1,
            &mut self.packed,
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
