//! From records to blocks of the capture file, and to a file.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, ensure};

use super::driver::Import;
use super::summary::{Error, ImportSummary, Stored};
use crate::create::{self, FileId, Named, Pending};
use crate::format::record::{Clock, Record};
use crate::format::{BlockBuilder, Class, Header, RawBlock, Writer};
use crate::open::{self, Input};
use crate::stdout::stdout;

/// zstd level of imported captures.
const LEVEL: i32 = 3;

/// Reads a packet capture (pcap or pcapng, maybe compressed) and hands on blocks, state before the events that refer
/// to it. Memory is bounded, however large the capture is. An error of `sink` ends the import.
pub fn import(
    input: impl Read + Send,
    sink: &mut dyn FnMut(RawBlock) -> io::Result<()>,
) -> Result<ImportSummary, Error> {
    Import::open(input)?.blocks(sink)
}

impl Import<'_> {
    /// The header of a capture file of this import. Host and kernel are not known from packets.
    pub fn header(&self) -> Header {
        let time = self.first_time();
        Header {
            tool_version: env!("CARGO_PKG_VERSION").to_string(),
            command_line: std::env::args().collect::<Vec<_>>().join(" "),
            hostname: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            arch: String::new(),
            backend: "pcap".to_string(),
            filters: String::new(),
            snaplen: self.snaplen(),
            cpus: 0,
            clock: Clock {
                boot: time,
                monotonic: time,
                realtime: time,
            },
            recording: RandomState::new().build_hasher().finish(),
            part: 0,
        }
    }

    /// Reads to the end; see [`import`].
    pub fn blocks(self, sink: &mut dyn FnMut(RawBlock) -> io::Result<()>) -> Result<ImportSummary, Error> {
        let summaries = self.blocks_of(&mut |_, block| sink(block))?;
        Ok(summaries
            .into_iter()
            .next()
            .map(|(summary, _)| summary)
            .unwrap_or_default())
    }

    /// The same of captures that are read together. With each block goes the number of a file: what the block says is lost is
    /// from that file, and so is its first record. A summary of each file comes back, and what was
    /// made of it.
    pub fn blocks_of(
        mut self,
        sink: &mut dyn FnMut(usize, RawBlock) -> io::Result<()>,
    ) -> Result<Vec<(ImportSummary, Stored)>, Error> {
        let mut packer = Packer::new(sink);
        while self.step_of(&mut |file, record| packer.push(file, record))? {
            packer.check()?;
        }
        let summaries = self.finish_of(&mut |file, record| packer.push(file, record));
        packer.flush();
        packer.check()?;
        let stored = packer.stored.into_iter().chain(std::iter::repeat(Stored::default()));
        Ok(summaries.into_iter().zip(stored).collect())
    }
}

/// Sorts records into blocks of state and of events.
struct Packer<'s> {
    state: BlockBuilder,
    events: BlockBuilder,
    /// The file that both are from.
    file: usize,
    /// By file.
    stored: Vec<Stored>,
    sink: &'s mut dyn FnMut(usize, RawBlock) -> io::Result<()>,
    failed: Option<io::Error>,
}

impl<'s> Packer<'s> {
    fn new(sink: &'s mut dyn FnMut(usize, RawBlock) -> io::Result<()>) -> Self {
        Packer {
            state: BlockBuilder::new(Class::State),
            events: BlockBuilder::new(Class::Events),
            file: 0,
            stored: Vec::new(),
            sink,
            failed: None,
        }
    }

    fn push(&mut self, file: usize, record: &Record<'_>) {
        if file != self.file {
            if matches!(record, Record::Loss(_) | Record::Remark(_)) {
                self.flush();
            }
            if self.state.is_empty() && self.events.is_empty() {
                self.file = file;
            }
        }
        let builder = match record.is_state() {
            true => &mut self.state,
            false => &mut self.events,
        };
        let before = builder.len();
        builder.push(record);
        let raw_bytes = builder.len() - before;
        self.count(file, record, raw_bytes as u64);
        if self.events.is_full() {
            self.flush();
        } else if self.state.is_full() {
            self.send_state();
        }
    }

    fn count(&mut self, file: usize, record: &Record<'_>, raw_bytes: u64) {
        if file >= self.stored.len() {
            self.stored.resize(file + 1, Stored::default());
        }
        let stored = &mut self.stored[file];
        stored.records += 1;
        stored.raw_bytes += raw_bytes;
        if let Record::Data(data) = record {
            stored.data_bytes += u64::from(data.len);
            stored.payload_bytes += data.payload.len() as u64;
        }
    }

    fn flush(&mut self) {
        self.send_state();
        if !self.events.is_empty() {
            let block = self.events.take();
            self.send(block);
        }
    }

    fn send_state(&mut self) {
        if !self.state.is_empty() {
            let block = self.state.take();
            self.send(block);
        }
    }

    fn send(&mut self, block: RawBlock) {
        if self.failed.is_none()
            && let Err(error) = (self.sink)(self.file, block)
        {
            self.failed = Some(error);
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        match self.failed.take() {
            Some(error) => Err(Error::Store(error)),
            None => Ok(()),
        }
    }
}

fn refuse_terminal(output: &impl IsTerminal) -> anyhow::Result<()> {
    ensure!(!output.is_terminal(), "a capture is not for terminals; give -o FILE");
    Ok(())
}

/// `mdf import`: reads the packet capture `input` and writes the capture file `output`, as [`create`] does. Nothing is
/// created when `input` is not a packet capture.
pub fn import_file(input: &Path, output: &Path, force: bool) -> anyhow::Result<ImportSummary> {
    let opened = open::open(input)?;
    if let Input::File(file) = &opened {
        FileId::of(file, input)?.refuse_as_output([output])?;
    }
    let read = || format!("cannot import {}", open::name(input));
    let import = Import::open(opened.into_reader()).with_context(read)?;
    let (to, pending): (Box<dyn Write>, _) = match create::is_standard_output(output) {
        true => {
            refuse_terminal(&io::stdout())?;
            (Box::new(stdout()), None)
        }
        false => {
            let (file, pending) = create::create(output, force)?;
            refuse_terminal(&file)?;
            (Box::new(Named::new(file, output)), Some(pending))
        }
    };
    let mut writer = Writer::new(BufWriter::new(to), &import.header(), LEVEL).map_err(Error::Store)?;
    let summary = import
        .blocks(&mut |block| writer.write(&block).map(drop))
        .with_context(read)?;
    let (mut out, _) = writer.finish().map_err(Error::Store)?;
    out.flush().map_err(Error::Store)?;
    pending.map_or(Ok(()), Pending::publish)?;
    Ok(summary)
}
