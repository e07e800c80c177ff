//! May this process record? Asked before anything is attached or written, so that a refusal leaves no trace.

use anyhow::{Context, Result, bail};

use super::sys;

/// Bit numbers of <linux/capability.h>.
pub const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// File descriptors that the recorder may need at one time: maps, programs and links are some 50; it also reads /proc and writes
/// files. A file of /proc that cannot be opened is missing from the snapshot without a word.
const OPEN_FILES: u64 = 128;

/// Fails with advice when the capabilities that eBPF needs are missing, or too few files may be open.
pub fn check() -> Result<()> {
    let limit = sys::open_files_limit();
    if limit < OPEN_FILES {
        bail!(
            "the limit of open files is {limit}, and recording needs {OPEN_FILES}: raise it (ulimit -n {OPEN_FILES}, or \
             LimitNOFILE= in a unit of systemd)"
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let effective = effective(&status).context("/proc/self/status has no CapEff line")?;
    judge(effective)
}

/// Whether this process has a capability.
pub fn has(bit: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).is_some_and(|effective| effective & (1 << bit) != 0)
}

/// The effective capabilities in the text of /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

fn judge(effective: u64) -> Result<()> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    if has(CAP_SYS_ADMIN) {
        return Ok(());
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(bit, _)| !has(*bit))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "recording needs {} which this process does not have: run as root, or give the program the capabilities with \
         \"setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep\", and leave it executable for those only who \
         may record everybody",
        missing.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_from_status() {
        let status = "Name:\tmdf\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000000000\n";
        assert_eq!(effective(status), Some((1 << CAP_BPF) | (1 << CAP_PERFMON)));
        assert_eq!(effective("Name:\tmdf\n"), None);
    }

    #[test]
    fn bpf_with_perfmon_or_sys_admin_alone_is_enough() {
        assert!(judge((1 << CAP_BPF) | (1 << CAP_PERFMON)).is_ok());
        assert!(judge(1 << CAP_SYS_ADMIN).is_ok());
    }

    #[test]
    fn a_refusal_names_what_is_missing_and_nothing_else() {
        let none = judge(0).unwrap_err().to_string();
        assert!(none.contains("CAP_BPF and CAP_PERFMON"), "{none}");
        let half = judge(1 << CAP_BPF).unwrap_err().to_string();
        assert!(half.contains("needs CAP_PERFMON which"), "{half}");
    }
}
