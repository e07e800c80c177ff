//! Live tests: real programs, recorded by the real recorder. They need root.
//!
//! Only processes that a test started are recorded, chosen by a cgroup of their own.
#![cfg(all(feature = "record", feature = "analyze"))]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]
#![allow(unsafe_code, reason = "calls to the C library")]

#[path = "../support/mod.rs"]
mod support;

mod harness;

mod command;
mod filters;
mod generator;
mod killed;
mod lifetime;
mod mariadb;
mod programs;
mod rights;
mod sockets;
mod time_namespace;
mod tree;
mod webserver;
