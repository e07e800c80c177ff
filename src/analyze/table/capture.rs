//! The table `capture`: the header of each file, and what reading it showed.

use super::define::{Def, Key, Table, brief, column};
use crate::analyze::column::Kind::{Bytes, Count, Flag, Nanos, Number, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::row::CaptureFacts;

/// The table `capture`.
pub struct Capture;

/// A number from the file; null if it could not be read.
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
            brief("file", Text, "path of the capture file", |r, _| Value::Text(&r.path)),
            brief("host", Text, "name of the host that was recorded", |r, _| Value::text(&r.header.hostname)),
            column("kernel", Text, "kernel release of the host that was recorded", |r, _| Value::text(&r.header.kernel)),
            column("arch", Text, "machine architecture of the host that was recorded", |r, _| Value::text(&r.header.arch)),
            column("cpus", Number, "number of CPUs of the host that was recorded", |r, _| Value::nonzero(r.header.cpus.into())),
            column("boot_id", Text, "boot id of the host while it was recorded", |r, _| Value::text(&r.header.boot_id)),
            brief("backend", Text, "way in which the recorder attached to the kernel; pcap for packet captures", |r, _| Value::text(&r.header.backend)),
            column("filters", Text, "filters of the recording; null when the whole host was recorded", |r, _| Value::text(&r.header.filters)),
            column("command_line", Text, "command line of the recorder; for a command that it started, only the name of that command", |r, _| Value::text(r.header.own_command_line())),
            column("tool_version", Text, "version of mdf that wrote the capture file", |r, _| Value::text(&r.header.tool_version)),
            column("snaplen", Bytes, "payload kept of each event, in bytes", |r, _| read(r, r.header.snaplen.into())),
            column("recording", Count, "number of the recording; equal in all capture files (parts) of one recording", |r, _| read(r, r.header.recording)),
            column("part", Number, "number of this capture file among the parts of the recording, from 0", |r, _| read(r, r.header.part.into())),
            brief("first", Time, "time of the first event in the capture file", |r, _| Value::nonzero(r.first)),
            brief("last", Time, "time of the last event in the capture file", |r, _| Value::nonzero(r.last)),
            column("span_ns", Nanos, "time from the first to the last event of the capture file, ns", |r, _| Value::int(r.span_ns())),
            brief("events", Count, "number of records in the capture file; null, like all that only the file contains, when the file could not be read", |r, _| read(r, r.records)),
            column("blocks", Count, "number of blocks in the capture file", |r, _| read(r, r.blocks)),
            brief("file_bytes", Bytes, "size of the capture file, in bytes", |r, _| read(r, r.file_bytes)),
            column("raw_bytes", Bytes, "size of all blocks of the capture file after decompression, in bytes", |r, _| read(r, r.raw_bytes)),
            column("payload_bytes", Bytes, "payload kept in the capture file, in bytes", |r, _| read(r, r.payload_bytes)),
            column("data_bytes", Bytes, "payload sent and received by the recorded sockets, kept or not, in bytes", |r, _| read(r, r.data_bytes)),
            column("closed_cleanly", Flag, "true when the recorder finished the capture file; false when the file was cut off", |r, _| Value::Flag(r.closed_cleanly)),
            brief("damage", Text, "what could not be read of the capture file, and why; null when all of it was read", |r, s| {
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
