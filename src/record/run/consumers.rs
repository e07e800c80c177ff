//! The threads that take blocks, file and printer: how they are started, and how long they are waited for at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::options::Options;
use crate::format::header::Header;
use crate::message::say;
use crate::record::counters::Counters;
use crate::record::drain::Drain;
use crate::record::output;
use crate::record::printer::{self, MakePrinter};
use crate::record::queue::{self, Batch, Refused, Sender};
use crate::record::signals::Asked;
use crate::record::sink::{Sink, SinkConfig};
use crate::record::sys;

/// Compressing is more work; it is preferred to ordinary work, but does not push it aside.
const SINK_NICE: i32 = -10;
/// Batches between the drain and each consumer: each about a MiB.
const QUEUE: usize = 24;
/// How often a pipe is checked for a reader.
const PIPE_LOOK: Duration = Duration::from_millis(20);
/// A consumer that makes no progress for this long at the end is given up.
const FILE_STALL: Duration = Duration::from_secs(30);
const PRINT_STALL: Duration = Duration::from_secs(1);

/// A consumer thread, its result, and how far it has come.
pub struct Consuming<T> {
    done: mpsc::Receiver<T>,
    thread: JoinHandle<()>,
}

fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Consuming<T>> {
    let (sender, done) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        let _ = sender.send(work());
    })?;
    Ok(Consuming { done, thread })
}

pub fn start_sink(
    options: &Options,
    base: &Path,
    header: &Header,
    counters: &Arc<Counters>,
    asked: &Asked,
) -> Result<(Sender, Consuming<Vec<PathBuf>>)> {
    let config = || SinkConfig {
        base: base.to_owned(),
        header: header.clone(),
        force: options.force,
        parts: options.rotate_size.is_some() || options.rotate_time.is_some() || options.ring.is_some(),
        keep: options.keep,
        max_size: options.max_size,
        ring: options.ring.map(|age| (age, options.ring_size)),
    };
    let mut noted = false;
    let sink = loop {
        match Sink::new(config(), counters.clone()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !asked.to_end() => {
                if !std::mem::replace(&mut noted, true) {
                    say(&format!("waiting until somebody reads from {}", base.display()));
                }
                std::thread::sleep(PIPE_LOOK);
            }
            sink => break sink.with_context(|| format!("cannot write {}", output::name(base)))?,
        }
    };
    let (sender, consumer) = queue::bounded(QUEUE);
    let thread = start("sink", move || {
        sys::set_priority(SINK_NICE);
        sink.run(&consumer)
    })?;
    Ok((sender, thread))
}

pub fn start_printer(make: MakePrinter, header: &Header, counters: &Arc<Counters>) -> Result<(Sender, Consuming<()>)> {
    let printer = make(header);
    let (sender, consumer) = queue::bounded(QUEUE);
    let counters = counters.clone();
    let thread = start("printer", move || {
        printer::run(printer, &consumer, &mut io::BufWriter::new(io::stdout()), &counters)
    })?;
    Ok((sender, thread))
}

/// Hands over the last blocks and waits for file and printer, but not for ever.
pub fn finish(
    options: &Options,
    drain: &mut Drain,
    file: Option<Consuming<Vec<PathBuf>>>,
    print: Option<Consuming<()>>,
    counters: &Counters,
    asked: &Asked,
) -> Result<Vec<PathBuf>> {
    let batches = match options.ring {
        Some(_) => vec![drain.finish(sys::boot_ns()), drain.last_dump()],
        None => vec![drain.finish(sys::boot_ns())],
    };
    let outlets = drain.take_outlets();
    let mut patience = Patience::new(FILE_STALL);
    for batch in batches.into_iter().map(Arc::new) {
        if let Some(print) = &outlets.print {
            let _ = print.offer(&batch);
        }
        if let Some(file) = &outlets.file
            && !offer_patiently(file, &batch, &mut patience, counters, asked)
        {
            drain.give_up(&batch);
        }
    }
    drop(outlets);
    if let Some(print) = print {
        let mut patience = Patience::new(PRINT_STALL);
        if wait(&print, || !asked.at_once() && patience.lasts(0)).is_none() {
            say("standard output is stalled: the last lines are not printed");
        }
    }
    let Some(file) = file else { return Ok(Vec::new()) };
    match wait(&file, || !asked.at_once() && patience.lasts(counters.written.get())) {
        Some(files) => Ok(files),
        None => bail!("the file could not be finished: the disk does not take it; what was written so far is readable"),
    }
}

fn offer_patiently(
    file: &Sender,
    batch: &Arc<Batch>,
    patience: &mut Patience,
    counters: &Counters,
    asked: &Asked,
) -> bool {
    loop {
        match file.offer(batch) {
            Ok(()) => return true,
            Err(Refused::Gone) => return false,
            Err(Refused::Full) if asked.at_once() || !patience.lasts(counters.written.get()) => return false,
            Err(Refused::Full) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The result of a thread, as long as waiting makes sense.
fn wait<T>(consuming: &Consuming<T>, mut go_on: impl FnMut() -> bool) -> Option<T> {
    loop {
        match consuming.done.recv_timeout(Duration::from_millis(10)) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) if consuming.thread.is_finished() => return consuming.done.try_recv().ok(),
            Err(RecvTimeoutError::Timeout) if go_on() => {}
            Err(_) => return None,
        }
    }
}

/// Waits as long as a number changes now and then.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    seen: u64,
    since: Instant,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Patience {
            limit,
            seen: 0,
            since: Instant::now(),
        }
    }

    fn lasts(&mut self, progress: u64) -> bool {
        if progress != self.seen {
            self.seen = progress;
            self.since = Instant::now();
        }
        self.since.elapsed() < self.limit
    }
}
