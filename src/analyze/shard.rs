//! One of the parts that connections are split into: sockets by id, flows, and the rows that they yield.
//!
//! Both ends of a connection are in the same shard (the upper half of a socket's id is a hash of its endpoints; see
//! [`super::nat`] for those that know each other by other addresses), so shards share nothing.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::exchange::{Exchange, Message};
use super::flow::{Flow, OBSERVERS, WIRE, whole_view};
use super::ids::{IdMap, IdSet};
use super::names::{Host, Parties, Who};
use super::protocol::detect;
use super::row::{ConnectionRow, Frame, HttpRow, Latency, MysqlRow, Observed, Party, Sink};
use super::stream::Segment;
use crate::format::record::{
    Close, Connect, Cut, Data, Direction, Ending, Endpoint, Opened, Owner, Record, Role, Socket,
};

/// Sequence numbers of two views that are farther apart than this are not the same connection: well above the socket
/// buffers of any usual host (tcp_rmem, tcp_wmem).
const MAX_APART: u32 = 64 << 20;
/// A flow that waits for something settles after so many blocks without an event.
const PATIENCE: usize = 16;
/// A connection whose known ends are closed stays for so many blocks: its other end may be accepted, or told of, late.
const LINGER: usize = 8;
/// Where both ends are known and closed, nothing more is to come but what another CPU reported late.
const LINGER_WHOLE: usize = 1;
/// The start of a rotated part repeats sockets that were closed up to so long ago; somewhat longer than the recorder
/// keeps them.
const REPEATED_NS: u64 = 10_000_000_000;
/// Closed sockets that are remembered for that.
const MAX_GONE: usize = 1 << 17;
/// Flows that are over and kept for their buffers.
const MAX_SPENT: usize = 16;
/// Connections of the same endpoints that are tried for a match, newest first.
const MAX_SAME_ENDS: usize = 4;

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
    connect: Option<Connect>,
    close: Option<Close>,
    first_data: u64,
    last_data: u64,
    sent: u64,
    received: u64,
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
            connect: None,
            close: None,
            first_data: 0,
            last_data: 0,
            sent: 0,
            received: 0,
        }
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

/// Who was behind an end of a flow at its last exchange.
#[derive(Debug, Default)]
struct LastParty {
    /// The hosts' editions and the process for which it was looked up: another process may use the socket, and more
    /// may be known later.
    of: Option<(u64, u32)>,
    /// Between which times it is this one: a process can run another program. On the boot clock of the end's host.
    valid: Range<u64>,
    party: Arc<Party>,
}

/// A flow with the sockets that observe it.
#[derive(Debug)]
struct Slot {
    flow: Flow,
    /// The socket behind each observer.
    sockets: [Option<Key>; OBSERVERS],
    parties: [LastParty; 2],
    /// [`Frame::parties`] of these two, for the end that was the client; 0 before the first exchange.
    pair: u64,
    client: usize,
    /// For which client, editions and processes these were looked up, where nothing else can change them.
    sure: Option<(usize, u64, [u32; 2])>,
    /// Block of its last event.
    touched: u64,
    /// An older flow of the same endpoints.
    previous: Option<usize>,
}

/// One shard.
pub struct Shard<S> {
    pub sink: S,
    sockets: IdMap<Key, SocketState>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    spent: Vec<Flow>,
    /// The newest flow of two endpoints, lower endpoint first.
    by_ends: ByEnds<usize>,
    /// Sockets without data so far, by their two endpoints, oldest first.
    waiting: ByEnds<Vec<Key>>,
    block: u64,
    /// Flows with events in this block, and in the blocks before it, newest last.
    touched: Vec<usize>,
    touched_before: VecDeque<Vec<usize>>,
    /// Sockets closed in this block, and in the blocks before it, newest last.
    closed: Vec<Key>,
    closed_before: VecDeque<Vec<Key>>,
    /// Of these, those that were the last end of a connection of which both are known.
    whole: Vec<Key>,
    whole_before: VecDeque<Vec<Key>>,
    /// Sockets closed not long ago (UTC, ns), oldest first: to be told of them again is nothing new.
    gone: VecDeque<(u64, Key)>,
    gone_keys: IdSet<Key>,
    parties: Parties,
    /// Pairs of parties so far.
    pairs: u64,
    /// Data of sockets that no state record names.
    pub nameless: u64,
}

impl<S: Sink> Shard<S> {
    /// A shard that gives its rows to this sink.
    pub fn new(sink: S) -> Self {
        Shard {
            sink,
            sockets: IdMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            spent: Vec::new(),
            by_ends: ByEnds::default(),
            waiting: ByEnds::default(),
            block: 0,
            touched: Vec::new(),
            touched_before: VecDeque::new(),
            closed: Vec::new(),
            closed_before: VecDeque::new(),
            whole: Vec::new(),
            whole_before: VecDeque::new(),
            gone: VecDeque::new(),
            gone_keys: IdSet::default(),
            parties: Parties::default(),
            pairs: 0,
            nameless: 0,
        }
    }

    /// Takes one record about a socket of a host.
    pub fn record(&mut self, host: u16, record: &Record<'_>, hosts: &[Host]) {
        match record {
            Record::Data(data) => self.data(host, data, hosts),
            Record::Socket(socket) => self.socket(host, socket),
            Record::Owner(owner) => self.owner(host, owner),
            Record::Connect(connect) => self.connect(host, connect),
            Record::Close(close) => self.close(host, close, hosts),
            _ => {}
        }
    }

    fn socket(&mut self, host: u16, socket: &Socket) {
        match self.sockets.get_mut(&(host, socket.id)) {
            // The dump at the start of a rotated part repeats what is known.
            Some(known) => {
                if known.socket.role == Role::Undetermined {
                    known.socket.role = socket.role;
                }
                if known.owner.pid == 0 {
                    known.owner = Who::from(socket);
                }
            }
            None if self.gone_keys.contains(&(host, socket.id)) => {}
            None => {
                self.sockets.insert((host, socket.id), SocketState::new(*socket));
                if socket.role != Role::Listener {
                    self.waiting
                        .entry(both_ends(socket))
                        .or_default()
                        .push((host, socket.id));
                }
            }
        }
    }

    /// Another host has recorded the other end of this socket.
    pub fn expect_other_end(&mut self, host: u16, id: u64) {
        if let Some(known) = self.sockets.get_mut(&(host, id)) {
            known.expects_other = true;
        }
    }

    fn owner(&mut self, host: u16, owner: &Owner) {
        if let Some(known) = self.sockets.get_mut(&(host, owner.id)) {
            known.owner = Who::from(owner);
        }
    }

    fn connect(&mut self, host: u16, connect: &Connect) {
        if let Some(known) = self.sockets.get_mut(&(host, connect.id)) {
            known.connect = Some(*connect);
            if connect.error == 0 {
                known.socket.send_pos = connect.send_pos;
                known.socket.receive_pos = connect.receive_pos;
                known.socket.positions = true;
            }
        }
    }

    fn close(&mut self, host: u16, close: &Close, hosts: &[Host]) {
        let key = (host, close.id);
        let Some(known) = self.sockets.get_mut(&key) else {
            return;
        };
        known.close = Some(*close);
        self.closed.push(key);
        self.gone.push_back((utc(hosts, host, close.time).unwrap_or(0), key));
        self.gone_keys.insert(key);
        if let (Some(place), observer) = (known.flow, known.observer) {
            if let Some(slot) = self.slots[place].as_mut() {
                slot.flow.close(observer);
                if slot.flow.is_closed() && slot.sockets[..WIRE].iter().all(Option::is_some) {
                    self.whole.push(key);
                }
            }
            self.touch(place);
            self.emit(place, hosts, false);
        }
    }

    /// Takes bytes that went over a socket of a host.
    pub fn data(&mut self, host: u16, data: &Data<'_>, hosts: &[Host]) {
        let key = (host, data.id);
        let Some(known) = self.sockets.get_mut(&key) else {
            self.nameless += 1;
            return;
        };
        if known.first_data == 0 {
            known.first_data = data.time;
        }
        known.last_data = known.last_data.max(data.time);
        let sent = data.direction == Direction::Sent;
        *(if sent { &mut known.sent } else { &mut known.received }) += u64::from(data.len);
        let (place, observer, end) = match known.flow {
            Some(place) => (place, known.observer, known.end),
            None => self.join(key, data, hosts),
        };
        let Some(slot) = self.slots[place].as_mut() else { return };
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
    }

    /// Finds or makes the flow of a socket that has its first data: its place, which observer, and which end.
    fn join(&mut self, key: Key, data: &Data<'_>, hosts: &[Host]) -> (usize, usize, usize) {
        let Some(known) = self.sockets.get(&key) else {
            return (0, WIRE, 0);
        };
        let (socket, expects_other) = (known.socket, known.expects_other);
        let ends = both_ends(&socket);
        let end = usize::from(ends[0] != socket.local);
        let sender = if data.direction == Direction::Sent {
            end
        } else {
            1 - end
        };
        let observer = if socket.role == Role::Wire { WIRE } else { end };
        match self.find(&ends, observer, sender, data.pos) {
            Some(place) => {
                self.observe(place, key, hosts);
                (place, observer, end)
            }
            None => {
                let place = self.make(ends, key.0, &socket, hosts);
                if let Some(slot) = self.slots[place].as_mut().filter(|_| expects_other && observer != WIRE) {
                    slot.flow.expect(1 - end);
                }
                self.observe(place, key, hosts);
                if let Some(peer) = self.peer(&ends, &socket) {
                    self.observe(place, peer, hosts);
                }
                (place, observer, end)
            }
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
            Role::Server => Some(1 - end),
            Role::Undetermined if hosts.get(usize::from(key.0)).is_some_and(listens) => Some(1 - end),
            _ => None,
        };
        if let Some(client) = client {
            slot.flow.set_client(client);
        }
        if socket.positions && !is_before(hosts, key.0, socket) {
            slot.flow.start(end, socket.send_pos);
            slot.flow.start(1 - end, socket.receive_pos);
        }
        slot.flow.attach(observer);
        slot.sockets[observer] = Some(key);
        slot.sure = None;
        known.flow = Some(place);
        known.observer = observer;
        known.end = end;
        let ends = slot.flow.ends;
        self.forget_waiting(key, &ends);
    }

    /// The other end of a connection, if it is recorded too and has shown nothing yet.
    fn peer(&self, ends: &[Endpoint; 2], socket: &Socket) -> Option<Key> {
        let is_peer = |key: &&Key| {
            self.sockets.get(key).is_some_and(|other| {
                let other = &other.socket;
                let handshake = |socket: &Socket| matches!(socket.opened, Opened::Connect | Opened::Accept);
                let limit = if handshake(socket) && handshake(other) {
                    0
                } else {
                    MAX_APART
                };
                let near = |a: u32, b: u32| (a.wrapping_sub(b) as i32).unsigned_abs() <= limit;
                let known = socket.positions && other.positions;
                other.local == socket.remote
                    && (!known
                        || (near(socket.send_pos, other.receive_pos) && near(socket.receive_pos, other.send_pos)))
            })
        };
        self.waiting.get(ends)?.iter().find(is_peer).copied()
    }

    fn forget_waiting(&mut self, key: Key, ends: &[Endpoint; 2]) {
        if let Some(waiting) = self.waiting.get_mut(ends) {
            waiting.retain(|other| *other != key);
            if waiting.is_empty() {
                self.waiting.remove(ends);
            }
        }
    }

    /// A flow of these endpoints that lacks this observer and is at about this sequence number.
    fn find(&self, ends: &[Endpoint; 2], observer: usize, sender: usize, sequence: u32) -> Option<usize> {
        let mut candidate = self.by_ends.get(ends).copied();
        for _ in 0..MAX_SAME_ENDS {
            let place = candidate?;
            let slot = self.slots.get(place)?.as_ref()?;
            if slot.flow.ends != *ends {
                return None;
            }
            let stream = slot.flow.stream(sender);
            if slot.flow.lacks(observer) && (!stream.is_started() || stream.distance(sequence) < u64::from(MAX_APART)) {
                return Some(place);
            }
            candidate = slot.previous;
        }
        None
    }

    fn make(&mut self, ends: [Endpoint; 2], host: u16, socket: &Socket, hosts: &[Host]) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let previous = self.by_ends.insert(ends, place);
        // On a wire, positions are known from the first segment on, whichever it is.
        let opening_seen = (socket.positions && socket.role != Role::Wire)
            || matches!(socket.opened, Opened::Connect | Opened::Accept);
        let joined = !opening_seen || is_before(hosts, host, socket);
        let sockets = [None; OBSERVERS];
        let flow = match self.spent.pop() {
            Some(over) => over.again(ends, None, joined),
            None => Flow::new(ends, None, joined),
        };
        self.slots[place] = Some(Slot {
            flow,
            sockets,
            parties: Default::default(),
            pair: 0,
            client: 0,
            sure: None,
            touched: u64::MAX,
            previous,
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
        while let Some(exchange) = slot.flow.take(flush) {
            update_parties(
                slot,
                &exchange,
                &self.sockets,
                hosts,
                (&mut self.parties, &mut self.pairs),
            );
            emit_exchange(slot, &exchange, hosts, &mut self.sink);
            slot.flow.recycle(exchange);
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
    /// blocks, not by batches of them, so that the rows do not depend on how many blocks are fed at once.
    pub fn end_block(&mut self, hosts: &[Host]) {
        for place in next_block(&mut self.touched, &mut self.touched_before, PATIENCE) {
            self.settle_if_quiet(place, hosts);
        }
        for key in next_block(&mut self.whole, &mut self.whole_before, LINGER_WHOLE) {
            self.retire(key, hosts);
        }
        for key in next_block(&mut self.closed, &mut self.closed_before, LINGER) {
            self.retire(key, hosts);
        }
        self.forget_gone();
        self.block += 1;
    }

    fn settle_if_quiet(&mut self, place: usize, hosts: &[Host]) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        if self.block - slot.touched < PATIENCE as u64 {
            return;
        }
        slot.flow.settle();
        let abandoned = slot.flow.is_abandoned();
        self.emit(place, hosts, false);
        if abandoned {
            self.retire_flow(place, hosts);
        }
    }

    /// Removes a closed socket; with the last of its flow, the flow and its row go too.
    fn retire(&mut self, key: Key, hosts: &[Host]) {
        let Some(known) = self.sockets.get(&key) else { return };
        match known.flow {
            None => {
                if let Some(state) = self.sockets.remove(&key) {
                    self.forget_waiting(key, &both_ends(&state.socket));
                    self.lone_row(key, state, hosts);
                }
            }
            Some(place) => {
                if self.slots[place].as_ref().is_some_and(|slot| slot.flow.is_closed()) {
                    self.retire_flow(place, hosts);
                }
            }
        }
    }

    fn retire_flow(&mut self, place: usize, hosts: &[Host]) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        slot.flow.finish();
        self.emit(place, hosts, true);
        let Some(slot) = self.slots[place].take() else { return };
        if self.by_ends.get(&slot.flow.ends) == Some(&place) {
            match slot
                .previous
                .filter(|older| self.slots.get(*older).is_some_and(|s| s.is_some()))
            {
                Some(older) => self.by_ends.insert(slot.flow.ends, older),
                None => self.by_ends.remove(&slot.flow.ends),
            };
        }
        self.free.push(place);
        self.flow_row(&slot, hosts);
        if self.spent.len() < MAX_SPENT {
            self.spent.push(slot.flow.emptied());
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

    /// The capture is over: everything that is open gets its row.
    pub fn finish(&mut self, hosts: &[Host]) {
        for place in 0..self.slots.len() {
            self.retire_flow(place, hosts);
        }
        let mut lone: Vec<Key> = self.sockets.keys().copied().collect();
        lone.sort_unstable();
        for key in lone {
            if let Some(state) = self.sockets.remove(&key) {
                self.lone_row(key, state, hosts);
            }
        }
    }

    /// The row of a socket that never had data.
    fn lone_row(&mut self, key: Key, state: SocketState, hosts: &[Host]) {
        let party = state.opener((hosts, key.0), &mut self.parties);
        let nobody = remote_party(hosts, Some((key.0, state.socket.time)), &state.socket.remote);
        let is_server = matches!(state.socket.role, Role::Server | Role::Listener);
        let (client, server) = match is_server {
            true => (state.socket.remote, state.socket.local),
            false => (state.socket.local, state.socket.remote),
        };
        let (client_party, server_party) = if is_server {
            (&nobody, &party)
        } else {
            (&party, &nobody)
        };
        let side = match state.socket.role {
            Role::Wire => Observed::Wire,
            _ if is_server => Observed::Server,
            _ => Observed::Client,
        };
        let ends = RowEnds {
            parties: 0,
            client,
            server,
            client_party,
            server_party,
            side,
        };
        let why = if state.sent + state.received > 0 {
            "not followed"
        } else {
            ""
        };
        let row = connection_row(&ends, key, &state, hosts, None, why);
        self.sink.connection(&row);
    }

    /// The row of a connection that had data.
    fn flow_row(&mut self, slot: &Slot, hosts: &[Host]) {
        let client = slot.flow.client().unwrap_or_else(|| {
            let shown = slot.sockets[WIRE].or(slot.sockets[0]).or(slot.sockets[1]);
            let local = shown
                .and_then(|key| self.sockets.get(&key))
                .map(|state| state.socket.local);
            usize::from(local.is_some_and(|local| local != slot.flow.ends[0]))
        });
        let order = [client, 1 - client, WIRE];
        let states: [Option<(Key, SocketState)>; OBSERVERS] =
            order.map(|observer| slot.sockets[observer].and_then(|key| Some((key, self.sockets.remove(&key)?))));
        let [at_client, at_server, on_wire] = states;
        let side = observed(at_client.is_some(), at_server.is_some());
        let observer = [&at_client, &at_server, &on_wire]
            .into_iter()
            .find_map(|state| state.as_ref().map(|(key, state)| (key.0, state.socket.time)));
        let parties = &mut self.parties;
        let mut party = |state: &Option<(Key, SocketState)>, end: usize| match state {
            Some((key, state)) => state.opener((hosts, key.0), parties),
            None => remote_party(hosts, observer, &slot.flow.ends[end]),
        };
        let client_party = party(&at_client, client);
        let server_party = party(&at_server, 1 - client);
        let ends = RowEnds {
            parties: slot.pair,
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
        let Some((key, state)) = at_client.or(at_server).or(on_wire) else {
            return;
        };
        let mut row = connection_row(&ends, key, &state, hosts, Some(&slot.flow), "");
        if row.ending == Some(Ending::Closed) && other_ending.is_some_and(|ending| ending != Ending::Closed) {
            row.ending = other_ending;
        }
        self.sink.connection(&row);
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

/// A time of a host in UTC, ns; nothing for what was not seen.
fn utc(hosts: &[Host], host: u16, boot: u64) -> Option<u64> {
    let seen = boot != 0 && boot != u64::MAX;
    seen.then(|| hosts.get(usize::from(host)).map_or(boot, |host| host.utc(boot)))
}

/// Whether a socket was opened before the first event that is given: where its streams are by now is not known.
fn is_before(hosts: &[Host], host: u16, socket: &Socket) -> bool {
    hosts
        .get(usize::from(host))
        .is_some_and(|host| host.utc(socket.time) < host.begin)
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
    client: Endpoint,
    server: Endpoint,
    client_party: &'a Party,
    server_party: &'a Party,
    side: Observed,
}

fn connection_row<'a>(
    ends: &RowEnds<'a>,
    key: Key,
    state: &SocketState,
    hosts: &[Host],
    flow: Option<&Flow>,
    why: &'a str,
) -> ConnectionRow<'a> {
    let utc = |boot: u64| match hosts.get(usize::from(key.0)) {
        Some(host) if boot != 0 => host.utc(boot),
        _ => boot,
    };
    let socket = &state.socket;
    let opened_here = matches!(socket.opened, Opened::Connect | Opened::Accept | Opened::Listen);
    let failed = state.connect.filter(|connect| connect.error != 0);
    let ending = match (&failed, &state.close) {
        (Some(_), _) => Some(Ending::ConnectFailed),
        (None, close) => close.map(|close| close.ending),
    };
    let close = state
        .close
        .map(|close| close.time)
        .or(failed.map(|connect| connect.time));
    let role = match (socket.role, ends.side) {
        (Role::Undetermined, _) if flow.and_then(Flow::client).is_none() => Role::Undetermined,
        (Role::Undetermined, Observed::Server) => Role::Server,
        (Role::Undetermined, _) => Role::Client,
        (role, _) => role,
    };
    let exchanges = flow.map_or(0, |flow| flow.exchanges);
    let why = match flow {
        Some(flow) if exchanges == 0 => match flow.why {
            "" => "no whole exchange",
            why => detect::reason(why),
        },
        Some(_) => "",
        None => why,
    };
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
        bytes_sent: state.close.map_or(state.sent, |close| close.bytes_sent.max(state.sent)),
        bytes_received: state
            .close
            .map_or(state.received, |close| close.bytes_received.max(state.received)),
        retransmits: state.close.map(|close| close.retransmits),
        srtt_us: state.close.map(|close| close.srtt_us).filter(|srtt| *srtt != 0),
        protocol: flow.map_or("", |flow| flow.protocol),
        exchanges,
        lost_bytes: flow.map_or(0, |flow| flow.lost_bytes),
        unread_bytes: flow.map_or(0, |flow| flow.unread_bytes),
        why,
        connection: row_key(key),
    }
}

/// Ids of different hosts may be equal.
fn row_key(key: Key) -> u64 {
    key.1 ^ (u64::from(key.0) << 16)
}

/// Looks up who is at the two ends, where it may be somebody else than at the exchange before.
fn update_parties(
    slot: &mut Slot,
    exchange: &Exchange,
    sockets: &IdMap<Key, SocketState>,
    hosts: &[Host],
    (parties, pairs): (&mut Parties, &mut u64),
) {
    let edition = hosts.iter().map(|host| host.edition).sum();
    let client = slot.flow.client().unwrap_or(0);
    let of = (client, edition, [exchange.views[0].pid, exchange.views[1].pid]);
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
        if !unsure && last.of == Some((edition, view.pid)) && last.valid.contains(&time) {
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
            of: Some((edition, view.pid)),
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
fn time_at(slot: &Slot, exchange: &Exchange, hosts: &[Host], end: usize) -> u64 {
    let Some((own, _)) = slot.sockets[end] else { return 0 };
    let view = &exchange.views[end];
    if view.request.last != 0 {
        return view.request.last;
    }
    view.first()
        .unwrap_or_else(|| time_elsewhere(slot, exchange, hosts, own))
}

/// When an exchange was seen by another end, on the boot clock of this host.
fn time_elsewhere(slot: &Slot, exchange: &Exchange, hosts: &[Host], own: u16) -> u64 {
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
fn first_seen(slot: &Slot, exchange: &Exchange) -> Option<(u16, u64)> {
    let client = slot.flow.client().unwrap_or(0);
    let at = |observer: usize| Some((slot.sockets[observer]?.0, exchange.views[observer].first()?));
    at(client).or_else(|| at(1 - client)).or_else(|| at(WIRE))
}

fn emit_exchange<S: Sink>(slot: &Slot, exchange: &Exchange, hosts: &[Host], sink: &mut S) {
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
    let start = seen.map_or(0, |(host, time)| {
        hosts.get(usize::from(host)).map_or(time, |host| host.utc(time))
    });
    let connection = slot.sockets[client].or(slot.sockets[server]).or(slot.sockets[WIRE]);
    let size = |span: &super::exchange::Span| (span.begun && span.ended).then(|| span.end.saturating_sub(span.start));
    let frame = Frame {
        start,
        client: slot.flow.ends[client],
        server: slot.flow.ends[server],
        client_party: &slot.parties[client].party,
        server_party: &slot.parties[server].party,
        parties: slot.pair,
        side: observed(at_client.is_some(), at_server.is_some()),
        request_bytes: size(&exchange.request),
        response_bytes: size(&exchange.response),
        latency: best,
        client_latency,
        server_latency,
        network_ns: client_latency
            .total_ns
            .zip(server_latency.total_ns)
            .and_then(|(c, s)| c.checked_sub(s)),
        incomplete: exchange.incomplete,
        connection: connection.map_or(0, row_key),
        sequence: slot.flow.exchanges - 1,
    };
    match &exchange.message {
        Message::Http(message) => sink.http(&HttpRow { frame, message }),
        Message::Mysql(message) => sink.mysql(&MysqlRow { frame, message }),
    }
}

/// The latency of an exchange as one observer saw it; nothing when it did not see all of it.
fn latency(exchange: &Exchange, observer: usize) -> Latency {
    match whole_view(exchange, observer) {
        Some(view) => Latency {
            ttfb_ns: view.response.first.checked_sub(view.request.first),
            total_ns: view.response.last.checked_sub(view.request.first),
        },
        None => Latency::default(),
    }
}
