//! Numbers of the byte layout (SPEC.md) and the few helpers that read and write them.

/// The version that this code writes, and the newest that it is sure to read.
pub const VERSION: u16 = 1;
/// The oldest reader that can read what this code writes.
pub const READABLE_BY: u16 = 1;

/// First bytes of a file.
pub const FILE_MAGIC: [u8; 8] = *b"\x89MDF\r\n\x1a\n";
/// First bytes of a block.
pub const BLOCK_MAGIC: [u8; 8] = *b"\xf5MDFBLK\n";
/// First bytes of the index.
pub const INDEX_MAGIC: [u8; 8] = *b"\xf5MDFIDX\n";
/// First bytes of the trailer.
pub const TRAILER_MAGIC: [u8; 8] = *b"\xf5MDFEND\n";

/// Bytes before the body of the file header.
pub const FILE_HEAD_LEN: usize = 20;
/// Bytes of a block header that version 1 defines.
pub const BLOCK_HEAD_LEN: usize = 360;
/// A block header of a later version may be longer, up to this.
pub const BLOCK_HEAD_LIMIT: usize = 1024;
/// Bytes of the index before its loss totals.
pub const INDEX_HEAD_LEN: usize = 40;
/// Bytes of one loss total in the index.
pub const LOSS_ENTRY_LEN: usize = 24;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 40;

/// The longest body of a file header.
pub const HEADER_LIMIT: usize = 1 << 20;
/// The longest body of a record.
pub const RECORD_LIMIT: usize = 1 << 20;
/// The longest inflated block.
pub const RAW_LIMIT: usize = 4 << 20;
/// The longest compressed block: zstd adds at most 1/256 and a little to what it cannot compress.
pub const COMPRESSED_LIMIT: usize = RAW_LIMIT + (RAW_LIMIT >> 8) + 1024;
/// A writer ends a block when it has reached this size.
pub const BLOCK_TARGET: usize = 1 << 20;

/// Bytes before the body of a record: kind, and 24 bits of length.
pub const FRAME_LEN: usize = 4;
/// Counters of records by kind in a block header; the first counts kinds that have no counter of their own.
pub const KIND_SLOTS: usize = 24;

/// Compression methods of a block's body.
pub const METHOD_ZSTD: u8 = 1;

/// The integer at `at`; 0 beyond the end, so callers check lengths first.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

/// As [`u16_at`].
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// As [`u16_at`].
#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or([0; N])
}
