//! Aggregates of rows, and the report made from them: data, which `output` turns into text or JSON.
//!
//! Aggregates hold bounded memory however long a capture is, are merged in shard order, and are equal for any number of
//! threads.

pub mod aggregate;
mod exchanges;
pub mod sections;
pub mod slowest;

pub use aggregate::Aggregate;
