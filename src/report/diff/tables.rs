//! Counts before and after: of labels, of statuses, of decisions.

use maud::{Markup, html};

use crate::diff::figures::Figures;
use crate::report::page::{name, scrolling};
use crate::report::text::grouped;

/// Labels that are listed.
const MOST_LABELS: usize = 200;

/// How many files each label has, had, lost and won.
pub(super) fn classes(figures: &Figures) -> Markup {
    let mut order: Vec<usize> = (0..figures.labels.len()).collect();
    let is_cut = order.len() > MOST_LABELS;
    if is_cut {
        order.sort_by_key(|&label| {
            let [old, new] = figures.classes[label];
            std::cmp::Reverse(old.abs_diff(new))
        });
        order.truncate(MOST_LABELS);
    }
    let new_label = |label: usize| -> u64 {
        let files = figures.labels_of_files.iter();
        let files = files.filter(|((_, new), _)| *new == Some(label));
        files.map(|(_, count)| count).sum()
    };
    html! {
        @if !order.is_empty() {
            p { "All files of each label, those that only one side has among them. What left and what came are files that both have." }
            (scrolling("Files of each label", html! {
                table.numbers {
                    caption.hidden { "Files of each label" }
                    thead { tr { th scope="col" { "label" } th scope="col" { "old" } th scope="col" { "new" } th scope="col" { "difference" } th scope="col" { "left" } th scope="col" { "came" } } }
                    tbody {
                        @for label in order {
                            @let [old, new] = figures.classes[label];
                            @let kept = figures.keeping(label);
                            tr {
                                th scope="row" { (name(&figures.labels[label])) }
                                td { (grouped(old)) }
                                td { (grouped(new)) }
                                td { (signed(old, new)) }
                                td { (grouped(figures.with_old_label(Some(label)) - kept)) }
                                td { (grouped(new_label(label) - kept)) }
                            }
                        }
                    }
                }
            }))
            @if is_cut {
                p.note { "The " (MOST_LABELS) " labels of " (grouped(figures.labels.len() as u64)) " whose counts changed most." }
            }
        }
    }
}

/// Files of which a status or a decision changed; nothing where none did.
pub(super) fn statuses_and_decisions(figures: &Figures) -> Markup {
    let statuses: Vec<[String; 3]> = figures
        .statuses
        .iter()
        .filter(|((old, new), _)| old != new)
        .map(|((old, new), &count)| [old.to_string(), new.to_string(), grouped(count)])
        .collect();
    let decisions: Vec<[String; 3]> = figures
        .decisions
        .iter()
        .flatten()
        .filter(|((old, new), _)| old != new)
        .map(|((old, new), &count)| {
            let word = |decision: &Option<pipeline::classify::Decision>| {
                decision
                    .map_or("none", |decision| decision.as_str())
                    .to_owned()
            };
            [word(old), word(new), grouped(count)]
        })
        .collect();
    html! {
        (pairs("Changed statuses", &statuses))
        (pairs("Changed decisions", &decisions))
    }
}

fn pairs(title: &str, rows: &[[String; 3]]) -> Markup {
    html! {
        @if !rows.is_empty() {
            h3 { (title) }
            (scrolling(title, html! {
                table.numbers.short {
                    caption.hidden { (title) }
                    thead { tr { th scope="col" { "old" } th.words scope="col" { "new" } th scope="col" { "files" } } }
                    tbody {
                        @for [old, new, count] in rows {
                            tr { th scope="row" { (old) } td.words { (new) } td { (count) } }
                        }
                    }
                }
            }))
        }
    }
}

/// A difference with its sign: `+12`, `−3`, `0`.
fn signed(old: u64, new: u64) -> String {
    let sign = match new.cmp(&old) {
        std::cmp::Ordering::Less => "−",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "+",
    };
    format!("{sign}{}", grouped(new.abs_diff(old)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::figures::tests::example;

    #[test]
    fn counts_differences_and_moves_add_up() {
        let html = classes(&example()).into_string();
        let row = |label: &str| {
            let start = html.find(&format!("<bdi>{label}</bdi>")).unwrap();
            let row = &html[start..][..html[start..].find("</tr>").unwrap()];
            let cells = row.split("<td>").skip(1);
            let cells = cells.map(|cell| cell.trim_end_matches("</td>"));
            cells.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("shoe"), "4 1 −3 2 0");
        assert_eq!(row("boot"), "0 2 +2 0 2");
        assert_eq!(row("coat"), "2 2 0 0 0");
        assert_eq!(row("bag"), "1 2 +1 1 1");
    }

    #[test]
    fn only_what_changed_is_listed() {
        let html = statuses_and_decisions(&example()).into_string();
        assert!(
            html.contains("<th scope=\"row\">degraded</th><td class=\"words\">ok</td><td>1</td>"),
            "{html}"
        );
        assert!(
            html.contains("<th scope=\"row\">accept</th><td class=\"words\">review</td>"),
            "{html}"
        );
        assert!(
            !html.contains("<th scope=\"row\">ok</th><td class=\"words\">ok</td>"),
            "{html}"
        );
    }
}
