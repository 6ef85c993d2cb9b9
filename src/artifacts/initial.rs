//! What parameters start as.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::graph::{Graph, Initializer};

/// Elements of each parameter, in the order of the graph. Each has a random stream of its own, so adding one does not change
/// the others.
pub fn initial_values(graph: &Graph, seed: u64) -> Vec<Vec<f32>> {
    graph
        .parameters()
        .enumerate()
        .map(|(index, (_, value, parameter))| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(index as u64);
            let count = value.ty.shape.fixed_len().unwrap_or(0);
            match parameter.initializer {
                Initializer::Constant(constant) => vec![constant; count],
                Initializer::HeNormal { fan_in } => {
                    let deviation = (2.0 / fan_in as f32).sqrt();
                    (0..count)
                        .map(|_| deviation * standard_normal(&mut random))
                        .collect()
                }
                Initializer::LecunUniform { fan_in } => {
                    let bound = (1.0 / fan_in as f32).sqrt();
                    (0..count)
                        .map(|_| random.random_range(-bound..bound))
                        .collect()
                }
            }
        })
        .collect()
}

/// Box–Muller: `√(−2 ln u) · cos 2πv` for u in (0, 1], v in [0, 1).
fn standard_normal(random: &mut ChaCha8Rng) -> f32 {
    let u = 1.0 - random.random::<f32>();
    let v = random.random::<f32>();
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
