//! Figures for a person: tables for a terminal, and the confusion matrix as CSV for a spreadsheet.
//!
//! Everything is plain text; colour carries nothing. What does not fit is left out openly: the table says how much is missing.
//! Nothing here writes to a terminal or asks for its size.

use std::io::Write;

use pipeline::classify::cell_text;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{ConfusionMatrix, Evaluation};

/// Room for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Columns of the terminal. Class names are shortened to fit; numbers never are, so a terminal narrower than about 45 columns wraps.
    pub width: usize,
    /// The most classes, or kinds of confusion, to list.
    pub rows: usize,
}

impl Default for Space {
    /// 80 columns, 40 rows.
    fn default() -> Self {
        Self {
            width: 80,
            rows: 40,
        }
    }
}

/// Columns a shortened class name keeps at least.
const SHORTEST_NAME: usize = 8;
/// Blanks between two columns.
const GAP: usize = 2;

/// The figures of the whole set on one line, without a line end.
pub fn summary(evaluation: &Evaluation) -> String {
    let top_k: String = evaluation
        .top_k
        .iter()
        .filter(|top| top.k > 1)
        .map(|top| format!(", top-{} {:.4}", top.k, top.accuracy))
        .collect();
    format!(
        "accuracy {:.4}{top_k}, macro F1 {:.4}, loss {:.4} on {} images",
        evaluation.accuracy, evaluation.macro_f1, evaluation.loss, evaluation.images
    )
}

/// Precision, recall and F1 of each class and their means, one line each.
///
/// With more classes than `space.rows` the ones with the lowest F1 are listed, worst first, and a last line says so.
pub fn class_table(evaluation: &Evaluation, space: Space) -> String {
    let mut classes: Vec<_> = evaluation.classes.iter().collect();
    let shortened = classes.len() > space.rows;
    if shortened {
        classes.sort_by(|a, b| a.f1.total_cmp(&b.f1));
        classes.truncate(space.rows);
    }
    let mut rows = vec![
        ["class", "images", "precision", "recall", "F1"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let figures = |precision: f64, recall: f64, f1: f64| {
        [precision, recall, f1].map(|figure| format!("{figure:.4}"))
    };
    for class in classes {
        let mut row = vec![printable(&class.name), class.images.to_string()];
        row.extend(figures(class.precision, class.recall, class.f1));
        rows.push(row);
    }
    let mut means = vec!["mean".to_owned(), evaluation.images.to_string()];
    means.extend(figures(
        evaluation.macro_precision,
        evaluation.macro_recall,
        evaluation.macro_f1,
    ));
    rows.push(means);
    let mut text = table(rows, 1, space.width);
    if shortened {
        text += &format!(
            "{} of {} classes, lowest F1 first; the mean is over all\n",
            space.rows,
            evaluation.classes.len()
        );
    }
    text
}

/// The confusion matrix with names along both sides where it fits, with numbers for columns where only that fits, and otherwise
/// the most frequent confusions as a list. A count of 0 is a dot.
///
/// `class_names` are in the order of the matrix; a missing one shows as its number.
pub fn confusion_table(matrix: &ConfusionMatrix, class_names: &[String], space: Space) -> String {
    let names: Vec<String> = (0..matrix.classes())
        .map(|class| {
            class_names
                .get(class)
                .map_or_else(|| class.to_string(), |name| printable(name))
        })
        .collect();
    if names.len() <= space.rows {
        for layout in [
            named_matrix(matrix, &names),
            numbered_matrix(matrix, &names),
        ] {
            if narrowest(&layout.rows) <= space.width {
                return layout.title.to_owned() + &table(layout.rows, 1, space.width);
            }
        }
    }
    confusion_list(matrix, &names, space)
}

/// Writes the whole confusion matrix as CSV: a header `truth,<class>,…` and a row per true class.
///
/// UTF-8, LF line ends; names are escaped as in the file of labels, by [`cell_text`].
///
/// # Errors
/// When `writer` fails.
pub fn write_confusion_csv(
    matrix: &ConfusionMatrix,
    class_names: &[String],
    writer: impl Write,
) -> csv::Result<()> {
    let name = |class: usize| {
        class_names
            .get(class)
            .map_or_else(|| class.to_string(), |name| cell_text(name))
    };
    let mut csv = csv::Writer::from_writer(writer);
    csv.write_field("truth")?;
    csv.write_record((0..matrix.classes()).map(name))?;
    for truth in 0..matrix.classes() {
        csv.write_field(name(truth))?;
        csv.write_record(matrix.row(truth).iter().map(u64::to_string))?;
    }
    csv.flush()?;
    Ok(())
}

struct Layout {
    title: &'static str,
    rows: Vec<Vec<String>>,
}

fn named_matrix(matrix: &ConfusionMatrix, names: &[String]) -> Layout {
    let header = std::iter::once(String::new())
        .chain(names.iter().cloned())
        .collect();
    let body = names
        .iter()
        .enumerate()
        .map(|(truth, name)| labelled_counts(matrix, truth, name.clone()));
    Layout {
        title: "rows: truth, columns: prediction\n",
        rows: std::iter::once(header).chain(body).collect(),
    }
}

fn numbered_matrix(matrix: &ConfusionMatrix, names: &[String]) -> Layout {
    let header = std::iter::once(String::new())
        .chain((0..names.len()).map(|class| class.to_string()))
        .collect();
    let digits = names.len().saturating_sub(1).to_string().len();
    let body = names
        .iter()
        .enumerate()
        .map(|(truth, name)| labelled_counts(matrix, truth, format!("{truth:>digits$} {name}")));
    Layout {
        title: "rows: truth, columns: prediction by number\n",
        rows: std::iter::once(header).chain(body).collect(),
    }
}

fn labelled_counts(matrix: &ConfusionMatrix, truth: usize, label: String) -> Vec<String> {
    let counts = matrix.row(truth).iter().map(|&count| {
        if count == 0 {
            "·".to_owned()
        } else {
            count.to_string()
        }
    });
    std::iter::once(label).chain(counts).collect()
}

fn confusion_list(matrix: &ConfusionMatrix, names: &[String], space: Space) -> String {
    let confusions = matrix.confusions();
    if confusions.is_empty() {
        return format!(
            "{} classes, no image taken for another class\n",
            names.len()
        );
    }
    let mut rows = vec![
        ["truth", "taken for", "images", "of truth"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for confusion in confusions.iter().take(space.rows) {
        let share = 100.0 * confusion.count as f64 / matrix.support(confusion.truth) as f64;
        rows.push(vec![
            names[confusion.truth].clone(),
            names[confusion.prediction].clone(),
            confusion.count.to_string(),
            format!("{share:.1} %"),
        ]);
    }
    let mut text = format!(
        "a matrix of {} classes does not fit here; the most frequent confusions:\n",
        names.len()
    );
    text += &table(rows, 2, space.width);
    let rest = confusions.iter().skip(space.rows);
    let (kinds, images) = rest.fold((0, 0), |(kinds, images), confusion| {
        (kinds + 1, images + confusion.count)
    });
    if kinds > 0 {
        text += &format!("and {images} images in {kinds} less frequent pairs of classes\n");
    }
    text
}

/// Lays out rows of cells: the first `text_columns` left-aligned and shortened to fit `width`, the rest right-aligned and whole.
pub(crate) fn table(rows: Vec<Vec<String>>, text_columns: usize, width: usize) -> String {
    let mut widths = column_widths(&rows);
    let mut excess =
        (widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)).saturating_sub(width);
    // The widest text column gives way first, one column of the terminal at a time.
    while excess > 0 {
        let Some(widest) = widths.iter_mut().take(text_columns).max() else {
            break;
        };
        if *widest <= SHORTEST_NAME {
            break;
        }
        *widest -= 1;
        excess -= 1;
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                line += &" ".repeat(GAP);
            }
            let cell = shorten(cell, width);
            let blanks = " ".repeat(width - cell.width());
            line += &if column < text_columns {
                cell + &blanks
            } else {
                blanks + &cell
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn column_widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.width())
                .max()
                .unwrap_or(0)
        })
        .collect()
}

/// Width of a table whose first column is as short as it may be.
fn narrowest(rows: &[Vec<String>]) -> usize {
    let widths = column_widths(rows);
    let names = widths.first().copied().unwrap_or(0).min(SHORTEST_NAME);
    names
        + widths
            .iter()
            .skip(1)
            .map(|width| width + GAP)
            .sum::<usize>()
}

/// Cuts `text` to `width` columns, the last of them an ellipsis.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

/// A class name that cannot move the cursor: class names are folder names, and those may hold anything.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::metrics::{Scores, Tally};

    fn fashion() -> Vec<String> {
        [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Every image of class `c` is taken for itself, except every fifth, which is taken for the class after next.
    fn evaluation(class_names: &[String], images_per_class: usize) -> Evaluation {
        let classes = class_names.len();
        let mut tally = Tally::new(classes, Scores::Logits);
        for truth in 0..classes {
            for image in 0..images_per_class {
                let mut scores = vec![0.0; classes];
                let prediction = if image % 5 == 4 {
                    (truth + 2) % classes
                } else {
                    truth
                };
                scores[prediction] = 3.0;
                tally.add(&scores, truth as u32).unwrap();
            }
        }
        tally.finish(class_names, &[1, 3]).unwrap()
    }

    fn widest_line(text: &str) -> usize {
        text.lines().map(UnicodeWidthStr::width).max().unwrap()
    }

    #[test]
    fn summary_is_one_line() {
        assert_snapshot!(summary(&evaluation(&fashion(), 100)), @"accuracy 0.8000, top-3 0.8400, macro F1 0.8000, loss 0.9702 on 1000 images");
    }

    #[test]
    fn class_table_lists_every_class_in_order() {
        assert_snapshot!(class_table(&evaluation(&fashion(), 100), Space::default()), @r"
        class        images  precision  recall      F1
        T-shirt/top     100     0.8000  0.8000  0.8000
        Trouser         100     0.8000  0.8000  0.8000
        Pullover        100     0.8000  0.8000  0.8000
        Dress           100     0.8000  0.8000  0.8000
        Coat            100     0.8000  0.8000  0.8000
        Sandal          100     0.8000  0.8000  0.8000
        Shirt           100     0.8000  0.8000  0.8000
        Sneaker         100     0.8000  0.8000  0.8000
        Bag             100     0.8000  0.8000  0.8000
        Ankle boot      100     0.8000  0.8000  0.8000
        mean           1000     0.8000  0.8000  0.8000
        ");
    }

    #[test]
    fn class_table_of_many_classes_shows_the_worst_and_says_so() {
        let mut tally = Tally::new(4, Scores::Logits);
        for (prediction, truth) in [(0, 0), (1, 1), (1, 1), (0, 1), (3, 2), (3, 3)] {
            let mut scores = [0.0; 4];
            scores[prediction] = 1.0;
            tally.add(&scores, truth).unwrap();
        }
        let evaluation = tally.finish(&fashion()[..4], &[]).unwrap();
        assert_snapshot!(class_table(&evaluation, Space { width: 80, rows: 2 }), @r"
        class        images  precision  recall      F1
        Pullover          1     0.0000  0.0000  0.0000
        T-shirt/top       1     0.5000  1.0000  0.6667
        mean              6     0.5000  0.6667  0.5333
        2 of 4 classes, lowest F1 first; the mean is over all
        ");
    }

    #[test]
    fn class_table_shortens_names_never_numbers() {
        assert_snapshot!(class_table(&evaluation(&fashion()[..3], 100), Space { width: 44, rows: 40 }), @r"
        class      images  precision  recall      F1
        T-shirt/…     100     0.8000  0.8000  0.8000
        Trouser       100     0.8000  0.8000  0.8000
        Pullover      100     0.8000  0.8000  0.8000
        mean          300     0.8000  0.8000  0.8000
        ");
    }

    #[test]
    fn confusion_matrix_with_names() {
        assert_snapshot!(confusion_table(&evaluation(&fashion()[..3], 100).confusion_matrix, &fashion(), Space::default()), @r"
        rows: truth, columns: prediction
                     T-shirt/top  Trouser  Pullover
        T-shirt/top           80        ·        20
        Trouser               20       80         ·
        Pullover               ·       20        80
        ");
    }

    #[test]
    fn confusion_matrix_with_numbers_where_names_do_not_fit() {
        let matrix = evaluation(&fashion(), 1000).confusion_matrix;
        assert_snapshot!(confusion_table(&matrix, &fashion(), Space::default()), @r"
        rows: truth, columns: prediction by number
                         0    1    2    3    4    5    6    7    8    9
        0 T-shirt/top  800    ·  200    ·    ·    ·    ·    ·    ·    ·
        1 Trouser        ·  800    ·  200    ·    ·    ·    ·    ·    ·
        2 Pullover       ·    ·  800    ·  200    ·    ·    ·    ·    ·
        3 Dress          ·    ·    ·  800    ·  200    ·    ·    ·    ·
        4 Coat           ·    ·    ·    ·  800    ·  200    ·    ·    ·
        5 Sandal         ·    ·    ·    ·    ·  800    ·  200    ·    ·
        6 Shirt          ·    ·    ·    ·    ·    ·  800    ·  200    ·
        7 Sneaker        ·    ·    ·    ·    ·    ·    ·  800    ·  200
        8 Bag          200    ·    ·    ·    ·    ·    ·    ·  800    ·
        9 Ankle boot     ·  200    ·    ·    ·    ·    ·    ·    ·  800
        ");
        let narrow = confusion_table(
            &matrix,
            &fashion(),
            Space {
                width: 60,
                rows: 40,
            },
        );
        assert!(narrow.contains("T-shirt…"), "{narrow}");
        assert!(widest_line(&narrow) <= 60, "{narrow}");
    }

    #[test]
    fn confusion_matrix_that_does_not_fit_becomes_a_list_that_adds_up() {
        let names: Vec<String> = (0..200)
            .map(|class| format!("category number {class}"))
            .collect();
        let matrix = evaluation(&names, 10).confusion_matrix;
        let text = confusion_table(&matrix, &names, Space { width: 60, rows: 3 });
        assert_snapshot!(text, @r"
        a matrix of 200 classes does not fit here; the most frequent confusions:
        truth              taken for          images  of truth
        category number 0  category number 2       2    20.0 %
        category number 1  category number 3       2    20.0 %
        category number 2  category number 4       2    20.0 %
        and 394 images in 197 less frequent pairs of classes
        ");
        assert_eq!(3 * 2 + 394, matrix.total() - matrix.correct());
    }

    #[test]
    fn perfect_result_of_many_classes_has_no_list() {
        let matrix = evaluation(&vec![String::new(); 100], 1).confusion_matrix;
        assert_snapshot!(confusion_table(&matrix, &[], Space::default()), @"100 classes, no image taken for another class");
    }

    #[test]
    fn wide_and_hostile_names_keep_columns_straight() {
        let names = ["帽子", "\u{1b}[31mred\n", "e\u{301}te"]
            .map(str::to_owned)
            .to_vec();
        let text = confusion_table(
            &evaluation(&names, 10).confusion_matrix,
            &names,
            Space::default(),
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let mut widths: Vec<usize> = text.lines().skip(1).map(UnicodeWidthStr::width).collect();
        widths.dedup();
        assert_eq!(widths.len(), 1, "{text}");
    }

    #[test]
    fn names_are_cut_between_characters_to_the_column() {
        assert_eq!(shorten("Trouser", 7), "Trouser");
        assert_eq!(shorten("Trousers", 7), "Trouse…");
        assert_eq!(shorten("帽子帽子", 6), "帽子…");
        assert_eq!(shorten("帽子帽子", 7), "帽子帽…");
    }

    #[test]
    fn csv_has_a_header_and_a_row_per_class() {
        let names = ["plain", "with, comma", "=SUM(A1)\n"].map(str::to_owned);
        let mut bytes = Vec::new();
        write_confusion_csv(&evaluation(&names, 10).confusion_matrix, &names, &mut bytes).unwrap();
        assert_snapshot!(String::from_utf8(bytes).unwrap(), @r#"
        truth,plain,"with, comma",%3DSUM(A1)%0A
        plain,8,0,2
        "with, comma",2,8,0
        %3DSUM(A1)%0A,0,2,8
        "#);
    }

    #[test]
    fn csv_reports_a_writer_that_fails() {
        let mut room_for_nothing: [u8; 0] = [];
        let matrix = ConfusionMatrix::new(2);
        assert!(write_confusion_csv(&matrix, &fashion(), room_for_nothing.as_mut_slice()).is_err());
    }
}
