//! What is read of a pickle, and what is refused.

use proptest::prelude::*;

use super::*;

/// The opcodes the reader knows, for pickles made at random.
const OPCODES: &[u8] = b"NJKMXqrhj(t)}]suaecQRb.\x80\x85\x86\x87\x88\x89";

/// The reason why a pickle with this content is refused.
fn refusal(content: &[u8]) -> String {
    let pickle = [b"\x80\x02", content, b"."].concat();
    let error = read(&pickle).err();
    format!(
        "{:#}",
        error.unwrap_or_else(|| panic!("{content:?} is read"))
    )
}

#[test]
fn a_dictionary_and_a_list_are_read_and_what_is_behind_them_is_not() {
    let dictionary = read(b"\x80\x02}X\x01\0\0\0aK\x07s.behind").unwrap();
    assert_eq!(dictionary.length, 13);
    assert!(matches!(
        dictionary.entries(),
        Some([(Value::Text(key), Value::Int(7))]) if &**key == "a"
    ));
    assert!(dictionary.elements().is_none());

    let list = read(b"\x80\x02](K\x01M\x02\x01J\xff\xff\xff\xffe.").unwrap();
    assert!(matches!(
        list.elements(),
        Some([Value::Int(1), Value::Int(258), Value::Int(-1)])
    ));
    assert!(list.entries().is_none());
}

#[test]
fn nothing_is_called_but_what_makes_tensors() {
    assert_eq!(
        refusal(b"cposix\nsystem\n(X\x02\0\0\0lstR"),
        "at byte 2 of the pickle: the pickle wants \"posix\" \"system\", which is none of a file of tensors"
    );
    for name in [
        "builtins\neval",
        "__builtin__\ngetattr",
        "torch\nload",
        "torch\nDoubleStorage",
        "collections\nOrderedDict.fromkeys",
        "torch._utils\n_rebuild_parameter",
    ] {
        let message = refusal(format!("c{name}\n").as_bytes());
        assert!(message.contains("the pickle wants"), "{message}");
    }
    for content in [
        // A storage class, a dictionary with arguments, a text.
        b"ctorch\nFloatStorage\n)R".as_slice(),
        b"ccollections\nOrderedDict\nK\x01\x85R",
        b"X\x01\0\0\0a)R",
    ] {
        let message = refusal(content);
        assert!(message.contains("something is called"), "{message}");
    }
}

#[test]
fn other_opcodes_are_refused() {
    for opcode in 0..=u8::MAX {
        if !OPCODES.contains(&opcode) {
            let expected = format!(
                "at byte 2 of the pickle: the opcode 0x{opcode:02x} is none of those that files of tensors have"
            );
            assert_eq!(refusal(&[opcode]), expected);
        }
    }
    assert!(refusal(b"\x80\x04N").contains("protocol 4"));
}

#[test]
fn pickles_that_do_not_fit_together_are_refused() {
    for (content, expected) in [
        (b"".as_slice(), "a value is missing"),
        (b"K\x01K\x02", "leaves values over"),
        (b"K\x01(", "a value is missing"),
        (b"t", "a mark is missing"),
        (b"K\x01(\x85", "values are missing"),
        (b"K\x01s", "values are missing"),
        (b"K\x01K\x02K\x03s", "a dictionary or a list is missing"),
        (b"}(K\x01u", "a key has no value"),
        (b"]K\x01K\x02s", "a list is used as a dictionary"),
        (b"}K\x01a", "a dictionary is used as a list"),
        (b"h\x07", "value 7 was never stored"),
        (b"q\x00", "a value is missing"),
        (b"K\x01}b", "something other than a dictionary"),
        (b"X\x01\0\0\0\xff", "not UTF-8"),
        (b"X\xff\xff\xff\xffab", "ends too early"),
        (b"cposix", "a name has no end"),
        (b"K\x01Q", "a reference is not to a storage"),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R",
            "a tensor has other arguments",
        ),
        (b")\x85\x85\x85\x85", "nested deeper than 4"),
    ] {
        let message = refusal(content);
        assert!(message.contains(expected), "{expected} is not in {message}");
    }
    assert!(read(b"").is_err() && read(b"\x80\x02N").is_err());
}

#[test]
fn a_pickle_without_end_is_refused_before_it_takes_all_memory() {
    let endless = vec![b'N'; MAX_BYTES + 1];
    let message = format!("{:#}", read(&endless).unwrap_err());
    assert!(message.contains("longer than"), "{message}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop::collection::vec(
            prop_oneof![3 => prop::sample::select(OPCODES), 1 => 0_u8..8, 1 => any::<u8>()],
            0..200,
        ),
    ) {
        let _ = read(&bytes);
    }
}
