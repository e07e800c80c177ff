//! Times as text.

use std::fmt::Write;

use chrono::{DateTime, Datelike, Timelike};

/// Writes a time as RFC 3339 with nanoseconds: `2026-01-31T12:00:00.000000001Z`.
pub fn write_rfc3339(to: &mut String, ns: u64) {
    let time = DateTime::from_timestamp_nanos(ns.min(i64::MAX as u64) as i64);
    let _ = write!(
        to,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.nanosecond()
    );
}

/// Writes a time in readable form: `2026-01-31 12:00:00.000001`, UTC.
pub fn write_readable(to: &mut String, ns: u64) {
    let time = DateTime::from_timestamp_nanos(ns.min(i64::MAX as u64) as i64);
    let _ = write!(
        to,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.nanosecond() / 1000
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        let mut text = String::new();
        write_rfc3339(&mut text, 1_769_860_800_000_000_001);
        assert_eq!(text, "2026-01-31T12:00:00.000000001Z");
        text.clear();
        write_readable(&mut text, 1_769_860_800_000_001_999);
        assert_eq!(text, "2026-01-31 12:00:00.000001");
        text.clear();
        write_rfc3339(&mut text, u64::MAX);
        assert!(text.starts_with("2262-"));
    }
}
