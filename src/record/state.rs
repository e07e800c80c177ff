//! The live state: what a new part of a recording must repeat so that it can be understood alone.
//!
//! Processes and sockets are forgotten some time after they ended (events of other CPUs may still come, and the memory
//! ring of `--ring` looks back), cgroups when they are gone and nobody refers to them. The number of entries and the bytes
//! of names are bounded; what does not fit is still in the file once, but not repeated in later parts, and is counted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::procfs::same_start;
use super::snapshot::Listeners;
use crate::format::record::{
    Address, AddressKind, Cgroup, Opened, Origin, Owner, Process, Record, Role, Socket, Workload,
};

/// Bytes of process names, paths and arguments kept.
const NAMES_MAX: usize = 16 << 20;
/// Processes kept.
const PROCESSES_MAX: usize = 65_536;
/// cgroups kept before those that are gone are looked for.
const CGROUPS_MANY: usize = 8_192;

#[derive(Debug)]
struct Task {
    time: u64,
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

impl Task {
    fn new(p: &Process<'_>) -> Self {
        Task {
            time: p.time,
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

    fn record(&self, pid: u32, start: u64) -> Process<'_> {
        Process {
            time: self.time,
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
        self.comm.len() + self.exe.len() + self.argv.len()
    }
}

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
    Socket(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Live {
    tasks: HashMap<(u32, u64), Task>,
    /// The start of the newest process of each pid.
    newest: HashMap<u32, u64>,
    names_len: usize,
    sockets: HashMap<u64, Link>,
    cgroups: HashMap<u64, (u64, Box<[u8]>)>,
    works: HashMap<u64, Work>,
    addresses: HashMap<[u8; 16], Named>,
    ended: VecDeque<(u64, Ended)>,
    retention_ns: u64,
    sockets_max: usize,
    not_kept: u64,
}

impl Live {
    /// Keeps what ended for `retention`, and at most so many sockets.
    pub fn new(retention: Duration, sockets_max: usize) -> Self {
        Live {
            tasks: HashMap::new(),
            newest: HashMap::new(),
            names_len: 0,
            sockets: HashMap::new(),
            cgroups: HashMap::new(),
            works: HashMap::new(),
            addresses: HashMap::new(),
            ended: VecDeque::new(),
            retention_ns: u64::try_from(retention.as_nanos()).unwrap_or(u64::MAX),
            sockets_max,
            not_kept: 0,
        }
    }

    /// The start by which this process is known. /proc and the kernel's events may round it differently; a process of the
    /// snapshot keeps its own, or its exit would not match.
    pub fn known_start(&self, pid: u32, start: u64) -> u64 {
        match self.newest.get(&pid) {
            Some(&known) if same_start(known, start) => known,
            _ => start,
        }
    }

    /// Whether a process of this pid has been named.
    pub fn knows_process(&self, pid: u32) -> bool {
        self.newest.contains_key(&pid)
    }

    /// The newest process of this pid, if nothing is known of it but that it was forked: an execve of it may have been
    /// missed. Each is given once.
    pub fn take_forked(&mut self, pid: u32) -> Option<Process<'_>> {
        let start = *self.newest.get(&pid)?;
        let task = self.tasks.get_mut(&(pid, start))?;
        if task.origin != Origin::Fork || std::mem::replace(&mut task.checked, true) {
            return None;
        }
        Some(task.record(pid, start))
    }

    /// The cgroup of the newest process of this pid.
    pub fn cgroup_of(&self, pid: u32) -> Option<u64> {
        let start = self.newest.get(&pid)?;
        self.tasks.get(&(pid, *start)).map(|task| task.cgroup)
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
            Record::Close(c) => self.ended.push_back((c.time, Ended::Socket(c.id))),
            Record::Connect(_) | Record::Data(_) | Record::Loss(_) | Record::Clock(_) => {}
        }
    }

    fn process(&mut self, p: &Process<'_>) {
        let task = Task::new(p);
        let key = (p.pid, p.start);
        let before = self.tasks.get(&key).map_or(0, Task::names_len);
        let names_len = self.names_len - before + task.names_len();
        let full = before == 0 && self.tasks.len() >= PROCESSES_MAX;
        if full || names_len > NAMES_MAX {
            self.not_kept += 1;
            return;
        }
        self.names_len = names_len;
        self.tasks.insert(key, task);
        self.newest.insert(p.pid, p.start);
    }

    fn socket(&mut self, s: &Socket) {
        if self.sockets.len() >= self.sockets_max && !self.sockets.contains_key(&s.id) {
            self.not_kept += 1;
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
                Ended::Socket(id) => {
                    self.sockets.remove(&id);
                }
            }
        }
    }

    fn forget_process(&mut self, pid: u32, start: u64) {
        if let Some(task) = self.tasks.remove(&(pid, start)) {
            self.names_len -= task.names_len();
        }
        if self.newest.get(&pid) == Some(&start) {
            self.newest.remove(&pid);
        }
    }

    /// Whether there are so many cgroups that [`Live::prune_cgroups`] is worth a walk of the tree.
    pub fn has_many_cgroups(&self) -> bool {
        self.cgroups.len() > CGROUPS_MANY
    }

    /// Forgets cgroups that do not exist any more and that nothing kept here refers to.
    pub fn prune_cgroups(&mut self, exists: impl Fn(u64) -> bool) {
        let used: HashSet<u64> = (self.tasks.values().map(|task| task.cgroup))
            .chain(
                self.sockets
                    .values()
                    .map(|link| link.owner.map_or(link.socket.cgroup, |owner| owner.cgroup)),
            )
            .collect();
        self.cgroups.retain(|id, _| used.contains(id) || exists(*id));
        self.works.retain(|id, _| used.contains(id) || exists(*id));
    }

    /// How many entries did not fit since this was last asked.
    pub fn take_not_kept(&mut self) -> u64 {
        std::mem::take(&mut self.not_kept)
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

    /// The sockets that are known, for telling whether one of the snapshot has been seen already.
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
        for ((pid, start), task) in sorted(&self.tasks) {
            each(&Record::Process(task.record(*pid, *start)));
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
    fn exec_replaces_the_names_and_their_bytes_are_counted_once() {
        let mut live = live();
        live.learn(&Record::Process(process(7, 1)));
        let len = live.names_len;
        live.learn(&Record::Process(process(7, 1)));
        assert_eq!(live.names_len, len);
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
    fn too_many_entries_are_counted_not_kept() {
        let mut live = Live::new(Duration::ZERO, 2);
        for id in 0..5 {
            live.learn(&Record::Socket(socket(id)));
        }
        live.learn(&Record::Socket(socket(1)));
        assert_eq!(live.take_not_kept(), 3);
        assert_eq!(live.take_not_kept(), 0);
        assert_eq!(dump(&live).len(), 2);
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
