//! The changes as CSV, one file a row, in path order: UTF-8, LF, header first.
//!
//! Columns are `path,change,old_label,new_label,old_confidence,new_confidence,old_status,new_status`, and
//! `old_decision,new_decision` where both files of labels have decisions. Cells are taken over as the labels have them.

use std::io::Write;

use anyhow::{Context as _, Result};
use pipeline::classify::Decision;

use super::change::{Change, Kind, Said};

/// Writes changes.
pub struct ChangesCsv<W: Write> {
    writer: csv::Writer<W>,
    has_decisions: bool,
}

const FAILED: &str = "the changes cannot be written";

impl<W: Write> ChangesCsv<W> {
    /// Starts the file with its header.
    ///
    /// # Errors
    /// When `output` fails.
    pub fn new(output: W, has_decisions: bool) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(output);
        let mut header = vec![
            "path",
            "change",
            "old_label",
            "new_label",
            "old_confidence",
            "new_confidence",
            "old_status",
            "new_status",
        ];
        if has_decisions {
            header.extend(["old_decision", "new_decision"]);
        }
        writer.write_record(header).context(FAILED)?;
        Ok(Self {
            writer,
            has_decisions,
        })
    }

    /// Writes one change.
    ///
    /// # Errors
    /// When the output fails.
    pub fn write(&mut self, change: &Change) -> Result<()> {
        let sides = [change.old.as_ref(), change.new.as_ref()];
        let label = |said: &Said| said.label.clone().map(|(label, _)| label);
        let confidence = |said: &Said| {
            let (_, confidence) = said.label.as_ref()?;
            Some(format!("{confidence:.6}"))
        };
        let status = |said: &Said| Some(said.status.as_str().to_owned());
        let decision = |said: &Said| {
            said.decision
                .map(|decision| Decision::as_str(decision).to_owned())
        };
        let both = |cell: &dyn Fn(&Said) -> Option<String>| {
            sides.map(|said| said.and_then(cell).unwrap_or_default())
        };
        let mut cells = vec![
            change.path.clone(),
            change.kind.map_or("", Kind::as_str).to_owned(),
        ];
        cells.extend(both(&label));
        cells.extend(both(&confidence));
        cells.extend(both(&status));
        if self.has_decisions {
            cells.extend(both(&decision));
        }
        self.writer.write_record(cells).context(FAILED)
    }

    /// Gives the output back, everything written to it.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(self) -> Result<W> {
        self.writer
            .into_inner()
            .map_err(|error| error.into_error())
            .context(FAILED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::change::tests::said;

    #[test]
    fn a_row_has_the_cells_of_both_and_nothing_where_there_is_none() {
        let change = |path: &str, kind, old: Option<Said>, new: Option<Said>| Change {
            path: path.to_owned(),
            kind: Some(kind),
            old,
            new,
        };
        let changes = [
            change(
                "./a,b",
                Kind::Label,
                Some(said("%3Dbag", 0.5)),
                Some(said("boot", 1.0 / 3.0)),
            ),
            change(
                "./c",
                Kind::Lost,
                Some(said("bag", 0.5)),
                Some(said("", 0.0)),
            ),
            change(
                "./d",
                Kind::Added,
                None,
                Some(Said {
                    decision: Some(Decision::Review),
                    ..said("bag", 1.0)
                }),
            ),
        ];
        let text = |has_decisions| {
            let mut output = ChangesCsv::new(Vec::new(), has_decisions).unwrap();
            for change in &changes {
                output.write(change).unwrap();
            }
            String::from_utf8(output.finish().unwrap()).unwrap()
        };
        insta::assert_snapshot!(text(false), @r#"
        path,change,old_label,new_label,old_confidence,new_confidence,old_status,new_status
        "./a,b",label,%3Dbag,boot,0.500000,0.333333,ok,ok
        ./c,lost,bag,,0.500000,,ok,corrupt
        ./d,added,,bag,,1.000000,,ok
        "#);
        assert!(
            text(true).ends_with("\n./d,added,,bag,,1.000000,,ok,,review\n"),
            "{}",
            text(true)
        );
    }
}
