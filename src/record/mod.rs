//! The recorder: knows the kernel and the disk. Never: protocols above TCP, polars.

pub mod probe;
mod probe_object;
pub mod wire;
