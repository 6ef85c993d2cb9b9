//! The report that `train` and `evaluate` write: whole, by itself, and safe whatever the classes are called.

use std::fs;

use serde_json::Value;

use crate::testenv::{Half, QUICK, TestEnv};

/// A class that would run in a page that took its name for HTML.
const HOSTILE: &str = "<script>alert(1)";

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "br", "img", "input"];

/// Halves in a train, a validation and a test part, one class with a hostile name.
fn write_parts(env: &TestEnv) {
    for (part, first, count) in [
        ("train", 0, 30),
        ("validation", 1000, 12),
        ("test", 2000, 8),
    ] {
        for half in Half::ALL {
            let class = match half {
                Half::Top => HOSTILE,
                other => other.name(),
            };
            let folder = env.path("data").join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            for index in 0..count {
                half.image(12, first + index * 4 + half as u64)
                    .save(folder.join(format!("{index:03}.png")))
                    .unwrap();
            }
        }
    }
}

/// Every element ends where it should, and attributes are quoted: the names of the open elements at each point make a stack.
fn check_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        assert!(!tag.contains('<'), "<{tag}>");
        let name = tag.split_whitespace().next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "</{name}> in {open:?}"),
            None if name == "!DOCTYPE" || VOID.contains(&name) => {}
            None => open.push(name),
        }
        if name == "style" {
            rest = &rest[rest.find("</style>").unwrap()..];
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn check_page(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"));
    check_well_formed(html);
    // Pictures are left out of the search: base64 may have any letters in a row.
    let words: String = html
        .split("base64,")
        .enumerate()
        .map(|(index, piece)| match index {
            0 => piece,
            _ => &piece[piece.find('"').unwrap()..],
        })
        .collect();
    for foreign in [
        "http:", "https:", "//", "<script", "<link", "<iframe", "url(",
    ] {
        assert!(!words.contains(foreign), "{foreign}");
    }
    for source in html.split(" src=\"").skip(1) {
        assert!(source.starts_with("data:image/png;base64,"));
    }
    for address in html.split(" href=\"").skip(1) {
        assert!(address.starts_with('#'));
    }
    assert!(html.contains("&lt;script&gt;alert(1)"));
    for heading in [
        "Summary",
        "Confusion matrix",
        "Classes",
        "Confidence",
        "Data",
        "Options",
        "Environment",
    ] {
        assert!(html.contains(&format!(">{heading}</h2>")), "{heading}");
    }
    assert!(html.len() < 2_000_000);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

#[test]
fn train_and_evaluate_write_the_same_figures_and_pages_that_stand_alone() {
    let env = TestEnv::new();
    write_parts(&env);
    let quick = [&["train", "data", "--epochs", "3", "--out", "out"], QUICK].concat();
    env.succeed(&quick);
    let page = env.read("out/report.html");
    check_page(&page);
    assert!(page.contains(">Learning curves</h2>"));
    assert!(
        page.contains("48 validation images"),
        "the validation part is judged"
    );

    env.succeed(&[
        "evaluate",
        "data",
        "--model",
        "out/model.onnx",
        "--part",
        "validation",
        "--metrics",
        "metrics.json",
        "--report",
        "report.html",
        "--plots",
        "plots",
    ]);
    let page = env.read("report.html");
    check_page(&page);
    assert!(!page.contains(">Learning curves</h2>"));

    let (trained, evaluated) = (
        json(&env.read("out/metrics.json")),
        json(&env.read("metrics.json")),
    );
    assert_eq!(keys(&trained), keys(&evaluated));
    for figure in [
        "images",
        "accuracy",
        "confusion_matrix",
        "classes",
        "top_k",
        "model",
        "weighted_f1",
    ] {
        assert_eq!(
            trained[figure].get("sha256").unwrap_or(&trained[figure]),
            evaluated[figure]
                .get("sha256")
                .unwrap_or(&evaluated[figure]),
            "{figure}"
        );
    }
    assert_eq!(trained["images"], 48);
    assert_eq!(trained["data"]["parts"], serde_json::json!(["validation"]));
    let error = |metrics: &Value| {
        metrics["calibration"]["expected_calibration_error"]
            .as_f64()
            .unwrap()
    };
    assert!((error(&trained) - error(&evaluated)).abs() < 1e-4);

    let shared = [
        "confusion-counts",
        "confusion-shares",
        "reliability",
        "confidence",
        "coverage-precision",
    ];
    for name in shared {
        for folder in ["plots", "out/plots"] {
            let svg = env.read(&format!("{folder}/{name}.svg"));
            check_well_formed(&svg);
            let png = image::open(env.path(&format!("{folder}/{name}.png"))).unwrap();
            assert!(png.width() > 300 && png.height() > 300, "{name}");
        }
    }
    for name in ["loss", "accuracy", "learning-rate"] {
        assert!(
            env.path(&format!("out/plots/{name}.png")).is_file(),
            "{name}"
        );
        assert!(!env.path(&format!("plots/{name}.png")).exists(), "{name}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_known_before_the_work() {
    let env = TestEnv::new();
    write_parts(&env);
    let failed = env.run(&["evaluate", "data", "--report", "nowhere/report.html"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("nowhere"), "{}", failed.stderr);
    let failed = env.run(&["evaluate", "data", "--report", "same", "--metrics", "same"]);
    assert!(
        failed
            .stderr
            .contains("two results cannot have the same file"),
        "{}",
        failed.stderr
    );
}
