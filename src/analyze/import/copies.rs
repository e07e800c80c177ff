//! Copies: one packet captured more than once, on several interfaces, inside and outside of a tunnel, before and after a
//! translation of addresses, or by a switch that mirrors both ways.
//!
//! A copy has the sequence numbers, flags and window of the packet, and in most cases the identification of its IPv4 packet or
//! the timestamps of TCP. A retransmission differs in these.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::packet::Segment;
use super::part::Tap;

/// A copy comes within this time: less than what a retransmission waits for (RFC 6298; Linux waits 200 ms).
pub const COPY_NS: u64 = 100_000_000;
/// The same where neither an identification nor another interface distinguishes a copy from a retransmission.
const SAME_TAP_NS: u64 = 1_000_000;
/// Routers between two places where one packet is seen, at most: the one that translates its addresses, and a few more.
const MAX_HOPS: u8 = 8;
/// Recent packets are kept in small sets. A newer one replaces the oldest of its set.
const SETS: usize = 1 << 13;
const IN_SET: usize = 4;

/// A packet that was seen, and its connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    print: u64,
    time: u64,
    tap: Tap,
    hops: u8,
    /// Place of the connection, and its number.
    pub slot: u32,
    pub number: u32,
    /// Which end sent it.
    pub side: usize,
}

/// The packets of a short time.
#[derive(Debug, Default)]
pub struct Recent {
    /// Empty before the first packet: many files may be open.
    sets: Vec<[Seen; IN_SET]>,
    hasher: RandomState,
}

impl Recent {
    /// A hash that is equal for all copies: independent of addresses and link.
    pub fn print(&self, segment: &Segment<'_>) -> u64 {
        let flags = [segment.syn, segment.fin, segment.rst];
        // The identification is enough; options may have been cut off in one copy and not in the other.
        let stamps = segment.stamps.filter(|_| segment.ip_id == 0);
        self.hasher.hash_one((
            (segment.seq, segment.ack, segment.len, flags),
            (segment.window, segment.ip_id, stamps),
        ))
    }

    /// Adds a packet.
    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash")]
    pub fn put(&mut self, print: u64, segment: &Segment<'_>, slot: u32, number: u32, side: usize) {
        if self.sets.is_empty() {
            self.sets.resize(SETS, Default::default());
        }
        let set = &mut self.sets[print as usize % SETS];
        set.rotate_right(1);
        set[0] = Seen {
            print,
            time: segment.time,
            tap: segment.tap,
            hops: segment.hops,
            slot,
            number,
            side,
        };
    }

    /// The packet that this one may be a copy of.
    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash")]
    pub fn find(&self, print: u64, segment: &Segment<'_>) -> Option<Seen> {
        let set = self.sets.get(print as usize % SETS)?;
        let seen = set.iter().find(|seen| seen.number != 0 && seen.print == print)?;
        let within = match segment.ip_id == 0 && !seen.is_elsewhere(segment) {
            true => SAME_TAP_NS,
            false => COPY_NS,
        };
        (segment.time.abs_diff(seen.time) <= within).then_some(*seen)
    }
}

impl Seen {
    /// Whether a packet was seen at another place than this one: on another interface, with other addresses of the link, in
    /// another tunnel, or a few routers further on or back.
    fn is_elsewhere(&self, segment: &Segment<'_>) -> bool {
        self.tap != segment.tap || (1..=MAX_HOPS).contains(&self.hops.abs_diff(segment.hops))
    }

    /// Whether a packet between other addresses is this one, translated: captured at another place, and certainly equal. Sequence
    /// numbers alone are not enough for a SYN, nor where traffic was made by a program.
    pub fn may_be_translated(&self, segment: &Segment<'_>) -> bool {
        let is_certain = segment.ip_id != 0 || segment.stamps.is_some();
        is_certain && !segment.rst && self.is_elsewhere(segment)
    }

    /// Whether a packet of another connection looks like this one so much that it may be this one, translated: data with the
    /// same two sequence numbers, which two connections have by chance once in 2^64 times.
    pub fn looks_translated(&self, segment: &Segment<'_>) -> bool {
        segment.len > 0 && segment.ack.is_some()
    }
}
