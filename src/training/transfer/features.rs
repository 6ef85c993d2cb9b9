//! From images to the features that a trunk gives for them and for random variants of them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use sha2::{Digest, Sha256};

use super::store::{Layout, Store, Writer};
use crate::backbone::ForeignBackbone;
use crate::dataset::Split;
use crate::graph::Dim;
use crate::lowering::{self, Formulation, Mode, Parameters, Targets, WeightStorage};
use crate::network::Trunk;
use crate::training::augment::{AugmentSettings, ImageShape, MixSettings, augment, image_rng};
use crate::training::examples::Examples;
use crate::training::machine::Machine;

/// Images that go through the trunk together. Larger batches are no faster: one image keeps all cores busy.
const BATCH: usize = 16;
/// Seed of the random variants: always the same, so that runs with other seeds find the features of the first one.
const VIEW_SEED: u64 = 0;
/// Name of the trunk's output.
const FEATURES: &str = "features";
const REFUSED: &str = "ONNX Runtime refused the backbone";

/// What variants of an image there are features of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Views {
    /// The image as it is, then so many random variants of it.
    Random(usize, AugmentSettings),
    /// The image as it is.
    Plain,
    /// The image as it is and its mirror image.
    Mirrored,
}

impl Views {
    /// Number of variants, the image as it is included.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Random(variants, _) => 1 + variants,
            Self::Plain => 1,
            Self::Mirrored => 2,
        }
    }

    fn write(&self, image: &[u8], place: usize, view: usize, shape: ImageShape, out: &mut [u8]) {
        match (self, view) {
            (_, 0) | (Self::Plain, _) => out.copy_from_slice(image),
            (Self::Random(_, settings), _) => {
                let mut rng = image_rng(VIEW_SEED, view as u64, place as u64);
                augment(image, shape, settings, &mut rng, out);
            }
            (Self::Mirrored, _) => {
                let row = shape.width * shape.channels;
                let rows = image.chunks_exact(row).zip(out.chunks_exact_mut(row));
                for (from, to) in rows {
                    let pixels = from.rchunks_exact(shape.channels);
                    for (from, to) in pixels.zip(to.chunks_exact_mut(shape.channels)) {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
    }
}

/// A trunk that runs.
pub(super) struct Extractor {
    session: Session,
    image_shape: ImageShape,
    feature_shape: Vec<usize>,
    /// SHA-256 of the model.
    digest: [u8; 32],
}

impl Extractor {
    /// Loads a trunk with its parameters, in the order of its graph.
    ///
    /// # Errors
    /// When a parameter is missing, or ONNX Runtime refuses the model.
    pub(super) fn new(
        trunk: &Trunk,
        parameters: &[Vec<f32>],
        image_shape: ImageShape,
        machine: Machine<'_>,
        threads: usize,
    ) -> Result<Self> {
        let targets = Targets {
            outputs: vec![(FEATURES.to_owned(), trunk.features)],
            effects: vec![],
        };
        let proto = lowering::lower(
            "trunk",
            &trunk.graph,
            Mode::Inference,
            Formulation::Portable,
            &targets,
            Parameters::Constants {
                values: parameters,
                storage: WeightStorage::Float32,
            },
        )?;
        let model = lowering::model(proto).encode_to_vec();
        let session = session(machine, &model, threads).context(REFUSED)?;
        let dims = trunk.graph.shape(trunk.features).dims();
        let feature_shape = dims.iter().skip(1).map(|dim| match dim {
            Dim::Fixed(size) | Dim::Batch(size) => *size,
        });
        Ok(Self {
            session,
            image_shape,
            feature_shape: feature_shape.collect(),
            digest: Sha256::digest(&model).into(),
        })
    }

    /// Loads somebody else's backbone, and gives the number of dimensions of its features, the batch included.
    ///
    /// # Errors
    /// When ONNX Runtime refuses it, its features are neither `[N, F]` nor `[N, F, H, W]`, or an image's features depend on the images
    /// beside it.
    pub(super) fn foreign(
        backbone: &ForeignBackbone,
        image_shape: ImageShape,
        machine: Machine<'_>,
        threads: usize,
    ) -> Result<(Self, usize)> {
        let extractor = |dimensions, feature_shape| -> Result<Self> {
            let model = backbone.trunk(dimensions).encode_to_vec();
            Ok(Self {
                session: session(machine, &model, threads).context(REFUSED)?,
                image_shape,
                feature_shape,
                digest: Sha256::digest(&model).into(),
            })
        };
        let size = image_shape.len();
        let pixels: Vec<u8> = (0..2 * size).map(|at| (at * 37 % 251) as u8).collect();
        // What a value's shape is, nobody but a run can say of every model.
        let mut probe = extractor(2, vec![])?;
        let run = |probe: &mut Self, images: &[u8]| {
            let mut found = (vec![], vec![]);
            let count = images.len() / size;
            probe
                .run_shaped(images, count, |shape, features| {
                    found = (shape.to_vec(), features.to_vec());
                    Ok(())
                })
                .context("the backbone does not run on images of the contract's size and layout")?;
            Ok::<_, anyhow::Error>(found)
        };
        let (shape, both) = run(&mut probe, &pixels)?;
        let (dimensions, width) = match shape.as_slice() {
            [2, width] | [2, width, _, _] => (shape.len(), *width as usize),
            shape => bail!(
                "its features are {shape:?} for two images, expected [2, F] or [2, F, height, width]: name another value with --features"
            ),
        };
        let (_, first) = run(&mut probe, &pixels[..size])?;
        let largest = first
            .iter()
            .fold(1.0_f32, |most, value| most.max(value.abs()));
        let agree = first
            .iter()
            .zip(&both)
            .all(|(a, b)| (a - b).abs() <= 1e-3 * largest);
        ensure!(
            agree && first.len() * 2 == both.len(),
            "an image has other features beside another image than alone, so the model does not treat the images of a batch one by one"
        );
        Ok((extractor(dimensions, vec![width])?, dimensions))
    }

    /// Floats of the features of one image.
    pub(super) fn width(&self) -> usize {
        self.feature_shape.iter().product()
    }

    /// The features of a split's images: those in `folder`, if an earlier run computed the same, or new ones, which are kept there.
    ///
    /// # Errors
    /// When ONNX Runtime reports an error, or the features cannot be written.
    pub(super) fn features(
        &mut self,
        split: &Split,
        views: &Views,
        folder: &Path,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Store> {
        let layout = Layout {
            examples: split.len(),
            views: views.count(),
            shape: self.feature_shape.clone(),
        };
        let path = folder.join(self.name(split, views)?);
        if let Some(store) = Store::open(&path, &layout)? {
            progress(layout.examples * layout.views)?;
            return Ok(store);
        }
        let mut writer = Writer::new(&path, &layout)?;
        let bytes = self.image_shape.len();
        let places: Vec<(usize, usize)> = (0..layout.examples)
            .flat_map(|place| (0..layout.views).map(move |view| (place, view)))
            .collect();
        let (before, places) = places.split_at(writer.written().min(places.len()));
        progress(before.len())?;
        let mut batch = vec![0; BATCH * bytes];
        for places in places.chunks(BATCH) {
            let batch = &mut batch[..places.len() * bytes];
            let shape = self.image_shape;
            batch
                .par_chunks_exact_mut(bytes)
                .zip(places.into_par_iter())
                .try_for_each(|(out, &(place, view))| {
                    views.write(&split.image(place)?, place, view, shape, out);
                    anyhow::Ok(())
                })?;
            self.run(batch, places.len(), |features| writer.write(features))?;
            progress(places.len())?;
        }
        writer.finish()
    }

    fn run(
        &mut self,
        images: &[u8],
        count: usize,
        mut take: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        self.run_shaped(images, count, |_, features| take(features))
    }

    fn run_shaped(
        &mut self,
        images: &[u8],
        count: usize,
        take: impl FnOnce(&[i64], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let ImageShape {
            height,
            width,
            channels,
        } = self.image_shape;
        let images = TensorRef::from_array_view(([count, height, width, channels], images))?;
        let outputs = self.session.run(ort::inputs![images])?;
        let features = outputs
            .get(FEATURES)
            .context("the backbone gave no features")?;
        let (shape, features) = features.try_extract_tensor::<f32>()?;
        take(shape, features)
    }

    /// The digest of everything the features depend on.
    fn name(&self, split: &Split, views: &Views) -> Result<String> {
        let mut digest = Sha256::new();
        digest.update(self.digest);
        digest.update(format!("{views:?}"));
        for image in split.pixels.images() {
            digest.update(&image?);
        }
        let digest = digest.finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn session(machine: Machine<'_>, model: &[u8], threads: usize) -> Result<Session> {
    let build = || -> ort::Result<_> {
        Ok(Session::builder(machine.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?)
    };
    let mut builder = machine.place(build()?)?;
    Ok(builder.commit_from_memory(model)?)
}

/// Features as examples to learn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelledFeatures<'a> {
    pub(super) store: &'a Store,
    pub(super) split: &'a Split,
    /// The variant that is the example as it is.
    pub(super) view: usize,
}

impl Examples for LabelledFeatures<'_> {
    type Element = f32;

    fn shape(&self) -> &[usize] {
        &self.store.layout().shape
    }

    fn labels(&self) -> &[u32] {
        &self.split.labels
    }

    fn source(&self, index: usize) -> &str {
        self.split.sources.get(index).map_or("", String::as_str)
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        self.store.read(index, self.view, out)
    }

    fn vary(&self, index: usize, rng: &mut ChaCha8Rng, out: &mut [f32]) -> Result<()> {
        let view = rand::RngExt::random_range(rng, 0..self.store.layout().views);
        self.store.read(index, view, out)
    }

    fn mix(
        &self,
        _batch: &mut [f32],
        _targets: &mut [f32],
        _classes: usize,
        _settings: &MixSettings,
        _rng: &mut ChaCha8Rng,
    ) {
    }

    fn can_be_mixed(&self) -> bool {
        false
    }
}
