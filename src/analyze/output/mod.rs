//! Output formats: columns and the report become text, JSON, CSV, Parquet or Arrow. Knows neither queries nor protocols.

pub mod background_writer;
pub mod csv;
#[cfg(feature = "parquet")]
pub mod frame;
pub mod human;
pub mod json;
pub mod report;
pub mod row_buffer;
pub mod rows;
mod spill;
pub mod target;
pub mod terminal;
pub mod time;

pub use background_writer::BackgroundWriter;
pub use rows::{Facts, Format, RowWriter};
