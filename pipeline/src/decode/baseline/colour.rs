//! From planes of brightness and colour to pixels.

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
pub(super) fn cropped(plane: &Plane, height: usize, width: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(height * width);
    for row in rows(plane, width).take(height) {
        bytes.extend_from_slice(row);
    }
    bytes
}

/// Red, green and blue of the upper left part of planes of luma, blue and red chroma (JFIF 1.02: BT.601, full range).
pub(super) fn rgb([luma, blue, red]: [&Plane; 3], height: usize, width: usize) -> Vec<u8> {
    let mut bytes = vec![0; height * width * 3];
    let planes = rows(luma, width).zip(rows(blue, width).zip(rows(red, width)));
    for (out, (luma, (blue, red))) in bytes.chunks_exact_mut(width * 3).zip(planes) {
        let out = out.as_chunks_mut::<3>().0;
        for (((pixel, &luma), &blue), &red) in out.iter_mut().zip(luma).zip(blue).zip(red) {
            let luma = i32::from(luma) << FRACTION | HALF;
            let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
            let byte = |value: i32| (value >> FRACTION).clamp(0, 255) as u8;
            *pixel = [
                byte(luma + RED * red),
                byte(luma - GREEN_BLUE * blue - GREEN_RED * red),
                byte(luma + BLUE * blue),
            ];
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
