//! Heads that come again to the byte: each client asks for the same few things in the same words, and a server that
//! keeps a connection answers with the same head within the same second. Comparing two heads costs a twentieth of reading
//! one.

use std::cell::RefCell;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memchr::memmem;

use super::body::{self, Body};
use super::message::{HttpMessage, Known};
use super::parse::{self, Framing, Parsed, RequestHead, ResponseHead};
use crate::analyze::ids::IdHasher;
use crate::analyze::protocol::set_text;

/// Longer heads are read each time.
const MAX_KEPT: usize = 1024;
/// Request heads kept for each thread, each in the place that the hash of its beginning says.
const REQUESTS: usize = 1024;
/// Numbers that one thread can give, as a power of two.
const NUMBER_BITS: u32 = 40;
/// Bytes of that beginning: method and target tell most requests apart.
const HASHED: usize = 64;

thread_local! {
    static KNOWN: RefCell<KnownRequests> = const { RefCell::new(KnownRequests::NONE) };
}

/// As [`parse::request`], with a number for what is asked if this thread has read this head before.
pub(super) fn request(buf: &[u8]) -> (Parsed<RequestHead<'_>>, Known) {
    KNOWN.with_borrow_mut(|known| known.read(buf))
}

/// Has a message take what a request asks, if these bytes are a head that was read several times before, and no body follows it.
/// False says nothing.
pub(super) fn ask_again(bytes: &[u8], message: &mut HttpMessage) -> bool {
    let Some(b"\r\n\r\n") = bytes.last_chunk() else {
        return false;
    };
    KNOWN.with_borrow(|known| {
        let (place, tag) = place_and_tag(bytes);
        let known = known.requests.get(place).filter(|known| known.tag == tag);
        let same = known.filter(|known| known.is_all && known.number.0 != 0 && known.text == bytes);
        same.is_some_and(|known| {
            let (method, rest) = known.words.split_at(known.method_len.into());
            let (target, host) = rest.split_at(known.target_len.into());
            message.ask_again([method, target, host], known.version, known.number);
            true
        })
    })
}

struct KnownRequests {
    /// By their hashes; empty until the first is read.
    requests: Vec<KnownRequest>,
    /// The last number that was given; 0 before the first.
    numbered: u64,
}

/// A request head as it was read once.
#[derive(Debug, Default, Clone)]
struct KnownRequest {
    /// Of the head that came last. Its text is kept from the second time on: many come once.
    tag: u32,
    text: Vec<u8>,
    /// Given when it came again.
    number: Known,
    /// From then on: method, target and whom it asks, one after the other and as texts, and how long the first two are.
    words: String,
    method_len: u16,
    target_len: u16,
    /// Where its parts are.
    method: Part,
    target: Part,
    host: Part,
    version: u8,
    expects: bool,
    /// No body follows.
    is_all: bool,
    framing: Framing,
}

/// A range of a head that is kept.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    start: u16,
    end: u16,
}

impl Part {
    fn of(part: &[u8], buf: &[u8]) -> Part {
        let place = place_of(part, buf);
        Part {
            start: place.start as u16,
            end: place.end as u16,
        }
    }

    fn within(self, buf: &[u8]) -> &[u8] {
        buf.get(usize::from(self.start)..usize::from(self.end))
            .unwrap_or_default()
    }
}

impl KnownRequest {
    fn came_again(&mut self, number: Known) {
        self.number = number;
        let head = self.head(&self.text);
        let [method, target, host] = [head.method, head.target, head.authority()].map(String::from_utf8_lossy);
        let words = [&*method, &target, &host].concat();
        (self.method_len, self.target_len) = (method.len() as u16, target.len() as u16);
        // What is not UTF-8 becomes longer. Without a number it is read each time.
        if words.len() > MAX_KEPT {
            self.number = Known(0);
        }
        self.words = words;
    }

    /// The head at the start of these bytes, which is the same.
    fn head<'a>(&self, buf: &'a [u8]) -> RequestHead<'a> {
        RequestHead {
            method: self.method.within(buf),
            target: self.target.within(buf),
            version: self.version,
            host: self.host.within(buf),
            framing: self.framing,
            expects: self.expects,
            remark: "",
        }
    }
}

impl KnownRequests {
    const NONE: KnownRequests = KnownRequests {
        requests: Vec::new(),
        numbered: 0,
    };

    /// A number that no thread has given.
    fn number(&mut self) -> Known {
        static THREADS: AtomicU64 = AtomicU64::new(0);
        if self.numbered == 0 {
            self.numbered = THREADS.fetch_add(1, Relaxed) << NUMBER_BITS;
        }
        self.numbered += 1;
        Known(self.numbered)
    }

    fn read<'a>(&mut self, buf: &'a [u8]) -> (Parsed<RequestHead<'a>>, Known) {
        let end = match buf.last_chunk() == Some(b"\r\n\r\n") {
            true => Some(buf.len()),
            false => memmem::find(&buf[..buf.len().min(MAX_KEPT)], b"\r\n\r\n").map(|at| at + 4),
        };
        let Some(text) = end.filter(|end| *end <= MAX_KEPT).map(|end| &buf[..end]) else {
            return (parse::request(buf), Known(0));
        };
        if self.requests.is_empty() {
            self.requests.resize(REQUESTS, KnownRequest::default());
        }
        let (place, tag) = place_and_tag(text);
        if self.requests[place].tag != tag {
            self.requests[place].tag = tag;
            return (parse::request(buf), Known(0));
        }
        if self.requests[place].text == text {
            if self.requests[place].number.0 == 0 {
                let number = self.number();
                self.requests[place].came_again(number);
            }
            let known = &self.requests[place];
            return (Parsed::Whole(known.head(buf), text.len()), known.number);
        }
        let known = &mut self.requests[place];
        let parsed = parse::request(buf);
        if let Parsed::Whole(head, used) = &parsed
            && *used == text.len()
            && head.remark.is_empty()
        {
            known.text.clear();
            known.text.extend_from_slice(text);
            known.number = Known(0);
            known.method = Part::of(head.method, buf);
            known.target = Part::of(head.target, buf);
            known.host = Part::of(head.host, buf);
            known.version = head.version;
            known.expects = head.expects;
            known.is_all = head.version != 9 && body::of_request(&head.framing) == Body::None;
            known.framing = head.framing;
        }
        (parsed, Known(0))
    }
}

/// Where a request head is kept, and by what it is told from most others that would be kept there; never 0.
fn place_and_tag(text: &[u8]) -> (usize, u32) {
    let mut hasher = IdHasher::default();
    hasher.write(&text[..text.len().min(HASHED)]);
    let hash = hasher.finish();
    ((hash >> 32) as usize % REQUESTS, hash as u32 | 1)
}

/// The response head that was read last.
#[derive(Debug, Default)]
pub(super) struct LastResponse {
    text: Vec<u8>,
    /// Without its parts.
    head: ResponseHead<'static>,
    content_type: Range<usize>,
    upgrade: Range<usize>,
    /// The content type of what was read last, ready for a message.
    pub(super) content_type_text: String,
}

impl LastResponse {
    /// As [`parse::response`].
    pub(super) fn read<'a>(&mut self, buf: &'a [u8]) -> Parsed<ResponseHead<'a>> {
        if let Some(text) = repeated(&self.text, buf) {
            let head = ResponseHead {
                content_type: &text[self.content_type.clone()],
                upgrade: &text[self.upgrade.clone()],
                ..self.head
            };
            return Parsed::Whole(head, text.len());
        }
        let parsed = parse::response(buf);
        let Parsed::Whole(head, used) = &parsed else {
            return parsed;
        };
        set_text(&mut self.content_type_text, head.content_type);
        if keep(&mut self.text, buf, *used) {
            self.content_type = place_of(head.content_type, buf);
            self.upgrade = place_of(head.upgrade, buf);
            self.head = ResponseHead {
                content_type: &[],
                upgrade: &[],
                ..*head
            };
        }
        parsed
    }
}

/// The head at the start of `buf`, if it is the kept one: what follows a whole head does not change how it is read.
fn repeated<'a>(text: &[u8], buf: &'a [u8]) -> Option<&'a [u8]> {
    let same = buf.get(..text.len()).filter(|same| !text.is_empty() && *same == text)?;
    Some(same)
}

/// Keeps the head at the start of `buf`, unless it is long. Without a blank line at its end (HTTP/0.9) a head is not
/// told from the beginning of a longer one.
fn keep(text: &mut Vec<u8>, buf: &[u8], used: usize) -> bool {
    text.clear();
    let head = &buf[..used];
    if used > MAX_KEPT || !(head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")) {
        return false;
    }
    text.extend_from_slice(head);
    true
}

/// Where `part` lies in `buf`; an empty part lies nowhere in particular.
fn place_of(part: &[u8], buf: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr().addr() - buf.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: [&[u8]; 7] = [
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n",
        b"POST /c HTTP/1.0\nContent-Length: 3\n\nabc",
        b"GET /nine\r\n",
        b"GET /nine\r\nHost: h\r\n\r\n",
    ];
    const RESPONSES: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nyes",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81",
        b"HTTP/1.1 204\n\n",
    ];

    /// Reads a request with what was read before, and checks that it says what it says without.
    fn check(buf: &[u8]) {
        let alone = parse::request(buf);
        let (mut message, mut expected) = (HttpMessage::default(), HttpMessage::default());
        if ask_again(buf, &mut message) {
            let Parsed::Whole(head, used) = &alone else {
                panic!("{alone:?}");
            };
            expected.ask(head, Known(0));
            assert_eq!((message, *used), (expected, buf.len()));
            assert_eq!(body::of_request(&head.framing), Body::None);
        }
        assert_eq!(request(buf).0, alone);
    }

    #[test]
    fn what_was_read_before_changes_nothing() {
        let mut responses = LastResponse::default();
        for before in TRIED {
            for buf in TRIED {
                check(before);
                check(buf);
            }
        }
        for before in RESPONSES {
            for buf in RESPONSES {
                responses.read(before);
                assert_eq!(responses.read(buf), parse::response(buf));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_head_is_read_as_without_the_one_before(cut in 0usize..60, extra: Vec<u8>, which in 0usize..7) {
            let whole = TRIED[which];
            let mut buf = whole[..cut.min(whole.len())].to_vec();
            buf.extend_from_slice(&extra);
            for bytes in [whole, &buf, whole, &buf] {
                check(bytes);
            }
        }
    }
}
