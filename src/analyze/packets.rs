//! Packet captures among the files: imported in memory, batch by batch, while the engine reads the batch before.
//!
//! They are fed after the capture files, one after the other. Each is a separate host without names.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, anyhow};

use super::engine::{BATCH_BYTES, Block, Engine, Source, Totals};
use super::import::{Import, ImportSummary};
use super::input::{Mapped, Progress};
use super::remarks::Remarks;
use super::row::{CaptureFacts, Sink, possible};
use crate::format::{Class, RawBlock};

/// Batches that may wait for the engine.
const AHEAD: usize = 2;

/// A packet capture and its place among the files.
pub struct Packets<'a> {
    file: usize,
    host: u16,
    import: Option<Import<'a>>,
    /// Bytes of the file read so far.
    read: Arc<AtomicU64>,
    facts: CaptureFacts,
}

/// A mapped file, read once from its beginning; pages that were read are released.
struct Pages<'a> {
    mapped: &'a Mapped,
    at: usize,
    read: Arc<AtomicU64>,
}

/// Bytes after which pages that were read are released.
const RELEASE: usize = 8 << 20;

impl Read for Pages<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.mapped.bytes().get(self.at..).unwrap_or_default();
        let len = rest.read(into)?;
        let until = self.at + len;
        if self.at / RELEASE != until / RELEASE {
            self.mapped.release((until / RELEASE - 1) * RELEASE..until);
        }
        self.at = until;
        // A file that was shortened has only zeros from there on, maybe gigabytes of them.
        self.mapped.check_whole().map_err(io::Error::other)?;
        self.read.store(until as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// A packet capture that comes through a pipe.
pub struct Stream {
    name: String,
    bytes: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Stream {
    /// These bytes, with the name for messages.
    pub fn new(name: String, bytes: impl Read + Send + 'static) -> Stream {
        Stream {
            name,
            bytes: Box::new(bytes),
            read: Arc::default(),
        }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.bytes.read(into)?;
        self.read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

impl<'a> Packets<'a> {
    /// Reads the beginning of a file, which has this number among the files.
    pub fn of_file(file: usize, mapped: &'a Mapped) -> Result<Packets<'a>> {
        let read = Arc::new(AtomicU64::new(0));
        let pages = Pages {
            mapped,
            at: 0,
            read: Arc::clone(&read),
        };
        let mut packets = Packets::open(file, mapped.name(), pages, read)?;
        packets.facts.file_bytes = mapped.bytes().len() as u64;
        Ok(packets)
    }

    /// Reads the beginning of what comes through a pipe. Its size is known when it was read.
    pub fn of_stream(file: usize, stream: Stream) -> Result<Packets<'a>> {
        let read = Arc::clone(&stream.read);
        Packets::open(file, stream.name.clone(), stream, read)
    }

    fn open(file: usize, path: String, bytes: impl Read + Send + 'a, read: Arc<AtomicU64>) -> Result<Packets<'a>> {
        let import = Import::open(bytes).with_context(|| format!("cannot read {path}"))?;
        let header = import.header();
        let first = possible(header.clock.realtime);
        Ok(Packets {
            file,
            host: 0,
            import: Some(import),
            read,
            facts: CaptureFacts {
                first,
                last: first,
                ..CaptureFacts::new(path, header)
            },
        })
    }

    /// Gives it its host, which must be done before it is fed.
    pub fn give_host<S: Sink>(&mut self, engine: &mut Engine<S>) {
        self.host = engine.host(&self.facts.header);
    }

    /// Its number among the files.
    pub fn file(&self) -> usize {
        self.file
    }

    /// What is known so far.
    pub fn facts(&self) -> &CaptureFacts {
        &self.facts
    }

    /// The same, with what the engine has read.
    pub fn facts_with(&self, totals: &Totals) -> CaptureFacts {
        CaptureFacts {
            remarks: totals.remarks.get(&self.file).map(Remarks::lines).unwrap_or_default(),
            ..self.facts.clone()
        }
    }

    /// Feeds the whole capture to the engine. `after` is called after each batch and may empty the sinks.
    pub fn feed<S: Sink>(
        &mut self,
        engine: &mut Engine<S>,
        mut after: impl FnMut(&mut Engine<S>, Progress) -> Result<()>,
    ) -> Result<()> {
        let Some(import) = self.import.take() else {
            return Ok(());
        };
        let (sender, batches) = sync_channel::<Vec<RawBlock>>(AHEAD);
        let mut progress = Progress {
            total: self.facts.file_bytes,
            ..Progress::default()
        };
        let (host, file) = (self.host, self.file);
        let summary = std::thread::scope(|scope| {
            let importer = scope.spawn(move || {
                let mut batch = Vec::new();
                let mut bytes = 0;
                let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
                let summary = import.blocks(&mut |block| {
                    bytes += block.bytes.len();
                    batch.push(block);
                    if bytes >= BATCH_BYTES {
                        bytes = 0;
                        sender.send(std::mem::take(&mut batch)).map_err(gone)?;
                    }
                    Ok(())
                })?;
                // The engine may have failed; its error is returned below.
                let _ = sender.send(batch);
                Ok::<ImportSummary, super::import::Error>(summary)
            });
            let fed = (|| {
                for batch in batches {
                    let blocks: Vec<Block<'_>> = batch
                        .iter()
                        .map(|raw| Block {
                            source: Source::Raw(raw),
                            host,
                            file,
                        })
                        .collect();
                    engine.feed(&blocks);
                    for raw in &batch {
                        self.count(raw);
                    }
                    progress.read = self.read.load(Ordering::Relaxed);
                    progress.total = progress.total.max(progress.read);
                    // As far as packets are in the order of time: a block holds many, so late ones are rare.
                    let events = batch.iter().filter(|raw| raw.class == Class::Events);
                    progress.unread_from = events
                        .map(|raw| raw.first_time)
                        .next_back()
                        .unwrap_or(progress.unread_from);
                    after(engine, progress)?;
                }
                Ok::<(), anyhow::Error>(())
            })();
            let imported = importer
                .join()
                .map_err(|_| anyhow!("the import of {} broke off", self.facts.path));
            fed?;
            imported?.with_context(|| format!("cannot read {}", self.facts.path))
        })?;
        self.facts.file_bytes = self.facts.file_bytes.max(self.read.load(Ordering::Relaxed));
        self.facts.header.snaplen = summary.snaplen;
        self.facts.last = possible(self.facts.last.max(summary.last_time));
        self.facts
            .damage
            .extend(summary.damage.iter().map(|damage| damage.to_string()));
        Ok(())
    }

    fn count(&mut self, raw: &RawBlock) {
        self.facts.blocks += 1;
        self.facts.records += u64::from(raw.records);
        self.facts.raw_bytes += raw.bytes.len() as u64;
        self.facts.data_bytes += raw.data_bytes;
        self.facts.payload_bytes += raw.payload_bytes;
    }
}
