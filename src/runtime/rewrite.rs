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

use std::ops::Range;

use thiserror::Error;

use super::digest::sha256;

/// The exported function of the wheel's extension module.
const PYTHON_ENTRY: &[u8] = b"PyInit_onnxruntime_pybind11_state";
/// The exported function of an ONNX Runtime library.
const ENTRY: &[u8] = b"OrtGetApiBase";

const HEADER_SIZE: usize = 64;
const SECTION_HEADER_SIZE: usize = 64;
const SYMBOL_SIZE: usize = 24;
const MACHINE_X86_64: u16 = 62;
const TYPE_SHARED_OBJECT: u16 = 3;
const BINDING_WEAK: u8 = 2;
/// Section type of memory that takes no room in the file.
const SECTION_NOBITS: u32 = 8;
/// Section flag: the bytes are instructions.
const SECTION_EXECUTABLE: u64 = 4;
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
    /// The file is cut off, or an offset in it points past its end.
    #[error("{what} at byte {offset} ({length} bytes) lies outside the file of {size} bytes")]
    OutOfBounds {
        /// What was to be read.
        what: &'static str,
        /// Where it should begin.
        offset: u64,
        /// How long it should be.
        length: u64,
        /// Size of the file.
        size: u64,
    },
    /// The file is something else, or was built in another way.
    #[error("{0}")]
    Structure(String),
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
    rewrite_structure(library, original.addresses)
}

/// The three edits, for a file that is already known to be the right one.
fn rewrite_structure(library: Vec<u8>, addresses: Addresses) -> Result<Vec<u8>, RewriteError> {
    let mut elf = Elf { bytes: library };
    let sections = elf.sections()?;
    let symbols = elf.named(&sections, ".dynsym")?;
    let names = elf.named(&sections, ".dynstr")?;
    let hash_table = elf.named(&sections, ".gnu.hash")?;
    if elf.find(&sections, ".hash")?.is_some() {
        return structure("it has a section `.hash`, which would go stale");
    }
    elf.check_entry_point(&sections, addresses)?;

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

/// Makes every undefined symbol of Python weak and returns how many there were.
fn weaken_python_symbols(elf: &mut Elf, symbols: &Symbols) -> Result<usize, RewriteError> {
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
fn rename_entry(elf: &mut Elf, symbols: &Symbols, address: u64) -> Result<(), RewriteError> {
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
fn rebuild_hash_table(elf: &mut Elf, symbols: &Symbols, table: Span) -> Result<(), RewriteError> {
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

/// Part of the file.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    length: u64,
}

/// A section header, as far as it is needed.
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    address: u64,
    span: Span,
}

/// The dynamic symbols and their names.
struct Symbols {
    table: Span,
    names: Span,
}

/// An entry of `.dynsym`, with its place in the file.
struct Symbol {
    offset: u64,
    name: u32,
    info: u8,
    section: u16,
}

impl Symbol {
    fn is_undefined(&self) -> bool {
        self.section == 0
    }
}

impl Symbols {
    fn len(&self) -> u64 {
        self.table.length / SYMBOL_SIZE as u64
    }

    fn read(&self, elf: &Elf, index: u64) -> Result<Symbol, RewriteError> {
        let offset = self.table.start + index * SYMBOL_SIZE as u64;
        let bytes: [u8; SYMBOL_SIZE] = elf.array(offset, "symbol")?;
        Ok(Symbol {
            offset,
            name: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            info: bytes[4],
            section: u16::from_le_bytes([bytes[6], bytes[7]]),
        })
    }

    fn name<'elf>(&self, elf: &'elf Elf, symbol: &Symbol) -> Result<&'elf [u8], RewriteError> {
        let names = elf.slice(self.names, "symbol names")?;
        elf.text(names, symbol.name)
    }
}

/// The bytes of a little-endian ELF file, with every access checked.
struct Elf {
    bytes: Vec<u8>,
}

impl Elf {
    /// Checks the file header and reads the section headers.
    fn sections(&self) -> Result<Vec<Section>, RewriteError> {
        let header: [u8; HEADER_SIZE] = self.array(0, "ELF header")?;
        // Class 2 is 64 bits, data 1 is little-endian.
        if header[..4] != *b"\x7fELF" || header[4] != 2 || header[5] != 1 {
            return structure("it is not a 64-bit little-endian ELF file");
        }
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        if half(16) != TYPE_SHARED_OBJECT || half(18) != MACHINE_X86_64 {
            return structure(format!(
                "it is not a shared object for x86-64 (type {}, machine {})",
                half(16),
                half(18)
            ));
        }
        let table = self.u64(40, "ELF header")?;
        let (entry_size, count, names_index) = (half(58), half(60), half(62));
        if usize::from(entry_size) != SECTION_HEADER_SIZE || names_index >= count {
            return structure(format!(
                "its section table is odd: {count} entries of {entry_size} bytes, names in {names_index}"
            ));
        }
        let length = u64::from(count) * SECTION_HEADER_SIZE as u64;
        self.range(
            Span {
                start: table,
                length,
            },
            "section table",
        )?;
        let header_at = |index: u16| table + u64::from(index) * SECTION_HEADER_SIZE as u64;
        let span_at = |at: u64| -> Result<Span, RewriteError> {
            Ok(Span {
                start: self.u64(at + 24, "section header")?,
                length: self.u64(at + 32, "section header")?,
            })
        };
        let names = self.slice(span_at(header_at(names_index))?, "section names")?;
        let mut sections = Vec::new();
        for index in 0..count {
            let at = header_at(index);
            let name = self.text(names, self.u32(at, "section header")?)?;
            let kind = self.u32(at + 4, "section header")?;
            let span = span_at(at)?;
            if kind != SECTION_NOBITS {
                self.range(span, "section")?;
            }
            sections.push(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                kind,
                flags: self.u64(at + 8, "section header")?,
                address: self.u64(at + 16, "section header")?,
                span,
            });
        }
        Ok(sections)
    }

    /// Place in the file of the section called `name`; none when there is none, an error when there are several.
    fn find(&self, sections: &[Section], name: &str) -> Result<Option<Span>, RewriteError> {
        let mut found = sections
            .iter()
            .filter(|section| section.name == name && section.kind != SECTION_NOBITS);
        let first = found.next().map(|section| section.span);
        if found.next().is_some() {
            return structure(format!("it has several sections `{name}`"));
        }
        Ok(first)
    }

    fn named(&self, sections: &[Section], name: &str) -> Result<Span, RewriteError> {
        self.find(sections, name)?
            .ok_or_else(|| RewriteError::Structure(format!("it has no section `{name}`")))
    }

    /// Checks that the code at `addresses.get_api_base` is a function that returns `addresses.api_base`.
    fn check_entry_point(
        &self,
        sections: &[Section],
        addresses: Addresses,
    ) -> Result<(), RewriteError> {
        let address = addresses.get_api_base;
        let Some((section, within)) = sections
            .iter()
            .filter(|section| {
                section.flags & SECTION_EXECUTABLE != 0 && section.kind != SECTION_NOBITS
            })
            .find_map(|section| {
                let within = address.checked_sub(section.address)?;
                (within < section.span.length).then_some((section, within))
            })
        else {
            return structure(format!("no code lies at the address {address:#x}"));
        };
        let code: [u8; 12] = self.array(section.span.start + within, "code of `OrtGetApiBase`")?;
        let displacement = i32::from_le_bytes([code[7], code[8], code[9], code[10]]);
        // The displacement counts from the end of `lea`.
        let returned = address
            .wrapping_add(11)
            .wrapping_add_signed(i64::from(displacement));
        if code[..7] != RETURN_ADDRESS_START || code[11] != RETURN || returned != addresses.api_base
        {
            return structure(format!(
                "the code at {address:#x} does not return the address {:#x}",
                addresses.api_base
            ));
        }
        Ok(())
    }

    /// The bytes of `names` from `offset` up to the next NUL.
    fn text<'elf>(&self, names: &'elf [u8], offset: u32) -> Result<&'elf [u8], RewriteError> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| names.get(offset..))
            .unwrap_or_default();
        match rest.iter().position(|&byte| byte == 0) {
            Some(end) => Ok(&rest[..end]),
            None => structure(format!(
                "a name at offset {offset} of a string table does not end"
            )),
        }
    }

    fn u32(&self, offset: u64, what: &'static str) -> Result<u32, RewriteError> {
        Ok(u32::from_le_bytes(self.array(offset, what)?))
    }

    fn u64(&self, offset: u64, what: &'static str) -> Result<u64, RewriteError> {
        Ok(u64::from_le_bytes(self.array(offset, what)?))
    }

    fn array<const SIZE: usize>(
        &self,
        offset: u64,
        what: &'static str,
    ) -> Result<[u8; SIZE], RewriteError> {
        let mut array = [0; SIZE];
        array.copy_from_slice(self.slice(
            Span {
                start: offset,
                length: SIZE as u64,
            },
            what,
        )?);
        Ok(array)
    }

    fn slice(&self, span: Span, what: &'static str) -> Result<&[u8], RewriteError> {
        Ok(&self.bytes[self.range(span, what)?])
    }

    fn write(&mut self, offset: u64, bytes: &[u8], what: &'static str) -> Result<(), RewriteError> {
        let range = self.range(
            Span {
                start: offset,
                length: bytes.len() as u64,
            },
            what,
        )?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    /// `span` as a range that is known to lie inside the file.
    fn range(&self, span: Span, what: &'static str) -> Result<Range<usize>, RewriteError> {
        let size = self.bytes.len() as u64;
        let out_of_bounds = || RewriteError::OutOfBounds {
            what,
            offset: span.start,
            length: span.length,
            size,
        };
        let end = span
            .start
            .checked_add(span.length)
            .filter(|&end| end <= size)
            .ok_or_else(out_of_bounds)?;
        let start = usize::try_from(span.start).map_err(|_| out_of_bounds())?;
        let end = usize::try_from(end).map_err(|_| out_of_bounds())?;
        Ok(start..end)
    }
}

fn structure<T>(what: impl Into<String>) -> Result<T, RewriteError> {
    Err(RewriteError::Structure(what.into()))
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
