//! The CSV file of labels, byte for byte: UTF-8, LF, header first, RFC 4180 quoting, one line a row.
//!
//! Columns are `path,label,confidence`, then `label_2,confidence_2` and so on, then `status,error`, `decision` where
//! thresholds are used, and `category,category_id,category_confidence` where there is a taxonomy. Confidences have six decimals. A row that could not be classified has an empty label, confidence,
//! decision and category.

use std::io::Write;

use anyhow::Result;

use super::columns::Columns;
use super::decision::Decision;
use super::path_text::{cell_text, path_text};
use super::rows::{Outcome, Row};
use super::ruling::Ruling;

/// Writes rows as CSV.
pub struct CsvOutput<W: Write> {
    writer: csv::Writer<W>,
    labels: Vec<String>,
    top_k: usize,
    decision: bool,
    /// Path and external id of each category, where rows have one.
    categories: Option<Vec<(String, String)>>,
}

impl<W: Write> CsvOutput<W> {
    /// Starts the file with its header.
    pub fn new(output: W, columns: Columns<'_>) -> Result<Self> {
        Self::with_terminator(output, columns, csv::Terminator::Any(b'\n'))
    }

    /// The same for Excel, which wants a byte order mark before the header and CRLF at the end of a line.
    pub fn for_excel(mut output: W, columns: Columns<'_>) -> Result<Self> {
        output.write_all("\u{feff}".as_bytes())?;
        Self::with_terminator(output, columns, csv::Terminator::CRLF)
    }

    fn with_terminator(
        output: W,
        columns: Columns<'_>,
        terminator: csv::Terminator,
    ) -> Result<Self> {
        let Columns {
            labels,
            top_k,
            decision,
            taxonomy,
        } = columns;
        let mut writer = csv::WriterBuilder::new()
            .terminator(terminator)
            .from_writer(output);
        writer.write_field("path")?;
        for place in 1..=top_k {
            let column = |name: &str| {
                if place == 1 {
                    name.to_owned()
                } else {
                    format!("{name}_{place}")
                }
            };
            writer.write_field(column("label"))?;
            writer.write_field(column("confidence"))?;
        }
        writer.write_field("status")?;
        writer.write_field("error")?;
        if decision {
            writer.write_field("decision")?;
        }
        if taxonomy.is_some() {
            for column in ["category", "category_id", "category_confidence"] {
                writer.write_field(column)?;
            }
        }
        end_record(&mut writer)?;
        Ok(Self {
            writer,
            labels: labels.iter().map(|label| cell_text(label)).collect(),
            top_k,
            decision,
            categories: taxonomy.map(|taxonomy| taxonomy.cells().collect()),
        })
    }

    /// Writes one row. What was ruled about it is left out where there are no such columns.
    pub fn write(&mut self, row: &Row, ruling: Ruling) -> Result<()> {
        self.writer.write_field(path_text(&row.source.shown))?;
        let (best, error) = match &row.outcome {
            Outcome::Labelled { best, damage, .. } => {
                (best.as_slice(), damage.as_deref().unwrap_or(""))
            }
            Outcome::Failed(fault) => (&[][..], fault.message.as_str()),
        };
        for place in 0..self.top_k {
            match best.get(place) {
                Some(candidate) => {
                    self.writer.write_field(&self.labels[candidate.class])?;
                    self.writer
                        .write_field(format!("{:.6}", candidate.confidence))?;
                }
                None => {
                    self.writer.write_field("")?;
                    self.writer.write_field("")?;
                }
            }
        }
        self.writer.write_field(row.outcome.status().as_str())?;
        self.writer.write_field(cell_text(error))?;
        if self.decision {
            self.writer
                .write_field(ruling.decision.map_or("", Decision::as_str))?;
        }
        if let Some(categories) = &self.categories {
            let placed = ruling.category;
            let cells = placed.and_then(|placed| categories.get(placed.category));
            let (path, id) = cells.map_or(("", ""), |(path, id)| (path, id));
            self.writer.write_field(path)?;
            self.writer.write_field(id)?;
            self.writer.write_field(
                placed.map_or_else(String::new, |placed| format!("{:.6}", placed.confidence)),
            )?;
        }
        end_record(&mut self.writer)
    }

    /// Gives the output back, everything written to it.
    pub fn finish(self) -> Result<W> {
        self.writer
            .into_inner()
            .map_err(|error| error.into_error().into())
    }
}

fn end_record(writer: &mut csv::Writer<impl Write>) -> Result<()> {
    writer.write_record(None::<&[u8]>)?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::classify::rows::{Candidate, Origin};
    use crate::classify::walk::Source;
    use crate::decode::{Fault, Stamp, Status};

    pub(crate) fn row(shown: &str, outcome: Outcome) -> Row {
        Row {
            source: Source {
                path: shown.into(),
                shown: shown.into(),
            },
            stamp: Stamp::default(),
            content: None,
            outcome,
            origin: Origin::ThisRun,
        }
    }

    pub(crate) fn columns(labels: &[String], top_k: usize) -> Columns<'_> {
        Columns {
            labels,
            top_k,
            decision: false,
            taxonomy: None,
        }
    }

    pub(crate) fn decided(decision: Decision) -> Ruling {
        Ruling {
            decision: Some(decision),
            category: None,
        }
    }

    pub(crate) fn labelled(damage: Option<&str>) -> Outcome {
        let best = vec![
            Candidate {
                class: 1,
                confidence: 0.75,
            },
            Candidate {
                class: 0,
                confidence: 1.0 / 3.0,
            },
        ];
        Outcome::Labelled {
            best,
            above: vec![0.8, 1.0],
            familiarity: 2.0,
            damage: damage.map(str::to_owned),
        }
    }

    #[test]
    fn excel_gets_its_marks() {
        let labels = ["a".into(), "é".into()];
        let mut output = CsvOutput::for_excel(Vec::new(), columns(&labels, 1)).unwrap();
        output
            .write(&row("x.jpg", labelled(None)), Ruling::default())
            .unwrap();
        assert_eq!(
            String::from_utf8(output.finish().unwrap()).unwrap(),
            "\u{feff}path,label,confidence,status,error\r\n./x.jpg,é,0.750000,ok,\r\n"
        );
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let labels = ["=shoe".to_owned(), "bag, \"big\"".to_owned()];
        let mut output = CsvOutput::new(Vec::new(), columns(&labels, 2)).unwrap();
        output
            .write(&row("a/x.jpg", labelled(None)), Ruling::default())
            .unwrap();
        output
            .write(
                &row("=y,\n.jpg", labelled(Some("cut short"))),
                Ruling::default(),
            )
            .unwrap();
        let fault = Fault::new(Status::Corrupt, "line 1\nline 2");
        output
            .write(&row("z.jpg", Outcome::Failed(fault)), Ruling::default())
            .unwrap();
        let text = String::from_utf8(output.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "path,label,confidence,label_2,confidence_2,status,error\n\
             ./a/x.jpg,\"bag, \"\"big\"\"\",0.750000,%3Dshoe,0.333333,ok,\n\
             \"./=y,%0A.jpg\",\"bag, \"\"big\"\"\",0.750000,%3Dshoe,0.333333,degraded,cut short\n\
             ./z.jpg,,,,,corrupt,line 1%0Aline 2\n"
        );
    }

    #[test]
    fn a_decision_stands_at_the_end_and_is_empty_where_there_is_no_label() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let wanted = Columns {
            decision: true,
            ..columns(&labels, 1)
        };
        let mut output = CsvOutput::new(Vec::new(), wanted).unwrap();
        for (name, decision) in [("x", Decision::Accept), ("y", Decision::Review)] {
            output
                .write(&row(name, labelled(None)), decided(decision))
                .unwrap();
        }
        let fault = Outcome::Failed(Fault::new(Status::Corrupt, "no"));
        output.write(&row("z", fault), Ruling::default()).unwrap();
        assert_eq!(
            String::from_utf8(output.finish().unwrap()).unwrap(),
            "path,label,confidence,status,error,decision\n\
             ./x,b,0.750000,ok,,accept\n\
             ./y,b,0.750000,ok,,review\n\
             ./z,,,corrupt,no,\n"
        );
    }
}
