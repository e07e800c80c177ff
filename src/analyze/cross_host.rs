//! Connections of which two hosts recorded an end each.
//!
//! The files of several hosts are read side by side, and still one host tells of a whole connection before the other
//! begins: a block holds a quarter of a second, and clocks differ. Whoever has its end read first has to know that there
//! is another to wait for. Both ends hash their endpoints alike (the upper half of a socket's id), so it is enough to know
//! which hashes two hosts have.

use std::collections::{HashMap, HashSet};

/// Hashes that are remembered. Ends beyond are joined where their blocks lie side by side.
const MAX_HASHES: usize = 1 << 22;

/// What was learnt of all hosts' sockets.
#[derive(Debug, Default)]
pub struct CrossHost {
    first: HashMap<u32, u16>,
    several: HashSet<u32>,
}

impl CrossHost {
    /// A host has a socket with this hash.
    pub fn learn(&mut self, host: u16, hash: u32) {
        match self.first.get(&hash) {
            Some(first) if *first != host => self.add(hash),
            None if self.first.len() < MAX_HASHES => {
                self.first.insert(hash, host);
            }
            _ => {}
        }
    }

    /// Both ends of a connection with this hash are known.
    pub fn add(&mut self, hash: u32) {
        self.several.insert(hash);
    }

    /// Whether no connection has its ends on two hosts.
    pub fn is_empty(&self) -> bool {
        self.several.is_empty()
    }

    /// Whether another host has the other end of a connection.
    pub fn has_both_ends(&self, hash: u32) -> bool {
        self.several.contains(&hash)
    }
}
