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
            match &parameter.initializer {
                Initializer::Constant(constant) => vec![*constant; count],
                Initializer::Given(values) => values.to_vec(),
                Initializer::HeNormal { fan_in } => {
                    let deviation = (2.0 / *fan_in as f32).sqrt();
                    (0..count)
                        .map(|_| deviation * standard_normal(&mut random))
                        .collect()
                }
                Initializer::LecunUniform { fan_in } => {
                    let bound = (1.0 / *fan_in as f32).sqrt();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Role;

    fn values(initializer: Initializer) -> Vec<f32> {
        let mut graph = Graph::new();
        graph.parameter("weight", &[100, 100], Role::Weight, initializer);
        initial_values(&graph, 1).remove(0)
    }

    fn mean(values: impl Iterator<Item = f32>) -> f64 {
        let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| {
            (sum + f64::from(value), count + 1.0)
        });
        sum / count
    }

    #[test]
    fn weights_have_the_spread_that_keeps_the_signal() {
        let normal = values(Initializer::HeNormal { fan_in: 50 });
        assert!(mean(normal.iter().copied()).abs() < 0.01);
        let variance = mean(normal.iter().map(|value| value * value));
        assert!((variance / (2.0 / 50.0) - 1.0).abs() < 0.05, "{variance}");

        let uniform = values(Initializer::LecunUniform { fan_in: 25 });
        assert!(uniform.iter().all(|value| value.abs() <= 0.2));
        let variance = mean(uniform.iter().map(|value| value * value));
        assert!((variance / (0.04 / 3.0) - 1.0).abs() < 0.05, "{variance}");
        assert_eq!(values(Initializer::Constant(0.5)), vec![0.5; 10_000]);
    }

    #[test]
    fn a_parameter_more_does_not_change_the_others() {
        let mut graph = Graph::new();
        let he = Initializer::HeNormal { fan_in: 9 };
        graph.parameter("first", &[3, 3], Role::Weight, he.clone());
        let alone = initial_values(&graph, 7);
        graph.parameter("second", &[3, 3], Role::Weight, he);
        let both = initial_values(&graph, 7);
        assert_eq!(both[0], alone[0]);
        assert_ne!(both[0], both[1]);
        assert_ne!(initial_values(&graph, 8)[0], both[0]);
    }
}
