//! `mdf diff`: what changed between two captures, by endpoint, digest and the like, and whether the change is significant.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::analyze::column::Kind::{Count, Float, Nanos, Ratio, Text};
use crate::analyze::protocol::PROTOCOLS;
use crate::analyze::report::Aggregate;
use crate::analyze::stats::Histogram;
use crate::analyze::stats::keyed::each_field;
use crate::analyze::table::{Columns, Kind, Spec, Value};
use crate::human;
use crate::units::parse_nanoseconds;

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub count: u64,
    pub errors: u64,
    pub total: &'a Histogram,
}

impl Side<'_> {
    fn error_rate(&self) -> f64 {
        self.errors as f64 / self.count.max(1) as f64
    }
}

/// An endpoint or a digest on both sides.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    pub protocol: &'static str,
    /// `GET /users/{id} host`, or the fingerprint.
    pub what: String,
    pub before: Side<'a>,
    pub after: Side<'a>,
}

/// The significance of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Not significant, or too few exchanges.
    None,
    /// Significant at 95 %.
    Likely,
    /// Significant at 99.9 %.
    Sure,
}

impl Mark {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Mark::None => "",
            Mark::Likely => "*",
            Mark::Sure => "**",
        }
    }
}

/// Two-sided limits of the normal distribution for the two marks.
const LIMITS: [(f64, Mark); 2] = [(3.29, Mark::Sure), (1.96, Mark::Likely)];
/// Exchanges needed on both sides of a percentile.
const ENOUGH: f64 = 5.0;

/// Whether a percentile differs. Each side's percentile has an interval between order statistics; the two are apart
/// when the intervals, each narrowed so that both together have the required confidence, do not overlap.
fn percentile_mark(before: &Histogram, after: &Histogram, share: f64) -> Mark {
    let few = |histogram: &Histogram| histogram.count() as f64 * share.min(1.0 - share) < ENOUGH;
    if few(before) || few(after) {
        return Mark::None;
    }
    let interval = |histogram: &Histogram, z: f64| {
        let spread = z / std::f64::consts::SQRT_2 * (share * (1.0 - share) / histogram.count() as f64).sqrt();
        let at = |share: f64| histogram.percentile(share.clamp(0.0, 1.0)).unwrap_or(0);
        (at(share - spread), at(share + spread))
    };
    let apart = |(z, _): &&(f64, Mark)| {
        let ((low, high), (from, to)) = (interval(before, *z), interval(after, *z));
        high < from || to < low
    };
    LIMITS.iter().find(apart).map_or(Mark::None, |(_, mark)| *mark)
}

/// Whether a share differs (two proportions, pooled).
fn rate_mark(before: &Side<'_>, after: &Side<'_>) -> Mark {
    let (n, m) = (before.count as f64, after.count as f64);
    if n < ENOUGH || m < ENOUGH {
        return Mark::None;
    }
    let pooled = (before.errors + after.errors) as f64 / (n + m);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    mark((after.error_rate() - before.error_rate()) / deviation)
}

/// Whether a number of events differs (two Poisson counts).
fn count_mark(before: u64, after: u64) -> Mark {
    mark((after as f64 - before as f64) / ((before + after) as f64).sqrt())
}

fn mark(z: f64) -> Mark {
    LIMITS
        .iter()
        .find(|(limit, _)| z.abs() > *limit)
        .map_or(Mark::None, |(_, mark)| *mark)
}

static EMPTY: Histogram = Histogram::EMPTY;

const NOTHING: Side<'static> = Side {
    count: 0,
    errors: 0,
    total: &EMPTY,
};

/// Both sides of each key that occurs at least `min_count` times on one of them; most frequent first.
pub fn compare<'a>(before: &'a Aggregate, after: &'a Aggregate, min_count: u64) -> Vec<Change<'a>> {
    let mut all: BTreeMap<(&'static str, &'a str), (usize, [Side<'a>; 2])> = BTreeMap::new();
    for (side, aggregate) in [before, after].into_iter().enumerate() {
        for (place, protocol) in PROTOCOLS.iter().enumerate() {
            for counted in aggregate.keys(place) {
                let here = Side {
                    count: counted.count,
                    errors: counted.errors,
                    total: counted.total,
                };
                let key = (protocol.name(), counted.key);
                all.entry(key).or_insert((counted.fields, [NOTHING; 2])).1[side] = here;
            }
        }
    }
    let mut changes: Vec<Change<'a>> = all
        .into_iter()
        .filter(|(_, (_, [before, after]))| before.count.max(after.count) >= min_count)
        .map(|((protocol, key), (fields, [before, after]))| {
            let what: Vec<&str> = each_field(key, fields).filter(|field| !field.is_empty()).collect();
            Change {
                protocol,
                what: what.join(" "),
                before,
                after,
            }
        })
        .collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.before.count.max(change.after.count)));
    changes
}

/// A number that `--fail-if` can name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    Count,
    ErrorRate,
    Mean,
    Max,
    Percentile(f64),
}

/// `p95>+10%`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    text: String,
    metric: Metric,
    /// Fails above the limit, else below it.
    above: bool,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    /// After / before - 1; of an error rate, after - before.
    Relative(f64),
    /// After - before.
    Nanos(f64),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let wrong =
            |why: &str| format!("--fail-if {text:?}: {why}; examples: p95>+10%, error_rate>+1%, p99>+5ms, count<-50%");
        let at = text.find(['>', '<']).ok_or_else(|| wrong("there is neither > nor <"))?;
        let metric = match text[..at].trim() {
            "count" => Metric::Count,
            "error_rate" => Metric::ErrorRate,
            "mean" => Metric::Mean,
            "max" => Metric::Max,
            "p50" => Metric::Percentile(0.5),
            "p90" => Metric::Percentile(0.9),
            "p95" => Metric::Percentile(0.95),
            "p99" => Metric::Percentile(0.99),
            _ => {
                return Err(wrong(
                    "it names none of count, error_rate, mean, max, p50, p90, p95, p99",
                ));
            }
        };
        let above = text[at..].starts_with('>');
        let change = text[at + 1..].trim();
        let (sign, size) = match change.strip_prefix('-') {
            Some(size) => (-1.0, size),
            None => (1.0, change.strip_prefix('+').unwrap_or(change)),
        };
        let limit = match size.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent
                    .trim()
                    .parse()
                    .map_err(|_| wrong("the change is not a number"))?;
                Limit::Relative(sign * percent / 100.0)
            }
            None if matches!(metric, Metric::Count | Metric::ErrorRate) => {
                return Err(wrong("the change must be in %"));
            }
            None => Limit::Nanos(sign * parse_nanoseconds(size, 0).map_err(|error| wrong(&error))? as f64),
        };
        Ok(Condition {
            text: text.to_string(),
            metric,
            above,
            limit,
        })
    }
}

impl Condition {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a significant change violates it. A key that is only on one side is no change.
    pub fn fails(&self, change: &Change<'_>) -> bool {
        let (before, after) = (&change.before, &change.after);
        if before.count == 0 || after.count == 0 {
            return false;
        }
        let of = |side: &Side<'_>| match self.metric {
            Metric::Count => Some(side.count as f64),
            Metric::ErrorRate => Some(side.error_rate()),
            Metric::Mean => side.total.mean().map(|ns| ns as f64),
            Metric::Max => side.total.max().map(|ns| ns as f64),
            Metric::Percentile(share) => side.total.percentile(share).map(|ns| ns as f64),
        };
        let (Some(old), Some(new)) = (of(before), of(after)) else {
            return false;
        };
        let mark = match self.metric {
            Metric::Count => count_mark(before.count, after.count),
            Metric::ErrorRate => rate_mark(before, after),
            Metric::Percentile(share) => percentile_mark(before.total, after.total, share),
            // The deviation of means is not kept; the medians are used instead. A maximum has none.
            Metric::Mean => percentile_mark(before.total, after.total, 0.5),
            Metric::Max => Mark::Likely,
        };
        let (moved, limit) = match self.limit {
            Limit::Nanos(limit) => (new - old, limit),
            Limit::Relative(limit) if self.metric == Metric::ErrorRate => (new - old, limit),
            Limit::Relative(limit) => (new / old.max(1.0) - 1.0, limit),
        };
        mark > Mark::None && if self.above { moved > limit } else { moved < limit }
    }
}

const fn spec(name: &'static str, kind: Kind, doc: &'static str) -> Spec {
    Spec { name, kind, doc }
}

/// What the marks of a difference mean.
const MARK: &str = "** when the difference is significant at 99.9 %, * at 95 %; null when it may be chance";

/// The percentiles that are compared, with the names of their columns.
const PERCENTILES: [(f64, [&str; 4]); 3] = [
    (0.5, ["p50_before_ns", "p50_after_ns", "p50_change", "p50_mark"]),
    (0.95, ["p95_before_ns", "p95_after_ns", "p95_change", "p95_mark"]),
    (0.99, ["p99_before_ns", "p99_after_ns", "p99_change", "p99_mark"]),
];

/// All numbers, for programs.
pub fn columns(changes: &[Change<'_>]) -> Columns {
    let mut specs = vec![
        spec("protocol", Text, "protocol of the exchanges"),
        spec("what", Text, "key of the exchanges: endpoint, digest, …"),
        spec("count_before", Count, "number of exchanges in the first capture"),
        spec("count_after", Count, "number of exchanges in the second capture"),
        spec("count_mark", Text, MARK),
        spec(
            "error_rate_before",
            Ratio,
            "errors divided by exchanges in the first capture, from 0 to 1",
        ),
        spec(
            "error_rate_after",
            Ratio,
            "errors divided by exchanges in the second capture, from 0 to 1",
        ),
        spec("error_rate_mark", Text, MARK),
    ];
    for (_, [before, after, change, mark]) in PERCENTILES {
        specs.extend([
            spec(
                before,
                Nanos,
                "percentile of the total time of the exchanges in the first capture, ns",
            ),
            spec(
                after,
                Nanos,
                "percentile of the total time of the exchanges in the second capture, ns",
            ),
            spec(
                change,
                Float,
                "relative change of the percentile: second capture divided by first, minus 1",
            ),
            spec(mark, Text, MARK),
        ]);
    }
    let mut columns = Columns::new(specs);
    for change in changes {
        let (before, after) = (&change.before, &change.after);
        let rate = |side: &Side<'_>| {
            if side.count == 0 {
                Value::Null
            } else {
                Value::Float(side.error_rate())
            }
        };
        let mut row = vec![
            Value::Text(change.protocol),
            Value::Text(&change.what),
            Value::Int(before.count),
            Value::Int(after.count),
            Value::text(count_mark(before.count, after.count).text()),
            rate(before),
            rate(after),
            Value::text(rate_mark(before, after).text()),
        ];
        for (share, _) in PERCENTILES {
            let (old, new) = (before.total.percentile(share), after.total.percentile(share));
            let moved = old.zip(new).map(|(old, new)| new as f64 / old.max(1) as f64 - 1.0);
            row.extend([
                Value::int(old),
                Value::int(new),
                moved.map_or(Value::Null, Value::Float),
                Value::text(percentile_mark(before.total, after.total, share).text()),
            ]);
        }
        columns.push_row(&row);
    }
    columns
}

/// The sum of the marks of a change, by significance.
fn weight(change: &Change<'_>) -> u32 {
    let (before, after) = (&change.before, &change.after);
    let percentiles = PERCENTILES.map(|(share, _)| percentile_mark(before.total, after.total, share));
    let marks = percentiles.into_iter().chain([rate_mark(before, after)]);
    marks
        .map(|mark| match mark {
            Mark::None => 0,
            Mark::Likely => 1,
            Mark::Sure => 10,
        })
        .sum()
}

/// The table for a terminal: one cell for each pair of values; the most significant changes first.
pub fn readable(changes: &[Change<'_>]) -> Columns {
    let mut changes: Vec<&Change<'_>> = changes.iter().collect();
    changes.sort_by_key(|change| std::cmp::Reverse(weight(change)));
    let mut columns = Columns::new([
        spec("count", Text, ""),
        spec("errors", Text, ""),
        spec("p50", Text, ""),
        spec("p95", Text, ""),
        spec("p99", Text, ""),
        spec("what", Text, ""),
    ]);
    for change in changes {
        let (before, after) = (&change.before, &change.after);
        let pair = |old: Option<String>, new: Option<String>, moved: Option<f64>, mark: Mark| {
            let missing = || "–".to_string();
            let mut text = format!("{} → {}", old.unwrap_or_else(missing), new.unwrap_or_else(missing));
            if let Some(moved) = moved {
                text.push_str(&format!(" {:+.0}%", moved * 100.0));
            }
            text + mark.text()
        };
        let number = |side: &Side<'_>| (side.count > 0).then(|| human::count(side.count));
        let rate = |side: &Side<'_>| (side.count > 0).then(|| human::ratio(side.error_rate()));
        let mut row = vec![
            pair(
                number(before),
                number(after),
                None,
                count_mark(before.count, after.count),
            ),
            pair(rate(before), rate(after), None, rate_mark(before, after)),
        ];
        for (share, _) in PERCENTILES {
            let (old, new) = (before.total.percentile(share), after.total.percentile(share));
            let moved = old.zip(new).map(|(old, new)| new as f64 / old.max(1) as f64 - 1.0);
            let mark = percentile_mark(before.total, after.total, share);
            row.push(pair(old.map(human::duration), new.map(human::duration), moved, mark));
        }
        row.push(change.what.clone());
        let values: Vec<Value<'_>> = row.iter().map(|text| Value::Text(text)).collect();
        columns.push_row(&values);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: u64, from: u64, step: u64) -> Histogram {
        let mut histogram = Histogram::default();
        // A stride that visits all of 0..count in a mixed order.
        (0..count).for_each(|n| histogram.record(from + n * 7919 % count * step));
        histogram
    }

    fn change<'a>(before: &'a Histogram, after: &'a Histogram, errors: (u64, u64)) -> Change<'a> {
        Change {
            protocol: "http",
            what: "GET /".to_string(),
            before: Side {
                count: before.count(),
                errors: errors.0,
                total: before,
            },
            after: Side {
                count: after.count(),
                errors: errors.1,
                total: after,
            },
        }
    }

    #[test]
    fn a_clear_change_fails_and_an_unclear_one_does_not() {
        let before = histogram(1000, 1_000_000, 1_000);
        let slower = histogram(1000, 1_500_000, 1_500);
        let same = histogram(1000, 1_005_000, 1_000);
        let few = histogram(20, 5_000_000, 1_000);
        let condition: Condition = "p95>+10%".parse().unwrap();
        assert!(condition.fails(&change(&before, &slower, (0, 0))));
        assert!(!condition.fails(&change(&before, &same, (0, 0))));
        assert!(!condition.fails(&change(&slower, &before, (0, 0))));
        assert!(
            !condition.fails(&change(&before, &few, (0, 0))),
            "20 exchanges do not show a 95th percentile"
        );
        assert!(
            "p50>+10ms"
                .parse::<Condition>()
                .is_ok_and(|c| !c.fails(&change(&before, &slower, (0, 0))))
        );
        assert!(
            "p50<-10%"
                .parse::<Condition>()
                .is_ok_and(|c| c.fails(&change(&slower, &before, (0, 0))))
        );
        let errors: Condition = "error_rate>+1%".parse().unwrap();
        assert!(errors.fails(&change(&before, &same, (1, 100))));
        assert!(!errors.fails(&change(&before, &same, (10, 15))));
    }

    #[test]
    fn marks_grow_with_significance() {
        assert_eq!(count_mark(100, 100), Mark::None);
        assert_eq!(count_mark(100, 130), Mark::Likely);
        assert_eq!(count_mark(100, 200), Mark::Sure);
        assert_eq!(percentile_mark(&EMPTY, &EMPTY, 0.5), Mark::None);
    }

    #[test]
    fn invalid_conditions_are_refused() {
        for wrong in ["", "p95", "p42>1%", "p95>", "p95>fast", "count>5", "error_rate>1ms"] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }
}
