//! The folder of journals beside an output, `labels.csv.state`: what a new run may take over, and who may run.
//!
//! | file | what it is |
//! |---|---|
//! | `lock` | locked by the run that works on the output; never deleted |
//! | `running` | what the present run has done |
//! | `stopped` | what runs before it did that came to no end; the present run copies from it what still holds |
//! | `finished` | the last run that came to its end: the night before |
//!
//! A run first folds `running`, if one was left behind, into `stopped`, then begins a `running` of its own. At its end `running`
//! becomes `finished`. Each step is one rename, so a kill between any two of them leaves something that the next run can use.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::record::{Fact, Reader, SCHEMA, Start, Writer};

/// What the rows of a run depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    facts: Vec<Fact>,
}

/// What becomes of an earlier run's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// What fits is taken over. A stopped run of another model or other settings is refused.
    #[default]
    Continue,
    /// The same, but what does not fit is refused even where the earlier run came to its end.
    OnlyContinue,
    /// Nothing is taken over.
    Anew,
}

/// The locked state of an output.
pub struct State {
    folder: PathBuf,
    _lock: File,
}

/// What a run begins with.
#[derive(Default)]
pub(crate) struct Begun {
    /// Rows of runs that were stopped.
    pub(crate) stopped: Option<Reader>,
    /// Rows of the last run that came to its end.
    pub(crate) previous: Option<Reader>,
    /// Where this run's rows go.
    pub(crate) journal: Option<Writer>,
}

impl Identity {
    /// Adds something that decides what becomes of a file, such as the model.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.add(name, value.to_string(), false);
        self
    }

    /// Adds something that decides only which files there are.
    pub fn with_scope(mut self, name: &str, value: impl ToString) -> Self {
        self.add(name, value.to_string(), true);
        self
    }

    fn add(&mut self, name: &str, value: String, is_scope: bool) {
        self.facts.push(Fact {
            name: name.to_owned(),
            value,
            is_scope,
        });
    }

    /// What decides what becomes of a file, by name.
    pub(crate) fn facts(&self) -> BTreeMap<String, String> {
        let decides = self.facts.iter().filter(|fact| !fact.is_scope);
        decides
            .map(|fact| (fact.name.clone(), fact.value.clone()))
            .collect()
    }

    fn start(&self) -> Start {
        Start {
            schema: SCHEMA,
            facts: self.facts.clone(),
        }
    }

    /// In what an earlier run differs, in words. With `only_rows`, the choice of files does not matter.
    fn difference(&self, start: &Start, only_rows: bool) -> Option<String> {
        if start.schema != SCHEMA {
            return Some("it was made by another version of the program".to_owned());
        }
        let matters = |fact: &&Fact| !(only_rows && fact.is_scope);
        let (mut old, mut new) = (
            start.facts.iter().filter(matters),
            self.facts.iter().filter(matters),
        );
        loop {
            match (old.next(), new.next()) {
                (None, None) => return None,
                (Some(old), Some(new)) if old.name == new.name && old.value == new.value => {}
                (Some(old), Some(new)) if old.name == new.name => {
                    return Some(format!("{} was {}, is {}", new.name, old.value, new.value));
                }
                _ => return Some("it was made with other settings".to_owned()),
            }
        }
    }
}

impl State {
    /// The folder that belongs to `output`.
    pub fn folder_of(output: &Path) -> PathBuf {
        let mut path = output.as_os_str().to_owned();
        path.push(".state");
        path.into()
    }

    /// Makes the folder where it is missing, and locks it until this is dropped.
    ///
    /// # Errors
    /// When another run holds the lock, or the folder cannot be written.
    pub(crate) fn lock(output: &Path) -> Result<Self> {
        let folder = Self::folder_of(output);
        let unusable = || format!("{} cannot be used", folder.display());
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(unusable);
            }
            _ => {}
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .with_context(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "another run is writing {}; wait for its end",
                output.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", folder.display()))
            }
        }
    }

    /// Takes over what earlier runs left, as `restart` says, and starts the journal of this one.
    ///
    /// # Errors
    /// When a stopped run was one of another `identity`, and `restart` is not [`Restart::Anew`].
    pub(crate) fn begin(&self, identity: &Identity, restart: Restart) -> Result<Begun> {
        if restart == Restart::Anew {
            for name in ["running", "stopped", "finished"] {
                self.remove(name)?;
            }
        }
        for name in ["running", "stopped"] {
            if let Some(reader) = Reader::open(&self.path(name))?
                && let Some(difference) = identity.difference(reader.start(), false)
            {
                bail!(
                    "a run that was stopped cannot be continued: {difference}; go on with what was used then, or start anew with --overwrite"
                );
            }
        }
        self.fold()?;
        let previous = match Reader::open(&self.path("finished"))? {
            Some(reader) => match identity.difference(reader.start(), false) {
                None => Some(reader),
                Some(difference) if restart == Restart::OnlyContinue => {
                    bail!("the last run cannot be continued: {difference}")
                }
                Some(difference) => {
                    tracing::info!("every file is done anew: {difference}");
                    None
                }
            },
            None => None,
        };
        let journal = Writer::create(&self.path("running"), &identity.start())?;
        Ok(Begun {
            stopped: Reader::open(&self.path("stopped"))?,
            previous,
            journal: Some(journal),
        })
    }

    /// Makes the journal of this run, which has come to its end, the one of the last run.
    pub(crate) fn finish(self) -> Result<()> {
        fs::rename(self.path("running"), self.path("finished"))
            .with_context(|| format!("{} could not be kept", self.path("running").display()))?;
        self.remove("stopped")
    }

    /// Rows of `running` go into `stopped`; of two rows for a file, that of `running` is the later.
    fn fold(&self) -> Result<()> {
        let (running, stopped) = (self.path("running"), self.path("stopped"));
        let Some(mut later) = Reader::open(&running)? else {
            return self.remove("running");
        };
        let Some(mut earlier) = Reader::open(&stopped)? else {
            return fs::rename(&running, &stopped)
                .with_context(|| format!("{} could not be kept", running.display()));
        };
        let folded = self.path("folded");
        self.remove("folded")?;
        let mut writer = Writer::create(&folded, later.start())?;
        let mut old = earlier.next_row()?;
        while let Some(new) = later.next_row()? {
            while let Some(row) = old.take_if(|old| old.key < new.key) {
                writer.write_remembered(&row)?;
                old = earlier.next_row()?;
            }
            if old.as_ref().is_some_and(|old| old.key == new.key) {
                old = earlier.next_row()?;
            }
            writer.write_remembered(&new)?;
        }
        while let Some(row) = old {
            writer.write_remembered(&row)?;
            old = earlier.next_row()?;
        }
        writer.finish()?;
        fs::rename(&folded, &stopped)
            .with_context(|| format!("{} could not be kept", folded.display()))?;
        self.remove("running")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Opens the journal of another output's last run, or one that is named itself, to take rows from it. None, with a word about
/// it, where its rows were made by another model or with other settings.
pub(crate) fn open_previous(path: &Path, identity: &Identity) -> Result<Option<Reader>> {
    let beside = State::folder_of(path).join("finished");
    let journal = if beside.exists() { &beside } else { path };
    let reader = Reader::open(journal)?.with_context(|| {
        format!(
            "{} has no journal of a finished run: neither {} nor the file itself is one",
            path.display(),
            beside.display()
        )
    })?;
    Ok(match identity.difference(reader.start(), true) {
        None => Some(reader),
        Some(difference) => {
            tracing::warn!("nothing can be taken from {}: {difference}", path.display());
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::Remembered;
    use super::super::record::tests::{remembered, rows};
    use super::*;

    fn identity(model: &str) -> Identity {
        Identity::default()
            .with("the model", model)
            .with_scope("the input", "photos")
    }

    /// Begins a run, writes rows and stops.
    fn stopped_run(output: &Path, written: &[Remembered]) {
        let state = State::lock(output).unwrap();
        let mut begun = state.begin(&identity("a"), Restart::Continue).unwrap();
        for row in written {
            begun
                .journal
                .as_mut()
                .unwrap()
                .write_remembered(row)
                .unwrap();
        }
        begun.journal.unwrap().commit().unwrap();
    }

    fn all(reader: Option<Reader>) -> Vec<Remembered> {
        let mut reader = reader.unwrap();
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row().unwrap() {
            rows.push(row);
        }
        rows
    }

    #[test]
    fn a_journal_of_an_older_version_is_refused_where_it_was_stopped_and_done_anew_where_not() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("labels.csv");
        let older = Start {
            schema: SCHEMA - 1,
            ..identity("a").start()
        };
        let write = |name: &str| {
            let path = State::folder_of(&output).join(name);
            let mut writer = Writer::create(&path, &older).unwrap();
            writer.write_remembered(&remembered("b", 1)).unwrap();
            writer.finish().unwrap();
        };
        drop(State::lock(&output).unwrap());
        write("finished");
        let begin = |restart| State::lock(&output).unwrap().begin(&identity("a"), restart);
        assert!(begin(Restart::Continue).unwrap().previous.is_none());
        assert!(open_previous(&output, &identity("a")).unwrap().is_none());
        fs::remove_file(State::folder_of(&output).join("running")).unwrap();
        write("running");
        let error = begin(Restart::Continue).err().unwrap().to_string();
        assert!(
            error.contains("made by another version of the program")
                && error.contains("--overwrite"),
            "{error}"
        );
        assert!(begin(Restart::Anew).is_ok());
    }

    #[test]
    fn stopped_runs_are_folded_and_the_later_row_wins() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("labels.csv");
        stopped_run(&output, &[]);
        stopped_run(&output, &[remembered("b", 1), remembered("d", 1)]);
        stopped_run(&output, &[remembered("a", 2), remembered("b", 2)]);
        // Killed within a record.
        let running = State::folder_of(&output).join("running");
        let mut bytes = fs::read(&running).unwrap();
        bytes.extend([1, 2, 3]);
        fs::write(&running, bytes).unwrap();

        let state = State::lock(&output).unwrap();
        let begun = state.begin(&identity("a"), Restart::Continue).unwrap();
        assert!(begun.previous.is_none());
        assert_eq!(
            all(begun.stopped),
            [remembered("a", 2), remembered("b", 2), remembered("d", 1)]
        );
        begun.journal.unwrap().finish().unwrap();
        state.finish().unwrap();
        assert_eq!(rows(&State::folder_of(&output).join("finished")), []);
    }

    #[test]
    fn another_model_is_refused_unless_the_run_came_to_its_end_or_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("labels.csv");
        stopped_run(&output, &[remembered("a", 1)]);
        let begin = |model, restart| {
            let state = State::lock(&output).unwrap();
            let begun = state.begin(&identity(model), restart)?;
            Ok::<_, anyhow::Error>((state, begun))
        };
        let error = begin("b", Restart::Continue).err().unwrap().to_string();
        assert!(error.contains("the model was a, is b"), "{error}");
        let (state, begun) = begin("b", Restart::Anew).unwrap();
        assert!(begun.stopped.is_none());
        begun.journal.unwrap().finish().unwrap();
        state.finish().unwrap();
        assert!(begin("a", Restart::OnlyContinue).is_err());
        assert!(begin("a", Restart::Continue).unwrap().1.previous.is_none());
        let other_files = Identity::default()
            .with("the model", "b")
            .with_scope("the input", "more photos");
        assert!(open_previous(&output, &other_files).unwrap().is_some());
        assert!(open_previous(&output, &identity("c")).unwrap().is_none());
        assert!(open_previous(&folder.path().join("none"), &other_files).is_err());
    }

    #[test]
    fn two_runs_on_one_output_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("labels.csv");
        let first = State::lock(&output).unwrap();
        let error = State::lock(&output).err().unwrap().to_string();
        assert!(error.contains("another run is writing"), "{error}");
        drop(first);
        State::lock(&output).unwrap();
    }
}
