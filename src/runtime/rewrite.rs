//! Turns the shared object of a training wheel into an ordinary ONNX Runtime library.
//!
//! The training API was last published inside Python wheels. Their extension module contains all of ONNX Runtime, but it
//! exports only Python's entry point and refers to symbols of a Python interpreter. Three edits, none of which moves a byte of
//! code, make it loadable by any program:
//!
//! 1. In `.dynsym` the undefined symbols of Python become weak: they resolve to null instead of failing the load. ONNX Runtime
//!    calls them only while a Python module is being initialised, which never happens here.
//! 2. The one exported function, [`PYTHON_ENTRY`], is renamed to [`ENTRY`] in `.dynstr`, and its symbol is pointed at the
//!    function of that name, which is in the file but hidden.
//! 3. `.gnu.hash`, the table through which the dynamic loader finds a name, is rebuilt in place for the new name.
//!
//! This is deliberately not an ELF editor: it knows one shape of file and refuses every other with the reason. It touches no
//! disk.

use thiserror::Error;

use super::digest::sha256;
use super::elf::{Elf, ElfError, Section, Span, Symbols, structure};

/// The exported function of the wheel's extension module.
const PYTHON_ENTRY: &[u8] = b"PyInit_onnxruntime_pybind11_state";
/// The exported function of an ONNX Runtime library.
const ENTRY: &[u8] = b"OrtGetApiBase";

const BINDING_WEAK: u8 = 2;
/// `endbr64; lea rax, [rip + …]`; the 32-bit displacement and `ret` follow.
const RETURN_ADDRESS_START: [u8; 7] = [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x05];
const RETURN: u8 = 0xc3;
/// Size of the function `OrtGetApiBase`, padding included.
const ENTRY_SIZE: u64 = 16;

/// What is known in advance about a file to rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// SHA-256 of the whole file, in hexadecimal.
    pub sha256: &'static str,
    /// Where the library keeps its two entry points.
    pub addresses: Addresses,
}

/// Virtual addresses inside the library.
///
/// They were found from the file itself: the static `OrtApiBase` is the pair {`GetApi`, `GetVersionString`}, the latter is the
/// only function that does nothing but return the version string, and one function returns the address of that pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The hidden function `OrtGetApiBase`.
    pub get_api_base: u64,
    /// The static `OrtApiBase` whose address that function returns.
    pub api_base: u64,
}

/// Why a file was not rewritten.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RewriteError {
    /// The file is not the one that the addresses belong to.
    #[error("SHA-256 is {actual}, expected {expected}")]
    Hash {
        /// SHA-256 of the file that belongs to the addresses.
        expected: String,
        /// SHA-256 of the file given.
        actual: String,
    },
    /// The file is damaged, something else, or was built in another way.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

/// Rewrites `library`, an extension module of ONNX Runtime for x86-64 Linux, into a library that exports `OrtGetApiBase`.
///
/// # Errors
/// When the SHA-256 of `library` is not the one in `original`, or its structure is not the one described above.
pub fn rewrite(library: Vec<u8>, original: &Original) -> Result<Vec<u8>, RewriteError> {
    let actual = sha256(&library);
    if actual != original.sha256 {
        return Err(RewriteError::Hash {
            expected: original.sha256.to_owned(),
            actual,
        });
    }
    Ok(rewrite_structure(library, original.addresses)?)
}

/// The three edits, for a file that is already known to be the right one.
fn rewrite_structure(library: Vec<u8>, addresses: Addresses) -> Result<Vec<u8>, ElfError> {
    let mut elf = Elf { bytes: library };
    let sections = elf.sections()?;
    let symbols = elf.named(&sections, ".dynsym")?;
    let names = elf.named(&sections, ".dynstr")?;
    let hash_table = elf.named(&sections, ".gnu.hash")?;
    if elf.find(&sections, ".hash")?.is_some() {
        return structure("it has a section `.hash`, which would go stale");
    }
    check_entry_point(&elf, &sections, addresses)?;

    let symbols = Symbols {
        table: symbols,
        names,
    };
    if weaken_python_symbols(&mut elf, &symbols)? == 0 {
        return structure("it refers to no symbol of Python, so it is not an extension module");
    }
    rename_entry(&mut elf, &symbols, addresses.get_api_base)?;
    rebuild_hash_table(&mut elf, &symbols, hash_table)?;
    Ok(elf.bytes)
}

/// Checks that the code at `addresses.get_api_base` is a function that returns `addresses.api_base`.
fn check_entry_point(
    elf: &Elf,
    sections: &[Section],
    addresses: Addresses,
) -> Result<(), ElfError> {
    let address = addresses.get_api_base;
    let Some(place) = sections.iter().find_map(|section| section.code_at(address)) else {
        return structure(format!("no code lies at the address {address:#x}"));
    };
    let code: [u8; 12] = elf.array(place, "code of `OrtGetApiBase`")?;
    let displacement = i32::from_le_bytes([code[7], code[8], code[9], code[10]]);
    // The displacement counts from the end of `lea`.
    let returned = address
        .wrapping_add(11)
        .wrapping_add_signed(i64::from(displacement));
    if code[..7] != RETURN_ADDRESS_START || code[11] != RETURN || returned != addresses.api_base {
        return structure(format!(
            "the code at {address:#x} does not return the address {:#x}",
            addresses.api_base
        ));
    }
    Ok(())
}

/// Makes every undefined symbol of Python weak and returns how many there were.
fn weaken_python_symbols(elf: &mut Elf, symbols: &Symbols) -> Result<usize, ElfError> {
    let mut weakened = 0;
    for index in 0..symbols.len() {
        let symbol = symbols.read(elf, index)?;
        let name = symbols.name(elf, &symbol)?;
        if symbol.is_undefined() && (name.starts_with(b"Py") || name.starts_with(b"_Py")) {
            // The binding is the high half of `st_info`, the type the low half.
            let info = BINDING_WEAK << 4 | symbol.info & 0x0f;
            elf.write(symbol.offset + 4, &[info], "symbol binding")?;
            weakened += 1;
        }
    }
    Ok(weakened)
}

/// Makes the exported Python entry point into `OrtGetApiBase` at `address`.
fn rename_entry(elf: &mut Elf, symbols: &Symbols, address: u64) -> Result<(), ElfError> {
    let mut found = None;
    for index in 0..symbols.len() {
        let symbol = symbols.read(elf, index)?;
        let name = symbols.name(elf, &symbol)?;
        if name == ENTRY {
            return structure("it has a symbol `OrtGetApiBase` already");
        }
        if name == PYTHON_ENTRY && !symbol.is_undefined() {
            found = Some(symbol);
        }
    }
    let Some(symbol) = found else {
        return structure("it does not export `PyInit_onnxruntime_pybind11_state`");
    };
    let mut name = [0; PYTHON_ENTRY.len()];
    name[..ENTRY.len()].copy_from_slice(ENTRY);
    elf.write(
        symbols.names.start + u64::from(symbol.name),
        &name,
        "symbol name",
    )?;
    elf.write(symbol.offset + 8, &address.to_le_bytes(), "symbol value")?;
    elf.write(symbol.offset + 16, &ENTRY_SIZE.to_le_bytes(), "symbol size")
}

/// Rebuilds `.gnu.hash` for the symbols it covers, in the room that is there.
///
/// One bucket holds them all, so their order in `.dynsym` need not change.
fn rebuild_hash_table(elf: &mut Elf, symbols: &Symbols, table: Span) -> Result<(), ElfError> {
    let first = elf.u32(table.start + 4, "hash table")?;
    let shift = elf.u32(table.start + 12, "hash table")?;
    let covered = u64::from(first)..symbols.len();
    if covered.is_empty() || first == 0 || shift >= u32::BITS {
        return structure(format!(
            "its hash table is odd: first symbol {first} of {}, shift {shift}",
            symbols.len()
        ));
    }
    let mut hashes = Vec::new();
    for index in covered {
        let symbol = symbols.read(elf, index)?;
        hashes.push(gnu_hash(symbols.name(elf, &symbol)?));
    }
    // The Bloom filter of one word: two bits for each name.
    let bloom = hashes.iter().fold(0u64, |word, hash| {
        word | 1 << (hash % 64) | 1 << ((hash >> shift) % 64)
    });

    let mut bytes = Vec::new();
    for word in [1, first, 1, shift] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(bloom.to_le_bytes());
    bytes.extend(first.to_le_bytes());
    let last = hashes.len() - 1;
    for (position, hash) in hashes.into_iter().enumerate() {
        // The lowest bit marks the end of a bucket's chain.
        let word = if position == last {
            hash | 1
        } else {
            hash & !1
        };
        bytes.extend(word.to_le_bytes());
    }
    let room = usize::try_from(table.length).unwrap_or(usize::MAX);
    if bytes.len() > room {
        return structure(format!(
            "its hash table has {room} bytes, {} are needed",
            bytes.len()
        ));
    }
    bytes.resize(room, 0);
    elf.write(table.start, &bytes, "hash table")
}

/// The hash function of `.gnu.hash`.
fn gnu_hash(name: &[u8]) -> u32 {
    name.iter().fold(5381, |hash: u32, &byte| {
        hash.wrapping_mul(33).wrapping_add(u32::from(byte))
    })
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
