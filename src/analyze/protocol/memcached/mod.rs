//! The text protocol of memcached (its doc/protocol.txt): commands and answers in lines, with data of declared lengths between
//! them. What is not read: meta commands (`mg`, `ms`, …), the binary protocol, and UDP.

mod client;
mod columns;
mod detect;
mod message;
mod pair;
mod parse;
mod server;
mod summary;
#[cfg(test)]
mod tests;

pub use message::{MemcachedMessage, Status};
pub use pair::MemcachedPairing;

use super::{Detected, Protocol, Sent};
use crate::analyze::exchange;

type Exchange = exchange::Exchange<MemcachedMessage>;
type Queue = exchange::Queue<MemcachedMessage>;

/// The text protocol of memcached.
#[derive(Debug)]
pub struct Memcached;

impl Protocol for Memcached {
    type Message = MemcachedMessage;
    type Pairing = MemcachedPairing;
    type Summary = summary::ByKey;

    const NAME: &'static str = "memcached";
    const ABOUT: &'static str = "One row for each command of memcached's text protocol with its answer.";
    const SLOWEST: (&'static str, &'static str) = ("Slowest memcached commands", "command");

    fn of_client(sent: Sent<'_>, _joined: bool) -> Detected {
        detect::of_client(sent)
    }

    fn of_server(sent: Sent<'_>, _joined: bool) -> Detected {
        detect::of_server(sent)
    }

    fn may_be_answered(sent: Sent<'_>) -> bool {
        detect::may_be_answered(sent)
    }

    fn of_both(client: Sent<'_>, server: Sent<'_>, _joined: bool) -> Detected {
        detect::of_both(client, server)
    }
}
