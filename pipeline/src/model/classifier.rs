//! A model in an ONNX Runtime session: batches of bytes in, logits and probabilities out.
//!
//! Before a classifier is given out, the model's self-test has run on the very execution provider that was asked for.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ndarray::Array2;
use ort::environment::Environment;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;

use super::calibration::Calibration;
use super::familiarity::Familiarity;
use super::file::ModelFile;
use super::foreign::Layout;
use super::interface::{Input, Interface, LOGITS, Outputs, PROBABILITIES};
use super::metadata::SelfTest;
use super::parts::RunSize;
use super::session::{Device, SessionSettings, session};
use crate::decode::{self, Limits};
use crate::preprocess::Preprocess;

/// A model ready to classify.
pub struct Classifier {
    session: Session,
    identity: String,
    device: Device,
    interface: Interface,
    labels: Vec<String>,
    preprocess: Preprocess,
    temperature: f32,
    calibration: Option<Calibration>,
    familiarity: Option<Familiarity>,
    run_size: RunSize,
    /// Input of a model that takes floats, kept between batches.
    floats: Vec<f32>,
}

/// What a model says about some images, one row each.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// `[images, classes]`. For a foreign model that gives only probabilities, their logarithm.
    pub logits: Array2<f32>,
    /// `[images, classes]`.
    pub probabilities: Array2<f32>,
}

impl Predictions {
    /// Whether every number of a row is finite. Where not, the row is a failure and never a category.
    pub fn is_finite(&self, image: usize) -> bool {
        let finite = |values: &Array2<f32>| values.row(image).iter().all(|value| value.is_finite());
        finite(&self.logits) && finite(&self.probabilities)
    }
}

impl Classifier {
    /// Creates the session and runs the model's self-test on it.
    pub fn load(
        environment: &Environment,
        model: &ModelFile,
        settings: &SessionSettings,
    ) -> Result<Self> {
        let session = session(environment, model.bytes(), settings)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("{} cannot be run on {}", model.name(), settings.device))?;
        let metadata = model.metadata();
        let mut classifier = Self {
            session,
            identity: model.identity(),
            device: settings.device,
            interface: model.interface.clone(),
            labels: metadata.labels.clone(),
            preprocess: metadata.preprocess.clone(),
            temperature: metadata.temperature,
            calibration: metadata.calibration.clone(),
            familiarity: metadata.familiarity.clone(),
            run_size: model.interface.batch.map_or(RunSize::Any, RunSize::Fixed),
            floats: Vec::new(),
        };
        for (number, test) in metadata.self_test.iter().enumerate() {
            classifier
                .self_test(test, settings.device)
                .with_context(|| {
                    format!(
                        "{} failed self-test {} of {}",
                        model.name(),
                        number + 1,
                        metadata.self_test.len()
                    )
                })?;
        }
        Ok(classifier)
    }

    /// Lets the model have at most this many images at a time, where its graph takes any number.
    pub fn in_runs_of(mut self, images: usize) -> Self {
        if !matches!(self.run_size, RunSize::Fixed(_)) {
            self.run_size = RunSize::AtMost(images);
        }
        self
    }

    /// How many images of a batch of `rows` go through the model at a time.
    pub fn images_per_run(&self, rows: usize) -> usize {
        self.run_size.of(rows)
    }

    /// The same for the same model, and for a foreign one the same facts; see [`ModelFile::identity`].
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Where the model runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Class names in the order of the outputs.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How an image becomes a row of a batch.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// What the model's confidences were worth on validation images, where that is known.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// What tells images of unknown things, where that is known.
    pub fn familiarity(&self) -> Option<&Familiarity> {
        self.familiarity.as_ref()
    }

    /// Probabilities are the softmax of logits divided by this.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// Classifies the first `images` rows of a batch.
    ///
    /// `batch` is `[rows, H, W, C]`, row-major. It goes through the model in parts of one length, see [`Self::images_per_run`], so that every
    /// run has the same shape, and what comes after `images` is dropped from the result. Where there is no memory for so many at a
    /// time, the parts are smaller from then on.
    ///
    /// # Errors
    /// When a batch is no whole number of rows, or has fewer than `images`, or the model cannot be run.
    pub fn classify(&mut self, batch: &[u8], images: usize) -> Result<Predictions> {
        let bytes = self.preprocess.bytes_per_image();
        let rows = batch.len() / bytes;
        ensure!(
            batch.len() == rows * bytes,
            "{} bytes are no whole number of images of {bytes} bytes",
            batch.len()
        );
        ensure!(
            images <= rows,
            "{images} images do not fit into a batch of {rows}"
        );
        let classes = self.labels.len();
        let (mut logits, mut probabilities) = (Vec::new(), Vec::new());
        let mut run_size = self.run_size;
        run_size.each(images, rows, |range| {
            let wanted = range.len().min(images - range.start);
            let part = match batch.get(range.start * bytes..range.end * bytes) {
                Some(part) => self.run(part, range.len())?,
                None => {
                    let mut padded = vec![0; range.len() * bytes];
                    padded[..wanted * bytes].copy_from_slice(
                        &batch[range.start * bytes..(range.start + wanted) * bytes],
                    );
                    self.run(&padded, range.len())?
                }
            };
            logits.extend(part.logits.iter().take(wanted * classes));
            probabilities.extend(part.probabilities.iter().take(wanted * classes));
            Ok(())
        })?;
        self.run_size = run_size;
        Ok(Predictions {
            logits: Array2::from_shape_vec((images, classes), logits)?,
            probabilities: Array2::from_shape_vec((images, classes), probabilities)?,
        })
    }

    fn run(&mut self, pixels: &[u8], rows: usize) -> Result<Predictions> {
        let (height, width) = (
            self.preprocess.height as usize,
            self.preprocess.width as usize,
        );
        let channels = self.preprocess.colour.channels();
        let name = self.interface.input_name.as_str();
        let outputs = match &self.interface.input {
            Input::Bytes => {
                let images = TensorRef::from_array_view(([rows, height, width, channels], pixels))?;
                self.session.run(ort::inputs![name => images])?
            }
            Input::Floats {
                layout,
                scale,
                mean,
                std,
            } => {
                self.floats.resize(pixels.len(), 0.0);
                let tables = tables(*scale, mean, std);
                to_floats(pixels, height * width, &tables, *layout, &mut self.floats);
                let shape = match layout {
                    Layout::Nchw => [rows, channels, height, width],
                    Layout::Nhwc => [rows, height, width, channels],
                };
                let images = TensorRef::from_array_view((shape, self.floats.as_slice()))?;
                self.session.run(ort::inputs![name => images])?
            }
        };
        let shape = (rows, self.labels.len());
        match &self.interface.outputs {
            Outputs::Both => Ok(Predictions {
                logits: matrix(&outputs, LOGITS, shape)?,
                probabilities: matrix(&outputs, PROBABILITIES, shape)?,
            }),
            Outputs::Logits(name) => {
                let logits = matrix(&outputs, name, shape)?;
                let probabilities = softmax(&logits, self.temperature);
                Ok(Predictions {
                    logits,
                    probabilities,
                })
            }
            Outputs::Probabilities(name) => {
                let probabilities = matrix(&outputs, name, shape)?;
                // Zero is a legal probability and has to stay finite.
                let logits =
                    probabilities.mapv(|probability| probability.max(f32::MIN_POSITIVE).ln());
                Ok(Predictions {
                    logits,
                    probabilities,
                })
            }
        }
    }

    fn self_test(&mut self, test: &SelfTest, device: Device) -> Result<()> {
        let image = BASE64_STANDARD
            .decode(&test.image)
            .context("its image is not base64")?;
        let mut pixels = vec![0; self.preprocess.bytes_per_image()];
        decode::decode_bytes(&image, &self.preprocess, &Limits::default(), &mut pixels)?;
        let predictions = self.classify(&pixels, 1)?;
        let tolerance = device.tolerance()
            * test
                .logits
                .iter()
                .fold(1.0, |largest, logit| f32::max(largest, logit.abs()));
        for (class, (&got, &expected)) in predictions
            .logits
            .row(0)
            .iter()
            .zip(&test.logits)
            .enumerate()
        {
            // Written so that a result that is not a number fails too.
            if (got - expected).abs() <= tolerance {
                continue;
            }
            bail!(
                "on {device}, class {class} ({:?}) has the logit {got}, expected {expected} (tolerance {tolerance}): this \
                 device or ONNX Runtime library computes the model wrongly",
                self.labels[class]
            );
        }
        Ok(())
    }
}

/// Takes an output, which has to be float32 `[rows, classes]`.
fn matrix(
    outputs: &SessionOutputs<'_>,
    name: &str,
    (rows, classes): (usize, usize),
) -> Result<Array2<f32>> {
    let output = outputs
        .get(name)
        .with_context(|| format!("the model gave no output {name:?}"))?;
    let (shape, values) = output.try_extract_tensor::<f32>()?;
    ensure!(
        shape.iter().copied().eq([rows as i64, classes as i64]),
        "the model gave {name:?} the shape {shape:?}, expected [{rows}, {classes}]"
    );
    Ok(Array2::from_shape_vec((rows, classes), values.to_vec())?)
}

/// What each byte value becomes, per channel.
fn tables(scale: f32, mean: &[f32], std: &[f32]) -> Vec<[f32; 256]> {
    let table =
        |(mean, std): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 * scale - mean) / std);
    mean.iter().zip(std).map(table).collect()
}

/// `pixels` is `[N, pixels_per_image, C]`; `floats`, of the same length, gets the layout asked for.
fn to_floats(
    pixels: &[u8],
    pixels_per_image: usize,
    tables: &[[f32; 256]],
    layout: Layout,
    floats: &mut [f32],
) {
    let channels = tables.len();
    let length = pixels_per_image * channels;
    for (image, target) in pixels
        .chunks_exact(length)
        .zip(floats.chunks_exact_mut(length))
    {
        for (place, pixel) in image.chunks_exact(channels).enumerate() {
            for (channel, &byte) in pixel.iter().enumerate() {
                let index = match layout {
                    Layout::Nchw => channel * pixels_per_image + place,
                    Layout::Nhwc => place * channels + channel,
                };
                target[index] = tables[channel][usize::from(byte)];
            }
        }
    }
}

/// Softmax of each row divided by the temperature; the largest is subtracted first, so that nothing overflows.
fn softmax(logits: &Array2<f32>, temperature: f32) -> Array2<f32> {
    let mut result = logits / temperature;
    for mut row in result.rows_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |largest, &value| largest.max(value));
        row.mapv_inplace(|value| (value - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    result
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn softmax_adds_up_and_does_not_overflow() {
        let result = softmax(&array![[1000.0, 1000.0], [0.0, 3f32.ln()]], 1.0);
        assert!(
            (&result - &array![[0.5, 0.5], [0.25, 0.75]])
                .iter()
                .all(|gap| gap.abs() < 1e-6)
        );
        assert_eq!(
            softmax(&array![[0.0, 2.0]], 2.0),
            softmax(&array![[0.0, 1.0]], 1.0)
        );
        assert!(
            softmax(&array![[f32::NAN, 1.0]], 1.0)
                .iter()
                .all(|value| value.is_nan())
        );
    }

    #[test]
    fn floats_are_scaled_per_channel_and_laid_out_as_asked() {
        // Two pixels of an image with three channels.
        let tables = tables(0.5, &[0.0, 1.0, 2.0], &[1.0, 2.0, 4.0]);
        let mut floats = vec![0.0; 6];
        to_floats(&[2, 4, 6, 8, 10, 12], 2, &tables, Layout::Nhwc, &mut floats);
        assert_eq!(floats, [1.0, 0.5, 0.25, 4.0, 2.0, 1.0]);
        to_floats(&[2, 4, 6, 8, 10, 12], 2, &tables, Layout::Nchw, &mut floats);
        assert_eq!(floats, [1.0, 4.0, 0.5, 2.0, 0.25, 1.0]);
    }

    #[test]
    fn one_number_that_is_not_finite_spoils_only_its_row() {
        let logits = array![[1.0, f32::INFINITY], [0.0, 1.0]];
        let predictions = Predictions {
            logits,
            probabilities: array![[0.5, 0.5], [0.5, 0.5]],
        };
        assert_eq!(
            [predictions.is_finite(0), predictions.is_finite(1)],
            [false, true]
        );
    }
}
