//! From ring records to blocks, and from blocks to the queues. Runs on the thread that reads the ring and never waits
//! for anything, nor does it touch a file: what a queue does not take is counted, and stored as a loss in the next block that
//! it takes; what has to be looked up is left to another thread ([`super::lookup`]).
//!
//! State records are not lost to a full queue: they wait for the next block. Should too many wait, the whole live state is
//! stored again as soon as there is room.

mod resolve;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::attribution::Learner;
use super::clock::{self, Ticker};
use super::counters::Counters;
use super::lookup::Lookups;
use super::loss::{Count, Ledger, event_count};
use super::output::Rotation;
use super::queue::{Batch, Order, Refused, Sender};
use super::snapshot::Listeners;
use super::source;
use super::source::monitor::KernelLosses;
use super::state::Live;
use super::sys;
use crate::format::record::{Cut, Exit, LossReason, Opened, Origin, Owner, Process, Record, Role, Socket};
use crate::format::{BlockBuilder, Class, RawBlock};
pub use resolve::Unresolved;
use resolve::{Ends, Intake, ends};

/// A block is handed over after this time even when it is not full.
pub const BLOCK_AGE: Duration = Duration::from_millis(250);
/// The same when somebody watches.
pub const BLOCK_AGE_LIVE: Duration = Duration::from_millis(50);
/// State waiting for room in the queue; beyond this it is dropped and dumped again later.
const STATE_MAX: usize = 2 << 20;
/// The least time between two dumps that make good for lost ones.
const DUMP_PAUSE: Duration = Duration::from_secs(2);
/// Causes of shortened payload that are counted separately.
const CUTS: usize = 8;

/// How to drain.
#[derive(Debug, Clone)]
pub struct DrainConfig {
    pub block_age: Duration,
    pub rotation: Rotation,
    /// Blocks stay in memory; live state of the past is kept this long.
    pub ring: Option<Duration>,
    pub max_events: Option<u64>,
    pub max_sockets: usize,
    /// Whether /proc numbers processes as the kernel's events do: not in a pid namespace of one's own.
    pub proc: bool,
    /// Whether containers may live in v1 hierarchies, which the kernel's events do not show.
    pub v1: bool,
}

/// Where blocks go. Either may be absent.
#[derive(Debug, Default)]
pub struct Outlets {
    pub file: Option<Sender>,
    pub print: Option<Sender>,
}

/// See the module.
pub struct Drain {
    config: DrainConfig,
    outlets: Outlets,
    counters: Arc<Counters>,
    lookups: Option<Lookups>,
    live: Live,
    ledger: Ledger,
    state: BlockBuilder,
    events: BlockBuilder,
    listeners: Option<Listeners>,
    /// Snapshots that are being taken in, and meanwhile the sockets that are known.
    intakes: VecDeque<Intake>,
    seen: HashSet<Ends>,
    /// Sockets of snapshots that got an id.
    snapshot_sockets: u32,
    learner: Option<Learner>,
    /// When the first record of the open blocks came: boot clock, ns.
    opened: u64,
    /// Events that came out of the ring, up to the user's limit.
    recorded_events: u64,
    bytes: u64,
    /// Shortened payload by the stored byte of its [`Cut`]; the last one also takes those of later versions.
    cuts: [Count; CUTS],
    /// Events that are in the file, but were not printed.
    not_printed: Count,
    /// Pids of the latest data, newest first: a client and a server take turns.
    recent: [u32; 4],
    /// Pids that nothing has named, and that were asked for.
    pids_asked: HashSet<u32>,
    /// Of these, those that had ended.
    pids_gone: HashSet<u32>,
    /// Pids whose containers are asked for.
    containers_asked: HashSet<u32>,
    /// Ids of cgroups that processes are in, and whose paths are not known.
    unnamed: HashSet<u64>,
    /// The cgroup tree is being walked.
    walking: bool,
    unresolved: Unresolved,
    clock: Ticker,
    losses_read: u64,
    part_begun: u64,
    part_blocks: bool,
    dumped: u64,
    want_dump: bool,
    limit_reached: bool,
}

impl Drain {
    /// Begins. `now` is the boot clock.
    pub fn new(
        config: DrainConfig,
        outlets: Outlets,
        counters: Arc<Counters>,
        lookups: Option<Lookups>,
        now: u64,
    ) -> Self {
        // Events of other CPUs can come out of the ring a little later than what ended a socket or process.
        let retention = config.ring.unwrap_or(Duration::ZERO) + Duration::from_secs(5);
        let sockets_max = config.max_sockets.saturating_mul(2);
        Drain {
            live: Live::new(retention, sockets_max),
            config,
            outlets,
            counters,
            lookups,
            ledger: Ledger::default(),
            state: BlockBuilder::new(Class::State),
            events: BlockBuilder::new(Class::Events),
            listeners: None,
            intakes: VecDeque::new(),
            seen: HashSet::new(),
            snapshot_sockets: 0,
            learner: None,
            opened: 0,
            recorded_events: 0,
            bytes: 0,
            cuts: [Count::default(); CUTS],
            not_printed: Count::default(),
            recent: [0; 4],
            pids_asked: HashSet::new(),
            pids_gone: HashSet::new(),
            containers_asked: HashSet::new(),
            unnamed: HashSet::new(),
            walking: false,
            unresolved: Unresolved::default(),
            clock: Ticker::new(clock::INTERVAL),
            losses_read: now,
            part_begun: now,
            part_blocks: false,
            dumped: 0,
            want_dump: false,
            limit_reached: false,
        }
    }

    /// Reports each cgroup that becomes known to this learner.
    pub fn report_cgroups_to(&mut self, learner: Learner) {
        self.learner = Some(learner);
    }

    /// Takes one ring record.
    pub fn ring_record(&mut self, bytes: &[u8]) {
        match source::decode(bytes) {
            Ok(record) => self.record(&record),
            Err(_) => {
                let count = Count { events: 1, bytes: 0 };
                self.ledger.note(LossReason::Malformed, self.losses_read, count);
            }
        }
    }

    /// Takes one record.
    pub fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Data(data) => {
                if !self.recent.contains(&data.pid) {
                    self.recent.rotate_right(1);
                    self.recent[0] = data.pid;
                    self.resolve_process(data.pid);
                }
                self.bytes += u64::from(data.len);
                self.event(record);
            }
            Record::Process(process) => {
                let start = self.live.known_start(process.pid, process.start);
                self.resolve_cgroup(process.cgroup, process.pid);
                self.pids_asked.remove(&process.pid);
                let cgroup = self.v1_cgroup(process).unwrap_or(process.cgroup);
                // A forked process runs what its parent runs; the kernel side gives no path with a fork.
                let inherited = match process.origin {
                    Origin::Fork => self.live.newest(process.ppid).map(|parent| parent.exe.to_vec()),
                    _ => None,
                };
                let process = Process {
                    start,
                    cgroup,
                    exe: inherited.as_deref().unwrap_or(process.exe),
                    ..*process
                };
                self.state(&Record::Process(process));
            }
            Record::Socket(socket) => {
                self.resolve_process(socket.pid);
                let role = match (&self.listeners, socket.role, socket.opened) {
                    (Some(listeners), Role::Undetermined, Opened::FirstSeen) => {
                        listeners.role(socket.netns, &socket.local, &socket.remote)
                    }
                    _ => socket.role,
                };
                if !self.intakes.is_empty() {
                    self.seen.insert(ends(socket));
                }
                self.state(&Record::Socket(Socket { role, ..*socket }));
            }
            Record::Owner(Owner { pid, .. }) => {
                self.resolve_process(*pid);
                self.state(record);
            }
            Record::Exit(exit) => {
                let start = self.live.known_start(exit.pid, exit.start);
                let exit = Record::Exit(Exit { start, ..*exit });
                self.live.learn(&exit);
                self.event(&exit);
            }
            Record::Close(_) => {
                self.live.learn(record);
                self.event(record);
            }
            // With a filter on pods the kernel reports all cgroups; those that are not chosen are not stored.
            Record::Cgroup(cgroup) => match self.learner.as_ref().filter(|learner| learner.selective) {
                Some(learner) => learner.learn(cgroup.id, cgroup.path, false),
                None => self.state(record),
            },
            Record::Workload(_) | Record::Address(_) => self.state(record),
            Record::Connect(_) | Record::Loss(_) | Record::Clock(_) | Record::Remark(_) => self.event(record),
        }
    }

    /// Stores an event, if the user's limit allows.
    fn event(&mut self, record: &Record<'_>) {
        if !matches!(record, Record::Loss(_) | Record::Clock(_)) {
            if self.limit_reached {
                let bytes = if let Record::Data(data) = record {
                    u64::from(data.len)
                } else {
                    0
                };
                self.ledger
                    .note(LossReason::Limit, self.losses_read, Count { events: 1, bytes });
                return;
            }
            self.recorded_events += 1;
            self.limit_reached = self
                .config
                .max_events
                .is_some_and(|limit| self.recorded_events >= limit);
            if let Record::Data(data) = record {
                let missing = u64::from(data.len).saturating_sub(data.payload.len() as u64);
                if missing > 0 {
                    let cut = &mut self.cuts[usize::from(data.cut.byte()).min(CUTS - 1)];
                    cut.events += 1;
                    cut.bytes += missing;
                }
            }
        }
        self.note_opened();
        self.events.push(record);
        if self.events.is_full() {
            self.flush(sys::boot_ns());
        }
    }

    /// Stores state, and remembers it for later parts.
    pub fn state(&mut self, record: &Record<'_>) {
        if let (Record::Cgroup(cgroup), Some(learner)) = (record, &self.learner) {
            learner.learn(cgroup.id, cgroup.path, true);
        }
        self.live.learn(record);
        self.note_opened();
        self.state.push(record);
        if self.state.is_full() {
            self.flush(sys::boot_ns());
        }
    }

    fn note_opened(&mut self) {
        if self.opened == 0 {
            self.opened = sys::boot_ns();
        }
    }

    /// Takes a reading of the kernel's counters; what they grew by was lost since they were read last. `now` is the boot clock
    /// from before this reading: later losses are in the next one.
    pub fn kernel_losses(&mut self, losses: &KernelLosses, now: u64) {
        for (reason, count) in losses.iter() {
            self.ledger.reading(reason, self.losses_read, count);
        }
        self.sink_losses(now);
    }

    /// Reads the sink's counters in the same way, and takes back the losses that it could not store.
    pub fn sink_losses(&mut self, now: u64) {
        for loss in self.counters.take_returned() {
            self.ledger.put_back(&loss);
        }
        let since = self.losses_read;
        self.ledger
            .reading(LossReason::DiskError, since, self.counters.disk_error.get());
        self.ledger
            .reading(LossReason::Overwritten, since, self.counters.overwritten.get());
        self.ledger
            .reading(LossReason::Limit, since, self.counters.over_limit.get());
        self.losses_read = now;
        let missing = self.ledger.missing();
        if missing > self.counters.missing.get() {
            // The processes seen next are looked up again.
            self.recent = [0; 4];
            if let Some(learner) = self.learner.as_ref().filter(|learner| learner.selective) {
                learner.missed();
            }
        }
        self.counters.missing.set(missing);
    }

    /// What time brings: clock records, blocks that are old enough, new parts. Called every few milliseconds.
    pub fn tick(&mut self, now: u64) {
        if self.clock.due(now) {
            self.event(&Record::Clock(sys::clocks()));
            self.live.prune(now);
            self.walk();
        }
        self.counters.events.set(self.recorded_events);
        self.counters.bytes.set(self.bytes);
        self.want_dump |= self.counters.want_state.take();
        // A dump is put together only when there is room for it and for the blocks before it.
        let room = self.outlets.file.as_ref().is_some_and(|file| file.has_room());
        let pause_over = now.saturating_sub(self.dumped) >= nanos(DUMP_PAUSE);
        let age = now.saturating_sub(self.part_begun);
        let full = self.part_blocks && self.config.rotation.is_due(self.counters.part_written.get(), age);
        if room && (full || (pause_over && self.counters.want_part.take())) {
            self.hand_over_dump(Order::NewPart, now);
        } else if room && pause_over && self.want_dump && self.config.ring.is_none() {
            self.hand_over_dump(Order::Append, now);
        }
        if self.opened != 0 && now.saturating_sub(self.opened) >= nanos(self.config.block_age) {
            self.flush(now);
        }
    }

    /// Stores what is known to be lost, in place.
    fn push_losses(&mut self, now: u64) {
        for loss in self.ledger.take(now) {
            self.note_opened();
            self.events.push(&Record::Loss(loss));
        }
    }

    /// Hands the open blocks over.
    pub fn flush(&mut self, now: u64) {
        self.push_losses(now);
        let blocks = self.take_blocks();
        if !blocks.is_empty() {
            self.offer(Batch {
                order: Order::Append,
                blocks,
            });
        }
    }

    fn take_blocks(&mut self) -> Vec<RawBlock> {
        self.opened = 0;
        let mut blocks = Vec::with_capacity(2);
        for builder in [&mut self.state, &mut self.events] {
            if !builder.is_empty() {
                blocks.push(builder.take());
            }
        }
        if let Some(spare) = self.counters.take_spare() {
            self.events.recycle(spare);
        }
        blocks
    }

    /// Hands over the whole live state with an order. What is open stays open: it goes after the state.
    fn hand_over_dump(&mut self, order: Order, now: u64) {
        let Some(file) = &self.outlets.file else { return };
        let blocks = self.live_blocks();
        match file.offer(&Arc::new(Batch { order, blocks })) {
            Ok(()) => {
                self.note_absent(now);
                self.want_dump = false;
                self.part_begun = now;
                self.part_blocks = false;
                // The sink resets this when it begins the part; until then the old size must not ask for another one.
                self.counters.part_written.set(0);
            }
            Err(_) if order == Order::Append => self.want_dump = true,
            Err(_) => self.counters.want_part.raise(),
        }
        self.dumped = now;
    }

    /// A dump was handed over: what it does not repeat is not known to those who read from there on.
    fn note_absent(&mut self, now: u64) {
        let events = self.live.absent();
        self.ledger.note(LossReason::MapFull, now, Count { events, bytes: 0 });
    }

    fn live_blocks(&self) -> Vec<RawBlock> {
        let mut builder = BlockBuilder::new(Class::State);
        let mut blocks = Vec::new();
        // The events that follow a dump of the memory ring reach back as far as the ring; otherwise they begin now.
        let now = sys::boot_ns();
        let since = now.saturating_sub(nanos(self.config.ring.unwrap_or(Duration::ZERO)));
        self.live.dump(since, |record| {
            builder.push(record);
            if builder.is_full() {
                blocks.push(builder.take());
            }
        });
        if !builder.is_empty() {
            blocks.push(builder.take());
        }
        blocks
    }

    /// Has the memory ring written out.
    pub fn dump_ring(&mut self, now: u64) -> Result<(), Refused> {
        self.flush(now);
        let Some(file) = &self.outlets.file else {
            return Err(Refused::Gone);
        };
        file.offer(&Arc::new(Batch {
            order: Order::DumpRing,
            blocks: self.live_blocks(),
        }))?;
        self.note_absent(now);
        Ok(())
    }

    fn offer(&mut self, batch: Batch) {
        let batch = Arc::new(batch);
        if let Some(file) = &self.outlets.file {
            match file.offer(&batch) {
                Ok(()) => self.part_blocks = true,
                Err(refused) => {
                    let reason = if refused == Refused::Full {
                        LossReason::QueueFull
                    } else {
                        LossReason::DiskError
                    };
                    self.not_stored(&batch, reason);
                }
            }
        }
        if let Some(print) = &self.outlets.print
            && print.offer(&batch) == Err(Refused::Full)
        {
            for block in batch.blocks.iter().filter(|block| block.class == Class::Events) {
                let count = event_count(block);
                match &self.outlets.file {
                    // The file has them: no loss for its readers.
                    Some(_) => self.not_printed.add(count),
                    None => self.ledger.note(LossReason::OutputStalled, block.first_time, count),
                }
            }
        }
    }

    /// The file's queue refused a batch: events are lost and counted, state waits, losses are stored again.
    fn not_stored(&mut self, batch: &Batch, reason: LossReason) {
        for block in &batch.blocks {
            if block.class == Class::Events {
                self.ledger.note(reason, block.first_time, event_count(block));
            }
            for record in block.records().flatten() {
                match record {
                    Record::Loss(loss) => self.ledger.put_back(&loss),
                    Record::Clock(_) => {}
                    _ if block.class == Class::State && self.state.len() < STATE_MAX => {
                        self.note_opened();
                        self.state.push(&record);
                    }
                    _ => self.want_dump |= block.class == Class::State,
                }
            }
        }
    }

    /// The last blocks: everything is in, nothing more will come. Returns what could not be handed over yet; the caller may
    /// wait for room now.
    pub fn finish(&mut self, now: u64) -> Batch {
        self.events.push(&Record::Clock(sys::clocks()));
        if self.config.ring.is_some() {
            self.note_absent(now);
        }
        self.push_losses(now);
        self.counters.events.set(self.recorded_events);
        self.counters.bytes.set(self.bytes);
        Batch {
            order: Order::Append,
            blocks: self.take_blocks(),
        }
    }

    /// The last blocks could not be handed over.
    pub fn give_up(&mut self, batch: &Batch) {
        for block in batch.blocks.iter().filter(|block| block.class == Class::Events) {
            self.ledger
                .note(LossReason::QueueFull, block.first_time, event_count(block));
        }
    }

    /// The whole live state as a batch that has the memory ring written out; for the end of a recording.
    pub fn last_dump(&self) -> Batch {
        Batch {
            order: Order::DumpRing,
            blocks: self.live_blocks(),
        }
    }

    /// The queues; dropping them ends the consumers.
    pub fn take_outlets(&mut self) -> Outlets {
        std::mem::take(&mut self.outlets)
    }

    /// Whether the user's limit on events is reached.
    pub fn limit_reached(&self) -> bool {
        self.limit_reached
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Events recorded, and the bytes that went over sockets in them.
    pub fn recorded(&self) -> Count {
        Count {
            events: self.recorded_events,
            bytes: self.bytes,
        }
    }

    /// Events that are in the file, but were not printed, because standard output was slower.
    pub fn not_printed(&self) -> Count {
        self.not_printed
    }

    /// Events whose payload was shortened, and the bytes that are missing of it, by cause.
    pub fn cuts(&self) -> Vec<(Cut, Count)> {
        let causes = (0u8..).map(Cut::from);
        causes.zip(self.cuts).filter(|(_, count)| !count.is_zero()).collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
