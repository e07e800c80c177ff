//! TCP reassembly of one direction: segments in the order of capture become bytes in order, each position once.
//!
//! Positions are sequence numbers unwrapped to 64 bits. A segment that cannot be handed on yet is held, within bounds: bytes
//! before it are missing, or it acknowledges bytes of the other direction that are not handed on yet. How long it is held, and
//! which bytes are given up as holes, is decided for both directions together ([`duplex`](super::duplex)).

use std::collections::BTreeMap;

/// Bytes that one direction may hold back: the largest receive window that is common.
pub const MAX_HELD: usize = 8 << 20;
/// Segments that one direction may hold back.
pub const MAX_HELD_SEGMENTS: usize = 1 << 14;
/// A window is never larger (RFC 7323, 2.2).
const MAX_WINDOW: u64 = 1 << 30;
/// An acknowledgment this far ahead of what was seen needs a second one, or bytes that were captured there.
const MAX_BELIEVED: u64 = 16 << 20;
/// A RST further ahead of what was seen does not show what its sender has sent: some are made by middleboxes.
const MAX_UNSEEN: i64 = 1 << 20;
/// Consecutive segments outside the window, near each other, after which the stream resumes at their position.
const MAX_STRAYS: u8 = 8;
/// An acknowledgment may be captured before the bytes that it acknowledges (two taps, several queues): they are given up
/// only after this time, and this many further packets of the connection.
const GRACE_NS: u64 = 10_000_000;
const GRACE_PACKETS: u32 = 2;
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

/// When a segment was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub time: u64,
    /// Which segment of the connection it was; wraps.
    pub packet: u32,
}

impl Moment {
    /// Whether what was missed at `since` could have come by now.
    fn is_late(self, since: Moment) -> bool {
        self.since(since) >= GRACE_PACKETS && self.time.saturating_sub(since.time) >= GRACE_NS
    }

    /// How many segments ago another moment was.
    pub fn since(self, other: Moment) -> u32 {
        self.packet.wrapping_sub(other.packet)
    }
}

#[derive(Debug)]
struct Held {
    captured: Moment,
    /// Its sender had received the other direction up to this sequence number, which was not handed on when it came.
    after: Option<u32>,
    len: u32,
    payload: Box<[u8]>,
}

/// The first of the segments that a direction holds.
#[derive(Debug, Clone, Copy)]
pub struct First {
    pub pos: u64,
    pub captured: Moment,
    /// The other direction has to reach this sequence number before it.
    pub after: Option<u32>,
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
    /// No data of this direction was seen: `next` is known from acknowledgments, or from packets without data.
    provisional: bool,
    /// `next` is confirmed by an acknowledgment. Unlike a packet of this direction, an acknowledgment is never a keep-alive.
    acknowledged: bool,
    /// A packet of this direction was seen, or none will be: what was acknowledged first does not come any more.
    is_start_certain: bool,
    /// Position after the last byte, from a FIN.
    end: Option<u64>,
    /// The other end has received everything before.
    acked: u64,
    /// Since when `acked` has been beyond `next`.
    unseen_since: Option<Moment>,
    /// The largest receive window that the other end announced; 0 where that is not known.
    window: u64,
    /// The other end has received something here, beyond a window.
    confirmed: u64,
    /// Segments in a row that were far outside the window and near each other, and where the newest ended.
    strays: u8,
    stray: u32,
    /// Positions of urgent bytes that are not handed on; of those that have not come, one at most.
    urgent: Vec<u64>,
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

    /// Starts the stream at this sequence number. Later bytes that were acknowledged stay acknowledged.
    pub fn begin(&mut self, seq: u32) {
        let acked = self
            .acknowledged
            .then(|| self.acked.wrapping_sub(u64::from(seq)) & u64::from(u32::MAX));
        // One turn above zero, so that earlier positions have a number too.
        self.start = (1 << 32) + u64::from(seq);
        self.next = self.start;
        self.acked = self.start + acked.filter(|ahead| *ahead <= MAX_BELIEVED).unwrap_or(0);
        self.unseen_since = None;
        self.provisional = false;
        self.acknowledged = false;
    }

    /// A packet of this direction shows the next position, as an acknowledgment does. The first packet may have been a
    /// keep-alive, which has the number of the byte before (RFC 9293, 3.8.4).
    fn expect(&mut self, seq: u32) {
        let may_be_keep_alive = self.provisional && !self.acknowledged;
        let after_keep_alive = may_be_keep_alive && self.next == self.start && self.ahead(seq) == 1;
        if !self.is_known() || after_keep_alive {
            self.begin(seq);
            self.provisional = true;
        }
    }

    /// A packet of this direction, perhaps without data. It may show that the bytes that were acknowledged first still come.
    pub fn note_packet(&mut self, seq: u32) {
        self.expect(seq);
        let is_beginning = self.is_start_uncertain() && self.next == self.start;
        // The number before is that of a keep-alive.
        if is_beginning && (-(MAX_WINDOW as i64)..-1).contains(&self.ahead(seq)) {
            self.begin(seq);
            self.provisional = true;
        }
        self.is_start_certain = true;
    }

    /// The other end takes so many bytes beyond what it has acknowledged.
    pub fn announce_window(&mut self, window: u64) {
        self.window = self.window.max(window);
    }

    /// The other end acknowledges what begins at this sequence number, however far ahead it is.
    pub fn confirm(&mut self, seq: u32) {
        self.confirmed = self.unwrap(seq);
    }

    /// Whether a position is further ahead than its sender may send. The capture may have lost what came before, with its
    /// acknowledgments: not each byte beyond the window is doubted.
    fn is_beyond_window(&self, pos: u64) -> bool {
        let window = match self.window {
            0 => MAX_WINDOW,
            window => window.clamp(MAX_BELIEVED, MAX_WINDOW),
        };
        let reached = self.next.max(self.acked).max(self.confirmed);
        pos > reached + window || pos > self.next + MAX_WINDOW
    }

    /// Whether no packet of it was seen, and its start is known from acknowledgments only.
    pub fn is_start_uncertain(&self) -> bool {
        self.provisional && !self.is_start_certain
    }

    /// Nothing comes before what was acknowledged first.
    pub fn believe_start(&mut self) {
        self.is_start_certain = true;
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

    /// How far a sequence number is ahead of `next` (negative: before it).
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn ahead(&self, seq: u32) -> i64 {
        i64::from(seq.wrapping_sub(self.next as u32) as i32)
    }

    /// Whether it began at this sequence number, as far as that is known.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn may_begin_at(&self, seq: u32) -> bool {
        self.is_known() && self.start as u32 == seq
    }

    /// Whether what is known of it begins after this sequence number, at most this far.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn may_begin_after(&self, seq: u32, distance: u64) -> bool {
        self.is_known() && (1..=distance).contains(&u64::from((self.start as u32).wrapping_sub(seq)))
    }

    /// Whether a sequence number is among those that were seen, or at most this far from them.
    pub fn is_within(&self, seq: u32, distance: u64) -> bool {
        let ahead = self.ahead(seq);
        let before = self.bytes().saturating_add(distance);
        match ahead < 0 {
            true => ahead.unsigned_abs() <= before,
            false => ahead.unsigned_abs() <= distance,
        }
    }

    fn unwrap(&self, seq: u32) -> u64 {
        self.next.wrapping_add_signed(self.ahead(seq))
    }

    /// The byte at this sequence number is urgent data. As with receivers, a new one takes the place of one that has not come
    /// yet (RFC 6093, 3.2).
    pub fn urgent_at(&mut self, seq: u32) {
        if self.ahead(seq) < 0 {
            return;
        }
        let (pos, captured) = (self.unwrap(seq), self.captured());
        match self.urgent.last_mut() {
            Some(last) if *last >= captured => *last = pos.max(*last),
            Some(last) if *last >= pos => {}
            _ => self.urgent.push(pos),
        }
    }

    /// The position after everything that was captured.
    fn captured(&self) -> u64 {
        let held = self.waiting.as_ref().and_then(|w| w.segments.last_key_value());
        self.next.max(held.map_or(0, |(pos, held)| pos + u64::from(held.len)))
    }

    /// A segment with payload. What it acknowledges is of `other`.
    #[expect(clippy::cast_possible_truncation, reason = "less than `len`")]
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a segment, and where the bytes go"
    )]
    pub fn segment(
        &mut self,
        now: Moment,
        seq: u32,
        ack: Option<u32>,
        len: u32,
        payload: &[u8],
        other: &Stream,
        gaps: &mut Gaps,
        out: &mut dyn FnMut(Bytes<'_>),
    ) -> Kind {
        let time = now.time;
        self.expect(seq);
        let mut pos = self.unwrap(seq);
        if self.provisional {
            // The bytes that were acknowledged first may still come.
            let is_data = !matches!((len, payload), (1, [0] | []));
            let is_earlier = pos < self.next && is_data && self.next - pos < MAX_WINDOW;
            if self.next == self.start && is_earlier {
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
        if self.is_beyond_window(pos) {
            return self.stray(time, seq, len, gaps, out);
        }
        self.strays = 0;
        self.goes_on_to(end);
        let after = ack.and_then(|ack| self.after(pos, ack, other));
        if pos > self.next || after.is_some() {
            return self.hold(now, pos, after, len, payload);
        }
        let repeated = (self.next - pos) as u32;
        self.hand_on(
            time,
            len - repeated,
            payload.get(repeated as usize..).unwrap_or(&[]),
            out,
        );
        if repeated > 0 { Kind::Retransmit } else { Kind::New }
    }

    /// What has to be handed on of `other` before a segment at `pos` that acknowledges `ack`, if that is not done yet. A
    /// retransmission acknowledges more than the original did, but no more than the segments that follow it.
    fn after(&self, pos: u64, ack: u32, other: &Stream) -> Option<u32> {
        let after = other.believed(ack)?;
        let waiting = self.waiting.as_ref().map(|w| w.segments.range(pos + 1..));
        match waiting.and_then(|mut later| later.next()) {
            None => Some(after),
            Some((_, later)) => later.after.map(|seq| other.earlier(seq, after)),
        }
    }

    /// How far this acknowledgment is believed, if that is not handed on yet.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    fn believed(&self, ack: u32) -> Option<u32> {
        let seq = self.unwrap(ack).min(self.acked) as u32;
        (!self.has_reached(seq)).then_some(seq)
    }

    fn earlier(&self, a: u32, b: u32) -> u32 {
        if self.ahead(a) < self.ahead(b) { a } else { b }
    }

    /// Whether everything before this sequence number is handed on. One number more may be a FIN. Where nothing of the
    /// direction was seen yet, it is not known what there is.
    pub fn has_reached(&self, seq: u32) -> bool {
        if self.is_start_uncertain() {
            return false;
        }
        self.position(seq) <= self.next || self.ahead(seq) == 1 && self.waiting.is_none() && self.end.is_none()
    }

    /// The first segment that is held.
    pub fn first(&self) -> Option<First> {
        let (pos, held) = self.waiting.as_ref()?.segments.first_key_value()?;
        Some(First {
            pos: *pos,
            captured: held.captured,
            after: held.after,
        })
    }

    /// The first segment that is held does not wait for the other direction any more.
    pub fn unbind_first(&mut self) {
        let first = self.waiting.as_mut().and_then(|w| w.segments.first_entry());
        if let Some(mut entry) = first {
            entry.get_mut().after = None;
        }
    }

    /// Whether a position is beyond what is handed on: bytes before it are missing, or wait.
    pub fn is_beyond(&self, pos: u64) -> bool {
        pos > self.next
    }

    /// How far the other end has received it, where that is beyond what is handed on.
    pub fn acknowledged(&self) -> Option<u64> {
        (self.acked > self.next).then_some(self.acked)
    }

    /// Whether it holds more than it may.
    pub fn is_overfull(&self) -> bool {
        let waiting = self.waiting.as_ref();
        waiting.is_some_and(|w| w.cost > MAX_HELD || w.segments.len() > MAX_HELD_SEGMENTS)
    }

    /// Whether bytes that were acknowledged at `since`, and not seen, will not come any more. While bytes come after
    /// their acknowledgments, the wait starts again with each.
    pub fn is_late(&self, since: Moment, now: Moment) -> bool {
        now.is_late(Moment {
            time: since.time.max(self.last_time),
            ..since
        })
    }

    /// Whether what was acknowledged last, and is not seen, will not come any more. One number may be a FIN that was not
    /// captured.
    pub fn is_acknowledged_late(&self, now: Moment) -> bool {
        let is_unseen = self.acked > self.next + 1;
        is_unseen && self.unseen_since.is_some_and(|since| self.is_late(since, now))
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most `len`")]
    fn hand_on(&mut self, time: u64, len: u32, payload: &[u8], out: &mut dyn FnMut(Bytes<'_>)) {
        let end = self.next + u64::from(len);
        if self.urgent.is_empty() {
            return self.put(time, len, payload, false, out);
        }
        let passed = self.urgent.partition_point(|urgent| *urgent < self.next);
        let inside = self.urgent.partition_point(|urgent| *urgent < end);
        let mut rest = payload;
        for urgent in self.urgent.drain(..inside).skip(passed).collect::<Vec<_>>() {
            let upto = (urgent + 1 - self.next) as usize;
            let (before, after) = rest.split_at_checked(upto).unwrap_or((rest, &[]));
            self.put(time, upto as u32, before, true, out);
            rest = after;
        }
        if self.next < end || len == 0 {
            self.put(time, (end - self.next) as u32, rest, false, out);
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
            // The capture missed more than a window. Positions only grow: the stream does not resume at an earlier one.
            self.give_up_to(self.next + u64::from(ahead), time, true, gaps, out);
            self.acked = self.acked.max(self.next);
            self.strays = 0;
        }
        Kind::Stray
    }

    fn hold(&mut self, captured: Moment, pos: u64, after: Option<u32>, len: u32, payload: &[u8]) -> Kind {
        let waiting = self.waiting.get_or_insert_default();
        let before = waiting.segments.range(..=pos).next_back();
        if before.is_some_and(|(at, held)| at + u64::from(held.len) >= pos + u64::from(len)) {
            return Kind::Retransmit;
        }
        waiting.cost += SEGMENT_COST + payload.len();
        let held = Held {
            captured,
            after,
            len,
            payload: payload.into(),
        };
        match waiting.segments.insert(pos, held) {
            Some(shorter) => {
                waiting.cost -= SEGMENT_COST + shorter.payload.len();
                Kind::Retransmit
            }
            None => Kind::New,
        }
    }

    /// Hands on what is in order now, as far as `other` allows. Returns whether there was something.
    #[expect(clippy::cast_possible_truncation, reason = "less than `held.len`")]
    pub fn drain(&mut self, other: &Stream, out: &mut dyn FnMut(Bytes<'_>)) -> bool {
        let Some(mut waiting) = self.waiting.take() else {
            return false;
        };
        let before = waiting.segments.len();
        while let Some(entry) = waiting.segments.first_entry()
            && *entry.key() <= self.next
            && entry.get().after.is_none_or(|seq| other.has_reached(seq))
        {
            let (pos, held) = entry.remove_entry();
            waiting.cost -= SEGMENT_COST + held.payload.len();
            let known = self.next - pos;
            if known < u64::from(held.len) {
                let payload = held.payload.get(known as usize..).unwrap_or(&[]);
                self.hand_on(held.captured.time, held.len - known as u32, payload, out);
            }
        }
        let is_any = waiting.segments.len() < before;
        if !waiting.segments.is_empty() {
            self.waiting = Some(waiting);
        }
        is_any
    }

    /// Gives up the bytes before `pos`, of which none is held. `mark`: marks the hole at once, and not only by the next bytes.
    pub fn give_up_to(&mut self, pos: u64, time: u64, mark: bool, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) {
        debug_assert!(pos > self.next, "what is given up is missing");
        gaps.count += 1;
        gaps.bytes += pos - self.next;
        self.next = pos;
        if mark {
            self.hand_on(time, 0, &[], out);
        }
    }

    /// The other end acknowledges everything before this sequence number.
    pub fn acknowledge(&mut self, now: Moment, seq: u32) {
        self.expect(seq);
        self.acknowledged = true;
        let ahead = self.ahead(seq);
        if ahead <= 0 || ahead as u64 > MAX_WINDOW {
            return;
        }
        let is_captured = self.unwrap(seq) <= self.captured();
        if ahead as u64 > MAX_BELIEVED && !is_captured && !self.is_confirmed(seq) {
            self.doubted = Some(seq);
            return;
        }
        // The FIN has a number of its own.
        let pos = self.position(seq);
        if pos > self.next && (self.acked <= self.next || self.unseen_since.is_none()) {
            self.unseen_since = Some(now);
        }
        self.acked = self.acked.max(pos);
    }

    /// The sender reset the connection at this sequence number, perhaps after bytes that were not captured. One number may be
    /// a FIN.
    pub fn reset_at(&mut self, seq: u32) {
        if (2..=MAX_UNSEEN).contains(&self.ahead(seq)) {
            self.acked = self.acked.max(self.position(seq));
        }
    }

    /// Whether an acknowledgment far ahead goes on from one that was as far: one alone may be of another connection, or forged.
    fn is_confirmed(&self, seq: u32) -> bool {
        let since = self.doubted.map(|doubted| seq.wrapping_sub(doubted));
        since.is_some_and(|since| u64::from(since) <= MAX_BELIEVED)
    }

    /// Bytes after a FIN: it was forged, or rejected by the other end.
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
        let end = self.unwrap(seq);
        if self.end.is_none() && end >= self.next && !self.is_beyond_window(end) {
            self.end = Some(end);
            if self.acked == end + 1 {
                // The FIN's own number, acknowledged before it was seen.
                self.acked = end;
            }
        }
    }

    /// Nothing more will come, and nothing is held: what is missing stays missing.
    pub fn close(&mut self, time: u64, gaps: &mut Gaps, out: &mut dyn FnMut(Bytes<'_>)) {
        // A FIN that was not captured leaves one number that is no byte.
        let acked = if self.end.is_none() && self.acked == self.next + 1 {
            self.next
        } else {
            self.acked
        };
        let upto = acked.max(self.end.unwrap_or(0));
        if upto > self.next {
            self.give_up_to(upto, time, true, gaps, out);
        }
    }

    /// The position of a sequence number, no further than the FIN.
    pub fn position(&self, seq: u32) -> u64 {
        let pos = self.unwrap(seq);
        self.end.map_or(pos, |end| pos.min(end))
    }

    /// The sequence number after everything that was seen or acknowledged.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    pub fn reached_seq(&self) -> u32 {
        self.captured().max(self.acked) as u32
    }
}
