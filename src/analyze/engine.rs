//! The machine: batches of blocks in, rows out.
//!
//! Each batch goes through three steps: inflate and split by shard (a task per block), learn names and translated
//! addresses (one thread, little work), follow connections (a task per shard). The number of shards is fixed and
//! each shard sees its records in an order that each block says alone, those of one connection in file order, so the rows
//! are the same for any number of threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use rayon::ScopeFifo;
use rayon::prelude::*;

use super::cross_host::CrossHost;
use super::names::{Host, Pods, Run};
use super::nat::Nat;
use super::orphans::Lost;
use super::remarks::{self, Remarks, Subject};
use super::row::{Event, LossRow, Party, ProcessRow, Sink};
use super::selection::{Followed, KeySet, Span};
use super::shard::Shard;
use super::tasks::receive;
use crate::fetch::{CACHE_LINE, fetch};
use crate::format::block::{self, Class, Frame, RawBlock};
use crate::format::header::Header;
use crate::format::kind::Kind;
use crate::format::reader::{BlockRef, Reader, What};
use crate::format::record::{Layer, LossReason, Record};

/// Connections are split into this many parts, whatever the number of threads. Each has counters of its own, which should
/// stay in the cache together.
pub const SHARDS: usize = 8;
/// Of each block, the records of one connection are followed one after the other, for the caches' sake: connections of a
/// shard are told apart by so much.
const GROUPS: usize = 128;
/// Inflated bytes of one batch, about: one block of usual length, or several short ones. What is inflated should still be in
/// the cache when the shards read it.
pub const BATCH_BYTES: usize = 2 << 20;
/// The same where connections have an end on each of two hosts: a batch should hold what both saw at one time.
const MIXED_BATCH_BYTES: usize = 4 << 20;
/// Batches that are made ready while one is followed: with one alone, threads would wait at the end of each batch.
const BATCHES_AHEAD: usize = 2;
/// A shard jumps from record to record of its own, which the processor does not foresee: so many records ahead are
/// fetched,
const AHEAD: usize = 6;
/// and so many bytes of each, in which the heads of most messages lie.
const NEAR: usize = 6 * CACHE_LINE;
/// Bytes of a record, about.
const USUAL_LEN: usize = 256;
/// Who looks through a whole block fetches what is so many bytes further.
const FURTHER: u32 = 2048;
/// State blocks that are read together.
pub const STATE_BLOCKS: usize = 32;
/// Losses kept one by one; further ones are added to the last of their reason.
const MAX_LOSSES: usize = 65_536;

/// Where the records of a block are.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// In a file.
    Stored(BlockRef<'a>),
    /// In memory.
    Raw(&'a RawBlock),
}

/// A block of one of the captures.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub source: Source<'a>,
    /// As [`Engine::host`] gave it.
    pub host: u16,
    /// Number of the file, for losses.
    pub file: usize,
}

/// Which records of a block are followed.
#[derive(Clone, Copy)]
pub enum Take<'a> {
    All,
    /// Of those about sockets, those of these connections; of the rest, all. With the place of the block.
    Of(&'a Followed, usize),
    /// None: the block is not read. It counts as one that passed, so that what waits for a number of blocks waits as long
    /// as when all are read.
    Nothing,
}

/// A block and what is followed of it.
#[derive(Clone, Copy)]
pub struct Taken<'a> {
    pub block: Block<'a>,
    pub take: Take<'a>,
}

impl<'a> Taken<'a> {
    fn all(block: &Block<'a>) -> Self {
        Taken {
            block: *block,
            take: Take::All,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self.take, Take::Nothing)
    }
}

/// What was read, over all batches.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub blocks: u64,
    /// Blocks that were read before their turn, to decide which blocks to read.
    pub blocks_ahead: u64,
    pub records: u64,
    /// Inflated bytes.
    pub raw_bytes: u64,
    /// Blocks that could not be inflated, in words.
    pub damage: Vec<(usize, String)>,
    /// What packet captures hold besides connections, by file.
    pub remarks: BTreeMap<usize, Remarks>,
}

/// What exactly a loss consists of, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Packets(Subject),
    Damage(What),
    /// Data of another layer than the wire, which no protocol is read from.
    OtherLayer,
}

impl Cause {
    fn detail(self) -> String {
        match self {
            Cause::Packets(subject) => remarks::detail(subject),
            Cause::Damage(What::CutBlock) => "block cut off at the end of the file".to_string(),
            Cause::Damage(What::NotABlock) => "bytes that are no block, of an unknown number of records".to_string(),
            Cause::Damage(_) => "block".to_string(),
            Cause::OtherLayer => "data of another layer than the wire".to_string(),
        }
    }
}

/// A loss as it is kept.
#[derive(Debug, Clone, Copy)]
struct KeptLoss {
    since: u64,
    until: u64,
    reason: LossReason,
    cause: Option<Cause>,
    events: u64,
    bytes: u64,
    host: u16,
    /// No such file for what shards find missing.
    file: usize,
    /// No record says so.
    found: bool,
}

/// The offsets of one block's records, by who reads them.
#[derive(Default)]
struct Split {
    /// About a socket: shard by shard, in each group by group, and in those in the order of the block.
    sockets: Vec<u32>,
    /// Where in there each shard's end.
    ends: [usize; SHARDS],
    /// Of names, in the order of the block.
    general: Vec<u32>,
    /// Sockets that are closed, where some connections are translated.
    closed: Vec<u64>,
    records: u64,
    /// Records, and rests of blocks, that do not have the shape they should have.
    malformed: u64,
    /// Records of kinds of later versions.
    unknown: u64,
}

impl Split {
    /// What this shard reads.
    fn of(&self, shard: usize) -> &[u32] {
        let start = shard.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.sockets[start..self.ends[shard]]
    }

    /// Takes the offsets of records about sockets, each with its group of all shards' groups.
    fn arrange(&mut self, records: &[(u32, u32)]) {
        let mut next = [0; SHARDS * GROUPS];
        for (_, group) in records {
            next[*group as usize] += 1;
        }
        let mut all = 0;
        for (shard, groups) in next.chunks_exact_mut(GROUPS).enumerate() {
            for group in groups {
                all += std::mem::replace(group, all);
            }
            self.ends[shard] = all;
        }
        self.sockets.resize(all, 0);
        for (at, group) in records {
            let place = &mut next[*group as usize];
            self.sockets[*place] = *at;
            *place += 1;
        }
    }
}

/// Follows any number of hosts at once.
pub struct Engine<S> {
    shards: Vec<Shard<S>>,
    hosts: Vec<Host>,
    nat: Nat,
    cross_host: CrossHost,
    /// Of each host, the recording and the boot of the machine.
    recordings: Vec<u64>,
    boots: Vec<String>,
    losses: Vec<KeptLoss>,
    /// By file: events of the next loss `not_understood` that remarks have explained.
    explained: BTreeMap<usize, u64>,
    names_known: bool,
    pods: Option<Arc<Pods>>,
    buffers: Vec<Vec<u8>>,
    pub totals: Totals,
}

impl<S: Sink> Engine<S> {
    /// An engine whose shards give their rows to the sinks that `make` makes.
    pub fn new(mut make: impl FnMut(usize) -> S) -> Self {
        Engine {
            shards: (0..SHARDS).map(|shard| Shard::new(make(shard))).collect(),
            hosts: Vec::new(),
            nat: Nat::default(),
            cross_host: CrossHost::default(),
            recordings: Vec::new(),
            boots: Vec::new(),
            losses: Vec::new(),
            explained: BTreeMap::new(),
            names_known: false,
            pods: None,
            buffers: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// The host of a capture. The parts of one recording have one host.
    pub fn host(&mut self, header: &Header) -> u16 {
        let place = self
            .recordings
            .iter()
            .position(|known| *known == header.recording)
            .unwrap_or_else(|| {
                let number = self.hosts.len();
                let is_same = |known: &String| !header.boot_id.is_empty() && *known == header.boot_id;
                let mut host = Host::new(&header.hostname, header.clock);
                host.machine = self.boots.iter().position(is_same).unwrap_or(number);
                host.use_pods(self.pods.clone());
                self.hosts.push(host);
                self.boots.push(header.boot_id.clone());
                self.recordings.push(header.recording);
                number
            });
        place as u16
    }

    /// Names pods and addresses that the captures do not name by this list.
    pub fn use_pods(&mut self, pods: Pods) {
        self.pods = Some(Arc::new(pods));
        for host in &mut self.hosts {
            host.use_pods(self.pods.clone());
        }
    }

    /// What is known of the hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The sinks, in shard order.
    pub fn sinks(&mut self) -> impl Iterator<Item = &mut S> {
        self.shards.iter_mut().map(|shard| &mut shard.sink)
    }

    /// No exchange that began before this (UTC, ns) is still to come from what was fed so far.
    pub fn oldest_exchange(&self) -> u64 {
        let oldest = self.shards.iter().map(|shard| shard.oldest_exchange(&self.hosts));
        oldest.min().unwrap_or(u64::MAX)
    }

    /// Counts what the reader of a file, which has this number, could not read: the time is that between the blocks around it.
    pub fn lose_damaged(&mut self, host: u16, file: usize, reader: &Reader<'_>) {
        let events = reader.blocks().iter().filter(|stored| stored.class() == Class::Events);
        let mut blocks = events.peekable();
        let mut since = reader.header().clock.boot;
        for damage in reader.damage() {
            let is_lost = matches!(damage.what, What::Block | What::CutBlock | What::NotABlock);
            if !is_lost {
                continue;
            }
            while let Some(stored) = blocks.next_if(|stored| stored.offset() < damage.offset) {
                since = since.max(stored.last_time());
            }
            let until = blocks.peek().map_or(since, |stored| stored.first_time().max(since));
            let loss = KeptLoss {
                since,
                until,
                reason: LossReason::Damaged,
                cause: Some(Cause::Damage(damage.what)),
                events: damage.records.into(),
                bytes: 0,
                host,
                file,
                found: true,
            };
            keep_loss(&mut self.losses, loss);
            if let Some(host) = self.hosts.get_mut(usize::from(host)) {
                host.note_unreadable(since, None);
            }
        }
    }

    /// Learns from one record of a host, ahead of the block that it is in.
    pub fn learn_ahead(&mut self, host: u16, record: &Record<'_>) {
        if let Some(host) = self.hosts.get_mut(usize::from(host)) {
            host.learn(record);
        }
    }

    /// Learns all names before anything else, from state blocks. What was resolved late in the capture (the name of a
    /// pod that was gone by then) then serves its beginning too. Afterwards `feed` does not learn names again.
    pub fn learn_names(&mut self, state: &[Block<'_>]) {
        self.names_known = true;
        let hosts = self.hosts.len();
        for batch in state.chunks(STATE_BLOCKS) {
            let mut buffers = std::mem::take(&mut self.buffers);
            buffers.resize_with(batch.len(), Vec::new);
            let raws: Vec<_> = batch
                .par_iter()
                .zip(buffers)
                .map(|(b, buffer)| inflate(b, buffer))
                .collect();
            for (block, raw) in batch.iter().zip(&raws) {
                let Ok(raw) = raw else { continue };
                let host = &mut self.hosts[usize::from(block.host)];
                for record in block::records(raw.bytes()).flatten() {
                    host.learn(&record);
                    if let Record::Socket(socket) = &record {
                        let is_translated = self.nat.learn(block.host, socket);
                        let key = self.nat.shard_key(block.host, socket.id);
                        match is_translated {
                            _ if hosts == 1 => {}
                            true => self.cross_host.add(key),
                            false => self.cross_host.learn(block.host, key),
                        }
                    }
                }
            }
            self.keep_buffers(raws);
        }
    }

    /// Adds to connections, as the upper halves of their sockets' ids, what their other ends are known by.
    pub fn complete_keys(&self, keys: &mut BTreeSet<u32>) {
        self.nat.complete(keys);
    }

    /// The upper halves of the ids of sockets whose connections are translated.
    pub fn translated_keys(&self) -> KeySet {
        self.nat.keys().collect()
    }

    /// Of these connections, by the upper halves of their sockets' ids, the beginning is not going to be given: they are
    /// joined in their middle.
    pub fn join_in_the_middle(&mut self, keys: KeySet) {
        let keys = Arc::new(keys);
        for host in &mut self.hosts {
            host.joined = Arc::clone(&keys);
        }
    }

    /// Says of each connection how much of it lies within this span.
    pub fn count_within(&mut self, span: Span) {
        for shard in &mut self.shards {
            shard.span = Some(span);
        }
    }

    /// Connections, by the upper halves of their sockets' ids, of which an exchange that began before this (UTC, ns) may
    /// still be to come. With `settled`, also those of which it is not known yet what they are.
    pub fn unfinished(&self, to: u64, settled: bool) -> BTreeSet<u32> {
        let mut keys = BTreeSet::new();
        for shard in &self.shards {
            shard.unfinished(&self.hosts, to, settled, &mut keys);
        }
        self.complete_keys(&mut keys);
        keys
    }

    /// Does some work with an engine that knows what this one knows and has followed nothing yet. What it learns, this one
    /// learns; its rows and losses go with it.
    pub fn scout<T: Sink, R>(&mut self, make: impl FnMut(usize) -> T, work: impl FnOnce(&mut Engine<T>) -> R) -> R {
        let mut scout = Engine {
            hosts: std::mem::take(&mut self.hosts),
            nat: std::mem::take(&mut self.nat),
            cross_host: std::mem::take(&mut self.cross_host),
            names_known: self.names_known,
            buffers: std::mem::take(&mut self.buffers),
            ..Engine::new(make)
        };
        let result = work(&mut scout);
        self.hosts = scout.hosts;
        self.nat = scout.nat;
        self.cross_host = scout.cross_host;
        self.buffers = scout.buffers;
        result
    }

    /// Takes a batch of blocks, in the order of their files.
    pub fn feed(&mut self, batch: &[Block<'_>]) {
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.resize_with(batch.len(), Vec::new);
        let blocks = batch.par_iter().zip(buffers);
        let ready = blocks
            .map(|(block, buffer)| prepare(Taken::all(block), buffer))
            .collect();
        self.follow(ready);
    }

    /// Inflated bytes of one batch of [`Engine::feed_all`], about.
    pub fn batch_bytes(&self) -> usize {
        match self.cross_host.is_empty() {
            true => BATCH_BYTES,
            false => MIXED_BATCH_BYTES,
        }
    }

    /// Takes batches one after the other. `after` is told after each of them how many were taken. Blocks of the next
    /// batches are made ready meanwhile: a thread that has nothing left of this batch has those to do.
    pub fn feed_all<E: Send>(
        &mut self,
        batches: &[&[Taken<'_>]],
        mut after: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        rayon::in_place_scope_fifo(|scope| {
            let mut to_prepare = batches.iter();
            let mut started = VecDeque::with_capacity(BATCHES_AHEAD + 1);
            for taken in 1..=batches.len() {
                while started.len() <= BATCHES_AHEAD
                    && let Some(batch) = to_prepare.next()
                {
                    started.push_back(Preparing::start(scope, batch, &mut self.buffers));
                }
                let ready = started.pop_front().map(Preparing::wait);
                self.follow(ready.unwrap_or_default());
                after(self, taken)?;
            }
            Ok(())
        })
    }

    /// Learns names from a batch, then follows its connections.
    fn follow(&mut self, mut batch: Vec<Ready<'_>>) {
        if batch.iter().all(|ready| ready.taken.is_nothing()) {
            let hosts = &self.hosts;
            for shard in &mut self.shards {
                for ready in &batch {
                    shard.end_block(hosts, last_event(&ready.taken.block, hosts));
                }
            }
            return;
        }
        let mut general = Vec::new();
        for (number, Ready { taken, raw, split, .. }) in batch.iter().enumerate() {
            if taken.is_nothing() {
                continue;
            }
            let block = &taken.block;
            self.totals.blocks += 1;
            self.totals.records += split.records;
            for (reason, events) in [
                (LossReason::Malformed, split.malformed),
                (LossReason::NotUnderstood, split.unknown),
            ] {
                if events > 0 {
                    keep_loss(&mut self.losses, unread(block, reason, events));
                }
            }
            match raw {
                Ok(raw) => {
                    self.totals.raw_bytes += raw.bytes().len() as u64;
                    self.learn((number, block), raw.bytes(), &split.general, &mut general);
                }
                Err(why) => {
                    self.totals.damage.push((block.file, why.clone()));
                    if let Source::Stored(stored) = block.source {
                        let loss = KeptLoss {
                            cause: Some(Cause::Damage(What::Block)),
                            bytes: stored.data_bytes(),
                            ..unread(block, LossReason::Damaged, stored.records().into())
                        };
                        keep_loss(&mut self.losses, loss);
                        let host = &mut self.hosts[usize::from(block.host)];
                        host.note_unreadable(stored.first_time(), Some(stored.sockets()));
                    }
                }
            }
        }
        self.give_events(&general);
        let (hosts, nat) = (&self.hosts, &self.nat);
        if !nat.is_empty() {
            // Where a connection is followed depends on what was just learnt.
            batch.par_iter_mut().for_each(|Ready { taken, raw, split, .. }| {
                *split = split_by_shard(raw.as_ref().map_or(&[], Raw::bytes), taken, nat);
            });
        }
        let cross_host = &self.cross_host;
        let mixed = if cross_host.is_empty() {
            Vec::new()
        } else {
            in_time_order(&batch, hosts)
        };
        self.shards
            .par_iter_mut()
            .enumerate()
            .with_max_len(1)
            .for_each(|(number, shard)| {
                if !mixed.is_empty() {
                    return follow_mixed(shard, number, &batch, &mixed, (hosts, nat, cross_host));
                }
                for (block, ready) in batch.iter().enumerate() {
                    let Ok(raw) = &ready.raw else { continue };
                    let (bytes, records) = (raw.bytes(), ready.split.of(number));
                    for (place, at) in records.iter().enumerate() {
                        if let Some(next) = records.get(place + AHEAD) {
                            fetch_near(bytes, *next);
                        }
                        follow_one(shard, ready, (bytes, block, *at), (hosts, nat));
                    }
                    shard.end_block(hosts, last_event(&ready.taken.block, hosts));
                }
            });
        for ready in &mut batch {
            let block = &ready.taken.block;
            match *ready.unreadable.get_mut() {
                0 => {}
                events => keep_loss(&mut self.losses, unread(block, LossReason::Malformed, events)),
            }
            match (*ready.other_layers.0.get_mut(), *ready.other_layers.1.get_mut()) {
                (0, _) => {}
                (events, bytes) => {
                    let loss = KeptLoss {
                        cause: Some(Cause::OtherLayer),
                        bytes,
                        ..unread(block, LossReason::NotUnderstood, events)
                    };
                    keep_loss(&mut self.losses, loss);
                }
            }
        }
        // Where the whole capture is known beforehand, what is translated is bounded already, and stays: a late record of
        // a closed socket goes where the earlier ones went, whatever the batches are.
        if !self.names_known {
            for Ready { taken, split, .. } in &batch {
                for id in &split.closed {
                    self.nat.close(taken.block.host, *id);
                }
            }
        }
        // Where a connection is followed cannot change once it is.
        self.nat.forget_unpaired();
        self.keep_buffers(batch.into_iter().map(|ready| ready.raw));
    }

    /// The captures are over: all that is open gets its row. Returns the sinks, in shard order. `files` are the names
    /// of the files, by their numbers.
    pub fn finish(mut self, files: &[String]) -> (Vec<S>, Totals) {
        let hosts = &self.hosts;
        self.shards.par_iter_mut().for_each(|shard| shard.finish(hosts));
        let mut lost: BTreeMap<u16, Lost> = BTreeMap::new();
        for (host, of_shard) in self.shards.iter().flat_map(Shard::lost) {
            let of_host = lost.entry(*host);
            of_host
                .and_modify(|so_far| so_far.merge(*of_shard))
                .or_insert(*of_shard);
        }
        for (host, lost) in lost {
            let loss = KeptLoss {
                since: lost.since,
                until: lost.until,
                reason: LossReason::NoSocket,
                cause: None,
                events: lost.events,
                bytes: lost.bytes,
                host,
                file: usize::MAX,
                found: true,
            };
            keep_loss(&mut self.losses, loss);
        }
        if let Some(first) = self.shards.first_mut() {
            for (number, host) in (0..).zip(hosts) {
                processes(host, &mut first.sink);
                let (since, until) = host.span();
                let not_kept = KeptLoss {
                    since,
                    until,
                    reason: LossReason::MapFull,
                    cause: None,
                    found: true,
                    events: host.not_kept,
                    bytes: 0,
                    host: number,
                    file: usize::MAX,
                };
                self.losses.extend((host.not_kept > 0).then_some(not_kept));
            }
            for loss in &self.losses {
                let Some(host) = hosts.get(usize::from(loss.host)) else {
                    continue;
                };
                let detail = loss.cause.map(Cause::detail);
                first.sink.loss(&LossRow {
                    since: host.utc(loss.since),
                    until: host.utc(loss.until),
                    reason: loss.reason,
                    detail: detail.as_deref().unwrap_or_default(),
                    events: loss.events,
                    bytes: loss.bytes,
                    hostname: &host.hostname,
                    file: files.get(loss.file).map_or("", String::as_str),
                    found: loss.found,
                });
            }
        }
        (self.shards.into_iter().map(|shard| shard.sink).collect(), self.totals)
    }

    fn keep_buffers<'a>(&mut self, raws: impl IntoIterator<Item = Result<Raw<'a>, String>>) {
        self.buffers.extend(raws.into_iter().filter_map(|raw| match raw {
            Ok(Raw::Inflated(buffer)) => Some(buffer),
            _ => None,
        }));
    }

    /// Gives events that belong to no shard, now that the names of their batch are known.
    fn give_events(&mut self, events: &[GeneralEvent<'_>]) {
        let Some(first) = self.shards.first_mut() else { return };
        for GeneralEvent { host, place, record } in events {
            let host = &self.hosts[usize::from(*host)];
            let party = match record {
                Record::Exit(exit) => host.party(exit.pid, 0, exit.time),
                _ => Party::default(),
            };
            first.sink.event(&Event {
                time: host.utc(record.time()),
                place: *place,
                record,
                socket: None,
                party: &party,
            });
        }
    }

    /// Takes names, translated addresses, losses and remarks. What of these the sink is given as an event goes to `events`.
    fn learn<'b>(
        &mut self,
        (number, block): (usize, &Block<'_>),
        bytes: &'b [u8],
        general: &[u32],
        events: &mut Vec<GeneralEvent<'b>>,
    ) {
        for at in general {
            let Some(record) = record_at(bytes, *at) else {
                // Those about sockets are counted where their connections are followed.
                if frame_at(bytes, *at).is_none_or(|frame| frame.socket_id().is_none()) {
                    keep_loss(&mut self.losses, unread(block, LossReason::Malformed, 1));
                }
                continue;
            };
            let is_event = matches!(
                record,
                Record::Process(_) | Record::Exit(_) | Record::Loss(_) | Record::Remark(_)
            );
            if S::EVENTS && is_event {
                events.push(GeneralEvent {
                    host: block.host,
                    place: (number, *at),
                    record,
                });
            }
            match &record {
                Record::Loss(loss) => {
                    let mut events = loss.events;
                    if loss.reason == LossReason::NotUnderstood
                        && let Some(explained) = self.explained.remove(&block.file)
                    {
                        events = events.saturating_sub(explained);
                        if events == 0 {
                            continue;
                        }
                    }
                    let kept = KeptLoss {
                        since: loss.since,
                        until: loss.time,
                        reason: loss.reason,
                        cause: None,
                        events,
                        bytes: loss.bytes,
                        host: block.host,
                        file: block.file,
                        found: false,
                    };
                    keep_loss(&mut self.losses, kept);
                }
                Record::Remark(remark) => {
                    let subject = Subject::new(remark.about, remark.number);
                    let remarks = self.totals.remarks.entry(block.file).or_default();
                    remarks.add(subject, remark.events);
                    if remark.about.is_cause() {
                        let explained = self.explained.entry(block.file).or_default();
                        *explained = explained.saturating_add(remark.events);
                        let kept = KeptLoss {
                            since: remark.since,
                            until: remark.time,
                            reason: LossReason::NotUnderstood,
                            cause: Some(Cause::Packets(subject)),
                            events: remark.events,
                            bytes: 0,
                            host: block.host,
                            file: block.file,
                            found: false,
                        };
                        keep_loss(&mut self.losses, kept);
                    }
                }
                record if self.names_known && record.is_state() => {}
                record => {
                    self.hosts[usize::from(block.host)].learn(record);
                    if let Record::Socket(socket) = record {
                        self.nat.learn(block.host, socket);
                    }
                }
            }
        }
    }
}

/// A record of a batch that belongs to no shard, for sinks that are given events.
struct GeneralEvent<'a> {
    host: u16,
    /// As in [`Event::place`].
    place: (usize, u32),
    record: Record<'a>,
}

/// The bytes of a block.
enum Raw<'a> {
    Inflated(Vec<u8>),
    Borrowed(&'a [u8]),
}

impl Raw<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Raw::Inflated(bytes) => bytes,
            Raw::Borrowed(bytes) => bytes,
        }
    }
}

/// A block that can be followed.
struct Ready<'a> {
    taken: Taken<'a>,
    raw: Result<Raw<'a>, String>,
    split: Split,
    /// Records about sockets that could not be read.
    unreadable: AtomicU64,
    /// Data of other layers than the wire: records, and their bytes.
    other_layers: (AtomicU64, AtomicU64),
}

/// A batch whose blocks are made ready by whichever threads have time.
struct Preparing<'a> {
    blocks: usize,
    done: Receiver<(usize, Ready<'a>)>,
}

impl<'a> Preparing<'a> {
    /// Starts a task per block, with what is there of `buffers`.
    fn start<'scope>(scope: &ScopeFifo<'scope>, batch: &[Taken<'a>], buffers: &mut Vec<Vec<u8>>) -> Self
    where
        'a: 'scope,
    {
        let (tell, done) = channel();
        for (place, taken) in batch.iter().copied().enumerate() {
            let tell = tell.clone();
            // Nobody listens where writing failed and the rest is not wanted.
            if taken.is_nothing() {
                let _ = tell.send((place, prepare(taken, Vec::new())));
                continue;
            }
            let buffer = buffers.pop().unwrap_or_default();
            scope.spawn_fifo(move |_| {
                let _ = tell.send((place, prepare(taken, buffer)));
            });
        }
        let blocks = batch.len();
        Preparing { blocks, done }
    }

    /// The blocks in their order. Meanwhile this thread does what is to be done, of this batch or another.
    fn wait(self) -> Vec<Ready<'a>> {
        let mut ready = Vec::with_capacity(self.blocks);
        while ready.len() < self.blocks {
            // Without a sender a task has panicked; the scope passes that on.
            let Some(one) = receive(&self.done) else { break };
            ready.push(one);
        }
        ready.sort_unstable_by_key(|(place, _)| *place);
        ready.into_iter().map(|(_, block)| block).collect()
    }
}

/// Inflates a block and splits it.
fn prepare(taken: Taken<'_>, buffer: Vec<u8>) -> Ready<'_> {
    if taken.is_nothing() {
        return Ready {
            taken,
            raw: Ok(Raw::Borrowed(&[])),
            split: Split::default(),
            unreadable: AtomicU64::new(0),
            other_layers: Default::default(),
        };
    }
    let raw = inflate(&taken.block, buffer);
    // Translated connections are known only when this batch's turn comes.
    let split = split_by_shard(raw.as_ref().map_or(&[], Raw::bytes), &taken, &Nat::default());
    Ready {
        taken,
        raw,
        split,
        unreadable: AtomicU64::new(0),
        other_layers: Default::default(),
    }
}

fn inflate<'a>(block: &Block<'a>, mut buffer: Vec<u8>) -> Result<Raw<'a>, String> {
    match block.source {
        Source::Raw(raw) => Ok(Raw::Borrowed(&raw.bytes)),
        Source::Stored(stored) => match stored.inflate(&mut buffer) {
            Ok(()) => Ok(Raw::Inflated(buffer)),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[inline]
fn frame_at(bytes: &[u8], at: u32) -> Option<Frame<'_>> {
    block::frames(bytes.get(at as usize..)?).next()?.ok()
}

/// Gives a shard one record about a socket.
#[inline]
fn follow_one<S: Sink>(
    shard: &mut Shard<S>,
    ready: &Ready<'_>,
    (bytes, block, at): (&[u8], usize, u32),
    (hosts, nat): (&[Host], &Nat),
) {
    let host = ready.taken.block.host;
    if let Some(data) = frame_at(bytes, at).and_then(|frame| frame.data()) {
        if S::EVENTS {
            shard.event((host, &Record::Data(data)), (block, at), hosts, nat);
        }
        if data.layer != Layer::Wire {
            // Their positions are not those of the socket's streams.
            ready.other_layers.0.fetch_add(1, Ordering::Relaxed);
            ready.other_layers.1.fetch_add(data.len.into(), Ordering::Relaxed);
            return;
        }
        shard.data(host, &data, hosts);
    } else if let Some(mut record) = record_at(bytes, at) {
        if S::EVENTS {
            shard.event((host, &record), (block, at), hosts, nat);
        }
        nat.translate(host, &mut record);
        shard.record(host, &record, hosts);
    } else {
        ready.unreadable.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fetches what is read soon.
#[inline]
fn fetch_near(bytes: &[u8], at: u32) {
    if let Some(near) = bytes.get(at as usize..).and_then(|rest| rest.first_chunk::<NEAR>()) {
        fetch(near);
    }
}

fn record_at(bytes: &[u8], at: u32) -> Option<Record<'_>> {
    block::records(bytes.get(at as usize..)?).next()?.ok()
}

/// Follows the blocks of several hosts record by record, where connections have an end on each of two.
fn follow_mixed<S: Sink>(
    shard: &mut Shard<S>,
    number: usize,
    batch: &[Ready<'_>],
    mixed: &[Mixed],
    (hosts, nat, cross_host): (&[Host], &Nat, &CrossHost),
) {
    for Mixed { block: n, at, .. } in mixed.iter().filter(|record| record.shard == number) {
        let ready = &batch[*n];
        let bytes = ready.raw.as_ref().map_or(&[][..], Raw::bytes);
        let host = ready.taken.block.host;
        if let Some(frame) = frame_at(bytes, *at).filter(|frame| frame.kind == Some(Kind::Socket))
            && let Some(id) = frame.socket_id()
            && cross_host.has_both_ends(nat.shard_key(host, id))
        {
            shard.expect_other_end(host, id);
        }
        follow_one(shard, ready, (bytes, *n, *at), (hosts, nat));
    }
    for ready in batch {
        shard.end_block(hosts, last_event(&ready.taken.block, hosts));
    }
}

/// A record of one of several blocks. By time, then as in the file.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Mixed {
    /// UTC, ns.
    time: u64,
    /// Number in the batch.
    block: usize,
    at: u32,
    shard: usize,
}

/// The socket records of all blocks by UTC time: what two hosts saw at the same time is read together, as far as their
/// clocks agree.
fn in_time_order(batch: &[Ready<'_>], hosts: &[Host]) -> Vec<Mixed> {
    let mut all = Vec::new();
    for (block, Ready { taken, raw, split, .. }) in batch.iter().enumerate() {
        let of = &taken.block;
        let bytes = raw.as_ref().map_or(&[][..], Raw::bytes);
        for shard in 0..SHARDS {
            all.extend(split.of(shard).iter().map(|at| Mixed {
                time: hosts[usize::from(of.host)].utc(frame_at(bytes, *at).map_or(0, |frame| frame.time())),
                block,
                at: *at,
                shard,
            }));
        }
    }
    all.sort_unstable();
    all
}

fn split_by_shard(bytes: &[u8], taken: &Taken<'_>, nat: &Nat) -> Split {
    let host = taken.block.host;
    let mut split = Split::default();
    let mut sockets = Vec::with_capacity(bytes.len() / USUAL_LEN);
    for frame in block::frames(bytes) {
        let Ok(frame) = frame else {
            split.malformed += 1;
            break;
        };
        split.records += 1;
        let at = frame.at as u32;
        fetch_near(bytes, at + FURTHER);
        match frame.kind {
            None => split.unknown += 1,
            Some(kind) => {
                let is_general = !matches!(kind, Kind::Data | Kind::Connect | Kind::Close | Kind::Owner);
                let is_followed = |id: &u64| match taken.take {
                    Take::All => true,
                    Take::Of(followed, place) => followed.has((*id >> 32) as u32, kind, place),
                    Take::Nothing => false,
                };
                let socket = frame.socket_id();
                if let Some(id) = socket.filter(is_followed) {
                    let key = nat.shard_key(host, id) as usize;
                    let group = key % SHARDS * GROUPS + key / SHARDS % GROUPS;
                    sockets.push((at, group as u32));
                    if kind == Kind::Close && !nat.is_empty() {
                        split.closed.push(id);
                    }
                } else if socket.is_none() && !is_general {
                    // Too short to say which socket it is about.
                    split.malformed += 1;
                }
                if is_general {
                    split.general.push(at);
                }
            }
        }
    }
    split.arrange(&sockets);
    split
}

/// Records of a block that were not read.
fn unread(block: &Block<'_>, reason: LossReason, events: u64) -> KeptLoss {
    let (since, until) = match block.source {
        Source::Stored(stored) => (stored.first_time(), stored.last_time()),
        Source::Raw(raw) => (raw.first_time, raw.last_time),
    };
    KeptLoss {
        since,
        until,
        reason,
        cause: None,
        events,
        bytes: 0,
        host: block.host,
        file: block.file,
        found: true,
    }
}

/// The time of a block's last event: UTC, ns; 0 for state, which is told of at any time.
fn last_event(block: &Block<'_>, hosts: &[Host]) -> u64 {
    let last = match block.source {
        Source::Stored(stored) if stored.class() == Class::Events => stored.last_time(),
        Source::Raw(raw) if raw.class == Class::Events => raw.last_time,
        _ => return 0,
    };
    hosts[usize::from(block.host)].utc(last)
}

fn keep_loss(losses: &mut Vec<KeptLoss>, loss: KeptLoss) {
    if losses.len() >= MAX_LOSSES
        && let Some(last) = losses.iter_mut().rev().find(|kept| {
            (kept.reason, kept.cause, kept.host, kept.found) == (loss.reason, loss.cause, loss.host, loss.found)
        })
    {
        last.until = last.until.max(loss.until);
        last.events = last.events.saturating_add(loss.events);
        last.bytes = last.bytes.saturating_add(loss.bytes);
        return;
    }
    losses.push(loss);
}

fn processes<S: Sink>(host: &Host, sink: &mut S) {
    for Run {
        program,
        began,
        ended,
        status,
    } in host.programs()
    {
        let party: Party = host.party(program.pid, program.cgroup, program.began);
        let exited = status.filter(|status| status & 0x7f == 0);
        let killed = status.filter(|status| status & 0x7f != 0);
        sink.process(&ProcessRow {
            start: host.utc(began),
            exit: ended.map(|ended| host.utc(ended)),
            origin: program.origin,
            pid: program.pid,
            ppid: program.ppid,
            pid_in_ns: program.pid_in_ns,
            uid: program.uid,
            comm: &program.comm,
            exe: &program.exe,
            argv: &program.argv,
            argv_len: program.argv_len,
            exit_code: exited.map(|status| (status >> 8) as u8),
            signal: killed.map(|status| (status & 0x7f) as u8),
            party: &party,
        });
    }
}

#[cfg(test)]
mod tests;
