//! Bits of entropy-coded data, most significant first.

/// Reads bits of data that has no stuffed bytes and no markers in it any more. Behind the end there are zeros without end: whoever reads
/// asks [`Bits::is_used_up`] at the end whether it went too far.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Of the next byte to come into the window, or where it would be.
    position: usize,
    /// The next bits, the first one on top. Below those that count there are zeros or what follows in the data.
    window: u64,
    /// How many bits of the window count.
    available: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            position: 0,
            window: 0,
            available: 0,
        }
    }

    /// Makes at least 56 bits available.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let next = match self.data.get(self.position..self.position + 8) {
            Some(next) => next.try_into().map_or(0, u64::from_be_bytes),
            None => self.last_bytes(),
        };
        // Bytes that are there in part already come a second time, over themselves (Giesen, "Reading bits in far too many ways", 2018).
        self.window |= next >> self.available;
        self.position += ((63 - self.available) >> 3) as usize;
        self.available |= 56;
    }

    #[cold]
    fn last_bytes(&self) -> u64 {
        let rest = self.data.get(self.position..).unwrap_or_default();
        let mut bytes = [0; 8];
        let count = rest.len().min(8);
        bytes[..count].copy_from_slice(&rest[..count]);
        u64::from_be_bytes(bytes)
    }

    /// The next `count` bits, from 1 to 32, as a number; they stay.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u32 {
        (self.window >> (64 - count)) as u32
    }

    /// Goes `count` available bits ahead.
    #[inline(always)]
    pub(super) fn consume(&mut self, count: u32) {
        self.window <<= count;
        self.available -= count;
    }

    /// The next `count` bits, at most 16, which are used.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        // In two steps because a shift by 64 is none.
        let bits = (self.window >> 1 >> (63 - count)) as u32;
        self.consume(count);
        bits
    }

    /// Whether what was read ends in the last byte of the data.
    pub(super) fn is_used_up(&self) -> bool {
        let read = self.position as u64 * 8 - u64::from(self.available);
        read.div_ceil(8) == self.data.len() as u64
    }

    /// Whether zeros were read from behind the data.
    pub(super) fn is_overrun(&self) -> bool {
        self.position as u64 * 8 - u64::from(self.available) > self.data.len() as u64 * 8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_come_in_their_order(data in prop::collection::vec(any::<u8>(), 0..40), steps in prop::collection::vec(1..16_u32, 0..30)) {
            let expected: Vec<u8> = data.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
            let mut bits = Bits::new(&data);
            let mut place = 0;
            for step in steps {
                bits.refill();
                let number = (place..place + step as usize).fold(0, |number, at| {
                    number << 1 | u32::from(expected.get(at).copied().unwrap_or(0))
                });
                prop_assert_eq!(bits.peek(step), number);
                prop_assert_eq!(bits.take(step), number);
                place += step as usize;
                prop_assert_eq!(bits.is_overrun(), place > expected.len());
                prop_assert_eq!(bits.is_used_up(), place.div_ceil(8) == data.len());
            }
        }
    }

    #[test]
    fn no_bits_are_zero() {
        let mut bits = Bits::new(&[0xFF]);
        bits.refill();
        assert_eq!(bits.take(0), 0);
        assert_eq!(bits.take(8), 0xFF);
        assert!(bits.is_used_up() && !bits.is_overrun());
    }
}
