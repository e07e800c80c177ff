//! False lengths, and bytes that are no capture at all.

use proptest::prelude::*;

use super::sample;
use crate::format::layout::{COMPRESSED_LIMIT, RAW_LIMIT};
use crate::format::{Error, Reader, What, records};

/// The sample with other bytes in the header of its second block, its checksum made right.
fn with_head(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = sample::crashed_file();
    let start = sample::ranges(&file)[1].start;
    file[start + at..start + at + bytes.len()].copy_from_slice(bytes);
    sample::seal(&mut file, start);
    file
}

#[test]
fn a_block_that_claims_to_inflate_beyond_the_limit_is_refused_before_allocating() {
    for len in [RAW_LIMIT as u32 + 1, u32::MAX] {
        let file = with_head(28, &len.to_le_bytes());
        let reader = Reader::open(&file).expect("the header is good");
        let block = reader.blocks()[1];
        let mut raw = Vec::new();
        let refused = block.inflate(&mut raw);
        assert_eq!(
            refused,
            Err(Error::BlockTooLong {
                offset: block.offset(),
                len: u64::from(len)
            })
        );
        assert_eq!(raw.capacity(), 0);
    }
}

#[test]
fn a_block_that_inflates_to_another_length_than_stated_is_refused() {
    for len in [0, 10, 1 << 20] {
        let file = with_head(28, &u32::to_le_bytes(len));
        let reader = Reader::open(&file).expect("the header is good");
        let mut raw = Vec::new();
        let block = reader.blocks()[1];
        assert_eq!(
            block.inflate(&mut raw),
            Err(Error::Inflate {
                offset: block.offset(),
                expected: len
            })
        );
        assert!(raw.is_empty() && raw.capacity() <= RAW_LIMIT);
    }
}

#[test]
fn a_block_that_claims_to_be_longer_than_the_file_costs_that_block() {
    for len in [COMPRESSED_LIMIT as u32, u32::MAX] {
        let file = with_head(24, &len.to_le_bytes());
        let reader = Reader::open(&file).expect("the header is good");
        assert_eq!(reader.blocks().len(), 3);
        assert!(
            reader
                .damage()
                .iter()
                .any(|damage| damage.what == What::Block && damage.records == 7)
        );
    }
}

#[test]
fn a_header_that_claims_to_be_long_is_refused() {
    for len in [(1u32 << 20) + 1, u32::MAX, 1 << 20] {
        let mut file = sample::crashed_file();
        file[12..16].copy_from_slice(&len.to_le_bytes());
        assert!(matches!(
            Reader::open(&file),
            Err(Error::Header { .. } | Error::HeaderCut { .. })
        ));
    }
}

#[test]
fn an_index_that_claims_many_blocks_or_losses_is_not_believed() {
    let start = sample::crashed_file().len();
    for (at, len) in [(20, 4), (24, 8), (16, 4)] {
        for value in [u64::MAX, u64::from(u32::MAX) / 24 + 1, 5] {
            let mut file = sample::file();
            file[start + at..start + at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            let end = file.len() - 40;
            let checksum = crc32fast::hash(&file[start + 12..end]);
            file[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
            let reader = Reader::open(&file).expect("the front is good");
            assert_eq!(reader.blocks().len(), 4);
            assert!(!reader.clean_end());
        }
    }
}

#[test]
fn an_index_whose_blocks_overlap_is_not_believed() {
    let start = sample::crashed_file().len();
    let mut file = sample::file();
    let end = file.len() - 40;
    // The last entry: offset and header of the fourth block. Let it point at the first block.
    let first = sample::ranges(&file)[0].start as u64;
    file[end - 368..end - 360].copy_from_slice(&first.to_le_bytes());
    let checksum = crc32fast::hash(&file[start + 12..end]);
    file[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
    let reader = Reader::open(&file).expect("the front is good");
    assert_eq!(reader.blocks().len(), 4);
    assert_eq!(
        reader.damage().iter().map(|d| d.what).collect::<Vec<_>>(),
        [What::Index]
    );
}

#[test]
fn an_index_after_damage_that_claims_to_be_as_long_as_memory_is_passed_over() {
    for len in [u64::MAX, u64::MAX - 39, 41] {
        let mut file = sample::crashed_file();
        let tag = file[16..20].to_vec();
        file.extend_from_slice(b"damage");
        file.extend_from_slice(b"\xf5MDFIDX\n\0\0\0\0");
        file.extend_from_slice(&tag);
        file.extend_from_slice(&[0; 16]);
        file.extend_from_slice(&len.to_le_bytes());
        let reader = Reader::open(&file).expect("the front is good");
        assert_eq!(reader.blocks().len(), 4);
        assert!(
            reader
                .damage()
                .iter()
                .any(|damage| damage.what == What::NotABlock && damage.len == 46)
        );
    }
}

#[test]
fn a_record_longer_than_its_block_ends_the_block() {
    let mut raw = vec![10, 255, 255, 255];
    raw.extend_from_slice(&[0; 60]);
    let all: Vec<_> = records(&raw).collect();
    assert_eq!(
        all,
        [Err(Error::Frame {
            at: 0,
            len: 0xff_ffff,
            left: 60
        })]
    );
}

#[test]
fn lengths_inside_a_record_cannot_reach_beyond_it() {
    // A cgroup record (kind 2) with a path of 2^64 - 1 bytes, then a good owner record (kind 6).
    let mut raw = vec![2, 24, 0, 0];
    raw.extend_from_slice(&[0; 16]);
    raw.extend_from_slice(&[255; 8]);
    raw.extend_from_slice(&[6, 28, 0, 0]);
    raw.extend_from_slice(&[0; 28]);
    let all: Vec<_> = records(&raw).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], Err(Error::Record { at: 0, kind: 2 }));
    assert!(all[1].is_ok());
}

#[test]
fn texts_must_be_utf8_and_truth_must_be_0_or_1() {
    // An address record (kind 4): time, ip, kind, then a namespace that is not UTF-8.
    let mut raw = vec![4, 42, 0, 0];
    raw.extend_from_slice(&[0; 24]);
    raw.push(1);
    raw.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    raw.extend_from_slice(&[0; 8]);
    assert_eq!(
        records(&raw).collect::<Vec<_>>(),
        [Err(Error::Record { at: 0, kind: 4 })]
    );
}

#[test]
fn no_capture_file_is_refused_in_words() {
    for (bytes, error) in [
        (&b""[..], Error::NotACapture),
        (b"\x89", Error::HeaderCut { len: 1 }),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", Error::NotACapture),
        (b"\x89MDF\n\x1a\n and so on, mangled as text", Error::NotACapture),
    ] {
        assert_eq!(Reader::open(bytes).err(), Some(error));
    }
}

proptest! {
    #[test]
    fn any_bytes_as_a_block_never_panic(raw in prop::collection::vec(any::<u8>(), 0..400)) {
        let all = records(&raw).count();
        prop_assert!(all <= raw.len() / 4 + 1);
    }

    #[test]
    fn any_bytes_as_a_file_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..2000) {
        let _ = Reader::open(&tail);
        let mut file = sample::file();
        file.truncate(at);
        file.extend_from_slice(&tail);
        let _ = sample::read(&file);
    }
}
