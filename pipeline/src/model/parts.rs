//! A batch in as many runs of the model as it takes: all at once unless fewer at a time were asked for, and in halves where there is no
//! memory for that.

use std::ops::Range;

use anyhow::{Result, ensure};

/// What allocators of ONNX Runtime, CUDA, cuDNN and cuBLAS say when there is no memory left.
const OUT_OF_MEMORY: [&str; 6] = [
    "Failed to allocate memory",
    "is smaller than requested bytes",
    "out of memory",
    "bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
];

/// How many images one run of a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunSize {
    /// The graph was made for this many, no more and no fewer.
    Fixed(usize),
    /// As many as there are.
    Any,
    /// More were not asked for, or were too many for the memory.
    AtMost(usize),
}

impl RunSize {
    /// How many images of a batch of `rows` go through the model at a time.
    pub(super) fn of(self, rows: usize) -> usize {
        match self {
            Self::Fixed(length) => length,
            Self::Any => rows,
            Self::AtMost(length) => length.min(rows),
        }
        .max(1)
    }

    /// Calls `run` with one range of rows after the other, until the first `images` of a batch of `rows` are done. All ranges have one
    /// length, so that every run has the same shape: the last may end after `images`, and after `rows` where the size is fixed.
    ///
    /// Where there is no memory for a run, it is done again with half as many rows, and so is every later one.
    ///
    /// # Errors
    /// The first of `run`, but for those that fewer rows avoid.
    pub(super) fn each(
        &mut self,
        images: usize,
        rows: usize,
        mut run: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        while start < images {
            let length = self.of(rows);
            match run(start..start + length) {
                Ok(()) => start += length,
                Err(error) if is_out_of_memory(&error) => {
                    let may_shrink = !matches!(self, Self::Fixed(_)) && length > 1;
                    ensure!(
                        may_shrink,
                        error.context(format!(
                            "there is no memory for {length} images at a time, and fewer cannot be tried"
                        ))
                    );
                    let half = length.div_ceil(2);
                    tracing::warn!(
                        "there is no memory for {length} images at a time: going on with {half}"
                    );
                    *self = Self::AtMost(half);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    OUT_OF_MEMORY.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, bail};

    use super::*;

    /// Runs a batch on a device that has memory for `most` rows at a time.
    fn ranges(
        size: &mut RunSize,
        images: usize,
        rows: usize,
        most: usize,
    ) -> Result<Vec<Range<usize>>> {
        let mut done = Vec::new();
        size.each(images, rows, |range| {
            if range.len() > most {
                bail!("Non-zero status code: Failed to allocate memory for requested buffer");
            }
            done.push(range);
            Ok(())
        })?;
        Ok(done)
    }

    #[test]
    fn a_batch_is_one_run_where_there_is_memory() {
        let mut size = RunSize::Any;
        assert_eq!(
            ranges(&mut size, 5, 8, 64).unwrap(),
            [Range { start: 0, end: 8 }]
        );
        assert_eq!(size, RunSize::Any);
        assert_eq!(ranges(&mut size, 0, 8, 64).unwrap(), []);
    }

    #[test]
    fn runs_are_halved_until_they_fit_and_stay_so() {
        let mut size = RunSize::Any;
        assert_eq!(ranges(&mut size, 9, 10, 3).unwrap(), [0..3, 3..6, 6..9]);
        assert_eq!(size, RunSize::AtMost(3));
        assert_eq!(ranges(&mut size, 4, 10, 3).unwrap(), [0..3, 3..6]);
        assert_eq!(
            ranges(&mut size, 1, 1, 3).unwrap(),
            [Range { start: 0, end: 1 }]
        );
    }

    #[test]
    fn what_fewer_images_do_not_mend_is_told() {
        let text =
            |size: &mut RunSize, most| format!("{:#}", ranges(size, 4, 4, most).unwrap_err());
        assert!(text(&mut RunSize::Any, 0).starts_with("there is no memory for 1 images"));
        assert!(text(&mut RunSize::Fixed(4), 2).starts_with("there is no memory for 4 images"));
        let other = RunSize::Any.each(4, 4, |_| Err(anyhow!("a shape is wrong")));
        assert_eq!(other.unwrap_err().to_string(), "a shape is wrong");
    }
}
