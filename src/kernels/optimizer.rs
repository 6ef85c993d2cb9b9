//! Steps of optimizers, in one pass over a parameter.

use super::workers::{Pieces, Workers};

/// Values per piece of work.
const PIECE: usize = 32 * 1024;

/// Stochastic gradient descent with Nesterov momentum μ and weight decay λ: g' = g + λ·w, v' = μ·v + g', update = g' + μ·v'.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NesterovStep {
    /// μ.
    pub momentum: f32,
    /// λ.
    pub weight_decay: f32,
}

impl NesterovStep {
    /// Writes the update and the new velocity. All slices have one value per weight.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn run(
        &self,
        [weight, gradient, velocity]: [&[f32]; 3],
        [update, new_velocity]: [&mut [f32]; 2],
        workers: &dyn Workers,
    ) {
        let len = weight.len();
        assert!(
            [
                gradient.len(),
                velocity.len(),
                update.len(),
                new_velocity.len()
            ] == [len; 4]
        );
        let updates = Pieces::new(update, PIECE);
        let velocities = Pieces::new(new_velocity, PIECE);
        workers.for_each(updates.count(), &|index| {
            updates.with(index, |update| {
                velocities.with(index, |new_velocity| {
                    let range = index * PIECE..index * PIECE + update.len();
                    let state = weight[range.clone()]
                        .iter()
                        .zip(&gradient[range.clone()])
                        .zip(&velocity[range]);
                    let results = update.iter_mut().zip(new_velocity.iter_mut());
                    for (((weight, gradient), velocity), (update, new_velocity)) in
                        state.zip(results)
                    {
                        let decayed = gradient + self.weight_decay * weight;
                        *new_velocity = self.momentum * velocity + decayed;
                        *update = decayed + self.momentum * *new_velocity;
                    }
                });
            });
        });
    }
}
