//! A small synthetic library with the shape of the real ones, and its corruptions.

use super::*;
use crate::runtime::RuntimeSettings;
use crate::runtime::elf::{HEADER_SIZE, SECTION_HEADER_SIZE, SYMBOL_SIZE};
use crate::runtime::install::{Depth, State, Store};
use crate::runtime::wheel::{Platform, wheels_for};

/// Where the synthetic library's code lies, and the address that code returns.
const ADDRESSES: Addresses = Addresses {
    get_api_base: 0x1010,
    api_base: 0x2020,
};
/// Address of the section `.text`.
const TEXT_ADDRESS: u64 = 0x1000;

/// Parts of a synthetic library; a test changes what it wants to be wrong.
struct Library {
    symbols: Vec<(&'static str, u8, u16)>,
    code: Vec<u8>,
    hash_room: usize,
    renamed_section: Option<(&'static str, &'static str)>,
    extra_section: Option<&'static str>,
}

impl Default for Library {
    fn default() -> Self {
        let mut code = vec![0x90; 16];
        code.extend(RETURN_ADDRESS_START);
        code.extend(
            (ADDRESSES.api_base as i32 - (ADDRESSES.get_api_base as i32 + 11)).to_le_bytes(),
        );
        code.push(RETURN);
        code.extend([0x90; 4]);
        Self {
            // Name, st_info, section; only the last two are exported, so only they are in the hash table.
            symbols: vec![
                ("", 0, 0),
                ("PyErr_Clear", 0x12, 0),
                ("memcpy", 0x12, 0),
                ("_Py_NoneStruct", 0x11, 0),
                ("VERS_1.0", 0x11, 0xfff1),
                ("PyInit_onnxruntime_pybind11_state", 0x12, 12),
            ],
            code,
            hash_room: 40,
            renamed_section: None,
            extra_section: None,
        }
    }
}

impl Library {
    fn build(&self) -> Vec<u8> {
        let mut names = vec![0];
        let mut table = Vec::new();
        for &(name, info, section) in &self.symbols {
            let offset = if name.is_empty() {
                0
            } else {
                names.len() as u32
            };
            if !name.is_empty() {
                names.extend(name.bytes().chain([0]));
            }
            table.extend(offset.to_le_bytes());
            table.extend([info, 0]);
            table.extend(section.to_le_bytes());
            table.extend(0x3000u64.to_le_bytes());
            table.extend(99u64.to_le_bytes());
        }
        let mut hash_table = Vec::new();
        for word in [2, self.symbols.len() as u32 - 2, 1, 6] {
            hash_table.extend(word.to_le_bytes());
        }
        hash_table.resize(self.hash_room, 0);

        let mut parts: Vec<(&str, u64, u64, Vec<u8>)> = vec![
            (".dynsym", 2, 0, table),
            (".dynstr", 2, 0, names),
            (".gnu.hash", 2, 0, hash_table),
            (".text", 6, TEXT_ADDRESS, self.code.clone()),
        ];
        if let Some(name) = self.extra_section {
            parts.push((name, 2, 0, vec![0; 8]));
        }
        for part in &mut parts {
            if let Some((from, to)) = self.renamed_section
                && part.0 == from
            {
                part.0 = to;
            }
        }
        assemble(parts)
    }
}

/// An ELF file of the sections given (name, flags, address, bytes), with the null section and the section names added.
fn assemble(parts: Vec<(&str, u64, u64, Vec<u8>)>) -> Vec<u8> {
    let mut section_names = vec![0];
    let mut headers = vec![0; SECTION_HEADER_SIZE];
    let mut body = vec![0; HEADER_SIZE];
    let mut header = |name_offset: usize, flags: u64, address: u64, start: usize, length: usize| {
        headers.extend((name_offset as u32).to_le_bytes());
        headers.extend(1u32.to_le_bytes());
        // Then link and info, alignment, entry size.
        for value in [flags, address, start as u64, length as u64, 0, 0, 0] {
            headers.extend(value.to_le_bytes());
        }
    };
    let count = parts.len() + 2;
    for (name, flags, address, bytes) in parts {
        header(section_names.len(), flags, address, body.len(), bytes.len());
        section_names.extend(name.bytes().chain([0]));
        body.extend(bytes);
    }
    let name_offset = section_names.len();
    section_names.extend(b".shstrtab\0");
    header(name_offset, 0, 0, body.len(), section_names.len());
    body.extend(&section_names);

    let table = body.len() as u64;
    body.extend(headers);
    body[..4].copy_from_slice(b"\x7fELF");
    body[4..7].copy_from_slice(&[2, 1, 1]);
    body[16..18].copy_from_slice(&3u16.to_le_bytes());
    body[18..20].copy_from_slice(&62u16.to_le_bytes());
    body[40..48].copy_from_slice(&table.to_le_bytes());
    body[58..60].copy_from_slice(&64u16.to_le_bytes());
    body[60..62].copy_from_slice(&(count as u16).to_le_bytes());
    body[62..64].copy_from_slice(&(count as u16 - 1).to_le_bytes());
    body
}

fn refusal(library: Vec<u8>) -> String {
    rewrite_structure(library, ADDRESSES)
        .unwrap_err()
        .to_string()
}

/// Finds `name` the way the dynamic loader does, through `.gnu.hash`; returns the symbol's info, value and size.
fn look_up(bytes: &[u8], name: &str) -> Option<(u8, u64, u64)> {
    let elf = Elf {
        bytes: bytes.to_vec(),
    };
    let sections = elf.sections().unwrap();
    let table = elf.named(&sections, ".gnu.hash").unwrap().start;
    let symbols = Symbols {
        table: elf.named(&sections, ".dynsym").unwrap(),
        names: elf.named(&sections, ".dynstr").unwrap(),
    };
    let word = |at: u64| elf.u32(table + at, "test").unwrap();
    let (buckets, first, bloom_words, shift) = (word(0), word(4), word(8), word(12));
    let hash = gnu_hash(name.as_bytes());
    let bloom = elf
        .u64(table + 16 + u64::from(hash / 64 % bloom_words) * 8, "test")
        .unwrap();
    if bloom >> (hash % 64) & 1 == 0 || bloom >> ((hash >> shift) % 64) & 1 == 0 {
        return None;
    }
    let buckets_at = 16 + u64::from(bloom_words) * 8;
    let mut index = word(buckets_at + u64::from(hash % buckets) * 4);
    while index >= first {
        let chained = word(buckets_at + u64::from(buckets) * 4 + u64::from(index - first) * 4);
        let symbol = symbols.read(&elf, u64::from(index)).unwrap();
        if chained | 1 == hash | 1 && symbols.name(&elf, &symbol).unwrap() == name.as_bytes() {
            let value = elf.u64(symbol.offset + 8, "test").unwrap();
            return Some((
                symbol.info,
                value,
                elf.u64(symbol.offset + 16, "test").unwrap(),
            ));
        }
        if chained & 1 == 1 {
            return None;
        }
        index += 1;
    }
    None
}

#[test]
fn the_entry_point_is_found_by_its_new_name_only() {
    let library = rewrite_structure(Library::default().build(), ADDRESSES).unwrap();
    assert_eq!(
        look_up(&library, "OrtGetApiBase"),
        Some((0x12, ADDRESSES.get_api_base, 16))
    );
    assert!(look_up(&library, "VERS_1.0").is_some());
    assert_eq!(look_up(&library, "PyInit_onnxruntime_pybind11_state"), None);
}

#[test]
fn only_undefined_symbols_of_python_become_weak() {
    let before = Library::default().build();
    let after = rewrite_structure(before.clone(), ADDRESSES).unwrap();
    assert_eq!(before.len(), after.len());
    let info = |index: usize| after[HEADER_SIZE + index * SYMBOL_SIZE + 4];
    // PyErr_Clear, memcpy, _Py_NoneStruct, VERS_1.0, the entry point.
    assert_eq!(
        [info(1), info(2), info(3), info(4), info(5)],
        [0x22, 0x12, 0x21, 0x11, 0x12]
    );
}

#[test]
fn a_rewritten_library_is_not_rewritten_again() {
    let once = rewrite_structure(Library::default().build(), ADDRESSES).unwrap();
    assert_eq!(refusal(once), "it has a symbol `OrtGetApiBase` already");
}

#[test]
fn a_file_with_another_hash_is_refused_unread() {
    let original = Original {
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        addresses: ADDRESSES,
    };
    let error = rewrite(b"abcd".to_vec(), &original).unwrap_err();
    assert_eq!(
        error.to_string(),
        "SHA-256 is 88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589, \
         expected ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    // The right hash does not excuse the wrong structure.
    assert_eq!(
        rewrite(b"abc".to_vec(), &original).unwrap_err().to_string(),
        "ELF header at byte 0 (64 bytes) lies outside the file of 3 bytes"
    );
}

#[test]
fn another_kind_of_file_is_refused() {
    let good = Library::default().build();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        refusal(bytes)
    };
    assert_eq!(
        refusal(vec![b'x'; 100]),
        "it is not a 64-bit little-endian ELF file"
    );
    assert_eq!(
        changed(0, b'M'),
        "it is not a 64-bit little-endian ELF file"
    );
    assert_eq!(changed(4, 1), "it is not a 64-bit little-endian ELF file");
    assert_eq!(
        changed(16, 2),
        "it is not a shared object for x86-64 (type 2, machine 62)"
    );
    assert_eq!(
        changed(18, 183),
        "it is not a shared object for x86-64 (type 3, machine 183)"
    );
    assert_eq!(
        changed(58, 63),
        "its section table is odd: 6 entries of 63 bytes, names in 5"
    );
    assert_eq!(
        changed(62, 6),
        "its section table is odd: 6 entries of 64 bytes, names in 6"
    );
    assert!(changed(47, 0xff).starts_with("section table at byte "));
}

#[test]
fn a_missing_or_doubled_section_is_named() {
    for name in [".dynsym", ".dynstr", ".gnu.hash"] {
        let library = Library {
            renamed_section: Some((name, ".other")),
            ..Library::default()
        };
        assert_eq!(
            refusal(library.build()),
            format!("it has no section `{name}`")
        );
        let library = Library {
            extra_section: Some(name),
            ..Library::default()
        };
        assert_eq!(
            refusal(library.build()),
            format!("it has several sections `{name}`")
        );
    }
    let library = Library {
        extra_section: Some(".hash"),
        ..Library::default()
    };
    assert_eq!(
        refusal(library.build()),
        "it has a section `.hash`, which would go stale"
    );
}

#[test]
fn a_missing_symbol_is_named() {
    let mut library = Library::default();
    library.symbols[5].0 = "PyInit_something_else";
    assert_eq!(
        refusal(library.build()),
        "it does not export `PyInit_onnxruntime_pybind11_state`"
    );
    // Defined elsewhere is not exported from here.
    let mut library = Library::default();
    library.symbols[5].2 = 0;
    assert_eq!(
        refusal(library.build()),
        "it does not export `PyInit_onnxruntime_pybind11_state`"
    );
    let mut library = Library::default();
    library.symbols[1].0 = "malloc";
    library.symbols[3].0 = "stderr";
    assert_eq!(
        refusal(library.build()),
        "it refers to no symbol of Python, so it is not an extension module"
    );
}

#[test]
fn other_code_at_the_address_is_refused() {
    let mut library = Library::default();
    library.code[16 + 7] ^= 1;
    assert_eq!(
        refusal(library.build()),
        "the code at 0x1010 does not return the address 0x2020"
    );
    let mut library = Library::default();
    library.code[16 + 11] = 0x90;
    assert_eq!(
        refusal(library.build()),
        "the code at 0x1010 does not return the address 0x2020"
    );
    let library = Library {
        code: vec![RETURN; 8],
        ..Library::default()
    };
    assert_eq!(
        refusal(library.build()),
        "no code lies at the address 0x1010"
    );
}

#[test]
fn a_hash_table_without_room_is_refused() {
    let library = Library {
        hash_room: 32,
        ..Library::default()
    };
    assert_eq!(
        refusal(library.build()),
        "its hash table has 32 bytes, 36 are needed"
    );
}

#[test]
fn no_truncation_and_no_flipped_byte_makes_it_panic() {
    let good = Library::default().build();
    for length in 0..good.len() {
        assert!(
            rewrite_structure(good[..length].to_vec(), ADDRESSES).is_err(),
            "cut to {length} bytes"
        );
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            if let Ok(rewritten) = rewrite_structure(bytes, ADDRESSES) {
                assert_eq!(rewritten.len(), good.len());
            }
        }
    }
}

#[test]
fn an_installed_library_exports_its_entry_point() {
    let store = Store::new(&RuntimeSettings::from_environment().unwrap().cache);
    for wheel in wheels_for(Platform::current()) {
        let Some(original) = wheel.files[0].original else {
            continue;
        };
        if store.state(wheel, Depth::Quick) != State::Installed {
            println!("{} is not installed here: not checked", wheel.id());
            continue;
        }
        let library = std::fs::read(store.library(wheel)).unwrap();
        assert_eq!(
            look_up(&library, "OrtGetApiBase"),
            Some((0x12, original.addresses.get_api_base, 16))
        );
        assert_eq!(look_up(&library, "PyInit_onnxruntime_pybind11_state"), None);
        let again = rewrite_structure(library, original.addresses).unwrap_err();
        assert_eq!(again.to_string(), "it has a symbol `OrtGetApiBase` already");
    }
}
