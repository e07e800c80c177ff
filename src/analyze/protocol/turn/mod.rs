//! Turns: one side sends, then the other, whatever the bytes mean. They make a table like a protocol does, and are none: nobody
//! reads their bytes, and no connection is ever detected as one. The connection cuts them (`flow/turns.rs`), because that takes
//! times and ends, which a protocol does not know.

mod columns;
mod message;
mod summary;

pub use message::TurnMessage;

use super::{Detected, Missing, Pairing, Protocol, Sent, Verdict, WholeMessages};
use crate::analyze::exchange::{Queue, Side};

/// Turns of connections whose protocol is not read.
#[derive(Debug)]
pub struct Turn;

impl Protocol for Turn {
    type Message = TurnMessage;
    type Pairing = Unread;
    type Summary = summary::ByEdge;

    const NAME: &'static str = "turns";
    const ABOUT: &'static str =
        "One row for each turn of a connection whose protocol is not read: the client sends, then the server.";
    const SLOWEST: (&'static str, &'static str) = ("Slowest turns", "turn");

    const ARE_TURNS: bool = true;

    fn is_counted(message: &TurnMessage) -> bool {
        !message.has_exchanges
    }

    fn carried_by(message: &TurnMessage) -> &'static str {
        match message.protocol {
            "" => "tcp",
            name => name,
        }
    }

    fn of_client(_sent: Sent<'_>, _joined: bool) -> Detected {
        Detected::No
    }

    fn of_server(_sent: Sent<'_>, _joined: bool) -> Detected {
        Detected::No
    }
}

/// Reads nothing: turns have no bytes of their own.
#[derive(Debug, Default)]
pub struct Unread;

impl Pairing for Unread {
    type Message = TurnMessage;

    fn begin(&mut self, _joined: bool) {}

    fn bytes(&mut self, _: Side, _: u64, _: &[u8], _: &mut Queue<TurnMessage>) -> Verdict {
        Verdict::Leave("")
    }

    fn missing(&mut self, _: Side, _: u64, _: u64, _: Missing, _: &mut Queue<TurnMessage>) -> Verdict {
        Verdict::Leave("")
    }

    fn settle(&mut self, _: &mut Queue<TurnMessage>) -> Verdict {
        Verdict::Continue
    }

    fn is_in_doubt(&self) -> bool {
        false
    }

    fn end(&mut self, _: Side, _: u64, _: bool, _: &mut Queue<TurnMessage>) {}
}

impl WholeMessages for Unread {}
