//! Which sockets are the two ends of one connection: the flow that a socket observes, found by its endpoints and by where its
//! streams are, or made.

use super::socket::{both_ends, is_before, is_handshake, saw_handshake, totals};
use super::{FlowWithin, Key, Shard, Slot};
use crate::analyze::flow::{Flow, OBSERVERS, WIRE};
use crate::analyze::names::Host;
use crate::analyze::row::Sink;
use crate::format::record::{Close, Data, Direction, Endpoint, Opened, Role, Socket};

/// Sequence numbers of two views that are farther apart than this are not the same connection: well above the socket
/// buffers of any usual host (tcp_rmem, tcp_wmem).
const MAX_APART: u32 = 64 << 20;
/// Connections of the same endpoints that are tried for a match, newest first: a port may be used again within milliseconds.
const MAX_SAME_ENDS: usize = 16;

impl<S: Sink> Shard<S> {
    /// Finds or makes the flow of a socket that has its first data, or never had any: its place, which observer, and which
    /// end.
    pub(super) fn join(&mut self, key: Key, first: Option<&Data<'_>>, hosts: &[Host]) -> (usize, usize, usize) {
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
        let mut flow = match self.recycled.pop() {
            Some(over) => over.again(ends, None, joined),
            None => Flow::new(ends, None, joined),
        };
        flow.cut_turns(self.sink.turns());
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

fn is_loopback(endpoint: &Endpoint) -> bool {
    endpoint.ip().is_loopback()
}

/// Ids of different hosts may be equal.
fn row_key(key: Key) -> u64 {
    key.1 ^ (u64::from(key.0) << 16)
}
