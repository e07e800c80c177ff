//! Pids are used again: a process is identified by its pid and the time of its start.

use std::io;

use super::{procfs, sys, timens};
use crate::format::record::same_start;

/// A process (thread group), as this process's pid namespace numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub pid: u32,
    /// The host's boot clock, ns, as exactly as /proc has it.
    pub start: u64,
}

impl Identity {
    /// The process that has this pid now; `None` when there is none, or it is a zombie.
    pub fn of(pid: u32) -> Option<Identity> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = procfs::stat(&text).filter(|stat| !stat.ended)?;
        let start = timens::host_boot(stat.start);
        Some(Identity { pid, start })
    }

    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        Identity::of(self.pid).is_some_and(|now| same_start(now.start, self.start))
    }

    /// Sends a signal to it, never to another process with the same pid.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let process = sys::pidfd_open(self.pid)?;
        match self.lives() {
            true => sys::pidfd_send_signal(&process, signal),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::format::record::START_TICK_NS;

    #[test]
    fn a_process_lives_until_it_ends_and_no_other_is_taken_for_it() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(identity.lives());
        let earlier = Identity {
            start: identity.start - 10 * START_TICK_NS,
            ..identity
        };
        assert!(!earlier.lives(), "another process had the pid then");
        assert!(earlier.signal(libc::SIGKILL).is_err());

        identity.signal(libc::SIGTERM).unwrap();
        // A zombie keeps its pid.
        while identity.lives() {
            std::thread::yield_now();
        }
        assert_eq!(Identity::of(child.id()), None);
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGTERM)
        );
        assert!(identity.signal(libc::SIGTERM).is_err());
    }
}
