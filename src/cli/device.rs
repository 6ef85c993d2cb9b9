//! Devices as an argument, and whether one can be used.

use std::collections::HashSet;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use pipeline::model::Device;

use crate::runtime::{Runtime, cuda};

/// Where the user wants something to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeviceChoice {
    /// A GPU if one can be used, else the processor.
    Auto,
    /// This device or none.
    Only(Device),
    /// All of these GPUs, at least two.
    Several(Vec<Device>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "expected auto, cpu, cuda, cuda:N, cuda:N,N,… or the same with tensorrt".to_owned();
        let (kind, numbers) = text.split_once(':').unwrap_or((text, "0"));
        let device = match kind {
            "auto" if text == kind => return Ok(Self::Auto),
            "cpu" if text == kind => return Ok(Self::Only(Device::Cpu)),
            "cuda" => Device::Cuda,
            "tensorrt" => Device::TensorRt,
            _ => return Err(wrong()),
        };
        let numbers: Vec<u32> = numbers
            .split(',')
            .map(|number| number.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        if let Some(twice) = numbers.iter().find(|&number| !seen.insert(number)) {
            return Err(format!("GPU {twice} is named twice"));
        }
        Ok(match numbers[..] {
            [number] => Self::Only(device(number)),
            _ => Self::Several(numbers.into_iter().map(device).collect()),
        })
    }
}

impl DeviceChoice {
    /// The device for training, ready for use; says what `auto` chose and why.
    ///
    /// # Errors
    /// When a GPU was asked for that cannot be used; the message names the missing piece.
    pub(super) fn for_training(&self, runtime: &Runtime) -> Result<Device> {
        let on_cpu = |reason: &dyn std::fmt::Display| {
            tracing::info!("training on the CPU: {reason}");
            Device::Cpu
        };
        match self {
            Self::Several(_) => bail!("training runs on one GPU: name one with --device cuda:N"),
            Self::Only(Device::Cpu) => Ok(Device::Cpu),
            Self::Only(Device::TensorRt(number)) => bail!(
                "TensorRT does not train: train with --device cuda:{number}, and classify with tensorrt:{number}"
            ),
            &Self::Only(device @ Device::Cuda(number)) => {
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
        assert_eq!(
            "cuda:0,2".parse(),
            Ok(DeviceChoice::Several(vec![
                Device::Cuda(0),
                Device::Cuda(2)
            ]))
        );
        assert_eq!(
            "tensorrt".parse(),
            Ok(DeviceChoice::Only(Device::TensorRt(0)))
        );
        assert_eq!(
            "tensorrt:1,2".parse(),
            Ok(DeviceChoice::Several(vec![
                Device::TensorRt(1),
                Device::TensorRt(2)
            ]))
        );
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:0,", "cpu:1", "auto:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
        assert_eq!(
            "cuda:1,0,1".parse::<DeviceChoice>(),
            Err("GPU 1 is named twice".to_owned())
        );
    }
}
