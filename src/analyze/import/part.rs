//! Bytes of a packet, and how many there were on the wire.

/// A header with what follows it, or a part of that.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The captured prefix.
    pub bytes: &'a [u8],
    /// Length on the wire.
    pub len: usize,
}

impl<'a> Part<'a> {
    /// What follows the first `count` bytes.
    pub fn skip(self, count: usize) -> Part<'a> {
        Part {
            bytes: self.bytes.get(count..).unwrap_or(&[]),
            len: self.len.saturating_sub(count),
        }
    }

    /// Without what is after `len` bytes (padding of the link).
    pub fn limit(self, len: usize) -> Part<'a> {
        Part {
            bytes: self.bytes.get(..len).unwrap_or(self.bytes),
            len,
        }
    }

    /// The byte at `at`.
    pub fn byte(self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The bytes at `at`.
    pub fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// The 16 bits at `at` in network order.
    pub fn half(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    /// The upper four bits of the first byte: the version of an IP header.
    pub fn version(self) -> Option<u8> {
        self.byte(0).map(|byte| byte >> 4)
    }
}

/// Where a packet was captured, as far as the capture shows: interface, addresses of the link, tunnel. The same packet
/// that passes several interfaces has a different one at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tap(u64);

impl Tap {
    /// At this interface of the file.
    pub fn at(interface: u32) -> Tap {
        Tap(u64::from(interface))
    }

    /// The same with these bytes of a header: those that do not differ from packet to packet.
    pub fn with(self, bytes: &[u8]) -> Tap {
        Tap(bytes.iter().fold(self.0.wrapping_add(1), |tap, byte| {
            (tap.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95)
        }))
    }
}
