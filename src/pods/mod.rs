//! Who runs in a cgroup: containers, pods, units. Knows how container runtimes and Kubernetes name things; never eBPF,
//! protocols, or where its inputs come from.
#![forbid(unsafe_code)]

pub mod cgroup;
