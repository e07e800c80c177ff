//! How a table is defined: a list of columns, each with the function that takes its value out of a row.

use super::derive::{Fingerprints, Templates};
use crate::analyze::column::{FastMap, Kind, Spec, Value};
use crate::format::record::Endpoint;

/// A table: a name, a row type and its columns.
pub trait Table: Sized + 'static {
    /// What it is made from.
    type Row<'r>;

    /// All columns, in order.
    fn defs() -> &'static [Def<Self>];

    /// What rows are sorted by.
    fn key(row: &Self::Row<'_>) -> Key;
}

/// The sort key of a row: a time, then what tells rows of the same time apart.
pub type Key = (u64, u64, u64);

/// Takes a value out of a row, or makes it in the scratch space.
pub type Get<T> = for<'a, 'r> fn(&'a <T as Table>::Row<'r>, &'a mut Scratch) -> Value<'a>;

/// A column of a table.
pub struct Def<T: Table> {
    pub spec: Spec,
    /// Shown on a terminal unless other columns are asked for.
    pub brief: bool,
    pub get: Get<T>,
}

impl<T: Table> Clone for Def<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Table> Copy for Def<T> {}

/// A column.
pub const fn column<T: Table>(name: &'static str, kind: Kind, doc: &'static str, get: Get<T>) -> Def<T> {
    Def {
        spec: Spec { name, kind, doc },
        brief: false,
        get,
    }
}

/// A column that is shown on a terminal unless other columns are asked for.
pub const fn brief<T: Table>(name: &'static str, kind: Kind, doc: &'static str, get: Get<T>) -> Def<T> {
    Def {
        spec: Spec { name, kind, doc },
        brief: true,
        get,
    }
}

/// Addresses whose text is kept.
const MAX_ADDRESSES: usize = 65_536;

/// Where values are made that a row does not hold as they are; one for each shard.
#[derive(Default)]
pub struct Scratch {
    /// Space for one text.
    pub text: String,
    pub templates: Templates,
    pub fingerprints: Fingerprints,
    addresses: FastMap<[u8; 16], Box<str>>,
}

impl Scratch {
    /// The address as text; null when it is all zero.
    pub fn ip(&mut self, endpoint: &Endpoint) -> Value<'_> {
        if endpoint.ip == [0; 16] {
            return Value::Null;
        }
        if self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.clear();
        }
        Value::Text(self.addresses.entry(endpoint.ip).or_insert_with(|| ip_text(endpoint)))
    }
}

fn ip_text(endpoint: &Endpoint) -> Box<str> {
    endpoint.ip().to_string().into()
}
