//! A command, or its response, that is whole, on a connection where nothing else is under way: what the
//! two state machines would make of it at once. What changes the session is left to them.

use super::Exchange;
use super::client::{KEEP_CLIENT, execute, query};
use super::message::*;
use super::packet::{Packet, whole};
use super::pair::{ClientState, MysqlPairing, ServerState};
use super::response::{add_end, add_ok};
use super::result::{self, Okay};
use super::server::{KEEP_SERVER, set_failure};
use super::session::{share, used_database};
use crate::analyze::exchange::Span;
use crate::analyze::protocol::WholeMessages;

/// How a response ends.
enum End<'a> {
    /// Without rows.
    Okay(Okay<'a>),
    /// After so many rows.
    Rows(u64, Okay<'a>),
    Failure(&'a [u8]),
}

impl WholeMessages for MysqlPairing {
    /// How results end is known, too.
    fn is_at_rest(&self) -> bool {
        self.left.is_none()
            && self.outer.iter().all(Option::is_none)
            && self.client == ClientState::Commands
            && self.client_framer.at_boundary()
            && !self.client_probe.has_begun()
            && self.begun.is_none()
            && self.server == ServerState::First
            && self.server_framer.at_boundary()
            && !self.server_probe.has_begun()
            && self.held.is_empty()
            && self.pending == 0
            && !(self.infile || self.doubt.is_some() || self.unread.is_some() || self.open || self.eof_may_follow)
            && self.session.deprecate_eof.is_some()
    }

    /// Reads a COM_QUERY or COM_STMT_EXECUTE.
    fn whole_request(&mut self, pos: u64, bytes: &[u8], exchange: &mut Exchange) -> bool {
        let Some((0, payload, [])) = whole(bytes) else {
            return false;
        };
        if payload.len() > KEEP_CLIENT {
            return false;
        }
        exchange.reset();
        exchange.request = Span::whole(pos, bytes.len() as u64);
        let message = &mut exchange.message;
        match payload.split_first() {
            Some((&COM_QUERY, _)) => {
                let packet = Packet {
                    seq: 0,
                    last_seq: 0,
                    len: payload.len() as u64,
                    payload,
                    hole: None,
                    start: exchange.request.start,
                    end: exchange.request.end,
                };
                self.session.begin(COM_QUERY, message);
                query(&self.session, message, payload, &packet);
            }
            Some((&COM_STMT_EXECUTE, args)) => {
                self.session.begin(COM_STMT_EXECUTE, message);
                execute(&self.session, message, args);
                if message.statement.is_empty() || message.statement_id == Some(LAST_PREPARED) {
                    return false;
                }
            }
            _ => return false,
        }
        (self.last_client_seq, self.last_client_empty, self.command_seq) = (0, false, 0);
        true
    }

    /// Reads a response of one result.
    fn whole_response(&mut self, pos: u64, len: u64, bytes: &[u8], exchange: &mut Exchange) -> bool {
        let message = &mut exchange.message;
        if bytes.len() as u64 != len {
            return false;
        }
        let changes = |ok: &Okay<'_>| ok.status & SERVER_SESSION_STATE_CHANGED != 0;
        let rows = match end(bytes, self.session.deprecate_eof == Some(true)) {
            Some(End::Okay(ok)) if !changes(&ok) && used_database(&message.statement).is_none() => {
                message.status = Status::Ok;
                add_ok(message, &ok);
                add_end(message, &ok);
                0
            }
            Some(End::Rows(rows, ok)) => {
                message.status = Status::Ok;
                add_end(message, &ok);
                rows
            }
            Some(End::Failure(payload)) => {
                set_failure(message, payload);
                0
            }
            Some(End::Okay(_)) | None => return false,
        };
        message.rows = Some(rows);
        share(&mut message.server_version, &self.session.version);
        exchange.response = Span::whole(pos, len);
        true
    }
}

/// How a response ends that lies here whole: OK, an error, or one result set. Nothing for all others.
fn end(bytes: &[u8], deprecate_eof: bool) -> Option<End<'_>> {
    let is_last = |ok: &Okay<'_>| ok.status & SERVER_MORE_RESULTS_EXISTS == 0;
    let (_, head, mut rest) = whole(bytes)?;
    let kept = &head[..head.len().min(KEEP_SERVER)];
    match kept.first()? {
        0x00 => {
            return rest
                .is_empty()
                .then(|| result::okay(kept))
                .filter(is_last)
                .map(End::Okay);
        }
        0xff => {
            let is_end = rest.is_empty() && result::failure(kept).code != result::PROGRESS;
            return is_end.then_some(End::Failure(kept));
        }
        0xfb | 0xfe => return None,
        _ => {}
    }
    let (columns, true) = result::columns(head)? else {
        return None;
    };
    for _ in 0..columns {
        let (_, definition, after) = whole(rest)?;
        if definition.first() == Some(&0xff) {
            return None;
        }
        rest = after;
    }
    if !deprecate_eof {
        let (_, eof, after) = whole(rest)?;
        let is_eof = eof.first() == Some(&0xfe) && eof.len() < 6;
        if !is_eof || result::eof(eof).status & SERVER_STATUS_CURSOR_EXISTS != 0 {
            return None;
        }
        rest = after;
    }
    let mut rows = 0;
    loop {
        let (_, row, after) = whole(rest)?;
        match row.first() {
            Some(0xff) => return None,
            Some(0xfe) if deprecate_eof || row.len() < 9 => {
                let ok = result::end(row.len() as u64, &row[..row.len().min(KEEP_SERVER)]);
                return (after.is_empty() && is_last(&ok)).then_some(End::Rows(rows, ok));
            }
            _ => rows += 1,
        }
        rest = after;
    }
}
