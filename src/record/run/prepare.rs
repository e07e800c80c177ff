//! What follows from what the user asked for, before anything is recorded: what the kernel side is to do, the file's header, and a
//! look at what is there already.

use std::collections::BTreeSet;
use std::sync::mpsc;

use anyhow::{Context, Result};

use super::options::Options;
use crate::format::header::Header;
use crate::pods::Selectors;
use crate::record::cgroup::Tree;
use crate::record::child::Child;
use crate::record::filter::{self, Selection};
use crate::record::identity::Identity;
use crate::record::snapshot::{self, Snapshot};
use crate::record::source::config::{Backend, Command, Config, Filter};
use crate::record::source::probe::Probe;
use crate::record::{privilege, process_tree, procfs, sys};

/// The kernel needs some 300 bytes for each socket that can be followed: no more is taken without being asked for.
const MAX_SOCKETS: u32 = 1 << 20;

pub fn config(options: &Options, selection: &Selection, child: Option<&Child>, dynamic: bool) -> Config {
    Config {
        filter: Filter {
            pids: selection.pids.clone(),
            command: child.map(|child| match child.cgroup() {
                Some(_) => Command::InCgroup,
                None => Command::Anywhere,
            }),
            comm: selection.comm.clone(),
            cgroups: selection.cgroups.clone(),
            ports: selection.ports.clone(),
            netns: selection.netns,
            dynamic,
        },
        snaplen: options.snaplen,
        buffer_size: options.buffer_size,
        max_sockets: options.max_sockets.unwrap_or_else(max_sockets),
        backend: options.backend,
    }
}

/// The chosen processes that still run, and the descendants that they have started while the programs were being attached.
/// Processes that have ended are not followed any more: other processes may get their pids.
pub fn refresh_pids(chosen: &[Identity], probe: &Probe, left_out: &[u32]) -> Result<Vec<Identity>> {
    let chosen: BTreeSet<Identity> = chosen.iter().copied().collect();
    let mut there = process_tree::with_descendants(chosen.iter().copied());
    for process in chosen.difference(&there) {
        // The kernel side removes it itself when it sees the exit.
        let _ = probe.unfollow(process.pid);
    }
    there.retain(|process| !left_out.contains(&process.pid));
    for process in there.difference(&chosen) {
        probe
            .follow(*process)
            .with_context(|| format!("cannot follow process {}", process.pid))?;
    }
    Ok(there.into_iter().collect())
}

/// Room for twice as many sockets as there are, and not for fewer than usual.
fn max_sockets() -> u32 {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let now = procfs::tcp_sockets(&sockstat).unwrap_or(0);
    now.saturating_mul(2).clamp(Config::default().max_sockets, MAX_SOCKETS)
}

pub fn header(options: &Options, selectors: &Selectors, backend: Backend, command: bool) -> Header {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    Header {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: options.command_line.clone(),
        hostname: read("/proc/sys/kernel/hostname"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        kernel: read("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_owned(),
        backend: backend.name().to_owned(),
        filters: [
            selectors.describe().join(", "),
            filter::describe(&options.filter, command),
        ]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", "),
        snaplen: options.snaplen,
        cpus: std::thread::available_parallelism().map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        clock: sys::clocks(),
        recording: random(),
        part: 0,
    }
}

/// A number that no other recording has.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system's random numbers.
    std::hash::RandomState::new().build_hasher().finish()
}

pub fn start_snapshot(
    proc: bool,
    selection: Selection,
    tree: Option<Tree>,
    left_out: Vec<u32>,
) -> Result<mpsc::Receiver<Snapshot>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        let _all = privilege::read_all();
        let snapshot = match proc {
            true => snapshot::take(&selection, tree.as_ref(), &left_out),
            false => Snapshot::default(),
        };
        let _ = sender.send(snapshot);
    })?;
    Ok(receiver)
}
