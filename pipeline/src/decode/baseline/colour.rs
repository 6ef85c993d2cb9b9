//! From planes of brightness and colour to pixels.
#![allow(unsafe_code)]

use super::scan::Plane;

/// Bits behind the point of the factors below.
const FRACTION: u32 = 16;
const HALF: i32 = 1 << (FRACTION - 1);
/// 1.402, 0.344136, 0.714136 and 1.772.
const RED: i32 = 91_881;
const GREEN_BLUE: i32 = 22_554;
const GREEN_RED: i32 = 46_802;
const BLUE: i32 = 116_130;

/// The upper left part of a plane.
pub(super) fn cropped(plane: Plane, height: usize, width: usize) -> Vec<u8> {
    if plane.stride == width {
        let mut bytes = plane.bytes;
        bytes.truncate(height * width);
        return bytes;
    }
    let mut bytes = Vec::with_capacity(height * width);
    for row in rows(&plane, width).take(height) {
        bytes.extend_from_slice(row);
    }
    bytes
}

/// Red, green and blue of luma, blue and red chroma (JFIF 1.02: BT.601, full range).
#[inline(always)]
pub(super) fn rgb_of([luma, blue, red]: [u8; 3]) -> [u8; 3] {
    let luma = i32::from(luma) << FRACTION | HALF;
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    let byte = |value: i32| (value >> FRACTION).clamp(0, 255) as u8;
    [
        byte(luma + RED * red),
        byte(luma - GREEN_BLUE * blue - GREEN_RED * red),
        byte(luma + BLUE * blue),
    ]
}

/// Red, green, blue and zero for each pixel of a row of luma, blue and red chroma.
pub(in crate::decode) fn join_row(rows: [&[u8]; 3], out: &mut [[u8; 4]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_vectors(rows: [&[u8]; 3], out: &mut [[u8; 4]]) {
            join(rows, out);
        }
        // SAFETY: the processor has AVX2.
        unsafe { with_vectors(rows, out) };
        return;
    }
    join(rows, out);
}

/// Compiled for the vectors that the caller has.
#[inline(always)]
fn join([luma, blue, red]: [&[u8]; 3], out: &mut [[u8; 4]]) {
    for (((out, &luma), &blue), &red) in out.iter_mut().zip(luma).zip(blue).zip(red) {
        let [red, green, blue] = rgb_of([luma, blue, red]).map(u32::from);
        *out = (red | green << 8 | blue << 16).to_le_bytes();
    }
}

/// Red, green and blue of the upper left part of planes of luma, blue and red chroma.
pub(super) fn rgb([luma, blue, red]: [&Plane; 3], height: usize, width: usize) -> Vec<u8> {
    let mut bytes = vec![0; height * width * 3];
    let planes = rows(luma, width).zip(rows(blue, width).zip(rows(red, width)));
    for (out, (luma, (blue, red))) in bytes.chunks_exact_mut(width * 3).zip(planes) {
        let out = out.as_chunks_mut::<3>().0;
        for (((pixel, &luma), &blue), &red) in out.iter_mut().zip(luma).zip(blue).zip(red) {
            *pixel = rgb_of([luma, blue, red]);
        }
    }
    bytes
}

fn rows(plane: &Plane, width: usize) -> impl Iterator<Item = &[u8]> {
    plane
        .bytes
        .chunks_exact(plane.stride)
        .map(move |row| &row[..width])
}
