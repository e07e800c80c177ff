//! The table of all connections of a capture, within bounds: to which one a segment belongs, and which one is evicted when
//! there are too many.

use std::collections::{HashMap, VecDeque};

use super::attempt::Attempt;
use super::connection::{Belongs, Connection};
use super::copies::{Recent, Seen};
use super::packet::Segment;
use super::summary::ImportSummary;
use crate::format::record::{About, Endpoint, Record};

/// Connections that are followed at once, ended ones included as long as stragglers may come.
pub const MAX_CONNECTIONS: usize = 1 << 18;
/// Memory that all connections together may hold back for reordering.
pub const MAX_HELD: usize = 64 << 20;

/// Time after a RST in which the connection may turn out to go on, ns by packet times.
const RESET_NS: u64 = 1_000_000_000;
/// A client does not use a port again to the same server for so long, ns (TIME_WAIT of Linux).
const REUSE_NS: u64 = 60_000_000_000;
/// Pairs of addresses that one connection may have, through translations.
const MAX_ALIASES: usize = 16;

/// No slot.
const NONE: u32 = u32::MAX;

/// Both endpoints, the smaller first, and where they were captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    ips: [[u8; 16]; 2],
    ports: u32,
    chain: u32,
}

/// Where packets come from, when several captures are read together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// Number of the file.
    pub file: u32,
    /// Number of the chain: files that were captured one after the other, maybe parts of one capture.
    pub chain: u32,
}

impl Key {
    /// The key, and whether the first endpoint is the smaller.
    fn new(a: &Endpoint, b: &Endpoint) -> (Self, bool) {
        let first_is_low = (a.ip, a.port) <= (b.ip, b.port);
        let (low, high) = if first_is_low { (a, b) } else { (b, a) };
        let key = Key {
            ips: [low.ip, high.ip],
            ports: u32::from(low.port) << 16 | u32::from(high.port),
            chain: 0,
        };
        (key, first_is_low)
    }

    /// The upper half of socket ids: the same for both directions, and for every import of the same connection.
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    fn hash(&self) -> u32 {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        for ip in self.ips {
            let ip = u128::from_be_bytes(ip);
            for word in [(ip >> 64) as u64, ip as u64] {
                hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
                hash ^= hash >> 32;
            }
        }
        hash = (hash ^ u64::from(self.ports)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        (hash >> 32) as u32
    }
}

/// Where the connection of two endpoints is.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: u32,
    /// The file that the newest packet with this key is from.
    file: u32,
    /// The smaller endpoint is `local`.
    low_is_local: bool,
}

impl Place {
    /// Which end of the connection sent a segment, by whether the smaller endpoint did.
    fn side(self, low_sent: bool) -> usize {
        usize::from(low_sent != self.low_is_local)
    }
}

#[derive(Debug)]
struct Slot {
    key: Key,
    /// Other addresses of the same connection: before or after a translation.
    aliases: Vec<Key>,
    followed: Followed,
    /// Listed in `resets`.
    in_resets: bool,
    /// Neighbours in the order of last use.
    older: u32,
    newer: u32,
    /// Held memory that is part of the total.
    held: usize,
}

/// A connection: small while a single segment was captured.
#[derive(Debug)]
struct Followed {
    /// The first segment. `whole` counts, where there is one.
    attempt: Attempt,
    whole: Option<Box<Connection>>,
}

impl Followed {
    /// The connection whose first captured segment this is, and whether the segment is processed already.
    fn begin(id: u64, segment: &Segment<'_>) -> (Self, bool) {
        let is_taken = Attempt::has_all_of(segment);
        let followed = Followed {
            attempt: Attempt::new(id, segment),
            whole: (!is_taken).then(|| Box::new(Connection::new(id, segment))),
        };
        (followed, is_taken)
    }

    /// The whole connection, made from the attempt where there is none yet.
    fn connection(&mut self) -> &mut Connection {
        let attempt = &self.attempt;
        self.whole.get_or_insert_with(|| Box::new(attempt.connection()))
    }

    fn id(&self) -> u64 {
        self.whole.as_ref().map_or(self.attempt.id(), |whole| whole.id())
    }

    /// The lower half of the id: unlike the whole, it never changes.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn number(&self) -> u32 {
        self.id() as u32
    }

    fn ends(&self) -> [Endpoint; 2] {
        match &self.whole {
            Some(whole) => whole.ends(),
            None => self.attempt.ends(),
        }
    }

    fn held(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.held())
    }

    /// See [`Connection::agrees`].
    fn agrees(&self, side: usize, segment: &Segment<'_>) -> bool {
        match &self.whole {
            Some(whole) => whole.agrees(side, segment),
            None => self.attempt.connection().agrees(side, segment),
        }
    }

    /// Whether it is open, or ended so short a time ago that its ports are hardly in use again.
    fn is_recent(&self, now: u64) -> bool {
        self.whole
            .as_ref()
            .is_none_or(|whole| whole.is_open() || now.saturating_sub(whole.last_time()) < REUSE_NS)
    }

    fn reset_time(&self) -> Option<u64> {
        self.whole.as_ref().and_then(|whole| whole.reset_time())
    }

    /// See [`Connection::give_up`]; not used afterwards.
    fn give_up(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        match &mut self.whole {
            Some(whole) => {
                // A connection without an answer is no loss.
                summary.evicted += u64::from(whole.is_open() && whole.is_established());
                whole.give_up(summary, out);
            }
            None => self.attempt.connection().give_up(summary, out),
        }
    }

    fn end_of_capture(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        match self.whole.take() {
            Some(mut whole) => whole.end_of_capture(summary, out),
            None => self.attempt.connection().end_of_capture(summary, out),
        }
    }
}

/// The connections.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    by_key: HashMap<Key, Place, foldhash::fast::RandomState>,
    recent: Recent,
    /// Connections with a RST, by its time: slot and number.
    resets: VecDeque<(u64, u32, u32)>,
    oldest: u32,
    newest: u32,
    /// Connections that hold data back, the longest first, by slot and id.
    holders: VecDeque<(u32, u64)>,
    held: usize,
    next_number: u32,
    limit: usize,
    origin: Origin,
    /// How many chains there are.
    chains: u32,
    /// There is more than one file.
    joins: bool,
}

impl Default for Table {
    fn default() -> Self {
        Table::with_limit(MAX_CONNECTIONS)
    }
}

impl Table {
    /// A table of at most `limit` connections.
    pub fn with_limit(limit: usize) -> Self {
        Table {
            slots: Vec::new(),
            by_key: HashMap::default(),
            recent: Recent::default(),
            resets: VecDeque::new(),
            oldest: NONE,
            newest: NONE,
            holders: VecDeque::new(),
            held: 0,
            next_number: 1,
            limit: limit.clamp(1, NONE as usize - 1),
            origin: Origin::default(),
            chains: 1,
            joins: false,
        }
    }

    /// There are several captures, and the segments that follow come from here.
    pub fn come_from(&mut self, origin: Origin) {
        self.origin = origin;
        self.chains = self.chains.max(origin.chain + 1);
        self.joins = true;
    }

    /// How many connections are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Processes one segment.
    pub fn segment(&mut self, segment: &Segment<'_>, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        self.end_resets(segment.time, summary, out);
        let (mut key, low_sent) = Key::new(&segment.from, &segment.to);
        key.chain = self.origin.chain;
        let opens = segment.syn && segment.ack.is_none();
        let print = self.recent.print(segment);
        let seen = self.recent.find(print, segment);
        self.forget_translations(&key, opens, seen, segment, summary, out);
        let known = match self.joins {
            true => self.find_of_several(key, low_sent, segment, summary),
            false => self.by_key.get(&key).copied(),
        };
        let (place, is_taken) = match known {
            Some(place) => (place, false),
            // A RST without a connection has no meaning.
            None if segment.rst => return summary.remark(About::IgnoredReset),
            None => match seen.and_then(|seen| self.translated(seen, key, low_sent, segment)) {
                Some(place) => (place, false),
                None => self.insert(key, segment, summary, out),
            },
        };
        self.touch(place.slot);
        let side = place.side(low_sent);
        if seen.is_some_and(|seen| seen.looks_translated(segment) && self.is_of_another(seen, place.slot)) {
            summary.remark(About::PossibleCopy);
        }
        let followed = &mut self.slots[place.slot as usize].followed;
        let number = followed.number();
        let is_copy = |seen: Seen| (seen.slot, seen.number, seen.side) == (place.slot, number, side);
        // Resets that answer one segment after the other look alike.
        if !segment.rst && seen.is_some_and(is_copy) {
            return summary.remark(About::Copy);
        }
        if is_taken {
            return self.recent.put(print, segment, place.slot, number, side);
        }
        let connection = followed.connection();
        let side = match connection.belongs(side, segment) {
            Belongs::Yes => {
                connection.segment(side, segment, summary, out);
                side
            }
            Belongs::Perhaps => {
                connection.keep_opening(side, segment);
                side
            }
            Belongs::Successor => self.succeed(place, side, segment, summary, out),
        };
        let slot = &mut self.slots[place.slot as usize];
        let number = slot.followed.number();
        if slot.followed.reset_time().is_some() && !slot.in_resets {
            slot.in_resets = true;
            self.resets.push_back((segment.time, place.slot, number));
        }
        self.recent.put(print, segment, place.slot, number, side);
        self.account(place.slot, summary, out);
    }

    /// A translation may change: with a SYN (`opens`) that is no copy, and where a packet is the copy of one of another
    /// connection.
    fn forget_translations(
        &mut self,
        key: &Key,
        opens: bool,
        seen: Option<Seen>,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) {
        let Some(place) = self.by_key.get(key).copied() else {
            return;
        };
        let is_of_another = seen.is_some_and(|seen| seen.slot != place.slot && self.is_translated(seen, segment));
        let is_new = opens && seen.is_none();
        if !is_of_another && !is_new {
            return;
        }
        let slot = &mut self.slots[place.slot as usize];
        if slot.key != *key {
            slot.aliases.retain(|alias| alias != key);
            self.by_key.remove(key);
        } else if is_of_another {
            slot.followed.connection().discard(summary, out);
            self.by_key.remove(key);
        } else {
            for alias in std::mem::take(&mut slot.aliases) {
                self.forget_key(&alias, place.slot);
            }
        }
    }

    /// These addresses are no longer those of this connection, if they were.
    fn forget_key(&mut self, key: &Key, slot: u32) {
        if self.by_key.get(key).is_some_and(|place| place.slot == slot) {
            self.by_key.remove(key);
        }
    }

    /// Whether a packet that was captured at another place between other addresses is this one.
    fn is_translated(&self, seen: Seen, segment: &Segment<'_>) -> bool {
        let Some(slot) = self.slots.get(seen.slot as usize) else {
            return false;
        };
        let ends = slot.followed.ends();
        let (from, to) = (ends[seen.side], ends[1 - seen.side]);
        // Ports alone are not translated.
        let is_other = from.ip != segment.from.ip || to.ip != segment.to.ip;
        let is_this = slot.followed.number() == seen.number && seen.may_be_translated(segment);
        is_other && is_this && slot.aliases.len() < MAX_ALIASES
    }

    /// Whether a packet that was seen is of another connection than the one of this slot.
    fn is_of_another(&self, seen: Seen, slot: u32) -> bool {
        let other = self.slots.get(seen.slot as usize);
        seen.slot != slot && other.is_some_and(|other| other.followed.number() == seen.number)
    }

    /// The connection of a copy of this packet between other addresses: adds these addresses to it.
    fn translated(&mut self, seen: Seen, key: Key, low_sent: bool, segment: &Segment<'_>) -> Option<Place> {
        if !self.is_translated(seen, segment) {
            return None;
        }
        let slot = &mut self.slots[seen.slot as usize];
        if segment.syn && segment.ack.is_none() {
            let number = u64::from(seen.number);
            slot.followed.connection().is_answered_by(segment, |[local, remote]| {
                u64::from(Key::new(&local, &remote).0.hash()) << 32 | number
            });
        }
        slot.aliases.push(key);
        let place = Place {
            slot: seen.slot,
            file: self.origin.file,
            low_is_local: low_sent == (seen.side == 0),
        };
        self.by_key.insert(key, place);
        Some(place)
    }

    /// The connection of these endpoints, where several captures are read. Hosts may use the same addresses and ports, at once
    /// or one after the other (127.0.0.1): so the first packet of a connection in each file has to agree with what is known from
    /// others by its sequence numbers.
    fn find_of_several(
        &mut self,
        key: Key,
        low_sent: bool,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
    ) -> Option<Place> {
        let own = self.by_key.get(&key).copied();
        let is_recent = |table: &Table, place: Place| table.slots[place.slot as usize].followed.is_recent(segment.time);
        let mut different = None;
        if let Some(place) = own {
            let is_of_this_file = place.file == self.origin.file && !segment.syn;
            if is_of_this_file || self.agrees(place, low_sent, segment) {
                if place.file != self.origin.file {
                    self.by_key.insert(
                        key,
                        Place {
                            file: self.origin.file,
                            ..place
                        },
                    );
                }
                return own;
            }
            // Mostly a SYN opens the next connection of the same endpoints.
            let is_odd = !segment.syn || self.may_be_beginning(place, low_sent, segment);
            if place.file != self.origin.file && is_odd && is_recent(self, place) {
                different = Some(place.file);
            }
        }
        for chain in (0..self.chains).filter(|chain| *chain != key.chain) {
            let Some(place) = self.by_key.get(&Key { chain, ..key }).copied() else {
                continue;
            };
            if self.agrees(place, low_sent, segment) {
                summary.shared.entry(place.file).or_default().joined += 1;
                let place_here = Place {
                    file: self.origin.file,
                    ..place
                };
                self.by_key.insert(key, place_here);
                let slot = &mut self.slots[place.slot as usize];
                if slot.key != key && !slot.aliases.contains(&key) {
                    slot.aliases.push(key);
                }
                return Some(place_here);
            }
            if own.is_none() && is_recent(self, place) {
                different = Some(place.file);
            }
        }
        if let Some(file) = different.filter(|_| !segment.rst) {
            summary.shared.entry(file).or_default().different += 1;
        }
        let goes_on = own.filter(|place| segment.syn || place.file == self.origin.file);
        if own.is_some() && goes_on.is_none() {
            self.by_key.remove(&key);
        }
        goes_on
    }

    /// See [`Connection::may_be_beginning`].
    fn may_be_beginning(&self, place: Place, low_sent: bool, segment: &Segment<'_>) -> bool {
        let whole = &self.slots[place.slot as usize].followed.whole;
        whole
            .as_ref()
            .is_some_and(|whole| whole.may_be_beginning(place.side(low_sent), segment))
    }

    fn agrees(&self, place: Place, low_sent: bool, segment: &Segment<'_>) -> bool {
        self.slots[place.slot as usize]
            .followed
            .agrees(place.side(low_sent), segment)
    }

    /// The ports are in use again, or the connection was joined again after its end. Returns which end of the new one sent
    /// the segment.
    fn succeed(
        &mut self,
        place: Place,
        side: usize,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) -> usize {
        let slot = place.slot as usize;
        let old = self.slots[slot].followed.connection();
        let ends = old.ends();
        let opening = old.take_opening(side, segment);
        old.give_up(summary, out);
        let opening = opening.as_ref().map(|(opener, kept)| (*opener, kept.segment()));
        // A SYN has its own addresses; otherwise they are what they were.
        let (first_side, first) = opening.unwrap_or_else(|| {
            let known = Segment {
                from: ends[side],
                to: ends[1 - side],
                ..*segment
            };
            (side, if segment.syn { *segment } else { known })
        });
        let id = self.number([first.from, first.to], summary);
        let (followed, is_taken) = Followed::begin(id, &first);
        // Whether what was `remote` is `local` now.
        let turned = (followed.ends()[0] == first.from) != (first_side == 0);
        let place = &mut self.slots[slot];
        if turned {
            for key in place.aliases.iter().chain([&place.key]) {
                if let Some(known) = self.by_key.get_mut(key).filter(|known| known.slot as usize == slot) {
                    known.low_is_local = !known.low_is_local;
                }
            }
        }
        place.followed = followed;
        place.in_resets = false;
        let side_now = |side: usize| if turned { 1 - side } else { side };
        if !is_taken {
            let connection = place.followed.connection();
            connection.segment(side_now(first_side), &first, summary, out);
        }
        if opening.is_some() {
            let connection = place.followed.connection();
            connection.segment(side_now(side), segment, summary, out);
        }
        side_now(side)
    }

    /// Ends connections whose RST was not disproved in time.
    fn end_resets(&mut self, now: u64, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        while let Some((time, slot, number)) = self.resets.front().copied()
            && (now.saturating_sub(time) > RESET_NS || self.resets.len() > MAX_CONNECTIONS)
        {
            self.resets.pop_front();
            let place = &mut self.slots[slot as usize];
            if place.followed.number() != number {
                continue;
            }
            match place.followed.reset_time() {
                // This RST was ignored, and another came.
                Some(newer) if newer > time && now.saturating_sub(newer) <= RESET_NS => {
                    self.resets.push_back((newer, slot, number));
                }
                _ => {
                    place.in_resets = false;
                    place.followed.connection().end_reset(summary, out);
                    self.account(slot, summary, out);
                }
            }
        }
    }

    /// Ends the capture: flushes everything that is held back, in the order of the connections' ids.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most `limit` slots, which is below NONE"
    )]
    pub fn finish(&mut self, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        // No segment follows, and the consumer of the records needs memory.
        (self.by_key, self.recent) = Default::default();
        let mut order: Vec<u32> = (0..self.slots.len() as u32).collect();
        order.sort_unstable_by_key(|slot| self.slots[*slot as usize].followed.number());
        for slot in order {
            self.slots[slot as usize].followed.end_of_capture(summary, out);
        }
    }

    /// The id of a new connection between these.
    fn number(&mut self, [a, b]: [Endpoint; 2], summary: &mut ImportSummary) -> u64 {
        let number = self.next_number;
        self.next_number = self.next_number.checked_add(1).unwrap_or(1);
        summary.connections += 1;
        u64::from(Key::new(&a, &b).0.hash()) << 32 | u64::from(number)
    }

    /// Adds a new connection; returns whether its first segment is processed already.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most `limit` slots, which is below NONE"
    )]
    fn insert(
        &mut self,
        key: Key,
        segment: &Segment<'_>,
        summary: &mut ImportSummary,
        out: &mut impl FnMut(&Record<'_>),
    ) -> (Place, bool) {
        let id = self.number([segment.from, segment.to], summary);
        let (followed, is_taken) = Followed::begin(id, segment);
        let [local, remote] = followed.ends();
        let (_, low_is_local) = Key::new(&local, &remote);
        let slot = if self.slots.len() < self.limit {
            let slot = self.slots.len() as u32;
            self.slots.push(Slot {
                key,
                aliases: Vec::new(),
                followed,
                in_resets: false,
                older: NONE,
                newer: NONE,
                held: 0,
            });
            self.append(slot);
            slot
        } else {
            let slot = self.oldest;
            let place = &mut self.slots[slot as usize];
            place.followed.give_up(summary, out);
            place.followed = followed;
            place.in_resets = false;
            let before = std::mem::replace(&mut place.key, key);
            for key in std::mem::take(&mut place.aliases).iter().chain([&before]) {
                self.forget_key(key, slot);
            }
            slot
        };
        let place = Place {
            slot,
            file: self.origin.file,
            low_is_local,
        };
        self.by_key.insert(key, place);
        (place, is_taken)
    }

    /// Marks a connection as the most recently used.
    fn touch(&mut self, slot: u32) {
        if self.newest == slot {
            return;
        }
        let (older, newer) = (self.slots[slot as usize].older, self.slots[slot as usize].newer);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        if newer != NONE {
            self.slots[newer as usize].older = older;
        }
        self.append(slot);
    }

    fn append(&mut self, slot: u32) {
        let before = self.newest;
        self.slots[slot as usize].older = before;
        self.slots[slot as usize].newer = NONE;
        match before {
            NONE => self.oldest = slot,
            before => self.slots[before as usize].newer = slot,
        }
        self.newest = slot;
    }

    /// Keeps the total of held memory within its bound.
    fn account(&mut self, slot: u32, summary: &mut ImportSummary, out: &mut impl FnMut(&Record<'_>)) {
        let place = &mut self.slots[slot as usize];
        let (before, now) = (place.held, place.followed.held());
        if before == now {
            return;
        }
        place.held = now;
        self.held = self.held - before + now;
        if before == 0 {
            self.holders.push_back((slot, place.followed.id()));
            if self.holders.len() > 4 * MAX_CONNECTIONS {
                let slots = &self.slots;
                self.holders
                    .retain(|(slot, id)| slots.get(*slot as usize).is_some_and(|s| s.followed.id() == *id));
            }
        }
        while self.held > MAX_HELD {
            let Some((slot, id)) = self.holders.pop_front() else {
                break;
            };
            let place = &mut self.slots[slot as usize];
            if place.followed.id() == id && place.held > 0 {
                place.followed.connection().release(summary, out);
                self.held -= place.held;
                place.held = 0;
            }
        }
    }
}
