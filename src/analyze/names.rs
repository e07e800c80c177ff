//! Who is who on one recording host: processes, cgroups, workloads, addresses, and its clocks.
//!
//! Filled from state records between batches, read by all shards during a batch. What the recorder did not resolve is
//! read from the paths of cgroups, with the help of a pod list where the user gives one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ids::IdMap;
use super::prune::KeySet;
use super::row::Party;
use crate::format::record::{
    Address, AddressKind, CGROUP_V1, Clock, Endpoint, Exit, Origin, Process, Record, Role, Workload,
};
use crate::pods::{AddressName, PodSet};

/// Parties that one shard remembers.
const MAX_PARTIES: usize = 4096;

/// A program that a process ran.
#[derive(Debug, Clone)]
pub struct Program {
    pub origin: Origin,
    /// When the record of it was made: boot clock, ns.
    learnt: u64,
    /// When this program began: boot clock, ns.
    pub began: u64,
    /// When it ended, by exit or by execve.
    pub ended: Option<u64>,
    /// As wait(2) encodes it.
    pub status: Option<u32>,
    /// When the process was started.
    pub start: u64,
    pub pid: u32,
    pub ppid: u32,
    pub pid_in_ns: u32,
    pub uid: u32,
    pub cgroup: u64,
    pub comm: String,
    pub exe: String,
    pub argv: Vec<u8>,
    pub argv_len: u32,
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
    /// Gets a list ready for lookups.
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

/// Parties that were looked up before: a program has many connections, and its names are many texts.
#[derive(Debug, Default)]
pub struct Parties(IdMap<WhoRan, (u64, Arc<Party>)>);

/// Number of the host, pid, cgroup, and when the program began. The edition of the host stands with what was found.
type WhoRan = (u16, u32, u64, u64);

impl Parties {
    /// As [`Host::party`] of the host with this number.
    pub fn party(&mut self, number: u16, host: &Host, (pid, cgroup): (u32, u64), time: u64) -> Arc<Party> {
        let key = (number, pid, cgroup, host.program_since(pid, time));
        if let Some((edition, party)) = self.0.get(&key)
            && *edition == host.edition
        {
            return Arc::clone(party);
        }
        if self.0.len() >= MAX_PARTIES {
            self.0.clear();
        }
        let party = Arc::new(host.party(pid, cgroup, time));
        self.0.insert(key, (host.edition, Arc::clone(&party)));
        party
    }
}

/// Who is behind an address that is called so.
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

/// What one host's state records said.
#[derive(Debug, Default)]
pub struct Host {
    pub hostname: String,
    /// The same for all recordings of one boot of one machine.
    pub machine: usize,
    /// By pid, oldest first.
    programs: HashMap<u32, Vec<Program>>,
    cgroups: HashMap<u64, String>,
    workloads: HashMap<u64, KnownWorkload>,
    /// With the time at which it was learnt, in order: an address may be one pod's after another's.
    addresses: HashMap<[u8; 16], Vec<(u64, Arc<Party>)>>,
    pods: Option<Arc<Pods>>,
    /// Ports that somebody listens on, by network namespace.
    listeners: HashSet<(u32, u16)>,
    clocks: Vec<Clock>,
    /// Grows with each thing learnt; what was looked up under an older edition may be out of date.
    pub edition: u64,
    /// Connections of which the beginning is not given, by the upper halves of their sockets' ids.
    pub joined: Arc<KeySet>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Host {
    /// A host of which only the name and one reading of its clocks are known.
    pub fn new(hostname: &str, clock: Clock) -> Self {
        Host {
            hostname: hostname.to_owned(),
            clocks: vec![clock],
            ..Host::default()
        }
    }

    /// Names what the capture does not name by this list.
    pub fn use_pods(&mut self, pods: Option<Arc<Pods>>) {
        self.pods = pods;
        self.edition += 1;
    }

    /// Learns from a record; those that name nothing are passed over.
    pub fn learn(&mut self, record: &Record<'_>) {
        self.edition += 1;
        match record {
            Record::Process(process) => self.learn_process(process),
            Record::Exit(exit) => self.learn_exit(exit),
            Record::Cgroup(cgroup) => {
                self.cgroups.insert(cgroup.id, text(cgroup.path));
            }
            Record::Workload(workload) => self.learn_workload(workload),
            Record::Address(address) => self.learn_address(address),
            Record::Socket(socket) if socket.role == Role::Listener => {
                self.listeners.insert((socket.netns, socket.local.port));
            }
            Record::Clock(clock) => self.learn_clock(*clock),
            _ => self.edition -= 1,
        }
    }

    fn learn_clock(&mut self, clock: Clock) {
        let at = self.clocks.partition_point(|known| known.boot <= clock.boot);
        self.clocks.insert(at, clock);
    }

    fn learn_process(&mut self, process: &Process<'_>) {
        let programs = self.programs.entry(process.pid).or_default();
        let same = |known: &&mut Program| known.start == process.start;
        let known_already = programs
            .iter_mut()
            .filter(same)
            .any(|known| known.learnt == process.time);
        let began = match process.origin {
            Origin::Snapshot => process.start,
            _ => process.time,
        };
        let before = programs
            .iter_mut()
            .rev()
            .filter(same)
            .find(|known| known.began <= began);
        if known_already || (process.origin == Origin::Snapshot && before.is_some()) {
            // The dump at the start of a rotated part repeats what is known.
            return;
        }
        let program = Program {
            origin: process.origin,
            learnt: process.time,
            began,
            ended: None,
            status: None,
            start: process.start,
            pid: process.pid,
            ppid: process.ppid,
            pid_in_ns: process.pid_in_ns,
            uid: process.uid,
            cgroup: process.cgroup,
            comm: text(process.comm),
            exe: text(process.exe),
            argv: process.argv.to_vec(),
            argv_len: process.argv_len,
        };
        match before {
            // fork followed by execve is one program; the fork alone says nothing more.
            Some(known) if known.origin == Origin::Fork => {
                *known = Program {
                    began: known.began,
                    ..program
                }
            }
            before => {
                if let Some(known) = before {
                    known.ended.get_or_insert(began);
                }
                let at = programs.partition_point(|known| known.began <= began);
                programs.insert(at, program);
            }
        }
    }

    fn learn_exit(&mut self, exit: &Exit) {
        let programs = self.programs.entry(exit.pid).or_default();
        if let Some(program) = programs.iter_mut().rev().find(|known| known.start == exit.start) {
            program.ended = Some(exit.time);
            program.status = Some(exit.status);
        }
    }

    fn learn_workload(&mut self, workload: &Workload<'_>) {
        let known = KnownWorkload {
            container_id: workload.container_id.to_owned(),
            container: workload.container.to_owned(),
            pod: workload.pod.to_owned(),
            namespace: workload.namespace.to_owned(),
            workload: workload.workload.to_owned(),
        };
        self.workloads.insert(workload.cgroup, known);
    }

    fn learn_address(&mut self, address: &Address<'_>) {
        let party = address_party(address.kind, address.namespace, address.name, address.workload);
        let known = self.addresses.entry(address.ip).or_default();
        let at = known.partition_point(|(time, _)| *time < address.time);
        match known.get_mut(at).filter(|(time, _)| *time == address.time) {
            // The dump at the start of a rotated part repeats what is known.
            Some((_, known)) => *known = Arc::new(party),
            None => known.insert(at, (address.time, Arc::new(party))),
        }
    }

    /// The workload of a cgroup: as recorded; what that leaves open is read from the path, then from the pod list.
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

    /// UTC, ns since 1970-01-01, of a time on the boot clock: by the last reading of the clocks before it.
    pub fn utc(&self, boot: u64) -> u64 {
        let at = self.clocks.partition_point(|clock| clock.boot <= boot).max(1) - 1;
        match self.clocks.get(at) {
            Some(clock) => clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot)),
            None => boot,
        }
    }

    /// Whether somebody listens on this port.
    pub fn listens(&self, netns: u32, port: u16) -> bool {
        self.listeners.contains(&(netns, port))
    }

    /// The program that this pid ran at this time.
    pub fn program(&self, pid: u32, time: u64) -> Option<&Program> {
        let programs = self.programs.get(&pid)?;
        let at = programs.partition_point(|program| program.began <= time);
        programs.get(at.max(1) - 1)
    }

    /// All programs, in order of beginning and pid.
    pub fn programs(&self) -> Vec<&Program> {
        let mut all: Vec<&Program> = self.programs.values().flatten().collect();
        all.sort_by_key(|program| (program.began, program.pid));
        all
    }

    /// Who a process is. `cgroup` is the one seen with the event; 0 takes that of the process.
    pub fn party(&self, pid: u32, cgroup: u64, time: u64) -> Party {
        let program = self.program(pid, time);
        let cgroup = match (cgroup, program) {
            (0, Some(program)) => program.cgroup,
            // On a v1 host all processes are in the same v2 cgroup.
            (_, Some(program)) if program.cgroup & CGROUP_V1 != 0 => program.cgroup,
            _ => cgroup,
        };
        let path = self.cgroups.get(&cgroup).map_or("", String::as_str);
        let known = self.workload(cgroup, path);
        Party {
            pid,
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

    /// Since when the program of a process has run that ran at this time: with pid, cgroup and [`Host::edition`] it decides
    /// who [`Host::party`] says it is. 0 for a program that is not known.
    pub fn program_since(&self, pid: u32, time: u64) -> u64 {
        self.program(pid, time).map_or(0, |program| program.began)
    }

    /// Everybody who had an address at some time.
    pub fn parties_at(&self, endpoint: &Endpoint) -> impl Iterator<Item = Arc<Party>> {
        let of_capture = self.addresses.get(&endpoint.ip).into_iter().flatten();
        let of_list = self.pods.as_ref().and_then(|pods| pods.party_at(endpoint));
        of_capture.map(|(_, party)| Arc::clone(party)).chain(of_list)
    }

    /// Who has an address, as this host knew it at this time (boot clock, ns).
    pub fn party_at(&self, endpoint: &Endpoint, time: u64) -> Option<Arc<Party>> {
        let known = self.addresses.get(&endpoint.ip);
        let of_capture = known.and_then(|known| {
            let at = known.partition_point(|(learnt, _)| *learnt <= time);
            known.get(at.max(1) - 1)
        });
        match of_capture {
            Some((_, party)) => Some(Arc::clone(party)),
            None => self.pods.as_ref().and_then(|pods| pods.party_at(endpoint)),
        }
    }
}

#[cfg(test)]
mod tests;
