//! Two streams of one connection become exchanges.
//!
//! Each direction is a small state machine: a head, its body, the next head. Requests queue up, responses answer them
//! in order (RFC 9112, 9.3.2). A response needs the method of its request, so it waits when it comes first. A whole
//! head in one slice is read in place; only heads that are split are copied, and bodies never are.
//!
//! After a hole that may have hidden the start of a message the pairing is *in doubt*: a client that was never seen to
//! pipeline has at most one request under way, so all is certain again where it begins to speak ([`turns`](super::super::turns));
//! where a client does pipeline, every pair is marked until a turn went by without a hole.

use super::super::turns::{Answer, Turns};
use super::super::{Missing, Pairing, Piece, Verdict};
use super::body::Chunked;
use super::head_cache::LastResponse;
use super::held::Held;
use super::message::HttpMessage;
use super::parse::{self, Line, Parsed};
use super::{Exchange, Queue};
use crate::analyze::exchange::{Incomplete, Side};

/// The longest head that is read. Servers refuse far shorter ones (8 to 48 KiB).
pub const MAX_HEAD: usize = 64 << 10;

pub(super) const HEAD_TOO_LONG: &str = "head longer than 64 KiB";
pub(super) const HEAD_CUT: &str = "head not captured in full";
pub(super) const HEAD_ENDED: &str = "connection ended within the head";
pub(super) const HEAD_UNFINISHED: &str = "capture ended within the head";
pub(super) const NOT_A_REQUEST: &str = "answer to bytes that are no request";
pub(super) const NOT_UNTIL_CLOSE: &str = "response without a length did not end with the connection";
pub(super) const HEAD_ANSWERED: &str = "answered before the head was complete";

/// Where in its stream one direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Before, or inside, the head of a message.
    Start,
    /// Inside a body with so many bytes to come.
    Length(u64),
    /// After a head that declares a body, which may not be there at all: the method of the request is unknown (HEAD?), or
    /// the server refused the body that `Expect: 100-continue` announced. What looks like the next head is taken for it.
    Maybe(Declared),
    Chunked(Chunked),
    /// Inside a response that ends with the connection.
    UntilClose,
    /// After CONNECT: what the client says is HTTP only if the server refuses. It is kept until the answer is read.
    Connect,
    /// Looking for the next believable start.
    Lost(Lost),
    /// Nothing more of interest.
    Ignore,
}

/// The body that a head declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Declared {
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Declared::Length(length) => Some(length),
            Declared::Chunked | Declared::UntilClose => None,
        }
    }

    /// Where the direction is once it is sure that the body is there.
    pub(super) fn state(self) -> State {
        match self {
            Declared::Length(length) => State::Length(length),
            Declared::Chunked => State::Chunked(Chunked::default()),
            Declared::UntilClose => State::UntilClose,
        }
    }
}

/// How a direction got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) why: Incomplete,
    /// The next byte may begin a message: it follows a line end, a hole, or what the other side said.
    pub(super) at_line: bool,
    /// Nothing was skipped since.
    pub(super) at_once: bool,
    /// It follows a hole, which may have ended within a word.
    pub(super) behind_hole: bool,
    /// It was in a chunked body; the last bytes seen tell whether that was over.
    pub(super) tail: Option<[u8; 5]>,
}

impl Lost {
    /// Nothing was seen before, or the other side was the last to speak; no hole lies between.
    fn is_at_turn(&self) -> bool {
        self.why == Incomplete::StartedBefore && self.at_line && self.at_once
    }
}

#[derive(Debug)]
pub(super) struct Half {
    pub(super) state: State,
    /// The beginning of a head whose end is not there yet.
    pub(super) buf: Vec<u8>,
    /// Position of the first byte of `buf`.
    pub(super) buf_pos: u64,
    /// `buf` holds a line end.
    pub(super) lined: bool,
    /// The other side spoke after what `buf` holds, while this one was lost.
    pub(super) turned: bool,
}

impl Default for Half {
    fn default() -> Self {
        Half {
            state: State::Start,
            buf: Vec::new(),
            buf_pos: 0,
            lined: false,
            turned: false,
        }
    }
}

impl Half {
    /// No head can be told from a body that is not seen: it is there.
    pub(super) fn believe_body(&mut self) {
        if let State::Maybe(declared) = self.state {
            self.state = declared.state();
        }
        if self.state == State::UntilClose {
            self.buf.clear();
        }
    }

    fn keep(&mut self, pos: u64, bytes: &[u8]) {
        self.buf_pos = pos;
        self.turned = false;
        self.lined = memchr::memchr(b'\n', bytes).is_some();
        self.buf.extend_from_slice(bytes);
    }

    /// While lost, what was kept of the client may be the end of a body that looks like a method. Whether that is so, and a
    /// request begins with these bytes.
    fn kept_is_over(&mut self, bytes: &[u8]) -> bool {
        let has_turned = std::mem::take(&mut self.turned);
        if self.lined || !matches!(self.state, State::Lost(_)) {
            return false;
        }
        let line = parse::request_line(bytes);
        let line_end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1);
        let fits_behind = || parse::request_line(&[&self.buf, &bytes[..line_end]].concat()) != Line::No;
        // Without a turn that was seen, only what begins with a method that is known.
        let begins_anew = line == Line::Whole && parse::begins_with_known_method(bytes);
        (has_turned && line != Line::No) || (begins_anew && !fits_behind())
    }

    /// The other side spoke: what comes next may begin a message.
    pub(super) fn turn(&mut self) {
        if let State::Lost(lost) = &mut self.state {
            lost.at_line = true;
            lost.at_once = true;
            lost.behind_hole &= !self.buf.is_empty();
            self.turned = !self.buf.is_empty();
        }
    }

    pub(super) fn lose(&mut self, why: Incomplete, at_line: bool) {
        self.state = State::Lost(Lost {
            why,
            at_line,
            at_once: at_line,
            behind_hole: why != Incomplete::Malformed,
            tail: None,
        });
    }
}

/// What one step made of the bytes it was given.
pub(super) enum Step {
    Used(usize),
    /// The rest is the beginning of a head.
    More,
    /// A response whose request is not there yet.
    Hold,
    /// No HTTP follows after so many bytes.
    Leave(Verdict, usize),
}

/// How far a slice was read.
enum Run {
    /// What is left after so many bytes is the beginning of a head.
    Upto(usize),
    Hold(usize),
    Leave(Verdict, usize),
}

/// The same, for the caller who has the slice.
enum Fate {
    Done,
    Held(Piece),
    /// With what is not read.
    Leave(Verdict, Piece),
}

/// The HTTP/1.x state of one connection.
#[derive(Debug, Default)]
pub struct HttpPairing {
    pub(super) client: Half,
    pub(super) server: Half,
    pub(super) last_response: LastResponse,
    pub(super) held: Held,
    /// What the client said after CONNECT.
    pub(super) early: Held,
    /// What was given and is no HTTP.
    rest: Vec<(Side, Piece)>,
    /// What is held must be decided now.
    pub(super) force: bool,
    /// Why the next response may not answer the oldest request; `None` when it surely does.
    pub(super) doubt: Option<Incomplete>,
    pub(super) turns: Turns,
    /// Position after what the server has sent, as far as it was read here.
    pub(super) server_at: u64,
    /// A request was seen in the present call.
    pub(super) in_call: bool,
    /// A request was seen at all.
    pub(super) asked: bool,
    /// The server was seen to send anything at all.
    pub(super) server_spoke: bool,
    /// A final response was seen.
    pub(super) answered: bool,
    /// All requests so far were seen, but for the newest all are answered, and where the last response ended is known.
    pub(super) knows_response_end: bool,
    /// The newest exchange's request is still being read.
    pub(super) open: bool,
    /// Its declared length, when it said `Expect: 100-continue`.
    pub(super) announced: Option<u64>,
    /// The response at hand lasts until the connection ends, and what looks like another one was seen in it.
    pub(super) quotes_head: bool,
    pub(super) server_ended: bool,
    /// One side has ended, and its last bytes were not seen.
    pub(super) ended_unseen: bool,
    pub(super) left: bool,
    pub(super) skipped: u64,
}

impl HttpPairing {
    /// A connection from its first byte on; or, `joined`, from somewhere in its middle: then both directions look for
    /// the next believable start.
    pub fn new(joined: bool) -> Self {
        let mut pairing = Self::default();
        pairing.begin(joined);
        pairing
    }

    /// Bytes that belong to no message that was understood.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn half(&mut self, from: Side) -> &mut Half {
        match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    // ---- one direction's bytes -------------------------------------------------------------------------------

    /// Reads what `from` sent, through the buffer when that holds the beginning of a head.
    fn deliver(&mut self, from: Side, mut pos: u64, mut bytes: &[u8], queue: &mut Queue) -> Fate {
        if from == Side::Server {
            self.turns.server();
            self.server_speaks(pos + bytes.len() as u64);
        }
        while !bytes.is_empty() {
            if self.half(from).buf.is_empty() {
                return match self.run(from, pos, bytes, queue) {
                    Run::Upto(used) => {
                        if used < bytes.len() {
                            self.half(from).keep(pos + used as u64, &bytes[used..]);
                        }
                        Fate::Done
                    }
                    Run::Hold(used) => Fate::Held(Piece::Bytes(pos + used as u64, bytes[used..].to_vec())),
                    Run::Leave(verdict, used) => {
                        Fate::Leave(verdict, Piece::Bytes(pos + used as u64, bytes[used..].to_vec()))
                    }
                };
            }
            let half = self.half(from);
            if from == Side::Client && half.kept_is_over(bytes) {
                let kept = std::mem::take(&mut half.buf).len();
                half.turn();
                self.skipped += kept as u64;
                continue;
            }
            let half = self.half(from);
            let had = half.buf.len();
            let taken = bytes.len().min(MAX_HEAD.saturating_sub(had)).max(1);
            half.buf.extend_from_slice(&bytes[..taken]);
            let end = parse::head_end(&half.buf, had).filter(|end| *end > had);
            let first_line = !half.lined && memchr::memchr(b'\n', &bytes[..taken]).is_some();
            if end.is_none() && !first_line && half.buf.len() < MAX_HEAD {
                return Fate::Done;
            }
            let end = end.unwrap_or(half.buf.len());
            half.buf.truncate(end);
            (pos, bytes) = (pos + (end - had) as u64, &bytes[end - had..]);
            let (buf_pos, mut buf) = (half.buf_pos, std::mem::take(&mut half.buf));
            let run = self.run(from, buf_pos, &buf, queue);
            match run {
                Run::Upto(used) => {
                    buf.drain(..used);
                    let half = self.half(from);
                    half.lined = memchr::memchr(b'\n', &buf).is_some();
                    half.buf_pos = buf_pos + used as u64;
                    half.buf = buf;
                }
                Run::Hold(used) => {
                    buf.drain(..used);
                    buf.extend_from_slice(bytes);
                    return Fate::Held(Piece::Bytes(buf_pos + used as u64, buf));
                }
                Run::Leave(verdict, used) => {
                    buf.drain(..used);
                    buf.extend_from_slice(bytes);
                    return Fate::Leave(verdict, Piece::Bytes(buf_pos + used as u64, buf));
                }
            }
        }
        Fate::Done
    }

    fn run(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Run {
        let mut at = 0;
        while at < bytes.len() {
            let (here, rest) = (pos + at as u64, &bytes[at..]);
            let step = match from {
                Side::Client => self.client_step(here, rest, queue),
                Side::Server => self.server_step(here, rest, queue),
            };
            match step {
                Step::Used(used) => at += used,
                Step::More => break,
                Step::Hold => return Run::Hold(at),
                Step::Leave(verdict, used) => return Run::Leave(verdict, at + used),
            }
        }
        Run::Upto(at)
    }

    /// Looks for the next bytes that begin like a message: a request at the start of a line, or where the client
    /// begins to speak again; a response anywhere (bodies seldom end with a line). `Ok` when `rest` begins with a
    /// whole, believable head.
    pub(super) fn seek(&mut self, from: Side, lost: Lost, rest: &[u8]) -> Result<(), Step> {
        let (mut at, mut at_line) = (0, lost.at_line);
        let anywhere = self.turns.is_pipelined
            || lost.why == Incomplete::Malformed
            || match from {
                Side::Client => !self.server_spoke,
                Side::Server => !self.asked,
            };
        while at < rest.len() {
            if at_line {
                let candidate = &rest[at..];
                let head = match from {
                    // What the client begins to say, and the server answers, though it breaks the rules.
                    Side::Client if at == 0 && lost.is_at_turn() && parse::is_malformed(candidate) => return Ok(()),
                    Side::Client => match parse::request_line(candidate) {
                        Line::No => Candidate::None,
                        Line::Begun | Line::Perhaps => Candidate::Partial,
                        Line::Whole if at == 0 && lost.behind_hole && parse::is_rest_of_method(candidate) => {
                            Candidate::None
                        }
                        Line::Whole => parse::request(candidate).into(),
                    },
                    Side::Server if parse::may_begin_response(candidate) => parse::response(candidate).into(),
                    Side::Server => Candidate::None,
                };
                let believed = match head {
                    Candidate::Whole(used) => used <= MAX_HEAD && parse::is_believable(&candidate[..used]),
                    Candidate::Partial => {
                        let lines = memchr::memrchr(b'\n', candidate).map_or(0, |newline| newline + 1);
                        candidate.len() < MAX_HEAD && parse::is_believable(&candidate[..lines])
                    }
                    Candidate::None => false,
                };
                if believed && at > 0 {
                    break;
                }
                if believed {
                    return if matches!(head, Candidate::Whole(_)) {
                        Ok(())
                    } else {
                        Err(Step::More)
                    };
                }
            }
            let (skip, next) = match from {
                // Bodies quote requests. Where turns are seen and one request comes in each, it begins its turn.
                _ if !anywhere => (0, None),
                Side::Client => (0, memchr::memchr(b'\n', &rest[at..]).map(|newline| newline + 1)),
                Side::Server => {
                    let skip = usize::from(at_line);
                    (skip, memchr::memchr(b'H', &rest[at + skip..]))
                }
            };
            (at, at_line) = match next {
                Some(next) => (at + skip + next, true),
                None => (rest.len(), from == Side::Server),
            };
        }
        self.skipped += at as u64;
        let tail = lost.tail.map(|tail| last_bytes(tail, &rest[..at]));
        if from == Side::Server {
            self.turns.answer = Answer::No;
        }
        self.half(from).state = State::Lost(Lost {
            at_line: at_line && anywhere,
            at_once: false,
            behind_hole: lost.behind_hole && at == 0,
            tail,
            ..lost
        });
        Err(Step::Used(at))
    }

    /// What the server sends is read up to here.
    fn server_speaks(&mut self, upto: u64) {
        self.client.turn();
        self.server_spoke = true;
        self.server_at = upto;
    }

    // ---- what is held ----------------------------------------------------------------------------------------

    /// Reads one piece of the server's stream.
    fn serve(&mut self, item: Piece, queue: &mut Queue) -> Fate {
        match item {
            Piece::Bytes(pos, bytes) => return self.deliver(Side::Server, pos, &bytes, queue),
            Piece::Missing(pos, len, why) => {
                if self.must_hold(queue) {
                    return Fate::Held(item);
                }
                self.turns.server_hole();
                self.server_speaks(pos.saturating_add(len));
                self.response_missing(pos, len, why, queue);
            }
            Piece::End(pos, is_all) => {
                if !self.server.buf.is_empty() && self.must_hold(queue) {
                    return Fate::Held(item);
                }
                self.server_end(pos, is_all, queue);
            }
        }
        Fate::Done
    }

    /// A response starts here, and no request waits for it.
    fn must_hold(&self, queue: &Queue) -> bool {
        self.server.state == State::Start && queue.waiting() == 0 && self.doubt.is_none() && !self.force
    }

    /// Goes on with what is held, as far as requests have come.
    fn release(&mut self, queue: &mut Queue) -> Verdict {
        while let Some(item) = self.held.pop() {
            match self.serve(item, queue) {
                Fate::Done => {}
                Fate::Held(item) => {
                    self.held.put_back(item);
                    break;
                }
                Fate::Leave(verdict, rest) => return self.leave(verdict, (Side::Server, rest), queue),
            }
        }
        Verdict::Continue
    }

    /// Decides all that is held.
    fn force(&mut self, queue: &mut Queue) -> Verdict {
        if self.held.is_empty() {
            return Verdict::Continue;
        }
        self.force = true;
        let verdict = self.release(queue);
        self.force = false;
        verdict
    }

    /// Goes on with what waits for the other direction, as far as that has come.
    fn go_on(&mut self, queue: &mut Queue) -> Verdict {
        let mut verdict = match self.early.is_over() {
            true => self.await_no_answer(queue),
            false => self.release_early(queue),
        };
        while verdict == Verdict::Continue && !self.held.is_empty() {
            verdict = self.release(queue);
            if verdict != Verdict::Continue || !self.client_is_refused() {
                break;
            }
            verdict = self.release_early(queue);
        }
        verdict
    }

    /// What the client said after CONNECT can be read now.
    fn client_is_refused(&self) -> bool {
        !self.early.is_empty() && (self.client.state != State::Connect || self.is_answer_lost())
    }

    /// The client goes on after CONNECT, so it has the answer, and a hole is all that was seen of that.
    pub(super) fn is_answer_lost(&self) -> bool {
        self.turns.answer == Answer::BehindHole
    }

    /// Reads what the client said after CONNECT, once the server has refused, or its answer is lost.
    fn release_early(&mut self, queue: &mut Queue) -> Verdict {
        if !self.client_is_refused() {
            return Verdict::Continue;
        }
        let mut early = std::mem::take(&mut self.early);
        while let Some(item) = early.pop() {
            match item {
                // There was another one.
                item if self.client.state == State::Connect && !self.is_answer_lost() => self.early.push(item),
                Piece::Bytes(pos, bytes) => {
                    if let Fate::Leave(verdict, rest) = self.deliver(Side::Client, pos, &bytes, queue) {
                        return self.leave(verdict, (Side::Client, rest), queue);
                    }
                }
                Piece::Missing(pos, len, why) => self.request_missing(pos, len, why, queue),
                Piece::End(pos, is_all) => self.client_end(pos, is_all, queue),
            }
        }
        Verdict::Continue
    }

    /// The server's answer to CONNECT does not come: what the client said after it is read like the rest.
    pub(super) fn await_no_answer(&mut self, queue: &mut Queue) -> Verdict {
        while self.client.state == State::Connect {
            self.client.state = State::Start;
            match self.release_early(queue) {
                Verdict::Continue => {}
                leave => return leave,
            }
        }
        Verdict::Continue
    }

    fn leave(&mut self, verdict: Verdict, (from, rest): (Side, Piece), queue: &mut Queue) -> Verdict {
        self.close_waiting(queue);
        self.left = true;
        let ignore = || Half {
            state: State::Ignore,
            ..Half::default()
        };
        (self.client, self.server) = (ignore(), ignore());
        let (mut early, mut held) = (std::mem::take(&mut self.early), std::mem::take(&mut self.held));
        self.rest
            .extend(std::iter::from_fn(|| early.pop()).map(|item| (Side::Client, item)));
        self.rest.push((from, rest));
        self.rest
            .extend(std::iter::from_fn(|| held.pop()).map(|item| (Side::Server, item)));
        verdict
    }

    pub(super) fn close_waiting(&mut self, queue: &mut Queue) {
        self.answer_was_in_hole(queue);
        while queue.waiting() > 0 {
            give_up(queue, Incomplete::NoResponse);
        }
    }

    /// The server says no more, and what it said last is lost: that may have been the answer to the newest request.
    fn answer_was_in_hole(&mut self, queue: &mut Queue) {
        if self.turns.answer == Answer::BehindHole
            && queue.waiting() > 0
            && let Some(exchange) = queue.newest().filter(|exchange| !exchange.response.begun)
        {
            exchange.mark(match self.doubt {
                Some(Incomplete::Truncated) => Incomplete::Truncated,
                // What was asked after a connection was joined is answered after it.
                _ => Incomplete::Gap,
            });
        }
    }
}

impl HttpPairing {
    /// The client asks again, so it has what it waited for: what the server sends without an end that was seen is over.
    fn end_unseen(&mut self, queue: &mut Queue) {
        let lost = match (self.server.state, self.doubt) {
            (State::Lost(lost), _) if lost.why == Incomplete::Truncated => lost,
            // Behind a hole a head may have been believed that was a part of a body, with whatever length it told.
            (State::Length(_) | State::Chunked(_) | State::UntilClose, Some(why)) if !self.turns.is_pipelined => {
                self.server.lose(why, true);
                let State::Lost(lost) = self.server.state else { return };
                lost
            }
            _ => return,
        };
        self.response_lost(self.server_at, lost, queue);
    }
}

impl Pairing for HttpPairing {
    type Message = HttpMessage;

    // The head that was read last may come again.
    fn begin(&mut self, joined: bool) {
        *self = HttpPairing {
            last_response: std::mem::take(&mut self.last_response),
            knows_response_end: !joined,
            ..Self::default()
        };
        if joined {
            self.client.lose(Incomplete::StartedBefore, true);
            self.server.lose(Incomplete::StartedBefore, true);
            self.doubt = Some(Incomplete::StartedBefore);
            self.turns = Turns::new(joined);
        }
    }

    fn after_foreign(&mut self) {
        self.client.lose(Incomplete::Malformed, false);
        self.doubt = Some(Incomplete::Malformed);
    }

    fn finish(&mut self, queue: &mut Queue) {
        // Nothing is said any more, whatever it would be.
        let _ = self.await_no_answer(queue);
        self.request_head_ended(Incomplete::NoResponse, HEAD_UNFINISHED, queue);
        self.force = true;
        self.response_head_ended(HEAD_UNFINISHED, queue);
        self.force = false;
        self.answer_was_in_hole(queue);
    }

    fn take_rest(&mut self) -> Vec<(Side, Piece)> {
        std::mem::take(&mut self.rest)
    }

    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Verdict {
        if self.left || bytes.is_empty() {
            return Verdict::Continue;
        }
        if from == Side::Server && !self.held.is_empty() {
            self.held.push(Piece::Bytes(pos, bytes.to_vec()));
            return if self.held.is_over() {
                self.force(queue)
            } else {
                Verdict::Continue
            };
        }
        self.in_call = false;
        if from == Side::Client {
            let is_between = self.client.state == State::Start && self.client.buf.is_empty();
            if self.turns.client() && is_between {
                self.end_unseen(queue);
            }
            if self.doubt.is_some() {
                queue.confirm_unsure(pos);
            }
            // A call may begin with a request also where the turn of the server before it is not seen, for it is lost.
            if let State::Lost(lost) = &mut self.client.state
                && parse::begins_with_known_method(bytes)
            {
                lost.at_line = true;
            }
        }
        match self.deliver(from, pos, bytes, queue) {
            Fate::Done => self.go_on(queue),
            Fate::Held(item) => {
                self.held.push(item);
                if self.held.is_over() {
                    self.force(queue)
                } else if self.client_is_refused() {
                    self.go_on(queue)
                } else {
                    Verdict::Continue
                }
            }
            Fate::Leave(verdict, rest) => self.leave(verdict, (from, rest), queue),
        }
    }

    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing, queue: &mut Queue) -> Verdict {
        if self.left || len == 0 {
            return Verdict::Continue;
        }
        match from {
            Side::Client if self.client.state == State::Connect => {
                self.early.push(Piece::Missing(pos, len, why));
                Verdict::Continue
            }
            Side::Client => {
                self.in_call = false;
                self.request_missing(pos, len, why, queue);
                if self.held.is_empty() || self.doubt.is_none() {
                    return Verdict::Continue;
                }
                // The requests of what is held were in the hole.
                let verdict = match self.release(queue) {
                    Verdict::Continue => self.force(queue),
                    leave => leave,
                };
                if let State::Lost(lost) = &mut self.client.state {
                    lost.behind_hole = true;
                }
                verdict
            }
            Side::Server => {
                let item = Piece::Missing(pos, len, why);
                if !self.held.is_empty() {
                    self.held.push(item);
                } else if let Fate::Held(item) = self.serve(item, queue) {
                    self.held.push(item);
                }
                if self.held.is_over() {
                    self.force(queue)
                } else if self.client_is_refused() {
                    self.go_on(queue)
                } else {
                    Verdict::Continue
                }
            }
        }
    }

    fn settle(&mut self, queue: &mut Queue) -> Verdict {
        let verdict = self.force(queue);
        if self.server_ended && !self.left {
            self.close_waiting(queue);
        }
        verdict
    }

    fn holds_response(&self) -> bool {
        !self.held.is_empty()
    }

    fn is_in_doubt(&self) -> bool {
        let is_lost = |half: &Half| matches!(half.state, State::Lost(_));
        self.doubt.is_some() || is_lost(&self.client) || is_lost(&self.server)
    }

    fn end(&mut self, from: Side, pos: u64, is_all: bool, queue: &mut Queue) {
        if self.left {
            return;
        }
        self.ended_unseen |= !is_all;
        match from {
            Side::Client if self.client.state == State::Connect && !self.server_ended => {
                self.early.push(Piece::End(pos, is_all))
            }
            Side::Client => {
                self.client_end(pos, is_all, queue);
                // No request is to come: what is held has none.
                if self.release(queue) == Verdict::Continue {
                    self.force(queue);
                }
                if self.server_ended {
                    self.close_waiting(queue);
                }
            }
            Side::Server => {
                let item = Piece::End(pos, is_all);
                if !self.held.is_empty() {
                    self.held.push(item);
                } else if let Fate::Held(item) = self.serve(item, queue) {
                    self.held.push(item);
                }
            }
        }
    }
}

/// The oldest awaiting exchange gets no response, or no more of it.
pub(super) fn give_up(queue: &mut Queue, why: Incomplete) {
    if let Some(exchange) = queue.awaiting() {
        exchange.mark(why);
        exchange.closed = true;
    }
    queue.answer_ended();
}

/// Notes why the exchange cannot be measured, and what is wrong with it; the first reason stays, a mere remark does not.
pub(super) fn spoil(exchange: &mut Exchange, why: Incomplete, problem: &'static str) {
    let is_first = exchange.incomplete.is_none();
    exchange.mark(why);
    let message = &mut exchange.message;
    if is_first || message.problem.is_empty() {
        message.problem = problem;
    }
}

/// Whether the beginning of a head, where a body may stand instead, is worth waiting for the rest of. `sure` bytes of a head
/// do not come by chance.
pub(super) fn may_grow(rest: &[u8], declared: Declared, sure: usize) -> bool {
    let left = declared.length().unwrap_or(u64::MAX);
    rest.len() < MAX_HEAD && (rest.len() >= sure || (rest.len() as u64) < left)
}

pub(super) fn reason(why: Missing) -> Incomplete {
    match why {
        Missing::Lost => Incomplete::Gap,
        Missing::Unread => Incomplete::Truncated,
        Missing::Before => Incomplete::StartedBefore,
    }
}

/// What stands where a message may begin.
enum Candidate {
    /// A whole head of so many bytes.
    Whole(usize),
    /// The beginning of one.
    Partial,
    None,
}

impl<T> From<Parsed<T>> for Candidate {
    fn from(parsed: Parsed<T>) -> Self {
        match parsed {
            Parsed::Whole(_, used) => Candidate::Whole(used),
            Parsed::Partial => Candidate::Partial,
            Parsed::Wrong(_) => Candidate::None,
        }
    }
}

/// How many line ends `rest` begins with.
pub(super) fn blank(rest: &[u8]) -> Option<usize> {
    match rest.first() {
        Some(b'\r' | b'\n') => Some(rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()),
        _ => None,
    }
}

/// The last five bytes of what ended with `tail` and goes on with `bytes`.
fn last_bytes(mut tail: [u8; 5], bytes: &[u8]) -> [u8; 5] {
    let new = &bytes[bytes.len().saturating_sub(5)..];
    tail.rotate_left(new.len());
    tail[5 - new.len()..].copy_from_slice(new);
    tail
}
