//! What the user asked to classify — folders and files, or a list of files — checked before anything is read.

use std::fmt;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::key::Key;
use super::path_text::path_text;
use crate::atomic_file::folder_of;

/// What the output calls a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// A single folder's files relative to it; with several paths, a file or a list, each as it was given.
    #[default]
    AsGiven,
    /// By its absolute path.
    Absolute,
    /// By its path below this folder, in which all have to lie.
    RelativeTo(PathBuf),
}

/// What to classify, in path order.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub(crate) kind: InputKind,
    naming: Naming,
}

#[derive(Clone, Debug)]
pub(crate) enum InputKind {
    /// Folders and files, none inside another.
    Roots(Vec<Root>),
    /// Files, each once.
    List(Vec<PathBuf>),
}

/// One folder or file that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// As given.
    pub(crate) path: PathBuf,
    /// What the paths of its files begin with in the output.
    pub(crate) shown: PathBuf,
    /// Without links and `..`, to compare with others.
    canonical: PathBuf,
    pub(crate) is_folder: bool,
}

impl Inputs {
    /// Checks that each path is there, is a folder or a regular file, and lies in no other; the same path twice is taken once.
    ///
    /// A single folder's files are shown relative to it. With several paths, or a file, that could be ambiguous or empty, so
    /// each path is shown as it was given, unless `naming` says otherwise.
    pub fn new(paths: &[PathBuf], naming: Naming) -> Result<Self> {
        let mut roots = paths
            .iter()
            .map(|path| Root::new(path))
            .collect::<Result<Vec<_>>>()?;
        roots.sort_by(|a, b| a.canonical.cmp(&b.canonical));
        roots.dedup_by(|a, b| a.canonical == b.canonical);
        // In path order everything inside a folder follows it at once.
        if let Some(pair) = roots
            .windows(2)
            .find(|pair| pair[1].canonical.starts_with(&pair[0].canonical))
        {
            bail!(
                "{} lies inside {}: its files would be classified twice; give only one of them",
                pair[1].path.display(),
                pair[0].path.display()
            );
        }
        match roots.as_mut_slice() {
            [] => bail!("there is nothing to classify: give a folder or files"),
            [root] if root.is_folder && naming == Naming::AsGiven => root.shown = PathBuf::new(),
            roots => {
                for root in roots.iter_mut() {
                    root.shown = naming.shown(&root.path)?;
                }
            }
        }
        roots.sort_by_cached_key(|root| Key::of(&root.shown));
        // `a` and `a/../b` are two folders, but the files of the second would sort among those of the first.
        if let Some(pair) = roots
            .windows(2)
            .find(|pair| Key::of(&pair[0].shown).is_above(&Key::of(&pair[1].shown)))
        {
            bail!(
                "{} goes through {}: write it without `..`",
                pair[1].path.display(),
                pair[0].path.display()
            );
        }
        Ok(Self {
            kind: InputKind::Roots(roots),
            naming,
        })
    }

    /// Takes a list of files, which need not be there: each gets a row. Held in memory; sorted, and each taken once.
    pub fn from_list(mut paths: Vec<PathBuf>, naming: Naming) -> Result<Self> {
        if let Naming::RelativeTo(_) = naming {
            for path in &paths {
                naming.shown(path)?;
            }
        }
        paths.sort_by(|a, b| key_bytes(a).cmp(key_bytes(b)));
        paths.dedup_by(|a, b| key_bytes(a).eq(key_bytes(b)));
        Ok(Self {
            kind: InputKind::List(paths),
            naming,
        })
    }

    /// An error if there is nothing to classify; stops at the first file.
    pub(crate) fn check_not_empty(&self) -> Result<()> {
        let is_empty = match &self.kind {
            InputKind::Roots(roots) => !roots
                .iter()
                .any(|root| !root.is_folder || has_file(&root.path)),
            InputKind::List(paths) => paths.is_empty(),
        };
        if is_empty {
            bail!("there are no files to classify in {self}");
        }
        Ok(())
    }

    /// An error if `output` lies inside an input folder or is an input file: inputs are never written.
    pub fn refuse_output(&self, output: &Path) -> Result<()> {
        let name = output
            .file_name()
            .with_context(|| format!("{} is not the name of a file", output.display()))?;
        let folder = folder_of(output);
        let canonical = fs::canonicalize(folder)
            .with_context(|| format!("the folder {} cannot be used", folder.display()))?;
        let canonical = canonical.join(name);
        let roots = match &self.kind {
            InputKind::Roots(roots) => roots,
            InputKind::List(paths) => {
                let is_listed = |path: &PathBuf| {
                    path.file_name() == Some(name)
                        && fs::canonicalize(path).is_ok_and(|path| path == canonical)
                };
                if paths.iter().any(is_listed) {
                    bail!("the output {} is an input file", output.display());
                }
                return Ok(());
            }
        };
        match roots
            .iter()
            .find(|root| canonical.starts_with(&root.canonical))
        {
            Some(root) if root.is_folder => bail!(
                "the output {} lies inside the input folder {}, which is never written; choose another place",
                output.display(),
                root.path.display()
            ),
            Some(_) => bail!("the output {} is an input file", output.display()),
            None => Ok(()),
        }
    }

    /// What the output calls a listed file.
    pub(crate) fn shown(&self, path: &Path) -> Result<PathBuf> {
        self.naming.shown(path)
    }

    /// Where the files come from and what they are called, in words that are the same for the same inputs.
    pub(crate) fn description(&self) -> String {
        let naming = match &self.naming {
            Naming::AsGiven => String::new(),
            Naming::Absolute => " by absolute paths".to_owned(),
            Naming::RelativeTo(folder) => format!(" relative to {}", path_text(folder)),
        };
        let what = match &self.kind {
            InputKind::Roots(roots) => {
                let paths: Vec<String> = roots.iter().map(|root| path_text(&root.path)).collect();
                paths.join(", ")
            }
            InputKind::List(_) => "a list".to_owned(),
        };
        what + &naming
    }
}

impl fmt::Display for Inputs {
    /// The paths as they were given.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match &self.kind {
            InputKind::Roots(roots) => roots,
            InputKind::List(_) => return formatter.write_str("the list of files"),
        };
        for (place, root) in roots.iter().enumerate() {
            if place > 0 {
                formatter.write_str(", ")?;
            }
            write!(formatter, "{}", root.path.display())?;
        }
        Ok(())
    }
}

impl Naming {
    fn shown(&self, path: &Path) -> Result<PathBuf> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .with_context(|| format!("{} has no absolute path", path.display()))
        };
        match self {
            Self::AsGiven => Ok(path.to_owned()),
            Self::Absolute => absolute(path),
            Self::RelativeTo(folder) => {
                let shown = absolute(path)?
                    .strip_prefix(absolute(folder)?)
                    .map(Path::to_owned);
                shown.ok().with_context(|| {
                    format!(
                        "{} does not lie in {}, relative to which paths are to be written",
                        path.display(),
                        folder.display()
                    )
                })
            }
        }
    }
}

impl Root {
    fn new(path: &Path) -> Result<Self> {
        let metadata =
            fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if !metadata.is_dir() && !metadata.is_file() {
            bail!("{} is neither a folder nor a regular file", path.display());
        }
        let canonical =
            fs::canonicalize(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            shown: path.to_owned(),
            canonical,
            is_folder: metadata.is_dir(),
        })
    }
}

/// Reads a list of paths, one a line, or one before each NUL. Empty lines are none; a carriage return before the end of a line
/// is part of the name, as everything else is.
pub fn read_list(mut list: impl BufRead, separator: u8) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut line = Vec::new();
    while list.read_until(separator, &mut line)? > 0 {
        if line.last() == Some(&separator) {
            line.pop();
        }
        if !line.is_empty() {
            paths.push(path_of(std::mem::take(&mut line))?);
        }
        line.clear();
    }
    Ok(paths)
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> io::Result<PathBuf> {
    let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    Ok(name.into())
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> io::Result<PathBuf> {
    String::from_utf8(bytes)
        .map(PathBuf::from)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The components of a path as its key has them.
fn key_bytes(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| match component {
            Component::RootDir => &b""[..],
            other => other.as_os_str().as_encoded_bytes(),
        })
}

/// Looks for any file at all, in no order. What cannot be read has none here; the walk tells about it.
fn has_file(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let mut folders = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { continue };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push(entry.path()),
            Ok(kind) if kind.is_file() => return true,
            Ok(_) if fs::metadata(entry.path()).is_ok_and(|target| target.is_file()) => {
                return true;
            }
            _ => {}
        }
    }
    folders.iter().any(|folder| has_file(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/inner")).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("a/x.jpg"), "x").unwrap();
        folder
    }

    fn named(tree: &tempfile::TempDir, names: &[&str], naming: Naming) -> Result<Inputs> {
        let paths: Vec<PathBuf> = names.iter().map(|name| tree.path().join(name)).collect();
        Inputs::new(&paths, naming)
    }

    fn inputs(tree: &tempfile::TempDir, names: &[&str]) -> Result<Inputs> {
        named(tree, names, Naming::AsGiven)
    }

    fn shown(inputs: Inputs) -> Vec<PathBuf> {
        match inputs.kind {
            InputKind::Roots(roots) => roots.into_iter().map(|root| root.shown).collect(),
            InputKind::List(_) => panic!("a list"),
        }
    }

    #[test]
    fn one_folder_is_shown_relative_and_several_paths_as_given() {
        let tree = tree();
        let shown = |names: &[&str]| shown(inputs(&tree, names).unwrap());
        assert_eq!(shown(&["a"]), [PathBuf::new()]);
        assert_eq!(shown(&["a/x.jpg"]), [tree.path().join("a/x.jpg")]);
        assert_eq!(
            shown(&["b", "a", "a/../a"]),
            [tree.path().join("a"), tree.path().join("b")]
        );
    }

    #[test]
    fn names_can_be_absolute_or_relative_to_a_folder() {
        let tree = tree();
        let absolute = named(&tree, &["a"], Naming::Absolute).unwrap();
        assert_eq!(shown(absolute), [tree.path().join("a")]);
        let relative = Naming::RelativeTo(tree.path().to_owned());
        let inside = named(&tree, &["a"], relative.clone()).unwrap();
        assert_eq!(shown(inside), [PathBuf::from("a")]);
        let error = Inputs::from_list(vec!["/elsewhere/x.jpg".into()], relative).unwrap_err();
        assert!(error.to_string().contains("does not lie in"), "{error}");
    }

    #[test]
    fn missing_and_nested_inputs_are_refused() {
        let tree = tree();
        let error = |names: &[&str]| format!("{:#}", inputs(&tree, names).unwrap_err());
        assert!(error(&["c"]).contains("c cannot be read"));
        assert!(error(&["a/x.jpg", "a"]).contains("lies inside"));
        assert!(error(&["a", "a/../b"]).contains("without `..`"));
        assert!(error(&[]).contains("nothing to classify"));
        let empty = inputs(&tree, &["b"]).unwrap();
        assert!(empty.check_not_empty().is_err());
        inputs(&tree, &["a"]).unwrap().check_not_empty().unwrap();
        #[cfg(unix)]
        assert!(
            format!(
                "{:#}",
                Inputs::new(&["/dev/null".into()], Naming::AsGiven).unwrap_err()
            )
            .contains("neither a folder nor")
        );
    }

    #[test]
    fn an_output_among_the_inputs_is_refused() {
        let tree = tree();
        let folder = inputs(&tree, &["a"]).unwrap();
        let error = |output: &str| {
            format!(
                "{:#}",
                folder.refuse_output(&tree.path().join(output)).unwrap_err()
            )
        };
        assert!(error("a/labels.csv").contains("inside the input folder"));
        assert!(error("a/inner/labels.csv").contains("inside the input folder"));
        assert!(error("none/labels.csv").contains("cannot be used"));
        folder
            .refuse_output(&tree.path().join("b/labels.csv"))
            .unwrap();
        folder
            .refuse_output(&tree.path().join("labels.csv"))
            .unwrap();
        let file = inputs(&tree, &["a/x.jpg"]).unwrap();
        assert!(file.refuse_output(&tree.path().join("a/x.jpg")).is_err());
        file.refuse_output(&tree.path().join("a/labels.csv"))
            .unwrap();
        let list = Inputs::from_list(vec![tree.path().join("a/x.jpg")], Naming::AsGiven).unwrap();
        assert!(list.refuse_output(&tree.path().join("a/x.jpg")).is_err());
    }

    #[test]
    fn lists_are_split_sorted_and_freed_of_repetitions() {
        let paths = read_list(&b"b.jpg\n\n./a.jpg\r\na-b/x\na/z\nb.jpg"[..], b'\n').unwrap();
        let InputKind::List(list) = Inputs::from_list(paths, Naming::AsGiven).unwrap().kind else {
            panic!("no list");
        };
        let expected = ["a/z", "a-b/x", "./a.jpg\r", "b.jpg"].map(PathBuf::from);
        assert_eq!(list, expected);
        assert_eq!(
            read_list(&b"two\nlines\0x"[..], 0).unwrap(),
            ["two\nlines", "x"].map(PathBuf::from)
        );
    }
}
