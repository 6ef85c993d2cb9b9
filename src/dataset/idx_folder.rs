//! A folder of IDX files: which of its files are the images and labels of which part, and whether they belong together.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::numbered::{self, Numbered};
use super::{Dataset, LoadSettings, Part, idx};

/// Whether the file's name is that of IDX images.
pub(super) fn is_images(path: &Path) -> bool {
    beginning_before(path, "images", "idx3").is_some()
}

/// Whether the file's name is that of IDX labels.
pub(super) fn is_labels(path: &Path) -> bool {
    beginning_before(path, "labels", "idx1").is_some()
}

pub(super) fn load(folder: &Path, settings: &LoadSettings) -> Result<Dataset> {
    let name = folder
        .file_name()
        .unwrap_or(folder.as_os_str())
        .to_string_lossy()
        .into_owned();
    numbered::assemble(
        name,
        numbered::ClassNames::Beside(folder),
        read(folder)?,
        settings,
    )
}

/// Reads the parts the folder has, in the order train, validation, test.
///
/// # Errors
/// When a file cannot be read, images lack labels or the other way round, or their counts differ.
pub(super) fn read(folder: &Path) -> Result<[Option<Numbered>; 3]> {
    let mut files = Vec::new();
    for entry in folder
        .read_dir()
        .with_context(|| format!("{}: cannot be listed", folder.display()))?
    {
        files.push(
            entry
                .with_context(|| format!("{}: cannot be listed", folder.display()))?
                .path(),
        );
    }
    files.sort();

    let mut parts = [None, None, None];
    for (slot, part) in parts.iter_mut().zip(Part::ALL) {
        let images = find(&files, part, "images", "idx3")?;
        let labels = find(&files, part, "labels", "idx1")?;
        *slot = match (images, labels) {
            (Some(images), Some(labels)) => Some(read_pair(images, labels)?),
            (None, None) => None,
            (Some(images), None) => bail!(
                "{}: no {}-labels-idx1-ubyte file beside it",
                images.display(),
                part.name()
            ),
            (None, Some(labels)) => bail!(
                "{}: no {}-images-idx3-ubyte file beside it",
                labels.display(),
                part.name()
            ),
        };
    }
    ensure!(
        parts.iter().any(Option::is_some),
        "{}: its IDX files are of no part we know: expected train-images-idx3-ubyte and train-labels-idx1-ubyte (also `t10k-`, \
         `test-`, `validation-`; plain or .gz)",
        folder.display()
    );
    Ok(parts)
}

fn read_pair(images_file: &Path, labels_file: &Path) -> Result<Numbered> {
    let images = idx::read_images(images_file)?;
    let labels = idx::read_labels(labels_file)?;
    ensure!(
        images.len() == labels.len(),
        "{}: {} images, but {} has {} labels: the files do not belong together",
        images_file.display(),
        images.len(),
        labels_file.display(),
        labels.len()
    );
    Ok(Numbered {
        file: images_file.to_owned(),
        height: images.height,
        width: images.width,
        pixels: images.pixels,
        labels,
    })
}

/// The one file of a part and kind; of a plain and a compressed copy the plain one.
fn find<'a>(
    files: &'a [PathBuf],
    part: Part,
    kind: &str,
    format: &str,
) -> Result<Option<&'a Path>> {
    let mut found: Option<(&Path, String)> = None;
    for file in files {
        let Some(beginning) = beginning_before(file, kind, format) else {
            continue;
        };
        let last_word = beginning.rsplit(['-', '_', '.']).next().unwrap_or_default();
        if Part::parse(last_word) != Some(part) {
            continue;
        }
        match &found {
            // Sorted by name, `x.gz` comes right after `x`.
            Some((_, first)) if *first == beginning => {}
            Some((first, _)) => {
                bail!(
                    "{}: two {} {kind} files; the other is {}",
                    file.display(),
                    part.name(),
                    first.display()
                )
            }
            None => found = Some((file, beginning)),
        }
    }
    Ok(found.map(|(file, _)| file))
}

/// `train` for `train-images-idx3-ubyte`, `train-images.idx3-ubyte` and either with `.gz`; `None` for other names.
fn beginning_before(path: &Path, kind: &str, format: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.strip_suffix("-ubyte")?.strip_suffix(format)?;
    let name = name.strip_suffix(['-', '.'])?.strip_suffix(kind)?;
    Some(name.strip_suffix(['-', '_', '.'])?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, beginning: &str, images: usize, labels: usize) {
        let content = idx::Images {
            height: 1,
            width: 2,
            pixels: vec![images as u8; images * 2],
        };
        idx::write_images(
            &folder.join(format!("{beginning}-images-idx3-ubyte")),
            &content,
        )
        .unwrap();
        idx::write_labels(
            &folder.join(format!("{beginning}-labels-idx1-ubyte")),
            &vec![0; labels],
        )
        .unwrap();
    }

    #[test]
    fn names_of_the_family_are_known() {
        for name in [
            "train-images-idx3-ubyte",
            "train-images.idx3-ubyte",
            "a/TRAIN-images-idx3-ubyte.gz",
        ] {
            assert_eq!(
                beginning_before(Path::new(name), "images", "idx3").as_deref(),
                Some("train")
            );
        }
        assert!(is_labels(Path::new(
            "emnist-letters-test-labels-idx1-ubyte.gz"
        )));
        assert!(
            !is_images(Path::new("train-labels-idx1-ubyte")) && !is_images(Path::new("images.png"))
        );
    }

    #[test]
    fn parts_are_found_and_paired() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "emnist-train", 3, 3);
        write(folder.path(), "emnist-test", 2, 2);
        std::fs::write(
            folder.path().join("emnist-train-images-idx3-ubyte.gz"),
            b"an older copy",
        )
        .unwrap();
        let [train, validation, test] = read(folder.path()).unwrap();
        assert_eq!(
            (
                train.unwrap().labels.len(),
                validation.is_none(),
                test.unwrap().labels.len()
            ),
            (3, true, 2)
        );
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train", 3, 2);
        let message = || format!("{:#}", read(folder.path()).unwrap_err());
        assert!(message().contains("3 images, but") && message().contains("has 2 labels"));
        std::fs::remove_file(folder.path().join("train-labels-idx1-ubyte")).unwrap();
        assert!(message().contains("no train-labels-idx1-ubyte file beside it"));
        write(folder.path(), "train", 3, 3);
        write(folder.path(), "letters-train", 3, 3);
        assert!(message().contains("two train images files"));
    }

    #[test]
    fn unknown_parts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "x", 2, 2);
        assert!(
            read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("of no part we know")
        );
    }
}
