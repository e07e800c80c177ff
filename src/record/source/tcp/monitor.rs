//! What can be read of the attached programs beside the ring, on any thread: the loss counters, and the tree of the command.
//!
//! Some of it are files of /proc and tracefs, so it is not for the thread that reads the ring.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libbpf_rs::{Map, MapCore, MapFlags, Object};

use super::kretprobe;
use super::object::io_error;
use super::plan::{STATE, STATE_CALM};
use super::probe::{Count, KernelLosses};
use super::wire::{self, Followed, loss};
use crate::record::identity::Identity;

/// See the module. It may outlive the probe; then there is nothing new to read.
#[derive(Clone)]
pub struct Monitor {
    pub(super) object: Arc<Object>,
    pub(super) kretprobes: Option<kretprobe::Profile>,
    /// What the self-test lost is no loss of the recording.
    pub(super) lost_before: KernelLosses,
}

impl Monitor {
    /// The loss counters since the self-test, added up over all CPUs. Never falls as long as the probe is there.
    pub fn losses(&self) -> io::Result<KernelLosses> {
        let map = self.map("losses")?;
        let count = |reason: u32| -> io::Result<Count> {
            let values = map
                .lookup_percpu(&reason.to_ne_bytes(), MapFlags::ANY)
                .map_err(io_error)?
                .unwrap_or_default();
            let mut total = Count::default();
            for value in values {
                let (events, bytes) = wire::count(&value).unwrap_or_default();
                total.events += events;
                total.bytes += bytes;
            }
            Ok(total)
        };
        let total = KernelLosses {
            ring_full: count(loss::RING_FULL)?,
            map_full: count(loss::MAP_FULL)?,
            page_fault: count(loss::PAGE_FAULT)?,
            truncated: count(loss::TRUNCATED)?,
            missed: Count {
                events: self.missed() + self.kretprobes.as_ref().map_or(0, kretprobe::Profile::missed),
                bytes: 0,
            },
        };
        Ok(total.since(&self.lost_before))
    }

    /// Runs that the kernel skipped because the program ran on that CPU already (told since 5.12).
    fn missed(&self) -> u64 {
        let of = |program: &libbpf_rs::ProgramMut<'_>| -> Option<u64> {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd())).ok()?;
            let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse().ok()
        };
        let (mut total, mut state, mut state_calm) = (0, 0, None);
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            let missed = of(&program).unwrap_or(0);
            match program.name().to_str() {
                Some(STATE) => state = missed,
                Some(STATE_CALM) => state_calm = Some(missed),
                // Only tidies up.
                Some("socket_destroyed") => {}
                _ => total += missed,
            }
        }
        // What one of these two missed the other heard.
        total + state_calm.map_or(state, |calm| calm.min(state))
    }

    /// The processes of the command's tree whose exit was not seen, as the initial pid namespace numbers them.
    pub fn command_tree(&self) -> io::Result<Vec<Identity>> {
        let map = self.map("followed")?;
        let mut tree = Vec::new();
        for key in map.keys() {
            let value = map.lookup(&key, MapFlags::ANY).map_err(io_error)?.unwrap_or_default();
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
