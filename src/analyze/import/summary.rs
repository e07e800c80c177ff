//! What an import found, and what it could not use.

use std::fmt;
use std::io;

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

/// Why a packet (or a block of a pcapng file) was not understood. Packets that are simply not TCP are no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The link type of the capture is not one of those that are read.
    LinkType,
    /// The frame ends inside its link header.
    LinkHeader,
    /// The frame ends inside its IP header or extension headers, or they contradict themselves.
    NetworkHeader,
    /// The packet ends inside its TCP header, or the header contradicts itself.
    TransportHeader,
    /// Fragments that overlap, never became complete, or were too many.
    Fragment,
    /// Encrypted payload (IPsec ESP).
    Encrypted,
    /// A sequence number far outside of anything this connection could send.
    OutOfWindow,
    /// A RST that does not belong to the connection as it was seen.
    StrayReset,
    /// A pcapng block that contradicts itself.
    Block,
    /// A packet of an interface that the file does not describe.
    Interface,
    /// The file ends inside a record, or is damaged from here on.
    FileDamage,
}

impl Fault {
    /// All faults in report order.
    pub const ALL: [Fault; 11] = [
        Fault::LinkType,
        Fault::LinkHeader,
        Fault::NetworkHeader,
        Fault::TransportHeader,
        Fault::Fragment,
        Fault::Encrypted,
        Fault::OutOfWindow,
        Fault::StrayReset,
        Fault::Block,
        Fault::Interface,
        Fault::FileDamage,
    ];

    /// The word that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Fault::LinkType => "link_type",
            Fault::LinkHeader => "link_header",
            Fault::NetworkHeader => "network_header",
            Fault::TransportHeader => "transport_header",
            Fault::Fragment => "fragment",
            Fault::Encrypted => "encrypted",
            Fault::OutOfWindow => "out_of_window",
            Fault::StrayReset => "stray_reset",
            Fault::Block => "block",
            Fault::Interface => "interface",
            Fault::FileDamage => "file_damage",
        }
    }
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
    /// Frames that are well-formed and not TCP (ARP, UDP, ICMP, …).
    pub not_tcp: u64,
    pub connections: u64,
    /// Payload bytes handed on.
    pub payload_bytes: u64,
    /// Time of the earliest packet, Unix time in ns; 0 when there was none.
    pub first_time: u64,
    /// Time of the latest packet.
    pub last_time: u64,
    /// The largest number of bytes kept of one frame, as the file says; 0 when it does not say.
    pub snaplen: u32,
    /// Segments whose bytes had been seen before.
    pub retransmits: u64,
    /// Frames that the capture holds twice (one packet seen on two interfaces).
    pub duplicates: u64,
    /// Segments with data that came after their connection had ended.
    pub after_close: u64,
    /// Holes in streams, and the bytes in them.
    pub gaps: u64,
    pub gap_bytes: u64,
    /// Segments cut by the snaplen, and the bytes missing from them.
    pub truncated: u64,
    pub truncated_bytes: u64,
    /// Packets that the capturing program says it lost.
    pub dropped: u64,
    /// Connections given up because there were too many at once.
    pub evicted: u64,
    /// Packets and blocks not understood, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Set when the file could not be read to its end.
    pub damage: Option<Damage>,
}

impl ImportSummary {
    /// How many packets and blocks were not understood.
    pub fn not_understood(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// The faults that occurred, with their counts.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL
            .into_iter()
            .map(|fault| (fault, self.faults[fault as usize]))
            .filter(|(_, count)| *count > 0)
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Whether everything that went over the wire is in the result.
    pub fn is_whole(&self) -> bool {
        self.damage.is_none() && self.dropped == 0 && self.not_understood() == 0 && self.gaps == 0 && self.evicted == 0
    }
}

/// For people: what was read, and a line for each kind of loss.
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
        for (fault, count) in self.faults() {
            writeln!(f, "  {count} not understood: {}", fault.name())?;
        }
        match &self.damage {
            Some(damage) => writeln!(f, "  reading stopped: {damage}"),
            None => Ok(()),
        }
    }
}
