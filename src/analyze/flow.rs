//! One connection as all its observers saw it: two streams, one protocol, one queue of exchanges.
//!
//! The client's socket and the server's socket carry the same bytes at the same positions. Whoever shows a byte first
//! has it read; everybody who shows it adds the time at which it was seen there. So a connection is parsed once,
//! what one end lost the other end may still have, and the two views of an exchange are joined by construction.

mod detection;
mod fast_path;
mod negotiation;
mod preface;
mod reorder;
#[cfg(test)]
mod tests;
mod turns;

use fast_path::FastPath;
use negotiation::Socks;
use preface::Preface;
use reorder::{Next, Reorder};
use turns::Turns;

use super::exchange::{AnyExchange, AnyQueue, Exchange, Halves, Incomplete, Seen, Side, Span, TakenExchange, View};
use super::protocol::conversation::Conversation;
use super::protocol::turn::TurnMessage;
use super::protocol::{Missing, Verdict, detect};
use super::row::WantedTurns;
use super::stream::{Held, Segment, Stream};
use crate::format::record::Endpoint;

/// Observers of a connection: its two ends, and the wire between them.
pub const OBSERVERS: usize = 3;
/// The observer that is nobody's end.
pub const WIRE: usize = 2;

/// Segments remembered that belong to no exchange yet; the last ones, when there are more.
const MAX_UNPLACED: usize = 64;
/// Finished exchanges that may wait for an observer to catch up.
const MAX_UNSEEN: usize = 1024;
/// The same for an observer that has not shown a single byte: it may be filtered away.
const MAX_UNSEEN_BY_SILENT: usize = 16;

/// What one observer has shown so far.
#[derive(Debug, Clone, Copy, Default)]
struct Coverage {
    attached: bool,
    /// It has a place before it was heard of: another host has recorded this end.
    expected: bool,
    closed: bool,
    /// It has shown nothing for so long that nothing waits for it, until it does.
    given_up: bool,
    /// Position after the last byte shown, by direction; 0 before the first.
    until: [u64; 2],
    /// The same with what was shown and not read yet.
    heard: [u64; 2],
}

impl Coverage {
    fn is_silent(&self) -> bool {
        self.until == [0, 0]
    }

    /// Nothing more comes from it.
    fn is_over(&self) -> bool {
        self.closed || !(self.attached || self.expected)
    }
}

#[derive(Debug)]
enum ProtocolState {
    Undetected,
    Known(Box<dyn Conversation>),
    Other,
    /// What this end said is of no protocol that is read, and the other is still to speak: a server of HTTP answers noise
    /// and TLS with 400, and where the server speaks first the client may say more.
    Foreign(usize),
}

impl ProtocolState {
    /// A hole has hidden where messages begin, or which request a response answers, and that is not found yet.
    fn is_in_doubt(&self) -> bool {
        match self {
            ProtocolState::Undetected => true,
            ProtocolState::Known(conversation) => conversation.is_in_doubt(),
            ProtocolState::Other | ProtocolState::Foreign(_) => false,
        }
    }

    /// What this end sent looks like nothing that is read, and the other has not answered yet.
    fn is_foreign(&self, end: usize) -> bool {
        matches!(self, ProtocolState::Foreign(first) if *first == end)
    }

    /// What is said in a protocol that is read.
    fn conversation(&self) -> Option<&dyn Conversation> {
        match self {
            ProtocolState::Known(conversation) => Some(&**conversation),
            ProtocolState::Undetected | ProtocolState::Other | ProtocolState::Foreign(_) => None,
        }
    }

    fn conversation_mut(&mut self) -> Option<&mut Box<dyn Conversation>> {
        match self {
            ProtocolState::Known(conversation) => Some(conversation),
            ProtocolState::Undetected | ProtocolState::Other | ProtocolState::Foreign(_) => None,
        }
    }

    /// Nothing is under way in either direction.
    fn is_at_rest(&self) -> bool {
        self.conversation().is_some_and(Conversation::is_at_rest)
    }
}

/// A connection. Index 0 and 1 stand for its two ends: of `ends`, of `streams` (by sender), of observers.
#[derive(Debug)]
pub struct Flow {
    pub ends: [Endpoint; 2],
    /// Which end is the client, once known.
    client: Option<usize>,
    /// Its beginning was not seen.
    joined: bool,
    /// Because it was lost; otherwise the capture began later.
    is_beginning_lost: bool,
    join_tries: u32,
    /// Whose bytes were tried last.
    join_sender: usize,
    coverage: [Coverage; OBSERVERS],
    /// Whose clock stamps what an observer shows.
    clocks: [u16; OBSERVERS],
    streams: [Stream; 2],
    reorder: Reorder,
    /// Bytes were given up, and the protocol has not found its place since.
    is_lost: bool,
    /// Urgent data was seen, by sender.
    urgent: [bool; 2],
    ended: [bool; 2],
    /// By sender: where what it sent ends, as the kernel counted it; `None` where that is not known.
    totals: [Option<u64>; 2],
    /// How many tunnels it is in, each within the one before.
    tunnels: u8,
    /// By sender.
    preface: [Preface; 2],
    socks: Socks,
    protocol_state: ProtocolState,
    /// Conversations that are over, oldest first, as long as exchanges of them are not taken: what is said in a tunnel may be
    /// of another protocol.
    past: Vec<Box<dyn Conversation>>,
    undetected: Vec<(usize, Held)>,
    /// By sender: up to where what was kept of it says nothing of the protocol.
    not_guessed: [u64; 2],
    /// By observer: when it saw the first of a response that came before any request for it, and is held; 0 where none is.
    held_since: [u64; OBSERVERS],
    /// By sender: the bytes that are lost right before what is kept of it in `undetected`, and how much was kept of both by then.
    lost_before: [Option<(u64, u64, usize)>; 2],
    /// Segments (without their bytes) that were seen before the exchange they belong to was: a response whose request
    /// another CPU reported later.
    unplaced: Vec<(usize, Segment<'static>)>,
    fast_path: FastPath,
    turns: Turns,
    /// What is kept of connections that are over for the next, one for each protocol: memory that is still in the cache, and
    /// the head that was read last.
    spare: Vec<Box<dyn Conversation>>,
    /// What it was recognised as; empty when nothing is known.
    pub protocol: &'static str,
    /// Why nothing (more) was read from it.
    pub why: &'static str,
    pub lost_bytes: u64,
    pub unread_bytes: u64,
    pub exchanges: u64,
}

impl Flow {
    /// A connection of which nothing was seen yet.
    pub fn new(ends: [Endpoint; 2], client: Option<usize>, joined: bool) -> Self {
        Flow {
            ends,
            client,
            joined,
            is_beginning_lost: false,
            join_tries: 0,
            join_sender: usize::MAX,
            coverage: Default::default(),
            clocks: Default::default(),
            streams: Default::default(),
            reorder: Reorder::default(),
            is_lost: false,
            urgent: [false; 2],
            ended: [false; 2],
            totals: [None; 2],
            tunnels: 0,
            preface: Default::default(),
            socks: Socks::default(),
            protocol_state: ProtocolState::Undetected,
            past: Vec::new(),
            undetected: Vec::new(),
            not_guessed: [0; 2],
            held_since: [0; OBSERVERS],
            lost_before: [None; 2],
            unplaced: Vec::new(),
            fast_path: FastPath::default(),
            turns: Turns::default(),
            spare: Vec::new(),
            protocol: "",
            why: "",
            lost_bytes: 0,
            unread_bytes: 0,
            exchanges: 0,
        }
    }

    /// Its beginning was not seen.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// This connection is over: what is left are its buffers, for [`Flow::again`]. What they held goes now, not when they are
    /// used again.
    pub fn recycled(mut self) -> Self {
        if let ProtocolState::Known(mut conversation) = self.protocol_state {
            conversation.begin(false);
            self.spare.push(conversation);
        }
        self.turns.reset();
        Flow {
            fast_path: self.fast_path.recycled(),
            turns: self.turns,
            spare: self.spare,
            ..Flow::new(self.ends, None, false)
        }
    }

    /// As [`Flow::new`], with the buffers of one that was [recycled](Flow::recycled).
    pub fn again(self, ends: [Endpoint; 2], client: Option<usize>, joined: bool) -> Self {
        Flow {
            ends,
            client,
            joined,
            ..self
        }
    }

    /// Cuts it into turns from here on, if they are wanted.
    pub fn cut_turns(&mut self, wanted: WantedTurns) {
        self.turns.begin(wanted);
    }

    /// Which end is the client; `None` while nobody knows.
    pub fn client(&self) -> Option<usize> {
        self.client
    }

    /// Whether this observer has no place here yet.
    pub fn lacks(&self, observer: usize) -> bool {
        !self.coverage[observer].attached
    }

    /// Gives an observer its place; `clock` is the number of the host whose clock stamps its times.
    pub fn attach(&mut self, observer: usize, clock: u16) {
        self.leave_straight();
        self.coverage[observer].attached = true;
        self.clocks[observer] = clock;
        self.set_in_order();
    }

    /// Another host has recorded this end, and will tell of it.
    pub fn expect(&mut self, observer: usize) {
        self.leave_straight();
        self.coverage[observer].expected = true;
    }

    /// Says who is the client, if that is not known.
    pub fn set_client(&mut self, end: usize) {
        self.client.get_or_insert(end);
    }

    /// Says where the stream that `sender` sends begins.
    pub fn start(&mut self, sender: usize, sequence: u32) {
        self.streams[sender].start(sequence);
    }

    /// The stream that `sender` sends.
    pub fn stream(&self, sender: usize) -> &Stream {
        &self.streams[sender]
    }

    /// Whether every observer that was attached is closed.
    pub fn is_closed(&self) -> bool {
        self.coverage.iter().all(Coverage::is_over)
    }

    /// Takes bytes that an observer saw `sender` send. The position of the segment is of that sender's stream.
    pub fn segment(&mut self, sender: usize, segment: Segment<'_>) {
        self.turns.segment(sender, &segment);
        if self.fast_path.is_open() {
            if self.go_straight(sender, &segment) {
                return;
            }
            self.leave_straight();
        }
        self.in_order(sender, segment);
    }

    /// Reads a segment, and those that waited for it, as soon as nothing before it is missing.
    fn in_order(&mut self, sender: usize, segment: Segment<'_>) {
        let heard = &mut self.coverage[usize::from(segment.observer).min(WIRE)].heard[sender];
        *heard = (*heard).max(segment.end());
        self.urgent[sender] |= segment.urgent;
        let awaits_bytes = self.may_be_shown(sender, &segment);
        let is_next = segment.pos <= self.streams[sender].next() && !awaits_bytes;
        // Most segments come in order, with their bytes, and nothing waits for them.
        if is_next && self.reorder.is_empty() && !self.is_lost {
            return self.read(sender, &segment);
        }
        // A packet capture was put in order when it was read: what is missing is missing.
        if self.is_seen_on_the_wire_only() {
            self.give_up(sender, segment.pos);
            return self.read(sender, &segment);
        }
        self.reorder.push(sender, &segment, awaits_bytes);
        if is_next || self.is_lost || self.reorder.is_full() {
            self.drain(false);
        }
    }

    /// Whether bytes that an end could not read may still come from the other end.
    fn may_be_shown(&self, sender: usize, segment: &Segment<'_>) -> bool {
        let observer = usize::from(segment.observer);
        if !segment.payload.is_empty() || segment.len == 0 || segment.urgent || observer >= WIRE {
            return false;
        }
        let other = &self.coverage[1 - observer];
        other.attached && !other.closed && !other.given_up && other.heard[sender] < segment.end()
    }

    fn is_seen_on_the_wire_only(&self) -> bool {
        self.coverage[WIRE].attached && self.coverage[..WIRE].iter().all(|coverage| !coverage.attached)
    }

    /// Reads what waits, as far as nothing is missing; what is missing is given up where too much waits, or `all` of it has
    /// to go.
    fn drain(&mut self, all: bool) {
        loop {
            let nexts = [self.streams[0].next(), self.streams[1].next()];
            let Some(next) = self.reorder.next(nexts, &self.clocks) else {
                break;
            };
            self.is_lost &= self.protocol_state.is_in_doubt();
            if self.is_lost && self.reorder.is_short() && !all {
                break;
            }
            match next {
                Next::Read(at) => {
                    let (sender, held) = self.reorder.remove(at);
                    self.read(sender, &held.segment());
                }
                _ if !all && !self.reorder.is_full() => break,
                Next::Awaits(at) => self.reorder.await_no_bytes_of(at),
                Next::Missing(at) => {
                    let (sender, segment) = self.reorder.get(at);
                    let upto = segment.pos;
                    let is_overtaken = self.is_overtaken(sender, &segment);
                    self.set_overtaken(is_overtaken);
                    self.give_up(sender, upto);
                }
            }
        }
        for sender in self.client_first() {
            if self.coverage[sender].closed && !self.reorder.holds(sender) {
                self.end(sender);
            }
        }
    }

    /// The bytes before this position will not come.
    fn give_up(&mut self, sender: usize, upto: u64) {
        let Some((pos, len)) = self.streams[sender].give_up(upto) else {
            return;
        };
        // When an urgent byte comes before the one before it was passed over, the receiver's kernel drops that one and
        // tells nobody (tcp_check_urg).
        if len == 1 && self.urgent[sender] {
            return;
        }
        self.lost_bytes += len;
        self.is_lost = !self.is_seen_on_the_wire_only();
        if self.client == Some(sender) {
            // A request may be lost behind these: their responses may be the one to that.
            self.queues_mut().for_each(|queue| queue.refute_unsure_before(pos));
        } else {
            self.change_exchanges(|exchange| {
                if exchange.end_unsure && exchange.response.end == pos {
                    exchange.refute_end();
                }
            });
        }
        self.missing(sender, pos, len, Missing::Lost);
    }

    /// Reads the new part of a segment, then notes when its observer saw the whole of it.
    fn read(&mut self, sender: usize, segment: &Segment<'_>) {
        let seen = self.streams[sender].advance(segment);
        if seen < segment.len && !segment.urgent {
            let fresh = segment.after(seen);
            self.unread_bytes += fresh.len.saturating_sub(fresh.payload.len() as u64);
            if self.is_lost || self.held() > 1 {
                let is_overtaken = self.is_overtaken(sender, segment);
                self.set_overtaken(is_overtaken);
            }
            self.decide_unasked(sender, segment);
            self.after_preface(sender, &fresh);
            self.note_held(sender, segment);
        }
        self.observe(sender, segment);
    }

    /// Notes since when a response is held.
    fn note_held(&mut self, sender: usize, segment: &Segment<'_>) {
        let holds = self
            .protocol_state
            .conversation()
            .is_some_and(|one| one.holds_response());
        let since = &mut self.held_since[usize::from(segment.observer).min(WIRE)];
        match holds {
            true if self.client == Some(1 - sender) && *since == 0 => *since = segment.time,
            true => {}
            false => self.held_since = [0; OBSERVERS],
        }
    }

    /// A server may speak unasked (a 408 before it closes an idle connection): what an observer saw before the client began to
    /// ask is no answer to that, and does not wait for it.
    fn decide_unasked(&mut self, sender: usize, segment: &Segment<'_>) {
        let since = self.held_since[usize::from(segment.observer).min(WIRE)];
        if since == 0 || segment.time <= since || self.client != Some(sender) {
            return;
        }
        if let Some(conversation) = self.protocol_state.conversation_mut() {
            let verdict = conversation.settle();
            self.apply_verdict(verdict);
        }
        self.held_since = [0; OBSERVERS];
    }

    /// Whether this was sent before the newest request was, which was recorded first all the same.
    fn is_overtaken(&self, sender: usize, segment: &Segment<'_>) -> bool {
        let newest = self.queues().filter_map(AnyQueue::newest).last();
        let Some(newest) = newest.filter(|_| self.client == Some(1 - sender)) else {
            return false;
        };
        let clock = self.clocks[usize::from(segment.observer).min(WIRE)];
        let seen = newest
            .views
            .iter()
            .zip(self.clocks)
            .filter(|(_, other)| *other == clock);
        let asked = seen.map(|(view, _)| view.request.first).filter(|time| *time != 0).min();
        asked.is_some_and(|asked| segment.time < asked)
    }

    /// Packet captures were put in order when they were read.
    fn set_in_order(&mut self) {
        let is_in_order = self.is_seen_on_the_wire_only();
        if let Some(conversation) = self.protocol_state.conversation_mut() {
            conversation.queue_mut().set_in_order(is_in_order);
        }
    }

    fn set_overtaken(&mut self, is_overtaken: bool) {
        if let Some(conversation) = self.protocol_state.conversation_mut() {
            conversation.queue_mut().set_overtaken(is_overtaken);
        }
    }

    /// The exchanges that are not taken yet, oldest first.
    fn queues(&self) -> impl Iterator<Item = &dyn AnyQueue> {
        let past = self.past.iter().map(|past| past.queue());
        past.chain(self.protocol_state.conversation().map(Conversation::queue))
    }

    fn queues_mut(&mut self) -> impl Iterator<Item = &mut dyn AnyQueue> {
        let past = self.past.iter_mut().chain(self.protocol_state.conversation_mut());
        past.map(|conversation| conversation.queue_mut())
    }

    fn change_exchanges(&mut self, mut change: impl FnMut(&mut AnyExchange)) {
        self.queues_mut().for_each(|queue| queue.for_each(&mut change));
    }

    /// How many exchanges are not taken yet.
    fn held(&self) -> usize {
        self.queues().map(AnyQueue::len).sum()
    }

    /// Nothing more is read of this protocol.
    fn leave(&mut self) {
        let left = std::mem::replace(&mut self.protocol_state, ProtocolState::Other);
        if let ProtocolState::Known(conversation) = left
            && !conversation.queue().is_empty()
        {
            self.past.push(conversation);
        }
        self.turns.protocol_is_left(self.client.unwrap_or(0));
    }

    /// Takes bytes that are new, of the protocol that the connection speaks.
    fn fresh(&mut self, sender: usize, segment: &Segment<'_>) {
        match self.protocol_state {
            ProtocolState::Undetected => self.undetected(sender, segment),
            ProtocolState::Foreign(first) if first != sender => self.undetected(sender, segment),
            ProtocolState::Foreign(_) if !self.undetected.is_empty() => self.keep_unanswered(sender, segment),
            _ => self.feed_protocol(sender, segment),
        }
    }

    fn side(&self, sender: usize) -> Side {
        match self.client {
            Some(client) if client != sender => Side::Server,
            _ => Side::Client,
        }
    }

    fn bytes(&mut self, sender: usize, pos: u64, bytes: &[u8]) {
        let side = self.side(sender);
        let verdict = match &mut self.protocol_state {
            ProtocolState::Known(conversation) => conversation.bytes(side, pos, bytes),
            ProtocolState::Undetected | ProtocolState::Other | ProtocolState::Foreign(_) => return,
        };
        self.apply_verdict(verdict);
    }

    fn missing(&mut self, sender: usize, mut pos: u64, mut len: u64, why: Missing) {
        let behind = self.missing_in_preface(sender, len);
        if behind == 0 && len > 0 {
            return;
        }
        (pos, len) = (pos + (len - behind), behind);
        self.missing_in_negotiation();
        let side = self.side(sender);
        let verdict = match &mut self.protocol_state {
            ProtocolState::Known(conversation) => conversation.missing(side, pos, len, why),
            ProtocolState::Other => return,
            ProtocolState::Foreign(first) if *first == sender => {
                self.undetected.retain(|(end, _)| *end != sender);
                return;
            }
            ProtocolState::Undetected | ProtocolState::Foreign(_) => {
                // What was kept stands before the gap; a beginning can only be found after it.
                self.undetected.retain(|(end, _)| *end != sender);
                let kept = self.undetected.len();
                self.lost_before[sender] = (why == Missing::Lost).then_some((pos, len, kept));
                self.is_beginning_lost |= !self.joined && why == Missing::Lost;
                self.joined = true;
                return;
            }
        };
        self.apply_verdict(verdict);
    }

    fn apply_verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Continue => {}
            Verdict::Tunnel(why) => self.enter_tunnel(why),
            Verdict::Leave(why) => {
                self.leave();
                self.why = why;
            }
            Verdict::Mistaken(why) => {
                self.leave();
                self.why = why;
                if self.exchanges == 0 && self.past.is_empty() && !detect::word(why).is_empty() {
                    self.protocol = detect::word(why);
                }
            }
        }
    }

    /// Gives the protocol the bytes of a segment, none of which it has had, and says what of it nobody read.
    fn feed_protocol(&mut self, sender: usize, segment: &Segment<'_>) {
        if !segment.payload.is_empty() {
            self.bytes(sender, segment.pos, segment.payload);
        }
        let unread = segment.len.saturating_sub(segment.payload.len() as u64);
        if unread > 0 {
            self.missing(sender, segment.end() - unread, unread, Missing::Unread);
        }
    }

    /// Notes when an observer saw these bytes, in every exchange that they belong to.
    fn observe(&mut self, sender: usize, segment: &Segment<'_>) {
        let observer = usize::from(segment.observer).min(WIRE);
        self.coverage[observer].given_up = false;
        let until = &mut self.coverage[observer].until[sender];
        let hole_from = if *until == 0 || *until > segment.pos {
            segment.pos
        } else {
            *until
        };
        *until = (*until).max(segment.end());
        self.place_early();
        let placed = self.place(sender, segment, hole_from);
        if matches!(self.protocol_state, ProtocolState::Other) {
            self.unplaced.clear();
        } else if !placed && !segment.urgent {
            if self.unplaced.len() == MAX_UNPLACED {
                self.unplaced.remove(0);
            }
            self.unplaced.push((
                sender,
                Segment {
                    payload: &[],
                    ..*segment
                },
            ));
        }
    }

    /// Tries again what was seen before the exchange it belongs to was.
    fn place_early(&mut self) {
        if !self.unplaced.is_empty() {
            let mut unplaced = std::mem::take(&mut self.unplaced);
            unplaced.retain(|(sender, early)| !self.place(*sender, early, early.pos));
            self.unplaced = unplaced;
        }
    }

    /// Where nothing has begun, no exchange is to come that what was seen could belong to.
    fn forget_unplaced(&mut self) {
        if self.held() == 0 && self.protocol_state.is_at_rest() {
            self.unplaced.clear();
        }
    }

    /// Whether the whole of the segment belongs to exchanges that are held: its end may be the beginning of a head.
    fn place(&mut self, sender: usize, segment: &Segment<'_>, hole_from: u64) -> bool {
        let observer = usize::from(segment.observer).min(WIRE);
        let is_request = self.client == Some(sender);
        let mut placed = false;
        self.change_exchanges(|exchange| placed |= place_in(exchange, is_request, observer, segment, hole_from));
        placed
    }

    /// Whether a turn may be over; whether it can be taken is another question.
    pub fn has_turn(&self) -> bool {
        self.turns.has_finished()
    }

    /// Takes the oldest turn that is over, of a connection whose protocol is not read, or of any if that is wanted. `flush` takes what
    /// there is.
    pub fn take_turn(&mut self, flush: bool) -> Option<Box<Exchange<TurnMessage>>> {
        let is_read = matches!(self.protocol_state, ProtocolState::Known(_));
        if !flush && !is_read && !matches!(self.protocol_state, ProtocolState::Other) && !self.turns.is_full() {
            return None;
        }
        let attached = [0, 1, 2].map(|observer| {
            let coverage = &self.coverage[observer];
            coverage.attached || coverage.expected
        });
        let mut turn = self.turns.take(&turns::Connection {
            client: self.client.unwrap_or(0),
            attached,
            is_over: flush,
            is_joined: self.joined,
            is_read,
            ends: self.totals,
        })?;
        turn.message.protocol = self.protocol;
        Some(turn)
    }

    /// How many turns were taken.
    pub fn turns(&self) -> u64 {
        self.turns.taken
    }

    /// Whether the next exchange to be taken is finished; whether it can be taken is another question.
    pub fn has_finished(&self) -> bool {
        // While the fast path is open, nothing else is under way.
        let is_next = || {
            self.next_queue()
                .is_some_and(|queue| places(queue).any(|at| is_finished(queue, at)))
        };
        self.fast_path.is_whole() || (!self.fast_path.is_open() && is_next())
    }

    /// The queue from which exchanges are taken: a conversation that is over goes first.
    fn next_queue(&self) -> Option<&dyn AnyQueue> {
        self.queues().find(|queue| !queue.is_empty())
    }

    /// Takes the oldest exchange if it is finished and every observer has shown all of it; where responses come in any order, the
    /// oldest of which that holds. `flush` takes the oldest anyway.
    pub fn take(&mut self, flush: bool) -> Option<Box<dyn TakenExchange>> {
        if let Some(whole) = self.fast_path.take() {
            self.exchanges += 1;
            return Some(whole);
        }
        if self.fast_path.is_open() {
            return None;
        }
        let queue = self.next_queue()?;
        let at =
            places(queue).find(|at| flush || queue.get(*at).is_some_and(|exchange| self.may_be_taken(exchange)))?;
        let (unsure, end_unsure) = self.is_unsure(queue.get(at)?);
        self.exchanges += 1;
        let mut boxed = self.queues_mut().find(|queue| !queue.is_empty())?.take_at(at)?;
        self.past.retain(|past| !past.queue().is_empty());
        let taken = boxed.exchange_mut();
        if self.is_beginning_lost && taken.incomplete == Some(Incomplete::StartedBefore) {
            taken.incomplete = Some(Incomplete::Gap);
        }
        if unsure {
            taken.refute_response();
        } else if end_unsure {
            taken.refute_end();
        }
        if taken.halves == Halves::Both && (0..OBSERVERS).all(|observer| whole_view(taken, observer).is_none()) {
            // Bytes within its body are lost, or nobody was there to see it whole: it has no times.
            taken.mark(Incomplete::Gap);
        }
        if !self.unplaced.is_empty() {
            let is_of_later = |(sender, early): &(usize, Segment<'_>)| {
                let span = match self.client == Some(*sender) {
                    true => &taken.request,
                    false => &taken.response,
                };
                early.end() > span.end
            };
            self.unplaced.retain(is_of_later);
            self.forget_unplaced();
        }
        self.open_straight();
        Some(boxed)
    }

    /// Whether all of an exchange is known that will be.
    fn may_be_taken(&self, exchange: &AnyExchange) -> bool {
        if !exchange.is_finished() || (self.is_half_closed() && exchange.is_unanswered()) {
            return false;
        }
        let (unsure, end_unsure) = self.is_unsure(exchange);
        let is_certain = !(unsure || end_unsure || exchange.turn_unsure);
        self.held() >= MAX_UNSEEN || (is_certain && self.is_shown(exchange))
    }

    /// Whether it is not known yet that no request is lost between the one of this exchange and the next; and that nothing is
    /// lost right behind its response.
    fn is_unsure(&self, exchange: &AnyExchange) -> (bool, bool) {
        let Some(client) = self.client else {
            return (false, false);
        };
        let server = 1 - client;
        let is_all = |sender: usize| self.totals[sender].is_some_and(|total| total <= self.streams[sender].next());
        (
            exchange.unsure && (exchange.awaits_turn || !is_all(client)),
            exchange.end_unsure && self.streams[server].next() <= exchange.response.end && !is_all(server),
        )
    }

    /// Whether every observer that is to be waited for has shown all of the exchange.
    fn is_shown(&self, exchange: &AnyExchange) -> bool {
        let Some(client) = self.client else { return true };
        self.coverage.iter().all(|coverage| {
            if coverage.is_over() || coverage.given_up {
                return true;
            }
            if coverage.is_silent() {
                return !coverage.expected && self.held() > MAX_UNSEEN_BY_SILENT;
            }
            let shown = |span: &Span, sender: usize| !span.ended || coverage.until[sender] >= span.end;
            shown(&exchange.request, client) && shown(&exchange.response, 1 - client)
        })
    }

    /// One end is closed, and how the other ended is still to come: it may say why there is no response.
    fn is_half_closed(&self) -> bool {
        self.coverage.iter().any(|coverage| coverage.closed)
            && self
                .coverage
                .iter()
                .any(|coverage| !coverage.is_over() && !coverage.given_up)
    }

    /// The earliest time that an exchange still to be taken can have, by observer (boot clock of its host, ns).
    pub fn oldest(&self) -> [u64; OBSERVERS] {
        let mut oldest = [u64::MAX; OBSERVERS];
        let mut note = |observer: usize, time: u64| {
            if time != 0 {
                oldest[observer] = oldest[observer].min(time);
            }
        };
        let queued = self
            .queues()
            .flat_map(|queue| (0..queue.len()).filter_map(|at| queue.get(at)));
        for exchange in queued.chain(self.at_hand()) {
            for (observer, view) in exchange.views.iter().enumerate() {
                view.times().into_iter().for_each(|time| note(observer, time));
            }
        }
        self.turns.times().for_each(|(observer, time)| note(observer, time));
        if matches!(self.protocol_state, ProtocolState::Other) {
            return oldest;
        }
        let mut segment = |segment: Segment<'_>| note(usize::from(segment.observer).min(WIRE), segment.time);
        self.reorder.iter().for_each(|(_, waiting)| segment(waiting));
        // What nobody understood is a part of no exchange.
        let kept = self
            .undetected
            .iter()
            .filter(|(end, _)| !self.protocol_state.is_foreign(*end));
        kept.for_each(|(_, held)| segment(held.segment()));
        let kept = self.preface.iter().flat_map(Preface::kept);
        kept.for_each(|held| segment(held.segment()));
        self.socks.kept().iter().for_each(|(_, held)| segment(held.segment()));
        if !matches!(self.protocol_state, ProtocolState::Foreign(_)) {
            self.unplaced.iter().for_each(|(_, early)| segment(*early));
        }
        oldest
    }

    /// Whether what the first to speak said is of no protocol that is read, and the other end may still answer it.
    pub fn is_foreign(&self) -> bool {
        matches!(self.protocol_state, ProtocolState::Foreign(_)) && !self.is_closed()
    }

    /// Whether what it is, and why nothing is read from it, stays as it is now.
    pub fn is_settled(&self) -> bool {
        self.exchanges > 0 || matches!(self.protocol_state, ProtocolState::Other) || self.is_closed()
    }

    /// Takes an exchange back for reuse.
    pub fn recycle(&mut self, exchange: Box<dyn TakenExchange>) {
        if let Some(conversation) = self.protocol_state.conversation_mut() {
            conversation.recycle(exchange);
        }
    }

    /// Nothing earlier is still to come: gives up what is missing.
    pub fn settle(&mut self) {
        self.leave_straight();
        // Who has shown all that anybody has is not behind: an answer may take its time.
        let furthest = [0, 1].map(|sender| self.coverage.iter().map(|one| one.until[sender]).max());
        for coverage in &mut self.coverage {
            coverage.given_up = coverage.until.map(Some) != furthest;
        }
        self.drain(true);
        let verdict = match &mut self.protocol_state {
            ProtocolState::Known(conversation) => conversation.settle(),
            ProtocolState::Undetected | ProtocolState::Other | ProtocolState::Foreign(_) => return,
        };
        self.apply_verdict(verdict);
        self.place_early();
        self.forget_unplaced();
    }

    /// An observer's socket was closed, and has shown all that it had. By sender: the sequence number after the last byte that went out, or came in, there;
    /// `None` where that is not known.
    pub fn close(&mut self, observer: usize, time: u64, totals: [Option<u32>; 2]) {
        self.leave_straight();
        for (sender, total) in totals.into_iter().enumerate() {
            let position = total
                .filter(|_| self.streams[sender].is_started())
                .map(|total| self.streams[sender].position(total));
            // What the sender's kernel has sent is the truth; what the receiver's has received is a part of that.
            if self.totals[sender].is_none() || observer == sender {
                self.totals[sender] = position.or(self.totals[sender]);
            }
            // The last calls of the sender were lost: nothing comes after them that would show it.
            if let Some(position) = position.filter(|position| {
                (observer == sender || observer == WIRE) && *position > self.coverage[observer].heard[sender]
            }) {
                let end = Segment {
                    pos: position,
                    len: 0,
                    payload: &[],
                    observer: observer as u8,
                    time,
                    pid: 0,
                    tid: 0,
                    cgroup: 0,
                    urgent: false,
                };
                self.in_order(sender, end);
            }
        }
        self.coverage[observer].closed = true;
        if observer < WIRE {
            self.reorder.await_no_bytes(observer);
            // What it lost the other end may still have.
            self.drain(false);
            // An answer that lasts until the connection ends is over for the client that has received all of it.
            if self.is_closed()
                && self.reorder.is_empty()
                && let Some(conversation) = self.protocol_state.conversation_mut()
                && conversation.queue().waiting() == 1
                && conversation
                    .queue_mut()
                    .awaiting()
                    .is_some_and(|one| one.response.begun)
            {
                self.end(1 - observer);
            }
        }
    }

    /// Nothing more comes from anybody: the connection is over.
    pub fn conclude(&mut self) {
        self.settle();
        self.client_first().into_iter().for_each(|sender| self.end(sender));
    }

    /// Both ends: who asks is over before who answers.
    fn client_first(&self) -> [usize; 2] {
        let client = self.client.unwrap_or(0);
        [client, 1 - client]
    }

    /// `sender` sends nothing more.
    fn end(&mut self, sender: usize) {
        if std::mem::replace(&mut self.ended[sender], true) {
            return;
        }
        self.end_preface(sender);
        if !self.socks.kept().is_empty() {
            // The other end may still answer.
            if self.ended == [true; 2] {
                self.end_negotiation();
            }
            return;
        }
        let side = self.side(sender);
        let pos = self.streams[sender].next();
        let is_all = self.totals[sender].is_none_or(|total| pos >= total);
        match &mut self.protocol_state {
            ProtocolState::Known(conversation) => conversation.end(side, pos, is_all),
            ProtocolState::Undetected | ProtocolState::Foreign(_) => self.stay_undetected(),
            ProtocolState::Other => {}
        }
        // What is left of a request is a row only now.
        self.place_early();
    }

    /// The capture ends here: settles, and says of what is unfinished that it is.
    pub fn finish(&mut self) {
        self.settle();
        (0..2).for_each(|sender| self.end_preface(sender));
        if !self.socks.kept().is_empty() {
            self.end_negotiation();
        }
        self.stay_undetected();
        if let Some(conversation) = self.protocol_state.conversation_mut() {
            conversation.finish();
            self.place_early();
        }
        self.change_exchanges(|exchange| {
            if !exchange.is_finished() {
                let reason = if exchange.response.begun {
                    Incomplete::ResponseCut
                } else {
                    Incomplete::NoResponse
                };
                exchange.mark(reason);
            }
        });
    }
}

/// The places of a queue from which an exchange may be taken: the oldest, or any.
fn places(queue: &dyn AnyQueue) -> std::ops::Range<usize> {
    match queue.is_any_order() {
        true => 0..queue.len(),
        false => 0..queue.len().min(1),
    }
}

fn is_finished(queue: &dyn AnyQueue, at: usize) -> bool {
    queue.get(at).is_some_and(AnyExchange::is_finished)
}

/// Notes when an observer saw a segment, if it belongs to this exchange. Whether nothing of it belongs to a later one.
#[inline]
fn place_in(
    exchange: &mut AnyExchange,
    is_request: bool,
    observer: usize,
    segment: &Segment<'_>,
    hole_from: u64,
) -> bool {
    let view = &mut exchange.views[observer];
    let (span, seen) = match is_request {
        true => (&exchange.request, &mut view.request),
        false => (&exchange.response, &mut view.response),
    };
    if !span.begun || segment.end() <= span.start || (span.ended && hole_from >= span.end) {
        return false;
    }
    note(seen, span, segment, hole_from);
    if view.pid == 0 {
        view.pid = segment.pid;
        view.tid = segment.tid;
        view.cgroup = segment.cgroup;
    }
    // What is incomplete may be over at a hole: where a span has no end, what follows may belong to the next.
    match span.ended {
        true => segment.end() <= span.end,
        false => exchange.incomplete.is_none(),
    }
}

#[inline]
fn note(seen: &mut Seen, span: &Span, segment: &Segment<'_>, hole_from: u64) {
    let covers_start = segment.pos <= span.start;
    if covers_start && seen.first == 0 {
        seen.first = segment.time;
    }
    let in_span = !span.ended || segment.pos < span.end;
    if in_span {
        seen.last = seen.last.max(segment.time);
        seen.until = seen.until.max(segment.end());
    }
    if hole_from < segment.pos && segment.pos > span.start {
        seen.hole = true;
    }
}

/// The times of one exchange as one observer saw them, if it saw all of it.
pub fn whole_view(exchange: &AnyExchange, observer: usize) -> Option<&View> {
    let view = &exchange.views[observer];
    let whole =
        |seen: &Seen, span: &Span| span.begun && span.ended && seen.first != 0 && seen.until >= span.end && !seen.hole;
    let measured = whole(&view.request, &exchange.request) && whole(&view.response, &exchange.response);
    (measured && exchange.incomplete.is_none()).then_some(view)
}
