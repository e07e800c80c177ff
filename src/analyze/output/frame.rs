//! The only user of polars: columns become data frames, and data frames become Parquet and Arrow IPC files.
//!
//! A change of polars' API affects only this file. Text is written as plain string columns; the Parquet writer
//! dictionary-encodes them page by page, and the categorical types stay out of the binary.

use std::io::Write;

use anyhow::Context;
use polars::prelude::{
    BooleanChunked, Column as Series, CompatLevel, DataFrame, DataType, Float64Chunked, Int64Chunked, IntoColumn,
    IpcCompression, IpcWriter, KeyValueMetadata, ParquetCompression, ParquetWriter, PlSmallStr, Schema, SerWriter,
    StringChunkedBuilder, TimeUnit, TimeZone, UInt32Chunked, UInt64Chunked,
};
use rayon::prelude::*;

use super::rows::{Facts, RowWriter};
use super::target::Target;
use crate::analyze::table::{Column, Columns, Kind, Spec, Value};

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Time => DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC)),
        Kind::Nanos | Kind::Micros | Kind::Bytes | Kind::Count => DataType::UInt64,
        Kind::Number => DataType::UInt32,
        Kind::Float | Kind::Ratio => DataType::Float64,
        Kind::Flag => DataType::Boolean,
        Kind::Text => DataType::String,
    }
}

fn schema(specs: &[Spec]) -> Schema {
    specs
        .iter()
        .map(|spec| (PlSmallStr::from_static(spec.name), data_type(spec.kind)))
        .collect()
}

fn series(column: &Column) -> Series {
    let name = PlSmallStr::from_static(column.spec.name);
    let rows = 0..column.len();
    let int = |row| match column.get(row) {
        Value::Int(number) => Some(number),
        _ => None,
    };
    match column.spec.kind {
        Kind::Time => {
            let mut times: Int64Chunked = rows.map(|row| int(row).and_then(|ns| i64::try_from(ns).ok())).collect();
            times.rename(name);
            times
                .into_datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC))
                .into_column()
        }
        Kind::Nanos | Kind::Micros | Kind::Bytes | Kind::Count => {
            let mut numbers: UInt64Chunked = rows.map(int).collect();
            numbers.rename(name);
            numbers.into_column()
        }
        Kind::Number => {
            let mut numbers: UInt32Chunked = rows.map(|row| int(row).and_then(|n| u32::try_from(n).ok())).collect();
            numbers.rename(name);
            numbers.into_column()
        }
        Kind::Float | Kind::Ratio => {
            let float = |row| match column.get(row) {
                Value::Float(number) => Some(number),
                _ => None,
            };
            let mut numbers: Float64Chunked = rows.map(float).collect();
            numbers.rename(name);
            numbers.into_column()
        }
        Kind::Flag => {
            let flag = |row| match column.get(row) {
                Value::Flag(flag) => Some(flag),
                _ => None,
            };
            let mut flags: BooleanChunked = rows.map(flag).collect();
            flags.rename(name);
            flags.into_column()
        }
        Kind::Text => {
            let mut texts = StringChunkedBuilder::new(name, column.len());
            for row in rows {
                match column.get(row) {
                    Value::Text(text) => texts.append_value(text),
                    _ => texts.append_null(),
                }
            }
            texts.finish().into_column()
        }
    }
}

/// Columns as a data frame.
pub fn data_frame(columns: &Columns) -> anyhow::Result<DataFrame> {
    DataFrame::new(columns.rows(), columns.columns.par_iter().map(series).collect()).context("cannot make a data frame")
}

/// Writes Parquet: zstd, dictionaries, statistics, one row group for each batch, `facts` in the file's metadata.
pub fn parquet(to: Target, specs: &[Spec], facts: &Facts) -> anyhow::Result<Box<dyn RowWriter>> {
    let writer = ParquetWriter::new(to)
        .with_compression(ParquetCompression::Zstd(None))
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(facts.0.clone())))
        .batched(&schema(specs))
        .context("cannot begin a Parquet file")?;
    Ok(Box::new(ParquetFile { writer }))
}

struct ParquetFile<W: Write> {
    writer: polars::io::parquet::write::BatchedWriter<W>,
}

impl<W: Write + Send> RowWriter for ParquetFile<W> {
    fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
        self.writer
            .write_batch(&data_frame(columns)?)
            .context("cannot write Parquet")
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.writer.finish().context("cannot end a Parquet file")?;
        Ok(())
    }
}

/// Writes an Arrow IPC file: zstd, one record batch for each batch, `facts` in the file's metadata.
pub fn arrow(to: Target, specs: &[Spec], facts: &Facts) -> anyhow::Result<Box<dyn RowWriter>> {
    let mut writer = IpcWriter::new(to)
        .with_compression(Some(IpcCompression::ZSTD(Default::default())))
        // Plain strings instead of string views, which older readers do not know.
        .with_compat_level(CompatLevel::oldest())
        // One description for each column, or the file has no columns: "no dictionary".
        .batched(&schema(specs), vec![Default::default(); specs.len()])
        .context("cannot begin an Arrow file")?;
    writer.set_custom_metadata(facts.0.clone());
    Ok(Box::new(ArrowFile { writer }))
}

struct ArrowFile<W: Write> {
    writer: polars::io::ipc::BatchedWriter<W>,
}

impl<W: Write + Send> RowWriter for ArrowFile<W> {
    fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
        self.writer
            .write_batch(&data_frame(columns)?)
            .context("cannot write Arrow")
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.writer.finish().context("cannot end an Arrow file")
    }
}
