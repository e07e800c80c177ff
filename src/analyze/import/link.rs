//! Link headers: from a frame to the packet of the network protocol in it. The numbers of link types are those of
//! <https://www.tcpdump.org/linktypes.html>.
//!
//! Tunnels carry frames too; what is read here is the same for both.

use super::part::{Part, Tap};
use crate::analyze::remarks::Subject;
use crate::format::record::About;

/// Headers one after the other in one frame at most (VLAN tags, MPLS labels, frames inside frames).
const MAX_HEADERS: usize = 32;

/// What follows the link header.
#[derive(Debug, Clone, Copy)]
pub enum Network<'a> {
    V4(Part<'a>),
    V6(Part<'a>),
    /// IP, by the version in its first four bits.
    Ip(Part<'a>),
    /// Another protocol.
    Other(Subject),
}

type Found<'a> = Result<Network<'a>, Subject>;

/// Reads the headers of a frame.
pub struct Link<'t> {
    /// Gets the addresses and numbers of the headers.
    tap: &'t mut Tap,
    /// Headers that may still come.
    budget: usize,
}

/// Another protocol than IP.
fn other<'a>(about: About, number: impl Into<u32>) -> Found<'a> {
    Ok(Network::Other(Subject::new(about, number)))
}

/// IPv4 or IPv6 by a number that differs between systems.
fn family(number: u32, part: Part<'_>) -> Found<'_> {
    match number {
        2 => Ok(Network::V4(part)),
        10 | 24 | 26 | 28 | 30 => Ok(Network::V6(part)),
        number => other(About::AddressFamily, number),
    }
}

/// An integer in the byte order of the capturing machine, which is not known: the smaller reading.
fn either_order(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes).min(u32::from_be_bytes(bytes))
}

/// Whether there may be an Ethernet frame here.
fn looks_like_ethernet(part: Part<'_>) -> bool {
    matches!(part.half(12), Some(0x0800 | 0x86dd | 0x8100 | 0x88a8 | 0x0806))
}

impl<'t> Link<'t> {
    /// A reader that leaves addresses and numbers of the headers in `tap`.
    pub fn new(tap: &'t mut Tap) -> Self {
        Link {
            tap,
            budget: MAX_HEADERS,
        }
    }

    fn next_header(&mut self) -> Result<(), Subject> {
        self.budget = self.budget.checked_sub(1).ok_or(About::LinkHeader)?;
        Ok(())
    }

    /// A frame of this link type.
    pub fn frame<'a>(&mut self, link: u16, part: Part<'a>) -> Found<'a> {
        self.next_header()?;
        let short = About::LinkHeader;
        match link {
            1 => self.ethernet(part),
            // BSD loopback: an address family in the byte order of the capturing machine, or (108) in network order.
            0 | 108 => family(either_order(part.array(0).ok_or(short)?), part.skip(4)),
            9 | 50 => self.ppp_or_hdlc(part),
            51 => self.pppoe(part),
            // Raw IP; 12 and 14 are what some systems wrote for it.
            12 | 14 | 101 => Ok(Network::Ip(part)),
            228 => Ok(Network::V4(part)),
            229 => Ok(Network::V6(part)),
            // RFC 1483 on ATM.
            100 => self.llc(part),
            104 => self.cisco_hdlc(part),
            105 => self.wifi(part, false),
            107 => self.frame_relay(part),
            // OpenBSD's enc: family, index, flags.
            109 => family(either_order(part.array(0).ok_or(short)?), part.skip(12)),
            // Linux cooked capture.
            113 => {
                *self.tap = self.tap.with(part.bytes.get(..14).ok_or(short)?);
                self.cooked(part.half(14).ok_or(short)?, part.skip(16))
            }
            276 => {
                *self.tap = self.tap.with(part.bytes.get(4..20).ok_or(short)?);
                self.cooked(part.half(0).ok_or(short)?, part.skip(20))
            }
            // OpenBSD's pflog: the length without padding, then the family.
            117 => {
                let len = usize::from(part.byte(0).ok_or(short)?).next_multiple_of(4);
                family(u32::from(part.byte(1).ok_or(short)?), part.skip(len))
            }
            // Prism: message code, length; or AVS, whose cookie and length are in network order.
            119 | 163 => {
                let len = match part.array::<4>(0).ok_or(short)? {
                    [0x80, 0x21, 0x10, _] => u32::from_be_bytes(part.array(4).ok_or(short)?),
                    _ => either_order(part.array(4).ok_or(short)?),
                };
                self.wifi(part.skip(len as usize), false)
            }
            127 => self.radiotap(part),
            // IP over FireWire: two addresses of 8 bytes.
            138 => self.ethertype(part.half(16).ok_or(short)?, part.skip(18)),
            // pppd: a direction in place of the address.
            166 => self.ppp(part.skip(if part.byte(1) == Some(3) { 2 } else { 1 })),
            // PPI: version, flags, length, link type.
            192 => {
                let len = u16::from_le_bytes(part.array(2).ok_or(short)?);
                let link = u32::from_le_bytes(part.array(4).ok_or(short)?);
                self.inner_frame(link, part.skip(usize::from(len).max(8)))
            }
            // A direction before the frame.
            204 => self.ppp_or_hdlc(part.skip(1)),
            205 => self.cisco_hdlc(part.skip(1)),
            206 => self.frame_relay(part.skip(1)),
            239 => self.nflog(part),
            240 => self.ethernet(part.skip(4)),
            // IP over InfiniBand: a routing header of 40 bytes.
            242 => self.ethertype(part.half(40).ok_or(short)?, part.skip(44)),
            // PKTAP: length, record type, link type.
            258 => {
                let len = u32::from_le_bytes(part.array(0).ok_or(short)?);
                let link = u32::from_le_bytes(part.array(8).ok_or(short)?);
                *self.tap = self.tap.with(part.bytes.get(12..36).ok_or(short)?);
                self.inner_frame(link, part.skip((len as usize).max(12)))
            }
            // Tags of switch chips, after the two addresses or before them.
            281 | 284 => self.tagged_by_switch(part, 4),
            282 => self.ethernet(part.skip(4)),
            285 => self.tagged_by_switch(part, 8),
            link => Err(Subject::new(About::LinkType, link)),
        }
    }

    fn inner_frame<'a>(&mut self, link: u32, part: Part<'a>) -> Found<'a> {
        match u16::try_from(link) {
            Ok(link) => self.frame(link, part),
            Err(_) => Err(Subject::new(About::LinkType, link)),
        }
    }

    /// An Ethernet frame.
    pub fn ethernet<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        *self.tap = self.tap.with(part.bytes.get(..12).ok_or(About::LinkHeader)?);
        self.ethertype(part.half(12).ok_or(About::LinkHeader)?, part.skip(14))
    }

    fn tagged_by_switch<'a>(&mut self, part: Part<'a>, tag: usize) -> Found<'a> {
        *self.tap = self.tap.with(part.bytes.get(..12).ok_or(About::LinkHeader)?);
        self.ethertype(part.half(12 + tag).ok_or(About::LinkHeader)?, part.skip(14 + tag))
    }

    /// Linux cooked captures have numbers of the kernel's beside EtherTypes (if_ether.h).
    fn cooked<'a>(&mut self, kind: u16, part: Part<'a>) -> Found<'a> {
        match kind {
            0x0004 => self.llc(part),
            0..0x0600 => other(About::EtherType, kind),
            kind => self.ethertype(kind, part),
        }
    }

    /// What an EtherType announces: tags, labels, frames inside frames, and IP at last.
    pub fn ethertype<'a>(&mut self, kind: u16, part: Part<'a>) -> Found<'a> {
        self.next_header()?;
        let short = About::LinkHeader;
        // A tag of `len` bytes, then the next EtherType.
        let next = |len: usize| Ok::<_, Subject>((part.half(len).ok_or(short)?, part.skip(len + 2)));
        match kind {
            0x0800 => Ok(Network::V4(part)),
            0x86dd => Ok(Network::V6(part)),
            // 802.1Q, 802.1ad, and the tags used before it.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => {
                *self.tap = self.tap.with(&part.array::<2>(0).ok_or(short)?);
                let (kind, part) = next(2)?;
                self.ethertype(kind, part)
            }
            // VN-tag; HSR.
            0x8926 | 0x892f => {
                let (kind, part) = next(4)?;
                self.ethertype(kind, part)
            }
            // E-tag (802.1BR).
            0x893f => {
                let (kind, part) = next(6)?;
                self.ethertype(kind, part)
            }
            // Cisco metadata: version, number of options, one option: a security group tag.
            0x8909 => {
                let (kind, part) = next(6)?;
                self.ethertype(kind, part)
            }
            // ERSPAN type II without GRE.
            0x88be if part.version() == Some(1) => self.ethernet(part.skip(8)),
            // MACsec: flags, short length, packet number, and maybe an identifier of 8 bytes.
            0x88e5 => match part.byte(0).ok_or(short)? {
                flags if flags & 0x0c != 0 => Err(About::Encrypted.into()),
                flags => {
                    let (kind, part) = next(if flags & 0x20 != 0 { 14 } else { 6 })?;
                    self.ethertype(kind, part)
                }
            },
            // 802.1ah: a whole frame after the service identifier.
            0x88e7 => self.ethernet(part.skip(4)),
            0x6558 => self.ethernet(part),
            // FabricPath; TRILL, whose first 16 bits have the length of options in words.
            0x8903 => self.ethernet(part.skip(2)),
            0x22f3 => {
                let options = usize::from(part.half(0).ok_or(short)? >> 6 & 0x1f);
                self.ethernet(part.skip(6 + 4 * options))
            }
            0x8847 | 0x8848 => self.mpls(part),
            0x8864 => self.pppoe(part),
            0x880b => self.ppp(part),
            0x894f => self.service_header(part),
            // A length: IEEE 802.3.
            0..0x0600 => self.llc(part.limit(part.len.min(usize::from(kind)))),
            0x8870 => self.llc(part),
            kind => other(About::EtherType, kind),
        }
    }

    /// IEEE 802.2; SNAP carries an EtherType.
    fn llc<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        match part.array::<3>(0).ok_or(About::LinkHeader)? {
            [0xaa, 0xaa, 3] => self.snap(part.skip(3)),
            [0x06, 0x06, 3] => Ok(Network::V4(part.skip(3))),
            [0xfe, 0xfe, 3] => self.nlpid(part.skip(3)),
            [service, ..] => other(About::Llc, service),
        }
    }

    fn snap<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        let kind = part.half(3).ok_or(About::LinkHeader)?;
        match part.array::<3>(0) {
            Some([0, 0, 0] | [0, 0, 0xf8]) => self.ethertype(kind, part.skip(5)),
            _ => other(About::EtherType, kind),
        }
    }

    /// ISO's numbers of network protocols (RFC 2427).
    fn nlpid<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        match part.byte(0).ok_or(About::LinkHeader)? {
            0xcc => Ok(Network::V4(part.skip(1))),
            0x8e => Ok(Network::V6(part.skip(1))),
            0x80 => self.snap(part.skip(1)),
            number => other(About::Nlpid, number),
        }
    }

    /// An address of 2 to 4 bytes, the last of them odd; then RFC 2427, or Cisco's EtherType.
    fn frame_relay<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        let address = part.bytes.iter().take(4).position(|byte| byte & 1 == 1);
        let part = part.skip(address.ok_or(About::LinkHeader)? + 1);
        match part.array::<2>(0).ok_or(About::LinkHeader)? {
            [3, 0] => self.nlpid(part.skip(2)),
            [3, _] => self.nlpid(part.skip(1)),
            kind => self.ethertype(u16::from_be_bytes(kind), part.skip(2)),
        }
    }

    /// PPP, maybe in HDLC-like framing (RFC 1662), or Cisco's HDLC, which has other addresses.
    fn ppp_or_hdlc<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        match part.array::<2>(0).ok_or(About::LinkHeader)? {
            [0xff, 3] => self.ppp(part.skip(2)),
            [0x0f | 0x8f, 0] => self.cisco_hdlc(part),
            _ => self.ppp(part),
        }
    }

    fn cisco_hdlc<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        match part.half(2).ok_or(About::LinkHeader)? {
            0xfefe => self.llc(part.skip(2)),
            kind => self.ethertype(kind, part.skip(4)),
        }
    }

    /// RFC 2516: version and type, code, session, length.
    fn pppoe<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        *self.tap = self.tap.with(part.bytes.get(..4).ok_or(About::LinkHeader)?);
        self.ppp(part.skip(6))
    }

    /// The protocol takes two bytes, or one that is odd (RFC 1661, 2 and 6.5).
    pub fn ppp<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        self.next_header()?;
        let (protocol, part) = match part.array::<2>(0) {
            Some([first, _]) if first & 1 == 1 => (u16::from(first), part.skip(1)),
            Some(both) => (u16::from_be_bytes(both), part.skip(2)),
            None => return Err(About::LinkHeader.into()),
        };
        match protocol {
            0x0021 => Ok(Network::V4(part)),
            0x0057 => Ok(Network::V6(part)),
            0x0281 | 0x0283 => self.mpls(part),
            // Compressed TCP headers, pieces of packets, encrypted and compressed packets: TCP may be in them.
            0x002d | 0x002f | 0x003d | 0x0053 | 0x00fd => Err(Subject::new(About::PppPacked, protocol)),
            protocol => other(About::PppProtocol, protocol),
        }
    }

    /// Labels, up to the one with the bottom-of-stack bit. Their content has no type field.
    pub fn mpls<'a>(&mut self, mut part: Part<'a>) -> Found<'a> {
        loop {
            self.next_header()?;
            let label = part.array::<4>(0).ok_or(About::LinkHeader)?;
            *self.tap = self.tap.with(&label[..3]);
            part = part.skip(4);
            if label[2] & 1 == 1 {
                break;
            }
        }
        // An Ethernet frame, maybe after a control word, whose first four bits are 0 (RFC 4385).
        match part.version() {
            Some(4) if part.byte(0).is_some_and(|byte| byte & 0x0f >= 5) => Ok(Network::V4(part)),
            Some(6) => Ok(Network::V6(part)),
            Some(0) if looks_like_ethernet(part.skip(4)) => self.ethernet(part.skip(4)),
            _ if looks_like_ethernet(part) => self.ethernet(part),
            _ => other(About::EtherType, 0x8847_u16),
        }
    }

    /// Network service header (RFC 8300): its length in words, and what follows.
    pub fn service_header<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        let [_, len, _, next] = part.array(0).ok_or(About::TunnelHeader)?;
        let part = part.skip(4 * usize::from(len & 0x3f).max(2));
        self.next_protocol(next, part)
    }

    /// The numbers of RFC 8300, 2.2, and of VXLAN-GPE.
    pub fn next_protocol<'a>(&mut self, number: u8, part: Part<'a>) -> Found<'a> {
        self.next_header()?;
        match number {
            1 => Ok(Network::V4(part)),
            2 => Ok(Network::V6(part)),
            3 => self.ethernet(part),
            4 => self.service_header(part),
            5 => self.mpls(part),
            _ => Err(About::TunnelHeader.into()),
        }
    }

    /// Linux netfilter log: family, version, then attributes of a length, a type and a value, padded to 4 bytes.
    fn nflog<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        const PACKET_HEADER: u16 = 1;
        const DEVICE_IN: u16 = 4;
        const DEVICE_OUT: u16 = 5;
        const PAYLOAD: u16 = 9;
        let [address_family, version] = part.array(0).ok_or(About::LinkHeader)?;
        let mut rest = part.skip(4);
        let first: [u8; 2] = rest.array(0).ok_or(About::LinkHeader)?;
        // In the byte order of the machine that captured: no attribute is longer than 64 KiB, and the first is short.
        let order = match u16::from_le_bytes(first) <= u16::from_be_bytes(first) {
            true => u16::from_le_bytes,
            false => u16::from_be_bytes,
        };
        let mut kind = None;
        while version == 0 && !rest.bytes.is_empty() {
            let len = usize::from(order(rest.array(0).ok_or(About::LinkHeader)?));
            let attribute = order(rest.array(2).ok_or(About::LinkHeader)?) & 0x7fff;
            let value = rest.skip(4).limit(len.checked_sub(4).ok_or(About::LinkHeader)?);
            match attribute {
                PACKET_HEADER => kind = value.half(0),
                DEVICE_IN | DEVICE_OUT => *self.tap = self.tap.with(value.bytes),
                PAYLOAD => {
                    return match (address_family, kind) {
                        (2, _) => Ok(Network::V4(value)),
                        (10, _) => Ok(Network::V6(value)),
                        (_, Some(kind)) => self.ethertype(kind, value),
                        (_, None) => Ok(Network::Ip(value)),
                    };
                }
                _ => {}
            }
            rest = rest.skip(len.next_multiple_of(4));
        }
        Err(About::LinkHeader.into())
    }

    /// A header of a stated length with a list of fields; one of them shows whether the Wi-Fi header is padded.
    fn radiotap<'a>(&mut self, part: Part<'a>) -> Found<'a> {
        const CLOCK: u32 = 1 << 0;
        const FLAGS: u32 = 1 << 1;
        const MORE_FIELDS: u32 = 1 << 31;
        const PADDED: u8 = 0x20;
        let short = About::LinkHeader;
        let len = usize::from(u16::from_le_bytes(part.array(2).ok_or(short)?));
        let present = u32::from_le_bytes(part.array(4).ok_or(short)?);
        let mut at = 8;
        let mut more = present;
        while more & MORE_FIELDS != 0 {
            more = u32::from_le_bytes(part.array(at).ok_or(short)?);
            at += 4;
        }
        if present & CLOCK != 0 {
            at = at.next_multiple_of(8) + 8;
        }
        let flags = match present & FLAGS != 0 {
            true => part.byte(at).ok_or(short)?,
            false => 0,
        };
        self.wifi(part.skip(len), flags & PADDED != 0)
    }

    /// A frame of IEEE 802.11 (9.2.4): data that is not encrypted and not in pieces.
    fn wifi<'a>(&mut self, part: Part<'a>, padded: bool) -> Found<'a> {
        let short = About::LinkHeader;
        let [control, flags] = part.array(0).ok_or(short)?;
        let (kind, without_data, quality) = (control >> 2 & 3, control & 0x40 != 0, control & 0x80 != 0);
        if control & 3 != 0 {
            return Err(short.into());
        }
        if kind != 2 || without_data {
            return other(About::Wifi, kind);
        }
        *self.tap = self.tap.with(part.bytes.get(4..22).ok_or(short)?);
        let mut len = if flags & 3 == 3 { 30 } else { 24 };
        let pieces = flags & 4 != 0 || part.byte(22).ok_or(short)? & 0x0f != 0;
        let mut aggregated = false;
        if quality {
            aggregated = part.byte(len).ok_or(short)? & 0x80 != 0;
            len += if flags & 0x80 != 0 { 6 } else { 2 };
        }
        if padded {
            len = len.next_multiple_of(4);
        }
        match () {
            () if flags & 0x40 != 0 => Err(About::Encrypted.into()),
            () if pieces => Err(About::Fragment.into()),
            () if aggregated => Err(About::Aggregate.into()),
            () => self.llc(part.skip(len)),
        }
    }
}
