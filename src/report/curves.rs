//! Learning curves: what each epoch of a run gave.
//!
//! Figures are taken by the names of the history's columns, so a column that is added there is drawn here.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use crate::training::history::History;

use super::axis::{Axis, Format};
use super::chart::{Chart, Mark, Series};
use super::figure::Figure;
use super::page::scrolling;
use super::text::percent;

/// Draws the loss, the accuracy and the learning rate of every epoch; nothing of a run without epochs.
pub fn curves(history: &History) -> Vec<Figure> {
    let columns = columns(history);
    if columns.is_empty() {
        return Vec::new();
    }
    let best = history.best().map(|epoch| epoch.epoch as f64);
    let chart = |name: &str, title: &str, ending: &str, format: Format| -> Option<Figure> {
        let series: Vec<Series> = columns
            .iter()
            .filter(|(column, _)| column.ends_with(ending))
            .map(|(column, points)| Series {
                name: words(column.strip_suffix(ending).unwrap_or(column)),
                mark: Mark::Line,
                points: points.clone(),
            })
            .collect();
        let values = || {
            series
                .iter()
                .flat_map(|series| series.points.iter().map(|point| point[1]))
        };
        series.first()?;
        Some(
            Chart {
                name: name.to_owned(),
                title: title.to_owned(),
                description: description(&series, best, format),
                x: epochs(history),
                y: Axis::around(&title.to_lowercase(), values(), format),
                guides: best
                    .map(|epoch| (epoch, format!("best: {epoch}")))
                    .into_iter()
                    .collect(),
                series,
            }
            .figure(),
        )
    };
    [
        chart("loss", "Loss", "_loss", Format::Number),
        chart("accuracy", "Accuracy", "_accuracy", Format::Percent),
        chart(
            "learning-rate",
            "Learning rate",
            "learning_rate",
            Format::Number,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every figure of every epoch.
pub fn epoch_table(history: &History) -> Markup {
    let columns = columns(history);
    let names: Vec<&String> = columns.keys().filter(|name| *name != "epoch").collect();
    html! {
        details {
            summary { "Figures of every epoch" }
            (scrolling("Figures of every epoch", html! {
                table.numbers {
                    caption.hidden { "Figures of every epoch" }
                    thead { tr { th scope="col" { "epoch" } @for name in &names { th scope="col" { (words(name)) } } } }
                    tbody {
                        @for (row, epoch) in history.epochs.iter().enumerate() {
                            tr {
                                th scope="row" { (epoch.epoch) @if epoch.is_best { " " span.badge { "best so far" } } }
                                @for name in &names {
                                    td { (columns.get(*name).and_then(|points| points.get(row)).map_or(String::new(), |point| cell(name, point[1]))) }
                                }
                            }
                        }
                    }
                }
            }))
        }
    }
}

fn cell(column: &str, value: f64) -> String {
    match column {
        name if name.ends_with("accuracy") => percent(value, 2),
        "seconds" => format!("{value:.1}"),
        "images_per_second" => format!("{value:.0}"),
        "learning_rate" => format!("{value:.6}"),
        _ => format!("{value:.4}"),
    }
}

/// The numbers of each column of the history, as (epoch, value); a cell without a number is not one.
fn columns(history: &History) -> BTreeMap<String, Vec<[f64; 2]>> {
    let mut columns: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
    for epoch in &history.epochs {
        let Ok(Value::Object(fields)) = serde_json::to_value(epoch) else {
            continue;
        };
        for (name, value) in fields
            .iter()
            .filter(|(_, value)| value.is_number() || value.is_null())
        {
            let value = value.as_f64().unwrap_or(f64::NAN);
            columns
                .entry(name.clone())
                .or_default()
                .push([epoch.epoch as f64, value]);
        }
    }
    columns.retain(|_, points| points.iter().any(|point| point[1].is_finite()));
    columns
}

fn words(column: &str) -> String {
    column.replace('_', " ")
}

fn epochs(history: &History) -> Axis {
    let last = history.epochs.last().map_or(1, |epoch| epoch.epoch) as f64;
    let first = history.epochs.first().map_or(1, |epoch| epoch.epoch) as f64;
    let range = if last > first {
        [first, last]
    } else {
        [first - 0.5, first + 0.5]
    };
    Axis::linear("epoch", range, Format::Count)
}

/// From where to where each series goes, in words.
fn description(series: &[Series], best: Option<f64>, format: Format) -> String {
    let written = |value: f64| match format {
        Format::Percent => percent(value, 1),
        _ => format!("{value:.4}"),
    };
    let mut sentences: Vec<String> = series
        .iter()
        .filter_map(|series| {
            let (first, last) = (series.points.first()?, series.points.last()?);
            Some(match series.points.len() {
                1 => format!("{}: {}.", series.name, written(last[1])),
                _ => format!(
                    "{}: from {} to {}.",
                    series.name,
                    written(first[1]),
                    written(last[1])
                ),
            })
        })
        .collect();
    sentences.extend(best.map(|epoch| format!("The best epoch is {epoch}.")));
    sentences.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::events::EpochSummary;

    fn history(epochs: usize) -> History {
        let epochs = (1..=epochs).map(|epoch| EpochSummary {
            train_accuracy: 0.9,
            epoch,
            train_loss: 1.0 / epoch as f64,
            validation_loss: 1.2 / epoch as f64,
            validation_accuracy: 1.0 - 0.2 / epoch as f64,
            learning_rate: 0.1,
            seconds: 10.0,
            images_per_second: 5000.0,
            is_best: epoch < 3,
        });
        History {
            epochs: epochs.collect(),
        }
    }

    #[test]
    fn curves_say_in_words_what_they_show() {
        let figures = curves(&history(4));
        let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["loss", "accuracy", "learning-rate"]);
        assert_eq!(
            figures[0].description,
            "train: from 1.0000 to 0.2500. validation: from 1.2000 to 0.3000. The best epoch is 2."
        );
        assert!(figures[1].file().contains(">best: 2</text>"));
    }

    #[test]
    fn one_epoch_and_none_are_fine() {
        assert_eq!(curves(&history(0)).len(), 0);
        assert_eq!(curves(&history(1)).len(), 3);
        let table = epoch_table(&history(2)).into_string();
        assert_eq!(table.matches("<tr>").count(), 3);
        assert!(table.contains("80.00\u{a0}%"), "{table}");
    }
}
