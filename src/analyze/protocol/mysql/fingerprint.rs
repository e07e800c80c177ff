//! Fingerprints: what statements that differ only in their values have in common; and the id of a fingerprint.
//!
//! The public semantics are those of pt-query-digest (percona-toolkit), so that people can compare: comments out,
//! values to `?`, lists to `(?+)`, white space folded, lower case. Its reading of numbers is loose, and is kept: digits
//! within names are values too (`users_2009` is `users_?`), letters a to f go with the digits before them, signs belong
//! to numbers. Learned from its documentation and from running it; where it misreads SQL we do not follow:
//! - a backslash before a quote is not an escape when it is itself escaped (`'a\\'` is whole);
//! - quotes of the other kind within a string mean nothing; brackets within strings never end a list;
//! - a comment may have quotes in it; `--` before a digit is no comment;
//! - a string without an end (a statement that was cut) is a value up to the end.

use std::fmt::Write;
use std::sync::LazyLock;

use md5::{Digest, Md5};
use memchr::memmem::Finder;

/// Searches that are made in each statement, got ready once.
static COMMENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("/*"));
static UNION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(" union "));
static VALUES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("values"));
static SELECT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("select"));
static LIMIT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("limit"));
static ORDER_BY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("order by"));
static ASC: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("asc"));

/// A search for repeated UNION parts gives up after so many comparisons.
const MAX_UNION_TRIES: usize = 4096;

/// The fingerprint of a statement.
pub fn fingerprint(statement: &str) -> String {
    let mut text = Vec::new();
    match begin(statement, &mut text) {
        Begun::Whole(fingerprint) => fingerprint,
        Begun::Values => finish(&text),
    }
}

/// How far a fingerprint is.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// This is it.
    Whole(String),
    /// Its values are taken out; [`finish`] does the rest. Statements that are alike by now have one fingerprint, so the
    /// rest, which is most of the work, need be done only once for all of them.
    Values,
}

/// Begins a fingerprint: fills `text` with the statement without its values.
pub fn begin(statement: &str, text: &mut Vec<u8>) -> Begun {
    if statement.starts_with("SELECT /*!40001 SQL_NO_CACHE */ * FROM `") {
        return Begun::Whole("mysqldump".to_string());
    }
    if is_toolkit(statement) {
        return Begun::Whole("percona-toolkit".to_string());
    }
    if statement.starts_with("administrator command: ") {
        return Begun::Whole(statement.to_string());
    }
    let statement = statement.trim_start();
    if let Some(call) = procedure(statement) {
        return Begun::Whole(call.to_ascii_lowercase());
    }
    values(statement.strip_suffix('\n').unwrap_or(statement), text);
    Begun::Values
}

/// Makes a fingerprint of what [`begin`] filled.
pub fn finish(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).into_owned();
    if is_use(&text) {
        return "use ?".to_string();
    }
    let text = first_tuple(text);
    let text = words(text);
    let text = lists(text);
    let text = unions(text);
    ascending(limits(text))
}

/// The id that pt-query-digest prints: upper-case MD5 of the fingerprint (version 3; versions before print the last 16
/// digits only).
pub fn digest(fingerprint: &str) -> String {
    let mut id = String::with_capacity(32);
    for byte in Md5::digest(fingerprint.as_bytes()) {
        let _ = write!(id, "{byte:02X}");
    }
    id
}

/// Statements of the toolkit's own programs carry a mark: `/*database.table:1/20*/`.
fn is_toolkit(statement: &str) -> bool {
    COMMENT.find_iter(statement.as_bytes()).any(|at| {
        let mark = &statement[at + 2..];
        let Some(end) = mark.find("*/") else { return false };
        let word = |w: &str| !w.is_empty() && w.bytes().all(is_word);
        let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit());
        mark[..end]
            .split_once('.')
            .and_then(|(db, rest)| Some((db, rest.split_once(':')?)))
            .is_some_and(|(db, (table, chunk))| {
                word(db)
                    && word(table)
                    && chunk
                        .split_once('/')
                        .is_some_and(|(n, of)| !n.is_empty() && number(n) && number(of))
            })
    })
}

/// `CALL name(…` up to the bracket.
fn procedure(statement: &str) -> Option<&str> {
    let (word, rest) = statement.split_at_checked(4)?;
    if !word.eq_ignore_ascii_case("call") || !rest.starts_with(is_space) {
        return None;
    }
    let name = rest.trim_start_matches(is_space);
    let name_end = name.find(is_space).unwrap_or(name.len());
    let bracket = name[..name_end].rfind('(').filter(|at| *at > 0)?;
    Some(&statement[..statement.len() - name.len() + bracket])
}

fn is_use(text: &str) -> bool {
    text.strip_prefix("use ")
        .is_some_and(|name| !name.is_empty() && !name.trim_end().contains([' ', '(']))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\x0b')
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// White space is one space, and none at the start.
fn space(text: &mut Vec<u8>) {
    if text.last().is_some_and(|last| *last != b' ') {
        text.push(b' ');
    }
}

/// A value. One sign, dot or prefix (`x'…'`, `b'…'`) directly before it belongs to it.
fn value(text: &mut Vec<u8>) {
    if matches!(text.last(), Some(b'x' | b'b' | b'.' | b'+' | b'-')) {
        text.pop();
    }
    text.push(b'?');
}

/// Comments out, values to `?`, white space folded, lower case.
fn values(statement: &str, text: &mut Vec<u8>) {
    let b = statement.as_bytes();
    text.clear();
    text.reserve(b.len());
    let mut i = 0;
    while let Some(&byte) = b.get(i) {
        match byte {
            b'\'' | b'"' => {
                i = string_end(b, i);
                value(text);
            }
            b'0'..=b'9' | b'+' | b'-' if !is_line_comment(&b[i..]) => {
                i += 1;
                while b
                    .get(i)
                    .is_some_and(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f' | b'x' | b'.' | b'+' | b'-'))
                    && !(b[i] == b'-' && is_line_comment(&b[i..]))
                {
                    i += 1;
                }
                value(text);
            }
            b'-' | b'#' => {
                i = memchr::memchr2(b'\n', b'\r', &b[i..]).map_or(b.len(), |n| i + n);
            }
            b'/' if b.get(i + 1) == Some(&b'*') && b.get(i + 2) != Some(&b'!') => {
                i = memchr::memmem::find(&b[i + 2..], b"*/").map_or(b.len(), |n| i + 2 + n + 2);
            }
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                i += 1;
                space(text);
            }
            _ => {
                let rest = &b[i + 1..];
                let run = 1 + rest.iter().position(|b| !PLAIN[usize::from(*b)]).unwrap_or(rest.len());
                text.extend_from_slice(&b[i..i + run]);
                i += run;
            }
        }
    }
    // Only ASCII is changed, so it stays UTF-8.
    text.make_ascii_lowercase();
}

/// Bytes that stand for themselves wherever they are.
const PLAIN: [bool; 256] = {
    let (mut plain, mut byte) = ([true; 256], 0);
    while byte < 256 {
        plain[byte] =
            !matches!(byte as u8, b'\'' | b'"' | b'0'..=b'9' | b'+' | b'-' | b'#' | b'/' | b' ' | 0x09..=0x0d);
        byte += 1;
    }
    plain
};

/// Where the string ends that begins here; a doubled quote ends one and begins the next.
pub(super) fn string_end(b: &[u8], start: usize) -> usize {
    let quote = b[start];
    let mut i = start + 1;
    while let Some(n) = memchr::memchr2(quote, b'\\', &b[i.min(b.len())..]) {
        i += n;
        if b[i] == quote {
            return i + 1;
        }
        i += 2;
    }
    b.len()
}

fn is_line_comment(b: &[u8]) -> bool {
    matches!(b, [b'-', b'-', next, ..] if !next.is_ascii_digit()) || b == b"--"
}

/// A multi-row INSERT or REPLACE is its first row; what follows the rows goes with them.
fn first_tuple(mut text: String) -> String {
    let into = if text.starts_with("insert ") || text.starts_with("replace ") {
        [
            "insert into ",
            "insert ignore into ",
            "replace into ",
            "replace ignore into ",
        ]
        .iter()
        .any(|head| text.starts_with(head))
    } else {
        false
    };
    if !into {
        return text;
    }
    let Some(values) = find_word(&text, &VALUES) else {
        return text;
    };
    let b = text.as_bytes();
    let skip = |mut i: usize| {
        while b.get(i) == Some(&b' ') {
            i += 1;
        }
        i
    };
    let first = skip(values + "values".len());
    if b.get(first) != Some(&b'(') {
        return text;
    }
    let end = memchr::memchr_iter(b')', &b[first..])
        .map(|n| first + n + 1)
        .find(|&after| {
            let comma = skip(after);
            b.get(comma) == Some(&b',') && b.get(skip(comma + 1)) == Some(&b'(')
        });
    if let Some(end) = end {
        text.truncate(end);
    }
    text
}

/// Where this word first stands alone.
fn find_word(text: &str, word: &Finder<'_>) -> Option<usize> {
    let b = text.as_bytes();
    word.find_iter(b)
        .find(|&at| is_bounded(b, at, at + word.needle().len()))
}

fn is_bounded(b: &[u8], start: usize, end: usize) -> bool {
    !start.checked_sub(1).and_then(|i| b.get(i)).is_some_and(|b| is_word(*b))
        && !b.get(end).is_some_and(|b| is_word(*b))
}

/// NULL, TRUE and FALSE are values.
fn words(text: String) -> String {
    let mut out = String::new();
    let mut done = 0;
    let b = text.as_bytes();
    let mut i = 0;
    while i < b.len() {
        if !is_word(b[i]) {
            i += 1;
            continue;
        }
        let start = i;
        while i < b.len() && is_word(b[i]) {
            i += 1;
        }
        if matches!(&b[start..i], b"null" | b"true" | b"false") {
            out.push_str(&text[done..start]);
            out.push('?');
            done = i;
        }
    }
    if done == 0 {
        return text;
    }
    out.push_str(&text[done..]);
    out
}

/// `in (?, ?)` and `values (?), (?)` to `in(?+)` and `values(?+)`.
fn lists(text: String) -> String {
    let mut out = String::new();
    let mut done = 0;
    let b = text.as_bytes();
    let mut i = 0;
    while i < b.len() {
        if !is_word(b[i]) {
            i += 1;
            continue;
        }
        let start = i;
        while i < b.len() && is_word(b[i]) {
            i += 1;
        }
        if !matches!(&b[start..i], b"in" | b"values" | b"value") {
            continue;
        }
        let mut end = i;
        while let Some(after) = list_end(b, end) {
            end = after;
        }
        if end > i {
            out.push_str(&text[done..i]);
            out.push_str("(?+)");
            done = end;
            i = end;
        }
    }
    if done == 0 {
        return text;
    }
    out.push_str(&text[done..]);
    out
}

/// The end of a bracket of nothing but values, commas and spaces.
fn list_end(b: &[u8], mut i: usize) -> Option<usize> {
    while matches!(b.get(i), Some(b' ' | b',')) {
        i += 1;
    }
    if b.get(i) != Some(&b'(') {
        return None;
    }
    i += 1;
    while matches!(b.get(i), Some(b' ' | b',' | b'?')) {
        i += 1;
    }
    (b.get(i) == Some(&b')')).then_some(i + 1)
}

/// `select … union select …` with equal parts to one part and a remark.
fn unions(text: String) -> String {
    if UNION.find(text.as_bytes()).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut tries = 0;
    let mut from = 0;
    let mut done = 0;
    while let Some(at) = find_word(&text[from..], &SELECT).map(|at| from + at) {
        from = at + "select".len();
        if text.as_bytes().get(from) != Some(&b' ') {
            continue;
        }
        let mut seek = from;
        while let Some(union) = text[seek..].find(" union ").map(|n| seek + n) {
            seek = union + " union".len();
            tries += 1;
            if tries > MAX_UNION_TRIES {
                break;
            }
            let part = &text[at..union];
            let mut rest = &text[union..];
            let mut all = "";
            let mut repeated = false;
            while let Some((kind, after)) = repeats(rest, part) {
                all = kind;
                rest = after;
                repeated = true;
            }
            if repeated {
                out.push_str(&text[done..union]);
                out.push_str(" /*repeat union");
                out.push_str(all);
                out.push_str("*/");
                done = text.len() - rest.len();
                from = done;
                break;
            }
        }
    }
    out.push_str(&text[done..]);
    out
}

fn repeats<'a>(text: &'a str, part: &str) -> Option<(&'static str, &'a str)> {
    let after = text.strip_prefix(" union ")?;
    if let Some(rest) = after.strip_prefix(part) {
        return Some(("", rest));
    }
    after
        .strip_prefix("all ")?
        .strip_prefix(part)
        .map(|rest| (" all", rest))
}

/// `limit ?, ?` and `limit ? offset ?` to `limit ?`.
fn limits(text: String) -> String {
    if LIMIT.find(text.as_bytes()).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = find_word(rest, &LIMIT) {
        let (head, tail) = rest.split_at(at + "limit".len());
        out.push_str(head);
        rest = tail;
        if let Some(after) = tail.strip_prefix(" ?") {
            out.push_str(" ?");
            rest = [", ?", ",?", " offset ?"]
                .iter()
                .find_map(|more| after.strip_prefix(more))
                .unwrap_or(after);
        }
    }
    out.push_str(rest);
    out
}

/// After ORDER BY, `asc` says nothing.
fn ascending(text: String) -> String {
    let Some(order) = find_word(&text, &ORDER_BY) else {
        return text;
    };
    let mut out = String::with_capacity(text.len());
    let (head, mut rest) = text.split_at(order);
    out.push_str(head);
    while let Some(at) = find_word(rest, &ASC) {
        out.push_str(rest[..at].strip_suffix(' ').unwrap_or(&rest[..at + 3]));
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    out
}
