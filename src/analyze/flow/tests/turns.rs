//! Turns as one or both ends saw them.

use super::*;
use crate::analyze::stream::ORIGIN;

/// What an end sees: which observer, who sends, where in that direction, how many bytes, when.
type Call = (usize, usize, u64, u64, u64);

/// What a turn is: bytes asked and answered, ttfb and total at the client, total at the server, why it is incomplete, whether it overlaps.
type Cut = (
    Option<u64>,
    Option<u64>,
    Option<[u64; 2]>,
    Option<u64>,
    Option<Incomplete>,
    bool,
);

/// The turns of a connection of an unknown protocol between end 0, the client, and end 1; `ends`: where each direction ends, if known.
fn cut(observers: &[usize], calls: &[Call], ends: [Option<u64>; 2]) -> Vec<Cut> {
    let endpoints = [1, 2].map(|port| Endpoint::new([127, 0, 0, 1].into(), port));
    let mut flow = Flow::new(endpoints, Some(0), false);
    flow.cut_turns(WantedTurns::Unread);
    (0..2).for_each(|sender| flow.start(sender, 0));
    observers.iter().for_each(|observer| flow.attach(*observer, 0));
    let (mut cut, zeros) = (Vec::new(), [0u8; 4096]);
    let mut keep = |flow: &mut Flow, flush| {
        while let Some(turn) = flow.take_turn(flush) {
            let measured = |observer: usize| {
                whole_view(&*turn, observer).map(|view| {
                    let last = view.response.last;
                    [view.response.first - view.request.last, last - view.request.first]
                })
            };
            cut.push((
                turn.request.bytes(),
                turn.response.bytes(),
                measured(0),
                measured(1).map(|[_, total]| total),
                turn.incomplete,
                turn.message.overlapping,
            ));
        }
    };
    for (observer, sender, at, len, time) in calls {
        let segment = Segment {
            pos: ORIGIN + at,
            len: *len,
            payload: &zeros[..*len as usize],
            observer: *observer as u8,
            time: *time,
            pid: 1,
            tid: 1,
            cgroup: 1,
            urgent: false,
        };
        flow.segment(*sender, segment);
        keep(&mut flow, false);
    }
    flow.totals = ends.map(|end| end.map(|end| ORIGIN + end));
    keep(&mut flow, true);
    cut
}

#[test]
fn each_side_in_its_turn_is_measured_at_each_end() {
    let turns = cut(
        &[0, 1],
        &[
            // The request in two calls, the response in two; then the next, and its response.
            (0, 0, 0, 10, 100),
            (0, 0, 10, 5, 110),
            (1, 0, 0, 15, 120),
            (1, 1, 0, 40, 150),
            (1, 1, 40, 60, 170),
            (0, 1, 0, 100, 190),
            (0, 0, 15, 7, 300),
            (1, 0, 15, 7, 320),
            (1, 1, 100, 1, 330),
            (0, 1, 100, 1, 340),
        ],
        [Some(22), Some(101)],
    );
    let expected = [
        (Some(15), Some(100), Some([80, 90]), Some(50), None, false),
        (Some(7), Some(1), Some([40, 40]), Some(10), None, false),
    ];
    assert_eq!(turns, expected);
}

#[test]
fn a_greeting_is_a_turn_that_nobody_asked_for() {
    let calls = [(0, 1, 0, 20, 10), (0, 0, 0, 8, 20), (0, 1, 20, 4, 50)];
    let turns = cut(&[0], &calls, [Some(8), Some(24)]);
    let expected = [
        (None, Some(20), None, None, None, false),
        (Some(8), Some(4), Some([30, 30]), None, None, false),
    ];
    assert_eq!(turns, expected);
}

#[test]
fn what_crosses_on_the_way_has_no_latency_from_then_on() {
    let calls = [
        (0, 0, 0, 4, 10),
        (1, 0, 0, 4, 11),
        // The server sends before it has the next request, the client sends that before it has what the server sent.
        (1, 1, 0, 6, 12),
        (0, 0, 4, 4, 13),
        (0, 1, 0, 6, 14),
        (1, 0, 4, 4, 15),
        (1, 1, 6, 6, 16),
        (0, 1, 6, 6, 17),
        (0, 0, 8, 4, 30),
        (1, 0, 8, 4, 31),
        (1, 1, 12, 6, 32),
        (0, 1, 12, 6, 33),
    ];
    let turns = cut(&[0, 1], &calls, [Some(12), Some(18)]);
    assert!(turns.iter().all(|(.., overlapping)| *overlapping), "{turns:?}");
    let bytes: u64 = turns.iter().map(|(asked, ..)| asked.unwrap_or(0)).sum();
    assert_eq!(bytes, 12, "every byte is in a turn: {turns:?}");
}

#[test]
fn a_hole_makes_the_turns_beside_it_incomplete_and_no_others() {
    let exchange = |n: u64| [(0, 0, 10 * n, 10, 100 * n + 100), (0, 1, 20 * n, 20, 100 * n + 150)];
    for lost in 0..10 {
        let mut calls: Vec<Call> = (0..5).flat_map(exchange).collect();
        calls.remove(lost);
        let turns = cut(&[0], &calls, [Some(50), Some(100)]);
        let complete: Vec<&Cut> = turns.iter().filter(|turn| turn.4.is_none()).collect();
        assert!(complete.len() >= 2, "{lost}: {turns:?}");
        for turn in complete {
            assert_eq!(turn, &(Some(10), Some(20), Some([50, 50]), None, None, false), "{lost}");
        }
    }
}

#[test]
fn the_last_turn_of_a_connection_that_is_not_over_may_go_on() {
    let calls = [(0, 0, 0, 4, 10), (0, 1, 0, 6, 20)];
    assert_eq!(cut(&[0], &calls, [Some(4), Some(6)])[0].4, None);
    assert_eq!(cut(&[0], &calls, [None; 2])[0].4, Some(Incomplete::ResponseCut));
    assert_eq!(
        cut(&[0], &calls[..1], [Some(4), Some(0)])[0].4,
        Some(Incomplete::NoResponse)
    );
}

#[test]
fn what_one_end_alone_lost_is_measured_at_the_other() {
    let mut calls = Vec::new();
    for n in 0..4 {
        calls.extend([
            (0, 0, 4 * n, 4, 100 * n + 10),
            (1, 0, 4 * n, 4, 100 * n + 20),
            (1, 1, 4 * n, 4, 100 * n + 30),
            (0, 1, 4 * n, 4, 100 * n + 40),
        ]);
    }
    // What the server received and answered in the second turn.
    calls.drain(5..7);
    let turns = cut(&[0, 1], &calls, [Some(16); 2]);
    assert_eq!(turns.len(), 4);
    for (at, turn) in turns.iter().enumerate() {
        assert_eq!(
            (turn.2, turn.4, turn.5),
            (Some([30, 30]), None, false),
            "{at}: {turns:?}"
        );
    }
    assert_eq!([turns[1].3, turns[3].3], [None, Some(10)], "{turns:?}");
}
