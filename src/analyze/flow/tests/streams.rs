//! A connection that carries several exchanges at a time: responses in any order, by key, in pieces that lie between those of
//! others, and messages that nobody asked for. The protocol is made up; what it needs of queue and flow is what HTTP/2, Redis or
//! Kafka need.

use super::*;
use crate::analyze::exchange::{Exchange, Halves, Message, Queue};
use crate::analyze::protocol::conversation::Paired;
use crate::analyze::protocol::http1::Http;
use crate::analyze::protocol::{Pairing, WholeMessages};

/// Length of a frame: kind, key, two bytes of anything.
const FRAME: u64 = 4;

#[derive(Debug, Default, Clone)]
struct Keyed {
    key: u8,
}

impl Message for Keyed {
    fn clear_response(&mut self) {}

    fn is_error(&self) -> bool {
        false
    }

    fn protocol(&self) -> usize {
        0
    }

    fn asked(&self, _limit: usize) -> String {
        char::from(self.key).to_string()
    }

    fn answered(&self) -> String {
        String::new()
    }

    fn line(&self, _incomplete: Option<Incomplete>, _limit: usize) -> String {
        String::new()
    }
}

/// Frames `?k..` ask, `.k..` are a piece of an answer, `!k..` its last, `*k..` is a push.
#[derive(Debug, Default)]
struct Frames {
    kept: [Vec<u8>; 2],
    /// How many frames of the server there were.
    frames: u64,
    /// By key: the frame at which its response began, and how many it has had.
    begun: std::collections::HashMap<u8, (u64, u64)>,
}

impl Pairing for Frames {
    type Message = Keyed;

    const ANY_ORDER: bool = true;

    fn begin(&mut self, _joined: bool) {
        *self = Frames::default();
    }

    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue<Keyed>) -> Verdict {
        let kept = &mut self.kept[from as usize];
        let mut start = pos - kept.len() as u64;
        kept.extend_from_slice(bytes);
        let frames: Vec<[u8; 4]> = kept
            .chunks_exact(FRAME as usize)
            .map(|frame| frame.try_into().unwrap())
            .collect();
        kept.drain(..frames.len() * FRAME as usize);
        for [kind, key, ..] in frames {
            let span = Span::whole(start, FRAME);
            start += FRAME;
            match kind {
                b'?' => {
                    let exchange = queue.open();
                    exchange.request = span;
                    exchange.message.key = key;
                    continue;
                }
                b'*' => {
                    let exchange = queue.open();
                    (exchange.response, exchange.halves) = (span, Halves::ResponseOnly);
                    exchange.message.key = key;
                }
                _ => {
                    let (first, own) = self.begun.entry(key).or_insert((self.frames, 0));
                    *own += 1;
                    let of_others = (self.frames + 1 - *first - *own) * FRAME;
                    let exchange = queue.awaiting_by(|message| message.key == key).unwrap();
                    if !exchange.response.begun {
                        exchange.response = Span { ended: false, ..span };
                    }
                    exchange.response.end = span.end;
                    exchange.response.of_others = of_others;
                    if kind == b'!' {
                        exchange.response.ended = true;
                        self.begun.remove(&key);
                    }
                }
            }
            self.frames += 1;
        }
        Verdict::Continue
    }

    fn missing(&mut self, _: Side, _: u64, _: u64, _: Missing, _: &mut Queue<Keyed>) -> Verdict {
        Verdict::Continue
    }

    fn settle(&mut self, _: &mut Queue<Keyed>) -> Verdict {
        Verdict::Continue
    }

    fn is_in_doubt(&self) -> bool {
        false
    }

    fn end(&mut self, _: Side, _: u64, _: bool, _: &mut Queue<Keyed>) {}
}

impl WholeMessages for Frames {}

/// What became of an exchange: its key, its times at the client, the bytes of its response.
type Seen = (String, [u64; 4], Option<u64>);

/// The exchanges of a connection whose client shows these calls, one each 10 ns, in the order in which they were taken.
fn taken(calls: &[(usize, &[u8])]) -> Vec<Seen> {
    let ends = [1, 2].map(|port| Endpoint::new([127, 0, 0, 1].into(), port));
    let mut flow = Flow::new(ends, Some(0), false);
    flow.attach(0, 0);
    flow.protocol_state = ProtocolState::Known(Box::new(Paired::<Frames>::new(&Http, false)));
    let (mut pos, mut time, mut all) = ([0; 2], 0, Vec::new());
    let mut keep = |flow: &mut Flow, flush| {
        while let Some(one) = flow.take(flush) {
            let exchange = one.exchange();
            assert_eq!(
                exchange.incomplete,
                (!exchange.is_finished()).then_some(Incomplete::NoResponse)
            );
            all.push((
                exchange.message.asked(9),
                exchange.views[0].times(),
                exchange.response.bytes(),
            ));
        }
    };
    for (sender, bytes) in calls {
        time += 10;
        flow.segment(
            *sender,
            Segment {
                pos: pos[*sender],
                len: bytes.len() as u64,
                payload: bytes,
                observer: 0,
                time,
                pid: 7,
                tid: 7,
                cgroup: 7,
                urgent: false,
            },
        );
        pos[*sender] += bytes.len() as u64;
        assert_eq!(
            flow.has_finished(),
            flow.next_queue()
                .is_some_and(|queue| { places(queue).any(|at| queue.get(at).is_some_and(AnyExchange::is_finished)) })
        );
        keep(&mut flow, false);
    }
    flow.finish();
    keep(&mut flow, true);
    all
}

#[test]
fn responses_in_any_order_and_in_pieces_between_others_have_their_own_times_and_bytes() {
    let seen = taken(&[
        (0, b"?1..?2..?3.."),
        (1, b".1..!3.."),
        (1, b".2..*9.."),
        (1, b".1..!2.."),
        // The third key again, while the first is still answered.
        (0, b"?3.."),
        (1, b"!3..!1.."),
        (0, b"?4.."),
    ]);
    let expected: [(&str, [u64; 4], Option<u64>); 6] = [
        ("3", [10, 10, 20, 20], Some(4)),
        ("9", [0, 0, 30, 30], Some(4)),
        ("2", [10, 10, 30, 40], Some(8)),
        ("1", [10, 10, 20, 60], Some(12)),
        ("3", [50, 50, 60, 60], Some(4)),
        ("4", [70, 70, 0, 0], None),
    ];
    assert_eq!(seen, expected.map(|(key, times, len)| (key.to_owned(), times, len)));
}

#[test]
fn an_exchange_in_any_order_is_found_by_its_key_and_taken_from_any_place() {
    let mut queue = Queue::<Keyed>::new(true);
    for (key, start) in [(1, 0), (2, 4), (1, 8)] {
        let exchange: &mut Exchange<Keyed> = queue.open();
        exchange.request = Span::whole(start, FRAME);
        exchange.message.key = key;
    }
    assert_eq!(queue.waiting(), 3);
    let newest = queue.awaiting_by(|message| message.key == 1).unwrap();
    assert_eq!(
        newest.request.start, 8,
        "a key that is used again means its newest request"
    );
    newest.response = Span::whole(0, FRAME);
    assert_eq!(queue.awaiting_by(|message| message.key == 1).unwrap().request.start, 0);
    assert_eq!(queue.waiting(), 2);
    let queue: &mut dyn AnyQueue = &mut queue;
    let taken = queue.take_at(2).unwrap();
    assert_eq!(taken.exchange().request.start, 8);
    assert!(queue.take_at(2).is_none());
    assert_eq!(queue.len(), 2);
}
