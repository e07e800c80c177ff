//! What the recorder tells its user: sizes, losses, the last lines. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::drain::Unresolved;
use super::loss::{Count, Ledger};
use crate::format::record::{Cut, LossReason};

/// `1234567` as `1,234,567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a decimal unit.
pub fn bytes(value: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut scaled = value as f64;
    let mut unit = "B";
    for next in units {
        if scaled < 999.5 {
            break;
        }
        scaled /= 1000.0;
        unit = next;
    }
    match unit {
        "B" => format!("{value} B"),
        _ if scaled < 9.95 => format!("{scaled:.1} {unit}"),
        _ => format!("{scaled:.0} {unit}"),
    }
}

/// Seconds, to a tenth below a minute.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", value.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn events(count: Count) -> String {
    let mut text = format!(
        "{} event{}",
        number(count.events),
        if count.events == 1 { "" } else { "s" }
    );
    if count.bytes > 0 {
        let _ = write!(text, " ({})", bytes(count.bytes));
    }
    text
}

/// What was lost, by reason, one line each; one line if nothing was.
pub fn losses(ledger: &Ledger) -> Vec<String> {
    let mut lines: Vec<String> = ledger
        .totals()
        .iter()
        .filter(|(reason, _)| **reason != LossReason::Truncated)
        .map(|(reason, count)| format!("{} {}", lost_words(*reason), events(*count)))
        .collect();
    if ledger.missing() == 0 {
        lines.insert(0, "nothing was lost".to_owned());
    }
    lines
}

fn lost_words(reason: LossReason) -> String {
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
        // Told as a loss; and no program has missed the urgent byte.
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
            let (n, rest) = (number(count.events), bytes(count.bytes));
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
        count => Some(format!("{} {many}", number(count))),
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
pub fn status(events_per_second: u64, heard: Count, written: Option<u64>, missing: u64) -> String {
    let mut line = format!("{} events/s, {}", number(events_per_second), events(heard));
    if let Some(written) = written {
        let _ = write!(line, ", file {}", bytes(written));
    }
    match missing {
        0 => line.push_str(", nothing lost"),
        _ => {
            let _ = write!(line, ", {} lost", number(missing));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_for_people() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(999_600), "1.0 MB");
        assert_eq!(bytes(23_456_789), "23 MB");
        assert_eq!(duration(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(7_260)), "2 h 1 min");
    }

    #[test]
    fn no_loss_is_said_and_each_loss_has_its_line() {
        let mut ledger = Ledger::default();
        assert_eq!(losses(&ledger), ["nothing was lost"]);
        ledger.note(LossReason::Truncated, 0, Count { events: 4, bytes: 9 });
        assert_eq!(
            losses(&ledger),
            ["nothing was lost"],
            "shortened payload is told by its cause"
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
                "lost, the file could not be written: 1,200 events (5.0 kB)"
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
            ["payload of 2 events not kept whole, longer than 4096 bytes (--snaplen keeps more): 10 kB left out"]
        );
    }

    #[test]
    fn what_could_not_be_named_is_said() {
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
        let heard = Count {
            events: 1_000_000,
            bytes: 23_000_000,
        };
        assert_eq!(
            status(51_234, heard, Some(1_500), 0),
            "51,234 events/s, 1,000,000 events (23 MB), file 1.5 kB, nothing lost"
        );
        assert_eq!(status(0, Count::default(), None, 7), "0 events/s, 0 events, 7 lost");
    }
}
