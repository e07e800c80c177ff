//! `mdf record`, from the first check to the last line. The steps in order; what they mean is one call down.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::attribution::client::Timing;
use super::attribution::options::Environment;
use super::attribution::{self, Attribution, Report, Tell};
use super::cgroup::Tree;
use super::child::{self, Child, Fate};
use super::drain::{self, Drain, Outlets};
use super::filter::{self, Selection, Words};
use super::loss::Count;
use super::output::{self, Rotation};
use super::printer::{self, MakePrinter};
use super::probe::{Backend, Config, Filter, MAX_SNAPLEN, Probe};
use super::queue::{self, Batch, Refused, Sender};
use super::shared::Shared;
use super::signals::Asked;
use super::sink::{self, Sink};
use super::snapshot::{self, Snapshot};
use super::status;
use super::{permit, sys, words};
use crate::format::header::Header;
use crate::format::record::LossReason;
use crate::message::say;
use crate::outcome::Usage;
use crate::pods::{Selectors, select};

/// How long the ring is waited for; short, because wakeups come only when it fills. Longer when nothing is heard.
const POLL: Duration = Duration::from_millis(8);
const POLL_IDLE: Duration = Duration::from_millis(32);
/// The ring is emptied even when the host has more to do than it can: this is little work, and what it misses is lost.
const DRAIN_NICE: i32 = -20;
/// Compressing is more work; it is preferred to ordinary work, but does not push it aside.
const SINK_NICE: i32 = -10;
/// How often the kernel's loss counters are read.
const LOSSES: Duration = Duration::from_millis(500);
/// Batches between the drain and each consumer: at most about so many MiB.
const QUEUE: usize = 24;
/// After the command's tree has ended, its connections are still closing.
const LINGER: Duration = Duration::from_millis(100);
/// At the end, a snapshot that is still being taken is waited for so long.
const SNAPSHOT: Duration = Duration::from_secs(1);
/// How long a command that was asked to end may take.
const COMMAND_END: Duration = Duration::from_secs(2);
/// How long names are looked for at the end.
const LAST_NAMES: Duration = Duration::from_secs(1);
/// A consumer that makes no progress for this long at the end is given up.
const FILE_STALL: Duration = Duration::from_secs(30);
const PRINT_STALL: Duration = Duration::from_secs(1);

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The capture file; nothing: live output only.
    pub output: Option<PathBuf>,
    /// Print live lines although there is a file.
    pub print: bool,
    /// Replace existing files.
    pub force: bool,
    pub filter: Words,
    /// Which containers and pods to record.
    pub pods: select::Words,
    /// Where the names of containers and pods come from.
    pub names: attribution::Options,
    /// A command to run and record; empty: none.
    pub command: Vec<OsString>,
    pub duration: Option<Duration>,
    /// Bytes of all files together.
    pub max_size: Option<u64>,
    pub max_events: Option<u64>,
    /// Payload bytes kept of each data event.
    pub snaplen: u32,
    /// Bytes of the kernel's ring buffer.
    pub buffer_size: usize,
    pub backend: Option<Backend>,
    pub rotate_size: Option<u64>,
    pub rotate_time: Option<Duration>,
    /// Parts kept; older ones are removed.
    pub keep: Option<u32>,
    /// Keep only this much, in memory, and write it out on SIGUSR1 and at the end.
    pub ring: Option<Duration>,
    /// Bytes of memory for `ring`, compressed.
    pub ring_size: usize,
    /// For the file's header.
    pub command_line: String,
}

impl Default for Options {
    fn default() -> Self {
        let config = Config::default();
        Options {
            output: None,
            print: false,
            force: false,
            filter: Words::default(),
            pods: select::Words::default(),
            names: attribution::Options::default(),
            command: Vec::new(),
            duration: None,
            max_size: None,
            max_events: None,
            snaplen: config.snaplen,
            buffer_size: config.buffer_size,
            backend: None,
            rotate_size: None,
            rotate_time: None,
            keep: None,
            ring: None,
            ring_size: 256 << 20,
            command_line: String::new(),
        }
    }
}

/// How it went.
#[derive(Debug)]
pub struct Recorded {
    /// Events heard, and the bytes that went over sockets in them.
    pub heard: Count,
    /// Events that are missing, all reasons.
    pub missing: u64,
    /// The files, oldest first.
    pub files: Vec<PathBuf>,
    /// How the command ended.
    pub command: Option<ExitStatus>,
}

/// Why recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Signal,
    Duration,
    Events,
    Size,
    Command,
    /// Nobody reads the live lines any more, and there is no file.
    Unread,
}

/// Records. Everything that can be refused is refused before a file is made.
pub fn run(options: &Options, printer: Option<MakePrinter>) -> Result<Recorded> {
    let begun = Instant::now();
    check(options, printer.is_some())?;
    let tree = Tree::find(options.names.host_root.as_deref());
    let mut selection = filter::resolve(&options.filter, tree.as_ref())?;
    let selectors = selectors(options, tree.as_ref())?;
    let unbound = selection.clone();
    permit::check()?;
    let asked = Asked::listen().context("cannot listen to signals")?;

    let mut child = match options.command.is_empty() {
        true => None,
        false => Some(Child::prepare(&options.command, tree.as_ref())?),
    };
    if let Some(child) = &child {
        match child.cgroup() {
            Some(id) => selection.cgroups.push(id),
            None => selection.pids.push(child.pid()),
        }
    }
    if !selectors.is_empty() && !selection.pids.is_empty() {
        bail!("a command can be recorded together with pods only where it can have a cgroup of its own");
    }
    let config = config(options, &selection, !selectors.is_empty());
    let mut probe = Probe::attach(&config).map_err(|refusal| anyhow!("{refusal}"))?;

    let header = header(options, &selectors, probe.backend(), child.is_some());
    let shared = Arc::new(Shared::default());
    let mut outlets = Outlets::default();
    let file = match &options.output {
        Some(base) => {
            let (sender, thread) = start_sink(options, base, &header, &shared)?;
            outlets.file = Some(sender);
            Some(thread)
        }
        None => None,
    };
    let print = match printer.filter(|_| prints(options)) {
        Some(make) => {
            let (sender, thread) = start_printer(make, &header, &shared)?;
            outlets.print = Some(sender);
            Some(thread)
        }
        None => None,
    };
    announce(options, &probe, &header, begun.elapsed());

    let own = std::process::id();
    let plan = drain::Plan {
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
    if !plan.proc {
        say("this process runs in a pid namespace of its own: processes that ran before are not named");
    }
    let left_out: Vec<u32> = [Some(own), child.as_ref().map(Child::pid)]
        .into_iter()
        .flatten()
        .collect();
    // With pods chosen and none known yet, an empty selection is nothing, not the whole host.
    let any = selectors.is_empty() || !selection.cgroups.is_empty();
    let snapshot = start_snapshot(plan.proc && any, selection, tree.clone(), left_out.clone())?;
    let names = attribution::Start {
        options: options.names.clone(),
        environment: Environment::find(),
        timing: Timing::default(),
        selectors,
        tree: tree.clone(),
        selection: plan.proc.then_some(unbound),
        left_out,
    };
    let notes = shared.clone();
    let names = Attribution::start(names, Report::new(move |text| notes.note(text)))?;
    let mut drain = Drain::new(plan, outlets, shared.clone(), tree, sys::boot_ns());
    drain.tell_cgroups_to(names.learner());
    let drain = Mutex::new(drain);
    let status = status::start(
        shared.clone(),
        !(prints(options) && io::stdout().is_terminal()),
        options.output.is_some() && options.ring.is_none(),
    )?;
    if let Some(child) = &mut child {
        child.start().context("cannot start the command")?;
    }

    let sources = Sources {
        snapshot,
        names: &names,
    };
    let ended = record(options, &drain, &mut probe, child.as_mut(), sources, &shared, &asked);
    let command = child.as_ref().and_then(Child::status);
    // The command's cgroup is removed before waiting for a disk that may be slow.
    drop(child);
    let mut drain = drain.into_inner().unwrap_or_else(PoisonError::into_inner);
    for tell in names.close(LAST_NAMES) {
        tell.record(|record| drain.state(record));
    }
    let files = finish(options, &mut drain, file, print, &shared, &asked);
    // What the sink lost while it was being waited for is not in the file any more, but in the summary.
    drain.sink_losses(sys::boot_ns());
    status.stop();
    let (ended, files) = (ended?, files?);
    let outcome = Recorded {
        heard: drain.heard(),
        missing: drain.ledger().missing(),
        files,
        command,
    };
    summarize(options, &drain, &outcome, &shared, ended, begun.elapsed());
    Ok(outcome)
}

/// Refuses what makes no sense, and output that cannot be made.
fn check(options: &Options, can_print: bool) -> Result<()> {
    if prints(options) && !can_print {
        bail!("live output is not built into this program; give a file with -o");
    }
    if options.snaplen > MAX_SNAPLEN {
        return usage(format!(
            "--snaplen {} is more than {MAX_SNAPLEN}, the most that is kept of one event",
            options.snaplen
        ));
    }
    let rotates = options.rotate_size.is_some() || options.rotate_time.is_some();
    if options.keep.is_some() && !rotates {
        return usage("--keep needs --rotate-size or --rotate-time");
    }
    if options.keep == Some(0) {
        return usage("--keep 0 would keep nothing");
    }
    if options.ring.is_some() && rotates {
        return usage("--ring and rotation exclude each other");
    }
    match &options.output {
        Some(base) => output::check(base, rotates || options.ring.is_some(), options.force),
        None if rotates || options.ring.is_some() => usage("rotation and --ring need a file: give -o"),
        None => Ok(()),
    }
}

fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Usage(text.into()).into())
}

fn prints(options: &Options) -> bool {
    options.print || options.output.is_none()
}

/// Which containers and pods are to be recorded; refuses what cannot be combined with that.
fn selectors(options: &Options, tree: Option<&Tree>) -> Result<Selectors> {
    let selectors = Selectors::new(options.pods.clone()).map_err(Usage)?;
    if selectors.is_empty() {
        return Ok(selectors);
    }
    if !options.filter.pids.is_empty() || !options.filter.cgroups.is_empty() {
        return usage("--container, --pod, --namespace and --label choose cgroups; leave --pid and --cgroup out");
    }
    if options.names.off && !(options.pods.pods.is_empty() && options.pods.labels.is_empty()) {
        return usage("--no-names leaves nobody to ask for pods");
    }
    if tree.is_none() {
        bail!("containers and pods are chosen by their cgroups, and /proc/mounts has none of type cgroup2");
    }
    Ok(selectors)
}

fn config(options: &Options, selection: &Selection, dynamic: bool) -> Config {
    Config {
        filter: Filter {
            pids: selection.pids.clone(),
            comm: selection.comm.clone(),
            cgroups: selection.cgroups.clone(),
            ports: selection.ports.clone(),
            netns: selection.netns,
            dynamic,
        },
        snaplen: options.snaplen,
        buffer_size: options.buffer_size,
        backend: options.backend,
        ..Config::default()
    }
}

fn header(options: &Options, selectors: &Selectors, backend: Backend, command: bool) -> Header {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    Header {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: options.command_line.clone(),
        hostname: read("/proc/sys/kernel/hostname"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        kernel: read("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_owned(),
        backend: backend.name().to_owned(),
        filters: [
            selectors.describe().join(", "),
            filter::describe(&options.filter, command),
        ]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", "),
        snaplen: options.snaplen,
        cpus: std::thread::available_parallelism().map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        clock: sys::clocks(),
        recording: random(),
        part: 0,
    }
}

/// A number that no other recording has.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system's random numbers.
    std::hash::RandomState::new().build_hasher().finish()
}

/// A consumer thread, its result, and how far it has come.
struct Consuming<T> {
    done: mpsc::Receiver<T>,
    thread: JoinHandle<()>,
}

fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Consuming<T>> {
    let (sender, done) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        let _ = sender.send(work());
    })?;
    Ok(Consuming { done, thread })
}

fn start_sink(
    options: &Options,
    base: &Path,
    header: &Header,
    shared: &Arc<Shared>,
) -> Result<(Sender, Consuming<Vec<PathBuf>>)> {
    let plan = sink::Plan {
        base: base.to_owned(),
        header: header.clone(),
        force: options.force,
        parts: options.rotate_size.is_some() || options.rotate_time.is_some() || options.ring.is_some(),
        keep: options.keep,
        max_size: options.max_size,
        ring: options.ring.map(|age| (age, options.ring_size)),
    };
    let sink = Sink::new(plan, shared.clone()).with_context(|| format!("cannot write {}", base.display()))?;
    let (sender, consumer) = queue::bounded(QUEUE);
    let thread = start("sink", move || {
        sys::hurry(SINK_NICE);
        sink.run(&consumer)
    })?;
    Ok((sender, thread))
}

fn start_printer(make: MakePrinter, header: &Header, shared: &Arc<Shared>) -> Result<(Sender, Consuming<()>)> {
    let printer = make(header);
    let (sender, consumer) = queue::bounded(QUEUE);
    let shared = shared.clone();
    let thread = start("printer", move || {
        printer::run(printer, &consumer, &mut io::BufWriter::new(io::stdout()), &shared)
    })?;
    Ok((sender, thread))
}

fn start_snapshot(
    proc: bool,
    selection: Selection,
    tree: Option<Tree>,
    left_out: Vec<u32>,
) -> Result<mpsc::Receiver<Snapshot>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        let snapshot = match proc {
            true => snapshot::take(&selection, tree.as_ref(), &left_out),
            false => Snapshot::default(),
        };
        let _ = sender.send(snapshot);
    })?;
    Ok(receiver)
}

fn announce(options: &Options, probe: &Probe, header: &Header, took: Duration) {
    for (backend, why) in probe.refused() {
        // What the verifier said fills pages; `mdf doctor` tells it.
        say(&format!(
            "backend {backend} is not used: {}",
            why.lines().next().unwrap_or_default()
        ));
    }
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
                words::duration(age),
                path.display()
            )
        }
        (Some(path), None) => path.display().to_string(),
        (None, _) => "standard output".to_owned(),
    };
    say(&format!(
        "recording {what} to {to}; backend {}, attached in {} ms",
        probe.backend(),
        took.as_millis()
    ));
}

fn lock<'a>(drain: &'a Mutex<Drain>) -> MutexGuard<'a, Drain> {
    drain.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes beside the ring.
struct Sources<'a> {
    /// What was there before.
    snapshot: mpsc::Receiver<Snapshot>,
    names: &'a Attribution,
}

fn take_snapshot(drain: &Mutex<Drain>, probe: &Probe, taken: Snapshot) {
    for socket in lock(drain).snapshot(taken) {
        // Without it, the connection is announced again at its first traffic.
        let _ = probe.seed_socket(&socket);
    }
}

/// Stores new names, and records the cgroups of newly chosen pods.
fn take_names(drain: &Mutex<Drain>, probe: &Probe, names: &Attribution) {
    let mut followed = Vec::new();
    for tell in names.tells() {
        tell.record(|record| lock(drain).state(record));
        match tell {
            Tell::Follow(id) if probe.add_cgroup(id).is_ok() => followed.push(id),
            // It may have gone by itself.
            Tell::Unfollow(id) => drop(probe.remove_cgroup(id)),
            Tell::Snapshot(taken) => take_snapshot(drain, probe, *taken),
            _ => {}
        }
    }
    if !followed.is_empty() {
        names.followed(followed);
    }
}

/// Reads the ring until something ends the recording, and then what is left in it.
fn record(
    options: &Options,
    drain: &Mutex<Drain>,
    probe: &mut Probe,
    mut child: Option<&mut Child>,
    sources: Sources<'_>,
    shared: &Shared,
    asked: &Asked,
) -> Result<End> {
    // All other threads and the command have been started: they keep their own nice values.
    sys::hurry(DRAIN_NICE);
    let mut ring = probe
        .ring(|bytes| lock(drain).ring_record(bytes))
        .context("cannot read the ring buffer")?;
    let begun = Instant::now();
    let mut losses_read = Instant::now();
    let (mut wait, mut heard) = (POLL, 0);
    let mut snapshot = Some(sources.snapshot);
    // When to stop, and why; set when the command has ended or was asked to end.
    let mut stop: Option<(Instant, End)> = None;
    let end = loop {
        ring.poll(wait).context("cannot read the ring buffer")?;
        let before = std::mem::replace(&mut heard, lock(drain).heard().events);
        wait = match heard == before {
            true => (wait * 2).min(POLL_IDLE),
            false => POLL,
        };
        if let Some(taken) = snapshot.as_ref().and_then(|snapshot| snapshot.try_recv().ok()) {
            snapshot = None;
            take_snapshot(drain, probe, taken);
        }
        take_names(drain, probe, sources.names);
        if losses_read.elapsed() >= LOSSES {
            losses_read = Instant::now();
            read_losses(drain, probe);
        }
        lock(drain).tick(sys::boot_ns());
        if asked.to_dump() && options.ring.is_some() && lock(drain).dump_ring(sys::boot_ns()) == Err(Refused::Full) {
            shared.note("the memory ring is not written: the disk has not caught up with earlier work".to_owned());
        }

        if let Some(child) = &mut child {
            match child.look() {
                Fate::Running => {}
                Fate::Failed(error) => {
                    let program = options.command.first().map(|word| word.to_string_lossy().into_owned());
                    return Err(error).with_context(|| format!("cannot run {}", program.unwrap_or_default()));
                }
                Fate::Ended(_) => {
                    let wanted = stop.map_or(End::Command, |(_, end)| end);
                    let linger = Instant::now() + LINGER;
                    if stop.is_none_or(|(at, _)| at > linger) {
                        stop = Some((linger, wanted));
                    }
                }
            }
        }
        if asked.at_once() {
            break End::Signal;
        }
        if let Some((at, end)) = stop {
            if Instant::now() >= at {
                break end;
            }
            continue;
        }
        let wanted = if asked.to_end() {
            End::Signal
        } else if options.duration.is_some_and(|limit| begun.elapsed() >= limit) {
            End::Duration
        } else if lock(drain).limit_reached() {
            End::Events
        } else if shared.size_reached.is_made() {
            End::Size
        } else if shared.print_closed.is_made() && options.output.is_none() {
            End::Unread
        } else {
            continue;
        };
        match &child {
            // It is heard to its end.
            Some(child) => {
                child.ask_to_end();
                stop = Some((Instant::now() + COMMAND_END, wanted));
            }
            None => break wanted,
        }
    };
    probe.stop_new_events();
    // A recording can be shorter than the look around at its start.
    if let Some(Ok(taken)) = snapshot.map(|snapshot| snapshot.recv_timeout(SNAPSHOT)) {
        lock(drain).snapshot(taken);
    }
    ring.consume().context("cannot read the ring buffer")?;
    read_losses(drain, probe);
    Ok(end)
}

fn read_losses(drain: &Mutex<Drain>, probe: &Probe) {
    // A reading that fails is made up for by the next one: the counters only grow.
    if let Ok(losses) = probe.losses() {
        lock(drain).kernel_losses(&losses, sys::boot_ns());
    }
}

/// Hands over the last blocks and waits for file and printer, but not for ever.
fn finish(
    options: &Options,
    drain: &mut Drain,
    file: Option<Consuming<Vec<PathBuf>>>,
    print: Option<Consuming<()>>,
    shared: &Shared,
    asked: &Asked,
) -> Result<Vec<PathBuf>> {
    let batches = match options.ring {
        Some(_) => vec![drain.finish(sys::boot_ns()), drain.last_dump()],
        None => vec![drain.finish(sys::boot_ns())],
    };
    let outlets = drain.take_outlets();
    let mut patience = Patience::new(FILE_STALL);
    for batch in batches.into_iter().map(Arc::new) {
        if let Some(print) = &outlets.print {
            let _ = print.offer(&batch);
        }
        if let Some(file) = &outlets.file
            && !offer_patiently(file, &batch, &mut patience, shared, asked)
        {
            drain.give_up(&batch);
        }
    }
    drop(outlets);
    if let Some(print) = print {
        let mut patience = Patience::new(PRINT_STALL);
        if wait(&print, || !asked.at_once() && patience.lasts(0)).is_none() {
            say("standard output is stalled: the last lines are not printed");
        }
    }
    let Some(file) = file else { return Ok(Vec::new()) };
    match wait(&file, || !asked.at_once() && patience.lasts(shared.written.get())) {
        Some(files) => Ok(files),
        None => bail!("the file could not be finished: the disk does not take it; what was written so far is readable"),
    }
}

fn offer_patiently(file: &Sender, batch: &Arc<Batch>, patience: &mut Patience, shared: &Shared, asked: &Asked) -> bool {
    loop {
        match file.offer(batch) {
            Ok(()) => return true,
            Err(Refused::Gone) => return false,
            Err(Refused::Full) if asked.at_once() || !patience.lasts(shared.written.get()) => return false,
            Err(Refused::Full) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The result of a thread, as long as waiting makes sense.
fn wait<T>(consuming: &Consuming<T>, mut go_on: impl FnMut() -> bool) -> Option<T> {
    loop {
        match consuming.done.recv_timeout(Duration::from_millis(10)) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) if consuming.thread.is_finished() => return consuming.done.try_recv().ok(),
            Err(RecvTimeoutError::Timeout) if go_on() => {}
            Err(_) => return None,
        }
    }
}

/// Waits as long as a number changes now and then.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    seen: u64,
    since: Instant,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Patience {
            limit,
            seen: 0,
            since: Instant::now(),
        }
    }

    fn lasts(&mut self, progress: u64) -> bool {
        if progress != self.seen {
            self.seen = progress;
            self.since = Instant::now();
        }
        self.since.elapsed() < self.limit
    }
}

fn summarize(options: &Options, drain: &Drain, outcome: &Recorded, shared: &Shared, ended: End, took: Duration) {
    let why = match ended {
        End::Signal => "asked to end",
        End::Duration => "the duration is over",
        End::Events => "the limit on events is reached",
        End::Size => "the limit on size is reached",
        End::Command => "the command has ended",
        End::Unread => "standard output was closed",
    };
    let heard = outcome.heard;
    let lost_in_queue = drain.ledger().totals().iter().filter(|(reason, _)| {
        matches!(
            reason,
            LossReason::QueueFull | LossReason::DiskError | LossReason::Overwritten | LossReason::Limit
        )
    });
    let lost: u64 = lost_in_queue.map(|(_, count)| count.events).sum();
    let mut text = format!(
        "{why}: {} events with {} heard in {}",
        words::number(heard.events),
        words::bytes(heard.bytes),
        words::duration(took)
    );
    if options.output.is_some() {
        let size = words::bytes(shared.written.get());
        let kept = words::number(heard.events.saturating_sub(lost));
        let last = outcome
            .files
            .last()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        text.push_str(&match outcome.files.len() {
            0 => "; no file was written".to_owned(),
            1 => format!("; {kept} kept in {last} ({size})"),
            files => format!("; {kept} kept, {size} written, {files} files up to {last}"),
        });
    }
    say(&text);
    for line in words::losses(drain.ledger())
        .iter()
        .chain(&words::cuts(&drain.cuts(), options.snaplen))
    {
        say(line);
    }
    if !drain.not_printed().is_zero() {
        let events = words::number(drain.not_printed().events);
        say(&format!(
            "{events} events are in the file but were not printed: standard output was slower"
        ));
    }
    if let Some(status) = outcome.command {
        say(&format!("the command {}", child::status_words(status)));
    }
}
