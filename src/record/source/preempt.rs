//! Whether the kernel may be preempted: whether a task that the kernel works for can lose the CPU to another one anywhere.

use std::fs;

use crate::record::kernelfs::Mount;

/// Asks the kernel; where the answer is not known, it counts as preemptible.
pub fn preemptible() -> bool {
    let version = fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    let mode = Mount::debugfs().and_then(|debugfs| fs::read_to_string(debugfs.path().join("sched/preempt")).ok());
    judge(&version, mode.as_deref())
}

/// From the text of `uname -v`, which names the kind of kernel, and of sched/preempt in debugfs (`none (voluntary) full`),
/// which shows what was chosen among those that a PREEMPT_DYNAMIC kernel can be.
fn judge(version: &str, mode: Option<&str>) -> bool {
    let chosen = |word: &str| mode.is_some_and(|mode| mode.contains(&format!("({word})")));
    match version.split_whitespace().find(|word| word.starts_with("PREEMPT")) {
        None => false,
        Some("PREEMPT_DYNAMIC") => !chosen("none") && !chosen("voluntary"),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_kernel_decides_or_the_mode_that_was_chosen() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)";
        assert!(!judge(dynamic, Some("none (voluntary) full lazy \n")));
        assert!(!judge(dynamic, Some("(none) voluntary full\n")));
        assert!(judge(dynamic, Some("none voluntary (full)\n")));
        assert!(judge(dynamic, Some("full (lazy)\n")));
        assert!(judge(dynamic, None));
        assert!(!judge("#1 SMP Debian 5.10.244-1 (2025-09-29)", None));
        assert!(judge("#1 SMP PREEMPT_RT Debian 6.12.57-1", None));
        assert!(judge("#1 SMP PREEMPT Thu Jan 1 00:00:00 UTC 2026", None));
    }
}
