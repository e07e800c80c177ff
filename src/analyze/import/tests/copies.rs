//! Copies of packets: on several interfaces, in a tunnel and outside, before and after a translation of addresses.

use super::build::*;
use crate::format::record::About;

/// Linux cooked capture, version 2.
const COOKED: u16 = 276;
const US: u64 = 1000;
const SERVICE: ([u8; 4], u16) = ([10, 96, 0, 1], 8080);
const NODE: ([u8; 4], u16) = ([192, 168, 0, 5], 61_000);

/// The packet as `tcpdump -i any` has it from an interface.
pub fn on(interface: u8, time: u64, packet: &[u8]) -> Captured {
    let head = [8, 0, 0, 0, 0, 0, 0, interface, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    Captured::new(time, [&head, packet].concat())
}

/// An IP packet with another address and port in place of one of its ends.
pub fn translated(packet: &[u8], old: ([u8; 4], u16), new: ([u8; 4], u16)) -> Vec<u8> {
    let mut packet = packet.to_vec();
    for (address, port) in [(12, 20), (16, 22)] {
        if packet[address..address + 4] == old.0 && packet[port..port + 2] == old.1.to_be_bytes() {
            packet[address..address + 4].copy_from_slice(&new.0);
            packet[port..port + 2].copy_from_slice(&new.1.to_be_bytes());
        }
    }
    packet
}

/// Two requests and their responses.
fn conversation() -> Dialog {
    let mut dialog = Dialog::opened();
    dialog
        .send(0, b"one?")
        .send(1, b"one!")
        .ack(0)
        .send(0, b"two?")
        .send(1, b"two!");
    dialog.fin(0).fin(1).ack(0);
    dialog
}

fn packet(frame: &Captured) -> &[u8] {
    &frame.bytes[14..]
}

/// What is imported from these frames, in the order of their times.
pub fn run(mut frames: Vec<Captured>) -> Run {
    frames.sort_by_key(|frame| frame.time);
    Run::of(&pcap(COOKED, &frames, true, false))
}

/// Without the counts, which differ.
pub fn assert_same(run: &Run, expected: &Run) {
    assert_eq!(run.sockets, expected.sockets);
    assert_eq!(run.connects, expected.connects);
    assert_eq!(run.data, expected.data);
    assert_eq!(run.closes, expected.closes);
    assert_eq!(run.summary.retransmits, expected.summary.retransmits);
    assert_eq!(run.summary.gap_bytes, expected.summary.gap_bytes);
}

#[test]
fn packets_on_several_interfaces_count_once() {
    let dialog = conversation();
    let alone = run(dialog.frames.iter().map(|f| on(1, f.time, packet(f))).collect());
    for interfaces in 2..5_u8 {
        // A copy comes at once, among other packets, or after all of them.
        for delay in [0, US, 1500 * US, 20_000 * US] {
            let several = dialog.frames.iter().flat_map(|frame| {
                (1..=interfaces).map(move |n| on(n, frame.time + u64::from(n - 1) * delay, packet(frame)))
            });
            let run = run(several.collect());
            assert_same(&run, &alone);
            let copies = dialog.frames.len() as u64 * u64::from(interfaces - 1);
            assert_eq!(run.remarks(), [(About::Copy.into(), copies)]);
            assert!(run.summary.is_whole());
        }
    }
}

/// The packet as it is in an Ethernet frame between these stations.
fn between(from: u8, to: u8, time: u64, packet: &[u8]) -> Captured {
    let head = [2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0];
    Captured::new(time, [&head, packet].concat())
}

/// What one interface sees of a conversation before its server's address is translated and after: a mirror port, a bridge,
/// a router with one arm. The router takes `hops` from the time to live; `is_routed` changes the addresses of the link.
fn through_one_interface(dialog: &Dialog, hops: u8, is_routed: bool) -> Vec<Captured> {
    const ROUTER: u8 = 9;
    let both = dialog.frames.iter().flat_map(|frame| {
        let from_client = packet(frame)[12..16] == CLIENT.0;
        let inside = translated(packet(frame), SERVER, SERVICE);
        let mut seen = [inside, packet(frame).to_vec()];
        if !from_client {
            seen.reverse();
        }
        seen[1][8] -= hops;
        let (from, to) = if from_client { (1, 2) } else { (2, 1) };
        let links = match is_routed {
            true => [(from, ROUTER), (ROUTER, to)],
            false => [(from, to); 2],
        };
        let [first, second] = [0, 1].map(|n| {
            let (from, to) = links[n];
            between(from, to, frame.time + n as u64 * 30 * US, &seen[n])
        });
        [first, second]
    });
    both.collect()
}

/// Without identifications of IPv4 packets and without TCP timestamps.
fn with_numbers_only(dialog: &Dialog) -> Dialog {
    const OPTIONS: usize = 14 + 20 + 20;
    let mut dialog = dialog.clone();
    for frame in &mut dialog.frames {
        frame.bytes[14 + 4..14 + 6].fill(0);
        // Padding (RFC 9293, 3.1).
        frame.bytes[OPTIONS..OPTIONS + 12].fill(1);
    }
    dialog
}

fn on_ethernet(mut frames: Vec<Captured>) -> Run {
    frames.sort_by_key(|frame| frame.time);
    Run::of(&pcap(1, &frames, true, false))
}

#[test]
fn a_translation_that_one_interface_sees_on_both_sides_counts_once() {
    let dialog = conversation();
    let alone = on_ethernet(dialog.frames.clone());
    for (hops, is_routed) in [(1, true), (0, true), (1, false), (3, false)] {
        let run = on_ethernet(through_one_interface(&dialog, hops, is_routed));
        assert_eq!((run.sockets.len(), run.closes.len()), (1, 1), "{hops} {is_routed}");
        let streams = |run: &Run| {
            (
                run.client(),
                run.server(),
                run.summary.retransmits,
                run.summary.gap_bytes,
            )
        };
        assert_eq!(streams(&run), streams(&alone));
        assert_eq!(run.remarks(), [(About::Copy.into(), dialog.frames.len() as u64)]);
        // Who answers is the server.
        assert_eq!(run.sockets[0].remote, endpoint(SERVER));
        // Joined in its middle too.
        let joined = on_ethernet(through_one_interface(&dialog, hops, is_routed).split_off(7));
        assert_eq!(joined.sockets.len(), 1, "{hops} {is_routed}");
    }
}

#[test]
fn a_possible_translation_without_proof_is_reported_and_counts_twice() {
    let dialog = conversation();
    // The same place, or no more than sequence numbers to know a packet by.
    for frames in [
        through_one_interface(&dialog, 0, false),
        through_one_interface(&dialog, 20, false),
        through_one_interface(&with_numbers_only(&dialog), 1, true),
        through_one_interface(&with_numbers_only(&dialog), 1, false),
    ] {
        let run = on_ethernet(frames);
        assert_eq!((run.sockets.len(), run.closes.len()), (2, 2));
        assert_eq!(run.remarks(), [(About::PossibleCopy.into(), 4)]);
        assert!(run.summary.is_whole());
        let line = run
            .summary
            .remarks
            .lines()
            .into_iter()
            .find(|line| line.contains("copies"));
        assert!(line.is_some_and(|line| line.starts_with("possible copies: 4 packets ")));
    }
}

/// What both sides of a translation see. `inside` is seen first on the way to the server, and last on the way back.
fn through(dialog: &Dialog, inside: [([u8; 4], u16); 2], outside: [([u8; 4], u16); 2]) -> Vec<Captured> {
    let seen = |frame: &Captured, ends: [([u8; 4], u16); 2]| {
        let client = translated(packet(frame), CLIENT, ends[0]);
        translated(&client, SERVER, ends[1])
    };
    let both = dialog.frames.iter().flat_map(|frame| {
        let from_client = packet(frame)[12..16] == CLIENT.0;
        let order = if from_client { [1, 2] } else { [2, 1] };
        order.into_iter().enumerate().map(move |(n, interface)| {
            let ends = if interface == 1 { inside } else { outside };
            on(interface, frame.time + n as u64 * 30 * US, &seen(frame, ends))
        })
    });
    both.collect()
}

#[test]
fn a_connection_through_a_translation_counts_once_and_names_who_answers() {
    let dialog = conversation();
    let without_ids = {
        let mut dialog = dialog.clone();
        for frame in &mut dialog.frames {
            frame.bytes[14 + 4..14 + 6].fill(0);
        }
        dialog
    };
    for dialog in [dialog, without_ids] {
        for (inside, outside) in [
            ([CLIENT, SERVICE], [CLIENT, SERVER]),
            ([CLIENT, SERVICE], [NODE, SERVER]),
            ([CLIENT, SERVER], [NODE, SERVER]),
        ] {
            let run = run(through(&dialog, inside, outside));
            assert_eq!(run.sockets.len(), 1, "{inside:?} {outside:?}");
            let socket = run.sockets[0];
            assert_eq!(
                (socket.local, socket.remote),
                (endpoint(inside[0]), endpoint(outside[1]))
            );
            assert_eq!((run.client(), run.server()), ("one?two?".into(), "one!two!".into()));
            assert_eq!((run.connects.len(), run.closes.len()), (1, 1));
            assert_eq!((run.closes[0].retransmits, run.summary.gaps), (0, 0));
            assert_eq!(run.remarks(), [(About::Copy.into(), dialog.frames.len() as u64)]);
            // The id is what an import without the translation gives.
            let mut direct = Dialog::opened().frames;
            for frame in &mut direct {
                let client = translated(packet(frame), CLIENT, inside[0]);
                *frame = on(1, frame.time, &translated(&client, SERVER, outside[1]));
            }
            assert_eq!(socket.id >> 32, super::copies::run(direct).sockets[0].id >> 32);
        }
    }
}

#[test]
fn a_connection_through_a_translation_that_is_joined_in_its_middle_counts_once() {
    let mut dialog = conversation();
    for skipped in 1..6 {
        dialog.frames.remove(0);
        let frames = through(&dialog, [CLIENT, SERVICE], [NODE, SERVER]);
        for first in [0, 1] {
            let run = run(frames[first..].to_vec());
            assert_eq!(run.sockets.len(), 1, "without {skipped} and {first}");
            let streams = format!("{} {}", run.client(), run.server());
            let whole = match skipped {
                ..=3 => "one?two? one!two!",
                4 => "two? one!two!",
                _ => "two? two!",
            };
            assert_eq!(streams, whole);
            assert_eq!(run.closes.len(), 1);
        }
    }
}

#[test]
fn each_connection_has_its_own_translation() {
    let other: ([u8; 4], u16) = ([10, 0, 0, 3], 80);
    let first = conversation();
    let mut second = Dialog::opened_at(900_000_000, 2_000_000_000);
    second.send(0, b"three?").send(1, b"three!").fin(0).fin(1).ack(0);
    let apart = first.time - START + 1_000_000_000;
    let later = |frames: Vec<Captured>| {
        frames.into_iter().map(move |mut frame| {
            frame.time += apart;
            frame
        })
    };
    let mut frames = through(&first, [CLIENT, SERVICE], [CLIENT, SERVER]);
    frames.extend(later(through(&second, [CLIENT, SERVICE], [CLIENT, other])));
    let one = run(frames);
    assert_eq!(
        one.sockets.iter().map(|s| s.remote).collect::<Vec<_>>(),
        [SERVER, other].map(endpoint)
    );
    // The node's port is used for another client.
    let guest: ([u8; 4], u16) = ([10, 244, 1, 9], 50_000);
    let mut frames = through(&first, [CLIENT, SERVICE], [NODE, SERVER]);
    frames.extend(later(through(&second, [guest, SERVICE], [NODE, SERVER])));
    let two = run(frames);
    assert_eq!(
        two.sockets.iter().map(|s| s.local).collect::<Vec<_>>(),
        [CLIENT, guest].map(endpoint)
    );
    for run in [one, two] {
        assert_eq!((run.sockets.len(), run.closes.len()), (2, 2));
        assert_eq!(run.client().replace(char::is_numeric, ""), "one?two?[]three?");
        assert_eq!(run.summary.gaps, 0);
    }
}

#[test]
fn a_packet_in_a_tunnel_and_outside_of_it_counts_once() {
    let dialog = conversation();
    let outer = |packet: &[u8]| {
        let inside = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &ethernet(0x0800, packet)].concat();
        let head = [49152_u16, 8472, 8 + inside.len() as u16, 0]
            .map(u16::to_be_bytes)
            .concat();
        v4([172, 16, 0, 1], [172, 16, 0, 2], 17, 3, 0, &[head, inside].concat())
    };
    let frames = dialog.frames.iter().flat_map(|frame| {
        let packet = packet(frame);
        [
            on(3, frame.time, packet),
            on(4, frame.time + US, packet),
            on(2, frame.time + 2 * US, &outer(packet)),
        ]
    });
    let alone = run(dialog.frames.iter().map(|f| on(3, f.time, packet(f))).collect());
    let run = run(frames.collect());
    assert_same(&run, &alone);
    assert_eq!(run.remarks(), [(About::Copy.into(), 2 * dialog.frames.len() as u64)]);
}

/// Synthetic traffic: two conversations with the same numbers at the same times.
#[test]
fn conversations_that_look_alike_are_not_taken_for_copies() {
    let dialog = conversation();
    for other in [(CLIENT.0, 40_001), ([10, 0, 0, 9], CLIENT.1)] {
        let frames = dialog.frames.iter().flat_map(|frame| {
            let like = translated(packet(frame), CLIENT, other);
            [on(1, frame.time, packet(frame)), on(1, frame.time + US, &like)]
        });
        let run = run(frames.collect());
        assert_eq!((run.sockets.len(), run.closes.len()), (2, 2));
        // Packets with data are reported.
        assert_eq!(run.remarks(), [(About::PossibleCopy.into(), 4)]);
    }
    // On another interface too, where only a port differs.
    let frames = dialog.frames.iter().flat_map(|frame| {
        let like = translated(packet(frame), CLIENT, (CLIENT.0, 40_001));
        [on(1, frame.time, packet(frame)), on(2, frame.time + US, &like)]
    });
    assert_eq!(run(frames.collect()).sockets.len(), 2);
}

#[test]
fn a_retransmission_is_no_copy() {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"question");
    // Soon, as another packet; and the same packet long after.
    dialog.packet(0, 1001, 5001, "A", b"question");
    let mut again = dialog.frames[3].clone();
    again.time += 200_000_000;
    dialog.frames.push(again);
    dialog.wait(300_000_000).send(1, b"answer").fin(0).fin(1).ack(0);
    let run = dialog.run();
    assert_eq!((run.closes[0].retransmits, run.remarks()), (2, vec![]));
}

#[test]
fn fragments_on_several_interfaces_count_once() {
    let segment = tcp(40_000, 80, 1, 1, "A", &[b'x'; 100]);
    let parts: Vec<Vec<u8>> = segment
        .chunks(64)
        .enumerate()
        .map(|(n, part)| {
            v4(
                CLIENT.0,
                SERVER.0,
                6,
                7,
                if n < 2 { 0x2000 } else { 0 } | (n as u16 * 8),
                part,
            )
        })
        .collect();
    let frames = parts
        .iter()
        .enumerate()
        .flat_map(|(n, part)| (1..4).map(move |interface| on(interface, START + n as u64 * US, part)));
    let run = run(frames.collect());
    assert_eq!(run.client().len(), 100);
    assert!(run.summary.is_whole(), "{:?}", run.remarks());
}

/// Offload puts segments together before one interface and after another.
#[test]
fn copies_in_other_pieces_are_no_retransmissions() {
    let mut dialog = Dialog::opened();
    dialog
        .send(0, b"question")
        .send(1, b"one ")
        .send(1, b"two ")
        .send(1, b"three");
    let mut together = Dialog::opened();
    together.send(0, b"question").send(1, b"one two three");
    let last = together.frames.len() - 1;
    for (whole, pieces) in [(1, 2), (2, 1)] {
        let mut frames: Vec<Captured> = dialog.frames.iter().map(|f| on(pieces, f.time, packet(f))).collect();
        for time in [START + 5 * STEP / 2, START + 20 * STEP] {
            let mut frames = frames.clone();
            frames.push(on(whole, time, packet(&together.frames[last])));
            let run = run(frames);
            assert_eq!(run.server(), "one two three");
            assert_eq!((run.summary.retransmits, run.summary.gap_bytes), (0, 0));
            assert!(run.summary.remarks.count(About::Copy) > 0);
        }
        // Sent again, where it was sent before.
        frames.push(on(pieces, START + 30 * STEP, packet(&together.frames[last])));
        assert_eq!(run(frames).summary.retransmits, 1);
    }
}
