//! When clock records are due: at the start, every two seconds, and at the end. They let the analyzer turn the boot
//! clock into calendar time although the calendar is being corrected meanwhile.

use std::time::Duration;

/// How far apart clock records are.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Decides when something periodic is due. Time is handed in: boot clock, ns.
#[derive(Debug)]
pub struct Ticker {
    interval_ns: u64,
    next: u64,
}

impl Ticker {
    /// Due at once, and then once in each interval.
    pub fn new(interval: Duration) -> Self {
        Ticker {
            interval_ns: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1),
            next: 0,
        }
    }

    /// Whether it is time. After a pause (a stopped recorder) it is due once, not once for each missed interval.
    pub fn due(&mut self, now: u64) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now.saturating_add(self.interval_ns);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_at_once_and_then_once_per_interval() {
        let mut ticker = Ticker::new(Duration::from_nanos(10));
        assert!(ticker.due(5));
        assert!(!ticker.due(14));
        assert!(ticker.due(15));
    }

    #[test]
    fn a_long_pause_is_one_tick() {
        let mut ticker = Ticker::new(Duration::from_nanos(10));
        assert!(ticker.due(0));
        assert!(ticker.due(1000));
        assert!(!ticker.due(1001));
    }
}
