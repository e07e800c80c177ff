//! Which programs make up each backend, and what the kernel must have for them. Pure tables and look-ups in BTF: kernel
//! versions are never compared, because vendors backport.

use std::path::Path;

use libbpf_rs::Btf;
use libbpf_rs::btf::types::{Func, Struct, Typedef, Var};

use super::preempt;
use super::probe::Backend;
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

/// One program of bpf/.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub program: &'static str,
    pub hook: Hook,
    /// Without it the backend is of no use.
    pub required: bool,
}

const fn must(program: &'static str, hook: Hook) -> Planned {
    Planned {
        program,
        hook,
        required: true,
    }
}

const fn may(program: &'static str, hook: Hook) -> Planned {
    Planned {
        program,
        hook,
        required: false,
    }
}

/// Run once instead of being attached: tells the recorder's own thread group.
pub const WHOAMI: &str = "whoami";
/// Finds the kernel's variables by name.
pub const FIND_PAGES: &str = "find_pages";

const LIFECYCLE: &[Planned] = &[
    must(STATE, Hook::Tracepoint("inet_sock_set_state")),
    must("socket_destroyed", Hook::Tracepoint("tcp_destroy_sock")),
    must("process_forked", Hook::Tracepoint("sched_process_fork")),
    must("process_executed", Hook::Tracepoint("sched_process_exec")),
    must("process_exited", Hook::Tracepoint("sched_process_exit")),
    may("retransmitted", Hook::Tracepoint("tcp_retransmit_skb")),
    may("cgroup_made", Hook::Tracepoint("cgroup_mkdir")),
    may(CGROUP_ENTERED, Hook::Tracepoint("cgroup_attach_task")),
];

const FEXIT: &[Planned] = &[
    must("fexit_sent4", Hook::Exit("inet_sendmsg")),
    must("fexit_sent6", Hook::Exit("inet6_sendmsg")),
    must("fexit_received4", Hook::Exit("inet_recvmsg")),
    must("fexit_received6", Hook::Exit("inet6_recvmsg")),
    may("fexit_page_sent", Hook::Exit("tcp_sendpage")),
    may("fexit_spliced", Hook::Exit("tcp_splice_read")),
    may("send_began", Hook::Tracepoint("tcp_sendmsg_locked")),
    may("fentry_send_began", Hook::Entry("tcp_sendmsg_locked")),
    may(FIND_PAGES, Hook::Call),
];

const SOCKTP: &[Planned] = &[
    must("socktp_sent", Hook::Tracepoint("sock_send_length")),
    must("socktp_received", Hook::Tracepoint("sock_recv_length")),
    may("send_began", Hook::Tracepoint("tcp_sendmsg_locked")),
    may(FIND_PAGES, Hook::Call),
];

const KPROBE: &[Planned] = &[
    must("kprobe_send4", Hook::Kprobe("inet_sendmsg")),
    must("kprobe_send6", Hook::Kprobe("inet6_sendmsg")),
    must("kprobe_sent4", Hook::Kretprobe("inet_sendmsg")),
    must("kprobe_sent6", Hook::Kretprobe("inet6_sendmsg")),
    must("kprobe_receive4", Hook::Kprobe("inet_recvmsg")),
    must("kprobe_receive6", Hook::Kprobe("inet6_recvmsg")),
    must("kprobe_received", Hook::Kprobe("tcp_cleanup_rbuf")),
    may("kprobe_page_send", Hook::Kprobe("tcp_sendpage")),
    may("kprobe_page_sent", Hook::Kretprobe("tcp_sendpage")),
    may("kprobe_splice", Hook::Kprobe("tcp_splice_read")),
    may(FIND_PAGES, Hook::Call),
];

const SYSTP: &[Planned] = &[must("systp_returned", Hook::Tracepoint("sys_exit"))];

/// Programs that can be preempted where tracepoints can, and what stands there for them (bpf/maps.h, enum slot). Not among
/// them: cgroup_mkdir and cgroup_attach_task, which have the one lock of all cgroups.
const CALM: &[(&str, Planned)] = &[
    (
        "process_forked",
        must("process_forked_calm", Hook::Event("sched", "sched_process_fork")),
    ),
    (
        "process_executed",
        must("process_executed_calm", Hook::Event("sched", "sched_process_exec")),
    ),
    (
        "process_exited",
        must("process_exited_calm", Hook::Event("sched", "sched_process_exit")),
    ),
    (
        "socktp_sent",
        must("socktp_sent_calm", Hook::Event("sock", "sock_send_length")),
    ),
    (
        "socktp_received",
        must("socktp_received_calm", Hook::Event("sock", "sock_recv_length")),
    ),
    (
        "systp_returned",
        must("systp_returned_calm", Hook::Event("raw_syscalls", "sys_exit")),
    ),
    ("send_began", may("send_began_calm", Hook::Kprobe("tcp_sendmsg_locked"))),
];

/// Sees processes move between cgroups.
pub const CGROUP_ENTERED: &str = "cgroup_entered";

/// Stands beside this program: each hears what the other cannot.
pub const STATE: &str = "state_changed";
pub const STATE_CALM: &str = "state_changed_calm";

/// The kernel's own description of itself.
pub struct Kernel {
    btf: Btf<'static>,
    tracefs: Option<Mount>,
    /// Tasks may lose the CPU to others in the middle of tracing programs.
    preemptible: bool,
}

impl Kernel {
    /// Reads /sys/kernel/btf/vmlinux (or where else libbpf finds it).
    pub fn read() -> Result<Kernel, libbpf_rs::Error> {
        Ok(Kernel {
            btf: Btf::from_vmlinux()?,
            tracefs: Mount::tracefs(),
            preemptible: preempt::preemptible(),
        })
    }

    /// Also in the middle of programs at raw tracepoints: they are guarded by SRCU instead of by turning preemption off. (A
    /// variable of this name had another purpose before there was struct tracepoint_ext, until 6.12.)
    fn preempts_tracepoints(&self) -> bool {
        self.preemptible
            && self.btf.type_by_name::<Var<'_>>("tracepoint_srcu_srcu_data").is_some()
            && self.btf.type_by_name::<Struct<'_>>("tracepoint_ext").is_some()
    }

    /// Whether a hook can exist here. Functions are told by BTF alone; whether they can be probed shows when attaching.
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

    /// What a backend cannot see here, in words; nothing that concerns other kernels or machines only.
    pub fn blind_spots(&self, backend: Backend) -> String {
        let sends = self.has(Hook::Tracepoint("tcp_sendmsg_locked"));
        blind_spots(backend, sends, cfg!(target_arch = "x86_64"))
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

/// What to load and attach.
pub struct Plan {
    pub programs: Vec<Planned>,
    pub uses: Uses,
    /// Why some of what happens will be missed (and counted), if so.
    pub inexact: Option<&'static str>,
}

const FUNCTIONS_PREEMPTED: &str = "this kernel is preemptible: while a task is preempted in one of its programs, what other \
                                   tasks do on that CPU is missed";
const TRACEPOINTS_PREEMPTED: &str = "tracepoints of this kernel are preemptible: while a task is preempted in one of its \
                                     programs, what other tasks do on that CPU is missed; tracefs would help";

/// The programs of this backend that can be used here; or what the kernel lacks.
pub fn plan(backend: Backend, kernel: &Kernel) -> Result<Plan, String> {
    let own = match backend {
        Backend::Fexit => FEXIT,
        Backend::Socktp => SOCKTP,
        Backend::Kprobe => KPROBE,
        Backend::Systp => SYSTP,
    };
    let disturbed = kernel.preempts_tracepoints();
    let mut programs: Vec<Planned> = Vec::new();
    for planned in LIFECYCLE.iter().chain(own) {
        if !kernel.has(planned.hook) {
            if planned.required {
                return Err(format!("this kernel has no {}", describe(planned.hook)));
            }
            continue;
        }
        // Both tell when a send begins; the tracepoint is the cheaper.
        if planned.program == "fentry_send_began" && programs.iter().any(|p| p.program.starts_with("send_began")) {
            continue;
        }
        let calm = CALM.iter().find(|(other, _)| disturbed && *other == planned.program);
        match calm {
            Some((_, calm)) if kernel.has(calm.hook) => programs.push(*calm),
            _ => programs.push(*planned),
        }
    }
    let state_calm = must(STATE_CALM, Hook::Event("sock", "inet_sock_set_state"));
    if disturbed && kernel.has(state_calm.hook) {
        programs.push(state_calm);
    }
    let preempted = |planned: &Planned| {
        disturbed && planned.required && matches!(planned.hook, Hook::Tracepoint(_)) && programs.contains(planned)
    };
    let inexact = match backend {
        Backend::Fexit if kernel.preemptible => Some(FUNCTIONS_PREEMPTED),
        _ => own.iter().any(preempted).then_some(TRACEPOINTS_PREEMPTED),
    };
    Ok(Plan {
        programs,
        inexact,
        uses: Uses {
            plain_loads: kernel.has_function("bpf_rdonly_cast"),
        },
    })
}

/// `sends`: there is a tracepoint where all sends pass. `pages`: payload in pages of the kernel can be read.
fn blind_spots(backend: Backend, sends: bool, pages: bool) -> String {
    // Of the first only the length is recorded, of the second nothing.
    let (mut lengths, nothing) = match backend {
        Backend::Fexit => (
            vec!["payload spliced out of a socket"],
            "receiving by mmap, and sockets that the kernel itself reads without recvmsg",
        ),
        Backend::Socktp => (
            match sends {
                true => vec!["payload that io_uring and 32-bit programs receive"],
                false => vec![
                    "payload that io_uring and 32-bit programs send and receive",
                    "payload of sendfile and splice",
                ],
            },
            "splice out of a socket, receiving by mmap, and sockets that the kernel itself reads",
        ),
        Backend::Kprobe => (
            vec!["payload spliced out of a socket"],
            "what is received through kTLS and MPTCP, and receiving by mmap",
        ),
        Backend::Systp => (
            vec!["payload of sendfile and splice"],
            "io_uring, 32-bit programs, receiving by mmap, and what the kernel itself sends and receives",
        ),
    };
    let reads_pages = backend != Backend::Systp && (backend != Backend::Socktp || sends);
    if reads_pages && !pages {
        lengths.push("payload in pages of the kernel (sendfile, splice)");
    }
    format!("{} (lengths only); {nothing} (nothing)", lengths.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blind_spots_are_those_of_this_kernel_only() {
        for backend in Backend::ALL {
            for sends in [false, true] {
                for pages in [false, true] {
                    let text = blind_spots(backend, sends, pages);
                    assert!(!text.contains("Linux") && !text.contains("other machines"), "{text}");
                }
            }
        }
        let socktp = |sends| blind_spots(Backend::Socktp, sends, true);
        assert!(!socktp(true).contains("sendfile"), "{}", socktp(true));
        assert!(socktp(false).contains("sendfile"), "{}", socktp(false));
        assert!(blind_spots(Backend::Fexit, true, false).contains("pages of the kernel"));
    }
}
