//! The interface of all formats: a writer gets columns in batches, and writes each as a batch of its format.

use std::path::Path;

use super::target::Target;
use super::time::write_rfc3339;
use super::{csv::CsvWriter, json::JsonWriter, terminal::TerminalWriter};
use crate::analyze::table::{Columns, Spec};

/// Writes one table.
pub trait RowWriter: Send {
    /// Writes rows; all batches have the specs that the writer was made for.
    fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()>;

    /// Ends the file. Without any batch before, it is an empty table.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Aligned text for a terminal.
    Table,
    /// One array of objects.
    Json,
    /// One object on each line.
    Ndjson,
    Csv,
    Parquet,
    /// Arrow IPC file (Feather 2).
    Arrow,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 6] = [
        Format::Table,
        Format::Json,
        Format::Ndjson,
        Format::Csv,
        Format::Parquet,
        Format::Arrow,
    ];

    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Table => "txt",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    /// The format for the extension of a file name.
    pub fn of_name(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_string_lossy();
        Some(match extension.to_ascii_lowercase().as_str() {
            "txt" => Format::Table,
            "json" => Format::Json,
            "ndjson" | "jsonl" => Format::Ndjson,
            "csv" => Format::Csv,
            "parquet" => Format::Parquet,
            "arrow" | "ipc" | "feather" => Format::Arrow,
            _ => return None,
        })
    }

    /// Whether it is binary, and not for a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }

    /// A writer of this format.
    pub fn writer(self, to: Target, specs: &[Spec], facts: &Facts) -> anyhow::Result<Box<dyn RowWriter>> {
        Ok(match self {
            Format::Table => Box::new(TerminalWriter::new(to)),
            Format::Json => Box::new(JsonWriter::array(to)),
            Format::Ndjson => Box::new(JsonWriter::lines(to)),
            Format::Csv => {
                let on_terminal = to.is_terminal();
                Box::new(CsvWriter::new(to, specs, on_terminal)?)
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => super::frame::parquet(to, specs, facts)?,
            #[cfg(feature = "parquet")]
            Format::Arrow => super::frame::arrow(to, specs, facts)?,
            #[cfg(not(feature = "parquet"))]
            Format::Parquet | Format::Arrow => {
                let _ = facts;
                anyhow::bail!(
                    "this build cannot write {}: it was made without the feature `parquet`; csv, json and ndjson need nothing, \
                     and `cargo build --release` makes the full program",
                    self.extension()
                )
            }
        })
    }
}

/// Metadata of an output file, as keys and values: which captures its rows come from, and what its columns mean.
#[derive(Debug, Clone, Default)]
pub struct Facts(pub Vec<(String, String)>);

impl Facts {
    /// The facts of these captures, and what the columns mean.
    pub fn new(captures: &[crate::analyze::row::CaptureFacts], specs: &[Spec]) -> Facts {
        let mut facts = vec![("mdf.version".to_string(), env!("CARGO_PKG_VERSION").to_string())];
        let captures: Vec<serde_json::Value> = captures
            .iter()
            .map(|capture| {
                let header = &capture.header;
                // Not known of a packet capture before it was read.
                let moment = |ns: u64| {
                    let mut text = String::new();
                    write_rfc3339(&mut text, ns);
                    (capture.blocks > 0 && ns != 0).then_some(text)
                };
                serde_json::json!({
                    "file": capture.path,
                    "host": header.hostname,
                    "kernel": header.kernel,
                    "arch": header.arch,
                    "backend": header.backend,
                    "filters": header.filters,
                    "snaplen": header.snaplen,
                    "recording": header.recording,
                    "part": header.part,
                    "tool_version": header.tool_version,
                    "command_line": header.own_command_line(),
                    "first": moment(capture.first),
                    "last": moment(capture.last),
                    "records": (capture.blocks > 0).then_some(capture.records),
                    "closed_cleanly": capture.closed_cleanly,
                    "read": !capture.unread,
                })
            })
            .collect();
        facts.push((
            "mdf.captures".to_string(),
            serde_json::Value::from(captures).to_string(),
        ));
        facts.extend(
            specs
                .iter()
                .map(|spec| (format!("mdf.column.{}", spec.name), spec.doc.to_string())),
        );
        Facts(facts)
    }
}
