//! A RST that may be forged or ignored, and the segments that wait until that is known. The [`connection`](super::connection)
//! decides when it is.

use super::packet::Segment;
use super::summary::ImportSummary;
use crate::format::record::{About, Ending};

/// A RST may be this far ahead of what was seen (the capture may have lost what is between).
pub const RESET_AHEAD: i64 = 1 << 24;
/// Segments that may wait until it is known whether a RST was obeyed, and their bytes. An end that obeyed it sends no more.
const MAX_LATE: usize = 64;
const MAX_LATE_BYTES: usize = 256 << 10;
/// What a waiting segment costs besides its payload.
pub(super) const LATE_COST: usize = 128;

/// A segment with its own copy of the bytes.
#[derive(Debug)]
pub struct Kept {
    pub segment: Segment<'static>,
    pub payload: Box<[u8]>,
}

impl Kept {
    /// Copies a segment.
    pub fn new(segment: &Segment<'_>) -> Self {
        Kept {
            segment: Segment {
                payload: &[],
                ..*segment
            },
            payload: segment.payload.into(),
        }
    }

    /// The segment.
    pub fn segment(&self) -> Segment<'_> {
        Segment {
            payload: &self.payload,
            ..self.segment
        }
    }
}

/// A RST that was seen. The packets that follow show whether the other end obeyed it, and whether its sender sent it at all.
#[derive(Debug)]
pub struct Reset {
    pub time: u64,
    /// Who sent it, by its address.
    pub side: usize,
    pub ending: Ending,
    /// It answers a SYN.
    pub refuses: bool,
    /// Where the streams of its sender and of the other end were.
    pub own: u32,
    pub other: u32,
    /// Data that the other end sent afterwards: it was never read, if the RST was obeyed.
    pub late: Vec<Kept>,
    pub late_bytes: usize,
}

impl Reset {
    /// Whether a segment of its sender shows that the connection goes on: new data, or an acknowledgment of what came after.
    #[expect(clippy::cast_possible_truncation, reason = "a constant that fits")]
    pub fn is_disproved(&self, segment: &Segment<'_>) -> bool {
        let is_after = |seq: u32, limit: u32| (1..RESET_AHEAD as u32).contains(&seq.wrapping_sub(limit));
        let end = segment
            .seq
            .wrapping_add(segment.len)
            .wrapping_add(u32::from(segment.fin));
        self.refuses || is_after(end, self.own) || segment.ack.is_some_and(|ack| is_after(ack, self.other))
    }

    /// Whether no more segments may wait.
    pub fn is_full(&self) -> bool {
        self.late.len() >= MAX_LATE || self.late_bytes >= MAX_LATE_BYTES
    }

    /// Keeps a segment of the other end.
    pub fn keep_late(&mut self, segment: &Segment<'_>) {
        self.late_bytes += LATE_COST + segment.payload.len();
        self.late.push(Kept::new(segment));
    }

    /// Drops the waiting segments, which were never read, and counts those with data.
    pub fn drop_late(&mut self, summary: &mut ImportSummary) {
        let with_data = self.late.drain(..).filter(|kept| kept.segment.len > 0);
        with_data.for_each(|_| summary.remark(About::AfterReset));
        self.late_bytes = 0;
    }
}
