//! The head parser against httparse, and its three answers.

use super::super::parse::{self, Coding, Length, Line, Parsed, Wrong};

const REQUESTS: [&str; 6] = [
    "GET / HTTP/1.1\r\n\r\n",
    "GET /w?q=1&x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: curl/8.5\r\nAccept: */*\r\n\r\n",
    "POST /form HTTP/1.0\r\nContent-Length: 11\r\nHOST:  b \r\n\r\nhello world",
    "PROPFIND http://h/x HTTP/1.1\nTransfer-Encoding: gzip, chunked\nExpect: 100-Continue\n\n",
    "OPTIONS * HTTP/1.1\r\nHost:\r\nX-Empty:\r\n\r\n",
    "M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\n\r\n",
];

const RESPONSES: [&str; 5] = [
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22\r\nContent-Type: text/html\r\nContent-Length: 615\r\nConnection: keep-alive\r\n\r\n<",
    "HTTP/1.0 404 Not Found\r\n\r\n",
    "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "HTTP/1.1 299 \n\n",
];

#[test]
fn agrees_with_httparse() {
    for text in REQUESTS {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut theirs = httparse::Request::new(&mut fields);
        let used = theirs.parse(text.as_bytes()).unwrap().unwrap();
        let Parsed::Whole(ours, our_used) = parse::request(text.as_bytes()) else {
            panic!("{text}")
        };
        assert_eq!(our_used, used, "{text}");
        assert_eq!(
            (Some(ours.method), Some(ours.target)),
            (theirs.method.map(str::as_bytes), theirs.path.map(str::as_bytes))
        );
        assert_eq!(Some(ours.version), theirs.version.map(|minor| 10 + minor));
        let host = theirs
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("host"));
        assert_eq!(ours.host, host.map_or(&b""[..], |field| field.value.trim_ascii()));
    }
    for text in RESPONSES {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut theirs = httparse::Response::new(&mut fields);
        let used = theirs.parse(text.as_bytes()).unwrap().unwrap();
        let Parsed::Whole(ours, our_used) = parse::response(text.as_bytes()) else {
            panic!("{text}")
        };
        assert_eq!((our_used, Some(ours.status)), (used, theirs.code), "{text}");
        let kind = theirs
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-type"));
        assert_eq!(ours.content_type, kind.map_or(&b""[..], |field| field.value));
    }
}

#[test]
fn every_prefix_is_partial() {
    for text in REQUESTS {
        let Parsed::Whole(_, used) = parse::request(text.as_bytes()) else {
            panic!("{text}")
        };
        for cut in 0..used {
            assert_eq!(
                parse::request(&text.as_bytes()[..cut]),
                Parsed::Partial,
                "{text:?} at {cut}"
            );
        }
        assert_eq!(parse::head_end(text.as_bytes(), 0), Some(used));
    }
    for text in RESPONSES {
        let Parsed::Whole(_, used) = parse::response(text.as_bytes()) else {
            panic!("{text}")
        };
        for cut in 0..used {
            assert_eq!(
                parse::response(&text.as_bytes()[..cut]),
                Parsed::Partial,
                "{text:?} at {cut}"
            );
        }
        assert_eq!(parse::head_end(text.as_bytes(), 0), Some(used));
    }
}

#[test]
fn fields_of_interest() {
    let Parsed::Whole(head, _) = parse::request(REQUESTS[3].as_bytes()) else {
        panic!()
    };
    assert_eq!((head.framing.coding, head.expects), (Coding::Chunked, true));
    let Parsed::Whole(head, _) = parse::request(REQUESTS[2].as_bytes()) else {
        panic!()
    };
    assert_eq!(
        (head.framing.length, head.host, head.version),
        (Length::Known(11), &b"b"[..], 10)
    );
    let Parsed::Whole(head, _) = parse::response(RESPONSES[3].as_bytes()) else {
        panic!()
    };
    assert_eq!(head.upgrade, b"websocket");
}

#[test]
fn wrong_start_lines() {
    let wrong = |text: &str| match parse::request(text.as_bytes()) {
        Parsed::Wrong(wrong) => wrong,
        other => panic!("{text:?}: {other:?}"),
    };
    for text in [
        "\x16\x03\x01",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    ] {
        assert_eq!(wrong(text), Wrong::Foreign, "{text:?}");
    }
    assert_eq!(wrong("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Wrong::Http2);
    assert_eq!(wrong("GET / HTTP/2.0\r\n"), Wrong::Line("version is not HTTP/1.x"));
    assert_eq!(wrong("GET  HTTP/1.1\r\n"), Wrong::Line("empty request target"));
    assert_eq!(wrong("POST /x\r\n"), Wrong::Line("request line without a version"));
    for text in [
        "HTTP/2 200",
        "HTTP/1.1 099 X",
        "HTTP/1.1 2000 X",
        "HTTP/1.1  200",
        "http/1.1 200 OK",
        "ICY 200 OK",
    ] {
        assert_eq!(
            parse::response(text.as_bytes()),
            Parsed::Wrong(Wrong::Foreign),
            "{text:?}"
        );
    }
}

#[test]
fn believable_heads() {
    assert!(parse::is_believable(
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\nX-y:z\r\n\r\n"
    ));
    for head in [
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\n<a href=\"x:\">\r\n\r\n",
    ] {
        assert!(!parse::is_believable(head.as_bytes()), "{head:?}");
    }
}

#[test]
fn more_fields_than_usual() {
    for count in [64, 65, 5000] {
        let fields: String = (0..count).map(|at| format!("X-{at}: y\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\n{fields}Host: a\r\n\r\n");
        let Parsed::Whole(head, used) = parse::request(text.as_bytes()) else {
            panic!("{count}")
        };
        assert_eq!((head.host, used), (&b"a"[..], text.len()));
        let text = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 7\r\n\r\n");
        let Parsed::Whole(head, used) = parse::response(text.as_bytes()) else {
            panic!("{count}")
        };
        assert_eq!((head.framing.length, used), (Length::Known(7), text.len()));
    }
    // Longer than any head that is read.
    let text = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\n".repeat(30_000));
    assert_eq!(parse::request(text.as_bytes()), Parsed::Partial);
}

/// What httparse refuses, and servers take.
#[test]
fn mended_requests() {
    let read = |text: &'static [u8]| match parse::request(text) {
        Parsed::Whole(head, used) => {
            assert_eq!(used, text.len());
            for cut in 0..text.len() {
                assert_eq!(parse::request(&text[..cut]), Parsed::Partial, "at {cut}");
            }
            head
        }
        other => panic!("{}: {other:?}", text.escape_ascii()),
    };
    let folded = read(b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip,\r\n\tchunked\r\nHost: a\r\n b\r\n\r\n");
    assert_eq!((folded.framing.coding, folded.host), (Coding::Chunked, &b"a"[..]));
    let folded = read(b"POST / HTTP/1.1\nTransfer-Encoding: gzip,\n chunked\n\n");
    assert_eq!(folded.framing.coding, Coding::Chunked);
    let spaced = read(b"POST / HTTP/1.1\r\nContent-Length \t: 5\r\nHost : a\r\n\r\n");
    assert_eq!((spaced.framing.length, spaced.host), (Length::Known(5), &b"a"[..]));
    let doubled = read(b"POST / HTTP/1.1\r\nContent-Length: 5\r\r\nHost: a\r\r\n\r\n");
    assert_eq!((doubled.framing.length, doubled.host), (Length::Known(5), &b"a"[..]));
    let control = read(b"POST / HTTP/1.1\r\nX: \0\x01\x7f\r\nContent-Length: 5\0\r\n\r\n");
    assert_eq!(control.framing.length, Length::Bad("Content-Length is not a number"));
    let none = read(b"GET / HTTP/1.1\r\nno colon\r\n: x\r\n<a>\r\nHost: a\r\n\r\n");
    assert_eq!(none.host, b"a");
    let later = read(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n");
    assert_eq!((later.version, later.host), (12, &b"a"[..]));
    let latin = read(b"GET /caf\xe9?HTTP/1.1 HTTP/1.1\r\n\r\n");
    assert_eq!((latin.target, latin.version), (&b"/caf\xe9?HTTP/1.1"[..], 11));
}

#[test]
fn mended_responses() {
    let read = |text: &'static [u8]| match parse::response(text) {
        Parsed::Whole(head, used) => {
            assert_eq!(used, text.len());
            for cut in 0..text.len() {
                assert_eq!(parse::response(&text[..cut]), Parsed::Partial, "at {cut}");
            }
            head
        }
        other => panic!("{}: {other:?}", text.escape_ascii()),
    };
    let folded = read(b"HTTP/1.1 200 OK\r\nContent-Type: text/html;\r\n charset=x\r\nContent-Length : 5\r\n\r\n");
    assert_eq!(folded.content_type, b"text/html;");
    assert_eq!(folded.framing.length, Length::Known(5));
    let doubled = read(b"HTTP/1.1 200 OK\x07\r\nContent-Type: a/b\r\r\nContent-Length: 5\r\r\n\r\n");
    assert_eq!((doubled.content_type, doubled.status), (&b"a/b"[..], 200));
    assert_eq!(doubled.framing.length, Length::Known(5));
    let none = read(b"HTTP/1.3 404\r\n no field\r\nnone\r\nUpgrade: \0h2c\r\nContent-Length: 1\r\n\r\n");
    assert_eq!((none.version, none.status, none.upgrade), (13, 404, &b"\0h2c"[..]));
    assert_eq!(none.framing.length, Length::Known(1));
}

#[test]
fn every_prefix_of_a_request_line_may_become_one() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "M-SEARCH * HTTP/1.1\r\n",
        "patch /a b HTTP/1.0\r\n",
        "CONNECT example.org:443 HTTP/1.1\r\n",
        "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n",
        "PROPFIND http://h/x y HTTP/1.1\r\n",
    ] {
        for cut in 0..line.len() {
            let shape = parse::request_line(&line.as_bytes()[..cut]);
            assert!(
                matches!(shape, Line::Perhaps | Line::Begun),
                "{line:?} at {cut}: {shape:?}"
            );
        }
        assert_eq!(parse::request_line(line.as_bytes()), Line::Whole, "{line:?}");
    }
}

#[test]
fn what_is_no_request_line_is_told_soon() {
    for text in [
        "hello world, how do you do",
        "<html>",
        "a=1&b=2",
        "GET \r\n",
        "GET x HTTP/1.1\r\n",
        "CONNECT :443 HTTP/1.1\r\n",
        "CONNECT h: HTTP/1.1\r\n",
        "1a3f\r\n",
    ] {
        assert_eq!(parse::request_line(text.as_bytes()), Line::No, "{text:?}");
    }
    assert_eq!(parse::request_line(&[b'x'; 300]), Line::No);
    assert_eq!(parse::request_line(&[b"word ", &[b'x'; 300][..]].concat()), Line::No);
}
