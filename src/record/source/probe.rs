//! The kernel side as the recorder sees it: choose a backend, attach, read the ring, count what was lost.
//!
//! Knows nothing of files, queues or protocols. What comes out of the ring is bytes; [`super::decode`] reads them.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use libbpf_rs::RingBuffer;

use super::config::{Backend, Config};
use super::monitor::{KernelLosses, Monitor};
use super::object::{self, Loaded};
use super::plan::{Kernel, Plan};
use super::tcp::wire;
use super::{SOURCES, Tested, plan};
use crate::format::record::Socket;
use crate::record::identity::Identity;

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

/// Loads, attaches and tests one backend: with why the self-test could not be made, if so. Otherwise returns why it cannot
/// be used.
fn try_backend(plan: Plan, config: &Config) -> Result<(Loaded, Option<String>), String> {
    let mut loaded =
        Loaded::new(plan, config).map_err(|error| explain(&format!("{error:#}"), &object::take_libbpf_log()))?;
    let mut untested = None;
    for test in SOURCES.iter().filter_map(|source| source.test) {
        match test(&loaded) {
            Tested::Right => {}
            Tested::NotMade(why) => untested = Some(why),
            Tested::Wrong(why) => return Err(format!("its self-test failed: {why}")),
        }
    }
    loaded
        .go()
        .map_err(|error| format!("it cannot be switched on: {error}"))?;
    Ok((loaded, untested))
}

/// Why the kernel refused, in a line: its own word for it, and where it comes from libbpf, the program.
fn explain(error: &str, libbpf_log: &str) -> String {
    let program = libbpf_log
        .split("prog '")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    // The verifier's reason is the last line before its statistics. Its log is empty where it was not asked.
    let log = libbpf_log
        .split_once("BEGIN PROG LOAD LOG --\n")
        .map_or("", |(_, log)| log);
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
            match plan.and_then(|plan| try_backend(plan, config)) {
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
            None => "no backend works on this kernel".to_string(),
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
    /// gets one ring record, for [`super::decode`].
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

    /// Gives the kernel side a socket that existed before, so that its events carry `socket.id` and it is not
    /// announced again. The id comes from [`wire::snapshot_id`].
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
        let libbpf_log = "libbpf: prog 'p': BPF program load failed: -EACCES\nlibbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n\
                    0: R1=ctx()\nR1 invalid mem access 'scalar'\nprocessed 7 insns (limit 1000000)\n\
                    -- END PROG LOAD LOG --\n";
        assert_eq!(
            explain("Permission denied (os error 13)", libbpf_log),
            "the kernel's verifier refuses p: R1 invalid mem access 'scalar' (Permission denied (os error 13))"
        );
        // Not asked: there was no descriptor for the program.
        let libbpf_log = "libbpf: prog 'p': BPF program load failed: -EMFILE\nlibbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n\
                    -- END PROG LOAD LOG --\n";
        let why = explain("Too many open files (os error 24)", libbpf_log);
        assert_eq!(why, "Too many open files (os error 24)");
        let refusal = out_of_files(&why).unwrap().to_string();
        assert!(refusal.starts_with("too many open files in this process") && refusal.contains("ulimit -n"));
        assert_eq!(out_of_files("Permission denied (os error 13)"), None);
    }
}
