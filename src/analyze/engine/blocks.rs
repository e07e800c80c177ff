//! Blocks as the engine is given them.

use crate::analyze::names::Host;
use crate::analyze::selection::Followed;
use crate::format::block::{Class, RawBlock};
use crate::format::reader::BlockRef;

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
    pub(super) fn all(block: &Block<'a>) -> Self {
        Taken {
            block: *block,
            take: Take::All,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.take, Take::Nothing)
    }
}

/// The time of a block's last event: UTC, ns; 0 for state, which is told of at any time.
pub(super) fn last_event(block: &Block<'_>, hosts: &[Host]) -> u64 {
    let last = match block.source {
        Source::Stored(stored) if stored.class() == Class::Events => stored.last_time(),
        Source::Raw(raw) if raw.class == Class::Events => raw.last_time,
        _ => return 0,
    };
    hosts[usize::from(block.host)].utc(last)
}
