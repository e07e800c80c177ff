//! The schedule: which blocks are skipped, read for losses only, or followed. Decided once, before events are read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use foldhash::fast::RandomState;
use rayon::prelude::*;

use super::place::{Placed, is_state};
use super::restart;
use super::roster::{KnownSocket, Roster, SocketKey, key};
use super::{MAX_KEYS, may_hold_followed};
use crate::analyze::engine::{Engine, Take};
use crate::analyze::names::Host;
use crate::analyze::row::Sink;
use crate::analyze::selection::{Ask, BlockFilter, ConnectionRows, Followed, KeySet, Span};
use crate::format::block;
use crate::format::kind::Kind;
use crate::format::record::{Close, Connect, Record};

/// How far calendar and boot clock may drift apart in a file, ns; where it is more, the calendar clock was set, and time spans
/// of blocks cannot be used.
const MAX_DRIFT: u64 = 60_000_000_000;
/// Added to twice the drift: the distance from a span within which a block may still matter, ns.
const SLACK: u64 = 1_000_000_000;
/// Blocks that are scanned together.
const TOGETHER: usize = 8;

/// What is done with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Skip,
    /// Read for records that are not about a socket.
    General,
    Follow,
}

/// The step for each block, and which connections are followed.
#[derive(Debug, Default)]
pub struct Schedule {
    /// `None` for all.
    followed: Option<Followed>,
    none: Followed,
    /// By place.
    steps: Vec<Step>,
    /// After the last place at which something is done.
    steps_end: usize,
    tail: Option<Tail>,
}

/// The blocks after the span, which are read only to finish exchanges that began in it.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    /// Place of the first of these blocks.
    pub start: usize,
    /// End of the span (UTC, ns): exchanges that begin at this time or later are not selected.
    pub to: u64,
    /// The protocol and the ends of each connection must be known.
    pub settled: bool,
}

impl Schedule {
    /// Makes the schedule. The engine knows all names already; it learns readings of the clocks, the ends of processes, and which
    /// connections it will join in their middle.
    pub fn new<S: Sink>(
        places: &[Placed<'_>],
        ask: &Ask,
        engine: &mut Engine<S>,
        release: &dyn Fn(&Placed<'_>),
    ) -> Schedule {
        match ask.read_all || ask.rows.damage || ask.filter == BlockFilter::default() {
            true => Schedule::default(),
            false => decide(places, ask, engine, release).unwrap_or_default(),
        }
    }

    /// What is done with the block at this place.
    pub fn take(&self, place: usize) -> Take<'_> {
        let Some(followed) = &self.followed else {
            return Take::All;
        };
        match self.steps.get(place) {
            None | Some(Step::Skip) => Take::Nothing,
            Some(Step::General) => Take::Of(&self.none, place),
            Some(Step::Follow) => Take::Of(followed, place),
        }
    }

    /// The blocks after the span, if they are read as long as exchanges are unfinished.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// Whether nothing is decided to be read from this place on.
    pub fn is_done(&self, place: usize) -> bool {
        self.followed.is_some() && place >= self.steps_end
    }

    /// The followed ones of these connections, for blocks of the tail.
    pub fn still_followed(&self, unfinished: &BTreeSet<u32>) -> Followed {
        let is_followed = |key: &&u32| {
            self.followed
                .as_ref()
                .is_none_or(|followed| followed.0.contains_key(key))
        };
        let all = 0..usize::MAX;
        Followed(
            unfinished
                .iter()
                .filter(is_followed)
                .map(|key| (*key, all.clone()))
                .collect(),
        )
    }

    /// What is done with the block at this place in the tail, while these are still followed.
    pub fn take_of_tail<'s>(&'s self, placed: &Placed<'_>, place: usize, still: &'s Followed) -> Take<'s> {
        match self.steps.get(place) {
            Some(Step::Skip | Step::General) if may_hold_followed(still, placed, place) => Take::Of(still, place),
            _ => self.take(place),
        }
    }
}

/// The schedule; `None` where all blocks are to be read.
fn decide<S: Sink>(
    places: &[Placed<'_>],
    ask: &Ask,
    engine: &mut Engine<S>,
    release: &dyn Fn(&Placed<'_>),
) -> Option<Schedule> {
    let (filter, rows) = (&ask.filter, &ask.rows);
    let roster = Roster::new(places, filter, engine.hosts(), release)?;
    let calendar = Calendar::new(places, release)?;
    let window = calendar.window(places, filter.span);
    let ends = Ends::new(places, ask, (&window, &calendar, &roster), engine, release);
    let mut keys = match (rows.connections, rows.exchanges) {
        (ConnectionRows::None, false) => BTreeSet::new(),
        (ConnectionRows::None, true) if !ends.known => {
            with_data_within(places, filter.span, (&window, &calendar), release)
        }
        _ => present(places, filter.span, (&calendar, &roster), &ends),
    };
    keys.retain(|key| roster.chosen.as_ref().is_none_or(|chosen| chosen.contains(key)));
    engine.complete_keys(&mut keys);

    let mut followed = Followed::default();
    for ((_, id), socket) in &roster.sockets {
        let key = key(*id);
        if keys.contains(&key) {
            // The only event of a listener is its close; one that was closed before the span is not among the keys.
            let is_silent = socket.listens && rows.connections != ConnectionRows::Whole;
            let first = if is_silent {
                window.start.max(socket.first)
            } else {
                socket.first
            };
            let blocks = followed.0.entry(key).or_insert(first..usize::MAX);
            blocks.start = blocks.start.min(first);
        }
    }
    let mut joined = KeySet::default();
    if rows.exchanges && !rows.sequences && rows.connections != ConnectionRows::Whole {
        for (key, place) in restart::join_places(places, window.start, (&roster, &followed), engine, release) {
            followed.0.insert(key, place..usize::MAX);
            joined.insert(key);
        }
    }
    engine.join_in_the_middle(joined);

    let tail = filter.span.filter(|span| {
        let lasts = rows.connections == ConnectionRows::Whole;
        !lasts && !followed.0.is_empty() && span.to != u64::MAX
    });
    let tail = tail.map(|span| Tail {
        start: window.end,
        to: span.to,
        settled: rows.connections == ConnectionRows::WithinSpan,
    });
    let step = |(place, placed): (usize, &Placed<'_>)| {
        // State after the span has the last owner of a socket.
        let before_tail = tail.is_none_or(|tail| place < tail.start || (tail.settled && is_state(&placed.stored)));
        let has_losses = || placed.stored.count(Kind::Loss) > 0 && calendar.overlaps(placed, ask.span);
        if before_tail && may_hold_followed(&followed, placed, place) {
            Step::Follow
        } else if has_losses() {
            Step::General
        } else {
            Step::Skip
        }
    };
    let steps: Vec<Step> = places.iter().enumerate().map(step).collect();
    learn_clocks(places, ask, (&steps, &roster, &followed), engine, release);
    Some(Schedule {
        followed: Some(followed),
        none: Followed::default(),
        steps_end: steps
            .iter()
            .rposition(|step| *step != Step::Skip)
            .map_or(0, |last| last + 1),
        steps,
        tail,
    })
}

/// What is known of the calendar clock without reading all blocks: how far a block's times on the boot clock may differ from
/// the reading in the header of its file.
struct Calendar {
    /// By file, ns.
    slack: HashMap<usize, u64>,
}

impl Calendar {
    /// From the last reading of each file; `None` where the clock was set.
    fn new(places: &[Placed<'_>], release: &dyn Fn(&Placed<'_>)) -> Option<Calendar> {
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (place, placed) in places.iter().enumerate() {
            if placed.stored.count(Kind::Clock) > 0 {
                last.insert(placed.block.file, place);
            }
        }
        let mut last: Vec<usize> = last.into_values().collect();
        last.sort_unstable();
        let mut slack = HashMap::new();
        scan(places, last, release, |place, bytes| {
            let clocks = block::records_of(bytes, &[Kind::Clock]).filter_map(|record| match record {
                Record::Clock(clock) => Some(places[place].drift(&clock)),
                _ => None,
            });
            slack.insert(places[place].block.file, clocks.max().unwrap_or(0));
            true
        });
        if slack.values().any(|drift| *drift > MAX_DRIFT) {
            return None;
        }
        slack.values_mut().for_each(|drift| *drift = 2 * *drift + SLACK);
        Some(Calendar { slack })
    }

    /// A span on the boot clock of a block's file, somewhat wider.
    fn on_boot_clock(&self, placed: &Placed<'_>, span: Option<Span>) -> (u64, u64) {
        let slack = self.slack.get(&placed.block.file).copied().unwrap_or(SLACK);
        let span = span.unwrap_or(Span { from: 0, to: u64::MAX });
        (
            placed.boot(span.from).saturating_sub(slack),
            placed.boot(span.to).saturating_add(slack),
        )
    }

    /// Whether a block may hold events of a span.
    fn overlaps(&self, placed: &Placed<'_>, span: Option<Span>) -> bool {
        let (from, to) = self.on_boot_clock(placed, span);
        placed.stored.overlaps(from, to)
    }

    /// The places from the first block to the last that may hold events of a span; where none does, an empty range between
    /// those before it and those after it.
    fn window(&self, places: &[Placed<'_>], span: Option<Span>) -> Range<usize> {
        let mut within = (0..places.len()).filter(|place| {
            let placed = &places[*place];
            !is_state(&placed.stored) && self.overlaps(placed, span)
        });
        if let Some(first) = within.next() {
            return first..within.next_back().unwrap_or(first) + 1;
        }
        let is_after = |placed: &Placed<'_>| {
            !is_state(&placed.stored) && placed.stored.first_time() > self.on_boot_clock(placed, span).1
        };
        let after = places.iter().position(is_after).unwrap_or(places.len());
        after..after
    }
}

/// Sockets that were closed before the span.
#[derive(Default)]
struct Ends {
    closed: HashSet<SocketKey, RandomState>,
    /// All blocks with closes before the span were scanned.
    known: bool,
}

impl Ends {
    /// Scans the blocks in which connections and processes end, as far as the requested rows need it; hosts learn the ends of
    /// processes.
    fn new<S: Sink>(
        places: &[Placed<'_>],
        ask: &Ask,
        (window, calendar, roster): (&Range<usize>, &Calendar, &Roster),
        engine: &mut Engine<S>,
        release: &dyn Fn(&Placed<'_>),
    ) -> Ends {
        let span = ask.filter.span;
        let closes = |place: &usize| {
            let stored = &places[*place].stored;
            stored.count(Kind::Close) + stored.count(Kind::Connect) > 0
        };
        let cost = |which: &mut dyn Iterator<Item = usize>| -> u64 {
            which.map(|place| u64::from(places[place].stored.raw_len())).sum()
        };
        // Either the closes before the span show which connections are alive, or the data within it shows which are active:
        // the cheaper of the two.
        let is_less = || {
            roster.sockets.len() <= MAX_KEYS && cost(&mut (0..window.start).filter(closes)) <= cost(&mut window.clone())
        };
        let known = match ask.rows.connections {
            ConnectionRows::None => ask.rows.exchanges && (span.is_none() || is_less()),
            _ => true,
        };
        let running = running(engine.hosts());
        let exits = |place: &usize| {
            let stored = &places[*place].stored;
            let pids = stored.pids();
            let may_be = || running.len() > MAX_KEYS || running.iter().any(|pid| pids.may_contain(*pid));
            ask.rows.processes && stored.count(Kind::Exit) > 0 && may_be()
        };
        let matters = |place: &usize| (known && *place < window.start && closes(place)) || exits(place);
        let which: Vec<usize> = (0..places.len()).filter(matters).collect();
        let mut closed = HashSet::default();
        scan(places, which, release, |place, bytes| {
            let placed = &places[place];
            let host = placed.block.host;
            let (from, _) = calendar.on_boot_clock(placed, span);
            for record in block::records_of(bytes, &[Kind::Close, Kind::Connect, Kind::Exit, Kind::Clock]) {
                match record {
                    Record::Close(Close { time, id, .. }) if time < from => {
                        closed.insert((host, id));
                    }
                    Record::Connect(Connect { time, id, error, .. }) if time < from && error != 0 => {
                        closed.insert((host, id));
                    }
                    record => engine.learn_ahead(host, &record),
                }
            }
            true
        });
        Ends { closed, known }
    }
}

/// Processes that did not end according to state records.
fn running(hosts: &[Host]) -> BTreeSet<u32> {
    let programs = hosts.iter().flat_map(Host::programs);
    programs
        .filter(|run| run.ended.is_none())
        .map(|run| run.program.pid)
        .collect()
}

/// Connections with recorded data within a span.
fn with_data_within(
    places: &[Placed<'_>],
    span: Option<Span>,
    (window, calendar): (&Range<usize>, &Calendar),
    release: &dyn Fn(&Placed<'_>),
) -> BTreeSet<u32> {
    let mut keys = BTreeSet::new();
    scan(places, window.clone(), release, |place, bytes| {
        let (from, to) = calendar.on_boot_clock(&places[place], span);
        let frames = block::frames(bytes).flatten();
        let data = frames.filter(|frame| frame.kind == Some(Kind::Data) && (from..=to).contains(&frame.time()));
        keys.extend(data.filter_map(|frame| frame.socket_id()).map(key));
        true
    });
    keys
}

/// Connections that were opened before the end of a span and not closed before its beginning.
fn present(
    places: &[Placed<'_>],
    span: Option<Span>,
    (calendar, roster): (&Calendar, &Roster),
    ends: &Ends,
) -> BTreeSet<u32> {
    let is_there = |(at, socket): &(&SocketKey, &KnownSocket)| {
        let (_, to) = calendar.on_boot_clock(&places[socket.first], span);
        socket.opened.is_none_or(|opened| opened <= to) && !ends.closed.contains(at)
    };
    roster
        .sockets
        .iter()
        .filter(is_there)
        .map(|((_, id), _)| key(*id))
        .collect()
}

/// Gives the engine the readings of the clocks before the times that it will convert: those of the blocks that are read, and
/// those of beginnings and ends in blocks that are not read.
fn learn_clocks<S: Sink>(
    places: &[Placed<'_>],
    ask: &Ask,
    (steps, roster, followed): (&[Step], &Roster, &Followed),
    engine: &mut Engine<S>,
    release: &dyn Fn(&Placed<'_>),
) {
    let mut times: Vec<(u16, u64)> = Vec::new();
    let mut before = None;
    for (place, placed) in places
        .iter()
        .enumerate()
        .filter(|(_, placed)| !is_state(&placed.stored))
    {
        if steps[place] == Step::Follow && before != Some(Step::Follow) {
            times.push((placed.block.host, placed.since));
        }
        before = Some(steps[place]);
    }
    // A loss may be reported long after it began.
    let has_losses = |place: &usize| steps[*place] != Step::Skip && places[*place].stored.count(Kind::Loss) > 0;
    scan(places, (0..places.len()).filter(has_losses), release, |place, bytes| {
        for record in block::records_of(bytes, &[Kind::Loss]) {
            if let Record::Loss(loss) = record {
                times.extend([loss.since, loss.time].map(|time| (places[place].block.host, time)));
            }
        }
        true
    });
    if ask.rows.connections != ConnectionRows::None {
        let sockets = roster
            .sockets
            .iter()
            .filter(|((_, id), _)| followed.0.contains_key(&key(*id)));
        times.extend(sockets.filter_map(|((host, _), socket)| Some((*host, socket.opened?))));
    }
    if ask.rows.processes {
        for (number, host) in engine.hosts().iter().enumerate() {
            let programs = host.programs().into_iter().filter(|program| {
                let Some(span) = ask.filter.span else { return true };
                let slack = MAX_DRIFT + SLACK;
                host.utc(program.began).saturating_sub(slack) < span.to
                    && program
                        .ended
                        .is_none_or(|ended| host.utc(ended).saturating_add(slack) >= span.from)
            });
            let both = programs.flat_map(|program| [Some(program.began), program.ended]);
            times.extend(both.flatten().map(|time| (number as u16, time)));
        }
    }
    let mut readings: HashMap<u16, Vec<usize>> = HashMap::new();
    for (place, placed) in places.iter().enumerate() {
        if placed.stored.count(Kind::Clock) > 0 {
            readings.entry(placed.block.host).or_default().push(place);
        }
    }
    let mut which = BTreeSet::new();
    for (host, time) in times {
        let readings = readings.get(&host).map_or(&[][..], Vec::as_slice);
        let until = readings.partition_point(|place| places[*place].since <= time);
        for place in readings[..until].iter().rev() {
            which.insert(*place);
            if places[*place].stored.last_time() <= time {
                break;
            }
        }
    }
    scan(places, which, release, |place, bytes| {
        for record in block::records_of(bytes, &[Kind::Clock]) {
            engine.learn_ahead(places[place].block.host, &record);
        }
        true
    });
}

/// Scans blocks ahead of their turn; `each` gets the place and the decompressed bytes, and returns whether to go on. Damaged
/// blocks are passed over here, and counted when they are read in turn.
pub(super) fn scan(
    places: &[Placed<'_>],
    which: impl IntoIterator<Item = usize>,
    release: &dyn Fn(&Placed<'_>),
    mut each: impl FnMut(usize, &[u8]) -> bool,
) {
    let which: Vec<usize> = which.into_iter().collect();
    for some in which.chunks(TOGETHER) {
        let inflate = |place: &usize| {
            let mut bytes = Vec::new();
            places[*place].stored.inflate(&mut bytes).ok().map(|()| bytes)
        };
        let inflated: Vec<Option<Vec<u8>>> = some.par_iter().map(inflate).collect();
        some.iter().for_each(|place| release(&places[*place]));
        for (place, bytes) in some.iter().zip(&inflated) {
            if let Some(bytes) = bytes
                && !each(*place, bytes)
            {
                return;
            }
        }
    }
}
