//! One TCP connection as it is seen on a wire: how it opens, what both ends say, how it ends.
//!
//! Turns segments into records. Knows nothing of other connections; the table decides which connection a segment
//! belongs to, with the help of `belongs`.

use super::packet::Segment;
use super::stream::{Bytes, Gaps, Kind, Stream};
use super::summary::ImportSummary;
use crate::format::record::{
    About, Close, Connect, Cut, Data, Direction, Ending, Endpoint, Opened, Record, Role, Socket,
};

/// errno of a connect that was answered with RST.
const ECONNREFUSED: u16 = 111;
/// A RST may be this far ahead of what was seen (the capture may have lost what lies between), or a little behind.
const RESET_AHEAD: i64 = 1 << 24;
const RESET_BEHIND: i64 = 1 << 20;
/// After the end of a connection, data this far away belongs to another that uses the same ports.
const REUSE_DISTANCE: i64 = 1 << 22;

/// Whether a segment is part of a connection with the same endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    Yes,
    /// The ports are in use again: this one is over.
    Successor,
}

/// A connection. Index 0 is `local`, 1 is `remote`.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    ends: [Endpoint; 2],
    streams: [Stream; 2],
    /// Initial sequence numbers that were seen.
    syn: [Option<u32>; 2],
    /// Time of the first SYN of `local`, for the latency of connect.
    syn_time: u64,
    retransmits: u32,
    /// `local` is known to have opened it.
    opener_known: bool,
    announced: bool,
    connected: bool,
    closed: bool,
    opened_at: u64,
    last_time: u64,
}

impl Connection {
    /// A connection that this segment begins, or in the middle of which it is.
    pub fn new(id: u64, segment: &Segment<'_>) -> Self {
        let (from, to) = (segment.from, segment.to);
        let (local, remote, opener_known) = match (segment.syn, segment.ack.is_some()) {
            (true, false) => (from, to, true),
            (true, true) => (to, from, true),
            // Well-known and configured ports are mostly lower than the ones that connect picks.
            (false, _) if from.port < to.port => (to, from, false),
            (false, _) => (from, to, false),
        };
        Connection {
            id,
            ends: [local, remote],
            streams: Default::default(),
            syn: [None; 2],
            syn_time: 0,
            retransmits: 0,
            opener_known,
            announced: false,
            connected: false,
            closed: false,
            opened_at: segment.time,
            last_time: segment.time,
        }
    }

    /// Memory held back in both directions.
    pub fn held(&self) -> usize {
        self.streams[0].held() + self.streams[1].held()
    }

    /// Whether its end was seen.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether anything but opening segments was seen.
    pub fn is_established(&self) -> bool {
        self.announced
    }

    /// The socket id of its records.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Time of its latest packet.
    pub fn last_time(&self) -> u64 {
        self.last_time
    }

    fn side(&self, segment: &Segment<'_>) -> usize {
        usize::from(segment.from != self.ends[0])
    }

    /// Whether a segment between the same endpoints is part of this connection.
    pub fn belongs(&self, segment: &Segment<'_>) -> Belongs {
        let side = self.side(segment);
        let (own, other) = (&self.streams[side], &self.streams[1 - side]);
        let belongs = if segment.syn {
            match self.syn[side] {
                Some(isn) => isn == segment.seq,
                // The capture may have put the SYN behind the first data.
                None if own.is_seen() => own.began_at(segment.seq.wrapping_add(1)),
                // An answer, or both ends opening at once.
                None if segment.ack.is_some() => {
                    !self.closed
                        && segment
                            .ack
                            .is_none_or(|ack| !other.is_seen() || other.ahead(ack).abs() < REUSE_DISTANCE)
                }
                None => !self.closed && !self.connected && !other.has_fin() && other.bytes() == 0,
            }
        } else if self.closed && segment.len > 0 && own.is_seen() {
            own.ahead(segment.seq).abs() < REUSE_DISTANCE
        } else {
            true
        };
        if belongs { Belongs::Yes } else { Belongs::Successor }
    }

    /// Takes in a segment that belongs to it.
    pub fn segment(&mut self, segment: &Segment<'_>, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let side = self.side(segment);
        let time = segment.time;
        self.last_time = self.last_time.max(time);
        if self.closed {
            // Last acknowledgments and stragglers.
            if segment.len > 0 && self.streams[side].ahead(segment.seq) >= 0 {
                summary.remark(About::AfterReset);
            }
            return;
        }
        let mut seq = segment.seq;
        if segment.syn {
            self.synchronize(side, segment, summary);
            seq = seq.wrapping_add(1);
        } else if !segment.rst {
            self.streams[side].expect(seq);
            if let Some(urgent) = segment.urgent {
                self.streams[side].urgent_at(urgent);
            }
        }
        if let Some(ack) = segment.ack
            && !segment.rst
        {
            self.streams[1 - side].acknowledge(time, ack);
        }
        if segment.rst {
            return self.reset(side, segment, summary, out);
        }
        // Both positions are known from the answer on; before, only data needs the socket.
        let answered = self.streams[0].is_known() && self.streams[1].is_known();
        if answered || segment.len > 0 {
            self.announce(out);
        }
        self.connect(side, segment, out);
        // What the segment acknowledges comes before what it says.
        self.tick(1 - side, time, summary, out);
        if segment.len > 0 {
            self.data(side, seq, segment, summary, out);
        }
        if segment.fin {
            self.streams[side].finish_at(seq.wrapping_add(segment.len));
        }
        self.tick(side, time, summary, out);
        if self.streams[0].is_done() && self.streams[1].is_done() {
            self.close(Ending::Closed, time, summary, out);
        }
    }

    fn tick(&mut self, side: usize, time: u64, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        self.with_stream(side, summary, out, |stream, gaps, out| stream.tick(time, gaps, out));
    }

    fn synchronize(&mut self, side: usize, segment: &Segment<'_>, summary: &mut ImportSummary) {
        let first = segment.seq.wrapping_add(1);
        if self.syn[side].is_some() {
            self.retransmits = self.retransmits.saturating_add(1);
            summary.retransmits += 1;
            return;
        }
        self.syn[side] = Some(segment.seq);
        if side == 0 {
            self.syn_time = segment.time;
        }
        if !self.streams[side].is_seen() {
            self.streams[side].begin(first);
        }
    }

    /// The handshake is complete when `local` has acknowledged the other end's SYN.
    fn connect(&mut self, side: usize, segment: &Segment<'_>, out: &mut impl FnMut(&Record<'_>)) {
        if self.connected {
            return;
        }
        let (Some(own), Some(other)) = (self.syn[0], self.syn[1]) else {
            // Not opened within the capture: nothing to wait for.
            self.connected = !segment.syn && self.streams[1].is_seen() && self.streams[0].is_seen();
            return;
        };
        let acknowledges = segment
            .ack
            .is_some_and(|ack| ack.wrapping_sub(other.wrapping_add(1)) as i32 >= 0);
        if side != 0 || !acknowledges {
            return;
        }
        self.connected = true;
        out(&Record::Connect(Connect {
            time: segment.time,
            id: self.id,
            error: 0,
            connect_ns: segment.time.saturating_sub(self.syn_time),
            send_pos: own.wrapping_add(1),
            receive_pos: other.wrapping_add(1),
        }));
    }

    fn data(
        &mut self,
        side: usize,
        seq: u32,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) {
        let captured = segment.payload.len() as u32;
        let kind = self.with_stream(side, summary, out, |stream, gaps, out| {
            stream.segment(
                segment.time,
                seq,
                segment.ip_id,
                segment.len,
                segment.payload,
                gaps,
                out,
            )
        });
        match kind {
            Kind::New | Kind::Probe => {}
            Kind::Retransmit => {
                self.retransmits = self.retransmits.saturating_add(1);
                summary.retransmits += 1;
            }
            Kind::Duplicate => summary.remark(About::Copy),
            Kind::Stray => summary.remark(About::OutOfWindow),
        }
        if captured < segment.len && kind == Kind::New {
            summary.truncated += 1;
            summary.truncated_bytes += u64::from(segment.len - captured);
        }
    }

    fn reset(
        &mut self,
        side: usize,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) {
        let time = segment.time;
        if let (Some(isn), None, 1) = (self.syn[0], self.syn[1], side) {
            // The answer to a SYN (RFC 9293, 3.10.7.3): it has to acknowledge what was sent.
            let acknowledged = segment.ack.map(|ack| ack.wrapping_sub(isn));
            if acknowledged.is_some_and(|count| count == 0 || count > self.streams[0].bytes() as u32 + 0x1_0000) {
                return summary.remark(About::IgnoredReset);
            }
            self.announce(out);
            out(&Record::Connect(Connect {
                time,
                id: self.id,
                error: ECONNREFUSED,
                connect_ns: time.saturating_sub(self.syn_time),
                send_pos: 0,
                receive_pos: 0,
            }));
            return self.close(Ending::ConnectFailed, time, summary, out);
        }
        let own = &self.streams[side];
        let plausible = !own.is_known() || (-RESET_BEHIND..=RESET_AHEAD).contains(&own.ahead(segment.seq));
        // Some devices answer with sequence number 0 and a good acknowledgment.
        let acknowledges = segment
            .ack
            .is_some_and(|ack| self.streams[1 - side].ahead(ack).abs() <= RESET_BEHIND);
        if !plausible && !acknowledges {
            return summary.remark(About::IgnoredReset);
        }
        let ending = if side == 0 {
            Ending::ResetLocally
        } else {
            Ending::ResetByPeer
        };
        self.close(ending, time, summary, out);
    }

    /// Ends it; nothing of it comes after.
    fn close(&mut self, ending: Ending, time: u64, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        self.announce(out);
        self.flush(time, summary, out);
        self.closed = true;
        out(&Record::Close(Close {
            time,
            id: self.id,
            ending,
            bytes_sent: self.streams[0].bytes(),
            bytes_received: self.streams[1].bytes(),
            retransmits: self.retransmits,
            srtt_us: 0,
        }));
    }

    /// Hands on everything that is held back; what is missing stays missing.
    pub fn flush(&mut self, time: u64, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        for direction in 0..2 {
            self.with_stream(direction, summary, out, |stream, gaps, out| {
                stream.close(time, gaps, out)
            });
        }
    }

    /// Its ports are used again, or its place is needed: it is over without having been seen to end.
    pub fn give_up(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        if !self.closed {
            self.close(Ending::Unknown(0), self.last_time, summary, out);
        }
    }

    /// The capture is over.
    pub fn end_of_capture(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        if self.closed {
            return;
        }
        self.announce(out);
        self.flush(self.last_time, summary, out);
        if self.streams[0].is_done() && self.streams[1].is_done() {
            self.close(Ending::Closed, self.last_time, summary, out);
        }
    }

    /// Makes the connection known, once.
    fn announce(&mut self, out: &mut impl FnMut(&Record<'_>)) {
        if self.announced {
            return;
        }
        self.announced = true;
        let position = |stream: &Stream| if stream.is_known() { stream.next_seq() } else { 0 };
        out(&Record::Socket(Socket {
            time: self.opened_at,
            id: self.id,
            opened: if self.opener_known {
                Opened::Connect
            } else {
                Opened::FirstSeen
            },
            role: Role::Wire,
            local: self.ends[0],
            remote: self.ends[1],
            netns: 0,
            pid: 0,
            cgroup: 0,
            send_pos: position(&self.streams[0]),
            receive_pos: position(&self.streams[1]),
            positions: self.streams[0].is_known() && self.streams[1].is_known(),
        }));
    }

    /// Runs `work` on one stream; what it hands on becomes `Data` records.
    fn with_stream<T>(
        &mut self,
        side: usize,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
        work: impl FnOnce(&mut Stream, &mut Gaps, &mut dyn FnMut(Bytes<'_>)) -> T,
    ) -> T {
        let id = self.id;
        let direction = if side == 0 {
            Direction::Sent
        } else {
            Direction::Received
        };
        let mut gaps = Gaps::default();
        let mut payload_bytes = 0;
        let result = work(&mut self.streams[side], &mut gaps, &mut |bytes: Bytes<'_>| {
            payload_bytes += bytes.payload.len() as u64;
            out(&Record::Data(Data {
                time: bytes.time,
                id,
                pos: bytes.pos as u32,
                len: bytes.len,
                pid: 0,
                tid: 0,
                cgroup: 0,
                direction,
                cut: if bytes.urgent {
                    Cut::Urgent
                } else if bytes.payload.len() < bytes.len as usize {
                    Cut::Snaplen
                } else {
                    Cut::Whole
                },
                payload: bytes.payload,
            }));
        });
        summary.payload_bytes += payload_bytes;
        summary.gaps += gaps.count;
        summary.gap_bytes += gaps.bytes;
        result
    }
}
