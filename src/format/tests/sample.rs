//! A small recording with every kind of record, in several blocks.

use crate::format::record::*;
use crate::format::{BlockBuilder, Class, Error, Header, Reader, Record, Writer, records};

/// A header with something in every field.
pub fn header() -> Header {
    Header {
        tool_version: "0.1.0".into(),
        command_line: "mdf record -o sample.mdf".into(),
        hostname: "node-1".into(),
        boot_id: "d9b6c1b5-1a7e-4a1e-8f0e-6a1b2c3d4e5f".into(),
        kernel: "6.1.0-18-amd64".into(),
        arch: "x86_64".into(),
        backend: "socktp".into(),
        filters: "port 80".into(),
        snaplen: 4096,
        cpus: 2,
        clock: Clock {
            boot: 1_000,
            monotonic: 900,
            realtime: 1_700_000_000_000_000_000,
        },
        recording: 0x1122_3344_5566_7788,
        part: 0,
    }
}

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new([10, 0, 0, last].into(), port)
}

/// One block's worth of state: every kind of it.
pub fn state() -> Vec<Record<'static>> {
    vec![
        Record::Process(Process {
            time: 1_000,
            origin: Origin::Exec,
            pid: 41,
            ppid: 1,
            pid_in_ns: 7,
            start: 990,
            uid: 1000,
            cgroup: 77,
            netns: 0xf000_0001,
            comm: b"curl",
            exe: b"/usr/bin/curl",
            argv: b"curl\0http://10.0.0.2/\0",
            argv_len: 22,
        }),
        Record::Cgroup(Cgroup {
            time: 1_001,
            id: 77,
            path: b"/kubepods/pod1/c1",
        }),
        Record::Workload(Workload {
            time: 1_002,
            cgroup: 77,
            container_id: "0123456789abcdef",
            runtime: "containerd",
            container: "web",
            pod_uid: "u-1",
            pod: "web-0",
            namespace: "shop",
            workload: "StatefulSet/web",
            labels: "app=web,tier=front",
        }),
        Record::Address(Address {
            time: 1_003,
            ip: endpoint(2, 0).ip,
            kind: AddressKind::Service,
            namespace: "shop",
            name: "web",
            workload: "",
        }),
        Record::Socket(Socket {
            time: 1_004,
            id: 0xaaaa_0001_0000_0001,
            opened: Opened::Connect,
            role: Role::Client,
            local: endpoint(1, 40_000),
            remote: endpoint(2, 80),
            netns: 0xf000_0001,
            pid: 41,
            cgroup: 77,
            send_pos: u32::MAX - 3,
            receive_pos: 17,
            positions: true,
        }),
        Record::Owner(Owner {
            time: 1_005,
            id: 0xaaaa_0001_0000_0001,
            pid: 41,
            cgroup: 77,
        }),
    ]
}

/// One block's worth of events: every kind of them.
pub fn events() -> Vec<Record<'static>> {
    let data = Data {
        time: 1_010,
        id: 0xaaaa_0001_0000_0001,
        pos: u32::MAX - 3,
        len: 18,
        pid: 41,
        tid: 42,
        cgroup: 77,
        direction: Direction::Sent,
        cut: Cut::Whole,
        payload: b"GET / HTTP/1.1\r\n\r\n",
        layer: Layer::Wire,
    };
    vec![
        Record::Clock(Clock {
            boot: 1_006,
            monotonic: 906,
            realtime: 1_700_000_000_000_000_006,
        }),
        Record::Connect(Connect {
            time: 1_007,
            id: 0xaaaa_0001_0000_0001,
            error: 0,
            connect_ns: 3,
            send_pos: u32::MAX - 3,
            receive_pos: 17,
        }),
        Record::Data(data),
        Record::Data(Data {
            time: 1_020,
            pos: 17,
            len: 5_000,
            direction: Direction::Received,
            cut: Cut::Snaplen,
            payload: b"HTTP/1.1 200 OK\r\n",
            ..data
        }),
        Record::Loss(Loss {
            time: 1_021,
            since: 1_011,
            reason: LossReason::RingFull,
            events: 3,
            bytes: 300,
        }),
        Record::Close(Close {
            time: 1_022,
            id: 0xaaaa_0001_0000_0001,
            ending: Ending::Closed,
            bytes_sent: 18,
            bytes_received: 5_000,
            retransmits: 1,
            srtt_us: 250,
        }),
        Record::Exit(Exit {
            time: 1_023,
            pid: 41,
            start: 990,
            status: 0,
        }),
    ]
}

/// The sample's blocks: state, events, state, events.
pub fn blocks() -> Vec<(Class, Vec<Record<'static>>)> {
    vec![
        (Class::State, state()),
        (Class::Events, events()),
        (Class::State, state()[4..].to_vec()),
        (Class::Events, events()[2..].to_vec()),
    ]
}

/// A file of these blocks.
pub fn file_of(blocks: &[(Class, Vec<Record<'_>>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header(), 3).expect("memory");
    for (class, records) in blocks {
        let mut builder = BlockBuilder::new(*class);
        records.iter().for_each(|record| builder.push(record));
        writer.write(&builder.take()).expect("memory");
    }
    writer.finish().expect("memory").0
}

/// The sample as a file.
pub fn file() -> Vec<u8> {
    file_of(&blocks())
}

/// Every record of an inflated block; panics when one cannot be read.
pub fn all(raw: &[u8]) -> Vec<Record<'_>> {
    records(raw).collect::<Result<_, _>>().expect("well-formed records")
}

/// The sample without index and trailer, as after a crash: the front is all that there is.
pub fn crashed_file() -> Vec<u8> {
    let mut file = file();
    let at = file.len() - 40;
    let index = u64::from_le_bytes(file[at + 8..at + 16].try_into().expect("8 bytes"));
    file.truncate(index as usize);
    file
}

/// Where each block starts and ends.
pub fn ranges(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let reader = Reader::open(file).expect("a good file");
    reader
        .blocks()
        .iter()
        .map(|b| b.offset() as usize..b.offset() as usize + 360 + b.compressed_len() as usize)
        .collect()
}

/// Gives the block header at `at` the checksum that it should have.
pub fn seal(file: &mut [u8], at: usize) {
    let len = usize::from(u16::from_le_bytes([file[at + 12], file[at + 13]]));
    let checksum = crc32fast::hash(&file[at + 12..at + len]);
    file[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
}

/// What a reader gets out of a file: per block its records as text, or nothing when it cannot be inflated. Touches all
/// that there is to touch.
pub fn read(file: &[u8]) -> Result<Vec<Option<Vec<String>>>, Error> {
    let reader = Reader::open(file)?;
    reader
        .damage()
        .iter()
        .for_each(|damage| assert!(!damage.to_string().is_empty()));
    let mut raw = Vec::new();
    let blocks = reader.blocks().iter().map(|block| {
        block.inflate(&mut raw).ok()?;
        Some(records(&raw).map(|record| format!("{record:?}")).collect())
    });
    Ok(blocks.collect())
}
