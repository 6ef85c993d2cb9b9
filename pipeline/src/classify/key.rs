//! The place of a file in the output's order, as bytes that compare like the paths they stand for.
//!
//! Paths are ordered by the bytes of their components. With NUL, which no name contains, between the components, that is the
//! order of the keys as plain bytes; so journals, shards and lists agree on it without taking paths apart again.

use std::path::{Component, Path};

use super::path_text::decode_text;

/// Where a file stands in the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// The key of a path as the output shows it.
    pub(crate) fn of(shown: &Path) -> Self {
        let mut bytes = Vec::with_capacity(shown.as_os_str().len() + 1);
        for (place, component) in components(shown).enumerate() {
            if place > 0 {
                bytes.push(0);
            }
            bytes.extend(component);
        }
        Self(bytes)
    }

    /// The key of a path whose bytes are as the output decodes to.
    pub(crate) fn of_shown_bytes(path: &[u8]) -> Self {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        Self(
            path.iter()
                .map(|&byte| if byte == b'/' { 0 } else { byte })
                .collect(),
        )
    }

    /// The key of a path from its cell of the output.
    pub(crate) fn of_cell(cell: &str) -> Self {
        Self::of_shown_bytes(&decode_text(cell))
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is the path of something below this one.
    pub(crate) fn is_above(&self, other: &Self) -> bool {
        self.0.is_empty()
            || other
                .0
                .strip_prefix(self.0.as_slice())
                .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Components as bytes; the root is an empty one, and `.` is none.
fn components(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.components().filter_map(|component| match component {
        Component::CurDir => None,
        Component::RootDir => Some(&b""[..]),
        _ => Some(component.as_os_str().as_encoded_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::path_text::path_text;

    #[test]
    fn keys_compare_like_the_components_of_paths() {
        let ordered = [
            "/a", "..x/a", "a", "a/b/c", "a/z.jpg", "a-b/x", "a.jpg", "b", "é.png",
        ];
        let keys: Vec<Key> = ordered.map(|path| Key::of(Path::new(path))).to_vec();
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(keys[2].is_above(&keys[3]) && !keys[2].is_above(&keys[5]));
        assert_eq!(Key::of(Path::new("./a//b")), Key::of(Path::new("a/b")));
    }

    #[test]
    fn a_key_can_be_had_from_the_cell_of_the_output() {
        for path in ["a/b.jpg", "/data/x y%0A.jpg", "../x\n/y"] {
            let path = Path::new(path);
            assert_eq!(Key::of_cell(&path_text(path)), Key::of(path));
        }
    }
}
