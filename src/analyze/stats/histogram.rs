//! Percentiles of durations without keeping each value.
//!
//! Log-linear: each power of two is split into 128 equal parts, so a percentile is off by less than 0.4 % (half a
//! part). Only the powers of two between the smallest and the largest value are held: a key whose latencies spread over
//! three decades costs 5 KiB. The hdrhistogram crate holds the whole range from 1 on, which is 36 KiB for each key at
//! two significant digits; with thousands of endpoints in each of 8 shards that is the difference between 40 MiB and
//! 300 MiB.

use crate::fetch::fetch;

/// Parts of a power of two, as a power of two.
const BITS: u32 = 7;
const PARTS: usize = 1 << BITS;

/// Counts of values. Merging is exact, and its order does not matter.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Counts of whole powers of two from `low` on, `PARTS` each.
    counts: Vec<u32>,
    /// The power of two at which `counts` begins.
    low: u32,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

/// The bucket of a value: power of two, and the part of it. Values below `PARTS` are exact, in power 0.
fn place(value: u64) -> (u32, usize) {
    match value < PARTS as u64 {
        true => (0, value as usize),
        false => {
            let power = 63 - value.leading_zeros() - BITS;
            (power + 1, (value >> power) as usize & (PARTS - 1))
        }
    }
}

/// The middle of a bucket.
fn middle(power: u32, part: usize) -> u64 {
    match power {
        0 => part as u64,
        _ => {
            let shift = power - 1;
            let floor = ((PARTS + part) as u64) << shift;
            floor + ((1u64 << shift) >> 1)
        }
    }
}

impl Histogram {
    /// Without any value.
    pub const EMPTY: Histogram = Histogram {
        counts: Vec::new(),
        low: 0,
        count: 0,
        sum: 0,
        min: 0,
        max: 0,
    };

    /// Counts a value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let first = self.count == 0;
        self.min = if first { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += u128::from(value);
        match self.counter(value) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.widen(place(value).0);
                if let Some(count) = self.counter(value) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// Counts all these values.
    pub fn record_all(&mut self, values: impl Iterator<Item = u64> + Clone) {
        let (mut min, mut max, mut many) = (u64::MAX, 0, 0);
        for value in values.clone() {
            (min, max, many) = (min.min(value), max.max(value), many + 1);
            self.sum += u128::from(value);
        }
        if many == 0 {
            return;
        }
        self.min = if self.count == 0 { min } else { self.min.min(min) };
        self.max = self.max.max(max);
        self.count += many;
        self.widen(place(min).0);
        self.widen(place(max).0);
        for value in values {
            if let Some(count) = self.counter(value) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Prefetches the counter of a value.
    #[inline]
    pub fn fetch(&self, value: Option<u64>) {
        let offset = value.and_then(|value| self.offset(value));
        if let Some(count) = offset.and_then(|offset| self.counts.get(offset)) {
            fetch(count);
        }
    }

    /// Index of a value's counter; `None` below the range held. It may be beyond the end.
    #[inline]
    fn offset(&self, value: u64) -> Option<usize> {
        let (power, part) = place(value);
        Some(power.checked_sub(self.low)? as usize * PARTS + part)
    }

    /// The counter of a value; `None` outside of the range held.
    #[inline]
    fn counter(&mut self, value: u64) -> Option<&mut u32> {
        let offset = self.offset(value)?;
        self.counts.get_mut(offset)
    }

    /// Widens the range held to a power of two.
    fn widen(&mut self, power: u32) {
        if self.counts.is_empty() {
            self.low = power;
        }
        if power < self.low {
            let more = (self.low - power) as usize * PARTS;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.low = power;
        }
        let needed = (power - self.low + 1) as usize * PARTS;
        if self.counts.len() < needed {
            self.counts.resize(needed, 0);
        }
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 {
            other.min
        } else {
            self.min.min(other.min)
        };
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
        if other.counts.is_empty() {
            return;
        }
        let top = other.low + (other.counts.len() / PARTS) as u32 - 1;
        self.widen(other.low);
        self.widen(top);
        let from = (other.low - self.low) as usize * PARTS;
        for (to, from) in self.counts[from..].iter_mut().zip(&other.counts) {
            *to = to.saturating_add(*from);
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values, exact.
    pub fn sum(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// The mean; `None` without values.
    pub fn mean(&self) -> Option<u64> {
        (self.count > 0).then(|| (self.sum / u128::from(self.count)) as u64)
    }

    /// The smallest value, exact.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The largest value, exact.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The percentile for this share (0 to 1) of all values, by nearest rank, within 0.4 %.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count);
        if rank == self.count {
            return Some(self.max);
        }
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                let value = middle(self.low + (at / PARTS) as u32, at % PARTS);
                return Some(value.clamp(self.min, self.max));
            }
        }
        Some(self.max)
    }

    /// Number of values at or below `value`, to the resolution of a bucket.
    pub fn count_up_to(&self, value: u64) -> u64 {
        let (power, part) = place(value);
        if power < self.low {
            return 0;
        }
        let end = ((power - self.low) as usize * PARTS + part + 1).min(self.counts.len());
        self.counts[..end].iter().map(|count| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that looks random and is always the same.
    fn values(n: usize) -> Vec<u64> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                50_000 + (state % 1000) * (state % 997) * (1 + state % 31)
            })
            .collect()
    }

    #[test]
    fn many_at_once_count_as_one_by_one() {
        let all = values(1000);
        let (mut at_once, mut one_by_one) = (Histogram::default(), Histogram::default());
        for some in all.chunks(7).chain([&[][..], &[0, u64::MAX, 3]]) {
            at_once.record_all(some.iter().copied());
            some.iter().for_each(|value| one_by_one.record(*value));
            assert_eq!(format!("{at_once:?}"), format!("{one_by_one:?}"));
        }
    }

    #[test]
    fn percentiles_are_within_half_a_percent_of_the_exact_ones() {
        let mut all = values(10_000);
        let mut histogram = Histogram::default();
        all.iter().for_each(|value| histogram.record(*value));
        all.sort_unstable();
        for share in [0.01, 0.5, 0.9, 0.95, 0.99, 0.999] {
            let exact = all[(share * all.len() as f64).ceil() as usize - 1];
            let found = histogram.percentile(share).unwrap();
            assert!(
                found.abs_diff(exact) as f64 <= exact as f64 * 0.005,
                "{share}: {found} for {exact}"
            );
        }
        assert_eq!(histogram.max(), all.last().copied());
        assert_eq!(histogram.min(), all.first().copied());
        assert_eq!(histogram.sum(), all.iter().sum::<u64>());
    }

    #[test]
    fn merging_is_counting_together_in_any_order() {
        let all = values(1000);
        let mut whole = Histogram::default();
        let mut parts = [Histogram::default(), Histogram::default(), Histogram::default()];
        for (n, value) in all.iter().enumerate() {
            whole.record(*value);
            parts[n % 3].record(*value);
        }
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut merged = Histogram::default();
            order.iter().for_each(|part| merged.merge(&parts[*part]));
            for share in [0.0, 0.25, 0.5, 0.99, 1.0] {
                assert_eq!(merged.percentile(share), whole.percentile(share));
            }
            assert_eq!(
                (merged.count(), merged.sum(), merged.max()),
                (whole.count(), whole.sum(), whole.max())
            );
        }
    }

    #[test]
    fn any_value_has_a_place() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 127, 128, 129, 255, 256, u64::MAX, 1 << 40] {
            histogram.record(value);
            let (power, part) = place(value);
            let middle = middle(power, part);
            assert!(
                middle.abs_diff(value) as f64 <= value as f64 * 0.004,
                "{value} became {middle}"
            );
        }
        assert_eq!(histogram.count(), 9);
        assert_eq!(histogram.percentile(1.0), Some(u64::MAX));
        assert_eq!(Histogram::default().percentile(0.5), None);
        assert_eq!(histogram.count_up_to(128), 4);
    }
}
