//! The few calls to the C library that the standard library does not offer. Each is one call and its reason.
//!
//! Nothing here knows what the recorder does with the answers.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{PERF_FLAG_FD_CLOEXEC, PERF_TYPE_TRACEPOINT, perf_event_attr};

use super::user::User;
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

/// CLOCK_BOOTTIME, ns: the clock of all records.
pub fn boot_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// The three clocks, read as closely together as one thread can.
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
        let monotonic = clock_ns(libc::CLOCK_MONOTONIC);
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

/// The real and the effective user of this process.
pub fn user() -> (u32, u32) {
    // SAFETY: no arguments, and they cannot fail.
    unsafe { (libc::getuid(), libc::geteuid()) }
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

/// A descriptor that this process was given when it was started, once more.
pub fn given(descriptor: i32) -> io::Result<File> {
    // SAFETY: these commands take an integer; a number that is no descriptor is an error.
    let copy = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFD);
        // Those that this process opened itself are closed by exec; what it was given has passed one.
        match flags & libc::FD_CLOEXEC {
            _ if flags < 0 => -1,
            0 => libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3),
            _ => return Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    };
    match copy {
        // SAFETY: a new descriptor of ours.
        0.. => Ok(unsafe { File::from_raw_fd(copy) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has writes to this file wait until they can be done, although it was opened with O_NONBLOCK.
pub fn let_wait(file: &File) -> io::Result<()> {
    // SAFETY: a descriptor that is open, and integers.
    let done = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK)
    };
    match done {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
pub fn hurry(nice: i32) {
    // SAFETY: setpriority takes three integers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

#[cfg(test)]
mod tests {
    use super::*;

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
