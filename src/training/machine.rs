//! Where a training computes.

use anyhow::{Result, bail};
use ort::environment::Environment;
use ort::ep;
use ort::session::builder::SessionBuilder;
use pipeline::model::Device;

/// Where a training computes.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// What sessions are made in.
    pub environment: &'a Environment,
    /// The device, which has to be ready: its libraries are loaded.
    pub device: Device,
}

impl<'a> From<&'a Environment> for Machine<'a> {
    fn from(environment: &'a Environment) -> Self {
        Self {
            environment,
            device: Device::Cpu,
        }
    }
}

impl Machine<'_> {
    /// Makes sessions compute on the device, or fail.
    ///
    /// # Errors
    /// When ONNX Runtime cannot use it.
    pub(super) fn place(&self, builder: SessionBuilder) -> Result<SessionBuilder> {
        match self.device {
            Device::Cpu => Ok(builder),
            Device::Cuda(number) => {
                let cuda = ep::CUDA::default().with_device_id(i32::try_from(number)?);
                Ok(builder
                    .with_execution_providers([cuda.build().error_on_failure()])
                    .map_err(ort::Error::<()>::from)?)
            }
            Device::TensorRt(_) => bail!("TensorRT does not train"),
        }
    }
}
