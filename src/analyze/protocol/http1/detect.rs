//! Whether a connection speaks HTTP/1.x.

use super::parse::{self, Line, Parsed, Wrong};
use crate::analyze::protocol::Detected;

/// The beginning of a request line that is so long needs no end to be believed.
const MAX_TARGET: usize = 1024;

/// Whether a client's bytes are a request.
pub(super) fn of_client(bytes: &[u8], joined: bool) -> Detected {
    // RFC 9112, 2.2: empty lines before the request line.
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let text = &bytes[blank..];
    let yes_if = |is_http| if is_http { Detected::Yes } else { Detected::No };
    let line = parse::request_line(text);
    match parse::request(text) {
        // In the middle of a connection a line is believed by its shape, as the pairing does.
        Parsed::Whole(_, used) if joined => {
            let is_whole = line == Line::Whole && !parse::is_rest_of_method(text);
            yes_if(is_whole && parse::is_believable(&text[..used]))
        }
        Parsed::Whole(..) => Detected::Yes,
        Parsed::Wrong(Wrong::Http2) => Detected::Named("HTTP/2"),
        // A line that breaks the rules: HTTP all the same, and reported as malformed.
        Parsed::Wrong(Wrong::Line(_)) if joined => yes_if(parse::is_malformed(text)),
        Parsed::Wrong(Wrong::Line(_)) => yes_if(parse::names_version(text)),
        Parsed::Wrong(Wrong::Foreign) => Detected::No,
        Parsed::Partial => match line {
            Line::Whole => Detected::Yes,
            // The target is longer than what is there.
            Line::Begun if text.len() >= MAX_TARGET => Detected::Yes,
            Line::Begun | Line::Perhaps => Detected::More,
            Line::No => yes_if(!joined && memchr::memchr(b'\n', text).is_some()),
        },
    }
}

/// Whether a server's bytes are a response.
pub(super) fn of_server(bytes: &[u8]) -> Detected {
    match parse::response(bytes) {
        Parsed::Whole(..) => Detected::Yes,
        // A status line is enough; the rest of the head may be cut by the snaplen.
        Parsed::Partial if bytes.len() >= 13 => Detected::Yes,
        Parsed::Partial => Detected::More,
        Parsed::Wrong(_) => Detected::No,
    }
}
