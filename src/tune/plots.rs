//! Plots of a search as SVG: accuracy by trial, the best so far over time, accuracy by each hyper-parameter.
//!
//! Rungs differ by the shape of their marks as well as by colour, and the colours follow a dark page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use pipeline::atomic_file;

use super::axis::{Axis, ticks};
use super::records::Record;

const PANEL_WIDTH: f64 = 400.0;
const PANEL_HEIGHT: f64 = 260.0;
/// Room for the numbers of the vertical axis, and around the others.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
const HEADER: f64 = 60.0;
/// More values than that are numbers on an axis, not words.
const MOST_WORDS: usize = 6;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600}.page{fill:#fff}\
.axis{stroke:#666;fill:none}.grid{stroke:#ddd}.best{stroke:#222;fill:none;stroke-width:1.5}\
.r0{fill:#8a8a8a}.r1{fill:#0072b2}.r2{fill:#d55e00}\
@media(prefers-color-scheme:dark){text{fill:#eee}.page{fill:#181818}.axis{stroke:#999}.grid{stroke:#3a3a3a}\
.best{stroke:#eee}.r0{fill:#a5a5a5}.r1{fill:#56b4e9}.r2{fill:#e69f00}}";

/// A drawing in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plot {
    /// Name of the file.
    pub file: &'static str,
    /// The whole SVG.
    pub svg: String,
}

/// Draws all plots; none before a training has an accuracy.
pub fn draw(records: &[Record]) -> Vec<Plot> {
    let scored: Vec<&Record> = records
        .iter()
        .filter(|record| record.outcome().score.is_some())
        .collect();
    if scored.is_empty() {
        return vec![];
    }
    let by_trial = panel(&scored, "trial", |record| record.trial.to_string());
    let over_time = Panel {
        title: "minutes of search".to_owned(),
        axis: Axis::of(&scored.iter().map(|r| minutes(r)).collect::<Vec<_>>()),
        points: scored
            .iter()
            .map(|record| Mark::of(record, minutes(record)))
            .collect(),
        has_best_line: true,
    };
    vec![
        Plot {
            file: "accuracy-by-trial.svg",
            svg: svg(
                "Validation accuracy by trial",
                "Every training of every configuration; longer trainings are higher rungs.",
                &[by_trial],
            ),
        },
        Plot {
            file: "best-over-time.svg",
            svg: svg(
                "Validation accuracy over time",
                "Every training at the moment it ended; the line is the best so far.",
                &[over_time],
            ),
        },
        Plot {
            file: "hyper-parameters.svg",
            svg: svg(
                "Validation accuracy by hyper-parameter",
                "One panel for each hyper-parameter that varied.",
                &hyper_parameters(&scored),
            ),
        },
    ]
}

/// Writes all plots into `folder`.
///
/// # Errors
/// When one cannot be written; the error names it.
pub fn save(folder: &Path, records: &[Record]) -> Result<()> {
    for plot in draw(records) {
        atomic_file::write(&folder.join(plot.file), |file| {
            Ok(file.write_all(plot.svg.as_bytes())?)
        })
        .context("a plot cannot be saved")?;
    }
    Ok(())
}

fn minutes(record: &Record) -> f64 {
    record.elapsed_seconds / 60.0
}

/// A panel for each hyper-parameter with more than one value. Lists of layers are shown by their number and their sum.
fn hyper_parameters(scored: &[&Record]) -> Vec<Panel> {
    let Some(first) = scored.first() else {
        return vec![];
    };
    let names: Vec<&str> = first
        .hyper_parameters()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let value = |record: &Record, index: usize| {
        let values = record.hyper_parameters();
        values
            .get(index)
            .map_or(String::new(), |(_, value)| value.clone())
    };
    let mut panels = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        if matches!(name, "filters" | "dense_units") {
            let numbers = move |record: &Record| -> Vec<usize> {
                let text = value(record, index);
                text.split(' ')
                    .filter_map(|word| word.parse().ok())
                    .collect()
            };
            panels.push(panel(scored, &format!("{name}: layers"), |record| {
                numbers(record).len().to_string()
            }));
            panels.push(panel(scored, &format!("{name}: all together"), |record| {
                numbers(record).iter().sum::<usize>().to_string()
            }));
        } else {
            panels.push(panel(scored, name, |record| value(record, index)));
        }
    }
    panels.push(panel(scored, "million operations an image", |record| {
        format!("{:.1}", record.flops as f64 / 1e6)
    }));
    panels.retain(|panel| !panel.axis.is_constant());
    panels
}

/// A panel of one value of each record.
fn panel(scored: &[&Record], title: &str, value: impl Fn(&Record) -> String) -> Panel {
    let words: Vec<String> = scored
        .iter()
        .map(|record| match value(record) {
            empty if empty.is_empty() => "none".to_owned(),
            word => word,
        })
        .collect();
    let numbers: Option<Vec<f64>> = words.iter().map(|word| word.parse().ok()).collect();
    let distinct: BTreeSet<&String> = words.iter().collect();
    let (axis, places) = match numbers {
        Some(numbers) if distinct.len() > MOST_WORDS || title == "trial" => {
            (Axis::of(&numbers), numbers)
        }
        numbers => {
            let mut names: Vec<String> = distinct.into_iter().cloned().collect();
            if numbers.is_some() {
                let number = |name: &String| name.parse::<f64>().unwrap_or_default();
                names.sort_by(|a, b| number(a).total_cmp(&number(b)));
            }
            let place = |word: &String| names.iter().position(|name| name == word);
            let places = words
                .iter()
                .map(|word| place(word).unwrap_or_default() as f64)
                .collect();
            (Axis::Words(names), places)
        }
    };
    Panel {
        title: title.replace('_', " "),
        axis,
        points: scored
            .iter()
            .zip(places)
            .map(|(record, x)| Mark::of(record, x))
            .collect(),
        has_best_line: false,
    }
}

struct Panel {
    title: String,
    axis: Axis,
    points: Vec<Mark>,
    has_best_line: bool,
}

struct Mark {
    x: f64,
    accuracy: f64,
    rung: usize,
    hint: String,
}

impl Mark {
    fn of(record: &Record, x: f64) -> Self {
        let accuracy = record.validation_accuracy.unwrap_or_default();
        Self {
            x,
            accuracy,
            rung: record.rung,
            hint: format!(
                "trial {}, {} epochs: {accuracy:.4}",
                record.trial, record.epochs
            ),
        }
    }
}

fn svg(title: &str, description: &str, panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, 3);
    let rows = panels.len().div_ceil(columns);
    let width = PANEL_WIDTH * columns as f64;
    let height = HEADER + PANEL_HEIGHT * rows as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\
         <title>{title}</title><desc>{description}</desc><style>{STYLE}</style>\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\
         <text class=\"title\" x=\"12\" y=\"24\">{title}</text>"
    );
    let rungs: BTreeSet<usize> = panels
        .iter()
        .flat_map(|panel| &panel.points)
        .map(|mark| mark.rung)
        .collect();
    for (place, &rung) in rungs.iter().enumerate() {
        let x = 20.0 + 90.0 * place as f64;
        shape(&mut text, x, 42.0, rung);
        let _ = write!(text, "<text x=\"{}\" y=\"47\">rung {rung}</text>", x + 12.0);
    }
    let accuracies = panels
        .iter()
        .flat_map(|panel| &panel.points)
        .map(|mark| mark.accuracy);
    let range = accuracy_range(accuracies);
    for (index, panel) in panels.iter().enumerate() {
        let x = PANEL_WIDTH * (index % columns) as f64;
        let y = HEADER + PANEL_HEIGHT * (index / columns) as f64;
        let _ = write!(text, "<g transform=\"translate({x} {y})\">");
        draw_panel(&mut text, panel, range);
        text.push_str("</g>");
    }
    text.push_str("</svg>\n");
    text
}

/// All accuracies but the worst tenth: a failure of one configuration must not flatten the others.
fn accuracy_range(accuracies: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut sorted: Vec<f64> = accuracies.collect();
    sorted.sort_by(f64::total_cmp);
    let low = sorted.get(sorted.len() / 10).copied().unwrap_or(0.0);
    let high = sorted.last().copied().unwrap_or(1.0);
    let margin = ((high - low) * 0.06).max(0.002);
    [low - margin, high + margin]
}

fn draw_panel(text: &mut String, panel: &Panel, [low, high]: [f64; 2]) {
    let right = PANEL_WIDTH - RIGHT;
    let bottom = PANEL_HEIGHT - BOTTOM;
    let across = |value: f64| LEFT + 10.0 + panel.axis.place(value) * (right - LEFT - 20.0);
    // What is worse than the range lies on its lower edge.
    let down = |value: f64| {
        let place = ((value - low) / (high - low)).clamp(0.0, 1.0);
        bottom - place * (bottom - TOP)
    };
    for (value, words) in ticks(low, high) {
        let y = down(value);
        let _ = write!(
            text,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{words}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let mut free_from = f64::NEG_INFINITY;
    for (value, words) in panel.axis.ticks() {
        let x = across(value);
        let half = words.chars().count() as f64 * 3.6;
        let _ = write!(text, "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/>");
        // A label that would run into the one before is left out; its mark stays.
        if x - half > free_from {
            free_from = x + half + 4.0;
            let _ = write!(
                text,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{words}</text>",
                bottom + 18.0
            );
        }
    }
    let _ = write!(
        text,
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        bottom + 38.0,
        panel.title
    );
    if panel.has_best_line {
        best_line(text, panel, across, down);
    }
    for mark in &panel.points {
        let _ = write!(text, "<g><title>{}</title>", mark.hint);
        shape(text, across(mark.x), down(mark.accuracy), mark.rung);
        text.push_str("</g>");
    }
}

fn best_line(
    text: &mut String,
    panel: &Panel,
    across: impl Fn(f64) -> f64,
    down: impl Fn(f64) -> f64,
) {
    let mut best = f64::NEG_INFINITY;
    let mut path = String::new();
    for mark in &panel.points {
        let is_first = path.is_empty();
        let _ = match is_first {
            true => write!(path, "M{:.1} {:.1}", across(mark.x), down(mark.accuracy)),
            false => write!(path, "H{:.1}", across(mark.x)),
        };
        if mark.accuracy > best {
            best = mark.accuracy;
            let _ = write!(path, "V{:.1}", down(best));
        }
    }
    let _ = write!(text, "<path class=\"best\" d=\"{path}\"/>");
}

/// Circle, square, triangle.
fn shape(text: &mut String, x: f64, y: f64, rung: usize) {
    let _ = match rung {
        0 => write!(
            text,
            "<circle class=\"r0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
        ),
        1 => write!(
            text,
            "<rect class=\"r1\" x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"/>",
            x - 4.0,
            y - 4.0
        ),
        _ => write!(
            text,
            "<path class=\"r2\" d=\"M{x:.1} {:.1}l6 10h-12z\"/>",
            y - 6.0
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::records::Status;
    use crate::tune::records::tests::record;

    #[test]
    fn every_scored_training_is_a_mark_and_failed_ones_are_not() {
        let mut records: Vec<Record> = (0..5)
            .map(|trial| record(trial, trial % 3, 0.8 + trial as f64 / 100.0))
            .collect();
        records[1].options.batch_size = 64;
        records.push(Record {
            status: Status::Diverged,
            ..record(5, 0, 0.1)
        });
        let plots = draw(&records);
        assert_eq!(plots.len(), 3);
        for plot in &plots {
            assert!(plot.svg.starts_with("<svg") && plot.svg.ends_with("</svg>\n"));
            assert!(
                !plot.svg.contains("NaN") && !plot.svg.contains("inf"),
                "{}",
                plot.svg
            );
        }
        assert_eq!(plots[0].svg.matches("<title>trial").count(), 5);
        assert!(plots[2].svg.contains(">batch size<"));
        assert!(!plots[2].svg.contains(">weight decay<"), "it did not vary");
    }

    #[test]
    fn one_training_is_enough_and_none_is_no_plot() {
        assert!(draw(&[]).is_empty());
        for plot in draw(&[record(0, 0, 0.9)]) {
            assert!(!plot.svg.contains("NaN") && !plot.svg.contains("inf"));
        }
    }
}
