//! Huffman tables that were used before: most files have those of the standard, and making one takes as long as decoding a small image.

use std::cell::RefCell;
use std::rc::Rc;

use super::huffman::{Codes, Coefficients, Table};

/// Tables that a thread keeps, each of 24 KiB.
const KEPT: usize = 8;

thread_local! {
    static TABLES: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

struct Kept {
    coefficients: Coefficients,
    counts: [u8; 16],
    symbols: Vec<u8>,
    table: Rc<Table>,
}

impl Kept {
    fn is_of(&self, codes: Codes, coefficients: Coefficients) -> bool {
        self.coefficients == coefficients
            && self.counts == *codes.counts
            && self.symbols == codes.symbols
    }
}

/// The table of `codes`; see [`Table::new`].
pub(super) fn table(codes: Codes, coefficients: Coefficients) -> Option<Rc<Table>> {
    TABLES.with_borrow_mut(|tables| {
        // The one that was used last stands last.
        let place = tables
            .iter()
            .position(|kept| kept.is_of(codes, coefficients));
        let kept = match place {
            Some(place) => tables.remove(place),
            None => Kept {
                coefficients,
                counts: *codes.counts,
                symbols: codes.symbols.to_vec(),
                table: Rc::new(Table::new(codes, coefficients)?),
            },
        };
        let table = Rc::clone(&kept.table);
        if tables.len() == KEPT {
            tables.remove(0);
        }
        tables.push(kept);
        Some(table)
    })
}
