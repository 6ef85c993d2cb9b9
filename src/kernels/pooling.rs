//! Max pooling that remembers the winner of each window in a byte, with the rectifier behind it in the same pass.

use super::geometry::Pooling;
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers};

/// Instead of a winner's place: the rectifier behind the pooling was closed, and no gradient goes back.
pub const CLOSED: u8 = u8::MAX;

/// Writes the largest value of each window into `pooled` and its place in the window, counted by rows, into `winners`; among
/// equals the first wins. With `rectify`, values at or below zero become zero and their winner [`CLOSED`].
///
/// All in blocked layout.
///
/// # Panics
/// When lengths or channels do not fit, or a window has more than 254 places.
pub fn max_pool(
    instructions: Instructions,
    pooling: &Pooling,
    rectify: bool,
    z: &[f32],
    pooled: &mut [f32],
    winners: &mut [u8],
    workers: &dyn Workers,
) {
    let block = instructions.block();
    assert!(pooling.channels.is_multiple_of(block));
    assert!(pooling.window[0] * pooling.window[1] < usize::from(CLOSED));
    assert!(
        z.len() == pooling.in_len()
            && pooled.len() == pooling.out_len()
            && winners.len() == pooling.out_len()
    );
    let plane = pooling.out_pixels() * block;
    let in_plane = pooling.in_pixels() * block;
    let blocks = pooling.channels / block;
    let pooled = Pieces::new(pooled, plane * blocks);
    let winners = Pieces::new(winners, plane * blocks);
    workers.for_each(pooled.count(), &|image| {
        pooled.with(image, |pooled| {
            winners.with(image, |winners| {
                let planes = pooled
                    .chunks_exact_mut(plane)
                    .zip(winners.chunks_exact_mut(plane));
                for (block_index, (pooled, winners)) in planes.enumerate() {
                    let z = &z[(image * blocks + block_index) * in_plane..][..in_plane];
                    instructions.run(PoolPlane {
                        pooling,
                        rectify,
                        z,
                        pooled,
                        winners,
                    });
                }
            });
        });
    });
}

struct PoolPlane<'a> {
    pooling: &'a Pooling,
    rectify: bool,
    z: &'a [f32],
    pooled: &'a mut [f32],
    winners: &'a mut [u8],
}

impl Kernel for PoolPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let pooling = self.pooling;
        let [_, width] = pooling.in_size;
        let outputs = self
            .pooled
            .chunks_exact_mut(S::LANES)
            .zip(self.winners.chunks_exact_mut(S::LANES));
        let (mut ph, mut pw) = (0, 0);
        for (pooled, winners) in outputs {
            let columns = pooling.places_inside(1, pw);
            let values = pooling.places_inside(0, ph).flat_map(|kh| {
                let ih = ph * pooling.strides[0] + kh - pooling.padding[0];
                columns.clone().map(move |kw| {
                    let iw = pw * pooling.strides[1] + kw - pooling.padding[1];
                    let values = &self.z[(ih * width + iw) * S::LANES..];
                    ((kh * pooling.window[1] + kw) as u8, values)
                })
            });
            pool_window(simd, self.rectify, values, pooled, winners);
            pw += 1;
            if pw == pooling.out_size[1] {
                (ph, pw) = (ph + 1, 0);
            }
        }
    }
}

/// Writes the largest of the values of one window, each with its place, and the winner's place.
#[inline(always)]
pub(super) fn pool_window<'a, S: Simd>(
    simd: S,
    rectify: bool,
    values: impl Iterator<Item = (u8, &'a [f32])>,
    pooled: &mut [f32],
    winners: &mut [u8],
) {
    // With a rectifier, zero is in every window and wins against what it would cut off.
    let mut best = simd.splat(if rectify { 0.0 } else { f32::NEG_INFINITY });
    let mut winner = simd.splat(if rectify { f32::from(CLOSED) } else { 0.0 });
    for (place, value) in values {
        let value = simd.read(value);
        winner = simd.select_greater(value, best, simd.splat(f32::from(place)), winner);
        best = simd.select_greater(value, best, value, best);
    }
    simd.write(best, pooled);
    let mut places = [0.0; 16];
    simd.write(winner, &mut places);
    for (winner, place) in winners.iter_mut().zip(places) {
        // SAFETY: places are whole numbers from 0 to 255.
        *winner = unsafe { place.to_int_unchecked::<i32>() } as u8;
    }
}

/// Writes dZ into `dz`: each window's gradient at its winner, zero elsewhere, added up where windows overlap. All in blocked
/// layout.
///
/// # Panics
/// When lengths or channels do not fit.
pub fn max_pool_gradient(
    instructions: Instructions,
    pooling: &Pooling,
    gradient: &[f32],
    winners: &[u8],
    dz: &mut [f32],
    workers: &dyn Workers,
) {
    let block = instructions.block();
    assert!(pooling.channels.is_multiple_of(block));
    assert!(
        dz.len() == pooling.in_len()
            && gradient.len() == pooling.out_len()
            && winners.len() == pooling.out_len()
    );
    let plane = pooling.out_pixels() * block;
    let pieces = Pieces::new(dz, pooling.in_pixels() * block);
    workers.for_each(pieces.count(), &|index| {
        pieces.with(index, |dz| {
            dz.fill(0.0);
            let gradient = gradient[index * plane..][..plane].chunks_exact(block);
            let winners = winners[index * plane..][..plane].chunks_exact(block);
            for (window, (gradient, winners)) in gradient.zip(winners).enumerate() {
                let (ph, pw) = (window / pooling.out_size[1], window % pooling.out_size[1]);
                for (lane, (gradient, winner)) in gradient.iter().zip(winners).enumerate() {
                    if *winner == CLOSED {
                        continue;
                    }
                    let place = usize::from(*winner);
                    let (kh, kw) = (place / pooling.window[1], place % pooling.window[1]);
                    let ih = ph * pooling.strides[0] + kh - pooling.padding[0];
                    let iw = pw * pooling.strides[1] + kw - pooling.padding[1];
                    dz[(ih * pooling.in_size[1] + iw) * block + lane] += gradient;
                }
            }
        });
    });
}
