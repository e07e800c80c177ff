//! Sizes, durations and times as people write them.

use std::time::Duration;

/// Splits `10ms` into `10` and `ms`.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// A number times a unit, as a whole number; exact for whole numbers.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let digits: String = number.chars().filter(|c| *c != '_').collect();
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let value = digits.parse::<f64>().ok()? * unit as f64;
    (value.is_finite() && value >= 0.0 && value < u64::MAX as f64).then(|| value.round() as u64)
}

/// Nanoseconds of a unit of time.
fn nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" | "sec" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// Nanoseconds of `10ms`, `1.5s`, `2m`, `1h30m`. A number without a unit is multiplied by `bare`; with `bare` 0 it is
/// an error.
pub fn parse_nanoseconds(text: &str, bare: u64) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration; examples: 500us, 10ms, 1.5s, 2m, 1h30m");
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, tail) = split(rest);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let unit = tail[..end].trim();
        let unit = match unit {
            "" if bare > 0 && total == 0 => bare,
            unit => nanoseconds(unit).ok_or_else(wrong)?,
        };
        let part = scale(number, unit).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &tail[end..];
    }
    Ok(total)
}

/// A duration; a number without a unit is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_nanoseconds(text, 1_000_000_000).map(Duration::from_nanos)
}

/// Bytes of `4096`, `64k`, `64KiB`, `1.5GiB`, `10MB`. K, M, G, T and their -iB forms count by 1024, -B forms by 1000.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; examples: 4096, 64k, 512MiB, 10GB");
    let (number, unit) = split(text.trim());
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    scale(number, unit).ok_or_else(wrong)
}

/// A number of things: `5000`, `5k`, `1M` (by 1000).
pub fn parse_count(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number; examples: 5000, 5k, 2M");
    let (number, unit) = split(text.trim());
    let unit = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    scale(number, unit).ok_or_else(wrong)
}

/// A time in UTC, ns since 1970-01-01: RFC 3339 (`2026-01-31T12:00:00Z`, with or without fraction and offset),
/// `2026-01-31 12:00:00`, or `2026-01-31`.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a time; examples: 2026-01-31T12:00:00Z, \"2026-01-31 12:00:00.5\"");
    let text = text.trim();
    let ns = if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        time.timestamp_nanos_opt()
    } else {
        let formats = [
            "%Y-%m-%d %H:%M:%S%.f",
            "%Y-%m-%dT%H:%M:%S%.f",
            "%Y-%m-%d %H:%M",
            "%Y-%m-%dT%H:%M",
        ];
        let time = formats
            .iter()
            .find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok());
        let time = time.or_else(|| {
            chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .ok()?
                .and_hms_opt(0, 0, 0)
        });
        time.and_then(|time| time.and_utc().timestamp_nanos_opt())
    };
    ns.and_then(|ns| u64::try_from(ns).ok()).ok_or_else(wrong)
}

/// How fast something recorded is to happen again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many times as fast as it happened.
    Times(f64),
    /// Without waiting.
    Max,
}

/// A number of times (`1`, `0.5`, `10x`), or `max`.
pub fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("a number above 0, or max".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_nanoseconds("10ms", 0), Ok(10_000_000));
        assert_eq!(parse_nanoseconds("1.5s", 0), Ok(1_500_000_000));
        assert_eq!(parse_nanoseconds("1h30m", 0), Ok(5_400_000_000_000));
        assert_eq!(parse_nanoseconds("250", 1), Ok(250));
        assert_eq!(parse_nanoseconds("0s", 0), Ok(0));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for wrong in ["", "ms", "10 parsecs", "1.2.3s", "-1s", "250"] {
            assert!(parse_nanoseconds(wrong, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64k"), Ok(65_536));
        assert_eq!(parse_size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(parse_size("1_000"), Ok(1000));
        assert_eq!(parse_count("2M"), Ok(2_000_000));
        for wrong in ["", "k", "1x", "99999999999T", "-1"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        let noon = 1_769_860_800_000_000_000;
        assert_eq!(parse_time("2026-01-31T12:00:00Z"), Ok(noon));
        assert_eq!(parse_time("2026-01-31T13:00:00+01:00"), Ok(noon));
        assert_eq!(parse_time("2026-01-31 12:00:00.000000001"), Ok(noon + 1));
        assert_eq!(parse_time("2026-01-31 12:00"), Ok(noon));
        assert_eq!(parse_time("2026-01-31"), Ok(noon - 43_200_000_000_000));
        assert!(parse_time("yesterday").is_err());
    }
}
