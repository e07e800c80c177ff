//! Counts rows up: one of these for each shard, merged at the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

use super::label::{write_named, write_party, write_service};
use super::slowest::{Slow, Slowest};
use crate::analyze::column::FastMap;
use crate::analyze::errno;
use crate::analyze::exchange::Incomplete;
use crate::analyze::ids::IdMap;
use crate::analyze::protocol::mysql::command_name;
use crate::analyze::row::{ConnectionRow, Frame, HttpRow, LossRow, MysqlRow, ProcessRow, Sink};
use crate::analyze::stats::counters::{
    ConnectionStats, HttpCount, HttpStats, LossStats, MysqlCount, MysqlStats, ProcessStats, ServiceStats, TalkerStats,
    add,
};
use crate::analyze::stats::ends::{Ends, Names};
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge, Waiting};
use crate::analyze::table::define::Scratch;
use crate::analyze::table::derive::path;
use crate::analyze::template::Limit;
use crate::format::record::Ending;

/// Keys that one shard holds of each kind.
const MAX_KEYS: usize = 10_000;
/// Bytes of these keys, of each kind in each shard: paths and statements may be long.
const MAX_KEY_BYTES: usize = 4 << 20;
/// Different raw requests whose endpoint is remembered, and connections whose ends are.
const MAX_REMEMBERED: usize = 16_384;
/// Bytes of texts that are remembered.
const MAX_REMEMBERED_BYTES: usize = 2 << 20;
/// Exchanges of each protocol shown as the slowest.
const SLOWEST: usize = 10;
/// Characters of a statement or target that are kept to show.
const SHOWN: usize = 400;

/// How much of what was seen could be measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confidence {
    pub exchanges: u64,
    /// By the order of [`Incomplete::ALL`].
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

    /// Exchanges that were seen whole.
    pub fn measured(&self) -> u64 {
        self.exchanges - self.incomplete.iter().sum::<u64>()
    }

    /// Why the others were not, most frequent first.
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

/// The same by reason: the words of the column `why`, of which there are few.
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

    /// All together.
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

/// What the exchanges of a connection share for as long as both parties stay the same.
#[derive(Clone, Copy)]
struct Link {
    /// [`Frame::parties`]; no such number while there is none.
    parties: u64,
    protocol: &'static str,
    /// Number of the pair in the table `services`.
    service: u32,
    /// A number for what the server is called.
    callee: u32,
    /// Place of its ends in [`SeenEnds`].
    ends: usize,
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

/// The names at both ends of connections, and which endpoints, or digests, have seen them: connections come and go between
/// the same few.
#[derive(Default)]
struct SeenEnds {
    /// By protocol too: endpoints and digests have numbers of their own.
    places: FastMap<(Ends, &'static str), usize>,
    /// A bit for each that has seen them, by their numbers.
    seen: Vec<(Ends, Vec<u64>)>,
}

impl SeenEnds {
    fn place(&mut self, ends: Ends, protocol: &'static str) -> usize {
        *self.places.entry((ends, protocol)).or_insert_with(|| {
            self.seen.push((ends, Vec::new()));
            self.seen.len() - 1
        })
    }

    /// These ends, if an endpoint, or digest, sees them for the first time.
    #[inline]
    fn new_to(&mut self, number: u32, place: usize) -> Option<Ends> {
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

/// The endpoint of a request that was read before.
#[derive(Default)]
struct KnownEndpoint {
    /// What is asked ([`Known`]); 0 without one.
    ///
    /// [`Known`]: crate::analyze::protocol::http::message::Known
    known: u64,
    callee: u32,
    /// Its number in the table `endpoints`.
    number: u32,
}

/// Everything that the report counts.
pub struct Aggregate {
    pub http_confidence: Confidence,
    pub mysql_confidence: Confidence,
    pub unparsed: UnparsedBy,
    pub totals: Totals,
    /// Keys: method, path template, host, service.
    pub endpoints: Keyed<HttpStats>,
    /// Keys: command, fingerprint, service.
    pub digests: Keyed<MysqlStats>,
    /// Keys: caller, callee, protocol.
    pub services: Keyed<ServiceStats>,
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
    pub slow_http: Slowest,
    pub slow_mysql: Slowest,
    /// What the ends in `endpoints`, `digests` and `services` are called.
    pub names: Names,
    waiting_http: Waiting<HttpCount>,
    waiting_mysql: Waiting<MysqlCount>,
    scratch: Scratch,
    limit: Limit,
    key: KeyText,
    /// By the key with the path as it is.
    endpoint_of: Remembered,
    /// Each in a place that its numbers say, where the last one stays.
    known_endpoints: Vec<KnownEndpoint>,
    /// By the numbers of the digest and of the callee, with the command between them.
    digest_of: IdMap<(u64, u16, u32), u32>,
    /// The longest `total_ns` of each digest, by its number: asked for each exchange, and the counters are far away.
    slowest_of_digest: Vec<Option<u64>>,
    /// Each in the place that the number of its parties says, modulo [`MAX_REMEMBERED`].
    links: Vec<Link>,
    seen_ends: SeenEnds,
    /// Numbers of what servers are called.
    callees: Remembered,
    /// The last of these numbers that was given.
    numbered: u32,
}

impl Default for Aggregate {
    fn default() -> Self {
        Aggregate {
            http_confidence: Confidence::default(),
            mysql_confidence: Confidence::default(),
            unparsed: UnparsedBy::default(),
            totals: Totals::default(),
            endpoints: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            digests: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            services: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            talkers: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            failed: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            silent: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            processes: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            losses: Keyed::new(MAX_KEYS, MAX_KEY_BYTES),
            slow_http: Slowest::new(SLOWEST),
            slow_mysql: Slowest::new(SLOWEST),
            names: Names::default(),
            waiting_http: Waiting::default(),
            waiting_mysql: Waiting::default(),
            scratch: Scratch::default(),
            limit: Limit::default(),
            key: KeyText::default(),
            endpoint_of: Remembered::default(),
            known_endpoints: Vec::new(),
            digest_of: IdMap::default(),
            slowest_of_digest: Vec::new(),
            links: Vec::new(),
            seen_ends: SeenEnds::default(),
            callees: Remembered::default(),
            numbered: 0,
        }
    }
}

impl Aggregate {
    /// An empty one that derives values (path templates) with this scratch space.
    pub fn new(scratch: Scratch) -> Aggregate {
        Aggregate {
            scratch,
            ..Aggregate::default()
        }
    }

    /// Counts what waits. To be called before anything is read.
    fn settle(&mut self) {
        self.waiting_http.settle(&mut self.endpoints);
        self.waiting_mysql.settle(&mut self.digests);
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, mut other: Aggregate) {
        other.settle();
        self.http_confidence.merge(other.http_confidence);
        self.mysql_confidence.merge(other.mysql_confidence);
        self.unparsed.merge(other.unparsed);
        self.totals.connections += other.totals.connections;
        self.totals.listeners += other.totals.listeners;
        self.totals.failed_connects += other.totals.failed_connects;
        add(&mut self.totals.bytes, other.totals.bytes);
        add(&mut self.totals.lost_bytes, other.totals.lost_bytes);
        add(&mut self.totals.unread_bytes, other.totals.unread_bytes);
        self.totals.processes += other.totals.processes;
        let to = self.names.adopt(&other.names);
        other
            .endpoints
            .stats_mut()
            .for_each(|stats| stats.agreed.translate(&to));
        other.digests.stats_mut().for_each(|stats| stats.agreed.translate(&to));
        other.services.stats_mut().for_each(|stats| stats.agreed.translate(&to));
        self.endpoints.merge(other.endpoints);
        self.digests.merge(other.digests);
        self.services.merge(other.services);
        self.talkers.merge(other.talkers);
        self.failed.merge(other.failed);
        self.silent.merge(other.silent);
        self.processes.merge(other.processes);
        self.losses.merge(other.losses);
        self.slow_http.merge(other.slow_http);
        self.slow_mysql.merge(other.slow_mysql);
    }

    /// All exchanges together.
    pub fn confidence(&self) -> Confidence {
        let mut all = self.http_confidence.clone();
        all.merge(self.mysql_confidence.clone());
        all
    }

    /// The endpoint of a request to this callee.
    fn endpoint(&mut self, row: &HttpRow<'_>, callee: u32) -> u32 {
        let known = row.message.known.0;
        if known == 0 {
            return self.endpoint_by_text(row);
        }
        // One thread's numbers follow one another; those of another differ in their upper half.
        let place = (known ^ (known >> 28) ^ (u64::from(callee) << 7)) as usize % MAX_REMEMBERED;
        let there = self.known_endpoints.get(place);
        if let Some(there) = there.filter(|there| (there.known, there.callee) == (known, callee)) {
            return there.number;
        }
        let number = self.endpoint_by_text(row);
        put(
            &mut self.known_endpoints,
            place,
            KnownEndpoint { known, callee, number },
        );
        number
    }

    /// The same, looked up by the request as it is, else by its template.
    fn endpoint_by_text(&mut self, row: &HttpRow<'_>) -> u32 {
        let message = row.message;
        let path = path(&message.target);
        let key = &mut self.key;
        key.begin().field(&message.method).field(path).field(&message.host);
        key.write(|to| write_named(to, row.server_party, &row.server));
        let raw = key.done();
        if let Some(number) = self.endpoint_of.get(raw) {
            return number;
        }
        let raw: Box<str> = raw.into();
        let template = self.scratch.templates.template(path);
        let template = self.limit.admit(&message.method, &message.host, template);
        key.begin().field(&message.method).field(template).field(&message.host);
        key.write(|to| write_named(to, row.server_party, &row.server));
        let number = self.endpoints.number(key.done());
        self.endpoint_of.put(raw, number);
        number
    }

    /// The place of what the exchanges between these parties share.
    #[inline]
    fn link(&mut self, frame: &Frame<'_>, protocol: &'static str) -> Link {
        let place = frame.parties as usize % MAX_REMEMBERED;
        if let Some(link) = self.links.get(place).filter(|link| link.parties == frame.parties) {
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
            Some(callee) => callee,
            None => {
                self.numbered += 1;
                self.callees.put(callee.into(), self.numbered);
                self.numbered
            }
        };
        self.key
            .begin()
            .write(|to| write_service(to, frame.client_party, &frame.client));
        self.key
            .write(|to| write_service(to, frame.server_party, &frame.server))
            .field(protocol);
        let service = self.services.number(self.key.done());
        let ends = self.names.ends(frame.client_party, frame.server_party);
        if self.seen_ends.places.len() >= MAX_REMEMBERED {
            self.seen_ends = SeenEnds::default();
            self.links.clear();
        }
        if let Some(stats) = self.services.at(service) {
            stats.agreed.see(ends);
        }
        Link {
            parties: frame.parties,
            protocol,
            service,
            callee,
            ends: self.seen_ends.place(ends, protocol),
        }
    }

    fn service(&mut self, number: u32, frame: &Frame<'_>, error: bool) {
        if let Some(stats) = self.services.at(number) {
            stats.requests += 1;
            stats.errors += u64::from(error);
            add(&mut stats.bytes, frame.bytes());
            if let Some(total) = frame.latency.total_ns {
                stats.total.record(total);
            }
        }
    }
}

/// Puts into a place, which may not be there yet.
fn put<T: Default>(places: &mut Vec<T>, place: usize, value: T) {
    if places.len() <= place {
        places.resize_with(place + 1, T::default);
    }
    places[place] = value;
}

/// Adds to a map of what can be looked up again; when it is full, it begins anew.
fn remember<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>, key: K, value: V) {
    if map.len() >= MAX_REMEMBERED {
        map.clear();
    }
    map.insert(key, value);
}

/// Numbers of texts that can be looked up again; when they are too many, or too long, all are forgotten.
#[derive(Default)]
struct Remembered {
    numbers: FastMap<Box<str>, u32>,
    bytes: usize,
}

impl Remembered {
    fn get(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    fn put(&mut self, text: Box<str>, number: u32) {
        if self.numbers.len() >= MAX_REMEMBERED || self.bytes + text.len() > MAX_REMEMBERED_BYTES {
            self.numbers.clear();
            self.bytes = 0;
        }
        self.bytes += text.len();
        self.numbers.insert(text, number);
    }
}

/// A prefix of at most `limit` characters.
fn prefix(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).map_or(text, |(end, _)| &text[..end])
}

fn slow(frame: &Frame<'_>, total_ns: u64, what: String, status: String) -> Slow {
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
        what,
        status,
    }
}

impl Sink for Aggregate {
    fn http(&mut self, row: &HttpRow<'_>) {
        self.http_confidence.count(row.incomplete);
        let status = row.message.status;
        let link = self.link(&row.frame, "http");
        let number = self.endpoint(row, link.callee);
        if let Some(ends) = self.seen_ends.new_to(number, link.ends)
            && let Some(stats) = self.endpoints.at(number)
        {
            stats.agreed.see(ends);
        }
        let one = HttpCount {
            incomplete: row.incomplete.is_some(),
            error: row.is_error(),
            status,
            request_bytes: row.request_bytes.unwrap_or(0),
            response_bytes: row.response_bytes.unwrap_or(0),
            latency: row.latency,
        };
        self.waiting_http.push(&mut self.endpoints, number, one);
        self.service(link.service, &row.frame, one.error);
        if let Some(total) = row.latency.total_ns
            && self.slow_http.admits(total)
        {
            let what = format!("{} {}", row.message.method, prefix(&row.message.target, SHOWN));
            let status = if status == 0 { String::new() } else { status.to_string() };
            self.slow_http.push(slow(&row.frame, total, what, status));
        }
    }

    fn mysql(&mut self, row: &MysqlRow<'_>) {
        self.mysql_confidence.count(row.incomplete);
        let message = row.message;
        let link = self.link(&row.frame, "mysql");
        let known = match message.statement.is_empty() {
            true => None,
            false => Some(self.scratch.fingerprints.of(&message.statement)),
        };
        let asked = (
            known.map_or(u64::MAX, |known| known.number),
            u16::from(message.command),
            link.callee,
        );
        let number = match self.digest_of.get(&asked) {
            Some(number) => *number,
            None => {
                let key = &mut self.key;
                key.begin().field(command_name(message.command).unwrap_or("unknown"));
                key.field(known.map_or("", |known| &known.fingerprint));
                key.write(|to| write_named(to, row.server_party, &row.server));
                let number = self.digests.number(key.done());
                remember(&mut self.digest_of, asked, number);
                if self.slowest_of_digest.len() <= number as usize {
                    self.slowest_of_digest.resize(number as usize + 1, None);
                }
                // What was counted together has no digest of its own.
                let is_one = !self.digests.is_other(number);
                if let Some(stats) = self
                    .digests
                    .at(number)
                    .filter(|stats| is_one && stats.digest.is_empty())
                {
                    stats.digest.push_str(known.map_or("", |known| &known.digest));
                }
                number
            }
        };
        if let Some(ends) = self.seen_ends.new_to(number, link.ends)
            && let Some(stats) = self.digests.at(number)
        {
            stats.agreed.see(ends);
        }
        let slowest = &mut self.slowest_of_digest[number as usize];
        if row.latency.total_ns > *slowest
            && let Some(stats) = self.digests.at(number)
        {
            *slowest = row.latency.total_ns;
            stats.sample_ns = row.latency.total_ns;
            stats.sample.clear();
            stats.sample.push_str(prefix(&message.statement, SHOWN));
        }
        let one = MysqlCount {
            incomplete: row.incomplete.is_some(),
            error: row.is_error(),
            no_index_used: message.no_index_used,
            rows: message.rows.unwrap_or(0),
            affected_rows: message.affected_rows.unwrap_or(0),
            request_bytes: row.request_bytes.unwrap_or(0),
            response_bytes: row.response_bytes.unwrap_or(0),
            latency: row.latency,
        };
        self.waiting_mysql.push(&mut self.digests, number, one);
        self.service(link.service, &row.frame, one.error);
        if let Some(total) = row.latency.total_ns
            && self.slow_mysql.admits(total)
        {
            let what = match message.statement.as_str() {
                "" => command_name(message.command).unwrap_or("unknown"),
                statement => prefix(statement, SHOWN),
            };
            let slow = slow(&row.frame, total, what.to_string(), message.status.name().to_string());
            self.slow_mysql.push(slow);
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
            // Seen from the server's socket, what was sent goes to the client.
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
        // The dependency map: exchanges were counted one by one; here the connection, and what has no exchanges.
        let link = self.links.get(row.parties as usize % MAX_REMEMBERED).copied();
        // Its exchanges have said already who was at its ends.
        let known = link.filter(|link| (link.parties, link.protocol) == (row.parties, row.protocol));
        let number = match known {
            Some(link) => link.service,
            None => {
                key.begin().write(|to| write_service(to, row.client_party, &row.client));
                key.write(|to| write_service(to, row.server_party, &row.server));
                let protocol = if row.protocol.is_empty() { "tcp" } else { row.protocol };
                self.services.number(key.field(protocol).done())
            }
        };
        if let Some(stats) = self.services.at(number) {
            stats.connections += 1;
            stats.errors += u64::from(failed);
            if row.exchanges == 0 {
                add(&mut stats.bytes, bytes);
            }
            if known.is_none() {
                stats.agreed.see(self.names.ends(row.client_party, row.server_party));
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
    use super::*;
    use crate::analyze::protocol::mysql::{MysqlMessage, Status};
    use crate::analyze::report::sections;
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
        aggregate.mysql(&MysqlRow {
            frame,
            message: &message,
        });
    }

    fn texts(columns: &crate::analyze::table::Columns, row: usize, names: &[&str]) -> Vec<String> {
        let text = |name: &&str| match columns.column(name).map(|column| column.get(row)) {
            Some(Value::Text(text)) => text.to_string(),
            _ => String::new(),
        };
        names.iter().map(text).collect()
    }

    #[test]
    fn what_is_counted_together_has_no_digest() {
        let mut aggregate = Aggregate {
            digests: Keyed::new(1, usize::MAX),
            ..Aggregate::default()
        };
        for table in ["a", "b", "b", "c"] {
            count(&mut aggregate, &format!("select {table} from t"), &Party::default());
        }
        let mut all = Aggregate::default();
        all.merge(aggregate);
        let columns = sections::digests(&all);
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
        let columns = sections::digests(&all);
        let row = texts(&columns, 0, &["fingerprint", "service"]);
        assert_eq!(row, ["select `a\0other` from t", "db"]);
    }
}
