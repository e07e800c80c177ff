//! The records of a block, split by who reads them: the shards, or the engine itself.

use super::blocks::{Take, Taken};
use crate::analyze::nat::Nat;
use crate::fetch::{CACHE_LINE, fetch};
use crate::format::block::{self, Frame};
use crate::format::kind::Kind;
use crate::format::record::Record;

/// Connections are split into this many parts, whatever the number of threads: each part has a sink with limits of its own
/// (templates, keys), so the number decides what a report of many keys calls `(other)`.
///
/// More parts would keep more threads busy, and cost everybody: each counts all keys by itself, in caches that it shares with
/// the others. The report of 700,000 exchanges took 1.15 times the CPU time with 16 parts and 1.4 times with 64, and three
/// times the memory; a table without counters 1.05 times and 1.15 times. Eight parts are no limit for the whole: any number
/// of threads inflates and splits blocks meanwhile.
pub(super) const SHARDS: usize = 8;
/// Of each block, the records of one connection are followed one after the other, for the caches' sake: connections of a
/// shard are told apart by so much.
const GROUPS: usize = 128;
/// Bytes of a record, about.
const USUAL_LEN: usize = 256;
/// Bytes that are fetched of a record that is read soon: most heads of messages are no longer.
const NEAR: usize = 6 * CACHE_LINE;
/// Bytes between what is read and what is fetched where a whole block is read.
const FURTHER: u32 = 2048;

/// The offsets of one block's records, by who reads them.
#[derive(Default)]
pub(super) struct Split {
    /// About a socket: shard by shard, in each group by group, and in those in the order of the block.
    sockets: Vec<u32>,
    /// Where in there each shard's end.
    ends: [usize; SHARDS],
    /// Of names, in the order of the block.
    pub(super) general: Vec<u32>,
    /// Sockets that are closed, where some connections are translated.
    pub(super) closed: Vec<u64>,
    pub(super) records: u64,
    /// Records, and rests of blocks, that do not have the shape they should have.
    pub(super) malformed: u64,
    /// Records of kinds of later versions.
    pub(super) unknown: u64,
}

impl Split {
    /// What this shard reads.
    pub(super) fn of(&self, shard: usize) -> &[u32] {
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

pub(super) fn split_by_shard(bytes: &[u8], taken: &Taken<'_>, nat: &Nat) -> Split {
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

#[inline]
pub(super) fn frame_at(bytes: &[u8], at: u32) -> Option<Frame<'_>> {
    block::frames(bytes.get(at as usize..)?).next()?.ok()
}

pub(super) fn record_at(bytes: &[u8], at: u32) -> Option<Record<'_>> {
    block::records(bytes.get(at as usize..)?).next()?.ok()
}

/// Fetches what is read soon.
#[inline]
pub(super) fn fetch_near(bytes: &[u8], at: u32) {
    if let Some(near) = bytes.get(at as usize..).and_then(|rest| rest.first_chunk::<NEAR>()) {
        fetch(near);
    }
}
