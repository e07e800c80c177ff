//! The recorder: knows the kernel and the disk. Never: protocols above TCP, polars.

mod kallsyms;
mod kretprobe;
pub mod probe;
mod probe_object;
mod probe_plan;
mod selftest;
pub mod wire;
