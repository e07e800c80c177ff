//! How columns leave: as text for people, JSON, CSV, Parquet, Arrow.

pub mod behind;
pub mod csv;
#[cfg(feature = "parquet")]
pub mod frame;
pub mod human;
pub mod json;
pub mod rows;
pub mod target;
pub mod terminal;
pub mod time;

pub use behind::Behind;
pub use rows::{Facts, Format, RowWriter};
