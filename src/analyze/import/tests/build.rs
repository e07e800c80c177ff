//! A small builder of packets and capture files, and a reader of what an import made of them.

use crate::analyze::import::{Import, ImportSummary};
use crate::analyze::remarks::Subject;
use crate::format::record::{About, Close, Connect, Cut, Direction, Endpoint, Loss, Record, Socket};

pub const ETHERNET: u16 = 1;
pub const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);
pub const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);
/// The time of the first packet of conversations, ns.
pub const START: u64 = 1_700_000_000_000_000_000;
/// Time between packets of a conversation, ns.
pub const STEP: u64 = 1_000_000;

/// A TCP segment. Flags are letters: S, A, F, R, and U: the last byte is urgent.
pub fn tcp(from: u16, to: u16, seq: u32, ack: u32, flags: &str, payload: &[u8]) -> Vec<u8> {
    let bit = |letter: char, bit: u8| if flags.contains(letter) { bit } else { 0 };
    let mut out = Vec::new();
    out.extend(from.to_be_bytes());
    out.extend(to.to_be_bytes());
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.push(8 << 4);
    out.push(bit('F', 1) | bit('S', 2) | bit('R', 4) | bit('A', 16) | bit('U', 32));
    out.extend([0xff, 0xff, 0, 0]);
    out.extend((if flags.contains('U') { payload.len() as u16 } else { 0 }).to_be_bytes());
    // A timestamp option, as almost every real segment has.
    out.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    out.extend(payload);
    out
}

/// An IPv4 packet. `fragment` is the flags and offset field.
pub fn v4(from: [u8; 4], to: [u8; 4], protocol: u8, id: u16, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x45, 0];
    out.extend((20 + payload.len() as u16).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(fragment.to_be_bytes());
    out.extend([64, protocol, 0, 0]);
    out.extend(from);
    out.extend(to);
    out.extend(payload);
    out
}

/// An IPv6 packet between fd00::1 and fd00::2; `forward` is from 1 to 2.
pub fn v6(forward: bool, next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last: u8| {
        let mut ip = [0; 16];
        (ip[0], ip[15]) = (0xfd, last);
        ip
    };
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend([next, 64]);
    out.extend(address(if forward { 1 } else { 2 }));
    out.extend(address(if forward { 2 } else { 1 }));
    out.extend(payload);
    out
}

/// An Ethernet frame.
pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    out.extend(kind.to_be_bytes());
    out.extend(payload);
    out
}

/// One frame of a file.
#[derive(Debug, Clone)]
pub struct Captured {
    pub time: u64,
    pub bytes: Vec<u8>,
    /// Length on the wire.
    pub original: u32,
}

impl Captured {
    pub fn new(time: u64, bytes: Vec<u8>) -> Self {
        let original = bytes.len() as u32;
        Captured { time, bytes, original }
    }

    /// Cut by a snaplen.
    pub fn cut(mut self, snaplen: usize) -> Self {
        self.bytes.truncate(snaplen);
        self
    }
}

/// A pcap file.
pub fn pcap(link: u16, frames: &[Captured], nano: bool, big: bool) -> Vec<u8> {
    let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut out = Vec::new();
    out.extend(word(if nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
    out.extend(half(2));
    out.extend(half(4));
    out.extend([0; 8]);
    out.extend(word(65_535));
    out.extend(word(u32::from(link)));
    for frame in frames {
        let fraction = frame.time % 1_000_000_000;
        out.extend(word((frame.time / 1_000_000_000) as u32));
        out.extend(word(if nano {
            fraction as u32
        } else {
            (fraction / 1000) as u32
        }));
        out.extend(word(frame.bytes.len() as u32));
        out.extend(word(frame.original));
        out.extend(&frame.bytes);
    }
    out
}

/// A pcapng file in the making.
pub struct Pcapng {
    pub bytes: Vec<u8>,
    big: bool,
}

impl Pcapng {
    pub fn new(big: bool) -> Self {
        let mut file = Pcapng { bytes: Vec::new(), big };
        file.section(big);
        file
    }

    pub fn word(&self, value: u32) -> [u8; 4] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    pub fn half(&self, value: u16) -> [u8; 2] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    pub fn long(&self, value: u64) -> [u8; 8] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    pub fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.half(code));
        out.extend(self.half(value.len() as u16));
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let len = self.word(padded as u32 + 12);
        self.bytes.extend(self.word(kind));
        self.bytes.extend(len);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(len);
        self
    }

    pub fn section(&mut self, big: bool) -> &mut Self {
        self.big = big;
        let mut body = self.word(0x1a2b_3c4d).to_vec();
        body.extend(self.half(1));
        body.extend(self.half(0));
        body.extend(self.long(u64::MAX));
        self.block(0x0a0d_0d0a, &body)
    }

    pub fn interface(&mut self, link: u16, options: &[u8]) -> &mut Self {
        let mut body = self.half(link).to_vec();
        body.extend([0, 0]);
        body.extend(self.word(262_144));
        body.extend(options);
        self.block(1, &body)
    }

    /// `ticks` are in the interface's unit.
    pub fn packet(&mut self, interface: u32, ticks: u64, bytes: &[u8], options: &[u8]) -> &mut Self {
        let mut body = self.word(interface).to_vec();
        body.extend(self.word((ticks >> 32) as u32));
        body.extend(self.word(ticks as u32));
        body.extend(self.word(bytes.len() as u32));
        body.extend(self.word(bytes.len() as u32));
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(options);
        self.block(6, &body)
    }

    pub fn statistics(&mut self, interface: u32, ticks: u64, options: &[u8]) -> &mut Self {
        let mut body = self.word(interface).to_vec();
        body.extend(self.word((ticks >> 32) as u32));
        body.extend(self.word(ticks as u32));
        body.extend(options);
        self.block(5, &body)
    }
}

/// A conversation between CLIENT and SERVER, one packet each STEP.
#[derive(Debug, Clone)]
pub struct Dialog {
    pub frames: Vec<Captured>,
    pub time: u64,
    /// Next sequence numbers of client and server.
    pub seq: [u32; 2],
    id: u16,
}

impl Dialog {
    /// Sequence numbers before any data.
    pub fn at(client: u32, server: u32) -> Self {
        Dialog {
            frames: Vec::new(),
            time: START,
            seq: [client, server],
            id: 0,
        }
    }

    /// Opened by a handshake of three packets.
    pub fn opened() -> Self {
        Dialog::opened_at(1000, 5000)
    }

    pub fn opened_at(client: u32, server: u32) -> Self {
        let mut dialog = Dialog::at(client, server);
        dialog.packet(0, client, 0, "S", b"");
        dialog.seq[0] = client.wrapping_add(1);
        dialog.packet(1, server, dialog.seq[0], "SA", b"");
        dialog.seq[1] = server.wrapping_add(1);
        dialog.packet(0, dialog.seq[0], dialog.seq[1], "A", b"");
        dialog
    }

    /// Any packet of side 0 (client) or 1 (server); sequence numbers do not move.
    pub fn packet(&mut self, side: usize, seq: u32, ack: u32, flags: &str, payload: &[u8]) -> &mut Self {
        let (from, to) = if side == 0 { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        self.id += 1;
        let segment = tcp(from.1, to.1, seq, ack, flags, payload);
        let frame = ethernet(0x0800, &v4(from.0, to.0, 6, self.id, 0x4000, &segment));
        self.frames.push(Captured::new(self.time, frame));
        self.time += STEP;
        self
    }

    /// Data in order.
    pub fn send(&mut self, side: usize, payload: &[u8]) -> &mut Self {
        self.packet(side, self.seq[side], self.seq[1 - side], "A", payload);
        self.seq[side] = self.seq[side].wrapping_add(payload.len() as u32);
        self
    }

    /// Data that the capture does not have.
    pub fn lose(&mut self, side: usize, payload: &[u8]) -> &mut Self {
        self.seq[side] = self.seq[side].wrapping_add(payload.len() as u32);
        self.time += STEP;
        self
    }

    /// A bare acknowledgment of everything.
    pub fn ack(&mut self, side: usize) -> &mut Self {
        self.packet(side, self.seq[side], self.seq[1 - side], "A", b"")
    }

    pub fn fin(&mut self, side: usize) -> &mut Self {
        self.packet(side, self.seq[side], self.seq[1 - side], "FA", b"");
        self.seq[side] = self.seq[side].wrapping_add(1);
        self
    }

    /// Time passes.
    pub fn wait(&mut self, ns: u64) -> &mut Self {
        self.time += ns;
        self
    }

    pub fn rst(&mut self, side: usize) -> &mut Self {
        self.packet(side, self.seq[side], 0, "R", b"")
    }

    pub fn file(&self) -> Vec<u8> {
        pcap(ETHERNET, &self.frames, true, false)
    }

    pub fn run(&self) -> Run {
        Run::of(&self.file())
    }
}

/// A data record with its own bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub time: u64,
    pub id: u64,
    pub pos: u32,
    pub len: u32,
    pub sent: bool,
    pub urgent: bool,
    pub payload: Vec<u8>,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    pub sockets: Vec<Socket>,
    pub connects: Vec<Connect>,
    pub closes: Vec<Close>,
    pub data: Vec<Payload>,
    pub losses: Vec<Loss>,
    /// `Remark` records: packets that were left out, by subject.
    pub reported: Vec<(Subject, u64)>,
    /// Of the first file.
    pub summary: ImportSummary,
    /// Of the others.
    pub others: Vec<ImportSummary>,
}

impl Run {
    /// Imports a file that is a packet capture, and checks what holds for every import.
    pub fn of(file: &[u8]) -> Run {
        Run::checked(file).expect("a packet capture")
    }

    pub fn checked(file: &[u8]) -> Result<Run, crate::analyze::import::Error> {
        Run::read(Import::open(file)?)
    }

    /// Imports several files together.
    pub fn joined<F: AsRef<[u8]>>(files: &[F]) -> Run {
        let imports = files
            .iter()
            .map(|file| Import::open(file.as_ref()).expect("a packet capture"));
        Run::read(Import::join(imports.collect())).expect("packet captures")
    }

    fn read(mut import: Import<'_>) -> Result<Run, crate::analyze::import::Error> {
        let mut run = Run::default();
        let mut next = std::collections::HashMap::new();
        let mut take = |record: &Record<'_>| match record {
            Record::Socket(r) => {
                assert!(run.sockets.iter().all(|s| s.id != r.id), "announced twice");
                run.sockets.push(*r);
            }
            Record::Connect(r) => run.connects.push(*r),
            Record::Close(r) => run.closes.push(*r),
            Record::Loss(r) => run.losses.push(*r),
            Record::Remark(r) if r.about == About::Frames => {}
            Record::Remark(r) => run.reported.push((Subject::new(r.about, r.number), r.events)),
            Record::Data(r) => {
                assert!(run.sockets.iter().any(|s| s.id == r.id), "data before its socket");
                assert!(run.closes.iter().all(|c| c.id != r.id), "data after close");
                assert!(r.payload.len() <= r.len as usize);
                let expected = next
                    .insert((r.id, r.direction), r.pos.wrapping_add(r.len))
                    .unwrap_or(r.pos);
                assert!(r.pos.wrapping_sub(expected) < 1 << 31, "overlap or disorder");
                run.data.push(Payload {
                    time: r.time,
                    id: r.id,
                    pos: r.pos,
                    len: r.len,
                    sent: r.direction == Direction::Sent,
                    urgent: r.cut == Cut::Urgent,
                    payload: r.payload.to_vec(),
                });
            }
            _ => {}
        };
        while import.step(&mut take)? {}
        let mut summaries = import.finish_of(&mut |_, record| take(record)).into_iter();
        run.summary = summaries.next().unwrap_or_default();
        run.others = summaries.collect();
        Ok(run)
    }

    /// Connections that two files have: those that were joined, and those that differ.
    pub fn shared(&self) -> Vec<(u64, u64)> {
        let all = self.others.iter().chain([&self.summary]);
        let shared = all.flat_map(|summary| summary.shared.values());
        shared.map(|shared| (shared.joined, shared.different)).collect()
    }

    /// What was left out, and what else there is to know.
    pub fn remarks(&self) -> Vec<(Subject, u64)> {
        let remarks = self.summary.remarks.iter();
        remarks.filter(|(subject, _)| subject.about != About::Frames).collect()
    }

    /// Captured bytes of one direction of all connections; holes are written as `[n]`, and `!` follows urgent data.
    pub fn text(&self, sent: bool) -> String {
        let mut out = String::new();
        let mut next = None;
        for data in self.data.iter().filter(|data| data.sent == sent) {
            let hole = data.pos.wrapping_sub(next.unwrap_or(data.pos));
            if hole > 0 {
                out.push_str(&format!("[{hole}]"));
            }
            out.push_str(&String::from_utf8_lossy(&data.payload));
            let cut = data.len as usize - data.payload.len();
            if cut > 0 {
                out.push_str(&format!("({cut})"));
            }
            if data.urgent {
                out.push('!');
            }
            next = Some(data.pos.wrapping_add(data.len));
        }
        out
    }

    pub fn client(&self) -> String {
        self.text(true)
    }

    pub fn server(&self) -> String {
        self.text(false)
    }
}

pub fn endpoint((ip, port): ([u8; 4], u16)) -> Endpoint {
    Endpoint::new(ip.into(), port)
}
