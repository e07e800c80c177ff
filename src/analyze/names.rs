//! Who is who on one recording host: processes, cgroups, workloads, addresses, and its clocks.
//!
//! Filled from state records between batches, read by all shards during a batch.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use super::row::Party;
use crate::format::record::{Address, Clock, Endpoint, Exit, Origin, Process, Record, Role, Workload};

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
    container: String,
    pod: String,
    namespace: String,
    workload: String,
}

/// What one host's state records said.
#[derive(Debug, Default)]
pub struct Host {
    pub hostname: String,
    /// By pid, oldest first.
    programs: HashMap<u32, Vec<Program>>,
    cgroups: HashMap<u64, String>,
    workloads: HashMap<u64, KnownWorkload>,
    addresses: HashMap<[u8; 16], (String, String, String)>,
    /// Ports that somebody listens on, by network namespace.
    listeners: HashSet<(u32, u16)>,
    clocks: Vec<Clock>,
    /// Grows with each thing learnt; what was looked up under an older edition may be out of date.
    pub edition: u64,
    /// No event before this time is given: UTC, ns; 0 when all are.
    pub begin: u64,
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
        let container = match workload.container {
            "" => workload.container_id.chars().take(12).collect(),
            name => name.to_owned(),
        };
        let known = KnownWorkload {
            container_id: workload.container_id.to_owned(),
            container,
            pod: workload.pod.to_owned(),
            namespace: workload.namespace.to_owned(),
            workload: workload.workload.to_owned(),
        };
        self.workloads.insert(workload.cgroup, known);
    }

    fn learn_address(&mut self, address: &Address<'_>) {
        let known = (
            address.namespace.to_owned(),
            address.name.to_owned(),
            address.workload.to_owned(),
        );
        self.addresses.insert(address.ip, known);
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
            _ => cgroup,
        };
        let mut party = Party {
            pid,
            comm: program.map(|program| program.comm.clone()).unwrap_or_default(),
            cgroup: self.cgroups.get(&cgroup).cloned().unwrap_or_default(),
            hostname: self.hostname.clone(),
            ..Party::default()
        };
        if let Some(known) = self.workloads.get(&cgroup) {
            party.container_id.clone_from(&known.container_id);
            party.container.clone_from(&known.container);
            party.pod.clone_from(&known.pod);
            party.namespace.clone_from(&known.namespace);
            party.workload.clone_from(&known.workload);
        }
        party
    }

    /// Who answers at an address that no recorded process owns.
    pub fn party_at(&self, endpoint: &Endpoint) -> Party {
        let ip = match endpoint.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        match self.addresses.get(&Ipv6Addr::octets(&ip)) {
            Some((namespace, name, workload)) => Party {
                namespace: namespace.clone(),
                address_name: name.clone(),
                workload: workload.clone(),
                ..Party::default()
            },
            None => Party::default(),
        }
    }
}
