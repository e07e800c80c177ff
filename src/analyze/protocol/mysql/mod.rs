//! The MySQL and MariaDB client/server protocol: packets, messages, stitcher, fingerprints.

mod client;
mod columns;
mod command;
mod compress;
mod detect;
mod fast_path;
mod fingerprint;
mod frames;
mod handshake;
mod message;
mod packet;
mod probe;
mod response;
mod result;
mod server;
mod session;
mod shape;
mod stitch;

pub use detect::is_joined;
pub use fingerprint::{Begun, begin as begin_fingerprint, digest, fingerprint, finish as finish_fingerprint};
pub use handshake::{is_greeting, looks_like_greeting, looks_like_login};
pub use message::{MysqlMessage, Status, command_name};
pub use shape::{Shape, literal};
pub use stitch::{MysqlStitcher, STATEMENT_LIMIT};

use super::conversation::{Conversation, Stitched};
use super::{Detected, Protocol, Sent};
use crate::analyze::exchange;

type Exchange = exchange::Exchange<MysqlMessage>;
type Queue = exchange::Queue<MysqlMessage>;

/// The MySQL and MariaDB client/server protocol.
#[derive(Debug)]
pub struct Mysql;

impl Protocol for Mysql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn of_client(&self, sent: Sent<'_>, joined: bool) -> Detected {
        detect::of_client(sent, joined)
    }

    fn of_server(&self, sent: Sent<'_>, joined: bool) -> Detected {
        detect::of_server(sent, joined)
    }

    fn of_both(&self, client: Sent<'_>, server: Sent<'_>) -> Detected {
        detect::of_both(client, server)
    }

    fn conversation(&self, joined: bool) -> Box<dyn Conversation> {
        Box::new(Stitched::<MysqlStitcher>::new(&Mysql, joined))
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
