//! The headers of the PROXY protocol that may stand before the first byte of a connection: stepped over, whatever comes
//! behind them, and whichever end is heard first.

use super::Flow;
use crate::analyze::protocol::proxy::{self, Header};
use crate::analyze::stream::{Held, Segment};

/// Headers that may stand one behind the other: one for each proxy on the way.
const MAX_HEADERS: u8 = 4;

/// What one end began with, and how many headers it may still begin with.
#[derive(Debug)]
pub(super) enum Preface {
    /// What was sent so far may be the beginning of a header.
    May(Vec<Held>, u8),
    /// So many bytes of a header are still to come.
    Within(u64, u8),
    Past,
}

impl Default for Preface {
    fn default() -> Self {
        Preface::May(Vec::new(), MAX_HEADERS)
    }
}

impl Preface {
    /// What is kept until more of it comes.
    pub(super) fn kept(&self) -> &[Held] {
        match self {
            Preface::May(kept, _) => kept,
            Preface::Within(..) | Preface::Past => &[],
        }
    }

    /// Steps over up to `len` bytes of a header; returns how many of them are behind it.
    fn step_over(&mut self, len: u64) -> u64 {
        let Preface::Within(left, more) = self else { return len };
        let (n, more) = (len.min(*left), *more);
        *left -= n;
        if *left == 0 {
            *self = match more {
                0 => Preface::Past,
                more => Preface::May(Vec::new(), more),
            };
        }
        len - n
    }
}

impl Flow {
    /// Takes the new bytes of a segment, but for those of a header.
    pub(super) fn after_preface(&mut self, sender: usize, segment: &Segment<'_>) {
        match &mut self.preface[sender] {
            Preface::Past => self.after_negotiation(sender, segment),
            Preface::May(kept, _) if kept.is_empty() && begins_otherwise(segment) => {
                self.preface[sender] = Preface::Past;
                self.after_negotiation(sender, segment);
            }
            Preface::May(kept, _) => {
                let is_captured = segment.payload.len() as u64 == segment.len;
                kept.push(Held::new(segment));
                let bytes: Vec<u8> = kept.iter().flat_map(|held| held.segment().payload.to_vec()).collect();
                match proxy::header(&bytes) {
                    Header::More if is_captured => {}
                    Header::Long(len) if self.client.is_none_or(|client| client == sender) => {
                        self.begin_with_header(sender, len);
                    }
                    _ => self.end_preface(sender),
                }
            }
            within @ Preface::Within(..) => {
                let behind = within.step_over(segment.len);
                if behind > 0 {
                    self.after_preface(sender, &segment.after(segment.len - behind));
                }
            }
        }
    }

    /// A header of so many bytes is the first that this end sent: it is the client. The next proxy's header may follow.
    fn begin_with_header(&mut self, sender: usize, len: u64) {
        self.client = Some(sender);
        self.joined = false;
        if let Preface::May(kept, more) = std::mem::replace(&mut self.preface[sender], Preface::Past) {
            self.preface[sender] = Preface::Within(len, more - 1);
            kept.iter().for_each(|held| self.after_preface(sender, &held.segment()));
        }
    }

    /// Nothing more comes of what was kept: it is no header.
    pub(super) fn end_preface(&mut self, sender: usize) {
        if let Preface::May(kept, _) = std::mem::replace(&mut self.preface[sender], Preface::Past) {
            kept.iter()
                .for_each(|held| self.after_negotiation(sender, &held.segment()));
        }
    }

    /// So many bytes are not there. Returns how many of them are behind a header.
    pub(super) fn missing_in_preface(&mut self, sender: usize, len: u64) -> u64 {
        match &mut self.preface[sender] {
            Preface::Past => len,
            Preface::May(..) => {
                self.end_preface(sender);
                len
            }
            within => within.step_over(len),
        }
    }
}

/// Most connections begin with a byte that no header begins with.
fn begins_otherwise(segment: &Segment<'_>) -> bool {
    segment
        .payload
        .first()
        .is_none_or(|first| !matches!(first, b'P' | b'\r'))
}
