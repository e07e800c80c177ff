//! Questions to tables: which rows (`--where`), which columns, in which order, and counted up by what.

pub mod bounds;
pub mod diff;
pub mod expression;
pub mod group;
pub mod test;

pub use expression::{Expression, QueryError};
