//! The thread that reads the ring, from the first event to the last, and what ends it.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::options::{Options, is_unread};
use crate::record::attribution::{Attribution, Update};
use crate::record::child::{Child, Fate};
use crate::record::counters::Counters;
use crate::record::drain::Drain;
use crate::record::queue::Refused;
use crate::record::signals::Asked;
use crate::record::snapshot::Snapshot;
use crate::record::source::probe::Probe;
use crate::record::watch::{Processes, Report, Watch};
use crate::record::{privilege, sys};

/// How long the ring is waited for; short, because wakeups come only when it fills. Longer when no events come.
const POLL: Duration = Duration::from_millis(8);
const POLL_IDLE: Duration = Duration::from_millis(32);
/// The ring is emptied even when the host has more to do than it can: this is little work, and what it misses is lost.
const DRAIN_NICE: i32 = -20;
/// After the command's tree has ended, its connections are still closing.
const LINGER: Duration = Duration::from_millis(100);
/// At the end, a snapshot that is still being taken is waited for this long.
const SNAPSHOT: Duration = Duration::from_secs(1);
/// How long a command that was asked to end is recorded on, where nobody is there who could end it by another signal.
const COMMAND_END: Duration = Duration::from_secs(5);
/// After this time of waiting for the command, a note says how not to wait.
const COMMAND_SLOW: Duration = Duration::from_secs(1);
/// What is taken at a time of what others found out, before the ring is read again.
const ANSWERS: usize = 256;

/// Why recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Signal,
    Duration,
    Events,
    Size,
    Command,
    /// Nobody reads the live lines any more, and there is no file.
    Unread,
}

/// What comes beside the ring.
pub struct Inputs<'a> {
    /// What was there before.
    pub snapshot: mpsc::Receiver<Snapshot>,
    pub names: &'a Attribution,
    pub watch: Watch,
    /// What the watch looks at, for the end of a recording.
    pub command: Option<Processes>,
}

fn take_in(drain: &RefCell<Drain>, probe: &Probe) {
    for socket in drain.borrow_mut().take_in(ANSWERS) {
        // Without it, the connection is announced again at its first traffic.
        let _ = probe.seed_socket(&socket);
    }
}

/// Stores new names, and records the cgroups of newly chosen pods.
fn take_names(drain: &RefCell<Drain>, probe: &Probe, names: &Attribution, counters: &Counters) {
    let mut followed = Vec::new();
    for update in names.updates().take(ANSWERS) {
        update.record(|record| drain.borrow_mut().state(record));
        match update {
            Update::Follow(id) => match probe.add_cgroup(id) {
                Ok(()) => followed.push(id),
                Err(error) => counters.note(format!("a chosen container is not recorded (cgroup {id}): {error}")),
            },
            // It may have gone by itself.
            Update::Unfollow(id) => drop(probe.remove_cgroup(id)),
            Update::Snapshot(taken) => drain.borrow_mut().snapshot(*taken),
            _ => {}
        }
    }
    if !followed.is_empty() {
        names.followed(followed);
    }
}

/// The recording ends, but not before the command has.
#[derive(Debug)]
struct Stop {
    end: End,
    since: Instant,
    /// When the waiting ends.
    at: Option<Instant>,
    reminded: bool,
}

impl Stop {
    fn for_command(end: End) -> Stop {
        Stop {
            end,
            since: Instant::now(),
            at: None,
            reminded: false,
        }
    }

    /// The command has ended; what its connections still do comes within a moment.
    fn command_ended(&mut self) {
        let linger = Instant::now() + LINGER;
        self.at = Some(self.at.map_or(linger, |at| at.min(linger)));
    }

    /// Who pressed Ctrl-C waits for as long as the command wants, and can press it again. Nobody else would.
    fn is_over(&mut self, asked: &Asked, counters: &Counters) -> bool {
        let may_take_its_time = self.end == End::Signal && !asked.soon();
        if !may_take_its_time && self.at.is_none() {
            self.at = Some(self.since + COMMAND_END);
        }
        if may_take_its_time && self.at.is_none() && !self.reminded && self.since.elapsed() > COMMAND_SLOW {
            self.reminded = true;
            let how = "waiting for the command to end; another signal (Ctrl-C) ends the recording now";
            counters.note(how.to_owned());
        }
        asked.ends() > 1 || self.at.is_some_and(|at| Instant::now() >= at)
    }
}

/// Reads the ring until something ends the recording, and then what is left in it.
pub fn record(
    options: &Options,
    drain: &RefCell<Drain>,
    probe: &mut Probe,
    mut child: Option<&mut Child>,
    inputs: Inputs<'_>,
    counters: &Counters,
    asked: &Asked,
) -> Result<End> {
    // All other threads and the command have been started: they keep their own nice values, and their own rights.
    sys::set_priority(DRAIN_NICE);
    let mut ring = probe
        .ring(|bytes| drain.borrow_mut().ring_record(bytes))
        .context("cannot read the ring buffer")?;
    let begun = Instant::now();
    let (mut wait, mut recorded) = (POLL, 0);
    let mut snapshot = Some(inputs.snapshot);
    // Set when the command has ended or was asked to end.
    let mut stop: Option<Stop> = None;
    let mut is_looking = false;
    let end = loop {
        ring.poll(wait).context("cannot read the ring buffer")?;
        let before = std::mem::replace(&mut recorded, drain.borrow_mut().recorded().events);
        if let Some(taken) = snapshot.as_ref().and_then(|snapshot| snapshot.try_recv().ok()) {
            snapshot = None;
            drain.borrow_mut().snapshot(taken);
        }
        take_in(drain, probe);
        take_names(drain, probe, inputs.names, counters);
        drain.borrow_mut().take_answers(ANSWERS);
        wait = match recorded == before {
            _ if drain.borrow().is_taking_in() => Duration::ZERO,
            true => (wait * 2).clamp(POLL, POLL_IDLE),
            false => POLL,
        };
        for report in inputs.watch.reports() {
            match report {
                Report::Losses { since, losses } => drain.borrow_mut().kernel_losses(&losses, since),
                Report::Command { has_ended } => {
                    is_looking = false;
                    if has_ended {
                        stop.get_or_insert(Stop::for_command(End::Command)).command_ended();
                    }
                }
            }
        }
        drain.borrow_mut().tick(sys::boot_ns());
        if asked.to_dump()
            && options.ring.is_some()
            && drain.borrow_mut().dump_ring(sys::boot_ns()) == Err(Refused::Full)
        {
            counters.note("the memory ring is not written: the disk has not caught up with earlier work".to_owned());
        }

        if let Some(child) = &mut child {
            match child.look() {
                Fate::Running => {}
                Fate::Failed(error) => {
                    let program = options.command.first().map(|word| word.to_string_lossy().into_owned());
                    return Err(error).with_context(|| format!("cannot run {}", program.unwrap_or_default()));
                }
                // The rest of its tree can go on for long.
                Fate::Ended => {
                    if !std::mem::replace(&mut is_looking, true) {
                        inputs.watch.look_at_command();
                    }
                }
            }
        }
        if let Some(waiting) = &mut stop {
            if waiting.is_over(asked, counters) {
                break waiting.end;
            }
            continue;
        }
        let reason = if asked.to_end() {
            End::Signal
        } else if options.duration.is_some_and(|limit| begun.elapsed() >= limit) {
            End::Duration
        } else if drain.borrow_mut().limit_reached() {
            End::Events
        } else if counters.size_reached.is_raised() {
            End::Size
        } else if counters.print_closed.is_raised() && is_unread(options) {
            End::Unread
        } else {
            continue;
        };
        match &child {
            // It is recorded to its end.
            Some(child) => {
                // Not a second time: programs that end in order at the first signal would be cut off by another.
                let by_terminal = reason == End::Signal && asked.by_terminal();
                child.ask_to_end(|pid| by_terminal && sys::is_in_own_group(pid));
                inputs.watch.ask_command_to_end(by_terminal);
                stop = Some(Stop::for_command(reason));
            }
            None => break reason,
        }
    };
    let asked_again = asked.ends() > 1;
    asked.acknowledge();
    // The signal may have come to both, and the command have been the faster.
    let end = if asked.to_end() { End::Signal } else { end };
    probe.stop_new_events();
    // From here on the ring does not fill any more, and this thread may read files.
    if asked_again && let (Some(child), Some(command)) = (&child, &inputs.command) {
        child.ask_to_end(|_| false);
        command.ask_to_end(|_| false);
    }
    // A recording can be shorter than the look around at its start.
    if let Some(Ok(taken)) = snapshot.map(|snapshot| snapshot.recv_timeout(SNAPSHOT)) {
        drain.borrow_mut().snapshot(taken);
    }
    while drain.borrow().is_taking_in() {
        drain.borrow_mut().take_in(ANSWERS);
    }
    ring.consume().context("cannot read the ring buffer")?;
    read_losses(drain, probe);
    Ok(end)
}

/// The last reading.
fn read_losses(drain: &RefCell<Drain>, probe: &Probe) {
    // For tracefs, where the losses of kretprobes are read.
    let _all = privilege::read_all();
    if let Ok(losses) = probe.losses() {
        drain.borrow_mut().kernel_losses(&losses, sys::boot_ns());
    }
}
