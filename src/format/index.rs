//! The index and the trailer: a shortcut to every block header, and a copy of the file header. Nobody needs them.

use super::block::LossTotal;
use super::head::Head;
use super::layout::*;
use super::record::LossReason;

const AT_CHECKSUM: usize = 8;
const AT_FILE: usize = 12;
const AT_HEADER_LEN: usize = 16;
const AT_LOSSES: usize = 20;
const AT_BLOCKS: usize = 24;
const AT_LEN: usize = 32;

/// The index as bytes. `entries` are `blocks` times an offset and a block header.
#[expect(
    clippy::cast_possible_truncation,
    reason = "headers are shortened, and there are few reasons of loss"
)]
pub(super) fn build(file: u32, header: &[u8], losses: &[LossTotal], blocks: u64, entries: &[u8]) -> Vec<u8> {
    let len = INDEX_HEAD_LEN + losses.len() * LOSS_ENTRY_LEN + header.len() + entries.len();
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&INDEX_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&file.to_le_bytes());
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(&(losses.len() as u32).to_le_bytes());
    out.extend_from_slice(&blocks.to_le_bytes());
    out.extend_from_slice(&(len as u64).to_le_bytes());
    for loss in losses {
        out.extend_from_slice(&u64::from(loss.reason.byte()).to_le_bytes());
        out.extend_from_slice(&loss.events.to_le_bytes());
        out.extend_from_slice(&loss.bytes.to_le_bytes());
    }
    out.extend_from_slice(header);
    out.extend_from_slice(entries);
    let checksum = crc32fast::hash(&out[AT_FILE..]);
    out[AT_CHECKSUM..AT_FILE].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// The trailer of a file whose index starts at `offset`.
pub(super) fn build_trailer(offset: u64, index_len: u64) -> [u8; TRAILER_LEN] {
    let mut out = [0; TRAILER_LEN];
    out[..8].copy_from_slice(&TRAILER_MAGIC);
    out[8..16].copy_from_slice(&offset.to_le_bytes());
    out[16..24].copy_from_slice(&index_len.to_le_bytes());
    out[24..32].copy_from_slice(&(offset + index_len + TRAILER_LEN as u64).to_le_bytes());
    out[32..34].copy_from_slice(&VERSION.to_le_bytes());
    out[34..36].copy_from_slice(&READABLE_BY.to_le_bytes());
    let checksum = crc32fast::hash(&out[..36]);
    out[36..].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// An index whose trailer and checksum are right.
pub(super) struct Index<'a> {
    pub offset: usize,
    /// As in [`Head::file`].
    pub file: u32,
    pub readable_by: u16,
    /// The body of the file header.
    pub header: &'a [u8],
    pub losses: Vec<LossTotal>,
    /// Offset and header of each block, in the order of the file.
    pub blocks: Vec<(u64, Head<'a>)>,
}

/// The trailer: the last bytes of a whole file.
pub(super) struct Trailer {
    pub index: usize,
    pub index_end: usize,
    pub readable_by: u16,
}

/// The trailer, when it can be believed.
pub(super) fn trailer(bytes: &[u8]) -> Option<Trailer> {
    let at = bytes.len().checked_sub(TRAILER_LEN)?;
    let trailer = &bytes[at..];
    if !trailer.starts_with(&TRAILER_MAGIC)
        || crc32fast::hash(&trailer[..36]) != u32_at(trailer, 36)
        || u64_at(trailer, 24) != bytes.len() as u64
    {
        return None;
    }
    let index = usize::try_from(u64_at(trailer, 8)).ok()?;
    let len = usize::try_from(u64_at(trailer, 16)).ok()?;
    (index.checked_add(len)? == at).then_some(Trailer {
        index,
        index_end: at,
        readable_by: u16_at(trailer, 34),
    })
}

/// The index of a whole file, when it can be believed.
#[expect(
    clippy::cast_possible_truncation,
    reason = "less than the entries, which are in memory"
)]
pub(super) fn find(bytes: &[u8]) -> Option<Index<'_>> {
    let Trailer {
        index: offset,
        index_end,
        readable_by,
    } = trailer(bytes)?;
    let index = bytes.get(offset..index_end)?;
    if index.len() < INDEX_HEAD_LEN
        || !index.starts_with(&INDEX_MAGIC)
        || u64_at(index, AT_LEN) != index.len() as u64
        || crc32fast::hash(&index[AT_FILE..]) != u32_at(index, AT_CHECKSUM)
    {
        return None;
    }
    let loss_bytes = (u32_at(index, AT_LOSSES) as usize).checked_mul(LOSS_ENTRY_LEN)?;
    let (losses, rest) = index[INDEX_HEAD_LEN..].split_at_checked(loss_bytes)?;
    let (header, mut entries) = rest.split_at_checked(u32_at(index, AT_HEADER_LEN) as usize)?;
    let count = u64_at(index, AT_BLOCKS);
    // An entry is never smaller than this, so a lying count cannot ask for more than a part of the file's own size.
    if count > (entries.len() / (8 + BLOCK_HEAD_LEN)) as u64 {
        return None;
    }
    let mut blocks = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let head = Head::parse(entries.get(8..)?)?;
        blocks.push((u64_at(entries, 0), head));
        entries = &entries[8 + head.len()..];
    }
    Some(Index {
        offset,
        file: u32_at(index, AT_FILE),
        readable_by,
        header,
        losses: losses
            .chunks_exact(LOSS_ENTRY_LEN)
            .map(|entry| LossTotal {
                reason: LossReason::from(entry[0]),
                events: u64_at(entry, 8),
                bytes: u64_at(entry, 16),
            })
            .collect(),
        blocks,
    })
}

/// Length of what looks like an index of this file at the start of `bytes`. Its content is not checked: this only
/// shows where the blocks of a file end whose trailer or index is damaged.
pub(super) fn looks_like_index(bytes: &[u8], file: u32) -> Option<usize> {
    if !bytes.starts_with(&INDEX_MAGIC) || bytes.len() < INDEX_HEAD_LEN || u32_at(bytes, AT_FILE) != file {
        return None;
    }
    usize::try_from(u64_at(bytes, AT_LEN))
        .ok()
        .filter(|&len| len >= INDEX_HEAD_LEN)
}
