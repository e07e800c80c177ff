//! Processes, cgroups, TCP sockets and the bytes that go over them, from the programs of bpf/.
//!
//! `probe` is the way in: it chooses one of four backends, which hear the same in different ways. `plan` says which programs make
//! up each of them and what the kernel must have for them, `object` loads and attaches them, `selftest` tries them out. What
//! they write into the ring and what is in their maps is `wire`; `monitor` counts what they lost. `preempt`, `kretprobe` and
//! `kallsyms` deal with kernels that need more than that.

mod kallsyms;
mod kretprobe;
#[cfg(test)]
mod layout;
pub mod monitor;
mod object;
pub(in crate::record) mod plan;
mod preempt;
pub mod probe;
mod selftest;
pub mod wire;
