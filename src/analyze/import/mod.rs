//! Packet captures as input: pcap and pcapng files become the records that the recorder would have written.
//!
//! Owns decoding, IP reassembly and TCP reassembly: from a file of frames to connections with two in-order byte streams.
//! Knows no protocol above TCP and no tables. The result is records of [`crate::format`], so that a recorded and an imported
//! capture are analyzed by the same code.
//!
//! What an imported capture looks like:
//! - One `Socket` per connection, role `Wire`. `opened` is `Connect` when a handshake was seen: `local` is then the end
//!   that opened it. It is `FirstSeen` when the capture began later: `local` is then a guess (the end with the higher
//!   port; with equal ports the sender of the first packet).
//! - `Data` with direction `Sent` is what `local` sent. Per direction the records are in order and do not overlap; a
//!   jump in position is a hole: bytes that the capture does not have. A record of length 0 marks that the stream is
//!   known to have reached this position, although no data followed.
//! - Times are packet times, UTC; the capture's `Clock` records state boot time = real time. A segment that overtook a
//!   lost one carries the time at which the retransmission closed the hole: no program could have read it before.
//!   Where the hole was never closed (the capture missed what the receiver got) segments keep their own times.
//! - `Close` counts payload bytes by sequence numbers, retransmissions of both ends together. The ending `Unknown(0)`
//!   means that the connection was given up without having been seen to end (its ports were used again, or there were
//!   too many connections). A RST ends a connection unless what follows shows that it was forged or not obeyed.
//! - A packet that the capture holds more than once (on several interfaces, inside and outside of a tunnel, before and
//!   after a translation of addresses) counts once. Of a translated connection `local` is the end that opened it, as seen
//!   first, and `remote` the end that answers, as seen last.
//! - Several captures can be read together as one ([`Import::join`]): rotated parts, and what was captured at several places.
//! - `Remark` records give the number of packets that were left out, and why.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod attempt;
mod blocks;
mod connection;
mod copies;
mod driver;
mod duplex;
mod file;
mod fragment;
mod link;
mod packet;
mod part;
mod reset;
mod source;
mod stream;
mod summary;
mod table;
mod tunnel;

pub use blocks::{import, import_file};
pub use driver::Import;
pub use source::is_packet_capture;
pub use summary::{Damage, Error, ImportSummary, Shared, Stored};

#[cfg(test)]
mod tests;
