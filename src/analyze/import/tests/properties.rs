//! Laws that hold for any way in which a conversation reaches the file.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::build::*;
use super::copies::{assert_same, on, run as run_of};
use crate::format::record::About;

/// A stream of bytes that tells its own positions, cut into segments.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251 * 7) as u8).collect()
}

#[derive(Debug, Clone)]
struct Sent {
    start: usize,
    end: usize,
}

/// Segments of these lengths, each maybe reaching back over earlier ones.
fn segments() -> impl Strategy<Value = (usize, Vec<Sent>)> {
    vec((1usize..400, 0usize..100), 1..60).prop_map(|parts| {
        let mut at = 0;
        let mut sent = Vec::new();
        for (len, back) in parts {
            let start = at - back.min(at);
            at += len;
            sent.push(Sent { start, end: at });
        }
        (at, sent)
    })
}

/// The file in which these segments stand in this order.
fn file(isn: u32, order: &[Sent], total: usize, acks: bool) -> Vec<u8> {
    let content = bytes(total);
    let mut dialog = Dialog::opened_at(isn, 7);
    let first = dialog.seq[0];
    for sent in order {
        let seq = first.wrapping_add(sent.start as u32);
        dialog.packet(0, seq, 8, "A", &content[sent.start..sent.end]);
        if acks {
            dialog.packet(1, 8, first, "A", b"");
        }
    }
    dialog.seq[0] = first.wrapping_add(total as u32);
    dialog.fin(0).fin(1).ack(0);
    dialog.file()
}

/// Every byte that came out stands at its position; returns which positions came out.
fn positions(run: &Run, isn: u32, total: usize) -> BTreeSet<usize> {
    let content = bytes(total);
    let mut seen = BTreeSet::new();
    for said in run.data.iter().filter(|said| said.sent) {
        let at = said.pos.wrapping_sub(isn.wrapping_add(1)) as usize;
        assert_eq!(said.payload, content[at..at + said.len as usize]);
        seen.extend(at..at + said.len as usize);
    }
    seen
}

/// What one end does.
#[derive(Debug, Clone)]
enum Turn {
    Say(usize, usize),
    Ack(usize),
    /// Says again what it said last.
    Repeat(usize),
    Lose(usize, usize),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    vec(
        prop_oneof![
            6 => (0usize..2, 1usize..200).prop_map(|(side, len)| Turn::Say(side, len)),
            3 => (0usize..2).prop_map(Turn::Ack),
            1 => (0usize..2).prop_map(Turn::Repeat),
            1 => (0usize..2, 1usize..200).prop_map(|(side, len)| Turn::Lose(side, len)),
        ],
        1..40,
    )
}

/// The conversation of these turns, from its opening or in its middle, to its end in one of several ways.
fn conversation(turns: &[Turn], opened: bool, end: usize) -> Dialog {
    // A single zero may be a keep-alive.
    let content: Vec<u8> = bytes(10_000).into_iter().map(|byte| byte.max(1)).collect();
    let mut dialog = match opened {
        true => Dialog::opened(),
        false => Dialog::at(1001, 5001).ack(0).clone(),
    };
    let mut last: [&[u8]; 2] = [b""; 2];
    let mut at = 0;
    for turn in turns {
        match *turn {
            Turn::Say(side, len) => {
                last[side] = &content[at..at + len];
                at += len;
                dialog.send(side, last[side]);
            }
            Turn::Ack(side) => drop(dialog.ack(side)),
            // A single byte again may be a keep-alive.
            Turn::Repeat(side) if last[side].len() > 1 => {
                let seq = dialog.seq[side].wrapping_sub(last[side].len() as u32);
                dialog.packet(side, seq, dialog.seq[1 - side], "A", last[side]);
            }
            Turn::Repeat(_) => {}
            Turn::Lose(side, len) => {
                last[side] = b"";
                dialog.lose(side, &content[..len]);
            }
        }
    }
    match end {
        0 => drop(dialog.fin(0).fin(1).ack(0)),
        1 => drop(dialog.rst(0)),
        _ => {}
    }
    dialog
}

/// No packet vanishes: each is a segment, or is reported as what it was.
fn assert_accounted(run: &Run) {
    let told: u64 = run.remarks().iter().map(|(_, packets)| packets).sum();
    assert!(run.summary.segments + told >= run.summary.packets, "{:?}", run.summary);
    let causes = run.summary.remarks.not_understood();
    assert_eq!(
        run.losses.iter().map(|loss| loss.events).sum::<u64>(),
        causes + run.summary.truncated
    );
}

fn packet(frame: &Captured) -> &[u8] {
    &frame.bytes[14..]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_frame_captured_twice_changes_nothing(
        turns in turns(), opened in any::<bool>(), end in 0usize..3, again in vec((0usize..60, 0usize..4), 0..30),
    ) {
        let dialog = conversation(&turns, opened, end);
        let expected = dialog.run();
        let mut frames: Vec<(usize, Captured)> = dialog.frames.iter().cloned().enumerate().map(|(n, f)| (n * 10, f)).collect();
        for (which, later) in again {
            let which = which % dialog.frames.len();
            let mut copy = dialog.frames[which].clone();
            copy.time += later as u64 * STEP;
            frames.push(((which + later) * 10 + 1 + later, copy));
        }
        frames.sort_by_key(|(place, _)| *place);
        let frames: Vec<Captured> = frames.into_iter().map(|(_, frame)| frame).collect();
        let copies = (frames.len() - dialog.frames.len()) as u64;
        let run = Run::of(&pcap(ETHERNET, &frames, true, false));
        assert_same(&run, &expected);
        // Copies of resets are not recognised: the second changes nothing either.
        let resets = u64::from(end == 1) * copies;
        let found = run.summary.remarks.count(About::Copy);
        prop_assert!((copies - resets..=copies).contains(&found), "{} of {}", found, copies);
    }

    #[test]
    fn copies_through_other_interfaces_change_nothing(
        turns in turns(), opened in any::<bool>(), end in 0usize..3,
        delays in vec(vec(0u64..20_000_000, 0..3), 60),
    ) {
        let dialog = conversation(&turns, opened, end);
        let expected = run_of(dialog.frames.iter().map(|frame| on(1, frame.time, packet(frame))).collect());
        let frames = dialog.frames.iter().zip(&delays).flat_map(|(frame, delays)| {
            let copies = delays.iter().enumerate();
            let copies = copies.map(|(n, delay)| on(2 + n as u8, frame.time + delay, packet(frame)));
            std::iter::once(on(1, frame.time, packet(frame))).chain(copies)
        });
        assert_same(&run_of(frames.collect()), &expected);
    }

    /// Frames that overtake each other by a few places are put in order again.
    #[test]
    fn frames_out_of_order_give_equal_streams(
        turns in turns(), opened in any::<bool>(), places in vec(0usize..3, 60),
    ) {
        // In the middle of a connection, a packet without data and data one number further look like a keep-alive and what
        // follows it.
        let is_clear = |turn: &Turn| match turn {
            Turn::Say(_, len) => opened || *len > 1,
            Turn::Lose(..) => false,
            _ => true,
        };
        let turns: Vec<Turn> = turns.into_iter().filter(is_clear).collect();
        let dialog = conversation(&turns, opened, 0);
        let expected = dialog.run();
        let mut frames: Vec<(usize, Captured)> = dialog.frames.iter().cloned().enumerate().collect();
        frames.sort_by_key(|(n, _)| n + places[n % places.len()]);
        let frames: Vec<Captured> = frames.into_iter().map(|(_, frame)| frame).collect();
        let run = Run::of(&pcap(ETHERNET, &frames, true, false));
        prop_assert_eq!(run.sockets.len(), 1);
        prop_assert_eq!((run.client(), run.server()), (expected.client(), expected.server()));
        prop_assert_eq!(run.summary.gap_bytes, 0);
        let sizes = |run: &Run| (run.closes[0].bytes_sent, run.closes[0].bytes_received, run.closes[0].retransmits);
        prop_assert_eq!(sizes(&run), sizes(&expected));
    }

    #[test]
    fn any_order_with_repeats_and_overlaps_gives_the_stream(
        (total, sent) in segments(),
        keys in vec(any::<u32>(), 60),
        repeats in vec(0usize..60, 0..20),
        isn in any::<u32>(),
        acks in any::<bool>(),
    ) {
        let mut order: Vec<(u32, Sent)> = keys.iter().copied().zip(sent.clone()).collect();
        for (n, repeat) in repeats.iter().enumerate() {
            order.push((keys[n], sent[repeat % sent.len()].clone()));
        }
        order.sort_by_key(|(key, _)| *key);
        let order: Vec<Sent> = order.into_iter().map(|(_, sent)| sent).collect();
        let run = Run::of(&file(isn, &order, total, acks));
        prop_assert_eq!(positions(&run, isn, total).len(), total);
        prop_assert_eq!(run.summary.gaps, 0);
        prop_assert_eq!(run.closes[0].bytes_sent, total as u64);
    }

    #[test]
    fn dropped_segments_cost_their_own_bytes_and_no_others(
        (total, sent) in segments(),
        dropped in vec(any::<bool>(), 60),
        isn in any::<u32>(),
    ) {
        let kept: Vec<Sent> = sent.iter().zip(&dropped).filter(|(_, drop)| !**drop).map(|(s, _)| s.clone()).collect();
        let run = Run::of(&file(isn, &kept, total, false));
        let expected: BTreeSet<usize> = kept.iter().flat_map(|s| s.start..s.end).collect();
        prop_assert_eq!(&positions(&run, isn, total), &expected);
        prop_assert_eq!(run.summary.gap_bytes, (total - expected.len()) as u64);
        prop_assert_eq!(run.closes[0].bytes_sent, total as u64);
    }

    #[test]
    fn any_frame_is_taken_or_refused(link in 0u16..300, frames in vec(vec(any::<u8>(), 0..120), 0..8)) {
        let frames: Vec<Captured> = frames.into_iter().map(|f| Captured::new(START, f)).collect();
        let run = Run::of(&pcap(link, &frames, false, false));
        prop_assert_eq!(run.summary.packets, frames.len() as u64);
        assert_accounted(&run);
    }

    /// Real frames of many kinds, cut anywhere and with bytes changed.
    #[test]
    fn any_frame_is_read_or_reported(
        which in any::<prop::sample::Index>(), keep in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), original in 0u32..200,
    ) {
        let mut all = super::tunnels::samples();
        all.extend(super::packets::samples());
        let (link, mut bytes) = all.swap_remove(which.index(all.len()));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let len = keep.index(bytes.len() + 1);
        let mut frame = Captured::new(START, bytes).cut(len);
        frame.original = frame.original.max(original);
        let run = Run::of(&pcap(link, &[frame], false, false));
        assert_accounted(&run);
    }

    #[test]
    fn any_tcp_packets_between_two_ends_are_taken(
        packets in vec((any::<bool>(), prop_oneof![0u32..2000, any::<u32>()], prop_oneof![0u32..2000, any::<u32>()],
            "[SAFR]{0,3}", 0usize..50), 0..60)
    ) {
        let mut dialog = Dialog::at(0, 0);
        for (side, seq, ack, flags, len) in &packets {
            dialog.packet(usize::from(*side), *seq, *ack, flags, &bytes(*len));
        }
        let run = dialog.run();
        prop_assert_eq!(run.summary.packets, packets.len() as u64);
    }

    #[test]
    fn any_bytes_after_a_magic_are_read_without_panic(
        magic in prop::sample::select(vec![
            &[0xd4u8, 0xc3, 0xb2, 0xa1][..], &[0xa1, 0xb2, 0x3c, 0x4d],
            &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a], &[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd],
        ]),
        rest in vec(prop_oneof![Just(0u8), any::<u8>()], 0..300),
    ) {
        let _ = Run::checked(&[magic, &rest].concat());
    }
}
