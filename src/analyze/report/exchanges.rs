//! The aggregate of the exchanges of one protocol: one piece of code, compiled for the types of each protocol. Knows no
//! protocol by name.

use std::any::Any;

use super::aggregate::{Calls, Confidence, MAX_KEY_BYTES, MAX_KEYS};
use super::sections;
use super::slowest::{Slow, Slowest};
use crate::analyze::column::Columns;
use crate::analyze::exchange::Message;
use crate::analyze::protocol::summary::{Summary, SummaryRow};
use crate::analyze::protocol::{ForProtocol, Protocol, for_each_protocol};
use crate::analyze::row::{ExchangeRow, Frame};
use crate::analyze::stats::Histogram;
use crate::analyze::stats::counters::{ExchangeCount, ExchangeStats, Own};
use crate::analyze::stats::ends::{Names, Translation};
use crate::analyze::stats::keyed::{Keyed, Merge, Waiting, each_field};
use crate::analyze::stats::label::write_party;
use crate::analyze::template::Patterns;

/// Exchanges of each protocol shown as the slowest.
const SLOWEST: usize = 10;
/// Characters of a statement or target that are kept to show.
const SHOWN: usize = 400;

/// The aggregate of the exchanges of one protocol, whatever its type.
pub trait ProtocolAggregate: Send {
    /// Counts an exchange.
    fn count(&mut self, frame: &Frame<'_>, message: &dyn Message, calls: &mut Calls);

    /// Adds the aggregate of another shard for this protocol; `to` translates the codes of its names.
    fn merge(&mut self, other: Box<dyn ProtocolAggregate>, to: &Translation);

    /// How many exchanges are complete.
    fn confidence(&self) -> &Confidence;

    /// The slowest exchanges.
    fn slowest(&self) -> &Slowest;

    /// The aggregate table of the protocol.
    fn summary(&self, names: &Names) -> Columns;

    /// The columns of this table that the text report shows.
    fn brief(&self, summary: &Columns) -> Vec<usize>;

    /// The counters of each key.
    fn keys(&self) -> Box<dyn Iterator<Item = KeyCount<'_>> + '_>;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// The counters of a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyCount<'a> {
    pub key: &'a str,
    /// Number of fields of the key.
    pub fields: usize,
    pub count: u64,
    pub errors: u64,
    pub total: &'a Histogram,
}

/// An empty aggregate for each protocol, in the order of the registry.
pub(super) fn aggregates(patterns: &Patterns) -> Vec<Box<dyn ProtocolAggregate>> {
    struct NewAggregate<'p>(&'p Patterns);
    impl ForProtocol for NewAggregate<'_> {
        type Value = Box<dyn ProtocolAggregate>;

        fn value<P: Protocol>(&self) -> Self::Value {
            Box::new(AggregateOf::<P>::new(self.0, MAX_KEYS))
        }
    }
    for_each_protocol(&NewAggregate(patterns))
}

type OwnOf<P> = <<P as Protocol>::Summary as Summary>::Own;
type One<P> = <OwnOf<P> as Own>::One;

/// The aggregate of one protocol.
pub(super) struct AggregateOf<P: Protocol> {
    confidence: Confidence,
    slowest: Slowest,
    keyed: Keyed<ExchangeStats<OwnOf<P>>>,
    waiting: Waiting<ExchangeCount<One<P>>>,
    summary: P::Summary,
}

impl<P: Protocol> AggregateOf<P> {
    /// An empty aggregate with at most `max_keys` keys.
    pub fn new(patterns: &Patterns, max_keys: usize) -> Self {
        let mut summary = P::Summary::default();
        summary.use_patterns(patterns);
        AggregateOf {
            confidence: Confidence::default(),
            slowest: Slowest::new(SLOWEST),
            keyed: Keyed::new(max_keys, MAX_KEY_BYTES),
            waiting: Waiting::default(),
            summary,
        }
    }
}

impl<P: Protocol> ProtocolAggregate for AggregateOf<P> {
    fn count(&mut self, frame: &Frame<'_>, message: &dyn Message, calls: &mut Calls) {
        let Some(row) = ExchangeRow::<P::Message>::of(frame, message) else {
            return;
        };
        if !P::is_counted(row.message) {
            return;
        }
        self.confidence.count(row.incomplete);
        let link = calls.link(frame, P::carried_by(row.message));
        let number = self.summary.number(&row, link.callee, &mut self.keyed);
        if let Some(ends) = calls.seen_ends.new_to(number, link.ends)
            && let Some(stats) = self.keyed.at(number)
        {
            stats.agreed.add(ends);
        }
        let one = ExchangeCount::new(&row, P::Summary::one(&row));
        self.waiting.push(&mut self.keyed, number, one);
        match P::ARE_TURNS {
            true => calls.count_turn(link.service, frame),
            false => calls.count(link.service, frame, one.error),
        }
        if let Some(total) = frame.latency.total_ns
            && self.slowest.admits(total)
        {
            self.slowest.push(slow(frame, message, total));
        }
    }

    fn merge(&mut self, other: Box<dyn ProtocolAggregate>, to: &Translation) {
        let Ok(mut other) = other.into_any().downcast::<Self>() else {
            return;
        };
        // Waiting exchanges are counted before anything is read.
        other.waiting.settle(&mut other.keyed);
        other.keyed.stats_mut().for_each(|stats| stats.agreed.translate(to));
        self.confidence.merge(other.confidence);
        self.keyed.merge(other.keyed);
        self.slowest.merge(other.slowest);
    }

    fn confidence(&self) -> &Confidence {
        &self.confidence
    }

    fn slowest(&self) -> &Slowest {
        &self.slowest
    }

    fn summary(&self, names: &Names) -> Columns {
        // Ranked by key first, so that rows with equal counts have a fixed order.
        let ranked = self.keyed.ranked(|_| 0).into_iter();
        sections::rows::<<P::Summary as Summary>::Table>(ranked.map(|(key, stats)| {
            let [client, server] = names.of(&stats.agreed);
            SummaryRow {
                fields: each_field(key, P::Summary::FIELDS).collect(),
                client,
                server,
                stats,
            }
        }))
    }

    fn brief(&self, summary: &Columns) -> Vec<usize> {
        let mut brief = sections::brief::<<P::Summary as Summary>::Table>(summary);
        brief.sort_by_key(|n| Some(summary.columns[*n].spec.name) == P::Summary::LAST);
        brief
    }

    fn keys(&self) -> Box<dyn Iterator<Item = KeyCount<'_>> + '_> {
        Box::new(self.keyed.iter().map(|(key, stats)| KeyCount {
            key,
            fields: P::Summary::FIELDS,
            count: stats.count,
            errors: stats.errors,
            total: &stats.latency.total,
        }))
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

fn slow(frame: &Frame<'_>, message: &dyn Message, total_ns: u64) -> Slow {
    let (mut client, mut server) = (String::new(), String::new());
    write_party(&mut client, frame.client_party, &frame.client);
    write_party(&mut server, frame.server_party, &frame.server);
    Slow {
        total_ns,
        start: frame.start,
        connection: frame.connection,
        sequence: frame.sequence,
        ttfb_ns: frame.latency.ttfb_ns,
        client,
        server,
        what: message.asked(SHOWN),
        status: message.answered(),
    }
}
