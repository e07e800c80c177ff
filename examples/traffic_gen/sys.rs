//! System calls that the standard library does not offer.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The result of a system call that returns a count or -1.
pub fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A file that lives in memory only.
pub fn memory_file() -> io::Result<std::fs::File> {
    // SAFETY: the name is a NUL-terminated literal; the descriptor returned is new and owned by nobody else.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_memfd_create, c"traffic_gen".as_ptr(), 0u32) as isize)?;
        Ok(std::fs::File::from_raw_fd(fd as i32))
    }
}

/// The kernel's id of this thread.
pub fn thread_id() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// An address as the kernel takes it.
pub struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    pub fn new(address: SocketAddr) -> Self {
        // SAFETY: all-zero bytes are a valid sockaddr_storage, and it is large and aligned enough for both families.
        unsafe {
            let mut storage: libc::sockaddr_storage = zeroed();
            let len = match address {
                SocketAddr::V4(v4) => {
                    let to = &mut *(&raw mut storage).cast::<libc::sockaddr_in>();
                    to.sin_family = libc::AF_INET as libc::sa_family_t;
                    to.sin_port = v4.port().to_be();
                    to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                    size_of::<libc::sockaddr_in>()
                }
                SocketAddr::V6(v6) => {
                    let to = &mut *(&raw mut storage).cast::<libc::sockaddr_in6>();
                    to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                    to.sin6_port = v6.port().to_be();
                    to.sin6_addr.s6_addr = v6.ip().octets();
                    size_of::<libc::sockaddr_in6>()
                }
            };
            RawAddress {
                storage,
                len: len as libc::socklen_t,
            }
        }
    }
}

/// A TCP socket that is neither connected nor listening.
pub fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: plain integers; the descriptor returned is new and owned by nobody else.
    unsafe {
        let fd = check(libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) as isize)?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// bind(2).
pub fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let raw = RawAddress::new(address);
    // SAFETY: the pointer and its length describe one live sockaddr_storage.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw.storage).cast(), raw.len) } as isize).map(drop)
}

/// listen(2).
pub fn listen(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) } as isize).map(drop)
}

/// connect(2), blocking.
pub fn connect(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let raw = RawAddress::new(address);
    // SAFETY: the pointer and its length describe one live sockaddr_storage.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw.storage).cast(), raw.len) } as isize).map(drop)
}

/// The address that the kernel gave a bound socket.
pub fn local_address(socket: OwnedFd) -> io::Result<(SocketAddr, OwnedFd)> {
    let stream = TcpStream::from(socket);
    let address = stream.local_addr()?;
    Ok((address, OwnedFd::from(stream)))
}

/// setsockopt(2) with an integer or another plain value.
pub fn set_option<T>(socket: &impl AsRawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), len) };
    check(result as isize).map(drop)
}

/// From now on closing this socket sends a RST.
pub fn reset_on_close(socket: &impl AsRawFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}
