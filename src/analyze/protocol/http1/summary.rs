//! The table `endpoints`: exchanges by method, path template, host and service.

use super::HttpMessage;
use super::path::Templates;
use crate::analyze::column::Kind::{Count, Text};
use crate::analyze::column::Value;
use crate::analyze::protocol::summary::{
    Heading, MAX_REMEMBERED, Remembered, Summary, SummaryRow, put, summary_column,
};
use crate::analyze::row::ExchangeRow;
use crate::analyze::stats::counters::{ExchangeStats, Own};
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge};
use crate::analyze::stats::label::write_named;
use crate::analyze::table::define::{Def, Derived, Key, SERVICE, Table, brief, column};
use crate::analyze::table::ends::columns_with_ends;
use crate::analyze::template::{Limit, Patterns};

/// What is counted of an endpoint beside what is counted of all protocols.
#[derive(Debug, Clone, Default)]
pub struct HttpStats {
    /// By class of status: 1xx to 5xx at 1 to 5; without a status at 0.
    pub status: [u64; 6],
}

impl Own for HttpStats {
    /// The status.
    type One = u16;

    fn count(&mut self, status: &u16) {
        self.status[usize::from(status / 100).min(5)] += 1;
    }
}

impl Merge for HttpStats {
    fn merge(&mut self, other: HttpStats) {
        self.status
            .iter_mut()
            .zip(other.status)
            .for_each(|(to, from)| *to += from);
    }
}

/// The endpoint of a request that was read before.
#[derive(Debug, Default)]
struct KnownEndpoint {
    /// What is asked ([`Known`]); 0 without one.
    ///
    /// [`Known`]: super::message::Known
    known: u64,
    callee: u32,
    /// Its number in the table `endpoints`.
    number: u32,
}

/// Finds the endpoint of an exchange.
#[derive(Default)]
pub struct ByEndpoint {
    templates: Templates,
    limit: Limit,
    key: KeyText,
    /// By the key with the path as it is.
    numbers: Remembered<u32>,
    /// Each in a place that its numbers say, where the last one stays.
    known: Vec<KnownEndpoint>,
}

impl Summary for ByEndpoint {
    type Message = HttpMessage;
    type Own = HttpStats;
    type Table = Endpoints;

    const HEADING: Heading = Heading {
        name: "endpoints",
        title: "HTTP endpoints",
        about: "HTTP exchanges by host, method and path template.",
    };
    const FIELDS: usize = 4;

    fn use_patterns(&mut self, patterns: &Patterns) {
        self.templates.use_patterns(patterns);
    }

    fn number(
        &mut self,
        row: &ExchangeRow<'_, HttpMessage>,
        callee: u32,
        keyed: &mut Keyed<ExchangeStats<HttpStats>>,
    ) -> u32 {
        let known = row.message.known.0;
        if known == 0 {
            return self.number_by_text(row, keyed);
        }
        // One thread's numbers follow one another; those of another differ in their upper half.
        let place = (known ^ (known >> 28) ^ (u64::from(callee) << 7)) as usize % MAX_REMEMBERED;
        let there = self.known.get(place);
        if let Some(there) = there.filter(|there| (there.known, there.callee) == (known, callee)) {
            return there.number;
        }
        let number = self.number_by_text(row, keyed);
        put(&mut self.known, place, KnownEndpoint { known, callee, number });
        number
    }

    fn one(row: &ExchangeRow<'_, HttpMessage>) -> u16 {
        row.message.status
    }
}

impl ByEndpoint {
    /// The number of an endpoint, looked up by the request as it is, else by its template.
    fn number_by_text(
        &mut self,
        row: &ExchangeRow<'_, HttpMessage>,
        keyed: &mut Keyed<ExchangeStats<HttpStats>>,
    ) -> u32 {
        let message = row.message;
        let path = message.path_and_query().0;
        let key = &mut self.key;
        key.begin().field(&message.method).field(path).field(&message.host);
        key.write(|to| write_named(to, row.server_party, &row.server));
        let raw = key.done();
        if let Some(number) = self.numbers.get(raw) {
            return *number;
        }
        let raw: Box<str> = raw.into();
        let template = self.templates.template(path);
        let template = self.limit.admit(&message.method, &message.host, template);
        key.begin().field(&message.method).field(template).field(&message.host);
        key.write(|to| write_named(to, row.server_party, &row.server));
        let number = keyed.number(key.done());
        let bytes = raw.len();
        self.numbers.put(raw, number, bytes);
        number
    }
}

/// The table `endpoints`.
pub struct Endpoints;

impl Table for Endpoints {
    type Row<'r> = SummaryRow<'r, HttpStats>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Endpoints>] {
        columns_with_ends!(Endpoints, "exchanges of the row", "--table http --group-by endpoint", [
            brief("method", Text, "HTTP method of the requests", |r, _| Value::text(r.field(0))),
            brief("endpoint", Text, "path template of the requests: /users/42 is /users/{id}", |r, _| Value::text(r.field(1))),
            brief("host", Text, "Host field of the requests, or the authority of an absolute target", |r, _| Value::text(r.field(2))),
            column("service", Text, SERVICE, |r, _| Value::text(r.field(3))),
            brief("count", Count, "number of exchanges, incomplete ones included", |r, _| Value::Int(r.stats.count)),
            brief("errors", Count, "number of responses with a status of 500 and above, and of requests without a whole response because the connection was reset (column reset of the table http)", |r, _| Value::Int(r.stats.errors)),
            summary_column!(brief error_rate),
            brief("client_errors", Count, "number of responses with a status from 400 to 499", |r, _| Value::Int(r.stats.own.status[4])),
            summary_column!(brief p50_ns),
            summary_column!(brief p90_ns),
            summary_column!(brief p95_ns),
            summary_column!(brief p99_ns),
            summary_column!(brief max_ns),
            summary_column!(column mean_ns),
            summary_column!(column ttfb_p50_ns),
            summary_column!(column ttfb_p95_ns),
            summary_column!(column ttfb_p99_ns),
            summary_column!(column measured),
            summary_column!(column incomplete),
            column("informational", Count, "number of responses with a status from 100 to 199", |r, _| Value::Int(r.stats.own.status[1])),
            column("successes", Count, "number of responses with a status from 200 to 299", |r, _| Value::Int(r.stats.own.status[2])),
            column("redirects", Count, "number of responses with a status from 300 to 399", |r, _| Value::Int(r.stats.own.status[3])),
            column("no_status", Count, "number of exchanges without a final response", |r, _| Value::Int(r.stats.own.status[0])),
            summary_column!(column request_bytes),
            summary_column!(column response_bytes),
        ])
    }

    fn key(row: &SummaryRow<'_, HttpStats>) -> Key {
        (u64::MAX - row.stats.count, 0, 0)
    }
}
