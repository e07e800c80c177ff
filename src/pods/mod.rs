//! Who runs in a cgroup: containers, pods, units. Knows how container runtimes and Kubernetes name things; never eBPF,
//! protocols, or where its inputs come from. Nothing here reads files or sockets.
#![forbid(unsafe_code)]

pub(crate) mod cgroup;
pub(crate) mod kube;
pub(crate) mod logs;
pub(crate) mod runtimes;
pub mod select;
pub(crate) mod set;

pub use select::Selectors;
pub use set::{AddressName, Named, PodSet};
