//! What the user asked to classify: folders and files, checked before anything is read.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::atomic_file::folder_of;

/// Folders and files to classify, none inside another, in path order.
#[derive(Clone, Debug)]
pub struct Inputs {
    roots: Vec<Root>,
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
    /// each path is shown as it was given.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
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
            [root] if root.is_folder => root.shown = PathBuf::new(),
            roots => roots.sort_by(|a, b| a.shown.cmp(&b.shown)),
        }
        Ok(Self { roots })
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
        match self
            .roots
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

    pub(crate) fn into_roots(self) -> Vec<Root> {
        self.roots
    }
}

impl fmt::Display for Inputs {
    /// The paths as they were given.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, root) in self.roots.iter().enumerate() {
            if place > 0 {
                formatter.write_str(", ")?;
            }
            write!(formatter, "{}", root.path.display())?;
        }
        Ok(())
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

    fn inputs(tree: &tempfile::TempDir, names: &[&str]) -> Result<Inputs> {
        Inputs::new(
            &names
                .iter()
                .map(|name| tree.path().join(name))
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn one_folder_is_shown_relative_and_several_paths_as_given() {
        let tree = tree();
        let shown = |names: &[&str]| -> Vec<PathBuf> {
            inputs(&tree, names)
                .unwrap()
                .into_roots()
                .into_iter()
                .map(|root| root.shown)
                .collect()
        };
        assert_eq!(shown(&["a"]), [PathBuf::new()]);
        assert_eq!(shown(&["a/x.jpg"]), [tree.path().join("a/x.jpg")]);
        assert_eq!(
            shown(&["b", "a", "a/../a"]),
            [tree.path().join("a"), tree.path().join("b")]
        );
    }

    #[test]
    fn missing_and_nested_inputs_are_refused() {
        let tree = tree();
        let error = |names: &[&str]| format!("{:#}", inputs(&tree, names).unwrap_err());
        assert!(error(&["c"]).contains("c cannot be read"));
        assert!(error(&["a/x.jpg", "a"]).contains("lies inside"));
        assert!(error(&[]).contains("nothing to classify"));
        #[cfg(unix)]
        assert!(
            format!("{:#}", Inputs::new(&["/dev/null".into()]).unwrap_err())
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
    }
}
