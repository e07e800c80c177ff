//! What is lost: as records say it, and as it is found here.

use super::Engine;
use super::blocks::{Block, Source};
use crate::analyze::remarks::{self, Subject};
use crate::analyze::row::Sink;
use crate::format::Kind;
use crate::format::block::{self, Class};
use crate::format::reader::{Reader, What};
use crate::format::record::{LossReason, Record};

/// Losses kept one by one; further ones are added to the last of their reason.
const MAX_LOSSES: usize = 65_536;

/// What exactly a loss consists of, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Packets(Subject),
    Damage(What),
    /// Data of another layer than the wire, which no protocol is read from.
    OtherLayer,
}

impl Cause {
    pub(super) fn detail(self) -> String {
        match self {
            Cause::Packets(subject) => remarks::detail(subject),
            Cause::Damage(What::CutBlock) => "block cut off at the end of the file".to_string(),
            Cause::Damage(What::NotABlock) => "bytes that are no block, of an unknown number of records".to_string(),
            Cause::Damage(_) => "block".to_string(),
            Cause::OtherLayer => "data of another layer than the wire".to_string(),
        }
    }
}

/// A loss as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptLoss {
    pub(super) since: u64,
    pub(super) until: u64,
    pub(super) reason: LossReason,
    pub(super) cause: Option<Cause>,
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) host: u16,
    /// No such file for what shards find missing.
    pub(super) file: usize,
    /// No record says so.
    pub(super) found: bool,
}

impl<S: Sink> Engine<S> {
    /// Counts what the reader of a file, which has this number, could not read: the time is that between the blocks around it.
    pub fn lose_damaged(&mut self, host: u16, file: usize, reader: &Reader<'_>) {
        let events = reader.blocks().iter().filter(|stored| stored.class() == Class::Events);
        let mut blocks = events.peekable();
        let mut since = reader.header().clock.boot;
        for damage in reader.damage() {
            let is_lost = matches!(damage.what, What::Block | What::CutBlock | What::NotABlock);
            if !is_lost {
                continue;
            }
            while let Some(stored) = blocks.next_if(|stored| stored.offset() < damage.offset) {
                since = since.max(stored.last_time());
            }
            let until = blocks.peek().map_or(since, |stored| stored.first_time().max(since));
            let loss = KeptLoss {
                since,
                until,
                reason: LossReason::Damaged,
                cause: Some(Cause::Damage(damage.what)),
                events: damage.records.into(),
                bytes: 0,
                host,
                file,
                found: true,
            };
            keep_loss(&mut self.losses, loss);
            if let Some(host) = self.hosts.get_mut(usize::from(host)) {
                host.note_unreadable(since, None);
                host.note_lost(since, until);
            }
        }
        self.note_losses(host, reader);
    }

    /// Notes when events of a file were lost: as its records say, and after its last event, where it was cut off.
    fn note_losses(&mut self, host: u16, reader: &Reader<'_>) {
        let Some(host) = self.hosts.get_mut(usize::from(host)) else {
            return;
        };
        let mut last = 0;
        let mut buffer = Vec::new();
        for stored in reader.blocks() {
            last = last.max(stored.last_time());
            // One that cannot be read is counted where its turn comes.
            if stored.count(Kind::Loss) == 0 || stored.inflate(&mut buffer).is_err() {
                continue;
            }
            for record in block::records_of(&buffer, &[Kind::Loss]) {
                if let Record::Loss(loss) = record
                    && loss.reason.loses_any_event()
                {
                    host.note_lost(loss.since, loss.time);
                }
            }
        }
        if !reader.clean_end() {
            host.note_lost(last, u64::MAX);
        }
    }
}

/// Records of a block that were not read.
pub(super) fn unread(block: &Block<'_>, reason: LossReason, events: u64) -> KeptLoss {
    let (since, until) = match block.source {
        Source::Stored(stored) => (stored.first_time(), stored.last_time()),
        Source::Raw(raw) => (raw.first_time, raw.last_time),
    };
    KeptLoss {
        since,
        until,
        reason,
        cause: None,
        events,
        bytes: 0,
        host: block.host,
        file: block.file,
        found: true,
    }
}

pub(super) fn keep_loss(losses: &mut Vec<KeptLoss>, loss: KeptLoss) {
    if losses.len() >= MAX_LOSSES
        && let Some(last) = losses.iter_mut().rev().find(|kept| {
            (kept.reason, kept.cause, kept.host, kept.found) == (loss.reason, loss.cause, loss.host, loss.found)
        })
    {
        last.until = last.until.max(loss.until);
        last.events = last.events.saturating_add(loss.events);
        last.bytes = last.bytes.saturating_add(loss.bytes);
        return;
    }
    losses.push(loss);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_beyond_those_that_are_kept_one_by_one_are_added_up_and_no_sum_wraps() {
        let loss = |reason, until, events| KeptLoss {
            since: until - 1,
            until,
            reason,
            cause: None,
            events,
            bytes: events,
            host: 0,
            file: 0,
            found: false,
        };
        let mut losses = Vec::new();
        for n in 1..=MAX_LOSSES as u64 {
            keep_loss(&mut losses, loss(LossReason::RingFull, n, 1));
        }
        assert_eq!(losses.len(), MAX_LOSSES);
        // One of another reason is kept; it is the one that more of its reason are added to.
        keep_loss(&mut losses, loss(LossReason::QueueFull, 7, 1));
        for (until, events) in [(9, u64::MAX - 2), (8, 3), (6, u64::MAX)] {
            keep_loss(&mut losses, loss(LossReason::QueueFull, until, events));
        }
        keep_loss(&mut losses, loss(LossReason::RingFull, 5, 41));
        assert_eq!(losses.len(), MAX_LOSSES + 1);
        let said = |loss: &KeptLoss| (loss.reason, loss.since, loss.until, loss.events, loss.bytes);
        let of_queue = losses.last().map(said);
        assert_eq!(of_queue, Some((LossReason::QueueFull, 6, 9, u64::MAX, u64::MAX)));
        let last = MAX_LOSSES as u64;
        let of_ring = losses.get(MAX_LOSSES - 1).map(said);
        assert_eq!(of_ring, Some((LossReason::RingFull, last - 1, last, 42, 42)));
        // Another host's, or what no record says, is none of it.
        let other = KeptLoss {
            host: 1,
            ..loss(LossReason::QueueFull, 9, 1)
        };
        let found = KeptLoss {
            found: true,
            ..loss(LossReason::QueueFull, 9, 1)
        };
        keep_loss(&mut losses, other);
        keep_loss(&mut losses, found);
        assert_eq!(losses.len(), MAX_LOSSES + 3);
    }
}
