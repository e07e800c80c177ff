//! Streams with holes, and connections joined in the middle.

use super::*;
use crate::analyze::protocol::Sent;
use crate::analyze::protocol::detect::{self, Guess};

const OK2: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn body_of_declared_length_is_skipped() {
    for why in [Missing::Lost, Missing::Unread] {
        let mut talk = Talk::new();
        talk.say(Client, "PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc")
            .lose(Client, 997, why);
        talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")
            .lose(Server, 90_000, why)
            .lose(Server, 9_990, why)
            .say(Server, "tail567");
        talk.say(Client, get("/2")).say(Server, OK2);
        assert_eq!(
            talk.rows(),
            [whole("PUT /", 200, 1040, 100_043), whole("GET /2", 200, 28, 40)]
        );
    }
}

#[test]
fn hole_inside_one_chunk_costs_nothing() {
    let mut talk = Talk::new();
    talk.say(Client, get("/"))
        .say(Server, CHUNKED)
        .say(Server, "1000\r\nabc")
        .lose(Server, 0x1000 - 3, Missing::Unread)
        .say(Server, "\r\n0\r\n\r\n");
    assert_eq!(talk.rows(), [whole("GET /", 200, 27, CHUNKED.len() + 6 + 0x1000 + 7)]);
}

#[test]
fn lost_chunk_header_leaves_the_size_unknown() {
    let mut talk = Talk::new();
    talk.say(Client, get("/"))
        .say(Server, CHUNKED)
        .say(Server, "10\r\nabc")
        .lose(Server, 500, Missing::Lost)
        .say(Server, "abc\r\nHTTP/1.1 200 quoted\r\n\r\n");
    talk.say(Client, get("/2")).say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        (rows[0].status, rows[0].response, rows[0].incomplete),
        (200, None, Some(Incomplete::Gap))
    );
    assert_eq!(rows[1], whole("GET /2", 200, 28, 40), "the next exchange is whole");
}

#[test]
fn lost_chunk_header_with_the_last_chunk_in_sight() {
    let mut talk = Talk::new();
    talk.say(Client, get("/"))
        .say(Server, CHUNKED)
        .say(Server, "10\r\nabc")
        .lose(Server, 500, Missing::Unread)
        .say(Server, "\r\n0\r")
        .say(Server, "\n\r\n");
    talk.say(Client, get("/2")).say(Server, OK2);
    assert_eq!(
        talk.rows(),
        [
            whole("GET /", 200, 27, CHUNKED.len() + 7 + 500 + 7),
            whole("GET /2", 200, 28, 40)
        ]
    );
}

#[test]
fn lost_chunk_header_in_a_request() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
    )
    .lose(Client, 500, Missing::Lost)
    .say(Client, "abc\r\n0\r\n\r\n");
    talk.say(Server, OK2).say(Client, get("/2")).say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        (rows[0].what.as_str(), rows[0].status, rows[0].incomplete),
        ("POST /up", 200, Some(Incomplete::Gap))
    );
    assert_eq!(rows[1], whole("GET /2", 200, 28, 40));
}

#[test]
fn request_head_cut_by_the_snaplen() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /long HTTP/1.1\r\nHost: h\r\nCookie: abcdef")
        .lose(Client, 5000, Missing::Unread)
        .say(Server, OK2);
    talk.say(Client, get("/2")).say(Server, OK2);
    let exchanges = talk.exchanges();
    assert_eq!(message(&exchanges[0]).host, "h");
    let rows: Vec<_> = exchanges.iter().map(row).collect();
    assert_eq!(
        (rows[0].what.as_str(), rows[0].status, rows[0].incomplete),
        ("GET /long", 200, Some(Incomplete::Truncated))
    );
    assert_eq!(rows[1], whole("GET /2", 200, 28, 40));
}

#[test]
fn a_target_whose_end_was_not_seen_names_no_path_and_no_host() {
    let head = "GET http://example.org/c0/30184321?q=abc HTTP/1.1\r\nHost: example.org\r\n\r\n";
    let end = head.find(" HTTP").unwrap();
    for cut in 1..head.len() {
        for why in [Missing::Lost, Missing::Unread] {
            let mut talk = Talk::new();
            talk.say(Client, &head[..cut])
                .lose(Client, (head.len() - cut) as u64, why)
                .say(Server, OK2);
            let message = message(&talk.all_exchanges()[0]);
            let seen = head[4.min(cut)..end.min(cut)].to_owned();
            assert_eq!(message.target, seen, "what is there of it is kept");
            let known = match cut > end {
                true => (("/c0/30184321", Some("q=abc")), "example.org"),
                false => (("", None), ""),
            };
            assert_eq!((message.path_and_query(), message.host.as_str()), known, "{cut}");
        }
    }
}

#[test]
fn response_head_cut_by_the_snaplen() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1"))
        .say(Server, "HTTP/1.1 302 Found\r\nContent-Type: a/b\r\nSet-Cookie: ab")
        .lose(Server, 5000, Missing::Unread)
        .say(Server, "xyz\r\nbody");
    talk.say(Client, get("/2")).say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        (rows[0].status, rows[0].response, rows[0].incomplete),
        (302, None, Some(Incomplete::Truncated))
    );
    assert_eq!(rows[1], whole("GET /2", 200, 28, 40));
}

#[test]
fn lost_request_keeps_its_row_and_does_not_shift_pairs() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1"))
        .say(Server, OK2)
        .lose(Client, 28, Missing::Lost)
        .say(Server, OK2)
        .say(Client, get("/3"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(rows[0], whole("GET /1", 200, 28, 40));
    assert_eq!(
        (rows[1].what.as_str(), rows[1].status, rows[1].incomplete),
        (" ", 200, Some(Incomplete::Gap))
    );
    assert_eq!(rows[2], whole("GET /3", 200, 28, 40));
}

#[test]
fn lost_requests_found_out_after_their_responses() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1"))
        .say(Server, OK2)
        .say(Server, OK2)
        .say(Server, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    talk.lose(Client, 56, Missing::Lost)
        .say(Client, get("/4"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        rows.iter().map(|r| (r.status, r.incomplete)).collect::<Vec<_>>(),
        [
            (200, None),
            (200, Some(Incomplete::Gap)),
            (404, Some(Incomplete::Gap)),
            (200, None)
        ]
    );
    assert_eq!(rows[3], whole("GET /4", 200, 28, 40));
}

#[test]
fn lost_response_does_not_shift_pairs() {
    // The hole is known before the next request, or only with the next bytes after it.
    for late in [false, true] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, OK2).say(Client, get("/2"));
        if late {
            talk.say(Client, get("/3")).lose(Server, 40, Missing::Lost);
        } else {
            talk.lose(Server, 40, Missing::Lost).say(Client, get("/3"));
        }
        talk.say(Server, OK2).say(Client, get("/4")).say(Server, OK2);
        let rows = talk.rows();
        assert_eq!(rows[0], whole("GET /1", 200, 28, 40));
        assert_eq!(
            (rows[1].what.as_str(), rows[1].incomplete),
            ("GET /2", Some(Incomplete::Gap))
        );
        assert_eq!(rows[2], whole("GET /3", 200, 28, 40));
        assert_eq!(rows[3], whole("GET /4", 200, 28, 40));
    }
}

/// A response that nobody asked for (a 408 before an idle connection is closed, a 400 after noise, what a tunnel carries) is not
/// the answer that is lost before it.
#[test]
fn what_the_server_sends_unasked_is_not_the_lost_answer() {
    const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for is_in_order in [true, false] {
        for noise in ["", "\r\n\r\n", "\0\0noise", "\u{16}\u{3}"] {
            for late in [true, false] {
                let mut talk = Talk::new();
                talk.queue.is_in_order = is_in_order;
                talk.say(Client, get("/1"));
                if late {
                    talk.say(Client, noise).lose(Server, 40, Missing::Lost);
                } else {
                    talk.lose(Server, 40, Missing::Lost).say(Client, noise);
                }
                let rows = talk.say(Server, TIMEOUT).all();
                let row = rows.iter().find(|row| row.what == "GET /1").expect("its row");
                assert_eq!(
                    (row.status, row.incomplete),
                    (0, Some(Incomplete::Gap)),
                    "{noise:?} {rows:?}"
                );
                let row = rows.iter().find(|row| row.status == 408).expect("its row");
                assert!(row.incomplete.is_some() && row.what == " ", "{noise:?} {rows:?}");
            }
        }
        let mut talk = Talk::new();
        talk.queue.is_in_order = is_in_order;
        talk.say(Client, get("/1"))
            .lose(Server, 40, Missing::Lost)
            .say(Server, TIMEOUT);
        let orphan = &talk.all()[1];
        assert_eq!((orphan.status, orphan.incomplete), (408, Some(Incomplete::NoRequest)));
    }
}

#[test]
fn what_the_server_sends_unasked_is_not_the_lost_answer_behind_earlier_losses() {
    const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    // Requests of earlier turns that wait in vain, with and without another lost between them and the last.
    for lost_between in [0, 1, 2] {
        let mut talk = Talk::new();
        talk.queue.is_in_order = true;
        talk.lose(Client, 30, Missing::Lost).lose(Server, 40, Missing::Lost);
        talk.say(Client, get("/1")).lose(Server, 40, Missing::Lost);
        for _ in 0..lost_between {
            talk.lose(Client, 30, Missing::Lost).lose(Server, 40, Missing::Lost);
        }
        talk.say(Client, get("/2"))
            .lose(Server, 40, Missing::Lost)
            .say(Server, TIMEOUT);
        let rows = talk.all();
        assert!(
            rows.iter().all(|row| row.incomplete.is_some()),
            "{lost_between}: {rows:?}"
        );
    }
}

/// Where the order of the two directions is not certain, the hole may lie before the request; one that ends the connection is
/// perhaps sent unasked all the same.
#[test]
fn a_timeout_behind_a_hole_that_may_lie_before_its_request_awaits_the_next_turn() {
    for (status, awaits_turn) in [("408 Request Timeout", true), ("200 OK", false)] {
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Client, get("/2"));
        talk.lose(Server, 40, Missing::Lost)
            .say(Server, format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        let exchanges = talk.exchanges();
        assert_eq!(exchanges.len(), 2);
        assert_eq!(exchanges[0].incomplete, Some(Incomplete::Gap));
        assert_eq!((exchanges[1].unsure, exchanges[1].awaits_turn), (true, awaits_turn));
    }
}

#[test]
fn a_lost_answer_to_connect_is_not_the_first_of_the_tunnel() {
    let connect = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n";
    for late in [true, false] {
        let mut talk = Talk::new();
        talk.queue.is_in_order = !late;
        talk.say(Client, connect);
        if late {
            talk.say(Client, get("/1")).lose(Server, 20, Missing::Lost);
        } else {
            talk.lose(Server, 20, Missing::Lost).say(Client, get("/1"));
        }
        talk.say(Server, OK2).say(Client, get("/2")).say(Server, OK2);
        let rows = talk.all();
        assert_eq!((rows[0].what.as_str(), rows[0].status), ("CONNECT h:1", 0));
        assert_eq!(rows[0].incomplete, Some(Incomplete::Gap));
        assert_eq!(rows[1..], [whole("GET /1", 200, 28, 40), whole("GET /2", 200, 28, 40)]);

        // Something else is said in it.
        let mut talk = Talk::new();
        talk.say(Client, connect);
        if late {
            talk.say(Client, "\u{16}\u{3}").lose(Server, 20, Missing::Lost);
        } else {
            talk.lose(Server, 20, Missing::Lost).say(Client, "\u{16}\u{3}");
        }
        assert_eq!(talk.left, Some("CONNECT tunnel"));
        assert_eq!(talk.rows()[0].incomplete, Some(Incomplete::Gap));
    }
}

#[test]
fn hole_over_the_end_of_a_body_and_the_next_head() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1"))
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        .say(Client, get("/2"));
    talk.lose(Server, 25, Missing::Lost)
        .say(Server, "th: 2\r\n\r\nhi")
        .say(Client, get("/3"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(rows[0], whole("GET /1", 200, 28, 49));
    assert_eq!((rows[1].status, rows[1].incomplete), (0, Some(Incomplete::Gap)));
    assert_eq!(rows[2], whole("GET /3", 200, 28, 40));
}

#[test]
fn pairs_of_a_pipelining_client_are_marked_after_a_hole() {
    let mut talk = Talk::new();
    talk.say(Client, [get("/1"), get("/2"), get("/3")].concat())
        .say(Server, OK2)
        .lose(Server, 40, Missing::Lost)
        .say(Server, OK2);
    talk.say(Client, get("/4"))
        .say(Server, OK2)
        .say(Client, get("/5"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(rows[0], whole("GET /1", 200, 28, 40));
    let (last, between) = rows[1..].split_last().expect("several");
    let mut asked: Vec<&str> = between
        .iter()
        .map(|row| row.what.trim())
        .filter(|what| !what.is_empty())
        .collect();
    asked.sort_unstable();
    assert_eq!(asked, ["GET /2", "GET /3", "GET /4"], "{rows:?}");
    assert_eq!(*last, whole("GET /5", 200, 28, 40));
}

#[test]
fn joined_inside_a_response() {
    let mut talk = Talk::joined();
    talk.lose(Server, 1, Missing::Before)
        .say(Server, "rest of some body\r\n")
        .say(Client, get("/1"))
        .say(Server, OK2);
    assert_eq!(talk.rows(), [whole("GET /1", 200, 28, 40)]);
    assert_eq!(talk.pairing.skipped(), 19);
}

#[test]
fn joined_before_a_response() {
    let mut talk = Talk::joined();
    talk.say(Server, OK2).say(Client, get("/1")).say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        (rows[0].what.as_str(), rows[0].status, rows[0].incomplete),
        (" ", 200, Some(Incomplete::StartedBefore))
    );
    assert_eq!(rows[1], whole("GET /1", 200, 28, 40));
}

#[test]
fn joined_inside_a_request_body() {
    let mut talk = Talk::joined();
    talk.say(Client, "of a form\nfield=1")
        .say(Server, OK2)
        .say(Client, get("/1"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(rows[0].incomplete, Some(Incomplete::StartedBefore));
    assert_eq!(rows[1], whole("GET /1", 200, 28, 40));
}

/// As on a connection that is seen from its start: answered, not answered, and before others.
#[test]
fn a_malformed_request_is_a_row_where_the_connection_was_joined() {
    const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for bad in ["GET /bad HTTP/3.0\r\nHost: h\r\n\r\n", "POST  HTTP/1.1\r\n\r\n"] {
        let method = bad.split(' ').next().unwrap();
        for is_answered in [false, true] {
            let rows = |mut talk: Talk| {
                talk.say(Client, bad);
                if is_answered {
                    talk.say(Server, REFUSED).say(Client, get("/2")).say(Server, OK2);
                }
                talk.all()
            };
            let (whole_rows, joined) = (rows(Talk::new()), rows(Talk::joined()));
            assert_eq!(joined, whole_rows, "{bad:?} {is_answered}");
            let status = if is_answered { 400 } else { 0 };
            let row = (joined[0].status, joined[0].incomplete);
            assert_eq!(row, (status, Some(Incomplete::Malformed)));
            assert!(joined[0].what.starts_with(method), "{joined:?}");
            assert_eq!(joined.len(), 1 + usize::from(is_answered));
            // After the answer to what was sent before.
            let mut behind = Talk::joined();
            behind.say(Server, OK2);
            let rows = rows(behind);
            assert_eq!((rows[0].what.as_str(), rows[0].status), (" ", 200));
            assert_eq!(
                rows[1..].iter().map(|row| &row.what).collect::<Vec<_>>(),
                joined.iter().map(|row| &row.what).collect::<Vec<_>>()
            );
            assert_eq!(rows[1].incomplete, Some(Incomplete::Malformed));
        }
        // Nothing else is known of such a connection.
        let detected = detect::guess(Some(Sent::whole(bad.as_bytes())), None, true);
        assert!(matches!(detected, Guess::Read(protocol) if protocol.name() == "http"));
    }
}

#[test]
fn missing_before_means_joined() {
    let mut talk = Talk::new();
    talk.lose(Client, 1, Missing::Before)
        .lose(Server, 1, Missing::Before)
        .say(Server, OK2)
        .say(Client, get("/1"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        rows.iter().map(|r| r.incomplete).collect::<Vec<_>>(),
        [Some(Incomplete::StartedBefore), None]
    );
}

#[test]
fn unknown_method_may_have_been_head() {
    let mut talk = Talk::joined();
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        .say(Client, get("/1"))
        .say(Server, OK2)
        .say(Client, get("/2"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(
        rows.iter().map(|r| (r.response, r.incomplete)).collect::<Vec<_>>(),
        [
            (Some(41), Some(Incomplete::StartedBefore)),
            (Some(40), None),
            (Some(40), None)
        ]
    );
}

#[test]
fn answers_to_head_swallow_nothing_where_no_request_is_seen() {
    for fields in ["Content-Length: 5000\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let chunked = format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n");
        let stream = [&answer, OK2, &answer, &chunked, OK2].concat();
        let sizes = [answer.len(), 40, answer.len(), chunked.len(), 40].map(|size| Some(size as u64));
        for cut in 0..stream.len() {
            let mut talk = Talk::new();
            talk.say(Server, &stream[..cut]).say(Server, &stream[cut..]).settle();
            let rows = talk.all();
            assert_eq!(
                rows.iter().map(|row| row.response).collect::<Vec<_>>(),
                sizes,
                "{fields:?} {cut}"
            );
            assert!(rows.iter().all(|row| row.incomplete.is_some()));
        }
    }
}

#[test]
fn a_body_without_a_length_is_one_where_no_request_is_seen() {
    for body in ["HTTP is a protocol", "HTTP/1.1 20", "H", "text"] {
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        for cut in 0..answer.len() {
            let mut talk = Talk::new();
            talk.say(Server, &answer[..cut]).say(Server, &answer[cut..]).settle();
            let rows = talk.all();
            assert_eq!(rows.len(), 1, "{rows:?}");
            assert_eq!(rows[0].response, Some(answer.len() as u64), "{body:?} {cut}");
        }
    }
}

#[test]
fn a_second_hole_touches_what_was_asked_since_the_first() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /1 HTTP/1.1\r\n\r\n")
        .lose(Server, 20, Missing::Lost)
        .say(Server, "end of a body")
        .say(Client, "GET /2 HTTP/1.1\r\n\r\n")
        .lose(Server, 20, Missing::Lost)
        .say(Server, "end of a body")
        // It answers a request that is lost.
        .say(Server, OK2)
        .lose(Client, 18, Missing::Lost)
        .say(Client, "GET /4 HTTP/1.1\r\n\r\n")
        .say(Server, OK2);
    let rows = talk.all();
    let of = |what: &str| rows.iter().find(|row| row.what == what).expect("its row");
    assert_eq!(of("GET /1").incomplete, Some(Incomplete::Gap));
    assert_eq!(of("GET /2").incomplete, Some(Incomplete::Gap));

    let mut talk = Talk::new();
    // The first hole lies where nothing was asked, as far as was seen.
    talk.lose(Client, 18, Missing::Lost)
        .say(Server, OK2)
        .lose(Server, 20, Missing::Lost)
        .say(Client, "GET /2 HTTP/1.1\r\n\r\n")
        .lose(Server, 20, Missing::Lost)
        .say(Server, "end of a body")
        .say(Server, OK2);
    let rows = talk.all();
    let second = rows.iter().find(|row| row.what == "GET /2").expect("its row");
    assert_eq!(second.incomplete, Some(Incomplete::Gap), "{rows:?}");
}

/// Of the IANA registry, of CalDAV, UPnP, WebDAV, SSDP and SCCM, of fetch() in lower case, and of a program's own.
const METHODS: [&str; 12] = [
    "GET",
    "MKCALENDAR",
    "SUBSCRIBE",
    "VERSION-CONTROL",
    "M-SEARCH",
    "CCM_POST",
    "RPC_IN_DATA",
    "patch",
    "X-Custom",
    "a",
    "!#$%&'*+-.^_`|~09",
    "ABCDEFGHIJKLMNOPQRSTUVWX",
];

#[test]
fn any_method_is_believed_where_the_connection_was_joined() {
    for method in METHODS {
        for target in ["/j", "/a b", "*", "http://h/j", "h:443"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            for cut in 0..request.len() {
                let mut talk = Talk::joined();
                talk.say(Server, "tail of an earlier response body");
                talk.say(Client, &request[..cut])
                    .say(Client, &request[cut..])
                    .say(Server, OK2);
                let what = format!("{method} {target}");
                assert_eq!(talk.rows(), [whole(&what, 200, request.len(), 40)], "at {cut}");
            }
        }
    }
}

/// One row stood for three exchanges.
#[test]
fn any_method_is_believed_after_a_hole() {
    for method in METHODS {
        let request = |path: &str| format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut talk = Talk::new();
        talk.say(Client, get("/1")).say(Server, OK2);
        talk.lose(Client, 60, Missing::Lost).lose(Server, 40, Missing::Lost);
        for path in ["/j", "/k"] {
            talk.say(Client, request(path)).say(Server, OK2);
        }
        let rows = talk.rows();
        let len = request("/j").len();
        for (row, path) in rows[rows.len() - 2..].iter().zip(["/j", "/k"]) {
            assert_eq!(*row, whole(&format!("{method} {path}"), 200, len, 40));
        }
    }
}

#[test]
fn bodies_that_speak_of_http_are_not_believed() {
    for text in [
        "We speak HTTP/1.1\r\n\r\n",
        "127.0.0.1 - - \"GET / HTTP/1.1\" 200\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\n<p>not a field</p>\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /old\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "ABCDEFGHIJKLMNOPQRSTUVWXY / HTTP/1.1\r\n\r\n",
        "see\t/ HTTP/1.1\r\n\r\n",
    ] {
        let body = format!("text\r\n{text}");
        for cut in 0..body.len() {
            let mut talk = Talk::joined();
            talk.say(Client, &body[..cut])
                .say(Client, &body[cut..])
                .say(Server, OK2);
            talk.say(Client, get("/1")).say(Server, OK2);
            let rows = talk.rows();
            assert_eq!(rows.len(), 2, "{text:?} at {cut}: {rows:?}");
            assert_eq!((rows[0].what.as_str(), rows[0].status), (" ", 200));
            assert_eq!(rows[1], whole("GET /1", 200, 28, 40), "{text:?} at {cut}");
        }
    }
}

/// The end of a body may look like the beginning of a method.
#[test]
fn what_was_kept_of_a_body_is_no_part_of_the_next_method() {
    for end in ["word", "two words", "GET /i"] {
        let mut talk = Talk::joined();
        talk.say(Client, format!("line\r\n{end}")).say(Server, OK2);
        talk.say(Client, get("/1")).say(Server, OK2);
        assert_eq!(talk.rows()[1], whole("GET /1", 200, 28, 40), "{end}");
    }
    // The server may go on with an earlier response in the midst of a head.
    let mut talk = Talk::joined();
    talk.say(Client, "PUT")
        .say(Server, OK2)
        .say(Client, " /1 HTTP/1.1\r\n\r\n")
        .say(Server, OK2);
    assert_eq!(talk.rows()[1], whole("PUT /1", 200, 19, 40));
}

/// A packet capture with a snaplen of 96 bytes may hold nothing else of a connection.
#[test]
fn a_lone_head_that_is_cut_is_a_row_where_the_connection_was_joined() {
    let response = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSer";
    let request = "PUT /a b HTTP/1.1\r\nHost: h\r\nX-Fi";
    for end in ["hole", "end", "finish"] {
        for (side, text) in [(Server, response), (Client, request)] {
            for cut in 0..text.len() {
                let mut talk = Talk::joined();
                talk.say(side, &text[..cut]).say(side, &text[cut..]);
                match end {
                    "hole" => talk.lose(side, 1000, Missing::Unread),
                    "end" => talk.end(side),
                    _ => talk.finish(),
                };
                let exchanges = talk.all_exchanges();
                assert_eq!(exchanges.len(), 1, "{end} {side:?} {cut}: {exchanges:?}");
                let message = message(&exchanges[0]);
                assert!(exchanges[0].incomplete.is_some());
                let said = (
                    message.method.as_str(),
                    message.target.as_str(),
                    message.host.as_str(),
                    message.status,
                );
                match side {
                    Client => assert_eq!(said, ("PUT", "/a b", "h", 0)),
                    Server => assert_eq!((said, message.content_type.as_str()), (("", "", "", 200), "text/html")),
                }
            }
        }
    }
}

#[test]
fn a_cut_head_is_not_believed_where_a_body_may_quote_it() {
    let mut talk = Talk::new();
    talk.say(Client, get("/1"))
        .say(Server, CHUNKED)
        .lose(Server, 500, Missing::Lost)
        .say(Server, "HTTP/1.1 404 quoted\r\nX-Fi")
        .lose(Server, 500, Missing::Lost)
        .say(Client, get("/2"))
        .say(Server, OK2);
    let rows = talk.rows();
    assert_eq!((rows[0].status, rows[0].incomplete), (200, Some(Incomplete::Gap)));
    assert_eq!((rows[1].what.as_str(), rows[1].status, rows.len()), ("GET /2", 200, 2));
}

#[test]
fn a_cut_interim_response_is_not_the_final_one() {
    for text in ["HTTP/1.1 100 Continue\r\nX-Fi", "HTTP/1.1 103 Early"] {
        for why in [Missing::Lost, Missing::Unread] {
            let mut talk = Talk::new();
            talk.say(
                Client,
                "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            )
            .say(Server, text)
            .lose(Server, 10, why)
            .say(Client, "up");
            assert!(talk.rows().is_empty(), "the final response is still to come");
            let exchanges = talk.say(Server, OK2).exchanges();
            assert_eq!(
                (message(&exchanges[0]).status, row(&exchanges[0]).response),
                (200, Some(40))
            );
            assert_eq!(message(&exchanges[0]).interim, text[9..12].parse::<u16>().unwrap());
        }
        let mut talk = Talk::new();
        talk.say(Client, get("/")).say(Server, text);
        let rows = talk.all();
        assert_eq!(
            (rows.len(), rows[0].status, rows[0].incomplete),
            (1, 0, Some(Incomplete::ResponseCut))
        );
    }
}

#[test]
fn an_answer_to_what_is_no_request_did_not_start_before() {
    let mut talk = Talk::joined();
    for _ in 0..3 {
        talk.say(Client, "GET / HTTP/1.1\nHost: bare LF is not believed here\n\n")
            .say(Server, OK2);
    }
    talk.say(Client, get("/4")).say(Server, OK2);
    let rows = talk.rows();
    let why = [Incomplete::StartedBefore, Incomplete::Malformed, Incomplete::Malformed];
    assert_eq!(
        rows[..3].iter().map(|row| row.incomplete).collect::<Vec<_>>(),
        why.map(Some)
    );
    assert_eq!(rows[3], whole("GET /4", 200, 28, 40));
}

/// The rest of a method is no method: nobody invents names.
#[test]
fn a_hole_that_ends_within_a_method_makes_no_other_of_it() {
    for method in [
        "GET",
        "HEAD",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "SUBSCRIBE",
        "VERSION-CONTROL",
    ] {
        let request = format!("{method} /2 HTTP/1.1\r\nHost: h\r\n\r\n");
        for lost in 1..=method.len() {
            for piece in [1, 3, 100] {
                let mut talk = Talk::new();
                talk.say(Client, get("/1"))
                    .say(Server, OK2)
                    .lose(Client, lost as u64, Missing::Lost);
                for bytes in request.as_bytes()[lost..].chunks(piece) {
                    talk.say(Client, bytes);
                }
                talk.say(Server, OK2).say(Client, get("/3")).say(Server, OK2);
                let rows = talk.rows();
                assert_eq!(rows.len(), 3, "{rows:?}");
                assert_eq!(
                    (rows[1].what.as_str(), rows[1].status),
                    (" ", 200),
                    "{lost} of {method}"
                );
                assert_eq!(rows[2], whole("GET /3", 200, 28, 40));
            }
        }
    }
}

#[test]
fn an_answer_that_was_lost_right_before_the_end_is_a_gap() {
    let unanswered = |talk: &mut Talk| {
        let rows = talk.rows();
        let said: Vec<_> = rows
            .iter()
            .map(|row| (row.what.clone(), row.status, row.incomplete))
            .collect();
        said.last().cloned().unwrap()
    };
    for before in 0..3 {
        let mut talk = Talk::new();
        for _ in 0..before {
            talk.say(Client, get("/0")).say(Server, OK2);
        }
        talk.say(Client, get("/1")).lose(Server, 40, Missing::Lost);
        talk.end(Server).end(Client);
        assert_eq!(unanswered(&mut talk), ("GET /1".into(), 0, Some(Incomplete::Gap)));
    }
    // The client ends first; the capture ends; nothing was lost; the hole was before the request.
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).lose(Server, 40, Missing::Lost);
    talk.end(Client).end(Server);
    assert_eq!(unanswered(&mut talk).2, Some(Incomplete::Gap));
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).lose(Server, 40, Missing::Lost).finish();
    assert_eq!(talk.queue.oldest().unwrap().incomplete, Some(Incomplete::Gap));
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).end(Server).end(Client);
    assert_eq!(unanswered(&mut talk).2, Some(Incomplete::NoResponse));
    let mut talk = Talk::new();
    talk.say(Client, get("/1")).lose(Server, 40, Missing::Lost);
    talk.say(Client, get("/2")).end(Server).end(Client);
    assert_eq!(
        unanswered(&mut talk),
        ("GET /2".into(), 0, Some(Incomplete::NoResponse))
    );
    // Joined, then a hole.
    let mut talk = Talk::joined();
    talk.say(Client, get("/1")).lose(Server, 40, Missing::Lost);
    talk.end(Server).end(Client);
    assert_eq!(unanswered(&mut talk).2, Some(Incomplete::Gap));
}
