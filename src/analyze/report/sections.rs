//! The report as data: sections with columns and rows, equal for text and JSON. Knows no output format.

use std::borrow::Cow;

use super::aggregate::{Aggregate, Confidence, Totals, UnparsedBy};
use super::slowest::Slowest;
use crate::analyze::column::Kind::{Bytes, Count, Nanos, Text, Time};
use crate::analyze::protocol::PROTOCOLS;
use crate::analyze::protocol::summary::Heading;
use crate::analyze::row::CaptureFacts;
use crate::analyze::stats::keyed::fields;
use crate::analyze::table::services::{ServiceRow, Services};
use crate::analyze::table::{Columns, Kind, Scratch, Spec, Table, Value};

/// One part of the report.
pub struct Section {
    /// Its name in JSON.
    pub name: Cow<'static, str>,
    pub title: &'static str,
    /// The options that show all rows.
    pub more: Cow<'static, str>,
    /// Columns that the text report shows; JSON has all.
    pub brief: Vec<usize>,
    pub columns: Columns,
}

/// The report.
pub struct Report {
    pub captures: Vec<CaptureFacts>,
    pub confidence: Confidence,
    /// By protocol, in the order of the registry.
    pub confidences: Vec<(&'static str, Confidence)>,
    pub unparsed: UnparsedBy,
    pub totals: Totals,
    pub sections: Vec<Section>,
}

/// Rows of a table as columns, in the order of their keys.
pub fn rows<'r, T: Table>(rows: impl Iterator<Item = T::Row<'r>>) -> Columns {
    let mut rows: Vec<T::Row<'r>> = rows.collect();
    rows.sort_by_key(|row| T::key(row));
    let mut scratch: Scratch<T::Derived> = Scratch::default();
    let mut columns = Columns::new(T::defs().iter().map(|def| def.spec));
    for row in &rows {
        for (def, column) in T::defs().iter().zip(&mut columns.columns) {
            column.push((def.get)(row, &mut scratch));
        }
    }
    columns
}

/// The table `services`.
pub fn services(aggregate: &Aggregate) -> Columns {
    rows::<Services>(
        aggregate
            .calls
            .services
            .0
            .ranked(|_| 0)
            .into_iter()
            .map(|(key, stats)| {
                let [caller, callee, protocol] = fields(key);
                let [client, server] = aggregate.calls.names.of(&stats.agreed);
                ServiceRow {
                    caller,
                    callee,
                    protocol,
                    client,
                    server,
                    stats,
                }
            }),
    )
}

/// Whether a column has a value in any row.
fn has_values(columns: &Columns, n: usize) -> bool {
    let column = &columns.columns[n];
    (0..column.len()).any(|row| column.get(row) != Value::Null)
}

/// The columns of a table that the text report shows: the brief ones, and `service` where it has a value in any row.
pub(super) fn brief<T: Table>(columns: &Columns) -> Vec<usize> {
    let is_known_service = |n: usize| columns.columns[n].spec.name == "service" && has_values(columns, n);
    let defs = T::defs().iter().enumerate();
    defs.filter(|(n, def)| def.brief || is_known_service(*n))
        .map(|(n, _)| n)
        .collect()
}

const fn spec(name: &'static str, kind: Kind) -> Spec {
    Spec { name, kind, doc: "" }
}

fn section(
    name: impl Into<Cow<'static, str>>,
    title: &'static str,
    more: impl Into<Cow<'static, str>>,
    columns: Columns,
) -> Section {
    let brief = (0..columns.columns.len()).collect();
    Section {
        name: name.into(),
        title,
        more: more.into(),
        brief,
        columns,
    }
}

fn processes(aggregate: &Aggregate) -> Columns {
    let mut columns = Columns::new([
        spec("comm", Text),
        spec("container", Text),
        spec("count", Count),
        spec("alive", Count),
        spec("failed", Count),
        spec("signalled", Count),
        spec("p50_ns", Nanos),
        spec("max_ns", Nanos),
    ]);
    for (key, stats) in aggregate.processes.ranked(|stats| stats.count) {
        let [comm, container] = fields(key);
        columns.push_row(&[
            Value::text(comm),
            Value::text(container),
            Value::Int(stats.count),
            Value::Int(stats.alive),
            Value::Int(stats.failed),
            Value::Int(stats.signalled),
            Value::int(stats.duration.percentile(0.5)),
            Value::int(stats.duration.max()),
        ]);
    }
    columns
}

fn talkers(aggregate: &Aggregate) -> Columns {
    let mut columns = Columns::new([
        spec("client", Text),
        spec("server", Text),
        spec("endpoint", Text),
        spec("protocol", Text),
        spec("connections", Count),
        spec("exchanges", Count),
        spec("to_server", Bytes),
        spec("to_client", Bytes),
    ]);
    for (key, stats) in aggregate
        .talkers
        .ranked(|stats| stats.to_server.saturating_add(stats.to_client))
    {
        let [client, server, endpoint, protocol] = fields(key);
        columns.push_row(&[
            Value::text(client),
            Value::text(server),
            Value::text(endpoint),
            Value::text(protocol),
            Value::Int(stats.connections),
            Value::Int(stats.exchanges),
            Value::Int(stats.to_server),
            Value::Int(stats.to_client),
        ]);
    }
    columns
}

fn slowest(slowest: &Slowest, what: &'static str) -> Columns {
    let mut columns = Columns::new([
        spec("total_ns", Nanos),
        spec("ttfb_ns", Nanos),
        spec("start", Time),
        spec("client", Text),
        spec("server", Text),
        spec("status", Text),
        spec(what, Text),
    ]);
    for slow in slowest.iter() {
        columns.push_row(&[
            Value::Int(slow.total_ns),
            Value::int(slow.ttfb_ns),
            Value::nonzero(slow.start),
            Value::text(&slow.client),
            Value::text(&slow.server),
            Value::text(&slow.status),
            Value::text(&slow.what),
        ]);
    }
    columns
}

fn failed(aggregate: &Aggregate) -> Columns {
    let mut columns = Columns::new([
        spec("client", Text),
        spec("server", Text),
        spec("error", Text),
        spec("count", Count),
        spec("p50_ns", Nanos),
        spec("max_ns", Nanos),
    ]);
    for (key, stats) in aggregate.failed.ranked(|stats| stats.count) {
        let [client, server, error] = fields(key);
        columns.push_row(&[
            Value::text(client),
            Value::text(server),
            Value::text(error),
            Value::Int(stats.count),
            Value::int(stats.connect.percentile(0.5)),
            Value::int(stats.connect.max()),
        ]);
    }
    columns
}

fn silent(aggregate: &Aggregate) -> Columns {
    let mut columns = Columns::new([
        spec("why", Text),
        spec("server", Text),
        spec("endpoint", Text),
        spec("connections", Count),
        spec("bytes", Bytes),
    ]);
    for (key, stats) in aggregate.silent.ranked(|stats| stats.count) {
        let [why, server, endpoint] = fields(key);
        columns.push_row(&[
            Value::text(why),
            Value::text(server),
            Value::text(endpoint),
            Value::Int(stats.count),
            Value::Int(stats.bytes),
        ]);
    }
    columns
}

fn losses(aggregate: &Aggregate) -> Columns {
    let mut columns = Columns::new([
        spec("reason", Text),
        spec("detail", Text),
        spec("events", Count),
        spec("bytes", Bytes),
        spec("first", Time),
        spec("last", Time),
    ]);
    for (key, stats) in aggregate.losses.ranked(|stats| stats.events) {
        let [reason, detail] = fields(key);
        columns.push_row(&[
            Value::text(reason),
            Value::text(detail),
            Value::Int(stats.events),
            Value::Int(stats.bytes),
            Value::nonzero(stats.first),
            Value::nonzero(stats.last),
        ]);
    }
    columns
}

/// Makes the report.
pub fn report(aggregate: &Aggregate, captures: &[CaptureFacts]) -> Report {
    let mut services = section("services", "Services", "--table services", services(aggregate));
    services.brief = brief::<Services>(&services.columns);
    let mut losses = section("losses", "Losses", "--table losses", losses(aggregate));
    losses.brief.retain(|n| has_values(&losses.columns, *n));
    let mut sections = vec![
        losses,
        section("processes", "Processes", "--table processes", processes(aggregate)),
        services,
        section("talkers", "Top talkers", "--table connections", talkers(aggregate)),
    ];
    for (protocol, exchanges) in PROTOCOLS.iter().zip(&aggregate.exchanges) {
        let Heading { name, title, .. } = protocol.summary();
        let mut summary = section(
            name,
            title,
            format!("--table {name}"),
            exchanges.summary(&aggregate.calls.names),
        );
        summary.brief = exchanges.brief(&summary.columns);
        let (title, asked) = protocol.slowest();
        sections.push(summary);
        sections.push(section(
            format!("slowest_{}", protocol.name()),
            title,
            format!("--table {} --sort -total_ns", protocol.name()),
            slowest(exchanges.slowest(), asked),
        ));
    }
    sections.push(section(
        "failed_connects",
        "Failed connects",
        "--table connections --where \"connect_error is not null\"",
        failed(aggregate),
    ));
    sections.push(section(
        "no_exchanges",
        "Connections with data and no exchanges",
        "--table connections --where \"why is not null\"",
        silent(aggregate),
    ));
    Report {
        captures: captures.to_vec(),
        confidence: aggregate.confidence(),
        confidences: PROTOCOLS
            .iter()
            .zip(&aggregate.exchanges)
            .filter(|(protocol, _)| !protocol.are_turns())
            .map(|(protocol, exchanges)| (protocol.name(), exchanges.confidence().clone()))
            .collect(),
        unparsed: aggregate.unparsed.clone(),
        totals: aggregate.totals.clone(),
        sections,
    }
}
