//! Walks the inputs in path order, lazily: the names of one folder at a time are in memory.
//!
//! Paths are ordered by the bytes of their components. Every regular file is visited, hidden ones too: what is not an image
//! gets its own row instead of being lost. A link to a file counts as a file; a link to a folder is not followed, so no loop
//! exists. What cannot be classified at all — broken links, FIFOs, devices, sockets, folders that cannot be read — is
//! reported instead of dropped.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use walkdir::{DirEntry, WalkDir};

use super::inputs::{Inputs, Root};

/// A file to classify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where to open it.
    pub path: PathBuf,
    /// How the output names it.
    pub shown: PathBuf,
}

/// What the walk came across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visit {
    /// A file to classify.
    File(Source),
    /// Something else, which gets no row.
    Skipped {
        /// Where it is.
        path: PathBuf,
        /// Why it is skipped.
        reason: SkipReason,
    },
}

/// Why something got no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// A folder whose content could not be listed, with the operating system's words. Files may be missing.
    UnreadableFolder(String),
    /// A link to a folder.
    LinkToFolder,
    /// A link to nothing.
    BrokenLink,
    /// A FIFO, device or socket.
    NotAFile,
}

/// How many things got no row, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Folders whose content could not be listed.
    pub unreadable_folders: u64,
    /// Links to folders.
    pub links_to_folders: u64,
    /// Links to nothing.
    pub broken_links: u64,
    /// FIFOs, devices and sockets.
    pub not_files: u64,
}

impl Skipped {
    pub(crate) fn count(&mut self, reason: &SkipReason) {
        let counter = match reason {
            SkipReason::UnreadableFolder(_) => &mut self.unreadable_folders,
            SkipReason::LinkToFolder => &mut self.links_to_folders,
            SkipReason::BrokenLink => &mut self.broken_links,
            SkipReason::NotAFile => &mut self.not_files,
        };
        *counter += 1;
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnreadableFolder(error) => {
                write!(formatter, "the folder cannot be read: {error}")
            }
            Self::LinkToFolder => formatter.write_str("links to folders are not followed"),
            Self::BrokenLink => formatter.write_str("the link points to nothing"),
            Self::NotAFile => formatter.write_str("not a regular file"),
        }
    }
}

/// The walk over all inputs.
pub struct Walk {
    roots: std::vec::IntoIter<Root>,
    current: Option<(Root, walkdir::IntoIter)>,
}

impl Walk {
    /// Starts a walk; nothing is read before the first step.
    pub fn new(inputs: Inputs) -> Self {
        Self {
            roots: inputs.into_roots().into_iter(),
            current: None,
        }
    }
}

impl Iterator for Walk {
    type Item = Visit;

    fn next(&mut self) -> Option<Visit> {
        loop {
            if let Some((root, entries)) = &mut self.current {
                for entry in entries.by_ref() {
                    if let Some(visit) = visit(root, entry) {
                        return Some(visit);
                    }
                }
            }
            let root = self.roots.next()?;
            let entries = WalkDir::new(&root.path)
                .sort_by(|a, b| a.file_name().cmp(b.file_name()))
                .into_iter();
            self.current = Some((root, entries));
        }
    }
}

/// A folder itself is no visit; its content is.
fn visit(root: &Root, entry: walkdir::Result<DirEntry>) -> Option<Visit> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => {
            let path = error.path().unwrap_or(&root.path).to_owned();
            let message = error
                .io_error()
                .map_or_else(|| error.to_string(), ToString::to_string);
            return Some(Visit::Skipped {
                path,
                reason: SkipReason::UnreadableFolder(message),
            });
        }
    };
    let file_type = entry.file_type();
    let skipped = |reason| {
        Some(Visit::Skipped {
            path: entry.path().to_owned(),
            reason,
        })
    };
    if file_type.is_dir() {
        return None;
    }
    if file_type.is_symlink() {
        match fs::metadata(entry.path()) {
            Ok(target) if target.is_file() => {}
            // The root itself may be a link; walkdir follows that one.
            Ok(target) if target.is_dir() && entry.depth() == 0 => return None,
            Ok(target) if target.is_dir() => return skipped(SkipReason::LinkToFolder),
            Ok(_) => return skipped(SkipReason::NotAFile),
            Err(_) => return skipped(SkipReason::BrokenLink),
        }
    } else if !file_type.is_file() {
        return skipped(SkipReason::NotAFile);
    }
    let relative = entry
        .path()
        .strip_prefix(&root.path)
        .unwrap_or(entry.path());
    // Joining an empty path would leave a slash at the end of a file's name.
    let shown = if relative.as_os_str().is_empty() {
        root.shown.clone()
    } else {
        root.shown.join(relative)
    };
    Some(Visit::File(Source {
        path: entry.into_path(),
        shown,
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn walked(inputs: &[&Path]) -> (Vec<String>, Vec<(PathBuf, SkipReason)>) {
        let inputs = Inputs::new(
            &inputs
                .iter()
                .map(|path| path.to_path_buf())
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        for visit in Walk::new(inputs) {
            match visit {
                Visit::File(source) => files.push(source.shown.to_string_lossy().into_owned()),
                Visit::Skipped { path, reason } => skipped.push((path, reason)),
            }
        }
        (files, skipped)
    }

    fn write(folder: &Path, names: &[&str]) {
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    #[test]
    fn files_come_in_the_byte_order_of_their_components() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                "b.jpg", "a.jpg", "a/z.jpg", "a/b/c", "a-b/x", "B.JPG", ".hidden", "é.png", "z",
            ],
        );
        let (files, skipped) = walked(&[folder.path()]);
        assert_eq!(
            files,
            [
                ".hidden", "B.JPG", "a/b/c", "a/z.jpg", "a-b/x", "a.jpg", "b.jpg", "z", "é.png"
            ]
        );
        let paths: Vec<&Path> = files.iter().map(Path::new).collect();
        assert!(paths.is_sorted());
        assert!(skipped.is_empty());
    }

    #[test]
    fn several_inputs_are_shown_as_given() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &["b/1.jpg", "a/1.jpg", "single.jpg"]);
        let at = |name: &str| folder.path().join(name);
        let (files, _) = walked(&[&at("single.jpg"), &at("b"), &at("a")]);
        let expected = ["a/1.jpg", "b/1.jpg", "single.jpg"]
            .map(|name| at(name).to_string_lossy().into_owned());
        assert_eq!(files, expected);
        assert_eq!(
            walked(&[&at("single.jpg")]).0,
            [at("single.jpg").to_string_lossy()]
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_and_special_files_are_told_apart() {
        use std::os::unix::fs::symlink;
        use std::os::unix::net::UnixListener;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(folder.path(), &["real/x.jpg"]);
        symlink(at("real/x.jpg"), at("link.jpg")).unwrap();
        symlink(at("real"), at("linked")).unwrap();
        symlink(at("."), at("real/loop")).unwrap();
        symlink(at("none"), at("broken")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let (files, mut skipped) = walked(&[folder.path()]);
        assert_eq!(files, ["link.jpg", "real/x.jpg"]);
        skipped.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            skipped,
            [
                (at("broken"), SkipReason::BrokenLink),
                (at("linked"), SkipReason::LinkToFolder),
                (at("null"), SkipReason::NotAFile),
                (at("real/loop"), SkipReason::LinkToFolder),
                (at("socket"), SkipReason::NotAFile),
            ]
        );
        // A link that is given as the input is followed.
        assert_eq!(walked(&[&at("linked")]).0, ["x.jpg"]);
    }
}
