//! Reads a capture file from memory (a map of the file). Every byte is hostile: nothing is allocated beyond the stated
//! limits and a part of the file's own size, nothing is inflated before its checksum is right, nothing panics.

use std::cell::RefCell;

use zstd::bulk::Decompressor;

use super::block::{Class, LossTotal, PidSet, SocketSet};
use super::codec;
use super::error::Error;
use super::head::Head;
use super::header::Header;
use super::index::{self, Index};
use super::kind::{Counts, Kind};
use super::layout::*;
use super::writer::header_checksum;

/// What is wrong with a range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The file header; its copy in the index was used. Nothing is lost.
    Header,
    /// The index or the trailer; blocks were found without them. Nothing is lost.
    Index,
    /// The file ends without an index: it was cut, or the recorder was killed.
    Unclosed,
    /// A block that goes on beyond the end of the file.
    CutBlock,
    /// A block whose length cannot be right.
    Block,
    /// Bytes that belong to no block.
    NotABlock,
    /// Bytes after the end of the file.
    Trailing,
}

/// A range of the file that could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Bytes from the start of the file.
    pub offset: u64,
    pub len: u64,
    pub what: What,
    /// Records known to be lost; 0 when unknown.
    pub records: u32,
}

impl Damage {
    /// Whether records are or may be lost.
    pub fn loses(&self) -> bool {
        !matches!(self.what, What::Header | What::Index)
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damage {
            offset, len, records, ..
        } = self;
        match self.what {
            What::Header => write!(f, "header is damaged, its copy in the index was used"),
            What::Index => write!(f, "index is damaged, blocks were found without it"),
            What::Unclosed => write!(f, "file was not closed: it ends at byte {offset} without an index"),
            What::CutBlock => write!(
                f,
                "file is cut inside the block at byte {offset}: {records} records lost"
            ),
            What::Block => write!(f, "block at byte {offset} is damaged: {records} records lost"),
            What::NotABlock => write!(f, "{len} bytes at byte {offset} are damaged and were skipped"),
            What::Trailing => write!(f, "{len} bytes follow the end of the file at byte {offset}"),
        }
    }
}

/// A capture file.
#[derive(Debug)]
pub struct Reader<'a> {
    header: Header,
    version: u16,
    len: u64,
    blocks: Vec<BlockRef<'a>>,
    unknown_blocks: u64,
    damage: Vec<Damage>,
    clean_end: bool,
    losses: Option<Vec<LossTotal>>,
}

/// The believable start of a file.
struct Front {
    header: Header,
    version: u16,
    /// Checksum of the header, which its blocks repeat.
    file: u32,
    /// Where the blocks start.
    end: usize,
}

impl<'a> Reader<'a> {
    /// Finds the blocks: through the index when it is good, else by going from block to block. An error means that
    /// nothing of the file can be understood; damage is in [`Reader::damage`].
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let index = index::find(bytes);
        let mut reader = match front(bytes) {
            Ok(front) => {
                let mut reader = Reader::new(front.header, front.version, bytes);
                match index.filter(|index| index.file == front.file) {
                    Some(index) if reader.use_index(bytes, front.end, &index) => {}
                    _ => reader.scan(bytes, front.end, front.file),
                }
                reader
            }
            Err(error @ Error::Version { .. }) => return Err(error),
            Err(error) => {
                let index = index.ok_or(error.clone())?;
                if index.readable_by > VERSION {
                    return Err(Error::Version {
                        needs: index.readable_by,
                    });
                }
                let header = codec::decode_header(index.header).map_err(|_| error.clone())?;
                let start = FILE_HEAD_LEN + index.header.len();
                let mut reader = Reader::new(header, VERSION, bytes);
                if !reader.use_index(bytes, start, &index) {
                    return Err(error);
                }
                reader.note(0, start as u64, What::Header, 0);
                reader
            }
        };
        reader.damage.sort_by_key(|damage| damage.offset);
        Ok(reader)
    }

    fn new(header: Header, version: u16, bytes: &[u8]) -> Self {
        Reader {
            header,
            version,
            len: bytes.len() as u64,
            blocks: Vec::new(),
            unknown_blocks: 0,
            damage: Vec::new(),
            clean_end: false,
            losses: None,
        }
    }

    fn note(&mut self, offset: u64, len: u64, what: What, records: u32) {
        self.damage.push(Damage {
            offset,
            len,
            what,
            records,
        });
    }

    fn add(&mut self, offset: usize, head: Head<'a>, body: &'a [u8]) {
        match head.class() {
            Some(class) => self.blocks.push(BlockRef {
                offset: offset as u64,
                class,
                head,
                body,
            }),
            None => self.unknown_blocks += 1,
        }
    }

    /// Takes the blocks of the index; `false`, and nothing is taken, when they do not fit the file.
    fn use_index(&mut self, bytes: &'a [u8], start: usize, index: &Index<'a>) -> bool {
        let mut at = start;
        for (offset, head) in &index.blocks {
            let block = usize::try_from(*offset)
                .ok()
                .filter(|&offset| offset >= at)
                .and_then(|offset| {
                    let body = offset.checked_add(head.len())?;
                    let end = body.checked_add(head.compressed_len() as usize)?;
                    (end <= index.offset && head.file() == index.file).then_some((offset, body, end))
                });
            let Some((offset, body, end)) = block else {
                self.blocks.clear();
                self.damage.clear();
                self.unknown_blocks = 0;
                return false;
            };
            if offset > at {
                self.note(at as u64, (offset - at) as u64, What::NotABlock, 0);
            }
            self.add(offset, *head, &bytes[body..end]);
            at = end;
        }
        if index.offset > at {
            self.note(at as u64, (index.offset - at) as u64, What::NotABlock, 0);
        }
        self.clean_end = true;
        self.losses = Some(index.losses.clone());
        true
    }

    /// Goes from block to block; after damage, looks for the next header that can be believed.
    fn scan(&mut self, bytes: &'a [u8], start: usize, file: u32) {
        let whole = bytes;
        // A good trailer shows where the blocks end, even when the index that it points to is damaged.
        let trailer = index::trailer(whole).filter(|trailer| trailer.index >= start);
        let bytes = &whole[..trailer.as_ref().map_or(whole.len(), |trailer| trailer.index)];
        let mut at = start;
        loop {
            let rest = &bytes[at..];
            let Some(head) = block_at(rest, file) else {
                if rest.is_empty() {
                    let what = if trailer.is_some() { What::Index } else { What::Unclosed };
                    self.note(at as u64, (whole.len() - at) as u64, what, 0);
                    return;
                }
                if let Some(len) = index::looks_like_index(rest, file) {
                    self.end_at_index(bytes, at, len);
                    return;
                }
                let next = at + 1 + next_landmark(&rest[1..], file);
                self.note(at as u64, (next - at) as u64, What::NotABlock, 0);
                at = next;
                continue;
            };
            let body = at + head.len();
            // Lengths are below 2^33 together, so this cannot overflow 64 bits; on 32 bits it saturates.
            let end = body.saturating_add(head.compressed_len() as usize);
            let sound = end == bytes.len()
                || bytes.get(end..).is_some_and(|after| {
                    block_at(after, file).is_some() || index::looks_like_index(after, file).is_some()
                });
            if sound {
                self.add(at, head, &bytes[body..end]);
                at = end;
                continue;
            }
            let next = body + next_landmark(&bytes[body..], file);
            if next >= end {
                // What follows is damaged, this block is not known to be: its own checksum decides.
                self.add(at, head, &bytes[body..end]);
                at = end;
            } else {
                let what = if next == bytes.len() {
                    What::CutBlock
                } else {
                    What::Block
                };
                self.note(at as u64, (next - at) as u64, what, head.records());
                at = next;
            }
        }
    }

    fn end_at_index(&mut self, bytes: &[u8], at: usize, len: usize) {
        let size = bytes.len() - at;
        let Some(after) = bytes[at..].get(len..) else {
            self.note(at as u64, size as u64, What::Index, 0);
            return;
        };
        let end = at
            + len
            + if after.starts_with(&TRAILER_MAGIC) {
                TRAILER_LEN.min(after.len())
            } else {
                0
            };
        self.note(at as u64, (end - at) as u64, What::Index, 0);
        if end < bytes.len() {
            self.note(end as u64, (bytes.len() - end) as u64, What::Trailing, 0);
        }
    }

    /// The header of the file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Version of the format that the file was written in.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Length of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no blocks.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The blocks in the order of the file. Their bodies have not been looked at yet: damage inside a block shows in
    /// [`BlockRef::inflate`].
    pub fn blocks(&self) -> &[BlockRef<'a>] {
        &self.blocks
    }

    /// Blocks of classes that this version does not know; they are not among [`Reader::blocks`].
    pub fn unknown_blocks(&self) -> u64 {
        self.unknown_blocks
    }

    /// Ranges that could not be used, in the order of the file.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Whether the recorder closed the file: index and trailer are there and right.
    pub fn clean_end(&self) -> bool {
        self.clean_end
    }

    /// Losses by reason, from the index; nothing when there is no index: then they are in the blocks whose
    /// count of [`Kind::Loss`] is not 0.
    pub fn losses(&self) -> Option<&[LossTotal]> {
        self.losses.as_deref()
    }
}

/// The header of a file of which these bytes are the beginning, or all.
pub fn header(bytes: &[u8]) -> Result<Header, Error> {
    front(bytes).map(|front| front.header)
}

/// The file header at the front.
fn front(bytes: &[u8]) -> Result<Front, Error> {
    let cut = Error::HeaderCut {
        len: bytes.len() as u64,
    };
    if bytes.len() < FILE_HEAD_LEN {
        let start = bytes.len().min(FILE_MAGIC.len());
        let ours = !bytes.is_empty() && bytes[..start] == FILE_MAGIC[..start];
        return Err(if ours { cut } else { Error::NotACapture });
    }
    if !bytes.starts_with(&FILE_MAGIC) {
        return Err(Error::NotACapture);
    }
    let len = u32_at(bytes, 12) as usize;
    if len > HEADER_LIMIT {
        return Err(Error::Header {
            why: "it claims to be longer than a header may be",
        });
    }
    let body = bytes.get(FILE_HEAD_LEN..FILE_HEAD_LEN + len).ok_or(cut)?;
    let file = u32_at(bytes, 16);
    if header_checksum(&bytes[8..16], body) != file {
        return Err(Error::Header {
            why: "its checksum is wrong",
        });
    }
    let needs = u16_at(bytes, 10);
    if needs > VERSION {
        return Err(Error::Version { needs });
    }
    let header = codec::decode_header(body).map_err(|_| Error::Header {
        why: "its content is malformed",
    })?;
    Ok(Front {
        header,
        version: u16_at(bytes, 8),
        file,
        end: FILE_HEAD_LEN + len,
    })
}

/// The header of a block of this file at the start of `bytes`.
fn block_at(bytes: &[u8], file: u32) -> Option<Head<'_>> {
    Head::parse(bytes).filter(|head| head.file() == file)
}

/// Distance to the next block header or index of this file; the length of `bytes` when there is none.
fn next_landmark(bytes: &[u8], file: u32) -> usize {
    // All magics but that of the file begin so; a search for these bytes alone runs at the speed of memory.
    const PREFIX: &[u8] = b"\xf5MDF";
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|&byte| byte == PREFIX[0]) {
        at += found;
        let rest = &bytes[at..];
        if rest.starts_with(PREFIX) && (block_at(rest, file).is_some() || index_ends(rest, file)) {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// Whether an index of this file starts here and ends with `bytes`, with or without a trailer.
fn index_ends(bytes: &[u8], file: u32) -> bool {
    index::looks_like_index(bytes, file).is_some_and(|len| {
        bytes
            .len()
            .checked_sub(len)
            .is_some_and(|after| after == 0 || after == TRAILER_LEN)
    })
}

thread_local! {
    /// Making a zstd context costs more than inflating a small block.
    static INFLATER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A block of a file. Small and freely copied; each block can be checked, inflated and read alone, on any thread.
#[derive(Debug, Clone, Copy)]
pub struct BlockRef<'a> {
    offset: u64,
    class: Class,
    head: Head<'a>,
    body: &'a [u8],
}

impl<'a> BlockRef<'a> {
    pub fn class(&self) -> Class {
        self.class
    }

    /// Records in it.
    pub fn records(&self) -> u32 {
        self.head.records()
    }

    /// Records of one kind.
    pub fn count(&self, kind: Kind) -> u32 {
        self.head.count(kind)
    }

    /// Records by kind.
    pub fn counts(&self) -> Counts {
        self.head.counts()
    }

    /// Number of the block among those of its file, from 0. A gap means that a block is missing.
    pub fn number(&self) -> u32 {
        self.head.number()
    }

    /// Earliest time of its records: boot-time clock, ns.
    pub fn first_time(&self) -> u64 {
        self.head.first_time()
    }

    /// Latest time of its records.
    pub fn last_time(&self) -> u64 {
        self.head.last_time()
    }

    /// Bytes of its body on disk.
    pub fn compressed_len(&self) -> u32 {
        self.head.compressed_len()
    }

    /// Bytes of its body when inflated.
    pub fn raw_len(&self) -> u32 {
        self.head.raw_len()
    }

    /// Where it starts, bytes from the start of the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its bytes in the file, header and body.
    #[expect(clippy::cast_possible_truncation, reason = "a place in a file that is in memory")]
    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.offset as usize;
        start..start + self.head.len() + self.body.len()
    }

    /// Sum of the original lengths of its data records.
    pub fn data_bytes(&self) -> u64 {
        self.head.data_bytes()
    }

    /// Sum of their captured lengths.
    pub fn payload_bytes(&self) -> u64 {
        self.head.payload_bytes()
    }

    /// Connections that it may refer to: ask with `(id >> 32) as u32` of a socket id.
    pub fn sockets(&self) -> SocketSet {
        self.head.sockets()
    }

    /// Processes that it may refer to.
    pub fn pids(&self) -> PidSet {
        self.head.pids()
    }

    /// Whether any record of the block may be between these times, both included (boot-time clock, ns).
    pub fn overlaps(&self, from: u64, to: u64) -> bool {
        self.first_time() <= to && self.last_time() >= from
    }

    /// Inflates the records into `into`, whose content is replaced. Sizes are checked before anything is allocated, the
    /// checksum before anything is inflated. On error `into` is empty.
    pub fn inflate(&self, into: &mut Vec<u8>) -> Result<(), Error> {
        into.clear();
        let (offset, raw_len) = (self.offset, self.raw_len() as usize);
        for (len, limit) in [(raw_len, RAW_LIMIT), (self.body.len(), COMPRESSED_LIMIT)] {
            if len > limit {
                return Err(Error::BlockTooLong {
                    offset,
                    len: len as u64,
                });
            }
        }
        if self.head.method() != METHOD_ZSTD {
            return Err(Error::Compression {
                offset,
                method: self.head.method(),
            });
        }
        let (expected, found) = (self.head.body_checksum(), crc32fast::hash(self.body));
        if expected != found {
            return Err(Error::Checksum {
                offset,
                expected,
                found,
            });
        }
        into.reserve_exact(raw_len);
        let inflated = INFLATER.with_borrow_mut(|inflater| {
            if inflater.is_none() {
                *inflater = Some(Decompressor::new()?);
            }
            match inflater {
                Some(inflater) => inflater.decompress_to_buffer(self.body, into),
                None => Ok(0),
            }
        });
        match inflated {
            Ok(len) if len == raw_len => Ok(()),
            _ => {
                into.clear();
                Err(Error::Inflate {
                    offset,
                    expected: self.raw_len(),
                })
            }
        }
    }
}
