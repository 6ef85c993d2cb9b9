//! What a search tells people: the best options beside the defaults, how it went, and every training.

use maud::{Markup, html};

use crate::report::confidence::gallery;
use crate::report::page::{Section, facts, name, scrolling};
use crate::report::text::{duration, grouped, percent, printable};

use super::figures;
use super::records::Record;
use super::run::Searched;

/// The sections of a report on a search, in order.
pub fn sections(searched: &Searched) -> Vec<Section> {
    let records = &searched.records;
    let section = |id, title: &str, body| Section {
        id,
        title: title.to_owned(),
        body,
    };
    vec![
        section("summary", "Summary", summary(searched)),
        section("options", "Best options", best_options(searched)),
        section(
            "course",
            "How the search went",
            gallery(&figures::course(records)),
        ),
        section(
            "hyper-parameters",
            "What made the difference",
            hyper_parameters(records),
        ),
        section("trials", "Trainings", trainings(records)),
    ]
}

fn summary(searched: &Searched) -> Markup {
    let records = &searched.records;
    let trials = records.iter().map(|record| record.trial + 1).max();
    let seconds = records.last().map_or(0.0, |record| record.elapsed_seconds);
    let failed = records
        .iter()
        .filter(|record| record.outcome().score.is_none())
        .count();
    let best = best(searched);
    html! {
        dl.tiles {
            @if let Some(best) = best {
                div.main { dt { "Best validation accuracy" } dd { (share(best.validation_accuracy)) } dd.more { "trial " (best.trial) ", " (epochs(best.epochs)) } }
                @if let Some(default) = default_beside(records, best) {
                    div { dt { "Defaults" } dd { (share(default.validation_accuracy)) } dd.more { "trial 0, " (epochs(default.epochs)) } }
                }
            }
            div { dt { "Trials" } dd { (grouped(trials.unwrap_or_default() as u64)) } dd.more { (grouped(records.len() as u64)) " trainings" } }
            div { dt { "Time" } dd { (duration(seconds)) } dd.more { "of search" } }
        }
        ul.remarks {
            @if searched.stopped {
                li { "The search was stopped; the same command goes on with it." }
            }
            @if best.is_none() {
                li { "No configuration could be trained; the table of trainings says why." }
            } @else {
                @if !searched.is_full {
                    li { "The best was not trained for all its epochs: there was no time for that. The longer the training, the surer the choice." }
                }
                li { "The accuracy of the best of many is a little too good, because it is the best. The test part of the data was not read: catalog evaluate judges on it." }
            }
            @if failed > 0 {
                li { (grouped(failed as u64)) " of the trainings have no accuracy: they diverged, took too long or failed." }
            }
        }
    }
}

fn best(searched: &Searched) -> Option<&Record> {
    searched.records.get(searched.best?)
}

/// The training of the defaults that was as long as that of the best, where the best is not the default itself.
fn default_beside<'a>(records: &'a [Record], best: &Record) -> Option<&'a Record> {
    records
        .iter()
        .find(|record| record.trial == 0 && record.rung == best.rung && best.trial != 0)
}

/// The best hyper-parameters beside the defaults.
fn best_options(searched: &Searched) -> Markup {
    let (Some(best), Some(default)) = (best(searched), searched.records.first()) else {
        return html! {};
    };
    let rows = best
        .hyper_parameters()
        .into_iter()
        .zip(default.hyper_parameters());
    let shown = |value: &str| match value {
        "" => "–".to_owned(),
        value => value.to_owned(),
    };
    html! {
        p { "best.json has all options; catalog train --config takes it." }
        (scrolling("Best options", html! {
            table.numbers.short {
                caption.hidden { "Best options beside the defaults" }
                thead { tr { th scope="col" { "hyper-parameter" } th scope="col" { "best" } th scope="col" { "default" } } }
                tbody {
                    @for ((label, value), (_, default)) in rows {
                        tr {
                            th scope="row" { (label.replace('_', " ")) }
                            td { @if value == default { (shown(&value)) } @else { strong { (shown(&value)) } } }
                            td { (shown(&default)) }
                        }
                    }
                }
            }
        }))
        (facts([
            ("trained parameters", html! { (grouped(best.parameters as u64)) }),
            ("operations for one image", html! { (format!("{:.1} million", best.flops as f64 / 1e6)) }),
        ]))
    }
}

fn hyper_parameters(records: &[Record]) -> Markup {
    let figures = figures::hyper_parameters(records);
    html! {
        @if !figures.is_empty() {
            p { "Each mark is a training; rung 0 are the short ones, the highest rung those at full length. Look for where the marks of one rung rise: options that do not matter show level clouds." }
            (gallery(&figures))
        }
    }
}

/// Every training, the longest and best first.
fn trainings(records: &[Record]) -> Markup {
    let mut order: Vec<&Record> = records.iter().collect();
    let key = |record: &Record| record.validation_accuracy.unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|a, b| b.rung.cmp(&a.rung).then(key(b).total_cmp(&key(a))));
    html! {
        (scrolling("Trainings", html! {
            table.numbers {
                caption.hidden { "Every training, the longest and best first" }
                thead { tr {
                    th scope="col" { "trial" } th scope="col" { "rung" } th scope="col" { "epochs" } th scope="col" { "accuracy" }
                    th scope="col" { "loss" } th scope="col" { "time" } th scope="col" { "network" } th scope="col" { "outcome" }
                } }
                tbody {
                    @for record in order {
                        tr {
                            th scope="row" { (record.trial) }
                            td { (record.rung) }
                            td { (record.epochs) }
                            td { (share(record.validation_accuracy)) }
                            td { (record.validation_loss.map_or_else(|| "–".to_owned(), |loss| format!("{loss:.4}"))) }
                            td { (duration(record.seconds)) }
                            td { (network(record)) }
                            td { (record.status.name()) @if !record.message.is_empty() { ": " (name(&record.message)) } }
                        }
                    }
                }
            }
        }))
    }
}

/// Kind and layers in a few words.
fn network(record: &Record) -> String {
    let values = record.hyper_parameters();
    let value = |wanted: &str| {
        let found = values.iter().find(|(name, _)| *name == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    let dense = match value("dense_units") {
        "" => String::new(),
        units => format!(", dense {units}"),
    };
    printable(&format!("{} {}{dense}", value("network"), value("filters")))
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| percent(share, 2))
}

fn epochs(count: usize) -> String {
    match count {
        1 => "1 epoch".to_owned(),
        count => format!("{count} epochs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::records::Status;
    use crate::tune::records::tests::record;

    fn html(searched: &Searched) -> String {
        let bodies = sections(searched).into_iter();
        bodies.map(|section| section.body.into_string()).collect()
    }

    #[test]
    fn the_best_stands_beside_the_defaults() {
        let mut better = record(1, 1, 0.93);
        better.options.batch_size = 64;
        let failed = Record {
            status: Status::Failed,
            validation_accuracy: None,
            message: "<b>no room".to_owned(),
            ..record(2, 0, 0.0)
        };
        let searched = Searched {
            records: vec![record(0, 0, 0.9), better, record(0, 1, 0.91), failed],
            best: Some(1),
            is_full: true,
            stopped: false,
        };
        let html = html(&searched);
        for expected in [
            "93.00\u{a0}%",
            "91.00\u{a0}%",
            "<th scope=\"row\">batch size</th><td><strong>64</strong></td><td>128</td>",
            "1 of the trainings have no accuracy",
            "failed: <bdi>&lt;b&gt;no room</bdi>",
            "seed 32 64, dense 128",
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
        assert!(!html.contains("no time for that") && !html.contains("goes on with it"));
    }

    #[test]
    fn a_search_without_a_result_says_so() {
        let searched = Searched {
            records: vec![],
            best: None,
            is_full: false,
            stopped: true,
        };
        let html = html(&searched);
        assert!(html.contains("No configuration could be trained") && html.contains("was stopped"));
    }
}
