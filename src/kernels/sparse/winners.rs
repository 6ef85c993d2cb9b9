//! The winners of a pooling, channel by channel.

use crate::kernels::geometry::{Convolution, Pooling};
use crate::kernels::pooling::CLOSED;

use super::PooledGradient;
use super::frame::Frame;

/// One value of dY that is not zero.
#[derive(Clone, Copy, Default)]
pub(super) struct Winner {
    /// First float of its patch in the framed image.
    pub(super) patch: u32,
    pub(super) gradient: f32,
}

/// Where the patch of each window's winner begins, as a sum of two table look-ups.
pub(super) struct Patches {
    /// For the first place of each window.
    windows: Vec<u32>,
    /// For the place of the winner within the window. That of [`CLOSED`] is never used.
    places: [u32; 256],
}

impl Patches {
    pub(super) fn new(conv: &Convolution, pooling: &Pooling, frame: &Frame) -> Self {
        assert!(u32::try_from(frame.len()).is_ok());
        let [down, right] = frame.patch_steps(conv);
        let [_, columns] = pooling.out_size;
        // The windows begin inside the image: they have no padding.
        assert!(pooling.padding == [0, 0]);
        let window = |window: usize| {
            let (ph, pw) = (window / columns, window % columns);
            (ph * pooling.strides[0] * down + pw * pooling.strides[1] * right) as u32
        };
        let mut places = [0; 256];
        for (place, start) in places
            .iter_mut()
            .enumerate()
            .take(pooling.window[0] * pooling.window[1])
        {
            let (kh, kw) = (place / pooling.window[1], place % pooling.window[1]);
            *start = (kh * down + kw * right) as u32;
        }
        Self {
            windows: (0..pooling.out_pixels()).map(window).collect(),
            places,
        }
    }
}

/// The winners of each output channel of one block of one image.
pub(super) struct Winners {
    /// `[B, windows + 1]`, of which the first `counts` of each channel are set. A closed window is written behind the last winner
    /// and not counted, so that collecting has no branches to guess.
    entries: Vec<Winner>,
    counts: [usize; 16],
    windows: usize,
}

impl Winners {
    pub(super) fn new(pooling: &Pooling, block: usize) -> Self {
        let windows = pooling.out_pixels();
        Self {
            entries: vec![Winner::default(); block * (windows + 1)],
            counts: [0; 16],
            windows,
        }
    }

    /// Collects those of `plane`, which counts the blocks of all images.
    #[inline(always)]
    pub(super) fn collect(
        &mut self,
        pooled: &PooledGradient<'_>,
        block: usize,
        plane: usize,
        patches: &Patches,
    ) {
        let mut counts = [0; 16];
        let row = self.windows + 1;
        let range = plane * self.windows * block..(plane + 1) * self.windows * block;
        let (gradient, winners) = (&pooled.gradient[range.clone()], &pooled.winners[range]);
        assert!(
            block <= 16
                && gradient.len() == self.windows * block
                && winners.len() == self.windows * block
        );
        assert!(self.entries.len() == block * row && patches.windows.len() == self.windows);
        for (window, &start) in patches.windows.iter().enumerate() {
            for lane in 0..block {
                // SAFETY: `lane < block` and `window < windows`, and the lengths were checked; a count grows by at most one per
                // window, so it is at most `windows`, the last place of its row.
                unsafe {
                    let winner = *winners.get_unchecked(window * block + lane);
                    let gradient = *gradient.get_unchecked(window * block + lane);
                    let patch = start + *patches.places.get_unchecked(usize::from(winner));
                    let count = counts.get_unchecked_mut(lane);
                    *self.entries.get_unchecked_mut(lane * row + *count) =
                        Winner { patch, gradient };
                    *count += usize::from(winner != CLOSED);
                }
            }
        }
        self.counts = counts;
    }

    pub(super) fn of(&self, lane: usize) -> &[Winner] {
        &self.entries[lane * (self.windows + 1)..][..self.counts[lane]]
    }
}
