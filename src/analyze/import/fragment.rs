//! IP fragments back into datagrams, within fixed bounds.
//!
//! Only fragments of datagrams that may hold TCP come here, and those are rare; what matters is that hostile ones cost
//! nothing.

use std::collections::{HashMap, VecDeque};

use super::copies::COPY_NS;
use super::tunnel;
use crate::analyze::remarks::{Remarks, Subject};
use crate::format::record::About;

/// Datagrams that may wait for fragments at once, and finished ones that are remembered.
const MAX_DATAGRAMS: usize = 1024;
/// Bytes that all of them may hold.
const MAX_BYTES: usize = 8 << 20;
/// A datagram is never longer (the offset field has 13 bits of 8 bytes).
const MAX_DATAGRAM: u32 = 65_535 + 8;
/// Fragments of one datagram.
const MAX_PIECES: usize = 1024;
/// Waiting time in ns, by packet times: 60 s (RFC 8200, 4.5; RFC 1122 allows up to 120 s for IPv4).
const MAX_WAIT: u64 = 60_000_000_000;

/// Which datagram a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    pub from: [u8; 16],
    pub to: [u8; 16],
    /// The identification field.
    pub number: u32,
    pub protocol: u8,
}

/// One fragment.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Place in the datagram, bytes.
    pub offset: u32,
    /// Length on the wire.
    pub len: usize,
    /// The captured prefix.
    pub bytes: &'a [u8],
    /// More fragments follow.
    pub more: bool,
    /// The protocol of the datagram, or (IPv6) of what its first fragment begins with.
    pub next: u8,
}

/// A datagram whose fragments are all there.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// The captured prefix.
    pub bytes: Vec<u8>,
    /// Length on the wire.
    pub len: usize,
    /// As in [`Piece::next`], of the first fragment.
    pub next: u8,
}

/// What a fragment costs besides its bytes.
const PIECE_COST: usize = 64;

#[derive(Debug)]
struct Stored {
    start: u32,
    /// By its length on the wire.
    end: u32,
    bytes: Box<[u8]>,
}

#[derive(Debug)]
struct Datagram {
    began: u64,
    serial: u64,
    /// In order, without overlap.
    pieces: Vec<Stored>,
    cost: usize,
    /// Bytes that are there, by length on the wire.
    have: u32,
    total: Option<u32>,
    next: u8,
}

/// The datagrams that wait for fragments.
#[derive(Debug, Default)]
pub struct Fragments {
    waiting: HashMap<Id, Datagram>,
    /// Oldest first; entries of finished datagrams are skipped by their serial.
    order: VecDeque<(Id, u64)>,
    bytes: usize,
    serial: u64,
    /// Datagrams that became whole not long ago, oldest first: copies of their fragments may come.
    finished: HashMap<Id, u64>,
    finished_order: VecDeque<Id>,
    /// Datagrams that were given up since last asked.
    given_up: Remarks,
}

/// Whether a datagram of this protocol may hold TCP, itself or in a tunnel. Of UDP that is known when its ports are.
fn may_hold_tcp(next: u8, first: Option<&[u8]>) -> bool {
    match next {
        // TCP; authentication header and the extension headers of IPv6.
        6 | 51 | 0 | 43 | 60 | 135 | 139 | 140 => true,
        other => tunnel::is_tunnel(other, first),
    }
}

impl Fragments {
    /// Adds a fragment; gives the datagram that it completes.
    pub fn add(&mut self, time: u64, id: Id, piece: Piece<'_>) -> Result<Option<Whole>, Subject> {
        const UDP: u8 = 17;
        if piece.next != UDP && !may_hold_tcp(piece.next, None) {
            return Err(Subject::new(About::IpProtocol, piece.next));
        }
        self.expire(time);
        if self.finished.contains_key(&id) {
            return Ok(None);
        }
        let len = u32::try_from(piece.len).map_err(|_| About::Fragment)?;
        let end = piece.offset.saturating_add(len);
        // All but the last have a multiple of 8 bytes.
        if end > MAX_DATAGRAM || len == 0 || (piece.more && len % 8 != 0) {
            return Err(About::Fragment.into());
        }
        self.serial += 1;
        let serial = self.serial;
        let mut fresh = false;
        let datagram = self.waiting.entry(id).or_insert_with(|| {
            fresh = true;
            Datagram {
                began: time,
                serial,
                pieces: Vec::new(),
                cost: 0,
                have: 0,
                total: None,
                next: piece.next,
            }
        });
        let before = datagram.cost;
        let fits = datagram.place(piece, len, end);
        self.bytes = self.bytes + datagram.cost - before;
        if piece.offset == 0 {
            datagram.next = piece.next;
        }
        let is_whole = datagram.total == Some(datagram.have);
        if fresh {
            self.order.push_back((id, serial));
            if self.order.len() > 4 * MAX_DATAGRAMS {
                let waiting = &self.waiting;
                self.order
                    .retain(|(id, serial)| waiting.get(id).is_some_and(|d| d.serial == *serial));
            }
        }
        match fits {
            // The same fragment again.
            None => return Ok(None),
            Some(false) => {
                let subject = self.remove(&id).map(|datagram| datagram.subject());
                return Err(subject.unwrap_or(About::Fragment.into()));
            }
            Some(true) => {}
        }
        if is_whole {
            let whole = self.remove(&id).map(Datagram::assemble);
            self.finish(time, id);
            return Ok(whole);
        }
        while self.waiting.len() > MAX_DATAGRAMS || self.bytes > MAX_BYTES {
            let Some((oldest, serial)) = self.order.pop_front() else {
                break;
            };
            self.give_up(&oldest, serial);
        }
        Ok(None)
    }

    /// Datagrams given up since this was last asked.
    pub fn take_given_up(&mut self) -> Remarks {
        std::mem::take(&mut self.given_up)
    }

    /// Nothing more will come: all that wait are given up.
    pub fn end(&mut self) {
        while let Some((id, serial)) = self.order.pop_front() {
            self.give_up(&id, serial);
        }
    }

    fn expire(&mut self, now: u64) {
        while let Some((id, serial)) = self.order.front().copied() {
            match self.waiting.get(&id).filter(|d| d.serial == serial) {
                Some(datagram) if now.saturating_sub(datagram.began) <= MAX_WAIT => break,
                Some(_) => self.give_up(&id, serial),
                None => {}
            }
            self.order.pop_front();
        }
        while let Some(id) = self.finished_order.front()
            && (self.finished_order.len() > MAX_DATAGRAMS
                || self
                    .finished
                    .get(id)
                    .is_none_or(|time| now.saturating_sub(*time) > COPY_NS))
        {
            self.finished.remove(id);
            self.finished_order.pop_front();
        }
    }

    fn finish(&mut self, time: u64, id: Id) {
        if self.finished.insert(id, time).is_none() {
            self.finished_order.push_back(id);
        }
    }

    fn give_up(&mut self, id: &Id, serial: u64) {
        if self.waiting.get(id).is_some_and(|d| d.serial == serial)
            && let Some(datagram) = self.remove(id)
        {
            self.given_up.add(datagram.subject(), 1);
        }
    }

    fn remove(&mut self, id: &Id) -> Option<Datagram> {
        let removed = self.waiting.remove(id)?;
        self.bytes -= removed.cost;
        Some(removed)
    }
}

impl Datagram {
    /// What is reported when it does not become whole.
    fn subject(&self) -> Subject {
        let first = self.pieces.first().filter(|piece| piece.start == 0);
        match may_hold_tcp(self.next, first.map(|piece| &*piece.bytes)) {
            true => About::Fragment.into(),
            false => Subject::new(About::IpProtocol, self.next),
        }
    }

    /// Puts a fragment into its place. `None`: it is there already. `Some(false)`: it contradicts the others;
    /// overlapping fragments have no honest use (RFC 5722; Linux drops such IPv4 datagrams too).
    fn place(&mut self, piece: Piece<'_>, len: u32, end: u32) -> Option<bool> {
        let start = piece.offset;
        let at = self.pieces.partition_point(|stored| stored.start < start);
        if let Some(next) = self.pieces.get(at)
            && next.start < end
        {
            let same = (next.start, next.end) == (start, end) && *next.bytes == *piece.bytes;
            return if same { None } else { Some(false) };
        }
        let overlaps = at.checked_sub(1).is_some_and(|before| self.pieces[before].end > start);
        let beyond = self.total.is_some_and(|total| end > total || !piece.more);
        if overlaps || beyond || self.pieces.len() >= MAX_PIECES {
            return Some(false);
        }
        if !piece.more {
            if at < self.pieces.len() {
                return Some(false);
            }
            self.total = Some(end);
        }
        self.have += len;
        self.cost += PIECE_COST + piece.bytes.len();
        self.pieces.insert(
            at,
            Stored {
                start,
                end,
                bytes: piece.bytes.into(),
            },
        );
        Some(true)
    }

    /// The captured bytes from the front, up to the first that is missing.
    fn assemble(self) -> Whole {
        let mut bytes = Vec::with_capacity(self.have as usize);
        for stored in &self.pieces {
            bytes.extend_from_slice(&stored.bytes);
            if stored.bytes.len() < (stored.end - stored.start) as usize {
                break;
            }
        }
        Whole {
            bytes,
            len: self.have as usize,
            next: self.next,
        }
    }
}
