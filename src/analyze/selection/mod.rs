//! The selection: which rows, of which time span, ports, processes and pods, and which connections are followed for them. Plain
//! data; [`prune`](super::prune) decides which blocks are needed.

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
    /// Damage is shown, which is known only of blocks that were read.
    pub damage: bool,
    pub exchanges: bool,
    /// The number of an exchange in its connection is shown or tested.
    pub sequences: bool,
    pub connections: ConnectionRows,
    pub processes: bool,
}

/// What is shown of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum ConnectionRows {
    #[default]
    None,
    /// Protocol and ends, and counts within the span.
    WithinSpan,
    Whole,
}

/// A request to the captures.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Bounds that all selected exchanges and connections satisfy.
    pub filter: BlockFilter,
    /// The span for losses, connections and processes; that of the filter may be narrower.
    pub span: Option<Span>,
    pub rows: Rows,
    /// No block is left out, for tests.
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
