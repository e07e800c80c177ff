//! One connection as all its observers saw it: two streams, one protocol, one queue of exchanges.
//!
//! The client's socket and the server's socket carry the same bytes at the same positions. Whoever shows a byte first
//! has it read; everybody who shows it adds the time at which it was seen there. So a connection is parsed once,
//! what one end lost the other end may still have, and the two views of an exchange are joined by construction.

mod straight;
#[cfg(test)]
mod tests;

use straight::Straight;

use super::exchange::{Exchange, Incomplete, Queue, Seen, Side, Span, View};
use super::protocol::detect::{self, Guess};
use super::protocol::http::HttpStitcher;
use super::protocol::mysql::MysqlStitcher;
use super::protocol::{Missing, Stitcher, Verdict, WholeMessages};
use super::stream::{Held, Offer, Segment, Stream};
use crate::format::record::Endpoint;

/// Observers of a connection: its two ends, and the wire between them.
pub const OBSERVERS: usize = 3;
/// The observer that is nobody's end.
pub const WIRE: usize = 2;

/// Segments kept until the protocol is known.
const MAX_UNDETECTED: usize = 32;
/// Segments of a connection joined in its middle that may pass before it counts as not understood.
const MAX_JOIN_TRIES: u32 = 256;
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
enum Speaks {
    Undetected,
    Http(Box<HttpStitcher>),
    Mysql(Box<MysqlStitcher>),
    Other,
    /// The first bytes are of no protocol that is read, and only this end has spoken: a server of HTTP may have been
    /// sent something else (TLS, noise), and answers that with 400.
    Foreign(usize),
}

impl Speaks {
    /// Nothing is under way in either direction.
    fn is_at_rest(&self) -> bool {
        match self {
            Speaks::Http(stitcher) => stitcher.is_at_rest(),
            Speaks::Mysql(stitcher) => stitcher.is_at_rest(),
            Speaks::Undetected | Speaks::Other | Speaks::Foreign(_) => false,
        }
    }
}

/// What is kept of connections that are over for the next: memory that is still in the cache, and the head that was read
/// last.
#[derive(Debug, Default)]
struct Spare {
    http: Option<Box<HttpStitcher>>,
    mysql: Option<Box<MysqlStitcher>>,
    http_exchange: Option<Box<Exchange>>,
    mysql_exchange: Option<Box<Exchange>>,
}

/// A connection. Index 0 and 1 stand for its two ends: of `ends`, of `streams` (by sender), of observers.
#[derive(Debug)]
pub struct Flow {
    pub ends: [Endpoint; 2],
    /// Which end is the client, once known.
    client: Option<usize>,
    /// Its beginning was not seen.
    joined: bool,
    join_tries: u32,
    /// Whose bytes were tried last.
    join_sender: usize,
    coverage: [Coverage; OBSERVERS],
    streams: [Stream; 2],
    /// Urgent data was seen, by sender.
    urgent: [bool; 2],
    ended: [bool; 2],
    speaks: Speaks,
    undetected: Vec<(usize, Held)>,
    /// Segments (without their bytes) that were seen before the exchange they belong to was: a response whose request
    /// another CPU reported later.
    unplaced: Vec<(usize, Segment<'static>)>,
    queue: Queue,
    straight: Straight,
    spare: Spare,
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
            join_tries: 0,
            join_sender: usize::MAX,
            coverage: Default::default(),
            streams: Default::default(),
            urgent: [false; 2],
            ended: [false; 2],
            speaks: Speaks::Undetected,
            undetected: Vec::new(),
            unplaced: Vec::new(),
            queue: Queue::default(),
            straight: Straight::default(),
            spare: Spare::default(),
            protocol: "",
            why: "",
            lost_bytes: 0,
            unread_bytes: 0,
            exchanges: 0,
        }
    }

    /// This connection is over: what is left are its buffers, for [`Flow::again`]. What they held goes now, not when they are
    /// used again.
    pub fn emptied(mut self) -> Self {
        let exchange = self.straight.spent().or_else(|| self.queue.spent());
        match self.speaks {
            Speaks::Http(mut stitcher) => {
                stitcher.begin(false);
                self.spare.http = Some(stitcher);
                self.spare.http_exchange = exchange;
            }
            Speaks::Mysql(mut stitcher) => {
                *stitcher = MysqlStitcher::default();
                self.spare.mysql = Some(stitcher);
                self.spare.mysql_exchange = exchange;
            }
            Speaks::Undetected | Speaks::Other | Speaks::Foreign(_) => {}
        }
        Flow {
            straight: self.straight.emptied(),
            queue: self.queue.emptied(),
            spare: self.spare,
            ..Flow::new(self.ends, None, false)
        }
    }

    /// As [`Flow::new`], with the buffers of one that was [emptied](Flow::emptied).
    pub fn again(self, ends: [Endpoint; 2], client: Option<usize>, joined: bool) -> Self {
        Flow {
            ends,
            client,
            joined,
            ..self
        }
    }

    /// Which end is the client; `None` while nobody knows.
    pub fn client(&self) -> Option<usize> {
        self.client
    }

    /// Whether this observer has no place here yet.
    pub fn lacks(&self, observer: usize) -> bool {
        !self.coverage[observer].attached
    }

    /// Gives an observer its place.
    pub fn attach(&mut self, observer: usize) {
        self.leave_straight();
        self.coverage[observer].attached = true;
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

    /// Whether nobody who is still open has ever shown anything.
    pub fn is_abandoned(&self) -> bool {
        self.coverage
            .iter()
            .all(|coverage| coverage.is_over() || coverage.is_silent())
            && self.coverage.iter().any(|coverage| coverage.closed)
    }

    /// Takes bytes that an observer saw `sender` send. The position of the segment is of that sender's stream.
    pub fn segment(&mut self, sender: usize, segment: Segment<'_>) {
        if self.straight.is_open() {
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
        // Most segments come in order, with their bytes, and nothing waits for them.
        let stream = &self.streams[sender];
        if !segment.payload.is_empty() && segment.pos <= stream.next() && !stream.is_waiting() {
            return self.read(sender, &segment);
        }
        let offer = match self.may_be_shown(sender, &segment) {
            true => self.streams[sender].await_bytes(&segment),
            false => self.streams[sender].offer(&segment),
        };
        match offer {
            // A packet capture was put in order when it was read: what is missing is missing, and to wait for it would
            // let the other direction run ahead.
            Offer::Later if self.is_seen_on_the_wire_only() => {
                self.give_up(sender, Some(segment.pos));
                self.release(sender);
                return;
            }
            Offer::Later => return,
            Offer::Now => {}
            Offer::Full => {
                self.give_up(sender, Some(segment.pos));
                self.release(sender);
                if segment.pos > self.streams[sender].next() {
                    self.give_up(sender, Some(segment.pos));
                }
            }
        }
        self.read(sender, &segment);
        self.release(sender);
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

    fn release(&mut self, sender: usize) {
        while let Some(held) = self.streams[sender].ready() {
            self.read(sender, &held.segment());
        }
    }

    /// Reads what bytes were awaited for as it is, without them.
    fn read_unshown(&mut self, sender: usize) {
        self.streams[sender].await_no_bytes();
        self.release(sender);
    }

    fn give_up(&mut self, sender: usize, upto: Option<u64>) {
        self.read_unshown(sender);
        if let Some((pos, len)) = self.streams[sender].give_up(upto) {
            // When an urgent byte comes before the one before it was passed over, the receiver's kernel drops that one and
            // tells nobody (tcp_check_urg).
            if len == 1 && self.urgent[sender] {
                return;
            }
            self.lost_bytes += len;
            self.missing(sender, pos, len, Missing::Lost);
        }
    }

    /// Reads the new part of a segment, then notes when its observer saw the whole of it.
    fn read(&mut self, sender: usize, segment: &Segment<'_>) {
        let seen = self.streams[sender].advance(segment);
        if seen < segment.len && !segment.urgent {
            let fresh = Segment {
                pos: segment.pos + seen,
                len: segment.len - seen,
                payload: segment.payload.get(seen as usize..).unwrap_or_default(),
                ..*segment
            };
            self.unread_bytes += fresh.len.saturating_sub(fresh.payload.len() as u64);
            match self.speaks {
                Speaks::Undetected => self.undetected(sender, &fresh),
                _ => self.utter(sender, &fresh),
            }
        }
        self.observe(sender, segment);
    }

    fn side(&self, sender: usize) -> Side {
        match self.client {
            Some(client) if client != sender => Side::Server,
            _ => Side::Client,
        }
    }

    fn bytes(&mut self, sender: usize, pos: u64, bytes: &[u8]) {
        let side = self.side(sender);
        let verdict = match &mut self.speaks {
            Speaks::Http(stitcher) => stitcher.bytes(side, pos, bytes, &mut self.queue),
            Speaks::Mysql(stitcher) => stitcher.bytes(side, pos, bytes, &mut self.queue),
            Speaks::Foreign(first) if sender != *first => return self.answer_to_foreign(sender, pos, bytes),
            Speaks::Undetected | Speaks::Other | Speaks::Foreign(_) => return,
        };
        self.heed(verdict);
    }

    /// The first that the other end says to bytes that are no request.
    fn answer_to_foreign(&mut self, sender: usize, pos: u64, bytes: &[u8]) {
        self.speaks = Speaks::Other;
        if detect::is_response(bytes) {
            self.client = Some(1 - sender);
            self.protocol = "http";
            self.why = "";
            self.speaks = Speaks::Http(Box::new(HttpStitcher::after_foreign()));
            self.bytes(sender, pos, bytes);
        }
    }

    fn missing(&mut self, sender: usize, pos: u64, len: u64, why: Missing) {
        let side = self.side(sender);
        let verdict = match &mut self.speaks {
            Speaks::Http(stitcher) => stitcher.missing(side, pos, len, why, &mut self.queue),
            Speaks::Mysql(stitcher) => stitcher.missing(side, pos, len, why, &mut self.queue),
            Speaks::Undetected => {
                // What was kept stands before the gap; a beginning can only be found after it.
                self.joined = true;
                return;
            }
            Speaks::Other | Speaks::Foreign(_) => return,
        };
        self.heed(verdict);
    }

    fn heed(&mut self, verdict: Verdict) {
        if let Verdict::Leave(why) = verdict {
            self.speaks = Speaks::Other;
            self.why = why;
            // Nothing was read of it: not the protocol that it was taken for.
            if self.exchanges == 0 && self.queue.is_empty() && self.protocol == "http" && !detect::word(why).is_empty()
            {
                self.protocol = detect::word(why);
            }
        }
    }

    /// Tries to tell the protocol from what is there so far.
    fn undetected(&mut self, sender: usize, segment: &Segment<'_>) {
        let mut prefixes: [Vec<u8>; 2] = Default::default();
        for (end, held) in &self.undetected {
            prefixes[*end].extend_from_slice(held.segment().payload);
        }
        let guess = if self.undetected.is_empty() {
            let mut ends: [&[u8]; 2] = [&[], &[]];
            ends[sender] = segment.payload;
            self.guess(ends)
        } else {
            prefixes[sender].extend_from_slice(segment.payload);
            self.guess([&prefixes[0], &prefixes[1]])
        };
        match guess {
            (_, Guess::More) if self.undetected.len() < MAX_UNDETECTED => {
                self.undetected.push((sender, Held::new(segment)));
            }
            (client, Guess::Http) => {
                let mut stitcher = self.spare.http.take().unwrap_or_default();
                stitcher.begin(self.joined);
                self.speaks = Speaks::Http(stitcher);
                self.spare
                    .http_exchange
                    .take()
                    .into_iter()
                    .for_each(|one| self.queue.recycle(one));
                self.settled_on(client, "http", sender, segment);
            }
            (client, Guess::Mysql) => {
                let mut stitcher = self.spare.mysql.take().unwrap_or_default();
                *stitcher = MysqlStitcher::new(self.joined);
                self.speaks = Speaks::Mysql(stitcher);
                self.spare
                    .mysql_exchange
                    .take()
                    .into_iter()
                    .for_each(|one| self.queue.recycle(one));
                self.settled_on(client, "mysql", sender, segment);
            }
            (_, Guess::Other(_) | Guess::More) if self.joined && self.join_tries < MAX_JOIN_TRIES => {
                // A body may be long: it counts once, whatever its segments.
                if self.join_sender != sender {
                    self.join_sender = sender;
                    self.join_tries += 1;
                }
                self.undetected.clear();
                self.why = "started before capture";
            }
            (_, Guess::Other(why)) => self.not_understood(why, sender),
            (_, Guess::More) => self.not_understood("unknown protocol", sender),
        }
    }

    fn not_understood(&mut self, why: &'static str, sender: usize) {
        let first = !self.joined && self.undetected.iter().all(|(end, _)| *end == sender);
        self.speaks = if first && self.client.is_none_or(|client| client == sender) {
            Speaks::Foreign(sender)
        } else {
            Speaks::Other
        };
        self.protocol = detect::word(why);
        self.why = why;
        self.undetected = Vec::new();
    }

    /// What it looks like, and who would be the client then.
    fn guess(&self, ends: [&[u8]; 2]) -> (usize, Guess) {
        if let Some(client) = self.client {
            return (client, detect::guess(ends[client], ends[1 - client], self.joined));
        }
        let first = detect::guess(ends[0], ends[1], self.joined);
        match first {
            Guess::Http | Guess::Mysql => (0, first),
            _ => match detect::guess(ends[1], ends[0], self.joined) {
                second @ (Guess::Http | Guess::Mysql) => (1, second),
                Guess::More => (0, Guess::More),
                Guess::Other(_) => (0, first),
            },
        }
    }

    fn settled_on(&mut self, client: usize, protocol: &'static str, sender: usize, segment: &Segment<'_>) {
        self.client = Some(client);
        self.protocol = protocol;
        self.why = "";
        for (end, held) in std::mem::take(&mut self.undetected) {
            self.utter(end, &held.segment());
        }
        self.utter(sender, segment);
    }

    /// Gives the protocol the bytes of a segment, none of which it has had, and says what of it nobody read.
    fn utter(&mut self, sender: usize, segment: &Segment<'_>) {
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
        if matches!(self.speaks, Speaks::Other) {
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
        if self.queue.is_empty() && self.speaks.is_at_rest() {
            self.unplaced.clear();
        }
    }

    /// Whether the segment belongs to an exchange that is held.
    fn place(&mut self, sender: usize, segment: &Segment<'_>, hole_from: u64) -> bool {
        let observer = usize::from(segment.observer).min(WIRE);
        let is_request = self.client == Some(sender);
        if self.queue.len() == 1
            && let Some(only) = self.queue.newest()
        {
            return place_in(only, is_request, observer, segment, hole_from);
        }
        let mut placed = false;
        for exchange in self.queue.iter_mut() {
            placed |= place_in(exchange, is_request, observer, segment, hole_from);
        }
        placed
    }

    /// Whether the oldest exchange is finished; whether it can be taken is another question.
    pub fn has_finished(&self) -> bool {
        self.straight.is_whole() || self.queue.oldest().is_some_and(Exchange::is_finished)
    }

    /// Takes the oldest exchange if it is finished and every observer has shown all of it. `flush` takes it anyway.
    pub fn take(&mut self, flush: bool) -> Option<Box<Exchange>> {
        if let Some(whole) = self.straight.take() {
            self.exchanges += 1;
            return Some(whole);
        }
        let oldest = self.queue.oldest()?;
        if !oldest.is_finished() && !flush {
            return None;
        }
        if !flush && self.queue.len() < MAX_UNSEEN && !self.is_shown(oldest) {
            return None;
        }
        self.exchanges += 1;
        let taken = self.queue.take()?;
        if !self.unplaced.is_empty() {
            let is_of_later = |(sender, early): &(usize, Segment<'_>)| {
                let span = match self.client == Some(*sender) {
                    true => &taken.request,
                    false => &taken.response,
                };
                span.ended && early.end() > span.end
            };
            self.unplaced.retain(is_of_later);
            self.forget_unplaced();
        }
        self.open_straight();
        Some(taken)
    }

    /// Whether every observer that is to be waited for has shown all of the exchange.
    fn is_shown(&self, exchange: &Exchange) -> bool {
        let Some(client) = self.client else { return true };
        self.coverage.iter().all(|coverage| {
            if coverage.is_over() || coverage.given_up {
                return true;
            }
            if coverage.is_silent() {
                return !coverage.expected && self.queue.len() > MAX_UNSEEN_BY_SILENT;
            }
            let shown = |span: &Span, sender: usize| !span.ended || coverage.until[sender] >= span.end;
            shown(&exchange.request, client) && shown(&exchange.response, 1 - client)
        })
    }

    /// The earliest time that an exchange still to be taken can have, by observer (boot clock of its host, ns).
    pub fn oldest(&self) -> [u64; OBSERVERS] {
        let mut oldest = [u64::MAX; OBSERVERS];
        let mut note = |observer: usize, time: u64| {
            if time != 0 {
                oldest[observer] = oldest[observer].min(time);
            }
        };
        for exchange in self.queue.iter().chain(self.straight.at_hand()) {
            for (observer, view) in exchange.views.iter().enumerate() {
                view.times().into_iter().for_each(|time| note(observer, time));
            }
        }
        if matches!(self.speaks, Speaks::Other | Speaks::Foreign(_)) {
            return oldest;
        }
        let mut segment = |segment: Segment<'_>| note(usize::from(segment.observer).min(WIRE), segment.time);
        self.streams.iter().flat_map(Stream::held).for_each(&mut segment);
        self.undetected.iter().for_each(|(_, held)| segment(held.segment()));
        self.unplaced.iter().for_each(|(_, early)| segment(*early));
        oldest
    }

    /// Whether what the first to speak said is of no protocol that is read, and the other end may still answer it.
    pub fn is_foreign(&self) -> bool {
        matches!(self.speaks, Speaks::Foreign(_)) && !self.is_closed()
    }

    /// Whether what it is, and why nothing is read from it, stays as it is now.
    pub fn is_settled(&self) -> bool {
        self.exchanges > 0 || matches!(self.speaks, Speaks::Other) || self.is_closed()
    }

    /// Hands a spent exchange back for reuse.
    pub fn recycle(&mut self, exchange: Box<Exchange>) {
        if let Some(exchange) = self.straight.recycle(exchange) {
            self.queue.recycle(exchange);
        }
    }

    /// Nothing earlier is still to come: gives up what is missing.
    pub fn settle(&mut self) {
        self.leave_straight();
        for coverage in &mut self.coverage {
            coverage.given_up = true;
        }
        for sender in 0..2 {
            while self.streams[sender].is_waiting() {
                self.give_up(sender, None);
                self.release(sender);
            }
        }
        let verdict = match &mut self.speaks {
            Speaks::Http(stitcher) => stitcher.settle(&mut self.queue),
            Speaks::Mysql(stitcher) => stitcher.settle(&mut self.queue),
            Speaks::Undetected | Speaks::Other | Speaks::Foreign(_) => return,
        };
        self.heed(verdict);
        self.place_early();
        self.forget_unplaced();
    }

    /// An observer's socket was closed.
    pub fn close(&mut self, observer: usize) {
        self.leave_straight();
        self.coverage[observer].closed = true;
        if self.is_closed() {
            self.settle();
            self.end(0);
            self.end(1);
        } else if observer < WIRE {
            self.read_unshown(observer);
            self.end(observer);
        }
    }

    /// `sender` sends nothing more.
    fn end(&mut self, sender: usize) {
        if std::mem::replace(&mut self.ended[sender], true) {
            return;
        }
        let side = self.side(sender);
        let pos = self.streams[sender].next();
        match &mut self.speaks {
            Speaks::Http(stitcher) => stitcher.end(side, pos, &mut self.queue),
            Speaks::Mysql(stitcher) => stitcher.end(side, pos, &mut self.queue),
            Speaks::Undetected => {
                if !self.undetected.is_empty() {
                    self.why = "too little data";
                }
            }
            Speaks::Other | Speaks::Foreign(_) => {}
        }
        // What is left of a request is a row only now.
        self.place_early();
    }

    /// The capture ends here: settles, and says of what is unfinished that it is.
    pub fn finish(&mut self) {
        self.settle();
        // A command of MySQL is an exchange from its first byte on.
        if let Speaks::Http(stitcher) = &mut self.speaks {
            stitcher.finish(&mut self.queue);
            self.place_early();
        }
        for exchange in self.queue.iter_mut() {
            if !exchange.is_finished() {
                let reason = if exchange.response.begun {
                    Incomplete::ResponseCut
                } else {
                    Incomplete::NoResponse
                };
                exchange.mark(reason);
            }
        }
    }
}

/// Notes when an observer saw a segment, if it belongs to this exchange.
#[inline]
fn place_in(exchange: &mut Exchange, is_request: bool, observer: usize, segment: &Segment<'_>, hole_from: u64) -> bool {
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
    true
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
    }
    if hole_from < segment.pos && segment.pos > span.start {
        seen.hole = true;
    }
}

/// The times of one exchange as one observer saw them, if it saw all of it.
pub fn whole_view(exchange: &Exchange, observer: usize) -> Option<&View> {
    let view = &exchange.views[observer];
    let whole = |seen: &Seen, span: &Span| span.begun && span.ended && seen.first != 0 && !seen.hole;
    let measured = whole(&view.request, &exchange.request) && whole(&view.response, &exchange.response);
    (measured && exchange.incomplete.is_none()).then_some(view)
}
