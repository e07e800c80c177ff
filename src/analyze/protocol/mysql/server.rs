//! The server's half of the pairing: greeting and login, responses that come before their commands, and what a hole
//! touches. What a response says is read in `response`.

use super::frames::Outer;
use super::handshake;
use super::message::*;
use super::packet::{HEADER, MAX_PAYLOAD, Packet, Place, length, push_text, whole};
use super::pair::{ClientState, MysqlPairing, ServerState, Step};
use super::probe::Framed;
use super::result;
use super::session::plain_version;
use super::{Exchange, Queue};
use crate::analyze::exchange::{Incomplete, Side, Span};
use crate::analyze::protocol::Missing;
use crate::analyze::protocol::turns::Answer;

/// Bytes kept of a server's packet: an OK with session state, an ERR with its message.
pub(super) const KEEP_SERVER: usize = 4096;
/// Server bytes that may wait for their command.
const HELD_LIMIT: usize = 256 * 1024;

/// Server bytes that came before their command.
#[derive(Debug)]
pub(super) enum Held {
    Bytes(Place, usize),
    Hole(Place, u64, Missing),
}

impl MysqlPairing {
    pub(super) fn server_bytes(&mut self, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        match self.server {
            ServerState::Start if self.server_framer.at_boundary() => {
                if !self.server_probe.gather(&place, bytes, &mut used, Framed::No) {
                    return Step::Go;
                }
                let (probe, at) = self.server_probe.take();
                if !handshake::looks_like_greeting(&probe) {
                    self.lose_server(Some(Incomplete::StartedBefore), queue);
                    // The first response may be whole.
                    let step = self.lost_bytes(at, &probe, queue);
                    return if step == Step::Go {
                        self.server_bytes_from(place, bytes, used, queue)
                    } else {
                        step
                    };
                }
                let step = self.server_packets(&at, &probe, 0, queue);
                if step != Step::Go {
                    return step;
                }
            }
            ServerState::Lost => return self.lost_bytes(place, bytes, queue),
            _ => {}
        }
        self.server_packets(&place, bytes, used, queue)
    }

    fn server_bytes_from(&mut self, place: Place, bytes: &[u8], used: usize, queue: &mut Queue) -> Step {
        if used < bytes.len() {
            self.server_bytes(place.from(used), &bytes[used..], queue)
        } else {
            Step::Go
        }
    }

    /// The server's framing is lost: the answer to the newest command starts here, or this belongs to what is lost.
    fn lost_bytes(&mut self, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        if queue.is_overtaken {
            // The rest of an answer that is lost.
            return Step::Go;
        }
        if self.pending > 0 && self.turns.answer != Answer::No {
            if !self.server_probe.gather(&place, bytes, &mut used, Framed::No) {
                return Step::Go;
            }
            let (probe, at) = self.server_probe.take();
            if self.is_first_of_answer(&at, &probe) && self.may_answer_newest(queue) {
                self.server = ServerState::First;
                self.open = false;
                let step = self.server_packets(&at, &probe, 0, queue);
                if step != Step::Go {
                    return step;
                }
                return self.server_bytes_from(place, bytes, used, queue);
            }
            // It is answered in the hole, by a part of this at most.
            self.turns.answer = Answer::No;
            if let (Some(why), Some(exchange)) = (self.lost_why.or(self.doubt), queue.awaiting()) {
                exchange.mark(why);
            }
            self.extend(at.begin(0), at.end(probe.len()), queue);
        }
        self.extend(place.begin(used), place.end(bytes.len()), queue);
        Step::Go
    }

    /// Whether these bytes begin an answer: what they look like, and the sequence ids, which go on from those of the command.
    /// Packets that follow another packet of the client (a new login, a file) are behind the first one of the answer.
    fn is_first_of_answer(&self, at: &Place, bytes: &[u8]) -> bool {
        let frame = at.frame_seq();
        let is_first_frame = frame.is_none_or(|seq| seq == 1 || seq == self.command_frame.wrapping_add(1));
        // Some servers number the packets of a frame from that of the frame on.
        let before = [0, self.command_seq, frame.map_or(0, |seq| seq.wrapping_sub(1))];
        is_first_frame && before.iter().any(|seq| result::looks_like_response(bytes, *seq))
    }

    /// Whether a response that begins here, while the framing is lost, answers the newest command.
    fn may_answer_newest(&mut self, queue: &mut Queue) -> bool {
        if self.turns.answer == Answer::Due {
            self.doubt = self.doubt.filter(|_| self.turns.is_pipelined);
            return true;
        }
        // Behind a hole it is only believed of a command of which all is known, and after which nothing was sent.
        let is_last = self.client_framer.at_boundary() && !self.client_probe.has_begun();
        match queue.awaiting() {
            Some(exchange) if self.pending == 1 && is_last && exchange.incomplete.is_none() => {
                exchange.unsure = true;
                true
            }
            _ => false,
        }
    }

    /// The server sends something.
    pub(super) fn server_speaks(&mut self) {
        self.unread = None;
        self.turns.server();
        if self.client == ClientState::Lost {
            // What the client sent before was the end of something.
            self.client_probe.clear();
        }
    }

    fn server_packets(&mut self, place: &Place, bytes: &[u8], mut used: usize, queue: &mut Queue) -> Step {
        let mut framer = std::mem::take(&mut self.server_framer);
        let mut step = Step::Go;
        while step == Step::Go {
            if framer.at_boundary() {
                if self.server == ServerState::First && self.pending == 0 && !self.lacks_client() {
                    self.hold(place, bytes, used, queue);
                    break;
                }
                if self.server == ServerState::Rows && self.orphan.is_none() {
                    self.walk_rows(bytes, &mut used);
                }
            }
            let Some(packet) = framer.next(bytes, &mut used, place, KEEP_SERVER) else {
                break;
            };
            step = self.server_packet(&packet, queue);
        }
        if self.server == ServerState::First && !framer.at_boundary() {
            self.late_eof_is_cut(queue);
        }
        self.server_framer = framer;
        match step {
            Step::Go | Step::Leave(_) => step,
            Step::Lose(why) => {
                self.lose_server(why, queue);
                self.extend(place.begin(used), place.end(bytes.len()), queue);
                Step::Go
            }
            Step::Compress => {
                let mut outer = Box::new(Outer::default());
                let step = self.frames(&mut outer, Side::Server, place.begin(used), &bytes[used..], queue);
                self.outer[Side::Server as usize] = Some(outer);
                step
            }
        }
    }

    /// Steps over rows that lie in the piece whole; anything else is left to the framer.
    fn walk_rows(&mut self, bytes: &[u8], used: &mut usize) {
        let mut rows = 0;
        while let Some((header, body)) = bytes[*used..].split_first_chunk::<HEADER>() {
            let len = length(header);
            // 0xfe and 0xff may be an end; an empty or a full packet is a part of one.
            if len == 0 || len >= body.len().saturating_add(1) || len == MAX_PAYLOAD || body[0] >= 0xfe {
                break;
            }
            rows += 1;
            *used += HEADER + len;
        }
        self.rows += rows;
    }

    /// A response before its command: kept, bounded, until the command comes.
    fn hold(&mut self, place: &Place, bytes: &[u8], used: usize, queue: &mut Queue) {
        let rest = &bytes[used..];
        if rest.is_empty() {
            return;
        }
        if self.eof_may_follow && self.held.is_empty() {
            match whole(rest) {
                Some((seq, payload, after)) if self.is_late_eof(seq, payload) => {
                    let used = bytes.len() - after.len();
                    self.late_eof(place.end(used), queue);
                    return self.hold(place, bytes, used, queue);
                }
                None if rest.len() < HEADER + 5 => self.late_eof_is_cut(queue),
                _ => {}
            }
        }
        if self.held.is_empty() && self.unasked(&place.from(used), rest, false, queue) {
            return;
        }
        if self.doubt.is_some() {
            // There is an answer too many: what lies behind a hole was not the one that it was taken for.
            queue.refute_unsure(|_| true);
        }
        if self.doubt.is_some() || self.held_bytes.len() + rest.len() > HELD_LIMIT || self.held.len() >= HELD_LIMIT / 64
        {
            self.lose_server(None, queue);
            return;
        }
        self.held.push(Held::Bytes(place.from(used), rest.len()));
        self.held_bytes.extend_from_slice(rest);
        // Its header may have been read alone.
        if let [Held::Bytes(place, _), Held::Bytes(..)] = self.held[..] {
            let bytes = std::mem::take(&mut self.held_bytes);
            match self.unasked(&place, &bytes, false, queue) {
                true => self.held.clear(),
                false => self.held_bytes = bytes,
            }
        }
    }

    /// What was held is over: an error that no command was asked for is a row.
    pub(super) fn held_is_unasked(&mut self, queue: &mut Queue) -> bool {
        let Some(Held::Bytes(place, _)) = self.held.first() else {
            return false;
        };
        if self.held.iter().any(|held| matches!(held, Held::Hole(..))) {
            return false;
        }
        let (place, bytes) = (*place, std::mem::take(&mut self.held_bytes));
        let is_unasked = self.unasked(&place, &bytes, true, queue);
        match is_unasked {
            true => self.held.clear(),
            false => self.held_bytes = bytes,
        }
        is_unasked
    }

    /// An error while no command is under way: the server shuts down, or has waited too long. Each answer to a command has
    /// another sequence id than 0; where no command can come any more (`is_over`), any may do.
    fn unasked(&mut self, place: &Place, bytes: &[u8], is_over: bool, queue: &mut Queue) -> bool {
        let Some((seq, payload, [])) = whole(bytes) else {
            return false;
        };
        if self.pending > 0 || (seq != 0 && !is_over) || !result::is_error(payload) {
            return false;
        }
        let response = Span {
            start: place.begin(0),
            end: place.end(bytes.len()),
            begun: true,
            ended: true,
            ..Span::default()
        };
        self.push_error(None, response, payload, queue);
        true
    }

    /// A command has come: what was held for it is read.
    pub(super) fn release(&mut self, queue: &mut Queue) -> Step {
        if self.held.is_empty() {
            return Step::Go;
        }
        let (held, bytes) = (std::mem::take(&mut self.held), std::mem::take(&mut self.held_bytes));
        // It was told of first, and sent later.
        self.turns.server();
        let mut rest = bytes.as_slice();
        for item in held {
            let step = match item {
                Held::Bytes(place, len) => {
                    let (piece, after) = rest.split_at(len.min(rest.len()));
                    rest = after;
                    self.server_bytes(place, piece, queue)
                }
                Held::Hole(place, len, why) => self.inner_missing(Side::Server, place, len, why, queue),
            };
            if step != Step::Go {
                return step;
            }
        }
        Step::Go
    }

    pub(super) fn greeted(&mut self, packet: &Packet<'_>, payload: &[u8], queue: &mut Queue) -> Step {
        if payload.first() == Some(&0xff) {
            self.refused(packet, payload, queue);
            return Step::Lose(None);
        }
        self.server = ServerState::Login;
        // Half a name, or half of what is agreed on, is none.
        if let Some(greeting) = handshake::greeting(payload).filter(|_| packet.is_whole()) {
            self.session.version = plain_version(&greeting.version).into();
            self.session.server_capabilities = Some(greeting.capabilities);
            self.session.agree();
        }
        Step::Go
    }

    pub(super) fn login_packet(&mut self, packet: &Packet<'_>, payload: &[u8], first: u8, queue: &mut Queue) -> Step {
        match first {
            0x00 => {
                self.server = ServerState::First;
                self.track_schema(&result::okay(payload));
                if self.session.compressed() {
                    Step::Compress
                } else {
                    Step::Go
                }
            }
            0xff => {
                self.refused(packet, payload, queue);
                Step::Lose(None)
            }
            // AuthSwitchRequest, AuthMoreData, AuthNextFactor.
            _ => Step::Go,
        }
    }

    /// The server refuses the login: a row of its own, because it is an error that somebody looks for. Where the connection
    /// was joined in its middle, it is another error that nobody asked for.
    fn refused(&mut self, packet: &Packet<'_>, payload: &[u8], queue: &mut Queue) {
        if self.pending > 0 {
            return;
        }
        let is_joined = self.server == ServerState::Start && self.login.is_none() && self.doubt.is_some();
        let response = Span {
            start: packet.start,
            end: packet.end,
            begun: true,
            ended: true,
            ..Span::default()
        };
        self.push_error((!is_joined).then_some(COM_CONNECT), response, payload, queue);
    }

    /// Adds a row for an error that answers the login (`COM_CONNECT`), or no command at all.
    fn push_error(&mut self, command: Option<u8>, response: Span, payload: &[u8], queue: &mut Queue) {
        let mut message = MysqlMessage {
            command: command.unwrap_or_default(),
            is_unasked: command.is_none(),
            user: self.session.user.clone(),
            database: self.session.database.clone(),
            server_version: self.session.version.clone(),
            rows: Some(0),
            ..MysqlMessage::default()
        };
        set_failure(&mut message, payload);
        let mut exchange = Exchange {
            message,
            ..Exchange::default()
        };
        match self.login.filter(|_| command.is_some()) {
            Some(span) => exchange.request = span,
            None => exchange.mark(Incomplete::NoRequest),
        }
        exchange.response = response;
        queue.push(exchange);
        // One-way exchanges before it are passed over, then it is the one.
        if queue.awaiting().is_some() {
            queue.answer_ended();
        }
    }

    pub(super) fn lose_server(&mut self, why: Option<Incomplete>, queue: &mut Queue) {
        if self.server != ServerState::Lost {
            self.lost_why = None;
        }
        self.lost_why = self.lost_why.or(why);
        self.session.is_in_doubt |= why == Some(Incomplete::Gap);
        // The answer that tells it may be lost.
        self.session.prepared.last_id = None;
        if let Some(why) = why {
            self.doubt.get_or_insert(why);
        }
        // A part of the answer was there.
        let has_begun = self.open || !self.server_framer.at_boundary() || self.server_probe.has_begun();
        if has_begun && self.pending == 1 {
            self.turns.answer = Answer::No;
        }
        match why {
            Some(Incomplete::Gap) => self.turns.server_missing(queue.is_overtaken),
            // Nothing is missing since the client has spoken.
            Some(Incomplete::StartedBefore) => {}
            // It is there, and cannot be read.
            _ => self.turns.answer = Answer::No,
        }
        if self.turns.is_pipelined {
            // Which of them are answered in the hole cannot be said.
            let why = why.unwrap_or(Incomplete::Truncated);
            let untouched = usize::from(self.open);
            queue
                .waiting_mut()
                .skip(untouched)
                .for_each(|exchange| exchange.mark(why));
        } else {
            self.close_oldest(self.pending.saturating_sub(1), self.lost_why, queue);
        }
        if self.turns.answer == Answer::No
            && let (Some(why), Some(exchange)) = (why, queue.awaiting())
        {
            exchange.mark(why);
        }
        self.lose_framing();
    }

    /// Where the next packet of the server begins is not known any more.
    pub(super) fn lose_framing(&mut self) {
        if matches!(self.server, ServerState::Start | ServerState::Login) && self.session.compressed() {
            self.compress(Side::Server, true);
        }
        self.server = ServerState::Lost;
        self.server_framer.reset();
        self.server_probe.clear();
        self.held.clear();
        self.held_bytes.clear();
        self.rows_known = false;
        self.eof_may_follow = false;
    }

    /// Bytes, seen or not, that belong to the oldest waiting response.
    pub(super) fn extend(&mut self, start: u64, end: u64, queue: &mut Queue) {
        if self.server != ServerState::Lost || self.pending == 0 || start >= end {
            return;
        }
        if let Some(exchange) = queue.awaiting() {
            let response = &mut exchange.response;
            if !response.begun && response.end == 0 {
                response.start = start;
                response.begun = self.lost_why.is_none();
            }
            response.end = response.end.max(end);
        }
    }

    /// Ends the responses to the oldest so many commands.
    pub(super) fn close_oldest(&mut self, count: usize, why: Option<Incomplete>, queue: &mut Queue) {
        for _ in 0..count.min(self.pending) {
            let Some(exchange) = queue.awaiting() else { break };
            close(exchange, why, Incomplete::Truncated);
            exchange.end_unsure = exchange.response.ended;
            queue.answer_ended();
            self.pending -= 1;
            self.open = false;
        }
    }
}

/// Ends an exchange whose response cannot be read to its end.
pub(super) fn close(exchange: &mut Exchange, why: Option<Incomplete>, otherwise: Incomplete) {
    let answered = exchange.message.status != Status::NoResponse;
    exchange.message.rows = None;
    match why {
        Some(why) => exchange.mark(why),
        // Its first packet was read and all of its bytes are accounted for: rows are unknown, times are not.
        None if answered && exchange.incomplete.is_none() => exchange.response.ended = true,
        None => exchange.mark(otherwise),
    }
    exchange.closed = true;
}

pub(super) fn set_failure(message: &mut MysqlMessage, payload: &[u8]) {
    let failure = result::failure(payload);
    message.status = Status::Error;
    message.error_code = failure.code;
    message.sqlstate.clear();
    push_text(&mut message.sqlstate, failure.sqlstate);
    message.error_message.clear();
    push_text(&mut message.error_message, failure.message);
}
