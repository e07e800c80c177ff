//! The negotiation of SOCKS 4, 4A and 5 (RFC 1928, 1929): what a client and its proxy send before the first byte of the
//! connection that the proxy passes on. It belongs to no protocol behind it.

/// The longest user name, or name of a host, of SOCKS 4 and 4A.
const MAX_NAME: usize = 255;

/// Why nothing behind a negotiation is read.
const REFUSED: &str = "refused by the SOCKS proxy";
const AUTHENTICATION: &str = "no parser for this authentication of SOCKS";
const BIND: &str = "no parser for BIND of SOCKS";
const UDP: &str = "no parser for UDP ASSOCIATE of SOCKS";

/// What the first bytes of both ends are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// The proxy connects: what it passes on begins behind so many bytes of the client, and of the proxy.
    Granted {
        client: usize,
        server: usize,
    },
    /// It is SOCKS, and nothing behind it is read.
    Unread(&'static str),
    /// They may begin a negotiation, which they surely do where the proxy has chosen a method.
    More {
        is_agreed: bool,
    },
    No,
}

use Negotiation::{Granted, No, Unread};

/// Whether what an end of a connection sends can begin a negotiation: most connections begin with another byte.
pub fn may_begin(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0 | 4 | 5))
}

/// Looks for a negotiation at the start of what both ends of a connection sent so far.
pub fn negotiation(client: &[u8], server: &[u8]) -> Negotiation {
    let both = Both {
        client,
        server,
        is_agreed: false,
    };
    let found = match (client.first(), server.first()) {
        (Some(5), None | Some(5)) => both.version_5(),
        (Some(4), None | Some(0)) => both.version_4(),
        (None, None | Some(0 | 5)) => both.more(),
        _ => Ok(No),
    };
    found.unwrap_or_else(|undecided| undecided)
}

/// What is left of what both sent. Whatever reads of it stops where it cannot go on, with what is known by then.
struct Both<'a> {
    client: &'a [u8],
    server: &'a [u8],
    is_agreed: bool,
}

type Step<T> = Result<T, Negotiation>;

impl<'a> Both<'a> {
    fn more<T>(&self) -> Step<T> {
        Err(Negotiation::More {
            is_agreed: self.is_agreed,
        })
    }

    fn client(&mut self, len: usize) -> Step<&'a [u8]> {
        let Some((taken, rest)) = self.client.split_at_checked(len) else {
            return self.more();
        };
        self.client = rest;
        Ok(taken)
    }

    fn server(&mut self, len: usize) -> Step<&'a [u8]> {
        let Some((taken, rest)) = self.server.split_at_checked(len) else {
            return self.more();
        };
        self.server = rest;
        Ok(taken)
    }

    /// A name of the client that ends with a zero.
    fn name(&mut self) -> Step<&'a [u8]> {
        let within = &self.client[..self.client.len().min(MAX_NAME + 1)];
        match memchr::memchr(0, within) {
            Some(end) => Ok(&self.client(end + 1)?[..end]),
            None if within.len() > MAX_NAME => Err(No),
            None => self.more(),
        }
    }

    /// What is left begins what is passed on.
    fn granted(&self, client: &[u8], server: &[u8]) -> Negotiation {
        Granted {
            client: client.len() - self.client.len(),
            server: server.len() - self.server.len(),
        }
    }

    /// Version, command, port, address, user name; of 4A, where the address is 0.0.0.x, the name of the host. Answered by
    /// a zero, a code, and six bytes.
    fn version_4(mut self) -> Step<Negotiation> {
        let (client, server) = (self.client, self.server);
        let request = self.client(8)?;
        let (command, port, address) = (request[1], &request[2..4], &request[4..]);
        if !matches!(command, 1 | 2) || (command == 1 && port == [0, 0]) {
            return Ok(No);
        }
        self.name()?;
        if address[..3] == [0, 0, 0] && address[3] != 0 && self.name()?.is_empty() {
            return Ok(No);
        }
        let reply = self.server(8)?;
        Ok(match (reply[1], command) {
            (0x5a, 1) => self.granted(client, server),
            (0x5a, _) => Unread(BIND),
            (0x5b..=0x5d, _) => Unread(REFUSED),
            _ => No,
        })
    }

    fn version_5(mut self) -> Step<Negotiation> {
        let (client, server) = (self.client, self.server);
        let count = self.client(2)?[1];
        let methods = self.client(count.into())?;
        let method = self.server(2)?[1];
        if !methods.contains(&method) && (method != 0xff || methods.is_empty()) {
            return Ok(No);
        }
        self.is_agreed = true;
        match method {
            0 => {}
            2 => {
                let version = self.client(1)?;
                for _ in ["user name", "password"] {
                    let len = self.client(1)?[0];
                    self.client(len.into())?;
                }
                let answer = self.server(2)?;
                if version != [1] || answer[0] != 1 {
                    return Ok(No);
                }
                if answer[1] != 0 {
                    return Ok(Unread(REFUSED));
                }
            }
            0xff => return Ok(Unread(REFUSED)),
            _ => return Ok(Unread(AUTHENTICATION)),
        }
        let request = self.client(3)?;
        let command = request[1];
        if request[0] != 5 || !matches!(command, 1..=3) || request[2] != 0 {
            return Ok(No);
        }
        self.address(Both::client)?;
        let reply = self.server(3)?;
        if reply[0] != 5 || reply[2] != 0 {
            return Ok(No);
        }
        if reply[1] != 0 {
            return Ok(Unread(REFUSED));
        }
        self.address(Both::server)?;
        Ok(match command {
            1 => self.granted(client, server),
            2 => Unread(BIND),
            _ => Unread(UDP),
        })
    }

    /// The type of an address of version 5, the address, and a port.
    fn address(&mut self, take: fn(&mut Self, usize) -> Step<&'a [u8]>) -> Step<()> {
        let len = match take(self, 1)?[0] {
            1 => 4,
            3 => take(self, 1)?[0].into(),
            4 => 16,
            _ => return Err(No),
        };
        take(self, len + 2)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Negotiation::More;
    use super::*;

    const V5: &[u8] = b"\x05\x01\0\x05\x01\0\x03\x04host\0\x50";
    const V5_REPLY: &[u8] = b"\x05\0\x05\0\0\x01\x0a\0\0\x01\xc0\x01";

    #[test]
    fn every_version_is_known_from_every_prefix_of_both_directions() {
        for (client, server) in [
            (V5, V5_REPLY),
            (
                b"\x05\x03\0\x01\x02\x01\x04user\x06secret\x05\x01\0\x01\x0a\0\0\x02\x1f\x90",
                b"\x05\x02\x01\0\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            (
                b"\x05\x01\0\x05\x01\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50",
                b"\x05\0\x05\0\0\x03\x02gw\0\x50",
            ),
            (b"\x04\x01\0\x50\x0a\0\0\x02\0", b"\0\x5a\0\0\0\0\0\0"),
            (b"\x04\x01\0\x50\x0a\0\0\x02user\0", b"\0\x5a\0\x50\x0a\0\0\x02"),
            (b"\x04\x01\0\x50\0\0\0\x01user\0host\0", b"\0\x5a\0\0\0\0\0\0"),
        ] {
            let whole = Granted {
                client: client.len(),
                server: server.len(),
            };
            for asked in 0..=client.len() {
                for answered in 0..=server.len() {
                    let is = negotiation(&client[..asked], &server[..answered]);
                    let is_whole = asked == client.len() && answered == server.len();
                    assert_eq!(is == whole, is_whole, "{client:?} {asked} {answered}");
                    assert_eq!(
                        matches!(is, More { .. }),
                        !is_whole,
                        "{client:?} {asked} {answered}: {is:?}"
                    );
                }
            }
            let behind = negotiation(
                &[client, b"GET / HTTP/1.1"].concat(),
                &[server, b"HTTP/1.1 200"].concat(),
            );
            assert_eq!(behind, whole);
        }
    }

    #[test]
    fn what_is_refused_or_not_a_stream_is_named() {
        let bind = &[&V5[..4], b"\x02", &V5[5..]].concat();
        let udp = &[&V5[..4], b"\x03", &V5[5..]].concat();
        for (client, server, why) in [
            (V5, &b"\x05\xff"[..], REFUSED),
            (b"\x05\x01\x02\x01\x01u\x01p", b"\x05\x02\x01\x01", REFUSED),
            (V5, b"\x05\0\x05\x05\0", REFUSED),
            (b"\x04\x01\0\x50\x0a\0\0\x02\0", b"\0\x5b\0\0\0\0\0\0", REFUSED),
            (b"\x05\x02\0\x01", b"\x05\x01", AUTHENTICATION),
            (bind, V5_REPLY, BIND),
            (b"\x04\x02\0\0\x0a\0\0\x02\0", b"\0\x5a\0\0\0\0\0\0", BIND),
            (udp, V5_REPLY, UDP),
        ] {
            assert_eq!(negotiation(client, server), Unread(why), "{client:?} {server:?}");
        }
        assert_eq!(negotiation(V5, &V5_REPLY[..2]), More { is_agreed: true });
        assert_eq!(negotiation(V5, b"\x05"), More { is_agreed: false });
    }

    #[test]
    fn what_only_begins_like_one_is_none() {
        let long = &[&b"\x04\x01\0\x50\x0a\0\0\x02"[..], &[b'u'; MAX_NAME + 1]].concat();
        for (client, server) in [
            // A method that was not offered, none offered, another version.
            (V5, &b"\x05\x02"[..]),
            (b"\x05\0", b"\x05\xff"),
            (V5, b"HTTP/1.1 400 Bad Request\r\n"),
            (V5, b"\0\x5a"),
            (b"GET / HTTP/1.1\r\n", b"\x05\0"),
            (b"\x05\x01\0GET / HTTP/1.1\r\n", b"\x05\0"),
            (b"\x05\x01\0\x05\x01\0\x02\0\0", b"\x05\0"),
            (V5, b"\x05\0HTTP/1.1 200 OK\r\n"),
            (V5, b"\x05\0\x05\0\0\x02\0\0"),
            (b"\x05\x01\x02\x05\x01u\x01pxxxx", b"\x05\x02\x01\0"),
            (b"\x05\x01\x02\x01\x01u\x01p", b"\x05\x02\x05\0"),
            (b"\x04\x03\0\x50\x0a\0\0\x02\0", b""),
            (b"\x04\x01\0\0\x0a\0\0\x02\0", b""),
            (b"\x04\x01\0\x50\0\0\0\x01user\0\0", b""),
            (b"\x04\x01\0\x50\x0a\0\0\x02\0", b"\0\x59\0\0\0\0\0\0"),
            (long, b""),
            // SETTINGS of an HTTP/2 server, and packets of MySQL.
            (b"PRI * HTTP/2.0\r\n\r\n", b"\0\0\x12\x04\0\0\0\0\0"),
            (b"\x05\x01\0\0\x03select 1", b"\x05\0\0\x02\xfe\0\0\x02\0"),
        ] {
            assert_eq!(negotiation(client, server), No, "{client:?} {server:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(client: Vec<u8>, server: Vec<u8>, at in 0usize..12) {
            negotiation(&client, &server);
            negotiation(&[&V5[..at], &client].concat(), &[&V5_REPLY[..at], &server].concat());
            negotiation(&[&b"\x04\x01"[..], &client].concat(), &server);
        }
    }
}
