//! Every operation's gradient against central differences, both computed by ONNX Runtime.
//!
//! The loss is a fixed random mixture of the operation's outputs; each input element in turn is moved by ±h. Inputs that feed
//! a kink (rectifiers, maxima) are spaced further apart than h, so that no difference straddles one.

use catalog::autodiff::differentiate;
use catalog::graph::{
    Axes, BatchNorm, Conv2d, ElementType, Graph, Initializer, Op, Pool2d, Role, Shape, ShapeError,
    Tensor, TensorType, ValueId,
};
use catalog::lowering::{self, Formulation, Mode, Parameters, Targets};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor as OrtTensor;
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Random;

use crate::runtime;

/// Values of the inputs of a check.
#[derive(Clone, Copy)]
enum Values {
    /// Uniform on ±1.
    Smooth,
    /// A shuffled grid with steps of 0.1 and none within 0.05 of a whole number.
    Spaced,
    /// Uniform on 0.5 to 1.5.
    Positive,
}

struct Check {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    values: Values,
    build: fn(&mut Graph, &[ValueId]) -> Result<ValueId, ShapeError>,
}

/// Step of the differences. Large enough that float rounding (about 1e-7 of the loss) stays below the tolerance.
const STEP: f32 = 1e-2;
/// Allowed error, relative to the largest gradient element.
const TOLERANCE: f32 = 5e-3;

fn check(
    name: &'static str,
    shapes: &[&[usize]],
    values: Values,
    build: fn(&mut Graph, &[ValueId]) -> Result<ValueId, ShapeError>,
) {
    Check {
        name,
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        values,
        build,
    }
    .run();
}

impl Check {
    fn run(self) {
        let mut random = Random::seed_from_u64(7);
        let mut graph = Graph::new();
        let inputs: Vec<ValueId> = (0..self.shapes.len())
            .map(|index| {
                let shape = &self.shapes[index];
                graph.parameter(
                    &format!("x{index}"),
                    shape,
                    Role::Weight,
                    Initializer::Constant(0.0),
                )
            })
            .collect();
        let output = (self.build)(&mut graph, &inputs).unwrap();
        let loss = mixture(&mut graph, output, &mut random);
        let gradients = differentiate(&mut graph, loss, &inputs).unwrap();

        let mut outputs = vec![("loss".to_owned(), loss)];
        outputs.extend(
            gradients
                .iter()
                .enumerate()
                .map(|(index, &id)| (format!("gradient{index}"), id)),
        );
        let targets = Targets {
            outputs,
            effects: vec![],
        };
        let proto = lowering::lower(
            self.name,
            &graph,
            Mode::Training,
            Formulation::Portable,
            &targets,
            Parameters::Inputs,
        )
        .unwrap();
        let mut session = session(&lowering::model(proto).encode_to_vec());

        let mut feeds: Vec<Vec<f32>> = self
            .shapes
            .iter()
            .map(|shape| self.values.draw(shape.iter().product(), &mut random))
            .collect();
        let (_, exact) = self.evaluate(&mut session, &feeds);
        for input in 0..feeds.len() {
            let largest = exact[input]
                .iter()
                .fold(1e-2_f32, |largest, value| largest.max(value.abs()));
            for element in 0..feeds[input].len() {
                let original = feeds[input][element];
                feeds[input][element] = original + STEP;
                let (above, _) = self.evaluate(&mut session, &feeds);
                feeds[input][element] = original - STEP;
                let (below, _) = self.evaluate(&mut session, &feeds);
                feeds[input][element] = original;
                let difference = (above - below) / f64::from(2.0 * STEP);
                let error = (difference - f64::from(exact[input][element])).abs();
                assert!(
                    error <= f64::from(TOLERANCE * largest),
                    "{}: gradient of x{input}[{element}] is {}, differences say {difference}",
                    self.name,
                    exact[input][element]
                );
            }
        }
    }

    fn evaluate(&self, session: &mut Session, feeds: &[Vec<f32>]) -> (f64, Vec<Vec<f32>>) {
        let inputs: Vec<(String, SessionInputValue<'_>)> = feeds
            .iter()
            .enumerate()
            .map(|(index, feed)| {
                let tensor =
                    OrtTensor::from_array((self.shapes[index].clone(), feed.clone())).unwrap();
                (format!("x{index}"), tensor.into())
            })
            .collect();
        let outputs = session.run(inputs).unwrap();
        let floats = |name: &str| {
            outputs[name]
                .try_extract_tensor::<f32>()
                .unwrap()
                .1
                .to_vec()
        };
        let gradients = (0..feeds.len())
            .map(|index| floats(&format!("gradient{index}")))
            .collect();
        (f64::from(floats("loss")[0]), gradients)
    }
}

impl Values {
    fn draw(self, count: usize, random: &mut Random) -> Vec<f32> {
        match self {
            Self::Smooth => (0..count).map(|_| random.random_range(-1.0..1.0)).collect(),
            Self::Positive => (0..count).map(|_| random.random_range(0.5..1.5)).collect(),
            Self::Spaced => {
                let mut grid: Vec<f32> = (0..count)
                    .map(|index| 0.1 * (index as f32 - count as f32 / 2.0).floor() + 0.05)
                    .collect();
                for index in (1..count).rev() {
                    grid.swap(index, random.random_range(0..=index));
                }
                grid
            }
        }
    }
}

/// Σ w·y with fixed random w, so that every output element has a different weight.
fn mixture(graph: &mut Graph, output: ValueId, random: &mut Random) -> ValueId {
    let shape = graph.shape(output).clone();
    let sizes: Vec<usize> = shape
        .dims()
        .iter()
        .map(|dim| match dim {
            catalog::graph::Dim::Fixed(size) | catalog::graph::Dim::Batch(size) => *size,
        })
        .collect();
    let weights = Values::Smooth.draw(sizes.iter().product(), random);
    let weights = graph.constant(Tensor::f32(&sizes, weights));
    let product = graph.mul(output, weights).unwrap();
    let axes: Vec<usize> = (0..sizes.len()).collect();
    graph.reduce_sum(product, Axes::Drop(&axes)).unwrap()
}

fn session(model: &[u8]) -> Session {
    let environment = &runtime::training().environment;
    Session::builder(environment)
        .unwrap()
        .with_intra_threads(1)
        .unwrap()
        .commit_from_memory(model)
        .unwrap()
}

#[test]
fn a_value_used_twice_adds_its_gradients() {
    check("twice", &[&[3]], Values::Smooth, |g, x| {
        let square = g.mul(x[0], x[0])?;
        let sum = g.add(square, x[0])?;
        g.add(sum, x[0])
    });
}

#[test]
fn arithmetic_broadcasts() {
    let shapes: &[&[usize]] = &[&[2, 3, 4], &[3, 1]];
    check("add", shapes, Values::Smooth, |g, x| g.add(x[0], x[1]));
    check("sub", shapes, Values::Smooth, |g, x| g.sub(x[0], x[1]));
    check("sub reversed", shapes, Values::Smooth, |g, x| {
        g.sub(x[1], x[0])
    });
    check("mul", shapes, Values::Smooth, |g, x| g.mul(x[0], x[1]));
    check("div", shapes, Values::Positive, |g, x| g.div(x[0], x[1]));
    check("div reversed", shapes, Values::Positive, |g, x| {
        g.div(x[1], x[0])
    });
    check("scalar", &[&[2, 3], &[]], Values::Smooth, |g, x| {
        g.mul(x[0], x[1])
    });
}

#[test]
fn elementwise_functions() {
    let shape: &[&[usize]] = &[&[3, 5]];
    check("sqrt", shape, Values::Positive, |g, x| g.sqrt(x[0]));
    check("exp", shape, Values::Smooth, |g, x| g.exp(x[0]));
    check("log", shape, Values::Positive, |g, x| g.log(x[0]));
    check("sigmoid", shape, Values::Smooth, |g, x| g.sigmoid(x[0]));
    check("silu", shape, Values::Smooth, |g, x| g.silu(x[0]));
    check("gelu", shape, Values::Smooth, |g, x| g.gelu(x[0]));
    check("relu", shape, Values::Spaced, |g, x| g.relu(x[0]));
    check("leaky relu", shape, Values::Spaced, |g, x| {
        g.leaky_relu(x[0], 0.1)
    });
    check("clip", shape, Values::Spaced, |g, x| {
        g.clip(x[0], -0.5, 0.4)
    });
    check("relu6", &[&[130]], Values::Spaced, |g, x| {
        g.clip(x[0], 0.0, 6.0)
    });
    check("one-sided clip", shape, Values::Spaced, |g, x| {
        g.clip(x[0], f32::NEG_INFINITY, 0.0)
    });
    check("double cast", shape, Values::Smooth, |g, x| {
        g.cast(x[0], ElementType::F32)
    });
}

#[test]
fn convolutions_of_odd_shapes() {
    check(
        "3x3",
        &[&[2, 3, 5, 7], &[4, 3, 3, 3], &[4]],
        Values::Smooth,
        |g, x| g.conv(x[0], x[1], Some(x[2]), Conv2d::same(3)),
    );
    check(
        "1x1 batch 1",
        &[&[1, 3, 4, 2], &[2, 3, 1, 1]],
        Values::Smooth,
        |g, x| g.conv(x[0], x[1], None, Conv2d::same(1)),
    );
    check(
        "stride 2",
        &[&[2, 2, 7, 6], &[3, 2, 3, 3]],
        Values::Smooth,
        |g, x| g.conv(x[0], x[1], None, Conv2d::same(3).with_stride(2)),
    );
    check(
        "stride 2, 1x1",
        &[&[2, 2, 7, 6], &[3, 2, 1, 1]],
        Values::Smooth,
        |g, x| g.conv(x[0], x[1], None, Conv2d::same(1).with_stride(2)),
    );
    check(
        "uneven everything",
        &[&[1, 2, 8, 9], &[2, 2, 2, 3]],
        Values::Smooth,
        |g, x| {
            let conv = Conv2d {
                strides: [2, 1],
                padding: [1, 0, 2, 1],
                dilations: [2, 1],
                groups: 1,
            };
            g.conv(x[0], x[1], None, conv)
        },
    );
    check(
        "two groups",
        &[&[2, 4, 3, 5], &[6, 2, 3, 3], &[6]],
        Values::Smooth,
        |g, x| {
            g.conv(
                x[0],
                x[1],
                Some(x[2]),
                Conv2d {
                    groups: 2,
                    ..Conv2d::same(3)
                },
            )
        },
    );
    check(
        "depthwise",
        &[&[2, 3, 4, 5], &[3, 1, 3, 3]],
        Values::Smooth,
        |g, x| {
            g.conv(
                x[0],
                x[1],
                None,
                Conv2d {
                    groups: 3,
                    ..Conv2d::same(3)
                },
            )
        },
    );
}

#[test]
fn dense_layers_in_every_orientation() {
    check(
        "dense",
        &[&[3, 4], &[2, 4], &[2]],
        Values::Smooth,
        |g, x| g.dense(x[0], x[1], x[2]),
    );
    fn gemm(
        g: &mut Graph,
        x: &[ValueId],
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<ValueId, ShapeError> {
        Ok(g.node(
            Op::Gemm {
                transpose_a,
                transpose_b,
            },
            x,
        )?[0])
    }
    check("gemm nn", &[&[3, 4], &[4, 2]], Values::Smooth, |g, x| {
        gemm(g, x, false, false)
    });
    check("gemm tn", &[&[4, 3], &[4, 2]], Values::Smooth, |g, x| {
        gemm(g, x, true, false)
    });
    check("gemm tt", &[&[4, 3], &[2, 4]], Values::Smooth, |g, x| {
        gemm(g, x, true, true)
    });
    check(
        "matmul",
        &[&[2, 3, 4], &[2, 4, 5]],
        Values::Smooth,
        |g, x| g.matmul(x[0], x[1]),
    );
}

#[test]
fn pooling() {
    check("max", &[&[2, 3, 4, 6]], Values::Spaced, |g, x| {
        g.max_pool(x[0], Pool2d::square(2))
    });
    check("max, odd size", &[&[1, 2, 5, 7]], Values::Spaced, |g, x| {
        g.max_pool(x[0], Pool2d::square(2))
    });
    check(
        "max, overlapping",
        &[&[2, 2, 5, 4]],
        Values::Spaced,
        |g, x| {
            g.max_pool(
                x[0],
                Pool2d {
                    kernel: [3, 2],
                    strides: [2, 1],
                    padding: [1, 0, 1, 1],
                },
            )
        },
    );
    check("average", &[&[2, 3, 4, 6]], Values::Smooth, |g, x| {
        g.average_pool(x[0], Pool2d::square(2))
    });
    check(
        "average, overlapping",
        &[&[1, 2, 5, 4]],
        Values::Smooth,
        |g, x| {
            g.average_pool(
                x[0],
                Pool2d {
                    kernel: [3, 2],
                    strides: [2, 1],
                    padding: [1, 0, 1, 1],
                },
            )
        },
    );
    check("global", &[&[2, 3, 4, 5]], Values::Smooth, |g, x| {
        g.global_average_pool(x[0])
    });
}

#[test]
fn batch_norm_by_batch_statistics() {
    fn norm(g: &mut Graph, x: &[ValueId]) -> Result<ValueId, ShapeError> {
        let channels = 3;
        let mean = g.constant(Tensor::f32(&[channels], vec![0.0; channels]));
        let variance = g.constant(Tensor::f32(&[channels], vec![1.0; channels]));
        g.batch_norm(x[0], [x[1], x[2], mean, variance], BatchNorm::default())
    }
    check("images", &[&[2, 3, 4, 5], &[3], &[3]], Values::Smooth, norm);
    check(
        "batch 1",
        &[&[1, 3, 3, 2], &[3], &[3]],
        Values::Smooth,
        norm,
    );
    check("rows", &[&[5, 3], &[3], &[3]], Values::Smooth, norm);
}

#[test]
fn shapes_and_reductions() {
    check(
        "concat",
        &[&[2, 3, 2], &[2, 1, 2]],
        Values::Smooth,
        |g, x| g.concat(&[x[0], x[1], x[0]], 1),
    );
    check("slice", &[&[2, 5, 3]], Values::Smooth, |g, x| {
        g.slice(x[0], 1, 1..4)
    });
    check("reverse", &[&[2, 5, 3]], Values::Smooth, |g, x| {
        g.reverse(x[0], 1)
    });
    check("pad", &[&[2, 3]], Values::Smooth, |g, x| {
        g.pad(x[0], &[1, 0], &[2, 3])
    });
    check("flatten", &[&[2, 3, 4]], Values::Smooth, |g, x| {
        g.reshape(x[0], Shape::fixed(&[2, 12]))
    });
    check("transpose", &[&[2, 3, 4]], Values::Smooth, |g, x| {
        g.transpose(x[0], &[2, 0, 1])
    });
    check("sum", &[&[2, 3, 4]], Values::Smooth, |g, x| {
        g.reduce_sum(x[0], Axes::Drop(&[0, 2]))
    });
    check("mean kept", &[&[2, 3, 4]], Values::Smooth, |g, x| {
        g.reduce_mean(x[0], Axes::Keep(&[1]))
    });
    check("mean dropped", &[&[2, 3, 4]], Values::Smooth, |g, x| {
        g.reduce_mean(x[0], Axes::Drop(&[1, 2]))
    });
    check(
        "expand",
        &[&[2, 1, 4], &[2, 3, 4]],
        Values::Smooth,
        |g, x| {
            let expanded = g.expand_like(x[0], x[1])?;
            g.mul(expanded, x[1])
        },
    );
}

#[test]
fn softmax_and_losses() {
    check("softmax", &[&[3, 5]], Values::Smooth, |g, x| {
        g.softmax(x[0])
    });
    check("log softmax", &[&[3, 5]], Values::Smooth, |g, x| {
        g.log_softmax(x[0])
    });
    check(
        "soft targets that do not add up to 1",
        &[&[3, 4], &[3, 4]],
        Values::Positive,
        |g, x| g.soft_cross_entropy(x[0], x[1]),
    );
    check("labels", &[&[4, 3]], Values::Smooth, |g, x| {
        let labels = g.constant(Tensor::i64s(vec![2, 0, 1, 0]));
        g.cross_entropy(x[0], labels, None)
    });
    check(
        "labels with class weights",
        &[&[4, 3]],
        Values::Smooth,
        |g, x| {
            let labels = g.constant(Tensor::i64s(vec![2, 0, 1, 0]));
            let weights = g.constant(Tensor::f32(&[3], vec![0.5, 2.0, 1.5]));
            g.cross_entropy(x[0], labels, Some(weights))
        },
    );
}

#[test]
fn dropout_hands_back_the_gradient_of_what_it_kept() {
    // Each run draws another mask, so differences cannot be taken: the gradient of Σ dropout(x) is 1 / (1 − ratio) where a
    // value was kept and 0 elsewhere, and that is dropout(x) / x.
    let mut graph = Graph::new();
    let x = graph.parameter("x0", &[40, 10], Role::Weight, Initializer::Constant(0.0));
    let dropped = graph.dropout(x, 0.25).unwrap();
    let loss = graph.reduce_sum(dropped, Axes::Drop(&[0, 1])).unwrap();
    let gradient = differentiate(&mut graph, loss, &[x]).unwrap()[0];
    let outputs = vec![
        ("dropped".to_owned(), dropped),
        ("gradient".to_owned(), gradient),
    ];
    let targets = Targets {
        outputs,
        effects: vec![],
    };
    let proto = lowering::lower(
        "dropout",
        &graph,
        Mode::Training,
        Formulation::Portable,
        &targets,
        Parameters::Inputs,
    )
    .unwrap();
    let mut session = session(&lowering::model(proto).encode_to_vec());
    let ones = OrtTensor::from_array(([40_usize, 10], vec![1.0_f32; 400])).unwrap();
    let outputs = session.run(ort::inputs!["x0" => ones]).unwrap();
    let floats = |name: &str| {
        outputs[name]
            .try_extract_tensor::<f32>()
            .unwrap()
            .1
            .to_vec()
    };
    assert_eq!(floats("dropped"), floats("gradient"));
    let kept = floats("gradient")
        .iter()
        .filter(|&&value| value > 0.0)
        .count();
    assert!(
        (250..350).contains(&kept),
        "{kept} of 400 values kept at a ratio of 0.25"
    );
}

#[test]
fn the_mean_over_a_symbolic_batch_divides_by_the_images_of_the_run() {
    let mut graph = Graph::new();
    let x = graph.input("x0", TensorType::f32(Shape::batch(&[2])));
    let loss = graph.reduce_mean(x, Axes::Drop(&[0, 1])).unwrap();
    let gradient = differentiate(&mut graph, loss, &[x]).unwrap()[0];
    let targets = Targets {
        outputs: vec![("gradient".to_owned(), gradient)],
        effects: vec![],
    };
    let proto = lowering::lower(
        "mean",
        &graph,
        Mode::Training,
        Formulation::Portable,
        &targets,
        Parameters::Inputs,
    )
    .unwrap();
    let mut session = session(&lowering::model(proto).encode_to_vec());
    for images in [1_usize, 5] {
        let feed = OrtTensor::from_array(([images, 2], vec![3.0_f32; images * 2])).unwrap();
        let outputs = session.run(ort::inputs!["x0" => feed]).unwrap();
        let found = outputs["gradient"]
            .try_extract_tensor::<f32>()
            .unwrap()
            .1
            .to_vec();
        assert_eq!(found, vec![0.5 / images as f32; images * 2]);
    }
}
