//! A shard is given its records of a batch.

use std::sync::atomic::Ordering;

use super::blocks::last_event;
use super::prepare::{Raw, Ready};
use super::split::{SHARDS, fetch_near, frame_at, record_at};
use crate::analyze::cross_host::CrossHost;
use crate::analyze::names::Host;
use crate::analyze::nat::Nat;
use crate::analyze::row::Sink;
use crate::analyze::shard::Shard;
use crate::format::kind::Kind;
use crate::format::record::{Layer, Record};

/// Records that are fetched ahead: a shard skips the records of other shards, which the processor cannot predict.
const AHEAD: usize = 6;

/// Follows the blocks one after the other, the records of each connection in the order of the file.
pub(super) fn follow_in_file_order<S: Sink>(
    shard: &mut Shard<S>,
    number: usize,
    batch: &[Ready<'_>],
    (hosts, nat): (&[Host], &Nat),
) {
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

/// Follows the blocks of several hosts record by record, where connections have an end on each of two.
pub(super) fn follow_mixed<S: Sink>(
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
pub(super) struct Mixed {
    /// UTC, ns.
    time: u64,
    /// Number in the batch.
    block: usize,
    at: u32,
    shard: usize,
}

/// The socket records of all blocks by UTC time: what two hosts saw at the same time is read together, as far as their
/// clocks agree.
pub(super) fn in_time_order(batch: &[Ready<'_>], hosts: &[Host]) -> Vec<Mixed> {
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
