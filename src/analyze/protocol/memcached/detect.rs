//! Whether a connection speaks memcached's text protocol: its words are short, and others use them, so that a command is
//! believed with its answer. One direction alone is believed where it holds data of the lengths that it declares.

use super::parse::{self, Answer, Command, Reply, Said};
use crate::analyze::protocol::{Detected, Sent};

/// Bytes of commands that may be no command, and are kept until they are answered.
const MAX_UNSURE: usize = 8 * 1024;
/// The end of a line.
const LINE_END: &[u8] = b"\r\n";

/// A command is believed when it is answered.
pub(super) fn of_client(sent: Sent<'_>) -> Detected {
    match of_client_alone(sent) {
        Detected::Yes => Detected::More,
        other => other,
    }
}

/// Where nothing is answered: two commands that store are believed, each with its data, or one that asks for no answer.
fn of_client_alone(sent: Sent<'_>) -> Detected {
    let mut rest = sent.bytes;
    for _ in 0..2 {
        let Some(line) = parse::line(rest) else {
            return match rest.len() == sent.bytes.len() {
                // What follows was not captured.
                true if sent.len > sent.bytes.len() as u64 => Detected::No,
                true if !parse::may_become_command(rest) => Detected::No,
                _ => Detected::More,
            };
        };
        let is_first = rest.len() == sent.bytes.len();
        rest = &rest[line.used..];
        let Said::Command(command) = parse::command(line.text) else {
            return Detected::More;
        };
        if !command.is_sound {
            return if is_first { Detected::No } else { Detected::More };
        }
        let Some(data) = command.data else {
            return Detected::More;
        };
        match data_end(rest, data) {
            Some(Ok(_)) if command.noreply => return Detected::Yes,
            Some(Ok(end)) => rest = &rest[end..],
            Some(Err(())) if is_first => return Detected::No,
            _ => return Detected::More,
        }
    }
    Detected::Yes
}

/// Where so many bytes of data end, with the end of their line; an error where that is not there.
fn data_end(bytes: &[u8], data: u64) -> Option<Result<usize, ()>> {
    let data = usize::try_from(data).ok()?;
    let end = bytes.get(data..data.checked_add(LINE_END.len())?)?;
    Some(match end == LINE_END {
        true => Ok(data + LINE_END.len()),
        false => Err(()),
    })
}

/// Text that a server may answer with an error.
pub(super) fn may_be_answered(sent: Sent<'_>) -> bool {
    sent.bytes.len() as u64 == sent.len && sent.bytes.len() <= MAX_UNSURE && is_text(sent.bytes)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte >= b' ' || matches!(byte, b'\r' | b'\n' | b'\t'))
}

/// An item with its data, and what stands behind it; or what only memcached says, twice.
pub(super) fn of_server(sent: Sent<'_>) -> Detected {
    let mut rest = sent.bytes;
    let mut lines = 0;
    let mut has_stored = false;
    while let Some(line) = parse::line(rest) {
        rest = &rest[line.used..];
        match parse::reply(line.text) {
            Reply::Value(_, data) => match data_end(rest, data) {
                Some(Ok(end)) => {
                    rest = &rest[end..];
                    let behind = [&b"END\r\n"[..], b"VALUE "];
                    match behind.iter().any(|word| rest.starts_with(word)) {
                        true => return Detected::Yes,
                        false if behind.iter().any(|word| word.starts_with(rest)) => return Detected::More,
                        false => return Detected::No,
                    }
                }
                Some(Err(())) => return Detected::No,
                // A long item: nothing else says so.
                None if sent.len > sent.bytes.len() as u64 || rest.len() >= MAX_UNSURE => return Detected::Yes,
                None => return Detected::More,
            },
            Reply::Word(b"STORED" | b"NOT_STORED") => has_stored = true,
            Reply::Word(_) | Reply::End | Reply::ClientError | Reply::ServerError => {}
            _ => return Detected::No,
        }
        lines += 1;
        if has_stored && lines > 1 {
            return Detected::Yes;
        }
    }
    match has_stored {
        true => Detected::More,
        false => Detected::No,
    }
}

/// Commands, each with the answer to it, up to the first that nothing else says so.
pub(super) fn of_both(client: Sent<'_>, server: Sent<'_>) -> Detected {
    if server.len == 0 && of_client_alone(client) == Detected::Yes {
        return Detected::Yes;
    }
    let (mut asked, mut said) = (client.bytes, server.bytes);
    // Lines that were answered with an error, as memcached answers what it does not understand.
    let mut is_refused = false;
    loop {
        let Some(line) = parse::line(asked) else {
            let may_come = is_refused && asked.len() <= MAX_UNSURE && is_text(asked);
            return match may_come || parse::may_become_command(asked) {
                true => Detected::More,
                false => Detected::No,
            };
        };
        let command = parse::command(line.text);
        asked = &asked[line.used..];
        if let Said::Command(command) = command
            && command.answer == Answer::Nothing
        {
            match behind_data(asked, &command) {
                Some(behind) => asked = behind,
                None => return Detected::More,
            }
            continue;
        }
        let Some(answer) = parse::line(said) else {
            let is_whole = server.len == server.bytes.len() as u64;
            let may_come = match command {
                Said::Command(command) if !command.is_sound && !is_refused => may_become_error(said),
                Said::Command(_) | Said::Leave(_) => said.len() <= parse::MAX_KEY,
            };
            return match may_come && is_whole {
                true => Detected::More,
                false => Detected::No,
            };
        };
        match command {
            Said::Command(command) if is_own(&command, answer.text) => return Detected::Yes,
            Said::Command(command) if parse::fits(&command, parse::reply(answer.text)) => {
                is_refused |= !command.is_sound;
                said = &said[answer.used..];
                match behind_data(asked, &command) {
                    Some(behind) => asked = behind,
                    None => return Detected::More,
                }
            }
            Said::Leave(why) if parse::is_meta_answer(answer.text) => return Detected::Named(why),
            Said::Command(_) | Said::Leave(_) => return Detected::No,
        }
    }
}

/// What a client said behind the data of a command; nothing while they are not all there.
fn behind_data<'a>(asked: &'a [u8], command: &Command<'_>) -> Option<&'a [u8]> {
    let Some(data) = command.data else { return Some(asked) };
    // What is longer than it should be is refused, and the rest is read as a line.
    let end = data_end(asked, data)?.unwrap_or(data as usize + LINE_END.len());
    asked.get(end..)
}

/// The beginning of a line that says that a command was not understood.
fn may_become_error(text: &[u8]) -> bool {
    let errors = [&b"ERROR"[..], b"CLIENT_ERROR "];
    !text.is_empty()
        && text.len() <= parse::MAX_KEY
        && errors
            .iter()
            .any(|error| error.starts_with(text) || text.starts_with(error))
}

/// Whether nothing else answers such a command so.
fn is_own(command: &Command<'_>, answer: &[u8]) -> bool {
    let reply = parse::reply(answer);
    let is_error = matches!(reply, Reply::ClientError | Reply::ServerError);
    // beanstalkd deletes and touches by number.
    let is_shared = matches!(command.name, b"delete" | b"touch") && parse::number(command.key).is_some();
    let is_own = match command.answer {
        Answer::Values | Answer::Key => !is_error && !is_shared,
        Answer::Lines => reply == Reply::Detail,
        Answer::Line | Answer::Nothing => reply == Reply::Word(b"VERSION"),
    };
    is_own && command.is_sound && parse::fits(command, reply)
}
