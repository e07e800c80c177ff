//! Orphans: records of sockets that are not known, because their Socket record comes later or was lost.
//!
//! The recorder writes the Socket record first, but another CPU may be faster, a ring or a queue that is full may hold the
//! record back, and a block of state may be damaged. So such records wait, within bounds. Those that wait in vain are
//! counted as lost, because their connection is not known.

use std::collections::{BTreeMap, VecDeque};

use super::ids::IdMap;
use crate::format::record::{Data, Record};

/// Memory of one shard: captured bytes, and [`HELD_LEN`] for each record. The oldest records are given up first.
const MAX_BYTES: usize = 1 << 20;
/// Memory of a held record beside its payload, about.
const HELD_LEN: usize = 256;

/// A socket of a host: `(host, id)`.
type Key = (u16, u64);

/// A record with its own copy of the payload.
#[derive(Debug)]
pub struct Held {
    record: Record<'static>,
    payload: Box<[u8]>,
}

impl Held {
    /// A copy of a record about a socket; `None` for other kinds.
    fn new(record: &Record<'_>) -> Option<Held> {
        let (record, payload) = match *record {
            Record::Data(data) => (Record::Data(Data { payload: &[], ..data }), data.payload),
            Record::Owner(owner) => (Record::Owner(owner), &[][..]),
            Record::Connect(connect) => (Record::Connect(connect), &[][..]),
            Record::Close(close) => (Record::Close(close), &[][..]),
            _ => return None,
        };
        Some(Held {
            record,
            payload: payload.into(),
        })
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        match self.record {
            Record::Data(data) => Record::Data(Data {
                payload: &self.payload,
                ..data
            }),
            record => record,
        }
    }

    fn len(&self) -> usize {
        self.payload.len() + HELD_LEN
    }
}

/// Events of unknown sockets that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first and the last: boot clock of the host, ns.
    pub since: u64,
    pub until: u64,
    pub events: u64,
    /// Bytes that went over these sockets.
    pub bytes: u64,
}

impl Lost {
    fn of(record: &Record<'_>) -> Lost {
        let bytes = match record {
            Record::Data(data) => u64::from(data.len),
            _ => 0,
        };
        Lost {
            since: record.time(),
            until: record.time(),
            events: 1,
            bytes,
        }
    }

    /// Adds others.
    pub fn merge(&mut self, other: Lost) {
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// Records whose sockets are not known, in the order in which they came, and what was given up of them.
#[derive(Debug, Default)]
pub struct Orphans {
    held: IdMap<Key, VecDeque<Held>>,
    /// The socket of each held record, oldest first.
    order: VecDeque<Key>,
    bytes: usize,
    /// By host.
    lost: BTreeMap<u16, Lost>,
}

impl Orphans {
    /// Holds a record of an unknown socket.
    pub fn hold(&mut self, key: Key, record: &Record<'_>) {
        let Some(held) = Held::new(record) else { return };
        self.bytes += held.len();
        self.held.entry(key).or_default().push_back(held);
        self.order.push_back(key);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.give_up_one(oldest);
        }
    }

    /// Whether records of this socket wait, and such of another socket with the same endpoints: the other end.
    pub fn waits_for_both_ends(&self, key: Key) -> bool {
        let is_other = |other: &Key| *other != key && other.1 >> 32 == key.1 >> 32;
        self.held.contains_key(&key) && self.held.keys().any(is_other)
    }

    /// The records of a socket that is known now.
    pub fn take(&mut self, key: Key) -> VecDeque<Held> {
        let taken = self.held.remove(&key).unwrap_or_default();
        if !taken.is_empty() {
            self.bytes -= taken.iter().map(Held::len).sum::<usize>();
            self.order.retain(|of| *of != key);
        }
        taken
    }

    /// Counts a record of an unknown socket as lost.
    pub fn lose(&mut self, host: u16, record: &Record<'_>) {
        // State is no event.
        if record.is_state() {
            return;
        }
        let lost = Lost::of(record);
        self.lost
            .entry(host)
            .and_modify(|so_far| so_far.merge(lost))
            .or_insert(lost);
    }

    fn give_up_one(&mut self, key: Key) {
        let Some(of_socket) = self.held.get_mut(&key) else {
            return;
        };
        let oldest = of_socket.pop_front();
        if of_socket.is_empty() {
            self.held.remove(&key);
        }
        if let Some(held) = oldest {
            self.bytes -= held.len();
            self.lose(key.0, &held.record());
        }
    }

    /// Gives up all waiting records, at the end of the captures.
    pub fn give_up(&mut self) {
        while let Some(key) = self.order.pop_front() {
            self.give_up_one(key);
        }
    }

    /// What was given up, by host.
    pub fn lost(&self) -> &BTreeMap<u16, Lost> {
        &self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::{Close, Cut, Direction, Ending, Layer, Owner};

    fn data(id: u64, time: u64, payload: &[u8]) -> Record<'_> {
        Record::Data(Data {
            time,
            id,
            pos: 0,
            len: payload.len() as u32,
            pid: 0,
            tid: 0,
            cgroup: 0,
            direction: Direction::Sent,
            cut: Cut::Whole,
            payload,
            layer: Layer::Wire,
        })
    }

    #[test]
    fn held_records_come_back_unchanged_and_in_order() {
        let mut orphans = Orphans::default();
        let close = Record::Close(Close {
            time: 9,
            id: 1,
            ending: Ending::Closed,
            bytes_sent: 3,
            bytes_received: 0,
            retransmits: 0,
            srtt_us: 0,
        });
        let of_one = [data(1, 5, b"abc"), data(1, 6, b""), close];
        orphans.hold((0, 1), &of_one[0]);
        orphans.hold((1, 1), &data(1, 5, b"another host"));
        orphans.hold((0, 1), &of_one[1]);
        orphans.hold((0, 1), &of_one[2]);
        let taken = orphans.take((0, 1));
        assert_eq!(taken.iter().map(Held::record).collect::<Vec<_>>(), of_one);
        assert_eq!(orphans.take((0, 1)).len(), 0);
        orphans.give_up();
        let lost = Lost {
            since: 5,
            until: 5,
            events: 1,
            bytes: 12,
        };
        assert_eq!(orphans.lost(), &BTreeMap::from([(1, lost)]));
    }

    #[test]
    fn held_records_are_bounded_and_those_given_up_are_counted() {
        let mut orphans = Orphans::default();
        let payload = vec![b'x'; 5000];
        for n in 0..1000u64 {
            orphans.hold((0, n % 7), &data(n % 7, 100 + n, &payload));
            assert!(orphans.bytes <= MAX_BYTES);
        }
        let held = orphans.held.values().map(VecDeque::len).sum::<usize>() as u64;
        assert!(held > 100);
        let lost = orphans.lost()[&0];
        assert_eq!((lost.events, lost.bytes), (1000 - held, (1000 - held) * 5000));
        assert_eq!((lost.since, lost.until), (100, 100 + 999 - held));
        orphans.give_up();
        assert_eq!((orphans.lost()[&0].events, orphans.bytes), (1000, 0));
        assert!(orphans.held.is_empty() && orphans.order.is_empty());
    }

    #[test]
    fn an_owner_record_is_no_lost_event() {
        let mut orphans = Orphans::default();
        let owner = Owner {
            time: 1,
            id: 1,
            pid: 7,
            cgroup: 0,
        };
        orphans.hold((0, 1), &Record::Owner(owner));
        orphans.give_up();
        assert!(orphans.lost().is_empty());
    }
}
