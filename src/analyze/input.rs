//! Opens captures and feeds their blocks to the engine in time order: files of one host, rotated parts, files of
//! several hosts, packet captures.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::engine::{BATCH_BYTES, Block, Engine, Source};
use super::packets;
use super::row::{CaptureFacts, Sink};
use crate::format::block::{self, Class};
use crate::format::header::Header;
use crate::format::reader::{BlockRef, Reader};
use crate::format::record::{Endpoint, Record};
pub use crate::mapped::Mapped;

/// What is told after each batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Compressed bytes read so far, and in all.
    pub read: u64,
    pub total: u64,
}

/// A capture file that was understood, and its place among the files.
pub struct Capture<'a> {
    pub reader: Reader<'a>,
    pub file: usize,
    host: u16,
}

/// Which events are wanted. Blocks that can hold none of them are not read; blocks that may are read whole, so rows
/// still have to be chosen.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// UTC, ns.
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// Either end of a connection; any of them.
    pub ports: Vec<u16>,
    pub pids: Vec<u32>,
}

/// Exchanges that began in the window are followed so far beyond its end, ns.
const TAIL_NS: u64 = 10_000_000_000;
/// With more connections than this, most blocks hold one of them.
const MAX_WANTED_KEYS: usize = 4096;

impl Wanted {
    /// Whether a block may hold something of it. `keys` are those of [`Wanted::keys`].
    fn may_be_in(&self, stored: &BlockRef<'_>, header: &Header, keys: Option<&BTreeSet<u32>>) -> bool {
        let boot = |utc: u64| {
            header
                .clock
                .boot
                .saturating_add_signed(utc.wrapping_sub(header.clock.realtime) as i64)
        };
        let from = self.from.map_or(0, boot);
        let to = self.to.map_or(u64::MAX, |to| boot(to.saturating_add(TAIL_NS)));
        if is_state(stored) {
            return true;
        }
        let of_sockets = || keys.is_none_or(|keys| keys.iter().any(|key| stored.sockets().may_contain(*key)));
        let of_pids = || self.pids.iter().any(|pid| stored.pids().may_contain(*pid));
        stored.overlaps(from, to) && (of_sockets() || of_pids())
    }

    /// The connections that it is about, by the upper half of their sockets' ids; `None` for all.
    fn keys(&self, state: &[Block<'_>]) -> Option<BTreeSet<u32>> {
        if self.ports.is_empty() && self.pids.is_empty() {
            return None;
        }
        let mut keys = BTreeSet::new();
        let mut of_pids = BTreeSet::new();
        let mut buffer = Vec::new();
        for block in state {
            let Source::Stored(stored) = block.source else { continue };
            if stored.inflate(&mut buffer).is_err() {
                continue;
            }
            for record in block::records(&buffer).flatten() {
                match record {
                    Record::Socket(socket) => {
                        let port = |end: &Endpoint| self.ports.contains(&end.port);
                        if self.ports.is_empty() || port(&socket.local) || port(&socket.remote) {
                            keys.insert((socket.id >> 32) as u32);
                        }
                        if self.pids.contains(&socket.pid) {
                            of_pids.insert((socket.id >> 32) as u32);
                        }
                    }
                    Record::Owner(owner) if self.pids.contains(&owner.pid) => {
                        of_pids.insert((owner.id >> 32) as u32);
                    }
                    _ => {}
                }
            }
        }
        if !self.pids.is_empty() {
            keys.retain(|key| of_pids.contains(key));
        }
        (keys.len() <= MAX_WANTED_KEYS).then_some(keys)
    }
}

/// Reads the headers of capture files and gives each its host.
pub fn captures<'a, S: Sink>(files: &'a [Mapped], engine: &mut Engine<S>) -> Result<Vec<Capture<'a>>> {
    let open = |(file, mapped): (usize, &'a Mapped)| {
        let reader = Reader::open(mapped.bytes()).with_context(|| format!("cannot read {}", mapped.name()))?;
        let host = engine.host(reader.header());
        Ok(Capture { reader, file, host })
    };
    let those = files.iter().enumerate().filter(|(_, mapped)| !packets::is_one(mapped));
    those.map(open).collect()
}

/// Feeds the wanted blocks of these captures to the engine, in time order across files. `after` is called after each
/// batch and may empty the sinks.
pub fn feed<S: Sink>(
    captures: &[Capture<'_>],
    wanted: &Wanted,
    engine: &mut Engine<S>,
    mut after: impl FnMut(&mut Engine<S>, Progress) -> Result<()>,
) -> Result<()> {
    let mut ordered = in_time_order(captures);
    let state: Vec<Block<'_>> = ordered
        .iter()
        .filter(|(_, stored)| is_state(stored))
        .map(|(b, _)| *b)
        .collect();
    engine.learn_names(&state);
    let mut keys = wanted.keys(&state);
    if let Some(keys) = &mut keys {
        engine.complete_keys(keys);
    }
    ordered.retain(|(block, stored)| {
        let header = captures
            .iter()
            .find(|capture| capture.file == block.file)
            .map(|capture| capture.reader.header());
        header.is_some_and(|header| wanted.may_be_in(stored, header, keys.as_ref()))
    });
    if let Some(from) = wanted.from {
        engine.begin_at(from);
    }
    let mut progress = Progress {
        read: 0,
        total: ordered
            .iter()
            .map(|(_, stored)| u64::from(stored.compressed_len()))
            .sum(),
    };
    let blocks: Vec<Block<'_>> = ordered.iter().map(|(block, _)| *block).collect();
    let mut batches = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, (_, stored)) in ordered.iter().enumerate() {
        bytes += stored.raw_len() as usize;
        if bytes > BATCH_BYTES && at > from {
            batches.push(&blocks[from..at]);
            (from, bytes) = (at, stored.raw_len() as usize);
        }
    }
    batches.push(&blocks[from..]);
    let mut rest = ordered.as_slice();
    engine.feed_all(&batches, |engine, taken| {
        let (now, later) = rest.split_at(batches[taken - 1].len());
        rest = later;
        progress.read += now
            .iter()
            .map(|(_, stored)| u64::from(stored.compressed_len()))
            .sum::<u64>();
        after(engine, progress)
    })
}

fn is_state(stored: &BlockRef<'_>) -> bool {
    stored.class() == Class::State
}

/// All blocks by UTC time; a state block stays right before the events block that it was written for.
fn in_time_order<'a>(captures: &[Capture<'a>]) -> Vec<(Block<'a>, BlockRef<'a>)> {
    let mut ordered: Vec<(u64, usize, Block<'a>, BlockRef<'a>)> = Vec::new();
    for capture in captures {
        let clock = capture.reader.header().clock;
        let utc = |boot: u64| clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot));
        let mut time = u64::MAX;
        let from = ordered.len();
        for stored in capture.reader.blocks().iter().rev() {
            if !is_state(stored) {
                // Never later than the blocks after it, so that a file's own order holds.
                time = time.min(utc(stored.first_time()));
            }
            let block = Block {
                source: Source::Stored(*stored),
                host: capture.host,
                file: capture.file,
            };
            ordered.push((time, capture.file, block, *stored));
        }
        ordered[from..].reverse();
    }
    ordered.sort_by_key(|(time, file, ..)| (*time, *file));
    ordered
        .into_iter()
        .map(|(_, _, block, stored)| (block, stored))
        .collect()
}

/// What is known about a capture file after it was read.
pub fn facts(capture: &Capture<'_>, mapped: &Mapped, damaged_blocks: &[(usize, String)]) -> CaptureFacts {
    let header = capture.reader.header().clone();
    let blocks = capture.reader.blocks();
    let clock = header.clock;
    let utc = |boot: u64| clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot));
    let events = || blocks.iter().filter(|stored| !is_state(stored));
    let mut damage: Vec<String> = capture
        .reader
        .damage()
        .iter()
        .filter(|damage| damage.loses())
        .map(|damage| damage.to_string())
        .collect();
    let of_this = damaged_blocks.iter().filter(|(file, _)| *file == capture.file);
    damage.extend(of_this.map(|(_, why)| why.clone()));
    CaptureFacts {
        path: mapped.name(),
        file_bytes: mapped.bytes().len() as u64,
        raw_bytes: blocks.iter().map(|stored| u64::from(stored.raw_len())).sum(),
        blocks: blocks.len() as u64,
        records: blocks.iter().map(|stored| u64::from(stored.records())).sum(),
        payload_bytes: blocks.iter().map(BlockRef::payload_bytes).sum(),
        data_bytes: blocks.iter().map(BlockRef::data_bytes).sum(),
        first: events().map(BlockRef::first_time).min().map_or(clock.realtime, utc),
        last: events().map(BlockRef::last_time).max().map_or(clock.realtime, utc),
        closed_cleanly: capture.reader.clean_end(),
        damage,
        header,
    }
}
