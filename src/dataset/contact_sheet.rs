//! The contact sheet: a picture with a row of examples for each class, to see at a glance what is in a data set.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};
use pipeline::preprocess::{Colour, Preprocess};

use super::{Dataset, Split};

/// Height and width an example fills at most; small images are enlarged by a whole factor.
const CELL: u32 = 84;
const GAP: u32 = 6;
/// Side of a letter of the class name: the 8×8 font, doubled.
const LETTER: u32 = 16;
/// Longer class names are cut.
const LONGEST_NAME: usize = 24;
/// More classes than this do not fit a picture anyone would look at.
const MOST_CLASSES: usize = 200;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([20, 20, 20]);
const PALE_INK: Rgb<u8> = Rgb([120, 120, 120]);

/// Draws `examples` images of each class, one row per class, taken evenly from the training images (without any, from the
/// first part that has images). Only the first 200 classes are drawn.
///
/// # Errors
/// When the images cannot be read back from their file.
pub fn draw(dataset: &Dataset, examples: u32) -> Result<RgbImage> {
    let empty = Split::default();
    let split = dataset
        .parts()
        .map(|(_, split)| split)
        .find(|split| !split.is_empty())
        .unwrap_or(&empty);
    let classes = &dataset.classes[..dataset.classes.len().min(MOST_CLASSES)];
    let names: Vec<String> = classes.iter().map(|name| shortened(name)).collect();
    let longest = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0) as u32;
    let name_width = 2 * GAP + longest.max(8) * LETTER;

    let mut sheet = RgbImage::from_pixel(
        name_width + examples * (CELL + GAP),
        GAP + classes.len() as u32 * (CELL + GAP),
        PAPER,
    );
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); dataset.classes.len()];
    for (index, &label) in split.labels.iter().enumerate() {
        members[label as usize].push(index);
    }
    for (row, (name, members)) in names.iter().zip(&members).enumerate() {
        let top = GAP + row as u32 * (CELL + GAP);
        write_text(&mut sheet, name, (GAP, top + CELL / 2 - LETTER), 2, INK);
        write_text(
            &mut sheet,
            &format!("{} images", members.len()),
            (GAP, top + CELL / 2 + 6),
            1,
            PALE_INK,
        );
        for (column, index) in evenly(members, examples as usize).enumerate() {
            let example = example(&split.image(index)?, &dataset.preprocess);
            let left = name_width + column as u32 * (CELL + GAP);
            let (x, y) = (
                left + (CELL - example.width()) / 2,
                top + (CELL - example.height()) / 2,
            );
            imageops::replace(&mut sheet, &example, x.into(), y.into());
        }
    }
    Ok(sheet)
}

/// Draws the sheet and writes it as PNG.
///
/// # Errors
/// When `examples` is not 1 to 100, or the file cannot be written.
pub fn write(dataset: &Dataset, examples: u32, path: &Path) -> Result<()> {
    ensure!(
        (1..=100).contains(&examples),
        "{examples} examples of each class: expected 1 to 100"
    );
    if dataset.classes.len() > MOST_CLASSES {
        tracing::warn!(
            "the sheet shows the first {MOST_CLASSES} of {} classes",
            dataset.classes.len()
        );
    }
    let sheet = draw(dataset, examples)?;
    let mut png = Vec::new();
    image::codecs::png::PngEncoder::new(&mut png)
        .write_image(
            &sheet,
            sheet.width(),
            sheet.height(),
            ExtendedColorType::Rgb8,
        )
        .context("the contact sheet cannot be encoded")?;
    // Written beside its place first, so that a full disk leaves no half picture.
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, png)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// At most `count` of `members`, from the first to the last in equal steps.
fn evenly(members: &[usize], count: usize) -> impl Iterator<Item = usize> + '_ {
    let count = count.min(members.len());
    (0..count).map(move |step| members[step * members.len() / count])
}

fn example(pixels: &[u8], preprocess: &Preprocess) -> RgbImage {
    let (height, width) = (preprocess.height, preprocess.width);
    let channels = preprocess.colour.channels();
    let image = RgbImage::from_fn(width, height, |x, y| {
        let start = (y as usize * width as usize + x as usize) * channels;
        match (preprocess.colour, pixels.get(start..start + channels)) {
            (Colour::Rgb, Some(&[red, green, blue])) => Rgb([red, green, blue]),
            (Colour::Grey, Some(&[grey])) => Rgb([grey; 3]),
            _ => PAPER,
        }
    });
    let longer = height.max(width);
    let scaled =
        |side: u32, factor: f64| ((f64::from(side) * factor).round() as u32).clamp(1, CELL);
    if longer <= CELL {
        let factor = CELL / longer.max(1);
        imageops::resize(&image, width * factor, height * factor, FilterType::Nearest)
    } else {
        let factor = f64::from(CELL) / f64::from(longer);
        imageops::resize(
            &image,
            scaled(width, factor),
            scaled(height, factor),
            FilterType::Triangle,
        )
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    name.chars()
        .take(LONGEST_NAME - 3)
        .chain("...".chars())
        .collect()
}

/// Writes text with its upper left corner at (x, y), each dot of the font `scale` pixels wide; what the font lacks is a `?`.
fn write_text(sheet: &mut RgbImage, text: &str, (x, y): (u32, u32), scale: u32, ink: Rgb<u8>) {
    for (position, letter) in (0u32..).zip(text.chars()) {
        let glyph = BASIC_FONTS
            .get(letter)
            .or_else(|| LATIN_FONTS.get(letter))
            .or_else(|| BASIC_FONTS.get('?'));
        for (row, dots) in (0u32..).zip(glyph.unwrap_or_default()) {
            for column in (0..8u32).filter(|column| dots >> column & 1 == 1) {
                for dot in 0..scale * scale {
                    let across = x + (position * 8 + column) * scale + dot % scale;
                    let down = y + row * scale + dot / scale;
                    if let Some(pixel) = sheet.get_pixel_mut_checked(across, down) {
                        *pixel = ink;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::PixelStore;

    fn dataset(height: u32, width: u32, colour: Colour) -> Dataset {
        let preprocess = Preprocess::stretch(height, width, colour);
        Dataset {
            name: "tiny".into(),
            classes: vec![
                "Bag".into(),
                "a name that is far too long for a row of the sheet".into(),
            ],
            train: Split {
                pixels: PixelStore::in_memory(
                    vec![200; 5 * preprocess.bytes_per_image()],
                    preprocess.bytes_per_image(),
                ),
                labels: vec![0, 0, 0, 1, 0],
                sources: vec![String::new(); 5],
            },
            preprocess,
            validation: None,
            test: None,
            skipped: Vec::new(),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn a_row_has_its_name_and_its_examples() {
        let sheet = draw(&dataset(28, 28, Colour::Grey), 3).unwrap();
        let name_width = 2 * GAP + LONGEST_NAME as u32 * LETTER;
        assert_eq!(
            sheet.dimensions(),
            (name_width + 3 * (CELL + GAP), GAP + 2 * (CELL + GAP))
        );
        let centre = |column: u32, row: u32| {
            *sheet.get_pixel(
                name_width + column * (CELL + GAP) + CELL / 2,
                GAP + row * (CELL + GAP) + CELL / 2,
            )
        };
        assert_eq!(
            (centre(2, 0), centre(0, 1), centre(1, 1)),
            (Rgb([200; 3]), Rgb([200; 3]), PAPER)
        );
        let inked = |row: u32| {
            let rows = GAP + row * (CELL + GAP)..(row + 1) * (CELL + GAP);
            rows.flat_map(|y| (0..name_width).map(move |x| (x, y)))
                .filter(|&(x, y)| *sheet.get_pixel(x, y) == INK)
                .count()
        };
        assert!(inked(0) > 100 && inked(1) > inked(0));
    }

    #[test]
    fn any_size_and_colour_fits_its_cell() {
        for (height, width) in [(1, 1), (300, 7), (64, 224), (84, 85)] {
            for colour in [Colour::Grey, Colour::Rgb] {
                let dataset = dataset(height, width, colour);
                let example = example(&dataset.train.image(0).unwrap(), &dataset.preprocess);
                assert!(example.width() <= CELL && example.height() <= CELL && example.width() > 0);
                assert_eq!(example.get_pixel(0, 0), &Rgb([200; 3]));
                draw(&dataset, 12).unwrap();
            }
        }
    }

    #[test]
    fn it_is_written_as_png_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        write(&dataset(28, 28, Colour::Rgb), 2, &path).unwrap();
        assert_eq!(
            image::open(&path).unwrap().to_rgb8(),
            draw(&dataset(28, 28, Colour::Rgb), 2).unwrap()
        );
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        assert!(write(&dataset(28, 28, Colour::Rgb), 0, &path).is_err());
        assert!(
            write(
                &dataset(28, 28, Colour::Rgb),
                2,
                &folder.path().join("missing/sheet.png")
            )
            .is_err()
        );
    }
}
