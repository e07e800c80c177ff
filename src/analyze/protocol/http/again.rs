//! The last head of one direction. On a connection that is kept, heads come again to the byte (the same client, the
//! same kind of answer within the same second), and comparing two heads costs a twentieth of reading one.

use std::ops::Range;

use super::parse::{self, Parsed, RequestHead, ResponseHead};

/// Longer heads are read each time.
const MAX_KEPT: usize = 1024;

/// A request head as it was read last.
#[derive(Debug, Default)]
pub(super) struct LastRequest {
    text: Vec<u8>,
    /// Without its parts.
    head: RequestHead<'static>,
    parts: [Range<usize>; 3],
}

impl LastRequest {
    /// As [`parse::request`].
    pub(super) fn read<'a>(&mut self, buf: &'a [u8]) -> Parsed<RequestHead<'a>> {
        if let Some(text) = repeated(&self.text, buf) {
            let [method, target, host] = self.parts.each_ref().map(|part| &text[part.clone()]);
            let head = RequestHead {
                method,
                target,
                host,
                ..self.head
            };
            return Parsed::Whole(head, text.len());
        }
        let parsed = parse::request(buf);
        if let Parsed::Whole(head, used) = &parsed
            && keep(&mut self.text, buf, *used)
        {
            self.parts = [head.method, head.target, head.host].map(|part| place(part, buf));
            self.head = RequestHead {
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
    parts: [Range<usize>; 2],
}

impl LastResponse {
    /// As [`parse::response`].
    pub(super) fn read<'a>(&mut self, buf: &'a [u8]) -> Parsed<ResponseHead<'a>> {
        if let Some(text) = repeated(&self.text, buf) {
            let [content_type, upgrade] = self.parts.each_ref().map(|part| &text[part.clone()]);
            let head = ResponseHead {
                content_type,
                upgrade,
                ..self.head
            };
            return Parsed::Whole(head, text.len());
        }
        let parsed = parse::response(buf);
        if let Parsed::Whole(head, used) = &parsed
            && keep(&mut self.text, buf, *used)
        {
            self.parts = [head.content_type, head.upgrade].map(|part| place(part, buf));
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
fn place(part: &[u8], buf: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr().addr() - buf.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: [&[u8]; 7] = [
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
        let (mut requests, mut responses) = (LastRequest::default(), LastResponse::default());
        for before in REQUESTS {
            for buf in REQUESTS {
                requests.read(before);
                assert_eq!(requests.read(buf), parse::request(buf));
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
            let whole = REQUESTS[which];
            let mut buf = whole[..cut.min(whole.len())].to_vec();
            buf.extend_from_slice(&extra);
            let mut last = LastRequest::default();
            for bytes in [whole, &buf, whole, &buf] {
                proptest::prop_assert_eq!(last.read(bytes), parse::request(bytes));
            }
        }
    }
}
