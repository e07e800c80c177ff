//! The compressed protocol: frames with a 7-byte header (compressed length, sequence id, inflated length; 0 when the
//! content is stored as it is) around the stream of packets. Packets may straddle frames. zlib or zstd; which one is
//! seen from the content itself.
//!
//! Inflates piece by piece into a small buffer: a frame is never held whole.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::command::is_plain_command;
use super::packet::{Fields, Place};
use crate::analyze::exchange::Side;

/// Length of the header of a frame.
pub const HEADER: usize = 7;

/// Bytes of inflated content handed on at once.
const PIECE: usize = 16 * 1024;

/// A frame holds at most 16 MiB, so no honest window is larger.
const WINDOW_LOG_MAX: u32 = 24;

/// What a frame held.
#[derive(Debug)]
pub enum Piece<'a> {
    Bytes(&'a [u8], Place),
    /// Content that could not be had; its length is known.
    Hole(u64, Place),
}

enum Inflater {
    Zlib(Decompress),
    Zstd(Decoder<'static>),
}

/// Cuts one direction of a compressed connection into pieces of the packet stream.
#[derive(Default)]
pub struct Deframer {
    head: [u8; HEADER],
    have: usize,
    /// Bytes of this frame still to come, compressed and inflated.
    left: usize,
    raw_left: usize,
    stored: bool,
    /// The rest of this frame cannot be inflated.
    broken: bool,
    start: u64,
    end: u64,
    /// First content bytes of a compressed frame, until its method is known.
    inflater: Option<Inflater>,
    /// The inflater is in the middle of this frame.
    inflating: bool,
    out: Vec<u8>,
}

impl std::fmt::Debug for Deframer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deframer")
            .field("have", &self.have)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Deframer {
    /// Takes from `bytes` (which begin at stream position `pos`) until there is a piece to hand on.
    pub fn next<'a>(&'a mut self, bytes: &'a [u8], used: &mut usize, pos: u64) -> Option<Piece<'a>> {
        loop {
            let rest = bytes.get(*used..)?;
            if self.have < HEADER {
                if rest.is_empty() {
                    return None;
                }
                if self.have == 0 {
                    self.start = pos.saturating_add(*used as u64);
                }
                let n = rest.len().min(HEADER - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&rest[..n]);
                self.have += n;
                *used += n;
                if self.have == HEADER {
                    self.header();
                }
                continue;
            }
            let place = Place::framed(self.start, self.end, self.head[3]);
            let input = &rest[..rest.len().min(self.left)];
            if self.stored || self.broken || self.raw_left == 0 {
                if input.is_empty() && self.left > 0 {
                    return None;
                }
                self.left -= input.len();
                *used += input.len();
                let hole = if self.left > 0 { 0 } else { self.finish() };
                if self.stored && !input.is_empty() {
                    return Some(Piece::Bytes(input, place));
                } else if hole > 0 {
                    return Some(Piece::Hole(hole, place));
                }
                continue;
            }
            if input.is_empty() && self.left > 0 {
                return None;
            }
            let (mut taken, mut made) = (0, 0);
            let sound = self.inflate(input, &mut taken, &mut made).is_some();
            self.left -= taken.min(self.left);
            self.raw_left -= made.min(self.raw_left);
            *used += taken;
            self.broken = !sound || (taken == 0 && made == 0);
            if self.left == 0 && self.raw_left == 0 {
                self.finish();
            }
            if made > 0 {
                return Some(Piece::Bytes(&self.out[..made], place));
            }
        }
    }

    /// The frame is over; returns how much content could not be had.
    fn finish(&mut self) -> u64 {
        self.have = 0;
        self.inflating = false;
        std::mem::take(&mut self.raw_left) as u64
    }

    /// Steps over bytes that are not there. Returns how many it could account for (fewer than `len` when a frame
    /// header is among them), and the hole in the packet stream, if one is known now.
    pub fn skip(&mut self, len: u64) -> (u64, Option<Piece<'static>>) {
        if self.have < HEADER {
            return (0, None);
        }
        let n = len.min(self.left as u64);
        self.left -= n as usize;
        let place = Place::framed(self.start, self.end, self.head[3]);
        if self.stored {
            if self.left == 0 {
                self.have = 0;
            }
            return (n, Some(Piece::Hole(n, place)));
        }
        self.broken |= n > 0;
        if self.left > 0 {
            return (n, None);
        }
        let hole = self.finish();
        (n, Some(Piece::Hole(hole, place)))
    }

    /// Forgets the frame that is being read.
    pub fn reset(&mut self) {
        self.have = 0;
        self.inflating = false;
    }

    fn header(&mut self) {
        let mut f = Fields(&self.head);
        self.left = f.u24().unwrap_or(0) as usize;
        f.u8();
        self.raw_left = f.u24().unwrap_or(0) as usize;
        self.stored = self.raw_left == 0;
        self.broken = false;
        self.inflating = false;
        self.end = self.start.saturating_add((HEADER + self.left) as u64);
    }

    fn inflate(&mut self, input: &[u8], taken: &mut usize, made: &mut usize) -> Option<()> {
        if !self.inflating {
            // Two bytes tell: 0x78 begins zlib data, 0x28 a zstd frame.
            match (input.first()?, &mut self.inflater) {
                (0x28, Some(Inflater::Zstd(d))) => d.reinit().ok()?,
                (0x28, _) => {
                    let mut d = Decoder::new().ok()?;
                    d.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).ok()?;
                    self.inflater = Some(Inflater::Zstd(d));
                }
                (_, Some(Inflater::Zlib(d))) => d.reset(true),
                _ => self.inflater = Some(Inflater::Zlib(Decompress::new(true))),
            }
            self.inflating = true;
        }
        self.out.resize(PIECE, 0);
        let room = self.raw_left.min(PIECE);
        let out = &mut self.out[..room];
        match self.inflater.as_mut()? {
            Inflater::Zlib(d) => {
                let (before_in, before_out) = (d.total_in(), d.total_out());
                let status = d.decompress(input, out, FlushDecompress::None);
                *taken = (d.total_in() - before_in) as usize;
                *made = (d.total_out() - before_out) as usize;
                if status.ok()? == Status::StreamEnd && (*taken < input.len() || self.raw_left > *made) {
                    return None;
                }
            }
            Inflater::Zstd(d) => {
                let status = d.run_on_buffers(input, out).ok()?;
                *taken = status.bytes_read;
                *made = status.bytes_written;
            }
        }
        Some(())
    }
}

/// Whether bytes can begin a frame of this side: used to find the next frame after a hole, and to infer compression.
pub fn looks_like_frame(from: Side, bytes: &[u8]) -> bool {
    match from {
        Side::Client => looks_like_command(bytes),
        Side::Server => frame(bytes).is_some_and(|(_, stored, content)| match content {
            [] => false,
            // A packet header: sequence id not 0, no longer than what a frame can begin.
            content if stored => content.len() >= 4 && content[3] != 0,
            content => is_deflated(content),
        }),
    }
}

/// Whether bytes begin with a compressed frame that begins with a command.
pub fn looks_like_command(bytes: &[u8]) -> bool {
    frame(bytes).is_some_and(|(seq, stored, content)| {
        seq == 0
            && if stored {
                is_plain_command(content)
            } else {
                is_deflated(content)
            }
    })
}

/// Whether a server sent one compressed frame with the beginning of a response, and nothing else. Packets that are not
/// compressed never end there: what is left of the last one would be three bytes, and its header has four.
pub fn is_whole_answer(bytes: &[u8]) -> bool {
    let is_answer = |(seq, stored, content): (u8, bool, &[u8])| match stored {
        true => seq == 1 && content.get(3) == Some(&1),
        false => seq == 1 && is_deflated(content),
    };
    frame_len(bytes) == Some(bytes.len() as u64) && frame(bytes).is_some_and(is_answer)
}

/// How long the compressed frame is that bytes begin with, header and content.
pub fn frame_len(bytes: &[u8]) -> Option<u64> {
    frame(bytes)?;
    let len = Fields(bytes).u24()?;
    Some(HEADER as u64 + u64::from(len))
}

fn frame(bytes: &[u8]) -> Option<(u8, bool, &[u8])> {
    let mut f = Fields(bytes);
    let len = f.u24()? as usize;
    let seq = f.u8()?;
    let raw = f.u24()? as usize;
    (len > 4 && (raw == 0 || raw > 4)).then(|| (seq, raw == 0, &f.0[..f.0.len().min(len)]))
}

fn is_deflated(content: &[u8]) -> bool {
    match content {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => true,
        [a @ 0x78, b, ..] => u16::from_be_bytes([*a, *b]) % 31 == 0,
        _ => false,
    }
}
