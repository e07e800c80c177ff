//! Whose turn it is: which request an answer belongs to, after a hole has hidden others.
//!
//! A client that waits for each answer speaks again only when it has the whole of it. So where it begins to speak, all that
//! came before is over, and what the server sends next is the answer, whatever a hole has hidden before. That needs the
//! bytes of both directions in causal order, which a parser has while it [is in doubt](super::Pairing::is_in_doubt).

use crate::analyze::exchange::{Incomplete, Span};

/// Whether the next bytes of the server begin the answer to the newest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// They do.
    Due,
    /// The first of them are lost. What comes right behind the hole may be the answer, or the one to a request that came
    /// later and is lost too.
    BehindHole,
    /// It has begun, or nobody knows where it begins.
    #[default]
    No,
}

/// The turns of one connection.
#[derive(Debug, Default)]
pub struct Turns {
    /// The client was the last to speak.
    is_clients: bool,
    /// What the client sent last is lost.
    ends_in_hole: bool,
    /// So is what the server sent after it, so far: that may have been sent before.
    is_over_by_hole: bool,
    /// Requests that began in the client's present turn, and answers that began since.
    requests: u32,
    answers: u32,
    /// Answers may be lost since.
    lacks_answers: bool,
    /// Of the turn before: as many answers as requests were seen; fewer, and none is lost.
    was_answered: bool,
    was_overlapped: bool,
    /// All of several requests of one turn were seen to be answered.
    batches: bool,
    /// The client was seen to go on before that.
    overlaps: bool,
    /// The client was seen to send a request before it had the answer to the one before.
    pub is_pipelined: bool,
    /// The answer to the newest request.
    pub answer: Answer,
    /// No hole in the present turn, nor in its answers.
    is_whole: bool,
    /// Why the client may have asked more in its present turn than was seen.
    hidden: Option<Incomplete>,
    /// The same of its first turn.
    before: Option<Incomplete>,
    /// What the client asked before this position of its stream was all seen, and no answer is missing since: whatever is
    /// lost behind it, the next answer is that of the oldest of them that waits.
    certain_upto: u64,
}

impl Turns {
    /// Of a connection of which the beginning was not seen (`joined`), or was.
    pub fn new(joined: bool) -> Self {
        Turns {
            before: joined.then_some(Incomplete::StartedBefore),
            ..Turns::default()
        }
    }

    /// The client sends bytes. True when they begin its turn.
    pub fn client(&mut self) -> bool {
        let begins = !std::mem::replace(&mut self.is_clients, true);
        self.ends_in_hole = false;
        if begins {
            self.was_answered = self.requests == self.answers;
            self.was_overlapped = self.requests > self.answers && !self.lacks_answers;
            (self.requests, self.answers, self.lacks_answers) = (0, 0, false);
            self.hidden = self.hidden.filter(|_| self.is_over_by_hole).or(self.before.take());
        }
        begins
    }

    /// Bytes of the client are missing, and a request may be among them.
    pub fn client_missing(&mut self) {
        self.client();
        self.ends_in_hole = true;
        self.is_whole = false;
        self.hidden = Some(Incomplete::Gap);
        if !self.is_pipelined {
            // It had the answer before it asked again.
            self.requests = 0;
        }
    }

    /// Whether what the client sends now may go on with what was lost of it: all that the server sent since is lost too.
    pub fn may_go_on(&self) -> bool {
        self.is_over_by_hole
    }

    /// Whether its present turn may hold a request that was not seen.
    pub fn is_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// Bytes of the client are missing from here on, and so far it was certain which answers are whose.
    pub fn certain_upto(&mut self, pos: u64) {
        self.certain_upto = pos.saturating_add(1);
    }

    /// Whether the request that begins here, and is the oldest that waits, is the one that is answered next.
    pub fn is_certain(&self, request: &Span) -> bool {
        request.begun && request.start < self.certain_upto
    }

    /// The client sends requests without waiting for answers. Where bytes are missing in its present turn, the first request
    /// that was seen may not be the first: it is in doubt which answers are whose, and returned why.
    #[must_use]
    pub fn pipelines(&mut self) -> Option<Incomplete> {
        self.is_pipelined = true;
        self.hidden
    }

    /// The server sends bytes.
    pub fn server(&mut self) {
        self.is_clients = false;
        self.is_over_by_hole = false;
    }

    /// Bytes of the server are missing.
    pub fn server_hole(&mut self) {
        if self.is_clients {
            self.is_over_by_hole = self.ends_in_hole;
        }
        self.is_clients = false;
    }

    /// Bytes of the server are missing, and an answer may begin among them, unless they were sent before the newest request
    /// (`is_overtaken`).
    pub fn server_missing(&mut self, is_overtaken: bool) {
        self.server_hole();
        self.is_whole = false;
        self.lacks_answers = true;
        self.certain_upto = 0;
        if self.answer == Answer::Due && !is_overtaken {
            self.answer = Answer::BehindHole;
        }
    }

    /// A request begins. True where all that was asked before it is over.
    pub fn request(&mut self) -> bool {
        self.client();
        self.requests += 1;
        self.answer = Answer::Due;
        self.requests == 1
    }

    /// An answer begins.
    pub fn answered(&mut self) {
        self.answer = Answer::No;
        self.answers += 1;
    }

    /// Whether one request was seen in the client's present turn, and no more.
    pub fn has_one_request(&self) -> bool {
        self.requests == 1
    }

    /// Whether the turn before had as many answers as requests.
    pub fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// A turn begins, in causal order.
    pub fn begins_in_order(&mut self) {
        self.overlaps |= self.was_overlapped;
    }

    /// All that was asked is answered, which is certain.
    pub fn all_answered(&mut self) {
        self.batches |= self.requests > 1;
    }

    /// A turn begins whose answers are to be matched again. True when they surely can be: at once where the client waits for
    /// each answer, or for those to all that it sent before it goes on; else after a turn without holes of which `is_answered`
    /// all, unless the client goes on earlier.
    pub fn resume(&mut self, is_answered: bool) -> bool {
        let was_whole = std::mem::replace(&mut self.is_whole, true);
        !self.is_pipelined || (!self.overlaps && (self.batches || (was_whole && is_answered)))
    }
}
