//! The kernel side as the recorder sees it: choose a backend, attach, read the ring, count what was lost.
//!
//! Knows nothing of files, queues or protocols. What comes out of the ring is bytes; [`super::wire`] reads them.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use libbpf_rs::RingBuffer;

use super::monitor::Monitor;
use super::object::{self, Loaded};
use super::plan::{Kernel, Plan, plan};
use super::selftest::{self, Outcome};
use super::wire;
use crate::format::record::{LossReason, Socket};
use crate::record::identity::Identity;

/// A way of hearing the kernel. In order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// fexit programs on the socket functions: sees everything.
    Fexit,
    /// The tracepoints of the socket layer (Linux 6.3 and later).
    Socktp,
    /// kprobes on the socket functions.
    Kprobe,
    /// The exit tracepoint of all system calls.
    Systp,
}

impl Backend {
    /// All of them, best first.
    pub const ALL: [Backend; 4] = [Backend::Fexit, Backend::Socktp, Backend::Kprobe, Backend::Systp];

    /// The word for it on the command line and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Fexit => "fexit",
            Backend::Socktp => "socktp",
            Backend::Kprobe => "kprobe",
            Backend::Systp => "systp",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == text)
            .ok_or_else(|| format!("unknown backend {text:?}: expected fexit, socktp, kprobe or systp"))
    }
}

/// Where the command runs that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It begins in one of the filter's cgroups; those of its tree that leave it are followed.
    InCgroup,
    /// Anywhere: all of its tree is followed.
    Anywhere,
}

/// What to record. All given conditions must hold; inside one list any entry does. Empty means everything.
///
/// The recorder's own process is always left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Processes of the initial pid namespace. Children are followed from their fork.
    pub pids: Vec<Identity>,
    /// The recorder's child, from its execve on, and all that it starts. It is recorded beside `pids` and `cgroups`: to be
    /// one of these, in one of these, or of its tree is enough.
    pub command: Option<Command>,
    /// Name of the program: the comm of the thread group's leader, at most 15 bytes.
    pub comm: Option<String>,
    /// cgroup v2 ids; each takes its subtree.
    pub cgroups: Vec<u64>,
    /// Local or remote TCP ports. Applies to sockets and data, never to processes and cgroups.
    pub ports: Vec<u16>,
    /// Inode number of a network namespace.
    pub netns: Option<u32>,
    /// Pids or cgroups come and go at run time ([`Probe::follow`], [`Probe::add_cgroup`]). With this set, empty
    /// lists select nothing until something is added.
    pub dynamic: bool,
}

/// How to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub filter: Filter,
    /// Payload bytes kept of each data event; at most [`MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Bytes of the ring buffer; rounded up to a power of two.
    pub buffer_size: usize,
    /// Use this backend or none.
    pub backend: Option<Backend>,
    /// Sockets that can be followed at one time.
    pub max_sockets: u32,
}

/// The largest [`Config::snaplen`].
pub const MAX_SNAPLEN: u32 = 16384;

impl Default for Config {
    fn default() -> Self {
        Config {
            filter: Filter::default(),
            snaplen: 4096,
            buffer_size: 8 << 20,
            backend: None,
            max_sockets: 65536,
        }
    }
}

/// Recording is not possible: what is missing, what to do, and why each backend was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, in one sentence without a full stop.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    pub refused: Vec<(Backend, String)>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for (backend, why) in &self.refused {
            write!(f, "\n  {backend}: {why}")?;
        }
        if !self.advice.is_empty() {
            write!(f, "\n  {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// One loss counter. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub events: u64,
    /// Payload bytes, where known.
    pub bytes: u64,
}

/// What was lost in the kernel since attaching. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelLosses {
    pub ring_full: Count,
    pub map_full: Count,
    /// Runs of programs that the kernel skipped.
    pub missed: Count,
    /// Payload that could not be read; the events themselves are there.
    pub page_fault: Count,
    /// Payload cut to the snaplen; the events themselves are there.
    pub truncated: Count,
}

impl KernelLosses {
    /// What was lost since an earlier reading.
    pub fn since(&self, before: &KernelLosses) -> KernelLosses {
        let grown = |now: Count, before: Count| Count {
            events: now.events.saturating_sub(before.events),
            bytes: now.bytes.saturating_sub(before.bytes),
        };
        KernelLosses {
            ring_full: grown(self.ring_full, before.ring_full),
            map_full: grown(self.map_full, before.map_full),
            missed: grown(self.missed, before.missed),
            page_fault: grown(self.page_fault, before.page_fault),
            truncated: grown(self.truncated, before.truncated),
        }
    }

    /// Each counter with its reason.
    pub fn iter(&self) -> impl Iterator<Item = (LossReason, Count)> {
        [
            (LossReason::RingFull, self.ring_full),
            (LossReason::MapFull, self.map_full),
            (LossReason::Missed, self.missed),
            (LossReason::PageFault, self.page_fault),
            (LossReason::Truncated, self.truncated),
        ]
        .into_iter()
    }
}

/// Loads, attaches and tests one backend: with why the self-test could not be made, if so. Otherwise tells why it cannot
/// be used.
fn try_backend(plan: &Plan, config: &Config) -> Result<(Loaded, Option<String>), String> {
    let mut loaded = Loaded::new(plan, config).map_err(|error| explain(&format!("{error:#}"), &object::take_said()))?;
    let untested = match selftest::run(&loaded) {
        Outcome::Heard => None,
        Outcome::NotMade(why) => Some(why),
        Outcome::Wrong(why) => return Err(format!("its self-test failed: {why}")),
    };
    loaded
        .go()
        .map_err(|error| format!("it cannot be switched on: {error}"))?;
    Ok((loaded, untested))
}

/// Why the kernel refused, in a line: its own word for it, and where it comes from libbpf, the program.
fn explain(error: &str, said: &str) -> String {
    let program = said.split("prog '").nth(1).and_then(|rest| rest.split('\'').next());
    // The verifier's reason is the last line before its statistics. Its log is empty where it was not asked.
    let log = said.split_once("BEGIN PROG LOAD LOG --\n").map_or("", |(_, log)| log);
    let verdict = log
        .lines()
        .take_while(|line| !line.starts_with("processed ") && !line.contains("-- END PROG LOAD LOG"))
        .last();
    match (program, verdict) {
        (Some(program), Some(verdict)) => format!("the kernel's verifier refuses {program}: {verdict} ({error})"),
        (Some(program), None) if error.contains("os error 1)") => {
            format!("the kernel does not permit programs of the type of {program} ({error})")
        }
        _ => error.to_string(),
    }
}

/// Attached programs. Dropping it detaches them.
pub struct Probe {
    backend: Backend,
    loaded: Loaded,
    untested: Option<String>,
    inexact: Option<&'static str>,
    dynamic_cgroups: bool,
}

/// The refusal of all backends when one of them runs out of file descriptors: another one that needs fewer might work, and see
/// less.
fn out_of_files(error: &str) -> Option<Refusal> {
    // EMFILE, ENFILE
    let what = if error.contains("(os error 24)") {
        "too many open files in this process"
    } else if error.contains("(os error 23)") {
        "too many open files on this host"
    } else {
        return None;
    };
    Some(Refusal {
        what: what.to_string(),
        advice: "raise the limit (ulimit -n, LimitNOFILE= in a unit of systemd; fs.file-max)".to_string(),
        refused: Vec::new(),
    })
}

impl Probe {
    /// Chooses a backend that works here, loads and attaches it. Events flow from now on.
    ///
    /// A backend works when the kernel has what it needs, takes its programs, and a self-test over loopback comes out
    /// right. One that would miss some of what happens is used only when it is asked for, or when nothing else works.
    pub fn attach(config: &Config) -> Result<Probe, Refusal> {
        let kernel = Kernel::read().map_err(|error| {
            out_of_files(&format!("{error:#}")).unwrap_or_else(|| Refusal {
                what: "this kernel does not describe itself (no BTF in /sys/kernel/btf/vmlinux)".to_string(),
                advice: "see mdf doctor".to_string(),
                refused: Vec::new(),
            })
        })?;
        let mut plans: Vec<_> = Backend::ALL
            .into_iter()
            .filter(|backend| config.backend.is_none_or(|only| only == *backend))
            .map(|backend| (backend, plan(backend, &kernel)))
            .collect();
        let inexact = |plan: &Result<Plan, String>| plan.as_ref().ok().and_then(|plan| plan.inexact);
        plans.sort_by_key(|(_, plan)| inexact(plan).is_some());
        let mut refused = Vec::new();
        for (backend, plan) in plans {
            let inexact = inexact(&plan);
            match plan.and_then(|plan| try_backend(&plan, config)) {
                Ok((loaded, untested)) => {
                    return Ok(Probe {
                        backend,
                        loaded,
                        untested,
                        inexact,
                        dynamic_cgroups: config.filter.dynamic,
                    });
                }
                Err(why) => match out_of_files(&why) {
                    Some(refusal) => return Err(refusal),
                    None => refused.push((backend, why)),
                },
            }
        }
        let what = match config.backend {
            Some(backend) => format!("the backend {backend} does not work here"),
            None => "no way of hearing this kernel works here".to_string(),
        };
        Err(Refusal {
            what,
            advice: "see mdf doctor".to_string(),
            refused,
        })
    }

    /// The backend that was chosen.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why the self-test could not be made (no loopback here); None when it was, and came out right.
    pub fn untested(&self) -> Option<&str> {
        self.untested.as_deref()
    }

    /// Why it will miss some of what happens, if so. What it misses is counted.
    pub fn inexact(&self) -> Option<&'static str> {
        self.inexact
    }

    /// This process's thread group id in the initial pid namespace.
    pub fn own_tgid(&self) -> u32 {
        self.loaded.own_tgid()
    }

    /// A reader of the ring; make one only. It may outlive the probe (the rest can still be read after detaching). `each`
    /// gets one ring record, for [`super::wire::decode`].
    pub fn ring<'cb>(&self, each: impl FnMut(&[u8]) + 'cb) -> io::Result<Ring<'cb>> {
        Ok(Ring {
            ring: self.loaded.ring(each)?,
            _on_one_thread: PhantomData,
        })
    }

    /// Detaches all programs: no new events. What is in the ring stays readable.
    pub fn stop_new_events(&mut self) {
        self.loaded.detach();
    }

    /// The loss counters, added up over all CPUs. Never falls.
    pub fn losses(&self) -> io::Result<KernelLosses> {
        self.monitor().losses()
    }

    /// What can be read on other threads.
    pub fn monitor(&self) -> Monitor {
        self.loaded.monitor()
    }

    /// Tells the kernel side of a socket that existed before, so that its events carry `socket.id` and it is not
    /// announced again. The id comes from [`super::wire::snapshot_id`].
    pub fn seed_socket(&self, socket: &Socket) -> io::Result<()> {
        let (key, value) = wire::seed(socket);
        self.loaded.put_io("seeds", &key, &value)
    }

    /// Adds a process of the initial pid namespace, and the children that it will start, to the filter.
    pub fn follow(&self, process: Identity) -> io::Result<()> {
        self.loaded.follow(process)
    }

    /// Takes a process out of the filter again: it has ended, and another may get its number.
    pub fn unfollow(&self, pid: u32) -> io::Result<()> {
        self.loaded.remove_io("followed", &pid.to_ne_bytes())
    }

    /// Adds a cgroup and its subtree to the filter. Needs [`Filter::dynamic`].
    pub fn add_cgroup(&self, id: u64) -> io::Result<()> {
        self.need_dynamic()?;
        self.loaded
            .put_io("wanted_cgroups", &id.to_ne_bytes(), &1u32.to_ne_bytes())?;
        self.loaded.cgroups_changed()
    }

    /// Takes a cgroup out of the filter again. Needs [`Filter::dynamic`].
    pub fn remove_cgroup(&self, id: u64) -> io::Result<()> {
        self.need_dynamic()?;
        self.loaded.remove_io("wanted_cgroups", &id.to_ne_bytes())?;
        self.loaded.cgroups_changed()
    }

    fn need_dynamic(&self) -> io::Result<()> {
        if self.dynamic_cgroups {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the filter was not made to change",
        ))
    }
}

/// The reading end of the ring. It stays on its thread, as what it calls does.
pub struct Ring<'cb> {
    ring: RingBuffer<'cb>,
    _on_one_thread: PhantomData<*const ()>,
}

impl Ring<'_> {
    /// Waits at most `timeout` for a wakeup (they come when the ring is a quarter full), then reads all there is.
    /// Call it again and again with 5 to 10 ms.
    pub fn poll(&mut self, timeout: Duration) -> io::Result<()> {
        check(self.ring.poll_raw(timeout))?;
        self.consume()
    }

    /// Reads all there is without waiting.
    pub fn consume(&mut self) -> io::Result<()> {
        check(self.ring.consume_raw())
    }
}

/// libbpf gives a count, or a negative errno. A signal is no reason to stop reading.
fn check(result: i32) -> io::Result<()> {
    let error = io::Error::from_raw_os_error(result.wrapping_neg());
    if result >= 0 || error.kind() == io::ErrorKind::Interrupted {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_blamed_for_what_it_said_and_for_nothing_else() {
        let said = "libbpf: prog 'p': BPF program load failed: -EACCES\nlibbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n\
                    0: R1=ctx()\nR1 invalid mem access 'scalar'\nprocessed 7 insns (limit 1000000)\n\
                    -- END PROG LOAD LOG --\n";
        assert_eq!(
            explain("Permission denied (os error 13)", said),
            "the kernel's verifier refuses p: R1 invalid mem access 'scalar' (Permission denied (os error 13))"
        );
        // Not asked: there was no descriptor for the program.
        let said = "libbpf: prog 'p': BPF program load failed: -EMFILE\nlibbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n\
                    -- END PROG LOAD LOG --\n";
        let why = explain("Too many open files (os error 24)", said);
        assert_eq!(why, "Too many open files (os error 24)");
        let refusal = out_of_files(&why).unwrap().to_string();
        assert!(refusal.starts_with("too many open files in this process") && refusal.contains("ulimit -n"));
        assert_eq!(out_of_files("Permission denied (os error 13)"), None);
    }
}
