//! From a frame to the TCP segment in it: link header, IP header, extension headers, fragments.
//!
//! etherparse knows the IP and TCP headers; the link headers are a few constant offsets. Nothing here remembers
//! anything except fragments.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice};

use super::file::Frame;
use super::fragment::{Fragments, Id, Piece};
use super::summary::Fault;
use crate::format::record::Endpoint;

/// Link-layer headers stacked in one frame at most (VLAN tags, MPLS labels).
const MAX_TAGS: usize = 16;
/// IPv6 extension headers in one packet at most.
const MAX_EXTENSIONS: usize = 16;

/// IP protocol numbers and extension headers.
mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const TCP: u8 = 6;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ESP: u8 = 50;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// One TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Unix time, ns.
    pub time: u64,
    pub from: Endpoint,
    pub to: Endpoint,
    pub seq: u32,
    /// The acknowledged sequence number, when the ACK flag is set.
    pub ack: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// Captured prefix of the payload.
    pub payload: &'a [u8],
    /// Length of the payload on the wire.
    pub len: u32,
    /// Identification of the IPv4 packet; 0 when there is none.
    pub ip_id: u16,
    /// The sequence number of a byte of urgent data, here or still to come. Receivers take the urgent pointer for the byte
    /// after it, whatever RFC 1122 says (RFC 6093, 3.1 and 4).
    pub urgent: Option<u32>,
}

/// What a frame turned out to be.
#[derive(Debug)]
pub enum Packet<'a> {
    Tcp(Segment<'a>),
    /// A well-formed packet of another protocol.
    Other,
    /// A fragment whose datagram is not complete yet.
    Partial,
    Fault(Fault),
}

/// Bytes and how many there were on the wire.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Part<'a> {
    fn skip(self, count: usize) -> Part<'a> {
        Part {
            bytes: self.bytes.get(count..).unwrap_or(&[]),
            len: self.len.saturating_sub(count),
        }
    }

    /// Without what lies after `len` bytes (padding of the link).
    fn limit(self, len: usize) -> Part<'a> {
        Part {
            bytes: self.bytes.get(..len).unwrap_or(self.bytes),
            len,
        }
    }
}

/// What lies above the link header.
enum Network {
    V4,
    V6,
    /// By the version in its first four bits.
    Ip,
    Other,
}

/// Takes a frame apart. Fragments are kept in `fragments`; `whole` is where a reassembled datagram is put.
pub fn dissect<'a>(frame: Frame<'a>, fragments: &mut Fragments, whole: &'a mut Vec<u8>) -> Packet<'a> {
    let part = Part {
        bytes: frame.data,
        len: frame.original_len as usize,
    };
    let result = match link(frame.link, part) {
        Err(fault) => Err(fault),
        Ok((Network::Other, _)) => return Packet::Other,
        Ok((network, part)) => {
            let version = part.bytes.first().map(|b| b >> 4);
            match (network, version) {
                (Network::V4 | Network::Ip, Some(4)) => v4(frame.time, part, fragments, whole),
                (Network::V6 | Network::Ip, Some(6)) => v6(frame.time, part, fragments, whole),
                _ => Err(Fault::NetworkHeader),
            }
        }
    };
    result.unwrap_or_else(Packet::Fault)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

/// Passes the link header. Numbers: <https://www.tcpdump.org/linktypes.html>.
fn link(link: u16, part: Part<'_>) -> Result<(Network, Part<'_>), Fault> {
    let short = Fault::LinkHeader;
    match link {
        // Ethernet.
        1 => ethertype(half(part.bytes, 12).ok_or(short)?, part.skip(14)),
        // BSD loopback: an address family in the byte order of the capturing machine, or (108) in network order. The
        // families of IPv6 differ between systems.
        0 | 108 => {
            let family = part.bytes.first_chunk::<4>().ok_or(short)?;
            let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
            let network = match family {
                2 => Network::V4,
                10 | 24 | 28 | 30 => Network::V6,
                _ => Network::Other,
            };
            Ok((network, part.skip(4)))
        }
        // Raw IP; 12 and 14 are what some systems wrote for it.
        12 | 14 | 101 => Ok((Network::Ip, part)),
        228 => Ok((Network::V4, part)),
        229 => Ok((Network::V6, part)),
        // Linux cooked capture.
        113 => ethertype(half(part.bytes, 14).ok_or(short)?, part.skip(16)),
        // Linux cooked capture, version 2.
        276 => {
            let kind = half(part.bytes, 0).ok_or(short)?;
            ethertype(kind, part.skip(20))
        }
        // PPP, maybe in HDLC-like framing.
        9 => {
            let part = if part.bytes.starts_with(&[0xff, 0x03]) {
                part.skip(2)
            } else {
                part
            };
            ppp(part)
        }
        _ => Err(Fault::LinkType),
    }
}

fn ppp(part: Part<'_>) -> Result<(Network, Part<'_>), Fault> {
    match half(part.bytes, 0).ok_or(Fault::LinkHeader)? {
        0x0021 => Ok((Network::V4, part.skip(2))),
        0x0057 => Ok((Network::V6, part.skip(2))),
        _ => Ok((Network::Other, part)),
    }
}

/// Passes VLAN tags, MPLS labels, PPPoE and SNAP.
fn ethertype(mut kind: u16, mut part: Part<'_>) -> Result<(Network, Part<'_>), Fault> {
    let short = Fault::LinkHeader;
    for _ in 0..MAX_TAGS {
        match kind {
            0x0800 => return Ok((Network::V4, part)),
            0x86dd => return Ok((Network::V6, part)),
            // 802.1Q, 802.1ad, and the tags used before it.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                kind = half(part.bytes, 2).ok_or(short)?;
                part = part.skip(4);
            }
            0x8847 | 0x8848 => {
                let bottom = part.bytes.get(2).ok_or(short)? & 1 == 1;
                part = part.skip(4);
                if bottom {
                    // What follows is told by nobody but its first four bits.
                    let ip = matches!(part.bytes.first().map(|b| b >> 4), Some(4 | 6));
                    return Ok((if ip { Network::Ip } else { Network::Other }, part));
                }
            }
            0x8864 => return ppp(part.skip(6)),
            // A length: IEEE 802.3 with LLC; SNAP carries an EtherType.
            0..0x0600 => {
                if part.bytes.get(..6) != Some(&[0xaa, 0xaa, 3, 0, 0, 0]) {
                    return Ok((Network::Other, part));
                }
                part = part.limit(part.len.min(usize::from(kind)));
                kind = half(part.bytes, 6).ok_or(short)?;
                part = part.skip(8);
            }
            _ => return Ok((Network::Other, part)),
        }
    }
    Err(Fault::LinkHeader)
}

fn v4<'a>(time: u64, part: Part<'a>, fragments: &mut Fragments, whole: &'a mut Vec<u8>) -> Result<Packet<'a>, Fault> {
    let bad = Fault::NetworkHeader;
    let header = Ipv4HeaderSlice::from_slice(part.bytes).map_err(|_| bad)?;
    let header_len = header.slice().len();
    let total = match usize::from(header.total_len()) {
        // Segmentation offload: the packet was captured before its length was filled in.
        0 => part.len,
        total => total,
    };
    if total < header_len {
        return Err(bad);
    }
    let part = part.limit(total).skip(header_len);
    let mapped = |v4: [u8; 4]| {
        let mut ip = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        ip[12..].copy_from_slice(&v4);
        ip
    };
    let (from, to) = (mapped(header.source()), mapped(header.destination()));
    let number = header.protocol().0;
    let offset = u32::from(header.fragments_offset().value()) * 8;
    if header.more_fragments() || offset > 0 {
        if number != protocol::TCP && number != protocol::AUTHENTICATION {
            return Ok(Packet::Other);
        }
        let id = Id {
            from,
            to,
            number: u32::from(header.identification()),
            protocol: number,
        };
        let piece = Piece {
            offset,
            len: part.len,
            bytes: part.bytes,
            more: header.more_fragments(),
        };
        return match fragments.add(time, id, piece, whole)? {
            None => Ok(Packet::Partial),
            Some(len) => upper(time, from, to, number, Part { bytes: whole, len }, 0),
        };
    }
    upper(time, from, to, number, part, header.identification())
}

fn v6<'a>(time: u64, part: Part<'a>, fragments: &mut Fragments, whole: &'a mut Vec<u8>) -> Result<Packet<'a>, Fault> {
    let bad = Fault::NetworkHeader;
    let header = Ipv6HeaderSlice::from_slice(part.bytes).map_err(|_| bad)?;
    let (from, to) = (header.source(), header.destination());
    let part = match usize::from(header.payload_length()) {
        // A jumbogram (RFC 2675), or offload as with IPv4.
        0 => part.skip(40),
        len => part.skip(40).limit(len),
    };
    let (number, part) = extensions(header.next_header().0, part)?;
    if number != protocol::FRAGMENT {
        return upper(time, from, to, number, part, 0);
    }
    let [next, _, high, low, a, b, c, d] = *part.bytes.first_chunk::<8>().ok_or(bad)?;
    let part = part.skip(8);
    let field = u16::from_be_bytes([high, low]);
    let (offset, more) = (u32::from(field & !7), field & 1 == 1);
    if offset == 0 && !more {
        // An atomic fragment (RFC 6946) is whole by itself.
        let (number, part) = extensions(next, part)?;
        return upper(time, from, to, number, part, 0);
    }
    let id = Id {
        from,
        to,
        number: u32::from_be_bytes([a, b, c, d]),
        protocol: protocol::FRAGMENT,
    };
    let piece = Piece {
        offset,
        len: part.len,
        bytes: part.bytes,
        more,
    };
    match fragments.add_v6(time, id, piece, next, whole)? {
        None => Ok(Packet::Partial),
        Some((len, next)) => {
            let (number, part) = extensions(next, Part { bytes: whole, len })?;
            upper(time, from, to, number, part, 0)
        }
    }
}

/// Passes extension headers (RFC 8200, section 4) up to a transport header or a fragment header.
fn extensions(mut number: u8, mut part: Part<'_>) -> Result<(u8, Part<'_>), Fault> {
    use protocol::*;
    for _ in 0..MAX_EXTENSIONS {
        let len = match number {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                usize::from(*part.bytes.get(1).ok_or(Fault::NetworkHeader)?) * 8 + 8
            }
            // Its length counts 4-byte units (RFC 4302, 2.2).
            AUTHENTICATION => usize::from(*part.bytes.get(1).ok_or(Fault::NetworkHeader)?) * 4 + 8,
            _ => return Ok((number, part)),
        };
        if len > part.bytes.len() {
            return Err(Fault::NetworkHeader);
        }
        number = part.bytes[0];
        part = part.skip(len);
    }
    Err(Fault::NetworkHeader)
}

fn upper<'a>(
    time: u64,
    from: [u8; 16],
    to: [u8; 16],
    number: u8,
    part: Part<'a>,
    ip_id: u16,
) -> Result<Packet<'a>, Fault> {
    let (number, part) = if number == protocol::AUTHENTICATION {
        extensions(number, part)?
    } else {
        (number, part)
    };
    match number {
        protocol::TCP => tcp(time, from, to, part, ip_id),
        protocol::ESP => Err(Fault::Encrypted),
        _ => Ok(Packet::Other),
    }
}

fn tcp<'a>(time: u64, from: [u8; 16], to: [u8; 16], part: Part<'a>, ip_id: u16) -> Result<Packet<'a>, Fault> {
    let bad = Fault::TransportHeader;
    let header_len = usize::from(part.bytes.get(12).ok_or(bad)? >> 4) * 4;
    if header_len < 20 || header_len > part.len {
        return Err(bad);
    }
    // The snaplen may cut the options off, of which nothing is needed.
    let mut fixed: [u8; 20] = *part.bytes.first_chunk().ok_or(bad)?;
    fixed[12] = fixed[12] & 0x0f | 5 << 4;
    let header = TcpHeaderSlice::from_slice(&fixed).map_err(|_| bad)?;
    let payload = part.skip(header_len);
    Ok(Packet::Tcp(Segment {
        time,
        from: Endpoint {
            ip: from,
            port: header.source_port(),
        },
        to: Endpoint {
            ip: to,
            port: header.destination_port(),
        },
        seq: header.sequence_number(),
        ack: header.ack().then(|| header.acknowledgment_number()),
        syn: header.syn(),
        fin: header.fin(),
        rst: header.rst(),
        payload: payload.bytes,
        len: u32::try_from(payload.len).map_err(|_| bad)?,
        ip_id,
        urgent: header.urg().then(|| {
            header
                .sequence_number()
                .wrapping_add(u32::from(header.urgent_pointer().saturating_sub(1)))
        }),
    }))
}
