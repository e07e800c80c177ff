//! The counters of one key: of an endpoint, a digest, a pair of services, a talker.

use super::ends::Agreed;
use super::histogram::Histogram;
use super::keyed::{Count, Merge};
use crate::analyze::exchange::Message;
use crate::analyze::row::{ExchangeRow, Latency};

/// Adds a number from a capture, which may be any: the sum saturates.
#[inline]
pub fn add(to: &mut u64, more: u64) {
    *to = to.saturating_add(more);
}

/// Whether first and last byte of the response have the same time; also where neither was measured.
fn came_at_once(one: &Latency) -> bool {
    one.ttfb_ns == one.total_ns
}

/// The latencies of exchanges.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    pub ttfb: Histogram,
    pub total: Histogram,
    /// Of exchanges whose response came in one piece, where both latencies are equal: recorded once, to halve the work. Merging
    /// adds it to both, and only merged counters are read.
    same: Histogram,
}

impl Latencies {
    /// Prefetches the counters that these need.
    fn fetch(&self, all: impl Iterator<Item = Latency>) {
        for one in all {
            match came_at_once(&one) {
                true => self.same.fetch(one.total_ns),
                false => {
                    self.ttfb.fetch(one.ttfb_ns);
                    self.total.fetch(one.total_ns);
                }
            }
        }
    }

    /// Records all of these.
    fn record_all(&mut self, all: impl Iterator<Item = Latency> + Clone) {
        let different = all.clone().filter(|one| !came_at_once(one));
        self.same
            .record_all(all.filter(came_at_once).filter_map(|one| one.total_ns));
        self.ttfb.record_all(different.clone().filter_map(|one| one.ttfb_ns));
        self.total.record_all(different.filter_map(|one| one.total_ns));
    }
}

impl Merge for Latencies {
    fn merge(&mut self, other: Latencies) {
        self.ttfb.merge(&other.ttfb);
        self.total.merge(&other.total);
        for same in [std::mem::take(&mut self.same), other.same] {
            self.ttfb.merge(&same);
            self.total.merge(&same);
        }
    }
}

/// The counters that a protocol adds to those of all exchanges.
pub trait Own: Merge + Send + 'static {
    /// What one exchange adds.
    type One: Copy + Send;

    /// Counts one.
    fn count(&mut self, one: &Self::One);
}

/// Exchanges of one key.
#[derive(Debug, Clone, Default)]
pub struct ExchangeStats<O> {
    pub count: u64,
    /// Exchanges that were not seen whole.
    pub incomplete: u64,
    /// Counted by [`ExchangeRow::is_error`](crate::analyze::row::ExchangeRow::is_error).
    pub errors: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub latency: Latencies,
    pub agreed: Agreed,
    pub own: O,
}

/// What one exchange adds to its key.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeCount<T> {
    pub incomplete: bool,
    pub error: bool,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub latency: Latency,
    pub own: T,
}

impl<T> ExchangeCount<T> {
    /// From a row, and what its protocol adds.
    pub fn new<M: Message>(row: &ExchangeRow<'_, M>, own: T) -> Self {
        ExchangeCount {
            incomplete: row.incomplete.is_some(),
            error: row.is_error(),
            request_bytes: row.request_bytes.unwrap_or(0),
            response_bytes: row.response_bytes.unwrap_or(0),
            latency: row.latency,
            own,
        }
    }
}

impl<O: Own> Count<ExchangeCount<O::One>> for ExchangeStats<O> {
    fn fetch(&self, all: &[ExchangeCount<O::One>]) {
        self.latency.fetch(all.iter().map(|one| one.latency));
    }

    fn count(&mut self, all: &[ExchangeCount<O::One>]) {
        self.count += all.len() as u64;
        for one in all {
            self.incomplete += u64::from(one.incomplete);
            self.errors += u64::from(one.error);
            add(&mut self.request_bytes, one.request_bytes);
            add(&mut self.response_bytes, one.response_bytes);
            self.own.count(&one.own);
        }
        self.latency.record_all(all.iter().map(|one| one.latency));
    }
}

impl<O: Merge> Merge for ExchangeStats<O> {
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.incomplete += other.incomplete;
        self.errors += other.errors;
        add(&mut self.request_bytes, other.request_bytes);
        add(&mut self.response_bytes, other.response_bytes);
        self.latency.merge(other.latency);
        self.agreed.merge(other.agreed);
        self.own.merge(other.own);
    }
}

/// A pair of services.
#[derive(Debug, Clone, Default)]
pub struct ServiceStats {
    pub requests: u64,
    /// Exchanges that are errors, and failed connects where the protocol is not known.
    pub errors: u64,
    pub bytes: u64,
    pub connections: u64,
    pub total: Histogram,
    /// Turns of connections whose protocol is not read.
    pub turns: u64,
    pub turn_total: Histogram,
    pub agreed: Agreed,
}

impl Merge for ServiceStats {
    fn merge(&mut self, other: ServiceStats) {
        self.requests += other.requests;
        self.errors += other.errors;
        add(&mut self.bytes, other.bytes);
        self.connections += other.connections;
        self.total.merge(&other.total);
        self.turns += other.turns;
        self.turn_total.merge(&other.turn_total);
        self.agreed.merge(other.agreed);
    }
}

/// Two ends that exchange data.
#[derive(Debug, Clone, Default)]
pub struct TalkerStats {
    pub connections: u64,
    pub exchanges: u64,
    pub to_server: u64,
    pub to_client: u64,
}

impl Merge for TalkerStats {
    fn merge(&mut self, other: TalkerStats) {
        self.connections += other.connections;
        self.exchanges += other.exchanges;
        add(&mut self.to_server, other.to_server);
        add(&mut self.to_client, other.to_client);
    }
}

/// Connections that failed, or that have no exchanges.
#[derive(Debug, Clone, Default)]
pub struct ConnectionStats {
    pub count: u64,
    pub bytes: u64,
    pub connect: Histogram,
}

impl Merge for ConnectionStats {
    fn merge(&mut self, other: ConnectionStats) {
        self.count += other.count;
        add(&mut self.bytes, other.bytes);
        self.connect.merge(&other.connect);
    }
}

/// Programs with one name.
#[derive(Debug, Clone, Default)]
pub struct ProcessStats {
    pub count: u64,
    pub alive: u64,
    /// Ended with an exit code other than 0.
    pub failed: u64,
    pub signalled: u64,
    pub duration: Histogram,
}

impl Merge for ProcessStats {
    fn merge(&mut self, other: ProcessStats) {
        self.count += other.count;
        self.alive += other.alive;
        self.failed += other.failed;
        self.signalled += other.signalled;
        self.duration.merge(&other.duration);
    }
}

/// Losses with one reason.
#[derive(Debug, Clone, Default)]
pub struct LossStats {
    pub intervals: u64,
    pub events: u64,
    pub bytes: u64,
    pub first: u64,
    pub last: u64,
}

impl Merge for LossStats {
    fn merge(&mut self, other: LossStats) {
        self.first = if self.intervals == 0 {
            other.first
        } else {
            self.first.min(other.first)
        };
        self.last = self.last.max(other.last);
        self.intervals += other.intervals;
        add(&mut self.events, other.events);
        add(&mut self.bytes, other.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_latencies_are_those_of_all_exchanges() {
        let at = |ttfb_ns, total_ns| Latency { ttfb_ns, total_ns };
        let all = [
            at(Some(10), Some(10)),
            at(Some(20), Some(90)),
            at(None, None),
            at(Some(30), None),
            at(Some(40), Some(40)),
        ];
        let mut merged = Latencies::default();
        for part in all.chunks(2) {
            let mut one = Latencies::default();
            one.record_all(part.iter().copied());
            merged.merge(one);
        }
        let facts = |of: &Histogram| (of.count(), of.sum(), of.min(), of.max());
        assert_eq!(facts(&merged.ttfb), (4, 100, Some(10), Some(40)));
        assert_eq!(facts(&merged.total), (3, 140, Some(10), Some(90)));
        assert_eq!(merged.same.count(), 0);
    }
}
