//! The cgroup v2 tree: where it is mounted, which id a path has, and what paths there are.
//!
//! A cgroup's id is the inode number of its directory. On hybrid hosts the v2 tree sits beside the v1 hierarchies, and
//! its place differs, so it is always looked up. Nothing here decides what to record.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::format::record::CGROUP_V1;
use crate::pods::cgroup::place;

/// How many cgroups one walk looks at. Past this the host has a leak, and the names of the rest are not worth the wait.
const WALK_LIMIT: usize = 100_000;

/// The inode number of the initial cgroup namespace (PROC_CGROUP_INIT_INO of <linux/proc_ns.h>).
const INITIAL_NAMESPACE: u64 = 0xefff_fffb;

/// The mounted v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
    /// The path of the root of this process's cgroup namespace: /proc/PID/cgroup starts from there.
    namespace: Vec<u8>,
}

/// A cgroup: its id and its path below the root of the hierarchy, with a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub path: Vec<u8>,
}

impl Tree {
    /// The v2 hierarchy of this host, if one is mounted. `host_root` is where the host's file system is mounted, in a
    /// container: the container's own mount may show only its own cgroup.
    pub fn find(host_root: Option<&Path>) -> Option<Tree> {
        let mounts = mount_points(&std::fs::read("/proc/self/mounts").ok()?);
        let own = mounts.iter().find(|path| path.is_dir())?;
        let of_host = host_root.and_then(|root| {
            mounts
                .iter()
                .find(|path| *path != own && path.starts_with(root) && path.is_dir())
        });
        let mut tree = Tree::at(of_host.unwrap_or(own));
        // In a cgroup namespace of its own, the container's mount begins at the cgroup where paths begin.
        let is_namespaced = std::fs::metadata("/proc/self/ns/cgroup").is_ok_and(|it| it.ino() != INITIAL_NAMESPACE);
        if let (Some(_), true, Ok(id)) = (of_host, is_namespaced, directory_id(own)) {
            tree.namespace = tree.by_id().remove(&id).unwrap_or_default();
        }
        Some(tree)
    }

    /// The tree at this directory.
    pub fn at(root: impl Into<PathBuf>) -> Tree {
        Tree {
            root: root.into(),
            namespace: Vec::new(),
        }
    }

    /// A path of /proc/PID/cgroup as a path of the hierarchy.
    pub fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if self.namespace.len() <= 1 {
            return path.to_vec();
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in self.namespace.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let mut absolute = vec![b'/'];
        absolute.extend(parts.join(&b'/'));
        absolute
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a cgroup path with a leading slash.
    pub fn directory(&self, path: &[u8]) -> PathBuf {
        let below = path
            .iter()
            .position(|b| *b != b'/')
            .map_or(&path[..0], |start| &path[start..]);
        self.root.join(std::ffi::OsStr::from_bytes(below))
    }

    /// The id of a cgroup path with a leading slash.
    pub fn id(&self, path: &[u8]) -> io::Result<u64> {
        directory_id(&self.directory(path))
    }

    /// A directory below the mount as a path of the hierarchy.
    pub fn path_of(&self, directory: &Path) -> Option<Vec<u8>> {
        let below = directory.strip_prefix(&self.root).ok()?;
        let mut path = vec![b'/'];
        path.extend_from_slice(below.as_os_str().as_bytes());
        Some(path)
    }

    /// The cgroup and everything below it, parents first. Cgroups that vanish meanwhile are left out.
    pub fn walk(&self, from: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut todo = vec![from.to_vec()];
        while let Some(path) = todo.pop() {
            let directory = self.directory(&path);
            let Ok(id) = directory_id(&directory) else { continue };
            if entries.len() == WALK_LIMIT {
                break;
            }
            entries.push(Entry { id, path: path.clone() });
            let Ok(children) = std::fs::read_dir(&directory) else {
                continue;
            };
            for child in children.flatten() {
                if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let mut below = path.clone();
                    if below.last() != Some(&b'/') {
                        below.push(b'/');
                    }
                    below.extend_from_slice(&child.file_name().into_vec());
                    todo.push(below);
                }
            }
        }
        entries
    }

    /// The ancestors of a path and itself, the root first.
    pub fn lineage(&self, path: &[u8]) -> Vec<Entry> {
        prefixes(path)
            .into_iter()
            .filter_map(|prefix| {
                self.id(prefix).ok().map(|id| Entry {
                    id,
                    path: prefix.to_vec(),
                })
            })
            .collect()
    }

    /// Whether there is a cgroup of this id; `None` when not all of the hierarchy can be seen.
    pub fn has(&self, id: u64) -> Option<bool> {
        let all = self.walk(b"/");
        let sees_all = all.first().is_some_and(|root| root.id == TRUE_ROOT) && all.len() < WALK_LIMIT;
        match all.iter().any(|entry| entry.id == id) {
            true => Some(true),
            false => sees_all.then_some(false),
        }
    }

    /// All cgroups by id.
    pub fn by_id(&self) -> HashMap<u64, Vec<u8>> {
        self.walk(b"/")
            .into_iter()
            .map(|entry| (entry.id, entry.path))
            .collect()
    }
}

/// The id of the hierarchy's first cgroup, in every kernel.
pub const TRUE_ROOT: u64 = 1;

/// The inode number of a directory.
fn directory_id(directory: &Path) -> io::Result<u64> {
    let metadata = std::fs::metadata(directory)?;
    if metadata.is_dir() {
        Ok(metadata.ino())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

/// `/`, `/a`, `/a/b` for `/a/b`.
fn prefixes(path: &[u8]) -> Vec<&[u8]> {
    let mut prefixes = vec![&b"/"[..]];
    let ends = (1..=path.len()).filter(|&end| end == path.len() || path[end] == b'/');
    prefixes.extend(ends.map(|end| &path[..end]).filter(|prefix| prefix.len() > 1));
    prefixes
}

/// Mount points of type cgroup2 in the text of /proc/mounts.
fn mount_points(mounts: &[u8]) -> Vec<PathBuf> {
    mounts
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b' ');
            let point = fields.nth(1)?;
            (fields.next()? == b"cgroup2").then(|| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
        })
        .collect()
}

/// The mount table writes blanks, tabs, line ends and backslashes as `\ooo` (proc(5)).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)))
            .map(|digits| digits.iter().fold(0u32, |sum, d| sum * 8 + u32::from(d - b'0')))
            .and_then(|code| u8::try_from(code).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = &tail[3..];
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

/// The v2 path in the text of /proc/PID/cgroup (`0::/path`).
pub fn path_of_process(text: &[u8]) -> Option<&[u8]> {
    let path = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    // The kernel appends this to the path of a removed cgroup that still has a process in it.
    Some(path.strip_suffix(b" (deleted)").unwrap_or(path))
}

/// The container of a process whose v2 path names none, in the text of /proc/PID/cgroup: on hosts whose runtimes use
/// the v1 hierarchies. All of these have the same; the first that names one is taken. Returns an id of our own making and the
/// path.
pub fn v1_container(text: &[u8]) -> Option<Entry> {
    let is_container = |path: &[u8]| {
        let place = std::str::from_utf8(path).ok().and_then(place);
        place.is_some_and(|place| place.unit.is_empty())
    };
    if path_of_process(text).is_some_and(is_container) {
        return None;
    }
    let v1 = text.split(|b| *b == b'\n').filter(|line| !line.starts_with(b"0::"));
    let path = v1
        .filter_map(|line| line.splitn(3, |b| *b == b':').nth(2))
        .find(|path| is_container(path))?;
    // FNV-1a
    let hash = path.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(Entry {
        id: hash | CGROUP_V1,
        path: path.to_vec(),
    })
}

/// Whether this host has v1 hierarchies.
pub fn has_v1() -> bool {
    let own = std::fs::read("/proc/self/cgroup").unwrap_or_default();
    own.split(|b| *b == b'\n')
        .any(|line| !line.is_empty() && !line.starts_with(b"0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_mount_is_found_beside_v1_hierarchies() {
        let mounts = b"proc /proc proc rw 0 0\n\
            tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(mount_points(mounts), [PathBuf::from("/sys/fs/cgroup/unified")]);
        assert_eq!(
            mount_points(b"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
            [PathBuf::from("/sys/fs/cgroup")]
        );
        assert!(mount_points(b"proc /proc proc rw 0 0\n\n").is_empty());
    }

    #[test]
    fn paths_of_a_namespace_are_made_absolute() {
        let tree = Tree {
            namespace: b"/kubepods/pod1/mdf".to_vec(),
            ..Tree::at("/sys/fs/cgroup")
        };
        assert_eq!(tree.absolute(b"/"), b"/kubepods/pod1/mdf");
        assert_eq!(tree.absolute(b"/../../pod2/cart"), b"/kubepods/pod2/cart");
        assert_eq!(tree.absolute(b"/../../../../.."), b"/");
        assert_eq!(
            Tree::at("/").absolute(b"/a/../b"),
            b"/a/../b",
            "nothing to do outside of namespaces"
        );
    }

    #[test]
    fn blanks_in_mount_points_are_unescaped() {
        assert_eq!(unescape(br"/my\040cgroups\134x"), br"/my cgroups\x");
        assert_eq!(unescape(br"/odd\9\04"), br"/odd\9\04");
    }

    #[test]
    fn the_v2_line_of_a_process_is_found_among_v1_lines() {
        let text = b"9:name=systemd:/\n4:memory:/x\n0::/system.slice/a.service\n";
        assert_eq!(path_of_process(text), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(path_of_process(b"4:memory:/x\n"), None);
        assert_eq!(path_of_process(b"0::/gone (deleted)\n"), Some(&b"/gone"[..]));
    }

    #[test]
    fn containers_of_v1_hosts_are_found_in_the_v1_lines() {
        let id = "3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
        let text = format!("9:name=systemd:/docker/{id}\n4:memory:/docker/{id}\n0::/\n");
        let found = v1_container(text.as_bytes()).unwrap();
        assert_eq!(found.path, format!("/docker/{id}").into_bytes());
        assert_eq!(found.id >> 63, 1);
        let of_unit = format!("1:name=systemd:/docker/{id}\n0::/system.slice/docker.service\n");
        assert_eq!(v1_container(of_unit.as_bytes()), Some(found), "a unit is no container");
        let of_v2 = format!("4:memory:/docker/{id}\n0::/system.slice/docker-{id}.scope\n");
        assert_eq!(v1_container(of_v2.as_bytes()), None, "its v2 path names it");
        assert_eq!(
            v1_container(b"4:memory:/x\n1:name=systemd:/system.slice/a.service\n0::/\n"),
            None
        );
    }

    #[test]
    fn a_lineage_runs_from_the_root() {
        assert_eq!(prefixes(b"/a/bc/d"), [&b"/"[..], b"/a", b"/a/bc", b"/a/bc/d"]);
        assert_eq!(prefixes(b"/"), [&b"/"[..]]);
    }

    #[test]
    fn a_tree_is_walked_parents_first_and_ids_are_inodes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/cgroup.procs"), "").unwrap();
        let tree = Tree::at(folder.path());
        let entries = tree.walk(b"/");
        let paths: Vec<&[u8]> = entries.iter().map(|e| e.path.as_slice()).collect();
        assert_eq!(paths, [&b"/"[..], b"/a", b"/a/b"]);
        assert_eq!(
            entries[2].id,
            std::fs::metadata(folder.path().join("a/b")).unwrap().ino()
        );
        assert_eq!(tree.id(b"/a/b").unwrap(), entries[2].id);
        assert!(tree.id(b"/a/cgroup.procs").is_err(), "a file is not a cgroup");
        assert_eq!(tree.path_of(&folder.path().join("a/b")), Some(b"/a/b".to_vec()));
        assert_eq!(tree.lineage(b"/a/b").len(), 3);
    }
}
