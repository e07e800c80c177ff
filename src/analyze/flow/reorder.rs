//! The reorder buffer of a connection: segments of both directions that wait because bytes of one are missing.
//!
//! A protocol pairs what one side says with what the other says, so a direction must not run ahead while the other waits
//! for bytes that may still come (another processor reported them late, or the other end shows them). Both wait, and
//! leave in causal order: in each direction by position, between the directions by what one end saw first. A hole that
//! is given up stands where it belongs between the two.

use super::{OBSERVERS, WIRE};
use crate::analyze::stream::{Held, Segment};

/// Segments that may wait. Beyond this the missing bytes before the first are given up.
const MAX_WAITING: usize = 64;
/// Captured bytes of those segments.
const MAX_WAITING_BYTES: usize = 512 * 1024;
/// After a hole so many segments stay until the protocol has found its place again: what is reported late still gets
/// its turn.
const MAX_LATE: usize = 8;

/// A segment that waits.
#[derive(Debug)]
struct Waiting {
    sender: usize,
    held: Held,
    /// It came without bytes, and the other end may still show them.
    awaits_bytes: bool,
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This segment can be read.
    Read(usize),
    /// Bytes before this segment are missing.
    Missing(usize),
    /// This segment waits for its bytes.
    Awaits(usize),
}

/// Segments that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Reorder {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// More waits than may.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() > MAX_WAITING || self.bytes > MAX_WAITING_BYTES
    }

    /// No more waits than what may still be overtaken by an event reported late.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() <= MAX_LATE
    }

    /// Whether anything of this sender waits.
    pub(super) fn holds(&self, sender: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.sender == sender)
    }

    pub(super) fn push(&mut self, sender: usize, segment: &Segment<'_>, awaits_bytes: bool) {
        self.bytes += segment.payload.len();
        self.waiting.push(Waiting {
            sender,
            held: Held::new(segment),
            awaits_bytes,
        });
    }

    /// Sender and segment.
    pub(super) fn get(&self, at: usize) -> (usize, Segment<'_>) {
        let waiting = &self.waiting[at];
        (waiting.sender, waiting.held.segment())
    }

    pub(super) fn remove(&mut self, at: usize) -> (usize, Held) {
        let Waiting { sender, held, .. } = self.waiting.remove(at);
        self.bytes -= held.segment().payload.len();
        (sender, held)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Segment<'_>)> {
        self.waiting
            .iter()
            .map(|waiting| (waiting.sender, waiting.held.segment()))
    }

    /// No longer waits for bytes that segments of this sender came without.
    pub(super) fn await_no_bytes(&mut self, sender: usize) {
        let of_sender = self.waiting.iter_mut().filter(|waiting| waiting.sender == sender);
        of_sender.for_each(|waiting| waiting.awaits_bytes = false);
    }

    /// This segment no longer waits for its bytes.
    pub(super) fn await_no_bytes_of(&mut self, at: usize) {
        self.waiting[at].awaits_bytes = false;
    }

    /// The segment whose turn it is, where the directions have been read up to these positions. `clocks`: by observer, whose
    /// clock stamps its times.
    pub(super) fn next(&self, read: [u64; 2], clocks: &[u16; OBSERVERS]) -> Option<Next> {
        let heads = [self.head(0), self.head(1)];
        let at = match heads {
            [Some(a), Some(b)] => match self.is_earlier(a, b, clocks) {
                true => a,
                false => b,
            },
            [a, b] => a.or(b)?,
        };
        let Waiting {
            sender,
            held,
            awaits_bytes,
        } = &self.waiting[at];
        let segment = held.segment();
        if segment.pos > read[*sender] {
            return Some(Next::Missing(at));
        }
        if !awaits_bytes || segment.end() <= read[*sender] {
            return Some(Next::Read(at));
        }
        // Its bytes may be here already, shown by the other end.
        let shows = |waiting: &Waiting| {
            let other = waiting.held.segment();
            waiting.sender == *sender
                && !other.payload.is_empty()
                && other.pos <= read[*sender]
                && other.end() > read[*sender]
        };
        match self.waiting.iter().position(shows) {
            Some(shown) => Some(Next::Read(shown)),
            None => Some(Next::Awaits(at)),
        }
    }

    /// The first segment of this sender by position, then by time.
    fn head(&self, sender: usize) -> Option<usize> {
        let of_sender = |(_, waiting): &(usize, &Waiting)| waiting.sender == sender;
        let place = |(_, waiting): &(usize, &Waiting)| (waiting.held.segment().pos, waiting.held.segment().time);
        let first = self.waiting.iter().enumerate().filter(of_sender).min_by_key(place)?;
        Some(first.0)
    }

    /// Whether the first segment of one direction comes before the first segment of the other. An end that had seen the one,
    /// or what lies behind it, when it saw the other, had it before. Where no end saw both, clocks decide.
    fn is_earlier(&self, a: usize, b: usize, clocks: &[u16; OBSERVERS]) -> bool {
        let (of_a, of_b) = (&self.waiting[a], &self.waiting[b]);
        let (seen_a, seen_b) = (of_a.held.segment(), of_b.held.segment());
        let clock = |segment: &Segment<'_>| clocks[usize::from(segment.observer).min(WIRE)];
        if clock(&seen_a) == clock(&seen_b) {
            return seen_a.time <= seen_b.time;
        }
        let had_before = |sender: usize, observer: u8, time: u64| {
            self.iter()
                .any(|(other, segment)| other == sender && segment.observer == observer && segment.time < time)
        };
        let a_first = had_before(of_a.sender, seen_b.observer, seen_b.time);
        let b_first = had_before(of_b.sender, seen_a.observer, seen_a.time);
        match (a_first, b_first) {
            (true, false) => true,
            (false, true) => false,
            _ => of_a.sender < of_b.sender,
        }
    }
}
