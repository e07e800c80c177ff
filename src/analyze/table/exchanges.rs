//! The tables of exchanges: one for each protocol that is read, one row for each exchange.

use std::marker::PhantomData;

use super::define::{Def, Derived, Key, Table};
use crate::analyze::exchange::Message;
use crate::analyze::row::ExchangeRow;

/// The table of the exchanges that have this message.
pub struct Exchanges<M>(PhantomData<M>);

/// A message that makes a table.
pub trait Columns: Message + Sized {
    /// Caches what values are derived with.
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

/// The columns of an exchange, with a protocol's own ones in the middle.
macro_rules! exchange_columns {
    ($message:ty, [$($own:expr),* $(,)?]) => {{
        use $crate::analyze::column::Kind::{Bytes, Count, Flag, Nanos, Number, Text, Time};
        use $crate::analyze::column::Value;
        use $crate::analyze::table::define::{brief, column};
        use $crate::analyze::table::ends::columns_with_parties;
        use $crate::analyze::table::exchanges::Exchanges;
        columns_with_parties!(Exchanges<$message>, [
            brief("start", Time, "time of the first byte of the request, at the client if the client was captured, else at the server", |r, _| Value::nonzero(r.start)),
            brief("client_ip", Text, "address of the client, the end that sends requests", |r, s| s.ip(&r.client)),
            column("client_port", Number, "TCP port of the client", |r, _| Value::Int(r.client.port.into())),
            brief("server_ip", Text, "address of the server, the end that sends responses", |r, s| s.ip(&r.server)),
            brief("server_port", Number, "TCP port of the server", |r, _| Value::Int(r.server.port.into())),
            $($own,)*
            column("request_bytes", Bytes, "size of the request as on the wire, head and body, in bytes", |r, _| Value::int(r.request_bytes)),
            brief("response_bytes", Bytes, "size of the response as on the wire, head and body, in bytes", |r, _| Value::int(r.response_bytes)),
            brief("ttfb_ns", Nanos, "time from the first byte of the request to the first byte of the response, ns; null across a gap", |r, _| Value::int(r.latency.ttfb_ns)),
            brief("total_ns", Nanos, "time from the first byte of the request to the last byte of the response, ns; null across a gap", |r, _| Value::int(r.latency.total_ns)),
            column("network_ns", Nanos, "client_total_ns minus server_total_ns, ns: the part of the total time that was spent between the two sockets; null unless both ends were captured", |r, _| Value::int(r.network_ns)),
            column("side", Text, "ends of the connection that were captured: client, server, both, or wire for packet captures", |r, _| Value::Text(r.side.name())),
            column("client_ttfb_ns", Nanos, "time from the first byte of the request to the first byte of the response at the client's socket, ns", |r, _| Value::int(r.client_latency.ttfb_ns)),
            column("client_total_ns", Nanos, "time from the first byte of the request to the last byte of the response at the client's socket, ns", |r, _| Value::int(r.client_latency.total_ns)),
            column("server_ttfb_ns", Nanos, "time from the first byte of the request to the first byte of the response at the server's socket, ns", |r, _| Value::int(r.server_latency.ttfb_ns)),
            column("server_total_ns", Nanos, "time from the first byte of the request to the last byte of the response at the server's socket, ns", |r, _| Value::int(r.server_latency.total_ns)),
        ], [
            column("complete", Flag, "true when request and response were captured whole", |r, _| Value::Flag(r.incomplete.is_none())),
            brief("incomplete_reason", Text, "why the exchange is incomplete: gap, truncated, started_before, no_response, request_cut, response_cut, no_request, malformed, too_many; null when it is complete", |r, _| r.incomplete.map_or(Value::Null, |why| Value::Text(why.name()))),
            column("reset", Flag, "true when there is no whole response because the connection was reset by the server, or on the way to the server, or timed out", |r, _| Value::Flag(r.reset)),
            column("connection", Count, "number of the connection: equal for all exchanges of one connection, and in the table connections", |r, _| Value::Int(r.connection)),
            column("sequence", Count, "number of the exchange within the connection, from 0", |r, _| Value::Int(r.sequence)),
        ])
    }};
}
pub(crate) use exchange_columns;
