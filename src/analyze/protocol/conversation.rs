//! What one connection says in one protocol: its pairing and its exchanges, for callers that do not know which protocol.
//!
//! One virtual call for each segment; what is behind it is compiled for each protocol.

use std::fmt::Debug;

use super::{AnyProtocol, Missing, Pairing, Piece, Verdict, WholeMessages};
use crate::analyze::exchange::{AnyExchange, AnyQueue, Exchange, Queue, Side, TakenExchange};

/// As [`Pairing`] and [`WholeMessages`], with the exchanges.
pub trait Conversation: Debug + Send {
    fn protocol(&self) -> &'static dyn AnyProtocol;

    /// Starts over for another connection, keeping its buffers and one exchange.
    fn begin(&mut self, joined: bool);

    /// See [`Pairing::after_foreign`].
    fn after_foreign(&mut self);

    /// See [`Pairing::bytes`].
    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8]) -> Verdict;

    /// See [`Pairing::missing`].
    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing) -> Verdict;

    /// See [`Pairing::settle`].
    fn settle(&mut self) -> Verdict;

    /// See [`Pairing::holds_response`].
    fn holds_response(&self) -> bool;

    /// See [`Pairing::is_in_doubt`].
    fn is_in_doubt(&self) -> bool;

    /// See [`Pairing::end`].
    fn end(&mut self, from: Side, pos: u64, is_all: bool);

    /// See [`Pairing::finish`].
    fn finish(&mut self);

    /// See [`Pairing::take_rest`].
    fn take_rest(&mut self) -> Vec<(Side, Piece)>;

    /// Nothing is under way in either direction.
    fn is_at_rest(&self) -> bool;

    /// At rest, reads a whole request into the exchange at hand: see [`WholeMessages::whole_request`].
    fn whole_request(&mut self, pos: u64, bytes: &[u8]) -> Option<&mut AnyExchange>;

    /// Reads the whole response to it.
    fn whole_response(&mut self, pos: u64, len: u64, bytes: &[u8]) -> Option<&mut AnyExchange>;

    /// The exchange that whole messages were read into last.
    fn at_hand(&self) -> Option<&AnyExchange>;

    /// As [`at_hand`](Conversation::at_hand), to be changed.
    fn at_hand_mut(&mut self) -> Option<&mut AnyExchange>;

    /// Takes the exchange at hand.
    fn take_at_hand(&mut self) -> Option<Box<dyn TakenExchange>>;

    /// Gives an exchange back for reuse, at hand or in the queue.
    fn recycle(&mut self, exchange: Box<dyn TakenExchange>);

    fn queue(&self) -> &dyn AnyQueue;
    fn queue_mut(&mut self) -> &mut dyn AnyQueue;
}

/// The conversation of a protocol that has this pairing.
#[derive(Debug)]
pub struct Paired<S: Pairing> {
    protocol: &'static dyn AnyProtocol,
    pairing: S,
    queue: Queue<S::Message>,
    at_hand: Option<Box<Exchange<S::Message>>>,
}

impl<S: Pairing> Paired<S> {
    pub fn new(protocol: &'static dyn AnyProtocol, joined: bool) -> Self {
        let mut pairing = S::default();
        pairing.begin(joined);
        Paired {
            protocol,
            pairing,
            queue: Queue::new(S::ANY_ORDER),
            at_hand: None,
        }
    }
}

impl<S: WholeMessages> Conversation for Paired<S> {
    fn protocol(&self) -> &'static dyn AnyProtocol {
        self.protocol
    }

    fn begin(&mut self, joined: bool) {
        self.pairing.begin(joined);
        let kept = self.at_hand.take().or_else(|| self.queue.take_recycled());
        self.queue.reset();
        kept.into_iter().for_each(|exchange| self.queue.recycle(exchange));
    }

    fn after_foreign(&mut self) {
        self.pairing.after_foreign();
    }

    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8]) -> Verdict {
        self.pairing.bytes(from, pos, bytes, &mut self.queue)
    }

    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing) -> Verdict {
        self.pairing.missing(from, pos, len, why, &mut self.queue)
    }

    fn settle(&mut self) -> Verdict {
        self.pairing.settle(&mut self.queue)
    }

    fn holds_response(&self) -> bool {
        self.pairing.holds_response()
    }

    fn is_in_doubt(&self) -> bool {
        self.pairing.is_in_doubt()
    }

    fn end(&mut self, from: Side, pos: u64, is_all: bool) {
        self.pairing.end(from, pos, is_all, &mut self.queue);
    }

    fn finish(&mut self) {
        self.pairing.finish(&mut self.queue);
    }

    fn take_rest(&mut self) -> Vec<(Side, Piece)> {
        self.pairing.take_rest()
    }

    fn is_at_rest(&self) -> bool {
        self.pairing.is_at_rest()
    }

    fn whole_request(&mut self, pos: u64, bytes: &[u8]) -> Option<&mut AnyExchange> {
        let exchange = &mut **self.at_hand.get_or_insert_default();
        match self.pairing.whole_request(pos, bytes, exchange) {
            true => Some(exchange),
            false => None,
        }
    }

    fn whole_response(&mut self, pos: u64, len: u64, bytes: &[u8]) -> Option<&mut AnyExchange> {
        let exchange = &mut **self.at_hand.as_mut()?;
        match self.pairing.whole_response(pos, len, bytes, exchange) {
            true => Some(exchange),
            false => None,
        }
    }

    fn at_hand(&self) -> Option<&AnyExchange> {
        let exchange: &Exchange<S::Message> = self.at_hand.as_ref()?;
        Some(exchange)
    }

    fn at_hand_mut(&mut self) -> Option<&mut AnyExchange> {
        let exchange: &mut Exchange<S::Message> = self.at_hand.as_mut()?;
        Some(exchange)
    }

    fn take_at_hand(&mut self) -> Option<Box<dyn TakenExchange>> {
        let exchange: Box<Exchange<S::Message>> = self.at_hand.take()?;
        Some(exchange)
    }

    fn recycle(&mut self, exchange: Box<dyn TakenExchange>) {
        // It is of another protocol when it was taken before a tunnel began.
        let Ok(exchange) = exchange.into_any().downcast() else {
            return;
        };
        match self.at_hand {
            Some(_) => self.queue.recycle(exchange),
            None => self.at_hand = Some(exchange),
        }
    }

    fn queue(&self) -> &dyn AnyQueue {
        &self.queue
    }

    fn queue_mut(&mut self) -> &mut dyn AnyQueue {
        &mut self.queue
    }
}
