//! Whether a connection speaks MySQL. From its start the handshake says so. In its middle many protocols begin their messages with a length, so
//! both directions are asked, and whether packets end where what was sent does.

use std::cmp::Ordering;

use super::command::{self, Kind};
use super::compress;
use super::handshake::{is_greeting, looks_like_greeting, looks_like_login};
use super::message::COM_QUIT;
use super::packet::{HEADER, length};
use super::result::looks_like_response;
use crate::analyze::exchange::Side;
use crate::analyze::protocol::{Detected, Sent};

/// What the commands say that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commands {
    No,
    /// They may be some with more bytes.
    More,
    /// They are believed when the server answers them.
    Binary,
    /// SQL is in them.
    Statement,
}

/// In a connection seen from its start the server speaks first, and the client's first packet is no command.
pub(super) fn of_client(sent: Sent<'_>, joined: bool) -> Detected {
    match !joined && looks_like_login(sent.bytes) {
        true => Detected::Yes,
        false => Detected::No,
    }
}

/// Of all that a server sends, only the greeting has sequence id 0.
pub(super) fn of_server(sent: Sent<'_>, joined: bool) -> Detected {
    let bytes = sent.bytes;
    match joined {
        true if is_greeting(sent) => Detected::Yes,
        false if looks_like_greeting(bytes) => Detected::Yes,
        // A packet header that was written alone.
        false if bytes.len() < 5 && bytes.iter().skip(2).all(|b| *b == 0) => Detected::More,
        _ => Detected::No,
    }
}

/// From its start, the greeting or the login alone tells.
pub(super) fn of_both(client: Sent<'_>, server: Sent<'_>, joined: bool) -> Detected {
    if !joined {
        return Detected::No;
    }
    match is_joined(client, server) {
        Some(true) => Detected::Yes,
        Some(false) => Detected::No,
        None => Detected::More,
    }
}

/// Whether a client's commands, with what the server sent, are MySQL; `None` when more has to be seen.
pub fn is_joined(client: Sent<'_>, server: Sent<'_>) -> Option<bool> {
    let (commands, is_answer): (_, fn(Sent<'_>) -> Option<bool>) = match plain_commands(client) {
        Commands::No => (compressed_commands(client), compressed_answer),
        commands => (commands, plain_answer),
    };
    match commands {
        Commands::No => Some(false),
        Commands::Statement => Some(true),
        Commands::More | Commands::Binary if server.len == 0 => None,
        // It speaks while the command goes on: of something else.
        Commands::More => Some(false),
        Commands::Binary => is_answer(server),
    }
}

/// Whether the bytes of one call may be commands, the first of which begins it.
pub(super) fn may_be_commands(bytes: &[u8]) -> bool {
    plain_commands(Sent::whole(bytes)) != Commands::No
}

/// Command packets, one after the other, up to the end of what was sent.
fn plain_commands(client: Sent<'_>) -> Commands {
    let (mut at, mut says) = (0, Commands::More);
    while let Some(rest) = client.bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(header) = rest.first_chunk::<HEADER>().filter(|_| rest.len() > HEADER) else {
            let may_begin = rest.get(HEADER - 1).is_none_or(|seq| *seq == 0);
            return if may_begin { Commands::More } else { Commands::No };
        };
        says = match command::kind(rest) {
            None => return Commands::No,
            Some(Kind::Statement) => Commands::Statement,
            Some(Kind::Binary) if says == Commands::Statement => says,
            Some(Kind::Binary) => Commands::Binary,
        };
        at += HEADER + length(header);
        if rest[HEADER] == COM_QUIT && (at as u64) < client.len {
            return Commands::No;
        }
    }
    match says {
        // It goes on beyond what was sent.
        Commands::Binary if at as u64 != client.len => Commands::More,
        says => says,
    }
}

/// The packets of a response, numbered from 1 on. What was sent ends with one of them, or in its midst: where it ends within
/// a header, more has to be seen.
fn plain_answer(server: Sent<'_>) -> Option<bool> {
    let (mut at, mut seq, mut is_whole) = (0, 0u8, false);
    while let Some(rest) = server.bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let header = rest.first_chunk::<HEADER>().filter(|_| rest.len() > HEADER)?;
        let goes_on = at > 0 && header[3] == seq.wrapping_add(1);
        // Where several commands were sent, the next response may follow.
        let fits = goes_on || looks_like_response(rest, 0);
        if !fits {
            return Some(false);
        }
        seq = header[3];
        at += HEADER + length(header);
        is_whole |= at as u64 <= server.len;
    }
    is_whole.then_some(true)
}

/// One compressed frame that ends where what was sent does, and holds a command.
fn compressed_commands(client: Sent<'_>) -> Commands {
    let Some(len) = compress::frame_len(client.bytes) else {
        return Commands::No;
    };
    match (len.cmp(&client.len), compress::looks_like_command(client.bytes)) {
        (Ordering::Equal, true) => Commands::Binary,
        (Ordering::Greater, true) => Commands::More,
        // Some clients write the header alone.
        (Ordering::Greater, false) if client.bytes.len() == compress::HEADER => Commands::More,
        _ => Commands::No,
    }
}

/// The first compressed frame of a response.
fn compressed_answer(server: Sent<'_>) -> Option<bool> {
    let len = compress::frame_len(server.bytes)?;
    let fits = server.bytes[3] == 1 && compress::looks_like_frame(Side::Server, server.bytes);
    match fits {
        true => (len <= server.len).then_some(true),
        false => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
        [&[payload.len() as u8, 0, 0, seq], payload].concat()
    }

    fn joined(client: &[u8], server: &[u8]) -> Option<bool> {
        is_joined(Sent::whole(client), Sent::whole(server))
    }

    const OK: &[u8] = &[7, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];

    #[test]
    fn a_statement_speaks_for_itself() {
        for text in [
            &b"\x03select 1"[..],
            b"\x03\0\x01select 1",
            b"\x16insert into t values (?)",
            b"\x03 /* c */ x",
        ] {
            let command = packet(0, text);
            assert_eq!(joined(&command, b""), Some(true), "{text:?}");
            let long = Sent {
                bytes: &command,
                len: 5000,
            };
            assert_eq!(is_joined(long, Sent::default()), Some(true), "cut by the snaplen");
        }
        let mut first = packet(0, b"\x03select 1");
        first.extend_from_slice(&packet(0, b"\x03select 2"));
        assert_eq!(joined(&first, b""), Some(true));
        first.extend_from_slice(b"something else");
        assert_eq!(joined(&first, b""), Some(false));
    }

    #[test]
    fn a_binary_command_needs_its_answer() {
        let execute = packet(0, b"\x17\x01\0\0\0\0\x01\0\0\0");
        let result = [
            packet(1, &[1]),
            packet(2, b"\x03def"),
            packet(3, b"\0\0z"),
            packet(4, &[0xfe, 0, 0, 2, 0]),
        ]
        .concat();
        for command in [
            packet(0, &[0x0e]),
            execute.clone(),
            [packet(0, b"\x19\x01\0\0\0"), execute].concat(),
        ] {
            assert_eq!(joined(&command, b""), None, "it may still come");
            assert_eq!(joined(&command, OK), Some(true));
            assert_eq!(joined(&command, &result), Some(true));
            assert_eq!(
                joined(&command, &result[..result.len() - 2]),
                Some(true),
                "a part of it"
            );
            assert_eq!(joined(&command, &[OK, OK].concat()), Some(true), "two of them");
            assert_eq!(joined(&command, &[7, 0, 0]), None);
            assert_eq!(
                joined(&command, &[OK, &[7, 0, 0]].concat()),
                None,
                "it ends within a header"
            );
            for answer in [
                &b"\x17\x03\x03\x00\xfa"[..],
                b"HTTP/1.1 200 OK\r\n",
                &[7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0],
                &[OK, b"xxxxx"].concat(),
            ] {
                assert_eq!(joined(&command, answer), Some(false), "{answer:?}");
            }
            let longer = [&command[..], b"x"].concat();
            assert_ne!(
                joined(&longer, OK),
                Some(true),
                "it does not end where its segment does"
            );
        }
    }

    #[test]
    fn compressed_commands_need_their_answer_too() {
        let command = [&[5, 0, 0, 0, 0, 0, 0][..], &packet(0, &[0x0e])].concat();
        let answer = [&[11, 0, 0, 1, 0, 0, 0][..], OK].concat();
        assert_eq!(joined(&command, b""), None);
        assert_eq!(joined(&command, &answer), Some(true));
        assert_eq!(joined(&command[..7], b""), None, "its header");
        assert_eq!(joined(&command, OK), Some(false));
        // Joined between the header and the content.
        assert_eq!(joined(&command[7..], &answer), None);
        assert_eq!(joined(&[&command[..], b"x"].concat(), &answer), Some(false));
    }

    /// TLS, MongoDB, PostgreSQL, SMB2 and Bitcoin, which were read as commands.
    #[test]
    fn what_only_looks_like_a_command_is_none() {
        let query = [&b"Q\x00\x00\x00\x18select * from test;\x00"[..], b""].concat();
        for bytes in [
            &[&b"\x17\x03\x03\x00\xfa"[..], &[0xaa; 250]].concat()[..],
            b"\x44\x00\x00\x00\x03\x00\x01\x00\x00\x00\x00\x00\xd4\x07\x00\x00\x00\x00\x00\x00test.$cmd\x00",
            &query,
            b"\x00\x00\x00\x48\xfeSMB\x40\x00",
            b"\xf9\xbe\xb4\xd9version\x00\x00\x00\x00\x00",
        ] {
            assert_ne!(joined(bytes, b""), Some(true), "{bytes:?}");
            assert_eq!(joined(bytes, b"\x15\x03\x03\x00\x02\x01\x00"), Some(false), "{bytes:?}");
        }
    }
}
