//! `mdf record`, from the first check to the last line. The steps in order; what they mean is one call down.

mod consumers;
mod listen;
mod options;
mod prepare;
mod summary;

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::attribution::client::Timing;
use super::attribution::options::Environment;
use super::attribution::{self, Attribution};
use super::cgroup::Tree;
use super::child::Child;
use super::counters::Counters;
use super::drain::{self, Drain, DrainConfig, Outlets};
use super::filter;
use super::lookup::Lookups;
use super::output::Rotation;
use super::printer::MakePrinter;
use super::signals::Asked;
use super::source::probe::Probe;
use super::status;
use super::watch::{Processes, Watch};
use super::{capabilities, privilege, sys, timens};
use crate::message::say;
use consumers::{finish, start_printer, start_sink};
use listen::{End, Inputs, record};
pub use options::Options;
use options::{check, prints, selectors, setting};
use prepare::{config, header, refresh_pids, start_snapshot};
pub use summary::Recorded;
use summary::{announce, summarize};

/// A process can end within milliseconds of its first event, and then nothing in /proc names it.
const LOOKUP_NICE: i32 = -20;
/// Losses are to be reported soon, on a busy host above all.
const WATCH_NICE: i32 = -20;
/// How long processes and cgroups are looked up at the end.
const LAST_LOOKUPS: Duration = Duration::from_secs(1);
/// How long names are looked for at the end.
const LAST_NAMES: Duration = Duration::from_secs(1);

/// Records. Everything that can be refused is refused before a file is made.
pub fn run(options: &Options, printer: Option<MakePrinter>) -> Result<Recorded> {
    let begun = Instant::now();
    check(options, printer.is_some())?;
    let tree = Tree::find(options.names.host_root.as_deref());
    let mut selection = filter::resolve(&options.filter, tree.as_ref())?;
    let selectors = selectors(options, tree.as_ref())?;
    let unbound = selection.clone();
    capabilities::check()?;
    timens::check()?;
    let asked = Asked::listen().context("cannot listen to signals")?;

    let mut child = match options.command.is_empty() {
        true => None,
        false => {
            let setting = setting(options)?;
            Some(Child::prepare(&options.command, &setting, tree.as_ref())?)
        }
    };
    selection.command = child.is_some();
    selection.cgroups.extend(child.as_ref().and_then(Child::cgroup));
    let config = config(options, &selection, child.as_ref(), !selectors.is_empty());
    let mut probe = {
        let _all = privilege::read_all();
        Probe::attach(&config).map_err(|refusal| anyhow!("{refusal}"))?
    };
    let own = std::process::id();
    let left_out: Vec<u32> = [Some(own), child.as_ref().map(Child::pid)]
        .into_iter()
        .flatten()
        .collect();
    selection.pids = refresh_pids(&selection.pids, &probe, &left_out)?;
    let is_gone = |pid: &&u32| !selection.pids.iter().any(|process| process.pid == **pid);
    for pid in options.filter.pids.iter().filter(is_gone) {
        let what = format!("--pid {pid}: the process ended before recording began");
        if selection.pids.is_empty() && child.is_none() {
            bail!("{what}");
        }
        say(&what);
    }

    let header = header(options, &selectors, probe.backend(), child.is_some());
    let counters = Arc::new(Counters::default());
    let mut outlets = Outlets::default();
    let file = match &options.output {
        Some(base) => {
            let (sender, thread) = start_sink(options, base, &header, &counters, &asked)?;
            outlets.file = Some(sender);
            Some(thread)
        }
        None => None,
    };
    let print = match printer.filter(|_| prints(options)) {
        Some(make) => {
            let (sender, thread) = start_printer(make, &header, &counters)?;
            outlets.print = Some(sender);
            Some(thread)
        }
        None => None,
    };
    let attached = begun.elapsed();

    let drain_config = DrainConfig {
        block_age: if prints(options) {
            drain::BLOCK_AGE_LIVE
        } else {
            drain::BLOCK_AGE
        },
        rotation: Rotation {
            size: options.rotate_size,
            time: options.rotate_time,
        },
        ring: options.ring,
        max_events: options.max_events,
        max_sockets: usize::try_from(config.max_sockets).unwrap_or(usize::MAX),
        proc: probe.own_tgid() == own,
        v1: probe.own_tgid() == own && super::cgroup::has_v1(),
    };
    let proc = drain_config.proc;
    if !proc {
        say("this process runs in a pid namespace of its own: processes that ran before are not named");
    }
    // With pods chosen and none known yet, an empty selection is nothing, not the whole host.
    let any = selectors.is_empty() || !selection.cgroups.is_empty();
    let snapshot = start_snapshot(drain_config.proc && any, selection, tree.clone(), left_out.clone())?;
    let names = attribution::Start {
        options: options.names.clone(),
        environment: Environment::find(),
        timing: Timing::default(),
        selectors,
        tree: tree.clone(),
        selection: drain_config.proc.then_some(unbound),
        left_out,
    };
    let notes = counters.clone();
    let names = Attribution::start(names, attribution::Report::new(move |text| notes.note(text)))?;
    let lookups = Lookups::start(tree, LOOKUP_NICE)?;
    let mut drain = Drain::new(drain_config, outlets, counters.clone(), Some(lookups), sys::boot_ns());
    drain.report_cgroups_to(names.learner());
    let drain = RefCell::new(drain);
    let command = child.as_ref().map(|child| Processes::new(child, probe.monitor(), proc));
    let inputs = Inputs {
        snapshot,
        names: &names,
        watch: Watch::start(probe.monitor(), command.clone(), WATCH_NICE)?,
        command,
    };
    announce(options, &probe, &header, attached);
    let status = status::start(
        counters.clone(),
        !(prints(options) && io::stdout().is_terminal()),
        options.output.is_some() && options.ring.is_none(),
    )?;
    if let Some(child) = &mut child {
        child
            .start()
            .context("the command was ended before it could be started")?;
    }

    let ended = record(options, &drain, &mut probe, child.as_mut(), inputs, &counters, &asked);
    let command = child.as_ref().and_then(Child::status);
    // The command's cgroup is removed before waiting for a disk that may be slow.
    drop(child);
    let mut drain = drain.into_inner();
    drain.await_answers(Instant::now() + LAST_LOOKUPS);
    for update in names.close(LAST_NAMES) {
        update.record(|record| drain.state(record));
    }
    let files = finish(options, &mut drain, file, print, &counters, &asked);
    // What the sink lost while it was being waited for is not in the file any more, but in the summary.
    drain.sink_losses(sys::boot_ns());
    status.stop();
    let (ended, files) = (ended?, files?);
    let outcome = Recorded {
        recorded: drain.recorded(),
        missing: drain.ledger().missing(),
        files,
        command,
        to_its_end: ended == End::Command,
    };
    summarize(options, &drain, &outcome, &counters, ended, begun.elapsed());
    Ok(outcome)
}
