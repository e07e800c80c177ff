//! What is counted up while rows pass by, and the report made of it.
//!
//! Aggregates hold bounded memory however long a capture is, are merged in shard order, and come out the same for any
//! number of threads.

pub mod aggregate;
pub mod ends;
pub mod histogram;
pub mod keyed;
pub mod label;
pub mod render;
pub mod sections;
pub mod slowest;
pub mod stats;

pub use aggregate::Aggregate;
pub use histogram::Histogram;
