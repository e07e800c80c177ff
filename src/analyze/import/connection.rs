//! One TCP connection on a wire: its opening, its data, its end. Turns segments into records.
//!
//! Knows no other connections: the table decides to which connection a segment belongs, with the help of `belongs`.

use super::duplex::{Out, directions, settle};
use super::packet::Segment;
use super::part::Tap;
use super::reset::{Kept, LATE_COST, RESET_AHEAD, Reset};
use super::stream::{Bytes, Gaps, Kind, Moment, Stream};
use super::summary::ImportSummary;
use crate::format::record::{
    About, Close, Connect, Cut, Data, Direction, Ending, Endpoint, Layer, Opened, Record, Role, Socket,
};

/// errno of a connect that was answered with RST.
const ECONNREFUSED: u16 = 111;
/// A RST may be this far before what was seen.
const RESET_BEHIND: i64 = 1 << 20;
/// An acknowledgment confirms what begins at most so far before it.
const CONFIRMED_DISTANCE: u32 = 1 << 24;
/// After the end of a connection, data this far away belongs to another that uses the same ports.
const REUSE_DISTANCE: i64 = 1 << 22;

/// A packet of another capture is of this connection where both its sequence numbers are no further than this from what was
/// seen, or the only one that can be compared is no further than the second. By chance that is so once in 2^14 times.
const SAME_DISTANCE: u64 = 1 << 24;
const SAME_DISTANCE_OF_ONE: u64 = 1 << 17;
/// The answer to a SYN may acknowledge up to so many bytes that the capture does not have (data in the SYN, or captured late).
const EARLY_BYTES: u32 = 1 << 20;

/// Whether a segment is part of a connection with the same endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    Yes,
    /// Perhaps it opens another connection: that is known when it is answered.
    Perhaps,
    /// The ports are in use again: this one is over.
    Successor,
}

/// `local` and `remote` of a connection whose first segment this is, and whether `local` is known to have opened it.
pub fn roles(segment: &Segment<'_>) -> ([Endpoint; 2], bool) {
    let (from, to) = (segment.from, segment.to);
    match (segment.syn, segment.ack.is_some()) {
        (true, false) => ([from, to], true),
        (true, true) => ([to, from], true),
        // Well-known and configured ports are mostly lower than the ones that connect picks.
        (false, _) if from.port < to.port => ([to, from], false),
        (false, _) => ([from, to], false),
    }
}

/// A connection. Index 0 is `local`, 1 is `remote`; the table says which of them sent a segment (`side`).
#[derive(Debug)]
pub struct Connection {
    id: u64,
    ends: [Endpoint; 2],
    streams: [Stream; 2],
    /// Where the newest data was captured.
    taps: [Tap; 2],
    /// Initial sequence numbers that were seen.
    syn: [Option<u32>; 2],
    /// How far their windows are shifted, from the SYN.
    scales: [Option<u8>; 2],
    /// Another one of `remote`, in a second answer to the same SYN. The acknowledgment decides which counts.
    other_syn: Option<u32>,
    /// Data far beyond the window, by its sender. It is part of the stream if its receiver acknowledges it.
    doubted: [Option<Box<Kept>>; 2],
    /// A SYN that does not fit, and who sent it.
    opening: Option<Box<(usize, Kept)>>,
    reset: Option<Box<Reset>>,
    /// Who has reset it, once that is certain.
    reset_by: Option<usize>,
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
    /// Segments so far; wraps.
    packets: u32,
}

impl Connection {
    /// A connection whose first captured segment this is.
    pub fn new(id: u64, segment: &Segment<'_>) -> Self {
        let (ends, opener_known) = roles(segment);
        Connection {
            id,
            ends,
            streams: Default::default(),
            taps: Default::default(),
            syn: [None; 2],
            scales: [None; 2],
            other_syn: None,
            doubted: Default::default(),
            opening: None,
            reset: None,
            reset_by: None,
            syn_time: 0,
            retransmits: 0,
            opener_known,
            announced: false,
            connected: false,
            closed: false,
            opened_at: segment.time,
            last_time: segment.time,
            packets: 0,
        }
    }

    /// Memory held back.
    pub fn held(&self) -> usize {
        let late = self.reset.as_ref().map_or(0, |reset| reset.late_bytes);
        let opening = self.opening.as_ref().map_or(0, |opening| opening.1.payload.len());
        let doubted = self.doubted.iter().flatten().map(|kept| LATE_COST + kept.payload.len());
        self.streams[0].held() + self.streams[1].held() + late + opening + doubted.sum::<usize>()
    }

    /// Whether it is open, as far as was seen.
    pub fn is_open(&self) -> bool {
        !self.closed && self.reset.is_none()
    }

    /// Time of the newest packet.
    pub fn last_time(&self) -> u64 {
        self.last_time
    }

    /// Time of the RST of which it is not known yet whether it was obeyed.
    pub fn reset_time(&self) -> Option<u64> {
        self.reset.as_ref().map(|reset| reset.time)
    }

    /// Whether there was anything but opening segments.
    pub fn is_established(&self) -> bool {
        self.announced || self.holds_data()
    }

    fn holds_data(&self) -> bool {
        self.streams.iter().any(|stream| stream.first().is_some())
    }

    /// The socket id of its records.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `local` and `remote`.
    pub fn ends(&self) -> [Endpoint; 2] {
        self.ends
    }

    /// The SYN was captured again, to another address: the answering end is not the dialled address. `id` makes the new id.
    pub fn is_answered_by(&mut self, segment: &Segment<'_>, id: impl Fn([Endpoint; 2]) -> u64) {
        if let Some((_, opening)) = self
            .opening
            .as_deref_mut()
            .filter(|(_, kept)| kept.segment.seq == segment.seq)
        {
            opening.segment.to = segment.to;
        } else if !self.announced {
            self.ends[1] = segment.to;
            self.id = id(self.ends);
        }
    }

    /// Whether a segment between the same endpoints is part of this connection.
    pub fn belongs(&self, side: usize, segment: &Segment<'_>) -> Belongs {
        if self.closed {
            return self.belongs_after_close(side, segment);
        }
        if self.answers_opening(side, segment) {
            return Belongs::Successor;
        }
        if !segment.syn || self.fits_syn(side, segment) {
            return Belongs::Yes;
        }
        let established = self.connected || self.streams.iter().any(|stream| stream.bytes() > 0);
        match established && self.reset.is_none() {
            true => Belongs::Perhaps,
            false => Belongs::Successor,
        }
    }

    /// Whether a segment that another capture has between the same endpoints is one of this connection, by its sequence numbers.
    pub fn agrees(&self, side: usize, segment: &Segment<'_>) -> bool {
        let (own, other) = (&self.streams[side], &self.streams[1 - side]);
        if segment.syn {
            let first = segment.seq.wrapping_add(1);
            let is_answer = segment
                .ack
                .is_some_and(|ack| self.syn[1 - side].is_some() && other.may_begin_at(ack));
            return match self.syn[side] {
                Some(isn) => isn == segment.seq,
                None => own.may_begin_at(first) || is_answer && !own.is_seen(),
            };
        }
        let ack = segment.ack.filter(|_| other.is_known());
        match (own.is_known(), ack) {
            (true, Some(ack)) => own.is_within(segment.seq, SAME_DISTANCE) && other.is_within(ack, SAME_DISTANCE),
            (true, None) => own.is_within(segment.seq, SAME_DISTANCE_OF_ONE),
            (false, Some(ack)) => other.is_within(ack, SAME_DISTANCE_OF_ONE),
            (false, None) => false,
        }
    }

    /// Whether this SYN may have opened the connection, of which another capture has a later part.
    pub fn may_be_beginning(&self, side: usize, segment: &Segment<'_>) -> bool {
        self.syn[side].is_none() && self.streams[side].may_begin_after(segment.seq.wrapping_add(1), SAME_DISTANCE)
    }

    /// Whether a SYN is one of this connection, which is not closed.
    fn fits_syn(&self, side: usize, segment: &Segment<'_>) -> bool {
        let (own, other) = (&self.streams[side], &self.streams[1 - side]);
        match (self.syn[side], segment.ack) {
            (Some(isn), _) if isn == segment.seq => true,
            // Several answers to one SYN: the client accepts one.
            (_, Some(ack)) if self.syn[1 - side].is_some() => self.is_after_syn(1 - side, ack),
            (Some(_), _) => false,
            // The capture may have the SYN after the first data.
            (None, _) if own.is_seen() => own.began_at(segment.seq.wrapping_add(1)),
            (None, Some(ack)) => !other.is_seen() || other.ahead(ack).abs() < REUSE_DISTANCE,
            // Both ends opening at once.
            (None, None) => !self.connected && !other.has_fin() && other.bytes() == 0,
        }
    }

    /// Whether this acknowledges the SYN of an end, and perhaps data in it, before more could be acknowledged.
    fn is_after_syn(&self, side: usize, ack: u32) -> bool {
        let sent = u32::try_from(self.streams[side].bytes()).unwrap_or(u32::MAX);
        let limit = sent.saturating_add(EARLY_BYTES).min(1 << 30);
        self.syn[side].is_some_and(|isn| ack.wrapping_sub(isn.wrapping_add(1)) <= limit)
    }

    /// Whether a segment continues the SYN that did not fit, and not this connection.
    fn answers_opening(&self, side: usize, segment: &Segment<'_>) -> bool {
        let Some((opener, kept)) = self.opening.as_deref().filter(|_| !segment.rst) else {
            return false;
        };
        let first = kept.segment.seq.wrapping_add(1);
        let goes_on_at = |seq: u32| seq == first || seq == first.wrapping_add(kept.segment.len);
        let next = self.streams[*opener].next_seq();
        match side == *opener {
            true => !segment.syn && goes_on_at(segment.seq) && segment.seq != next,
            false => segment.ack.is_some_and(|ack| goes_on_at(ack) && ack != next),
        }
    }

    /// Data that an end sends after it has closed is of another connection, whose opening was not captured. What the other
    /// end sends was in flight.
    fn belongs_after_close(&self, side: usize, segment: &Segment<'_>) -> Belongs {
        let own = &self.streams[side];
        let belongs = if segment.syn {
            self.syn[side] == Some(segment.seq)
        } else if segment.len > 0 && own.is_seen() {
            let ahead = own.ahead(segment.seq);
            let was_in_flight = ahead < 0 || self.reset_by.is_some_and(|by| by != side);
            was_in_flight && ahead.abs() < REUSE_DISTANCE
        } else {
            true
        };
        if belongs { Belongs::Yes } else { Belongs::Successor }
    }

    /// Keeps a SYN that perhaps opens another connection.
    pub fn keep_opening(&mut self, side: usize, segment: &Segment<'_>) {
        let is_known = self
            .opening
            .as_deref()
            .is_some_and(|(_, kept)| kept.segment.seq == segment.seq);
        if !is_known {
            self.opening = Some(Box::new((side, Kept::new(segment))));
        }
    }

    /// The SYN that opened the next connection, to which this segment belongs, and its sender; `None` if it was not captured.
    pub fn take_opening(&mut self, side: usize, segment: &Segment<'_>) -> Option<(usize, Kept)> {
        let is_this = self.answers_opening(side, segment);
        let opening = self.opening.take().map(|opening| *opening);
        opening.filter(|(_, kept)| is_this || segment.syn && kept.segment.seq == segment.seq)
    }

    /// Adds a segment that belongs to this connection.
    pub fn segment(
        &mut self,
        side: usize,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) {
        let time = segment.time;
        self.last_time = self.last_time.max(time);
        self.packets = self.packets.wrapping_add(1);
        let now = self.now(time);
        if self.closed {
            // Last acknowledgments and stragglers.
            if segment.len > 0 && self.streams[side].ahead(segment.seq) >= 0 {
                summary.remark(About::AfterReset);
            }
            return;
        }
        if side == 1 && self.is_of_another(segment) {
            // A challenge ACK (RFC 5961, 4.2): the server still has an old connection, and acknowledges where that one was.
            if segment.len > 0 {
                summary.remark(About::OutOfWindow);
            }
            return;
        }
        if self.reset.is_some() && !self.is_still_read(side, segment, summary, out) {
            return;
        }
        let mut seq = segment.seq;
        if segment.syn {
            self.synchronize(side, segment, summary);
            seq = seq.wrapping_add(1);
        } else if !segment.rst {
            let stream = &mut self.streams[side];
            let is_keep_alive = stream.may_be_keep_alive(segment.len, segment.payload);
            stream.note_packet(seq.wrapping_add(u32::from(is_keep_alive)));
            if let Some(urgent) = segment.urgent {
                self.streams[side].urgent_at(urgent);
            }
        }
        if let Some(ack) = segment.ack
            && !segment.rst
        {
            self.choose_syn(side, ack);
            // That of a SYN is not shifted, and no larger than those after it.
            if let Some(scale) = self.scales[side] {
                let window = u64::from(segment.window) << scale;
                self.streams[1 - side].announce_window(window);
            }
            self.confirm(1 - side, ack, summary, out);
            self.streams[1 - side].acknowledge(now, ack);
        }
        if segment.rst {
            return self.reset(side, segment, summary);
        }
        // Both positions are known from the answer on; before, only data needs the socket. Without the opening they are
        // known from data on: the first packets may have been keep-alives.
        self.believe_starts(now, false);
        let answered = self.opener_known && self.streams[0].is_known() && self.streams[1].is_known();
        let has_data = segment.len > 0 || self.holds_data();
        let waits = segment.ack.is_some() && self.streams.iter().any(Stream::is_start_uncertain);
        if (answered || has_data) && !waits {
            self.announce(out);
        }
        self.connect(side, segment, out);
        if segment.len > 0 {
            self.data(side, seq, segment, now, summary, out);
        }
        if segment.fin {
            self.streams[side].finish_at(seq.wrapping_add(segment.len));
        }
        if self.announced {
            self.with_streams(summary, out, |streams, gaps, out| {
                settle(streams, now, false, gaps, out)
            });
        }
        if self.streams[0].is_done() && self.streams[1].is_done() {
            self.close(Ending::Closed, time, summary, out);
        }
    }

    /// The moment of the newest segment, which has this time.
    fn now(&self, time: u64) -> Moment {
        Moment {
            time,
            packet: self.packets,
        }
    }

    /// Whether an answer to `local`'s SYN answers something else.
    fn is_of_another(&self, segment: &Segment<'_>) -> bool {
        let awaits_answer = self.syn[0].is_some() && self.syn[1].is_none() && !self.streams[1].is_seen();
        // Without payload, an acknowledgment of bytes that were not captured more likely belongs to another connection than to
        // bytes that the capture lost; in that case a later one acknowledges them too.
        let is_possible = |ack: u32| self.is_after_syn(0, ack) && (segment.len > 0 || self.streams[0].ahead(ack) <= 0);
        awaits_answer && !segment.syn && !segment.rst && segment.ack.is_some_and(|ack| !is_possible(ack))
    }

    /// After a RST: whether this segment is to be read. It is where it shows that the connection goes on.
    fn is_still_read(
        &mut self,
        side: usize,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) -> bool {
        let Some(reset) = self.reset.as_deref_mut() else {
            return true;
        };
        if segment.rst {
            if side == reset.side {
                // It answers what came meanwhile.
                reset.drop_late(summary);
            }
            return false;
        }
        if side != reset.side && !reset.is_full() {
            reset.keep_late(segment);
            return false;
        }
        if side == reset.side && !reset.is_disproved(segment) {
            // Captured late: it was sent before the RST.
            return segment.len > 0;
        }
        let (late, sender) = (std::mem::take(&mut reset.late), 1 - reset.side);
        self.reset = None;
        summary.remark(About::IgnoredReset);
        for kept in late {
            self.segment(sender, &kept.segment(), summary, out);
        }
        true
    }

    /// Where the capture begins in the middle of a connection, the data that the first data answers may be captured after it. It
    /// is awaited, unless the capture is over (`all`).
    fn believe_starts(&mut self, now: Moment, all: bool) {
        for side in 0..2 {
            let (own, other) = (&self.streams[side], &self.streams[1 - side]);
            let is_late = other.first().is_some_and(|first| own.is_late(first.captured, now));
            if own.is_start_uncertain() && (all || is_late || other.is_overfull()) {
                self.streams[side].believe_start();
            }
        }
    }

    fn synchronize(&mut self, side: usize, segment: &Segment<'_>, summary: &mut ImportSummary) {
        let first = segment.seq.wrapping_add(1);
        self.scales[side] = self.scales[side].max(segment.scale);
        if let Some(isn) = self.syn[side] {
            if isn == segment.seq {
                self.retransmits = self.retransmits.saturating_add(1);
                summary.retransmits += 1;
            } else if side == 1 && self.streams[1].bytes() == 0 {
                self.other_syn = Some(segment.seq);
            }
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

    /// `local` acknowledges one of several answers to its SYN.
    fn choose_syn(&mut self, side: usize, ack: u32) {
        if let Some(isn) = self.other_syn.filter(|isn| side == 0 && ack == isn.wrapping_add(1)) {
            self.other_syn = None;
            if self.streams[1].bytes() == 0 && !self.connected {
                self.syn[1] = Some(isn);
                self.streams[1] = Stream::default();
                self.streams[1].begin(ack);
            }
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

    #[expect(clippy::cast_possible_truncation, reason = "a packet has less than 4 GiB")]
    fn data(
        &mut self,
        side: usize,
        seq: u32,
        segment: &Segment<'_>,
        now: Moment,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) {
        let captured = segment.payload.len() as u32;
        let kind = self.with_streams(summary, out, |streams, gaps, out| {
            let (own, other) = directions(streams, side);
            let (ack, len, payload) = (segment.ack, segment.len, segment.payload);
            own.segment(now, seq, ack, len, payload, other, gaps, &mut |bytes| out(side, bytes))
        });
        match kind {
            Kind::New => self.taps[side] = segment.tap,
            Kind::Probe => {}
            // In other pieces, as offload makes them (GRO, TSO): a copy all the same. What is sent again goes the same way.
            Kind::Retransmit if self.taps[side] != segment.tap => summary.remark(About::Copy),
            Kind::Retransmit => {
                self.retransmits = self.retransmits.saturating_add(1);
                summary.retransmits += 1;
            }
            Kind::Stray => {
                if self.doubted[side].replace(Box::new(Kept::new(segment))).is_some() {
                    summary.remark(About::OutOfWindow);
                }
            }
        }
        if captured < segment.len && kind == Kind::New {
            summary.truncated += 1;
            summary.truncated_bytes += u64::from(segment.len - captured);
        }
    }

    /// The receiver of what `side` sent acknowledges it up to here: what was doubted was no stray, if that is in it.
    fn confirm(&mut self, side: usize, ack: u32, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let is_it = |kept: &mut Box<Kept>| (1..=CONFIRMED_DISTANCE).contains(&ack.wrapping_sub(kept.segment.seq));
        let Some(kept) = self.doubted[side].take_if(is_it) else {
            return;
        };
        let segment = kept.segment();
        self.announce(out);
        self.streams[side].confirm(segment.seq);
        self.data(side, segment.seq, &segment, self.now(segment.time), summary, out);
        if segment.fin {
            self.streams[side].finish_at(segment.seq.wrapping_add(segment.len));
        }
    }

    /// Nobody acknowledged them.
    fn drop_doubted(&mut self, summary: &mut ImportSummary) {
        let doubted = self.doubted.iter_mut().filter_map(Option::take);
        doubted.for_each(|_| summary.remark(About::OutOfWindow));
    }

    fn reset(&mut self, side: usize, segment: &Segment<'_>, summary: &mut ImportSummary) {
        let (own, other) = (&self.streams[side], &self.streams[1 - side]);
        let refuses = side == 1 && self.syn[0].is_some() && self.syn[1].is_none();
        let is_possible = if refuses {
            // The answer to a SYN (RFC 9293, 3.10.7.3): it has to acknowledge what was sent.
            segment.ack.is_none_or(|ack| self.is_after_syn(0, ack))
        } else {
            // Some devices answer with sequence number 0 and a good acknowledgment.
            let acknowledges = segment.ack.is_some_and(|ack| other.ahead(ack).abs() <= RESET_BEHIND);
            !own.is_known() || (-RESET_BEHIND..=RESET_AHEAD).contains(&own.ahead(segment.seq)) || acknowledges
        };
        if !is_possible {
            return summary.remark(About::IgnoredReset);
        }
        let ending = match (refuses, side) {
            (true, _) => Ending::ConnectFailed,
            (false, 0) => Ending::ResetLocally,
            (false, _) => Ending::ResetByPeer,
        };
        let ahead = own.ahead(segment.seq);
        self.reset = Some(Box::new(Reset {
            time: segment.time,
            side,
            ending,
            refuses,
            own: if (0..=RESET_AHEAD).contains(&ahead) {
                segment.seq
            } else {
                own.reached_seq()
            },
            other: other.reached_seq(),
            late: Vec::new(),
            late_bytes: 0,
        }));
    }

    /// Nothing has shown that a RST was ignored: the connection was over when it came.
    pub fn end_reset(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let Some(mut reset) = self.reset.take() else { return };
        self.announce(out);
        if reset.refuses {
            out(&Record::Connect(Connect {
                time: reset.time,
                id: self.id,
                error: ECONNREFUSED,
                connect_ns: reset.time.saturating_sub(self.syn_time),
                send_pos: 0,
                receive_pos: 0,
            }));
        }
        reset.drop_late(summary);
        self.reset_by = Some(reset.side);
        self.streams[reset.side].reset_at(reset.own);
        self.close(reset.ending, reset.time, summary, out);
    }

    /// Ends the connection; no record of it follows.
    fn close(&mut self, ending: Ending, time: u64, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        self.announce(out);
        self.drop_doubted(summary);
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

    /// Flushes what is held back, because the memory is needed.
    pub fn release(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        if let Some(reset) = &mut self.reset {
            reset.drop_late(summary);
        }
        self.opening = None;
        self.drop_doubted(summary);
        self.flush(self.last_time, summary, out);
    }

    /// Hands on everything that is held back; what is missing stays missing.
    fn flush(&mut self, time: u64, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let now = self.now(time);
        self.believe_starts(now, true);
        if self.holds_data() {
            self.announce(out);
        }
        self.with_streams(summary, out, |streams, gaps, out| {
            settle(streams, now, true, gaps, out);
            for (side, stream) in streams.iter_mut().enumerate() {
                stream.close(time, gaps, &mut |bytes| out(side, bytes));
            }
        });
    }

    /// Ends a connection whose end was not captured: its ports are used again, or its place is needed.
    pub fn give_up(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        self.end_reset(summary, out);
        if !self.closed {
            self.close(Ending::Unknown(0), self.last_time, summary, out);
        }
    }

    /// Removes a connection whose packets are copies of those of another.
    pub fn discard(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        if self.announced {
            self.give_up(summary, out);
        } else {
            self.closed = true;
            summary.connections -= 1;
        }
    }

    /// The capture is over.
    pub fn end_of_capture(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        self.end_reset(summary, out);
        if self.closed {
            return;
        }
        self.announce(out);
        self.drop_doubted(summary);
        self.flush(self.last_time, summary, out);
        if self.streams[0].is_done() && self.streams[1].is_done() {
            self.close(Ending::Closed, self.last_time, summary, out);
        }
    }

    /// Writes the `Socket` record, once.
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

    /// Runs `work` on the streams; the bytes that they hand on become `Data` records.
    #[expect(clippy::cast_possible_truncation, reason = "positions in records wrap (SPEC.md)")]
    fn with_streams<T>(
        &mut self,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
        work: impl FnOnce(&mut [Stream; 2], &mut Gaps, &mut Out<'_>) -> T,
    ) -> T {
        let id = self.id;
        let mut gaps = Gaps::default();
        let mut payload_bytes = 0;
        let result = work(&mut self.streams, &mut gaps, &mut |side: usize, bytes: Bytes<'_>| {
            payload_bytes += bytes.payload.len() as u64;
            out(&Record::Data(Data {
                time: bytes.time,
                id,
                pos: bytes.pos as u32,
                len: bytes.len,
                pid: 0,
                tid: 0,
                cgroup: 0,
                direction: if side == 0 {
                    Direction::Sent
                } else {
                    Direction::Received
                },
                cut: if bytes.urgent {
                    Cut::Urgent
                } else if bytes.payload.len() < bytes.len as usize {
                    Cut::Snaplen
                } else {
                    Cut::Whole
                },
                payload: bytes.payload,
                layer: Layer::Wire,
            }));
        });
        summary.payload_bytes += payload_bytes;
        summary.gaps += gaps.count;
        summary.gap_bytes += gaps.bytes;
        result
    }
}
