//! What `catalog evaluate --report` tells.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use pipeline::model::{Device, ModelFile};

use super::unknown::Told;
use crate::cli::validation_report::options;
use crate::dataset::Dataset;
use crate::evaluation::Judgement;
use crate::report::environment::{moment, processor, system};
use crate::report::{DataSheet, Report, save_figures};
use crate::runtime::Runtime;

/// What an evaluation came to, for its files.
pub(super) struct Written<'a> {
    pub(super) model: &'a ModelFile,
    pub(super) runtime: &'a Runtime,
    pub(super) device: Device,
    pub(super) dataset: &'a Dataset,
    pub(super) judgement: &'a Judgement,
    pub(super) unknown: Option<&'a Told>,
}

impl Written<'_> {
    /// The report as HTML.
    pub(super) fn html(&self) -> String {
        self.report(&DataSheet::of(self.dataset)).html()
    }

    /// Writes the plots of the report as SVG and PNG files.
    pub(super) fn save_plots(&self, folder: &Path) -> Result<()> {
        save_figures(&self.report(&DataSheet::of(self.dataset)).figures(), folder)
    }

    fn report<'a>(&'a self, data: &'a DataSheet) -> Report<'a> {
        let part = match super::parts(self.dataset).as_slice() {
            [(only, _)] => only,
            _ => "whole",
        };
        let metadata = self.model.metadata();
        Report {
            kind: "Evaluation report",
            subtitle: format!(
                "How good {} is on the {part} part of this data.",
                self.model.name()
            ),
            part,
            labels: &metadata.labels,
            dataset: self.dataset,
            judgement: self.judgement,
            calibration: metadata.calibration.as_ref(),
            history: None,
            remarks: self.remarks(),
            data,
            options: options(&metadata.summary),
            environment: vec![
                ("model", self.model.name().to_owned()),
                ("model checksum (SHA-256)", self.model.checksum().to_owned()),
                ("catalog", env!("CARGO_PKG_VERSION").to_owned()),
                ("ONNX Runtime", self.runtime.version.clone()),
                ("device", self.device.to_string()),
                ("processor", processor()),
                ("system", system()),
            ],
            footer: format!(
                "Written by catalog {} on {}.",
                env!("CARGO_PKG_VERSION"),
                moment(SystemTime::now())
            ),
        }
    }

    fn remarks(&self) -> Vec<String> {
        let classes = &self.judgement.evaluation.classes;
        let absent = classes.iter().filter(|class| class.images == 0).count();
        let mut remarks = Vec::new();
        if self.judgement.without_answer > 0 {
            remarks.push(format!(
                "{} images are in no figure: the model gave numbers that are not finite for them.",
                self.judgement.without_answer
            ));
        }
        remarks.extend(self.unknown.and_then(Told::remark));
        if absent > 0 {
            remarks.push(format!(
                "{absent} of the model's {} classes have no image in the data: each counts as 0 in the macro means.",
                classes.len()
            ));
        }
        if !self.dataset.skipped.is_empty() {
            remarks.push(format!(
                "{} files could not be used; see Data.",
                self.dataset.skipped.len()
            ));
        }
        remarks
    }
}
