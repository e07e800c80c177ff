//! The table `services`: who called whom.

use super::define::{Def, Key, Table, brief, column, ratio};
use super::ends::columns_with_ends;
use crate::analyze::column::Kind::{Bytes, Count, Nanos, Ratio, Text};
use crate::analyze::column::Value;
use crate::analyze::stats::counters::ServiceStats;
use crate::analyze::stats::ends::End;

/// The table `services`.
pub struct Services;

/// A row of it.
pub struct ServiceRow<'r> {
    pub caller: &'r str,
    pub callee: &'r str,
    pub protocol: &'r str,
    pub client: End<'r>,
    pub server: End<'r>,
    pub stats: &'r ServiceStats,
}

impl Table for Services {
    type Row<'r> = ServiceRow<'r>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Services>] {
        columns_with_ends!(Services, "exchanges of the row and connections without any", "--table connections --group-by protocol", [
            brief("caller", Text, "the client: namespace/owner of its pod, else its container, systemd service, process name, or address", |r, _| Value::text(r.caller)),
            brief("callee", Text, "the server, named in the same way", |r, _| Value::text(r.callee)),
            brief("protocol", Text, "http, mysql, …, what else was recognised, or tcp", |r, _| Value::text(r.protocol)),
            brief("requests", Count, "exchanges", |r, _| Value::Int(r.stats.requests)),
            brief("errors", Count, "exchanges that are errors (HTTP status of 500 and above, MySQL ERR packets, …), requests that were reset, failed connects", |r, _| Value::Int(r.stats.errors)),
            brief("error_rate", Ratio, "errors / requests", |r, _| ratio(r.stats.errors, r.stats.requests)),
            brief("p50_ns", Nanos, "median of total_ns", |r, _| Value::int(r.stats.total.percentile(0.5))),
            brief("p95_ns", Nanos, "95th percentile of total_ns", |r, _| Value::int(r.stats.total.percentile(0.95))),
            brief("p99_ns", Nanos, "99th percentile of total_ns", |r, _| Value::int(r.stats.total.percentile(0.99))),
            brief("max_ns", Nanos, "largest total_ns", |r, _| Value::int(r.stats.total.max())),
            brief("bytes", Bytes, "bytes of the exchanges; where there are none, payload of the connections", |r, _| Value::Int(r.stats.bytes)),
            brief("connections", Count, "connections", |r, _| Value::Int(r.stats.connections)),
            column("turns", Count, "turns (one side sends, then the other) on connections whose protocol is not read; such connections have no requests", |r, _| Value::Int(r.stats.turns)),
            column("turn_p50_ns", Nanos, "median of the total_ns of turns", |r, _| Value::int(r.stats.turn_total.percentile(0.5))),
            column("turn_p95_ns", Nanos, "95th percentile of the total_ns of turns", |r, _| Value::int(r.stats.turn_total.percentile(0.95))),
            column("turn_p99_ns", Nanos, "99th percentile of the total_ns of turns", |r, _| Value::int(r.stats.turn_total.percentile(0.99))),
            column("turn_max_ns", Nanos, "largest total_ns of turns", |r, _| Value::int(r.stats.turn_total.max())),
        ])
    }

    fn key(row: &ServiceRow<'_>) -> Key {
        (u64::MAX - row.stats.requests, u64::MAX - row.stats.bytes, 0)
    }
}
