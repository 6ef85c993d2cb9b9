//! One affine map of an image about its centre, by inverse mapping.

use super::{Fill, ImageShape};

/// The parts of an affine map, applied in this order: flips, zoom, shear, rotation, shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    /// Exchange left and right.
    pub flip_x: bool,
    /// Exchange top and bottom.
    pub flip_y: bool,
    /// Pixels to the right.
    pub shift_x: i64,
    /// Pixels downwards.
    pub shift_y: i64,
    /// Radians, clockwise as seen on a screen, where rows go down.
    pub rotation: f32,
    /// Radians: a column leans by this angle.
    pub shear: f32,
    /// Magnification.
    pub zoom: f32,
}

impl Affine {
    /// Writes the mapped image to `out`. Without rotation, shear and zoom every pixel is copied as it is.
    pub fn apply(&self, image: &[u8], shape: ImageShape, fill: Fill, out: &mut [u8]) {
        if self.rotation == 0.0 && self.shear == 0.0 && self.zoom == 1.0 {
            self.copy(image, shape, fill, out);
        } else {
            self.interpolate(image, shape, fill, out);
        }
    }

    /// Flips and shifts, row by row.
    fn copy(&self, image: &[u8], shape: ImageShape, fill: Fill, out: &mut [u8]) {
        let ImageShape {
            height,
            width,
            channels,
        } = shape;
        let side = width as i64;
        // Columns `start..end` of the output come from the image, those outside from beyond its border.
        let start = self.shift_x.clamp(0, side);
        let end = (side + self.shift_x).clamp(0, side);
        // The columns they come from; with a flip in the opposite order.
        let from = match self.flip_x {
            true => side + self.shift_x - end,
            false => start - self.shift_x,
        };
        let [from, to] = [from, from + end - start].map(|x| x.clamp(0, side) as usize * channels);
        let (start, end) = (start as usize * channels, end as usize * channels);
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let Some(source_y) = source_index(y, self.shift_y, self.flip_y, height, fill) else {
                row.fill(constant(fill));
                continue;
            };
            let source = &image[source_y * width * channels..(source_y + 1) * width * channels];
            let (first, last) = (&source[..channels], &source[(width - 1) * channels..]);
            let (left, rest) = row.split_at_mut(start);
            let (middle, right) = rest.split_at_mut(end - start);
            if self.flip_x {
                copy_reversed(&source[from..to], channels, middle);
                fill_border(left, last, fill);
                fill_border(right, first, fill);
            } else {
                middle.copy_from_slice(&source[from..to]);
                fill_border(left, first, fill);
                fill_border(right, last, fill);
            }
        }
    }

    /// For each pixel of the output, the place in the image it comes from, read bilinearly.
    ///
    /// About the centre `c`, the map is `out = R·S·Z·F·(in − c) + c + shift`, so `in = F⁻¹·Z⁻¹·S⁻¹·R⁻¹·(out − c − shift) + c` with
    /// `R⁻¹ = (cos θ, sin θ; −sin θ, cos θ)`, `S⁻¹ = (1, −tan φ; 0, 1)`, `Z⁻¹ = 1 / zoom` and `F⁻¹ = F = (±1, 0; 0, ±1)`.
    fn interpolate(&self, image: &[u8], shape: ImageShape, fill: Fill, out: &mut [u8]) {
        let ImageShape {
            height,
            width,
            channels,
        } = shape;
        let (sin, cos) = self.rotation.sin_cos();
        let lean = self.shear.tan();
        let scale_x = if self.flip_x { -1.0 } else { 1.0 } / self.zoom;
        let scale_y = if self.flip_y { -1.0 } else { 1.0 } / self.zoom;
        let x_from = [scale_x * (cos + lean * sin), scale_x * (sin - lean * cos)];
        let y_from = [scale_y * -sin, scale_y * cos];
        let (centre_x, centre_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let dy = y as f32 - centre_y - self.shift_y as f32;
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let dx = x as f32 - centre_x - self.shift_x as f32;
                let source_x = x_from[0] * dx + x_from[1] * dy + centre_x;
                let source_y = y_from[0] * dx + y_from[1] * dy + centre_y;
                bilinear(image, shape, fill, source_x, source_y, pixel);
            }
        }
    }
}

/// Copies pixels of `channels` bytes in the opposite order.
fn copy_reversed(source: &[u8], channels: usize, out: &mut [u8]) {
    if channels == 1 {
        // Bytes are exchanged many at a time, pixels of an unknown size one by one.
        for (out, value) in out.iter_mut().zip(source.iter().rev()) {
            *out = *value;
        }
    } else {
        let pixels = source.chunks_exact(channels).rev();
        for (out, pixel) in out.chunks_exact_mut(channels).zip(pixels) {
            out.copy_from_slice(pixel);
        }
    }
}

/// Fills pixels beyond the border, whose nearest pixel inside is `nearest`.
fn fill_border(out: &mut [u8], nearest: &[u8], fill: Fill) {
    match fill {
        Fill::Constant(value) => out.fill(value),
        Fill::Edge => {
            for pixel in out.chunks_exact_mut(nearest.len()) {
                pixel.copy_from_slice(nearest);
            }
        }
    }
}

/// Where along one side the pixel at `position` comes from; `None` beyond the border when that is a constant.
fn source_index(position: usize, shift: i64, flip: bool, side: usize, fill: Fill) -> Option<usize> {
    let unshifted = position as i64 - shift;
    let source = if flip {
        side as i64 - 1 - unshifted
    } else {
        unshifted
    };
    inside(source, side, fill)
}

/// `index` where it lies inside; otherwise the nearest one inside, or `None` when a constant is there.
fn inside(index: i64, side: usize, fill: Fill) -> Option<usize> {
    match fill {
        Fill::Edge => Some(index.clamp(0, side as i64 - 1) as usize),
        Fill::Constant(_) => usize::try_from(index).ok().filter(|&index| index < side),
    }
}

/// The value beyond the border; never asked for where the border is the nearest pixel.
fn constant(fill: Fill) -> u8 {
    match fill {
        Fill::Constant(value) => value,
        Fill::Edge => 0,
    }
}

/// Mean of the four pixels around `(x, y)`, weighted by their nearness, rounded.
fn bilinear(image: &[u8], shape: ImageShape, fill: Fill, x: f32, y: f32, pixel: &mut [u8]) {
    let (left, top) = (x.floor(), y.floor());
    let (right_weight, bottom_weight) = (x - left, y - top);
    let (left, top) = (left as i64, top as i64);
    let corners = [
        (left, top, (1.0 - right_weight) * (1.0 - bottom_weight)),
        (left + 1, top, right_weight * (1.0 - bottom_weight)),
        (left, top + 1, (1.0 - right_weight) * bottom_weight),
        (left + 1, top + 1, right_weight * bottom_weight),
    ]
    .map(|(x, y, weight)| {
        let source = inside(x, shape.width, fill).zip(inside(y, shape.height, fill));
        (
            source.map(|(x, y)| (y * shape.width + x) * shape.channels),
            weight,
        )
    });
    for (channel, out) in pixel.iter_mut().enumerate() {
        let value: f32 = corners
            .iter()
            .map(|&(start, weight)| {
                weight * f32::from(start.map_or(constant(fill), |start| image[start + channel]))
            })
            .sum();
        // The weights sum to 1 but for rounding, so this is 0 to 255 and `as`, which saturates, changes nothing else.
        *out = (value + 0.5) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Affine = Affine {
        flip_x: false,
        flip_y: false,
        shift_x: 0,
        shift_y: 0,
        rotation: 0.0,
        shear: 0.0,
        zoom: 1.0,
    };

    /// 2 rows of 3 pixels of 2 channels; all different.
    const SHAPE: ImageShape = ImageShape {
        height: 2,
        width: 3,
        channels: 2,
    };
    const IMAGE: [u8; 12] = [10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61];

    fn mapped(affine: Affine, fill: Fill) -> Vec<u8> {
        let mut out = vec![99; IMAGE.len()];
        affine.apply(&IMAGE, SHAPE, fill, &mut out);
        out
    }

    #[test]
    fn flips() {
        let left_right = mapped(
            Affine {
                flip_x: true,
                ..IDENTITY
            },
            Fill::Edge,
        );
        assert_eq!(left_right, [30, 31, 20, 21, 10, 11, 60, 61, 50, 51, 40, 41]);
        let top_bottom = mapped(
            Affine {
                flip_y: true,
                ..IDENTITY
            },
            Fill::Edge,
        );
        assert_eq!(top_bottom, [40, 41, 50, 51, 60, 61, 10, 11, 20, 21, 30, 31]);
    }

    #[test]
    fn shifts_go_right_and_down_and_fill_what_is_left_behind() {
        let right = Affine {
            shift_x: 1,
            ..IDENTITY
        };
        assert_eq!(
            mapped(right, Fill::Constant(7)),
            [7, 7, 10, 11, 20, 21, 7, 7, 40, 41, 50, 51]
        );
        assert_eq!(
            mapped(right, Fill::Edge),
            [10, 11, 10, 11, 20, 21, 40, 41, 40, 41, 50, 51]
        );
        let down = Affine {
            shift_y: 1,
            ..IDENTITY
        };
        assert_eq!(
            mapped(down, Fill::Constant(7)),
            [7, 7, 7, 7, 7, 7, 10, 11, 20, 21, 30, 31]
        );
        let far = Affine {
            shift_x: -9,
            ..IDENTITY
        };
        assert_eq!(mapped(far, Fill::Constant(7)), [7; 12]);
        assert_eq!(
            mapped(far, Fill::Edge),
            [30, 31, 30, 31, 30, 31, 60, 61, 60, 61, 60, 61]
        );
    }

    #[test]
    fn a_flipped_image_is_shifted_after_the_flip() {
        let both = Affine {
            flip_x: true,
            shift_x: 1,
            ..IDENTITY
        };
        assert_eq!(
            mapped(both, Fill::Constant(7)),
            [7, 7, 30, 31, 20, 21, 7, 7, 60, 61, 50, 51]
        );
    }

    #[test]
    fn interpolation_of_whole_pixels_agrees_with_copying() {
        for fill in [Fill::Edge, Fill::Constant(7)] {
            for (flip_x, flip_y) in [(false, false), (true, false), (false, true), (true, true)] {
                for (shift_x, shift_y) in [(0, 0), (1, 0), (-1, 1), (2, -1), (5, 5)] {
                    let affine = Affine {
                        flip_x,
                        flip_y,
                        shift_x,
                        shift_y,
                        ..IDENTITY
                    };
                    let mut out = vec![99; IMAGE.len()];
                    affine.interpolate(&IMAGE, SHAPE, fill, &mut out);
                    assert_eq!(out, mapped(affine, fill), "{affine:?} {fill:?}");
                }
            }
        }
    }

    #[test]
    fn rows_are_copied_as_pixels_would_be() {
        let [height, width] = [3, 5];
        for channels in [1, 3] {
            let shape = ImageShape {
                height,
                width,
                channels,
            };
            let image: Vec<u8> = (1..=shape.len() as u8).collect();
            for fill in [Fill::Edge, Fill::Constant(0)] {
                for flips in 0..4 {
                    for shift_x in -7..=7 {
                        for shift_y in [-4, -1, 0, 2] {
                            let affine = Affine {
                                flip_x: flips % 2 == 1,
                                flip_y: flips / 2 == 1,
                                shift_x,
                                shift_y,
                                ..IDENTITY
                            };
                            let mut expected = vec![];
                            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x)))
                            {
                                let y = source_index(y, shift_y, affine.flip_y, height, fill);
                                let x = source_index(x, shift_x, affine.flip_x, width, fill);
                                match y.zip(x).map(|(y, x)| (y * width + x) * channels) {
                                    Some(start) => expected.extend(&image[start..start + channels]),
                                    None => expected.extend(vec![0; channels]),
                                }
                            }
                            let mut out = vec![99; shape.len()];
                            affine.apply(&image, shape, fill, &mut out);
                            assert_eq!(out, expected, "{affine:?} {fill:?} {channels}");
                        }
                    }
                }
            }
        }
    }

    /// 3 rows of 5 with four different corners, so that exchanged sides or a wrong sense of rotation show.
    fn corners() -> (Vec<u8>, ImageShape) {
        let shape = ImageShape {
            height: 3,
            width: 5,
            channels: 1,
        };
        let mut image = vec![0; 15];
        (image[0], image[4], image[10], image[14]) = (10, 20, 30, 40);
        (image, shape)
    }

    #[test]
    fn half_a_turn_is_both_flips() {
        let (image, shape) = corners();
        let mut out = vec![99; 15];
        let half_a_turn = Affine {
            rotation: std::f32::consts::PI,
            ..IDENTITY
        };
        half_a_turn.apply(&image, shape, Fill::Constant(0), &mut out);
        assert_eq!((out[0], out[4], out[10], out[14]), (40, 30, 20, 10));
    }

    #[test]
    fn a_quarter_turn_goes_clockwise_about_the_centre() {
        let shape = ImageShape {
            height: 3,
            width: 5,
            channels: 1,
        };
        let mut image = vec![0; 15];
        // One pixel above the centre (row 1, column 2) comes to lie one to the right of it.
        image[2] = 200;
        let mut out = vec![99; 15];
        Affine {
            rotation: std::f32::consts::FRAC_PI_2,
            ..IDENTITY
        }
        .apply(&image, shape, Fill::Constant(0), &mut out);
        assert_eq!(out[5 + 3], 200);
        assert_eq!(out.iter().filter(|&&value| value > 0).count(), 1, "{out:?}");
    }

    #[test]
    fn zoom_enlarges_about_the_centre() {
        // A row 0 40 80 120 160: at twice the size the middle stays and its neighbours are half-way.
        let shape = ImageShape {
            height: 1,
            width: 5,
            channels: 1,
        };
        let mut out = [99; 5];
        Affine {
            zoom: 2.0,
            ..IDENTITY
        }
        .apply(&[0, 40, 80, 120, 160], shape, Fill::Edge, &mut out);
        assert_eq!(out, [40, 60, 80, 100, 120]);
        Affine {
            zoom: 0.5,
            ..IDENTITY
        }
        .apply(&[0, 40, 80, 120, 160], shape, Fill::Constant(255), &mut out);
        assert_eq!(out, [255, 0, 80, 160, 255]);
    }

    #[test]
    fn shear_moves_rows_sideways_and_leaves_the_middle_one() {
        let shape = ImageShape {
            height: 3,
            width: 3,
            channels: 1,
        };
        let image = [0, 90, 0, 0, 90, 0, 0, 90, 0];
        let mut out = [99; 9];
        // 45°: one column per row; rows above the centre go left, those below go right.
        Affine {
            shear: std::f32::consts::FRAC_PI_4,
            ..IDENTITY
        }
        .apply(&image, shape, Fill::Constant(0), &mut out);
        assert_eq!(out, [90, 0, 0, 0, 90, 0, 0, 0, 90]);
    }
}
