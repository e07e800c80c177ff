//! Finds out which protocol a connection speaks, and hands on what was kept until then.

use super::negotiation::Socks;
use super::{Flow, ProtocolState};
use crate::analyze::exchange::Side;
use crate::analyze::protocol::detect::{self, Guess};
use crate::analyze::protocol::{AnyProtocol, Missing, Piece, Sent};
use crate::analyze::stream::{Held, Segment};

/// Segments kept until the protocol is known.
const MAX_UNDETECTED: usize = 32;
/// Segments kept of what looks like nothing, until the other end answers.
const MAX_UNANSWERED: usize = 8;
/// Turns of a connection joined in its middle that may pass before it counts as not understood.
const MAX_JOIN_TRIES: u32 = 256;
/// Tunnels that may be in each other: one for each proxy on the way.
const MAX_TUNNELS: u8 = 4;

/// Tells a protocol from what client and server sent, and whether the connection was joined.
type Detect = fn(Option<Sent<'_>>, Option<Sent<'_>>, bool) -> Guess;

impl Flow {
    /// Tries to tell the protocol from what is there so far.
    pub(super) fn undetected(&mut self, sender: usize, segment: &Segment<'_>) {
        self.forget_before_turn(sender, segment);
        match self.guess_with_answer(sender, segment) {
            (client, Guess::Read(protocol)) => self.settle_on(client, protocol, sender, segment),
            (_, Guess::Other(name)) => self.leave_undetected(sender, segment, name),
            (_, Guess::More) if self.undetected.len() < MAX_UNDETECTED => {
                self.undetected.push((sender, Held::new(segment)));
            }
            (_, Guess::More | Guess::Unknown) if self.joined && self.join_tries < MAX_JOIN_TRIES => {
                // A body may be long: it counts once, whatever its segments.
                if self.join_sender != sender {
                    self.join_sender = sender;
                    self.join_tries += 1;
                }
                self.set_why(match self.is_beginning_lost {
                    true => "its beginning was lost",
                    false => "started before capture",
                });
                // What was kept is no beginning; this may be one. (What seems to be whole may be the rest of it.)
                let had_more = !std::mem::take(&mut self.undetected).is_empty();
                if had_more && self.guess(sender, segment, false).1 == Guess::More {
                    self.undetected.push((sender, Held::new(segment)));
                }
            }
            (_, Guess::More | Guess::Unknown) => self.leave_undetected(sender, segment, "unknown protocol"),
        }
    }

    /// What it looks like with this segment. What one end sent and looked like nothing may mean something with what the other
    /// answers.
    fn guess_with_answer(&mut self, sender: usize, segment: &Segment<'_>) -> (usize, Guess) {
        if let ProtocolState::Foreign(first) = self.protocol_state
            && self.undetected.iter().any(|(end, _)| *end == first)
        {
            let foreign = std::mem::replace(&mut self.protocol_state, ProtocolState::Undetected);
            let answered = self.guess_by(sender, segment, false, detect::answered);
            if answered.1 != Guess::Unknown {
                return answered;
            }
            self.protocol_state = foreign;
        }
        self.guess(sender, segment, false)
    }

    /// What an answer can change nothing of is not kept.
    fn forget_unanswerable(&mut self, sender: usize) {
        let pieces = self.undetected.iter().map(|(_, held)| held.segment());
        let is_client = self.client.is_none_or(|client| client == sender);
        let may_be = is_client
            && self.undetected.len() <= MAX_UNANSWERED
            && pieces.clone().all(|piece| piece.payload.len() as u64 == piece.len)
            && detect::may_be_answered(Sent::whole(
                &pieces.flat_map(|piece| piece.payload.to_vec()).collect::<Vec<u8>>(),
            ));
        if !may_be {
            self.undetected.clear();
        }
    }

    /// Keeps what one end says, and looks like nothing, until it is answered.
    pub(super) fn keep_unanswered(&mut self, sender: usize, segment: &Segment<'_>) {
        match self.undetected.len() < MAX_UNANSWERED {
            true => self.undetected.push((sender, Held::new(segment))),
            false => self.undetected.retain(|(end, _)| *end != sender),
        }
    }

    /// Where the connection was joined, the end of what one side said may have been kept as the beginning of something.
    /// After the other has spoken, what comes next knows better.
    fn forget_before_turn(&mut self, sender: usize, segment: &Segment<'_>) {
        let is_turn = self.undetected.last().is_some_and(|(end, _)| *end != sender);
        if !self.joined || !is_turn || !self.guess(sender, segment, true).1.is_sure() {
            return;
        }
        if !self.is_beginning_lost {
            self.undetected.retain(|(end, _)| *end != sender);
            return;
        }
        // Where the capture has the connection from its start, the protocol is given it all the same.
        let last = self.undetected.iter().rfind(|(end, _)| *end == sender);
        if let Some((_, held)) = last {
            self.not_guessed[sender] = held.segment().end();
        }
    }

    /// What it looks like with this segment, and who would be the client then. `anew` leaves out what the sender said before.
    fn guess(&self, sender: usize, segment: &Segment<'_>, anew: bool) -> (usize, Guess) {
        self.guess_by(sender, segment, anew, detect::guess)
    }

    /// As [`Flow::guess`], by what `detect` says.
    fn guess_by(&self, sender: usize, segment: &Segment<'_>, anew: bool, detect: Detect) -> (usize, Guess) {
        let mut ends = [Some(Sent::default()); 2];
        let mut bytes: [Vec<u8>; 2] = Default::default();
        let mut lens = [0; 2];
        if self.undetected.is_empty() {
            ends[sender] = Some(Sent {
                bytes: segment.payload,
                len: segment.len,
            });
        } else {
            let kept = self.undetected.iter().map(|(end, held)| (*end, held.segment()));
            let kept = kept.filter(|(end, piece)| (!anew || *end != sender) && piece.end() > self.not_guessed[*end]);
            for (end, piece) in kept.chain([(sender, *segment)]) {
                // Nothing is known of what stands behind a byte that was not captured.
                if bytes[end].len() as u64 == lens[end] {
                    bytes[end].extend_from_slice(piece.payload);
                }
                lens[end] += piece.len;
            }
            for end in 0..2 {
                ends[end] = Some(Sent {
                    bytes: &bytes[end],
                    len: lens[end],
                });
            }
        }
        if let ProtocolState::Foreign(first) = self.protocol_state {
            ends[first] = None;
        }
        let guess = |client: usize| (client, detect(ends[client], ends[1 - client], self.joined));
        if let Some(client) = self.client {
            return guess(client);
        }
        let rank = |guess: Guess| match guess {
            Guess::Read(_) => 3,
            Guess::Other(_) => 2,
            Guess::More => 1,
            Guess::Unknown => 0,
        };
        let (one, other) = (guess(0), guess(1));
        if rank(other.1) > rank(one.1) { other } else { one }
    }

    /// Nothing more comes to tell the protocol from.
    pub(super) fn stay_undetected(&mut self) {
        if self
            .undetected
            .iter()
            .any(|(end, _)| !self.protocol_state.is_foreign(*end))
        {
            self.set_why("too little data");
        }
    }

    fn settle_on(&mut self, client: usize, protocol: &'static dyn AnyProtocol, sender: usize, segment: &Segment<'_>) {
        let spare = self.spare.iter().position(|spare| spare.protocol() == protocol);
        let mut conversation = match spare {
            Some(at) => {
                let mut spare = self.spare.swap_remove(at);
                spare.begin(self.joined);
                spare
            }
            None => protocol.conversation(self.joined),
        };
        if let ProtocolState::Foreign(first) = self.protocol_state {
            self.undetected.retain(|(end, _)| *end != first);
            if first == client {
                conversation.after_foreign();
            }
        }
        self.protocol_state = ProtocolState::Known(conversation);
        self.turns.protocol_is_read();
        self.set_in_order();
        self.client = Some(client);
        self.set_protocol(protocol.name(), "");
        for (place, (end, held)) in std::mem::take(&mut self.undetected).into_iter().enumerate() {
            self.hole_before(place, 1 - end);
            self.behind_hole(end, &held.segment());
        }
        self.hole_before(usize::MAX, 1 - sender);
        self.behind_hole(sender, segment);
    }

    /// Takes the hole in what this end sent that stands before this place of what was kept, if the other sent something before.
    fn hole_before(&mut self, place: usize, sender: usize) {
        let stands_here = |(.., before): &mut (u64, u64, usize)| *before <= place;
        if self.held() > 0
            && let Some((pos, len, _)) = self.lost_before[sender].take_if(stands_here)
        {
            self.missing(sender, pos, len, Missing::Lost);
        }
    }

    /// Takes what was kept. A hole before it matters where the other side was heard before: to a beginning it does not.
    fn behind_hole(&mut self, sender: usize, segment: &Segment<'_>) {
        let hole = self.lost_before[sender].take();
        if let Some((pos, len, _)) = hole.filter(|(pos, len, _)| pos + len == segment.pos && self.held() > 0) {
            self.missing(sender, pos, len, Missing::Lost);
        }
        self.fresh(sender, segment);
    }

    /// What is in a tunnel gives its name to nothing but its rows.
    pub(super) fn set_protocol(&mut self, protocol: &'static str, why: &'static str) {
        if self.tunnels == 0 {
            self.protocol = protocol;
            self.why = why;
        }
    }

    /// Why it has no name, if it has none.
    fn set_why(&mut self, why: &'static str) {
        if self.protocol.is_empty() {
            self.why = why;
        }
    }

    /// The protocol ends here, and another connection begins within this one.
    pub(super) fn enter_tunnel(&mut self, why: &'static str) {
        let conversation = self.protocol_state.conversation_mut();
        let rest = conversation.map_or_else(Vec::new, |conversation| conversation.take_rest());
        self.why = why;
        self.leave();
        if self.tunnels == MAX_TUNNELS {
            return;
        }
        self.tunnels += 1;
        self.protocol_state = ProtocolState::Undetected;
        self.socks = Socks::default();
        self.joined = false;
        let client = self.client.unwrap_or(0);
        for (from, piece) in rest {
            let sender = match from {
                Side::Client => client,
                Side::Server => 1 - client,
            };
            match piece {
                Piece::Bytes(pos, bytes) if !bytes.is_empty() => self.after_negotiation(sender, &unseen(pos, &bytes)),
                Piece::Bytes(..) => {}
                Piece::Missing(pos, len, why) => self.missing(sender, pos, len, why),
                Piece::End(..) => {
                    self.ended[sender] = false;
                    self.end(sender);
                }
            }
        }
    }

    /// It is nothing that is read, as far as was heard so far: in a connection seen from its start, the other end is still
    /// to answer.
    fn leave_undetected(&mut self, sender: usize, segment: &Segment<'_>, why: &'static str) {
        let is_alone = self.undetected.iter().all(|(end, _)| *end == sender);
        let kept = std::mem::take(&mut self.undetected);
        let is_answer = matches!(self.protocol_state, ProtocolState::Foreign(_));
        self.protocol_state = match is_alone && !is_answer && !self.joined {
            true => ProtocolState::Foreign(sender),
            false => ProtocolState::Other,
        };
        if matches!(self.protocol_state, ProtocolState::Foreign(_)) && detect::word(why).is_empty() {
            self.undetected = kept;
            self.undetected.push((sender, Held::new(segment)));
            self.forget_unanswerable(sender);
        }
        // An answer tells no more of what has a name already.
        if !is_answer || self.protocol.is_empty() {
            self.set_protocol(detect::word(why), why);
        }
    }
}

/// Bytes that were observed before.
fn unseen(pos: u64, payload: &[u8]) -> Segment<'_> {
    Segment {
        pos,
        len: payload.len() as u64,
        payload,
        observer: 0,
        time: 0,
        pid: 0,
        tid: 0,
        cgroup: 0,
        urgent: false,
    }
}
