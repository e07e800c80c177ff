//! The tables of exchanges: one for each protocol that is read, one row for each exchange.

use std::marker::PhantomData;

use super::define::{Def, Derived, Key, Table};
use crate::analyze::exchange::Message;
use crate::analyze::row::ExchangeRow;

/// The table of the exchanges that say this.
pub struct Exchanges<M>(PhantomData<M>);

/// A message that makes a table.
pub trait Columns: Message + Sized {
    /// Keeps what their values are derived with.
    type Derived: Derived;

    /// All columns, made by [`exchange_columns`].
    fn defs() -> &'static [Def<Exchanges<Self>>];
}

impl<M: Columns> Table for Exchanges<M> {
    type Row<'r> = ExchangeRow<'r, M>;
    type Derived = M::Derived;

    fn defs() -> &'static [Def<Self>] {
        M::defs()
    }

    fn key(row: &ExchangeRow<'_, M>) -> Key {
        (row.start, row.connection, row.sequence)
    }
}

/// The columns of an exchange, with a protocol's own ones in their midst.
macro_rules! exchange_columns {
    ($message:ty, [$($own:expr),* $(,)?]) => {{
        use $crate::analyze::column::Kind::{Bytes, Count, Flag, Nanos, Number, Text, Time};
        use $crate::analyze::column::Value;
        use $crate::analyze::table::define::{Def, brief, column};
        use $crate::analyze::table::exchanges::Exchanges;
        static DEFS: &[Def<Exchanges<$message>>] = &[
            brief("start", Time, "first byte of the request, seen by the client if it was captured, else by the server", |r, _| Value::nonzero(r.start)),
            brief("client_ip", Text, "address of the end that sends requests", |r, s| s.ip(&r.client)),
            column("client_port", Number, "its port", |r, _| Value::Int(r.client.port.into())),
            brief("server_ip", Text, "address of the end that answers", |r, s| s.ip(&r.server)),
            brief("server_port", Number, "its port", |r, _| Value::Int(r.server.port.into())),
            $($own,)*
            column("request_bytes", Bytes, "request as on the wire, head and body", |r, _| Value::int(r.request_bytes)),
            brief("response_bytes", Bytes, "response as on the wire, head and body", |r, _| Value::int(r.response_bytes)),
            brief("ttfb_ns", Nanos, "first byte of the request to first byte of the response; null across a gap", |r, _| Value::int(r.latency.ttfb_ns)),
            brief("total_ns", Nanos, "first byte of the request to last byte of the response; null across a gap", |r, _| Value::int(r.latency.total_ns)),
            column("network_ns", Nanos, "the client's total_ns minus the server's; only when both ends were seen", |r, _| Value::int(r.network_ns)),
            column("side", Text, "which ends were seen: client, server, both, or wire for packet captures", |r, _| Value::Text(r.side.name())),
            column("client_ttfb_ns", Nanos, "ttfb_ns as the client's socket saw it", |r, _| Value::int(r.client_latency.ttfb_ns)),
            column("client_total_ns", Nanos, "total_ns as the client's socket saw it", |r, _| Value::int(r.client_latency.total_ns)),
            column("server_ttfb_ns", Nanos, "ttfb_ns as the server's socket saw it", |r, _| Value::int(r.server_latency.ttfb_ns)),
            column("server_total_ns", Nanos, "total_ns as the server's socket saw it", |r, _| Value::int(r.server_latency.total_ns)),
            column("client_pid", Number, "process that sent the request", |r, _| Value::nonzero(r.client_party.pid.into())),
            column("client_comm", Text, "its name", |r, _| Value::text(&r.client_party.comm)),
            column("client_cgroup", Text, "path of the cgroup that it was in during the exchange", |r, _| Value::text(&r.client_party.cgroup)),
            column("client_container", Text, "its container: the name, else the short id", |r, _| Value::text(&r.client_party.container)),
            column("client_container_id", Text, "full id of that container", |r, _| Value::text(&r.client_party.container_id)),
            column("client_pod", Text, "its pod", |r, _| Value::text(&r.client_party.pod)),
            column("client_namespace", Text, "namespace of that pod", |r, _| Value::text(&r.client_party.namespace)),
            column("client_workload", Text, "what owns the pod (Deployment/cart), or the systemd unit", |r, _| Value::text(&r.client_party.workload)),
            column("client_name", Text, "what the client's address is called, where a source of names knows it", |r, _| Value::text(&r.client_party.address_name)),
            column("client_host", Text, "host on which the client's socket was captured", |r, _| Value::text(&r.client_party.hostname)),
            column("server_pid", Number, "process that answered", |r, _| Value::nonzero(r.server_party.pid.into())),
            column("server_comm", Text, "its name", |r, _| Value::text(&r.server_party.comm)),
            column("server_cgroup", Text, "path of the cgroup that it was in during the exchange", |r, _| Value::text(&r.server_party.cgroup)),
            column("server_container", Text, "its container: the name, else the short id", |r, _| Value::text(&r.server_party.container)),
            column("server_container_id", Text, "full id of that container", |r, _| Value::text(&r.server_party.container_id)),
            column("server_pod", Text, "its pod", |r, _| Value::text(&r.server_party.pod)),
            column("server_namespace", Text, "namespace of that pod", |r, _| Value::text(&r.server_party.namespace)),
            column("server_workload", Text, "what owns the pod (Deployment/cart), or the systemd unit", |r, _| Value::text(&r.server_party.workload)),
            column("server_name", Text, "what the server's address is called, where a source of names knows it", |r, _| Value::text(&r.server_party.address_name)),
            column("server_host", Text, "host on which the server's socket was captured", |r, _| Value::text(&r.server_party.hostname)),
            column("complete", Flag, "request and response were seen whole", |r, _| Value::Flag(r.incomplete.is_none())),
            brief("incomplete_reason", Text, "why not: gap, truncated, started_before, no_response, request_cut, response_cut, no_request, malformed, too_many", |r, _| r.incomplete.map_or(Value::Null, |why| Value::Text(why.name()))),
            column("reset", Flag, "there is no whole response because the connection was reset by the server, or on the way to it, or timed out", |r, _| Value::Flag(r.reset)),
            column("connection", Count, "the same number for all exchanges of one connection; as in the table connections", |r, _| Value::Int(r.connection)),
            column("sequence", Count, "number of the exchange in its connection", |r, _| Value::Int(r.sequence)),
        ];
        DEFS
    }};
}
pub(crate) use exchange_columns;
