//! `catalog classify` as a nightly job: what was done is never lost nor done twice, whatever ended the run before.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use image::ImageFormat;
use serde_json::Value;

use crate::testenv::{Finished, Half, TestEnv, halves_model, wait};

pub(super) fn png(half: Half, seed: u64) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    half.image(20, seed)
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A model and `count` different images in two folders, and some files that are none.
pub(super) fn shop(count: u64) -> TestEnv {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    for number in 0..count {
        let half = Half::ALL[number as usize % 4];
        let folder = ["coats", "shoes"][number as usize % 2];
        env.write(
            &format!("shop/{folder}/{number:04}.png"),
            png(half, 1000 + number),
        );
    }
    env.write("shop/notes.txt", "no image");
    env.write("shop/empty.png", "");
    env
}

pub(super) fn classify<'a>(out: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let command = ["classify", "shop", "--model", "model.onnx", "--out", out];
    [&command[..], options].concat()
}

/// Runs to the end; the two files that are no images make it a 3.
#[track_caller]
pub(super) fn labels(env: &TestEnv, out: &str, options: &[&str]) -> String {
    let finished = env.run(&classify(out, options));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    env.read(out)
}

fn comparison(env: &TestEnv, out: &str) -> Value {
    report(env, out)["summary"]["comparison"].clone()
}

fn report(env: &TestEnv, out: &str) -> Value {
    serde_json::from_str(&env.read(&format!("{out}.report.json"))).unwrap()
}

fn counts(continued: u64, reused: u64, new: u64, changed: u64, retried: u64, gone: u64) -> Value {
    serde_json::json!({
        "continued": continued, "reused": reused, "new": new, "changed": changed, "retried": retried, "gone": gone,
    })
}

/// Runs until at least one batch is in the journal, then ends it with `signal`.
#[cfg(unix)]
fn stop_early(env: &TestEnv, out: &str, signal: &str) -> Option<i32> {
    let mut command = env.command(&classify(out, &["--batch-size", "4", "--jobs", "1"]));
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let journal = env.path(&format!("{out}.state/running"));
    let started = std::time::Instant::now();
    while fs::metadata(&journal).map_or(0, |journal| journal.len()) < 2000 {
        assert!(started.elapsed().as_secs() < 60, "no row came");
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    kill.unwrap();
    let code = wait(&mut child);
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        assert!(!line.contains("panicked"), "{line}");
    }
    code
}

#[cfg(unix)]
#[test]
fn a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes() {
    let env = shop(3000);
    let whole = labels(&env, "whole.csv", &[]);
    for (signal, code) in [
        ("-INT", Some(130)),
        ("-TERM", Some(143)),
        ("-HUP", Some(129)),
        ("-KILL", None),
    ] {
        fs::remove_dir_all(env.path("labels.csv.state")).unwrap_or_default();
        env.write("labels.csv", "old");
        assert_eq!(stop_early(&env, "labels.csv", signal), code, "{signal}");
        assert_eq!(env.read("labels.csv"), "old");
        let finished = env.run(&classify("labels.csv", &["--jobs", "2"]));
        assert_eq!(finished.code, Some(3), "{finished:?}");
        assert!(
            finished.stderr.contains("going on where the last run"),
            "{finished:?}"
        );
        assert_eq!(env.read("labels.csv"), whole, "{signal}");
        let comparison = comparison(&env, "labels.csv");
        let continued = comparison["continued"].as_u64().unwrap();
        assert!(continued >= 4, "{signal}: {comparison}");
        assert_eq!(comparison["new"], 3002 - continued);
    }
    let leftovers: Vec<String> = fs::read_dir(env.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert_eq!(leftovers, [""; 0]);
}

#[test]
fn a_night_does_only_what_changed() {
    let env = shop(40);
    let first = labels(&env, "labels.csv", &[]);
    assert_eq!(comparison(&env, "labels.csv"), counts(0, 0, 42, 0, 0, 0));

    // Nothing new: what failed is tried again, the rest is only looked at from outside.
    assert_eq!(labels(&env, "labels.csv", &[]), first);
    assert_eq!(comparison(&env, "labels.csv"), counts(0, 40, 0, 0, 2, 0));

    env.write("shop/coats/0000.png", png(Half::Right, 5000));
    env.write("shop/aaa.png", png(Half::Top, 5001));
    fs::remove_file(env.path("shop/shoes/0039.png")).unwrap();
    fs::remove_file(env.path("shop/notes.txt")).unwrap();
    let second = labels(&env, "labels.csv", &[]);
    assert_eq!(comparison(&env, "labels.csv"), counts(0, 38, 1, 1, 1, 2));
    assert_eq!(labels(&env, "anew.csv", &[]), second);
    assert!(second.contains("./aaa.png,top,") && second.contains("./coats/0000.png,right,"));

    assert_eq!(labels(&env, "labels.csv", &["--overwrite"]), second);
    assert_eq!(comparison(&env, "labels.csv"), counts(0, 0, 41, 0, 0, 0));
}

#[test]
fn another_output_can_be_the_night_before_by_time_or_by_content() {
    let env = shop(12);
    let sunday = labels(&env, "sunday.csv", &[]);
    assert_eq!(
        labels(&env, "monday.csv", &["--previous", "sunday.csv"]),
        sunday
    );
    assert_eq!(comparison(&env, "monday.csv"), counts(0, 12, 0, 0, 2, 0));

    // Copied files have the same content and another time.
    for entry in walkdir::WalkDir::new(env.path("shop")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let file = fs::File::options().append(true).open(entry.path()).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        }
    }
    env.write("shop/coats/0000.png", png(Half::Left, 7));
    let previous = ["--previous", "sunday.csv.state/finished"];
    let by_time = labels(&env, "tuesday.csv", &previous);
    assert_eq!(comparison(&env, "tuesday.csv")["changed"], 12);
    let options = [&previous[..], &["--by-content"]].concat();
    assert_eq!(labels(&env, "wednesday.csv", &options), by_time);
    assert_eq!(comparison(&env, "wednesday.csv"), counts(0, 11, 0, 1, 2, 0));

    // Another number of classes is another question.
    let finished = env.run(&classify(
        "three.csv",
        &["--top-k", "3", "--previous", "sunday.csv"],
    ));
    assert!(
        finished
            .stderr
            .contains("nothing can be taken from sunday.csv: --top-k was 1, is 3"),
        "{finished:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_stopped_run_is_not_continued_with_other_settings() {
    let env = shop(3000);
    stop_early(&env, "labels.csv", "-KILL");
    let one_error = |finished: Finished| {
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let [line] = finished.error_lines()[..] else {
            panic!("not one error line: {finished:?}");
        };
        line.to_owned()
    };
    let error = one_error(env.run(&classify("labels.csv", &["--top-k", "2"])));
    assert!(
        error.contains("--top-k was 1, is 2") && error.contains("--overwrite"),
        "{error}"
    );
    let other = [
        "classify",
        "shop/coats",
        "--model",
        "model.onnx",
        "--out",
        "labels.csv",
    ];
    assert!(one_error(env.run(&other)).contains("the input was ./shop, is ./shop/coats"));
    assert!(!env.path("labels.csv").exists());
    labels(&env, "labels.csv", &["--top-k", "2", "--overwrite"]);
    // What came to its end is simply replaced, unless that is not wanted.
    let error = one_error(env.run(&classify("labels.csv", &["--resume"])));
    assert!(error.contains("--top-k was 2, is 1"), "{error}");
    labels(&env, "labels.csv", &[]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_run_on_the_same_output_is_refused() {
    let env = shop(4);
    // A reader that does not read holds the first run up for as long as the test likes.
    let lock = env.path("labels.csv.state");
    fs::create_dir(&lock).unwrap();
    let file = fs::File::create(lock.join("lock")).unwrap();
    file.lock().unwrap();
    let finished = env.run(&classify("labels.csv", &[]));
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.error_lines()[0].contains("another run is writing labels.csv"),
        "{finished:?}"
    );
    drop(file);
    labels(&env, "labels.csv", &[]);
}

#[test]
fn failures_are_tolerated_up_to_the_budget_and_can_end_the_run() {
    let env = shop(20);
    let run = |options: &[&str]| env.run(&classify("labels.csv", options));
    assert_eq!(run(&["--max-failures", "1"]).code, Some(3));
    assert_eq!(run(&["--max-failures", "2"]).code, Some(0));
    assert_eq!(run(&["--max-failures", "9%"]).code, Some(3));
    assert_eq!(run(&["--max-failures", "10%"]).code, Some(0));
    assert_eq!(run(&["--max-failures", "x"]).code, Some(2));

    env.write("labels.csv", "old");
    let fast = run(&["--overwrite", "--fail-fast"]);
    assert_eq!(fast.code, Some(1), "{fast:?}");
    assert!(
        fast.error_lines()[0].contains("./empty.png is corrupt: the file is empty"),
        "{fast:?}"
    );
    assert_eq!(env.read("labels.csv"), "old");
    fs::remove_file(env.path("shop/empty.png")).unwrap();
    assert_eq!(run(&["--fail-fast", "--max-failures", "1"]).code, Some(0));
    // The coats were done before the stop; the notes and the shoes come after it.
    let comparison = comparison(&env, "labels.csv");
    assert_eq!([&comparison["continued"], &comparison["new"]], [10, 11]);
}

#[test]
fn the_report_counts_what_each_stage_did() {
    let env = shop(40);
    labels(&env, "labels.csv", &["--batch-size", "8"]);
    let report = report(&env, "labels.csv");
    let stages = &report["summary"]["stages"];
    let files = ["walk", "decode", "infer", "write"].map(|stage| stages[stage]["files"].as_u64());
    // The two that are no images are looked at, and given to no model.
    assert_eq!(files, [42, 42, 40, 42].map(Some), "{stages}");
    assert!(
        stages["infer"]["files_per_busy_second"].as_f64() > Some(0.0),
        "{stages}"
    );
    let depth = stages["infer"]["queue_depth"].as_f64().unwrap();
    assert!((1.0..=2.0).contains(&depth), "{stages}");
    assert!(stages[report["bottleneck"].as_str().unwrap()].is_object());
    let training = report["model"]["training"].as_object().unwrap();
    assert!(training.contains_key("options") && !training.contains_key("epochs"));
}

#[test]
fn files_from_a_list_are_classified_wherever_they_are() {
    let env = shop(6);
    env.write(
        "list",
        "shop/shoes/0001.png\n./shop/coats/0000.png\nshop/gone.png\nshop\nshop/shoes/0001.png\n",
    );
    let mut command = env.command(&[
        "classify",
        "--files-from",
        "list",
        "--model",
        "model.onnx",
        "--out",
        "-",
    ]);
    let finished = crate::testenv::finish(&mut command);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let rows: Vec<&str> = finished
        .stdout
        .lines()
        .map(|line| line.split(",").next().unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            "path",
            "./shop",
            "./shop/coats/0000.png",
            "./shop/gone.png",
            "./shop/shoes/0001.png"
        ]
    );
    assert!(
        finished
            .stdout
            .contains(",unreadable,\"a folder, not a file\"")
    );
    assert!(finished.stdout.contains(",vanished,"));

    // From standard input, as `find -print0` gives it, and with other names.
    env.write("list0", "shop/shoes/0001.png\0shop/coats/0000.png\0");
    let mut command = env.command(&[
        "classify",
        "--files-from",
        "-",
        "--null",
        "--model",
        "model.onnx",
        "--out",
        "-",
        "--format",
        "jsonl",
        "--relative-to",
        "shop",
    ]);
    command.stdin(fs::File::open(env.path("list0")).unwrap());
    let finished = crate::testenv::finish(&mut command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let paths: Vec<Value> = finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["path"].clone())
        .collect();
    assert_eq!(paths, ["./coats/0000.png", "./shoes/0001.png"]);
    assert!(!env.path("-").exists() && !env.path("-.report.json").exists());
}

#[test]
fn every_format_says_the_same() {
    let env = shop(6);
    let csv = labels(&env, "labels.csv", &[]);
    let excel = labels(&env, "excel.csv", &["--excel"]);
    assert_eq!(
        excel
            .strip_prefix('\u{feff}')
            .unwrap()
            .replace("\r\n", "\n"),
        csv
    );
    let jsonl = labels(&env, "labels.jsonl", &["--format", "jsonl"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let headers = reader.headers().unwrap().clone();
    for (line, record) in jsonl.lines().zip(reader.records()) {
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        for (name, cell) in headers.iter().zip(&record.unwrap()) {
            match &object[name] {
                Value::Null => assert_eq!(cell, ""),
                Value::String(text) => assert_eq!(cell, text),
                number => assert_eq!(cell.parse().ok(), number.as_f64()),
            }
        }
    }
    let absolute = labels(&env, "absolute.csv", &["--absolute"]);
    let first = absolute.lines().nth(1).unwrap();
    assert!(
        first.starts_with(env.path("shop/coats/0000.png").to_str().unwrap()),
        "{first}"
    );
}

#[test]
fn identical_pictures_are_classified_once() {
    let env = shop(2);
    for number in 0..300 {
        fs::copy(
            env.path("shop/coats/0000.png"),
            env.path(&format!("shop/coats/copy{number}.png")),
        )
        .unwrap();
    }
    let copies = labels(&env, "labels.csv", &["--batch-size", "16"]);
    let rows: Vec<&str> = copies
        .lines()
        .filter(|line| line.contains("copy"))
        .collect();
    assert_eq!(rows.len(), 300);
    assert!(rows.iter().all(|row| row.contains(".png,bottom,")));
    let summary = report(&env, "labels.csv")["summary"].clone();
    // Only those in the batch of the first are decoded themselves.
    assert!(summary["duplicates"].as_u64().unwrap() >= 284, "{summary}");
}

#[test]
fn memory_is_bounded_by_the_budget_whatever_the_threads() {
    let env = shop(30);
    let roomy = labels(&env, "roomy.csv", &[]);
    // A 20 × 20 image takes two copies of 400 bytes and its file.
    let tight = ["--memory-budget", "2000", "--jobs", "4"];
    assert_eq!(labels(&env, "tight.csv", &tight), roomy);
    let memory = report(&env, "tight.csv")["summary"]["memory"].clone();
    assert_eq!(memory["budget_bytes"], 2000);
    assert!(memory["peak_bytes"].as_u64().unwrap() <= 2000, "{memory}");
    let hopeless = labels(&env, "hopeless.csv", &["--memory-budget", "500"]);
    assert_eq!(hopeless.matches(",too_large,").count(), 30);
}

#[test]
fn a_quiet_run_says_no_more_than_that_files_are_not_ok() {
    let env = shop(3);
    let run = |failures| {
        env.run(&classify(
            "labels.csv",
            &["--quiet", "--max-failures", failures],
        ))
    };
    let finished = run("20%");
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert_eq!(finished.stdout, "");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("2 of 5 files are not ok, more than the 20\u{a0}% of --max-failures"),
        "{finished:?}"
    );
    let finished = run("2");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr, "");
}

#[test]
fn shards_join_to_the_bytes_of_one_run() {
    let env = shop(60);
    for (format, options) in [
        ("csv", &[][..]),
        ("xcsv", &["--excel"]),
        ("jsonl", &["--format", "jsonl"]),
    ] {
        let whole = labels(&env, &format!("whole.{format}"), options);
        for count in [1, 3, 7] {
            let parts: Vec<String> = (1..=count)
                .map(|number| format!("part-{number}-{count}.{format}"))
                .collect();
            for (number, part) in (1..).zip(&parts) {
                let shard = format!("{number}/{count}");
                let options = [options, &["--shard", &shard]].concat();
                let finished = env.run(&classify(part, &options));
                assert!(matches!(finished.code, Some(0 | 3)), "{finished:?}");
            }
            let mut merge = vec!["merge", "--out", "joined"];
            merge.extend(parts.iter().rev().map(String::as_str));
            let finished = env.run(&merge);
            assert_eq!(finished.code, Some(3), "{finished:?}");
            assert_eq!(env.read("joined"), whole, "{count} shards as {format}");
            let tolerant = env.run(&[&merge[..], &["--max-failures", "2"]].concat());
            assert_eq!(tolerant.code, Some(0), "{tolerant:?}");
            if count == 3 {
                merge.pop();
                let finished = env.run(&merge);
                assert_eq!(finished.code, Some(1));
                assert!(
                    finished.error_lines()[0].contains("shard 1/3 is missing"),
                    "{finished:?}"
                );
            }
        }
    }
    assert_eq!(
        serde_json::from_str::<Value>(&env.read("joined.report.json")).unwrap()["statuses"]["ok"],
        60
    );
}

#[test]
fn files_are_sorted_into_folders() {
    let env = shop(8);
    labels(&env, "labels.csv", &["--sort-into", "sorted"]);
    let sorted: Vec<String> = walkdir::WalkDir::new(env.path("sorted"))
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(env.path("sorted")).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        sorted,
        [
            "bottom/coats/0000.png",
            "bottom/coats/0004.png",
            "failed/empty.png",
            "failed/notes.txt",
            "left/shoes/0001.png",
            "left/shoes/0005.png",
            "right/coats/0002.png",
            "right/coats/0006.png",
            "top/shoes/0003.png",
            "top/shoes/0007.png",
        ]
    );
    for folder in ["sorted", "shop/sorted"] {
        let finished = env.run(&classify("labels.csv", &["--sort-into", folder]));
        assert_eq!(finished.code, Some(1), "{folder}: {finished:?}");
    }
}
