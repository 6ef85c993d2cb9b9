//! Networks as text, shape errors, names and the sizes networks can be built for.

use std::collections::HashSet;

use catalog::graph::{Conv2d, Graph, Initializer, Pool2d, Role, Shape, TensorType};
use catalog::network::{self, Architecture, ResnetOptions, SeedOptions, Task, VggOptions};

fn task(height: usize, width: usize, channels: usize) -> Task {
    Task {
        height,
        width,
        channels,
        classes: 10,
        mean: vec![73.0; channels],
        deviation: vec![90.0; channels],
    }
}

fn seed() -> Architecture {
    Architecture::Seed(SeedOptions::default())
}

fn resnet() -> Architecture {
    Architecture::Resnet(ResnetOptions::default())
}

fn vgg(batch_norm: bool) -> Architecture {
    Architecture::Vgg(VggOptions {
        batch_norm,
        ..VggOptions::default()
    })
}

#[test]
fn the_network_of_the_study_as_text() {
    let network = network::build(&seed(), &task(28, 28, 1)).unwrap();
    insta::assert_snapshot!(network.graph, @r"
    input images: u8[N,28,28,1]
    parameter stage0.conv.weight: f32[32,1,3,3] = he_normal(fan_in=9) (weight)
    parameter stage0.conv.bias: f32[32] = 0.0 (bias or norm)
    parameter stage1.conv.weight: f32[64,32,3,3] = he_normal(fan_in=288) (weight)
    parameter stage1.conv.bias: f32[64] = 0.0 (bias or norm)
    parameter dense0.dense.weight: f32[128,3136] = he_normal(fan_in=3136) (weight)
    parameter dense0.dense.bias: f32[128] = 0.0 (bias or norm)
    parameter head.dense.weight: f32[10,128] = lecun_uniform(fan_in=128) (weight)
    parameter head.dense.bias: f32[10] = 0.0 (bias or norm)
    normalise.reshape: u8[N,1,28,28] = reshape(images)
    normalise.cast: f32[N,1,28,28] = cast(normalise.reshape)
    normalise.mul: f32[N,1,28,28] = mul(normalise.cast, 0.011111111)
    normalise.add: f32[N,1,28,28] = add(normalise.mul, -0.81111115)
    stage0.conv.conv: f32[N,32,28,28] = conv(normalise.add, stage0.conv.weight, stage0.conv.bias) strides=[1, 1] padding=[1, 1, 1, 1] dilations=[1, 1] groups=1
    stage0.max_pool: f32[N,32,14,14] = max_pool(stage0.conv.conv) kernel=[2, 2] strides=[2, 2] padding=[0, 0, 0, 0]
    stage0.relu: f32[N,32,14,14] = relu(stage0.max_pool)
    stage1.conv.conv: f32[N,64,14,14] = conv(stage0.relu, stage1.conv.weight, stage1.conv.bias) strides=[1, 1] padding=[1, 1, 1, 1] dilations=[1, 1] groups=1
    stage1.max_pool: f32[N,64,7,7] = max_pool(stage1.conv.conv) kernel=[2, 2] strides=[2, 2] padding=[0, 0, 0, 0]
    stage1.relu: f32[N,64,7,7] = relu(stage1.max_pool)
    reshape: f32[N,3136] = reshape(stage1.relu)
    dense0.dense.gemm: f32[N,128] = gemm(reshape, dense0.dense.weight, dense0.dense.bias) transpose_a=false transpose_b=true
    dense0.relu: f32[N,128] = relu(dense0.dense.gemm)
    dense0.dropout: f32[N,128] = dropout(dense0.relu) ratio=0.3
    head.dense.gemm: f32[N,10] = gemm(dense0.dropout, head.dense.weight, head.dense.bias) transpose_a=false transpose_b=true
    ");
}

#[test]
fn figures_of_the_networks() {
    let figures = |architecture: Architecture| {
        let graph = network::build(&architecture, &task(28, 28, 1))
            .unwrap()
            .graph;
        (graph.trained_scalars(), graph.flops_per_image())
    };
    // 3·3·32 + 32, 3·3·32·64 + 64, 7·7·64·128 + 128, 128·10 + 10.
    let scalars = 320 + 18_496 + 401_536 + 1_290;
    let flops = 2 * (288 * 28 * 28 + 18_432 * 14 * 14 + 401_408 + 1_280);
    assert_eq!(figures(seed()), (scalars, flops));
    assert!(figures(resnet()).0 > 100_000);
    // Weights of the five convolutions, a bias or a scale and a bias for each filter, 128·10 + 10; multiplications of the five
    // convolutions and of the last layer.
    let weights = 288 + 9_216 + 18_432 + 36_864 + 73_728;
    let filters = 32 + 32 + 64 + 64 + 128;
    let flops =
        2 * ((288 + 9_216) * 28 * 28 + (18_432 + 36_864) * 14 * 14 + 73_728 * 7 * 7 + 1_280);
    assert_eq!(figures(vgg(false)), (weights + filters + 1_290, flops));
    let normalised = figures(vgg(true));
    assert_eq!(normalised.0, weights + 2 * filters + 1_290);
    assert_eq!((flops + 500_000) / 1_000_000, 44);
}

#[test]
fn all_networks_fit_every_image_size() {
    for (height, width, channels) in [(1, 1, 3), (5, 7, 1), (7, 5, 3), (28, 28, 1), (224, 160, 3)] {
        for architecture in [seed(), resnet(), vgg(false), vgg(true)] {
            let network = network::build(&architecture, &task(height, width, channels))
                .unwrap_or_else(|error| panic!("{height}×{width}×{channels}: {error}"));
            let shape = |id| network.graph.shape(id).clone();
            assert_eq!(
                shape(network.images),
                Shape::batch(&[height, width, channels])
            );
            assert_eq!(shape(network.logits), Shape::batch(&[10]));
        }
    }
}

#[test]
fn names_are_unique_and_the_same_every_time() {
    for architecture in [seed(), resnet(), vgg(false), vgg(true)] {
        let build = || {
            network::build(&architecture, &task(28, 28, 3))
                .unwrap()
                .graph
        };
        let graph = build();
        assert_eq!(graph, build());
        let mut names = HashSet::new();
        for value in graph.values() {
            assert!(names.insert(value.name.as_str()), "{} twice", value.name);
        }
    }
}

#[test]
fn shape_errors_name_the_node_and_the_shapes() {
    let mut graph = Graph::new();
    let images = graph.input("images", TensorType::f32(Shape::batch(&[3, 8, 6])));
    let weight = graph.parameter(
        "weight",
        &[4, 2, 3, 3],
        Role::Weight,
        Initializer::Constant(0.0),
    );
    let vector = graph.parameter("vector", &[5], Role::BiasOrNorm, Initializer::Constant(0.0));
    let errors = [
        graph
            .scoped("stem", |graph| {
                graph.conv(images, weight, None, Conv2d::same(3))
            })
            .unwrap_err(),
        graph.add(images, vector).unwrap_err(),
        graph.max_pool(images, Pool2d::square(9)).unwrap_err(),
        graph.dense(images, weight, vector).unwrap_err(),
        graph.reshape(vector, Shape::fixed(&[2, 3])).unwrap_err(),
        graph.concat(&[images, vector], 1).unwrap_err(),
    ];
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    node `stem.conv`: 3 channels and 4 outputs in 1 groups do not fit weights [4,2,3,3] (inputs: images: f32[N,3,8,6], weight: f32[4,2,3,3])
    node `add`: shapes [N,3,8,6] and [5] do not broadcast (inputs: images: f32[N,3,8,6], vector: f32[5])
    node `max_pool`: a window of 9 does not fit 8 with 0 of padding (inputs: images: f32[N,3,8,6])
    node `gemm`: needs a matrix, not [N,3,8,6] (inputs: images: f32[N,3,8,6], weight: f32[4,2,3,3], vector: f32[5])
    node `reshape`: 5 elements cannot take the shape [2,3] (inputs: vector: f32[5])
    node `concat`: cannot be joined along axis 1 (inputs: images: f32[N,3,8,6], vector: f32[5])
    ");
    // What failed left nothing behind.
    assert!(graph.nodes().is_empty());
}
