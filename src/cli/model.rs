//! The model of a command: which file it is, where it runs, and how many images at a time.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use ort::ep::{CUDA, ExecutionProvider as _};
use pipeline::model::{
    Classifier, Device, ForeignFacts, ModelFile, ModelFileError, SessionSettings,
};

use super::device::DeviceChoice;
use crate::default_model::default_model;
use crate::runtime::{Runtime, cuda};

/// Sessions on one GPU, so that one batch is copied while another is computed.
const SESSIONS_PER_GPU: usize = 2;

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
    /// Decode JPEGs whole, even where a fraction of their size covers the model's input: slower, and there to compare
    #[arg(long)]
    whole_jpegs: bool,
    /// Where the model runs: auto, cpu, cuda or cuda:N; classify takes several GPUs, as in cuda:0,1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Images per run of the model
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    batch_size: usize,
}

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
    /// Images per run of the model.
    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
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
        let load = |device| load(runtime, model, device, threads).map(|loaded| (loaded, device));
        match self.device {
            DeviceChoice::Several(_) => {
                bail!("this runs on one GPU: name one with --device cuda:N")
            }
            DeviceChoice::Only(device) => load(device),
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

    /// As [`Self::classifier`], on every device that the user wants, with several sessions on each: `sessions`, or by default one
    /// on the processor, whose threads they share, and [`SESSIONS_PER_GPU`] on a GPU.
    pub(super) fn classifiers(
        &self,
        runtime: &Runtime,
        model: &ModelFile,
        threads: usize,
        sessions: Option<usize>,
    ) -> Result<(Vec<Classifier>, Vec<Device>)> {
        let threads = threads.div_ceil(sessions.unwrap_or(1));
        let (mut classifiers, devices) = match &self.device {
            DeviceChoice::Several(numbers) => {
                let devices: Vec<_> = numbers.iter().copied().map(Device::Cuda).collect();
                let load = |&device: &Device| load(runtime, model, device, threads);
                let classifiers = devices.iter().map(load).collect::<Result<Vec<_>>>()?;
                (classifiers, devices)
            }
            _ => {
                let (classifier, device) = self.classifier(runtime, model, threads)?;
                (vec![classifier], vec![device])
            }
        };
        // Devices in turn, so that none has to wait while another has two batches.
        let on_each = sessions.unwrap_or(match devices.first() {
            Some(Device::Cuda(_)) => SESSIONS_PER_GPU,
            _ => 1,
        });
        for &device in (1..on_each).flat_map(|_| &devices) {
            classifiers.push(load(runtime, model, device, threads)?);
        }
        Ok((classifiers, devices))
    }
}

fn load(
    runtime: &Runtime,
    model: &ModelFile,
    device: Device,
    threads: usize,
) -> Result<Classifier> {
    if let Device::Cuda(number) = device {
        cuda::prepare(runtime, number).with_context(|| format!("cannot run on {device}"))?;
    }
    let session = SessionSettings {
        device,
        threads,
        // It would take the cores from the decoders.
        spinning: false,
    };
    Classifier::load(&runtime.environment, model, &session)
}
