//! Reads captures and says what happened. Never: the kernel, bpf/, record/.
#![forbid(unsafe_code)]

pub mod elsewhere;
pub mod engine;
pub mod errno;
pub mod exchange;
pub mod flow;
pub mod ids;
pub mod import;
pub mod input;
pub mod live;
pub mod names;
pub mod nat;
pub mod options;
pub mod orphans;
pub mod output;
pub mod packets;
pub mod plan;
pub mod progress;
pub mod protocol;
pub mod prune;
pub mod query;
pub mod remarks;
pub mod replay;
pub mod report;
pub mod results;
pub mod row;
pub mod run;
pub mod same;
pub mod shard;
pub mod sources;
pub mod stream;
pub mod table;
pub mod tasks;
pub mod template;
