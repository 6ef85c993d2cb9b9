//! `BatchNorm(Z, scale, bias, running mean, running variance[, residual]) → Y, mean, inverse deviation, new running mean, new
//! running variance` and `BatchNormGradient(dY, Z, scale, mean, inverse deviation[, Y]) → dZ, dScale, dBias`.

use ort::operator::{ComputeContext, KernelContext};

use crate::kernels::{BatchNormBackward, BatchNormForward, Bounds, Instructions, Normalisation};

use super::attributes::{instructions, required};
use super::rectifier::bounds;
use super::tensors::{
    Threads, floats, floats_mut, image_batch, input, optional_input, output, write_channels,
};
use super::{Compute, CustomOperator, Operand};

pub(super) const FORWARD: CustomOperator = CustomOperator {
    name: "BatchNorm",
    inputs: &[
        Operand::Floats,
        Operand::Floats,
        Operand::Floats,
        Operand::Floats,
        Operand::Floats,
        Operand::OptionalFloats,
    ],
    outputs: &[Operand::Floats; 5],
    create: |context| {
        Ok(Box::new(Forward {
            constants: Constants::read(context)?,
            momentum: required(context, "momentum")?,
        }))
    },
};

pub(super) const GRADIENT: CustomOperator = CustomOperator {
    name: "BatchNormGradient",
    inputs: &[
        Operand::Floats,
        Operand::Floats,
        Operand::Floats,
        Operand::Floats,
        Operand::Floats,
        Operand::OptionalFloats,
    ],
    outputs: &[Operand::Floats; 3],
    create: |context| {
        Ok(Box::new(Gradient {
            constants: Constants::read(context)?,
        }))
    },
};

/// What both have in common.
struct Constants {
    instructions: Instructions,
    epsilon: f32,
    bounds: Bounds,
    partial: Vec<f32>,
}

impl Constants {
    fn read(context: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            instructions: instructions(context)?,
            epsilon: required(context, "epsilon")?,
            bounds: bounds(context)?,
            partial: Vec::new(),
        })
    }

    fn normalisation(&self, images: usize, channels: usize, size: [usize; 2]) -> Normalisation {
        Normalisation {
            images,
            channels,
            pixels: size[0] * size[1],
            epsilon: self.epsilon,
            bounds: self.bounds,
        }
    }
}

struct Forward {
    constants: Constants,
    momentum: f32,
}

impl Compute for Forward {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (z, scale, bias) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let running = [input(context, 3)?, input(context, 4)?];
        let residual = optional_input(context, 5)?;
        let (images, channels, size, z) = image_batch::<f32>(&z)?;
        let forward = BatchNormForward {
            norm: self.constants.normalisation(images, channels, size),
            z,
            scale: floats(&scale)?,
            bias: floats(&bias)?,
            residual: residual.as_ref().map(floats).transpose()?,
        };
        let mut y = output(context, 0, [images, channels, size[0], size[1]])?;
        let moments = forward.run(
            self.constants.instructions,
            floats_mut(&mut y)?,
            &mut self.constants.partial,
            &Threads(context),
        );

        let inverse: Vec<f32> = moments
            .variance
            .iter()
            .map(|variance| 1.0 / (variance + self.constants.epsilon).sqrt())
            .collect();
        write_channels(context, 1, &moments.mean)?;
        write_channels(context, 2, &inverse)?;
        for (index, (running, batch)) in running
            .iter()
            .zip([&moments.mean, &moments.variance])
            .enumerate()
        {
            let updated: Vec<f32> = floats(running)?
                .iter()
                .zip(batch)
                .map(|(running, batch)| self.momentum * running + (1.0 - self.momentum) * batch)
                .collect();
            write_channels(context, 3 + index, &updated)?;
        }
        Ok(())
    }
}

struct Gradient {
    constants: Constants,
}

impl Compute for Gradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, z, scale) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (mean, inverse) = (input(context, 3)?, input(context, 4)?);
        let y = optional_input(context, 5)?;
        let (images, channels, size, dy) = image_batch::<f32>(&dy)?;
        let backward = BatchNormBackward {
            norm: self.constants.normalisation(images, channels, size),
            dy,
            z: floats(&z)?,
            y: y.as_ref().map(floats).transpose()?,
            scale: floats(&scale)?,
            mean: floats(&mean)?,
            inverse_deviation: floats(&inverse)?,
        };
        let mut dz = output(context, 0, [images, channels, size[0], size[1]])?;
        let [d_scale, d_bias] = backward.run(
            self.constants.instructions,
            floats_mut(&mut dz)?,
            &mut self.constants.partial,
            &Threads(context),
        );
        write_channels(context, 1, &d_scale)?;
        write_channels(context, 2, &d_bias)
    }
}
