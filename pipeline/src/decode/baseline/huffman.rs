//! Huffman codes of JPEG, looked up several bits at a time.
//!
//! A symbol says how many zeros come before a coefficient and how many bits its value has; the value follows. Both are mostly so short that
//! one look into a table of [`WINDOW`] bits gives two of them, and where values do not matter, passes over all that begin in the window.

use std::cell::OnceCell;

use super::bits::Bits;

/// Bits of a look into the tables.
const WINDOW: u32 = 12;
const WINDOWS: usize = 1 << WINDOW;
/// Most bits of a code and its value.
const LONGEST: u32 = 16 + 10;
/// Bits that [`Bits::refill`] makes available.
const REFILLED: u32 = 56;

/// Added to the advance of the symbol that ends a block.
const END_OF_BLOCK: u32 = 128;
/// The last coefficient of a block.
const LAST: u32 = 63;
/// An advance that leads out of every block.
const NOWHERE: u64 = 255;

/// A Huffman table as it stands in the file: how many codes of each length there are, and their symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codes<'a> {
    pub(super) counts: &'a [u8; 16],
    pub(super) symbols: &'a [u8],
}

/// What a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coefficients {
    /// The first coefficient of a block: a symbol is the number of bits of a difference.
    Dc,
    /// The other ones: a symbol is a number of zeros and a number of bits.
    Ac,
}

/// Codes of one kind, ready to be looked up.
pub(super) struct Table {
    /// What each window begins with.
    firsts: Box<[First; WINDOWS]>,
    /// Made when they are first asked for.
    pairs: OnceCell<Box<[Pair; WINDOWS]>>,
    skips: OnceCell<Box<[Skip; WINDOWS]>>,
    /// For codes of 1 to 16 bits: where, of 16 bits from the code on, those begin that are longer.
    limits: [u32; 16],
    /// For codes of 1 to 16 bits: the number of the first symbol less the first code.
    offsets: [i32; 16],
    symbols: Vec<Symbol>,
}

/// What a symbol says.
#[derive(Clone, Copy, Debug, Default)]
struct Symbol {
    /// From the last coefficient to this one, or [`END_OF_BLOCK`].
    advance: u8,
    /// Bits of the value.
    size: u8,
}

/// The symbol that a window begins with, if its code fits in.
#[derive(Clone, Copy, Default)]
struct First {
    /// Bits of the code, 0 where there is none.
    code_bits: u8,
    symbol: Symbol,
    /// The value, if it fits in, too.
    value: Option<i16>,
}

impl First {
    fn bits(self) -> u32 {
        u32::from(self.code_bits) + u32::from(self.symbol.size)
    }
}

/// One or two whole symbols. From the lowest bit on: bits of both (8), the first advance (8), the second (8), the first value (16 bits from
/// 32 on) and the second (16). Where there is one, the second advance and value are zero.
/// [`Pair::NONE`] where no symbol is whole.
#[derive(Clone, Copy)]
struct Pair(u64);

impl Pair {
    /// Leads to a place that belongs to no block.
    const NONE: Self = Self(NOWHERE << 8);

    fn new(bits: u32, advances: [u8; 2], values: [i16; 2]) -> Self {
        let [first, second] = advances.map(u64::from);
        let [value, other] = values.map(|value| u64::from(value as u16));
        Self(u64::from(bits) | first << 8 | second << 16 | value << 32 | other << 48)
    }
}

/// All symbols that begin in a window and whose codes end there, up to the end of a block. From the lowest bit on: bits of their codes and
/// values (8), the sum of their advances (8). [`Skip::NONE`] where there are none.
#[derive(Clone, Copy)]
struct Skip(u16);

impl Skip {
    /// Leads to a place that belongs to no block.
    const NONE: Self = Self((NOWHERE << 8) as u16);
}

impl Table {
    /// The table of `codes`; `None` where they are no prefix code, or have symbols that images of one pass do not have.
    pub(super) fn new(codes: Codes, coefficients: Coefficients) -> Option<Self> {
        let symbols: Vec<Symbol> = codes
            .symbols
            .iter()
            .map(|&symbol| Symbol::new(symbol, coefficients))
            .collect::<Option<_>>()?;
        let mut table = Self {
            firsts: Box::new([First::default(); WINDOWS]),
            pairs: OnceCell::new(),
            skips: OnceCell::new(),
            limits: [0; 16],
            offsets: [0; 16],
            symbols,
        };
        let (mut code, mut number) = (0_u32, 0_usize);
        for (length, &count) in (1..).zip(codes.counts) {
            table.offsets[length as usize - 1] = number as i32 - code as i32;
            for _ in 0..count {
                let symbol = *table.symbols.get(number)?;
                table.enter(code, length, symbol)?;
                code += 1;
                number += 1;
            }
            // A code of ones alone is not given out.
            if code >= 1 << length {
                return None;
            }
            table.limits[length as usize - 1] = code << (16 - length);
            code <<= 1;
        }
        (number == table.symbols.len()).then_some(table)
    }

    /// Fills the windows that begin with a code.
    fn enter(&mut self, code: u32, length: u32, symbol: Symbol) -> Option<()> {
        let Some(rest) = WINDOW.checked_sub(length) else {
            return Some(());
        };
        let first = First {
            code_bits: length as u8,
            symbol,
            value: None,
        };
        let windows = (code << rest) as usize..((code + 1) << rest) as usize;
        let windows = self.firsts.get_mut(windows)?;
        let size = u32::from(symbol.size);
        let Some(rest) = rest.checked_sub(size) else {
            windows.fill(first);
            return Some(());
        };
        for (bits, windows) in (0..).zip(windows.chunks_mut(1 << rest)) {
            let value = Some(extended(bits, size) as i16);
            windows.fill(First { value, ..first });
        }
        Some(())
    }

    /// What follows the first symbol of a window, where its code is known, and it is one of the same block.
    fn following(&self, window: usize, bits: u32, first: First) -> Option<First> {
        let next = self.firsts[window << bits & (WINDOWS - 1)];
        let is_known = next.code_bits > 0 && bits + u32::from(next.code_bits) <= WINDOW;
        (is_known && u32::from(first.symbol.advance) < END_OF_BLOCK).then_some(next)
    }

    fn pairs(&self) -> &[Pair; WINDOWS] {
        self.pairs.get_or_init(|| {
            let mut pairs = Box::new([Pair::NONE; WINDOWS]);
            for (window, pair) in pairs.iter_mut().enumerate() {
                let first = self.firsts[window];
                let (bits, advance) = (first.bits(), first.symbol.advance);
                let Some(value) = first.value else { continue };
                *pair = Pair::new(bits, [advance, 0], [value, 0]);
                let Some(second) = self.following(window, bits, first) else {
                    continue;
                };
                let (more, next) = (second.bits(), second.symbol.advance);
                if let Some(other) = second.value
                    && bits + more <= WINDOW
                {
                    *pair = Pair::new(bits + more, [advance, next], [value, other]);
                }
            }
            pairs
        })
    }

    fn skips(&self) -> &[Skip; WINDOWS] {
        self.skips.get_or_init(|| {
            let mut skips = Box::new([Skip::NONE; WINDOWS]);
            for (window, skip) in skips.iter_mut().enumerate() {
                let mut last = self.firsts[window];
                if last.code_bits == 0 {
                    continue;
                }
                let (mut bits, mut advance) = (last.bits(), u32::from(last.symbol.advance));
                while let Some(next) = self.following(window, bits, last)
                    && bits < WINDOW
                {
                    // More would be the end of a block twice over.
                    if advance + u32::from(next.symbol.advance) > END_OF_BLOCK + LAST {
                        break;
                    }
                    bits += next.bits();
                    advance += u32::from(next.symbol.advance);
                    last = next;
                }
                *skip = Skip(bits as u16 | (advance as u16) << 8);
            }
            skips
        })
    }

    /// The advance and value of the next symbol, of at most [`LONGEST`] available bits; `None` where there is none.
    #[inline(never)]
    fn next(&self, bits: &mut Bits) -> Option<(u32, i32)> {
        let next = bits.peek(16);
        let length = self.limits.iter().position(|&limit| next < limit)?;
        let code = (next >> (15 - length)) as i32;
        let symbol = self.symbols.get((code + self.offsets[length]) as usize)?;
        bits.consume(length as u32 + 1);
        let size = u32::from(symbol.size);
        let value = extended(bits.take(size), size);
        Some((u32::from(symbol.advance), value))
    }

    /// The difference that a block begins with; `None` where there is none.
    #[inline(always)]
    pub(super) fn difference(&self, bits: &mut Bits) -> Option<i32> {
        bits.refill();
        let first = self.firsts[bits.peek(WINDOW) as usize % WINDOWS];
        match first.value {
            Some(value) => {
                bits.consume(first.bits());
                Some(i32::from(value))
            }
            None => self.next(bits).map(|(_, value)| value),
        }
    }

    /// Hands over the other coefficients of a block, each with its place in the order of the file; also zeros, before the coefficient that is
    /// there, or behind the last place. Says whether there are any; `None` where there is no such block.
    #[inline(always)]
    pub(super) fn each_of_block(
        &self,
        bits: &mut Bits,
        mut found: impl FnMut(u32, i32),
    ) -> Option<bool> {
        let pairs = self.pairs();
        let mut last = 0;
        loop {
            bits.refill();
            for _ in 0..REFILLED / WINDOW {
                let Pair(pair) = pairs[bits.peek(WINDOW) as usize % WINDOWS];
                let first = last + (pair >> 8 & 0xFF) as u32;
                let second = first + (pair >> 16 & 0xFF) as u32;
                let is_last = second >= LAST;
                if is_last && !is_one_block(second) {
                    // Long codes and values, and the last symbols of a block.
                    bits.refill();
                    let (advance, value) = self.next(bits)?;
                    last += advance;
                    if last >= END_OF_BLOCK {
                        return Some(last != END_OF_BLOCK);
                    }
                    if last > LAST {
                        return None;
                    }
                    found(last, value);
                    if last == LAST {
                        return Some(true);
                    }
                    break;
                }
                bits.consume((pair & 0xFF) as u32);
                if second == END_OF_BLOCK {
                    return Some(false);
                }
                found(second, i32::from((pair >> 48) as i16));
                found(first, i32::from((pair >> 32) as i16));
                if is_last {
                    return Some(true);
                }
                last = second;
            }
        }
    }

    /// Passes over the other coefficients of a block; `None` where there is no such block.
    #[inline(always)]
    pub(super) fn skip_block(&self, bits: &mut Bits) -> Option<()> {
        let skips = self.skips();
        let mut last = 0;
        loop {
            bits.refill();
            for _ in 0..REFILLED / LONGEST {
                let Skip(skip) = skips[bits.peek(WINDOW) as usize % WINDOWS];
                let after = last + u32::from(skip >> 8);
                let is_last = after >= LAST;
                if is_last && !is_one_block(after) {
                    bits.refill();
                    last += self.next(bits)?.0;
                    if last >= LAST {
                        return (last == LAST || last >= END_OF_BLOCK).then_some(());
                    }
                    break;
                }
                bits.consume(u32::from(skip & 0xFF));
                if is_last {
                    return Some(());
                }
                last = after;
            }
        }
    }
}

/// Whether symbols that lead to `place` belong to one block: none comes behind its last coefficient.
#[inline(always)]
fn is_one_block(place: u32) -> bool {
    place <= LAST || (END_OF_BLOCK..END_OF_BLOCK + LAST).contains(&place)
}

impl Symbol {
    fn new(symbol: u8, coefficients: Coefficients) -> Option<Self> {
        let (run, size) = (symbol >> 4, symbol & 15);
        let advance = match (coefficients, run, size) {
            (Coefficients::Dc, 0, 0..=11) => 0,
            (Coefficients::Ac, 0, 0) => END_OF_BLOCK as u8,
            (Coefficients::Ac, 15, 0) | (Coefficients::Ac, _, 1..=10) => run + 1,
            _ => return None,
        };
        Some(Self { advance, size })
    }
}

/// The value that `bits` of `size` stand for: those with a leading zero are negative (ITU T.81, figure F.12).
#[inline(always)]
fn extended(bits: u32, size: u32) -> i32 {
    let is_negative = size > 0 && bits >> (size - 1) == 0;
    bits as i32 - if is_negative { (1 << size) - 1 } else { 0 }
}

#[cfg(test)]
mod tests;
