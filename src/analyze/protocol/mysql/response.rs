//! The packets of a response: its first one, definitions, rows, its end.

use super::command::{self, Answer};
use super::handshake::*;
use super::message::*;
use super::packet::{MAX_PAYLOAD, Packet, push_text};
use super::pair::{After, MysqlPairing, ServerState, Step};
use super::result::{self, Okay};
use super::server::{KEEP_SERVER, set_failure};
use super::session::{Prepared, share, used_database};
use super::{Exchange, Queue};
use crate::analyze::exchange::Incomplete;
use crate::analyze::protocol::{Missing, turns};

/// The status flags of an OK or EOF packet lie within so many bytes.
const STATUS_WITHIN: usize = 1 + 9 + 9 + 2;

impl MysqlPairing {
    pub(super) fn server_packet(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        if !self.follows(packet) {
            return Step::Lose(Some(Incomplete::Malformed));
        }
        if self.server == ServerState::First && self.pending == 0 && self.lacks_client() {
            match self.begin_orphan(packet, queue) {
                Some(Step::Go) => {}
                Some(step) => return step,
                None => return Step::Go,
            }
        }
        self.packet_of_response(packet, queue)
    }

    /// What the packet means where the server's direction stands.
    fn packet_of_response(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let payload = &packet.payload[..packet.payload.len().min(KEEP_SERVER)];
        let first = payload.first().copied();
        if first.is_none() && packet.len > 0 && !matches!(self.server, ServerState::Definitions { .. }) {
            // What it is, is in the hole.
            return Step::Lose(if packet.hole == Some(Missing::Lost) {
                Some(Incomplete::Gap)
            } else {
                None
            });
        }
        let first = first.unwrap_or(0);
        if packet.hole == Some(Missing::Lost)
            && self.pending > 0
            && let Some(exchange) = queue.awaiting()
        {
            exchange.mark(Incomplete::Gap);
        }
        let may_end = matches!(
            self.server,
            ServerState::First | ServerState::Rows | ServerState::FieldList
        );
        if may_end
            && matches!(first, 0x00 | 0xfe)
            && payload.len() < STATUS_WITHIN
            && !packet.is_whole()
            && self.pending > 0
        {
            // Whether another result follows is in the hole.
            return Step::Lose((packet.hole == Some(Missing::Lost)).then_some(Incomplete::Gap));
        }
        match self.server {
            ServerState::Start => self.greeted(packet, payload, queue),
            ServerState::Login => self.login_packet(packet, payload, first, queue),
            ServerState::First => self.first(packet, payload, first, queue),
            ServerState::Definitions { left, then } => {
                if first == 0xff {
                    return self.failed(packet, payload, queue);
                }
                if left > 1 {
                    self.server = ServerState::Definitions { left: left - 1, then };
                    return Step::Go;
                }
                self.defined(then, packet.end, queue)
            }
            ServerState::DefinitionsEnd { then } => {
                if first == 0xfe && packet.len < 6 {
                    self.session.deprecate_eof.get_or_insert(false);
                    let ok = result::eof(payload);
                    if then == After::Rows && ok.status & SERVER_STATUS_CURSOR_EXISTS != 0 {
                        return self.result_ended(&ok, packet.end, queue);
                    }
                    return self.advance(then, packet.end, queue);
                }
                // No EOF: what follows the definitions is here already.
                if self.session.capabilities.is_none() {
                    self.session.deprecate_eof = Some(true);
                }
                let step = self.advance(then, packet.end, queue);
                if step != Step::Go {
                    step
                } else {
                    self.packet_of_response(packet, queue)
                }
            }
            ServerState::Rows => {
                if first == 0xff {
                    return self.failed(packet, payload, queue);
                }
                if self.is_end(packet, first) {
                    let ok = self.end_packet(packet, payload);
                    return self.result_ended(&ok, packet.end, queue);
                }
                self.rows += 1;
                Step::Go
            }
            ServerState::FieldList => {
                if first == 0xff {
                    return self.failed(packet, payload, queue);
                }
                if self.is_end(packet, first) {
                    let ok = self.end_packet(packet, payload);
                    return self.result_ended(&ok, packet.end, queue);
                }
                Step::Go
            }
            ServerState::Lost => Step::Go,
        }
    }

    /// 0xfe ends rows when the packet is too short to be a row that begins with an 8-byte length.
    fn is_end(&self, packet: &Packet<'_>, first: u8) -> bool {
        let limit = if self.session.deprecate_eof == Some(false) {
            9
        } else {
            MAX_PAYLOAD as u64
        };
        first == 0xfe && packet.len < limit
    }

    /// EOF, or the OK that stands for it.
    fn end_packet<'a>(&mut self, packet: &Packet<'_>, payload: &'a [u8]) -> Okay<'a> {
        self.session.deprecate_eof.get_or_insert(packet.len >= 6);
        result::end(packet.len, payload)
    }

    /// The first packet of a response, or of a further result.
    pub(super) fn first(&mut self, packet: &Packet<'_>, payload: &[u8], first: u8, queue: &mut Queue) -> Step {
        if !self.open && packet.is_whole() && self.is_late_eof(packet.seq, payload) {
            self.late_eof(packet.end, queue);
            return Step::Go;
        }
        let is_overtaken = queue.is_overtaken;
        let Some(exchange) = queue.awaiting() else {
            self.pending = 0;
            return Step::Lose(None);
        };
        if !self.open {
            self.open = true;
            self.rows = 0;
            self.rows_known = true;
            self.eof_may_follow = false;
            // A hole that is known only now may have lain between the two.
            let is_pipelined = self.doubt.is_none() && self.pending > 1 && packet.hole.is_none() && !is_overtaken;
            if is_pipelined {
                self.doubt = self.turns.pipelines();
            }
            if let Some(doubt) = self.doubt.filter(|_| self.turns.is_pipelined) {
                exchange.mark(doubt);
            }
            if self.pending == 1 {
                self.turns.answer = turns::Answer::No;
            }
            exchange.response.start = packet.start;
            exchange.response.end = packet.end;
            exchange.response.begun = true;
        }
        let message = &mut exchange.message;
        if let Some(id) = message.statement_id
            && message.has_sql()
        {
            resolve_late(message, id, &self.session.prepared);
        }
        if first == 0xff {
            return self.failed(packet, payload, queue);
        }
        let answer = match self.orphan {
            Some(orphan) => orphan.answer,
            None => command::answer(message.command).unwrap_or(Answer::Results),
        };
        match answer {
            Answer::Text => {
                message.status = Status::Ok;
                self.finish(packet.end, queue)
            }
            Answer::Prepared => {
                let Some(prepared) = result::prepared(payload).filter(|_| first == 0) else {
                    return Step::Lose(Some(Incomplete::Malformed));
                };
                message.status = Status::Ok;
                message.statement_id = Some(prepared.id);
                message.warnings = Some(prepared.warnings);
                let known = &mut self.session.prepared;
                match exchange.incomplete {
                    _ if message.lacks_command => {}
                    _ if exchange.unsure => self.unsure_prepared = Some(prepared.id),
                    // A part of its text is lost: rather none than half of it.
                    Some(Incomplete::Gap) => known.remove(prepared.id),
                    _ => known.insert(prepared.id, &message.statement, message.statement_cut),
                }
                let optional = self
                    .session
                    .capabilities
                    .is_some_and(|c| c & CLIENT_OPTIONAL_RESULTSET_METADATA != 0);
                if optional && !prepared.metadata {
                    return self.finish(packet.end, queue);
                }
                let then = if prepared.parameters > 0 {
                    After::Columns(prepared.columns)
                } else {
                    After::End
                };
                let left = if prepared.parameters > 0 {
                    prepared.parameters
                } else {
                    prepared.columns
                };
                if left == 0 {
                    return self.finish(packet.end, queue);
                }
                self.server = ServerState::Definitions {
                    left: left.into(),
                    then,
                };
                Step::Go
            }
            Answer::Rows => {
                message.status = Status::Ok;
                self.server = ServerState::Rows;
                self.packet_of_response(packet, queue)
            }
            Answer::Fields => {
                message.status = Status::Ok;
                self.server = ServerState::FieldList;
                self.packet_of_response(packet, queue)
            }
            Answer::Login => {
                if first == 0x00 {
                    message.status = Status::Ok;
                    self.session.enter();
                    self.session.prepared.clear();
                    share(&mut message.user, &self.session.user);
                    share(&mut message.database, &self.session.database);
                    return self.finish(packet.end, queue);
                }
                Step::Go
            }
            Answer::Results | Answer::Nothing | Answer::Endless(_) => {
                message.status = Status::Ok;
                match first {
                    0x00 => {
                        let ok = result::okay(payload);
                        add_ok(message, &ok);
                        let command = message.command;
                        match command {
                            COM_INIT_DB => self.session.set_database(&message.statement),
                            COM_RESET_CONNECTION => self.session.prepared.clear(),
                            COM_QUERY => {
                                if let Some(name) = used_database(&message.statement) {
                                    self.session.set_database(name);
                                }
                            }
                            _ => {}
                        }
                        self.track_schema(&ok);
                        self.result_ended(&ok, packet.end, queue)
                    }
                    0xfe => {
                        let ok = result::end(packet.len, payload);
                        self.result_ended(&ok, packet.end, queue)
                    }
                    0xfb => {
                        // The client may have sent its file already, as far as we were told.
                        if let Some(orphan) = &mut self.orphan {
                            orphan.is_dialogue = true;
                        }
                        self.infile = !(self.last_client_empty && self.last_client_seq != 0);
                        // A request for the file says nothing about how the command ends.
                        message.status = Status::NoResponse;
                        Step::Go
                    }
                    _ => match result::columns(payload) {
                        Some((left, true)) => {
                            self.server = ServerState::Definitions {
                                left,
                                then: After::Rows,
                            };
                            Step::Go
                        }
                        Some((_, false)) => self.defined(After::Rows, packet.end, queue),
                        None => Step::Lose(Some(Incomplete::Malformed)),
                    },
                }
            }
        }
    }

    /// All definitions of one kind are there.
    fn defined(&mut self, then: After, end: u64, queue: &mut Queue) -> Step {
        match (self.session.deprecate_eof, then) {
            (Some(true), _) => self.advance(then, end, queue),
            // Whether an EOF follows is unknown, and nothing else does.
            (None, After::End | After::Columns(0)) => {
                self.eof_may_follow = true;
                if let Some(exchange) = queue.awaiting() {
                    exchange.end_unsure = true;
                }
                self.finish(end, queue)
            }
            _ => {
                self.server = ServerState::DefinitionsEnd { then };
                Step::Go
            }
        }
    }

    /// Whether this is the EOF of the response that ended last, as far as was known.
    pub(super) fn is_late_eof(&self, seq: u8, payload: &[u8]) -> bool {
        self.eof_may_follow && seq > 2 && payload.first() == Some(&0xfe) && payload.len() < 6
    }

    /// The EOF of the response that ended last, up to here.
    pub(super) fn late_eof(&mut self, end: u64, queue: &mut Queue) {
        if let Some(exchange) = unsure_prepare(queue) {
            exchange.response.end = exchange.response.end.max(end);
            exchange.end_unsure = false;
        }
        self.eof_may_follow = false;
        self.session.deprecate_eof.get_or_insert(false);
    }

    /// A piece ends in the middle of what may be that EOF: whether it is one is known too late.
    pub(super) fn late_eof_is_cut(&mut self, queue: &mut Queue) {
        if let Some(exchange) = unsure_prepare(queue).filter(|_| self.eof_may_follow) {
            exchange.mark(Incomplete::Truncated);
        }
    }

    fn advance(&mut self, then: After, end: u64, queue: &mut Queue) -> Step {
        match then {
            After::Rows => self.server = ServerState::Rows,
            After::End | After::Columns(0) => return self.finish(end, queue),
            After::Columns(n) => {
                self.server = ServerState::Definitions {
                    left: n.into(),
                    then: After::End,
                }
            }
        }
        Step::Go
    }

    fn failed(&mut self, packet: &Packet<'_>, payload: &[u8], queue: &mut Queue) -> Step {
        if packet.len >= 3 && result::failure(payload).code == result::PROGRESS {
            return Step::Go;
        }
        if let Some(exchange) = queue.awaiting() {
            let message = &mut exchange.message;
            set_failure(message, payload);
            if message.command == COM_STMT_PREPARE {
                // An EXECUTE of the last statement, sent along with this, executes nothing.
                self.session.prepared.last_id = None;
            }
        }
        self.finish(packet.end, queue)
    }

    /// One result is over; another may follow.
    fn result_ended(&mut self, ok: &Okay<'_>, end: u64, queue: &mut Queue) -> Step {
        if let Some(exchange) = queue.awaiting() {
            add_end(&mut exchange.message, ok);
        }
        if ok.status & SERVER_MORE_RESULTS_EXISTS != 0 {
            self.server = ServerState::First;
            return Step::Go;
        }
        let is_orphan = self.orphan.is_some();
        let step = self.finish(end, queue);
        match is_orphan && ok.status & SERVER_STATUS_CURSOR_EXISTS != 0 {
            // Rows without a head may come next (COM_STMT_FETCH), and look like anything.
            true => Step::Lose(None),
            false => step,
        }
    }

    fn finish(&mut self, end: u64, queue: &mut Queue) -> Step {
        if let Some(exchange) = queue.awaiting() {
            exchange.response.end = end;
            exchange.response.ended = true;
            let message = &mut exchange.message;
            message.rows = self.rows_known.then_some(self.rows);
            // A hole before it may be known only now.
            message.inferred |= self.session.is_in_doubt;
            share(&mut message.server_version, &self.session.version);
            queue.answer_ended();
        }
        self.pending = self.pending.saturating_sub(1);
        self.orphan = None;
        self.open = false;
        self.rows = 0;
        self.server = ServerState::First;
        Step::Go
    }

    pub(super) fn track_schema(&mut self, ok: &Okay<'_>) {
        if ok.status & SERVER_SESSION_STATE_CHANGED == 0
            || self.session.capabilities.is_some_and(|c| c & CLIENT_SESSION_TRACK == 0)
        {
            return;
        }
        if let Some(schema) = result::tracked_schema(ok) {
            let mut name = String::new();
            push_text(&mut name, schema);
            self.session.set_database(&name);
        }
    }
}

pub(super) fn add_end(message: &mut MysqlMessage, ok: &Okay<'_>) {
    message.warnings = Some(ok.warnings);
    message.status_flags |= ok.status;
    message.no_index_used |= ok.status & (SERVER_STATUS_NO_INDEX_USED | SERVER_STATUS_NO_GOOD_INDEX_USED) != 0;
}

pub(super) fn add_ok(message: &mut MysqlMessage, ok: &Okay<'_>) {
    message.affected_rows = Some(message.affected_rows.unwrap_or(0).saturating_add(ok.affected_rows));
    if ok.last_insert_id != 0 {
        message.last_insert_id = Some(ok.last_insert_id);
    }
}

/// The prepared statement whose answer may go on with an EOF.
fn unsure_prepare(queue: &mut Queue) -> Option<&mut Exchange> {
    let is_unsure = |exchange: &&mut Exchange| exchange.end_unsure && exchange.message.command == COM_STMT_PREPARE;
    queue.iter_mut().rev().find(is_unsure)
}

/// The text of an EXECUTE that was read before its PREPARE was answered.
fn resolve_late(message: &mut MysqlMessage, id: u32, prepared: &Prepared) {
    if id == LAST_PREPARED {
        message.statement_id = prepared.last_id.or(Some(id));
    } else if message.statement.is_empty() && message.command != COM_STMT_PREPARE {
        prepared.resolve(id, message);
    }
}
