//! Packet captures among the files: imported in memory, batch by batch, while the engine reads the batch before.
//!
//! They come after the capture files, all together, in order of time: rotated parts are one capture, and what was captured at
//! two places counts once ([`Import::join`]). They are one host, of which nothing is known.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, anyhow};

use super::engine::{BATCH_BYTES, Block, Engine, Source, Totals};
use super::import::{Import, ImportSummary, Shared, Stored};
use super::input::{Mapped, Progress};
use super::remarks::Remarks;
use super::row::{CaptureFacts, Sink, possible};
use crate::format::{Class, RawBlock};
use crate::human::count;

/// Batches that may wait for the engine.
const AHEAD: usize = 2;

/// A packet capture and its place among the files.
pub struct PacketFile<'a> {
    file: usize,
    import: Import<'a>,
    /// Bytes of the file read so far.
    read: Arc<AtomicU64>,
    facts: CaptureFacts,
}

/// Packet captures that are read together.
#[derive(Default)]
pub struct Packets<'a> {
    host: u16,
    import: Option<Import<'a>>,
    files: Vec<Known>,
}

/// What is known of one of them.
struct Known {
    file: usize,
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

impl<'a> PacketFile<'a> {
    /// Reads the beginning of a file, which has this number among the files.
    pub fn of_file(file: usize, mapped: &'a Mapped) -> Result<PacketFile<'a>> {
        let read = Arc::new(AtomicU64::new(0));
        let pages = Pages {
            mapped,
            at: 0,
            read: Arc::clone(&read),
        };
        let mut packets = PacketFile::open(file, mapped.name(), pages, read)?;
        packets.facts.file_bytes = mapped.bytes().len() as u64;
        Ok(packets)
    }

    /// Reads the beginning of what comes through a pipe. Its size is known when it was read.
    pub fn of_stream(file: usize, stream: Stream) -> Result<PacketFile<'a>> {
        let read = Arc::clone(&stream.read);
        PacketFile::open(file, stream.name.clone(), stream, read)
    }

    fn open(file: usize, path: String, bytes: impl Read + Send + 'a, read: Arc<AtomicU64>) -> Result<PacketFile<'a>> {
        let import = Import::open(bytes).with_context(|| format!("cannot read {path}"))?;
        let header = import.header();
        let first = possible(header.clock.realtime);
        Ok(PacketFile {
            file,
            import,
            read,
            facts: CaptureFacts {
                first,
                last: first,
                ..CaptureFacts::new(path, header)
            },
        })
    }
}

impl<'a> Packets<'a> {
    /// These together.
    pub fn join(opened: Vec<PacketFile<'a>>) -> Packets<'a> {
        let (mut imports, mut files) = (Vec::new(), Vec::<Known>::new());
        for PacketFile {
            file,
            import,
            read,
            mut facts,
        } in opened
        {
            // They are one recording.
            facts.header.recording = files
                .first()
                .map_or(facts.header.recording, |one| one.facts.header.recording);
            imports.push(import);
            files.push(Known { file, read, facts });
        }
        Packets {
            host: 0,
            import: (!imports.is_empty()).then(|| Import::join(imports)),
            files,
        }
    }

    /// Gives them their host, which must be done before they are fed.
    pub fn give_host<S: Sink>(&mut self, engine: &mut Engine<S>) {
        if let Some(one) = self.files.first() {
            self.host = engine.host(&one.facts.header);
        }
    }

    /// Their numbers among the files, and what is known of them so far.
    pub fn facts(&self) -> impl Iterator<Item = (usize, &CaptureFacts)> {
        self.files.iter().map(|one| (one.file, &one.facts))
    }

    /// The same, with what the engine has read.
    pub fn facts_with(&self, totals: &Totals) -> impl Iterator<Item = (usize, CaptureFacts)> {
        self.files.iter().map(|Known { file, facts, .. }| {
            let mut facts = facts.clone();
            let mut remarks = totals.remarks.get(file).map(Remarks::lines).unwrap_or_default();
            remarks.append(&mut facts.remarks);
            facts.remarks = remarks;
            (*file, facts)
        })
    }

    /// Bytes of all of them, as far as they are known.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|one| one.facts.file_bytes).sum()
    }

    /// The first packet, UTC, ns.
    pub fn first(&self) -> u64 {
        self.files.iter().map(|one| one.facts.first).min().unwrap_or(u64::MAX)
    }

    /// Feeds all of it to the engine. `after` is called after each batch and may empty the sinks.
    pub fn feed<S: Sink>(
        &mut self,
        engine: &mut Engine<S>,
        mut after: impl FnMut(&mut Engine<S>, Progress) -> Result<()>,
    ) -> Result<()> {
        let Some(import) = self.import.take() else {
            return Ok(());
        };
        let (sender, batches) = sync_channel::<Vec<(usize, RawBlock)>>(AHEAD);
        let mut progress = Progress {
            total: self.file_bytes(),
            ..Progress::default()
        };
        let host = self.host;
        let summaries = std::thread::scope(|scope| {
            let importer = scope.spawn(move || {
                let mut batch = Vec::new();
                let mut bytes = 0;
                let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
                let summaries = import.blocks_of(&mut |number, block| {
                    bytes += block.bytes.len();
                    batch.push((number, block));
                    if bytes >= BATCH_BYTES {
                        bytes = 0;
                        sender.send(std::mem::take(&mut batch)).map_err(gone)?;
                    }
                    Ok(())
                })?;
                // The engine may have failed; its error is returned below.
                let _ = sender.send(batch);
                Ok::<Vec<(ImportSummary, Stored)>, super::import::Error>(summaries)
            });
            let fed = (|| {
                for batch in batches {
                    let blocks: Vec<Block<'_>> = batch
                        .iter()
                        .map(|(number, raw)| Block {
                            source: Source::Raw(raw),
                            host,
                            file: self.files[*number].file,
                        })
                        .collect();
                    engine.feed(&blocks);
                    for (number, _) in &batch {
                        self.files[*number].facts.blocks += 1;
                    }
                    progress.read = self.read();
                    progress.total = progress.total.max(progress.read);
                    // As far as packets are in the order of time: a block holds many, so late ones are rare.
                    let events = batch.iter().filter(|(_, raw)| raw.class == Class::Events);
                    progress.unread_from = events
                        .map(|(_, raw)| raw.first_time)
                        .next_back()
                        .unwrap_or(progress.unread_from);
                    after(engine, progress)?;
                }
                Ok::<(), anyhow::Error>(())
            })();
            let imported = importer
                .join()
                .map_err(|_| anyhow!("the import of {} broke off", self.names()));
            fed?;
            imported?.with_context(|| format!("cannot read {}", self.names()))
        })?;
        let names: Vec<String> = self.files.iter().map(|one| one.facts.path.clone()).collect();
        for (Known { read, facts, .. }, (summary, stored)) in self.files.iter_mut().zip(&summaries) {
            facts.file_bytes = facts.file_bytes.max(read.load(Ordering::Relaxed));
            facts.header.snaplen = summary.snaplen;
            facts.last = possible(facts.last.max(summary.last_time));
            facts.damage.extend(summary.damage.iter().map(ToString::to_string));
            facts.records = stored.records;
            facts.raw_bytes = stored.raw_bytes;
            facts.data_bytes = stored.data_bytes;
            facts.payload_bytes = stored.payload_bytes;
            for (other, shared) in &summary.shared {
                facts.remarks.extend(shared_lines(&names[*other as usize], shared));
            }
        }
        Ok(())
    }

    fn read(&self) -> u64 {
        self.files.iter().map(|one| one.read.load(Ordering::Relaxed)).sum()
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.files.iter().map(|one| one.facts.path.as_str()).collect();
        names.join(", ")
    }
}

/// What there is to know of connections that another file has too.
fn shared_lines(other: &str, shared: &Shared) -> impl Iterator<Item = String> {
    let connections = |number: u64| match number {
        1 => "1 connection".to_string(),
        number => format!("{} connections", count(number)),
    };
    let joined = (shared.joined > 0).then(|| {
        format!(
            "{} also in {other}: read as one, each packet counts once. A latency lies between those at the two places; for those \
             at one, analyze its file alone",
            connections(shared.joined)
        )
    });
    let different = (shared.different > 0).then(|| {
        format!(
            "{} with the addresses and ports of others in {other}, but other sequence numbers: they count for themselves. If it \
             is the same traffic, with clocks that differ much, analyze one of the files alone",
            connections(shared.different)
        )
    });
    joined.into_iter().chain(different)
}
