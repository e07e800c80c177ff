//! A simulated node: cgroups named as each runtime names them (below one of our own), real processes in them, names of
//! log files below `--host-root`; recorded, then analysed. Needs root.
#![cfg(all(feature = "record", feature = "analyze"))]
#![allow(unsafe_code, reason = "calls to the C library")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod exchanges;
mod filters;
mod node;
mod podman;
mod service_address;
mod shop;
mod sources;
#[path = "../support/mod.rs"]
mod support;
