//! From the frequencies of a block of 8×8 pixels to means of its pixels.
//!
//! The pixel at `(y, x)` is `Σ_v Σ_u c(v, y) · c(u, x) · F(v, u)` with `c(0, x) = 1 / √8` and `c(u, x) = cos((2x + 1) u π / 16) / 2` (ITU T.81,
//! A.3.3). A mean over a rectangle of pixels is the same sum with the mean of `c` over its rows and over its columns. What comes out is what
//! decoding the whole picture and averaging gives, but for rounding.

/// `cos(k π / 16)`.
pub(super) const COSINES: [f64; 9] = [
    1.0,
    0.980_785_280_403_230_4,
    0.923_879_532_511_286_7,
    0.831_469_612_302_545_2,
    std::f64::consts::FRAC_1_SQRT_2,
    0.555_570_233_019_602_2,
    0.382_683_432_365_089_8,
    0.195_090_322_016_128_28,
    0.0,
];

/// Where the coefficients of a block come: row × 8 + column, lowest frequencies first (ITU T.81, figure A.6).
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

const fn cosine(k: usize) -> f64 {
    let k = k % 32;
    let k = if k > 16 { 32 - k } else { k };
    if k > 8 { -COSINES[16 - k] } else { COSINES[k] }
}

/// `[u][i]`: the mean of `c(u, x)` over the `i`-th of `N` equal parts of a block's side.
const fn means<const N: usize>() -> [[f32; N]; 8] {
    let mut means = [[0.0; N]; 8];
    let width = 8 / N;
    let mut u = 0;
    while u < 8 {
        let mut part = 0;
        while part < N {
            let mut sum = 0.0;
            let mut x = part * width;
            while x < (part + 1) * width {
                sum += cosine((2 * x + 1) * u);
                x += 1;
            }
            let scale = if u == 0 { COSINES[4] / 2.0 } else { 0.5 };
            // Those that cancel each other do so up to rounding.
            if sum > 1e-9 || sum < -1e-9 {
                means[u][part] = (sum * scale / width as f64) as f32;
            }
            part += 1;
        }
        u += 1;
    }
    means
}

/// The mean of a whole block, from its first coefficient.
#[inline(always)]
pub(super) fn block_mean(dc: i32) -> u8 {
    ((dc.wrapping_add(4) >> 3).wrapping_add(128)).clamp(0, 255) as u8
}

/// What each coefficient, in the order of the file, adds to the means of the four quarters of a block.
///
/// Halfway across the block `c` of an odd frequency changes its sign and no more, and its mean over a half is zero for even ones. So four
/// sums are enough: of the coefficients that have the same sign everywhere, left and right, above and below, or in opposite corners. Each
/// coefficient has a share in one of them.
pub(super) struct QuarterShares([[f32; 4]; 64]);

impl QuarterShares {
    /// For coefficients in steps of `quantisation`, in the order of the file.
    pub(super) fn new(quantisation: &[u8; 64]) -> Self {
        const HALVES: [[f32; 2]; 8] = means();
        let mut shares = [[0.0; 4]; 64];
        for ((shares, &place), &step) in shares.iter_mut().zip(&ZIGZAG).zip(quantisation) {
            let (v, u) = (usize::from(place / 8), usize::from(place % 8));
            let is_seen = |frequency: usize| frequency == 0 || frequency % 2 == 1;
            if is_seen(v) && is_seen(u) {
                let sum = usize::from(v > 0) * 2 + usize::from(u > 0);
                shares[sum] = HALVES[v][0] * HALVES[u][0] * f32::from(step);
            }
        }
        Self(shares)
    }
}

/// The four sums of a block.
#[derive(Default)]
pub(super) struct Quarters([f32; 4]);

impl Quarters {
    /// Adds the coefficient at `place` modulo 64 in the order of the file.
    #[inline(always)]
    pub(super) fn add(&mut self, shares: &QuarterShares, place: u32, value: i32) {
        let value = value as f32;
        for (sum, share) in self.0.iter_mut().zip(shares.0[place as usize % 64]) {
            *sum += share * value;
        }
    }

    /// Means of the quarters: above, below; left and right of each.
    #[inline(always)]
    pub(super) fn means(&self) -> [[u8; 2]; 2] {
        let [all, across, down, corners] = self.0;
        let (left, right) = (all + across + 128.0, all - across + 128.0);
        let (more_left, more_right) = (down + corners, down - corners);
        [
            [rounded(left + more_left), rounded(right + more_right)],
            [rounded(left - more_left), rounded(right - more_right)],
        ]
    }

    /// Means of the left and the right half.
    #[inline(always)]
    pub(super) fn column_means(&self) -> [u8; 2] {
        let [all, across, ..] = self.0;
        [rounded(all + across + 128.0), rounded(all - across + 128.0)]
    }

    /// Means of the upper and the lower half.
    #[inline(always)]
    pub(super) fn row_means(&self) -> [u8; 2] {
        let [all, _, down, _] = self.0;
        [rounded(all + down + 128.0), rounded(all - down + 128.0)]
    }
}

/// What each coefficient, in the order of the file, adds to the means of up to four upright strips of a block, of which each vertical
/// frequency has its own.
pub(super) struct StripShares([StripShare; 64]);

#[derive(Clone, Copy, Default)]
struct StripShare {
    /// The vertical frequency.
    row: usize,
    shares: [f32; 4],
}

impl StripShares {
    /// For coefficients in steps of `quantisation`, in the order of the file, and one, two or four strips.
    pub(super) fn new(quantisation: &[u8; 64], columns: usize) -> Self {
        const WHOLE: [[f32; 1]; 8] = means();
        const HALVES: [[f32; 2]; 8] = means();
        const QUARTERS: [[f32; 4]; 8] = means();
        let mut shares = [StripShare::default(); 64];
        for ((share, &place), &step) in shares.iter_mut().zip(&ZIGZAG).zip(quantisation) {
            let (v, u) = (usize::from(place / 8), usize::from(place % 8));
            let means: &[f32] = match columns {
                1 => &WHOLE[u],
                2 => &HALVES[u],
                _ => &QUARTERS[u],
            };
            share.row = v;
            for (share, mean) in share.shares.iter_mut().zip(means) {
                *share = mean * f32::from(step);
            }
        }
        Self(shares)
    }
}

/// Means of up to four strips for each vertical frequency.
#[derive(Default)]
pub(super) struct Strips([[f32; 4]; 8]);

impl Strips {
    /// Adds the coefficient at `place` modulo 64 in the order of the file.
    #[inline(always)]
    pub(super) fn add(&mut self, shares: &StripShares, place: u32, value: i32) {
        let share = &shares.0[place as usize % 64];
        let value = value as f32;
        for (sum, share) in self.0[share.row % 8].iter_mut().zip(share.shares) {
            *sum += share * value;
        }
    }

    /// Cuts the strips into `R` parts each and writes the means of these, in rows that are `stride` apart, of `columns` each; `None` where
    /// these are not there.
    #[inline(always)]
    pub(super) fn write_means<const R: usize>(
        &self,
        out: &mut [u8],
        stride: usize,
        columns: usize,
    ) -> Option<()> {
        for (number, row) in self.parts::<R>().into_iter().enumerate() {
            let mut bytes = [0; 4];
            for (byte, mean) in bytes.iter_mut().zip(row) {
                *byte = rounded(mean + 128.0);
            }
            let out = out.get_mut(number * stride..)?;
            match out.first_chunk_mut() {
                Some(out) if columns == 4 => *out = bytes,
                _ => out.get_mut(..columns)?.copy_from_slice(&bytes[..columns]),
            }
        }
        Some(())
    }

    /// Means of `R` equal parts of each strip.
    ///
    /// `c` of an even frequency is the same from both ends of a block, that of an odd one changes its sign.
    #[inline(always)]
    fn parts<const R: usize>(&self) -> [[f32; 4]; R] {
        let means = const { means::<R>() };
        let sum = |part: usize, first: usize| {
            let mut sum = [0.0_f32; 4];
            for frequency in [first, first + 2, first + 4, first + 6] {
                let mean = means[frequency][part];
                if mean != 0.0 {
                    for (sum, value) in sum.iter_mut().zip(&self.0[frequency]) {
                        *sum += value * mean;
                    }
                }
            }
            sum
        };
        let mut parts = [[0.0; 4]; R];
        // The part in the middle, where there is one, is the same from both ends.
        for part in 0..R.div_ceil(2) {
            let (even, odd) = (sum(part, 0), sum(part, 1));
            for lane in 0..4 {
                parts[R - 1 - part][lane] = even[lane] - odd[lane];
                parts[part][lane] = even[lane] + odd[lane];
            }
        }
        parts
    }
}

/// To a number this large a sum is rounded to whole ones, which are then its lowest bits; but halves to even numbers.
pub(super) const SHIFT: f32 = 12_582_912.0;
/// What makes the larger number of halves.
pub(super) const ABOVE_HALF: f32 = 1.0 / 4096.0;

/// The nearest byte; the larger one where two are.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u8 {
    ((value + ABOVE_HALF).clamp(0.0, 255.0) + SHIFT).to_bits() as u8
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Coefficients of a block, at most 32 of them other than zero, and steps of their quantisation.
    pub(in super::super) fn blocks() -> impl Strategy<Value = ([i32; 64], [u8; 64])> {
        let coefficients = prop::array::uniform32((0..64_usize, -40..40_i32));
        let steps = prop::collection::vec(1..20_u8, 64);
        (coefficients, steps).prop_map(|(coefficients, steps)| {
            let mut all = [0; 64];
            for (place, value) in coefficients {
                all[place] = value;
            }
            (all, steps.try_into().unwrap())
        })
    }

    /// The pixels of a block by the formula, less 128.
    pub(in super::super) fn pixels(
        coefficients: &[i32; 64],
        quantisation: &[u8; 64],
    ) -> [[f64; 8]; 8] {
        let c = |frequency: usize, at: usize| match frequency {
            0 => 1.0 / 8.0_f64.sqrt(),
            _ => ((2 * at + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0).cos() / 2.0,
        };
        let mut pixels = [[0.0; 8]; 8];
        for ((&place, &value), &step) in ZIGZAG.iter().zip(coefficients).zip(quantisation) {
            let (v, u) = (usize::from(place / 8), usize::from(place % 8));
            for (y, row) in pixels.iter_mut().enumerate() {
                for (x, pixel) in row.iter_mut().enumerate() {
                    *pixel += c(v, y) * c(u, x) * f64::from(value * i32::from(step));
                }
            }
        }
        pixels
    }

    fn mean(pixels: &[[f64; 8]; 8], rows: usize, columns: usize, at: (usize, usize)) -> f64 {
        let (height, width) = (8 / rows, 8 / columns);
        let rows = pixels[at.0 * height..].iter().take(height);
        let sum: f64 = rows
            .flat_map(|row| &row[at.1 * width..(at.1 + 1) * width])
            .sum();
        (sum / (height * width) as f64 + 128.0).clamp(0.0, 255.0)
    }

    proptest! {
        #[test]
        fn means_are_those_of_the_pixels((all, quantisation) in blocks()) {
            let pixels = pixels(&all, &quantisation);
            let is_near = |byte: u8, expected: f64| (f64::from(byte) - expected).abs() <= 0.51;

            let dc = all[0] * i32::from(quantisation[0]);
            prop_assert!(is_near(block_mean(dc), mean(&pixels, 1, 1, (0, 0))));

            let shares = QuarterShares::new(&quantisation);
            let mut quarters = Quarters::default();
            for (place, &value) in all.iter().enumerate() {
                quarters.add(&shares, place as u32, value);
            }
            for at in 0..2 {
                for (column, &byte) in quarters.means()[at].iter().enumerate() {
                    prop_assert!(is_near(byte, mean(&pixels, 2, 2, (at, column))));
                }
                prop_assert!(is_near(quarters.column_means()[at], mean(&pixels, 1, 2, (0, at))));
                prop_assert!(is_near(quarters.row_means()[at], mean(&pixels, 2, 1, (at, 0))));
            }

            for columns in [1, 2, 4] {
                let shares = StripShares::new(&quantisation, columns);
                let mut strips = Strips::default();
                for (place, &value) in all.iter().enumerate() {
                    strips.add(&shares, place as u32, value);
                }
                let mut out = [[0; 16]; 3];
                prop_assert_eq!(strips.write_means::<1>(&mut out[0], 4, columns), Some(()));
                prop_assert_eq!(strips.write_means::<2>(&mut out[1], 4, columns), Some(()));
                prop_assert_eq!(strips.write_means::<4>(&mut out[2], 4, columns), Some(()));
                for (rows, out) in [1, 2, 4].into_iter().zip(out) {
                    for (row, bytes) in out.chunks(4).take(rows).enumerate() {
                        for (column, &byte) in bytes[..columns].iter().enumerate() {
                            prop_assert!(is_near(byte, mean(&pixels, rows, columns, (row, column))));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn halves_go_up_and_bytes_have_ends() {
        assert_eq!(
            [-3.0, 0.5, 1.5, 2.49, 254.6, 300.0].map(rounded),
            [0, 1, 2, 2, 255, 255]
        );
    }
}
