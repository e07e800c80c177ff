//! Each rule with the bytes that show it.

mod heads;
mod holes;
mod laws;
mod rules;

use super::super::{Missing, Pairing, Verdict};
use super::{Exchange, HttpMessage, HttpPairing, Queue};
use crate::analyze::exchange::{Incomplete, Side};

pub(super) use Side::{Client, Server};

/// A conversation under test: positions are counted here.
pub(super) struct Talk {
    pub pairing: HttpPairing,
    pub queue: Queue,
    pub sent: [u64; 2],
    pub left: Option<&'static str>,
}

/// What a row says, shortly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub what: String,
    pub status: u16,
    /// Bytes on the wire, where both ends are known.
    pub request: Option<u64>,
    pub response: Option<u64>,
    pub incomplete: Option<Incomplete>,
}

impl Talk {
    pub fn new() -> Self {
        Talk {
            pairing: HttpPairing::new(false),
            queue: Queue::default(),
            sent: [0, 0],
            left: None,
        }
    }

    pub fn joined() -> Self {
        Talk {
            pairing: HttpPairing::new(true),
            ..Talk::new()
        }
    }

    fn note(&mut self, verdict: Verdict) {
        if let Verdict::Leave(why) | Verdict::Mistaken(why) | Verdict::Tunnel(why) = verdict {
            self.left = Some(why);
        }
    }

    pub fn say(&mut self, from: Side, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        let pos = &mut self.sent[from as usize];
        let verdict = self.pairing.bytes(from, *pos, bytes, &mut self.queue);
        *pos += bytes.len() as u64;
        self.note(verdict);
        self
    }

    pub fn lose(&mut self, from: Side, len: u64, why: Missing) -> &mut Self {
        let pos = &mut self.sent[from as usize];
        if from == Client {
            self.queue.refute_unsure(|exchange| exchange.request.end == *pos);
        }
        let verdict = self.pairing.missing(from, *pos, len, why, &mut self.queue);
        *pos += len;
        self.note(verdict);
        self
    }

    pub fn settle(&mut self) -> &mut Self {
        let verdict = self.pairing.settle(&mut self.queue);
        self.note(verdict);
        self
    }

    pub fn end(&mut self, from: Side) -> &mut Self {
        self.pairing.end(from, self.sent[from as usize], true, &mut self.queue);
        self
    }

    /// Finished exchanges, as the engine takes them.
    pub fn exchanges(&mut self) -> Vec<Exchange> {
        let mut taken = Vec::new();
        while self.queue.oldest().is_some_and(Exchange::is_finished) {
            taken.extend(self.queue.take().map(|exchange| *exchange));
        }
        taken
    }

    pub fn rows(&mut self) -> Vec<Row> {
        self.exchanges().iter().map(row).collect()
    }

    pub fn finish(&mut self) -> &mut Self {
        self.pairing.finish(&mut self.queue);
        self
    }

    /// Rows after both ends.
    pub fn all(&mut self) -> Vec<Row> {
        self.all_exchanges().iter().map(row).collect()
    }

    /// Exchanges after both ends.
    pub fn all_exchanges(&mut self) -> Vec<Exchange> {
        self.end(Client).end(Server);
        let exchanges = self.exchanges();
        assert!(
            self.queue.is_empty(),
            "an end finishes every exchange: {:?}",
            self.queue
        );
        exchanges
    }

    pub fn messages(&mut self) -> Vec<HttpMessage> {
        self.exchanges().iter().map(message).collect()
    }
}

pub(super) fn message(exchange: &Exchange) -> HttpMessage {
    exchange.message.clone()
}

pub(super) fn row(exchange: &Exchange) -> Row {
    let message = message(exchange);
    let len = |span: crate::analyze::exchange::Span| (span.begun && span.ended).then(|| span.end - span.start);
    Row {
        what: format!("{} {}", message.method, message.target),
        status: message.status,
        request: len(exchange.request),
        response: len(exchange.response),
        incomplete: exchange.incomplete,
    }
}

/// A whole, measured row.
pub(super) fn whole(what: &str, status: u16, request: usize, response: usize) -> Row {
    Row {
        what: what.into(),
        status,
        request: Some(request as u64),
        response: Some(response as u64),
        incomplete: None,
    }
}
