//! One of the parts that connections are split into: sockets by id, flows, and the rows that they yield.
//!
//! Both ends of a connection are in the same shard (the upper half of a socket's id is a hash of its endpoints; see
//! [`super::nat`] for those that know each other by other addresses), so shards share nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::exchange::AnyExchange;
use super::flow::{Flow, OBSERVERS, WIRE, whole_view};
use super::ids::{IdMap, IdSet};
use super::names::{Host, Parties, Who};
use super::orphans::{Lost, Orphans};
use super::protocol::detect;
use super::row::{ConnectionRow, Frame, Latency, Observed, Party, Sink, WithinSpan};
use super::selection::Span;
use super::stream::Segment;
use crate::format::record::{Close, Connect, Cut, Data, Direction, Ending, Endpoint, Opened, Record, Role, Socket};

/// Sequence numbers of two views that are farther apart than this are not the same connection: well above the socket
/// buffers of any usual host (tcp_rmem, tcp_wmem).
const MAX_APART: u32 = 64 << 20;
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
/// Connections of the same endpoints that are tried for a match, newest first: a port may be used again within milliseconds.
const MAX_SAME_ENDS: usize = 16;
/// Sockets of the same endpoints that wait for their first data.
const MAX_WAITING: usize = 1024;

/// A socket of a host: `(host, id)`.
type Key = (u16, u64);

/// By both endpoints of a connection. Whoever is captured chooses them, so the hash is seeded at random.
type ByEnds<T> = HashMap<[Endpoint; 2], T, RandomState>;

#[derive(Debug)]
struct SocketState {
    socket: Socket,
    /// Place of its flow, once it had data.
    flow: Option<usize>,
    observer: usize,
    /// Which end of the flow it is.
    end: usize,
    /// The process that is known to use it.
    owner: Who,
    /// Another host has recorded the other end.
    expects_other: bool,
    /// It was opened before the first event that is given.
    is_before: bool,
    connect: Option<Connect>,
    close: Option<Close>,
    /// Closed, and all that it has shown is there: its flow was told.
    is_over: bool,
    first_data: u64,
    last_data: u64,
    sent: u64,
    received: u64,
    /// The same of what lies within the span that is counted.
    within: [u64; 2],
}

impl SocketState {
    fn new(socket: Socket) -> Self {
        SocketState {
            owner: Who::from(&socket),
            socket,
            flow: None,
            observer: WIRE,
            end: 0,
            expects_other: false,
            is_before: false,
            connect: None,
            close: None,
            is_over: false,
            first_data: 0,
            last_data: 0,
            sent: 0,
            received: 0,
            within: [0; 2],
        }
    }

    /// Its connect failed: it has no other end.
    fn has_failed(&self) -> bool {
        self.connect.is_some_and(|connect| connect.error != 0)
    }

    /// Whether all its bytes went over while events are given: then the totals of its kernel count what is given too.
    fn is_given_whole(&self) -> bool {
        (self.socket.positions || self.socket.role == Role::Wire) && !self.is_before
    }

    /// Whether it has shown all bytes that went over it. Not known where it was reset: what was sent and never left is in no
    /// total.
    fn has_shown_all(&self) -> bool {
        self.close.is_some_and(|close| {
            close.ending == Ending::Closed
                && self.is_given_whole()
                && self.sent >= close.bytes_sent
                && self.received >= close.bytes_received
        })
    }

    /// Whether its kernel counted bytes that it has not shown.
    fn lacks_bytes(&self) -> bool {
        let is_short = |close: Close| self.sent < close.bytes_sent || self.received < close.bytes_received;
        self.socket.role != Role::Wire && self.is_given_whole() && self.close.is_some_and(is_short)
    }

    /// Whether what its connection is can still become known.
    fn is_undecided(&self) -> bool {
        self.flow.is_none() && self.close.is_none() && !self.has_failed() && self.socket.role != Role::Listener
    }

    /// Who a process of its host was at a time, and between which times it is the same.
    fn party(
        &self,
        (hosts, host): (&[Host], u16),
        who: Who,
        time: u64,
        parties: &mut Parties,
    ) -> (Arc<Party>, Range<u64>) {
        match hosts.get(usize::from(host)) {
            Some(known) if self.socket.role != Role::Wire => parties.party(host, known, who, time),
            _ => (Arc::default(), 0..u64::MAX),
        }
    }

    /// Who opened it, or was the first to be seen using it.
    fn opener(&self, hosts: (&[Host], u16), parties: &mut Parties) -> Arc<Party> {
        let time = self.socket.time.max(self.owner.seen);
        self.party(hosts, self.owner, time, parties).0
    }
}

/// The pid and the cgroup of a process.
type ProcessPlace = (u32, u64);

/// Who was behind an end of a flow at its last exchange.
#[derive(Debug, Default)]
struct LastParty {
    /// The hosts' editions and the process for which it was looked up: another process may use the socket, and more
    /// may be known later.
    of: Option<(u64, u32, u64)>,
    /// Between which times it is this one: a process can run another program. On the boot clock of the end's host.
    valid: Range<u64>,
    party: Arc<Party>,
}

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

/// What has its row to come at the end.
enum Rest {
    /// The flow of this place.
    Flow(usize),
    /// The flow that this socket is going to have.
    Alone(Key),
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

    /// A socket is closed. What it has moved before may be told later: its flow learns of the close when that is there.
    fn close(&mut self, key: Key, close: &Close, hosts: &[Host]) {
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
    fn conclude(&mut self, key: Key, hosts: &[Host]) {
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
        if slot.flow.has_finished() {
            self.emit(place, hosts, false);
        }
        if is_closed && self.sockets.get(&key).is_some_and(|known| known.has_shown_all()) {
            self.conclude(key, hosts);
        }
    }

    /// Finds or makes the flow of a socket that has its first data, or never had any: its place, which observer, and which
    /// end.
    fn join(&mut self, key: Key, first: Option<&Data<'_>>, hosts: &[Host]) -> (usize, usize, usize) {
        let Some(known) = self.sockets.get(&key) else {
            return (0, WIRE, 0);
        };
        let (socket, expects_other) = (known.socket, known.expects_other);
        let ends = both_ends(&socket);
        let end = usize::from(ends[0] != socket.local);
        let observer = if socket.role == Role::Wire { WIRE } else { end };
        let first = first.map(|data| match data.direction {
            Direction::Sent => (end, data.pos),
            _ => (1 - end, data.pos),
        });
        let (peer, found) = match known.has_failed() {
            true => (None, None),
            false => (
                self.peer(&ends, (key, &socket), hosts),
                self.find(&ends, observer, (key.0, &socket), first, hosts),
            ),
        };
        let place = match (found, peer) {
            // A flow that may be it, and a socket that certainly is.
            (Some((_, Kin::Near)), Some((_, Kin::Exact))) | (None, _) => {
                let place = self.make(ends, key.0, &socket, hosts);
                if let Some(slot) = self.slots[place].as_mut().filter(|_| expects_other && observer != WIRE) {
                    slot.flow.expect(1 - end);
                }
                self.observe(place, key, hosts);
                if let Some((peer, _)) = peer {
                    self.observe(place, peer, hosts);
                }
                self.number(place);
                place
            }
            (Some((place, _)), _) => {
                self.observe(place, key, hosts);
                place
            }
        };
        (place, observer, end)
    }

    /// Gives a flow the number of its connection: the client's socket decides where it is known, else the server's.
    fn number(&mut self, place: usize) {
        if let Some(slot) = self.slots[place].as_mut() {
            let client = slot.flow.client().unwrap_or(0);
            let decides = [client, 1 - client, WIRE].into_iter().find_map(|n| slot.sockets[n]);
            slot.number = decides.map_or(0, row_key);
        }
    }

    /// Makes a socket an observer of a flow, and tells the flow what the socket knows.
    fn observe(&mut self, place: usize, key: Key, hosts: &[Host]) {
        let Some(known) = self.sockets.get_mut(&key) else {
            return;
        };
        let Some(slot) = self.slots[place].as_mut() else { return };
        let socket = &known.socket;
        let end = usize::from(slot.flow.ends[0] != socket.local);
        let observer = if socket.role == Role::Wire { WIRE } else { end };
        let listens = |host: &Host| host.listens(socket.netns, socket.local.port);
        let client = match socket.role {
            Role::Client => Some(end),
            Role::Wire if socket.opened == Opened::Connect => Some(end),
            Role::Server | Role::Listener => Some(1 - end),
            Role::Undetermined if hosts.get(usize::from(key.0)).is_some_and(listens) => Some(1 - end),
            _ => None,
        };
        if let Some(client) = client {
            slot.flow.set_client(client);
        }
        if socket.positions && !known.is_before {
            slot.flow.start(end, socket.send_pos);
            slot.flow.start(1 - end, socket.receive_pos);
        }
        slot.flow.attach(observer, key.0);
        slot.sockets[observer] = Some(key);
        slot.sure = None;
        known.flow = Some(place);
        known.observer = observer;
        known.end = end;
        if let Some(close) = known.close.filter(|_| known.is_over) {
            slot.flow.close(observer, close.time, totals(known, &close));
        }
        let ends = slot.flow.ends;
        self.forget_waiting(key, &ends);
    }

    /// The other end of a connection, if it is recorded too and has shown nothing yet.
    fn peer(&self, ends: &[Endpoint; 2], (key, socket): (Key, &Socket), hosts: &[Host]) -> Option<(Key, Kin)> {
        let mut near = None;
        for other in self.waiting.get(ends)?.iter().filter(|other| **other != key) {
            let Some(known) = self.sockets.get(other).filter(|known| !known.has_failed()) else {
                continue;
            };
            match kin((key.0, socket), (other.0, &known.socket), hosts) {
                Kin::Exact => return Some((*other, Kin::Exact)),
                // Each has told where its streams begin, and not in the same place.
                Kin::Near if saw_handshake(socket) && saw_handshake(&known.socket) => {}
                Kin::Near => near = near.or(Some((*other, Kin::Near))),
                Kin::No => {}
            }
        }
        near
    }

    fn forget_waiting(&mut self, key: Key, ends: &[Endpoint; 2]) {
        if let Some(waiting) = self.waiting.get_mut(ends) {
            waiting.retain(|other| *other != key);
            if waiting.is_empty() {
                self.waiting.remove(ends);
            }
        }
    }

    /// The flow of these endpoints that a socket observes too: it lacks this observer, and is at about the sequence number of
    /// the socket's first data (with its sender). Of several, the one that certainly is it, else the nearest.
    fn find(
        &self,
        ends: &[Endpoint; 2],
        observer: usize,
        socket: (u16, &Socket),
        first: Option<(usize, u32)>,
        hosts: &[Host],
    ) -> Option<(usize, Kin)> {
        let mut nearest: Option<(u64, usize)> = None;
        let mut candidate = self.by_ends.get(ends).copied();
        for _ in 0..MAX_SAME_ENDS {
            let Some(place) = candidate else { break };
            let Some(slot) = self.slots[place].as_ref() else { break };
            candidate = slot.older;
            if !slot.flow.lacks(observer) {
                continue;
            }
            match self.kin_of_flow(slot, observer, socket, (first.is_some(), hosts)) {
                Kin::Exact => return Some((place, Kin::Exact)),
                Kin::Near => {}
                Kin::No => continue,
            }
            let distance = first.map_or(0, |(sender, sequence)| match slot.flow.stream(sender) {
                stream if stream.is_started() => stream.distance(sequence),
                _ => 0,
            });
            if distance < u64::from(MAX_APART) && nearest.is_none_or(|(least, _)| distance < least) {
                nearest = Some((distance, place));
            }
        }
        nearest.map(|(_, place)| (place, Kin::Near))
    }

    /// Whether a socket may be the end of a flow that this is the observer of.
    fn kin_of_flow(
        &self,
        slot: &Slot,
        observer: usize,
        (host, socket): (u16, &Socket),
        (has_data, hosts): (bool, &[Host]),
    ) -> Kin {
        let other = match observer {
            WIRE => None,
            end => slot.sockets[1 - end],
        };
        let Some((other, known)) = other.and_then(|key| Some((key, self.sockets.get(&key)?))) else {
            return Kin::Near;
        };
        let closed_before = |close: Close| other.0 == host && close.time < socket.time;
        match kin((host, socket), (other.0, &known.socket), hosts) {
            // Their beginnings do not agree: where one told of them late, its data may still show that they are one. Not if
            // the one was closed before the other was opened, though.
            Kin::Near if saw_handshake(socket) && saw_handshake(&known.socket) => {
                match has_data && !known.close.is_some_and(closed_before) {
                    true => Kin::Near,
                    false => Kin::No,
                }
            }
            kin => kin,
        }
    }

    fn make(&mut self, ends: [Endpoint; 2], host: u16, socket: &Socket, hosts: &[Host]) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let older = self.by_ends.insert(ends, place);
        if let Some(older) = older.and_then(|older| self.slots[older].as_mut()) {
            older.younger = Some(place);
        }
        let opening_seen = match socket.role {
            // On a wire, positions are known from the first segment on, whichever it is.
            Role::Wire => is_handshake(socket),
            // The start of a rotated part repeats how a socket was opened, and leaves its positions out.
            _ => socket.positions,
        };
        let joined = !opening_seen || is_before(hosts, host, socket);
        let sockets = [None; OBSERVERS];
        let flow = match self.recycled.pop() {
            Some(over) => over.again(ends, None, joined),
            None => Flow::new(ends, None, joined),
        };
        self.slots[place] = Some(Slot {
            flow,
            within: FlowWithin::default(),
            sockets,
            parties: Default::default(),
            pair: 0,
            client: 0,
            sure: None,
            touched: u64::MAX,
            younger: None,
            older,
            number: 0,
            last_start: 0,
        });
        place
    }

    fn touch(&mut self, place: usize) {
        if let Some(slot) = self.slots[place].as_mut()
            && slot.touched != self.block
        {
            slot.touched = self.block;
            self.touched.push(place);
        }
    }

    /// Gives the finished exchanges of a flow to the sink; with `flush` the unfinished ones too.
    fn emit(&mut self, place: usize, hosts: &[Host], flush: bool) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        while let Some(mut taken) = slot.flow.take(flush) {
            if slot.flow.is_joined() {
                note_unreadable(slot, taken.exchange_mut(), hosts);
            }
            let exchange = taken.exchange();
            update_parties(
                slot,
                exchange,
                &self.sockets,
                hosts,
                (&mut self.parties, &mut self.pairs),
            );
            let start = emit_exchange(slot, exchange, (&self.sockets, hosts), &mut self.sink);
            if self.span.is_some_and(|span| span.contains(start)) {
                slot.within.exchanges += 1;
            }
            slot.flow.recycle(taken);
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

    /// The row of a connection, or of a listener.
    fn flow_row(&mut self, slot: &Slot, hosts: &[Host]) {
        let client = slot.flow.client().unwrap_or_else(|| {
            let shown = slot.sockets[WIRE].or(slot.sockets[0]).or(slot.sockets[1]);
            let local = shown
                .and_then(|key| self.sockets.get(&key))
                .map(|state| state.socket.local);
            usize::from(local.is_some_and(|local| local != slot.flow.ends[0]))
        });
        let order = [client, 1 - client, WIRE];
        let states: [Option<(Key, Box<SocketState>)>; OBSERVERS] =
            order.map(|observer| slot.sockets[observer].and_then(|key| Some((key, self.sockets.remove(&key)?))));
        let [at_client, at_server, on_wire] = states;
        let side = observed(at_client.is_some(), at_server.is_some());
        let observer = [&at_client, &at_server, &on_wire]
            .into_iter()
            .find_map(|state| state.as_ref().map(|(key, state)| (key.0, state.socket.time)));
        let parties = &mut self.parties;
        let mut party = |state: &Option<(Key, Box<SocketState>)>, end: usize| match state {
            Some((key, state)) => state.opener((hosts, key.0), parties),
            None => remote_party(hosts, observer, &slot.flow.ends[end]),
        };
        let client_party = party(&at_client, client);
        let server_party = party(&at_server, 1 - client);
        let ends = RowEnds {
            parties: slot.pair,
            number: slot.number,
            had_data: [&at_client, &at_server, &on_wire]
                .into_iter()
                .flatten()
                .any(|(_, state)| state.sent + state.received > 0),
            client: slot.flow.ends[client],
            server: slot.flow.ends[1 - client],
            client_party: &client_party,
            server_party: &server_party,
            side,
        };
        let other_ending = at_server
            .as_ref()
            .and_then(|(_, state)| state.close)
            .map(|close| close.ending);
        let other = at_client.as_ref().and(at_server.as_ref());
        let [other_sent, other_received] = other.map_or([0; 2], |(_, other)| [other.sent, other.received]);
        let Some((key, state)) = at_client.or(at_server).or(on_wire) else {
            return;
        };
        let mut row = connection_row(&ends, key.0, &state, hosts, &slot.flow);
        if state.close.is_none() || !state.is_given_whole() {
            // What one end sent the other has received, and may have been recorded from earlier on.
            row.bytes_sent = row.bytes_sent.max(other_received);
            row.bytes_received = row.bytes_received.max(other_sent);
        }
        row.within = self.span.map(|_| within(&state, slot));
        if row.ending == Some(Ending::Closed) && other_ending.is_some_and(|ending| ending != Ending::Closed) {
            row.ending = other_ending;
        }
        self.sink.connection(&row);
    }
}

/// Whether two sockets are the ends of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kin {
    No,
    /// For all that is known.
    Near,
    /// Both say from the handshake where the two streams begin: in the same places.
    Exact,
}

fn kin((host, socket): (u16, &Socket), (other_host, other): (u16, &Socket), hosts: &[Host]) -> Kin {
    let is_one_role = socket.role == other.role && matches!(socket.role, Role::Client | Role::Server);
    if other.local != socket.remote || other.remote != socket.local || is_one_role {
        return Kin::No;
    }
    // What goes over loopback stays in its network namespace; others may use the same addresses.
    let machine = |host: u16| hosts.get(usize::from(host)).map(|host| host.machine);
    let is_one_netns = socket.netns == other.netns || socket.netns == 0 || other.netns == 0;
    if is_loopback(&socket.local) && !(machine(host) == machine(other_host) && is_one_netns) {
        return Kin::No;
    }
    if !socket.positions || !other.positions {
        return Kin::Near;
    }
    let apart = |a: u32, b: u32| (a.wrapping_sub(b) as i32).unsigned_abs();
    let apart = apart(socket.send_pos, other.receive_pos).max(apart(socket.receive_pos, other.send_pos));
    match apart {
        0 if saw_handshake(socket) && saw_handshake(other) => Kin::Exact,
        _ if apart <= MAX_APART => Kin::Near,
        _ => Kin::No,
    }
}

fn is_handshake(socket: &Socket) -> bool {
    matches!(socket.opened, Opened::Connect | Opened::Accept)
}

/// Whether it says from the handshake where its streams begin.
fn saw_handshake(socket: &Socket) -> bool {
    socket.positions && is_handshake(socket)
}

fn is_loopback(endpoint: &Endpoint) -> bool {
    endpoint.ip().is_loopback()
}

/// A block is over: what it brought joins what came before, and what is older than so many blocks leaves.
fn next_block<T>(now: &mut Vec<T>, before: &mut VecDeque<Vec<T>>, blocks: usize) -> Vec<T> {
    before.push_back(std::mem::take(now));
    match before.len() > blocks {
        true => before.pop_front().unwrap_or_default(),
        false => Vec::new(),
    }
}

/// A time of a host in UTC, ns; nothing for what was not seen.
fn utc(hosts: &[Host], host: u16, boot: u64) -> Option<u64> {
    let seen = boot != 0 && boot != u64::MAX;
    seen.then(|| hosts.get(usize::from(host)).map_or(boot, |host| host.utc(boot)))
}

/// Whether the beginning of a socket's connection is not given: where its streams are by now is not known.
fn is_before(hosts: &[Host], host: u16, socket: &Socket) -> bool {
    let key = (socket.id >> 32) as u32;
    hosts
        .get(usize::from(host))
        .is_some_and(|host| host.joined.contains(&key))
}

/// What of a connection lies within the span that is counted.
fn within(state: &SocketState, slot: &Slot) -> WithinSpan {
    let [lost_bytes, unread_bytes] = slot.within.bytes(&slot.flow);
    let [bytes_sent, bytes_received] = state.within;
    WithinSpan {
        exchanges: slot.within.exchanges,
        bytes_sent,
        bytes_received,
        lost_bytes,
        unread_bytes,
    }
}

/// By sender, for a socket whose beginning was seen: the sequence number after the last byte that it sent, or received.
fn totals(state: &SocketState, close: &Close) -> [Option<u32>; 2] {
    let socket = &state.socket;
    let from_start = matches!(socket.opened, Opened::Connect | Opened::Accept) && state.is_given_whole();
    if !from_start || !socket.positions {
        return [None; 2];
    }
    let sent = Some(socket.send_pos.wrapping_add(close.bytes_sent as u32));
    let received = Some(socket.receive_pos.wrapping_add(close.bytes_received as u32));
    match state.end {
        0 => [sent, received],
        _ => [received, sent],
    }
}

/// The two endpoints of a connection, the lower first.
fn both_ends(socket: &Socket) -> [Endpoint; 2] {
    let mut ends = [socket.local, socket.remote];
    ends.sort_unstable();
    ends
}

fn observed(at_client: bool, at_server: bool) -> Observed {
    match (at_client, at_server) {
        (true, true) => Observed::Both,
        (true, false) => Observed::Client,
        (false, true) => Observed::Server,
        (false, false) => Observed::Wire,
    }
}

/// Who is at an end that was not recorded: as the host knows it that recorded the other end, else as any host knows it
/// (pod and Service addresses are the cluster's). `observer` is that host with its boot clock.
fn remote_party(hosts: &[Host], observer: Option<(u16, u64)>, endpoint: &Endpoint) -> Arc<Party> {
    let (own, time) = observer.map_or((0, u64::MAX), |(host, time)| (usize::from(host), time));
    let by_own = hosts.get(own).and_then(|host| host.party_at(endpoint, time));
    let by_any = || {
        let others = hosts.iter().enumerate().filter(|(number, _)| *number != own);
        others
            .map(|(_, host)| host)
            .find_map(|host| host.party_at(endpoint, u64::MAX))
    };
    by_own.or_else(by_any).unwrap_or_default()
}

struct RowEnds<'a> {
    parties: u64,
    number: u64,
    had_data: bool,
    client: Endpoint,
    server: Endpoint,
    client_party: &'a Party,
    server_party: &'a Party,
    side: Observed,
}

fn connection_row<'a>(
    ends: &RowEnds<'a>,
    host: u16,
    state: &SocketState,
    hosts: &[Host],
    flow: &Flow,
) -> ConnectionRow<'a> {
    let utc = |boot: u64| match hosts.get(usize::from(host)) {
        Some(host) if boot != 0 => host.utc(boot),
        _ => boot,
    };
    let socket = &state.socket;
    let opened_here = matches!(socket.opened, Opened::Connect | Opened::Accept | Opened::Listen);
    let failed = state.connect.filter(|_| state.has_failed());
    let ending = match (&failed, &state.close) {
        (Some(_), _) => Some(Ending::ConnectFailed),
        (None, close) => close.map(|close| close.ending),
    };
    let close = state
        .close
        .map(|close| close.time)
        .or(failed.map(|connect| connect.time));
    let role = match (socket.role, ends.side) {
        (Role::Undetermined, _) if flow.client().is_none() => Role::Undetermined,
        (Role::Undetermined, Observed::Server) => Role::Server,
        (Role::Undetermined, _) => Role::Client,
        (role, _) => role,
    };
    let why = match flow.why {
        _ if flow.exchanges > 0 || !ends.had_data => "",
        "" => "no whole exchange",
        why => detect::reason(why),
    };
    // What the kernel counted is more than events tell where some were lost; but it counts from the socket's birth on.
    let counted = state.close.filter(|_| state.is_given_whole());
    let mut bytes = [
        counted.map_or(state.sent, |close| close.bytes_sent.max(state.sent)),
        counted.map_or(state.received, |close| close.bytes_received.max(state.received)),
    ];
    let mut lifetime = [
        state.close.map(|close| close.bytes_sent),
        state.close.map(|close| close.bytes_received),
    ];
    // On a wire, `local` was a guess where the opening was not seen.
    if role == Role::Wire && ends.client != socket.local {
        bytes.reverse();
        lifetime.reverse();
    }
    let [bytes_sent, bytes_received] = bytes;
    let [lifetime_sent, lifetime_received] = lifetime;
    ConnectionRow {
        client: ends.client,
        server: ends.server,
        client_party: ends.client_party,
        server_party: ends.server_party,
        parties: ends.parties,
        side: ends.side,
        open: opened_here.then(|| utc(socket.time)),
        close: close.map(utc),
        first_data: utc(state.first_data),
        last_data: utc(state.last_data),
        role,
        opened: socket.opened,
        ending,
        connect_error: failed.map_or(0, |connect| connect.error),
        connect_ns: state.connect.map(|connect| connect.connect_ns),
        bytes_sent,
        bytes_received,
        lifetime_sent,
        lifetime_received,
        retransmits: state.close.map(|close| close.retransmits),
        srtt_us: state.close.map(|close| close.srtt_us).filter(|srtt| *srtt != 0),
        protocol: flow.protocol,
        exchanges: flow.exchanges,
        lost_bytes: flow.lost_bytes,
        unread_bytes: flow.unread_bytes,
        why,
        connection: ends.number,
        within: None,
    }
}

/// Ids of different hosts may be equal.
fn row_key(key: Key) -> u64 {
    key.1 ^ (u64::from(key.0) << 16)
}

/// Looks up who is at the two ends, where it may be somebody else than at the exchange before.
fn update_parties(
    slot: &mut Slot,
    exchange: &AnyExchange,
    sockets: &IdMap<Key, Box<SocketState>>,
    hosts: &[Host],
    (parties, pairs): (&mut Parties, &mut u64),
) {
    let edition = hosts.iter().map(|host| host.edition).sum();
    let client = slot.flow.client().unwrap_or(0);
    // A process may be moved to another cgroup while its connection is open.
    let of = (
        client,
        edition,
        [0, 1].map(|end| (exchange.views[end].pid, exchange.views[end].cgroup)),
    );
    let times = [0, 1].map(|end| time_at(slot, exchange, hosts, end));
    let is_same = |end: usize| slot.parties[end].valid.contains(&times[end]);
    if slot.sure == Some(of) && is_same(0) && is_same(1) {
        return;
    }
    let mut changed = slot.pair == 0 || slot.client != client;
    let mut sure = true;
    for (end, time) in times.into_iter().enumerate() {
        let view = &exchange.views[end];
        // Who uses a socket may become known at any time.
        let unsure = view.pid == 0 && slot.sockets[end].is_some();
        sure &= !unsure;
        let last = &slot.parties[end];
        if !unsure && last.of == Some((edition, view.pid, view.cgroup)) && last.valid.contains(&time) {
            continue;
        }
        let state = slot.sockets[end].and_then(|key| Some((key, sockets.get(&key)?)));
        let (party, valid) = match state {
            Some((key, state)) => {
                let who = match view.pid {
                    0 => state.owner,
                    pid => Who {
                        pid,
                        cgroup: view.cgroup,
                        seen: time,
                    },
                };
                state.party((hosts, key.0), who, time, parties)
            }
            None => {
                let party = remote_party(hosts, first_seen(slot, exchange), &slot.flow.ends[end]);
                (party, 0..u64::MAX)
            }
        };
        // Mostly it is looked up in vain: what was learnt concerns others.
        changed |= party != slot.parties[end].party;
        slot.parties[end] = LastParty {
            of: Some((edition, view.pid, view.cgroup)),
            valid,
            party,
        };
    }
    if changed {
        *pairs += 1;
        slot.pair = *pairs;
        slot.client = client;
    }
    slot.sure = sure.then_some(of);
}

/// When an end of a flow took part in an exchange, on the boot clock of its host: when it had seen the request, or else when
/// it saw anything; where it saw nothing, when the other end did. 0 for an end that was not recorded.
#[inline]
fn time_at(slot: &Slot, exchange: &AnyExchange, hosts: &[Host], end: usize) -> u64 {
    let Some((own, _)) = slot.sockets[end] else { return 0 };
    let view = &exchange.views[end];
    if view.request.last != 0 {
        return view.request.last;
    }
    view.first()
        .unwrap_or_else(|| time_elsewhere(slot, exchange, hosts, own))
}

/// When an exchange was seen by another end, on the boot clock of this host.
fn time_elsewhere(slot: &Slot, exchange: &AnyExchange, hosts: &[Host], own: u16) -> u64 {
    let Some((other, time)) = first_seen(slot, exchange) else {
        return 0;
    };
    match (hosts.get(usize::from(other)), hosts.get(usize::from(own))) {
        (Some(of), Some(to)) if other != own => to.boot(of.utc(time)),
        _ => time,
    }
}

/// When the observer of a flow that is preferred among those that saw an exchange first saw it: its host, and its boot
/// clock then.
fn first_seen(slot: &Slot, exchange: &AnyExchange) -> Option<(u16, u64)> {
    let client = slot.flow.client().unwrap_or(0);
    let at = |observer: usize| Some((slot.sockets[observer]?.0, exchange.views[observer].first()?));
    at(client).or_else(|| at(1 - client)).or_else(|| at(WIRE))
}

/// What an exchange names and was not seen may have been said in what cannot be read of the captures.
fn note_unreadable(slot: &Slot, exchange: &mut AnyExchange, hosts: &[Host]) {
    if !exchange.message.lacks_earlier() {
        return;
    }
    let views = &exchange.views;
    let may_lack = |observer: usize| {
        let (host, id) = slot.sockets[observer]?;
        let time = views[observer].first()?;
        Some(hosts.get(usize::from(host))?.may_lack((id >> 32) as u32, time))
    };
    if (0..OBSERVERS).any(|observer| may_lack(observer) == Some(true)) {
        exchange.message.earlier_may_be_lost();
    }
}

/// Gives the row of an exchange to the sink; returns when it began, as the row says it.
fn emit_exchange<S: Sink>(
    slot: &mut Slot,
    exchange: &AnyExchange,
    (sockets, hosts): (&IdMap<Key, Box<SocketState>>, &[Host]),
    sink: &mut S,
) -> u64 {
    let client = slot.flow.client().unwrap_or(0);
    let server = 1 - client;
    let sees = |observer: usize| Some((slot.sockets[observer]?.0, exchange.views[observer].first()?));
    let (at_client, at_server) = (sees(client), sees(server));
    let latency_at = |seen: Option<(u16, u64)>, observer: usize| match seen {
        Some(_) => latency(exchange, observer),
        None => Latency::default(),
    };
    let client_latency = latency_at(at_client, client);
    let server_latency = latency_at(at_server, server);
    let mut best = client_latency;
    if best.total_ns.is_none() {
        best = server_latency;
    }
    if best.total_ns.is_none() {
        best = latency_at(sees(WIRE), WIRE);
    }
    let seen = at_client.or(at_server).or_else(|| sees(WIRE));
    let start = seen.and_then(|(host, time)| utc(hosts, host, time));
    let start = start.unwrap_or_else(|| start_unseen(slot, sockets, hosts));
    let frame = Frame {
        start,
        client: slot.flow.ends[client],
        server: slot.flow.ends[server],
        client_party: &slot.parties[client].party,
        server_party: &slot.parties[server].party,
        parties: slot.pair,
        side: match seen {
            Some(_) => observed(at_client.is_some(), at_server.is_some()),
            None => observed(slot.sockets[client].is_some(), slot.sockets[server].is_some()),
        },
        request_bytes: exchange.request.bytes(),
        response_bytes: exchange.response.bytes(),
        latency: best,
        client_latency,
        server_latency,
        network_ns: client_latency
            .total_ns
            .zip(server_latency.total_ns)
            .and_then(|(c, s)| c.checked_sub(s)),
        incomplete: exchange.incomplete,
        reset: exchange.is_unanswered() && was_reset(slot, client, sockets),
        connection: slot.number,
        sequence: slot.flow.exchanges - 1,
    };
    sink.exchange(&frame, &exchange.message);
    slot.last_start = start;
    start
}

/// The start of an exchange of which nobody saw a byte at a time: no later than it was, as far as its connection tells.
fn start_unseen(slot: &Slot, sockets: &IdMap<Key, Box<SocketState>>, hosts: &[Host]) -> u64 {
    let earliest = |key: &Key| {
        let (host, known) = (hosts.get(usize::from(key.0))?, sockets.get(key)?);
        let time = match known.first_data {
            0 => known.socket.time,
            first => first,
        };
        Some(host.utc(time))
    };
    let earliest = slot.sockets.iter().flatten().filter_map(earliest).min();
    slot.last_start.max(earliest.unwrap_or(0))
}

/// Whether a connection was reset by the server, or by something on the way to it, or the client has given up on it.
fn was_reset(slot: &Slot, client: usize, sockets: &IdMap<Key, Box<SocketState>>) -> bool {
    let was_reset = |key: &Key| {
        let Some((known, close)) = sockets.get(key).and_then(|known| Some((known, known.close?))) else {
            return false;
        };
        match known.socket.local == slot.flow.ends[client] {
            true => matches!(close.ending, Ending::ResetByPeer | Ending::TimedOut),
            false => close.ending == Ending::ResetLocally,
        }
    };
    slot.sockets.iter().flatten().any(was_reset)
}

/// The latency of an exchange as one observer saw it; nothing when it did not see all of it.
fn latency(exchange: &AnyExchange, observer: usize) -> Latency {
    match whole_view(exchange, observer) {
        Some(view) => Latency {
            ttfb_ns: view.response.first.checked_sub(view.request.first),
            total_ns: view.response.last.checked_sub(view.request.first),
        },
        None => Latency::default(),
    }
}
