//! From what the user typed to what the kernel compares: pids, cgroup ids, ports, a network namespace.
//!
//! Two mistakes are refused here because they silently record far more than was asked for: cgroup id 1 (the root, where
//! every process is that was never moved), and pid 1 (in a container, `$$` is often 1, which the kernel takes for the
//! host's init).

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cgroup::Tree;
use super::identity::Identity;
use super::process_tree::{pids as all_pids, with_descendants};
use super::{capabilities, procfs, sys};
use crate::outcome::Usage;

/// The inode number of the initial pid namespace (PROC_PID_INIT_INO of <linux/proc_ns.h>).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// A comm is at most this long (TASK_COMM_LEN without the ending NUL).
const COMM_LEN: usize = 15;

/// The filters as they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    pub pids: Vec<u32>,
    pub comm: Option<String>,
    /// Paths or ids.
    pub cgroups: Vec<String>,
    pub ports: Vec<u16>,
    /// An inode number, a path such as /run/netns/x or /proc/PID/ns/net, or a name that `ip netns` knows.
    pub netns: Option<String>,
}

/// What is to be recorded. Different kinds must all match; of one kind, any. Empty: the whole host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Processes of the initial pid namespace; their children are followed.
    pub pids: Vec<Identity>,
    /// A command is recorded beside what `pids` and `cgroups` choose, and by itself if they are empty.
    pub command: bool,
    pub comm: Option<String>,
    /// cgroup v2 ids, each with its subtree.
    pub cgroups: Vec<u64>,
    pub ports: Vec<u16>,
    /// Inode number.
    pub netns: Option<u32>,
}

impl Selection {
    /// Whether it is the whole host.
    pub fn is_everything(&self) -> bool {
        *self == Selection::default()
    }

    /// Whether it chooses among processes, not only among sockets.
    pub fn names_processes(&self) -> bool {
        !self.pids.is_empty() || self.comm.is_some() || !self.cgroups.is_empty() || self.command
    }

    /// Whether `pids` and `cgroups` together choose a process, given whether each of them does.
    pub fn chooses(&self, among_pids: bool, in_cgroups: bool) -> bool {
        let by = |list_is_empty: bool, is_in: bool| match self.command {
            true => !list_is_empty && is_in,
            false => list_is_empty || is_in,
        };
        let (by_pids, by_cgroups) = (
            by(self.pids.is_empty(), among_pids),
            by(self.cgroups.is_empty(), in_cgroups),
        );
        match self.command {
            true => by_pids || by_cgroups,
            false => by_pids && by_cgroups,
        }
    }

    /// Whether this port, local or remote, is selected.
    pub fn takes_ports(&self, local: u16, remote: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&local) || self.ports.contains(&remote)
    }
}

/// Turns what was typed into a selection, or returns what is wrong with it.
pub fn resolve(words: &Words, tree: Option<&Tree>) -> Result<Selection> {
    if words.ports.contains(&0) {
        bail!("port 0 does not exist");
    }
    Ok(Selection {
        command: false,
        pids: pids(&words.pids)?,
        comm: words.comm.as_deref().map(comm).transpose()?,
        cgroups: words
            .cgroups
            .iter()
            .map(|word| cgroup(word, tree))
            .collect::<Result<_>>()?,
        ports: words.ports.clone(),
        netns: words.netns.as_deref().map(netns).transpose()?,
    })
}

/// The filters as text for the file's header and the start-up line; empty for the whole host.
pub fn describe(words: &Words, command: bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(words.pids.iter().map(|pid| format!("pid {pid}")));
    parts.extend(words.comm.iter().map(|comm| format!("comm {comm}")));
    parts.extend(words.cgroups.iter().map(|cgroup| format!("cgroup {cgroup}")));
    parts.extend(words.ports.iter().map(|port| format!("port {port}")));
    parts.extend(words.netns.iter().map(|netns| format!("netns {netns}")));
    if command {
        parts.push("the command's process tree".to_owned());
    }
    parts.join(", ")
}

fn comm(word: &str) -> Result<String> {
    if word.is_empty() {
        return Err(Usage("an empty --comm matches nothing".to_owned()).into());
    }
    if word.len() > COMM_LEN {
        let kept = String::from_utf8_lossy(&word.as_bytes()[..COMM_LEN]);
        return Err(Usage(format!(
            "--comm {word} matches nothing: the kernel keeps the first {COMM_LEN} bytes of a name (/proc/PID/comm); give \
             --comm '{kept}'"
        ))
        .into());
    }
    Ok(word.to_owned())
}

fn cgroup(word: &str, tree: Option<&Tree>) -> Result<u64> {
    let tree =
        tree.context("--cgroup needs a mounted cgroup v2 hierarchy, and /proc/mounts has none of type cgroup2")?;
    let id = match word.parse::<u64>() {
        // Ids are not used again, so one that is not there never will be.
        Ok(id) if id > 1 && tree.has(id) == Some(false) => {
            bail!(
                "--cgroup {id}: no cgroup has this id (it is the inode number of a folder below {}); give a path",
                tree.root().display()
            )
        }
        Ok(id) => id,
        Err(_) => cgroup_of_path(word, tree)?,
    };
    if id <= 1 {
        bail!(
            "--cgroup {word} is the root cgroup (id {id}): it holds every process that was never moved, which is the \
             whole host; if that is what you want, leave the filter out"
        );
    }
    Ok(id)
}

/// The id of a cgroup that is given by its path in the hierarchy, or by that of its folder.
fn cgroup_of_path(word: &str, tree: &Tree) -> Result<u64> {
    let path = tree.path_of(Path::new(word)).unwrap_or_else(|| word.into());
    let below = |what: &str| format!("{what} {}", tree.root().display());
    let found = (tree.directory(&path).canonicalize())
        // Somewhere else: a link to a cgroup, or a folder of a version 1 hierarchy.
        .or_else(|error| match Path::new(word).is_absolute() {
            true => Path::new(word).canonicalize(),
            false => Err(error),
        })
        .with_context(|| below(&format!("no cgroup {word} below")))?;
    let root = tree.root().canonicalize().unwrap_or_else(|_| tree.root().to_owned());
    let Ok(path) = found.strip_prefix(&root) else {
        bail!(
            "--cgroup {word} is not in the cgroup v2 hierarchy, {}",
            below("which is mounted at")
        );
    };
    tree.id(path.as_os_str().as_bytes())
        .with_context(|| below(&format!("no cgroup {word} below")))
}

fn netns(word: &str) -> Result<u32> {
    if let Ok(inode) = word.parse()
        && has_netns(inode) != Some(false)
    {
        return Ok(inode);
    }
    let path = if word.contains('/') {
        word.into()
    } else {
        Path::new("/run/netns").join(word)
    };
    let metadata = std::fs::metadata(&path).with_context(|| match word.parse::<u32>() {
        Ok(_) => format!(
            "--netns {word}: no process is in a network namespace of this number, and none is mounted; give it by a path"
        ),
        Err(_) => format!("no network namespace at {}", path.display()),
    })?;
    let not_one = || {
        format!(
            "--netns {word}: {} is not a network namespace; give a name of ip netns, or a path such as /proc/PID/ns/net",
            path.display()
        )
    };
    // Only a regular file is opened; the kernel shows namespaces as such.
    if !metadata.is_file() || !File::open(&path).is_ok_and(|file| sys::is_network_namespace(&file)) {
        bail!("{}", not_one());
    }
    u32::try_from(metadata.ino()).with_context(not_one)
}

/// Whether there is a network namespace of this number; `None` when not all of them can be seen.
fn has_netns(inode: u32) -> Option<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fourth field is what is mounted of its file system (proc(5)).
    let mounted = format!("net:[{inode}]");
    if mounts.lines().any(|line| line.split(' ').nth(3) == Some(&mounted)) {
        return Some(true);
    }
    let holds = |pid: u32| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        link.and_then(|link| procfs::link_number(link.as_os_str().as_bytes(), "net")) == Some(inode.into())
    };
    if all_pids().into_iter().any(holds) {
        return Some(true);
    }
    (sees_host_pids() && capabilities::has(capabilities::CAP_SYS_PTRACE)).then_some(false)
}

/// Whether this process numbers processes as the host does.
fn sees_host_pids() -> bool {
    let own = std::fs::read_link("/proc/self/ns/pid").ok();
    own.and_then(|link| procfs::link_number(link.as_os_str().as_bytes(), "pid")) == Some(INITIAL_PID_NAMESPACE)
}

/// The pids as the initial namespace numbers them, with the descendants that they have already.
fn pids(words: &[u32]) -> Result<Vec<Identity>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let host = sees_host_pids();
    let mut roots = Vec::new();
    for &pid in words {
        if pid <= 1 {
            bail!(
                "--pid {pid} would follow init, which is the whole host (inside a container, $$ is often 1 without being \
                 the host's pid 1); leave the filter out, or choose the container with --cgroup"
            );
        }
        if !host {
            bail!(
                "--pid {pid}: this process runs in a pid namespace of its own and cannot determine which process of the host \
                 that is; run in the host's pid namespace (docker run --pid=host), or choose with --cgroup or --comm"
            );
        }
        roots.push(process(pid)?);
    }
    Ok(with_descendants(roots).into_iter().collect())
}

/// The process with this pid.
fn process(pid: u32) -> Result<Identity> {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    if let Some(tgid) = procfs::status(&status).tgid.filter(|tgid| *tgid != pid) {
        bail!("--pid {pid} is a thread of process {tgid}: give --pid {tgid}, which records all of its threads");
    }
    Identity::of(pid).with_context(|| format!("--pid {pid}: no such process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("shop/cart")).unwrap();
        let tree = Tree::at(folder.path());
        (folder, tree)
    }

    fn with_cgroup(word: &str) -> Words {
        Words {
            cgroups: vec![word.to_owned()],
            ..Words::default()
        }
    }

    #[test]
    fn no_words_are_the_whole_host() {
        let selection = resolve(&Words::default(), None).unwrap();
        assert!(selection.is_everything());
        assert_eq!(describe(&Words::default(), false), "");
    }

    #[test]
    fn a_cgroup_is_known_by_path_by_directory_and_by_id() {
        let (folder, tree) = tree();
        let id = std::fs::metadata(folder.path().join("shop/cart")).unwrap().ino();
        let directory = folder.path().join("shop/cart");
        for word in ["/shop/cart", "shop/cart", directory.to_str().unwrap(), &id.to_string()] {
            assert_eq!(
                resolve(&with_cgroup(word), Some(&tree)).unwrap().cgroups,
                [id],
                "{word}"
            );
        }
    }

    #[test]
    fn the_root_cgroup_is_refused_because_it_is_everything() {
        let (_folder, tree) = tree();
        for word in ["0", "1"] {
            let error = resolve(&with_cgroup(word), Some(&tree)).unwrap_err().to_string();
            assert!(error.contains("leave the filter out"), "{error}");
        }
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_an_error_that_names_it() {
        let (_folder, tree) = tree();
        let error = resolve(&with_cgroup("/shop/nobody"), Some(&tree))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no cgroup /shop/nobody"), "{error}");
        for word in ["/proc", "..", "../../../../../../../../proc", "shop/../../.."] {
            let error = resolve(&with_cgroup(word), Some(&tree)).unwrap_err().to_string();
            assert!(error.contains("is not in the cgroup v2 hierarchy"), "{error}");
        }
        let error = resolve(&with_cgroup("/shop"), None).unwrap_err().to_string();
        assert!(error.contains("cgroup2"), "{error}");
    }

    #[test]
    fn pid_one_is_refused_and_so_is_a_process_that_does_not_run() {
        for pid in [0, 1] {
            let words = Words {
                pids: vec![pid],
                ..Words::default()
            };
            assert!(resolve(&words, None).unwrap_err().to_string().contains("whole host"));
        }
        let words = Words {
            pids: vec![u32::MAX - 1],
            ..Words::default()
        };
        assert!(resolve(&words, None).is_err());
    }

    #[test]
    #[allow(unsafe_code, reason = "the standard library has no gettid")]
    fn the_id_of_a_thread_is_refused_and_its_process_named() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: no arguments, no state.
            sender.send(unsafe { libc::gettid() }).unwrap();
            let _ = ended.recv();
        });
        let tid = u32::try_from(receiver.recv().unwrap()).unwrap();
        let error = process(tid).unwrap_err().to_string();
        let own = std::process::id();
        assert!(error.contains(&format!("give --pid {own}")), "{error}");
        assert_eq!(process(own).unwrap().pid, own);
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_command_is_recorded_beside_pids_and_cgroups_which_otherwise_must_both_match() {
        let identity = Identity { pid: 7, start: 1 };
        let (none, some) = ((vec![], vec![]), (vec![identity], vec![5]));
        let takes = |command: bool, (pids, cgroups): (Vec<Identity>, Vec<u64>)| {
            let selection = Selection {
                command,
                pids,
                cgroups,
                ..Selection::default()
            };
            [(false, false), (true, false), (false, true), (true, true)].map(|(a, b)| selection.chooses(a, b))
        };
        assert_eq!(takes(false, none.clone()), [true; 4]);
        assert_eq!(takes(false, some.clone()), [false, false, false, true]);
        assert_eq!(takes(true, some.clone()), [false, true, true, true]);
        assert_eq!(takes(true, (some.0, vec![])), [false, true, false, true]);
        assert_eq!(takes(true, none), [false; 4], "nothing of what was there before");
    }

    #[test]
    fn a_comm_that_no_process_can_have_is_wrong_usage() {
        let resolve = |comm: &str| {
            let words = Words {
                comm: Some(comm.into()),
                ..Words::default()
            };
            resolve(&words, None).map(|selection| selection.comm)
        };
        assert_eq!(resolve("fifteen-bytes-y").unwrap().as_deref(), Some("fifteen-bytes-y"));
        let error = resolve("a-very-long-program-name").unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert!(error.to_string().contains("give --comm 'a-very-long-pro'"), "{error}");
        assert!(resolve("").unwrap_err().is::<Usage>());
    }

    #[test]
    fn a_network_namespace_is_known_by_inode_and_by_path() {
        let own = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
        for word in ["/proc/self/ns/net", &own.to_string()] {
            assert_eq!(u64::from(netns(word).unwrap()), own);
        }
        assert!(
            netns("no-such-namespace")
                .unwrap_err()
                .to_string()
                .contains("/run/netns/no-such-namespace")
        );
    }

    #[test]
    fn what_is_no_network_namespace_is_refused() {
        for word in ["/etc/passwd", "/proc/self/ns/pid", "/dev/null", "/proc"] {
            let error = netns(word).unwrap_err().to_string();
            assert!(
                error.contains(&format!("--netns {word}: {word} is not a network namespace")),
                "{error}"
            );
        }
        // Of another kind: the number of a pid namespace.
        let pid = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
        if has_netns(7).is_some() {
            for number in [7, pid] {
                let error = netns(&number.to_string()).unwrap_err().to_string();
                assert!(error.contains("no process is in a network namespace"), "{error}");
            }
        }
    }

    #[test]
    fn filters_are_described_as_they_were_typed() {
        let words = Words {
            pids: vec![7],
            comm: Some("nginx".into()),
            cgroups: vec!["/a".into()],
            ports: vec![80, 443],
            netns: None,
        };
        assert_eq!(
            describe(&words, false),
            "pid 7, comm nginx, cgroup /a, port 80, port 443"
        );
        assert_eq!(describe(&Words::default(), true), "the command's process tree");
    }
}
