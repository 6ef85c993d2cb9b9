//! Packed weights, `PackFilters(W) → W in blocks`, and gradients of convolutions: `ConvWeightGradient(dY, X) → dW`, `ConvInputGradient(dY, W) → dX`, `ChannelSum(dY[, Y]) → dB`, and the
//! first two from the gradient of a max pooling behind the convolution, `(dP, winners, …)`.

use ort::operator::ComputeContext;
use ort::value::ValueRef;

use crate::kernels::{
    Bounds, FilterUse, Instructions, PooledGradient, Pooling, channel_sums, input_gradient,
    pack_filters, pooled_input_gradient, pooled_weight_gradient, weight_gradient,
};

use super::attributes::{ConvAttributes, PoolAttributes, instructions, required, weight_shape};
use super::rectifier::bounds;
use super::tensors::{
    Threads, floats, floats_mut, image_batch, input, optional_input, output, write_channels,
};
use super::{Compute, CustomOperator, Operand};

pub(super) const PACK_FILTERS: CustomOperator = CustomOperator {
    name: "PackFilters",
    inputs: &[Operand::Floats],
    outputs: &[Operand::Floats],
    create: |context| {
        let filter_use = match required::<i64>(context, "backward")? {
            0 => FilterUse::Forward,
            _ => FilterUse::Backward,
        };
        Ok(Box::new(PackFilters {
            block: instructions(context)?.block(),
            filter_use,
        }))
    },
};

pub(super) const WEIGHT_GRADIENT: CustomOperator = CustomOperator {
    name: "ConvWeightGradient",
    inputs: &[Operand::Floats, Operand::Floats],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(WeightGradient {
            instructions: instructions(context)?,
            conv: ConvAttributes::read(context)?,
            tiles: Vec::new(),
        }))
    },
};

pub(super) const INPUT_GRADIENT: CustomOperator = CustomOperator {
    name: "ConvInputGradient",
    inputs: &[Operand::Floats, Operand::Floats],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(InputGradient {
            instructions: instructions(context)?,
            conv: ConvAttributes::read(context)?,
            packed: Vec::new(),
        }))
    },
};

pub(super) const POOLED_WEIGHT_GRADIENT: CustomOperator = CustomOperator {
    name: "PooledConvWeightGradient",
    inputs: &[Operand::Floats, Operand::Bytes, Operand::Floats],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(PooledWeightGradient {
            instructions: instructions(context)?,
            pool: PoolAttributes::read(context)?,
            conv: ConvAttributes::read(context)?,
        }))
    },
};

pub(super) const POOLED_INPUT_GRADIENT: CustomOperator = CustomOperator {
    name: "PooledConvInputGradient",
    inputs: &[Operand::Floats, Operand::Bytes, Operand::Floats],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(PooledInputGradient {
            instructions: instructions(context)?,
            pool: PoolAttributes::read(context)?,
            conv: ConvAttributes::read(context)?,
            packed: Vec::new(),
        }))
    },
};

pub(super) const CHANNEL_SUM: CustomOperator = CustomOperator {
    name: "ChannelSum",
    inputs: &[Operand::Floats, Operand::OptionalFloats],
    outputs: &[Operand::Floats],
    create: |context| {
        Ok(Box::new(ChannelSum {
            instructions: instructions(context)?,
            bounds: bounds(context)?,
        }))
    },
};

struct PackFilters {
    block: usize,
    filter_use: FilterUse,
}

impl Compute for PackFilters {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let weight = input(context, 0)?;
        let (outputs, inputs, [height, width], weight) = image_batch::<f32>(&weight)?;
        let shape = [outputs, inputs, height, width];
        // The shape of the convolution that uses them.
        let packed_shape = match self.filter_use {
            FilterUse::Forward => shape,
            FilterUse::Backward => [inputs, outputs, height, width],
        };
        let mut packed = output(context, 0, packed_shape)?;
        pack_filters(
            self.block,
            shape,
            self.filter_use,
            weight,
            floats_mut(&mut packed)?,
        );
        Ok(())
    }
}

struct WeightGradient {
    instructions: Instructions,
    conv: ConvAttributes,
    tiles: Vec<f32>,
}

impl Compute for WeightGradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, x) = (input(context, 0)?, input(context, 1)?);
        let (images, out_channels, out_size, dy) = image_batch::<f32>(&dy)?;
        let conv = self.conv.with_output(images, out_channels, out_size);
        let mut dw = output(context, 0, weight_shape(&conv))?;
        weight_gradient(
            self.instructions,
            &conv,
            dy,
            floats(&x)?,
            floats_mut(&mut dw)?,
            &mut self.tiles,
            &Threads(context),
        );
        Ok(())
    }
}

struct InputGradient {
    instructions: Instructions,
    conv: ConvAttributes,
    packed: Vec<f32>,
}

impl Compute for InputGradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, weight) = (input(context, 0)?, input(context, 1)?);
        let (images, out_channels, out_size, dy) = image_batch::<f32>(&dy)?;
        let conv = self.conv.with_output(images, out_channels, out_size);
        let [height, width] = conv.in_size;
        let mut dx = output(context, 0, [images, conv.in_channels, height, width])?;
        input_gradient(
            self.instructions,
            &conv,
            dy,
            floats(&weight)?,
            floats_mut(&mut dx)?,
            &mut self.packed,
            &Threads(context),
        );
        Ok(())
    }
}

/// The first two inputs of the operators behind a pooling.
fn pooled<'a>(
    pool: &PoolAttributes,
    gradient: &'a ValueRef<'_>,
    winners: &'a ValueRef<'_>,
) -> ort::Result<(Pooling, &'a [f32], &'a [u8])> {
    let (images, channels, _, gradient) = image_batch::<f32>(gradient)?;
    let (_, _, _, winners) = image_batch::<u8>(winners)?;
    Ok((pool.with_batch(images, channels), gradient, winners))
}

struct PooledWeightGradient {
    instructions: Instructions,
    pool: PoolAttributes,
    conv: ConvAttributes,
}

impl Compute for PooledWeightGradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (gradient, winners, x) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (pooling, gradient, winners) = pooled(&self.pool, &gradient, &winners)?;
        let conv = self
            .conv
            .with_output(pooling.images, pooling.channels, pooling.in_size);
        let mut dw = output(context, 0, weight_shape(&conv))?;
        let pooled = PooledGradient {
            pooling: &pooling,
            gradient,
            winners,
        };
        pooled_weight_gradient(
            self.instructions,
            &conv,
            pooled,
            floats(&x)?,
            floats_mut(&mut dw)?,
            &Threads(context),
        );
        Ok(())
    }
}

struct PooledInputGradient {
    instructions: Instructions,
    pool: PoolAttributes,
    conv: ConvAttributes,
    packed: Vec<f32>,
}

impl Compute for PooledInputGradient {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (gradient, winners, weight) =
            (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (pooling, gradient, winners) = pooled(&self.pool, &gradient, &winners)?;
        let conv = self
            .conv
            .with_output(pooling.images, pooling.channels, pooling.in_size);
        let [height, width] = conv.in_size;
        let mut dx = output(
            context,
            0,
            [pooling.images, conv.in_channels, height, width],
        )?;
        let pooled = PooledGradient {
            pooling: &pooling,
            gradient,
            winners,
        };
        pooled_input_gradient(
            self.instructions,
            &conv,
            pooled,
            floats(&weight)?,
            floats_mut(&mut dx)?,
            &mut self.packed,
            &Threads(context),
        );
        Ok(())
    }
}

struct ChannelSum {
    instructions: Instructions,
    bounds: Bounds,
}

impl Compute for ChannelSum {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (values, y) = (input(context, 0)?, optional_input(context, 1)?);
        let (_, channels, [height, width], values) = image_batch::<f32>(&values)?;
        let y = y.as_ref().map(floats).transpose()?;
        let sums = channel_sums(
            self.instructions,
            channels,
            height * width,
            values,
            y.map(|y| (y, self.bounds)),
            &Threads(context),
        );
        write_channels(context, 0, &sums)
    }
}
