//! What rows are counted into: histograms of latencies, counters, and the keys under which they are kept. The aggregate
//! tables, `--group-by`, `diff` and the report count with them; which rows are counted, and under which key, is theirs.
//!
//! All of it holds bounded memory however long a capture is, is merged in the order of the shards, and is the same for any
//! number of threads.

pub mod counters;
pub mod ends;
pub mod histogram;
pub mod keyed;
pub mod label;

pub use histogram::Histogram;
