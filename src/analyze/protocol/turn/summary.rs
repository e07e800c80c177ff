//! The table `turn_services`: turns by the service that asks, the one that answers, and protocol.

use super::TurnMessage;
use crate::analyze::column::Kind::{Bytes, Count, Nanos, Text};
use crate::analyze::column::Value;
use crate::analyze::protocol::summary::{Heading, Summary, SummaryRow};
use crate::analyze::row::ExchangeRow;
use crate::analyze::stats::counters::{ExchangeStats, Own};
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge};
use crate::analyze::stats::label::write_service;
use crate::analyze::table::define::{Def, Key, Table, brief, column};
use crate::analyze::table::ends::columns_with_ends;

/// What is counted beside what is counted of all protocols.
#[derive(Debug, Clone, Copy, Default)]
pub struct TurnStats {
    pub overlapping: u64,
    pub unasked: u64,
}

impl Own for TurnStats {
    type One = Self;

    fn count(&mut self, one: &Self) {
        self.merge(*one);
    }
}

impl Merge for TurnStats {
    fn merge(&mut self, other: TurnStats) {
        self.overlapping += other.overlapping;
        self.unasked += other.unasked;
    }
}

/// Finds the key of a turn in the table.
#[derive(Default)]
pub struct ByEdge(KeyText);

impl Summary for ByEdge {
    type Message = TurnMessage;
    type Own = TurnStats;
    type Table = TurnServices;

    const HEADING: Heading = Heading {
        name: "turn_services",
        title: "Turns",
        about: "Turns of connections whose protocol is not read, by client, server and protocol.",
    };
    const FIELDS: usize = 3;

    fn number(
        &mut self,
        row: &ExchangeRow<'_, TurnMessage>,
        _callee: u32,
        keyed: &mut Keyed<ExchangeStats<TurnStats>>,
    ) -> u32 {
        let key = &mut self.0;
        key.begin();
        key.write(|to| write_service(to, row.client_party, &row.client));
        key.write(|to| write_service(to, row.server_party, &row.server));
        key.field(row.message.protocol);
        keyed.number(key.done())
    }

    fn one(row: &ExchangeRow<'_, TurnMessage>) -> TurnStats {
        TurnStats {
            overlapping: u64::from(row.message.overlapping),
            unasked: u64::from(row.message.unasked),
        }
    }
}

/// The table `turn_services`.
pub struct TurnServices;

impl Table for TurnServices {
    type Row<'r> = SummaryRow<'r, TurnStats>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<TurnServices>] {
        columns_with_ends!(TurnServices, "turns of the row", "--table turns --group-by client_comm,server_comm,protocol", [
            brief("client", Text, "name of the clients: namespace/owner of the pod, else container, systemd service, process name, or address", |r, _| Value::text(r.field(0))),
            brief("server", Text, "name of the servers: namespace/owner of the pod, else container, systemd service, process name, or address", |r, _| Value::text(r.field(1))),
            brief("protocol", Text, "protocol that the connections were recognised as (tls, redis, …); null where nothing is known", |r, _| Value::text(r.field(2))),
            brief("count", Count, "number of turns, incomplete ones included", |r, _| Value::Int(r.stats.count)),
            brief("p50_ns", Nanos, "median of the total time of turns (first byte asked to last byte answered), ns", |r, _| Value::int(r.stats.latency.total.percentile(0.5))),
            column("p90_ns", Nanos, "90th percentile of the total time of turns, ns", |r, _| Value::int(r.stats.latency.total.percentile(0.9))),
            brief("p95_ns", Nanos, "95th percentile of the total time of turns, ns", |r, _| Value::int(r.stats.latency.total.percentile(0.95))),
            brief("p99_ns", Nanos, "99th percentile of the total time of turns, ns", |r, _| Value::int(r.stats.latency.total.percentile(0.99))),
            brief("max_ns", Nanos, "maximum of the total time of turns, ns", |r, _| Value::int(r.stats.latency.total.max())),
            column("mean_ns", Nanos, "mean of the total time of turns, ns", |r, _| Value::int(r.stats.latency.total.mean())),
            column("ttfb_p50_ns", Nanos, "median of the time to the first byte of an answer (last byte asked to first byte answered), ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.5))),
            column("ttfb_p99_ns", Nanos, "99th percentile of the time to the first byte of an answer (last byte asked to first byte answered), ns", |r, _| Value::int(r.stats.latency.ttfb.percentile(0.99))),
            column("measured", Count, "number of turns whose total time is known", |r, _| Value::Int(r.stats.latency.total.count())),
            column("incomplete", Count, "number of turns that were not captured whole", |r, _| Value::Int(r.stats.incomplete)),
            brief("overlapping", Count, "number of turns without a latency because both sides sent at the same time", |r, _| Value::Int(r.stats.own.overlapping)),
            column("unasked", Count, "number of turns that the server began: greetings, pushes", |r, _| Value::Int(r.stats.own.unasked)),
            brief("request_bytes", Bytes, "payload that clients sent in these turns, in bytes", |r, _| Value::Int(r.stats.request_bytes)),
            brief("response_bytes", Bytes, "payload that servers sent in these turns, in bytes", |r, _| Value::Int(r.stats.response_bytes)),
        ])
    }

    fn key(row: &SummaryRow<'_, TurnStats>) -> Key {
        (u64::MAX - row.stats.count, 0, 0)
    }
}
