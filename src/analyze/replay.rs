//! The live lines again, from a file.

use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::engine::Source;
use super::live::{self, Line, Live};
use crate::mapped::Mapped;
use crate::units::Speed;

/// Blocks that are read together; their lines come in order of time.
const BLOCKS: usize = 2;

/// Prints the lines of a capture. Returns whether all of the file could be read.
pub fn replay(path: &Path, speed: Speed, out: &mut dyn Write) -> Result<bool> {
    let mapped = Mapped::open(path)?;
    let reader = mapped.reader()?;
    let mut live = Live::new(reader.header());
    let mut pace = Pace { speed, began: None };
    let sources: Vec<Source<'_>> = reader.blocks().iter().copied().map(Source::Stored).collect();
    for batch in sources.chunks(BLOCKS) {
        let lines = live.lines(batch);
        pace.print(&lines, out)?;
    }
    let whole = live.is_whole() && !reader.damage().iter().any(|damage| damage.loses());
    pace.print(&live.finish(), out)?;
    mapped.check_whole()?;
    Ok(whole)
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
