//! The server's half of the pairing: responses, and which request each of them answers.

use super::super::turns::Answer;
use super::super::{Missing, Verdict};
use super::body::{self, Body};
use super::pair::{
    Declared, HEAD_CUT, HEAD_ENDED, HEAD_TOO_LONG, HttpPairing, Lost, MAX_HEAD, NOT_A_REQUEST, NOT_UNTIL_CLOSE, State,
    Step, blank, give_up, may_grow, reason, spoil,
};
use super::parse::{self, Parsed, ResponseHead};
use super::{Exchange, Queue};
use crate::analyze::exchange::{Incomplete, Side};
use crate::analyze::protocol::set_text;

impl HttpPairing {
    pub(super) fn server_step(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        match &mut self.server.state {
            State::Start => self.response_head(here, rest, queue),
            State::Length(left) => {
                let used = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                if *left == 0 {
                    self.response_ended(here + used as u64, queue);
                }
                Step::Used(used)
            }
            State::Maybe(declared) => {
                let declared = *declared;
                match parse::response(rest) {
                    Parsed::Whole(_, used) if parse::is_believable(&rest[..used]) => self.response_ended(here, queue),
                    Parsed::Partial if may_grow(rest, declared, 13) => return Step::More,
                    _ => self.server.state = declared.state(),
                }
                Step::Used(0)
            }
            State::Chunked(chunked) => match chunked.feed(rest) {
                body::Step::More => Step::Used(rest.len()),
                body::Step::Done(used) => {
                    self.response_ended(here + used as u64, queue);
                    Step::Used(used)
                }
                body::Step::Wrong(why, used) => {
                    if let Some(exchange) = queue.awaiting() {
                        spoil(exchange, Incomplete::Malformed, why);
                    }
                    self.server.lose(Incomplete::Malformed, false);
                    Step::Used(used)
                }
            },
            State::UntilClose => self.until_close(here, rest, queue),
            State::Lost(lost) if queue.is_overtaken => {
                // The rest of an answer that is lost.
                lost.tail = None;
                self.skipped += rest.len() as u64;
                Step::Used(rest.len())
            }
            State::Lost(lost) => {
                let answer = self.turns.answer;
                if answer != Answer::No {
                    // Nothing of it was seen so far.
                    (lost.at_line, lost.at_once) = (true, true);
                }
                let lost = *lost;
                match self.seek(Side::Server, lost, rest) {
                    Ok(()) => self.response_found(here, lost, queue),
                    Err(step) => {
                        let has_none = |exchange: &&mut Exchange| !exchange.response.begun;
                        if answer != Answer::No
                            && self.turns.answer == Answer::No
                            && let Some(exchange) = queue.newest().filter(has_none)
                        {
                            // It is answered in the hole, by a part of this at most.
                            exchange.mark(lost.why);
                        }
                        if matches!(step, Step::Used(_)) {
                            behind_interim(here, queue);
                        }
                        step
                    }
                }
            }
            State::Ignore | State::Connect => {
                self.skipped += rest.len() as u64;
                Step::Used(rest.len())
            }
        }
    }

    /// A body that lasts until the connection ends (RFC 9112, 6.3). Some servers forget its length and keep the connection: a
    /// believable head ends it where another request waits. Bodies quote HTTP too: where none waits, that is only noted.
    fn until_close(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        let does_another_wait = queue.waiting() > 1;
        let mut at = 0;
        while let Some(next) = memchr::memchr(b'H', &rest[at..]) {
            at += next;
            let candidate = &rest[at..];
            if parse::may_begin_response(candidate) {
                match parse::response(candidate) {
                    Parsed::Whole(_, used) if used <= MAX_HEAD && parse::is_believable(&candidate[..used]) => {
                        if does_another_wait {
                            self.not_until_close(here + at as u64, at > 0, queue);
                            return Step::Used(at);
                        }
                        self.quotes_head = true;
                    }
                    Parsed::Partial if does_another_wait && candidate.len() < MAX_HEAD => {
                        return if at > 0 { Step::Used(at) } else { Step::More };
                    }
                    _ => {}
                }
            }
            at += 1;
        }
        Step::Used(rest.len())
    }

    /// The next response follows one that should have lasted until the connection ends. `within`: it does not begin what the
    /// server sent at once, and may be a part of the body.
    fn not_until_close(&mut self, end: u64, within: bool, queue: &mut Queue) {
        if let Some(exchange) = queue.awaiting() {
            exchange.response.end = end;
            exchange.closed = true;
            spoil(exchange, Incomplete::Malformed, NOT_UNTIL_CLOSE);
        }
        queue.answer_ended();
        self.server.state = State::Start;
        if within || queue.waiting() > 1 {
            // Sent without waiting: no turn tells where the answers to those begin.
            self.turns.is_pipelined = true;
        }
        self.doubt(Incomplete::Malformed);
    }

    /// A believable head was found while lost. Inside a response it is believed only right behind a hole, or when another
    /// request waits: bodies may quote HTTP.
    pub(super) fn response_found(&mut self, here: u64, lost: Lost, queue: &mut Queue) -> Step {
        let inside = queue.awaiting().is_some_and(|exchange| exchange.response.begun);
        if inside && queue.waiting() < 2 && !lost.at_once {
            self.skipped += 1;
            return Step::Used(1);
        }
        if inside {
            self.response_lost(here, lost, queue);
        }
        self.server.state = State::Start;
        Step::Used(0)
    }

    /// The response that was being read when the direction got lost ends here, or before.
    pub(super) fn response_lost(&mut self, here: u64, lost: Lost, queue: &mut Queue) {
        if let Some(exchange) = queue.awaiting().filter(|exchange| exchange.response.begun) {
            exchange.response.end = here;
            if lost.tail == Some(*b"0\r\n\r\n") && !self.ended_unseen {
                // The last chunk stands right before the end: the size is known after all.
                exchange.response.ended = true;
                exchange.end_unsure = true;
            } else {
                exchange.mark(lost.why);
                exchange.closed = true;
            }
            queue.answer_ended();
        }
        self.doubt(lost.why);
        self.server.state = State::Start;
        self.knows_response_end = false;
    }

    pub(super) fn response_head(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        if self.doubt.is_some() && queue.waiting() == 0 && blank(rest).is_none() {
            // There is an answer too many: what lies behind a hole was not the one that it was taken for.
            self.refute_unsure(queue);
        }
        if !parse::may_begin_response(rest) {
            // HTTP/0.9 answers with the document and nothing else.
            if let Some(exchange) = queue.awaiting().filter(|exchange| exchange.message.version == 9) {
                exchange.response.start = here;
                exchange.response.end = here;
                exchange.response.begun = true;
                self.server.state = State::UntilClose;
                return Step::Used(0);
            }
            if let Some(blank) = blank(rest) {
                return Step::Used(blank);
            }
        }
        match self.last_response.read(rest) {
            Parsed::Whole(head, used) if used <= MAX_HEAD => self.response(here, used, &head, queue),
            Parsed::Partial if rest.len() < MAX_HEAD => Step::More,
            Parsed::Whole(..) | Parsed::Partial => {
                if !self.choose(queue) {
                    return Step::Hold;
                }
                let rest = &rest[..MAX_HEAD];
                cut_response(here, rest, Incomplete::Truncated, HEAD_TOO_LONG, queue);
                self.server.lose(Incomplete::Truncated, false);
                Step::Used(rest.len())
            }
            Parsed::Wrong(_) => {
                if queue.waiting() == 0 && !self.asked && self.doubt.is_none() && !self.force {
                    return Step::Hold;
                }
                if let Some(exchange) = queue.awaiting() {
                    exchange.response.start = here;
                    exchange.response.end = here;
                    exchange.response.begun = true;
                    spoil(exchange, Incomplete::Malformed, "response without a status line");
                }
                self.server.lose(Incomplete::Malformed, false);
                Step::Used(0)
            }
        }
    }

    pub(super) fn response(&mut self, here: u64, used: usize, head: &ResponseHead<'_>, queue: &mut Queue) -> Step {
        let interim = head.is_interim();
        if interim && queue.waiting() == 0 && (self.force || self.doubt.is_some()) {
            self.skipped += used as u64;
            return Step::Used(used);
        }
        if !self.choose(queue) {
            return Step::Hold;
        }
        let alone = queue.waiting() == 1;
        if self.doubt.is_some() && !alone && !queue.is_overtaken {
            // What is found behind a hole may be a request that a body quotes.
            let is_sure = |exchange: &Exchange| {
                self.turns.is_certain(&exchange.request) && exchange.incomplete.is_none() && !exchange.response.ended
            };
            if queue.iter().filter(|exchange| is_sure(exchange)).count() > 1 {
                self.turns.is_pipelined = true;
            }
        }
        let Some(exchange) = queue.awaiting() else {
            return Step::Hold;
        };
        let message = &mut exchange.message;
        if interim {
            message.interim = head.status;
            return Step::Used(used);
        }
        let end = here + used as u64;
        exchange.response.start = here;
        exchange.response.begun = true;
        exchange.response.end = end;
        // Sent unasked too, which shows only when the client does not go on.
        exchange.awaits_turn = exchange.unsure && matches!(head.status, 400 | 408);
        message.status = head.status;
        message.content_type.clone_from(&self.last_response.content_type_text);
        if message.version == 0 {
            message.version = head.version;
        }
        if self.client.state == State::Connect && message.method == "CONNECT" {
            // Refused, or else there is no HTTP any more.
            self.client.state = State::Start;
        }
        // A refused `Expect: 100-continue`: the client may go on with its next request.
        if let State::Length(left) = self.client.state
            && self.open
            && alone
            && self.announced == Some(left)
            && message.interim != 100
        {
            self.client.state = State::Maybe(Declared::Length(left));
        }
        self.turns.answered();
        self.answered = true;
        self.quotes_head = false;
        // RFC 9112, 6.3: an answer to HEAD declares a body, and has none.
        let may_lack = message.method.is_empty();
        let goes_on = |declared: Declared| match may_lack {
            true => State::Maybe(declared),
            false => declared.state(),
        };
        match body::of_response(&message.method, head.status, &head.framing) {
            Body::None => self.response_ended(end, queue),
            Body::Length(length) => {
                exchange.response.end = end.saturating_add(length);
                self.server.state = goes_on(Declared::Length(length));
            }
            Body::Chunked => self.server.state = goes_on(Declared::Chunked),
            Body::UntilClose => self.server.state = goes_on(Declared::UntilClose),
            Body::Tunnel => {
                let verdict = match head.status {
                    101 => {
                        set_text(&mut message.upgrade, head.upgrade);
                        upgraded(head.upgrade)
                    }
                    _ => {
                        set_text(&mut message.upgrade, b"tunnel");
                        Verdict::Tunnel("CONNECT tunnel")
                    }
                };
                exchange.request.ended = true;
                self.response_ended(end, queue);
                return Step::Leave(verdict, used);
            }
            Body::Bad(why) => {
                spoil(exchange, Incomplete::Malformed, why);
                self.server.lose(Incomplete::Malformed, true);
            }
        }
        Step::Used(used)
    }

    /// Makes sure that the oldest awaiting exchange is the one that the response at hand answers. False when that
    /// cannot be said yet.
    pub(super) fn choose(&mut self, queue: &mut Queue) -> bool {
        if self.doubt.is_none() && queue.waiting() > 1 && !queue.is_overtaken {
            self.doubt = self.turns.pipelines();
        }
        let Some(doubt) = self.doubt else {
            match queue.waiting() {
                0 if self.force && self.answered_early(queue) => {}
                0 if self.force => {
                    self.doubt = Some(Incomplete::Gap);
                    self.push_orphan(Incomplete::NoRequest, queue);
                }
                0 => return false,
                _ => {}
            }
            return true;
        };
        if self.is_certain(queue) {
            return true;
        }
        self.learn_pipelining(queue);
        if self.turns.is_pipelined {
            self.give_up_all(doubt, queue);
            self.push_orphan(doubt, queue);
            return true;
        }
        let is_newest = |exchange: &Exchange| exchange.request.begun && !exchange.response.begun;
        let is_whole = queue
            .newest()
            .is_some_and(|newest| is_newest(newest) && newest.incomplete.is_none());
        let answers_newest = queue.waiting() > 0
            && !queue.is_overtaken
            && match self.turns.answer {
                Answer::Due => true,
                // Behind a hole it is only believed of a request of which all is known, and after which nothing was sent.
                Answer::BehindHole => is_whole && self.client.buf.is_empty(),
                Answer::No => false,
            };
        let is_in_hole = self.turns.answer == Answer::BehindHole && queue.waiting() == 1 && !answers_newest;
        while queue.waiting() > usize::from(answers_newest) {
            give_up(queue, doubt);
        }
        let may_hide = self.may_hide_requests(queue);
        match queue.awaiting() {
            Some(exchange) if self.turns.answer == Answer::BehindHole => exchange.unsure = true,
            Some(exchange) if may_hide => exchange.turn_unsure = true,
            Some(exchange) if exchange.incomplete.is_none() => {
                exchange.turn_unsure = false;
                self.doubt = None;
            }
            Some(_) => {}
            None => {
                self.refute_unsure(queue);
                let before = doubt == Incomplete::StartedBefore && self.asked;
                let has_none = before || is_in_hole;
                self.push_orphan(if has_none { Incomplete::NoRequest } else { doubt }, queue);
            }
        }
        true
    }

    /// Whether what the server sends next answers the oldest request that waits, whatever is lost of the client.
    pub(super) fn is_certain(&self, queue: &mut Queue) -> bool {
        queue
            .awaiting()
            .is_some_and(|exchange| self.turns.is_certain(&exchange.request))
    }

    /// Whether requests of the client's present turn may be lost, as far as causal order shows.
    pub(super) fn may_hide_requests(&self, queue: &Queue) -> bool {
        self.turns.is_hidden() && queue.is_in_order
    }

    /// Where all comes in causal order, several requests wait only if the client does not.
    pub(super) fn learn_pipelining(&mut self, queue: &mut Queue) {
        if queue.is_in_order && queue.waiting() > 1 && !queue.is_overtaken {
            // Not those that stand for a hole: its place among the answers is not certain.
            let seen = queue.waiting_mut().filter(|exchange| exchange.incomplete.is_none());
            if seen.count() > 1 {
                self.turns.is_pipelined = true;
            }
        }
    }

    /// What lies behind a hole was not the answer that it was taken for.
    fn refute_unsure(&mut self, queue: &mut Queue) {
        if queue.iter().any(|exchange| exchange.turn_unsure) {
            self.turns.is_pipelined = true;
        }
        queue.refute_unsure(|_| true);
    }

    /// A response whose request was not seen gets an exchange of its own.
    pub(super) fn push_orphan(&mut self, why: Incomplete, queue: &mut Queue) {
        // Only a client that goes on sending a request after its response can be here with an open one.
        self.with_open(queue, |exchange| exchange.mark(Incomplete::Malformed));
        self.open = false;
        let exchange = queue.open();
        exchange.message.clear();
        match why {
            Incomplete::Malformed => spoil(exchange, why, NOT_A_REQUEST),
            _ => exchange.mark(why),
        }
    }

    pub(super) fn response_ended(&mut self, end: u64, queue: &mut Queue) {
        if let Some(exchange) = queue.awaiting() {
            exchange.response.end = end;
            exchange.response.ended = true;
        }
        queue.answer_ended();
        if self.doubt.is_none() && queue.waiting() == 0 {
            self.turns.all_answered();
        }
        self.server.state = State::Start;
        self.knows_response_end = true;
    }

    pub(super) fn response_missing(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        let reason = reason(why);
        self.server.believe_body();
        self.believe_kept_response(queue);
        let start = match &mut self.server.state {
            State::Length(left) if *left >= len => {
                let left = *left - len;
                self.server.state = State::Length(left);
                if left == 0 {
                    self.response_ended(pos.saturating_add(len), queue);
                }
                return;
            }
            State::Length(left) => {
                let end = pos.saturating_add(*left);
                self.response_ended(end, queue);
                Some(end)
            }
            State::Chunked(chunked) => {
                if chunked.skip(len) {
                    return;
                }
                self.server.state = State::Lost(Lost {
                    why: reason,
                    at_line: true,
                    at_once: true,
                    behind_hole: true,
                    tail: Some([0; 5]),
                });
                self.doubt(reason);
                self.answers_missing(reason, queue);
                return;
            }
            State::Start => Some(pos),
            State::Lost(lost) => {
                lost.at_line = true;
                lost.at_once = true;
                lost.tail = lost.tail.map(|_| [0; 5]);
                self.skipped += self.server.buf.len() as u64;
                self.server.buf.clear();
                None
            }
            State::UntilClose | State::Ignore | State::Connect | State::Maybe(_) => return,
        };
        let buf = std::mem::take(&mut self.server.buf);
        let was_in_doubt = self.doubt.is_some();
        // The hole lies in this exchange: it stands where its bytes were, or right behind the response before, or the client has
        // gone on with what is no request.
        let is_known = std::mem::take(&mut self.knows_response_end) && start.is_some();
        let goes_on = matches!(self.client.state, State::Lost(lost) if lost.why == Incomplete::Malformed);
        let is_of_newest = match queue.waiting() {
            0 => false,
            1 => queue.is_in_order || goes_on || (is_known && !was_in_doubt),
            // Those before it are of earlier turns, and wait in vain.
            _ => queue.is_in_order && self.turns.has_one_request(),
        };
        self.doubt(reason);
        let mut is_interim = false;
        if let Some(pos) = start {
            let status = parse::response_prefix(&buf).status;
            if (queue.waiting() == 0 || was_in_doubt) && status != 0 {
                self.choose(queue);
                self.doubt(reason);
            }
            // Whose answer a head is that was lost from its first byte on is seen from what comes behind it.
            let is_known = !buf.is_empty() || why == Missing::Unread;
            if is_known && why != Missing::Before && queue.waiting() > 0 {
                let start = if buf.is_empty() { pos } else { self.server.buf_pos };
                is_interim = cut_response(start, &buf, reason, HEAD_CUT, queue);
                // With another request behind it, this is not the answer to the newest.
                if queue.waiting() == 1 {
                    self.turns.answer = Answer::No;
                }
            } else {
                self.skipped += buf.len() as u64;
            }
            self.server.lose(reason, true);
        }
        self.answers_missing(reason, queue);
        if is_interim {
            self.turns.answer = Answer::Due;
        }
        if is_of_newest
            && why != Missing::Before
            && self.turns.answer == Answer::BehindHole
            && let Some(exchange) = queue.newest()
        {
            // Its whole response may be in there: what comes behind it is perhaps sent unasked (a 408 before the server closes
            // an idle connection), or through a tunnel.
            exchange.mark(reason);
        }
    }

    /// Answers may begin in a hole.
    fn answers_missing(&mut self, reason: Incomplete, queue: &mut Queue) {
        self.turns.server_missing(queue.is_overtaken);
        if !queue.is_overtaken {
            // It may have hidden the answer that was one too many.
            queue.refute_unsure(|exchange| exchange.turn_unsure);
            self.learn_pipelining(queue);
        }
        if self.turns.is_pipelined {
            // Which of them are answered in the hole cannot be said.
            queue.waiting_mut().for_each(|exchange| exchange.mark(reason));
        } else {
            // It asks again only when it has the answer.
            while queue.waiting() > 1 {
                give_up(queue, reason);
            }
        }
    }

    /// The rest of what was kept while lost does not come: it is the response that it looks like the beginning of, unless a
    /// body may quote it.
    fn believe_kept_response(&mut self, queue: &mut Queue) {
        let inside = queue.awaiting().is_some_and(|exchange| exchange.response.begun);
        let is_kept = parse::response_prefix(&self.server.buf).status != 0;
        if matches!(self.server.state, State::Lost(_)) && is_kept && !inside {
            self.server.state = State::Start;
        }
    }

    /// No more comes of the head that has begun, if one has: what is there of it is the response.
    pub(super) fn response_head_ended(&mut self, problem: &'static str, queue: &mut Queue) {
        self.believe_kept_response(queue);
        if self.server.state != State::Start || self.server.buf.is_empty() {
            return;
        }
        let buf = std::mem::take(&mut self.server.buf);
        let says_status = parse::response_prefix(&buf).status != 0;
        if (queue.waiting() > 0 || says_status) && self.choose(queue) {
            cut_response(self.server.buf_pos, &buf, Incomplete::ResponseCut, problem, queue);
            give_up(queue, Incomplete::ResponseCut);
        }
    }

    pub(super) fn server_end(&mut self, pos: u64, is_all: bool, queue: &mut Queue) {
        self.server.believe_body();
        self.response_head_ended(HEAD_ENDED, queue);
        match self.server.state {
            State::UntilClose => {
                let may_hide_another = self.quotes_head && queue.waiting() > 1;
                if let Some(exchange) = queue.awaiting() {
                    if may_hide_another {
                        // The request was told of later than its response.
                        spoil(exchange, Incomplete::Malformed, NOT_UNTIL_CLOSE);
                    } else if !is_all {
                        exchange.mark(Incomplete::ResponseCut);
                    }
                }
                self.response_ended(pos, queue);
            }
            State::Length(_) | State::Chunked(_) => {
                if let Some(exchange) = queue.awaiting() {
                    exchange.response.end = pos;
                    exchange.closed = true;
                    exchange.mark(Incomplete::ResponseCut);
                }
                queue.answer_ended();
            }
            State::Lost(lost) => self.response_lost(pos, lost, queue),
            State::Start | State::Ignore | State::Connect | State::Maybe(_) => {}
        }
        self.server.buf.clear();
        self.server.state = State::Ignore;
        self.server_ended = true;
        // Nothing is answered any more, whatever it is.
        let _ = self.await_no_answer(queue);
        self.close_waiting(queue);
    }
}

/// A response of which only the beginning of the head can be read; maybe nothing at all. True when it is an interim one,
/// and the final one is still to come.
fn cut_response(here: u64, bytes: &[u8], why: Incomplete, problem: &'static str, queue: &mut Queue) -> bool {
    if let Some(exchange) = queue.awaiting() {
        spoil(exchange, why, problem);
        let head = parse::response_prefix(bytes);
        if head.is_interim() {
            exchange.message.interim = head.status;
            return true;
        }
        exchange.response.start = here;
        exchange.response.begun = true;
        exchange.response.end = here + bytes.len() as u64;
        let message = &mut exchange.message;
        message.status = head.status;
        set_text(&mut message.content_type, head.content_type);
    }
    false
}

/// The final response stands right behind a cut interim one, or the hole hides its head, and this is its body.
fn behind_interim(here: u64, queue: &mut Queue) {
    if let Some(exchange) = queue.awaiting().filter(|exchange| exchange.incomplete.is_some())
        && !exchange.response.begun
        && exchange.message.interim != 0
    {
        exchange.response.start = here;
        exchange.response.end = here;
        exchange.response.begun = true;
    }
}

/// What follows a 101 answer; of what is not known here the first bytes tell.
fn upgraded(upgrade: &[u8]) -> Verdict {
    const KNOWN: [(&[u8], Verdict); 4] = [
        (b"websocket", Verdict::Leave("WebSocket")),
        (b"h2c", Verdict::Leave("HTTP/2")),
        (b"tls", Verdict::Leave("TLS")),
        (b"tcp", Verdict::Tunnel("raw stream")),
    ];
    let upgrade = upgrade.trim_ascii();
    KNOWN
        .iter()
        .find(|(name, _)| {
            upgrade
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
        .map_or(Verdict::Tunnel("upgraded protocol"), |(_, verdict)| *verdict)
}
