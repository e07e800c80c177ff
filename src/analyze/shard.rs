//! One of the parts that connections are split into: sockets by id, flows, and the rows that they yield.
//!
//! Both ends of a connection are in the same shard (the upper half of a socket's id is a hash of its endpoints; see
//! [`super::nat`] for those that know each other by other addresses), so shards share nothing. Here is where each record
//! goes; the files beside it say how long what it leads to is kept, and what rows are made of it.

mod connection_rows;
mod exchange_rows;
mod lifetime;
mod matching;
mod socket;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;

use self::exchange_rows::LastParty;
use self::socket::{SocketState, both_ends, is_before, utc};
use super::flow::{Flow, OBSERVERS};
use super::ids::{IdMap, IdSet};
use super::names::{Host, Parties, Who};
use super::nat::Nat;
use super::orphans::{Lost, Orphans};
use super::row::{Event, Sink};
use super::selection::Span;
use super::stream::Segment;
use crate::format::record::{Close, Connect, Cut, Data, Direction, Endpoint, Record, Role, Socket};

/// Sockets of the same endpoints that wait for their first data.
const MAX_WAITING: usize = 1024;

/// A socket of a host: `(host, id)`.
type Key = (u16, u64);

/// By both endpoints of a connection. Whoever is captured chooses them, so the hash is seeded at random.
type ByEnds<T> = HashMap<[Endpoint; 2], T, RandomState>;

/// The pid and the cgroup of a process.
type ProcessPlace = (u32, u64);

/// What of a flow lies within the span that is counted.
#[derive(Debug, Default)]
struct FlowWithin {
    exchanges: u64,
    /// Lost and unread bytes of the flow when the first of its events since the beginning of the span came, and when the
    /// first since its end did.
    began: Option<[u64; 2]>,
    ended: Option<[u64; 2]>,
}

impl FlowWithin {
    /// An event at this time is about to be followed.
    fn event(&mut self, span: Span, time: u64, flow: &Flow) {
        let so_far = [flow.lost_bytes, flow.unread_bytes];
        if time >= span.from {
            self.began.get_or_insert(so_far);
        }
        if time >= span.to {
            self.ended.get_or_insert(so_far);
        }
    }

    /// Lost and unread bytes.
    fn bytes(&self, flow: &Flow) -> [u64; 2] {
        let ended = self.ended.unwrap_or([flow.lost_bytes, flow.unread_bytes]);
        let began = self.began.unwrap_or(ended);
        [0, 1].map(|n| ended[n].saturating_sub(began[n]))
    }
}

/// A flow with the sockets that observe it.
#[derive(Debug)]
struct Slot {
    flow: Flow,
    within: FlowWithin,
    /// The socket behind each observer.
    sockets: [Option<Key>; OBSERVERS],
    parties: [LastParty; 2],
    /// [`Frame::parties`] of these two, for the end that was the client; 0 before the first exchange.
    pair: u64,
    client: usize,
    /// For which client, editions and processes these were looked up, where nothing else can change them.
    sure: Option<(usize, u64, [ProcessPlace; 2])>,
    /// Block of its last event.
    touched: u64,
    /// The next younger and the next older flow of the same endpoints.
    younger: Option<usize>,
    older: Option<usize>,
    /// [`Frame::connection`]: the same for its whole life, whatever becomes known of it.
    number: u64,
    /// When its last exchange began: UTC, ns.
    last_start: u64,
}

/// One shard.
pub struct Shard<S> {
    pub sink: S,
    /// A map has room for more than it holds, and most sockets of a scan never do anything.
    sockets: IdMap<Key, Box<SocketState>>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    recycled: Vec<Flow>,
    /// The newest flow of two endpoints, lower endpoint first.
    by_ends: ByEnds<usize>,
    /// Sockets without data so far, by their two endpoints, oldest first; of many the newest.
    waiting: ByEnds<Vec<Key>>,
    orphans: Orphans,
    /// Sockets that became known in this block, after records of both ends.
    late_sockets: Vec<(Key, SocketState)>,
    /// Sockets that are going to be known, whose other ends another host has recorded.
    expecting_other: IdSet<Key>,
    block: u64,
    /// The latest event of all blocks so far: UTC, ns.
    now: u64,
    /// Flows with events in this block, and in the blocks before it, newest last.
    touched: Vec<usize>,
    touched_before: VecDeque<Vec<usize>>,
    /// Closed sockets, as they were told of, with the block in which that was and the time of the close: UTC, ns.
    closed: VecDeque<(u64, u64, Key)>,
    /// Those that were the last end of a connection of which both are known, in this block and in those before it.
    whole: Vec<Key>,
    whole_before: VecDeque<Vec<Key>>,
    /// Closed sockets of which something is missing, and since when they are awaited, oldest first.
    awaited: VecDeque<(u64, Key)>,
    /// Sockets closed not long ago (UTC, ns), oldest first: to be told of them again is nothing new.
    gone: VecDeque<(u64, Key)>,
    gone_keys: IdSet<Key>,
    parties: Parties,
    /// Pairs of parties so far.
    pairs: u64,
    /// Of each connection, what lies within this is counted by itself.
    pub span: Option<Span>,
}

impl<S: Sink> Shard<S> {
    /// A shard that gives its rows to this sink.
    pub fn new(sink: S) -> Self {
        Shard {
            sink,
            sockets: IdMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            recycled: Vec::new(),
            by_ends: ByEnds::default(),
            waiting: ByEnds::default(),
            orphans: Orphans::default(),
            late_sockets: Vec::new(),
            expecting_other: IdSet::default(),
            block: 0,
            now: 0,
            touched: Vec::new(),
            touched_before: VecDeque::new(),
            closed: VecDeque::new(),
            whole: Vec::new(),
            whole_before: VecDeque::new(),
            awaited: VecDeque::new(),
            gone: VecDeque::new(),
            gone_keys: IdSet::default(),
            parties: Parties::default(),
            pairs: 0,
            span: None,
        }
    }

    /// Gives the sink one record about a socket of a host as an event, before the record is followed. There is none of a
    /// record that came before its socket or too long after the close: who is behind it is not known.
    pub fn event(&mut self, (host, record): (u16, &Record<'_>), place: (usize, u32), hosts: &[Host], nat: &Nat) {
        let (mut socket, owner) = match record {
            Record::Socket(socket) => (*socket, Who::from(socket)),
            Record::Connect(Connect { id, .. }) | Record::Close(Close { id, .. }) | Record::Data(Data { id, .. }) => {
                let key = (host, *id);
                let known = self.sockets.get(&key).map(|known| &**known);
                let late = || self.late_sockets.iter().find(|(late, _)| *late == key);
                let Some(known) = known.or_else(|| late().map(|(_, state)| state)) else {
                    return;
                };
                (known.socket, known.owner)
            }
            _ => return,
        };
        let user = match record {
            Record::Data(data) if data.pid != 0 => Who {
                pid: data.pid,
                cgroup: data.cgroup,
                seen: data.time,
            },
            _ => owner,
        };
        nat.restore(host, &mut socket);
        let Some(known) = hosts.get(usize::from(host)) else {
            return;
        };
        let (party, _) = self.parties.party(host, known, user, record.time());
        self.sink.event(&Event {
            time: known.utc(record.time()),
            place,
            record,
            socket: Some(&socket),
            party: &party,
        });
    }

    /// Takes one record about a socket of a host.
    pub fn record(&mut self, host: u16, record: &Record<'_>, hosts: &[Host]) {
        let id = match record {
            Record::Data(data) => return self.data(host, data, hosts),
            Record::Socket(socket) => return self.socket(host, socket, hosts),
            Record::Owner(owner) => owner.id,
            Record::Connect(connect) => connect.id,
            Record::Close(close) => close.id,
            // They name nothing that a shard follows.
            Record::Process(_)
            | Record::Cgroup(_)
            | Record::Workload(_)
            | Record::Address(_)
            | Record::Exit(_)
            | Record::Loss(_)
            | Record::Remark(_)
            | Record::Clock(_) => return,
        };
        let key = (host, id);
        let Some(known) = self.sockets.get_mut(&key) else {
            return self.orphan(key, record);
        };
        match record {
            Record::Owner(owner) => {
                known.owner = Who::from(owner);
            }
            Record::Connect(connect) => {
                known.connect = Some(*connect);
                if connect.error == 0 {
                    known.socket.send_pos = connect.send_pos;
                    known.socket.receive_pos = connect.receive_pos;
                    known.socket.positions = true;
                }
            }
            Record::Close(close) => self.close(key, close, hosts),
            _ => {}
        }
    }

    fn socket(&mut self, host: u16, socket: &Socket, hosts: &[Host]) {
        let key = (host, socket.id);
        let expects_other = self.expecting_other.remove(&key);
        match self.sockets.get_mut(&key) {
            // The dump at the start of a rotated part repeats what is known.
            Some(known) => {
                known.expects_other |= expects_other;
                if known.socket.role == Role::Undetermined {
                    known.socket.role = socket.role;
                }
                if known.owner.pid == 0 {
                    known.owner = Who::from(socket);
                }
            }
            None if self.gone_keys.contains(&key) => {}
            None => {
                let state = SocketState {
                    expects_other,
                    is_before: is_before(hosts, host, socket),
                    ..SocketState::new(*socket)
                };
                // Whose records came before both, the two are followed together, not the one and then the other.
                if self.orphans.waits_for_both_ends(key) {
                    return self.late_sockets.push((key, state));
                }
                self.add_socket(key, state);
                self.adopt_orphans(key, hosts);
            }
        }
    }

    fn add_socket(&mut self, key: Key, state: SocketState) {
        if state.socket.role != Role::Listener {
            let waiting = self.waiting.entry(both_ends(&state.socket));
            // Most are the only one of their endpoints.
            let waiting = waiting.or_insert_with(|| Vec::with_capacity(1));
            if waiting.len() == MAX_WAITING {
                waiting.remove(0);
            }
            waiting.push(key);
        }
        self.sockets.insert(key, Box::new(state));
    }

    /// Takes the records that came before their socket.
    fn adopt_orphans(&mut self, key: Key, hosts: &[Host]) {
        for held in self.orphans.take(key) {
            self.record(key.0, &held.record(), hosts);
        }
    }

    fn add_late_sockets(&mut self, hosts: &[Host]) {
        let late = std::mem::take(&mut self.late_sockets);
        let keys: Vec<Key> = late.iter().map(|(key, _)| *key).collect();
        for (key, state) in late {
            if !self.sockets.contains_key(&key) {
                self.add_socket(key, state);
            }
        }
        for key in keys {
            self.adopt_orphans(key, hosts);
        }
    }

    /// Another host has recorded the other end of this socket, which is going to be known.
    pub fn expect_other_end(&mut self, host: u16, id: u64) {
        self.expecting_other.insert((host, id));
    }

    /// Takes a record of a socket that is not known.
    fn orphan(&mut self, key: Key, record: &Record<'_>) {
        match (self.gone_keys.contains(&key), record) {
            (false, _) => self.orphans.hold(key, record),
            // The row of its connection is given.
            (true, Record::Data(_)) => self.orphans.lose(key.0, record),
            (true, _) => {}
        }
    }

    /// Events of sockets that are not known, by host. Whole when the captures are over.
    pub fn lost(&self) -> &BTreeMap<u16, Lost> {
        self.orphans.lost()
    }

    /// Takes bytes that went over a socket of a host.
    pub fn data(&mut self, host: u16, data: &Data<'_>, hosts: &[Host]) {
        let key = (host, data.id);
        let Some(known) = self.sockets.get_mut(&key) else {
            return self.orphan(key, &Record::Data(*data));
        };
        if known.first_data == 0 || data.time < known.first_data {
            known.first_data = data.time;
        }
        known.last_data = known.last_data.max(data.time);
        let sent = data.direction == Direction::Sent;
        *(if sent { &mut known.sent } else { &mut known.received }) += u64::from(data.len);
        let is_closed = known.close.is_some();
        let in_span = self.span.map(|span| (span, utc(hosts, host, data.time).unwrap_or(0)));
        if in_span.is_some_and(|(span, time)| span.contains(time)) {
            known.within[usize::from(!sent)] += u64::from(data.len);
        }
        let (place, observer, end) = match known.flow {
            Some(place) => (place, known.observer, known.end),
            None => self.join(key, Some(data), hosts),
        };
        let Some(slot) = self.slots[place].as_mut() else { return };
        if let Some((span, time)) = in_span {
            slot.within.event(span, time, &slot.flow);
        }
        let sender = if sent { end } else { 1 - end };
        slot.flow.start(sender, data.pos);
        let segment = Segment {
            pos: slot.flow.stream(sender).position(data.pos),
            len: u64::from(data.len),
            payload: data.payload,
            observer: observer as u8,
            time: data.time,
            pid: data.pid,
            tid: data.tid,
            cgroup: data.cgroup,
            urgent: false,
        };
        if data.cut == Cut::Urgent {
            let (before, urgent) = segment.with_last_urgent();
            if before.len > 0 {
                slot.flow.segment(sender, before);
            }
            slot.flow.segment(sender, urgent);
        } else {
            slot.flow.segment(sender, segment);
        }
        if slot.touched != self.block {
            slot.touched = self.block;
            self.touched.push(place);
        }
        if slot.flow.has_finished() || slot.flow.has_turn() {
            self.emit(place, hosts, false);
        }
        if is_closed && self.sockets.get(&key).is_some_and(|known| known.has_shown_all()) {
            self.conclude(key, hosts);
        }
    }

    fn touch(&mut self, place: usize) {
        if let Some(slot) = self.slots[place].as_mut()
            && slot.touched != self.block
        {
            slot.touched = self.block;
            self.touched.push(place);
        }
    }

    /// No row of an exchange that began before this (UTC, ns) is still to come from what is open here.
    pub fn oldest_exchange(&self, hosts: &[Host]) -> u64 {
        let of_slot = |slot: &Slot| {
            let times = slot.flow.oldest().into_iter().zip(slot.sockets);
            let utc = |(time, socket): (u64, Option<Key>)| utc(hosts, socket?.0, time);
            times.filter_map(utc).min()
        };
        let slots = self.slots.iter().flatten();
        slots.filter_map(of_slot).min().unwrap_or(u64::MAX)
    }

    /// Adds the connections, by the upper halves of their sockets' ids, of which an exchange that began before this (UTC,
    /// ns) may still be to come. With `settled`, also those of which it is not known yet what they are.
    pub fn unfinished(&self, hosts: &[Host], to: u64, settled: bool, keys: &mut BTreeSet<u32>) {
        let upper = |key: Key| (key.1 >> 32) as u32;
        for slot in self.slots.iter().flatten() {
            let times = slot.flow.oldest().into_iter().zip(slot.sockets);
            let began = |(time, socket): (u64, Option<Key>)| utc(hosts, socket?.0, time);
            let is_open = times.filter_map(began).any(|time| time < to) || slot.flow.is_foreign();
            if is_open || (settled && !slot.flow.is_settled()) {
                keys.extend(slot.sockets.iter().flatten().copied().map(upper));
            }
        }
        if settled {
            let undecided = self.sockets.iter().filter(|(_, state)| state.is_undecided());
            keys.extend(undecided.map(|(key, _)| upper(*key)));
        }
    }
}
