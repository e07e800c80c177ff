//! One io_uring, one operation at a time, by raw system calls (io_uring_setup(2), io_uring_enter(2)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sys::check;

/// This kernel has no io_uring, or does not let us use it.
#[derive(Debug)]
pub struct Unavailable(String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "io_uring: {}", self.0)
    }
}

impl std::error::Error for Unavailable {}

const OP_SEND: u8 = 26;
const OP_RECV: u8 = 27;
const SETUP_SQPOLL: u32 = 1 << 1;
const SQ_NEED_WAKEUP: u32 = 1;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 2;
const OFFSET_CQ: i64 = 0x800_0000;
const OFFSET_SQES: i64 = 0x1000_0000;
const FEATURE_SQPOLL_NONFIXED: u32 = 1 << 7;

/// Where the fields of the submission ring lie (struct io_sqring_offsets).
#[repr(C)]
#[derive(Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_address: u64,
}

/// Where the fields of the completion ring lie (struct io_cqring_offsets).
#[repr(C)]
#[derive(Default)]
struct CompletionOffsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    overflow: u32,
    completions: u32,
    flags: u32,
    reserved: u32,
    user_address: u64,
}

/// struct io_uring_params.
#[repr(C)]
#[derive(Default)]
struct Params {
    submission_entries: u32,
    completion_entries: u32,
    flags: u32,
    thread_cpu: u32,
    thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    submission: SubmissionOffsets,
    completion: CompletionOffsets,
}

/// struct io_uring_sqe, as far as send and recv use it.
#[repr(C)]
#[derive(Default)]
struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// struct io_uring_cqe.
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(fd: &OwnedFd, len: usize, offset: i64) -> io::Result<Self> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
        );
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            start: start.cast(),
            len,
        })
    }

    /// The counter at this offset, which the kernel reads or writes too.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel gave the offset; it lies within the mapping and is aligned.
        unsafe { &*self.start.add(offset as usize).cast::<AtomicU32>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap gave; no reference outlives `self`.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

pub struct Ring {
    fd: OwnedFd,
    submission_ring: Mapping,
    completion_ring: Mapping,
    submissions: Mapping,
    params: Params,
}

// SAFETY: the ring is used by one thread at a time (`&mut self`); the kernel does not mind which.
unsafe impl Send for Ring {}

impl Ring {
    /// A small ring. `polled`: a kernel thread picks up what is submitted.
    pub fn new(polled: bool) -> Result<Self, Unavailable> {
        let mut params = Params::default();
        if polled {
            params.flags = SETUP_SQPOLL;
            params.thread_idle = 1;
        }
        let unavailable = |error: io::Error| Unavailable(error.to_string());
        // SAFETY: `params` is a whole struct io_uring_params; the descriptor returned is new.
        let fd = unsafe {
            let fd = check(libc::syscall(libc::SYS_io_uring_setup, 4u32, &raw mut params) as isize);
            OwnedFd::from_raw_fd(fd.map_err(unavailable)? as i32)
        };
        if polled && params.features & FEATURE_SQPOLL_NONFIXED == 0 {
            return Err(Unavailable("polling needs registered files on this kernel".into()));
        }
        let submission_len = params.submission.array as usize + params.submission_entries as usize * 4;
        let completion_len =
            params.completion.completions as usize + params.completion_entries as usize * size_of::<Completion>();
        let submissions_len = params.submission_entries as usize * size_of::<Submission>();
        Ok(Ring {
            submission_ring: Mapping::new(&fd, submission_len, 0).map_err(unavailable)?,
            completion_ring: Mapping::new(&fd, completion_len, OFFSET_CQ).map_err(unavailable)?,
            submissions: Mapping::new(&fd, submissions_len, OFFSET_SQES).map_err(unavailable)?,
            fd,
            params,
        })
    }

    pub fn send(&mut self, fd: i32, bytes: &[u8]) -> io::Result<usize> {
        self.run(
            OP_SEND,
            fd,
            bytes.as_ptr() as u64,
            bytes.len(),
            libc::MSG_NOSIGNAL as u32,
        )
    }

    pub fn receive(&mut self, fd: i32, bytes: &mut [u8]) -> io::Result<usize> {
        self.run(OP_RECV, fd, bytes.as_mut_ptr() as u64, bytes.len(), 0)
    }

    /// Submits one operation and waits for it.
    fn run(&mut self, opcode: u8, fd: i32, address: u64, len: usize, op_flags: u32) -> io::Result<usize> {
        let (submission, completion) = (&self.params.submission, &self.params.completion);
        let tail = self.submission_ring.word(submission.tail);
        let at = tail.load(Ordering::Relaxed);
        let slot = at & self.submission_ring.word(submission.mask).load(Ordering::Relaxed);
        let len = len.min(1 << 30) as u32;
        let entry = Submission {
            opcode,
            fd,
            address,
            len,
            op_flags,
            user_data: u64::from(at),
            ..Submission::default()
        };
        // SAFETY: the slot is masked to the ring's size, and free: each operation is waited for before the next.
        unsafe {
            self.submissions
                .start
                .cast::<Submission>()
                .add(slot as usize)
                .write(entry)
        };
        self.submission_ring
            .word(submission.array + slot * 4)
            .store(slot, Ordering::Relaxed);
        tail.store(at.wrapping_add(1), Ordering::Release);

        let polled = self.params.flags & SETUP_SQPOLL != 0;
        fence(Ordering::SeqCst);
        let asleep = self.submission_ring.word(submission.flags).load(Ordering::Relaxed) & SQ_NEED_WAKEUP != 0;
        let mut flags = ENTER_GETEVENTS;
        if polled && asleep {
            flags |= ENTER_SQ_WAKEUP;
        }
        let head = self.completion_ring.word(completion.head);
        let done = head.load(Ordering::Relaxed);
        let mut to_submit = 1u32;
        while self.completion_ring.word(completion.tail).load(Ordering::Acquire) == done {
            // SAFETY: the buffer is borrowed by our caller until the operation has completed.
            let entered = unsafe {
                let (fd, null) = (self.fd.as_raw_fd(), std::ptr::null::<u8>());
                check(libc::syscall(libc::SYS_io_uring_enter, fd, to_submit, 1u32, flags, null, 0usize) as isize)
            };
            match entered {
                Ok(_) => to_submit = 0,
                // Interrupted while waiting: what was submitted stays submitted.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mask = self.completion_ring.word(completion.mask).load(Ordering::Relaxed);
        // SAFETY: the index is masked to the ring's size, and the kernel has published this entry.
        let result = unsafe {
            let entries = self
                .completion_ring
                .start
                .add(completion.completions as usize)
                .cast::<Completion>();
            (*entries.add((done & mask) as usize)).result
        };
        head.store(done.wrapping_add(1), Ordering::Release);
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }
}
