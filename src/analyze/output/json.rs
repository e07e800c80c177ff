//! JSON: one array of objects, or one object on each line. Every object has every column; times are RFC 3339 text.

use std::fmt::Write as _;
use std::io::Write;

use super::rows::RowWriter;
use super::time::write_rfc3339;
use crate::analyze::table::{Columns, Kind, Value};
use crate::escape::is_harmful;

/// Writes JSON.
pub struct JsonWriter<W: Write> {
    to: W,
    array: bool,
    rows: u64,
    text: String,
}

impl<W: Write> JsonWriter<W> {
    /// One array.
    pub fn array(to: W) -> JsonWriter<W> {
        JsonWriter {
            to,
            array: true,
            rows: 0,
            text: String::new(),
        }
    }

    /// One object on each line.
    pub fn lines(to: W) -> JsonWriter<W> {
        JsonWriter {
            to,
            array: false,
            rows: 0,
            text: String::new(),
        }
    }
}

/// Writes text as a JSON string (RFC 8259, 7). Characters that could harm a terminal are escaped too, which does not change the value.
pub fn write_string(to: &mut String, text: &str) {
    to.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        if c != '"' && c != '\\' && !is_harmful(c) {
            continue;
        }
        to.push_str(&text[plain..at]);
        plain = at + c.len_utf8();
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            c => {
                let _ = write!(to, "\\u{:04x}", c as u32);
            }
        }
    }
    to.push_str(&text[plain..]);
    to.push('"');
}

/// Writes a value.
pub fn write_value(to: &mut String, kind: Kind, value: Value<'_>) {
    let _ = match (kind, value) {
        (_, Value::Null) => write!(to, "null"),
        (Kind::Time, Value::Int(ns)) => {
            to.push('"');
            write_rfc3339(to, ns);
            to.push('"');
            Ok(())
        }
        (_, Value::Int(number)) => write!(to, "{number}"),
        (_, Value::Float(number)) if number.is_finite() => write!(to, "{number}"),
        (_, Value::Float(_)) => write!(to, "null"),
        (_, Value::Flag(flag)) => write!(to, "{flag}"),
        (_, Value::Text(text)) => {
            write_string(to, text);
            Ok(())
        }
    };
}

/// Writes a row as an object.
pub fn write_object(to: &mut String, columns: &Columns, row: usize) {
    to.push('{');
    for (n, column) in columns.columns.iter().enumerate() {
        if n > 0 {
            to.push(',');
        }
        write_string(to, column.spec.name);
        to.push(':');
        write_value(to, column.spec.kind, column.get(row));
    }
    to.push('}');
}

impl<W: Write + Send> RowWriter for JsonWriter<W> {
    fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
        for row in 0..columns.rows() {
            if self.array {
                self.text.push_str(if self.rows == 0 { "[\n" } else { ",\n" });
            }
            write_object(&mut self.text, columns, row);
            if !self.array {
                self.text.push('\n');
            }
            self.rows += 1;
            if self.text.len() > 1 << 16 {
                self.to.write_all(self.text.as_bytes())?;
                self.text.clear();
            }
        }
        self.to.write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if self.array {
            self.to.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        Ok(self.to.flush()?)
    }
}
