//! The thread that compresses and writes. It may wait for the disk; nobody waits for it.
//!
//! A block that the disk refuses is counted, and the next is tried: room may come back. When the file itself is gone
//! (removed, or its directory), a new part is begun as soon as one can be made.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::flight_ring::FlightRing;
use super::loss::{Count, event_count};
use super::output::{self, Output};
use super::queue::{Batch, Consumer, Next, Order};
use super::sys;
use crate::create::{self, FileId};
use crate::format::header::Header;
use crate::format::{Class, RawBlock, Writer};

/// zstd levels: in peace, and when batches pile up. Level 3 takes twice the time of level 1 for files a tenth smaller, and
/// would be the largest part of what recording costs beside the kernel's.
const LEVEL: i32 = 1;
const LEVEL_LOADED: i32 = -3;
/// With this many batches waiting the sink is under load; with this few it no longer is.
const LOADED: usize = 6;
const IDLE: usize = 1;
/// How often the sink checks that the file is still there.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Names that are tried for one part. Should all be taken, the next try goes on after them.
const NAMES: u32 = 1000;

/// What to write, and where.
#[derive(Debug)]
pub struct SinkConfig {
    pub base: PathBuf,
    pub header: Header,
    pub force: bool,
    /// Several files, numbered: rotation, or dumps of the memory ring.
    pub parts: bool,
    /// Keep this many parts; older ones are removed.
    pub keep: Option<u32>,
    /// Stop at this size of all files together.
    pub max_size: Option<u64>,
    /// Blocks stay in memory until they are asked for: the longest time, and the most bytes.
    pub ring: Option<(Duration, usize)>,
}

struct Part {
    writer: Writer<File>,
    path: PathBuf,
    /// What to look for under the path. Nothing where the file is not a new one.
    identity: Option<FileId>,
    /// Events in it, which are lost if the file is.
    events: Count,
}

/// See the module.
pub struct Sink {
    config: SinkConfig,
    counters: Arc<Counters>,
    part: Option<Part>,
    /// Number of the next part, and the number in the next name: names that are taken are passed over.
    number: u32,
    name: u32,
    /// The parts that are there, by name and number.
    made: VecDeque<(PathBuf, u32)>,
    finished_bytes: u64,
    level: i32,
    flight_ring: Option<FlightRing>,
    checked: Instant,
    /// The error that was reported last, so that a full disk is reported once.
    last_error: Option<io::ErrorKind>,
    out_of_size: bool,
}

/// Names that were taken: how many, the first and the last.
#[derive(Default)]
struct PassedOver {
    names: u32,
    first: PathBuf,
    last: PathBuf,
}

impl PassedOver {
    fn add(&mut self, path: PathBuf) {
        if self.names == 0 {
            self.first.clone_from(&path);
        }
        self.last = path;
        self.names += 1;
    }

    fn note(&self) -> Option<String> {
        let (first, last) = (self.first.display(), self.last.display());
        match self.names {
            0 => None,
            1 => Some(format!("{first} exists and is passed over")),
            names => Some(format!(
                "{names} names from {first} to {last} exist and are passed over"
            )),
        }
    }
}

impl Sink {
    /// Makes the first file, so that what is wrong with the output is known before recording.
    pub fn new(config: SinkConfig, counters: Arc<Counters>) -> io::Result<Self> {
        let flight_ring = config.ring.map(|(age, bytes)| FlightRing::new(age, bytes));
        let mut sink = Sink {
            config,
            counters,
            part: None,
            number: 0,
            name: 0,
            made: VecDeque::new(),
            finished_bytes: 0,
            level: LEVEL,
            flight_ring,
            checked: Instant::now(),
            last_error: None,
            out_of_size: false,
        };
        if sink.config.parts && sink.config.force {
            output::remove_parts(&sink.config.base)?;
        }
        if sink.flight_ring.is_none() {
            sink.begin_part()?;
        }
        Ok(sink)
    }

    /// Takes batches until there are no more, and finishes the file. Returns the files, oldest first.
    pub fn run(mut self, queue: &Consumer) -> Vec<PathBuf> {
        loop {
            match queue.next(CHECK_INTERVAL) {
                Next::Batch(batch) => {
                    self.adjust_level(queue.waiting());
                    self.batch(&batch);
                    // Unless the printer still has it.
                    if let Ok(batch) = Arc::try_unwrap(batch) {
                        let events = batch.blocks.into_iter().filter(|block| block.class == Class::Events);
                        events.for_each(|block| self.counters.give_spare(block));
                    }
                }
                Next::Nothing => {}
                Next::End => break,
            }
            self.check_file();
        }
        self.end_part();
        self.made.into_iter().map(|(path, _)| path).collect()
    }

    fn adjust_level(&mut self, waiting: usize) {
        self.level = match waiting {
            LOADED.. => LEVEL_LOADED,
            ..=IDLE => LEVEL,
            _ => self.level,
        };
    }

    /// Takes one batch.
    pub(super) fn batch(&mut self, batch: &Batch) {
        match batch.order {
            Order::NewPart => {
                self.end_part();
                if let Err(error) = self.begin_part() {
                    self.report("cannot begin a new part", &error);
                    self.counters.want_part.raise();
                }
            }
            Order::DumpRing => {
                self.dump_ring(&batch.blocks);
                return;
            }
            Order::Append => {}
        }
        for block in &batch.blocks {
            match &mut self.flight_ring {
                Some(flight_ring) => {
                    let overwritten = flight_ring.push(block);
                    self.counters.overwritten.add(overwritten);
                }
                None => self.write(block),
            }
        }
        if let Some(flight_ring) = &self.flight_ring {
            self.counters.part_written.set(flight_ring.bytes() as u64);
        }
    }

    /// Writes the memory ring as a part of its own and empties it: the parts together are one recording.
    fn dump_ring(&mut self, state: &[RawBlock]) {
        let Some(flight_ring) = &mut self.flight_ring else {
            return;
        };
        let blocks = flight_ring.take();
        if let Err(error) = self.begin_part() {
            for packed in blocks {
                self.counters.disk_error.add(packed.count());
            }
            self.report("cannot write the memory ring out", &error);
            return;
        }
        for block in state {
            self.write(block);
        }
        for packed in blocks {
            let count = packed.count();
            match packed.unpack() {
                Ok(block) => self.write(&block),
                Err(_) => self.counters.disk_error.add(count),
            }
        }
        if let Some(part) = &self.part {
            self.counters
                .note(format!("memory ring written to {}", part.path.display()));
        }
        self.end_part();
    }

    fn begin_part(&mut self) -> io::Result<()> {
        let (path, output) = match self.config.parts || self.number > 0 {
            true => self.next_file()?,
            false => (
                self.config.base.clone(),
                output::open(&self.config.base, self.config.force)?,
            ),
        };
        let identity = match output.is_new {
            true => Some(FileId::of(&output.file, &path)?),
            false => None,
        };
        if output.is_new
            && let Err(error) = create::give_to_caller(&output.file)
        {
            self.report("the file stays root's", &error);
        }
        let mut header = self.config.header.clone();
        header.part = self.number;
        if self.number > 0 {
            header.clock = sys::clocks();
        }
        // Kept open, so that nothing else can be taken for it.
        let _kept = output.file.try_clone()?;
        let writer = match Writer::new(output.file, &header, self.level) {
            Ok(writer) => writer,
            Err(error) => {
                // A file without a header is of no use.
                if identity.is_some_and(|identity| identity.is_at(&path)) {
                    let _ = std::fs::remove_file(&path);
                }
                return Err(error);
            }
        };
        self.made.push_back((path.clone(), self.number));
        self.number += 1;
        self.name = self.name.saturating_add(1);
        self.counters.parts.add(1);
        self.counters.part_written.set(writer.written());
        self.part = Some(Part {
            writer,
            path,
            identity,
            events: Count::default(),
        });
        self.drop_old_parts();
        Ok(())
    }

    /// Makes a file under the next name that is free. A single file that vanished is made again in the same way.
    fn next_file(&mut self) -> io::Result<(PathBuf, Output)> {
        let first = self.name;
        let own = (!self.config.parts).then(|| (first, self.config.base.clone()));
        let numbered = (first..first.saturating_add(NAMES)).map(|n| (n, output::part_path(&self.config.base, n)));
        let mut passed_over = PassedOver::default();
        for (number, path) in own.into_iter().chain(numbered) {
            self.name = number;
            match create::new_file(&path) {
                Ok(file) => {
                    if let Some(note) = passed_over.note() {
                        self.counters.note(note);
                    }
                    return Ok((path, Output { file, is_new: true }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    passed_over.add(path);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn drop_old_parts(&mut self) {
        let Some(keep) = self.config.keep.and_then(|keep| usize::try_from(keep).ok()) else {
            return;
        };
        let recording = self.config.header.recording;
        while self.made.len() > keep.max(1) {
            // Somebody may have moved it away and put something else there.
            if let Some((old, part)) = self.made.pop_front()
                && output::is_capture(&old, |header| (header.recording, header.part) == (recording, part))
                && let Err(error) = std::fs::remove_file(&old)
            {
                self.report(&format!("cannot remove {}", old.display()), &error);
            }
        }
    }

    fn end_part(&mut self) {
        let Some(part) = self.part.take() else { return };
        let written = part.writer.written();
        match part.writer.finish() {
            Ok((_, summary)) => self.finished_bytes += summary.bytes,
            Err(error) => {
                self.finished_bytes += written;
                // Readers need no index; what it would have held is found by reading the file from the front.
                self.report("the file has no index", &error);
            }
        }
        self.publish();
    }

    fn write(&mut self, block: &RawBlock) {
        if self.out_of_size {
            self.counters.over_limit.add(lost(block));
            return;
        }
        let Some(part) = &mut self.part else {
            self.counters.disk_error.add(lost(block));
            self.counters.return_losses(block);
            return;
        };
        let done = part
            .writer
            .set_level(self.level)
            .and_then(|()| part.writer.write(block));
        match done {
            Ok(_) => {
                if block.class == Class::Events {
                    let count = event_count(block);
                    part.events.events += count.events;
                    part.events.bytes += count.bytes;
                }
                self.last_error = None;
            }
            Err(error) => {
                self.counters.disk_error.add(lost(block));
                self.counters.return_losses(block);
                if block.class == Class::State {
                    self.counters.want_state.raise();
                }
                if error.kind() == io::ErrorKind::BrokenPipe && output::is_standard_output(&self.config.base) {
                    self.counters.print_closed.raise();
                }
                self.report("a block was not written", &error);
            }
        }
        self.publish();
        if self
            .config
            .max_size
            .is_some_and(|limit| self.counters.written.get() >= limit)
        {
            self.out_of_size = true;
            self.counters.size_reached.raise();
        }
    }

    fn publish(&self) {
        let part = self.part.as_ref().map_or(0, |part| part.writer.written());
        self.counters.written.set(self.finished_bytes + part);
        if self.flight_ring.is_none() && self.part.is_some() {
            self.counters.part_written.set(part);
        }
    }

    fn check_file(&mut self) {
        if self.checked.elapsed() >= CHECK_INTERVAL {
            self.checked = Instant::now();
            self.check_file_now();
        }
    }

    /// Looks whether the file is still there. Bytes that go into a removed file go nowhere, although no write fails.
    pub(super) fn check_file_now(&mut self) {
        let Some(part) = &self.part else {
            if self.flight_ring.is_none() && !self.out_of_size {
                self.counters.want_part.raise();
            }
            return;
        };
        let Some(identity) = &part.identity else { return };
        let there = match std::fs::metadata(&part.path) {
            Ok(_) => identity.is_at(&part.path),
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        // A file that was renamed is still whole; one without a name is lost.
        let is_unlinked = part
            .writer
            .get_ref()
            .metadata()
            .is_ok_and(|metadata| metadata.nlink() == 0);
        if there || !is_unlinked {
            return;
        }
        self.counters.note(format!(
            "{} was removed while being written: {} events are lost with it; recording goes on as soon as a new file can \
             be made",
            part.path.display(),
            part.events.events
        ));
        self.counters.disk_error.add(part.events);
        self.finished_bytes += part.writer.written();
        self.made.retain(|(path, _)| *path != part.path);
        self.part = None;
        self.counters.want_part.raise();
    }

    fn report(&mut self, what: &str, error: &io::Error) {
        if self.last_error != Some(error.kind()) {
            self.last_error = Some(error.kind());
            self.counters.note(format!("{what}: {error}"));
        }
    }
}

/// What is lost with a block. State is repeated, so only events count.
fn lost(block: &RawBlock) -> Count {
    match block.class {
        Class::Events => event_count(block),
        Class::State => Count::default(),
    }
}
