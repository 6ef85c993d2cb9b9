//! Devices as an argument, and whether one can be used.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use pipeline::model::Device;

use crate::runtime::{Runtime, cuda};

/// Where the user wants something to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceChoice {
    /// A GPU if one can be used, else the processor.
    Auto,
    /// This device or none.
    Only(Device),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Only(Device::Cpu)),
            None if text == "cuda" => Ok(Self::Only(Device::Cuda(0))),
            Some(("cuda", number)) if let Ok(number) = number.parse() => {
                Ok(Self::Only(Device::Cuda(number)))
            }
            _ => Err("expected auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

impl DeviceChoice {
    /// The device for training, ready for use; says what `auto` chose and why.
    ///
    /// # Errors
    /// When a GPU was asked for that cannot be used; the message names the missing piece.
    pub(super) fn for_training(self, runtime: &Runtime) -> Result<Device> {
        let on_cpu = |reason: &dyn std::fmt::Display| {
            tracing::info!("training on the CPU: {reason}");
            Device::Cpu
        };
        match self {
            Self::Only(Device::Cpu) => Ok(Device::Cpu),
            Self::Only(device @ Device::Cuda(number)) => {
                cuda::prepare(runtime, number)
                    .with_context(|| format!("cannot train on {device}"))?;
                Ok(device)
            }
            Self::Auto if cuda::check_provider(&runtime.path, &runtime.version).is_err() => {
                tracing::debug!("ONNX Runtime {} here has no CUDA", runtime.version);
                Ok(Device::Cpu)
            }
            Self::Auto => Ok(match cuda::prepare(runtime, 0) {
                Ok(()) => {
                    tracing::info!("training on GPU 0 with CUDA");
                    Device::Cuda(0)
                }
                Err(error) => on_cpu(&format!("CUDA cannot be used ({error:#})")),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_in_words() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Only(Device::Cpu)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Only(Device::Cuda(0))));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Only(Device::Cuda(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
