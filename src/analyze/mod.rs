//! Reads captures and says what happened. Never: the kernel, bpf/, record/.

pub mod exchange;
pub mod protocol;
pub mod row;
