//! The labels as JSON lines: the columns of the CSV as fields of one object a line, in the same order.
//!
//! Texts are those of the CSV, so one decoding serves both. A confidence is a number with six decimals. What is empty there is
//! `null` here.

use std::io::Write;

use anyhow::Result;

use super::columns::Columns;
use super::decision::Decision;
use super::path_text::{cell_text, path_text};
use super::rows::{Outcome, Row};
use super::ruling::Ruling;

/// Writes rows as JSON lines.
pub struct JsonlOutput<W: Write> {
    output: W,
    /// Each label as a JSON string.
    labels: Vec<String>,
    top_k: usize,
    decision: bool,
    /// Path and external id of each category as JSON, where rows have one.
    categories: Option<Vec<(String, String)>>,
}

impl<W: Write> JsonlOutput<W> {
    /// Starts the file.
    pub fn new(output: W, columns: Columns<'_>) -> Self {
        let Columns {
            labels,
            top_k,
            decision,
            taxonomy,
        } = columns;
        Self {
            output,
            labels: labels.iter().map(|label| json(&cell_text(label))).collect(),
            top_k,
            decision,
            categories: taxonomy.map(|taxonomy| {
                let id = |id: String| match id.as_str() {
                    "" => "null".to_owned(),
                    id => json(id),
                };
                taxonomy
                    .cells()
                    .map(|(path, external_id)| (json(&path), id(external_id)))
                    .collect()
            }),
        }
    }

    /// Writes one row. What was ruled about it is left out where there are no such fields.
    pub fn write(&mut self, row: &Row, ruling: Ruling) -> Result<()> {
        let (best, error) = match &row.outcome {
            Outcome::Labelled { best, damage, .. } => (best.as_slice(), damage.as_deref()),
            Outcome::Failed(fault) => (&[][..], Some(fault.message.as_str())),
        };
        write!(
            self.output,
            "{{\"path\":{}",
            json(&path_text(&row.source.shown))
        )?;
        for place in 0..self.top_k {
            let suffix = match place {
                0 => String::new(),
                _ => format!("_{}", place + 1),
            };
            match best.get(place) {
                Some(candidate) => write!(
                    self.output,
                    ",\"label{suffix}\":{},\"confidence{suffix}\":{:.6}",
                    self.labels[candidate.class], candidate.confidence
                )?,
                None => write!(
                    self.output,
                    ",\"label{suffix}\":null,\"confidence{suffix}\":null"
                )?,
            }
        }
        let error = error.map_or_else(|| "null".to_owned(), |error| json(&cell_text(error)));
        let status = row.outcome.status();
        write!(self.output, ",\"status\":\"{status}\",\"error\":{error}")?;
        match ruling.decision.map(Decision::as_str) {
            _ if !self.decision => {}
            Some(decision) => write!(self.output, ",\"decision\":\"{decision}\"")?,
            None => write!(self.output, ",\"decision\":null")?,
        }
        if let Some(categories) = &self.categories {
            let placed = ruling.category.and_then(|placed| {
                let (path, id) = categories.get(placed.category)?;
                Some((
                    path.as_str(),
                    id.as_str(),
                    format!("{:.6}", placed.confidence),
                ))
            });
            let (path, id, confidence) =
                placed.unwrap_or_else(|| ("null", "null", "null".to_owned()));
            write!(
                self.output,
                ",\"category\":{path},\"category_id\":{id},\"category_confidence\":{confidence}"
            )?;
        }
        writeln!(self.output, "}}")?;
        Ok(())
    }

    /// Gives the output back, everything written to it.
    pub fn finish(mut self) -> Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::csv_output::tests::{columns, decided, labelled, row};
    use crate::decode::{Fault, Status};

    #[test]
    fn a_line_has_the_fields_of_the_csv_in_their_order() {
        let labels = ["=shoe".to_owned(), "bag \"big\"".to_owned()];
        let mut output = JsonlOutput::new(Vec::new(), columns(&labels, 2));
        output
            .write(&row("a\n\"x.jpg", labelled(None)), Ruling::default())
            .unwrap();
        let fault = Fault::new(Status::Corrupt, "line 1\nline 2");
        output
            .write(&row("z.jpg", Outcome::Failed(fault)), Ruling::default())
            .unwrap();
        let text = String::from_utf8(output.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"path\":\"./a%0A\\\"x.jpg\",\"label\":\"bag \\\"big\\\"\",\"confidence\":0.750000,\
             \"label_2\":\"%3Dshoe\",\"confidence_2\":0.333333,\"status\":\"ok\",\"error\":null}\n\
             {\"path\":\"./z.jpg\",\"label\":null,\"confidence\":null,\"label_2\":null,\"confidence_2\":null,\
             \"status\":\"corrupt\",\"error\":\"line 1%0Aline 2\"}\n"
        );
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn a_decision_is_the_last_field() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let wanted = Columns {
            decision: true,
            ..columns(&labels, 1)
        };
        let mut output = JsonlOutput::new(Vec::new(), wanted);
        let good = row("x", labelled(None));
        output.write(&good, decided(Decision::Accept)).unwrap();
        let fault = Outcome::Failed(Fault::new(Status::Corrupt, "no"));
        output.write(&row("z", fault), Ruling::default()).unwrap();
        assert_eq!(
            String::from_utf8(output.finish().unwrap()).unwrap(),
            "{\"path\":\"./x\",\"label\":\"b\",\"confidence\":0.750000,\"status\":\"ok\",\"error\":null,\
             \"decision\":\"accept\"}\n\
             {\"path\":\"./z\",\"label\":null,\"confidence\":null,\"status\":\"corrupt\",\"error\":\"no\",\
             \"decision\":null}\n"
        );
    }
}
