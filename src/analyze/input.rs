//! Opens capture files and feeds their blocks to the engine in time order: files of one host, rotated parts, files of
//! several hosts.

use anyhow::Result;

use super::engine::{Block, Engine, STATE_BLOCKS, Source};
use super::names::Host;
use super::row::{CaptureFacts, Sink, possible};
use super::wanted::{Sought, Wanted};
use crate::format::block::Class;
use crate::format::reader::{BlockRef, Reader};
pub use crate::mapped::Mapped;

/// Stored bytes after which those that were read are released: each time pages that the next blocks lie in go with them.
const RELEASE: u64 = 8 << 20;

/// What is told after each batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Bytes of the files read so far, and in all.
    pub read: u64,
    pub total: u64,
    /// No event before this (UTC, ns) is still to be read.
    pub unread_from: u64,
}

/// A capture file that was understood, and its place among the files.
pub struct Capture<'a> {
    pub reader: Reader<'a>,
    pub file: usize,
    mapped: &'a Mapped,
    host: u16,
}

impl Capture<'_> {
    /// Whether the file says, without its blocks being read, that data was lost or damaged.
    pub fn tells_losses(&self) -> bool {
        let counted = self.reader.losses().unwrap_or_default();
        !self.reader.clean_end()
            || self.reader.damage().iter().any(|damage| damage.loses())
            || counted
                .iter()
                .any(|loss| loss.events > 0 && !loss.reason.is_on_purpose())
    }
}

/// A block in its place among those of all files.
struct Placed<'a> {
    block: Block<'a>,
    stored: BlockRef<'a>,
    /// No event of this block, or of a later one of its file, is before this (boot clock, ns).
    since: u64,
}

impl<'a> Capture<'a> {
    /// Reads the header and finds the blocks of a capture file, which has this number among the files.
    pub fn open(file: usize, mapped: &'a Mapped) -> Result<Capture<'a>> {
        Ok(Capture {
            reader: mapped.reader()?,
            file,
            mapped,
            host: 0,
        })
    }

    /// Gives it its host, which must be done before it is fed.
    pub fn give_host<S: Sink>(&mut self, engine: &mut Engine<S>) {
        self.host = engine.host(self.reader.header());
    }
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
        .filter(|placed| is_state(&placed.stored))
        .map(|placed| placed.block)
        .collect();
    let of_file = |file: usize| captures.iter().find(|capture| capture.file == file);
    let release = |block: &Block<'_>| {
        if let (Source::Stored(stored), Some(capture)) = (block.source, of_file(block.file)) {
            capture.mapped.release(stored.range());
        }
    };
    for some in state.chunks(STATE_BLOCKS) {
        engine.learn_names(some);
        some.iter().for_each(release);
    }
    let mut sought = Sought::new(wanted, &state, engine.hosts(), release);
    sought.complete(|keys| engine.complete_keys(keys));
    ordered.retain(|placed| {
        let header = of_file(placed.block.file).map(|capture| capture.reader.header());
        header.is_some_and(|header| sought.may_be_in(&placed.stored, header))
    });
    if let Some(from) = wanted.from {
        engine.begin_at(from);
    }
    let len = |placed: &Placed<'_>| u64::from(placed.stored.compressed_len());
    let mut progress = Progress {
        total: ordered.iter().map(len).sum(),
        ..Progress::default()
    };
    let blocks: Vec<Block<'_>> = ordered.iter().map(|placed| placed.block).collect();
    let mut batches = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, placed) in ordered.iter().enumerate() {
        let raw_len = placed.stored.raw_len() as usize;
        bytes += raw_len;
        if bytes > engine.batch_bytes() && at > from {
            batches.push(&blocks[from..at]);
            (from, bytes) = (at, raw_len);
        }
    }
    batches.push(&blocks[from..]);
    let mut rest = ordered.as_slice();
    let (mut unreleased, mut unreleased_bytes) = (rest, 0);
    engine.feed_all(&batches, |engine, taken| {
        let (now, later) = rest.split_at(batches[taken - 1].len());
        rest = later;
        let bytes = now.iter().map(len).sum::<u64>();
        progress.read += bytes;
        unreleased_bytes += bytes;
        if unreleased_bytes >= RELEASE {
            let (read, unread) = unreleased.split_at(unreleased.len() - later.len());
            read.iter().for_each(|placed| release(&placed.block));
            (unreleased, unreleased_bytes) = (unread, 0);
        }
        progress.unread_from = first_of(later, engine.hosts());
        after(engine, progress)
    })
}

/// No event of these blocks is before this, UTC, ns.
fn first_of(blocks: &[Placed<'_>], hosts: &[Host]) -> u64 {
    let mut seen = vec![false; hosts.len()];
    let mut first = u64::MAX;
    for placed in blocks {
        let host = usize::from(placed.block.host);
        // The blocks of a host are in order, so the first of each is enough.
        if !std::mem::replace(&mut seen[host], true) {
            let is_known = placed.since != u64::MAX;
            first = first.min(if is_known {
                hosts[host].utc(placed.since)
            } else {
                u64::MAX
            });
            if seen.iter().all(|seen| *seen) {
                break;
            }
        }
    }
    first
}

/// Whether a block names things rather than tells events.
pub fn is_state(stored: &BlockRef<'_>) -> bool {
    stored.class() == Class::State
}

/// All blocks by UTC time; a state block stays right before the events block that it was written for.
fn in_time_order<'a>(captures: &[Capture<'a>]) -> Vec<Placed<'a>> {
    let mut ordered: Vec<(u64, Placed<'a>)> = Vec::new();
    for capture in captures {
        let clock = capture.reader.header().clock;
        let utc = |boot: u64| clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot));
        let mut since = u64::MAX;
        let from = ordered.len();
        for stored in capture.reader.blocks().iter().rev() {
            if !is_state(stored) {
                // Never later than the blocks after it, so that a file's own order holds.
                since = since.min(stored.first_time());
            }
            let block = Block {
                source: Source::Stored(*stored),
                host: capture.host,
                file: capture.file,
            };
            let time = if since == u64::MAX { u64::MAX } else { utc(since) };
            let stored = *stored;
            ordered.push((time, Placed { block, stored, since }));
        }
        ordered[from..].reverse();
    }
    ordered.sort_by_key(|(time, placed)| (*time, placed.block.file));
    ordered.into_iter().map(|(_, placed)| placed).collect()
}

/// What is known about a capture file after it was read.
pub fn facts(capture: &Capture<'_>, damaged_blocks: &[(usize, String)]) -> CaptureFacts {
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
        path: capture.mapped.name(),
        file_bytes: capture.mapped.bytes().len() as u64,
        raw_bytes: blocks.iter().map(|stored| u64::from(stored.raw_len())).sum(),
        blocks: blocks.len() as u64,
        records: blocks.iter().map(|stored| u64::from(stored.records())).sum(),
        payload_bytes: blocks.iter().map(BlockRef::payload_bytes).sum(),
        data_bytes: blocks.iter().map(BlockRef::data_bytes).sum(),
        first: possible(events().map(BlockRef::first_time).min().map_or(clock.realtime, utc)),
        last: possible(events().map(BlockRef::last_time).max().map_or(clock.realtime, utc)),
        closed_cleanly: capture.reader.clean_end(),
        unread: false,
        damage,
        header,
    }
}
