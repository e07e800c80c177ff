//! The recorder: knows the kernel and the disk. Never: protocols above TCP, polars.

pub mod attribution;
mod capabilities;
mod cgroup;
mod child;
mod clock;
pub mod counters;
pub mod doctor;
pub mod drain;
pub mod filter;
mod flight_ring;
pub mod identity;
mod kernelfs;
mod lookup;
mod loss;
mod messages;
pub mod output;
pub mod printer;
pub mod privilege;
mod process_tree;
mod procfs;
pub mod queue;
pub mod run;
mod signals;
pub mod sink;
mod snapshot;
pub mod source;
mod state;
mod status;
pub mod sys;
mod timens;
mod user;
mod watch;

#[cfg(test)]
mod tests;
