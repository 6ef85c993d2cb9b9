//! `catalog classify`, through the program: one row per file whatever the files are, numbers that add up, and an output that is
//! whole or not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::process::{Command, Stdio};

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA};
use pipeline::classify::decode_text;

use crate::testenv::{Half, TestEnv, finish, halves_model, write_halves};

/// A row of the output: path, label, confidence, status, error.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    label: String,
    confidence: String,
    status: String,
    error: String,
}

/// Rows by path.
fn rows(env: &TestEnv, name: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut reader = csv::Reader::from_path(env.path(name)).unwrap();
    assert_eq!(
        reader.headers().unwrap(),
        ["path", "label", "confidence", "status", "error"].as_slice()
    );
    for record in reader.records() {
        let record = record.unwrap();
        let row = Row {
            label: record[1].to_owned(),
            confidence: record[2].to_owned(),
            status: record[3].to_owned(),
            error: record[4].to_owned(),
        };
        assert!(
            rows.insert(record[0].to_owned(), row).is_none(),
            "{} twice",
            &record[0]
        );
    }
    rows
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(half: Half) -> Vec<u8> {
    encoded(half.image(20, 1), ImageFormat::Png)
}

/// A PNG that is to be shown turned; 6 is a quarter clockwise.
fn png_with_orientation(half: Half, orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let image = half.image(20, 2);
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    encoder
        .write_image(image.as_raw(), 20, 20, ExtendedColorType::L8)
        .unwrap();
    bytes
}

/// A PNG whose header promises 60,000×60,000 pixels and is right about its own checksum.
fn huge_png() -> Vec<u8> {
    let mut bytes = png(Half::Top);
    bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    bytes
}

fn sixteen_bits(half: Half) -> Vec<u8> {
    let image = half.image(20, 3);
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(20, 20, |x, y| {
        Luma([u16::from(image.get_pixel(x, y)[0]) * 257])
    });
    encoded(DynamicImage::ImageLuma16(deep), ImageFormat::Png)
}

fn with_alpha(half: Half) -> Vec<u8> {
    let image = half.image(20, 4);
    let see_through: ImageBuffer<LumaA<u8>, Vec<u8>> =
        ImageBuffer::from_fn(20, 20, |x, y| LumaA([image.get_pixel(x, y)[0], 250]));
    encoded(DynamicImage::ImageLumaA8(see_through), ImageFormat::Png)
}

fn jpeg(half: Half) -> Vec<u8> {
    encoded(half.image(64, 5), ImageFormat::Jpeg)
}

/// Files of every kind, good and bad: what each is called in the output, its label and its status.
fn hostile_folder(env: &TestEnv) -> Vec<(&'static str, &'static str, &'static str)> {
    let cut = jpeg(Half::Top);
    let files: &[(&str, Vec<u8>)] = &[
        ("files/good/bottom.png", png(Half::Bottom)),
        ("files/good/left.jpg", jpeg(Half::Left)),
        (
            "files/good/right.gif",
            encoded(
                DynamicImage::from(Half::Right.image(20, 6)).to_rgb8(),
                ImageFormat::Gif,
            ),
        ),
        (
            "files/good/top.bmp",
            encoded(Half::Top.image(20, 7), ImageFormat::Bmp),
        ),
        (
            "files/good/bottom.tiff",
            encoded(Half::Bottom.image(20, 8), ImageFormat::Tiff),
        ),
        (
            "files/good/left.webp",
            encoded(
                DynamicImage::from(Half::Left.image(20, 9)).to_rgb8(),
                ImageFormat::WebP,
            ),
        ),
        ("files/.hidden.png", png(Half::Left)),
        ("files/no extension", png(Half::Left)),
        ("files/=SUM(A1).PNG", png(Half::Left)),
        ("files/say \"cheese\", please.png", png(Half::Left)),
        ("files/really a png.jpg", png(Half::Right)),
        ("files/two\nlines.png", png(Half::Top)),
        ("files/16 bits.png", sixteen_bits(Half::Right)),
        ("files/alpha.png", with_alpha(Half::Bottom)),
        ("files/turned.png", png_with_orientation(Half::Top, 6)),
        ("files/cut.jpg", cut[..cut.len() - 30].to_vec()),
        ("files/cut.png", png(Half::Top)[..80].to_vec()),
        ("files/empty.jpg", vec![]),
        ("files/notes.txt", b"not an image".to_vec()),
        ("files/huge.png", huge_png()),
    ];
    for (name, content) in files {
        env.write(name, content);
    }
    let mut expected = vec![
        ("./good/bottom.png", "bottom", "ok"),
        ("./good/left.jpg", "left", "ok"),
        ("./good/right.gif", "right", "ok"),
        ("./good/top.bmp", "top", "ok"),
        ("./good/bottom.tiff", "bottom", "ok"),
        ("./good/left.webp", "left", "ok"),
        ("./.hidden.png", "left", "ok"),
        ("./no extension", "left", "ok"),
        ("./=SUM(A1).PNG", "left", "ok"),
        ("./say \"cheese\", please.png", "left", "ok"),
        ("./really a png.jpg", "right", "ok"),
        ("./two%0Alines.png", "top", "ok"),
        ("./16 bits.png", "right", "ok"),
        ("./alpha.png", "bottom", "ok"),
        // A quarter clockwise takes the top to the right.
        ("./turned.png", "right", "ok"),
        ("./cut.jpg", "top", "degraded"),
        ("./cut.png", "", "corrupt"),
        ("./empty.jpg", "", "corrupt"),
        ("./notes.txt", "", "not_an_image"),
        ("./huge.png", "", "too_large"),
    ];
    assert_eq!(files.len(), expected.len());
    #[cfg(unix)]
    {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let folder = env.path("files");
        fs::write(
            folder.join(OsStr::from_bytes(b"caf\xe9.png")),
            png(Half::Bottom),
        )
        .unwrap();
        expected.push(("./caf%E9.png", "bottom", "ok"));
        std::os::unix::fs::symlink("nowhere", folder.join("broken link.png")).unwrap();
        std::os::unix::fs::symlink("good", folder.join("link to a folder")).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(folder.join("fifo.png"))
                .status()
                .unwrap()
                .success()
        );
    }
    expected
}

fn env_with_model() -> TestEnv {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    env
}

#[test]
fn every_file_has_a_row_and_the_numbers_add_up() {
    let env = env_with_model();
    let expected = hostile_folder(&env);
    let finished = env.run(&[
        "classify",
        "files",
        "--model",
        "model.onnx",
        "--out",
        "labels.csv",
    ]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert_eq!(finished.stdout, "");
    let rows = rows(&env, "labels.csv");
    for (path, label, status) in &expected {
        let row = rows
            .get(*path)
            .unwrap_or_else(|| panic!("{path} has no row"));
        assert_eq!(
            (row.label.as_str(), row.status.as_str()),
            (*label, *status),
            "{path}: {row:?}"
        );
        assert_eq!(row.error.is_empty(), *status == "ok", "{path}: {row:?}");
        assert_eq!(
            row.confidence.is_empty(),
            label.is_empty(),
            "{path}: {row:?}"
        );
        assert!(
            label.is_empty() || row.confidence.parse::<f32>().unwrap() > 0.5,
            "{path}: {row:?}"
        );
    }
    assert_eq!(rows.len(), expected.len());
    // One row is one line, in the order of the paths' bytes.
    let text = env.read("labels.csv");
    assert_eq!(text.lines().count(), rows.len() + 1);
    assert!(!text.contains('\r'));
    let paths: Vec<Vec<u8>> = csv::Reader::from_reader(text.as_bytes())
        .records()
        .map(|record| decode_text(&record.unwrap()[0]))
        .collect();
    assert_eq!(paths[0], b"./.hidden.png");
    assert!(paths.contains(&b"./two\nlines.png".to_vec()));

    let report: serde_json::Value =
        serde_json::from_str(&env.read("labels.csv.report.json")).unwrap();
    let summary = &report["summary"];
    assert_eq!(summary["found"], rows.len());
    let statuses = summary["statuses"].as_object().unwrap();
    let counted: u64 = statuses.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, rows.len() as u64);
    for (status, count) in statuses {
        let found = rows.values().filter(|row| row.status == *status).count();
        assert_eq!(*count, found, "{status}");
    }
    let labelled = rows.values().filter(|row| !row.label.is_empty()).count() as u64;
    let classes = summary["classes"].as_array().unwrap();
    assert_eq!(
        classes
            .iter()
            .map(|class| class["count"].as_u64().unwrap())
            .sum::<u64>(),
        labelled
    );
    let histogram = summary["confidence_histogram"].as_array().unwrap();
    assert_eq!(
        histogram
            .iter()
            .map(|count| count.as_u64().unwrap())
            .sum::<u64>(),
        labelled
    );
    #[cfg(unix)]
    assert_eq!(
        summary["skipped"],
        serde_json::json!({"unreadable_folders": 0, "links_to_folders": 1, "broken_links": 1, "not_files": 1})
    );
    assert_eq!(report["model"]["classes"], 4);
    assert_eq!(report["runtime"]["device"], "cpu");
}

#[test]
fn folders_of_good_images_end_with_success() {
    let env = env_with_model();
    for half in Half::ALL {
        for index in 0..5 {
            let image = half.image(30, 100 + index);
            env.write(
                &format!("shop/{}/{index}.png", half.name()),
                encoded(image, ImageFormat::Png),
            );
        }
    }
    let before: Vec<_> = walk(&env, "shop");
    let finished = env.succeed(&[
        "classify",
        "shop",
        "--model",
        "model.onnx",
        "--out",
        "labels.csv",
        "--report",
        "run.json",
    ]);
    assert!(
        finished.stderr.contains("20 files found = 20 ok"),
        "{finished:?}"
    );
    for (path, row) in rows(&env, "labels.csv") {
        assert_eq!(path.split('/').nth(1), Some(row.label.as_str()));
    }
    assert!(env.path("run.json").exists() && !env.path("labels.csv.report.json").exists());
    assert_eq!(walk(&env, "shop"), before, "the input is never written");
}

fn walk(env: &TestEnv, folder: &str) -> Vec<std::path::PathBuf> {
    let entries = walkdir::WalkDir::new(env.path(folder)).sort_by_file_name();
    entries
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .collect()
}

#[test]
fn the_bytes_do_not_depend_on_threads_nor_the_labels_on_the_batch_size() {
    let env = env_with_model();
    hostile_folder(&env);
    let run = |name: &str, options: &[&str]| {
        let arguments = [
            &["classify", "files", "--model", "model.onnx", "--out", name],
            options,
        ]
        .concat();
        assert_eq!(env.run(&arguments).code, Some(3));
    };
    run("one.csv", &["--jobs", "1"]);
    run("four.csv", &["--jobs", "4"]);
    assert_eq!(env.read("one.csv"), env.read("four.csv"));
    run("three.csv", &["--jobs", "1", "--model-threads", "3"]);
    assert_eq!(env.read("one.csv"), env.read("three.csv"));
    run(
        "sessions.csv",
        &["--jobs", "2", "--sessions", "3", "--batch-size", "2"],
    );
    run("session.csv", &["--jobs", "2", "--batch-size", "2"]);
    assert_eq!(env.read("session.csv"), env.read("sessions.csv"));
    let reference = rows(&env, "one.csv");
    for size in ["1", "3", "1000"] {
        run("other.csv", &["--batch-size", size]);
        for (path, row) in rows(&env, "other.csv") {
            let expected = &reference[&path];
            assert_eq!(
                (&row.label, &row.status, &row.error),
                (&expected.label, &expected.status, &expected.error),
                "{path}"
            );
            let confidence = |row: &Row| row.confidence.parse().unwrap_or(0.0_f64);
            assert!(
                (confidence(&row) - confidence(expected)).abs() < 1e-5,
                "{path}, batches of {size}"
            );
        }
    }
}

#[test]
fn top_k_writes_the_most_probable_classes_in_order() {
    let env = env_with_model();
    env.write("files/left.png", png(Half::Left));
    env.write("files/notes.txt", "text");
    let finished = env.run(&[
        "classify",
        "files",
        "--model",
        "model.onnx",
        "--out",
        "labels.csv",
        "--top-k",
        "4",
    ]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let mut reader = csv::Reader::from_path(env.path("labels.csv")).unwrap();
    let columns: Vec<String> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        columns.join(","),
        "path,label,confidence,label_2,confidence_2,label_3,confidence_3,label_4,confidence_4,status,error"
    );
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(&records[0][1], "left");
    let confidences: Vec<f64> = (0..4)
        .map(|place| records[0][2 + 2 * place].parse().unwrap())
        .collect();
    assert!(confidences.is_sorted_by(|a, b| a >= b), "{confidences:?}");
    assert!((confidences.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    let mut labels: Vec<&str> = (0..4).map(|place| &records[0][1 + 2 * place]).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["bottom", "left", "right", "top"]);
    assert!(
        (1..9).all(|cell| records[1][cell].is_empty()),
        "{:?}",
        records[1]
    );
}

#[test]
fn a_fatal_error_leaves_the_old_output_as_it_was() {
    let env = env_with_model();
    env.write("files/left.png", png(Half::Left));
    env.write("broken.onnx", "no model");
    env.write("out/labels.csv", "old labels\n");
    env.write("out/labels.csv.report.json", "old report\n");
    let finished = env.run(&[
        "classify",
        "files",
        "--model",
        "broken.onnx",
        "--out",
        "out/labels.csv",
    ]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(env.read("out/labels.csv"), "old labels\n");
    assert_eq!(env.read("out/labels.csv.report.json"), "old report\n");
    assert_eq!(
        env.path("out").read_dir().unwrap().count(),
        2,
        "a temporary file was left"
    );

    env.succeed(&[
        "classify",
        "files",
        "--model",
        "model.onnx",
        "--out",
        "out/labels.csv",
    ]);
    assert!(env.read("out/labels.csv").starts_with("path,label"));
    assert_eq!(
        env.path("out").read_dir().unwrap().count(),
        3,
        "something other than the labels, the report and the state was left"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_has_to_listen() {
    let env = env_with_model();
    env.write("files/left.png", png(Half::Left));
    env.write("files/notes.txt", "text");
    let arguments = |out| ["classify", "files", "--model", "model.onnx", "--out", out];
    assert_eq!(env.run(&arguments("expected.csv")).code, Some(3));
    let expected = env.read("expected.csv");

    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let mut command = env.command(&arguments("full.csv"));
    command.stdout(full()).stderr(full());
    assert_eq!(command.status().unwrap().code(), Some(3));
    assert_eq!(env.read("full.csv"), expected);

    // Closed from the start, as a shell's `>&-` does it.
    let program = env!("CARGO_BIN_EXE_catalog");
    for (out, closed) in [("closed.csv", ">&-"), ("both.csv", ">&- 2>&-")] {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec \"$0\" \"$@\" {closed}"), program])
            .args(arguments(out))
            .current_dir(env.path(""))
            .env("CATALOG_OFFLINE", "1");
        assert_eq!(finish(&mut shell).code, Some(3));
        assert_eq!(env.read(out), expected);
    }
}

#[test]
fn impossible_runs_are_refused_in_one_line_before_anything_is_read() {
    let env = env_with_model();
    env.write("files/left.png", png(Half::Left));
    fs::create_dir(env.path("empty")).unwrap();
    let mut all = String::new();
    let mut refuse = |input: &str, out: &str, options: &[&str]| {
        let arguments = [
            &["classify", input, "--out", out, "--model", "model.onnx"],
            options,
        ]
        .concat();
        let finished = env.run(&arguments);
        assert_eq!(finished.code, Some(1), "{arguments:?}: {finished:?}");
        let [line] = finished.error_lines()[..] else {
            panic!("not one error line: {finished:?}");
        };
        assert_eq!(finished.stderr.lines().last(), Some(line));
        assert!(!env.path(out).exists());
        all.push_str(line);
        all.push('\n');
    };
    refuse("files", "files/labels.csv", &[]);
    refuse("files", "files/../files/labels.csv", &[]);
    refuse("files", "nowhere/labels.csv", &[]);
    refuse("missing", "labels.csv", &[]);
    refuse("empty", "labels.csv", &[]);
    refuse("files", "labels.csv", &["--report", "files/report.json"]);
    refuse("files", "labels.csv", &["--top-k", "5"]);
    refuse("files", "labels.csv", &["--top-k", "0"]);
    insta::assert_snapshot!(all, @r"
    error: the output files/labels.csv lies inside the input folder files, which is never written; choose another place
    error: the output files/../files/labels.csv lies inside the input folder files, which is never written; choose another place
    error: the folder nowhere cannot be used: No such file or directory (os error 2)
    error: missing cannot be read: No such file or directory (os error 2)
    error: there are no files to classify in empty
    error: the output files/report.json lies inside the input folder files, which is never written; choose another place
    error: 5 classes a row were asked for, the model has 4
    error: 0 classes a row were asked for, the model has 4
    ");
}

#[test]
fn a_gpu_that_cannot_be_used_is_refused_before_anything_is_written() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 1);
    for device in ["cuda:99", "cuda:99,98", "tensorrt:99", "tensorrt:99,98"] {
        let finished = env.run(&["classify", "halves", "--out", "o.csv", "--device", device]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let first = device.split(',').next().unwrap();
        let errors = finished.error_lines();
        assert!(
            errors.len() == 1 && errors[0].contains(&format!("cannot run on {first}: ")),
            "{finished:?}"
        );
        assert!(!env.path("o.csv").exists());
    }
}
