//! Pairs commands with answers: one [`MemcachedPairing`] for each connection. Answers come in the order of the commands, and
//! say what they answer only by their kind and by the keys of items; commands with `noreply` have none.
//!
//! Holes: inside data they are stepped over, because its line told its length. When a line is lost, so is its direction, up to
//! where the client begins its next turn ([`turns`](super::super::turns)) with a command: what was asked before is over then,
//! and what the server sends next is the answer. An answer that does not fit its command is taken for that of another one
//! that was lost.
//!
//! A client that sends several commands and then waits for all answers has as many answers as commands in the turn behind a
//! hole; its rows are unsure until that is seen. Of one that goes on before it has all answers, nothing but an item's key
//! tells which answer comes next.

use std::collections::VecDeque;

use super::parse::{self, Answer};
use super::server::Held;
use super::{Exchange, MemcachedMessage, Queue};
use crate::analyze::exchange::{Halves, Incomplete, Side};
use crate::analyze::protocol::turns::Turns;
use crate::analyze::protocol::{Missing, Pairing, Verdict, WholeMessages};

/// Where the client's direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Line,
    /// So many bytes of data, with the end of their line.
    Data(u64),
    /// Of a line that is longer than is kept: up to its end.
    LongLine,
    Lost,
}

/// Where the server's direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Line,
    /// So many bytes of an item's data, with the end of their line.
    Data(u64),
    Lost,
}

/// What answers a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub answer: Answer,
    /// Commands with `noreply` stand between it and the one before: an error may be about one of them.
    pub behind_noreply: bool,
}

/// The protocol state of one connection.
#[derive(Debug)]
pub struct MemcachedPairing {
    pub(super) left: Option<&'static str>,
    pub(super) client: Client,
    /// A line without its end so far, and where it begins.
    pub(super) client_line: Vec<u8>,
    pub(super) client_from: u64,
    pub(super) server: Server,
    pub(super) server_line: Vec<u8>,
    pub(super) server_from: u64,
    /// What answers the commands that wait, oldest first.
    pub(super) expected: VecDeque<Expected>,
    /// A command with `noreply` was sent since the newest of them: an error may be about that.
    pub(super) is_noreply_open: bool,
    /// The answer to the oldest has begun.
    pub(super) is_open: bool,
    /// Items of the answer so far.
    pub(super) items: u64,
    /// What the server sent before its command was read.
    pub(super) held: Vec<Held>,
    pub(super) held_bytes: usize,
    pub(super) turns: Turns,
    /// Why the next answer may not belong to the oldest command; `None` when it surely does.
    pub(super) doubt: Option<Incomplete>,
    /// The client was seen to go on before it had the answers to all that it had asked.
    pub(super) overlaps: bool,
    /// The rows of the client's present turn are right if it has as many answers as commands.
    pub(super) is_unsure: bool,
    /// Bytes of the client's present turn, or of its answers, are missing.
    pub(super) has_hole: bool,
    /// The client's present turn began, behind a hole, with a line that may be no command.
    pub(super) is_guessed: bool,
    /// Commands may be lost in the client's present turn, and (as long as the server has said nothing since) in the next.
    pub(super) is_turn_cut: [bool; 2],
    /// A command was seen.
    pub(super) is_asked: bool,
    /// None will be seen, as it seems: answers are rows at once.
    pub(super) is_one_sided: bool,
    /// Commands may be lost whose answers are still to come.
    pub(super) has_lost_commands: bool,
    /// The server was seen to send anything at all.
    pub(super) server_spoke: bool,
    /// One side has ended, and its last bytes were not seen.
    pub(super) ended_unseen: bool,
}

impl Default for MemcachedPairing {
    fn default() -> Self {
        Self::new(false)
    }
}

impl MemcachedPairing {
    /// A connection from its first byte on; or, `joined`, from somewhere in its middle.
    pub fn new(joined: bool) -> Self {
        MemcachedPairing {
            left: None,
            client: if joined { Client::Lost } else { Client::Line },
            client_line: Vec::new(),
            client_from: 0,
            server: if joined { Server::Lost } else { Server::Line },
            server_line: Vec::new(),
            server_from: 0,
            expected: VecDeque::new(),
            is_noreply_open: false,
            is_open: false,
            items: 0,
            held: Vec::new(),
            held_bytes: 0,
            turns: Turns::new(joined),
            doubt: joined.then_some(Incomplete::StartedBefore),
            overlaps: false,
            is_unsure: false,
            has_hole: joined,
            is_guessed: false,
            is_turn_cut: [false, joined],
            is_asked: false,
            is_one_sided: false,
            has_lost_commands: joined,
            server_spoke: false,
            ended_unseen: false,
        }
    }

    /// All that was asked so far is over, one way or the other: the next answer is to the next command.
    pub(super) fn resume(&mut self, queue: &mut Queue) {
        if !self.is_asked {
            self.answer_unasked(queue);
        }
        let is_answered = self.expected.is_empty();
        self.give_up_waiting(self.doubt, queue);
        self.has_lost_commands = false;
        self.server = Server::Line;
        self.server_line.clear();
        self.held.clear();
        self.held_bytes = 0;
        self.is_unsure = !self.turns.resume(is_answered) || self.is_turn_cut[0];
        self.doubt = None;
    }

    /// The client's turn is over: it had as many answers as commands, or what it was given may belong to others.
    pub(super) fn end_turn(&mut self, queue: &mut Queue) {
        let has_all = self.expected.is_empty() && self.held.is_empty();
        self.is_guessed = false;
        let was_cut = self.is_turn_cut[0];
        self.is_turn_cut = [self.is_turn_cut[1], false];
        if self.doubt.is_none() && !self.expected.is_empty() && !queue.is_overtaken {
            match self.has_hole {
                true => self.doubt = Some(Incomplete::Gap),
                false => self.overlaps = true,
            }
        }
        self.has_hole = false;
        if !std::mem::take(&mut self.is_unsure) {
            return;
        }
        match has_all && self.doubt.is_none() {
            true => queue.confirm_unsure(u64::MAX),
            false => {
                queue.refute_unsure(|_| true);
                self.overlaps |= self.doubt.is_none() && !was_cut;
                self.doubt.get_or_insert(Incomplete::Gap);
                self.has_lost_commands = true;
            }
        }
    }

    /// Closes all commands that wait for an answer, or for the rest of it.
    pub(super) fn give_up_waiting(&mut self, why: Option<Incomplete>, queue: &mut Queue) {
        for _ in 0..self.expected.len() {
            self.give_up_oldest(why.unwrap_or(Incomplete::Gap), queue);
        }
    }

    pub(super) fn give_up_oldest(&mut self, why: Incomplete, queue: &mut Queue) {
        self.expected.pop_front();
        self.is_open = false;
        if let Some(exchange) = awaiting(queue) {
            exchange.mark(why);
            exchange.closed = true;
            queue.answer_ended();
        }
    }
}

/// The oldest command that waits for its answer, or for the rest of it: none that has none, also where it was cut off.
pub(super) fn awaiting(queue: &mut Queue) -> Option<&mut Exchange> {
    while queue
        .awaiting()
        .is_some_and(|exchange| exchange.halves == Halves::RequestOnly)
    {
        queue.answer_ended();
    }
    queue.awaiting()
}

pub(super) fn reason(why: Missing) -> Incomplete {
    match why {
        Missing::Lost => Incomplete::Gap,
        Missing::Before => Incomplete::StartedBefore,
        Missing::Unread => Incomplete::Truncated,
    }
}

impl WholeMessages for MemcachedPairing {}

impl Pairing for MemcachedPairing {
    type Message = MemcachedMessage;

    fn begin(&mut self, joined: bool) {
        *self = MemcachedPairing::new(joined);
    }

    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Verdict {
        if let Some(why) = self.left {
            return Verdict::Leave(why);
        }
        match from {
            Side::Client => self.client_bytes(pos, bytes, queue),
            Side::Server => {
                self.server_spoke = true;
                self.is_turn_cut[1] &= !self.is_asked;
                self.turns.server();
                self.server_bytes(pos, bytes, queue);
            }
        }
        self.left.map_or(Verdict::Continue, Verdict::Leave)
    }

    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing, queue: &mut Queue) -> Verdict {
        if let Some(why) = self.left {
            return Verdict::Leave(why);
        }
        self.has_hole = true;
        match from {
            Side::Client => self.client_missing(pos, len, why, queue),
            Side::Server => self.server_missing(pos, len, why, queue),
        }
        // It may have begun another turn.
        self.has_hole = true;
        Verdict::Continue
    }

    fn settle(&mut self, queue: &mut Queue) -> Verdict {
        if !self.held.is_empty() {
            self.answer_unasked(queue);
        }
        self.left.map_or(Verdict::Continue, Verdict::Leave)
    }

    fn is_in_doubt(&self) -> bool {
        self.client == Client::Lost || self.server == Server::Lost || self.doubt.is_some()
    }

    fn end(&mut self, from: Side, pos: u64, is_all: bool, queue: &mut Queue) {
        self.ended_unseen |= !is_all;
        match from {
            Side::Client => self.client_ended(pos, queue),
            Side::Server => {
                self.end_turn(queue);
                self.answer_unasked(queue);
                if self.is_open
                    && let Some(exchange) = awaiting(queue)
                {
                    exchange.response.end = pos;
                    exchange.mark(match self.ended_unseen {
                        true => Incomplete::Gap,
                        false => Incomplete::ResponseCut,
                    });
                }
                let why = self.doubt.filter(|_| self.server == Server::Lost);
                self.give_up_waiting(Some(why.unwrap_or(Incomplete::NoResponse)), queue);
                self.server = Server::Lost;
            }
        }
    }

    fn finish(&mut self, queue: &mut Queue) {
        self.end_turn(queue);
        if self.server == Server::Lost {
            self.give_up_waiting(self.doubt, queue);
        }
        self.client_ended(self.client_from + self.client_line.len() as u64, queue);
    }
}

impl MemcachedPairing {
    /// A line that is longer than any command, and that nobody would read to its end.
    pub(super) fn is_too_long(line: &[u8]) -> bool {
        line.len() > parse::MAX_LINE
    }
}
