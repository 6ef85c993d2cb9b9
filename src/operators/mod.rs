//! The custom operators of the blocked formulation, as ONNX Runtime calls them.
//!
//! Each operator reads its attributes once, checks what it is given at every run, and hands slices to [`crate::kernels`]; the
//! threads are ONNX Runtime's own. The operators exist in training sessions only: no exported model contains one.

mod attributes;
mod batch_norm;
mod convolution;
mod optimizer;
mod pooling;
mod rectifier;
mod tensors;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput,
    OperatorOutput,
};
use ort::value::TensorElementType;

/// Domain of the operators.
pub const DOMAIN: &str = "catalog";

/// All operators, to be registered with a session. The domain must live as long as the session.
///
/// # Errors
/// When ONNX Runtime refuses one.
pub fn domain() -> Result<Arc<OperatorDomain>> {
    let all = [
        convolution::PACK_FILTERS,
        convolution::WEIGHT_GRADIENT,
        convolution::INPUT_GRADIENT,
        convolution::POOLED_WEIGHT_GRADIENT,
        convolution::POOLED_INPUT_GRADIENT,
        convolution::CHANNEL_SUM,
        batch_norm::FORWARD,
        batch_norm::GRADIENT,
        pooling::CONV_MAX_POOL,
        pooling::MAX_POOL,
        pooling::MAX_POOL_GRADIENT,
        rectifier::GRADIENT,
        optimizer::NESTEROV_STEP,
    ];
    let mut domain = OperatorDomain::new(DOMAIN)?;
    for operator in all {
        let name = operator.name;
        domain = domain
            .add(operator)
            .with_context(|| format!("registering the operator {name}"))?;
    }
    // `ort` asks for an `Arc`; sessions of one thread share it.
    #[expect(clippy::arc_with_non_send_sync)]
    let domain = Arc::new(domain);
    Ok(domain)
}

/// To be held while ONNX Runtime creates a session with [`domain`].
///
/// ONNX Runtime enters the domain into a table of the process when the first such session is created, and looks whether it is there
/// without a lock: of two threads that create their first sessions at once, one is refused with "the domain is already exist".
pub fn registration() -> MutexGuard<'static, ()> {
    static REGISTRATION: Mutex<()> = Mutex::new(());
    // It guards no data that a panic could leave half written.
    REGISTRATION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one operator is to ONNX Runtime.
struct CustomOperator {
    name: &'static str,
    inputs: &'static [Operand],
    outputs: &'static [Operand],
    /// Reads the attributes of a node.
    create: fn(&KernelContext<'_>) -> ort::Result<Box<dyn Compute>>,
}

/// An input or output.
#[derive(Clone, Copy)]
enum Operand {
    Floats,
    OptionalFloats,
    Bytes,
}

/// The work of one node. Working memory lives in it, so that its pages are touched once and not at every step.
trait Compute: Send {
    /// Reads the inputs and writes the outputs.
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()>;
}

impl Operator for CustomOperator {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        self.inputs.iter().map(|operand| match operand {
            Operand::Floats => OperatorInput::required(TensorElementType::Float32),
            Operand::OptionalFloats => OperatorInput::optional(TensorElementType::Float32),
            Operand::Bytes => OperatorInput::required(TensorElementType::Uint8),
        })
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.outputs.iter().map(|operand| match operand {
            Operand::Floats => OperatorOutput::required(TensorElementType::Float32),
            Operand::OptionalFloats => OperatorOutput::optional(TensorElementType::Float32),
            Operand::Bytes => OperatorOutput::required(TensorElementType::Uint8),
        })
    }

    fn create_kernel<'attr>(
        &self,
        context: &KernelContext<'attr>,
    ) -> ort::Result<BoxedKernel<'attr>> {
        let mut node = (self.create)(context)?;
        let name = self.name;
        let kernel = move |context: &ComputeContext| {
            // The kernels assert what their inner loops rely on; unwinding into ONNX Runtime would end the process.
            catch_unwind(AssertUnwindSafe(|| node.compute(context))).unwrap_or_else(|_| {
                Err(ort::Error::new(format!(
                    "{name}: the sizes do not fit together"
                )))
            })
        };
        Ok(Box::new(kernel))
    }
}
