//! The users as whom a command runs.
//!
//! The files /etc/passwd and /etc/group are read here, and no service is asked: the C library can ask none in a static
//! program. A user whom they do not have (of a directory service) runs a command without supplementary groups.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};

use crate::caller::Caller;

/// As whom a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// All groups, with `gid`.
    pub groups: Vec<u32>,
    /// The variables of the environment that name them; one without a value is removed.
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
