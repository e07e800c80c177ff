//! What is written is read.

use super::sample;
use crate::format::Reader;

#[test]
fn every_kind_of_record_comes_back_as_it_was_written() {
    let file = sample::file();
    let reader = Reader::open(&file).expect("a good file");
    assert_eq!(reader.header(), &sample::header());
    assert!(reader.clean_end());
    assert_eq!(reader.damage(), []);
    let expected = sample::blocks();
    assert_eq!(reader.blocks().len(), expected.len());
    let mut raw = Vec::new();
    for (block, (class, records)) in reader.blocks().iter().zip(&expected) {
        block.inflate(&mut raw).expect("a good block");
        assert_eq!(block.class(), *class);
        assert_eq!(sample::all(&raw), *records);
    }
}
