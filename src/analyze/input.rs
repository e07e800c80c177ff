//! Opens capture files and feeds their blocks to the engine in time order: files of one host, rotated parts, files of
//! several hosts.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use anyhow::Result;

use super::engine::{Block, Engine, STATE_BLOCKS, Take, Taken, Totals};
use super::names::Host;
use super::prune::{Placed, Schedule, Tail, in_time_order, is_state};
use super::remarks::Remarks;
use super::row::{CaptureFacts, Sink, possible};
use super::selection::Ask;
use crate::format::reader::{BlockRef, Reader};
pub use crate::mapped::Mapped;

/// Stored bytes after which those that were read are released: each time, pages that the next blocks need are released too.
const RELEASE: u64 = 8 << 20;
/// Batches after the span between two checks for unfinished exchanges.
const BATCHES_OF_TAIL: usize = 4;

/// Progress after each batch.
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
    /// Whether data is known to be lost or damaged before any block is read.
    pub fn has_known_losses(&self) -> bool {
        let counted = self.reader.losses().unwrap_or_default();
        !self.reader.clean_end()
            || self.reader.damage().iter().any(|damage| damage.loses())
            || counted
                .iter()
                .any(|loss| loss.events > 0 && !loss.reason.is_on_purpose())
    }
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
        engine.lose_damaged(self.host, self.file, &self.reader);
    }
}

/// Feeds the requested blocks of these captures to the engine, in time order across files. `after` is called after each batch
/// and may empty the sinks.
pub fn feed<S: Sink>(
    captures: &[Capture<'_>],
    ask: &Ask,
    engine: &mut Engine<S>,
    after: impl FnMut(&mut Engine<S>, Progress) -> Result<()>,
) -> Result<()> {
    let places = in_time_order(captures.iter().map(|one| (&one.reader, one.host, one.file)));
    let mapped: HashMap<usize, &Mapped> = captures.iter().map(|one| (one.file, one.mapped)).collect();
    let released = Cell::new(0);
    let release = |placed: &Placed<'_>| {
        released.set(released.get() + 1);
        if let Some(mapped) = mapped.get(&placed.block.file) {
            mapped.release(placed.stored.range());
        }
    };
    let state: Vec<&Placed<'_>> = places.iter().filter(|placed| is_state(&placed.stored)).collect();
    for some in state.chunks(STATE_BLOCKS) {
        let blocks: Vec<Block<'_>> = some.iter().map(|placed| placed.block).collect();
        engine.learn_names(&blocks);
        some.iter().for_each(|placed| release(placed));
    }
    let schedule = Schedule::new(&places, ask, engine, &release);
    engine.totals.blocks_ahead = released.get();
    let batches = batches(&places, engine.batch_bytes());
    let mut feeding = Feeding {
        places: &places,
        release: &release,
        unreleased: 0..0,
        unreleased_bytes: 0,
        progress: Progress::default(),
        after,
    };
    // Where the tail begins in the middle of a batch, that batch is the last before it.
    let tail_start = schedule.tail().map_or(places.len(), |tail| tail.start);
    let decided = batches.partition_point(|batch| batch.start < tail_start);
    let (before, tail) = batches.split_at(decided);
    let first = before
        .iter()
        .position(|batch| batch.clone().any(|place| !is_nothing(schedule.take(place))));
    let before = &before[first.unwrap_or(before.len())..];
    feeding.feed(engine, before, |place| schedule.take(place))?;
    let Some(Tail { to, settled, .. }) = schedule.tail() else {
        return Ok(());
    };
    for some in tail.chunks(BATCHES_OF_TAIL) {
        let still = schedule.still_followed(&engine.unfinished(to, settled));
        if still.is_empty() && some.first().is_some_and(|batch| schedule.is_done(batch.start)) {
            break;
        }
        feeding.feed(engine, some, |place| {
            schedule.take_of_tail(&places[place], place, &still)
        })?;
    }
    Ok(())
}

fn is_nothing(take: Take<'_>) -> bool {
    matches!(take, Take::Nothing)
}

/// Which blocks are fed together. Batches do not depend on which of their blocks are skipped.
fn batches(places: &[Placed<'_>], batch_bytes: usize) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, placed) in places.iter().enumerate() {
        let raw_len = placed.stored.raw_len() as usize;
        bytes += raw_len;
        if bytes > batch_bytes && at > from {
            batches.push(from..at);
            (from, bytes) = (at, raw_len);
        }
    }
    batches.push(from..places.len());
    batches
}

/// The state of feeding.
struct Feeding<'f, 'a, A> {
    places: &'f [Placed<'a>],
    release: &'f dyn Fn(&Placed<'_>),
    /// What was read and is not released yet.
    unreleased: Range<usize>,
    unreleased_bytes: u64,
    progress: Progress,
    after: A,
}

impl<'a, A> Feeding<'_, 'a, A> {
    /// Feeds these batches; `take` gives what is done with the block at a place.
    fn feed<'t, S: Sink>(
        &mut self,
        engine: &mut Engine<S>,
        batches: &[Range<usize>],
        take: impl Fn(usize) -> Take<'t>,
    ) -> Result<()>
    where
        'a: 't,
        A: FnMut(&mut Engine<S>, Progress) -> Result<()>,
    {
        let Some(first) = batches.first().map(|batch| batch.start) else {
            return Ok(());
        };
        let places = self.places;
        let end = batches.last().map_or(first, |batch| batch.end);
        let taken: Vec<Taken<'t>> = (first..end)
            .map(|place| Taken {
                block: places[place].block,
                take: take(place),
            })
            .collect();
        let len = |place: usize| match taken[place - first].take {
            Take::Nothing => 0,
            _ => u64::from(places[place].stored.compressed_len()),
        };
        self.progress.total += (first..end).map(len).sum::<u64>();
        let slices: Vec<&[Taken<'t>]> = batches.iter().map(|b| &taken[b.start - first..b.end - first]).collect();
        engine.feed_all(&slices, |engine, number| {
            let batch = batches[number - 1].clone();
            let bytes = batch.clone().map(len).sum::<u64>();
            if bytes == 0 {
                return Ok(());
            }
            self.progress.read += bytes;
            self.unreleased_bytes += bytes;
            self.unreleased.end = batch.end;
            if self.unreleased_bytes >= RELEASE {
                places[self.unreleased.clone()].iter().for_each(self.release);
                (self.unreleased, self.unreleased_bytes) = (batch.end..batch.end, 0);
            }
            self.progress.unread_from = first_of(&places[batch.end..], engine.hosts());
            (self.after)(engine, self.progress)
        })
    }
}

/// A time before which no event of these blocks is, UTC, ns.
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

/// What is known about a capture file after it was read.
pub fn facts(capture: &Capture<'_>, totals: &Totals) -> CaptureFacts {
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
    let of_this = totals.damage.iter().filter(|(file, _)| *file == capture.file);
    damage.extend(of_this.map(|(_, why)| why.clone()));
    CaptureFacts {
        path: capture.mapped.name(),
        file_bytes: capture.mapped.bytes().len() as u64,
        raw_bytes: blocks.iter().map(|stored| u64::from(stored.raw_len())).sum(),
        blocks: blocks.len() as u64,
        records: blocks.iter().map(|stored| u64::from(stored.records())).sum(),
        payload_bytes: blocks.iter().map(BlockRef::payload_bytes).fold(0, u64::saturating_add),
        data_bytes: blocks.iter().map(BlockRef::data_bytes).fold(0, u64::saturating_add),
        first: possible(events().map(BlockRef::first_time).min().map_or(clock.realtime, utc)),
        last: possible(events().map(BlockRef::last_time).max().map_or(clock.realtime, utc)),
        closed_cleanly: capture.reader.clean_end(),
        unread: false,
        damage,
        remarks: totals
            .remarks
            .get(&capture.file)
            .map(Remarks::lines)
            .unwrap_or_default(),
        header,
    }
}
