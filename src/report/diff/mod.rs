//! What changed between two files of labels, as a page for the engineer who promotes a model and for whoever knows the goods.

mod gallery;
mod matrix;
mod tables;

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::axis::{Axis, Format};
use super::chart::{Chart, Mark, Series};
use super::confidence::gallery as drawings;
use super::figure::Figure;
use super::page::{Page, Section, name, scrolling};
use super::text::{grouped, percent, printable};
use crate::diff::change::Kind;
use crate::diff::figures::{Figures, MOVE_BINS, Moves};

/// Everything the page tells.
#[derive(Clone, Debug)]
pub struct DiffReport<'a> {
    /// The comparison.
    pub figures: &'a Figures,
    /// What the two files of labels are: names and values, the old one's and the new one's.
    pub runs: Vec<(String, [String; 2])>,
    /// What the two are called.
    pub names: [String; 2],
    /// What else the reader should know, a sentence each.
    pub remarks: Vec<String>,
    /// Pictures as data URIs, by the path as the labels have it.
    pub pictures: BTreeMap<String, String>,
    /// The last line, with version and time.
    pub footer: String,
}

impl DiffReport<'_> {
    /// The page as one HTML file.
    pub fn html(&self) -> String {
        let figures = self.figures;
        let [old, new] = &self.names;
        let section = |id, title: &str, body| Section {
            id,
            title: title.to_owned(),
            body,
        };
        Page {
            kind: "Comparison of labels".to_owned(),
            title: format!("{old} → {new}"),
            subtitle: format!(
                "What the {} files that both name are called now, and what they were called before.",
                grouped(figures.files)
            ),
            sections: vec![
                section("summary", "Summary", self.summary()),
                section("changes", "Changes of category", matrix::section(figures)),
                section(
                    "changed-files",
                    "Changed files",
                    gallery::changed(figures, &self.pictures),
                ),
                section("classes", "Labels", tables::classes(figures)),
                section("confidence", "Confidence", confidence(&figures.moves)),
                section("moves", "Largest moves", gallery::moved(figures, &self.pictures)),
                section("statuses", "Statuses and decisions", tables::statuses_and_decisions(figures)),
                section("runs", "The two files", self.runs()),
            ],
            footer: self.footer.clone(),
        }
        .html()
    }

    fn summary(&self) -> Markup {
        let figures = self.figures;
        let share = |count: u64| percent(count as f64 / figures.files.max(1) as f64, 2);
        let keep = figures.moves.files;
        html! {
            dl.tiles {
                div.main { dt { "In another category" } dd { (share(figures.changed())) } dd.more { (grouped(figures.changed())) " of " (grouped(figures.files)) " files" } }
                div { dt { "Keep their label" } dd { (share(keep)) } dd.more { (grouped(keep)) " files" } }
                div { dt { "Lost their label" } dd { (grouped(figures.with(Kind::Lost))) } dd.more { (grouped(figures.with(Kind::Gained))) " gained one" } }
                div { dt { "Added files" } dd { (grouped(figures.with(Kind::Added))) } dd.more { (grouped(figures.with(Kind::Gone))) " gone; in no other figure but the labels’ counts" } }
                @if let Some([before, now]) = figures.moves.means() {
                    div { dt { "Mean confidence" } dd { (percent(now, 1)) } dd.more { (percent(before, 1)) " before, of files that keep their label" } }
                }
            }
            p { (sentence(figures)) }
            @if !self.remarks.is_empty() {
                ul.remarks { @for remark in &self.remarks { li { (printable(remark)) } } }
            }
        }
    }

    fn runs(&self) -> Markup {
        scrolling(
            "The two files of labels",
            html! {
                table.numbers {
                    caption.hidden { "The two files of labels" }
                    thead { tr { td {} th.words scope="col" { "old" } th.words scope="col" { "new" } } }
                    tbody {
                        @for (what, values) in &self.runs {
                            tr { th scope="row" { (name(what)) } @for value in values { td.words { (name(value)) } } }
                        }
                    }
                }
            },
        )
    }
}

/// The most frequent change as a sentence.
fn sentence(figures: &Figures) -> Markup {
    html! {
        @if let Some(&(old, new, count)) = figures.relabellings().first() {
            "The most frequent change: " (files(count)) " of " strong { (name(figures.label_name(old))) }
            " (" (percent(count as f64 / figures.with_old_label(old).max(1) as f64, 1)) ") "
            @if count == 1 { "is" } @else { "are" } " now " strong { (name(figures.label_name(new))) } "."
        } @else {
            "No file is in another category."
        }
    }
}

/// `1 file`, `2 files`.
fn files(count: u64) -> String {
    match count {
        1 => "1 file".to_owned(),
        count => format!("{} files", grouped(count)),
    }
}

fn confidence(moves: &Moves) -> Markup {
    html! {
        @if moves.files > 0 {
            p { "How far the confidence moved of the " (files(moves.files)) " that keep their label: "
                (grouped(moves.rose)) " rose, " (grouped(moves.fell)) " fell, " (grouped(moves.still)) " stayed as they were. "
                "Confidences of two models are alike only where both are calibrated." }
            (drawings(&[histogram(moves)]))
            (bin_table(moves))
        }
    }
}

fn histogram(moves: &Moves) -> Figure {
    let moved = (moves.rose + moves.fell).max(1) as f64;
    let middle = |bin: usize| Moves::range(bin).iter().sum::<f64>() / 2.0;
    let points: Vec<[f64; 2]> = (0..MOVE_BINS)
        .map(|bin| [middle(bin), moves.bins[bin] as f64 / moved])
        .collect();
    let near: u64 = moves.bins[MOVE_BINS / 2 - 2..MOVE_BINS / 2 + 2]
        .iter()
        .sum();
    Chart {
        name: "moves".into(),
        title: "Moves of the confidence".into(),
        description: format!(
            "Of the confidences that moved, the share in each range: {} moved by no more than 0.1.",
            percent(near as f64 / moved, 1)
        ),
        x: Axis::linear(
            "new confidence minus old confidence",
            [-1.0, 1.0],
            Format::Number,
        ),
        y: Axis::around(
            "share of the files whose confidence moved",
            points.iter().map(|point| point[1]).chain([0.0]),
            Format::Percent,
        ),
        series: vec![Series {
            name: "files".into(),
            mark: Mark::Bars(2.0 / MOVE_BINS as f64),
            points,
        }],
        guides: vec![(0.0, "as before".into())],
    }
    .figure()
}

fn bin_table(moves: &Moves) -> Markup {
    let ends = |bin: usize| Moves::range(bin).map(|end| format!("{end:+.2}").replace('-', "−"));
    html! {
        details {
            summary { "Figures of the diagram" }
            (scrolling("Moves of the confidence", html! {
                table.numbers.short.slim {
                    caption.hidden { "Moves of the confidence" }
                    thead { tr { th scope="col" { "move" } th scope="col" { "files" } } }
                    tbody {
                        @for (bin, count) in moves.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
                            @let [low, high] = ends(bin);
                            tr { th scope="row" { (low) " to " (high) } td { (grouped(*count)) } }
                        }
                    }
                }
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::figures::tests::{example, figures};

    fn page(figures: &Figures) -> String {
        DiffReport {
            figures,
            runs: vec![("rows".to_owned(), ["8".to_owned(), "<8>".to_owned()])],
            names: ["old.csv", "<new>.csv"].map(str::to_owned),
            remarks: vec!["Mind <this>.".to_owned()],
            pictures: [("./a".to_owned(), "data:image/jpeg;base64,AAAA".to_owned())].into(),
            footer: "Written today.".to_owned(),
        }
        .html()
    }

    #[test]
    fn every_section_has_its_figures() {
        let html = page(&example());
        for part in [
            "<dd>57.14\u{a0}%</dd><dd class=\"more\">4 of 7 files</dd>",
            "2 files of <strong><bdi>shoe</bdi></strong> (66.7\u{a0}%) are now <strong><bdi>boot</bdi></strong>.",
            "Mind &lt;this&gt;.",
            "<td class=\"words\"><bdi>&lt;8&gt;</bdi></td>",
            "−0.40 to −0.35",
            "old.csv → &lt;new&gt;.csv",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        assert_eq!(html.matches("<img").count(), 1);
        assert!(!html.contains("<new>") && !html.contains("<8>"));
    }

    #[test]
    fn labels_that_are_the_same_make_a_short_page() {
        const LABELS: &str = "path,label,confidence,status,error\n./a,shoe,0.9,ok,\n";
        let html = page(&figures(LABELS, LABELS));
        assert!(html.contains("No file is in another category."));
        for id in ["changed-files", "moves", "statuses"] {
            assert!(!html.contains(&format!("section id=\"{id}\"")), "{id}");
        }
    }
}
