//! The live lines again, from a file, in order of time.
//!
//! Events of several processors do not come in order, and an exchange has its line when it is over: lines wait until nothing
//! earlier can come. For what is stored, the times of the blocks say so; for exchanges, that none is open that began before.
//! An exchange may be open for hours, so no more than [`WAITING`] lines wait: beyond, the earliest is printed, and only a line
//! that is later than so many others can come out of order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::engine::Source;
use super::live::{self, Line, Live};
use crate::format::BlockRef;
use crate::mapped::Mapped;
use crate::message;
use crate::stdout;
use crate::units::Speed;

/// Blocks that are read together.
const BLOCKS: usize = 2;
/// Lines that wait for earlier ones, about 40 MB.
const WAITING: usize = 1 << 18;

/// Prints the lines of a capture. Returns whether all that happened is in it and could be read; if not, that was said.
pub fn replay(path: &Path, speed: Speed, out: &mut dyn Write) -> Result<bool> {
    let mapped = Mapped::open(path)?;
    let reader = mapped.reader()?;
    let mut live = Live::new(reader.header());
    let mut pace = Pace { speed, began: None };
    let mut waiting = Waiting::default();
    let sources: Vec<Source<'_>> = reader.blocks().iter().copied().map(Source::Stored).collect();
    let mut batches = sources.chunks(BLOCKS).zip(unread_from(reader.blocks()));
    let printed = batches.try_for_each(|(batch, unread)| {
        waiting.add(live.lines(batch));
        // What is under way at the end is told when the recording is over.
        let settled = live
            .settled_until()
            .min(unread.map_or(u64::MAX, |unread| live.utc(unread)));
        pace.print(&waiting.take(settled, WAITING), out)
    });
    let (lines, is_whole) = live.finish();
    stdout::unless_unread(printed.and_then(|()| {
        waiting.add(lines);
        pace.print(&waiting.take(u64::MAX, 0), out)
    }))?;
    mapped.check_whole()?;
    let is_undamaged = reader.clean_end() && !reader.damage().iter().any(|damage| damage.loses());
    if !is_whole || !is_undamaged {
        let name = mapped.name();
        message::say(&format!(
            "data of {name} was lost or damaged: mdf info says what, and how much"
        ));
    }
    Ok(is_whole && is_undamaged)
}

/// For each batch: the earliest time of all blocks after it, by the boot clock; nothing after the last.
fn unread_from(blocks: &[BlockRef<'_>]) -> Vec<Option<u64>> {
    let mut earliest = None;
    let mut times: Vec<Option<u64>> = blocks
        .chunks(BLOCKS)
        .rev()
        .map(|batch| {
            let times = batch.iter().map(BlockRef::first_time).chain(earliest);
            let with_these = times.min();
            std::mem::replace(&mut earliest, with_these)
        })
        .collect();
    times.reverse();
    times
}

/// Lines that are held back, the earliest on top; of one time, the one that came first.
#[derive(Default)]
struct Waiting {
    lines: BinaryHeap<Reverse<(u64, u64, String)>>,
    came: u64,
}

impl Waiting {
    fn add(&mut self, lines: Vec<Line>) {
        for Line { time, text } in lines {
            self.lines.push(Reverse((time, self.came, text)));
            self.came += 1;
        }
    }

    /// The lines before this time (UTC, ns), and the earliest of more than `limit`.
    fn take(&mut self, before: u64, limit: usize) -> Vec<Line> {
        let mut taken = Vec::new();
        while let Some(Reverse((time, _, _))) = self.lines.peek()
            && (*time < before || self.lines.len() > limit)
            && let Some(Reverse((time, _, text))) = self.lines.pop()
        {
            taken.push(Line { time, text });
        }
        taken
    }
}

/// Holds lines back until it is their turn.
struct Pace {
    speed: Speed,
    /// The time of the first line, and when it was printed.
    began: Option<(u64, Instant)>,
}

impl Pace {
    fn print(&mut self, lines: &[Line], out: &mut dyn Write) -> Result<()> {
        let Speed::Times(times) = self.speed else {
            return Ok(live::print(lines, out)?);
        };
        for line in lines {
            let (first, started) = *self.began.get_or_insert((line.time, Instant::now()));
            let due = Duration::from_nanos((line.time.saturating_sub(first) as f64 / times) as u64);
            thread::sleep(due.saturating_sub(started.elapsed()));
            live::print(std::slice::from_ref(line), out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: u64) -> Line {
        let text = time.to_string();
        Line { time, text }
    }

    #[test]
    fn lines_wait_for_earlier_ones_but_not_without_end() {
        let mut waiting = Waiting::default();
        waiting.add(vec![line(5), line(3), line(9)]);
        assert_eq!(waiting.take(5, 10), [line(3)]);
        waiting.add(vec![line(4), line(8)]);
        assert_eq!(waiting.take(5, 10), [line(4)]);
        assert_eq!(waiting.take(0, 2), [line(5)]);
        assert_eq!(waiting.take(u64::MAX, 0), [line(8), line(9)]);
        let mut same = line(1);
        same.text = "second".into();
        waiting.add(vec![line(1), same.clone()]);
        assert_eq!(waiting.take(u64::MAX, 0), [line(1), same]);
    }
}
