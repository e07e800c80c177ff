//! Connections that need not be read from their beginning: long ones whose exchanges are independent of each other (plain
//! HTTP/1.1). The documentation of [`super`] has what this assumes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use foldhash::fast::RandomState;

use super::may_hold_followed;
use super::place::Placed;
use super::roster::{Roster, key};
use crate::analyze::engine::{Engine, Take, Taken};
use crate::analyze::exchange::Message;
use crate::analyze::row::{ConnectionRow, Frame, Sink};
use crate::analyze::selection::{Followed, KeySet};
use crate::format::kind::Kind;

/// Blocks before the span that may hold a connection and are read as a sample of it; more where the first sample is not enough.
const LEADS: [usize; 2] = [2, 8];
/// Blocks at its beginning that are looked at.
const BEGINNING: usize = 2;
/// Exchanges that a sample must show, one after the other.
const ENOUGH: u64 = 2;
/// Blocks that are fed together.
const TOGETHER: usize = 4;

/// A part of some connections, as the blocks in which they are followed.
type Parts = BTreeMap<u32, Range<usize>>;

/// The followed connections that can be joined in their middle, each with the place of the block where: before `window`, where
/// the span begins.
pub fn join_places<S: Sink>(
    places: &[Placed<'_>],
    window: usize,
    (roster, followed): (&Roster, &Followed),
    engine: &mut Engine<S>,
    release: &dyn Fn(&Placed<'_>),
) -> BTreeMap<u32, usize> {
    let mut left = candidates(roster, followed, engine);
    let mut plain = Parts::new();
    for blocks in LEADS {
        let lead = |key: &u32| {
            let before = followed.0.get(key)?.start..window;
            let last: Vec<usize> = before
                .rev()
                .filter(|place| may_hold(&places[*place], *key))
                .take(blocks)
                .collect();
            // With fewer, it is read from its beginning anyway.
            (last.len() == blocks).then_some((*key, *last.last()?..window))
        };
        let leads: Parts = left.iter().filter_map(lead).collect();
        let passed = sample(places, &leads, true, engine, release);
        left.retain(|key| !passed.contains(key));
        plain.extend(leads.into_iter().filter(|(key, _)| passed.contains(key)));
    }
    let beginning = |key: &u32| {
        let blocks = followed.0.get(key)?.start..window;
        let mut held = blocks.clone().filter(|place| may_hold(&places[*place], *key));
        Some((*key, blocks.start..held.nth(BEGINNING - 1)? + 1))
    };
    let beginnings: Parts = plain.keys().filter_map(beginning).collect();
    let passed = sample(places, &beginnings, false, engine, release);
    plain
        .into_iter()
        .filter(|(key, _)| passed.contains(key))
        .map(|(key, lead)| (key, lead.start))
        .collect()
}

/// Connections whose ends are one socket each: where ports were used again, the key is that of several connections.
fn candidates<S: Sink>(roster: &Roster, followed: &Followed, engine: &Engine<S>) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> = followed.0.keys().copied().collect();
    let mut ends: HashSet<_, RandomState> = HashSet::default();
    for ((host, id), socket) in &roster.sockets {
        if found.contains(&key(*id)) && !ends.insert((*host, key(*id), socket.local)) {
            found.remove(&key(*id));
        }
    }
    let translated = engine.translated_keys();
    found.retain(|key| !translated.contains(key));
    found
}

fn may_hold(placed: &Placed<'_>, key: u32) -> bool {
    placed.stored.count(Kind::Data) > 0 && placed.stored.sockets().may_contain(key)
}

/// The connections that are plain in these parts of them; `joined` when the parts are not their beginnings.
fn sample<S: Sink>(
    places: &[Placed<'_>],
    parts: &Parts,
    joined: bool,
    engine: &mut Engine<S>,
    release: &dyn Fn(&Placed<'_>),
) -> KeySet {
    if parts.is_empty() {
        return KeySet::default();
    }
    let followed = Followed(parts.iter().map(|(key, blocks)| (*key, blocks.clone())).collect());
    if joined {
        engine.join_in_the_middle(parts.keys().copied().collect());
    }
    let taken: Vec<Taken<'_>> = places
        .iter()
        .enumerate()
        .filter(|(place, placed)| may_hold_followed(&followed, placed, *place))
        .map(|(place, placed)| Taken {
            block: placed.block,
            take: Take::Of(&followed, place),
        })
        .collect();
    let batches: Vec<&[Taken<'_>]> = taken.chunks(TOGETHER).collect();
    let passed = engine.scout(
        |_| SampleSink::default(),
        |scout| {
            let fed: Result<(), std::convert::Infallible> = scout.feed_all(&batches, |_, _| Ok(()));
            let Ok(()) = fed;
            scout
                .sinks()
                .flat_map(|sink| sink.plain().collect::<Vec<u32>>())
                .collect()
        },
    );
    if joined {
        engine.join_in_the_middle(KeySet::default());
    }
    places
        .iter()
        .enumerate()
        .filter(|(place, placed)| may_hold_followed(&followed, placed, *place))
        .for_each(|(_, placed)| release(placed));
    passed
}

/// What a sample shows of each connection, by key.
#[derive(Default)]
struct SampleSink(HashMap<u32, Sample, RandomState>);

#[derive(Default)]
struct Sample {
    /// Whole exchanges, each after the end of the one before.
    exchanges: u64,
    last_end: u64,
    is_odd: bool,
}

impl SampleSink {
    fn plain(&self) -> impl Iterator<Item = u32> {
        let plain = self
            .0
            .iter()
            .filter(|(_, seen)| !seen.is_odd && seen.exchanges >= ENOUGH);
        plain.map(|(key, _)| *key)
    }
}

impl Sink for SampleSink {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        let seen = self.0.entry(key(frame.connection)).or_default();
        seen.is_odd |= !message.is_restart();
        match frame.latency.total_ns.filter(|_| frame.incomplete.is_none()) {
            Some(total) => {
                seen.is_odd |= frame.start < seen.last_end;
                seen.exchanges += 1;
                seen.last_end = frame.start.saturating_add(total);
            }
            // An exchange that began before the sample.
            None if seen.exchanges == 0 => {}
            None => seen.is_odd = true,
        }
    }

    fn connection(&mut self, _: &ConnectionRow<'_>) {}
}
