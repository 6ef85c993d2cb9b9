//! Getting Fashion-MNIST without root: the Debian package through `apt-get download`, else the data set's own address.
//!
//! Files are verified before they are installed, and installed with one rename under a lock, so that neither a broken connection
//! nor a second process leaves a half copy where the first is looked for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Numbered, read_verified};

const PACKAGE: &str = "dataset-fashion-mnist";

/// The authors' address. It speaks plain HTTP only, which is no harm: nothing is used before its SHA-256 is verified.
const OFFICIAL_ADDRESS: &str = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com";

const FILES: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

/// Beginning of the name of the folder a fetch works in; what a killed one left is removed by the next.
const WORK_PREFIX: &str = ".fetch-fashion-mnist-";

/// Fetches the data set into the folder `installed` (`CACHE/datasets/fashion-mnist`) and reads it.
///
/// # Errors
/// When no way of getting it worked; the message says how each failed and what can be done by hand.
pub(super) fn fetch(installed: &Path) -> Result<[Option<Numbered>; 3]> {
    let datasets = installed
        .parent()
        .context("the folder for data sets has no parent")?;
    fs::create_dir_all(datasets)
        .with_context(|| format!("{}: cannot be made", datasets.display()))?;
    let lock_file = datasets.join(".fashion-mnist.lock");
    let lock = File::create(&lock_file)
        .with_context(|| format!("{}: cannot be made", lock_file.display()))?;
    if lock.try_lock().is_err() {
        tracing::info!("waiting for another process that is fetching fashion-mnist");
        lock.lock()
            .with_context(|| format!("{}: cannot be locked", lock_file.display()))?;
    }

    // Another process may have installed it while this one waited for the lock.
    if let Ok(parts) = read_verified(installed) {
        return Ok(parts);
    }
    remove_leftovers(datasets);
    let work = tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(datasets)
        .with_context(|| format!("{}: no folder can be made in it", datasets.display()))?;

    tracing::info!(
        "fetching fashion-mnist (30 MB) into {}",
        installed.display()
    );
    let package_lists = datasets.with_file_name("apt");
    let mut failures = Vec::new();
    for way in [Way::Debian, Way::Official] {
        let fetched = match way {
            Way::Debian => from_debian(work.path(), &package_lists),
            Way::Official => from_official_address(work.path()),
        };
        match fetched.and_then(|folder| Ok((read_verified(&folder)?, folder))) {
            Ok((parts, folder)) => {
                install(&folder, installed, work.path())?;
                return Ok(parts);
            }
            Err(error) => {
                tracing::debug!("{}: {error:#}", way.name());
                failures.push(format!("{}: {error:#}", way.name()));
            }
        }
    }
    bail!(
        "fashion-mnist: could not be fetched ({}); install the Debian package {PACKAGE}, or put the four files {} into {}",
        failures.join("; "),
        FILES.join(", "),
        installed.display()
    )
}

#[derive(Clone, Copy)]
enum Way {
    Debian,
    Official,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian package",
            Self::Official => OFFICIAL_ADDRESS,
        }
    }
}

/// Downloads and unpacks the package; with the machine's package lists if it has them, else with our own in `package_lists`.
fn from_debian(work: &Path, package_lists: &Path) -> Result<PathBuf> {
    let download = |options: &[String]| {
        let mut command = apt_get();
        run(command
            .args(options)
            .args(["download", PACKAGE])
            .current_dir(work))
    };
    if let Err(error) = download(&[]) {
        if is_not_installed(&error) {
            return Err(error);
        }
        tracing::debug!("with the machine's package lists: {error:#}");
        let (lists, cache) = (package_lists.join("lists"), package_lists.join("cache"));
        for folder in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        let own_lists = [
            format!("-oDir::State::Lists={}", lists.display()),
            format!("-oDir::Cache={}", cache.display()),
        ];
        tracing::info!("fetching package lists into {}", lists.display());
        run(apt_get().args(&own_lists).arg("update"))?;
        download(&own_lists)?;
    }

    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let package = fs::read_dir(work)
        .context("the download folder cannot be listed")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_package)
        .context("apt-get left no package file")?;
    let unpacked = work.join("unpacked");
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(&package)
        .arg(&unpacked))?;
    Ok(unpacked.join("usr/share/datasets/fashion-mnist"))
}

/// `apt-get` as a user without rights can run it: no locks in system folders, no change of user.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("LC_ALL", "C").args([
        "-q",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=root",
        "-oAcquire::Retries=2",
        "-oAcquire::http::Timeout=30",
        "-oAcquire::https::Timeout=30",
    ]);
    command
}

fn from_official_address(work: &Path) -> Result<PathBuf> {
    let folder = work.join("official");
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    for file in FILES {
        let address = format!("{OFFICIAL_ADDRESS}/{file}");
        let target = folder.join(file);
        let mut curl = Command::new("curl");
        curl.args([
            "--fail",
            "--location",
            "--silent",
            "--show-error",
            "--retry",
            "2",
            "--connect-timeout",
            "20",
        ]);
        let curl = curl
            .args(["--max-time", "600", "--output"])
            .arg(&target)
            .arg(&address);
        let mut wget = Command::new("wget");
        let wget = wget
            .args([
                "--no-verbose",
                "--tries=2",
                "--timeout=20",
                "--output-document",
            ])
            .arg(&target)
            .arg(&address);
        match run(curl) {
            Err(error) if is_not_installed(&error) => run(wget)?,
            result => result?,
        }
    }
    Ok(folder)
}

/// Moves the verified files to their place, and a damaged copy out of it.
fn install(files: &Path, installed: &Path, work: &Path) -> Result<()> {
    if installed.exists() {
        fs::rename(installed, work.join("damaged")).with_context(|| {
            format!(
                "{}: the damaged copy cannot be moved away",
                installed.display()
            )
        })?;
    }
    fs::rename(files, installed)
        .with_context(|| format!("{}: cannot be installed", installed.display()))
}

fn remove_leftovers(datasets: &Path) {
    let Ok(entries) = fs::read_dir(datasets) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!("{}: cannot be removed: {error}", entry.path().display());
        }
    }
}

/// Runs a command to its end; an error carries the last line it said.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    tracing::debug!("running {command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("it said nothing");
    bail!("{program} failed ({}): {last}", output.status)
}

fn is_not_installed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_with_its_last_words() {
        let error = run(Command::new("sh").args(["-c", "echo first >&2; echo second >&2; exit 3"]))
            .unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message.contains("sh failed")
                && message.contains("second")
                && !message.contains("first"),
            "{message}"
        );
        assert!(!is_not_installed(&error));
        assert!(is_not_installed(
            &run(&mut Command::new("no-such-program-anywhere")).unwrap_err()
        ));
    }

    #[test]
    fn leftovers_of_a_killed_fetch_are_removed_and_nothing_else() {
        let datasets = tempfile::tempdir().unwrap();
        fs::create_dir_all(datasets.path().join(format!("{WORK_PREFIX}abc/unpacked"))).unwrap();
        fs::create_dir(datasets.path().join("other")).unwrap();
        remove_leftovers(datasets.path());
        let left: Vec<_> = fs::read_dir(datasets.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["other"]);
    }

    #[test]
    fn installing_replaces_a_damaged_copy() {
        let datasets = tempfile::tempdir().unwrap();
        let (installed, work) = (
            datasets.path().join("fashion-mnist"),
            datasets.path().join("work"),
        );
        fs::create_dir_all(&installed).unwrap();
        fs::write(installed.join("damaged"), "").unwrap();
        fs::create_dir_all(work.join("new")).unwrap();
        fs::write(work.join("new/whole"), "").unwrap();
        install(&work.join("new"), &installed, &work).unwrap();
        assert!(installed.join("whole").exists() && !installed.join("damaged").exists());
    }
}
