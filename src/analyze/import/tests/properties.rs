//! Laws that hold for any way in which a conversation reaches the file.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::build::*;

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
    let mut talk = Talk::opened_at(isn, 7);
    let first = talk.seq[0];
    for sent in order {
        let seq = first.wrapping_add(sent.start as u32);
        talk.packet(0, seq, 8, "A", &content[sent.start..sent.end]);
        if acks {
            talk.packet(1, 8, first, "A", b"");
        }
    }
    talk.seq[0] = first.wrapping_add(total as u32);
    talk.fin(0).fin(1).ack(0);
    talk.file()
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

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
        let mut talk = Talk::at(0, 0);
        for (side, seq, ack, flags, len) in &packets {
            talk.packet(usize::from(*side), *seq, *ack, flags, &bytes(*len));
        }
        let run = talk.run();
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
