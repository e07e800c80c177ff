//! The rights that file capabilities lend to the user who runs the program, and when they are used.
//!
//! With CAP_DAC_READ_SEARCH (docs/PRIVACY.md) the program may read every file; the user who runs it may not. So that
//! right is put aside when the program begins, and taken up only where the host's own files are read ([`read_all`]): never
//! for a path that the user gave. Root has it without capabilities, and keeps it.

use std::marker::PhantomData;

use super::sys::{self, Capabilities};

/// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH of <linux/capability.h>.
const READ_ALL: u64 = 1 << 1 | 1 << 2;

/// Whether the program has rights that its user has not.
pub fn are_lent() -> bool {
    !sys::is_root() && sys::capabilities().is_ok_and(|own| own.permitted != 0)
}

/// For commands that need none of them: gives all of them back.
pub fn give_back() {
    if are_lent() {
        let _ = sys::set_capabilities(Capabilities::default());
    }
}

/// For all others: puts aside the right to read everything. Before any thread is started, for each has its own rights.
pub fn put_aside() {
    if are_lent() {
        change(|own| own.effective & !READ_ALL);
    }
}

fn change(effective: impl FnOnce(&Capabilities) -> u64) {
    if let Ok(own) = sys::capabilities() {
        let effective = effective(&own);
        let _ = sys::set_capabilities(Capabilities { effective, ..own });
    }
}

/// As long as this lives, its thread has the right to read everything, if the program has it.
#[must_use]
pub struct ReadAll {
    was_lent: bool,
    _on_one_thread: PhantomData<*const ()>,
}

/// Takes up the right to read everything, for files that are the host's own.
pub fn read_all() -> ReadAll {
    let was_lent = are_lent() && sys::capabilities().is_ok_and(|own| own.effective & READ_ALL == 0);
    if was_lent {
        change(|own| own.effective | (own.permitted & READ_ALL));
    }
    ReadAll {
        was_lent,
        _on_one_thread: PhantomData,
    }
}

impl Drop for ReadAll {
    fn drop(&mut self) {
        if self.was_lent {
            change(|own| own.effective & !READ_ALL);
        }
    }
}
