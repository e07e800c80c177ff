//! Network address translation: connections whose two ends have translated addresses of each other, through the cluster address
//! of a Service (kube-proxy), a published port, or a masquerading node.
//!
//! Such a translation changes addresses and ports, and leaves sequence numbers alone. Both ends know from the handshake
//! where the two streams begin: 64 bits that identify the accepted socket and the connecting socket of one connection. Each
//! end then gets the other's local address as its remote address, and both go to the same shard: later stages see an ordinary
//! connection. Not found are connections from before the capture, and those through something that ends TCP or
//! numbers its bytes itself (proxies, SYN proxies); they stay two connections with one view each.

use std::collections::{BTreeSet, VecDeque};

use super::ids::IdMap;
use crate::format::record::{Endpoint, Opened, Record, Socket};

/// Openings that are remembered while their other end is awaited, newest.
const MAX_UNPAIRED: usize = 65_536;
/// Ends of translated connections that are open at the same time, or in all where a whole capture is known beforehand.
const MAX_TRANSLATED: usize = 1 << 20;

/// Ends of translated connections that are remembered when they are closed: what another CPU reported late goes where the
/// earlier records went.
const MAX_CLOSED: usize = 4096;

/// Where the streams of the client (upper half) and of the server begin.
type Beginnings = u64;
/// A socket of a host: `(host, id)`.
type Key = (u16, u64);

#[derive(Debug, Clone, Copy)]
struct Opening {
    key: Key,
    local: Endpoint,
    remote: Endpoint,
    is_client: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Translated {
    /// Upper half of the client's socket id: both ends are followed where it is.
    shard_key: u32,
    remote: Endpoint,
    /// The remote end as the socket's own host knows it.
    own_remote: Endpoint,
}

/// The translated connections of all hosts.
#[derive(Debug, Default)]
pub struct Nat {
    unpaired: IdMap<Beginnings, Opening>,
    /// Oldest first; also those that are paired by now.
    order: VecDeque<Beginnings>,
    translated: IdMap<Key, Translated>,
    /// Of these, those that are closed, oldest first.
    closed: VecDeque<Key>,
}

impl Nat {
    /// Adds a socket; returns whether it is an end of a translated connection whose other end is known.
    pub fn learn(&mut self, host: u16, socket: &Socket) -> bool {
        let is_client = match socket.opened {
            Opened::Connect => true,
            Opened::Accept => false,
            _ => return false,
        };
        let key = (host, socket.id);
        if !socket.positions || self.translated.contains_key(&key) {
            return false;
        }
        let [of_client, of_server] = match is_client {
            true => [socket.send_pos, socket.receive_pos],
            false => [socket.receive_pos, socket.send_pos],
        };
        let beginnings = u64::from(of_client) << 32 | u64::from(of_server);
        let this = Opening {
            key,
            local: socket.local,
            remote: socket.remote,
            is_client,
        };
        match self.unpaired.get(&beginnings).copied() {
            Some(other) if other.is_client != is_client => {
                self.unpaired.remove(&beginnings);
                self.pair(this, other)
            }
            _ => {
                self.await_other(beginnings, this);
                false
            }
        }
    }

    fn await_other(&mut self, beginnings: Beginnings, opening: Opening) {
        if self.unpaired.insert(beginnings, opening).is_none() {
            self.order.push_back(beginnings);
        }
        if self.order.len() > MAX_UNPAIRED
            && let Some(oldest) = self.order.pop_front()
        {
            self.unpaired.remove(&oldest);
        }
    }

    fn pair(&mut self, a: Opening, b: Opening) -> bool {
        let upper = |opening: &Opening| (opening.key.1 >> 32) as u32;
        // The same endpoints: nothing was translated.
        if upper(&a) == upper(&b) || a.local == b.local || self.translated.len() >= MAX_TRANSLATED {
            return false;
        }
        let shard_key = if a.is_client { upper(&a) } else { upper(&b) };
        for (this, other) in [(&a, &b), (&b, &a)] {
            let translated = Translated {
                shard_key,
                remote: other.local,
                own_remote: this.remote,
            };
            self.translated.insert(this.key, translated);
        }
        true
    }

    /// Forgets ends without their other end, which would come too late.
    pub fn forget_unpaired(&mut self) {
        self.unpaired.clear();
        self.order.clear();
    }

    /// Whether no connection is translated.
    pub fn is_empty(&self) -> bool {
        self.translated.is_empty()
    }

    /// The key that decides in which shard a socket's connection is followed.
    #[inline]
    pub fn shard_key(&self, host: u16, id: u64) -> u32 {
        let upper = (id >> 32) as u32;
        if self.translated.is_empty() {
            return upper;
        }
        let known = self.translated.get(&(host, id));
        known.map_or(upper, |translated| translated.shard_key)
    }

    /// Sets the remote address of a socket to the local address of the other end.
    pub fn translate(&self, host: u16, record: &mut Record<'_>) {
        if let Record::Socket(socket) = record
            && let Some(translated) = self.translated.get(&(host, socket.id))
        {
            socket.remote = translated.remote;
        }
    }

    /// Takes back what [`Nat::translate`] did to a socket.
    pub fn restore(&self, host: u16, socket: &mut Socket) {
        if let Some(translated) = self.translated.get(&(host, socket.id)) {
            socket.remote = translated.own_remote;
        }
    }

    /// Notes that a socket is closed.
    pub fn close(&mut self, host: u16, id: u64) {
        let key = (host, id);
        if !self.translated.contains_key(&key) {
            return;
        }
        self.closed.push_back(key);
        if self.closed.len() > MAX_CLOSED
            && let Some(oldest) = self.closed.pop_front()
        {
            self.translated.remove(&oldest);
        }
    }

    /// The upper halves of the ids of all ends of translated connections.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.translated.keys().map(|(_, id)| (id >> 32) as u32)
    }

    /// Adds to upper halves of ids those of the other ends.
    pub fn complete(&self, keys: &mut BTreeSet<u32>) {
        let is_of_keys = |translated: &Translated, id: u64, keys: &BTreeSet<u32>| {
            keys.contains(&translated.shard_key) || keys.contains(&((id >> 32) as u32))
        };
        let more: Vec<u32> = self
            .translated
            .iter()
            .filter(|((_, id), translated)| is_of_keys(translated, *id, keys))
            .flat_map(|((_, id), translated)| [(id >> 32) as u32, translated.shard_key])
            .collect();
        keys.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::format::record::Role;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port)
    }

    fn socket(id: u64, opened: Opened, local: Endpoint, remote: Endpoint, positions: [u32; 2]) -> Socket {
        Socket {
            time: 1,
            id,
            opened,
            role: Role::Undetermined,
            local,
            remote,
            netns: 1,
            pid: 0,
            cgroup: 0,
            send_pos: positions[0],
            receive_pos: positions[1],
            positions: true,
        }
    }

    const CLIENT: u64 = 5 << 32;
    const SERVER: u64 = 6 << 32 | 1;

    /// 10.0.0.1 dials 10.0.0.96, and 10.0.0.2 answers.
    fn client() -> Socket {
        socket(CLIENT, Opened::Connect, end(1, 5000), end(96, 80), [100, 900])
    }

    fn server() -> Socket {
        socket(SERVER, Opened::Accept, end(2, 8080), end(1, 5000), [900, 100])
    }

    fn remote(nat: &Nat, host: u16, socket: Socket) -> Endpoint {
        let mut record = Record::Socket(socket);
        nat.translate(host, &mut record);
        match record {
            Record::Socket(socket) => socket.remote,
            _ => unreachable!(),
        }
    }

    #[test]
    fn the_ends_of_a_translated_connection_find_each_other_in_any_order_and_on_any_hosts() {
        let mut nat = Nat::default();
        assert!(!nat.learn(0, &client()));
        assert!(nat.learn(0, &server()));
        assert!(!nat.learn(0, &server()), "repeated at the start of a rotated part");
        assert_eq!(remote(&nat, 0, client()), end(2, 8080));
        assert_eq!(remote(&nat, 0, server()), end(1, 5000));
        assert_eq!([nat.shard_key(0, CLIENT), nat.shard_key(0, SERVER)], [5, 5]);

        let mut nat = Nat::default();
        assert!(!nat.learn(1, &server()));
        assert!(nat.learn(0, &client()));
        assert_eq!(remote(&nat, 1, server()), end(1, 5000));
        assert_eq!(remote(&nat, 0, server()), end(1, 5000), "not translated: another host");
        assert_eq!(nat.shard_key(0, SERVER), 6, "another host's socket of the same id");
    }

    #[test]
    fn a_masqueraded_client_is_known_by_its_own_address() {
        let mut nat = Nat::default();
        nat.learn(0, &client());
        assert!(nat.learn(
            1,
            &Socket {
                remote: end(50, 61000),
                ..server()
            }
        ));
        let seen = Socket {
            remote: end(50, 61000),
            ..server()
        };
        assert_eq!(remote(&nat, 1, seen), end(1, 5000));
    }

    #[test]
    fn connections_without_a_certain_translation_are_unchanged() {
        let mut nat = Nat::default();
        nat.learn(0, &client());
        let same_ends = Socket {
            id: CLIENT | 7,
            ..server()
        };
        assert!(
            !nat.learn(0, &same_ends),
            "one hash of the endpoints: an ordinary connection"
        );
        for other in [
            Socket {
                send_pos: 901,
                ..server()
            },
            Socket {
                positions: false,
                ..server()
            },
            Socket {
                opened: Opened::FirstSeen,
                ..server()
            },
        ] {
            let mut nat = Nat::default();
            nat.learn(0, &client());
            assert!(!nat.learn(0, &other), "{other:?}");
            assert!(nat.is_empty());
        }
    }

    #[test]
    fn unpaired_ends_are_bounded_and_closed_ones_are_forgotten() {
        let mut nat = Nat::default();
        for number in 0..MAX_UNPAIRED as u32 + 10 {
            let mut socket = client();
            socket.send_pos = number;
            nat.learn(0, &socket);
        }
        assert_eq!(nat.unpaired.len(), MAX_UNPAIRED);
        nat.forget_unpaired();
        nat.learn(0, &client());
        nat.learn(0, &server());
        let mut keys = BTreeSet::from([6]);
        nat.complete(&mut keys);
        assert_eq!(keys, BTreeSet::from([5, 6]));
        nat.close(0, CLIENT);
        nat.close(0, SERVER);
        assert_eq!(nat.shard_key(0, SERVER), 5, "records of it may still come");
        for port in 0..MAX_CLOSED as u32 / 2 {
            let of_port = |mut socket: Socket| {
                socket.id += u64::from(port + 1) << 40;
                (socket.send_pos, socket.receive_pos) = (socket.send_pos + port, socket.receive_pos + port);
                socket
            };
            let ends = [of_port(client()), of_port(server())];
            ends.iter().for_each(|socket| _ = nat.learn(0, socket));
            ends.iter().for_each(|socket| nat.close(0, socket.id));
        }
        assert_eq!(nat.translated.len(), MAX_CLOSED);
        assert_eq!(nat.shard_key(0, SERVER), 6);
    }
}
