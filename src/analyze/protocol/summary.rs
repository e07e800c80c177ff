//! How the exchanges of a protocol are counted up in a table of their own: endpoints, digests, and the like.

use crate::analyze::column::FastMap;
use crate::analyze::row::ExchangeRow;
use crate::analyze::stats::counters::{ExchangeStats, Own};
use crate::analyze::stats::ends::End;
use crate::analyze::stats::keyed::Keyed;
use crate::analyze::table::Table;
use crate::analyze::table::exchanges::Columns;
use crate::analyze::template::Patterns;

/// Different texts, and the like, that are remembered to be looked up again.
pub const MAX_REMEMBERED: usize = 16_384;
/// Bytes of texts that are remembered.
pub const MAX_REMEMBERED_BYTES: usize = 2 << 20;

/// How a table that is counted up is called.
#[derive(Debug, Clone, Copy)]
pub struct Heading {
    /// As the user writes it.
    pub name: &'static str,
    /// In the report.
    pub title: &'static str,
    /// What a row of it is.
    pub about: &'static str,
}

/// By which keys exchanges are counted up, and what is counted of them.
pub trait Summary: Default + Send + 'static {
    type Message: Columns;
    /// What is counted beside what is counted of all protocols.
    type Own: Own;
    type Table: for<'r> Table<Row<'r> = SummaryRow<'r, Self::Own>, Derived = ()>;

    const HEADING: Heading;
    /// Fields of a key.
    const FIELDS: usize;
    /// The column that the report shows last, because it is as long as it likes.
    const LAST: Option<&'static str> = None;

    /// Takes path templates of the user's.
    fn use_patterns(&mut self, patterns: &Patterns) {
        let _ = patterns;
    }

    /// The number of an exchange's key; `callee` is a number for what the server is called.
    fn number(
        &mut self,
        row: &ExchangeRow<'_, Self::Message>,
        callee: u32,
        keyed: &mut Keyed<ExchangeStats<Self::Own>>,
    ) -> u32;

    /// What an exchange adds.
    fn one(row: &ExchangeRow<'_, Self::Message>) -> <Self::Own as Own>::One;
}

/// A row of a table that is counted up.
pub struct SummaryRow<'r, O> {
    /// Those of the key.
    pub fields: Vec<&'r str>,
    pub client: End<'r>,
    pub server: End<'r>,
    pub stats: &'r ExchangeStats<O>,
}

impl<'r, O> SummaryRow<'r, O> {
    /// A field of the key; empty where there is none.
    pub fn field(&self, n: usize) -> &'r str {
        self.fields.get(n).copied().unwrap_or("")
    }
}

/// A column that aggregate tables of several protocols have, for their rows, which are [`SummaryRow`]s. `$show` is `brief` or
/// `column`.
#[rustfmt::skip]
macro_rules! summary_column {
    ($show:ident error_rate) => {
        $show("error_rate", $crate::analyze::column::Kind::Ratio, "errors divided by count, from 0 to 1", |r, _| $crate::analyze::table::define::ratio(r.stats.errors, r.stats.count))
    };
    ($show:ident sum_ns) => {
        $show("sum_ns", $crate::analyze::column::Kind::Nanos, "sum of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::Int(r.stats.latency.total.sum()))
    };
    ($show:ident p50_ns) => {
        $show("p50_ns", $crate::analyze::column::Kind::Nanos, "median of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.total.percentile(0.5)))
    };
    ($show:ident p90_ns) => {
        $show("p90_ns", $crate::analyze::column::Kind::Nanos, "90th percentile of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.total.percentile(0.9)))
    };
    ($show:ident p95_ns) => {
        $show("p95_ns", $crate::analyze::column::Kind::Nanos, "95th percentile of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.total.percentile(0.95)))
    };
    ($show:ident p99_ns) => {
        $show("p99_ns", $crate::analyze::column::Kind::Nanos, "99th percentile of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.total.percentile(0.99)))
    };
    ($show:ident max_ns) => {
        $show("max_ns", $crate::analyze::column::Kind::Nanos, "maximum of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.total.max()))
    };
    ($show:ident mean_ns) => {
        $show("mean_ns", $crate::analyze::column::Kind::Nanos, "mean of the total time of the exchanges (first byte of the request to last byte of the response), ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.total.mean()))
    };
    ($show:ident ttfb_p50_ns) => {
        $show("ttfb_p50_ns", $crate::analyze::column::Kind::Nanos, "median of the time from the first byte of the request to the first byte of the response, ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.ttfb.percentile(0.5)))
    };
    ($show:ident ttfb_p95_ns) => {
        $show("ttfb_p95_ns", $crate::analyze::column::Kind::Nanos, "95th percentile of the time from the first byte of the request to the first byte of the response, ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.ttfb.percentile(0.95)))
    };
    ($show:ident ttfb_p99_ns) => {
        $show("ttfb_p99_ns", $crate::analyze::column::Kind::Nanos, "99th percentile of the time from the first byte of the request to the first byte of the response, ns", |r, _| $crate::analyze::column::Value::int(r.stats.latency.ttfb.percentile(0.99)))
    };
    ($show:ident measured) => {
        $show("measured", $crate::analyze::column::Kind::Count, "number of exchanges whose total time is known", |r, _| $crate::analyze::column::Value::Int(r.stats.latency.total.count()))
    };
    ($show:ident incomplete) => {
        $show("incomplete", $crate::analyze::column::Kind::Count, "number of exchanges that were not captured whole", |r, _| $crate::analyze::column::Value::Int(r.stats.incomplete))
    };
    ($show:ident request_bytes) => {
        $show("request_bytes", $crate::analyze::column::Kind::Bytes, "size of all requests as on the wire, in bytes", |r, _| $crate::analyze::column::Value::Int(r.stats.request_bytes))
    };
    ($show:ident response_bytes) => {
        $show("response_bytes", $crate::analyze::column::Kind::Bytes, "size of all responses as on the wire, in bytes", |r, _| $crate::analyze::column::Value::Int(r.stats.response_bytes))
    };
}
pub(crate) use summary_column;

/// Puts into a place, which may not be there yet.
pub fn put<T: Default>(places: &mut Vec<T>, place: usize, value: T) {
    if places.len() <= place {
        places.resize_with(place + 1, T::default);
    }
    places[place] = value;
}

/// What is known of texts that can be looked up again; when they are too many, or too long, all are forgotten.
pub struct Remembered<V> {
    values: FastMap<Box<str>, V>,
    bytes: usize,
}

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Remembered {
            values: FastMap::default(),
            bytes: 0,
        }
    }
}

impl<V> Remembered<V> {
    /// What is known of this text.
    pub fn get(&self, text: &str) -> Option<&V> {
        self.values.get(text)
    }

    /// Remembers it; text and value have so many `bytes`.
    pub fn put(&mut self, text: Box<str>, value: V, bytes: usize) {
        if self.values.len() >= MAX_REMEMBERED || self.bytes + bytes > MAX_REMEMBERED_BYTES {
            self.values.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.values.insert(text, value);
    }
}

impl Remembered<Box<str>> {
    /// What `make` makes of this text, which is not made twice as long as it is remembered.
    pub fn made_of(&mut self, text: &str, make: impl FnOnce(&str) -> Box<str>) -> &str {
        if !self.values.contains_key(text) {
            let made = make(text);
            let bytes = text.len() + made.len();
            self.put(text.into(), made, bytes);
        }
        self.values.get(text).map_or("", |made| made)
    }

    /// Bytes of what is remembered.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.values.iter().map(|(text, made)| text.len() + made.len()).sum()
    }
}
