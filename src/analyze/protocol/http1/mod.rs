//! HTTP/1.x (RFC 9110, RFC 9112): message types, parser, body lengths, pairing, detection, columns, fast path.

pub mod body;
mod client;
mod columns;
mod detect;
mod fast_path;
mod head_cache;
mod held;
pub mod message;
pub mod pair;
pub mod parse;
mod path;
mod server;
pub mod summary;
#[cfg(test)]
mod tests;

pub use message::HttpMessage;
pub use pair::HttpPairing;

use super::{Detected, Protocol, Sent};
use crate::analyze::exchange;

type Exchange = exchange::Exchange<HttpMessage>;
type Queue = exchange::Queue<HttpMessage>;

/// HTTP/1.x.
#[derive(Debug)]
pub struct Http;

impl Protocol for Http {
    type Message = HttpMessage;
    type Pairing = HttpPairing;
    type Summary = summary::ByEndpoint;

    const NAME: &'static str = "http";
    const ABOUT: &'static str = "One row for each HTTP/1.x exchange: a request with its response.";
    const SLOWEST: (&'static str, &'static str) = ("Slowest HTTP exchanges", "request");

    fn of_client(sent: Sent<'_>, joined: bool) -> Detected {
        detect::of_client(sent.bytes, joined)
    }

    fn of_server(sent: Sent<'_>, _joined: bool) -> Detected {
        detect::of_server(sent.bytes)
    }
}
