//! A file that PyTorch wrote, and what becomes of it when parts of it change.

use proptest::prelude::*;

use super::*;

/// A convolution and a normalisation; `tests/fixtures/torch_file` says how it was made.
const FILE: &[u8] = include_bytes!("../../tests/fixtures/torch_file/tensors.pth");

/// The file with one passage replaced.
fn changed(passage: &[u8], other: &[u8]) -> Vec<u8> {
    let places: Vec<_> = (0..FILE.len())
        .filter(|&place| FILE[place..].starts_with(passage))
        .collect();
    let [place] = places[..] else {
        panic!("{passage:?} is at {places:?}");
    };
    [&FILE[..place], other, &FILE[place + passage.len()..]].concat()
}

fn message(bytes: &[u8]) -> String {
    format!("{:#}", read(bytes).unwrap_err())
}

#[test]
fn a_file_of_pytorch_gives_its_tensors() {
    let tensors = read(FILE).unwrap();
    let counted = |place: u8, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|index| f32::from(place) + index as f32 / 8.0);
        Tensor::f32(shape, values.collect())
    };
    let expected = [
        ("0.weight", counted(0, &[3, 2, 1, 2])),
        ("1.weight", counted(1, &[3])),
        ("1.bias", counted(2, &[3])),
        ("1.running_mean", counted(3, &[3])),
        ("1.running_var", counted(4, &[3])),
        (
            "1.num_batches_tracked",
            Tensor {
                shape: vec![],
                data: TensorData::I64(vec![7]),
            },
        ),
    ]
    .map(|(name, tensor)| (name.to_owned(), tensor));
    assert_eq!(tensors, expected.into());
}

#[test]
fn other_formats_are_told_apart() {
    assert_eq!(
        message(b"PK\x03\x04 and so on"),
        "the file is in the zip format of PyTorch 1.6 and later, which is not read"
    );
    for bytes in [b"".as_slice(), b"\x80\x02", b"\x89PNG\r\n"] {
        assert_eq!(message(bytes), "the file does not begin as PyTorch's do");
    }
    let big_endian = changed(b"little_endianq\x02\x88", b"little_endianq\x02\x89");
    assert_eq!(message(&big_endian), "the numbers are not little endian");
}

/// The strides of the first tensor, whose shape is (3, 2, 1, 2).
const STRIDES: &[u8] = b"(K\x04K\x02K\x02K\x01t";

#[test]
fn axes_may_lie_in_any_order() {
    // The first axis is innermost, then the second; the third has one element, and its stride is as good as any.
    let permuted = read(&changed(STRIDES, b"(K\x01K\x03K\x63K\x06t")).unwrap();
    let places = [0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11];
    let values = places.map(|place| place as f32 / 8.0);
    assert_eq!(
        permuted["0.weight"],
        Tensor::f32(&[3, 2, 1, 2], values.to_vec())
    );
}

#[test]
fn tensors_that_are_no_whole_storage_are_refused() {
    let overlapping = [
        b"(K\x01K\x02K\x02K\x03t".as_slice(),
        b"(K\x04K\x02K\x02K\x02t",
        b"(K\x00K\x00K\x00K\x00t",
    ];
    for strides in overlapping {
        assert!(message(&changed(STRIDES, strides)).contains("overlap or have gaps"));
    }
    let fewer = changed(STRIDES, b"(K\x04K\x02K\x02t");
    assert!(message(&fewer).contains("overlap or have gaps"));
    let smaller = changed(b"(K\x03K\x02K\x01K\x02t", b"(K\x03K\x02K\x01K\x01t");
    assert!(message(&smaller).contains("it has 6 elements at 0 of a storage of 12"));
    let behind = changed(b"QK\x00(K\x03", b"QK\x01(K\x03");
    assert!(message(&behind).contains("it has 12 elements at 1 of a storage of 12"));
    let huge = changed(
        b"(K\x03K\x02K\x01K\x02t",
        b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft",
    );
    assert!(message(&huge).contains("its shape is too large"));
}

#[test]
fn files_that_are_too_short_or_too_long_are_refused() {
    for length in 0..FILE.len() {
        assert!(read(&FILE[..length]).is_err(), "{length} bytes are read");
    }
    assert_eq!(message(&[FILE, b"xy"].concat()), "2 bytes are left over");
}

#[test]
fn names_are_there_once() {
    assert_eq!(
        message(&changed(b"\x06\0\0\x001.bias", b"\x08\0\0\x001.weight")),
        "the tensor \"1.weight\" is there twice"
    );
}

proptest! {
    #[test]
    fn no_damage_makes_the_reader_panic(
        damage in prop::collection::vec((0..FILE.len(), any::<u8>()), 1..8),
        length in 0..=FILE.len(),
    ) {
        let mut bytes = FILE.to_vec();
        for (place, byte) in damage {
            bytes[place] = byte;
        }
        let _ = read(&bytes);
        let _ = read(&bytes[..length]);
    }
}
