//! Gradient of rectifiers, read off their output.

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

/// Writes dX = dY where the bounds let Y through, else 0, into `dx`; any layout, as long as it is one.
///
/// # Panics
/// When the lengths differ.
pub fn rectifier_gradient(
    bounds: Bounds,
    dy: &[f32],
    y: &[f32],
    dx: &mut [f32],
    workers: &dyn Workers,
) {
    assert!(dy.len() == y.len() && dx.len() == y.len());
    let pieces = Pieces::new(dx, PIECE);
    workers.for_each(pieces.count(), &|index| {
        pieces.with(index, |dx| {
            let range = index * PIECE..index * PIECE + dx.len();
            for ((dx, dy), y) in dx.iter_mut().zip(&dy[range.clone()]).zip(&y[range]) {
                *dx = if *y > bounds.low && *y < bounds.high {
                    *dy
                } else {
                    0.0
                };
            }
        });
    });
}
