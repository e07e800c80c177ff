//! HTTP/1.x (RFC 9110, RFC 9112): message types, parser, body lengths, stitcher, detection, columns, fast path.

mod again;
pub mod body;
mod client;
mod columns;
mod detect;
mod fast_path;
mod held;
pub mod message;
pub mod parse;
mod server;
pub mod stitch;
#[cfg(test)]
mod tests;

pub use message::HttpMessage;
pub use stitch::HttpStitcher;

use super::conversation::{Conversation, Stitched};
use super::{Detected, Protocol, Sent};
use crate::analyze::exchange;

type Exchange = exchange::Exchange<HttpMessage>;
type Queue = exchange::Queue<HttpMessage>;

/// HTTP/1.x.
#[derive(Debug)]
pub struct Http;

impl Protocol for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn of_client(&self, sent: Sent<'_>, joined: bool) -> Detected {
        detect::of_client(sent.bytes, joined)
    }

    fn of_server(&self, sent: Sent<'_>, _joined: bool) -> Detected {
        detect::of_server(sent.bytes)
    }

    fn conversation(&self, joined: bool) -> Box<dyn Conversation> {
        Box::new(Stitched::<HttpStitcher>::new(&Http, joined))
    }
}
