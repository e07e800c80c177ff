//! The laws of the capture file. Offsets are written as in SPEC.md, so that these tests check the text too.

mod damage;
mod future;
mod hostile;
mod roundtrip;
pub mod sample;
mod versions;
mod writing;
