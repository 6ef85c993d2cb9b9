//! Writing a data set in a form other tools read: PNG class folders, IDX files or 785-column CSVs.
//!
//! Everything is written into a folder beside the wanted one and renamed at the end, so a folder under the wanted name is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use pipeline::preprocess::Colour;
use rayon::prelude::*;

use super::numbered::CLASSES_FILE;
use super::{Dataset, Part, Split, idx, pixel_csv};

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `PART/CLASS/INDEX.png`, the index being that of the image in its part, and `manifest.csv` with the columns `path`,
    /// `label`, `split`, `index`.
    Images,
    /// IDX files and `classes.txt`; grey images only.
    Idx,
    /// 785-column CSVs and `classes.txt`; grey images of 28×28 only.
    Csv,
}

/// Writes the data set to the folder `out`, which must be empty or not there, and says how many images that were.
///
/// `limit` takes at most so many images of each part, as evenly from the classes as they allow.
///
/// # Errors
/// When `out` is not empty, the format cannot hold the images, or something cannot be written; `out` is then untouched.
pub fn export(
    dataset: &Dataset,
    out: &Path,
    format: Format,
    limit: Option<usize>,
) -> Result<usize> {
    ensure_free(out)?;
    let name = out
        .file_name()
        .with_context(|| format!("{}: not a name for a new folder", out.display()))?;
    let parent = out
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("{}: cannot be made", parent.display()))?;
    let work = tempfile::Builder::new()
        .prefix(&format!(".{}.partial-", name.to_string_lossy()))
        .tempdir_in(parent)
        .with_context(|| format!("{}: no folder can be made in it", parent.display()))?;
    // A folder inside, because the temporary one is for its owner's eyes only.
    let whole = work.path().join("whole");
    fs::create_dir(&whole).with_context(|| format!("{}: cannot be made", whole.display()))?;

    let chosen: Vec<(Part, &Split, Vec<usize>)> = dataset
        .parts()
        .map(|(part, split)| (part, split, choose(split, dataset.classes.len(), limit)))
        .collect();
    match format {
        Format::Images => write_images(dataset, &chosen, &whole)?,
        Format::Idx => write_idx(dataset, &chosen, &whole)?,
        Format::Csv => write_csv(dataset, &chosen, &whole)?,
    }
    if out.exists() {
        fs::remove_dir(out).with_context(|| format!("{}: cannot be replaced", out.display()))?;
    }
    fs::rename(&whole, out).with_context(|| {
        format!(
            "{}: cannot be renamed to {}",
            whole.display(),
            out.display()
        )
    })?;
    Ok(chosen.iter().map(|(_, _, indices)| indices.len()).sum())
}

/// Refuses an output folder with something in it; worth asking before the data set is loaded.
///
/// # Errors
/// When `out` is a folder that is not empty, or no folder at all.
pub fn ensure_free(out: &Path) -> Result<()> {
    if let Ok(mut entries) = out.read_dir() {
        ensure!(
            entries.next().is_none(),
            "{}: the folder is not empty: choose another one or empty it",
            out.display()
        );
    } else {
        ensure!(
            !out.exists(),
            "{}: exists and is not a folder",
            out.display()
        );
    }
    Ok(())
}

/// Indices of at most `limit` images, ascending: the first of each class, then the second of each, and so on.
fn choose(split: &Split, class_count: usize, limit: Option<usize>) -> Vec<usize> {
    let limit = limit.unwrap_or(usize::MAX);
    if split.len() <= limit {
        return (0..split.len()).collect();
    }
    let mut seen = vec![0usize; class_count];
    let mut by_rank: Vec<(usize, u32, usize)> = Vec::with_capacity(split.len());
    for (index, &label) in split.labels.iter().enumerate() {
        by_rank.push((seen[label as usize], label, index));
        seen[label as usize] += 1;
    }
    by_rank.sort_unstable();
    let mut indices: Vec<usize> = by_rank
        .into_iter()
        .take(limit)
        .map(|(_, _, index)| index)
        .collect();
    indices.sort_unstable();
    indices
}

fn write_images(
    dataset: &Dataset,
    chosen: &[(Part, &Split, Vec<usize>)],
    folder: &Path,
) -> Result<()> {
    let class_folders = folder_names(&dataset.classes);
    let manifest_file = folder.join("manifest.csv");
    let describe = || format!("{}: cannot be written", manifest_file.display());
    let mut manifest = csv::Writer::from_path(&manifest_file).with_context(describe)?;
    manifest
        .write_record(["path", "label", "split", "index"])
        .with_context(describe)?;
    for (part, split, indices) in chosen {
        for class in &class_folders {
            let path = folder.join(part.name()).join(class);
            fs::create_dir_all(&path)
                .with_context(|| format!("{}: cannot be made", path.display()))?;
        }
        let name = |index: usize| {
            format!(
                "{}/{}/{index:05}.png",
                part.name(),
                class_folders[split.labels[index] as usize]
            )
        };
        indices
            .par_iter()
            .try_for_each(|&index| write_png(dataset, split, index, &folder.join(name(index))))?;
        for &index in indices {
            let label = &dataset.classes[split.labels[index] as usize];
            manifest
                .write_record([&name(index), label, part.name(), &index.to_string()])
                .with_context(describe)?;
        }
    }
    manifest.flush().with_context(describe)
}

fn write_png(dataset: &Dataset, split: &Split, index: usize, path: &Path) -> Result<()> {
    let preprocess = &dataset.preprocess;
    let colour = match preprocess.colour {
        Colour::Grey => ExtendedColorType::L8,
        Colour::Rgb => ExtendedColorType::Rgb8,
    };
    let mut png = Vec::with_capacity(2048);
    PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
        .write_image(
            &split.image(index)?,
            preprocess.width,
            preprocess.height,
            colour,
        )
        .with_context(|| format!("{}: cannot be encoded", path.display()))?;
    fs::write(path, png).with_context(|| format!("{}: cannot be written", path.display()))
}

fn write_idx(
    dataset: &Dataset,
    chosen: &[(Part, &Split, Vec<usize>)],
    folder: &Path,
) -> Result<()> {
    for (part, split, indices) in chosen {
        let (pixels, labels) = grey_bytes(dataset, split, indices)?;
        if labels.is_empty() {
            continue;
        }
        // The name the MNIST family gives its test files.
        let beginning = if *part == Part::Test {
            "t10k"
        } else {
            part.name()
        };
        let images = idx::Images {
            height: dataset.preprocess.height,
            width: dataset.preprocess.width,
            pixels,
        };
        idx::write_images(
            &folder.join(format!("{beginning}-images-idx3-ubyte")),
            &images,
        )?;
        idx::write_labels(
            &folder.join(format!("{beginning}-labels-idx1-ubyte")),
            &labels,
        )?;
    }
    write_class_names(dataset, folder)
}

fn write_csv(
    dataset: &Dataset,
    chosen: &[(Part, &Split, Vec<usize>)],
    folder: &Path,
) -> Result<()> {
    let (height, width) = (dataset.preprocess.height, dataset.preprocess.width);
    ensure!(
        (height, width) == (pixel_csv::SIDE, pixel_csv::SIDE),
        "{}: images of {height}×{width} pixels: the 785-column CSV holds 28×28; load them with that size, or export images",
        dataset.name
    );
    for (part, split, indices) in chosen {
        let (pixels, labels) = grey_bytes(dataset, split, indices)?;
        if !labels.is_empty() {
            let file = format!("{}_{}.csv", file_name_of(&dataset.name), part.name());
            pixel_csv::write(&folder.join(file), &labels, &pixels)?;
        }
    }
    write_class_names(dataset, folder)
}

fn grey_bytes(dataset: &Dataset, split: &Split, indices: &[usize]) -> Result<(Vec<u8>, Vec<u8>)> {
    if dataset.preprocess.colour != Colour::Grey {
        bail!(
            "{}: colour images: IDX and CSV hold grey ones; load them as grey, or export images",
            dataset.name
        );
    }
    let chosen = split.subset(indices);
    let labels = chosen
        .labels
        .iter()
        .map(|&label| u8::try_from(label))
        .collect::<Result<_, _>>();
    Ok((
        chosen.pixels.to_vec()?,
        labels.with_context(|| {
            format!(
                "{}: more than the 256 classes IDX and CSV hold",
                dataset.name
            )
        })?,
    ))
}

fn write_class_names(dataset: &Dataset, folder: &Path) -> Result<()> {
    let mut lines = String::new();
    for class in &dataset.classes {
        ensure!(
            !class.contains(['\n', '\r']),
            "class {class:?}: a name with a line break cannot be written"
        );
        lines += class;
        lines += "\n";
    }
    let path = folder.join(CLASSES_FILE);
    fs::write(&path, lines).with_context(|| format!("{}: cannot be written", path.display()))
}

/// A folder name for each class: its name, with what file systems forbid replaced by `-` and doubles numbered.
pub(crate) fn folder_names(classes: &[String]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::with_capacity(classes.len());
    for class in classes {
        let plain = file_name_of(class);
        let mut name = plain.clone();
        let mut number = 2;
        // Compared in lower case: some file systems do not tell `Bag` from `bag`.
        while !taken.insert(name.to_lowercase()) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        names.push(name);
    }
    names
}

fn file_name_of(name: &str) -> String {
    let is_forbidden = |letter: char| letter.is_control() || "/\\:*?\"<>|".contains(letter);
    let name: String = name
        .chars()
        .map(|letter| if is_forbidden(letter) { '-' } else { letter })
        .collect();
    // A leading dot would hide the folder, a trailing dot or space is dropped by some systems.
    let name = name.trim_end_matches(['.', ' ']);
    match name.strip_prefix('.') {
        Some(rest) => format!("-{rest}"),
        None if name.is_empty() => "-".to_owned(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::PixelStore;
    use crate::dataset::{LoadSettings, Parts, Pixels, Purpose, Source, load};
    use pipeline::preprocess::Preprocess;
    use std::path::PathBuf;

    fn dataset(side: u32, colour: Colour) -> Dataset {
        let preprocess = Preprocess::stretch(side, side, colour);
        let split = |labels: Vec<u32>, seed: usize| Split {
            pixels: PixelStore::in_memory(
                (0..labels.len() * preprocess.bytes_per_image())
                    .map(|at| (at * 31 + at / 7 + seed) as u8)
                    .collect(),
                preprocess.bytes_per_image(),
            ),
            sources: vec![String::new(); labels.len()],
            labels,
        };
        Dataset {
            name: "tiny".into(),
            classes: vec!["Shirt".into(), "T-shirt/top".into()],
            train: split(vec![0, 1, 1, 0, 0], 1),
            validation: Some(split(vec![1, 0], 2)),
            test: Some(split(vec![1, 0, 1], 3)),
            preprocess: preprocess.clone(),
            skipped: Vec::new(),
            fingerprint: String::new(),
        }
    }

    fn reload(folder: &Path) -> Dataset {
        let settings = LoadSettings {
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
        };
        load(
            &Source::detect(folder.to_str().unwrap()).unwrap(),
            &settings,
        )
        .unwrap()
    }

    #[test]
    fn every_format_comes_back_as_it_was() {
        for (format, colour) in [
            (Format::Images, Colour::Grey),
            (Format::Images, Colour::Rgb),
            (Format::Idx, Colour::Grey),
            (Format::Csv, Colour::Grey),
        ] {
            let dataset = dataset(28, colour);
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("made/out");
            assert_eq!(export(&dataset, &out, format, None).unwrap(), 10);
            let back = reload(&out);
            assert_eq!(
                (&back.classes, &back.preprocess),
                (&dataset.classes, &dataset.preprocess),
                "{format:?}"
            );
            for ((part, back), (_, split)) in back.parts().zip(dataset.parts()) {
                assert_eq!(
                    (&back.labels, &back.pixels),
                    (&split.labels, &split.pixels),
                    "{format:?} {part:?}"
                );
            }
            let left: Vec<_> = out
                .parent()
                .unwrap()
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(left, ["out"]);
        }
    }

    #[test]
    fn names_carry_class_and_index() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        export(&dataset(4, Colour::Rgb), &out, Format::Images, Some(2)).unwrap();
        let manifest = fs::read_to_string(out.join("manifest.csv")).unwrap();
        let rows: Vec<&str> = manifest.lines().take(3).collect();
        assert_eq!(
            rows,
            [
                "path,label,split,index",
                "train/Shirt/00000.png,Shirt,train,0",
                "train/T-shirt-top/00001.png,T-shirt/top,train,1"
            ]
        );
        assert_eq!(manifest.lines().count(), 7);
        assert!(out.join("test/T-shirt-top/00000.png").is_file());
    }

    #[test]
    fn a_limit_takes_evenly_from_the_classes() {
        let split = Split {
            labels: vec![0, 0, 0, 0, 1, 1, 2],
            ..Split::default()
        };
        assert_eq!(choose(&split, 3, Some(5)), [0, 1, 4, 5, 6]);
        assert_eq!(choose(&split, 3, Some(2)), [0, 4]);
        assert_eq!(choose(&split, 3, None).len(), 7);
        assert_eq!(choose(&split, 3, Some(0)), [0; 0]);
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        export(&dataset(4, Colour::Rgb), &out, Format::Images, None).unwrap();
        let message = export(&dataset(4, Colour::Rgb), &out, Format::Images, None)
            .unwrap_err()
            .to_string();
        assert!(message.contains("the folder is not empty"), "{message}");
        let file = out.join("manifest.csv");
        let message = export(&dataset(4, Colour::Rgb), &file, Format::Images, None)
            .unwrap_err()
            .to_string();
        assert!(message.contains("not a folder"), "{message}");
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let message = |dataset: &Dataset, format| {
            export(dataset, &out, format, None).unwrap_err().to_string()
        };
        assert!(message(&dataset(28, Colour::Rgb), Format::Idx).contains("colour images"));
        assert!(message(&dataset(4, Colour::Grey), Format::Csv).contains("images of 4×4 pixels"));
        let mut many = dataset(28, Colour::Grey);
        many.train.labels[0] = 256;
        many.classes = (0..257).map(|label| label.to_string()).collect();
        assert!(message(&many, Format::Idx).contains("more than the 256 classes"));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn folder_names_are_safe_and_distinct() {
        let classes = ["a/b", "a\\b", "A-B", "..", ".hidden", "end. ", ""].map(str::to_owned);
        assert_eq!(
            folder_names(&classes),
            ["a-b", "a-b-2", "A-B-3", "-", "-hidden", "end", "--2"]
        );
    }
}
