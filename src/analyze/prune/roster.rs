//! The roster: all sockets in the state of the captures, and which connections match a filter.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::place::{Placed, is_state};
use super::schedule::scan;
use crate::analyze::names::Host;
use crate::analyze::selection::BlockFilter;
use crate::format::block;
use crate::format::kind::Kind;
use crate::format::record::{Endpoint, Opened, Record, Role};

/// With more sockets than this, all blocks are read: a roster would take more memory than following them all.
const MAX_SOCKETS: usize = 1 << 20;
/// With more processes than this, most blocks hold one of them.
const MAX_PIDS: usize = 4096;

/// A socket: number of its host, and its id.
pub type SocketKey = (u16, u64);

/// What is known of a socket before any event is read.
#[derive(Debug, Clone, Copy)]
pub struct KnownSocket {
    /// Place of the first block that names it.
    pub first: usize,
    /// When it was opened (boot clock, ns), if that was seen.
    pub opened: Option<u64>,
    pub listens: bool,
    pub local: Endpoint,
}

/// All sockets, and which connections are chosen.
#[derive(Debug, Default)]
pub struct Roster {
    pub sockets: HashMap<SocketKey, KnownSocket, RandomState>,
    /// Connections that match the filter apart from its span, by the upper halves of ids; `None` for all.
    pub chosen: Option<BTreeSet<u32>>,
}

/// The upper half of a socket's id: both ends of a connection have the same, unless its addresses are translated.
pub fn key(id: u64) -> u32 {
    (id >> 32) as u32
}

impl Roster {
    /// Scans the state of the captures, whose names the hosts know already; `None` where there are too many sockets.
    pub fn new(
        places: &[Placed<'_>],
        filter: &BlockFilter,
        hosts: &[Host],
        release: &dyn Fn(&Placed<'_>),
    ) -> Option<Roster> {
        let mut roster = Roster::default();
        let mut chosen = Chosen::new(filter, hosts);
        let state = (0..places.len()).filter(|place| is_state(&places[*place].stored));
        scan(places, state, release, |place, bytes| {
            let host = places[place].block.host;
            for record in block::records(bytes).flatten() {
                if let Record::Socket(socket) = &record {
                    let opened_here = matches!(socket.opened, Opened::Connect | Opened::Accept | Opened::Listen);
                    roster.sockets.entry((host, socket.id)).or_insert(KnownSocket {
                        first: place,
                        opened: opened_here.then_some(socket.time),
                        listens: socket.role == Role::Listener,
                        local: socket.local,
                    });
                }
                chosen.record(host, &record);
            }
            roster.sockets.len() <= MAX_SOCKETS
        });
        if roster.sockets.len() > MAX_SOCKETS {
            return None;
        }
        // The process that uses a socket need not be its owner.
        let holds_some = |place: &usize| {
            let stored = &places[*place].stored;
            let pids = stored.pids();
            stored.count(Kind::Data) > 0
                && (chosen.pids.len() > MAX_PIDS || chosen.pids.iter().any(|pid| pids.may_contain(*pid)))
        };
        let users: Vec<usize> = match filter.is_of_processes() && filter.ports.is_empty() {
            true => (0..places.len()).filter(holds_some).collect(),
            false => Vec::new(),
        };
        scan(places, users, release, |_, bytes| {
            for data in block::frames(bytes).flatten().filter_map(|frame| frame.data()) {
                if chosen.pids.contains(&data.pid) {
                    chosen.keys.insert(key(data.id));
                }
            }
            true
        });
        roster.chosen = chosen.keys();
        Some(roster)
    }
}

/// Collects the connections and processes that match a filter.
struct Chosen<'f> {
    filter: &'f BlockFilter,
    hosts: &'f [Host],
    keys: BTreeSet<u32>,
    pids: BTreeSet<u32>,
}

impl<'f> Chosen<'f> {
    fn new(filter: &'f BlockFilter, hosts: &'f [Host]) -> Self {
        let mut pids: BTreeSet<u32> = filter.pids.iter().copied().collect();
        if !filter.pods.is_empty() {
            for host in hosts {
                let programs = host.programs().into_iter().map(|run| run.program);
                let of_pods = programs.filter(|p| filter.is_pod(&host.party(p.pid, p.cgroup, p.began)));
                pids.extend(of_pods.map(|program| program.pid));
            }
        }
        Chosen {
            filter,
            hosts,
            keys: BTreeSet::new(),
            pids,
        }
    }

    /// Adds a state record of a host.
    fn record(&mut self, host: u16, record: &Record<'_>) {
        match record {
            Record::Socket(socket) if self.filter.ports.is_empty() => {
                let ends = [&socket.local, &socket.remote];
                let is_its = self.is_process(host, (socket.pid, socket.cgroup), socket.time);
                if is_its || ends.into_iter().any(|end| self.is_address(end)) {
                    self.keys.insert(key(socket.id));
                }
            }
            // With both ports and processes given, ports decide: a process may use a connection that it never owned.
            Record::Socket(socket) => {
                let mut ports = [socket.local.port, socket.remote.port].into_iter();
                if ports.any(|port| self.filter.ports.contains(&port)) {
                    self.keys.insert(key(socket.id));
                }
            }
            Record::Owner(owner) if self.filter.ports.is_empty() => {
                let is_its = self.is_process(host, (owner.pid, owner.cgroup), owner.time);
                if is_its {
                    self.keys.insert(key(owner.id));
                }
            }
            _ => {}
        }
    }

    /// Whether a process is chosen, or is in a chosen pod. Its pid is chosen from then on, because data records have only the
    /// pid.
    fn is_process(&mut self, host: u16, (pid, cgroup): (u32, u64), time: u64) -> bool {
        if self.pids.contains(&pid) {
            return true;
        }
        let of_pod = !self.filter.pods.is_empty()
            && self
                .hosts
                .get(usize::from(host))
                .is_some_and(|host| self.filter.is_pod(&host.party(pid, cgroup, time)));
        if of_pod && pid != 0 {
            self.pids.insert(pid);
        }
        of_pod
    }

    fn is_address(&self, end: &Endpoint) -> bool {
        !self.filter.pods.is_empty()
            && self
                .hosts
                .iter()
                .flat_map(|host| host.parties_at(end))
                .any(|party| self.filter.is_pod(&party))
    }

    fn keys(self) -> Option<BTreeSet<u32>> {
        let is_all = self.filter.ports.is_empty() && !self.filter.is_of_processes();
        (!is_all).then_some(self.keys)
    }
}
