//! From coefficients to reduced planes: unit by unit, block by block.

use std::rc::Rc;

use super::bits::Bits;
use super::header::{Component, Header};
use super::huffman::{Coefficients, Table};
use super::segments::Segments;
use super::tables;
use super::transform::{QuarterShares, Quarters, StripShares, Strips, block_mean};
use super::whole::{Block, Scales};

/// How large planes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// All at so many eighths of the image's size.
    Eighths(usize),
    /// Each with all of its own pixels.
    Whole,
}

/// One component, in whole units.
pub(super) struct Plane {
    pub(super) bytes: Vec<u8>,
    /// Bytes of a row.
    pub(super) stride: usize,
}

/// What becomes of the blocks of a component.
struct Channel {
    /// Blocks of a unit, one above the other.
    rows: usize,
    /// Blocks of a unit, side by side.
    columns: usize,
    /// Of the first coefficient.
    step: i32,
    dc: Rc<Table>,
    ac: Rc<Table>,
    reduction: Reduction,
    /// First coefficient of the block before.
    previous: i32,
    plane: Plane,
}

/// How many parts of a block a pixel is made for, and how.
enum Reduction {
    /// None: what is in the block is not wanted.
    Skipped,
    /// 1 × 1.
    Mean,
    /// 1 or 2 in each direction, from sums.
    Quarters(Box<QuarterShares>, usize, usize),
    /// 4 in some direction, up to 4 in the other.
    Strips(Box<StripShares>, usize, usize),
    /// 8 × 8, each pixel by itself.
    Whole(Box<Scales>),
}

impl Reduction {
    /// For `rows × columns` parts; `None` where a block has not so many, or they are not equal.
    fn new(rows: usize, columns: usize, component: &Component) -> Option<Self> {
        match (rows, columns) {
            (1, 1) => Some(Self::Mean),
            (1 | 2, 1 | 2) => {
                let shares = QuarterShares::new(component.quantisation);
                Some(Self::Quarters(Box::new(shares), rows, columns))
            }
            (1 | 2 | 4, 1 | 2 | 4) => {
                let shares = StripShares::new(component.quantisation, columns);
                Some(Self::Strips(Box::new(shares), rows, columns))
            }
            _ => None,
        }
    }
}

/// Units of an image: the smallest part that has whole blocks of every component.
pub(super) struct Units {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Blocks of a unit, one above the other and side by side, of the component that has most.
    most: (usize, usize),
    is_interleaved: bool,
}

impl Units {
    pub(super) fn new(header: &Header) -> Self {
        let components = &header.components;
        let is_interleaved = components.len() > 1;
        // Alone, a component has one block in a unit, whatever it says.
        let most = match is_interleaved {
            true => (
                components.iter().map(|one| one.rows).max().unwrap_or(1),
                components.iter().map(|one| one.columns).max().unwrap_or(1),
            ),
            false => (1, 1),
        };
        Self {
            rows: header.height.div_ceil(8 * most.0),
            columns: header.width.div_ceil(8 * most.1),
            most,
            is_interleaved,
        }
    }

    /// Blocks of a component in a unit, one above the other and side by side.
    fn blocks(&self, component: &Component) -> (usize, usize) {
        match self.is_interleaved {
            true => (component.rows, component.columns),
            false => (1, 1),
        }
    }

    /// Rows and columns of a component that are the picture.
    pub(super) fn content(&self, header: &Header, component: &Component) -> (f64, f64) {
        let (rows, columns) = self.blocks(component);
        let own = |side: usize, own: usize, most: usize| (side * own) as f64 / most as f64;
        (
            own(header.height, rows, self.most.0),
            own(header.width, columns, self.most.1),
        )
    }
}

/// The first `wanted` components; `None` where the file breaks a rule, or the components have sizes that do not go together at this scale.
#[inline(always)]
pub(super) fn decode(header: &Header, scale: Scale, wanted: usize) -> Option<Vec<Plane>> {
    let units = Units::new(header);
    let mut channels = header
        .components
        .iter()
        .enumerate()
        .map(|(number, component)| Channel::new(component, &units, scale, number < wanted))
        .collect::<Option<Vec<_>>>()?;
    let segments = Segments::new(header.scan)?;
    let count = units.rows * units.columns;
    let interval = match header.restart_interval {
        0 => count,
        interval => interval,
    };
    let mut done = 0;
    for segment in segments.iter() {
        let mut bits = Bits::new(segment);
        for unit in done..count.min(done + interval) {
            let (row, column) = (unit / units.columns, unit % units.columns);
            for channel in &mut channels {
                channel.decode_unit(&mut bits, row, column)?;
            }
            if bits.is_overrun() {
                return None;
            }
        }
        if done >= count || !bits.is_used_up() {
            return None;
        }
        done += interval;
        for channel in &mut channels {
            channel.previous = 0;
        }
    }
    (done >= count).then(|| {
        let planes = channels.into_iter().map(|channel| channel.plane);
        planes.take(wanted).collect()
    })
}

impl Channel {
    fn new(component: &Component, units: &Units, scale: Scale, is_wanted: bool) -> Option<Self> {
        let (most_rows, most_columns) = units.most;
        let (rows, columns) = units.blocks(component);
        let (reduction, height, width) = match scale {
            _ if !is_wanted => (Reduction::Skipped, 0, 0),
            Scale::Whole => {
                let scales = Scales::new(component.quantisation);
                (Reduction::Whole(Box::new(scales)), 8 * rows, 8 * columns)
            }
            Scale::Eighths(eighths) => {
                // A component with fewer blocks has blocks of more pixels.
                let parts = |most: usize, own: usize| {
                    let eighths = eighths * most;
                    eighths.is_multiple_of(own).then_some(eighths / own)
                };
                let reduction = Reduction::new(
                    parts(most_rows, rows)?,
                    parts(most_columns, columns)?,
                    component,
                )?;
                (reduction, most_rows * eighths, most_columns * eighths)
            }
        };
        // Of a unit, and of all of them.
        let (height, width) = (units.rows * height, units.columns * width);
        Some(Self {
            rows,
            columns,
            step: i32::from(component.quantisation[0]),
            dc: tables::table(component.dc, Coefficients::Dc)?,
            ac: tables::table(component.ac, Coefficients::Ac)?,
            reduction,
            previous: 0,
            plane: Plane {
                bytes: vec![0; height * width],
                stride: width,
            },
        })
    }

    /// The blocks of one unit; `None` where the data has no such code.
    #[inline(always)]
    fn decode_unit(&mut self, bits: &mut Bits, row: usize, column: usize) -> Option<()> {
        for block_row in 0..self.rows {
            for block_column in 0..self.columns {
                self.decode_block(
                    bits,
                    row * self.rows + block_row,
                    column * self.columns + block_column,
                )?;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn decode_block(&mut self, bits: &mut Bits, row: usize, column: usize) -> Option<()> {
        let difference = self.dc.difference(bits)?;
        self.previous = self.previous.wrapping_add(difference);
        let dc = self.previous;
        let stride = self.plane.stride;
        match self.reduction {
            Reduction::Skipped => self.ac.skip_block(bits)?,
            Reduction::Mean => {
                self.ac.skip_block(bits)?;
                let pixel = self.plane.bytes.get_mut(row * stride + column)?;
                *pixel = block_mean(dc.wrapping_mul(self.step));
            }
            Reduction::Quarters(ref shares, rows, columns) => {
                let mut quarters = Quarters::default();
                quarters.add(shares, 0, dc);
                self.ac.each_of_block(bits, |place, value| {
                    quarters.add(shares, place, value);
                })?;
                let start = row * rows * stride + column * columns;
                let out = self.plane.bytes.get_mut(start..)?;
                match (rows, columns) {
                    (2, 2) => {
                        let [above, below] = quarters.means();
                        *out.first_chunk_mut()? = above;
                        *out.get_mut(stride..)?.first_chunk_mut()? = below;
                    }
                    (1, _) => *out.first_chunk_mut()? = quarters.column_means(),
                    _ => {
                        let [above, below] = quarters.row_means();
                        *out.first_mut()? = above;
                        *out.get_mut(stride)? = below;
                    }
                }
            }
            Reduction::Whole(ref scales) => {
                let mut block = Block::default();
                block.add(scales, 0, dc);
                let is_varied = self.ac.each_of_block(bits, |place, value| {
                    block.add(scales, place, value);
                })?;
                let start = row * 8 * stride + column * 8;
                let out = self.plane.bytes.get_mut(start..)?;
                match is_varied {
                    true => block.write(out, stride)?,
                    false => fill(out, stride, (8, 8), block_mean(dc.wrapping_mul(self.step))),
                }
            }
            Reduction::Strips(ref shares, rows, columns) => {
                let mut strips = Strips::default();
                strips.add(shares, 0, dc);
                let is_varied = self.ac.each_of_block(bits, |place, value| {
                    strips.add(shares, place, value);
                })?;
                let start = row * rows * stride + column * columns;
                let out = self.plane.bytes.get_mut(start..)?;
                match rows {
                    _ if !is_varied => fill(
                        out,
                        stride,
                        (rows, columns),
                        block_mean(dc.wrapping_mul(self.step)),
                    ),
                    1 => strips.write_means::<1>(out, stride, columns)?,
                    2 => strips.write_means::<2>(out, stride, columns)?,
                    _ => strips.write_means::<4>(out, stride, columns)?,
                }
            }
        }
        Some(())
    }
}

/// Makes `rows × columns` pixels the same.
fn fill(out: &mut [u8], stride: usize, (rows, columns): (usize, usize), pixel: u8) {
    for row in out.chunks_mut(stride).take(rows) {
        row[..columns].fill(pixel);
    }
}
