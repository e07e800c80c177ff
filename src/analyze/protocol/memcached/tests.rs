//! The rules of the protocol, and what holes and late joins must never do.

use std::collections::BTreeMap;

use super::*;
use crate::analyze::exchange::Side::{self, Client, Server};
use crate::analyze::protocol::detect::{Guess, guess};
use crate::analyze::protocol::{Missing, Pairing, Verdict};

/// What one end says at once.
type Said = (Side, Vec<u8>);

fn client(text: &str) -> Said {
    (Client, text.as_bytes().to_vec())
}

fn server(text: &str) -> Said {
    (Server, text.as_bytes().to_vec())
}

/// A hole in what an end says: so many bytes from a position on.
type Hole = (Side, u64, u64, Missing);

/// What becomes of a conversation; `first` is the first thing that is seen of it.
fn run(said: &[Said], first: usize, hole: Option<Hole>) -> Vec<Exchange> {
    let mut pairing = MemcachedPairing::new(first > 0);
    let mut queue = Queue::default();
    let mut taken = Vec::new();
    let mut pos = [0u64; 2];
    for (number, (from, bytes)) in said.iter().enumerate() {
        let start = pos[*from as usize];
        let end = start + bytes.len() as u64;
        pos[*from as usize] = end;
        if number < first {
            continue;
        }
        let give = |pairing: &mut MemcachedPairing, queue: &mut Queue, from_at: u64, to: u64| {
            if from_at < to {
                let piece = &bytes[(from_at - start) as usize..(to - start) as usize];
                pairing.bytes(*from, from_at, piece, queue);
            }
        };
        match hole.filter(|(side, at, len, _)| side == from && *at < end && at + len > start) {
            None => give(&mut pairing, &mut queue, start, end),
            Some((_, at, len, why)) => {
                let (from_at, to) = (at.max(start), (at + len).min(end));
                give(&mut pairing, &mut queue, start, from_at);
                pairing.missing(*from, from_at, to - from_at, why, &mut queue);
                give(&mut pairing, &mut queue, to, end);
            }
        }
        while queue
            .oldest()
            .is_some_and(|oldest| oldest.is_finished() && !oldest.unsure)
        {
            let exchange = queue.take().unwrap();
            taken.push((*exchange).clone());
            queue.recycle(exchange);
        }
    }
    pairing.settle(&mut queue);
    pairing.end(Client, pos[0], true, &mut queue);
    pairing.end(Server, pos[1], true, &mut queue);
    taken.extend(std::iter::from_fn(|| queue.take()).map(|taken| *taken));
    taken
}

/// Command, first key, number of keys, answer, hits: one line each.
fn lines(exchanges: &[Exchange]) -> Vec<String> {
    let line = |exchange: &Exchange| {
        let m = &exchange.message;
        let mut line = format!("{} {} {} {:?}", m.command, m.key, m.keys, m.answer);
        if let Some(hits) = m.hits {
            line += &format!(" {hits} hits");
        }
        if let Some(why) = exchange.incomplete {
            line += &format!(" [{}]", why.name());
        }
        line
    };
    exchanges.iter().map(line).collect()
}

fn dialogue() -> Vec<Said> {
    vec![
        client("set a:1 0 0 5\r\nhello\r\n"),
        server("STORED\r\n"),
        client("get a:1\r\n"),
        server("VALUE a:1 0 5\r\nhello\r\nEND\r\n"),
        client("get a:1 b c:2\r\n"),
        server("VALUE a:1 0 5\r\nhello\r\nVALUE c:2 7 10\r\nEND\r\nEND\r\n\r\nEND\r\n"),
        client("gets a:1\r\n"),
        server("VALUE a:1 0 5 99\r\nhello\r\nEND\r\n"),
        client("cas a:1 0 0 2 98\r\nno\r\n"),
        server("EXISTS\r\n"),
        client("add a:1 0 -1 1\r\nx\r\n"),
        server("NOT_STORED\r\n"),
        client("incr n 5\r\n"),
        server("15\r\n"),
        client("decr missing 5\r\n"),
        server("NOT_FOUND\r\n"),
        client("touch a:1 100\r\n"),
        server("TOUCHED\r\n"),
        client("gat 100 a:1 q\r\n"),
        server("VALUE a:1 0 5\r\nhello\r\nEND\r\n"),
        client("delete a:1\r\n"),
        server("DELETED\r\n"),
        client("delete a:1\r\n"),
        server("NOT_FOUND\r\n"),
        client("bogus\r\n"),
        server("ERROR\r\n"),
        client("incr a:2 1\r\n"),
        server("CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        client("set big 0 0 3\r\nabc\r\n"),
        server("SERVER_ERROR object too large for cache\r\n"),
        client("stats\r\n"),
        server("STAT pid 1\r\nSTAT version 1.6\r\nEND\r\n"),
        client("version\r\n"),
        server("VERSION 1.6\r\n"),
    ]
}

#[test]
fn commands_are_paired_with_their_answers() {
    let expected = [
        "set a:1 1 \"STORED\"",
        "get a:1 1 \"END\" 1 hits",
        "get a:1 3 \"END\" 2 hits",
        "gets a:1 1 \"END\" 1 hits",
        "cas a:1 1 \"EXISTS\" 1 hits",
        "add a:1 1 \"NOT_STORED\"",
        "incr n 1 \"15\" 1 hits",
        "decr missing 1 \"NOT_FOUND\" 0 hits",
        "touch a:1 1 \"TOUCHED\" 1 hits",
        "gat a:1 2 \"END\" 1 hits",
        "delete a:1 1 \"DELETED\" 1 hits",
        "delete a:1 1 \"NOT_FOUND\" 0 hits",
        "bogus  0 \"ERROR\"",
        "incr a:2 1 \"CLIENT_ERROR cannot increment or decrement non-numeric value\"",
        "set big 1 \"SERVER_ERROR object too large for cache\"",
        "stats  0 \"END\"",
        "version  0 \"VERSION 1.6\"",
    ];
    let said = dialogue();
    assert_eq!(lines(&run(&said, 0, None)), expected);
    // In pieces of any size, the same.
    for size in 1..9 {
        let pieces: Vec<Said> = said
            .iter()
            .flat_map(|(from, bytes)| bytes.chunks(size).map(|piece| (*from, piece.to_vec())))
            .collect();
        assert_eq!(lines(&run(&pieces, 0, None)), expected, "{size}");
    }
    // All commands at once, then all answers; and the other way round, as two CPUs may show them.
    for order in [[Client, Server], [Server, Client]] {
        let all = order.map(|side| {
            let of_side = said.iter().filter(|(from, _)| *from == side);
            (side, of_side.flat_map(|(_, bytes)| bytes.clone()).collect())
        });
        assert_eq!(lines(&run(&all, 0, None)), expected, "{order:?}");
    }
}

#[test]
fn noreply_has_no_answer_and_its_error_is_nobody_elses() {
    let quiet = [
        client("set a 0 0 1 noreply\r\nx\r\ndelete b noreply\r\nget a\r\n"),
        server("VALUE a 0 1\r\nx\r\nEND\r\n"),
        client("get b\r\n"),
        server("END\r\n"),
    ];
    assert_eq!(
        lines(&run(&quiet, 0, None)),
        [
            "set a 1 \"\"",
            "delete b 1 \"\"",
            "get a 1 \"END\" 1 hits",
            "get b 1 \"END\" 0 hits"
        ]
    );
    let error = [
        client("set a 0 0 1 noreply\r\nx\r\nget a\r\n"),
        server("SERVER_ERROR out of memory storing object\r\nEND\r\n"),
        client("get b\r\n"),
        server("END\r\n"),
    ];
    assert_eq!(
        lines(&run(&error, 0, None)),
        ["set a 1 \"\"", "get a 1 \"\" [malformed]", "get b 1 \"END\" 0 hits"]
    );
    // With nothing else to answer, it is a row of its own.
    let alone = [
        client("set a 0 0 1 noreply\r\nx\r\n"),
        server("CLIENT_ERROR bad data chunk\r\n"),
    ];
    assert_eq!(
        lines(&run(&alone, 0, None)),
        ["set a 1 \"\"", "  0 \"CLIENT_ERROR bad data chunk\" [no_request]"]
    );
}

#[test]
fn data_are_taken_only_where_the_server_takes_them() {
    let said = [
        client("set bad x 0 3\r\nabc\r\n"),
        server("CLIENT_ERROR bad command line format\r\nERROR\r\n"),
        client("set short 0 0 3\r\nabcdef\r\n"),
        server("CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
    ];
    assert_eq!(
        lines(&run(&said, 0, None)),
        [
            "set bad 1 \"CLIENT_ERROR bad command line format\"",
            "abc  0 \"ERROR\"",
            "set short 1 \"CLIENT_ERROR bad data chunk\"",
            "f  0 \"ERROR\"",
        ]
    );
}

#[test]
fn data_beyond_the_snaplen_are_stepped_over() {
    let said = [
        client("set a 0 0 2000\r\n"),
        (Client, [[b'x'; 2000].as_slice(), b"\r\n"].concat()),
        server("STORED\r\n"),
        client("get a\r\n"),
        (
            Server,
            [b"VALUE a 0 2000\r\n", [b'x'; 2000].as_slice(), b"\r\nEND\r\n"].concat(),
        ),
    ];
    let expected = ["set a 1 \"STORED\"", "get a 1 \"END\" 1 hits"];
    let hole = |side, at, len| run(&said, 0, Some((side, at, len, Missing::Unread)));
    assert_eq!(lines(&hole(Client, 100, 1918)), expected, "to the end of what it sent");
    let of_server = hole(Server, 100, 8 + 2023 - 100);
    assert_eq!(lines(&of_server), expected, "END is in what was not kept");
    assert!(of_server.iter().all(|exchange| exchange.response.ended));
    let lost = run(&said, 0, Some((Server, 100, 8 + 2023 - 100, Missing::Lost)));
    assert_eq!(lines(&lost), ["set a 1 \"STORED\"", "get a 1 \"\" [gap]"]);
}

/// Whatever is lost, and wherever the connection is joined: what is measured is what was said.
#[test]
fn holes_and_late_joins_pair_nothing_that_was_not_a_pair() {
    let facts = |exchanges: &[Exchange]| -> BTreeMap<u64, (MemcachedMessage, u64, u64)> {
        let whole = exchanges.iter().filter(|exchange| exchange.incomplete.is_none());
        let fact = |e: &Exchange| (e.request.start, (e.message.clone(), e.response.start, e.response.end));
        whole.map(fact).collect()
    };
    let mut quiet = dialogue();
    for n in 0..4 {
        quiet.push(client(&format!("set q:{n} 0 0 3 noreply\r\nabc\r\n")));
        quiet.push(client(&format!("get q:{n}\r\n")));
        quiet.push(server(&format!("VALUE q:{n} 0 3\r\nabc\r\nEND\r\n")));
    }
    let all = facts(&run(&quiet, 0, None));
    let (mut holes, mut kept) = (0, 0);
    let mut check = |found: &[Exchange], what: &str| {
        holes += 1;
        for (start, fact) in facts(found) {
            assert_eq!(all.get(&start), Some(&fact), "{what}");
            kept += 1;
        }
    };
    for first in 1..quiet.len() {
        check(&run(&quiet, first, None), &format!("joined at {first}"));
    }
    for side in [Client, Server] {
        let len: usize = quiet
            .iter()
            .filter(|(from, _)| *from == side)
            .map(|(_, bytes)| bytes.len())
            .sum();
        for at in 0..len as u64 {
            for size in [1, 2, 7, 25, 60] {
                let hole = (side, at, size, Missing::Lost);
                check(&run(&quiet, 0, Some(hole)), &format!("{hole:?}"));
            }
        }
    }
    // Nearly all of it is read all the same.
    assert!(kept > holes * (all.len() - 5), "{kept} of {holes} times {}", all.len());
}

#[test]
fn detection_asks_both_where_one_is_not_sure() {
    let memcached = Guess::Read(&Memcached);
    let both = |client: &str, server: &str, joined| {
        let sent = |text: &'static str| Some(Sent::whole(text.as_bytes()));
        guess(sent(client.to_string().leak()), sent(server.to_string().leak()), joined)
    };
    for joined in [false, true] {
        for (client, server) in [
            ("set a 0 0 5\r\nhello\r\n", "STORED\r\n"),
            ("set a 0 0 5\r\nhello\r\nset b 0 0 1\r\nx\r\n", ""),
            ("cas a 0 -1 5 77 noreply\r\nhello\r\n", ""),
            ("get a\r\n", "END\r\n"),
            ("get a b\r\n", "VALUE a 0 5\r\n"),
            ("gets a\r\n", "VALUE a 0 5 7\r\nhello"),
            ("incr a 1\r\n", "5\r\n"),
            ("delete a\r\n", "NOT_FOUND\r\n"),
            ("version\r\n", "VERSION 1.6.18\r\n"),
            ("stats\r\n", "STAT pid 1\r\n"),
            // What others say too, and then what they do not.
            ("flush_all\r\ndelete 5\r\nget a\r\n", "OK\r\nDELETED\r\nEND\r\n"),
        ] {
            assert_eq!(
                both(client, server, joined),
                memcached,
                "{client:?} {server:?} {joined}"
            );
            if joined || server.is_empty() || client.starts_with("flush_all") {
                continue;
            }
            for cut in 1..client.len() {
                let guess = both(&client[..cut], "", false);
                assert_eq!(guess, Guess::More, "{:?}", &client[..cut]);
            }
        }
        // An inline command of Redis, a job of beanstalkd, and nothing that answers.
        for (client, server) in [
            ("get a\r\n", "$5\r\nhello\r\n"),
            ("delete 5\r\n", "DELETED\r\n"),
            ("touch 5\r\n", "TOUCHED\r\n"),
            ("delete 5\r\nreserve\r\n", "DELETED\r\nRESERVED 6 1\r\n"),
            ("put 0 0 5 5\r\nhello\r\n", "INSERTED 5\r\n"),
            ("get a\r\n", "220 mail ready\r\n"),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"),
            ("stats\r\n", "OK\r\n"),
            ("set x 1 2 3\r\n", ""),
            ("set x 1 2 3\r\nabc\r\n", ""),
            ("set x 1 2 3\r\n", "OK\r\n"),
            ("set x 1 2 3\r\nabc\r\nset y 1 2 3\r\nabc\r\n", "OK\r\nOK\r\n"),
            ("set x 1 2 3\r\n", "+OK\r\n"),
            ("get a\r\n", "ERROR\r\n"),
            ("hello\r\nget a\r\n", "ERROR\r\nERROR\r\n"),
            ("USER a\r\n", "331 password\r\n"),
            ("status\r\n", "OK\r\n"),
        ] {
            let guess = both(client, server, joined);
            assert_ne!(guess, memcached, "{client:?} {server:?} {joined}");
        }
    }
}

#[test]
fn what_is_not_read_is_said() {
    let meta = guess(
        Some(Sent::whole(b"mg a v\r\n")),
        Some(Sent::whole(b"VA 5\r\nhello\r\n")),
        false,
    );
    assert_eq!(meta, Guess::Other("no parser for memcached meta commands"));
    for (line, why) in [
        ("mg a v\r\n", "no parser for memcached meta commands"),
        ("watch\r\n", "memcached watch: a stream of events"),
    ] {
        let mut pairing = MemcachedPairing::new(false);
        let verdict = pairing.bytes(Client, 0, line.as_bytes(), &mut Queue::default());
        assert_eq!(verdict, Verdict::Leave(why));
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut pairing = MemcachedPairing::new(false);
    let mut queue = Queue::default();
    let keys = vec![b'k'; 1 << 16];
    for n in 0..64u64 {
        pairing.bytes(Client, n << 16, &keys, &mut queue);
        pairing.bytes(Server, n << 16, &keys, &mut queue);
        assert!(pairing.client_line.capacity() + pairing.server_line.capacity() + pairing.held_bytes < 1 << 19);
    }
    assert!(queue.len() < 8);
}
