#![doc = include_str!("SPEC.md")]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

pub mod block;
mod bloom;
mod codec;
mod error;
mod head;
pub mod header;
mod index;
pub(crate) mod kind;
pub mod layout;
pub mod reader;
pub mod record;
pub mod writer;

pub use block::{BlockBuilder, Class, LossTotal, RawBlock, Records, records};
pub use error::Error;
pub use header::Header;
pub use kind::{Counts, Kind};
pub use reader::{BlockRef, Damage, Reader, What};
pub use record::Record;
pub use writer::{Summary, Writer};

#[cfg(test)]
pub(crate) mod tests;
