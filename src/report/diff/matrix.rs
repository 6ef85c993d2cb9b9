//! From which label to which files went: as a matrix of the labels that changed, and as a list of pairs.

use maud::{Markup, html};

use crate::diff::figures::{Figures, Label};
use crate::report::page::{name, scrolling};
use crate::report::text::{grouped, percent, printable};

/// Rows and columns the matrix has at most.
const MOST_LABELS: usize = 24;
/// From so many columns on, the cells are small and their names stand upright.
const MANY_LABELS: usize = 13;
/// Pairs that are listed.
const LISTED: usize = 20;

pub(super) fn section(figures: &Figures) -> Markup {
    let pairs = figures.relabellings();
    html! {
        @if pairs.is_empty() {
            p { "No file is in another category." }
        } @else {
            (table(figures, &pairs))
            (list(figures, &pairs))
        }
    }
}

/// The labels with most files, in the order of the labels; those without a label come last.
fn busiest(labels: impl Iterator<Item = (Label, u64)>) -> Vec<Label> {
    let mut counts = std::collections::BTreeMap::new();
    for (label, count) in labels {
        *counts.entry(label).or_insert(0) += count;
    }
    let mut labels: Vec<(Label, u64)> = counts.into_iter().collect();
    labels.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    labels.truncate(MOST_LABELS);
    labels.sort_by_key(|&(label, _)| (label.is_none(), label));
    labels.into_iter().map(|(label, _)| label).collect()
}

fn table(figures: &Figures, pairs: &[(Label, Label, u64)]) -> Markup {
    let rows = busiest(pairs.iter().map(|&(old, _, count)| (old, count)));
    let columns = busiest(pairs.iter().map(|&(_, new, count)| (new, count)));
    let is_shown = |old: &Label, new: &Label| rows.contains(old) && columns.contains(new);
    let hidden: u64 = pairs
        .iter()
        .filter(|(old, new, _)| !is_shown(old, new))
        .map(|(_, _, count)| count)
        .sum();
    let size = if columns.len() >= MANY_LABELS {
        "confusion many"
    } else {
        "confusion"
    };
    html! {
        p { "Each row holds the files of one old label that are in both, each column what they are called now; only labels that files left have a row, and only labels that files came to have a column. Files that keep their label are in blue, changes in orange; the darker a cell, the larger its share of the old label." }
        (scrolling("Matrix of changes", html! {
            table class=(size) style={ "--columns:" (columns.len()) } {
                caption.hidden { "Matrix of changes: rows are the old labels, columns the new ones" }
                thead {
                    tr {
                        th.corner scope="col" { "old ↓" br; "new →" }
                        @for &new in &columns {
                            @let words = figures.label_name(new);
                            th scope="col" title=(printable(words)) { span { (name(words)) } }
                        }
                    }
                }
                tbody {
                    @for &old in &rows {
                        @let of = figures.with_old_label(old);
                        tr {
                            th scope="row" { (name(figures.label_name(old))) }
                            @for &new in &columns {
                                @match figures.labels_of_files.get(&(old, new)) {
                                    None => { td.zero { "0" } }
                                    Some(&count) => { td class=(shade(old == new, count, of)) { (grouped(count)) } }
                                }
                            }
                        }
                    }
                }
            }
        }))
        @if hidden > 0 {
            p.note { "The matrix has the " (MOST_LABELS) " labels that most files left, and those that most came to; " (grouped(hidden)) " changed files are not in it." }
        }
    }
}

/// The class of a cell's colour, as in a confusion matrix: darker with the share of the row.
fn shade(is_kept: bool, count: u64, of: u64) -> &'static str {
    let share = count as f64 / of.max(1) as f64;
    let place = |limits: [f64; 4]| limits.iter().filter(|&&limit| share >= limit).count();
    if is_kept {
        ["d1", "d2", "d3", "d4", "d5"][place([0.4, 0.6, 0.75, 0.9])]
    } else {
        ["e1", "e2", "e3", "e4", "e5"][place([0.01, 0.04, 0.1, 0.25])]
    }
}

fn list(figures: &Figures, pairs: &[(Label, Label, u64)]) -> Markup {
    html! {
        h3 { "Most frequent changes" }
        (scrolling("Most frequent changes", html! {
            table.numbers.short {
                caption.hidden { "Most frequent changes" }
                thead { tr { th scope="col" { "old label" } th.words scope="col" { "new label" } th scope="col" { "files" } th scope="col" { "of the old label" } } }
                tbody {
                    @for &(old, new, count) in pairs.iter().take(LISTED) {
                        tr {
                            th scope="row" { (name(figures.label_name(old))) }
                            td.words { (name(figures.label_name(new))) }
                            td { (grouped(count)) }
                            td { (percent(count as f64 / figures.with_old_label(old).max(1) as f64, 1)) }
                        }
                    }
                }
            }
        }))
        @if pairs.len() > LISTED {
            p.note { "and " (grouped((pairs.len() - LISTED) as u64)) " more pairs of labels" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::figures::tests::{example, figures};

    #[test]
    fn the_matrix_has_the_labels_that_files_left_and_came_to() {
        let html = section(&example()).into_string();
        // Files left bag, shoe and no label; they came to bag, boot and no label.
        assert!(html.contains(r#"<th scope="row"><bdi>shoe</bdi></th><td class="zero">0</td><td class="e5">2</td><td class="zero">0</td></tr>"#), "{html}");
        assert_eq!(html.matches("title=").count(), 3);
        assert!(!html.contains("coat"), "{html}");
    }

    #[test]
    fn a_matrix_of_many_labels_is_cut_and_says_so() {
        let labels = |step: usize| {
            let rows: String = (0..60)
                .map(|file| format!("./{file:02},class {:02},0.9,ok,\n", (file + step) % 60))
                .collect();
            format!("path,label,confidence,status,error\n{rows}")
        };
        let html = section(&figures(&labels(0), &labels(1))).into_string();
        assert_eq!(html.matches("title=").count(), MOST_LABELS);
        assert!(html.contains("more pairs of labels") && html.contains("confusion many"));
        let shown = html.matches("class=\"e5\"").count();
        assert!(
            html.contains(&format!("{} changed files are not in it", 60 - shown)),
            "{html}"
        );
    }
}
