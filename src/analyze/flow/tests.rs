//! A connection means the same however its ends cut it into calls, and whoever tells of a call first.

mod holes;
mod socks;
mod streams;
mod turns;

use proptest::prelude::*;

use super::*;
use std::any::Any;

use crate::analyze::protocol::http1::HttpMessage;
use crate::analyze::protocol::memcached::MemcachedMessage;
use crate::analyze::protocol::mysql::MysqlMessage;

fn http_message(exchange: &AnyExchange) -> Option<&HttpMessage> {
    (&exchange.message as &dyn Any).downcast_ref()
}

fn mysql_message(exchange: &AnyExchange) -> Option<&MysqlMessage> {
    (&exchange.message as &dyn Any).downcast_ref()
}

/// What an exchange says, without the number that a thread has given to what is asked.
pub(super) fn said(exchange: &AnyExchange) -> String {
    match http_message(exchange) {
        Some(message) => {
            let message = HttpMessage {
                known: Default::default(),
                ..message.clone()
            };
            format!("{message:?}")
        }
        None => format!("{:?}", &exchange.message),
    }
}

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

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    [&[payload.len() as u8, 0, 0, seq], payload].concat()
}

/// A login; `has_eof`: without CLIENT_DEPRECATE_EOF.
fn mysql_login(has_eof: bool) -> Turns {
    let greeting = [
        b"\x0a8.0.36\0\x07\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15".as_slice(),
        &[0; 10],
        b"ijklmnopqrst\0mysql_native_password\0",
    ]
    .concat();
    let flags = if has_eof { 0x0a } else { 0x0a | 0x01 };
    let login = [
        &[0x0d, 0xa2, flags, if has_eof { 0 } else { 1 }, 0, 0, 0, 1, 0xff][..],
        &[0; 23],
        b"user\0\0mysql_native_password\0",
    ]
    .concat();
    vec![
        (1, packet(0, &greeting)),
        (0, packet(1, &login)),
        (1, packet(2, &[0, 0, 0, 2, 0, 0, 0])),
    ]
}

fn mysql() -> Turns {
    let turn = |n: u8| {
        let statement = format!("\x03delete from t where n = {n}");
        [
            (0, packet(0, statement.as_bytes())),
            (1, packet(1, &[0, n, 0, 2, 0, 0, 0])),
        ]
    };
    mysql_login(true).into_iter().chain((0..3).flat_map(turn)).collect()
}

/// What is said behind headers of the PROXY protocol.
fn behind_proxy(turns: Turns) -> Turns {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x02\xdc\x04\0\x50";
    let headers = [&b"PROXY TCP4 192.0.2.7 10.0.0.2 56324 80\r\n"[..], v2].concat();
    [vec![(0, headers)], turns].concat()
}

/// What is said in tunnels that proxies make.
fn in_tunnels(turns: Turns) -> Turns {
    let tunnel = [
        (0, b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n".to_vec()),
        (1, b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec()),
    ];
    [&tunnel[..], &tunnel[..], &turns].concat()
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
    // Who is heard next has nothing to do with what happened first: as with two hosts.
    (0..ends.len()).for_each(|observer| flow.attach(observer, observer as u16));
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
    let left = flow.take(true);
    assert!(left.is_none(), "all is shown: {left:?} {exchanges:?}");
    assert_eq!((flow.unread_bytes, flow.lost_bytes), (0, 0));
    let tell = |exchange: &AnyExchange| {
        for observer in 0..ends.len() {
            assert!(whole_view(exchange, observer).is_some(), "{observer}: {exchange:?}");
        }
        format!("{} {:?} {:?}", said(exchange), exchange.request, exchange.response)
    };
    exchanges.iter().map(|taken| tell(taken.exchange())).collect()
}

#[test]
fn bytes_that_both_ends_show_before_the_protocol_is_known_are_read_once() {
    let turns = http();
    let whole = calls(&turns, &[1000]);
    let ends = [calls(&turns, &[24]), calls(&turns, &[5, 19])];
    assert_eq!(told(&ends, &[1, 0], Some(0)), told(&[whole], &[0], Some(0)));
}

/// The messages, without the positions.
fn messages(turns: &Turns) -> Vec<String> {
    let all = told(&[calls(turns, &[1000])], &[0], None);
    let message = |row: &String| row.split(" Span").next().unwrap_or_default().to_string();
    all.iter().map(message).collect()
}

#[test]
fn what_stands_behind_a_proxy_is_read_as_without_it() {
    for turns in [http(), mysql()] {
        let plain = messages(&turns);
        assert_eq!(messages(&behind_proxy(turns.clone())), plain);
        assert_eq!(messages(&in_tunnels(turns.clone()))[2..], plain);
        assert_eq!(messages(&in_tunnels(in_tunnels(turns)))[4..], plain);
    }
}

/// What one end shows of a connection that is said in these turns, one call for each.
fn heard(turns: &[(usize, &[u8])], client: Option<usize>) -> Flow {
    heard_from(turns, client, false)
}

/// The same; `joined`: of a connection that began before.
fn heard_from(turns: &[(usize, &[u8])], client: Option<usize>, joined: bool) -> Flow {
    let mut flow = Flow::new([Endpoint::default(); 2], client, joined);
    flow.attach(0, 0);
    let mut said = [1000; 2];
    for (sender, payload) in turns {
        flow.start(*sender, 1000);
        let segment = Segment {
            pos: flow.stream(*sender).position(said[*sender]),
            len: payload.len() as u64,
            payload,
            observer: 0,
            time: 10,
            pid: 7,
            tid: 8,
            cgroup: 9,
            urgent: false,
        };
        said[*sender] += payload.len() as u32;
        flow.segment(*sender, segment);
    }
    flow
}

/// Whoever is captured says how many there are.
#[test]
fn headers_and_tunnels_in_each_other_are_bounded() {
    let count = |mut flow: Flow| std::iter::from_fn(|| flow.take(true)).count();
    let connect = "CONNECT h:1 HTTP/1.1\r\n\r\n".repeat(4000);
    let agree = "HTTP/1.1 200 OK\r\n\r\n".repeat(4000);
    let turns = [(0, connect.as_bytes()), (1, agree.as_bytes())];
    assert_eq!(count(heard(&turns, Some(0))), 5);
    let headers = "PROXY UNKNOWN\r\n".repeat(4000);
    assert_eq!(count(heard(&[(0, headers.as_bytes())], Some(0))), 0);
}

const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// nginx answers TLS, HTTP/2 and noise on a plain port with 400.
#[test]
fn a_server_of_http_answers_what_is_no_request_of_it() {
    let noise = [7; 40];
    for first in [HELLO, PREFACE, &noise] {
        for client in [None, Some(0)] {
            let mut flow = heard(
                &[
                    (0, first),
                    (1, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
                ],
                client,
            );
            assert_eq!((flow.protocol, flow.client()), ("http", Some(0)));
            let exchange = flow.take(true).expect("a row");
            assert_eq!(exchange.exchange().incomplete, Some(Incomplete::Malformed));
        }
    }
}

/// A verdict is not final before both ends have spoken, and then it is.
#[test]
fn either_end_may_tell_what_a_connection_speaks() {
    let banner = b"220 mail.example.org ready\r\n";
    let noise = [7; 40];
    for (turns, protocol, why) in [
        (vec![(1, SETTINGS), (0, PREFACE)], "http2", "HTTP/2"),
        (vec![(1, &noise[..]), (0, PREFACE)], "http2", "HTTP/2"),
        (vec![(1, &banner[..]), (0, b"EHLO a\r\n")], "smtp", "SMTP"),
        (
            vec![(1, banner), (0, b"USER a\r\n"), (0, b"EHLO a\r\n")],
            "",
            "unknown protocol",
        ),
        (vec![(0, b"PING\r\n"), (1, b":1\r\n")], "redis", "Redis"),
        (vec![(0, &noise), (0, HELLO), (1, HELLO)], "tls", "TLS"),
        (vec![(0, HELLO), (1, &noise), (1, b"SSH-2.0-x\r\n")], "tls", "TLS"),
    ] {
        for client in [None, Some(0)] {
            let flow = heard(&turns, client);
            assert_eq!((flow.protocol, flow.why), (protocol, why), "{turns:?}");
        }
    }
}

/// What the server refuses, or others say too, is no reason never to look again.
#[test]
fn memcached_is_recognised_whatever_its_client_says_first() {
    let long_key = format!("set {} 0 0 3\r\nabc\r\n", "k".repeat(251));
    for (said, answered, commands) in [
        ("verbosity 1\r\n", "OK\r\n", 1),
        (&long_key, "CLIENT_ERROR bad command line format\r\nERROR\r\n", 2),
        ("bogus\r\n", "ERROR\r\n", 1),
        ("get\r\n", "ERROR\r\n", 1),
        (
            "set short 0 0 3\r\nabcdef\r\n",
            "CLIENT_ERROR bad data chunk\r\nERROR\r\n",
            2,
        ),
        ("bogus\r\nverbosity 1\r\nhello\r\n", "ERROR\r\nOK\r\nERROR\r\n", 3),
    ] {
        for (next, reply) in [
            ("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n"),
            ("set a 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("delete a\r\n", "NOT_FOUND\r\n"),
        ] {
            for (client, cut) in [(None, 1000), (Some(0), 1000), (Some(0), 2), (Some(0), 5)] {
                let whole = [(0, said), (1, answered), (0, next), (1, reply)];
                let turns = whole
                    .iter()
                    .flat_map(|(end, text)| text.as_bytes().chunks(cut).map(|piece| (*end, piece)));
                let turns: Vec<_> = turns.collect();
                if turns.len() > MANY_PIECES {
                    continue;
                }
                let mut flow = heard(&turns, client);
                assert_eq!(
                    (flow.protocol, flow.why, flow.client()),
                    ("memcached", "", Some(0)),
                    "{turns:?}"
                );
                let rows: Vec<_> = std::iter::from_fn(|| flow.take(true)).collect();
                assert_eq!(rows.len(), commands + 1, "{turns:?}");
                assert!(rows.iter().all(|row| row.exchange().incomplete.is_none()), "{rows:?}");
            }
        }
    }
}

/// What is cut into more pieces than are kept is given up.
const MANY_PIECES: usize = 20;

/// Protocols of lines have words in common: each answer has to be one of memcached.
#[test]
fn what_answers_like_something_else_is_not_memcached() {
    let all: [&[(usize, &str)]; 8] = [
        &[
            (0, "set x 1 2 3\r\n"),
            (1, "OK\r\n"),
            (0, "set y 1 2 3\r\n"),
            (1, "OK\r\n"),
        ],
        &[
            (0, "set x 1 2 3\r\nabc\r\n"),
            (1, "OK\r\n"),
            (0, "set y 1 2 3\r\nabc\r\n"),
            (1, "OK\r\n"),
        ],
        &[(0, "SET x 1\r\n"), (1, "+OK\r\n"), (0, "GET x\r\n"), (1, "$1\r\n1\r\n")],
        &[
            (1, "220 ftp ready\r\n"),
            (0, "USER a\r\n"),
            (1, "331 password\r\n"),
            (0, "quit\r\n"),
            (1, "221 bye\r\n"),
        ],
        &[(0, "NICK a\r\n"), (1, ":h 001 a :hello\r\n")],
        &[
            (0, "status\r\n"),
            (1, "reverse\t0\t0\t1\r\n.\r\n"),
            (0, "version\r\n"),
            (1, "OK 1.1.20\r\n"),
        ],
        &[(0, "hello\r\n"), (1, "ERROR\r\n"), (0, "login a\r\n"), (1, "OK\r\n")],
        &[(0, "get a\r\n"), (1, "ERROR\r\n"), (0, "get b\r\n"), (1, "ERROR\r\n")],
    ];
    for turns in all {
        let turns: Vec<_> = turns.iter().map(|(end, text)| (*end, text.as_bytes())).collect();
        for client in [None, Some(0)] {
            assert_ne!(heard(&turns, client).protocol, "memcached", "{turns:?}");
        }
    }
}

/// Only what the server sends was captured, or the command was sent before the capture began.
#[test]
fn answers_of_memcached_are_rows_where_no_command_was_seen() {
    let row = |taken: &dyn TakenExchange| {
        let exchange = taken.exchange();
        let message: &MemcachedMessage = (&exchange.message as &dyn Any).downcast_ref().expect("memcached");
        let why = exchange.incomplete.map_or("", Incomplete::name);
        assert_ne!(exchange.views[0].response.first, 0, "it has a time");
        format!(
            "{} {:?} {} {} [{why}]",
            message.command, message.status, message.answer, message.found_bytes
        )
    };
    let rows = |turns: &[(usize, &[u8])], joined: bool| -> Vec<String> {
        let mut flow = heard_from(turns, Some(0), joined);
        flow.settle();
        flow.finish();
        std::iter::from_fn(|| flow.take(true))
            .map(|taken| row(&*taken))
            .collect()
    };
    let item = &b"VALUE k 0 3\r\nabc\r\nEND\r\n"[..];
    for (joined, why) in [(false, "no_request"), (true, "started_before")] {
        let answers: [(usize, &[u8]); 5] = [
            (1, item),
            (1, b"STORED\r\n"),
            (1, b"VALUE k 0 3\r\nabc\r\nVALUE l 0 2\r\nde\r\nEND\r\n15\r\n"),
            (1, b"SERVER_ERROR out of memory\r\n"),
            (1, b"STAT pid 1\r\nEND\r\n"),
        ];
        let expected = [
            " Ok END 3",
            " Ok STORED 0",
            " Ok END 5",
            " Ok 15 0",
            " ServerError SERVER_ERROR out of memory 0",
            " Ok END 0",
        ];
        let expected: Vec<_> = expected.iter().map(|row| format!("{row} [{why}]")).collect();
        assert_eq!(rows(&answers, joined), expected);
        let many: Vec<_> = (0..200).map(|_| (1, item)).collect();
        assert_eq!(rows(&many, joined), vec![format!(" Ok END 3 [{why}]"); 200]);
    }
    let before = [(1, item), (0, &b"get a\r\n"[..]), (1, b"END\r\n")];
    assert_eq!(rows(&before, true), [" Ok END 3 [started_before]", "get Ok END 0 []"]);
    // Data that are no answers, and then answers.
    let tail = [(1, &b"of data\r\nEND\r\n"[..]), (1, item), (1, b"STORED\r\n")];
    assert_eq!(
        rows(&tail, true),
        [" Ok END 3 [started_before]", " Ok STORED 0 [started_before]"]
    );
}

/// In a tunnel anything may be spoken.
#[test]
fn what_a_tunnel_carries_is_named_by_nothing_but_its_rows() {
    let turns = in_tunnels(vec![(0, HELLO.to_vec())]);
    assert_eq!(told(&[calls(&turns, &[1000])], &[0], None).len(), 2);
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
        let all = [
            (http(), 3),
            (mysql(), 3),
            (behind_proxy(http()), 3),
            (behind_proxy(mysql()), 3),
            (in_tunnels(http()), 5),
            (behind_proxy(in_tunnels(mysql())), 5),
        ];
        let socks = socks::behind_socks(http()).into_iter().chain(socks::behind_socks(mysql())).map(|turns| (turns, 3));
        for (turns, exchanges) in all.into_iter().chain(socks) {
            let ends: Vec<_> = lens.iter().map(|lens| calls(&turns, lens)).collect();
            let whole = told(&[calls(&turns, &[1000])], &[0], client);
            prop_assert_eq!(whole.len(), exchanges);
            prop_assert_eq!(told(&ends, &order, client), whole);
        }
    }
}
