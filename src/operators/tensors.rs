//! Inputs and outputs of a node as slices with their sizes.

use ort::operator::ComputeContext;
use ort::value::{PrimitiveTensorElementType, ValueRef, ValueRefMut};

use crate::kernels::Workers;

/// ONNX Runtime's own threads.
pub(super) struct Threads<'a>(pub(super) &'a ComputeContext);

impl Workers for Threads<'_> {
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        if count > 1 && self.0.par_for(count, 0, work).is_ok() {
            return;
        }
        // It fails before it begins or not at all.
        (0..count).for_each(work);
    }
}

/// An input that must be there.
pub(super) fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context
        .input(index)?
        .ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
}

/// An input that may be missing, because the node names fewer or leaves the name empty.
pub(super) fn optional_input(
    context: &ComputeContext,
    index: usize,
) -> ort::Result<Option<ValueRef<'_>>> {
    if index >= context.num_inputs()? {
        return Ok(None);
    }
    context.input(index)
}

/// An output of the given shape.
pub(super) fn output<'a, const RANK: usize>(
    context: &'a ComputeContext,
    index: usize,
    shape: [usize; RANK],
) -> ort::Result<ValueRefMut<'a>> {
    context
        .output(index, shape.map(|size| size as i64))?
        .ok_or_else(|| ort::Error::new(format!("output {index} is missing")))
}

/// An output of the shape of an input.
pub(super) fn output_like<'a>(
    context: &'a ComputeContext,
    index: usize,
    like: &ValueRef<'_>,
) -> ort::Result<ValueRefMut<'a>> {
    let shape: Vec<i64> = like.try_extract_tensor::<f32>()?.0.to_vec();
    context
        .output(index, shape)?
        .ok_or_else(|| ort::Error::new(format!("output {index} is missing")))
}

/// Sizes and elements of a value `[N, C, H, W]`.
pub(super) fn image_batch<'a, T: PrimitiveTensorElementType>(
    value: &'a ValueRef<'_>,
) -> ort::Result<(usize, usize, [usize; 2], &'a [T])> {
    let (shape, data) = value.try_extract_tensor::<T>()?;
    match shape[..] {
        [images, channels, height, width] => Ok((
            images as usize,
            channels as usize,
            [height as usize, width as usize],
            data,
        )),
        _ => Err(ort::Error::new(format!(
            "an image batch has 4 axes, not {}",
            shape.len()
        ))),
    }
}

/// Elements of a value of any shape.
pub(super) fn floats<'a>(value: &'a ValueRef<'_>) -> ort::Result<&'a [f32]> {
    Ok(value.try_extract_tensor::<f32>()?.1)
}

/// Elements of an output.
pub(super) fn floats_mut<'a>(value: &'a mut ValueRefMut<'_>) -> ort::Result<&'a mut [f32]> {
    Ok(value.try_extract_tensor_mut::<f32>()?.1)
}

/// Writes an output `[C]`.
pub(super) fn write_channels(
    context: &ComputeContext,
    index: usize,
    values: &[f32],
) -> ort::Result<()> {
    floats_mut(&mut output(context, index, [values.len()])?)?.copy_from_slice(values);
    Ok(())
}
