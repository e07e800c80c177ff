//! The few calls to the C library that the standard library does not offer. Each is one call and its reason.
//!
//! Nothing here knows what the recorder does with the answers.
#![allow(unsafe_code, reason = "calls to the C library")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::libbpf_sys::{PERF_FLAG_FD_CLOEXEC, PERF_TYPE_TRACEPOINT, perf_event_attr};

use super::timens;
use super::user::User;
pub use crate::caller::user;
use crate::format::record::Clock;

/// One of the kernel's clocks, ns.
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call fills; the clock ids used here exist since Linux 2.6.39, so the
    // call cannot fail, and would leave zero if it did.
    unsafe { libc::clock_gettime(clock, &mut time) };
    u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The host's CLOCK_BOOTTIME, ns: the clock of all records.
pub fn boot_ns() -> u64 {
    timens::host_boot(clock_ns(libc::CLOCK_BOOTTIME))
}

/// The host's three clocks, read as closely together as one thread can.
///
/// The boot clock is read before and after the others and the tightest of a few tries is kept, so that being
/// scheduled out in between does not shift the conversion to calendar time.
pub fn clocks() -> Clock {
    let mut best = (
        u64::MAX,
        Clock {
            boot: 0,
            monotonic: 0,
            realtime: 0,
        },
    );
    for _ in 0..4 {
        let before = boot_ns();
        let monotonic = timens::remove_offset(clock_ns(libc::CLOCK_MONOTONIC), timens::offsets().monotonic);
        let realtime = clock_ns(libc::CLOCK_REALTIME);
        let width = boot_ns().saturating_sub(before);
        if width < best.0 {
            best = (
                width,
                Clock {
                    boot: before + width / 2,
                    monotonic,
                    realtime,
                },
            );
        }
    }
    best.1
}

/// How many files this process may have open.
pub fn open_files_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit that the call fills; it cannot fail for a resource that exists.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes two integers; a positive pid addresses exactly one process.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor that refers to this process for ever, whatever process has its pid later. Since Linux 5.3.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: two integers.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        // SAFETY: a new descriptor of ours.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that a descriptor refers to.
pub fn pidfd_send_signal(process: &OwnedFd, signal: i32) -> io::Result<()> {
    let no_details = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a descriptor that is open, an integer, and nothing that is read or written.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_details, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether an open file is a network namespace: the kernel says of which kind it is (ioctl_ns(2), since Linux 4.11).
pub fn is_network_namespace(file: &File) -> bool {
    // SAFETY: a descriptor that is open, and a request without an argument.
    unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) == libc::CLONE_NEWNET }
}

// linux/nsfs.h
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Whether a process is in this process's group: to both of them a terminal sends its signals.
pub fn is_in_own_group(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: both take integers and return one.
    unsafe { libc::getpgid(pid) == libc::getpgrp() }
}

/// Whether a signal was ignored when this process was started, as nohup(1) has it; to be asked before it is handled.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid sigaction, which the call fills; nothing is changed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Makes the calling process, which has one thread, another user's. Only makes system calls.
pub fn become_user(user: &User) -> io::Result<()> {
    // SAFETY: the list of groups has the length that is given; the rest are integers.
    let done = unsafe {
        libc::setgroups(user.groups.len(), user.groups.as_ptr()) == 0
            && libc::setgid(user.gid) == 0
            && libc::setuid(user.uid) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Mounts a file system of the kernel's own where nobody else sees it; it goes away with what is returned. Since Linux 5.2.
pub fn mount_apart(kind: &CStr) -> io::Result<OwnedFd> {
    let fd = |result: libc::c_long| match result {
        // SAFETY: these calls return a new descriptor of ours, or a negative number.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(result as i32) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: `kind` ends with a NUL byte; the call takes it and flags.
    let context = fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    if unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            nothing,
            nothing,
            0,
        )
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: three integers.
    fd(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

// linux/mount.h
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// Opens a trace event by the number that tracefs gives for it.
pub fn trace_event(id: u64) -> io::Result<OwnedFd> {
    let attributes = perf_event_attr {
        type_: PERF_TYPE_TRACEPOINT,
        size: size_of::<perf_event_attr>() as u32,
        config: id,
        ..Default::default()
    };
    let (every_process, cpu, no_group) = (-1, 0, -1);
    // SAFETY: the attributes say how long they are, and outlive the call; the rest are integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            every_process,
            cpu,
            no_group,
            libc::c_ulong::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    match result {
        // SAFETY: a new descriptor of ours.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(result as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread this nice value; -20 is the most urgent. Without the right to, it stays as it was.
///
/// On Linux, PRIO_PROCESS with 0 is the calling thread, not the process (setpriority(2), "C library/kernel differences").
pub fn set_priority(nice: i32) {
    // SAFETY: setpriority takes three integers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// Whether this process has root's rights.
pub fn is_root() -> bool {
    user() == 0
}

/// The capabilities of a thread: those in force, those it may put in force, those it may pass on. Bits by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

// linux/capability.h
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Those of the calling thread.
pub fn capabilities() -> io::Result<Capabilities> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // The lower and the upper 32 bits of each: effective, permitted, inheritable.
    let mut words = [[0u32; 3]; 2];
    // SAFETY: the header says version 3, for which the call writes two structs of three words.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let whole = |n: usize| u64::from(words[0][n]) | u64::from(words[1][n]) << 32;
    Ok(Capabilities {
        effective: whole(0),
        permitted: whole(1),
        inheritable: whole(2),
    })
}

/// Changes those of the calling thread; it cannot have more than it was permitted.
pub fn set_capabilities(to: Capabilities) -> io::Result<()> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let all = [to.effective, to.permitted, to.inheritable];
    let words = [all.map(|bits| bits as u32), all.map(|bits| (bits >> 32) as u32)];
    // SAFETY: the header says version 3, for which the call reads two structs of three words.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a path below a folder, resolved as the RESOLVE_ flags of openat2(2) say. Since Linux 5.6.
pub fn open_below(folder: BorrowedFd<'_>, path: &Path, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all bytes zero are a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: the path ends with a NUL byte, and the struct says how long it is; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            folder.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    match result {
        // SAFETY: a new descriptor of ours.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(result as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_that_proc_tells() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let bits = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let own = capabilities().unwrap();
        assert_eq!(own.effective, bits("CapEff:"));
        assert_eq!((own.permitted, own.inheritable), (bits("CapPrm:"), bits("CapInh:")));
        set_capabilities(own).unwrap();
        assert_eq!(capabilities().unwrap(), own);
    }

    #[test]
    fn clocks_are_read_together_and_run_forwards() {
        let first = clocks();
        let second = clocks();
        assert!(first.boot > 0 && first.realtime > first.monotonic);
        assert!(
            first.boot >= first.monotonic,
            "the boot clock counts suspended time too"
        );
        assert!(second.boot >= first.boot);
    }

    #[test]
    fn a_signal_goes_to_exactly_one_process() {
        assert!(signal(0, 0).is_err(), "0 would be the whole process group");
        assert!(signal(std::process::id(), 0).is_ok());
    }
}
