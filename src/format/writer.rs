//! Writes a capture file: header, blocks, index, trailer. Needs no seeking, so the output may be a pipe.

use std::io::{self, Write};

use zstd::bulk::Compressor;

use super::block::{LossTotal, RawBlock, add_loss};
use super::codec;
use super::header::Header;
use super::layout::*;
use super::{head, index};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Bytes on disk.
    pub bytes: u64,
    pub blocks: u64,
    pub records: u64,
    /// Bytes of the blocks before compression.
    pub raw_bytes: u64,
    /// Losses recorded in the blocks, by reason.
    pub losses: Vec<LossTotal>,
}

/// Writes a capture file. Each block reaches `W` as soon as it is written here; nothing is held back but the index.
pub struct Writer<W: Write> {
    out: W,
    compressor: Compressor<'static>,
    level: i32,
    /// Checksum of the file header: each block names the file that it belongs to.
    file: u32,
    header: Vec<u8>,
    number: u32,
    body: Vec<u8>,
    entries: Vec<u8>,
    summary: Summary,
}

impl<W: Write> Writer<W> {
    /// Writes the file header. `level` is a zstd level: 3 is a good one, 1 costs a recorder least.
    #[expect(clippy::cast_possible_truncation, reason = "headers are shortened")]
    pub fn new(out: W, header: &Header, level: i32) -> io::Result<Self> {
        let body = codec::encode_header(&shortened(header));
        let mut head = Vec::with_capacity(FILE_HEAD_LEN + body.len());
        head.extend_from_slice(&FILE_MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&READABLE_BY.to_le_bytes());
        head.extend_from_slice(&(body.len() as u32).to_le_bytes());
        let file = header_checksum(&head[8..16], &body);
        head.extend_from_slice(&file.to_le_bytes());
        head.extend_from_slice(&body);
        let mut writer = Writer {
            out,
            compressor: Compressor::new(level)?,
            level,
            file,
            header: body,
            number: 0,
            body: Vec::new(),
            entries: Vec::new(),
            summary: Summary {
                bytes: 0,
                blocks: 0,
                records: 0,
                raw_bytes: 0,
                losses: Vec::new(),
            },
        };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Changes the zstd level for the blocks to come.
    pub fn set_level(&mut self, level: i32) -> io::Result<()> {
        if level != self.level {
            self.compressor.set_compression_level(level)?;
            self.level = level;
        }
        Ok(())
    }

    /// Writes a block and returns its bytes on disk; an empty block is not written.
    ///
    /// After an error the block is lost (its records are the caller's to count), and a part of it may be in the
    /// file, where readers step over it. The writer can still be used: later blocks are found again.
    pub fn write(&mut self, block: &RawBlock) -> io::Result<u64> {
        if block.records == 0 {
            return Ok(0);
        }
        if block.bytes.len() > RAW_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("block of {} bytes, the limit is {RAW_LIMIT}", block.bytes.len()),
            ));
        }
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.reserve(zstd::zstd_safe::compress_bound(block.bytes.len()));
        let done = self.compressor.compress_to_buffer(&block.bytes, &mut body);
        let written = done.and_then(|_| self.put_block(block, &body));
        self.body = body;
        written
    }

    fn put_block(&mut self, block: &RawBlock, body: &[u8]) -> io::Result<u64> {
        let offset = self.summary.bytes;
        let head = head::build(block, self.file, self.number, body);
        // The number of a block that failed is not given again: the gap shows that it is missing.
        self.number = self.number.wrapping_add(1);
        self.put(&head)?;
        self.put(body)?;
        self.entries.extend_from_slice(&offset.to_le_bytes());
        self.entries.extend_from_slice(&head);
        self.summary.blocks += 1;
        self.summary.records += u64::from(block.records);
        self.summary.raw_bytes += block.bytes.len() as u64;
        for loss in &block.losses {
            add_loss(&mut self.summary.losses, loss.reason, loss.events, loss.bytes);
        }
        Ok(self.summary.bytes - offset)
    }

    /// As `write_all`, but counts what was written before an error, so that the index stays right after it.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.summary.bytes += written as u64;
                    bytes = &bytes[written.min(bytes.len())..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.summary.bytes
    }

    /// Blocks, records and losses so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The output, for the owner's own calls (sync, for example).
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Writes index and trailer, and flushes.
    pub fn finish(mut self) -> io::Result<(W, Summary)> {
        let offset = self.summary.bytes;
        let index = index::build(
            self.file,
            &self.header,
            &self.summary.losses,
            self.summary.blocks,
            &self.entries,
        );
        self.put(&index)?;
        self.put(&index::build_trailer(offset, index.len() as u64))?;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }
}

/// The checksum in a file header; it also names the file in its blocks.
pub(super) fn header_checksum(fixed: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(fixed);
    hasher.update(body);
    hasher.finalize()
}

/// The same header with texts cut so that it fits into [`HEADER_LIMIT`].
fn shortened(header: &Header) -> Header {
    let mut header = header.clone();
    for text in [
        &mut header.tool_version,
        &mut header.command_line,
        &mut header.hostname,
        &mut header.boot_id,
        &mut header.kernel,
        &mut header.arch,
        &mut header.backend,
        &mut header.filters,
    ] {
        let mut end = text.len().min(HEADER_LIMIT / 16);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    header
}
