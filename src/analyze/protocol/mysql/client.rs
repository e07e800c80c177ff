//! The client's half of the pairing: the login, then commands.

use super::command::{self, Answer};
use super::compress;
use super::detect;
use super::frames::Outer;
use super::handshake::{self, CLIENT_QUERY_ATTRIBUTES};
use super::message::*;
use super::packet::{Fields, HEADER, Packet, Place, push_text};
use super::pair::{ClientState, MysqlPairing, STATEMENT_LIMIT, ServerState, Step};
use super::probe::Framed;
use super::session::Session;
use super::{Exchange, Queue};
use crate::analyze::exchange::{Halves, Incomplete, MAX_WAITING, Side, Span};
use crate::analyze::protocol::{Missing, turns};

/// Bytes kept of a client's packet: query attributes, then text.
pub(super) const KEEP_CLIENT: usize = STATEMENT_LIMIT + 4096;

impl MysqlPairing {
    pub(super) fn client_bytes(&mut self, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        self.in_this_piece = 0;
        self.last_client_frame = place.frame_seq().unwrap_or(0);
        if matches!(self.client, ClientState::Start | ClientState::Lost) {
            let framed = if place.is_linear() { Framed::Perhaps } else { Framed::No };
            if self.client == ClientState::Lost
                && self.client_probe.has_begun()
                && !self.client_probe.may_go_on(bytes.len())
                && command::is_plain_command(bytes)
                && detect::may_be_commands(bytes)
            {
                // What was kept is the end of something that is over.
                self.client_probe.clear();
            }
            if !self.client_probe.gather(&place, bytes, &mut used, framed) {
                if self.client == ClientState::Lost && self.client_probe.bytes.get(3).is_some_and(|seq| *seq != 0) {
                    // The end of something; what comes next may be a command.
                    self.client_probe.clear();
                }
                return Step::Go;
            }
            let later = self.client_probe.take_later();
            let (probe, at) = self.client_probe.take();
            let step = self.client_found(at, &probe, &bytes[used..], queue);
            if self.client == ClientState::Lost {
                // The first piece is the end of something; a command may begin with one of the later ones, the last of which
                // is the one at hand.
                let ends = later.iter().skip(1).map(|(begin, _)| *begin);
                for ((begin, place), end) in later.iter().zip(ends) {
                    let step = self.client_bytes(*place, &probe[*begin..end], queue);
                    if step != Step::Go {
                        return step;
                    }
                }
                return match later.is_empty() {
                    true => Step::Go,
                    false => self.client_bytes(place, bytes, queue),
                };
            }
            if step != Step::Go {
                return step;
            }
            if let Some(mut outer) = self.outer[Side::Client as usize].take_if(|o| !o.lost && at.is_linear()) {
                // Found to be compressed just now: the rest of this piece is too.
                let rest = &bytes[used..];
                let step = self.frames(&mut outer, Side::Client, place.begin(used), rest, queue);
                self.outer[Side::Client as usize] = Some(outer);
                return step;
            }
        }
        self.client_packets(&place, bytes, used, queue)
    }

    /// Judges the first bytes of a piece, and what of it follows, while the client's framing is unknown.
    fn client_found(&mut self, at: Place, probe: &[u8], rest: &[u8], queue: &mut Queue) -> Step {
        let seq = probe.get(3).copied().unwrap_or(0);
        let login = self.client == ClientState::Start
            && self.server != ServerState::Lost
            && seq == 1
            && probe.len() > HEADER
            && probe[2] == 0;
        if login {
            self.client = ClientState::Login;
            return self.client_packets(&at, probe, 0, queue);
        }
        if command::is_plain_command(probe) && detect::may_be_commands(&[probe, rest].concat()) {
            self.client = ClientState::Commands;
            return self.client_packets(&at, probe, 0, queue);
        }
        if at.is_linear() && compress::looks_like_command(probe) {
            self.client = ClientState::Commands;
            let mut outer = Box::new(Outer::default());
            if self.outer[Side::Server as usize].is_none() {
                self.compress(Side::Server, true);
                self.lose_server(Some(Incomplete::StartedBefore), queue);
            }
            let step = self.frames(&mut outer, Side::Client, at.begin(0), probe, queue);
            self.outer[Side::Client as usize] = Some(outer);
            return step;
        }
        self.client = ClientState::Lost;
        Step::Go
    }

    fn client_packets(&mut self, place: &Place, bytes: &[u8], mut used: usize, queue: &mut Queue) -> Step {
        let mut framer = std::mem::take(&mut self.client_framer);
        let mut step = Step::Go;
        loop {
            if self.client == ClientState::Login && framer.at_boundary() && self.session.compressed() {
                // The first frame after the login has sequence id 0, at the same place as a packet.
                if !self.client_probe.gather(place, bytes, &mut used, Framed::No) {
                    break;
                }
                let (probe, at) = self.client_probe.take();
                if probe[3] == 0 {
                    self.client = ClientState::Commands;
                    self.client_framer = framer;
                    let mut outer = Box::new(Outer::default());
                    step = self.frames(&mut outer, Side::Client, at.begin(0), &probe, queue);
                    if step == Step::Go {
                        step = self.frames(&mut outer, Side::Client, place.begin(used), &bytes[used..], queue);
                    }
                    self.outer[Side::Client as usize] = Some(outer);
                    return step;
                }
                let mut probed = 0;
                while step == Step::Go
                    && let Some(packet) = framer.next(&probe, &mut probed, &at, KEEP_CLIENT)
                {
                    step = self.client_packet(&packet, queue);
                }
                if step != Step::Go {
                    break;
                }
            }
            let Some(packet) = framer.next(bytes, &mut used, place, KEEP_CLIENT) else {
                break;
            };
            step = self.client_packet(&packet, queue);
            if step != Step::Go {
                break;
            }
        }
        self.client_framer = framer;
        match step {
            Step::Lose(why) => {
                self.lose_client(why, queue);
                Step::Go
            }
            Step::Leave(_) => step,
            _ => {
                if self.client_framer.partial().is_some() {
                    self.begin_partial(queue);
                }
                Step::Go
            }
        }
    }

    /// A command whose first byte is there and whose end is not: it waits in the queue already, because its answer may
    /// come before its end (an error).
    pub(super) fn begin_partial(&mut self, queue: &mut Queue) {
        // In the login only commands have sequence id 0.
        if self.begun.is_some() || !self.is_synced() {
            return;
        }
        if let Some((0, [command, ..], start)) = self.client_framer.partial()
            && !(self.infile && self.last_client_seq == 255)
            && command::answer(*command).is_some()
        {
            self.begin(*command, start, queue);
        }
    }

    pub(super) fn client_packet(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let wrapped = self.infile && self.last_client_seq == 255;
        self.last_client_seq = packet.last_seq;
        self.last_client_empty = packet.len == 0;
        if packet.seq != 0 || wrapped {
            if packet.len == 0 {
                self.infile = false;
            }
            return if self.client == ClientState::Login {
                self.client_login(packet)
            } else {
                Step::Go
            };
        }
        self.client = ClientState::Commands;
        self.infile = false;
        (self.command_seq, self.command_frame) = (packet.last_seq, self.last_client_frame);
        self.command(packet, queue)
    }

    fn client_login(&mut self, packet: &Packet<'_>) -> Step {
        if self.login.is_some() {
            return Step::Go;
        }
        if handshake::is_ssl_request(packet.payload) {
            return Step::Leave("TLS");
        }
        self.login = Some(Span {
            start: packet.start,
            end: packet.end,
            begun: true,
            ended: true,
            ..Span::default()
        });
        if let Some(login) = handshake::response(packet.payload).filter(|_| packet.is_whole()) {
            self.session.client_capabilities = Some(login.capabilities);
            self.session.agree();
            // Who logs in is known before the server agrees: a command may be read before its OK is.
            self.session.user = login.user.as_str().into();
            self.session.database = login.database.as_str().into();
        }
        Step::Go
    }

    /// Puts a new exchange at the back of the queue.
    pub(super) fn begin(&mut self, command: u8, start: u64, queue: &mut Queue) {
        if self.pending >= MAX_WAITING || (self.pending > 0 && queue.len() >= 4 * MAX_WAITING) {
            self.lose_server(Some(Incomplete::TooMany), queue);
            self.close_oldest(1, Some(Incomplete::TooMany), queue);
        }
        let is_answered = !matches!(command::answer(command), Some(Answer::Nothing | Answer::Endless(_)));
        let mut unsure = None;
        if is_answered {
            let hidden = if self.in_this_piece > 0 {
                self.turns.pipelines()
            } else {
                None
            };
            self.in_this_piece += 1;
            if self.doubt.is_some() {
                self.confirm(start, queue);
            }
            // The client did not wait: what could not be read is never answered (COM_STMT_SEND_LONG_DATA), or its answer is
            // still to come.
            let unread = self.unread.take();
            unsure = unread.filter(|_| self.turns.is_pipelined || self.in_this_piece > 1);
            let begins = self.turns.request() || unread.is_some();
            if begins && (self.doubt.is_some() || self.server == ServerState::Lost) {
                self.resume(queue);
            }
            self.doubt = self.doubt.or(hidden).or(unsure);
        }
        let exchange = queue.open();
        exchange.request.start = start;
        exchange.request.begun = true;
        self.session.begin(command, &mut exchange.message);
        if let Some(why) = unsure {
            exchange.mark(why);
        }
        match is_answered {
            true => self.pending += 1,
            false => {
                exchange.halves = Halves::RequestOnly;
                exchange.message.rows = Some(0);
            }
        }
        self.begun = Some(start);
    }

    /// The client asks again here, and nothing is lost since: what lies before it is certain now.
    pub(super) fn confirm(&mut self, pos: u64, queue: &mut Queue) {
        if let Some(id) = self.unsure_prepared.take() {
            let is_unsure = |exchange: &&Exchange| exchange.unsure && exchange.request.end <= pos;
            for exchange in queue.iter().filter(is_unsure) {
                let message = &exchange.message;
                if message.statement_id == Some(id) {
                    let prepared = &mut self.session.prepared;
                    prepared.insert(id, &message.statement, message.statement_cut);
                }
            }
        }
        queue.confirm_unsure(pos);
    }

    /// The client begins to speak, and what it asked before is in doubt, or its answer was not read to its end: that is over.
    fn resume(&mut self, queue: &mut Queue) {
        let is_all_answered = self.pending == 0;
        // What was not read to its end, and lost nothing, only ends here.
        let is_only_cut = self.open && self.server == ServerState::Lost && self.lost_why.is_none();
        let why = if is_only_cut {
            None
        } else {
            self.doubt.or(self.lost_why)
        };
        if self.server != ServerState::Start {
            self.lose_framing();
        }
        self.close_oldest(self.pending, why, queue);
        self.lost_why = None;
        self.turns.answer = turns::Answer::Due;
        if self.turns.resume(is_all_answered) {
            self.doubt = None;
        }
    }

    pub(super) fn command(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let payload = &packet.payload[..packet.payload.len().min(KEEP_CLIENT)];
        let Some(&first) = payload.first() else {
            return self.unread_command(packet, queue);
        };
        let Some(answer) = command::answer(first) else {
            return Step::Lose(Some(Incomplete::Malformed));
        };
        if self.begun != Some(packet.start) {
            self.begin(first, packet.start, queue);
        }
        self.fill(payload, packet, queue);
        if let Answer::Endless(why) = answer {
            return Step::Leave(why);
        }
        if answer != Answer::Nothing {
            self.release(queue)
        } else {
            Step::Go
        }
    }

    /// Of this command only the header is there.
    fn unread_command(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let why = match packet.hole {
            Some(Missing::Lost) => Incomplete::Gap,
            _ => Incomplete::Truncated,
        };
        match packet.len {
            0 => return Step::Go,
            // COM_QUIT and COM_STMT_CLOSE have no response, COM_PING and COM_RESET_CONNECTION have one: rather no row than a
            // wrong pair.
            1 | 5 => return Step::Lose(Some(why)),
            _ => {}
        }
        self.begin(0, packet.start, queue);
        if let Some(exchange) = queue.newest() {
            exchange.request.end = packet.end;
            exchange.request.ended = true;
            exchange.mark(why);
        }
        self.begun = None;
        // What its response consists of depends on the command.
        self.lose_framing();
        self.turns.answer = turns::Answer::No;
        self.lost_why = Some(why);
        self.unread = Some(why);
        Step::Go
    }

    /// The request's content and end.
    fn fill(&mut self, payload: &[u8], packet: &Packet<'_>, queue: &mut Queue) {
        let begun = self.begun.take();
        let Some(exchange) = queue.newest().filter(|e| Some(e.request.start) == begun) else {
            return;
        };
        exchange.request.end = packet.end;
        exchange.request.ended = true;
        if packet.hole == Some(Missing::Lost) {
            self.session.is_in_doubt = true;
            exchange.mark(Incomplete::Gap);
        }
        let message = &mut exchange.message;
        let Some((&command, args)) = payload.split_first() else {
            return;
        };
        let session = &mut self.session;
        match command {
            COM_QUERY => query(session, message, payload, packet),
            COM_STMT_PREPARE => {
                set_statement(message, args, packet);
                session.prepared.last_text.clear();
                session.prepared.last_text.push_str(&message.statement);
                session.prepared.last_cut = message.statement_cut;
                // Its id is in the answer.
                session.prepared.last_id = None;
                if packet.hole == Some(Missing::Lost) {
                    // A part of its text is lost: rather none than half of it.
                    session.prepared.forget_last();
                }
            }
            COM_INIT_DB | COM_CREATE_DB | COM_DROP_DB => set_statement(message, args, packet),
            COM_FIELD_LIST => set_statement(message, Fields(args).until_nul(), packet),
            COM_STMT_EXECUTE | COM_STMT_BULK_EXECUTE | COM_STMT_FETCH => execute(session, message, args),
            COM_STMT_SEND_LONG_DATA | COM_STMT_RESET => message.statement_id = Fields(args).u32(),
            COM_STMT_CLOSE => {
                message.statement_id = Fields(args).u32();
                if let Some(id) = message.statement_id {
                    session.prepared.remove(id);
                }
            }
            COM_QUIT if self.server == ServerState::Lost => {
                // It waits for nothing more.
                self.close_oldest(self.pending, self.lost_why, queue);
            }
            COM_CHANGE_USER => {
                let asked = packet
                    .is_whole()
                    .then(|| handshake::change_user(args, session.capabilities));
                session.asked = Some(asked.unwrap_or_default());
            }
            _ => {}
        }
    }

    pub(super) fn lose_client(&mut self, why: Option<Incomplete>, queue: &mut Queue) {
        if let Some(start) = self.begun
            && let Some((seq, kept, _)) = self.client_framer.partial()
        {
            // Its end is lost: it is what was read of it.
            let kept = kept.to_vec();
            let packet = Packet {
                seq,
                last_seq: seq,
                len: u64::MAX,
                payload: &kept,
                hole: None,
                start,
                end: start.saturating_add((HEADER + kept.len()) as u64),
            };
            self.fill(&kept, &packet, queue);
            if let Some(exchange) = queue.newest().filter(|e| e.request.start == start) {
                exchange.mark(why.unwrap_or(Incomplete::Truncated));
                // A one-way exchange has no other end than this.
                exchange.request.ended = exchange.halves == Halves::RequestOnly;
            }
        }
        let is_open = self.begun.take().is_some();
        if matches!(self.client, ClientState::Start | ClientState::Login) && self.session.compressed() {
            self.compress(Side::Client, true);
        }
        self.client_framer.reset();
        self.client_probe.clear();
        self.client = ClientState::Lost;
        self.session.is_in_doubt |= why != Some(Incomplete::StartedBefore);
        self.session.prepared.forget_last();
        // A file, or a new login, is a part of the command under way.
        let changes_user = |exchange: &mut Exchange| exchange.message.command == COM_CHANGE_USER;
        let goes_on = std::mem::take(&mut self.infile) || (self.open && queue.awaiting().is_some_and(changes_user));
        let why = why.unwrap_or(Incomplete::Truncated);
        self.doubt.get_or_insert(why);
        self.turns.client_missing();
        // Where a response ends that has no command is seen from its packets alone.
        let has_end = self.orphan.is_some() && self.server != ServerState::Lost;
        if !self.turns.is_pipelined && !goes_on && !has_end {
            // It asks again only when it has the answer: that is lost.
            let over = self.pending.saturating_sub(usize::from(is_open));
            self.close_oldest(over, Some(why), queue);
        }
        if !self.held.is_empty() {
            // What came before its command answers one that is lost.
            match self.has_client {
                true => self.lose_server(None, queue),
                false => {
                    self.release_orphans(queue);
                }
            }
        }
    }
}

/// What a COM_QUERY says.
pub(super) fn query(session: &Session, message: &mut MysqlMessage, payload: &[u8], packet: &Packet<'_>) {
    let at = command::query_text(payload, session.agreed(CLIENT_QUERY_ATTRIBUTES), &mut message.inferred);
    let text = at.and_then(|at| payload.get(at..)).unwrap_or_default();
    set_statement(message, text, packet);
}

/// What a command says that names a prepared statement.
pub(super) fn execute(session: &Session, message: &mut MysqlMessage, args: &[u8]) {
    if let Some(id) = Fields(args).u32() {
        message.statement_id = Some(id);
        session.prepared.resolve(id, message);
    }
}

fn set_statement(message: &mut MysqlMessage, text: &[u8], packet: &Packet<'_>) {
    let kept = &text[..text.len().min(STATEMENT_LIMIT)];
    message.statement.clear();
    push_text(&mut message.statement, kept);
    message.statement_cut = kept.len() < text.len() || !packet.is_whole();
}
