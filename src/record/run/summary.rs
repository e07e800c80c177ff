//! What the user sees when a recording begins, and when it has ended.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::listen::End;
use super::options::Options;
use crate::format::header::Header;
use crate::format::record::LossReason;
use crate::human;
use crate::message::say;
use crate::outcome::Outcome;
use crate::record::counters::Counters;
use crate::record::drain::Drain;
use crate::record::loss::Count;
use crate::record::source::probe::Probe;
use crate::record::{child, messages, output};

/// How it went.
#[derive(Debug)]
pub struct Recorded {
    /// Events recorded, and the bytes that went over sockets in them.
    pub recorded: Count,
    /// Events that are missing, all reasons.
    pub missing: u64,
    /// The files, oldest first.
    pub files: Vec<PathBuf>,
    /// How the command ended.
    pub command: Option<ExitStatus>,
    /// It ended by itself, and the recording with it.
    pub to_its_end: bool,
}

impl Recorded {
    /// What becomes the exit code. Losses come first: a reader of the recording must not miss
    /// them. A command that this process asked to end ended as it was meant to.
    pub fn outcome(&self) -> Outcome {
        match self.command {
            _ if self.missing > 0 => Outcome::Losses,
            Some(status) if self.to_its_end && !status.success() => Outcome::Command(child::exit_code(status)),
            _ => Outcome::Clean,
        }
    }
}

pub fn announce(options: &Options, probe: &Probe, header: &Header, took: Duration) {
    if let Some(why) = probe.inexact() {
        say(&format!("backend {} is not exact here: {why}", probe.backend()));
    }
    let what = match header.filters.is_empty() {
        true => "the whole host (no filter was given)".to_owned(),
        false => header.filters.clone(),
    };
    let to = match (&options.output, options.ring) {
        (Some(path), Some(age)) => {
            format!(
                "memory, the last {}, written to {} on SIGUSR1 and at the end",
                human::elapsed(age),
                path.display()
            )
        }
        (Some(path), None) => output::name(path),
        (None, _) => "standard output".to_owned(),
    };
    say(&format!(
        "recording {what} to {to}; backend {}, attached in {} ms",
        probe.backend(),
        took.as_millis()
    ));
}

pub fn summarize(
    options: &Options,
    drain: &Drain,
    outcome: &Recorded,
    counters: &Counters,
    ended: End,
    took: Duration,
) {
    let why = match ended {
        End::Signal => "asked to end",
        End::Duration => "the duration is over",
        End::Events => "the limit on events is reached",
        End::Size => "the limit on size is reached",
        End::Command => "the command has ended",
        End::Unread => "standard output was closed",
    };
    let recorded = outcome.recorded;
    let lost_in_queue = drain.ledger().totals().iter().filter(|(reason, _)| {
        matches!(
            reason,
            LossReason::QueueFull | LossReason::DiskError | LossReason::Overwritten | LossReason::Limit
        )
    });
    let lost: u64 = lost_in_queue.map(|(_, count)| count.events).sum();
    let mut text = format!(
        "{why}: {} events with {} recorded in {}",
        human::count(recorded.events),
        human::bytes(recorded.bytes),
        human::elapsed(took)
    );
    if options.output.is_some() {
        let size = human::bytes(counters.written.get());
        let kept = human::count(recorded.events.saturating_sub(lost));
        let last = outcome.files.last().map(|path| output::name(path)).unwrap_or_default();
        text.push_str(&match outcome.files.len() {
            0 => "; no file was written".to_owned(),
            1 => format!("; {kept} kept in {last} ({size})"),
            files => format!("; {kept} kept, {size} written, {files} files up to {last}"),
        });
    }
    say(&text);
    for line in messages::losses(drain.ledger())
        .iter()
        .chain(&messages::cuts(&drain.cuts(), options.snaplen))
    {
        say(line);
    }
    if let Some(line) = messages::unresolved(drain.unresolved()) {
        say(&line);
    }
    if !drain.not_printed().is_zero() {
        let events = human::count(drain.not_printed().events);
        say(&format!(
            "{events} events are in the file but were not printed: standard output was slower"
        ));
    }
    match outcome.command {
        Some(status) => say(&format!("the command {}", child::status_text(status))),
        None if options.command.is_empty() => {}
        None => say("the command still runs, and is not recorded any more"),
    }
}
