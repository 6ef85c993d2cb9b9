//! Grey images whose labels are numbers, as IDX files and 785-column CSVs hold them, made into a data set.
//!
//! What to call the numbers: the lines of a `classes.txt` in the same folder; else Fashion-MNIST's names if the images are
//! Fashion-MNIST's; else the numbers themselves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pipeline::preprocess::{Colour, Fit, Preprocess};

use super::{Dataset, LoadSettings, Part, PixelStore, Pixels, Split, fashion_mnist, pixel_csv};

/// Name of the file that names the classes, one a line, the first for label 0.
pub(super) const CLASSES_FILE: &str = "classes.txt";

/// One part as read.
#[derive(Debug)]
pub(super) struct Numbered {
    /// The file the pixels came from.
    pub file: PathBuf,
    /// Rows of an image.
    pub height: u32,
    /// Columns of an image.
    pub width: u32,
    /// Pixels, `[N, height, width]`.
    pub pixels: Vec<u8>,
    /// One label per image.
    pub labels: Vec<u8>,
}

/// Where the names of the classes come from.
pub(super) enum ClassNames<'a> {
    /// These, the first for label 0.
    Known(&'a [&'a str]),
    /// Found by looking: at `classes.txt` in this folder, then at the images.
    Beside(&'a Path),
}

/// Which class each label is of.
struct Classes {
    names: Vec<String>,
    by_label: [Option<u32>; 256],
}

pub(super) fn load_csv(
    train: &Path,
    validation: Option<&Path>,
    test: Option<&Path>,
    settings: &LoadSettings,
) -> Result<Dataset> {
    let read = |file: Option<&Path>| -> Result<Option<Numbered>> {
        let Some(file) = file else { return Ok(None) };
        let pixel_csv::Rows { labels, pixels } = pixel_csv::read(file)?;
        Ok(Some(Numbered {
            file: file.to_owned(),
            height: pixel_csv::SIDE,
            width: pixel_csv::SIDE,
            pixels,
            labels,
        }))
    };
    let parts = [read(Some(train))?, read(validation)?, read(test)?];
    let name = train
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let folder = train.parent().unwrap_or(Path::new(""));
    assemble(name, ClassNames::Beside(folder), parts, settings)
}

/// Makes a data set of parts in the order train, validation, test; at least one is there.
///
/// # Errors
/// When the parts differ in size, a label has no name, or the settings ask for a size the images do not have.
pub(super) fn assemble(
    name: String,
    class_names: ClassNames,
    parts: [Option<Numbered>; 3],
    settings: &LoadSettings,
) -> Result<Dataset> {
    let preprocess = preprocess(&parts, settings)?;
    let classes = match class_names {
        ClassNames::Known(names) => named(names.iter().map(|&name| name.to_owned()).collect()),
        ClassNames::Beside(folder) => look_for_names(folder, &parts)?,
    };
    let there: Vec<Part> = Part::ALL
        .into_iter()
        .zip(&parts)
        .filter(|(_, part)| part.is_some())
        .map(|(part, _)| part)
        .collect();
    let wanted = settings.parts.choose(&name, &there)?;
    let kept = |part: Part, numbered: Option<Numbered>| numbered.filter(|_| wanted.contains(&part));
    let [train, validation, test] = parts;
    let split = |part: Option<Numbered>| {
        part.map(|part| split_of(part, &classes, preprocess.colour))
            .transpose()
    };
    Ok(Dataset {
        name,
        preprocess: preprocess.clone(),
        train: split(kept(Part::Train, train))?.unwrap_or_default(),
        validation: split(kept(Part::Validation, validation))?,
        test: split(kept(Part::Test, test))?,
        classes: classes.names,
        skipped: Vec::new(),
        fingerprint: String::new(),
    })
}

fn preprocess(parts: &[Option<Numbered>; 3], settings: &LoadSettings) -> Result<Preprocess> {
    let mut parts = parts.iter().flatten();
    let first = parts.next().context("no images")?;
    let (height, width) = (first.height, first.width);
    for part in parts {
        ensure!(
            (part.height, part.width) == (height, width),
            "{}: images of {}×{} pixels, but those of {} have {height}×{width}",
            part.file.display(),
            part.height,
            part.width,
            first.file.display()
        );
    }
    let wanted = match &settings.pixels {
        Pixels::PlainBackground { size, colour } => {
            let (height, width) = size.unwrap_or((height, width));
            Preprocess::plain_background(height, width, colour.unwrap_or(Colour::Grey))
        }
        Pixels::Wished { size, colour, fit } => {
            let (height, width) = size.unwrap_or((height, width));
            Preprocess {
                fit: fit.unwrap_or(Fit::Stretch),
                ..Preprocess::stretch(height, width, colour.unwrap_or(Colour::Grey))
            }
        }
        Pixels::Contract(preprocess) => preprocess.clone(),
    };
    ensure!(
        (wanted.height, wanted.width) == (height, width),
        "{}: the images have {height}×{width} pixels, not {}×{}: raw pixels are taken as they are; write them as images \
         (catalog dataset export) to use them in another size",
        first.file.display(),
        wanted.height,
        wanted.width
    );
    Ok(wanted)
}

fn look_for_names(folder: &Path, parts: &[Option<Numbered>; 3]) -> Result<Classes> {
    let file = folder.join(CLASSES_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            return Ok(named(
                parse_names(&text).with_context(|| file.display().to_string())?,
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot be read", file.display()));
        }
    }
    if parts.iter().flatten().any(fashion_mnist::is_part_of_it) {
        return Ok(named(
            fashion_mnist::CLASSES
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        ));
    }

    let mut is_used = [false; 256];
    for part in parts.iter().flatten() {
        for &label in &part.labels {
            is_used[usize::from(label)] = true;
        }
    }
    let mut classes = Classes {
        names: Vec::new(),
        by_label: [None; 256],
    };
    let highest = is_used.iter().rposition(|&used| used).unwrap_or(0);
    let mut unused = Vec::new();
    for (label, used) in is_used.into_iter().enumerate().take(highest + 1) {
        if used {
            classes.by_label[label] = Some(classes.names.len() as u32);
            classes.names.push(label.to_string());
        } else {
            unused.push(label.to_string());
        }
    }
    if !unused.is_empty() {
        tracing::warn!(
            "labels go up to {highest}, but no image has {}: they are no classes",
            unused.join(", ")
        );
    }
    Ok(classes)
}

/// One name a line, in the order of the labels.
fn parse_names(text: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (line, name) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        ensure!(
            !name.trim().is_empty(),
            "line {line}: empty, expected the name of label {}",
            line - 1
        );
        ensure!(
            names.iter().all(|other| other != name),
            "line {line}: {name:?} names a second class"
        );
        names.push(name.to_owned());
    }
    Ok(names)
}

fn named(names: Vec<String>) -> Classes {
    let mut by_label = [None; 256];
    for (label, class) in (0..names.len() as u32).zip(&mut by_label) {
        *class = Some(label);
    }
    Classes { names, by_label }
}

fn split_of(part: Numbered, classes: &Classes, colour: Colour) -> Result<Split> {
    let file = part
        .file
        .file_name()
        .unwrap_or(part.file.as_os_str())
        .to_string_lossy()
        .into_owned();
    let mut labels = Vec::with_capacity(part.labels.len());
    for (index, &label) in part.labels.iter().enumerate() {
        let class = classes.by_label[usize::from(label)].with_context(|| {
            format!(
                "{}: image {index}: label {label} is out of range, expected 0 to {} ({} classes)",
                part.file.display(),
                classes.names.len().saturating_sub(1),
                classes.names.len()
            )
        })?;
        labels.push(class);
    }
    Ok(Split {
        pixels: PixelStore::in_memory(
            match colour {
                Colour::Grey => part.pixels,
                Colour::Rgb => part.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            },
            (part.height * part.width) as usize * colour.channels(),
        ),
        sources: (0..labels.len())
            .map(|index| format!("{file}#{index}"))
            .collect(),
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Parts, Purpose, Source, load};

    fn part(labels: &[u8]) -> Numbered {
        let pixels = (0..labels.len() as u8 * 2).collect();
        Numbered {
            file: "folder/train-images-idx3-ubyte".into(),
            height: 1,
            width: 2,
            pixels,
            labels: labels.to_vec(),
        }
    }

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

    fn assembled(parts: [Option<Numbered>; 3], settings: &LoadSettings) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        assemble(
            "tiny".into(),
            ClassNames::Beside(folder.path()),
            parts,
            settings,
        )
    }

    #[test]
    fn numbers_are_names_and_gaps_are_no_classes() {
        let dataset = assembled(
            [Some(part(&[10, 2, 2])), None, Some(part(&[3]))],
            &settings(),
        )
        .unwrap();
        assert_eq!(dataset.classes, ["2", "3", "10"]);
        assert_eq!(
            (dataset.train.labels, dataset.test.unwrap().labels),
            (vec![2, 0, 0], vec![1])
        );
        assert_eq!(dataset.train.sources[2], "train-images-idx3-ubyte#2");
    }

    #[test]
    fn a_classes_file_names_the_numbers_and_bounds_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CLASSES_FILE), "shirt\r\nbag\n").unwrap();
        let assemble = |labels| {
            assemble(
                "x".into(),
                ClassNames::Beside(folder.path()),
                [Some(part(labels)), None, None],
                &settings(),
            )
        };
        assert_eq!(assemble(&[1, 0]).unwrap().classes, ["shirt", "bag"]);
        let message = assemble(&[1, 0, 2]).unwrap_err().to_string();
        assert!(
            message.contains("image 2: label 2 is out of range, expected 0 to 1 (2 classes)"),
            "{message}"
        );
    }

    #[test]
    fn colour_repeats_the_grey_and_another_size_is_refused() {
        let rgb = LoadSettings {
            pixels: Pixels::Wished {
                size: None,
                colour: Some(Colour::Rgb),
                fit: None,
            },
            ..settings()
        };
        let dataset = assembled([Some(part(&[0, 1])), None, None], &rgb).unwrap();
        assert_eq!(
            dataset.train.pixels.to_vec().unwrap(),
            [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        );
        let larger = LoadSettings {
            pixels: Pixels::Wished {
                size: Some((2, 2)),
                colour: None,
                fit: None,
            },
            ..settings()
        };
        assert!(
            assembled([Some(part(&[0, 1])), None, None], &larger)
                .unwrap_err()
                .to_string()
                .contains("not 2×2")
        );
        let mut other = part(&[0, 1]);
        (other.height, other.width) = (2, 1);
        let message = assembled([Some(part(&[0, 1])), None, Some(other)], &settings())
            .unwrap_err()
            .to_string();
        assert!(message.contains("images of 2×1 pixels"), "{message}");
    }

    #[test]
    fn a_contract_is_taken_over_if_the_size_is_right() {
        use pipeline::preprocess::Fit;
        let contract = |height| Preprocess {
            fit: Fit::Crop,
            ..Preprocess::stretch(height, 2, Colour::Grey)
        };
        let settings = |height| LoadSettings {
            pixels: Pixels::Contract(contract(height)),
            parts: Parts::Judging,
            ..settings()
        };
        let parts = || [Some(part(&[0, 1])), None, Some(part(&[1]))];
        let dataset = assembled(parts(), &settings(1)).unwrap();
        assert_eq!(dataset.preprocess, contract(1));
        assert_eq!(
            (dataset.train.len(), dataset.test.unwrap().labels),
            (0, vec![1])
        );
        let message = assembled(parts(), &settings(3)).unwrap_err().to_string();
        assert!(
            message.contains("1×2 pixels, not 3×2: raw pixels"),
            "{message}"
        );
    }

    #[test]
    fn a_csv_loads_with_its_siblings() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..4 * pixel_csv::PIXELS)
            .map(|index| index as u8)
            .collect();
        pixel_csv::write(&folder.path().join("x_train.csv"), &[0, 1, 0, 1], &pixels).unwrap();
        pixel_csv::write(
            &folder.path().join("x_test.csv"),
            &[1],
            &pixels[..pixel_csv::PIXELS],
        )
        .unwrap();
        let source = Source::detect(folder.path().to_str().unwrap()).unwrap();
        let dataset = load(&source, &settings()).unwrap();
        assert_eq!((dataset.train.len(), dataset.test.unwrap().len()), (4, 1));
        assert_eq!(
            (dataset.classes.as_slice(), dataset.fingerprint.len()),
            (&["0".to_owned(), "1".to_owned()][..], 64)
        );
    }
}
