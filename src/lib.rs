//! mdf (MasDeepFlow): records what programs of a host send over TCP, and analyses it later, anywhere.
//!
//! Three small programs that share a contract: `record` takes events from the kernel and writes them to a file, `format` is
//! the capture file, `analyze` reads it and finds out what happened.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")
)]

#[cfg(feature = "analyze")]
pub mod analyze;
#[cfg(unix)]
mod caller;
pub mod create;
#[cfg(unix)]
mod descriptor;
pub mod escape;
#[cfg(feature = "analyze")]
mod fetch;
pub mod format;
#[cfg_attr(
    not(all(feature = "record", feature = "analyze")),
    allow(dead_code, reason = "each side uses a part of it")
)]
mod human;
pub mod info;
pub mod mapped;
pub mod message;
pub mod open;
pub mod outcome;
pub mod panic;
#[cfg_attr(
    not(feature = "record"),
    allow(dead_code, reason = "some of it is used while recording only")
)]
pub mod pods;
#[cfg(feature = "record")]
pub mod record;
#[cfg(unix)]
mod sigbus;
pub mod stdout;
pub mod units;
