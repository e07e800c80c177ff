//! A simulated node: cgroups named as each runtime names them (below one of our own), real processes in them, names of
//! log files below `--host-root`; recorded, then analysed. Needs root; says so when it is not run.
#![cfg(all(feature = "record", feature = "analyze"))]

mod exchanges;
mod filters;
mod node;
mod podman;
mod service_address;
mod shop;
mod sources;
#[path = "../support/mod.rs"]
mod support;
