//! Two streams, in any pieces and with any holes, through the pairing of a protocol.

use masdeepflow::analyze::exchange::{Exchange, Queue, Side};
use masdeepflow::analyze::protocol::{Missing, Pairing, Sent, Verdict, detect};

/// Feeds what the input says: each piece is what to do, how many bytes, the bytes. `check` sees each exchange that is
/// finished. After both ends nothing is left open.
pub fn feed<S: Pairing>(mut pairing: S, joined: bool, mut rest: &[u8], check: impl Fn(&Exchange<S::Message>)) {
    let mut queue = Queue::default();
    let mut sent = [0u64; 2];
    while let [act, len, more @ ..] = rest {
        let len = usize::from(*len).min(more.len());
        let (bytes, after) = more.split_at(len);
        rest = after;
        let side = if act & 1 == 0 { Side::Client } else { Side::Server };
        let pos = &mut sent[side as usize];
        let verdict = match act >> 1 & 7 {
            0 => pairing.missing(side, *pos, len as u64, Missing::Lost, &mut queue),
            1 => pairing.missing(side, *pos, len as u64, Missing::Unread, &mut queue),
            2 => pairing.settle(&mut queue),
            _ => pairing.bytes(side, *pos, bytes, &mut queue),
        };
        if act >> 1 & 7 != 2 {
            *pos += len as u64;
        }
        detect::guess(Some(Sent::whole(bytes)), Some(Sent::whole(rest)), joined);
        take_finished(&mut queue, &check);
        if verdict != Verdict::Continue {
            return;
        }
    }
    pairing.end(Side::Client, sent[0], true, &mut queue);
    pairing.end(Side::Server, sent[1], true, &mut queue);
    take_finished(&mut queue, &check);
    assert!(queue.is_empty());
}

fn take_finished<M: masdeepflow::analyze::exchange::Message + Default>(
    queue: &mut Queue<M>,
    check: &impl Fn(&Exchange<M>),
) {
    while queue.oldest().is_some_and(Exchange::is_finished) {
        if let Some(exchange) = queue.take() {
            assert!(exchange.request.start <= exchange.request.end);
            assert!(exchange.response.start <= exchange.response.end);
            check(&exchange);
            queue.recycle(exchange);
        }
    }
}
