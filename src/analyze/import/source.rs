//! The bytes of a packet capture, decompressed (gzip, zstd). Memory is one read buffer, however large the file is. Knows the magic
//! numbers of pcap and pcapng, and nothing else of them.

use std::io::{self, BufReader, Cursor, Read};

use super::summary::Error;

/// Bytes asked for at once.
const READ_SIZE: usize = 1 << 17;

/// Whether these first bytes of a file are a packet capture, plain or inside gzip or zstd. A few hundred bytes are
/// enough.
pub fn is_packet_capture(bytes: &[u8]) -> bool {
    match Packing::of(bytes) {
        Packing::Plain => is_capture_magic(bytes),
        Packing::Gzip => first_bytes(flate2::read::GzDecoder::new(bytes)).is_some_and(|b| is_capture_magic(&b)),
        Packing::Zstd => zstd::stream::read::Decoder::new(Cursor::new(bytes))
            .ok()
            .and_then(first_bytes)
            .is_some_and(|b| is_capture_magic(&b)),
    }
}

fn first_bytes(mut from: impl Read) -> Option<[u8; 12]> {
    let mut bytes = [0; 12];
    from.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether these decompressed bytes begin a pcap or pcapng file.
pub fn is_capture_magic(bytes: &[u8]) -> bool {
    match bytes.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)) {
        // Microseconds, nanoseconds, in both byte orders; and the "modified" format of old Linux distributions.
        Some(0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0x34cd_b2a1) => true,
        // A section header block, proved by its byte-order magic.
        Some(0x0a0d_0d0a) => matches!(
            bytes.get(8..12),
            Some([0x1a, 0x2b, 0x3c, 0x4d] | [0x4d, 0x3c, 0x2b, 0x1a])
        ),
        _ => false,
    }
}

/// How the whole file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(bytes: &[u8]) -> Packing {
        match bytes {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// The bytes of a file, decompressed, with a window over the part that is being parsed.
pub struct Source<'r> {
    from: Box<dyn Read + Send + 'r>,
    packing: Packing,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Position of `start` in the decompressed file.
    pub offset: u64,
    /// Why nothing can be read from here on.
    pub broken: Option<&'static str>,
}

impl<'r> Source<'r> {
    /// Opens a file, and recognises its compression.
    pub fn open(mut input: impl Read + Send + 'r) -> io::Result<Source<'r>> {
        let mut magic = Vec::with_capacity(4);
        input.by_ref().take(4).read_to_end(&mut magic)?;
        let packing = Packing::of(&magic);
        let whole = Cursor::new(magic).chain(input);
        let from: Box<dyn Read + Send + 'r> = match packing {
            Packing::Plain => Box::new(whole),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(
                1 << 16,
                whole,
            ))),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(whole)?),
        };
        Ok(Source {
            from,
            packing,
            buffer: vec![0; READ_SIZE],
            start: 0,
            end: 0,
            offset: 0,
            broken: None,
        })
    }

    /// The visible bytes.
    pub fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until the window has at least `needed` bytes; false when the file ends before.
    pub fn fill(&mut self, needed: usize) -> Result<bool, Error> {
        if self.end - self.start >= needed {
            return Ok(true);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < needed {
            self.buffer.resize(needed.max(READ_SIZE), 0);
        }
        while self.end < needed && self.broken.is_none() {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was read before the error is kept.
                Err(error) if self.packing == Packing::Plain || error.raw_os_error().is_some() => {
                    if self.offset == 0 && self.end == 0 {
                        return Err(Error::Read(error));
                    }
                    self.broken = Some("the file cannot be read any further");
                }
                // An error of the decoder.
                Err(_) => self.broken = Some("the compressed data is damaged"),
            }
        }
        Ok(self.end >= needed)
    }

    /// Moves the window.
    pub fn advance(&mut self, by: usize) {
        self.start += by;
        self.offset += by as u64;
    }
}
