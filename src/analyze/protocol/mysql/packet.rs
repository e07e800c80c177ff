//! Packet framing: 3-byte length, sequence id, payload; payloads of 0xFFFFFF bytes go on in the next packet.
//!
//! A packet is handed out as a slice of the input when it lies in it whole. Else a prefix of it is gathered and the
//! rest is walked over, so that a packet of any size costs the same memory.

use crate::analyze::protocol::Missing;

/// Length of the packet header.
pub const HEADER: usize = 4;

/// A payload of this length is continued in the next packet.
pub const MAX_PAYLOAD: usize = 0xff_ffff;

/// Where the bytes of one piece lie in the stream. Inflated bytes have no position of their own: they all begin where
/// their compressed frame begins and end where it ends.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    start: u64,
    frame_end: Option<u64>,
    /// Sequence id of the frame; 0 where there is none.
    frame_seq: u8,
}

impl Place {
    /// Bytes that lie in the stream as they are.
    pub fn linear(start: u64) -> Self {
        Place {
            start,
            frame_end: None,
            frame_seq: 0,
        }
    }

    /// Bytes out of a compressed frame.
    pub fn framed(start: u64, end: u64, seq: u8) -> Self {
        Place {
            start,
            frame_end: Some(end),
            frame_seq: seq,
        }
    }

    /// Sequence id of the compressed frame, if these are out of one.
    pub fn frame_seq(&self) -> Option<u8> {
        self.frame_end.map(|_| self.frame_seq)
    }

    /// Stream position at which the byte with this index begins.
    pub fn begin(&self, index: usize) -> u64 {
        if self.frame_end.is_some() {
            self.start
        } else {
            self.start.saturating_add(index as u64)
        }
    }

    /// Stream position after the byte before this index.
    pub fn end(&self, index: usize) -> u64 {
        self.frame_end.unwrap_or(self.start.saturating_add(index as u64))
    }

    /// Not out of a compressed frame.
    pub fn is_linear(&self) -> bool {
        self.frame_end.is_none()
    }

    /// The place of the bytes from this index on.
    pub fn from(&self, index: usize) -> Self {
        Place {
            start: self.begin(index),
            ..*self
        }
    }
}

/// A logical packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Sequence id of its first and of its last header.
    pub seq: u8,
    pub last_seq: u8,
    /// Payload bytes, all parts together.
    pub len: u64,
    /// The payload, or the prefix of it that was kept.
    pub payload: &'a [u8],
    /// Why a part of the payload is not there, if so.
    pub hole: Option<Missing>,
    /// Stream positions: its first header byte, and the end of its last byte.
    pub start: u64,
    pub end: u64,
}

impl Packet<'_> {
    /// `payload` is all of it.
    pub fn is_whole(&self) -> bool {
        self.payload.len() as u64 == self.len
    }
}

/// Cuts one direction into packets.
#[derive(Debug, Default)]
pub struct Framer {
    head: [u8; HEADER],
    have: usize,
    /// Payload bytes of this part still to come.
    left: usize,
    /// Another part follows.
    more: bool,
    /// The first header of a packet was read.
    open: bool,
    start: u64,
    len: u64,
    seq: u8,
    last_seq: u8,
    kept: Vec<u8>,
    /// Nothing is kept any more: the limit was reached, or there is a hole.
    sealed: bool,
    hole: Option<Missing>,
}

impl Framer {
    /// Between two packets.
    pub fn at_boundary(&self) -> bool {
        !self.open && self.have == 0
    }

    /// Sequence id and kept prefix of the packet that is being read, and where it began.
    pub fn partial(&self) -> Option<(u8, &[u8], u64)> {
        self.open.then_some((self.seq, self.kept.as_slice(), self.start))
    }

    /// Forgets the packet that is being read.
    pub fn reset(&mut self) {
        self.have = 0;
        self.left = 0;
        self.more = false;
        self.open = false;
        self.kept.clear();
        self.sealed = false;
        self.hole = None;
    }

    /// Takes from `bytes` until a packet ends. `used` grows by what was taken. At most `keep` bytes are gathered of a
    /// packet that does not lie in `bytes` whole.
    pub fn next<'a>(&'a mut self, bytes: &'a [u8], used: &mut usize, place: &Place, keep: usize) -> Option<Packet<'a>> {
        let rest = bytes.get(*used..)?;
        if self.at_boundary()
            && let Some((seq, payload, _)) = whole(rest)
        {
            let start = place.begin(*used);
            *used += HEADER + payload.len();
            let end = place.end(*used);
            return Some(Packet {
                seq,
                last_seq: seq,
                len: payload.len() as u64,
                payload,
                hole: None,
                start,
                end,
            });
        }
        self.gather(bytes, used, place, keep)
    }

    fn gather<'a>(&'a mut self, bytes: &[u8], used: &mut usize, place: &Place, keep: usize) -> Option<Packet<'a>> {
        loop {
            let rest = bytes.get(*used..)?;
            if self.have < HEADER {
                if rest.is_empty() {
                    return None;
                }
                if self.at_boundary() {
                    self.reset();
                    self.start = place.begin(*used);
                    self.len = 0;
                }
                let n = rest.len().min(HEADER - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&rest[..n]);
                self.have += n;
                *used += n;
                if self.have < HEADER {
                    return None;
                }
                self.header();
            } else {
                let n = rest.len().min(self.left);
                if !self.sealed {
                    let room = keep.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&rest[..n.min(room)]);
                    self.sealed = n > room;
                }
                self.left -= n;
                *used += n;
            }
            if self.left > 0 {
                if *used >= bytes.len() {
                    return None;
                }
            } else if let Some(end) = self.part_ended(place.end(*used)) {
                return Some(self.packet(end));
            }
        }
    }

    /// Steps over up to `len` bytes that are not there. Returns how many it could account for (fewer than `len` when a
    /// header is among them: framing is lost), and whether a packet ended at the last of them: `ended` fetches it.
    pub fn skip(&mut self, len: u64, why: Missing) -> (u64, bool) {
        if self.have < HEADER || self.left == 0 {
            return (0, false);
        }
        let n = len.min(self.left as u64);
        self.left -= n as usize;
        self.sealed = true;
        // A lost byte says more than an unread one.
        if self.hole != Some(Missing::Lost) {
            self.hole = Some(why);
        }
        (n, self.left == 0 && self.part_ended(0).is_some())
    }

    /// The packet that `skip` ended.
    pub fn ended(&mut self, end: u64) -> Packet<'_> {
        self.packet(end)
    }

    fn header(&mut self) {
        let len = length(&self.head);
        if !self.open {
            self.open = true;
            self.seq = self.head[3];
        }
        self.last_seq = self.head[3];
        self.left = len;
        self.more = len == MAX_PAYLOAD;
        self.len = self.len.saturating_add(len as u64);
    }

    fn part_ended(&mut self, end: u64) -> Option<u64> {
        self.have = 0;
        (!self.more).then_some(end)
    }

    fn packet(&mut self, end: u64) -> Packet<'_> {
        self.open = false;
        Packet {
            seq: self.seq,
            last_seq: self.last_seq,
            len: self.len,
            payload: &self.kept,
            hole: self.hole,
            start: self.start,
            end,
        }
    }
}

/// Sequence id and payload of the packet that these bytes begin with, and what follows it; nothing unless it lies in them
/// whole, in one part.
#[inline]
pub fn whole(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, body) = bytes.split_first_chunk::<HEADER>()?;
    let len = length(header);
    let (payload, rest) = body.split_at_checked(len).filter(|_| len < MAX_PAYLOAD)?;
    Some((header[3], payload, rest))
}

/// The payload length in a packet header.
pub fn length(header: &[u8; HEADER]) -> usize {
    usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16
}

/// Reads the fields of a payload from its front. Each answer is `None` when the payload is too short.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u24(&mut self) -> Option<u32> {
        let [a, b, c] = self.array()?;
        Some(u32::from_le_bytes([a, b, c, 0]))
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// A length-encoded integer; `None` for NULL (0xfb) and 0xff too.
    pub fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            n @ 0..=0xfa => Some(u64::from(n)),
            0xfc => self.u16().map(u64::from),
            0xfd => self.u24().map(u64::from),
            0xfe => self.array().map(u64::from_le_bytes),
            _ => None,
        }
    }

    /// A length-encoded string.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.lenenc()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// A string up to a NUL, which is stepped over; the rest when there is none.
    pub fn until_nul(&mut self) -> &'a [u8] {
        match memchr::memchr(0, self.0) {
            Some(at) => {
                let (text, rest) = self.0.split_at(at);
                self.0 = &rest[1..];
                text
            }
            None => std::mem::take(&mut self.0),
        }
    }
}

/// Appends bytes as text; what is not UTF-8 is replaced, a character cut at the end is left out.
pub fn push_text(into: &mut String, mut bytes: &[u8]) {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(text) => return into.push_str(text),
            Err(e) => {
                let (good, bad) = bytes.split_at(e.valid_up_to());
                into.push_str(std::str::from_utf8(good).unwrap_or_default());
                let Some(n) = e.error_len() else { return };
                into.push(char::REPLACEMENT_CHARACTER);
                bytes = &bad[n..];
            }
        }
    }
}
