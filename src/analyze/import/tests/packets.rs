//! Link headers, IP headers, extension headers, fragments: the same segment in every wrapping.

use super::build::*;
use crate::analyze::import::Fault;
use crate::format::record::LossReason;

const TEXT: &[u8] = b"SELECT 1 FROM dual WHERE a = 'the quick brown fox'";

fn segment() -> Vec<u8> {
    tcp(40_000, 3306, 100, 200, "A", TEXT)
}

fn packet() -> Vec<u8> {
    v4(CLIENT.0, SERVER.0, 6, 7, 0x4000, &segment())
}

fn one(link: u16, frame: Vec<u8>) -> Run {
    Run::of(&pcap(link, &[Captured::new(START, frame)], true, false))
}

fn understood(link: u16, frame: Vec<u8>, what: &str) {
    let run = one(link, frame);
    assert_eq!(run.client().as_bytes(), TEXT, "{what}: {:?}", run.summary);
    assert_eq!(run.summary.not_understood(), 0, "{what}");
    assert_eq!(run.summary.truncated, 0, "{what}");
}

fn refused(link: u16, frame: Vec<u8>, fault: Fault) {
    let run = one(link, frame);
    assert_eq!(run.summary.faults().collect::<Vec<_>>(), [(fault, 1)]);
    assert_eq!(run.losses.len(), 1);
    assert_eq!(run.losses[0].reason, LossReason::NotUnderstood);
}

fn with(head: &[u8], rest: &[u8]) -> Vec<u8> {
    [head, rest].concat()
}

#[test]
fn every_link_header_leads_to_the_same_segment() {
    let ip = packet();
    let six = v6(true, 6, &segment());
    understood(1, ethernet(0x0800, &ip), "Ethernet");
    understood(1, ethernet(0x86dd, &six), "Ethernet, IPv6");
    understood(1, ethernet(0x8100, &with(&[0, 5, 8, 0], &ip)), "VLAN");
    understood(1, ethernet(0x88a8, &with(&[0, 5, 0x81, 0, 0, 6, 8, 0], &ip)), "QinQ");
    understood(
        1,
        ethernet(0x9100, &with(&[0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &six)),
        "QinQ before 802.1ad",
    );
    understood(
        1,
        ethernet(0x8847, &with(&[0, 1, 0x00, 64, 0, 2, 0x11, 64], &ip)),
        "two MPLS labels",
    );
    understood(
        1,
        ethernet(0x8864, &with(&[0x11, 0, 0, 1, 0, 0, 0, 0x21], &ip)),
        "PPPoE",
    );
    let snap = with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ip);
    understood(1, ethernet(snap.len() as u16, &snap), "802.3 with SNAP");
    understood(
        113,
        with(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0], &ip),
        "Linux cooked",
    );
    understood(
        113,
        with(
            &[0, 4, 3, 4, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x81, 0, 0, 5, 0x86, 0xdd],
            &six,
        ),
        "cooked, VLAN",
    );
    understood(
        276,
        with(&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], &ip),
        "Linux cooked 2",
    );
    understood(0, with(&[2, 0, 0, 0], &ip), "loopback, little endian");
    understood(0, with(&[0, 0, 0, 2], &ip), "loopback, big endian");
    for family in [24, 28, 30, 10] {
        understood(0, with(&[family, 0, 0, 0], &six), "loopback, IPv6");
    }
    understood(108, with(&[0, 0, 0, 2], &ip), "OpenBSD loopback");
    for raw in [12, 14, 101] {
        understood(raw, ip.clone(), "raw IP");
        understood(raw, six.clone(), "raw IPv6");
    }
    understood(228, ip.clone(), "raw IPv4 only");
    understood(229, six, "raw IPv6 only");
    understood(9, with(&[0xff, 3, 0, 0x21], &ip), "PPP");
}

#[test]
fn other_traffic_is_no_fault() {
    for frame in [
        ethernet(0x0806, &[0; 28]),
        ethernet(0x0800, &v4(CLIENT.0, SERVER.0, 17, 1, 0, &[0; 20])),
        ethernet(0x0800, &v4(CLIENT.0, SERVER.0, 17, 1, 0x2000, &[0; 24])),
        ethernet(0x86dd, &v6(true, 58, &[0; 8])),
        ethernet(38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]),
    ] {
        let run = one(1, frame);
        assert_eq!((run.summary.not_tcp, run.summary.not_understood()), (1, 0));
    }
}

#[test]
fn what_is_not_understood_is_counted_by_what_it_is() {
    let ip = packet();
    refused(105, ip.clone(), Fault::LinkType);
    refused(1, vec![0; 13], Fault::LinkHeader);
    refused(113, vec![0; 15], Fault::LinkHeader);
    refused(1, ethernet(0x8100, &[0; 3]), Fault::LinkHeader);
    refused(1, ethernet(0x0800, &ip[..19]), Fault::NetworkHeader);
    refused(1, ethernet(0x86dd, &ip), Fault::NetworkHeader);
    refused(1, ethernet(0x86dd, &v6(true, 0, &[6])), Fault::NetworkHeader);
    refused(101, vec![0x10; 40], Fault::NetworkHeader);
    let mut short = ip.clone();
    short[3] = 19;
    refused(101, short, Fault::NetworkHeader);
    refused(101, ip[..32].to_vec(), Fault::TransportHeader);
    let mut offset = ip.clone();
    offset[32] = 4 << 4;
    refused(101, offset, Fault::TransportHeader);
    refused(101, v4(CLIENT.0, SERVER.0, 50, 1, 0, &segment()), Fault::Encrypted);
}

#[test]
fn endless_headers_end() {
    let tags: Vec<u8> = [0x81, 0x00, 0, 1].repeat(500);
    refused(1, with(&[0; 12], &tags), Fault::LinkHeader);
    let options = [60, 0, 0, 0, 0, 0, 0, 0].repeat(100);
    refused(1, ethernet(0x86dd, &v6(true, 60, &options)), Fault::NetworkHeader);
}

#[test]
fn extension_headers_are_passed() {
    let hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination = [43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let routing = [51, 0, 4, 0, 0, 0, 0, 0];
    let authentication = [
        6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    let chain = [&hop[..], &destination, &routing, &authentication, &segment()].concat();
    understood(1, ethernet(0x86dd, &v6(true, 0, &chain)), "extension headers");
    let chain = with(&authentication, &segment());
    understood(
        1,
        ethernet(0x0800, &v4(CLIENT.0, SERVER.0, 51, 1, 0, &chain)),
        "authentication header",
    );
    let atomic = with(&[6, 0, 0, 0, 1, 2, 3, 4], &segment());
    understood(1, ethernet(0x86dd, &v6(true, 44, &atomic)), "atomic fragment");
}

#[test]
fn padding_of_the_link_is_no_payload() {
    let short = v4(CLIENT.0, SERVER.0, 6, 7, 0, &tcp(40_000, 80, 1, 1, "A", b""));
    let frame = with(&ethernet(0x0800, &short), &[0; 6]);
    assert_eq!(one(1, frame).data, []);
}

#[test]
fn a_length_of_zero_is_filled_in_later_by_offload() {
    let mut ip = packet();
    ip[2..4].fill(0);
    understood(1, ethernet(0x0800, &ip), "TSO");
    let mut six = v6(true, 6, &segment());
    six[4..6].fill(0);
    understood(1, ethernet(0x86dd, &six), "TSO, IPv6");
}

#[test]
fn a_snaplen_leaves_the_original_length() {
    let frame = ethernet(0x0800, &packet());
    let head = frame.len() - TEXT.len();
    for kept in [0, 1, 10, TEXT.len() - 1] {
        let cut = Captured::new(START, frame.clone()).cut(head + kept);
        let run = Run::of(&pcap(1, &[cut], true, false));
        assert_eq!((run.data[0].len, run.data[0].payload.len()), (TEXT.len() as u32, kept));
        assert_eq!(
            (run.summary.truncated, run.summary.truncated_bytes),
            (1, (TEXT.len() - kept) as u64)
        );
        assert_eq!(run.losses[0].reason, LossReason::Truncated);
    }
    // Through the options of the TCP header: 20 bytes of it are enough.
    let cut = Captured::new(START, frame).cut(14 + 20 + 20);
    let run = Run::of(&pcap(1, &[cut], true, false));
    assert_eq!((run.data[0].len, run.data[0].payload.len()), (TEXT.len() as u32, 0));
}

/// The segment in fragments of 16 bytes.
fn fragments_v4(id: u16) -> Vec<Vec<u8>> {
    let whole = segment();
    let count = whole.len().div_ceil(16);
    let fragment = |(index, part): (usize, &[u8])| {
        let more = if index + 1 < count { 0x2000 } else { 0 };
        ethernet(0x0800, &v4(CLIENT.0, SERVER.0, 6, id, more | (index * 2) as u16, part))
    };
    whole.chunks(16).enumerate().map(fragment).collect()
}

fn fragments_v6() -> Vec<Vec<u8>> {
    let whole = with(&[6, 0, 1, 4, 0, 0, 0, 0], &segment());
    let count = whole.len().div_ceil(16);
    let fragment = |(index, part): (usize, &[u8])| {
        let field = (index * 16) as u16 | u16::from(index + 1 < count);
        let [high, low] = field.to_be_bytes();
        ethernet(0x86dd, &v6(true, 44, &with(&[60, 0, high, low, 9, 9, 9, 9], part)))
    };
    whole.chunks(16).enumerate().map(fragment).collect()
}

fn all(frames: &[Vec<u8>]) -> Run {
    let frames: Vec<Captured> = frames
        .iter()
        .enumerate()
        .map(|(n, f)| Captured::new(START + n as u64, f.clone()))
        .collect();
    Run::of(&pcap(1, &frames, true, false))
}

#[test]
fn fragments_in_any_order_become_the_segment() {
    for mut frames in [fragments_v4(1), fragments_v6()] {
        let count = frames.len();
        for turn in 0..count {
            frames.rotate_left(1);
            if turn % 2 == 0 {
                frames.reverse();
            }
            let mut twice = frames.clone();
            twice.insert(1, frames[0].clone());
            let run = all(&twice);
            assert_eq!(run.client().as_bytes(), TEXT, "turn {turn}");
            assert_eq!(
                run.data[0].time,
                START + count as u64,
                "known when the last fragment came"
            );
            assert_eq!(run.summary.not_understood(), 0);
        }
    }
}

#[test]
fn datagrams_are_told_apart_by_their_number() {
    let mixed: Vec<Vec<u8>> = fragments_v4(1)
        .into_iter()
        .zip(fragments_v4(2))
        .flat_map(|(a, b)| [a, b])
        .collect();
    let run = all(&mixed);
    assert_eq!(run.client().as_bytes(), TEXT);
    assert_eq!((run.summary.segments, run.summary.retransmits), (2, 1));
}

#[test]
fn a_missing_fragment_is_counted() {
    let mut frames = fragments_v4(1);
    frames.remove(2);
    let run = all(&frames);
    assert_eq!(run.data, []);
    assert_eq!(run.summary.faults().collect::<Vec<_>>(), [(Fault::Fragment, 1)]);
}

#[test]
fn overlapping_fragments_are_refused() {
    let mut frames = fragments_v4(1);
    let overlap = ethernet(0x0800, &v4(CLIENT.0, SERVER.0, 6, 1, 0x2000 | 1, &[b'x'; 16]));
    frames.insert(2, overlap);
    let run = all(&frames);
    assert_eq!(run.data, []);
    assert!(run.summary.faults[Fault::Fragment as usize] > 0);
}

#[test]
fn fragments_cut_by_a_snaplen_give_what_is_known() {
    let frames: Vec<Captured> = fragments_v4(1)
        .into_iter()
        .map(|f| Captured::new(START, f))
        .enumerate()
        .map(|(n, f)| if n == 3 { f.cut(14 + 20 + 4) } else { f })
        .collect();
    let run = Run::of(&pcap(1, &frames, true, false));
    let known = 3 * 16 + 4 - 32;
    assert_eq!(run.data[0].payload, TEXT[..known]);
    assert_eq!(run.data[0].len, TEXT.len() as u32);
}

#[test]
fn fragments_that_never_become_whole_are_bounded() {
    let frames: Vec<Captured> = (0..60_000u32)
        .map(|n| {
            let from = [10, 1, (n >> 8) as u8, n as u8];
            let part = ethernet(0x0800, &v4(from, SERVER.0, 6, 1, 0x2000 | 8000, &[0; 800]));
            Captured::new(START, part)
        })
        .collect();
    let run = Run::of(&pcap(1, &frames, true, false));
    assert_eq!(run.summary.faults().collect::<Vec<_>>(), [(Fault::Fragment, 60_000)]);
}
