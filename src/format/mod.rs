//! The contract: the capture file. Knows bytes and time; never eBPF, sockets, HTTP, MySQL, rayon, polars.
//!
//! The layout of bytes is written once, in SPEC.md.
#![forbid(unsafe_code)]

pub mod header;
pub mod record;
