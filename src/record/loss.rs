//! What was lost, by reason: totals for the summary, and what has not yet been stored as `Loss` records.
//!
//! A loss is *noted* when it is found out, *taken* when it is written into a block, and *returned* when that block
//! itself did not reach the file, so that nothing is forgotten and nothing is counted twice.

use std::collections::BTreeMap;

use crate::format::record::{Loss, LossReason};
use crate::format::{Kind, RawBlock};

/// Events and bytes, for one reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub events: u64,
    pub bytes: u64,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Count) {
        self.events += other.events;
        self.bytes += other.bytes;
    }

    /// Whether nothing was lost.
    pub fn is_zero(self) -> bool {
        self == Count::default()
    }
}

/// The events of a block and the bytes that went over sockets in them; losses and clocks do not count.
pub fn event_count(block: &RawBlock) -> Count {
    let not_events = block.counts.get(Kind::Loss) + block.counts.get(Kind::Clock);
    Count {
        events: u64::from(block.records.saturating_sub(not_events)),
        bytes: block.data_bytes,
    }
}

/// The running account.
#[derive(Debug, Default)]
pub struct Ledger {
    totals: BTreeMap<LossReason, Count>,
    pending: BTreeMap<LossReason, (u64, Count)>,
    /// The last reading of counters that only ever grow (the kernel's).
    readings: BTreeMap<LossReason, Count>,
}

impl Ledger {
    /// Something was lost between `since` and now.
    pub fn note(&mut self, reason: LossReason, since: u64, count: Count) {
        if count.is_zero() {
            return;
        }
        self.totals.entry(reason).or_default().add(count);
        // What is beyond a limit of the user's is beyond the end of the recording: no hole in it.
        if reason != LossReason::Limit {
            self.defer(reason, since, count);
        }
    }

    /// A counter that only grows was read; what it grew by since the reading before was lost after `since`.
    pub fn reading(&mut self, reason: LossReason, since: u64, now: Count) {
        let before = self.readings.insert(reason, now).unwrap_or_default();
        let grown = Count {
            events: now.events.saturating_sub(before.events),
            bytes: now.bytes.saturating_sub(before.bytes),
        };
        self.note(reason, since, grown);
    }

    /// A stored record did not reach the file: it is to be stored again.
    pub fn put_back(&mut self, loss: &Loss) {
        self.defer(
            loss.reason,
            loss.since,
            Count {
                events: loss.events,
                bytes: loss.bytes,
            },
        );
    }

    fn defer(&mut self, reason: LossReason, since: u64, count: Count) {
        let entry = self.pending.entry(reason).or_insert((since, Count::default()));
        entry.0 = entry.0.min(since);
        entry.1.add(count);
    }

    /// The records to store now, in the order of the reasons.
    pub fn take(&mut self, now: u64) -> Vec<Loss> {
        std::mem::take(&mut self.pending)
            .into_iter()
            .map(|(reason, (since, count))| Loss {
                time: now,
                since: since.min(now),
                reason,
                events: count.events,
                bytes: count.bytes,
            })
            .collect()
    }

    /// Everything since the start, by reason.
    pub fn totals(&self) -> &BTreeMap<LossReason, Count> {
        &self.totals
    }

    /// Events that are missing, or whose payload is, and not on purpose.
    pub fn missing(&self) -> u64 {
        self.totals
            .iter()
            .filter(|(reason, _)| !reason.is_on_purpose())
            .map(|(_, count)| count.events)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(events: u64, bytes: u64) -> Count {
        Count { events, bytes }
    }

    #[test]
    fn growing_counters_become_the_growth_of_each_interval() {
        let mut ledger = Ledger::default();
        ledger.reading(LossReason::RingFull, 0, count(3, 100));
        assert_eq!(
            ledger.take(10),
            [Loss {
                time: 10,
                since: 0,
                reason: LossReason::RingFull,
                events: 3,
                bytes: 100
            }]
        );
        ledger.reading(LossReason::RingFull, 10, count(3, 100));
        assert!(ledger.take(20).is_empty(), "no growth, no record");
        ledger.reading(LossReason::RingFull, 20, count(5, 150));
        assert_eq!(ledger.take(30)[0].events, 2);
        assert_eq!(ledger.totals()[&LossReason::RingFull], count(5, 150));
    }

    #[test]
    fn a_record_that_did_not_reach_the_file_comes_again_with_its_first_time_and_counts_once() {
        let mut ledger = Ledger::default();
        ledger.note(LossReason::QueueFull, 5, count(7, 70));
        let taken = ledger.take(10);
        ledger.put_back(&taken[0]);
        ledger.note(LossReason::QueueFull, 12, count(1, 10));
        assert_eq!(
            ledger.take(20),
            [Loss {
                time: 20,
                since: 5,
                reason: LossReason::QueueFull,
                events: 8,
                bytes: 80
            }]
        );
        assert_eq!(ledger.totals()[&LossReason::QueueFull], count(8, 80));
    }

    #[test]
    fn what_is_beyond_a_limit_is_no_hole_in_the_recording() {
        let mut ledger = Ledger::default();
        ledger.note(LossReason::Limit, 0, count(9, 900));
        assert!(ledger.take(1).is_empty());
        assert_eq!(ledger.missing(), 0);
        assert_eq!(ledger.totals()[&LossReason::Limit], count(9, 900));
    }

    #[test]
    fn payload_cut_to_the_snaplen_is_no_loss() {
        let mut ledger = Ledger::default();
        ledger.note(LossReason::Truncated, 0, count(9, 900));
        assert_eq!(ledger.missing(), 0);
        ledger.note(LossReason::Missed, 0, count(2, 0));
        assert_eq!(ledger.missing(), 2);
    }
}
