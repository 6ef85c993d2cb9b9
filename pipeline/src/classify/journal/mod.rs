//! What a run has done so far, on disk, so that no stop loses it.
//!
//! A journal is a file of frames: who made it ([`Start`]), the rows in path order, and at the end of a whole run a [`Finish`].
//! Each frame has a length and a checksum; a torn tail is dropped when the file is read. `frame` knows the bytes, `record` what
//! they mean, `state` which journals lie beside an output and what a new run takes from them.

mod frame;
mod record;
mod state;

pub(crate) use record::{Reader, Remembered, Writer};
pub(super) use record::{decode_outcome, encode_outcome};
pub(crate) use state::{Begun, open_previous};
pub use state::{Identity, Restart, State};

/// Reads the journal at `path` to its end, as a run that goes on does.
#[cfg(fuzzing)]
pub(crate) fn replay(path: &std::path::Path) -> anyhow::Result<usize> {
    let Some(mut reader) = Reader::open(path)? else {
        return Ok(0);
    };
    let mut rows = 0;
    while reader.next_row()?.is_some() {
        rows += 1;
    }
    Ok(rows)
}
