//! Values of a table for people; and text that cannot command a terminal.

use std::fmt::Write;

use super::time::write_readable;
use crate::analyze::table::{Kind, Value};
pub use crate::human::{bytes, count, duration, ratio};

/// Writes text so that no terminal obeys it: control characters become `\n`, `\x1b`, …; so do characters that turn
/// the direction of writing.
pub fn write_safe(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(to, "\\x{:02x}", c as u32);
            }
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(to, "\\u{{{:x}}}", c as u32);
            }
            c => to.push(c),
        }
    }
}

/// Text that no terminal obeys.
pub fn safe(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    write_safe(&mut to, text);
    to
}

/// Safe text of at most `limit` characters; a longer one ends in `…`.
pub fn shortened(text: &str, limit: usize) -> String {
    let mut to = String::new();
    // Enough of a prefix: escapes only make it longer.
    let end = text.char_indices().nth(limit + 1).map_or(text.len(), |(end, _)| end);
    write_safe(&mut to, &text[..end]);
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

/// A value as people read it; null is empty.
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
    fn captured_text_cannot_command_a_terminal() {
        assert_eq!(safe("a\x1b[2Jb\r\n\u{202e}"), "a\\x1b[2Jb\\r\\n\\u{202e}");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
        assert_eq!(shortened("\x1b\x1b\x1b", 5), "\\x1b…");
    }
}
