//! The shape of a statement: its text with holes where numbers and strings are. Programs send the same few statements with
//! other values in them; to see that one has the shape of one before costs a tenth of making its fingerprint.
//!
//! What fits a shape has the fingerprint of the statement that the shape was taken from. A shape is narrower than a
//! fingerprint: white space, letter case and comments must be the same to the byte.

use memchr::memmem;

use super::fingerprint::string_end;

/// What stands in a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// Begins with a digit.
    Number,
    /// Begins with this quote.
    String(u8),
}

/// The text of a statement without its values.
#[derive(Debug, Default)]
pub struct StatementTemplate {
    text: Vec<u8>,
    /// Where in `text` the holes are, first to last.
    holes: Vec<(usize, Hole)>,
}

impl StatementTemplate {
    /// Takes the shape of a statement, in the place of the one before.
    pub fn take(&mut self, statement: &str) {
        let b = statement.as_bytes();
        self.text.clear();
        self.holes.clear();
        if is_special(statement) {
            return self.text.extend_from_slice(b);
        }
        let mut i = 0;
        while i < b.len() {
            let literal = literal(&b[i..]);
            self.text.extend_from_slice(&b[i..i + literal.len()]);
            i += literal.len();
            let Some(first) = b.get(i) else { break };
            let hole = match first {
                b'0'..=b'9' => Hole::Number,
                quote => Hole::String(*quote),
            };
            self.holes.push((self.text.len(), hole));
            i = hole.end(b, i);
        }
    }

    /// Whether a statement has this shape. An empty shape fits nothing but the empty statement.
    pub fn fits(&self, statement: &str) -> bool {
        let b = statement.as_bytes();
        let (mut done, mut i) = (0, 0);
        for (at, hole) in &self.holes {
            let literal = &self.text[done..*at];
            if !b[i..].starts_with(literal) {
                return false;
            }
            i += literal.len();
            done = *at;
            let begins = match (hole, b.get(i)) {
                (Hole::Number, Some(first)) => first.is_ascii_digit(),
                (Hole::String(quote), Some(first)) => first == quote,
                (_, None) => false,
            };
            if !begins {
                return false;
            }
            let end = hole.end(b, i);
            // A mark of the toolkit counts even within a string.
            if *hole != Hole::Number && memchr::memchr(b'/', &b[i..end]).is_some() {
                return false;
            }
            i = end;
        }
        b[i..] == self.text[done..]
    }
}

impl Hole {
    /// Where the value ends that begins at `i`.
    fn end(self, b: &[u8], i: usize) -> usize {
        match self {
            Hole::Number => {
                let digits = b[i..].iter().take_while(|c| is_numeric(**c));
                i + digits.count()
            }
            Hole::String(_) => string_end(b, i),
        }
    }
}

/// What stands before the first value: what is the same in all statements of a shape.
pub fn literal(b: &[u8]) -> &[u8] {
    const BEGINS_VALUE: [bool; 256] = {
        let (mut begins, mut byte) = ([false; 256], 0);
        while byte < 256 {
            begins[byte] = matches!(byte as u8, b'0'..=b'9' | b'\'' | b'"');
            byte += 1;
        }
        begins
    };
    let end = b.iter().position(|c| BEGINS_VALUE[usize::from(*c)]);
    &b[..end.unwrap_or(b.len())]
}

/// Of these characters fingerprints make one value, once it has begun with a digit. (And of `-`, which stays in the text
/// here: two of them may begin a comment.)
fn is_numeric(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'x' | b'.' | b'+')
}

/// Whether numbers or quotes may mean something else than values: in comments, in names of procedures, and in the commands
/// that the log writes in words.
fn is_special(statement: &str) -> bool {
    let b = statement.as_bytes();
    let start = statement.trim_start();
    let begins = |word: &str| {
        start
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    memchr::memchr(b'#', b).is_some()
        || memmem::find(b, b"/*").is_some()
        || memmem::find(b, b"--").is_some()
        || begins("call")
        || begins("administrator command")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fingerprint::fingerprint;
    use super::*;

    fn shape(statement: &str) -> StatementTemplate {
        let mut shape = StatementTemplate::default();
        shape.take("select 1 from 'something else'");
        shape.take(statement);
        shape
    }

    #[test]
    fn statements_that_differ_in_values_fit() {
        for (one, other) in [
            (
                "SELECT c FROM sbtest1 WHERE id=4",
                "SELECT c FROM sbtest12 WHERE id=50271",
            ),
            ("INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (22, 'it''s')"),
            ("select -5-3, 0x1f, 1e5", "select -66-7, 0xabc, 2e10"),
            ("select \"a\\\"b\" limit 5", "select \"\" limit 50"),
            ("COMMIT", "COMMIT"),
            ("select 5 /* as it is */", "select 5 /* as it is */"),
        ] {
            let fits = match one.contains("''") || !other.contains("''") {
                true => shape(one).fits(other),
                // A doubled quote is two strings.
                false => !shape(one).fits(other),
            };
            assert!(fits, "{one}: {other}");
        }
    }

    #[test]
    fn statements_that_differ_in_more_do_not() {
        for (one, other) in [
            ("select 5", "select 5 "),
            ("select 5", "select a"),
            ("select 5", "select '5'"),
            ("select 'a'", "select \"a\""),
            ("select 'a'", "select '/*db.t:1/2*/'"),
            ("select 5", "select 5--1"),
            ("select 5 -- 1", "select 5 -- 2"),
            ("call p1(5)", "call p2(5)"),
            ("select 5", "SELECT 5"),
            ("", "1"),
        ] {
            assert!(!shape(one).fits(other), "{one}: {other}");
        }
    }

    proptest! {
        /// Statements of few different characters, one made from the other by changing some.
        #[test]
        fn what_fits_has_the_same_fingerprint(
            one in "(select |call |use |/\\*!40001 )?[aA1 x.+\\-'\"#/*\\\\\n(é,]{0,14}",
            changes in prop::collection::vec((0usize..24, "[0-9af x.+\\-'\"#/*\\\\\n(]{0,3}"), 1..4),
        ) {
            let mut other = one.clone();
            for (at, new) in changes {
                let at = (0..=at.min(other.len())).rev().find(|at| other.is_char_boundary(*at)).unwrap_or(0);
                let end = (at + 1..=other.len()).find(|end| other.is_char_boundary(*end)).unwrap_or(at);
                other.replace_range(at..end, &new);
            }
            prop_assert!(shape(&one).fits(&one) || one.contains('/'));
            if shape(&one).fits(&other) {
                prop_assert_eq!(fingerprint(&one), fingerprint(&other));
            }
        }
    }
}
