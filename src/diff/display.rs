//! The comparison as a few lines and tables for a terminal.

use std::fmt::Write as _;

use super::change::Kind;
use super::figures::Figures;
use crate::metrics::display::{Space, printable, table};

/// Pairs of labels that are listed.
const PAIRS: usize = 12;

/// Everything a person wants to know first: how many files changed, in which way, from which label to which.
pub fn text(figures: &Figures, space: Space) -> String {
    let mut text = headline(figures);
    text.push('\n');
    text += &kinds(figures, space);
    text += &pairs(figures, space);
    text += &moves(figures);
    text
}

/// How many of how many files changed their category, on one line.
pub fn headline(figures: &Figures) -> String {
    let Figures {
        files,
        old_files,
        new_files,
        ..
    } = figures;
    format!(
        "{files} files in both ({old_files} old, {new_files} new): {} in another category, {}\n",
        figures.changed(),
        share(figures.changed(), *files)
    )
}

fn kinds(figures: &Figures, space: Space) -> String {
    let mut rows = vec![
        ["change", "", "files", "of both"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for kind in Kind::ALL.into_iter().filter(|&kind| figures.with(kind) > 0) {
        let is_in_both = !matches!(kind, Kind::Added | Kind::Gone);
        rows.push(vec![
            kind.as_str().to_owned(),
            kind.meaning().to_owned(),
            figures.with(kind).to_string(),
            if is_in_both {
                share(figures.with(kind), figures.files)
            } else {
                String::new()
            },
        ]);
    }
    match rows.len() {
        1 => "no file changed\n".to_owned(),
        _ => table(rows, 2, space.width),
    }
}

fn pairs(figures: &Figures, space: Space) -> String {
    let pairs = figures.relabellings();
    if pairs.is_empty() {
        return String::new();
    }
    let most = PAIRS.min(space.rows);
    let mut rows = vec![
        ["old label", "new label", "files", "of the old label"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for &(old, new, count) in pairs.iter().take(most) {
        rows.push(vec![
            printable(figures.label_name(old)),
            printable(figures.label_name(new)),
            count.to_string(),
            share(count, figures.with_old_label(old)),
        ]);
    }
    let mut text = format!("\n{}", table(rows, 2, space.width));
    let rest = pairs.get(most..).unwrap_or_default();
    if !rest.is_empty() {
        let files: u64 = rest.iter().map(|(_, _, count)| count).sum();
        let _ = writeln!(
            text,
            "and {files} files in {} less frequent pairs of labels",
            rest.len()
        );
    }
    text
}

fn moves(figures: &Figures) -> String {
    let moves = &figures.moves;
    match moves.means() {
        None => String::new(),
        Some([old, new]) => format!(
            "\nconfidence of the {} files that keep their label: mean {old:.4} before, {new:.4} now; {} rose, {} fell\n",
            moves.files, moves.rose, moves.fell
        ),
    }
}

/// A share as per cent; nothing of nothing is none.
fn share(count: u64, of: u64) -> String {
    let percent = 100.0 * count as f64 / of.max(1) as f64;
    match count {
        0 => "0 %".to_owned(),
        // What is there shall not look as if it were not.
        _ if percent < 0.01 => "below 0.01 %".to_owned(),
        _ => format!("{percent:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::figures::tests::{example, figures};

    #[test]
    fn figures_and_tables_follow_each_other() {
        insta::assert_snapshot!(text(&example(), Space::default()), @r"
        7 files in both (8 old, 8 new): 4 in another category, 57.14 %

        change                                      files  of both
        label       another label                       2  28.57 %
        lost        no label any more                   1  14.29 %
        gained      a label for the first time          1  14.29 %
        status      the same label, another status      1  14.29 %
        confidence  only another confidence             2  28.57 %
        added       only in the new labels              1
        gone        only in the old labels              1

        old label  new label  files  of the old label
        shoe       boot           2           66.67 %
        no label   bag            1          100.00 %
        bag        no label       1          100.00 %

        confidence of the 3 files that keep their label: mean 0.6333 before, 0.5167 now; 1 rose, 1 fell
        ");
    }

    #[test]
    fn nothing_changed_is_said() {
        const LABELS: &str = "path,label,confidence,status,error\n./a,shoe,0.9,ok,\n";
        insta::assert_snapshot!(text(&figures(LABELS, LABELS), Space::default()), @r"
        1 files in both (1 old, 1 new): 0 in another category, 0 %

        no file changed

        confidence of the 1 files that keep their label: mean 0.9000 before, 0.9000 now; 0 rose, 0 fell
        ");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let labels = |first: usize| {
            let rows: String = (0..20)
                .map(|file| format!("./{file:02},class {},0.9,ok,\n", first + file))
                .collect();
            format!("path,label,confidence,status,error\n{rows}")
        };
        let text = text(&figures(&labels(0), &labels(1)), Space::default());
        assert!(
            text.contains("and 8 files in 8 less frequent pairs of labels"),
            "{text}"
        );
    }

    #[test]
    fn few_of_many_are_not_none() {
        assert_eq!(
            [share(0, 0), share(1, 4), share(1, 1_000_000)],
            ["0 %", "25.00 %", "below 0.01 %"]
        );
    }
}
