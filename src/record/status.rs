//! The thread that talks to the user while recording: notes as they come, and a status line on a terminal. A thread of
//! its own, because a terminal may stall.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::loss::Count;
use super::messages;
use crate::message;

const NOTES: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_millis(500);
/// Moves to the start of the line and clears it (ECMA-48).
const CLEAR: &str = "\r\x1b[K";

/// The running thread.
#[derive(Debug)]
pub struct Status {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Starts the thread. `line`: show a status line, if standard error is a terminal; `file`: with the file's size.
pub fn start(counters: Arc<Counters>, line: bool, file: bool) -> io::Result<Status> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let line = line && io::stderr().is_terminal();
    let thread = std::thread::Builder::new().name("status".into()).spawn(move || {
        let mut last = (Instant::now(), 0);
        while !stopped.load(Ordering::Relaxed) {
            std::thread::park_timeout(NOTES);
            tell_notes(&counters, line);
            if line && last.0.elapsed() >= LINE {
                let recorded = Count {
                    events: counters.events.get(),
                    bytes: counters.bytes.get(),
                };
                let per_second = recorded.events.saturating_sub(last.1) as f64 / last.0.elapsed().as_secs_f64();
                last = (Instant::now(), recorded.events);
                let written = file.then(|| counters.written.get());
                let text = messages::status(per_second as u64, recorded, written, counters.missing.get());
                let mut out = io::stderr();
                let _ = write!(out, "{CLEAR}{text}").and_then(|()| out.flush());
            }
        }
        if line {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
        tell_notes(&counters, false);
    })?;
    Ok(Status { stop, thread })
}

fn tell_notes(counters: &Counters, clear: bool) {
    for note in counters.take_notes() {
        if clear {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
        message::say(&note);
    }
}

impl Status {
    /// Ends it. A terminal that has stalled is not waited for.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let since = Instant::now();
        while !self.thread.is_finished() && since.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
