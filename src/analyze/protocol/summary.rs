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
const MAX_REMEMBERED_BYTES: usize = 2 << 20;

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

/// Puts into a place, which may not be there yet.
pub fn put<T: Default>(places: &mut Vec<T>, place: usize, value: T) {
    if places.len() <= place {
        places.resize_with(place + 1, T::default);
    }
    places[place] = value;
}

/// Numbers of texts that can be looked up again; when they are too many, or too long, all are forgotten.
#[derive(Default)]
pub struct Remembered {
    numbers: FastMap<Box<str>, u32>,
    bytes: usize,
}

impl Remembered {
    /// The number of this text.
    pub fn get(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// Remembers it.
    pub fn put(&mut self, text: Box<str>, number: u32) {
        if self.numbers.len() >= MAX_REMEMBERED || self.bytes + text.len() > MAX_REMEMBERED_BYTES {
            self.numbers.clear();
            self.bytes = 0;
        }
        self.bytes += text.len();
        self.numbers.insert(text, number);
    }
}
