//! Whether a connection speaks memcached's text protocol: its words are short, so that both directions are asked, unless one
//! says what nothing else says.

use super::parse::{self, Answer, Command, Reply, Said};
use crate::analyze::protocol::{Detected, Sent};

/// A command that stores says how many bytes it stores, and other numbers: nothing else does. Others are believed when they
/// are answered.
pub(super) fn of_client(sent: Sent<'_>) -> Detected {
    match parse::line(sent.bytes).map(|line| parse::command(line.text)) {
        Some(Said::Command(command)) if !command.is_sound => Detected::No,
        Some(Said::Command(command)) if command.data.is_some() => Detected::Yes,
        Some(_) => Detected::More,
        // What follows was not captured.
        None if sent.len > sent.bytes.len() as u64 => Detected::No,
        None if parse::may_become_command(sent.bytes) => Detected::More,
        None => Detected::No,
    }
}

/// An item says its length too; and only memcached stores.
pub(super) fn of_server(sent: Sent<'_>) -> Detected {
    match parse::line(sent.bytes).map(|line| (line.text, parse::reply(line.text))) {
        Some((_, Reply::Value(..))) => Detected::Yes,
        Some((b"STORED" | b"NOT_STORED", _)) => Detected::Yes,
        _ => Detected::No,
    }
}

/// Commands, each with the answer to it, up to the first that nothing else says so.
pub(super) fn of_both(client: Sent<'_>, server: Sent<'_>) -> Detected {
    let (mut asked, mut said) = (client.bytes, server.bytes);
    loop {
        let Some(line) = parse::line(asked) else {
            return match parse::may_become_command(asked) {
                true => Detected::More,
                false => Detected::No,
            };
        };
        let command = parse::command(line.text);
        asked = &asked[line.used..];
        match command {
            Said::Command(command) if !command.is_sound => return Detected::No,
            Said::Command(command) if command.data.is_some() => return Detected::Yes,
            Said::Command(command) if command.answer == Answer::Nothing => continue,
            _ => {}
        }
        let Some(line) = parse::line(said) else {
            let may_come = server.len == server.bytes.len() as u64 && said.len() <= parse::MAX_KEY;
            return match may_come {
                true => Detected::More,
                false => Detected::No,
            };
        };
        said = &said[line.used..];
        match command {
            Said::Command(command) if is_own(&command, line.text) => return Detected::Yes,
            Said::Command(command) if parse::fits(command.name, command.answer, parse::reply(line.text)) => {}
            Said::Leave(why) if parse::is_meta_answer(line.text) => return Detected::Named(why),
            Said::Command(_) | Said::Leave(_) => return Detected::No,
        }
    }
}

/// Whether nothing else answers such a command so.
fn is_own(command: &Command<'_>, answer: &[u8]) -> bool {
    let reply = parse::reply(answer);
    let is_error = matches!(reply, Reply::ClientError | Reply::ServerError);
    // beanstalkd deletes and touches by number.
    let is_shared = matches!(command.name, b"delete" | b"touch") && parse::number(command.key).is_some();
    let is_own = match command.answer {
        Answer::Values => true,
        Answer::Key => !is_error && !is_shared,
        Answer::Lines => reply == Reply::Detail,
        Answer::Line | Answer::Nothing => reply == Reply::Word(b"VERSION"),
    };
    is_own && parse::fits(command.name, command.answer, reply)
}
