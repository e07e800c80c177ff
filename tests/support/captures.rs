//! Captures that tests change.

use std::fs;
use std::path::Path;

use masdeepflow::format::record::{Record, Workload};
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

/// Writes the records of `from` to `to`, in blocks of so many records: where something can be left out, there must be
/// many blocks.
pub fn in_small_blocks(from: &Path, to: &Path, records_of_a_block: usize) {
    let file = fs::read(from).expect("a capture");
    let reader = Reader::open(&file).expect("a capture");
    let mut writer = Writer::new(Vec::new(), reader.header(), 1).expect("memory has room");
    let mut raw = Vec::new();
    for block in reader.blocks() {
        block.inflate(&mut raw).expect("a good block");
        let all: Vec<Record<'_>> = records(&raw).map(|record| record.expect("a good record")).collect();
        for some in all.chunks(records_of_a_block) {
            let mut small = BlockBuilder::new(block.class());
            some.iter().for_each(|record| small.push(record));
            writer.write(&small.take()).expect("memory has room");
        }
    }
    let (bytes, _) = writer.finish().expect("memory has room");
    fs::write(to, bytes).expect("the folder can be written");
}

/// Writes the records of `from` to `to` with state before them that calls these cgroups pods.
pub fn with_pods(from: &Path, to: &Path, pods: &[(u64, &str)]) {
    let file = fs::read(from).expect("a capture");
    let reader = Reader::open(&file).expect("a capture");
    let mut writer = Writer::new(Vec::new(), reader.header(), 1).expect("memory has room");
    let mut first = BlockBuilder::new(Class::State);
    for (cgroup, pod) in pods {
        first.push(&Record::Workload(Workload {
            time: reader.header().clock.boot,
            cgroup: *cgroup,
            container_id: "",
            runtime: "containerd",
            container: "app",
            pod_uid: "",
            pod,
            namespace: "shop",
            workload: "",
            labels: "",
        }));
    }
    writer.write(&first.take()).expect("memory has room");
    let mut raw = Vec::new();
    for block in reader.blocks() {
        block.inflate(&mut raw).expect("a good block");
        let mut same = BlockBuilder::new(block.class());
        records(&raw).for_each(|record| same.push(&record.expect("a good record")));
        writer.write(&same.take()).expect("memory has room");
    }
    let (bytes, _) = writer.finish().expect("memory has room");
    fs::write(to, bytes).expect("the folder can be written");
}
