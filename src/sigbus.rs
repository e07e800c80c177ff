//! Survives a file that becomes shorter while it is mapped.
//!
//! A page of a map beyond the end of its file raises SIGBUS, which ends the process. No check before a read helps:
//! the file can shrink right after it. To read files by pread(2) instead of mapping them would copy every byte, and memory
//! would no longer be the page cache's. So the signal is handled: the rest of the map becomes zeros, the map is marked, and
//! the thread goes on. Zeros are not believed (checksums do not fit), and the caller, who asks [`Region::is_broken`], reports what happened.
//! libwayland does the same for the memory that its clients share with it. A disk that cannot be read raises the signal too.
//!
//! Other faults go to the handler that was there before (Rust's own), as if this one did not exist.
#![allow(unsafe_code, reason = "handles a signal")]

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// A mapped range of addresses. Never freed, because the handler may look at it at any time; used again.
#[derive(Debug)]
struct Node {
    /// 0 while nobody uses it.
    start: AtomicUsize,
    end: AtomicUsize,
    broken: AtomicBool,
    taken: AtomicBool,
    next: AtomicPtr<Node>,
}

static NODES: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
static PAGE: AtomicUsize = AtomicUsize::new(0);
/// The action from before, once the handler is installed; else the errno of why it could not be.
static BEFORE: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

/// A map that is guarded for as long as this lives.
#[derive(Debug)]
pub struct Region(&'static Node);

impl Region {
    /// Guards the map at this address. Errors are those of sigaction(2).
    pub fn guard(start: *const u8, len: usize) -> io::Result<Region> {
        install()?;
        let free = nodes().find(|node| !node.taken.swap(true, Ordering::Acquire));
        let node = free.unwrap_or_else(new_node);
        node.broken.store(false, Ordering::Relaxed);
        node.end.store(start as usize + len, Ordering::Relaxed);
        node.start.store(start as usize, Ordering::Release);
        Ok(Region(node))
    }

    /// Whether a part of the file was not there when it was read.
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
        self.0.taken.store(false, Ordering::Release);
    }
}

fn nodes() -> impl Iterator<Item = &'static Node> {
    let mut next = &NODES;
    std::iter::from_fn(move || {
        // SAFETY: nodes are made by `new_node` only, complete before they are in the list, and never freed.
        let node = unsafe { next.load(Ordering::Acquire).as_ref() }?;
        next = &node.next;
        Some(node)
    })
}

fn new_node() -> &'static Node {
    let node: &'static Node = Box::leak(Box::new(Node {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
        taken: AtomicBool::new(true),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut head = NODES.load(Ordering::Acquire);
    loop {
        node.next.store(head, Ordering::Relaxed);
        let new = ptr::from_ref(node).cast_mut();
        match NODES.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return node,
            Err(other) => head = other,
        }
    }
}

/// Installs the handler, once. An error is that of sigaction(2).
fn install() -> io::Result<()> {
    let installed = BEFORE.get_or_init(|| {
        // SAFETY: takes no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::Release);
        // SAFETY: all zero is a valid sigaction; both pointers are to locals; the handler has the signature that
        // SA_SIGINFO asks for, and does only what a handler may do.
        unsafe {
            let mut ours: libc::sigaction = std::mem::zeroed();
            let mut before: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_fault as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            match libc::sigaction(libc::SIGBUS, &ours, &mut before) {
                0 => Ok(before),
                _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            }
        }
    });
    match installed {
        Ok(_) => Ok(()),
        Err(errno) => Err(io::Error::from_raw_os_error(*errno)),
    }
}

extern "C" fn on_fault(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo_t, of a fault with its address.
    let at = unsafe { (*info).si_addr() } as usize;
    for node in nodes() {
        let (start, end) = (node.start.load(Ordering::Acquire), node.end.load(Ordering::Acquire));
        if start == 0 || !(start..end).contains(&at) {
            continue;
        }
        node.broken.store(true, Ordering::Release);
        let page = at & !(PAGE.load(Ordering::Acquire) - 1);
        // SAFETY: the range is a part of a map that its owner, a `Region`, keeps; nobody writes to it, and its reader
        // believes nothing of it without a checksum. mmap is a plain system call, which a handler may make.
        let zeros = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                end - page,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if zeros != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: the fault is raised again on return, and the handler from before has it.
    if let Some(Ok(before)) = BEFORE.get() {
        // SAFETY: the action was given by sigaction itself.
        unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
    }
}
