//! Users: who called sudo, and as whom a command runs.
//!
//! The files /etc/passwd and /etc/group are read here, and no service is asked: the C library can ask none in a static
//! program. A user whom they do not have (of a directory service) runs a command without supplementary groups.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};

use super::sys;

/// The user who called sudo to run this process as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

impl Caller {
    /// Nobody where this process is not root, or root called sudo.
    pub fn find() -> Option<Caller> {
        Caller::of((sys::real_user(), sys::user()), |variable| std::env::var(variable).ok())
    }

    /// sudo says it in the environment. Where only the effective user is root (a set-user-ID program), the environment is
    /// that of somebody else and says nothing.
    fn of(user: (u32, u32), variable: impl Fn(&str) -> Option<String>) -> Option<Caller> {
        // -1 stands for no user in all calls that take one.
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

/// As whom a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// All groups, with `gid`.
    pub groups: Vec<u32>,
    /// What the environment is to say of them; what is not there is taken out of it.
    pub name: Option<OsString>,
    pub home: Option<OsString>,
    pub shell: Option<OsString>,
}

impl User {
    /// The user of this name, or with this number.
    pub fn named(name: &str) -> Result<User> {
        let passwd = std::fs::read("/etc/passwd").context("cannot read /etc/passwd")?;
        let number = name.parse().ok();
        let user = User::find(&passwd, &groups_file(), |found, uid| {
            found == name.as_bytes() || Some(uid) == number
        });
        user.with_context(|| format!("there is no user {name} in /etc/passwd"))
    }

    /// Who called sudo.
    pub fn of_caller(caller: Caller) -> User {
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let known = User::find(&passwd, &groups_file(), |_, uid| uid == caller.uid);
        known.unwrap_or_else(|| User {
            uid: caller.uid,
            gid: caller.gid,
            groups: vec![caller.gid],
            name: std::env::var_os("SUDO_USER"),
            home: None,
            shell: None,
        })
    }

    /// Looks into the text of passwd(5) and group(5).
    fn find(passwd: &[u8], group: &[u8], is_wanted: impl Fn(&[u8], u32) -> bool) -> Option<User> {
        let text = |field: &[u8]| OsString::from_vec(field.to_vec());
        passwd.split(|byte| *byte == b'\n').find_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            let [name, _, uid, gid, _, home, shell] = fields[..] else {
                return None;
            };
            let (uid, gid) = (number(uid)?, number(gid)?);
            is_wanted(name, uid).then(|| User {
                uid,
                gid,
                groups: groups(group, name, gid),
                name: Some(text(name)),
                home: Some(text(home)),
                shell: Some(text(shell)),
            })
        })
    }

    /// The environment that names the user: each variable and its value, or that there is none. sudo's own are taken out:
    /// what runs now was not called by sudo.
    pub fn environment(&self) -> [(&'static str, Option<&OsStr>); 9] {
        let shell = self.shell.as_deref().filter(|shell| !shell.is_empty());
        [
            ("HOME", self.home.as_deref()),
            ("LOGNAME", self.name.as_deref()),
            ("USER", self.name.as_deref()),
            ("SHELL", shell),
            ("MAIL", None),
            ("SUDO_UID", None),
            ("SUDO_GID", None),
            ("SUDO_USER", None),
            ("SUDO_COMMAND", None),
        ]
    }

    /// The user for people.
    pub fn describe(&self) -> String {
        match &self.name {
            Some(name) => format!("{} (user {})", name.display(), self.uid),
            None => format!("user {}", self.uid),
        }
    }
}

fn groups_file() -> Vec<u8> {
    std::fs::read("/etc/group").unwrap_or_default()
}

fn number(field: &[u8]) -> Option<u32> {
    let number = std::str::from_utf8(field).ok()?.parse().ok()?;
    (number != u32::MAX).then_some(number)
}

/// The groups that a user is in, by the text of group(5), after the user's own.
fn groups(text: &[u8], name: &[u8], own: u32) -> Vec<u32> {
    let mut groups = vec![own];
    for line in text.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [_, _, gid, members] = fields[..] else { continue };
        let is_member = members.split(|byte| *byte == b',').any(|member| member == name);
        if let Some(gid) = number(gid).filter(|gid| is_member && !groups.contains(gid)) {
            groups.push(gid);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n# comment\nann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\n\
        half:x:1001\nbad:x:-1:4294967295::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nann:x:1000:\nwheel:x:10:ann,bob\ndocker:x:990:bob,ann\nannex:x:7:annette\n";

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

    #[test]
    fn a_user_has_all_of_their_groups() {
        let ann = User::find(PASSWD, GROUP, |name, _| name == b"ann").unwrap();
        assert_eq!((ann.uid, ann.gid), (1000, 1000));
        assert_eq!(ann.groups, [1000, 10, 990]);
        let environment = ann.environment();
        assert!(environment.contains(&("HOME", Some(OsStr::new("/home/ann")))));
        assert!(environment.contains(&("SUDO_UID", None)));
        assert_eq!(ann.describe(), "ann (user 1000)");
    }

    #[test]
    fn lines_that_are_not_whole_name_nobody() {
        for name in [&b"half"[..], b"bad", b"# comment", b""] {
            assert_eq!(User::find(PASSWD, GROUP, |found, _| found == name), None);
        }
    }
}
