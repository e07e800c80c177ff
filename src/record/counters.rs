//! What the recorder's threads share besides blocks: counters for the status line, flags, and notes for the
//! user. Only numbers that may be a moment old; nothing here orders anything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::loss::Count;
use crate::format::RawBlock;
use crate::format::record::Loss;

/// A counter that several threads read.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request that one thread makes and another fulfils.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was raised since it was last taken.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Events and bytes that only grow.
#[derive(Debug, Default)]
pub struct Tally {
    events: Meter,
    bytes: Meter,
}

impl Tally {
    pub fn add(&self, count: Count) {
        self.events.add(count.events);
        self.bytes.add(count.bytes);
    }

    pub fn get(&self) -> Count {
        Count {
            events: self.events.get(),
            bytes: self.bytes.get(),
        }
    }
}

/// One for each recording.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events recorded, and bytes that went over sockets in them.
    pub events: Meter,
    pub bytes: Meter,
    /// Events missing, all reasons.
    pub missing: Meter,
    /// Bytes written to disk, all parts; and of the part being written.
    pub written: Meter,
    pub part_written: Meter,
    /// Parts begun.
    pub parts: Meter,
    /// Blocks that the disk refused, records beyond the size limit, and what fell out of the memory ring because it was full.
    pub disk_error: Tally,
    pub over_limit: Tally,
    pub overwritten: Tally,
    /// The sink wants a new part, because it cannot go on with this one.
    pub want_part: Flag,
    /// The sink lost state records; they have to be repeated.
    pub want_state: Flag,
    /// The size limit is reached.
    pub size_reached: Flag,
    /// Standard output was closed by its reader: nobody gets the lines, or the capture.
    pub print_closed: Flag,
    notes: Mutex<Vec<String>>,
    returned: Mutex<Vec<Loss>>,
    spares: Mutex<Vec<RawBlock>>,
}

/// Blocks kept for use again.
const SPARES_MAX: usize = 4;
/// Notes kept until they are printed; more of them would add nothing.
const NOTES_MAX: usize = 20;

impl Counters {
    /// A message for the user; printed by the status thread.
    pub fn note(&self, text: String) {
        if let Ok(mut notes) = self.notes.lock()
            && notes.len() < NOTES_MAX
        {
            notes.push(text);
        }
    }

    /// The losses that a block recorded did not reach the disk either, and have to be recorded again.
    pub fn return_losses(&self, block: &RawBlock) {
        if let Ok(mut returned) = self.returned.lock() {
            returned.extend(block.losses.iter().map(|total| Loss {
                time: block.last_time,
                since: block.first_time,
                reason: total.reason,
                events: total.events,
                bytes: total.bytes,
            }));
        }
    }

    pub fn take_returned(&self) -> Vec<Loss> {
        self.returned
            .lock()
            .map(|mut returned| std::mem::take(&mut *returned))
            .unwrap_or_default()
    }

    /// The memory of a block that has been written, for another one.
    pub fn give_spare(&self, block: RawBlock) {
        if let Ok(mut spares) = self.spares.lock()
            && spares.len() < SPARES_MAX
        {
            spares.push(block);
        }
    }

    pub fn take_spare(&self) -> Option<RawBlock> {
        self.spares.lock().ok().and_then(|mut spares| spares.pop())
    }

    pub fn take_notes(&self) -> Vec<String> {
        self.notes
            .lock()
            .map(|mut notes| std::mem::take(&mut *notes))
            .unwrap_or_default()
    }
}
