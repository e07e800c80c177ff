//! `mdf record`, from the first check to the last line. The steps in order; what they mean is one call down.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::attribution::client::Timing;
use super::attribution::options::Environment;
use super::attribution::{self, Attribution, Tell};
use super::cgroup::Tree;
use super::child::{self, Child, Fate, Setting};
use super::drain::{self, Drain, Outlets};
use super::filter::{self, Selection, Words};
use super::identity::Identity;
use super::lookup::Lookups;
use super::loss::Count;
use super::output::{self, Rotation};
use super::printer::{self, MakePrinter};
use super::queue::{self, Batch, Refused, Sender};
use super::shared::Shared;
use super::signals::Asked;
use super::sink::{self, Sink};
use super::snapshot::{self, Snapshot};
use super::source::config::{Backend, Command, Config, Filter, MAX_SNAPLEN};
use super::source::probe::Probe;
use super::status;
use super::user::User;
use super::watch::{Processes, Report, Watch};
use super::{permit, privilege, process_tree, procfs, sys, timens, words};
use crate::caller::Caller;
use crate::format::header::Header;
use crate::format::record::LossReason;
use crate::human;
use crate::message::say;
use crate::outcome::{Outcome, Usage};
use crate::pods::{Selectors, select};

/// How long the ring is waited for; short, because wakeups come only when it fills. Longer when nothing is heard.
const POLL: Duration = Duration::from_millis(8);
const POLL_IDLE: Duration = Duration::from_millis(32);
/// The ring is emptied even when the host has more to do than it can: this is little work, and what it misses is lost.
const DRAIN_NICE: i32 = -20;
/// A process can end within milliseconds of its first event, and then nothing in /proc names it.
const LOOKUP_NICE: i32 = -20;
/// What was lost is to be told soon, on a busy host more than ever.
const WATCH_NICE: i32 = -20;
/// Compressing is more work; it is preferred to ordinary work, but does not push it aside.
const SINK_NICE: i32 = -10;
/// The kernel needs some 300 bytes for each socket that can be followed: no more is taken without being asked for.
const MAX_SOCKETS: u32 = 1 << 20;
/// Batches between the drain and each consumer: at most about so many MiB.
const QUEUE: usize = 24;
/// After the command's tree has ended, its connections are still closing.
const LINGER: Duration = Duration::from_millis(100);
/// At the end, a snapshot that is still being taken is waited for so long.
const SNAPSHOT: Duration = Duration::from_secs(1);
/// How long a command that was asked to end is recorded on, where nobody is there who could say that it takes too long.
const COMMAND_END: Duration = Duration::from_secs(5);
/// After this time of waiting for the command, the user is told how not to.
const COMMAND_SLOW: Duration = Duration::from_secs(1);
/// How often it is looked whether a pipe has got a reader.
const PIPE_LOOK: Duration = Duration::from_millis(20);
/// How long processes and cgroups are looked up at the end.
const LAST_LOOKUPS: Duration = Duration::from_secs(1);
/// What is taken at a time of what others found out, before the ring is read again.
const ANSWERS: usize = 256;
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
    /// As whom it runs; nothing: as who called sudo, else as this process.
    pub user: Option<String>,
    pub duration: Option<Duration>,
    /// Bytes of all files together.
    pub max_size: Option<u64>,
    pub max_events: Option<u64>,
    /// Payload bytes kept of each data event.
    pub snaplen: u32,
    /// Bytes of the kernel's ring buffer.
    pub buffer_size: usize,
    /// Sockets that can be followed at one time; nothing: enough for twice as many as there are.
    pub max_sockets: Option<u32>,
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
            user: None,
            duration: None,
            max_size: None,
            max_events: None,
            snaplen: config.snaplen,
            buffer_size: config.buffer_size,
            max_sockets: None,
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
    /// It ended by itself, and the recording with it.
    pub to_its_end: bool,
}

impl Recorded {
    /// What the exit code is to say. Losses come first: they are of the recording, and whoever relies on it must not miss
    /// them. A command that this process asked to end ended as it was meant to.
    pub fn outcome(&self) -> Outcome {
        match self.command {
            _ if self.missing > 0 => Outcome::Losses,
            Some(status) if self.to_its_end && !status.success() => Outcome::Command(child::exit_code(status)),
            _ => Outcome::Clean,
        }
    }
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
    let shared = Arc::new(Shared::default());
    let mut outlets = Outlets::default();
    let file = match &options.output {
        Some(base) => {
            let (sender, thread) = start_sink(options, base, &header, &shared, &asked)?;
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
    let attached = begun.elapsed();

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
    let proc = plan.proc;
    if !proc {
        say("this process runs in a pid namespace of its own: processes that ran before are not named");
    }
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
    let names = Attribution::start(names, attribution::Report::new(move |text| notes.note(text)))?;
    let lookups = Lookups::start(tree, LOOKUP_NICE)?;
    let mut drain = Drain::new(plan, outlets, shared.clone(), Some(lookups), sys::boot_ns());
    drain.tell_cgroups_to(names.learner());
    let drain = RefCell::new(drain);
    let command = child.as_ref().map(|child| Processes::new(child, probe.monitor(), proc));
    let sources = Sources {
        snapshot,
        names: &names,
        watch: Watch::start(probe.monitor(), command.clone(), WATCH_NICE)?,
        command,
    };
    announce(options, &probe, &header, attached);
    let status = status::start(
        shared.clone(),
        !(prints(options) && io::stdout().is_terminal()),
        options.output.is_some() && options.ring.is_none(),
    )?;
    if let Some(child) = &mut child {
        child
            .start()
            .context("the command was ended before it could be started")?;
    }

    let ended = record(options, &drain, &mut probe, child.as_mut(), sources, &shared, &asked);
    let command = child.as_ref().and_then(Child::status);
    // The command's cgroup is removed before waiting for a disk that may be slow.
    drop(child);
    let mut drain = drain.into_inner();
    drain.await_answers(Instant::now() + LAST_LOOKUPS);
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
        to_its_end: ended == End::Command,
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
    let filter = &options.filter;
    if !options.command.is_empty() && !filter.pids.is_empty() && !filter.cgroups.is_empty() {
        return usage("a command is recorded beside --pid or --cgroup, not beside both of them: leave one out");
    }
    if options.ring.is_some() && rotates {
        return usage("--ring and rotation exclude each other");
    }
    if options.user.is_some() && options.command.is_empty() {
        return usage("--user is for a command: give one behind --");
    }
    match &options.output {
        Some(base) if options.print && output::is_standard_output(base) => {
            usage("--print and the capture cannot both go to standard output")
        }
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

/// As whom the command runs; also says so, where it is not as this process.
fn setting(options: &Options) -> Result<Setting> {
    let user = match (&options.user, Caller::find()) {
        (Some(name), _) => Some(User::named(name)?),
        (None, Some(caller)) => {
            let user = User::of_caller(caller);
            say(&format!(
                "the command runs as {}, who called sudo; --user root has it run as root",
                user.describe()
            ));
            Some(user)
        }
        (None, None) => None,
    };
    Ok(Setting {
        user,
        // Its output would be in the middle of the capture.
        output_to_error: options.output.as_deref().is_some_and(output::is_standard_output),
    })
}

fn config(options: &Options, selection: &Selection, child: Option<&Child>, dynamic: bool) -> Config {
    Config {
        filter: Filter {
            pids: selection.pids.clone(),
            command: child.map(|child| match child.cgroup() {
                Some(_) => Command::InCgroup,
                None => Command::Anywhere,
            }),
            comm: selection.comm.clone(),
            cgroups: selection.cgroups.clone(),
            ports: selection.ports.clone(),
            netns: selection.netns,
            dynamic,
        },
        snaplen: options.snaplen,
        buffer_size: options.buffer_size,
        max_sockets: options.max_sockets.unwrap_or_else(max_sockets),
        backend: options.backend,
    }
}

/// The chosen processes that still run, and the descendants that they have started while the programs were being attached.
/// Processes that have ended are not followed any more: other processes may get their pids.
fn refresh_pids(chosen: &[Identity], probe: &Probe, left_out: &[u32]) -> Result<Vec<Identity>> {
    let chosen: BTreeSet<Identity> = chosen.iter().copied().collect();
    let mut there = process_tree::with_descendants(chosen.iter().copied());
    for process in chosen.difference(&there) {
        // The kernel side removes it itself when it sees the exit.
        let _ = probe.unfollow(process.pid);
    }
    there.retain(|process| !left_out.contains(&process.pid));
    for process in there.difference(&chosen) {
        probe
            .follow(*process)
            .with_context(|| format!("cannot follow process {}", process.pid))?;
    }
    Ok(there.into_iter().collect())
}

/// Room for twice as many sockets as there are, and not for fewer than usual.
fn max_sockets() -> u32 {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let now = procfs::tcp_sockets(&sockstat).unwrap_or(0);
    now.saturating_mul(2).clamp(Config::default().max_sockets, MAX_SOCKETS)
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
    asked: &Asked,
) -> Result<(Sender, Consuming<Vec<PathBuf>>)> {
    let plan = || sink::Plan {
        base: base.to_owned(),
        header: header.clone(),
        force: options.force,
        parts: options.rotate_size.is_some() || options.rotate_time.is_some() || options.ring.is_some(),
        keep: options.keep,
        max_size: options.max_size,
        ring: options.ring.map(|age| (age, options.ring_size)),
    };
    let mut told = false;
    let sink = loop {
        match Sink::new(plan(), shared.clone()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !asked.to_end() => {
                if !std::mem::replace(&mut told, true) {
                    say(&format!("waiting until somebody reads from {}", base.display()));
                }
                std::thread::sleep(PIPE_LOOK);
            }
            sink => break sink.with_context(|| format!("cannot write {}", output::name(base)))?,
        }
    };
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
        let _all = privilege::read_all();
        let snapshot = match proc {
            true => snapshot::take(&selection, tree.as_ref(), &left_out),
            false => Snapshot::default(),
        };
        let _ = sender.send(snapshot);
    })?;
    Ok(receiver)
}

fn announce(options: &Options, probe: &Probe, header: &Header, took: Duration) {
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

/// What comes beside the ring.
struct Sources<'a> {
    /// What was there before.
    snapshot: mpsc::Receiver<Snapshot>,
    names: &'a Attribution,
    watch: Watch,
    /// What the watch looks at, for the end of a recording.
    command: Option<Processes>,
}

fn take_in(drain: &RefCell<Drain>, probe: &Probe) {
    for socket in drain.borrow_mut().take_in(ANSWERS) {
        // Without it, the connection is announced again at its first traffic.
        let _ = probe.seed_socket(&socket);
    }
}

/// Stores new names, and records the cgroups of newly chosen pods.
fn take_names(drain: &RefCell<Drain>, probe: &Probe, names: &Attribution, shared: &Shared) {
    let mut followed = Vec::new();
    for tell in names.tells().take(ANSWERS) {
        tell.record(|record| drain.borrow_mut().state(record));
        match tell {
            Tell::Follow(id) => match probe.add_cgroup(id) {
                Ok(()) => followed.push(id),
                Err(error) => shared.note(format!("a chosen container is not recorded (cgroup {id}): {error}")),
            },
            // It may have gone by itself.
            Tell::Unfollow(id) => drop(probe.remove_cgroup(id)),
            Tell::Snapshot(taken) => drain.borrow_mut().snapshot(*taken),
            _ => {}
        }
    }
    if !followed.is_empty() {
        names.followed(followed);
    }
}

/// Whether nobody gets anything of the recording once standard output is closed.
fn is_unread(options: &Options) -> bool {
    options.output.as_deref().is_none_or(output::is_standard_output)
}

/// The recording ends, but not before the command has.
#[derive(Debug)]
struct Stop {
    end: End,
    since: Instant,
    /// When the waiting ends.
    at: Option<Instant>,
    told: bool,
}

impl Stop {
    fn for_command(end: End) -> Stop {
        Stop {
            end,
            since: Instant::now(),
            at: None,
            told: false,
        }
    }

    /// The command has ended; what its connections still do comes within a moment.
    fn command_ended(&mut self) {
        let linger = Instant::now() + LINGER;
        self.at = Some(self.at.map_or(linger, |at| at.min(linger)));
    }

    /// Who pressed Ctrl-C waits for as long as the command wants, and can press it again. Nobody else would.
    fn is_over(&mut self, asked: &Asked, shared: &Shared) -> bool {
        let may_take_its_time = self.end == End::Signal && !asked.soon();
        if !may_take_its_time && self.at.is_none() {
            self.at = Some(self.since + COMMAND_END);
        }
        if may_take_its_time && self.at.is_none() && !self.told && self.since.elapsed() > COMMAND_SLOW {
            self.told = true;
            let how = "waiting for the command to end; another signal (Ctrl-C) ends the recording now";
            shared.note(how.to_owned());
        }
        asked.ends() > 1 || self.at.is_some_and(|at| Instant::now() >= at)
    }
}

/// Reads the ring until something ends the recording, and then what is left in it.
fn record(
    options: &Options,
    drain: &RefCell<Drain>,
    probe: &mut Probe,
    mut child: Option<&mut Child>,
    sources: Sources<'_>,
    shared: &Shared,
    asked: &Asked,
) -> Result<End> {
    // All other threads and the command have been started: they keep their own nice values, and their own rights.
    sys::hurry(DRAIN_NICE);
    let mut ring = probe
        .ring(|bytes| drain.borrow_mut().ring_record(bytes))
        .context("cannot read the ring buffer")?;
    let begun = Instant::now();
    let (mut wait, mut heard) = (POLL, 0);
    let mut snapshot = Some(sources.snapshot);
    // Set when the command has ended or was asked to end.
    let mut stop: Option<Stop> = None;
    let mut is_looking = false;
    let end = loop {
        ring.poll(wait).context("cannot read the ring buffer")?;
        let before = std::mem::replace(&mut heard, drain.borrow_mut().heard().events);
        if let Some(taken) = snapshot.as_ref().and_then(|snapshot| snapshot.try_recv().ok()) {
            snapshot = None;
            drain.borrow_mut().snapshot(taken);
        }
        take_in(drain, probe);
        take_names(drain, probe, sources.names, shared);
        drain.borrow_mut().take_answers(ANSWERS);
        wait = match heard == before {
            _ if drain.borrow().is_taking_in() => Duration::ZERO,
            true => (wait * 2).clamp(POLL, POLL_IDLE),
            false => POLL,
        };
        for report in sources.watch.reports() {
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
            shared.note("the memory ring is not written: the disk has not caught up with earlier work".to_owned());
        }

        if let Some(child) = &mut child {
            match child.look() {
                Fate::Running => {}
                Fate::Failed(error) => {
                    let program = options.command.first().map(|word| word.to_string_lossy().into_owned());
                    return Err(error).with_context(|| format!("cannot run {}", program.unwrap_or_default()));
                }
                // The rest of its tree can go on for long.
                Fate::Ended(_) => {
                    if !std::mem::replace(&mut is_looking, true) {
                        sources.watch.look_at_command();
                    }
                }
            }
        }
        if let Some(waiting) = &mut stop {
            if waiting.is_over(asked, shared) {
                break waiting.end;
            }
            continue;
        }
        let wanted = if asked.to_end() {
            End::Signal
        } else if options.duration.is_some_and(|limit| begun.elapsed() >= limit) {
            End::Duration
        } else if drain.borrow_mut().limit_reached() {
            End::Events
        } else if shared.size_reached.is_made() {
            End::Size
        } else if shared.print_closed.is_made() && is_unread(options) {
            End::Unread
        } else {
            continue;
        };
        match &child {
            // It is recorded to its end.
            Some(child) => {
                // Not a second time: programs that end in order at the first signal would be cut off by another.
                let by_terminal = wanted == End::Signal && asked.by_terminal();
                child.ask_to_end(|pid| by_terminal && sys::is_in_own_group(pid));
                sources.watch.ask_command_to_end(by_terminal);
                stop = Some(Stop::for_command(wanted));
            }
            None => break wanted,
        }
    };
    let asked_again = asked.ends() > 1;
    asked.heed();
    // The signal may have come to both, and the command have been the faster.
    let end = if asked.to_end() { End::Signal } else { end };
    probe.stop_new_events();
    // From here on the ring does not fill any more, and this thread may read files.
    if asked_again && let (Some(child), Some(command)) = (&child, &sources.command) {
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
        human::count(heard.events),
        human::bytes(heard.bytes),
        human::elapsed(took)
    );
    if options.output.is_some() {
        let size = human::bytes(shared.written.get());
        let kept = human::count(heard.events.saturating_sub(lost));
        let last = outcome.files.last().map(|path| output::name(path)).unwrap_or_default();
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
    if let Some(line) = words::unresolved(drain.unresolved()) {
        say(&line);
    }
    if !drain.not_printed().is_zero() {
        let events = human::count(drain.not_printed().events);
        say(&format!(
            "{events} events are in the file but were not printed: standard output was slower"
        ));
    }
    match outcome.command {
        Some(status) => say(&format!("the command {}", child::status_words(status))),
        None if options.command.is_empty() => {}
        None => say("the command still runs, and is not recorded any more"),
    }
}
