//! The laws of the capture file.

mod damage;
mod roundtrip;
pub mod sample;
