//! The MySQL and MariaDB client/server protocol: packets, messages, stitcher, fingerprints.

use std::sync::Arc;

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

/// A command and what its response says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MysqlMessage {
    /// The command byte (`COM_QUERY` = 3, …).
    pub command: u8,
    /// SQL text, of the prepared statement for `COM_STMT_EXECUTE`; invalid UTF-8 replaced.
    pub statement: String,
    /// The statement is only a prefix.
    pub statement_cut: bool,
    /// For prepared statements: the server's statement id.
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
    pub affected_rows: Option<u64>,
    pub last_insert_id: Option<u64>,
    pub warnings: Option<u16>,
    /// SERVER_STATUS_NO_INDEX_USED or SERVER_STATUS_NO_GOOD_INDEX_USED was set.
    pub no_index_used: bool,
    /// Something about the session was inferred from the traffic, not seen (joined in the middle).
    pub inferred: bool,
}
#[derive(Debug)]
pub struct MysqlStitcher;
pub fn command_name(_c: u8) -> &'static str {
    ""
}
impl MysqlStitcher {
    pub fn new(_joined: bool) -> Self {
        MysqlStitcher
    }
}
use crate::analyze::{
    exchange::{Queue, Side},
    protocol::{Missing, Stitcher, Verdict},
};
impl Stitcher for MysqlStitcher {
    fn bytes(&mut self, _f: Side, _p: u64, _b: &[u8], _q: &mut Queue) -> Verdict {
        Verdict::Continue
    }
    fn missing(&mut self, _f: Side, _p: u64, _l: u64, _w: Missing, _q: &mut Queue) -> Verdict {
        Verdict::Continue
    }
    fn settle(&mut self, _q: &mut Queue) -> Verdict {
        Verdict::Continue
    }
    fn end(&mut self, _f: Side, _p: u64, _q: &mut Queue) {}
}
