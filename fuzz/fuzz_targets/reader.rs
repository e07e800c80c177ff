//! Any bytes as a capture file: a result or an error, never a panic, and no memory beyond the stated limits.
//!
//! Checksums would keep a fuzzer at the door, so the same bytes are also taken as the records of a block, and as a file
//! whose block headers get the checksums that they should have, alone and after the header of a good file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use masdeepflow::format::layout::{
    BLOCK_HEAD_LEN, BLOCK_HEAD_LIMIT, BLOCK_MAGIC, FILE_HEAD_LEN, FILE_MAGIC, RAW_LIMIT,
};
use masdeepflow::format::{Reader, records};
use masdeepflow::info::Info;

/// A good file, up to its first block.
const FRONT: &[u8] = include_bytes!("../../fixtures/format/v1.mdf").split_at(FRONT_LEN).0;
const FRONT_LEN: usize = 232;

fuzz_target!(|bytes: &[u8]| {
    count(bytes);
    read(bytes);
    read(&sealed(bytes));
    read(&sealed(&[FRONT, bytes].concat()));
});

fn count(raw: &[u8]) {
    let mut all = records(raw);
    let found = all.by_ref().count() as u64 + all.unknown();
    assert!(found <= raw.len() as u64 / 4 + 1);
}

fn read(file: &[u8]) {
    let Ok(reader) = Reader::open(file) else { return };
    let mut raw = Vec::new();
    for block in reader.blocks() {
        if block.inflate(&mut raw).is_ok() {
            assert_eq!(raw.len(), block.raw_len() as usize);
            count(&raw);
        }
        assert!(raw.capacity() <= RAW_LIMIT);
    }
    let info = Info::gather(&reader);
    assert!(info.to_text().lines().all(|line| !line.chars().any(char::is_control)));
    assert!(info.to_json().is_ok());
    assert!(
        reader
            .damage()
            .iter()
            .all(|damage| damage.offset + damage.len <= file.len() as u64)
    );
}

/// The same file with right checksums in the file header and in all that looks like a block header.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    if file.len() < FILE_HEAD_LEN || !file.starts_with(&FILE_MAGIC) {
        return file;
    }
    let len = u32::from_le_bytes([file[12], file[13], file[14], file[15]]) as usize;
    let Some(end) = FILE_HEAD_LEN.checked_add(len).filter(|&end| end <= file.len()) else {
        return file;
    };
    let tag = crc32fast::hash(&[&file[8..16], &file[FILE_HEAD_LEN..end]].concat()).to_le_bytes();
    file[16..20].copy_from_slice(&tag);
    let mut at = end;
    while at + BLOCK_HEAD_LEN <= file.len() {
        if !file[at..].starts_with(&BLOCK_MAGIC) {
            at += 1;
            continue;
        }
        let len = usize::from(u16::from_le_bytes([file[at + 12], file[at + 13]]));
        if (BLOCK_HEAD_LEN..=BLOCK_HEAD_LIMIT).contains(&len) && at + len <= file.len() {
            file[at + 16..at + 20].copy_from_slice(&tag);
            let body_len = u32::from_le_bytes([file[at + 24], file[at + 25], file[at + 26], file[at + 27]]) as usize;
            if let Some(body) = file.get(at + len..).and_then(|rest| rest.get(..body_len)) {
                let checksum = crc32fast::hash(body).to_le_bytes();
                file[at + 36..at + 40].copy_from_slice(&checksum);
            }
            let checksum = crc32fast::hash(&file[at + 12..at + len]).to_le_bytes();
            file[at + 8..at + 12].copy_from_slice(&checksum);
        }
        at += 8;
    }
    file
}
