//! A Bloom filter of the sockets and pids that a block refers to: false positives are possible, false negatives are not.

/// Bloom filter with two bits per key in `BYTES` bytes (a power of two). The recorder pays a multiplication and two
/// bits for each record, and saves itself even these when the key is that of the record before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bloom<const BYTES: usize>(pub(super) [u8; BYTES]);

impl<const BYTES: usize> Default for Bloom<BYTES> {
    fn default() -> Self {
        Bloom([0; BYTES])
    }
}

impl<const BYTES: usize> Bloom<BYTES> {
    const BITS: u32 = (BYTES * 8).trailing_zeros();

    /// Places of the two bits (SPEC.md, "Summaries").
    #[expect(clippy::cast_possible_truncation, reason = "fewer bits than 32 are left")]
    fn places(key: u32) -> [usize; 2] {
        let mixed = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = (1 << Self::BITS) - 1;
        [
            (mixed >> (64 - Self::BITS)) as usize,
            (mixed >> (64 - 2 * Self::BITS)) as usize & mask,
        ]
    }

    /// Adds a key.
    pub fn insert(&mut self, key: u32) {
        for place in Self::places(key) {
            self.0[place / 8] |= 1 << (place % 8);
        }
    }

    /// Whether the key may have been added; `false` is certain.
    pub fn may_contain(&self, key: u32) -> bool {
        Self::places(key)
            .iter()
            .all(|&place| self.0[place / 8] & (1 << (place % 8)) != 0)
    }
}
