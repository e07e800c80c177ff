//! The aggregate of all rows: one for each shard, merged at the end. Owns totals, services, talkers, processes and losses; the
//! exchanges of each protocol are in [`exchanges`](super::exchanges).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::exchanges::{KeyCount, ProtocolAggregate, aggregates};
use crate::analyze::column::{Columns, FastMap};
use crate::analyze::errno;
use crate::analyze::exchange::{Incomplete, Message};
use crate::analyze::protocol::PROTOCOLS;
use crate::analyze::protocol::summary::{MAX_REMEMBERED, Remembered, put};
use crate::analyze::row::{ConnectionRow, Frame, LossRow, ProcessRow, Sink};
use crate::analyze::stats::counters::{ConnectionStats, LossStats, ProcessStats, ServiceStats, TalkerStats, add};
use crate::analyze::stats::ends::{Ends, Names};
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge};
use crate::analyze::stats::label::{write_named, write_party, write_service};
use crate::analyze::template::Patterns;
use crate::format::record::Ending;

/// Keys of each kind in one shard.
pub(super) const MAX_KEYS: usize = 10_000;
/// Bytes of the keys of each kind in one shard: paths and statements may be long.
pub(super) const MAX_KEY_BYTES: usize = 4 << 20;

/// How many exchanges are complete, and why the others are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confidence {
    pub exchanges: u64,
    /// In the order of [`Incomplete::ALL`].
    pub incomplete: [u64; Incomplete::ALL.len()],
}

impl Confidence {
    /// Counts an exchange.
    pub fn count(&mut self, incomplete: Option<Incomplete>) {
        self.exchanges += 1;
        if let Some(reason) = incomplete {
            let at = Incomplete::ALL.iter().position(|known| *known == reason).unwrap_or(0);
            self.incomplete[at] += 1;
        }
    }

    /// Complete exchanges.
    pub fn measured(&self) -> u64 {
        self.exchanges - self.incomplete.iter().sum::<u64>()
    }

    /// Reasons for incomplete exchanges, most frequent first.
    pub fn reasons(&self) -> Vec<(Incomplete, u64)> {
        let mut all: Vec<_> = Incomplete::ALL
            .into_iter()
            .zip(self.incomplete)
            .filter(|(_, count)| *count > 0)
            .collect();
        all.sort_by_key(|(reason, count)| (Reverse(*count), *reason));
        all
    }
}

impl Merge for Confidence {
    fn merge(&mut self, other: Confidence) {
        self.exchanges += other.exchanges;
        self.incomplete
            .iter_mut()
            .zip(other.incomplete)
            .for_each(|(to, from)| *to += from);
    }
}

/// Connections with data and without exchanges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unparsed {
    pub connections: u64,
    pub bytes: u64,
}

/// Connections with data and without exchanges, by the values of the column `why`, which are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnparsedBy(BTreeMap<Box<str>, Unparsed>);

impl UnparsedBy {
    fn count(&mut self, why: &str, more: Unparsed) {
        let counted = match self.0.get_mut(why) {
            Some(counted) => counted,
            None => self.0.entry(why.into()).or_default(),
        };
        counted.connections += more.connections;
        counted.bytes += more.bytes;
    }

    /// The sum over all reasons.
    pub fn total(&self) -> Unparsed {
        self.0.values().fold(Unparsed::default(), |all, one| Unparsed {
            connections: all.connections + one.connections,
            bytes: all.bytes + one.bytes,
        })
    }

    /// Reasons, the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, Unparsed)> {
        let mut all: Vec<(&str, Unparsed)> = self.0.iter().map(|(why, counted)| (&**why, *counted)).collect();
        all.sort_by_key(|(_, counted)| Reverse(counted.connections));
        all
    }
}

impl Merge for UnparsedBy {
    fn merge(&mut self, other: UnparsedBy) {
        for (why, counted) in other.0 {
            self.count(&why, counted);
        }
    }
}

/// Totals over all connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections: u64,
    pub listeners: u64,
    pub failed_connects: u64,
    pub bytes: u64,
    pub lost_bytes: u64,
    pub unread_bytes: u64,
    pub processes: u64,
    /// Rows with times that results cannot hold.
    pub impossible_times: u64,
}

/// What the exchanges of a connection share while both parties stay the same: looked up once, and cached.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// [`Frame::parties`]; `u64::MAX` in an empty place.
    parties: u64,
    protocol: &'static str,
    /// Number of the pair in the table `services`.
    pub service: u32,
    /// The number of the server's name.
    pub callee: u32,
    /// Place of the ends in [`SeenEnds`].
    pub ends: usize,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            parties: u64::MAX,
            protocol: "",
            service: 0,
            callee: 0,
            ends: 0,
        }
    }
}

/// Pairs of names at both ends of connections, and which keys (endpoints, digests) have recorded each pair already: there are
/// many connections between few pairs.
#[derive(Default)]
pub(super) struct SeenEnds {
    /// By protocol too: each numbers its own keys.
    places: FastMap<(Ends, &'static str), usize>,
    /// For each pair a bit set, by the numbers of the keys that have recorded it.
    seen: Vec<(Ends, Vec<u64>)>,
}

impl SeenEnds {
    fn place(&mut self, ends: Ends, protocol: &'static str) -> usize {
        *self.places.entry((ends, protocol)).or_insert_with(|| {
            self.seen.push((ends, Vec::new()));
            self.seen.len() - 1
        })
    }

    /// The pair, if the key with this number has not recorded it yet.
    #[inline]
    pub fn new_to(&mut self, number: u32, place: usize) -> Option<Ends> {
        let (ends, seen) = &mut self.seen[place];
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if seen.len() <= word {
            seen.resize(word + 1, 0);
        }
        let is_new = seen[word] & bit == 0;
        seen[word] |= bit;
        is_new.then_some(*ends)
    }
}

/// Who calls whom, over the exchanges of all protocols.
#[derive(Default)]
pub(super) struct Calls {
    /// Keys: caller, callee, protocol.
    pub services: Services,
    /// Names of the ends in `services` and in the aggregate tables.
    pub names: Names,
    key: KeyText,
    /// A cache: each in the place of the number of its parties, modulo [`MAX_REMEMBERED`].
    links: Vec<Link>,
    pub seen_ends: SeenEnds,
    /// Numbers of the names of servers.
    callees: Remembered<u32>,
    /// The last number given.
    numbered: u32,
}

/// Everything that the report shows, for one shard or for all.
pub struct Aggregate {
    /// The exchanges of each protocol, in the order of the registry.
    pub(super) exchanges: Vec<Box<dyn ProtocolAggregate>>,
    pub(super) calls: Calls,
    pub unparsed: UnparsedBy,
    pub totals: Totals,
    /// Keys: client, server, server's endpoint, protocol.
    pub talkers: Keyed<TalkerStats>,
    /// Keys: client, server's endpoint, error.
    pub failed: Keyed<ConnectionStats>,
    /// Keys: why, server, server's endpoint.
    pub silent: Keyed<ConnectionStats>,
    /// Keys: comm, container.
    pub processes: Keyed<ProcessStats>,
    /// Keys: reason.
    pub losses: Keyed<LossStats>,
    key: KeyText,
}

impl Default for Aggregate {
    fn default() -> Self {
        Aggregate::new(&Patterns::default())
    }
}

impl Aggregate {
    /// An empty aggregate, with the user's path templates.
    pub fn new(patterns: &Patterns) -> Aggregate {
        Aggregate {
            exchanges: aggregates(patterns),
            calls: Calls::default(),
            unparsed: UnparsedBy::default(),
            totals: Totals::default(),
            talkers: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            failed: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            silent: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            processes: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            losses: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            key: KeyText::default(),
        }
    }

    /// Adds the aggregate of another shard.
    pub fn merge(&mut self, other: Aggregate) {
        self.unparsed.merge(other.unparsed);
        self.totals.connections += other.totals.connections;
        self.totals.listeners += other.totals.listeners;
        self.totals.failed_connects += other.totals.failed_connects;
        add(&mut self.totals.bytes, other.totals.bytes);
        add(&mut self.totals.lost_bytes, other.totals.lost_bytes);
        add(&mut self.totals.unread_bytes, other.totals.unread_bytes);
        self.totals.processes += other.totals.processes;
        let to = self.calls.names.adopt(&other.calls.names);
        for (own, one) in self.exchanges.iter_mut().zip(other.exchanges) {
            own.merge(one, &to);
        }
        let mut services = other.calls.services.0;
        services.stats_mut().for_each(|stats| stats.agreed.translate(&to));
        self.calls.services.0.merge(services);
        self.talkers.merge(other.talkers);
        self.failed.merge(other.failed);
        self.silent.merge(other.silent);
        self.processes.merge(other.processes);
        self.losses.merge(other.losses);
    }

    /// The aggregate table of the protocol at this place of the registry.
    pub fn summary(&self, protocol: usize) -> Columns {
        let exchanges = self.exchanges.get(protocol);
        exchanges
            .map(|exchanges| exchanges.summary(&self.calls.names))
            .unwrap_or_default()
    }

    /// The counters of each key of the protocol at this place of the registry.
    pub fn keys(&self, protocol: usize) -> impl Iterator<Item = KeyCount<'_>> {
        self.exchanges
            .get(protocol)
            .into_iter()
            .flat_map(|exchanges| exchanges.keys())
    }

    /// Over the exchanges of all protocols.
    pub fn confidence(&self) -> Confidence {
        let mut all = Confidence::default();
        let read = PROTOCOLS
            .iter()
            .zip(&self.exchanges)
            .filter(|(protocol, _)| !protocol.are_turns());
        for (_, exchanges) in read {
            all.merge(exchanges.confidence().clone());
        }
        all
    }
}

/// Pairs of services.
pub(super) struct Services(pub Keyed<ServiceStats>);

impl Default for Services {
    fn default() -> Self {
        Services(Keyed::new(MAX_KEYS, MAX_KEY_BYTES))
    }
}

impl Calls {
    /// What the exchanges between these parties share.
    #[inline]
    pub fn link(&mut self, frame: &Frame<'_>, protocol: &'static str) -> Link {
        let place = frame.parties as usize % MAX_REMEMBERED;
        let is_it = |link: &&Link| link.parties == frame.parties && link.protocol == protocol;
        if let Some(link) = self.links.get(place).filter(is_it) {
            return *link;
        }
        let link = self.new_link(frame, protocol);
        put(&mut self.links, place, link);
        link
    }

    #[cold]
    fn new_link(&mut self, frame: &Frame<'_>, protocol: &'static str) -> Link {
        self.key
            .begin()
            .write(|to| write_named(to, frame.server_party, &frame.server));
        let callee = self.key.done();
        let callee = match self.callees.get(callee) {
            Some(callee) => *callee,
            None => {
                self.numbered += 1;
                self.callees.put(callee.into(), self.numbered, callee.len());
                self.numbered
            }
        };
        self.key
            .begin()
            .write(|to| write_service(to, frame.client_party, &frame.client));
        self.key
            .write(|to| write_service(to, frame.server_party, &frame.server))
            .field(protocol);
        let service = self.services.0.number(self.key.done());
        let ends = self.names.ends(frame.client_party, frame.server_party);
        if self.seen_ends.places.len() >= MAX_REMEMBERED {
            self.seen_ends = SeenEnds::default();
            self.links.clear();
        }
        if let Some(stats) = self.services.0.at(service) {
            stats.agreed.add(ends);
        }
        Link {
            parties: frame.parties,
            protocol,
            service,
            callee,
            ends: self.seen_ends.place(ends, protocol),
        }
    }

    /// Counts a turn of a pair of services whose protocol is not read.
    pub fn count_turn(&mut self, number: u32, frame: &Frame<'_>) {
        if let Some(stats) = self.services.0.at(number) {
            stats.turns += 1;
            if let Some(total) = frame.latency.total_ns {
                stats.turn_total.record(total);
            }
        }
    }

    /// Counts an exchange of a pair of services.
    pub fn count(&mut self, number: u32, frame: &Frame<'_>, error: bool) {
        if let Some(stats) = self.services.0.at(number) {
            stats.requests += 1;
            stats.errors += u64::from(error);
            add(&mut stats.bytes, frame.bytes());
            if let Some(total) = frame.latency.total_ns {
                stats.total.record(total);
            }
        }
    }
}

impl Sink for Aggregate {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        if let Some(exchanges) = self.exchanges.get_mut(message.protocol()) {
            exchanges.count(frame, message, &mut self.calls);
        }
    }

    fn connection(&mut self, row: &ConnectionRow<'_>) {
        if row.is_listener() {
            self.totals.listeners += 1;
            return;
        }
        let counted = row.counted();
        let bytes = counted.bytes_sent.saturating_add(counted.bytes_received);
        self.totals.connections += 1;
        add(&mut self.totals.bytes, bytes);
        add(&mut self.totals.lost_bytes, counted.lost_bytes);
        add(&mut self.totals.unread_bytes, counted.unread_bytes);
        let failed = row.connect_error != 0 || row.ending == Some(Ending::ConnectFailed);

        let server = row.server.to_string();
        let key = &mut self.key;
        key.begin().write(|to| write_party(to, row.client_party, &row.client));
        if failed {
            self.totals.failed_connects += 1;
            key.field(&server).write(|to| errno::write(to, row.connect_error));
            let stats = self.failed.get(key.done());
            stats.count += 1;
            if let Some(connect) = row.connect_ns {
                stats.connect.record(connect);
            }
        } else {
            key.write(|to| write_party(to, row.server_party, &row.server));
            let stats = self.talkers.get(key.field(&server).field(row.protocol).done());
            stats.connections += 1;
            stats.exchanges += counted.exchanges;
            // At the server's socket, bytes sent go to the client.
            let (to_server, to_client) = match row.role {
                crate::format::record::Role::Server => (counted.bytes_received, counted.bytes_sent),
                _ => (counted.bytes_sent, counted.bytes_received),
            };
            add(&mut stats.to_server, to_server);
            add(&mut stats.to_client, to_client);
        }
        if !row.why.is_empty() {
            key.begin()
                .field(row.why)
                .write(|to| write_party(to, row.server_party, &row.server));
            let stats = self.silent.get(key.field(&server).done());
            stats.count += 1;
            add(&mut stats.bytes, bytes);
            self.unparsed.count(row.why, Unparsed { connections: 1, bytes });
        }
        // The dependency map: exchanges were counted one by one; here connections, and the bytes of those without exchanges.
        let calls = &mut self.calls;
        let link = calls.links.get(row.parties as usize % MAX_REMEMBERED).copied();
        // The exchanges of the connection have recorded its ends already.
        let known = link.filter(|link| (link.parties, link.protocol) == (row.parties, row.protocol));
        let number = match known {
            Some(link) => link.service,
            None => {
                key.begin().write(|to| write_service(to, row.client_party, &row.client));
                key.write(|to| write_service(to, row.server_party, &row.server));
                let protocol = if row.protocol.is_empty() { "tcp" } else { row.protocol };
                calls.services.0.number(key.field(protocol).done())
            }
        };
        if let Some(stats) = calls.services.0.at(number) {
            stats.connections += 1;
            stats.errors += u64::from(failed);
            if row.exchanges == 0 {
                add(&mut stats.bytes, bytes);
            }
            if known.is_none() {
                stats.agreed.add(calls.names.ends(row.client_party, row.server_party));
            }
        }
    }

    fn process(&mut self, row: &ProcessRow<'_>) {
        self.totals.processes += 1;
        self.key
            .begin()
            .field(row.comm)
            .write(|to| match row.party.pod.is_empty() {
                true => to.push_str(&row.party.container),
                false => to.extend([&row.party.namespace, "/", &row.party.pod]),
            });
        let stats = self.processes.get(self.key.done());
        stats.count += 1;
        stats.alive += u64::from(row.exit.is_none());
        stats.failed += u64::from(row.exit_code.is_some_and(|code| code != 0));
        stats.signalled += u64::from(row.signal.is_some());
        if let Some(duration) = row.duration_ns() {
            stats.duration.record(duration);
        }
    }

    fn loss(&mut self, row: &LossRow<'_>) {
        let key = self.key.begin().field(row.reason.name()).field(row.detail).done();
        let stats = self.losses.get(key);
        stats.merge(LossStats {
            intervals: 1,
            events: row.events,
            bytes: row.bytes,
            first: row.since,
            last: row.until,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchanges::AggregateOf;
    use super::*;
    use crate::analyze::protocol::Registered;
    use crate::analyze::protocol::mysql::{Mysql, MysqlMessage, Status};
    use crate::analyze::row::{Latency, Observed, Party};
    use crate::analyze::stats::keyed::OTHER;
    use crate::analyze::table::Value;
    use crate::format::record::Endpoint;

    /// Counts a statement.
    fn count(aggregate: &mut Aggregate, statement: &str, server: &Party) {
        let nobody = Party::default();
        let message = MysqlMessage {
            command: 3,
            statement: statement.into(),
            status: Status::Ok,
            ..MysqlMessage::default()
        };
        let frame = Frame {
            start: 1,
            client: Endpoint::default(),
            server: Endpoint::default(),
            client_party: &nobody,
            server_party: server,
            parties: 1,
            side: Observed::Both,
            request_bytes: None,
            response_bytes: None,
            latency: Latency::default(),
            client_latency: Latency::default(),
            server_latency: Latency::default(),
            network_ns: None,
            incomplete: None,
            reset: false,
            connection: 1,
            sequence: 0,
        };
        aggregate.exchange(&frame, &message);
    }

    fn texts(columns: &crate::analyze::table::Columns, row: usize, names: &[&str]) -> Vec<String> {
        let text = |name: &&str| match columns.column(name).map(|column| column.get(row)) {
            Some(Value::Text(text)) => text.to_string(),
            _ => String::new(),
        };
        names.iter().map(text).collect()
    }

    #[test]
    fn the_row_of_all_keys_beyond_the_limit_has_no_digest() {
        let mut aggregate = Aggregate::default();
        aggregate.exchanges[Mysql::PLACE] = Box::new(AggregateOf::<Mysql>::new(&Patterns::default(), 1));
        for table in ["a", "b", "b", "c"] {
            count(&mut aggregate, &format!("select {table} from t"), &Party::default());
        }
        let mut all = Aggregate::default();
        all.merge(aggregate);
        let columns = all.summary(Mysql::PLACE);
        let rows: Vec<_> = (0..columns.rows())
            .map(|row| texts(&columns, row, &["command", "digest"]))
            .collect();
        assert_eq!(rows.len(), 2, "{rows:?}");
        let other: Vec<_> = rows.iter().filter(|row| row[0] == OTHER).collect();
        assert_eq!(other, [&[OTHER.to_string(), String::new()]]);
        assert!(rows.iter().any(|row| row[1].len() == 32));
    }

    #[test]
    fn a_statement_with_nul_in_it_does_not_name_the_server() {
        let server = Party {
            container: "db".into(),
            ..Party::default()
        };
        let mut aggregate = Aggregate::default();
        count(&mut aggregate, "select `a\0other` from t", &server);
        let mut all = Aggregate::default();
        all.merge(aggregate);
        let columns = all.summary(Mysql::PLACE);
        let row = texts(&columns, 0, &["fingerprint", "service"]);
        assert_eq!(row, ["select `a\0other` from t", "db"]);
    }
}
