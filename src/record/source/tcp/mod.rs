//! The source `tcp`: sockets and the bytes that go over them. It has four ways of seeing the bytes, one for each backend; how
//! sockets open and end is recorded in the same way by all.

mod selftest;
pub mod wire;

use libbpf_rs::ProgramType;

use super::Source;
use super::config::Backend;
use super::plan::{FIND_PAGES, Hook, Kernel, Part, Planned, STATE_NOPREEMPT, Skipped, may, must};
use super::wire::loss;

/// See the module.
pub(super) const SOURCE: Source = Source {
    kinds: wire::kind::SOCKET..=wire::kind::DATA,
    decode: wire::decode,
    plan,
    counters: &[loss::RING_FULL, loss::MAP_FULL, loss::PAGE_FAULT, loss::TRUNCATED],
    test: Some(selftest::run),
    program_types: &[
        ("raw_tracepoint", ProgramType::RawTracepoint),
        ("tracing", ProgramType::Tracing),
        ("kprobe", ProgramType::Kprobe),
    ],
    blind_spots: |kernel, backend| {
        let sends = kernel.has(Hook::Tracepoint("tcp_sendmsg_locked"));
        blind_spots(backend, sends, cfg!(target_arch = "x86_64"))
    },
};

/// All of its programs.
#[cfg(test)]
pub(super) const PROGRAMS: &[&[Planned]] = &[LIFECYCLE, &[STATE_CHANGED_NOPREEMPT], FEXIT, SOCKTP, KPROBE, SYSTP];

const LIFECYCLE: &[Planned] = &[
    must("state_changed", STATE).skipped(Skipped::MissingFromAll),
    must("socket_destroyed", Hook::Tracepoint("tcp_destroy_sock")).skipped(Skipped::Harmless),
    may("retransmitted", Hook::Tracepoint("tcp_retransmit_skb")),
];

/// Where tracepoints can be preempted, two programs run at each change of state: each sees what the other cannot.
const STATE: Hook = Hook::Tracepoint("inet_sock_set_state");
const STATE_CHANGED_NOPREEMPT: Planned =
    must(STATE_NOPREEMPT, Hook::Event("sock", "inet_sock_set_state")).skipped(Skipped::MissingFromAll);

/// Both run when a send begins; the tracepoint costs less.
const SEND_BEGAN: Planned = may("send_began", Hook::Tracepoint("tcp_sendmsg_locked"))
    .or("send_began_nopreempt", Hook::Kprobe("tcp_sendmsg_locked"));
const FENTRY_SEND_BEGAN: &str = "fentry_send_began";

const FEXIT: &[Planned] = &[
    must("fexit_sent4", Hook::Exit("inet_sendmsg")),
    must("fexit_sent6", Hook::Exit("inet6_sendmsg")),
    must("fexit_received4", Hook::Exit("inet_recvmsg")),
    must("fexit_received6", Hook::Exit("inet6_recvmsg")),
    may("fexit_page_sent", Hook::Exit("tcp_sendpage")),
    may("fexit_spliced", Hook::Exit("tcp_splice_read")),
    SEND_BEGAN,
    may(FENTRY_SEND_BEGAN, Hook::Entry("tcp_sendmsg_locked")),
    may(FIND_PAGES, Hook::Call),
];

const SOCKTP: &[Planned] = &[
    must("socktp_sent", Hook::Tracepoint("sock_send_length"))
        .or("socktp_sent_nopreempt", Hook::Event("sock", "sock_send_length")),
    must("socktp_received", Hook::Tracepoint("sock_recv_length"))
        .or("socktp_received_nopreempt", Hook::Event("sock", "sock_recv_length")),
    SEND_BEGAN,
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

const SYSTP: &[Planned] = &[must("systp_returned", Hook::Tracepoint("sys_exit"))
    .or("systp_returned_nopreempt", Hook::Event("raw_syscalls", "sys_exit"))];

const FUNCTIONS_PREEMPTED: &str = "this kernel is preemptible: while a task is preempted in one of its programs, what other \
                                   tasks do on that CPU is missed";
const TRACEPOINTS_PREEMPTED: &str = "tracepoints of this kernel are preemptible: while a task is preempted in one of its \
                                     programs, what other tasks do on that CPU is missed; tracefs would help";

/// The programs of this backend that can be used here; or what the kernel lacks.
fn plan(kernel: &Kernel, backend: Backend) -> Result<Part, String> {
    let own = match backend {
        Backend::Fexit => FEXIT,
        Backend::Socktp => SOCKTP,
        Backend::Kprobe => KPROBE,
        Backend::Systp => SYSTP,
    };
    let mut programs = kernel.usable(LIFECYCLE.iter().chain(own))?;
    if programs.iter().any(|planned| planned.program.starts_with("send_began")) {
        programs.retain(|planned| planned.program != FENTRY_SEND_BEGAN);
    }
    let disturbed = kernel.preempts_tracepoints;
    if disturbed && kernel.has(STATE_CHANGED_NOPREEMPT.hook) {
        programs.push(STATE_CHANGED_NOPREEMPT);
    }
    let preempted = |planned: &Planned| {
        disturbed && planned.required && matches!(planned.hook, Hook::Tracepoint(_)) && programs.contains(planned)
    };
    let inexact = match backend {
        Backend::Fexit if kernel.preemptible => Some(FUNCTIONS_PREEMPTED),
        _ => own.iter().any(preempted).then_some(TRACEPOINTS_PREEMPTED),
    };
    Ok(Part { programs, inexact })
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
