//! External merge sort of rows that do not fit into memory: sorted runs in temporary files, merged at the end.
//!
//! The files have no names (or are unlinked at once), so that none remains after a crash. They are in the system's folder for
//! temporary files (`TMPDIR`). When there are many runs, some are merged into one: the number of open files and
//! of buffers grows with the logarithm of the number of rows.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use anyhow::{Context, Result};

use super::row_buffer::Rows;
use crate::analyze::column::{Spec, Value};
use crate::analyze::table::define::Key;
use crate::analyze::table::order::compare_by;

/// Runs of about the same length that are merged into one.
const RUNS: usize = 16;
/// Rows in a batch.
const BATCH: usize = 4096;
/// Bytes that are allocated for a text at first, whatever its stated length.
const CHUNK: u64 = 1 << 16;

/// Sorted runs of rows.
pub struct Spill {
    specs: Vec<Spec>,
    /// Columns and whether descending; then by key.
    sort: Vec<(usize, bool)>,
    /// Runs by the number of merges of their rows, oldest first.
    levels: Vec<Vec<Run>>,
}

/// A sorted run, from its beginning.
type Run = BufReader<File>;

/// A row of a run.
#[derive(Debug)]
struct Row {
    values: Vec<Owned>,
    key: Key,
}

#[derive(Debug)]
enum Owned {
    Null,
    Int(u64),
    Float(f64),
    Flag(bool),
    Text(String),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Null => Value::Null,
            Owned::Int(number) => Value::Int(*number),
            Owned::Float(number) => Value::Float(*number),
            Owned::Flag(flag) => Value::Flag(*flag),
            Owned::Text(text) => Value::Text(text),
        }
    }
}

impl Spill {
    /// No run yet; rows have these columns and this order.
    pub fn new(specs: &[Spec], sort: &[(usize, bool)]) -> Spill {
        Spill {
            specs: specs.to_vec(),
            sort: sort.to_vec(),
            levels: Vec::new(),
        }
    }

    /// Whether no rows were spilled.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Spills the rows with these numbers, which are sorted.
    pub fn add(&mut self, rows: &Rows, order: &[u32]) -> Result<()> {
        let run = write_run(|to| {
            for row in order {
                let values = rows.columns.columns.iter().map(|column| column.get(*row as usize));
                write_row(to, values, rows.keys[*row as usize])?;
            }
            Ok(())
        })?;
        self.put(0, run)
    }

    /// Adds a run to a level; a full level becomes one run of the next.
    fn put(&mut self, level: usize, run: Run) -> Result<()> {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        self.levels[level].push(run);
        if self.levels[level].len() < RUNS {
            return Ok(());
        }
        let mut runs = std::mem::take(&mut self.levels[level]);
        let (columns, sort) = (self.specs.len(), &self.sort);
        let merged = write_run(|to| {
            merge(&mut runs, columns, sort, |row| {
                write_row(to, row.values.iter().map(Owned::value), row.key)?;
                Ok(true)
            })
        })?;
        self.put(level + 1, merged)
    }

    /// Passes all rows in order to `each`, in batches; `each` returns whether to go on.
    pub fn finish(self, mut each: impl FnMut(Rows) -> Result<bool>) -> Result<()> {
        // The oldest runs first: they are on the highest level.
        let mut runs: Vec<Run> = self.levels.into_iter().rev().flatten().collect();
        let empty = || Rows::new(self.specs.iter().copied());
        let mut batch = empty();
        let mut goes_on = true;
        merge(&mut runs, self.specs.len(), &self.sort, |row| {
            let values: Vec<Value<'_>> = row.values.iter().map(Owned::value).collect();
            batch.columns.push_row(&values);
            batch.keys.push(row.key);
            if batch.keys.len() >= BATCH {
                goes_on = each(std::mem::replace(&mut batch, empty()))?;
            }
            Ok(goes_on)
        })?;
        if goes_on && !batch.keys.is_empty() {
            each(batch)?;
        }
        Ok(())
    }
}

/// Merges runs; `each` gets the rows in order, and returns whether to go on.
fn merge(
    runs: &mut [Run],
    columns: usize,
    sort: &[(usize, bool)],
    mut each: impl FnMut(&Row) -> Result<bool>,
) -> Result<()> {
    let mut heads: Vec<Option<Row>> = runs
        .iter_mut()
        .map(|run| read_row(run, columns))
        .collect::<Result<_>>()?;
    let before = |a: &Row, b: &Row| -> Ordering {
        compare_by(
            sort,
            |column| a.values[column].value(),
            |column| b.values[column].value(),
        )
        .then_with(|| a.key.cmp(&b.key))
    };
    loop {
        let there = heads
            .iter()
            .enumerate()
            .filter_map(|(run, head)| Some((run, head.as_ref()?)));
        // Of equal rows, the one of the older run.
        let Some((run, first)) = there.min_by(|(_, a), (_, b)| before(a, b)) else {
            return Ok(());
        };
        if !each(first)? {
            return Ok(());
        }
        heads[run] = read_row(&mut runs[run], columns)?;
    }
}

/// Makes a temporary file of what `write` writes.
fn write_run(write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<Run> {
    let what = || format!("cannot keep rows to be sorted in {}", std::env::temp_dir().display());
    let mut to = BufWriter::with_capacity(1 << 16, tempfile::tempfile().with_context(what)?);
    write(&mut to).with_context(what)?;
    let mut file = to.into_inner().map_err(|error| error.into_error()).with_context(what)?;
    file.rewind().with_context(what)?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

fn write_row<'v>(to: &mut impl Write, values: impl Iterator<Item = Value<'v>>, key: Key) -> Result<()> {
    for part in [key.0, key.1, key.2] {
        to.write_all(&part.to_le_bytes())?;
    }
    for value in values {
        match value {
            Value::Null => to.write_all(&[0])?,
            Value::Int(number) => {
                to.write_all(&[1])?;
                to.write_all(&number.to_le_bytes())?;
            }
            Value::Float(number) => {
                to.write_all(&[2])?;
                to.write_all(&number.to_le_bytes())?;
            }
            Value::Flag(flag) => to.write_all(&[3, flag.into()])?,
            Value::Text(text) => {
                to.write_all(&[4])?;
                to.write_all(&(text.len() as u64).to_le_bytes())?;
                to.write_all(text.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// The next row of a run; `None` at its end.
fn read_row(from: &mut Run, columns: usize) -> Result<Option<Row>> {
    fn bytes<const N: usize>(from: &mut Run) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        from.read_exact(&mut bytes).context("cannot read rows to be sorted")?;
        Ok(bytes)
    }
    let number = |from: &mut Run| Ok::<u64, anyhow::Error>(u64::from_le_bytes(bytes(from)?));
    if std::io::BufRead::fill_buf(from)
        .context("cannot read rows to be sorted")?
        .is_empty()
    {
        return Ok(None);
    }
    let key = (number(from)?, number(from)?, number(from)?);
    let mut values = Vec::with_capacity(columns);
    for _ in 0..columns {
        let [tag] = bytes(from)?;
        values.push(match tag {
            1 => Owned::Int(number(from)?),
            2 => Owned::Float(f64::from_le_bytes(bytes(from)?)),
            3 => {
                let [flag] = bytes(from)?;
                Owned::Flag(flag != 0)
            }
            4 => {
                let len = number(from)?;
                let mut text = Vec::with_capacity(len.min(CHUNK) as usize);
                from.take(len)
                    .read_to_end(&mut text)
                    .context("cannot read rows to be sorted")?;
                Owned::Text(String::from_utf8(text).context("rows to be sorted were changed on their way")?)
            }
            _ => Owned::Null,
        });
    }
    Ok(Some(Row { values, key }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::table::Kind;

    #[test]
    fn runs_of_all_levels_are_merged_in_order() {
        let spec = |name, kind| Spec { name, kind, doc: "" };
        let specs = [
            spec("text", Kind::Text),
            spec("number", Kind::Count),
            spec("share", Kind::Ratio),
            spec("flag", Kind::Flag),
        ];
        let sort = [(0, false), (1, true)];
        let mut spill = Spill::new(&specs, &sort);
        let mut all = Rows::new(specs);
        // More runs than two levels hold.
        for run in 0..300u64 {
            let mut rows = Rows::new(specs);
            for row in 0..7u64 {
                let number = (run * 7 + row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
                let text = "é\n\0".repeat((number % 5) as usize);
                let values = [
                    if number % 11 == 0 {
                        Value::Null
                    } else {
                        Value::Text(&text)
                    },
                    if number % 7 == 0 {
                        Value::Null
                    } else {
                        Value::Int(number % 9)
                    },
                    if number % 3 == 0 {
                        Value::Null
                    } else {
                        Value::Float(number as f64 / 4.0)
                    },
                    if number % 2 == 0 {
                        Value::Null
                    } else {
                        Value::Flag(number % 4 == 1)
                    },
                ];
                for to in [&mut rows, &mut all] {
                    to.columns.push_row(&values);
                    to.keys.push((number, run, row));
                }
            }
            spill.add(&rows, &rows.order(&sort)).unwrap();
        }
        assert!(spill.levels.iter().map(Vec::len).sum::<usize>() < 2 * RUNS);
        let mut merged = Rows::new(specs);
        spill
            .finish(|rows| {
                merged.columns.append(&rows.columns);
                merged.keys.extend(rows.keys);
                Ok(true)
            })
            .unwrap();
        let expected = all.gather(&all.order(&sort));
        assert_eq!(merged.keys, expected.keys);
        for (merged, expected) in merged.columns.columns.iter().zip(&expected.columns.columns) {
            assert!(
                (0..expected.len()).all(|row| merged.get(row) == expected.get(row)),
                "{}",
                expected.spec.name
            );
        }
    }
}
