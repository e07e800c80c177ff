//! Counters by key, with a limit on the number of keys.

use std::collections::HashMap;
use std::ops::Range;

use crate::analyze::table::column::FastMap;
use crate::fetch::fetch;

/// What is counted under one key.
pub trait Merge: Default {
    /// Adds what another counted.
    fn merge(&mut self, other: Self);
}

/// Counters that count things of this kind.
pub trait Count<T> {
    /// Fetches what counting these needs.
    fn fetch(&self, all: &[T]);
    /// Counts all of these.
    fn count(&mut self, all: &[T]);
}

/// The key of what came when all keys were given: its fields are all this.
pub const OTHER: &str = "(other)";

/// Counters by key. Keys are texts; several fields are joined by NUL.
#[derive(Debug)]
pub struct Keyed<S> {
    index: FastMap<Box<str>, u32>,
    entries: Vec<(Box<str>, S)>,
    limit: usize,
    other: Option<u32>,
}

impl<S: Merge> Keyed<S> {
    /// None yet; at most `limit` keys, the rest is counted together.
    pub fn new(limit: usize) -> Keyed<S> {
        Keyed {
            index: HashMap::default(),
            entries: Vec::new(),
            limit,
            other: None,
        }
    }

    /// The number of a key, for [`Keyed::at`].
    pub fn number(&mut self, key: &str) -> u32 {
        if let Some(number) = self.index.get(key) {
            return *number;
        }
        if self.entries.len() >= self.limit {
            let next = self.entries.len() as u32;
            let number = *self.other.get_or_insert(next);
            if number == next {
                self.entries.push((OTHER.into(), S::default()));
                self.index.insert(OTHER.into(), number);
            }
            return number;
        }
        let number = self.entries.len() as u32;
        self.entries.push((key.into(), S::default()));
        self.index.insert(key.into(), number);
        number
    }

    /// The counters of a number.
    pub fn at(&mut self, number: u32) -> Option<&mut S> {
        self.entries.get_mut(number as usize).map(|entry| &mut entry.1)
    }

    /// The counters of a key.
    pub fn get(&mut self, key: &str) -> &mut S {
        let number = self.number(key) as usize;
        &mut self.entries[number].1
    }

    /// Takes the limit away: that of one shard does not hold for the whole.
    pub fn unlimit(&mut self) {
        self.limit = usize::MAX;
    }

    /// Adds all counters of another, without a limit.
    pub fn merge(&mut self, other: Keyed<S>) {
        self.unlimit();
        for (key, stats) in other.entries {
            self.get(&key).merge(stats);
        }
    }

    /// Keys and counters, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &S)> {
        self.entries.iter().map(|(key, stats)| (&**key, stats))
    }

    /// All counters.
    pub fn stats_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.entries.iter_mut().map(|entry| &mut entry.1)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and counters, largest `rank` first, then by key.
    pub fn ranked<R: Ord>(&self, rank: impl Fn(&S) -> R) -> Vec<(&str, &S)> {
        let mut all: Vec<(&str, &S)> = self.iter().collect();
        all.sort_by(|a, b| rank(b.1).cmp(&rank(a.1)).then_with(|| a.0.cmp(b.0)));
        all
    }
}

/// Things to be counted that wait until there are many.
///
/// The counters of an endpoint, with their histograms, are larger than what the processor keeps near, and there is one
/// set for each endpoint in each shard: things of one key are counted together, and what the next keys need is fetched
/// meanwhile.
#[derive(Debug)]
pub struct Waiting<T> {
    /// In the order in which they came, each with the number of its key.
    things: Vec<(u32, T)>,
    /// How many wait, by the number of their key.
    waiting: Vec<u32>,
    /// Those of one key after those of another.
    sorted: Vec<T>,
    /// The keys of those, and where they stand.
    groups: Vec<(u32, Range<usize>)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting {
            things: Vec::new(),
            waiting: Vec::new(),
            sorted: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl<T: Copy> Waiting<T> {
    /// So many wait, of all keys.
    const MANY: usize = 1024;

    /// Counts one, now or later.
    #[inline]
    pub fn push<S: Merge + Count<T>>(&mut self, keyed: &mut Keyed<S>, number: u32, one: T) {
        let place = number as usize;
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, 0);
        }
        self.waiting[place] += 1;
        self.things.push((number, one));
        if self.things.len() >= Self::MANY {
            self.settle(keyed);
        }
    }

    /// Counts all that wait.
    pub fn settle<S: Merge + Count<T>>(&mut self, keyed: &mut Keyed<S>) {
        self.sort();
        for step in 0..self.groups.len() + 2 {
            let before = |steps: usize| self.groups.get(step.wrapping_sub(steps));
            if let Some((number, _)) = before(0)
                && let Some(stats) = keyed.at(*number)
            {
                fetch(stats);
            }
            if let Some((number, range)) = before(1)
                && let Some(stats) = keyed.at(*number)
            {
                stats.fetch(&self.sorted[range.clone()]);
            }
            if let Some((number, range)) = before(2)
                && let Some(stats) = keyed.at(*number)
            {
                stats.count(&self.sorted[range.clone()]);
            }
        }
    }

    /// Brings those of each key together; none waits any more.
    fn sort(&mut self) {
        self.groups.clear();
        let mut start = 0;
        for (number, waiting) in self.waiting.iter_mut().enumerate().filter(|(_, waiting)| **waiting > 0) {
            let end = start + *waiting as usize;
            self.groups.push((number as u32, start..end));
            // Where the next of them goes.
            *waiting = start as u32;
            start = end;
        }
        self.sorted.clear();
        self.sorted.extend(self.things.iter().map(|(_, thing)| *thing));
        for (number, thing) in self.things.drain(..) {
            let place = &mut self.waiting[number as usize];
            self.sorted[*place as usize] = thing;
            *place += 1;
        }
        for (number, _) in &self.groups {
            self.waiting[*number as usize] = 0;
        }
    }
}

/// The fields of a key; missing ones are the last there is (so [`OTHER`] fills all).
pub fn fields<const N: usize>(key: &str) -> [&str; N] {
    let mut parts = key.splitn(N, '\0');
    let mut last = "";
    std::array::from_fn(|_| {
        last = parts.next().unwrap_or(last);
        last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Count(u64);
    impl Merge for Count {
        fn merge(&mut self, other: Count) {
            self.0 += other.0;
        }
    }

    #[test]
    fn keys_beyond_the_limit_are_counted_together() {
        let mut keyed = Keyed::<Count>::new(2);
        for key in ["a", "b", "c", "a", "d", "c"] {
            keyed.get(key).0 += 1;
        }
        let all: Vec<_> = keyed.iter().map(|(key, count)| (key, count.0)).collect();
        assert_eq!(all, [("a", 2), ("b", 1), (OTHER, 3)]);
    }

    #[test]
    fn merged_shards_keep_their_sums() {
        let mut one = Keyed::<Count>::new(2);
        let mut two = Keyed::<Count>::new(2);
        ["a", "b", "c"].iter().for_each(|key| one.get(key).0 += 1);
        ["b", "d", "e"].iter().for_each(|key| two.get(key).0 += 1);
        one.merge(two);
        let all: Vec<_> = one
            .ranked(|count| count.0)
            .iter()
            .map(|(key, count)| (key.to_string(), count.0))
            .collect();
        let all: Vec<_> = all.iter().map(|(key, count)| (key.as_str(), *count)).collect();
        assert_eq!(all, [(OTHER, 2), ("b", 2), ("a", 1), ("d", 1)]);
    }

    #[test]
    fn what_waits_is_counted_once_under_its_key() {
        #[derive(Default)]
        struct Sum(u64, u32);
        impl Merge for Sum {
            fn merge(&mut self, _: Sum) {}
        }
        impl super::Count<u32> for Sum {
            fn fetch(&self, _: &[u32]) {}
            fn count(&mut self, all: &[u32]) {
                self.0 += all.iter().map(|one| u64::from(*one)).sum::<u64>();
                self.1 += all.len() as u32;
            }
        }
        let mut keyed = Keyed::<Sum>::new(10);
        let mut waiting = Waiting::default();
        let keys = ["a", "b", "c", "d"].map(|key| keyed.number(key));
        let many = 2 * Waiting::<u32>::MANY as u32 + 7;
        // The third is never counted.
        (0..many).for_each(|one| waiting.push(&mut keyed, keys[[0, 1, 3, 1][one as usize % 4]], one));
        waiting.settle(&mut keyed);
        waiting.settle(&mut keyed);
        let expected = |of: fn(u32) -> bool| {
            let all = (0..many).filter(|one| of(one % 4));
            (all.clone().map(u64::from).sum::<u64>(), all.count() as u32)
        };
        let counted: Vec<_> = keyed.iter().map(|(_, sum)| (sum.0, sum.1)).collect();
        assert_eq!(
            counted,
            [
                expected(|n| n == 0),
                expected(|n| n % 2 == 1),
                (0, 0),
                expected(|n| n == 2)
            ]
        );
    }

    #[test]
    fn fields_of_a_key() {
        assert_eq!(fields::<3>("GET\0/a\0h"), ["GET", "/a", "h"]);
        assert_eq!(fields::<2>(OTHER), [OTHER, OTHER]);
        assert_eq!(fields::<2>("COM_QUERY\0select\0x"), ["COM_QUERY", "select\0x"]);
    }
}
