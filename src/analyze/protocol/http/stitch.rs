//! Two streams of one connection become exchanges.
//!
//! Each direction is a small state machine: a head, its body, the next head. Requests queue up, responses answer them
//! in order (RFC 9112, 9.3.2). A response needs the method of its request, so it waits when it comes first. A whole
//! head in one slice is read in place; only heads that are split are copied, and bodies never are.
//!
//! After a hole that may have hidden the start of a message the pairing is *uncertain*: a connection that was never
//! seen to pipeline has at most one request under way, so a response answers the newest one and the older ones are
//! given up; on a connection that does pipeline every pair is marked until a quiet moment.

use super::super::super::exchange::{Exchange, Incomplete, MAX_WAITING, Message, Queue, Side, Span};
use super::super::{Missing, Stitcher, Verdict};
use super::body::{self, Body, Chunked};
use super::held::{Held, Item};
use super::message::{HttpMessage, set};
use super::parse::{self, Parsed, RequestHead, ResponseHead, Wrong};

/// The longest head that is read. Servers refuse far shorter ones (8 to 48 KiB).
pub const MAX_HEAD: usize = 64 << 10;

const HEAD_TOO_LONG: &str = "head longer than 64 KiB";
const HEAD_CUT: &str = "head not captured in full";
const HEAD_ENDED: &str = "connection ended within the head";

/// Where in its stream one direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before, or inside, the head of a message.
    Start,
    /// Inside a body with so many bytes to come.
    Length(u64),
    /// After a head that declares so many bytes, which may not be there at all: the method of the request is unknown
    /// (HEAD?), or the server refused the body that `Expect: 100-continue` announced. What looks like the next head is
    /// taken for it.
    Maybe(u64),
    Chunked(Chunked),
    /// Inside a response that ends with the connection.
    UntilClose,
    /// Looking for the next believable start.
    Lost(Lost),
    /// Nothing more of interest.
    Ignore,
}

/// How a direction got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lost {
    why: Incomplete,
    /// The next byte may begin a message: it follows a line end, a hole, or what the other side said.
    at_line: bool,
    /// It was in a chunked body; the last bytes seen tell whether that was over.
    tail: Option<[u8; 5]>,
}

#[derive(Debug)]
struct Half {
    state: State,
    /// The beginning of a head whose end is not there yet.
    buf: Vec<u8>,
    /// Position of the first byte of `buf`.
    buf_pos: u64,
    /// `buf` holds a line end.
    lined: bool,
}

impl Default for Half {
    fn default() -> Self {
        Half {
            state: State::Start,
            buf: Vec::new(),
            buf_pos: 0,
            lined: false,
        }
    }
}

impl Half {
    fn keep(&mut self, pos: u64, bytes: &[u8]) {
        self.buf_pos = pos;
        self.lined = memchr::memchr(b'\n', bytes).is_some();
        self.buf.extend_from_slice(bytes);
    }

    /// The other side spoke: what comes next may begin a message.
    fn turn(&mut self) {
        if let State::Lost(lost) = &mut self.state {
            lost.at_line = true;
        }
    }

    fn lose(&mut self, why: Incomplete, at_line: bool) {
        self.state = State::Lost(Lost {
            why,
            at_line,
            tail: None,
        });
    }
}

/// What one step made of the bytes it was given.
enum Step {
    Used(usize),
    /// The rest is the beginning of a head.
    More,
    /// A response whose request is not there yet.
    Hold,
    Leave(&'static str),
}

/// How far a slice was read.
enum Run {
    /// What is left after so many bytes is the beginning of a head.
    Upto(usize),
    Hold(usize),
    Leave(&'static str),
}

/// The same, for the caller who has the slice.
enum Fate {
    Done,
    Held(Item),
    Leave(&'static str),
}

/// The HTTP/1.x state of one connection.
#[derive(Debug, Default)]
pub struct HttpStitcher {
    client: Half,
    server: Half,
    held: Held,
    /// What is held must be decided now.
    force: bool,
    /// Why the next response may not answer the oldest request; `None` when it surely does.
    doubt: Option<Incomplete>,
    /// The client was seen to send a request before it had the response to the one before.
    pipelined: bool,
    /// Requests since the server's last sign of life.
    fresh: usize,
    /// A request was seen in the present call.
    in_call: bool,
    /// A request was seen at all.
    asked: bool,
    /// The newest exchange's request is still being read.
    open: bool,
    /// Its declared length, when it said `Expect: 100-continue`.
    announced: Option<u64>,
    server_ended: bool,
    left: bool,
    skipped: u64,
}

impl HttpStitcher {
    /// A connection from its first byte on; or, `joined`, from somewhere in its middle: then both directions look for
    /// the next believable start.
    pub fn new(joined: bool) -> Self {
        let mut stitcher = Self::default();
        if joined {
            stitcher.client.lose(Incomplete::StartedBefore, true);
            stitcher.server.lose(Incomplete::StartedBefore, true);
            stitcher.doubt = Some(Incomplete::StartedBefore);
        }
        stitcher
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
        while !bytes.is_empty() {
            if self.half(from).buf.is_empty() {
                return match self.run(from, pos, bytes, queue) {
                    Run::Upto(used) => {
                        if used < bytes.len() {
                            self.half(from).keep(pos + used as u64, &bytes[used..]);
                        }
                        Fate::Done
                    }
                    Run::Hold(used) => Fate::Held(Item::Bytes(pos + used as u64, bytes[used..].to_vec())),
                    Run::Leave(why) => Fate::Leave(why),
                };
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
                    return Fate::Held(Item::Bytes(buf_pos + used as u64, buf));
                }
                Run::Leave(why) => return Fate::Leave(why),
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
                Step::Leave(why) => return Run::Leave(why),
            }
        }
        Run::Upto(at)
    }

    /// Looks for the next bytes that begin like a message: a request at the start of a line, or where the client
    /// begins to speak again; a response anywhere (bodies seldom end with a line). `Ok` when `rest` begins with a
    /// whole, believable head.
    fn seek(&mut self, from: Side, lost: Lost, rest: &[u8]) -> Result<(), Step> {
        let (mut at, mut at_line) = (0, lost.at_line);
        while at < rest.len() {
            if at_line {
                let candidate = &rest[at..];
                let head = match from {
                    Side::Client if parse::may_begin_request(candidate) => match parse::request(candidate) {
                        // HTTP/0.9 is believed at the start of a connection only.
                        Parsed::Whole(head, _) if head.version == 9 => Candidate::None,
                        parsed => parsed.into(),
                    },
                    Side::Server if parse::may_begin_response(candidate) => parse::response(candidate).into(),
                    _ => Candidate::None,
                };
                let believed = match head {
                    Candidate::Whole(used) => used <= MAX_HEAD && parse::is_believable(&candidate[..used]),
                    Candidate::Partial => candidate.len() < MAX_HEAD,
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
        self.half(from).state = State::Lost(Lost { at_line, tail, ..lost });
        Err(Step::Used(at))
    }

    // ---- the client's stream ---------------------------------------------------------------------------------

    fn client_step(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
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
            State::Maybe(left) => {
                let left = *left;
                match parse::request(rest) {
                    Parsed::Whole(..) if parse::may_begin_request(rest) => self.request_ended(here, queue),
                    Parsed::Partial if parse::may_begin_request(rest) && may_grow(rest, left, 5) => return Step::More,
                    _ => self.client.state = State::Length(left),
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
                    Err(step) => step,
                }
            }
            State::UntilClose | State::Ignore => {
                self.skipped += rest.len() as u64;
                Step::Used(rest.len())
            }
        }
    }

    fn request_head(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        // RFC 9112, 2.2: an empty line before the request line is to be ignored.
        if let Some(blank) = blank(rest) {
            return Step::Used(blank);
        }
        match parse::request(rest) {
            Parsed::Whole(head, used) if used <= MAX_HEAD => {
                if head.version == 9 && (self.asked || self.doubt.is_some()) {
                    return self.malformed_request(here, rest, "request line without a version", queue);
                }
                self.request(here, used, &head, queue);
                Step::Used(used)
            }
            Parsed::Partial if rest.len() < MAX_HEAD => Step::More,
            Parsed::Whole(..) | Parsed::Partial => {
                let rest = &rest[..MAX_HEAD];
                self.cut_request(here, rest, Incomplete::Truncated, HEAD_TOO_LONG, queue);
                self.client.lose(Incomplete::Truncated, false);
                Step::Used(rest.len())
            }
            Parsed::Wrong(Wrong::Http2) => Step::Leave("HTTP/2"),
            Parsed::Wrong(Wrong::Line(why)) => self.malformed_request(here, rest, why, queue),
            Parsed::Wrong(Wrong::Foreign) => {
                self.client.lose(Incomplete::Malformed, false);
                self.doubt(Incomplete::Malformed);
                Step::Used(0)
            }
        }
    }

    fn request(&mut self, here: u64, used: usize, head: &RequestHead<'_>, queue: &mut Queue) {
        self.before_request(queue);
        let end = here + used as u64;
        let exchange = queue.open(blank_message);
        exchange.request = Span {
            start: here,
            end,
            begun: true,
            ended: false,
        };
        let message = http(exchange);
        message.clear_response();
        set(&mut message.method, head.method);
        set(&mut message.target, head.target);
        set(&mut message.host, authority(head.target).unwrap_or(head.host));
        message.version = head.version;
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
                    tail: None,
                })
            }
            Body::None | Body::UntilClose | Body::Tunnel => {
                exchange.request.ended = true;
                self.open = false;
                State::Start
            }
        };
    }

    /// A request line that breaks the rules: a row of its own, for the server answers it.
    fn malformed_request(&mut self, here: u64, rest: &[u8], why: &'static str, queue: &mut Queue) -> Step {
        self.cut_request(here, rest, Incomplete::Malformed, why, queue);
        self.client.lose(Incomplete::Malformed, false);
        Step::Used(0)
    }

    /// A request of which only the beginning of the head can be read; maybe nothing at all.
    fn cut_request(&mut self, here: u64, bytes: &[u8], why: Incomplete, problem: &'static str, queue: &mut Queue) {
        self.before_request(queue);
        let exchange = queue.open(blank_message);
        exchange.request = Span {
            start: here,
            end: here + bytes.len() as u64,
            begun: true,
            ended: false,
        };
        let message = http(exchange);
        message.clear();
        let head = parse::request_prefix(bytes);
        set(&mut message.method, head.method);
        set(&mut message.target, head.target);
        set(&mut message.host, authority(head.target).unwrap_or(head.host));
        message.version = head.version;
        spoil(exchange, why, problem);
        self.open = true;
        self.doubt(why);
    }

    /// A request is about to join the queue.
    fn before_request(&mut self, queue: &mut Queue) {
        if queue.waiting() >= MAX_WAITING {
            if self.server.state != State::Start {
                self.server.lose(Incomplete::TooMany, false);
            }
            give_up(queue, Incomplete::TooMany);
            self.doubt(Incomplete::TooMany);
        }
        self.pipelined |= self.in_call && self.fresh > 0;
        if let State::Maybe(left) = self.server.state
            && self.server.buf.is_empty()
            && !self.pipelined
        {
            // The client has what it waited for: there was no body.
            let end = queue
                .awaiting()
                .map_or(0, |exchange| exchange.response.end.saturating_sub(left));
            self.response_ended(end, queue);
        }
        self.in_call = true;
        self.asked = true;
        self.fresh += 1;
        self.server.turn();
    }

    fn request_ended(&mut self, end: u64, queue: &mut Queue) {
        self.with_open(queue, |exchange| {
            exchange.request.end = end;
            exchange.request.ended = true;
        });
        self.open = false;
        self.client.state = State::Start;
    }

    /// The exchange whose request is being read.
    fn with_open(&mut self, queue: &mut Queue, change: impl FnOnce(&mut Exchange)) {
        if self.open
            && let Some(exchange) = queue.newest()
        {
            change(exchange);
        }
    }

    fn doubt(&mut self, why: Incomplete) {
        self.doubt.get_or_insert(match why {
            Incomplete::Truncated | Incomplete::Malformed => Incomplete::Gap,
            why => why,
        });
    }

    // ---- the server's stream ---------------------------------------------------------------------------------

    fn server_step(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
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
            State::Maybe(left) => {
                let left = *left;
                match parse::response(rest) {
                    Parsed::Whole(_, used) if parse::is_believable(&rest[..used]) => self.response_ended(here, queue),
                    Parsed::Partial if may_grow(rest, left, 13) => return Step::More,
                    _ => self.server.state = State::Length(left),
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
            State::UntilClose => Step::Used(rest.len()),
            State::Lost(lost) => {
                let lost = *lost;
                match self.seek(Side::Server, lost, rest) {
                    Ok(()) => self.response_found(here, lost, queue),
                    Err(step) => step,
                }
            }
            State::Ignore => {
                self.skipped += rest.len() as u64;
                Step::Used(rest.len())
            }
        }
    }

    /// A believable head was found while lost. Inside a response it is believed only when another request waits:
    /// bodies may quote HTTP.
    fn response_found(&mut self, here: u64, lost: Lost, queue: &mut Queue) -> Step {
        let inside = queue.awaiting().is_some_and(|exchange| exchange.response.begun);
        if inside && queue.waiting() < 2 {
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
    fn response_lost(&mut self, here: u64, lost: Lost, queue: &mut Queue) {
        if let Some(exchange) = queue.awaiting().filter(|exchange| exchange.response.begun) {
            exchange.response.end = here;
            if lost.tail == Some(*b"0\r\n\r\n") {
                // The last chunk stands right before the end: the size is known after all.
                exchange.response.ended = true;
            } else {
                exchange.mark(lost.why);
                exchange.closed = true;
            }
            queue.answer_ended();
        }
        self.doubt(lost.why);
        self.server.state = State::Start;
    }

    fn response_head(&mut self, here: u64, rest: &[u8], queue: &mut Queue) -> Step {
        if !parse::may_begin_response(rest) {
            // HTTP/0.9 answers with the document and nothing else.
            if let Some(exchange) = queue.awaiting().filter(|exchange| version(exchange) == 9) {
                exchange.response.start = here;
                exchange.response.begun = true;
                self.server.state = State::UntilClose;
                return Step::Used(0);
            }
            if let Some(blank) = blank(rest) {
                return Step::Used(blank);
            }
        }
        match parse::response(rest) {
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
                    exchange.response.begun = true;
                    spoil(exchange, Incomplete::Malformed, "response without a status line");
                }
                self.server.lose(Incomplete::Malformed, false);
                Step::Used(0)
            }
        }
    }

    fn response(&mut self, here: u64, used: usize, head: &ResponseHead<'_>, queue: &mut Queue) -> Step {
        let interim = (100..200).contains(&head.status) && head.status != 101;
        if interim && queue.waiting() == 0 && (self.force || self.doubt.is_some()) {
            self.skipped += used as u64;
            return Step::Used(used);
        }
        if !self.choose(queue) {
            return Step::Hold;
        }
        let alone = queue.waiting() == 1;
        let Some(exchange) = queue.awaiting() else {
            return Step::Hold;
        };
        let Message::Http(message) = &mut exchange.message else {
            return Step::Hold;
        };
        if interim {
            // RFC 9110, 15.2: it precedes the final response and consumes nothing.
            message.interim = head.status;
            return Step::Used(used);
        }
        let end = here + used as u64;
        exchange.response.start = here;
        exchange.response.begun = true;
        exchange.response.end = end;
        message.status = head.status;
        set(&mut message.content_type, head.content_type);
        if message.version == 0 {
            message.version = head.version;
        }
        // A refused `Expect: 100-continue`: the client may go on with its next request.
        if let State::Length(left) = self.client.state
            && self.open
            && alone
            && self.announced == Some(left)
            && message.interim != 100
        {
            self.client.state = State::Maybe(left);
        }
        self.fresh = 0;
        self.client.turn();
        match body::of_response(&message.method, head.status, &head.framing) {
            Body::None => self.response_ended(end, queue),
            Body::Length(length) => {
                exchange.response.end = end.saturating_add(length);
                let unknown = message.method.is_empty();
                self.server.state = if unknown {
                    State::Maybe(length)
                } else {
                    State::Length(length)
                };
            }
            Body::Chunked => self.server.state = State::Chunked(Chunked::default()),
            Body::UntilClose => self.server.state = State::UntilClose,
            Body::Tunnel => {
                let name = match head.status {
                    101 => {
                        set(&mut message.upgrade, head.upgrade);
                        upgrade_name(head.upgrade)
                    }
                    _ => "CONNECT tunnel",
                };
                exchange.request.ended = true;
                self.response_ended(end, queue);
                return Step::Leave(name);
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
    fn choose(&mut self, queue: &mut Queue) -> bool {
        let Some(doubt) = self.doubt else {
            match queue.waiting() {
                0 if self.force => {
                    self.doubt = Some(Incomplete::Gap);
                    self.push_orphan(Incomplete::NoRequest, queue);
                }
                0 => return false,
                1 => {}
                _ => self.pipelined = true,
            }
            return true;
        };
        let keep = match (self.pipelined, self.fresh) {
            (false, _) => 1,
            (true, 0) => usize::MAX,
            (true, fresh) => fresh,
        };
        while queue.waiting() > keep {
            give_up(queue, doubt);
        }
        if queue.waiting() == 0 {
            let before = doubt == Incomplete::StartedBefore && self.asked;
            self.push_orphan(if before { Incomplete::NoRequest } else { doubt }, queue);
        } else if let Some(exchange) = queue.awaiting() {
            if self.pipelined {
                exchange.mark(doubt);
            } else if exchange.incomplete.is_none() {
                self.doubt = None;
            }
        }
        true
    }

    /// A response whose request was not seen gets an exchange of its own.
    fn push_orphan(&mut self, why: Incomplete, queue: &mut Queue) {
        // Only a client that goes on sending a request after its response can be here with an open one.
        self.with_open(queue, |exchange| exchange.mark(Incomplete::Malformed));
        self.open = false;
        let exchange = queue.open(blank_message);
        http(exchange).clear();
        exchange.mark(why);
    }

    fn response_ended(&mut self, end: u64, queue: &mut Queue) {
        if let Some(exchange) = queue.awaiting() {
            exchange.response.end = end;
            exchange.response.ended = true;
        }
        queue.answer_ended();
        self.fresh = 0;
        self.server.state = State::Start;
    }

    // ---- what is held, holes, ends ---------------------------------------------------------------------------

    /// Reads one piece of the server's stream.
    fn serve(&mut self, item: Item, queue: &mut Queue) -> Fate {
        match item {
            Item::Bytes(pos, bytes) => return self.deliver(Side::Server, pos, &bytes, queue),
            Item::Missing(pos, len, why) => {
                if self.must_hold(queue) {
                    return Fate::Held(item);
                }
                self.response_missing(pos, len, why, queue);
            }
            Item::End(pos) => {
                if !self.server.buf.is_empty() && self.must_hold(queue) {
                    return Fate::Held(item);
                }
                self.server_end(pos, queue);
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
                Fate::Leave(why) => return self.leave(why, queue),
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

    fn leave(&mut self, why: &'static str, queue: &mut Queue) -> Verdict {
        self.close_waiting(queue);
        self.left = true;
        self.client = Half {
            state: State::Ignore,
            ..Half::default()
        };
        self.server = Half {
            state: State::Ignore,
            ..Half::default()
        };
        self.held = Held::default();
        Verdict::Leave(why)
    }

    fn request_missing(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        let reason = reason(why);
        let lost_at = match &mut self.client.state {
            State::Length(left) | State::Maybe(left) if *left >= len => {
                let left = *left - len;
                self.client.state = State::Length(left);
                if left == 0 {
                    self.request_ended(pos.saturating_add(len), queue);
                }
                return;
            }
            State::Length(left) | State::Maybe(left) => {
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
            State::Ignore | State::UntilClose => return,
        };
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
    }

    fn response_missing(&mut self, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        let reason = reason(why);
        let start = match &mut self.server.state {
            State::Length(left) | State::Maybe(left) if *left >= len => {
                let left = *left - len;
                self.server.state = State::Length(left);
                if left == 0 {
                    self.response_ended(pos.saturating_add(len), queue);
                }
                return;
            }
            State::Length(left) | State::Maybe(left) => {
                let end = pos.saturating_add(*left);
                self.response_ended(end, queue);
                Some(end)
            }
            State::Chunked(chunked) => {
                if chunked.skip(len) {
                    return;
                }
                self.fresh = 0;
                self.server.state = State::Lost(Lost {
                    why: reason,
                    at_line: true,
                    tail: Some([0; 5]),
                });
                self.doubt(reason);
                return;
            }
            State::Start => Some(pos),
            State::Lost(lost) => {
                lost.at_line = true;
                lost.tail = lost.tail.map(|_| [0; 5]);
                self.skipped += self.server.buf.len() as u64;
                self.server.buf.clear();
                None
            }
            State::UntilClose | State::Ignore => return,
        };
        let buf = std::mem::take(&mut self.server.buf);
        self.doubt(reason);
        if let Some(pos) = start {
            let start = if buf.is_empty() { pos } else { self.server.buf_pos };
            if queue.waiting() > 0 && why != Missing::Before {
                cut_response(start, &buf, reason, HEAD_CUT, queue);
            } else {
                self.skipped += buf.len() as u64;
            }
            self.server.lose(reason, true);
        }
        self.fresh = 0;
    }

    fn client_end(&mut self, pos: u64, queue: &mut Queue) {
        match self.client.state {
            State::Start if !self.client.buf.is_empty() => {
                let buf = std::mem::take(&mut self.client.buf);
                if parse::request_prefix(&buf).method.is_empty() {
                    self.skipped += buf.len() as u64;
                } else {
                    self.cut_request(self.client.buf_pos, &buf, Incomplete::Truncated, HEAD_ENDED, queue);
                    self.request_ended(pos, queue);
                }
            }
            // An early response is the usual reason to stop in a body; its last byte is the last that was sent.
            State::Length(_) | State::Maybe(_) | State::Chunked(_) => self.request_ended(pos, queue),
            _ => {}
        }
        self.client.buf.clear();
        self.client.state = State::Ignore;
    }

    fn server_end(&mut self, pos: u64, queue: &mut Queue) {
        match self.server.state {
            State::UntilClose => self.response_ended(pos, queue),
            State::Length(_) | State::Maybe(_) | State::Chunked(_) => {
                if let Some(exchange) = queue.awaiting() {
                    exchange.response.end = pos;
                    exchange.closed = true;
                    exchange.mark(Incomplete::ResponseCut);
                }
                queue.answer_ended();
            }
            State::Start if !self.server.buf.is_empty() => {
                let buf = std::mem::take(&mut self.server.buf);
                if self.choose(queue) {
                    cut_response(self.server.buf_pos, &buf, Incomplete::ResponseCut, HEAD_ENDED, queue);
                    give_up(queue, Incomplete::ResponseCut);
                }
            }
            State::Lost(lost) => self.response_lost(pos, lost, queue),
            State::Start | State::Ignore => {}
        }
        self.server.buf.clear();
        self.server.state = State::Ignore;
        self.server_ended = true;
        self.close_waiting(queue);
    }

    fn close_waiting(&mut self, queue: &mut Queue) {
        while queue.waiting() > 0 {
            give_up(queue, Incomplete::NoResponse);
        }
    }
}

impl Stitcher for HttpStitcher {
    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Verdict {
        if self.left || bytes.is_empty() {
            return Verdict::Continue;
        }
        if from == Side::Server && !self.held.is_empty() {
            self.held.push(Item::Bytes(pos, bytes.to_vec()));
            return if self.held.is_over() {
                self.force(queue)
            } else {
                Verdict::Continue
            };
        }
        self.in_call = false;
        match self.deliver(from, pos, bytes, queue) {
            Fate::Done if self.held.is_empty() => Verdict::Continue,
            Fate::Done => self.release(queue),
            Fate::Held(item) => {
                self.held.push(item);
                if self.held.is_over() {
                    self.force(queue)
                } else {
                    Verdict::Continue
                }
            }
            Fate::Leave(why) => self.leave(why, queue),
        }
    }

    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing, queue: &mut Queue) -> Verdict {
        if self.left || len == 0 {
            return Verdict::Continue;
        }
        match from {
            Side::Client => {
                self.request_missing(pos, len, why, queue);
                if self.held.is_empty() || self.doubt.is_none() {
                    return Verdict::Continue;
                }
                // The requests of what is held were in the hole.
                match self.release(queue) {
                    Verdict::Continue => self.force(queue),
                    leave => leave,
                }
            }
            Side::Server => {
                let item = Item::Missing(pos, len, why);
                if !self.held.is_empty() {
                    self.held.push(item);
                } else if let Fate::Held(item) = self.serve(item, queue) {
                    self.held.push(item);
                }
                if self.held.is_over() {
                    self.force(queue)
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

    fn end(&mut self, from: Side, pos: u64, queue: &mut Queue) {
        if self.left {
            return;
        }
        match from {
            Side::Client => {
                self.client_end(pos, queue);
                // No request is to come: what is held has none.
                if self.release(queue) == Verdict::Continue {
                    self.force(queue);
                }
                if self.server_ended {
                    self.close_waiting(queue);
                }
            }
            Side::Server => {
                let item = Item::End(pos);
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
fn give_up(queue: &mut Queue, why: Incomplete) {
    if let Some(exchange) = queue.awaiting() {
        exchange.mark(why);
        exchange.closed = true;
    }
    queue.answer_ended();
}

/// A response of which only the beginning of the head can be read; maybe nothing at all.
fn cut_response(here: u64, bytes: &[u8], why: Incomplete, problem: &'static str, queue: &mut Queue) {
    if let Some(exchange) = queue.awaiting() {
        exchange.response.start = here;
        exchange.response.begun = true;
        exchange.response.end = here + bytes.len() as u64;
        spoil(exchange, why, problem);
        let head = parse::response_prefix(bytes);
        let message = http(exchange);
        message.status = head.status;
        set(&mut message.content_type, head.content_type);
    }
}

fn spoil(exchange: &mut Exchange, why: Incomplete, problem: &'static str) {
    exchange.mark(why);
    let message = http(exchange);
    if message.problem.is_empty() {
        message.problem = problem;
    }
}

/// Whether the beginning of a head, where a body of `left` bytes may stand instead, is worth waiting for the rest of.
/// `sure` bytes of a head do not come by chance.
fn may_grow(rest: &[u8], left: u64, sure: usize) -> bool {
    rest.len() < MAX_HEAD && (rest.len() >= sure || (rest.len() as u64) < left)
}

fn version(exchange: &Exchange) -> u8 {
    match &exchange.message {
        Message::Http(message) => message.version,
        Message::Mysql(_) => 0,
    }
}

fn blank_message() -> Message {
    Message::Http(HttpMessage::default())
}

/// The message of an exchange that is to be HTTP.
fn http(exchange: &mut Exchange) -> &mut HttpMessage {
    if let Message::Mysql(_) = exchange.message {
        exchange.message = blank_message();
    }
    match &mut exchange.message {
        Message::Http(message) => message,
        Message::Mysql(_) => unreachable!("it was replaced"),
    }
}

fn reason(why: Missing) -> Incomplete {
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
fn blank(rest: &[u8]) -> Option<usize> {
    match rest.first() {
        Some(b'\r' | b'\n') => Some(rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()),
        _ => None,
    }
}

/// The authority of a target in absolute form (RFC 9112, 3.2.2).
fn authority(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let scheme = target
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        .count();
    let rest = target[scheme..].strip_prefix(b"://")?;
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    Some(&rest[..end]).filter(|authority| !authority.is_empty())
}

/// The last five bytes of what ended with `tail` and goes on with `bytes`.
fn last_bytes(mut tail: [u8; 5], bytes: &[u8]) -> [u8; 5] {
    let new = &bytes[bytes.len().saturating_sub(5)..];
    tail.rotate_left(new.len());
    tail[5 - new.len()..].copy_from_slice(new);
    tail
}

fn upgrade_name(upgrade: &[u8]) -> &'static str {
    const NAMES: [(&[u8], &str); 4] = [
        (b"websocket", "WebSocket"),
        (b"h2c", "HTTP/2"),
        (b"tls", "TLS"),
        (b"tcp", "raw stream"),
    ];
    let upgrade = upgrade.trim_ascii();
    NAMES
        .iter()
        .find(|(name, _)| {
            upgrade
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
        .map_or("upgraded protocol", |(_, name)| name)
}
