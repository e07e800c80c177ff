//! Blocks in memory: records framed one after the other, with the facts that the block header will state.

use super::bloom::Bloom;
use super::codec;
use super::error::Error;
use super::kind::{Counts, Kind};
use super::layout::{BLOCK_TARGET, FRAME_LEN, RAW_LIMIT, RECORD_LIMIT, u64_at};
use super::record::{Cut, Data, LossReason, Process, Record};

/// What a block holds. State and events never share a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Records that name things; readers of any part of the file need all of these.
    State = 1,
    /// Records of what happened; readers may choose among these.
    Events = 2,
}

impl Class {
    /// The class with this number; nothing for classes of later versions.
    pub fn from_byte(byte: u8) -> Option<Class> {
        match byte {
            1 => Some(Class::State),
            2 => Some(Class::Events),
            _ => None,
        }
    }

    /// The stored byte.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

/// The connections of a block: keys are the upper halves of socket ids, which both ends of a connection share.
pub type SocketSet = Bloom<128>;
/// The processes of a block.
pub type PidSet = Bloom<64>;

/// Losses of one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossTotal {
    pub reason: LossReason,
    /// Events lost (or shortened, see [`super::record::Loss`]).
    pub events: u64,
    /// Payload bytes lost, where known.
    pub bytes: u64,
}

/// Adds to the total of a reason; totals are kept in the order of their stored bytes.
pub(crate) fn add_loss(totals: &mut Vec<LossTotal>, reason: LossReason, events: u64, bytes: u64) {
    match totals.binary_search_by_key(&reason.byte(), |total| total.reason.byte()) {
        Ok(at) => {
            totals[at].events = totals[at].events.saturating_add(events);
            totals[at].bytes = totals[at].bytes.saturating_add(bytes);
        }
        Err(at) => totals.insert(at, LossTotal { reason, events, bytes }),
    }
}

/// A finished block, not compressed yet. Can be read at once (live output) and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    pub class: Class,
    /// Framed records.
    pub bytes: Vec<u8>,
    pub records: u32,
    /// Earliest and latest time of its records: boot-time clock, ns.
    pub first_time: u64,
    pub last_time: u64,
    pub counts: Counts,
    /// Sum of the original lengths of its data records.
    pub data_bytes: u64,
    /// Sum of their captured lengths.
    pub payload_bytes: u64,
    pub sockets: SocketSet,
    pub pids: PidSet,
    /// By reason.
    pub losses: Vec<LossTotal>,
}

impl RawBlock {
    fn new(class: Class) -> Self {
        RawBlock {
            class,
            bytes: Vec::new(),
            records: 0,
            first_time: u64::MAX,
            last_time: 0,
            counts: Counts::default(),
            data_bytes: 0,
            payload_bytes: 0,
            sockets: SocketSet::default(),
            pids: PidSet::default(),
            losses: Vec::new(),
        }
    }

    /// Its records, in the order in which they were pushed.
    pub fn records(&self) -> Records<'_> {
        records(&self.bytes)
    }
}

/// Collects records into a block.
#[derive(Debug)]
pub struct BlockBuilder {
    block: RawBlock,
    last_socket: Option<u32>,
    last_pid: u32,
    spare: Vec<u8>,
}

impl BlockBuilder {
    pub fn new(class: Class) -> Self {
        BlockBuilder {
            block: RawBlock::new(class),
            last_socket: None,
            last_pid: 0,
            spare: Vec::new(),
        }
    }

    /// Appends a record. One that is longer than a record may be is stored with shortened payload or texts (its
    /// original lengths stay); nothing is left out.
    ///
    /// Take the block when [`BlockBuilder::is_full`]: a block beyond [`RAW_LIMIT`] cannot be written.
    pub fn push(&mut self, record: &Record<'_>) {
        let start = self.block.bytes.len();
        if self.block.bytes.capacity() == 0 {
            self.block.bytes = std::mem::take(&mut self.spare);
            self.block.bytes.reserve(BLOCK_TARGET + BLOCK_TARGET / 16);
        }
        if frame(record, &mut self.block.bytes) > RECORD_LIMIT {
            self.block.bytes.truncate(start);
            let record = shortened(record);
            frame(&record, &mut self.block.bytes);
            self.note(&record);
        } else {
            self.note(record);
        }
    }

    /// Keeps the facts for the block header.
    fn note(&mut self, record: &Record<'_>) {
        let block = &mut self.block;
        block.records += 1;
        block.counts.0[Kind::of(record).slot()] += 1;
        let time = record.time();
        block.first_time = block.first_time.min(time);
        block.last_time = block.last_time.max(time);
        let (socket, pid) = match record {
            Record::Data(r) => {
                block.data_bytes += u64::from(r.len);
                block.payload_bytes += r.payload.len() as u64;
                (Some(r.id), r.pid)
            }
            Record::Socket(r) => (Some(r.id), r.pid),
            Record::Owner(r) => (Some(r.id), r.pid),
            Record::Connect(r) => (Some(r.id), 0),
            Record::Close(r) => (Some(r.id), 0),
            Record::Process(r) => (None, r.pid),
            Record::Exit(r) => (None, r.pid),
            Record::Loss(r) => {
                add_loss(&mut block.losses, r.reason, r.events, r.bytes);
                (None, 0)
            }
            Record::Cgroup(_) | Record::Workload(_) | Record::Address(_) | Record::Clock(_) | Record::Remark(_) => {
                (None, 0)
            }
        };
        if let Some(id) = socket {
            let key = (id >> 32) as u32;
            if self.last_socket != Some(key) {
                self.last_socket = Some(key);
                block.sockets.insert(key);
            }
        }
        if pid != 0 && pid != self.last_pid {
            self.last_pid = pid;
            block.pids.insert(pid);
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.block.bytes.len()
    }

    /// Records so far.
    pub fn events(&self) -> u64 {
        u64::from(self.block.records)
    }

    pub fn is_empty(&self) -> bool {
        self.block.records == 0
    }

    /// Whether it has reached the size at which a writer should take it.
    pub fn is_full(&self) -> bool {
        self.len() >= BLOCK_TARGET
    }

    /// The block; the builder is empty afterwards.
    pub fn take(&mut self) -> RawBlock {
        self.last_socket = None;
        self.last_pid = 0;
        let class = self.block.class;
        std::mem::replace(&mut self.block, RawBlock::new(class))
    }

    /// Gives the memory of a block that has been written back for the next one.
    pub fn recycle(&mut self, block: RawBlock) {
        if block.bytes.capacity() <= RAW_LIMIT && self.spare.capacity() < block.bytes.capacity() {
            self.spare = block.bytes;
            self.spare.clear();
        }
    }
}

/// Appends frame and body; returns the length of the body.
#[expect(clippy::cast_possible_truncation, reason = "RECORD_LIMIT is less")]
fn frame(record: &Record<'_>, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[Kind::of(record).byte(), 0, 0, 0]);
    codec::encode(record, out);
    let len = out.len() - start - FRAME_LEN;
    let bytes = (len as u32).to_le_bytes();
    out[start + 1..start + FRAME_LEN].copy_from_slice(&bytes[..3]);
    len
}

/// The same record with every variable part cut so that it fits into [`RECORD_LIMIT`].
fn shortened<'a>(record: &Record<'a>) -> Record<'a> {
    /// Nine texts of this size and the fixed fields fit.
    const TEXT: usize = RECORD_LIMIT / 16;
    fn bytes(bytes: &[u8]) -> &[u8] {
        &bytes[..bytes.len().min(TEXT)]
    }
    fn text(text: &str) -> &str {
        let mut end = text.len().min(TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        &text[..end]
    }
    match *record {
        Record::Data(data) => {
            let payload = &data.payload[..data.payload.len().min(RECORD_LIMIT - 256)];
            let cut = if data.cut == Cut::Whole { Cut::Snaplen } else { data.cut };
            Record::Data(Data { payload, cut, ..data })
        }
        Record::Process(r) => Record::Process(Process {
            comm: bytes(r.comm),
            exe: bytes(r.exe),
            argv: bytes(r.argv),
            ..r
        }),
        Record::Cgroup(mut r) => {
            r.path = bytes(r.path);
            Record::Cgroup(r)
        }
        Record::Workload(mut r) => {
            for field in [
                &mut r.container_id,
                &mut r.runtime,
                &mut r.container,
                &mut r.pod_uid,
                &mut r.pod,
                &mut r.namespace,
                &mut r.workload,
                &mut r.labels,
            ] {
                *field = text(field);
            }
            Record::Workload(r)
        }
        Record::Address(mut r) => {
            for field in [&mut r.namespace, &mut r.name, &mut r.workload] {
                *field = text(field);
            }
            Record::Address(r)
        }
        fixed => fixed,
    }
}

/// The records of an inflated block.
pub fn records(raw: &[u8]) -> Records<'_> {
    Records {
        frames: frames(raw),
        unknown: 0,
    }
}

/// The records of some kinds in a block.
pub fn records_of<'b>(bytes: &'b [u8], kinds: &'b [Kind]) -> impl Iterator<Item = Record<'b>> {
    let frames = frames(bytes).flatten();
    let of_kinds = frames.filter(|frame| frame.kind.is_some_and(|kind| kinds.contains(&kind)));
    of_kinds.filter_map(|frame| records(&bytes[frame.at..]).next()?.ok())
}

/// The frames of an inflated block: records that are found but not read.
pub fn frames(raw: &[u8]) -> Frames<'_> {
    Frames { raw, at: 0 }
}

/// A record that is not read yet.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Where it begins in its block; [`records`] from there on begins with it.
    pub at: usize,
    /// Nothing for kinds of later versions.
    pub kind: Option<Kind>,
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The id of the socket that the record is about, for the kinds that are about one: their bodies begin with time
    /// and id (SPEC.md), so that work can be shared out before anything is read.
    #[inline]
    pub fn socket_id(&self) -> Option<u64> {
        let about_socket = matches!(
            self.kind?,
            Kind::Data | Kind::Socket | Kind::Owner | Kind::Connect | Kind::Close
        );
        (about_socket && self.body.len() >= 16).then(|| u64_at(self.body, 8))
    }

    /// When it was: the bodies of all kinds begin with their time (SPEC.md).
    #[inline]
    pub fn time(&self) -> u64 {
        u64_at(self.body, 0)
    }

    /// The record, if it is well-formed data. Most records are, and the way through [`Record`], which is as large as its
    /// largest kind, costs several times as much.
    #[inline]
    pub fn data(&self) -> Option<Data<'a>> {
        (self.kind == Some(Kind::Data)).then(|| codec::decode_data(self.body))?
    }
}

/// Iterates over frames; one that does not fit is an error that ends the block.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Error>;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low byte is meant")]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.raw.get(at..).unwrap_or_default();
        let Some((frame, after)) = rest.split_first_chunk::<FRAME_LEN>() else {
            self.at = self.raw.len();
            let left = rest.len();
            return (left > 0).then_some(Err(Error::Frame {
                at,
                len: FRAME_LEN,
                left,
            }));
        };
        let frame = u32::from_le_bytes(*frame);
        let len = (frame >> 8) as usize;
        let Some(body) = after.get(..len) else {
            self.at = self.raw.len();
            return Some(Err(Error::Frame {
                at,
                len,
                left: after.len(),
            }));
        };
        self.at = at + FRAME_LEN + len;
        Some(Ok(Frame {
            at,
            kind: Kind::from_byte(frame as u8),
            body,
        }))
    }
}

/// Iterates over the records of an inflated block. Kinds of later versions are stepped over and counted; a malformed
/// record is an error, after which the next is tried.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    frames: Frames<'a>,
    unknown: u64,
}

impl Records<'_> {
    /// Records of unknown kinds that were stepped over so far.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let frame = match self.frames.next()? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error)),
            };
            match frame.kind {
                None => self.unknown += 1,
                Some(kind) => {
                    let malformed = |_| Error::Record {
                        at: frame.at,
                        kind: kind.byte(),
                    };
                    return Some(codec::decode(kind, frame.body).map_err(malformed));
                }
            }
        }
    }
}
