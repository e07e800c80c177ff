//! How ring records and the values of maps are laid out, for all sources: the Rust twin of bpf/event.h and of the structs of
//! bpf/maps.h. Pure; no IO, no unsafe. `layout` compares the two sides.
//!
//! Both sides run on one machine, so numbers are in host byte order. Nothing here trusts the lengths it reads.

use crate::record::loss::Count;

/// A ring record that does not have the shape it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("ring record of {len} bytes is too short for kind {kind}")]
    Short { kind: u16, len: usize },
    #[error("unknown kind {kind} of ring record")]
    Kind { kind: u16 },
}

/// `enum mdf_loss`: the keys of the map `losses`, and their reasons.
pub(super) mod loss {
    use crate::format::record::LossReason;

    pub type Counter = (u32, LossReason);

    pub const RING_FULL: Counter = (0, LossReason::RingFull);
    pub const MAP_FULL: Counter = (1, LossReason::MapFull);
    pub const PAGE_FAULT: Counter = (2, LossReason::PageFault);
    pub const TRUNCATED: Counter = (3, LossReason::Truncated);
}

/// Reads the fields of one ring record, in their order, padding included.
pub(super) struct Fields<'a> {
    pub kind: u16,
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Begins after the kind.
    pub fn of(bytes: &'a [u8]) -> Result<Fields<'a>, WireError> {
        let mut fields = Fields {
            kind: 0,
            whole: bytes.len(),
            rest: bytes,
        };
        fields.kind = fields.u16()?;
        Ok(fields)
    }

    /// Whether this many bytes are left: checked once for many fields instead of for each.
    pub fn need(&self, len: usize) -> Result<(), WireError> {
        match self.rest.len() >= len {
            true => Ok(()),
            false => Err(self.short()),
        }
    }

    fn short(&self) -> WireError {
        WireError::Short {
            kind: self.kind,
            len: self.whole,
        }
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*array)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_ne_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_ne_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    pub fn tail(&mut self, len: u32) -> Result<&'a [u8], WireError> {
        self.bytes(len as usize)
    }
}

/// `struct mdf_count`: events and bytes, a value of the map `losses`.
pub(super) fn count(value: &[u8]) -> Option<Count> {
    Some(Count {
        events: word(value, 0)?,
        bytes: word(value, 8)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// `struct control`: what changes while programs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Control {
    pub own_tgid: u32,
    pub cgroup_generation: u32,
    pub only_self: u32,
}

impl Control {
    pub fn read(value: &[u8]) -> Option<Control> {
        Some(Control {
            own_tgid: half(value, 0)?,
            cgroup_generation: half(value, 4)?,
            only_self: half(value, 8)?,
        })
    }

    pub fn bytes(&self) -> Vec<u8> {
        let words = [self.own_tgid, self.cgroup_generation, self.only_self, 0];
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }
}

/// `struct followed`: a value of the map `followed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Followed {
    pub start: u64,
    pub of_command: bool,
}

impl Followed {
    pub fn read(value: &[u8]) -> Option<Followed> {
        Some(Followed {
            start: word(value, 0)?,
            of_command: half(value, 8)? == 1,
        })
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut value = self.start.to_ne_bytes().to_vec();
        value.extend(u32::from(self.of_command).to_ne_bytes());
        value.extend([0; 4]);
        value
    }
}
