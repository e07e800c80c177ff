//! Segments that are forged, stale, or not obeyed: what both ends go on with is what counts.

use super::build::*;
use crate::format::record::{About, Ending, Opened};

const SECOND: u64 = 1_000_000_000;

/// A question and its answer, then the end.
fn rest(dialog: &mut Dialog) -> Run {
    dialog.send(0, b"question").send(1, b"answer").fin(0).fin(1).ack(0);
    dialog.run()
}

/// One connection with all of its bytes, from its opening to its end.
fn is_whole(run: &Run, remarks: &[(About, u64)]) {
    assert_eq!((run.sockets.len(), run.connects.len()), (1, 1), "{run:#?}");
    assert_eq!((run.client(), run.server()), ("question".into(), "answer".into()));
    assert_eq!(
        run.closes.iter().map(|c| c.ending).collect::<Vec<_>>(),
        [Ending::Closed]
    );
    assert_eq!((run.closes[0].bytes_sent, run.closes[0].bytes_received), (8, 6));
    assert_eq!((run.summary.gaps, run.summary.is_whole()), (0, true));
    let expected: Vec<_> = remarks.iter().map(|(about, count)| ((*about).into(), *count)).collect();
    assert_eq!(run.remarks(), expected);
}

#[test]
fn a_second_answer_to_a_syn_leaves_the_connection_as_it_is() {
    // Before and after the first was taken, and after data.
    for at in [2, 3, 5] {
        let mut dialog = Dialog::opened();
        dialog.send(0, b"question").send(1, b"answer").fin(0).fin(1).ack(0);
        let mut other = Dialog::at(0, 0);
        other.packet(1, 99_000_000, 1001, "SA", b"");
        dialog.frames.insert(at, other.frames.swap_remove(0));
        for (n, frame) in dialog.frames.iter_mut().enumerate() {
            frame.time = START + n as u64 * STEP;
        }
        is_whole(&dialog.run(), &[]);
    }
}

#[test]
fn of_several_answers_to_a_syn_the_one_that_is_acknowledged_counts() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"");
    dialog.packet(1, 99_000_000, 1001, "SA", b"");
    dialog.packet(1, 5000, 1001, "SA", b"");
    dialog.packet(0, 1001, 5001, "A", b"");
    dialog.seq = [1001, 5001];
    let run = rest(&mut dialog);
    is_whole(&run, &[]);
    assert_eq!(run.connects[0].receive_pos, 5001);
}

#[test]
fn a_challenge_before_the_answer_to_a_syn_is_not_believed() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"");
    // The server still has an old connection of these ports, and the client resets that one.
    dialog.packet(1, 0x9000_0000, 0x3000_0000, "A", b"");
    dialog.packet(0, 0x3000_0000, 0, "R", b"");
    dialog.wait(SECOND).packet(0, 1000, 0, "S", b"");
    dialog.packet(1, 5000, 1001, "SA", b"").packet(0, 1001, 5001, "A", b"");
    dialog.seq = [1001, 5001];
    is_whole(&rest(&mut dialog), &[(About::IgnoredReset, 1)]);

    // The old connection was near: what it acknowledges the new one could have sent, and was not seen to send.
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"");
    dialog.packet(1, 0x9000_0000, 77_777, "A", b"");
    dialog.packet(1, 5000, 1001, "SA", b"").packet(0, 1001, 5001, "A", b"");
    dialog.seq = [1001, 5001];
    is_whole(&rest(&mut dialog), &[]);
}

#[test]
fn the_same_ports_again_while_the_old_connection_is_open_are_another_connection_once_it_is_answered() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"old");
    let (old, new) = (dialog.seq, [0x9000_0000_u32, 0xa000_0000]);
    dialog.packet(0, new[0], 0, "S", b"");
    // A challenge, and the answer to it (RFC 9293, 3.10.7.1: its number is what the challenge acknowledges).
    dialog
        .packet(1, old[1], old[0], "A", b"")
        .packet(0, old[0], 0, "R", b"");
    dialog.wait(SECOND).packet(0, new[0], 0, "S", b"");
    let answered = dialog.time;
    dialog.packet(1, new[1], new[0] + 1, "SA", b"");
    dialog.packet(0, new[0] + 1, new[1] + 1, "A", b"");
    dialog.seq = [new[0] + 1, new[1] + 1];
    let run = rest(&mut dialog);
    assert_eq!((run.sockets.len(), run.connects.len()), (2, 2));
    assert_eq!((run.data.len(), run.server()), (3, "answer".into()));
    assert_eq!(run.connects[1].time, answered + STEP);
    assert_eq!(
        run.connects[1].connect_ns,
        SECOND + 4 * STEP + STEP,
        "since the first SYN"
    );
    assert_eq!(run.summary.gaps, 0);
}

/// Found by a property: where a stream had begun was taken for what its peer had acknowledged, a GiB ahead.
#[test]
fn a_syn_outside_the_window_acknowledges_nothing() {
    let mut dialog = Dialog::at(0, 0);
    dialog.packet(0, 0, 0, "", b"").packet(0, 3_221_226_289, 0, "RS", b"");
    dialog.packet(0, 0, 0, "A", b"x");
    assert_eq!(dialog.run().client(), "x");
}

#[test]
fn a_forged_syn_changes_nothing() {
    for (flags, ack) in [("S", 0), ("SA", 77_000_000)] {
        for side in [0, 1] {
            let mut dialog = Dialog::opened();
            dialog.send(0, b"ques").packet(side, 0x7000_0000, ack, flags, b"");
            dialog.send(0, b"tion").send(1, b"answer").fin(0).fin(1).ack(0);
            let run = dialog.run();
            is_whole(&run, &[]);
        }
    }
}

#[test]
fn after_an_ignored_reset_the_connection_goes_on() {
    for (forged_by, first, second) in [(0, 0, 1), (0, 1, 0), (1, 0, 1), (1, 1, 0)] {
        let mut dialog = Dialog::opened();
        dialog.rst(forged_by).wait(SECOND / 2);
        let words: [&[u8]; 2] = [b"question", b"answer"];
        dialog.send(first, words[first]).send(second, words[second]);
        dialog.fin(0).fin(1).ack(0);
        is_whole(&dialog.run(), &[(About::IgnoredReset, 1)]);
    }
}

#[test]
fn a_forged_refusal_does_not_end_a_connect() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"").packet(1, 0, 1001, "RA", b"");
    dialog.packet(1, 5000, 1001, "SA", b"").packet(0, 1001, 5001, "A", b"");
    dialog.seq = [1001, 5001];
    is_whole(&rest(&mut dialog), &[(About::IgnoredReset, 1)]);
}

/// Long after the reset it is another row, joined in its middle, and nothing is left out.
#[test]
fn what_goes_on_long_after_a_reset_is_another_connection() {
    for silent in [0, 1] {
        let mut dialog = Dialog::opened();
        dialog.send(0, b"before").rst(silent);
        dialog.wait(10 * SECOND).send(silent, b"later").send(1 - silent, b"too");
        let run = dialog.run();
        assert_eq!((run.sockets.len(), run.sockets[1].opened), (2, Opened::FirstSeen));
        let payloads: Vec<&[u8]> = run.data.iter().map(|data| &*data.payload).collect();
        assert_eq!(payloads, [&b"before"[..], b"later", b"too"]);
    }
}

/// A server that sends until the reset arrives, as when a download is aborted.
#[test]
fn what_was_in_flight_when_a_connection_was_reset_is_left_out_and_reported() {
    let part = [b'x'; 1000];
    let mut dialog = Dialog::opened();
    dialog.send(0, b"question").send(1, &part).rst(0);
    let reset = dialog.time - STEP;
    for _ in 0..500 {
        dialog.send(1, &part).rst(0);
    }
    dialog.wait(10 * SECOND).send(1, &part);
    // As Linux sends them, all resets are the same packet; and a fast link has them within a moment.
    for frame in dialog
        .frames
        .iter_mut()
        .filter(|frame| frame.bytes[14 + 20 + 13] & 4 != 0)
    {
        frame.bytes[14 + 4..14 + 6].fill(0);
        frame.time = reset + (frame.time - reset) / 1000;
    }
    let run = dialog.run();
    assert_eq!((run.sockets.len(), run.closes.len()), (1, 1));
    assert_eq!(
        (run.closes[0].ending, run.closes[0].time),
        (Ending::ResetLocally, reset)
    );
    assert_eq!((run.server().len(), run.closes[0].bytes_received), (1000, 1000));
    assert_eq!(run.remarks(), [(About::AfterReset.into(), 501)]);
    assert!(run.summary.is_whole());
}

/// The direction of the end whose RST was forged is not captured: the other end goes on.
#[test]
fn an_end_that_goes_on_sending_after_a_reset_is_read() {
    let mut dialog = Dialog::opened();
    dialog.rst(0);
    for _ in 0..200 {
        dialog.send(1, b"on");
    }
    let run = dialog.run();
    assert_eq!(run.server(), "on".repeat(200));
    assert_eq!(run.remarks(), [(About::IgnoredReset.into(), 1)]);
}

#[test]
fn data_that_a_reset_overtook_is_no_sign_that_it_was_ignored() {
    let mut dialog = Dialog::opened();
    dialog.send(1, b"one ").send(1, b"two").rst(1);
    dialog.frames.swap(4, 5);
    let run = dialog.run();
    assert_eq!(run.server(), "one two");
    assert_eq!((run.closes[0].ending, run.remarks()), (Ending::ResetByPeer, vec![]));
}

#[test]
fn a_forged_fin_hides_nothing() {
    let mut dialog = Dialog::opened();
    dialog.packet(0, 1001, 5001, "FA", b"").send(0, b"question");
    dialog.send(1, b"answer").fin(0).fin(1).ack(0);
    is_whole(&dialog.run(), &[]);
    // The other end has closed already: what follows is another row, joined in its middle.
    let mut dialog = Dialog::opened();
    dialog.fin(1).packet(0, 1001, 5002, "FA", b"");
    dialog.send(0, b"question").fin(0).ack(1);
    let run = dialog.run();
    assert_eq!((run.client(), run.sockets.len()), ("question".into(), 2));
}

#[test]
fn one_acknowledgment_far_ahead_is_not_believed() {
    let mut dialog = Dialog::opened();
    dialog.packet(1, 5001, 800_000_000, "A", b"");
    is_whole(&rest(&mut dialog), &[]);
    // Two that agree are: the capture has lost what they acknowledge.
    let mut dialog = Dialog::opened();
    dialog.seq[0] = 800_000_000;
    dialog.ack(1).send(1, b"one").ack(0).send(0, b"two").ack(1);
    let run = dialog.run();
    assert_eq!(run.client(), "two");
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (1, 800_000_000 - 1001));
}

/// A connection that was open before the capture, and idle.
#[test]
fn keep_alives_before_the_first_request_are_no_bytes() {
    for probe in [&b""[..], b"\0"] {
        for prober in [0, 1] {
            for probes in 1..4 {
                let mut dialog = Dialog::at(1001, 5001);
                for _ in 0..probes {
                    dialog.packet(prober, dialog.seq[prober] - 1, dialog.seq[1 - prober], "A", probe);
                    dialog.ack(1 - prober).wait(SECOND);
                }
                dialog.send(0, b"question").send(1, b"answer").fin(0).fin(1).ack(0);
                let run = dialog.run();
                assert_eq!((run.client(), run.server()), ("question".into(), "answer".into()));
                let socket = run.sockets[0];
                assert_eq!(
                    (socket.send_pos, socket.receive_pos, socket.positions),
                    (1001, 5001, true)
                );
                assert_eq!((run.closes[0].bytes_sent, run.closes[0].bytes_received), (8, 6));
                assert_eq!((run.summary.gap_bytes, run.summary.retransmits), (0, 0));
            }
        }
    }
}

/// Each is watched for its own time.
#[test]
fn one_forged_reset_after_the_other_ends_nothing() {
    let mut dialog = Dialog::opened();
    dialog.rst(0).wait(SECOND / 2).send(0, b"ques").wait(SECOND / 4);
    dialog.rst(1).wait(SECOND / 2).send(0, b"tion").wait(SECOND / 4);
    dialog.send(1, b"answer").fin(0).fin(1).ack(0);
    is_whole(&dialog.run(), &[(About::IgnoredReset, 2)]);
}
