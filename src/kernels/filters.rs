//! The order of weights that ONNX Runtime's convolutions in blocked layout want.

/// How the filters `[O, I, kH, kW]` of a convolution are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterUse {
    /// From X to Y.
    Forward,
    /// From dY to dX with stride 1: the convolution with inputs and outputs exchanged and each filter turned by 180°.
    Backward,
}

/// Writes `weight` into `packed` in blocks: `[O / B, I / B, kH, kW, B of I, B of O]`, or `[O / B, I, kH, kW, B of O]` with fewer
/// inputs than a block (depthwise filters have one). [`FilterUse::Backward`] exchanges O and I.
///
/// # Panics
/// When the lengths differ from the shape's or channels are no multiples of the block.
pub fn pack_filters(
    block: usize,
    shape: [usize; 4],
    filter_use: FilterUse,
    weight: &[f32],
    packed: &mut [f32],
) {
    let [outputs, inputs, height, width] = shape;
    let taps = height * width;
    assert!(weight.len() == outputs * inputs * taps && packed.len() == weight.len());
    let (rows, columns) = match filter_use {
        FilterUse::Forward => (outputs, inputs),
        FilterUse::Backward => (inputs, outputs),
    };
    let column_block = block.min(columns);
    assert!(rows.is_multiple_of(block) && columns.is_multiple_of(column_block));
    let column_blocks = columns / column_block;
    // With blocks of inputs the taps come before the inputs of the block; without, there is one input to a "block".
    let (groups, inner) = if columns < block {
        (columns, 1)
    } else {
        (column_blocks, column_block)
    };
    for (index, vector) in packed.chunks_exact_mut(block).enumerate() {
        let column_in_block = index % inner;
        let tap = index / inner % taps;
        let group = index / inner / taps % groups;
        let row_block = index / inner / taps / groups;
        let column = group * inner + column_in_block;
        for (lane, value) in vector.iter_mut().enumerate() {
            let row = row_block * block + lane;
            *value = match filter_use {
                FilterUse::Forward => weight[(row * inputs + column) * taps + tap],
                FilterUse::Backward => weight[(column * inputs + row) * taps + (taps - 1 - tap)],
            };
        }
    }
}
