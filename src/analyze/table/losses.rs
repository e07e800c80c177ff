//! The table `losses`.

use super::define::{Def, Key, Table, brief, column};
use crate::analyze::column::Kind::{Bytes, Count, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::row::LossRow;

/// The table `losses`.
pub struct Losses;

impl Table for Losses {
    type Row<'r> = LossRow<'r>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Losses>] {
        static DEFS: &[Def<Losses>] = &[
            brief("since", Time, "start of the interval in which the loss happened", |r, _| Value::nonzero(r.since)),
            brief("until", Time, "end of the interval in which the loss happened", |r, _| Value::nonzero(r.until)),
            brief("reason", Text, "where or why the loss happened: ring_full, map_full, missed, queue_full, disk_error, malformed, page_fault, truncated, capture_dropped, output_stalled, limit, overwritten, not_understood, no_socket (events of a socket that is not known: its record was lost, or it was closed long before), damaged (records in blocks of the file that are damaged or cut off)", |r, _| Value::text(r.reason.name())),
            brief("detail", Text, "what exactly was lost: for not_understood a link type, a header or a tunnel, for damaged a block or bytes that are no block", |r, _| Value::text(r.detail)),
            brief("events", Count, "number of events lost; for truncated and page_fault, of events shortened; 0 where the number is not known", |r, _| Value::Int(r.events)),
            brief("bytes", Bytes, "payload lost, in bytes, where known; where both ends of a connection were recorded, each end counts what was not kept of it, so that a byte may count twice, unlike in unread_bytes of connections", |r, _| Value::Int(r.bytes)),
            column("host", Text, "name of the host on which the loss happened", |r, _| Value::text(r.hostname)),
            column("file", Text, "capture file that reports the loss, or that is damaged; null where that is not known", |r, _| Value::text(r.file)),
        ];
        DEFS
    }

    fn key(row: &LossRow<'_>) -> Key {
        (row.until, row.since, row.reason.byte().into())
    }
}
