//! Connections recorded on two hosts, one end on each.
//!
//! The files of several hosts are read in parallel, and yet the records of one host may contain a whole connection before those
//! of the other begin: a block holds a quarter of a second, and clocks differ. The end that is read first has to wait for the
//! other. Both ends have the same hash of their endpoints (the upper half of a socket's id), so it is enough to know which
//! hashes two hosts have.

use std::collections::{HashMap, HashSet};

/// Hashes that are kept. Ends beyond are joined only where their blocks are read together.
const MAX_HASHES: usize = 1 << 22;

/// Which hashes occur on which hosts.
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
