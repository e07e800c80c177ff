//! The hinge between protocols and tables: a request, its response, when each end saw them, and whether the whole is
//! known.
//!
//! A protocol says *which bytes* (stream positions) a request and its response cover and what they mean; it knows no
//! clock and no process. The connection says *when* each observer saw those bytes. Neither needs the other's half.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Debug;

/// The two ends of a connection by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Why an exchange, or a part of it, could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Incomplete {
    /// Bytes of it were lost (ring full, dropped packets).
    Gap,
    /// Its header or command was cut by the snaplen, or could not be read.
    Truncated,
    /// It began before the capture.
    StartedBefore,
    /// The connection, or the capture, ended before its response did.
    NoResponse,
    /// The connection ended in the middle of its request, and bytes of its end were not seen.
    RequestCut,
    /// The connection ended in the middle of its response.
    ResponseCut,
    /// A response without a request.
    NoRequest,
    /// It breaks its protocol.
    Malformed,
    /// Too many requests were waiting on one connection.
    TooMany,
}

impl Incomplete {
    /// All reasons, in report order.
    pub const ALL: [Incomplete; 9] = [
        Incomplete::Gap,
        Incomplete::Truncated,
        Incomplete::StartedBefore,
        Incomplete::NoResponse,
        Incomplete::RequestCut,
        Incomplete::ResponseCut,
        Incomplete::NoRequest,
        Incomplete::Malformed,
        Incomplete::TooMany,
    ];

    /// The word in `incomplete_reason`.
    pub fn name(self) -> &'static str {
        match self {
            Incomplete::Gap => "gap",
            Incomplete::Truncated => "truncated",
            Incomplete::StartedBefore => "started_before",
            Incomplete::NoResponse => "no_response",
            Incomplete::RequestCut => "request_cut",
            Incomplete::ResponseCut => "response_cut",
            Incomplete::NoRequest => "no_request",
            Incomplete::Malformed => "malformed",
            Incomplete::TooMany => "too_many",
        }
    }
}

/// A range of stream positions: bytes from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u64,
    pub end: u64,
    /// The first byte is known.
    pub begun: bool,
    /// The last byte is known.
    pub ended: bool,
    /// How many of these bytes are of other exchanges, where a connection carries several at a time.
    pub of_others: u64,
}

impl Span {
    /// `len` bytes from there on, all of them known and of this exchange.
    pub fn whole(start: u64, len: u64) -> Span {
        Span {
            start,
            end: start + len,
            begun: true,
            ended: true,
            of_others: 0,
        }
    }

    /// How many bytes are of this exchange; `None` while an end is not known.
    pub fn bytes(&self) -> Option<u64> {
        let is_whole = self.begun && self.ended;
        is_whole.then(|| self.end.saturating_sub(self.start).saturating_sub(self.of_others))
    }
}

/// Which of its two halves an exchange has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halves {
    /// A request and its response.
    #[default]
    Both,
    /// No response is to be expected (MySQL COM_STMT_CLOSE): finished with its request.
    RequestOnly,
    /// The server sent it unasked, as its protocol allows: finished with its response.
    ResponseOnly,
}

/// When one observer saw a span: boot clock of its host, ns. 0 when not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    pub first: u64,
    pub last: u64,
    /// Position after the last byte of it that was seen.
    pub until: u64,
    /// Bytes of the span were missing from this observer's view.
    pub hole: bool,
}

/// One observer's times of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    pub request: Seen,
    pub response: Seen,
    /// Process and thread whose call carried the request at this end; 0 when unknown.
    pub pid: u32,
    pub tid: u32,
    pub cgroup: u64,
}

impl View {
    /// When it was first seen, first choice first; 0 when not seen.
    pub fn times(&self) -> [u64; 4] {
        [
            self.request.first,
            self.request.last,
            self.response.first,
            self.response.last,
        ]
    }

    /// The first choice of these.
    #[inline]
    pub fn first(&self) -> Option<u64> {
        if self.request.first != 0 {
            return Some(self.request.first);
        }
        self.times().into_iter().find(|time| *time != 0)
    }
}

/// What the time to the first byte of a response is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// From the first byte of the request.
    FirstByte,
    /// From the last byte of the request.
    LastByte,
    /// Nothing can be measured: which response answers which request is not known.
    Unknown,
}

/// What a protocol says of an exchange.
pub trait Message: Any + Debug + Send {
    /// Empties what a response fills.
    fn clear_response(&mut self);

    /// Whether it counts as an error: the server's fault, not the client's.
    fn is_error(&self) -> bool;

    /// The place of its protocol in the registry.
    fn protocol(&self) -> usize;

    /// What is asked, for people: at most `limit` characters of what may be of any length.
    fn asked(&self, limit: usize) -> String;

    /// How it was answered, in a word; empty when it was not.
    fn answered(&self) -> String;

    /// Both, as a live line has them.
    fn line(&self, incomplete: Option<Incomplete>, limit: usize) -> String;

    /// What its latencies are measured from.
    fn timing(&self) -> Timing {
        Timing::FirstByte
    }

    /// Whether it names something that an earlier exchange of its connection said, and that was not seen.
    fn lacks_earlier(&self) -> bool {
        false
    }

    /// What it lacks may have been in what cannot be read of the captures.
    fn earlier_may_be_lost(&mut self) {}

    /// Whether what follows it on its connection could be read without it, as though the connection began there.
    fn is_restart(&self) -> bool {
        false
    }
}

/// An exchange of a protocol that the caller need not know.
pub type AnyExchange = Exchange<dyn Message>;

/// A request with its response.
#[derive(Debug, Clone, Default)]
pub struct Exchange<M: ?Sized> {
    pub request: Span,
    pub response: Span,
    pub halves: Halves,
    /// Nothing more will be known of it, although an end of it is not (given up after a gap, cut by the end of the
    /// connection).
    pub closed: bool,
    /// A hole lies right before its response: should another request be lost right behind its own, then the response may answer
    /// that one.
    pub unsure: bool,
    /// Requests of the same turn may be lost before its own: should the server send another answer before the client goes on,
    /// then the response may be that of one of them.
    pub turn_unsure: bool,
    /// While `unsure`: whether its response is its own is seen when the client speaks again, or says no more, by how many responses
    /// there were; that nothing of the client is lost does not tell.
    pub awaits_turn: bool,
    /// Its response was not read to its end; it was over by the time the client spoke again, if no hole lies behind it.
    pub end_unsure: bool,
    /// The first reason found why it cannot be measured in full.
    pub incomplete: Option<Incomplete>,
    /// Times by observer: client's socket, server's socket, wire.
    pub views: [View; 3],
    pub message: M,
}

impl<M: Message + ?Sized> Exchange<M> {
    /// Forgets all but the message, whose buffers are worth keeping.
    pub fn reset(&mut self) {
        self.request = Span::default();
        self.response = Span::default();
        self.halves = Halves::Both;
        self.closed = false;
        self.unsure = false;
        self.turn_unsure = false;
        self.awaits_turn = false;
        self.end_unsure = false;
        self.incomplete = None;
        self.views = Default::default();
    }

    /// Notes why it is incomplete; the first reason stays.
    pub fn mark(&mut self, reason: Incomplete) {
        self.incomplete.get_or_insert(reason);
    }

    /// The response that it was given answers another request, or may.
    pub fn refute_response(&mut self) {
        self.mark(Incomplete::Gap);
        self.unsure = false;
        self.turn_unsure = false;
        self.closed = true;
        self.response = Span::default();
        self.views.iter_mut().for_each(|view| view.response = Seen::default());
        self.message.clear_response();
    }

    /// Where its response ends is not known after all.
    pub fn refute_end(&mut self) {
        self.mark(Incomplete::Gap);
        self.end_unsure = false;
        self.closed = true;
        self.response.ended = false;
    }

    /// It has no whole response.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.incomplete, Some(Incomplete::NoResponse | Incomplete::ResponseCut))
    }

    /// Nothing more is to come.
    pub fn is_finished(&self) -> bool {
        let is_whole = match self.halves {
            Halves::Both => self.request.ended && self.response.ended,
            Halves::RequestOnly => self.request.ended,
            Halves::ResponseOnly => self.response.ended,
        };
        self.closed || self.incomplete_and_closed() || is_whole
    }

    fn incomplete_and_closed(&self) -> bool {
        self.incomplete.is_some() && self.response.ended
    }
}

/// An exchange that was taken from a queue, and can be given back to it.
pub trait TakenExchange: Debug + Send {
    fn exchange(&self) -> &AnyExchange;
    fn exchange_mut(&mut self) -> &mut AnyExchange;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<M: Message> TakenExchange for Exchange<M> {
    fn exchange(&self) -> &AnyExchange {
        self
    }

    fn exchange_mut(&mut self) -> &mut AnyExchange {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A queue of exchanges of a protocol that the caller need not know: what a connection does with it.
pub trait AnyQueue {
    /// How many exchanges are held.
    fn len(&self) -> usize;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for a response.
    fn waiting(&self) -> usize;

    /// The exchange at this place, from the oldest on.
    fn get(&self, at: usize) -> Option<&AnyExchange>;

    /// The oldest exchange.
    fn oldest(&self) -> Option<&AnyExchange> {
        self.get(0)
    }

    /// The newest exchange.
    fn newest(&self) -> Option<&AnyExchange> {
        self.get(self.len().checked_sub(1)?)
    }

    /// The oldest exchange that waits for its response, or for the rest of it.
    fn awaiting(&mut self) -> Option<&mut AnyExchange>;

    /// All exchanges that are not taken yet, oldest first.
    fn for_each(&mut self, change: &mut dyn FnMut(&mut AnyExchange));

    /// A request may be lost behind this position of the client: takes the responses of [unsure](Exchange::unsure) exchanges
    /// before it back.
    fn refute_unsure_before(&mut self, pos: u64);

    /// See [`Queue::is_any_order`].
    fn is_any_order(&self) -> bool;

    /// Takes the exchange at this place.
    fn take_at(&mut self, at: usize) -> Option<Box<dyn TakenExchange>>;

    /// Says whether what the server sends now was sent before the newest request, as far as times tell.
    fn set_overtaken(&mut self, is_overtaken: bool);

    /// Says whether all comes in causal order, holes too: see [`Queue::is_in_order`].
    fn set_in_order(&mut self, is_in_order: bool);
}

impl<M: Message + Default> AnyQueue for Queue<M> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn waiting(&self) -> usize {
        self.waiting()
    }

    fn get(&self, at: usize) -> Option<&AnyExchange> {
        let exchange: &Exchange<M> = self.items.get(at)?;
        Some(exchange)
    }

    fn awaiting(&mut self) -> Option<&mut AnyExchange> {
        let exchange: &mut Exchange<M> = self.awaiting()?;
        Some(exchange)
    }

    fn for_each(&mut self, change: &mut dyn FnMut(&mut AnyExchange)) {
        self.items.iter_mut().for_each(|exchange| change(&mut **exchange));
    }

    fn is_any_order(&self) -> bool {
        self.is_any_order
    }

    fn take_at(&mut self, at: usize) -> Option<Box<dyn TakenExchange>> {
        let taken: Box<Exchange<M>> = self.take_at(at)?;
        Some(taken)
    }

    fn refute_unsure_before(&mut self, pos: u64) {
        self.refute_unsure(|exchange| exchange.request.end <= pos);
    }

    fn set_overtaken(&mut self, is_overtaken: bool) {
        self.is_overtaken = is_overtaken;
    }

    fn set_in_order(&mut self, is_in_order: bool) {
        self.is_in_order = is_in_order;
    }
}

/// The exchanges of one connection, oldest first.
///
/// Most protocols answer in the order of the requests (RFC 9112, 9.3.2; MySQL): they add at the back and fill in from the front
/// ([`Queue::awaiting`]), and the connection takes finished exchanges from the front. Where responses come in
/// [any order](Queue::is_any_order) (correlation ids, streams), a response finds its request by key ([`Queue::awaiting_by`]), and
/// whatever is finished is taken. Both only once every observer has seen the last byte. Taken exchanges are handed back and reused
/// with their buffers.
#[derive(Debug, Default)]
pub struct Queue<M> {
    /// Boxed: they are handed on several times, and are large.
    items: VecDeque<Box<Exchange<M>>>,
    spare: Vec<Box<Exchange<M>>>,
    /// How many at the front have a whole response (or expect none).
    answered: usize,
    /// Responses may come in another order than their requests: [`Pairing::ANY_ORDER`](super::protocol::Pairing::ANY_ORDER).
    is_any_order: bool,
    /// What the server sends now was sent before the newest request, as far as times tell.
    pub is_overtaken: bool,
    /// What the server sends comes after all that it had received by then, holes too: acknowledgments tell so in packet captures.
    /// Where each end was recorded by itself, a hole is known only when something comes behind it.
    pub is_in_order: bool,
}

/// Requests that may wait on one connection before the oldest is given up.
pub const MAX_WAITING: usize = 4096;

impl<M: Message + Default> Queue<M> {
    /// An empty queue, for responses in the order of their requests or in any order.
    pub fn new(is_any_order: bool) -> Self {
        Queue {
            is_any_order,
            ..Queue::default()
        }
    }

    /// Adds an exchange of which nothing is known, and gives it to be filled. When it was used before, its message
    /// holds old content: the protocol overwrites every field.
    pub fn open(&mut self) -> &mut Exchange<M> {
        let exchange = match self.spare.pop() {
            Some(mut exchange) => {
                exchange.reset();
                exchange
            }
            None => Box::default(),
        };
        self.items.push_back(exchange);
        let newest = self.items.len() - 1;
        &mut self.items[newest]
    }

    /// Adds the newest exchange.
    pub fn push(&mut self, exchange: Exchange<M>) {
        self.items.push_back(Box::new(exchange));
    }

    /// The newest exchange: the one whose request is being read.
    pub fn newest(&mut self) -> Option<&mut Exchange<M>> {
        self.items.back_mut().map(|exchange| &mut **exchange)
    }

    /// The oldest exchange that waits for its response, or for the rest of it. One-way exchanges are passed over.
    pub fn awaiting(&mut self) -> Option<&mut Exchange<M>> {
        while self
            .items
            .get(self.answered)
            .is_some_and(|e| e.halves == Halves::RequestOnly && e.request.ended)
        {
            self.answered += 1;
        }
        self.items.get_mut(self.answered).map(|exchange| &mut **exchange)
    }

    /// Where responses come in any order: the newest exchange that is not finished and that this says is the one. A key that is used
    /// again means its newest request.
    pub fn awaiting_by(&mut self, is_it: impl Fn(&M) -> bool) -> Option<&mut Exchange<M>> {
        self.iter_mut()
            .rev()
            .find(|exchange| !exchange.is_finished() && is_it(&exchange.message))
    }

    /// The oldest awaiting exchange has its whole response now.
    pub fn answer_ended(&mut self) {
        if self.answered < self.items.len() {
            self.answered += 1;
        }
    }

    /// How many wait for a response.
    pub fn waiting(&self) -> usize {
        match self.is_any_order {
            true => self.items.iter().filter(|exchange| !exchange.is_finished()).count(),
            false => self.items.len() - self.answered.min(self.items.len()),
        }
    }

    /// Those that wait for a response, or for the rest of it, oldest first.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Exchange<M>> {
        self.items
            .iter_mut()
            .skip(self.answered)
            .map(|exchange| &mut **exchange)
    }

    /// As [`Queue::iter`], to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Exchange<M>> {
        self.items.iter_mut().map(|exchange| &mut **exchange)
    }

    /// Takes the responses of [unsure](Exchange::unsure) exchanges back where this says so.
    pub fn refute_unsure(&mut self, is_refuted: impl Fn(&Exchange<M>) -> bool) {
        let unsure = self
            .iter_mut()
            .filter(|exchange| (exchange.unsure || exchange.turn_unsure) && is_refuted(exchange));
        unsure.for_each(Exchange::refute_response);
    }

    /// The client goes on at this position, and no hole lies before it: what the requests before were given is theirs.
    pub fn confirm_unsure(&mut self, pos: u64) {
        let is_before = |exchange: &&mut Exchange<M>| exchange.request.ended && exchange.request.end <= pos;
        self.iter_mut()
            .filter(is_before)
            .for_each(|exchange| (exchange.unsure, exchange.turn_unsure) = (false, false));
    }

    /// All exchanges that are not taken yet, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Exchange<M>> {
        self.items.iter().map(|exchange| &**exchange)
    }

    /// The oldest exchange.
    pub fn oldest(&self) -> Option<&Exchange<M>> {
        self.items.front().map(|exchange| &**exchange)
    }

    /// Takes the oldest exchange.
    pub fn take(&mut self) -> Option<Box<Exchange<M>>> {
        self.take_at(0)
    }

    /// Takes the exchange at this place, from the oldest on.
    fn take_at(&mut self, at: usize) -> Option<Box<Exchange<M>>> {
        let taken = self.items.remove(at)?;
        self.answered -= usize::from(at < self.answered);
        Some(taken)
    }

    /// Gives a taken exchange back for reuse.
    pub fn recycle(&mut self, exchange: Box<Exchange<M>>) {
        if self.spare.len() < 8 {
            self.spare.push(exchange);
        }
    }

    /// An exchange that was given back.
    pub fn take_recycled(&mut self) -> Option<Box<Exchange<M>>> {
        self.spare.pop()
    }

    /// Empty as at first, with its buffers.
    pub fn reset(&mut self) {
        self.items.clear();
        self.spare.clear();
        self.answered = 0;
        (self.is_overtaken, self.is_in_order) = (false, false);
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.items.len()
    }
}
