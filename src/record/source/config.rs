//! What is to be recorded, and how.

use std::fmt;

use crate::record::identity::Identity;

/// A set of programs that records a source, for the sources that have several. In order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// fexit programs on the socket functions: sees everything.
    Fexit,
    /// The tracepoints of the socket layer (Linux 6.3 and later).
    Socktp,
    /// kprobes on the socket functions.
    Kprobe,
    /// The exit tracepoint of all system calls.
    Systp,
}

impl Backend {
    /// All of them, best first.
    pub const ALL: [Backend; 4] = [Backend::Fexit, Backend::Socktp, Backend::Kprobe, Backend::Systp];

    /// The word for it on the command line and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Fexit => "fexit",
            Backend::Socktp => "socktp",
            Backend::Kprobe => "kprobe",
            Backend::Systp => "systp",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == text)
            .ok_or_else(|| format!("unknown backend {text:?}: expected fexit, socktp, kprobe or systp"))
    }
}

/// Where the command runs that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It begins in one of the filter's cgroups; those of its tree that leave it are followed.
    InCgroup,
    /// Anywhere: all of its tree is followed.
    Anywhere,
}

/// What to record. All given conditions must hold; inside one list any entry does. Empty means everything.
///
/// The recorder's own process is always left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Processes of the initial pid namespace. Children are followed from their fork.
    pub pids: Vec<Identity>,
    /// The recorder's child, from its execve on, and all that it starts. It is recorded beside `pids` and `cgroups`: to be
    /// one of these, in one of these, or of its tree is enough.
    pub command: Option<Command>,
    /// Name of the program: the comm of the thread group's leader, at most 15 bytes.
    pub comm: Option<String>,
    /// cgroup v2 ids; each takes its subtree.
    pub cgroups: Vec<u64>,
    /// Local or remote TCP ports. Applies to sockets and data, never to processes and cgroups.
    pub ports: Vec<u16>,
    /// Inode number of a network namespace.
    pub netns: Option<u32>,
    /// Pids or cgroups come and go at run time ([`super::probe::Probe::follow`], [`super::probe::Probe::add_cgroup`]). With this set, empty
    /// lists select nothing until something is added.
    pub dynamic: bool,
}

/// How to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub filter: Filter,
    /// Payload bytes kept of each data event; at most [`MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Bytes of the ring buffer; rounded up to a power of two.
    pub buffer_size: usize,
    /// Use this backend or none.
    pub backend: Option<Backend>,
    /// Sockets that can be followed at one time.
    pub max_sockets: u32,
}

/// The largest [`Config::snaplen`].
pub const MAX_SNAPLEN: u32 = 16384;

impl Default for Config {
    fn default() -> Self {
        Config {
            filter: Filter::default(),
            snaplen: 4096,
            buffer_size: 8 << 20,
            backend: None,
            max_sockets: 65536,
        }
    }
}
