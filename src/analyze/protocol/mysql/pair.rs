//! Pairs commands with responses: one [`MysqlPairing`] per connection.
//!
//! Three layers per direction, each knowing only its own: frames of the compressed protocol (`frames`), packets
//! (`packet`), and the two state machines (`client`; `server`, with `response` for what it answers). Rows are walked by
//! their headers and never held.
//!
//! Holes: inside a payload they are stepped over, because its header told its length. When a header is lost, the client's
//! direction waits for a piece that begins with a believable command, the server's for the answer to the next command; what
//! the hole touched is closed and marked. Which answer belongs to which command then is seen from whose turn it is
//! ([`turns`](super::super::turns)).

use super::compress;
use super::frames::Outer;
use super::orphan::Orphan;
use super::packet::{Framer, Place};
use super::probe::Probe;
use super::server::{Held, close};
use super::session::Session;
use super::{MysqlMessage, Queue};
use crate::analyze::exchange::{Halves, Incomplete, Side, Span};
use crate::analyze::protocol::turns::{Answer, Turns};
use crate::analyze::protocol::{Missing, Pairing, Verdict};

/// Bytes of SQL text that are kept.
pub const STATEMENT_LIMIT: usize = 64 * 1024;

/// Where the client's direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientState {
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
pub(super) enum ServerState {
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
pub(super) enum After {
    Rows,
    /// So many column definitions (after the parameters of a prepared statement).
    Columns(u16),
    End,
}

/// What to do after a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Go,
    /// Framing cannot be trusted any more.
    Lose(Option<Incomplete>),
    /// From the next byte on, this direction is compressed.
    Compress,
    Leave(&'static str),
}

/// The protocol state of one MySQL or MariaDB connection.
#[derive(Debug)]
pub struct MysqlPairing {
    pub(super) session: Session,
    pub(super) left: Option<&'static str>,
    pub(super) outer: [Option<Box<Outer>>; 2],

    pub(super) client: ClientState,
    pub(super) client_framer: Framer,
    pub(super) client_probe: Probe,
    /// The request being read is the newest exchange, and began here.
    pub(super) begun: Option<u64>,
    /// Where the handshake response lies.
    pub(super) login: Option<Span>,
    /// The client sends a file (LOCAL INFILE), up to an empty packet.
    pub(super) infile: bool,
    pub(super) last_client_seq: u8,
    pub(super) last_client_empty: bool,
    /// Sequence id of the compressed frame that the client sent last.
    pub(super) last_client_frame: u8,
    /// Sequence ids that the newest command ends with, of its packet and of its compressed frame: its answer begins with
    /// the next ones.
    pub(super) command_seq: u8,
    pub(super) command_frame: u8,
    pub(super) turns: Turns,
    /// One side has ended, and its last bytes were not seen.
    pub(super) ended_unseen: bool,
    /// What was prepared, as long as the response that tells its id is unsure.
    pub(super) unsure_prepared: Option<u32>,
    /// Why the next response may not answer the oldest command; `None` when it surely does.
    pub(super) doubt: Option<Incomplete>,
    /// The newest command could not be read, and the server has said nothing since: it may be one that is never answered.
    pub(super) unread: Option<Incomplete>,
    /// Commands read in the piece at hand.
    pub(super) in_this_piece: u32,

    pub(super) server: ServerState,
    /// Something that the client sent was captured.
    pub(super) has_client: bool,
    /// The response at hand, where its command was not captured.
    pub(super) orphan: Option<Orphan>,
    pub(super) last_server_seq: u8,
    pub(super) server_framer: Framer,
    pub(super) server_probe: Probe,
    pub(super) held: Vec<Held>,
    pub(super) held_bytes: Vec<u8>,
    /// Commands that wait for a response, or for the rest of it.
    pub(super) pending: usize,
    /// The response to the oldest of them has begun.
    pub(super) open: bool,
    pub(super) rows: u64,
    pub(super) rows_known: bool,
    /// An EOF may still follow the response that ended last.
    pub(super) eof_may_follow: bool,
    /// While `Lost`: why.
    pub(super) lost_why: Option<Incomplete>,
}

impl Default for MysqlPairing {
    fn default() -> Self {
        Self::new(false)
    }
}

impl MysqlPairing {
    /// A connection of which nothing is known. Whether it is read from its start is seen from its bytes; `joined` says
    /// that the client may have sent commands that nobody saw.
    pub fn new(joined: bool) -> Self {
        MysqlPairing {
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
            last_client_frame: 0,
            command_seq: 0,
            command_frame: 0,
            turns: Turns::new(joined),
            ended_unseen: false,
            unsure_prepared: None,
            doubt: joined.then_some(Incomplete::StartedBefore),
            unread: None,
            in_this_piece: 0,
            server: ServerState::Start,
            has_client: false,
            orphan: None,
            last_server_seq: 0,
            server_framer: Framer::default(),
            server_probe: Probe::default(),
            held: Vec::new(),
            held_bytes: Vec::new(),
            pending: 0,
            open: false,
            rows: 0,
            rows_known: true,
            eof_may_follow: false,
            lost_why: None,
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

    pub(super) fn inner_bytes(&mut self, from: Side, place: Place, bytes: &[u8], queue: &mut Queue) -> Step {
        match from {
            Side::Client => self.client_bytes(place, bytes, queue),
            Side::Server => self.server_bytes(place, bytes, queue),
        }
    }

    pub(super) fn inner_missing(
        &mut self,
        from: Side,
        place: Place,
        len: u64,
        why: Missing,
        queue: &mut Queue,
    ) -> Step {
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
                    Step::Lose(reason) => {
                        // What looks wrong in a packet with a hole is the hole.
                        let reason = if why == Missing::Lost {
                            Some(Incomplete::Gap)
                        } else {
                            reason
                        };
                        self.lose(from, reason, queue);
                        if from == Side::Server {
                            self.extend(place.begin(0), place.end(done as usize), queue);
                        }
                    }
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
    pub(super) fn inner_lost(&mut self, from: Side, place: Place, len: u64, why: Missing, queue: &mut Queue) {
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
        if from == Side::Server && self.held.is_empty() {
            self.late_eof_is_cut(queue);
        }
        self.lose(from, reason, queue);
        if from == Side::Server {
            self.extend(place.begin(0), place.end(len as usize), queue);
        }
    }

    /// Whether the login, or what was found since, says if the connection is compressed.
    fn is_framing_known(&self) -> bool {
        self.session.capabilities.is_some() || self.outer[Side::Server as usize].is_some()
    }

    /// The server's answer shows that the connection is compressed. The command that it answers was sent behind a header
    /// that nobody saw.
    fn find_compressed(&mut self, queue: &mut Queue) {
        for side in [Side::Client, Side::Server] {
            self.compress(side, true);
            self.lose(side, Some(Incomplete::StartedBefore), queue);
        }
    }

    fn lose(&mut self, from: Side, why: Option<Incomplete>, queue: &mut Queue) {
        match from {
            Side::Client => self.lose_client(why, queue),
            Side::Server => self.lose_server(why, queue),
        }
    }
}

impl Pairing for MysqlPairing {
    type Message = MysqlMessage;

    fn begin(&mut self, joined: bool) {
        *self = MysqlPairing::new(joined);
    }

    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Verdict {
        if let Some(why) = self.left {
            return Verdict::Leave(why);
        }
        match from {
            Side::Client => {
                self.has_client = true;
                self.orphan = None;
                let is_only_cut = self.server == ServerState::Lost && self.open && self.lost_why.is_none();
                if self.turns.client() && is_only_cut && !self.infile {
                    // The client has what it waited for: that was the end of it.
                    self.close_oldest(1, None, queue);
                }
            }
            Side::Server => {
                self.server_speaks();
                if self.server_framer.at_boundary() && !self.is_framing_known() && compress::is_whole_answer(bytes) {
                    self.find_compressed(queue);
                }
            }
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
        if why == Missing::Lost {
            self.session.has_hole = true;
            if from == Side::Client {
                self.turns.client_missing();
            }
        }
        self.verdict(step)
    }

    fn settle(&mut self, queue: &mut Queue) -> Verdict {
        if !self.held.is_empty() && !self.held_is_unasked(queue) {
            // Its command will never be seen.
            match self.has_client {
                true => self.lose_server(None, queue),
                false => {
                    let step = self.release_orphans(queue);
                    return self.verdict(step);
                }
            }
        }
        match self.left {
            Some(why) => Verdict::Leave(why),
            None => Verdict::Continue,
        }
    }

    fn finish(&mut self, queue: &mut Queue) {
        let is_in_hole = self.server == ServerState::Lost && self.turns.answer == Answer::BehindHole;
        if let (true, Some(why), Some(exchange)) = (is_in_hole, self.lost_why, queue.awaiting()) {
            exchange.mark(why);
        }
    }

    fn is_in_doubt(&self) -> bool {
        self.client == ClientState::Lost || self.server == ServerState::Lost || self.doubt.is_some()
    }

    fn end(&mut self, from: Side, pos: u64, is_all: bool, queue: &mut Queue) {
        self.ended_unseen |= !is_all;
        match from {
            Side::Client => {
                if self.begun.take().is_some()
                    && let Some(exchange) = queue.newest().filter(|e| !e.request.ended)
                {
                    exchange.request.end = pos;
                    exchange.mark(Incomplete::NoResponse);
                    exchange.closed |= exchange.halves == Halves::RequestOnly;
                }
            }
            Side::Server => {
                self.held_is_unasked(queue);
                if self.open && self.server != ServerState::Lost {
                    self.rows_known = false;
                    if let Some(exchange) = queue.awaiting() {
                        exchange.mark(Incomplete::ResponseCut);
                        exchange.response.end = pos;
                    }
                }
                // The first of its bytes may be in a hole with nothing behind it.
                let is_lost = self.server == ServerState::Lost && self.turns.answer != Answer::Due;
                // What was not read to its end may go on in what was not seen, or the answer to a command in it begin here.
                let why = match self.ended_unseen && self.open {
                    true => Some(Incomplete::Gap),
                    false => self.lost_why.filter(|_| is_lost),
                };
                for _ in 0..std::mem::take(&mut self.pending) {
                    let Some(exchange) = queue.awaiting() else { break };
                    close(exchange, why, Incomplete::NoResponse);
                    queue.answer_ended();
                }
                self.open = false;
                self.server = ServerState::Lost;
            }
        }
    }
}
