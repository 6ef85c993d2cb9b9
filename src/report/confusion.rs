//! The confusion matrix as a table for a page, as drawings, and as the list of the mistakes that were made most.

use maud::{Markup, html};

use crate::metrics::{Confusion, ConfusionMatrix};

use super::chart::rounded;
use super::figure::Figure;
use super::page::{name, scrolling};
use super::text::{grouped, percent, printable, shortened};

/// Up to so many classes the whole matrix is shown.
const MOST_CLASSES: usize = 50;
/// From so many classes on, the cells are small and their names stand upright.
const MANY_CLASSES: usize = 13;
/// Pairs of classes that are listed beside the matrix, and instead of it.
const LISTED: usize = 10;
const LISTED_ALONE: usize = 40;
/// Longer names are cut in the drawing.
const LONGEST_NAME: usize = 18;

/// What a cell of the matrix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cells {
    /// How many images.
    Counts,
    /// Which share of the images of the true class.
    Shares,
}

/// The matrix, where it is not too large, and the most frequent mistakes.
pub fn section(matrix: &ConfusionMatrix, classes: &[String]) -> Markup {
    let confusions = matrix.confusions();
    html! {
        @if matrix.classes() <= MOST_CLASSES {
            (table(matrix, classes))
            (pairs(&confusions, matrix, classes, LISTED))
        } @else {
            p { "The whole matrix of " (grouped(matrix.classes() as u64)) " classes is in " code { "metrics.json" } ". These are the mistakes that were made most." }
            (pairs(&confusions, matrix, classes, LISTED_ALONE))
        }
    }
}

/// Rows are the truth. Both numbers of a cell are there; without scripts, two radio buttons choose which is seen.
fn table(matrix: &ConfusionMatrix, classes: &[String]) -> Markup {
    let size = if matrix.classes() >= MANY_CLASSES {
        "confusion many"
    } else {
        "confusion"
    };
    html! {
        p { "Each row holds the images of one class, each column what the model said. What is right is on the diagonal, in blue; mistakes are in orange. The darker a cell, the larger its share of the row." }
        fieldset.choice {
            legend { "The cells show" }
            input #cells-counts type="radio" name="cells" checked;
            label for="cells-counts" { "images" }
            input #cells-shares type="radio" name="cells";
            label for="cells-shares" { "per cent of the row" }
            (scrolling("Confusion matrix", html! {
                table class=(size) style={ "--columns:" (matrix.classes()) } {
                    caption.hidden { "Confusion matrix: rows are the truth, columns what the model said" }
                    thead {
                        tr {
                            th.corner scope="col" { "truth ↓" br; "said →" }
                            @for class in classes { th scope="col" title=(printable(class)) { span { (name(class)) } } }
                        }
                    }
                    tbody {
                        @for (truth, class) in classes.iter().enumerate() {
                            tr {
                                th scope="row" { (name(class)) }
                                @for (prediction, &count) in matrix.row(truth).iter().enumerate() {
                                    @if count == 0 && prediction != truth {
                                        td.zero { "0" }
                                    } @else {
                                        td class=(shade(matrix, truth, prediction)) {
                                            span.n { (count) }
                                            span.p { (share_text(matrix, truth, prediction)) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }))
        }
    }
}

fn pairs(
    confusions: &[Confusion],
    matrix: &ConfusionMatrix,
    classes: &[String],
    most: usize,
) -> Markup {
    if confusions.is_empty() {
        return html! { p { "The model made no mistake." } };
    }
    html! {
        h3 { "Most frequent mistakes" }
        (scrolling("Most frequent mistakes", html! {
            table.numbers.short {
                caption.hidden { "Most frequent mistakes" }
                thead { tr { th scope="col" { "truth" } th.words scope="col" { "the model said" } th scope="col" { "images" } th scope="col" { "of the class" } } }
                tbody {
                    @for confusion in confusions.iter().take(most) {
                        tr {
                            th scope="row" { (name(&classes[confusion.truth])) }
                            td.words { (name(&classes[confusion.prediction])) }
                            td { (grouped(confusion.count)) }
                            td { (share_text(matrix, confusion.truth, confusion.prediction)) "\u{a0}%" }
                        }
                    }
                }
            }
        }))
        @if confusions.len() > most {
            p.note { "and " (grouped((confusions.len() - most) as u64)) " more pairs of classes" }
        }
    }
}

/// Both matrices as drawings; none for too many classes.
pub fn figures(matrix: &ConfusionMatrix, classes: &[String]) -> Vec<Figure> {
    if matrix.classes() > MOST_CLASSES {
        return Vec::new();
    }
    vec![
        drawing(matrix, classes, Cells::Counts),
        drawing(matrix, classes, Cells::Shares),
    ]
}

fn drawing(matrix: &ConfusionMatrix, classes: &[String], cells: Cells) -> Figure {
    let (file, title) = match cells {
        Cells::Counts => ("confusion-counts", "Confusion matrix (images)"),
        Cells::Shares => ("confusion-shares", "Confusion matrix (% of the row)"),
    };
    let cell = if classes.len() < MANY_CLASSES {
        48.0
    } else {
        30.0
    };
    let (left, top) = (150.0, 150.0);
    let side = cell * classes.len() as f64;
    let middle = |index: usize| (index as f64 + 0.5) * cell;
    let label = |class: &String| shortened(&printable(class), LONGEST_NAME);
    let size = if cell < 40.0 { "10" } else { "14" };
    let body = html! {
        text x="14" y="20" { "rows: truth" }
        text x="14" y="40" { "columns: prediction" }
        @for (index, class) in classes.iter().enumerate() {
            @let (x, y) = (rounded(left + middle(index) + 5.0), rounded(top + middle(index) + 5.0));
            text x=(left - 8.0) y=(y) text-anchor="end" { (label(class)) }
            text x=(x) y=(top - 8.0) transform={ "rotate(-60 " (x) " " (top - 8.0) ")" } { (label(class)) }
            @for (prediction, &count) in matrix.row(index).iter().enumerate() {
                @let shade = shade(matrix, index, prediction);
                @let (x, y) = (left + prediction as f64 * cell, top + index as f64 * cell);
                rect class=(shade) x=(rounded(x + 0.5)) y=(rounded(y + 0.5)) width=(cell - 1.0) height=(cell - 1.0) {}
                @if count > 0 {
                    @let words = match cells {
                        Cells::Counts => count.to_string(),
                        Cells::Shares => share_text(matrix, index, prediction),
                    };
                    @let ink = if shade.ends_with(['4', '5']) { "on-dark" } else { "ink" };
                    text class=(ink) x=(rounded(x + cell / 2.0)) y=(rounded(y + cell / 2.0 + 4.5)) text-anchor="middle" style={ "font-size:" (size) "px" } { (words) }
                }
            }
        }
    };
    Figure {
        name: file.to_owned(),
        title: title.to_owned(),
        description: format!(
            "{} of {} images are on the diagonal.",
            grouped(matrix.correct()),
            grouped(matrix.total())
        ),
        width: (left + side + 90.0) as u32,
        height: (top + side + 14.0) as u32,
        body,
    }
}

/// The class of a cell's colour: `d` on the diagonal, `e` off it, darker with the share of the row.
fn shade(matrix: &ConfusionMatrix, truth: usize, prediction: usize) -> &'static str {
    let share = share(matrix, truth, prediction);
    let place = |limits: [f64; 5]| limits.iter().filter(|&&limit| share >= limit).count();
    if truth == prediction {
        ["d0", "d1", "d2", "d3", "d4", "d5"][place([f64::MIN_POSITIVE, 0.4, 0.6, 0.75, 0.9])]
    } else {
        ["e0", "e1", "e2", "e3", "e4", "e5"][place([f64::MIN_POSITIVE, 0.01, 0.04, 0.1, 0.25])]
    }
}

fn share(matrix: &ConfusionMatrix, truth: usize, prediction: usize) -> f64 {
    matrix.count(truth, prediction) as f64 / matrix.support(truth).max(1) as f64
}

/// The share as per cent without the sign, short enough for a cell.
fn share_text(matrix: &ConfusionMatrix, truth: usize, prediction: usize) -> String {
    match share(matrix, truth, prediction) * 100.0 {
        share if share >= 99.95 || share == 0.0 => format!("{share:.0}"),
        share => format!("{share:.1}"),
    }
}

/// What the images of a class were most often taken for wrongly, and how often.
pub fn most_confused_with(matrix: &ConfusionMatrix, truth: usize) -> Option<Confusion> {
    matrix
        .confusions()
        .into_iter()
        .find(|confusion| confusion.truth == truth)
}

/// The most frequent mistake as a sentence.
pub fn sentence(matrix: &ConfusionMatrix, classes: &[String]) -> Markup {
    html! {
        @if let Some(worst) = matrix.confusions().first() {
            "The most frequent mistake: "
            (grouped(worst.count)) @if worst.count == 1 { " image" } @else { " images" }
            " of " strong { (name(&classes[worst.truth])) }
            " (" (percent(share(matrix, worst.truth, worst.prediction), 1)) " of the class) taken for "
            strong { (name(&classes[worst.prediction])) } "."
        } @else {
            "The model made no mistake."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(classes: usize) -> (ConfusionMatrix, Vec<String>) {
        let mut matrix = ConfusionMatrix::new(classes);
        for class in 0..classes as u32 {
            for _ in 0..9 {
                matrix.add(class, class).unwrap();
            }
            matrix.add(class, 0).unwrap();
        }
        let names = (0..classes)
            .map(|class| format!("<class {class}>"))
            .collect();
        (matrix, names)
    }

    #[test]
    fn a_cell_has_its_count_and_its_share() {
        let (matrix, names) = matrix(3);
        let html = section(&matrix, &names).into_string();
        assert!(
            html.contains(
                r#"<td class="d5"><span class="n">9</span><span class="p">90.0</span></td>"#
            ),
            "{html}"
        );
        assert!(
            html.contains(
                r#"<td class="e4"><span class="n">1</span><span class="p">10.0</span></td>"#
            ),
            "{html}"
        );
        assert!(!html.contains("<class"), "{html}");
        assert_eq!(figures(&matrix, &names).len(), 2);
    }

    #[test]
    fn too_many_classes_are_a_list() {
        let (matrix, names) = matrix(60);
        let html = section(&matrix, &names).into_string();
        assert!(!html.contains("<fieldset"));
        assert_eq!(html.matches("<tr>").count(), 1 + LISTED_ALONE);
        assert!(html.contains("and 19 more pairs"));
        assert!(figures(&matrix, &names).is_empty());
    }

    #[test]
    fn the_worst_mistake_is_said_in_words() {
        let (matrix, names) = matrix(2);
        let words = sentence(&matrix, &names).into_string();
        assert!(
            words.contains("1 image of <strong><bdi>&lt;class 1&gt;"),
            "{words}"
        );
        assert_eq!(most_confused_with(&matrix, 1).unwrap().prediction, 0);
        assert_eq!(most_confused_with(&matrix, 0), None);
        let empty = ConfusionMatrix::new(2);
        assert_eq!(
            sentence(&empty, &names).into_string(),
            "The model made no mistake."
        );
        assert!(section(&empty, &names).into_string().contains("no mistake"));
    }
}
