//! A batch: as many files as one run of the model takes, decoded side by side into one tensor that is used again and again.

use std::collections::HashSet;

use anyhow::Result;
use blake3::Hash;
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _,
};
use rayon::slice::ParallelSliceMut as _;

use super::earlier::is_same;
use super::journal::Remembered;
use super::walk::{Source, out_of_files};
use crate::decode::{Content, Fault, Limits, MemoryBudget, Refusal, Stamp, decode_within, read};
use crate::preprocess::Preprocess;

/// A file that has to be looked at.
pub(crate) struct Todo {
    pub(crate) source: Source,
    /// As the walk saw it.
    pub(crate) stamp: Stamp,
    /// What became of it last time, which still holds where its content is the same.
    pub(crate) last_time: Option<Remembered>,
}

/// What came of looking at a file.
pub(crate) struct Looked {
    /// Of the file as it was read.
    pub(crate) stamp: Stamp,
    /// None where it could not be read.
    pub(crate) content: Option<Hash>,
    pub(crate) finding: Finding,
}

/// What a file turned out to be.
pub(crate) enum Finding {
    /// An image, now in its row of the batch; and what is wrong with it, where something is.
    Image(Option<String>),
    /// Nothing that can be classified.
    Fault(Fault),
    /// The same as a file before it.
    Duplicate,
    /// The same as last time.
    Unchanged,
}

impl Looked {
    pub(crate) fn is_image(&self) -> bool {
        matches!(self.finding, Finding::Image(_))
    }
}

/// What was read of a file ahead of time; none where there was no room for it.
pub(crate) type ReadAhead<'a> = Option<Result<Content<'a>, Refusal>>;

/// What all files of a run are looked at with.
pub(crate) struct Decoding<'a> {
    pub(crate) preprocess: &'a Preprocess,
    pub(crate) limits: &'a Limits,
    pub(crate) memory: &'a MemoryBudget,
}

impl Decoding<'_> {
    /// Looks at `files` on the threads of the rayon pool this is called in; image `i` fills row `i` of `pixels`.
    ///
    /// `ahead` has what was read of each file ahead of time; what was not is read here.
    /// `pixels`, `[batch size, H, W, C]`, has room for all files, whatever it holds from an earlier batch; rows without an
    /// image are zero afterwards. `seen` has the contents of earlier batches, and gets those of this one.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub(crate) fn look_at(
        &self,
        files: &[Todo],
        ahead: Vec<ReadAhead<'_>>,
        pixels: &mut [u8],
        seen: &mut HashSet<Hash>,
    ) -> Result<Vec<Looked>> {
        let bytes = self.preprocess.bytes_per_image();
        let before = &*seen;
        // Neighbours cost about the same, but a single huge file must not hold up a whole share of the batch.
        let mut results: Vec<Result<Looked, Refusal>> = files
            .par_iter()
            .zip(ahead)
            .zip(pixels.par_chunks_exact_mut(bytes))
            .with_max_len(1)
            .map(|((file, ahead), row)| self.look(file, ahead, row, before))
            .collect();
        // What found no memory beside the others finds it now that they are through.
        for (index, result) in results.iter_mut().enumerate() {
            if matches!(result, Err(Refusal::NoRoom)) {
                let row = &mut pixels[index * bytes..(index + 1) * bytes];
                *result = self.look(&files[index], None, row, before);
            }
        }
        pixels[files.len() * bytes..].fill(0);
        let mut looked = Vec::with_capacity(files.len());
        for (file, result) in files.iter().zip(results) {
            looked.push(match result {
                Ok(found) => {
                    if let Some(content) = found.content
                        && !matches!(found.finding, Finding::Unchanged)
                    {
                        seen.insert(content);
                    }
                    found
                }
                Err(Refusal::OutOfFiles(error)) => {
                    return Err(out_of_files(&file.source.path, &error));
                }
                Err(Refusal::Fault(fault)) => file.failed(fault),
                // Nobody else is left who could hold memory.
                Err(Refusal::NoRoom) => file.failed(Fault::new(
                    crate::decode::Status::TooLarge,
                    "there is not enough memory for it",
                )),
            });
        }
        Ok(looked)
    }

    fn look(
        &self,
        file: &Todo,
        ahead: ReadAhead<'_>,
        row: &mut [u8],
        seen: &HashSet<Hash>,
    ) -> Result<Looked, Refusal> {
        let read = ahead.unwrap_or_else(|| read(&file.source.path, self.limits, self.memory));
        let content = read.inspect_err(|_| row.fill(0))?;
        let hash = blake3::hash(&content.bytes);
        let last_time = file.last_time.as_ref();
        let finding = if last_time.is_some_and(|last_time| is_same(last_time, Some(hash))) {
            Finding::Unchanged
        } else if seen.contains(&hash) {
            Finding::Duplicate
        } else {
            let bytes = &content.bytes;
            match decode_within(bytes, self.preprocess, self.limits, self.memory, row) {
                Ok(decoded) => Finding::Image(decoded.note),
                Err(Refusal::Fault(fault)) => Finding::Fault(fault),
                Err(refusal) => {
                    row.fill(0);
                    return Err(refusal);
                }
            }
        };
        if !matches!(finding, Finding::Image(_)) {
            row.fill(0);
        }
        Ok(Looked {
            stamp: content.stamp,
            content: Some(hash),
            finding,
        })
    }
}

impl Todo {
    fn failed(&self, fault: Fault) -> Looked {
        Looked {
            stamp: self.stamp,
            content: None,
            finding: Finding::Fault(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::*;
    use crate::decode::Status;
    use crate::preprocess::Colour;

    fn todo(path: std::path::PathBuf) -> Todo {
        Todo {
            source: Source {
                shown: path.clone(),
                path,
            },
            stamp: Stamp::default(),
            last_time: None,
        }
    }

    #[test]
    fn every_file_lands_in_its_own_row_and_nothing_is_left_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<Todo> = (0..5u8)
            .map(|number| {
                let path = folder.path().join(format!("{number}.png"));
                match number {
                    3 => std::fs::write(&path, "no image").unwrap(),
                    _ => GrayImage::from_pixel(2, 1, Luma([10 + number]))
                        .save(&path)
                        .unwrap(),
                }
                todo(path)
            })
            .collect();
        let preprocess = Preprocess::stretch(1, 2, Colour::Grey);
        let unread = || files.iter().map(|_| None).collect();
        let look = |memory: u64, pixels: &mut [u8], seen: &mut HashSet<Hash>| {
            Decoding {
                preprocess: &preprocess,
                limits: &Limits::default(),
                memory: &MemoryBudget::new(memory),
            }
            .look_at(&files, unread(), pixels, seen)
            .unwrap()
        };
        let mut seen = HashSet::new();
        // Room for one file at a time is enough, only slower.
        for memory in [u64::MAX, 100] {
            let mut pixels = vec![99; 12];
            seen = HashSet::new();
            let looked = look(memory, &mut pixels, &mut seen);
            assert_eq!(pixels, [10, 10, 11, 11, 12, 12, 0, 0, 14, 14, 0, 0]);
            assert!(
                matches!(&looked[3].finding, Finding::Fault(fault) if fault.status == Status::NotAnImage)
            );
            let images = looked
                .iter()
                .filter(|looked| matches!(looked.finding, Finding::Image(None)));
            assert_eq!(images.count(), 4);
        }
        // The second time all of it is known.
        let mut pixels = vec![99; 12];
        let looked = look(u64::MAX, &mut pixels, &mut seen);
        assert!(
            looked
                .iter()
                .all(|looked| matches!(looked.finding, Finding::Duplicate))
        );
        assert_eq!(pixels, [0; 12]);
        // Too little for any file is too large a file.
        let looked = look(4, &mut pixels, &mut HashSet::new());
        assert!(looked.iter().all(
            |looked| matches!(&looked.finding, Finding::Fault(fault) if fault.status == Status::TooLarge)
        ));
    }
}
