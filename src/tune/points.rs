//! Points of the unit cube, one for each new configuration: at random, or spread evenly.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Axes of the cube; [`super::space::Space`] says what each stands for.
pub const DIMENSIONS: usize = 17;

/// Coordinates from 0 to below 1.
pub type Point = [f64; DIMENSIONS];

/// How points are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Search {
    /// Independent uniform points.
    Random,
    /// A randomised Halton sequence, which leaves no part of the cube out for long.
    Quasi,
}

/// Bases of the Halton sequence. Small ones spread best, so the axes that matter most come first.
const BASES: [u64; DIMENSIONS] = [
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59,
];

/// Further digits no longer move a point by as much as a millionth.
const SMALLEST_DIGIT: f64 = 1e-6;

impl Search {
    /// Point number `index` of the sequence that belongs to `seed`.
    pub fn point(self, seed: u64, index: u64) -> Point {
        match self {
            Self::Random => {
                let mut random = generator([seed, index, 0, u64::from_le_bytes(*b"random  ")]);
                std::array::from_fn(|_| random.random())
            }
            Self::Quasi => std::array::from_fn(|axis| halton(seed, axis, index)),
        }
    }
}

/// The radical inverse of `index` in the axis' base, every digit under a random permutation of its own, leading zeros too:
/// Owen, "A randomized Halton algorithm in R" (2017). Plain Halton points of large bases lie on lines; these do not.
fn halton(seed: u64, axis: usize, index: u64) -> f64 {
    let base = BASES[axis];
    let mut rest = index;
    let mut weight = 1.0;
    let mut coordinate = 0.0;
    let mut place = 0;
    while weight > SMALLEST_DIGIT {
        weight /= base as f64;
        let mut digits: Vec<u64> = (0..base).collect();
        digits.shuffle(&mut generator([
            seed,
            base,
            place,
            u64::from_le_bytes(*b"halton  "),
        ]));
        let digit = digits.get((rest % base) as usize).copied();
        coordinate += weight * digit.unwrap_or_default() as f64;
        rest /= base;
        place += 1;
    }
    coordinate
}

fn generator(key: [u64; 4]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    for (bytes, word) in seed.chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_in_the_cube_and_depend_on_seed_and_index_alone() {
        for search in [Search::Random, Search::Quasi] {
            for index in 0..200 {
                let point = search.point(7, index);
                assert!(point.iter().all(|value| (0.0..1.0).contains(value)));
                assert_eq!(point, search.point(7, index));
                assert_ne!(point, search.point(8, index));
                assert_ne!(point, search.point(7, index + 1));
            }
        }
    }

    #[test]
    fn as_many_quasi_random_points_as_the_base_meet_every_slice_of_an_axis() {
        for (axis, &base) in BASES.iter().enumerate() {
            let mut slices: Vec<u64> = (0..base)
                .map(|index| (Search::Quasi.point(3, index)[axis] * base as f64) as u64)
                .collect();
            slices.sort_unstable();
            assert_eq!(slices, (0..base).collect::<Vec<_>>());
        }
    }

    #[test]
    fn axes_of_large_bases_are_not_tied_to_each_other() {
        let points: Vec<Point> = (0..60).map(|index| Search::Quasi.point(1, index)).collect();
        let (a, b) = (DIMENSIONS - 2, DIMENSIONS - 1);
        let mean = |axis: usize| points.iter().map(|p| p[axis]).sum::<f64>() / 60.0;
        let covariance = |x: usize, y: usize| {
            points
                .iter()
                .map(|p| (p[x] - mean(x)) * (p[y] - mean(y)))
                .sum::<f64>()
        };
        let correlation = covariance(a, b) / (covariance(a, a) * covariance(b, b)).sqrt();
        assert!(correlation.abs() < 0.4, "{correlation}");
    }
}
