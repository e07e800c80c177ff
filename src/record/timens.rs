//! How far this process's clocks are from the host's. A time namespace shifts the monotonic and the boot clock, and with them
//! the times in /proc; BPF programs stamp by the host's clocks, and everything that is stored does (time_namespaces(7)).

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use anyhow::{Result, bail};

/// The inode number of the initial time namespace (PROC_TIME_INIT_INO of <linux/proc_ns.h>).
const INITIAL_NAMESPACE: u64 = 0xefff_fffa;

/// What a namespace adds to the host's clocks, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets {
    pub monotonic: i64,
    pub boot: i64,
}

/// Fails when the clocks are shifted by an unknown offset.
pub fn check() -> Result<()> {
    if known().is_none() {
        bail!(
            "this process was moved to another time namespace than its children will be in, so that its clock cannot be \
             compared with the kernel's; start mdf as such a child (unshare --fork)"
        );
    }
    Ok(())
}

/// The offsets of this process's time namespace.
pub fn offsets() -> Offsets {
    known().unwrap_or_default()
}

/// A time of this process's boot clock, or of /proc, by the host's.
pub fn host_boot(time: u64) -> u64 {
    remove_offset(time, offsets().boot)
}

/// A time without what a namespace has added to it.
pub fn remove_offset(time: u64, offset: i64) -> u64 {
    time.saturating_add_signed(offset.saturating_neg())
}

/// They cannot change: a process enters a namespace before it runs a program in it.
fn known() -> Option<Offsets> {
    static KNOWN: OnceLock<Option<Offsets>> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let inode = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).map(|file| file.ino());
        let own = match inode("time") {
            Ok(own) if own != INITIAL_NAMESPACE => own,
            // None: before Linux 5.6, or built without.
            _ => return Some(Offsets::default()),
        };
        // The file describes the namespace of children.
        if inode("time_for_children").ok() != Some(own) {
            return None;
        }
        parse(&std::fs::read_to_string("/proc/self/timens_offsets").ok()?)
    })
}

/// Reads /proc/PID/timens_offsets: a line for each clock, with seconds (maybe negative) and nanoseconds.
fn parse(text: &str) -> Option<Offsets> {
    let offset = |clock: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<i64>);
        let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    };
    Some(Offsets {
        monotonic: offset("monotonic")?,
        boot: offset("boottime")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_with_their_sign() {
        let text = "monotonic      864000         0\nboottime           -3 250000000\n";
        let offsets = parse(text).unwrap();
        assert_eq!(
            offsets,
            Offsets {
                monotonic: 864_000_000_000_000,
                boot: -2_750_000_000
            }
        );
        assert_eq!(remove_offset(10_000_000_000, offsets.boot), 12_750_000_000);
        assert_eq!(remove_offset(864_000_000_000_007, offsets.monotonic), 7);
        assert_eq!(
            remove_offset(7, offsets.monotonic),
            0,
            "no time is before the host's start"
        );
        for text in [
            "",
            "monotonic 1 0\n",
            "monotonic x 0\nboottime 1 0\n",
            "boottime 1\nmonotonic 1 0\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
