//! Numbers for people: counts, durations, sizes, shares. The one way in which all commands print them; [`crate::units`]
//! reads what people type.

use std::time::Duration;

/// The first `limit` characters of a text.
pub fn prefix(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).map_or(text, |(end, _)| &text[..end])
}

/// The same, and whether there are more.
pub fn shortened(text: &str, limit: usize) -> String {
    let prefix = prefix(text, limit);
    let more = if prefix.len() < text.len() { "…" } else { "" };
    format!("{prefix}{more}")
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in three significant digits where there are as many: `12.3 ms`, `830 µs`, `1.20 s`, `2 min 05 s`.
pub fn duration(ns: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = ns as f64 / unit;
        match value {
            v if v < 9.995 => format!("{v:.2} {name}"),
            v if v < 99.95 => format!("{v:.1} {name}"),
            v => format!("{v:.0} {name}"),
        }
    };
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..999_500 => scaled(1e3, "µs"),
        999_500..999_500_000 => scaled(1e6, "ms"),
        999_500_000..60_000_000_000 => scaled(1e9, "s"),
        60_000_000_000..3_600_000_000_000 => {
            let seconds = ns / 1_000_000_000;
            format!("{} min {:02} s", seconds / 60, seconds % 60)
        }
        _ => {
            let minutes = ns / 60_000_000_000;
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        }
    }
}

/// As [`duration`].
pub fn elapsed(time: Duration) -> String {
    duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// `512 B`, `1.50 KiB`, `2.00 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value {
        v if v < 9.995 => format!("{v:.2} {}", UNITS[unit]),
        v if v < 99.95 => format!("{v:.1} {}", UNITS[unit]),
        v => format!("{v:.0} {}", UNITS[unit]),
    }
}

/// `12.3 %`; a share that is not 0 does not look like 0, and one that is not 1 does not look like 1.
pub fn ratio(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_string(),
        p if p < 0.01 => "<0.01 %".to_string(),
        p if p < 1.0 => format!("{p:.2} %"),
        100.0 => "100 %".to_string(),
        p if p > 99.9 => ">99.9 %".to_string(),
        p => format!("{p:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.50 µs");
        assert_eq!(duration(999_499), "999 µs");
        assert_eq!(duration(999_999), "1.00 ms");
        assert_eq!(duration(20_000_000), "20.0 ms");
        assert_eq!(duration(1_234_000_000), "1.23 s");
        assert_eq!(duration(125_000_000_000), "2 min 05 s");
        assert_eq!(duration(7_260_000_000_000), "2 h 01 min");
        assert_eq!(elapsed(Duration::from_millis(2_340)), "2.34 s");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(1 << 30), "1.00 GiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(ratio(0.0), "0 %");
        assert_eq!(ratio(0.00001), "<0.01 %");
        assert_eq!(ratio(0.123), "12.3 %");
        assert_eq!(ratio(0.99999), ">99.9 %");
    }
}
