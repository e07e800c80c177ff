//! HTTP/1.x (RFC 9110, RFC 9112): message types, parser, body lengths, stitcher.

mod again;
pub mod body;
mod client;
mod held;
pub mod message;
pub mod parse;
mod server;
pub mod stitch;
mod straight;
#[cfg(test)]
mod tests;

pub use message::HttpMessage;
pub use stitch::HttpStitcher;

use super::Protocol;
use super::conversation::{Conversation, Stitched};
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

    fn conversation(&self, joined: bool) -> Box<dyn Conversation> {
        Box::new(Stitched::<HttpStitcher>::new(&Http, joined))
    }
}
