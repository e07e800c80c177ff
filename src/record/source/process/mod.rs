//! The source `process`: forks, execve calls and exits of processes, and the cgroups that they are in. It records them at
//! tracepoints that all supported kernels have, whatever the backend.

pub(super) mod wire;

use libbpf_rs::ProgramType;

use super::Source;
use super::plan::{CGROUP_ENTERED, Hook, Part, Planned, may, must};
use super::wire::loss;

/// See the module.
pub(super) const SOURCE: Source = Source {
    kinds: wire::kind::PROCESS..=wire::kind::CGROUP,
    decode: wire::decode,
    plan: |kernel, _| {
        Ok(Part {
            programs: kernel.usable(PROGRAMS)?,
            inexact: None,
        })
    },
    counters: &[loss::RING_FULL, loss::MAP_FULL, loss::PAGE_FAULT],
    test: None,
    program_types: &[("raw_tracepoint", ProgramType::RawTracepoint)],
    blind_spots: |_, _| String::new(),
};

/// Those of cgroups need no other program where tracepoints can be preempted: they run under the one lock of all cgroups.
pub(super) const PROGRAMS: &[Planned] = &[
    must("process_forked", Hook::Tracepoint("sched_process_fork"))
        .or("process_forked_nopreempt", Hook::Event("sched", "sched_process_fork")),
    must("process_executed", Hook::Tracepoint("sched_process_exec"))
        .or("process_executed_nopreempt", Hook::Event("sched", "sched_process_exec")),
    must("process_exited", Hook::Tracepoint("sched_process_exit"))
        .or("process_exited_nopreempt", Hook::Event("sched", "sched_process_exit")),
    may("cgroup_made", Hook::Tracepoint("cgroup_mkdir")),
    may(CGROUP_ENTERED, Hook::Tracepoint("cgroup_attach_task")),
];
