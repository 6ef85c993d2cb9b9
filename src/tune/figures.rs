//! Plots of a search: accuracy by trial, the best so far over time, accuracy by each hyper-parameter.

use std::collections::BTreeSet;

use crate::report::axis::{Axis, Format};
use crate::report::chart::{Chart, Mark, Series};
use crate::report::figure::Figure;

use super::records::Record;

/// More values than that are numbers on an axis, not words.
const MOST_WORDS: usize = 6;
/// A logarithmic axis is used from this ratio of the largest to the smallest value on.
const LOGARITHMIC_FROM: f64 = 8.0;
/// The vertical axis leaves out the worst tenth, which would press the others together.
const LOWEST_SHOWN: f64 = 0.1;

/// How the search went: accuracy by trial and over time. None before a training has an accuracy.
pub fn course(records: &[Record]) -> Vec<Figure> {
    let scored = scored(records);
    let Some(best) = best_so_far(&scored).last().map(|point| point[1]) else {
        return Vec::new();
    };
    let minutes: Vec<f64> = scored.iter().map(|record| minutes(record)).collect();
    let best_line = Series {
        name: "best so far".to_owned(),
        mark: Mark::Reference,
        points: best_so_far(&scored),
    };
    vec![
        chart(
            &scored,
            "accuracy-by-trial",
            "Accuracy by trial",
            "Every training of every trial; a promoted trial was trained again for longer."
                .to_owned(),
            &Values {
                axis: Axis::around(
                    "trial",
                    scored.iter().map(|record| record.trial as f64),
                    Format::Count,
                ),
                places: scored.iter().map(|record| record.trial as f64).collect(),
            },
            None,
        ),
        chart(
            &scored,
            "best-over-time",
            "Accuracy over time",
            format!(
                "Every training at the moment it ended; the line is the best so far, {best:.4} in the end."
            ),
            &Values {
                axis: Axis::around(
                    "minutes of search",
                    minutes.iter().copied().chain([0.0]),
                    Format::Number,
                ),
                places: minutes,
            },
            Some(best_line),
        ),
    ]
}

/// A chart for each hyper-parameter that varied. Lists of layers are shown by their number and their sum.
pub fn hyper_parameters(records: &[Record]) -> Vec<Figure> {
    let scored = scored(records);
    let names: Vec<&str> = scored.first().map_or_else(Vec::new, |first| {
        let values = first.hyper_parameters().into_iter();
        values.map(|(name, _)| name).collect()
    });
    let value = |record: &Record, index: usize| {
        let values = record.hyper_parameters();
        values
            .get(index)
            .map_or(String::new(), |(_, value)| value.clone())
    };
    let mut columns: Vec<(String, Vec<String>)> = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let words = || scored.iter().map(|record| value(record, index));
        if matches!(name, "filters" | "dense_units") {
            let numbers = |text: String| -> Vec<usize> {
                text.split(' ')
                    .filter_map(|word| word.parse().ok())
                    .collect()
            };
            let layers = |text| numbers(text).len().to_string();
            let sum = |text| numbers(text).iter().sum::<usize>().to_string();
            columns.push((format!("{name} layers"), words().map(layers).collect()));
            columns.push((format!("{name} sum"), words().map(sum).collect()));
        } else {
            columns.push((name.to_owned(), words().collect()));
        }
    }
    let operations = |record: &&Record| format!("{:.1}", record.flops as f64 / 1e6);
    columns.push((
        "million_operations".to_owned(),
        scored.iter().map(operations).collect(),
    ));
    columns
        .into_iter()
        .filter(|(_, words)| words.iter().collect::<BTreeSet<_>>().len() > 1)
        .map(|(name, words)| {
            let title = name.replace('_', " ");
            chart(
                &scored,
                &format!("by-{}", name.replace(['_', ' '], "-")),
                &format!("Accuracy by {title}"),
                format!("Every training by its {title}."),
                &Values::of(&title, words),
                None,
            )
        })
        .collect()
}

fn scored(records: &[Record]) -> Vec<&Record> {
    records
        .iter()
        .filter(|record| record.outcome().score.is_some())
        .collect()
}

fn accuracy(record: &Record) -> f64 {
    record.validation_accuracy.unwrap_or_default()
}

fn minutes(record: &Record) -> f64 {
    record.elapsed_seconds / 60.0
}

/// Where each training lies on the horizontal axis.
struct Values {
    axis: Axis,
    places: Vec<f64>,
}

impl Values {
    /// Numbers where there are many of them, else words side by side.
    fn of(label: &str, words: Vec<String>) -> Self {
        let numbers: Option<Vec<f64>> = words.iter().map(|word| word.parse().ok()).collect();
        let distinct: BTreeSet<&str> = words.iter().map(String::as_str).collect();
        match numbers {
            Some(places) if distinct.len() > MOST_WORDS => {
                let low = places.iter().copied().fold(f64::INFINITY, f64::min);
                let high = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let axis = match low > 0.0 && high / low >= LOGARITHMIC_FROM && high < 10.0 {
                    true => Axis::log_around(label, places.iter().copied()),
                    false => Axis::around(label, places.iter().copied(), Format::Number),
                };
                Self { axis, places }
            }
            numbers => {
                let mut names: Vec<&str> = distinct.into_iter().collect();
                if numbers.is_some() {
                    let number = |name: &str| name.parse::<f64>().unwrap_or_default();
                    names.sort_by(|a, b| number(a).total_cmp(&number(b)));
                }
                let place = |word: &String| {
                    let place = names.iter().position(|name| name == word);
                    place.unwrap_or_default() as f64
                };
                let places = words.iter().map(place).collect();
                let shown = |name: &&str| match *name {
                    "" => "none".to_owned(),
                    name => name.to_owned(),
                };
                Self {
                    axis: Axis::words(label, names.iter().map(shown).collect()),
                    places,
                }
            }
        }
    }
}

/// The accuracy of every training over its value, a series for each rung, and a line.
fn chart(
    scored: &[&Record],
    name: &str,
    title: &str,
    description: String,
    values: &Values,
    line: Option<Series>,
) -> Figure {
    let mut accuracies: Vec<f64> = scored.iter().map(|record| accuracy(record)).collect();
    accuracies.sort_by(f64::total_cmp);
    let cut = (accuracies.len() as f64 * LOWEST_SHOWN) as usize;
    let rungs: BTreeSet<usize> = scored.iter().map(|record| record.rung).collect();
    let mut series: Vec<Series> = rungs
        .into_iter()
        .map(|rung| Series {
            name: format!("rung {rung}"),
            mark: Mark::Points,
            points: scored
                .iter()
                .zip(&values.places)
                .filter(|(record, _)| record.rung == rung)
                .map(|(record, place)| [*place, accuracy(record)])
                .collect(),
        })
        .collect();
    series.extend(line);
    Chart {
        name: name.to_owned(),
        title: title.to_owned(),
        description,
        x: values.axis.clone(),
        y: Axis::around(
            "validation accuracy",
            accuracies.into_iter().skip(cut),
            Format::Percent,
        ),
        series,
        guides: Vec::new(),
    }
    .figure()
}

/// The best accuracy from each moment on, as the corners of a stair.
fn best_so_far(scored: &[&Record]) -> Vec<[f64; 2]> {
    let mut best = f64::NEG_INFINITY;
    let mut corners = Vec::new();
    for record in scored {
        let minute = minutes(record);
        if !corners.is_empty() {
            corners.push([minute, best]);
        }
        if accuracy(record) > best {
            best = accuracy(record);
            corners.push([minute, best]);
        }
    }
    corners
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
        let marks = |figure: &Figure| {
            let body = &figure.body.0;
            let of_colour = |colour| body.matches(&format!("class=\"f{colour}\"")).count();
            (0..3).map(of_colour).sum::<usize>()
        };
        let course = course(&records);
        let names: Vec<&str> = course.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["accuracy-by-trial", "best-over-time"]);
        // Five trainings, and a sample of each of the three rungs in the legend.
        assert_eq!(marks(&course[0]), 8, "{}", course[0].file());
        let varied = hyper_parameters(&records);
        let names: Vec<&str> = varied.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["by-batch-size"], "nothing else varied");
        assert_eq!(marks(&varied[0]), 8);
        for figure in course.iter().chain(&varied) {
            let svg = figure.file();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn one_training_is_enough_and_none_is_no_plot() {
        assert!(course(&[]).is_empty() && hyper_parameters(&[]).is_empty());
        let one = [record(0, 0, 0.9)];
        assert_eq!(course(&one).len(), 2);
        assert!(hyper_parameters(&one).is_empty());
    }

    #[test]
    fn many_numbers_are_an_axis_and_few_are_words() {
        let few = Values::of("batch size", ["128", "64", ""].map(str::to_owned).to_vec());
        assert_eq!(few.axis.words, ["none", "128", "64"]);
        let few = Values::of("batch size", ["128", "64"].map(str::to_owned).to_vec());
        assert_eq!(few.axis.words, ["64", "128"]);
        assert_eq!(few.places, [1.0, 0.0]);
        let rates = (1..=7).map(|rate| (f64::from(rate) * 0.03).to_string());
        let many = Values::of("rate", rates.collect());
        assert!(many.axis.words.is_empty());
        assert_eq!(many.places[1], 0.06);
    }

    #[test]
    fn the_best_so_far_is_a_stair() {
        let records = [record(0, 0, 0.8), record(1, 0, 0.7), record(2, 0, 0.9)];
        let scored: Vec<&Record> = records.iter().collect();
        let levels: Vec<f64> = best_so_far(&scored).iter().map(|point| point[1]).collect();
        assert_eq!(levels, [0.8, 0.8, 0.8, 0.9]);
    }
}
