//! File names as text: any name becomes one line of UTF-8 that a spreadsheet cannot take for a formula, and back.
//!
//! The escape is percent-encoding, applied only where it is needed: control characters and line separators, bytes that are
//! not UTF-8, and a `%` that would otherwise read as an escape. Percent-decoding a cell (`urllib.parse.unquote_to_bytes` in
//! Python) gives back the exact bytes; a cell without `%` is the name itself. Relative paths start with `./`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

/// Writes a path: `/` between components, `./` before a relative one, escapes where needed.
pub fn path_text(path: &Path) -> String {
    let mut bytes = Vec::new();
    if path.is_relative() {
        bytes.extend(b".");
    }
    for component in path.components() {
        match component {
            // On Unix the root is the slash that comes before the next component anyway.
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(prefix) => bytes.extend(os_bytes(prefix.as_os_str())),
            Component::ParentDir | Component::Normal(_) => {
                bytes.push(b'/');
                bytes.extend(os_bytes(component.as_os_str()));
            }
        }
    }
    escape(&bytes)
}

/// Writes other text, such as a label or a message: the same escapes, and one for a first character that would make a
/// spreadsheet take the cell for a formula.
pub fn cell_text(text: &str) -> String {
    let escaped = escape(text.as_bytes());
    match escaped.as_bytes().first() {
        Some(first @ (b'=' | b'+' | b'-' | b'@')) => format!("%{first:02X}{}", &escaped[1..]),
        _ => escaped,
    }
}

/// Gives back the bytes behind [`path_text`] or [`cell_text`]; a path keeps its leading `./`.
pub fn decode_text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match escaped_byte(rest) {
            Some(byte) => {
                bytes.push(byte);
                &after[2..]
            }
            None => {
                bytes.push(*first);
                after
            }
        };
    }
    bytes
}

/// Gives back the path behind [`path_text`]; none where this system has no path of those bytes.
pub fn path_of(text: &str) -> Option<PathBuf> {
    let bytes = decode_text(text);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        Some(std::ffi::OsString::from_vec(bytes).into())
    }
    #[cfg(not(unix))]
    {
        String::from_utf8(bytes).ok().map(PathBuf::from)
    }
}

fn os_bytes(text: &OsStr) -> &[u8] {
    text.as_encoded_bytes()
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let misread = character == '%' && escaped_byte(rest).is_some();
            rest = &rest[character.len_utf8()..];
            if misread || character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                push_escaped(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        rest = &rest[chunk.invalid().len()..];
        push_escaped(&mut text, chunk.invalid());
    }
    text
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "%{byte:02X}");
    }
}

/// The byte that an escape at the start of `text` stands for.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in [
            "shirt/a b.jpg",
            "100% cotton.jpg",
            "50%.png",
            "größe 😀.jpeg",
            "-n",
            "=1+1.jpg",
            "a\"b,c'.jpg",
            "%zz",
        ] {
            assert_eq!(path_text(Path::new(name)), format!("./{name}"));
        }
        assert_eq!(path_text(Path::new("/data/x.jpg")), "/data/x.jpg");
        assert_eq!(path_text(Path::new("../x/./y.jpg")), "./../x/y.jpg");
        assert_eq!(path_text(Path::new("./x.jpg")), "./x.jpg");
    }

    #[test]
    fn what_breaks_lines_or_is_not_text_is_escaped() {
        assert_eq!(
            path_text(Path::new("a\nb\r\t\u{7f}\u{85}\u{2028}.jpg")),
            "./a%0Ab%0D%09%7F%C2%85%E2%80%A8.jpg"
        );
        assert_eq!(
            path_text(Path::new(OsStr::from_bytes(b"caf\xe9.jpg"))),
            "./caf%E9.jpg"
        );
        assert_eq!(path_text(Path::new("a%0Ab")), "./a%250Ab");
        assert_eq!(path_text(Path::new("a%%0Ab")), "./a%%250Ab");
        assert_eq!(path_text(Path::new("a%\nb")), "./a%%0Ab");
    }

    #[test]
    fn a_cell_is_never_a_formula() {
        assert_eq!(cell_text("=cmd()"), "%3Dcmd()");
        assert_eq!(cell_text("-1"), "%2D1");
        assert_eq!(cell_text("\t=x"), "%09=x");
        assert_eq!(cell_text("t-shirt, 50% wool"), "t-shirt, 50% wool");
        assert_eq!(decode_text("%3Dcmd()"), b"=cmd()");
    }

    /// Names weighted towards what matters here: percent signs, hexadecimal digits, controls, broken UTF-8.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b'%'),
            b'0'..=b'9',
            b'A'..=b'F',
            1u8..=255,
            Just(b'"'),
            Just(b','),
            Just(b'=')
        ];
        proptest::collection::vec(
            byte.prop_filter("no separator", |&byte| byte != b'/'),
            1..24,
        )
        .prop_filter("no special name", |name| name != b"." && name != b"..")
    }

    proptest! {
        #[test]
        fn any_name_survives_a_csv_file(names in proptest::collection::vec(name(), 1..4)) {
            let path: PathBuf = names.iter().map(|name| std::ffi::OsString::from_vec(name.clone())).collect();
            let text = path_text(&path);
            prop_assert!(!text.chars().any(char::is_control));

            let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
            writer.write_record([&text, "x"]).unwrap();
            let file = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(file.matches('\n').count(), 1);

            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file.as_bytes());
            let record = reader.records().next().unwrap().unwrap();
            prop_assert_eq!(decode_text(&record[0]), [b"./", path.as_os_str().as_bytes()].concat());
            prop_assert_eq!(path_of(&record[0]), Some(Path::new(".").join(&path)));
        }

        #[test]
        fn any_text_survives_a_cell(text in any::<String>()) {
            let cell = cell_text(&text);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(decode_text(&cell), text.as_bytes());
        }
    }
}
