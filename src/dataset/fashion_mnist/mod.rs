//! Fashion-MNIST: where it is on this machine, whether it is really it, and its class names.
//!
//! 60,000 training and 10,000 test images of 28×28 grey pixels (Xiao, Rasul, Vollgraf 2017; MIT licence). Whatever the files came
//! from, they are used only if the SHA-256 of their uncompressed content is right. Getting them is [`fetch`]'s.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pipeline::preprocess::Preprocess;

use super::numbered::{self, ClassNames, Numbered};
use super::{Dataset, LoadSettings, Pixels, fingerprint, idx, idx_folder};

mod fetch;

/// Class names in the order of the labels, which is the data set's own and not the natural order.
pub(super) const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Where the Debian package puts it.
const SYSTEM_FOLDER: &str = "/usr/share/datasets/fashion-mnist";

/// SHA-256 of the uncompressed files: compression differs between sources, the content does not.
struct Hashes {
    images: &'static str,
    labels: &'static str,
    /// [`fingerprint::of_images_in_any_order`], which also knows the images from a shuffled CSV.
    in_any_order: &'static str,
}

const TRAIN: Hashes = Hashes {
    images: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    labels: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    in_any_order: "0c69d5cdeb902b69084012f812f066de080317bb3c64f43ca87f910d8ec86906",
};

const TEST: Hashes = Hashes {
    images: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    labels: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    in_any_order: "90c92c0507755a7d443edde8297ce4d0f131e42884e2e87e7fc9b81ffe215258",
};

pub(super) fn load(settings: &LoadSettings) -> Result<Dataset> {
    let installed = settings.cache.join("datasets").join("fashion-mnist");
    let parts = match find([PathBuf::from(SYSTEM_FOLDER), installed.clone()]) {
        Some(parts) => parts,
        None if settings.offline => bail!(
            "fashion-mnist: not on this machine (looked in {SYSTEM_FOLDER} and {}), and fetching is forbidden: install the \
             Debian package dataset-fashion-mnist, put its four .gz files into the second folder, or allow fetching once",
            installed.display()
        ),
        None => fetch::fetch(&installed)?,
    };
    let dataset = numbered::assemble(
        "fashion-mnist".to_owned(),
        ClassNames::Known(&CLASSES),
        parts,
        settings,
    )?;
    Ok(match settings.pixels {
        Pixels::Contract(_) => dataset,
        // Its own pixels stay as they are; a model of it shall also know photos of such articles.
        Pixels::Wished { .. } | Pixels::PlainBackground { .. } => {
            let Preprocess {
                height,
                width,
                colour,
                ..
            } = dataset.preprocess;
            Dataset {
                preprocess: Preprocess::fashion_mnist(height, width, colour),
                ..dataset
            }
        }
    })
}

/// The parts from the first folder that has them intact; a damaged copy is reported and passed over.
fn find(folders: [PathBuf; 2]) -> Option<[Option<Numbered>; 3]> {
    for folder in folders.into_iter().filter(|folder| folder.is_dir()) {
        match read_verified(&folder) {
            Ok(parts) => return Some(parts),
            Err(error) => tracing::warn!("this copy of fashion-mnist is not used: {error:#}"),
        }
    }
    None
}

/// Reads the four files of a folder, plain or .gz.
///
/// # Errors
/// When a file is missing, damaged, or not Fashion-MNIST's.
fn read_verified(folder: &Path) -> Result<[Option<Numbered>; 3]> {
    let [train, _, test] = idx_folder::read(folder)?;
    let verified = |part: Option<Numbered>,
                    name: &str,
                    hashes: &Hashes|
     -> Result<Option<Numbered>> {
        let part = part.with_context(|| format!("{}: no {name} files", folder.display()))?;
        let images = idx::Images {
            height: part.height,
            width: part.width,
            pixels: part.pixels,
        };
        ensure!(
            images.sha256() == hashes.images && idx::labels_sha256(&part.labels) == hashes.labels,
            "{}: the {name} images or labels are not Fashion-MNIST's: SHA-256 of the uncompressed images {}, expected {}",
            folder.display(),
            images.sha256(),
            hashes.images
        );
        Ok(Some(Numbered {
            pixels: images.pixels,
            ..part
        }))
    };
    Ok([
        verified(train, "train", &TRAIN)?,
        None,
        verified(test, "test", &TEST)?,
    ])
}

/// Whether these are Fashion-MNIST's training or test images with their labels, in any order.
pub(super) fn is_part_of_it(part: &Numbered) -> bool {
    let hashes = match part.labels.len() {
        60_000 => &TRAIN,
        10_000 => &TEST,
        _ => return false,
    };
    (part.height, part.width) == (28, 28)
        && fingerprint::of_images_in_any_order(&part.labels, &part.pixels, 28 * 28)
            == hashes.in_any_order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_images_under_its_names_are_not_it() {
        let folder = tempfile::tempdir().unwrap();
        for beginning in ["train", "t10k"] {
            let images = idx::Images {
                height: 28,
                width: 28,
                pixels: vec![0; 2 * 784],
            };
            idx::write_images(
                &folder.path().join(format!("{beginning}-images-idx3-ubyte")),
                &images,
            )
            .unwrap();
            idx::write_labels(
                &folder.path().join(format!("{beginning}-labels-idx1-ubyte")),
                &[0, 1],
            )
            .unwrap();
        }
        let error = read_verified(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("are not Fashion-MNIST's"),
            "{error}"
        );
        assert!(find([folder.path().to_owned(), folder.path().join("missing")]).is_none());
    }

    #[test]
    fn only_parts_of_the_right_size_are_hashed() {
        let part = |count: usize| Numbered {
            file: PathBuf::new(),
            height: 28,
            width: 28,
            pixels: vec![0; count * 784],
            labels: vec![0; count],
        };
        assert!(!is_part_of_it(&part(5)) && !is_part_of_it(&part(10_000)));
    }
}
