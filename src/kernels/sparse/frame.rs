//! Images with zeros around them.

use crate::kernels::geometry::Convolution;

/// Some channels of an image with a frame of zeros, `[rows, columns, S]`, so that no patch falls outside: the channels of one
/// block, or all channels of a plain image. A row of a patch is one run of floats. When it is not a multiple of the vectors, its
/// last vector reaches into what lies behind, and what is computed there is dropped.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) sources: usize,
    columns: usize,
    rows: usize,
    before: [usize; 2],
    /// Vectors in one row of a patch, and floats in a vector.
    pub(super) vectors: usize,
    lanes: usize,
}

impl Frame {
    pub(super) fn new(conv: &Convolution, sources: usize, lanes: usize) -> Self {
        Self {
            sources,
            columns: conv.framed_size(1),
            rows: conv.framed_size(0),
            before: conv.padding,
            vectors: (conv.kernel[1] * sources).div_ceil(lanes),
            lanes,
        }
    }

    pub(super) fn len(&self) -> usize {
        // More than the pixels, for the last vectors of the last patches.
        self.rows * self.row_len() + self.vectors * self.lanes
    }

    pub(super) fn row_len(&self) -> usize {
        self.columns * self.sources
    }

    /// Floats from the patch of one output to that of the next below and to the right.
    pub(super) fn patch_steps(&self, conv: &Convolution) -> [usize; 2] {
        [
            conv.strides[0] * self.row_len(),
            conv.strides[1] * self.sources,
        ]
    }

    /// Where the vectors of a patch lie, counted from its start.
    pub(super) fn offsets(&self, conv: &Convolution) -> Vec<usize> {
        let row = self.row_len() * conv.dilations[0];
        (0..conv.kernel[0])
            .flat_map(|kh| (0..self.vectors).map(move |vector| kh * row + vector * self.lanes))
            .collect()
    }

    /// First float of a row of the image.
    pub(super) fn row_start(&self, row: usize) -> usize {
        (row + self.before[0]) * self.row_len() + self.before[1] * self.sources
    }

    /// Copies one block of one image in, `[H, W, B]`, or a plain image, `[I, H, W]`.
    pub(super) fn fill(&self, conv: &Convolution, image: &[f32], framed: &mut [f32]) {
        let [height, width] = conv.in_size;
        if self.sources == self.lanes {
            for (row, source) in image.chunks_exact(width * self.sources).enumerate() {
                let start = self.row_start(row);
                framed[start..start + source.len()].copy_from_slice(source);
            }
            return;
        }
        for (index, source) in image.chunks_exact(width).enumerate() {
            let (channel, row) = (index / height, index % height);
            let target = framed[self.row_start(row) + channel..]
                .iter_mut()
                .step_by(self.sources);
            for (target, value) in target.zip(source) {
                *target = *value;
            }
        }
    }

    /// Copies one block of one image out, `[H, W, B]`.
    pub(super) fn take(&self, conv: &Convolution, framed: &[f32], image: &mut [f32]) {
        for (row, target) in image
            .chunks_exact_mut(conv.in_size[1] * self.sources)
            .enumerate()
        {
            let start = self.row_start(row);
            target.copy_from_slice(&framed[start..start + target.len()]);
        }
    }
}
