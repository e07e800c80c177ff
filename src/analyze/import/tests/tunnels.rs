//! Tunnels: the same segment inside of each, alone and inside each other.

use super::build::*;
use crate::analyze::remarks::Subject;
use crate::format::record::About;

const OUTER: ([u8; 4], [u8; 4]) = ([172, 16, 0, 1], [172, 16, 0, 2]);

/// The packet of a conversation without its link header.
fn packet(frame: &Captured) -> &[u8] {
    &frame.bytes[14..]
}

fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4(OUTER.0, OUTER.1, protocol, 9, 0x4000, payload)
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let head = [49152_u16, port, len, 0].map(u16::to_be_bytes).concat();
    ip(17, &[head, payload.to_vec()].concat())
}

fn with(head: &[u8], rest: &[u8]) -> Vec<u8> {
    [head, rest].concat()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    ethernet(0x0800, packet)
}

fn vxlan(port: u16, packet: &[u8]) -> Vec<u8> {
    udp(port, &with(&[8, 0, 0, 0, 0, 0, 42, 0], &framed(packet)))
}

/// Each tunnel around an IPv4 packet, as an IP packet.
fn tunnels(packet: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let frame = framed(packet);
    let gre = |head: &[u8], inside: &[u8]| ip(47, &with(head, inside));
    vec![
        ("VXLAN", vxlan(4789, packet)),
        ("VXLAN of Linux", vxlan(8472, packet)),
        ("VXLAN-GPE, IP", udp(4790, &with(&[0x0c, 0, 0, 1, 0, 0, 42, 0], packet))),
        (
            "VXLAN-GPE, Ethernet",
            udp(4790, &with(&[0x0c, 0, 0, 3, 0, 0, 42, 0], &frame)),
        ),
        (
            "VXLAN-GPE, NSH",
            udp(
                4790,
                &with(&[0x0c, 0, 0, 4, 0, 0, 42, 0, 0, 2, 2, 1, 0, 0, 1, 255], packet),
            ),
        ),
        ("Geneve", udp(6081, &with(&[0, 0, 0x65, 0x58, 0, 0, 42, 0], &frame))),
        (
            "Geneve, options",
            udp(6081, &with(&[1, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 0], &frame)),
        ),
        ("Geneve, IP", udp(6081, &with(&[0, 0, 8, 0, 0, 0, 42, 0], packet))),
        ("IPIP", ip(4, packet)),
        ("EtherIP", ip(97, &with(&[0x30, 0], &frame))),
        ("MPLS in IP", ip(137, &with(&[0, 1, 1, 64], packet))),
        ("MPLS in UDP", udp(6635, &with(&[0, 1, 1, 64], packet))),
        ("GRE", gre(&[0, 0, 8, 0], packet)),
        (
            "GRE, checksum, key and number",
            gre(&[0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], packet),
        ),
        ("NVGRE", gre(&[0x20, 0, 0x65, 0x58, 0, 0, 7, 1], &frame)),
        ("GRE in UDP", udp(4754, &with(&[0, 0, 8, 0], packet))),
        ("GRE, MPLS", gre(&[0, 0, 0x88, 0x47, 0, 1, 1, 64], packet)),
        ("ERSPAN I", gre(&[0, 0, 0x88, 0xbe], &frame)),
        (
            "ERSPAN II",
            gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 2, 0, 0, 0, 3], &frame),
        ),
        (
            "ERSPAN III",
            gre(
                &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0],
                &frame,
            ),
        ),
        (
            "ERSPAN III with a platform's header",
            gre(
                &[
                    &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1][..],
                    &[5; 8],
                ]
                .concat(),
                &frame,
            ),
        ),
        (
            "ERSPAN III of IP",
            gre(
                &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 2, 0, 0, 0, 3, 0, 0, 8, 0],
                packet,
            ),
        ),
        ("WCCP", gre(&[0, 0, 0x88, 0x3e, 1, 2, 3, 4], packet)),
        (
            "PPTP",
            gre(
                &[
                    0x30, 0x81, 0x88, 0x0b, 0, 9, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 3, 0, 0x21,
                ],
                packet,
            ),
        ),
        ("GTP-U", udp(2152, &with(&[0x30, 0xff, 0, 9, 0, 0, 0, 1], packet))),
        (
            "GTP-U with an extension header",
            udp(
                2152,
                &with(&[0x34, 0xff, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0], packet),
            ),
        ),
        (
            "L2TP",
            udp(1701, &with(&[0x00, 0x02, 0, 1, 0, 2, 0xff, 3, 0, 0x21], packet)),
        ),
        (
            "L2TP, length, numbers, offset",
            udp(
                1701,
                &with(&[0x4a, 0x02, 0, 99, 0, 1, 0, 2, 0, 1, 0, 1, 0, 1, 9, 0x21], packet),
            ),
        ),
        ("TZSP", udp(37008, &with(&[1, 0, 0, 1, 0, 10, 1, 5, 1], &frame))),
    ]
}

/// Frames of every tunnel, and of tunnels inside each other.
pub fn samples() -> Vec<(u16, Vec<u8>)> {
    let packet = v4(CLIENT.0, SERVER.0, 6, 7, 0, &tcp(40_000, 80, 1, 1, "A", b"inside"));
    let once = tunnels(&packet).into_iter().map(|(_, packet)| packet);
    let twice = tunnels(&ip(4, &packet)).into_iter().map(|(_, packet)| packet);
    once.chain(twice).map(|packet| (ETHERNET, framed(&packet))).collect()
}

/// A conversation whose packets are in a tunnel.
fn tunnelled(wrap: impl Fn(&[u8]) -> Vec<u8>) -> Run {
    let mut dialog = Dialog::opened();
    dialog.send(0, b"question").send(1, b"answer").fin(0).fin(1).ack(0);
    for frame in &mut dialog.frames {
        *frame = Captured::new(frame.time, framed(&wrap(packet(frame))));
    }
    dialog.run()
}

#[test]
fn every_tunnel_is_opened() {
    let names: Vec<&str> = tunnels(&[]).into_iter().map(|(name, _)| name).collect();
    for (n, name) in names.iter().enumerate() {
        let run = tunnelled(|packet| tunnels(packet).swap_remove(n).1);
        assert_eq!(
            (run.client(), run.server()),
            ("question".into(), "answer".into()),
            "{name}"
        );
        assert_eq!(run.sockets[0].local, endpoint(CLIENT), "{name}");
        assert_eq!((run.closes.len(), run.remarks()), (1, vec![]), "{name}");
        assert!(run.summary.is_whole());
    }
}

#[test]
fn tunnels_around_and_of_ipv6_are_opened() {
    let segment = tcp(40_000, 80, 1, 1, "A", b"inside");
    let (four, six) = (v4(CLIENT.0, SERVER.0, 6, 7, 0, &segment), v6(true, 6, &segment));
    for (frame, what) in [
        (ethernet(0x0800, &ip(41, &six)), "6in4"),
        (ethernet(0x86dd, &v6(true, 41, &six)), "6in6"),
        (ethernet(0x86dd, &v6(true, 4, &four)), "4in6"),
        (ethernet(0x86dd, &v6(true, 47, &with(&[0, 0, 0x86, 0xdd], &six))), "GRE"),
        (ethernet(0x0800, &vxlan(4789, &ip(41, &six))), "6in4 in VXLAN"),
    ] {
        let run = Run::of(&pcap(ETHERNET, &[Captured::new(START, frame)], true, false));
        assert_eq!(run.client(), "inside", "{what}: {:?}", run.summary);
    }
}

/// A port does not make a tunnel, and what is in a tunnel is counted as what it is.
#[test]
fn what_is_no_tunnel_or_holds_something_else_is_reported() {
    let arp = ethernet(0x0806, &[0; 28]);
    let udp_ = Subject::new(About::IpProtocol, 17_u8);
    for (packet, subject) in [
        (udp(4789, &with(&[0; 8], &arp)), udp_),
        (udp(4789, &[8, 0, 0]), udp_),
        (udp(53, b"question"), udp_),
        (udp(2152, &[0x32, 1, 0, 0, 0, 0, 0, 0]), udp_),
        (udp(1701, &[0xc8, 2, 0, 12, 0, 0]), udp_),
        (udp(37008, b"whatever"), udp_),
        (udp(37008, &[1, 0, 0, 1, 0, 0, 0]), udp_),
        (udp(6081, &with(&[0x40, 0, 0x65, 0x58, 0, 0, 0, 0], &arp)), udp_),
        (
            udp(4789, &with(&[8, 0, 0, 0, 0, 0, 42, 0], &arp)),
            Subject::new(About::EtherType, 0x0806_u16),
        ),
        (vxlan(4789, &v4(CLIENT.0, SERVER.0, 17, 1, 0, &[0; 20])), udp_),
        (vxlan(4789, &ip(132, &[0; 12])), Subject::new(About::IpProtocol, 132_u8)),
        (ip(47, &[0, 0, 0x88, 0xcc]), Subject::new(About::EtherType, 0x88cc_u16)),
        (ip(47, &[0, 2, 8, 0]), About::TunnelHeader.into()),
        (ip(47, &[0x40, 0, 8, 0, 0, 0, 0, 0]), About::TunnelHeader.into()),
        (ip(47, &[0x20, 0, 8]), About::TunnelHeader.into()),
        (ip(97, &[0x20, 0]), About::TunnelHeader.into()),
        (udp(4790, &[0x0c, 0, 0, 77, 0, 0, 42, 0]), About::TunnelHeader.into()),
        (udp(4789, &[8, 0, 0, 0, 0, 0, 42, 0, 1, 2, 3]), About::LinkHeader.into()),
        (ip(4, &[0x65; 40]), About::NetworkHeader.into()),
        (ip(137, &[0, 1, 0, 64]), About::LinkHeader.into()),
    ] {
        let run = Run::of(&pcap(ETHERNET, &[Captured::new(START, framed(&packet))], true, false));
        assert_eq!(run.remarks(), [(subject, 1)]);
        assert_eq!(run.reported, run.remarks());
        assert_eq!(run.summary.is_whole(), !subject.about.is_cause());
    }
}

#[test]
fn tunnels_inside_each_other_end() {
    let mut packet = v4(CLIENT.0, SERVER.0, 6, 7, 0, &tcp(40_000, 80, 1, 1, "A", b"deep"));
    for depth in 1..8 {
        packet = match depth % 2 {
            0 => ip(4, &packet),
            _ => vxlan(4789, &packet),
        };
        let run = Run::of(&pcap(ETHERNET, &[Captured::new(START, framed(&packet))], true, false));
        match depth {
            ..=4 => assert_eq!(run.client(), "deep", "{depth}"),
            _ => assert_eq!(run.remarks(), [(About::Nesting.into(), 1)], "{depth}"),
        }
    }
    // Frames inside frames, without IP between them, end too.
    let mut frame = ethernet(0x0800, &packet);
    for _ in 0..200 {
        frame = ethernet(0x6558, &frame);
    }
    let run = Run::of(&pcap(ETHERNET, &[Captured::new(START, frame)], true, false));
    assert_eq!(run.remarks(), [(About::LinkHeader.into(), 1)]);
}

/// The packet of a tunnel in fragments of 64 bytes.
fn in_fragments(packet: &[u8]) -> Vec<Vec<u8>> {
    let (protocol, payload) = (packet[9], &packet[20..]);
    let count = payload.len().div_ceil(64);
    let fragment = |(n, part): (usize, &[u8])| {
        let more = if n + 1 < count { 0x2000 } else { 0 };
        framed(&v4(OUTER.0, OUTER.1, protocol, 77, more | (n * 8) as u16, part))
    };
    payload.chunks(64).enumerate().map(fragment).collect()
}

#[test]
fn fragments_of_tunnels_are_put_together_and_those_of_other_datagrams_are_no_loss() {
    let inner = v4(CLIENT.0, SERVER.0, 6, 7, 0, &tcp(40_000, 80, 1, 1, "A", &[b'x'; 200]));
    for packet in [vxlan(4789, &inner), ip(4, &inner), ip(47, &with(&[0, 0, 8, 0], &inner))] {
        for reverse in [false, true] {
            let mut frames = in_fragments(&packet);
            if reverse {
                frames.reverse();
            }
            let frames: Vec<Captured> = frames.into_iter().map(|frame| Captured::new(START, frame)).collect();
            let run = Run::of(&pcap(ETHERNET, &frames, true, false));
            assert_eq!((run.client().len(), run.remarks()), (200, vec![]));
            let run = Run::of(&pcap(ETHERNET, &frames[..2], true, false));
            let known = !reverse || packet[9] != 17;
            let expected = match known {
                true => About::Fragment.into(),
                // Without the first fragment nobody knows the port.
                false => Subject::new(About::IpProtocol, 17_u8),
            };
            assert_eq!(run.remarks(), [(expected, 1)]);
        }
    }
    for count in [1, 2, 4] {
        let frames = in_fragments(&udp(2049, &[0; 220]));
        let frames: Vec<Captured> = frames.into_iter().map(|frame| Captured::new(START, frame)).collect();
        let run = Run::of(&pcap(ETHERNET, &frames[..count], true, false));
        assert_eq!(run.remarks(), [(Subject::new(About::IpProtocol, 17_u8), 1)]);
        assert!(run.summary.is_whole());
    }
}
