//! What has to be looked at again and again while the ring is read: the kernel's loss counters (files of /proc and tracefs
//! among them), and whether anything of the command still runs (the cgroup tree, /proc). On a thread that may be slow: the
//! thread that reads the ring gives orders and takes reports, and waits for neither.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::child::{self, Child};
use super::identity::Identity;
use super::source::monitor::{KernelLosses, Monitor};
use super::{privilege, sys};

/// How often the kernel's loss counters are read.
const LOSSES: Duration = Duration::from_millis(500);

/// What the thread found.
#[derive(Debug)]
pub enum Report {
    /// The kernel's counters; `since` is the boot clock before they were read: what is lost from then on is in a later report.
    Losses { since: u64, losses: KernelLosses },
    /// The answer to [`Watch::look_at_command`].
    Command { has_ended: bool },
}

enum Order {
    LookAtCommand,
    AskCommandToEnd { except_own_group: bool },
}

/// The processes of the command: those in its cgroup, and those of its tree outside of it.
#[derive(Clone)]
pub struct Processes {
    monitor: Monitor,
    cgroup: Option<PathBuf>,
    pid: u32,
    /// /proc numbers processes as the monitor does: not in a pid namespace of one's own.
    proc: bool,
}

impl Processes {
    pub fn new(child: &Child, monitor: Monitor, proc: bool) -> Processes {
        Processes {
            monitor,
            cgroup: child.cgroup_folder().map(PathBuf::from),
            pid: child.pid(),
            proc,
        }
    }

    fn in_cgroup(&self) -> Vec<u32> {
        self.cgroup.as_deref().map(child::pids_below).unwrap_or_default()
    }

    /// Those of its tree, in whatever cgroup.
    fn tree(&self) -> Vec<Identity> {
        let mut tree = self.monitor.command_tree().unwrap_or_default();
        // An exit may have been missed. In a pid namespace of its own the recorder cannot check that.
        if self.proc {
            tree.retain(Identity::lives);
        }
        tree
    }

    /// Whether all have ended. Not meaningful for a command that has not begun to run.
    fn have_ended(&self) -> bool {
        self.in_cgroup().is_empty() && self.tree().is_empty()
    }

    /// Asks all of them to end, once each, except for those that know already; what runs in no cgroup of its own is left to
    /// [`Child::ask_to_end`].
    pub fn ask_to_end(&self, knows: impl Fn(u32) -> bool) {
        let pids = match self.cgroup {
            Some(_) => self.in_cgroup(),
            None => Vec::new(),
        };
        for pid in pids.iter().filter(|pid| !knows(**pid)) {
            let _ = sys::signal(*pid, libc::SIGTERM);
        }
        let is_asked = |pid: u32| pids.contains(&pid) || (self.cgroup.is_none() && pid == self.pid);
        for process in self.tree() {
            if !is_asked(process.pid) && !knows(process.pid) {
                let _ = process.signal(libc::SIGTERM);
            }
        }
    }
}

/// The end that gives orders. Dropping it ends the thread.
pub struct Watch {
    orders: Sender<Order>,
    reports: Receiver<Report>,
}

impl Watch {
    /// Starts the thread, with this nice value.
    pub fn start(monitor: Monitor, command: Option<Processes>, nice: i32) -> io::Result<Watch> {
        let (orders, receiver) = mpsc::channel();
        let (sender, reports) = mpsc::channel();
        std::thread::Builder::new().name("watch".into()).spawn(move || {
            sys::set_priority(nice);
            // For tracefs, where the losses of kretprobes are read.
            let _all = privilege::read_all();
            run(&monitor, command.as_ref(), &receiver, &sender);
        })?;
        Ok(Watch { orders, reports })
    }

    /// What was found since the last call.
    pub fn reports(&self) -> impl Iterator<Item = Report> {
        self.reports.try_iter()
    }

    /// Orders a check whether the command and all it started have ended: the answer is never older than this
    /// order. Give no other before it has come.
    pub fn look_at_command(&self) {
        let _ = self.orders.send(Order::LookAtCommand);
    }

    /// Has the command and all it started asked to end, maybe except for those in the recorder's own process group.
    pub fn ask_command_to_end(&self, except_own_group: bool) {
        let _ = self.orders.send(Order::AskCommandToEnd { except_own_group });
    }
}

fn run(monitor: &Monitor, command: Option<&Processes>, orders: &Receiver<Order>, reports: &Sender<Report>) {
    let mut next = Instant::now() + LOSSES;
    loop {
        let report = match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Order::LookAtCommand) => Some(Report::Command {
                has_ended: command.is_none_or(Processes::have_ended),
            }),
            Ok(Order::AskCommandToEnd { except_own_group }) => {
                if let Some(command) = command {
                    command.ask_to_end(|pid| except_own_group && sys::is_in_own_group(pid));
                }
                None
            }
            Err(RecvTimeoutError::Timeout) => {
                next = Instant::now() + LOSSES;
                let since = sys::boot_ns();
                // A reading that fails is made up for by the next one: the counters only grow.
                monitor.losses().ok().map(|losses| Report::Losses { since, losses })
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if report.is_some_and(|report| reports.send(report).is_err()) {
            return;
        }
    }
}
