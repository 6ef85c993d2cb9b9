//! Where the bytes of the labels go, and their digest.

use std::io::{self, BufWriter, Stdout, Write};

use anyhow::{Context as _, Result};

use crate::atomic_file::{DurableFile, StagedFile};

/// A file or standard output, digested on the way.
pub(super) struct Output {
    place: Place,
    /// Two kilobytes, which would make everything around it large.
    digest: Box<blake3::Hasher>,
}

enum Place {
    Staged(StagedFile),
    Stdout(BufWriter<Stdout>),
}

impl Output {
    pub(super) fn staged(file: StagedFile) -> Self {
        Self {
            place: Place::Staged(file),
            digest: Box::default(),
        }
    }

    pub(super) fn stdout() -> Self {
        Self {
            place: Place::Stdout(BufWriter::new(io::stdout())),
            digest: Box::default(),
        }
    }

    /// Writes out what is left. Gives the file, where it is one, and the digest in hexadecimal.
    pub(super) fn finish(self) -> Result<(Option<DurableFile>, String)> {
        let digest = self.digest.finalize().to_hex().to_string();
        let file = match self.place {
            Place::Staged(file) => Some(file.make_durable()?),
            Place::Stdout(mut stdout) => {
                stdout.flush().context("cannot write to standard output")?;
                None
            }
        };
        Ok((file, digest))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.place {
            Place::Staged(file) => file.write(bytes)?,
            Place::Stdout(stdout) => stdout.write(bytes)?,
        };
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.place {
            Place::Staged(file) => file.flush(),
            Place::Stdout(stdout) => stdout.flush(),
        }
    }
}
