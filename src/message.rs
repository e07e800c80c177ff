//! Messages to the user on standard error. That nobody reads them is no reason to fail.

use std::io::{self, Write};

use crate::escape;

/// A message: `mdf: ` before it, nothing in it that steers the terminal. Its further lines are indented, so that no name
/// with a line end in it looks like a message of its own.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", message(text));
}

fn message(text: &str) -> String {
    let mut message = String::from("mdf: ");
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            message.push('\n');
            if !line.starts_with(' ') {
                message.push_str("    ");
            }
        }
        message.push_str(&escape::text(line));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_name_in_a_message_neither_steers_the_terminal_nor_looks_like_another_message() {
        assert_eq!(
            message("cannot open a\x1b[2J\u{202e}b\nmdf: nothing was lost"),
            "mdf: cannot open a\\x1b[2J\\u{202e}b\n    mdf: nothing was lost"
        );
        assert_eq!(message("no\n  socktp: why"), "mdf: no\n  socktp: why");
    }
}
