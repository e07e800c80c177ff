//! What the server sends in the command phase: OK, EOF and ERR packets, and the first packet of each response.

use super::packet::{Fields, HEADER, length};

/// An OK packet (also the one that ends rows under CLIENT_DEPRECATE_EOF), or an EOF packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Okay<'a> {
    pub affected_rows: u64,
    pub last_insert_id: u64,
    pub status: u16,
    pub warnings: u16,
    /// What follows: info, session state.
    pub rest: &'a [u8],
}

/// Reads an OK packet, first byte included. Fields beyond its end are 0.
pub fn okay(payload: &[u8]) -> Okay<'_> {
    let mut f = Fields(payload);
    f.u8();
    let affected_rows = f.lenenc().unwrap_or(0);
    let last_insert_id = f.lenenc().unwrap_or(0);
    let status = f.u16().unwrap_or(0);
    let warnings = f.u16().unwrap_or(0);
    Okay {
        affected_rows,
        last_insert_id,
        status,
        warnings,
        rest: f.0,
    }
}

/// Reads an EOF packet, first byte included.
pub fn eof(payload: &[u8]) -> Okay<'_> {
    let mut f = Fields(payload);
    f.u8();
    let warnings = f.u16().unwrap_or(0);
    let status = f.u16().unwrap_or(0);
    Okay {
        status,
        warnings,
        rest: f.0,
        ..Okay::default()
    }
}

/// Reads what ends rows, `len` bytes long: an EOF packet, or the OK that stands for it (CLIENT_DEPRECATE_EOF).
pub fn end(len: u64, payload: &[u8]) -> Okay<'_> {
    match len < 6 {
        true => eof(payload),
        false => okay(payload),
    }
}

/// The new default schema in an OK packet's session state (SESSION_TRACK_SCHEMA).
pub fn tracked_schema<'a>(ok: &Okay<'a>) -> Option<&'a [u8]> {
    const SCHEMA: u8 = 1;
    let mut f = Fields(ok.rest);
    f.text()?; // info
    let mut changes = Fields(f.text()?);
    loop {
        let kind = changes.u8()?;
        let change = changes.text()?;
        if kind == SCHEMA {
            return Fields(change).text();
        }
    }
}

/// An ERR packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failure<'a> {
    pub code: u16,
    pub sqlstate: &'a [u8],
    pub message: &'a [u8],
}

/// MariaDB sends reports of progress in ERR packets with this code (CLIENT_PROGRESS).
pub const PROGRESS: u16 = 0xffff;

/// Reads an ERR packet, first byte included.
pub fn failure(payload: &[u8]) -> Failure<'_> {
    let mut f = Fields(payload);
    f.u8();
    let code = f.u16().unwrap_or(0);
    let mut sqlstate: &[u8] = &[];
    if f.0.first() == Some(&b'#') && f.0.len() >= 6 {
        f.u8();
        sqlstate = f.take(5).unwrap_or_default();
    }
    Failure {
        code,
        sqlstate,
        message: f.0,
    }
}

/// Whether this is an ERR packet and nothing else: a code that servers give, a state, and text to the end.
pub fn is_error(payload: &[u8]) -> bool {
    let failure = failure(payload);
    let is_text = |text: &[u8]| {
        text.iter()
            .all(|b| *b >= b' ' && *b != 0x7f || matches!(b, b'\t' | b'\n' | b'\r'))
    };
    payload.first() == Some(&0xff)
        && (1000..=9999).contains(&failure.code)
        && failure.sqlstate.len() == 5
        && failure.sqlstate.iter().all(u8::is_ascii_alphanumeric)
        && is_text(failure.message)
}

/// The answer to COM_STMT_PREPARE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    pub id: u32,
    pub columns: u16,
    pub parameters: u16,
    pub warnings: u16,
    /// Definitions follow (CLIENT_OPTIONAL_RESULTSET_METADATA).
    pub metadata: bool,
}

/// Reads the OK of COM_STMT_PREPARE.
pub fn prepared(payload: &[u8]) -> Option<Prepared> {
    let mut f = Fields(payload);
    f.u8()?;
    let id = f.u32()?;
    let columns = f.u16()?;
    let parameters = f.u16()?;
    f.u8();
    let warnings = f.u16().unwrap_or(0);
    Some(Prepared {
        id,
        columns,
        parameters,
        warnings,
        metadata: f.u8() != Some(0),
    })
}

/// The head of a result set: column count, and whether definitions follow. They do unless a flag after the count says
/// no (CLIENT_OPTIONAL_RESULTSET_METADATA, MARIADB_CLIENT_CACHE_METADATA); without these there is no flag.
pub fn columns(payload: &[u8]) -> Option<(u32, bool)> {
    let mut f = Fields(payload);
    let count = u32::try_from(f.lenenc()?).ok()?;
    let metadata = f.u8() != Some(0);
    ((1..=65535).contains(&count) && f.0.is_empty()).then_some((count, metadata))
}

/// Whether these bytes (5 at least) can be the first packet that answers a command whose last packet had sequence id
/// `before`: used to find the next response after a hole.
pub fn looks_like_response(bytes: &[u8], before: u8) -> bool {
    let Some((header, [first, rest @ ..])) = bytes.split_first_chunk::<HEADER>() else {
        return false;
    };
    let len = length(header);
    if header[3] != before.wrapping_add(1) || len == 0 {
        return false;
    }
    match first {
        // OK, or a prepared statement, or a binary row (COM_STMT_FETCH).
        0x00 => len >= 5,
        0xff => len >= 3 && rest.get(2).is_none_or(|b| *b == b'#' || *b >= 0x20),
        0xfe => len < 9 || rest.first().is_some_and(|b| *b < 0x80),
        0xfb => len < 1024,
        0x01..=0xfa => {
            // A column count; a column definition (COM_FIELD_LIST); text (COM_STATISTICS).
            len <= 2 || rest.starts_with(b"def") || bytes[HEADER..].starts_with(b"Uptime")
        }
        0xfc => (3..=4).contains(&len),
        0xfd => false,
    }
}
