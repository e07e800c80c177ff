//! Packet captures that tests make, or change: the classic pcap format, little endian, microseconds.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// LINKTYPE_RAW: each packet begins with its IP header.
pub const RAW_IP: u32 = 101;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// A capture that is being written, without holding it.
pub struct Pcap {
    to: BufWriter<File>,
    time_us: u64,
}

impl Pcap {
    pub fn create(path: &Path, link: u32) -> Self {
        let mut to = BufWriter::new(File::create(path).expect("the folder can be written"));
        let words = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 0x4_0000, link];
        for word in words {
            to.write_all(&u32::to_le_bytes(word)).expect("the disk has room");
        }
        Pcap {
            to,
            time_us: 1_700_000_000_000_000,
        }
    }

    /// A packet of which `bytes` were captured, and which was `len` long on the wire.
    pub fn packet(&mut self, bytes: &[u8], len: usize) {
        self.time_us += 1;
        let (seconds, micros) = (self.time_us / 1_000_000, self.time_us % 1_000_000);
        for word in [seconds as u32, micros as u32, bytes.len() as u32, len as u32] {
            self.to.write_all(&word.to_le_bytes()).expect("the disk has room");
        }
        self.to.write_all(bytes).expect("the disk has room");
    }

    /// So much time passes.
    pub fn pause(&mut self, micros: u64) {
        self.time_us += micros;
    }

    pub fn finish(mut self) {
        self.to.flush().expect("the disk has room");
    }
}

/// One end of a TCP connection that a test makes up.
#[derive(Clone, Copy)]
pub struct End {
    pub ip: [u8; 4],
    pub port: u16,
    /// Sequence number of the next byte that it sends.
    pub seq: u32,
}

/// Two ends, and the file that their packets go to.
pub struct Talk<'a> {
    pub pcap: &'a mut Pcap,
    /// Client and server.
    pub ends: [End; 2],
}

/// Bytes of TCP payload in one packet: IPv4 has no longer ones.
pub const SEGMENT: usize = 65_495;

impl<'a> Talk<'a> {
    /// A connection with its handshake.
    pub fn open(pcap: &'a mut Pcap, client_port: u16, server_port: u16) -> Self {
        let end = |last, port, seq| End {
            ip: [10, 0, 0, last],
            port,
            seq,
        };
        let mut talk = Talk {
            pcap,
            ends: [end(1, client_port, 1000), end(2, server_port, 5000)],
        };
        talk.flags(0, SYN, false);
        talk.flags(1, SYN | ACK, true);
        talk.flags(0, ACK, true);
        talk
    }

    fn flags(&mut self, from: usize, flags: u8, acknowledges: bool) {
        let (a, b) = (self.ends[from], self.ends[1 - from]);
        let header = tcp(&a, &b, flags, if acknowledges { b.seq } else { 0 }, 0);
        self.pcap.packet(&header, header.len());
        self.ends[from].seq = a.seq.wrapping_add(u32::from(flags & (SYN | FIN) != 0));
    }

    /// `from` (0: client) says this.
    pub fn say(&mut self, from: usize, bytes: &[u8]) {
        for piece in bytes.chunks(SEGMENT) {
            self.segment(from, piece, piece.len());
        }
    }

    /// `from` says `len` bytes, of which these first ones were captured.
    pub fn segment(&mut self, from: usize, bytes: &[u8], len: usize) {
        let (a, b) = (self.ends[from], self.ends[1 - from]);
        let mut packet = tcp(&a, &b, PSH | ACK, b.seq, len).to_vec();
        packet.extend_from_slice(bytes);
        self.pcap.packet(&packet, 40 + len);
        self.ends[from].seq = a.seq.wrapping_add(len as u32);
    }

    /// `from` says this, and the capture does not have it.
    pub fn lose(&mut self, from: usize, bytes: &[u8]) {
        self.ends[from].seq = self.ends[from].seq.wrapping_add(bytes.len() as u32);
    }

    /// Both ends close.
    pub fn close(mut self) {
        self.flags(0, FIN | ACK, true);
        self.flags(1, FIN | ACK, true);
        self.flags(0, ACK, true);
    }
}

/// The headers of a segment with so many bytes of payload.
pub fn tcp(from: &End, to: &End, flags: u8, ack: u32, len: usize) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((40 + len) as u16).to_be_bytes());
    header[8] = 64;
    header[9] = 6;
    header[12..16].copy_from_slice(&from.ip);
    header[16..20].copy_from_slice(&to.ip);
    header[20..22].copy_from_slice(&from.port.to_be_bytes());
    header[22..24].copy_from_slice(&to.port.to_be_bytes());
    header[24..28].copy_from_slice(&from.seq.to_be_bytes());
    header[28..32].copy_from_slice(&ack.to_be_bytes());
    header[32] = 5 << 4;
    header[33] = flags;
    header[34..36].copy_from_slice(&u16::MAX.to_be_bytes());
    header
}

/// A packet of a capture that a test changes: what was captured, and the length on the wire.
pub struct Packet {
    pub bytes: Vec<u8>,
    pub len: usize,
}

/// Writes the packets of `from` to `to`, those that `keep` keeps, changed as it likes. Times are made anew.
pub fn edit(from: &Path, to: &Path, mut keep: impl FnMut(usize, &mut Packet) -> bool) {
    let file = std::fs::read(from).expect("fixture");
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(
        word(0),
        0xa1b2_c3d4,
        "{} is of this machine's byte order",
        from.display()
    );
    let mut pcap = Pcap::create(to, word(20));
    let (mut at, mut number) = (24, 0);
    while at + 16 <= file.len() {
        let captured = word(at + 8) as usize;
        let mut packet = Packet {
            bytes: file[at + 16..at + 16 + captured].to_vec(),
            len: word(at + 12) as usize,
        };
        if keep(number, &mut packet) {
            pcap.packet(&packet.bytes, packet.len);
        }
        at += 16 + captured;
        number += 1;
    }
    pcap.finish();
}
