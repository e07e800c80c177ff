//! The slowest exchanges of a protocol: a short sorted list.

use std::cmp::Ordering;

/// One of the slowest exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slow {
    pub total_ns: u64,
    pub start: u64,
    pub connection: u64,
    pub sequence: u64,
    pub ttfb_ns: Option<u64>,
    pub client: String,
    pub server: String,
    /// Method and target, or the statement.
    pub what: String,
    pub status: String,
}

impl Slow {
    /// Slowest first; then the earliest, then by connection.
    fn order(&self, other: &Slow) -> Ordering {
        let key = |slow: &Slow| {
            (
                std::cmp::Reverse(slow.total_ns),
                slow.start,
                slow.connection,
                slow.sequence,
            )
        };
        key(self).cmp(&key(other))
    }
}

/// The slowest exchanges, sorted. They are so few that a sorted list is faster than a heap.
#[derive(Debug)]
pub struct Slowest {
    limit: usize,
    kept: Vec<Slow>,
}

impl Slowest {
    /// Keeps `limit` exchanges.
    pub fn new(limit: usize) -> Slowest {
        Slowest {
            limit,
            kept: Vec::new(),
        }
    }

    /// Whether an exchange with this total may be one of the slowest. Called for each row; [`Slow`] is made only for these.
    pub fn admits(&self, total_ns: u64) -> bool {
        match self.kept.last() {
            Some(last) if self.kept.len() >= self.limit => total_ns >= last.total_ns,
            _ => self.limit > 0,
        }
    }

    /// Puts an exchange in its place.
    pub fn push(&mut self, slow: Slow) {
        let at = self.kept.partition_point(|kept| kept.order(&slow) == Ordering::Less);
        self.kept.insert(at, slow);
        self.kept.truncate(self.limit);
    }

    /// Adds the exchanges of another list.
    pub fn merge(&mut self, other: Slowest) {
        for slow in other.kept {
            self.push(slow);
        }
    }

    /// Slowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Slow> {
        self.kept.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(total_ns: u64, start: u64) -> Slow {
        Slow {
            total_ns,
            start,
            connection: 1,
            sequence: 0,
            ttfb_ns: None,
            client: String::new(),
            server: String::new(),
            what: String::new(),
            status: String::new(),
        }
    }

    #[test]
    fn the_slowest_are_kept_in_any_order_of_arrival() {
        let all = [(5, 1), (9, 2), (9, 1), (1, 1), (7, 3), (9, 3)];
        for turn in 0..all.len() {
            let mut slowest = Slowest::new(3);
            for n in 0..all.len() {
                let (total, start) = all[(n + turn) % all.len()];
                if slowest.admits(total) {
                    slowest.push(slow(total, start));
                }
            }
            let kept: Vec<_> = slowest.iter().map(|slow| (slow.total_ns, slow.start)).collect();
            assert_eq!(kept, [(9, 1), (9, 2), (9, 3)]);
        }
    }
}
