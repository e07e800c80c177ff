//! Histograms of latencies, counters, and the keys under which they are kept: used by aggregate tables, `--group-by`, `diff`
//! and the report, which decide what rows are counted under which key.
//!
//! Memory is bounded however long a capture is. Counters are merged in the order of the shards, and are equal for any number
//! of threads.

pub mod counters;
pub mod ends;
pub mod histogram;
pub mod keyed;
pub mod label;

pub use histogram::Histogram;
