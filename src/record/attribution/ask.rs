//! What the worker is told, by the recorder and by the threads that ask the sources of names.

use crate::pods::kube::Item;
use crate::pods::runtimes::Plain;

/// What the worker is told.
#[derive(Debug)]
pub enum Ask {
    /// There is a cgroup; whether its record is stored already.
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
    /// From the lists of users.
    Containers(Vec<Plain>),
    Applied(Item),
    Deleted(Item),
    Close,
}
