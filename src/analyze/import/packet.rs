//! From a frame to the TCP segments in it: IP headers, extension headers, fragments, tunnels.
//!
//! etherparse knows the IP and TCP headers. Keeps no state except fragments.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice};

use super::file::Frame;
use super::fragment::{Fragments, Id, Piece};
use super::link::{Link, Network};
use super::part::{Part, Tap};
use super::tunnel;
use crate::analyze::remarks::Subject;
use crate::format::record::{About, Endpoint};

/// IPv6 extension headers in one packet at most.
const MAX_EXTENSIONS: usize = 16;
/// Tunnels inside each other that are opened.
const MAX_TUNNELS: usize = 4;

/// A larger shift counts as this (RFC 7323, 2.3).
const MAX_SCALE: u8 = 14;

/// IP protocol numbers and extension headers.
mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const TCP: u8 = 6;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
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
    /// How many routers it may still pass: time to live, or hop limit.
    pub hops: u8,
    /// The sequence number of a byte of urgent data, here or still to come. Receivers take the urgent pointer for the byte
    /// after it, against RFC 1122 (RFC 6093, 3.1 and 4).
    pub urgent: Option<u32>,
    /// The receive window, not scaled.
    pub window: u16,
    /// Of a SYN: how far the windows of its sender are shifted (RFC 7323, 2.2), where its options were captured.
    pub scale: Option<u8>,
    /// The values of the timestamps option (RFC 7323, 3.2), where they were captured.
    pub stamps: Option<[u8; 8]>,
    pub tap: Tap,
}

/// What a frame turned out to be.
#[derive(Debug)]
pub enum Packet<'a> {
    Tcp(Segment<'a>),
    /// A packet of another protocol, or one that is not understood.
    LeftOut(Subject),
    /// A fragment whose datagram is not complete yet.
    Partial,
}

/// Decodes a frame to its segments.
struct Way<'f> {
    time: u64,
    fragments: &'f mut Fragments,
    tap: Tap,
    tunnels: usize,
}

/// The two addresses of a packet, and how many routers it may still pass.
#[derive(Clone, Copy)]
struct Ends {
    from: [u8; 16],
    to: [u8; 16],
    hops: u8,
}

/// Takes a frame apart and hands what it holds to `take`. Fragments are kept in `fragments`.
pub fn dissect(frame: Frame<'_>, fragments: &mut Fragments, take: &mut dyn FnMut(Packet<'_>)) {
    let part = Part {
        bytes: frame.data,
        len: frame.original_len as usize,
    };
    let mut way = Way {
        time: frame.time,
        fragments,
        tap: Tap::at(frame.interface),
        tunnels: 0,
    };
    let network = Link::new(&mut way.tap).frame(frame.link, part);
    if let Err(left_out) = network.and_then(|network| way.network(network, take)) {
        take(Packet::LeftOut(left_out));
    }
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let mut ip = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    ip[12..].copy_from_slice(&v4);
    ip
}

impl Way<'_> {
    fn network(&mut self, network: Network<'_>, take: &mut dyn FnMut(Packet<'_>)) -> Result<(), Subject> {
        let (part, version) = match network {
            Network::Other(left_out) => return Err(left_out),
            Network::V4(part) => (part, Some(4)),
            Network::V6(part) => (part, Some(6)),
            Network::Ip(part) => (part, part.version()),
        };
        match (version, part.version()) {
            (Some(4), Some(4)) => self.v4(part, take),
            (Some(6), Some(6)) => self.v6(part, take),
            _ => Err(About::NetworkHeader.into()),
        }
    }

    fn v4(&mut self, part: Part<'_>, take: &mut dyn FnMut(Packet<'_>)) -> Result<(), Subject> {
        let bad = About::NetworkHeader;
        let header = Ipv4HeaderSlice::from_slice(part.bytes).map_err(|_| bad)?;
        let header_len = header.slice().len();
        let total = match usize::from(header.total_len()) {
            // Segmentation offload: the packet was captured before its length was filled in.
            0 => part.len,
            total => total,
        };
        if total < header_len {
            return Err(bad.into());
        }
        let part = part.limit(total).skip(header_len);
        let ends = Ends {
            from: mapped(header.source()),
            to: mapped(header.destination()),
            hops: header.ttl(),
        };
        let number = header.protocol().0;
        let offset = u32::from(header.fragments_offset().value()) * 8;
        if !header.more_fragments() && offset == 0 {
            return self.upper(ends, number, part, header.identification(), take);
        }
        let id = Id {
            from: ends.from,
            to: ends.to,
            number: u32::from(header.identification()),
            protocol: number,
        };
        let piece = Piece {
            offset,
            len: part.len,
            bytes: part.bytes,
            more: header.more_fragments(),
            next: number,
        };
        self.fragment(ends, id, piece, take)
    }

    fn v6(&mut self, part: Part<'_>, take: &mut dyn FnMut(Packet<'_>)) -> Result<(), Subject> {
        let bad = About::NetworkHeader;
        let header = Ipv6HeaderSlice::from_slice(part.bytes).map_err(|_| bad)?;
        let ends = Ends {
            from: Endpoint::on_wire(header.source(), 0).ip,
            to: Endpoint::on_wire(header.destination(), 0).ip,
            hops: header.hop_limit(),
        };
        let part = match usize::from(header.payload_length()) {
            // A jumbogram (RFC 2675), or offload as with IPv4.
            0 => part.skip(40),
            len => part.skip(40).limit(len),
        };
        let (number, part) = extensions(header.next_header().0, part)?;
        if number != protocol::FRAGMENT {
            return self.upper(ends, number, part, 0, take);
        }
        let [next, _, high, low, a, b, c, d] = part.array(0).ok_or(bad)?;
        let part = part.skip(8);
        let field = u16::from_be_bytes([high, low]);
        let (offset, more) = (u32::from(field & !7), field & 1 == 1);
        if offset == 0 && !more {
            // An atomic fragment (RFC 6946) is whole by itself.
            let (number, part) = extensions(next, part)?;
            return self.upper(ends, number, part, 0, take);
        }
        let id = Id {
            from: ends.from,
            to: ends.to,
            number: u32::from_be_bytes([a, b, c, d]),
            protocol: protocol::FRAGMENT,
        };
        let piece = Piece {
            offset,
            len: part.len,
            bytes: part.bytes,
            more,
            next,
        };
        self.fragment(ends, id, piece, take)
    }

    /// Keeps a fragment; goes on with the datagram that it completes.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half, as in IPv4, is meant")]
    fn fragment(
        &mut self,
        ends: Ends,
        id: Id,
        piece: Piece<'_>,
        take: &mut dyn FnMut(Packet<'_>),
    ) -> Result<(), Subject> {
        let Some(whole) = self.fragments.add(self.time, id, piece)? else {
            take(Packet::Partial);
            return Ok(());
        };
        let mut part = Part {
            bytes: &whole.bytes,
            len: whole.len,
        };
        let (mut number, mut ip_id) = (whole.next, id.number as u16);
        if id.protocol == protocol::FRAGMENT {
            (number, part) = extensions(number, part)?;
            ip_id = 0;
        }
        self.upper(ends, number, part, ip_id, take)
    }

    fn upper(
        &mut self,
        ends: Ends,
        number: u8,
        part: Part<'_>,
        ip_id: u16,
        take: &mut dyn FnMut(Packet<'_>),
    ) -> Result<(), Subject> {
        let (number, part) = match number {
            protocol::AUTHENTICATION => extensions(number, part)?,
            _ => (number, part),
        };
        if number == protocol::TCP {
            take(Packet::Tcp(self.tcp(ends, part, ip_id)?));
            return Ok(());
        }
        let mut tap = self.tap.with(&ends.from).with(&ends.to);
        let Some(network) = tunnel::open(number, part, &mut tap) else {
            return Err(Subject::new(About::IpProtocol, number));
        };
        if self.tunnels == MAX_TUNNELS {
            return Err(About::Nesting.into());
        }
        let mut inner = Way {
            time: self.time,
            fragments: self.fragments,
            tap,
            tunnels: self.tunnels + 1,
        };
        inner.network(network?, take)
    }

    fn tcp<'a>(&self, ends: Ends, part: Part<'a>, ip_id: u16) -> Result<Segment<'a>, Subject> {
        let bad = About::TransportHeader;
        let header_len = usize::from(part.byte(12).ok_or(bad)? >> 4) * 4;
        if header_len < 20 || header_len > part.len {
            return Err(bad.into());
        }
        // The snaplen may cut the options off; only the timestamps among them are of use.
        let mut fixed: [u8; 20] = part.array(0).ok_or(bad)?;
        fixed[12] = fixed[12] & 0x0f | 5 << 4;
        let header = TcpHeaderSlice::from_slice(&fixed).map_err(|_| bad)?;
        let payload = part.skip(header_len);
        let options = part.bytes.get(20..header_len);
        Ok(Segment {
            time: self.time,
            from: Endpoint {
                ip: ends.from,
                port: header.source_port(),
            },
            to: Endpoint {
                ip: ends.to,
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
            hops: ends.hops,
            urgent: header.urg().then(|| {
                header
                    .sequence_number()
                    .wrapping_add(u32::from(header.urgent_pointer().saturating_sub(1)))
            }),
            window: header.window_size(),
            scale: options.filter(|_| header.syn()).map(scale),
            stamps: options.and_then(timestamps),
            tap: self.tap,
        })
    }
}

/// The timestamps among TCP options.
fn timestamps(options: &[u8]) -> Option<[u8; 8]> {
    option(options, [8, 10])?.first_chunk().copied()
}

/// The window scale among TCP options; none is no shift.
fn scale(options: &[u8]) -> u8 {
    let scale = option(options, [3, 3]).and_then(|value| value.first());
    scale.map_or(0, |scale| (*scale).min(MAX_SCALE))
}

/// What follows this kind and length among TCP options.
fn option(mut options: &[u8], [kind, len]: [u8; 2]) -> Option<&[u8]> {
    loop {
        match options {
            [0, ..] | [] | [_] => return None,
            [1, rest @ ..] => options = rest,
            [a, b, rest @ ..] if [*a, *b] == [kind, len] => return Some(rest),
            [_, len, ..] => options = options.get(usize::from(*len.max(&2))..)?,
        }
    }
}

/// Passes extension headers (RFC 8200, section 4) up to a transport header or a fragment header.
fn extensions(mut number: u8, mut part: Part<'_>) -> Result<(u8, Part<'_>), Subject> {
    use protocol::*;
    let bad = About::NetworkHeader;
    for _ in 0..MAX_EXTENSIONS {
        let len = match number {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                usize::from(part.byte(1).ok_or(bad)?) * 8 + 8
            }
            // Its length counts 4-byte units (RFC 4302, 2.2).
            AUTHENTICATION => usize::from(part.byte(1).ok_or(bad)?) * 4 + 8,
            _ => return Ok((number, part)),
        };
        if len > part.bytes.len() {
            return Err(bad.into());
        }
        number = part.bytes[0];
        part = part.skip(len);
    }
    Err(bad.into())
}
