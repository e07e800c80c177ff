//! All connections of a capture, within bounds: which one a segment belongs to, and which one has to go when there are
//! too many.

use std::collections::{HashMap, VecDeque};

use super::connection::{Belongs, Connection};
use super::packet::Segment;
use super::summary::ImportSummary;
use crate::format::record::{Endpoint, Record};

/// Connections that are followed at once, ended ones included as long as stragglers may come.
pub const MAX_CONNECTIONS: usize = 1 << 18;
/// Memory that all connections together may hold back for reordering.
pub const MAX_HELD: usize = 64 << 20;

/// No slot.
const NONE: u32 = u32::MAX;

/// Both endpoints, the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    ips: [u128; 2],
    ports: u32,
}

impl Key {
    fn new(a: &Endpoint, b: &Endpoint) -> Self {
        let (low, high) = if (a.ip, a.port) <= (b.ip, b.port) {
            (a, b)
        } else {
            (b, a)
        };
        Key {
            ips: [u128::from_ne_bytes(low.ip), u128::from_ne_bytes(high.ip)],
            ports: u32::from(low.port) << 16 | u32::from(high.port),
        }
    }

    /// The upper half of socket ids: the same for both directions, and for every import of the same connection.
    fn hash(&self) -> u32 {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        for ip in self.ips {
            let ip = u128::from_be_bytes(ip.to_ne_bytes());
            for word in [(ip >> 64) as u64, ip as u64] {
                hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
                hash ^= hash >> 32;
            }
        }
        hash = (hash ^ u64::from(self.ports)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        (hash >> 32) as u32
    }
}

#[derive(Debug)]
struct Slot {
    key: Key,
    connection: Connection,
    /// Neighbours in the order of last use.
    older: u32,
    newer: u32,
    /// Held memory that is part of the total.
    held: usize,
}

/// The connections.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    by_key: HashMap<Key, u32, foldhash::fast::RandomState>,
    oldest: u32,
    newest: u32,
    /// Connections that hold data back, the longest first, by slot and id.
    holders: VecDeque<(u32, u64)>,
    held: usize,
    next_number: u32,
    limit: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table::with_limit(MAX_CONNECTIONS)
    }
}

impl Table {
    /// A table of at most `limit` connections.
    pub fn with_limit(limit: usize) -> Self {
        Table {
            slots: Vec::new(),
            by_key: HashMap::default(),
            oldest: NONE,
            newest: NONE,
            holders: VecDeque::new(),
            held: 0,
            next_number: 1,
            limit: limit.clamp(1, NONE as usize - 1),
        }
    }

    /// How many connections are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Takes in one segment.
    pub fn segment(&mut self, segment: &Segment<'_>, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let key = Key::new(&segment.from, &segment.to);
        let slot = match self.by_key.get(&key).copied() {
            Some(slot) => {
                self.touch(slot);
                let connection = &mut self.slots[slot as usize].connection;
                if connection.belongs(segment) == Belongs::Successor {
                    connection.give_up(summary, out);
                    let id = self.number(&key, summary);
                    self.slots[slot as usize].connection = Connection::new(id, segment);
                }
                slot
            }
            // A RST to nothing tells nothing.
            None if segment.rst => return,
            None => self.insert(key, segment, summary, out),
        };
        self.slots[slot as usize].connection.segment(segment, summary, out);
        self.account(slot, summary, out);
    }

    /// The capture is over: everything that is held back goes out, in the order of the connections' ids.
    pub fn finish(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let mut order: Vec<u32> = (0..self.slots.len() as u32).collect();
        order.sort_unstable_by_key(|slot| self.slots[*slot as usize].connection.id() as u32);
        for slot in order {
            self.slots[slot as usize].connection.end_of_capture(summary, out);
        }
    }

    fn number(&mut self, key: &Key, summary: &mut ImportSummary) -> u64 {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        summary.connections += 1;
        u64::from(key.hash()) << 32 | u64::from(number)
    }

    fn insert(
        &mut self,
        key: Key,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) -> u32 {
        let id = self.number(&key, summary);
        let connection = Connection::new(id, segment);
        if self.slots.len() < self.limit {
            let slot = self.slots.len() as u32;
            self.slots.push(Slot {
                key,
                connection,
                older: NONE,
                newer: NONE,
                held: 0,
            });
            self.append(slot);
            self.by_key.insert(key, slot);
            return slot;
        }
        let slot = self.oldest;
        self.touch(slot);
        let place = &mut self.slots[slot as usize];
        if !place.connection.is_closed() {
            // One that never got an answer is no loss.
            summary.evicted += u64::from(place.connection.is_established());
            place.connection.give_up(summary, out);
        }
        self.by_key.remove(&place.key);
        place.connection = connection;
        place.key = key;
        self.by_key.insert(key, slot);
        slot
    }

    /// Makes it the most recently used.
    fn touch(&mut self, slot: u32) {
        if self.newest == slot {
            return;
        }
        let (older, newer) = (self.slots[slot as usize].older, self.slots[slot as usize].newer);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        if newer != NONE {
            self.slots[newer as usize].older = older;
        }
        self.append(slot);
    }

    fn append(&mut self, slot: u32) {
        let before = self.newest;
        self.slots[slot as usize].older = before;
        self.slots[slot as usize].newer = NONE;
        match before {
            NONE => self.oldest = slot,
            before => self.slots[before as usize].newer = slot,
        }
        self.newest = slot;
    }

    /// Keeps the total of held memory within its bound.
    fn account(&mut self, slot: u32, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let place = &mut self.slots[slot as usize];
        let (before, now) = (place.held, place.connection.held());
        if before == now {
            return;
        }
        place.held = now;
        self.held = self.held - before + now;
        if before == 0 {
            self.holders.push_back((slot, place.connection.id()));
            if self.holders.len() > 4 * MAX_CONNECTIONS {
                let slots = &self.slots;
                self.holders
                    .retain(|(slot, id)| slots.get(*slot as usize).is_some_and(|s| s.connection.id() == *id));
            }
        }
        while self.held > MAX_HELD {
            let Some((slot, id)) = self.holders.pop_front() else {
                break;
            };
            let place = &mut self.slots[slot as usize];
            if place.connection.id() == id && place.held > 0 {
                let time = place.connection.last_time();
                place.connection.flush(time, summary, out);
                self.held -= place.held;
                place.held = 0;
            }
        }
    }
}
