//! A negotiation of SOCKS that may stand before the first byte of a connection: both directions are kept until it is over,
//! and what the proxy passes on begins behind it, in each.

use super::{Flow, ProtocolState};
use crate::analyze::protocol::socks::{self, Negotiation};
use crate::analyze::stream::{Held, Segment};

/// Segments, and bytes, kept until the negotiation is over. The longest there is has some 1,300 bytes.
const MAX_KEPT: usize = 64;
const MAX_KEPT_BYTES: u64 = 16 * 1024;
/// Proxies that may be in a row, each asked through the one before.
const MAX_PROXIES: u8 = 4;

/// What both ends began with.
#[derive(Debug)]
pub(super) enum Socks {
    /// What was sent so far, in the order in which it was read, may be a negotiation, and so many may still come.
    May(Vec<(usize, Held)>, u8),
    Past,
}

impl Default for Socks {
    fn default() -> Self {
        Socks::May(Vec::new(), MAX_PROXIES)
    }
}

impl Socks {
    /// What is kept until more of it comes.
    pub(super) fn kept(&self) -> &[(usize, Held)] {
        match self {
            Socks::May(kept, _) => kept,
            Socks::Past => &[],
        }
    }
}

impl Flow {
    /// Takes the new bytes of a segment, but for those of a negotiation.
    pub(super) fn after_negotiation(&mut self, sender: usize, segment: &Segment<'_>) {
        let Socks::May(kept, _) = &mut self.socks else {
            return self.fresh(sender, segment);
        };
        // Only the first bytes of a connection are a negotiation.
        if kept.is_empty() && (self.joined || !socks::may_begin(segment.payload)) {
            self.socks = Socks::Past;
            return self.fresh(sender, segment);
        }
        kept.push((sender, Held::new(segment)));
        let len: u64 = kept.iter().map(|(_, held)| held.segment().len).sum();
        let is_full = kept.len() == MAX_KEPT || len > MAX_KEPT_BYTES;
        match self.negotiation() {
            (
                client,
                Negotiation::Granted {
                    client: asked,
                    server: answered,
                },
            ) => {
                let mut lens = [answered; 2];
                lens[client] = asked;
                self.begin_behind(client, lens);
            }
            (client, Negotiation::Unread(why)) => self.leave_negotiation(client, why),
            (_, Negotiation::More { .. }) if !is_full => {}
            (_, Negotiation::More { .. } | Negotiation::No) => self.hand_on(),
        }
    }

    /// What is kept looks like, and who would be the client then.
    fn negotiation(&self) -> (usize, Negotiation) {
        let mut sent: [Vec<u8>; 2] = Default::default();
        let mut is_cut = false;
        for (end, held) in self.socks.kept() {
            let segment = held.segment();
            sent[*end].extend_from_slice(segment.payload);
            is_cut |= (segment.payload.len() as u64) < segment.len;
        }
        let of = |client: usize| match socks::negotiation(&sent[client], &sent[1 - client]) {
            // Nothing is known of what comes behind a byte that was not captured.
            _ if is_cut => (client, Negotiation::No),
            found => (client, found),
        };
        match self.client {
            Some(client) => of(client),
            None => match (of(0), of(1)) {
                ((_, Negotiation::No), other) => other,
                ((_, Negotiation::More { .. }), other @ (_, Negotiation::Granted { .. } | Negotiation::Unread(_))) => {
                    other
                }
                (one, _) => one,
            },
        }
    }

    /// A negotiation of so many bytes, by sender, is over, and what is behind it begins a connection: perhaps with the
    /// negotiation of the next proxy.
    fn begin_behind(&mut self, client: usize, mut lens: [usize; 2]) {
        self.client = Some(client);
        self.set_protocol("socks", "nothing is read behind its SOCKS negotiation");
        let Socks::May(kept, left) = std::mem::replace(&mut self.socks, Socks::Past) else {
            return;
        };
        if left > 1 {
            self.socks = Socks::May(Vec::new(), left - 1);
        }
        self.replay(kept.into_iter().filter_map(|(sender, held)| {
            let n = lens[sender].min(held.segment().payload.len());
            lens[sender] -= n;
            let len = held.segment().len;
            (len > n as u64).then_some((sender, held, n as u64))
        }));
    }

    /// It is a negotiation, and nothing behind it is read.
    fn leave_negotiation(&mut self, client: usize, why: &'static str) {
        self.client = Some(client);
        self.socks = Socks::Past;
        self.protocol_state = ProtocolState::Other;
        self.set_protocol("socks", why);
    }

    /// It is no negotiation: what was kept is of something else.
    fn hand_on(&mut self) {
        if let Socks::May(kept, _) = std::mem::replace(&mut self.socks, Socks::Past) {
            self.replay(kept.into_iter().map(|(sender, held)| (sender, held, 0)));
        }
    }

    /// Takes what was kept, without so many of its first bytes, and says once more which ends are over.
    fn replay(&mut self, kept: impl Iterator<Item = (usize, Held, u64)>) {
        let ended = std::mem::take(&mut self.ended);
        kept.for_each(|(sender, held, n)| self.after_negotiation(sender, &held.segment().after(n)));
        for sender in self.client_first() {
            if ended[sender] {
                self.end(sender);
            }
        }
    }

    /// Nothing more comes of what is kept.
    pub(super) fn end_negotiation(&mut self) {
        match self.negotiation() {
            (client, Negotiation::More { is_agreed: true }) => {
                self.leave_negotiation(client, "its SOCKS negotiation is incomplete");
            }
            _ => self.hand_on(),
        }
    }

    /// Bytes are missing: where what follows begins is not known if they are of a negotiation.
    pub(super) fn missing_in_negotiation(&mut self) {
        match (&self.socks, self.negotiation()) {
            (Socks::Past, _) => {}
            (_, (_, Negotiation::More { is_agreed: true })) => self.socks = Socks::Past,
            _ => self.hand_on(),
        }
    }
}
