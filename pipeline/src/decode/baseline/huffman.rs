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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Codes of 2, 3, 3, 14 and 16 bits: the end of a block, and 1, 2, 10 and 3 bits behind 0, 3, 5 and 15 zeros.
    const COUNTS: [u8; 16] = [0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    const SYMBOLS: [u8; 5] = [0x00, 0x01, 0x32, 0x5A, 0xF3];
    const WORDS: [(u32, u32); 5] = [
        (0b00, 2),
        (0b010, 3),
        (0b011, 3),
        (0b10_0000_0000_0000, 14),
        (0b1000_0000_0000_0100, 16),
    ];

    fn table() -> Table {
        let codes = Codes {
            counts: &COUNTS,
            symbols: &SYMBOLS,
        };
        Table::new(codes, Coefficients::Ac).unwrap()
    }

    /// Writes bits one behind the other.
    fn packed(words: &[(u32, u32)]) -> Vec<u8> {
        let bits: Vec<bool> = words
            .iter()
            .flat_map(|&(word, count)| (0..count).rev().map(move |bit| word >> bit & 1 == 1))
            .collect();
        bits.chunks(8)
            .map(|bits| {
                bits.iter()
                    .enumerate()
                    .fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at))
            })
            .collect()
    }

    proptest! {
        /// Blocks of random coefficients: read, and passed over, one behind the other.
        #[test]
        fn blocks_are_read_as_they_were_written(
            blocks in prop::collection::vec(prop::collection::vec((1..5_usize, any::<u32>()), 0..30), 1..5),
        ) {
            let (mut words, mut expected) = (Vec::new(), Vec::new());
            for block in blocks {
                let (mut last, mut coefficients) = (0, Vec::new());
                for (number, bits) in block {
                    let (run, size) = (SYMBOLS[number] >> 4, u32::from(SYMBOLS[number] & 15));
                    if last + u32::from(run) + 1 > LAST {
                        break;
                    }
                    last += u32::from(run) + 1;
                    let bits = bits % (1 << size);
                    words.extend([WORDS[number], (bits, size)]);
                    coefficients.push((last, extended(bits, size)));
                }
                if last < LAST {
                    words.push(WORDS[0]);
                }
                expected.push(coefficients);
            }
            let data = packed(&words);
            let table = table();
            let (mut read, mut passed) = (Bits::new(&data), Bits::new(&data));
            for coefficients in expected {
                let mut found = [0; 64];
                let is_varied = table.each_of_block(&mut read, |place, value| {
                    if place <= LAST && value != 0 {
                        found[place as usize] = value;
                    }
                });
                prop_assert_eq!(is_varied, Some(!coefficients.is_empty()));
                let mut wanted = [0; 64];
                for (place, value) in coefficients {
                    wanted[place as usize] = value;
                }
                prop_assert_eq!(found, wanted);
                prop_assert_eq!(table.skip_block(&mut passed), Some(()));
                prop_assert_eq!(passed.peek(16), read.peek(16));
            }
            prop_assert!(read.is_used_up() && passed.is_used_up());
        }
    }

    #[test]
    fn blocks_end_at_their_last_coefficient() {
        let table = table();
        // Four times 15 zeros and a value are 64 coefficients, one too many.
        let data = packed(&[[WORDS[4], (0b111, 3)]; 4].concat());
        assert_eq!(table.each_of_block(&mut Bits::new(&data), |_, _| {}), None);
        assert_eq!(table.skip_block(&mut Bits::new(&data)), None);
        // No code begins with three ones.
        let data = [0xE0; 16];
        assert_eq!(table.each_of_block(&mut Bits::new(&data), |_, _| {}), None);
        assert_eq!(table.skip_block(&mut Bits::new(&data)), None);
    }

    #[test]
    fn what_is_no_prefix_code_is_refused() {
        let new = |counts: &[u8; 16], symbols: &[u8], coefficients| {
            Table::new(Codes { counts, symbols }, coefficients).is_some()
        };
        let counts = |length: usize, count: u8| {
            let mut counts = [0; 16];
            counts[length - 1] = count;
            counts
        };
        assert!(new(&counts(2, 3), &[0, 1, 2], Coefficients::Dc));
        // All ones, too many, too few symbols.
        assert!(!new(&counts(2, 4), &[0, 1, 2, 3], Coefficients::Dc));
        assert!(!new(&counts(2, 5), &[0, 1, 2, 3, 4], Coefficients::Dc));
        assert!(!new(&counts(2, 3), &[0, 1], Coefficients::Dc));
        // 12 bits of a difference, 11 of a value, runs of progressive files.
        assert!(!new(&counts(2, 1), &[12], Coefficients::Dc));
        for symbol in [0x0B, 0x10, 0xE0] {
            assert!(!new(&counts(2, 1), &[symbol], Coefficients::Ac));
        }
        assert!(new(&counts(16, 2), &[0xF0, 0xFA], Coefficients::Ac));
    }
}
