//! What is known of a session: capabilities, user, database, prepared statements.

use std::collections::HashMap;
use std::sync::Arc;

use super::handshake::*;
use super::message::{LAST_PREPARED, MysqlMessage};

/// Prepared statements remembered per connection (the server's own default limit), and bytes of their texts.
const PREPARED_LIMIT: usize = 16_382;
const PREPARED_BYTES_LIMIT: usize = 8 * 1024 * 1024;

/// The texts of a session's prepared statements.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    texts: HashMap<u32, (Arc<str>, bool)>,
    pub(super) bytes: usize,
    /// The newest one, for statement id -1, which a client may use before it knows the id.
    pub(super) last_text: String,
    pub(super) last_cut: bool,
    pub(super) last_id: Option<u32>,
}

impl Prepared {
    pub(super) fn insert(&mut self, id: u32, text: &str, cut: bool) {
        self.remove(id);
        if self.texts.len() < PREPARED_LIMIT && self.bytes + text.len() <= PREPARED_BYTES_LIMIT {
            self.bytes += text.len();
            self.texts.insert(id, (text.into(), cut));
        }
        self.last_id = Some(id);
    }

    pub(super) fn remove(&mut self, id: u32) {
        if let Some((text, _)) = self.texts.remove(&id) {
            self.bytes -= text.len();
        }
    }

    /// Fills in the statement's text; false when its prepare was not seen.
    pub(super) fn resolve(&self, id: u32, message: &mut MysqlMessage) -> bool {
        message.statement.clear();
        if id == LAST_PREPARED {
            message.statement.push_str(&self.last_text);
            message.statement_cut = self.last_cut;
            return !self.last_text.is_empty();
        }
        let Some((text, cut)) = self.texts.get(&id) else {
            return false;
        };
        message.statement.push_str(text);
        message.statement_cut = *cut;
        true
    }

    /// Another statement may have been prepared since the newest one that was seen.
    pub(super) fn forget_last(&mut self) {
        self.last_text.clear();
        self.last_cut = false;
        self.last_id = None;
    }

    pub(super) fn clear(&mut self) {
        *self = Prepared::default();
    }
}

/// What is known of the session.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) server_capabilities: Option<u64>,
    pub(super) client_capabilities: Option<u64>,
    /// Both; known once the client's are.
    pub(super) capabilities: Option<u64>,
    /// CLIENT_DEPRECATE_EOF: known, or learned from the traffic.
    pub(super) deprecate_eof: Option<bool>,
    pub(super) user: Arc<str>,
    pub(super) database: Arc<str>,
    pub(super) version: Arc<str>,
    /// User and database of the handshake response or of COM_CHANGE_USER, until the server agrees.
    pub(super) asked: Option<(String, String)>,
    pub(super) prepared: Prepared,
    /// A command that is lost, or whose answer is, may have changed the user or the database.
    pub(super) is_in_doubt: bool,
    /// Bytes of it were lost: a PREPARE, or the answer that tells its id, may be among them.
    pub(super) has_hole: bool,
}

impl Session {
    pub(super) fn agree(&mut self) {
        let Some(client) = self.client_capabilities else { return };
        let both = client & self.server_capabilities.unwrap_or(u64::MAX);
        self.capabilities = Some(both);
        self.deprecate_eof = self.agreed(CLIENT_DEPRECATE_EOF);
    }

    /// Whether both ends have agreed on a capability; `None` when that is not known. What the client does not ask for is
    /// not agreed on; what it asks for may be refused by a server that was not heard.
    pub(super) fn agreed(&self, capability: u64) -> Option<bool> {
        let agreed = self.capabilities? & capability != 0;
        (!agreed || self.server_capabilities.is_some()).then_some(agreed)
    }

    /// A command of this session begins.
    pub(super) fn begin(&self, command: u8, message: &mut MysqlMessage) {
        message.reset();
        message.command = command;
        message.is_joined = self.capabilities.is_none();
        message.is_behind_hole = self.has_hole;
        message.inferred = message.is_joined || self.is_in_doubt;
        share(&mut message.user, &self.user);
        share(&mut message.database, &self.database);
        share(&mut message.server_version, &self.version);
    }

    pub(super) fn compressed(&self) -> bool {
        self.capabilities
            .is_some_and(|c| c & (CLIENT_COMPRESS | CLIENT_ZSTD) != 0)
    }

    pub(super) fn set_database(&mut self, name: &str) {
        if *self.database != *name {
            self.database = name.into();
        }
    }

    pub(super) fn enter(&mut self) {
        if let Some((user, database)) = self.asked.take() {
            self.user = user.into();
            self.database = database.into();
            self.is_in_doubt = false;
        }
    }
}

/// The database of a `USE` statement.
pub(super) fn used_database(statement: &str) -> Option<&str> {
    let text = statement.trim_start();
    let (word, name) = text.split_at_checked(3)?;
    if !word.eq_ignore_ascii_case("use") || !name.starts_with(|c: char| c.is_ascii_whitespace() || c == '`') {
        return None;
    }
    let name = name.trim().trim_end_matches(';').trim_end().trim_matches('`');
    (!name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == ';')).then_some(name)
}

/// MariaDB says `5.5.5-10.11.6-MariaDB` where replicas of MySQL 5.5 must understand it; the prefix means nothing.
pub(super) fn plain_version(version: &str) -> &str {
    match version.strip_prefix("5.5.5-") {
        Some(rest) if rest.contains("MariaDB") => rest,
        _ => version,
    }
}

pub(super) fn share(into: &mut Arc<str>, from: &Arc<str>) {
    if !Arc::ptr_eq(into, from) {
        *into = Arc::clone(from);
    }
}
