//! Pairs commands with responses: one [`MysqlStitcher`] per connection.
//!
//! Three layers per direction, each knowing only its own: frames of the compressed protocol (`compress`), packets
//! (`packet`), and here the two state machines. Rows are walked by their headers and never held.
//!
//! Holes: inside a payload they are stepped over, because its header told its length. When a header is lost, that
//! direction waits for a piece that begins with a believable command (client) or with the first packet of a response
//! to a command not yet touched by the hole (server); what the hole touched is closed and marked.

use std::collections::HashMap;
use std::sync::Arc;

use super::command::{self, Answer};
use super::compress::{self, Deframer, Piece};
use super::handshake::{self, *};
use super::message::*;
use super::packet::{Fields, Framer, HEADER, MAX_PAYLOAD, Packet, Place, length, push_text};
use super::result::{self, Okay};
use crate::analyze::exchange::{Exchange, Incomplete, MAX_WAITING, Message, Queue, Side, Span};
use crate::analyze::protocol::{Missing, Stitcher, Verdict};

/// Bytes of SQL text that are kept.
pub const STATEMENT_LIMIT: usize = 64 * 1024;

/// Bytes kept of a client's packet: query attributes, then text.
const KEEP_CLIENT: usize = STATEMENT_LIMIT + 4096;
/// Bytes kept of a server's packet: an OK with session state, an ERR with its message.
const KEEP_SERVER: usize = 4096;
/// Server bytes that may wait for their command.
const HELD_LIMIT: usize = 256 * 1024;
/// Prepared statements remembered per connection (the server's own default limit), and bytes of their texts.
const PREPARED_LIMIT: usize = 16_382;
const PREPARED_BYTES_LIMIT: usize = 8 * 1024 * 1024;
/// Bytes looked at to find a command or a response after a hole.
const PROBE: usize = 24;

/// Where the client's direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    /// Nothing read yet.
    Start,
    /// The handshake: sequence ids are not 0.
    Login,
    Commands,
    /// Framing is lost.
    Lost,
}

/// Where the server's direction stands: which packet comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    /// The greeting.
    Start,
    /// Authentication, up to OK or ERR.
    Login,
    /// The first packet of a response, or of its next result.
    First,
    /// Column (or parameter) definitions.
    Definitions {
        left: u32,
        then: After,
    },
    /// The EOF after definitions, where there is one.
    DefinitionsEnd {
        then: After,
    },
    Rows,
    /// COM_FIELD_LIST: definitions up to an end.
    FieldList,
    /// Framing is lost.
    Lost,
}

/// What follows definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Rows,
    /// So many column definitions (after the parameters of a prepared statement).
    Columns(u16),
    End,
}

/// What to do after a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Go,
    /// Framing cannot be trusted any more.
    Lose(Option<Incomplete>),
    /// From the next byte on, this direction is compressed.
    Compress,
    Leave(&'static str),
}

/// The texts of a session's prepared statements.
#[derive(Debug, Default)]
struct Prepared {
    texts: HashMap<u32, (Arc<str>, bool)>,
    bytes: usize,
    /// The newest one, for statement id -1, which a client may use before it knows the id.
    last_text: String,
    last_cut: bool,
    last_id: Option<u32>,
}

impl Prepared {
    fn insert(&mut self, id: u32, text: &str, cut: bool) {
        self.remove(id);
        if self.texts.len() < PREPARED_LIMIT && self.bytes + text.len() <= PREPARED_BYTES_LIMIT {
            self.bytes += text.len();
            self.texts.insert(id, (text.into(), cut));
        }
        self.last_id = Some(id);
    }

    fn remove(&mut self, id: u32) {
        if let Some((text, _)) = self.texts.remove(&id) {
            self.bytes -= text.len();
        }
    }

    /// Fills in the statement's text; false when its prepare was not seen.
    fn resolve(&self, id: u32, message: &mut MysqlMessage) -> bool {
        message.statement.clear();
        if id == u32::MAX {
            message.statement.push_str(&self.last_text);
            message.statement_cut = self.last_cut;
            return !self.last_text.is_empty();
        }
        let Some((text, cut)) = self.texts.get(&id) else {
            return false;
        };
        message.statement.push_str(text);
        message.statement_cut = *cut;
        true
    }

    fn clear(&mut self) {
        *self = Prepared::default();
    }
}

/// What is known of the session.
#[derive(Debug, Default)]
struct Session {
    server_capabilities: Option<u64>,
    client_capabilities: Option<u64>,
    /// Both; known once the client's are.
    capabilities: Option<u64>,
    /// CLIENT_DEPRECATE_EOF: known, or learned from the traffic.
    deprecate_eof: Option<bool>,
    user: Arc<str>,
    database: Arc<str>,
    version: Arc<str>,
    /// User and database of the handshake response or of COM_CHANGE_USER, until the server agrees.
    asked: Option<(String, String)>,
    prepared: Prepared,
}

impl Session {
    fn agree(&mut self) {
        let Some(client) = self.client_capabilities else { return };
        let both = client & self.server_capabilities.unwrap_or(u64::MAX);
        self.capabilities = Some(both);
        self.deprecate_eof = Some(both & CLIENT_DEPRECATE_EOF != 0);
    }

    fn compressed(&self) -> bool {
        self.capabilities
            .is_some_and(|c| c & (CLIENT_COMPRESS | CLIENT_ZSTD) != 0)
    }

    fn set_database(&mut self, name: &str) {
        if *self.database != *name {
            self.database = name.into();
        }
    }

    fn enter(&mut self) {
        if let Some((user, database)) = self.asked.take() {
            self.user = user.into();
            self.database = database.into();
        }
    }
}

/// Whether what is probed has the header of a compressed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    No,
    Yes,
    Perhaps,
}

/// The first bytes of a piece, until there are enough to judge them.
#[derive(Debug, Default)]
struct Probe {
    bytes: Vec<u8>,
    place: Option<Place>,
}

impl Probe {
    /// Takes bytes until `PROBE` are there, or all of what may be one short packet. True when there are enough. A client
    /// has no packet that begins with 0: that is the longer header of a compressed frame.
    fn gather(&mut self, place: &Place, bytes: &[u8], used: &mut usize, framed: Framed) -> bool {
        if self.bytes.is_empty() {
            self.place = Some(place.from(*used));
        }
        loop {
            let whole = match self.bytes.first_chunk::<HEADER>() {
                Some(header) if length(header) == 0 => HEADER,
                Some(header) => {
                    let longer = match framed {
                        Framed::No => false,
                        Framed::Yes => true,
                        Framed::Perhaps => self.bytes.get(HEADER) == Some(&0),
                    };
                    (HEADER + length(header) + if longer { 3 } else { 0 }).clamp(HEADER + 1, PROBE)
                }
                None => HEADER,
            };
            if self.bytes.len() >= HEADER && self.bytes.len() >= whole {
                return true;
            }
            let n = bytes.len().saturating_sub(*used).min(whole - self.bytes.len());
            if n == 0 {
                return false;
            }
            self.bytes.extend_from_slice(&bytes[*used..*used + n]);
            *used += n;
        }
    }

    /// Bytes of an earlier piece are kept.
    fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    fn take(&mut self) -> (Vec<u8>, Place) {
        let place = self.place.take().unwrap_or(Place::linear(0));
        (std::mem::take(&mut self.bytes), place)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.place = None;
    }
}

/// Server bytes that came before their command.
#[derive(Debug)]
enum Held {
    Bytes(Place, usize),
    Hole(Place, u64, Missing),
}

/// A compressed direction.
#[derive(Debug, Default)]
struct Outer {
    deframer: Deframer,
    lost: bool,
    probe: Probe,
}

/// The protocol state of one MySQL or MariaDB connection.
#[derive(Debug)]
pub struct MysqlStitcher {
    session: Session,
    left: Option<&'static str>,
    outer: [Option<Box<Outer>>; 2],

    client: ClientState,
    client_framer: Framer,
    client_probe: Probe,
    /// The request being read is the newest exchange, and began here.
    begun: Option<u64>,
    /// Where the handshake response lies.
    login: Option<Span>,
    /// The client sends a file (LOCAL INFILE), up to an empty packet.
    infile: bool,
    last_client_seq: u8,
    last_client_empty: bool,
    /// Bytes of the client are lost since its last command: a response without a command answers one of them.
    client_gap: bool,
    /// Commands read in the piece at hand.
    in_this_piece: u32,

    server: ServerState,
    server_framer: Framer,
    server_probe: Probe,
    held: Vec<Held>,
    held_bytes: Vec<u8>,
    /// Commands that wait for a response, or for the rest of it.
    pending: usize,
    /// The response to the oldest of them has begun.
    open: bool,
    rows: u64,
    rows_known: bool,
    /// An EOF may still follow the response that ended last.
    eof_may_follow: bool,
    /// The client was seen to send commands without waiting for responses.
    pipelined: bool,
    /// While `Lost`: why, how many of `pending` the hole touches, and how many were there when the server was last
    /// heard.
    lost_why: Option<Incomplete>,
    touched: usize,
    heard: usize,
}

impl Default for MysqlStitcher {
    fn default() -> Self {
        Self::new(false)
    }
}

impl MysqlStitcher {
    /// A connection of which nothing is known. Whether it is read from its start is seen from its bytes; `joined` says
    /// that the client may have sent commands that nobody saw.
    pub fn new(joined: bool) -> Self {
        MysqlStitcher {
            session: Session::default(),
            left: None,
            outer: [None, None],
            client: ClientState::Start,
            client_framer: Framer::default(),
            client_probe: Probe::default(),
            begun: None,
            login: None,
            infile: false,
            last_client_seq: 0,
            last_client_empty: false,
            client_gap: joined,
            in_this_piece: 0,
            server: ServerState::Start,
            server_framer: Framer::default(),
            server_probe: Probe::default(),
            held: Vec::new(),
            held_bytes: Vec::new(),
            pending: 0,
            open: false,
            rows: 0,
            rows_known: true,
            eof_may_follow: false,
            pipelined: false,
            lost_why: None,
            touched: 0,
            heard: 0,
        }
    }

    /// The client's direction is understood: commands were, or can be, read.
    pub fn is_synced(&self) -> bool {
        matches!(self.client, ClientState::Login | ClientState::Commands)
    }

    fn leave(&mut self, why: &'static str) -> Verdict {
        self.left = Some(why);
        Verdict::Leave(why)
    }

    fn verdict(&mut self, step: Step) -> Verdict {
        match step {
            Step::Leave(why) => self.leave(why),
            _ => Verdict::Continue,
        }
    }

    // ---- the compressed layer ----

    fn compress(&mut self, side: Side, lost: bool) {
        self.outer[side as usize] = Some(Box::new(Outer {
            lost,
            ..Outer::default()
        }));
    }

    fn outer_bytes(&mut self, outer: &mut Outer, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        if outer.lost {
            let older = outer.probe.has_begun();
            if !outer.probe.gather(&Place::linear(pos), bytes, &mut used, Framed::Yes) {
                return Step::Go;
            }
            let (probe, place) = outer.probe.take();
            if !compress::looks_like_frame(from, &probe) {
                // What was kept of the piece before is not the beginning of anything; this piece may be one.
                return if older {
                    self.outer_bytes(outer, from, pos, bytes, queue)
                } else {
                    Step::Go
                };
            }
            outer.lost = false;
            let step = self.frames(outer, from, place.begin(0), &probe, queue);
            if step != Step::Go {
                return step;
            }
        }
        self.frames(outer, from, pos.saturating_add(used as u64), &bytes[used..], queue)
    }

    fn frames(&mut self, outer: &mut Outer, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        while let Some(piece) = outer.deframer.next(bytes, &mut used, pos) {
            let step = match piece {
                Piece::Bytes(inner, place) => self.inner_bytes(from, place, inner, queue),
                Piece::Hole(len, place) => self.inner_missing(from, place, len, Missing::Unread, queue),
            };
            if matches!(step, Step::Leave(_)) {
                return step;
            }
        }
        Step::Go
    }

    fn outer_missing(&mut self, outer: &mut Outer, from: Side, pos: u64, len: u64, why: Missing, queue: &mut Queue) {
        outer.probe.clear();
        let mut done = 0;
        while !outer.lost && done < len {
            let (n, piece) = outer.deframer.skip(len - done);
            done += n;
            if let Some(Piece::Hole(hole, place)) = piece {
                self.inner_missing(from, place, hole, why, queue);
            }
            if n == 0 {
                outer.lost = true;
                outer.deframer.reset();
                // Both layers have lost their place.
                self.inner_lost(from, Place::linear(pos.saturating_add(done)), len - done, why, queue);
            }
        }
    }

    // ---- both directions ----

    fn inner_bytes(&mut self, from: Side, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        match from {
            Side::Client => self.client_bytes(place, bytes, queue),
            Side::Server => self.server_bytes(place, bytes, queue),
        }
    }

    fn inner_missing(&mut self, from: Side, place: Place, len: u64, why: Missing, queue: &mut Queue) -> Step {
        let mut done = 0;
        while done < len {
            let framer = match from {
                Side::Client => &mut self.client_framer,
                Side::Server => &mut self.server_framer,
            };
            let (n, ended) = framer.skip(len - done, why);
            if n == 0 {
                break;
            }
            done += n;
            if ended {
                let mut framer = std::mem::take(framer);
                let packet = framer.ended(place.end(done as usize));
                let step = match from {
                    Side::Client => self.client_packet(&packet, queue),
                    Side::Server => self.server_packet(&packet, queue),
                };
                match from {
                    Side::Client => self.client_framer = framer,
                    Side::Server => self.server_framer = framer,
                }
                match step {
                    Step::Leave(_) => return step,
                    Step::Compress => self.compress(from, false),
                    Step::Lose(why) => self.lose(from, why, queue),
                    Step::Go => {}
                }
            }
        }
        if from == Side::Client && self.client_framer.partial().is_some() {
            self.begin_partial(queue);
        }
        if done < len {
            self.inner_lost(from, place.from(done as usize), len - done, why, queue);
        }
        Step::Go
    }

    /// A hole where a header should be.
    fn inner_lost(&mut self, from: Side, place: Place, len: u64, why: Missing, queue: &mut Queue) {
        let reason = match why {
            Missing::Lost => Some(Incomplete::Gap),
            Missing::Before => Some(Incomplete::StartedBefore),
            Missing::Unread => None,
        };
        if from == Side::Server && self.server == ServerState::First && self.pending == 0 && !self.held.is_empty() {
            // The response is ahead of its command, and so is the hole in it.
            self.held.push(Held::Hole(place, len, why));
            return;
        }
        self.lose(from, reason, queue);
        if from == Side::Server {
            self.extend(place.begin(0), place.end(len as usize), queue);
            self.heard = self.pending;
        }
    }

    fn lose(&mut self, from: Side, why: Option<Incomplete>, queue: &mut Queue) {
        match from {
            Side::Client => self.lose_client(why, queue),
            Side::Server => self.lose_server(why, queue),
        }
    }

    // ---- the client ----

    fn client_bytes(&mut self, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        if matches!(self.client, ClientState::Start | ClientState::Lost) {
            let older = self.client == ClientState::Lost && self.client_probe.has_begun();
            let framed = if place.is_linear() { Framed::Perhaps } else { Framed::No };
            if !self.client_probe.gather(&place, bytes, &mut used, framed) {
                if self.client == ClientState::Lost && self.client_probe.bytes.get(3).is_some_and(|seq| *seq != 0) {
                    // The end of something; what comes next may be a command.
                    self.client_probe.clear();
                }
                return Step::Go;
            }
            let (probe, at) = self.client_probe.take();
            let step = self.client_found(at, &probe, queue);
            if self.client == ClientState::Lost {
                return if older {
                    self.client_bytes(place, bytes, queue)
                } else {
                    Step::Go
                };
            }
            if step != Step::Go {
                return step;
            }
            if let Some(mut outer) = self.outer[Side::Client as usize].take_if(|o| !o.lost && at.is_linear()) {
                // Found to be compressed just now: the rest of this piece is too.
                let rest = &bytes[used..];
                let step = self.frames(&mut outer, Side::Client, place.begin(used), rest, queue);
                self.outer[Side::Client as usize] = Some(outer);
                return step;
            }
        }
        self.client_packets(&place, bytes, used, queue)
    }

    /// Judges the first bytes of a piece while the client's framing is unknown.
    fn client_found(&mut self, at: Place, probe: &[u8], queue: &mut Queue) -> Step {
        let seq = probe.get(3).copied().unwrap_or(0);
        let login = self.client == ClientState::Start
            && self.server != ServerState::Lost
            && seq == 1
            && probe.len() > HEADER
            && probe[2] == 0;
        if login {
            self.client = ClientState::Login;
            return self.client_packets(&at, probe, 0, queue);
        }
        if command::is_plain_command(probe) {
            self.client = ClientState::Commands;
            return self.client_packets(&at, probe, 0, queue);
        }
        if at.is_linear() && compress::looks_like_command(probe) {
            self.client = ClientState::Commands;
            let mut outer = Box::new(Outer::default());
            if self.outer[Side::Server as usize].is_none() {
                self.compress(Side::Server, true);
                self.lose_server(Some(Incomplete::StartedBefore), queue);
            }
            let step = self.frames(&mut outer, Side::Client, at.begin(0), probe, queue);
            self.outer[Side::Client as usize] = Some(outer);
            return step;
        }
        self.client = ClientState::Lost;
        Step::Go
    }

    fn client_packets(&mut self, place: &Place, bytes: &[u8], mut used: usize, queue: &mut Queue) -> Step {
        self.in_this_piece = 0;
        let mut framer = std::mem::take(&mut self.client_framer);
        let mut step = Step::Go;
        loop {
            if self.client == ClientState::Login && framer.at_boundary() && self.session.compressed() {
                // The first frame after the login has sequence id 0, at the same place as a packet.
                if !self.client_probe.gather(place, bytes, &mut used, Framed::No) {
                    break;
                }
                let (probe, at) = self.client_probe.take();
                if probe[3] == 0 {
                    self.client = ClientState::Commands;
                    self.client_framer = framer;
                    let mut outer = Box::new(Outer::default());
                    step = self.frames(&mut outer, Side::Client, at.begin(0), &probe, queue);
                    if step == Step::Go {
                        step = self.frames(&mut outer, Side::Client, place.begin(used), &bytes[used..], queue);
                    }
                    self.outer[Side::Client as usize] = Some(outer);
                    return step;
                }
                let mut probed = 0;
                while step == Step::Go
                    && let Some(packet) = framer.next(&probe, &mut probed, &at, KEEP_CLIENT)
                {
                    step = self.client_packet(&packet, queue);
                }
                if step != Step::Go {
                    break;
                }
            }
            let Some(packet) = framer.next(bytes, &mut used, place, KEEP_CLIENT) else {
                break;
            };
            step = self.client_packet(&packet, queue);
            if step != Step::Go {
                break;
            }
        }
        self.client_framer = framer;
        match step {
            Step::Lose(why) => {
                self.lose_client(why, queue);
                Step::Go
            }
            Step::Leave(_) => step,
            _ => {
                if self.client_framer.partial().is_some() {
                    self.begin_partial(queue);
                }
                Step::Go
            }
        }
    }

    /// A command whose first byte is there and whose end is not: it waits in the queue already, because its answer may
    /// come before its end (an error).
    fn begin_partial(&mut self, queue: &mut Queue) {
        if self.begun.is_some() || self.client != ClientState::Commands {
            return;
        }
        if let Some((0, [command, ..], start)) = self.client_framer.partial()
            && !(self.infile && self.last_client_seq == 255)
            && command::answer(*command).is_some()
        {
            self.begin(*command, start, queue);
        }
    }

    fn client_packet(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let wrapped = self.infile && self.last_client_seq == 255;
        self.last_client_seq = packet.last_seq;
        self.last_client_empty = packet.len == 0;
        if packet.seq != 0 || wrapped {
            if packet.len == 0 {
                self.infile = false;
            }
            return if self.client == ClientState::Login {
                self.client_login(packet)
            } else {
                Step::Go
            };
        }
        self.client = ClientState::Commands;
        self.infile = false;
        self.command(packet, queue)
    }

    fn client_login(&mut self, packet: &Packet<'_>) -> Step {
        if self.login.is_some() {
            return Step::Go;
        }
        if handshake::is_ssl_request(packet.payload) {
            return Step::Leave("TLS");
        }
        self.login = Some(Span {
            start: packet.start,
            end: packet.end,
            begun: true,
            ended: true,
        });
        if let Some(login) = handshake::response(packet.payload) {
            self.session.client_capabilities = Some(login.capabilities);
            self.session.agree();
            // Who logs in is known before the server agrees: a command may be read before its OK is.
            self.session.user = login.user.as_str().into();
            self.session.database = login.database.as_str().into();
        }
        Step::Go
    }

    /// Puts a new exchange at the back of the queue.
    fn begin(&mut self, command: u8, start: u64, queue: &mut Queue) {
        if self.pending >= MAX_WAITING || (self.pending > 0 && queue.len() >= 4 * MAX_WAITING) {
            self.lose_server(Some(Incomplete::TooMany), queue);
            self.touched = self.pending.min(1);
            self.close_touched(queue);
        }
        if self.server == ServerState::Lost {
            self.touched = self.touched.max(self.heard.min(self.pending));
            self.heard = 0;
        }
        let exchange = queue.open(|| Message::Mysql(MysqlMessage::default()));
        match &mut exchange.message {
            Message::Mysql(message) => message.reset(),
            other => *other = Message::Mysql(MysqlMessage::default()),
        }
        exchange.request.start = start;
        exchange.request.begun = true;
        if let Message::Mysql(message) = &mut exchange.message {
            message.command = command;
            message.inferred = self.session.capabilities.is_none();
            share(&mut message.user, &self.session.user);
            share(&mut message.database, &self.session.database);
            share(&mut message.server_version, &self.session.version);
        }
        match command::answer(command) {
            Some(Answer::Nothing | Answer::Endless(_)) => {
                exchange.one_way = true;
                if let Message::Mysql(message) = &mut exchange.message {
                    message.rows = Some(0);
                }
            }
            _ => {
                self.pending += 1;
                if self.in_this_piece > 0 {
                    self.pipelined = true;
                }
                self.in_this_piece += 1;
            }
        }
        self.begun = Some(start);
        self.client_gap = false;
    }

    fn command(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let payload = &packet.payload[..packet.payload.len().min(KEEP_CLIENT)];
        let Some(&first) = payload.first() else {
            return self.unread_command(packet, queue);
        };
        let Some(answer) = command::answer(first) else {
            return Step::Lose(Some(Incomplete::Malformed));
        };
        if self.begun != Some(packet.start) {
            self.begin(first, packet.start, queue);
        }
        self.fill(payload, packet, queue);
        if let Answer::Endless(why) = answer {
            return Step::Leave(why);
        }
        if answer != Answer::Nothing {
            self.release(queue)
        } else {
            Step::Go
        }
    }

    /// Of this command only the header is there.
    fn unread_command(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        // Most likely COM_QUIT or COM_STMT_CLOSE, which have no response: rather no row than a wrong pair.
        if matches!(packet.len, 0 | 1 | 5) {
            return Step::Go;
        }
        self.begin(0, packet.start, queue);
        if let Some(exchange) = queue.newest() {
            exchange.request.end = packet.end;
            exchange.request.ended = true;
            exchange.mark(if packet.hole == Some(Missing::Lost) {
                Incomplete::Gap
            } else {
                Incomplete::Truncated
            });
        }
        self.begun = None;
        self.release(queue)
    }

    /// The request's content and end.
    fn fill(&mut self, payload: &[u8], packet: &Packet<'_>, queue: &mut Queue) {
        let begun = self.begun.take();
        let Some(exchange) = queue.newest().filter(|e| Some(e.request.start) == begun) else {
            return;
        };
        exchange.request.end = packet.end;
        exchange.request.ended = true;
        if packet.hole == Some(Missing::Lost) {
            exchange.mark(Incomplete::Gap);
        }
        let Message::Mysql(message) = &mut exchange.message else {
            return;
        };
        let Some((&command, args)) = payload.split_first() else {
            return;
        };
        let session = &mut self.session;
        match command {
            COM_QUERY => {
                let at = command::query_text(payload, session.capabilities, &mut message.inferred);
                let text = at.and_then(|at| payload.get(at..)).unwrap_or_default();
                set_statement(message, text, packet);
            }
            COM_STMT_PREPARE => {
                set_statement(message, args, packet);
                session.prepared.last_text.clear();
                session.prepared.last_text.push_str(&message.statement);
                session.prepared.last_cut = message.statement_cut;
            }
            COM_INIT_DB | COM_CREATE_DB | COM_DROP_DB => set_statement(message, args, packet),
            COM_FIELD_LIST => set_statement(message, Fields(args).until_nul(), packet),
            COM_STMT_EXECUTE | COM_STMT_BULK_EXECUTE | COM_STMT_FETCH => {
                if let Some(id) = Fields(args).u32() {
                    message.statement_id = Some(id);
                    session.prepared.resolve(id, message);
                }
            }
            COM_STMT_SEND_LONG_DATA | COM_STMT_RESET => message.statement_id = Fields(args).u32(),
            COM_STMT_CLOSE => {
                message.statement_id = Fields(args).u32();
                if let Some(id) = message.statement_id {
                    session.prepared.remove(id);
                }
            }
            COM_QUIT if self.server == ServerState::Lost => {
                // It waits for nothing more: what a hole touched is over.
                self.touched = self.pending;
                self.close_touched(queue);
            }
            COM_CHANGE_USER => session.asked = Some(handshake::change_user(args, session.capabilities)),
            _ => {}
        }
    }

    fn lose_client(&mut self, why: Option<Incomplete>, queue: &mut Queue) {
        if let Some(start) = self.begun
            && let Some((seq, kept, _)) = self.client_framer.partial()
        {
            // Its end is lost: it is what was read of it.
            let kept = kept.to_vec();
            let packet = Packet {
                seq,
                last_seq: seq,
                len: u64::MAX,
                payload: &kept,
                hole: None,
                start,
                end: start.saturating_add((HEADER + kept.len()) as u64),
            };
            self.fill(&kept, &packet, queue);
            if let Some(exchange) = queue.newest().filter(|e| e.request.start == start) {
                exchange.mark(why.unwrap_or(Incomplete::Truncated));
                // A one-way exchange has no other end than this.
                exchange.request.ended = exchange.one_way;
            }
        }
        self.begun = None;
        self.client_framer.reset();
        self.client_probe.clear();
        self.client = ClientState::Lost;
        self.client_gap = true;
        if !self.held.is_empty() {
            // What came before its command answers one that is lost.
            self.lose_server(None, queue);
        }
    }

    // ---- the server ----

    fn server_bytes(&mut self, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        match self.server {
            ServerState::Start if self.server_framer.at_boundary() => {
                if !self.server_probe.gather(&place, bytes, &mut used, Framed::No) {
                    return Step::Go;
                }
                let (probe, at) = self.server_probe.take();
                if !handshake::looks_like_greeting(&probe) {
                    self.lose_server(Some(Incomplete::StartedBefore), queue);
                    // The first response may be whole.
                    let step = self.lost_bytes(at, &probe, queue);
                    return if step == Step::Go {
                        self.server_bytes_from(place, bytes, used, queue)
                    } else {
                        step
                    };
                }
                let step = self.server_packets(&at, &probe, 0, queue);
                if step != Step::Go {
                    return step;
                }
            }
            ServerState::Lost => return self.lost_bytes(place, bytes, queue),
            _ => {}
        }
        self.server_packets(&place, bytes, used, queue)
    }

    fn server_bytes_from(&mut self, place: Place, bytes: &[u8], used: usize, queue: &mut Queue) -> Step {
        if used < bytes.len() {
            self.server_bytes(place.from(used), &bytes[used..], queue)
        } else {
            Step::Go
        }
    }

    /// The server's framing is lost: a response starts here, or this belongs to what the hole touched.
    fn lost_bytes(&mut self, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        if self.pending > self.touched {
            let older = self.server_probe.has_begun();
            if !self.server_probe.gather(&place, bytes, &mut used, Framed::No) {
                return Step::Go;
            }
            let (probe, at) = self.server_probe.take();
            // In the compressed protocol, sequence ids inside of frames are not dependable.
            let framed = !at.is_linear();
            let seq = probe.get(3).copied().unwrap_or(0).wrapping_sub(1);
            let before = if framed { seq } else { self.last_client_seq };
            if result::looks_like_response(&probe, before) || result::looks_like_response(&probe, 0) {
                self.close_touched(queue);
                self.server = ServerState::First;
                self.open = false;
                let step = self.server_packets(&at, &probe, 0, queue);
                if step != Step::Go {
                    return step;
                }
                return self.server_bytes_from(place, bytes, used, queue);
            }
            self.extend(at.begin(0), at.end(probe.len()), queue);
            if older {
                return self.lost_bytes(place, bytes, queue);
            }
        }
        self.extend(place.begin(0), place.end(bytes.len()), queue);
        self.heard = self.pending;
        Step::Go
    }

    fn server_packets(&mut self, place: &Place, bytes: &[u8], mut used: usize, queue: &mut Queue) -> Step {
        let mut framer = std::mem::take(&mut self.server_framer);
        let mut step = Step::Go;
        while step == Step::Go {
            if framer.at_boundary() {
                if self.server == ServerState::First && self.pending == 0 {
                    self.hold(place, bytes, used, queue);
                    break;
                }
                if self.server == ServerState::Rows {
                    self.walk_rows(bytes, &mut used);
                }
            }
            let Some(packet) = framer.next(bytes, &mut used, place, KEEP_SERVER) else {
                break;
            };
            step = self.server_packet(&packet, queue);
        }
        self.server_framer = framer;
        match step {
            Step::Go | Step::Leave(_) => step,
            Step::Lose(why) => {
                self.lose_server(why, queue);
                self.extend(place.begin(used), place.end(bytes.len()), queue);
                self.heard = self.pending;
                Step::Go
            }
            Step::Compress => {
                let mut outer = Box::new(Outer::default());
                let step = self.frames(&mut outer, Side::Server, place.begin(used), &bytes[used..], queue);
                self.outer[Side::Server as usize] = Some(outer);
                step
            }
        }
    }

    /// Steps over rows that lie in the piece whole; anything else is left to the framer.
    fn walk_rows(&mut self, bytes: &[u8], used: &mut usize) {
        let mut rows = 0;
        while let Some((header, body)) = bytes[*used..].split_first_chunk::<HEADER>() {
            let len = length(header);
            // 0xfe and 0xff may be an end; an empty or a full packet is a part of one.
            if len == 0 || len >= body.len().saturating_add(1) || len == MAX_PAYLOAD || body[0] >= 0xfe {
                break;
            }
            rows += 1;
            *used += HEADER + len;
        }
        self.rows += rows;
    }

    /// A response before its command: kept, bounded, until the command comes.
    fn hold(&mut self, place: &Place, bytes: &[u8], used: usize, queue: &mut Queue) {
        let rest = &bytes[used..];
        if rest.is_empty() {
            return;
        }
        if self.client_gap || self.held_bytes.len() + rest.len() > HELD_LIMIT || self.held.len() >= HELD_LIMIT / 64 {
            self.lose_server(None, queue);
            return;
        }
        self.held.push(Held::Bytes(place.from(used), rest.len()));
        self.held_bytes.extend_from_slice(rest);
    }

    /// A command has come: what was held for it is read.
    fn release(&mut self, queue: &mut Queue) -> Step {
        if self.held.is_empty() {
            return Step::Go;
        }
        let (held, bytes) = (std::mem::take(&mut self.held), std::mem::take(&mut self.held_bytes));
        let mut rest = bytes.as_slice();
        for item in held {
            let step = match item {
                Held::Bytes(place, len) => {
                    let (piece, after) = rest.split_at(len.min(rest.len()));
                    rest = after;
                    self.server_bytes(place, piece, queue)
                }
                Held::Hole(place, len, why) => self.inner_missing(Side::Server, place, len, why, queue),
            };
            if step != Step::Go {
                return step;
            }
        }
        Step::Go
    }

    fn server_packet(&mut self, packet: &Packet<'_>, queue: &mut Queue) -> Step {
        let payload = &packet.payload[..packet.payload.len().min(KEEP_SERVER)];
        let first = payload.first().copied();
        if first.is_none() && packet.len > 0 && !matches!(self.server, ServerState::Definitions { .. }) {
            // What it is, is in the hole.
            return Step::Lose(if packet.hole == Some(Missing::Lost) {
                Some(Incomplete::Gap)
            } else {
                None
            });
        }
        let first = first.unwrap_or(0);
        if packet.hole == Some(Missing::Lost)
            && self.pending > 0
            && let Some(exchange) = queue.awaiting()
        {
            exchange.mark(Incomplete::Gap);
        }
        match self.server {
            ServerState::Start => self.greeted(packet, payload, queue),
            ServerState::Login => self.login_packet(packet, payload, first, queue),
            ServerState::First => self.first(packet, payload, first, queue),
            ServerState::Definitions { left, then } => {
                if first == 0xff {
                    return self.failed(packet, payload, queue);
                }
                if left > 1 {
                    self.server = ServerState::Definitions { left: left - 1, then };
                    return Step::Go;
                }
                self.defined(then, packet.end, queue)
            }
            ServerState::DefinitionsEnd { then } => {
                if first == 0xfe && packet.len < 6 {
                    self.session.deprecate_eof.get_or_insert(false);
                    let ok = result::eof(payload);
                    if then == After::Rows && ok.status & SERVER_STATUS_CURSOR_EXISTS != 0 {
                        return self.result_ended(&ok, packet.end, queue);
                    }
                    return self.advance(then, packet.end, queue);
                }
                // No EOF: what follows the definitions is here already.
                if self.session.capabilities.is_none() {
                    self.session.deprecate_eof = Some(true);
                }
                let step = self.advance(then, packet.end, queue);
                if step != Step::Go {
                    step
                } else {
                    self.server_packet(packet, queue)
                }
            }
            ServerState::Rows => {
                if first == 0xff {
                    return self.failed(packet, payload, queue);
                }
                if self.is_end(packet, first) {
                    let ok = self.end_packet(packet, payload);
                    return self.result_ended(&ok, packet.end, queue);
                }
                self.rows += 1;
                Step::Go
            }
            ServerState::FieldList => {
                if first == 0xff {
                    return self.failed(packet, payload, queue);
                }
                if self.is_end(packet, first) {
                    let ok = self.end_packet(packet, payload);
                    return self.result_ended(&ok, packet.end, queue);
                }
                Step::Go
            }
            ServerState::Lost => Step::Go,
        }
    }

    /// 0xfe ends rows when the packet is too short to be a row that begins with an 8-byte length.
    fn is_end(&self, packet: &Packet<'_>, first: u8) -> bool {
        let limit = if self.session.deprecate_eof == Some(false) {
            9
        } else {
            MAX_PAYLOAD as u64
        };
        first == 0xfe && packet.len < limit
    }

    /// EOF, or the OK that stands for it.
    fn end_packet<'a>(&mut self, packet: &Packet<'_>, payload: &'a [u8]) -> Okay<'a> {
        if packet.len < 6 {
            self.session.deprecate_eof.get_or_insert(false);
            result::eof(payload)
        } else {
            self.session.deprecate_eof.get_or_insert(true);
            result::okay(payload)
        }
    }

    fn greeted(&mut self, packet: &Packet<'_>, payload: &[u8], queue: &mut Queue) -> Step {
        if payload.first() == Some(&0xff) {
            self.refused(packet, payload, queue);
            return Step::Lose(None);
        }
        self.server = ServerState::Login;
        if let Some(greeting) = handshake::greeting(payload) {
            self.session.version = plain_version(&greeting.version).into();
            self.session.server_capabilities = Some(greeting.capabilities);
            self.session.agree();
        }
        Step::Go
    }

    fn login_packet(&mut self, packet: &Packet<'_>, payload: &[u8], first: u8, queue: &mut Queue) -> Step {
        match first {
            0x00 => {
                self.server = ServerState::First;
                self.track_schema(&result::okay(payload));
                if self.session.compressed() {
                    Step::Compress
                } else {
                    Step::Go
                }
            }
            0xff => {
                self.refused(packet, payload, queue);
                Step::Lose(None)
            }
            // AuthSwitchRequest, AuthMoreData, AuthNextFactor.
            _ => Step::Go,
        }
    }

    /// The server refuses the login: a row of its own, because it is an error that somebody looks for.
    fn refused(&mut self, packet: &Packet<'_>, payload: &[u8], queue: &mut Queue) {
        if self.pending > 0 {
            return;
        }
        let mut exchange = Exchange::new(Message::Mysql(MysqlMessage {
            command: COM_CONNECT,
            user: self.session.user.clone(),
            database: self.session.database.clone(),
            server_version: self.session.version.clone(),
            rows: Some(0),
            ..MysqlMessage::default()
        }));
        match self.login {
            Some(span) => exchange.request = span,
            None => exchange.mark(Incomplete::NoRequest),
        }
        exchange.response = Span {
            start: packet.start,
            end: packet.end,
            begun: true,
            ended: true,
        };
        if let Message::Mysql(message) = &mut exchange.message {
            set_failure(message, payload);
        }
        queue.push(exchange);
        // One-way exchanges before it are passed over, then it is the one.
        if queue.awaiting().is_some() {
            queue.answer_ended();
        }
    }

    /// The first packet of a response, or of a further result.
    fn first(&mut self, packet: &Packet<'_>, payload: &[u8], first: u8, queue: &mut Queue) -> Step {
        if self.eof_may_follow && !self.open && first == 0xfe && packet.len < 6 && packet.seq > 2 {
            self.eof_may_follow = false;
            self.session.deprecate_eof.get_or_insert(false);
            return Step::Go;
        }
        let Some(exchange) = queue.awaiting() else {
            self.pending = 0;
            return Step::Lose(None);
        };
        if !self.open {
            self.open = true;
            self.rows = 0;
            self.rows_known = true;
            self.eof_may_follow = false;
            self.pipelined |= self.pending > 1;
            exchange.response.start = packet.start;
            exchange.response.begun = true;
        }
        let Message::Mysql(message) = &mut exchange.message else {
            return Step::Lose(None);
        };
        if let Some(id) = message.statement_id
            && message.has_sql()
        {
            resolve_late(message, id, &self.session.prepared);
        }
        if first == 0xff {
            return self.failed(packet, payload, queue);
        }
        let answer = command::answer(message.command).unwrap_or(Answer::Results);
        match answer {
            Answer::Text => {
                message.status = Status::Ok;
                self.finish(packet.end, queue)
            }
            Answer::Prepared => {
                let Some(prepared) = result::prepared(payload).filter(|_| first == 0) else {
                    return Step::Lose(Some(Incomplete::Malformed));
                };
                message.status = Status::Ok;
                message.statement_id = Some(prepared.id);
                message.warnings = Some(prepared.warnings);
                self.session
                    .prepared
                    .insert(prepared.id, &message.statement, message.statement_cut);
                let optional = self
                    .session
                    .capabilities
                    .is_some_and(|c| c & CLIENT_OPTIONAL_RESULTSET_METADATA != 0);
                if optional && !prepared.metadata {
                    return self.finish(packet.end, queue);
                }
                let then = if prepared.parameters > 0 {
                    After::Columns(prepared.columns)
                } else {
                    After::End
                };
                let left = if prepared.parameters > 0 {
                    prepared.parameters
                } else {
                    prepared.columns
                };
                if left == 0 {
                    return self.finish(packet.end, queue);
                }
                self.server = ServerState::Definitions {
                    left: left.into(),
                    then,
                };
                Step::Go
            }
            Answer::Rows => {
                message.status = Status::Ok;
                self.server = ServerState::Rows;
                self.server_packet(packet, queue)
            }
            Answer::Fields => {
                message.status = Status::Ok;
                self.server = ServerState::FieldList;
                self.server_packet(packet, queue)
            }
            Answer::Login => {
                if first == 0x00 {
                    message.status = Status::Ok;
                    self.session.enter();
                    self.session.prepared.clear();
                    share(&mut message.user, &self.session.user);
                    share(&mut message.database, &self.session.database);
                    return self.finish(packet.end, queue);
                }
                Step::Go
            }
            Answer::Results | Answer::Nothing | Answer::Endless(_) => {
                message.status = Status::Ok;
                match first {
                    0x00 => {
                        let ok = result::okay(payload);
                        add_ok(message, &ok);
                        let command = message.command;
                        match command {
                            COM_INIT_DB => self.session.set_database(&message.statement),
                            COM_RESET_CONNECTION => self.session.prepared.clear(),
                            COM_QUERY => {
                                if let Some(name) = used_database(&message.statement) {
                                    self.session.set_database(name);
                                }
                            }
                            _ => {}
                        }
                        self.track_schema(&ok);
                        self.result_ended(&ok, packet.end, queue)
                    }
                    0xfe => {
                        let ok = if packet.len < 6 {
                            result::eof(payload)
                        } else {
                            result::okay(payload)
                        };
                        self.result_ended(&ok, packet.end, queue)
                    }
                    0xfb => {
                        // The client may have sent its file already, as far as we were told.
                        self.infile = !(self.last_client_empty && self.last_client_seq != 0);
                        Step::Go
                    }
                    _ => match result::columns(payload) {
                        Some((left, true)) => {
                            self.server = ServerState::Definitions {
                                left,
                                then: After::Rows,
                            };
                            Step::Go
                        }
                        Some((_, false)) => self.defined(After::Rows, packet.end, queue),
                        None => Step::Lose(Some(Incomplete::Malformed)),
                    },
                }
            }
        }
    }

    /// All definitions of one kind are there.
    fn defined(&mut self, then: After, end: u64, queue: &mut Queue) -> Step {
        match (self.session.deprecate_eof, then) {
            (Some(true), _) => self.advance(then, end, queue),
            // Whether an EOF follows is unknown, and nothing else does.
            (None, After::End | After::Columns(0)) => {
                self.eof_may_follow = true;
                self.finish(end, queue)
            }
            _ => {
                self.server = ServerState::DefinitionsEnd { then };
                Step::Go
            }
        }
    }

    fn advance(&mut self, then: After, end: u64, queue: &mut Queue) -> Step {
        match then {
            After::Rows => self.server = ServerState::Rows,
            After::End | After::Columns(0) => return self.finish(end, queue),
            After::Columns(n) => {
                self.server = ServerState::Definitions {
                    left: n.into(),
                    then: After::End,
                }
            }
        }
        Step::Go
    }

    fn failed(&mut self, packet: &Packet<'_>, payload: &[u8], queue: &mut Queue) -> Step {
        if packet.len >= 3 && result::failure(payload).code == result::PROGRESS {
            return Step::Go;
        }
        if let Some(exchange) = queue.awaiting()
            && let Message::Mysql(message) = &mut exchange.message
        {
            set_failure(message, payload);
        }
        self.finish(packet.end, queue)
    }

    /// One result is over; another may follow.
    fn result_ended(&mut self, ok: &Okay<'_>, end: u64, queue: &mut Queue) -> Step {
        if let Some(exchange) = queue.awaiting()
            && let Message::Mysql(message) = &mut exchange.message
        {
            message.warnings = Some(ok.warnings);
            message.status_flags |= ok.status;
            message.no_index_used |= ok.status & (SERVER_STATUS_NO_INDEX_USED | SERVER_STATUS_NO_GOOD_INDEX_USED) != 0;
        }
        if ok.status & SERVER_MORE_RESULTS_EXISTS != 0 {
            self.server = ServerState::First;
            return Step::Go;
        }
        self.finish(end, queue)
    }

    fn finish(&mut self, end: u64, queue: &mut Queue) -> Step {
        if let Some(exchange) = queue.awaiting() {
            exchange.response.end = end;
            exchange.response.ended = true;
            if let Message::Mysql(message) = &mut exchange.message {
                message.rows = self.rows_known.then_some(self.rows);
                share(&mut message.server_version, &self.session.version);
            }
            queue.answer_ended();
        }
        self.pending = self.pending.saturating_sub(1);
        self.open = false;
        self.rows = 0;
        self.server = ServerState::First;
        Step::Go
    }

    fn track_schema(&mut self, ok: &Okay<'_>) {
        if ok.status & SERVER_SESSION_STATE_CHANGED == 0
            || self.session.capabilities.is_some_and(|c| c & CLIENT_SESSION_TRACK == 0)
        {
            return;
        }
        if let Some(schema) = result::tracked_schema(ok) {
            let mut name = String::new();
            push_text(&mut name, schema);
            self.session.set_database(&name);
        }
    }

    fn lose_server(&mut self, why: Option<Incomplete>, queue: &mut Queue) {
        if self.server != ServerState::Lost {
            // A client that waits for each response has at most one command that the hole does not touch: its newest.
            self.touched = if self.pipelined {
                self.pending
            } else {
                self.pending
                    .saturating_sub(1)
                    .max(usize::from(self.open && self.pending > 0))
            };
            if matches!(self.server, ServerState::Start | ServerState::Login) && self.session.compressed() {
                self.compress(Side::Server, true);
            }
            self.lost_why = why;
            self.heard = 0;
        }
        self.lost_why = self.lost_why.or(why);
        if self.touched > 0
            && let Some(why) = why
            && let Some(exchange) = queue.awaiting()
        {
            exchange.mark(why);
        }
        self.server = ServerState::Lost;
        self.server_framer.reset();
        self.server_probe.clear();
        self.held.clear();
        self.held_bytes.clear();
        self.rows_known = false;
        self.eof_may_follow = false;
    }

    /// Bytes, seen or not, that belong to the oldest waiting response.
    fn extend(&mut self, start: u64, end: u64, queue: &mut Queue) {
        if self.server != ServerState::Lost || self.pending == 0 || start >= end {
            return;
        }
        if let Some(exchange) = queue.awaiting() {
            let response = &mut exchange.response;
            if !response.begun && response.end == 0 {
                response.start = start;
                response.begun = self.lost_why.is_none();
            }
            response.end = response.end.max(end);
        }
    }

    /// Ends the responses that a hole touches.
    fn close_touched(&mut self, queue: &mut Queue) {
        for _ in 0..std::mem::take(&mut self.touched) {
            let Some(exchange) = queue.awaiting() else { break };
            close(exchange, self.lost_why, Incomplete::Truncated);
            queue.answer_ended();
            self.pending = self.pending.saturating_sub(1);
            self.open = false;
        }
    }
}

impl Stitcher for MysqlStitcher {
    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Verdict {
        if let Some(why) = self.left {
            return Verdict::Leave(why);
        }
        let step = match self.outer[from as usize].take() {
            Some(mut outer) => {
                let step = self.outer_bytes(&mut outer, from, pos, bytes, queue);
                self.outer[from as usize] = Some(outer);
                step
            }
            None => self.inner_bytes(from, Place::linear(pos), bytes, queue),
        };
        self.verdict(step)
    }

    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing, queue: &mut Queue) -> Verdict {
        if let Some(why) = self.left {
            return Verdict::Leave(why);
        }
        let step = match self.outer[from as usize].take() {
            Some(mut outer) => {
                self.outer_missing(&mut outer, from, pos, len, why, queue);
                self.outer[from as usize] = Some(outer);
                Step::Go
            }
            // The beginning is missing, even when nobody can say how much of it.
            None if len == 0 && why == Missing::Before => {
                self.inner_lost(from, Place::linear(pos), 0, why, queue);
                Step::Go
            }
            None => self.inner_missing(from, Place::linear(pos), len, why, queue),
        };
        self.verdict(step)
    }

    fn settle(&mut self, queue: &mut Queue) -> Verdict {
        if !self.held.is_empty() {
            // Its command will never be seen.
            self.lose_server(None, queue);
        }
        match self.left {
            Some(why) => Verdict::Leave(why),
            None => Verdict::Continue,
        }
    }

    fn end(&mut self, from: Side, pos: u64, queue: &mut Queue) {
        match from {
            Side::Client => {
                if self.begun.take().is_some()
                    && let Some(exchange) = queue.newest().filter(|e| !e.request.ended)
                {
                    exchange.request.end = pos;
                    exchange.mark(Incomplete::NoResponse);
                    exchange.closed |= exchange.one_way;
                }
            }
            Side::Server => {
                if self.open && self.server != ServerState::Lost {
                    self.rows_known = false;
                    if let Some(exchange) = queue.awaiting() {
                        exchange.mark(Incomplete::ResponseCut);
                        exchange.response.end = pos;
                    }
                }
                for i in 0..std::mem::take(&mut self.pending) {
                    let Some(exchange) = queue.awaiting() else { break };
                    let why = if self.server == ServerState::Lost && i < self.touched {
                        self.lost_why
                    } else {
                        None
                    };
                    close(exchange, why, Incomplete::NoResponse);
                    queue.answer_ended();
                }
                self.touched = 0;
                self.open = false;
                self.server = ServerState::Lost;
            }
        }
    }
}

/// Ends an exchange whose response cannot be read to its end.
fn close(exchange: &mut Exchange, why: Option<Incomplete>, otherwise: Incomplete) {
    let mut answered = false;
    if let Message::Mysql(message) = &mut exchange.message {
        answered = message.status != Status::NoResponse;
        message.rows = None;
    }
    match why {
        Some(why) => exchange.mark(why),
        // Its first packet was read and all of its bytes are accounted for: rows are unknown, times are not.
        None if answered && exchange.incomplete.is_none() => exchange.response.ended = true,
        None => exchange.mark(otherwise),
    }
    exchange.closed = true;
}

fn share(into: &mut Arc<str>, from: &Arc<str>) {
    if !Arc::ptr_eq(into, from) {
        *into = Arc::clone(from);
    }
}

fn set_statement(message: &mut MysqlMessage, text: &[u8], packet: &Packet<'_>) {
    let kept = &text[..text.len().min(STATEMENT_LIMIT)];
    message.statement.clear();
    push_text(&mut message.statement, kept);
    message.statement_cut = kept.len() < text.len() || !packet.is_whole();
}

fn set_failure(message: &mut MysqlMessage, payload: &[u8]) {
    let failure = result::failure(payload);
    message.status = Status::Error;
    message.error_code = failure.code;
    message.sqlstate.clear();
    push_text(&mut message.sqlstate, failure.sqlstate);
    message.error_message.clear();
    push_text(&mut message.error_message, failure.message);
}

fn add_ok(message: &mut MysqlMessage, ok: &Okay<'_>) {
    message.affected_rows = Some(message.affected_rows.unwrap_or(0).saturating_add(ok.affected_rows));
    if ok.last_insert_id != 0 {
        message.last_insert_id = Some(ok.last_insert_id);
    }
}

/// The text of an EXECUTE that was read before its PREPARE was answered.
fn resolve_late(message: &mut MysqlMessage, id: u32, prepared: &Prepared) {
    if id == u32::MAX {
        message.statement_id = prepared.last_id.or(Some(id));
    } else if message.statement.is_empty() && message.command != COM_STMT_PREPARE {
        prepared.resolve(id, message);
    }
}

/// The database of a `USE` statement.
fn used_database(statement: &str) -> Option<&str> {
    let text = statement.trim_start();
    let (word, name) = text.split_at_checked(3)?;
    if !word.eq_ignore_ascii_case("use") || !name.starts_with(|c: char| c.is_ascii_whitespace() || c == '`') {
        return None;
    }
    let name = name.trim().trim_end_matches(';').trim_end().trim_matches('`');
    (!name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == ';')).then_some(name)
}

/// MariaDB says `5.5.5-10.11.6-MariaDB` where replicas of MySQL 5.5 must understand it; the prefix means nothing.
fn plain_version(version: &str) -> &str {
    match version.strip_prefix("5.5.5-") {
        Some(rest) if rest.contains("MariaDB") => rest,
        _ => version,
    }
}
