//! Records that belong to no shard: names, translated addresses, losses, remarks.

use rayon::prelude::*;

use super::Engine;
use super::blocks::Block;
use super::losses::{Cause, KeptLoss, keep_loss, unread};
use super::prepare::inflate;
use super::split::{frame_at, record_at};
use crate::analyze::remarks::Subject;
use crate::analyze::row::{Event, Party, Sink};
use crate::format::block;
use crate::format::record::{LossReason, Record};

/// State blocks that are read together.
pub const STATE_BLOCKS: usize = 32;

/// A record of a batch that belongs to no shard, for sinks that are given events.
pub(super) struct GeneralEvent<'a> {
    host: u16,
    /// As in [`Event::place`].
    place: (usize, u32),
    record: Record<'a>,
}

impl<S: Sink> Engine<S> {
    /// Learns from one record of a host, ahead of the block that it is in.
    pub fn learn_ahead(&mut self, host: u16, record: &Record<'_>) {
        if let Some(host) = self.hosts.get_mut(usize::from(host)) {
            host.learn(record);
        }
    }

    /// Learns all names before anything else, from state blocks. What was resolved late in the capture (the name of a
    /// pod that was gone by then) then serves its beginning too. Afterwards `feed` does not learn names again.
    pub fn learn_names(&mut self, state: &[Block<'_>]) {
        self.names_known = true;
        let hosts = self.hosts.len();
        for batch in state.chunks(STATE_BLOCKS) {
            let mut buffers = std::mem::take(&mut self.buffers);
            buffers.resize_with(batch.len(), Vec::new);
            let raws: Vec<_> = batch
                .par_iter()
                .zip(buffers)
                .map(|(b, buffer)| inflate(b, buffer))
                .collect();
            for (block, raw) in batch.iter().zip(&raws) {
                let Ok(raw) = raw else { continue };
                let host = &mut self.hosts[usize::from(block.host)];
                for record in block::records(raw.bytes()).flatten() {
                    host.learn(&record);
                    if let Record::Socket(socket) = &record {
                        let is_translated = self.nat.learn(block.host, socket);
                        let key = self.nat.shard_key(block.host, socket.id);
                        match is_translated {
                            _ if hosts == 1 => {}
                            true => self.cross_host.add(key),
                            false => self.cross_host.learn(block.host, key),
                        }
                    }
                }
            }
            self.keep_buffers(raws);
        }
    }

    /// Takes names, translated addresses, losses and remarks. What of these the sink is given as an event goes to `events`.
    pub(super) fn learn<'b>(
        &mut self,
        (number, block): (usize, &Block<'_>),
        bytes: &'b [u8],
        general: &[u32],
        events: &mut Vec<GeneralEvent<'b>>,
    ) {
        for at in general {
            let Some(record) = record_at(bytes, *at) else {
                // Those about sockets are counted where their connections are followed.
                if frame_at(bytes, *at).is_none_or(|frame| frame.socket_id().is_none()) {
                    keep_loss(&mut self.losses, unread(block, LossReason::Malformed, 1));
                }
                continue;
            };
            let is_event = matches!(
                record,
                Record::Process(_) | Record::Exit(_) | Record::Loss(_) | Record::Remark(_)
            );
            if S::EVENTS && is_event {
                events.push(GeneralEvent {
                    host: block.host,
                    place: (number, *at),
                    record,
                });
            }
            match &record {
                Record::Loss(loss) => {
                    let mut events = loss.events;
                    if loss.reason == LossReason::NotUnderstood
                        && let Some(explained) = self.explained.remove(&block.file)
                    {
                        events = events.saturating_sub(explained);
                        if events == 0 {
                            continue;
                        }
                    }
                    let kept = KeptLoss {
                        since: loss.since,
                        until: loss.time,
                        reason: loss.reason,
                        cause: None,
                        events,
                        bytes: loss.bytes,
                        host: block.host,
                        file: block.file,
                        found: false,
                    };
                    keep_loss(&mut self.losses, kept);
                }
                Record::Remark(remark) => {
                    let subject = Subject::new(remark.about, remark.number);
                    let remarks = self.totals.remarks.entry(block.file).or_default();
                    remarks.add(subject, remark.events);
                    if remark.about.is_cause() {
                        let explained = self.explained.entry(block.file).or_default();
                        *explained = explained.saturating_add(remark.events);
                        let kept = KeptLoss {
                            since: remark.since,
                            until: remark.time,
                            reason: LossReason::NotUnderstood,
                            cause: Some(Cause::Packets(subject)),
                            events: remark.events,
                            bytes: 0,
                            host: block.host,
                            file: block.file,
                            found: false,
                        };
                        keep_loss(&mut self.losses, kept);
                    }
                }
                record if self.names_known && record.is_state() => {}
                record => {
                    self.hosts[usize::from(block.host)].learn(record);
                    if let Record::Socket(socket) = record {
                        self.nat.learn(block.host, socket);
                    }
                }
            }
        }
    }

    /// Gives events that belong to no shard, now that the names of their batch are known.
    pub(super) fn give_events(&mut self, events: &[GeneralEvent<'_>]) {
        let Some(first) = self.shards.first_mut() else { return };
        for GeneralEvent { host, place, record } in events {
            let host = &self.hosts[usize::from(*host)];
            let party = match record {
                Record::Exit(exit) => host.party(exit.pid, 0, exit.time),
                _ => Party::default(),
            };
            first.sink.event(&Event {
                time: host.utc(record.time()),
                place: *place,
                record,
                socket: None,
                party: &party,
            });
        }
    }
}
