//! Counters by key, with limits on the number of keys and on their bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::analyze::column::FastMap;
use crate::fetch::fetch;

/// Counters that can be merged.
pub trait Merge: Default {
    /// Adds the counts of another.
    fn merge(&mut self, other: Self);
}

/// Counters of items of this type.
pub trait Count<T> {
    /// Prefetches what counting these needs.
    fn fetch(&self, all: &[T]);
    /// Counts all of these.
    fn count(&mut self, all: &[T]);
}

/// The key of everything beyond the limits: all its fields are this.
pub const OTHER: &str = "(other)";

/// Counters by key. Keys are texts that [`KeyText`] makes of fields.
#[derive(Debug)]
pub struct Keyed<S> {
    index: FastMap<Arc<str>, u32>,
    entries: Vec<(Arc<str>, S)>,
    limit: usize,
    /// Bytes left for keys.
    room: usize,
    other: Option<u32>,
}

impl<S: Merge> Keyed<S> {
    /// Empty; at most `limit` keys of `bytes` bytes together. What comes after is counted under [`OTHER`].
    pub fn new(limit: usize, bytes: usize) -> Keyed<S> {
        Keyed {
            index: HashMap::default(),
            entries: Vec::new(),
            limit,
            room: bytes,
            other: None,
        }
    }

    /// The number of a key, for [`Keyed::at`].
    pub fn number(&mut self, key: &str) -> u32 {
        if let Some(number) = self.index.get(key) {
            return *number;
        }
        if self.entries.len() >= self.limit || key.len() > self.room {
            return match self.other {
                Some(number) => number,
                None => *self.other.insert(add_key(&mut self.index, &mut self.entries, OTHER)),
            };
        }
        self.room -= key.len();
        add_key(&mut self.index, &mut self.entries, key)
    }

    /// Whether this is the number of [`OTHER`].
    pub fn is_other(&self, number: u32) -> bool {
        self.other == Some(number)
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

    /// Removes the limits, which are those of one shard.
    pub fn unlimit(&mut self) {
        self.limit = usize::MAX;
        self.room = usize::MAX;
    }

    /// Adds all counters of another shard, without a limit.
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

/// Items that wait to be counted in batches.
///
/// The counters of an endpoint, with their histograms, do not fit the processor's cache, and there is one set for each
/// endpoint in each shard. So the items of one key are counted together, while the counters of the next keys are prefetched.
#[derive(Debug)]
pub struct Waiting<T> {
    /// In the order of arrival, each with the number of its key.
    items: Vec<(u32, T)>,
    /// Number of waiting items, by the number of their key.
    waiting: Vec<u32>,
    /// The items, grouped by key.
    sorted: Vec<T>,
    /// The number of each key, and the range of its items in `sorted`.
    groups: Vec<(u32, Range<usize>)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting {
            items: Vec::new(),
            waiting: Vec::new(),
            sorted: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl<T: Copy> Waiting<T> {
    /// Items of all keys that are counted in one batch.
    const BATCH: usize = 1024;

    /// Counts an item, now or later.
    #[inline]
    pub fn push<S: Merge + Count<T>>(&mut self, keyed: &mut Keyed<S>, number: u32, one: T) {
        let place = number as usize;
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, 0);
        }
        self.waiting[place] += 1;
        self.items.push((number, one));
        if self.items.len() >= Self::BATCH {
            self.settle(keyed);
        }
    }

    /// Counts all waiting items.
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

    /// Moves all items into `sorted`, grouped by key.
    fn sort(&mut self) {
        self.groups.clear();
        let mut start = 0;
        for (number, waiting) in self.waiting.iter_mut().enumerate().filter(|(_, waiting)| **waiting > 0) {
            let end = start + *waiting as usize;
            self.groups.push((number as u32, start..end));
            // From here on the index of the key's next item.
            *waiting = start as u32;
            start = end;
        }
        self.sorted.clear();
        self.sorted.extend(self.items.iter().map(|(_, item)| *item));
        for (number, item) in self.items.drain(..) {
            let place = &mut self.waiting[number as usize];
            self.sorted[*place as usize] = item;
            *place += 1;
        }
        for (number, _) in &self.groups {
            self.waiting[*number as usize] = 0;
        }
    }
}

fn add_key<S: Default>(index: &mut FastMap<Arc<str>, u32>, entries: &mut Vec<(Arc<str>, S)>, key: &str) -> u32 {
    let number = entries.len() as u32;
    let key: Arc<str> = key.into();
    entries.push((Arc::clone(&key), S::default()));
    index.insert(key, number);
    number
}

/// Builds keys from fields: each followed by NUL, then the length of each, so that a field may contain NUL itself.
#[derive(Debug, Default)]
pub struct KeyText {
    text: String,
    lens: Vec<usize>,
}

/// Characters of a length, with 7 bits each.
const LEN_CHARS: usize = 4;
/// No record, and so no field, is longer.
const MAX_LEN: usize = (1 << (7 * LEN_CHARS)) - 1;

impl KeyText {
    /// Begins a key.
    pub fn begin(&mut self) -> &mut Self {
        self.text.clear();
        self.lens.clear();
        self
    }

    /// Adds a field.
    pub fn field(&mut self, field: &str) -> &mut Self {
        self.write(|to| to.push_str(field))
    }

    /// Adds a field that `write` writes.
    pub fn write(&mut self, write: impl FnOnce(&mut String)) -> &mut Self {
        let start = self.text.len();
        write(&mut self.text);
        self.lens.push((self.text.len() - start).min(MAX_LEN));
        self.text.push('\0');
        self
    }

    /// The key.
    pub fn done(&mut self) -> &str {
        for len in self.lens.drain(..) {
            self.text
                .extend((0..LEN_CHARS).map(|n| char::from((len >> (7 * n)) as u8 & 0x7f)));
        }
        &self.text
    }
}

/// The fields of a key; those of [`OTHER`] are all [`OTHER`].
pub fn fields<const N: usize>(key: &str) -> [&str; N] {
    let mut fields = each_field(key, N);
    std::array::from_fn(|_| fields.next().unwrap_or(""))
}

/// The fields of a key that has `number` of them.
pub fn each_field(key: &str, number: usize) -> impl Iterator<Item = &str> {
    let (mut text, lens) = key
        .split_at_checked(key.len().saturating_sub(number * LEN_CHARS))
        .unwrap_or((key, ""));
    let mut lens = lens.as_bytes().chunks_exact(LEN_CHARS);
    (0..number).map(move |_| {
        if key == OTHER {
            return OTHER;
        }
        let len = lens
            .next()
            .unwrap_or_default()
            .iter()
            .rev()
            .fold(0, |len, seven| len << 7 | usize::from(*seven));
        let (field, rest) = text.split_at_checked(len).unwrap_or((text, ""));
        text = rest.strip_prefix('\0').unwrap_or(rest);
        field
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
    fn keys_beyond_the_limit_are_counted_under_other() {
        let mut keyed = Keyed::<Count>::new(2, usize::MAX);
        for key in ["a", "b", "c", "a", "d", "c"] {
            keyed.get(key).0 += 1;
        }
        let all: Vec<_> = keyed.iter().map(|(key, count)| (key, count.0)).collect();
        assert_eq!(all, [("a", 2), ("b", 1), (OTHER, 3)]);
    }

    #[test]
    fn merged_shards_keep_their_sums() {
        let mut one = Keyed::<Count>::new(2, usize::MAX);
        let mut two = Keyed::<Count>::new(2, usize::MAX);
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
    fn a_waiting_item_is_counted_once_under_its_key() {
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
        let mut keyed = Keyed::<Sum>::new(10, usize::MAX);
        let mut waiting = Waiting::default();
        let keys = ["a", "b", "c", "d"].map(|key| keyed.number(key));
        let many = 2 * Waiting::<u32>::BATCH as u32 + 7;
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

    fn key(fields: &[&str]) -> String {
        let mut key = KeyText::default();
        key.begin();
        fields.iter().for_each(|field| {
            key.field(field);
        });
        key.done().to_string()
    }

    #[test]
    fn fields_of_a_key() {
        assert_eq!(fields::<3>(&key(&["GET", "/a", "h"])), ["GET", "/a", "h"]);
        assert_eq!(fields::<2>(OTHER), [OTHER, OTHER]);
        assert_eq!(fields::<2>(&key(&["", ""])), ["", ""]);
        let long = "é".repeat(20_000);
        assert_eq!(fields::<2>(&key(&[&long, "x"])), [&long, "x"]);
    }

    #[test]
    fn a_field_may_contain_nul() {
        let all = ["", "\0", "a", "a\0", "\0a", "a\0b", "\0\0"];
        let mut seen = std::collections::HashMap::new();
        for first in all {
            for second in all {
                for third in all {
                    let key = key(&[first, second, third]);
                    assert_eq!(fields::<3>(&key), [first, second, third]);
                    assert_eq!(seen.insert(key, [first, second, third]), None);
                }
            }
        }
    }

    #[test]
    fn keys_are_bounded_in_bytes() {
        let mut keyed = Keyed::<Count>::new(usize::MAX, 1000);
        for number in 0..1000 {
            keyed.get(&format!("{number:0100}")).0 += 1;
        }
        let all: Vec<_> = keyed.iter().map(|(key, count)| (key.len(), count.0)).collect();
        assert_eq!(all[..10], [(100, 1); 10]);
        assert_eq!(all[10..], [(OTHER.len(), 990)]);
        assert!(keyed.is_other(10) && !keyed.is_other(9));
    }
}
