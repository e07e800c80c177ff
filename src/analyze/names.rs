//! Names on one recording host: processes, cgroups, workloads, addresses, and its clocks. Knows nothing of connections.
//!
//! Filled from state records between batches, read by all shards during a batch. Names that the recorder did not resolve come
//! from the paths of cgroups, and from a pod list where the user gives one.

mod programs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::ids::IdMap;
use super::row::Party;
use super::selection::KeySet;
use crate::format::block::SocketSet;
use crate::format::record::{
    Address, AddressKind, CGROUP_V1, Cgroup, Clock, Endpoint, Owner, Record, Role, Socket, Workload,
};
use crate::pods::{AddressName, PodSet};

use programs::{Found, Programs};
pub use programs::{Program, Run};

/// Parties that one shard caches, and the bytes of their texts.
const MAX_PARTIES: usize = 4096;
const MAX_PARTY_BYTES: usize = 4 << 20;
/// Memory for the names of one host: about two million processes, or 130,000 with the longest arguments that the recorder
/// keeps.
const MAX_BYTES: usize = 512 << 20;
/// Bytes kept of a path (PATH_MAX), and of a name: no kernel and no cluster has longer ones.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 1024;
/// Memory of a map entry besides its content, about.
const ENTRY: usize = 64;
/// Readings of the clocks that are out of order are sorted in as long as there are no more of them than this.
const MAX_UNORDERED_CLOCKS: usize = 1 << 14;

/// A process, as an event or a socket refers to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Who {
    pub pid: u32,
    /// The cgroup seen with the event; 0 takes that of the process.
    pub cgroup: u64,
    /// When it was seen that the process has this pid, boot clock, ns: pids are used again.
    pub seen: u64,
}

impl From<&Socket> for Who {
    fn from(socket: &Socket) -> Who {
        Who {
            pid: socket.pid,
            cgroup: socket.cgroup,
            seen: socket.time,
        }
    }
}

impl From<&Owner> for Who {
    fn from(owner: &Owner) -> Who {
        Who {
            pid: owner.pid,
            cgroup: owner.cgroup,
            seen: owner.time,
        }
    }
}

/// A workload as it is kept.
#[derive(Debug, Clone, Default)]
struct KnownWorkload {
    container_id: String,
    /// The name; may be empty.
    container: String,
    pod: String,
    namespace: String,
    workload: String,
}

impl KnownWorkload {
    /// Takes what it lacks from another.
    fn fill(&mut self, other: KnownWorkload) {
        let pairs = [
            (&mut self.container_id, other.container_id),
            (&mut self.container, other.container),
            (&mut self.pod, other.pod),
            (&mut self.namespace, other.namespace),
            (&mut self.workload, other.workload),
        ];
        for (own, other) in pairs {
            if own.is_empty() {
                *own = other;
            }
        }
    }

    fn bytes(&self) -> usize {
        let texts = [
            &self.container_id,
            &self.container,
            &self.pod,
            &self.namespace,
            &self.workload,
        ];
        size_of::<KnownWorkload>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }

    fn is_whole(&self) -> bool {
        !self.container.is_empty() && !self.pod.is_empty() && !self.workload.is_empty()
    }
}

/// A list of pods from outside the captures.
#[derive(Debug)]
pub struct Pods {
    set: PodSet,
    addresses: HashMap<[u8; 16], Arc<Party>>,
}

impl Pods {
    /// Prepares a list for lookups.
    pub fn new(set: PodSet) -> Pods {
        let addresses = set.addresses();
        let party =
            |name: &AddressName| Arc::new(address_party(name.kind, &name.namespace, &name.name, &name.workload));
        Pods {
            addresses: addresses
                .iter()
                .map(|(ip, name)| (Endpoint::new(*ip, 0).ip, party(name)))
                .collect(),
            set,
        }
    }

    /// Who has this address.
    pub fn party_at(&self, endpoint: &Endpoint) -> Option<Arc<Party>> {
        self.addresses.get(&endpoint.ip).cloned()
    }
}

/// A cache of parties: a program has many connections, and a party has many texts.
#[derive(Debug, Default)]
pub struct Parties {
    known: IdMap<WhoRan, (u64, Arc<Party>)>,
    /// Of their texts.
    bytes: usize,
}

/// Number of the host, pid, cgroup, and when the program began. The edition of the host is kept with the party.
type WhoRan = (u16, u32, u64, u64);

impl Parties {
    /// As [`Host::party_of`] of the host with this number; and between which times it is the same, as long as the host learns
    /// nothing more.
    pub fn party(&mut self, number: u16, host: &Host, who: Who, time: u64) -> (Arc<Party>, Range<u64>) {
        let Found { program, valid } = host.programs.find(who.pid, who.seen, time);
        let key = (number, who.pid, who.cgroup, program.map_or(0, |program| program.began));
        if let Some((edition, party)) = self.known.get(&key)
            && *edition == host.edition
        {
            return (Arc::clone(party), valid);
        }
        let party = Arc::new(host.party_with(who, program));
        if self.known.len() >= MAX_PARTIES || self.bytes > MAX_PARTY_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += party.text_bytes();
        self.known.insert(key, (host.edition, Arc::clone(&party)));
        (party, valid)
    }
}

/// The party of an address with this name.
fn address_party(kind: AddressKind, namespace: &str, name: &str, workload: &str) -> Party {
    Party {
        namespace: namespace.to_owned(),
        pod: if kind == AddressKind::Pod {
            name.to_owned()
        } else {
            String::new()
        },
        address_name: name.to_owned(),
        workload: workload.to_owned(),
        ..Party::default()
    }
}

/// The names of one host, from its state records.
#[derive(Debug, Default)]
pub struct Host {
    pub hostname: String,
    /// The same for all recordings of one boot of one machine.
    pub machine: usize,
    programs: Programs,
    cgroups: HashMap<u64, String>,
    workloads: HashMap<u64, KnownWorkload>,
    /// With the time at which it was learnt: an address may be one pod's after another's.
    addresses: BTreeMap<([u8; 16], u64), Arc<Party>>,
    pods: Option<Arc<Pods>>,
    /// Ports with a listener, by network namespace.
    listeners: HashSet<(u32, u16)>,
    clocks: Vec<Clock>,
    /// Grows with each record learnt; a result of an older edition may be out of date.
    pub edition: u64,
    /// Connections that are read from their middle, by the upper halves of their sockets' ids.
    pub joined: Arc<KeySet>,
    /// Bytes of memory left for names.
    room: usize,
    /// Records for which there was no room.
    pub not_kept: u64,
    /// Damaged blocks of its captures: from when on (boot clock, ns), and of which connections; `None` where that is not known.
    unreadable: Vec<(u64, Option<Box<SocketSet>>)>,
    /// When events of it were lost, whichever they were: from, until (boot clock, ns), in no order.
    lost: Vec<(u64, u64)>,
}

/// Damaged blocks whose connections are kept apart.
const MAX_UNREADABLE: usize = 4096;
/// Times of losses that are kept apart.
const MAX_LOST: usize = 4096;

/// Whether a host learns from a record, beside the ends of processes.
fn is_name(record: &Record<'_>) -> bool {
    match record {
        Record::Process(_) | Record::Cgroup(_) | Record::Workload(_) | Record::Address(_) | Record::Clock(_) => true,
        Record::Socket(socket) => socket.role == Role::Listener,
        _ => false,
    }
}

/// Bytes that a map grows by, when it gets an entry of this size in the place of one of that size.
fn added(bytes: usize, replaced: Option<usize>) -> usize {
    match replaced {
        Some(replaced) => bytes.saturating_sub(replaced),
        None => bytes + ENTRY,
    }
}

fn text(bytes: &[u8], most: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned()
}

fn name(name: &str) -> String {
    text(name.as_bytes(), MAX_NAME)
}

impl Host {
    /// A host with a name and one reading of its clocks.
    pub fn new(hostname: &str, clock: Clock) -> Self {
        Host {
            hostname: hostname.to_owned(),
            clocks: vec![clock],
            room: MAX_BYTES,
            ..Host::default()
        }
    }

    /// Notes a part of its captures that cannot be read, with events of this time (boot clock, ns) or later, about these connections.
    pub fn note_unreadable(&mut self, since: u64, sockets: Option<SocketSet>) {
        match self.unreadable.len() {
            ..MAX_UNREADABLE => self.unreadable.push((since, sockets.map(Box::new))),
            MAX_UNREADABLE => self.unreadable.push((since, None)),
            _ => {}
        }
    }

    /// Events of it were lost between these times (boot clock, ns), and nobody knows which.
    pub fn note_lost(&mut self, since: u64, until: u64) {
        let is_full = self.lost.len() >= MAX_LOST;
        match self.lost.last_mut() {
            // One report begins where the one before has ended.
            Some(last) if is_full || (since <= last.1 && last.0 <= until) => {
                *last = (last.0.min(since), last.1.max(until));
            }
            _ => self.lost.push((since, until)),
        }
    }

    /// Whether events may have been lost between these times (boot clock, ns).
    pub fn may_have_lost(&self, since: u64, until: u64) -> bool {
        self.lost.iter().any(|(from, to)| *from <= until && *to >= since)
    }

    /// Whether something that cannot be read may be about this connection, by the upper half of its sockets' ids, and have
    /// Whether a part that cannot be read may be about this connection, by the upper half of its sockets' ids, and have
    /// happened before this time (boot clock, ns).
    pub fn may_lack(&self, key: u32, time: u64) -> bool {
        self.unreadable
            .iter()
            .any(|(since, sockets)| *since <= time && sockets.as_ref().is_none_or(|sockets| sockets.may_contain(key)))
    }

    /// Uses this list for names that the capture does not have.
    pub fn use_pods(&mut self, pods: Option<Arc<Pods>>) {
        self.pods = pods;
        self.edition += 1;
    }

    /// Learns from a record; those without names are passed over.
    pub fn learn(&mut self, record: &Record<'_>) {
        if let Record::Exit(exit) = record {
            self.edition += 1;
            return self.programs.exit(exit);
        }
        if !is_name(record) {
            return;
        }
        if self.room == 0 {
            self.not_kept += 1;
            return;
        }
        self.edition += 1;
        let bytes = match record {
            Record::Process(process) => self.programs.learn(process),
            Record::Cgroup(cgroup) => self.learn_cgroup(cgroup),
            Record::Workload(workload) => self.learn_workload(workload),
            Record::Address(address) => self.learn_address(address),
            Record::Socket(socket) => {
                let is_new = self.listeners.insert((socket.netns, socket.local.port));
                if is_new { ENTRY } else { 0 }
            }
            Record::Clock(clock) => self.learn_clock(*clock),
            _ => 0,
        };
        self.room = self.room.saturating_sub(bytes);
    }

    // Each of these returns how many bytes of memory were added.

    fn learn_clock(&mut self, clock: Clock) -> usize {
        if self.clocks.last().is_none_or(|last| last.boot <= clock.boot) {
            self.clocks.push(clock);
            return size_of::<Clock>();
        }
        if self.clocks.len() >= MAX_UNORDERED_CLOCKS {
            self.not_kept += 1;
            return 0;
        }
        let at = self.clocks.partition_point(|known| known.boot <= clock.boot);
        self.clocks.insert(at, clock);
        size_of::<Clock>()
    }

    fn learn_cgroup(&mut self, cgroup: &Cgroup<'_>) -> usize {
        let path = text(cgroup.path, MAX_PATH);
        let bytes = path.len();
        let replaced = self.cgroups.insert(cgroup.id, path);
        added(bytes, replaced.map(|path| path.len()))
    }

    fn learn_workload(&mut self, workload: &Workload<'_>) -> usize {
        let known = KnownWorkload {
            container_id: name(workload.container_id),
            container: name(workload.container),
            pod: name(workload.pod),
            namespace: name(workload.namespace),
            workload: name(workload.workload),
        };
        let bytes = known.bytes();
        let replaced = self.workloads.insert(workload.cgroup, known);
        added(bytes, replaced.map(|known| known.bytes()))
    }

    fn learn_address(&mut self, address: &Address<'_>) -> usize {
        let texts = [address.namespace, address.name, address.workload].map(name);
        let party = address_party(address.kind, &texts[0], &texts[1], &texts[2]);
        // The dump at the start of a rotated part repeats what is known.
        let key = (address.ip, address.time);
        let of = |party: &Party| size_of::<Party>() + party.text_bytes();
        let bytes = of(&party);
        let replaced = self.addresses.insert(key, Arc::new(party));
        added(bytes, replaced.map(|party| of(&party)))
    }

    /// The workload of a cgroup: as recorded, completed from the path, then from the pod list.
    fn workload(&self, cgroup: u64, path: &str) -> KnownWorkload {
        let mut known = self.workloads.get(&cgroup).cloned().unwrap_or_default();
        if !known.is_whole() {
            let nothing = PodSet::default();
            let set = self.pods.as_ref().map_or(&nothing, |pods| &pods.set);
            if let Some(named) = set.resolve(path) {
                known.fill(KnownWorkload {
                    container_id: named.container_id,
                    container: named.container,
                    pod: named.pod,
                    namespace: named.namespace,
                    workload: named.workload,
                });
            }
        }
        if known.container.is_empty() {
            known.container = known.container_id.chars().take(12).collect();
        }
        known
    }

    /// The boot clock at this time (UTC, ns): [`Host::utc`] the other way round, by the last reading before it.
    pub fn boot(&self, utc: u64) -> u64 {
        let at = self.clocks.partition_point(|clock| clock.realtime <= utc).max(1) - 1;
        match self.clocks.get(at) {
            Some(clock) => clock.boot.wrapping_add(utc.wrapping_sub(clock.realtime)),
            None => utc,
        }
    }

    /// UTC, ns since 1970-01-01, of a time on the boot clock: by the last reading of the clocks before it.
    pub fn utc(&self, boot: u64) -> u64 {
        let at = self.clocks.partition_point(|clock| clock.boot <= boot).max(1) - 1;
        match self.clocks.get(at) {
            Some(clock) => clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot)),
            None => boot,
        }
    }

    /// From the first to the last reading of the clocks: boot clock, ns.
    pub fn span(&self) -> (u64, u64) {
        let boot = |clock: Option<&Clock>| clock.map_or(0, |clock| clock.boot);
        (boot(self.clocks.first()), boot(self.clocks.last()))
    }

    /// Whether there is a listener on this port.
    pub fn listens(&self, netns: u32, port: u16) -> bool {
        self.listeners.contains(&(netns, port))
    }

    /// The program that this pid ran at this time.
    pub fn program(&self, pid: u32, time: u64) -> Option<&Program> {
        self.programs.find(pid, time, time).program
    }

    /// All programs, in order of beginning and pid.
    pub fn programs(&self) -> Vec<Run<'_>> {
        self.programs.all()
    }

    /// Who a process is that was seen at this time. `cgroup` is the one seen with the event; 0 takes that of the process.
    pub fn party(&self, pid: u32, cgroup: u64, time: u64) -> Party {
        self.party_of(
            Who {
                pid,
                cgroup,
                seen: time,
            },
            time,
        )
    }

    /// Who a process was at a time, which may be another one than when it was seen.
    pub fn party_of(&self, who: Who, time: u64) -> Party {
        self.party_with(who, self.programs.find(who.pid, who.seen, time).program)
    }

    fn party_with(&self, who: Who, program: Option<&Program>) -> Party {
        let cgroup = match (who.cgroup, program) {
            (0, Some(program)) => program.cgroup,
            // On a v1 host all processes are in the same v2 cgroup.
            (_, Some(program)) if program.cgroup & CGROUP_V1 != 0 => program.cgroup,
            (cgroup, _) => cgroup,
        };
        let path = self.cgroups.get(&cgroup).map_or("", String::as_str);
        let known = self.workload(cgroup, path);
        Party {
            pid: who.pid,
            comm: program.map(|program| program.comm.clone()).unwrap_or_default(),
            cgroup: path.to_owned(),
            hostname: self.hostname.clone(),
            container_id: known.container_id,
            container: known.container,
            pod: known.pod,
            namespace: known.namespace,
            workload: known.workload,
            address_name: String::new(),
        }
    }

    /// All parties that had an address at some time.
    pub fn parties_at(&self, endpoint: &Endpoint) -> impl Iterator<Item = Arc<Party>> {
        let of_capture = self.addresses.range((endpoint.ip, 0)..=(endpoint.ip, u64::MAX));
        let of_list = self.pods.as_ref().and_then(|pods| pods.party_at(endpoint));
        of_capture.map(|(_, party)| Arc::clone(party)).chain(of_list)
    }

    /// Who has an address, as this host knew it at this time (boot clock, ns).
    pub fn party_at(&self, endpoint: &Endpoint, time: u64) -> Option<Arc<Party>> {
        let ip = endpoint.ip;
        let before = self.addresses.range((ip, 0)..=(ip, time)).next_back();
        // The first name also holds before its time: it was learnt a little late.
        let first = || self.addresses.range((ip, 0)..=(ip, u64::MAX)).next();
        match before.or_else(first) {
            Some((_, party)) => Some(Arc::clone(party)),
            None => self.pods.as_ref().and_then(|pods| pods.party_at(endpoint)),
        }
    }
}

#[cfg(test)]
mod tests;
