//! What must hold for every stream.

use proptest::prelude::*;

use super::*;

/// A request or a response as it goes over the wire.
#[derive(Clone)]
struct Pair {
    request: Vec<u8>,
    response: Vec<u8>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} => {}", self.request.escape_ascii(), self.response.escape_ascii())
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        Just(b"see HTTP/1.1 200 OK\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec()),
        Just(b"line\r\n0\r\n\r\nline".to_vec()),
    ]
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend(format!("{:X};x=y\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\nTrailer: x\r\n\r\n");
    out
}

fn message(start: String, body: Option<Vec<u8>>, chunks: usize) -> Vec<u8> {
    let mut out = format!("{start}\r\nX-Field: something\r\n").into_bytes();
    match body {
        None => out.extend(b"\r\n"),
        Some(body) if chunks == 0 => {
            out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            out.extend(body);
        }
        Some(body) => {
            out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            out.extend(chunked(&body, chunks));
        }
    }
    out
}

fn pair() -> impl Strategy<Value = Pair> {
    let method = prop_oneof![Just("GET"), Just("HEAD"), Just("POST"), Just("PUT")];
    let status = prop_oneof![Just(200u16), Just(204), Just(304), Just(404), Just(500)];
    (
        method,
        0..1000u32,
        status,
        proptest::option::of(body()),
        body(),
        0..50usize,
        any::<bool>(),
    )
        .prop_map(|(method, path, status, up, down, chunks, interim)| {
            let up = up.filter(|_| matches!(method, "POST" | "PUT"));
            let empty = method == "HEAD" || status == 204 || status == 304;
            let mut response = if interim {
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec()
            } else {
                Vec::new()
            };
            let start = format!("HTTP/1.1 {status} Reason");
            response.extend(match empty {
                true => format!("{start}\r\nContent-Length: {}\r\n\r\n", down.len()).into_bytes(),
                false => message(start, Some(down), chunks),
            });
            Pair {
                request: message(format!("{method} /{path} HTTP/1.1"), up, chunks),
                response,
            }
        })
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    proptest::collection::vec(pair(), 1..6)
}

/// Cuts `bytes` at the given places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// The conversation, one message per call.
fn plain(pairs: &[Pair]) -> Vec<Exchange> {
    let mut talk = Talk::new();
    for pair in pairs {
        talk.say(Client, &pair.request).say(Server, &pair.response);
    }
    talk.end(Client).end(Server);
    talk.exchanges()
}

fn facts(exchange: &Exchange) -> (Row, HttpMessage, u64, u64) {
    (
        row(exchange),
        super::message(exchange),
        exchange.request.start,
        exchange.response.start,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_conversations_are_measured(pairs in pairs()) {
        let rows = plain(&pairs);
        prop_assert_eq!(rows.len(), pairs.len());
        for exchange in &rows {
            prop_assert_eq!(exchange.incomplete, None);
        }
        let request_bytes: u64 = rows.iter().map(|e| e.request.end - e.request.start).sum();
        prop_assert_eq!(request_bytes as usize, pairs.iter().map(|p| p.request.len()).sum::<usize>());
    }

    #[test]
    fn segmentation_does_not_matter(pairs in pairs(), cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
        let mut talk = Talk::new();
        for pair in &pairs {
            for piece in pieces(&pair.request, &cuts) {
                talk.say(Client, piece);
            }
            for piece in pieces(&pair.response, &cuts) {
                talk.say(Server, piece);
            }
        }
        talk.end(Client).end(Server);
        let got: Vec<_> = talk.exchanges().iter().map(facts).collect();
        let want: Vec<_> = plain(&pairs).iter().map(facts).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn byte_by_byte_and_all_at_once(pairs in pairs()) {
        let want: Vec<_> = plain(&pairs).iter().map(facts).collect();
        let requests: Vec<u8> = pairs.iter().flat_map(|p| p.request.clone()).collect();
        let responses: Vec<u8> = pairs.iter().flat_map(|p| p.response.clone()).collect();
        // Pipelined as one write, byte by byte, and with the responses first.
        let mut once = Talk::new();
        once.say(Client, &requests).say(Server, &responses);
        let mut bytes = Talk::new();
        for byte in &requests {
            bytes.say(Client, [*byte]);
        }
        for byte in &responses {
            bytes.say(Server, [*byte]);
        }
        let mut early = Talk::new();
        early.say(Server, &responses).say(Client, &requests).settle();
        for talk in [&mut once, &mut bytes, &mut early] {
            talk.end(Client).end(Server);
            let got: Vec<_> = talk.exchanges().iter().map(facts).collect();
            prop_assert_eq!(&got, &want);
        }
    }

    #[test]
    fn removed_segment_touches_only_its_exchanges(
        pairs in pairs(), cuts in proptest::collection::vec(any::<usize>(), 1..4),
        which in any::<prop::sample::Index>(), late in any::<bool>(), unread in any::<bool>(),
    ) {
        let mut says = Vec::new();
        for pair in &pairs {
            says.extend(pieces(&pair.request, &cuts).into_iter().map(|piece| (Client, piece)));
            says.extend(pieces(&pair.response, &cuts).into_iter().map(|piece| (Server, piece)));
        }
        let gone = which.index(says.len());
        let (side, lost) = says[gone];
        let start: u64 = says[..gone].iter().filter(|(from, _)| *from == side).map(|(_, piece)| piece.len() as u64).sum();
        let hole = start..start + lost.len() as u64;
        let why = if unread { Missing::Unread } else { Missing::Lost };

        // A lost segment is noticed when the next one of its direction arrives, an unread one at once.
        let (mut talk, mut due) = (Talk::new(), false);
        for (at, (from, piece)) in says.iter().enumerate() {
            if due && *from == side {
                talk.lose(side, lost.len() as u64, why);
                due = false;
            }
            match at == gone {
                true if late && !unread => due = true,
                true => { talk.lose(side, lost.len() as u64, why); }
                false => { talk.say(*from, piece); }
            }
        }
        if due {
            talk.lose(side, lost.len() as u64, why);
        }
        talk.end(Client).end(Server);
        let got: Vec<_> = talk.exchanges().iter().map(facts).collect();
        prop_assert!(talk.queue.is_empty());

        for exchange in plain(&pairs) {
            // The interim head before a response is a part of what it touches.
            let span = match side {
                Client => exchange.request.start..exchange.request.end,
                Server => exchange.response.start - if super::message(&exchange).interim > 0 { 37 } else { 0 }..exchange.response.end,
            };
            if span.start < hole.end && hole.start < span.end {
                continue;
            }
            prop_assert!(got.contains(&facts(&exchange)), "{:?} is not in {:#?}", facts(&exchange), got);
        }
        for (row, ..) in &got {
            prop_assert!(row.incomplete.is_some() || (row.request.is_some() && row.response.is_some()));
        }
    }

    /// Packet captures: all comes in causal order, holes too. The client sends each batch when it has the answers to the one
    /// before, or keeps a `window` of requests under way: then nothing is lost before that shows, for it can look like waiting.
    /// At the end the server may send what nobody asked for, by itself or after noise of the client.
    #[test]
    fn no_response_goes_to_another_request(
        batches in prop_oneof![
            proptest::collection::vec(Just(1usize), 1..8),
            proptest::collection::vec(1..6usize, 1..8),
        ],
        window in proptest::option::of(2..6usize), lost in proptest::collection::vec(0..12u8, 64), is_last_lost in any::<bool>(),
        unasked in proptest::option::of(proptest::sample::select(vec!["", "\r\n\r\n", "\0\0noise", "\x16\x03\x01"])),
    ) {
        let asks: usize = batches.iter().sum();
        let (mut order, mut asked, mut answered) = (Vec::new(), 0, 0);
        for (turn, batch) in batches.iter().enumerate() {
            let upto = match window {
                Some(_) if turn + 1 == batches.len() => asks,
                Some(window) => (answered + window).min(asks),
                None => asked + batch,
            };
            order.extend((asked..upto).map(|n| (Client, n)));
            asked = asked.max(upto);
            let upto = if window.is_some() && asked < asks { answered + 1 } else { asked };
            order.extend((answered..upto).map(|n| (Server, n)));
            answered = upto;
        }
        let mut talk = Talk::new();
        talk.queue.is_in_order = true;
        let shown = window.map_or(0, |window| window + 2);
        let last = order.len() - 1;
        for (at, ((from, n), lost)) in order.into_iter().zip(lost).enumerate() {
            let text = match from {
                Client => format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"),
                Server => format!("HTTP/1.1 200 OK\r\nContent-Type: t/{n}\r\nContent-Length: 0\r\n\r\n"),
            };
            let is_lost = lost == 0 || (is_last_lost && at == last);
            match is_lost && at >= shown {
                true => talk.lose(from, text.len() as u64, Missing::Lost),
                false => talk.say(from, text),
            };
        }
        if let Some(noise) = unasked {
            let status = if noise.is_empty() { 408 } else { 400 };
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: t/unasked\r\nContent-Length: 0\r\n\r\n");
            talk.say(Client, noise).say(Server, head);
        }
        talk.end(Client).end(Server);
        for exchange in talk.exchanges().iter().filter(|exchange| exchange.incomplete.is_none()) {
            let message = super::message(exchange);
            prop_assert_eq!(message.target.trim_start_matches('/'), message.content_type.trim_start_matches("t/"));
        }
    }

    #[test]
    fn flipped_bytes_and_cut_streams_do_no_harm(
        pairs in pairs(), flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..6), stop in any::<usize>(),
    ) {
        let mut talk = Talk::new();
        let mut total = 0;
        'talk: for pair in &pairs {
            for (side, bytes) in [(Client, &pair.request), (Server, &pair.response)] {
                let mut bytes = bytes.clone();
                for (at, flip) in &flips {
                    let at = at % bytes.len();
                    bytes[at] ^= flip;
                }
                for piece in pieces(&bytes, &cuts) {
                    total += piece.len();
                    if total > stop % 4000 {
                        break 'talk;
                    }
                    talk.say(side, piece);
                }
            }
        }
        talk.settle().end(Client).end(Server);
        talk.exchanges();
        prop_assert!(talk.queue.is_empty() || talk.left.is_some());
    }

    #[test]
    fn any_bytes_in_any_order_do_no_harm(
        acts in proptest::collection::vec((any::<bool>(), 0..6u8, soup()), 0..40), joined in any::<bool>(),
    ) {
        let mut talk = if joined { Talk::joined() } else { Talk::new() };
        for (client, act, bytes) in acts {
            let side = if client { Client } else { Server };
            match act {
                0 => talk.lose(side, bytes.len() as u64, Missing::Lost),
                1 => talk.settle(),
                _ => talk.say(side, bytes),
            };
            for exchange in talk.exchanges() {
                talk.queue.recycle(Box::new(exchange));
            }
        }
        talk.end(Client).end(Server);
        talk.exchanges();
        prop_assert!(talk.queue.is_empty() || talk.left.is_some());
    }
}

/// Pieces of HTTP in a wild order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n",
        b"HEAD / HTTP/1.0\r\n",
        b"GET /old\r\n",
        b"GET",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"HTTP/1.1 101 X\r\n",
        b"HTTP/1.1 204 X\r\n",
        b"HTTP",
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b" ",
        b"\x00\xff",
        b"PRI * HTTP/2.0\r\n",
    ];
    proptest::collection::vec(proptest::sample::select(words), 0..8).prop_map(|words| words.concat())
}
