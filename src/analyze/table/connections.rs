//! The table `connections`.

use super::define::{Def, Key, Table, brief, column};
use crate::analyze::column::Kind::{Bytes, Count, Flag, Micros, Nanos, Number, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::errno;
use crate::analyze::row::ConnectionRow;

/// The table `connections`.
pub struct Connections;

/// How a connection was opened and how it ended, in words.
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
        static DEFS: &[Def<Connections>] = &[
            brief("open", Time, "when connect was called, or the connection accepted; null when that was before the capture", |r, _| Value::int(r.open)),
            column("close", Time, "when it was closed; null when it was still open at the end", |r, _| Value::int(r.close)),
            brief("client_ip", Text, "address of the end that opened it (or, when nobody knows, of the end that was captured)", |r, s| s.ip(&r.client)),
            brief("client_port", Number, "its port", |r, _| Value::nonzero(r.client.port.into())),
            brief("server_ip", Text, "address of the other end; of a listener, its own", |r, s| s.ip(&r.server)),
            brief("server_port", Number, "its port", |r, _| Value::nonzero(r.server.port.into())),
            column("role", Text, "whose view bytes, retransmits and round-trip time are: client, server, wire; listener for a listening socket", |r, _| Value::text(r.role.name())),
            column("side", Text, "which ends were seen: client, server, both, or wire for packet captures", |r, _| Value::Text(r.side.name())),
            brief("state", Text, "how it was opened and how it ended, with the error of a failed connect", |r, s| {
                s.text.clear();
                write_state(&mut s.text, r);
                Value::Text(&s.text)
            }),
            column("opened", Text, "connect, accept, listen, before_start, or first_seen", |r, _| Value::text(r.opened.name())),
            column("ending", Text, "closed, reset_by_peer, reset_locally, timed_out, connect_failed; null when it was still open", |r, _| r.ending.map_or(Value::Null, |e| Value::text(e.name()))),
            column("connect_error", Text, "error of a failed connect: ECONNREFUSED, ETIMEDOUT, …", |r, s| {
                if r.connect_error == 0 {
                    return Value::Null;
                }
                s.text.clear();
                errno::write(&mut s.text, r.connect_error);
                Value::Text(&s.text)
            }),
            brief("connect_ns", Nanos, "from connect to its outcome", |r, _| Value::int(r.connect_ns)),
            column("duration_ns", Nanos, "from open to close", |r, _| match (r.open, r.close) {
                (Some(open), Some(close)) => Value::Int(close.saturating_sub(open)),
                _ => Value::Null,
            }),
            brief("bytes_sent", Bytes, "payload sent by the end of `role`, or on a wire by the client, during the capture", |r, _| Value::Int(r.bytes_sent)),
            brief("bytes_received", Bytes, "payload received by the end of `role`, or on a wire by the client, during the capture", |r, _| Value::Int(r.bytes_received)),
            column("lifetime_sent", Bytes, "payload sent by that end from opening to close, also before the capture, as its kernel counted; null when the close was not seen", |r, _| Value::int(r.lifetime_sent)),
            column("lifetime_received", Bytes, "payload received by that end from opening to close, in the same way", |r, _| Value::int(r.lifetime_received)),
            column("retransmits", Count, "segments sent again", |r, _| Value::int(r.retransmits.map(u64::from))),
            column("srtt_us", Micros, "smoothed round-trip time at the close", |r, _| Value::int(r.srtt_us.map(u64::from))),
            brief("protocol", Text, "the table of its exchanges (http, mysql, …), or what else its first bytes say: tls, http2, ssh, redis, postgresql, mongodb, amqp, mqtt, nats, smtp; null when unknown", |r, _| Value::text(r.protocol)),
            brief("exchanges", Count, "requests with or without response", |r, _| Value::Int(r.exchanges)),
            brief("why", Text, "why there are no exchanges although there was data", |r, _| Value::text(r.why)),
            column("first_data", Time, "first payload byte", |r, _| Value::nonzero(r.first_data)),
            column("last_data", Time, "last payload byte", |r, _| Value::nonzero(r.last_data)),
            column("lost_bytes", Bytes, "bytes that nobody captured, both directions", |r, _| Value::Int(r.lost_bytes)),
            column("unread_bytes", Bytes, "bytes whose number is known and content is not (snaplen, kernel pages), both directions", |r, _| Value::Int(r.unread_bytes)),
            column("client_pid", Number, "process of the client", |r, _| Value::nonzero(r.client_party.pid.into())),
            column("client_comm", Text, "its name", |r, _| Value::text(&r.client_party.comm)),
            column("client_cgroup", Text, "path of the cgroup that it was in when the connection was opened or first seen; it may have been moved since", |r, _| Value::text(&r.client_party.cgroup)),
            column("client_container", Text, "its container: the name, else the short id", |r, _| Value::text(&r.client_party.container)),
            column("client_container_id", Text, "full id of that container", |r, _| Value::text(&r.client_party.container_id)),
            column("client_pod", Text, "its pod", |r, _| Value::text(&r.client_party.pod)),
            column("client_namespace", Text, "namespace of that pod", |r, _| Value::text(&r.client_party.namespace)),
            column("client_workload", Text, "what owns the pod, or the systemd unit", |r, _| Value::text(&r.client_party.workload)),
            column("client_name", Text, "what the client's address is called", |r, _| Value::text(&r.client_party.address_name)),
            column("client_host", Text, "host on which the client's socket was captured", |r, _| Value::text(&r.client_party.hostname)),
            column("server_pid", Number, "process of the server", |r, _| Value::nonzero(r.server_party.pid.into())),
            column("server_comm", Text, "its name", |r, _| Value::text(&r.server_party.comm)),
            column("server_cgroup", Text, "path of the cgroup that it was in when the connection was opened or first seen; it may have been moved since", |r, _| Value::text(&r.server_party.cgroup)),
            column("server_container", Text, "its container: the name, else the short id", |r, _| Value::text(&r.server_party.container)),
            column("server_container_id", Text, "full id of that container", |r, _| Value::text(&r.server_party.container_id)),
            column("server_pod", Text, "its pod", |r, _| Value::text(&r.server_party.pod)),
            column("server_namespace", Text, "namespace of that pod", |r, _| Value::text(&r.server_party.namespace)),
            column("server_workload", Text, "what owns the pod, or the systemd unit", |r, _| Value::text(&r.server_party.workload)),
            column("server_name", Text, "what the server's address is called", |r, _| Value::text(&r.server_party.address_name)),
            column("server_host", Text, "host on which the server's socket was captured", |r, _| Value::text(&r.server_party.hostname)),
            column("complete", Flag, "no byte of it was lost", |r, _| Value::Flag(r.lost_bytes == 0)),
            column("connection", Count, "number of the connection; as in the tables of exchanges (http, mysql, …)", |r, _| Value::Int(r.connection)),
        ];
        DEFS
    }

    fn key(row: &ConnectionRow<'_>) -> Key {
        (row.time(), row.connection, 0)
    }
}
