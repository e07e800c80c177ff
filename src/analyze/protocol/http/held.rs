//! What a server sent before the request it answers was read: kept in order, within a bound.

use std::collections::VecDeque;

use super::super::Missing;

/// Bytes that may be held for one connection.
const MAX_BYTES: usize = 256 << 10;
/// Pieces that may be held for one connection.
const MAX_ITEMS: usize = 1024;

/// One piece of the server's stream.
#[derive(Debug)]
pub enum Item {
    Bytes(u64, Vec<u8>),
    Missing(u64, u64, Missing),
    /// Where it ends, and whether nothing is missing there.
    End(u64, bool),
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Bytes(_, bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// Pieces of the server's stream, oldest first.
#[derive(Debug, Default)]
pub struct Held {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Held {
    /// Adds the newest piece.
    pub fn push(&mut self, item: Item) {
        self.bytes += item.size();
        self.items.push_back(item);
    }

    /// Puts back what is left of the oldest piece.
    pub fn put_back(&mut self, item: Item) {
        self.bytes += item.size();
        self.items.push_front(item);
    }

    /// Takes the oldest piece.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.size();
        Some(item)
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// More is held than may be.
    pub fn is_over(&self) -> bool {
        self.bytes > MAX_BYTES || self.items.len() > MAX_ITEMS
    }
}
