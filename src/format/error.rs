//! What can be wrong with a capture file, as facts.

use super::layout::{RAW_LIMIT, RECORD_LIMIT, VERSION};

/// Why a file, a block or a record could not be read. Offsets are bytes from the start of the file, except in
/// [`Error::Record`] and [`Error::Frame`], where they are bytes from the start of the inflated block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first bytes are not the magic.
    #[error("not an mdf capture file")]
    NotACapture,
    /// Too short to hold a header.
    #[error("capture file ends inside its header, after {len} bytes")]
    HeaderCut { len: u64 },
    /// Readers of this version cannot read the file, by its own header.
    #[error(
        "capture file needs a newer mdf: its format needs a reader of version {needs}, this one has version {VERSION}"
    )]
    Version { needs: u16 },
    /// The header's checksum is wrong or its inside cannot be decoded, and no index has a copy.
    #[error("header of the capture file is damaged: {why}")]
    Header { why: &'static str },
    /// The body of a block is not what was written.
    #[error("block at byte {offset} is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum { offset: u64, expected: u32, found: u32 },
    /// The length of a block is larger than any block may be.
    #[error("block at byte {offset} claims {len} bytes, the limit is {RAW_LIMIT}")]
    BlockTooLong { offset: u64, len: u64 },
    /// A block is compressed in a way that this version does not know.
    #[error("block at byte {offset} is compressed by method {method}, which this version does not know")]
    Compression { offset: u64, method: u8 },
    /// A block cannot be inflated, or not to the length that it states.
    #[error("block at byte {offset} does not inflate to {expected} bytes")]
    Inflate { offset: u64, expected: u32 },
    /// The frames of a block do not fill it: the rest of the block is lost.
    #[error("record frame at byte {at} of its block claims {len} bytes, {left} are left")]
    Frame { at: usize, len: usize, left: usize },
    /// The inside of one record is not understood; the records after it are.
    #[error("record of kind {kind} at byte {at} of its block is malformed (limit {RECORD_LIMIT} bytes)")]
    Record { at: usize, kind: u8 },
}
