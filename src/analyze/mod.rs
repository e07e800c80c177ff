//! Reads captures and says what happened. Never: the kernel, bpf/, record/.

pub mod elsewhere;
pub mod engine;
pub mod exchange;
pub mod flow;
pub mod import;
pub mod input;
pub mod live;
pub mod names;
pub mod nat;
pub mod options;
pub mod output;
pub mod packets;
pub mod plan;
pub mod progress;
pub mod protocol;
pub mod query;
pub mod replay;
pub mod report;
pub mod results;
pub mod row;
pub mod run;
pub mod shard;
pub mod stream;
pub mod table;
pub mod template;
pub mod wanted;
