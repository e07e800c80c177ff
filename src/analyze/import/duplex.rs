//! Causal order of the two directions of a connection: no data is handed on before the data that its sender had received when
//! sending it. Decides when missing bytes become a hole; [`stream`](super::stream) owns the order within a direction.
//!
//! An acknowledgment shows what its sender had received. A segment that acknowledges bytes of the other direction which
//! the capture does not have yet is held until they come, or are given up. So each hole is at the position of its bytes,
//! and not after requests that were sent later: those would look pipelined, and would be paired with wrong responses.
//!
//! Bytes that are missing are given up, and become a hole:
//! - at once where they are acknowledged and later bytes of the same direction were captured: one direction is captured in order;
//! - after a while where a segment waits for them, or where they are acknowledged and nothing waits;
//! - when too much is held, and at the end.

use super::stream::{Bytes, First, Gaps, Moment, Stream};

/// Takes what the two directions hand on: the side, and its bytes.
pub type Out<'o> = dyn FnMut(usize, Bytes<'_>) + 'o;

/// Hands on what can be handed on by now. `all`: nothing more will come.
pub fn settle(streams: &mut [Stream; 2], now: Moment, all: bool, gaps: &mut Gaps, out: &mut Out<'_>) {
    loop {
        let (own, other) = directions(streams, 0);
        let is_any = own.drain(other, &mut |bytes| out(0, bytes)) | other.drain(own, &mut |bytes| out(1, bytes));
        let turn = earlier(streams, now);
        if !is_any
            && ![turn, 1 - turn]
                .into_iter()
                .any(|side| give_up(streams, side, now, all, gaps, out))
        {
            return;
        }
    }
}

/// The stream of a side, and the other.
pub fn directions(streams: &mut [Stream; 2], side: usize) -> (&mut Stream, &mut Stream) {
    let [local, remote] = streams;
    if side == 0 { (local, remote) } else { (remote, local) }
}

/// The side whose first held segment was captured earlier.
fn earlier(streams: &[Stream; 2], now: Moment) -> usize {
    let age = |stream: &Stream| stream.first().map(|first| now.since(first.captured));
    usize::from(age(&streams[1]) > age(&streams[0]))
}

/// Gives up what the first held segment of a side waits for, if it is time. Returns whether it did.
fn give_up(streams: &mut [Stream; 2], side: usize, now: Moment, all: bool, gaps: &mut Gaps, out: &mut Out<'_>) -> bool {
    let (own, other) = directions(streams, side);
    let Some(first) = own.first() else {
        let is_time = other.first().is_none() && own.is_acknowledged_late(now);
        return match own.acknowledged().filter(|_| is_time) {
            Some(acked) => {
                own.give_up_to(acked, now.time, true, gaps, &mut |bytes| out(side, bytes));
                true
            }
            None => false,
        };
    };
    let all = all || own.is_overfull();
    if own.is_beyond(first.pos) {
        let limit = if all { Some(first.pos) } else { own.acknowledged() };
        let Some(limit) = limit else { return false };
        // Data that the other end sent after a part of the missing bytes comes before the rest of them.
        let part = other.first().and_then(|first| first.after).map(|seq| own.position(seq));
        let part = part.filter(|part| own.is_beyond(*part)).unwrap_or(u64::MAX);
        let upto = first.pos.min(limit).min(part);
        let follows = upto == first.pos && first.after.is_none_or(|seq| other.has_reached(seq));
        own.give_up_to(upto, first.captured.time, !follows, gaps, &mut |bytes| out(side, bytes));
        return true;
    }
    let Some(after) = first.after.filter(|_| !other.is_start_uncertain()) else {
        return false;
    };
    let needed = other.position(after);
    let upto = match other.first() {
        Some(answer) if !other.is_beyond(answer.pos) => {
            unbind_later(own, first, other, answer, now);
            return true;
        }
        Some(held) => held.pos.min(needed),
        None if all || other.is_late(first.captured, now) => needed,
        None => return false,
    };
    let time = first.captured.time;
    other.give_up_to(upto, time, true, gaps, &mut |bytes| out(1 - side, bytes));
    true
}

/// Each of two segments acknowledges the other: the later one is a retransmission, and acknowledges more than the original.
fn unbind_later(own: &mut Stream, first: First, other: &mut Stream, answer: First, now: Moment) {
    match now.since(first.captured) < now.since(answer.captured) {
        true => own.unbind_first(),
        false => other.unbind_first(),
    }
}
