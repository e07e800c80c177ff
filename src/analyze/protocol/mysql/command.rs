//! What the client sends in the command phase.

use super::message::*;
use super::packet::{Fields, HEADER, length};

/// How a command is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// OK, ERR, EOF, or result sets.
    Results,
    /// A prepared statement.
    Prepared,
    /// Rows without column definitions (COM_STMT_FETCH).
    Rows,
    /// Column definitions, then an end (COM_FIELD_LIST).
    Fields,
    /// One packet, whatever it says (COM_STATISTICS).
    Text,
    /// Authentication again (COM_CHANGE_USER).
    Login,
    /// Never answered.
    Nothing,
    /// A stream without an end (replication, clone).
    Endless(&'static str),
}

/// How this command is answered; `None` when it is no command.
pub fn answer(command: u8) -> Option<Answer> {
    Some(match command {
        COM_QUIT | COM_STMT_CLOSE | COM_STMT_SEND_LONG_DATA => Answer::Nothing,
        COM_STMT_PREPARE => Answer::Prepared,
        COM_STMT_FETCH => Answer::Rows,
        COM_FIELD_LIST => Answer::Fields,
        COM_STATISTICS => Answer::Text,
        COM_CHANGE_USER => Answer::Login,
        COM_BINLOG_DUMP | COM_BINLOG_DUMP_GTID | COM_TABLE_DUMP => Answer::Endless("MySQL replication"),
        COM_CLONE => Answer::Endless("MySQL clone"),
        0x01..=0x1f | COM_STMT_BULK_EXECUTE => Answer::Results,
        _ => return None,
    })
}

/// Where the SQL text of a COM_QUERY payload begins (the command byte is at 0); `None` when it is not in the payload.
/// Where it is not known whether query attributes precede it, that is guessed, and `inferred` set.
pub fn query_text(payload: &[u8], attributes: Option<bool>, inferred: &mut bool) -> Option<usize> {
    let attributes = match attributes {
        Some(agreed) => agreed,
        None => {
            *inferred = true;
            has_attributes(payload)
        }
    };
    if !attributes {
        return Some(1);
    }
    let mut f = Fields(payload.get(1..)?);
    let count = f.lenenc()?;
    f.lenenc()?; // parameter sets: always 1
    if count > 0 {
        let count = usize::try_from(count).ok()?;
        let nulls = f.take(count.div_ceil(8))?;
        let bound = f.u8()? == 1;
        let mut types = f;
        if bound {
            for _ in 0..count {
                f.u16()?;
                f.text()?;
            }
            for i in 0..count {
                let kind = types.u16()? as u8;
                types.text()?;
                if nulls[i / 8] & (1 << (i % 8)) == 0 {
                    skip_value(&mut f, kind)?;
                }
            }
        }
    }
    Some(payload.len() - f.0.len())
}

/// With attributes, the count of parameter sets (always 1) stands where SQL has its second letter.
fn has_attributes(payload: &[u8]) -> bool {
    matches!(payload, [_, 0xfc, _, _, 1, ..] | [_, _, 1, ..])
}

/// Steps over a value of the binary protocol.
fn skip_value(f: &mut Fields<'_>, kind: u8) -> Option<()> {
    let n = match kind {
        0x01 => 1,                                     // TINY
        0x02 | 0x0d => 2,                              // SHORT, YEAR
        0x03 | 0x09 | 0x04 => 4,                       // LONG, INT24, FLOAT
        0x05 | 0x08 => 8,                              // DOUBLE, LONGLONG
        0x06 => 0,                                     // NULL
        0x07 | 0x0a | 0x0b | 0x0c => f.u8()? as usize, // dates and times
        _ => return f.text().map(|_| ()),
    };
    f.take(n).map(|_| ())
}

/// How much a command packet says for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A statement in SQL.
    Statement,
    /// A command byte, and a length that goes with it.
    Binary,
}

/// Whether these bytes begin with a command packet that is not compressed.
pub(super) fn is_plain_command(bytes: &[u8]) -> bool {
    kind(bytes).is_some()
}

/// The kind of the command packet that these bytes begin with; `None` when it is none.
pub(super) fn kind(bytes: &[u8]) -> Option<Kind> {
    let (header, body) = bytes.split_first_chunk::<HEADER>()?;
    let (len, [command, args @ ..]) = (length(header), body) else {
        return None;
    };
    if header[3] != 0 || len == 0 {
        return None;
    }
    let args = &args[..args.len().min(len - 1)];
    let fits = match *command {
        COM_QUERY | COM_STMT_PREPARE => {
            let payload = &body[..body.len().min(len)];
            return statement_kind(payload).filter(|_| len >= 2);
        }
        COM_QUIT | COM_STATISTICS | COM_PROCESS_INFO | COM_DEBUG | COM_PING | COM_RESET_CONNECTION => len == 1,
        COM_INIT_DB | COM_CREATE_DB | COM_DROP_DB => (2..=1 + 4 * 64).contains(&len) && is_text(args),
        COM_FIELD_LIST => (3..=1024).contains(&len) && is_text(&args[..memchr::memchr(0, args).unwrap_or(args.len())]),
        COM_REFRESH => len == 2,
        COM_SHUTDOWN => len <= 2,
        COM_PROCESS_KILL | COM_STMT_CLOSE | COM_STMT_RESET => len == 5,
        COM_CHANGE_USER => (4..=4096).contains(&len),
        COM_BINLOG_DUMP => (11..=1024).contains(&len),
        COM_BINLOG_DUMP_GTID => (20..=65536).contains(&len),
        COM_REGISTER_SLAVE => (18..=1024).contains(&len),
        // The iteration count is always 1.
        COM_STMT_EXECUTE => len >= 10 && args.get(5..9).is_none_or(|n| n == [1, 0, 0, 0]),
        COM_STMT_BULK_EXECUTE => len >= 7,
        COM_STMT_SEND_LONG_DATA => len >= 7,
        COM_SET_OPTION => len == 3,
        COM_STMT_FETCH => len == 9,
        _ => false,
    };
    fits.then_some(Kind::Binary)
}

/// The kind of a payload that should hold a statement. Query attributes may stand before its text.
fn statement_kind(payload: &[u8]) -> Option<Kind> {
    let (command, text) = payload.split_first()?;
    if text.is_empty() {
        return Some(Kind::Binary);
    }
    if is_statement(text) {
        return Some(Kind::Statement);
    }
    if *command != COM_QUERY || !has_attributes(payload) {
        return None;
    }
    match query_text(payload, Some(true), &mut false).and_then(|at| payload.get(at..)) {
        Some(text) if is_statement(text) => Some(Kind::Statement),
        Some([_, ..]) => None,
        // The text is behind what is there.
        Some([]) | None => Some(Kind::Binary),
    }
}

/// Whether SQL may begin like this: white space, then a word, a parenthesis, a comment, or the brace of an escape.
fn is_statement(text: &[u8]) -> bool {
    let first = text.iter().find(|b| !b.is_ascii_whitespace());
    let begins = |b: &u8| b.is_ascii_alphabetic() || *b >= 0x80 || matches!(b, b'(' | b'/' | b'-' | b'#' | b'{' | b';');
    is_text(text) && first.is_none_or(begins)
}

/// Text as a person or program writes SQL: no control bytes at its front.
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take(12)
        .all(|b| *b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r'))
}
