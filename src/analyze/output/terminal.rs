//! Tables as aligned text.

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::human;
use super::rows::RowWriter;
use crate::analyze::table::{Columns, Kind};

/// Rows that are laid out together; widths are computed again for the next ones.
const CHUNK: usize = 2000;
/// Characters of one cell.
const CELL: usize = 80;

/// Writes aligned columns under their names.
pub struct TerminalWriter<W: Write> {
    to: W,
    wrote: bool,
}

impl<W: Write> TerminalWriter<W> {
    /// Writes to this.
    pub fn new(to: W) -> TerminalWriter<W> {
        TerminalWriter { to, wrote: false }
    }
}

impl<W: Write + Send> RowWriter for TerminalWriter<W> {
    fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
        for from in (0..columns.rows()).step_by(CHUNK) {
            let to = (from + CHUNK).min(columns.rows());
            let text = lay_out(columns, from..to, CELL, None);
            self.to.write_all(text.as_bytes())?;
            self.wrote = true;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if !self.wrote {
            self.to.write_all(b"no rows\n")?;
        }
        Ok(self.to.flush()?)
    }
}

/// Lays rows out under their headings, one line each, indented by two. `style` puts colours around a heading.
pub fn lay_out(
    columns: &Columns,
    rows: std::ops::Range<usize>,
    cell: usize,
    style: Option<fn(&str) -> String>,
) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.specs().map(|spec| spec.heading()));
    for row in rows {
        table.add_row(
            columns
                .columns
                .iter()
                .map(|column| human::value(column.spec.kind, column.get(row), cell)),
        );
    }
    for (n, spec) in columns.specs().enumerate() {
        if let Some(column) = table.column_mut(n) {
            column.set_padding((0, 2));
            if spec.kind.is_numeric() && spec.kind != Kind::Time {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let mut text = String::new();
    for (n, line) in table.lines().enumerate() {
        let line = line.trim_end();
        text.push_str("  ");
        match style {
            Some(style) if n == 0 => text.push_str(&style(line)),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
