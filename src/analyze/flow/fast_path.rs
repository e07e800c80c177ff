//! A short way for what most exchanges are: a request that comes in one segment and its response in another, on a
//! connection where nothing else is under way.
//!
//! Queue and state machines stand still meanwhile. When anything comes that does not fit, what was taken of the exchange is
//! read again by the ordinary way, as if it came only now; when the exchange becomes whole, all is left as the ordinary
//! way leaves it. So there is one meaning, and the short way only reads it faster. A test holds the two together.

use super::{Flow, OBSERVERS, ProtocolState, WIRE};
use crate::analyze::exchange::{AnyExchange, Seen, TakenExchange};
use crate::analyze::protocol::conversation::Conversation;
use crate::analyze::stream::{Segment, Stream};

/// Longer messages take their time anyhow.
const MAX_LEN: u64 = 1 << 20;

/// Bytes that a connection may keep ready for its next exchange.
const MAX_IDLE: usize = 2048;

/// What was taken of the exchange at hand, which the conversation holds until it is whole.
#[derive(Debug, Default)]
pub(super) struct FastPath {
    /// Nothing is under way but what is taken here.
    is_open: bool,
    /// An exchange that is whole, and not given away yet.
    whole: Option<Box<dyn TakenExchange>>,
    /// Its response was read.
    is_answered: bool,
    taken: Vec<Taken>,
    /// What these carried, each message once.
    bytes: Vec<u8>,
    #[cfg(test)]
    is_forbidden: bool,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    sender: usize,
    segment: Segment<'static>,
    /// Its payload lies there in the bytes.
    start: usize,
    captured: usize,
}

impl FastPath {
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Takes the exchange, if it is whole.
    pub(super) fn take(&mut self) -> Option<Box<dyn TakenExchange>> {
        self.whole.take()
    }

    /// Closed as at first, with its buffers.
    pub(super) fn recycled(self) -> FastPath {
        let (mut taken, mut bytes) = (self.taken, self.bytes);
        taken.clear();
        bytes.clear();
        bytes.shrink_to(MAX_IDLE);
        FastPath {
            taken,
            bytes,
            ..FastPath::default()
        }
    }

    fn keep(&mut self, sender: usize, segment: &Segment<'_>) {
        let captured = segment.payload.len();
        // Bytes that are shown again are not read again: those that came first stand for them.
        let shown = |taken: &&Taken| taken.sender == sender && taken.captured >= captured;
        let start = match self.taken.iter().find(shown) {
            Some(first) => first.start,
            None => {
                self.bytes.extend_from_slice(segment.payload);
                self.bytes.len() - captured
            }
        };
        self.taken.push(Taken {
            sender,
            segment: Segment {
                payload: &[],
                ..*segment
            },
            start,
            captured,
        });
    }
}

impl Flow {
    /// Opens the short way, if nothing is under way.
    pub(super) fn open_straight(&mut self) {
        self.fast_path.is_open = self.is_at_rest();
        #[cfg(test)]
        {
            self.fast_path.is_open &= !self.fast_path.is_forbidden;
        }
    }

    fn is_at_rest(&self) -> bool {
        let nexts = [self.streams[0].next(), self.streams[1].next()];
        self.protocol_state.is_at_rest()
            && self.client.is_some()
            && self.held() == 0
            && self.unplaced.is_empty()
            && self.ended == [false; 2]
            && self.reorder.is_empty()
            && !self.is_lost
            && self.streams.iter().all(Stream::is_started)
            && self.coverage.iter().all(|observer| match observer.attached {
                true => !observer.closed && !observer.given_up && observer.until == nexts,
                false => !observer.expected,
            })
    }

    /// Takes a segment the short way; false when it has to go the ordinary one.
    pub(super) fn go_straight(&mut self, sender: usize, segment: &Segment<'_>) -> bool {
        let observer = usize::from(segment.observer).min(WIRE);
        let usual = !segment.urgent && segment.time != 0 && segment.len <= MAX_LEN && !self.fast_path.is_whole();
        if !usual || !self.coverage[observer].attached {
            return false;
        }
        let is_request = self.client == Some(sender);
        let ProtocolState::Known(conversation) = &mut self.protocol_state else {
            return false;
        };
        let Segment { pos, len, payload, .. } = *segment;
        let is_next = pos == self.streams[sender].next();
        let has_begun = !self.fast_path.taken.is_empty();
        let exchange = match (has_begun, is_request) {
            (false, true) if is_next && payload.len() as u64 == len => conversation.whole_request(pos, payload),
            (false, _) => None,
            (true, false) if !self.fast_path.is_answered => match is_next {
                true => conversation.whole_response(pos, len, payload),
                false => None,
            },
            (true, _) => conversation
                .at_hand_mut()
                .filter(|exchange| is_shown_again(exchange, is_request, observer, segment)),
        };
        let Some(exchange) = exchange else { return false };
        self.fast_path.is_answered = has_begun && (self.fast_path.is_answered || !is_request);
        let view = &mut exchange.views[observer];
        let seen = Seen {
            first: segment.time,
            last: segment.time,
            until: segment.end(),
            hole: false,
        };
        match is_request {
            true => view.request = seen,
            false => view.response = seen,
        }
        if view.pid == 0 {
            (view.pid, view.tid, view.cgroup) = (segment.pid, segment.tid, segment.cgroup);
        }
        let views = &exchange.views;
        let is_shown =
            |n: usize| !self.coverage[n].attached || (views[n].request.first != 0 && views[n].response.first != 0);
        match (0..OBSERVERS).all(is_shown) {
            true => self.arrive(sender, segment),
            false => self.fast_path.keep(sender, segment),
        }
        true
    }

    /// The exchange at hand, if there is one.
    pub(super) fn at_hand(&self) -> Option<&AnyExchange> {
        if let Some(whole) = &self.fast_path.whole {
            return Some(whole.exchange());
        }
        let conversation = self.protocol_state.conversation();
        conversation
            .filter(|_| !self.fast_path.taken.is_empty())
            .and_then(Conversation::at_hand)
    }

    /// The exchange is whole with this segment.
    fn arrive(&mut self, sender: usize, segment: &Segment<'_>) {
        for at in 0..self.fast_path.taken.len() {
            let before = self.fast_path.taken[at];
            self.pass(before.sender, &before.segment, before.captured);
        }
        self.pass(sender, segment, segment.payload.len());
        self.fast_path.taken.clear();
        self.fast_path.bytes.clear();
        self.fast_path.bytes.shrink_to(MAX_IDLE);
        let conversation = self.protocol_state.conversation_mut();
        self.fast_path.whole = conversation.and_then(|conversation| conversation.take_at_hand());
    }

    /// Notes what the ordinary way notes of a segment that it has read.
    fn pass(&mut self, sender: usize, segment: &Segment<'_>, captured: usize) {
        if self.streams[sender].advance(segment) == 0 {
            self.unread_bytes += segment.len - captured as u64;
        }
        let coverage = &mut self.coverage[usize::from(segment.observer).min(WIRE)];
        coverage.given_up = false;
        coverage.until[sender] = segment.end();
        coverage.heard[sender] = segment.end();
    }

    /// Leaves the short way: what was taken goes the ordinary one.
    pub(super) fn leave_straight(&mut self) {
        if !std::mem::take(&mut self.fast_path.is_open) {
            return;
        }
        if self.fast_path.taken.is_empty() {
            return;
        }
        let (taken, bytes) = (
            std::mem::take(&mut self.fast_path.taken),
            std::mem::take(&mut self.fast_path.bytes),
        );
        for Taken {
            sender,
            segment,
            start,
            captured,
        } in taken
        {
            let payload = &bytes[start..start + captured];
            self.in_order(sender, Segment { payload, ..segment });
        }
    }
}

/// Whether an observer shows what another has shown.
fn is_shown_again(exchange: &AnyExchange, is_request: bool, observer: usize, segment: &Segment<'_>) -> bool {
    let view = &exchange.views[observer];
    let (span, seen) = match is_request {
        true => (&exchange.request, &view.request),
        false => (&exchange.response, &view.response),
    };
    seen.first == 0 && (span.start, span.end) == (segment.pos, segment.end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analyze::flow::tests::said;

    /// What the two sides of a connection may say; the first three requests and two responses are the usual ones.
    struct Speech {
        /// By sender.
        texts: [Vec<Vec<u8>>; 2],
        /// Its beginning was not seen.
        joined: bool,
    }

    fn http() -> Speech {
        let bytes = |texts: [&str; 9]| texts.map(|text| text.as_bytes().to_vec()).to_vec();
        Speech {
            texts: [bytes(REQUESTS), bytes(RESPONSES)],
            joined: false,
        }
    }

    /// `has_eof`: what comes first tells whether EOF packets follow column definitions.
    fn mysql(has_eof: bool) -> Speech {
        let packet = |seq: u8, payload: &[u8]| [&[payload.len() as u8, 0, 0, seq], payload].concat();
        let rows = |has_eof: bool, rows: u8, status: u8| {
            let mut all = [packet(1, &[1]), packet(2, b"\x03def\0\0\0")].concat();
            let mut seq = 3;
            if has_eof {
                all.extend(packet(seq, &[0xfe, 0, 0, 2, 0]));
                seq += 1;
            }
            for row in 0..rows {
                all.extend(packet(seq, &[1, b'0' + row]));
                seq += 1;
            }
            let end: &[u8] = match has_eof {
                true => &[0xfe, 1, 0, status, 0],
                false => &[0xfe, 0, 0, status, 0, 1, 0],
            };
            [all, packet(seq, end)].concat()
        };
        let requests = vec![
            packet(0, b"\x03select 1"),
            packet(0, b"\x03select 22"),
            packet(0, b"\x17\x01\0\0\0\0\x01\0\0\0"),
            packet(0, b"\x16select ?"),
            packet(0, b"\x03use d"),
            packet(0, b"\x0e"),
            packet(0, b"\x19\x01\0\0\0"),
            packet(0, b"\x17\xff\xff\xff\xff\0\x01\0\0\0"),
            [packet(0, b"\x03select 3"), packet(0, b"\x03select 4")].concat(),
        ];
        let responses = vec![
            rows(has_eof, 2, 0x22),
            packet(1, &[0, 7, 9, 2, 0, 3, 0]),
            packet(1, b"\xff\x2a\x04#42000no"),
            packet(1, &[0, 0, 0, 2, 0x40, 0, 0, 0, 4, 1, 2, 1, b'x']),
            packet(1, &[0, 0, 0, 8, 0, 0, 0]),
            rows(has_eof, 0, 8),
            rows(!has_eof, 1, 2),
            [
                packet(1, &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
                packet(2, b"\x03def\0"),
                packet(3, &[0xfe, 0, 0, 2, 0]),
            ]
            .concat(),
            b"nothing of the kind".to_vec(),
        ];
        Speech {
            texts: [requests, responses],
            joined: true,
        }
    }

    const REQUESTS: [&str; 9] = [
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        "HEAD /c HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /d HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /f HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "GET /g HTTP/1.1\r\n\r\nGET /h HTTP/1.1\r\n\r\n",
        "\r\nCONNECT i:1 HTTP/1.1\r\n\r\n",
    ];
    const RESPONSES: [&str; 9] = [
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nall of it",
        "nothing of the kind",
    ];

    /// What happens next on a connection.
    #[derive(Debug, Clone)]
    enum Event {
        /// A request, or a response, is sent in pieces of at most so many bytes, of which at most so many are captured.
        /// Each piece is shown by the observers of these bits, at once or `late`: after the next message.
        Sent {
            sender: usize,
            which: usize,
            piece: usize,
            snaplen: usize,
            shown: u8,
            late: u8,
        },
        Settle,
        Conclude,
        Close(usize),
        Attach(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        let sent = |sender| {
            let which = prop_oneof![3 => 0usize..3, 1 => 0usize..9];
            let piece = prop_oneof![9 => Just(1000usize), 1 => 1usize..60];
            let snaplen = prop_oneof![9 => Just(1000usize), 1 => 0usize..70];
            let shown = prop_oneof![9 => Just(7u8), 1 => 0u8..8];
            let late = prop_oneof![9 => Just(0u8), 3 => 0u8..8];
            (which, piece, snaplen, shown, late).prop_map(move |(which, piece, snaplen, shown, late)| Event::Sent {
                sender,
                which,
                piece,
                snaplen,
                shown,
                late,
            })
        };
        prop_oneof![
            30 => sent(0),
            30 => sent(1),
            1 => Just(Event::Settle),
            1 => Just(Event::Conclude),
            1 => (0usize..3).prop_map(Event::Close),
            1 => (0usize..3).prop_map(Event::Attach),
        ]
    }

    /// A request and its response, as they mostly are.
    fn exchange() -> impl Strategy<Value = Vec<Event>> {
        (0usize..3, 0usize..2, prop::sample::select(vec![0u8, 0, 0, 1, 2])).prop_map(|(asked, answered, late)| {
            [(0, asked), (1, answered)]
                .map(|(sender, which)| Event::Sent {
                    sender,
                    which,
                    piece: 1000,
                    snaplen: 1000,
                    shown: 7,
                    late,
                })
                .to_vec()
        })
    }

    /// All that one can see of a connection after an event.
    fn told(flow: &mut Flow, flush: bool) -> Vec<String> {
        // What is unread counts, the short way, when the exchange is whole.
        let unread = if flush { flow.unread_bytes } else { 0 };
        let before = format!(
            "{} {} {unread} {} {:?} {}",
            flow.exchanges,
            flow.lost_bytes,
            flow.why,
            flow.oldest(),
            flow.is_closed()
        );
        let mut all = vec![before];
        while let Some(exchange) = flow.take(flush) {
            let AnyExchange {
                request,
                response,
                closed,
                incomplete,
                views,
                ..
            } = exchange.exchange();
            all.push(format!(
                "{} {request:?} {response:?} {closed} {incomplete:?} {views:?}",
                said(exchange.exchange())
            ));
            flow.recycle(exchange);
        }
        all
    }

    fn tell_the_same(flows: &mut [Flow; 2], flush: bool) {
        let [fast_path, ordinary] = flows.each_mut().map(|flow| told(flow, flush));
        assert_eq!(fast_path.len(), ordinary.len(), "{fast_path:#?} {ordinary:#?}");
        for (facts, same_facts) in fast_path.iter().zip(&ordinary) {
            assert_eq!(facts, same_facts);
        }
    }

    /// Gives both flows the same, and returns how many exchanges went the short way. The one that goes it has the buffers of
    /// the flow that is over, and takes its place.
    fn compare(events: &[Event], observers: u8, speech: &Speech, over: &mut Flow) -> u64 {
        let ends = [crate::format::record::Endpoint::default(); 2];
        let fresh = || Flow::new(ends, Some(0), speech.joined);
        let after = std::mem::replace(over, fresh())
            .recycled()
            .again(ends, Some(0), speech.joined);
        let mut flows = [(after, false), (fresh(), true)].map(|(mut flow, is_forbidden)| {
            flow.fast_path.is_forbidden = is_forbidden;
            (0..OBSERVERS)
                .filter(|n| observers >> n & 1 == 1)
                .for_each(|n| flow.attach(n, 0));
            flow.start(0, 1000);
            flow.start(1, 2000);
            flow
        });
        let (mut sent, mut time, mut fast_path) = ([1000u32, 2000], 10, 0);
        let mut late: Vec<(usize, u32, Vec<u8>, usize, u8)> = Vec::new();
        for event in events {
            match event {
                Event::Sent {
                    sender,
                    which,
                    piece,
                    snaplen,
                    shown,
                    late: later,
                } => {
                    let text = &speech.texts[*sender][*which];
                    let due = std::mem::take(&mut late);
                    let mut segments = Vec::new();
                    for bytes in text.chunks(*piece) {
                        let mut payload = bytes.to_vec();
                        payload.truncate(*snaplen);
                        for n in (0..OBSERVERS as u8).filter(|n| (observers & shown) >> n & 1 == 1) {
                            let segment = (*sender, sent[*sender], payload.clone(), bytes.len(), n);
                            match later >> n & 1 {
                                1 => late.push(segment),
                                _ => segments.push(segment),
                            }
                        }
                        sent[*sender] = sent[*sender].wrapping_add(bytes.len() as u32);
                    }
                    for (sender, sequence, payload, len, observer) in segments.into_iter().chain(due) {
                        time += 10;
                        for flow in &mut flows {
                            let segment = Segment {
                                pos: flow.stream(sender).position(sequence),
                                len: len as u64,
                                payload: &payload,
                                observer,
                                time,
                                pid: 7,
                                tid: 8,
                                cgroup: 9,
                                urgent: false,
                            };
                            flow.segment(sender, segment);
                        }
                        fast_path += u64::from(flows[0].fast_path.is_whole());
                        tell_the_same(&mut flows, false);
                    }
                }
                Event::Settle => flows.iter_mut().for_each(Flow::settle),
                Event::Conclude => flows.iter_mut().for_each(Flow::conclude),
                Event::Close(observer) if observers >> observer & 1 == 1 => {
                    flows.iter_mut().for_each(|flow| flow.close(*observer, 1, [None; 2]));
                }
                Event::Attach(observer) => flows.iter_mut().for_each(|flow| flow.attach(*observer, 0)),
                Event::Close(_) => {}
            }
            tell_the_same(&mut flows, false);
        }
        flows.iter_mut().for_each(Flow::finish);
        tell_the_same(&mut flows, true);
        [*over, _] = flows;
        fast_path
    }

    fn nothing() -> Flow {
        Flow::new([crate::format::record::Endpoint::default(); 2], None, false)
    }

    #[test]
    fn what_most_exchanges_are_goes_straight() {
        let one = |sender, which| Event::Sent {
            sender,
            which,
            piece: 1000,
            snaplen: 1000,
            shown: 7,
            late: 0,
        };
        let events: Vec<Event> = (0..10).flat_map(|n| [one(0, n % 3), one(1, n % 2)]).collect();
        // The first exchange tells what the connection speaks, and the third prepared statement is not known.
        for observers in [1, 2, 3, 4] {
            let mut over = nothing();
            for (speech, fast_path) in [(http(), 9), (mysql(false), 6), (mysql(true), 6), (http(), 9)] {
                assert_eq!(
                    compare(&events, observers, &speech, &mut over),
                    fast_path,
                    "observers {observers:b}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn both_ways_tell_the_same(
            observers in prop::sample::select(vec![1u8, 2, 3, 4]),
            parts in prop::collection::vec(prop_oneof![4 => exchange(), 1 => event().prop_map(|event| vec![event])], 1..16),
        ) {
            let mut over = nothing();
            for speech in [http(), http(), mysql(false), mysql(true), http()] {
                compare(&parts.concat(), observers, &speech, &mut over);
            }
        }
    }
}
