//! May this process record? Asked before anything is attached or written, so that a refusal leaves no trace.

use anyhow::{Context, Result, bail};

/// Bit numbers of <linux/capability.h>.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Fails with advice when the capabilities that eBPF needs are missing.
pub fn check() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let effective = effective(&status).context("/proc/self/status has no CapEff line")?;
    judge(effective)
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
         \"setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep\"",
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
