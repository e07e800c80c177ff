//! The live state: what a new part of a recording must repeat so that it can be understood alone.
//!
//! Processes, the programs that they ran before, and sockets are forgotten some time after they ended (events of other CPUs
//! may still come, and the memory ring of `--ring` looks back), cgroups when they are gone and nobody refers to them. The
//! number of entries and the bytes of names are bounded; what does not fit is still in the file once, but not repeated in
//! later parts.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::snapshot::Listeners;
use crate::format::record::{
    Address, AddressKind, Cgroup, Opened, Origin, Owner, Process, Record, Role, Socket, Workload, same_start,
};

/// Bytes of paths and arguments kept; beyond it processes are known by their names alone.
const NAMES_MAX: usize = 16 << 20;
/// Programs of processes kept.
const PROGRAMS_MAX: usize = 65_536;
/// cgroups kept before those that are gone are looked for.
const CGROUPS_MANY: usize = 8_192;

/// A program that a process runs or ran.
#[derive(Debug)]
struct Program {
    origin: Origin,
    ppid: u32,
    pid_in_ns: u32,
    uid: u32,
    cgroup: u64,
    netns: u32,
    comm: Box<[u8]>,
    exe: Box<[u8]>,
    argv: Box<[u8]>,
    argv_len: u32,
    /// Its name was compared with that in /proc.
    checked: bool,
}

impl Program {
    fn new(p: &Process<'_>) -> Self {
        Program {
            origin: p.origin,
            ppid: p.ppid,
            pid_in_ns: p.pid_in_ns,
            uid: p.uid,
            cgroup: p.cgroup,
            netns: p.netns,
            comm: p.comm.into(),
            exe: p.exe.into(),
            argv: p.argv.into(),
            argv_len: p.argv_len,
            checked: false,
        }
    }

    fn record(&self, (pid, start, time): ProgramKey) -> Process<'_> {
        Process {
            time,
            origin: self.origin,
            pid,
            ppid: self.ppid,
            pid_in_ns: self.pid_in_ns,
            start,
            uid: self.uid,
            cgroup: self.cgroup,
            netns: self.netns,
            comm: &self.comm,
            exe: &self.exe,
            argv: &self.argv,
            argv_len: self.argv_len,
        }
    }

    fn names_len(&self) -> usize {
        self.exe.len() + self.argv.len()
    }
}

/// The pid, when the process was started, and when this was learnt.
type ProgramKey = (u32, u64, u64);

#[derive(Debug)]
struct Link {
    socket: Socket,
    owner: Option<Owner>,
}

#[derive(Debug)]
struct Work {
    time: u64,
    /// In the order of the fields of [`Workload`].
    words: [Box<str>; 8],
}

#[derive(Debug)]
struct Named {
    time: u64,
    kind: AddressKind,
    namespace: Box<str>,
    name: Box<str>,
    workload: Box<str>,
}

#[derive(Debug, Clone, Copy)]
enum Ended {
    Process(u32, u64),
    /// The process runs another one now.
    Program(ProgramKey),
    Socket(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Live {
    programs: BTreeMap<ProgramKey, Program>,
    /// The newest process of each pid, with what it runs; also of those that are not kept. There are no more than the kernel
    /// has pids (4,194,304).
    newest: HashMap<u32, (u64, u64)>,
    names_len: usize,
    sockets: HashMap<u64, Link>,
    cgroups: HashMap<u64, (u64, Box<[u8]>)>,
    works: HashMap<u64, Work>,
    addresses: HashMap<[u8; 16], Named>,
    ended: VecDeque<(u64, Ended)>,
    retention_ns: u64,
    sockets_max: usize,
    /// Processes and sockets that go on and found no room.
    absent: u64,
}

impl Live {
    /// Keeps what ended for `retention`, and at most `sockets_max` sockets.
    pub fn new(retention: Duration, sockets_max: usize) -> Self {
        Live {
            programs: BTreeMap::new(),
            newest: HashMap::new(),
            names_len: 0,
            sockets: HashMap::new(),
            cgroups: HashMap::new(),
            works: HashMap::new(),
            addresses: HashMap::new(),
            ended: VecDeque::new(),
            retention_ns: u64::try_from(retention.as_nanos()).unwrap_or(u64::MAX),
            sockets_max,
            absent: 0,
        }
    }

    /// The start by which this process is known. /proc and the kernel's events may round it differently; a process of the
    /// snapshot keeps its own, or its exit would not match.
    pub fn known_start(&self, pid: u32, start: u64) -> u64 {
        match self.newest.get(&pid) {
            Some(&(known, _)) if same_start(known, start) => known,
            _ => start,
        }
    }

    /// Whether a process of this pid has been named.
    pub fn knows_process(&self, pid: u32) -> bool {
        self.newest.contains_key(&pid)
    }

    /// What the newest process of this pid runs.
    pub fn newest(&self, pid: u32) -> Option<Process<'_>> {
        let (start, time) = *self.newest.get(&pid)?;
        let key = (pid, start, time);
        self.programs.get(&key).map(|program| program.record(key))
    }

    fn newest_mut(&mut self, pid: u32) -> Option<(u64, &mut Program)> {
        let (start, time) = *self.newest.get(&pid)?;
        Some((start, self.programs.get_mut(&(pid, start, time))?))
    }

    /// Whether nothing is known of the newest process of this pid but that it was forked, and its name was not compared with
    /// that in /proc: an execve of it may have been missed.
    pub fn is_unchecked(&self, pid: u32) -> bool {
        let key = self.newest.get(&pid).map(|(start, time)| (pid, *start, *time));
        let program = key.and_then(|key| self.programs.get(&key));
        program.is_some_and(|program| program.origin == Origin::Fork && !program.checked)
    }

    /// The name of the newest process of this pid was compared with that in /proc.
    pub fn check(&mut self, pid: u32) {
        if let Some((_, program)) = self.newest_mut(pid) {
            program.checked = true;
        }
    }

    /// The cgroup of the newest process of this pid.
    pub fn cgroup_of(&self, pid: u32) -> Option<u64> {
        self.newest(pid).map(|process| process.cgroup)
    }

    /// Whether this process was thought to be in another cgroup.
    pub fn change_cgroup(&mut self, (pid, start): (u32, u64), cgroup: u64) -> bool {
        match self.newest_mut(pid) {
            Some((known, program)) if same_start(known, start) => {
                std::mem::replace(&mut program.cgroup, cgroup) != cgroup
            }
            _ => false,
        }
    }

    /// Whether this cgroup has been named.
    pub fn knows_cgroup(&self, id: u64) -> bool {
        self.cgroups.contains_key(&id)
    }

    /// Takes note of any record that is about to be stored.
    pub fn learn(&mut self, record: &Record<'_>) {
        match record {
            Record::Process(p) => self.process(p),
            Record::Socket(s) => self.socket(s),
            Record::Owner(o) => {
                if let Some(link) = self.sockets.get_mut(&o.id) {
                    link.owner = Some(*o);
                }
            }
            Record::Cgroup(c) => {
                self.cgroups.insert(c.id, (c.time, c.path.into()));
            }
            Record::Workload(w) => {
                let words = [
                    w.container_id,
                    w.runtime,
                    w.container,
                    w.pod_uid,
                    w.pod,
                    w.namespace,
                    w.workload,
                    w.labels,
                ];
                self.works.insert(
                    w.cgroup,
                    Work {
                        time: w.time,
                        words: words.map(Box::from),
                    },
                );
            }
            Record::Address(a) => {
                let named = Named {
                    time: a.time,
                    kind: a.kind,
                    namespace: a.namespace.into(),
                    name: a.name.into(),
                    workload: a.workload.into(),
                };
                self.addresses.insert(a.ip, named);
            }
            Record::Exit(e) => self.ended.push_back((e.time, Ended::Process(e.pid, e.start))),
            Record::Close(c) => {
                if !self.sockets.contains_key(&c.id) {
                    self.absent = self.absent.saturating_sub(1);
                }
                self.ended.push_back((c.time, Ended::Socket(c.id)));
            }
            Record::Connect(_) | Record::Data(_) | Record::Loss(_) | Record::Clock(_) | Record::Remark(_) => {}
        }
    }

    fn process(&mut self, p: &Process<'_>) {
        let key = (p.pid, p.start, p.time);
        let before = self.newest.insert(p.pid, (p.start, p.time));
        if let Some((start, time)) = before.filter(|before| before.0 == p.start && before.1 != p.time) {
            self.ended.push_back((p.time, Ended::Program((p.pid, start, time))));
        }
        self.forget_program(&key);
        if self.programs.len() >= PROGRAMS_MAX {
            let before = before.filter(|before| before.0 == p.start);
            let made_room = before.is_some_and(|(start, time)| self.forget_program(&(p.pid, start, time)));
            self.absent += u64::from(before.is_none());
            if !made_room {
                return;
            }
        }
        let mut program = Program::new(p);
        if self.names_len + program.names_len() > NAMES_MAX {
            program.exe = Box::default();
            program.argv = Box::default();
        }
        self.names_len += program.names_len();
        self.programs.insert(key, program);
    }

    fn forget_program(&mut self, key: &ProgramKey) -> bool {
        let program = self.programs.remove(key);
        self.names_len -= program.as_ref().map_or(0, Program::names_len);
        program.is_some()
    }

    fn socket(&mut self, s: &Socket) {
        if self.sockets.len() >= self.sockets_max && !self.sockets.contains_key(&s.id) {
            self.absent += 1;
            return;
        }
        match self.sockets.get_mut(&s.id) {
            Some(link) => link.socket = *s,
            None => {
                self.sockets.insert(
                    s.id,
                    Link {
                        socket: *s,
                        owner: None,
                    },
                );
            }
        }
    }

    /// Forgets what ended long enough ago.
    pub fn prune(&mut self, now: u64) {
        while let Some(&(time, ended)) = self.ended.front() {
            if time.saturating_add(self.retention_ns) > now {
                break;
            }
            self.ended.pop_front();
            match ended {
                Ended::Process(pid, start) => self.forget_process(pid, start),
                Ended::Program(key) => {
                    self.forget_program(&key);
                }
                Ended::Socket(id) => {
                    self.sockets.remove(&id);
                }
            }
        }
    }

    fn forget_process(&mut self, pid: u32, start: u64) {
        let mut was_kept = false;
        while let Some((key, _)) = self.programs.range((pid, start, 0)..=(pid, start, u64::MAX)).next() {
            let key = *key;
            was_kept |= self.forget_program(&key);
        }
        if self.newest.get(&pid).is_some_and(|newest| newest.0 == start) {
            self.newest.remove(&pid);
            self.absent = self.absent.saturating_sub(u64::from(!was_kept));
        }
    }

    /// Whether there are enough cgroups that [`Live::prune_cgroups`] is worth a walk of the tree.
    pub fn has_many_cgroups(&self) -> bool {
        self.cgroups.len() > CGROUPS_MANY
    }

    /// Their ids.
    pub fn cgroups(&self) -> Vec<u64> {
        self.cgroups.keys().copied().collect()
    }

    /// Forgets cgroups that do not exist any more and that nothing kept here refers to.
    pub fn prune_cgroups(&mut self, exists: impl Fn(u64) -> bool) {
        let used: HashSet<u64> = (self.programs.values().map(|program| program.cgroup))
            .chain(
                self.sockets
                    .values()
                    .map(|link| link.owner.map_or(link.socket.cgroup, |owner| owner.cgroup)),
            )
            .collect();
        self.cgroups.retain(|id, _| used.contains(id) || exists(*id));
        self.works.retain(|id, _| used.contains(id) || exists(*id));
    }

    /// How many processes and sockets go on that a dump does not repeat.
    pub fn absent(&self) -> u64 {
        self.absent
    }

    /// Gives roles to connections whose opening was not seen, now that the listeners are known. Returns the changed
    /// sockets, which have to be stored again.
    pub fn settle_roles(&mut self, listeners: &Listeners) -> Vec<Socket> {
        let mut changed = Vec::new();
        for link in self.sockets.values_mut() {
            let socket = &mut link.socket;
            if socket.opened == Opened::FirstSeen && socket.role == Role::Undetermined {
                socket.role = listeners.role(socket.netns, &socket.local, &socket.remote);
                if socket.role != Role::Undetermined {
                    changed.push(*socket);
                }
            }
        }
        changed.sort_by_key(|socket| socket.id);
        changed
    }

    /// The sockets that are known, to find out whether one of the snapshot has been seen already.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values().map(|link| &link.socket)
    }

    /// Everything that a new part begins with: cgroups and workloads, processes, sockets with their owners; in a stable
    /// order. Positions are left out of sockets opened before `since`: traffic has gone on after that, and the events
    /// that follow do not begin there.
    pub fn dump(&self, since: u64, mut each: impl FnMut(&Record<'_>)) {
        for (id, (time, path)) in sorted(&self.cgroups) {
            each(&Record::Cgroup(Cgroup {
                time: *time,
                id: *id,
                path,
            }));
        }
        for (cgroup, work) in sorted(&self.works) {
            let [
                container_id,
                runtime,
                container,
                pod_uid,
                pod,
                namespace,
                workload,
                labels,
            ] = work.words.each_ref().map(|word| &**word);
            each(&Record::Workload(Workload {
                time: work.time,
                cgroup: *cgroup,
                container_id,
                runtime,
                container,
                pod_uid,
                pod,
                namespace,
                workload,
                labels,
            }));
        }
        for (ip, named) in sorted(&self.addresses) {
            each(&Record::Address(Address {
                time: named.time,
                ip: *ip,
                kind: named.kind,
                namespace: &named.namespace,
                name: &named.name,
                workload: &named.workload,
            }));
        }
        for (key, program) in &self.programs {
            each(&Record::Process(program.record(*key)));
        }
        for (_, link) in sorted(&self.sockets) {
            let socket = match link.socket.time >= since {
                true => link.socket,
                false => Socket {
                    send_pos: 0,
                    receive_pos: 0,
                    positions: false,
                    ..link.socket
                },
            };
            each(&Record::Socket(socket));
            if let Some(owner) = &link.owner {
                each(&Record::Owner(*owner));
            }
        }
    }
}

/// The entries in the order of their keys.
fn sorted<K: Ord, V>(map: &HashMap<K, V>) -> Vec<(&K, &V)> {
    let mut entries: Vec<(&K, &V)> = map.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::{Close, Ending, Endpoint, Exit};

    fn process(pid: u32, start: u64) -> Process<'static> {
        Process {
            time: start,
            origin: Origin::Exec,
            pid,
            ppid: 1,
            pid_in_ns: pid,
            start,
            uid: 0,
            cgroup: 5,
            netns: 9,
            comm: b"ls",
            exe: b"/bin/ls",
            argv: b"ls\0-l\0",
            argv_len: 6,
        }
    }

    fn socket(id: u64) -> Socket {
        Socket {
            time: 10,
            id,
            opened: Opened::Connect,
            role: Role::Client,
            local: Endpoint {
                ip: [1; 16],
                port: 50000,
            },
            remote: Endpoint { ip: [2; 16], port: 80 },
            netns: 9,
            pid: 0,
            cgroup: 5,
            send_pos: 77,
            receive_pos: 88,
            positions: true,
        }
    }

    fn live() -> Live {
        Live::new(Duration::from_nanos(100), 1000)
    }

    fn dump(live: &Live) -> Vec<String> {
        let mut lines = Vec::new();
        live.dump(u64::MAX, |record| {
            lines.push(match record {
                Record::Process(p) => format!("process {} {}", p.pid, p.start),
                Record::Socket(s) => format!("socket {} {}", s.id, s.positions),
                Record::Owner(o) => format!("owner {} {}", o.id, o.pid),
                Record::Cgroup(c) => format!("cgroup {}", c.id),
                Record::Workload(w) => format!("workload {} {}", w.cgroup, w.pod),
                Record::Address(a) => format!("address {}", a.name),
                other => panic!("{other:?} is no state"),
            });
        });
        lines
    }

    fn close(id: u64, time: u64) -> Record<'static> {
        Record::Close(Close {
            time,
            id,
            ending: Ending::Closed,
            bytes_sent: 0,
            bytes_received: 0,
            retransmits: 0,
            srtt_us: 0,
        })
    }

    #[test]
    fn a_dump_repeats_everything_named_in_a_stable_order() {
        let mut live = live();
        for id in [3, 1, 2] {
            live.learn(&Record::Socket(socket(id)));
        }
        live.learn(&Record::Owner(Owner {
            time: 11,
            id: 2,
            pid: 70,
            cgroup: 5,
        }));
        live.learn(&Record::Process(process(70, 1)));
        live.learn(&Record::Cgroup(Cgroup {
            time: 0,
            id: 5,
            path: b"/x",
        }));
        live.learn(&Record::Workload(Workload {
            time: 0,
            cgroup: 5,
            container_id: "c",
            runtime: "docker",
            container: "web",
            pod_uid: "",
            pod: "cart-0",
            namespace: "shop",
            workload: "",
            labels: "",
        }));
        let address = Address {
            time: 0,
            ip: [7; 16],
            kind: AddressKind::Pod,
            namespace: "shop",
            name: "cart-0",
            workload: "",
        };
        live.learn(&Record::Address(address));
        assert_eq!(
            dump(&live),
            [
                "cgroup 5",
                "workload 5 cart-0",
                "address cart-0",
                "process 70 1",
                "socket 1 false",
                "socket 2 false",
                "owner 2 70",
                "socket 3 false"
            ]
        );
    }

    #[test]
    fn what_ended_is_kept_for_a_while_and_then_forgotten() {
        let mut live = live();
        live.learn(&Record::Process(process(7, 1)));
        live.learn(&Record::Socket(socket(1)));
        live.learn(&Record::Exit(Exit {
            time: 50,
            pid: 7,
            start: 1,
            status: 0,
        }));
        live.learn(&close(1, 60));
        live.prune(149);
        assert_eq!(dump(&live).len(), 2, "events of another CPU may still refer to them");
        live.prune(150);
        assert_eq!(dump(&live), ["socket 1 false"]);
        live.prune(160);
        assert!(dump(&live).is_empty());
        assert!(!live.knows_process(7));
        assert_eq!(live.names_len, 0);
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut live = live();
        live.learn(&Record::Process(process(7, 1)));
        live.learn(&Record::Exit(Exit {
            time: 50,
            pid: 7,
            start: 1,
            status: 0,
        }));
        live.learn(&Record::Process(process(7, 55)));
        live.prune(1000);
        assert_eq!(dump(&live), ["process 7 55"]);
        assert!(live.knows_process(7));
    }

    #[test]
    fn what_is_told_again_counts_once() {
        let mut live = live();
        live.learn(&Record::Process(process(7, 1)));
        let len = live.names_len;
        live.learn(&Record::Process(process(7, 1)));
        assert_eq!((live.names_len, dump(&live).len()), (len, 1));
    }

    /// What the process did before its execve may come later, and the memory ring has events of that time.
    #[test]
    fn what_a_process_ran_before_is_repeated_as_long_as_its_events_can_come() {
        let mut live = live();
        let exec = Record::Process(Process {
            time: 40,
            ..process(7, 1)
        });
        live.learn(&Record::Process(process(7, 1)));
        live.learn(&exec);
        assert_eq!(dump(&live), ["process 7 1", "process 7 1"]);
        live.prune(139);
        assert_eq!(dump(&live).len(), 2);
        live.prune(140);
        assert_eq!(live.newest(7).map(|process| process.time), Some(40));
        assert_eq!(dump(&live).len(), 1);
        live.learn(&exec);
        live.learn(&Record::Exit(Exit {
            time: 150,
            pid: 7,
            start: 1,
            status: 0,
        }));
        live.prune(1000);
        assert!(dump(&live).is_empty() && live.names_len == 0);
    }

    #[test]
    fn more_arguments_than_there_is_room_for_leave_the_names() {
        let mut live = live();
        let argv = vec![b'x'; 4096];
        let many = (NAMES_MAX / argv.len()) as u32 + 1000;
        for pid in 1..=many {
            live.learn(&Record::Process(Process {
                argv: &argv,
                argv_len: 4096,
                ..process(pid, 1)
            }));
        }
        assert_eq!((dump(&live).len(), live.absent()), (many as usize, 0));
        assert!(live.names_len <= NAMES_MAX);
        let last = live
            .newest(many)
            .map(|process| (process.comm, process.argv.len(), process.argv_len));
        assert_eq!(
            last,
            Some((&b"ls"[..], 0, 4096)),
            "and the record shows that there were arguments"
        );
    }

    #[test]
    fn an_exact_start_is_matched_with_the_rounded_one_of_proc() {
        let mut live = live();
        live.learn(&Record::Process(process(7, 120_000_000)));
        assert_eq!(live.known_start(7, 123_456_789), 120_000_000);
        assert_eq!(
            live.known_start(7, 133_456_789),
            133_456_789,
            "another process of the same pid"
        );
        assert_eq!(live.known_start(8, 123_456_789), 123_456_789);
    }

    #[test]
    fn too_many_entries_are_counted_and_not_kept() {
        let mut live = Live::new(Duration::ZERO, 2);
        for id in 0..5 {
            live.learn(&Record::Socket(socket(id)));
        }
        live.learn(&Record::Socket(socket(1)));
        assert_eq!((dump(&live).len(), live.absent()), (2, 3));
        live.learn(&close(4, 10));
        assert_eq!(live.absent(), 2, "what has ended is not missed");

        for pid in 0..PROGRAMS_MAX as u32 + 5 {
            live.learn(&Record::Process(process(pid, 1)));
            live.learn(&Record::Process(process(pid, 1)));
        }
        assert_eq!(live.absent(), 2 + 5);
        let pid = PROGRAMS_MAX as u32;
        assert!(live.knows_process(pid), "it has been named");
        live.learn(&Record::Exit(Exit {
            time: 50,
            pid,
            start: 1,
            status: 0,
        }));
        live.prune(1000);
        assert_eq!(live.absent(), 2 + 4);
    }

    #[test]
    fn cgroups_in_use_stay_and_gone_ones_go() {
        let mut live = live();
        live.learn(&Record::Process(process(7, 1)));
        for id in [4, 5, 6] {
            live.learn(&Record::Cgroup(Cgroup {
                time: 0,
                id,
                path: b"/x",
            }));
        }
        live.prune_cgroups(|id| id == 6);
        assert_eq!(dump(&live), ["cgroup 5", "cgroup 6", "process 7 1"]);
    }

    #[test]
    fn roles_are_settled_when_the_listeners_become_known() {
        let mut live = live();
        let local = Endpoint::new(std::net::Ipv4Addr::LOCALHOST.into(), 80);
        let seen = Socket {
            opened: Opened::FirstSeen,
            role: Role::Undetermined,
            local,
            ..socket(1)
        };
        live.learn(&Record::Socket(seen));
        live.learn(&Record::Socket(socket(2)));
        let mut listeners = Listeners::default();
        listeners.add(9, local);
        let changed = live.settle_roles(&listeners);
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].id, changed[0].role), (1, Role::Server));
        assert!(live.settle_roles(&listeners).is_empty());
    }
}
