//! The way through an import, from the first byte of the file to the last record.

use std::io::Read;

use super::file::{CaptureFile, Event, Frame};
use super::fragment::Fragments;
use super::packet::{self, Packet};
use super::summary::{Error, Fault, ImportSummary};
use super::table::Table;
use crate::format::record::{Clock, Loss, LossReason, Record};

/// Losses are told at least this often, ns by packet times.
const LOSS_INTERVAL: u64 = 1_000_000_000;
/// Clock records are written this often, ns by packet times.
const CLOCK_INTERVAL: u64 = 10_000_000_000;

/// An import under way.
pub struct Import<'r> {
    file: CaptureFile<'r>,
    /// The first frame, read ahead for the clock in the header.
    first: Option<First>,
    flow: Flow,
}

/// A frame with its bytes.
struct First {
    time: u64,
    link: u16,
    data: Vec<u8>,
    original_len: u32,
}

/// Everything but the file.
#[derive(Default)]
struct Flow {
    table: Table,
    fragments: Fragments,
    summary: ImportSummary,
    /// Losses up to here have been told, at this time.
    told: Losses,
    told_at: u64,
    clock_at: u64,
    /// Latest packet time.
    now: u64,
}

/// Counts that become `Loss` records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Losses {
    not_understood: u64,
    truncated: u64,
    truncated_bytes: u64,
    evicted: u64,
    dropped: u64,
}

impl<'r> Import<'r> {
    /// Reads up to the first packet.
    pub fn open(input: impl Read + Send + 'r) -> Result<Self, Error> {
        let mut file = CaptureFile::open(input)?;
        let mut flow = Flow::default();
        let mut first = None;
        while let Some(event) = file.next_event()? {
            match event {
                Event::Frame(Frame {
                    time,
                    link,
                    data,
                    original_len,
                }) => {
                    first = Some(First {
                        time,
                        link,
                        data: data.to_vec(),
                        original_len,
                    });
                    break;
                }
                Event::Dropped { packets, .. } => flow.summary.dropped += packets,
                Event::Fault(fault) => flow.summary.fault(fault),
                Event::Nothing => {}
            }
        }
        Ok(Import { file, first, flow })
    }

    /// Time of the first packet, Unix time in ns; 0 when there is none.
    pub fn first_time(&self) -> u64 {
        self.first.as_ref().map_or(0, |first| first.time)
    }

    /// Payload bytes kept of each frame, as far as the file has said; 0 when it does not say.
    pub fn snaplen(&self) -> u32 {
        self.file.snaplen()
    }

    /// Reads one packet; false at the end of the file.
    pub fn step(&mut self, out: &mut impl FnMut(&Record<'_>)) -> Result<bool, Error> {
        if let Some(first) = self.first.take() {
            let First {
                time,
                link,
                ref data,
                original_len,
            } = first;
            self.flow.frame(
                Frame {
                    time,
                    link,
                    data,
                    original_len,
                },
                out,
            );
            return Ok(true);
        }
        match self.file.next_event()? {
            None => return Ok(false),
            Some(Event::Frame(frame)) => self.flow.frame(frame, out),
            Some(Event::Dropped { time, packets }) => {
                self.flow.summary.dropped += packets;
                self.flow.now = self.flow.now.max(time);
                self.flow.tell(out);
            }
            Some(Event::Fault(fault)) => self.flow.summary.fault(fault),
            Some(Event::Nothing) => {}
        }
        Ok(true)
    }

    /// Hands on what is held back, and what was lost.
    pub fn finish(mut self, out: &mut impl FnMut(&Record<'_>)) -> ImportSummary {
        let unfinished = self.flow.fragments.waiting() as u64 + self.flow.fragments.take_given_up();
        self.flow.summary.faults[Fault::Fragment as usize] += unfinished;
        self.flow.table.finish(&mut self.flow.summary, out);
        self.flow.tell(out);
        if self.flow.now != self.flow.clock_at {
            self.flow.clock(out);
        }
        let mut summary = self.flow.summary;
        summary.snaplen = self.file.snaplen();
        summary.damage = self.file.damage().cloned();
        summary
    }

    /// Reads to the end and hands every record to `out`, each after the records that it refers to.
    pub fn records(mut self, out: &mut impl FnMut(&Record<'_>)) -> Result<ImportSummary, Error> {
        while self.step(out)? {}
        Ok(self.finish(out))
    }
}

impl Flow {
    fn frame(&mut self, frame: Frame<'_>, out: &mut impl FnMut(&Record<'_>)) {
        let time = frame.time;
        if self.summary.packets == 0 {
            self.summary.first_time = time;
            self.told_at = time;
            self.now = time;
            self.clock(out);
        }
        self.summary.packets += 1;
        self.summary.first_time = self.summary.first_time.min(time);
        self.summary.last_time = self.summary.last_time.max(time);
        self.now = self.now.max(time);
        let mut whole = Vec::new();
        match packet::dissect(frame, &mut self.fragments, &mut whole) {
            Packet::Tcp(segment) => {
                self.summary.segments += 1;
                self.table.segment(&segment, &mut self.summary, out);
            }
            Packet::Other => self.summary.not_tcp += 1,
            Packet::Partial => {}
            Packet::Fault(fault) => self.summary.fault(fault),
        }
        if self.now - self.told_at >= LOSS_INTERVAL {
            self.summary.faults[Fault::Fragment as usize] += self.fragments.take_given_up();
            self.tell(out);
        }
        if self.now - self.clock_at >= CLOCK_INTERVAL {
            self.clock(out);
        }
    }

    /// The clocks: packets carry real time, and nothing else is known.
    fn clock(&mut self, out: &mut impl FnMut(&Record<'_>)) {
        self.clock_at = self.now;
        out(&Record::Clock(Clock {
            boot: self.now,
            monotonic: self.now,
            realtime: self.now,
        }));
    }

    /// Writes down what was lost since the last time.
    fn tell(&mut self, out: &mut impl FnMut(&Record<'_>)) {
        let now = Losses {
            not_understood: self.summary.not_understood(),
            truncated: self.summary.truncated,
            truncated_bytes: self.summary.truncated_bytes,
            evicted: self.summary.evicted,
            dropped: self.summary.dropped,
        };
        let since = std::mem::replace(&mut self.told_at, self.now);
        let told = std::mem::replace(&mut self.told, now);
        let losses = [
            (LossReason::NotUnderstood, now.not_understood - told.not_understood, 0),
            (
                LossReason::Truncated,
                now.truncated - told.truncated,
                now.truncated_bytes - told.truncated_bytes,
            ),
            (LossReason::MapFull, now.evicted - told.evicted, 0),
            (LossReason::CaptureDropped, now.dropped - told.dropped, 0),
        ];
        for (reason, events, bytes) in losses {
            if events > 0 {
                out(&Record::Loss(Loss {
                    time: self.now,
                    since,
                    reason,
                    events,
                    bytes,
                }));
            }
        }
    }
}
