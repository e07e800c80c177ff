//! The table `memcached_keys`: commands by name, pattern of their first key, and service.

use std::borrow::Cow;

use super::MemcachedMessage;
use super::message::Status;
use crate::analyze::column::Kind::{Bytes, Count, Ratio, Text};
use crate::analyze::column::Value;
use crate::analyze::protocol::summary::{Heading, Remembered, Summary, SummaryRow, summary_column};
use crate::analyze::row::ExchangeRow;
use crate::analyze::stats::counters::{ExchangeStats, Own, add};
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge};
use crate::analyze::stats::label::write_named;
use crate::analyze::table::define::{Def, Derived, Key, SERVICE, Table, brief, column, ratio};
use crate::analyze::table::ends::columns_with_ends;
use crate::analyze::template;

/// Patterns of keys, kept because the same keys come again and again.
#[derive(Default)]
pub struct Patterns(Remembered<Box<str>>);

impl Derived for Patterns {}

impl Patterns {
    /// The pattern of a key.
    pub fn of(&mut self, key: &str) -> &str {
        self.0.made_of(key, |key| pattern(key).into())
    }
}

/// `user:42:cart` is `user:{id}:cart`: between colons and slashes by the rules for paths, and where these say nothing, each number.
fn pattern(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for part in key.split_inclusive([':', '/']) {
        let (name, end) = match part.char_indices().next_back() {
            Some((at, ':' | '/')) => part.split_at(at),
            _ => (part, ""),
        };
        match template::of(name) {
            Cow::Owned(template) => out.push_str(&template),
            Cow::Borrowed(name) => {
                let mut in_number = false;
                for c in name.chars() {
                    let is_digit = c.is_ascii_digit();
                    match (is_digit, in_number) {
                        (true, false) => out.push_str("{id}"),
                        (true, true) => {}
                        (false, _) => out.push(c),
                    }
                    in_number = is_digit;
                }
            }
        }
        out.push_str(end);
    }
    out
}

/// What is counted beside what is counted of all protocols.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyStats {
    pub client_errors: u64,
    pub keys: u64,
    pub hits: u64,
    pub misses: u64,
    pub value_bytes: u64,
    pub found_bytes: u64,
}

impl Own for KeyStats {
    type One = Self;

    fn count(&mut self, one: &Self) {
        self.merge(*one);
    }
}

impl Merge for KeyStats {
    fn merge(&mut self, other: KeyStats) {
        for (to, more) in [
            (&mut self.client_errors, other.client_errors),
            (&mut self.keys, other.keys),
            (&mut self.hits, other.hits),
            (&mut self.misses, other.misses),
            (&mut self.value_bytes, other.value_bytes),
            (&mut self.found_bytes, other.found_bytes),
        ] {
            add(to, more);
        }
    }
}

/// Finds the key of a command in the table.
#[derive(Default)]
pub struct ByKey {
    patterns: Patterns,
    key: KeyText,
    numbers: Remembered<u32>,
}

impl Summary for ByKey {
    type Message = MemcachedMessage;
    type Own = KeyStats;
    type Table = MemcachedKeys;

    const HEADING: Heading = Heading {
        name: "memcached_keys",
        title: "memcached keys",
        about: "memcached commands by name and pattern of their first key.",
    };
    const FIELDS: usize = 3;

    fn number(
        &mut self,
        row: &ExchangeRow<'_, MemcachedMessage>,
        _callee: u32,
        keyed: &mut Keyed<ExchangeStats<KeyStats>>,
    ) -> u32 {
        let message = row.message;
        let key = &mut self.key;
        key.begin()
            .field(&message.command)
            .field(self.patterns.of(&message.key));
        key.write(|to| write_named(to, row.server_party, &row.server));
        let text = key.done();
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = keyed.number(text);
        self.numbers.put(text.into(), number, text.len());
        number
    }

    fn one(row: &ExchangeRow<'_, MemcachedMessage>) -> KeyStats {
        let message = row.message;
        KeyStats {
            client_errors: u64::from(message.status == Status::ClientError),
            keys: message.keys,
            hits: message.hits.unwrap_or(0),
            misses: message.misses().unwrap_or(0),
            value_bytes: message.value_bytes.unwrap_or(0),
            found_bytes: message.found_bytes,
        }
    }
}

/// The table `memcached_keys`.
pub struct MemcachedKeys;

impl Table for MemcachedKeys {
    type Row<'r> = SummaryRow<'r, KeyStats>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<MemcachedKeys>] {
        columns_with_ends!(MemcachedKeys, "commands of the row", "--table memcached --group-by command,key_pattern", [
            brief("command", Text, "memcached command: get, set, …", |r, _| Value::text(r.field(0))),
            brief("key_pattern", Text, "first key of the commands, with placeholders for what names one item among many: user:42 is user:{id}", |r, _| Value::text(r.field(1))),
            column("service", Text, SERVICE, |r, _| Value::text(r.field(2))),
            brief("count", Count, "number of commands, incomplete ones included", |r, _| Value::Int(r.stats.count)),
            brief("errors", Count, "number of commands answered by SERVER_ERROR, or without a whole response because the connection was reset", |r, _| Value::Int(r.stats.errors)),
            summary_column!(column error_rate),
            column("client_errors", Count, "number of commands answered by ERROR or CLIENT_ERROR", |r, _| Value::Int(r.stats.own.client_errors)),
            brief("keys", Count, "number of keys that the commands named", |r, _| Value::Int(r.stats.own.keys)),
            brief("hits", Count, "number of keys that the server had", |r, _| Value::Int(r.stats.own.hits)),
            brief("misses", Count, "number of keys that the server did not have", |r, _| Value::Int(r.stats.own.misses)),
            brief("hit_rate", Ratio, "hits divided by hits and misses, from 0 to 1", |r, _| ratio(r.stats.own.hits, r.stats.own.hits.saturating_add(r.stats.own.misses))),
            summary_column!(brief p50_ns),
            summary_column!(column p90_ns),
            summary_column!(brief p95_ns),
            summary_column!(brief p99_ns),
            summary_column!(brief max_ns),
            summary_column!(column mean_ns),
            summary_column!(column measured),
            summary_column!(column incomplete),
            column("value_bytes", Bytes, "data that the commands stored, in bytes", |r, _| Value::Int(r.stats.own.value_bytes)),
            column("found_bytes", Bytes, "data in the responses, in bytes", |r, _| Value::Int(r.stats.own.found_bytes)),
            summary_column!(column request_bytes),
            summary_column!(column response_bytes),
        ])
    }

    fn key(row: &SummaryRow<'_, KeyStats>) -> Key {
        (u64::MAX - row.stats.count, 0, 0)
    }
}
