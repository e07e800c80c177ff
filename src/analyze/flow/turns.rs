//! Cuts a connection into turns: one side sends, then the other. Each observer's calls are cut by themselves, in the order in which
//! that observer made them; where both ends were recorded, a turn is one only if both saw the same bytes in it. Where they did not,
//! data crossed on the way, and what answers what cannot be known.
//!
//! It knows nothing of what the bytes mean. What turns cannot show (pipelining, multiplexing, pushes) is said in the documentation of
//! the table.

use std::collections::VecDeque;
use std::ops::Range;

use super::{OBSERVERS, WIRE};
use crate::analyze::exchange::{Exchange, Halves, Incomplete, Seen, Span};
use crate::analyze::protocol::turn::TurnMessage;
use crate::analyze::row::WantedTurns;
use crate::analyze::stream::{ORIGIN, Segment};

/// Holes that are kept of one direction; of what came before the last of them nothing is known.
const MAX_HOLES: usize = 16;

/// Runs that are kept of one observer: where one of two ends shows nothing for so long, it is not waited for.
const MAX_RUNS: usize = 64;

/// Bytes that one side sent before the other sent any, as one observer saw them.
#[derive(Debug, Clone, Copy)]
struct Run {
    sender: usize,
    start: u64,
    end: u64,
    /// When its first and its last bytes were seen; boot clock of the observer's host, ns.
    first: u64,
    last: u64,
    pid: u32,
    tid: u32,
    cgroup: u64,
}

/// What one observer saw.
#[derive(Debug, Default)]
struct Runs {
    runs: VecDeque<Run>,
    /// By sender: the position after the last byte that was seen; `None` before the first.
    until: [Option<u64>; 2],
    /// By sender: what this observer did not see.
    holes: [VecDeque<Range<u64>>; 2],
    /// Calls of both directions were made at the same time.
    is_mixed: bool,
    /// Who sent last.
    last_sender: Option<usize>,
    /// What comes next goes on with a turn that is left out: the next begins when this end sends after the other.
    left_out: Option<usize>,
    /// By sender: up to where the protocol was read that the connection has left.
    read_until: [u64; 2],
}

impl Runs {
    fn push(&mut self, sender: usize, segment: &Segment<'_>) {
        let seen = self.until[sender].unwrap_or(ORIGIN);
        if segment.end() <= seen {
            return;
        }
        if segment.pos > seen {
            let holes = &mut self.holes[sender];
            holes.push_back(seen..segment.pos);
            if holes.len() > MAX_HOLES {
                holes.pop_front();
                holes[0].start = 0;
            }
        }
        self.until[sender] = Some(segment.end());
        let before = self.last_sender.replace(sender);
        if let Some(asks) = self.left_out {
            if sender != asks || before != Some(1 - asks) {
                return;
            }
            self.left_out = None;
        }
        if let Some(last) = self.runs.back_mut() {
            self.is_mixed |= last.sender != sender && segment.time < last.last;
            if last.sender == sender {
                last.end = segment.end();
                last.last = last.last.max(segment.time);
                return;
            }
        }
        self.runs.push_back(Run {
            sender,
            start: segment.pos.max(seen),
            end: segment.end(),
            first: segment.time,
            last: segment.time,
            pid: segment.pid,
            tid: segment.tid,
            cgroup: segment.cgroup,
        });
    }

    /// Takes notice of bytes while no turns are cut.
    fn pass(&mut self, sender: usize, segment: &Segment<'_>) {
        self.until[sender] = self.until[sender].max(Some(segment.end()));
        self.last_sender = Some(sender);
    }

    /// Whether it is known what `sender` sent after this position: more was seen, or where it ends (`ends`).
    fn is_past(&self, sender: usize, position: u64, ends: [Option<u64>; 2]) -> bool {
        let until = self.until[sender].unwrap_or(ORIGIN);
        until > position || (until == position && ends[sender].is_some_and(|end| end <= position))
    }

    /// Whether all bytes were seen that `sender` sent in this range, and those right before and after it.
    fn saw_all(&self, sender: usize, range: &Range<u64>) -> bool {
        let holes = &mut self.holes[sender].iter();
        holes.all(|hole| hole.end < range.start || hole.start > range.end)
    }
}

/// The turns of a connection that are not taken yet.
#[derive(Debug, Default)]
pub(super) struct Turns {
    wanted: WantedTurns,
    /// They are cut now.
    is_on: bool,
    /// Whose calls decide where turns begin, once the first was taken.
    primary: Option<usize>,
    /// By sender: up to where turns were taken.
    done: Option<[u64; 2]>,
    /// The connection was cut before, until its protocol was known.
    is_resumed: bool,
    observers: [Runs; OBSERVERS],
    is_overlapping: bool,
    /// How many were taken.
    pub taken: u64,
}

impl Turns {
    /// Cuts a connection from here on, if its turns are wanted.
    pub fn begin(&mut self, wanted: WantedTurns) {
        (self.wanted, self.is_on) = (wanted, wanted != WantedTurns::None);
    }

    /// The exchanges of the connection are read: its turns are not wanted, unless all are.
    pub fn protocol_is_read(&mut self) {
        if self.wanted == WantedTurns::All {
            return;
        }
        self.is_on = false;
        (self.primary, self.done, self.is_overlapping) = (None, None, false);
        for observer in &mut self.observers {
            observer.runs.clear();
            observer.is_mixed = false;
        }
    }

    /// The exchanges of the connection are read no longer: with the next turn after this one, turns are wanted again. `client`: which
    /// end asks.
    pub fn protocol_is_left(&mut self, client: usize) {
        let resumes = self.wanted != WantedTurns::None && !self.is_on;
        for observer in &mut self.observers {
            observer.read_until = observer.until.map(|until| until.unwrap_or(ORIGIN));
            if resumes {
                observer.holes = Default::default();
                observer.left_out = Some(client);
            }
        }
        self.is_resumed |= resumes;
        self.is_on |= resumes;
    }

    /// Whether no more is kept until some are taken.
    pub fn is_full(&self) -> bool {
        self.observers.iter().any(|observer| observer.runs.len() >= MAX_RUNS)
    }

    /// As at first, with its buffers.
    pub fn reset(&mut self) {
        let mut observers = std::mem::take(&mut self.observers);
        for observer in &mut observers {
            let mut runs = std::mem::take(&mut observer.runs);
            runs.clear();
            *observer = Runs {
                runs,
                ..Runs::default()
            };
        }
        *self = Turns {
            observers,
            ..Turns::default()
        };
    }

    /// Takes bytes that an observer saw `sender` send.
    #[inline]
    pub fn segment(&mut self, sender: usize, segment: &Segment<'_>) {
        if self.wanted == WantedTurns::None || segment.urgent || segment.len == 0 {
            return;
        }
        let observer = &mut self.observers[usize::from(segment.observer).min(WIRE)];
        match self.is_on {
            true => observer.push(sender, segment),
            false => observer.pass(sender, segment),
        }
    }

    /// Whether a turn may be over: both sides have gone on.
    #[inline]
    pub fn has_finished(&self) -> bool {
        self.is_on && self.observers.iter().any(|observer| observer.runs.len() > 3)
    }

    /// When each observer saw what is not taken yet; its boot clock, ns.
    pub fn times(&self) -> impl Iterator<Item = (usize, u64)> {
        let observers = self.observers.iter().enumerate();
        observers.flat_map(|(observer, seen)| seen.runs.iter().map(move |run| (observer, run.first)))
    }

    /// Takes the oldest turn that is over.
    pub fn take(&mut self, connection: &Connection) -> Option<Box<Exchange<TurnMessage>>> {
        let &Connection {
            client, is_over, ends, ..
        } = connection;
        let primary = self.primary.or_else(|| self.choose_primary(connection))?;
        let seen = &self.observers[primary];
        let first = seen.runs.front().copied()?;
        let answer = seen.runs.get(1).copied().filter(|_| first.sender == client);
        let (request, response) = match first.sender == client {
            true => (Some(first), answer),
            false => (None, Some(first)),
        };
        let by_sender = match client {
            0 => [request, response],
            _ => [response, request],
        };
        let is_from_start = !connection.is_joined && !self.is_resumed;
        let begun = |sender: usize| match by_sender[sender] {
            Some(run) if !is_from_start => run.start,
            None if !is_from_start => seen.until[sender].unwrap_or(ORIGIN),
            _ => ORIGIN,
        };
        let done = self.done.unwrap_or_else(|| [0, 1].map(begun));
        // All that either side sent between the turn before and the next.
        let ranges = [0, 1].map(|sender| done[sender]..by_sender[sender].map_or(done[sender], |run| run.end));
        let is_past = |seen: &Runs| (0..2).all(|sender| seen.is_past(sender, ranges[sender].end, ends));
        let others = (0..WIRE).filter(|other| *other != primary && primary < WIRE && connection.attached[*other]);
        let count = 1 + usize::from(answer.is_some());
        if !is_over && !self.is_full() {
            let is_known = seen.runs.len() > count && is_past(seen);
            if !is_known || others.clone().any(|other| !is_past(&self.observers[other])) {
                return None;
            }
        }
        let is_whole = (0..2).all(|sender| {
            by_sender[sender].is_none_or(|run| run.start == done[sender]) && seen.saw_all(sender, &ranges[sender])
        });
        let is_known = is_past(seen);
        let is_left = first.start >= seen.read_until[first.sender];
        let mut exchange: Box<Exchange<TurnMessage>> = Box::default();
        let span = |run: Option<Run>| run.map_or(Span::default(), |run| Span::whole(run.start, run.end - run.start));
        (exchange.request, exchange.response) = (span(request), span(response));
        if request.is_none() {
            exchange.halves = Halves::ResponseOnly;
        }
        fill_view(&mut exchange, primary, request, response);
        self.primary = Some(primary);
        self.done = Some(ranges.clone().map(|range| range.end));
        self.taken += 1;
        for other in others {
            self.see(
                other,
                (request, response),
                &ranges,
                is_whole && is_known,
                ends,
                &mut exchange,
            );
        }
        self.is_overlapping |= self.observers.iter().any(|observer| observer.is_mixed);
        self.observers[primary].runs.drain(..count);
        let is_first = self.taken == 1 && connection.is_joined && !self.is_resumed;
        let incomplete = match (request, response) {
            _ if !is_whole => Some(Incomplete::Gap),
            _ if is_first => Some(Incomplete::StartedBefore),
            (Some(_), None) => Some(Incomplete::NoResponse),
            // Nobody knows whether more of it would have come.
            _ if !is_known => Some(Incomplete::ResponseCut),
            _ => None,
        };
        incomplete.into_iter().for_each(|reason| exchange.mark(reason));
        exchange.closed = true;
        exchange.message.overlapping = self.is_overlapping;
        exchange.message.unasked = request.is_none();
        exchange.message.has_exchanges = connection.is_read || !is_left;
        Some(exchange)
    }

    /// Whose calls decide where turns begin: the client's, unless it turns out that it has shown nothing.
    fn choose_primary(&self, connection: &Connection) -> Option<usize> {
        let order = [connection.client, 1 - connection.client, WIRE];
        let has_any = |observer: &usize| !self.observers[*observer].runs.is_empty();
        let attached = order.into_iter().find(|observer| connection.attached[*observer]);
        match attached.filter(|observer| !connection.is_over || has_any(observer)) {
            Some(observer) => Some(observer),
            None => order.into_iter().find(has_any),
        }
    }

    /// Notes how another observer saw the turn. `is_whole`: the primary observer saw all of it.
    fn see(
        &mut self,
        other: usize,
        (request, response): (Option<Run>, Option<Run>),
        ranges: &[Range<u64>; 2],
        is_whole: bool,
        ends: [Option<u64>; 2],
        exchange: &mut Exchange<TurnMessage>,
    ) {
        let seen = &mut self.observers[other];
        let saw_all = (0..2)
            .all(|sender| seen.saw_all(sender, &ranges[sender]) && seen.is_past(sender, ranges[sender].end, ends));
        let wanted = [request, response].into_iter().flatten();
        let place = |run: &Run| (run.sender, run.start, run.end);
        let count = wanted.clone().count();
        if seen.runs.len() >= count
            && seen
                .runs
                .iter()
                .zip(wanted)
                .all(|(run, wanted)| place(run) == place(&wanted))
        {
            let mut runs = seen.runs.drain(..count);
            let request = request.and_then(|_| runs.next());
            let response = response.and_then(|_| runs.next());
            drop(runs);
            if saw_all {
                fill_view(exchange, other, request, response);
            }
            return;
        }
        self.is_overlapping |= saw_all && is_whole;
        while seen.runs.front().is_some_and(|run| run.end <= ranges[run.sender].end) {
            seen.runs.pop_front();
        }
    }
}

/// What is known of a connection besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// Which end asks.
    pub client: usize,
    /// Which observers show it, and are to be waited for.
    pub attached: [bool; OBSERVERS],
    /// Nothing more comes from any of them.
    pub is_over: bool,
    /// Its beginning was not seen.
    pub is_joined: bool,
    /// Its exchanges are read.
    pub is_read: bool,
    /// By sender: where what it sent ends, once that is known.
    pub ends: [Option<u64>; 2],
}

fn fill_view(exchange: &mut Exchange<TurnMessage>, observer: usize, request: Option<Run>, response: Option<Run>) {
    let seen = |run: Option<Run>| {
        run.map_or(Seen::default(), |run| Seen {
            first: run.first,
            last: run.last,
            until: run.end,
            hole: false,
        })
    };
    let view = &mut exchange.views[observer];
    (view.request, view.response) = (seen(request), seen(response));
    if let Some(run) = request.or(response) {
        (view.pid, view.tid, view.cgroup) = (run.pid, run.tid, run.cgroup);
    }
}
