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
