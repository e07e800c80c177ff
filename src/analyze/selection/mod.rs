//! What is asked of the captures: which rows, of which span, ports, processes and pods; and which connections are followed
//! for them. Plain data: [`prune`](super::prune) finds out which blocks that needs.

mod filter;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use foldhash::fast::RandomState;

pub use filter::{BlockFilter, Span, pod_pattern};

use crate::format::kind::Kind;

/// Connections by the upper halves of their sockets' ids. Files choose these, so the hash is seeded at random.
pub type KeySet = HashSet<u32, RandomState>;

/// Which rows are made of what is read, and what of them is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// What could not be read is shown: that is known of what was tried.
    pub damage: bool,
    pub exchanges: bool,
    /// The number of an exchange in its connection is shown, or decides.
    pub sequences: bool,
    pub connections: ConnectionRows,
    pub processes: bool,
}

/// What of the rows of connections is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum ConnectionRows {
    #[default]
    None,
    /// What a connection is, and what of it lies within the span.
    WithinSpan,
    Whole,
}

/// What is asked of the captures.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// What all rows of exchanges and connections agree with.
    pub filter: BlockFilter,
    /// The span to which losses and lasting things belong; that of the filter may be narrower.
    pub span: Option<Span>,
    pub rows: Rows,
    /// Nothing is left out, for tests.
    pub read_all: bool,
}

/// Which connections are followed, and in which blocks.
#[derive(Debug, Default)]
pub struct Followed(pub HashMap<u32, Range<usize>, RandomState>);

impl Followed {
    /// Whether a record about this connection, in the block at this place, is followed. State is followed wherever it is.
    #[inline]
    pub fn has(&self, key: u32, kind: Kind, place: usize) -> bool {
        let is_state = matches!(kind, Kind::Socket | Kind::Owner);
        self.0
            .get(&key)
            .is_some_and(|blocks| is_state || blocks.contains(&place))
    }

    /// Whether nothing is followed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
