//! What a search leaves behind: the table of trials and the best options.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use pipeline::atomic_file;
use serde::{Deserialize, Serialize};

use crate::artifacts::Optimizer;
use crate::network::Architecture;
use crate::training::options::TrainOptions;
use crate::training::schedule::Schedule;

use super::scheduler::{Outcome, Score};

/// Name of the table of trials.
pub const TABLE: &str = "trials.csv";
/// Name of the options file.
pub const BEST: &str = "best.json";

/// One training of one configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Number of the configuration, from 0.
    pub trial: usize,
    /// Number of the rung, from 0 for the shortest training.
    pub rung: usize,
    /// Number of the point in the sequence; `None` for a network's defaults.
    pub point: Option<u64>,
    /// How it ended.
    pub status: Status,
    /// Epochs of this training; `options` has those of the full one.
    pub epochs: usize,
    /// Best validation accuracy; `None` where no epoch was validated.
    pub validation_accuracy: Option<f64>,
    /// Validation loss of that epoch.
    pub validation_loss: Option<f64>,
    /// That epoch, from 1.
    pub best_epoch: Option<usize>,
    /// Trained numbers of the network.
    pub parameters: usize,
    /// Operations of the network for an image.
    pub flops: usize,
    /// Seconds of this training.
    pub seconds: f64,
    /// Seconds of an epoch of this training on average, validation included; the rest is set-up.
    pub seconds_per_epoch: f64,
    /// Seconds of the whole search, up to the end of this training.
    pub elapsed_seconds: f64,
    /// What went wrong, if anything did.
    pub message: String,
    /// Options of the full training.
    pub options: TrainOptions,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// After its last epoch.
    Ok,
    /// The loss was no number any more.
    Diverged,
    /// It took much longer than was to be expected, and was stopped.
    TooSlow,
    /// With an error.
    Failed,
}

impl Status {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Diverged => "diverged",
            Self::TooSlow => "too-slow",
            Self::Failed => "failed",
        }
    }
}

impl Record {
    /// What the scheduler has to know. Only a training that went through its whole schedule has a score.
    pub fn outcome(&self) -> Outcome {
        let score = match (self.status, self.validation_accuracy, self.validation_loss) {
            (Status::Ok, Some(accuracy), Some(loss)) => Some(Score::new(accuracy, loss)),
            _ => None,
        };
        Outcome {
            trial: self.trial,
            rung: self.rung,
            score,
        }
    }

    /// Every hyper-parameter with its value, as words; empty where the network does not have it.
    pub fn hyper_parameters(&self) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let list = |values: &[usize]| {
            let words: Vec<String> = values.iter().map(usize::to_string).collect();
            words.join(" ")
        };
        let none = String::new;
        let [network, filters, dense_units, blocks, batch_norm, dropout] =
            match &options.architecture {
                Architecture::Seed(seed) => [
                    "seed".to_owned(),
                    list(&seed.filters),
                    list(&seed.dense_units),
                    none(),
                    seed.batch_norm.to_string(),
                    seed.dropout.to_string(),
                ],
                Architecture::Resnet(resnet) => [
                    "resnet".to_owned(),
                    list(&[&[resnet.stem], resnet.widths.as_slice()].concat()),
                    none(),
                    resnet.blocks.to_string(),
                    true.to_string(),
                    resnet.dropout.to_string(),
                ],
                Architecture::Vgg(vgg) => [
                    "vgg".to_owned(),
                    list(&vgg.stages.concat()),
                    none(),
                    none(),
                    vgg.batch_norm.to_string(),
                    vgg.dropout.to_string(),
                ],
                Architecture::EfficientnetLite(efficientnet) => [
                    efficientnet.variant.to_string(),
                    none(),
                    none(),
                    none(),
                    true.to_string(),
                    efficientnet.dropout.to_string(),
                ],
                Architecture::Head(head) => [
                    "head".to_owned(),
                    none(),
                    none(),
                    none(),
                    none(),
                    head.dropout.to_string(),
                ],
            };
        let optimizer = match options.optimizer.optimizer {
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::AdamW { .. } => "adamw",
        };
        let schedule = match options.schedule {
            Schedule::OneCycle { .. } => "one-cycle",
            Schedule::Cosine { .. } => "cosine",
            Schedule::Constant { .. } => "constant",
        };
        vec![
            ("network", network),
            ("filters", filters),
            ("dense_units", dense_units),
            ("blocks", blocks),
            ("batch_norm", batch_norm),
            ("dropout", dropout),
            ("optimizer", optimizer.to_owned()),
            ("learning_rate", options.schedule.peak().to_string()),
            ("weight_decay", options.optimizer.weight_decay.to_string()),
            ("batch_size", options.batch_size.to_string()),
            ("schedule", schedule.to_owned()),
            ("full_epochs", options.epochs.to_string()),
            ("label_smoothing", options.label_smoothing.to_string()),
            ("shift", options.augment.shift_x.to_string()),
            ("erasing", options.augment.erasing.probability.to_string()),
            (
                "horizontal_flip",
                options.augment.horizontal_flip.to_string(),
            ),
        ]
    }
}

/// Writes the table of trials and, once there is one, the file of the best options; each is whole or not there.
///
/// # Errors
/// When a file cannot be written; the error names it.
pub fn save(folder: &Path, records: &[Record], best: Option<&Record>) -> Result<()> {
    atomic_file::write(&folder.join(TABLE), |file| Ok(write_csv(records, file)?))
        .context("the table of trials cannot be saved")?;
    if let Some(best) = best {
        let options = serde_json::to_string_pretty(&best.options)?;
        atomic_file::write(&folder.join(BEST), |file| {
            Ok(file.write_all(options.as_bytes())?)
        })
        .context("the best options cannot be saved")?;
    }
    Ok(())
}

/// A row for each training, in the order in which they were made.
fn write_csv(records: &[Record], writer: impl Write) -> csv::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    for (index, record) in records.iter().enumerate() {
        let hyper_parameters = record.hyper_parameters();
        if index == 0 {
            let names = hyper_parameters.iter().map(|(name, _)| *name);
            csv.write_record(COLUMNS.into_iter().chain(names))?;
        }
        let number =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
        let cells = [
            record.trial.to_string(),
            record.rung.to_string(),
            record.status.name().to_owned(),
            number(record.validation_accuracy),
            number(record.validation_loss),
            record.epochs.to_string(),
            record
                .best_epoch
                .map_or(String::new(), |epoch| epoch.to_string()),
            format!("{:.2}", record.seconds),
            format!("{:.2}", record.elapsed_seconds),
            record.parameters.to_string(),
            record.flops.to_string(),
            record.message.clone(),
        ];
        let values = hyper_parameters.into_iter().map(|(_, value)| value);
        csv.write_record(cells.into_iter().chain(values))?;
    }
    csv.flush()?;
    Ok(())
}

/// The columns before those of the hyper-parameters.
const COLUMNS: [&str; 12] = [
    "trial",
    "rung",
    "status",
    "validation_accuracy",
    "validation_loss",
    "epochs",
    "best_epoch",
    "seconds",
    "elapsed_seconds",
    "parameters",
    "operations",
    "message",
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tune::space::NetworkKind;

    pub(crate) fn record(trial: usize, rung: usize, accuracy: f64) -> Record {
        Record {
            trial,
            rung,
            point: None,
            status: Status::Ok,
            epochs: 1,
            validation_accuracy: Some(accuracy),
            validation_loss: Some(0.25),
            best_epoch: Some(1),
            parameters: 421_642,
            flops: 8_491_776,
            seconds: 6.25,
            seconds_per_epoch: 6.0,
            elapsed_seconds: 6.5 * (trial + 1) as f64,
            message: String::new(),
            options: TrainOptions {
                architecture: NetworkKind::Seed.default_architecture(),
                ..TrainOptions::default()
            },
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_training_failed_ones_too() {
        let failed = Record {
            status: Status::Diverged,
            validation_accuracy: None,
            validation_loss: None,
            best_epoch: None,
            message: "the loss is no number, any more".to_owned(),
            ..record(1, 0, 0.0)
        };
        assert_eq!(failed.outcome().score, None);
        let mut bytes = Vec::new();
        write_csv(&[record(0, 0, 0.875), failed], &mut bytes).unwrap();
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @r#"
        trial,rung,status,validation_accuracy,validation_loss,epochs,best_epoch,seconds,elapsed_seconds,parameters,operations,message,network,filters,dense_units,blocks,batch_norm,dropout,optimizer,learning_rate,weight_decay,batch_size,schedule,full_epochs,label_smoothing,shift,erasing,horizontal_flip
        0,0,ok,0.875000,0.250000,1,1,6.25,6.50,421642,8491776,,seed,32 64,128,,false,0.3,sgd,0.1,0.0005,128,one-cycle,12,0.05,0.035714287,0,0.5
        1,0,diverged,,,1,,6.25,13.00,421642,8491776,"the loss is no number, any more",seed,32 64,128,,false,0.3,sgd,0.1,0.0005,128,one-cycle,12,0.05,0.035714287,0,0.5
        "#);
    }

    #[test]
    fn the_best_options_are_written_as_train_takes_them() {
        let folder = tempfile::tempdir().unwrap();
        let best = record(0, 0, 0.5);
        save(folder.path(), std::slice::from_ref(&best), Some(&best)).unwrap();
        let text = std::fs::read_to_string(folder.path().join(BEST)).unwrap();
        assert_eq!(
            serde_json::from_str::<TrainOptions>(&text).unwrap(),
            best.options
        );
    }

    #[test]
    fn a_training_that_was_cut_short_has_no_score() {
        let slow = Record {
            status: Status::TooSlow,
            ..record(0, 0, 0.9)
        };
        assert_eq!(slow.outcome().score, None);
        assert!(record(0, 0, 0.9).outcome().score.is_some());
    }
}
