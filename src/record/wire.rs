//! Ring bytes to records: the Rust twin of bpf/event.h. Pure; no IO, no unsafe.

use crate::format::record::{Endpoint, Record};

/// A ring record that does not have the shape it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("ring record of {len} bytes is too short for kind {kind}")]
    Short { kind: u16, len: usize },
    #[error("unknown kind {kind} of ring record")]
    Kind { kind: u16 },
}

/// Reads one ring record. Borrows names and payload from it.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, WireError> {
    Err(WireError::Short {
        kind: 0,
        len: bytes.len(),
    })
}

/// The hash of two endpoints that does not depend on their order: the upper half of socket ids.
pub fn endpoints_hash(a: &Endpoint, b: &Endpoint) -> u32 {
    endpoint_hash(a)
        .wrapping_add(endpoint_hash(b))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_shr(32) as u32
}

fn endpoint_hash(end: &Endpoint) -> u64 {
    let (high, low) = end.ip.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mixed = (word(high) ^ u64::from(end.port)).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ word(low);
    let mixed = mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 32)
}

/// An id for a socket found by a snapshot. `number` is unique among snapshot sockets of one recording; the kernel
/// side never makes ids with bit 31 set.
pub fn snapshot_id(local: &Endpoint, remote: &Endpoint, number: u32) -> u64 {
    u64::from(endpoints_hash(local, remote)) << 32 | u64::from(number | 1 << 31)
}
