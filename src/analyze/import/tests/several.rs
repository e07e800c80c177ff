//! Several captures that are read together: rotated parts, and one connection at two places.

use super::build::*;
use crate::format::record::{Ending, Opened};

const US: u64 = 1000;
const SECOND: u64 = 1_000_000_000;

/// Requests that go on, with a retransmission and an overtaken segment.
fn conversation() -> Dialog {
    let mut talk = Dialog::opened();
    for number in 0..3 {
        talk.send(0, format!("request {number}").as_bytes());
        talk.send(1, b"part one, ");
        let [client, server] = talk.seq;
        talk.packet(1, server + 9, client, "A", b"part three");
        talk.packet(1, server, client, "A", b"part two,");
        talk.seq[1] += 19;
        talk.ack(0);
        // Nobody got it.
        talk.wait(300 * 1000 * US);
        talk.packet(1, server + 9, client, "A", b"part three");
    }
    talk.fin(0).fin(1).ack(0);
    talk
}

fn file(frames: &[Captured]) -> Vec<u8> {
    pcap(ETHERNET, frames, true, false)
}

/// The frames of a file in the format that [`file`] writes.
fn frames_of(name: &str) -> Vec<Captured> {
    let bytes = std::fs::read(name).unwrap();
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "{name}");
    assert_eq!(bytes[20..24], u32::from(ETHERNET).to_le_bytes(), "{name}");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let time = u64::from(word(at)) * SECOND + u64::from(word(at + 4)) * US;
        let end = at + 16 + word(at + 8) as usize;
        let mut frame = Captured::new(time, bytes[at + 16..end].to_vec());
        frame.original = word(at + 12);
        frames.push(frame);
        at = end;
    }
    frames
}

#[track_caller]
fn assert_same(run: &Run, expected: &Run, what: &str) {
    assert_eq!(run.sockets, expected.sockets, "{what}");
    assert_eq!(run.connects, expected.connects, "{what}");
    assert_eq!(run.data, expected.data, "{what}");
    assert_eq!(run.closes, expected.closes, "{what}");
    assert_eq!(run.losses, expected.losses, "{what}");
}

/// The same packets as another capture has them that is so many routers further on, with another clock.
fn seen_elsewhere(frames: &[Captured], clock: i64, hops: u8) -> Vec<Captured> {
    let mut frames = frames.to_vec();
    for frame in &mut frames {
        frame.time = frame.time.wrapping_add_signed(clock);
        frame.bytes[14 + 8] -= hops;
    }
    frames
}

#[test]
fn a_capture_that_was_cut_at_any_packet_is_the_same_in_any_order_of_its_parts() {
    let conversation = conversation().frames;
    for frames in [conversation, frames_of("fixtures/http/nginx.pcap")] {
        let whole = Run::of(&file(&frames));
        assert!(whole.data.len() > 5);
        for at in 0..=frames.len() {
            let (first, second) = frames.split_at(at);
            let [first, second] = [file(first), file(second)];
            assert_same(&Run::joined(&[&first, &second]), &whole, &format!("cut at {at}"));
            assert_same(
                &Run::joined(&[&second, &first]),
                &whole,
                &format!("cut at {at}, the second first"),
            );
        }
        let parts: Vec<Vec<u8>> = frames.chunks(3).map(file).rev().collect();
        assert_same(&Run::joined(&parts), &whole, "parts of three packets");
    }
}

#[test]
fn what_two_parts_both_have_counts_once() {
    let frames = conversation().frames;
    let whole = Run::of(&file(&frames));
    for from in 0..frames.len() {
        for to in from..=frames.len() {
            let parts = [file(&frames[..to]), file(&frames[from..])];
            let mut run = Run::joined(&parts);
            let what = format!("both have {from} to {to}");
            for (close, expected) in run.closes.iter_mut().zip(&whole.closes) {
                // What is sent again may be taken for a copy, where the other part has what was sent first.
                assert!(close.retransmits <= expected.retransmits, "{what}");
                close.retransmits = expected.retransmits;
            }
            assert_same(&run, &whole, &what);
        }
    }
}

#[test]
fn a_connection_at_two_places_counts_once_whatever_the_clocks_say() {
    let frames = conversation().frames;
    let whole = Run::of(&file(&frames));
    let places = [
        0,
        30 * US as i64,
        -30 * (US as i64),
        2 * SECOND as i64,
        -2 * (SECOND as i64),
        3600 * SECOND as i64,
    ];
    for clock in places {
        for start in [0, 4, 9] {
            let captures = [file(&frames), file(&seen_elsewhere(&frames[start..], clock, 1))];
            let run = Run::joined(&captures);
            let what = format!("{clock} ns, from packet {start} on");
            if run.sockets.len() == 2 {
                // By its clock, the one that lacks the beginning was over before it: then both count, and that is told.
                assert!(start > 0 && clock < -(SECOND as i64), "{what}");
                assert_eq!(run.shared(), [(0, 1)], "{what}");
                continue;
            }
            assert_eq!(run.sockets.len(), 1, "{what}");
            assert_eq!(run.closes.len(), 1, "{what}");
            assert_eq!((run.client(), run.server()), (whole.client(), whole.server()), "{what}");
            assert_eq!(run.closes[0].retransmits, whole.closes[0].retransmits, "{what}");
        }
    }
}

#[test]
fn each_of_two_captures_may_lack_what_the_other_has() {
    let frames = conversation().frames;
    let whole = Run::of(&file(&frames));
    let mut halves: [Vec<Captured>; 2] = Default::default();
    for (at, frame) in frames.iter().enumerate() {
        halves[at % 2].push(frame.clone());
    }
    let run = Run::joined(&[file(&halves[0]), file(&seen_elsewhere(&halves[1], 0, 1))]);
    assert_eq!((run.client(), run.server()), (whole.client(), whole.server()));
    // As a device that splits a line gives it: each direction in a file of its own.
    let of = |side: [u8; 4]| -> Vec<Captured> {
        frames
            .iter()
            .filter(|frame| frame.bytes[14 + 12..14 + 16] == side)
            .cloned()
            .collect()
    };
    let run = Run::joined(&[file(&of(SERVER.0)), file(&of(CLIENT.0))]);
    assert_eq!(run.sockets.len(), 1);
    assert_eq!(run.sockets[0].opened, Opened::Connect);
    assert_eq!((run.client(), run.server()), (whole.client(), whole.server()));
}

/// Loopback of two hosts, with the same addresses and ports by chance.
#[test]
fn connections_of_two_hosts_are_never_joined_where_their_sequence_numbers_differ() {
    let talk = |isn: [u32; 2], word: &str, joined: bool| {
        let mut talk = match joined {
            true => Dialog::at(isn[0], isn[1]),
            false => Dialog::opened_at(isn[0], isn[1]),
        };
        for number in 0..4 {
            talk.send(0, format!("{word} {number}?").as_bytes());
            talk.send(1, format!("{word} {number}!").as_bytes());
        }
        talk
    };
    for joined in [false, true] {
        for (closes, later) in [
            (true, 0),
            (false, 0),
            (true, 100 * SECOND),
            (false, 100 * SECOND),
            (false, 300 * US),
        ] {
            let mut talks = [
                talk([1000, 5000], "left", joined),
                talk([0x7000_0000, 0x9000_0000], "right", joined),
            ];
            for talk in talks.iter_mut().filter(|_| closes) {
                talk.fin(0).fin(1).ack(0);
            }
            let late = seen_elsewhere(&talks[1].frames, later as i64, 0);
            for captures in [[&talks[0].frames, &late], [&late, &talks[0].frames]] {
                let what = format!("joined {joined}, closes {closes}, {later} ns later");
                let run = Run::joined(&captures.map(|frames| file(frames)));
                assert_eq!(run.sockets.len(), 2, "{what}");
                for (socket, word) in run.sockets.iter().zip(if run.sockets[0].send_pos < 2000 {
                    ["left", "right"]
                } else {
                    ["right", "left"]
                }) {
                    let mut said = run.data.clone();
                    said.retain(|said| said.id == socket.id);
                    let alone = Run {
                        data: said,
                        ..Run::default()
                    };
                    let all = |end: char| (0..4).map(|number| format!("{word} {number}{end}")).collect::<String>();
                    assert_eq!((alone.client(), alone.server()), (all('?'), all('!')), "{what}");
                }
                let ended = run.closes.iter().filter(|close| close.ending == Ending::Closed).count();
                assert_eq!(ended, if closes { 2 } else { 0 }, "{what}");
            }
        }
    }
}

#[test]
fn files_tell_which_connections_they_share() {
    let frames = conversation().frames;
    let shared = |second: &[Captured]| Run::joined(&[file(&frames), file(second)]).shared();
    assert_eq!(shared(&seen_elsewhere(&frames, 30 * US as i64, 1)), [(1, 0)]);
    assert_eq!(
        shared(&seen_elsewhere(&frames, 1000 * SECOND as i64, 0)),
        [],
        "one after the other"
    );
    let mut other = Dialog::at(0x5000_0000, 0x6000_0000);
    other.wait(5 * STEP).send(0, b"other?").send(1, b"other!");
    assert_eq!(shared(&other.frames), [(0, 1)]);
}

/// However many files there are: only connections take memory, and all are found.
#[test]
fn reused_ports_in_two_captures_are_as_many_connections_as_in_one() {
    let mut frames = Vec::new();
    for number in 0..40_u32 {
        let mut talk = Dialog::opened_at(number * 0x0500_0001, number * 0x0300_0003);
        talk.send(0, b"?").send(1, b"!").fin(0).fin(1).ack(0);
        frames.extend(seen_elsewhere(&talk.frames, i64::from(number) * 2 * SECOND as i64, 0));
    }
    for clock in [-30 * (US as i64), 30 * US as i64, -(SECOND as i64) / 2] {
        let run = Run::joined(&[file(&frames), file(&seen_elsewhere(&frames, clock, 1))]);
        assert_eq!((run.sockets.len(), run.closes.len()), (40, 40), "{clock}");
        assert_eq!((run.client(), run.server()).0.matches('?').count(), 40);
    }
}
