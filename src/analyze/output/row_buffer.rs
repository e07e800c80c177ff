//! Rows of one table before output: collected in each shard, then sorted and written in row groups.

use super::spill::Spill;
use crate::analyze::column::{Columns, Spec};
use crate::analyze::output::{BackgroundWriter, RowWriter};
use crate::analyze::table::define::{Def, Key, Scratch, Table};
use crate::analyze::table::order::compare_rows;

/// Rows of a row group. At some 300 bytes a row this is about 20 MB.
const GROUP: usize = 1 << 16;
/// Bytes of a row group, at most, about: statements may be long.
const GROUP_BYTES: usize = 48 << 20;
/// Row groups that wait for earlier rows, at most: one exchange that lasts for hours must not hold everything. Its row
/// then comes after later ones.
const MAX_WAITING: usize = 4;
/// Bytes of waiting row groups, at most.
const MAX_WAITING_BYTES: usize = 96 << 20;
/// Bytes of rows that are held in memory for sorting; more are kept in temporary files.
const MAX_HELD_BYTES: usize = 32 << 20;

/// Finished rows of one shard.
pub struct RowBuffer<T: Table> {
    defs: Vec<Def<T>>,
    rows: Rows,
}

/// Rows as columns, with their sort keys.
pub struct Rows {
    pub columns: Columns,
    pub keys: Vec<Key>,
}

impl Rows {
    /// No rows.
    pub fn new(specs: impl IntoIterator<Item = Spec>) -> Rows {
        Rows {
            columns: Columns::new(specs),
            keys: Vec::new(),
        }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.columns.bytes() + self.keys.len() * size_of::<Key>()
    }

    /// The numbers of the rows in order: by these columns, then by key.
    pub fn order(&self, sort: &[(usize, bool)]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        match sort.is_empty() {
            true => order.sort_by_key(|row| self.keys[*row as usize]),
            false => order.sort_by(|a, b| {
                let (a, b) = (*a as usize, *b as usize);
                compare_rows(&self.columns, sort, a, b).then_with(|| self.keys[a].cmp(&self.keys[b]))
            }),
        }
        order
    }

    /// The rows with these numbers, in this order.
    pub fn gather(&self, rows: &[u32]) -> Rows {
        Rows {
            columns: self.columns.gather(rows),
            keys: rows.iter().map(|row| self.keys[*row as usize]).collect(),
        }
    }
}

impl<T: Table> RowBuffer<T> {
    /// Collects the columns of these numbers.
    pub fn new(columns: &[usize]) -> RowBuffer<T> {
        let defs: Vec<Def<T>> = columns.iter().map(|column| T::defs()[*column]).collect();
        let rows = Rows::new(defs.iter().map(|def| def.spec));
        RowBuffer { defs, rows }
    }

    /// Adds a row.
    pub fn push(&mut self, row: &T::Row<'_>, scratch: &mut Scratch<T::Derived>) {
        for (def, column) in self.defs.iter().zip(&mut self.rows.columns.columns) {
            column.push((def.get)(row, scratch));
        }
        self.rows.keys.push(T::key(row));
    }

    /// Takes the collected rows.
    pub fn take(&mut self) -> Rows {
        let empty = Rows::new(self.defs.iter().map(|def| def.spec));
        std::mem::replace(&mut self.rows, empty)
    }
}

/// Order, limit and visible columns of a table.
#[derive(Debug, Clone, Default)]
pub struct Arrangement {
    /// Column numbers and whether descending; in order of the rows' keys when empty.
    pub sort: Vec<(usize, bool)>,
    pub limit: Option<usize>,
    /// Columns after these were only needed for sorting.
    pub visible: usize,
}

/// Sorts rows and writes them. Without `sort` and `limit` they are written in row groups as soon as no earlier row can come;
/// otherwise at the end, and rows that would take too much memory until then are kept in temporary files.
pub struct RowStream {
    waiting: Rows,
    arrangement: Arrangement,
    writer: BackgroundWriter,
    spill: Spill,
    /// Rows of a row group.
    group: usize,
    /// Bytes that are held for sorting.
    held: usize,
}

impl RowStream {
    /// Writes rows of these specs.
    pub fn new(specs: &[Spec], arrangement: Arrangement, writer: Box<dyn RowWriter>) -> RowStream {
        RowStream {
            waiting: Rows::new(specs.iter().copied()),
            spill: Spill::new(specs, &arrangement.sort),
            arrangement,
            writer: BackgroundWriter::new(writer),
            group: GROUP,
            held: MAX_HELD_BYTES,
        }
    }

    /// Adds rows.
    pub fn push(&mut self, rows: Rows) -> anyhow::Result<()> {
        if rows.keys.is_empty() {
            return Ok(());
        }
        self.waiting.columns.append(&rows.columns);
        self.waiting.keys.extend(rows.keys);
        if self.streams() {
            return Ok(());
        }
        let limit = self.arrangement.limit.unwrap_or(usize::MAX);
        let is_full = self.waiting.bytes() > self.held;
        if is_full || self.waiting.keys.len() > self.group.max(limit.saturating_mul(2)) {
            let mut order = self.waiting.order(&self.arrangement.sort);
            order.truncate(limit);
            self.waiting = self.waiting.gather(&order);
        }
        if is_full && self.waiting.bytes() > self.held / 2 {
            let all: Vec<u32> = (0..self.waiting.keys.len() as u32).collect();
            self.spill.add(&self.waiting, &all)?;
            self.waiting = self.waiting.gather(&[]);
        }
        Ok(())
    }

    /// Whether rows are written before the end.
    fn streams(&self) -> bool {
        self.arrangement.sort.is_empty() && self.arrangement.limit.is_none()
    }

    /// Whether enough rows wait for a row group, and rows can be written before the end.
    pub fn has_group(&self) -> bool {
        self.streams() && (self.waiting.keys.len() >= self.group || self.waiting.bytes() >= GROUP_BYTES)
    }

    /// Writes the complete row groups: no row before `horizon` is still to come; 0 when that is not known. When too many rows
    /// wait, the earlier half is written regardless.
    pub fn write_ready(&mut self, horizon: u64) -> anyhow::Result<()> {
        let (many, bytes) = (self.waiting.keys.len(), self.waiting.bytes());
        let before = self.waiting.keys.iter().filter(|key| key.0 < horizon).count();
        let ready = if many >= MAX_WAITING * self.group || bytes >= MAX_WAITING_BYTES {
            before.max(many / 2)
        } else {
            before
        };
        let in_a_group = (many as u64 * GROUP_BYTES as u64)
            .checked_div(bytes as u64)
            .unwrap_or(0);
        let group = (in_a_group as usize).clamp(1, self.group);
        let ready = ready - ready % group;
        if ready == 0 {
            return Ok(());
        }
        let order = self.waiting.order(&[]);
        for rows in order[..ready].chunks(group) {
            self.write(self.waiting.gather(rows))?;
        }
        self.waiting = self.waiting.gather(&order[ready..]);
        Ok(())
    }

    fn write(&mut self, mut rows: Rows) -> anyhow::Result<()> {
        rows.columns.columns.truncate(self.arrangement.visible);
        self.writer.write(rows.columns)
    }

    /// Writes the remaining rows, and ends the file.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let mut left = self.arrangement.limit.unwrap_or(usize::MAX);
        let mut order = self.waiting.order(&self.arrangement.sort);
        order.truncate(left);
        if self.spill.is_empty() {
            for rows in order.chunks(self.group) {
                self.write(self.waiting.gather(rows))?;
            }
            return self.writer.finish();
        }
        self.spill.add(&self.waiting, &order)?;
        self.waiting = self.waiting.gather(&[]);
        let empty = Spill::new(&[], &[]);
        std::mem::replace(&mut self.spill, empty).finish(|mut rows| {
            if rows.keys.len() > left {
                rows = rows.gather(&(0..left as u32).collect::<Vec<u32>>());
            }
            left -= rows.keys.len();
            self.write(rows)?;
            Ok(left > 0)
        })?;
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::analyze::table::{Kind, Value};

    const SPEC: Spec = Spec {
        name: "n",
        kind: Kind::Count,
        doc: "",
    };

    /// Keeps what is written, batch by batch.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Vec<u64>>>>);

    impl RowWriter for Kept {
        fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
            let value = |row| match columns.columns[0].get(row) {
                Value::Int(number) => number,
                _ => 0,
            };
            self.0.lock().unwrap().push((0..columns.rows()).map(value).collect());
            Ok(())
        }

        fn finish(&mut self) -> anyhow::Result<()> {
            Ok(())
        }
    }

    /// The batches that were written so far.
    fn written(stream: &mut RowStream, kept: &Kept) -> Vec<Vec<u64>> {
        stream.writer.wait().unwrap();
        kept.0.lock().unwrap().clone()
    }

    fn rows(times: &[u64]) -> Rows {
        let mut rows = Rows::new([SPEC]);
        for time in times {
            rows.columns.push_row(&[Value::Int(*time)]);
            rows.keys.push((*time, 0, 0));
        }
        rows
    }

    fn stream(arrangement: Arrangement) -> (RowStream, Kept) {
        let kept = Kept::default();
        let mut stream = RowStream::new(
            &[SPEC],
            Arrangement {
                visible: 1,
                ..arrangement
            },
            Box::new(kept.clone()),
        );
        stream.group = 3;
        (stream, kept)
    }

    #[test]
    fn rows_are_written_in_groups_and_in_order_when_no_earlier_row_can_come() {
        let (mut stream, kept) = stream(Arrangement::default());
        stream.push(rows(&[5, 2, 9])).unwrap();
        assert!(stream.has_group());
        stream.write_ready(4).unwrap();
        assert!(written(&mut stream, &kept).is_empty());
        stream.push(rows(&[8, 4, 6])).unwrap();
        stream.write_ready(8).unwrap();
        assert_eq!(written(&mut stream, &kept), [vec![2, 4, 5]]);
        stream.push(rows(&[10, 7])).unwrap();
        stream.write_ready(11).unwrap();
        assert_eq!(written(&mut stream, &kept), [vec![2, 4, 5], vec![6, 7, 8]]);
        stream.finish().unwrap();
        assert_eq!(kept.0.lock().unwrap().concat(), [2, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn long_texts_are_written_in_smaller_groups() {
        const TEXT: Spec = Spec {
            name: "statement",
            kind: Kind::Text,
            doc: "",
        };
        let (mut stream, kept) = stream(Arrangement::default());
        stream.waiting = Rows::new([SPEC, TEXT]);
        stream.group = GROUP;
        for turn in 0..120u64 {
            let mut rows = Rows::new([SPEC, TEXT]);
            let text = format!("{turn}{}", "x".repeat(1 << 20));
            rows.columns.push_row(&[Value::Int(turn), Value::Text(&text)]);
            rows.keys.push((turn, 0, 0));
            stream.push(rows).unwrap();
            if stream.has_group() {
                stream.write_ready(0).unwrap();
            }
            assert!(stream.waiting.bytes() <= MAX_WAITING_BYTES + (2 << 20));
        }
        let groups: Vec<usize> = written(&mut stream, &kept).iter().map(Vec::len).collect();
        assert_eq!(groups.len(), 1, "{groups:?}");
        assert!(groups[0] << 20 <= GROUP_BYTES, "{groups:?}");
    }

    #[test]
    fn one_long_exchange_does_not_hold_everything() {
        let (mut stream, kept) = stream(Arrangement::default());
        let many: Vec<u64> = (10..30).rev().collect();
        stream.push(rows(&many)).unwrap();
        stream.write_ready(1).unwrap();
        assert_eq!(written(&mut stream, &kept).concat(), (10..19).collect::<Vec<u64>>());
        stream.finish().unwrap();
        assert_eq!(kept.0.lock().unwrap().concat(), (10..30).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_of_a_limit_are_the_first_of_all() {
        let arrangement = Arrangement {
            sort: vec![(0, true)],
            limit: Some(2),
            visible: 1,
        };
        let (mut stream, kept) = stream(arrangement);
        for times in [[5, 1, 7], [9, 2, 3], [4, 8, 6]] {
            stream.push(rows(&times)).unwrap();
            assert!(!stream.has_group());
        }
        stream.finish().unwrap();
        assert_eq!(kept.0.lock().unwrap().concat(), [9, 8]);
    }

    #[test]
    fn rows_that_do_not_fit_into_memory_are_sorted() {
        for limit in [None, Some(5), Some(150), Some(1000)] {
            let arrangement = Arrangement {
                sort: vec![(0, true)],
                limit,
                visible: 1,
            };
            let (mut stream, kept) = stream(arrangement);
            // A few rows.
            stream.held = 400;
            let mut expected = Vec::new();
            for turn in 0..100u64 {
                let times = [turn * 7919 % 1009, turn * 104_729 % 1009 + 2000, turn];
                expected.extend(times);
                stream.push(rows(&times)).unwrap();
                assert!(stream.waiting.bytes() <= 2 * stream.held);
            }
            assert_eq!(stream.spill.is_empty(), limit == Some(5));
            stream.finish().unwrap();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected.truncate(limit.unwrap_or(usize::MAX));
            assert_eq!(kept.0.lock().unwrap().concat(), expected, "{limit:?}");
        }
    }
}
