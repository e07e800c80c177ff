//! How long sockets and flows are kept: when a closed socket is over, when a flow settles, when a connection has its row.
//!
//! What is waited for is counted in blocks or in time of the records, never in time of the machine, so that the rows depend
//! on the captures alone.

use std::collections::VecDeque;

use super::socket::{SocketState, both_ends, totals, utc};
use super::{Key, Shard, Slot};
use crate::analyze::flow::WIRE;
use crate::analyze::names::Host;
use crate::analyze::row::Sink;
use crate::format::record::Close;

/// A flow that waits for something settles after so many blocks without an event.
const PATIENCE: usize = 16;
/// A closed socket stays for so many blocks, or so long by the times of the records: its other end may be accepted, or
/// recorded, late, and its last data too.
const LINGER: u64 = 8;
const LINGER_NS: u64 = 2_000_000_000;
/// Where both ends are known and closed, nothing more is to come but what another CPU reported late.
const LINGER_WHOLE: usize = 1;
/// A closed socket of which something is known to be missing stays for so long, by the times of the records: programs read
/// what has come after the connection was closed or reset, and accept connections whose clients have gone.
const MAX_LATE_NS: u64 = 10_000_000_000;
/// Closed sockets that stay for that.
const MAX_AWAITED: usize = 1024;
/// The start of a rotated part repeats sockets that were closed up to so long ago; somewhat longer than the recorder
/// keeps them.
const REPEATED_NS: u64 = 10_000_000_000;
/// Closed sockets that are remembered for that.
const MAX_GONE: usize = 1 << 17;
/// Flows that are over and kept for their buffers.
const MAX_RECYCLED: usize = 16;

/// What has its row to come at the end.
enum Rest {
    /// The flow of this place.
    Flow(usize),
    /// The flow that this socket is going to have.
    Alone(Key),
}

impl<S: Sink> Shard<S> {
    /// A socket is closed. What it has moved before may be told later: its flow learns of the close when that is there.
    pub(super) fn close(&mut self, key: Key, close: &Close, hosts: &[Host]) {
        let Some(known) = self.sockets.get_mut(&key).filter(|known| known.close.is_none()) else {
            return;
        };
        known.close = Some(*close);
        let is_over = known.has_shown_all();
        let time = utc(hosts, key.0, close.time).unwrap_or(0);
        self.closed.push_back((self.block, time, key));
        self.gone.push_back((time, key));
        self.gone_keys.insert(key);
        if is_over {
            self.conclude(key, hosts);
        }
    }

    /// Nothing more is to come of a closed socket.
    pub(super) fn conclude(&mut self, key: Key, hosts: &[Host]) {
        let Some(known) = self.sockets.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut known.is_over, true) {
            return;
        }
        let (Some(place), observer, Some(close)) = (known.flow, known.observer, known.close) else {
            return;
        };
        let totals = totals(known, &close);
        let Some(slot) = self.slots[place].as_mut() else { return };
        slot.flow.close(observer, close.time, totals);
        let has_both = slot.sockets[..WIRE].iter().all(Option::is_some);
        self.touch(place);
        self.emit(place, hosts, false);
        if has_both && self.is_over(place) {
            self.whole.push(key);
        }
    }

    /// Whether nothing more is to come of any socket that observes a flow.
    fn is_over(&self, place: usize) -> bool {
        let is_over = |key: &Key| self.sockets.get(key).is_none_or(|known| known.is_over);
        self.slots[place]
            .as_ref()
            .is_some_and(|slot| slot.sockets.iter().flatten().all(is_over))
    }

    /// The block is over: what waited in vain for long enough waits no longer, and what has long been closed goes. By
    /// blocks, not by batches of them, so that the rows do not depend on how many blocks are fed at once. `latest` is the
    /// time of the last event of the block: UTC, ns.
    pub fn end_block(&mut self, hosts: &[Host], latest: u64) {
        self.now = self.now.max(latest);
        self.add_late_sockets(hosts);
        for place in next_block(&mut self.touched, &mut self.touched_before, PATIENCE) {
            self.settle_if_quiet(place, hosts);
        }
        for key in next_block(&mut self.whole, &mut self.whole_before, LINGER_WHOLE) {
            self.retire(key, hosts);
        }
        while let Some((block, since, key)) = self.closed.front().copied()
            && (block + LINGER <= self.block || since.saturating_add(LINGER_NS) <= self.now)
        {
            self.closed.pop_front();
            match self.may_still_come(key) {
                true => self.awaited.push_back((self.now, key)),
                false => self.conclude_and_retire(key, hosts),
            }
        }
        while let Some((since, key)) = self.awaited.front().copied()
            && (self.awaited.len() > MAX_AWAITED || since.saturating_add(MAX_LATE_NS) <= self.now)
        {
            self.awaited.pop_front();
            self.conclude_and_retire(key, hosts);
        }
        self.forget_gone();
        self.block += 1;
    }

    fn settle_if_quiet(&mut self, place: usize, hosts: &[Host]) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        let is_awaited = |key: &Key| {
            let known = self.sockets.get(key);
            known.is_some_and(|known| known.close.is_some() && !known.is_over)
        };
        if self.block - slot.touched < PATIENCE as u64 || slot.sockets.iter().flatten().any(is_awaited) {
            return;
        }
        slot.flow.settle();
        self.emit(place, hosts, false);
    }

    /// Whether something of a closed socket's connection is missing that is known to be there, or that should be.
    fn may_still_come(&self, key: Key) -> bool {
        let Some(known) = self.sockets.get(&key) else {
            return false;
        };
        if !known.is_over && known.lacks_bytes() {
            return true;
        }
        let slot = known.flow.and_then(|place| self.slots[place].as_ref());
        slot.is_some_and(|slot| {
            known.observer != WIRE
                && slot.sockets[1 - known.end].is_none()
                && (known.expects_other || known.socket.local.ip == known.socket.remote.ip)
        })
    }

    fn conclude_and_retire(&mut self, key: Key, hosts: &[Host]) {
        self.conclude(key, hosts);
        self.retire(key, hosts);
    }

    /// Gives up a closed socket; with the last of its flow, the flow goes, and the connection has its row.
    fn retire(&mut self, key: Key, hosts: &[Host]) {
        let Some(known) = self.sockets.get(&key) else { return };
        let place = match known.flow {
            Some(place) => place,
            None => self.join(key, None, hosts).0,
        };
        if self.is_over(place) {
            self.retire_flow(place, hosts);
        }
    }

    fn retire_flow(&mut self, place: usize, hosts: &[Host]) {
        let is_over = self.is_over(place);
        let Some(slot) = self.slots[place].as_mut() else { return };
        if is_over {
            slot.flow.conclude();
        }
        slot.flow.finish();
        self.emit(place, hosts, true);
        let Some(slot) = self.slots[place].take() else { return };
        self.unlink(&slot);
        self.free.push(place);
        self.flow_row(&slot, hosts);
        if self.recycled.len() < MAX_RECYCLED {
            self.recycled.push(slot.flow.recycled());
        }
    }

    /// Takes a flow out of the list of those with the same endpoints.
    fn unlink(&mut self, slot: &Slot) {
        let younger = slot.younger.and_then(|place| self.slots[place].as_mut());
        match (younger, slot.older) {
            (Some(younger), older) => younger.older = older,
            (None, Some(older)) => {
                self.by_ends.insert(slot.flow.ends, older);
            }
            (None, None) => {
                self.by_ends.remove(&slot.flow.ends);
            }
        }
        if let Some(older) = slot.older.and_then(|place| self.slots[place].as_mut()) {
            older.younger = slot.younger;
        }
    }

    /// Forgets closed sockets of which no part will tell again.
    fn forget_gone(&mut self) {
        let now = self.gone.back().map_or(0, |(time, _)| *time);
        while let Some((time, key)) = self.gone.front().copied()
            && (time.saturating_add(REPEATED_NS) < now || self.gone.len() > MAX_GONE)
        {
            self.gone.pop_front();
            self.gone_keys.remove(&key);
        }
    }

    /// The capture is over: everything that is open gets its row.
    pub fn finish(&mut self, hosts: &[Host]) {
        self.add_late_sockets(hosts);
        self.orphans.give_up();
        let unfinished = |(_, known): &(&Key, &SocketState)| known.flow.is_none() || known.close.is_some();
        let known = self.sockets.iter().map(|(key, known)| (key, &**known));
        let mut unfinished: Vec<Key> = known.filter(unfinished).map(|(key, _)| *key).collect();
        unfinished.sort_unstable();
        let flows = self.slots.len();
        // In the order of the rows. A scan of ports leaves some hundred thousand sockets that are alone: each gets its flow
        // when its row is due, and that flow serves for the next.
        let mut rest = Vec::new();
        for key in unfinished {
            if self.free.is_empty() && self.is_alone(key) {
                rest.push(Rest::Alone(key));
                continue;
            }
            let before = self.slots.len();
            self.join_and_conclude(key, hosts);
            rest.extend((before..self.slots.len()).map(Rest::Flow));
        }
        for place in 0..flows {
            self.retire_flow(place, hosts);
        }
        for rest in rest {
            match rest {
                Rest::Flow(place) => self.retire_flow(place, hosts),
                Rest::Alone(key) => {
                    self.join_and_conclude(key, hosts);
                    if let Some(place) = self.sockets.get(&key).and_then(|known| known.flow) {
                        self.retire_flow(place, hosts);
                    }
                }
            }
        }
    }

    /// Whether a socket has no flow, and no other socket or flow has its endpoints: it is a connection by itself.
    fn is_alone(&self, key: Key) -> bool {
        let Some(known) = self.sockets.get(&key).filter(|known| known.flow.is_none()) else {
            return false;
        };
        let ends = both_ends(&known.socket);
        let waiting = self.waiting.get(&ends);
        waiting.is_some_and(|waiting| *waiting == [key]) && !self.by_ends.contains_key(&ends)
    }

    /// A socket gets its flow, if it has none; and of a closed one nothing more is to come.
    fn join_and_conclude(&mut self, key: Key, hosts: &[Host]) {
        if self.sockets.get(&key).is_some_and(|known| known.flow.is_none()) {
            self.join(key, None, hosts);
        }
        if self.sockets.get(&key).is_some_and(|known| known.close.is_some()) {
            self.conclude(key, hosts);
        }
    }
}

/// A block is over: what it brought joins what came before, and what is older than so many blocks leaves.
fn next_block<T>(now: &mut Vec<T>, before: &mut VecDeque<Vec<T>>, blocks: usize) -> Vec<T> {
    before.push_back(std::mem::take(now));
    match before.len() > blocks {
        true => before.pop_front().unwrap_or_default(),
        false => Vec::new(),
    }
}
