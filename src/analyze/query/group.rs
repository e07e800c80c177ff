//! `--group-by` and `--bucket`: rows aggregated by the values of columns, or by time buckets.

use std::any::Any;
use std::fmt::Write;

use crate::analyze::column::unknown_column;
use crate::analyze::row::{ConnectionRow, ExchangeRow, ProcessRow};
use crate::analyze::stats::Histogram;
use crate::analyze::stats::counters::add;
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge, OTHER};
use crate::analyze::table::connections::Connections;
use crate::analyze::table::exchanges::{self, Exchanges};
use crate::analyze::table::processes::Processes;
use crate::analyze::table::{Columns, Def, Kind, Scratch, Spec, Table, Value};

/// Groups in one shard; rows of further groups are counted under [`OTHER`].
const MAX_GROUPS: usize = 100_000;
/// Bytes of the keys of groups in one shard.
const MAX_KEY_BYTES: usize = 16 << 20;

/// What a row adds to its group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measure {
    pub error: bool,
    pub bytes: u64,
    pub duration_ns: Option<u64>,
}

/// A table whose rows can be grouped.
pub trait Measured: Table {
    /// What a row adds to its group.
    fn measure(row: &Self::Row<'_>) -> Measure;
}

impl<M: exchanges::Columns> Measured for Exchanges<M> {
    fn measure(row: &ExchangeRow<'_, M>) -> Measure {
        Measure {
            error: row.is_error(),
            bytes: row.bytes(),
            duration_ns: row.latency.total_ns,
        }
    }
}

impl Measured for Connections {
    fn measure(row: &ConnectionRow<'_>) -> Measure {
        Measure {
            error: row.connect_error != 0,
            bytes: row.bytes_sent.saturating_add(row.bytes_received),
            duration_ns: row.connect_ns,
        }
    }
}

impl Measured for Processes {
    fn measure(row: &ProcessRow<'_>) -> Measure {
        Measure {
            error: row.signal.is_some() || row.exit_code.is_some_and(|code| code != 0),
            bytes: 0,
            duration_ns: row.duration_ns(),
        }
    }
}

/// The counters of a group.
#[derive(Debug, Clone, Default)]
struct Group {
    count: u64,
    errors: u64,
    bytes: u64,
    duration: Histogram,
}

impl Merge for Group {
    fn merge(&mut self, other: Group) {
        self.count += other.count;
        self.errors += other.errors;
        add(&mut self.bytes, other.bytes);
        self.duration.merge(&other.duration);
    }
}

/// What to group by.
#[derive(Debug, Clone, Default)]
pub struct GroupBy {
    /// Numbers of columns.
    pub columns: Vec<usize>,
    /// Width of a time bucket, ns; 0 for none.
    pub bucket_ns: u64,
}

impl GroupBy {
    /// Finds the columns. A name without a column of its own (`pod`, `namespace`) means that of the server (`server_pod`).
    pub fn new(names: &[String], bucket_ns: u64, table: &str, specs: &[Spec]) -> Result<GroupBy, String> {
        let find = |name: &String| {
            let server = || Spec::find(&format!("server_{name}"), specs);
            Spec::find(name, specs)
                .or_else(server)
                .ok_or_else(|| unknown_column(name, table, specs))
        };
        Ok(GroupBy {
            columns: names.iter().map(find).collect::<Result<_, _>>()?,
            bucket_ns,
        })
    }

    /// The columns of the result.
    pub fn specs(&self, table: &[Spec]) -> Vec<Spec> {
        const fn spec(name: &'static str, kind: Kind, doc: &'static str) -> Spec {
            Spec { name, kind, doc }
        }
        let mut specs = Vec::new();
        if self.bucket_ns > 0 {
            specs.push(spec("bucket", Kind::Time, "start of the time bucket"));
        }
        specs.extend(self.columns.iter().map(|column| table[*column]));
        specs.extend([
            spec("count", Kind::Count, "number of rows in the group"),
            spec(
                "errors",
                Kind::Count,
                "number of rows in the group that are errors: failed exchanges, failed connects, processes that ended by a signal or with an exit code other than 0",
            ),
            spec("error_rate", Kind::Ratio, "errors divided by count, from 0 to 1"),
            spec("bytes", Kind::Bytes, "bytes of the rows in the group, both directions together"),
            spec("p50_ns", Kind::Nanos, "median duration of the rows in the group, ns"),
            spec("p90_ns", Kind::Nanos, "90th percentile of the duration of the rows in the group, ns"),
            spec("p95_ns", Kind::Nanos, "95th percentile of the duration of the rows in the group, ns"),
            spec("p99_ns", Kind::Nanos, "99th percentile of the duration of the rows in the group, ns"),
            spec("max_ns", Kind::Nanos, "longest duration of the rows in the group, ns"),
        ]);
        specs
    }
}

/// The groups of one shard, whatever the type of the table.
pub trait AnyGroups: Send {
    /// Adds the groups of another shard, of the same table.
    fn merge(&mut self, other: Box<dyn AnyGroups>);

    /// The result: in order of time, then largest group first, then by values.
    fn columns(&self) -> Columns;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: Measured> AnyGroups for Groups<T> {
    fn merge(&mut self, other: Box<dyn AnyGroups>) {
        if let Ok(other) = other.into_any().downcast() {
            self.merge(*other);
        }
    }

    fn columns(&self) -> Columns {
        self.columns()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Groups of one shard.
pub struct Groups<T: Measured> {
    by: GroupBy,
    defs: Vec<Def<T>>,
    /// The values of each group, by its number.
    values: Columns,
    groups: Keyed<Group>,
    key: KeyText,
}

impl<T: Measured> Groups<T> {
    /// None yet.
    pub fn new(by: GroupBy) -> Groups<T> {
        let defs: Vec<Def<T>> = by.columns.iter().map(|column| T::defs()[*column]).collect();
        let bucket = Spec {
            name: "bucket",
            kind: Kind::Time,
            doc: "",
        };
        let values = Columns::new(std::iter::once(bucket).chain(defs.iter().map(|def| def.spec)));
        Groups {
            by,
            defs,
            values,
            groups: Keyed::new(MAX_GROUPS, MAX_KEY_BYTES),
            key: KeyText::default(),
        }
    }

    /// Counts a row.
    pub fn push(&mut self, row: &T::Row<'_>, scratch: &mut Scratch<T::Derived>) {
        let time = T::key(row).0;
        // A row without a time is in no bucket.
        let bucket = match time.checked_div(self.by.bucket_ns) {
            Some(number) if time != 0 => Value::Int(number * self.by.bucket_ns),
            _ => Value::Null,
        };
        add_value(self.key.begin(), bucket);
        for def in &self.defs {
            add_value(&mut self.key, (def.get)(row, scratch));
        }
        let number = self.groups.number(self.key.done());
        if number as usize == self.values.rows() {
            let other = self.groups.is_other(number);
            self.values.columns[0].push(if other { Value::Null } else { bucket });
            for (def, column) in self.defs.iter().zip(&mut self.values.columns[1..]) {
                column.push(if other {
                    Value::Text(OTHER)
                } else {
                    (def.get)(row, scratch)
                });
            }
        }
        let measure = T::measure(row);
        if let Some(group) = self.groups.at(number) {
            group.count += 1;
            group.errors += u64::from(measure.error);
            add(&mut group.bytes, measure.bytes);
            if let Some(duration) = measure.duration_ns {
                group.duration.record(duration);
            }
        }
    }

    /// Adds the groups of another shard.
    pub fn merge(&mut self, other: Groups<T>) {
        let mut rows = Vec::new();
        for (number, (key, _)) in other.groups.iter().enumerate() {
            let before = self.groups.len();
            self.groups.unlimit();
            if self.groups.number(key) as usize == before {
                rows.push(number as u32);
            }
        }
        self.values.append(&other.values.gather(&rows));
        self.groups.merge(other.groups);
    }

    /// The result: in order of time, then largest group first, then by values.
    pub fn columns(&self) -> Columns {
        let specs: Vec<Spec> = T::defs().iter().map(|def| def.spec).collect();
        let mut out = Columns::new(self.by.specs(&specs));
        let groups: Vec<(&str, &Group)> = self.groups.iter().collect();
        let mut order: Vec<usize> = (0..groups.len()).collect();
        let time = |row: usize| match self.values.columns[0].get(row) {
            Value::Int(ns) => ns,
            _ => u64::MAX,
        };
        order.sort_by_key(|row| (time(*row), std::cmp::Reverse(groups[*row].1.count), groups[*row].0));
        for row in order {
            let group = groups[row].1;
            let mut values = Vec::with_capacity(out.columns.len());
            if self.by.bucket_ns > 0 {
                values.push(self.values.columns[0].get(row));
            }
            values.extend(self.values.columns[1..].iter().map(|column| column.get(row)));
            let percentile = |share| Value::int(group.duration.percentile(share));
            values.extend([
                Value::Int(group.count),
                Value::Int(group.errors),
                Value::Float(group.errors as f64 / group.count.max(1) as f64),
                Value::Int(group.bytes),
                percentile(0.5),
                percentile(0.9),
                percentile(0.95),
                percentile(0.99),
                Value::int(group.duration.max()),
            ]);
            out.push_row(&values);
        }
        out
    }
}

fn add_value(to: &mut KeyText, value: Value<'_>) {
    // Writing to a String cannot fail.
    to.write(|to| {
        let _ = match value {
            Value::Null => Ok(()),
            Value::Text(text) => to.write_str(text),
            Value::Int(number) => write!(to, "{number}"),
            Value::Float(number) => write!(to, "{number}"),
            Value::Flag(flag) => write!(to, "{flag}"),
        };
    });
    // Null is another value than an empty text.
    to.field(if value == Value::Null { "null" } else { "" });
}
