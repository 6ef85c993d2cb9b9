//! How much room a table has on the terminal.

use std::io::{self, IsTerminal as _};

use crate::metrics::display::Space;

/// Columns of a table that goes to a file or another program.
const COLUMNS_WITHOUT_TERMINAL: usize = 120;

/// As wide as COLUMNS says, or else the terminal.
pub(super) fn space() -> Space {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .filter(|&columns: &usize| columns > 0);
    let terminal = || match console::Term::stdout().size_checked() {
        Some((_, columns)) if io::stdout().is_terminal() => usize::from(columns),
        _ => COLUMNS_WITHOUT_TERMINAL,
    };
    Space {
        width: said.unwrap_or_else(terminal),
        ..Space::default()
    }
}
