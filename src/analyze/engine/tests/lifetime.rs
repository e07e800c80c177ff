//! From sockets to connections: what comes after the close, before the socket, or from an end that was recorded late
//! belongs to its connection, which has one number and one row for its whole life.

use proptest::prelude::*;

use super::laws::{split, stored};
use super::*;
use crate::analyze::protocol::http1::message::Known;
use crate::analyze::row::LossRow;

const MS: u64 = 1_000_000;

/// All that rows say, but for numbers that only tell equal parties apart.
#[derive(Default)]
struct Everything {
    /// With the start of each exchange, and its connection.
    exchanges: Vec<(u64, u64, String)>,
    connections: Vec<(u64, String)>,
    losses: Vec<(LossReason, u64, u64)>,
}

impl Everything {
    fn keep(&mut self, frame: &Frame<'_>, message: String) {
        let frame = Frame { parties: 0, ..*frame };
        self.exchanges
            .push((frame.start, frame.connection, format!("{frame:?} {message}")));
    }
}

impl Sink for Everything {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        if let Some(row) = ExchangeRow::<HttpMessage>::of(frame, message) {
            let message = HttpMessage {
                known: Known::default(),
                ..row.message.clone()
            };
            self.keep(row.frame, format!("{message:?}"));
        }
        if let Some(row) = ExchangeRow::<MysqlMessage>::of(frame, message) {
            self.keep(row.frame, format!("{:?}", row.message));
        }
    }
    fn connection(&mut self, row: &ConnectionRow<'_>) {
        let row = ConnectionRow { parties: 0, ..*row };
        self.connections.push((row.connection, format!("{row:?}")));
    }
    fn loss(&mut self, row: &LossRow<'_>) {
        self.losses.push((row.reason, row.events, row.bytes));
    }
}

/// What these blocks give, each fed alone.
fn everything(header: &Header, blocks: &[RawBlock]) -> Everything {
    let mut engine = Engine::new(|_| Everything::default());
    let host = engine.host(header);
    let block = |raw| Block {
        source: Source::Raw(raw),
        host,
        file: 0,
    };
    let all: Vec<_> = blocks.iter().map(block).collect();
    engine.learn_names(&all);
    all.chunks(1).for_each(|one| engine.feed(one));
    let mut all = Everything::default();
    for one in engine.finish(&[]).0 {
        all.exchanges.extend(one.exchanges);
        all.connections.extend(one.connections);
        all.losses.extend(one.losses);
    }
    all.exchanges.sort();
    all.connections.sort();
    all.losses.sort();
    all
}

/// Each of these in a block of its own.
pub(super) fn each_alone(batches: &[&[Record<'_>]]) -> Vec<RawBlock> {
    let block = |records: &&[Record<'_>]| {
        let mut builder = BlockBuilder::new(Class::Events);
        records.iter().for_each(|record| builder.push(record));
        builder.take()
    };
    batches.iter().map(block).collect()
}

/// What these records give, each batch in a block of its own.
fn of(batches: &[&[Record<'_>]]) -> Everything {
    everything(&header(), &each_alone(batches))
}

fn closed(record: Record<'static>, bytes_sent: usize, bytes_received: usize, ending: Ending) -> Record<'static> {
    match record {
        Record::Close(close) => Record::Close(Close {
            bytes_sent: bytes_sent as u64,
            bytes_received: bytes_received as u64,
            ending,
            ..close
        }),
        _ => unreachable!(),
    }
}

/// How a capture may come instead: by how much each record is late, and which are Close records that come early.
#[derive(Debug, Clone)]
struct Disorder {
    /// Of each record in turn: ns.
    late: Vec<u64>,
    /// Of each Close record in turn: whether it comes before the last data of its socket.
    early: Vec<bool>,
    /// Records of a block.
    size: usize,
}

fn disorder() -> impl Strategy<Value = Disorder> {
    let late = prop::collection::vec(prop_oneof![4 => Just(0), 1 => 0..MS / 2], 1..200);
    let early = prop::collection::vec(any::<bool>(), 1..20);
    (late, early, 100usize..2000).prop_map(|(late, early, size)| Disorder { late, early, size })
}

/// The records of a capture as they might have come: those of some processors later, and the end of a socket before the
/// calls that it met have returned. The kernel reserves room for what one thread does in the order in which it does it.
fn disordered(blocks: &[RawBlock], disorder: &Disorder) -> Vec<RawBlock> {
    let records: Vec<Record<'_>> = blocks
        .iter()
        .flat_map(|block| block::records(&block.bytes).flatten())
        .collect();
    let (mut last_data, mut last_of_thread) = (BTreeMap::new(), BTreeMap::new());
    let (mut now, mut placed) = (0, Vec::new());
    let mut early = disorder.early.iter().cycle();
    let mut late = disorder.late.iter().cycle();
    for (number, record) in records.iter().enumerate() {
        // State is told of when it becomes known, whatever its time.
        if !record.is_state() {
            now = now.max(record.time());
        }
        let mut at = (now + late.next().unwrap(), number);
        match record {
            Record::Data(data) => {
                let before = last_of_thread.entry(data.tid).or_insert(at);
                at = (at.0.max(before.0), number);
                *before = at;
                last_data.insert(data.id, at);
            }
            Record::Close(close) if *early.next().unwrap() => {
                if let Some(last) = last_data.get(&close.id) {
                    at = (last.0.saturating_sub(1), number);
                }
            }
            _ => {}
        }
        placed.push((at, record));
    }
    placed.sort_by_key(|(at, _)| *at);
    let mut builder = BlockBuilder::new(Class::Events);
    placed.iter().for_each(|(_, record)| builder.push(record));
    split(&[builder.take()], disorder.size)
}

/// Where two lists of rows differ first.
fn differences<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T]) -> Vec<String> {
    let at = (0..found.len().max(expected.len())).find(|n| found.get(*n) != expected.get(*n));
    let told = |n: usize| vec![format!("{:?}", found.get(n)), format!("{:?}", expected.get(n))];
    at.map(told).unwrap_or_default()
}

/// The same record of a connection whose streams begin that much further on.
fn shifted(record: Record<'static>, by: u32) -> Record<'static> {
    match record {
        Record::Socket(socket) => Record::Socket(Socket {
            send_pos: socket.send_pos.wrapping_add(by),
            receive_pos: socket.receive_pos.wrapping_add(by),
            ..socket
        }),
        Record::Data(data) => Record::Data(Data {
            pos: data.pos.wrapping_add(by),
            ..data
        }),
        other => other,
    }
}

/// Connections of some exchanges each that are recorded at both ends; in every third the server resets it instead of
/// the last answer. As the recorder writes it: the sockets come before what went over them.
fn both_ends_of_many() -> Vec<RawBlock> {
    let (mut sockets, mut records) = (Vec::new(), Vec::new());
    for n in 0..40u64 {
        let ids = [(n + 10) << 32 | 1, (n + 10) << 32 | 2];
        let (port, begin) = (6000 + n as u16, MS + n * MS / 20);
        // Streams that begin in the same places are taken for one connection whose addresses are translated.
        let apart = |record| shifted(record, (n as u32) << 20);
        sockets.extend([client(ids[0], port), server(ids[1], port)].map(apart));
        let (mut time, mut moved) = (begin, [0, 0]);
        for exchange in 0..5 {
            let is_answered = exchange < 4 || n % 3 != 0;
            records.push((time, apart(up(ids[0], time, moved[0], GET))));
            records.push((time + MS / 50, apart(up(ids[1], time + MS / 50, moved[0], GET))));
            moved[0] += GET.len() as u32;
            if is_answered {
                records.push((time + MS / 10, apart(down(ids[1], time + MS / 10, moved[1], OK))));
                records.push((time + MS / 8, apart(down(ids[0], time + MS / 8, moved[1], OK))));
                moved[1] += OK.len() as u32;
            }
            time += MS / 5;
        }
        let endings = match n % 3 {
            // A process that ends with bytes unread resets its connections, and its kernel calls them closed.
            0 if n % 2 == 0 => [Ending::ResetByPeer, Ending::Closed],
            0 => [Ending::ResetByPeer, Ending::ResetLocally],
            _ => [Ending::Closed; 2],
        };
        let [sent, received] = moved.map(|bytes| bytes as usize);
        records.push((time, closed(close(ids[0], time), sent, received, endings[0])));
        records.push((
            time + 100,
            closed(close(ids[1], time + 100), received, sent, endings[1]),
        ));
    }
    records.sort_by_key(|(time, _)| *time);
    let events: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    each_alone(&[&sockets, &events])
}

/// Captures of real programs, with connections that are opened and closed while they are recorded.
const CAPTURES: [&str; 6] = [
    "nginx-curl",
    "nginx-wrk",
    "python-requests",
    "tiny",
    "sysbench-text",
    "failed-connect",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rows_do_not_depend_on_which_processor_was_faster_nor_on_when_a_close_was_told(disorder in disorder()) {
        let made = ("both ends of many", (header(), both_ends_of_many()));
        let recorded = CAPTURES.map(|name| (name, stored(&format!("fixtures/{name}.mdf"))));
        for (name, (header, blocks)) in recorded.into_iter().chain([made]) {
            let expected = everything(&header, &blocks);
            let found = everything(&header, &disordered(&blocks, &disorder));
            let exchanges = differences(&found.exchanges, &expected.exchanges);
            prop_assert!(exchanges.is_empty(), "{name}: {exchanges:#?}");
            let connections = differences(&found.connections, &expected.connections);
            prop_assert!(connections.is_empty(), "{name}: {connections:#?}");
            prop_assert_eq!(&found.losses, &expected.losses, "{}", name);
        }
    }
}

/// Of a connection that both ends recorded, with one exchange.
pub(super) fn one_exchange() -> [Record<'static>; 4] {
    [
        up(CLIENT, 1000, 0, GET),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 5000, 0, OK),
        down(CLIENT, 5200, 0, OK),
    ]
}

pub(super) fn closes(ending: Ending) -> [Record<'static>; 2] {
    [
        closed(close(CLIENT, 6000), GET.len(), OK.len(), ending),
        closed(close(SERVER, 6100), OK.len(), GET.len(), ending),
    ]
}

#[test]
fn what_comes_after_a_close_belongs_to_its_connection_however_late() {
    let sockets = both(&[]);
    let exchange = one_exchange();
    for ending in [Ending::Closed, Ending::ResetByPeer] {
        let closes = closes(ending);
        let expected = of(&[&sockets, &exchange, &closes]);
        assert_eq!((expected.exchanges.len(), expected.connections.len()), (1, 1));
        assert!(expected.losses.is_empty());
        // Records of other connections pass in between: blocks of 0.2 s each.
        for blocks in [1, 3, 10, 40] {
            let clocks: Vec<Record<'_>> = (0..blocks)
                .map(|n| {
                    Record::Clock(Clock {
                        boot: 6200 + n * 200 * MS,
                        monotonic: 0,
                        realtime: 1_006_200 + n * 200 * MS,
                    })
                })
                .collect();
            for told in 0..exchange.len() {
                let (before, after) = exchange.split_at(told);
                let mut batches: Vec<&[Record<'_>]> = vec![&sockets, before, &closes];
                batches.extend(clocks.chunks(1));
                batches.push(after);
                let found = of(&batches);
                assert_eq!(
                    found.exchanges, expected.exchanges,
                    "{told} told before, {blocks} blocks"
                );
                assert_eq!(
                    found.connections, expected.connections,
                    "{told} told before, {blocks} blocks"
                );
                assert_eq!(found.losses, expected.losses);
            }
        }
    }
}

/// With a filter on processes a server is told of when it first reads: that may be after its client has gone.
#[test]
fn a_server_that_is_told_of_after_its_client_has_closed_is_the_other_end_of_that_connection() {
    let asked = [
        client(CLIENT, 5000),
        up(CLIENT, 1000, 0, GET),
        closed(close(CLIENT, 2000), GET.len(), 0, Ending::Closed),
    ];
    let served = [
        server(SERVER, 5000),
        up(SERVER, 400 * MS, 0, GET),
        down(SERVER, 401 * MS, 0, OK),
        closed(close(SERVER, 402 * MS), OK.len(), GET.len(), Ending::ResetByPeer),
    ];
    let expected = of(&[&[&asked[..], &served].concat()]);
    assert_eq!((expected.exchanges.len(), expected.connections.len()), (1, 1));
    assert!(
        expected.connections[0].1.contains("side: Both"),
        "{:?}",
        expected.connections
    );
    let nothing: [&[Record<'_>]; 20] = [&[]; 20];
    let found = of(&[&[&asked[..]], &nothing[..], &[&served]].concat());
    assert_eq!(found.exchanges, expected.exchanges);
    assert_eq!(found.connections, expected.connections);
}

#[test]
fn what_comes_when_its_connection_has_long_had_its_row_is_lost_and_counted() {
    let mut minute = Vec::new();
    for n in 0..20 {
        minute.push(Record::Clock(Clock {
            boot: 6200 + n * 3000 * MS,
            monotonic: 0,
            realtime: 1_006_200 + n * 3000 * MS,
        }));
    }
    let [asked, read, answered, _] = one_exchange();
    let (sockets, closes) = (both(&[asked, read]), closes(Ending::Closed));
    let mut batches: Vec<&[Record<'_>]> = vec![&sockets, &closes];
    batches.extend(minute.chunks(1));
    let late = [answered];
    batches.push(&late);
    let found = of(&batches);
    assert_eq!((found.exchanges.len(), found.connections.len()), (1, 1));
    assert_eq!(found.losses, [(LossReason::NoSocket, 1, OK.len() as u64)]);
}

#[test]
fn a_socket_may_be_told_of_after_its_data() {
    let sockets = both(&[]);
    let events = [&one_exchange()[..], &closes(Ending::Closed)].concat();
    let expected = of(&[&sockets, &events]);
    for told in 0..=events.len() {
        let found = of(&[&events[..told], &sockets, &events[told..]]);
        assert_eq!(found.exchanges, expected.exchanges, "{told} events before");
        assert_eq!(found.connections, expected.connections);
        assert_eq!(found.losses, []);
    }
}

#[test]
fn data_without_a_socket_is_a_loss_with_its_events_and_bytes() {
    let records = [
        client(CLIENT, 5000),
        up(CLIENT, 1000, 0, GET),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 5000, 0, OK),
        down(CLIENT, 5200, 0, OK),
        closed(close(CLIENT, 6000), GET.len(), OK.len(), Ending::Closed),
        closed(close(SERVER, 6100), OK.len(), GET.len(), Ending::Closed),
    ];
    let found = of(&[&records]);
    let bytes = (GET.len() + OK.len()) as u64;
    assert_eq!(found.losses, [(LossReason::NoSocket, 3, bytes)]);
    assert_eq!((found.exchanges.len(), found.connections.len()), (1, 1));
}

/// The plaintext of TLS has positions of its own, which may well be those of the wire.
#[test]
fn data_of_another_layer_is_no_part_of_the_streams_of_the_wire_and_is_told() {
    let wire = both(&one_exchange());
    let expected = of(&[&wire]);
    assert_eq!(expected.losses, []);
    for byte in [1, 2, 255] {
        let with_copies: Vec<Record<'_>> = wire
            .iter()
            .flat_map(|record| {
                let copy = match record {
                    Record::Data(data) => Some(Record::Data(Data {
                        layer: Layer::from(byte),
                        payload: b"HTTP/1.1 500 Nobody said this\r\n\r\n",
                        ..*data
                    })),
                    _ => None,
                };
                [copy, Some(*record)].into_iter().flatten()
            })
            .collect();
        let copies = with_copies.len() - wire.len();
        let found = of(&[&with_copies]);
        assert_eq!(found.exchanges, expected.exchanges, "layer {byte}");
        assert_eq!(found.connections, expected.connections, "layer {byte}");
        let told: u64 = found.losses.iter().map(|(_, events, _)| events).sum();
        let bytes: u64 = found.losses.iter().map(|(_, _, bytes)| bytes).sum();
        let is_understood = |(reason, ..): &(LossReason, u64, u64)| *reason != LossReason::NotUnderstood;
        assert!(!found.losses.iter().any(is_understood), "{:?}", found.losses);
        assert_eq!(
            (told, bytes),
            (copies as u64, 2 * (GET.len() + OK.len()) as u64),
            "layer {byte}"
        );
    }
}

#[test]
fn records_that_cannot_be_read_are_losses() {
    let mut blocks = each_alone(&[&both(&one_exchange())]);
    let whole = blocks[0].bytes.clone();
    assert_eq!(everything(&header(), &blocks).losses, []);
    // A kind of a later version, data too short to say of which socket, and a socket that lacks its last fields.
    blocks[0].bytes.extend([77, 3, 0, 0, 1, 2, 3]);
    blocks[0].bytes.extend([Kind::Data.byte(), 4, 0, 0, 1, 2, 3, 4]);
    blocks[0].bytes.extend([Kind::Socket.byte(), 20, 0, 0]);
    blocks[0].bytes.extend([7; 20]);
    blocks[0].bytes.extend([Kind::Process.byte(), 9, 0, 0]);
    blocks[0].bytes.extend([7; 9]);
    let found = everything(&header(), &blocks);
    let mut losses = found.losses;
    losses.sort_by_key(|(reason, ..)| reason.byte());
    let events = |wanted| -> u64 {
        let of_reason = losses.iter().filter(|(reason, ..)| *reason == wanted);
        of_reason.map(|(_, events, _)| events).sum()
    };
    assert_eq!(
        (events(LossReason::Malformed), events(LossReason::NotUnderstood)),
        (3, 1)
    );
    assert_eq!(found.exchanges.len(), 1);
    // The rest of the block.
    blocks[0].bytes = whole;
    blocks[0].bytes.extend([Kind::Data.byte(), 255, 255, 0, 1]);
    assert_eq!(everything(&header(), &blocks).losses, [(LossReason::Malformed, 1, 0)]);
}

/// A socket that was open before the capture began.
fn from_before(record: Record<'static>, netns: u32) -> Record<'static> {
    match record {
        Record::Socket(socket) => Record::Socket(Socket {
            opened: Opened::Snapshot,
            positions: false,
            send_pos: 0,
            receive_pos: 0,
            netns,
            ..socket
        }),
        _ => unreachable!(),
    }
}

#[test]
fn bytes_from_before_the_capture_are_not_counted_as_its_own() {
    let pair = |client: Record<'static>, server: Record<'static>| {
        let sockets = [client, server];
        let closes = [
            closed(close(CLIENT, 6000), 10_000_028, 500_043, Ending::Closed),
            closed(close(SERVER, 6100), 500_043, 10_000_028, Ending::Closed),
        ];
        of(&[&sockets, &one_exchange(), &closes])
    };
    let [before, whole] = [
        pair(
            from_before(client(CLIENT, 5000), 1),
            from_before(server(SERVER, 5000), 1),
        ),
        pair(client(CLIENT, 5000), server(SERVER, 5000)),
    ];
    let has =
        |found: &Everything, text: &str| assert!(found.connections[0].1.contains(text), "{:?}", found.connections);
    has(&before, "bytes_sent: 28, bytes_received: 43,");
    has(
        &before,
        "lifetime_sent: Some(10000028), lifetime_received: Some(500043)",
    );
    // Where the opening was seen, the kernel's count is better than that of events, some of which may be lost.
    has(&whole, "bytes_sent: 10000028, bytes_received: 500043,");
    let [mut report, mut services_bytes] = [0, 0];
    let sockets = both(&[]);
    let records: Vec<Record<'_>> = sockets
        .iter()
        .map(|socket| from_before(*socket, 1))
        .chain([
            up(CLIENT, 1000, 0, b"not understood"),
            up(SERVER, 1100, 0, b"not understood"),
        ])
        .chain([closed(close(CLIENT, 6000), 10_000_000, 0, Ending::Closed)])
        .collect();
    let mut all = Aggregate::default();
    sinks(&[&records]).into_iter().for_each(|shard| all.merge(shard));
    report += all.totals.bytes;
    let columns = services(&all);
    if let Some(Value::Int(bytes)) = columns.column("bytes").map(|column| column.get(0)) {
        services_bytes += bytes;
    }
    assert_eq!((report, services_bytes), (14, 14));
}

#[test]
fn both_ends_of_a_connection_that_is_idle_all_the_time_are_one_row() {
    let before = [
        from_before(client(CLIENT, 5000), 7),
        from_before(server(SERVER, 5000), 7),
    ];
    let opened = [client(CLIENT, 5000), server(SERVER, 5000)];
    for sockets in [before, opened] {
        let closes = [close(CLIENT, 6000), close(SERVER, 900 * MS)];
        let nothing: [&[Record<'_>]; 20] = [&[]; 20];
        for batches in [
            vec![&sockets[..]],
            vec![&sockets[..1], &sockets[1..]],
            vec![&sockets[..], &closes[..]],
            [&[&sockets[..], &closes[..1]], &nothing[..], &[&closes[1..]]].concat(),
        ] {
            let found = of(&batches);
            assert_eq!(found.connections.len(), 1, "{:#?}", found.connections);
            let row = &found.connections[0].1;
            assert!(row.contains("side: Both") && row.contains("why: \"\""), "{row}");
            assert!(row.contains("pid: 100") && row.contains("pid: 200"), "{row}");
        }
    }
    // One end speaks, the other is found when its peer has its flow already.
    let late = of(&[&before[..1], &[up(CLIENT, 1000, 0, GET)], &before[1..]]);
    assert_eq!(late.connections.len(), 1, "{:#?}", late.connections);
}

#[test]
fn loopback_of_another_network_namespace_or_machine_is_another_connection() {
    let idle = [
        from_before(client(CLIENT, 5000), 7),
        from_before(server(SERVER, 5000), 8),
    ];
    assert_eq!(of(&[&idle]).connections.len(), 2);
    for boots in [["a", "b"], ["a", "a"]] {
        let mut engine = Engine::new(|_| Everything::default());
        for (n, socket) in [client(CLIENT, 5000), server(SERVER, 5000)].into_iter().enumerate() {
            let host = engine.host(&Header {
                recording: n as u64,
                boot_id: boots[n].into(),
                ..header()
            });
            let blocks = each_alone(&[&[from_before(socket, 7)]]);
            engine.feed(&[Block {
                source: Source::Raw(&blocks[0]),
                host,
                file: n,
            }]);
        }
        let rows: usize = engine.finish(&[]).0.iter().map(|one| one.connections.len()).sum();
        assert_eq!(rows, if boots[0] == boots[1] { 1 } else { 2 });
    }
}

#[test]
fn connections_of_the_same_endpoints_in_quick_succession_are_not_mixed_up() {
    const CONNECTIONS: u32 = 30;
    let mut records: Vec<(u64, Record<'static>)> = Vec::new();
    for n in 0..CONNECTIONS {
        let begin = u64::from(n) * 10_000 + 100;
        // What Linux adds where it uses a port in TIME_WAIT again.
        let apart = n * 65_700;
        let ids = [(7 << 32) | u64::from(2 * n + 1), (7 << 32) | u64::from(2 * n + 2)];
        let moved = |record: Record<'static>, time: u64| match record {
            Record::Socket(socket) => Record::Socket(Socket {
                time,
                send_pos: socket.send_pos.wrapping_add(apart),
                receive_pos: socket.receive_pos.wrapping_add(apart),
                ..socket
            }),
            Record::Data(data) => Record::Data(Data {
                time,
                pos: data.pos.wrapping_add(apart),
                ..data
            }),
            record => record,
        };
        // Of some one end is not recorded, or comes late: the server's data before the client's, and after its close.
        let late = u64::from(n % 5) * 300;
        let has = [n % 7 != 3, n % 7 != 5];
        let ends = [
            [
                (begin, moved(client(ids[0], 5000), begin)),
                (begin + 100 + late, moved(up(ids[0], 0, 0, GET), begin + 100)),
                (begin + 400 + late, moved(down(ids[0], 0, 0, OK), begin + 400)),
                (
                    begin + 500,
                    closed(close(ids[0], begin + 500), GET.len(), OK.len(), Ending::Closed),
                ),
            ],
            [
                (begin + 150 + late, moved(server(ids[1], 5000), begin + 1)),
                (begin + 200, moved(up(ids[1], 0, 0, GET), begin + 200)),
                (begin + 300, moved(down(ids[1], 0, 0, OK), begin + 300)),
                (
                    begin + 600,
                    closed(close(ids[1], begin + 600), OK.len(), GET.len(), Ending::Closed),
                ),
            ],
        ];
        for (end, has) in ends.into_iter().zip(has) {
            records.extend(end.into_iter().filter(|_| has));
        }
    }
    records.sort_by_key(|(at, _)| *at);
    let records: Vec<Record<'_>> = records.into_iter().map(|(_, record)| record).collect();
    for size in [1000, 20, 7] {
        let batches: Vec<&[Record<'_>]> = records.chunks(size).collect();
        let found = of(&batches);
        assert_eq!(found.losses, []);
        assert_eq!(found.connections.len(), CONNECTIONS as usize);
        assert_eq!(found.exchanges.len(), CONNECTIONS as usize);
        for n in 0..CONNECTIONS {
            let (start, _, row) = &found.exchanges[n as usize];
            let (side, from, total) = match n % 7 {
                3 => ("Server", 200, 100),
                5 => ("Client", 100, 300),
                _ => ("Both", 100, 300),
            };
            assert_eq!(*start, 1_000_000 + u64::from(n) * 10_000 + 100 + from, "{n}: {row}");
            assert!(row.contains(&format!("side: {side}")), "{n}: {row}");
            assert!(row.contains(&format!("total_ns: Some({total})")), "{n}: {row}");
        }
    }
}

#[test]
fn each_exchange_has_the_number_of_exactly_one_connection() {
    let joins = |found: &Everything, what: &str| {
        for (_, number, row) in &found.exchanges {
            let rows = found.connections.iter().filter(|(of, _)| of == number).count();
            assert_eq!(rows, 1, "{what}: {row}");
        }
    };
    for name in CAPTURES
        .into_iter()
        .chain(["sysbench-prepared", "mariadb-client", "format/v1"])
    {
        let (header, blocks) = stored(&format!("fixtures/{name}.mdf"));
        joins(&everything(&header, &blocks), name);
    }
    // The client's end is recorded when the server has answered already.
    let second = (GET.len() as u32, OK.len() as u32);
    let records = [
        server(SERVER, 5000),
        up(SERVER, 1100, 0, GET),
        down(SERVER, 1200, 0, OK),
        client(CLIENT, 5000),
        up(CLIENT, 2000, second.0, GET),
        up(SERVER, 2100, second.0, GET),
        down(SERVER, 2200, second.1, OK),
        down(CLIENT, 2300, second.1, OK),
    ];
    for cut in 0..records.len() {
        let found = of(&[&records[..cut], &records[cut..]]);
        assert_eq!((found.exchanges.len(), found.connections.len()), (2, 1));
        joins(&found, "late client");
    }
}

/// The requests are held back behind a hole while the responses run ahead.
#[test]
fn no_exchange_begins_in_1970() {
    let mut records = vec![client(CLIENT, 5000)];
    for n in 0..300u32 {
        let time = 10_000 * u64::from(n + 1);
        if n != 5 {
            records.push(up(CLIENT, time, n * GET.len() as u32, GET));
        }
        records.push(down(CLIENT, time + 500, n * OK.len() as u32, OK));
    }
    // Times that are 0 say nothing.
    let mut untimed = both(&one_exchange());
    for record in &mut untimed {
        if let Record::Data(data) = record {
            data.time = 0;
        }
    }
    for records in [records, untimed] {
        let found = of(&[&records]);
        assert!(!found.exchanges.is_empty());
        // The boot of the test is 1 ms after 1970.
        let early: Vec<_> = found
            .exchanges
            .iter()
            .filter(|(start, ..)| *start < 1_000_000)
            .collect();
        assert!(early.is_empty(), "{early:#?}");
    }
}

#[test]
fn a_request_that_the_server_reset_is_an_error_and_one_that_the_client_gave_up_is_not() {
    let ends = |client: Ending, server: Ending| {
        both(&[
            up(CLIENT, 1000, 0, GET),
            up(SERVER, 1100, 0, GET),
            closed(close(SERVER, 2000), 0, GET.len(), server),
            closed(close(CLIENT, 2100), GET.len(), 0, client),
        ])
    };
    let errors = |records: &[Record<'_>]| {
        let mut all = Aggregate::default();
        sinks(&[records]).into_iter().for_each(|shard| all.merge(shard));
        let count = |columns: Columns| match columns.column("errors").map(|column| column.get(0)) {
            Some(Value::Int(errors)) => errors,
            other => panic!("{other:?}"),
        };
        (count(all.summary(Http::PLACE)), count(services(&all)))
    };
    let reset = ends(Ending::ResetByPeer, Ending::ResetLocally);
    assert_eq!(errors(&reset), (1, 1));
    for seen_by in [CLIENT, SERVER] {
        let of_end: Vec<Record<'_>> = reset
            .iter()
            .filter(|record| match record {
                Record::Socket(socket) => socket.id == seen_by,
                Record::Data(data) => data.id == seen_by,
                Record::Close(close) => close.id == seen_by,
                _ => true,
            })
            .copied()
            .collect();
        assert_eq!(errors(&of_end), (1, 1), "{seen_by}");
    }
    // Something between the two reset both.
    assert_eq!(errors(&ends(Ending::ResetByPeer, Ending::ResetByPeer)), (1, 1));
    assert_eq!(errors(&ends(Ending::ResetLocally, Ending::ResetByPeer)), (0, 0));
    assert_eq!(errors(&ends(Ending::Closed, Ending::Closed)), (0, 0));
    // An answer is an answer, whatever becomes of the connection.
    let answered = [&one_exchange()[..], &closes(Ending::ResetByPeer)].concat();
    assert_eq!(errors(&both(&answered)), (0, 0));
}

#[test]
fn an_answer_that_takes_its_time_is_measured_at_both_ends() {
    let [asked, read, answered, received] = one_exchange();
    let expected = of(&[&both(&[asked, read, answered, received])]);
    let (sockets, rest) = (both(&[asked, read]), [answered, received]);
    let nothing: [&[Record<'_>]; 40] = [&[]; 40];
    let found = of(&[&[&sockets[..]], &nothing[..], &[&rest]].concat());
    assert_eq!(found.exchanges, expected.exchanges);
}

/// Whoever watches does not wait for the other end, which may not be recorded at all.
#[test]
fn an_answer_that_lasts_until_the_connection_ends_is_a_row_when_it_ends() {
    let answer = b"HTTP/1.0 200 OK\r\n\r\nall of it";
    let records = [
        client(CLIENT, 5000),
        up(CLIENT, 1000, 0, GET),
        down(CLIENT, 5200, 0, answer),
        closed(close(CLIENT, 6000), GET.len(), answer.len(), Ending::Closed),
    ];
    let mut engine = Engine::new(|_| Texts::default());
    let host = engine.host(&header());
    let blocks = each_alone(&[&records]);
    engine.feed(&[Block {
        source: Source::Raw(&blocks[0]),
        host,
        file: 0,
    }]);
    let rows: Vec<String> = engine
        .sinks()
        .flat_map(|sink| std::mem::take(&mut sink.0))
        .map(|row| row.3)
        .collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].ends_with("complete"), "{rows:?}");
}
