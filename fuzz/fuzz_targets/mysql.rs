//! Any bytes and holes, in any order of directions: no panic, and no more memory than was promised.
#![no_main]

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::exchange::{Exchange, Halves, Queue, Side};
use masdeepflow::analyze::protocol::mysql::{
    MysqlMessage, MysqlPairing, STATEMENT_LIMIT, digest, fingerprint, is_joined, looks_like_greeting,
};
use masdeepflow::analyze::protocol::{Missing, Pairing, Sent, Verdict};

// Steps of: one byte of kind (bit 0 side, bits 1-2 hole, bit 3 settle), one byte of length, so many bytes.
fuzz_target!(|data: &[u8]| {
    let mut pairing = MysqlPairing::new(data.len() % 2 == 1);
    let mut queue = Queue::default();
    let mut pos = [0u64; 2];
    let mut rest = data;
    while let [kind, len, after @ ..] = rest {
        let side = if kind & 1 == 0 { Side::Client } else { Side::Server };
        let at = &mut pos[side as usize];
        let len = usize::from(*len);
        let verdict = match kind >> 1 & 3 {
            0 | 1 => {
                let (bytes, next) = after.split_at(len.min(after.len()));
                rest = next;
                is_joined(Sent::whole(bytes), Sent::whole(rest));
                looks_like_greeting(bytes);
                let verdict = pairing.bytes(side, *at, bytes, &mut queue);
                *at += bytes.len() as u64;
                verdict
            }
            why => {
                rest = after;
                let why = if why == 2 { Missing::Lost } else { Missing::Unread };
                let hole = (len as u64) << (kind >> 4);
                let verdict = pairing.missing(side, *at, hole, why, &mut queue);
                *at += hole;
                verdict
            }
        };
        if kind & 8 != 0 {
            pairing.settle(&mut queue);
        }
        while queue.oldest().is_some_and(Exchange::is_finished) {
            let Some(exchange) = queue.take() else { break };
            check(&exchange);
            queue.recycle(exchange);
        }
        if verdict != Verdict::Continue {
            break;
        }
    }
    pairing.settle(&mut queue);
    pairing.end(Side::Client, pos[0], true, &mut queue);
    pairing.end(Side::Server, pos[1], true, &mut queue);
    while let Some(exchange) = queue.take() {
        assert!(exchange.is_finished() || exchange.halves == Halves::RequestOnly);
        check(&exchange);
    }
});

fn check(exchange: &Exchange<MysqlMessage>) {
    let message = &exchange.message;
    assert!(message.statement.len() <= 3 * STATEMENT_LIMIT);
    digest(&fingerprint(&message.statement));
    assert!(!exchange.response.ended || exchange.response.end >= exchange.response.start || !exchange.response.begun);
}
