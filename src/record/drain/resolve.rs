//! What the kernel's events do not contain: processes and cgroups that are looked up by another thread, and what was there
//! before the recording began.

use std::collections::HashSet;
use std::time::Instant;
use std::vec;

use super::Drain;
use crate::format::record::{CGROUP_V1, Cgroup, Endpoint, Origin, Process, Record, Role, Socket, same_start};
use crate::record::cgroup::Entry;
use crate::record::lookup::{Answer, Lookups, Question};
use crate::record::snapshot::{Found, Snapshot};
use crate::record::source::tcp::wire;
use crate::record::sys;

/// Pids that were asked for, kept so that they are not asked for with each event.
const ASKED_MAX: usize = 65_536;
/// Cgroups whose paths are looked for.
const UNNAMED_MAX: usize = 65_536;

/// What could not be found out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unresolved {
    /// Processes that were seen in events, and had ended when they were looked up.
    pub processes: u64,
    /// Cgroups that were seen in events, and gone when they were looked for.
    pub cgroups: u64,
}

/// What is left of a snapshot to be taken in.
pub struct Intake {
    cgroups: vec::IntoIter<Entry>,
    processes: vec::IntoIter<Found>,
    sockets: vec::IntoIter<Socket>,
}

/// A connection as /proc and the kernel's events both identify it: the network namespace and the two ends.
pub type Ends = (u32, Endpoint, Endpoint);

pub fn ends(socket: &Socket) -> Ends {
    (socket.netns, socket.local, socket.remote)
}

impl Drain {
    /// Looks up a process of which there is no record: one that ran before recording began, and that the snapshot did not
    /// take because nothing selected it then. Where events were lost, that of an execve may be among them: then a forked
    /// process is looked up too.
    pub(super) fn resolve_process(&mut self, pid: u32) {
        if pid == 0 || !self.config.proc || self.pids_asked.contains(&pid) {
            return;
        }
        if self.live.knows_process(pid) && !(self.counters.missing.get() > 0 && self.live.is_unchecked(pid)) {
            return;
        }
        if self.ask(Question::Process(pid)) {
            if self.pids_asked.len() >= ASKED_MAX {
                self.pids_asked.clear();
            }
            self.pids_asked.insert(pid);
        }
    }

    fn ask(&mut self, question: Question) -> bool {
        self.lookups.as_mut().is_some_and(|lookups| lookups.ask(question))
    }

    /// On hosts with v1 hierarchies: the cgroup that names a process's container. It is that of its parent until the process
    /// is found in another one; runtimes move it there before its execve.
    pub(super) fn v1_cgroup(&mut self, process: &Process<'_>) -> Option<u64> {
        if !self.config.v1 {
            return None;
        }
        let (pid, parent) = (process.pid, process.ppid);
        let is_fork = process.origin == Origin::Fork;
        if (!is_fork || self.containers_asked.contains(&parent)) && self.ask(Question::Container(pid)) {
            self.containers_asked.insert(pid);
        }
        let known = if is_fork { None } else { self.live.cgroup_of(pid) };
        known
            .or_else(|| self.live.cgroup_of(parent))
            .filter(|id| id & CGROUP_V1 != 0)
    }

    /// Looks up the path of a process's cgroup, if it is not known.
    pub(super) fn resolve_cgroup(&mut self, id: u64, pid: u32) {
        if id == 0 || !self.config.proc || self.live.knows_cgroup(id) || self.unnamed.len() >= UNNAMED_MAX {
            return;
        }
        if self.unnamed.insert(id) {
            // Without room for the question, the next walk of the tree finds it.
            self.ask(Question::Cgroup { id, pid });
        }
    }

    /// Has the tree walked for cgroups that could not be named through their process, because it had ended or moved on; and
    /// for those that are gone, where many are known.
    pub(super) fn walk(&mut self) {
        let many = self.live.has_many_cgroups();
        if self.walking || (self.unnamed.is_empty() && !many) {
            return;
        }
        let known = if many { self.live.cgroups() } else { Vec::new() };
        let unnamed = self.unnamed.iter().copied().collect();
        self.walking = self.ask(Question::Cgroups { unnamed, known });
    }

    /// Takes what was looked up; at most this number of answers.
    pub fn take_answers(&mut self, most: usize) {
        for _ in 0..most {
            let Some(answer) = self.lookups.as_mut().and_then(Lookups::answer) else {
                return;
            };
            self.take_answer(answer);
        }
    }

    /// Waits for what is still being looked up; for the end of a recording.
    pub fn await_answers(&mut self, until: Instant) {
        self.walk();
        while let Some(answer) = self.lookups.as_mut().and_then(|lookups| lookups.wait(until)) {
            self.take_answer(answer);
        }
        self.unresolved.processes += self.lookups.as_ref().map_or(0, |lookups| lookups.open() as u64);
        self.unresolved.cgroups += self.unnamed.len() as u64;
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            // Its pid is kept, so that it is not looked up again. The snapshot may have found it earlier.
            Answer::Process(pid, None) => {
                if self.pids_gone.len() >= ASKED_MAX {
                    self.unresolved.processes += self.pids_gone.drain().count() as u64;
                }
                if !self.live.knows_process(pid) {
                    self.pids_gone.insert(pid);
                }
            }
            Answer::Process(pid, Some(found)) => {
                self.pids_asked.remove(&pid);
                self.name_cgroup(found.cgroup, &found.cgroup_path);
                self.live.check(pid);
                let (origin, start) = match self.live.newest(pid) {
                    Some(known) if same_start(known.start, found.start) => {
                        if known.origin != Origin::Fork || known.comm == found.comm {
                            return;
                        }
                        (Origin::Fork, known.start)
                    }
                    Some(known) if known.start > found.start => return,
                    // Known, but not kept.
                    None if self.live.knows_process(pid) => return,
                    _ => (Origin::Snapshot, found.start),
                };
                self.state(&Record::Process(Process {
                    origin,
                    start,
                    ..found.record()
                }));
                self.live.check(pid);
            }
            Answer::Container(pid, found) => {
                self.containers_asked.remove(&pid);
                let Some((start, cgroup)) = found else { return };
                self.name_cgroup(cgroup.id, &cgroup.path);
                if self.live.change_cgroup((pid, start), cgroup.id) {
                    self.note_opened();
                    let process = self.live.newest(pid);
                    process
                        .into_iter()
                        .for_each(|process| self.state.push(&Record::Process(process)));
                }
            }
            Answer::Cgroup(_, None) => {}
            Answer::Cgroup(id, Some(path)) => {
                self.unnamed.remove(&id);
                self.name_cgroup(id, &path);
            }
            Answer::Cgroups { named, unnamed, gone } => {
                self.walking = false;
                for Entry { id, path } in named {
                    self.unnamed.remove(&id);
                    self.name_cgroup(id, &path);
                }
                for id in unnamed {
                    self.unresolved.cgroups += u64::from(self.unnamed.remove(&id));
                }
                if !gone.is_empty() {
                    self.live.prune_cgroups(|id| !gone.contains(&id));
                }
            }
        }
    }

    fn name_cgroup(&mut self, id: u64, path: &[u8]) {
        if id != 0 && !path.is_empty() && !self.live.knows_cgroup(id) {
            self.state(&Record::Cgroup(Cgroup {
                time: sys::boot_ns(),
                id,
                path,
            }));
        }
    }

    /// Begins to take in what was there before; again when more is recorded than at the start.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        for socket in self.live.settle_roles(&snapshot.listeners) {
            self.state(&Record::Socket(socket));
        }
        self.listeners.get_or_insert_default().extend(snapshot.listeners);
        if self.intakes.is_empty() {
            self.seen = self.live.sockets().map(ends).collect();
        }
        self.intakes.push_back(Intake {
            cgroups: snapshot.cgroups.into_iter(),
            processes: snapshot.processes.into_iter(),
            sockets: snapshot.sockets.into_iter(),
        });
    }

    /// Whether there is more to take in.
    pub fn is_taking_in(&self) -> bool {
        !self.intakes.is_empty()
    }

    /// Takes in some more of a snapshot: there may be tens of thousands of sockets, and the ring does not wait. Returns the
    /// open connections, for the kernel side to know.
    pub fn take_in(&mut self, most: usize) -> Vec<Socket> {
        let mut open = Vec::new();
        let Some(mut intake) = self.intakes.pop_front() else {
            return open;
        };
        for _ in 0..most {
            if let Some(entry) = intake.cgroups.next() {
                self.name_cgroup(entry.id, &entry.path);
            } else if let Some(found) = intake.processes.next() {
                self.name_cgroup(found.cgroup, &found.cgroup_path);
                if !self.live.knows_process(found.pid) {
                    self.pids_gone.remove(&found.pid);
                    self.state(&Record::Process(found.record()));
                }
            } else if let Some(socket) = intake.sockets.next() {
                // The kernel has announced it meanwhile, with an id of its own.
                if self.seen.contains(&ends(&socket)) {
                    continue;
                }
                let id = wire::snapshot_id(&socket.local, &socket.remote, self.snapshot_sockets);
                self.snapshot_sockets = self.snapshot_sockets.wrapping_add(1);
                let socket = Socket { id, ..socket };
                self.state(&Record::Socket(socket));
                if socket.role != Role::Listener {
                    open.push(socket);
                }
            } else {
                self.seen = match self.intakes.is_empty() {
                    true => HashSet::new(),
                    false => self.live.sockets().map(ends).collect(),
                };
                return open;
            }
        }
        self.intakes.push_front(intake);
        open
    }

    /// What could not be found out.
    pub fn unresolved(&self) -> Unresolved {
        let gone = self.pids_gone.len() as u64;
        Unresolved {
            processes: self.unresolved.processes + gone,
            ..self.unresolved
        }
    }
}
