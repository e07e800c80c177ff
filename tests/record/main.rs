//! `mdf record` as a process: what it refuses, and, as root, what it records of programs that the tests start.
//!
//! The live tests capture only the tests' own processes, chosen in the kernel by a cgroup or a pid.
#![cfg(feature = "record")]
#![allow(unsafe_code, reason = "calls to the C library")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod command;
mod faults;
mod files;
mod live;
mod refusals;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod workload;
