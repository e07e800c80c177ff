//! Any two streams, in any pieces and with any holes, as memcached: no panic, after both ends nothing is left open, and no more
//! memory than was promised.
#![no_main]

mod streams;

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::exchange::Exchange;
use masdeepflow::analyze::protocol::memcached::{MemcachedMessage, MemcachedPairing};

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else {
        return;
    };
    let joined = flags & 1 != 0;
    streams::feed(MemcachedPairing::new(joined), joined, rest, check);
});

fn check(exchange: &Exchange<MemcachedMessage>) {
    let message = &exchange.message;
    assert!(message.key.len() <= 3 * 250 && message.answer.len() <= 3 * 256 && message.command.len() <= 3 * 32);
    assert!(message.hits.is_none_or(|hits| hits <= message.keys));
}
