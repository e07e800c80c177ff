//! Maps by numbers that files choose: socket ids, positions, process ids. A hostile file may hold millions that collide under a
//! known hash, so the hash is seeded at random. Nothing may depend on the order of such a map.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;

use foldhash::fast::RandomState;

/// A map by such numbers.
pub type IdMap<K, V> = HashMap<K, V, RandomState>;
/// A set of them.
pub type IdSet<K> = HashSet<K, RandomState>;

/// A fixed hash, for caches with one place for each hash, where a collision costs only a miss. Never for maps.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        let last = rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
        self.write_u64(last);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    use super::*;
    use crate::analyze::column::FastMap;

    #[test]
    fn a_file_cannot_choose_where_its_ids_are_kept() {
        // Ids that collide under the hash above: it multiplies by an odd number, which can be inverted.
        let mut undo = 1u64;
        for _ in 0..6 {
            undo = undo.wrapping_mul(2u64.wrapping_sub(undo.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        let ids: Vec<u64> = (0..1000u64)
            .map(|n| (n << 40).rotate_right(26).wrapping_mul(undo))
            .collect();
        let mut hashes = ids.iter().map(|id| {
            let mut hasher = IdHasher::default();
            hasher.write_u64(*id);
            hasher.finish()
        });
        assert!(hashes.all(|hash| hash as u32 == 0));
        let map = IdMap::<(u16, u64), ()>::default();
        let places: BTreeSet<u16> = ids.iter().map(|id| map.hasher().hash_one((0u16, *id)) as u16).collect();
        assert!(places.len() > 900, "{} places", places.len());
    }

    #[test]
    fn no_two_maps_hash_alike() {
        let hash = |text: &str| FastMap::<String, ()>::default().hasher().hash_one(text);
        assert!((0..8).any(|n| hash(&n.to_string()) != hash(&n.to_string())));
    }
}
