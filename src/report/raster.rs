//! SVG to PNG, the same on every machine: the letters come from a font that is part of the program.
//!
//! The font is Roboto Regular (Apache License 2.0), cut down to Latin, Greek and Cyrillic letters and the signs of plots. Only
//! text with other letters looks at the fonts of the machine.

use std::io::Cursor;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

const FONT: &[u8] = include_bytes!("font/Roboto-Regular.ttf");

/// Draws an SVG on white paper, `scale` pixels per unit.
///
/// # Errors
/// When it is no SVG, or too large to draw.
pub(super) fn png(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let mut fonts = Database::new();
    fonts.load_font_data(FONT.to_vec());
    if svg.chars().any(|letter| !is_in_font(letter)) {
        fonts.load_system_fonts();
    }
    let options = Options {
        fontdb: Arc::new(fonts),
        font_family: "Roboto".to_owned(),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).context("not an SVG")?;
    let size = tree.size();
    let side = |length: f32| (length * scale).ceil() as u32;
    let mut pixels = Pixmap::new(side(size.width()), side(size.height()))
        .context("a picture of that size cannot be drawn")?;
    pixels.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixels.as_mut(),
    );
    // The paper is opaque, so no pixel has anything to undo for its alpha.
    let rgb: Vec<u8> = pixels
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let mut png = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(
            &rgb,
            pixels.width(),
            pixels.height(),
            ExtendedColorType::Rgb8,
        )?;
    Ok(png.into_inner())
}

/// Whether the program's own font has this letter; control characters need none.
fn is_in_font(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            ' '..='~' | '\u{a0}'..='\u{17f}' | '\u{218}'..='\u{21b}' | 'Ά'..='ώ' | 'Ѐ'..='џ' | '\u{2010}'..='\u{2026}'
            | '€' | '™' | '−' | '≈' | '≤' | '≥' | '\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Vec<u8> {
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><text x="2" y="15" font-size="14">{text}</text></svg>"#
        );
        png(&svg, 1.0).unwrap()
    }

    #[test]
    fn letters_are_drawn_without_any_font_of_the_machine() {
        let blank = image::load_from_memory(&drawn("")).unwrap().to_luma8();
        assert!(blank.pixels().all(|pixel| pixel.0 == [255]));
        for text in ["Bag", "Größe", "Обувь", "≥ 90 %"] {
            let picture = image::load_from_memory(&drawn(text)).unwrap().to_luma8();
            let dark = picture.pixels().filter(|pixel| pixel.0[0] < 100).count();
            assert!(dark > 20, "{text}: {dark} dark pixels");
            assert!(text.chars().all(is_in_font), "{text}");
        }
        assert!(!is_in_font('鞄'));
    }

    #[test]
    fn what_is_no_svg_is_refused() {
        assert!(png("<p>no drawing</p>", 1.0).is_err());
    }
}
