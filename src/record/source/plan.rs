//! What a program is attached to, and what the kernel must have for it. Look-ups in BTF: kernel versions are never compared,
//! because vendors backport. Each source lists its own programs.

use std::path::Path;

use libbpf_rs::Btf;
use libbpf_rs::btf::types::{Func, Struct, Typedef, Var};

use super::preempt;
use super::wire::loss;
use crate::record::kernelfs::Mount;

/// What a program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A raw tracepoint.
    Tracepoint(&'static str),
    /// A trace event: a tracepoint through tracefs (group, name).
    Event(&'static str, &'static str),
    /// The entry of a function, by a tracing program.
    Entry(&'static str),
    /// The return of a function, by a tracing program.
    Exit(&'static str),
    /// The entry of a function, by a kprobe.
    Kprobe(&'static str),
    /// The return of a function, by a kretprobe.
    Kretprobe(&'static str),
    /// Run by us.
    Call,
}

/// How runs count that the kernel skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// What each of them would have recorded is missing.
    Missing,
    /// The programs with this mark all record the same: missing is what none of them can have recorded.
    MissingFromAll,
    /// The program only tidies up.
    Harmless,
}

/// One program of bpf/.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub program: &'static str,
    pub hook: Hook,
    /// Without it the source records nothing of use.
    pub required: bool,
    pub skipped: Skipped,
    /// The program, and its hook, that takes its place where tracepoints can be preempted (bpf/maps.h, enum slot).
    stand_in: Option<(&'static str, Hook)>,
}

/// A program that is required.
pub const fn must(program: &'static str, hook: Hook) -> Planned {
    Planned {
        program,
        hook,
        required: true,
        skipped: Skipped::Missing,
        stand_in: None,
    }
}

/// A program that is used where it can be.
pub const fn may(program: &'static str, hook: Hook) -> Planned {
    Planned {
        required: false,
        ..must(program, hook)
    }
}

impl Planned {
    /// With another program for kernels that preempt tracepoints.
    pub const fn or(self, program: &'static str, hook: Hook) -> Planned {
        Planned {
            stand_in: Some((program, hook)),
            ..self
        }
    }

    /// Its name, and that of what takes its place.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let stand_in = self.stand_in.map(|(program, _)| program);
        std::iter::once(self.program).chain(stand_in)
    }

    /// Whose skipped runs count in this way.
    pub const fn skipped(self, skipped: Skipped) -> Planned {
        Planned { skipped, ..self }
    }
}

/// Run once instead of being attached: stores the recorder's own thread group.
pub const WHOAMI: &str = "whoami";
/// Finds the kernel's variables by name.
pub const FIND_PAGES: &str = "find_pages";
/// Sees processes move between cgroups.
pub const CGROUP_ENTERED: &str = "cgroup_entered";
/// Runs beside another program at the same changes of state.
pub const STATE_NOPREEMPT: &str = "state_changed_nopreempt";

/// The kernel's own description of itself.
pub struct Kernel {
    btf: Btf<'static>,
    tracefs: Option<Mount>,
    /// Tasks may lose the CPU to others in the middle of tracing programs.
    pub preemptible: bool,
    /// Also in the middle of programs at raw tracepoints.
    pub preempts_tracepoints: bool,
}

impl Kernel {
    /// Reads /sys/kernel/btf/vmlinux (or where else libbpf finds it).
    pub fn read() -> Result<Kernel, libbpf_rs::Error> {
        let btf = Btf::from_vmlinux()?;
        let preemptible = preempt::preemptible();
        // Then these programs are guarded by SRCU instead of by turning preemption off. (A variable of this name had another
        // purpose before there was struct tracepoint_ext, until 6.12.)
        let preempts_tracepoints = preemptible
            && btf.type_by_name::<Var<'_>>("tracepoint_srcu_srcu_data").is_some()
            && btf.type_by_name::<Struct<'_>>("tracepoint_ext").is_some();
        Ok(Kernel {
            btf,
            tracefs: Mount::tracefs(),
            preemptible,
            preempts_tracepoints,
        })
    }

    /// Whether a hook can exist here. Functions are looked up in BTF; whether they can be probed shows when attaching.
    pub fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Tracepoint(name) => self
                .btf
                .type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}"))
                .is_some(),
            Hook::Event(group, name) => {
                let event = |tracefs: &Mount| tracefs.path().join("events").join(group).join(name).join("id").exists();
                self.tracefs.as_ref().is_some_and(event)
            }
            Hook::Kprobe(name) | Hook::Kretprobe(name) => self.has_kprobes() && self.has_function(name),
            Hook::Entry(name) | Hook::Exit(name) => self.has_function(name),
            Hook::Call => self.has_function("bpf_kallsyms_lookup_name"),
        }
    }

    /// Those of these programs that can be used here; or what the kernel lacks.
    pub fn usable<'a>(&self, programs: impl IntoIterator<Item = &'a Planned>) -> Result<Vec<Planned>, String> {
        let mut usable = Vec::new();
        for planned in programs {
            if !self.has(planned.hook) {
                if planned.required {
                    return Err(format!("this kernel has no {}", describe(planned.hook)));
                }
                continue;
            }
            let stand_in = planned
                .stand_in
                .filter(|(_, hook)| self.preempts_tracepoints && self.has(*hook));
            usable.push(match stand_in {
                Some((program, hook)) => Planned {
                    program,
                    hook,
                    ..*planned
                },
                None => *planned,
            });
        }
        Ok(usable)
    }

    /// The functions of newer kernels that there are.
    pub fn uses(&self) -> Uses {
        Uses {
            plain_loads: self.has_function("bpf_rdonly_cast"),
        }
    }

    /// Whether the memory of maps counts towards RLIMIT_MEMLOCK, which CAP_SYS_RESOURCE can raise; otherwise it counts
    /// towards the memory cgroup (kernel commit 80ee81e0403c).
    pub fn limits_map_memory(&self) -> bool {
        self.has_function("bpf_map_charge_init")
    }

    fn has_kprobes(&self) -> bool {
        Path::new("/sys/bus/event_source/devices/kprobe").exists()
            || self
                .tracefs
                .as_ref()
                .is_some_and(|tracefs| tracefs.path().join("kprobe_events").exists())
    }

    fn has_function(&self, name: &str) -> bool {
        self.btf.type_by_name::<Func<'_>>(name).is_some()
    }
}

/// Functions of newer kernels that the programs make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// Kernel memory is read by plain loads (bpf_rdonly_cast, 6.2).
    pub plain_loads: bool,
}

/// What one source brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub programs: Vec<Planned>,
    /// Why some of what happens will be missed (and counted), if so.
    pub inexact: Option<&'static str>,
}

/// What to load and attach: the parts of all sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub programs: Vec<Planned>,
    /// What they count in the map `losses`.
    pub counters: Vec<loss::Counter>,
    pub uses: Uses,
    pub inexact: Option<&'static str>,
}

impl Plan {
    pub fn has(&self, program: &str) -> bool {
        self.programs.iter().any(|planned| planned.program == program)
    }
}

fn describe(hook: Hook) -> String {
    match hook {
        Hook::Tracepoint(name @ ("sock_send_length" | "sock_recv_length")) => {
            format!("tracepoint {name} (it came with Linux 6.3)")
        }
        Hook::Tracepoint(name) | Hook::Event(_, name) => format!("tracepoint {name}"),
        Hook::Kprobe(name) | Hook::Kretprobe(name) => format!("kprobes, or no function {name} in its BTF"),
        Hook::Entry(name) | Hook::Exit(name) => format!("function {name} in its BTF"),
        Hook::Call => "function bpf_kallsyms_lookup_name".to_string(),
    }
}
