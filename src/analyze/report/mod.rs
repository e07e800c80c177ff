//! What is counted up while rows pass by, and the report made of it.
//!
//! Aggregates hold bounded memory however long a capture is, are merged in shard order, and come out the same for any
//! number of threads.

pub mod aggregate;
mod counted;
pub mod sections;
pub mod slowest;

pub use aggregate::Aggregate;
