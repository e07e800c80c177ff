//! The recorder's messages to its user, as text: losses, shortened payload, the status line. Pure; who prints them is not
//! known here.

use std::fmt::Write as _;

use super::drain::Unresolved;
use super::loss::{Count, Ledger};
use crate::format::record::{Cut, LossReason};
use crate::human;

fn events(count: Count) -> String {
    let mut text = format!(
        "{} event{}",
        human::count(count.events),
        if count.events == 1 { "" } else { "s" }
    );
    if count.bytes > 0 {
        let _ = write!(text, " ({})", human::bytes(count.bytes));
    }
    text
}

/// What was lost, by reason, one line each; one line if nothing was.
pub fn losses(ledger: &Ledger) -> Vec<String> {
    let mut lines: Vec<String> = ledger
        .totals()
        .iter()
        .filter(|(reason, _)| **reason != LossReason::Truncated)
        .map(|(reason, count)| format!("{} {}", loss_text(*reason), events(*count)))
        .collect();
    if ledger.missing() == 0 {
        lines.insert(0, "nothing was lost".to_owned());
    }
    lines
}

fn loss_text(reason: LossReason) -> String {
    let why = match reason {
        LossReason::RingFull => "the ring buffer was full (--buffer-size makes it larger)",
        LossReason::MapFull => "a table of sockets or processes was full (--max-sockets makes that of sockets larger)",
        LossReason::Missed => "the kernel skipped the probe",
        LossReason::QueueFull => "the disk was slower than the events",
        LossReason::DiskError => "the file could not be written",
        LossReason::PageFault => "payload was in memory that could not be read",
        LossReason::Malformed => "ring records were malformed",
        LossReason::OutputStalled => "standard output was slower than the events (not printed)",
        LossReason::Overwritten => "the memory ring was too small (--ring-size makes it larger)",
        LossReason::Limit => return "left out, because a limit was reached:".to_owned(),
        other => other.name(),
    };
    format!("lost, {why}:")
}

/// Payload that was shortened, one line for each cause.
pub fn cuts(cuts: &[(Cut, Count)], snaplen: u32) -> Vec<String> {
    cuts.iter()
        // Page faults are reported as losses; and no program has missed the urgent byte.
        .filter(|(cut, _)| !matches!(cut, Cut::PageFault | Cut::Urgent))
        .map(|(cut, count)| {
            let why = match cut {
                Cut::Snaplen => format!("longer than {snaplen} bytes (--snaplen keeps more)"),
                Cut::KernelPages => {
                    "in kernel pages that this backend cannot read (sendfile, splice, io_uring)".to_owned()
                }
                Cut::Segments => "in more segments than the probe walks".to_owned(),
                Cut::NotVisible => "not visible to this backend".to_owned(),
                Cut::Whole | Cut::PageFault | Cut::Urgent | Cut::Unknown(_) => "for another reason".to_owned(),
            };
            let (n, rest) = (human::count(count.events), human::bytes(count.bytes));
            format!(
                "payload of {n} event{} not kept whole, {why}: {rest} left out",
                if count.events == 1 { "" } else { "s" }
            )
        })
        .collect()
}

/// What could not be found out, if anything.
pub fn unresolved(unresolved: Unresolved) -> Option<String> {
    let count = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{} {many}", human::count(count))),
    };
    let parts = [
        count(unresolved.processes, "process", "processes"),
        count(unresolved.cgroups, "cgroup", "cgroups"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        format!(
            "{} could not be named: gone before they were looked up, or the kernel's own",
            parts.join(" and ")
        )
    })
}

/// The status line.
pub fn status(events_per_second: u64, recorded: Count, written: Option<u64>, missing: u64) -> String {
    let mut line = format!("{} events/s, {}", human::count(events_per_second), events(recorded));
    if let Some(written) = written {
        let _ = write!(line, ", file {}", human::bytes(written));
    }
    match missing {
        0 => line.push_str(", nothing lost"),
        _ => {
            let _ = write!(line, ", {} lost", human::count(missing));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_loss_has_a_line_and_so_has_each_loss() {
        let mut ledger = Ledger::default();
        assert_eq!(losses(&ledger), ["nothing was lost"]);
        ledger.note(LossReason::Truncated, 0, Count { events: 4, bytes: 9 });
        assert_eq!(
            losses(&ledger),
            ["nothing was lost"],
            "shortened payload is reported by its cause"
        );
        ledger.note(LossReason::RingFull, 0, Count { events: 1, bytes: 0 });
        ledger.note(
            LossReason::DiskError,
            0,
            Count {
                events: 1_200,
                bytes: 5_000,
            },
        );
        assert_eq!(
            losses(&ledger),
            [
                "lost, the ring buffer was full (--buffer-size makes it larger): 1 event",
                "lost, the file could not be written: 1,200 events (4.88 KiB)"
            ]
        );
    }

    #[test]
    fn a_limit_of_the_users_is_no_loss() {
        let mut ledger = Ledger::default();
        ledger.note(LossReason::Limit, 0, Count { events: 2, bytes: 0 });
        assert_eq!(
            losses(&ledger),
            ["nothing was lost", "left out, because a limit was reached: 2 events"]
        );
    }

    #[test]
    fn cut_payload_names_the_option() {
        let lines = cuts(
            &[(
                Cut::Snaplen,
                Count {
                    events: 2,
                    bytes: 10_000,
                },
            )],
            4096,
        );
        assert_eq!(
            lines,
            ["payload of 2 events not kept whole, longer than 4096 bytes (--snaplen keeps more): 9.77 KiB left out"]
        );
    }

    #[test]
    fn what_could_not_be_named_is_reported() {
        let (processes, cgroups) = (0, 0);
        assert_eq!(unresolved(Unresolved { processes, cgroups }), None);
        let (processes, cgroups) = (1, 2000);
        assert_eq!(
            unresolved(Unresolved { processes, cgroups }).as_deref(),
            Some(
                "1 process and 2,000 cgroups could not be named: gone before they were looked up, or the kernel's own"
            )
        );
    }

    #[test]
    fn the_status_line_fits_one_line() {
        let recorded = Count {
            events: 1_000_000,
            bytes: 23_000_000,
        };
        assert_eq!(
            status(51_234, recorded, Some(1_500), 0),
            "51,234 events/s, 1,000,000 events (21.9 MiB), file 1.46 KiB, nothing lost"
        );
        assert_eq!(status(0, Count::default(), None, 7), "0 events/s, 0 events, 7 lost");
    }
}
