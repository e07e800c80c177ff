//! Queries over tables: filter (`--where`), grouping (`--group-by`, `--bucket`) and comparison (`mdf diff`). Knows no output
//! format.

pub mod bounds;
pub mod diff;
pub mod expression;
pub mod group;
pub mod test;

pub use expression::{Expression, QueryError};
