//! Opens captures and feeds their blocks to the engine in time order: files of one host, rotated parts, files of
//! several hosts, packet captures.

use anyhow::{Context, Result};

use super::engine::{BATCH_BYTES, Block, Engine, Source};
use super::packets;
use super::row::{CaptureFacts, Sink};
use crate::format::block::Class;
use crate::format::reader::{BlockRef, Reader};
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

/// Feeds all blocks of these captures to the engine, in time order across files. `after` is called after each batch
/// and may empty the sinks.
pub fn feed<S: Sink>(
    captures: &[Capture<'_>],
    engine: &mut Engine<S>,
    mut after: impl FnMut(&mut Engine<S>, Progress) -> Result<()>,
) -> Result<()> {
    let ordered = in_time_order(captures);
    let state: Vec<Block<'_>> = ordered
        .iter()
        .filter(|(_, stored)| is_state(stored))
        .map(|(b, _)| *b)
        .collect();
    engine.learn_names(&state);
    let mut progress = Progress {
        read: 0,
        total: ordered
            .iter()
            .map(|(_, stored)| u64::from(stored.compressed_len()))
            .sum(),
    };
    let mut rest = ordered.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, stored): &&(Block<'_>, BlockRef<'_>)| {
            bytes += stored.raw_len() as usize;
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        let batch: Vec<Block<'_>> = now.iter().map(|(block, _)| *block).collect();
        engine.feed(&batch);
        progress.read += now
            .iter()
            .map(|(_, stored)| u64::from(stored.compressed_len()))
            .sum::<u64>();
        after(engine, progress)?;
        rest = later;
    }
    Ok(())
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
