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
            column("user", Text, "user of the MySQL session", |r, _| Value::text(&r.message.user)),
            brief("database", Text, "default database of the MySQL session", |r, _| Value::text(&r.message.database)),
            column("server_version", Text, "version in the MySQL server's greeting", |r, _| Value::text(&r.message.server_version)),
            column("command", Text, "MySQL command: COM_QUERY, COM_STMT_EXECUTE, …; null when the command was not captured, or only the header of it, or there was none", |r, s| command(r.message.command, s)),
            brief("statement", Text, "SQL text of the command; for COM_STMT_EXECUTE, of the prepared statement", |r, _| Value::text(&r.message.statement)),
            column("statement_cut", Flag, "true when the SQL text in statement is only a prefix", |r, _| Value::Flag(r.message.statement_cut)),
            column("statement_id", Number, "id that the server gave to the prepared statement", |r, _| Value::int(r.message.server_statement_id().map(u64::from))),
            column("fingerprint", Text, "SQL text of the statement without its literals", |r, s: &mut Scratch<Fingerprints>| match r.message.statement.as_str() {
                "" => Value::Null,
                statement => Value::text(&s.derived.of(statement).fingerprint),
            }),
            column("digest", Text, "id of the statement's fingerprint", |r, s: &mut Scratch<Fingerprints>| match r.message.statement.as_str() {
                "" => Value::Null,
                statement => Value::text(&s.derived.of(statement).digest),
            }),
            brief("status", Text, "outcome of the MySQL command: ok, error or no_response", |r, _| Value::Text(r.message.status.name())),
            brief("error_code", Number, "error code in the server's ERR packet", |r, _| Value::nonzero(r.message.error_code.into())),
            column("sqlstate", Text, "SQLSTATE in the server's ERR packet", |r, _| Value::text(&r.message.sqlstate)),
            column("error_message", Text, "error message in the server's ERR packet", |r, _| Value::text(&r.message.error_message)),
            brief("rows", Count, "number of rows in all result sets of the response; null when they could not be counted", |r, _| Value::int(r.message.rows)),
            column("affected_rows", Count, "number of affected rows in the server's OK packet", |r, _| Value::int(r.message.affected_rows)),
            column("last_insert_id", Count, "last insert id in the server's OK packet", |r, _| Value::int(r.message.last_insert_id)),
            column("warnings", Number, "number of warnings in the server's OK or EOF packet", |r, _| Value::int(r.message.warnings.map(u64::from))),
            column("no_index_used", Flag, "true when the server reports that no index, or no good one, was used", |r, _| Value::Flag(r.message.no_index_used)),
            column("inferred", Flag, "true when user, database or another fact of the session was inferred: the capture began in the middle of the session, or a gap may hide a change of user or database", |r, _| Value::Flag(r.message.inferred)),
            column("why", Text, "why there is no statement, or no command, in these words: prepared before the capture; prepared before the capture, or in what was lost (where bytes of the connection or of the capture were lost before); its PREPARE was not seen; its command was not captured; only its header was captured; an error without a command", |r, _| Value::text(r.message.why())),
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
