//! What a server sent before the request it answers was read: kept in order, within a bound.

use std::collections::VecDeque;

use super::super::Piece;

/// Bytes that may be held for one connection.
const MAX_BYTES: usize = 256 << 10;
/// Pieces that may be held for one connection.
const MAX_PIECES: usize = 1024;

impl Piece {
    fn size(&self) -> usize {
        match self {
            Piece::Bytes(_, bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// Pieces of the server's stream, oldest first.
#[derive(Debug, Default)]
pub struct Held {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Held {
    /// Adds the newest piece.
    pub fn push(&mut self, piece: Piece) {
        self.bytes += piece.size();
        self.pieces.push_back(piece);
    }

    /// Puts back what is left of the oldest piece.
    pub fn put_back(&mut self, piece: Piece) {
        self.bytes += piece.size();
        self.pieces.push_front(piece);
    }

    /// Takes the oldest piece.
    pub fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.size();
        Some(piece)
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// More is held than may be.
    pub fn is_over(&self) -> bool {
        self.bytes > MAX_BYTES || self.pieces.len() > MAX_PIECES
    }
}
