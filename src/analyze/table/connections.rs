//! The table `connections`.

use super::define::{Def, Key, Table, brief, column};
use super::ends::columns_with_parties;
use crate::analyze::column::Kind::{Bytes, Count, Flag, Micros, Nanos, Number, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::errno;
use crate::analyze::row::ConnectionRow;

/// The table `connections`.
pub struct Connections;

/// Writes how a connection was opened and how it ended.
pub fn write_state(to: &mut String, row: &ConnectionRow<'_>) {
    to.push_str(row.opened.name());
    if row.connect_error != 0 {
        to.push_str(", failed: ");
        errno::write(to, row.connect_error);
    } else if let Some(ending) = row.ending {
        to.push_str(", ");
        to.push_str(ending.name());
    } else {
        to.push_str(", open");
    }
}

impl Table for Connections {
    type Row<'r> = ConnectionRow<'r>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Connections>] {
        columns_with_parties!(Connections, [
            brief("open", Time, "time at which connect was called or the connection was accepted; null when that was before the capture", |r, _| Value::int(r.open)),
            column("close", Time, "time at which the connection was closed; null when it was still open at the end of the capture", |r, _| Value::int(r.close)),
            brief("client_ip", Text, "address of the client, the end that opened the connection (of the captured end when it is not known which end did)", |r, s| s.ip(&r.client)),
            brief("client_port", Number, "TCP port of the client", |r, _| Value::nonzero(r.client.port.into())),
            brief("server_ip", Text, "address of the server; of a listener, the address on which it listens", |r, s| s.ip(&r.server)),
            brief("server_port", Number, "TCP port of the server; of a listener, the port on which it listens", |r, _| Value::nonzero(r.server.port.into())),
            column("role", Text, "end at which bytes, retransmits and round-trip time were measured: client, server, or wire; listener for a listening socket", |r, _| Value::text(r.role.name())),
            column("side", Text, "ends of the connection that were captured: client, server, both, or wire for packet captures", |r, _| Value::Text(r.side.name())),
            brief("state", Text, "how the connection was opened and how it ended, with the error of a failed connect", |r, s| {
                s.text.clear();
                write_state(&mut s.text, r);
                Value::Text(&s.text)
            }),
            column("opened", Text, "how the connection became known: connect, accept, listen, before_start, or first_seen", |r, _| Value::text(r.opened.name())),
            column("ending", Text, "how the connection ended: closed, reset_by_peer, reset_locally, timed_out, connect_failed; null when it was still open", |r, _| r.ending.map_or(Value::Null, |e| Value::text(e.name()))),
            column("connect_error", Text, "error of a failed connect: ECONNREFUSED, ETIMEDOUT, …", |r, s| {
                if r.connect_error == 0 {
                    return Value::Null;
                }
                s.text.clear();
                errno::write(&mut s.text, r.connect_error);
                Value::Text(&s.text)
            }),
            brief("connect_ns", Nanos, "time from the call of connect to its outcome, ns", |r, _| Value::int(r.connect_ns)),
            column("duration_ns", Nanos, "time from opening to closing the connection, ns", |r, _| match (r.open, r.close) {
                (Some(open), Some(close)) => Value::Int(close.saturating_sub(open)),
                _ => Value::Null,
            }),
            brief("bytes_sent", Bytes, "payload sent during the capture by the end named in the column role, or on a wire by the client, in bytes", |r, _| Value::Int(r.bytes_sent)),
            brief("bytes_received", Bytes, "payload received during the capture by the end named in the column role, or on a wire by the client, in bytes", |r, _| Value::Int(r.bytes_received)),
            column("lifetime_sent", Bytes, "payload sent from opening to close, also before the capture, by the end named in the column role, as the kernel counted it, in bytes; null when the close was not seen", |r, _| Value::int(r.lifetime_sent)),
            column("lifetime_received", Bytes, "payload received from opening to close, also before the capture, by the end named in the column role, as the kernel counted it, in bytes; null when the close was not seen", |r, _| Value::int(r.lifetime_received)),
            column("retransmits", Count, "number of segments retransmitted", |r, _| Value::int(r.retransmits.map(u64::from))),
            column("srtt_us", Micros, "smoothed round-trip time when the connection was closed, µs", |r, _| Value::int(r.srtt_us.map(u64::from))),
            brief("protocol", Text, "protocol of the connection: the name of the table with its exchanges (http, mysql, …), or what else the first bytes were recognised as: tls, http2, ssh, redis, postgresql, mongodb, amqp, mqtt, nats, smtp, socks; null when unknown", |r, _| Value::text(r.protocol)),
            brief("exchanges", Count, "number of exchanges, that is, of requests with or without a response", |r, _| Value::Int(r.exchanges)),
            brief("why", Text, "why the connection has no exchanges although it carried data", |r, _| Value::text(r.why)),
            column("first_data", Time, "time of the first payload byte of the connection", |r, _| Value::nonzero(r.first_data)),
            column("last_data", Time, "time of the last payload byte of the connection", |r, _| Value::nonzero(r.last_data)),
            column("lost_bytes", Bytes, "payload that was not captured, both directions together, in bytes", |r, _| Value::Int(r.lost_bytes)),
            column("unread_bytes", Bytes, "payload that was counted but not kept (snaplen, pages that could not be read), both directions together, in bytes", |r, _| Value::Int(r.unread_bytes)),
        ], [
            column("complete", Flag, "true when no byte of the connection was lost; false also where events were lost after the last that is known of the connection, and its end does not show that none of them were its own", |r, _| Value::Flag(r.lost_bytes == 0 && !r.may_lack_end)),
            column("connection", Count, "number of the connection; equal in the tables of exchanges (http, mysql, …)", |r, _| Value::Int(r.connection)),
        ])
    }

    fn key(row: &ConnectionRow<'_>) -> Key {
        (row.time(), row.connection, 0)
    }
}
