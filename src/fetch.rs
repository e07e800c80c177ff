//! Has the processor fetch what is read soon, so that nothing waits for it then: one of the three places that need unsafe.
//!
//! A load whose value nobody asks for does the same by the letter, but the processor waits for it at last: analysis took a
//! quarter longer.

/// Bytes that are fetched together.
pub const CACHE_LINE: usize = 64;

/// Fetches the cache line in which these bytes begin.
#[inline]
pub fn fetch(line: &[u8; CACHE_LINE]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint to the processor, which neither reads nor faults as far as the program can tell.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(line[0]);
}
