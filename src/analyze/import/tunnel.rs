//! Tunnels: what IP carries besides TCP and holds packets of its own.
//!
//! Each is recognised by an IP protocol or by a UDP port. Any program may use a port, so the header must be valid; otherwise it
//! is an ordinary datagram.

use super::link::{Link, Network};
use super::part::{Part, Tap};
use crate::analyze::remarks::Subject;
use crate::format::record::About;

/// IP protocols that are tunnels.
pub mod protocol {
    pub const IPV4: u8 = 4;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ETHERNET: u8 = 97;
    pub const MPLS: u8 = 137;
}

/// UDP ports (the receiver's) that are tunnels.
mod port {
    pub const L2TP: u16 = 1701;
    pub const GTP: u16 = 2152;
    pub const GRE: u16 = 4754;
    pub const VXLAN: u16 = 4789;
    pub const VXLAN_GPE: u16 = 4790;
    pub const GENEVE: u16 = 6081;
    pub const MPLS: u16 = 6635;
    /// The default of Linux for VXLAN (flannel).
    pub const VXLAN_LINUX: u16 = 8472;
    pub const TZSP: u16 = 37008;
}

type Found<'a> = Result<Network<'a>, Subject>;

/// Whether fragments of this IP protocol have to be put together; of UDP, whether the first may be of a tunnel.
pub fn is_tunnel(number: u8, first: Option<&[u8]>) -> bool {
    match number {
        protocol::IPV4 | protocol::IPV6 | protocol::GRE | protocol::ETHERNET | protocol::MPLS => true,
        17 => first.is_some_and(|bytes| {
            is_tunnel_port(
                Part {
                    bytes,
                    len: bytes.len(),
                }
                .half(2)
                .unwrap_or(0),
            )
        }),
        _ => false,
    }
}

fn is_tunnel_port(port: u16) -> bool {
    use port::*;
    matches!(
        port,
        L2TP | GTP | GRE | VXLAN | VXLAN_GPE | GENEVE | MPLS | VXLAN_LINUX | TZSP
    )
}

/// What a packet of this IP protocol holds; nothing when it is no tunnel.
pub fn open<'a>(number: u8, part: Part<'a>, tap: &mut Tap) -> Option<Found<'a>> {
    Some(match number {
        protocol::IPV4 => Ok(Network::V4(part)),
        protocol::IPV6 => Ok(Network::V6(part)),
        protocol::GRE => gre(part, tap),
        protocol::MPLS => Link::new(tap).mpls(part),
        // EtherIP (RFC 3378): version 3 in the first four bits.
        protocol::ETHERNET => match part.version() {
            Some(3) => Link::new(tap).ethernet(part.skip(2)),
            _ => Err(About::TunnelHeader.into()),
        },
        17 => return udp(part, tap),
        _ => return None,
    })
}

fn udp<'a>(part: Part<'a>, tap: &mut Tap) -> Option<Found<'a>> {
    let inside = part.skip(8);
    match part.half(2)? {
        port::VXLAN | port::VXLAN_LINUX => {
            let [flags, _, _, _, network @ ..] = inside.array::<8>(0)?;
            *tap = tap.with(&network[..3]);
            (flags & 0x08 != 0).then(|| Link::new(tap).ethernet(inside.skip(8)))
        }
        port::VXLAN_GPE => {
            let [flags, _, _, next, network @ ..] = inside.array::<8>(0)?;
            *tap = tap.with(&network[..3]);
            (flags & 0x0c == 0x0c).then(|| Link::new(tap).next_protocol(next, inside.skip(8)))
        }
        port::GENEVE => {
            // Version 0 and the length of options in words; two flags; an EtherType.
            let [head, _, high, low, network @ ..] = inside.array::<8>(0)?;
            *tap = tap.with(&network[..3]);
            let rest = inside.skip(8 + 4 * usize::from(head & 0x3f));
            (head & 0xc0 == 0).then(|| Link::new(tap).ethertype(u16::from_be_bytes([high, low]), rest))
        }
        port::GRE => Some(gre(inside, tap)),
        port::MPLS => Some(Link::new(tap).mpls(inside)),
        port::GTP => gtp(inside, tap),
        port::L2TP => l2tp(inside, tap),
        port::TZSP => tzsp(inside, tap),
        _ => None,
    }
}

/// Generic routing encapsulation (RFC 2784, 2890, 2637), NVGRE (RFC 7637) and ERSPAN, whose three forms share two numbers.
fn gre<'a>(part: Part<'a>, tap: &mut Tap) -> Found<'a> {
    let bad = About::TunnelHeader;
    let flags = part.half(0).ok_or(bad)?;
    let kind = part.half(2).ok_or(bad)?;
    let (checksum, routing) = (flags & 0x8000 != 0, flags & 0x4000 != 0);
    let (key, sequence, acknowledgment) = (flags & 0x2000 != 0, flags & 0x1000 != 0, flags & 0x0080 != 0);
    let mut at = 4;
    if checksum || routing {
        at += 4;
    }
    if key {
        *tap = tap.with(&part.array::<4>(at).ok_or(bad)?);
        at += 4;
    }
    if sequence {
        at += 4;
    }
    let rest = part.skip(at);
    match (flags & 7, kind) {
        // Version 1 is PPTP's, and carries PPP.
        (1, 0x880b) => {
            let rest = if acknowledgment { rest.skip(4) } else { rest };
            let framed = rest.bytes.starts_with(&[0xff, 3]);
            match rest.len {
                // An acknowledgment alone.
                0 => Ok(Network::Other(Subject::new(About::EtherType, kind))),
                _ => Link::new(tap).ppp(if framed { rest.skip(2) } else { rest }),
            }
        }
        (1.., _) => Err(bad.into()),
        // Source routes (RFC 1701), which are not in use.
        _ if routing => Err(bad.into()),
        // ERSPAN type I has no header of its own; type II has one of 8 bytes, and is numbered.
        (_, 0x88be) => {
            let rest = if sequence { rest.skip(8) } else { rest };
            Link::new(tap).ethernet(rest)
        }
        // ERSPAN type III: 12 bytes, and 8 more if its last bit is set. The frame may be IP without a link header.
        (_, 0x22eb) => {
            let header: [u8; 12] = rest.array(0).ok_or(bad)?;
            let rest = rest.skip(if header[11] & 1 != 0 { 20 } else { 12 });
            match u16::from_be_bytes([header[10], header[11]]) >> 10 & 0x1f {
                2 => Ok(Network::Ip(rest)),
                _ => Link::new(tap).ethernet(rest),
            }
        }
        // WCCP: version 2 has a header of 4 bytes.
        (_, 0x883e) => Ok(Network::V4(if rest.version() == Some(4) { rest } else { rest.skip(4) })),
        (_, kind) => Link::new(tap).ethertype(kind, rest),
    }
}

/// GTP-U version 1 (3GPP TS 29.281): packets of users, other messages.
fn gtp<'a>(part: Part<'a>, tap: &mut Tap) -> Option<Found<'a>> {
    const PACKET: u8 = 0xff;
    let [flags, message, _, _, tunnel @ ..] = part.array::<8>(0)?;
    // Version 1, not GTP'.
    if flags & 0xf0 != 0x30 || message != PACKET {
        return None;
    }
    *tap = tap.with(&tunnel);
    let mut rest = part.skip(8);
    if flags & 7 != 0 {
        let mut next = rest.byte(3)?;
        rest = rest.skip(4);
        // Extension headers: their length in words first, the type of the next one last.
        while flags & 4 != 0 && next != 0 {
            let len = 4 * usize::from(rest.byte(0)?);
            next = rest.byte(len.checked_sub(1)?)?;
            rest = rest.skip(len);
        }
    }
    Some(Ok(Network::Ip(rest)))
}

/// L2TP version 2 (RFC 2661, 3.1): data, which is PPP.
fn l2tp<'a>(part: Part<'a>, tap: &mut Tap) -> Option<Found<'a>> {
    let flags = part.half(0)?;
    if flags & 0x8000 != 0 || flags & 0x0f != 2 {
        return None;
    }
    let mut at = if flags & 0x4000 != 0 { 4 } else { 2 };
    *tap = tap.with(&part.array::<4>(at)?);
    at += 4;
    if flags & 0x0800 != 0 {
        at += 4;
    }
    if flags & 0x0200 != 0 {
        at += 2 + usize::from(part.half(at)?);
    }
    let rest = part.skip(at);
    let framed = rest.bytes.starts_with(&[0xff, 3]);
    Some(Link::new(tap).ppp(if framed { rest.skip(2) } else { rest }))
}

/// TaZmen sniffer protocol: version, type, what is carried, tags up to the one that ends them.
fn tzsp<'a>(part: Part<'a>, tap: &mut Tap) -> Option<Found<'a>> {
    let [1, 0, 0, carried] = part.array(0)? else {
        return None;
    };
    let link = match carried {
        1 => 1,
        18 => 105,
        119 => 119,
        127 => 127,
        _ => return None,
    };
    let mut at = 4;
    loop {
        at += match part.byte(at)? {
            0 => 1,
            1 => break,
            _ => 2 + usize::from(part.byte(at + 1)?),
        };
    }
    Some(Link::new(tap).frame(link, part.skip(at + 1)))
}
