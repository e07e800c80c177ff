//! Link headers, IP headers, extension headers, fragments: the same segment in every wrapping.

use super::build::*;
use crate::analyze::remarks::Subject;
use crate::format::record::{About, LossReason};

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
    assert_eq!(run.summary.remarks.not_understood(), 0, "{what}");
    assert_eq!(run.summary.truncated, 0, "{what}");
}

fn refused(link: u16, frame: Vec<u8>, fault: About) {
    let run = one(link, frame);
    assert_eq!(run.remarks(), [(fault.into(), 1)]);
    assert_eq!(run.losses.len(), 1);
    assert_eq!(run.losses[0].reason, LossReason::NotUnderstood);
}

fn with(head: &[u8], rest: &[u8]) -> Vec<u8> {
    [head, rest].concat()
}

/// A frame with the segment in it: its link type, its bytes, what it is.
type Sample = (u16, Vec<u8>, &'static str);

/// Frames of every link type.
pub fn samples() -> Vec<(u16, Vec<u8>)> {
    let all = links().into_iter().chain(tags()).chain(more_links());
    all.map(|(link, frame, _)| (link, frame)).collect()
}

fn links() -> Vec<Sample> {
    let mut all = Vec::new();
    let mut add = |link, frame, what| all.push((link, frame, what));
    let ip = packet();
    let six = v6(true, 6, &segment());
    add(1, ethernet(0x0800, &ip), "Ethernet");
    add(1, ethernet(0x86dd, &six), "Ethernet, IPv6");
    add(1, ethernet(0x8100, &with(&[0, 5, 8, 0], &ip)), "VLAN");
    add(1, ethernet(0x88a8, &with(&[0, 5, 0x81, 0, 0, 6, 8, 0], &ip)), "QinQ");
    add(
        1,
        ethernet(0x9100, &with(&[0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &six)),
        "QinQ before 802.1ad",
    );
    add(
        1,
        ethernet(0x8847, &with(&[0, 1, 0x00, 64, 0, 2, 0x11, 64], &ip)),
        "two MPLS labels",
    );
    add(
        1,
        ethernet(0x8864, &with(&[0x11, 0, 0, 1, 0, 0, 0, 0x21], &ip)),
        "PPPoE",
    );
    let snap = with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ip);
    add(1, ethernet(snap.len() as u16, &snap), "802.3 with SNAP");
    add(
        113,
        with(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0], &ip),
        "Linux cooked",
    );
    add(
        113,
        with(
            &[0, 4, 3, 4, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x81, 0, 0, 5, 0x86, 0xdd],
            &six,
        ),
        "cooked, VLAN",
    );
    add(
        276,
        with(&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], &ip),
        "Linux cooked 2",
    );
    add(0, with(&[2, 0, 0, 0], &ip), "loopback, little endian");
    add(0, with(&[0, 0, 0, 2], &ip), "loopback, big endian");
    for family in [24, 28, 30, 10] {
        add(0, with(&[family, 0, 0, 0], &six), "loopback, IPv6");
    }
    add(108, with(&[0, 0, 0, 2], &ip), "OpenBSD loopback");
    for raw in [12, 14, 101] {
        add(raw, ip.clone(), "raw IP");
        add(raw, six.clone(), "raw IPv6");
    }
    add(228, ip.clone(), "raw IPv4 only");
    add(229, six, "raw IPv6 only");
    add(9, with(&[0xff, 3, 0, 0x21], &ip), "PPP");
    all
}

#[test]
fn every_link_header_leads_to_the_same_segment() {
    for (link, frame, what) in links() {
        understood(link, frame, what);
    }
}

fn tags() -> Vec<Sample> {
    let mut all = Vec::new();
    let mut add = |link, frame, what| all.push((link, frame, what));
    let ip = packet();
    let six = v6(true, 6, &segment());
    let inner = ethernet(0x0800, &ip);
    add(
        1,
        ethernet(0x8864, &with(&[0x11, 0, 0, 1, 0, 99, 0x21], &ip)),
        "PPPoE with a protocol of one byte",
    );
    add(1, ethernet(0x88e7, &with(&[0, 0, 1, 2], &inner)), "802.1ah");
    add(1, ethernet(0x8926, &with(&[0, 1, 0, 2, 8, 0], &ip)), "VN-tag");
    add(1, ethernet(0x893f, &with(&[0, 1, 0, 2, 0, 3, 8, 0], &ip)), "E-tag");
    add(
        1,
        ethernet(0x8909, &with(&[1, 1, 0, 1, 0, 42, 0x86, 0xdd], &six)),
        "security group tag",
    );
    add(
        1,
        ethernet(0x88be, &with(&[0x10, 1, 0, 2, 0, 0, 0, 3], &inner)),
        "ERSPAN without GRE",
    );
    add(
        1,
        ethernet(0x88e5, &with(&[0, 0, 0, 0, 0, 1, 8, 0], &ip)),
        "MACsec that does not encrypt",
    );
    add(
        1,
        ethernet(0x88e5, &with(&[0x20, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 0], &ip)),
        "MACsec with an identifier",
    );
    add(1, ethernet(0x892f, &with(&[0, 99, 0, 1, 8, 0], &ip)), "HSR");
    add(
        1,
        ethernet(0x22f3, &with(&[0, 0x40, 0, 1, 0, 2, 9, 9, 9, 9], &inner)),
        "TRILL",
    );
    add(1, ethernet(0x8903, &with(&[0, 1], &inner)), "FabricPath");
    add(1, ethernet(0x894f, &with(&[0, 2, 1, 3, 0, 0, 1, 0xff], &inner)), "NSH");
    add(
        1,
        ethernet(0x8847, &with(&[0, 1, 0x01, 64, 0, 0, 0, 0], &inner)),
        "MPLS, control word, Ethernet",
    );
    add(1, ethernet(0x8847, &with(&[0, 1, 0x01, 64], &inner)), "MPLS, Ethernet");
    add(1, ethernet(0x880b, &with(&[0, 0x57], &six)), "PPP in Ethernet");
    let direct = with(&[6, 6, 3], &ip);
    add(1, ethernet(direct.len() as u16, &direct), "802.2 without SNAP");
    all
}

#[test]
fn tags_and_frames_inside_frames_are_passed() {
    for (link, frame, what) in tags() {
        understood(link, frame, what);
    }
}

fn more_links() -> Vec<Sample> {
    let mut all = Vec::new();
    let mut add = |link, frame, what| all.push((link, frame, what));
    let ip = packet();
    let six = v6(true, 6, &segment());
    let frame = ethernet(0x0800, &ip);
    let snap = with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ip);
    add(9, with(&[0x0f, 0, 8, 0], &ip), "Cisco's HDLC under PPP");
    add(9, with(&[0x21], &ip), "PPP with a protocol of one byte");
    add(50, with(&[0xff, 3, 0, 0x57], &six), "PPP in HDLC");
    add(51, with(&[0x11, 0, 0, 1, 0, 99, 0, 0x21], &ip), "PPPoE");
    add(100, snap.clone(), "ATM");
    add(104, with(&[0x0f, 0, 8, 0], &ip), "Cisco's HDLC");
    add(107, with(&[0x18, 0x41, 3, 0xcc], &ip), "frame relay");
    add(
        107,
        with(&[0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 8, 0], &ip),
        "frame relay, SNAP",
    );
    add(107, with(&[0x18, 0x41, 8, 0], &ip), "Cisco's frame relay");
    add(109, with(&[2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], &ip), "OpenBSD's enc");
    add(
        113,
        with(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0, 4], &snap),
        "cooked, LLC",
    );
    add(117, with(&[&[61, 2][..], &[0; 62]].concat(), &ip), "OpenBSD's pflog");
    add(138, with(&[&[1; 16][..], &[8, 0]].concat(), &ip), "FireWire");
    add(166, with(&[1, 3, 0, 0x21], &ip), "pppd");
    add(192, with(&[0, 0, 8, 0, 1, 0, 0, 0], &frame), "PPI");
    add(204, with(&[0, 0xff, 3, 0, 0x21], &ip), "PPP with a direction");
    add(205, with(&[1, 0x0f, 0, 0x86, 0xdd], &six), "HDLC with a direction");
    add(
        206,
        with(&[1, 0x18, 0x41, 3, 0x8e], &six),
        "frame relay with a direction",
    );
    add(240, with(&[0; 4], &frame), "netANALYZER");
    add(242, with(&[&[1; 40][..], &[8, 0, 0, 0]].concat(), &ip), "InfiniBand");
    let pktap = |link: u8| [&[108, 0, 0, 0, 1, 0, 0, 0, link, 0, 0, 0][..], &[7; 96]].concat();
    add(258, with(&pktap(1), &frame), "PKTAP, Ethernet");
    add(258, with(&pktap(101), &six), "PKTAP, raw");
    for (link, tag) in [(281, 4), (284, 4), (285, 8)] {
        add(
            link,
            [&frame[..12], &vec![1; tag], &frame[12..]].concat(),
            "tag of a switch",
        );
    }
    add(282, with(&[1; 4], &frame), "tag of a switch before the frame");
    all
}

#[test]
fn more_link_types_lead_to_the_same_segment() {
    for (link, frame, what) in more_links() {
        understood(link, frame, what);
    }
}

#[test]
fn what_a_packet_capture_of_netfilter_holds_is_read_in_both_byte_orders() {
    let attribute = |big: bool, kind: u16, value: &[u8]| {
        let half = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut out = [half(4 + value.len() as u16), half(kind)].concat();
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    for big in [false, true] {
        for (family, payload) in [
            (2, packet()),
            (10, v6(true, 6, &segment())),
            (7, packet()),
            (0, packet()),
        ] {
            let mut frame = vec![family, 0, 0, 5];
            frame.extend(attribute(big, 1, &[8, 0, 3, 0]));
            frame.extend(attribute(big, 10, b"prefix\0"));
            frame.extend(attribute(big, 9, &payload));
            understood(239, frame, "NFLOG");
        }
        // Not IP: bridged ARP.
        let mut frame = vec![7, 0, 0, 5];
        frame.extend(attribute(big, 1, &[8, 6, 3, 0]));
        frame.extend(attribute(big, 9, &[0; 28]));
        assert_eq!(
            one(239, frame).remarks(),
            [(Subject::new(About::EtherType, 0x0806_u16), 1)]
        );
    }
    refused(239, vec![2, 0, 0, 5, 3, 0, 9, 0], About::LinkHeader);
    refused(239, vec![2, 0, 0, 5, 4, 0, 3, 0], About::LinkHeader);
    refused(239, vec![2, 1, 0, 5, 4, 0, 9, 0], About::LinkHeader);
}

/// A frame of IEEE 802.11 from an access point.
fn wifi(control: [u8; 2], more: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = [&control[..], &[0, 0], &[1; 6], &[2; 6], &[3; 6], &[0, 0], more].concat();
    [head, payload.to_vec()].concat()
}

#[test]
fn data_of_wifi_is_read_and_everything_else_is_reported() {
    let snap = with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet());
    let data = wifi([0x08, 2], &[], &snap);
    understood(105, data.clone(), "802.11");
    understood(105, wifi([0x88, 1], &[0, 0], &snap), "802.11, quality of service");
    understood(
        105,
        wifi([0x88, 0x81], &[0, 0, 1, 2, 3, 4], &snap),
        "802.11, high throughput",
    );
    understood(105, wifi([0x08, 3], &[4; 6], &snap), "802.11, four addresses");
    understood(
        119,
        with(&[[0x44, 0, 0, 0], [12, 0, 0, 0], [0; 4]].concat(), &data),
        "prism",
    );
    understood(
        163,
        with(&[[0x80, 0x21, 0x10, 1], [0, 0, 0, 12], [0; 4]].concat(), &data),
        "AVS",
    );
    understood(127, with(&[0, 0, 8, 0, 0, 0, 0, 0], &data), "radiotap");
    // A clock before the flags; a second word of fields; padding after the header.
    let padded = wifi([0x88, 1], &[0, 0, 0, 0], &snap);
    let head = [0, 0, 17, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x20];
    understood(127, with(&head, &padded), "radiotap, padded");
    let head = [
        0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x20,
    ];
    understood(127, with(&head, &padded), "radiotap, more fields");
    for (frame, subject) in [
        (wifi([0x80, 0], &[], &[]), Subject::new(About::Wifi, 0_u8)),
        (wifi([0xd4, 0], &[], &[]), Subject::new(About::Wifi, 1_u8)),
        (wifi([0x48, 1], &[], &[]), Subject::new(About::Wifi, 2_u8)),
        (wifi([0x08, 0x42], &[], &snap), About::Encrypted.into()),
        (wifi([0x08, 0x06], &[], &snap), About::Fragment.into()),
        (wifi([0x88, 1], &[0x80, 0], &snap), About::Aggregate.into()),
        (wifi([0x09, 0], &[], &snap), About::LinkHeader.into()),
        (data[..23].to_vec(), About::LinkHeader.into()),
    ] {
        assert_eq!(one(105, frame).remarks(), [(subject, 1)]);
    }
}

#[test]
fn other_protocols_are_counted_by_name_and_number() {
    for (link, frame, subject) in [
        (
            1,
            ethernet(0x0806, &[0; 28]),
            Subject::new(About::EtherType, 0x0806_u16),
        ),
        (1, ethernet(38, &[0x42, 0x42, 3, 0]), Subject::new(About::Llc, 0x42_u8)),
        (
            1,
            ethernet(8, &[0xfe, 0xfe, 3, 0x83]),
            Subject::new(About::Nlpid, 0x83_u8),
        ),
        (
            1,
            ethernet(8, &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0]),
            Subject::new(About::EtherType, 0x2000_u16),
        ),
        (113, vec![0; 16], Subject::new(About::EtherType, 0_u16)),
        (
            9,
            vec![0xff, 3, 0xc0, 0x21],
            Subject::new(About::PppProtocol, 0xc021_u16),
        ),
        (9, vec![0xff, 3, 0, 0x2d], Subject::new(About::PppPacked, 0x2d_u16)),
        (0, vec![17, 0, 0, 0], Subject::new(About::AddressFamily, 17_u8)),
        (
            101,
            v4(CLIENT.0, SERVER.0, 1, 1, 0, &[0; 8]),
            Subject::new(About::IpProtocol, 1_u8),
        ),
        (
            101,
            v4(CLIENT.0, SERVER.0, 50, 1, 0, &segment()),
            Subject::new(About::IpProtocol, 50_u8),
        ),
        (101, v6(true, 58, &[0; 8]), Subject::new(About::IpProtocol, 58_u8)),
        (147, vec![0; 60], Subject::new(About::LinkType, 147_u8)),
        (
            192,
            vec![0, 0, 8, 0, 0xff, 0xff, 1, 0],
            Subject::new(About::LinkType, 0x1_ffff_u32),
        ),
        (1, ethernet(0x88e5, &[0x0c, 0, 0, 0, 0, 1]), About::Encrypted.into()),
    ] {
        let run = one(link, frame);
        assert_eq!(run.remarks(), [(subject, 1)]);
        assert_eq!(run.losses.len(), usize::from(subject.about.is_cause()));
        assert_eq!(run.reported, [(subject, 1)], "in the records as in the summary");
    }
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
        assert_eq!(
            (run.summary.remarks.not_tcp(), run.summary.remarks.not_understood()),
            (1, 0)
        );
    }
}

#[test]
fn what_is_not_understood_is_counted_by_what_it_is() {
    let ip = packet();

    refused(1, vec![0; 13], About::LinkHeader);
    refused(113, vec![0; 15], About::LinkHeader);
    refused(1, ethernet(0x8100, &[0; 3]), About::LinkHeader);
    refused(1, ethernet(0x0800, &ip[..19]), About::NetworkHeader);
    refused(1, ethernet(0x86dd, &ip), About::NetworkHeader);
    refused(1, ethernet(0x86dd, &v6(true, 0, &[6])), About::NetworkHeader);
    refused(101, vec![0x10; 40], About::NetworkHeader);
    let mut short = ip.clone();
    short[3] = 19;
    refused(101, short, About::NetworkHeader);
    refused(101, ip[..32].to_vec(), About::TransportHeader);
    let mut offset = ip.clone();
    offset[32] = 4 << 4;
    refused(101, offset, About::TransportHeader);
}

#[test]
fn endless_headers_end() {
    let tags: Vec<u8> = [0x81, 0x00, 0, 1].repeat(500);
    refused(1, with(&[0; 12], &tags), About::LinkHeader);
    let options = [60, 0, 0, 0, 0, 0, 0, 0].repeat(100);
    refused(1, ethernet(0x86dd, &v6(true, 60, &options)), About::NetworkHeader);
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
            assert_eq!(run.summary.remarks.not_understood(), 0);
        }
    }
}

#[test]
fn datagrams_are_distinguished_by_their_number() {
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
    assert_eq!(run.remarks(), [(About::Fragment.into(), 1)]);
}

#[test]
fn overlapping_fragments_are_refused() {
    let mut frames = fragments_v4(1);
    let overlap = ethernet(0x0800, &v4(CLIENT.0, SERVER.0, 6, 1, 0x2000 | 1, &[b'x'; 16]));
    frames.insert(2, overlap);
    let run = all(&frames);
    assert_eq!(run.data, []);
    assert!(run.summary.remarks.count(About::Fragment) > 0);
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
    assert_eq!(run.remarks(), [(About::Fragment.into(), 60_000)]);
}

/// Such addresses should not be on a wire, but are: they are no IPv4, and another connection than that of IPv4.
#[test]
fn addresses_that_look_mapped_stay_ipv6_where_ipv6_carried_them() {
    let mut six = v6(true, 6, &segment());
    for (at, ip) in [(8, CLIENT.0), (24, SERVER.0)] {
        six[at..at + 12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        six[at + 12..at + 16].copy_from_slice(&ip);
    }
    let run = all(&[ethernet(0x86dd, &six), ethernet(0x0800, &packet())]);
    let ends: Vec<String> = run.sockets.iter().map(|socket| socket.local.to_string()).collect();
    assert_eq!(ends, ["[::ffff:10.0.0.1]:40000", "10.0.0.1:40000"]);
    assert_eq!(run.data.len(), 2);
}
