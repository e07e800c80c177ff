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

#[derive(Debug)]
struct Datagram {
    began: u64,
    serial: u64,
    bytes: Vec<u8>,
    /// What is there, by wire length: sorted, without overlap.
    have: Vec<(u32, u32)>,
    /// From here on captured bytes are missing.
    cut: u32,
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
                bytes: Vec::new(),
                have: Vec::new(),
                cut: u32::MAX,
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
        let before = datagram.bytes.len();
        let fits = datagram.place(piece, len, end);
        self.bytes = self.bytes + datagram.bytes.len() - before;
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
        if datagram.have.first() == Some(&(0, datagram.total.unwrap_or(0))) {
            let Some(mut done) = self.remove(&id) else {
                return Ok(None);
            };
            done.bytes.truncate(done.cut as usize);
            *whole = done.bytes;
            return Ok(Some((done.total.unwrap_or(0) as usize, done.next)));
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
        self.bytes -= removed.bytes.len();
        Some(removed)
    }
}

impl Datagram {
    /// Puts a fragment into its place. `None`: it is there already. `Some(false)`: it contradicts the others;
    /// overlapping fragments have no honest use (RFC 5722; Linux drops such IPv4 datagrams too).
    fn place(&mut self, piece: Piece<'_>, len: u32, end: u32) -> Option<bool> {
        let start = piece.offset;
        let at = self.have.partition_point(|(from, _)| *from < start);
        if self.have.get(at).is_some_and(|(from, _)| *from < end)
            || at.checked_sub(1).is_some_and(|before| self.have[before].1 > start)
        {
            let inside = self.have.iter().any(|(from, to)| *from <= start && end <= *to);
            let known = self.bytes.get(start as usize..).unwrap_or(&[]);
            let same = piece.bytes.iter().zip(known).all(|(a, b)| a == b);
            return if inside && same { None } else { Some(false) };
        }
        if self.total.is_some_and(|total| end > total || !piece.more) || self.have.len() >= MAX_PIECES {
            return Some(false);
        }
        if !piece.more {
            if self.have.last().is_some_and(|(_, to)| *to > end) {
                return Some(false);
            }
            self.total = Some(end);
        }
        let needed = start as usize + piece.bytes.len();
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        self.bytes[start as usize..needed].copy_from_slice(piece.bytes);
        if piece.bytes.len() < len as usize {
            self.cut = self.cut.min(needed as u32);
        }
        self.have.insert(at, (start, end));
        // Neighbours that touch become one.
        if self.have.get(at + 1).is_some_and(|next| next.0 == end) {
            self.have[at].1 = self.have[at + 1].1;
            self.have.remove(at + 1);
        }
        if at > 0 && self.have[at - 1].1 == start {
            self.have[at - 1].1 = self.have[at].1;
            self.have.remove(at);
        }
        Some(true)
    }
}
