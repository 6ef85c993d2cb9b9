//! Any bytes as the journal of a stopped run: rows, a torn end or an error.
//!
//! Every second input is cut into frames with the right checksums; otherwise none would ever get past them.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static JOURNAL: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("journal-{}", std::process::id())));

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((&length, behind)) = rest.split_first() {
        let (frame, behind) = behind.split_at(behind.len().min(length.into()));
        let length = (frame.len() as u32).to_le_bytes();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&length);
        checksum.update(frame);
        frames.extend(length);
        frames.extend(checksum.finalize().to_le_bytes());
        frames.extend(frame);
        rest = behind;
    }
    frames
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, content)) = bytes.split_first() else {
        return;
    };
    if how % 2 == 0 {
        pipeline::fuzzing::replay_journal(&JOURNAL, content);
    } else {
        pipeline::fuzzing::replay_journal(&JOURNAL, &framed(content));
    }
});
