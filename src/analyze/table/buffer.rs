//! Rows of one table on their way out: collected in each shard, then put in order and written in row groups.

use super::column::{Columns, Spec};
use super::define::{Def, Key, Scratch, Table};
use crate::analyze::output::RowWriter;
use crate::analyze::query::order::compare_rows;

/// Rows of a row group. At some 300 bytes a row this is about 40 MB.
const GROUP: usize = 1 << 17;
/// Rows that wait for earlier ones, at most: one exchange that lasts for hours must not hold everything.
const MAX_WAITING: usize = 4 * GROUP;

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
    /// None yet.
    pub fn new(specs: impl IntoIterator<Item = Spec>) -> Rows {
        Rows {
            columns: Columns::new(specs),
            keys: Vec::new(),
        }
    }

    fn gather(&self, rows: &[u32]) -> Rows {
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
    pub fn push(&mut self, row: &T::Row<'_>, scratch: &mut Scratch) {
        for (def, column) in self.defs.iter().zip(&mut self.rows.columns.columns) {
            column.push((def.get)(row, scratch));
        }
        self.rows.keys.push(T::key(row));
    }

    /// Takes what was collected.
    pub fn take(&mut self) -> Rows {
        let empty = Rows::new(self.defs.iter().map(|def| def.spec));
        std::mem::replace(&mut self.rows, empty)
    }
}

/// What is done with the rows of a table before they are written.
#[derive(Debug, Clone, Default)]
pub struct Arrangement {
    /// Column numbers and whether descending; in order of the rows' keys when empty.
    pub sort: Vec<(usize, bool)>,
    pub limit: Option<usize>,
    /// Columns after these were only needed for sorting.
    pub visible: usize,
}

/// Puts rows in order and writes them. Without `sort` and `limit` they leave as soon as no earlier one can come.
pub struct RowStream<'w> {
    waiting: Rows,
    arrangement: Arrangement,
    writer: Box<dyn RowWriter + 'w>,
}

impl<'w> RowStream<'w> {
    /// Writes rows of these specs.
    pub fn new(specs: &[Spec], arrangement: Arrangement, writer: Box<dyn RowWriter + 'w>) -> RowStream<'w> {
        RowStream {
            waiting: Rows::new(specs.iter().copied()),
            arrangement,
            writer,
        }
    }

    /// Adds rows. No row before `horizon` is still to come; 0 when that is not known.
    pub fn push(&mut self, rows: Rows, horizon: u64) -> anyhow::Result<()> {
        if rows.keys.is_empty() {
            return Ok(());
        }
        self.waiting.columns.append(&rows.columns);
        self.waiting.keys.extend(rows.keys);
        let many = self.waiting.keys.len();
        match self.arrangement.limit {
            Some(limit) => {
                if many > GROUP.max(limit.saturating_mul(2)) {
                    let mut order = self.order();
                    order.truncate(limit);
                    self.waiting = self.waiting.gather(&order);
                }
                Ok(())
            }
            None if self.arrangement.sort.is_empty() && many >= GROUP => self.write_ready(horizon),
            None => Ok(()),
        }
    }

    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.waiting.keys.len() as u32).collect();
        let keys = &self.waiting.keys;
        match self.arrangement.sort.is_empty() {
            true => order.sort_by_key(|row| keys[*row as usize]),
            false => order.sort_by(|a, b| {
                let (a, b) = (*a as usize, *b as usize);
                compare_rows(&self.waiting.columns, &self.arrangement.sort, a, b).then_with(|| keys[a].cmp(&keys[b]))
            }),
        }
        order
    }

    fn write_ready(&mut self, horizon: u64) -> anyhow::Result<()> {
        let order = self.order();
        let mut ready = match horizon {
            0 => order.len(),
            horizon => order.partition_point(|row| self.waiting.keys[*row as usize].0 < horizon),
        };
        if ready < GROUP {
            if order.len() < MAX_WAITING {
                return Ok(());
            }
            ready = order.len() / 2;
        }
        for rows in order[..ready].chunks(GROUP) {
            self.write(rows)?;
        }
        self.waiting = self.waiting.gather(&order[ready..]);
        Ok(())
    }

    fn write(&mut self, rows: &[u32]) -> anyhow::Result<()> {
        let mut columns = self.waiting.columns.gather(rows);
        columns.columns.truncate(self.arrangement.visible);
        self.writer.write_batch(&columns)
    }

    /// Writes what is left, and ends the file.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let mut order = self.order();
        order.truncate(self.arrangement.limit.unwrap_or(usize::MAX));
        for rows in order.chunks(GROUP) {
            self.write(rows)?;
        }
        self.writer.finish()
    }
}
