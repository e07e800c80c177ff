//! What the worker receives: from the recorder, and from the threads that ask the sources of names.

use crate::pods::kube::Item;
use crate::pods::runtimes::Plain;

/// A message to the worker.
#[derive(Debug)]
pub enum Input {
    /// A cgroup that exists; whether its record is stored already.
    Cgroup {
        id: u64,
        path: Vec<u8>,
        stored: bool,
    },
    /// Cgroups may have been missed: look for them.
    Walk,
    /// The kernel records these now.
    Followed(Vec<u64>),
    /// All that a source knows.
    List(u32, Vec<Item>),
    /// A source does not answer.
    Failed(u32),
    /// Containers from the lists of users.
    Containers(Vec<Plain>),
    Applied(Item),
    Deleted(Item),
    Close,
}
