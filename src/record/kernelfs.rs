//! The kernel's own file systems: tracefs and debugfs, mounted or not.
//!
//! In containers they are usually not mounted. A mount of our own that is attached nowhere does as well, and goes away
//! with us.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::sys;

/// One of them, for as long as this lives.
pub struct Mount {
    path: PathBuf,
    apart: Option<OwnedFd>,
}

impl Mount {
    /// None where it is not mounted and we may not mount it either.
    pub fn tracefs() -> Option<Mount> {
        Self::find(find_tracefs, c"tracefs")
    }

    /// None where it is not mounted and we may not mount it either.
    pub fn debugfs() -> Option<Mount> {
        Self::find(|mounts| mounted(mounts, "debugfs"), c"debugfs")
    }

    fn find(mounted: impl Fn(&str) -> Option<PathBuf>, kind: &CStr) -> Option<Mount> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        if let Some(path) = mounted(&mounts) {
            return Some(Mount { path, apart: None });
        }
        let apart = sys::mount_apart(kind).ok()?;
        Some(Mount {
            path: Path::new("/proc/self/fd").join(apart.as_raw_fd().to_string()),
            apart: Some(apart),
        })
    }

    /// Its root, for this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its root, for everybody; None when we mounted it ourselves.
    pub fn mounted(&self) -> Option<&Path> {
        self.apart.is_none().then_some(self.path())
    }

    /// Opens a trace event of tracefs, for programs to be attached to.
    pub fn event(&self, group: &str, name: &str) -> io::Result<OwnedFd> {
        let id = fs::read_to_string(self.path.join("events").join(group).join(name).join("id"))?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        sys::trace_event(id)
    }
}

/// The mount point of tracefs, alone or inside debugfs.
pub fn find_tracefs(mounts: &str) -> Option<PathBuf> {
    mounted(mounts, "tracefs").or_else(|| Some(mounted(mounts, "debugfs")?.join("tracing")))
}

/// The mount point of a kind of file system, from the text of /proc/self/mounts.
fn mounted(mounts: &str, file_system: &str) -> Option<PathBuf> {
    let of = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        (kind == file_system).then(|| PathBuf::from(at))
    };
    mounts.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracefs_is_found_alone_or_in_debugfs() {
        let alone = "proc /proc proc rw 0 0\ndebugfs /sys/kernel/debug debugfs rw 0 0\ntracefs /t tracefs rw 0 0\n";
        assert_eq!(find_tracefs(alone), Some(PathBuf::from("/t")));
        let inside = "debugfs /sys/kernel/debug debugfs rw 0 0\n";
        assert_eq!(find_tracefs(inside), Some(PathBuf::from("/sys/kernel/debug/tracing")));
        assert_eq!(find_tracefs("proc /proc proc rw 0 0\n"), None);
    }
}
