//! The recorder: knows the kernel and the disk. Never: protocols above TCP, polars.

pub mod attribution;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod doctor;
pub mod drain;
pub mod filter;
pub mod identity;
mod kallsyms;
mod kernelfs;
mod kretprobe;
#[cfg(test)]
mod layout;
pub mod lookup;
pub mod loss;
pub mod memory;
pub mod monitor;
pub mod output;
pub mod permit;
mod preempt;
pub mod printer;
pub mod privilege;
pub mod probe;
mod probe_object;
mod probe_plan;
pub mod procfs;
pub mod queue;
pub mod run;
mod selftest;
pub mod shared;
pub mod signals;
pub mod sink;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod sys;
mod timens;
pub mod user;
mod watch;
pub mod wire;
pub mod words;

#[cfg(test)]
mod tests;
