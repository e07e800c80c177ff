//! A connection whose bytes go through a chosen family of system calls.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::zeroed;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::Result;

use crate::sys::{self, check};
use crate::uring::Ring;

/// Which system calls carry the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Io {
    /// write and read.
    Plain,
    /// sendto and recvfrom.
    Send,
    /// sendto with an urgent byte in the middle; recvfrom passes over it.
    Urgent,
    /// writev and readv, several segments.
    Vector,
    /// writev with more segments (300) than one would expect; readv.
    ManySegments,
    /// sendmsg and recvmsg.
    Message,
    /// sendmmsg and recvmmsg, several messages.
    Batch,
    /// sendfile; read.
    Sendfile,
    /// splice out of a pipe; read.
    Splice,
    /// io_uring send and recv.
    #[value(name = "io-uring")]
    Uring,
    /// io_uring send and recv by the kernel's polling thread.
    #[value(name = "io-uring-sqpoll")]
    UringPolled,
}

impl Io {
    pub fn name(self) -> &'static str {
        match self {
            Io::Plain => "plain",
            Io::Send => "send",
            Io::Urgent => "urgent",
            Io::Vector => "vector",
            Io::ManySegments => "many-segments",
            Io::Message => "message",
            Io::Batch => "batch",
            Io::Sendfile => "sendfile",
            Io::Splice => "splice",
            Io::Uring => "io-uring",
            Io::UringPolled => "io-uring-sqpoll",
        }
    }

    /// Whether this kernel can do it, before anything is opened.
    pub fn check(self) -> Result<()> {
        self.ring().map(drop)
    }

    fn ring(self) -> Result<Option<Ring>> {
        Ok(match self {
            Io::Uring => Some(Ring::new(false)?),
            Io::UringPolled => Some(Ring::new(true)?),
            _ => None,
        })
    }
}

/// A connected socket.
pub struct Wire {
    stream: TcpStream,
    io: Io,
    ring: Option<Ring>,
    inbox: Vec<u8>,
    /// How much of `inbox` is used up.
    used: usize,
    /// Bytes sent and received so far.
    pub sent: u64,
    pub received: u64,
}

impl Wire {
    pub fn new(stream: TcpStream, io: Io) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            io,
            ring: io.ring()?,
            inbox: Vec::new(),
            used: 0,
            sent: 0,
            received: 0,
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = retry(|| self.send_some(rest))?;
            rest = &rest[n..];
            self.sent += n as u64;
        }
        Ok(())
    }

    fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.stream.as_raw_fd();
        match self.io {
            Io::Plain => (&self.stream).write(bytes),
            Io::Vector => (&self.stream).write_vectored(&slices(bytes, 3)),
            Io::ManySegments => (&self.stream).write_vectored(&slices(bytes, 300)),
            // SAFETY: pointer and length are those of `bytes`.
            Io::Send => check(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) }),
            Io::Urgent => {
                let (first, rest) = bytes.split_at(bytes.len() / 2);
                let first = [first, b"!"].concat();
                // SAFETY: pointers and lengths are those of `first` and of `rest`.
                unsafe {
                    let flags = libc::MSG_NOSIGNAL | libc::MSG_OOB;
                    check(libc::send(fd, first.as_ptr().cast(), first.len(), flags))?;
                    let n = check(libc::send(fd, rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL))?;
                    Ok(first.len() - 1 + n)
                }
            }
            Io::Message => {
                let mut parts = slices(bytes, 2);
                let message = message(parts.as_mut_ptr().cast(), parts.len());
                // SAFETY: the message points at `parts`, which point into `bytes`; both outlive the call.
                check(unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) })
            }
            Io::Batch => {
                let mut parts = slices(bytes, 3);
                let mut messages = batch(parts.as_mut_ptr().cast(), parts.len());
                let count = messages.len() as u32;
                // SAFETY: each message points at one element of `parts`, alive during the call.
                let n = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL as _) };
                let n = check(n as isize)?;
                Ok(messages[..n].iter().map(|m| m.msg_len as usize).sum())
            }
            Io::Sendfile => {
                let mut file = sys::memory_file()?;
                file.write_all(bytes)?;
                file.rewind()?;
                // SAFETY: both descriptors are open; a null offset means the file's own.
                check(unsafe { libc::sendfile(fd, file.as_raw_fd(), std::ptr::null_mut(), bytes.len()) })
            }
            Io::Splice => {
                let (from, mut to) = io::pipe()?;
                // A pipe holds 64 KiB; more would block, because nobody reads yet.
                let n = bytes.len().min(32 * 1024);
                to.write_all(&bytes[..n])?;
                let null = std::ptr::null_mut();
                // SAFETY: both descriptors are open; null offsets are what pipes and sockets want.
                check(unsafe { libc::splice(from.as_raw_fd(), null, fd, null, n, 0) })
            }
            Io::Uring | Io::UringPolled => match &mut self.ring {
                Some(ring) => ring.send(fd, bytes),
                None => Err(ErrorKind::Unsupported.into()),
            },
        }
    }

    fn receive_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let fd = self.stream.as_raw_fd();
        match self.io {
            Io::Plain | Io::Sendfile | Io::Splice => (&self.stream).read(bytes),
            Io::Vector | Io::ManySegments => (&self.stream).read_vectored(&mut slices_mut(bytes)),
            // SAFETY: pointer and length are those of `bytes`.
            Io::Send | Io::Urgent => check(unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) }),
            Io::Message => {
                let mut parts = slices_mut(bytes);
                let mut message = message(parts.as_mut_ptr().cast(), parts.len());
                // SAFETY: the message points at `parts`, which point into `bytes`; both outlive the call.
                check(unsafe { libc::recvmsg(fd, &raw mut message, 0) })
            }
            Io::Batch => {
                let mut parts = slices_mut(bytes);
                let mut messages = batch(parts.as_mut_ptr().cast(), parts.len());
                let (count, null) = (messages.len() as u32, std::ptr::null_mut());
                // SAFETY: each message points at one element of `parts`, alive during the call.
                let n = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_WAITFORONE as _, null) };
                let n = check(n as isize)?;
                // A short message leaves a hole in `bytes` before the next one.
                let (mut filled, mut start) = (0, 0);
                for (message, part) in messages[..n].iter().zip(part_lengths(bytes.len())) {
                    let len = message.msg_len as usize;
                    bytes.copy_within(start..start + len, filled);
                    filled += len;
                    start += part;
                }
                Ok(filled)
            }
            Io::Uring | Io::UringPolled => match &mut self.ring {
                Some(ring) => ring.receive(fd, bytes),
                None => Err(ErrorKind::Unsupported.into()),
            },
        }
    }

    /// Reads more into the inbox; false at the end of the stream.
    pub fn fill(&mut self) -> io::Result<bool> {
        self.inbox.drain(..self.used);
        self.used = 0;
        let mut chunk = [0; 64 * 1024];
        let n = retry(|| self.receive_some(&mut chunk))?;
        self.inbox.extend_from_slice(&chunk[..n]);
        self.received += n as u64;
        Ok(n > 0)
    }

    /// What was received and not used yet.
    pub fn pending(&self) -> &[u8] {
        &self.inbox[self.used..]
    }

    /// Uses up `n` pending bytes.
    pub fn consume(&mut self, n: usize) {
        self.used += n;
    }

    /// Exactly `n` bytes, used up.
    pub fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.pending().len() < n {
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let taken = self.pending()[..n].to_vec();
        self.consume(n);
        Ok(taken)
    }

    /// Uses up exactly `n` bytes without keeping them.
    pub fn skip(&mut self, mut n: usize) -> io::Result<()> {
        loop {
            let here = n.min(self.pending().len());
            self.consume(here);
            n -= here;
            if n == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Everything up to and with `end`, used up; `None` when the stream ends before its first byte.
    pub fn take_until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.pending().windows(end.len()).position(|w| w == end) {
                return self.take(at + end.len()).map(Some);
            }
            if !self.fill()? {
                return if self.pending().is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// `bytes` in at most `count` slices of unequal length, none empty.
fn slices(bytes: &[u8], count: usize) -> Vec<IoSlice<'_>> {
    let mut parts = Vec::with_capacity(count);
    let mut rest = bytes;
    // The kernel takes at most 1024 segments; one byte each makes the most of short messages.
    let step = if count > 16 {
        1
    } else {
        (bytes.len() / (count + 1)).max(1)
    };
    while parts.len() + 1 < count && rest.len() > step {
        let (head, tail) = rest.split_at(step);
        parts.push(IoSlice::new(head));
        rest = tail;
    }
    parts.push(IoSlice::new(rest));
    parts
}

/// How long the slices of [`slices_mut`] are.
fn part_lengths(len: usize) -> [usize; 3] {
    let (first, second) = (len.min(5), len.saturating_sub(5).min(90));
    [first, second, len - first - second]
}

/// `bytes` in three slices, the first two short, so that most messages span them.
fn slices_mut(bytes: &mut [u8]) -> [IoSliceMut<'_>; 3] {
    let [first, second, _] = part_lengths(bytes.len());
    let (a, rest) = bytes.split_at_mut(first);
    let (b, c) = rest.split_at_mut(second);
    [IoSliceMut::new(a), IoSliceMut::new(b), IoSliceMut::new(c)]
}

/// A message of `count` segments. `IoSlice` and `IoSliceMut` have the layout of `iovec`.
fn message(parts: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr (no address, no control data).
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = parts;
    message.msg_iovlen = count as _;
    message
}

/// `count` messages of one segment each.
fn batch(parts: *mut libc::iovec, count: usize) -> Vec<libc::mmsghdr> {
    // SAFETY: `parts` points at `count` segments.
    let each = |i| libc::mmsghdr {
        msg_hdr: message(unsafe { parts.add(i) }, 1),
        msg_len: 0,
    };
    (0..count).map(each).collect()
}
