//! Each hop of an analysis by itself, so that a regression shows where it is:
//! `cargo bench --bench hops --no-default-features --features analyze`, or with `parquet` for Parquet too. How fast the whole is, and beside what, `make bench-analyze` measures.
#![allow(clippy::expect_used, reason = "a benchmark")]

use std::io;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use masdeepflow::analyze::exchange::{Queue, Side};
use masdeepflow::analyze::flow::Flow;
use masdeepflow::analyze::output::target::Target;
use masdeepflow::analyze::output::{Facts, Format};
use masdeepflow::analyze::protocol::Pairing;
use masdeepflow::analyze::protocol::http1::{HttpMessage, HttpPairing};
use masdeepflow::analyze::protocol::mysql::{self, Begun, MysqlPairing};
use masdeepflow::analyze::report::Aggregate;
use masdeepflow::analyze::row::{Frame, Latency, Observed, Party, Sink};
use masdeepflow::analyze::stream::Segment;
use masdeepflow::analyze::table::{Columns, Kind, Spec, Value};
use masdeepflow::format::block::{self, BlockBuilder, Class, RawBlock};
use masdeepflow::format::header::Header;
use masdeepflow::format::reader::Reader;
use masdeepflow::format::record::{Clock, Cut, Data, Direction, Endpoint, Layer, Record};
use masdeepflow::format::writer::Writer;

/// Exchanges of each benchmark; four connections take turns.
const EXCHANGES: u64 = 4000;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: backend/2.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"name\":\"thing of a shop\"}";

fn main() {
    divan::main();
}

/// A request; each of `different` is another.
fn request(number: u64, different: u64) -> Vec<u8> {
    format!(
        "GET /shop/items/{} HTTP/1.1\r\nHost: backend.example:8080\r\nUser-Agent: shop/1.4\r\nAccept: */*\r\n\r\n",
        number % different
    )
    .into_bytes()
}

/// A block of requests and responses as the server's sockets saw them.
fn block() -> RawBlock {
    let mut builder = BlockBuilder::new(Class::Events);
    let mut positions = [[1u32; 2]; 4];
    for number in 0..EXCHANGES {
        let connection = (number % 4) as usize;
        let request = request(number, 100);
        for (way, payload) in [request.as_slice(), RESPONSE].into_iter().enumerate() {
            let direction = [Direction::Received, Direction::Sent][way];
            builder.push(&Record::Data(Data {
                time: 1_000_000 + number * 1000 + way as u64 * 400,
                id: (connection as u64) << 32 | 1,
                pos: positions[connection][way],
                len: payload.len() as u32,
                pid: 100,
                tid: 100,
                cgroup: 7,
                direction,
                cut: Cut::Whole,
                payload,
                layer: Layer::Wire,
            }));
            positions[connection][way] += payload.len() as u32;
        }
    }
    builder.take()
}

fn header() -> Header {
    Header {
        tool_version: String::new(),
        command_line: String::new(),
        hostname: String::new(),
        boot_id: String::new(),
        kernel: String::new(),
        arch: String::new(),
        backend: String::new(),
        filters: String::new(),
        snaplen: 4096,
        cpus: 1,
        clock: Clock {
            boot: 1,
            monotonic: 1,
            realtime: 1,
        },
        recording: 1,
        part: 0,
    }
}

fn file() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header(), 1).expect("a writer");
    writer.write(&block()).expect("a block");
    writer.finish().expect("a file").0
}

#[divan::bench]
fn compress(bencher: Bencher) {
    let block = block();
    bencher.counter(BytesCount::of_slice(&block.bytes)).bench(|| {
        let mut writer = Writer::new(io::sink(), &header(), 1).expect("a writer");
        writer.write(black_box(&block))
    });
}

#[divan::bench]
fn inflate(bencher: Bencher) {
    let file = file();
    let reader = Reader::open(&file).expect("a capture");
    let mut buffer = Vec::new();
    let raw = reader.blocks()[0].raw_len();
    bencher
        .counter(BytesCount::new(raw))
        .bench_local(|| reader.blocks()[0].inflate(black_box(&mut buffer)));
}

#[divan::bench]
fn decode(bencher: Bencher) {
    let block = block();
    bencher.counter(ItemsCount::new(2 * EXCHANGES)).bench(|| {
        let data = block::frames(black_box(&block.bytes)).filter_map(|frame| frame.ok()?.data());
        data.map(|data| data.payload.len()).sum::<usize>()
    });
}

/// Requests and responses of which every response comes before its request, as two processors may report them.
#[divan::bench]
fn reorder(bencher: Bencher) {
    let request = request(0, 1);
    bencher.counter(ItemsCount::new(EXCHANGES)).bench(|| {
        let mut flow = Flow::new([Endpoint::default(); 2], Some(0), false);
        flow.attach(0, 0);
        (0..2).for_each(|sender| flow.start(sender, 0));
        let mut taken = 0;
        for number in 0..EXCHANGES {
            for (sender, bytes, time) in [(1, RESPONSE, 2 * number + 2), (0, &request[..], 2 * number + 1)] {
                let segment = Segment {
                    pos: flow.stream(sender).position(number as u32 * bytes.len() as u32),
                    len: bytes.len() as u64,
                    payload: bytes,
                    observer: 0,
                    time,
                    pid: 0,
                    tid: 0,
                    cgroup: 0,
                    urgent: false,
                };
                flow.segment(sender, segment);
            }
            while let Some(exchange) = flow.take(false) {
                taken += 1;
                flow.recycle(exchange);
            }
        }
        assert_eq!(black_box(taken), EXCHANGES);
    });
}

/// Reads pairs of messages and gives how many exchanges came out.
fn read_pairs(pairing: &mut impl Pairing, pairs: &[[Vec<u8>; 2]]) -> u64 {
    let (mut queue, mut positions, mut taken) = (Queue::default(), [1u64; 2], 0);
    for pair in pairs {
        for (way, (side, bytes)) in [Side::Client, Side::Server].into_iter().zip(pair).enumerate() {
            pairing.bytes(side, positions[way], bytes, &mut queue);
            positions[way] += bytes.len() as u64;
        }
        while queue.oldest().is_some_and(|exchange| exchange.is_finished()) {
            taken += 1;
            if let Some(exchange) = queue.take() {
                queue.recycle(exchange);
            }
        }
    }
    taken
}

/// Requests of which so many are different.
#[divan::bench(args = [1, 100, EXCHANGES])]
fn http(bencher: Bencher, different: u64) {
    let pairs: Vec<_> = (0..EXCHANGES)
        .map(|number| [request(number, different), RESPONSE.to_vec()])
        .collect();
    bencher.counter(ItemsCount::new(EXCHANGES)).bench(|| {
        let read = read_pairs(&mut HttpPairing::new(false), black_box(&pairs));
        assert_eq!(read, EXCHANGES);
    });
}

/// Commands and OK packets of a connection that is joined after its handshake.
#[divan::bench]
fn mysql(bencher: Bencher) {
    let packet = |payload: &[u8], sequence: u8| {
        let mut packet = (payload.len() as u32).to_le_bytes().to_vec();
        packet[3] = sequence;
        packet.extend_from_slice(payload);
        packet
    };
    let pair = |number: u64| {
        let text = format!("\x03UPDATE items SET stock = stock - 1 WHERE id = {number}");
        [packet(text.as_bytes(), 0), packet(&[0, 1, 0, 2, 0, 0, 0], 1)]
    };
    let pairs: Vec<_> = (0..EXCHANGES).map(pair).collect();
    bencher.counter(ItemsCount::new(EXCHANGES)).bench(|| {
        let read = read_pairs(&mut MysqlPairing::new(true), black_box(&pairs));
        assert_eq!(read, EXCHANGES);
    });
}

#[divan::bench]
fn fingerprint(bencher: Bencher) {
    let statement = "SELECT name, price FROM items WHERE id IN (1, 2, 3) AND owner = 'somebody' ORDER BY price ASC";
    bencher.bench(|| mysql::fingerprint(black_box(statement)));
}

/// The part of a fingerprint that each statement pays for.
#[divan::bench]
fn fingerprint_begun(bencher: Bencher) {
    let statement = "SELECT name, price FROM items WHERE id IN (1, 2, 3) AND owner = 'somebody' ORDER BY price ASC";
    let mut text = Vec::new();
    bencher.bench_local(|| assert_eq!(mysql::begin_fingerprint(black_box(statement), &mut text), Begun::Values));
}

/// Rows of 100 endpoints into the report.
#[divan::bench]
fn aggregate(bencher: Bencher) {
    let party = Party::default();
    let end = |port| Endpoint::new([127, 0, 0, 1].into(), port);
    let message = |number: u64| HttpMessage {
        method: "GET".into(),
        target: format!("/shop/{}/items", (b'a' + (number % 25) as u8) as char),
        host: format!("host{}", number % 4),
        version: 11,
        status: 200,
        ..HttpMessage::default()
    };
    let messages: Vec<_> = (0..100).map(message).collect();
    let mut aggregate = Aggregate::default();
    bencher.counter(ItemsCount::new(EXCHANGES)).bench_local(|| {
        for number in 0..EXCHANGES {
            let latency = Latency {
                ttfb_ns: Some(800_000 + number * 31),
                total_ns: Some(900_000 + number * 37),
            };
            let frame = Frame {
                start: number,
                client: end(40_000),
                server: end(80),
                client_party: &party,
                server_party: &party,
                parties: number % 4 + 1,
                side: Observed::Server,
                request_bytes: Some(100),
                response_bytes: Some(200),
                latency,
                client_latency: Latency::default(),
                server_latency: latency,
                network_ns: None,
                incomplete: None,
                reset: false,
                connection: number % 4,
                sequence: number / 4,
            };
            let message = &messages[(number % 100) as usize];
            aggregate.exchange(&frame, message);
        }
    });
}

/// Rows of five columns into a file of this format.
fn write(bencher: Bencher, format: Format) {
    let spec = |name, kind| Spec { name, kind, doc: "" };
    let mut columns = Columns::new([
        spec("start", Kind::Time),
        spec("method", Kind::Text),
        spec("path", Kind::Text),
        spec("status", Kind::Number),
        spec("total_ns", Kind::Nanos),
    ]);
    for number in 0..EXCHANGES {
        columns.push_row(&[
            Value::Int(1_767_225_600_000_000_000 + number),
            Value::text("GET"),
            Value::text(["/a", "/b", "/c"][number as usize % 3]),
            Value::Int(200),
            Value::Int(number * 37),
        ]);
    }
    let specs: Vec<_> = columns.specs().collect();
    bencher.counter(ItemsCount::new(EXCHANGES)).bench(|| {
        let mut writer = format
            .writer(Target::new(io::sink()), &specs, &Facts::default())
            .expect("a writer");
        writer.write_batch(black_box(&columns)).expect("rows");
        writer.finish()
    });
}

#[divan::bench]
fn write_csv(bencher: Bencher) {
    write(bencher, Format::Csv);
}

#[cfg(feature = "parquet")]
#[divan::bench]
fn write_parquet(bencher: Bencher) {
    write(bencher, Format::Parquet);
}

/// What the queue holds is what the protocols make.
#[divan::bench]
fn queue(bencher: Bencher) {
    let mut queue = Queue::<HttpMessage>::default();
    bencher.bench_local(|| {
        queue.open();
        let exchange = queue.take();
        exchange.map(|exchange| queue.recycle(exchange))
    });
}
