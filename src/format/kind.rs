//! The kinds of records: the byte that precedes each record.

use super::layout::KIND_SLOTS;
use super::record::Record;

/// Kind of a record. Numbers are never reused (SPEC.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Process = 1,
    Cgroup = 2,
    Workload = 3,
    Address = 4,
    Socket = 5,
    Owner = 6,
    Exit = 7,
    Connect = 8,
    Close = 9,
    Data = 10,
    Loss = 11,
    Clock = 12,
    Remark = 13,
}

impl Kind {
    /// All kinds, in stored order.
    pub const ALL: [Kind; 13] = [
        Kind::Process,
        Kind::Cgroup,
        Kind::Workload,
        Kind::Address,
        Kind::Socket,
        Kind::Owner,
        Kind::Exit,
        Kind::Connect,
        Kind::Close,
        Kind::Data,
        Kind::Loss,
        Kind::Clock,
        Kind::Remark,
    ];

    /// The kind of a record.
    pub fn of(record: &Record<'_>) -> Kind {
        match record {
            Record::Process(_) => Kind::Process,
            Record::Cgroup(_) => Kind::Cgroup,
            Record::Workload(_) => Kind::Workload,
            Record::Address(_) => Kind::Address,
            Record::Socket(_) => Kind::Socket,
            Record::Owner(_) => Kind::Owner,
            Record::Exit(_) => Kind::Exit,
            Record::Connect(_) => Kind::Connect,
            Record::Close(_) => Kind::Close,
            Record::Data(_) => Kind::Data,
            Record::Loss(_) => Kind::Loss,
            Record::Clock(_) => Kind::Clock,
            Record::Remark(_) => Kind::Remark,
        }
    }

    /// The kind with this number; nothing for kinds of later versions.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// The stored byte.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// Place of this kind's counter in [`Counts`].
    pub(super) fn slot(self) -> usize {
        usize::from(self.byte())
    }

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Cgroup => "cgroup",
            Kind::Workload => "workload",
            Kind::Address => "address",
            Kind::Socket => "socket",
            Kind::Owner => "owner",
            Kind::Exit => "exit",
            Kind::Connect => "connect",
            Kind::Close => "close",
            Kind::Data => "data",
            Kind::Loss => "loss",
            Kind::Clock => "clock",
            Kind::Remark => "remark",
        }
    }
}

/// Number of records by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts(pub(super) [u32; KIND_SLOTS]);

impl Default for Counts {
    fn default() -> Self {
        Counts([0; KIND_SLOTS])
    }
}

impl Counts {
    /// Records of this kind.
    pub fn get(&self, kind: Kind) -> u32 {
        self.0[kind.slot()]
    }

    /// Records of kinds that this version does not know.
    pub fn unknown(&self) -> u64 {
        let known: u64 = Kind::ALL.iter().map(|&kind| u64::from(self.get(kind))).sum();
        self.0.iter().map(|&n| u64::from(n)).sum::<u64>() - known
    }
}
