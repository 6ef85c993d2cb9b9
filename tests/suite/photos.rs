//! Shop photos, drawn here: what the default model makes of them.

use std::fs;

use image::{Rgb, RgbImage, Rgba, RgbaImage};

use crate::testenv::{QUICK, TestEnv, write_halves};

/// Corners of a figure on a canvas of 100×100, in order.
type Figure = &'static [(f32, f32)];

const T_SHIRT: Figure = &[
    (38.0, 16.0),
    (46.0, 20.0),
    (54.0, 20.0),
    (62.0, 16.0),
    (86.0, 26.0),
    (80.0, 46.0),
    (70.0, 42.0),
    (70.0, 84.0),
    (30.0, 84.0),
    (30.0, 42.0),
    (20.0, 46.0),
    (14.0, 26.0),
];
const TROUSER: Figure = &[
    (36.0, 8.0),
    (64.0, 8.0),
    (68.0, 92.0),
    (56.0, 92.0),
    (50.0, 34.0),
    (44.0, 92.0),
    (32.0, 92.0),
];
const SHOE: Figure = &[
    (10.0, 40.0),
    (22.0, 46.0),
    (34.0, 40.0),
    (58.0, 52.0),
    (84.0, 58.0),
    (90.0, 66.0),
    (90.0, 72.0),
    (10.0, 72.0),
];
const BAG_BODY: Figure = &[(16.0, 44.0), (84.0, 44.0), (84.0, 86.0), (16.0, 86.0)];
const BAG_HANDLE: Figure = &[
    (34.0, 44.0),
    (34.0, 26.0),
    (66.0, 26.0),
    (66.0, 44.0),
    (61.0, 44.0),
    (61.0, 31.0),
    (39.0, 31.0),
    (39.0, 44.0),
];

const DRAWN: [(&str, &[Figure], &[&str]); 4] = [
    ("t-shirt", &[T_SHIRT], &["T-shirt/top"]),
    ("trouser", &[TROUSER], &["Trouser"]),
    ("shoe", &[SHOE], &["Sneaker", "Ankle boot", "Sandal"]),
    ("bag", &[BAG_BODY, BAG_HANDLE], &["Bag"]),
];

/// Whether a point is inside a figure, by the number of sides to its right.
fn is_inside(figure: Figure, x: f32, y: f32) -> bool {
    let next = figure.iter().cycle().skip(1);
    let crossed = figure.iter().zip(next).filter(|((x1, y1), (x2, y2))| {
        (*y1 > y) != (*y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
    });
    crossed.count() % 2 == 1
}

fn is_object(figures: &[Figure], x: u32, y: u32, (width, height): (u32, u32)) -> bool {
    // The figure keeps its proportions in the middle of the photo.
    let scale = 100.0 / width.min(height) as f32;
    let (x, y) = (
        (x as f32 + 0.5 - width as f32 / 2.0) * scale + 50.0,
        (y as f32 + 0.5 - height as f32 / 2.0) * scale + 50.0,
    );
    figures.iter().any(|figure| is_inside(figure, x, y))
}

#[test]
fn drawn_shop_photos_are_told_apart() {
    let env = TestEnv::new();
    fs::create_dir(env.path("photos")).unwrap();
    for (name, figures, _) in DRAWN {
        for (kind, size, ground, object) in [
            ("navy", (400, 533), [255, 255, 255], [30, 40, 90]),
            ("red", (640, 480), [244, 243, 240], [170, 30, 40]),
            ("on-black", (300, 300), [0, 0, 0], [200, 200, 210]),
        ] {
            let photo = RgbImage::from_fn(size.0, size.1, |x, y| {
                Rgb(match is_object(figures, x, y, size) {
                    true => object,
                    false => ground,
                })
            });
            for end in ["png", "jpg"] {
                photo
                    .save(env.path(&format!("photos/{name}_{kind}.{end}")))
                    .unwrap();
            }
        }
        let cut_out = RgbaImage::from_fn(500, 500, |x, y| {
            let alpha = if is_object(figures, x, y, (500, 500)) {
                255
            } else {
                0
            };
            Rgba([40, 80, 60, alpha])
        });
        cut_out
            .save(env.path(&format!("photos/{name}_cutout.png")))
            .unwrap();
    }
    env.succeed(&["classify", "photos", "--out", "labels.csv"]);
    let mut reader = csv::Reader::from_path(env.path("labels.csv")).unwrap();
    let mut wrong = Vec::new();
    let mut images = 0;
    for row in reader.records() {
        let row = row.unwrap();
        let Some((_, _, expected)) = DRAWN
            .iter()
            .find(|(name, _, _)| row[0].contains(&format!("/{name}_")))
        else {
            continue;
        };
        images += 1;
        if !expected.contains(&&row[1]) {
            wrong.push(row);
        }
    }
    assert_eq!(images, 28);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_model_of_photos_on_a_plain_background_keeps_that_contract() {
    let env = TestEnv::new();
    write_halves(&env.path("halves"), 10);
    env.succeed(
        &[
            &[
                "train",
                "halves",
                "--out",
                "model",
                "--epochs",
                "1",
                "--plain-background",
                "--size",
                "16",
            ],
            QUICK,
        ]
        .concat(),
    );
    let inspected = env.succeed(&["inspect", "model/model.onnx"]).stdout;
    let words = inspected.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("fit pad")
            && words.contains("; photos trimmed within 5 % of the corner's colour, ground own"),
        "{inspected}"
    );
    env.succeed(&["evaluate", "halves", "--model", "model/model.onnx"]);
}
