//! Heads that come again to the byte: each client asks for the same few things in the same words, and a server that
//! keeps a connection answers with the same head within the same second. Comparing two heads costs a twentieth of reading
//! one.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;
use memchr::memmem;

use super::parse::{self, Parsed, RequestHead, ResponseHead};

/// Longer heads are read each time.
const MAX_KEPT: usize = 1024;
/// Request heads kept for each thread, each in the place that the hash of its beginning says.
const REQUESTS: usize = 1024;
/// Bytes of that beginning: method and target tell most requests apart.
const HASHED: usize = 64;

thread_local! {
    static KNOWN: RefCell<KnownRequests> = const { RefCell::new(KnownRequests(Vec::new())) };
}

/// As [`parse::request`], from what this thread has read before, if it was there.
pub(super) fn request(buf: &[u8]) -> Parsed<RequestHead<'_>> {
    KNOWN.with_borrow_mut(|known| known.read(buf))
}

/// Request heads by their hashes; empty until the first is read.
struct KnownRequests(Vec<KnownRequest>);

/// A request head as it was read once.
#[derive(Debug, Default, Clone)]
struct KnownRequest {
    text: Vec<u8>,
    /// Without its parts.
    head: RequestHead<'static>,
    method: Range<usize>,
    target: Range<usize>,
    host: Range<usize>,
}

impl KnownRequests {
    fn read<'a>(&mut self, buf: &'a [u8]) -> Parsed<RequestHead<'a>> {
        let end = match buf.ends_with(b"\r\n\r\n") {
            true => Some(buf.len()),
            false => memmem::find(&buf[..buf.len().min(MAX_KEPT)], b"\r\n\r\n").map(|at| at + 4),
        };
        let Some(text) = end.filter(|end| *end <= MAX_KEPT).map(|end| &buf[..end]) else {
            return parse::request(buf);
        };
        if self.0.is_empty() {
            self.0.resize(REQUESTS, KnownRequest::default());
        }
        let place = FixedState::with_seed(0).hash_one(&text[..text.len().min(HASHED)]) as usize % REQUESTS;
        let known = &mut self.0[place];
        if known.text == text {
            let head = RequestHead {
                method: &text[known.method.clone()],
                target: &text[known.target.clone()],
                host: &text[known.host.clone()],
                ..known.head
            };
            return Parsed::Whole(head, text.len());
        }
        let parsed = parse::request(buf);
        if let Parsed::Whole(head, used) = &parsed
            && *used == text.len()
        {
            known.text.clear();
            known.text.extend_from_slice(text);
            known.method = place_of(head.method, buf);
            known.target = place_of(head.target, buf);
            known.host = place_of(head.host, buf);
            known.head = RequestHead {
                method: &[],
                target: &[],
                host: &[],
                ..*head
            };
        }
        parsed
    }
}

/// A response head as it was read last.
#[derive(Debug, Default)]
pub(super) struct LastResponse {
    text: Vec<u8>,
    /// Without its parts.
    head: ResponseHead<'static>,
    content_type: Range<usize>,
    upgrade: Range<usize>,
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
        if let Parsed::Whole(head, used) = &parsed
            && keep(&mut self.text, buf, *used)
        {
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

    #[test]
    fn what_was_read_before_changes_nothing() {
        let mut responses = LastResponse::default();
        for before in TRIED {
            for buf in TRIED {
                request(before);
                assert_eq!(request(buf), parse::request(buf));
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
                proptest::prop_assert_eq!(request(bytes), parse::request(bytes));
            }
        }
    }
}
