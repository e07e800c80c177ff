//! The descriptors that this process was given when it was started, by the names that a user has for them.
#![allow(unsafe_code, reason = "copies descriptors that it was given")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;

/// The descriptor that an output of this name means, if it means one.
pub fn named(path: &Path) -> Option<i32> {
    let text = path.to_str()?;
    match text {
        "-" | "/dev/stdout" => Some(libc::STDOUT_FILENO),
        "/dev/stderr" => Some(libc::STDERR_FILENO),
        _ => {
            let number = text.strip_prefix("/dev/fd/").or(text.strip_prefix("/proc/self/fd/"))?;
            number.parse().ok()
        }
    }
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
