//! Where a body ends (RFC 9112, 6 and 7): the length rules, and a skipper of chunked bodies that keeps nothing.

use memchr::memchr;

use super::parse::{Coding, Framing, Length, MAX_LENGTH};

/// How a message goes on after its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    /// So many bytes.
    Length(u64),
    Chunked,
    /// All bytes to the end of the connection.
    UntilClose,
    /// No HTTP follows (101, or a 2xx answer to CONNECT).
    Tunnel,
    /// Nobody can say, and why.
    Bad(&'static str),
}

/// RFC 9112, 6.3 for requests. Transfer-Encoding wins over Content-Length.
pub fn of_request(framing: &Framing) -> Body {
    match (framing.coding, framing.length) {
        (Coding::Chunked, _) => Body::Chunked,
        (Coding::Other, _) => Body::Bad("Transfer-Encoding of a request does not end in chunked"),
        (Coding::Absent, Length::Bad(why)) => Body::Bad(why),
        (Coding::Absent, Length::Known(0) | Length::Absent) => Body::None,
        (Coding::Absent, Length::Known(n)) => Body::Length(n),
    }
}

/// RFC 9112, 6.3 for final responses and 101; `method` is that of the request, empty when not known.
pub fn of_response(method: &str, status: u16, framing: &Framing) -> Body {
    if status == 101 || (method == "CONNECT" && (200..300).contains(&status)) {
        return Body::Tunnel;
    }
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Body::None;
    }
    match (framing.coding, framing.length) {
        (Coding::Chunked, _) => Body::Chunked,
        (Coding::Other, _) => Body::UntilClose,
        (Coding::Absent, Length::Bad(why)) => Body::Bad(why),
        (Coding::Absent, Length::Known(0)) => Body::None,
        (Coding::Absent, Length::Known(n)) => Body::Length(n),
        (Coding::Absent, Length::Absent) => Body::UntilClose,
    }
}

/// Where in a chunked body we are (RFC 9112, 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before or among the digits of a chunk's size.
    Size { value: u64, digits: bool },
    /// After the digits; chunk extensions up to the end of the line.
    Extension { value: u64 },
    /// Bytes of this chunk still to come.
    Data(u64),
    /// The line end after a chunk's data; whether its CR was seen.
    DataEnd { cr: bool },
    /// First byte of a trailer line; whether a CR was seen.
    TrailerStart { cr: bool },
    /// Inside a trailer line.
    Trailer,
}

/// Steps over a chunked body, fed in pieces of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    at: At,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All of it belongs to the body, which goes on.
    More,
    /// The body ended after so many bytes.
    Done(usize),
    /// It breaks the rules, after so many bytes.
    Wrong(&'static str, usize),
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked {
            at: At::Size {
                value: 0,
                digits: false,
            },
        }
    }
}

impl Chunked {
    /// Steps over `bytes`. Leniencies: bare LF as a line end, white space after the size (older servers pad it).
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut used = 0;
        while let Some(byte) = bytes.get(used).copied() {
            match &mut self.at {
                At::Size { value, digits } => {
                    used += 1;
                    match (byte as char).to_digit(16) {
                        Some(digit) => {
                            *value = *value << 4 | u64::from(digit);
                            if *value > MAX_LENGTH {
                                return Step::Wrong("chunk size beyond 1 PiB", used);
                            }
                            *digits = true;
                        }
                        None if !*digits => return Step::Wrong("chunk size is not a number", used),
                        None if matches!(byte, b';' | b' ' | b'\t' | b'\r') => {
                            self.at = At::Extension { value: *value };
                        }
                        None if byte == b'\n' => self.at = At::after_size(*value),
                        None => return Step::Wrong("chunk size is not a number", used),
                    }
                }
                At::Extension { value } => match memchr(b'\n', &bytes[used..]) {
                    Some(newline) => {
                        used += newline + 1;
                        self.at = At::after_size(*value);
                    }
                    None => return Step::More,
                },
                At::Data(left) => {
                    let here = (bytes.len() - used) as u64;
                    if here < *left {
                        *left -= here;
                        return Step::More;
                    }
                    used += *left as usize;
                    self.at = At::DataEnd { cr: false };
                }
                At::DataEnd { cr } => {
                    used += 1;
                    match byte {
                        b'\n' => {
                            self.at = At::Size {
                                value: 0,
                                digits: false,
                            }
                        }
                        b'\r' if !*cr => *cr = true,
                        _ => return Step::Wrong("chunk is longer than its size", used),
                    }
                }
                At::TrailerStart { cr } => {
                    used += 1;
                    match byte {
                        b'\n' => return Step::Done(used),
                        b'\r' if !*cr => *cr = true,
                        _ => self.at = At::Trailer,
                    }
                }
                At::Trailer => match memchr(b'\n', &bytes[used..]) {
                    Some(newline) => {
                        used += newline + 1;
                        self.at = At::TrailerStart { cr: false };
                    }
                    None => return Step::More,
                },
            }
        }
        Step::More
    }

    /// Steps over `len` bytes that are not there; false when a chunk header may have been among them.
    pub fn skip(&mut self, len: u64) -> bool {
        match &mut self.at {
            At::Data(left) if *left >= len => {
                *left -= len;
                true
            }
            _ => false,
        }
    }
}

impl At {
    fn after_size(size: u64) -> At {
        match size {
            0 => At::TrailerStart { cr: false },
            n => At::Data(n),
        }
    }
}
