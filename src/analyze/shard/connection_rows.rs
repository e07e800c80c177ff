//! Rows of connections and listeners.

use std::sync::Arc;

use super::exchange_rows::may_lack_end;
use super::socket::SocketState;
use super::{Key, Shard, Slot};
use crate::analyze::flow::{Flow, OBSERVERS, WIRE};
use crate::analyze::names::Host;
use crate::analyze::protocol::detect;
use crate::analyze::row::{ConnectionRow, Observed, Party, Sink, WithinSpan};
use crate::format::record::{Ending, Endpoint, Opened, Role};

impl<S: Sink> Shard<S> {
    /// The row of a connection, or of a listener.
    pub(super) fn flow_row(&mut self, slot: &Slot, hosts: &[Host]) {
        let client = slot.flow.client().unwrap_or_else(|| {
            let shown = slot.sockets[WIRE].or(slot.sockets[0]).or(slot.sockets[1]);
            let local = shown
                .and_then(|key| self.sockets.get(&key))
                .map(|state| state.socket.local);
            usize::from(local.is_some_and(|local| local != slot.flow.ends[0]))
        });
        let may_lack_end = may_lack_end(slot, &self.sockets, hosts);
        let order = [client, 1 - client, WIRE];
        let states: [Option<(Key, Box<SocketState>)>; OBSERVERS] =
            order.map(|observer| slot.sockets[observer].and_then(|key| Some((key, self.sockets.remove(&key)?))));
        let [at_client, at_server, on_wire] = states;
        let side = observed(at_client.is_some(), at_server.is_some());
        let observer = [&at_client, &at_server, &on_wire]
            .into_iter()
            .find_map(|state| state.as_ref().map(|(key, state)| (key.0, state.socket.time)));
        let parties = &mut self.parties;
        let mut party = |state: &Option<(Key, Box<SocketState>)>, end: usize| match state {
            Some((key, state)) => state.opener((hosts, key.0), parties),
            None => remote_party(hosts, observer, &slot.flow.ends[end]),
        };
        let client_party = party(&at_client, client);
        let server_party = party(&at_server, 1 - client);
        let ends = RowEnds {
            parties: slot.pair,
            number: slot.number,
            had_data: [&at_client, &at_server, &on_wire]
                .into_iter()
                .flatten()
                .any(|(_, state)| state.sent + state.received > 0),
            client: slot.flow.ends[client],
            server: slot.flow.ends[1 - client],
            client_party: &client_party,
            server_party: &server_party,
            side,
        };
        let other_ending = at_server
            .as_ref()
            .and_then(|(_, state)| state.close)
            .map(|close| close.ending);
        let other = at_client.as_ref().and(at_server.as_ref());
        let [other_sent, other_received] = other.map_or([0; 2], |(_, other)| [other.sent, other.received]);
        let Some((key, state)) = at_client.or(at_server).or(on_wire) else {
            return;
        };
        let mut row = connection_row(&ends, key.0, &state, hosts, &slot.flow);
        if state.close.is_none() || !state.is_given_whole() {
            // What one end sent the other has received, and may have been recorded from earlier on.
            row.bytes_sent = row.bytes_sent.max(other_received);
            row.bytes_received = row.bytes_received.max(other_sent);
        }
        row.may_lack_end = may_lack_end;
        row.within = self.span.map(|_| within(&state, slot));
        if row.ending == Some(Ending::Closed) && other_ending.is_some_and(|ending| ending != Ending::Closed) {
            row.ending = other_ending;
        }
        self.sink.connection(&row);
    }
}

struct RowEnds<'a> {
    parties: u64,
    number: u64,
    had_data: bool,
    client: Endpoint,
    server: Endpoint,
    client_party: &'a Party,
    server_party: &'a Party,
    side: Observed,
}

fn connection_row<'a>(
    ends: &RowEnds<'a>,
    host: u16,
    state: &SocketState,
    hosts: &[Host],
    flow: &Flow,
) -> ConnectionRow<'a> {
    let utc = |boot: u64| match hosts.get(usize::from(host)) {
        Some(host) if boot != 0 => host.utc(boot),
        _ => boot,
    };
    let socket = &state.socket;
    let opened_here = matches!(socket.opened, Opened::Connect | Opened::Accept | Opened::Listen);
    let failed = state.connect.filter(|_| state.has_failed());
    let ending = match (&failed, &state.close) {
        (Some(_), _) => Some(Ending::ConnectFailed),
        (None, close) => close.map(|close| close.ending),
    };
    let close = state
        .close
        .map(|close| close.time)
        .or(failed.map(|connect| connect.time));
    let role = match (socket.role, ends.side) {
        (Role::Undetermined, _) if flow.client().is_none() => Role::Undetermined,
        (Role::Undetermined, Observed::Server) => Role::Server,
        (Role::Undetermined, _) => Role::Client,
        (role, _) => role,
    };
    let why = match flow.why {
        _ if flow.exchanges > 0 || !ends.had_data => "",
        "" => "no whole exchange",
        why => detect::reason(why),
    };
    // What the kernel counted is more than events tell where some were lost; but it counts from the socket's birth on.
    let counted = state.close.filter(|_| state.is_given_whole());
    let mut bytes = [
        counted.map_or(state.sent, |close| close.bytes_sent.max(state.sent)),
        counted.map_or(state.received, |close| close.bytes_received.max(state.received)),
    ];
    let mut lifetime = [
        state.close.map(|close| close.bytes_sent),
        state.close.map(|close| close.bytes_received),
    ];
    // On a wire, `local` was a guess where the opening was not seen.
    if role == Role::Wire && ends.client != socket.local {
        bytes.reverse();
        lifetime.reverse();
    }
    let [bytes_sent, bytes_received] = bytes;
    let [lifetime_sent, lifetime_received] = lifetime;
    ConnectionRow {
        client: ends.client,
        server: ends.server,
        client_party: ends.client_party,
        server_party: ends.server_party,
        parties: ends.parties,
        side: ends.side,
        open: opened_here.then(|| utc(socket.time)),
        close: close.map(utc),
        first_data: utc(state.first_data),
        last_data: utc(state.last_data),
        role,
        opened: socket.opened,
        ending,
        connect_error: failed.map_or(0, |connect| connect.error),
        connect_ns: state.connect.map(|connect| connect.connect_ns),
        bytes_sent,
        bytes_received,
        lifetime_sent,
        lifetime_received,
        retransmits: state.close.map(|close| close.retransmits),
        srtt_us: state.close.map(|close| close.srtt_us).filter(|srtt| *srtt != 0),
        protocol: flow.protocol,
        exchanges: flow.exchanges,
        lost_bytes: flow.lost_bytes,
        may_lack_end: false,
        unread_bytes: flow.unread_bytes,
        why,
        connection: ends.number,
        within: None,
    }
}

/// What of a connection lies within the span that is counted.
fn within(state: &SocketState, slot: &Slot) -> WithinSpan {
    let [lost_bytes, unread_bytes] = slot.within.bytes(&slot.flow);
    let [bytes_sent, bytes_received] = state.within;
    WithinSpan {
        exchanges: slot.within.exchanges,
        bytes_sent,
        bytes_received,
        lost_bytes,
        unread_bytes,
    }
}

pub(super) fn observed(at_client: bool, at_server: bool) -> Observed {
    match (at_client, at_server) {
        (true, true) => Observed::Both,
        (true, false) => Observed::Client,
        (false, true) => Observed::Server,
        (false, false) => Observed::Wire,
    }
}

/// Who is at an end that was not recorded: as the host knows it that recorded the other end, else as any host knows it
/// (pod and Service addresses are the cluster's). `observer` is that host with its boot clock.
pub(super) fn remote_party(hosts: &[Host], observer: Option<(u16, u64)>, endpoint: &Endpoint) -> Arc<Party> {
    let (own, time) = observer.map_or((0, u64::MAX), |(host, time)| (usize::from(host), time));
    let by_own = hosts.get(own).and_then(|host| host.party_at(endpoint, time));
    let by_any = || {
        let others = hosts.iter().enumerate().filter(|(number, _)| *number != own);
        others
            .map(|(_, host)| host)
            .find_map(|host| host.party_at(endpoint, u64::MAX))
    };
    by_own.or_else(by_any).unwrap_or_default()
}
