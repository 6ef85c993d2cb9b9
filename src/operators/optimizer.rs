//! `NesterovStep(weight, gradient, velocity) → update, new velocity`.

use ort::operator::ComputeContext;

use crate::kernels::NesterovStep;

use super::attributes::required;
use super::tensors::{Threads, floats, floats_mut, input, output_like};
use super::{Compute, CustomOperator, Operand};

pub(super) const NESTEROV_STEP: CustomOperator = CustomOperator {
    name: "NesterovStep",
    inputs: &[Operand::Floats; 3],
    outputs: &[Operand::Floats; 2],
    create: |context| {
        Ok(Box::new(Step(NesterovStep {
            momentum: required(context, "momentum")?,
            weight_decay: required(context, "weight_decay")?,
        })))
    },
};

struct Step(NesterovStep);

impl Compute for Step {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (weight, gradient, velocity) =
            (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let mut update = output_like(context, 0, &weight)?;
        let mut new_velocity = output_like(context, 1, &weight)?;
        self.0.run(
            [floats(&weight)?, floats(&gradient)?, floats(&velocity)?],
            [floats_mut(&mut update)?, floats_mut(&mut new_velocity)?],
            &Threads(context),
        );
        Ok(())
    }
}
