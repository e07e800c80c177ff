//! The sample file of each released version, kept for ever under fixtures/format/.

use super::sample;
use crate::format::{Reader, layout::VERSION, records};

const V1: &[u8] = include_bytes!("../../../fixtures/format/v1.mdf");
const V1_READING: &str = include_str!("../../../fixtures/format/v1.txt");

/// A file in words: its header, then each record.
fn reading(file: &[u8]) -> String {
    let reader = Reader::open(file).expect("a sample file");
    let mut out = format!("version {}\n{:#?}\n", reader.version(), reader.header());
    let mut raw = Vec::new();
    for block in reader.blocks() {
        out += &format!(
            "\n{:?} block {}, {} to {}\n",
            block.class(),
            block.number(),
            block.first_time(),
            block.last_time()
        );
        block.inflate(&mut raw).expect("a good block");
        for record in records(&raw) {
            // What was appended later shows only where it has a value.
            let record = format!("{:?}\n", record.expect("a good record"));
            out += &record.replace(", layer: Wire }", " }");
        }
    }
    out
}

#[test]
fn version_1_reads_as_it_did_when_it_was_released() {
    assert_eq!(reading(V1), V1_READING);
}

#[test]
fn what_is_written_today_has_the_bytes_of_the_newest_sample() {
    assert_eq!(VERSION, 1, "a new version needs a new sample");
    let today = sample::file();
    let (today, then) = (
        Reader::open(&today).expect("a good file"),
        Reader::open(V1).expect("a sample file"),
    );
    assert_eq!(today.header(), then.header());
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (today, then) in today.blocks().iter().zip(then.blocks()) {
        today.inflate(&mut a).expect("a good block");
        then.inflate(&mut b).expect("a good block");
        assert_eq!(a, b);
    }
}

#[test]
#[ignore = "writes fixtures/format/v1.*: only before version 1 is released"]
fn make_the_sample() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/format");
    let file = sample::file();
    std::fs::write(format!("{folder}/v1.mdf"), &file).expect("a writable folder");
    std::fs::write(format!("{folder}/v1.txt"), reading(&file)).expect("a writable folder");
}
