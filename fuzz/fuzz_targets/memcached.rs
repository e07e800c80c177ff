//! Any two streams, in any pieces and with any holes, as memcached: no panic, after both ends nothing is left open, and no more
//! memory than was promised.
#![no_main]

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::exchange::{Exchange, Queue, Side};
use masdeepflow::analyze::protocol::memcached::{MemcachedMessage, MemcachedStitcher};
use masdeepflow::analyze::protocol::{Missing, Sent, Stitcher, Verdict, detect};

fuzz_target!(|input: &[u8]| {
    let Some((flags, mut rest)) = input.split_first() else { return };
    let joined = flags & 1 != 0;
    let mut stitcher = MemcachedStitcher::new(joined);
    let mut queue = Queue::default();
    let mut sent = [0u64; 2];
    // Each piece: what to do, how many bytes, the bytes.
    while let [act, len, more @ ..] = rest {
        let len = usize::from(*len).min(more.len());
        let (bytes, after) = more.split_at(len);
        rest = after;
        let side = if act & 1 == 0 { Side::Client } else { Side::Server };
        let pos = &mut sent[side as usize];
        let verdict = match act >> 1 & 7 {
            0 => stitcher.missing(side, *pos, len as u64, Missing::Lost, &mut queue),
            1 => stitcher.missing(side, *pos, len as u64, Missing::Unread, &mut queue),
            2 => stitcher.settle(&mut queue),
            _ => stitcher.bytes(side, *pos, bytes, &mut queue),
        };
        if act >> 1 & 7 != 2 {
            *pos += len as u64;
        }
        detect::guess(Some(Sent::whole(bytes)), Some(Sent::whole(rest)), joined);
        while queue.oldest().is_some_and(Exchange::is_finished) {
            if let Some(exchange) = queue.take() {
                check(&exchange);
                queue.recycle(exchange);
            }
        }
        if verdict != Verdict::Continue {
            return;
        }
    }
    stitcher.end(Side::Client, sent[0], true, &mut queue);
    stitcher.end(Side::Server, sent[1], true, &mut queue);
    while queue.oldest().is_some_and(Exchange::is_finished) {
        if let Some(exchange) = queue.take() {
            check(&exchange);
        }
    }
    assert!(queue.is_empty());
});

fn check(exchange: &Exchange<MemcachedMessage>) {
    assert!(exchange.request.start <= exchange.request.end);
    assert!(exchange.response.start <= exchange.response.end);
    let message = &exchange.message;
    assert!(message.key.len() <= 3 * 250 && message.answer.len() <= 3 * 256 && message.command.len() <= 3 * 32);
    assert!(message.hits.is_none_or(|hits| hits <= message.keys));
}
