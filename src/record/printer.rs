//! Live output: a thread that hands blocks to the analyzer's lines. The recorder knows nothing of the lines themselves.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::queue::{Consumer, Next, Order};
use crate::format::RawBlock;
use crate::format::header::Header;

/// Turns blocks into lines.
pub trait Printer: Send {
    /// Prints the lines of these blocks.
    fn feed(&mut self, blocks: &[RawBlock], out: &mut dyn Write) -> io::Result<()>;
    /// The recording is over; prints what still waited for something.
    fn finish(self: Box<Self>, out: &mut dyn Write) -> io::Result<()>;
}

/// Makes a printer for the recording that the header describes.
pub type MakePrinter = Box<dyn FnOnce(&Header) -> Box<dyn Printer>>;

/// Prints until there are no more blocks. A reader that goes away ends it, and is no error.
pub fn run(mut printer: Box<dyn Printer>, queue: &Consumer, out: &mut dyn Write, counters: &Arc<Counters>) {
    let mut print = || -> io::Result<()> {
        loop {
            match queue.next(Duration::from_secs(1)) {
                Next::Batch(batch) if batch.order == Order::Append => {
                    printer.feed(&batch.blocks, out)?;
                    out.flush()?;
                }
                Next::Batch(_) | Next::Nothing => {}
                Next::End => return Ok(()),
            }
        }
    };
    let done = print().and_then(|()| printer.finish(out)).and_then(|()| out.flush());
    if let Err(error) = done {
        if error.kind() != io::ErrorKind::BrokenPipe {
            counters.note(format!("cannot print: {error}"));
        }
        counters.print_closed.raise();
    }
}
