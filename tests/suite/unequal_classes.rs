//! Classes of unequal size: what weights and sampling do for the small one.

use std::fs;

use image::{GrayImage, Luma};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Random;

use crate::testenv::TestEnv;

/// Images of one level each. Those of `rare` are brighter, but the levels of the two classes overlap from 85 to 150: there the
/// larger class takes what it can.
fn write_levels(env: &TestEnv, part: &str, common: u64, rare: u64) {
    for (class, count, levels) in [("common", common, 60..150), ("rare", rare, 85..175)] {
        let folder = env.path(&format!("levels/{part}/{class}"));
        fs::create_dir_all(&folder).unwrap();
        for index in 0..count {
            let mut random = Random::seed_from_u64(
                index * 2 + u64::from(class == "rare") + 1000 * part.len() as u64,
            );
            let level: u8 = random.random_range(levels.clone());
            GrayImage::from_fn(8, 8, |_, _| Luma([level + random.random_range(0..8)]))
                .save(folder.join(format!("{index:03}.png")))
                .unwrap();
        }
    }
}

fn train(env: &TestEnv, name: &str, options: &[&str]) -> (String, f64) {
    let common = [
        "train",
        "levels",
        "--out",
        name,
        "--network",
        "seed",
        "--filters",
        "4",
        "--dense-units",
        "8",
        "--dropout",
        "0",
        "--no-augment",
        "--optimizer",
        "adamw",
        "--learning-rate",
        "0.02",
        "--batch-size",
        "20",
        "--epochs",
        "12",
        "--seed",
        "1",
    ];
    let said = env.succeed(&[&common, options].concat()).stderr;
    let (model, metrics) = (format!("{name}/model.onnx"), format!("{name}.json"));
    env.succeed(&[
        "evaluate",
        "levels",
        "--model",
        &model,
        "--metrics",
        &metrics,
    ]);
    let metrics: serde_json::Value = serde_json::from_str(&env.read(&metrics)).unwrap();
    let class = metrics["classes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|class| class["name"] == "rare")
        .unwrap();
    (said, class["recall"].as_f64().unwrap())
}

#[test]
fn weights_and_sampling_find_more_of_a_small_class() {
    let env = TestEnv::new();
    write_levels(&env, "train", 380, 20);
    write_levels(&env, "validation", 40, 40);
    write_levels(&env, "test", 100, 100);

    let (said, untreated) = train(&env, "untreated", &[]);
    assert!(
        said.contains("classes are very unequal: \"common\" has 380 training images, \"rare\" 20"),
        "{said}"
    );
    assert!(
        said.contains("class \"rare\": 20 images, weight 1.000, 5.0 % of the draws"),
        "{said}"
    );

    for (name, options, line) in [
        (
            "inverse",
            &["--class-weights", "inverse"][..],
            "weight 10.000, 5.0 %",
        ),
        (
            "effective",
            &[
                "--class-weights",
                "effective",
                "--class-weights-beta",
                "0.9999",
            ],
            "5.0 %",
        ),
        // Of which leaving out easy images would make something else.
        (
            "balanced",
            &["--sampling", "balanced"],
            "weight 1.000, 50.0 %",
        ),
    ] {
        let (said, recall) = train(&env, name, options);
        assert!(!said.contains("very unequal"), "{said}");
        assert!(said.contains(line), "{said}");
        assert_eq!(
            said.contains("no easy images are left out"),
            name == "balanced",
            "{said}"
        );
        assert!(
            recall >= untreated + 0.1,
            "{name}: recall {recall}, untreated {untreated}"
        );
        let stored: serde_json::Value =
            serde_json::from_str(&env.read(&format!("{name}/options.json"))).unwrap();
        assert!(stored["balance"].is_object());
    }
}
