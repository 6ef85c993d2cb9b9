//! The pictures of the files that the page lists, small.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pipeline::classify::path_of;
use pipeline::decode::{Limits, decode_file};
use pipeline::preprocess::{Colour, Fit, Preprocess};

use crate::diff::figures::Figures;
use crate::report::photo_uri;

/// Sides of a picture in pixels: twice what the page shows, for fine screens.
const SIDE: u32 = 192;

/// Pictures as data URIs.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// By the path as the labels have it.
    pub(super) by_path: BTreeMap<String, String>,
    /// Files that have none: not there, damaged, or outside the folder.
    pub(super) missing: usize,
}

/// Reads the pictures of all listed files from below `folder`.
///
/// # Errors
/// When there is no such folder.
pub(super) fn read(folder: &Path, figures: &Figures) -> Result<Pictures> {
    ensure!(
        folder.is_dir(),
        "{} is no folder: --pictures names the folder that was classified",
        folder.display()
    );
    let folder = fs::canonicalize(folder)
        .with_context(|| format!("the folder {} cannot be used", folder.display()))?;
    let mut pictures = Pictures::default();
    let listed = figures.surest_changes.iter().chain(&figures.largest_moves);
    for change in listed {
        match place(&folder, &change.path).and_then(|path| picture(&path)) {
            Some(picture) => {
                pictures.by_path.insert(change.path.clone(), picture);
            }
            None => {
                tracing::debug!("{} has no picture in {}", change.path, folder.display());
                pictures.missing += 1;
            }
        }
    }
    Ok(pictures)
}

/// Where a file of the labels lies below `folder`; none where its path leads out of it, for labels may come from anywhere.
fn place(folder: &Path, cell: &str) -> Option<PathBuf> {
    let path = path_of(cell)?;
    let below = match path.is_absolute() {
        true => path.strip_prefix(folder).ok()?,
        false => &path,
    };
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    below.components().all(is_plain).then(|| folder.join(below))
}

fn picture(path: &Path) -> Option<String> {
    let preprocess = Preprocess {
        fit: Fit::Pad,
        ..Preprocess::stretch(SIDE, SIDE, Colour::Rgb)
    };
    let mut pixels = vec![0; preprocess.bytes_per_image()];
    decode_file(path, &preprocess, &Limits::default(), &mut pixels).ok()?;
    photo_uri(&pixels, SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_folder_is_opened() {
        let place = |cell: &str| place(Path::new("/shop"), cell);
        assert_eq!(place("./a/b%0A.jpg"), Some("/shop/a/b\n.jpg".into()));
        assert_eq!(place("/shop/a.jpg"), Some("/shop/a.jpg".into()));
        for outside in [
            "./../a.jpg",
            "./a/../../b.jpg",
            "/etc/a.jpg",
            "/shop/../a.jpg",
        ] {
            assert_eq!(place(outside), None, "{outside}");
        }
    }
}
