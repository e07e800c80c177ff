//! The first bytes of a piece, gathered until they tell what they are: used where a direction's framing is unknown.

use super::packet::{HEADER, Place, length};

/// Bytes looked at to find a command or a response after a hole.
const PROBE: usize = 24;

/// Whether what is probed has the header of a compressed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    No,
    Yes,
    Perhaps,
}

/// The first bytes of a piece, until there are enough to judge them.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) bytes: Vec<u8>,
    pub(super) place: Option<Place>,
    /// Where in the bytes the pieces after the first begin, and their places.
    later: Vec<(usize, Place)>,
}

impl Probe {
    /// Takes bytes until `PROBE` are there, or all of what may be one short packet. True when there are enough. A client
    /// has no packet that begins with 0: that is the longer header of a compressed frame.
    pub(super) fn gather(&mut self, place: &Place, bytes: &[u8], used: &mut usize, framed: Framed) -> bool {
        match self.bytes.len() {
            0 => self.place = Some(place.from(*used)),
            len => self.later.push((len, place.from(*used))),
        }
        loop {
            let whole = match self.bytes.first_chunk::<HEADER>() {
                Some(header) if length(header) == 0 => HEADER,
                Some(header) => {
                    let longer = match framed {
                        Framed::No => false,
                        Framed::Yes => true,
                        Framed::Perhaps => self.bytes.get(HEADER) == Some(&0),
                    };
                    (HEADER + length(header) + if longer { 3 } else { 0 }).clamp(HEADER + 1, PROBE)
                }
                None => HEADER,
            };
            if self.bytes.len() >= HEADER && self.bytes.len() >= whole {
                return true;
            }
            let n = bytes.len().saturating_sub(*used).min(whole - self.bytes.len());
            if n == 0 {
                return false;
            }
            self.bytes.extend_from_slice(&bytes[*used..*used + n]);
            *used += n;
        }
    }

    /// Bytes of an earlier piece are kept.
    pub(super) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// What was gathered is the header of a compressed frame, written alone, and this many bytes may be what it holds.
    pub(super) fn may_go_on(&self, len: usize) -> bool {
        match self.bytes[..] {
            // What it holds is not compressed.
            [a, b, c, seq, 0, 0, 0] => length(&[a, b, c, seq]) >= len,
            _ => false,
        }
    }

    pub(super) fn take(&mut self) -> (Vec<u8>, Place) {
        let place = self.place.take().unwrap_or(Place::linear(0));
        self.later.clear();
        (std::mem::take(&mut self.bytes), place)
    }

    /// Where the pieces after the first begin in what was gathered, with their places; they are forgotten.
    pub(super) fn take_later(&mut self) -> Vec<(usize, Place)> {
        std::mem::take(&mut self.later)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.place = None;
        self.later.clear();
    }
}
