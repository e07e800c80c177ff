//! The users of this process: whose rights it has, and who called sudo to run it.
#![allow(unsafe_code, reason = "asks for the users of this process")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// The user whose rights this process has.
pub fn user() -> u32 {
    // SAFETY: no arguments, no state; it cannot fail.
    unsafe { libc::geteuid() }
}

/// The user who started it; another one if its file has the set-user-ID bit.
fn real_user() -> u32 {
    // SAFETY: no arguments, no state; it cannot fail.
    unsafe { libc::getuid() }
}

/// The user who called sudo to run this process as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

impl Caller {
    /// Nobody where this process is not root, or root called sudo.
    pub fn find() -> Option<Caller> {
        Caller::of((real_user(), user()), |variable| std::env::var(variable).ok())
    }

    /// sudo puts it into the environment. Where only the effective user is root (a set-user-ID program), the environment is
    /// that of another user and is not believed.
    fn of(user: (u32, u32), variable: impl Fn(&str) -> Option<String>) -> Option<Caller> {
        // -1 means no user in all calls that take one.
        let id = |name| variable(name)?.parse().ok().filter(|id| *id != u32::MAX);
        let caller = Caller {
            uid: id("SUDO_UID")?,
            gid: id("SUDO_GID")?,
        };
        (user == (0, 0) && caller.uid != 0).then_some(caller)
    }

    /// Gives a file to them.
    pub fn give(self, file: &File) -> io::Result<()> {
        std::os::unix::fs::fchown(file.as_fd(), Some(self.uid), Some(self.gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(user: (u32, u32), uid: &str, gid: &str) -> Option<Caller> {
        Caller::of(user, |name| Some(if name == "SUDO_UID" { uid } else { gid }.to_owned()))
    }

    #[test]
    fn the_environment_tells_who_called_sudo_to_root_only() {
        assert_eq!(caller((0, 0), "1000", "100"), Some(Caller { uid: 1000, gid: 100 }));
        assert_eq!(caller((0, 0), "0", "0"), None, "root called sudo");
        assert_eq!(caller((1000, 0), "1000", "100"), None, "a set-user-ID program");
        assert_eq!(caller((1000, 1000), "1000", "100"), None);
        for wrong in ["", "ann", "-1", "4294967295", "4294967296"] {
            assert_eq!(caller((0, 0), wrong, "100"), None, "{wrong}");
            assert_eq!(caller((0, 0), "1000", wrong), None, "{wrong}");
        }
    }
}
