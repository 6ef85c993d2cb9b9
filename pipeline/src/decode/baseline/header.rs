//! What stands in a JPEG before its coefficients.
//!
//! The reader knows one kind of file, the usual one, and that by the letter. Whatever is unusual or doubtful is `None`: other decoders
//! know better what to say about it.

use super::huffman::Codes;

/// What stands in an APP1 segment before the EXIF block.
pub(in crate::decode) const EXIF_HEADER: &[u8] = b"Exif\0\0";

mod marker {
    pub(super) const BASELINE: u8 = 0xC0;
    pub(super) const EXTENDED: u8 = 0xC1;
    pub(super) const HUFFMAN_TABLES: u8 = 0xC4;
    pub(super) const SCAN: u8 = 0xDA;
    pub(super) const QUANTISATION_TABLES: u8 = 0xDB;
    pub(super) const RESTART_INTERVAL: u8 = 0xDD;
    pub(super) const APP0: u8 = 0xE0;
    pub(super) const APP1: u8 = 0xE1;
    pub(super) const APP14: u8 = 0xEE;
    pub(super) const APP15: u8 = 0xEF;
    pub(super) const COMMENT: u8 = 0xFE;
}

/// A JPEG of one pass: 8 bits, Huffman codes, grey or YCbCr, all of its components interleaved in a single scan.
pub(super) struct Header<'a> {
    pub(super) height: usize,
    pub(super) width: usize,
    /// One or three.
    pub(super) components: Vec<Component<'a>>,
    /// Units from one restart marker to the next; 0 where there are none.
    pub(super) restart_interval: usize,
    /// The EXIF block.
    pub(super) exif: Option<&'a [u8]>,
    /// Everything behind the header of the scan.
    pub(super) scan: &'a [u8],
}

/// Brightness, or one of the two colours.
pub(super) struct Component<'a> {
    /// Blocks of a unit, one above the other.
    pub(super) rows: usize,
    /// Blocks of a unit, side by side.
    pub(super) columns: usize,
    /// Steps of the coefficients, in the order of the file.
    pub(super) quantisation: &'a [u8; 64],
    pub(super) dc: Codes<'a>,
    pub(super) ac: Codes<'a>,
}

/// A component as the frame describes it.
struct Described {
    id: u8,
    rows: usize,
    columns: usize,
    quantisation: usize,
}

/// What was read so far.
#[derive(Default)]
struct Segments<'a> {
    quantisation: [Option<&'a [u8; 64]>; 4],
    dc: [Option<Codes<'a>>; 4],
    ac: [Option<Codes<'a>>; 4],
    frame: Option<(usize, usize, Vec<Described>)>,
    restart_interval: usize,
    exif: Option<&'a [u8]>,
    is_jfif: bool,
    /// The colours that Adobe's programs name.
    adobe: Option<u8>,
}

impl<'a> Header<'a> {
    pub(super) fn read(jpeg: &'a [u8]) -> Option<Self> {
        let mut rest = jpeg.strip_prefix(&[0xFF, 0xD8])?;
        let mut segments = Segments::default();
        loop {
            let (&[mark, marker, high, low], after) = rest.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes([high, low])).checked_sub(2)?;
            let (content, behind) = after.split_at_checked(length)?;
            if mark != 0xFF {
                return None;
            }
            if marker == marker::SCAN {
                return segments.into_header(content, behind);
            }
            segments.read(marker, content)?;
            rest = behind;
        }
    }
}

impl<'a> Segments<'a> {
    fn read(&mut self, marker: u8, content: &'a [u8]) -> Option<()> {
        match marker {
            marker::BASELINE | marker::EXTENDED => self.read_frame(content),
            marker::HUFFMAN_TABLES => self.read_codes(content),
            marker::QUANTISATION_TABLES => self.read_quantisation(content),
            marker::RESTART_INTERVAL => {
                let interval: [u8; 2] = content.try_into().ok()?;
                self.restart_interval = usize::from(u16::from_be_bytes(interval));
                Some(())
            }
            marker::APP0 => self.read_jfif(content),
            marker::APP1 => {
                if let (None, Some(exif)) = (self.exif, content.strip_prefix(EXIF_HEADER)) {
                    self.exif = Some(exif);
                }
                Some(())
            }
            marker::APP14 => self.read_adobe(content),
            marker::APP0..=marker::APP15 | marker::COMMENT => Some(()),
            _ => None,
        }
    }

    fn read_frame(&mut self, content: &[u8]) -> Option<()> {
        let (&[precision, h1, h0, w1, w0, count], components) = content.split_first_chunk()?;
        let (components, odd) = components.as_chunks::<3>();
        let is_usual = precision == 8 && matches!(count, 1 | 3) && odd.is_empty();
        if !is_usual || components.len() != usize::from(count) || self.frame.is_some() {
            return None;
        }
        let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
        let described: Vec<Described> = components
            .iter()
            .map(|&[id, sampling, quantisation]| Described {
                id,
                rows: usize::from(sampling & 15),
                columns: usize::from(sampling >> 4),
                quantisation: usize::from(quantisation),
            })
            .collect();
        let is_sampled = |component: &Described| {
            (1..=4).contains(&component.rows) && (1..=4).contains(&component.columns)
        };
        // A height of zero says that it comes later.
        if height == 0 || width == 0 || !described.iter().all(is_sampled) {
            return None;
        }
        self.frame = Some((usize::from(height), usize::from(width), described));
        Some(())
    }

    fn read_codes(&mut self, mut content: &'a [u8]) -> Option<()> {
        while let Some((&[class_and_slot], rest)) = content.split_first_chunk() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(count)?;
            let slot = usize::from(class_and_slot & 15);
            let place = match class_and_slot >> 4 {
                0 => self.dc.get_mut(slot)?,
                1 => self.ac.get_mut(slot)?,
                _ => return None,
            };
            *place = Some(Codes { counts, symbols });
            content = rest;
        }
        Some(())
    }

    fn read_quantisation(&mut self, mut content: &'a [u8]) -> Option<()> {
        while let Some((&[slot], rest)) = content.split_first_chunk() {
            let (steps, rest) = rest.split_first_chunk()?;
            // Steps of 16 bits have a one in the upper half.
            *self.quantisation.get_mut(usize::from(slot))? = Some(steps);
            content = rest;
        }
        Some(())
    }

    fn read_jfif(&mut self, content: &[u8]) -> Option<()> {
        if let Some(rest) = content.strip_prefix(b"JFIF\0") {
            // Version 1 and what belongs to it.
            if rest.len() < 9 || rest[0] != 1 {
                return None;
            }
            self.is_jfif = true;
        }
        Some(())
    }

    fn read_adobe(&mut self, content: &[u8]) -> Option<()> {
        if content.starts_with(b"Adobe") {
            self.adobe = Some(*content.get(11)?);
        }
        Some(())
    }

    /// What the header says once the scan begins.
    fn into_header(self, scan_header: &[u8], scan: &'a [u8]) -> Option<Header<'a>> {
        let (height, width, described) = self.frame?;
        let (&[count], rest) = scan_header.split_first_chunk()?;
        let (tables, spectrum) = rest.split_at_checked(2 * described.len())?;
        let is_whole = usize::from(count) == described.len() && spectrum == [0, 63, 0];
        let ids: Vec<u8> = described.iter().map(|component| component.id).collect();
        let is_ycbcr = match (self.is_jfif, self.adobe) {
            (true, None | Some(1)) | (false, Some(1)) => true,
            (false, None) => ids == [1, 2, 3],
            _ => false,
        };
        if !is_whole || !(described.len() == 1 || is_ycbcr) {
            return None;
        }
        let components = described
            .iter()
            .zip(tables.as_chunks::<2>().0)
            .map(|(component, &[id, slots])| {
                Some(Component {
                    rows: component.rows,
                    columns: component.columns,
                    quantisation: (*self.quantisation.get(component.quantisation)?)?,
                    dc: (*self.dc.get(usize::from(slots >> 4))?)?,
                    ac: (*self.ac.get(usize::from(slots & 15))?)?,
                })
                .filter(|_| id == component.id)
            })
            .collect::<Option<_>>()?;
        Some(Header {
            height,
            width,
            components,
            restart_interval: self.restart_interval,
            exif: self.exif,
            scan,
        })
    }
}
