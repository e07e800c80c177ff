//! The client's half of the pairing: commands, and the data that they store.

use super::message::cut;
use super::pair::{Client, Expected, MemcachedPairing, Server, reason};
use super::parse::{self, Answer, Command, Said};
use super::{Exchange, Queue};
use crate::analyze::exchange::{Halves, Incomplete, MAX_WAITING, Span};
use crate::analyze::protocol::Missing;
use crate::analyze::protocol::set_text;

/// Characters of a command's name that are kept: it may be anything that the server answers with ERROR.
const MAX_NAME: usize = 32;

impl MemcachedPairing {
    pub(super) fn client_bytes(&mut self, pos: u64, bytes: &[u8], queue: &mut Queue) {
        let begins = self.turns.client();
        if begins {
            self.end_turn(queue);
        }
        if self.client == Client::Lost {
            match beginning(bytes) {
                _ if !begins || self.turns.may_go_on() => return,
                Beginning::Command => {}
                // Where the server spoke before, the client begins with a command, unless it was refused within one.
                Beginning::Perhaps if self.server_spoke => self.is_guessed = true,
                Beginning::Perhaps | Beginning::No => return,
            }
            self.client = Client::Line;
        }
        let is_in_doubt = self.is_in_doubt_of_answers() && !(self.overlaps && self.turns.is_pipelined);
        if begins && is_in_doubt && self.client == Client::Line && self.client_line.is_empty() {
            self.resume(queue);
        }
        let mut at = 0;
        while at < bytes.len() && self.left.is_none() {
            let (here, rest) = (pos + at as u64, &bytes[at..]);
            at += match self.client {
                Client::Data(left) => {
                    let used = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.data_sent(here, used as u64, queue);
                    used
                }
                Client::Line | Client::LongLine => self.client_line_bytes(here, rest, queue),
                Client::Lost => rest.len(),
            };
        }
        self.take_held(queue);
    }

    fn is_in_doubt_of_answers(&self) -> bool {
        self.server == Server::Lost || self.doubt.is_some()
    }

    /// Bytes of a line; returns how many of them were used.
    fn client_line_bytes(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> usize {
        let Some(line) = parse::line(rest) else {
            if self.client_line.is_empty() {
                self.client_from = here;
            }
            if self.client == Client::Line {
                self.client_line.extend_from_slice(rest);
            }
            if Self::is_too_long(&self.client_line) {
                // Its first key is known, and how many there are is not.
                let start = std::mem::take(&mut self.client_line);
                self.open(&start, self.client_from, here + rest.len() as u64, queue);
                if let Some(exchange) = queue.newest() {
                    exchange.request.ended = false;
                    exchange.message.why = "a line longer than 64 KiB";
                    exchange.mark(Incomplete::Truncated);
                }
                self.client = Client::LongLine;
            }
            return rest.len();
        };
        let end = here + line.used as u64;
        if self.client == Client::LongLine {
            self.client = Client::Line;
            self.request_ended(end, queue);
        } else if self.client_line.is_empty() {
            self.open(line.text, here, end, queue);
        } else {
            let mut whole = std::mem::take(&mut self.client_line);
            whole.extend_from_slice(&rest[..line.used]);
            if let Some(line) = parse::line(&whole) {
                self.open(line.text, self.client_from, end, queue);
            }
            whole.clear();
            self.client_line = whole;
        }
        line.used
    }

    /// A command's line is there.
    fn open(&mut self, text: &[u8], start: u64, end: u64, queue: &mut Queue) {
        let command = match parse::command(text) {
            Said::Command(command) => command,
            Said::Leave(why) => {
                self.left = Some(why);
                return;
            }
        };
        if self.expected.len() >= MAX_WAITING {
            self.lose_server(Incomplete::TooMany, queue);
            self.has_lost_commands = true;
        }
        self.is_asked = true;
        let is_answered = command.answer != Answer::Nothing;
        if is_answered {
            self.turns.request();
            self.expected.push_back(Expected {
                answer: command.answer,
                behind_noreply: std::mem::take(&mut self.is_noreply_open),
            });
        }
        self.is_noreply_open |= !is_answered && command.noreply;
        let exchange = queue.open();
        exchange.request = Span {
            start,
            end,
            begun: true,
            ended: command.data.is_none(),
            ..Span::default()
        };
        if !is_answered {
            exchange.halves = Halves::RequestOnly;
        }
        fill(exchange, &command);
        if let Some(data) = command.data {
            self.client = Client::Data(data + 2);
        }
    }

    /// So many bytes of data.
    fn data_sent(&mut self, here: u64, len: u64, queue: &mut Queue) {
        if let Client::Data(left) = &mut self.client {
            *left -= len.min(*left);
            if *left == 0 {
                self.client = Client::Line;
                self.request_ended(here + len, queue);
            }
        }
    }

    fn request_ended(&mut self, end: u64, queue: &mut Queue) {
        if let Some(exchange) = queue.newest().filter(|exchange| !exchange.request.ended) {
            exchange.request.end = end;
            exchange.request.ended = true;
        }
    }

    pub(super) fn client_missing(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        if why == Missing::Lost {
            if self.turns.client() {
                self.end_turn(queue);
            }
            self.turns.client_missing();
        }
        let mut stepped = 0;
        if let Client::Data(left) = self.client {
            stepped = len.min(left);
            if why == Missing::Lost
                && let Some(exchange) = queue.newest().filter(|exchange| !exchange.request.ended)
            {
                exchange.mark(Incomplete::Gap);
            }
            self.data_sent(pos, stepped, queue);
        }
        if stepped < len || len == 0 {
            self.lose_client(pos + stepped, reason(why), queue);
        }
    }

    /// Where lines begin is not known any more.
    fn lose_client(&mut self, pos: u64, why: Incomplete, queue: &mut Queue) {
        if self.client != Client::Lost {
            self.cut_request(pos, why, queue);
        }
        self.client = Client::Lost;
        self.doubt.get_or_insert(why);
        self.is_turn_cut = [true; 2];
        self.has_lost_commands = true;
    }

    /// What is not read to its end ends here, or nobody knows where.
    fn cut_request(&mut self, pos: u64, why: Incomplete, queue: &mut Queue) {
        let line = std::mem::take(&mut self.client_line);
        if !line.is_empty() {
            let exchange = queue.open();
            exchange.request = Span {
                start: self.client_from,
                end: pos,
                begun: true,
                ended: false,
                ..Span::default()
            };
            exchange.halves = Halves::RequestOnly;
            exchange.message.clear();
            let name = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            set_text(&mut exchange.message.command, cut(name, MAX_NAME));
            exchange.mark(why);
            exchange.closed = true;
        } else if let Some(exchange) = queue
            .newest()
            .filter(|exchange| !exchange.request.ended && !exchange.closed)
        {
            exchange.request.end = exchange.request.end.max(pos);
            exchange.mark(why);
            exchange.closed |= exchange.halves == Halves::RequestOnly;
        }
    }

    pub(super) fn client_ended(&mut self, pos: u64, queue: &mut Queue) {
        if self.client == Client::Lost || self.left.is_some() {
            return;
        }
        self.cut_request(pos, Incomplete::RequestCut, queue);
        self.client = Client::Lost;
    }
}

/// What bytes begin with.
enum Beginning {
    /// A command that is written as it should be.
    Command,
    /// What may be a command.
    Perhaps,
    No,
}

fn beginning(bytes: &[u8]) -> Beginning {
    match parse::line(bytes).map(|line| (line.text, parse::command(line.text))) {
        Some((_, Said::Command(command))) if command.is_sound => Beginning::Command,
        Some((text, Said::Command(_))) if text.iter().all(|byte| *byte >= b' ') => Beginning::Perhaps,
        None if parse::may_become_command(bytes) => Beginning::Perhaps,
        _ => Beginning::No,
    }
}

fn fill(exchange: &mut Exchange, command: &Command<'_>) {
    let message = &mut exchange.message;
    message.clear();
    set_text(&mut message.command, cut(command.name, MAX_NAME));
    set_text(&mut message.key, cut(command.key, parse::MAX_KEY));
    message.keys = command.keys;
    message.noreply = command.noreply;
    message.value_bytes = command.data;
}
