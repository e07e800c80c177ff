//! Any two streams, in any pieces and with any holes, as each protocol of the registry: no panic, after both ends nothing is left
//! open, and what is said of an exchange stays within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::exchange::{AnyExchange, Side};
use masdeepflow::analyze::protocol::conversation::Conversation;
use masdeepflow::analyze::protocol::{Missing, PROTOCOLS, Sent, Verdict};

/// Characters of what an exchange says for people.
const LIMIT: usize = 100;

// The first byte says whether the connection is joined; each piece after it what to do, how many bytes, the bytes.
fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else {
        return;
    };
    for protocol in PROTOCOLS {
        feed(&mut *protocol.conversation(flags & 1 != 0), flags & 1 != 0, rest);
    }
});

fn feed(conversation: &mut dyn Conversation, joined: bool, mut rest: &[u8]) {
    let mut sent = [0u64; 2];
    while let [act, len, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(*len).min(more.len()));
        rest = after;
        let side = if act & 1 == 0 { Side::Client } else { Side::Server };
        let (pos, len) = (&mut sent[side as usize], bytes.len() as u64);
        let verdict = match act >> 1 & 7 {
            0 => conversation.missing(side, *pos, len, Missing::Lost),
            1 => conversation.missing(side, *pos, len, Missing::Unread),
            2 => conversation.settle(),
            _ => conversation.bytes(side, *pos, bytes),
        };
        if act >> 1 & 7 != 2 {
            *pos += len;
        }
        let protocol = conversation.protocol();
        protocol.of_client(Sent::whole(bytes), joined);
        protocol.of_server(Sent::whole(bytes), joined);
        protocol.may_be_answered(Sent::whole(bytes));
        protocol.of_both(Sent::whole(bytes), Sent::whole(rest), joined);
        take_finished(conversation);
        if verdict != Verdict::Continue {
            conversation.take_rest();
            return;
        }
    }
    conversation.settle();
    conversation.finish();
    conversation.end(Side::Client, sent[0], true);
    conversation.end(Side::Server, sent[1], true);
    take_finished(conversation);
    assert!(conversation.queue().is_empty(), "{conversation:?}");
}

fn take_finished(conversation: &mut dyn Conversation) {
    while conversation.queue().oldest().is_some_and(AnyExchange::is_finished) {
        let Some(taken) = conversation.queue_mut().take_at(0) else {
            return;
        };
        check(taken.exchange());
        conversation.recycle(taken);
    }
}

fn check(exchange: &AnyExchange) {
    for span in [&exchange.request, &exchange.response] {
        assert!(span.start <= span.end || !(span.begun && span.ended), "{exchange:?}");
    }
    let message = &exchange.message;
    assert!(message.asked(LIMIT).chars().count() <= 4 * LIMIT, "{exchange:?}");
    message.line(exchange.incomplete, LIMIT);
    message.answered();
}
