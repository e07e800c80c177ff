//! Which protocol a connection speaks, from its first bytes; never from its port alone.
//!
//! Pure functions over the beginnings of both directions. HTTP and MySQL are what the analyzer reads; the others are
//! recognised to say why a connection yields no exchanges, and only where a few bytes make sure.

use super::http::parse;
use super::mysql;

/// What the first bytes of a connection look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    Http,
    Mysql,
    /// Something else, by its name; see [`word`] and [`reason`].
    Other(&'static str),
    /// Too few bytes to tell.
    More,
}

/// What is known by name only: its name, the word in the `protocol` column, and why there are no exchanges.
const NAMED: [(&str, &str, &str); 11] = [
    ("TLS", "tls", "encrypted (TLS)"),
    ("HTTP/2", "http2", "no parser for HTTP/2"),
    ("SSH", "ssh", "encrypted (SSH)"),
    ("AMQP", "amqp", "no parser for AMQP"),
    ("PostgreSQL", "postgresql", "no parser for PostgreSQL"),
    ("Redis", "redis", "no parser for Redis"),
    ("MongoDB", "mongodb", "no parser for MongoDB"),
    ("MQTT", "mqtt", "no parser for MQTT"),
    ("SMTP", "smtp", "no parser for SMTP"),
    ("NATS", "nats", "no parser for NATS"),
    ("MySQL replication", "", "no parser for MySQL replication"),
];

/// The word in the `protocol` column for what a connection was recognised as, or went over to; empty for the unknown.
pub fn word(name: &str) -> &'static str {
    NAMED
        .iter()
        .find(|(known, ..)| *known == name)
        .map_or("", |named| named.1)
}

/// What the `why` column says of a connection that was recognised as this, or went over to it. Other reasons are words
/// already.
pub fn reason(name: &'static str) -> &'static str {
    NAMED
        .iter()
        .find(|(known, ..)| *known == name)
        .map_or(name, |named| named.2)
}

/// Whether a server's first bytes are a response of HTTP: the answer to a request that was none.
pub fn is_response(server: &[u8]) -> bool {
    of_server(server, false) == Guess::Http
}

/// A name, and whether bytes begin like it; `None` when they are too few to tell.
type Rule = (&'static str, fn(&[u8]) -> Option<bool>);

const UNKNOWN: &str = "unknown protocol";

/// With so many bytes of one side every rule below can decide (start lines apart, which may be longer).
const ENOUGH: usize = 32;

/// Tells the protocol from the first bytes that each side sent; either may be empty. `joined` says that these are not
/// the first bytes of the connection.
pub fn guess(client: &[u8], server: &[u8], joined: bool) -> Guess {
    let request = of_client(client, joined);
    if matches!(request, Guess::Http | Guess::Mysql | Guess::Other(_)) && request != Guess::Other(UNKNOWN) {
        return request;
    }
    let response = of_server(server, joined);
    match (request, response) {
        (_, Guess::Http | Guess::Mysql) => response,
        (_, Guess::Other(name)) if name != UNKNOWN => response,
        // One side may be silent for long, or be the one that was not understood.
        (Guess::Other(_), _) if !client.is_empty() && (server.is_empty() || response != Guess::More) => request,
        (_, Guess::Other(_)) if client.is_empty() => response,
        (Guess::Other(_), Guess::Other(_)) => response,
        _ => Guess::More,
    }
}

fn of_client(bytes: &[u8], joined: bool) -> Guess {
    if bytes.is_empty() {
        return Guess::More;
    }
    // RFC 9112, 2.2: empty lines before the request line.
    let text = bytes.trim_ascii_start();
    if text.len() < bytes.len()
        && !bytes[..bytes.len() - text.len()]
            .iter()
            .all(|b| matches!(b, b'\r' | b'\n'))
    {
        // White space of another kind: no request.
    } else if let Some(guess) = request(text, joined) {
        return guess;
    }
    if !joined && mysql::looks_like_login(bytes) {
        return Guess::Mysql;
    }
    // In a connection seen from its start the server speaks first, and the client's first packet is no command.
    if joined && mysql::looks_like_command(bytes) {
        return Guess::Mysql;
    }
    // Some servers read the four bytes of a packet header alone (sequence id 0: a command follows).
    if joined && matches!(bytes, [_, _, _, 0]) {
        return Guess::More;
    }
    let known: [Rule; 8] = [
        ("TLS", tls),
        ("SSH", |bytes| prefix(bytes, b"SSH-")),
        ("AMQP", |bytes| prefix(bytes, b"AMQP")),
        ("PostgreSQL", postgres_startup),
        ("Redis", redis_command),
        ("MongoDB", mongodb),
        ("MQTT", mqtt_connect),
        ("SMTP", |bytes| either(prefix(bytes, b"EHLO "), prefix(bytes, b"HELO "))),
    ];
    first_of(bytes, &known)
}

fn of_server(bytes: &[u8], joined: bool) -> Guess {
    if bytes.is_empty() {
        return Guess::More;
    }
    match parse::response(bytes) {
        parse::Parsed::Whole(..) => return Guess::Http,
        // A status line is enough; the rest of the head may be cut by the snaplen.
        parse::Parsed::Partial if bytes.len() >= 13 => return Guess::Http,
        parse::Parsed::Partial => return Guess::More,
        parse::Parsed::Wrong(_) => {}
    }
    // Of all that a server sends, only the greeting has sequence id 0.
    if mysql::looks_like_greeting(bytes) {
        return Guess::Mysql;
    }
    // A packet header of MySQL that was written alone.
    if !joined && bytes.len() < 5 && bytes.get(2..).is_none_or(|rest| rest.iter().all(|b| *b == 0)) {
        return Guess::More;
    }
    let known: [Rule; 4] = [
        ("TLS", tls),
        ("SSH", |bytes| prefix(bytes, b"SSH-")),
        ("NATS", |bytes| prefix(bytes, b"INFO {")),
        ("MongoDB", mongodb),
    ];
    first_of(bytes, &known)
}

/// `None`: no request of HTTP, in any version.
fn request(text: &[u8], joined: bool) -> Option<Guess> {
    match parse::request(text) {
        // HTTP/0.9 is a guess that only the very first bytes of a connection allow.
        parse::Parsed::Whole(head, _) if head.version == 9 && joined => None,
        parse::Parsed::Whole(..) => Some(Guess::Http),
        parse::Parsed::Wrong(parse::Wrong::Http2) => Some(Guess::Other("HTTP/2")),
        // A whole line with a known method that breaks the rules: HTTP all the same, and reported as malformed.
        parse::Parsed::Wrong(parse::Wrong::Line(_)) if parse::may_begin_request(text) => {
            let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
            memchr::memmem::find(line, b" HTTP/").map(|_| Guess::Http)
        }
        parse::Parsed::Wrong(_) => None,
        parse::Parsed::Partial if text.is_empty() => Some(Guess::More),
        parse::Parsed::Partial => match text.iter().position(|b| *b == b' ') {
            // The target, or the fields after it, are longer than what is there.
            Some(_) if parse::may_begin_request(text) => match memchr::memchr(b'\n', text) {
                Some(_) => Some(Guess::Http),
                None if text.len() >= 1024 => Some(Guess::Http),
                None => Some(Guess::More),
            },
            // A method of one's own: wait for the line, if it is text.
            Some(_) if memchr::memchr(b'\n', text).is_some() => Some(Guess::Http),
            _ if text.len() < ENOUGH && text.iter().all(u8::is_ascii_graphic) && parse::may_begin_request(text) => {
                Some(Guess::More)
            }
            _ => None,
        },
    }
}

/// The first rule that says yes; `More` when one may still.
fn first_of(bytes: &[u8], known: &[Rule]) -> Guess {
    let mut undecided = false;
    for (name, rule) in known {
        match rule(bytes) {
            Some(true) => return Guess::Other(name),
            Some(false) => {}
            None => undecided = true,
        }
    }
    if undecided && bytes.len() < ENOUGH {
        Guess::More
    } else {
        Guess::Other(UNKNOWN)
    }
}

fn either(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// Whether `bytes` begins with `start`; `None` when it is too short and agrees so far.
fn prefix(bytes: &[u8], start: &[u8]) -> Option<bool> {
    let n = bytes.len().min(start.len());
    match bytes[..n] == start[..n] {
        false => Some(false),
        true => (n == start.len()).then_some(true),
    }
}

/// A TLS record (RFC 8446, 5.1): content type 20 to 23, version 3.0 to 3.4, length up to 2^14 + 2048; a handshake
/// record begins with a message of a known type.
fn tls(bytes: &[u8]) -> Option<bool> {
    let plausible = bytes.iter().take(3).enumerate().all(|(at, byte)| match at {
        0 => (20..=23).contains(byte),
        1 => *byte == 3,
        _ => *byte <= 4,
    });
    match bytes {
        _ if !plausible => Some(false),
        [kind, _, _, high, low, first, ..] => {
            let len = u16::from_be_bytes([*high, *low]);
            let message = *kind != 22 || matches!(first, 1 | 2 | 4 | 11 | 12 | 14 | 16 | 20);
            Some(len > 0 && len <= (1 << 14) + 2048 && message)
        }
        _ => None,
    }
}

/// StartupMessage, SSLRequest, GSSENCRequest, CancelRequest of the PostgreSQL protocol 3.
fn postgres_startup(bytes: &[u8]) -> Option<bool> {
    if bytes.iter().take(2).any(|b| *b != 0) {
        return Some(false);
    }
    let [0, 0, len @ .., a, b, c, d] = bytes.get(..8)? else {
        return Some(false);
    };
    let len = len.iter().fold(0u16, |n, b| n << 8 | u16::from(*b));
    let code = u32::from_be_bytes([*a, *b, *c, *d]);
    Some(len >= 8 && matches!(code, 0x0003_0000 | 0x0003_0002 | 80_877_102 | 80_877_103 | 80_877_104))
}

/// An array of bulk strings, as every Redis client sends it: `*2\r\n$3\r\n`.
fn redis_command(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes;
    for mark in [b'*', b'$'] {
        match rest.split_first() {
            None => return None,
            Some((first, more)) if *first == mark => rest = more,
            Some(_) => return Some(false),
        }
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 9 {
            return Some(false);
        }
        match (digits, &rest[digits..]) {
            (0, []) | (_, [] | [b'\r']) => return None,
            (1.., [b'\r', b'\n', more @ ..]) => rest = more,
            _ => return Some(false),
        }
    }
    Some(true)
}

/// A MongoDB message header with OP_MSG, OP_QUERY, OP_REPLY or OP_COMPRESSED, and a length that fits it.
fn mongodb(bytes: &[u8]) -> Option<bool> {
    let Some([a, b, c, d, .., e, f, g, h]) = bytes.get(..16) else {
        // The highest byte of a length below 48 MB.
        return if bytes.get(3).is_some_and(|high| *high > 2) {
            Some(false)
        } else {
            None
        };
    };
    let len = u32::from_le_bytes([*a, *b, *c, *d]);
    let code = u32::from_le_bytes([*e, *f, *g, *h]);
    Some((16..=48_000_000).contains(&len) && matches!(code, 1 | 2004 | 2012 | 2013))
}

/// CONNECT of MQTT 3.1, 3.1.1 and 5.
fn mqtt_connect(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0x10, rest @ ..] => {
            let sizes = rest.iter().take_while(|b| **b & 0x80 != 0).count() + 1;
            match rest.get(sizes..) {
                _ if sizes > 4 => Some(false),
                Some(name) => either(prefix(name, b"\x00\x04MQTT"), prefix(name, b"\x00\x06MQIsdp")),
                None => None,
            }
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(bytes: impl AsRef<[u8]>) -> Guess {
        guess(bytes.as_ref(), b"", false)
    }

    fn server(bytes: impl AsRef<[u8]>) -> Guess {
        guess(b"", bytes.as_ref(), false)
    }

    #[test]
    fn what_is_known_by_name_has_a_reason_that_says_so() {
        for (name, word, said) in NAMED {
            assert!(said.len() > name.len() && said.contains(name), "{said}");
            assert_eq!((super::word(name), reason(name)), (word, said));
        }
        assert_eq!((super::word(UNKNOWN), reason(UNKNOWN)), ("", UNKNOWN));
    }

    #[test]
    fn http_from_the_client() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nPOST /x HTTP/1.0\r\nA",
            "BREW /pot HTTP/1.1\r\n",
            "GET /old\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET / HTTP/3.0\r\n",
        ] {
            assert_eq!(client(text), Guess::Http, "{text:?}");
        }
        assert_eq!(
            client(format!("GET /{}", "x".repeat(2000))),
            Guess::Http,
            "a target longer than the snaplen"
        );
        assert_eq!(guess(b"GET /old\r\n", b"", true), Guess::Other(UNKNOWN));
    }

    #[test]
    fn http_from_the_server() {
        assert_eq!(server("HTTP/1.1 200 OK\r\nServer"), Guess::Http);
        assert_eq!(server("HTTP/1.0 4"), Guess::More);
        assert_eq!(guess(b"end of a body", b"HTTP/1.1 200 OK\r\n", true), Guess::Http);
    }

    /// Only one direction was captured.
    #[test]
    fn mysql_from_its_login_packet() {
        let mut login = b"\x4a\0\0\x01\x85\xa6\xff\x01\0\0\0\x01\x2d".to_vec();
        login.extend_from_slice(&[0; 23]);
        login.extend_from_slice(b"root\0\0mysql_native_password\0");
        assert_eq!(client(&login), Guess::Mysql);
        login[20] = 1;
        assert_eq!(client(&login), Guess::Other(UNKNOWN));
    }

    #[test]
    fn http2_is_named() {
        assert_eq!(client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Guess::Other("HTTP/2"));
    }

    #[test]
    fn others_are_named() {
        for (bytes, name) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "TLS"),
            (b"\x17\x03\x03\x00\x45\x93\x11", "TLS"),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"),
            (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "Redis"),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "PostgreSQL"),
            (b"\x00\x00\x00\x29\x00\x03\x00\x00user\x00postgres\x00", "PostgreSQL"),
            (b"AMQP\x00\x00\x09\x01", "AMQP"),
            (b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test", "MQTT"),
            (
                b"\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00",
                "MongoDB",
            ),
            (b"EHLO mail.example.org\r\n", "SMTP"),
        ] {
            assert_eq!(client(bytes), Guess::Other(name), "{bytes:?}");
        }
        assert_eq!(server(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Guess::Other("SSH"));
        assert_eq!(server(b"INFO {\"server_id\":\"x\"}"), Guess::Other("NATS"));
        assert_eq!(server(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76"), Guess::Other("TLS"));
    }

    #[test]
    fn noise_is_unknown() {
        for bytes in [&b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"[..], b"hello world, how do you do today, my friend?\n", b"user=admin&password=x&button=send&remember=1"] {
            assert_eq!(client(bytes), Guess::Other(UNKNOWN), "{bytes:?}");
            assert_eq!(server(bytes), Guess::Other(UNKNOWN), "{bytes:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_request_is_undecided_or_right() {
        for text in [
            "GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nDELETE /x HTTP/1.1\r\n\r\n",
        ] {
            for cut in 0..text.len() {
                let guess = client(&text[..cut]);
                assert!(
                    matches!(guess, Guess::More | Guess::Http),
                    "{:?}: {guess:?}",
                    &text[..cut]
                );
            }
        }
        for bytes in [
            &b"*2\r\n$3\r\nGET\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"SSH-2.0-x\r\n",
            b"AMQP\x00\x00\x09\x01",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        ] {
            for cut in 0..bytes.len() {
                assert_ne!(client(&bytes[..cut]), Guess::Other(UNKNOWN), "{:?}", &bytes[..cut]);
            }
        }
    }

    #[test]
    fn two_silent_sides_say_nothing() {
        assert_eq!(guess(b"", b"", false), Guess::More);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(client: Vec<u8>, server: Vec<u8>, joined: bool) {
            guess(&client, &server, joined);
        }
    }
}
