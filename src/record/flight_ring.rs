//! The memory ring of `--ring`: the last seconds of events, compressed, until somebody asks for them.
//!
//! State is not kept here: the live state remembers what ended within the same time and goes before the events.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::loss::{Count, event_count};
use crate::format::{Class, RawBlock};

/// Memory matters more than time here, and most of what is kept is never written: the cheapest level.
const LEVEL: i32 = 1;

/// A block whose records are compressed.
#[derive(Debug)]
pub struct Packed {
    block: RawBlock,
    raw_len: usize,
    count: Count,
}

impl Packed {
    fn new(block: &RawBlock) -> io::Result<Self> {
        let bytes = zstd::bulk::compress(&block.bytes, LEVEL)?;
        // The facts of the block are kept as they are; only the records are replaced.
        let packed = RawBlock { bytes, ..facts(block) };
        let count = event_count(block);
        Ok(Packed {
            block: packed,
            raw_len: block.bytes.len(),
            count,
        })
    }

    /// The block as it was.
    pub fn unpack(self) -> io::Result<RawBlock> {
        let bytes = zstd::bulk::decompress(&self.block.bytes, self.raw_len)?;
        Ok(RawBlock { bytes, ..self.block })
    }

    /// Its events.
    pub fn count(&self) -> Count {
        self.count
    }
}

fn facts(block: &RawBlock) -> RawBlock {
    RawBlock {
        class: block.class,
        bytes: Vec::new(),
        records: block.records,
        first_time: block.first_time,
        last_time: block.last_time,
        counts: block.counts,
        data_bytes: block.data_bytes,
        payload_bytes: block.payload_bytes,
        sockets: block.sockets,
        pids: block.pids,
        losses: block.losses.clone(),
    }
}

/// See the module.
#[derive(Debug)]
pub struct FlightRing {
    blocks: VecDeque<Packed>,
    len: usize,
    age_ns: u64,
    max: usize,
}

impl FlightRing {
    /// Keeps events of this age, in at most `max` bytes.
    pub fn new(age: Duration, max: usize) -> Self {
        FlightRing {
            blocks: VecDeque::new(),
            len: 0,
            age_ns: u64::try_from(age.as_nanos()).unwrap_or(u64::MAX),
            max,
        }
    }

    /// Keeps a block of events and lets go of what is too old. Returns what had to go although it was not: the bound on
    /// memory was reached.
    pub fn push(&mut self, block: &RawBlock) -> Count {
        let mut overwritten = Count::default();
        if block.class != Class::Events || block.records == 0 {
            return overwritten;
        }
        match Packed::new(block) {
            Ok(packed) => {
                self.len += packed.block.bytes.len();
                self.blocks.push_back(packed);
            }
            Err(_) => return event_count(block),
        }
        let oldest = block.last_time.saturating_sub(self.age_ns);
        while let Some(front) = self.blocks.front() {
            let too_old = front.block.last_time < oldest;
            if !too_old && (self.len <= self.max || self.blocks.len() == 1) {
                break;
            }
            self.len -= front.block.bytes.len();
            if !too_old {
                overwritten.events += front.count.events;
                overwritten.bytes += front.count.bytes;
            }
            self.blocks.pop_front();
        }
        overwritten
    }

    /// Everything that is kept, oldest first; the ring is empty afterwards.
    pub fn take(&mut self) -> VecDeque<Packed> {
        self.len = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Compressed bytes kept.
    pub fn bytes(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlockBuilder;
    use crate::format::record::{Exit, Record};

    fn block(time: u64, events: u32) -> RawBlock {
        let mut builder = BlockBuilder::new(Class::Events);
        for n in 0..events {
            // Numbers that do not compress to nothing.
            let pid = (n + 1).wrapping_mul(2_654_435_761);
            builder.push(&Record::Exit(Exit {
                time,
                pid,
                start: u64::from(pid) << 20,
                status: 0,
            }));
        }
        builder.take()
    }

    #[test]
    fn a_block_comes_back_as_it_went_in() {
        let mut flight_ring = FlightRing::new(Duration::from_nanos(100), 1 << 20);
        let original = block(5, 100);
        flight_ring.push(&original);
        let mut taken = flight_ring.take();
        assert_eq!(taken.pop_front().unwrap().unpack().unwrap(), original);
        assert_eq!((flight_ring.bytes(), flight_ring.blocks.len()), (0, 0));
    }

    #[test]
    fn what_is_too_old_goes_and_is_no_loss() {
        let mut flight_ring = FlightRing::new(Duration::from_nanos(100), 1 << 20);
        for time in [0, 50, 100, 151] {
            assert!(flight_ring.push(&block(time, 3)).is_zero());
        }
        let times: Vec<u64> = flight_ring
            .take()
            .iter()
            .map(|packed| packed.block.first_time)
            .collect();
        assert_eq!(times, [100, 151]);
    }

    #[test]
    fn what_goes_for_want_of_room_is_counted_and_one_block_always_stays() {
        let mut flight_ring = FlightRing::new(Duration::from_secs(1), 10);
        assert!(flight_ring.push(&block(0, 100)).is_zero());
        assert_eq!(flight_ring.push(&block(1, 7)).events, 100);
        assert_eq!(flight_ring.take().len(), 1);
    }
}
