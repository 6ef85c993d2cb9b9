//! `catalog dataset`: get, look at and convert data sets.

mod copies;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use pipeline::preprocess::{Colour, Fit};

use super::{GlobalArgs, bytes, print};
use crate::dataset::export::{self, Format};
use crate::dataset::{
    Dataset, LoadSettings, Part, Parts, Pixels, Purpose, Source, contact_sheet, load,
};

/// Bytes of pixels that are kept in memory unless another number is given.
pub(super) const DATA_MEMORY: u64 = 2 << 30;

/// Get, look at and convert data sets
#[derive(Debug, Args)]
pub struct DatasetArgs {
    #[command(subcommand)]
    command: DatasetCommand,
}

#[derive(Debug, Subcommand)]
enum DatasetCommand {
    FashionMnist(FashionMnistArgs),
    Show(ShowArgs),
    Export(ExportArgs),
}

/// Write Fashion-MNIST as images, IDX files or CSVs, fetching it if it is not on this machine
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  catalog dataset fashion-mnist --out demo --as images --limit 100"
)]
pub struct FashionMnistArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Print how many images each class has, and draw examples
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  catalog dataset show photos --sheet photos.png")]
pub struct ShowArgs {
    /// `fashion-mnist`, a folder of class folders or of IDX files, a 785-column CSV, or a CSV with the columns path and label
    #[arg(value_name = "DATA")]
    data: String,
    /// Write a contact sheet with examples of each class
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Examples of each class on the contact sheet
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    examples: u32,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Write any data set as images, IDX files or CSVs
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  catalog dataset export photos --size 28 --colour grey --as idx --out photos-idx"
)]
pub struct ExportArgs {
    /// `fashion-mnist`, a folder of class folders or of IDX files, a 785-column CSV, or a CSV with the columns path and label
    #[arg(value_name = "DATA")]
    data: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Folder to write; it must be empty or not there
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// What to write
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    format: FormatArg,
    /// At most so many images of each part, evenly from the classes
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// PNG files in class folders, and a manifest
    Images,
    /// IDX files
    Idx,
    /// CSVs of 785 columns
    Csv,
}

/// Size and colour of the images of a data set.
#[derive(Debug, Default, Args)]
pub(super) struct ShapeArgs {
    /// Image size in pixels: SIDE or WIDTHxHEIGHT [default: that of the images if they share a small one, else 64]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<(u32, u32)>,
    /// Image colour [default: grey if all images are]
    #[arg(long, value_enum)]
    colour: Option<ColourArg>,
    /// What happens to images of another shape [default: stretch; with a pretrained network pad]
    #[arg(long, value_enum, conflicts_with = "plain_background")]
    fit: Option<FitArg>,
    /// The images are photos of one object on a plain background: trim that off and keep proportions. A model trained on them
    /// does so too
    #[arg(long)]
    plain_background: bool,
    /// Memory for the pixels of image files; if they are more, they are kept in a file in the cache folder [default: 2G]
    #[arg(long, value_name = "SIZE", value_parser = bytes::size)]
    data_memory: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FitArg {
    /// Height and width are scaled independently
    Stretch,
    /// Scaled to fit inside, the rest white
    Pad,
    /// Scaled to cover, the middle kept
    Crop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ColourArg {
    /// One channel
    Grey,
    /// Three channels
    Rgb,
}

/// Runs `catalog dataset`.
///
/// # Errors
/// When the data set cannot be loaded or the output cannot be written.
pub fn run(args: &DatasetArgs, global: &GlobalArgs) -> Result<ExitCode> {
    match &args.command {
        DatasetCommand::FashionMnist(args) => write_out(
            &Source::FashionMnist,
            &ShapeArgs::default(),
            &args.output,
            global,
        ),
        DatasetCommand::Export(args) => write_out(
            &Source::detect(&args.data)?,
            &args.shape,
            &args.output,
            global,
        ),
        DatasetCommand::Show(args) => show(args, global),
    }
}

fn write_out(
    source: &Source,
    shape: &ShapeArgs,
    output: &OutputArgs,
    global: &GlobalArgs,
) -> Result<ExitCode> {
    export::ensure_free(&output.out)?;
    let dataset = load(source, &load_settings(shape, Purpose::Evaluation, global)?)?;
    warn_of_skipped(&dataset);
    let format = match output.format {
        FormatArg::Images => Format::Images,
        FormatArg::Idx => Format::Idx,
        FormatArg::Csv => Format::Csv,
    };
    let count = export::export(&dataset, &output.out, format, output.limit)?;
    print(&format!(
        "{count} images written to {}\n",
        output.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let dataset = load(
        &Source::detect(&args.data)?,
        &load_settings(&args.shape, Purpose::Evaluation, global)?,
    )?;
    warn_of_skipped(&dataset);
    print(&summary(&dataset))?;
    if let Some(sheet) = &args.sheet {
        contact_sheet::write(&dataset, args.examples, sheet)?;
        tracing::info!("contact sheet written to {}", sheet.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// How to load a data set, as the options say.
pub(super) fn load_settings(
    shape: &ShapeArgs,
    purpose: Purpose,
    global: &GlobalArgs,
) -> Result<LoadSettings> {
    let colour = shape.colour.map(|colour| match colour {
        ColourArg::Grey => Colour::Grey,
        ColourArg::Rgb => Colour::Rgb,
    });
    Ok(LoadSettings {
        pixels: match shape.plain_background {
            true => Pixels::PlainBackground {
                size: shape.size,
                colour,
            },
            false => Pixels::Wished {
                size: shape.size,
                colour,
                fit: shape.fit.map(|fit| match fit {
                    FitArg::Stretch => Fit::Stretch,
                    FitArg::Pad => Fit::Pad,
                    FitArg::Crop => Fit::Crop,
                }),
            },
        },
        parts: Parts::All,
        purpose,
        cache: global.cache_folder()?,
        memory: shape.data_memory.unwrap_or(DATA_MEMORY),
        offline: global.offline,
    })
}

/// The data with a validation part. Where the images are files, no picture is in both parts, and pictures that are there twice are
/// told.
pub(super) fn with_validation(
    dataset: Dataset,
    source: &Source,
    fraction: f64,
    seed: u64,
) -> Result<Dataset> {
    let duplicates = match source.is_image_files() {
        true => dataset.duplicates()?,
        false => vec![],
    };
    for line in copies::lines(&dataset, &duplicates) {
        tracing::warn!("{line}");
    }
    dataset.with_validation(fraction, seed, &duplicates)
}

/// The first few by name: a folder full of the wrong files shall not bury the result.
pub(super) fn warn_of_skipped(dataset: &Dataset) {
    const NAMED: usize = 10;
    for skipped in dataset.skipped.iter().take(NAMED) {
        tracing::warn!("{}: not used: {}", skipped.path, skipped.reason);
    }
    if let Some(more) = dataset
        .skipped
        .len()
        .checked_sub(NAMED)
        .filter(|&more| more > 0)
    {
        tracing::warn!("{more} more files could not be used");
    }
}

/// The facts, then a table with a row per class and a column per part.
fn summary(dataset: &Dataset) -> String {
    let preprocess = &dataset.preprocess;
    let colour = match preprocess.colour {
        Colour::Grey => "grey",
        Colour::Rgb => "RGB",
    };
    let total: usize = dataset.parts().map(|(_, split)| split.len()).sum();
    let mut text = format!(
        "{}: {total} images in {} classes, {}×{} {colour} (width×height)\n{} files skipped, fingerprint {}\n\n",
        dataset.name,
        dataset.classes.len(),
        preprocess.width,
        preprocess.height,
        dataset.skipped.len(),
        dataset.fingerprint,
    );

    let counts: Vec<(Part, Vec<usize>)> = dataset
        .parts()
        .map(|(part, split)| (part, split.class_counts(dataset.classes.len())))
        .collect();
    let mut rows = vec![row(
        "class",
        counts.iter().map(|(part, _)| part.name().to_owned()),
        "total",
    )];
    for (class, name) in dataset.classes.iter().enumerate() {
        let cells = counts.iter().map(|(_, counts)| counts[class].to_string());
        let sum: usize = counts.iter().map(|(_, counts)| counts[class]).sum();
        rows.push(row(name, cells, &sum.to_string()));
    }
    let cells = counts
        .iter()
        .map(|(_, counts)| counts.iter().sum::<usize>().to_string());
    rows.push(row("total", cells, &total.to_string()));
    text += &aligned(&rows);
    text
}

fn row(name: &str, cells: impl Iterator<Item = String>, sum: &str) -> Vec<String> {
    // A control character in a folder's name shall not write on the terminal.
    let name = name
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    [name]
        .into_iter()
        .chain(cells)
        .chain([sum.to_owned()])
        .collect()
}

/// Columns as wide as their longest cell; the first to the left, the numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                text += &format!("{cell:<width$}");
            } else {
                text += &format!("  {cell:>width$}");
            }
        }
        text += "\n";
    }
    text
}

/// `SIDE` or `WIDTHxHEIGHT` as (height, width).
fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| match text.parse::<u32>() {
        Ok(number) if (1..=4096).contains(&number) => Ok(number),
        _ => Err("expected SIDE or WIDTHxHEIGHT, each from 1 to 4096, like 64 or 96x64".to_owned()),
    };
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    Ok((number(height)?, number(width)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{PixelStore, Split};
    use pipeline::preprocess::Preprocess;

    #[test]
    fn sizes_are_width_by_height() {
        assert_eq!(parse_size("64"), Ok((64, 64)));
        assert_eq!(parse_size("96x64"), Ok((64, 96)));
        for wrong in ["", "0", "x", "64x", "-1", "64x64x3", "99999"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_summary_is_an_aligned_table_that_adds_up() {
        let split = |labels: Vec<u32>| Split {
            pixels: PixelStore::default(),
            sources: Vec::new(),
            labels,
        };
        let dataset = Dataset {
            name: "shop".into(),
            classes: vec!["bag".into(), "ankle boot".into()],
            preprocess: Preprocess::stretch(2, 3, Colour::Rgb),
            train: split([vec![0; 10], vec![1; 3]].concat()),
            validation: None,
            test: Some(split(vec![1, 1])),
            skipped: Vec::new(),
            fingerprint: "ab12".into(),
        };
        insta::assert_snapshot!(summary(&dataset), @r"
        shop: 15 images in 2 classes, 3×2 RGB (width×height)
        0 files skipped, fingerprint ab12

        class       train  test  total
        bag            10     0     10
        ankle boot      3     2      5
        total          13     2     15
        ");
    }
}
