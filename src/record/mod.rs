//! The recorder: knows the kernel and the disk. Never: protocols above TCP, polars.

pub mod attribution;
pub mod capabilities;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod counters;
pub mod doctor;
pub mod drain;
pub mod filter;
pub mod flight_ring;
pub mod identity;
mod kernelfs;
pub mod lookup;
pub mod loss;
pub mod messages;
pub mod output;
pub mod printer;
pub mod privilege;
pub mod process_tree;
pub mod procfs;
pub mod queue;
pub mod run;
pub mod signals;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod status;
pub mod sys;
mod timens;
pub mod user;
mod watch;

#[cfg(test)]
mod tests;
