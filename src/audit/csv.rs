//! The findings as CSV: a row for every image, the likeliest wrong labels first.

use std::io::Write;

use anyhow::Result;
use pipeline::classify::cell_text;

use super::Finding;
use crate::dataset::{Dataset, Skipped};

const HEADER: [&str; 8] = [
    "rank",
    "path",
    "label",
    "label_confidence",
    "suggested_label",
    "suggested_confidence",
    "problems",
    "copies",
];

/// Writes the findings on the training images of `dataset`, then the files that could not be used.
///
/// `problems` holds words: `label` where another class is likelier by far, `contradiction` where copies have different labels, `copy`,
/// what is odd about the picture, and `unreadable`. Of one group of copies all have the same number.
///
/// # Errors
/// When the rows cannot be written.
pub fn write(dataset: &Dataset, findings: &[Finding], file: impl Write) -> Result<()> {
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(HEADER)?;
    let class = |index: usize| {
        dataset
            .classes
            .get(index)
            .map(|name| cell_text(name))
            .unwrap_or_default()
    };
    let split = &dataset.train;
    for (index, finding) in findings.iter().enumerate() {
        let opinion = finding.opinion;
        writer.write_record([
            (index + 1).to_string(),
            cell_text(&split.sources[finding.place]),
            class(split.labels[finding.place] as usize),
            format!("{:.4}", opinion.label_probability),
            class(opinion.rival.0),
            format!("{:.4}", opinion.rival.1),
            problems(finding).join(" "),
            finding
                .copies
                .map(|number| number.to_string())
                .unwrap_or_default(),
        ])?;
    }
    for (index, Skipped { path, .. }) in dataset.skipped.iter().enumerate() {
        let rank = (findings.len() + index + 1).to_string();
        writer.write_record([&rank, &cell_text(path), "", "", "", "", "unreadable", ""])?;
    }
    writer.flush()?;
    Ok(())
}

fn problems(finding: &Finding) -> Vec<String> {
    let named = [
        (finding.opinion.other.is_some(), "label"),
        (finding.contradicts, "contradiction"),
        (finding.copies.is_some(), "copy"),
    ];
    let named = named.into_iter().filter(|(is_there, _)| *is_there);
    named
        .map(|(_, name)| name.to_owned())
        .chain(finding.oddities.iter().map(ToString::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::{Colour, Preprocess};

    use super::super::{Oddity, Opinion};
    use super::*;
    use crate::dataset::PixelStore;
    use crate::dataset::Split;

    #[test]
    fn every_image_and_every_unreadable_file_is_a_row() {
        let dataset = Dataset {
            name: "shop".into(),
            classes: vec!["bag".into(), "=boot".into()],
            preprocess: Preprocess::stretch(1, 1, Colour::Grey),
            train: Split {
                pixels: PixelStore::in_memory(vec![0; 2], 1),
                labels: vec![0, 1],
                sources: vec!["bag/1.jpg".into(), "boot/2.jpg".into()],
            },
            validation: None,
            test: None,
            skipped: vec![Skipped {
                path: "boot/3.jpg".into(),
                reason: "no image".into(),
            }],
            fingerprint: String::new(),
        };
        let finding = |place, other, oddities| Finding {
            place,
            opinion: Opinion {
                label_probability: 0.25,
                rival: (1 - place, 0.75),
                other,
            },
            copies: other.map(|_| 1),
            contradicts: other.is_some(),
            oddities,
        };
        let findings = [
            finding(1, Some(0), vec![]),
            finding(0, None, vec![Oddity::Small, Oddity::Long]),
        ];
        let mut bytes = Vec::new();
        write(&dataset, &findings, &mut bytes).unwrap();
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @r"
        rank,path,label,label_confidence,suggested_label,suggested_confidence,problems,copies
        1,boot/2.jpg,%3Dboot,0.2500,bag,0.7500,label contradiction copy,1
        2,bag/1.jpg,bag,0.2500,%3Dboot,0.7500,small long,
        3,boot/3.jpg,,,,,unreadable,
        ");
    }
}
