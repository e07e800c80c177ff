//! Heads of HTTP/1.x messages: pure functions over byte slices, one of three answers.
//!
//! Only what the tables and the length rules need is looked at: the start line strictly, then of each field line its
//! first byte, and its name where that byte is one of ours. httparse reads the same heads in about twice the time
//! (it must look at every byte of every name and value); the tests hold the two against each other.
//!
//! Leniencies, each with its test:
//! - *bare LF* ends a line (RFC 9112, 2.2 allows it).
//! - *obs-fold*: a line that begins with a space continues the one before (RFC 9112, 5.2).
//! - *space before the colon* is dropped (RFC 9112, 5.1 asks that of proxies, for responses).
//! - *field lines that are none* are passed over, unless the start is a guess ([`is_believable`]).

use memchr::{memchr, memrchr};

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

/// The longest method that is taken for one; the registry's longest has 17 bytes.
const MAX_METHOD: usize = 24;

/// Methods of the IANA registry that are in use, and two of caches. Where the start of a message is a guess (after a
/// hole, joined in the middle), only these are believed.
const METHODS: [&[u8]; 28] = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"MERGE",
    b"CHECKOUT",
    b"MKACTIVITY",
    b"ACL",
    b"BIND",
    b"LINK",
    b"UNLINK",
    b"PURGE",
    b"BAN",
    b"QUERY",
];

/// Reads the head of a request at the start of `buf`. A request line without a version is an HTTP/0.9 request, if the
/// method is GET and the target a path.
pub fn request(buf: &[u8]) -> Parsed<RequestHead<'_>> {
    let (mut head, newline) = match request_line(buf) {
        Some(line) => line,
        None => match odd_request_line(buf) {
            Ok(line) => line,
            Err(answer) => return answer,
        },
    };
    let used = fields(buf, newline + 1, const { letters(b"hect") }, |line, fold| {
        match line[0] | 0x20 {
            b'h' => {
                if let Some(value) = field(line, b"host") {
                    head.host = value;
                }
            }
            b'e' => {
                if let Some(value) = field(line, b"expect") {
                    head.expects = value.eq_ignore_ascii_case(b"100-continue");
                }
            }
            _ => head.framing.field(line, fold),
        }
    });
    match used {
        Some(used) => Parsed::Whole(head, used),
        None => Parsed::Partial,
    }
}

/// A request line without any oddity, and where its LF is.
fn request_line(buf: &[u8]) -> Option<(RequestHead<'_>, usize)> {
    let space = buf.iter().take(MAX_METHOD + 1).position(|b| !is_token(*b))?;
    let rest = &buf[space..];
    let len = visible(rest.get(1..)?);
    let version = rest.get(1 + len..)?;
    let (minor, line_end) = match version {
        [
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ b'0'..=b'9',
            b'\r',
            b'\n',
            ..,
        ] => (minor, 10),
        [
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ b'0'..=b'9',
            b'\n',
            ..,
        ] => (minor, 9),
        _ => return None,
    };
    if space == 0 || rest[0] != b' ' || len == 0 {
        return None;
    }
    let head = RequestHead {
        method: &buf[..space],
        target: &rest[1..1 + len],
        version: 10 + (minor - b'0'),
        ..RequestHead::default()
    };
    Some((head, space + 1 + len + line_end))
}

/// How many bytes from the start are neither white space nor control characters.
fn visible(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let delete = word ^ (0x7f * ONES);
        // Some byte below 0x21, or 0x7f; maybe a false alarm, which the slow loop settles.
        let odd = (word.wrapping_sub(0x21 * ONES) & !word | delete.wrapping_sub(ONES) & !delete) & HIGH;
        if odd != 0 {
            break;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|b| **b > b' ' && **b != 0x7f).count()
}

/// What is not a request line without oddities: incomplete, wrong, or HTTP/0.9.
fn odd_request_line(buf: &[u8]) -> Result<(RequestHead<'_>, usize), Parsed<RequestHead<'_>>> {
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
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let mut head = RequestHead {
        method: &buf[..space],
        ..RequestHead::default()
    };
    // `rest` is the target, and a space and eight bytes of version.
    let Some((target, version)) = rest.len().checked_sub(9).map(|at| rest.split_at(at)) else {
        return Err(simple_request(head, rest, newline + 1));
    };
    match version {
        [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => head.version = 10 + (minor - b'0'),
        b" HTTP/2.0" if head.method == b"PRI" && target == b"*" => return Err(Parsed::Wrong(Wrong::Http2)),
        _ => return Err(simple_request(head, rest, newline + 1)),
    }
    if target.is_empty() {
        return Err(Parsed::Wrong(Wrong::Line("empty request target")));
    }
    if visible(target) < target.len() {
        return Err(Parsed::Wrong(Wrong::Line(
            "space or control character in the request target",
        )));
    }
    head.target = target;
    Ok((head, newline))
}

/// HTTP/0.9: `GET /path` and the end of the line, nothing else.
fn simple_request<'a>(mut head: RequestHead<'a>, rest: &'a [u8], used: usize) -> Parsed<RequestHead<'a>> {
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
    const SHAPE: &[u8; 7] = b"HTTP/1.";
    let fixed = &buf[..buf.len().min(12)];
    let mut head = ResponseHead::default();
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
        ] => {
            head.version = 10 + (minor - b'0');
            head.status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        }
        _ => {
            let shaped = fixed.iter().enumerate().all(|(at, byte)| match at {
                0..=6 => *byte == SHAPE[at],
                8 => *byte == b' ',
                _ => byte.is_ascii_digit(),
            });
            // A whole shape that did not match above has a status below 100.
            return if shaped && fixed.len() < 12 {
                Parsed::Partial
            } else {
                Parsed::Wrong(Wrong::Foreign)
            };
        }
    }
    match buf.get(12) {
        Some(b' ' | b'\r' | b'\n') => {}
        Some(_) => return Parsed::Wrong(Wrong::Foreign),
        None => return Parsed::Partial,
    }
    let Some(newline) = memchr(b'\n', &buf[12..]).map(|at| at + 12) else {
        return Parsed::Partial;
    };
    let used = fields(buf, newline + 1, const { letters(b"uct") }, |line, fold| {
        match line[0] | 0x20 {
            b'u' => {
                if let Some(value) = field(line, b"upgrade") {
                    head.upgrade = value;
                }
            }
            b'c' if !fold => {
                if let Some(value) = field(line, b"content-type") {
                    head.content_type = value;
                } else {
                    head.framing.field(line, fold);
                }
            }
            _ => head.framing.field(line, fold),
        }
    });
    match used {
        Some(used) => Parsed::Whole(head, used),
        None => Parsed::Partial,
    }
}

/// Hands the field lines of interest (without their LF, never empty) to `each`, with whether the line is a
/// continuation. Of interest are those that begin with one of `letters`, and continuations. Returns where the head
/// ends, `None` when that is not there yet.
fn fields<'a>(buf: &'a [u8], start: usize, letters: u32, mut each: impl FnMut(&'a [u8], bool)) -> Option<usize> {
    // Where the line of interest that is being passed over begins.
    let mut line = None;
    let mut ended = None;
    let mut newline = |at: usize| {
        if let Some((from, fold)) = line.take() {
            each(&buf[from..at], fold);
        }
        match buf.get(at + 1) {
            Some(b'\n') => ended = Some(at + 2),
            Some(b'\r') if buf.get(at + 2) == Some(&b'\n') => ended = Some(at + 3),
            Some(b' ' | b'\t') => line = Some((at + 1, true)),
            Some(first) if letters >> (first & 0x1f) & 1 != 0 && *first >= 0x40 => line = Some((at + 1, false)),
            _ => {}
        }
        ended.is_some()
    };
    // The line end of the start line comes first. All line ends are found eight bytes at a time: field lines are too
    // short for a call of memchr each.
    let mut at = start - 1;
    let mut words = buf[at..].chunks_exact(8);
    for word in &mut words {
        let mut ends = line_ends(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        while ends != 0 {
            if newline(at + ends.trailing_zeros() as usize / 8) {
                return ended;
            }
            ends &= ends - 1;
        }
        at += 8;
    }
    for (more, byte) in words.remainder().iter().enumerate() {
        if *byte == b'\n' && newline(at + more) {
            return ended;
        }
    }
    None
}

/// The highest bit of each byte that is LF.
fn line_ends(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let zero_at_end = word ^ 0x0a0a_0a0a_0a0a_0a0a;
    !(((zero_at_end & LOW) + LOW) | zero_at_end | LOW)
}

/// A set of first letters of field names, for [`fields`].
const fn letters(letters: &[u8]) -> u32 {
    let mut set = 0;
    let mut at = 0;
    while at < letters.len() {
        set |= 1 << (letters[at] & 0x1f);
        at += 1;
    }
    set
}

/// The value of `line` if its name is `name` (lower case), without white space around it.
#[inline]
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = line.get(name.len()..)?;
    match rest {
        [b':', ..] => {}
        [b' ' | b'\t', ..] => {
            while let [b' ' | b'\t', more @ ..] = rest {
                rest = more;
            }
        }
        _ => return None,
    }
    match rest {
        [b':', value @ ..] if line[..name.len()].eq_ignore_ascii_case(name) => Some(value.trim_ascii()),
        _ => None,
    }
}

impl Framing {
    fn field(&mut self, line: &[u8], fold: bool) {
        match line[0] | 0x20 {
            b'c' => {
                if let Some(value) = field(line, b"content-length") {
                    self.add_length(value);
                }
            }
            b't' => {
                if let Some(value) = field(line, b"transfer-encoding") {
                    self.add_coding(value);
                }
            }
            // obs-fold: whose continuation it is does not matter much, a list of codings is the only one of interest.
            _ if fold && ends_with_chunked(line) && self.coding != Coding::Absent => self.coding = Coding::Chunked,
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
                    .map_or(Length::Bad("Content-Length overflows"), Length::Known),
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

    /// RFC 9112, 6.1: the last coding decides. `identity` (RFC 2616) says nothing.
    fn add_coding(&mut self, value: &[u8]) {
        let last = value
            .rsplit(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .find(|item| !item.is_empty());
        match last {
            None => self.coding = Coding::Other,
            Some(last) if last.eq_ignore_ascii_case(b"identity") => {}
            Some(_) if ends_with_chunked(value) => self.coding = Coding::Chunked,
            Some(_) => self.coding = Coding::Other,
        }
    }
}

fn ends_with_chunked(list: &[u8]) -> bool {
    let last = list
        .rsplit(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .find(|item| !item.is_empty())
        .unwrap_or_default();
    let name = last.split(|b| *b == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"chunked")
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

/// What can still be said of a response whose head is cut; status 0 when not even that.
pub fn response_prefix(buf: &[u8]) -> ResponseHead<'_> {
    // Give the parser an end: the lines that are whole, and an empty one is not needed for the status line.
    let mut head = ResponseHead::default();
    let [
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
        rest @ ..,
    ] = buf
    else {
        return head;
    };
    head.version = 10 + (minor - b'0');
    head.status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    let mut rest = rest;
    while let Some(end) = memchr(b'\n', rest) {
        if let Some(value) = field(&rest[..end], b"content-type") {
            head.content_type = value;
        }
        rest = &rest[end + 1..];
    }
    head
}

/// Whether `buf` may be the start of a request with a known method: true when it is, or could be with more bytes.
pub fn may_begin_request(buf: &[u8]) -> bool {
    METHODS.iter().any(|method| {
        let n = method.len().min(buf.len());
        buf[..n] == method[..n] && buf.get(method.len()).is_none_or(|b| *b == b' ')
    })
}

/// Whether `buf` may be the start of a response.
pub fn may_begin_response(buf: &[u8]) -> bool {
    let n = buf.len().min(7);
    buf[..n] == b"HTTP/1."[..n]
}

/// Whether each field line of a whole head is one: a token, a colon. Asked only where the start is a guess.
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
