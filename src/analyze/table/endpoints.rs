//! The table `endpoints`.

use super::define::{Def, Key, Table, brief, column};
use super::ends::columns_with_ends;
use crate::analyze::column::Kind::{Bytes, Count, Nanos, Ratio, Text};
use crate::analyze::column::Value;
use crate::analyze::stats::counters::HttpStats;
use crate::analyze::stats::ends::End;

/// The table `endpoints`.
pub struct Endpoints;

/// A row of it.
pub struct EndpointRow<'r> {
    pub method: &'r str,
    pub endpoint: &'r str,
    pub host: &'r str,
    pub service: &'r str,
    pub client: End<'r>,
    pub server: End<'r>,
    pub stats: &'r HttpStats,
}

/// What the column `service` means.
pub(super) const SERVICE: &str =
    "the pod, container or systemd service that answered, named as in the table services; one row for each of them";

/// `part` of `whole`; null of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> Value<'static> {
    if whole == 0 {
        Value::Null
    } else {
        Value::Float(part as f64 / whole as f64)
    }
}

impl Table for Endpoints {
    type Row<'r> = EndpointRow<'r>;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Endpoints>] {
        columns_with_ends!(Endpoints, "exchanges of the row", "--table http --group-by endpoint", [
            brief("method", Text, "HTTP method", |r, _| Value::text(r.method)),
            brief("endpoint", Text, "path template", |r, _| Value::text(r.endpoint)),
            brief("host", Text, "Host field", |r, _| Value::text(r.host)),
            column("service", Text, SERVICE, |r, _| Value::text(r.service)),
            brief("count", Count, "exchanges, incomplete ones included", |r, _| Value::Int(r.stats.count)),
            brief("errors", Count, "responses with a status of 500 and above, and requests without a whole response because the connection was reset (column reset of the table http)", |r, _| Value::Int(r.stats.errors)),
            brief("error_rate", Ratio, "errors / count", |r, _| ratio(r.stats.errors, r.stats.count)),
            brief("client_errors", Count, "responses with a status from 400 to 499", |r, _| Value::Int(r.stats.client_errors())),
            brief("p50_ns", Nanos, "median of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.5))),
            brief("p90_ns", Nanos, "90th percentile of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.9))),
            brief("p95_ns", Nanos, "95th percentile of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.95))),
            brief("p99_ns", Nanos, "99th percentile of total_ns", |r, _| Value::int(r.stats.latency.total.percentile(0.99))),
            brief("max_ns", Nanos, "largest total_ns", |r, _| Value::int(r.stats.latency.total.max())),
            column("mean_ns", Nanos, "mean of total_ns", |r, _| Value::int(r.stats.latency.total.mean())),
            column("ttfb_p50_ns", Nanos, "median of ttfb_ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.5))),
            column("ttfb_p95_ns", Nanos, "95th percentile of ttfb_ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.95))),
            column("ttfb_p99_ns", Nanos, "99th percentile of ttfb_ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.99))),
            column("measured", Count, "exchanges with a total_ns", |r, _| Value::Int(r.stats.latency.total.count())),
            column("incomplete", Count, "exchanges that were not seen whole", |r, _| Value::Int(r.stats.incomplete)),
            column("informational", Count, "responses with a status from 100 to 199", |r, _| Value::Int(r.stats.status[1])),
            column("successes", Count, "responses with a status from 200 to 299", |r, _| Value::Int(r.stats.status[2])),
            column("redirects", Count, "responses with a status from 300 to 399", |r, _| Value::Int(r.stats.status[3])),
            column("no_status", Count, "exchanges without a final response", |r, _| Value::Int(r.stats.status[0])),
            column("request_bytes", Bytes, "sum of request_bytes", |r, _| Value::Int(r.stats.request_bytes)),
            column("response_bytes", Bytes, "sum of response_bytes", |r, _| Value::Int(r.stats.response_bytes)),
        ])
    }

    fn key(row: &EndpointRow<'_>) -> Key {
        (u64::MAX - row.stats.count, 0, 0)
    }
}
