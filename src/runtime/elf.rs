//! Reading and patching an ELF file for x86-64, as far as rewriting a library needs it.
//!
//! Every access is checked against the size of the file; nothing here knows what the file is for.

use std::ops::Range;

use thiserror::Error;

/// Size of the file header.
pub(super) const HEADER_SIZE: usize = 64;
/// Size of an entry of the section table.
pub(super) const SECTION_HEADER_SIZE: usize = 64;
/// Size of an entry of `.dynsym`.
pub(super) const SYMBOL_SIZE: usize = 24;
const MACHINE_X86_64: u16 = 62;
const TYPE_SHARED_OBJECT: u16 = 3;
/// Section type of memory that takes no room in the file.
const SECTION_NOBITS: u32 = 8;
/// Section flag: the bytes are instructions.
const SECTION_EXECUTABLE: u64 = 4;

/// Why a file could not be read or patched.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ElfError {
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

/// Part of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// A section header, as far as it is needed.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) span: Span,
}

/// The dynamic symbols and their names.
pub(super) struct Symbols {
    pub(super) table: Span,
    pub(super) names: Span,
}

/// An entry of `.dynsym`, with its place in the file.
pub(super) struct Symbol {
    pub(super) offset: u64,
    pub(super) name: u32,
    pub(super) info: u8,
    pub(super) section: u16,
}

impl Section {
    /// Place in the file of what will lie at `address`, where that is code of this section.
    pub(super) fn code_at(&self, address: u64) -> Option<u64> {
        let within = address.checked_sub(self.address)?;
        let is_code = self.flags & SECTION_EXECUTABLE != 0 && self.kind != SECTION_NOBITS;
        (is_code && within < self.span.length).then_some(self.span.start + within)
    }
}

impl Symbol {
    pub(super) fn is_undefined(&self) -> bool {
        self.section == 0
    }
}

impl Symbols {
    pub(super) fn len(&self) -> u64 {
        self.table.length / SYMBOL_SIZE as u64
    }

    pub(super) fn read(&self, elf: &Elf, index: u64) -> Result<Symbol, ElfError> {
        let offset = self.table.start + index * SYMBOL_SIZE as u64;
        let bytes: [u8; SYMBOL_SIZE] = elf.array(offset, "symbol")?;
        Ok(Symbol {
            offset,
            name: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            info: bytes[4],
            section: u16::from_le_bytes([bytes[6], bytes[7]]),
        })
    }

    pub(super) fn name<'elf>(
        &self,
        elf: &'elf Elf,
        symbol: &Symbol,
    ) -> Result<&'elf [u8], ElfError> {
        let names = elf.slice(self.names, "symbol names")?;
        elf.text(names, symbol.name)
    }
}

/// The bytes of a little-endian ELF file, with every access checked.
pub(super) struct Elf {
    pub(super) bytes: Vec<u8>,
}

impl Elf {
    /// Checks the file header and reads the section headers.
    pub(super) fn sections(&self) -> Result<Vec<Section>, ElfError> {
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
        let span_at = |at: u64| -> Result<Span, ElfError> {
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
    pub(super) fn find(&self, sections: &[Section], name: &str) -> Result<Option<Span>, ElfError> {
        let mut found = sections
            .iter()
            .filter(|section| section.name == name && section.kind != SECTION_NOBITS);
        let first = found.next().map(|section| section.span);
        if found.next().is_some() {
            return structure(format!("it has several sections `{name}`"));
        }
        Ok(first)
    }

    pub(super) fn named(&self, sections: &[Section], name: &str) -> Result<Span, ElfError> {
        self.find(sections, name)?
            .ok_or_else(|| ElfError::Structure(format!("it has no section `{name}`")))
    }

    /// The bytes of `names` from `offset` up to the next NUL.
    pub(super) fn text<'elf>(
        &self,
        names: &'elf [u8],
        offset: u32,
    ) -> Result<&'elf [u8], ElfError> {
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

    pub(super) fn u32(&self, offset: u64, what: &'static str) -> Result<u32, ElfError> {
        Ok(u32::from_le_bytes(self.array(offset, what)?))
    }

    pub(super) fn u64(&self, offset: u64, what: &'static str) -> Result<u64, ElfError> {
        Ok(u64::from_le_bytes(self.array(offset, what)?))
    }

    pub(super) fn array<const SIZE: usize>(
        &self,
        offset: u64,
        what: &'static str,
    ) -> Result<[u8; SIZE], ElfError> {
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

    pub(super) fn slice(&self, span: Span, what: &'static str) -> Result<&[u8], ElfError> {
        Ok(&self.bytes[self.range(span, what)?])
    }

    pub(super) fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        what: &'static str,
    ) -> Result<(), ElfError> {
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
    pub(super) fn range(&self, span: Span, what: &'static str) -> Result<Range<usize>, ElfError> {
        let size = self.bytes.len() as u64;
        let out_of_bounds = || ElfError::OutOfBounds {
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

/// Refuses the file for `what`.
pub(super) fn structure<T>(what: impl Into<String>) -> Result<T, ElfError> {
    Err(ElfError::Structure(what.into()))
}
