//! Walks the inputs in path order, lazily: the names of the folders on the way down are in memory, and no folder is open.
//!
//! Paths are ordered by the bytes of their components. Every regular file is visited, hidden ones too: what is not an image
//! gets its own row instead of being lost. A link to a file counts as a file; a link to a folder is not followed, so no loop
//! exists. What cannot be classified at all — broken links, FIFOs, devices, sockets, folders that cannot be read — is
//! reported instead of dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::inputs::{InputKind, Inputs, Root};
use super::listing::{Entry, EntryKind, Listing};
use crate::decode::{Fault, Stamp, is_out_of_files, open_fault};

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
    /// A file to classify, and its size and time of change, or why it cannot even be looked at.
    File(Source, Result<Stamp, Fault>),
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

/// The walk over all inputs. An error ends it: the walk cannot go on without losing files.
pub(crate) struct Walk {
    inputs: Inputs,
    /// Inputs that were begun.
    begun: usize,
    /// The folders on the way down, with what is left of each.
    folders: Vec<Folder>,
}

struct Folder {
    path: PathBuf,
    shown: PathBuf,
    listing: Listing,
}

impl Walk {
    /// Starts a walk; nothing is read before the first step.
    pub(crate) fn new(inputs: Inputs) -> Self {
        Self {
            inputs,
            begun: 0,
            folders: Vec::new(),
        }
    }

    fn step(&mut self) -> Result<Option<Visit>> {
        loop {
            let visit = match self.folders.last_mut() {
                Some(folder) => match folder.listing.next() {
                    Ok(Some(entry)) => {
                        let (path, shown) = (
                            folder.path.join(&entry.name),
                            folder.shown.join(&entry.name),
                        );
                        self.visit(Source { path, shown }, &entry)?
                    }
                    Ok(None) => {
                        self.folders.pop();
                        None
                    }
                    Err(error) => {
                        let path = folder.path.display();
                        return Err(error).with_context(|| format!("{path} cannot be listed"));
                    }
                },
                None => {
                    let number = self.begun;
                    self.begun += 1;
                    match &self.inputs.kind {
                        InputKind::Roots(roots) => match roots.get(number) {
                            Some(root) => {
                                let root = root.clone();
                                self.begin(root)?
                            }
                            None => return Ok(None),
                        },
                        InputKind::List(paths) => match paths.get(number) {
                            Some(path) => Some(file(Source {
                                shown: self.inputs.shown(path)?,
                                path: path.clone(),
                            })),
                            None => return Ok(None),
                        },
                    }
                }
            };
            if visit.is_some() {
                return Ok(visit);
            }
        }
    }

    fn begin(&mut self, root: Root) -> Result<Option<Visit>> {
        let Root {
            path,
            shown,
            is_folder,
            ..
        } = root;
        if is_folder {
            self.enter(path, shown)
        } else {
            Ok(Some(file(Source { path, shown })))
        }
    }

    /// A folder itself is no visit; its content is.
    fn enter(&mut self, path: PathBuf, shown: PathBuf) -> Result<Option<Visit>> {
        match Listing::of(&path) {
            Ok(listing) => {
                self.folders.push(Folder {
                    path,
                    shown,
                    listing,
                });
                Ok(None)
            }
            Err(error) if is_out_of_files(&error) => Err(out_of_files(&path, &error)),
            Err(error) => Ok(Some(Visit::Skipped {
                path,
                reason: SkipReason::UnreadableFolder(error.to_string()),
            })),
        }
    }

    fn visit(&mut self, source: Source, entry: &Entry) -> Result<Option<Visit>> {
        let reason = match entry.kind {
            EntryKind::File => return Ok(Some(file(source))),
            EntryKind::Folder => return self.enter(source.path, source.shown),
            EntryKind::Other => SkipReason::NotAFile,
            EntryKind::Link => match fs::metadata(&source.path) {
                Ok(target) if target.is_file() => {
                    return Ok(Some(Visit::File(source, Ok(Stamp::of(&target)))));
                }
                Ok(target) if target.is_dir() => SkipReason::LinkToFolder,
                Ok(_) => SkipReason::NotAFile,
                Err(_) => SkipReason::BrokenLink,
            },
        };
        Ok(Some(Visit::Skipped {
            path: source.path,
            reason,
        }))
    }
}

impl Iterator for Walk {
    type Item = Result<Visit>;

    fn next(&mut self) -> Option<Result<Visit>> {
        self.step().transpose()
    }
}

/// What a person can do about it is the same wherever it happens.
pub(crate) fn out_of_files(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "{} could not be opened: {error}; allow more open files (ulimit -n) and run the same command again",
        path.display()
    )
}

fn file(source: Source) -> Visit {
    let stamp = fs::metadata(&source.path)
        .map(|metadata| Stamp::of(&metadata))
        .map_err(|error| open_fault(&error));
    Visit::File(source, stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::inputs::Naming;

    fn walked(inputs: &[&Path]) -> (Vec<String>, Vec<(PathBuf, SkipReason)>) {
        let inputs = Inputs::new(
            &inputs
                .iter()
                .map(|path| path.to_path_buf())
                .collect::<Vec<_>>(),
            Naming::AsGiven,
        )
        .unwrap();
        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        for visit in Walk::new(inputs) {
            match visit.unwrap() {
                Visit::File(source, _) => files.push(source.shown.to_string_lossy().into_owned()),
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
