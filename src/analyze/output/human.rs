//! Values of a table as readable text.

use super::time::write_readable;
use crate::analyze::table::{Kind, Value};
use crate::escape;
pub use crate::human::{bytes, count, duration, ratio};

/// Harmless text ([`escape`]) of at most `limit` characters; a longer one ends in `…`.
pub fn shortened(text: &str, limit: usize) -> String {
    // Enough of a prefix: escapes only make it longer.
    let end = text.char_indices().nth(limit + 1).map_or(text.len(), |(end, _)| end);
    let mut to = escape::text(&text[..end]);
    if to.chars().count() > limit {
        let end = to
            .char_indices()
            .nth(limit.saturating_sub(1))
            .map_or(to.len(), |(end, _)| end);
        to.truncate(end);
        to.push('…');
    }
    to
}

/// A value as readable text; null is empty.
pub fn value(kind: Kind, value: Value<'_>, limit: usize) -> String {
    match (kind, value) {
        (_, Value::Null) => String::new(),
        (Kind::Time, Value::Int(ns)) => {
            let mut text = String::new();
            write_readable(&mut text, ns);
            text
        }
        (Kind::Nanos, Value::Int(ns)) => duration(ns),
        (Kind::Micros, Value::Int(us)) => duration(us.saturating_mul(1000)),
        (Kind::Bytes, Value::Int(n)) => bytes(n),
        (Kind::Count, Value::Int(n)) => count(n),
        (_, Value::Int(n)) => n.to_string(),
        (Kind::Ratio, Value::Float(share)) => ratio(share),
        (_, Value::Float(number)) => format!("{number:.3}"),
        (_, Value::Flag(flag)) => if flag { "yes" } else { "no" }.to_string(),
        (_, Value::Text(text)) => shortened(text, limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_after_it_was_escaped() {
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
        assert_eq!(shortened("\x1b\x1b\x1b", 5), "\\x1b…");
    }
}
