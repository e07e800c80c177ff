//! The file format: from the bytes of a pcap or pcapng file to frames with their time and link type.
//!
//! pcap-parser knows the layouts; time arithmetic and tolerance for damage are here.

use std::io::Read;

use pcap_parser::{Block, OptionCode, PcapNGOption, parse_block_be, parse_block_le, parse_pcap_header};
use pcap_parser::{PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified};

use super::source::{Source, is_capture_magic};
use super::summary::{Damage, Error};
use crate::format::record::About;

/// First bytes of a file that are read to find the unit of its times. No more: of a pipe the rest may come much later.
const JUDGED: usize = 4096;
/// No record or block of a real file is longer (wireshark's own limit is 256 KiB a packet, 16 MiB a block).
const MAX_RECORD: usize = 16 << 20;
/// Blocks that are looked into are not longer (their options become a list).
const MAX_PARSED: usize = 1 << 20;
/// Interfaces kept of one pcapng section.
const MAX_INTERFACES: usize = 1 << 16;
/// Length of a pcap file header.
const PCAP_HEADER: usize = 24;

/// One frame as on the wire, or a prefix of it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Unix time, ns.
    pub time: u64,
    /// LINKTYPE_ value, see <https://www.tcpdump.org/linktypes.html>.
    pub link: u16,
    /// Number of its interface in the file.
    pub interface: u32,
    pub data: &'a [u8],
    /// Length on the wire; at least `data.len()`.
    pub original_len: u32,
}

/// The next item of a file.
#[derive(Debug)]
pub enum Event<'a> {
    Frame(Frame<'a>),
    /// The capturing program lost packets before this time (Unix time, ns).
    Dropped {
        time: u64,
        packets: u64,
    },
    /// A block that cannot be used, or something to know about the file.
    Remark(About),
    /// A block without meaning for the packets.
    Nothing,
}

/// A packet capture that is being read.
pub struct CaptureFile<'r> {
    source: Source<'r>,
    layout: Layout,
    /// Bytes of the window that the last event used.
    used: usize,
    damage: Option<Damage>,
    /// Damage that was found on opening and is not reported yet.
    cut: Option<&'static str>,
    /// The next event, before anything else is read.
    pending: Option<Event<'static>>,
    /// Of the last frame: what blocks without a time of their own get.
    time: u64,
}

enum Layout {
    Pcap {
        header: PcapHeader,
        link: u16,
        /// Nanoseconds in a unit of the fractions of times.
        unit: u32,
    },
    Pcapng(Section),
}

impl<'r> CaptureFile<'r> {
    /// Reads as far as is needed to know that this is a packet capture.
    pub fn open(input: impl Read + Send + 'r) -> Result<Self, Error> {
        let mut source = Source::open(input).map_err(Error::Read)?;
        source.fill(PCAP_HEADER)?;
        let window = source.window();
        if !is_capture_magic(window) {
            let found: Vec<String> = window.iter().take(8).map(|b| format!("{b:02x}")).collect();
            let found = if found.is_empty() {
                "nothing".to_string()
            } else {
                found.join(" ")
            };
            return Err(Error::NotACapture { found });
        }
        let (mut cut, mut pending) = (None, None);
        let layout = if window[0] == 0x0a {
            Layout::Pcapng(Section::default())
        } else {
            match parse_pcap_header(window) {
                Ok((_, header)) => {
                    source.advance(PCAP_HEADER);
                    // The upper bits of the field are the length of a frame check sequence.
                    let link = (header.network.0 & 0xffff) as u16;
                    let mut unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
                    source.fill(JUDGED)?;
                    if unit != 1 && has_nanoseconds(source.window(), &header) {
                        unit = 1;
                        pending = Some(Event::Remark(About::Nanoseconds));
                    }
                    Layout::Pcap { header, link, unit }
                }
                Err(_) => {
                    cut = Some("the file ends inside its header");
                    Layout::Pcapng(Section::default())
                }
            }
        };
        Ok(CaptureFile {
            source,
            layout,
            used: 0,
            cut,
            damage: None,
            pending,
            time: 0,
        })
    }

    /// The snaplen that the file states; 0 when it states none. For pcapng: the largest of the interfaces seen so far.
    pub fn snaplen(&self) -> u32 {
        match &self.layout {
            Layout::Pcap { header, .. } => header.snaplen,
            Layout::Pcapng(section) => section.snaplen,
        }
    }

    /// Where reading stopped before the end.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The next event of the file; `None` at its end, and where it cannot be read any further.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        self.source.advance(std::mem::take(&mut self.used));
        if self.damage.is_some() {
            return Ok(None);
        }
        if let Some(what) = self.cut.take() {
            return self.stop(what);
        }
        match self.layout {
            Layout::Pcap { .. } => self.next_record(),
            Layout::Pcapng(_) => self.next_block(),
        }
    }

    fn stop(&mut self, what: &'static str) -> Result<Option<Event<'_>>, Error> {
        self.damage = Some(Damage {
            offset: self.source.offset,
            what: self.source.broken.unwrap_or(what),
        });
        Ok(Some(Event::Remark(About::FileDamage)))
    }

    fn next_record(&mut self) -> Result<Option<Event<'_>>, Error> {
        let Layout::Pcap { header, link, unit } = &self.layout else {
            return Ok(None);
        };
        let (big, modified) = (header.is_bigendian(), header.is_modified_format());
        let (link, unit) = (*link, *unit);
        let head = record_head(header);
        if !self.source.fill(head)? {
            return match self.source.window().is_empty() && self.source.broken.is_none() {
                true => Ok(None),
                false => self.stop("the file ends inside a record header"),
            };
        }
        let captured = word(self.source.window(), 8, big) as usize;
        if captured > MAX_RECORD {
            return self.stop("a record is longer than any packet");
        }
        let whole = self.source.fill(head + captured)?;
        if !whole {
            return self.stop("the file ends inside a record");
        }
        self.used = head + captured;
        let window = self.source.window();
        let parsed = match (modified, big) {
            (true, _) => parse_pcap_frame_modified(window),
            (false, true) => parse_pcap_frame_be(window),
            (false, false) => parse_pcap_frame(window),
        };
        let Ok((_, record)) = parsed else {
            return Ok(Some(Event::Remark(About::Block)));
        };
        let fraction = u64::from(record.ts_usec) * u64::from(unit);
        if fraction >= 1_000_000_000 {
            self.pending = Some(Event::Remark(About::Fraction));
        }
        let time = u64::from(record.ts_sec) * 1_000_000_000 + fraction;
        self.time = time;
        let original_len = record.origlen.max(record.caplen);
        Ok(Some(Event::Frame(Frame {
            time,
            link,
            interface: 0,
            data: record.data,
            original_len,
        })))
    }

    fn next_block(&mut self) -> Result<Option<Event<'_>>, Error> {
        let Layout::Pcapng(section) = &mut self.layout else {
            return Ok(None);
        };
        if !self.source.fill(12)? {
            return match self.source.window().is_empty() && self.source.broken.is_none() {
                true => Ok(None),
                false => self.stop("the file ends inside a block header"),
            };
        }
        let window = self.source.window();
        if word(window, 0, true) == 0x0a0d_0d0a {
            match word(window, 8, true) {
                0x1a2b_3c4d => *section = section.next(true),
                0x4d3c_2b1a => *section = section.next(false),
                _ => return self.stop("a section without a byte order"),
            }
        }
        let len = word(window, 4, section.big) as usize;
        if !(12..=MAX_RECORD).contains(&len) {
            return self.stop("a block length that cannot be");
        }
        if !self.source.fill(len)? {
            return self.stop("the file ends inside a block");
        }
        self.used = len;
        let block = &self.source.window()[..len];
        match section.read(block, &mut self.time) {
            Ok(Content::Nothing) => Ok(Some(Event::Nothing)),
            Ok(Content::Frame { frame, dropped: 0 }) => Ok(Some(Event::Frame(frame))),
            Ok(Content::Frame { frame, dropped }) => {
                self.pending = Some(Event::Dropped {
                    time: frame.time,
                    packets: dropped,
                });
                Ok(Some(Event::Frame(frame)))
            }
            Ok(Content::Dropped { time, packets }) => Ok(Some(Event::Dropped { time, packets })),
            Err(about) => Ok(Some(Event::Remark(about))),
        }
    }
}

/// Length of the header of each record.
fn record_head(header: &PcapHeader) -> usize {
    if header.is_modified_format() { 24 } else { 16 }
}

/// Whether the fractions of the first times, which should be microseconds, are nanoseconds: most are beyond a second. (Of real
/// nanoseconds one in a thousand is not.)
fn has_nanoseconds(records: &[u8], header: &PcapHeader) -> bool {
    let big = header.is_bigendian();
    let (mut all, mut beyond, mut at) = (0, 0, 0);
    while at + record_head(header) <= records.len() {
        let (fraction, captured) = (word(records, at + 4, big), word(records, at + 8, big) as usize);
        if captured > MAX_RECORD || fraction >= 1_000_000_000 {
            return false;
        }
        all += 1;
        beyond += usize::from(fraction >= 1_000_000);
        at += record_head(header) + captured;
    }
    2 * beyond > all
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    match bytes.get(at..).and_then(|b| b.first_chunk::<4>()) {
        Some(b) if big => u32::from_be_bytes(*b),
        Some(b) => u32::from_le_bytes(*b),
        None => 0,
    }
}

/// The content of one pcapng block.
enum Content<'a> {
    Nothing,
    Frame { frame: Frame<'a>, dropped: u64 },
    Dropped { time: u64, packets: u64 },
}

/// A section of a pcapng file: its byte order and its interfaces.
#[derive(Debug, Default)]
struct Section {
    big: bool,
    interfaces: Vec<Interface>,
    snaplen: u32,
}

#[derive(Debug)]
struct Interface {
    link: u16,
    snaplen: u32,
    unit: Unit,
    /// Seconds to add to each time.
    offset: i64,
    /// Losses reported so far.
    dropped: u64,
}

/// The unit of an interface's timestamps.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// This many nanoseconds.
    Nanos(u64),
    /// A nanosecond divided by this.
    Below(u64),
    /// 2 to the power of minus this, in seconds.
    Binary(u32),
}

impl Unit {
    /// From option if_tsresol.
    fn new(resolution: u8) -> Unit {
        match resolution {
            0..=9 => Unit::Nanos(10u64.pow(9 - u32::from(resolution))),
            10..=28 => Unit::Below(10u64.pow(u32::from(resolution) - 9)),
            29..=127 => Unit::Below(u64::MAX),
            _ => Unit::Binary(u32::from(resolution & 0x7f)),
        }
    }

    fn nanos(self, ticks: u64) -> u64 {
        match self {
            Unit::Nanos(each) => ticks.saturating_mul(each),
            Unit::Below(divisor) => ticks / divisor,
            Unit::Binary(bits) => u64::try_from((u128::from(ticks) * 1_000_000_000) >> bits).unwrap_or(u64::MAX),
        }
    }
}

impl Interface {
    fn time(&self, high: u32, low: u32) -> u64 {
        let nanos = self.unit.nanos(u64::from(high) << 32 | u64::from(low));
        nanos.saturating_add_signed(self.offset.saturating_mul(1_000_000_000))
    }
}

impl Section {
    fn next(&self, big: bool) -> Section {
        Section {
            big,
            interfaces: Vec::new(),
            snaplen: self.snaplen,
        }
    }

    /// An option of 8 bytes.
    fn long(&self, options: &[PcapNGOption<'_>], code: OptionCode) -> Option<u64> {
        let option = options.iter().find(|o| o.code == code)?;
        let bytes = option.as_bytes().ok()?.first_chunk::<8>()?;
        Some(if self.big {
            u64::from_be_bytes(*bytes)
        } else {
            u64::from_le_bytes(*bytes)
        })
    }

    /// One whole block.
    #[expect(clippy::cast_possible_truncation, reason = "link types have 16 bits")]
    fn read<'a>(&mut self, bytes: &'a [u8], time: &mut u64) -> Result<Content<'a>, About> {
        match word(bytes, 0, self.big) {
            // Interface, packet, simple packet, interface statistics, enhanced packet.
            1 | 2 | 3 | 5 | 6 if bytes.len() <= MAX_PARSED => {}
            1 | 2 | 3 | 5 | 6 => return Err(About::Block),
            // Names, secrets, comments of other programs.
            _ => return Ok(Content::Nothing),
        }
        let parsed = if self.big {
            parse_block_be(bytes)
        } else {
            parse_block_le(bytes)
        };
        let (_, block) = parsed.map_err(|_| About::Block)?;
        match block {
            Block::InterfaceDescription(block) => {
                let byte = |code| {
                    block
                        .options
                        .iter()
                        .find(|o| o.code == code)?
                        .as_bytes()
                        .ok()?
                        .first()
                        .copied()
                };
                if self.interfaces.len() < MAX_INTERFACES {
                    let offset = self.long(&block.options, OptionCode::IfTsoffset).unwrap_or(0) as i64;
                    self.interfaces.push(Interface {
                        link: block.linktype.0 as u16,
                        snaplen: block.snaplen,
                        unit: Unit::new(byte(OptionCode::IfTsresol).unwrap_or(6)),
                        offset,
                        dropped: 0,
                    });
                    self.snaplen = self.snaplen.max(block.snaplen);
                }
                Ok(Content::Nothing)
            }
            Block::EnhancedPacket(block) => {
                // epb_dropcount: packets lost between this one and the one before, on the same interface.
                let dropped = self.long(&block.options, OptionCode(4)).unwrap_or(0);
                let data = block.data.get(..block.caplen as usize).ok_or(About::Block)?;
                self.frame(
                    block.if_id,
                    (block.ts_high, block.ts_low),
                    data,
                    block.origlen,
                    dropped,
                    time,
                )
            }
            Block::SimplePacket(block) => {
                let interface = self.interfaces.first().ok_or(About::Interface)?;
                let limit = if interface.snaplen == 0 {
                    u32::MAX
                } else {
                    interface.snaplen
                };
                let captured = block.data.len().min(block.origlen.min(limit) as usize);
                let data = block.data.get(..captured).ok_or(About::Block)?;
                let frame = Frame {
                    time: *time,
                    link: interface.link,
                    interface: 0,
                    data,
                    original_len: block.origlen,
                };
                Ok(Content::Frame { frame, dropped: 0 })
            }
            Block::InterfaceStatistics(block) => {
                let lost = [OptionCode::IsbIfDrop, OptionCode::IsbOsDrop]
                    .map(|code| self.long(&block.options, code).filter(|n| *n != u64::MAX).unwrap_or(0));
                let lost = lost[0].saturating_add(lost[1]);
                let interface = self.interfaces.get_mut(block.if_id as usize).ok_or(About::Interface)?;
                // The counts run from the start of the capture.
                let packets = lost.saturating_sub(interface.dropped);
                interface.dropped = interface.dropped.max(lost);
                let time = match interface.time(block.ts_high, block.ts_low) {
                    0 => *time,
                    stated => stated,
                };
                Ok(if packets == 0 {
                    Content::Nothing
                } else {
                    Content::Dropped { time, packets }
                })
            }
            // The packet block of the first drafts: like an enhanced one, with 16-bit interface and drop count.
            Block::Unknown(block) => {
                let head = block.data.get(..20).ok_or(About::Block)?;
                let [a, b, c, d, ..] = *head else {
                    return Err(About::Block);
                };
                let half = |x, y| {
                    if self.big {
                        u16::from_be_bytes([x, y])
                    } else {
                        u16::from_le_bytes([x, y])
                    }
                };
                let dropped = match half(c, d) {
                    u16::MAX => 0,
                    count => u64::from(count),
                };
                let at = |offset| word(head, offset, self.big);
                let data = block
                    .data
                    .get(20..20usize.saturating_add(at(12) as usize))
                    .ok_or(About::Block)?;
                self.frame(u32::from(half(a, b)), (at(4), at(8)), data, at(16), dropped, time)
            }
            _ => Ok(Content::Nothing),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a block has less than 4 GiB")]
    fn frame<'a>(
        &mut self,
        number: u32,
        (high, low): (u32, u32),
        data: &'a [u8],
        original_len: u32,
        dropped: u64,
        time: &mut u64,
    ) -> Result<Content<'a>, About> {
        let interface = self.interfaces.get_mut(number as usize).ok_or(About::Interface)?;
        interface.dropped = interface.dropped.saturating_add(dropped);
        *time = interface.time(high, low);
        let original_len = original_len.max(data.len() as u32);
        Ok(Content::Frame {
            frame: Frame {
                time: *time,
                link: interface.link,
                interface: number,
                data,
                original_len,
            },
            dropped,
        })
    }
}
