//! What is written is read.

use proptest::prelude::*;

use super::sample;
use crate::format::layout::RECORD_LIMIT;
use crate::format::record::*;
use crate::format::{BlockBuilder, Class, Kind, Reader, Record, Writer};

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

/// What the records of the property tests borrow from.
#[derive(Debug)]
struct Material {
    numbers: Vec<u64>,
    bytes: Vec<Vec<u8>>,
    texts: Vec<String>,
    byte: u8,
    truth: bool,
}

fn material() -> impl Strategy<Value = Material> {
    (
        prop::collection::vec(any::<u64>(), 10),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 3),
        prop::collection::vec(".{0,12}", 8),
        any::<u8>(),
        any::<bool>(),
    )
        .prop_map(|(numbers, bytes, texts, byte, truth)| Material {
            numbers,
            bytes,
            texts,
            byte,
            truth,
        })
}

/// One record of every kind, made of this material.
fn every_kind(m: &Material) -> Vec<Record<'_>> {
    let n = |at: usize| m.numbers[at];
    let w = |at: usize| m.numbers[at] as u32;
    let end = |at: usize| Endpoint {
        ip: (u128::from(n(at)) << 40).to_be_bytes(),
        port: n(at) as u16,
    };
    let t = |at: usize| m.texts[at].as_str();
    let [a, b, c] = [0, 1, 2].map(|at| m.bytes[at].as_slice());
    vec![
        Record::Process(Process {
            time: n(0),
            origin: Origin::from(m.byte),
            pid: w(1),
            ppid: w(2),
            pid_in_ns: w(3),
            start: n(4),
            uid: w(5),
            cgroup: n(6),
            netns: w(7),
            comm: a,
            exe: b,
            argv: c,
            argv_len: w(8),
        }),
        Record::Cgroup(Cgroup {
            time: n(0),
            id: n(1),
            path: a,
        }),
        Record::Workload(Workload {
            time: n(0),
            cgroup: n(1),
            container_id: t(0),
            runtime: t(1),
            container: t(2),
            pod_uid: t(3),
            pod: t(4),
            namespace: t(5),
            workload: t(6),
            labels: t(7),
        }),
        Record::Address(Address {
            time: n(0),
            ip: end(1).ip,
            kind: AddressKind::from(m.byte),
            namespace: t(0),
            name: t(1),
            workload: t(2),
        }),
        Record::Socket(Socket {
            time: n(0),
            id: n(1),
            opened: Opened::from(m.byte),
            role: Role::from(m.byte),
            local: end(2),
            remote: end(3),
            netns: w(4),
            pid: w(5),
            cgroup: n(6),
            send_pos: w(7),
            receive_pos: w(8),
            positions: m.truth,
        }),
        Record::Owner(Owner {
            time: n(0),
            id: n(1),
            pid: w(2),
            cgroup: n(3),
        }),
        Record::Exit(Exit {
            time: n(0),
            pid: w(1),
            start: n(2),
            status: w(3),
        }),
        Record::Connect(Connect {
            time: n(0),
            id: n(1),
            error: n(2) as u16,
            connect_ns: n(3),
            send_pos: w(4),
            receive_pos: w(5),
        }),
        Record::Close(Close {
            time: n(0),
            id: n(1),
            ending: Ending::from(m.byte),
            bytes_sent: n(2),
            bytes_received: n(3),
            retransmits: w(4),
            srtt_us: w(5),
        }),
        Record::Data(Data {
            time: n(0),
            id: n(1),
            pos: w(2),
            len: w(3),
            pid: w(4),
            tid: w(5),
            cgroup: n(6),
            direction: Direction::from(m.byte),
            cut: Cut::from(m.byte),
            payload: a,
            layer: Layer::from(m.byte),
        }),
        Record::Loss(Loss {
            time: n(0),
            since: n(1),
            reason: LossReason::from(m.byte),
            events: n(2) >> 8,
            bytes: n(3) >> 8,
        }),
        Record::Clock(Clock {
            boot: n(0),
            monotonic: n(1),
            realtime: n(2),
        }),
        Record::Remark(Remark {
            time: n(0),
            since: n(1),
            about: About::from(m.byte),
            number: w(2),
            events: n(3),
        }),
    ]
}

proptest! {
    #[test]
    fn any_record_of_any_kind_comes_back(materials in prop::collection::vec(material(), 1..8)) {
        let records: Vec<_> = materials.iter().flat_map(every_kind).collect();
        let (state, events): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.is_state());
        let file = sample::file_of(&[(Class::State, state.clone()), (Class::Events, events.clone())]);
        let reader = Reader::open(&file).expect("a good file");
        let mut raw = Vec::new();
        for (block, expected) in reader.blocks().iter().zip([&state, &events]) {
            block.inflate(&mut raw).expect("a good block");
            prop_assert_eq!(&sample::all(&raw), expected);
            for record in expected {
                prop_assert!(block.overlaps(record.time(), record.time()));
                let kind = Kind::of(record);
                prop_assert_eq!(block.count(kind) as usize, materials.len());
                prop_assert_eq!(Kind::from_byte(kind.byte()), Some(kind));
                let (id, pid) = names(record);
                prop_assert!(id.is_none_or(|id| block.sockets().may_contain((id >> 32) as u32)));
                prop_assert!(pid == 0 || block.pids().may_contain(pid));
            }
        }
    }
}

/// The socket and the process that a record refers to.
fn names(record: &Record<'_>) -> (Option<u64>, u32) {
    match record {
        Record::Process(r) => (None, r.pid),
        Record::Exit(r) => (None, r.pid),
        Record::Socket(r) => (Some(r.id), r.pid),
        Record::Owner(r) => (Some(r.id), r.pid),
        Record::Data(r) => (Some(r.id), r.pid),
        Record::Connect(r) => (Some(r.id), 0),
        Record::Close(r) => (Some(r.id), 0),
        _ => (None, 0),
    }
}

#[test]
fn a_block_header_tells_what_is_in_the_block() {
    let file = sample::file();
    let reader = Reader::open(&file).expect("a good file");
    let block = reader.blocks()[1];
    assert_eq!((block.records(), block.number()), (7, 1));
    assert_eq!((block.first_time(), block.last_time()), (1_006, 1_023));
    assert!(block.overlaps(0, 1_006) && block.overlaps(1_023, 1_023) && block.overlaps(1_010, 1_011));
    assert!(!block.overlaps(0, 1_005) && !block.overlaps(1_024, u64::MAX));
    assert_eq!((block.data_bytes(), block.payload_bytes()), (5_018, 35));
    assert_eq!(
        Kind::ALL.map(|kind| block.count(kind)),
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 1, 1, 0]
    );
    assert_eq!(block.counts().unknown(), 0);
    assert_eq!(reader.losses().map(<[_]>::len), Some(1));
}

#[test]
fn a_summary_of_few_keys_says_no_to_nearly_all_others() {
    let mut builder = BlockBuilder::new(Class::Events);
    for key in 0..16u64 {
        builder.push(&Record::Connect(Connect {
            time: 0,
            id: key << 32 | 5,
            error: 0,
            connect_ns: 0,
            send_pos: 0,
            receive_pos: 0,
        }));
    }
    let block = builder.take();
    let yes = (16..100_016).filter(|&key| block.sockets.may_contain(key)).count();
    assert!(yes < 1_000, "{yes} of 100000");
}

#[test]
fn a_record_beyond_the_limit_is_shortened_and_says_so() {
    let Record::Data(data) = sample::events()[2] else {
        panic!("a data record")
    };
    let payload = vec![b'x'; 5 << 20];
    let labels = "ä".repeat(1 << 20);
    let Record::Workload(workload) = sample::state()[2] else {
        panic!("a workload record")
    };
    let mut builder = BlockBuilder::new(Class::Events);
    builder.push(&Record::Data(Data {
        len: 5 << 20,
        payload: &payload,
        ..data
    }));
    builder.push(&Record::Workload(Workload {
        labels: &labels,
        ..workload
    }));
    let block = builder.take();
    let all = sample::all(&block.bytes);
    let Record::Data(stored) = all[0] else {
        panic!("a data record")
    };
    assert_eq!((stored.len, stored.cut), (5 << 20, Cut::Snaplen));
    assert!(stored.payload.len() > RECORD_LIMIT - 1024);
    assert_eq!(block.payload_bytes, stored.payload.len() as u64);
    let Record::Workload(stored) = all[1] else {
        panic!("a workload record")
    };
    assert!(labels.starts_with(stored.labels) && !stored.labels.is_empty());
}

#[test]
fn a_builder_starts_anew_after_each_block() {
    let mut builder = BlockBuilder::new(Class::Events);
    sample::events().iter().for_each(|record| builder.push(record));
    let first = builder.take();
    assert!(builder.is_empty());
    sample::events().iter().for_each(|record| builder.push(record));
    let second = builder.take();
    assert_eq!(first, second);
    builder.recycle(first);
    sample::events().iter().for_each(|record| builder.push(record));
    assert_eq!(builder.take(), second);
}

#[test]
fn a_file_without_blocks_is_a_file() {
    let file = Writer::new(Vec::new(), &sample::header(), 3)
        .and_then(Writer::finish)
        .expect("memory")
        .0;
    let reader = Reader::open(&file).expect("a good file");
    assert!(reader.clean_end() && reader.is_empty() && reader.damage().is_empty());
}
