//! Lines: commands of the client, and what the server says.

/// Bytes of a key (protocol.txt).
pub const MAX_KEY: usize = 250;
/// A line of one command; only `get` and its like, which name any number of keys, may be longer.
pub const MAX_LINE: usize = 64 * 1024;

/// What a line is made of: the bytes before its end, and how many bytes it takes with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub text: &'a [u8],
    pub used: usize,
}

/// The line at the beginning of these bytes; nothing while it has no end. Clients may end lines with LF alone.
pub fn line(bytes: &[u8]) -> Option<Line<'_>> {
    let end = memchr::memchr(b'\n', bytes)?;
    let text = &bytes[..end];
    Some(Line {
        text: text.strip_suffix(b"\r").unwrap_or(text),
        used: end + 1,
    })
}

/// What answers a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Items, one for each key that is there, then END.
    Values,
    /// One line that says whether the key was there, or what was done with it.
    Key,
    /// One line.
    Line,
    /// Lines up to END, or one that is something else.
    Lines,
    Nothing,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    pub name: &'a [u8],
    /// The first.
    pub key: &'a [u8],
    pub keys: u64,
    /// Bytes of data that follow its line, without the end of that line.
    pub data: Option<u64>,
    pub noreply: bool,
    pub answer: Answer,
    /// It is written as protocol.txt says, so that nothing else is likely to look so.
    pub is_sound: bool,
}

/// What the client says in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    Command(Command<'a>),
    /// From here on the connection speaks something else.
    Leave(&'static str),
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// A number; nothing when it is none, or does not fit.
pub fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 20 || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn is_signed(word: &[u8]) -> bool {
    number(word.strip_prefix(b"-").unwrap_or(word)).is_some()
}

fn is_key(word: &[u8]) -> bool {
    !word.is_empty() && word.len() <= MAX_KEY && word.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// Reads a command's line. What is not understood is a command that one line answers, as the server does.
pub fn command(text: &[u8]) -> Said<'_> {
    let mut words = words(text);
    let name = words.next().unwrap_or_default();
    let rest: [&[u8]; 6] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let many = rest.iter().filter(|word| !word.is_empty()).count();
    let is_last = |n: usize| words_end(&rest, n);
    let more = words.count();
    let noreply = |n: usize| rest.get(n).is_some_and(|word| *word == b"noreply");
    let answers = |noreply: bool, answer: Answer| if noreply { Answer::Nothing } else { answer };
    // The last word, whatever the command is: the server looks there before it reads the rest.
    let ends_in_noreply = more == 0 && many > 0 && noreply(many - 1);
    let unknown = Command {
        name,
        key: b"",
        keys: 0,
        data: None,
        noreply: ends_in_noreply,
        answer: answers(ends_in_noreply, Answer::Line),
        is_sound: false,
    };
    let of_key = |with: usize, answer: Answer, is_sound: bool| Command {
        key: rest[0],
        keys: 1,
        noreply: noreply(with),
        answer: answers(noreply(with), answer),
        is_sound: is_sound && is_key(rest[0]) && more == 0 && (is_last(with) || (noreply(with) && is_last(with + 1))),
        ..unknown
    };
    let command = match name {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => {
            let with = if name == b"cas" { 5 } else { 4 };
            let data = number(rest[3]).filter(|data| *data < (1 << 31) - 2);
            let numbers = number(rest[1]).is_some() && is_signed(rest[2]) && (with == 4 || number(rest[4]).is_some());
            let stores = of_key(with, Answer::Key, numbers && data.is_some());
            match stores.is_sound {
                true => Command { data, ..stores },
                // No data are taken for it.
                false => Command {
                    key: rest[0],
                    keys: u64::from(!rest[0].is_empty()),
                    ..unknown
                },
            }
        }
        b"get" | b"gets" | b"gat" | b"gats" => {
            let first = usize::from(name.starts_with(b"gat"));
            let keys = (many + more).saturating_sub(first);
            match keys {
                0 => unknown,
                _ => Command {
                    key: rest[first],
                    keys: keys as u64,
                    noreply: false,
                    answer: Answer::Values,
                    is_sound: rest[first..].iter().all(|key| key.is_empty() || is_key(key))
                        && (first == 0 || is_signed(rest[0])),
                    ..unknown
                },
            }
        }
        // Old clients send a time of 0.
        b"delete" if rest[1] == b"0" => of_key(2, Answer::Key, true),
        b"delete" => of_key(1, Answer::Key, true),
        b"incr" | b"decr" => of_key(2, Answer::Key, number(rest[1]).is_some()),
        b"touch" => of_key(2, Answer::Key, is_signed(rest[1])),
        b"version" => Command {
            is_sound: many == 0,
            ..unknown
        },
        b"flush_all" => Command {
            is_sound: many == 0 || is_signed(rest[0]) || noreply(0),
            ..unknown
        },
        b"verbosity" => unknown,
        b"stats" | b"lru_crawler" => Command {
            answer: Answer::Lines,
            is_sound: name == b"stats",
            noreply: false,
            ..unknown
        },
        b"quit" => Command {
            answer: Answer::Nothing,
            ..unknown
        },
        b"watch" => return Said::Leave("memcached watch: a stream of events"),
        b"mg" | b"ms" | b"md" | b"ma" | b"mn" | b"me" => return Said::Leave("no parser for memcached meta commands"),
        _ => unknown,
    };
    Said::Command(command)
}

/// Whether there are so many words.
fn words_end(rest: &[&[u8]; 6], n: usize) -> bool {
    (n == 0 || rest.get(n - 1).is_some_and(|word| !word.is_empty())) && rest.get(n).is_none_or(|word| word.is_empty())
}

/// The beginning of a line that can become a command.
pub fn may_become_command(text: &[u8]) -> bool {
    const NAMES: [&[u8]; 16] = [
        b"set", b"add", b"replace", b"append", b"prepend", b"cas", b"get", b"gets", b"gat", b"gats", b"delete",
        b"incr", b"decr", b"touch", b"version", b"stats",
    ];
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let name = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_name = match name.len() == text.len() {
        true => NAMES.iter().any(|known| known.starts_with(name)),
        false => NAMES.contains(&name),
    };
    is_name && text.len() <= MAX_LINE && text.iter().all(|byte| *byte >= b' ')
}

/// What the server says in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// An item: its key, and how many bytes of data follow.
    Value(&'a [u8], u64),
    /// A line of several: STAT, ITEM, and the like.
    Detail,
    End,
    /// `ERROR`, `CLIENT_ERROR`.
    ClientError,
    ServerError,
    /// The number that `incr` and `decr` give.
    Number,
    /// A word.
    Word(&'a [u8]),
    /// Nothing that a server says.
    No,
}

/// Reads a line of the server.
pub fn reply(text: &[u8]) -> Reply<'_> {
    let mut words = words(text);
    let first = words.next().unwrap_or_default();
    match first {
        b"VALUE" => {
            let (key, flags, len) = (words.next(), words.next(), words.next());
            match (key, flags.and_then(number), len.and_then(number)) {
                (Some(key), Some(_), Some(len)) if is_key(key) && len < 1 << 31 => Reply::Value(key, len),
                _ => Reply::No,
            }
        }
        b"STAT" | b"ITEM" => Reply::Detail,
        // Of `lru_crawler metadump`.
        _ if first.starts_with(b"key=") => Reply::Detail,
        b"END" if text.len() == 3 => Reply::End,
        b"ERROR" | b"CLIENT_ERROR" => Reply::ClientError,
        b"SERVER_ERROR" => Reply::ServerError,
        b"STORED" | b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" | b"DELETED" | b"TOUCHED" | b"OK" | b"RESET"
        | b"VERSION" | b"BUSY" | b"BADCLASS" | b"NOSPARE" | b"NOTFULL" | b"UNSAFE" | b"SAME" => Reply::Word(first),
        // A number that was decremented may be followed by spaces.
        _ if number(first).is_some() && words.next().is_none() => Reply::Number,
        _ => Reply::No,
    }
}

/// An answer, read without the command that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unasked<'a> {
    /// Its last line, and what that says.
    pub last: &'a [u8],
    pub reply: Reply<'a>,
    /// Bytes of data in it.
    pub found_bytes: u64,
    pub used: usize,
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    Whole(Unasked<'a>),
    /// The beginning of one.
    More,
    No,
}

/// The answer at the beginning of these bytes.
pub fn answer(bytes: &[u8]) -> Found<'_> {
    let (mut used, mut found_bytes) = (0, 0);
    // Items or details came before.
    let mut of_several = None;
    loop {
        let Some(line) = line(&bytes[used..]) else {
            return match bytes.len() - used <= MAX_LINE {
                true => Found::More,
                false => Found::No,
            };
        };
        used += line.used;
        let reply = reply(line.text);
        match (reply, of_several) {
            (Reply::Value(_, data), None | Some(Answer::Values)) => {
                let end = usize::try_from(data).ok().and_then(|data| used.checked_add(data + 2));
                match end.and_then(|end| bytes.get(end - 2..end)) {
                    Some(b"\r\n") => {}
                    Some(_) => return Found::No,
                    None => return Found::More,
                }
                used = end.unwrap_or(used);
                found_bytes += data;
                of_several = Some(Answer::Values);
            }
            (Reply::Detail, None | Some(Answer::Lines)) => of_several = Some(Answer::Lines),
            (Reply::No | Reply::Value(..) | Reply::Detail, _) => return Found::No,
            (Reply::End | Reply::ServerError, _) | (_, None) => {
                return Found::Whole(Unasked {
                    last: line.text,
                    reply,
                    found_bytes,
                    used,
                });
            }
            _ => return Found::No,
        }
    }
}

/// Whether these bytes are answers: whole ones, or at least an item that goes on behind them. (A number alone may be anything.)
pub fn are_answers(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        match answer(rest) {
            Found::Whole(first) if first.reply == Reply::Number && rest.len() == bytes.len() => return false,
            Found::Whole(whole) if whole.used == rest.len() => return true,
            Found::Whole(whole) => rest = &rest[whole.used..],
            Found::More => return line(rest).is_some_and(|line| matches!(reply(line.text), Reply::Value(..))),
            Found::No => return false,
        }
    }
}

/// Whether a line of the server answers a meta command.
pub fn is_meta_answer(text: &[u8]) -> bool {
    let code = words(text).next().unwrap_or_default();
    matches!(
        code,
        b"HD" | b"VA" | b"EN" | b"NM" | b"NS" | b"EX" | b"NF" | b"MN" | b"ME"
    )
}

/// Whether a line of the server can be the first of what answers this command.
pub fn fits(command: &Command<'_>, reply: Reply<'_>) -> bool {
    fits_name(command.name, command.answer, reply)
}

/// As [`fits`], by the command's name and what answers it.
pub fn fits_name(name: &[u8], answer: Answer, reply: Reply<'_>) -> bool {
    match (answer, reply) {
        (_, Reply::ClientError | Reply::ServerError) => true,
        (Answer::Values, reply) => matches!(reply, Reply::Value(..) | Reply::End),
        (Answer::Lines, reply) => matches!(reply, Reply::Detail | Reply::End | Reply::Word(_)),
        (Answer::Key, Reply::Number) => matches!(name, b"incr" | b"decr"),
        (Answer::Key, Reply::Word(word)) => match name {
            b"set" | b"add" | b"replace" | b"append" | b"prepend" => matches!(word, b"STORED" | b"NOT_STORED"),
            b"cas" => matches!(word, b"STORED" | b"EXISTS" | b"NOT_FOUND"),
            b"delete" => matches!(word, b"DELETED" | b"NOT_FOUND"),
            b"touch" => matches!(word, b"TOUCHED" | b"NOT_FOUND"),
            _ => word == b"NOT_FOUND",
        },
        // Of commands that name no key.
        (Answer::Line, Reply::Word(word)) => !matches!(
            word,
            b"STORED" | b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" | b"DELETED" | b"TOUCHED"
        ),
        _ => false,
    }
}
