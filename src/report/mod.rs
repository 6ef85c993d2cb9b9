//! Reports for people: one HTML file that needs nothing else, and its plots as files.
//!
//! [`Report`] is what training and evaluation write, [`diff::DiffReport`] the comparison of two files of labels. Another report is a [`page::Page`] with sections of its own, made with
//! [`chart::Chart`] and the templates of `maud`, which escape every name. No report has a script, loads anything or links to a
//! file; nothing here runs a model or reads data, and the same figures give the same bytes, but for the times that are told.

mod acceptance;
pub mod audit;
pub mod axis;
pub mod chart;
pub mod confidence;
mod confusion;
pub mod curves;
mod data_sheet;
pub mod diff;
pub mod environment;
pub mod figure;
mod mistakes;
pub mod page;
mod raster;
mod record;
mod summary;
pub mod text;
mod thumbnail;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use maud::{Markup, html};
use pipeline::model::Calibration;
use serde_json::Value;

use crate::dataset::Dataset;
use crate::evaluation::Judgement;
use crate::training::history::History;

use confidence::{Confidence, gallery};
use figure::Figure;
use page::{Page, Section, facts, name};

pub use data_sheet::DataSheet;
pub use record::Metrics;
pub use thumbnail::photo_uri;

/// Everything a report on a model tells.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// What kind of report it is: `Training report`.
    pub kind: &'a str,
    /// One sentence under the title.
    pub subtitle: String,
    /// The part that was judged: `validation`.
    pub part: &'a str,
    /// Class names in the model's order.
    pub labels: &'a [String],
    /// The images that were judged, and no others.
    pub dataset: &'a Dataset,
    /// What the model said about them.
    pub judgement: &'a Judgement,
    /// What the model file says about its confidences and thresholds.
    pub calibration: Option<&'a Calibration>,
    /// The epochs of the training, where this is its report.
    pub history: Option<&'a History>,
    /// What else the reader should know, a sentence each.
    pub remarks: Vec<String>,
    /// The data set as a whole.
    pub data: &'a DataSheet,
    /// The options of the training; null where they are not known.
    pub options: Value,
    /// What it ran on: names and values.
    pub environment: Vec<(&'static str, String)>,
    /// The last line, with version and time.
    pub footer: String,
}

impl Report<'_> {
    /// The report as one HTML file.
    pub fn html(&self) -> String {
        let evaluation = &self.judgement.evaluation;
        let confidence = self.confidence();
        let section = |id, title: &str, body| Section {
            id,
            title: title.to_owned(),
            body,
        };
        Page {
            kind: self.kind.to_owned(),
            title: self.dataset.name.clone(),
            subtitle: self.subtitle.clone(),
            sections: vec![
                section(
                    "summary",
                    "Summary",
                    summary::section(
                        evaluation,
                        self.labels,
                        self.part,
                        confidence.expected_calibration_error,
                        &self.remarks,
                    ),
                ),
                section("learning-curves", "Learning curves", self.curves()),
                section(
                    "confusion",
                    "Confusion matrix",
                    confusion::section(&evaluation.confusion_matrix, self.labels),
                ),
                section("classes", "Classes", summary::class_table(evaluation)),
                section(
                    "confidence",
                    "Confidence",
                    html! {
                        (confidence.section())
                        (acceptance::section(self.calibration, self.labels, &self.judgement.answers()))
                    },
                ),
                section(
                    "mistakes",
                    "Most confident mistakes",
                    mistakes::section(
                        &mistakes::surest(self.dataset, &self.judgement.verdicts),
                        self.labels,
                    ),
                ),
                section("data", "Data", self.data.section()),
                section("options", "Options", self.options()),
                section(
                    "environment",
                    "Environment",
                    facts(
                        self.environment
                            .iter()
                            .map(|(label, value)| (*label, name(value))),
                    ),
                ),
            ],
            footer: self.footer.clone(),
        }
        .html()
    }

    /// The plots of the report, and the confusion matrix as drawings.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = self.history.map(curves::curves).unwrap_or_default();
        figures.extend(confusion::figures(
            &self.judgement.evaluation.confusion_matrix,
            self.labels,
        ));
        figures.extend(self.confidence().figures());
        figures
    }

    fn confidence(&self) -> Confidence {
        let answers = self.judgement.answers();
        Confidence::of(&answers.confidences, &answers.correct)
    }

    fn curves(&self) -> Markup {
        html! {
            @if let Some(history) = self.history.filter(|history| !history.epochs.is_empty()) {
                (gallery(&curves::curves(history)))
                p { "Augmentation, dropout and label smoothing make the training loss higher than it would be on plain images: it may lie above that of the validation." }
                (curves::epoch_table(history))
            }
        }
    }

    fn options(&self) -> Markup {
        let options = match &self.options {
            Value::Null => Vec::new(),
            options => text::leaves(options),
        };
        html! {
            @if !options.is_empty() {
                (facts(options.iter().map(|(path, value)| (path.as_str(), name(value)))))
            }
        }
    }
}

/// Writes each figure as `NAME.svg` and `NAME.png` into a folder, which is made where it is not there.
///
/// # Errors
/// When the folder or a file cannot be written; the error names it.
pub fn save_figures(figures: &[Figure], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    figures.iter().try_for_each(|figure| figure.save(folder))
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::{Colour, Preprocess};

    use super::*;
    use crate::dataset::PixelStore;
    use crate::dataset::Split;
    use crate::evaluation::Verdict;
    use crate::metrics::thresholds::calibration;
    use crate::metrics::{Evaluation, Scores};

    /// A report on three images of two classes, one of them taken for the other.
    fn html() -> String {
        let labels = ["bag", "<img src=x onerror=alert(1)>"].map(str::to_owned);
        let rows: [(&[f32], u32); 3] = [(&[0.9, 0.1], 0), (&[0.75, 0.25], 1), (&[0.25, 0.75], 1)];
        let answers = [(0, 0.9), (0, 0.75), (1, 0.75)];
        let judgement = Judgement {
            evaluation: Evaluation::from_rows(&labels, Scores::Probabilities, &[1], rows).unwrap(),
            verdicts: rows
                .iter()
                .zip(answers)
                .enumerate()
                .map(|(index, ((_, label), answer))| Verdict {
                    source: format!("\"><b>{index}"),
                    label: *label,
                    answer: Some(answer),
                })
                .collect(),
            without_answer: 0,
        };
        let calibration = calibration(&[2.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2, &[0, 1, 1], 1.0);
        let dataset = Dataset {
            name: "shop".into(),
            classes: labels.to_vec(),
            preprocess: Preprocess::stretch(1, 1, Colour::Grey),
            train: Split::default(),
            validation: Some(Split {
                pixels: PixelStore::in_memory(vec![0, 100, 200], 1),
                labels: vec![0, 1, 1],
                sources: vec![String::new(); 3],
            }),
            test: None,
            skipped: Vec::new(),
            fingerprint: "ab12".into(),
        };
        Report {
            kind: "Training report",
            subtitle: "On three images.".into(),
            part: "validation",
            labels: &labels,
            dataset: &dataset,
            judgement: &judgement,
            calibration: Some(&calibration),
            history: None,
            remarks: vec!["Mind <this>.".into()],
            data: &DataSheet::of(&dataset),
            options: serde_json::json!({"seed": 1, "note": "<i>"}),
            environment: vec![("system", "a & b".into())],
            footer: "Written today.".into(),
        }
        .html()
    }

    /// Level and text of each heading, and the names of what is below it.
    fn outline(html: &str) -> String {
        let mut lines = Vec::new();
        for piece in html.split('<') {
            let Some((tag, text)) = piece.split_once('>') else {
                continue;
            };
            let element = tag.split_whitespace().next().unwrap_or_default();
            match element {
                "h2" | "h3" => lines.push(format!("{element} {text}")),
                "caption" => lines.push(format!("   table {text}")),
                "title" if tag.contains("id=") => lines.push(format!("   plot {text}")),
                _ => {}
            }
        }
        lines.join("\n")
    }

    #[test]
    fn headings_tables_and_plots_are_in_order() {
        insta::assert_snapshot!(outline(&html()), @r"
        h2 Summary
        h2 Confusion matrix
           table Confusion matrix: rows are the truth, columns what the model said
        h3 Most frequent mistakes
           table Most frequent mistakes
        h2 Classes
           table Figures of each class
        h2 Confidence
           plot Reliability
           plot How sure the model is
           plot Coverage and precision
           table Figures of the reliability diagram
        h3 What thresholds would accept
           table What thresholds on the confidence would accept
           table Thresholds of each class for a precision of 99 %
        h2 Most confident mistakes
        h2 Data
           table Images of each class
        h2 Options
        h2 Environment
        ");
    }

    #[test]
    fn nothing_from_the_data_becomes_html() {
        let html = html();
        for hostile in ["<img src=x", "<b>", "<this>", "<i>"] {
            assert!(!html.contains(hostile), "{hostile}");
        }
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"));
        assert_eq!(html, self::html(), "the same figures give the same bytes");
    }
}
