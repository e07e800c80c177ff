//! The table `capture`: what each file says about itself, and what reading it showed.

use super::define::{Def, Key, Table, brief, column};
use crate::analyze::column::Kind::{Bytes, Count, Flag, Nanos, Number, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::row::CaptureFacts;

/// The table `capture`.
pub struct Capture;

/// What a file says, if it was read.
fn read<'a>(facts: &CaptureFacts, number: u64) -> Value<'a> {
    match facts.unread {
        true => Value::Null,
        false => Value::Int(number),
    }
}

impl Table for Capture {
    type Row<'r> = &'r CaptureFacts;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Capture>] {
        static DEFS: &[Def<Capture>] = &[
            brief("file", Text, "path of the capture", |r, _| Value::Text(&r.path)),
            brief("host", Text, "host that was recorded", |r, _| Value::text(&r.header.hostname)),
            column("kernel", Text, "its kernel release", |r, _| Value::text(&r.header.kernel)),
            column("arch", Text, "its machine", |r, _| Value::text(&r.header.arch)),
            column("cpus", Number, "its CPUs", |r, _| Value::nonzero(r.header.cpus.into())),
            column("boot_id", Text, "its boot", |r, _| Value::text(&r.header.boot_id)),
            brief("backend", Text, "how the kernel was heard; pcap for packet captures", |r, _| Value::text(&r.header.backend)),
            column("filters", Text, "what was recorded; null for the whole host", |r, _| Value::text(&r.header.filters)),
            column("command_line", Text, "how the recorder was called; of a recorded command its name only", |r, _| Value::text(r.header.own_command_line())),
            column("tool_version", Text, "version that wrote the file", |r, _| Value::text(&r.header.tool_version)),
            column("snaplen", Bytes, "payload kept of each event", |r, _| read(r, r.header.snaplen.into())),
            column("recording", Count, "the same number in all parts of one recording", |r, _| read(r, r.header.recording)),
            column("part", Number, "number of the part, from 0", |r, _| read(r, r.header.part.into())),
            brief("first", Time, "first event", |r, _| Value::nonzero(r.first)),
            brief("last", Time, "last event", |r, _| Value::nonzero(r.last)),
            column("span_ns", Nanos, "from first to last", |r, _| Value::int(r.span_ns())),
            brief("events", Count, "records in the file; null, as all that the file would say, when it could not be read", |r, _| read(r, r.records)),
            column("blocks", Count, "blocks in the file", |r, _| read(r, r.blocks)),
            brief("file_bytes", Bytes, "size of the file", |r, _| read(r, r.file_bytes)),
            column("raw_bytes", Bytes, "size of its blocks inflated", |r, _| read(r, r.raw_bytes)),
            column("payload_bytes", Bytes, "payload captured", |r, _| read(r, r.payload_bytes)),
            column("data_bytes", Bytes, "payload that went over the sockets", |r, _| read(r, r.data_bytes)),
            column("closed_cleanly", Flag, "the recorder finished the file", |r, _| Value::Flag(r.closed_cleanly)),
            brief("damage", Text, "what could not be read", |r, s| {
                s.text.clear();
                s.text.push_str(&r.damage.join("; "));
                Value::text(&s.text)
            }),
            column("remarks", Text, "packets of a packet capture that were left out, and why; clocks that were corrected", |r, s| {
                s.text.clear();
                s.text.push_str(&r.remarks.join("; "));
                Value::text(&s.text)
            }),
        ];
        DEFS
    }

    fn key(row: &&CaptureFacts) -> Key {
        (row.first, row.header.recording, row.header.part.into())
    }
}
