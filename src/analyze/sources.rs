//! The inputs of an analysis: capture files and packet captures, from files or pipes. An input that cannot be read is reported,
//! counted and left out; the others are read. Knows nothing of rows.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};

use super::engine::{Engine, Totals};
use super::import::is_packet_capture;
use super::input::{self, Capture, Mapped};
use super::packets::{PacketFile, Packets, Stream};
use super::progress::Meter;
use super::row::{CaptureFacts, Sink};
use super::same;
use super::selection::Ask;
use crate::create::FileId;
use crate::message;
use crate::open::{self, Input};
use crate::outcome::Usage;

/// Most bytes of a pipe that are read to find out its format: a block of zstd (RFC 8878, 3.1.1.2.4) with its headers, before
/// which nothing can be decompressed.
const BEGINNING: u64 = (128 << 10) + 64;
/// Bytes of them that are read at a time.
const BEGINNING_STEP: u64 = 4096;

/// The files that were named, opened.
#[derive(Default)]
pub struct Inputs {
    files: Vec<Mapped>,
    /// Of all files that were named, also of duplicates.
    ids: Vec<FileId>,
    /// By file: other names under which it was given.
    same: Vec<Vec<String>>,
    /// Packet captures that come through a pipe.
    streams: Vec<Stream>,
    unread: Vec<Unread>,
}

/// A file that cannot be read at all, and why.
struct Unread {
    name: String,
    why: Error,
}

impl Inputs {
    /// Opens these files.
    pub fn open(paths: &[PathBuf]) -> Inputs {
        let mut inputs = Inputs::default();
        for path in paths {
            if let Err(why) = inputs.add(path) {
                let name = open::name(path);
                inputs.unread.push(Unread { name, why });
            }
        }
        let files = std::mem::take(&mut inputs.files);
        inputs.ids = files.iter().map(|file| file.id().clone()).collect();
        (inputs.files, inputs.same) = same::distinct(files).into_iter().unzip();
        for (file, names) in inputs.files.iter().zip(&inputs.same) {
            for name in names {
                message::say(&format!(
                    "{name} is the same capture as {}: it is read once",
                    file.name()
                ));
            }
        }
        inputs
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let mut stream = match open::open(path)? {
            Input::File(file) => {
                self.files.push(Mapped::map(path, &file)?);
                return Ok(());
            }
            Input::Stream(stream) => stream,
        };
        let mut beginning = Vec::new();
        let name = open::name(path);
        let mut is_packets = false;
        // No more than is needed: the rest may come much later.
        while !is_packets && (beginning.len() as u64) < BEGINNING {
            let before = beginning.len();
            let read = stream.by_ref().take(BEGINNING_STEP).read_to_end(&mut beginning);
            read.with_context(|| format!("cannot read {name}"))?;
            if beginning.len() == before {
                break;
            }
            is_packets = is_packet_capture(&beginning);
        }
        let bytes = Cursor::new(beginning).chain(stream);
        match is_packets {
            true => self.streams.push(Stream::new(name, bytes)),
            false => self.files.push(Mapped::spool(path, bytes)?),
        }
        Ok(())
    }

    /// Refuses to write to what is read.
    pub fn refuse_as_outputs(&self, outputs: &[PathBuf]) -> Result<(), Usage> {
        let outputs = || outputs.iter().map(PathBuf::as_path);
        self.ids.iter().try_for_each(|id| id.refuse_as_output(outputs()))
    }

    /// Reads the beginnings of the files. An error if nothing can be read of any.
    pub fn sources(&mut self) -> Result<Sources<'_>> {
        let mut unread = std::mem::take(&mut self.unread);
        let (mut captures, mut packets) = (Vec::new(), Vec::new());
        for (number, file) in self.files.iter().enumerate() {
            let opened = match is_packet_capture(file.bytes()) {
                true => PacketFile::of_file(number, file).map(|one| packets.push(one)),
                false => Capture::open(number, file).map(|one| captures.push(one)),
            };
            if let Err(why) = opened {
                let name = file.name();
                unread.push(Unread { name, why });
            }
        }
        for (number, stream) in (self.files.len()..).zip(std::mem::take(&mut self.streams)) {
            let name = stream.name().to_string();
            match PacketFile::of_stream(number, stream) {
                Ok(one) => packets.push(one),
                Err(why) => unread.push(Unread { name, why }),
            }
        }
        Ok(Sources {
            unread: left_out(unread, captures.len() + packets.len())?,
            files: &self.files,
            same: &self.same,
            captures,
            packets: Packets::join(packets),
        })
    }
}

/// Reports the inputs that are left out. An error if none is left.
fn left_out(mut unread: Vec<Unread>, readable: usize) -> Result<Vec<CaptureFacts>> {
    let last = match readable {
        0 => unread.pop(),
        _ => None,
    };
    for Unread { why, .. } in &unread {
        message::say(&format!("{why:#}; it is left out"));
    }
    match last {
        Some(last) => Err(last.why),
        None => Ok(unread
            .into_iter()
            .map(|Unread { name, why }| CaptureFacts::unread(name, format!("{why:#}")))
            .collect()),
    }
}

/// The inputs that can be read.
pub struct Sources<'a> {
    files: &'a [Mapped],
    same: &'a [Vec<String>],
    captures: Vec<Capture<'a>>,
    packets: Packets<'a>,
    /// What is left out.
    unread: Vec<CaptureFacts>,
}

impl Sources<'_> {
    /// Time of the first event of all inputs, UTC, ns.
    pub fn start(&self) -> u64 {
        let firsts = self
            .captures
            .iter()
            .map(|capture| input::facts(capture, &Totals::default()).first);
        firsts.min().unwrap_or(u64::MAX).min(self.packets.first())
    }

    /// Whether data is known to be lost or damaged before any block is read.
    pub fn has_known_losses(&self) -> bool {
        !self.unread.is_empty() || self.captures.iter().any(Capture::has_known_losses)
    }

    /// Gives the capture files and the packet captures their hosts.
    pub fn give_hosts<S: Sink>(&mut self, engine: &mut Engine<S>) {
        self.captures.iter_mut().for_each(|capture| capture.give_host(engine));
        self.packets.give_host(engine);
    }

    /// Feeds all of it to the engine: capture files together, then packet captures together. `after` is called after
    /// each batch with the time (UTC, ns) before which no event is still to be read, and may empty the sinks.
    pub fn feed<S: Sink>(
        &mut self,
        ask: &Ask,
        engine: &mut Engine<S>,
        progress: bool,
        mut after: impl FnMut(&mut Engine<S>, u64) -> Result<()>,
    ) -> Result<()> {
        let mut meter = Meter::new(progress, &self.packets);
        let unfed = self.packets.first();
        input::feed(&self.captures, ask, engine, |engine, progress| {
            meter.show(&progress);
            after(engine, progress.unread_from.min(unfed))
        })?;
        meter.next(self.packets.file_bytes());
        self.packets.feed(engine, |engine, progress| {
            meter.show(&progress);
            after(engine, progress.unread_from)
        })?;
        self.files.iter().try_for_each(Mapped::check_whole)
    }

    /// What is known of each file, with what the engine has read; of packet captures, as far as they were read.
    pub fn facts(&self, totals: &Totals) -> Vec<CaptureFacts> {
        let stored = self.captures.iter();
        let stored = stored.map(|capture| (capture.file, input::facts(capture, totals)));
        let packets = self.packets.facts_with(totals);
        let read = stored.chain(packets).map(|(file, mut facts)| {
            let given_again = |name: &String| format!("read once, although it was also given as {name}");
            facts
                .remarks
                .extend(self.same.get(file).into_iter().flatten().map(given_again));
            facts
        });
        read.chain(self.unread.iter().cloned()).collect()
    }

    /// Names by the numbers of the files.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files.iter().map(Mapped::name).collect();
        for (file, facts) in self.packets.facts() {
            if file >= names.len() {
                names.resize(file + 1, String::new());
            }
            names[file].clone_from(&facts.path);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::analyze::report::Aggregate;

    /// Ends with an error.
    struct Torn(Cursor<Vec<u8>>);

    impl Read for Torn {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("the cable is gone")),
                len => Ok(len),
            }
        }
    }

    #[test]
    fn what_breaks_off_is_damage_and_the_others_are_read() {
        let whole = std::fs::read("fixtures/http/nginx.pcap").unwrap();
        let torn = Torn(Cursor::new(whole[..whole.len() / 2].to_vec()));
        let mut inputs = Inputs::open(&["fixtures/tiny.mdf".into()]);
        inputs.streams = vec![
            Stream::new("torn".into(), torn),
            Stream::new("whole".into(), Cursor::new(whole)),
        ];
        let mut engine = Engine::new(|_| Aggregate::default());
        let mut sources = inputs.sources().unwrap();
        sources.give_hosts(&mut engine);
        let fed = sources.feed(&Ask::default(), &mut engine, false, |_, _| Ok(()));
        fed.unwrap();
        assert_eq!(sources.names(), ["fixtures/tiny.mdf", "torn", "whole"]);
        let facts = sources.facts(&Totals::default());
        let damage: Vec<&[String]> = facts.iter().map(|facts| facts.damage.as_slice()).collect();
        assert!(damage[0].is_empty() && damage[2].is_empty(), "{damage:?}");
        assert!(
            damage[1][0].starts_with("the file cannot be read any further at byte "),
            "{damage:?}"
        );
        assert!(facts.iter().all(|facts| facts.records > 10));
        let shared = |facts: &CaptureFacts| facts.remarks.iter().any(|remark| remark.contains("also in torn"));
        assert!(!shared(&facts[1]) && shared(&facts[2]), "{:?}", facts[2].remarks);
    }
}
