//! Connections with a single segment so far, in a form that takes little memory.

use super::connection::{Connection, roles};
use super::packet::Segment;
use super::part::Tap;
use super::summary::ImportSummary;
use crate::format::record::Endpoint;

/// A connection with a single segment so far: a SYN without an answer, or an acknowledgment without data. A port scan makes
/// some hundred thousand of them, so they are kept small.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    id: u64,
    time: u64,
    from: Endpoint,
    to: Endpoint,
    seq: u32,
    ack: Option<u32>,
    syn: bool,
    scale: Option<u8>,
}

impl Attempt {
    /// The connection that this segment begins.
    pub fn new(id: u64, segment: &Segment<'_>) -> Self {
        Attempt {
            id,
            time: segment.time,
            from: segment.from,
            to: segment.to,
            seq: segment.seq,
            ack: segment.ack,
            syn: segment.syn,
            scale: segment.scale,
        }
    }

    /// Whether an attempt holds all information of a segment, and nothing is to be done for it yet.
    pub fn has_all_of(segment: &Segment<'_>) -> bool {
        let is_bare = segment.len == 0 && !segment.fin && !segment.rst && segment.urgent.is_none();
        is_bare && segment.syn == segment.ack.is_none()
    }

    /// The socket id of its records.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn segment(&self) -> Segment<'static> {
        Segment {
            time: self.time,
            from: self.from,
            to: self.to,
            seq: self.seq,
            ack: self.ack,
            syn: self.syn,
            fin: false,
            rst: false,
            payload: &[],
            len: 0,
            ip_id: 0,
            hops: 0,
            urgent: None,
            window: 0,
            scale: self.scale,
            stamps: None,
            tap: Tap::default(),
        }
    }

    /// `local` and `remote`.
    pub fn ends(&self) -> [Endpoint; 2] {
        roles(&self.segment()).0
    }

    /// The connection that has taken in the segment.
    pub fn connection(&self) -> Connection {
        let segment = self.segment();
        let mut connection = Connection::new(self.id, &segment);
        let side = usize::from(connection.ends()[0] != segment.from);
        // Nothing is counted or handed on for such a segment.
        connection.segment(side, &segment, &mut ImportSummary::default(), &mut |_| {});
        connection
    }
}
