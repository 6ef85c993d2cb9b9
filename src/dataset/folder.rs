//! A folder of class folders, alone or inside `train`, `val` and `test`: which image files there are, and of which class.
//!
//! Every file at any depth of a class folder counts; whether it is an image is found out by decoding it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;

use super::image_files::{LabelledFile, Listing};
use super::{Part, Skipped, natural_order};

/// A subfolder that is not hidden.
struct Subfolder {
    name: String,
    path: PathBuf,
}

/// Lists a data set's files, ordered by class and then by name.
///
/// # Errors
/// When a folder cannot be listed, has no class folders, or its layout is ambiguous.
pub(super) fn list(folder: &Path) -> Result<Listing> {
    let subfolders = subfolders(folder)?;
    let parts = parts_of(folder, &subfolders)?;
    let mut class_folders = Vec::new();
    for (part, path) in &parts {
        let classes = subfolders_of_classes(path)?;
        class_folders.extend(classes.into_iter().map(|class| (*part, class)));
    }

    let names: BTreeSet<&str> = class_folders
        .iter()
        .map(|(_, class)| class.name.as_str())
        .collect();
    let mut classes: Vec<String> = names.into_iter().map(str::to_owned).collect();
    classes.sort_by(|a, b| natural_order::compare(a, b));

    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut listing = Listing::new(
        name.file_name()
            .unwrap_or(folder.as_os_str())
            .to_string_lossy()
            .into_owned(),
    );
    for (part, class) in &class_folders {
        let label = classes
            .iter()
            .position(|name| *name == class.name)
            .unwrap_or_default() as u32;
        list_class(
            folder,
            &class.path,
            label,
            listing.files.entry(*part).or_default(),
            &mut listing.skipped,
        );
    }
    for (part, _) in parts {
        listing.files.entry(part).or_default();
    }
    listing.classes = classes;
    Ok(listing)
}

/// The folders that hold class folders: those called `train` and so on if these are all there are, else the folder itself.
fn parts_of(folder: &Path, subfolders: &[Subfolder]) -> Result<Vec<(Part, PathBuf)>> {
    let mut parts: Vec<(Part, &Subfolder)> = subfolders
        .iter()
        .filter_map(|subfolder| Some((Part::parse(&subfolder.name)?, subfolder)))
        .collect();
    parts.sort_by_key(|&(part, _)| part);
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        bail!(
            "{}: both {} and {} are there: keep one",
            folder.display(),
            pair[0].1.name,
            pair[1].1.name
        );
    }
    let has = |wanted| parts.iter().any(|&(part, _)| part == wanted);
    let looks_split = has(Part::Train) && parts.len() > 1;
    if parts.len() == subfolders.len() && has(Part::Train) {
        return Ok(parts
            .into_iter()
            .map(|(part, subfolder)| (part, subfolder.path.clone()))
            .collect());
    }
    if looks_split
        && let Some(other) = subfolders
            .iter()
            .find(|subfolder| Part::parse(&subfolder.name).is_none())
    {
        bail!(
            "{}: {} beside {} and {}: cannot tell whether these are parts or classes; move it away",
            folder.display(),
            other.name,
            parts[0].1.name,
            parts[1].1.name
        );
    }
    Ok(vec![(Part::Train, folder.to_owned())])
}

fn subfolders_of_classes(folder: &Path) -> Result<Vec<Subfolder>> {
    let mut classes = subfolders(folder)?;
    if classes.is_empty() {
        bail!(
            "{}: no class folders in it: put the images of each class into a folder of its own",
            folder.display()
        );
    }
    classes.sort_by(|a, b| natural_order::compare(&a.name, &b.name));
    Ok(classes)
}

fn subfolders(folder: &Path) -> Result<Vec<Subfolder>> {
    let mut subfolders = Vec::new();
    let mut loose_files = 0;
    for entry in folder
        .read_dir()
        .with_context(|| format!("{}: cannot be listed", folder.display()))?
    {
        let path = entry
            .with_context(|| format!("{}: cannot be listed", folder.display()))?
            .path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            if path.is_dir() {
                bail!(
                    "{}: the folder's name is not UTF-8, so it cannot name a class: rename it",
                    path.display()
                );
            }
            loose_files += 1;
            continue;
        };
        if !path.is_dir() {
            loose_files += 1;
        } else if name.starts_with('.') || name == "__MACOSX" {
            tracing::debug!("{}: hidden, so not a class", path.display());
        } else {
            subfolders.push(Subfolder {
                name: name.to_owned(),
                path: path.clone(),
            });
        }
    }
    if loose_files > 0 && !subfolders.is_empty() {
        tracing::info!(
            "{}: {loose_files} files beside the folders are in no class and not used",
            folder.display()
        );
    }
    subfolders.sort_by(|a, b| natural_order::compare(&a.name, &b.name));
    Ok(subfolders)
}

fn list_class(
    root: &Path,
    class: &Path,
    label: u32,
    files: &mut Vec<LabelledFile>,
    skipped: &mut Vec<Skipped>,
) {
    for entry in WalkDir::new(class).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) => {
                let source = source_name(root, entry.path());
                if entry.file_type().is_file() {
                    files.push(LabelledFile {
                        path: entry.into_path(),
                        source,
                        label,
                    });
                } else {
                    skipped.push(Skipped {
                        path: source,
                        reason: "not a regular file".to_owned(),
                    });
                }
            }
            Err(error) => {
                let path = source_name(root, error.path().unwrap_or(class));
                skipped.push(Skipped {
                    path,
                    reason: error.to_string(),
                });
            }
        }
    }
}

/// The path relative to the data set's folder, with `/` on every system.
fn source_name(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative
        .iter()
        .map(|piece| piece.to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn sources(listing: &Listing, part: Part) -> Vec<(&str, u32)> {
        listing.files[&part]
            .iter()
            .map(|file| (file.source.as_str(), file.label))
            .collect()
    }

    #[test]
    fn classes_are_in_natural_order_and_files_in_name_order() {
        let root = tree(&[
            "size 10/b.png",
            "size 10/a.png",
            "size 9/deep/er/c.png",
            "README",
            ".git/x",
            "__MACOSX/y",
        ]);
        let listing = list(root.path()).unwrap();
        assert_eq!(listing.classes, ["size 9", "size 10"]);
        let expected = [
            ("size 9/deep/er/c.png", 0),
            ("size 10/a.png", 1),
            ("size 10/b.png", 1),
        ];
        assert_eq!(sources(&listing, Part::Train), expected);
        assert!(!listing.files.contains_key(&Part::Test));
    }

    #[test]
    fn parts_are_recognised_and_share_their_classes() {
        let root = tree(&["Train/b/1", "train-notes.txt", "valid/a/2", "test/c/3"]);
        let listing = list(root.path()).unwrap();
        assert_eq!(listing.classes, ["a", "b", "c"]);
        assert_eq!(sources(&listing, Part::Train), [("Train/b/1", 1)]);
        assert_eq!(sources(&listing, Part::Validation), [("valid/a/2", 0)]);
        assert_eq!(sources(&listing, Part::Test), [("test/c/3", 2)]);
    }

    #[test]
    fn a_class_may_be_called_train() {
        let root = tree(&["train/1", "bus/2"]);
        assert_eq!(list(root.path()).unwrap().classes, ["bus", "train"]);
    }

    #[test]
    fn ambiguous_and_empty_layouts_are_refused() {
        let message = |files: &[&str]| format!("{:#}", list(tree(files).path()).unwrap_err());
        assert!(
            message(&["train/a/1", "test/a/1", "extra/a/1"])
                .contains("extra beside train and test")
        );
        assert!(message(&["val/a/1", "valid/a/1", "train/a/1"]).contains("both val and valid"));
        assert!(message(&["train/1.png", "test/1.png"]).contains("no class folders in it"));
    }

    #[cfg(unix)]
    #[test]
    fn link_loops_and_dangling_links_are_skipped_with_a_reason() {
        let root = tree(&["a/1", "b/2"]);
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("b/dangling")).unwrap();
        let listing = list(root.path()).unwrap();
        assert_eq!(listing.files[&Part::Train].len(), 2);
        let skipped: Vec<&str> = listing
            .skipped
            .iter()
            .map(|skipped| skipped.path.as_str())
            .collect();
        assert_eq!(skipped, ["a/loop", "b/dangling"]);
    }
}
