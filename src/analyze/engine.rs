//! The machine: batches of blocks in, rows out.
//!
//! Each batch goes through three steps: inflate and split by shard (a task per block), learn names and translated
//! addresses (one thread, little work), follow connections (a task per shard). The number of shards is fixed and
//! each shard sees its records in an order that each block says alone, those of one connection in file order, so the rows
//! are the same for any number of threads. Here are the steps in order; the files beside it have one of them each.

mod blocks;
mod follow;
mod learn;
mod losses;
mod prepare;
mod split;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rayon::prelude::*;

use self::blocks::last_event;
pub use self::blocks::{Block, Source, Take, Taken};
use self::follow::{follow_in_file_order, follow_mixed, in_time_order};
pub use self::learn::STATE_BLOCKS;
use self::losses::{Cause, KeptLoss, keep_loss, unread};
use self::prepare::{Preparing, Raw, Ready, prepare};
use self::split::{SHARDS, split_by_shard};
use super::cross_host::CrossHost;
use super::names::{Host, Pods, Run};
use super::nat::Nat;
use super::orphans::Lost;
use super::remarks::Remarks;
use super::row::{LossRow, Party, ProcessRow, Sink};
use super::selection::{KeySet, Span};
use super::shard::Shard;
use crate::format::header::Header;
use crate::format::reader::What;
use crate::format::record::LossReason;

/// Inflated bytes of one batch, about: one block of usual length, or several short ones. What is inflated should still be in
/// the cache when the shards read it.
pub const BATCH_BYTES: usize = 2 << 20;
/// The same where connections have an end on each of two hosts: a batch should hold what both saw at one time.
const MIXED_BATCH_BYTES: usize = 4 << 20;
/// Batches that are made ready while one is followed: with one alone, threads would wait at the end of each batch.
const BATCHES_AHEAD: usize = 2;

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
                        host.note_lost(stored.first_time(), stored.last_time());
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
                follow_in_file_order(shard, number, &batch, (hosts, nat));
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
