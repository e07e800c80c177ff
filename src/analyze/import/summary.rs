//! The result of an import: what was read, what was left out, where reading stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::analyze::remarks::{Remarks, Subject};

/// Why a packet capture could not be imported at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input could not be read.
    #[error("cannot read the packet capture")]
    Read(#[source] io::Error),
    /// The input is something else. The first bytes are kept for the message.
    #[error("not a packet capture (pcap or pcapng): it begins with {found}")]
    NotACapture {
        /// The first bytes in hexadecimal.
        found: String,
    },
    /// What was imported could not be handed on.
    #[error("cannot store what was imported")]
    Store(#[source] io::Error),
}

/// Where and why reading stopped before the end of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Position in the (uncompressed) file.
    pub offset: u64,
    /// What was found there.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

/// What an import read and what it made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Frames in the file.
    pub packets: u64,
    /// TCP segments among them, after IP reassembly.
    pub segments: u64,
    pub connections: u64,
    /// Payload bytes handed on.
    pub payload_bytes: u64,
    /// Time of the earliest packet, Unix time in ns; 0 when there was none.
    pub first_time: u64,
    /// Time of the latest packet.
    pub last_time: u64,
    /// The largest number of bytes kept of one frame, as the file states it; 0 when it does not.
    pub snaplen: u32,
    /// Segments whose bytes had been seen before.
    pub retransmits: u64,
    /// Holes in streams, and the bytes in them.
    pub gaps: u64,
    pub gap_bytes: u64,
    /// Segments cut by the snaplen, and the bytes missing from them.
    pub truncated: u64,
    pub truncated_bytes: u64,
    /// Packets that the capturing program reports as lost.
    pub dropped: u64,
    /// Connections given up because there were too many at once.
    pub evicted: u64,
    /// Packets and blocks that were left out, and why.
    pub remarks: Remarks,
    /// Set when the file could not be read to its end.
    pub damage: Option<Damage>,
    /// By the number of a file that is read together with this one: connections that both have.
    pub shared: BTreeMap<u32, Shared>,
}

/// Records that were made of the packets of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    pub records: u64,
    /// Of the records in blocks.
    pub raw_bytes: u64,
    /// Bytes that went over the connections, and those of them that were captured.
    pub data_bytes: u64,
    pub payload_bytes: u64,
}

/// Connections that two files have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// Connections that are the same, so that their packets count once.
    pub joined: u64,
    /// Connections of the same addresses and ports whose sequence numbers differ, so that each counts for itself.
    pub different: u64,
}

impl ImportSummary {
    /// Counts a packet or block that is left out or has a peculiarity.
    pub(super) fn remark(&mut self, subject: impl Into<Subject>) {
        self.remarks.add(subject.into(), 1);
    }

    /// Whether everything that went over the wire is in the result.
    pub fn is_whole(&self) -> bool {
        self.damage.is_none()
            && self.dropped == 0
            && self.remarks.not_understood() == 0
            && self.gaps == 0
            && self.evicted == 0
    }
}

/// Text: what was read, and a line for each kind of loss.
impl fmt::Display for ImportSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            packets,
            segments,
            connections,
            payload_bytes,
            ..
        } = self;
        writeln!(
            f,
            "{packets} packets, {segments} TCP segments, {connections} connections, {payload_bytes} payload bytes"
        )?;
        let lines = [
            (self.dropped, "packets lost by the capturing program"),
            (self.gap_bytes, "bytes missing from streams"),
            (self.truncated, "segments cut by the snaplen"),
            (self.evicted, "connections given up because there were too many"),
        ];
        for (count, what) in lines.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "  {count} {what}")?;
        }
        for line in self.remarks.lines() {
            writeln!(f, "  {line}")?;
        }
        match &self.damage {
            Some(damage) => writeln!(f, "  reading stopped: {damage}"),
            None => Ok(()),
        }
    }
}
