//! How connections open, speak, lose bytes, and end.

use super::build::*;
use crate::analyze::import::packet::Segment;
use crate::analyze::import::part::Tap;
use crate::analyze::import::summary::ImportSummary;
use crate::analyze::import::table::Table;
use crate::format::record::{About, Ending, Opened, Record, Role};

#[test]
fn a_handshake_gives_the_opener_the_positions_and_the_latency() {
    let run = Dialog::opened().send(0, b"hello").run();
    let socket = run.sockets[0];
    assert_eq!((socket.opened, socket.role), (Opened::Connect, Role::Wire));
    assert_eq!((socket.local, socket.remote), (endpoint(CLIENT), endpoint(SERVER)));
    assert_eq!(
        (socket.positions, socket.send_pos, socket.receive_pos),
        (true, 1001, 5001)
    );
    let connect = run.connects[0];
    assert_eq!(
        (connect.error, connect.connect_ns, connect.time),
        (0, 2 * STEP, START + 2 * STEP)
    );
    assert_eq!((connect.send_pos, connect.receive_pos), (1001, 5001));
    assert_eq!((run.data[0].pos, run.data[0].sent), (1001, true));
}

#[test]
fn the_first_syn_counts_for_the_latency() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"").packet(0, 1000, 0, "S", b"");
    dialog.packet(1, 5000, 1001, "SA", b"").packet(0, 1001, 5001, "A", b"");
    let run = dialog.run();
    assert_eq!(run.connects[0].connect_ns, 3 * STEP);
    assert_eq!(run.summary.retransmits, 1);
}

#[test]
fn a_rst_to_a_syn_is_a_refused_connect() {
    let mut dialog = Dialog::at(1000, 0);
    dialog.packet(0, 1000, 0, "S", b"").packet(1, 0, 1001, "RA", b"");
    let run = dialog.run();
    assert_eq!((run.connects[0].error, run.connects[0].connect_ns), (111, STEP));
    assert_eq!(run.closes[0].ending, Ending::ConnectFailed);
    assert_eq!(run.sockets[0].opened, Opened::Connect);
}

#[test]
fn a_rst_that_answers_something_else_refuses_nothing() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"").packet(1, 0, 77, "RA", b"");
    dialog.packet(1, 5000, 1001, "SA", b"").packet(0, 1001, 5001, "A", b"");
    let run = dialog.run();
    assert_eq!(run.connects[0].error, 0);
    assert_eq!(run.closes, []);
    assert_eq!(run.remarks(), [(About::IgnoredReset.into(), 1)]);
}

#[test]
fn fin_from_both_ends_closes_with_bytes_and_retransmissions() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"12345").send(1, b"1234567");
    dialog.packet(1, 5001, 1006, "A", b"1234567");
    dialog.fin(1).ack(0).send(0, b"late").fin(0).ack(1);
    let run = dialog.run();
    let close = run.closes[0];
    assert_eq!(close.ending, Ending::Closed);
    assert_eq!((close.bytes_sent, close.bytes_received, close.retransmits), (9, 7, 1));
    assert_eq!(run.client(), "12345late");
    assert!(run.summary.is_whole());
}

#[test]
fn the_ending_names_the_sender_of_the_rst() {
    assert_eq!(
        Dialog::opened().send(0, b"x").rst(1).run().closes[0].ending,
        Ending::ResetByPeer
    );
    assert_eq!(
        Dialog::opened().send(0, b"x").rst(0).run().closes[0].ending,
        Ending::ResetLocally
    );
}

#[test]
fn bytes_that_were_lost_right_before_a_rst_are_a_hole() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"request").lose(1, b"answer").rst(1);
    let run = dialog.run();
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (1, 6));
    assert_eq!(run.closes[0].bytes_received, 6);
}

#[test]
fn a_rst_far_outside_the_window_is_ignored() {
    let mut dialog = Dialog::opened();
    dialog.packet(1, 0x7000_0000, 0, "R", b"").send(0, b"goes on");
    let run = dialog.run();
    assert_eq!(run.closes, []);
    assert_eq!(run.client(), "goes on");
    assert_eq!(run.remarks(), [(About::IgnoredReset.into(), 1)]);
}

#[test]
fn the_same_ports_again_are_another_connection() {
    for end in 0..3 {
        let mut dialog = Dialog::opened_at(1000, 5000);
        dialog.send(0, b"first");
        match end {
            0 => drop(dialog.fin(0).fin(1).ack(0)),
            1 => drop(dialog.rst(0)),
            _ => {} // the end was not captured
        }
        let mut second = Dialog::opened_at(9_000_000, 70_000_000);
        second.send(0, b"second").fin(0).fin(1);
        let shift = dialog.time - START;
        dialog.frames.extend(second.frames.into_iter().map(|mut f| {
            f.time += shift;
            f
        }));
        let run = dialog.run();
        assert_eq!(run.sockets.len(), 2);
        assert_ne!(run.sockets[0].id, run.sockets[1].id);
        assert_eq!(run.sockets[0].id >> 32, run.sockets[1].id >> 32);
        assert_eq!(run.connects.len(), 2);
        let expected = [Ending::Closed, Ending::ResetLocally, Ending::Unknown(0)][end];
        assert_eq!(
            run.closes.iter().map(|c| c.ending).collect::<Vec<_>>(),
            [expected, Ending::Closed]
        );
        assert_eq!(run.data.iter().filter(|d| d.id == run.sockets[1].id).count(), 1);
    }
}

#[test]
fn new_ports_after_a_close_are_seen_without_their_syn() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"first").fin(0).fin(1).ack(0);
    dialog.seq = [0x9000_0000, 0xa000_0000];
    dialog.send(0, b"second");
    let run = dialog.run();
    assert_eq!(run.sockets.len(), 2);
    assert_eq!(run.sockets[1].opened, Opened::FirstSeen);
}

#[test]
fn both_directions_and_all_imports_have_the_same_upper_half() {
    let there = Dialog::opened().run();
    let mut back = Dialog::at(1, 2);
    back.send(1, b"answer first");
    assert_eq!(there.sockets[0].id >> 32, back.run().sockets[0].id >> 32);
}

#[test]
fn without_a_handshake_the_higher_port_is_taken_for_the_opener() {
    for first in [0, 1] {
        let mut dialog = Dialog::at(100, 200);
        dialog.send(first, b"in the middle").send(1 - first, b"of it");
        let run = dialog.run();
        assert_eq!(run.sockets[0].opened, Opened::FirstSeen);
        assert_eq!(run.sockets[0].local, endpoint(CLIENT));
        assert!(run.sockets[0].positions);
        assert_eq!((run.sockets[0].send_pos, run.sockets[0].receive_pos), (100, 200));
        assert_eq!(run.connects, []);
        assert_eq!(run.text(first == 0), "in the middle");
    }
}

#[test]
fn a_syn_ack_shows_the_opener_even_when_the_syn_is_missing() {
    let mut dialog = Dialog::opened();
    dialog.send(1, b"greeting");
    dialog.frames.remove(0);
    let run = dialog.run();
    assert_eq!(
        (run.sockets[0].opened, run.sockets[0].local),
        (Opened::Connect, endpoint(CLIENT))
    );
    assert_eq!(run.connects, []);
    assert_eq!(run.server(), "greeting");
}

#[test]
fn both_ends_may_open_at_once() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog.packet(0, 1000, 0, "S", b"").packet(1, 5000, 0, "S", b"");
    dialog.packet(0, 1000, 5001, "SA", b"").packet(1, 5000, 1001, "SA", b"");
    dialog.seq = [1001, 5001];
    dialog.send(0, b"one").send(1, b"two");
    let run = dialog.run();
    assert_eq!((run.sockets.len(), run.connects.len()), (1, 1));
    assert_eq!((run.client(), run.server()), ("one".to_string(), "two".to_string()));
}

#[test]
fn data_in_the_syn_is_data() {
    let mut dialog = Dialog::at(1000, 5000);
    dialog
        .packet(0, 1000, 0, "S", b"fast ")
        .packet(1, 5000, 1006, "SA", b"")
        .packet(0, 1006, 5001, "A", b"open");
    assert_eq!(dialog.run().client(), "fast open");
    // Not taken: it comes again.
    let mut dialog = Dialog::at(1000, 5000);
    dialog
        .packet(0, 1000, 0, "S", b"fast ")
        .packet(1, 5000, 1001, "SA", b"")
        .packet(0, 1001, 5001, "A", b"fast open");
    assert_eq!(dialog.run().client(), "fast open");
}

#[test]
fn keep_alives_and_window_probes_are_no_data() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"abc").ack(1);
    dialog.packet(0, dialog.seq[0] - 1, dialog.seq[1], "A", b"\0");
    dialog.packet(0, dialog.seq[0] - 1, dialog.seq[1], "A", b"");
    dialog.send(0, b"def");
    let run = dialog.run();
    assert_eq!(run.client(), "abcdef");
    assert_eq!(run.summary.retransmits, 0);
}

#[test]
fn a_first_byte_that_was_overtaken_is_data_where_its_place_was_acknowledged() {
    let mut dialog = Dialog::at(1001, 5001);
    dialog.ack(0).send(1, b"a").send(1, b"b");
    dialog.frames.swap(1, 2);
    assert_eq!(dialog.run().server(), "ab");
}

/// Two taps, of which one is late: in the middle of a connection, the first request stands behind its response.
#[test]
fn the_first_data_waits_for_what_it_answers() {
    let mut dialog = Dialog::at(1001, 5001);
    dialog.send(0, b"request").send(1, b"answer").send(0, b"next");
    dialog.frames.swap(0, 1);
    let run = dialog.run();
    let said: Vec<&[u8]> = run.data.iter().map(|said| said.payload.as_slice()).collect();
    assert_eq!(said, [&b"request"[..], b"answer", b"next"]);
    assert_eq!((run.sockets[0].send_pos, run.sockets[0].receive_pos), (1001, 5001));
}

/// One tap is so late that an end has acknowledged everything before the first packet of the other.
#[test]
fn what_was_acknowledged_before_the_first_packet_stays_acknowledged() {
    let mut dialog = Dialog::opened();
    dialog
        .send(0, b"one ")
        .lose(0, b"two ")
        .send(0, b"three ")
        .send(1, b"answer")
        .send(0, b"four");
    let (late, early): (Vec<_>, Vec<_>) = dialog
        .frames
        .into_iter()
        .partition(|frame| frame.bytes[29] == CLIENT.0[3]);
    dialog.frames = [early, late].concat();
    let run = dialog.run();
    let said: Vec<&[u8]> = run
        .data
        .iter()
        .map(|said| said.payload.as_slice())
        .filter(|said| !said.is_empty())
        .collect();
    assert_eq!(said, [&b"one "[..], b"three ", b"answer", b"four"]);
}

#[test]
fn sequence_numbers_wrap() {
    let mut dialog = Dialog::opened_at(u32::MAX - 3, u32::MAX - 20);
    for part in ["one ", "two ", "three ", "four "] {
        dialog.send(0, part.as_bytes()).send(1, part.as_bytes());
    }
    dialog.fin(0).fin(1);
    let run = dialog.run();
    assert_eq!(run.client(), "one two three four ");
    assert_eq!(run.server(), "one two three four ");
    assert_eq!((run.closes[0].bytes_sent, run.closes[0].bytes_received), (19, 19));
    assert!(run.summary.is_whole());
}

#[test]
fn a_segment_that_overtook_waits_and_gets_the_time_at_which_the_hole_closed() {
    let mut dialog = Dialog::opened();
    dialog.send(1, b"one ");
    dialog.seq[1] += 4;
    dialog.send(1, b"three");
    dialog.packet(1, 5005, 1001, "A", b"two ");
    let run = dialog.run();
    assert_eq!(run.server(), "one two three");
    let times: Vec<u64> = run.data.iter().map(|d| (d.time - START) / STEP).collect();
    assert_eq!(times, [3, 5, 5]);
}

#[test]
fn acknowledged_bytes_that_were_never_seen_are_a_hole() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"one").lose(0, b"lost!").send(0, b"three").ack(1);
    let before = dialog.frames.len();
    for _ in 0..12 {
        dialog.send(1, b".").ack(0);
    }
    let run = dialog.run();
    assert_eq!(run.client(), "one[5]three");
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (1, 5));
    // It was declared while the connection went on, and what came after keeps its time.
    let three = run.data.iter().position(|d| d.payload == b"three").expect("three");
    assert_eq!(run.data[three].time, START + 5 * STEP);
    assert!(three < run.data.len() - 3, "{three} of {before}");
}

/// A client that waits for each answer, as fast as loopback: what follows the hole must be handed on before the next
/// request, or it answers the wrong one.
#[test]
fn a_hole_is_reported_before_the_next_data_of_the_other_end() {
    let mut dialog = Dialog::opened();
    for n in 0..6 {
        dialog.send(0, format!("request {n}").as_bytes());
        match n {
            2 => dialog.lose(1, b"answer 2"),
            n => dialog.send(1, format!("answer {n}").as_bytes()),
        };
    }
    let run = dialog.run();
    let place = |text: &str| run.data.iter().position(|d| d.payload == text.as_bytes());
    assert!(place("answer 3") < place("request 4"), "{:?}", run.data);
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (1, 8));
}

/// An upload of which nothing was captured, and a client that waits for each answer.
#[test]
fn a_hole_of_any_size_is_reported_before_the_response_to_the_next_request() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"first").send(1, b"one");
    dialog.seq[0] = dialog.seq[0].wrapping_add(100 << 20);
    dialog
        .send(0, b"second")
        .send(1, b"two")
        .send(0, b"third")
        .send(1, b"three");
    let run = dialog.run();
    let said: Vec<&[u8]> = run.data.iter().map(|said| said.payload.as_slice()).collect();
    let said: Vec<&[u8]> = said.into_iter().filter(|said| !said.is_empty()).collect();
    assert_eq!(said, [&b"first"[..], b"one", b"second", b"two", b"third", b"three"]);
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (1, 100 << 20));
}

/// Found by a property: the stream was taken up at a position that 32 bits take for an earlier one.
#[test]
fn a_stream_does_not_resume_at_an_earlier_position() {
    let mut dialog = Dialog::at(0, 0);
    dialog.packet(1, 1_073_743_172, 0, "S", b"123456789");
    for _ in 0..10 {
        dialog.packet(1, 0, 0, "", b"x");
    }
    let run = dialog.run();
    assert_eq!(run.client(), "123456789");
}

/// Found by a property: what was skipped was not reported, and with the next hole it was more than 32 bits can express.
#[test]
fn a_stream_that_resumes_at_a_later_position_reports_the_skipped_bytes() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"before");
    dialog.seq[0] = dialog.seq[0].wrapping_add(1_900_000_000);
    for n in 0..8 {
        dialog.send(0, &[b'0' + n]);
    }
    dialog.lose(0, &[0; 1000]).send(0, b"after");
    let run = dialog.run();
    assert_eq!(run.client(), "before[1900000008][1000]after");
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (2, 1_900_001_008));
    assert_eq!(run.remarks(), [(About::OutOfWindow.into(), 8)]);
    // Segments that have nothing in common take it nowhere.
    let mut dialog = Dialog::opened();
    dialog.send(0, b"before");
    for n in 0..20_u32 {
        dialog.packet(0, 1_200_000_000 + n * 40_000_000, 5001, "A", b"stray");
    }
    dialog.send(0, b" after");
    assert_eq!(dialog.run().client(), "before after");
}

#[test]
fn an_acknowledgment_captured_before_its_bytes_loses_nothing() {
    let mut dialog = Dialog::opened();
    for n in 0..50 {
        dialog
            .send(0, format!("request {n} ").as_bytes())
            .ack(1)
            .send(1, b"answer ");
    }
    // Two taps: what the client sends arrives in the file five packets late.
    let mut frames: Vec<_> = std::mem::take(&mut dialog.frames).into_iter().enumerate().collect();
    frames.sort_by_key(|(n, _)| match n {
        3.. if n % 3 == 0 => 2 * (n + 5) + 1,
        _ => 2 * n,
    });
    dialog.frames = frames.into_iter().map(|(_, frame)| frame).collect();
    let run = dialog.run();
    assert_eq!(run.summary.gaps, 0);
    assert!(run.client().starts_with("request 0 request 1 "));
    assert_eq!(
        run.client().len(),
        (0..50).map(|n| format!("request {n} ").len()).sum::<usize>()
    );
}

#[test]
fn a_lost_end_of_the_stream_is_marked() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"begin").lose(0, b"and the rest").fin(0).fin(1);
    let run = dialog.run();
    let last = run.data.last().expect("mark");
    assert_eq!((last.pos, last.len), (1001 + 17, 0));
    assert_eq!(run.client(), "begin[12]");
    assert_eq!(run.closes[0].bytes_sent, 17);
    assert_eq!(run.closes[0].ending, Ending::Closed);
}

#[test]
fn a_direction_that_was_not_captured_is_one_hole() {
    let mut dialog = Dialog::opened();
    for _ in 0..20 {
        dialog.send(0, b"request").lose(1, &[0; 100]).ack(0);
    }
    let run = dialog.run();
    assert_eq!(run.summary.gap_bytes, 2000);
    assert_eq!(run.client().len(), 140);
}

#[test]
fn a_fin_that_was_not_captured_is_no_lost_byte() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"bye");
    dialog.seq[0] += 1;
    dialog.time += STEP;
    dialog.ack(1).ack(1).ack(1).fin(1);
    dialog.time += 1_000_000_000;
    dialog.ack(1);
    let run = dialog.run();
    assert_eq!(run.summary.gaps, 0);
}

#[test]
fn the_same_packet_on_two_interfaces_is_a_duplicate() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"abc").send(1, b"def");
    let frames = dialog.frames.iter().flat_map(|f| [f.clone(), f.clone()]).collect();
    dialog.frames = frames;
    let run = dialog.run();
    assert_eq!((run.client(), run.server()), ("abc".to_string(), "def".to_string()));
    assert_eq!((run.summary.remarks.count(About::Copy), run.data.len()), (5, 2));
}

#[test]
fn overlaps_are_cut_off() {
    let mut dialog = Dialog::opened();
    dialog.packet(0, 1001, 5001, "A", b"abcdef");
    dialog.packet(0, 1004, 5001, "A", b"DEFghi");
    dialog.packet(0, 1013, 5001, "A", b"mno");
    dialog.packet(0, 1008, 5001, "A", b"HIjklMN");
    assert_eq!(dialog.run().client(), "abcdefghijklMNo");
}

#[test]
fn a_cut_segment_counts_with_its_length() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"0123456789").send(0, b"next");
    dialog.frames[3] = dialog.frames[3].clone().cut(14 + 20 + 32 + 4);
    assert_eq!(dialog.run().client(), "0123(6)next");
}

#[test]
fn data_after_a_rst_is_counted_and_left_out() {
    let mut dialog = Dialog::opened();
    dialog.send(1, b"abc").rst(0).send(1, b"def");
    let run = dialog.run();
    assert_eq!(run.server(), "abc");
    assert_eq!(run.remarks(), [(About::AfterReset.into(), 1)]);
}

#[test]
fn urgent_data_is_marked_at_its_position_wherever_it_was_announced() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"abc");
    dialog
        .packet(0, 1004, 5001, "AU", b"dx")
        .packet(0, 1006, 5001, "A", b"efg");
    // The same again, and together with its neighbours: nothing new.
    dialog
        .packet(0, 1004, 5001, "AU", b"dx")
        .packet(0, 1001, 5001, "AU", b"abcdx");
    // Out of order; and an end of the urgent data that moves on before it is reached.
    dialog
        .packet(0, 1011, 5001, "AU", b"iy")
        .packet(0, 1009, 5001, "A", b"h-");
    dialog
        .packet(0, 1014, 5001, "AU", b"kz")
        .packet(0, 1013, 5001, "AU", b"jk");
    assert_eq!(dialog.run().client(), "abcdx!efgh-iy!jkz!");
}

#[test]
fn urgent_data_that_was_not_captured_is_known_all_the_same() {
    let mut dialog = Dialog::opened();
    dialog
        .packet(0, 1001, 5001, "AU", b"abcx")
        .packet(0, 1005, 5001, "A", b"d");
    dialog.frames[3] = dialog.frames[3].clone().cut(14 + 20 + 32 + 2);
    assert_eq!(dialog.run().client(), "ab(2)!d");
}

#[test]
fn reordering_memory_is_bounded() {
    let mut dialog = Dialog::opened();
    let part = vec![b'x'; 60_000];
    dialog.lose(0, b"hole");
    for _ in 0..400 {
        dialog.send(0, &part);
    }
    let run = dialog.run();
    assert_eq!((run.summary.gaps, run.summary.gap_bytes), (1, 4));
    let first = run.data.iter().position(|d| d.len > 0).expect("data");
    assert!(first < 2, "given up before the end");
    assert_eq!(run.data.iter().map(|d| u64::from(d.len)).sum::<u64>(), 400 * 60_000);
}

fn syn(n: u32) -> Segment<'static> {
    let [a, b, c, d] = n.to_be_bytes();
    Segment {
        time: START + u64::from(n),
        from: endpoint(([a | 1, b, c, d], 1000)),
        to: endpoint(SERVER),
        seq: n,
        ack: None,
        syn: true,
        fin: false,
        rst: false,
        payload: &[],
        len: 0,
        ip_id: 0,
        hops: 64,
        urgent: None,
        window: 0,
        scale: None,
        stamps: None,
        tap: Tap::default(),
    }
}

/// Forged, or of another connection: what no window allows is no part of the stream, and no bytes are missing before it.
#[test]
fn what_lies_far_beyond_the_receive_window_is_left_out() {
    const FAR: u32 = 900_000_000;
    for flags in ["A", "FA"] {
        let mut talk = Dialog::opened();
        talk.send(0, b"one?").send(1, b"one!");
        let [client, server] = talk.seq;
        talk.packet(0, client.wrapping_add(FAR), server, flags, b"GET /evil");
        talk.send(0, b"two?").send(1, b"two!").fin(0).fin(1).ack(0);
        let run = talk.run();
        assert_eq!(
            (run.client(), run.server()),
            ("one?two?".into(), "one!two!".into()),
            "{flags}"
        );
        assert_eq!(run.summary.gap_bytes, 0, "{flags}");
        assert_eq!(run.remarks(), [(About::OutOfWindow.into(), 1)], "{flags}");
        assert_eq!(run.closes[0].bytes_sent, 8, "{flags}");
    }
}

/// Where the capture lost more than a window, the stream goes on where the packets after it are.
#[test]
fn more_than_a_window_that_was_lost_is_a_hole() {
    let mut talk = Dialog::opened();
    talk.send(0, b"one?");
    talk.seq[0] = talk.seq[0].wrapping_add(100 << 20);
    for _ in 0..20 {
        talk.send(0, b"more");
    }
    talk.fin(0).fin(1).ack(0);
    let run = talk.run();
    assert!(run.client().ends_with("moremoremoremore"), "{}", run.client());
    assert!(run.summary.gap_bytes >= 100 << 20);
    assert_eq!(run.closes.len(), 1);
}

/// The scale counts: a window may be larger than its field.
#[test]
fn a_window_that_is_scaled_is_as_large_as_it_says() {
    let scaled = |flags: &str, scale: u8| {
        let (from, to, seq, ack) = match flags {
            "S" => (CLIENT, SERVER, 1000, 0),
            _ => (SERVER, CLIENT, 5000, 1001),
        };
        let mut segment = tcp(from.1, to.1, seq, ack, flags, b"");
        // In place of the two paddings and the timestamps.
        segment[20..24].copy_from_slice(&[3, 3, scale, 0]);
        ethernet(0x0800, &v4(from.0, to.0, 6, 1, 0x4000, &segment))
    };
    for (scale, is_possible) in [(0, false), (14, true)] {
        let mut talk = Dialog::at(1001, 5001);
        talk.frames.push(Captured::new(START, scaled("S", 0)));
        talk.frames.push(Captured::new(START + 1, scaled("SA", scale)));
        talk.wait(STEP).send(0, b"one?").send(1, b"one!");
        talk.lose(0, &vec![0; 200 << 20]).send(0, b"far?");
        let run = talk.run();
        assert_eq!(run.client().contains("far?"), is_possible, "{}", run.client());
    }
}

#[test]
fn a_million_half_open_connections_are_bounded() {
    let mut table = Table::with_limit(1000);
    let mut summary = ImportSummary::default();
    let mut closes = 0u64;
    let mut out = |record: &Record<'_>| closes += u64::from(matches!(record, Record::Close(_)));
    for n in 0..1_000_000 {
        table.segment(&syn(n), &mut summary, &mut out);
    }
    assert!(table.len() <= 1000);
    assert_eq!(summary.connections, 1_000_000);
    assert_eq!(closes, 999_000);
    assert_eq!(summary.evicted, 0, "one that was never answered is no loss");
}

#[test]
fn the_least_recently_used_connection_is_evicted() {
    let mut table = Table::with_limit(2);
    let mut summary = ImportSummary::default();
    let mut closed = Vec::new();
    let mut out = |record: &Record<'_>| {
        if let Record::Close(close) = record {
            closed.push(close.id as u32);
        }
    };
    for n in [1, 2, 1, 3] {
        let data = Segment {
            syn: false,
            ack: Some(1),
            payload: b"x",
            len: 1,
            ..syn(n)
        };
        table.segment(&data, &mut summary, &mut out);
    }
    assert_eq!(closed, [2]);
    assert_eq!(summary.evicted, 1);
}
