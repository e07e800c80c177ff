//! From what the user typed to what the kernel compares: pids, cgroup ids, ports, a network namespace.
//!
//! Two mistakes are refused here because they silently record far more than was asked for: cgroup id 1 (the root, where
//! every process is that was never moved), and pid 1 (in a container, `$$` is often 1, which the kernel takes for the
//! host's init).

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cgroup::Tree;
use super::identity::Identity;
use super::procfs;

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

    /// Whether a process is chosen, as far as `pids` and `cgroups` say, from whether it is among the ones and in the others.
    pub fn takes_place(&self, among_pids: bool, in_cgroups: bool) -> bool {
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

    /// Whether this port, local or remote, is wanted.
    pub fn takes_ports(&self, local: u16, remote: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&local) || self.ports.contains(&remote)
    }
}

/// Turns words into a selection, or says what is wrong with them.
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

/// The filters in words for the file's header and the start-up line; empty for the whole host.
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
        bail!("an empty --comm matches nothing");
    }
    // The kernel keeps a prefix; a longer word could never match.
    let mut end = word.len().min(COMM_LEN);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    Ok(word[..end].to_owned())
}

fn cgroup(word: &str, tree: Option<&Tree>) -> Result<u64> {
    let tree =
        tree.context("--cgroup needs a mounted cgroup v2 hierarchy, and /proc/mounts has none of type cgroup2")?;
    let id = match word.parse::<u64>() {
        Ok(id) => id,
        Err(_) => {
            let path = Path::new(word);
            let path = match tree.path_of(path) {
                Some(path) => path,
                None if path.is_dir() && path.is_absolute() && tree.id(path.as_os_str().as_bytes()).is_err() => {
                    bail!(
                        "{word} is not in the cgroup v2 hierarchy, which is mounted at {}",
                        tree.root().display()
                    )
                }
                None => path.as_os_str().as_bytes().to_vec(),
            };
            tree.id(&path)
                .with_context(|| format!("no cgroup {word} below {}", tree.root().display()))?
        }
    };
    if id <= 1 {
        bail!(
            "--cgroup {word} is the root cgroup (id {id}): it holds every process that was never moved, which is the \
             whole host; if that is what you want, leave the filter out"
        );
    }
    Ok(id)
}

fn netns(word: &str) -> Result<u32> {
    if let Ok(inode) = word.parse() {
        return Ok(inode);
    }
    let path = if word.contains('/') {
        word.into()
    } else {
        Path::new("/run/netns").join(word)
    };
    let metadata = std::fs::metadata(&path).with_context(|| format!("no network namespace at {}", path.display()))?;
    u32::try_from(metadata.ino()).with_context(|| format!("{} is not a network namespace", path.display()))
}

/// The pids as the initial namespace numbers them, with the descendants that they have already.
fn pids(words: &[u32]) -> Result<Vec<Identity>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let host = std::fs::read_link("/proc/self/ns/pid")
        .ok()
        .and_then(|link| procfs::link_number(link.as_os_str().as_bytes(), "pid"))
        == Some(INITIAL_PID_NAMESPACE);
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
                "--pid {pid}: this process runs in a pid namespace of its own and cannot tell which process of the host \
                 that is; run in the host's pid namespace (docker run --pid=host), or choose with --cgroup or --comm"
            );
        }
        roots.push(process(pid)?);
    }
    Ok(with_descendants(roots).into_iter().collect())
}

/// The process that this number means now.
fn process(pid: u32) -> Result<Identity> {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    if let Some(tgid) = procfs::status(&status).tgid.filter(|tgid| *tgid != pid) {
        bail!("--pid {pid} is a thread of process {tgid}: give --pid {tgid}, which records all of its threads");
    }
    Identity::of(pid).with_context(|| format!("--pid {pid}: no such process"))
}

/// These processes and everything below them, as far as it still runs.
pub fn with_descendants(roots: impl IntoIterator<Item = Identity>) -> BTreeSet<Identity> {
    let living: BTreeSet<Identity> = roots.into_iter().filter(Identity::lives).collect();
    let numbers: Vec<u32> = living.iter().map(|process| process.pid).collect();
    let below = descendants(&numbers, &super::snapshot::parents()).into_iter();
    let below = below.filter(|pid| !numbers.contains(pid)).filter_map(Identity::of);
    living.iter().copied().chain(below).collect()
}

/// The roots and everything below them; `parents` says each process's parent.
pub fn descendants(roots: &[u32], parents: &HashMap<u32, u32>) -> BTreeSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, parent) in parents {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut found = BTreeSet::new();
    let mut todo = roots.to_vec();
    while let Some(pid) = todo.pop() {
        if found.insert(pid) {
            todo.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
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
        let error = resolve(&with_cgroup("/proc"), Some(&tree)).unwrap_err().to_string();
        assert!(error.contains("is not in the cgroup v2 hierarchy"), "{error}");
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
    fn a_threads_number_is_refused_and_its_process_named() {
        let (number, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: no arguments, no state.
            number.send(unsafe { libc::gettid() }).unwrap();
            let _ = ended.recv();
        });
        let tid = u32::try_from(told.recv().unwrap()).unwrap();
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
            [(false, false), (true, false), (false, true), (true, true)].map(|(a, b)| selection.takes_place(a, b))
        };
        assert_eq!(takes(false, none.clone()), [true; 4]);
        assert_eq!(takes(false, some.clone()), [false, false, false, true]);
        assert_eq!(takes(true, some.clone()), [false, true, true, true]);
        assert_eq!(takes(true, (some.0, vec![])), [false, true, false, true]);
        assert_eq!(takes(true, none), [false; 4], "nothing of what was there before");
    }

    #[test]
    fn descendants_are_taken_whatever_order_they_are_listed_in() {
        let parents = HashMap::from([(2, 1), (5, 9), (9, 7), (7, 2), (8, 1), (1, 0)]);
        assert_eq!(descendants(&[7], &parents), BTreeSet::from([5, 7, 9]));
        let circle = HashMap::from([(2, 3), (3, 2)]);
        assert_eq!(
            descendants(&[2], &circle),
            BTreeSet::from([2, 3]),
            "a torn reading of /proc must not hang"
        );
    }

    #[test]
    fn a_long_comm_is_cut_as_the_kernel_cuts_it() {
        let words = Words {
            comm: Some("a-very-long-program-name".into()),
            ..Words::default()
        };
        assert_eq!(resolve(&words, None).unwrap().comm.as_deref(), Some("a-very-long-pro"));
        assert!(
            resolve(
                &Words {
                    comm: Some(String::new()),
                    ..Words::default()
                },
                None
            )
            .is_err()
        );
    }

    #[test]
    fn a_network_namespace_is_known_by_inode_and_by_path() {
        assert_eq!(netns("4026531840").unwrap(), 4_026_531_840);
        let own = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!(u64::from(netns("/proc/self/ns/net").unwrap()), own);
        assert!(
            netns("no-such-namespace")
                .unwrap_err()
                .to_string()
                .contains("/run/netns/no-such-namespace")
        );
    }

    #[test]
    fn filters_are_told_in_words() {
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
