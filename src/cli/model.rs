//! The model of a command: which file it is, where it runs, and how many images at a time.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use ort::ep::{CUDA, ExecutionProvider as _};
use pipeline::model::{
    Classifier, ConvolutionSearch, Device, ForeignFacts, GpuSettings, Metadata, ModelFile,
    ModelFileError, SessionSettings,
};
use serde_json::Value;

use super::device::DeviceChoice;
use crate::default_model::default_model;
use crate::runtime::{Runtime, cuda, tensorrt};

/// Sessions on one GPU, so that one batch is copied while another is computed.
const SESSIONS_PER_GPU: usize = 2;
/// Most sessions on the processor, unless more are asked for: each has the weights, and batches of its own.
const SESSIONS_ON_CPU: usize = 4;

/// Options that say which model runs, and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    /// Model file [default: the model for fashion articles that is part of the program]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Class names of a model that was not made by catalog, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Preprocessing contract of a model that was not made by catalog, as JSON
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
    /// Decode JPEGs whole and scale them afterwards, even where a fraction of their size covers the model's input: slower, and there
    /// to compare
    #[arg(long)]
    whole_jpegs: bool,
    /// Where the model runs: auto, cpu, cuda or cuda:N, or tensorrt where that is; classify takes several GPUs, as in cuda:0,1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// How a GPU's algorithms for convolutions are chosen
    #[arg(long, value_name = "HOW", default_value = "exhaustive")]
    convolution_search: SearchName,
    /// Images per run of the model [default: 64, or fewer where a model does little with large images, on a processor]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    batch_size: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SearchName {
    /// The fastest of all, timed at the start
    Exhaustive,
    /// By rules of thumb: starts sooner
    Heuristic,
    /// Always the same, with the least memory
    Fixed,
}

impl From<SearchName> for ConvolutionSearch {
    fn from(name: SearchName) -> Self {
        match name {
            SearchName::Exhaustive => Self::Exhaustive,
            SearchName::Heuristic => Self::Heuristic,
            SearchName::Fixed => Self::Fixed,
        }
    }
}

/// Images that are decoded before the model gets them, where nothing else was asked for.
const BATCH_SIZE: usize = 64;
/// Operations for a byte of an image that are few.
const LITTLE: u64 = 2_000;
/// Bytes of images whose first layers are in the caches.
const CACHED_INPUT: usize = 5 << 18;

/// A number of things that cannot be none.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// Cores of this machine; one where the system does not say how many there are.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl ModelArgs {
    /// Images that are decoded before the model gets them.
    pub(super) fn batch_size(&self) -> usize {
        self.batch_size.unwrap_or(BATCH_SIZE)
    }

    /// Reads the model file and checks it, or takes the embedded one and says so.
    pub(super) fn read(&self) -> Result<ModelFile> {
        let model = self.read_as_it_is()?;
        Ok(match self.whole_jpegs {
            true => model.with_whole_jpegs(),
            false => model,
        })
    }

    fn read_as_it_is(&self) -> Result<ModelFile> {
        match (&self.model, &self.preprocess, &self.labels) {
            (None, None, None) => {
                tracing::info!(
                    "no --model was given: taking the embedded model for fashion articles"
                );
                default_model()
            }
            (None, _, _) => {
                bail!("--labels and --preprocess describe a foreign model: name it with --model")
            }
            (Some(path), None, None) => ModelFile::read(path).map_err(|error| match error {
                ModelFileError::Foreign { .. } => {
                    anyhow!("{error}: give them with --labels and --preprocess")
                }
                error => error.into(),
            }),
            (Some(path), Some(contract), Some(labels)) => Ok(ModelFile::read_foreign(
                path,
                ForeignFacts::read(contract, labels)?,
            )?),
            (Some(_), Some(_), None) => bail!(
                "--preprocess describes a foreign model, whose class names are needed too: give them with --labels"
            ),
            (Some(_), None, Some(_)) => bail!(
                "--labels names the classes of a foreign model, whose preprocessing is needed too: give it with --preprocess"
            ),
        }
    }

    /// Loads the model where the user wants it, or where it can run, and says which that is.
    pub(super) fn classifier(
        &self,
        runtime: &Runtime,
        model: &ModelFile,
        threads: usize,
    ) -> Result<(Classifier, Device)> {
        let load = |device| {
            let loaded = self.load(runtime, model, device, threads)?;
            Ok((loaded, device))
        };
        match &self.device {
            DeviceChoice::Several(_) => {
                bail!("this runs on one GPU: name one, as in --device cuda:0")
            }
            &DeviceChoice::Only(device) => load(device),
            DeviceChoice::Auto if !matches!(CUDA::is_available(), Ok(true)) => {
                tracing::info!(
                    "running on the CPU: ONNX Runtime {} here has no CUDA",
                    runtime.version
                );
                load(Device::Cpu)
            }
            DeviceChoice::Auto => match load(Device::Cuda(0)) {
                Ok(loaded) => {
                    tracing::info!("running on GPU 0 with CUDA");
                    Ok(loaded)
                }
                Err(error) => {
                    tracing::info!("running on the CPU: CUDA cannot be used ({error:#})");
                    load(Device::Cpu)
                }
            },
        }
    }

    /// As [`Self::classifier`], on every device that the user wants, with several sessions on each: `sessions`, or by default
    /// [`SESSIONS_PER_GPU`] on a GPU and one for each of the `threads` on the processor, up to [`SESSIONS_ON_CPU`]. Sessions on the processor
    /// share the threads: threads of one session wait for each other after every operator, and for a core that is decoding.
    pub(super) fn classifiers(
        &self,
        runtime: &Runtime,
        model: &ModelFile,
        threads: usize,
        sessions: Option<usize>,
    ) -> Result<(Vec<Classifier>, Vec<Device>)> {
        let on_processor = sessions.unwrap_or(threads.min(SESSIONS_ON_CPU));
        // On a GPU their number does not matter.
        let threads = threads.div_ceil(on_processor);
        let (mut classifiers, devices) = match &self.device {
            DeviceChoice::Several(devices) => {
                let load = |&device: &Device| self.load(runtime, model, device, threads);
                let classifiers = devices.iter().map(load).collect::<Result<Vec<_>>>()?;
                (classifiers, devices.clone())
            }
            _ => {
                let (classifier, device) = self.classifier(runtime, model, threads)?;
                (vec![classifier], vec![device])
            }
        };
        let on_each = match devices.first() {
            None | Some(Device::Cpu) => on_processor,
            Some(_) => sessions.unwrap_or(SESSIONS_PER_GPU),
        };
        // Devices in turn, so that none has to wait while another has two batches.
        for &device in (1..on_each).flat_map(|_| &devices) {
            classifiers.push(self.load(runtime, model, device, threads)?);
        }
        Ok((classifiers, devices))
    }

    fn load(
        &self,
        runtime: &Runtime,
        model: &ModelFile,
        device: Device,
        threads: usize,
    ) -> Result<Classifier> {
        let engines = match device {
            Device::Cpu => Ok(None),
            Device::Cuda(number) => cuda::prepare(runtime, number).map(|()| None),
            Device::TensorRt(number) => tensorrt::prepare(runtime, number)
                .and_then(|()| tensorrt::engine_folder(&runtime.cache, model.checksum()))
                .map(Some),
        }
        .with_context(|| format!("cannot run on {device}"))?;
        let session = SessionSettings {
            device,
            threads,
            // It would take the cores from the decoders.
            spinning: false,
            gpu: GpuSettings {
                convolution_search: self.convolution_search.into(),
                engines,
            },
        };
        let classifier = Classifier::load(&runtime.environment, model, &session)?;
        Ok(match (self.batch_size, device) {
            (None, Device::Cpu) => classifier.in_runs_of(images_per_run(model.metadata())),
            _ => classifier,
        })
    }
}

/// How many images a processor takes at a time.
///
/// What a network that does little with large images computes in its first layers is written to memory and fetched again where it does not
/// fit into the caches, which takes longer than computing it. A network that does much is the faster the more images each of its weights is
/// fetched for. `docs/benchmarks.md` has the figures. Nothing but the model decides, so that labels depend on the machine no more than they
/// have to.
fn images_per_run(model: &Metadata) -> usize {
    let bytes = model.preprocess.bytes_per_image();
    match operations(&model.summary) {
        Some(operations) if operations < LITTLE * bytes as u64 => {
            let fitting = (CACHED_INPUT / bytes).clamp(1, BATCH_SIZE);
            1 << fitting.ilog2()
        }
        _ => BATCH_SIZE,
    }
}

/// Operations for one image, as the summary of a training says, or those of its members.
fn operations(summary: &Value) -> Option<u64> {
    match summary.get("members").and_then(Value::as_array) {
        Some(members) => members.iter().map(operations).sum(),
        None => summary.get("flops_per_image")?.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::{Colour, Preprocess};
    use serde_json::json;

    use super::*;

    fn images(side: u32, summary: Value) -> usize {
        let mut metadata = default_model().unwrap().metadata().clone();
        metadata.preprocess = Preprocess::stretch(side, side, Colour::Rgb);
        metadata.summary = summary;
        images_per_run(&metadata)
    }

    #[test]
    fn only_models_that_do_little_take_few_images_at_a_time() {
        let network = |operations: u64| json!({ "flops_per_image": operations });
        assert_eq!(images(224, network(124_000_000)), 8);
        assert_eq!(images(224, network(800_000_000)), 64);
        assert_eq!(images(32, network(1_000)), 64);
        assert_eq!(images(2_000, network(1_000)), 1);
        assert_eq!(
            images(
                224,
                json!({ "members": [network(124_000_000), network(800_000_000)] })
            ),
            64
        );
        // Nothing is known of other people's models, and not all of every member.
        assert_eq!(images(224, Value::Null), 64);
        assert_eq!(images(224, json!({ "members": [network(1), {}] })), 64);
    }
}
