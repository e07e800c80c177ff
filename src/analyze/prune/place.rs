//! The blocks of all files in the order in which they are read.

use crate::analyze::engine::{Block, Source};
use crate::format::block::Class;
use crate::format::reader::{BlockRef, Reader};
use crate::format::record::Clock;

/// A block with what is needed to order it among those of all files.
#[derive(Clone, Copy)]
pub struct Placed<'a> {
    pub block: Block<'a>,
    pub stored: BlockRef<'a>,
    /// No event of this block, or of a later one of its file, is before this (boot clock, ns); the largest number where
    /// none follows.
    pub since: u64,
    /// From the header of its file.
    clock: Clock,
}

impl Placed<'_> {
    /// A calendar time on the boot clock, by the reading in the header of the file; the ends of the range are open ends.
    pub(super) fn boot(&self, utc: u64) -> u64 {
        if utc == 0 || utc == u64::MAX {
            return utc;
        }
        let boot = i128::from(self.clock.boot) + i128::from(utc) - i128::from(self.clock.realtime);
        boot.clamp(0, i128::from(u64::MAX)) as u64
    }

    /// By how much a later reading of the clocks differs from that of the header, ns.
    pub(super) fn drift(&self, later: &Clock) -> u64 {
        let apart = |clock: &Clock| i128::from(clock.realtime) - i128::from(clock.boot);
        u64::try_from((apart(later) - apart(&self.clock)).abs()).unwrap_or(u64::MAX)
    }
}

/// Whether a block holds state (names) and not events.
pub fn is_state(stored: &BlockRef<'_>) -> bool {
    stored.class() == Class::State
}

/// All blocks by UTC time; a state block stays right before the events block that it was written for. With each file the
/// number of its host, and its own.
pub fn in_time_order<'r, 'a: 'r>(files: impl Iterator<Item = (&'r Reader<'a>, u16, usize)>) -> Vec<Placed<'a>> {
    let mut ordered: Vec<(u64, Placed<'a>)> = Vec::new();
    for (reader, host, file) in files {
        let clock = reader.header().clock;
        let utc = |boot: u64| clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot));
        let mut since = u64::MAX;
        let from = ordered.len();
        for stored in reader.blocks().iter().rev() {
            if !is_state(stored) {
                // Never later than the blocks after it, so that a file's own order holds.
                since = since.min(stored.first_time());
            }
            let source = Source::Stored(*stored);
            let placed = Placed {
                block: Block { source, host, file },
                stored: *stored,
                since,
                clock,
            };
            let time = if since == u64::MAX { u64::MAX } else { utc(since) };
            ordered.push((time, placed));
        }
        ordered[from..].reverse();
    }
    ordered.sort_by_key(|(time, placed)| (*time, placed.block.file));
    ordered.into_iter().map(|(_, placed)| placed).collect()
}
