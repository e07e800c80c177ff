//! What a command and its response say. Plain data; who fills it is `pair`.

use std::sync::Arc;

use super::Mysql;
use crate::analyze::exchange::{Incomplete, Message};
use crate::analyze::protocol::Registered;
use crate::human::{prefix, shortened};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// OK, or a whole result.
    Ok,
    /// An ERR packet.
    Error,
    /// No response was seen, or none is ever sent.
    #[default]
    NoResponse,
}

impl Status {
    /// The word in the `status` column.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::NoResponse => "no_response",
        }
    }
}

/// A command and what its response says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MysqlMessage {
    /// The command byte (`COM_QUERY` = 3, …). A refused login is reported as `COM_CONNECT` = 11.
    pub command: u8,
    /// The server sent this error while no command was under way.
    pub is_unasked: bool,
    /// The command was not captured, nor anything else that the client sent.
    pub lacks_command: bool,
    /// SQL text: of `COM_QUERY` and `COM_STMT_PREPARE` as sent, of `COM_STMT_EXECUTE`, `COM_STMT_BULK_EXECUTE` and
    /// `COM_STMT_FETCH` the text that was prepared (empty when the prepare was not seen). The argument of
    /// `COM_INIT_DB` and `COM_FIELD_LIST`. Invalid UTF-8 is replaced.
    pub statement: String,
    /// The statement is only a prefix.
    pub statement_cut: bool,
    /// For prepared statements: the server's statement id, or [`LAST_PREPARED`].
    pub statement_id: Option<u32>,
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub server_version: Arc<str>,
    pub status: Status,
    pub error_code: u16,
    pub sqlstate: String,
    pub error_message: String,
    /// Rows of all result sets; `None` when they could not be counted.
    pub rows: Option<u64>,
    /// Sum over all OK packets; `None` when there was none (result sets only).
    pub affected_rows: Option<u64>,
    /// The last one that is not 0.
    pub last_insert_id: Option<u64>,
    /// Of the last result.
    pub warnings: Option<u16>,
    /// SERVER_STATUS_NO_INDEX_USED or SERVER_STATUS_NO_GOOD_INDEX_USED was set.
    pub no_index_used: bool,
    /// All server status flags of all results (`SERVER_QUERY_WAS_SLOW`, `SERVER_STATUS_IN_TRANS`, …).
    pub status_flags: u16,
    /// Something about the session was inferred from the traffic, not seen: it was joined in the middle, or a command
    /// that is lost, or whose answer is, may have changed its user or database.
    pub inferred: bool,
    /// The session was joined in the middle.
    pub is_joined: bool,
    /// Bytes of the session were lost before, or may be in what cannot be read of the captures.
    pub is_behind_hole: bool,
}

impl MysqlMessage {
    /// The command ran the SQL text in `statement`: what a digest counts.
    pub fn runs_sql(&self) -> bool {
        matches!(self.command, COM_QUERY | COM_STMT_EXECUTE | COM_STMT_BULK_EXECUTE)
    }

    /// The server's id of the prepared statement, where it is known.
    pub fn server_statement_id(&self) -> Option<u32> {
        self.statement_id.filter(|id| *id != LAST_PREPARED)
    }

    /// `statement` is SQL text.
    pub fn has_sql(&self) -> bool {
        self.runs_sql() || matches!(self.command, COM_STMT_PREPARE | COM_STMT_FETCH)
    }

    /// It names a statement whose PREPARE was not seen.
    pub fn lacks_prepare(&self) -> bool {
        let by_id = matches!(self.command, COM_STMT_EXECUTE | COM_STMT_BULK_EXECUTE | COM_STMT_FETCH);
        by_id && self.statement.is_empty()
    }

    /// Why there is nothing to say about what it ran; empty when there is.
    pub fn why(&self) -> &'static str {
        match (self.lacks_prepare(), self.is_joined) {
            (true, true) if self.is_behind_hole => "prepared before the capture, or in what was lost",
            (true, true) => "prepared before the capture",
            (true, false) => "its PREPARE was not seen",
            _ if self.is_unasked => "an error without a command",
            _ if self.lacks_command => "its command was not captured",
            _ if self.command == 0 => "only its header was captured",
            _ => "",
        }
    }

    /// The manual's name of the command.
    pub fn command_name(&self) -> &'static str {
        command_name(self.command).unwrap_or("COM_UNKNOWN")
    }

    /// The transaction was open when the command ended.
    pub fn in_transaction(&self) -> bool {
        self.status_flags & SERVER_STATUS_IN_TRANS != 0
    }

    /// The server counted it as slow (its `long_query_time`).
    pub fn was_slow(&self) -> bool {
        self.status_flags & SERVER_QUERY_WAS_SLOW != 0
    }

    /// Forgets everything, keeps (small) buffers.
    pub(super) fn reset(&mut self) {
        for text in [&mut self.statement, &mut self.sqlstate, &mut self.error_message] {
            text.clear();
            text.shrink_to(KEPT_CAPACITY);
        }
        self.command = 0;
        self.is_unasked = false;
        self.lacks_command = false;
        self.statement_cut = false;
        self.statement_id = None;
        self.inferred = false;
        self.is_joined = false;
        self.is_behind_hole = false;
        self.clear_response();
    }
}

impl Message for MysqlMessage {
    fn clear_response(&mut self) {
        self.status = Status::NoResponse;
        self.error_code = 0;
        self.sqlstate.clear();
        self.error_message.clear();
        self.rows = None;
        self.affected_rows = None;
        self.last_insert_id = None;
        self.warnings = None;
        self.no_index_used = false;
        self.status_flags = 0;
    }

    fn is_error(&self) -> bool {
        self.status == Status::Error
    }

    fn protocol(&self) -> usize {
        Mysql::PLACE
    }

    fn asked(&self, limit: usize) -> String {
        let text = match self.statement.as_str() {
            "" => command_name(self.command).unwrap_or("unknown"),
            statement => prefix(statement, limit),
        };
        text.to_owned()
    }

    fn answered(&self) -> String {
        self.status.name().to_owned()
    }

    fn line(&self, incomplete: Option<Incomplete>, limit: usize) -> String {
        let status = match self.status {
            Status::Ok => "ok".to_owned(),
            Status::Error => format!("error {} {}", self.error_code, shortened(&self.error_message, limit)),
            Status::NoResponse if incomplete == Some(Incomplete::NoResponse) => "no response".to_owned(),
            Status::NoResponse => String::new(),
        };
        let rows = self.rows.map(|rows| format!(" {rows} rows")).unwrap_or_default();
        let statement = shortened(&self.statement, limit);
        format!("{} {statement} {status}{rows}", self.command_name())
    }

    fn lacks_earlier(&self) -> bool {
        self.lacks_prepare()
    }

    fn earlier_may_be_lost(&mut self) {
        self.is_behind_hole = true;
    }
}

/// A recycled text buffer may keep this many bytes.
const KEPT_CAPACITY: usize = 4096;

/// What MariaDB's clients send instead of a statement id: the statement that was prepared last, whose id they do not know
/// yet.
pub const LAST_PREPARED: u32 = u32::MAX;

pub const SERVER_STATUS_IN_TRANS: u16 = 0x0001;
pub const SERVER_MORE_RESULTS_EXISTS: u16 = 0x0008;
pub const SERVER_STATUS_NO_GOOD_INDEX_USED: u16 = 0x0010;
pub const SERVER_STATUS_NO_INDEX_USED: u16 = 0x0020;
pub const SERVER_STATUS_CURSOR_EXISTS: u16 = 0x0040;
pub const SERVER_QUERY_WAS_SLOW: u16 = 0x0800;
pub const SERVER_SESSION_STATE_CHANGED: u16 = 0x4000;

pub const COM_QUIT: u8 = 0x01;
pub const COM_INIT_DB: u8 = 0x02;
pub const COM_QUERY: u8 = 0x03;
pub const COM_FIELD_LIST: u8 = 0x04;
pub const COM_CREATE_DB: u8 = 0x05;
pub const COM_DROP_DB: u8 = 0x06;
pub const COM_REFRESH: u8 = 0x07;
pub const COM_SHUTDOWN: u8 = 0x08;
pub const COM_STATISTICS: u8 = 0x09;
pub const COM_PROCESS_INFO: u8 = 0x0a;
pub const COM_CONNECT: u8 = 0x0b;
pub const COM_PROCESS_KILL: u8 = 0x0c;
pub const COM_DEBUG: u8 = 0x0d;
pub const COM_PING: u8 = 0x0e;
pub const COM_CHANGE_USER: u8 = 0x11;
pub const COM_BINLOG_DUMP: u8 = 0x12;
pub const COM_TABLE_DUMP: u8 = 0x13;
pub const COM_REGISTER_SLAVE: u8 = 0x15;
pub const COM_STMT_PREPARE: u8 = 0x16;
pub const COM_STMT_EXECUTE: u8 = 0x17;
pub const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
pub const COM_STMT_CLOSE: u8 = 0x19;
pub const COM_STMT_RESET: u8 = 0x1a;
pub const COM_SET_OPTION: u8 = 0x1b;
pub const COM_STMT_FETCH: u8 = 0x1c;
pub const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
pub const COM_RESET_CONNECTION: u8 = 0x1f;
pub const COM_CLONE: u8 = 0x20;
/// MariaDB.
pub const COM_STMT_BULK_EXECUTE: u8 = 0xfa;

/// The manual's name of a command byte; nothing for one that it does not name.
pub fn command_name(command: u8) -> Option<&'static str> {
    Some(match command {
        COM_QUIT => "COM_QUIT",
        COM_INIT_DB => "COM_INIT_DB",
        COM_QUERY => "COM_QUERY",
        COM_FIELD_LIST => "COM_FIELD_LIST",
        COM_CREATE_DB => "COM_CREATE_DB",
        COM_DROP_DB => "COM_DROP_DB",
        COM_REFRESH => "COM_REFRESH",
        COM_SHUTDOWN => "COM_SHUTDOWN",
        COM_STATISTICS => "COM_STATISTICS",
        COM_PROCESS_INFO => "COM_PROCESS_INFO",
        COM_CONNECT => "COM_CONNECT",
        COM_PROCESS_KILL => "COM_PROCESS_KILL",
        COM_DEBUG => "COM_DEBUG",
        COM_PING => "COM_PING",
        COM_CHANGE_USER => "COM_CHANGE_USER",
        COM_BINLOG_DUMP => "COM_BINLOG_DUMP",
        COM_TABLE_DUMP => "COM_TABLE_DUMP",
        COM_REGISTER_SLAVE => "COM_REGISTER_SLAVE",
        COM_STMT_PREPARE => "COM_STMT_PREPARE",
        COM_STMT_EXECUTE => "COM_STMT_EXECUTE",
        COM_STMT_SEND_LONG_DATA => "COM_STMT_SEND_LONG_DATA",
        COM_STMT_CLOSE => "COM_STMT_CLOSE",
        COM_STMT_RESET => "COM_STMT_RESET",
        COM_SET_OPTION => "COM_SET_OPTION",
        COM_STMT_FETCH => "COM_STMT_FETCH",
        COM_BINLOG_DUMP_GTID => "COM_BINLOG_DUMP_GTID",
        COM_RESET_CONNECTION => "COM_RESET_CONNECTION",
        COM_CLONE => "COM_CLONE",
        COM_STMT_BULK_EXECUTE => "COM_STMT_BULK_EXECUTE",
        _ => return None,
    })
}
