//! Where a model runs and how: the device, what matters on GPUs only, and the ONNX Runtime session that comes of it.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this number, with ONNX Runtime's own kernels, cuDNN and cuBLAS.
    Cuda(u32),
    /// The NVIDIA GPU of this number, with what TensorRT compiles for it, and with CUDA where it does not know an operator.
    TensorRt(u32),
}

impl std::fmt::Display for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.kind())?;
        match self.gpu() {
            None => Ok(()),
            Some(number) => write!(formatter, ":{number}"),
        }
    }
}

impl Device {
    /// What sort of a device it is, without its number.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::TensorRt(_) => "tensorrt",
        }
    }

    /// The number of the GPU, where it is one.
    pub fn gpu(self) -> Option<u32> {
        match self {
            Self::Cpu => None,
            Self::Cuda(number) | Self::TensorRt(number) => Some(number),
        }
    }

    /// How far a logit of the self-test may be off, relative to the largest one (and to 1 where all are smaller). A GPU sums
    /// in another order and at other precisions than the processor on which the figures were made.
    pub(super) fn tolerance(self) -> f32 {
        match self.gpu() {
            None => 1e-3,
            Some(_) => 1e-2,
        }
    }
}

/// How the fastest of cuDNN's algorithms for a convolution is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConvolutionSearch {
    /// Each is timed when a shape comes for the first time.
    #[default]
    Exhaustive,
    /// By cuDNN's rules of thumb: starts sooner.
    Heuristic,
    /// Not at all: always the same one, which takes the least memory.
    Fixed,
}

/// What only matters on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuSettings {
    /// How algorithms for convolutions are chosen. TensorRT times its own.
    pub convolution_search: ConvolutionSearch,
    /// Folder in which TensorRT keeps what it compiled of this model, which has to be there; none for nowhere, so that every start compiles. It
    /// tells models apart by the names in their graphs, not by their weights, so that no two may share a folder.
    pub engines: Option<PathBuf>,
}

/// How a session runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Where the model runs; a device that cannot be used is an error, never replaced.
    pub device: Device,
    /// Threads of the session; 0 lets ONNX Runtime take one per core.
    pub threads: usize,
    /// Whether idle threads of the session spin: quicker alone, slower when decoding shares the cores.
    pub spinning: bool,
    /// What only matters on a GPU.
    pub gpu: GpuSettings,
}

impl SessionSettings {
    /// On the processor, with so many threads that do not spin; 0 for one per core.
    pub fn on_processor(threads: usize) -> Self {
        Self {
            device: Device::Cpu,
            threads,
            spinning: false,
            gpu: GpuSettings::default(),
        }
    }
}

/// Creates the session of a model, given as its file's bytes.
pub(super) fn session(
    environment: &Environment,
    model: &[u8],
    settings: &SessionSettings,
) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(settings.threads)?
        .with_intra_op_spinning(settings.spinning)?
        .with_execution_providers(providers(settings))?
        .commit_from_memory(model)
}

/// What computes beside the processor, the first choice first. One that cannot be used is an error.
fn providers(settings: &SessionSettings) -> Vec<ExecutionProviderDispatch> {
    let gpu = &settings.gpu;
    let Some(number) = settings.device.gpu() else {
        return Vec::new();
    };
    // What does not fit is no number of a GPU, and ONNX Runtime says so.
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    let cuda = ep::CUDA::default()
        .with_device_id(number)
        .with_conv_algorithm_search(match gpu.convolution_search {
            ConvolutionSearch::Exhaustive => ConvAlgorithmSearch::Exhaustive,
            ConvolutionSearch::Heuristic => ConvAlgorithmSearch::Heuristic,
            ConvolutionSearch::Fixed => ConvAlgorithmSearch::Default,
        });
    let cuda = cuda.build().error_on_failure();
    match settings.device {
        Device::TensorRt(_) => {
            let tensorrt = tensorrt(number, gpu.engines.as_deref());
            vec![tensorrt.build().error_on_failure(), cuda]
        }
        _ => vec![cuda],
    }
}

/// Without profiles of its own TensorRT compiles for the batches that come: once for one image, in the self-test, and once for a full batch.
fn tensorrt(number: i32, engines: Option<&Path>) -> ep::TensorRT {
    let provider = ep::TensorRT::default().with_device_id(number);
    match engines {
        None => provider,
        Some(folder) => provider
            .with_engine_cache(true)
            .with_engine_cache_path(folder.display())
            .with_timing_cache(true)
            .with_timing_cache_path(folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_kind_and_number() {
        let told = [Device::Cpu, Device::Cuda(0), Device::TensorRt(3)].map(|it| it.to_string());
        assert_eq!(told, ["cpu", "cuda:0", "tensorrt:3"]);
        assert_eq!(Device::TensorRt(3).gpu(), Some(3));
        assert_eq!(Device::Cpu.gpu(), None);
    }

    #[test]
    fn tensorrt_comes_before_cuda_and_the_processor_needs_neither() {
        let names = |device| {
            let on_processor = SessionSettings::on_processor(1);
            let providers = providers(&SessionSettings {
                device,
                ..on_processor
            });
            let names: Vec<_> = providers.iter().map(|provider| provider.name()).collect();
            names
        };
        let (cuda, tensorrt) = ("CUDAExecutionProvider", "TensorrtExecutionProvider");
        assert!(names(Device::Cpu).is_empty());
        assert_eq!(names(Device::Cuda(0)), [cuda]);
        assert_eq!(names(Device::TensorRt(0)), [tensorrt, cuda]);
    }
}
