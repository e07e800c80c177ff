//! HTTP/1.x (RFC 9110, RFC 9112): message types, parser, stitcher.

/// A request and what its response says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpMessage {
    /// As sent; empty when only a response was seen.
    pub method: String,
    /// The request target as sent (origin, absolute, authority or asterisk form; RFC 9112, 3.2).
    pub target: String,
    /// The Host field, or the authority of an absolute target.
    pub host: String,
    /// Major * 10 + minor: 9, 10 or 11; 0 when unknown.
    pub version: u8,
    /// 0 when no final response was seen.
    pub status: u16,
    /// Content-Type of the response, as sent.
    pub content_type: String,
    /// The protocol that a 101 answer switched to.
    pub upgrade: String,
}
#[derive(Debug)]
pub struct HttpStitcher;
impl HttpStitcher {
    pub fn new(_joined: bool) -> Self {
        HttpStitcher
    }
}
use crate::analyze::{
    exchange::{Queue, Side},
    protocol::{Missing, Stitcher, Verdict},
};
impl Stitcher for HttpStitcher {
    fn bytes(&mut self, _f: Side, _p: u64, _b: &[u8], _q: &mut Queue) -> Verdict {
        Verdict::Continue
    }
    fn missing(&mut self, _f: Side, _p: u64, _l: u64, _w: Missing, _q: &mut Queue) -> Verdict {
        Verdict::Continue
    }
    fn settle(&mut self, _q: &mut Queue) -> Verdict {
        Verdict::Continue
    }
    fn end(&mut self, _f: Side, _p: u64, _q: &mut Queue) {}
}
