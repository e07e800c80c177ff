//! Which programs make up each backend, and what the kernel must have for them. Pure tables and look-ups in BTF: kernel
//! versions are never compared, because vendors backport.

use libbpf_rs::Btf;
use libbpf_rs::btf::types::{Func, Typedef};

use super::probe::Backend;

/// What a program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A raw tracepoint.
    Tracepoint(&'static str),
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
    must("state_changed", Hook::Tracepoint("inet_sock_set_state")),
    must("socket_destroyed", Hook::Tracepoint("tcp_destroy_sock")),
    must("process_forked", Hook::Tracepoint("sched_process_fork")),
    must("process_executed", Hook::Tracepoint("sched_process_exec")),
    must("process_exited", Hook::Tracepoint("sched_process_exit")),
    may("retransmitted", Hook::Tracepoint("tcp_retransmit_skb")),
    may("cgroup_made", Hook::Tracepoint("cgroup_mkdir")),
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

/// The kernel's own description of itself.
pub struct Kernel {
    btf: Btf<'static>,
}

impl Kernel {
    /// Reads /sys/kernel/btf/vmlinux (or where else libbpf finds it).
    pub fn read() -> Result<Kernel, libbpf_rs::Error> {
        Ok(Kernel {
            btf: Btf::from_vmlinux()?,
        })
    }

    /// Whether a hook can exist here. Functions are told by BTF alone; whether they can be probed shows when attaching.
    pub fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Tracepoint(name) => self
                .btf
                .type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}"))
                .is_some(),
            Hook::Entry(name) | Hook::Exit(name) | Hook::Kprobe(name) | Hook::Kretprobe(name) => {
                self.has_function(name)
            }
            Hook::Call => self.has_function("bpf_kallsyms_lookup_name"),
        }
    }

    fn has_function(&self, name: &str) -> bool {
        self.btf.type_by_name::<Func<'_>>(name).is_some()
    }
}

/// Functions of newer kernels that the programs make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// Programs run with interrupts off (bpf_local_irq_save, 6.14).
    pub irq_off: bool,
    /// Kernel memory is read by plain loads (bpf_rdonly_cast, 6.2).
    pub plain_loads: bool,
}

/// What to load and attach.
pub struct Plan {
    pub programs: Vec<Planned>,
    pub uses: Uses,
}

/// The programs of this backend that can be used here; or what the kernel lacks.
pub fn plan(backend: Backend, kernel: &Kernel) -> Result<Plan, String> {
    let own = match backend {
        Backend::Fexit => FEXIT,
        Backend::Socktp => SOCKTP,
        Backend::Kprobe => KPROBE,
        Backend::Systp => SYSTP,
    };
    let mut programs = Vec::new();
    for planned in LIFECYCLE.iter().chain(own) {
        // Both tell when a send begins; the tracepoint is the cheaper.
        let has = |program: &str| programs.iter().any(|p: &Planned| p.program == program);
        let doubled = planned.program == "fentry_send_began" && has("send_began");
        if kernel.has(planned.hook) && !doubled {
            programs.push(*planned);
        } else if planned.required {
            return Err(format!("this kernel has no {}", describe(planned.hook)));
        }
    }
    Ok(Plan {
        programs,
        uses: Uses {
            irq_off: kernel.has_function("bpf_local_irq_save"),
            plain_loads: kernel.has_function("bpf_rdonly_cast"),
        },
    })
}

fn describe(hook: Hook) -> String {
    match hook {
        Hook::Tracepoint(name @ ("sock_send_length" | "sock_recv_length")) => {
            format!("tracepoint {name} (it came with Linux 6.3)")
        }
        Hook::Tracepoint(name) => format!("tracepoint {name}"),
        Hook::Entry(name) | Hook::Exit(name) | Hook::Kprobe(name) | Hook::Kretprobe(name) => {
            format!("function {name} in its BTF")
        }
        Hook::Call => "function bpf_kallsyms_lookup_name".to_string(),
    }
}
