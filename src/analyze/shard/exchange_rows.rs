//! Rows of exchanges: who was at the two ends, and when, how long it took as each end saw it.

use std::ops::Range;
use std::sync::Arc;

use super::connection_rows::{observed, remote_party};
use super::socket::{SocketState, utc};
use super::{Key, Shard, Slot};
use crate::analyze::exchange::{AnyExchange, Incomplete, Timing};
use crate::analyze::flow::{OBSERVERS, WIRE, whole_view};
use crate::analyze::ids::IdMap;
use crate::analyze::names::{Host, Parties, Who};
use crate::analyze::row::{Frame, Latency, Party, Sink};
use crate::format::record::Ending;

/// Who was behind an end of a flow at its last exchange.
#[derive(Debug, Default)]
pub(super) struct LastParty {
    /// The hosts' editions and the process for which it was looked up: another process may use the socket, and more
    /// may be known later.
    pub(super) of: Option<(u64, u32, u64)>,
    /// Between which times it is this one: a process can run another program. On the boot clock of the end's host.
    pub(super) valid: Range<u64>,
    pub(super) party: Arc<Party>,
}

impl<S: Sink> Shard<S> {
    /// Gives the finished exchanges of a flow to the sink; with `flush` the unfinished ones too.
    pub(super) fn emit(&mut self, place: usize, hosts: &[Host], flush: bool) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        while let Some(mut taken) = slot.flow.take(flush) {
            if slot.flow.is_joined() {
                note_unreadable(slot, taken.exchange_mut(), hosts);
            }
            if taken.exchange().is_unanswered() && may_lack_end(slot, &self.sockets, hosts) {
                taken.exchange_mut().incomplete = Some(Incomplete::Gap);
            }
            let exchange = taken.exchange();
            update_parties(
                slot,
                exchange,
                &self.sockets,
                hosts,
                (&mut self.parties, &mut self.pairs),
            );
            let sequence = slot.flow.exchanges - 1;
            let start = emit_exchange(slot, exchange, sequence, (&self.sockets, hosts), &mut self.sink);
            if self.span.is_some_and(|span| span.contains(start)) {
                slot.within.exchanges += 1;
            }
            slot.flow.recycle(taken);
        }
        while let Some(mut turn) = slot.flow.take_turn(flush) {
            if turn.is_unanswered() && may_lack_end(slot, &self.sockets, hosts) {
                turn.incomplete = Some(Incomplete::Gap);
            }
            update_parties(slot, &*turn, &self.sockets, hosts, (&mut self.parties, &mut self.pairs));
            emit_exchange(
                slot,
                &*turn,
                slot.flow.turns() - 1,
                (&self.sockets, hosts),
                &mut self.sink,
            );
        }
    }
}

/// Looks up who is at the two ends, where it may be somebody else than at the exchange before.
fn update_parties(
    slot: &mut Slot,
    exchange: &AnyExchange,
    sockets: &IdMap<Key, Box<SocketState>>,
    hosts: &[Host],
    (parties, pairs): (&mut Parties, &mut u64),
) {
    let edition = hosts.iter().map(|host| host.edition).sum();
    let client = slot.flow.client().unwrap_or(0);
    // A process may be moved to another cgroup while its connection is open.
    let of = (
        client,
        edition,
        [0, 1].map(|end| (exchange.views[end].pid, exchange.views[end].cgroup)),
    );
    let times = [0, 1].map(|end| time_at(slot, exchange, hosts, end));
    let is_same = |end: usize| slot.parties[end].valid.contains(&times[end]);
    if slot.sure == Some(of) && is_same(0) && is_same(1) {
        return;
    }
    let mut changed = slot.pair == 0 || slot.client != client;
    let mut sure = true;
    for (end, time) in times.into_iter().enumerate() {
        let view = &exchange.views[end];
        // Who uses a socket may become known at any time.
        let unsure = view.pid == 0 && slot.sockets[end].is_some();
        sure &= !unsure;
        let last = &slot.parties[end];
        if !unsure && last.of == Some((edition, view.pid, view.cgroup)) && last.valid.contains(&time) {
            continue;
        }
        let state = slot.sockets[end].and_then(|key| Some((key, sockets.get(&key)?)));
        let (party, valid) = match state {
            Some((key, state)) => {
                let who = match view.pid {
                    0 => state.owner,
                    pid => Who {
                        pid,
                        cgroup: view.cgroup,
                        seen: time,
                    },
                };
                state.party((hosts, key.0), who, time, parties)
            }
            None => {
                let party = remote_party(hosts, first_seen(slot, exchange), &slot.flow.ends[end]);
                (party, 0..u64::MAX)
            }
        };
        // Mostly it is looked up in vain: what was learnt concerns others.
        changed |= party != slot.parties[end].party;
        slot.parties[end] = LastParty {
            of: Some((edition, view.pid, view.cgroup)),
            valid,
            party,
        };
    }
    if changed {
        *pairs += 1;
        slot.pair = *pairs;
        slot.client = client;
    }
    slot.sure = sure.then_some(of);
}

/// When an end of a flow took part in an exchange, on the boot clock of its host: when it had seen the request, or else when
/// it saw anything; where it saw nothing, when the other end did. 0 for an end that was not recorded.
#[inline]
fn time_at(slot: &Slot, exchange: &AnyExchange, hosts: &[Host], end: usize) -> u64 {
    let Some((own, _)) = slot.sockets[end] else { return 0 };
    let view = &exchange.views[end];
    if view.request.last != 0 {
        return view.request.last;
    }
    view.first()
        .unwrap_or_else(|| time_elsewhere(slot, exchange, hosts, own))
}

/// When an exchange was seen by another end, on the boot clock of this host.
fn time_elsewhere(slot: &Slot, exchange: &AnyExchange, hosts: &[Host], own: u16) -> u64 {
    let Some((other, time)) = first_seen(slot, exchange) else {
        return 0;
    };
    match (hosts.get(usize::from(other)), hosts.get(usize::from(own))) {
        (Some(of), Some(to)) if other != own => to.boot(of.utc(time)),
        _ => time,
    }
}

/// When the observer of a flow that is preferred among those that saw an exchange first saw it: its host, and its boot
/// clock then.
fn first_seen(slot: &Slot, exchange: &AnyExchange) -> Option<(u16, u64)> {
    let client = slot.flow.client().unwrap_or(0);
    let at = |observer: usize| Some((slot.sockets[observer]?.0, exchange.views[observer].first()?));
    at(client).or_else(|| at(1 - client)).or_else(|| at(WIRE))
}

/// What an exchange names and was not seen may have been said in what cannot be read of the captures.
fn note_unreadable(slot: &Slot, exchange: &mut AnyExchange, hosts: &[Host]) {
    if !exchange.message.lacks_earlier() {
        return;
    }
    let views = &exchange.views;
    let may_lack = |observer: usize| {
        let (host, id) = slot.sockets[observer]?;
        let time = views[observer].first()?;
        Some(hosts.get(usize::from(host))?.may_lack((id >> 32) as u32, time))
    };
    if (0..OBSERVERS).any(|observer| may_lack(observer) == Some(true)) {
        exchange.message.earlier_may_be_lost();
    }
}

/// Gives the row of an exchange to the sink; returns when it began, as the row says it.
fn emit_exchange<S: Sink>(
    slot: &mut Slot,
    exchange: &AnyExchange,
    sequence: u64,
    (sockets, hosts): (&IdMap<Key, Box<SocketState>>, &[Host]),
    sink: &mut S,
) -> u64 {
    let client = slot.flow.client().unwrap_or(0);
    let server = 1 - client;
    let sees = |observer: usize| Some((slot.sockets[observer]?.0, exchange.views[observer].first()?));
    let (at_client, at_server) = (sees(client), sees(server));
    let latency_at = |seen: Option<(u16, u64)>, observer: usize| match seen {
        Some(_) => latency(exchange, observer),
        None => Latency::default(),
    };
    let client_latency = latency_at(at_client, client);
    let server_latency = latency_at(at_server, server);
    let mut best = client_latency;
    if best.total_ns.is_none() {
        best = server_latency;
    }
    if best.total_ns.is_none() {
        best = latency_at(sees(WIRE), WIRE);
    }
    let seen = at_client.or(at_server).or_else(|| sees(WIRE));
    // Who has missed the request saw no more than the response to it.
    let asked = |observer: usize| sees(observer).filter(|_| exchange.views[observer].request.first != 0);
    let begun = asked(client).or_else(|| asked(server)).or_else(|| asked(WIRE)).or(seen);
    let start = begun.and_then(|(host, time)| utc(hosts, host, time));
    let start = start.unwrap_or_else(|| start_unseen(slot, sockets, hosts));
    let frame = Frame {
        start,
        client: slot.flow.ends[client],
        server: slot.flow.ends[server],
        client_party: &slot.parties[client].party,
        server_party: &slot.parties[server].party,
        parties: slot.pair,
        side: match seen {
            Some(_) => observed(at_client.is_some(), at_server.is_some()),
            None => observed(slot.sockets[client].is_some(), slot.sockets[server].is_some()),
        },
        request_bytes: exchange.request.bytes(),
        response_bytes: exchange.response.bytes(),
        latency: best,
        client_latency,
        server_latency,
        network_ns: client_latency
            .total_ns
            .zip(server_latency.total_ns)
            .and_then(|(c, s)| c.checked_sub(s)),
        incomplete: exchange.incomplete,
        reset: exchange.is_unanswered() && was_reset(slot, client, sockets),
        connection: slot.number,
        sequence,
    };
    sink.exchange(&frame, &exchange.message);
    slot.last_start = start;
    start
}

/// Whether events were lost after the last that is known of a connection, at each of its ends that was recorded, and no end has
/// counted what it should have shown.
pub(super) fn may_lack_end(slot: &Slot, sockets: &IdMap<Key, Box<SocketState>>, hosts: &[Host]) -> bool {
    let mut ends = slot.sockets[..WIRE].iter().flatten();
    let may_lack = |key: &Key| {
        let Some((known, host)) = sockets.get(key).zip(hosts.get(usize::from(key.0))) else {
            return true;
        };
        known.may_lack_end(host)
    };
    slot.sockets[..WIRE].iter().any(Option::is_some) && ends.all(may_lack)
}

/// The start of an exchange of which nobody saw a byte at a time: no later than it was, as far as its connection tells.
fn start_unseen(slot: &Slot, sockets: &IdMap<Key, Box<SocketState>>, hosts: &[Host]) -> u64 {
    let earliest = |key: &Key| {
        let (host, known) = (hosts.get(usize::from(key.0))?, sockets.get(key)?);
        let time = match known.first_data {
            0 => known.socket.time,
            first => first,
        };
        Some(host.utc(time))
    };
    let earliest = slot.sockets.iter().flatten().filter_map(earliest).min();
    slot.last_start.max(earliest.unwrap_or(0))
}

/// Whether a connection was reset by the server, or by something on the way to it, or the client has given up on it.
fn was_reset(slot: &Slot, client: usize, sockets: &IdMap<Key, Box<SocketState>>) -> bool {
    let was_reset = |key: &Key| {
        let Some((known, close)) = sockets.get(key).and_then(|known| Some((known, known.close?))) else {
            return false;
        };
        match known.socket.local == slot.flow.ends[client] {
            true => matches!(close.ending, Ending::ResetByPeer | Ending::TimedOut),
            false => close.ending == Ending::ResetLocally,
        }
    };
    slot.sockets.iter().flatten().any(was_reset)
}

/// The latency of an exchange as one observer saw it; nothing when it did not see all of it.
fn latency(exchange: &AnyExchange, observer: usize) -> Latency {
    let Some(view) = whole_view(exchange, observer) else {
        return Latency::default();
    };
    let asked = match exchange.message.timing() {
        Timing::FirstByte => view.request.first,
        Timing::LastByte => view.request.last,
        Timing::Unknown => return Latency::default(),
    };
    Latency {
        ttfb_ns: view.response.first.checked_sub(asked),
        total_ns: view.response.last.checked_sub(view.request.first),
    }
}
