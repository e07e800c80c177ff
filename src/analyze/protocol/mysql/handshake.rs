//! The connection phase: greeting, handshake response, SSL request, COM_CHANGE_USER.

use super::packet::{Fields, push_text};
use super::result::is_error;
use crate::analyze::protocol::Sent;

pub const CLIENT_MYSQL: u64 = 1;
pub const CLIENT_CONNECT_WITH_DB: u64 = 1 << 3;
pub const CLIENT_COMPRESS: u64 = 1 << 5;
pub const CLIENT_PROTOCOL_41: u64 = 1 << 9;
pub const CLIENT_SSL: u64 = 1 << 11;
pub const CLIENT_SECURE_CONNECTION: u64 = 1 << 15;
pub const CLIENT_PLUGIN_AUTH_LENENC: u64 = 1 << 21;
pub const CLIENT_SESSION_TRACK: u64 = 1 << 23;
pub const CLIENT_DEPRECATE_EOF: u64 = 1 << 24;
pub const CLIENT_OPTIONAL_RESULTSET_METADATA: u64 = 1 << 25;
pub const CLIENT_ZSTD: u64 = 1 << 26;
pub const CLIENT_QUERY_ATTRIBUTES: u64 = 1 << 27;

/// Names longer than this are cut.
const MAX_NAME: usize = 256;

/// What a server says first.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub capabilities: u64,
}

/// What a client answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    pub capabilities: u64,
    pub user: String,
    pub database: String,
}

/// The greeting (protocol 10: "HandshakeV10"; 9 is older than 3.21).
pub fn greeting(payload: &[u8]) -> Option<Greeting> {
    let mut f = Fields(payload);
    let protocol = f.u8()?;
    let version = f.until_nul();
    if !(9..=10).contains(&protocol) || !is_version(version) {
        return None;
    }
    let version = name(version);
    f.u32()?; // thread id
    if protocol == 9 {
        return Some(Greeting {
            version,
            capabilities: 0,
        });
    }
    f.take(9)?; // first part of the scramble, filler
    let lower = u64::from(f.u16()?);
    let mut capabilities = lower;
    // Servers before 4.1 stop here.
    if f.take(3).is_some() {
        capabilities |= u64::from(f.u16().unwrap_or(0)) << 16;
        f.take(1 + 6);
        let extended = f.u32().unwrap_or(0);
        if capabilities & CLIENT_MYSQL == 0 {
            capabilities |= u64::from(extended) << 32;
        }
    }
    Some(Greeting { version, capabilities })
}

fn is_version(version: &[u8]) -> bool {
    (1..=200).contains(&version.len()) && version.iter().all(|b| (0x20..0x7f).contains(b))
}

/// The SSL request: the front of a handshake response, and nothing more; TLS begins after it.
pub fn is_ssl_request(payload: &[u8]) -> bool {
    let mut f = Fields(payload);
    match (payload.len(), f.u16()) {
        (32 | 5, Some(lower)) => u64::from(lower) & CLIENT_SSL != 0,
        _ => false,
    }
}

/// The handshake response (4.1 and later; the older form for servers without CLIENT_PROTOCOL_41).
pub fn response(payload: &[u8]) -> Option<Login> {
    let mut f = Fields(payload);
    let lower = u64::from(f.u16()?);
    if lower & CLIENT_PROTOCOL_41 == 0 {
        f.u24()?;
        let user = name(f.until_nul());
        f.until_nul();
        let database = if lower & CLIENT_CONNECT_WITH_DB != 0 {
            name(f.until_nul())
        } else {
            String::new()
        };
        return Some(Login {
            capabilities: lower,
            user,
            database,
        });
    }
    let mut capabilities = lower | u64::from(f.u16()?) << 16;
    f.take(4 + 1 + 19)?; // largest packet, charset, filler
    let extended = f.u32()?;
    if capabilities & CLIENT_MYSQL == 0 {
        capabilities |= u64::from(extended) << 32;
    }
    let user = name(f.until_nul());
    if capabilities & CLIENT_PLUGIN_AUTH_LENENC != 0 {
        f.text();
    } else if capabilities & CLIENT_SECURE_CONNECTION != 0 {
        let n = f.u8().unwrap_or(0);
        f.take(usize::from(n));
    } else {
        f.until_nul();
    }
    let database = if capabilities & CLIENT_CONNECT_WITH_DB != 0 {
        name(f.until_nul())
    } else {
        String::new()
    };
    // Plugin name and connect attributes follow; nothing of them is kept.
    Some(Login {
        capabilities,
        user,
        database,
    })
}

/// COM_CHANGE_USER (its command byte left out): user, database.
pub fn change_user(payload: &[u8], capabilities: Option<u64>) -> (String, String) {
    let mut f = Fields(payload);
    let user = name(f.until_nul());
    if capabilities.is_none_or(|c| c & CLIENT_SECURE_CONNECTION != 0) {
        let n = f.u8().unwrap_or(0);
        f.take(usize::from(n));
    } else {
        f.until_nul();
    }
    (user, name(f.until_nul()))
}

fn name(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_text(&mut text, &bytes[..bytes.len().min(MAX_NAME)]);
    text
}

/// Whether a server's first bytes are a MySQL greeting, or its refusal (too many connections, host blocked) that comes
/// instead of one. At least 5 bytes are needed for a yes.
pub fn looks_like_greeting(bytes: &[u8]) -> bool {
    let [a, b, 0, 0, first, rest @ ..] = bytes else {
        return false;
    };
    let len = usize::from(*a) | usize::from(*b) << 8;
    match first {
        9 | 10 if (20..=1024).contains(&len) => {
            let version = &rest[..rest.len().min(len - 1)];
            match memchr::memchr(0, version) {
                Some(at) => is_version(&version[..at]),
                None => version.len() <= 200 && version.iter().all(|b| (0x20..0x7f).contains(b)),
            }
        }
        // ERR: code 1000..=4999, then text.
        0xff if (4..=600).contains(&len) => match rest {
            [lo, hi, text @ ..] => {
                (1000..5000).contains(&u16::from_le_bytes([*lo, *hi])) && text.iter().take(8).all(|b| *b >= 0x20)
            }
            _ => true,
        },
        _ => false,
    }
}

/// Whether these bytes are a greeting, or an error that nobody asked for, and nothing else: what looks like one by chance,
/// in the middle of a connection, has not its filler or its state, nor its length.
pub fn is_greeting(sent: Sent<'_>) -> bool {
    let Some(([a, b, 0, 0], payload)) = sent.bytes.split_first_chunk::<4>() else {
        return false;
    };
    let len = u64::from(*a) | u64::from(*b) << 8;
    if len + 4 != sent.len {
        return false;
    }
    let mut f = Fields(payload);
    let (protocol, version) = (f.u8(), f.until_nul());
    f.take(4 + 8); // thread id, first part of the scramble
    let filler = f.u8();
    f.take(2 + 1 + 2 + 2 + 1); // capabilities, charset, status
    let reserved = f.take(6);
    let is_zero = reserved.is_some_and(|reserved| reserved.iter().all(|byte| *byte == 0));
    (protocol == Some(10) && is_version(version) && filler == Some(0) && is_zero) || is_error(payload)
}

/// Whether a client's first bytes are a handshake response, or the SSL request that stands before it: sequence id 1, and
/// nineteen bytes of filler that nobody uses.
pub fn looks_like_login(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<4>() {
        Some(([a, b, 0, 1], payload)) => {
            let len = usize::from(*a) | usize::from(*b) << 8;
            len >= 32
                && payload
                    .get(9..28)
                    .is_some_and(|filler| filler.iter().all(|byte| *byte == 0))
        }
        _ => false,
    }
}
