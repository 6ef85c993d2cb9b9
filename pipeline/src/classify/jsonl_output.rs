//! The labels as JSON lines: the columns of the CSV as fields of one object a line, in the same order.
//!
//! Texts are those of the CSV, so one decoding serves both. A confidence is a number with six decimals. What is empty there is
//! `null` here.

use std::io::Write;

use anyhow::Result;

use super::path_text::{cell_text, path_text};
use super::rows::{Outcome, Row};

/// Writes rows as JSON lines.
pub struct JsonlOutput<W: Write> {
    output: W,
    /// Each label as a JSON string.
    labels: Vec<String>,
    top_k: usize,
}

impl<W: Write> JsonlOutput<W> {
    /// Starts the file. `labels` are the class names, `top_k` how many of them a row has.
    pub fn new(output: W, labels: &[String], top_k: usize) -> Self {
        Self {
            output,
            labels: labels.iter().map(|label| json(&cell_text(label))).collect(),
            top_k,
        }
    }

    /// Writes one row.
    pub fn write(&mut self, row: &Row) -> Result<()> {
        let (best, error) = match &row.outcome {
            Outcome::Labelled { best, damage } => (best.as_slice(), damage.as_deref()),
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
        writeln!(self.output, ",\"status\":\"{status}\",\"error\":{error}}}")?;
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
    use crate::classify::csv_output::tests::{labelled, row};
    use crate::decode::{Fault, Status};

    #[test]
    fn a_line_has_the_fields_of_the_csv_in_their_order() {
        let labels = ["=shoe".to_owned(), "bag \"big\"".to_owned()];
        let mut output = JsonlOutput::new(Vec::new(), &labels, 2);
        output.write(&row("a\n\"x.jpg", labelled(None))).unwrap();
        let fault = Fault::new(Status::Corrupt, "line 1\nline 2");
        output.write(&row("z.jpg", Outcome::Failed(fault))).unwrap();
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
}
