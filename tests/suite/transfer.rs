//! Training on top of a backbone, with weights drawn at random in place of pretrained ones.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use catalog::artifacts::initial_values;
use catalog::audit::opinions;
use catalog::backbone::{Classifier, Pretrained, Weights};
use catalog::dataset::split::folds;
use catalog::dataset::{Dataset, PixelStore, Split};
use catalog::network::{Architecture, EfficientnetOptions, Network, NormMode, Task, build};
use catalog::training::export::export;
use catalog::training::formulation::FormulationChoice;
use catalog::training::options::TrainOptions;
use catalog::training::run::{Trained, train};
use catalog::training::schedule::Schedule;
use catalog::training::start::Start;
use catalog::training::transfer::{
    BackboneModel, TrainedUnits, Transfer, TransferOptions, out_of_fold,
};
use pipeline::preprocess::{Colour, Preprocess};

use crate::runtime;

const SIDE: usize = 40;
const CLASSES: usize = 3;

/// Images of one colour each, with a pattern on it that differs from image to image.
fn split(count: usize) -> Split {
    let pixel = |image: usize, place: usize, channel: usize| {
        let base = if channel == image % CLASSES { 180 } else { 60 };
        (base + (image * 7 + place * 13 + place / SIDE * 5) % 50) as u8
    };
    Split {
        pixels: PixelStore::in_memory(
            (0..count)
                .flat_map(|image| (0..SIDE * SIDE).map(move |place| (image, place)))
                .flat_map(|(image, place)| (0..3).map(move |channel| pixel(image, place, channel)))
                .collect(),
            SIDE * SIDE * 3,
        ),
        labels: (0..count).map(|image| (image % CLASSES) as u32).collect(),
        sources: (0..count).map(|image| format!("image {image}")).collect(),
    }
}

fn dataset() -> Dataset {
    Dataset {
        name: "colours".to_owned(),
        classes: ["red", "green", "blue"].map(str::to_owned).to_vec(),
        preprocess: Preprocess::stretch(SIDE as u32, SIDE as u32, Colour::Rgb),
        train: split(24),
        validation: Some(split(9)),
        test: None,
        skipped: vec![],
        fingerprint: "colours".to_owned(),
    }
}

fn architecture() -> Architecture {
    Architecture::EfficientnetLite(EfficientnetOptions::default())
}

fn whole_network() -> Network {
    let task = Task {
        height: SIDE,
        width: SIDE,
        channels: 3,
        classes: CLASSES,
        mean: vec![127.0; 3],
        deviation: vec![128.0; 3],
    };
    build(&architecture(), &task).unwrap()
}

/// What a backbone starts as, as if it had learnt it.
fn pretrained() -> Pretrained {
    let graph = whole_network().graph;
    let names = graph.parameters().map(|(_, value, _)| value.name.clone());
    let weights = |values: Vec<f32>| Weights {
        shape: vec![values.len()],
        values,
    };
    Pretrained {
        parameters: names
            .zip(initial_values(&graph, 5).into_iter().map(weights))
            .filter(|(name, _)| name.starts_with("backbone."))
            .collect(),
        classifier: Classifier {
            weight: weights(vec![]),
            bias: weights(vec![]),
        },
        mean: [127.0; 3],
        deviation: [128.0; 3],
    }
}

fn options(trained: TrainedUnits) -> TrainOptions {
    TrainOptions {
        architecture: architecture(),
        transfer: Some(TransferOptions {
            trained,
            variants: 2,
            ..TransferOptions::default()
        }),
        epochs: 2,
        batch_size: 8,
        schedule: Schedule::one_cycle(0.02),
        formulation: FormulationChoice::Portable,
        ..TrainOptions::default()
    }
}

fn trained(options: &TrainOptions, features: &Path) -> Trained {
    let pretrained = pretrained();
    let transfer = Transfer {
        backbone: BackboneModel::Pretrained(&pretrained),
        features,
    };
    train(
        &dataset(),
        options,
        Start::Backbone(transfer),
        &runtime::training().environment,
        None,
        &AtomicBool::new(false),
        &mut |_| {},
    )
    .unwrap()
}

fn model(options: &TrainOptions, trained: &Trained) -> Vec<u8> {
    let runtime = runtime::training();
    let exported = export(
        &dataset(),
        options,
        trained,
        &runtime.environment,
        &runtime.version,
    );
    exported.unwrap().bytes
}

/// Names of the parameters that are no longer what they started as.
fn changed(trained: &Trained) -> Vec<String> {
    let pretrained = pretrained();
    let graph = whole_network().graph;
    let values = graph.parameters().zip(&trained.parameters);
    values
        .filter(|((_, value, _), data)| {
            let before = pretrained.parameters.get(&value.name);
            before.is_some_and(|before| before.values != **data)
        })
        .map(|((_, value, _), _)| value.name.clone())
        .collect()
}

#[test]
fn only_what_shall_learn_changes_and_the_export_is_the_whole_network() {
    let folder = tempfile::tempdir().unwrap();
    for (units, norm, allowed) in [
        (TrainedUnits::Last(0), NormMode::Running, &[][..]),
        (
            TrainedUnits::Last(1),
            NormMode::Running,
            &["backbone.top."][..],
        ),
        (
            TrainedUnits::Last(2),
            NormMode::Running,
            &["backbone.top.", "backbone.block15."][..],
        ),
        (
            TrainedUnits::Last(2),
            NormMode::Batch,
            &["backbone.top.", "backbone.block15."][..],
        ),
        (TrainedUnits::All, NormMode::Running, &["backbone."][..]),
        (TrainedUnits::All, NormMode::Batch, &["backbone."][..]),
    ] {
        let mut options = options(units);
        if let Some(transfer) = &mut options.transfer {
            transfer.norm = norm;
        }
        let trained = trained(&options, folder.path());
        // Compares its logits with the training session's.
        model(&options, &trained);
        let changed = changed(&trained);
        assert_eq!(changed.is_empty(), allowed.is_empty(), "{units:?}");
        for name in &changed {
            let is_allowed = allowed.iter().any(|prefix| name.starts_with(prefix));
            assert!(is_allowed, "{units:?} changed {name}");
        }
        let is_statistic = |name: &String| name.ends_with(".mean") || name.ends_with(".variance");
        let has_moved = changed.iter().any(is_statistic);
        assert_eq!(has_moved, norm == NormMode::Batch, "{units:?}");
    }
}

#[test]
fn features_that_are_there_give_the_same_model_as_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions {
        mirror_averaging: true,
        ..options(TrainedUnits::Last(0))
    };
    let first = model(&options, &trained(&options, folder.path()));
    let files = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    assert_eq!(before.len(), 2, "training and validation images");
    let again = model(&options, &trained(&options, folder.path()));
    assert_eq!(first, again);
    assert_eq!(files(), before);
}

#[test]
fn folds_judge_every_image_and_export_the_mean_of_what_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(TrainedUnits::Last(0));
    options.transfer = Some(TransferOptions {
        folds: Some(3),
        variants: 1,
        ..TransferOptions::default()
    });
    for mirror_averaging in [false, true] {
        options.mirror_averaging = mirror_averaging;
        let trained = trained(&options, folder.path());
        // Compares its logits with those of the mean layer.
        model(&options, &trained);
        assert!(changed(&trained).is_empty());
        let held_out = &trained.held_out;
        assert_eq!(held_out.logits.dim(), (24, CLASSES));
        assert_eq!(held_out.unseen_logits().dim(), (24, CLASSES));
        assert_ne!(held_out.unseen_logits(), &held_out.logits);
        assert_eq!(trained.history.epochs.len(), options.epochs);
        assert_eq!(trained.summary.best_epoch, options.epochs);
        let shown = trained.history.epochs.last().unwrap().validation_accuracy;
        // The folds have eight images each, so the mean of their accuracies is that of all images.
        if !mirror_averaging {
            assert!((shown - trained.summary.best_accuracy).abs() < 1e-9);
        }
    }
    let few = TransferOptions {
        folds: Some(1),
        ..TransferOptions::default()
    };
    assert!(few.validate().is_err());
    let whole = TransferOptions {
        folds: Some(5),
        trained: TrainedUnits::All,
        ..TransferOptions::default()
    };
    let message = whole.validate().unwrap_err().to_string();
    assert!(message.contains("--freeze all"), "{message}");
}

#[test]
fn an_image_is_judged_by_what_did_not_learn_from_it() {
    let features = tempfile::tempdir().unwrap();
    let pretrained = pretrained();
    let options = TrainOptions {
        epochs: 15,
        ..options(TrainedUnits::Last(0))
    };
    let mut dataset = dataset().as_one_part().unwrap();
    let folds = folds(&dataset.train.labels, &[], 3, 1);
    let mut judged = |label: u32| {
        dataset.train.labels[4] = label;
        let probabilities = out_of_fold(
            &dataset,
            &folds,
            &options,
            Transfer {
                backbone: BackboneModel::Pretrained(&pretrained),
                features: features.path(),
            },
            &runtime::training().environment,
            &AtomicBool::new(false),
            &mut |_| (),
        )
        .unwrap();
        let opinions = opinions(&probabilities, &dataset.train.labels);
        (probabilities, opinions)
    };
    let (right, _) = judged(1);
    let (wrong, opinions) = judged(2);
    assert_eq!(right.row(4), wrong.row(4));
    assert_ne!(right, wrong);
    let least = (0..opinions.len())
        .min_by(|&a, &b| {
            let probability = |place: usize| opinions[place].label_probability;
            probability(a).total_cmp(&probability(b))
        })
        .unwrap();
    assert_eq!(least, 4);
    assert_eq!(opinions[4].other, Some(1));
}
