//! The names of protocols that are not read, to say why a connection yields no exchanges: only where bytes make sure,
//! at the start of a connection and, as far as their messages can be told, in its middle.
//!
//! Pure functions over what one end sent. A rule says yes, no, or that more bytes are needed.

use super::Sent;

/// A protocol that is named.
struct Protocol {
    /// For the `why` column.
    name: &'static str,
    /// For the `protocol` column.
    word: &'static str,
    /// What its clients, and its servers, begin with.
    client: Rule,
    server: Rule,
}

/// Whether bytes are of this protocol; `None` when they are too few to tell.
type Rule = fn(Sent<'_>) -> Option<bool>;

const PROTOCOLS: [Protocol; 10] = [
    Protocol {
        name: "TLS",
        word: "tls",
        client: tls,
        server: tls,
    },
    Protocol {
        name: "SSH",
        word: "ssh",
        client: |sent| prefix(sent, b"SSH-"),
        server: |sent| prefix(sent, b"SSH-"),
    },
    Protocol {
        name: "HTTP/2",
        word: "http2",
        client: http2,
        server: http2,
    },
    Protocol {
        name: "AMQP",
        word: "amqp",
        client: |sent| either(prefix(sent, b"AMQP"), amqp(sent)),
        server: |sent| either(prefix(sent, b"AMQP"), amqp(sent)),
    },
    Protocol {
        name: "MongoDB",
        word: "mongodb",
        client: |sent| mongodb(sent, true),
        server: |sent| mongodb(sent, false),
    },
    Protocol {
        name: "PostgreSQL",
        word: "postgresql",
        client: |sent| either(postgres_startup(sent), postgres(sent, postgres_request)),
        server: |sent| postgres(sent, postgres_response),
    },
    Protocol {
        name: "Redis",
        word: "redis",
        client: redis_command,
        server: redis_reply,
    },
    Protocol {
        name: "MQTT",
        word: "mqtt",
        client: |sent| either(mqtt_connect(sent), mqtt(sent)),
        server: mqtt,
    },
    Protocol {
        name: "SMTP",
        word: "smtp",
        client: smtp_command,
        server: smtp_greeting,
    },
    Protocol {
        name: "NATS",
        word: "nats",
        client: |sent| prefix(sent, b"CONNECT {"),
        server: |sent| prefix(sent, b"INFO {"),
    },
];

/// With so many bytes each rule can decide, or never will.
const ENOUGH: usize = 32;

/// What was found out about bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    As(&'static str),
    /// Too few bytes to tell.
    More,
    No,
}

/// The word in the `protocol` column for what a connection was recognised as, or went over to; empty for the unknown.
pub fn word(name: &str) -> &'static str {
    let known = PROTOCOLS.iter().find(|protocol| protocol.name == name);
    known.map_or("", |protocol| protocol.word)
}

/// What the `why` column says of a connection that was recognised as this, or went over to it. Other reasons are words
/// already.
pub fn reason(name: &'static str) -> &'static str {
    let known = REASONS.iter().find(|(known, _)| *known == name);
    known.map_or(name, |(_, reason)| reason)
}

/// Why there are no exchanges of what is known by name only.
pub const REASONS: [(&str, &str); 11] = [
    ("TLS", "encrypted (TLS)"),
    ("HTTP/2", "no parser for HTTP/2"),
    ("SSH", "encrypted (SSH)"),
    ("AMQP", "no parser for AMQP"),
    ("PostgreSQL", "no parser for PostgreSQL"),
    ("Redis", "no parser for Redis"),
    ("MongoDB", "no parser for MongoDB"),
    ("MQTT", "no parser for MQTT"),
    ("SMTP", "no parser for SMTP"),
    ("NATS", "no parser for NATS"),
    ("MySQL replication", "no parser for MySQL replication"),
];

/// The protocol of what a client sent.
pub fn of_client(sent: Sent<'_>) -> Named {
    first_of(sent, |protocol| protocol.client)
}

/// The protocol of what a server sent.
pub fn of_server(sent: Sent<'_>) -> Named {
    first_of(sent, |protocol| protocol.server)
}

/// The first protocol whose rule says yes; `More` when one may still.
fn first_of(sent: Sent<'_>, rule: fn(&Protocol) -> Rule) -> Named {
    let mut undecided = false;
    for protocol in &PROTOCOLS {
        match rule(protocol)(sent) {
            Some(true) => return Named::As(protocol.name),
            Some(false) => {}
            None => undecided = true,
        }
    }
    match undecided && sent.bytes.len() < ENOUGH {
        true => Named::More,
        false => Named::No,
    }
}

fn either(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// Whether the bytes begin with `start`; `None` when they are too few and agree so far.
fn prefix(sent: Sent<'_>, start: &[u8]) -> Option<bool> {
    let n = sent.bytes.len().min(start.len());
    match sent.bytes[..n] == start[..n] {
        false => Some(false),
        true => (n == start.len()).then_some(true),
    }
}

/// What stands at the start of some bytes.
enum Message {
    /// A message of so many bytes, not 0.
    Whole(u64),
    /// What may be the beginning of one.
    Short,
    No,
}

/// What was sent, cut into messages.
struct Chain {
    /// So many end within what was sent.
    whole: usize,
    /// The last one ends where that ends.
    is_exact: bool,
    /// At the end of one stands what is none.
    is_broken: bool,
}

/// Cuts what was sent into messages, as far as it was captured.
fn chain(sent: Sent<'_>, message: impl Fn(&[u8]) -> Message) -> Chain {
    let (mut whole, mut at) = (0, 0);
    let mut is_broken = false;
    while let Some(rest) = sent.bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match message(rest) {
            Message::Whole(len) if len > 0 && at as u64 + len <= sent.len => {
                whole += 1;
                at = at.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
            }
            Message::Whole(_) | Message::Short => break,
            Message::No => {
                is_broken = true;
                break;
            }
        }
    }
    Chain {
        whole,
        is_exact: whole > 0 && at as u64 == sent.len,
        is_broken,
    }
}

impl Chain {
    /// Messages that end where what was sent ends are no chance, nor are `many` one after the other.
    fn is_believed(&self, many: usize) -> Option<bool> {
        match self.is_broken {
            true => Some(false),
            false => (self.is_exact || self.whole >= many).then_some(true),
        }
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

// ---- TLS ------------------------------------------------------------------------------------------------------------

/// Records of TLS (RFC 8446, 5.1): content type 20 to 23, version 3.0 to 3.4, length up to 2^14 + 2048. Of a handshake
/// record, the first message has a known type, as long as it is not encrypted: that is asked of the first record only.
fn tls(sent: Sent<'_>) -> Option<bool> {
    let starts = |bytes: &[u8]| {
        bytes.iter().take(3).enumerate().all(|(at, byte)| match at {
            0 => (20..=23).contains(byte),
            1 => *byte == 3,
            _ => *byte <= 4,
        })
    };
    let record = |bytes: &[u8]| match bytes {
        _ if !starts(bytes) => Message::No,
        [_, _, _, high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            len @ 1..=18_432 => Message::Whole(5 + u64::from(len)),
            _ => Message::No,
        },
        _ => Message::Short,
    };
    if chain(sent, record).is_broken {
        return Some(false);
    }
    let [kind, _, _, _, _, first, ..] = sent.bytes else {
        return None;
    };
    Some(*kind != 22 || matches!(first, 1 | 2 | 4 | 11 | 12 | 14 | 16 | 20))
}

// ---- HTTP/2 ---------------------------------------------------------------------------------------------------------

/// Frames of HTTP/2 (RFC 9113, 4.1 and 6). Servers send SETTINGS at once.
fn http2(sent: Sent<'_>) -> Option<bool> {
    const SETTINGS: u8 = 4;
    let frames = chain(sent, http2_frame);
    match frames.is_believed(2) {
        None if frames.whole > 0 && sent.bytes.get(3) == Some(&SETTINGS) => Some(true),
        believed => believed,
    }
}

fn http2_frame(bytes: &[u8]) -> Message {
    let Some([a, b, c, kind, flags, stream @ ..]) = bytes.first_chunk::<9>() else {
        // The highest byte of a length of at most 64 KiB, and a known type.
        let may_begin = bytes[0] == 0 && bytes.get(3).is_none_or(|kind| *kind <= 9);
        return if may_begin { Message::Short } else { Message::No };
    };
    let len = u32::from_be_bytes([0, *a, *b, *c]);
    let stream = u32::from_be_bytes(*stream);
    let fits = match kind {
        // DATA, HEADERS, PRIORITY, RST_STREAM
        0 => flags & !0x09 == 0 && stream != 0,
        1 => flags & !0x2d == 0 && stream != 0 && len > 0,
        2 => *flags == 0 && stream != 0 && len == 5,
        3 => *flags == 0 && stream != 0 && len == 4,
        // SETTINGS, with or without ACK
        4 => stream == 0 && matches!((flags, len), (1, 0) | (0, 0..=1024)) && len.is_multiple_of(6),
        // PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION
        5 => flags & !0x0c == 0 && stream != 0 && len > 4,
        6 => *flags <= 1 && stream == 0 && len == 8,
        7 => *flags == 0 && stream == 0 && len >= 8,
        8 => *flags == 0 && len == 4,
        9 => flags & !0x04 == 0 && stream != 0,
        _ => false,
    };
    match fits && stream >> 31 == 0 {
        true => Message::Whole(9 + u64::from(len)),
        false => Message::No,
    }
}

// ---- AMQP -----------------------------------------------------------------------------------------------------------

/// Frames of AMQP 0-9-1 (4.2.3) or 1.0 (2.3).
fn amqp(sent: Sent<'_>) -> Option<bool> {
    either(
        chain(sent, amqp_0_frame).is_believed(1),
        chain(sent, amqp_1_frame).is_believed(1),
    )
}

fn amqp_0_frame(bytes: &[u8]) -> Message {
    const END: u8 = 0xce;
    let Some(size) = be32(bytes, 3) else {
        let may_begin = matches!(bytes[0], 1 | 2 | 3 | 8);
        return if may_begin { Message::Short } else { Message::No };
    };
    let class = bytes.get(7..9).map(|class| u16::from_be_bytes([class[0], class[1]]));
    let is_class = class.is_none_or(|class| matches!(class, 10 | 20 | 30 | 40 | 50 | 60 | 85 | 90));
    let fits = match bytes[0] {
        1 => size >= 4 && is_class,
        2 => size >= 14 && is_class,
        3 => size > 0,
        8 => size == 0,
        _ => false,
    };
    match bytes.get(7 + size as usize) {
        _ if !fits || size > 1 << 20 => Message::No,
        // Only a method says by its class what it is.
        None if bytes[0] != 1 => Message::Short,
        None | Some(&END) => Message::Whole(8 + u64::from(size)),
        Some(_) => Message::No,
    }
}

fn amqp_1_frame(bytes: &[u8]) -> Message {
    // Size, offset of the body in words of four bytes, type (AMQP, SASL), channel; then nothing, or a described type.
    let (Some(size), Some(head)) = (be32(bytes, 0), bytes.get(4..8)) else {
        return if bytes[0] == 0 { Message::Short } else { Message::No };
    };
    let body = &bytes[8..bytes.len().min(11)];
    let performative = matches!(body, [0x00, 0x53, 0x10..=0x18 | 0x40..=0x44]);
    let fits = head[0] == 2 && head[1] <= 1 && (size == 8 || (body.len() < 3 && size > 8) || performative);
    match fits && (8..=1 << 20).contains(&size) {
        true => Message::Whole(size.into()),
        false => Message::No,
    }
}

// ---- PostgreSQL -----------------------------------------------------------------------------------------------------

/// StartupMessage, SSLRequest, GSSENCRequest, CancelRequest of the PostgreSQL protocol 3.
fn postgres_startup(sent: Sent<'_>) -> Option<bool> {
    if sent.bytes.iter().take(2).any(|b| *b != 0) {
        return Some(false);
    }
    let (len, code) = (be32(sent.bytes, 0)?, be32(sent.bytes, 4)?);
    let codes = [0x0003_0000, 0x0003_0002, 80_877_102, 80_877_103, 80_877_104];
    Some(len >= 8 && codes.contains(&code))
}

/// Messages of PostgreSQL: a letter, and a length that counts itself.
fn postgres(sent: Sent<'_>, fits: fn(u8, u32, &[u8]) -> bool) -> Option<bool> {
    let message = |bytes: &[u8]| {
        let Some(len) = be32(bytes, 1) else {
            let may_begin = bytes[0].is_ascii_alphanumeric() && bytes.get(1).is_none_or(|high| *high == 0);
            return if may_begin { Message::Short } else { Message::No };
        };
        let end = usize::try_from(len).map_or(usize::MAX, |len| len.saturating_add(1));
        let body = bytes.get(5..end.min(bytes.len())).unwrap_or_default();
        match len >= 4 && fits(bytes[0], len, body) {
            true => Message::Whole(1 + u64::from(len)),
            false => Message::No,
        }
    };
    chain(sent, message).is_believed(3)
}

/// What a client sends: the letter, the length, and what was captured of the body.
fn postgres_request(kind: u8, len: u32, body: &[u8]) -> bool {
    let is_whole = body.len() as u64 + 4 == u64::from(len);
    match kind {
        b'S' | b'H' | b'X' | b'c' => len == 4,
        // Query, password, CopyFail: a string.
        b'Q' | b'p' | b'f' => len > 4 && (!is_whole || kind == b'p' || body.last() == Some(&0)),
        // Describe, Close: of a statement or of a portal.
        b'D' | b'C' => len > 5 && body.first().is_none_or(|of| matches!(of, b'S' | b'P')),
        b'P' => len >= 8,
        b'B' => len >= 12,
        b'E' => len >= 9,
        b'F' => len >= 14,
        b'd' => true,
        _ => false,
    }
}

/// What a server sends.
fn postgres_response(kind: u8, len: u32, body: &[u8]) -> bool {
    match kind {
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => len == 4,
        b'Z' => len == 5 && body.first().is_none_or(|state| matches!(state, b'I' | b'T' | b'E')),
        b'R' => len >= 8 && body.iter().take(3).all(|b| *b == 0),
        b'K' => len >= 12,
        b'T' | b'D' | b't' => len >= 6,
        b'C' => len > 4,
        b'S' => len >= 6,
        b'A' => len >= 10,
        // ErrorResponse, NoticeResponse: fields, each with a letter before it.
        b'E' | b'N' => len > 5 && body.first().is_none_or(u8::is_ascii_uppercase),
        b'G' | b'H' | b'W' => len >= 7,
        b'd' => true,
        b'V' | b'v' => len >= 8,
        _ => false,
    }
}

// ---- Redis ----------------------------------------------------------------------------------------------------------

/// An array of bulk strings, as every Redis client sends it: `*2\r\n$3\r\n`.
fn redis_command(sent: Sent<'_>) -> Option<bool> {
    let mut rest = sent.bytes;
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

/// Replies, one of which is a number, a bulk string or an array: `+OK` is said by others too.
fn redis_reply(sent: Sent<'_>) -> Option<bool> {
    let is_clear = |bytes: &[u8]| bytes.first().is_some_and(|kind| matches!(kind, b':' | b'$' | b'*'));
    match is_clear(sent.bytes) {
        true => chain(sent, redis_part).is_believed(3),
        false => match sent.bytes.first() {
            // More replies may follow the status.
            Some(b'+' | b'-') => {
                let status = memchr::memchr(b'\n', sent.bytes)? + 1;
                let rest = sent.from(status);
                match is_clear(rest.bytes) {
                    true => chain(rest, redis_part).is_believed(3),
                    false => Some(false),
                }
            }
            _ => Some(false),
        },
    }
}

/// A reply; of an array, the line before its elements.
fn redis_part(bytes: &[u8]) -> Message {
    const MAX_STATUS: usize = 512;
    let line = memchr::memchr(b'\n', &bytes[..bytes.len().min(MAX_STATUS)]);
    let is_known = matches!(
        bytes[0],
        b'+' | b'-' | b':' | b'$' | b'*' | b'%' | b'~' | b'>' | b'_' | b'#' | b','
    );
    let (Some(newline), true) = (line, is_known) else {
        let may_go_on = is_known && bytes.len() < MAX_STATUS;
        return if may_go_on { Message::Short } else { Message::No };
    };
    let Some(text) = bytes[1..newline].strip_suffix(b"\r") else {
        return Message::No;
    };
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_number = (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let line = newline as u64 + 1;
    match bytes[0] {
        b'+' | b'-' | b'_' | b'#' | b',' if text.iter().all(|b| *b >= b' ') => Message::Whole(line),
        b'$' if text == b"-1" => Message::Whole(line),
        b'$' if is_number && digits.len() < 10 && digits.len() == text.len() => {
            let len = text.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
            let end = bytes.get((line + len) as usize..);
            match end.is_none_or(|end| b"\r\n".starts_with(&end[..end.len().min(2)])) {
                true => Message::Whole(line + len + 2),
                false => Message::No,
            }
        }
        b':' | b'*' | b'%' | b'~' | b'>' if is_number => Message::Whole(line),
        _ => Message::No,
    }
}

// ---- MongoDB --------------------------------------------------------------------------------------------------------

/// Messages of MongoDB: a length, two numbers that tell which request is answered, an operation, and what that
/// begins with.
fn mongodb(sent: Sent<'_>, is_client: bool) -> Option<bool> {
    const OP_REPLY: u32 = 1;
    let message = |bytes: &[u8]| {
        let field = |at: usize| le32(bytes, at);
        let (Some(len), Some(answers), Some(operation)) = (field(0), field(8), field(12)) else {
            // The highest byte of a length below 48 MB; a request answers none.
            let may_begin = bytes.get(3).is_none_or(|high| *high <= 2);
            let is_request = bytes.iter().skip(8).take(4).all(|b| *b == 0);
            return match may_begin && (!is_client || is_request) {
                true => Message::Short,
                false => Message::No,
            };
        };
        let flags = field(16);
        let fits = match (operation, is_client) {
            (OP_REPLY, false) => len >= 36 && flags.is_none_or(|flags| flags < 16),
            // OP_COMPRESSED: the operation inside, its length, the compressor.
            (2012, _) => len >= 25 && matches!(flags, None | Some(1 | 2001 | 2002 | 2004..=2007 | 2010 | 2011 | 2013)),
            // OP_MSG: three flags; the first section is of kind 0 or 1.
            (2013, _) => {
                len >= 26
                    && flags.is_none_or(|flags| flags & !0x1_0003 == 0)
                    && bytes.get(20).is_none_or(|kind| *kind <= 1)
            }
            // OP_UPDATE, OP_INSERT, OP_QUERY, OP_GET_MORE, OP_DELETE, OP_KILL_CURSORS.
            (2001 | 2002 | 2004..=2007, true) => len >= 24 && flags.is_none_or(|flags| flags < 256),
            _ => false,
        };
        match fits && (!is_client || answers == 0) && (16..=48_000_000).contains(&len) {
            true => Message::Whole(len.into()),
            false => Message::No,
        }
    };
    let messages = chain(sent, message);
    match messages.whole {
        // A long one goes on in the next segment: all of the above fits.
        0 if !messages.is_broken => (sent.bytes.len() >= 24).then_some(true),
        _ => messages.is_believed(2),
    }
}

// ---- MQTT -----------------------------------------------------------------------------------------------------------

/// CONNECT of MQTT 3.1, 3.1.1 and 5.
fn mqtt_connect(sent: Sent<'_>) -> Option<bool> {
    match sent.bytes {
        [0x10, rest @ ..] => {
            let sizes = rest.iter().take_while(|b| **b & 0x80 != 0).count() + 1;
            match rest.get(sizes..) {
                _ if sizes > 4 => Some(false),
                Some(name) => {
                    let name = Sent::whole(name);
                    either(prefix(name, b"\x00\x04MQTT"), prefix(name, b"\x00\x06MQIsdp"))
                }
                None => None,
            }
        }
        _ => Some(false),
    }
}

/// Packets of MQTT that begin with one that holds a topic: PUBLISH or SUBSCRIBE.
fn mqtt(sent: Sent<'_>) -> Option<bool> {
    match sent.bytes.first() {
        Some(0x30..=0x3d | 0x82) => chain(sent, mqtt_packet).is_believed(3),
        _ => Some(false),
    }
}

fn mqtt_packet(bytes: &[u8]) -> Message {
    let sizes = bytes[1..].iter().take(4).take_while(|b| **b & 0x80 != 0).count() + 1;
    let Some(size) = bytes.get(1..1 + sizes).filter(|_| sizes <= 4) else {
        return if sizes > 4 { Message::No } else { Message::Short };
    };
    let left = size.iter().rev().fold(0u64, |n, b| n << 7 | u64::from(b & 0x7f));
    let body = &bytes[1 + sizes..];
    // A topic: its length, and text.
    let is_topic = |body: &[u8]| {
        let Some([high, low]) = body.first_chunk::<2>() else {
            return true;
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let topic = &body[2..body.len().min(2 + len)];
        len > 0 && 2 + len as u64 <= left && topic.iter().all(|b| *b >= b' ' && *b != 0x7f)
    };
    let fits = match (bytes[0] >> 4, bytes[0] & 15) {
        (3, flags) => flags & 6 != 6 && left >= 3 && is_topic(body),
        (8, 2) => left >= 6 && is_topic(body.get(2..).unwrap_or_default()),
        (10, 2) => left >= 5,
        (4 | 5 | 7 | 9 | 11, 0) | (6, 2) => left >= 2,
        (12 | 13, 0) => left == 0,
        (14, 0) => true,
        _ => false,
    };
    match fits {
        true => Message::Whole(1 + sizes as u64 + left),
        false => Message::No,
    }
}

// ---- SMTP -----------------------------------------------------------------------------------------------------------

/// The commands of SMTP that no other protocol has.
fn smtp_command(sent: Sent<'_>) -> Option<bool> {
    let begins = |word: &[u8]| {
        let n = sent.bytes.len().min(word.len());
        match sent.bytes[..n].eq_ignore_ascii_case(&word[..n]) {
            false => Some(false),
            true => (n == word.len()).then_some(true),
        }
    };
    let words: [&[u8]; 4] = [b"EHLO ", b"HELO ", b"MAIL FROM:", b"RCPT TO:"];
    words.into_iter().map(begins).fold(Some(false), either)
}

/// The greeting of a server that says what it speaks (RFC 5321, 4.2 asks for no word; most have it). FTP begins alike.
fn smtp_greeting(sent: Sent<'_>) -> Option<bool> {
    if prefix(sent, b"220")? && sent.bytes.get(3).is_none_or(|b| matches!(b, b' ' | b'-')) {
        let line = memchr::memchr(b'\n', sent.bytes)?;
        let says = sent.bytes[..line]
            .windows(4)
            .any(|word| word.eq_ignore_ascii_case(b"SMTP"));
        return Some(says);
    }
    Some(false)
}
