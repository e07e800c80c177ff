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

pub use held::Item;
pub use message::HttpMessage;
pub use stitch::HttpStitcher;
