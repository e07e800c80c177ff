//! Which protocol a connection speaks, from its first bytes; never from its port alone.
//!
//! The protocols that are read are asked in the order of the registry; the others are recognised to say why a connection
//! yields no exchanges.

use super::recognise::{self, Named};
use super::{AnyProtocol, Detected, PROTOCOLS, Sent};

pub use super::recognise::{reason, word};

/// What the first bytes of a connection look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// A protocol that is read.
    Read(&'static dyn AnyProtocol),
    /// Something else, by its name; see [`word`] and [`reason`].
    Other(&'static str),
    /// Too few bytes to tell.
    More,
    /// Nothing that is known.
    Unknown,
}

impl Guess {
    /// It will not change with more bytes.
    pub fn is_sure(self) -> bool {
        matches!(self, Guess::Read(_) | Guess::Other(_))
    }
}

/// Tells the protocol from what each side sent; either may be silent so far, and of either it may be known already that it
/// says nothing (`None`). `joined` says that these are not the first bytes of the connection.
pub fn guess(client: Option<Sent<'_>>, server: Option<Sent<'_>>, joined: bool) -> Guess {
    let request = client.map_or(Guess::Unknown, |sent| {
        of_end(sent, |protocol| protocol.of_client(sent, joined), recognise::of_client)
    });
    if request.is_sure() {
        return request;
    }
    let response = server.map_or(Guess::Unknown, |sent| {
        of_end(sent, |protocol| protocol.of_server(sent, joined), recognise::of_server)
    });
    if response.is_sure() {
        return response;
    }
    if let Some(client) = client.filter(|client| client.len > 0)
        && let Some(guess) = first(|protocol| protocol.of_both(client, server.unwrap_or_default(), joined))
    {
        return guess;
    }
    let is_silent = |sent: Option<Sent<'_>>| sent.is_none_or(|sent| sent.len == 0);
    match (request, response) {
        // What is said after this belongs to something else.
        (Guess::Unknown, Guess::Unknown) => Guess::Unknown,
        (Guess::Unknown, _) if is_silent(server) => Guess::Unknown,
        (_, Guess::Unknown) if is_silent(client) => Guess::Unknown,
        _ => Guess::More,
    }
}

/// Whether the answer may still show that what a client sent is of a protocol that is read.
pub fn may_be_answered(client: Sent<'_>) -> bool {
    PROTOCOLS.iter().any(|protocol| protocol.may_be_answered(client))
}

/// As [`guess`], where what the client sent looks like nothing: what the answer says of it.
pub fn answered(client: Option<Sent<'_>>, server: Option<Sent<'_>>, joined: bool) -> Guess {
    let (client, server) = (client.unwrap_or_default(), server.unwrap_or_default());
    first(|protocol| protocol.of_both(client, server, joined)).unwrap_or(Guess::Unknown)
}

/// What one end sent: of a protocol that is read, or else of one that has a name.
fn of_end(
    sent: Sent<'_>,
    detect: impl Fn(&dyn AnyProtocol) -> Detected,
    recognise: impl Fn(Sent<'_>) -> Named,
) -> Guess {
    if sent.len == 0 {
        return Guess::More;
    }
    first(detect).unwrap_or_else(|| match recognise(sent) {
        Named::As(name) => Guess::Other(name),
        Named::More => Guess::More,
        Named::No => Guess::Unknown,
    })
}

/// What the first protocol says that does not say no.
fn first(detect: impl Fn(&dyn AnyProtocol) -> Detected) -> Option<Guess> {
    PROTOCOLS.iter().find_map(|protocol| match detect(*protocol) {
        Detected::Yes => Some(Guess::Read(*protocol)),
        Detected::Named(name) => Some(Guess::Other(name)),
        Detected::More => Some(Guess::More),
        Detected::No => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::protocol::http1::Http;
    use crate::analyze::protocol::mysql::Mysql;

    const HTTP: Guess = Guess::Read(&Http);
    const MYSQL: Guess = Guess::Read(&Mysql);

    fn both(client: &[u8], server: &[u8], joined: bool) -> Guess {
        guess(Some(Sent::whole(client)), Some(Sent::whole(server)), joined)
    }

    fn client(bytes: impl AsRef<[u8]>) -> Guess {
        both(bytes.as_ref(), b"", false)
    }

    fn server(bytes: impl AsRef<[u8]>) -> Guess {
        both(b"", bytes.as_ref(), false)
    }

    #[test]
    fn what_is_known_by_name_has_a_reason_that_says_so() {
        for (name, said) in recognise::REASONS {
            assert!(said.len() > name.len() && said.contains(name), "{said}");
            assert_eq!(reason(name), said);
            assert!(name == "MySQL replication" || !super::word(name).is_empty(), "{name}");
        }
        assert_eq!(
            (super::word("unknown protocol"), reason("unknown protocol")),
            ("", "unknown protocol")
        );
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
            assert_eq!(client(text), HTTP, "{text:?}");
        }
        assert_eq!(
            client(format!("GET /{}", "x".repeat(2000))),
            HTTP,
            "a target longer than the snaplen"
        );
        assert_eq!(both(b"GET /old\r\n", b"", true), Guess::Unknown);
    }

    #[test]
    fn http_from_the_server() {
        assert_eq!(server("HTTP/1.1 200 OK\r\nServer"), HTTP);
        assert_eq!(server("HTTP/1.0 4"), Guess::More);
        assert_eq!(both(b"end of a body", b"HTTP/1.1 200 OK\r\n", true), HTTP);
    }

    /// Only one direction was captured.
    #[test]
    fn mysql_from_its_login_packet() {
        let mut login = b"\x4a\0\0\x01\x85\xa6\xff\x01\0\0\0\x01\x2d".to_vec();
        login.extend_from_slice(&[0; 23]);
        login.extend_from_slice(b"root\0\0mysql_native_password\0");
        assert_eq!(client(&login), MYSQL);
        login[20] = 1;
        assert_eq!(client(&login), Guess::Unknown);
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
                b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x25\0\0\0\x01",
                "MongoDB",
            ),
            (b"EHLO mail.example.org\r\n", "SMTP"),
            (b"CONNECT {\"verbose\":false}\r\n", "NATS"),
        ] {
            assert_eq!(client(bytes), Guess::Other(name), "{bytes:?}");
            assert_eq!(both(bytes, b"", true), Guess::Other(name), "joined: {bytes:?}");
        }
        assert_eq!(server(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Guess::Other("SSH"));
        assert_eq!(server(b"INFO {\"server_id\":\"x\"}"), Guess::Other("NATS"));
        assert_eq!(server(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76"), Guess::Other("TLS"));
    }

    /// gRPC servers send SETTINGS before the client says a word.
    #[test]
    fn the_settings_of_a_server_are_http2() {
        for frames in [
            &b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0"[..],
            b"\0\0\0\x04\0\0\0\0\0",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x06\0\x01\0\0\0\0\x04\x08\0\0\0\0\0\0\x0f\0\x01",
        ] {
            for cut in 1..frames.len() {
                assert!(![Guess::Unknown, MYSQL].contains(&server(&frames[..cut])), "{cut}");
            }
            assert_eq!(server(frames), Guess::Other("HTTP/2"));
        }
    }

    /// What one side says may be of no known protocol, and what the other answers may.
    #[test]
    fn both_directions_are_asked() {
        let banner = b"220 mail.example.org ready\r\n";
        assert_eq!(server(banner), Guess::Unknown);
        assert_eq!(both(b"EHLO a\r\n", banner, false), Guess::Other("SMTP"));
        assert_eq!(server(b"220-mx ESMTP Postfix\r\n"), Guess::Other("SMTP"));
        assert_eq!(both(b"PING\r\n", b":1\r\n", false), Guess::Other("Redis"));
        assert_eq!(
            both(b"PING\r\n", b"+OK\r\n$5\r\nhello\r\n", false),
            Guess::Other("Redis")
        );
        assert_eq!(both(b"\0\x01", b"\0\0\0\x04", false), Guess::More, "too little of both");
        assert_eq!(guess(None, Some(Sent::whole(b"HTTP/1.1 400 Bad\r\n")), false), HTTP);
        assert_eq!(guess(None, Some(Sent::whole(&[7; 40])), false), Guess::Unknown);
    }

    /// As they stand in the middle of a connection.
    #[test]
    fn messages_are_named_where_the_connection_was_joined() {
        let record = [&b"\x17\x03\x03\x00\xfa"[..], &[0xaa; 250]].concat();
        let records = [&record[..], &b"\x15\x03\x03\x00\x1a"[..], &[0xbb; 26]].concat();
        let header_frame = b"\0\0\x02\x01\x04\0\0\0\x07\x88\x84";
        let data = [
            &b"\0\0\x05\0\0\0\0\0\x07\0\0\0\0\0"[..],
            b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x0e",
        ]
        .concat();
        let publish = b"\x01\0\x01\0\0\0\x0c\0\x3c\0\x28\0\0\0\x03key\0\xce";
        let reply = b"\x24\0\0\0\x08\0\0\0\x08\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let rows = b"T\0\0\0\x06\0\0C\0\0\0\x0dSELECT 4\0Z\0\0\0\x05I";
        let extended = b"P\0\0\0\x09\0x\0\0\0B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
        for (client, server, name) in [
            (&record[..], &b""[..], "TLS"),
            (b"", &records, "TLS"),
            (header_frame, b"", "HTTP/2"),
            (b"", &data, "HTTP/2"),
            (publish, b"", "AMQP"),
            (b"", b"\x08\0\0\0\0\0\0\xce", "AMQP"),
            (
                b"\0\0\0\x18\x02\0\0\0\0\x53\x14\xc0\x0b\x03\x43\x43\x40\x41\x40\x40\x40\x40\x40\x40",
                b"",
                "AMQP",
            ),
            (b"", reply, "MongoDB"),
            (b"Q\0\0\0\x18select * from test;\0", b"", "PostgreSQL"),
            (extended, b"", "PostgreSQL"),
            (b"", rows, "PostgreSQL"),
            (b"", b"$5\r\nhello\r\n", "Redis"),
            (b"", b"*2\r\n:1\r\n$-1\r\n", "Redis"),
            (b"\x30\x07\0\x03a/bhi", b"", "MQTT"),
            (b"\x82\x08\0\x01\0\x03a/b\x01", b"", "MQTT"),
        ] {
            assert_eq!(both(client, server, true), Guess::Other(name), "{client:?} {server:?}");
            let longer = |bytes: &[u8]| match bytes {
                [] => Vec::new(),
                _ => [bytes, b"\xff"].concat(),
            };
            let guess = both(&longer(client), &longer(server), true);
            assert!(
                matches!(guess, Guess::Unknown | Guess::More),
                "they end where the segment does: {client:?} {server:?}"
            );
        }
    }

    /// PPTP was called MongoDB; the others were read as commands of MySQL.
    #[test]
    fn what_has_no_name_gets_none() {
        let pptp = b"\0\x9c\0\x01\x1a\x2b\x3c\x4d\0\x01\0\0\x01\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0\0Cisco";
        let smb2 = b"\0\0\0\x48\xfeSMB\x40\0\x01\0\0\0\0\0\x0d\0\x01\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        let bitcoin = b"\xf9\xbe\xb4\xd9ping\0\0\0\0\0\0\0\0\x08\0\0\0\x12\x34\x56\x78\x01\x02\x03\x04\x05\x06\x07\x08";
        for bytes in [&pptp[..], smb2, bitcoin] {
            for joined in [false, true] {
                assert_eq!(both(bytes, b"", joined), Guess::Unknown, "{bytes:?}");
                assert_eq!(both(bytes, bytes, joined), Guess::Unknown, "{bytes:?}");
            }
        }
    }

    #[test]
    fn noise_is_unknown() {
        for bytes in [&b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"[..], b"hello world, how do you do today, my friend?\n", b"user=admin&password=x&button=send&remember=1"] {
            assert_eq!(client(bytes), Guess::Unknown, "{bytes:?}");
            assert_eq!(server(bytes), Guess::Unknown, "{bytes:?}");
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
                assert!(guess == Guess::More || guess == HTTP, "{:?}: {guess:?}", &text[..cut]);
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
                assert_ne!(client(&bytes[..cut]), Guess::Unknown, "{:?}", &bytes[..cut]);
            }
        }
    }

    #[test]
    fn two_silent_sides_say_nothing() {
        assert_eq!(both(b"", b"", false), Guess::More);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(client: Vec<u8>, server: Vec<u8>, joined: bool) {
            both(&client, &server, joined);
        }
    }
}
