//! Which container and pod a cgroup is: asks every source that is there, while recording, on threads of its own.
//!
//! The recorder reports each cgroup as it appears ([`Attribution::learner`]); what comes back ([`Update`]) is stored as
//! `Workload` and `Address` records, or changes the kernel's filter. Nothing here is waited for: a source that is slow,
//! refuses, or is not there costs names, never events.
//!
//! Sources, cheapest first: names of log files, files of Docker and Podman ([`local`]), a pod list in a file, the kubelet
//! ([`kubelet`]), the API server ([`api`]).

mod api;
pub(super) mod client;
mod files;
mod input;
mod kubeconfig;
mod kubelet;
mod local;
pub(super) mod options;
mod report;
mod worker;

pub use options::Options;
pub use report::{Report, State, Status};
pub use worker::{Attribution, Learner, Start, Update, advice, try_sources};

#[cfg(test)]
mod tests;
