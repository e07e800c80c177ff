//! The server's half of the pairing: answers, each to the oldest command that waits.

use super::message::cut;
use super::pair::{Expected, MemcachedPairing, Server, awaiting, reason};
use super::parse::{self, Answer, Found, Reply};
use super::{Queue, Status};
use crate::analyze::exchange::{Halves, Incomplete, Span};
use crate::analyze::protocol::Missing;
use crate::analyze::protocol::set_text;

/// Bytes of answers that are kept until their command is read.
const MAX_HELD: usize = 64 * 1024;
/// Pieces that are kept while no command was seen at all.
const MAX_PIECES: usize = 32;
/// Bytes of the last line of an answer that are kept.
const MAX_ANSWER: usize = 256;

/// What the server sent, or what of it is missing, from a position on.
#[derive(Debug)]
pub(super) enum Held {
    Bytes(u64, Vec<u8>),
    Hole(u64, u64, Missing),
}

impl MemcachedPairing {
    pub(super) fn server_bytes(&mut self, pos: u64, bytes: &[u8], queue: &mut Queue) {
        if !self.held.is_empty() {
            return self.hold(pos, bytes, queue);
        }
        let is_one_sided = !self.is_asked && self.server == Server::Lost;
        if (is_one_sided && parse::are_answers(bytes)) || self.finds_place(bytes, queue) {
            self.server = Server::Line;
        }
        let mut at = 0;
        while at < bytes.len() {
            let (here, rest) = (pos + at as u64, &bytes[at..]);
            at += match self.server {
                Server::Lost => rest.len(),
                Server::Data(left) => {
                    let used = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.data_found(used as u64);
                    used
                }
                Server::Line if self.expected.is_empty() => {
                    self.hold(here, rest, queue);
                    rest.len()
                }
                Server::Line => self.server_line_bytes(here, rest, queue),
            };
        }
    }

    /// Keeps what has no command yet.
    fn hold(&mut self, pos: u64, bytes: &[u8], queue: &mut Queue) {
        self.held_bytes += bytes.len();
        self.held.push(Held::Bytes(pos, bytes.to_vec()));
        let is_enough = self.is_one_sided || self.held.len() > MAX_PIECES;
        if self.held_bytes > MAX_HELD || (is_enough && !self.is_asked) {
            self.answer_unasked(queue);
        }
    }

    /// Goes on with what was kept, now that there may be commands for it.
    pub(super) fn take_held(&mut self, queue: &mut Queue) {
        if self.held.is_empty() || self.expected.is_empty() {
            return;
        }
        self.held_bytes = 0;
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Bytes(pos, bytes) => self.server_bytes(pos, &bytes, queue),
                Held::Hole(pos, len, why) => self.server_missing(pos, len, why, queue),
            }
        }
    }

    /// No command will come for what was kept: errors are about a command with `noreply`, or about the connection itself. Where
    /// no command was seen at all, because it was sent before or nobody captures what the client sends, each answer is a row.
    pub(super) fn answer_unasked(&mut self, queue: &mut Queue) {
        if self.held.is_empty() {
            return;
        }
        if self.is_unsure {
            self.end_turn(queue);
        }
        self.is_one_sided |= !self.is_asked;
        self.held_bytes = 0;
        let (mut from, mut bytes) = (0, Vec::new());
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Bytes(..) if self.server == Server::Lost && self.is_asked => {}
                Held::Bytes(_, more) if self.server == Server::Lost && !parse::are_answers(&more) => {}
                Held::Bytes(pos, more) => {
                    if bytes.is_empty() {
                        from = pos;
                    }
                    bytes.extend_from_slice(&more);
                    self.server = Server::Line;
                }
                Held::Hole(_, _, why) => {
                    self.push_unasked(from, &bytes, queue);
                    bytes.clear();
                    self.lose_server(self.doubt.unwrap_or(reason(why)), queue);
                }
            }
        }
        let used = self.push_unasked(from, &bytes, queue);
        let rest = &bytes[used..];
        if rest.is_empty() {
            return;
        }
        if self.is_asked || rest.len() > MAX_HELD || parse::answer(rest) != Found::More {
            return self.lose_server(self.doubt.unwrap_or(Incomplete::Malformed), queue);
        }
        self.held_bytes = rest.len();
        self.held.push(Held::Bytes(from + used as u64, rest.to_vec()));
    }

    /// Makes rows of the answers that these bytes begin with; returns how many bytes they take.
    fn push_unasked(&mut self, from: u64, bytes: &[u8], queue: &mut Queue) -> usize {
        let mut at = 0;
        while let Found::Whole(answer) = parse::answer(&bytes[at..]) {
            let status = match answer.reply {
                Reply::ClientError => Status::ClientError,
                Reply::ServerError => Status::ServerError,
                _ if self.is_asked => break,
                _ => Status::Ok,
            };
            let exchange = queue.open();
            exchange.request = Span::default();
            // It waits for nothing.
            exchange.halves = Halves::RequestOnly;
            exchange.response = Span::whole(from + at as u64, answer.used as u64);
            exchange.message.clear();
            exchange.message.status = status;
            exchange.message.found_bytes = answer.found_bytes;
            set_text(&mut exchange.message.answer, cut(answer.last, MAX_ANSWER));
            exchange.message.why = match status {
                Status::Ok => "an answer without a command",
                _ => "an error without a command",
            };
            exchange.mark(match self.doubt {
                Some(Incomplete::StartedBefore) if !self.is_asked => Incomplete::StartedBefore,
                _ => Incomplete::NoRequest,
            });
            exchange.closed = true;
            at += answer.used;
        }
        if at > 0 && !self.is_asked {
            // Should commands come after all, these were the answers to some of them.
            self.doubt.get_or_insert(Incomplete::Gap);
        }
        at
    }

    /// Bytes of a line; returns how many of them were used.
    fn server_line_bytes(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> usize {
        if self.server_line.is_empty() {
            self.server_from = here;
            self.begin_answer(here, queue);
        }
        let Some(line) = parse::line(rest) else {
            self.server_line.extend_from_slice(rest);
            self.extend(here + rest.len() as u64, queue);
            if Self::is_too_long(&self.server_line) {
                self.lose_server(Incomplete::Malformed, queue);
            }
            return rest.len();
        };
        let end = here + line.used as u64;
        self.extend(end, queue);
        if self.server_line.is_empty() {
            self.server_said(line.text, end, queue);
        } else {
            let mut whole = std::mem::take(&mut self.server_line);
            whole.extend_from_slice(&rest[..line.used]);
            if let Some(line) = parse::line(&whole) {
                self.server_said(line.text, end, queue);
            }
            whole.clear();
            self.server_line = whole;
        }
        line.used
    }

    fn begin_answer(&mut self, here: u64, queue: &mut Queue) {
        if std::mem::replace(&mut self.is_open, true) {
            return;
        }
        self.items = 0;
        // A hole that is known only now may have lain between the two.
        let is_pipelined = self.doubt.is_none() && self.expected.len() > 1 && !queue.is_overtaken;
        let hidden = if is_pipelined { self.turns.pipelines() } else { None };
        // Where the connection was joined, the number of answers shows it.
        let hidden = hidden.filter(|why| !self.is_unsure || *why != Incomplete::StartedBefore);
        let guessed = (is_pipelined && self.is_guessed).then_some(Incomplete::Gap);
        if let Some(why) = hidden.or(guessed) {
            self.doubt = Some(why);
            queue.waiting_mut().for_each(|exchange| exchange.mark(why));
        }
        if let Some(exchange) = awaiting(queue) {
            exchange.response = Span {
                start: here,
                end: here,
                begun: true,
                ended: false,
                ..Span::default()
            };
        }
    }

    fn extend(&mut self, end: u64, queue: &mut Queue) {
        if self.is_open
            && let Some(exchange) = awaiting(queue)
        {
            exchange.response.end = exchange.response.end.max(end);
        }
    }

    /// A line is there, which ends at this position.
    fn server_said(&mut self, text: &[u8], end: u64, queue: &mut Queue) {
        let Some(Expected { answer, behind_noreply }) = self.expected.front().copied() else {
            return;
        };
        let reply = parse::reply(text);
        let is_first = self.items == 0;
        let Some(exchange) = awaiting(queue) else { return };
        let message = &mut exchange.message;
        let is_error = matches!(reply, Reply::ClientError | Reply::ServerError);
        if is_error && behind_noreply {
            message.why = "an error that may be about a command with noreply";
            return self.lose_server(Incomplete::Malformed, queue);
        }
        // Some answers of rare commands have words of their own.
        let is_rare = matches!(answer, Answer::Line | Answer::Lines) && reply == Reply::No;
        let fits = parse::fits_name(message.command.as_bytes(), answer, reply) || is_rare;
        let is_other_key =
            |key: &[u8]| message.keys == 1 && message.key.as_bytes() != key && !message.key.contains('\u{fffd}');
        match reply {
            _ if !fits => {
                message.why = "an answer to another command";
                return self.lose_pairs(reply, queue);
            }
            Reply::Value(key, len) => {
                if is_other_key(key) || self.items >= message.keys {
                    message.why = "an answer to another command";
                    return self.lose_pairs(reply, queue);
                }
                self.items += 1;
                message.found_bytes += len;
                self.server = Server::Data(len + 2);
                return;
            }
            Reply::Detail => {
                self.items += 1;
                return;
            }
            Reply::No if answer == Answer::Lines && !is_first => {
                self.items += 1;
                return;
            }
            _ => {}
        }
        set_text(&mut message.answer, cut(text, MAX_ANSWER));
        message.status = match reply {
            Reply::ClientError => Status::ClientError,
            Reply::ServerError => Status::ServerError,
            _ => Status::Ok,
        };
        let stores = message.value_bytes.is_some() && message.command != "cas";
        message.hits = match (answer, reply) {
            (Answer::Values, Reply::End) => Some(self.items),
            (Answer::Key, Reply::Word(b"NOT_FOUND")) => Some(0),
            (Answer::Key, Reply::Word(_) | Reply::Number) if !stores => Some(1),
            _ => None,
        };
        self.finish_answer(end, queue);
    }

    fn finish_answer(&mut self, end: u64, queue: &mut Queue) {
        let doubt = self.doubt.filter(|_| self.turns.is_pipelined || self.overlaps);
        if let Some(exchange) = awaiting(queue) {
            exchange.response.end = end;
            exchange.response.ended = true;
            exchange.unsure = self.is_unsure;
            exchange.awaits_turn = self.is_unsure;
            if let Some(doubt) = doubt {
                exchange.mark(doubt);
            }
            queue.answer_ended();
        }
        self.expected.pop_front();
        self.is_open = false;
    }

    /// So many bytes of an item's data.
    fn data_found(&mut self, len: u64) {
        if let Server::Data(left) = &mut self.server {
            *left -= len.min(*left);
            if *left == 0 {
                self.server = Server::Line;
            }
        }
    }

    pub(super) fn server_missing(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        if !self.held.is_empty() || (self.server == Server::Line && self.expected.is_empty() && why != Missing::Before)
        {
            self.held.push(Held::Hole(pos, len, why));
            self.held_bytes += 64;
            if self.held_bytes > MAX_HELD {
                self.answer_unasked(queue);
            }
            return;
        }
        self.turns.server_missing(queue.is_overtaken);
        let mut stepped = 0;
        if let Server::Data(left) = self.server {
            stepped = len.min(left);
            if why == Missing::Lost
                && let Some(exchange) = awaiting(queue)
            {
                exchange.mark(Incomplete::Gap);
            }
            self.data_found(stepped);
            self.extend(pos + stepped, queue);
            stepped += self.end_unseen(pos + stepped, len - stepped, why, queue);
        }
        if stepped < len || len == 0 {
            self.lose_place(reason(why), queue);
        }
    }

    /// Behind the last item that was asked for stands END: a hole in which it is says so too. Returns how many bytes of the
    /// hole that takes.
    fn end_unseen(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) -> u64 {
        const END: u64 = "END\r\n".len() as u64;
        let Some(exchange) = awaiting(queue) else { return 0 };
        let is_last = self.server == Server::Line && self.items == exchange.message.keys;
        if why != Missing::Unread || !is_last || len != END {
            return 0;
        }
        let message = &mut exchange.message;
        message.status = Status::Ok;
        set_text(&mut message.answer, b"END");
        message.hits = Some(self.items);
        self.finish_answer(pos + END, queue);
        END
    }

    /// Where the next answer begins is not known any more, and of the commands that wait, which it is the answer to.
    fn lose_place(&mut self, why: Incomplete, queue: &mut Queue) {
        if self.expected.len() < 2 || self.has_lost_commands {
            return self.lose_server(why, queue);
        }
        self.doubt.get_or_insert(why);
        self.server = Server::Lost;
        self.server_line.clear();
        if self.is_open {
            self.give_up_oldest(why, queue);
        }
    }

    /// Whether these bytes begin with an item of which the key says which of the commands that wait is answered. Those before
    /// it were answered in the hole.
    fn finds_place(&mut self, bytes: &[u8], queue: &mut Queue) -> bool {
        if self.server != Server::Lost || self.has_lost_commands || self.expected.is_empty() {
            return false;
        }
        let Some(Reply::Value(key, _)) = parse::line(bytes).map(|line| parse::reply(line.text)) else {
            return false;
        };
        let waiting = queue
            .waiting_mut()
            .filter(|exchange| exchange.halves != Halves::RequestOnly);
        let mut found = None;
        for (place, (exchange, expected)) in waiting.zip(&self.expected).enumerate() {
            let message = &exchange.message;
            if expected.answer != Answer::Values || (message.keys == 1 && message.key.as_bytes() != key) {
                continue;
            }
            if message.keys != 1 || found.replace(place).is_some() {
                return false;
            }
        }
        let Some(place) = found else { return false };
        let why = self.doubt.unwrap_or(Incomplete::Gap);
        (0..place).for_each(|_| self.give_up_oldest(why, queue));
        self.doubt = None;
        true
    }

    /// An answer does not fit its command, so that others may not be whose they seem to be either.
    fn lose_pairs(&mut self, reply: Reply<'_>, queue: &mut Queue) {
        let why = self.doubt.unwrap_or(Incomplete::Malformed);
        self.turns.is_pipelined = true;
        // What is an answer, but to another command, was late, unless its own is lost.
        self.overlaps |= reply != Reply::No && !self.is_turn_cut[0] && !self.is_guessed;
        self.has_lost_commands = true;
        self.lose_server(why, queue);
    }

    /// Which answer comes next is not known any more.
    pub(super) fn lose_server(&mut self, why: Incomplete, queue: &mut Queue) {
        self.doubt.get_or_insert(why);
        self.give_up_waiting(Some(why), queue);
        self.server = Server::Lost;
        self.server_line.clear();
    }
}
