//! The MySQL and MariaDB client/server protocol: packets, messages, pairing, fingerprints.

mod client;
mod columns;
mod command;
mod compress;
mod detect;
mod fast_path;
mod fingerprint;
mod fingerprints;
mod frames;
mod handshake;
mod message;
mod orphan;
mod packet;
mod pair;
mod probe;
mod response;
mod result;
mod server;
mod session;
mod statement_template;
pub mod summary;

pub use detect::is_joined;
pub use fingerprint::{Begun, begin as begin_fingerprint, digest, fingerprint, finish as finish_fingerprint};
pub use handshake::{is_greeting, looks_like_greeting, looks_like_login};
pub use message::{MysqlMessage, Status, command_name};
pub use pair::{MysqlPairing, STATEMENT_LIMIT};
pub use statement_template::{StatementTemplate, literal};

use super::{Detected, Protocol, Sent};
use crate::analyze::exchange;

type Exchange = exchange::Exchange<MysqlMessage>;
type Queue = exchange::Queue<MysqlMessage>;

/// The MySQL and MariaDB client/server protocol.
#[derive(Debug)]
pub struct Mysql;

impl Protocol for Mysql {
    type Message = MysqlMessage;
    type Pairing = MysqlPairing;
    type Summary = summary::ByDigest;

    const NAME: &'static str = "mysql";
    const ABOUT: &'static str = "One row for each MySQL or MariaDB command with its response.";
    const SLOWEST: (&'static str, &'static str) = ("Slowest MySQL commands", "statement");

    fn of_client(sent: Sent<'_>, joined: bool) -> Detected {
        detect::of_client(sent, joined)
    }

    fn of_server(sent: Sent<'_>, joined: bool) -> Detected {
        detect::of_server(sent, joined)
    }

    fn of_both(client: Sent<'_>, server: Sent<'_>, joined: bool) -> Detected {
        detect::of_both(client, server, joined)
    }
}

/// The command bytes.
pub mod com {
    pub use super::message::{
        COM_CHANGE_USER, COM_CONNECT, COM_FIELD_LIST, COM_INIT_DB, COM_PING, COM_QUERY, COM_QUIT, COM_RESET_CONNECTION,
        COM_STATISTICS, COM_STMT_BULK_EXECUTE, COM_STMT_CLOSE, COM_STMT_EXECUTE, COM_STMT_FETCH, COM_STMT_PREPARE,
        COM_STMT_RESET, COM_STMT_SEND_LONG_DATA,
    };
}
#[cfg(test)]
mod tests;
