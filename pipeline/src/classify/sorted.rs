//! The classified files sorted into folders, one for each class and `failed` for the rest, as links or copies. Where thresholds
//! are used, a class's folder has what is accepted, and what is to be looked at lies in the class's folder below `review`. With a
//! taxonomy, the folders of classes lie in those of the categories above them, and what is of such a category without being of a
//! class of it lies in its `rolled_up`. What shows nothing known lies in `unknown`.
//!
//! Below its class a file keeps the path that the labels show for it, so no two files collide. All of it is built under another
//! name and appears with one rename at the end of the run; a stopped run leaves no folder that looks whole.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::decision::Decision;
use super::rows::{Outcome, Row};
use super::ruling::Ruling;
use super::taxonomy::Taxonomy;
use crate::atomic_file::folder_of;

/// Folder of the files that have no class.
const FAILED: &str = "failed";

/// Folder of the files whose label a person should look at, with a folder for each class in it.
const REVIEW: &str = "review";

/// Folder of the files that show nothing known.
const UNKNOWN: &str = "unknown";

/// Folder, in that of a category, of the files that are of none of the classes in it.
const ROLLED_UP: &str = "rolled_up";

/// Names of folders that no class or category gets.
const RESERVED: [&str; 4] = [FAILED, REVIEW, UNKNOWN, ROLLED_UP];

/// Where files are sorted to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortInto {
    /// The folder to make; nothing but an empty folder may be there.
    pub folder: PathBuf,
    /// What stands in it for a file.
    pub link: Link,
}

/// What stands for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A hard link, which takes no space; the folder has to be on the same file system.
    Hard,
    /// A symbolic link to the absolute path.
    Symbolic,
    /// A copy.
    Copy,
}

/// Builds the folder.
pub(super) struct Sorter {
    target: PathBuf,
    building: PathBuf,
    link: Link,
    /// One folder name per class.
    classes: Vec<String>,
    /// One folder per category.
    categories: Vec<PathBuf>,
    /// The folder that was made last; most files follow one in the same.
    last_made: PathBuf,
}

/// An error if something is in the way. Nothing is made.
pub(super) fn check(wish: &SortInto) -> Result<()> {
    let folder = &wish.folder;
    let parent = folder_of(folder);
    ensure!(
        folder.file_name().is_some(),
        "{} is not the name of a folder",
        folder.display()
    );
    ensure!(
        parent.is_dir(),
        "the folder {} cannot be used",
        parent.display()
    );
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            ensure!(
                entries.next().is_none(),
                "{} is there and not empty; sort into a new folder",
                folder.display()
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be used", folder.display())),
    }
}

impl Sorter {
    /// Begins the folder, throwing away what a stopped run has built of it.
    pub(super) fn begin(
        wish: &SortInto,
        labels: &[String],
        taxonomy: Option<&Taxonomy>,
    ) -> Result<Self> {
        check(wish)?;
        let mut name = OsString::from(".");
        name.push(wish.folder.file_name().unwrap_or_default());
        name.push(".sorting");
        let building = folder_of(&wish.folder).join(name);
        match fs::remove_dir_all(&building) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("{} cannot be removed", building.display()));
            }
            _ => {}
        }
        fs::create_dir(&building)
            .with_context(|| format!("{} cannot be made", building.display()))?;
        Ok(Self {
            target: wish.folder.clone(),
            building,
            link: wish.link,
            classes: labels.iter().map(|label| folder_name(label)).collect(),
            categories: taxonomy
                .map_or(&[][..], Taxonomy::categories)
                .iter()
                .map(|category| {
                    category
                        .levels
                        .iter()
                        .map(|level| folder_name(level))
                        .collect()
                })
                .collect(),
            last_made: PathBuf::new(),
        })
    }

    /// Puts a file where it belongs. One that cannot be classified may be gone or unreadable; then nothing stands for it.
    pub(super) fn place(&mut self, row: &Row, ruling: Ruling) -> Result<()> {
        let (class, is_failed) = match &row.outcome {
            Outcome::Labelled { best, .. } => (
                best.first()
                    .and_then(|best| self.classes.get(best.class))
                    .map_or(FAILED, String::as_str),
                false,
            ),
            Outcome::Failed(_) => (FAILED, true),
        };
        let category = ruling
            .category
            .and_then(|placed| self.categories.get(placed.category));
        let folder = match (ruling.decision, category) {
            (Some(Decision::Unknown), _) => Path::new(UNKNOWN).to_owned(),
            (Some(Decision::Review), _) => Path::new(REVIEW).join(class),
            // In a folder of its own: a file of the category could have the path of one of a class in it.
            (Some(Decision::RolledUp), Some(category)) => category.join(ROLLED_UP),
            (_, Some(category)) => category.clone(),
            (_, None) => PathBuf::from(class),
        };
        let place = self.building.join(folder).join(below(&row.source.shown));
        let parent = folder_of(&place);
        if parent != self.last_made {
            fs::create_dir_all(parent)
                .with_context(|| format!("{} cannot be made", parent.display()))?;
            self.last_made = parent.to_owned();
        }
        match self.put(&row.source.path, &place) {
            Err(_) if is_failed => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => bail!(
                "{} is on another file system than {}: use --link symbolic or --link copy",
                self.target.display(),
                row.source.path.display()
            ),
            result => {
                result.with_context(|| format!("{} cannot be sorted", row.source.path.display()))
            }
        }
    }

    fn put(&self, source: &Path, place: &Path) -> io::Result<()> {
        // A file may be gone by now, and a name that points nowhere helps nobody.
        let metadata = fs::metadata(source)?;
        match self.link {
            Link::Symbolic => symlink(&std::path::absolute(source)?, place),
            // What a link points to is linked, not the link.
            Link::Hard => fs::hard_link(fs::canonicalize(source)?, place),
            Link::Copy if metadata.is_file() => fs::copy(source, place).map(|_| ()),
            Link::Copy => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Puts the folder in its place.
    pub(super) fn publish(self) -> Result<()> {
        let failed = || format!("{} could not be put in place", self.target.display());
        match fs::remove_dir(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
        fs::rename(&self.building, &self.target).with_context(failed)
    }
}

#[cfg(unix)]
fn symlink(source: &Path, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(source, place)
}

#[cfg(not(unix))]
fn symlink(_source: &Path, _place: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The path of a file below its class: never outside of it.
fn below(shown: &Path) -> PathBuf {
    shown
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("%2E%2E".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// A label as the name of a folder: what a file system could take for something else is percent-encoded.
fn folder_name(label: &str) -> String {
    let mut name = String::new();
    for (place, character) in label.chars().enumerate() {
        let is_special = character.is_control()
            || matches!(
                character,
                '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%'
            )
            || (place == 0 && (character == '.' || RESERVED.contains(&label)));
        if is_special {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(character);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::csv_output::tests::{decided, labelled, row};
    use crate::decode::{Fault, Status};

    #[test]
    fn folders_are_named_for_classes_and_lie_where_they_should() {
        assert_eq!(folder_name("T-shirt/top"), "T-shirt%2Ftop");
        assert_eq!(folder_name(".."), "%2E.");
        assert_eq!(folder_name("failed"), "%66ailed");
        assert_eq!(folder_name("review"), "%72eview");
        assert_eq!(folder_name("größe 3"), "größe 3");
        assert_eq!(
            below(Path::new("../../etc/x")),
            Path::new("%2E%2E/%2E%2E/etc/x")
        );
        assert_eq!(below(Path::new("/etc/x")), Path::new("etc/x"));
    }

    #[test]
    fn files_appear_under_their_class_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("in")).unwrap();
        for name in ["in/x.jpg", "in/y.jpg"] {
            fs::write(at(name), name).unwrap();
        }
        let kinds = if cfg!(unix) {
            &[Link::Hard, Link::Symbolic, Link::Copy][..]
        } else {
            &[Link::Hard, Link::Copy]
        };
        for &link in kinds {
            let wish = SortInto {
                folder: at("sorted"),
                link,
            };
            let labels = ["a".to_owned(), "b/c".to_owned()];
            // A run that was stopped before.
            drop(Sorter::begin(&wish, &labels, None).unwrap());
            let mut sorter = Sorter::begin(&wish, &labels, None).unwrap();
            let mut good = row("shop/x.jpg", labelled(None));
            good.source.path = at("in/x.jpg");
            let fault = || Outcome::Failed(Fault::new(Status::Corrupt, "no"));
            let mut bad = row("y.jpg", fault());
            bad.source.path = at("in/y.jpg");
            let mut gone = row("z.jpg", fault());
            gone.source.path = at("in/z.jpg");
            let mut doubtful = row("shop/y.jpg", labelled(None));
            doubtful.source.path = at("in/y.jpg");
            for (row, ruling) in [
                (&good, decided(Decision::Accept)),
                (&bad, Ruling::default()),
                (&gone, Ruling::default()),
                (&doubtful, decided(Decision::Review)),
            ] {
                sorter.place(row, ruling).unwrap();
            }
            assert!(!at("sorted").exists());
            sorter.publish().unwrap();
            assert_eq!(
                fs::read_to_string(at("sorted/b%2Fc/shop/x.jpg")).unwrap(),
                "in/x.jpg"
            );
            assert_eq!(
                fs::read_to_string(at("sorted/failed/y.jpg")).unwrap(),
                "in/y.jpg"
            );
            assert_eq!(
                fs::read_to_string(at("sorted/review/b%2Fc/shop/y.jpg")).unwrap(),
                "in/y.jpg"
            );
            assert_eq!(fs::read_dir(at("sorted/failed")).unwrap().count(), 1);
            assert!(check(&wish).unwrap_err().to_string().contains("not empty"));
            fs::remove_dir_all(at("sorted")).unwrap();
        }
    }
}
