//! Columns in memory: typed values with a name, a kind and a sentence of documentation.
//!
//! Knows nothing of rows, files or polars. Text is kept as codes into a dictionary, because almost every text column
//! (addresses, pods, methods) repeats a few values; a column of codes also sorts and groups cheaply.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rayon::prelude::*;

/// A map with a fast hash, seeded at random: captures choose the keys. Nothing may depend on its order.
pub type FastMap<K, V> = HashMap<K, V, RandomState>;

/// The kind of a column's values: decides how they are stored in files and shown on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTC, ns since 1970-01-01.
    Time,
    /// A duration, ns.
    Nanos,
    /// A duration, µs.
    Micros,
    /// A size, bytes.
    Bytes,
    /// A count.
    Count,
    /// A number that names something (port, pid, status); fits 32 bits.
    Number,
    /// A number with a fraction.
    Float,
    /// A share of 1.
    Ratio,
    /// True or false.
    Flag,
    /// UTF-8.
    Text,
}

impl Kind {
    /// The type, as in COLUMNS.md.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Time => "timestamp (ns, UTC)",
            Kind::Nanos | Kind::Micros | Kind::Bytes | Kind::Count => "u64",
            Kind::Number => "u32",
            Kind::Float | Kind::Ratio => "f64",
            Kind::Flag => "bool",
            Kind::Text => "string",
        }
    }

    /// Whether the values are numbers.
    pub fn is_numeric(self) -> bool {
        !matches!(self, Kind::Flag | Kind::Text)
    }
}

/// Name, kind and meaning of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    pub name: &'static str,
    pub kind: Kind,
    pub doc: &'static str,
}

impl Spec {
    /// The name in headings, where each value shows its unit: without it, and with spaces.
    pub fn heading(&self) -> String {
        let unit = match self.kind {
            Kind::Nanos => "_ns",
            Kind::Micros => "_us",
            _ => "",
        };
        self.name.strip_suffix(unit).unwrap_or(self.name).replace('_', " ")
    }

    /// The number of a column, by its name or its heading (`p95_ns`, `p95`).
    pub fn find(name: &str, specs: &[Spec]) -> Option<usize> {
        let heading = name.replace('_', " ");
        let exact = specs.iter().position(|spec| spec.name == name);
        exact.or_else(|| specs.iter().position(|spec| spec.heading() == heading))
    }
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Null,
    Int(u64),
    Float(f64),
    Flag(bool),
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// Text, or null when it is empty.
    pub fn text(text: &'a str) -> Value<'a> {
        if text.is_empty() {
            Value::Null
        } else {
            Value::Text(text)
        }
    }

    /// A number, or null.
    pub fn int(number: Option<u64>) -> Value<'a> {
        number.map_or(Value::Null, Value::Int)
    }

    /// A number, or null when it is 0.
    pub fn nonzero(number: u64) -> Value<'a> {
        if number == 0 { Value::Null } else { Value::Int(number) }
    }
}

/// Texts with a code for each; each text is stored once.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    texts: Vec<Arc<str>>,
    codes: FastMap<Arc<str>, u32>,
    last: u32,
    /// Memory of all texts and of the index, about.
    bytes: usize,
}

/// Memory of a text in a dictionary beside its own bytes, about: its header and two pointers to it.
const TEXT_BYTES: usize = 56;

impl Dictionary {
    /// The code of this text, which is mostly that of the text before.
    #[inline]
    pub fn code(&mut self, text: &str) -> u32 {
        if self.texts.get(self.last as usize).is_none_or(|last| **last != *text) {
            self.last = self.find(text);
        }
        self.last
    }

    fn find(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let code = self.texts.len() as u32;
        self.bytes += text.len() + TEXT_BYTES;
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.codes.insert(text, code);
        code
    }

    /// The text of a code that this dictionary gave.
    pub fn get(&self, code: u32) -> &str {
        self.texts.get(code as usize).map_or("", |text| text)
    }

    /// All texts, in the order of their codes.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// Number of different texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// The code of a null.
const NO_TEXT: u32 = u32::MAX;

#[derive(Debug, Clone)]
enum Values {
    Int(Vec<u64>),
    Float(Vec<f64>),
    Flag(Vec<bool>),
    Text(Vec<u32>, Dictionary),
}

/// A column with its values.
#[derive(Debug, Clone)]
pub struct Column {
    pub spec: Spec,
    values: Values,
    /// Whether each value is not null; empty while there is no null. Text columns have a code for null instead.
    valid: Vec<bool>,
}

impl Column {
    /// An empty column.
    pub fn new(spec: Spec) -> Column {
        let values = match spec.kind {
            Kind::Float | Kind::Ratio => Values::Float(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
            Kind::Text => Values::Text(Vec::new(), Dictionary::default()),
            _ => Values::Int(Vec::new()),
        };
        Column {
            spec,
            values,
            valid: Vec::new(),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Int(v) => v.len(),
            Values::Float(v) => v.len(),
            Values::Flag(v) => v.len(),
            Values::Text(v, _) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Int(v) => v.len() * size_of::<u64>(),
            Values::Float(v) => v.len() * size_of::<f64>(),
            Values::Flag(v) => v.len(),
            Values::Text(v, dictionary) => v.len() * size_of::<u32>() + dictionary.bytes,
        };
        values + self.valid.len()
    }

    /// Adds a value. One of another type than the column's becomes null.
    pub fn push(&mut self, value: Value<'_>) {
        let valid = match (&mut self.values, value) {
            (Values::Text(codes, dictionary), Value::Text(text)) => {
                codes.push(dictionary.code(text));
                return;
            }
            (Values::Text(codes, _), _) => {
                codes.push(NO_TEXT);
                return;
            }
            (Values::Int(v), Value::Int(number)) => {
                v.push(number);
                true
            }
            (Values::Float(v), Value::Float(number)) => {
                v.push(number);
                true
            }
            (Values::Flag(v), Value::Flag(flag)) => {
                v.push(flag);
                true
            }
            (Values::Int(v), _) => {
                v.push(0);
                false
            }
            (Values::Float(v), _) => {
                v.push(0.0);
                false
            }
            (Values::Flag(v), _) => {
                v.push(false);
                false
            }
        };
        if !valid && self.valid.is_empty() {
            self.valid.resize(self.len() - 1, true);
        }
        if !valid || !self.valid.is_empty() {
            self.valid.push(valid);
        }
    }

    /// The value of a row; null beyond the end.
    pub fn get(&self, row: usize) -> Value<'_> {
        if self.valid.get(row) == Some(&false) {
            return Value::Null;
        }
        match &self.values {
            Values::Int(v) => v.get(row).map_or(Value::Null, |n| Value::Int(*n)),
            Values::Float(v) => v.get(row).map_or(Value::Null, |n| Value::Float(*n)),
            Values::Flag(v) => v.get(row).map_or(Value::Null, |f| Value::Flag(*f)),
            Values::Text(codes, dictionary) => match codes.get(row) {
                None | Some(&NO_TEXT) => Value::Null,
                Some(code) => Value::Text(dictionary.get(*code)),
            },
        }
    }

    /// Adds all values of a column of the same kind.
    pub fn append(&mut self, other: &Column) {
        if !self.valid.is_empty() || !other.valid.is_empty() {
            self.valid.resize(self.len(), true);
            match other.valid.is_empty() {
                true => self.valid.resize(self.len() + other.len(), true),
                false => self.valid.extend_from_slice(&other.valid),
            }
        }
        match (&mut self.values, &other.values) {
            (Values::Int(to), Values::Int(from)) => to.extend_from_slice(from),
            (Values::Float(to), Values::Float(from)) => to.extend_from_slice(from),
            (Values::Flag(to), Values::Flag(from)) => to.extend_from_slice(from),
            (Values::Text(to, dictionary), Values::Text(from, others)) => {
                let codes: Vec<u32> = others.texts().map(|text| dictionary.code(text)).collect();
                to.extend(
                    from.iter()
                        .map(|code| codes.get(*code as usize).copied().unwrap_or(NO_TEXT)),
                );
            }
            _ => debug_assert!(false, "columns of different kinds"),
        }
    }

    /// The rows with these numbers, in this order.
    pub fn gather(&self, rows: &[u32]) -> Column {
        let mut out = Column::new(self.spec);
        match (&mut out.values, &self.values) {
            (Values::Int(to), Values::Int(from)) => to.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Float(to), Values::Float(from)) => to.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Flag(to), Values::Flag(from)) => to.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Text(to, dictionary), Values::Text(from, own)) => {
                // New codes, so that texts of other rows are dropped.
                let mut codes = vec![NO_TEXT; own.len()];
                to.reserve(rows.len());
                for row in rows {
                    let code = from[*row as usize];
                    to.push(match codes.get_mut(code as usize) {
                        None => NO_TEXT,
                        Some(new) => {
                            if *new == NO_TEXT {
                                *new = dictionary.code(own.get(code));
                            }
                            *new
                        }
                    });
                }
            }
            _ => {}
        }
        if !self.valid.is_empty() {
            out.valid.extend(rows.iter().map(|row| self.valid[*row as usize]));
        }
        out
    }
}

/// Columns of the same length.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    pub columns: Vec<Column>,
}

impl Columns {
    /// Empty columns.
    pub fn new(specs: impl IntoIterator<Item = Spec>) -> Columns {
        Columns {
            columns: specs.into_iter().map(Column::new).collect(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Column::len)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// Name, kind and meaning of each column.
    pub fn specs(&self) -> impl Iterator<Item = Spec> + '_ {
        self.columns.iter().map(|column| column.spec)
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.spec.name == name)
    }

    /// Adds all rows of columns of the same specs.
    pub fn append(&mut self, other: &Columns) {
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            to.append(from);
        }
    }

    /// The rows with these numbers, in this order.
    pub fn gather(&self, rows: &[u32]) -> Columns {
        Columns {
            columns: self.columns.par_iter().map(|column| column.gather(rows)).collect(),
        }
    }

    /// Adds a row; there must be one value for each column.
    pub fn push_row(&mut self, values: &[Value<'_>]) {
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(*value);
        }
    }
}

/// The message for an unknown column, with the most similar name.
pub fn unknown_column(name: &str, table: &str, specs: &[Spec]) -> String {
    let distance = |other: &str| edit_distance(name, other);
    let best = specs.iter().map(|spec| (distance(spec.name), spec.name)).min();
    match best {
        Some((distance, best)) if distance <= 1 + name.len() / 3 => {
            format!("table {table} has no column {name}; did you mean {best}?")
        }
        _ => {
            let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
            format!("table {table} has no column {name}; it has {}", names.join(", "))
        }
    }
}

/// Insertions, deletions and replacements that make one name of the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut line: Vec<usize> = (0..=b.len()).collect();
    for (row, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row;
        line[0] = row + 1;
        for (n, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = line[n + 1];
            line[n + 1] = replaced.min(line[n] + 1).min(diagonal + 1);
        }
    }
    line[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Spec = Spec {
        name: "name",
        kind: Kind::Text,
        doc: "",
    };
    const SIZE: Spec = Spec {
        name: "size",
        kind: Kind::Bytes,
        doc: "",
    };

    fn sample() -> Columns {
        let mut columns = Columns::new([NAME, SIZE]);
        columns.push_row(&[Value::Text("a"), Value::Int(1)]);
        columns.push_row(&[Value::Null, Value::Null]);
        columns.push_row(&[Value::Text("b"), Value::Int(3)]);
        columns
    }

    #[test]
    fn nulls_and_texts_survive_appending_and_gathering() {
        let mut columns = Columns::new([NAME, SIZE]);
        columns.push_row(&[Value::Text("b"), Value::Int(9)]);
        columns.append(&sample());
        let picked = columns.gather(&[3, 2, 0]);
        let rows: Vec<_> = (0..3)
            .map(|row| (picked.columns[0].get(row), picked.columns[1].get(row)))
            .collect();
        assert_eq!(
            rows,
            [
                (Value::Text("b"), Value::Int(3)),
                (Value::Null, Value::Null),
                (Value::Text("b"), Value::Int(9))
            ]
        );
    }

    #[test]
    fn nulls_survive_being_appended_to_nothing() {
        let mut columns = Columns::new([NAME, SIZE]);
        columns.append(&sample());
        assert_eq!(columns.columns[1].get(1), Value::Null);
        assert_eq!(columns.columns[1].get(2), Value::Int(3));
    }

    #[test]
    fn appending_rows_without_nulls_keeps_earlier_nulls() {
        let mut columns = sample();
        let mut whole = Columns::new([NAME, SIZE]);
        whole.push_row(&[Value::Text("c"), Value::Int(4)]);
        columns.append(&whole);
        assert_eq!(columns.columns[1].get(1), Value::Null);
        assert_eq!(columns.columns[1].get(3), Value::Int(4));
        assert_eq!(columns.columns[0].get(3), Value::Text("c"));
    }
}
