//! Has the processor fetch what is read soon, so that nothing waits for it then. One of the places that need unsafe.
//!
//! A load whose value nobody asks for does the same by the letter, but the processor waits for it at last: analysis took a
//! quarter longer.
#![allow(unsafe_code, reason = "an instruction of the processor")]

/// Bytes that are fetched together.
pub const CACHE_LINE: usize = 64;

/// Fetches the memory of this, without what it points to. On other machines than x86-64 it does nothing.
#[inline]
pub fn fetch<T>(thing: &T) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of::<T>()).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint to the processor, which neither reads nor faults as far as the program can tell.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(thing).cast::<i8>().wrapping_add(at)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = thing;
}
