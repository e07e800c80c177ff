//! A socket of a host: what was recorded of it, and what follows from that.

use std::ops::Range;
use std::sync::Arc;

use crate::analyze::flow::WIRE;
use crate::analyze::names::{Host, Parties, Who};
use crate::analyze::row::Party;
use crate::format::record::{Close, Connect, Ending, Endpoint, Opened, Role, Socket};

#[derive(Debug)]
pub(super) struct SocketState {
    pub(super) socket: Socket,
    /// Place of its flow, once it had data.
    pub(super) flow: Option<usize>,
    pub(super) observer: usize,
    /// Which end of the flow it is.
    pub(super) end: usize,
    /// The process that is known to use it.
    pub(super) owner: Who,
    /// Another host has recorded the other end.
    pub(super) expects_other: bool,
    /// It was opened before the first event that is given.
    pub(super) is_before: bool,
    pub(super) connect: Option<Connect>,
    pub(super) close: Option<Close>,
    /// Closed, and all that it has shown is there: its flow was told.
    pub(super) is_over: bool,
    pub(super) first_data: u64,
    pub(super) last_data: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The same of what lies within the span that is counted.
    pub(super) within: [u64; 2],
}

impl SocketState {
    pub(super) fn new(socket: Socket) -> Self {
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
    pub(super) fn has_failed(&self) -> bool {
        self.connect.is_some_and(|connect| connect.error != 0)
    }

    /// Whether all its bytes went over while events are given: then the totals of its kernel count what is given too.
    pub(super) fn is_given_whole(&self) -> bool {
        (self.socket.positions || self.socket.role == Role::Wire) && !self.is_before
    }

    /// Whether it has shown all bytes that went over it. Not known where it was reset: what was sent and never left is in no
    /// total.
    pub(super) fn has_shown_all(&self) -> bool {
        self.close.is_some_and(|close| {
            close.ending == Ending::Closed
                && self.is_given_whole()
                && self.sent >= close.bytes_sent
                && self.received >= close.bytes_received
        })
    }

    /// Whether events were lost after the last that is known of it, and its kernel's totals do not show whether they were its own.
    pub(super) fn may_lack_end(&self, host: &Host) -> bool {
        let has_bytes = !matches!(self.socket.role, Role::Wire | Role::Listener) && !self.has_failed();
        if !has_bytes || (self.close.is_some() && self.is_given_whole()) {
            return false;
        }
        let end = self.close.map_or(u64::MAX, |close| close.time);
        host.may_have_lost(self.last_data.max(self.socket.time), end)
    }

    /// Whether its kernel counted bytes that it has not shown.
    pub(super) fn lacks_bytes(&self) -> bool {
        let is_short = |close: Close| self.sent < close.bytes_sent || self.received < close.bytes_received;
        self.socket.role != Role::Wire && self.is_given_whole() && self.close.is_some_and(is_short)
    }

    /// Whether what its connection is can still become known.
    pub(super) fn is_undecided(&self) -> bool {
        self.flow.is_none() && self.close.is_none() && !self.has_failed() && self.socket.role != Role::Listener
    }

    /// Who a process of its host was at a time, and between which times it is the same.
    pub(super) fn party(
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
    pub(super) fn opener(&self, hosts: (&[Host], u16), parties: &mut Parties) -> Arc<Party> {
        let time = self.socket.time.max(self.owner.seen);
        self.party(hosts, self.owner, time, parties).0
    }
}

pub(super) fn is_handshake(socket: &Socket) -> bool {
    matches!(socket.opened, Opened::Connect | Opened::Accept)
}

/// Whether it says from the handshake where its streams begin.
pub(super) fn saw_handshake(socket: &Socket) -> bool {
    socket.positions && is_handshake(socket)
}

/// A time of a host in UTC, ns; nothing for what was not seen.
pub(super) fn utc(hosts: &[Host], host: u16, boot: u64) -> Option<u64> {
    let seen = boot != 0 && boot != u64::MAX;
    seen.then(|| hosts.get(usize::from(host)).map_or(boot, |host| host.utc(boot)))
}

/// Whether the beginning of a socket's connection is not given: where its streams are by now is not known.
pub(super) fn is_before(hosts: &[Host], host: u16, socket: &Socket) -> bool {
    let key = (socket.id >> 32) as u32;
    hosts
        .get(usize::from(host))
        .is_some_and(|host| host.joined.contains(&key))
}

/// By sender, for a socket whose beginning was seen: the sequence number after the last byte that it sent, or received.
pub(super) fn totals(state: &SocketState, close: &Close) -> [Option<u32>; 2] {
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
pub(super) fn both_ends(socket: &Socket) -> [Endpoint; 2] {
    let mut ends = [socket.local, socket.remote];
    ends.sort_unstable();
    ends
}
