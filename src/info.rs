//! The facts of a capture file that `mdf info` prints. They come from the header, the index and the block headers, never
//! from the events, so the answer takes no longer for a large file than for a small one.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use crate::escape;
use crate::format::block::{LossTotal, add_loss};
use crate::format::record::{Clock, Record};
use crate::format::{Class, Kind, Reader, records};
use crate::human;

/// What a capture file is and holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    pub format_version: u16,
    /// Length of the file.
    pub file_bytes: u64,
    /// Whether the recorder closed the file.
    pub closed: bool,
    pub tool_version: String,
    pub command_line: String,
    pub hostname: String,
    pub boot_id: String,
    pub kernel: String,
    pub arch: String,
    pub cpus: u32,
    pub backend: String,
    pub filters: String,
    /// Payload bytes kept of each data event.
    pub snaplen: u32,
    /// Equal in all parts of one recording, as hexadecimal digits.
    pub recording: String,
    pub part: u32,
    /// The clocks when recording began.
    pub clock: ClockInfo,
    /// Earliest and latest event: UTC as in RFC 3339; nothing when there are no events.
    pub start: Option<String>,
    pub end: Option<String>,
    /// From the earliest to the latest event.
    pub duration_ns: u64,
    pub state_blocks: u64,
    pub event_blocks: u64,
    /// Blocks of classes that this version does not know.
    pub unknown_blocks: u64,
    /// Blocks that are missing by the numbering.
    pub missing_blocks: u64,
    /// Bytes of all block bodies on disk, and inflated.
    pub compressed_bytes: u64,
    pub raw_bytes: u64,
    /// Inflated by compressed bytes; 0 when there are no blocks.
    pub compression_ratio: f64,
    pub records: u64,
    /// Records by kind, in the order of the format; kinds that do not occur are left out.
    pub kinds: Vec<KindInfo>,
    /// Bytes that went over sockets, and how many of them were captured.
    pub data_bytes: u64,
    pub payload_bytes: u64,
    /// By reason; empty when nothing was lost.
    pub losses: Vec<LossInfo>,
    /// What is wrong with the file; empty when nothing is.
    pub damage: Vec<DamageInfo>,
}

/// The clocks, read together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockInfo {
    pub boot_ns: u64,
    pub monotonic_ns: u64,
    /// Since 1970-01-01 UTC.
    pub realtime_ns: u64,
}

/// Records of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindInfo {
    pub kind: &'static str,
    pub records: u64,
}

/// Losses of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LossInfo {
    pub reason: &'static str,
    pub events: u64,
    pub bytes: u64,
    /// As in [`LossReason::is_on_purpose`](crate::format::record::LossReason::is_on_purpose).
    pub on_purpose: bool,
}

/// A damaged range of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageInfo {
    pub offset: u64,
    pub bytes: u64,
    /// Records known to be lost; 0 when unknown.
    pub records: u32,
    /// Whether records are or may be lost.
    pub loses: bool,
    pub what: String,
}

impl Info {
    /// Gathers the facts. Only blocks that contain losses are inflated, and only when there is no index with the totals.
    pub fn gather(reader: &Reader<'_>) -> Info {
        let header = reader.header();
        let mut info = Info {
            format_version: reader.version(),
            file_bytes: reader.len(),
            closed: reader.clean_end(),
            tool_version: header.tool_version.clone(),
            command_line: header.command_line.clone(),
            hostname: header.hostname.clone(),
            boot_id: header.boot_id.clone(),
            kernel: header.kernel.clone(),
            arch: header.arch.clone(),
            cpus: header.cpus,
            backend: header.backend.clone(),
            filters: header.filters.clone(),
            snaplen: header.snaplen,
            recording: format!("{:016x}", header.recording),
            part: header.part,
            clock: ClockInfo {
                boot_ns: header.clock.boot,
                monotonic_ns: header.clock.monotonic,
                realtime_ns: header.clock.realtime,
            },
            start: None,
            end: None,
            duration_ns: 0,
            state_blocks: 0,
            event_blocks: 0,
            unknown_blocks: reader.unknown_blocks(),
            missing_blocks: 0,
            compressed_bytes: 0,
            raw_bytes: 0,
            compression_ratio: 0.0,
            records: 0,
            kinds: Vec::new(),
            data_bytes: 0,
            payload_bytes: 0,
            losses: losses(reader),
            damage: Vec::new(),
        };
        info.add_blocks(reader);
        info.damage = reader
            .damage()
            .iter()
            .map(|damage| DamageInfo {
                offset: damage.offset,
                bytes: damage.len,
                records: damage.records,
                loses: damage.loses(),
                what: damage.to_string(),
            })
            .collect();
        info
    }

    fn add_blocks(&mut self, reader: &Reader<'_>) {
        let mut kinds = [0u64; Kind::ALL.len()];
        let mut unknown = 0;
        let mut span: Option<(u64, u64)> = None;
        let mut last_number = None;
        for block in reader.blocks() {
            match block.class() {
                Class::State => self.state_blocks += 1,
                Class::Events => {
                    self.event_blocks += 1;
                    let (first, last) = span.unwrap_or((u64::MAX, 0));
                    span = Some((first.min(block.first_time()), last.max(block.last_time())));
                }
            }
            self.compressed_bytes += u64::from(block.compressed_len());
            self.raw_bytes += u64::from(block.raw_len());
            self.records += u64::from(block.records());
            self.data_bytes = self.data_bytes.saturating_add(block.data_bytes());
            self.payload_bytes = self.payload_bytes.saturating_add(block.payload_bytes());
            for (total, kind) in kinds.iter_mut().zip(Kind::ALL) {
                *total += u64::from(block.count(kind));
            }
            unknown += block.counts().unknown();
            last_number = last_number.max(Some(block.number()));
        }
        let numbered = last_number.map_or(0, |last| u64::from(last) + 1);
        let present = self.state_blocks + self.event_blocks + self.unknown_blocks;
        self.missing_blocks = numbered.saturating_sub(present);
        if self.compressed_bytes > 0 {
            self.compression_ratio = self.raw_bytes as f64 / self.compressed_bytes as f64;
        }
        self.kinds = Kind::ALL
            .iter()
            .zip(kinds)
            .map(|(kind, records)| KindInfo {
                kind: kind.name(),
                records,
            })
            .chain([KindInfo {
                kind: "unknown",
                records: unknown,
            }])
            .filter(|kind| kind.records > 0)
            .collect();
        if let Some((first, last)) = span {
            let clock = reader.header().clock;
            self.start = utc(&clock, first);
            self.end = utc(&clock, last);
            self.duration_ns = last.saturating_sub(first);
        }
    }

    /// Whether anything was lost or may have been: on the way to the file, or in the file.
    pub fn lossy(&self) -> bool {
        self.losses.iter().any(|loss| !loss.on_purpose)
            || !self.closed
            || self.missing_blocks > 0
            || self.damage.iter().any(|d| d.loses)
    }

    /// The facts as JSON, indented, without a final line end.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|document| escape::json(&document))
    }

    /// The facts for people. Nothing in it can steer a terminal: the texts come from a file.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<12}{}", escape::text(&value));
        };
        let closed = if self.closed { "closed cleanly" } else { "not closed" };
        line(
            "file",
            format!(
                "{}, format version {}, {closed}",
                human::bytes(self.file_bytes),
                self.format_version
            ),
        );
        line(
            "written by",
            format!("mdf {}: {}", self.tool_version, self.command_line),
        );
        let kernel = if self.kernel.is_empty() {
            String::new()
        } else {
            format!(", kernel {}", self.kernel)
        };
        line(
            "host",
            format!("{}{kernel}, {}, {} CPUs", self.hostname, self.arch, self.cpus),
        );
        if !self.boot_id.is_empty() {
            line("boot id", self.boot_id.clone());
        }
        line("recording", format!("{}, part {}", self.recording, self.part));
        let filters = if self.filters.is_empty() {
            "whole host"
        } else {
            &self.filters
        };
        line(
            "captured",
            format!("{filters}; backend {}, snaplen {}", self.backend, self.snaplen),
        );
        match (&self.start, &self.end) {
            (Some(start), Some(end)) => line(
                "time",
                format!("{start} to {end}, {}", human::duration(self.duration_ns)),
            ),
            _ => line("time", "no events".into()),
        }
        let clock = &self.clock;
        line(
            "clock",
            format!("boot {} ns = UTC {} ns", clock.boot_ns, clock.realtime_ns),
        );
        line(
            "blocks",
            format!(
                "{} ({} state, {} events), {} from {}, ratio {:.2}",
                self.state_blocks + self.event_blocks,
                self.state_blocks,
                self.event_blocks,
                human::bytes(self.compressed_bytes),
                human::bytes(self.raw_bytes),
                self.compression_ratio
            ),
        );
        for (count, words) in [
            (self.unknown_blocks, "of kinds unknown to this version"),
            (self.missing_blocks, "missing"),
        ] {
            if count > 0 {
                line("", format!("{count} blocks {words}"));
            }
        }
        line(
            "data",
            format!(
                "{}, captured {}",
                human::bytes(self.data_bytes),
                human::bytes(self.payload_bytes)
            ),
        );
        line("records", human::count(self.records));
        for kind in &self.kinds {
            line("", format!("{:<16}{:>14}", kind.kind, human::count(kind.records)));
        }
        if self.losses.is_empty() {
            line("losses", "none".into());
        }
        for (at, loss) in self.losses.iter().enumerate() {
            let name = if at == 0 { "losses" } else { "" };
            line(
                name,
                format!(
                    "{:<16}{:>14} events, {}",
                    loss.reason,
                    human::count(loss.events),
                    human::bytes(loss.bytes)
                ),
            );
        }
        for (at, damage) in self.damage.iter().enumerate() {
            line(if at == 0 { "damage" } else { "" }, damage.what.clone());
        }
        out
    }
}

/// Losses by reason: from the index, else from the blocks whose headers mark some.
fn losses(reader: &Reader<'_>) -> Vec<LossInfo> {
    let mut totals: Vec<LossTotal> = Vec::new();
    match reader.losses() {
        Some(losses) => losses
            .iter()
            .for_each(|loss| add_loss(&mut totals, loss.reason, loss.events, loss.bytes)),
        None => {
            let mut raw = Vec::new();
            for block in reader.blocks().iter().filter(|block| block.count(Kind::Loss) > 0) {
                // A damaged block is reported by the reader of the events.
                if block.inflate(&mut raw).is_ok() {
                    for record in records(&raw) {
                        if let Ok(Record::Loss(loss)) = record {
                            add_loss(&mut totals, loss.reason, loss.events, loss.bytes);
                        }
                    }
                }
            }
        }
    }
    totals
        .iter()
        .map(|total| LossInfo {
            reason: total.reason.name(),
            events: total.events,
            bytes: total.bytes,
            on_purpose: total.reason.is_on_purpose(),
        })
        .collect()
}

/// A boot-clock time as UTC; nothing when it is before 1970 or after 2262, as in all results.
fn utc(clock: &Clock, boot: u64) -> Option<String> {
    let ns = i64::try_from(clock.realtime.wrapping_add(boot.wrapping_sub(clock.boot))).ok()?;
    Some(DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::sample;

    #[test]
    fn facts_come_from_the_headers() {
        let file = sample::file();
        let info = Info::gather(&Reader::open(&file).expect("a good file"));
        assert!(info.closed);
        assert_eq!((info.state_blocks, info.event_blocks, info.missing_blocks), (2, 2, 0));
        assert_eq!(info.records, 20);
        assert_eq!(info.kinds.iter().find(|k| k.kind == "data").map(|k| k.records), Some(4));
        assert_eq!((info.data_bytes, info.payload_bytes), (10_036, 70));
        assert_eq!(
            info.losses,
            [LossInfo {
                reason: "ring_full",
                events: 6,
                bytes: 600,
                on_purpose: false
            }]
        );
        assert_eq!(info.start.as_deref(), Some("2023-11-14T22:13:20.000000006Z"));
        assert_eq!(info.duration_ns, 17);
        assert!(info.lossy());
    }

    #[test]
    fn losses_are_the_same_with_and_without_the_index() {
        let file = sample::file();
        let whole = Info::gather(&Reader::open(&file).expect("a good file"));
        let cut = Info::gather(&Reader::open(&file[..file.len() - 1]).expect("readable up to the cut"));
        assert!(!cut.closed);
        assert_eq!(whole.losses, cut.losses);
        assert_eq!(whole.kinds, cut.kinds);
    }

    #[test]
    fn text_and_json_tell_the_losses() {
        let file = sample::file();
        let info = Info::gather(&Reader::open(&file).expect("a good file"));
        let text = info.to_text();
        assert!(
            text.contains("losses      ring_full                    6 events, 600 B\n"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&info.to_json().expect("plain data")).expect("JSON");
        assert_eq!(json["losses"][0]["reason"], "ring_full");
        assert_eq!(json["closed"], true);
    }

    #[test]
    fn sizes_have_the_units_of_the_report() {
        let file = sample::file();
        let text = Info::gather(&Reader::open(&file).expect("a good file")).to_text();
        assert!(text.contains("data        9.80 KiB, captured 70 B\n"), "{text}");
        assert!(!text.contains(" kB"), "{text}");
    }

    #[test]
    fn a_file_cannot_steer_the_terminal() {
        let file = sample::file();
        let mut info = Info::gather(&Reader::open(&file).expect("a good file"));
        info.hostname = "a\x1b[2J\u{202e}b".into();
        assert!(info.to_text().contains("a\\x1b[2J\\u{202e}b"), "{}", info.to_text());
        let json = info.to_json().expect("plain data");
        assert!(json.contains("a\\u001b[2J\\u202eb"), "{json}");
    }
}
