//! One direction of a connection: segments as they were captured become bytes in order, each position once.
//!
//! Positions are sequence numbers unwrapped to 64 bits. What cannot be put in order yet is held, within bounds; what is
//! known never to come (the receiver has acknowledged it, and the capture does not have it) becomes a hole.

use std::collections::BTreeMap;

/// Bytes that one direction may hold back: the largest receive window that is common.
pub const MAX_HELD: usize = 8 << 20;
/// Segments that one direction may hold back.
pub const MAX_HELD_SEGMENTS: usize = 1 << 14;
/// A window is never larger (RFC 7323, 2.2).
const MAX_WINDOW: u64 = 1 << 30;
/// An acknowledgment this far ahead of what was seen needs a second one.
const MAX_BELIEVED: u64 = 16 << 20;
/// After so many segments in a row outside the window, near each other, the stream is taken up where they are.
const MAX_STRAYS: u8 = 8;
/// An acknowledgment may be captured before the bytes that it acknowledges (two taps, several queues): unseen bytes are
/// given up only after this time, and this many further packets of the connection. Bytes that the same direction has
/// gone on behind are given up at once: one direction is captured in order.
const GRACE_NS: u64 = 10_000_000;
const GRACE_PACKETS: u8 = 3;
/// What a held segment costs besides its payload.
const SEGMENT_COST: usize = 96;

/// In-order bytes, handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes<'a> {
    pub time: u64,
    pub pos: u64,
    /// Length on the wire; 0 marks that the stream is known to have reached `pos`.
    pub len: u32,
    pub payload: &'a [u8],
    /// The last byte is urgent data.
    pub urgent: bool,
}

/// What a segment was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// New bytes, in order or held until they are.
    New,
    /// Nothing new: it repeats bytes, wholly or in part.
    Retransmit,
    /// A keep-alive or window probe.
    Probe,
    /// Far outside the window.
    Stray,
}

/// What streams count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gaps {
    pub count: u64,
    pub bytes: u64,
}

#[derive(Debug)]
struct Held {
    time: u64,
    len: u32,
    payload: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Waiting {
    segments: BTreeMap<u64, Held>,
    cost: usize,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// First position; 0 as long as nothing is known.
    start: u64,
    /// Everything before is handed on.
    next: u64,
    /// `next` is known from acknowledgments only; no segment of this direction was seen.
    provisional: bool,
    /// Position after the last byte, from a FIN.
    end: Option<u64>,
    /// The other end has received everything before.
    acked: u64,
    /// Since when, and for how many packets, `acked` has been beyond `next`.
    unseen_since: u64,
    /// The first unseen position.
    unseen_from: u64,
    unseen_packets: u8,
    /// Segments in a row that were far outside the window and near each other, and where the newest ended.
    strays: u8,
    stray: u32,
    /// Position of the urgent byte.
    urgent: Option<u64>,
    /// An acknowledgment too far ahead to be believed alone.
    doubted: Option<u32>,
    /// Time of what was handed on last.
    last_time: u64,
    waiting: Option<Box<Waiting>>,
}

impl Stream {
    /// Whether positions are known.
    pub fn is_known(&self) -> bool {
        self.start != 0
    }

    /// Whether a segment of this direction was seen.
    pub fn is_seen(&self) -> bool {
        self.is_known() && !self.provisional
    }

    /// The sequence number of the next byte to hand on; 0 when unknown.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn next_seq(&self) -> u32 {
        self.next as u32
    }

    /// Payload bytes so far, as the sequence numbers count them.
    pub fn bytes(&self) -> u64 {
        self.next - self.start
    }

    /// Whether it was ended by FIN and everything up to there is handed on.
    pub fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Whether a FIN was seen.
    pub fn has_fin(&self) -> bool {
        self.end.is_some()
    }

    /// What it holds back, in bytes of memory.
    pub fn held(&self) -> usize {
        self.waiting.as_ref().map_or(0, |w| w.cost)
    }

    /// Starts the stream at this sequence number.
    pub fn begin(&mut self, seq: u32) {
        // One turn above zero, so that earlier positions have a number too.
        self.start = (1 << 32) + u64::from(seq);
        self.next = self.start;
        self.acked = self.start;
        self.provisional = false;
    }

    /// A packet of this direction says what comes next, as an acknowledgment does. What was seen first may have been a
    /// keep-alive, which has the number of the byte before (RFC 9293, 3.8.4).
    pub fn expect(&mut self, seq: u32) {
        let after_keep_alive = self.provisional && self.next == self.start && self.ahead(seq) == 1;
        if !self.is_known() || after_keep_alive {
            self.begin(seq);
            self.provisional = true;
        }
    }

    /// Whether a segment is perhaps a keep-alive in front of all that is known. It may have a byte, which is no data and mostly
    /// zero.
    pub fn may_be_keep_alive(&self, len: u32, payload: &[u8]) -> bool {
        !self.is_known() && matches!((len, payload), (1, [0] | []))
    }

    /// Whether it began right at this sequence number.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn began_at(&self, seq: u32) -> bool {
        self.is_seen() && self.start as u32 == seq
    }

    /// How far a sequence number lies ahead of what is handed on (negative: behind).
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn ahead(&self, seq: u32) -> i64 {
        i64::from(seq.wrapping_sub(self.next as u32) as i32)
    }

    fn unwrap(&self, seq: u32) -> u64 {
        self.next.wrapping_add_signed(self.ahead(seq))
    }

    /// The byte at this sequence number is urgent data. There is one at a time: as with receivers, a new one takes the place
    /// of one that has not come yet (RFC 6093, 3.2).
    pub fn urgent_at(&mut self, seq: u32) {
        if self.ahead(seq) >= 0 {
            self.urgent = self.urgent.max(Some(self.unwrap(seq)));
        }
    }

    /// A segment with payload.
    #[expect(clippy::cast_possible_truncation, reason = "less than `len`")]
    pub fn segment(
        &mut self,
        time: u64,
        seq: u32,
        len: u32,
        payload: &[u8],
        gaps: &mut Gaps,
        out: &mut dyn FnMut(Bytes<'_>),
    ) -> Kind {
        self.expect(seq);
        let mut pos = self.unwrap(seq);
        if self.provisional {
            // What was acknowledged first may still come by.
            let is_data = !matches!((len, payload), (1, [0] | []));
            let behind = pos < self.next && is_data && self.next - pos < MAX_WINDOW;
            if self.next == self.start && behind {
                self.begin(seq);
                pos = self.next;
            }
            self.provisional = false;
        }
        let end = pos + u64::from(len);
        if end <= self.next {
            return match len {
                0 | 1 if end == self.next => Kind::Probe,
                _ if self.next - pos > MAX_WINDOW => self.stray(time, seq, len, gaps, out),
                _ => Kind::Retransmit,
            };
        }
        if pos > self.next {
            if pos - self.next > MAX_WINDOW {
                return self.stray(time, seq, len, gaps, out);
            }
            self.strays = 0;
            self.goes_on_to(end);
            return self.hold(time, pos, len, payload, gaps, out);
        }
        self.strays = 0;
        self.goes_on_to(end);
        let repeated = (self.next - pos) as u32;
        self.hand_on(
            time,
            len - repeated,
            payload.get(repeated as usize..).unwrap_or(&[]),
            out,
        );
        if self.waiting.is_some() {
            self.drain(out);
        }
        if self.next >= self.acked {
            self.unseen_packets = 0;
        }
        if repeated > 0 { Kind::Retransmit } else { Kind::New }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most `len`")]
    fn hand_on(&mut self, time: u64, len: u32, payload: &[u8], out: &mut dyn FnMut(Bytes<'_>)) {
        let end = self.next + u64::from(len);
        match self.urgent.take_if(|urgent| (self.next..end).contains(urgent)) {
            None => self.put(time, len, payload, false, out),
            Some(urgent) => {
                let upto = (urgent + 1 - self.next) as usize;
                let (before, after) = payload.split_at_checked(upto).unwrap_or((payload, &[]));
                self.put(time, upto as u32, before, true, out);
                if self.next < end {
                    self.put(time, len - upto as u32, after, false, out);
                }
            }
        }
    }

    fn put(&mut self, time: u64, len: u32, payload: &[u8], urgent: bool, out: &mut dyn FnMut(Bytes<'_>)) {
        let time = time.max(self.last_time);
        self.last_time = time;
        out(Bytes {
            time,
            pos: self.next,
            len,
            payload,
            urgent,
        });
        self.next += u64::from(len);
    }

    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    fn stray(&mut self, time: u64, seq: u32, len: u32, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) -> Kind {
        let end = seq.wrapping_add(len);
        let apart = end.wrapping_sub(std::mem::replace(&mut self.stray, end)) as i32;
        self.strays = match u64::from(apart.unsigned_abs()) <= MAX_BELIEVED {
            true => self.strays.saturating_add(1),
            false => 1,
        };
        let ahead = end.wrapping_sub(self.next as u32);
        if self.strays >= MAX_STRAYS && self.waiting.is_none() && ahead < 1 << 31 {
            // The capture missed more than a window. Positions only grow: what lies behind is not taken up.
            gaps.count += 1;
            gaps.bytes += u64::from(ahead);
            self.next += u64::from(ahead);
            self.acked = self.acked.max(self.next);
            self.strays = 0;
            self.hand_on(time, 0, &[], out);
        }
        Kind::Stray
    }

    fn hold(
        &mut self,
        time: u64,
        pos: u64,
        len: u32,
        payload: &[u8],
        gaps: &mut Gaps,
        out: &mut dyn FnMut(Bytes<'_>),
    ) -> Kind {
        let waiting = self.waiting.get_or_insert_default();
        if waiting.segments.get(&pos).is_some_and(|held| held.len >= len) {
            return Kind::Retransmit;
        }
        let mut kind = Kind::New;
        if let Some(shorter) = waiting.segments.insert(
            pos,
            Held {
                time,
                len,
                payload: payload.into(),
            },
        ) {
            waiting.cost -= SEGMENT_COST + shorter.payload.len();
            kind = Kind::Retransmit;
        }
        waiting.cost += SEGMENT_COST + payload.len();
        while let Some(waiting) = &self.waiting
            && (waiting.cost > MAX_HELD || waiting.segments.len() > MAX_HELD_SEGMENTS)
        {
            self.skip_hole(gaps, out);
        }
        kind
    }

    /// Hands on what is in order now.
    #[expect(clippy::cast_possible_truncation, reason = "less than `held.len`")]
    fn drain(&mut self, out: &mut dyn FnMut(Bytes<'_>)) {
        let Some(mut waiting) = self.waiting.take() else { return };
        while let Some(entry) = waiting.segments.first_entry()
            && *entry.key() <= self.next
        {
            let (pos, held) = entry.remove_entry();
            waiting.cost -= SEGMENT_COST + held.payload.len();
            let known = self.next - pos;
            if known < u64::from(held.len) {
                let payload = held.payload.get(known as usize..).unwrap_or(&[]);
                self.hand_on(held.time, held.len - known as u32, payload, out);
            }
        }
        if !waiting.segments.is_empty() {
            self.waiting = Some(waiting);
        }
    }

    /// Gives up the bytes before the first held segment.
    pub fn skip_hole(&mut self, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) {
        let first = self.waiting.as_ref().and_then(|w| w.segments.keys().next().copied());
        if let Some(first) = first {
            gaps.count += 1;
            gaps.bytes += first - self.next;
            self.next = first;
        }
        self.drain(out);
    }

    /// The other end acknowledges everything before this sequence number.
    pub fn acknowledge(&mut self, time: u64, seq: u32) {
        self.expect(seq);
        let ahead = self.ahead(seq);
        if ahead <= 0 || ahead as u64 > MAX_WINDOW {
            return;
        }
        if ahead as u64 > MAX_BELIEVED && !self.is_confirmed(seq) {
            self.doubted = Some(seq);
            return;
        }
        let mut pos = self.unwrap(seq);
        if let Some(end) = self.end {
            // The FIN has a number of its own.
            pos = pos.min(end);
        }
        if pos > self.acked.max(self.next) && self.unseen_packets == 0 {
            self.unseen_since = time;
            self.unseen_packets = 1;
            self.unseen_from = self.next;
        }
        self.acked = self.acked.max(pos);
    }

    /// Whether an acknowledgment far ahead goes on from one that was as far: one alone may be of another connection, or forged.
    fn is_confirmed(&self, seq: u32) -> bool {
        let since = self.doubted.map(|doubted| seq.wrapping_sub(doubted));
        since.is_some_and(|since| u64::from(since) <= MAX_BELIEVED)
    }

    /// Bytes behind a FIN: it was forged, or not believed by the other end.
    fn goes_on_to(&mut self, pos: u64) {
        self.end = self.end.filter(|end| pos <= *end);
    }

    /// A FIN after the byte at this sequence number.
    pub fn finish_at(&mut self, seq: u32) {
        self.expect(seq);
        if self.provisional && self.next == self.start && self.ahead(seq) == -1 {
            // What was acknowledged first was this FIN.
            self.begin(seq);
        }
        self.provisional = false;
        let ahead = self.ahead(seq);
        if self.end.is_none() && (0..=MAX_WINDOW as i64).contains(&ahead) {
            let end = self.unwrap(seq);
            self.end = Some(end);
            if self.acked == end + 1 {
                // The FIN's own number, acknowledged before it was seen.
                self.acked = end;
            }
        }
    }

    /// Another packet of the connection was seen: acknowledged bytes that have not come by now will not come.
    pub fn tick(&mut self, time: u64, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) {
        if self.unseen_packets == 0 {
            return;
        }
        if self.next >= self.acked {
            self.unseen_packets = 0;
            return;
        }
        // One number may be a FIN that was not captured.
        if self.acked == self.next + 1 && self.waiting.is_none() {
            return;
        }
        if self.unseen_from != self.next {
            // Bytes still come, behind their acknowledgments all the time: the wait for the next ones begins anew.
            self.unseen_from = self.next;
            self.unseen_since = time;
            self.unseen_packets = 1;
        }
        self.unseen_packets = self.unseen_packets.saturating_add(1);
        // The same direction goes on behind them. To wait longer would hand that on after what answers it.
        let overtaken = self.waiting.is_some();
        let late = self.unseen_packets > GRACE_PACKETS && time.saturating_sub(self.unseen_since) >= GRACE_NS;
        if overtaken || late {
            self.unseen_packets = 0;
            self.give_up_to(self.acked, time, gaps, out);
        }
    }

    /// Nothing more will come: what is held is handed on, what is missing is missing.
    pub fn close(&mut self, time: u64, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) {
        while self.waiting.is_some() {
            self.skip_hole(gaps, out);
        }
        // A FIN that was not captured leaves one number that is no byte.
        let acked = if self.end.is_none() && self.acked == self.next + 1 {
            self.next
        } else {
            self.acked
        };
        self.give_up_to(acked.max(self.end.unwrap_or(0)), time, gaps, out);
    }

    fn give_up_to(&mut self, pos: u64, time: u64, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) {
        while self.next < pos {
            match self.waiting.as_ref().and_then(|w| w.segments.keys().next().copied()) {
                Some(first) if first <= pos => self.skip_hole(gaps, out),
                _ => {
                    gaps.count += 1;
                    gaps.bytes += pos - self.next;
                    self.next = pos;
                    self.hand_on(time, 0, &[], out);
                }
            }
        }
    }
}
