//! The header of a stored block: built by the writer, viewed in place by the reader.

use super::block::{Class, PidSet, RawBlock, SocketSet};
use super::kind::{Counts, Kind};
use super::layout::*;

const AT_CHECKSUM: usize = 8;
const AT_LEN: usize = 12;
const AT_CLASS: usize = 14;
const AT_METHOD: usize = 15;
const AT_FILE: usize = 16;
const AT_NUMBER: usize = 20;
const AT_COMPRESSED: usize = 24;
const AT_RAW: usize = 28;
const AT_RECORDS: usize = 32;
const AT_BODY_CHECKSUM: usize = 36;
const AT_DATA_BYTES: usize = 40;
const AT_PAYLOAD_BYTES: usize = 48;
const AT_FIRST_TIME: usize = 56;
const AT_LAST_TIME: usize = 64;
const AT_COUNTS: usize = 72;
const AT_SOCKETS: usize = AT_COUNTS + 4 * KIND_SLOTS;
const AT_PIDS: usize = AT_SOCKETS + 128;
const _: () = assert!(AT_PIDS + 64 == BLOCK_HEAD_LEN);

/// The header of a block that is about to be written.
#[expect(clippy::cast_possible_truncation, reason = "RAW_LIMIT and COMPRESSED_LIMIT are less")]
pub(super) fn build(block: &RawBlock, file: u32, number: u32, body: &[u8]) -> [u8; BLOCK_HEAD_LEN] {
    let mut head = [0; BLOCK_HEAD_LEN];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &BLOCK_MAGIC);
    put(AT_LEN, &(BLOCK_HEAD_LEN as u16).to_le_bytes());
    put(AT_CLASS, &[block.class.byte(), METHOD_ZSTD]);
    put(AT_FILE, &file.to_le_bytes());
    put(AT_NUMBER, &number.to_le_bytes());
    put(AT_COMPRESSED, &(body.len() as u32).to_le_bytes());
    put(AT_RAW, &(block.bytes.len() as u32).to_le_bytes());
    put(AT_RECORDS, &block.records.to_le_bytes());
    put(AT_BODY_CHECKSUM, &crc32fast::hash(body).to_le_bytes());
    put(AT_DATA_BYTES, &block.data_bytes.to_le_bytes());
    put(AT_PAYLOAD_BYTES, &block.payload_bytes.to_le_bytes());
    put(AT_FIRST_TIME, &block.first_time.to_le_bytes());
    put(AT_LAST_TIME, &block.last_time.to_le_bytes());
    for (slot, count) in block.counts.0.iter().enumerate() {
        put(AT_COUNTS + 4 * slot, &count.to_le_bytes());
    }
    put(AT_SOCKETS, &block.sockets.0);
    put(AT_PIDS, &block.pids.0);
    let checksum = crc32fast::hash(&head[AT_LEN..]);
    head[AT_CHECKSUM..AT_LEN].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// A block header in place; its checksum has been verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    /// The header at the start of `bytes`, when magic, lengths and checksum are those of a block header.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(&BLOCK_MAGIC) || bytes.len() < BLOCK_HEAD_LEN {
            return None;
        }
        let len = usize::from(u16_at(bytes, AT_LEN));
        if !(BLOCK_HEAD_LEN..=BLOCK_HEAD_LIMIT).contains(&len) {
            return None;
        }
        let head = bytes.get(..len)?;
        (crc32fast::hash(&head[AT_LEN..]) == u32_at(head, AT_CHECKSUM)).then_some(Head(head))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing for classes of later versions.
    pub fn class(&self) -> Option<Class> {
        Class::from_byte(self.0[AT_CLASS])
    }

    pub fn method(&self) -> u8 {
        self.0[AT_METHOD]
    }

    /// The checksum of the file header of the file that the block belongs to.
    pub fn file(&self) -> u32 {
        u32_at(self.0, AT_FILE)
    }

    pub fn number(&self) -> u32 {
        u32_at(self.0, AT_NUMBER)
    }

    pub fn compressed_len(&self) -> u32 {
        u32_at(self.0, AT_COMPRESSED)
    }

    pub fn raw_len(&self) -> u32 {
        u32_at(self.0, AT_RAW)
    }

    pub fn records(&self) -> u32 {
        u32_at(self.0, AT_RECORDS)
    }

    pub fn body_checksum(&self) -> u32 {
        u32_at(self.0, AT_BODY_CHECKSUM)
    }

    pub fn data_bytes(&self) -> u64 {
        u64_at(self.0, AT_DATA_BYTES)
    }

    pub fn payload_bytes(&self) -> u64 {
        u64_at(self.0, AT_PAYLOAD_BYTES)
    }

    pub fn first_time(&self) -> u64 {
        u64_at(self.0, AT_FIRST_TIME)
    }

    pub fn last_time(&self) -> u64 {
        u64_at(self.0, AT_LAST_TIME)
    }

    pub fn count(&self, kind: Kind) -> u32 {
        u32_at(self.0, AT_COUNTS + 4 * kind.slot())
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (slot, count) in counts.0.iter_mut().enumerate() {
            *count = u32_at(self.0, AT_COUNTS + 4 * slot);
        }
        counts
    }

    pub fn sockets(&self) -> SocketSet {
        let mut set = SocketSet::default();
        set.0.copy_from_slice(&self.0[AT_SOCKETS..AT_PIDS]);
        set
    }

    pub fn pids(&self) -> PidSet {
        let mut set = PidSet::default();
        set.0.copy_from_slice(&self.0[AT_PIDS..BLOCK_HEAD_LEN]);
        set
    }
}
