//! `catalog runtime`, and what the program says where it finds no library it can use.

use crate::runtime;
use crate::testenv::{Finished, TestEnv, finish, write_halves};

/// The program with an empty cache and no library named.
fn without_a_library(env: &TestEnv, arguments: &[&str]) -> Finished {
    finish(
        env.bare_command(arguments)
            .env_remove("ORT_DYLIB_PATH")
            .env_remove("CATALOG_OFFLINE")
            .env("CATALOG_CACHE", env.path("empty-cache")),
    )
}

#[test]
fn list_and_doctor_describe_what_is_there() {
    let env = TestEnv::new();
    let list = env.succeed(&["runtime", "list"]).stdout;
    let heading: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        heading,
        [
            "NAME", "VERSION", "DEVICE", "TRAINING", "DOWNLOAD", "ON", "DISK", "STATUS"
        ]
    );

    let doctor = finish(&mut env.bare_command(&["runtime", "doctor"]));
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    let library = runtime::training();
    for expected in [
        library.path.to_str().unwrap(),
        &library.version,
        "CPU",
        "would run",
    ] {
        assert!(
            doctor.stdout.contains(expected),
            "{expected} is not in {}",
            doctor.stdout
        );
    }
}

#[test]
fn offline_without_a_library_says_what_to_run() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 2);
    let finished = without_a_library(&env, &["train", "halves", "--out", "model", "--offline"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let line = finished.stderr.trim_end();
    assert!(
        line.starts_with("error: ONNX Runtime is not installed, and --offline"),
        "{line}"
    );
    assert!(
        line.contains("`catalog runtime install`") && line.contains("ORT_DYLIB_PATH"),
        "{line}"
    );
    assert!(!line.contains('\n'), "{line}");

    let doctor = without_a_library(&env, &["runtime", "doctor", "--offline"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("would not run"), "{}", doctor.stdout);
    assert!(
        !env.path("empty-cache").exists(),
        "looking must not change anything"
    );
}

#[test]
fn a_file_that_is_no_library_is_an_error_and_no_crash() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 2);
    env.write("notes.txt", "not a library");
    for (named, expected) in [
        ("notes.txt", "notes.txt"),
        ("missing.so.1/x", "does not exist"),
        ("halves", "is not a file"),
    ] {
        for command in [["train", "halves"].as_slice(), &["runtime", "doctor"]] {
            let mut arguments = [command, &["--onnxruntime", named]].concat();
            if command[0] == "train" {
                arguments.extend(["--out", "model"]);
            }
            let finished = without_a_library(&env, &arguments);
            assert_eq!(finished.code, Some(1), "{finished:?}");
            let said = finished.stderr.clone() + &finished.stdout;
            assert!(said.contains(expected), "{said}");
            assert!(
                said.contains("--onnxruntime"),
                "what to do is missing: {said}"
            );
            assert!(!said.contains("panicked"), "{said}");
            if command[0] == "train" {
                assert_eq!(finished.stderr.lines().count(), 1, "{said}");
            }
        }
    }
}
