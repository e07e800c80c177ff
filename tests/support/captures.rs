//! Captures that tests change.

use std::fs;
use std::path::Path;

use masdeepflow::format::record::Record;
use masdeepflow::format::{BlockBuilder, Class, Header, Reader, Writer, records};

/// Where a record stands in the changed capture.
pub enum Place {
    /// Where it stood.
    Here,
    /// At its end; for state.
    Last,
    Nowhere,
}

/// Writes the records of `from` to `to`, as `place` changes and places them.
pub fn edit(from: &Path, to: &Path, place: impl Fn(&mut Record<'_>) -> Place) {
    edit_with_header(from, to, |_| {}, place);
}

/// The same with another header.
pub fn edit_with_header(
    from: &Path,
    to: &Path,
    change: impl Fn(&mut Header),
    place: impl Fn(&mut Record<'_>) -> Place,
) {
    let file = fs::read(from).expect("fixture");
    let reader = Reader::open(&file).expect("a capture");
    let mut header = reader.header().clone();
    change(&mut header);
    let mut writer = Writer::new(Vec::new(), &header, 3).expect("memory has room");
    let mut last = BlockBuilder::new(Class::State);
    let mut raw = Vec::new();
    for block in reader.blocks() {
        block.inflate(&mut raw).expect("a good block");
        let mut here = BlockBuilder::new(block.class());
        for record in records(&raw) {
            let mut record = record.expect("a good record");
            match place(&mut record) {
                Place::Here => here.push(&record),
                Place::Last => last.push(&record),
                Place::Nowhere => {}
            }
        }
        writer.write(&here.take()).expect("memory has room");
    }
    writer.write(&last.take()).expect("memory has room");
    let (bytes, _) = writer.finish().expect("memory has room");
    fs::write(to, bytes).expect("the folder can be written");
}
