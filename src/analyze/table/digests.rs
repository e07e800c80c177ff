//! The table `digests`.

use super::define::{Def, Key, Table, brief, column};
use super::endpoints::{SERVICE, ratio};
use super::ends::columns_with_ends;
use crate::analyze::column::Kind::{Bytes, Count, Nanos, Ratio, Text};
use crate::analyze::column::Value;
use crate::analyze::stats::counters::MysqlStats;
use crate::analyze::stats::ends::End;

/// The table `digests`.
pub struct Digests;

/// A row of it.
pub struct DigestRow<'r> {
    pub command: &'r str,
    pub fingerprint: &'r str,
    pub service: &'r str,
    pub client: End<'r>,
    pub server: End<'r>,
    pub stats: &'r MysqlStats,
}

impl Table for Digests {
    type Row<'r> = DigestRow<'r>;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Digests>] {
        columns_with_ends!(Digests, "commands of the row", "--table mysql --group-by digest", [
            column("digest", Text, "id of the fingerprint, as pt-query-digest has it", |r, _| Value::text(&r.stats.digest)),
            brief("command", Text, "COM_QUERY, COM_STMT_EXECUTE, …", |r, _| Value::text(r.command)),
            brief("fingerprint", Text, "the statement without its literals; null for commands without a statement", |r, _| Value::text(r.fingerprint)),
            column("service", Text, SERVICE, |r, _| Value::text(r.service)),
            brief("count", Count, "commands, incomplete ones included", |r, _| Value::Int(r.stats.count)),
            brief("errors", Count, "commands answered by an ERR packet, or without a whole response because the connection was reset", |r, _| Value::Int(r.stats.errors)),
            column("error_rate", Ratio, "errors / count", |r, _| ratio(r.stats.errors, r.stats.count)),
            brief("sum_ns", Nanos, "sum of total_ns", |r, _| Value::Int(r.stats.latency.total.sum())),
            brief("p50_ns", Nanos, "median of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.5))),
            column("p90_ns", Nanos, "90th percentile of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.9))),
            brief("p95_ns", Nanos, "95th percentile of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.95))),
            brief("p99_ns", Nanos, "99th percentile of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.99))),
            brief("max_ns", Nanos, "largest total_ns", |r, _| Value::int(r.stats.latency.total.max())),
            column("mean_ns", Nanos, "mean of total_ns", |r, _| Value::int(r.stats.latency.total.mean())),
            column("ttfb_p50_ns", Nanos, "median of ttfb_ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.5))),
            column("ttfb_p99_ns", Nanos, "99th percentile of ttfb_ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.99))),
            column("measured", Count, "commands with a total_ns", |r, _| Value::Int(r.stats.latency.total.count())),
            column("incomplete", Count, "commands that were not seen whole", |r, _| Value::Int(r.stats.incomplete)),
            brief("rows", Count, "sum of rows", |r, _| Value::Int(r.stats.rows)),
            column("affected_rows", Count, "sum of affected_rows", |r, _| Value::Int(r.stats.affected_rows)),
            column("no_index_used", Count, "commands for which no index, or no good one, was used", |r, _| Value::Int(r.stats.no_index_used)),
            column("request_bytes", Bytes, "sum of request_bytes", |r, _| Value::Int(r.stats.request_bytes)),
            column("response_bytes", Bytes, "sum of response_bytes", |r, _| Value::Int(r.stats.response_bytes)),
            column("sample", Text, "the slowest statement of this kind, at most 400 characters of it", |r, _| Value::text(&r.stats.sample)),
        ])
    }

    fn key(row: &DigestRow<'_>) -> Key {
        (u64::MAX - row.stats.latency.total.sum(), u64::MAX - row.stats.count, 0)
    }
}
