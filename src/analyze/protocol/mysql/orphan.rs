//! Responses of a session of which nothing that the client sent was captured. What a response consists of depends on its
//! command: here its first packet has to say that, without a doubt, and its sequence ids where it begins and goes on. Where
//! they do not, nothing more of the session is believed.

use super::Queue;
use super::command::Answer;
use super::message::SERVER_SESSION_STATE_CHANGED;
use super::packet::{Fields, Packet};
use super::pair::{MysqlPairing, ServerState, Step};
use super::result;
use crate::analyze::exchange::Incomplete;

/// The longest packet of a login; what is longer is something else (TLS).
const MAX_LOGIN: u64 = 4096;

/// The response to a command that was not captured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orphan {
    pub(super) answer: Answer,
    /// The client sends packets within it, too: a file, or what it logs in with.
    pub(super) is_dialogue: bool,
}

impl MysqlPairing {
    /// Nothing that the client sent was captured, and something that it sent is lost. Frames of the compressed protocol
    /// are not read then.
    pub(super) fn lacks_client(&self) -> bool {
        !self.has_client && self.doubt.is_some() && self.outer.iter().all(Option::is_none)
    }

    /// No command will be seen for what is held.
    pub(super) fn release_orphans(&mut self, queue: &mut Queue) -> Step {
        self.doubt.get_or_insert(Incomplete::Gap);
        self.release(queue)
    }

    /// Whether the sequence id of a packet fits to the one before.
    pub(super) fn follows(&mut self, packet: &Packet<'_>) -> bool {
        let step = packet
            .seq
            .wrapping_sub(std::mem::replace(&mut self.last_server_seq, packet.last_seq));
        if !self.lacks_client() {
            return true;
        }
        match self.server {
            ServerState::Login => matches!(step, 1 | 2) && packet.len <= MAX_LOGIN,
            ServerState::Start | ServerState::Lost => true,
            _ => match self.orphan.filter(|_| self.pending > 0) {
                Some(orphan) => step == 1 || orphan.is_dialogue,
                None => true,
            },
        }
    }

    /// A response begins, and its command was not captured. `None` when the packet belongs to the response before.
    pub(super) fn begin_orphan(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Option<Step> {
        let payload = packet.payload;
        if self.eof_may_follow && payload.first() == Some(&0xfe) && packet.len < 6 && packet.seq > 2 {
            self.eof_may_follow = false;
            self.session.deprecate_eof.get_or_insert(false);
            return None;
        }
        let answer = kind(packet, payload).filter(|_| packet.seq == 1);
        let Some(answer) = answer else {
            return Some(Step::Lose(None));
        };
        self.orphan = Some(Orphan {
            answer,
            is_dialogue: answer == Answer::Login,
        });
        let why = self.doubt.unwrap_or(Incomplete::NoRequest);
        let exchange = queue.open();
        self.session.begin(0, &mut exchange.message);
        exchange.message.lacks_command = true;
        exchange.mark(why);
        self.pending = 1;
        Some(Step::Go)
    }
}

/// How a command was answered, of which the response begins with this packet; `None` where that is not certain.
fn kind(packet: &Packet<'_>, payload: &[u8]) -> Option<Answer> {
    let (first, rest) = payload.split_first()?;
    if !packet.is_whole() {
        return None;
    }
    let is_text = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    match first {
        0xff if result::is_error(payload) || result::failure(payload).code == result::PROGRESS => Some(Answer::Results),
        0xff => None,
        0x00 if is_prepared(payload) => Some(Answer::Prepared),
        0x00 => is_okay(payload).then_some(Answer::Results),
        0xfe if payload.len() == 5 => Some(Answer::Results),
        // AuthSwitchRequest: the name of a method, and its data.
        0xfe => is_text(Fields(rest).until_nul()).then_some(Answer::Login),
        // The name of a file.
        0xfb => std::str::from_utf8(rest)
            .is_ok_and(|name| !name.is_empty() && !name.contains(char::is_control))
            .then_some(Answer::Results),
        b'U' if payload.starts_with(b"Uptime: ") => Some(Answer::Text),
        // A definition, of the catalog `def`.
        0x03 if rest.starts_with(b"def") => Some(Answer::Fields),
        _ => result::columns(payload).map(|_| Answer::Results),
    }
}

/// Whether this is the answer to COM_STMT_PREPARE, which has a zero where the text of an OK packet would be.
fn is_prepared(payload: &[u8]) -> bool {
    let has_length = match payload {
        [.., flag] if payload.len() == 13 => *flag <= 1,
        _ => payload.len() == 12,
    };
    has_length
        && payload[9] == 0
        && payload[4] < 0xfb
        && result::okay(payload).status & SERVER_SESSION_STATE_CHANGED == 0
}

/// Whether this is an OK packet and nothing else: all its fields are there, and behind them what it says in words, or what
/// has changed in the session.
fn is_okay(payload: &[u8]) -> bool {
    let mut f = Fields(&payload[1..]);
    let counts = f.lenenc().and(f.lenenc());
    let (Some(_), Some(status), Some(_)) = (counts, f.u16(), f.u16()) else {
        return false;
    };
    let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| !text.contains(char::is_control));
    let mut with_length = f;
    let (info, changes) = (with_length.text(), with_length);
    let is_info = info.is_some_and(is_text);
    if is_info && changes.0.is_empty() {
        return true;
    }
    if is_info && status & SERVER_SESSION_STATE_CHANGED != 0 {
        let mut changes = changes;
        return changes.text().is_some() && changes.0.is_empty();
    }
    is_text(f.0)
}
