//! A batch: as many files as one run of the model takes, decoded side by side into one tensor that is used again and again.

use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _,
};
use rayon::slice::ParallelSliceMut as _;

use super::walk::Source;
use crate::decode::{Decoded, Fault, Limits, decode_file};
use crate::preprocess::Preprocess;

/// Files with what decoding made of them.
pub(crate) struct Batch {
    pub(crate) sources: Vec<Source>,
    /// One entry per source.
    pub(crate) decoded: Vec<Result<Decoded, Fault>>,
    /// `[batch size, H, W, C]`; rows of files that failed, and rows after the last file, are zero.
    pub(crate) pixels: Vec<u8>,
}

impl Batch {
    /// Decodes `sources` into `pixels` on the threads of the rayon pool this is called in.
    ///
    /// `pixels` has room for a whole batch, whatever it holds from an earlier one.
    pub(crate) fn decode(
        sources: Vec<Source>,
        mut pixels: Vec<u8>,
        preprocess: &Preprocess,
        limits: &Limits,
    ) -> Self {
        let bytes = preprocess.bytes_per_image();
        // Neighbours cost about the same, but a single huge file must not hold up a whole share of the batch.
        let decoded = sources
            .par_iter()
            .zip(pixels.par_chunks_exact_mut(bytes))
            .with_max_len(1)
            .map(|(source, row)| {
                let decoded = decode_file(&source.path, preprocess, limits, row);
                if decoded.is_err() {
                    row.fill(0);
                }
                decoded
            })
            .collect();
        pixels[sources.len() * bytes..].fill(0);
        Self {
            sources,
            decoded,
            pixels,
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::*;
    use crate::decode::Status;
    use crate::preprocess::Colour;

    #[test]
    fn every_file_lands_in_its_own_row_and_nothing_is_left_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let sources: Vec<Source> = (0..5u8)
            .map(|number| {
                let path = folder.path().join(format!("{number}.png"));
                match number {
                    3 => std::fs::write(&path, "no image").unwrap(),
                    _ => GrayImage::from_pixel(2, 1, Luma([10 + number]))
                        .save(&path)
                        .unwrap(),
                }
                Source {
                    shown: path.clone(),
                    path,
                }
            })
            .collect();
        let preprocess = Preprocess::stretch(1, 2, Colour::Grey);
        let batch = Batch::decode(sources, vec![99; 12], &preprocess, &Limits::default());
        assert_eq!(batch.pixels, [10, 10, 11, 11, 12, 12, 0, 0, 14, 14, 0, 0]);
        assert_eq!(
            batch.decoded[3].as_ref().unwrap_err().status,
            Status::NotAnImage
        );
        assert_eq!(
            batch
                .decoded
                .iter()
                .filter(|decoded| decoded.is_ok())
                .count(),
            4
        );
    }
}
