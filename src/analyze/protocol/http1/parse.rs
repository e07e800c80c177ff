//! Heads of HTTP/1.x messages: pure functions over byte slices, one of three answers.
//!
//! httparse reads the heads. What is here besides: which start lines are HTTP/0.9 or HTTP/2, what the fields of interest
//! say, and what may be the start of a message where that is a guess.
//!
//! httparse takes a bare LF for the end of a line (RFC 9112, 2.2). What it refuses, and what is still read, is listed
//! at [`mend`] and [`mend_target`].

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};
use memchr::{memchr, memchr_iter, memrchr};

use super::pair::MAX_HEAD;

/// One of three answers: a whole item and how many bytes it took, not enough yet, or wrong and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    Whole(T, usize),
    Partial,
    Wrong(Wrong),
}

/// Why a start line is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing like HTTP/1.x.
    Foreign,
    /// It begins like a request line, and then breaks the rules.
    Line(&'static str),
    /// The connection preface of HTTP/2 (RFC 9113, 3.4).
    Http2,
}

/// What the Content-Length fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Length {
    #[default]
    Absent,
    Known(u64),
    /// Not to be trusted, and why.
    Bad(&'static str),
}

/// What the Transfer-Encoding fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coding {
    #[default]
    Absent,
    /// `chunked` is the last coding.
    Chunked,
    /// Something else is the last coding.
    Other,
}

/// The fields that decide where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    pub length: Length,
    pub coding: Coding,
}

/// A request line and the fields of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestHead<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    /// Major * 10 + minor: 9, 10 or 11.
    pub version: u8,
    /// The Host field; empty when there is none.
    pub host: &'a [u8],
    pub framing: Framing,
    /// It says `Expect: 100-continue`.
    pub expects: bool,
    /// What breaks the rules in it, and does not keep it from being read; empty when nothing does.
    pub remark: &'static str,
}

impl<'a> RequestHead<'a> {
    /// Whom it asks: the authority of an absolute target, else the Host field (RFC 9112, 3.2.2).
    pub fn authority(&self) -> &'a [u8] {
        authority(self.target).unwrap_or(self.host)
    }
}

/// The authority of a target in absolute form (RFC 9112, 3.2.2).
fn authority(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let scheme = target
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        .count();
    let rest = target[scheme..].strip_prefix(b"://")?;
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    Some(&rest[..end]).filter(|authority| !authority.is_empty())
}

/// A status line and the fields of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseHead<'a> {
    /// Major * 10 + minor.
    pub version: u8,
    pub status: u16,
    pub content_type: &'a [u8],
    pub upgrade: &'a [u8],
    pub framing: Framing,
}

impl ResponseHead<'_> {
    /// It precedes the final response, and consumes no request (RFC 9110, 15.2).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// The longest method that is taken for one; the registry's longest has 17 bytes.
const MAX_METHOD: usize = 24;

/// Methods of the IANA registry, and of UPnP and of caches. No request is believed or refused by them; but behind a hole, the
/// end of one of them is the rest of a word.
const METHODS: [&[u8]; 45] = [
    b"ACL",
    b"BAN",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LABEL",
    b"LINK",
    b"LOCK",
    b"M-SEARCH",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"MOVE",
    b"NOTIFY",
    b"OPTIONS",
    b"ORDERPATCH",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
    b"UPDATE",
    b"UPDATEREDIRECTREF",
    b"VERSION-CONTROL",
];

/// The longest target in authority form (RFC 9112, 3.2.3): a name of the DNS, and a port.
const MAX_AUTHORITY: usize = 253 + ":65535".len();

/// Fields of a head that are read without asking for memory.
const FIELDS: usize = 64;

/// A declared length beyond this is no promise to rely on: no body of 1 PiB was ever sent, and all that follows would be
/// taken for it.
pub const MAX_LENGTH: u64 = 1 << 50;

/// Reads the head of a request at the start of `buf`. A request line without a version is an HTTP/0.9 request, if the
/// method is GET and the target a path.
pub fn request(buf: &[u8]) -> Parsed<RequestHead<'_>> {
    if !buf.first().is_none_or(|first| is_token(*first)) {
        // httparse would pass over empty lines.
        return Parsed::Wrong(Wrong::Foreign);
    }
    match read_request(buf, &ParserConfig::default()) {
        Ok(Status::Complete((head, used))) if head.method.len() <= MAX_METHOD => Parsed::Whole(head, used),
        Ok(Status::Partial) if buf.iter().take(MAX_METHOD + 1).all(|b| is_token(*b)) && buf.len() > MAX_METHOD => {
            Parsed::Wrong(Wrong::Foreign)
        }
        Ok(Status::Partial) => Parsed::Partial,
        Ok(Status::Complete(_)) => Parsed::Wrong(Wrong::Foreign),
        Err(_) => odd_request(buf),
    }
}

/// What is not a request without oddities: incomplete, wrong, HTTP/0.9, or to be mended.
fn odd_request(buf: &[u8]) -> Parsed<RequestHead<'_>> {
    let line = match odd_request_line(buf) {
        Ok(line) => line,
        Err(answer) => return answer,
    };
    let Some(end) = head_end(buf, 0) else {
        return Parsed::Partial;
    };
    let mut text = mend(&buf[..end]);
    mend_target(&mut text);
    match read_request(&text, ParserConfig::default().ignore_invalid_headers_in_requests(true)) {
        Ok(Status::Complete((head, used))) => {
            let head = RequestHead {
                host: first_line(original(head.host, &text, buf)),
                framing: head.framing,
                expects: head.expects,
                ..line
            };
            Parsed::Whole(head, used)
        }
        _ => Parsed::Wrong(Wrong::Line("field lines break the rules")),
    }
}

fn read_request<'a>(buf: &'a [u8], config: &ParserConfig) -> httparse::Result<(RequestHead<'a>, usize)> {
    let mut few = [const { MaybeUninit::uninit() }; FIELDS];
    match read_request_into(buf, config, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![MaybeUninit::uninit(); lines(buf)];
            match read_request_into(buf, config, &mut many) {
                Err(httparse::Error::TooManyHeaders) => Ok(Status::Partial),
                read => read,
            }
        }
        read => read,
    }
}

fn read_request_into<'a>(
    buf: &'a [u8],
    config: &ParserConfig,
    into: &mut [MaybeUninit<Header<'a>>],
) -> httparse::Result<(RequestHead<'a>, usize)> {
    let mut read = httparse::Request::new(&mut []);
    let Status::Complete(used) = config.parse_request_with_uninit_headers(&mut read, buf, into)? else {
        return Ok(Status::Partial);
    };
    let mut head = RequestHead {
        method: read.method.unwrap_or_default().as_bytes(),
        target: read.path.unwrap_or_default().as_bytes(),
        version: 10 + read.version.unwrap_or_default(),
        ..RequestHead::default()
    };
    for field in read.headers.iter() {
        // The length tells most fields apart.
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => head.host = field.value,
            6 if field.name.eq_ignore_ascii_case("expect") => {
                head.expects = field.value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => head.framing.field(field),
        }
    }
    Ok(Status::Complete((head, used)))
}

/// More fields than these do not fit into a head of [`MAX_HEAD`] bytes, nor into `buf`.
fn lines(buf: &[u8]) -> usize {
    let head = &buf[..buf.len().min(MAX_HEAD)];
    head.iter().filter(|b| **b == b'\n').count()
}

/// The head that httparse refused, of the same length, as httparse reads it:
/// - *obs-fold* becomes spaces (RFC 9112, 5.2 asks for that; httparse does it for responses only);
/// - *space before the colon* moves behind it (RFC 9112, 5.1 asks that of proxies, for responses; httparse does it for
///   responses only);
/// - *control characters* become question marks, which no field of interest has; a CR becomes a space, because some
///   servers end lines with CR CR LF;
/// - *a later minor version* becomes 1.1 (RFC 9110, 2.5);
/// - *a target that is not UTF-8* becomes ASCII.
///
/// Lines that are still no field lines are then passed over.
fn mend(head: &[u8]) -> Vec<u8> {
    let mut text = head.to_vec();
    for at in 0..text.len() {
        let next = text.get(at + 1).copied();
        let after = text.get(at + 2).copied();
        match text[at] {
            b'\r' if next == Some(b'\n') => {
                if matches!(after, Some(b' ' | b'\t')) {
                    text[at..at + 2].fill(b' ');
                }
            }
            b'\r' => text[at] = b' ',
            b'\n' if matches!(next, Some(b' ' | b'\t')) => text[at] = b' ',
            b'\n' | b'\t' => {}
            control @ (..b' ' | 0x7f) => {
                debug_assert!(control.is_ascii_control());
                text[at] = b'?';
            }
            _ => {}
        }
    }
    let start = memchr(b'\n', &text).map_or(text.len(), |newline| newline + 1);
    let (line, mut fields) = text.split_at_mut(start);
    line.iter_mut().filter(|b| !b.is_ascii()).for_each(|b| *b = b'?');
    if let Some(version) = line.windows(7).rposition(|part| part == b"HTTP/1.")
        && let Some(minor) = line.get_mut(version + 7).filter(|minor| minor.is_ascii_digit())
    {
        *minor = b'1';
    }
    while let Some(newline) = memchr(b'\n', fields) {
        let (field, rest) = fields.split_at_mut(newline + 1);
        let name = field.iter().take_while(|b| is_token(**b)).count();
        let spaces = field[name..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if field[name + spaces] == b':' {
            field.swap(name, name + spaces);
        }
        fields = rest;
    }
    text
}

/// In a request line, white space behind the version goes before it, and what has no place in a target becomes question
/// marks: servers answer such requests as any other.
fn mend_target(text: &mut [u8]) {
    let line = memchr(b'\n', text).unwrap_or(text.len());
    let len = text[..line].trim_ascii_end().len();
    let end = text[..line].strip_suffix(b"\r").map_or(line, <[u8]>::len);
    let (Some(version), Some(target)) = (len.checked_sub(VERSION), memchr(b' ', text)) else {
        return;
    };
    text[version..end].rotate_right(end - len);
    if let Some(target) = text.get_mut(target + 1..end - VERSION) {
        target.iter_mut().filter(|b| **b <= b' ').for_each(|b| *b = b'?');
    }
}

/// Where `part` of `mended` was in `head`.
fn original<'a>(part: &[u8], mended: &[u8], head: &'a [u8]) -> &'a [u8] {
    let from = part.as_ptr().addr().wrapping_sub(mended.as_ptr().addr());
    head.get(from..from.wrapping_add(part.len())).unwrap_or_default()
}

/// `value` without its continuation lines.
fn first_line(value: &[u8]) -> &[u8] {
    value[..memchr(b'\n', value).unwrap_or(value.len())].trim_ascii_end()
}

/// How many bytes from the start are neither white space nor control characters.
fn visible(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| **b > b' ' && **b != 0x7f).count()
}

/// Length of a space and the version behind a target.
const VERSION: usize = b" HTTP/1.1".len();

/// What a request line says that is one, and what breaks the rules in it; else the answer: incomplete, wrong, or HTTP/0.9.
fn odd_request_line(buf: &[u8]) -> Result<RequestHead<'_>, Parsed<RequestHead<'_>>> {
    let Some(space) = buf.iter().take(MAX_METHOD + 1).position(|b| !is_token(*b)) else {
        let long = buf.len() > MAX_METHOD;
        return Err(if long {
            Parsed::Wrong(Wrong::Foreign)
        } else {
            Parsed::Partial
        });
    };
    if buf[space] != b' ' || space == 0 {
        return Err(Parsed::Wrong(Wrong::Foreign));
    }
    let Some(newline) = memchr(b'\n', buf) else {
        return Err(Parsed::Partial);
    };
    let rest = &buf[space + 1..newline.max(space + 1)];
    let head = RequestHead {
        method: &buf[..space],
        ..RequestHead::default()
    };
    let line = rest.trim_ascii_end();
    let Some(target) = without_version(line) else {
        return Err(match head.method == b"PRI" && line == b"* HTTP/2.0" {
            true => Parsed::Wrong(Wrong::Http2),
            false => simple_request(head, rest, newline + 1),
        });
    };
    let minor = line[line.len() - 1] - b'0';
    let target = target.trim_ascii();
    if target.is_empty() {
        return Err(Parsed::Wrong(Wrong::Line("empty request target")));
    }
    Ok(RequestHead {
        target,
        version: 10 + minor,
        remark: match visible(target) < target.len() {
            true => "space or control character in the request target",
            false => "",
        },
        ..head
    })
}

/// HTTP/0.9: `GET /path` and the end of the line, nothing else.
fn simple_request<'a>(mut head: RequestHead<'a>, rest: &'a [u8], used: usize) -> Parsed<RequestHead<'a>> {
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let path = rest.first() == Some(&b'/') && rest.iter().all(|b| *b > b' ' && *b != 0x7f);
    if head.method == b"GET" && path {
        head.target = rest;
        head.version = 9;
        return Parsed::Whole(head, used);
    }
    Parsed::Wrong(Wrong::Line(match memrchr(b' ', rest) {
        Some(space) if rest[space..].starts_with(b" HTTP/") => "version is not HTTP/1.x",
        _ => "request line without a version",
    }))
}

/// Reads the head of a response at the start of `buf`.
pub fn response(buf: &[u8]) -> Parsed<ResponseHead<'_>> {
    let status = match status_line(buf) {
        Parsed::Whole(head, _) => head,
        other => return other,
    };
    let mut config = ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    match read_response(buf, &config) {
        Ok(Status::Complete((head, used))) => return Parsed::Whole(head, used),
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_) => {}
    }
    let Some(end) = head_end(buf, 0) else {
        return Parsed::Partial;
    };
    let text = mend(&buf[..end]);
    match read_response(&text, config.ignore_invalid_headers_in_responses(true)) {
        Ok(Status::Complete((head, used))) => {
            let original = |part: &[u8]| first_line(original(part, &text, buf));
            let head = ResponseHead {
                version: status.version,
                status: status.status,
                content_type: original(head.content_type),
                upgrade: original(head.upgrade),
                framing: head.framing,
            };
            Parsed::Whole(head, used)
        }
        _ => Parsed::Wrong(Wrong::Foreign),
    }
}

/// The fixed part of a status line, which httparse takes in more forms than one.
fn status_line(buf: &[u8]) -> Parsed<ResponseHead<'_>> {
    const SHAPE: &[u8; 7] = b"HTTP/1.";
    let fixed = &buf[..buf.len().min(13)];
    match fixed {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ b'0'..=b'9',
            b' ',
            a @ b'1'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            b' ' | b'\r' | b'\n',
        ] => {
            let head = ResponseHead {
                version: 10 + (minor - b'0'),
                status: u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'),
                ..ResponseHead::default()
            };
            Parsed::Whole(head, fixed.len())
        }
        _ => {
            let shaped = fixed.iter().enumerate().all(|(at, byte)| match at {
                0..=6 => *byte == SHAPE[at],
                8 => *byte == b' ',
                9 => matches!(byte, b'1'..=b'9'),
                _ => byte.is_ascii_digit(),
            });
            // What is whole and did not match has a status of four digits.
            if shaped && fixed.len() < 13 {
                Parsed::Partial
            } else {
                Parsed::Wrong(Wrong::Foreign)
            }
        }
    }
}

fn read_response<'a>(buf: &'a [u8], config: &ParserConfig) -> httparse::Result<(ResponseHead<'a>, usize)> {
    let mut few = [const { MaybeUninit::uninit() }; FIELDS];
    match read_response_into(buf, config, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![MaybeUninit::uninit(); lines(buf)];
            match read_response_into(buf, config, &mut many) {
                Err(httparse::Error::TooManyHeaders) => Ok(Status::Partial),
                read => read,
            }
        }
        read => read,
    }
}

fn read_response_into<'a>(
    buf: &'a [u8],
    config: &ParserConfig,
    into: &mut [MaybeUninit<Header<'a>>],
) -> httparse::Result<(ResponseHead<'a>, usize)> {
    let mut read = httparse::Response::new(&mut []);
    let Status::Complete(used) = config.parse_response_with_uninit_headers(&mut read, buf, into)? else {
        return Ok(Status::Partial);
    };
    let mut head = ResponseHead {
        version: 10 + read.version.unwrap_or_default(),
        status: read.code.unwrap_or_default(),
        ..ResponseHead::default()
    };
    for field in read.headers.iter() {
        match field.name.len() {
            12 if field.name.eq_ignore_ascii_case("content-type") => head.content_type = first_line(field.value),
            7 if field.name.eq_ignore_ascii_case("upgrade") => head.upgrade = first_line(field.value),
            _ => head.framing.field(field),
        }
    }
    Ok(Status::Complete((head, used)))
}

impl Framing {
    fn field(&mut self, field: &Header<'_>) {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => self.add_length(field.value),
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => self.add_coding(field.value),
            _ => {}
        }
    }

    /// RFC 9110, 8.6: digits; a list of equal values counts as one.
    fn add_length(&mut self, value: &[u8]) {
        for item in value.split(|b| *b == b',') {
            let item = item.trim_ascii();
            let read = match item {
                [] => Length::Bad("empty Content-Length"),
                [b'-', ..] => Length::Bad("negative Content-Length"),
                _ if !item.iter().all(u8::is_ascii_digit) => Length::Bad("Content-Length is not a number"),
                _ => item
                    .iter()
                    .try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
                    .filter(|length| *length <= MAX_LENGTH)
                    .map_or(Length::Bad("Content-Length beyond 1 PiB"), Length::Known),
            };
            self.length = match (self.length, read) {
                (Length::Absent, read) => read,
                (Length::Known(a), Length::Known(b)) if a == b => read,
                (Length::Known(_), Length::Known(_)) => Length::Bad("conflicting Content-Length"),
                (Length::Bad(why), _) | (_, Length::Bad(why)) => Length::Bad(why),
                (known, Length::Absent) => known,
            };
        }
    }

    /// RFC 9112, 6.1: the last coding decides. An empty list names none, nor does `identity` (RFC 2616).
    fn add_coding(&mut self, value: &[u8]) {
        let names = value.rsplit(|b| *b == b',').map(|coding| {
            let name = coding.split(|b| *b == b';').next().unwrap_or_default();
            name.trim_ascii()
        });
        let mut codings = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
        if let Some(last) = codings.next() {
            self.coding = match last.eq_ignore_ascii_case(b"chunked") {
                true => Coding::Chunked,
                false => Coding::Other,
            };
        }
    }
}

/// The value of a whole line of a head that is cut, if its name is `name`. httparse gives nothing of such a head.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let colon = memchr(b':', line)?;
    let same = line[..colon].trim_ascii_end().eq_ignore_ascii_case(name);
    same.then(|| line[colon + 1..].trim_ascii())
}

/// What can still be said of a request whose head is cut: method and target, as far as they are there.
pub fn request_prefix(buf: &[u8]) -> RequestHead<'_> {
    let line = &buf[..memchr(b'\n', buf).unwrap_or(buf.len())];
    let mut head = RequestHead::default();
    let Some(space) = memchr(b' ', line) else { return head };
    if space == 0 || space > MAX_METHOD || !line[..space].iter().all(|b| is_token(*b)) {
        return head;
    }
    head.method = &line[..space];
    let rest = line[space + 1..].trim_ascii_end();
    match memrchr(b' ', rest) {
        Some(at) => {
            head.target = &rest[..at];
            if let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] = &rest[at + 1..] {
                head.version = 10 + (minor - b'0');
            }
        }
        None => head.target = rest,
    }
    // Whole lines only: half a host is a wrong host.
    let mut at = line.len() + 1;
    while let Some(end) = buf.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        if let Some(value) = field(&buf[at..at + end], b"host") {
            head.host = value;
        }
        at += end + 1;
    }
    head
}

/// Whether the head of a request is cut within its target, or before that: neither a space nor the end of the line follows.
pub fn is_target_cut(buf: &[u8]) -> bool {
    memchr(b'\n', buf).is_none() && memchr_iter(b' ', buf).count() < 2
}

/// What can still be said of a response whose head is cut; status 0 when not even that.
pub fn response_prefix(buf: &[u8]) -> ResponseHead<'_> {
    let Parsed::Whole(mut head, mut at) = status_line(buf) else {
        return ResponseHead::default();
    };
    while let Some(end) = memchr(b'\n', &buf[at..]) {
        if let Some(value) = field(&buf[at..at + end], b"content-type") {
            head.content_type = value;
        }
        at += end + 1;
    }
    head
}

/// How far bytes have the shape of a request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// All of one.
    Whole,
    /// A method, a space, and the beginning of what can only be a target.
    Begun,
    /// They may be one with more bytes.
    Perhaps,
    No,
}

/// Whether `buf` begins with a request line (RFC 9112, 3): a token, a space, a target, a space, HTTP/1.x, CRLF. Where the
/// start of a message is a guess (after a hole, joined in the middle), this shape is what is believed, whatever the
/// method: any program may have its own.
pub fn request_line(buf: &[u8]) -> Line {
    let method = buf.iter().take(MAX_METHOD + 1).take_while(|b| is_token(**b)).count();
    let rest = match buf.get(method..) {
        _ if method > MAX_METHOD => return Line::No,
        None | Some([]) => return Line::Perhaps,
        Some([b' ', rest @ ..]) if method > 0 => rest,
        Some(_) => return Line::No,
    };
    if let Some(newline) = memchr(b'\n', rest) {
        let target = rest[..newline].strip_suffix(b"\r").and_then(without_version);
        return match target.is_some_and(is_target) {
            true => Line::Whole,
            false => Line::No,
        };
    }
    // Only a target that begins like this is read although it has spaces in it.
    if rest.first() == Some(&b'/') || authority(rest).is_some() {
        return Line::Begun;
    }
    let (target, after) = rest.split_at(visible(rest));
    let may_go_on = match target {
        [] => after.is_empty(),
        [b'*'] => true,
        [b'[' | b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9', ..] => target.len() <= MAX_AUTHORITY,
        _ => false,
    };
    match after {
        [] if may_go_on => Line::Perhaps,
        [] => Line::No,
        _ if !is_target(target) => Line::No,
        _ => match b" HTTP/1.".starts_with(&after[..after.len().min(8)]) {
            true => Line::Begun,
            false => Line::No,
        },
    }
}

/// Whether `buf` begins with a method that is registered, or widely used.
pub fn begins_with_known_method(buf: &[u8]) -> bool {
    METHODS.contains(&first_word(buf))
}

fn first_word(buf: &[u8]) -> &[u8] {
    &buf[..buf.iter().take_while(|b| is_token(**b)).count()]
}

/// Whether `buf` begins with the end of a method that is known, and with none that is.
pub fn is_rest_of_method(buf: &[u8]) -> bool {
    let word = first_word(buf);
    METHODS.iter().any(|method| method.ends_with(word)) && !METHODS.contains(&word)
}

/// What stands before ` HTTP/1.x` at the end of a line.
fn without_version(line: &[u8]) -> Option<&[u8]> {
    let (target, version) = line.split_at_checked(line.len().checked_sub(VERSION)?)?;
    matches!(version, [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9']).then_some(target)
}

/// Whether this has one of the four forms of a target (RFC 9112, 3.2).
fn is_target(text: &[u8]) -> bool {
    let has_port = || {
        let colon = memrchr(b':', text).filter(|colon| *colon > 0 && visible(text) == text.len());
        colon.is_some_and(|colon| colon + 1 < text.len() && text[colon + 1..].iter().all(u8::is_ascii_digit))
    };
    text.first() == Some(&b'/') || text == b"*" || authority(text).is_some() || has_port()
}

/// Whether the line at the start of `buf` ends with a version of HTTP, whichever.
pub fn names_version(buf: &[u8]) -> bool {
    let line = buf[..memchr(b'\n', buf).unwrap_or(buf.len())].trim_ascii_end();
    memrchr(b' ', line).is_some_and(|space| {
        let version = line[space + 1..].strip_prefix(b"HTTP/");
        version.is_some_and(|version| version.first().is_some_and(u8::is_ascii_digit))
    })
}

/// Whether `buf` begins with a method that is known, in a line that names a version of HTTP, and breaks the rules: where the
/// start of a message is a guess, nothing less is taken for a malformed request.
pub fn is_malformed(buf: &[u8]) -> bool {
    begins_with_known_method(buf) && names_version(buf) && matches!(request(buf), Parsed::Wrong(Wrong::Line(_)))
}

/// Whether `buf` may be the start of a response.
pub fn may_begin_response(buf: &[u8]) -> bool {
    buf.starts_with(b"HTTP/1.") || (buf.len() < 7 && b"HTTP/1.".starts_with(buf))
}

/// Whether each field line of a head is one: a token, a colon. Asked only where the start is a guess, of whole lines.
pub fn is_believable(head: &[u8]) -> bool {
    head.split(|b| *b == b'\n')
        .skip(1)
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && !matches!(line[0], b' ' | b'\t'))
        .all(|line| memchr(b':', line).is_some_and(|colon| colon > 0 && line[..colon].iter().all(|b| is_token(*b))))
}

/// Where a head ends whose bytes before `from` were searched before.
pub fn head_end(buf: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(2);
    while let Some(newline) = buf.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        at += newline + 1;
        match buf.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut at = 0;
        while at < 256 {
            let byte = at as u8;
            table[at] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            at += 1;
        }
        table
    };
    TOKEN[byte as usize]
}
