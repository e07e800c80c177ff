//! What is said behind a negotiation of SOCKS is read as without it, and nothing is made up where one is not complete.

use super::*;

/// The negotiation of version 5, without and with a password, of 4 and of 4A.
pub(super) fn negotiations() -> [Turns; 4] {
    let turns = |turns: &[(usize, &[u8])]| turns.iter().map(|(end, bytes)| (*end, bytes.to_vec())).collect();
    [
        turns(&[
            (0, b"\x05\x02\0\x02"),
            (1, b"\x05\0"),
            (0, b"\x05\x01\0\x03\x02db\x0c\xea"),
            (1, b"\x05\0\0\x01\x0a\0\0\x02\xc0\0"),
        ]),
        turns(&[
            (0, b"\x05\x02\0\x02"),
            (1, b"\x05\x02"),
            (0, b"\x01\x04user\x02pw"),
            (1, b"\x01\0"),
            (0, b"\x05\x01\0\x01\x0a\0\0\x02\0\x50"),
            (1, b"\x05\0\0\x03\x02gw\xc0\0"),
        ]),
        turns(&[(0, b"\x04\x01\0\x50\x0a\0\0\x02user\0"), (1, b"\0\x5a\0\0\0\0\0\0")]),
        turns(&[(0, b"\x04\x01\0\x50\0\0\0\x01user\0host\0"), (1, b"\0\x5a\0\0\0\0\0\0")]),
    ]
}

pub(super) fn behind_socks(turns: Turns) -> [Turns; 4] {
    negotiations().map(|negotiation| [negotiation, turns.clone()].concat())
}

/// One call for each byte.
fn bytewise(turns: &Turns) -> Turns {
    let bytes = |(end, bytes): &(usize, Vec<u8>)| {
        let end = *end;
        bytes.clone().into_iter().map(move |byte| (end, vec![byte]))
    };
    turns.iter().flat_map(bytes).collect()
}

fn shown(turns: &Turns, client: Option<usize>) -> Flow {
    let turns: Vec<_> = turns.iter().map(|(end, bytes)| (*end, &bytes[..])).collect();
    heard(&turns, client)
}

fn rows(flow: &mut Flow) -> Vec<Box<dyn TakenExchange>> {
    std::iter::from_fn(|| flow.take(true)).collect()
}

#[test]
fn what_stands_behind_socks_is_read_as_without_it() {
    for turns in [http(), mysql()] {
        let plain = messages(&turns);
        for behind in behind_socks(turns.clone()) {
            assert_eq!(messages(&behind), plain);
            assert_eq!(
                messages(&behind_proxy(behind.clone())),
                plain,
                "and of the PROXY protocol"
            );
            assert_eq!(messages(&in_tunnels(behind.clone()))[2..], plain, "in tunnels");
            for twice in behind_socks(behind) {
                assert_eq!(messages(&twice), plain, "through two proxies");
            }
        }
        for behind in behind_socks(in_tunnels(turns)) {
            assert_eq!(messages(&behind)[2..], plain, "with tunnels in it");
        }
    }
}

/// The server begins, in the call that grants the request, or the client sends without waiting.
#[test]
fn what_follows_may_share_a_call_with_the_negotiation() {
    for negotiation in negotiations() {
        for (turns, rows) in [(http(), 3), (mysql(), 3)] {
            let joined = [negotiation.clone(), turns].concat();
            let mut ends = [Vec::new(), Vec::new()];
            joined
                .iter()
                .for_each(|(end, bytes)| ends[*end].extend_from_slice(bytes));
            let [client, server] = ends;
            for order in [[(0, &client[..]), (1, &server[..])], [(1, &server), (0, &client)]] {
                for known in [None, Some(0)] {
                    let mut flow = heard(&order, known);
                    flow.finish();
                    assert_eq!(super::socks::rows(&mut flow).len(), rows, "{order:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_read_behind_socks_has_the_name_it_has_without() {
    for negotiation in negotiations() {
        for (bytes, protocol, why) in [
            (HELLO, "tls", "TLS"),
            (PREFACE, "http2", "HTTP/2"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "ssh", "SSH"),
            (&[7; 40], "", "unknown protocol"),
            (b"", "socks", "nothing is read behind its SOCKS negotiation"),
        ] {
            let turns = match bytes {
                [] => negotiation.clone(),
                _ => [negotiation.clone(), vec![(0, bytes.to_vec())]].concat(),
            };
            for client in [None, Some(0)] {
                let mut flow = shown(&turns, client);
                flow.finish();
                assert_eq!((flow.protocol, flow.why), (protocol, why), "{turns:?}");
                assert_eq!(flow.client(), Some(0));
                assert!(rows(&mut flow).is_empty());
            }
        }
    }
}

#[test]
fn a_refused_request_is_socks_without_rows() {
    let refusals: [&[(usize, &[u8])]; 5] = [
        &[(0, b"\x05\x01\x02"), (1, b"\x05\xff")],
        &[
            (0, b"\x05\x01\x02"),
            (1, b"\x05\x02"),
            (0, b"\x01\x01u\x01p"),
            (1, b"\x01\x01"),
        ],
        &[
            (0, b"\x05\x01\0"),
            (1, b"\x05\0"),
            (0, b"\x05\x01\0\x01\x0a\0\0\x02\0\x50"),
            (1, b"\x05\x05\0\x01\0\0\0\0\0\0"),
        ],
        &[(0, b"\x04\x01\0\x50\x0a\0\0\x02\0"), (1, b"\0\x5b\0\0\0\0\0\0")],
        &[(0, b"\x04\x01\0\x50\0\0\0\x01\0host\0"), (1, b"\0\x5d\0\0\0\0\0\0")],
    ];
    for refusal in refusals {
        let turns: Turns = refusal.iter().map(|(end, bytes)| (*end, bytes.to_vec())).collect();
        for turns in [bytewise(&turns), turns] {
            // What comes after a refusal is of nothing that was agreed on.
            for behind in [Vec::new(), http()] {
                let mut flow = shown(&[turns.clone(), behind].concat(), None);
                flow.conclude();
                assert_eq!(
                    (flow.protocol, flow.why),
                    ("socks", "refused by the SOCKS proxy"),
                    "{turns:?}"
                );
                assert_eq!(flow.client(), Some(0));
                assert!(rows(&mut flow).is_empty(), "{turns:?}");
            }
        }
    }
}

/// A connection that is over, or a capture, after each byte: no row more than what was said, and the rest of it is told of.
#[test]
fn a_connection_cut_at_every_byte_yields_what_was_said() {
    let all = [http(), mysql()].into_iter();
    for (plain, negotiation) in all.flat_map(|turns| negotiations().map(|one| (turns.clone(), one))) {
        let whole = bytewise(&[negotiation.clone(), plain.clone()].concat());
        let len: usize = negotiation.iter().map(|(_, bytes)| bytes.len()).sum();
        for cut in 0..whole.len() {
            let mut flow = shown(&whole[..cut].to_vec(), Some(0));
            flow.conclude();
            let mut without = shown(&bytewise(&plain)[..cut.saturating_sub(len)].to_vec(), Some(0));
            without.conclude();
            let said_of = |flow: &mut Flow| -> Vec<_> {
                let told = |row: Box<dyn TakenExchange>| (said(row.exchange()), row.exchange().incomplete);
                rows(flow).into_iter().map(told).collect()
            };
            assert_eq!(said_of(&mut flow), said_of(&mut without), "{cut}");
            if cut <= len {
                assert!(["", "socks"].contains(&flow.protocol), "{cut}: {}", flow.protocol);
            }
        }
    }
}

/// Where bytes of it are lost nobody knows where what follows begins: what is found there is as on a connection joined in
/// its middle.
#[test]
fn a_negotiation_with_a_hole_is_none() {
    for negotiation in negotiations() {
        let turns = bytewise(&[negotiation.clone(), http()].concat());
        let len: usize = negotiation.iter().map(|(_, bytes)| bytes.len()).sum();
        for lost in 0..len {
            let mut flow = Flow::new([Endpoint::default(); 2], Some(0), false);
            flow.attach(WIRE, 0);
            let mut at = [1000; 2];
            for (place, (sender, payload)) in turns.iter().enumerate() {
                flow.start(*sender, 1000);
                let pos = flow.stream(*sender).position(at[*sender]);
                at[*sender] += 1;
                if place != lost {
                    let segment = Segment {
                        pos,
                        len: 1,
                        payload,
                        observer: WIRE as u8,
                        time: 10 + place as u64,
                        pid: 0,
                        tid: 0,
                        cgroup: 0,
                        urgent: false,
                    };
                    flow.segment(*sender, segment);
                }
            }
            flow.conclude();
            let plain = messages(&http());
            let all = rows(&mut flow);
            assert!(all.len() <= plain.len());
            for row in all {
                let exchange = row.exchange();
                let is_known = plain.iter().any(|known| *known == said(exchange));
                assert!(exchange.incomplete.is_some() || is_known, "{lost}: {exchange:?}");
            }
        }
    }
}

/// What begins like a negotiation, and is none, is judged as it was before.
#[test]
fn what_only_begins_like_socks_is_handed_on() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for first in [&b"\x05\x01\0"[..], b"\x04\x01\0\x50\x0a\0\0\x02\0", b"\x05\xff\x01"] {
        let mut flow = heard(&[(0, first), (1, answer)], Some(0));
        assert_eq!(flow.protocol, "http", "{first:?}");
        assert_eq!(rows(&mut flow).len(), 1);
    }
    let mut flow = heard(&[(1, SETTINGS), (0, PREFACE)], None);
    assert_eq!(flow.protocol, "http2");
    assert!(rows(&mut flow).is_empty());
}

#[test]
fn negotiations_in_a_row_are_bounded() {
    let greeting = b"\x04\x01\0\x50\x0a\0\0\x02\0".repeat(4000);
    let answer = b"\0\x5a\0\0\0\0\0\0".repeat(4000);
    for turns in [[(0, &greeting[..]), (1, &answer[..])], [(1, &answer), (0, &greeting)]] {
        let mut flow = heard(&turns, Some(0));
        flow.finish();
        assert!(rows(&mut flow).is_empty());
        assert_eq!(flow.protocol, "");
    }
}
