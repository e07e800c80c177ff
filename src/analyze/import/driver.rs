//! The steps of an import, from the first byte of the file to the last record: frames, packets, connections, records. Owns the
//! reports of losses and clocks; the work of each step is in its own module.

use std::io::Read;

use super::file::{CaptureFile, Event, Frame};
use super::fragment::Fragments;
use super::packet::{self, Packet};
use super::summary::{Error, ImportSummary};
use super::table::Table;
use crate::analyze::remarks::{Remarks, Subject};
use crate::format::record::{About, Clock, Loss, LossReason, Record, Remark};

/// Losses are reported at least this often, ns by packet times.
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
    frame: Frame<'static>,
    data: Vec<u8>,
}

/// Everything but the file.
#[derive(Default)]
struct Flow {
    table: Table,
    fragments: Fragments,
    summary: ImportSummary,
    /// Losses that have been reported, and when.
    reported_losses: Losses,
    losses_at: u64,
    /// Remarks that have been reported as causes of losses.
    reported_remarks: Remarks,
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
                Event::Frame(frame) => {
                    first = Some(First {
                        frame: Frame { data: &[], ..frame },
                        data: frame.data.to_vec(),
                    });
                    break;
                }
                Event::Dropped { packets, .. } => flow.summary.dropped += packets,
                Event::Remark(about) => flow.summary.remark(about),
                Event::Nothing => {}
            }
        }
        Ok(Import { file, first, flow })
    }

    /// Time of the first packet, Unix time in ns; 0 when there is none.
    pub fn first_time(&self) -> u64 {
        self.first.as_ref().map_or(0, |first| first.frame.time)
    }

    /// Payload bytes kept of each frame, as far as the file has stated it; 0 when it does not.
    pub fn snaplen(&self) -> u32 {
        self.file.snaplen()
    }

    /// Reads one packet; false at the end of the file.
    pub fn step(&mut self, out: &mut impl FnMut(&Record<'_>)) -> Result<bool, Error> {
        if let Some(First { frame, data }) = self.first.take() {
            self.flow.frame(Frame { data: &data, ..frame }, out);
            return Ok(true);
        }
        match self.file.next_event()? {
            None => return Ok(false),
            Some(Event::Frame(frame)) => self.flow.frame(frame, out),
            Some(Event::Dropped { time, packets }) => {
                self.flow.summary.dropped += packets;
                self.flow.now = self.flow.now.max(time);
                self.flow.report_losses(out);
            }
            Some(Event::Remark(about)) => self.flow.summary.remark(about),
            Some(Event::Nothing) => {}
        }
        Ok(true)
    }

    /// Flushes what is held back, and reports what was lost.
    pub fn finish(mut self, out: &mut impl FnMut(&Record<'_>)) -> ImportSummary {
        self.flow.fragments.end();
        self.flow.table.finish(&mut self.flow.summary, out);
        self.flow.report_losses(out);
        self.flow.report_remarks(out);
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
            self.losses_at = time;
            self.now = time;
            self.clock(out);
        }
        self.summary.packets += 1;
        self.summary.remark(Subject::new(About::Frames, frame.link));
        self.summary.first_time = self.summary.first_time.min(time);
        self.summary.last_time = self.summary.last_time.max(time);
        self.now = self.now.max(time);
        let (table, summary) = (&mut self.table, &mut self.summary);
        packet::dissect(frame, &mut self.fragments, &mut |packet| match packet {
            Packet::Tcp(segment) => {
                summary.segments += 1;
                table.segment(&segment, summary, out);
            }
            Packet::LeftOut(subject) => summary.remark(subject),
            Packet::Partial => {}
        });
        if self.now - self.losses_at >= LOSS_INTERVAL {
            self.report_losses(out);
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

    /// Reports what was lost since the last report.
    fn report_losses(&mut self, out: &mut impl FnMut(&Record<'_>)) {
        self.summary.remarks.merge(&self.fragments.take_given_up());
        let now = Losses {
            not_understood: self.summary.remarks.not_understood(),
            truncated: self.summary.truncated,
            truncated_bytes: self.summary.truncated_bytes,
            evicted: self.summary.evicted,
            dropped: self.summary.dropped,
        };
        let since = std::mem::replace(&mut self.losses_at, self.now);
        let before = std::mem::replace(&mut self.reported_losses, now);
        if now.not_understood > before.not_understood {
            // What the loss consists of comes before it (SPEC.md).
            for (subject, events) in self.summary.remarks.since(&self.reported_remarks) {
                if subject.about.is_cause() {
                    out(&remark(since, self.now, subject, events));
                }
            }
            self.reported_remarks = self.summary.remarks.clone();
        }
        let losses = [
            (LossReason::NotUnderstood, now.not_understood - before.not_understood, 0),
            (
                LossReason::Truncated,
                now.truncated - before.truncated,
                now.truncated_bytes - before.truncated_bytes,
            ),
            (LossReason::MapFull, now.evicted - before.evicted, 0),
            (LossReason::CaptureDropped, now.dropped - before.dropped, 0),
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

    /// Reports remarks that are no losses.
    fn report_remarks(&mut self, out: &mut impl FnMut(&Record<'_>)) {
        for (subject, events) in self.summary.remarks.iter() {
            if !subject.about.is_cause() {
                out(&remark(self.summary.first_time, self.now, subject, events));
            }
        }
    }
}

fn remark(since: u64, time: u64, subject: Subject, events: u64) -> Record<'static> {
    Record::Remark(Remark {
        time,
        since,
        about: subject.about,
        number: subject.number,
        events,
    })
}
