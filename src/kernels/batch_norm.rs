//! Batch normalisation in blocked layout, with the residual addition and the rectifier behind it in the same pass.

use super::rectifier::Bounds;
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers};

/// Mean and variance of each channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`, divided by the number of values, not by one less.
    pub variance: Vec<f32>,
}

/// Geometry and constants of one normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// N.
    pub images: usize,
    /// C.
    pub channels: usize,
    /// H · W.
    pub pixels: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// The rectifier behind it.
    pub bounds: Bounds,
}

impl Normalisation {
    fn len(&self) -> usize {
        self.images * self.channels * self.pixels
    }

    fn values_per_channel(&self) -> f64 {
        (self.images * self.pixels) as f64
    }
}

/// Y = rectifier(scale · (Z − mean) / √(variance + ε) + bias + residual).
#[derive(Clone, Copy)]
pub struct BatchNormForward<'a> {
    /// Sizes and constants.
    pub norm: Normalisation,
    /// Input, blocked.
    pub z: &'a [f32],
    /// `[C]`.
    pub scale: &'a [f32],
    /// `[C]`.
    pub bias: &'a [f32],
    /// Added before the rectifier; as Z.
    pub residual: Option<&'a [f32]>,
}

impl BatchNormForward<'_> {
    /// Writes Y into `y` and returns the moments of the batch. `partial` is working memory that is kept between calls.
    ///
    /// Moments are taken per image around the image's own mean, which is exact where the mean is large beside the deviation,
    /// and combined in double precision (Chan, Golub and LeVeque, 1979).
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn run(
        &self,
        instructions: Instructions,
        y: &mut [f32],
        partial: &mut Vec<f32>,
        workers: &dyn Workers,
    ) -> Moments {
        let norm = &self.norm;
        let block = instructions.block();
        assert!(norm.channels.is_multiple_of(block) && norm.pixels > 0);
        assert!(self.z.len() == norm.len() && y.len() == norm.len());
        assert!(
            self.residual
                .is_none_or(|residual| residual.len() == norm.len())
        );
        assert!(self.scale.len() == norm.channels && self.bias.len() == norm.channels);

        // For each image: the sums [C], then the squared deviations from the image's own mean [C].
        let plane = block * norm.pixels;
        let image_len = norm.channels * norm.pixels;
        partial.clear();
        partial.resize(norm.images * norm.channels * 2, 0.0);
        let pieces = Pieces::new(partial, norm.channels * 2);
        workers.for_each(pieces.count(), &|image| {
            pieces.with(image, |partial| {
                let (sums, squares) = partial.split_at_mut(norm.channels);
                let planes = self.z[image * image_len..][..image_len].chunks_exact(plane);
                let results = sums
                    .chunks_exact_mut(block)
                    .zip(squares.chunks_exact_mut(block));
                for (plane, (sum, square)) in planes.zip(results) {
                    instructions.run(PlaneMoments { plane, sum, square });
                }
            });
        });
        drop(pieces);
        let moments = combine(norm, partial);

        let mut factors = Vec::with_capacity(norm.channels);
        let mut offsets = Vec::with_capacity(norm.channels);
        for channel in 0..norm.channels {
            let factor = self.scale[channel] / (moments.variance[channel] + norm.epsilon).sqrt();
            factors.push(factor);
            offsets.push(self.bias[channel] - moments.mean[channel] * factor);
        }
        let pieces = Pieces::new(y, image_len);
        workers.for_each(pieces.count(), &|image| {
            pieces.with(image, |y| {
                for (block_index, y) in y.chunks_exact_mut(plane).enumerate() {
                    let start = image * image_len + block_index * plane;
                    let channels = block_index * block..(block_index + 1) * block;
                    instructions.run(PlaneAffine {
                        z: &self.z[start..start + plane],
                        factor: &factors[channels.clone()],
                        offset: &offsets[channels],
                        residual: self
                            .residual
                            .map(|residual| &residual[start..start + plane]),
                        bounds: norm.bounds,
                        y,
                    });
                }
            });
        });
        moments
    }
}

/// Moments over the batch from those of its images.
fn combine(norm: &Normalisation, partial: &[f32]) -> Moments {
    let pixels = norm.pixels as f64;
    let mut moments = Moments::default();
    for channel in 0..norm.channels {
        let images = || partial.chunks_exact(norm.channels * 2);
        let total: f64 = images().map(|image| f64::from(image[channel])).sum();
        let mean = total / norm.values_per_channel();
        let squares: f64 = images()
            .map(|image| {
                let difference = f64::from(image[channel]) / pixels - mean;
                f64::from(image[norm.channels + channel]) + pixels * difference * difference
            })
            .sum();
        moments.mean.push(mean as f32);
        moments
            .variance
            .push((squares / norm.values_per_channel()) as f32);
    }
    moments
}

/// Sum, and sum of squared deviations from the mean, of one plane `[H, W, B]`.
struct PlaneMoments<'a> {
    plane: &'a [f32],
    sum: &'a mut [f32],
    square: &'a mut [f32],
}

impl Kernel for PlaneMoments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let zero = simd.splat(0.0);
        let mut sums = [zero; 4];
        for (index, pixel) in self.plane.chunks_exact(S::LANES).enumerate() {
            let sum = &mut sums[index % 4];
            *sum = simd.add(*sum, simd.read(pixel));
        }
        let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
        let mean = simd.mul(sum, simd.splat(S::LANES as f32 / self.plane.len() as f32));
        let mut squares = [zero; 4];
        for (index, pixel) in self.plane.chunks_exact(S::LANES).enumerate() {
            let difference = simd.sub(simd.read(pixel), mean);
            let square = &mut squares[index % 4];
            *square = simd.mul_add(difference, difference, *square);
        }
        simd.write(sum, self.sum);
        let square = simd.add(
            simd.add(squares[0], squares[1]),
            simd.add(squares[2], squares[3]),
        );
        simd.write(square, self.square);
    }
}

/// `y = rectifier(factor · z + offset + residual)` for one plane.
struct PlaneAffine<'a> {
    z: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    residual: Option<&'a [f32]>,
    bounds: Bounds,
    y: &'a mut [f32],
}

impl Kernel for PlaneAffine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (factor, offset) = (simd.read(self.factor), simd.read(self.offset));
        let (low, high) = (simd.splat(self.bounds.low), simd.splat(self.bounds.high));
        let pixels = self
            .z
            .chunks_exact(S::LANES)
            .zip(self.y.chunks_exact_mut(S::LANES));
        // The bounds come second: a value that is not a number must stay one, so that divergence is seen.
        match self.residual {
            None => {
                for (z, y) in pixels {
                    let value = simd.mul_add(simd.read(z), factor, offset);
                    simd.write(simd.min(high, simd.max(low, value)), y);
                }
            }
            Some(residual) => {
                for ((z, y), residual) in pixels.zip(residual.chunks_exact(S::LANES)) {
                    let value = simd.add(
                        simd.mul_add(simd.read(z), factor, offset),
                        simd.read(residual),
                    );
                    simd.write(simd.min(high, simd.max(low, value)), y);
                }
            }
        }
    }
}

/// The way back, from dY (behind the rectifier) to dZ.
///
/// With g = dY where the rectifier was open and x̂ = (Z − mean) / √(variance + ε): dBias = Σ g, dScale = Σ g·x̂ and
/// dZ = scale / √(variance + ε) · (g − dBias / M − x̂ · dScale / M), M values in each channel (Ioffe and Szegedy, 2015).
#[derive(Clone, Copy)]
pub struct BatchNormBackward<'a> {
    /// Sizes and constants.
    pub norm: Normalisation,
    /// Gradient behind the rectifier, blocked.
    pub dy: &'a [f32],
    /// Input of the normalisation, blocked.
    pub z: &'a [f32],
    /// What came out of the rectifier, if there is one.
    pub y: Option<&'a [f32]>,
    /// `[C]`.
    pub scale: &'a [f32],
    /// `[C]`, of the batch.
    pub mean: &'a [f32],
    /// `[C]`, 1 / √(variance + ε) of the batch.
    pub inverse_deviation: &'a [f32],
}

impl BatchNormBackward<'_> {
    /// Writes dZ into `dz` and returns dScale and dBias. `partial` is working memory that is kept between calls.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn run(
        &self,
        instructions: Instructions,
        dz: &mut [f32],
        partial: &mut Vec<f32>,
        workers: &dyn Workers,
    ) -> [Vec<f32>; 2] {
        let norm = &self.norm;
        let block = instructions.block();
        assert!(norm.channels.is_multiple_of(block) && norm.pixels > 0);
        assert!(
            [self.dy.len(), self.z.len(), dz.len()]
                .iter()
                .all(|&len| len == norm.len())
        );
        assert!(self.y.is_none_or(|y| y.len() == norm.len()));
        let per_channel = [self.scale, self.mean, self.inverse_deviation];
        assert!(
            per_channel
                .iter()
                .all(|values| values.len() == norm.channels)
        );

        // For each image: Σ g [C], then Σ g·(Z − mean) [C].
        let plane = block * norm.pixels;
        let image_len = norm.channels * norm.pixels;
        partial.clear();
        partial.resize(norm.images * norm.channels * 2, 0.0);
        let pieces = Pieces::new(partial, norm.channels * 2);
        let planes = |image: usize, block_index: usize| {
            let start = image * image_len + block_index * plane;
            GradientPlane {
                dy: &self.dy[start..start + plane],
                z: &self.z[start..start + plane],
                y: self.y.map(|y| &y[start..start + plane]),
                bounds: norm.bounds,
                mean: &self.mean[block_index * block..(block_index + 1) * block],
            }
        };
        workers.for_each(pieces.count(), &|image| {
            pieces.with(image, |partial| {
                let (sums, products) = partial.split_at_mut(norm.channels);
                let results = sums
                    .chunks_exact_mut(block)
                    .zip(products.chunks_exact_mut(block));
                for (block_index, (sum, product)) in results.enumerate() {
                    instructions.run(PlaneSums {
                        plane: planes(image, block_index),
                        sum,
                        product,
                    });
                }
            });
        });
        drop(pieces);

        let values = norm.values_per_channel();
        let [mut d_scale, mut d_bias] = [Vec::new(), Vec::new()];
        // dZ = slope · g + curve · (Z − mean) + level.
        let [mut slopes, mut curves, mut levels] = [Vec::new(), Vec::new(), Vec::new()];
        for channel in 0..norm.channels {
            let sum = |offset: usize| -> f64 {
                partial
                    .chunks_exact(norm.channels * 2)
                    .map(|image| f64::from(image[offset + channel]))
                    .sum()
            };
            let (bias, products) = (sum(0), sum(norm.channels));
            let inverse = f64::from(self.inverse_deviation[channel]);
            let slope = f64::from(self.scale[channel]) * inverse;
            d_scale.push((products * inverse) as f32);
            d_bias.push(bias as f32);
            slopes.push(slope as f32);
            curves.push((-slope * inverse * inverse * products / values) as f32);
            levels.push((-slope * bias / values) as f32);
        }
        let pieces = Pieces::new(dz, image_len);
        workers.for_each(pieces.count(), &|image| {
            pieces.with(image, |dz| {
                for (block_index, dz) in dz.chunks_exact_mut(plane).enumerate() {
                    let channels = block_index * block..(block_index + 1) * block;
                    instructions.run(PlaneGradient {
                        plane: planes(image, block_index),
                        slope: &slopes[channels.clone()],
                        curve: &curves[channels.clone()],
                        level: &levels[channels],
                        dz,
                    });
                }
            });
        });
        [d_scale, d_bias]
    }
}

/// One plane `[H, W, B]` of what comes in on the way back.
struct GradientPlane<'a> {
    dy: &'a [f32],
    z: &'a [f32],
    y: Option<&'a [f32]>,
    bounds: Bounds,
    mean: &'a [f32],
}

impl GradientPlane<'_> {
    /// Calls `visit` with the index, g and Z − mean of each pixel.
    #[inline(always)]
    fn for_each<S: Simd>(&self, simd: S, mut visit: impl FnMut(usize, S::Vector, S::Vector)) {
        let mean = simd.read(self.mean);
        let (low, high) = (simd.splat(self.bounds.low), simd.splat(self.bounds.high));
        let pixels = self
            .dy
            .chunks_exact(S::LANES)
            .zip(self.z.chunks_exact(S::LANES))
            .enumerate();
        match self.y {
            None => {
                for (index, (dy, z)) in pixels {
                    visit(index, simd.read(dy), simd.sub(simd.read(z), mean));
                }
            }
            Some(y) => {
                for ((index, (dy, z)), y) in pixels.zip(y.chunks_exact(S::LANES)) {
                    let y = simd.read(y);
                    let open =
                        simd.where_greater(high, y, simd.where_greater(y, low, simd.read(dy)));
                    visit(index, open, simd.sub(simd.read(z), mean));
                }
            }
        }
    }
}

struct PlaneSums<'a> {
    plane: GradientPlane<'a>,
    sum: &'a mut [f32],
    product: &'a mut [f32],
}

impl Kernel for PlaneSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sums = [simd.splat(0.0); 4];
        let mut products = [simd.splat(0.0); 4];
        self.plane.for_each(
            simd,
            #[inline(always)]
            |index, gradient, deviation| {
                sums[index % 4] = simd.add(sums[index % 4], gradient);
                products[index % 4] = simd.mul_add(gradient, deviation, products[index % 4]);
            },
        );
        simd.write(
            simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])),
            self.sum,
        );
        let product = simd.add(
            simd.add(products[0], products[1]),
            simd.add(products[2], products[3]),
        );
        simd.write(product, self.product);
    }
}

struct PlaneGradient<'a> {
    plane: GradientPlane<'a>,
    slope: &'a [f32],
    curve: &'a [f32],
    level: &'a [f32],
    dz: &'a mut [f32],
}

impl Kernel for PlaneGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (slope, curve, level) = (
            simd.read(self.slope),
            simd.read(self.curve),
            simd.read(self.level),
        );
        let dz = self.dz;
        self.plane.for_each(
            simd,
            #[inline(always)]
            |index, gradient, deviation| {
                let value = simd.mul_add(slope, gradient, simd.mul_add(curve, deviation, level));
                simd.write(value, &mut dz[index * S::LANES..(index + 1) * S::LANES]);
            },
        );
    }
}
