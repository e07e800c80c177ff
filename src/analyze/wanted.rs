//! Which blocks have to be read for a part of a capture: those that can hold something of it, by their time spans and by
//! the summaries of their connections and processes. Blocks that may are read whole, so rows still have to be chosen.

use std::collections::BTreeSet;

use super::engine::{Block, Source};
use super::input::is_state;
use super::names::Host;
use super::row::Party;
use crate::format::block;
use crate::format::header::Header;
use crate::format::reader::BlockRef;
use crate::format::record::{Endpoint, Record};
use crate::pods::select::glob;

/// Which events are wanted. What is empty asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// UTC, ns.
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// Either end of a connection; any of them.
    pub ports: Vec<u16>,
    pub pids: Vec<u32>,
    /// `namespace/name`, or a name; `*` stands for any characters.
    pub pods: Vec<String>,
}

/// Exchanges that began in the window are followed so far beyond its end, ns.
const TAIL_NS: u64 = 10_000_000_000;
/// With more connections or processes than this, most blocks hold one of them.
const MAX_KEYS: usize = 4096;

impl Wanted {
    /// What both ask for. Of two lists the first is enough to leave blocks out.
    pub fn and(mut self, other: Wanted) -> Wanted {
        fn first<T>(a: &mut Vec<T>, b: Vec<T>) {
            if a.is_empty() {
                *a = b;
            }
        }
        self.from = self.from.max(other.from);
        self.to = self.to.into_iter().chain(other.to).min();
        first(&mut self.ports, other.ports);
        first(&mut self.pids, other.pids);
        first(&mut self.pods, other.pods);
        self
    }

    /// What either asks for.
    pub fn or(mut self, other: Wanted) -> Wanted {
        fn both<T: PartialEq>(a: &mut Vec<T>, b: Vec<T>) {
            match a.is_empty() || b.is_empty() {
                true => a.clear(),
                false => b.into_iter().for_each(|one| {
                    if !a.contains(&one) {
                        a.push(one);
                    }
                }),
            }
        }
        self.from = self.from.min(other.from);
        self.to = self.to.zip(other.to).map(|(a, b)| a.max(b));
        both(&mut self.ports, other.ports);
        both(&mut self.pids, other.pids);
        both(&mut self.pods, other.pods);
        self
    }

    fn is_pod(&self, party: &Party) -> bool {
        self.pods.iter().any(|pattern| match pattern.split_once('/') {
            Some((namespace, name)) => glob(namespace, &party.namespace) && glob(name, &party.pod),
            None => glob(pattern, &party.pod),
        })
    }
}

/// What is wanted, with the connections and processes that it is about.
pub struct Sought<'w> {
    wanted: &'w Wanted,
    /// Connections by the upper half of their sockets' ids, and processes; `None` for all.
    keys: Option<Keys>,
}

#[derive(Default)]
struct Keys {
    sockets: BTreeSet<u32>,
    pids: BTreeSet<u32>,
}

impl<'w> Sought<'w> {
    /// Finds the connections and processes in the state of the captures; the hosts know all names already. `release` is
    /// told of each block that was read.
    pub fn new(wanted: &'w Wanted, state: &[Block<'_>], hosts: &[Host], release: impl Fn(&Block<'_>)) -> Sought<'w> {
        let by_process = !wanted.pids.is_empty() || !wanted.pods.is_empty();
        if wanted.ports.is_empty() && !by_process {
            return Sought { wanted, keys: None };
        }
        let mut with_port = BTreeSet::new();
        let mut with_process = BTreeSet::new();
        let mut pids: BTreeSet<u32> = wanted.pids.iter().copied().collect();
        if !wanted.pods.is_empty() {
            for host in hosts {
                let programs = host.programs().into_iter().map(|run| run.program);
                let of_pods = programs.filter(|p| wanted.is_pod(&host.party(p.pid, p.cgroup, p.began)));
                pids.extend(of_pods.map(|program| program.pid));
            }
        }
        let mut buffer = Vec::new();
        for block in state {
            let (Source::Stored(stored), Some(host)) = (block.source, hosts.get(usize::from(block.host))) else {
                continue;
            };
            let inflated = stored.inflate(&mut buffer);
            release(block);
            if inflated.is_err() {
                continue;
            }
            let is_process = |pid: u32, cgroup: u64, time: u64| {
                pids.contains(&pid) || (!wanted.pods.is_empty() && wanted.is_pod(&host.party(pid, cgroup, time)))
            };
            let is_address = |end: &Endpoint| {
                !wanted.pods.is_empty()
                    && hosts
                        .iter()
                        .filter_map(|host| host.party_at(end, u64::MAX))
                        .any(|party| wanted.is_pod(&party))
            };
            for record in block::records(&buffer).flatten() {
                match record {
                    Record::Socket(socket) => {
                        let key = (socket.id >> 32) as u32;
                        let port = |end: &Endpoint| wanted.ports.contains(&end.port);
                        if port(&socket.local) || port(&socket.remote) {
                            with_port.insert(key);
                        }
                        if is_process(socket.pid, socket.cgroup, socket.time)
                            || is_address(&socket.local)
                            || is_address(&socket.remote)
                        {
                            with_process.insert(key);
                        }
                    }
                    Record::Owner(owner) if is_process(owner.pid, owner.cgroup, owner.time) => {
                        with_process.insert((owner.id >> 32) as u32);
                    }
                    _ => {}
                }
            }
        }
        // Of a port and a process the port decides: a connection may be used by a process that never owned it.
        let (sockets, pids) = match wanted.ports.is_empty() {
            true => (with_process, pids),
            false => (with_port, BTreeSet::new()),
        };
        let few = sockets.len() <= MAX_KEYS && pids.len() <= MAX_KEYS;
        Sought {
            wanted,
            keys: few.then_some(Keys { sockets, pids }),
        }
    }

    /// Adds what else the connections are known by, through their upper halves of ids.
    pub fn complete(&mut self, more: impl FnOnce(&mut BTreeSet<u32>)) {
        if let Some(keys) = &mut self.keys {
            more(&mut keys.sockets);
        }
    }

    /// Whether a block may hold something of it.
    pub fn may_be_in(&self, stored: &BlockRef<'_>, header: &Header) -> bool {
        let boot = |utc: u64| {
            header
                .clock
                .boot
                .saturating_add_signed(utc.wrapping_sub(header.clock.realtime) as i64)
        };
        if is_state(stored) {
            return true;
        }
        let from = self.wanted.from.map_or(0, boot);
        let to = self.wanted.to.map_or(u64::MAX, |to| boot(to.saturating_add(TAIL_NS)));
        let (sockets, pids) = (stored.sockets(), stored.pids());
        let has_key = |keys: &Keys| {
            keys.sockets.iter().any(|key| sockets.may_contain(*key))
                || keys.pids.iter().any(|pid| pids.may_contain(*pid))
        };
        stored.overlaps(from, to) && self.keys.as_ref().is_none_or(has_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_ask_for_is_narrower_and_what_either_asks_for_is_wider() {
        let early = Wanted {
            from: Some(10),
            to: Some(20),
            ports: vec![80],
            ..Wanted::default()
        };
        let late = Wanted {
            from: Some(15),
            pids: vec![7],
            ..Wanted::default()
        };
        let both = early.clone().and(late.clone());
        assert_eq!((both.from, both.to), (Some(15), Some(20)));
        assert_eq!((both.ports, both.pids), (vec![80], vec![7]));
        let either = early.or(late);
        assert_eq!((either.from, either.to), (Some(10), None));
        assert!(either.ports.is_empty() && either.pids.is_empty());
    }
}
