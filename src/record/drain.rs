//! From ring records to blocks, and from blocks to the queues. Runs on the thread that reads the ring and never waits
//! for anything: what a queue does not take is counted, and told in the next block that it takes.
//!
//! State records are not lost to a full queue: they wait for the next block. Should too many wait, the whole live state is
//! stored again as soon as there is room.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::attribution::Learner;
use super::cgroup::Tree;
use super::clock::{self, Ticker};
use super::loss::{Count, Ledger};
use super::output::Rotation;
use super::procfs::same_start;
use super::queue::{Batch, Order, Refused, Sender};
use super::shared::Shared;
use super::snapshot::{self, Listeners, Snapshot};
use super::state::Live;
use super::{probe, sys, wire};
use crate::format::record::{
    CGROUP_V1, Cgroup, Cut, Exit, LossReason, Opened, Origin, Owner, Process, Record, Role, Socket,
};
use crate::format::{BlockBuilder, Class, Kind, RawBlock};

/// A block is handed over after this time even when it is not full.
pub const BLOCK_AGE: Duration = Duration::from_millis(250);
/// The same when somebody watches.
pub const BLOCK_AGE_LIVE: Duration = Duration::from_millis(50);
/// State waiting for room in the queue; beyond this it is dropped and dumped again later.
const STATE_MAX: usize = 2 << 20;
/// The least time between two dumps that make good for lost ones.
const DUMP_PAUSE: Duration = Duration::from_secs(2);
/// Causes of shortened payload that are told apart.
const CUTS: usize = 8;
/// Pids that /proc did not know, kept so that they are not asked for with each event.
const STRANGERS_MAX: usize = 65_536;

/// How to drain.
#[derive(Debug, Clone)]
pub struct Plan {
    pub block_age: Duration,
    pub rotation: Rotation,
    /// Blocks stay in memory; live state of the past is kept this long.
    pub ring: Option<Duration>,
    pub max_events: Option<u64>,
    pub max_sockets: usize,
    /// Whether /proc numbers processes as the kernel's events do: not in a pid namespace of one's own.
    pub proc: bool,
    /// Whether containers may live in v1 hierarchies, of which the kernel's events say nothing.
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
    plan: Plan,
    outlets: Outlets,
    shared: Arc<Shared>,
    tree: Option<Tree>,
    live: Live,
    ledger: Ledger,
    state: BlockBuilder,
    events: BlockBuilder,
    listeners: Option<Listeners>,
    /// Sockets of snapshots that got an id.
    snapshot_sockets: u32,
    learner: Option<Learner>,
    /// When the first record of the open blocks came: boot clock, ns.
    opened: u64,
    heard: u64,
    bytes: u64,
    /// Shortened payload by the stored byte of its [`Cut`]; the last one also takes those of later versions.
    cuts: [Count; CUTS],
    /// Events that are in the file, but were not printed.
    not_printed: Count,
    /// Pids of the latest data, newest first: a client and a server take turns.
    recent: [u32; 4],
    strangers: HashSet<u32>,
    /// Ids of cgroups that processes are in, and whose paths are not known.
    nameless: HashSet<u64>,
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
    pub fn new(plan: Plan, outlets: Outlets, shared: Arc<Shared>, tree: Option<Tree>, now: u64) -> Self {
        // Events of other CPUs can come out of the ring a little later than what ended a socket or process.
        let retention = plan.ring.unwrap_or(Duration::ZERO) + Duration::from_secs(5);
        let sockets_max = plan.max_sockets.saturating_mul(2);
        Drain {
            live: Live::new(retention, sockets_max),
            plan,
            outlets,
            shared,
            tree,
            ledger: Ledger::default(),
            state: BlockBuilder::new(Class::State),
            events: BlockBuilder::new(Class::Events),
            listeners: None,
            snapshot_sockets: 0,
            learner: None,
            opened: 0,
            heard: 0,
            bytes: 0,
            cuts: [Count::default(); CUTS],
            not_printed: Count::default(),
            recent: [0; 4],
            strangers: HashSet::new(),
            nameless: HashSet::new(),
            clock: Ticker::new(clock::INTERVAL),
            losses_read: now,
            part_begun: now,
            part_blocks: false,
            dumped: 0,
            want_dump: false,
            limit_reached: false,
        }
    }

    /// Tells of each cgroup that becomes known.
    pub fn tell_cgroups_to(&mut self, learner: Learner) {
        self.learner = Some(learner);
    }

    /// Takes one ring record.
    pub fn ring_record(&mut self, bytes: &[u8]) {
        match wire::decode(bytes) {
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
                    self.meet(data.pid);
                }
                self.bytes += u64::from(data.len);
                self.event(record);
            }
            Record::Process(process) => {
                let start = self.live.known_start(process.pid, process.start);
                self.meet_cgroup(process.cgroup, process.pid);
                self.strangers.remove(&process.pid);
                let cgroup = self.v1_cgroup(process.pid, process.ppid).unwrap_or(process.cgroup);
                let process = Process {
                    start,
                    cgroup,
                    ..*process
                };
                self.state(&Record::Process(process));
            }
            Record::Socket(socket) => {
                self.meet(socket.pid);
                let role = match (&self.listeners, socket.role, socket.opened) {
                    (Some(listeners), Role::Undetermined, Opened::FirstSeen) => {
                        listeners.role(socket.netns, &socket.local, &socket.remote)
                    }
                    _ => socket.role,
                };
                self.state(&Record::Socket(Socket { role, ..*socket }));
            }
            Record::Owner(Owner { pid, .. }) => {
                self.meet(*pid);
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
            // With a filter on pods the kernel tells of all cgroups; those that are not chosen are not stored.
            Record::Cgroup(cgroup) => match self.learner.as_ref().filter(|learner| learner.selective) {
                Some(learner) => learner.learn(cgroup.id, cgroup.path, false),
                None => self.state(record),
            },
            Record::Workload(_) | Record::Address(_) => self.state(record),
            Record::Connect(_) | Record::Loss(_) | Record::Clock(_) => self.event(record),
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
            self.heard += 1;
            self.limit_reached = self.plan.max_events.is_some_and(|limit| self.heard >= limit);
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

    /// Names a process that turns up without having been named: one that ran before recording began, and that the
    /// snapshot did not take because nothing selected it then.
    fn meet(&mut self, pid: u32) {
        if pid == 0 || !self.plan.proc || self.strangers.contains(&pid) {
            return;
        }
        if self.live.knows_process(pid) {
            if self.shared.missing.get() > 0 {
                self.check_name(pid);
            }
            return;
        }
        match snapshot::process(pid, self.tree.as_ref()) {
            Some(found) => {
                self.name_cgroup(found.cgroup, &found.cgroup_path);
                self.state(&Record::Process(found.record()));
            }
            None => {
                if self.strangers.len() >= STRANGERS_MAX {
                    self.strangers.clear();
                }
                self.strangers.insert(pid);
            }
        }
    }

    /// Where events were lost, that of an execve may be among them: gives a forked process the name by which it goes now.
    fn check_name(&mut self, pid: u32) {
        let Some(forked) = self.live.take_forked(pid) else {
            return;
        };
        let Some(found) = snapshot::process(pid, self.tree.as_ref()) else {
            return;
        };
        let start = forked.start;
        if same_start(found.start, start) && found.comm != forked.comm {
            self.name_cgroup(found.cgroup, &found.cgroup_path);
            self.state(&Record::Process(Process {
                origin: Origin::Fork,
                start,
                ..found.record()
            }));
        }
    }

    /// On hosts with v1 hierarchies: the cgroup that tells of a new process's container, else its parent's.
    fn v1_cgroup(&mut self, pid: u32, parent: u32) -> Option<u64> {
        if !self.plan.v1 {
            return None;
        }
        match std::fs::read(format!("/proc/{pid}/cgroup")) {
            Ok(text) => {
                let found = super::cgroup::v1_container(&text)?;
                self.name_cgroup(found.id, &found.path);
                Some(found.id)
            }
            Err(_) => self.live.cgroup_of(parent).filter(|id| id & CGROUP_V1 != 0),
        }
    }

    /// Names the cgroup of a process, if it has not been named.
    fn meet_cgroup(&mut self, id: u64, pid: u32) {
        if id == 0 || self.live.knows_cgroup(id) {
            return;
        }
        let Some(tree) = self.tree.as_ref().filter(|_| self.plan.proc) else {
            return;
        };
        let path = std::fs::read(format!("/proc/{pid}/cgroup"))
            .ok()
            .and_then(|text| super::cgroup::path_of_process(&text).map(|path| tree.absolute(path)))
            .filter(|path| tree.id(path).is_ok_and(|found| found == id));
        match path {
            Some(path) => self.name_cgroup(id, &path),
            None => {
                self.nameless.insert(id);
            }
        }
    }

    /// Looks for cgroups that could not be named through their process, because it had ended or moved on.
    fn name_nameless(&mut self) {
        let nameless = std::mem::take(&mut self.nameless);
        let Some(tree) = self.tree.as_ref().filter(|_| !nameless.is_empty()) else {
            return;
        };
        let paths = tree.by_id();
        for id in nameless {
            if let Some(path) = paths.get(&id) {
                self.name_cgroup(id, path);
            }
        }
    }

    fn name_cgroup(&mut self, id: u64, path: &[u8]) {
        if id != 0 && !path.is_empty() && !self.live.knows_cgroup(id) {
            self.state(&Record::Cgroup(Cgroup {
                time: sys::boot_ns(),
                id,
                path,
            }));
        }
    }

    /// Takes what was there before; again when more is recorded than at the start. Returns the open connections, for the kernel side to know.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> Vec<Socket> {
        for entry in &snapshot.cgroups {
            self.name_cgroup(entry.id, &entry.path);
        }
        for found in &snapshot.processes {
            self.name_cgroup(found.cgroup, &found.cgroup_path);
            if !self.live.knows_process(found.pid) {
                self.state(&Record::Process(found.record()));
            }
        }
        // Connections that have been heard meanwhile keep the ids that they got.
        for socket in self.live.settle_roles(&snapshot.listeners) {
            self.state(&Record::Socket(socket));
        }
        let seen: HashSet<_> = self.live.sockets().map(|s| (s.netns, s.local, s.remote)).collect();
        let mut open = Vec::new();
        for socket in snapshot.sockets {
            if seen.contains(&(socket.netns, socket.local, socket.remote)) {
                continue;
            }
            let id = wire::snapshot_id(&socket.local, &socket.remote, self.snapshot_sockets);
            self.snapshot_sockets = self.snapshot_sockets.wrapping_add(1);
            let socket = Socket { id, ..socket };
            self.state(&Record::Socket(socket));
            if socket.role != Role::Listener {
                open.push(socket);
            }
        }
        self.listeners.get_or_insert_default().extend(snapshot.listeners);
        open
    }

    /// Reads the kernel's counters; what they grew by was lost since they were read last.
    pub fn kernel_losses(&mut self, losses: &probe::KernelLosses, now: u64) {
        for (reason, count) in losses.iter() {
            let count = Count {
                events: count.events,
                bytes: count.bytes,
            };
            self.ledger.reading(reason, self.losses_read, count);
        }
        self.sink_losses(now);
    }

    /// Reads the sink's counters in the same way, and takes back what it could not tell the file.
    pub fn sink_losses(&mut self, now: u64) {
        for loss in self.shared.take_returned() {
            self.ledger.put_back(&loss);
        }
        let since = self.losses_read;
        self.ledger
            .reading(LossReason::DiskError, since, self.shared.disk_error.get());
        self.ledger
            .reading(LossReason::Overwritten, since, self.shared.overwritten.get());
        self.ledger
            .reading(LossReason::Limit, since, self.shared.over_limit.get());
        self.losses_read = now;
        let missing = self.ledger.missing();
        if missing > self.shared.missing.get() {
            // Whoever shows itself next does so anew.
            self.recent = [0; 4];
            if let Some(learner) = self.learner.as_ref().filter(|learner| learner.selective) {
                learner.lost();
            }
        }
        self.shared.missing.set(missing);
    }

    /// What time brings: clock records, blocks that are old enough, new parts. Called every few milliseconds.
    pub fn tick(&mut self, now: u64) {
        if self.clock.due(now) {
            self.event(&Record::Clock(sys::clocks()));
            self.live.prune(now);
            self.name_nameless();
            self.prune_cgroups();
            let events = self.live.take_not_kept();
            self.ledger
                .note(LossReason::MapFull, self.losses_read, Count { events, bytes: 0 });
        }
        self.shared.events.set(self.heard);
        self.shared.bytes.set(self.bytes);
        self.want_dump |= self.shared.want_state.take();
        // A dump is put together only when there is room for it and for the blocks before it.
        let room = self.outlets.file.as_ref().is_some_and(|file| file.has_room());
        let pause_over = now.saturating_sub(self.dumped) >= nanos(DUMP_PAUSE);
        let age = now.saturating_sub(self.part_begun);
        let full = self.part_blocks && self.plan.rotation.is_due(self.shared.part_written.get(), age);
        if room && (full || (pause_over && self.shared.want_part.take())) {
            self.hand_over_dump(Order::NewPart, now);
        } else if room && pause_over && self.want_dump && self.plan.ring.is_none() {
            self.hand_over_dump(Order::Append, now);
        }
        if self.opened != 0 && now.saturating_sub(self.opened) >= nanos(self.plan.block_age) {
            self.flush(now);
        }
    }

    fn prune_cgroups(&mut self) {
        if let Some(tree) = self.tree.as_ref().filter(|_| self.live.has_many_cgroups()) {
            let existing = tree.by_id();
            self.live.prune_cgroups(|id| existing.contains_key(&id));
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
        if let Some(spare) = self.shared.take_spare() {
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
                self.want_dump = false;
                self.part_begun = now;
                self.part_blocks = false;
                // The sink resets this when it begins the part; until then the old size must not ask for another one.
                self.shared.part_written.set(0);
            }
            Err(_) if order == Order::Append => self.want_dump = true,
            Err(_) => self.shared.want_part.make(),
        }
        self.dumped = now;
    }

    fn live_blocks(&self) -> Vec<RawBlock> {
        let mut builder = BlockBuilder::new(Class::State);
        let mut blocks = Vec::new();
        // The events that follow a dump of the memory ring reach back as far as the ring; otherwise they begin now.
        let now = sys::boot_ns();
        let since = now.saturating_sub(nanos(self.plan.ring.unwrap_or(Duration::ZERO)));
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
        }))
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
                    // The file has them: nothing to tell its readers.
                    Some(_) => self.not_printed.add(count),
                    None => self.ledger.note(LossReason::OutputStalled, block.first_time, count),
                }
            }
        }
    }

    /// The file's queue refused a batch: events are lost and counted, state waits, losses are told again.
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
        self.push_losses(now);
        self.shared.events.set(self.heard);
        self.shared.bytes.set(self.bytes);
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

    /// Events heard, and the bytes that went over sockets in them.
    pub fn heard(&self) -> Count {
        Count {
            events: self.heard,
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

/// The events of a block and the bytes that went over sockets in them; losses and clocks do not count.
pub fn event_count(block: &RawBlock) -> Count {
    let told = block.counts.get(Kind::Loss) + block.counts.get(Kind::Clock);
    Count {
        events: u64::from(block.records.saturating_sub(told)),
        bytes: block.data_bytes,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
