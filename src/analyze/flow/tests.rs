//! A connection means the same however its ends cut it into calls, and whoever tells of a call first.

use proptest::prelude::*;

use super::*;
use crate::analyze::exchange::Message;

/// What is said in turn: by whom, and the bytes.
type Turns = Vec<(usize, Vec<u8>)>;

fn http() -> Turns {
    let turn = |n: usize| {
        let request = format!("POST /items/{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        let response = format!("HTTP/1.1 20{n} OK\r\nContent-Length: 4\r\n\r\nokay");
        [(0, request.into_bytes()), (1, response.into_bytes())]
    };
    (0..3).flat_map(turn).collect()
}

fn mysql() -> Turns {
    let packet = |seq: u8, payload: &[u8]| [&[payload.len() as u8, 0, 0, seq], payload].concat();
    let greeting = [
        b"\x0a8.0.36\0\x07\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15".as_slice(),
        &[0; 10],
        b"ijklmnopqrst\0mysql_native_password\0",
    ]
    .concat();
    let login = [
        &[0x0d, 0xa2, 0x0a, 0, 0, 0, 0, 1, 0xff][..],
        &[0; 23],
        b"user\0\0mysql_native_password\0",
    ]
    .concat();
    let login = [
        (1, packet(0, &greeting)),
        (0, packet(1, &login)),
        (1, packet(2, &[0, 0, 0, 2, 0, 0, 0])),
    ];
    let turn = |n: u8| {
        let statement = format!("\x03delete from t where n = {n}");
        [
            (0, packet(0, statement.as_bytes())),
            (1, packet(1, &[0, n, 0, 2, 0, 0, 0])),
        ]
    };
    login.into_iter().chain((0..3).flat_map(turn)).collect()
}

/// One call: who sends, where in what it sends, and the bytes.
type Call = (usize, usize, Vec<u8>);

/// The calls of one end, in its order, of so many bytes in turn.
fn calls(turns: &Turns, lens: &[usize]) -> Vec<Call> {
    let (mut all, mut said, mut lens) = (Vec::new(), [0; 2], lens.iter().cycle());
    for (sender, text) in turns {
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (call, after) = rest.split_at(rest.len().min(*lens.next().unwrap()));
            all.push((*sender, said[*sender], call.to_vec()));
            said[*sender] += call.len();
            rest = after;
        }
    }
    all
}

/// The exchanges of a connection whose ends make these calls; `order` says in turn which end is heard next.
fn told(ends: &[Vec<Call>], order: &[usize], client: Option<usize>) -> Vec<String> {
    let mut flow = Flow::new([Endpoint::default(); 2], client, false);
    (0..ends.len()).for_each(|observer| flow.attach(observer));
    let starts = [u32::MAX - 20, 2000];
    (0..2).for_each(|sender| flow.start(sender, starts[sender]));
    let (mut heard, mut time, mut exchanges) = (vec![0; ends.len()], 0, Vec::new());
    let mut order = order.iter().cycle();
    while (0..ends.len()).any(|end| heard[end] < ends[end].len()) {
        let end = order.next().unwrap() % ends.len();
        let Some((sender, at, payload)) = ends[end].get(heard[end]) else {
            continue;
        };
        heard[end] += 1;
        time += 10;
        flow.segment(
            *sender,
            Segment {
                pos: flow.stream(*sender).position(starts[*sender].wrapping_add(*at as u32)),
                len: payload.len() as u64,
                payload,
                observer: end as u8,
                time,
                pid: 7,
                tid: 8,
                cgroup: 9,
                urgent: false,
            },
        );
        while let Some(exchange) = flow.take(false) {
            exchanges.push(exchange);
        }
    }
    assert!(flow.take(true).is_none(), "all is shown");
    assert_eq!((flow.unread_bytes, flow.lost_bytes), (0, 0));
    let tell = |exchange: &Exchange| {
        for observer in 0..ends.len() {
            assert!(whole_view(exchange, observer).is_some(), "{observer}: {exchange:?}");
        }
        let message = match &exchange.message {
            Message::Http(message) => format!("{message:?}"),
            Message::Mysql(message) => format!("{message:?}"),
        };
        format!("{message} {:?} {:?}", exchange.request, exchange.response)
    };
    exchanges.iter().map(|exchange| tell(exchange)).collect()
}

#[test]
fn bytes_that_both_ends_show_before_the_protocol_is_known_are_read_once() {
    let turns = http();
    let whole = calls(&turns, &[1000]);
    let ends = [calls(&turns, &[24]), calls(&turns, &[5, 19])];
    assert_eq!(told(&ends, &[1, 0], Some(0)), told(&[whole], &[0], Some(0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn cuts_and_order_of_calls_do_not_matter(
        lens in prop::collection::vec(prop::collection::vec(prop_oneof![1 => 2usize..8, 1 => 2usize..100], 1..8), 2),
        order in prop::collection::vec(0usize..2, 1..32),
        knows_client: bool,
    ) {
        let order = [&order[..], &[0, 1]].concat();
        let client = knows_client.then_some(0);
        for turns in [http(), mysql()] {
            let ends: Vec<_> = lens.iter().map(|lens| calls(&turns, lens)).collect();
            let whole = told(&[calls(&turns, &[1000])], &[0], client);
            prop_assert_eq!(whole.len(), 3);
            prop_assert_eq!(told(&ends, &order, client), whole);
        }
    }
}
