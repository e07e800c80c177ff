//! The programs that the processes of a host ran, and when. Knows neither names of containers nor connections.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{MAX_NAME, MAX_PATH, added, text};
use crate::format::record::{Exit, Origin, Process, same_start};

/// A program that a process ran.
#[derive(Debug, Clone)]
pub struct Program {
    pub origin: Origin,
    /// When the record of it was made: boot clock, ns.
    learnt: u64,
    /// When this program began: boot clock, ns. For one that ran before the recording, when its process was started.
    pub began: u64,
    /// When the process exited, and its status as wait(2) encodes it. Counts for the newest program of a process.
    pub(super) exit: Option<(u64, u32)>,
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

/// A program from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub program: &'a Program,
    /// When it began: boot clock, ns. That of the fork, where nothing else was run in between.
    pub began: u64,
    /// When it ended, by exit or by execve.
    pub ended: Option<u64>,
    /// How the process exited, as wait(2) encodes it.
    pub status: Option<u32>,
}

/// The pid, when the process was started, when the program began: orders the processes of a pid, and the programs of a process.
type ProgramKey = (u32, u64, u64);

/// The program of a process at one time, and the range of times with the same result.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    pub program: Option<&'a Program>,
    pub valid: Range<u64>,
}

/// All programs of a host.
#[derive(Debug, Default)]
pub struct Programs(pub(super) BTreeMap<ProgramKey, Program>);

impl Programs {
    /// Learns from a record; returns how many bytes of memory were added.
    pub fn learn(&mut self, process: &Process<'_>) -> usize {
        let (pid, start) = (process.pid, process.start);
        let is_snapshot = process.origin == Origin::Snapshot;
        let began = if is_snapshot { start } else { process.time };
        let key = (pid, start, began);
        let program = Program {
            origin: process.origin,
            learnt: process.time,
            began,
            exit: None,
            start,
            pid,
            ppid: process.ppid,
            pid_in_ns: process.pid_in_ns,
            uid: process.uid,
            cgroup: process.cgroup,
            comm: text(process.comm, MAX_NAME),
            exe: text(process.exe, MAX_PATH),
            argv: process.argv.to_vec(),
            argv_len: process.argv_len,
        };
        if let Some(known) = self.0.get_mut(&key) {
            // The dump at the start of a rotated part repeats what is known. It may know more by then, and leaves out
            // arguments where they are too many.
            if known.learnt == program.learnt {
                known.cgroup = program.cgroup;
            }
            return 0;
        }
        if is_snapshot
            && self
                .0
                .range(key..=(pid, start, process.time.max(start)))
                .next_back()
                .is_some()
        {
            // /proc shows what a process runs when it is read.
            return 0;
        }
        // A program found in /proc ran before only if no other is known to have begun in between.
        let found = (pid, start, start);
        if !is_snapshot
            && (self.0.get(&found)).is_some_and(|known| known.origin == Origin::Snapshot && known.learnt >= began)
        {
            self.0.remove(&found);
        }
        let of_process = (pid, start, 0)..=(pid, start, u64::MAX);
        let exit = self.0.range(of_process).next_back().and_then(|(_, last)| last.exit);
        let texts = program.comm.len() + program.exe.len() + program.argv.len();
        self.0.insert(key, Program { exit, ..program });
        added(size_of::<Program>() + texts, None)
    }

    /// Notes the exit of a process.
    pub fn exit(&mut self, exit: &Exit) {
        let start = self.known_start(exit);
        let of_process = (exit.pid, start, 0)..=(exit.pid, start, u64::MAX);
        if let Some((_, last)) = self.0.range_mut(of_process).next_back() {
            last.exit = Some((exit.time, exit.status));
        }
    }

    /// The start by which the process is known that ended: its own, or that of a process found in /proc which was rounded
    /// otherwise.
    fn known_start(&self, exit: &Exit) -> u64 {
        let first = (exit.pid, exit.start, 0);
        let before = self.0.range((exit.pid, 0, 0)..first).next_back();
        let from = self.0.range(first..=(exit.pid, u64::MAX, u64::MAX)).next();
        let nearest = [from, before].into_iter().flatten().map(|((_, start, _), _)| *start);
        let is_known = |start: &u64| {
            let found = self.0.get(&(exit.pid, *start, *start));
            *start == exit.start
                || (same_start(*start, exit.start) && found.is_some_and(|found| found.origin == Origin::Snapshot))
        };
        nearest.into_iter().find(is_known).unwrap_or(exit.start)
    }

    /// The program that a process ran at `time`; the process had this pid at `seen_at`. `None` where that is not known: it had
    /// exited, or an execve came later and the program before it was not recorded.
    pub fn find(&self, pid: u32, seen_at: u64, time: u64) -> Found<'_> {
        let known = self.0.range((pid, 0, 0)..=(pid, seen_at, u64::MAX)).next_back();
        // A connection can be older than the process that was given it.
        let first = || self.0.range((pid, 0, 0)..=(pid, u64::MAX, u64::MAX)).next();
        let Some((&(_, start, _), _)) = known.or_else(first) else {
            return Found {
                program: None,
                valid: 0..u64::MAX,
            };
        };
        let of_process = |from: u64, to: u64| self.0.range((pid, start, from)..=(pid, start, to));
        let exited = of_process(0, u64::MAX)
            .next_back()
            .and_then(|(_, last)| last.exit)
            .map(|exit| exit.0);
        let mut after = self.0.range((pid, start, u64::MAX)..=(pid, u64::MAX, u64::MAX));
        let next_process = after.next().map_or(u64::MAX, |(key, _)| key.1);
        if let Some(exited) = exited.filter(|exited| *exited < seen_at) {
            return Found {
                program: None,
                valid: exited.saturating_add(1)..next_process,
            };
        }
        let before = of_process(0, time).next_back();
        let after = of_process(time.saturating_add(1), u64::MAX).next();
        let until = after.map_or(next_process, |(key, _)| key.2.min(next_process));
        let gone = exited.filter(|exited| time <= *exited);
        let (program, from, until) = match before {
            Some((key, program)) => (Some(program), key.2, until),
            None if time < start => (after.map(|(_, program)| program), 0, until.min(start)),
            None => (None, start, until),
        };
        Found {
            program,
            valid: from..gone.map_or(until, |exited| until.min(exited.saturating_add(1))),
        }
    }

    /// All programs, in order of beginning and pid.
    pub fn all(&self) -> Vec<Run<'_>> {
        let mut all: Vec<Run<'_>> = Vec::with_capacity(self.0.len());
        let mut programs = self.0.iter().peekable();
        let mut forked = None;
        while let Some((key, program)) = programs.next() {
            let next = programs.peek().filter(|(next, _)| (next.0, next.1) == (key.0, key.1));
            // fork followed by execve is one program.
            if program.origin == Origin::Fork && next.is_some_and(|(_, next)| next.origin == Origin::Exec) {
                forked = Some(program.began);
                continue;
            }
            let exit = program.exit.filter(|_| next.is_none());
            all.push(Run {
                program,
                began: forked.take().unwrap_or(program.began),
                ended: next.map(|(next, _)| next.2).or(exit.map(|exit| exit.0)),
                status: exit.map(|exit| exit.1),
            });
        }
        all.sort_by_key(|run| (run.began, run.program.pid));
        all
    }
}
