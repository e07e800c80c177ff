//! What was already there: processes, their sockets, listeners and cgroups, read from /proc and the cgroup tree.
//!
//! With a filter, only what it selects is kept, and the cgroups above it that are needed for its name. Sockets are read
//! from each network namespace through one of its processes, so no namespace is entered. Payload is never read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::cgroup::{Entry, Tree, path_of_process, v1_container};
use super::filter::Selection;
use super::process_tree::{pids, with_descendants};
use super::procfs::{self, TcpLine, TcpState};
use super::{sys, timens};
use crate::format::record::{Endpoint, Opened, Origin, Process, Role, Socket};

/// Arguments kept of each process, bytes.
pub const ARGV_MAX: usize = 4096;
/// Arguments read to learn how long they are, bytes: as many as execve takes on most hosts.
const ARGV_READ: u64 = 2 << 20;

/// A process found in /proc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub time: u64,
    pub pid: u32,
    pub ppid: u32,
    pub pid_in_ns: u32,
    /// The host's boot clock, ns, rounded down to a tick of 10 ms (in a time namespace: of its clock).
    pub start: u64,
    pub uid: u32,
    /// The one that names its container: v2, or on v1 hosts one of [`super::cgroup::v1_container`].
    pub cgroup: u64,
    pub cgroup_path: Vec<u8>,
    /// What the kernel's filter compares.
    pub v2_cgroup: u64,
    pub netns: u32,
    pub comm: Vec<u8>,
    pub exe: Vec<u8>,
    pub argv: Vec<u8>,
    pub argv_len: u32,
}

impl Found {
    /// The stored form.
    pub fn record(&self) -> Process<'_> {
        Process {
            time: self.time,
            origin: Origin::Snapshot,
            pid: self.pid,
            ppid: self.ppid,
            pid_in_ns: self.pid_in_ns,
            start: self.start,
            uid: self.uid,
            cgroup: self.cgroup,
            netns: self.netns,
            comm: &self.comm,
            exe: &self.exe,
            argv: &self.argv,
            argv_len: self.argv_len,
        }
    }
}

/// Everything found. Sockets have no id yet (0).
#[derive(Debug, Default)]
pub struct Snapshot {
    pub processes: Vec<Found>,
    /// Parents before children.
    pub cgroups: Vec<Entry>,
    pub sockets: Vec<Socket>,
    /// All listeners of the namespaces that were read: what makes an open connection a server's.
    pub listeners: Listeners,
}

/// Listening sockets, by network namespace and port.
#[derive(Debug, Default, Clone)]
pub struct Listeners {
    known: HashMap<(u32, u16), Vec<Endpoint>>,
}

impl Listeners {
    /// Something listens here.
    pub fn add(&mut self, netns: u32, local: Endpoint) {
        let ends = self.known.entry((netns, local.port)).or_default();
        if !ends.contains(&local) {
            ends.push(local);
        }
    }

    /// Adds others.
    pub fn extend(&mut self, others: Listeners) {
        for ((netns, _), ends) in others.known {
            ends.into_iter().for_each(|end| self.add(netns, end));
        }
    }

    fn covers(&self, netns: u32, end: &Endpoint) -> bool {
        self.known.get(&(netns, end.port)).is_some_and(|ends| {
            ends.iter()
                .any(|listener| listener.is_unspecified() || listener.ip == end.ip)
        })
    }

    /// Who this end of an open connection is, as far as listeners show. A listener at the remote end makes a client
    /// only within one namespace; of another host's listeners nothing is known.
    pub fn role(&self, netns: u32, local: &Endpoint, remote: &Endpoint) -> Role {
        if self.covers(netns, local) {
            Role::Server
        } else if self.covers(netns, remote) && (local.ip == remote.ip || remote.ip().is_loopback()) {
            Role::Client
        } else {
            Role::Undetermined
        }
    }
}

/// Reads one process; `None` when it is gone, or a kernel thread.
pub fn process(pid: u32, tree: Option<&Tree>) -> Option<Found> {
    let folder = Path::new("/proc").join(pid.to_string());
    let text = std::fs::read(folder.join("stat")).ok()?;
    let stat = procfs::stat(&text)?;
    if stat.kernel_thread {
        return None;
    }
    let status = procfs::status(&std::fs::read(folder.join("status")).unwrap_or_default());
    let cgroup_text = std::fs::read(folder.join("cgroup")).unwrap_or_default();
    let cgroup_path = match (path_of_process(&cgroup_text), tree) {
        (Some(path), Some(tree)) => tree.absolute(path),
        (path, _) => path.unwrap_or_default().to_vec(),
    };
    let cgroup = match tree {
        Some(tree) if !cgroup_path.is_empty() => tree.id(&cgroup_path).unwrap_or(0),
        _ => 0,
    };
    let v2_cgroup = cgroup;
    let (cgroup, cgroup_path) = match v1_container(&cgroup_text) {
        Some(v1) => (v1.id, v1.path),
        None => (cgroup, cgroup_path),
    };
    let netns = std::fs::read_link(folder.join("ns/net"))
        .ok()
        .and_then(|link| procfs::link_number(link.as_os_str().as_bytes(), "net"))
        .and_then(|inode| u32::try_from(inode).ok())
        .unwrap_or(0);
    let mut argv = arguments(&folder.join("cmdline")).unwrap_or_default();
    let argv_len = u32::try_from(argv.len()).unwrap_or(u32::MAX);
    argv.truncate(ARGV_MAX);
    let exe = std::fs::read_link(folder.join("exe"))
        .map(|path| procfs::program_path(path.as_os_str().as_bytes()).to_vec())
        .unwrap_or_default();
    Some(Found {
        time: sys::boot_ns(),
        pid,
        ppid: stat.ppid,
        pid_in_ns: status.pids.last().copied().unwrap_or(pid),
        start: timens::host_boot(stat.start),
        uid: status.uid,
        cgroup,
        cgroup_path,
        v2_cgroup,
        netns,
        comm: stat.comm.to_vec(),
        exe,
        argv,
        argv_len,
    })
}

/// The arguments of a process; it decides itself how long they are.
fn arguments(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ARGV_READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Since when a process has run, and its v1 cgroup that names its container.
pub fn container(pid: u32) -> Option<(u64, Entry)> {
    let cgroups = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some((timens::host_boot(procfs::stat(&stat)?.start), v1_container(&cgroups)?))
}

/// Reads everything that the selection takes, except the processes `left_out` (the recorder's own).
pub fn take(selection: &Selection, tree: Option<&Tree>, left_out: &[u32]) -> Snapshot {
    let subtree: HashSet<u64> = match tree {
        Some(tree) if !selection.cgroups.is_empty() => subtree(tree, &selection.cgroups),
        _ => HashSet::new(),
    };
    let followed: BTreeSet<u32> = match selection.pids.is_empty() {
        true => BTreeSet::new(),
        false => with_descendants(selection.pids.iter().copied())
            .iter()
            .map(|process| process.pid)
            .collect(),
    };
    // Those that cannot be chosen any more are not read.
    let is_possible = |pid: u32| selection.chooses(followed.contains(&pid), true);
    let mut processes: Vec<Found> = pids()
        .into_iter()
        .filter(|pid| !left_out.contains(pid) && is_possible(*pid))
        .filter_map(|pid| process(pid, tree))
        .filter(|found| selection.chooses(followed.contains(&found.pid), subtree.contains(&found.v2_cgroup)))
        .filter(|found| selection.comm.as_ref().is_none_or(|comm| comm.as_bytes() == found.comm))
        .filter(|found| selection.netns.is_none_or(|netns| netns == found.netns))
        .collect();
    processes.sort_by_key(|found| (found.start, found.pid));
    let cgroups = tree
        .map(|tree| cgroups(selection, tree, &processes))
        .unwrap_or_default();
    let (sockets, listeners) = sockets(selection, &processes);
    if selection.names_processes() || selection.ports.is_empty() {
        return Snapshot {
            processes,
            cgroups,
            sockets,
            listeners,
        };
    }
    // A filter on ports alone: name the processes that hold such sockets; others are named when they turn up.
    let holders: HashSet<u32> = sockets.iter().map(|socket| socket.pid).collect();
    processes.retain(|found| holders.contains(&found.pid));
    Snapshot {
        processes,
        cgroups,
        sockets,
        listeners,
    }
}

/// The ids of these cgroups and all below them.
fn subtree(tree: &Tree, roots: &[u64]) -> HashSet<u64> {
    let paths = tree.by_id();
    roots
        .iter()
        .filter_map(|root| paths.get(root))
        .flat_map(|path| tree.walk(path))
        .map(|entry| entry.id)
        .collect()
}

fn cgroups(selection: &Selection, tree: &Tree, processes: &[Found]) -> Vec<Entry> {
    if selection.is_everything() {
        return tree.walk(b"/");
    }
    let mut needed: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut add = |entries: Vec<Entry>| needed.extend(entries.into_iter().map(|entry| (entry.path, entry.id)));
    if !selection.cgroups.is_empty() {
        let paths = tree.by_id();
        for path in selection.cgroups.iter().filter_map(|id| paths.get(id)) {
            add(tree.lineage(path));
            add(tree.walk(path));
        }
    }
    let own: BTreeSet<&[u8]> = processes.iter().map(|found| found.cgroup_path.as_slice()).collect();
    for path in own.into_iter().filter(|path| !path.is_empty()) {
        add(tree.lineage(path));
    }
    // Sorted by path, so that a parent comes before its children.
    needed.into_iter().map(|(path, id)| Entry { id, path }).collect()
}

fn sockets(selection: &Selection, processes: &[Found]) -> (Vec<Socket>, Listeners) {
    let mut namespaces: BTreeMap<u32, u32> = BTreeMap::new();
    for found in processes.iter().filter(|found| found.netns != 0) {
        namespaces.entry(found.netns).or_insert(found.pid);
    }
    let mut listeners = Listeners::default();
    let mut lines: Vec<(u32, TcpLine)> = Vec::new();
    for (&netns, &pid) in &namespaces {
        for file in ["tcp", "tcp6"] {
            let Ok(text) = std::fs::read(format!("/proc/{pid}/net/{file}")) else {
                continue;
            };
            for line in text.split(|b| *b == b'\n').filter_map(procfs::tcp_line) {
                if line.state == TcpState::Listen {
                    listeners.add(netns, line.local);
                }
                let selected = line.state != TcpState::Other
                    && line.inode != 0
                    && selection.takes_ports(line.local.port, line.remote.port);
                if selected {
                    lines.push((netns, line));
                }
            }
        }
    }
    let owners = match lines.is_empty() {
        true => HashMap::new(),
        false => owners(processes),
    };
    let now = sys::boot_ns();
    let sockets = lines
        .into_iter()
        .filter_map(|(netns, line)| {
            let owner = owners.get(&line.inode);
            if owner.is_none() && selection.names_processes() {
                return None;
            }
            let role = match line.state {
                TcpState::Listen => Role::Listener,
                _ => listeners.role(netns, &line.local, &line.remote),
            };
            let remote = if role == Role::Listener {
                Endpoint::default()
            } else {
                line.remote
            };
            Some(Socket {
                time: now,
                id: 0,
                opened: Opened::Snapshot,
                role,
                local: line.local,
                remote,
                netns,
                pid: owner.map_or(0, |(pid, _)| *pid),
                cgroup: owner.map_or(0, |(_, cgroup)| *cgroup),
                send_pos: 0,
                receive_pos: 0,
                positions: false,
            })
        })
        .collect();
    (sockets, listeners)
}

/// Socket inode -> (pid, cgroup). Where several processes hold one socket (a server's workers), the oldest is taken:
/// the list is sorted by start.
fn owners(processes: &[Found]) -> HashMap<u64, (u32, u64)> {
    let mut owners = HashMap::new();
    for found in processes {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", found.pid)) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(link) = std::fs::read_link(entry.path()) else {
                continue;
            };
            if let Some(inode) = procfs::link_number(link.as_os_str().as_bytes(), "socket") {
                owners.entry(inode).or_insert((found.pid, found.cgroup));
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;
    use crate::record::identity::Identity;

    fn end(ip: [u8; 4], port: u16) -> Endpoint {
        Endpoint::new(Ipv4Addr::from(ip).into(), port)
    }

    #[test]
    fn a_listener_on_the_local_port_makes_a_server() {
        let mut listeners = Listeners::default();
        listeners.add(7, end([0, 0, 0, 0], 80));
        listeners.add(7, Endpoint::new(Ipv6Addr::UNSPECIFIED.into(), 443));
        listeners.add(7, end([10, 0, 0, 1], 3306));
        let peer = end([10, 0, 0, 9], 50000);
        assert_eq!(listeners.role(7, &end([10, 0, 0, 1], 80), &peer), Role::Server);
        assert_eq!(
            listeners.role(7, &end([10, 0, 0, 1], 443), &peer),
            Role::Server,
            ":: listens for IPv4 too"
        );
        assert_eq!(listeners.role(7, &end([10, 0, 0, 1], 3306), &peer), Role::Server);
        assert_eq!(
            listeners.role(7, &end([10, 0, 0, 2], 3306), &peer),
            Role::Undetermined,
            "another address"
        );
        assert_eq!(
            listeners.role(8, &end([10, 0, 0, 1], 80), &peer),
            Role::Undetermined,
            "another namespace"
        );
    }

    #[test]
    fn a_listener_at_the_remote_end_makes_a_client_on_this_host_only() {
        let mut listeners = Listeners::default();
        listeners.add(7, end([0, 0, 0, 0], 80));
        let local = end([127, 0, 0, 1], 50000);
        assert_eq!(listeners.role(7, &local, &end([127, 0, 0, 1], 80)), Role::Client);
        assert_eq!(
            listeners.role(7, &end([10, 0, 0, 1], 50000), &end([10, 0, 0, 9], 80)),
            Role::Undetermined
        );
    }

    #[test]
    fn this_process_is_found_with_its_sockets_and_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_server, _) = listener.accept().unwrap();

        let own = std::process::id();
        let selection = Selection {
            pids: Identity::of(own).into_iter().collect(),
            ..Selection::default()
        };
        let snapshot = take(&selection, Tree::find(None).as_ref(), &[]);
        let found = snapshot.processes.iter().find(|found| found.pid == own).unwrap();
        assert!(found.start > 0 && !found.argv.is_empty() && !found.exe.is_empty() && found.netns != 0);

        let local = |socket: &Socket| socket.local.port == address.port();
        let port = client.local_addr().unwrap().port();
        let roles: BTreeSet<Role> = snapshot.sockets.iter().filter(|s| local(s)).map(|s| s.role).collect();
        assert_eq!(roles, BTreeSet::from([Role::Listener, Role::Server]));
        let client = snapshot.sockets.iter().find(|s| s.local.port == port).unwrap();
        assert_eq!((client.role, client.pid), (Role::Client, own));

        let everyone: BTreeSet<u32> = snapshot.processes.iter().map(|found| found.pid).collect();
        assert!(!everyone.contains(&1), "a filter on one process takes no other");
    }

    #[test]
    fn a_filter_on_ports_names_the_holders_only() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // The network namespace bounds what is looked at to this test's own neighbourhood.
        let selection = Selection {
            ports: vec![port],
            ..Selection::default()
        };
        let snapshot = take(&selection, None, &[]);
        assert!(
            snapshot
                .sockets
                .iter()
                .all(|s| s.local.port == port || s.remote.port == port)
        );
        assert!(snapshot.processes.iter().all(|found| found.pid == std::process::id()));
    }

    #[test]
    fn the_recorder_leaves_itself_out() {
        let own = std::process::id();
        let selection = Selection {
            pids: Identity::of(own).into_iter().collect(),
            ..Selection::default()
        };
        assert!(take(&selection, None, &[own]).processes.is_empty());
    }
}
