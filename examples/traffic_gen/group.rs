//! A cgroup of our own, left and removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Membership in a new cgroup; dropping it goes back and removes what was made.
pub struct Joined {
    before: PathBuf,
    /// Made by us, outermost first.
    made: Vec<PathBuf>,
}

impl Joined {
    /// Makes the cgroup where it does not exist yet, and moves this process into it.
    pub fn join(path: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (target, kind) = (words.nth(1)?, words.next()?);
            (kind == "cgroup2").then_some(target)
        });
        let Some(mount) = mount else {
            bail!("no cgroup2 file system is mounted")
        };
        let own = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let before = Path::new(mount).join(own.trim_start_matches('/'));
        let base = if path.starts_with('/') {
            Path::new(mount)
        } else {
            before.as_path()
        };
        let mut joined = Joined {
            before: before.clone(),
            made: Vec::new(),
        };
        let mut dir = base.to_path_buf();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if part == ".." {
                bail!("a cgroup path without .. is wanted");
            }
            dir.push(part);
            match fs::create_dir(&dir) {
                Ok(()) => joined.made.push(dir.clone()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make the cgroup {}", dir.display())),
            }
        }
        fs::write(dir.join("cgroup.procs"), "0").with_context(|| format!("cannot join {}", dir.display()))?;
        Ok(joined)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if fs::write(self.before.join("cgroup.procs"), "0").is_err() {
            // The group that we came from is gone: the root is always there.
            if let Some(root) = self.made.first().and_then(|first| first.parent()) {
                let _ = fs::write(root.join("cgroup.procs"), "0");
            }
        }
        for dir in self.made.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}
