mod joined;
mod laws;
mod lifetime;
mod live;
mod who;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::analyze::exchange::Message;
use crate::analyze::input;
use crate::analyze::protocol::Registered;
use crate::analyze::protocol::http1::{Http, HttpMessage};
use crate::analyze::protocol::mysql::MysqlMessage;
use crate::analyze::report::Aggregate;
use crate::analyze::report::sections::services;
use crate::analyze::row::{ConnectionRow, ExchangeRow, Frame};
use crate::analyze::selection::{Ask, BlockFilter, ConnectionRows, Rows, Span};
use crate::analyze::table::{Columns, Value};
use crate::format::block::{self, BlockBuilder, Class, RawBlock};
use crate::format::kind::Kind;
use crate::format::record::{
    Clock, Close, Connect, Cut, Data, Direction, Ending, Endpoint, Layer, Opened, Origin, Process, Record, Role,
    Socket, Workload,
};

const CLIENT: u64 = (7 << 32) | 1;
const SERVER: u64 = (7 << 32) | 2;
const ISN: u32 = 1000;
const SERVER_ISN: u32 = u32::MAX - 20;

/// Rows as text, in the order in which the tests want them.
#[derive(Default)]
struct Texts(Vec<(u64, u64, u64, String)>);

impl Sink for Texts {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        if let Some(row) = ExchangeRow::<HttpMessage>::of(frame, message) {
            let text = format!(
                "{} {} {} {} total={:?} ttfb={:?} net={:?} {:?}/{:?} bytes pid {} -> {} {}",
                row.message.method,
                row.message.target,
                row.message.status,
                row.side.name(),
                row.latency.total_ns,
                row.latency.ttfb_ns,
                row.network_ns,
                row.request_bytes,
                row.response_bytes,
                row.client_party.pid,
                row.server_party.pid,
                row.incomplete.map_or("complete", |reason| reason.name()),
            );
            self.0.push((row.start, row.connection, row.sequence, text));
        }
        if let Some(row) = ExchangeRow::<MysqlMessage>::of(frame, message) {
            let text = format!(
                "{:?} total={:?} {:?}",
                row.message, row.latency.total_ns, row.incomplete
            );
            self.0.push((row.start, row.connection, row.sequence, text));
        }
    }
    fn connection(&mut self, row: &ConnectionRow<'_>) {
        let text = format!(
            "connection {} -> {} {} {} sent={} received={} exchanges={} lost={} why={}",
            row.client,
            row.server,
            row.side.name(),
            row.role.name(),
            row.bytes_sent,
            row.bytes_received,
            row.exchanges,
            row.lost_bytes,
            row.why
        );
        self.0.push((u64::MAX, row.connection, 0, text));
    }
}

fn end(port: u16) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn header() -> Header {
    Header {
        tool_version: "test".into(),
        command_line: String::new(),
        hostname: "here".into(),
        boot_id: String::new(),
        kernel: String::new(),
        arch: String::new(),
        backend: String::new(),
        filters: String::new(),
        snaplen: 4096,
        cpus: 2,
        clock: Clock {
            boot: 0,
            monotonic: 0,
            realtime: 1_000_000,
        },
        recording: 1,
        part: 0,
    }
}

fn client(id: u64, port: u16) -> Record<'static> {
    Record::Socket(Socket {
        time: 10,
        id,
        opened: Opened::Connect,
        role: Role::Client,
        local: end(port),
        remote: end(80),
        netns: 1,
        pid: 100,
        cgroup: 0,
        send_pos: ISN,
        receive_pos: SERVER_ISN,
        positions: true,
    })
}

fn server(id: u64, port: u16) -> Record<'static> {
    Record::Socket(Socket {
        time: 11,
        id,
        opened: Opened::Accept,
        role: Role::Server,
        local: end(80),
        remote: end(port),
        netns: 1,
        pid: 200,
        cgroup: 0,
        send_pos: SERVER_ISN,
        receive_pos: ISN,
        positions: true,
    })
}

/// Bytes of the client's stream from `offset` on, as its own socket sends or the server's receives them.
fn up(id: u64, time: u64, offset: u32, payload: &'static [u8]) -> Record<'static> {
    let direction = if id & 1 == 1 {
        Direction::Sent
    } else {
        Direction::Received
    };
    data(id, time, ISN.wrapping_add(offset), direction, payload)
}

/// Bytes of the server's stream.
fn down(id: u64, time: u64, offset: u32, payload: &'static [u8]) -> Record<'static> {
    let direction = if id & 1 == 1 {
        Direction::Received
    } else {
        Direction::Sent
    };
    data(id, time, SERVER_ISN.wrapping_add(offset), direction, payload)
}

fn data(id: u64, time: u64, pos: u32, direction: Direction, payload: &'static [u8]) -> Record<'static> {
    let pid = if id & 1 == 1 { 100 } else { 200 };
    Record::Data(Data {
        time,
        id,
        pos,
        len: payload.len() as u32,
        pid,
        tid: pid,
        cgroup: 0,
        direction,
        cut: Cut::Whole,
        payload,
        layer: Layer::Wire,
    })
}

fn close(id: u64, time: u64) -> Record<'static> {
    Record::Close(Close {
        time,
        id,
        ending: Ending::Closed,
        bytes_sent: 0,
        bytes_received: 0,
        retransmits: 0,
        srtt_us: 0,
    })
}

/// The sinks of all shards after these batches of records.
fn sinks<S: Sink + Default>(batches: &[&[Record<'_>]]) -> Vec<S> {
    let mut engine = Engine::new(|_| S::default());
    let host = engine.host(&header());
    for batch in batches {
        let mut state = BlockBuilder::new(Class::State);
        let mut events = BlockBuilder::new(Class::Events);
        for record in *batch {
            if record.is_state() {
                state.push(record)
            } else {
                events.push(record)
            }
        }
        let (state, events) = (state.take(), events.take());
        let block = |raw| Block {
            source: Source::Raw(raw),
            host,
            file: 0,
        };
        engine.feed(&[block(&state), block(&events)]);
    }
    engine.finish(&[]).0
}

/// The rows of these batches of records.
fn rows(batches: &[&[Record<'_>]]) -> Vec<String> {
    let mut all: Vec<_> = sinks::<Texts>(batches).into_iter().flat_map(|sink| sink.0).collect();
    all.sort();
    all.into_iter().map(|(.., text)| text).collect()
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn both(events: &[Record<'static>]) -> Vec<Record<'static>> {
    let mut all = vec![client(CLIENT, 5000), server(SERVER, 5000)];
    all.extend_from_slice(events);
    all
}

#[test]
fn both_ends_of_an_exchange_are_one_row_with_both_views() {
    let records = both(&[
        up(CLIENT, 1000, 0, GET),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 5000, 0, OK),
        down(CLIENT, 5200, 0, OK),
        close(CLIENT, 6000),
        close(SERVER, 6100),
    ]);
    assert_eq!(
        rows(&[&records]),
        [
            "GET /a 200 both total=Some(4200) ttfb=Some(4200) net=Some(300) Some(28)/Some(43) bytes pid 100 -> 200 complete",
            "connection 127.0.0.1:5000 -> 127.0.0.1:80 both client sent=28 received=43 exchanges=1 lost=0 why=",
        ]
    );
}

#[test]
fn events_of_two_cpus_may_come_in_any_order() {
    let in_order = [
        up(CLIENT, 1000, 0, GET),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 5000, 0, OK),
        down(CLIENT, 5200, 0, OK),
    ];
    let expected = rows(&[&both(&in_order)]);
    let orders = [
        [1, 0, 2, 3],
        [0, 1, 3, 2],
        [1, 0, 3, 2],
        [1, 2, 0, 3],
        [2, 1, 0, 3],
        [3, 2, 1, 0],
    ];
    for order in orders {
        let shuffled: Vec<_> = order.iter().map(|at| in_order[*at]).collect();
        assert_eq!(rows(&[&both(&shuffled)]), expected, "{order:?}");
    }
}

#[test]
fn what_one_end_lost_the_other_end_still_has() {
    let records = both(&[
        up(CLIENT, 1000, 0, GET),
        down(SERVER, 5000, 0, OK),
        down(CLIENT, 5200, 0, OK),
        close(CLIENT, 6000),
        close(SERVER, 6100),
    ]);
    let rows = rows(&[&records]);
    assert!(
        rows[0].starts_with("GET /a 200 both total=Some(4200) ttfb=Some(4200) net=None"),
        "{rows:?}"
    );
    assert!(rows[0].ends_with("complete"), "{rows:?}");
}

/// io_uring receives without our seeing where to, and may tell of it before the sender does.
#[test]
fn bytes_that_one_end_cannot_read_are_taken_from_the_other_in_any_order() {
    let unread = |record: Record<'static>| match record {
        Record::Data(data) => Record::Data(Data {
            payload: &[],
            cut: Cut::NotVisible,
            ..data
        }),
        _ => unreachable!(),
    };
    let in_order = [
        up(CLIENT, 1000, 0, GET),
        unread(up(SERVER, 1100, 0, GET)),
        down(SERVER, 5000, 0, OK),
        unread(down(CLIENT, 5200, 0, OK)),
        close(CLIENT, 6000),
        close(SERVER, 6100),
    ];
    let expected = rows(&[&both(&in_order)]);
    assert!(expected[0].ends_with("complete"), "{expected:?}");
    for order in [
        [1, 0, 2, 3, 4, 5],
        [0, 1, 3, 2, 4, 5],
        [1, 3, 0, 2, 4, 5],
        [1, 0, 3, 4, 2, 5],
    ] {
        let shuffled: Vec<_> = order.iter().map(|at| in_order[*at]).collect();
        assert_eq!(rows(&[&both(&shuffled)]), expected, "{order:?}");
    }
    // Nobody has them: the lengths remain.
    let unknown: Vec<_> = in_order[..4]
        .iter()
        .map(|record| unread(*record))
        .chain(in_order[4..].to_vec())
        .collect();
    let rows = rows(&[&both(&unknown)]);
    assert!(rows[0].contains("sent=28 received=43 exchanges=0 lost=0"), "{rows:?}");
}

#[test]
fn a_head_that_is_unfinished_when_the_capture_ends_is_explained() {
    for cut in 1..GET.len() {
        // The first of its connection is a row once it can be told what it is.
        let first = rows(&[&both(&[up(CLIENT, 1000, 0, &GET[..cut])])]);
        let told = |row: &String| row.contains("no_response") || row.contains("why=too little data");
        assert!(first.iter().any(told), "{cut}: {first:?}");
        let later = rows(&[&both(&[
            up(CLIENT, 1000, 0, GET),
            down(CLIENT, 5200, 0, OK),
            up(CLIENT, 6000, GET.len() as u32, &GET[..cut]),
        ])]);
        assert!(
            later[0].starts_with("GET /a 200 client total=Some(4200)"),
            "{cut}: {later:?}"
        );
        assert!(later[1].ends_with("pid 100 -> 200 no_response"), "{cut}: {later:?}");
        assert!(later[2].contains("exchanges=2"), "{cut}: {later:?}");
    }
}

/// Bytes that were sent with MSG_OOB, or received beside the stream.
fn urgent(record: Record<'static>) -> Record<'static> {
    match record {
        Record::Data(data) => Record::Data(Data {
            cut: Cut::Urgent,
            ..data
        }),
        _ => unreachable!(),
    }
}

#[test]
fn urgent_data_is_no_part_of_a_request_whoever_tells_of_it() {
    let (second, third) = (GET.len() as u32 + 1, 2 * GET.len() as u32 + 2);
    let exchange = "GET /a 200 both total=Some(4200) ttfb=Some(4200) net=Some(300) Some(28)/Some(43) bytes";
    let sent = [
        up(CLIENT, 1000, 0, GET),
        urgent(up(CLIENT, 2000, GET.len() as u32, b"!")),
        up(CLIENT, 11_000, second, GET),
        urgent(up(CLIENT, 12_000, third - 1, b"!")),
    ];
    let received = [up(SERVER, 1100, 0, GET), up(SERVER, 11_100, second, GET)];
    let answers = [
        down(SERVER, 5000, 0, OK),
        down(CLIENT, 5200, 0, OK),
        down(SERVER, 15_000, OK.len() as u32, OK),
        down(CLIENT, 15_200, OK.len() as u32, OK),
        close(CLIENT, 16_000),
        close(SERVER, 16_100),
    ];
    let told = [&sent[..], &received, &answers].concat();
    let overtaken = [&received[..], &sent, &answers].concat();
    // With SO_OOBINLINE the receiver reads it in its place.
    let inline = [up(SERVER, 2100, GET.len() as u32, b"!")];
    let read = [
        &sent[..2],
        &received[..1],
        &inline,
        &sent[2..],
        &received[1..],
        &answers,
    ]
    .concat();
    for events in [told, overtaken, read] {
        let rows = rows(&[&both(&events)]);
        assert!(rows[..2].iter().all(|row| row.starts_with(exchange)), "{rows:#?}");
        assert!(rows[2].contains("exchanges=2 lost=0"), "{rows:#?}");
    }
    // The receiver alone. Of the second urgent byte its kernel says nothing: the third was there before it was passed over.
    let alone = [
        up(SERVER, 1100, 0, GET),
        urgent(up(SERVER, 11_100, GET.len() as u32, b"!")),
        up(SERVER, 11_100, second, GET),
        up(SERVER, 21_100, third, GET),
        down(SERVER, 5000, 0, OK),
        down(SERVER, 15_000, OK.len() as u32, OK),
        down(SERVER, 25_000, 2 * OK.len() as u32, OK),
        close(SERVER, 26_100),
    ];
    let rows = rows(&[&[&[server(SERVER, 5000)][..], &alone].concat()]);
    assert!(
        rows[..3]
            .iter()
            .all(|row| row.starts_with("GET /a 200 server total=Some(3900)")),
        "{rows:#?}"
    );
    assert!(rows[3].contains("exchanges=3 lost=0"), "{rows:#?}");
}

#[test]
fn no_latency_is_computed_across_a_gap() {
    let second = GET.len() as u32;
    let third = 2 * second;
    let records = [
        client(CLIENT, 5000),
        up(CLIENT, 1000, 0, GET),
        down(CLIENT, 1200, 0, OK),
        // The second request is lost; its response is not.
        down(CLIENT, 2200, OK.len() as u32, OK),
        up(CLIENT, 3000, third, GET),
        down(CLIENT, 3300, 2 * OK.len() as u32, OK),
        close(CLIENT, 6000),
    ];
    let rows = rows(&[&records]);
    assert!(rows[0].contains("total=Some(200)"), "{rows:?}");
    let measured: Vec<_> = rows.iter().filter(|row| row.ends_with("complete")).collect();
    assert!(
        measured
            .iter()
            .all(|row| row.contains("total=Some(200)") || row.contains("total=Some(300)")),
        "{rows:?}"
    );
    assert!(
        rows.iter().any(|row| row.contains(&format!("lost={second}"))),
        "{rows:?}"
    );
}

/// The importer has put the segments in order: to wait for what is missing would let the requests run ahead of the
/// responses, and give them the wrong ones.
#[test]
fn a_response_lost_on_the_wire_costs_only_its_own_exchange() {
    let Record::Socket(socket) = client(CLIENT, 5000) else {
        unreachable!()
    };
    let wire = Record::Socket(Socket {
        role: Role::Wire,
        ..socket
    });
    let (ask, answer) = (GET.len() as u32, OK.len() as u32);
    let mut records = vec![wire];
    for n in 0..8u32 {
        let time = 10_000 * u64::from(n + 1);
        records.push(up(CLIENT, time, n * ask, GET));
        if n != 1 {
            records.push(down(CLIENT, time + u64::from(n + 1), n * answer, OK));
        } else {
            // The importer says where the next request acknowledges it.
            records.push(down(CLIENT, time + 9_000, (n + 1) * answer, b""));
        }
    }
    records.push(close(CLIENT, 100_000));
    let rows = rows(&[&records]);
    let complete: Vec<_> = rows.iter().filter(|row| row.ends_with("complete")).collect();
    assert_eq!(complete.len(), 7, "{rows:#?}");
    for n in [0, 2, 3, 4, 5, 6, 7] {
        let total = format!("total=Some({})", n + 1);
        // The response right behind the hole may have begun inside of it.
        assert!(n == 2 || complete.iter().any(|row| row.contains(&total)), "{rows:#?}");
    }
}

/// A server closes an idle connection with a 408, and the client's next request meets that.
#[test]
fn a_response_that_nobody_asked_for_is_not_that_of_the_request_that_meets_it() {
    const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let (ask, answer) = (GET.len() as u32, OK.len() as u32);
    let told = |unasked: u64, asked: u64| {
        let records = [
            client(CLIENT, 5000),
            up(CLIENT, 1000, 0, GET),
            down(CLIENT, 2000, 0, OK),
            down(CLIENT, unasked, answer, TIMEOUT),
            up(CLIENT, asked, ask, GET),
            close(CLIENT, 90_000),
        ];
        rows(&[&records])
    };
    let rows = told(60_000, 61_000);
    assert!(
        rows[1].starts_with("  408 ") && rows[1].ends_with("no_request"),
        "{rows:#?}"
    );
    assert!(
        rows[2].starts_with("GET /a 0 ") && rows[2].ends_with("no_response"),
        "{rows:#?}"
    );
    // Told of first, and sent later.
    let rows = told(61_000, 60_000);
    assert!(
        rows[1].starts_with("GET /a 408 ") && rows[1].ends_with("complete"),
        "{rows:#?}"
    );
}

#[test]
fn a_port_that_is_used_again_is_another_connection() {
    let (client_2, server_2) = ((7 << 32) | 3, (7 << 32) | 4);
    let records = [
        client(CLIENT, 5000),
        server(SERVER, 5000),
        client(client_2, 5000),
        server(server_2, 5000),
        up(CLIENT, 1000, 0, GET),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 1200, 0, OK),
        down(CLIENT, 1300, 0, OK),
        close(CLIENT, 1400),
        up(client_2, 2000, 0, GET),
        up(server_2, 2100, 0, GET),
        close(SERVER, 2150),
        down(server_2, 2200, 0, OK),
        down(client_2, 2300, 0, OK),
    ];
    let rows = rows(&[&records]);
    let complete = rows
        .iter()
        .filter(|row| row.contains("both total=Some(300)") && row.ends_with("complete"))
        .count();
    assert_eq!((complete, rows.len()), (2, 4), "{rows:?}");
}

#[test]
fn a_connection_from_before_the_capture_has_its_roles_from_its_bytes() {
    let mut socket = match server(SERVER, 5000) {
        Record::Socket(socket) => socket,
        _ => unreachable!(),
    };
    socket.opened = Opened::FirstSeen;
    socket.role = Role::Undetermined;
    socket.positions = false;
    let records = [
        Record::Socket(socket),
        up(SERVER, 1100, 77, GET),
        down(SERVER, 1200, 99, OK),
        up(SERVER, 1300, 77 + GET.len() as u32, GET),
        down(SERVER, 1500, 99 + OK.len() as u32, OK),
    ];
    let rows = rows(&[&records]);
    assert!(rows[0].starts_with("GET /a 200 server total=Some(100)"), "{rows:?}");
    assert!(rows[1].starts_with("GET /a 200 server total=Some(200)"), "{rows:?}");
    assert!(
        rows[2].starts_with("connection 127.0.0.1:5000 -> 127.0.0.1:80 server server"),
        "{rows:?}"
    );
}

/// With a filter on processes, an accepted socket is told of when its process first reads from it: behind the request.
#[test]
fn a_socket_that_is_told_of_after_its_first_bytes_loses_none_of_them() {
    let mut socket = match server(SERVER, 5000) {
        Record::Socket(socket) => socket,
        _ => unreachable!(),
    };
    socket.receive_pos = socket.receive_pos.wrapping_add(GET.len() as u32);
    let records = [
        Record::Socket(socket),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 1200, 0, OK),
        up(SERVER, 1300, GET.len() as u32, GET),
        down(SERVER, 1500, OK.len() as u32, OK),
        close(SERVER, 1600),
    ];
    let rows = rows(&[&records]);
    assert!(rows[0].starts_with("GET /a 200 server total=Some(100)"), "{rows:?}");
    assert!(rows[1].starts_with("GET /a 200 server total=Some(200)"), "{rows:?}");
    assert_eq!(rows.len(), 3);
}

/// The start of a rotated part repeats sockets that were closed a moment ago.
#[test]
fn a_closed_socket_that_is_told_of_again_is_no_second_connection() {
    let first = both(&[
        up(CLIENT, 1000, 0, GET),
        down(CLIENT, 5200, 0, OK),
        close(CLIENT, 6000),
        close(SERVER, 6100),
    ]);
    let expected = rows(&[&first]);
    let again = both(&[]);
    let mut batches: Vec<&[Record<'_>]> = vec![&first];
    batches.extend(std::iter::repeat_n(&again[..], 40));
    assert_eq!(rows(&batches), expected);
}

#[test]
fn a_batch_may_end_anywhere() {
    let records = both(&[
        up(CLIENT, 1000, 0, &GET[..9]),
        up(CLIENT, 1010, 9, &GET[9..]),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 5000, 0, &OK[..30]),
        down(SERVER, 5100, 30, &OK[30..]),
        down(CLIENT, 5200, 0, OK),
        close(CLIENT, 6000),
        close(SERVER, 6100),
    ]);
    let expected = rows(&[&records]);
    assert!(
        expected[0].contains("total=Some(4200)") && expected[0].contains("net=Some(200)"),
        "{expected:?}"
    );
    for cut in 1..records.len() {
        assert_eq!(rows(&[&records[..cut], &records[cut..]]), expected, "cut at {cut}");
    }
}

/// The socket behind a Service.
const BEHIND: u64 = (9 << 32) | 2;

/// An exchange as its two ends see it when the client dials the address of a Service: `batches` says which of the two
/// sockets is told of in which batch.
fn service_records(batches: [&[bool]; 2]) -> [Vec<Record<'static>>; 2] {
    let address = |last: u8, port| Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port);
    let dialled = || match client(CLIENT, 5000) {
        Record::Socket(socket) => Record::Socket(Socket {
            local: address(1, 5000),
            remote: address(96, 80),
            ..socket
        }),
        other => other,
    };
    let behind = || match server(BEHIND, 5000) {
        Record::Socket(socket) => Record::Socket(Socket {
            local: address(2, 8080),
            remote: address(1, 5000),
            ..socket
        }),
        other => other,
    };
    let mut records = batches.map(|sockets| {
        let sockets = sockets
            .iter()
            .map(|is_client| if *is_client { dialled() } else { behind() });
        sockets.collect::<Vec<_>>()
    });
    records[1].extend([
        up(CLIENT, 100, 0, GET),
        up(BEHIND, 110, 0, GET),
        down(BEHIND, 150, 0, OK),
        down(CLIENT, 170, 0, OK),
        close(CLIENT, 180),
        close(BEHIND, 190),
    ]);
    records
}

fn through_a_service(batches: [&[bool]; 2]) -> Vec<String> {
    let records = service_records(batches);
    rows(&[&records[0], &records[1]])
}

#[test]
fn both_ends_of_a_translated_connection_are_one_row() {
    for sockets in [[true, false], [false, true]] {
        let rows = through_a_service([&[], &sockets]);
        assert_eq!(
            rows,
            [
                "GET /a 200 both total=Some(70) ttfb=Some(70) net=Some(30) Some(28)/Some(43) bytes pid 100 -> 200 complete",
                "connection 10.0.0.1:5000 -> 10.0.0.2:8080 both client sent=28 received=43 exchanges=1 lost=0 why=",
            ]
        );
    }
}

#[test]
fn a_translated_connection_that_is_followed_already_stays_two() {
    let rows = through_a_service([&[true], &[false]]);
    assert_eq!(
        rows.iter().filter(|row| row.starts_with("GET /a 200")).count(),
        2,
        "{rows:#?}"
    );
    assert!(
        rows.iter()
            .any(|row| row.contains("10.0.0.1:5000 -> 10.0.0.96:80 client")),
        "{rows:#?}"
    );
    assert!(
        rows.iter()
            .any(|row| row.contains("10.0.0.1:5000 -> 10.0.0.2:8080 server")),
        "{rows:#?}"
    );
}

/// A process answers, then one of another pod that was handed the socket: each row names the pod where there was only one.
#[test]
fn exchanges_are_counted_with_who_was_at_their_ends_then() {
    let pod = |cgroup: u64, pod: &'static str| {
        Record::Workload(Workload {
            time: 1,
            cgroup,
            container_id: "",
            runtime: "",
            container: "app",
            pod_uid: "",
            pod,
            namespace: "shop",
            workload: "Deployment/cart",
            labels: "",
        })
    };
    let mut records = vec![pod(201, "cart-a"), pod(202, "cart-b")];
    if let Record::Socket(socket) = server(SERVER, 5000) {
        let (pid, cgroup) = (201, 201);
        records.push(Record::Socket(Socket { pid, cgroup, ..socket }));
    }
    let exchanges: [(&[u8], u32); 4] = [
        (b"GET /a HTTP/1.1\r\n\r\n", 1),
        (b"GET /b HTTP/1.1\r\n\r\n", 1),
        (b"GET /b HTTP/1.1\r\n\r\n", 2),
        (b"GET /c HTTP/1.1\r\n\r\n", 2),
    ];
    for (n, (request, number)) in (0..).zip(exchanges) {
        let time = 1000 + u64::from(n) * 100;
        let up = up(SERVER, time, n * request.len() as u32, request);
        let down = down(SERVER, time + 50, n * OK.len() as u32, OK);
        for record in [up, down] {
            if let Record::Data(data) = record {
                let (pid, cgroup) = (200 + number, 200 + u64::from(number));
                records.push(Record::Data(Data { pid, cgroup, ..data }));
            }
        }
    }
    let mut all = Aggregate::default();
    sinks(&[&records]).into_iter().for_each(|shard| all.merge(shard));
    let names = |columns: Columns, names: &[&str]| -> Vec<String> {
        let text = |row: usize, name: &str| match columns.column(name).map(|column| column.get(row)) {
            Some(Value::Text(text)) => text.to_string(),
            Some(Value::Int(number)) => number.to_string(),
            _ => "-".to_string(),
        };
        let row = |row: usize| names.iter().map(|name| text(row, name)).collect::<Vec<_>>().join(" ");
        (0..columns.rows()).map(row).collect()
    };
    assert_eq!(
        names(
            all.summary(Http::PLACE),
            &["endpoint", "count", "server_workload", "server_pod", "client_pod"]
        ),
        [
            "/b 2 Deployment/cart - -",
            "/a 1 Deployment/cart cart-a -",
            "/c 1 Deployment/cart cart-b -"
        ]
    );
    assert_eq!(
        names(
            services(&all),
            &["callee", "requests", "connections", "server_workload", "server_pod"]
        ),
        ["shop/cart 4 1 Deployment/cart -"]
    );
}

#[test]
fn a_failed_connect_has_its_error() {
    let connect = Connect {
        time: 50,
        id: CLIENT,
        error: 111,
        connect_ns: 40,
        send_pos: 0,
        receive_pos: 0,
    };
    let rows = rows(&[&[client(CLIENT, 5000), Record::Connect(connect), close(CLIENT, 60)]]);
    assert_eq!(
        rows,
        ["connection 127.0.0.1:5000 -> 127.0.0.1:80 client client sent=0 received=0 exchanges=0 lost=0 why="]
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut records = Vec::new();
    for connection in 0..300u64 {
        let id = (connection.wrapping_mul(0x9e37_79b9) << 32) | (2 * connection + 1);
        let port = 10_000 + connection as u16;
        records.extend([
            client(id, port),
            server(id + 1, port),
            up(id, 1000 + connection, 0, GET),
            up(id + 1, 1100 + connection, 0, GET),
            down(id + 1, 5000, 0, OK),
            down(id, 5200, 0, OK),
        ]);
    }
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map(|pool| pool.install(|| rows(&[&records]))).ok()
    };
    let one = with(1);
    assert_eq!(one.as_ref().map(Vec::len), Some(600));
    for threads in [2, 3, 16, 64] {
        assert_eq!(one, with(threads), "{threads} threads");
    }
}

#[test]
fn fork_and_exec_are_one_process_and_exec_again_is_another() {
    let mut host = Host::new("here", header().clock);
    let process = |time, origin, argv: &'static [u8]| {
        Record::Process(Process {
            time,
            origin,
            pid: 9,
            ppid: 1,
            pid_in_ns: 9,
            start: 100,
            uid: 0,
            cgroup: 5,
            netns: 0,
            comm: b"sh",
            exe: b"/bin/sh",
            argv,
            argv_len: argv.len() as u32,
        })
    };
    host.learn(&process(100, Origin::Fork, b"parent\0"));
    host.learn(&process(150, Origin::Exec, b"sh\0"));
    host.learn(&process(200, Origin::Exec, b"ls\0"));
    // A rotated part repeats the state.
    host.learn(&process(200, Origin::Exec, b"ls\0"));
    host.learn(&Record::Exit(crate::format::record::Exit {
        time: 300,
        pid: 9,
        start: 100,
        status: 0,
    }));
    let programs: Vec<_> = host
        .programs()
        .iter()
        .map(|run| (run.began, run.ended, run.program.argv.clone()))
        .collect();
    assert_eq!(
        programs,
        [(100, Some(200), b"sh\0".to_vec()), (200, Some(300), b"ls\0".to_vec())]
    );
}

const SECOND: u64 = 1_000_000_000;

/// Sixty minutes, with an exchange in each, in a capture file whose blocks are minutes. The connections of the minutes, and
/// `more` state in the first block.
fn an_hour(connection: impl Fn(u32) -> u64, more: &[Record<'_>]) -> (tempfile::TempDir, [input::Mapped; 1]) {
    let mut writer = crate::format::Writer::new(Vec::new(), &header(), 1).expect("writes to memory");
    let mut exchanges = BTreeMap::new();
    for minute in 0..60u32 {
        let mut state = BlockBuilder::new(Class::State);
        let mut events = BlockBuilder::new(Class::Events);
        if minute == 0 {
            more.iter().for_each(|record| state.push(record));
        }
        let client_id = (connection(minute) << 32) | 1;
        let server_id = client_id + 1;
        let port = 5000 + exchanges.len() as u16;
        let before = exchanges.entry(client_id).or_insert_with(|| {
            state.push(&client(client_id, port));
            state.push(&server(server_id, port));
            0
        });
        let time = u64::from(minute) * 60 * SECOND;
        for record in [
            up(client_id, time + 1000, *before * GET.len() as u32, GET),
            up(server_id, time + 1100, *before * GET.len() as u32, GET),
            down(server_id, time + 5000, *before * OK.len() as u32, OK),
            down(client_id, time + 5200, *before * OK.len() as u32, OK),
        ] {
            events.push(&record);
        }
        *before += 1;
        for mut builder in [state, events] {
            if !builder.is_empty() {
                writer.write(&builder.take()).expect("writes to memory");
            }
        }
    }
    let (bytes, _) = writer.finish().expect("writes to memory");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hour.mdf");
    std::fs::write(&path, bytes).expect("a file");
    let mapped = input::Mapped::open(&path).expect("a capture");
    (folder, [mapped])
}

/// What of a capture a filter asks for, where a report is made of it.
fn ask(filter: BlockFilter) -> Ask {
    let connections = match filter.span {
        Some(_) => ConnectionRows::WithinSpan,
        None => ConnectionRows::Whole,
    };
    Ask {
        span: filter.span,
        rows: Rows {
            exchanges: true,
            connections,
            ..Rows::default()
        },
        filter,
        read_all: false,
    }
}

/// The rows that are asked for of a capture, with the times at which they began, and what was read for them.
fn timed_rows_of(files: &[input::Mapped], ask: &Ask) -> (Vec<(u64, String)>, Totals) {
    let mut engine = Engine::new(|_| Texts::default());
    let captures: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(number, file)| {
            let mut capture = input::Capture::open(number, file).expect("a capture");
            capture.give_host(&mut engine);
            capture
        })
        .collect();
    input::feed(&captures, ask, &mut engine, |_, _| Ok(())).expect("blocks");
    let (sinks, totals) = engine.finish(&[]);
    let rows = sinks.into_iter().flat_map(|sink| sink.0).map(|row| (row.0, row.3));
    (rows.collect(), totals)
}

/// The rows that are asked for of a capture, and how many blocks were read for them, in their turn.
fn rows_of(files: &[input::Mapped], ask: &Ask) -> (Vec<String>, u64) {
    let (rows, totals) = timed_rows_of(files, ask);
    let mut rows: Vec<String> = rows.into_iter().map(|(_, text)| text).collect();
    rows.sort();
    (rows, totals.blocks)
}

/// Exchanges that were seen whole.
fn whole(rows: &[String]) -> Vec<String> {
    let whole = |row: &&String| row.contains("both total=Some(4200)") && row.ends_with("complete");
    rows.iter().filter(whole).cloned().collect()
}

#[test]
fn of_a_connection_that_lasts_a_window_reads_its_blocks_and_some_before_and_at_the_beginning() {
    let (_folder, files) = an_hour(|_| 7, &[]);
    let (all, blocks) = rows_of(&files, &Ask::default());
    assert_eq!((all.len(), blocks), (61, 61));
    // Unix time of the test's boot is 1 ms.
    let window = ask(BlockFilter {
        span: Some(Span {
            from: 30 * 60 * SECOND,
            to: 31 * 60 * SECOND + 30 * SECOND,
        }),
        ..BlockFilter::default()
    });
    let (some, blocks) = rows_of(&files, &window);
    // What lies before the window is known to be there before: it is read, and no row of the window.
    let window_rows = &whole(&all)[30..32];
    assert!(window_rows.iter().all(|row| some.contains(row)), "{some:?}");
    assert!(blocks < 12, "{blocks}: {some:?}");
    assert!(some.iter().any(|row| row.contains("lost=0")), "{some:?}");
    // Numbers of exchanges take all that is before.
    let numbered = Ask {
        rows: Rows {
            sequences: true,
            ..window.rows
        },
        ..window
    };
    let (_, blocks) = rows_of(&files, &numbered);
    assert!((1 + 32..=1 + 36).contains(&blocks), "{blocks}");
}

#[test]
fn what_is_wanted_of_a_port_a_process_or_a_pod_reads_only_its_blocks() {
    let pod = |cgroup: u64, pod: &'static str| {
        Record::Workload(Workload {
            time: 5,
            cgroup,
            container_id: "",
            runtime: "containerd",
            container: "app",
            pod_uid: "",
            pod,
            namespace: "shop",
            workload: "",
            labels: "",
        })
    };
    let of_pod = |mut socket: Record<'static>, cgroup: u64, pid: u32| {
        if let Record::Socket(socket) = &mut socket {
            (socket.cgroup, socket.pid) = (cgroup, pid);
        }
        socket
    };
    // One connection of a pod of its own, in the minutes 7 and 40; one that lasts all the time.
    let own = 0x0123_4567;
    let more = [
        pod(51, "cart-0"),
        pod(52, "cart-1"),
        of_pod(client((own << 32) | 1, 4711), 51, 4001),
        of_pod(server((own << 32) | 2, 4711), 52, 4002),
    ];
    let (_folder, files) = an_hour(|minute| if matches!(minute, 7 | 40) { own } else { 7 }, &more);
    let wanted = |change: &dyn Fn(&mut BlockFilter)| {
        let mut filter = BlockFilter::default();
        change(&mut filter);
        rows_of(&files, &ask(filter))
    };
    let (all, blocks) = wanted(&|_| {});
    let state = blocks - 60;
    assert_eq!(all.iter().filter(|row| row.starts_with("GET")).count(), 60);
    for change in [
        (&|wanted: &mut BlockFilter| wanted.ports = vec![4711]) as &dyn Fn(&mut BlockFilter),
        &|wanted| wanted.pids = vec![4001],
        &|wanted| wanted.pods = vec!["shop/cart-0".into()],
        &|wanted| wanted.pods = vec!["cart-1".into()],
    ] {
        let (rows, blocks) = wanted(change);
        assert_eq!(blocks, state + 2, "{rows:?}");
        assert_eq!(rows.iter().filter(|row| row.starts_with("GET")).count(), 2, "{rows:?}");
    }
    for change in [
        (&|wanted: &mut BlockFilter| wanted.ports = vec![4712]) as &dyn Fn(&mut BlockFilter),
        &|wanted| wanted.pods = vec!["other/cart-0".into()],
    ] {
        assert_eq!(wanted(change).1, 0);
    }
}

/// Connections that last: an exchange of each in each of these blocks, which are `seconds` long.
fn long_connections(connections: u32, blocks: u32, seconds: u64) -> (tempfile::TempDir, [input::Mapped; 1]) {
    let ids = |number: u32| {
        // As hashes are.
        let key = u64::from(number.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995);
        (key << 32 | 1, key << 32 | 2)
    };
    let mut all = Vec::new();
    for number in 0..connections {
        let (client_id, server_id) = ids(number);
        all.extend([
            client(client_id, 5000 + number as u16),
            server(server_id, 5000 + number as u16),
        ]);
    }
    let mut parts = vec![all];
    for block in 0..blocks {
        let begin = u64::from(block) * seconds * SECOND + 100;
        let exchange = |number: u32| {
            let (client_id, server_id) = ids(number);
            let time = begin + u64::from(number) * (SECOND / 1000);
            let (sent, received) = (block * GET.len() as u32, block * OK.len() as u32);
            [
                up(client_id, time + 1000, sent, GET),
                up(server_id, time + 1100, sent, GET),
                down(server_id, time + 5000, received, OK),
                down(client_id, time + 5200, received, OK),
            ]
        };
        parts.push((0..connections).flat_map(exchange).collect());
    }
    capture_of(&parts)
}

/// A capture file with these blocks, the first of which is state.
fn capture_of(blocks: &[Vec<Record<'_>>]) -> (tempfile::TempDir, [input::Mapped; 1]) {
    let mut writer = crate::format::Writer::new(Vec::new(), &header(), 1).expect("writes to memory");
    for (number, records) in blocks.iter().enumerate() {
        let class = if number == 0 { Class::State } else { Class::Events };
        let mut builder = BlockBuilder::new(class);
        records.iter().for_each(|record| builder.push(record));
        writer.write(&builder.take()).expect("writes to memory");
    }
    let (bytes, _) = writer.finish().expect("writes to memory");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("capture.mdf");
    std::fs::write(&path, bytes).expect("a file");
    let mapped = input::Mapped::open(&path).expect("a capture");
    (folder, [mapped])
}

#[test]
fn a_minute_of_an_hour_of_connections_that_last_reads_less_than_a_twentieth() {
    // An hour in blocks of three seconds, as the recorder writes them at some hundred requests a second.
    let (_folder, files) = long_connections(100, 1200, 3);
    let minute = ask(BlockFilter {
        span: Some(Span {
            from: 1800 * SECOND,
            to: 1860 * SECOND,
        }),
        ..BlockFilter::default()
    });
    let (rows, totals) = timed_rows_of(&files, &minute);
    assert!(rows.len() >= 2000, "{}", rows.len());
    let read = totals.blocks + totals.blocks_ahead;
    assert!(
        read <= 1200 / 20,
        "{} blocks, and {} ahead",
        totals.blocks,
        totals.blocks_ahead
    );
}

/// Requests of a client and answers of a server, one after the other, a block for each pair.
fn conversation(pairs: &[(&'static [u8], &'static [u8])]) -> (tempfile::TempDir, [input::Mapped; 1]) {
    let (client_id, server_id) = (7 << 32 | 1, 7 << 32 | 2);
    let mut parts = vec![vec![client(client_id, 5000), server(server_id, 5000)]];
    let (mut sent, mut received) = (0, 0);
    for (number, (request, response)) in pairs.iter().enumerate() {
        let time = (number as u64 + 1) * SECOND;
        parts.push(vec![
            up(client_id, time + 1000, sent, request),
            up(server_id, time + 1100, sent, request),
            down(server_id, time + 5000, received, response),
            down(client_id, time + 5200, received, response),
        ]);
        sent += request.len() as u32;
        received += response.len() as u32;
    }
    capture_of(&parts)
}

#[test]
fn what_is_not_plain_at_its_beginning_is_read_from_there() {
    let plain = || std::iter::repeat_n((GET, OK), 40);
    let tunnel: Vec<_> = [(
        &b"CONNECT db:80 HTTP/1.1\r\nHost: db:80\r\n\r\n"[..],
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
    )]
    .into_iter()
    .chain(plain())
    .collect();
    let upgrade: Vec<_> = [(
        &b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"[..],
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"[..],
    )]
    .into_iter()
    .chain(plain())
    .collect();
    // Requests in the body of a request, answered in the body of its answer.
    let inside: Vec<_> = [(
        &b"POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"[..],
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..],
    )]
    .into_iter()
    .chain(plain())
    .collect();
    // Another protocol that speaks of HTTP later.
    let other: Vec<_> = [(&b"SSH-2.0-x\r\n"[..], &b"SSH-2.0-y\r\n"[..])]
        .into_iter()
        .chain(plain())
        .collect();
    // Two requests are under way all the time.
    let pipelined: Vec<_> = [(
        &b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        OK,
    )]
    .into_iter()
    .chain(plain())
    .collect();
    for (name, pairs, some) in [
        ("tunnel", tunnel, true),
        ("upgrade", upgrade, false),
        ("inside", inside, false),
        ("other", other, false),
        ("pipelined", pipelined, true),
        ("plain", plain().collect(), true),
    ] {
        let (_folder, files) = conversation(&pairs);
        let window = ask(BlockFilter {
            span: Some(Span {
                from: 30 * SECOND,
                to: 33 * SECOND,
            }),
            ..BlockFilter::default()
        });
        let whole_read = Ask {
            read_all: true,
            ..window.clone()
        };
        let started = |ask: &Ask| -> Vec<(u64, String)> {
            let (rows, _) = timed_rows_of(&files, ask);
            rows.into_iter()
                .filter(|(start, _)| (30 * SECOND..33 * SECOND).contains(start))
                .collect()
        };
        let of_all = started(&whole_read);
        assert_eq!(started(&window), of_all, "{name}");
        assert_eq!(!of_all.is_empty(), some, "{name}: {of_all:?}");
    }
}

/// Each end is found some time after the recording has begun.
#[test]
fn payload_of_a_connection_whose_ends_are_joined_one_after_the_other_is_what_the_better_of_them_shows() {
    let late = |record: Record<'static>| match record {
        Record::Socket(socket) => Record::Socket(Socket {
            opened: Opened::FirstSeen,
            ..socket
        }),
        record => record,
    };
    for first in [CLIENT, SERVER] {
        let mut records = vec![late(client(CLIENT, 5000)), late(server(SERVER, 5000))];
        let mut events = vec![up(first, 1000, 0, GET), down(first, 1100, 0, OK)];
        events.extend([
            up(CLIENT, 2000, GET.len() as u32, GET),
            up(SERVER, 2100, GET.len() as u32, GET),
            down(SERVER, 5000, OK.len() as u32, OK),
            down(CLIENT, 5200, OK.len() as u32, OK),
        ]);
        records.extend(events);
        let rows = rows(&[&records]);
        let row = rows.iter().find(|row| row.starts_with("connection")).unwrap();
        let expected = format!("sent={} received={} exchanges=2", 2 * GET.len(), 2 * OK.len());
        assert!(row.contains(&expected), "{first}: {row}");
    }
}

#[test]
fn what_cannot_be_read_may_be_of_the_connections_that_its_block_names() {
    let mut host = Host::default();
    let mut sockets = crate::format::block::SocketSet::default();
    sockets.insert(7);
    host.note_unreadable(100, Some(sockets));
    assert!(host.may_lack(7, 100) && !host.may_lack(7, 99) && !host.may_lack(8, 200));
    host.note_unreadable(300, None);
    assert!(host.may_lack(8, 300) && !host.may_lack(8, 299));
}

/// Nothing comes after it that would show the hole: the totals of the kernel do.
#[test]
fn an_answer_that_was_lost_right_before_the_close_is_a_gap() {
    let closed = |id: u64, sent: usize, received: usize| {
        Record::Close(Close {
            time: 6000,
            id,
            ending: Ending::Closed,
            bytes_sent: sent as u64,
            bytes_received: received as u64,
            retransmits: 0,
            srtt_us: 0,
        })
    };
    let at_client = [
        client(CLIENT, 5000),
        up(CLIENT, 1000, 0, GET),
        closed(CLIENT, GET.len(), OK.len()),
    ];
    let at_server = [
        server(SERVER, 5000),
        up(SERVER, 1100, 0, GET),
        closed(SERVER, OK.len(), GET.len()),
    ];
    let mut at_both = both(&[at_client[1], at_server[1]]);
    at_both.extend([at_server[2], at_client[2]]);
    for records in [&at_server[..], &at_both] {
        let rows = rows(&[records]);
        assert!(
            rows[0].starts_with("GET /a 0 ") && rows[0].ends_with(" gap"),
            "{rows:?}"
        );
    }
    // It was never sent, as far as anybody knows: a program need not read what its kernel has received.
    let rows = rows(&[&at_client]);
    assert!(rows[0].ends_with(" no_response"), "{rows:?}");
}
