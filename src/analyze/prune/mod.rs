//! Pruning: which blocks of a capture are read for a part of its rows. Owns that decision; blocks are read by [`input`], and what
//! is selected comes from [`selection`].
//!
//! [`input`]: super::input
//! [`selection`]: super::selection
//!
//! **The law**: the selected rows are equal to those that selecting from all rows would give, in every column of every table,
//! and the report counts exactly these. Pruning makes an analysis cheaper and never different. So a block is left out only
//! where it is known that nothing in it affects a selected row, and a row depends on more than its own bytes:
//!
//! - *Session state.* Whether a byte begins a message depends on all bytes of its connection before it; a MySQL command
//!   has the user of the login and the text of a PREPARE, hours before; `sequence` counts all exchanges before. So the unit
//!   of reading is the connection, not the block: block headers show which connections a block may contain (a Bloom filter
//!   over the upper halves of socket ids, here called keys; both ends of a connection have the same key), and of a
//!   connection all blocks are read, from its first socket record on. Of other connections in these blocks nothing is
//!   followed: a connection is read whole or not at all, so that none is seen with holes.
//! - *What comes later.* An exchange that began in the span ends when it ends: after the span, connections are followed
//!   until no exchange that began before its end can still come ([`Engine::unfinished`]).
//! - *Time that passes.* Some decisions wait for a number of blocks (missing bytes are given up after some). A block that is
//!   not read counts as passed ([`Take::Nothing`]).
//! - *Clocks.* Calendar time is the boot clock and the last reading of the calendar before. Readings are spread over the
//!   blocks; those that matter for a time that is shown are looked up first.
//! - *Lifetimes.* A connection or process belongs to each span that it reaches into, also if it is silent there. That it is
//!   alive follows from not having ended, so blocks before the span in which connections or processes end are scanned for
//!   that (their headers count records by kind), and none of their events are followed.
//! - *Whole rows.* The table `connections` shows totals, so all blocks of its connections are read. The report of a span
//!   counts what is within the span ([`WithinSpan`]), and shows the protocol and ends of a connection, which its other blocks
//!   decide.
//!
//! **The one exception** is what makes a minute of an hour cheap: HTTP/1.1 over connections that last. Between two
//! exchanges it has no state but that nothing is under way. Such a connection is not read from its beginning but joined
//! shortly before the span, if two samples agree that it is plain: no more than one request at a time, each with a whole
//! answer, no tunnel and no other protocol, both where the connection begins and in its last blocks before the span
//! ([`restart`]). This assumes that it was no different between the samples, and is no different now: a connection that
//! pipelined, tunnelled or carried requests in bodies only between the samples would be read wrongly. Where rows show
//! `sequence`, or totals of connections, nothing is assumed.
//!
//! A loss belongs to the span in which it was noticed (its `until`), and so do exit codes; with `--port`, `--pid`,
//! `--pod` and `--where` all losses are reported, because it is not known what was lost.
//!
//! Block headers are trusted: a file with a false header and a valid checksum gives false results.
//!
//! [`WithinSpan`]: super::row::WithinSpan

mod place;
mod restart;
mod roster;
mod schedule;

pub use place::{Placed, in_time_order, is_state};
pub use schedule::{Schedule, Tail};

#[cfg(doc)]
use super::engine::{Engine, Take};
use super::selection::Followed;

/// With more connections than this, most blocks hold one of them.
const MAX_KEYS: usize = 4096;

/// Whether the block at this place may hold a record that is followed.
fn may_hold_followed(followed: &Followed, placed: &Placed<'_>, place: usize) -> bool {
    let is_state = is_state(&placed.stored);
    let mut here = followed
        .0
        .iter()
        .filter(|(_, blocks)| is_state || blocks.contains(&place));
    if followed.0.len() > MAX_KEYS {
        return here.next().is_some();
    }
    let sockets = placed.stored.sockets();
    here.any(|(key, _)| sockets.may_contain(*key))
}
