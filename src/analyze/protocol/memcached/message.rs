//! What a command and its answer say. Plain data; who fills it is `pair`.

use super::Memcached;
use crate::analyze::exchange::{Incomplete, Message};
use crate::analyze::protocol::Registered;
use crate::human::shortened;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Any answer that is no error; `NOT_FOUND` and `NOT_STORED` are none.
    Ok,
    /// `ERROR`, `CLIENT_ERROR`: it cannot be understood.
    ClientError,
    /// `SERVER_ERROR`: it cannot be done.
    ServerError,
    /// No answer was seen, or none is ever sent.
    #[default]
    NoResponse,
}

impl Status {
    /// The word in the `status` column.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::ClientError => "client_error",
            Status::ServerError => "server_error",
            Status::NoResponse => "no_response",
        }
    }
}

/// A command and what its answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemcachedMessage {
    /// The first word, as sent.
    pub command: String,
    /// The first key.
    pub key: String,
    /// How many keys it names.
    pub keys: u64,
    /// It asks for no answer.
    pub noreply: bool,
    /// Bytes of data that it stores.
    pub value_bytes: Option<u64>,
    pub status: Status,
    /// The last line of the answer, as sent: `STORED`, `END`, a number, an error with its words.
    pub answer: String,
    /// Of the keys, how many the server had; where that is what the command asks.
    pub hits: Option<u64>,
    /// Bytes of data in the answer.
    pub found_bytes: u64,
    /// What is wrong with it; empty when nothing is.
    pub why: &'static str,
}

impl MemcachedMessage {
    /// Of the keys, how many the server did not have.
    pub fn misses(&self) -> Option<u64> {
        self.hits.map(|hits| self.keys.saturating_sub(hits))
    }

    /// Command and first key.
    fn words(&self, limit: usize) -> String {
        match self.key.as_str() {
            "" => self.command.clone(),
            key => format!("{} {}", self.command, shortened(key, limit)),
        }
    }

    /// Empties every field and keeps the buffers.
    pub(super) fn clear(&mut self) {
        self.command.clear();
        self.key.clear();
        self.keys = 0;
        self.noreply = false;
        self.value_bytes = None;
        self.why = "";
        self.clear_response();
    }
}

impl Message for MemcachedMessage {
    fn clear_response(&mut self) {
        self.status = Status::NoResponse;
        self.answer.clear();
        self.hits = None;
        self.found_bytes = 0;
    }

    fn is_error(&self) -> bool {
        self.status == Status::ServerError
    }

    fn protocol(&self) -> usize {
        Memcached::PLACE
    }

    fn asked(&self, limit: usize) -> String {
        self.words(limit)
    }

    fn answered(&self) -> String {
        self.status.name().to_owned()
    }

    fn line(&self, incomplete: Option<Incomplete>, limit: usize) -> String {
        let mut line = self.words(limit);
        if self.keys > 1 {
            line.push_str(&format!(" and {} more", self.keys - 1));
        }
        match self.status {
            Status::NoResponse if incomplete == Some(Incomplete::NoResponse) => line.push_str(" no response"),
            Status::NoResponse => {}
            _ => {
                line.push(' ');
                line.push_str(&shortened(&self.answer, limit));
            }
        }
        if let Some(hits) = self.hits.filter(|_| self.answer == "END") {
            line.push_str(&format!(" {hits} of {} found", self.keys));
        }
        line
    }
}

/// At most so many of these bytes.
pub(super) fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    &bytes[..bytes.len().min(limit)]
}
