//! CSV (RFC 4180), UTF-8, a header line, null as an empty field. An empty text is `""`, so the two differ.
//!
//! Texts are written as they were captured, for programs to read. On a terminal, they are escaped.

use std::fmt::Write as _;
use std::io::Write;

use super::rows::RowWriter;
use super::time::write_rfc3339;
use crate::analyze::table::{Columns, Kind, Spec, Value};
use crate::escape;

/// Writes CSV.
pub struct CsvWriter<W: Write> {
    to: W,
    line: String,
    on_terminal: bool,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header line.
    pub fn new(to: W, specs: &[Spec], on_terminal: bool) -> std::io::Result<CsvWriter<W>> {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
        let mut writer = CsvWriter {
            to,
            line: names.join(","),
            on_terminal,
        };
        writer.line.push('\n');
        writer.flush_line()?;
        Ok(writer)
    }

    fn flush_line(&mut self) -> std::io::Result<()> {
        self.to.write_all(self.line.as_bytes())?;
        self.line.clear();
        Ok(())
    }
}

fn write_field(to: &mut String, text: &str) {
    if !text.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
        to.push_str(text);
        return;
    }
    to.push('"');
    for (n, part) in text.split('"').enumerate() {
        if n > 0 {
            to.push_str("\"\"");
        }
        to.push_str(part);
    }
    to.push('"');
}

impl<W: Write + Send> RowWriter for CsvWriter<W> {
    fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
        for row in 0..columns.rows() {
            for (n, column) in columns.columns.iter().enumerate() {
                if n > 0 {
                    self.line.push(',');
                }
                match (column.spec.kind, column.get(row)) {
                    (_, Value::Null) => {}
                    (Kind::Time, Value::Int(ns)) => write_rfc3339(&mut self.line, ns),
                    (_, Value::Int(number)) => write!(self.line, "{number}")?,
                    (_, Value::Float(number)) => write!(self.line, "{number}")?,
                    (_, Value::Flag(flag)) => write!(self.line, "{flag}")?,
                    (_, Value::Text(text)) if self.on_terminal => write_field(&mut self.line, &escape::text(text)),
                    (_, Value::Text(text)) => write_field(&mut self.line, text),
                }
            }
            self.line.push('\n');
            if self.line.len() > 1 << 16 {
                self.flush_line()?;
            }
        }
        Ok(self.flush_line()?)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(self.to.flush()?)
    }
}
