//! Sizes of convolutions and poolings, and which taps meet which pixels.

use std::ops::Range;

/// A convolution over a batch. Its tensors: X `[N, I, H, W]`, W `[O, I, kH, kW]` (depthwise `[C, 1, kH, kW]`) and Y
/// `[N, O, OH, OW]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// N.
    pub images: usize,
    /// I.
    pub in_channels: usize,
    /// O.
    pub out_channels: usize,
    /// H and W.
    pub in_size: [usize; 2],
    /// OH and OW.
    pub out_size: [usize; 2],
    /// kH and kW.
    pub kernel: [usize; 2],
    /// Steps along H and W.
    pub strides: [usize; 2],
    /// Zeros above and left of the image. What lies below and right follows from the sizes.
    pub padding: [usize; 2],
    /// Distance between taps along H and W.
    pub dilations: [usize; 2],
    /// One filter for each channel instead of filters over all channels; then I = O.
    pub depthwise: bool,
}

impl Convolution {
    /// Elements of W.
    pub fn weight_len(&self) -> usize {
        let inputs = if self.depthwise { 1 } else { self.in_channels };
        self.out_channels * inputs * self.taps()
    }

    /// Elements of X.
    pub fn in_len(&self) -> usize {
        self.images * self.in_channels * self.in_pixels()
    }

    /// Elements of Y.
    pub fn out_len(&self) -> usize {
        self.images * self.out_channels * self.out_pixels()
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn in_pixels(&self) -> usize {
        self.in_size[0] * self.in_size[1]
    }

    pub(super) fn out_pixels(&self) -> usize {
        self.out_size[0] * self.out_size[1]
    }

    /// The outputs along `axis` for which tap `tap` lies inside the image.
    pub(super) fn outputs_inside(&self, axis: usize, tap: usize) -> Range<usize> {
        let stride = self.strides[axis];
        let offset = tap * self.dilations[axis];
        let padding = self.padding[axis];
        // Input index = output · stride + offset − padding, at least 0 and below the size.
        let first = padding.saturating_sub(offset).div_ceil(stride);
        let last = (self.in_size[axis] + padding)
            .saturating_sub(offset)
            .div_ceil(stride);
        first..last.min(self.out_size[axis]).max(first)
    }

    /// The input along `axis` that tap `tap` of output `output` reads, which must lie inside the image.
    pub(super) fn input_of(&self, axis: usize, output: usize, tap: usize) -> usize {
        output * self.strides[axis] + tap * self.dilations[axis] - self.padding[axis]
    }

    /// Pixels along `axis` of a frame of zeros around the image, counted from where the padding begins, in which every tap of every
    /// output falls inside.
    pub(super) fn framed_size(&self, axis: usize) -> usize {
        let reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
        let used = (self.out_size[axis] - 1) * self.strides[axis] + reach;
        used.max(self.padding[axis] + self.in_size[axis])
    }

    /// Whether the sizes fit together: what the inner loops rely on.
    pub(super) fn is_consistent(&self) -> bool {
        let axis = |axis: usize| {
            let reach = self.dilations[axis] * (self.kernel[axis].max(1) - 1) + 1;
            self.kernel[axis] > 0
                && self.strides[axis] > 0
                && self.out_size[axis] > 0
                && self.padding[axis] < reach.max(1) + self.in_size[axis]
                // The last window begins inside the padded image.
                && (self.out_size[axis] - 1) * self.strides[axis] < self.in_size[axis] + self.padding[axis]
        };
        axis(0) && axis(1) && (!self.depthwise || self.in_channels == self.out_channels)
    }
}

/// A pooling over a batch, from `[N, C, H, W]` to `[N, C, PH, PW]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// N.
    pub images: usize,
    /// C.
    pub channels: usize,
    /// H and W.
    pub in_size: [usize; 2],
    /// PH and PW.
    pub out_size: [usize; 2],
    /// Height and width of the window; at most 254 places.
    pub window: [usize; 2],
    /// Steps along H and W.
    pub strides: [usize; 2],
    /// Places above and left of the image.
    pub padding: [usize; 2],
}

impl Pooling {
    pub(super) fn in_pixels(&self) -> usize {
        self.in_size[0] * self.in_size[1]
    }

    pub(super) fn out_pixels(&self) -> usize {
        self.out_size[0] * self.out_size[1]
    }

    /// Elements before pooling.
    pub fn in_len(&self) -> usize {
        self.images * self.channels * self.in_pixels()
    }

    /// Elements after pooling.
    pub fn out_len(&self) -> usize {
        self.images * self.channels * self.out_pixels()
    }

    /// The places of the window of `output` along `axis` that lie inside the image.
    pub(super) fn places_inside(&self, axis: usize, output: usize) -> Range<usize> {
        let start = output * self.strides[axis];
        let first = self.padding[axis].saturating_sub(start);
        let last = (self.in_size[axis] + self.padding[axis]).saturating_sub(start);
        first..last.min(self.window[axis]).max(first)
    }

    /// Whether no value is in two windows.
    pub fn is_disjoint(&self) -> bool {
        self.strides[0] >= self.window[0] && self.strides[1] >= self.window[1]
    }
}
