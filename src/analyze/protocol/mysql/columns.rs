//! The columns of the table `mysql` that are its own.

use super::fingerprints::Fingerprints;
use super::{MysqlMessage, command_name};
use crate::analyze::column::Value;
use crate::analyze::table::define::{Def, Scratch};
use crate::analyze::table::exchanges::{Columns, Exchanges, exchange_columns};

impl Columns for MysqlMessage {
    type Derived = Fingerprints;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Exchanges<MysqlMessage>>] {
        exchange_columns!(MysqlMessage, [
            column("user", Text, "user of the session", |r, _| Value::text(&r.message.user)),
            brief("database", Text, "default database of the session", |r, _| Value::text(&r.message.database)),
            column("server_version", Text, "version that the server greets with", |r, _| Value::text(&r.message.server_version)),
            column("command", Text, "COM_QUERY, COM_STMT_EXECUTE, …; null when it was not captured, or only its header was, or there was none", |r, s| command(r.message.command, s)),
            brief("statement", Text, "SQL text; of the prepared statement for COM_STMT_EXECUTE", |r, _| Value::text(&r.message.statement)),
            column("statement_cut", Flag, "the statement is only a prefix", |r, _| Value::Flag(r.message.statement_cut)),
            column("statement_id", Number, "the server's id of the prepared statement", |r, _| Value::int(r.message.server_statement_id().map(u64::from))),
            column("fingerprint", Text, "the statement without its literals", |r, s: &mut Scratch<Fingerprints>| match r.message.statement.as_str() {
                "" => Value::Null,
                statement => Value::text(&s.derived.of(statement).fingerprint),
            }),
            column("digest", Text, "id of the fingerprint", |r, s: &mut Scratch<Fingerprints>| match r.message.statement.as_str() {
                "" => Value::Null,
                statement => Value::text(&s.derived.of(statement).digest),
            }),
            brief("status", Text, "ok, error or no_response", |r, _| Value::Text(r.message.status.name())),
            brief("error_code", Number, "of the ERR packet", |r, _| Value::nonzero(r.message.error_code.into())),
            column("sqlstate", Text, "of the ERR packet", |r, _| Value::text(&r.message.sqlstate)),
            column("error_message", Text, "of the ERR packet", |r, _| Value::text(&r.message.error_message)),
            brief("rows", Count, "rows of all result sets; null when they could not be counted", |r, _| Value::int(r.message.rows)),
            column("affected_rows", Count, "of the OK packet", |r, _| Value::int(r.message.affected_rows)),
            column("last_insert_id", Count, "of the OK packet", |r, _| Value::int(r.message.last_insert_id)),
            column("warnings", Number, "of the OK or EOF packet", |r, _| Value::int(r.message.warnings.map(u64::from))),
            column("no_index_used", Flag, "the server says that no index, or no good one, was used", |r, _| Value::Flag(r.message.no_index_used)),
            column("inferred", Flag, "the session was joined in the middle, or a hole may have hidden a change of its user or database: something about it was inferred", |r, _| Value::Flag(r.message.inferred)),
            column("why", Text, "why there is no statement, or no command: prepared before the capture, or (where bytes of the connection or of the capture were lost before) in what was lost, its PREPARE was not seen, its command was not captured, or only its header was, an error without a command", |r, _| Value::text(r.message.why())),
        ])
    }
}

fn command<'a>(command: u8, scratch: &'a mut Scratch<Fingerprints>) -> Value<'a> {
    match command_name(command) {
        Some(name) => Value::Text(name),
        None if command == 0 => Value::Null,
        None => {
            scratch.text = format!("{command:#04x}");
            Value::Text(&scratch.text)
        }
    }
}
