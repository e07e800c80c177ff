//! Files of later versions, read by this one.

use super::sample;
use crate::format::record::{Direction, Record};
use crate::format::{Class, Error, Kind, Reader, records};

/// Changes the two versions in the file header. That changes the file tag, so there are no blocks of this file left.
fn with_versions(version: u16, readable_by: u16) -> Vec<u8> {
    let mut file = sample::crashed_file();
    file.truncate(sample::ranges(&file)[0].start);
    file[8..10].copy_from_slice(&version.to_le_bytes());
    file[10..12].copy_from_slice(&readable_by.to_le_bytes());
    let mut checked = file[8..16].to_vec();
    checked.extend_from_slice(&file[20..]);
    file[16..20].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
    file
}

#[test]
fn a_newer_file_is_read_when_it_says_that_it_can_be() {
    let file = with_versions(7, 1);
    assert_eq!(Reader::open(&file).map(|reader| reader.version()), Ok(7));
}

#[test]
fn a_newer_file_that_cannot_be_read_is_refused_in_words() {
    let error = Reader::open(&with_versions(7, 2)).expect_err("needs a newer reader");
    assert_eq!(error, Error::Version { needs: 2 });
    assert!(error.to_string().contains("newer mdf"));
}

#[test]
fn unknown_kinds_are_stepped_over_and_counted() {
    let mut raw = Vec::new();
    for kind in [0, 14, 200, 255] {
        raw.extend_from_slice(&[kind, 3, 0, 0, 1, 2, 3]);
    }
    raw.extend_from_slice(&[12, 24, 0, 0]);
    raw.extend_from_slice(&[0; 24]);
    raw.extend_from_slice(&[99, 0, 0, 0]);
    let mut iter = records(&raw);
    assert!(matches!(iter.next(), Some(Ok(Record::Clock(_)))));
    assert_eq!(iter.next(), None);
    assert_eq!(iter.unknown(), 5);
}

#[test]
fn fields_appended_to_a_record_are_passed_over() {
    let mut raw = vec![12, 29, 0, 0];
    raw.extend_from_slice(&[1; 24]);
    raw.extend_from_slice(b"later");
    raw.extend_from_slice(&[12, 24, 0, 0]);
    raw.extend_from_slice(&[1; 24]);
    let all = sample::all(&raw);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], all[1]);
}

#[test]
fn unknown_values_of_enums_are_kept() {
    let mut builder = crate::format::BlockBuilder::new(Class::Events);
    builder.push(&sample::events()[2]);
    let mut block = builder.take();
    block.bytes[4 + 40] = 9;
    let Some(Ok(Record::Data(data))) = block.records().next() else {
        panic!("a data record")
    };
    assert_eq!(data.direction, Direction::Unknown(9));
    assert_eq!(data.payload, b"GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn blocks_of_unknown_classes_are_stepped_over_and_counted() {
    let mut file = sample::crashed_file();
    let start = sample::ranges(&file)[1].start;
    file[start + 14] = 77;
    sample::seal(&mut file, start);
    let reader = Reader::open(&file).expect("a good file");
    assert_eq!((reader.blocks().len(), reader.unknown_blocks()), (3, 1));
}

#[test]
fn a_block_of_unknown_compression_is_an_error_of_that_block() {
    let mut file = sample::crashed_file();
    let start = sample::ranges(&file)[1].start;
    file[start + 15] = 9;
    sample::seal(&mut file, start);
    let reader = Reader::open(&file).expect("a good file");
    let refused = reader.blocks()[1].inflate(&mut Vec::new());
    assert_eq!(
        refused,
        Err(Error::Compression {
            offset: start as u64,
            method: 9
        })
    );
}

#[test]
fn longer_block_headers_are_read_by_their_known_part() {
    let mut file = sample::crashed_file();
    let range = sample::ranges(&file)[1].clone();
    let whole = sample::read(&file).expect("a good file");
    file[range.start + 12..range.start + 14].copy_from_slice(&367u16.to_le_bytes());
    file.splice(range.start + 360..range.start + 360, *b"laterxx");
    sample::seal(&mut file, range.start);
    assert_eq!(sample::read(&file), Ok(whole));
}

#[test]
fn records_of_unknown_kinds_are_counted_in_the_block_header() {
    let mut file = sample::crashed_file();
    let start = sample::ranges(&file)[1].start;
    file[start + 72..start + 76].copy_from_slice(&5u32.to_le_bytes());
    file[start + 72 + 4 * 20..start + 76 + 4 * 20].copy_from_slice(&6u32.to_le_bytes());
    sample::seal(&mut file, start);
    let reader = Reader::open(&file).expect("a good file");
    assert_eq!(reader.blocks()[1].counts().unknown(), 11);
    assert_eq!(reader.blocks()[1].count(Kind::Data), 2);
}
