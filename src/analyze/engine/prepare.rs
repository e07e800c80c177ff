//! Blocks are made ready to be followed: inflated, and split by shard, by whichever threads have time.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, channel};

use rayon::ScopeFifo;

use super::blocks::{Block, Source, Taken};
use super::split::{Split, split_by_shard};
use crate::analyze::nat::Nat;
use crate::analyze::tasks::receive;

/// The bytes of a block.
pub(super) enum Raw<'a> {
    Inflated(Vec<u8>),
    Borrowed(&'a [u8]),
}

impl Raw<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Raw::Inflated(bytes) => bytes,
            Raw::Borrowed(bytes) => bytes,
        }
    }
}

/// A block that can be followed.
pub(super) struct Ready<'a> {
    pub(super) taken: Taken<'a>,
    pub(super) raw: Result<Raw<'a>, String>,
    pub(super) split: Split,
    /// Records about sockets that could not be read.
    pub(super) unreadable: AtomicU64,
    /// Data of other layers than the wire: records, and their bytes.
    pub(super) other_layers: (AtomicU64, AtomicU64),
}

/// A batch whose blocks are made ready by whichever threads have time.
pub(super) struct Preparing<'a> {
    blocks: usize,
    done: Receiver<(usize, Ready<'a>)>,
}

impl<'a> Preparing<'a> {
    /// Starts a task per block, with what is there of `buffers`.
    pub(super) fn start<'scope>(scope: &ScopeFifo<'scope>, batch: &[Taken<'a>], buffers: &mut Vec<Vec<u8>>) -> Self
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
    pub(super) fn wait(self) -> Vec<Ready<'a>> {
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
pub(super) fn prepare(taken: Taken<'_>, buffer: Vec<u8>) -> Ready<'_> {
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

pub(super) fn inflate<'a>(block: &Block<'a>, mut buffer: Vec<u8>) -> Result<Raw<'a>, String> {
    match block.source {
        Source::Raw(raw) => Ok(Raw::Borrowed(&raw.bytes)),
        Source::Stored(stored) => match stored.inflate(&mut buffer) {
            Ok(()) => Ok(Raw::Inflated(buffer)),
            Err(error) => Err(error.to_string()),
        },
    }
}
