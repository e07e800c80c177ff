//! IP fragments back into datagrams, within fixed bounds.
//!
//! Only fragments of TCP datagrams come here, and those are rare; what matters is that hostile ones cost nothing.

use std::collections::{HashMap, VecDeque};

use super::summary::Fault;

/// Datagrams that may wait for fragments at once.
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
    /// Next-header field of the first fragment (IPv6).
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
    /// Datagrams that were given up since last asked.
    given_up: u64,
}

impl Fragments {
    /// Adds a fragment of an IPv4 datagram. When it completes the datagram, the captured prefix is put into `whole`
    /// and the length on the wire is returned.
    pub fn add(&mut self, time: u64, id: Id, piece: Piece<'_>, whole: &mut Vec<u8>) -> Result<Option<usize>, Fault> {
        Ok(self.add_v6(time, id, piece, 0, whole)?.map(|(len, _)| len))
    }

    /// As `add`, for IPv6: with the next-header field, of which the first fragment's counts.
    pub fn add_v6(
        &mut self,
        time: u64,
        id: Id,
        piece: Piece<'_>,
        next: u8,
        whole: &mut Vec<u8>,
    ) -> Result<Option<(usize, u8)>, Fault> {
        self.expire(time);
        let len = u32::try_from(piece.len).map_err(|_| Fault::Fragment)?;
        let end = piece.offset.saturating_add(len);
        // All but the last have a multiple of 8 bytes.
        if end > MAX_DATAGRAM || len == 0 || (piece.more && len % 8 != 0) {
            return Err(Fault::Fragment);
        }
        self.serial += 1;
        let serial = self.serial;
        let mut fresh = false;
        self.waiting.entry(id).or_insert_with(|| {
            fresh = true;
            Datagram {
                began: time,
                serial,
                pieces: Vec::new(),
                cost: 0,
                have: 0,
                total: None,
                next: 0,
            }
        });
        if fresh {
            self.order.push_back((id, serial));
            if self.order.len() > 4 * MAX_DATAGRAMS {
                let waiting = &self.waiting;
                self.order
                    .retain(|(id, serial)| waiting.get(id).is_some_and(|d| d.serial == *serial));
            }
        }
        let Some(datagram) = self.waiting.get_mut(&id) else {
            return Ok(None);
        };
        let before = datagram.cost;
        let fits = datagram.place(piece, len, end);
        self.bytes = self.bytes + datagram.cost - before;
        if piece.offset == 0 {
            datagram.next = next;
        }
        match fits {
            // The same fragment again.
            None => return Ok(None),
            Some(false) => {
                self.remove(&id);
                return Err(Fault::Fragment);
            }
            Some(true) => {}
        }
        if datagram.total == Some(datagram.have) {
            let Some(done) = self.remove(&id) else { return Ok(None) };
            done.assemble(whole);
            return Ok(Some((done.have as usize, done.next)));
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
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    /// How many datagrams wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
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
    }

    fn give_up(&mut self, id: &Id, serial: u64) {
        if self.waiting.get(id).is_some_and(|d| d.serial == serial) {
            self.remove(id);
            self.given_up += 1;
        }
    }

    fn remove(&mut self, id: &Id) -> Option<Datagram> {
        let removed = self.waiting.remove(id)?;
        self.bytes -= removed.cost;
        Some(removed)
    }
}

impl Datagram {
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
    fn assemble(&self, whole: &mut Vec<u8>) {
        whole.clear();
        for stored in &self.pieces {
            whole.extend_from_slice(&stored.bytes);
            if stored.bytes.len() < (stored.end - stored.start) as usize {
                break;
            }
        }
    }
}
