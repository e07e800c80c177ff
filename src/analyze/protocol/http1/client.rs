//! The client's half of the pairing: requests.

use super::super::turns::Answer;
use super::super::{Missing, Piece, Verdict};
use super::body::{self, Body, Chunked};
use super::head_cache;
use super::message::Known;
use super::pair::{
    Declared, HEAD_ANSWERED, HEAD_CUT, HEAD_ENDED, HEAD_TOO_LONG, HttpPairing, Lost, MAX_HEAD, State, Step, blank,
    give_up, may_grow, reason, spoil,
};
use super::parse::{self, Line, Parsed, RequestHead, Wrong};
use super::{Exchange, Queue};
use crate::analyze::exchange::{Incomplete, MAX_WAITING, Message, Side, Span};

/// Whether the declared body stands here, right before a request of a method that is known.
fn is_body_then_request(rest: &[u8], declared: Declared) -> bool {
    let length = declared.length().and_then(|length| usize::try_from(length).ok());
    let Some(behind) = length.and_then(|length| rest.get(length..)) else {
        return false;
    };
    parse::begins_with_known_method(behind)
        && parse::request_line(behind) == Line::Whole
        && !parse::begins_with_known_method(rest)
}

impl HttpPairing {
    pub(super) fn client_step(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        match &mut self.client.state {
            State::Start => self.request_head(here, rest, queue),
            State::Length(left) => {
                let used = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                if *left == 0 {
                    self.request_ended(here + used as u64, queue);
                }
                Step::Used(used)
            }
            State::Maybe(declared) => {
                let declared = *declared;
                match (parse::request_line(rest), parse::request(rest)) {
                    // The client sent it before it had the answer: its end looks like the beginning of a method.
                    _ if is_body_then_request(rest, declared) => self.client.state = declared.state(),
                    (Line::Whole, Parsed::Whole(..)) => self.request_ended(here, queue),
                    (Line::Whole | Line::Begun, Parsed::Partial) if may_grow(rest, declared, 0) => return Step::More,
                    (Line::Perhaps, Parsed::Partial) if may_grow(rest, declared, MAX_HEAD) => return Step::More,
                    _ => self.client.state = declared.state(),
                }
                Step::Used(0)
            }
            State::Chunked(chunked) => match chunked.feed(rest) {
                body::Step::More => Step::Used(rest.len()),
                body::Step::Done(used) => {
                    self.request_ended(here + used as u64, queue);
                    Step::Used(used)
                }
                body::Step::Wrong(why, used) => {
                    self.with_open(queue, |exchange| spoil(exchange, Incomplete::Malformed, why));
                    self.client.lose(Incomplete::Malformed, false);
                    self.doubt(Incomplete::Malformed);
                    Step::Used(used)
                }
            },
            State::Lost(lost) => {
                let lost = *lost;
                match self.seek(Side::Client, lost, rest) {
                    Ok(()) => {
                        self.client.state = State::Start;
                        self.open = false;
                        Step::Used(0)
                    }
                    Err(step) => {
                        // What it said since the last answer is there, and is no request.
                        let is_none = lost.at_line && matches!(step, Step::Used(used) if used == rest.len());
                        if is_none && self.answered && self.doubt == Some(Incomplete::StartedBefore) {
                            self.doubt = Some(Incomplete::Malformed);
                        }
                        step
                    }
                }
            }
            State::Connect if self.turns.answer == Answer::BehindHole => {
                // What it says goes through a tunnel, or it was refused: the same where it is HTTP.
                if parse::request_line(rest) == Line::No {
                    return Step::Leave(Verdict::Tunnel("CONNECT tunnel"), 0);
                }
                self.client.state = State::Start;
                Step::Used(0)
            }
            State::Connect => {
                self.early.push(Piece::Bytes(here, rest.to_vec()));
                Step::Used(rest.len())
            }
            State::UntilClose | State::Ignore => {
                self.skipped += rest.len() as u64;
                Step::Used(rest.len())
            }
        }
    }

    pub(super) fn request_head(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        // RFC 9112, 2.2: an empty line before the request line is to be ignored.
        if let Some(blank) = blank(rest) {
            return Step::Used(blank);
        }
        let (parsed, known) = head_cache::request(rest);
        match parsed {
            Parsed::Whole(head, used) if used <= MAX_HEAD => {
                if head.version == 9 && (self.asked || self.doubt.is_some()) {
                    return self.malformed_request(here, rest, "request line without a version", queue);
                }
                self.request(here, used, (&head, known), queue);
                Step::Used(used)
            }
            Parsed::Partial if rest.len() < MAX_HEAD => Step::More,
            Parsed::Whole(..) | Parsed::Partial => {
                let rest = &rest[..MAX_HEAD];
                self.cut_request(here, rest, Incomplete::Truncated, HEAD_TOO_LONG, queue);
                self.client.lose(Incomplete::Truncated, false);
                Step::Used(rest.len())
            }
            Parsed::Wrong(Wrong::Http2) => Step::Leave(Verdict::Mistaken("HTTP/2"), 0),
            Parsed::Wrong(Wrong::Line(why)) => self.malformed_request(here, rest, why, queue),
            Parsed::Wrong(Wrong::Foreign) => {
                self.client.lose(Incomplete::Malformed, false);
                self.doubt(Incomplete::Malformed);
                Step::Used(0)
            }
        }
    }

    fn request(&mut self, here: u64, used: usize, (head, known): (&RequestHead<'_>, Known), queue: &mut Queue) {
        self.before_request(queue);
        let end = here + used as u64;
        let exchange = queue.open();
        exchange.request = Span {
            start: here,
            end,
            begun: true,
            ended: false,
            ..Span::default()
        };
        let message = &mut exchange.message;
        message.clear_response();
        message.ask(head, known);
        self.announced = None;
        self.open = true;
        self.client.state = match body::of_request(&head.framing) {
            _ if head.version == 9 => {
                exchange.request.ended = true;
                self.open = false;
                State::Ignore
            }
            Body::Length(length) => {
                exchange.request.end = end.saturating_add(length);
                self.announced = head.expects.then_some(length);
                State::Length(length)
            }
            Body::Chunked => State::Chunked(Chunked::default()),
            Body::Bad(why) => {
                spoil(exchange, Incomplete::Malformed, why);
                self.doubt(Incomplete::Malformed);
                State::Lost(Lost {
                    why: Incomplete::Malformed,
                    at_line: true,
                    at_once: true,
                    behind_hole: false,
                    tail: None,
                })
            }
            Body::None | Body::UntilClose | Body::Tunnel => {
                exchange.request.ended = true;
                self.open = false;
                match head.method {
                    b"CONNECT" => State::Connect,
                    _ => State::Start,
                }
            }
        };
    }

    /// A request line that breaks the rules: a row of its own, for the server answers it.
    pub(super) fn malformed_request(&mut self, here: u64, rest: &[u8], why: &'static str, queue: &mut Queue) -> Step {
        self.cut_request(here, rest, Incomplete::Malformed, why, queue);
        self.client.lose(Incomplete::Malformed, false);
        Step::Used(0)
    }

    /// A request of which only the beginning of the head can be read; maybe nothing at all.
    pub(super) fn cut_request(
        &mut self,
        here: u64,
        bytes: &[u8],
        why: Incomplete,
        problem: &'static str,
        queue: &mut Queue,
    ) {
        self.before_request(queue);
        let exchange = queue.open();
        exchange.request = Span {
            start: here,
            end: here + bytes.len() as u64,
            begun: true,
            ended: false,
            ..Span::default()
        };
        let message = &mut exchange.message;
        message.clear_response();
        message.ask(&parse::request_prefix(bytes), Known(0));
        if parse::is_target_cut(bytes) {
            // Half an authority is a wrong host.
            message.host.clear();
            message.is_target_cut = true;
        }
        spoil(exchange, why, problem);
        self.open = true;
        self.doubt(why);
    }

    /// The server answers a head before its end (it waited too long, or has seen enough): what is there of it is the
    /// request. False when there is none.
    pub(super) fn answered_early(&mut self, queue: &mut Queue) -> bool {
        if self.client.state != State::Start || parse::request_prefix(&self.client.buf).method.is_empty() {
            return false;
        }
        let buf = std::mem::take(&mut self.client.buf);
        self.cut_request(self.client.buf_pos, &buf, Incomplete::Malformed, HEAD_ANSWERED, queue);
        self.client.lose(Incomplete::Malformed, false);
        true
    }

    /// A request is about to join the queue.
    pub(super) fn before_request(&mut self, queue: &mut Queue) {
        if queue.waiting() >= MAX_WAITING {
            if self.server.state != State::Start {
                self.server.lose(Incomplete::TooMany, false);
            }
            give_up(queue, Incomplete::TooMany);
            self.doubt(Incomplete::TooMany);
        }
        if self.in_call
            && let Some(why) = self.turns.pipelines()
        {
            self.doubt(why);
        }
        if let State::Maybe(declared) = self.server.state
            && self.server.buf.is_empty()
            && !self.turns.is_pipelined
        {
            // The client has what it waited for: there was no body.
            let end = queue.awaiting().map_or(0, |exchange| {
                exchange.response.end.saturating_sub(declared.length().unwrap_or(0))
            });
            self.response_ended(end, queue);
        }
        let begins_turn = self.turns.request();
        if begins_turn && (self.doubt.is_some() || queue.is_in_order) {
            self.turns.begins_in_order();
        }
        if begins_turn && self.doubt.is_some() && !self.may_hide_requests(queue) {
            self.resume(queue);
        }
        self.in_call = true;
        self.asked = true;
        self.server.turn();
    }

    pub(super) fn request_ended(&mut self, end: u64, queue: &mut Queue) {
        self.with_open(queue, |exchange| {
            exchange.request.end = end;
            exchange.request.ended = true;
        });
        self.open = false;
        self.client.state = State::Start;
    }

    /// The exchange whose request is being read.
    pub(super) fn with_open(&mut self, queue: &mut Queue, change: impl FnOnce(&mut Exchange)) {
        if self.open
            && let Some(exchange) = queue.newest()
        {
            change(exchange);
        }
    }

    pub(super) fn doubt(&mut self, why: Incomplete) {
        self.doubt.get_or_insert(why);
    }

    /// None of the requests that wait is answered any more, as far as can be said.
    pub(super) fn give_up_all(&mut self, why: Incomplete, queue: &mut Queue) {
        while queue.waiting() > 0 {
            give_up(queue, why);
        }
    }

    /// The client begins to speak, and what it asked before is in doubt: that is over.
    fn resume(&mut self, queue: &mut Queue) {
        let Some(doubt) = self.doubt else { return };
        if self.is_certain(queue) {
            return;
        }
        let is_answered = queue.waiting() == 0 && self.turns.was_answered();
        if let State::Lost(lost) = self.server.state {
            self.response_lost(self.server_at, lost, queue);
        }
        if queue.waiting() > 0 || self.server.state != State::Start || !self.server.buf.is_empty() {
            self.knows_response_end = false;
        }
        self.give_up_all(doubt, queue);
        self.skipped += self.server.buf.len() as u64;
        self.server.buf.clear();
        if !matches!(self.server.state, State::Ignore | State::UntilClose) {
            self.server.state = State::Start;
        }
        if self.turns.resume(is_answered) {
            self.doubt = None;
        }
    }

    pub(super) fn request_missing(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        let reason = reason(why);
        self.client.believe_body();
        self.believe_kept_request();
        let lost_at = match &mut self.client.state {
            State::Length(left) if *left >= len => {
                let left = *left - len;
                self.client.state = State::Length(left);
                if left == 0 {
                    self.request_ended(pos.saturating_add(len), queue);
                }
                return;
            }
            State::Length(left) => {
                let end = pos.saturating_add(*left);
                self.request_ended(end, queue);
                Some(end)
            }
            State::Chunked(chunked) => {
                if chunked.skip(len) {
                    return;
                }
                self.with_open(queue, |exchange| exchange.mark(reason));
                None
            }
            State::Start => Some(pos),
            State::Lost(_) => None,
            State::Ignore | State::UntilClose | State::Connect | State::Maybe(_) => return,
        };
        self.learn_pipelining(queue);
        if self.doubt.is_none() {
            self.turns.certain_upto(lost_at.unwrap_or(pos));
        }
        let buf = std::mem::take(&mut self.client.buf);
        match lost_at {
            // At least one request begins here, or began in the buffer.
            Some(pos) if why != Missing::Before => {
                let start = if buf.is_empty() { pos } else { self.client.buf_pos };
                self.cut_request(start, &buf, reason, HEAD_CUT, queue);
            }
            _ => self.skipped += buf.len() as u64,
        }
        self.client.lose(reason, true);
        self.doubt(reason);
        self.turns.client_missing();
        self.knows_response_end = false;
    }

    /// The rest of what was kept while lost does not come: it is the request that it looks like the beginning of.
    fn believe_kept_request(&mut self) {
        if matches!(self.client.state, State::Lost(_)) && parse::request_line(&self.client.buf) == Line::Whole {
            self.client.state = State::Start;
            self.open = false;
        }
    }

    /// No more comes of the head that has begun, if one has: what is there of it is the request.
    pub(super) fn request_head_ended(&mut self, why: Incomplete, problem: &'static str, queue: &mut Queue) -> bool {
        self.believe_kept_request();
        if self.client.state != State::Start || self.client.buf.is_empty() {
            return false;
        }
        let buf = std::mem::take(&mut self.client.buf);
        self.cut_request(self.client.buf_pos, &buf, why, problem, queue);
        true
    }

    pub(super) fn client_end(&mut self, pos: u64, is_all: bool, queue: &mut Queue) {
        if self.request_head_ended(Incomplete::Malformed, HEAD_ENDED, queue) {
            self.request_ended(pos, queue);
        }
        match self.client.state {
            // An early response is the usual reason to stop in a body; its last byte is the last that was sent.
            State::Length(_) | State::Maybe(_) | State::Chunked(_) => {
                if !is_all {
                    self.with_open(queue, |exchange| exchange.mark(Incomplete::RequestCut));
                }
                self.request_ended(pos, queue);
            }
            _ => {}
        }
        self.client.buf.clear();
        self.client.state = State::Ignore;
    }
}
