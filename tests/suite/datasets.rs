//! `catalog dataset`: what is shown adds up, and what is written is read back as the same data.

use catalog::dataset::{self, Source};

use crate::testenv::{TestEnv, fashion_mnist_folder, load_settings, write_halves};

fn fingerprint(env: &TestEnv, name: &str) -> String {
    let source = Source::detect(env.path(name).to_str().unwrap()).unwrap();
    dataset::load(&source, &load_settings())
        .unwrap()
        .fingerprint
}

#[test]
fn the_counts_of_every_class_and_part_are_shown() {
    let env = TestEnv::new();
    fashion_mnist_folder(&env.path("data"), 50, 20);
    let finished = env.succeed(&["dataset", "show", "data", "--sheet", "sheet.png"]);
    let text = &finished.stdout;
    assert!(
        text.starts_with("data: 70 images in 10 classes, 28×28 grey (width×height)\n"),
        "{text}"
    );
    assert!(text.contains(&fingerprint(&env, "data")), "{text}");
    let numbers = |line: &str| -> Vec<usize> {
        line.split_whitespace()
            .rev()
            .take(3)
            .map(|cell| cell.parse().unwrap())
            .collect()
    };
    let lines: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("class"))
        .skip(1)
        .collect();
    assert_eq!(lines.len(), 11, "ten classes and a sum: {text}");
    let (total, classes) = lines.split_last().unwrap();
    assert_eq!(numbers(total), [70, 20, 50]);
    for column in 0..3 {
        let sum: usize = classes.iter().map(|line| numbers(line)[column]).sum();
        assert_eq!(sum, numbers(total)[column]);
    }
    let sheet = image::open(env.path("sheet.png")).unwrap();
    assert!(
        sheet.width() > 280 && sheet.height() > 280,
        "ten rows of images"
    );
}

#[test]
fn every_form_holds_the_same_data() {
    let env = TestEnv::new();
    fashion_mnist_folder(&env.path("data"), 60, 30);
    let original = fingerprint(&env, "data");
    for form in ["idx", "csv", "images"] {
        let finished = env.succeed(&["dataset", "export", "data", "--as", form, "--out", form]);
        assert_eq!(finished.stdout, format!("90 images written to {form}\n"));
    }
    for form in ["idx", "csv"] {
        assert_eq!(fingerprint(&env, form), original, "{form}");
    }
    // Class names of image folders are in natural order, those of numbered labels in the order of the numbers: the fingerprint
    // of the images is one of its own, and the same once more.
    env.succeed(&[
        "dataset", "export", "images", "--as", "images", "--out", "copy",
    ]);
    assert_eq!(fingerprint(&env, "copy"), fingerprint(&env, "images"));
    env.succeed(&[
        "dataset", "export", "images", "--as", "idx", "--out", "back",
    ]);
    assert_eq!(fingerprint(&env, "back"), fingerprint(&env, "images"));
}

#[test]
fn a_limited_export_takes_evenly_from_the_classes() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 10);
    env.succeed(&[
        "dataset", "export", "halves", "--as", "images", "--out", "few", "--limit", "8",
    ]);
    for half in ["bottom", "left", "right", "top"] {
        assert_eq!(
            env.path("few/train").join(half).read_dir().unwrap().count(),
            2,
            "{half}"
        );
    }
}

#[test]
fn an_output_folder_in_use_is_left_alone() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 2);
    env.write("out/mine.txt", "mine");
    let finished = env.run(&[
        "dataset", "export", "halves", "--as", "images", "--out", "out",
    ]);
    assert_eq!(finished.code, Some(1));
    assert_eq!(
        finished.stderr,
        "error: out: the folder is not empty: choose another one or empty it\n"
    );
    assert_eq!(env.path("out").read_dir().unwrap().count(), 1);
}
