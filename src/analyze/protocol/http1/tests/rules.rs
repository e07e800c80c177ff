//! RFC 9110 and RFC 9112, on streams without holes.

use super::super::super::Piece;
use super::*;

const OK2: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn one_exchange() {
    let (request, response) = (
        "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello",
    );
    let mut talk = Talk::new();
    let exchanges = talk.say(Client, request).say(Server, response).exchanges();
    assert_eq!(
        row(&exchanges[0]),
        whole("GET /a?b=c", 200, request.len(), response.len())
    );
    let message = message(&exchanges[0]);
    assert_eq!((message.host.as_str(), message.version), ("example.org", 11));
    assert_eq!(message.content_type, "text/plain; charset=utf-8");
}

#[test]
fn pipelined_responses_answer_in_order() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n",
    );
    talk.say(
        Server,
        format!("{OK2}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    );
    assert_eq!(
        talk.rows(),
        [whole("GET /1", 200, 19, 40), whole("GET /2", 404, 19, 45)]
    );
    talk.say(Server, OK2);
    assert_eq!(talk.rows(), [whole("GET /3", 200, 19, 40)]);
}

#[test]
fn head_has_no_body_in_spite_of_content_length() {
    let mut talk = Talk::new();
    talk.say(Client, "HEAD / HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, OK2);
    assert_eq!(talk.rows(), [whole("HEAD /", 200, 19, 42), whole("GET /", 200, 18, 40)]);
}

#[test]
fn no_content_and_not_modified_have_no_body() {
    for status in [204, 304] {
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 99\r\n\r\n");
        let mut talk = Talk::new();
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, &response);
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, OK2);
        assert_eq!(
            talk.rows(),
            [whole("GET /", status, 18, response.len()), whole("GET /", 200, 18, 40)]
        );
    }
}

#[test]
fn connect_starts_a_tunnel() {
    let mut talk = Talk::new();
    talk.say(Client, "CONNECT db:443 HTTP/1.1\r\nHost: db:443\r\n\r\n");
    talk.say(
        Server,
        "HTTP/1.1 200 Connection established\r\nContent-Length: 7\r\n\r\n",
    );
    assert_eq!(talk.left, Some("CONNECT tunnel"));
    talk.say(Client, b"\x16\x03\x01\x02\x00")
        .say(Server, "HTTP/1.1 200 OK\r\n\r\n");
    let exchanges = talk.exchanges();
    assert_eq!(exchanges.len(), 1);
    let first = row(&exchanges[0]);
    assert_eq!((first.what.as_str(), first.response), ("CONNECT db:443", Some(58)));
    assert_eq!(message(&exchanges[0]).upgrade, "tunnel");
}

/// The order of the directions is only roughly right, and a client may be sure of its proxy.
#[test]
fn what_a_client_says_after_connect_waits_for_the_answer() {
    let (connect, get) = ("CONNECT db:80 HTTP/1.1\r\n\r\n", "GET /1 HTTP/1.1\r\n\r\n");
    for cut in 0..get.len() {
        let mut talk = Talk::new();
        talk.say(Client, [connect, &get[..cut]].concat())
            .say(Client, &get[cut..]);
        talk.say(Server, format!("HTTP/1.1 200 OK\r\n\r\n{OK2}"));
        assert_eq!(talk.left, Some("CONNECT tunnel"));
        assert_eq!(talk.rows(), [whole("CONNECT db:80", 200, connect.len(), 19)]);
        let mut rest = [Vec::new(), Vec::new()];
        for (from, item) in talk.pairing.take_rest() {
            if let Piece::Bytes(pos, bytes) = item {
                let said = &mut rest[from as usize];
                let start = [connect.len(), 19][from as usize];
                assert_eq!(pos as usize, start + said.len());
                said.extend(bytes);
            }
        }
        assert_eq!(rest, [get.as_bytes(), OK2.as_bytes()]);

        // Refused: it is the next request.
        let mut talk = Talk::new();
        talk.say(Client, [connect, &get[..cut]].concat())
            .say(Client, &get[cut..]);
        talk.say(Client, [connect, get].concat());
        let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        talk.say(Server, [refusal, OK2].concat())
            .say(Server, [refusal, OK2].concat());
        let (refused, got) = (
            whole("CONNECT db:80", 403, connect.len(), 45),
            whole("GET /1", 200, get.len(), 40),
        );
        assert_eq!(talk.rows(), [refused.clone(), got.clone(), refused, got]);
    }
}

#[test]
fn what_a_client_says_after_connect_is_read_where_no_answer_comes() {
    let said =
        "CONNECT db:80 HTTP/1.1\r\n\r\nGET /1 HTTP/1.1\r\n\r\nCONNECT db:81 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    let all = ["CONNECT db:80", "GET /1", "CONNECT db:81", "GET /2"];
    for end in 0..3 {
        let mut talk = Talk::new();
        talk.say(Client, said);
        match end {
            0 => {}
            1 => {
                talk.end(Client);
            }
            _ => {
                talk.finish();
            }
        }
        assert_eq!(talk.all().iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), all);
    }
    let mut talk = Talk::new();
    talk.say(Client, said);
    for _ in 0..300 {
        talk.say(
            Client,
            format!("POST /3 HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000)),
        );
    }
    assert!(talk.queue.len() > 200, "what is kept is bounded");
}

#[test]
fn refused_connect_is_an_ordinary_exchange() {
    let mut talk = Talk::new();
    talk.say(Client, "CONNECT db:443 HTTP/1.1\r\n\r\n");
    talk.say(
        Server,
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
    );
    talk.say(Client, "CONNECT db:443 HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\n\r\n");
    let rows = talk.rows();
    assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [407, 200]);
    assert_eq!(talk.left, Some("CONNECT tunnel"));
}

#[test]
fn interim_responses_do_not_consume_the_request() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "POST /up HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    talk.say(Server, "HTTP/1.1 100 Continue\r\n\r\n").say(Client, "abc");
    talk.say(Server, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    assert!(talk.rows().is_empty());
    let exchange = &talk.say(Server, OK2).exchanges()[0];
    assert_eq!(row(exchange), whole("POST /up", 200, 65, 40));
    assert_eq!(
        exchange.response.start,
        25 + 44,
        "the response begins with the final head"
    );
    assert_eq!(message(exchange).interim, 103);
}

#[test]
fn refused_expectation_needs_no_body() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "PUT /up HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 900\r\n\r\n",
    );
    talk.say(Server, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
    talk.say(Client, "GET /next HTTP/1.1\r\n\r\n").say(Server, OK2);
    assert_eq!(
        talk.rows(),
        [whole("PUT /up", 417, 63, 38), whole("GET /next", 200, 22, 40)]
    );
}

#[test]
fn refused_expectation_with_body_sent_all_the_same() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "PUT /up HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    talk.say(Server, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        .say(Client, "GETTO");
    talk.say(Client, "GET /next HTTP/1.1\r\n\r\n").say(Server, OK2);
    assert_eq!(
        talk.rows(),
        [whole("PUT /up", 417, 66, 38), whole("GET /next", 200, 22, 40)]
    );
}

#[test]
fn switching_protocols_ends_http() {
    for (upgrade, name) in [
        ("websocket", "WebSocket"),
        ("h2c", "HTTP/2"),
        ("TLS/1.2", "TLS"),
        ("tcp", "raw stream"),
        ("x", "upgraded protocol"),
    ] {
        let mut talk = Talk::new();
        talk.say(
            Client,
            format!("GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"),
        );
        talk.say(
            Server,
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\n\r\n\x01\x02"),
        );
        talk.say(Client, b"\x81\x85GET / HTTP/1.1\r\n\r\n");
        assert_eq!(talk.left, Some(name));
        let messages = talk.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].status, messages[0].upgrade.as_str()), (101, upgrade));
    }
}

#[test]
fn ignored_upgrade_stays_http() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    )
    .say(Server, OK2);
    talk.say(Client, "GET /2 HTTP/1.1\r\n\r\n").say(Server, OK2);
    assert_eq!((talk.rows().len(), talk.left), (2, None));
}

#[test]
fn http2_preface_is_not_ours() {
    let mut talk = Talk::new();
    talk.say(Client, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(talk.left, Some("HTTP/2"));
    assert!(talk.all().is_empty());
}

#[test]
fn transfer_encoding_wins_over_content_length() {
    let request = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut talk = Talk::new();
    talk.say(Client, request)
        .say(Server, OK2)
        .say(Client, "GET /2 HTTP/1.1\r\n\r\n")
        .say(Server, OK2);
    assert_eq!(
        talk.rows(),
        [whole("POST /", 200, request.len(), 40), whole("GET /2", 200, 19, 40)]
    );
}

#[test]
fn gzip_then_chunked_is_chunked() {
    for coding in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: Chunked",
        "transfer-encoding:gzip,\r\n chunked",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{coding}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        let mut talk = Talk::new();
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, &response);
        assert_eq!(talk.rows(), [whole("GET /", 200, 18, response.len())], "{coding}");
    }
}

/// Found by a user: the next two responses were taken for its body, and it was complete.
#[test]
fn a_transfer_encoding_that_names_no_coding_says_nothing() {
    for coding in [
        "Transfer-Encoding:",
        "Transfer-Encoding: ,",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: identity;q=1, ",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{coding}\r\nContent-Length: 2\r\n\r\nhi");
        let request = format!("POST /1 HTTP/1.1\r\nContent-Length: 2\r\n{coding}\r\n\r\nup");
        let mut talk = Talk::new();
        talk.say(Client, &request).say(Server, &response);
        talk.say(Client, "GET /2 HTTP/1.1\r\n\r\n").say(Server, OK2);
        assert_eq!(
            talk.rows(),
            [
                whole("POST /1", 200, request.len(), response.len()),
                whole("GET /2", 200, 19, 40)
            ],
            "{coding}"
        );
    }
    for coding in [
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{coding}\r\nContent-Length: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        let mut talk = Talk::new();
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, &response);
        assert_eq!(talk.rows(), [whole("GET /", 200, 18, response.len())], "{coding}");
    }
}

#[test]
fn response_coding_that_is_not_chunked_lasts_until_close() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\nContent-Length: 1\r\n\r\nabc";
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, response);
    assert!(talk.rows().is_empty());
    assert_eq!(talk.all(), [whole("GET /", 200, 18, response.len())]);
}

#[test]
fn request_coding_that_is_not_chunked_is_an_error() {
    let mut talk = Talk::new();
    talk.say(Client, "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc")
        .say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    let messages = talk.exchanges();
    assert_eq!(
        (messages[0].incomplete, message(&messages[0]).status),
        (Some(Incomplete::Malformed), 400)
    );
}

#[test]
fn chunk_extensions_and_trailers() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;name=\"v\"\r\nWiki\r\n0A ; x\r\n0123456789\r\n000\r\nExpires: never\r\nX: y\r\n\r\n";
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, response);
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, response.len())]);
}

#[test]
fn response_without_length_ends_with_the_connection() {
    let response = "HTTP/1.0 200 OK\r\n\r\nsome text\n";
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.0\r\n\r\n")
        .say(Server, response)
        .say(Server, "more");
    assert!(talk.rows().is_empty());
    talk.end(Server);
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, response.len() + 4)]);
}

#[test]
fn content_length_that_cannot_be_trusted_is_reported() {
    for (fields, problem) in [
        ("Content-Length: 5\r\nContent-Length: 6", "conflicting Content-Length"),
        ("Content-Length: 5, 6", "conflicting Content-Length"),
        ("Content-Length: -1", "negative Content-Length"),
        ("Content-Length: +1", "Content-Length is not a number"),
        ("Content-Length: 0x10", "Content-Length is not a number"),
        ("Content-Length:", "empty Content-Length"),
        ("Content-Length: 1125899906842625", "Content-Length beyond 1 PiB"),
        ("Content-Length: 18446744073709551615", "Content-Length beyond 1 PiB"),
        ("Content-Length: 18446744073709551616", "Content-Length beyond 1 PiB"),
    ] {
        let mut talk = Talk::new();
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n")
            .say(Server, format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nhello"));
        talk.end(Client).end(Server);
        let exchanges = talk.exchanges();
        assert_eq!(exchanges[0].incomplete, Some(Incomplete::Malformed), "{fields}");
        assert_eq!(message(&exchanges[0]).problem, problem);

        let mut talk = Talk::new();
        talk.say(Client, format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nhello"));
        talk.say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
        let exchanges = talk.exchanges();
        assert_eq!(
            (exchanges[0].incomplete, message(&exchanges[0]).problem),
            (Some(Incomplete::Malformed), problem)
        );
    }
}

#[test]
fn equal_content_lengths_count_as_one() {
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n");
    talk.say(
        Server,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2, 2\r\n\r\nhi",
    );
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, 62)]);
}

#[test]
fn the_largest_content_length_that_is_believed() {
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(
        Server,
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nhi", 1u64 << 50),
    );
    talk.lose(Server, 1 << 40, Missing::Unread);
    let rows = talk.all();
    assert_eq!(
        (rows[0].status, rows[0].incomplete, rows[0].response),
        (200, Some(Incomplete::ResponseCut), None)
    );
}

#[test]
fn a_length_that_nobody_can_send_swallows_no_message() {
    for fields in ["Content-Length: 18446744073709551615", "Transfer-Encoding: chunked"] {
        let body = if fields.ends_with("chunked") {
            "ffffffffffffffff\r\nab"
        } else {
            "ab"
        };
        let mut talk = Talk::new();
        talk.say(Client, format!("POST /1 HTTP/1.1\r\n{fields}\r\n\r\n{body}"))
            .say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
        talk.say(Client, "GET /2 HTTP/1.1\r\n\r\n").say(Server, OK2);
        let rows = talk.rows();
        assert_eq!(
            (rows[0].status, rows[0].incomplete),
            (400, Some(Incomplete::Malformed)),
            "{fields}"
        );
        assert_eq!(rows[1], whole("GET /2", 200, 19, 40), "{fields}");

        let mut talk = Talk::new();
        talk.say(Client, "GET /1 HTTP/1.1\r\n\r\n")
            .say(Server, format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}"));
        talk.say(Client, "GET /2 HTTP/1.1\r\n\r\n").say(Server, OK2);
        let rows = talk.rows();
        assert_eq!(
            (rows[0].status, rows[0].incomplete),
            (200, Some(Incomplete::Malformed)),
            "{fields}"
        );
        assert_eq!(rows[1], whole("GET /2", 200, 19, 40), "{fields}");
    }
}

#[test]
fn a_chunk_size_beyond_1_pib_is_an_error() {
    for size in ["10000000000000000", "ffffffffffffffff", "4000000000001"] {
        let mut talk = Talk::new();
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n");
        talk.say(
            Server,
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello"),
        );
        talk.end(Server);
        let exchanges = talk.exchanges();
        assert_eq!(message(&exchanges[0]).problem, "chunk size beyond 1 PiB", "{size}");
        assert_eq!(exchanges[0].incomplete, Some(Incomplete::Malformed), "{size}");
    }
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n");
    talk.say(
        Server,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000000000000\r\nhello",
    );
    assert_eq!(
        talk.all()[0].incomplete,
        Some(Incomplete::ResponseCut),
        "the largest size is only a promise"
    );
}

#[test]
fn chunk_that_is_longer_than_its_size_is_an_error() {
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n");
    talk.say(
        Server,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    );
    talk.say(Client, "GET /2 HTTP/1.1\r\n\r\n").say(Server, OK2);
    let rows = talk.rows();
    assert_eq!(rows[0].incomplete, Some(Incomplete::Malformed));
    assert_eq!(rows[1], whole("GET /2", 200, 19, 40));
}

#[test]
fn early_response_while_the_request_goes_on() {
    let mut talk = Talk::new();
    talk.say(Client, "POST /big HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345");
    talk.say(Server, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert!(talk.rows().is_empty(), "its request is not over");
    talk.say(Client, "67890")
        .say(Client, "GET /2 HTTP/1.1\r\n\r\n")
        .say(Server, OK2);
    assert_eq!(
        talk.rows(),
        [whole("POST /big", 413, 52, 45), whole("GET /2", 200, 19, 40)]
    );
}

#[test]
fn early_response_and_the_client_gives_up() {
    let mut talk = Talk::new();
    talk.say(Client, "POST /big HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345");
    talk.say(Server, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(talk.all(), [whole("POST /big", 401, 47, 38)]);
}

#[test]
fn empty_lines_before_the_request_line() {
    let mut talk = Talk::new();
    talk.say(Client, "\r\n\r\nGET / HTTP/1.1\r\n\r\n").say(Server, OK2);
    let exchange = &talk.exchanges()[0];
    assert_eq!(
        (row(exchange), exchange.request.start),
        (whole("GET /", 200, 18, 40), 4)
    );
}

#[test]
fn bare_lf_ends_a_line() {
    let mut talk = Talk::new();
    talk.say(Client, "POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx");
    talk.say(Server, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n");
    assert_eq!(talk.rows(), [whole("POST /", 200, 44, 51)]);
}

#[test]
fn folded_field_lines() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "GET / HTTP/1.1\r\nX-Long: a\r\n\tContent-Length: 77\r\nHost: h\r\n\r\n",
    );
    talk.say(
        Server,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html;\r\n charset=x\r\nContent-Length: 2\r\n\r\nhi",
    );
    let exchange = &talk.exchanges()[0];
    assert_eq!((row(exchange).incomplete, message(exchange).host.as_str()), (None, "h"));
    assert_eq!(message(exchange).content_type, "text/html;");
}

#[test]
fn space_before_the_colon() {
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi");
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, 41)]);
}

#[test]
fn absolute_form_names_the_host() {
    let mut talk = Talk::new();
    talk.say(
        Client,
        "GET http://shop.example:8080/cart?id=1 HTTP/1.1\r\nHost: proxy\r\n\r\n",
    )
    .say(Server, OK2);
    let message = &talk.messages()[0];
    assert_eq!(
        (message.host.as_str(), message.target.as_str()),
        ("shop.example:8080", "http://shop.example:8080/cart?id=1")
    );
}

#[test]
fn asterisk_form() {
    let mut talk = Talk::new();
    talk.say(Client, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        .say(Server, OK2);
    assert_eq!(talk.rows(), [whole("OPTIONS *", 200, 31, 40)]);
}

#[test]
fn target_that_is_not_ascii() {
    let mut talk = Talk::new();
    talk.say(Client, b"GET /\xd0\xb6 HTTP/1.1\r\n\r\n")
        .say(Server, OK2)
        .say(Client, b"GET /\xff HTTP/1.1\r\n\r\n")
        .say(Server, OK2);
    assert_eq!(
        talk.rows().iter().map(|r| r.what.clone()).collect::<Vec<_>>(),
        ["GET /\u{436}", "GET /\u{fffd}"]
    );
}

#[test]
fn http_0_9() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /old\r\n")
        .say(Server, "<html>")
        .say(Server, "</html>");
    talk.end(Server);
    let exchange = &talk.exchanges()[0];
    assert_eq!(
        (row(exchange), message(exchange).version),
        (whole("GET /old", 0, 10, 13), 9)
    );
}

#[test]
fn http_0_9_is_believed_only_as_the_first_request() {
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n")
        .say(Server, OK2)
        .say(Client, "GET /old\r\n")
        .say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    let rows = talk.rows();
    assert_eq!((rows[1].status, rows[1].incomplete), (400, Some(Incomplete::Malformed)));
}

#[test]
fn malformed_request_line_is_answered() {
    for line in ["GET  HTTP/1.1", "GET /old-again", "GET / HTTP/3.0"] {
        let mut talk = Talk::new();
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, OK2);
        talk.say(Client, format!("{line}\r\nHost: x\r\n\r\n"))
            .say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
        talk.say(Client, "GET /ok HTTP/1.1\r\n\r\n").say(Server, OK2);
        let rows = talk.rows();
        assert_eq!(
            (rows[1].status, rows[1].incomplete),
            (400, Some(Incomplete::Malformed)),
            "{line}"
        );
        assert_eq!(rows[2], whole("GET /ok", 200, 20, 40));
    }
}

/// Servers answer 200 to targets that clients failed to encode: what breaks the rules is told beside the times.
#[test]
fn what_breaks_the_rules_in_a_request_line_is_a_remark_and_ends_no_measurement() {
    let remark = "space or control character in the request target";
    for (line, target, problem) in [
        ("GET /a b HTTP/1.1", "/a b", remark),
        ("GET /a b/c  d HTTP/1.0", "/a b/c  d", remark),
        ("GET /tab\there HTTP/1.1", "/tab\there", remark),
        ("GET /\x1b[31mred\0 HTTP/1.1", "/\x1b[31mred\0", remark),
        ("GET  /x  HTTP/1.1", "/x", ""),
        ("GET /x HTTP/1.1 ", "/x", ""),
        ("GET /x HTTP/1.1\r", "/x", ""),
        ("GET /a b HTTP/1.1 \t", "/a b", remark),
    ] {
        let request = format!("{line}\r\nHost: h\r\nContent-Length: 2\r\n\r\nup");
        for cut in 0..request.len() {
            let mut talk = Talk::new();
            talk.say(Client, &request[..cut])
                .say(Client, &request[cut..])
                .say(Server, OK2);
            talk.say(Client, "GET /next HTTP/1.1\r\n\r\n").say(Server, OK2);
            let exchanges = talk.exchanges();
            let what = format!("GET {target}");
            assert_eq!(
                row(&exchanges[0]),
                whole(&what, 200, request.len(), 40),
                "{line:?} at {cut}"
            );
            let message = message(&exchanges[0]);
            assert_eq!(
                (message.host.as_str(), message.problem),
                ("h", problem),
                "{line:?} at {cut}"
            );
            assert_eq!(row(&exchanges[1]), whole("GET /next", 200, 22, 40), "{line:?} at {cut}");
        }
    }
}

#[test]
fn what_keeps_a_request_from_being_measured_says_more_than_a_remark() {
    let mut talk = Talk::new();
    talk.say(Client, "POST /a b HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
        .say(Server, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    let exchanges = talk.exchanges();
    assert_eq!(exchanges[0].incomplete, Some(Incomplete::Malformed));
    assert_eq!(message(&exchanges[0]).problem, "negative Content-Length");
}

#[test]
fn endless_head_is_bounded() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /big HTTP/1.1\r\n");
    for _ in 0..5000 {
        talk.say(Client, "X-Field: 0123456789012345678901234567890123456789\r\n");
    }
    talk.say(Server, "HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n");
    let exchanges = talk.exchanges();
    assert_eq!(
        (row(&exchanges[0]).what.as_str(), exchanges[0].incomplete),
        ("GET /big", Some(Incomplete::Truncated))
    );
    assert_eq!(message(&exchanges[0]).problem, "head longer than 64 KiB");

    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n")
        .say(Server, format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(200_000)));
    talk.end(Server);
    assert_eq!(talk.messages()[0].problem, "head longer than 64 KiB");
}

#[test]
fn response_that_comes_before_its_request_was_read() {
    let mut talk = Talk::new();
    talk.say(Server, "HTTP/1.1 200 OK\r\nContent-")
        .say(Server, "Length: 2\r\n\r\nh")
        .say(Server, "i");
    assert!(talk.rows().is_empty());
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, 40)]);
}

#[test]
fn held_responses_go_to_their_requests_in_order() {
    let mut talk = Talk::new();
    talk.say(Server, OK2)
        .say(Server, "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
        .say(Server, OK2)
        .end(Server);
    talk.say(Client, "GET /1 HTTP/1.1\r\n\r\n")
        .say(Client, "GET /2 HTTP/1.1\r\n\r\n")
        .say(Client, "HEAD /3 HTTP/1.1\r\n\r\n");
    talk.settle();
    let rows = talk.rows();
    assert_eq!(
        rows.iter().map(|r| (r.what.as_str(), r.status)).collect::<Vec<_>>(),
        [("GET /1", 200), ("GET /2", 304), ("HEAD /3", 200)]
    );
    assert_eq!(rows[2].incomplete, None);
}

#[test]
fn settle_gives_a_response_without_request_its_own_row() {
    let mut talk = Talk::new();
    talk.say(Server, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    assert!(talk.rows().is_empty());
    let rows = talk.settle().rows();
    assert_eq!(
        (rows[0].what.as_str(), rows[0].status, rows[0].incomplete),
        (" ", 408, Some(Incomplete::NoRequest))
    );
    talk.say(Client, "GET / HTTP/1.1\r\n\r\n").say(Server, OK2);
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, 40)]);
}

/// nginx, Apache and Node answer 400 or 408 to a head that does not go on.
#[test]
fn a_head_answered_before_its_end_is_the_request() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /slow HTTP/1.1\r\nHost: a\r\nX-Fi")
        .say(
            Server,
            "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .settle();
    let rows = talk.all();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (rows[0].what.as_str(), rows[0].status, rows[0].incomplete),
        ("GET /slow", 408, Some(Incomplete::Malformed))
    );
}

/// A WebSocket frame to a server that refused to switch: nothing was lost, and the reason says so.
#[test]
fn an_answer_to_bytes_that_are_no_request_is_not_blamed_on_a_gap() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .say(Server, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        .say(Client, b"\x81\x85\x01\x02\x03\x04\x49\x67\x6f\x68\x6e")
        .say(Server, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let rows = talk.all();
    assert_eq!((rows[0].status, rows[0].incomplete), (404, None));
    assert_eq!((rows[1].status, rows[1].incomplete), (400, Some(Incomplete::Malformed)));
}

#[test]
fn what_is_held_is_bounded() {
    let mut talk = Talk::new();
    talk.say(Server, "HTTP/1.1 200 OK\r\n\r\n");
    for _ in 0..2000 {
        talk.say(Server, [b'x'; 1000]);
    }
    let rows = talk.all();
    assert_eq!((rows[0].status, rows[0].incomplete), (200, Some(Incomplete::NoRequest)));
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut talk = Talk::new();
    for _ in 0..5000 {
        talk.say(Client, "GET / HTTP/1.1\r\n\r\n");
    }
    let rows = talk.rows();
    assert_eq!(rows.len(), 5000 - 4096);
    assert!(rows.iter().all(|row| row.incomplete == Some(Incomplete::TooMany)));
}

#[test]
fn connection_that_ends_early() {
    let mut talk = Talk::new();
    talk.say(Client, "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhi");
    let rows = talk.all();
    assert_eq!(
        (rows[0].status, rows[0].incomplete),
        (200, Some(Incomplete::ResponseCut))
    );
    assert_eq!((rows[1].status, rows[1].incomplete), (0, Some(Incomplete::NoResponse)));

    let mut talk = Talk::new();
    talk.say(Client, "GET /1 HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\nConte");
    let rows = talk.all();
    assert_eq!(
        (rows[0].status, rows[0].incomplete),
        (200, Some(Incomplete::ResponseCut))
    );
}

#[test]
fn half_closed_client_is_still_answered() {
    let mut talk = Talk::new();
    talk.say(Client, "GET / HTTP/1.0\r\n\r\n").end(Client).say(Server, OK2);
    assert_eq!(talk.rows(), [whole("GET /", 200, 18, 40)]);
}

#[test]
fn extra_body_after_a_head_response_does_not_shift_pairs() {
    let mut talk = Talk::new();
    talk.say(Client, "HEAD / HTTP/1.1\r\n\r\n")
        .say(Server, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        .say(Server, "oops!\n");
    talk.say(Client, "GET /2 HTTP/1.1\r\n\r\n").say(Server, OK2);
    assert_eq!(
        talk.rows(),
        [whole("HEAD /", 200, 19, 38), whole("GET /2", 200, 19, 40)]
    );
    assert_eq!(talk.pairing.skipped(), 6);
}

/// Heads of responses that last until the connection ends, though their servers keep it.
const UNTIL_CLOSE: [&str; 5] = [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
];
const ASK: &str = "GET / HTTP/1.1\r\n\r\n";
const FOUND: &str = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi";
const SENT: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// The row of a response without a length that did not end with the connection.
fn not_until_close(exchange: &Exchange) {
    assert_eq!(exchange.incomplete, Some(Incomplete::Malformed));
    assert!(!exchange.response.ended, "{exchange:?}");
    assert_eq!(
        message(exchange).problem,
        "response without a length did not end with the connection"
    );
}

#[test]
fn a_response_without_a_length_swallows_no_later_response() {
    for head in UNTIL_CLOSE {
        for body in ["hello", "", "hello\r\n", "<p>HTTP/1.1 is quoted"] {
            for cut in 0..FOUND.len() {
                let mut talk = Talk::new();
                talk.say(Client, ASK).say(Server, head).say(Server, body);
                talk.say(Client, ASK)
                    .say(Server, &FOUND[..cut])
                    .say(Server, &FOUND[cut..]);
                talk.say(Client, ASK).say(Server, SENT);
                let exchanges = talk.all_exchanges();
                let context = format!("{head} {body} {cut}");
                not_until_close(&exchanges[0]);
                assert_eq!(message(&exchanges[0]).status, 200, "{context}");
                let rows: Vec<Row> = exchanges.iter().skip(1).map(row).collect();
                let wanted = [
                    whole("GET /", 201, ASK.len(), FOUND.len()),
                    whole("GET /", 202, ASK.len(), SENT.len()),
                ];
                assert_eq!(rows, wanted, "{context}");
            }
        }
    }
}

/// Each response but the last turns out not to have lasted until the end.
#[test]
fn responses_without_a_length_end_where_the_next_one_begins() {
    let response = "HTTP/1.0 200 OK\r\n\r\nsome text";
    let mut talk = Talk::new();
    for _ in 0..3 {
        talk.say(Client, ASK).say(Server, response);
    }
    let exchanges = talk.all_exchanges();
    assert_eq!(exchanges.len(), 3);
    exchanges[..2].iter().for_each(not_until_close);
    assert_eq!(row(&exchanges[2]), whole("GET /", 200, ASK.len(), response.len()));
}

#[test]
fn a_body_until_close_may_quote_http_where_no_request_waits() {
    for head in UNTIL_CLOSE {
        let response = format!("{head}{FOUND}");
        let mut talk = Talk::new();
        talk.say(Client, ASK).say(Server, &response).say(Server, FOUND);
        let len = response.len() + FOUND.len();
        assert_eq!(talk.all(), [whole("GET /", 200, ASK.len(), len)], "{head}");
    }
}

/// The client asks again while the server closes: what came until then is the response.
#[test]
fn a_request_that_meets_the_close_leaves_the_response_before_whole() {
    for head in UNTIL_CLOSE {
        let mut talk = Talk::new();
        talk.say(Client, ASK)
            .say(Server, head)
            .say(Client, ASK)
            .say(Server, "HTTP is quoted HTTP/1.");
        let rows = talk.all();
        assert_eq!(rows[0], whole("GET /", 200, ASK.len(), head.len() + 22), "{head}");
        assert_eq!(
            (rows.len(), rows[1].incomplete),
            (2, Some(Incomplete::NoResponse)),
            "{head}"
        );
    }
}

/// Which of the requests sent without waiting are answered in a body that may quote HTTP cannot be said.
#[test]
fn what_may_be_quoted_while_requests_wait_makes_no_row_complete() {
    for head in UNTIL_CLOSE {
        let mut talk = Talk::new();
        talk.say(Client, ASK.repeat(3))
            .say(Server, format!("{head}hello{FOUND}{SENT}"));
        let exchanges = talk.all_exchanges();
        not_until_close(&exchanges[0]);
        let rows: Vec<_> = exchanges
            .iter()
            .map(row)
            .map(|row| (row.status, row.incomplete))
            .collect();
        let malformed = Some(Incomplete::Malformed);
        let want = [200, 0, 0, 201, 202].map(|status| (status, malformed));
        assert_eq!(rows, want, "requests, and responses that may be theirs: {head}");
        // The others were told of after their responses.
        let mut talk = Talk::new();
        talk.say(Client, ASK)
            .say(Server, format!("{head}hello"))
            .say(Server, FOUND)
            .say(Client, ASK);
        let exchanges = talk.all_exchanges();
        assert_eq!(exchanges[0].incomplete, malformed, "{head}");
        assert_eq!(exchanges[1].incomplete, Some(Incomplete::NoResponse), "{head}");
    }
}

/// What was kept as the beginning of a head is a part of the body once bytes behind it are lost.
#[test]
fn a_hole_in_a_body_until_close_joins_no_two_parts_of_a_head() {
    let head = UNTIL_CLOSE[3];
    let mut talk = Talk::new();
    talk.say(Client, ASK).say(Server, head).say(Client, ASK);
    talk.say(Server, &FOUND[..20])
        .lose(Server, 5, Missing::Lost)
        .say(Server, &FOUND[20..]);
    let rows = talk.all();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row.status != 201), "{rows:?}");
}

/// The client sends the body that `Expect: 100-continue` announced although it was refused, and the next request right behind it.
#[test]
fn a_refused_body_is_no_part_of_the_next_method() {
    let head = "POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let refused = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
    let next = "GET /2 HTTP/1.1\r\n\r\n";
    let sent = ["hello", next].concat();
    for cut in 0..sent.len() {
        let mut talk = Talk::new();
        talk.say(Client, head).say(Server, refused);
        talk.say(Client, &sent[..cut])
            .say(Client, &sent[cut..])
            .say(Server, OK2);
        assert_eq!(
            talk.all(),
            [
                whole("POST /p", 413, head.len() + 5, refused.len()),
                whole("GET /2", 200, next.len(), OK2.len())
            ],
            "{cut}"
        );
    }
}
