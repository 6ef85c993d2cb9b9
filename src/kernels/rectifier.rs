//! Gradient of rectifiers, read off their output.

use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers};

/// Values per piece of work: large enough that handing it out costs nothing beside it.
const PIECE: usize = 32 * 1024;

/// What a rectifier lets through: values strictly between the bounds. ReLU is 0 and infinity, ReLU6 is 0 and 6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Values at or below are cut off.
    pub low: f32,
    /// Values at or above are cut off.
    pub high: f32,
}

impl Bounds {
    /// No rectifier at all.
    pub const NONE: Self = Self {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };
}

/// Writes dX = dY where the bounds let Y through, else 0, into `dx`; all in blocked layout.
///
/// # Panics
/// When the lengths differ or are no multiple of the block.
pub fn rectifier_gradient(
    instructions: Instructions,
    bounds: Bounds,
    dy: &[f32],
    y: &[f32],
    dx: &mut [f32],
    workers: &dyn Workers,
) {
    assert!(dy.len() == y.len() && dx.len() == y.len());
    assert!(dy.len().is_multiple_of(instructions.block()));
    let pieces = Pieces::new(dx, PIECE);
    workers.for_each(pieces.count(), &|index| {
        pieces.with(index, |dx| {
            let range = index * PIECE..index * PIECE + dx.len();
            let (dy, y) = (&dy[range.clone()], &y[range]);
            instructions.run(Gradient { bounds, dy, y, dx });
        });
    });
}

struct Gradient<'a> {
    bounds: Bounds,
    dy: &'a [f32],
    y: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (low, high) = (simd.splat(self.bounds.low), simd.splat(self.bounds.high));
        let inputs = self
            .dy
            .chunks_exact(S::LANES)
            .zip(self.y.chunks_exact(S::LANES));
        for ((dy, y), dx) in inputs.zip(self.dx.chunks_exact_mut(S::LANES)) {
            let y = simd.read(y);
            let open = simd.where_greater(high, y, simd.where_greater(y, low, simd.read(dy)));
            simd.write(open, dx);
        }
    }
}
