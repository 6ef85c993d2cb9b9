//! From the frequencies of a block to all of its 8×8 pixels.
//!
//! The transform is that of Arai, Agui and Nakajima ("A Fast DCT-SQ Scheme for Images", 1988): of its multiplications all but five are those
//! that coefficients are scaled with anyway. A pass does eight rows or columns at a time, of which it takes the first numbers together, then the
//! second ones; between the passes the block is turned over. Where the processor has AVX2, eight numbers are one vector. Nothing is rounded before the end, and the same operations are
//! done in the same order everywhere, so that pixels do not depend on the processor.
#![allow(unsafe_code)]

use super::transform::{COSINES, ZIGZAG, rounded};

/// Eight numbers that are computed alike.
type Lanes = [f32; 8];

/// √2, and what the rotation among the odd frequencies is made of: `2 c`, `2 (c − s)` and `2 (c + s)` with the cosine and sine of π/8.
const SQRT_2: f32 = std::f32::consts::SQRT_2;
const DOUBLE_COSINE: f32 = 1.847_759_1;
const DIFFERENCE: f32 = 1.082_392_2;
const SUM: f32 = 2.613_126;

/// What each coefficient, in the order of the file, is multiplied with before the transform.
pub(super) struct Scales([f32; 64]);

impl Scales {
    /// For coefficients in steps of `quantisation`, in the order of the file.
    pub(super) fn new(quantisation: &[u8; 64]) -> Self {
        let factor = |frequency: usize| match frequency {
            0 => 1.0,
            _ => COSINES[frequency] * std::f64::consts::SQRT_2,
        };
        let mut scales = [0.0; 64];
        for ((scale, &place), &step) in scales.iter_mut().zip(&ZIGZAG).zip(quantisation) {
            let (v, u) = (usize::from(place / 8), usize::from(place % 8));
            *scale = (factor(v) * factor(u) / 8.0 * f64::from(step)) as f32;
        }
        Self(scales)
    }
}

/// The scaled coefficients of a block: by the horizontal frequency, then the vertical one.
#[derive(Default)]
pub(super) struct Block([Lanes; 8]);

impl Block {
    /// Adds the coefficient at `place` modulo 64 in the order of the file.
    #[inline(always)]
    pub(super) fn add(&mut self, scales: &Scales, place: u32, value: i32) {
        let place = place as usize % 64;
        let target = usize::from(ZIGZAG[place]);
        self.0[target % 8][target / 8] += scales.0[place] * value as f32;
    }

    /// Writes the pixels in rows that are `stride` apart; `None` where these are not there.
    #[inline(always)]
    pub(super) fn write(&self, out: &mut [u8], stride: usize) -> Option<()> {
        let rows = self.pixels();
        for (number, row) in rows.into_iter().enumerate() {
            *out.get_mut(number * stride..)?.first_chunk_mut()? = row;
        }
        Some(())
    }

    #[inline(always)]
    fn pixels(&self) -> [[u8; 8]; 8] {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { vectors::pixels(&self.0) };
        }
        plain(&self.0)
    }
}

/// The transform where there are no vectors of eight numbers.
fn plain(block: &[Lanes; 8]) -> [[u8; 8]; 8] {
    let across = transformed(*block, add, sub, scaled);
    let rows = transformed(turned(across), add, sub, scaled);
    rows.map(|row| row.map(|value| rounded(value + 128.0)))
}

/// One pass: from the eight frequencies of each lane to its eight values.
///
/// Even frequencies give what is the same from both ends, odd ones what changes its sign.
#[inline(always)]
fn transformed<V: Copy>(
    [f0, f1, f2, f3, f4, f5, f6, f7]: [V; 8],
    add: impl Fn(V, V) -> V,
    sub: impl Fn(V, V) -> V,
    scaled: impl Fn(V, f32) -> V,
) -> [V; 8] {
    let (ends, middle) = (add(f0, f4), sub(f0, f4));
    let outer = add(f2, f6);
    let inner = sub(scaled(sub(f2, f6), SQRT_2), outer);
    let (e0, e1) = (add(ends, outer), add(middle, inner));
    let (e2, e3) = (sub(middle, inner), sub(ends, outer));

    let (low, low_turned) = (add(f1, f7), sub(f1, f7));
    let (high, high_turned) = (add(f5, f3), sub(f5, f3));
    let o0 = add(low, high);
    let rotated = scaled(add(high_turned, low_turned), DOUBLE_COSINE);
    let o1 = sub(sub(rotated, scaled(high_turned, SUM)), o0);
    let o2 = sub(scaled(sub(low, high), SQRT_2), o1);
    let o3 = sub(sub(rotated, scaled(low_turned, DIFFERENCE)), o2);
    [
        add(e0, o0),
        add(e1, o1),
        add(e2, o2),
        add(e3, o3),
        sub(e3, o3),
        sub(e2, o2),
        sub(e1, o1),
        sub(e0, o0),
    ]
}

fn add(a: Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|lane| a[lane] + b[lane])
}

fn sub(a: Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|lane| a[lane] - b[lane])
}

fn scaled(a: Lanes, factor: f32) -> Lanes {
    a.map(|value| value * factor)
}

/// Rows as columns.
fn turned(block: [Lanes; 8]) -> [Lanes; 8] {
    std::array::from_fn(|row| std::array::from_fn(|column| block[column][row]))
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    use super::super::transform::{ABOVE_HALF, SHIFT};
    use super::{Lanes, transformed};

    /// As [`super::plain`], to the bit.
    #[target_feature(enable = "avx2")]
    pub(super) fn pixels(block: &[Lanes; 8]) -> [[u8; 8]; 8] {
        let add = |a, b| _mm256_add_ps(a, b);
        let sub = |a, b| _mm256_sub_ps(a, b);
        let scaled = |a, factor| _mm256_mul_ps(a, _mm256_set1_ps(factor));
        let [f0, f1, f2, f3, f4, f5, f6, f7] = block;
        let frequencies = [
            load(f0),
            load(f1),
            load(f2),
            load(f3),
            load(f4),
            load(f5),
            load(f6),
            load(f7),
        ];
        let across = transformed(frequencies, add, sub, scaled);
        let [r0, r1, r2, r3, r4, r5, r6, r7] = transformed(turned(across), add, sub, scaled);
        [
            bytes(r0),
            bytes(r1),
            bytes(r2),
            bytes(r3),
            bytes(r4),
            bytes(r5),
            bytes(r6),
            bytes(r7),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(row: &Lanes) -> __m256 {
        // SAFETY: eight floats are there to be read.
        unsafe { _mm256_loadu_ps(row.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn turned(rows: [__m256; 8]) -> [__m256; 8] {
        // Pairs of rows interleaved by number, then by pair, then by half.
        let [a0, a1, a2, a3, a4, a5, a6, a7] = rows;
        let (b0, b1) = (_mm256_unpacklo_ps(a0, a1), _mm256_unpackhi_ps(a0, a1));
        let (b2, b3) = (_mm256_unpacklo_ps(a2, a3), _mm256_unpackhi_ps(a2, a3));
        let (b4, b5) = (_mm256_unpacklo_ps(a4, a5), _mm256_unpackhi_ps(a4, a5));
        let (b6, b7) = (_mm256_unpacklo_ps(a6, a7), _mm256_unpackhi_ps(a6, a7));
        const LOW: i32 = 0x44;
        const HIGH: i32 = 0xEE;
        let (c0, c1) = (
            _mm256_shuffle_ps(b0, b2, LOW),
            _mm256_shuffle_ps(b0, b2, HIGH),
        );
        let (c2, c3) = (
            _mm256_shuffle_ps(b1, b3, LOW),
            _mm256_shuffle_ps(b1, b3, HIGH),
        );
        let (c4, c5) = (
            _mm256_shuffle_ps(b4, b6, LOW),
            _mm256_shuffle_ps(b4, b6, HIGH),
        );
        let (c6, c7) = (
            _mm256_shuffle_ps(b5, b7, LOW),
            _mm256_shuffle_ps(b5, b7, HIGH),
        );
        const LOWER: i32 = 0x20;
        const UPPER: i32 = 0x31;
        [
            _mm256_permute2f128_ps(c0, c4, LOWER),
            _mm256_permute2f128_ps(c1, c5, LOWER),
            _mm256_permute2f128_ps(c2, c6, LOWER),
            _mm256_permute2f128_ps(c3, c7, LOWER),
            _mm256_permute2f128_ps(c0, c4, UPPER),
            _mm256_permute2f128_ps(c1, c5, UPPER),
            _mm256_permute2f128_ps(c2, c6, UPPER),
            _mm256_permute2f128_ps(c3, c7, UPPER),
        ]
    }

    /// As [`super::rounded`] of each number and 128.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn bytes(row: __m256) -> [u8; 8] {
        let value = _mm256_add_ps(row, _mm256_set1_ps(128.0));
        let value = _mm256_add_ps(value, _mm256_set1_ps(ABOVE_HALF));
        let value = _mm256_max_ps(value, _mm256_setzero_ps());
        let value = _mm256_min_ps(value, _mm256_set1_ps(255.0));
        let bits = _mm256_castps_si256(_mm256_add_ps(value, _mm256_set1_ps(SHIFT)));
        let whole = _mm256_and_si256(bits, _mm256_set1_epi32(0xFF));
        let (first, second) = (
            _mm256_castsi256_si128(whole),
            _mm256_extracti128_si256(whole, 1),
        );
        let words = _mm_packus_epi32(first, second);
        _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::transform::tests::{blocks, pixels};
    use super::*;

    proptest! {
        #[test]
        fn pixels_are_those_of_the_formula((all, quantisation) in blocks()) {
            let scales = Scales::new(&quantisation);
            let mut block = Block::default();
            for (place, &value) in all.iter().enumerate() {
                block.add(&scales, place as u32, value);
            }
            let mut out = [0; 80];
            prop_assert_eq!(block.write(&mut out, 10), Some(()));
            for (row, bytes) in pixels(&all, &quantisation).iter().zip(out.chunks(10)) {
                for (expected, &byte) in row.iter().zip(bytes) {
                    let expected = (expected + 128.0).clamp(0.0, 255.0);
                    prop_assert!((f64::from(byte) - expected).abs() <= 0.51);
                }
            }
            // Without vectors the same, to the bit.
            prop_assert_eq!(block.pixels(), plain(&block.0));
            prop_assert_eq!(block.write(&mut out[..77], 10), None);
        }
    }
}
