//! Which image format some bytes are in, by their first bytes alone: file names lie.
//!
//! A format that is recognised but not decoded is told apart from what is no image at all, because the first can be converted
//! and the second cannot.

use std::fmt;

/// A format that is decoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG; of an animated one, the default image.
    Png,
    /// WebP; of an animated one, the first frame.
    WebP,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; the first page.
    Tiff,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        })
    }
}

/// What some bytes seem to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A format that is decoded here.
    Image(Format),
    /// An image format that is not decoded here, by name.
    OtherImage(&'static str),
    /// No image format known here.
    Unknown,
}

/// Tells the format of a file from its first bytes.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        return Sniffed::Image(Format::Jpeg);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Sniffed::Image(Format::Png);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Sniffed::Image(Format::WebP);
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Sniffed::Image(Format::Gif);
    }
    if is_bmp(bytes) {
        return Sniffed::Image(Format::Bmp);
    }
    // Canon's raw format is a TIFF whose first page is only a preview.
    if bytes.starts_with(b"II*\0") && bytes.get(8..10) == Some(b"CR") {
        return Sniffed::OtherImage("Canon raw (CR2)");
    }
    if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
        .iter()
        .any(|magic| bytes.starts_with(*magic))
    {
        return Sniffed::Image(Format::Tiff);
    }
    other_image(bytes).map_or(Sniffed::Unknown, Sniffed::OtherImage)
}

/// `BM` alone is how many words begin, so the size of the header that follows has to be a legal one.
fn is_bmp(bytes: &[u8]) -> bool {
    let Some(size) = bytes
        .get(14..18)
        .and_then(|size| size.try_into().ok())
        .map(u32::from_le_bytes)
    else {
        return false;
    };
    bytes.starts_with(b"BM") && [12, 16, 40, 52, 56, 64, 108, 124].contains(&size)
}

/// Names of formats that start with fixed bytes.
const OTHER_IMAGES: &[(&[u8], &str)] = &[
    (b"\xFF\x0A", "JPEG XL"),
    (b"\0\0\0\x0CJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0CjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
    (b"II\xBC", "JPEG XR"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xC5\xD0\xD3\xC6", "PostScript (EPS)"),
    (b"\0\0\x01\0", "icon (ICO)"),
    (b"\0\0\x02\0", "cursor (CUR)"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"\x76\x2F\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"farbfeld", "farbfeld"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw (RAF)"),
    (b"IIU\0", "Panasonic raw (RW2)"),
    (b"IIRO", "Olympus raw (ORF)"),
    (b"FLIF", "FLIF"),
    (b"BPG\xFB", "BPG"),
    (b"AT&TFORM", "DjVu"),
];

fn other_image(bytes: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = OTHER_IMAGES
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
    {
        return Some(name);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return match bytes.get(8..12)? {
            b"avif" | b"avis" => Some("AVIF"),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                Some("HEIC")
            }
            b"crx " => Some("Canon raw (CR3)"),
            _ => None,
        };
    }
    if let [b'P', b'1'..=b'7', space, ..] = bytes
        && space.is_ascii_whitespace()
    {
        return Some("netpbm (PNM)");
    }
    is_svg(bytes).then_some("SVG")
}

/// SVG is text: an `<svg` element after at most an XML declaration, comments and a document type.
fn is_svg(bytes: &[u8]) -> bool {
    let head = bytes.get(..1024).unwrap_or(bytes);
    let text = head
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(head)
        .trim_ascii_start();
    text.starts_with(b"<svg")
        || ((text.starts_with(b"<?xml") || text.starts_with(b"<!"))
            && text.windows(4).any(|window| window == b"<svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_formats_are_told_by_their_first_bytes() {
        for (bytes, format) in [
            (&b"\xFF\xD8\xFF\xE0rest"[..], Format::Jpeg),
            (b"\x89PNG\r\n\x1a\nrest", Format::Png),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Format::WebP),
            (b"GIF89a\x01\0\x01\0", Format::Gif),
            (b"BM\x1a\0\0\0\0\0\0\0\x1a\0\0\0\x0c\0\0\0", Format::Bmp),
            (b"II*\0\x08\0\0\0", Format::Tiff),
            (b"MM\0*\0\0\0\x08", Format::Tiff),
        ] {
            assert_eq!(sniff(bytes), Sniffed::Image(format));
        }
    }

    #[test]
    fn other_images_are_named() {
        for (bytes, name) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "HEIC"),
            (b"\0\0\0\x1Cftypavif\0\0\0\0", "AVIF"),
            (b"\xFF\x0A\xFA\x1F", "JPEG XL"),
            (b"8BPS\0\x01", "Photoshop (PSD)"),
            (b"%PDF-1.7\n", "PDF"),
            (
                b"<?xml version=\"1.0\"?>\n<!-- a drawing -->\n<svg xmlns=''/>",
                "SVG",
            ),
            (b"  <svg width='3'/>", "SVG"),
            (b"P6\n3 2\n255\n", "netpbm (PNM)"),
            (b"II*\0\x10\0\0\0CR\x02\0", "Canon raw (CR2)"),
        ] {
            assert_eq!(sniff(bytes), Sniffed::OtherImage(name));
        }
    }

    #[test]
    fn the_rest_is_no_image() {
        for bytes in [
            &b""[..],
            b"\xFF",
            b"BMW is a car maker with a long history",
            b"Hello, world\n",
            b"RIFF\x10\0\0\0WAVEfmt ",
            b"\0\0\0\x18ftypmp42\0\0\0\0",
            b"<?xml version=\"1.0\"?><html/>",
            b"PK\x03\x04",
        ] {
            assert_eq!(sniff(bytes), Sniffed::Unknown, "{}", bytes.escape_ascii());
        }
    }
}
