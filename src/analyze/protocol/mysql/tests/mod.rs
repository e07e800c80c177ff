//! The rules of the protocol, each on bytes of real clients and servers (fixtures/mysql).

mod fingerprints;
mod orphan;
mod wire;

mod real;

use std::collections::HashMap;
use std::net::IpAddr;

use super::*;
use crate::analyze::exchange::Side;
use crate::analyze::protocol::{Missing, Pairing, Sent, Verdict};

/// What one call hands to a pairing.
#[derive(Debug, Clone)]
pub enum Event {
    Bytes(Side, u64, Vec<u8>),
    Missing(Side, u64, u64, Missing),
}

/// The connections of a packet capture, as a pairing would be given them; in order of their first packets. Reads only
/// what the fixtures need: Ethernet, IP, TCP without loss; repeated segments are dropped.
pub fn connections(bytes: &[u8]) -> Vec<Vec<Event>> {
    let mut order = Vec::new();
    /// What was said, the next sequence numbers, the client.
    type Flow = (Vec<Event>, [Option<u32>; 2], IpAddr, u16);
    let mut flows: HashMap<_, Flow> = HashMap::new();
    let number = |b: &[u8]| match bytes[0] {
        0xd4 | 0x4d => u32::from_le_bytes(b.try_into().unwrap()),
        _ => u32::from_be_bytes(b.try_into().unwrap()),
    };
    let mut frames = &bytes[24..];
    while frames.len() > 16 {
        let (frame, rest) = frames[16..].split_at(number(&frames[8..12]) as usize);
        frames = rest;
        let Ok(sliced) = etherparse::SlicedPacket::from_ethernet(frame) else {
            continue;
        };
        let (Some(net), Some(etherparse::TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
            continue;
        };
        let (src, dst): (IpAddr, IpAddr) = match net {
            etherparse::NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            etherparse::NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            _ => continue,
        };
        let (a, b) = ((src, tcp.source_port()), (dst, tcp.destination_port()));
        let key = if a < b { (a, b) } else { (b, a) };
        if tcp.syn() && !tcp.ack() {
            order.push(key);
            flows.insert(
                key,
                (
                    Vec::new(),
                    [Some(tcp.sequence_number().wrapping_add(1)), None],
                    src,
                    a.1,
                ),
            );
            continue;
        }
        let Some((events, next, client, port)) = flows.get_mut(&key) else {
            continue;
        };
        let from = if a == (*client, *port) {
            Side::Client
        } else {
            Side::Server
        };
        let next = &mut next[from as usize];
        let seq = tcp.sequence_number().wrapping_add(u32::from(tcp.syn()));
        let expected = next.get_or_insert(seq);
        let payload = tcp.payload();
        if payload.is_empty() || seq != *expected {
            continue;
        }
        *expected = seq.wrapping_add(payload.len() as u32);
        let pos = events
            .iter()
            .rev()
            .find_map(|e| match e {
                Event::Bytes(f, pos, bytes) if *f == from => Some(pos + bytes.len() as u64),
                _ => None,
            })
            .unwrap_or(0);
        events.push(Event::Bytes(from, pos, payload.to_vec()));
    }
    order
        .into_iter()
        .filter_map(|key| flows.remove(&key))
        .map(|f| f.0)
        .filter(|e| !e.is_empty())
        .collect()
}

pub struct Run {
    pub exchanges: Vec<Exchange>,
    pub verdict: Verdict,
}

impl Run {
    /// Command, statement, status, rows, affected, error code: one line each.
    /// The exchanges that were seen whole.
    pub fn complete(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().filter(|exchange| exchange.incomplete.is_none())
    }

    pub fn lines(&self) -> Vec<String> {
        self.exchanges
            .iter()
            .map(|e| {
                let m = message(e);
                let text: String = m.statement.chars().take(60).collect();
                let mut line = format!("{} {text:?} {}", m.command_name(), m.status.name());
                if let Some(id) = m.statement_id {
                    line += &format!(" id={id}");
                }
                match m.rows {
                    Some(0) => {}
                    Some(n) => line += &format!(" rows={n}"),
                    None => line += " rows=?",
                }
                if let Some(n) = m.affected_rows {
                    line += &format!(" affected={n}");
                }
                if m.error_code != 0 {
                    line += &format!(" error={} {} {:?}", m.error_code, m.sqlstate, m.error_message);
                }
                if let Some(why) = e.incomplete {
                    line += &format!(" [{}]", why.name());
                }
                line
            })
            .collect()
    }
}

pub fn message(exchange: &Exchange) -> &MysqlMessage {
    &exchange.message
}

pub fn run(events: &[Event]) -> Run {
    run_open(events, true)
}

pub fn run_open(events: &[Event], close: bool) -> Run {
    let mut pairing = MysqlPairing::new(false);
    let mut queue = Queue::default();
    let mut exchanges = Vec::new();
    let mut verdict = Verdict::Continue;
    let mut ends = [0, 0];
    for event in events {
        verdict = match event {
            Event::Bytes(from, pos, bytes) => {
                ends[*from as usize] = pos + bytes.len() as u64;
                pairing.bytes(*from, *pos, bytes, &mut queue)
            }
            Event::Missing(from, pos, len, why) => {
                ends[*from as usize] = pos + len;
                if *from == Side::Client {
                    queue.refute_unsure(|exchange| exchange.request.end == *pos);
                }
                let is_cut = |exchange: &&mut Exchange| exchange.end_unsure && exchange.response.end == *pos;
                if *from == Side::Server && *why == Missing::Lost {
                    queue.iter_mut().filter(is_cut).for_each(Exchange::refute_end);
                }
                pairing.missing(*from, *pos, *len, *why, &mut queue)
            }
        };
        let is_unsure = |oldest: &Exchange| {
            (oldest.unsure && ends[0] <= oldest.request.end) || (oldest.end_unsure && ends[1] <= oldest.response.end)
        };
        let is_over = |oldest: &Exchange| oldest.is_finished() && !is_unsure(oldest);
        while queue.oldest().is_some_and(is_over) {
            let taken = queue.take().unwrap();
            exchanges.push((*taken).clone());
            queue.recycle(taken);
        }
        if verdict != Verdict::Continue {
            break;
        }
    }
    pairing.settle(&mut queue);
    if close {
        pairing.end(Side::Client, ends[0], true, &mut queue);
        pairing.end(Side::Server, ends[1], true, &mut queue);
    }
    exchanges.extend(std::iter::from_fn(|| queue.take()).map(|taken| *taken));
    Run { exchanges, verdict }
}

/// Cuts every event into pieces of `n` bytes.
pub fn cut(events: &[Event], n: usize) -> Vec<Event> {
    let mut out = Vec::new();
    for event in events {
        match event {
            Event::Bytes(from, pos, bytes) => {
                for (i, piece) in bytes.chunks(n).enumerate() {
                    out.push(Event::Bytes(*from, pos + (i * n) as u64, piece.to_vec()));
                }
            }
            other => out.push(other.clone()),
        }
    }
    out
}
