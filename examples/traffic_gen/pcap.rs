//! Writes packets as a sniffer between two hosts would: pcap with nanoseconds, Ethernet, IPv4, TCP, right checksums.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

use masdeepflow::format::record::Endpoint;

/// Payload of one packet: an Ethernet frame of 1500 bytes less the two headers.
const SEGMENT: usize = 1460;

pub const SYN: u8 = 0x02;
pub const FIN: u8 = 0x01;
pub const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;

/// A packet capture that is being written.
pub struct Pcap {
    to: BufWriter<File>,
    packet: Vec<u8>,
    pub packets: u64,
}

/// One direction of a connection at some moment.
pub struct Way<'a> {
    pub from: &'a Endpoint,
    pub to: &'a Endpoint,
    pub sequence: u32,
    pub acknowledged: u32,
}

impl Pcap {
    pub fn create(path: &Path) -> Result<Pcap> {
        let mut to = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // Nanoseconds, version 2.4, no zone, no accuracy, snaplen, Ethernet.
        for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            to.write_all(&word.to_le_bytes())?;
        }
        Ok(Pcap {
            to,
            packet: Vec::new(),
            packets: 0,
        })
    }

    /// Bytes of one message, in as many packets as they need. `time` is UTC, ns.
    pub fn data(&mut self, time: u64, way: &Way<'_>, bytes: &[u8]) -> Result<()> {
        let mut sequence = way.sequence;
        for part in bytes.chunks(SEGMENT) {
            self.packet(time, &Way { sequence, ..*way }, ACK | PUSH, part)?;
            sequence = sequence.wrapping_add(part.len() as u32);
        }
        Ok(())
    }

    pub fn packet(&mut self, time: u64, way: &Way<'_>, flags: u8, payload: &[u8]) -> Result<()> {
        let address = |end: &Endpoint| end.ip().to_canonical();
        let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) = (address(way.from), address(way.to)) else {
            return Err(std::io::Error::other("the synthetic world is IPv4"));
        };
        let packet = &mut self.packet;
        packet.clear();
        packet.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        let len = (40 + payload.len()) as u16;
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&len.to_be_bytes());
        // No fragments, 64 hops, TCP; the checksum comes when the header is whole.
        packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend_from_slice(&from.octets());
        packet.extend_from_slice(&to.octets());
        let sum = checksum(0, &packet[14..34]);
        packet[24..26].copy_from_slice(&sum.to_be_bytes());
        packet.extend_from_slice(&way.from.port.to_be_bytes());
        packet.extend_from_slice(&way.to.port.to_be_bytes());
        packet.extend_from_slice(&way.sequence.to_be_bytes());
        packet.extend_from_slice(&way.acknowledged.to_be_bytes());
        packet.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(payload);
        // The checksum of TCP also covers addresses, protocol and length (RFC 9293, 3.1).
        let pseudo = u32::from(len) - 20 + 6 + sum_of(&packet[26..34]);
        let sum = checksum(pseudo, &packet[34..]);
        packet[50..52].copy_from_slice(&sum.to_be_bytes());
        let size = packet.len() as u32;
        for word in [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, size, size] {
            self.to.write_all(&word.to_le_bytes())?;
        }
        self.to.write_all(packet)?;
        self.packets += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<u64> {
        self.to.flush()?;
        Ok(self.packets)
    }
}

/// Big-endian 16-bit words added up.
fn sum_of(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

/// The Internet checksum (RFC 1071).
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + sum_of(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
