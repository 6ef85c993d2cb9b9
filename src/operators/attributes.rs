//! What the nodes say about geometry.

use ort::operator::{FromKernelContext, KernelContext};

use crate::kernels::{Convolution, Instructions, Pooling};

/// An attribute that must be there.
pub(super) fn required<'attr, T: FromKernelContext<'attr>>(
    context: &KernelContext<'attr>,
    name: &str,
) -> ort::Result<T> {
    context
        .get(name)
        .ok_or_else(|| ort::Error::new(format!("the attribute {name} is missing")))
}

/// The instructions for the block size of a node.
pub(super) fn instructions(context: &KernelContext<'_>) -> ort::Result<Instructions> {
    let block: i64 = required(context, "block")?;
    usize::try_from(block)
        .ok()
        .and_then(Instructions::detect)
        .ok_or_else(|| {
            ort::Error::new(format!(
                "there are no kernels for blocks of {block} channels"
            ))
        })
}

/// Two sizes, along H and W.
pub(super) fn pair(context: &KernelContext<'_>, name: &str) -> ort::Result<[usize; 2]> {
    let values: Vec<i64> = required(context, name)?;
    match values.as_slice() {
        &[height, width] if height >= 0 && width >= 0 => Ok([height as usize, width as usize]),
        _ => Err(ort::Error::new(format!(
            "the attribute {name} must be two sizes, not {values:?}"
        ))),
    }
}

/// What the attributes say of a convolution.
#[derive(Clone, Copy)]
pub(super) struct ConvAttributes {
    kernel: [usize; 2],
    strides: [usize; 2],
    padding: [usize; 2],
    dilations: [usize; 2],
    /// Both ends of it, which dY and W alone do not tell.
    in_channels: usize,
    pub(super) in_size: [usize; 2],
    depthwise: bool,
}

impl ConvAttributes {
    pub(super) fn read(context: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            kernel: pair(context, "kernel")?,
            strides: pair(context, "strides")?,
            padding: pair(context, "padding")?,
            dilations: pair(context, "dilations")?,
            in_channels: required::<i64>(context, "in_channels")?.max(0) as usize,
            in_size: pair(context, "in_size")?,
            depthwise: required::<i64>(context, "depthwise")? != 0,
        })
    }

    /// The whole geometry, once the output `[N, O, OH, OW]` is known.
    pub(super) fn with_output(
        &self,
        images: usize,
        out_channels: usize,
        out_size: [usize; 2],
    ) -> Convolution {
        Convolution {
            images,
            in_channels: self.in_channels,
            out_channels,
            in_size: self.in_size,
            out_size,
            kernel: self.kernel,
            strides: self.strides,
            padding: self.padding,
            dilations: self.dilations,
            depthwise: self.depthwise,
        }
    }
}

/// Shape of the weights of a convolution.
pub(super) fn weight_shape(conv: &Convolution) -> [usize; 4] {
    let inputs = if conv.depthwise { 1 } else { conv.in_channels };
    [conv.out_channels, inputs, conv.kernel[0], conv.kernel[1]]
}

/// What the attributes say of a pooling.
#[derive(Clone, Copy)]
pub(super) struct PoolAttributes {
    window: [usize; 2],
    strides: [usize; 2],
    padding: [usize; 2],
    /// H and W of what is pooled, and of what comes out.
    pub(super) in_size: [usize; 2],
    pub(super) out_size: [usize; 2],
}

impl PoolAttributes {
    pub(super) fn read(context: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            window: pair(context, "pool_window")?,
            strides: pair(context, "pool_strides")?,
            padding: pair(context, "pool_padding")?,
            in_size: pair(context, "pool_in_size")?,
            out_size: pair(context, "pool_out_size")?,
        })
    }

    pub(super) fn with_batch(&self, images: usize, channels: usize) -> Pooling {
        Pooling {
            images,
            channels,
            in_size: self.in_size,
            out_size: self.out_size,
            window: self.window,
            strides: self.strides,
            padding: self.padding,
        }
    }
}
