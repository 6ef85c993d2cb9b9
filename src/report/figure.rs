//! A drawing that is both part of a page and a file of its own.
//!
//! A page gives it colours through its style sheet, light or dark; the file brings its own, for a light background. What is
//! drawn is none of this module's business.

use std::path::Path;

use anyhow::{Context, Result};
use maud::{Markup, PreEscaped, html};
use pipeline::atomic_file;

use super::raster;
use super::text::printable;

/// Colours of a drawing that stands alone; the page's own are in its style sheet, under the same names.
const STANDALONE_STYLE: &str = "\
text { font-family: Roboto, 'DejaVu Sans', sans-serif; font-size: 14px; fill: #4a5361; }
.plot-title { font-size: 16px; fill: #16191f; }
.grid { stroke: #dfe3ea; } .frame { stroke: #6c7686; } .guide { stroke: #6c7686; } .ink { fill: #16191f; } .paper { fill: #ffffff; }
.on-dark { fill: #ffffff; }
.s0 { stroke: #1659b8; } .s1 { stroke: #b84300; } .s2 { stroke: #00705c; } .s3 { stroke: #4a5361; }
.f0 { fill: #1659b8; } .f1 { fill: #b84300; } .f2 { fill: #00705c; } .f3 { fill: #4a5361; }
.bar { fill: #a9c7f2; stroke: #1659b8; }
.d0, .e0 { fill: #f4f6f9; }
.d1 { fill: #e6effb; } .d2 { fill: #cfe0f7; } .d3 { fill: #9dc0ef; } .d4 { fill: #2566c4; } .d5 { fill: #16499a; }
.e1 { fill: #fdf0e3; } .e2 { fill: #fbdcc0; } .e3 { fill: #f5b88a; } .e4 { fill: #bd4a0a; } .e5 { fill: #8f2f00; }
";

/// Pixels per unit of a drawing in its PNG file.
const PNG_SCALE: f32 = 2.0;
/// Room above the drawing for its title, in the file.
const TITLE_HEIGHT: u32 = 34;

/// A drawing with the words that stand for it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name of its files, and of its place in a page; letters, digits and hyphens.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// What there is to see, in a sentence or two, for those who do not see it.
    pub description: String,
    /// Width in its own units, which are pixels at its natural size.
    pub width: u32,
    /// Height in its own units.
    pub height: u32,
    /// The elements inside `<svg>`.
    pub body: Markup,
}

impl Figure {
    /// The drawing as part of a page, which names it in a heading or caption of its own.
    pub fn inline(&self) -> Markup {
        let (title, description) = (
            format!("{}-title", self.name),
            format!("{}-desc", self.name),
        );
        html! {
            svg.plot viewBox={ "0 0 " (self.width) " " (self.height) } role="img" aria-labelledby={ (title) " " (description) } {
                title id=(title) { (printable(&self.title)) }
                desc id=(description) { (printable(&self.description)) }
                (self.body)
            }
        }
    }

    /// The drawing as an SVG file with its title, readable on a light background.
    pub fn file(&self) -> String {
        let height = self.height + TITLE_HEIGHT;
        html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(self.width) height=(height) viewBox={ "0 0 " (self.width) " " (height) } role="img" {
                title { (printable(&self.title)) }
                desc { (printable(&self.description)) }
                style { (PreEscaped(STANDALONE_STYLE)) }
                rect.paper width=(self.width) height=(height) {}
                text.plot-title x="14" y="25" { (printable(&self.title)) }
                g transform={ "translate(0 " (TITLE_HEIGHT) ")" } { (self.body) }
            }
        }
        .into_string()
    }

    /// Writes `NAME.svg` and `NAME.png` into a folder that is there.
    ///
    /// # Errors
    /// When the drawing cannot be rendered or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let svg = self.file();
        let png = raster::png(&svg, PNG_SCALE)
            .with_context(|| format!("the plot {} cannot be drawn as PNG", self.name))?;
        let write = |ending: &str, bytes: &[u8]| {
            let path = folder.join(format!("{}.{ending}", self.name));
            atomic_file::write(&path, |file| Ok(std::io::Write::write_all(file, bytes)?))
        };
        write("svg", svg.as_bytes())?;
        write("png", &png)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure {
            name: "sizes".into(),
            title: "A <b> & \"c\"\u{1b}".into(),
            description: "Nothing.".into(),
            width: 100,
            height: 50,
            body: html! { line.s0 x1="0" y1="0" x2="100" y2="50" {} },
        }
    }

    #[test]
    fn words_are_escaped_and_stay_valid_xml() {
        let file = figure().file();
        assert!(
            file.contains("A &lt;b&gt; &amp; &quot;c&quot;\u{fffd}"),
            "{file}"
        );
        assert!(!file.contains('\u{1b}'));
        assert!(resvg::usvg::Tree::from_str(&file, &resvg::usvg::Options::default()).is_ok());
        let inline = figure().inline().into_string();
        assert!(
            inline.contains("aria-labelledby=\"sizes-title sizes-desc\""),
            "{inline}"
        );
    }

    #[test]
    fn both_files_appear() {
        let folder = tempfile::tempdir().unwrap();
        figure().save(folder.path()).unwrap();
        let png = image::open(folder.path().join("sizes.png")).unwrap();
        assert_eq!((png.width(), png.height()), (200, 2 * (50 + TITLE_HEIGHT)));
        assert!(folder.path().join("sizes.svg").is_file());
    }
}
