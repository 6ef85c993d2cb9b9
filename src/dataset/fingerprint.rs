//! The identity of a data set: SHA-256 over classes, shape, labels and pixels.
//!
//! Names of files do not enter: the same images in another folder are the same data.

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::{Dataset, Split};

/// SHA-256 in hexadecimal over classes, shape, and the labels and pixels of every part in order.
///
/// # Errors
/// When the images cannot be read back from their file.
pub(super) fn of(dataset: &Dataset) -> Result<String> {
    let mut hasher = Sha256::new();
    // Every piece is preceded by its length, so no two data sets feed the same bytes.
    hasher.update((dataset.classes.len() as u64).to_le_bytes());
    for class in &dataset.classes {
        hasher.update((class.len() as u64).to_le_bytes());
        hasher.update(class);
    }
    for number in [
        dataset.preprocess.height,
        dataset.preprocess.width,
        dataset.preprocess.colour.channels() as u32,
    ] {
        hasher.update(number.to_le_bytes());
    }
    for split in [
        Some(&dataset.train),
        dataset.validation.as_ref(),
        dataset.test.as_ref(),
    ] {
        add_split(&mut hasher, split)?;
    }
    Ok(hexadecimal(&hasher.finalize()))
}

fn add_split(hasher: &mut Sha256, split: Option<&Split>) -> Result<()> {
    let Some(split) = split else {
        hasher.update(u64::MAX.to_le_bytes());
        return Ok(());
    };
    hasher.update((split.len() as u64).to_le_bytes());
    for label in &split.labels {
        hasher.update(label.to_le_bytes());
    }
    for image in split.pixels.images() {
        hasher.update(&image?);
    }
    Ok(())
}

/// SHA-256 in hexadecimal over the sorted hashes of the images with their labels: the same for any order of the images.
///
/// `labels` has one entry per image of `pixels`, `[N, image_size]`.
pub(super) fn of_images_in_any_order(labels: &[u8], pixels: &[u8], image_size: usize) -> String {
    let mut hashes: Vec<_> = labels
        .iter()
        .zip(pixels.chunks_exact(image_size.max(1)))
        .map(|(label, image)| {
            Sha256::new()
                .chain_update([*label])
                .chain_update(image)
                .finalize()
        })
        .collect();
    hashes.sort_unstable();
    let mut hasher = Sha256::new();
    for hash in &hashes {
        hasher.update(hash);
    }
    hexadecimal(&hasher.finalize())
}

/// Lower-case hexadecimal digits of `bytes`.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::PixelStore;
    use pipeline::preprocess::{Colour, Preprocess};

    fn dataset() -> Dataset {
        let split = |label| Split {
            pixels: PixelStore::in_memory(vec![label as u8; 4], 4),
            labels: vec![label],
            sources: vec!["a".into()],
        };
        Dataset {
            name: "tiny".into(),
            classes: vec!["a".into(), "b".into()],
            preprocess: Preprocess::stretch(2, 2, Colour::Grey),
            train: split(0),
            validation: None,
            test: Some(split(1)),
            skipped: Vec::new(),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn depends_on_content_only() {
        let reference = of(&dataset()).unwrap();
        let mut same = dataset();
        same.name = "moved".into();
        same.train.sources = vec!["b".into()];
        assert_eq!(of(&same).unwrap(), reference);

        let changes: [fn(&mut Dataset); 5] = [
            |d| d.classes[1].push('x'),
            |d| d.train.pixels = PixelStore::in_memory(vec![0, 0, 0, 1], 4),
            |d| d.train.labels[0] = 1,
            |d| (d.preprocess.height, d.preprocess.width) = (1, 4),
            |d| d.validation = d.test.take(),
        ];
        for change in changes {
            let mut other = dataset();
            change(&mut other);
            assert_ne!(of(&other).unwrap(), reference);
        }
    }

    #[test]
    fn image_order_is_ignored_but_labels_are_not() {
        let reference = of_images_in_any_order(&[1, 2], &[10, 11, 20, 21], 2);
        assert_eq!(
            of_images_in_any_order(&[2, 1], &[20, 21, 10, 11], 2),
            reference
        );
        assert_ne!(
            of_images_in_any_order(&[2, 1], &[10, 11, 20, 21], 2),
            reference
        );
    }
}
