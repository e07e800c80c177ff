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

/// Whether a client's bytes begin with a command packet, plain or in a compressed frame. At least 5 bytes are needed
/// for a yes; more make it surer.
pub fn looks_like_command(bytes: &[u8]) -> bool {
    is_plain_command(bytes) || super::compress::looks_like_command(bytes)
}

/// Whether these bytes begin with a command packet that is not compressed.
pub(super) fn is_plain_command(bytes: &[u8]) -> bool {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return false;
    };
    let (len, [command, args @ ..]) = (length(header), body) else {
        return false;
    };
    if header[3] != 0 || len == 0 {
        return false;
    }
    let args = &args[..args.len().min(len - 1)];
    match *command {
        COM_QUIT | COM_STATISTICS | COM_PROCESS_INFO | COM_DEBUG | COM_PING | COM_RESET_CONNECTION => len == 1,
        COM_QUERY => len >= 2 && (has_attributes(body) || is_text(args)),
        COM_STMT_PREPARE => len >= 2 && is_text(args),
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
    }
}

/// Text as a person or program writes SQL: no control bytes at its front.
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take(12)
        .all(|b| *b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r'))
}
