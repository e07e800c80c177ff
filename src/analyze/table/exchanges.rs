//! The tables `http` and `mysql`: one row for each exchange.

use super::define::{Def, Key, Scratch, Table, brief, column};
use super::derive::path_and_query;
use crate::analyze::column::Kind::{Bytes, Count, Flag, Nanos, Number, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::protocol::mysql::Status;
use crate::analyze::row::{Frame, HttpRow, MysqlRow};

/// The table `http`.
pub struct Http;
/// The table `mysql`.
pub struct Mysql;

fn key(frame: &Frame<'_>) -> Key {
    (frame.start, frame.connection, frame.sequence)
}

/// The word in `version`.
fn version(version: u8) -> Value<'static> {
    match version {
        9 => Value::Text("0.9"),
        10 => Value::Text("1.0"),
        11 => Value::Text("1.1"),
        _ => Value::Null,
    }
}

/// The word in `status` of the table `mysql`.
pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Error => "error",
        Status::NoResponse => "no_response",
    }
}

/// What the manual calls a command byte.
pub fn command_name(command: u8) -> Option<&'static str> {
    Some(match command {
        0x01 => "COM_QUIT",
        0x02 => "COM_INIT_DB",
        0x03 => "COM_QUERY",
        0x04 => "COM_FIELD_LIST",
        0x05 => "COM_CREATE_DB",
        0x06 => "COM_DROP_DB",
        0x07 => "COM_REFRESH",
        0x08 => "COM_SHUTDOWN",
        0x09 => "COM_STATISTICS",
        0x0a => "COM_PROCESS_INFO",
        // What a refused login is reported as.
        0x0b => "COM_CONNECT",
        0x0c => "COM_PROCESS_KILL",
        0x0d => "COM_DEBUG",
        0x0e => "COM_PING",
        0x11 => "COM_CHANGE_USER",
        0x12 => "COM_BINLOG_DUMP",
        0x13 => "COM_TABLE_DUMP",
        0x15 => "COM_REGISTER_SLAVE",
        0x16 => "COM_STMT_PREPARE",
        0x17 => "COM_STMT_EXECUTE",
        0x18 => "COM_STMT_SEND_LONG_DATA",
        0x19 => "COM_STMT_CLOSE",
        0x1a => "COM_STMT_RESET",
        0x1b => "COM_SET_OPTION",
        0x1c => "COM_STMT_FETCH",
        0x1e => "COM_BINLOG_DUMP_GTID",
        0x1f => "COM_RESET_CONNECTION",
        0xfa => "COM_STMT_BULK_EXECUTE",
        _ => return None,
    })
}

fn command<'a>(command: u8, scratch: &'a mut Scratch) -> Value<'a> {
    match command_name(command) {
        Some(name) => Value::Text(name),
        None if command == 0 => Value::Null,
        None => {
            scratch.text = format!("{command:#04x}");
            Value::Text(&scratch.text)
        }
    }
}

/// The columns of an exchange, with a protocol's own ones in their midst.
macro_rules! exchange_columns {
    ($table:ty, [$($own:expr),* $(,)?]) => {{
        static DEFS: &[Def<$table>] = &[
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
            column("client_cgroup", Text, "its cgroup path", |r, _| Value::text(&r.client_party.cgroup)),
            column("client_container", Text, "its container: the name, else the short id", |r, _| Value::text(&r.client_party.container)),
            column("client_container_id", Text, "full id of that container", |r, _| Value::text(&r.client_party.container_id)),
            column("client_pod", Text, "its pod", |r, _| Value::text(&r.client_party.pod)),
            column("client_namespace", Text, "namespace of that pod", |r, _| Value::text(&r.client_party.namespace)),
            column("client_workload", Text, "what owns the pod (Deployment/cart), or the systemd unit", |r, _| Value::text(&r.client_party.workload)),
            column("client_name", Text, "what the client's address is called, where a source of names knows it", |r, _| Value::text(&r.client_party.address_name)),
            column("client_host", Text, "host on which the client's socket was captured", |r, _| Value::text(&r.client_party.hostname)),
            column("server_pid", Number, "process that answered", |r, _| Value::nonzero(r.server_party.pid.into())),
            column("server_comm", Text, "its name", |r, _| Value::text(&r.server_party.comm)),
            column("server_cgroup", Text, "its cgroup path", |r, _| Value::text(&r.server_party.cgroup)),
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

impl Table for Http {
    type Row<'r> = HttpRow<'r>;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Http>] {
        exchange_columns!(Http, [
            brief("method", Text, "as sent; null when only the response was seen", |r, _| Value::text(&r.message.method)),
            column("host", Text, "Host field, or the authority of an absolute target", |r, _| Value::text(&r.message.host)),
            brief("path", Text, "path of the target", |r, _| Value::text(path_and_query(&r.message.target).0)),
            column("query", Text, "query of the target, without the question mark; null when there is none, empty in /x?", |r, _| path_and_query(&r.message.target).1.map_or(Value::Null, Value::Text)),
            column("endpoint", Text, "path template: /users/42 is /users/{id}", |r, s| Value::text(s.templates.template(path_and_query(&r.message.target).0))),
            column("version", Text, "HTTP version: 1.1, 1.0, 0.9", |r, _| version(r.message.version)),
            brief("status", Number, "status of the final response", |r, _| Value::nonzero(r.message.status.into())),
            column("content_type", Text, "Content-Type of the response", |r, _| Value::text(&r.message.content_type)),
            column("upgrade", Text, "protocol that a 101 answer switched to; tunnel after CONNECT", |r, _| Value::text(&r.message.upgrade)),
            column("why", Text, "what is wrong with it, in words: chunk size overflows, head not captured in full, answer to bytes that are no request, …", |r, _| Value::text(r.message.problem)),
        ])
    }

    fn key(row: &HttpRow<'_>) -> Key {
        key(&row.frame)
    }
}

impl Table for Mysql {
    type Row<'r> = MysqlRow<'r>;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Mysql>] {
        exchange_columns!(Mysql, [
            column("user", Text, "user of the session", |r, _| Value::text(&r.message.user)),
            brief("database", Text, "default database of the session", |r, _| Value::text(&r.message.database)),
            column("server_version", Text, "version that the server greets with", |r, _| Value::text(&r.message.server_version)),
            column("command", Text, "COM_QUERY, COM_STMT_EXECUTE, …; null when only its header was captured, or there was none", |r, s| command(r.message.command, s)),
            brief("statement", Text, "SQL text; of the prepared statement for COM_STMT_EXECUTE", |r, _| Value::text(&r.message.statement)),
            column("statement_cut", Flag, "the statement is only a prefix", |r, _| Value::Flag(r.message.statement_cut)),
            column("statement_id", Number, "the server's id of the prepared statement", |r, _| Value::int(r.message.statement_id.map(u64::from))),
            column("fingerprint", Text, "the statement without its literals", |r, s| match r.message.statement.as_str() {
                "" => Value::Null,
                statement => Value::text(&s.fingerprints.of(statement).fingerprint),
            }),
            column("digest", Text, "id of the fingerprint", |r, s| match r.message.statement.as_str() {
                "" => Value::Null,
                statement => Value::text(&s.fingerprints.of(statement).digest),
            }),
            brief("status", Text, "ok, error or no_response", |r, _| Value::Text(status_name(r.message.status))),
            brief("error_code", Number, "of the ERR packet", |r, _| Value::nonzero(r.message.error_code.into())),
            column("sqlstate", Text, "of the ERR packet", |r, _| Value::text(&r.message.sqlstate)),
            column("error_message", Text, "of the ERR packet", |r, _| Value::text(&r.message.error_message)),
            brief("rows", Count, "rows of all result sets; null when they could not be counted", |r, _| Value::int(r.message.rows)),
            column("affected_rows", Count, "of the OK packet", |r, _| Value::int(r.message.affected_rows)),
            column("last_insert_id", Count, "of the OK packet", |r, _| Value::int(r.message.last_insert_id)),
            column("warnings", Number, "of the OK or EOF packet", |r, _| Value::int(r.message.warnings.map(u64::from))),
            column("no_index_used", Flag, "the server says that no index, or no good one, was used", |r, _| Value::Flag(r.message.no_index_used)),
            column("inferred", Flag, "the session was joined in the middle, or a hole may have hidden a change of its user or database: something about it was inferred", |r, _| Value::Flag(r.message.inferred)),
            column("why", Text, "why there is no statement, or no command: prepared before the capture, its PREPARE was not seen, only its header was captured, an error without a command", |r, _| Value::text(r.message.why())),
        ])
    }

    fn key(row: &MysqlRow<'_>) -> Key {
        key(&row.frame)
    }
}
