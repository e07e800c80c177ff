//! What a capture file says about itself: everything needed to understand it alone.

use bincode::{BorrowDecode, Encode};

use super::record::Clock;

/// The first thing in a file. All times are of the recording host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Header {
    /// Version of mdf that wrote the file.
    pub tool_version: String,
    /// The command line, arguments separated by spaces.
    pub command_line: String,
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`; empty for imported captures.
    pub boot_id: String,
    /// Kernel release, as `uname -r`; empty for imported captures.
    pub kernel: String,
    /// Machine, as `uname -m`.
    pub arch: String,
    /// How the kernel was heard: `socktp`, `fexit`, `kprobe`, `systp`; `pcap` for imported packet captures.
    pub backend: String,
    /// The filters, in words; empty when the whole host was recorded.
    pub filters: String,
    /// Payload bytes kept of each data event.
    pub snaplen: u32,
    pub cpus: u32,
    /// The clocks when recording began.
    pub clock: Clock,
    /// Random; the same in all parts of one recording.
    pub recording: u64,
    /// Number of this part in a rotated recording, from 0.
    pub part: u32,
}
