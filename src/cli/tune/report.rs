//! The report of a search and its plots.

use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use maud::html;
use pipeline::atomic_file;

use crate::dataset::Dataset;
use crate::report::environment::{moment, processor, system};
use crate::report::page::{Page, Section, facts, name};
use crate::report::text::grouped;
use crate::report::{DataSheet, save_figures};
use crate::runtime::Runtime;
use crate::tune::figures;
use crate::tune::report::sections;
use crate::tune::run::Searched;
use crate::tune::settings::Settings;

/// Writes `report.html` and `plots/`.
pub(super) fn write(
    folder: &Path,
    dataset: &Dataset,
    settings: &Settings,
    searched: &Searched,
    runtime: &Runtime,
) -> Result<()> {
    let environment = [
        ("catalog", env!("CARGO_PKG_VERSION").to_owned()),
        ("ONNX Runtime", runtime.version.clone()),
        ("seed", settings.base.seed.to_string()),
        ("processor", processor()),
        ("system", system()),
    ];
    let more = [
        Section {
            id: "data",
            title: "Data".to_owned(),
            body: DataSheet::of(dataset).section(),
        },
        Section {
            id: "environment",
            title: "Environment".to_owned(),
            body: html! {
                (facts(environment.iter().map(|(label, value)| (*label, name(value)))))
            },
        },
    ];
    let page = Page {
        kind: "Tuning report".to_owned(),
        title: dataset.name.clone(),
        subtitle: format!(
            "What a search found, trained on {} images and judged on {} validation images.",
            grouped(dataset.train.len() as u64),
            grouped(dataset.validation.as_ref().map_or(0, |part| part.len()) as u64)
        ),
        sections: sections(searched).into_iter().chain(more).collect(),
        footer: format!(
            "Written by catalog {} on {}.",
            env!("CARGO_PKG_VERSION"),
            moment(SystemTime::now())
        ),
    };
    let mut figures = figures::course(&searched.records);
    figures.extend(figures::hyper_parameters(&searched.records));
    save_figures(&figures, &folder.join("plots"))?;
    atomic_file::write(&folder.join("report.html"), |file| {
        Ok(file.write_all(page.html().as_bytes())?)
    })
}
