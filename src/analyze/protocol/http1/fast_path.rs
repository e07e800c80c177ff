//! A request, or a response, that is whole, on a connection where nothing else is under way: what the states of the
//! pairing would make of it at once.

use super::Exchange;
use super::body::{self, Body, Chunked, Step};
use super::head_cache;
use super::pair::{Half, HttpPairing, MAX_HEAD, State};
use super::parse::{self, Parsed};
use crate::analyze::exchange::{Message, Span};
use crate::analyze::protocol::WholeMessages;

impl WholeMessages for HttpPairing {
    fn is_at_rest(&self) -> bool {
        let rests = |half: &Half| half.state == State::Start && half.buf.is_empty();
        rests(&self.client)
            && rests(&self.server)
            && self.held.is_empty()
            && self.doubt.is_none()
            && self.asked
            && !(self.force || self.open || self.server_ended || self.left)
    }

    fn whole_request(&mut self, pos: u64, bytes: &[u8], exchange: &mut Exchange) -> bool {
        if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
            return false;
        }
        exchange.reset();
        exchange.request = Span::whole(pos, bytes.len() as u64);
        let message = &mut exchange.message;
        message.clear_response();
        if head_cache::ask_again(bytes, message) {
            return true;
        }
        let (Parsed::Whole(head, used), known) = head_cache::request(bytes) else {
            return false;
        };
        if used > MAX_HEAD || head.version == 9 || !is_whole(body::of_request(&head.framing), &bytes[used..], 0) {
            return false;
        }
        message.ask(&head, known);
        true
    }

    fn whole_response(&mut self, pos: u64, len: u64, bytes: &[u8], exchange: &mut Exchange) -> bool {
        if !parse::may_begin_response(bytes) {
            return false;
        }
        let Parsed::Whole(head, used) = self.last_response.read(bytes) else {
            return false;
        };
        let message = &mut exchange.message;
        let unread = len - bytes.len() as u64;
        let body = body::of_response(&message.method, head.status, &head.framing);
        if head.status < 200 || used > MAX_HEAD || message.method.is_empty() || !is_whole(body, &bytes[used..], unread)
        {
            return false;
        }
        message.status = head.status;
        message.content_type.clone_from(&self.last_response.content_type_text);
        exchange.response = Span::whole(pos, len);
        true
    }
}

/// Whether a body is what follows its head, `bytes` and `unread` more, neither more nor less.
fn is_whole(body: Body, bytes: &[u8], unread: u64) -> bool {
    match body {
        Body::None => bytes.is_empty() && unread == 0,
        Body::Length(length) => length == bytes.len() as u64 + unread,
        Body::Chunked => {
            unread == 0 && matches!(Chunked::default().feed(bytes), Step::Done(used) if used == bytes.len())
        }
        Body::UntilClose | Body::Tunnel | Body::Bad(_) => false,
    }
}
