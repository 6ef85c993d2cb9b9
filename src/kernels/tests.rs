//! Every kernel, on every set of instructions that this machine has, against definitions written down in double precision.

use proptest::prelude::*;

use super::{
    BatchNormBackward, BatchNormForward, Bounds, CLOSED, ConvMaxPool, Convolution, Instructions,
    Normalisation, PooledGradient, Pooling, Workers, channel_sums, input_gradient, max_pool,
    max_pool_gradient, pooled_input_gradient, pooled_weight_gradient, rectifier_gradient,
    weight_gradient,
};

/// One piece after the other, last one first: nothing may depend on the order.
struct Backwards;

impl Workers for Backwards {
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).rev().for_each(work);
    }
}

/// As many threads as pieces.
struct Threads;

impl Workers for Threads {
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for index in 0..count {
                scope.spawn(move || work(index));
            }
        });
    }
}

/// The vector instructions of this machine, and the scalar fallback for both block sizes.
fn all_instructions() -> Vec<Instructions> {
    let mut all = vec![Instructions::Scalar8, Instructions::Scalar16];
    all.extend(
        [8, 16]
            .into_iter()
            .filter_map(Instructions::detect)
            .filter(|found| !matches!(found, Instructions::Scalar8 | Instructions::Scalar16)),
    );
    all
}

/// Values in ±1 that look random and are the same every time.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

/// `[N, C, pixels]` to `[N, C / B, pixels, B]`.
fn blocked<T: Copy + Default>(plain: &[T], channels: usize, pixels: usize, block: usize) -> Vec<T> {
    let mut out = vec![T::default(); plain.len()];
    for (index, value) in plain.iter().enumerate() {
        let (image, channel, pixel) = (
            index / pixels / channels,
            index / pixels % channels,
            index % pixels,
        );
        let target = ((image * channels / block + channel / block) * pixels + pixel) * block;
        out[target + channel % block] = *value;
    }
    out
}

/// The other way round.
fn plain(values: &[f32], channels: usize, pixels: usize, block: usize) -> Vec<f32> {
    let index: Vec<u32> = (0..values.len() as u32).collect();
    let places = blocked(&index, channels, pixels, block);
    let mut out = vec![0.0; values.len()];
    for (value, place) in values.iter().zip(places) {
        out[place as usize] = *value;
    }
    out
}

fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (f64::from(*found) - expected).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|value| value * value).sum();
    (error / norm.max(1e-12)).sqrt()
}

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    let error = relative_error(found, expected);
    assert!(error < 2e-6, "{what}: relative L2 error {error:e}");
}

/// Calls `visit(y, x, w)` with the index of the output, the input and the weight of every product of a convolution, plain.
fn for_each_product(conv: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let [height, width] = conv.in_size;
    let [out_height, out_width] = conv.out_size;
    let inputs = if conv.depthwise { 1 } else { conv.in_channels };
    for image in 0..conv.images {
        for output in 0..conv.out_channels {
            for input in 0..inputs {
                for tap in 0..conv.kernel[0] * conv.kernel[1] {
                    let (kh, kw) = (tap / conv.kernel[1], tap % conv.kernel[1]);
                    for pixel in 0..out_height * out_width {
                        let (oh, ow) = (pixel / out_width, pixel % out_width);
                        let ih = (oh * conv.strides[0] + kh * conv.dilations[0])
                            .wrapping_sub(conv.padding[0]);
                        let iw = (ow * conv.strides[1] + kw * conv.dilations[1])
                            .wrapping_sub(conv.padding[1]);
                        if ih >= height || iw >= width {
                            continue;
                        }
                        let channel = if conv.depthwise { output } else { input };
                        let y =
                            (image * conv.out_channels + output) * out_height * out_width + pixel;
                        let x = ((image * conv.in_channels + channel) * height + ih) * width + iw;
                        let w = (output * inputs + input) * conv.kernel[0] * conv.kernel[1] + tap;
                        visit(y, x, w);
                    }
                }
            }
        }
    }
}

fn out_size(conv: &Convolution) -> [usize; 2] {
    std::array::from_fn(|axis| {
        let reach = (conv.kernel[axis] - 1) * conv.dilations[axis] + 1;
        (conv.in_size[axis] + 2 * conv.padding[axis] - reach) / conv.strides[axis] + 1
    })
}

fn convolutions() -> impl Strategy<Value = Convolution> {
    let kernel = prop_oneof![Just([3, 3]), Just([1, 1]), Just([5, 5]), Just([2, 3])];
    let channels = prop_oneof![
        Just((16, 32)),
        Just((32, 16)),
        Just((16, 16)),
        Just((1, 16)),
        Just((3, 16))
    ];
    let sizes = (1..3_usize, 5..12_usize, 5..12_usize);
    let steps = (1..3_usize, 1..3_usize, 1..3_usize);
    (kernel, channels, sizes, steps, 0..3_usize, any::<bool>()).prop_map(
        |(
            kernel,
            (in_channels, out_channels),
            (images, height, width),
            steps,
            padding,
            depthwise,
        )| {
            let depthwise = depthwise && in_channels == out_channels;
            let dilations = if kernel == [3, 3] && steps.2 == 2 && height > 5 && width > 5 {
                [2, 2]
            } else {
                [1, 1]
            };
            let mut conv = Convolution {
                images,
                in_channels,
                out_channels,
                in_size: [height, width],
                out_size: [0, 0],
                kernel,
                strides: [steps.0, steps.1],
                padding: [padding.min(kernel[0] - 1), padding.min(kernel[1] - 1)],
                dilations,
                depthwise,
            };
            conv.out_size = out_size(&conv);
            conv
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn convolution_gradients_are_those_of_the_definition(conv in convolutions()) {
        let (dy, x) = (noise(conv.out_len(), 1), noise(conv.in_len(), 2));
        let weight = noise(conv.weight_len(), 3);
        let mut dw_expected = vec![0.0; conv.weight_len()];
        let mut dx_expected = vec![0.0; conv.in_len()];
        for_each_product(&conv, |y, i, w| {
            dw_expected[w] += f64::from(dy[y]) * f64::from(x[i]);
            dx_expected[i] += f64::from(dy[y]) * f64::from(weight[w]);
        });
        let (in_pixels, out_pixels) = (conv.in_size[0] * conv.in_size[1], conv.out_size[0] * conv.out_size[1]);
        for instructions in all_instructions() {
            let block = instructions.block();
            let dy = blocked(&dy, conv.out_channels, out_pixels, block);
            let is_plain = conv.in_channels < block;
            let x = if is_plain { x.clone() } else { blocked(&x, conv.in_channels, in_pixels, block) };
            let mut dw = vec![f32::NAN; conv.weight_len()];
            weight_gradient(instructions, &conv, &dy, &x, &mut dw, &mut Vec::new(), &Backwards);
            assert_close(&dw, &dw_expected, &format!("dW, {instructions:?}, {conv:?}"));
            let mut again = vec![f32::NAN; conv.weight_len()];
            weight_gradient(instructions, &conv, &dy, &x, &mut again, &mut vec![7.0; 5], &Threads);
            prop_assert_eq!(dw, again);

            if !is_plain {
                let mut dx = vec![f32::NAN; conv.in_len()];
                input_gradient(instructions, &conv, &dy, &weight, &mut dx, &mut Vec::new(), &Threads);
                let dx = plain(&dx, conv.in_channels, in_pixels, block);
                assert_close(&dx, &dx_expected, &format!("dX, {instructions:?}, {conv:?}"));
            }
        }
    }

    #[test]
    fn the_sparse_gradients_equal_the_dense_ones(
        conv in convolutions(), window in 1..4_usize, rectify: bool, seed: u32,
    ) {
        prop_assume!(!conv.depthwise && conv.dilations == [1, 1]);
        prop_assume!(conv.out_size[0] >= window && conv.out_size[1] >= window);
        let pooling = Pooling {
            images: conv.images,
            channels: conv.out_channels,
            in_size: conv.out_size,
            out_size: [conv.out_size[0] / window, conv.out_size[1] / window],
            window: [window, window],
            strides: [window, window],
            padding: [0, 0],
        };
        let weight = noise(conv.weight_len(), seed ^ 3);
        for instructions in all_instructions() {
            let block = instructions.block();
            let z = noise(conv.out_len(), seed);
            let gradient = noise(pooling.out_len(), seed ^ 1);
            let x = noise(conv.in_len(), seed ^ 2);
            let mut pooled = vec![0.0; pooling.out_len()];
            let mut winners = vec![0; pooling.out_len()];
            max_pool(instructions, &pooling, rectify, &z, &mut pooled, &mut winners, &Threads);
            let mut dy = vec![f32::NAN; conv.out_len()];
            max_pool_gradient(instructions, &pooling, &gradient, &winners, &mut dy, &Backwards);
            let sparse = PooledGradient { pooling: &pooling, gradient: &gradient, winners: &winners };

            let mut dense_dw = vec![0.0; conv.weight_len()];
            weight_gradient(instructions, &conv, &dy, &x, &mut dense_dw, &mut Vec::new(), &Backwards);
            let mut dw = vec![f32::NAN; conv.weight_len()];
            pooled_weight_gradient(instructions, &conv, sparse, &x, &mut dw, &Threads);
            let expected: Vec<f64> = dense_dw.into_iter().map(f64::from).collect();
            assert_close(&dw, &expected, &format!("dW, {instructions:?}, {conv:?}, window {window}"));

            // The bias: each window hands its whole gradient on, unless the rectifier was closed.
            let open = Bounds { low: if rectify { 0.0 } else { f32::NEG_INFINITY }, high: f32::INFINITY };
            let pixels = pooling.out_size[0] * pooling.out_size[1];
            let rectifier = Some((pooled.as_slice(), open));
            let sums = channel_sums(instructions, conv.out_channels, pixels, &gradient, rectifier, &Threads);
            let pixels = conv.out_size[0] * conv.out_size[1];
            let expected = channel_sums(instructions, conv.out_channels, pixels, &dy, None, &Backwards);
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert_close(&sums, &expected, "dBias");

            if conv.in_channels >= block {
                let mut dense_dx = vec![0.0; conv.in_len()];
                input_gradient(instructions, &conv, &dy, &weight, &mut dense_dx, &mut Vec::new(), &Backwards);
                let mut dx = vec![f32::NAN; conv.in_len()];
                pooled_input_gradient(instructions, &conv, sparse, &weight, &mut dx, &mut Vec::new(), &Threads);
                let expected: Vec<f64> = dense_dx.into_iter().map(f64::from).collect();
                assert_close(&dx, &expected, &format!("dX, {instructions:?}, {conv:?}, window {window}"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn convolving_and_pooling_at_once_is_the_same_as_one_after_the_other(
        conv in convolutions(), window in 1..4_usize, stride in 1..4_usize, rectify: bool, with_bias: bool,
    ) {
        prop_assume!(conv.in_channels < 8);
        prop_assume!(conv.out_size[0] >= window && conv.out_size[1] >= window);
        let pooling = Pooling {
            images: conv.images,
            channels: conv.out_channels,
            in_size: conv.out_size,
            out_size: conv.out_size.map(|size| (size - window) / stride + 1),
            window: [window; 2],
            strides: [stride; 2],
            padding: [0; 2],
        };
        let (x, weight, bias) = (noise(conv.in_len(), 1), noise(conv.weight_len(), 2), noise(conv.out_channels, 3));
        let pixels = conv.out_size[0] * conv.out_size[1];
        let mut z = vec![0.0_f64; conv.out_len()];
        if with_bias {
            for (index, value) in z.iter_mut().enumerate() {
                *value = f64::from(bias[index / pixels % conv.out_channels]);
            }
        }
        for_each_product(&conv, |y, i, w| z[y] += f64::from(x[i]) * f64::from(weight[w]));
        let z: Vec<f32> = z.into_iter().map(|value| value as f32).collect();
        for instructions in all_instructions() {
            let z = blocked(&z, conv.out_channels, pixels, instructions.block());
            let (mut expected, mut expected_winners) = (vec![0.0; pooling.out_len()], vec![0; pooling.out_len()]);
            max_pool(instructions, &pooling, rectify, &z, &mut expected, &mut expected_winners, &Backwards);
            let (mut pooled, mut winners) = (vec![f32::NAN; pooling.out_len()], vec![77; pooling.out_len()]);
            let job = ConvMaxPool {
                conv: &conv,
                pooling: &pooling,
                rectify,
                x: &x,
                weight: &weight,
                bias: with_bias.then_some(bias.as_slice()),
            };
            job.run(instructions, &mut pooled, &mut winners, &mut Vec::new(), &Threads);
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert_close(&pooled, &expected, &format!("{instructions:?}, {conv:?}, {pooling:?}"));
            // Sums that differ in the last digit may let another of two equals win.
            let others = winners.iter().zip(&expected_winners).filter(|(a, b)| a != b).count();
            prop_assert!(others * 200 <= winners.len(), "{} of {} winners differ", others, winners.len());
        }
    }
}

#[test]
fn the_first_of_equals_wins_a_window_and_padding_never_does() {
    let pooling = Pooling {
        images: 1,
        channels: 8,
        in_size: [2, 3],
        out_size: [1, 2],
        window: [2, 2],
        strides: [2, 2],
        padding: [0, 1],
    };
    // Channel 0: the two windows see columns 0 and 1, 2. Negative values, so that a padding of zero would win.
    let mut z = vec![-5.0; 6 * 8];
    for (pixel, value) in [-1.0, -3.0, -2.0, -1.0, -4.0, -2.0].into_iter().enumerate() {
        z[pixel * 8] = value;
    }
    let mut pooled = vec![0.0; 2 * 8];
    let mut winners = vec![0; 2 * 8];
    max_pool(
        Instructions::Scalar8,
        &pooling,
        false,
        &z,
        &mut pooled,
        &mut winners,
        &Backwards,
    );
    assert_eq!([pooled[0], pooled[8]], [-1.0, -2.0]);
    assert_eq!([winners[0], winners[8]], [1, 1]);
    max_pool(
        Instructions::Scalar8,
        &pooling,
        true,
        &z,
        &mut pooled,
        &mut winners,
        &Backwards,
    );
    assert_eq!((pooled[0], winners[0]), (0.0, CLOSED));
}

#[test]
fn overlapping_windows_add_their_gradients() {
    let pooling = Pooling {
        images: 1,
        channels: 8,
        in_size: [1, 3],
        out_size: [1, 2],
        window: [1, 2],
        strides: [1, 1],
        padding: [0, 0],
    };
    // The middle pixel wins both windows of every channel.
    let mut z = vec![0.0; 3 * 8];
    z[8..16].fill(1.0);
    let (mut pooled, mut winners, mut dz) = (vec![0.0; 16], vec![0; 16], vec![f32::NAN; 24]);
    max_pool(
        Instructions::Scalar8,
        &pooling,
        false,
        &z,
        &mut pooled,
        &mut winners,
        &Backwards,
    );
    max_pool_gradient(
        Instructions::Scalar8,
        &pooling,
        &[1.0; 16],
        &winners,
        &mut dz,
        &Backwards,
    );
    assert_eq!(dz, [vec![0.0; 8], vec![2.0; 8], vec![0.0; 8]].concat());
}

/// The definition of batch normalisation and its gradients, plain, in double precision.
struct Reference {
    y: Vec<f64>,
    dz: Vec<f64>,
    d_scale: Vec<f64>,
    d_bias: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

fn reference(
    norm: &Normalisation,
    z: &[f32],
    residual: &[f32],
    dy: &[f32],
    scale: &[f32],
    bias: &[f32],
) -> Reference {
    let mut reference = Reference {
        y: vec![0.0; z.len()],
        dz: vec![0.0; z.len()],
        d_scale: vec![],
        d_bias: vec![],
        mean: vec![],
        variance: vec![],
    };
    for channel in 0..norm.channels {
        let indices: Vec<usize> = (0..z.len())
            .filter(|index| index / norm.pixels % norm.channels == channel)
            .collect();
        let count = indices.len() as f64;
        let mean = indices
            .iter()
            .map(|&index| f64::from(z[index]))
            .sum::<f64>()
            / count;
        let variance = indices
            .iter()
            .map(|&index| (f64::from(z[index]) - mean).powi(2))
            .sum::<f64>()
            / count;
        let inverse = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
        let normal = |index: usize| (f64::from(z[index]) - mean) * inverse;
        let (scale, bias) = (f64::from(scale[channel]), f64::from(bias[channel]));
        let (mut d_scale, mut d_bias) = (0.0, 0.0);
        let mut open = vec![];
        for &index in &indices {
            let value = scale * normal(index) + bias + f64::from(residual[index]);
            reference.y[index] =
                value.clamp(f64::from(norm.bounds.low), f64::from(norm.bounds.high));
            let is_open = value > f64::from(norm.bounds.low) && value < f64::from(norm.bounds.high);
            let gradient = if is_open { f64::from(dy[index]) } else { 0.0 };
            d_scale += gradient * normal(index);
            d_bias += gradient;
            open.push(gradient);
        }
        for (&index, gradient) in indices.iter().zip(open) {
            reference.dz[index] =
                scale * inverse * (gradient - d_bias / count - normal(index) * d_scale / count);
        }
        reference.d_scale.push(d_scale);
        reference.d_bias.push(d_bias);
        reference.mean.push(mean);
        reference.variance.push(variance);
    }
    reference
}

#[test]
fn batch_normalisation_is_that_of_the_definition() {
    let relu = Bounds {
        low: 0.0,
        high: f32::INFINITY,
    };
    let relu6 = Bounds {
        low: 0.0,
        high: 0.75,
    };
    for (images, pixels, bounds, offset) in [
        (5, 21, relu, 0.0),
        (1, 1, Bounds::NONE, 0.0),
        (3, 16, relu6, 0.0),
        // A mean a thousand times the deviation.
        (4, 49, Bounds::NONE, 600.0),
    ] {
        let channels = 32;
        let norm = Normalisation {
            images,
            channels,
            pixels,
            epsilon: 1e-5,
            bounds,
        };
        let len = images * channels * pixels;
        let z: Vec<f32> = noise(len, 1).iter().map(|value| value + offset).collect();
        let (residual, dy) = (noise(len, 2), noise(len, 3));
        let (scale, bias) = (noise(channels, 4), noise(channels, 5));
        let expected = reference(&norm, &z, &residual, &dy, &scale, &bias);
        for instructions in all_instructions() {
            let block = instructions.block();
            let what = format!("{instructions:?}, {norm:?}");
            let [z, residual, dy] =
                [&z, &residual, &dy].map(|values| blocked(values, channels, pixels, block));
            let mut y = vec![f32::NAN; len];
            let forward = BatchNormForward {
                norm,
                z: &z,
                scale: &scale,
                bias: &bias,
                residual: Some(&residual),
            };
            let moments = forward.run(instructions, &mut y, &mut Vec::new(), &Threads);
            assert_close(&moments.mean, &expected.mean, &format!("mean, {what}"));
            if images * pixels > 1 {
                let error = relative_error(&moments.variance, &expected.variance);
                // Around zero there is nothing to cancel; far from it, the rounding of the values themselves remains.
                assert!(
                    error < if offset == 0.0 { 2e-6 } else { 1e-5 },
                    "variance, {what}: {error:e}"
                );
            }
            let inverse: Vec<f32> = moments
                .variance
                .iter()
                .map(|variance| 1.0 / (variance + 1e-5).sqrt())
                .collect();
            let backward = BatchNormBackward {
                norm,
                dy: &dy,
                z: &z,
                y: Some(&y),
                scale: &scale,
                mean: &moments.mean,
                inverse_deviation: &inverse,
            };
            let mut dz = vec![f32::NAN; len];
            let [d_scale, d_bias] =
                backward.run(instructions, &mut dz, &mut Vec::new(), &Backwards);
            if offset == 0.0 && images > 1 {
                assert_close(
                    &plain(&y, channels, pixels, block),
                    &expected.y,
                    &format!("Y, {what}"),
                );
                assert_close(
                    &plain(&dz, channels, pixels, block),
                    &expected.dz,
                    &format!("dZ, {what}"),
                );
                assert_close(&d_scale, &expected.d_scale, &format!("dScale, {what}"));
                assert_close(&d_bias, &expected.d_bias, &format!("dBias, {what}"));
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so_and_divergence_is_seen() {
    let norm = Normalisation {
        images: 1,
        channels: 16,
        pixels: 2,
        epsilon: 1e-5,
        bounds: Bounds {
            low: 0.0,
            high: 6.0,
        },
    };
    let z = vec![f32::NAN; 32];
    for instructions in all_instructions() {
        let forward = BatchNormForward {
            norm,
            z: &z,
            scale: &[1.0; 16],
            bias: &[0.0; 16],
            residual: None,
        };
        let mut y = vec![0.0; 32];
        forward.run(instructions, &mut y, &mut Vec::new(), &Backwards);
        assert!(y.iter().all(|value| value.is_nan()), "{instructions:?}");
    }
}

#[test]
fn a_rectifier_lets_gradients_through_strictly_between_its_bounds() {
    let mut y = [0.5; 16];
    y[..6].copy_from_slice(&[-1.0, 0.0, 0.5, 6.0, 7.0, f32::NAN]);
    let bounds = Bounds {
        low: 0.0,
        high: 6.0,
    };
    for instructions in all_instructions() {
        let mut dx = [f32::NAN; 16];
        rectifier_gradient(instructions, bounds, &[2.0; 16], &y, &mut dx, &Backwards);
        assert_eq!(dx[..6], [0.0, 0.0, 2.0, 0.0, 0.0, 0.0], "{instructions:?}");
        assert_eq!(dx[6..], [2.0; 10], "{instructions:?}");
    }
}

#[test]
fn there_are_kernels_for_blocks_of_8_and_16_only() {
    assert_eq!(Instructions::detect(8).map(Instructions::block), Some(8));
    assert_eq!(Instructions::detect(16).map(Instructions::block), Some(16));
    assert_eq!(Instructions::detect(4), None);
}
