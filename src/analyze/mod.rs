//! Reads captures and says what happened. Never: the kernel, bpf/, record/.

pub mod engine;
pub mod exchange;
pub mod flow;
pub mod input;
pub mod live;
pub mod names;
pub mod output;
pub mod protocol;
pub mod query;
pub mod replay;
pub mod report;
pub mod row;
pub mod shard;
pub mod stream;
pub mod table;
