//! Natural order of names: runs of digits compare by their value, so `size 9` comes before `size 10`.
//!
//! Class names are frozen into a model in this order. It is total and knows no locale: outside digits it is code point order.

use std::cmp::Ordering;

/// Compares two names naturally; `Equal` only for identical strings.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut rest_left, mut rest_right) = (left, right);
    loop {
        let (digits_left, digits_right) = (leading_digits(rest_left), leading_digits(rest_right));
        if !digits_left.is_empty() && !digits_right.is_empty() {
            match by_value(digits_left, digits_right) {
                Ordering::Equal => {}
                different => return different,
            }
            rest_left = &rest_left[digits_left.len()..];
            rest_right = &rest_right[digits_right.len()..];
            continue;
        }
        let (mut chars_left, mut chars_right) = (rest_left.chars(), rest_right.chars());
        match (chars_left.next(), chars_right.next()) {
            (None, None) => break,
            (a, b) if a != b => return a.cmp(&b),
            _ => (rest_left, rest_right) = (chars_left.as_str(), chars_right.as_str()),
        }
    }
    // Only leading zeros are left to tell them apart: `7` before `07`.
    left.len().cmp(&right.len()).then_with(|| right.cmp(left))
}

fn leading_digits(text: &str) -> &str {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    &text[..end]
}

/// Compares digit strings of any length without parsing them into a number that could overflow.
fn by_value(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_compare_by_value() {
        let mut names = [
            "size 10", "size 9", "Size 1", "size", "10", "9", "007", "7", "size 9b", "size 9 b",
            "ärmel", "zip",
        ];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            [
                "7", "007", "9", "10", "Size 1", "size", "size 9", "size 9 b", "size 9b",
                "size 10", "zip", "ärmel"
            ]
        );
    }

    #[test]
    fn numbers_beyond_any_integer_type_compare() {
        let (small, large) = ("9".repeat(40), format!("1{}", "0".repeat(40)));
        assert_eq!(compare(&small, &large), Ordering::Less);
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in "[0-2a/é ]{0,6}", b in "[0-2a/é ]{0,6}", c in "[0-2a/é ]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn plain_numbers_sort_as_numbers(a: u64, b: u64) {
            prop_assert_eq!(compare(&a.to_string(), &b.to_string()), a.cmp(&b));
        }
    }
}
