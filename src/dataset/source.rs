//! What an argument names: a known data set, or files whose kind is told by looking at them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Part, idx_folder};

/// Where a data set comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Fashion-MNIST by name: 70,000 grey images of 28×28 pixels in 10 classes.
    FashionMnist,
    /// A folder of IDX files, plain or gzip.
    Idx(PathBuf),
    /// CSV files of 785 columns.
    Csv {
        /// Training images.
        train: PathBuf,
        /// Validation images.
        validation: Option<PathBuf>,
        /// Test images.
        test: Option<PathBuf>,
    },
    /// A folder of class folders, or of `train`, `val` and `test` folders of class folders.
    Folder(PathBuf),
    /// A CSV of image paths and labels.
    Manifest(PathBuf),
}

impl Source {
    /// Whether its images are files of their own, as photos are.
    pub fn is_image_files(&self) -> bool {
        matches!(self, Self::Folder(_) | Self::Manifest(_))
    }

    /// The file of an image that a data set calls `source`, where images are files of their own.
    pub fn file(&self, source: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(source)),
            Self::Manifest(list) => Some(list.parent()?.join(source)),
            Self::FashionMnist | Self::Idx(_) | Self::Csv { .. } => None,
        }
    }
}

/// What a data set can be, for messages.
const KINDS: &str = "`fashion-mnist`, a folder of class folders, a folder of IDX files, a CSV of 785 columns, or a CSV with the \
                     columns path and label";

/// A first line longer than this is no CSV of ours.
const LONGEST_FIRST_LINE: u64 = 1 << 20;

impl Source {
    /// Says what `argument` names: `fashion-mnist`, or else a path.
    ///
    /// # Errors
    /// When there is no such path, it cannot be read, or its kind is not recognised.
    pub fn detect(argument: &str) -> Result<Self> {
        let path = Path::new(argument);
        if argument == "fashion-mnist" {
            return Ok(Self::FashionMnist);
        }
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("{argument}: no such file or folder; a data set is {KINDS}")
            }
            Err(error) => return Err(error).with_context(|| format!("{argument}: cannot be read")),
        };
        if metadata.is_dir() {
            detect_folder(path)
        } else if metadata.is_file() {
            detect_file(path)
        } else {
            bail!("{argument}: neither a file nor a folder; a data set is {KINDS}")
        }
    }
}

fn detect_folder(folder: &Path) -> Result<Source> {
    let mut files = Vec::new();
    let mut has_folders = false;
    let entries = folder
        .read_dir()
        .with_context(|| format!("{}: cannot be listed", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("{}: cannot be listed", folder.display()))?
            .path();
        if path.is_dir() {
            has_folders = true;
        } else {
            files.push(path);
        }
    }
    files.sort();

    if files.iter().any(|file| idx_folder::is_images(file)) {
        return Ok(Source::Idx(folder.to_owned()));
    }
    let manifest = folder.join("manifest.csv");
    if files.contains(&manifest) && is_manifest_header(&first_line(&manifest)?) {
        return Ok(Source::Manifest(manifest));
    }
    if has_folders {
        return Ok(Source::Folder(folder.to_owned()));
    }
    if let Some(source) = detect_csv_parts(folder, &files)? {
        return Ok(source);
    }
    match files.len() {
        0 => bail!(
            "{}: the folder is empty; a data set is {KINDS}",
            folder.display()
        ),
        count => bail!(
            "{}: {count} files but no class folders: put the images of each class into a folder of its own, or list them in a \
             CSV with the columns path and label",
            folder.display()
        ),
    }
}

/// Files that end in `train.csv`, `validation.csv` and `test.csv` after the same beginning.
fn detect_csv_parts(folder: &Path, files: &[PathBuf]) -> Result<Option<Source>> {
    let mut trains = files.iter().filter_map(|file| {
        let name = file.file_name()?.to_str()?;
        Some((file, name.strip_suffix("train.csv")?))
    });
    let Some((train, beginning)) = trains.next() else {
        return Ok(None);
    };
    if let Some((second, _)) = trains.next() {
        bail!(
            "{}: two training files, {} and {}: give one of them",
            folder.display(),
            train.display(),
            second.display()
        );
    }
    let sibling = |part: Part| {
        let path = folder.join(format!("{beginning}{}.csv", part.name()));
        files.contains(&path).then_some(path)
    };
    Ok(Some(Source::Csv {
        train: train.clone(),
        validation: sibling(Part::Validation),
        test: sibling(Part::Test),
    }))
}

fn detect_file(file: &Path) -> Result<Source> {
    let name = file.display();
    if idx_folder::is_images(file) || idx_folder::is_labels(file) {
        bail!(
            "{name}: one file of an IDX data set: give the folder that holds its images and labels"
        );
    }
    let line = first_line(file)?;
    if is_manifest_header(&line) {
        return Ok(Source::Manifest(file.to_owned()));
    }
    if line.contains(&b',') && std::str::from_utf8(&line).is_ok_and(|text| !text.contains('\0')) {
        return Ok(Source::Csv {
            train: file.to_owned(),
            validation: None,
            test: None,
        });
    }
    if line.is_empty() {
        bail!("{name}: the file is empty; a data set is {KINDS}");
    }
    bail!("{name}: not recognised; a data set is {KINDS}")
}

fn first_line(file: &Path) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    File::open(file)
        .and_then(|open| BufReader::new(open.take(LONGEST_FIRST_LINE)).read_until(b'\n', &mut line))
        .with_context(|| format!("{}: cannot be read", file.display()))?;
    Ok(line)
}

fn is_manifest_header(line: &[u8]) -> bool {
    let mut reader = csv::ReaderBuilder::new().from_reader(line);
    reader.headers().is_ok_and(|headers| {
        let has = |wanted| {
            headers
                .iter()
                .any(|name| super::manifest::is_column(name, wanted))
        };
        has("path") && has("label")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn detect(path: &Path) -> Result<Source> {
        Source::detect(path.to_str().unwrap())
    }

    fn message(path: &Path) -> String {
        format!("{:#}", detect(path).unwrap_err())
    }

    #[test]
    fn each_kind_is_told_by_looking() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["classes/a", "classes/b", "idx", "pair", "listed/a"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("idx/train-images-idx3-ubyte.gz"), b"").unwrap();
        fs::write(path("pair/fashion-mnist_train.csv"), b"1,2,3").unwrap();
        fs::write(path("pair/fashion-mnist_test.csv"), b"1,2,3").unwrap();
        fs::write(path("listed/manifest.csv"), b"path,label\n").unwrap();
        fs::write(path("list.csv"), "\u{feff}id,Label,\"path\"\r\n").unwrap();
        fs::write(path("pixels.csv"), b"label,pixel1,pixel2\n").unwrap();

        assert_eq!(
            Source::detect("fashion-mnist").unwrap(),
            Source::FashionMnist
        );
        assert_eq!(
            detect(&path("classes")).unwrap(),
            Source::Folder(path("classes"))
        );
        assert_eq!(detect(&path("idx")).unwrap(), Source::Idx(path("idx")));
        assert_eq!(
            detect(&path("pair")).unwrap(),
            Source::Csv {
                train: path("pair/fashion-mnist_train.csv"),
                validation: None,
                test: Some(path("pair/fashion-mnist_test.csv")),
            }
        );
        assert_eq!(
            detect(&path("listed")).unwrap(),
            Source::Manifest(path("listed/manifest.csv"))
        );
        assert_eq!(
            detect(&path("list.csv")).unwrap(),
            Source::Manifest(path("list.csv"))
        );
        let pixels = path("pixels.csv");
        assert_eq!(
            detect(&pixels).unwrap(),
            Source::Csv {
                train: pixels,
                validation: None,
                test: None
            }
        );
    }

    #[test]
    fn what_is_no_data_set_is_said_in_one_line() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["empty", "loose"] {
            fs::create_dir(path(folder)).unwrap();
        }
        for (file, content) in [
            ("loose/a.jpg", "x"),
            ("a.txt", "hello"),
            ("nothing", ""),
            ("b-images-idx3-ubyte", "x"),
        ] {
            fs::write(path(file), content).unwrap();
        }
        fs::write(path("picture"), b"\xff\xd8\xff,\0").unwrap();
        for (name, expected) in [
            ("missing", "no such file or folder"),
            ("empty", "the folder is empty"),
            ("loose", "1 files but no class folders"),
            ("a.txt", "not recognised"),
            ("nothing", "the file is empty"),
            ("b-images-idx3-ubyte", "give the folder"),
            ("picture", "not recognised"),
        ] {
            let message = message(&path(name));
            assert!(
                message.contains(expected) && !message.contains('\n'),
                "{message}"
            );
        }
    }
}
