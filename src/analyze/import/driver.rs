//! The steps of an import, from the first byte of the file to the last record: frames, packets, connections, records. Owns the
//! reports of losses and clocks; the work of each step is in its own module.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read;

use super::file::{CaptureFile, Event, Frame};
use super::fragment::Fragments;
use super::packet::{self, Packet};
use super::summary::{Error, ImportSummary};
use super::table::{Origin, Table};
use crate::analyze::remarks::{Remarks, Subject};
use crate::format::record::{About, Clock, Loss, LossReason, Record, Remark};

/// Losses are reported at least this often, ns by packet times.
const LOSS_INTERVAL: u64 = 1_000_000_000;
/// Clock records are written this often, ns by packet times.
const CLOCK_INTERVAL: u64 = 10_000_000_000;

/// An import under way: of one capture, or of several that are read together as one, in order of time.
pub struct Import<'r> {
    files: Vec<File<'r>>,
    table: Table,
    chains: Vec<Chain>,
    /// The next frame of each file, the earliest on top. Of one time: that of a file that has begun, then that of the first file.
    order: BinaryHeap<Reverse<(u64, bool, usize)>>,
}

/// One of the captures.
struct File<'r> {
    file: CaptureFile<'r>,
    /// Its next frame, read ahead: the first for the clock in the header; of several captures, each to know whose turn it is.
    next: Option<First>,
    flow: Flow,
    chain: Option<usize>,
}

/// Files of one kind of link that were captured one after the other, as rotated parts are: what is said of interfaces, and
/// fragments, go on from one to the next.
#[derive(Default)]
struct Chain {
    link: u16,
    /// It has had a file, and has one that is not over.
    is_used: bool,
    is_busy: bool,
    fragments: Fragments,
}

/// A frame with its bytes.
struct First {
    frame: Frame<'static>,
    data: Vec<u8>,
}

impl First {
    fn new(frame: &Frame<'_>, mut data: Vec<u8>) -> First {
        data.clear();
        data.extend_from_slice(frame.data);
        First {
            frame: Frame { data: &[], ..*frame },
            data,
        }
    }
}

/// What is counted and told of one file.
#[derive(Default)]
struct Flow {
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
        let mut next = None;
        while let Some(event) = file.next_event()? {
            match event {
                Event::Frame(frame) => {
                    next = Some(First::new(&frame, Vec::new()));
                    break;
                }
                Event::Dropped { packets, .. } => flow.summary.dropped += packets,
                Event::Remark(about) => flow.summary.remark(about),
                Event::Nothing => {}
            }
        }
        let chain = None;
        Ok(Import {
            files: vec![File {
                file,
                next,
                flow,
                chain,
            }],
            table: Table::default(),
            chains: vec![Chain::default()],
            order: BinaryHeap::new(),
        })
    }

    /// Reads these together as one, in order of time. A connection that several of them have is one where their sequence numbers
    /// agree: rotated parts go on, and what was captured at two places counts once. Each packet has the earlier of its times
    /// there, so a latency lies between those seen at the two places, however far apart their clocks are.
    pub fn join(imports: Vec<Import<'r>>) -> Import<'r> {
        let mut files: Vec<File<'r>> = imports.into_iter().flat_map(|import| import.files).collect();
        let mut order = BinaryHeap::new();
        let is_one = files.len() == 1;
        for (number, file) in files.iter_mut().enumerate().filter(|_| !is_one) {
            // One without packets has nothing to be read.
            let time = file.next.as_ref().map_or(0, |next| next.frame.time);
            order.push(Reverse((time, true, number)));
        }
        Import {
            files,
            table: Table::default(),
            chains: vec![Chain::default()],
            order,
        }
    }

    /// Time of the first packet, Unix time in ns; 0 when there is none.
    pub fn first_time(&self) -> u64 {
        let first = self.files.iter().filter_map(|file| file.next.as_ref());
        first.map(|first| first.frame.time).min().unwrap_or(0)
    }

    /// Payload bytes kept of each frame, as far as the file has stated it; 0 when it does not.
    pub fn snaplen(&self) -> u32 {
        self.files.iter().map(|file| file.file.snaplen()).max().unwrap_or(0)
    }

    /// Reads one packet; false at the end.
    pub fn step(&mut self, out: &mut impl FnMut(&Record<'_>)) -> Result<bool, Error> {
        self.step_of(&mut |_, record| out(record))
    }

    /// The same; with each record goes the number of the file that it is from.
    pub fn step_of(&mut self, out: &mut impl FnMut(usize, &Record<'_>)) -> Result<bool, Error> {
        match self.files.len() {
            1 => self.step_of_one(out),
            _ => self.step_of_several(out),
        }
    }

    fn step_of_one(&mut self, out: &mut impl FnMut(usize, &Record<'_>)) -> Result<bool, Error> {
        let (Some(File { file, next, flow, .. }), Some(chain)) = (self.files.first_mut(), self.chains.first_mut())
        else {
            return Ok(false);
        };
        let fragments = &mut chain.fragments;
        let out = &mut |record: &Record<'_>| out(0, record);
        if let Some(First { frame, data }) = next.take() {
            flow.frame(Frame { data: &data, ..frame }, &mut self.table, fragments, out);
            return Ok(true);
        }
        match file.next_event()? {
            None => return Ok(false),
            Some(Event::Frame(frame)) => flow.frame(frame, &mut self.table, fragments, out),
            Some(event) => flow.event(&event, fragments, out),
        }
        Ok(true)
    }

    fn step_of_several(&mut self, out: &mut impl FnMut(usize, &Record<'_>)) -> Result<bool, Error> {
        let Some(Reverse((_, _, number))) = self.order.pop() else {
            return Ok(false);
        };
        let out = &mut |record: &Record<'_>| out(number, record);
        let next = self.files[number].next.take();
        let chain = match (self.files[number].chain, &next) {
            (Some(chain), _) => chain,
            (None, None) => return Ok(true),
            (None, Some(first)) => self.chain(first.frame.link),
        };
        let fragments = &mut self.chains[chain].fragments;
        let File {
            file,
            next: ahead,
            flow,
            chain: of_file,
        } = &mut self.files[number];
        *of_file = Some(chain);
        let mut spare = Vec::new();
        if let Some(First { frame, data }) = next {
            #[expect(clippy::cast_possible_truncation, reason = "fewer than 2^32 files are opened")]
            let origin = Origin {
                file: number as u32,
                chain: chain as u32,
            };
            self.table.come_from(origin);
            // Interfaces have 16 bits; those of other chains are other interfaces.
            let interface = frame.interface.wrapping_add(origin.chain << 16);
            let frame = Frame {
                data: &data,
                interface,
                ..frame
            };
            flow.frame(frame, &mut self.table, fragments, out);
            spare = data;
        }
        loop {
            match file.next_event()? {
                None => break,
                Some(Event::Frame(frame)) => {
                    *ahead = Some(First::new(&frame, spare));
                    self.order.push(Reverse((frame.time, false, number)));
                    return Ok(true);
                }
                Some(event) => flow.event(&event, fragments, out),
            }
        }
        self.chains[chain].is_busy = false;
        Ok(true)
    }

    /// The chain that a file goes on with: one whose files are over, or a new one.
    fn chain(&mut self, link: u16) -> usize {
        let waits = |chain: &Chain| !chain.is_busy && (!chain.is_used || chain.link == link);
        let number = self.chains.iter().position(waits).unwrap_or_else(|| {
            self.chains.push(Chain::default());
            self.chains.len() - 1
        });
        let chain = &mut self.chains[number];
        (chain.link, chain.is_used, chain.is_busy) = (link, true, true);
        number
    }

    /// Hands on what is held back, and what was lost. The summary of the first file.
    pub fn finish(self, out: &mut impl FnMut(&Record<'_>)) -> ImportSummary {
        let summaries = self.finish_of(&mut |_, record| out(record));
        summaries.into_iter().next().unwrap_or_default()
    }

    /// The same, with a summary of each file.
    pub fn finish_of(mut self, out: &mut impl FnMut(usize, &Record<'_>)) -> Vec<ImportSummary> {
        self.chains.iter_mut().for_each(|chain| chain.fragments.end());
        if let Some(first) = self.files.first_mut() {
            self.table.finish(&mut first.flow.summary, &mut |record| out(0, record));
        }
        let mut summaries = Vec::new();
        for (
            number,
            File {
                file, mut flow, chain, ..
            },
        ) in self.files.into_iter().enumerate()
        {
            let out = &mut |record: &Record<'_>| out(number, record);
            flow.report_losses(&mut self.chains[chain.unwrap_or(0)].fragments, out);
            flow.report_remarks(out);
            if flow.now != flow.clock_at {
                flow.clock(out);
            }
            let mut summary = flow.summary;
            summary.snaplen = file.snaplen();
            summary.damage = file.damage().cloned();
            summaries.push(summary);
        }
        summaries
    }

    /// Reads to the end and hands every record to `out`, each after the records that it refers to.
    pub fn records(mut self, out: &mut impl FnMut(&Record<'_>)) -> Result<ImportSummary, Error> {
        while self.step(out)? {}
        Ok(self.finish(out))
    }
}

impl Flow {
    /// What the file says besides frames.
    fn event(&mut self, event: &Event<'_>, fragments: &mut Fragments, out: &mut impl FnMut(&Record<'_>)) {
        match *event {
            Event::Dropped { time, packets } => {
                self.summary.dropped += packets;
                self.now = self.now.max(time);
                self.report_losses(fragments, out);
            }
            Event::Remark(about) => self.summary.remark(about),
            Event::Frame(_) | Event::Nothing => {}
        }
    }

    fn frame(
        &mut self,
        frame: Frame<'_>,
        table: &mut Table,
        fragments: &mut Fragments,
        out: &mut impl FnMut(&Record<'_>),
    ) {
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
        let summary = &mut self.summary;
        packet::dissect(frame, fragments, &mut |packet| match packet {
            Packet::Tcp(segment) => {
                summary.segments += 1;
                table.segment(&segment, summary, out);
            }
            Packet::LeftOut(subject) => summary.remark(subject),
            Packet::Partial => {}
        });
        if self.now - self.losses_at >= LOSS_INTERVAL {
            self.report_losses(fragments, out);
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
    fn report_losses(&mut self, fragments: &mut Fragments, out: &mut impl FnMut(&Record<'_>)) {
        self.summary.remarks.merge(&fragments.take_given_up());
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
