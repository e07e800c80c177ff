//! The header of a capture file: everything needed to understand the file alone.

use bincode::{BorrowDecode, Encode};

use super::record::Clock;

/// The first thing in a file. All times are of the recording host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Header {
    /// Version of mdf that wrote the file.
    pub tool_version: String,
    /// The command line, arguments separated by spaces. Of a command that was recorded (after `--`) it has the name, and
    /// the arguments only where the user asked for them.
    pub command_line: String,
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`; empty for imported captures.
    pub boot_id: String,
    /// Kernel release, as `uname -r`; empty for imported captures.
    pub kernel: String,
    /// Machine, as `uname -m`.
    pub arch: String,
    /// The backend that recorded: `socktp`, `fexit`, `kprobe`, `systp`; `pcap` for imported packet captures.
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

impl Header {
    /// The command line, of a recorded command its name only, whether or not the file has its arguments: they may hold
    /// passwords, and results go further than captures.
    pub fn own_command_line(&self) -> &str {
        const SEPARATOR: &str = " -- ";
        let Some(at) = self.command_line.find(SEPARATOR) else {
            return &self.command_line;
        };
        let name = at + SEPARATOR.len();
        let end = self.command_line[name..]
            .find(' ')
            .map_or(self.command_line.len(), |len| name + len);
        &self.command_line[..end]
    }
}

#[cfg(test)]
mod tests {
    use crate::format::tests::sample;

    #[test]
    fn the_arguments_of_a_recorded_command_are_not_told() {
        let mut header = sample::header();
        for (line, own) in [
            (
                "mdf record -o cap.mdf -- mysql -pSECRET shop",
                "mdf record -o cap.mdf -- mysql",
            ),
            ("mdf record -o cap.mdf -- mysql …", "mdf record -o cap.mdf -- mysql"),
            ("mdf record -o cap.mdf -- true", "mdf record -o cap.mdf -- true"),
            ("mdf record -o cap.mdf", "mdf record -o cap.mdf"),
            ("", ""),
        ] {
            header.command_line = line.to_owned();
            assert_eq!(header.own_command_line(), own);
        }
    }
}
