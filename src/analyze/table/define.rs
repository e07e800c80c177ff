//! How a table is defined: a list of columns, each with the function that takes its value out of a row.

use crate::analyze::column::{FastMap, Kind, Spec, Value};
use crate::analyze::template::Patterns;
use crate::format::record::Endpoint;

/// A table: a row type and its columns.
pub trait Table: Sized + 'static {
    /// The rows that it is made from.
    type Row<'r>;
    /// Caches derived values; `()` where rows hold all values.
    type Derived: Derived;

    /// All columns, in order.
    fn defs() -> &'static [Def<Self>];

    /// The sort key of a row.
    fn key(row: &Self::Row<'_>) -> Key;
}

/// The sort key of a row: a time, then what distinguishes rows of the same time.
pub type Key = (u64, u64, u64);

/// Takes a value out of a row, or makes it in the scratch space.
pub type Get<T> = for<'a, 'r> fn(&'a <T as Table>::Row<'r>, &'a mut Scratch<<T as Table>::Derived>) -> Value<'a>;

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

/// The columns of a table, each with whether a terminal shows it by default.
pub fn specs_and_brief<T: Table>() -> Vec<(Spec, bool)> {
    T::defs().iter().map(|def| (def.spec, def.brief)).collect()
}

/// `part` divided by `whole`; null when `whole` is 0.
pub fn ratio(part: u64, whole: u64) -> Value<'static> {
    if whole == 0 {
        Value::Null
    } else {
        Value::Float(part as f64 / whole as f64)
    }
}

/// What the column `service` of aggregate tables means.
pub const SERVICE: &str = "server of the exchanges: namespace/owner of the pod, else container, or systemd service; null when it is none of these";

/// Addresses whose text is kept.
const MAX_ADDRESSES: usize = 65_536;

/// A cache of values that a protocol derives from rows (path templates, fingerprints), because they repeat.
pub trait Derived: Default + Send + 'static {
    /// Sets the user's path templates.
    fn use_patterns(&mut self, patterns: &Patterns) {
        let _ = patterns;
    }
}

impl Derived for () {}

/// Space to build values that a row does not hold directly; one for each table in each shard.
#[derive(Default)]
pub struct Scratch<D = ()> {
    /// Buffer for one text.
    pub text: String,
    pub derived: D,
    addresses: FastMap<[u8; 16], Box<str>>,
}

impl<D: Derived> Scratch<D> {
    /// With the user's path templates.
    pub fn new(patterns: &Patterns) -> Scratch<D> {
        let mut scratch: Scratch<D> = Scratch::default();
        scratch.derived.use_patterns(patterns);
        scratch
    }

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
