//! The table `services`: who called whom.

use super::define::{Def, Key, Table, brief, column, ratio};
use super::ends::columns_with_ends;
use crate::analyze::column::Kind::{Bytes, Count, Nanos, Ratio, Text};
use crate::analyze::column::Value;
use crate::analyze::stats::counters::ServiceStats;
use crate::analyze::stats::ends::End;

/// The table `services`.
pub struct Services;

/// A row of the table `services`.
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
        columns_with_ends!(Services, "exchanges and connections of the row", "--table connections --group-by protocol", [
            brief("caller", Text, "client of the exchanges: namespace/owner of the pod, else container, systemd service, process name, or address", |r, _| Value::text(r.caller)),
            brief("callee", Text, "server of the exchanges: namespace/owner of the pod, else container, systemd service, process name, or address", |r, _| Value::text(r.callee)),
            brief("protocol", Text, "protocol between caller and callee: http, mysql, …, another protocol that was recognised, or tcp", |r, _| Value::text(r.protocol)),
            brief("requests", Count, "number of exchanges between caller and callee", |r, _| Value::Int(r.stats.requests)),
            brief("errors", Count, "number of exchanges that are errors (HTTP status of 500 and above, MySQL ERR packets, …), of requests that were reset, and of failed connects", |r, _| Value::Int(r.stats.errors)),
            brief("error_rate", Ratio, "errors divided by requests, from 0 to 1", |r, _| ratio(r.stats.errors, r.stats.requests)),
            brief("p50_ns", Nanos, "median of the total time of exchanges (first byte of the request to last byte of the response), ns", |r, _| Value::int(r.stats.total.percentile(0.5))),
            brief("p95_ns", Nanos, "95th percentile of the total time of exchanges (first byte of the request to last byte of the response), ns", |r, _| Value::int(r.stats.total.percentile(0.95))),
            brief("p99_ns", Nanos, "99th percentile of the total time of exchanges (first byte of the request to last byte of the response), ns", |r, _| Value::int(r.stats.total.percentile(0.99))),
            brief("max_ns", Nanos, "maximum of the total time of exchanges (first byte of the request to last byte of the response), ns", |r, _| Value::int(r.stats.total.max())),
            brief("bytes", Bytes, "size of the exchanges between caller and callee, in bytes; where there are none, payload of the connections", |r, _| Value::Int(r.stats.bytes)),
            brief("connections", Count, "number of connections between caller and callee", |r, _| Value::Int(r.stats.connections)),
            column("turns", Count, "number of turns (one side sends, then the other) on connections between caller and callee whose protocol is not read; such connections have no requests", |r, _| Value::Int(r.stats.turns)),
            column("turn_p50_ns", Nanos, "median of the total time of turns (first byte asked to last byte answered), ns", |r, _| Value::int(r.stats.turn_total.percentile(0.5))),
            column("turn_p95_ns", Nanos, "95th percentile of the total time of turns (first byte asked to last byte answered), ns", |r, _| Value::int(r.stats.turn_total.percentile(0.95))),
            column("turn_p99_ns", Nanos, "99th percentile of the total time of turns (first byte asked to last byte answered), ns", |r, _| Value::int(r.stats.turn_total.percentile(0.99))),
            column("turn_max_ns", Nanos, "maximum of the total time of turns (first byte asked to last byte answered), ns", |r, _| Value::int(r.stats.turn_total.max())),
        ])
    }

    fn key(row: &ServiceRow<'_>) -> Key {
        (u64::MAX - row.stats.requests, u64::MAX - row.stats.bytes, 0)
    }
}
