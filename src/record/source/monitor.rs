//! What can be read of the attached programs beside the ring, on any thread: the loss counters, and the tree of the command.
//!
//! Some of it are files of /proc and tracefs, so it is not for the thread that reads the ring.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libbpf_rs::{Map, MapCore, MapFlags, Object};

use super::kretprobe;
use super::plan::{Plan, Skipped};
use super::wire::{self, Followed};
use crate::format::record::LossReason;
use crate::record::identity::Identity;
use crate::record::loss::Count;

/// What was lost in the kernel since attaching, by reason. Only grows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelLosses(BTreeMap<LossReason, Count>);

impl KernelLosses {
    /// What was lost for this reason.
    pub fn get(&self, reason: LossReason) -> Count {
        self.0.get(&reason).copied().unwrap_or_default()
    }

    /// Each counter with its reason.
    pub fn iter(&self) -> impl Iterator<Item = (LossReason, Count)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }

    /// What was lost since an earlier reading.
    fn since(&self, before: &KernelLosses) -> KernelLosses {
        let grown = |(reason, now): (LossReason, Count)| {
            let before = before.get(reason);
            let count = Count {
                events: now.events.saturating_sub(before.events),
                bytes: now.bytes.saturating_sub(before.bytes),
            };
            (reason, count)
        };
        self.iter().map(grown).collect()
    }
}

impl FromIterator<(LossReason, Count)> for KernelLosses {
    fn from_iter<I: IntoIterator<Item = (LossReason, Count)>>(counts: I) -> Self {
        let mut losses = KernelLosses::default();
        for (reason, count) in counts {
            losses.0.entry(reason).or_default().add(count);
        }
        losses
    }
}

/// See the module. It may outlive the probe; then there is nothing new to read.
#[derive(Clone)]
pub struct Monitor {
    pub(super) object: Arc<Object>,
    pub(super) plan: Arc<Plan>,
    pub(super) kretprobes: Option<kretprobe::Profile>,
    /// What the self-test lost is no loss of the recording.
    pub(super) lost_before: KernelLosses,
}

impl Monitor {
    /// The loss counters since the self-test, added up over all CPUs. Never falls as long as the probe is there.
    pub fn losses(&self) -> io::Result<KernelLosses> {
        let map = self.map("losses")?;
        let count = |key: u32| -> io::Result<Count> {
            let values = map
                .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)
                .map_err(io::Error::other)?
                .unwrap_or_default();
            let mut total = Count::default();
            for value in values {
                total.add(wire::count(&value).unwrap_or_default());
            }
            Ok(total)
        };
        let mut total = KernelLosses::from_iter([(
            LossReason::Missed,
            Count {
                events: self.missed() + self.kretprobes.as_ref().map_or(0, kretprobe::Profile::missed),
                bytes: 0,
            },
        )]);
        for (key, reason) in &self.plan.counters {
            total.0.entry(*reason).or_default().add(count(*key)?);
        }
        Ok(total.since(&self.lost_before))
    }

    /// Runs that the kernel skipped because the program ran on that CPU already (counted since 5.12).
    fn missed(&self) -> u64 {
        let of = |program: &libbpf_rs::ProgramMut<'_>| -> Option<u64> {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd())).ok()?;
            let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse().ok()
        };
        let (mut total, mut from_all) = (0, None);
        for program in self.object.progs_mut() {
            let planned = self
                .plan
                .programs
                .iter()
                .find(|planned| program.name() == planned.program);
            match planned.map(|planned| planned.skipped) {
                Some(Skipped::Missing) => total += of(&program).unwrap_or(0),
                Some(Skipped::MissingFromAll) => {
                    let missed = of(&program).unwrap_or(0);
                    from_all = Some(from_all.map_or(missed, |so_far: u64| so_far.min(missed)));
                }
                Some(Skipped::Harmless) | None => {}
            }
        }
        total + from_all.unwrap_or(0)
    }

    /// The processes of the command's tree whose exit was not seen, as the initial pid namespace numbers them.
    pub fn command_tree(&self) -> io::Result<Vec<Identity>> {
        let map = self.map("followed")?;
        let mut tree = Vec::new();
        for key in map.keys() {
            let value = map
                .lookup(&key, MapFlags::ANY)
                .map_err(io::Error::other)?
                .unwrap_or_default();
            let pid = key.as_slice().try_into().ok().map(u32::from_ne_bytes);
            if let (Some(pid), Some(followed)) = (pid, Followed::read(&value))
                && followed.of_command
            {
                tree.push(Identity {
                    pid,
                    start: followed.start,
                });
            }
        }
        Ok(tree)
    }

    fn map(&self, name: &str) -> io::Result<Map<'_>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no map {name}"));
        self.object.maps().find(|map| map.name() == name).ok_or_else(missing)
    }
}
