//! Labelled image files, as a folder or a manifest lists them, decoded into a data set.
//!
//! Decoding and resizing are the pipeline's, the very code classification runs; here is only what surrounds it.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::{ColorType, ImageDecoder, ImageReader};
use pipeline::decode::{Decoded, Fault, Limits, decode_file};
use pipeline::preprocess::{Colour, Preprocess};
use rayon::prelude::*;

use super::pixel_store::PixelWriter;
use super::{Dataset, LoadSettings, Part, Pixels, Skipped, Split};
use crate::pulse::Pulse;

/// At most this many files are looked at to choose size and colour.
const SAMPLE: usize = 256;
/// Images that all have one size are taken at it if neither side is longer.
const LARGEST_OWN_SIDE: u32 = 64;
/// Bytes of decoded images that wait for being kept: enough for all cores to be busy.
const SLAB_BYTES: usize = 32 << 20;
/// Height and width for all others.
const DEFAULT_SIDE: u32 = 64;

/// An image file and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelledFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is called in reports.
    pub source: String,
    /// Index of its class.
    pub label: u32,
}

/// The files of a data set.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// Name of the data set.
    pub name: String,
    /// Class names in natural order.
    pub classes: Vec<String>,
    /// Files of each part there is.
    pub files: BTreeMap<Part, Vec<LabelledFile>>,
    /// Entries that are no files.
    pub skipped: Vec<Skipped>,
}

impl Listing {
    /// No classes and no files yet.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            classes: Vec::new(),
            files: BTreeMap::new(),
            skipped: Vec::new(),
        }
    }
}

/// Decodes every file, in parallel and in order; those that fail are listed in [`Dataset::skipped`].
pub(super) fn load(mut listing: Listing, settings: &LoadSettings) -> Result<Dataset> {
    let there: Vec<Part> = listing.files.keys().copied().collect();
    let wanted = settings.parts.choose(&listing.name, &there)?;
    listing.files.retain(|part, _| wanted.contains(part));
    let preprocess = choose_preprocess(&listing, &settings.pixels)?;
    let mut skipped = std::mem::take(&mut listing.skipped);
    let image_size = preprocess.bytes_per_image();
    let images: usize = listing.files.values().map(Vec::len).sum();
    let bytes = images as u64 * image_size as u64;
    let is_large = bytes > settings.memory;
    if is_large {
        tracing::info!(
            "{images} images take {} MiB: they are kept in a file in {}, not in memory",
            bytes >> 20,
            settings.cache.display()
        );
    }
    let mut part = |part: Part| -> Result<Option<Split>> {
        let Some(files) = listing.files.remove(&part) else {
            return Ok(None);
        };
        let pixels = match is_large {
            true => PixelWriter::in_file(&settings.cache, image_size),
            false => PixelWriter::in_memory(files.len(), image_size),
        };
        let (split, failed) = pixels
            .and_then(|pixels| decode_all(files, &preprocess, pixels))
            .with_context(|| listing.name.clone())?;
        skipped.extend(failed);
        Ok(Some(split))
    };
    let (train, validation, test) = (
        part(Part::Train)?,
        part(Part::Validation)?,
        part(Part::Test)?,
    );
    Ok(Dataset {
        name: listing.name,
        classes: listing.classes,
        preprocess,
        train: train.unwrap_or_default(),
        validation,
        test,
        skipped,
        fingerprint: String::new(),
    })
}

/// Damaged images that warnings name.
const DAMAGED_NAMED: usize = 10;

/// Decodes the files of a part into `pixels`, some at a time; those that fail are left out and listed.
fn decode_all(
    files: Vec<LabelledFile>,
    preprocess: &Preprocess,
    mut pixels: PixelWriter,
) -> Result<(Split, Vec<Skipped>)> {
    let image_size = preprocess.bytes_per_image();
    tracing::debug!(
        "decoding {} images to {}×{}",
        files.len(),
        preprocess.height,
        preprocess.width
    );
    let limits = Limits::default();
    let slab = (SLAB_BYTES / image_size.max(1)).clamp(1, files.len().max(1));
    let mut buffer = vec![0; slab * image_size];
    let mut labels = Vec::with_capacity(files.len());
    let mut sources = Vec::with_capacity(files.len());
    let mut skipped = Vec::new();
    let mut damaged = 0;
    let mut pulse = Pulse::new("decoded", files.len());
    let mut files = files.into_iter();
    loop {
        let files: Vec<LabelledFile> = files.by_ref().take(slab).collect();
        if files.is_empty() {
            break;
        }
        let outcomes: Vec<Result<Decoded, Fault>> = files
            .par_iter()
            .zip(buffer.par_chunks_exact_mut(image_size))
            .map(|(file, out)| decode_file(&file.path, preprocess, &limits, out))
            .collect();
        pulse.add(files.len());
        let images = buffer.chunks_exact(image_size);
        for ((file, image), outcome) in files.into_iter().zip(images).zip(outcomes) {
            match outcome {
                Err(fault) => skipped.push(Skipped {
                    path: file.source,
                    reason: fault.to_string(),
                }),
                Ok(decoded) => {
                    if let Some(note) = decoded.note {
                        damaged += 1;
                        match damaged <= DAMAGED_NAMED {
                            true => {
                                tracing::warn!("{}: used as far as it goes: {note}", file.source)
                            }
                            false => tracing::debug!("{}: {note}", file.source),
                        }
                    }
                    pixels.push(image)?;
                    labels.push(file.label);
                    sources.push(file.source);
                }
            }
        }
    }
    if damaged > DAMAGED_NAMED {
        tracing::warn!(
            "{damaged} images are damaged and used as far as they go, as classification does; -v names all"
        );
    }
    let split = Split {
        pixels: pixels.finish()?,
        labels,
        sources,
    };
    Ok((split, skipped))
}

/// The contract, or size and colour as wished, or else as a sample of the files suggests.
fn choose_preprocess(listing: &Listing, pixels: &Pixels) -> Result<Preprocess> {
    let (size, colour) = match pixels {
        Pixels::Contract(preprocess) => return Ok(preprocess.clone()),
        Pixels::Wished { size, colour, .. } | Pixels::PlainBackground { size, colour } => {
            (*size, *colour)
        }
    };
    if let Some((height, width)) = size {
        ensure!(
            height > 0 && width > 0,
            "image size {height}×{width}: expected positive numbers"
        );
    }
    let files: Vec<&LabelledFile> = listing.files.values().flatten().collect();
    let step = files.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<Header> = files
        .into_iter()
        .step_by(step)
        .collect::<Vec<_>>()
        .par_iter()
        .filter_map(|file| read_header(&file.path))
        .collect();

    let (height, width) =
        size.unwrap_or_else(|| own_size(&sample).unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE)));
    let all_grey = !sample.is_empty() && sample.iter().all(|header| header.is_grey);
    let colour = colour.unwrap_or(if all_grey { Colour::Grey } else { Colour::Rgb });
    Ok(match pixels {
        Pixels::PlainBackground { .. } => Preprocess::plain_background(height, width, colour),
        Pixels::Wished { fit: Some(fit), .. } => Preprocess {
            fit: *fit,
            ..Preprocess::stretch(height, width, colour)
        },
        _ => Preprocess::stretch(height, width, colour),
    })
}

struct Header {
    height: u32,
    width: u32,
    is_grey: bool,
}

fn own_size(sample: &[Header]) -> Option<(u32, u32)> {
    let first = sample.first()?;
    let is_small = first.height.max(first.width) <= LARGEST_OWN_SIDE;
    let is_shared = sample
        .iter()
        .all(|header| (header.height, header.width) == (first.height, first.width));
    (is_small && is_shared).then_some((first.height, first.width))
}

/// Size and colour as stored; `None` for what is no image, which decoding reports later.
fn read_header(path: &Path) -> Option<Header> {
    // A FIFO would block for ever when opened.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    // Decoders panic on some files; decoding proper reports those.
    catch_unwind(|| {
        let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
        let decoder = reader.into_decoder().ok()?;
        let (width, height) = decoder.dimensions();
        let is_grey = matches!(
            decoder.color_type(),
            ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16
        );
        Some(Header {
            height,
            width,
            is_grey,
        })
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Parts, Purpose, Source, load as load_dataset};
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use std::fs;

    fn settings() -> LoadSettings {
        LoadSettings {
            pixels: Pixels::Wished {
                size: None,
                colour: None,
                fit: None,
            },
            parts: Parts::All,
            purpose: Purpose::Training,
            cache: PathBuf::new(),
            memory: u64::MAX,
            offline: true,
        }
    }

    fn grey_folder(width: u32, height: u32) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (class, base) in [("bag", 10), ("coat", 20)] {
            fs::create_dir(root.path().join(class)).unwrap();
            for index in 0..3u8 {
                let image = GrayImage::from_fn(width, height, |x, y| {
                    Luma([base + index + (x * 7 + y) as u8])
                });
                image
                    .save(root.path().join(format!("{class}/{index}.png")))
                    .unwrap();
            }
        }
        root
    }

    #[test]
    fn small_grey_images_are_taken_as_they_are() {
        let root = grey_folder(3, 2);
        let dataset = load_dataset(&Source::Folder(root.path().to_owned()), &settings()).unwrap();
        assert_eq!(dataset.preprocess, Preprocess::stretch(2, 3, Colour::Grey));
        assert_eq!(dataset.train.labels, [0, 0, 0, 1, 1, 1]);
        assert_eq!(
            dataset.train.image(4).unwrap().as_ref(),
            [21, 28, 35, 22, 29, 36]
        );
        assert_eq!(dataset.train.sources[4], "coat/1.png");
    }

    #[test]
    fn one_coloured_or_large_image_changes_the_default() {
        let root = grey_folder(3, 2);
        RgbImage::from_pixel(3, 2, Rgb([1, 2, 3]))
            .save(root.path().join("bag/9.png"))
            .unwrap();
        let load = |settings: &LoadSettings| {
            load_dataset(&Source::Folder(root.path().to_owned()), settings).unwrap()
        };
        assert_eq!(
            load(&settings()).preprocess,
            Preprocess::stretch(2, 3, Colour::Rgb)
        );
        GrayImage::new(100, 80)
            .save(root.path().join("bag/8.png"))
            .unwrap();
        assert_eq!(
            load(&settings()).preprocess,
            Preprocess::stretch(64, 64, Colour::Rgb)
        );
        let chosen = LoadSettings {
            pixels: Pixels::Wished {
                size: Some((8, 9)),
                colour: Some(Colour::Grey),
                fit: None,
            },
            ..settings()
        };
        let dataset = load(&chosen);
        assert_eq!(
            (dataset.preprocess.height, dataset.preprocess.width),
            (8, 9)
        );
        assert_eq!(dataset.train.pixels.to_vec().unwrap().len(), 8 * 8 * 9);
    }

    #[test]
    fn a_contract_is_kept_to_the_letter() {
        use pipeline::preprocess::{Filter, Fit};
        let root = grey_folder(3, 2);
        let contract = Preprocess {
            fit: Fit::Pad,
            filter: Filter::Box,
            background: [9, 9, 9],
            ..Preprocess::stretch(3, 3, Colour::Rgb)
        };
        let settings = LoadSettings {
            pixels: Pixels::Contract(contract.clone()),
            ..settings()
        };
        let dataset = load_dataset(&Source::Folder(root.path().to_owned()), &settings).unwrap();
        let mut expected = vec![0; contract.bytes_per_image()];
        decode_file(
            &root.path().join("coat/1.png"),
            &contract,
            &Limits::default(),
            &mut expected,
        )
        .unwrap();
        assert_eq!(dataset.preprocess, contract);
        assert_eq!(dataset.train.image(4).unwrap().as_ref(), expected);
    }

    #[test]
    fn parts_that_are_not_wanted_are_never_opened() {
        let root = tempfile::tempdir().unwrap();
        for part in ["train", "test"] {
            fs::create_dir_all(root.path().join(part).join("bag")).unwrap();
        }
        fs::write(root.path().join("train/bag/0.png"), b"broken").unwrap();
        GrayImage::new(2, 2)
            .save(root.path().join("test/bag/0.png"))
            .unwrap();
        let judging = LoadSettings {
            parts: Parts::Judging,
            purpose: Purpose::Evaluation,
            ..settings()
        };
        let dataset = load_dataset(&Source::Folder(root.path().to_owned()), &judging).unwrap();
        assert_eq!((dataset.train.len(), dataset.skipped.len()), (0, 0));
        assert_eq!(dataset.test.unwrap().sources, ["test/bag/0.png"]);
    }

    #[test]
    fn unreadable_images_are_listed_and_leave_no_gap() {
        let root = grey_folder(3, 2);
        let whole = load_dataset(&Source::Folder(root.path().to_owned()), &settings()).unwrap();
        fs::write(root.path().join("bag/0a.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
        fs::write(root.path().join("coat/notes.txt"), b"not an image").unwrap();
        let dataset = load_dataset(&Source::Folder(root.path().to_owned()), &settings()).unwrap();
        let skipped: Vec<&str> = dataset
            .skipped
            .iter()
            .map(|skipped| skipped.path.as_str())
            .collect();
        assert_eq!(skipped, ["bag/0a.png", "coat/notes.txt"]);
        assert!(
            dataset
                .skipped
                .iter()
                .all(|skipped| !skipped.reason.is_empty())
        );
        assert_eq!(dataset.train, whole.train);
        assert_eq!(dataset.fingerprint, whole.fingerprint);
    }

    #[test]
    fn a_class_left_without_images_is_an_error_that_names_it() {
        let root = grey_folder(3, 2);
        for index in 0..3 {
            fs::write(root.path().join(format!("coat/{index}.png")), b"broken").unwrap();
        }
        let load = |purpose| {
            load_dataset(
                &Source::Folder(root.path().to_owned()),
                &LoadSettings {
                    purpose,
                    ..settings()
                },
            )
        };
        let message = load(Purpose::Training).unwrap_err().to_string();
        assert!(
            message.contains("class \"coat\" has 0 training images (3 files"),
            "{message}"
        );
        assert_eq!(load(Purpose::Evaluation).unwrap().train.len(), 3);
        for index in 0..3 {
            fs::write(root.path().join(format!("bag/{index}.png")), b"broken").unwrap();
        }
        let message = load(Purpose::Evaluation).unwrap_err().to_string();
        assert!(
            message.contains("none of the 6 files could be used; the first is bag/0.png"),
            "{message}"
        );
    }

    #[test]
    fn a_manifest_gives_the_same_images() {
        let root = grey_folder(3, 2);
        let whole = load_dataset(&Source::Folder(root.path().to_owned()), &settings()).unwrap();
        let mut rows = "path,label\n".to_owned();
        for source in &whole.train.sources {
            rows += &format!("{source},{}\n", source.split('/').next().unwrap());
        }
        fs::write(root.path().join("list.csv"), rows + "bag/missing.png,bag\n").unwrap();
        let listed =
            load_dataset(&Source::Manifest(root.path().join("list.csv")), &settings()).unwrap();
        assert_eq!(listed.train, whole.train);
        assert_eq!(listed.skipped.len(), 1);
        assert_eq!(listed.skipped[0].path, "bag/missing.png");
    }
}
