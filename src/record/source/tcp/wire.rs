//! The ring records of sockets, and what goes into the map `seeds`. Pure; no IO, no unsafe.

use crate::format::record::{
    Close, Connect, Cut, Data, Direction, Ending, Endpoint, Layer, Opened, Owner, Record, Role, Socket,
};
use crate::record::source::wire::{Fields, WireError};

/// Those of `enum mdf_kind` that are of this source.
pub(in crate::record::source) mod kind {
    pub const SOCKET: u16 = 4;
    pub const OWNER: u16 = 5;
    pub const CONNECT: u16 = 6;
    pub const CLOSE: u16 = 7;
    pub const DATA: u16 = 8;
}

/// `struct mdf_data` after its kind.
const DATA_LEN: usize = 46;

/// Reads one ring record. Borrows payload from it.
#[inline]
pub(in crate::record::source) fn decode(f: Fields<'_>) -> Result<Record<'_>, WireError> {
    match f.kind {
        kind::SOCKET => socket(f),
        kind::OWNER => owner(f),
        kind::CONNECT => connect(f),
        kind::CLOSE => close(f),
        kind::DATA => data(f),
        kind => Err(WireError::Kind { kind }),
    }
}

/// `struct mdf_socket`.
fn socket(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    let opened = Opened::from(f.u8()?);
    let role = Role::from(f.u8()?);
    let netns = f.u32()?;
    let time = f.u64()?;
    let id = f.u64()?;
    let cgroup = f.u64()?;
    let local_ip = f.array()?;
    let remote_ip = f.array()?;
    let local = Endpoint {
        ip: local_ip,
        port: f.u16()?,
    };
    let mut remote = Endpoint {
        ip: remote_ip,
        port: f.u16()?,
    };
    if role == Role::Listener {
        remote = Endpoint::default();
    }
    let pid = f.u32()?;
    let send_pos = f.u32()?;
    let receive_pos = f.u32()?;
    let positions = f.u32()? != 0;
    Ok(Record::Socket(Socket {
        time,
        id,
        opened,
        role,
        local,
        remote,
        netns,
        pid,
        cgroup,
        send_pos,
        receive_pos,
        positions,
    }))
}

/// `struct mdf_owner`.
fn owner(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    f.u16()?;
    let pid = f.u32()?;
    let time = f.u64()?;
    let id = f.u64()?;
    let cgroup = f.u64()?;
    Ok(Record::Owner(Owner { time, id, pid, cgroup }))
}

/// `struct mdf_connect`.
fn connect(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    let error = f.u16()?;
    f.u32()?;
    let time = f.u64()?;
    let id = f.u64()?;
    let connect_ns = f.u64()?;
    let send_pos = f.u32()?;
    let receive_pos = f.u32()?;
    Ok(Record::Connect(Connect {
        time,
        id,
        error,
        connect_ns,
        send_pos,
        receive_pos,
    }))
}

/// `struct mdf_close`.
fn close(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    let ending = Ending::from(f.u8()?);
    f.u8()?;
    let retransmits = f.u32()?;
    let time = f.u64()?;
    let id = f.u64()?;
    let bytes_sent = f.u64()?;
    let bytes_received = f.u64()?;
    let srtt_us = f.u32()?;
    Ok(Record::Close(Close {
        time,
        id,
        ending,
        bytes_sent,
        bytes_received,
        retransmits,
        srtt_us,
    }))
}

/// `struct mdf_data`. What follows the payload is the rest of its size class.
fn data(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    f.need(DATA_LEN)?;
    let direction = Direction::from(f.u8()?);
    let cut = Cut::from(f.u8()?);
    let captured = f.u32()?;
    let time = f.u64()?;
    let id = f.u64()?;
    let cgroup = f.u64()?;
    let pos = f.u32()?;
    let len = f.u32()?;
    let pid = f.u32()?;
    let tid = f.u32()?;
    let payload = f.tail(captured)?;
    Ok(Record::Data(Data {
        time,
        id,
        pos,
        len,
        pid,
        tid,
        cgroup,
        direction,
        cut,
        payload,
        layer: Layer::Wire,
    }))
}

/// `struct seed_key` and `struct seed`: an entry of the map `seeds`.
pub(in crate::record::source) fn seed(socket: &Socket) -> (Vec<u8>, Vec<u8>) {
    let mut key = Vec::with_capacity(40);
    key.extend(socket.local.ip);
    key.extend(socket.remote.ip);
    key.extend(socket.local.port.to_ne_bytes());
    key.extend(socket.remote.port.to_ne_bytes());
    key.extend(socket.netns.to_ne_bytes());
    let mut value = Vec::with_capacity(16);
    value.extend(socket.id.to_ne_bytes());
    value.extend(u32::from(socket.role.byte()).to_ne_bytes());
    value.extend(socket.pid.to_ne_bytes());
    (key, value)
}

/// The hash of two endpoints that does not depend on their order: the upper half of socket ids.
///
/// The kernel side computes the same (bpf/sock.h).
pub fn endpoints_hash(a: &Endpoint, b: &Endpoint) -> u32 {
    (endpoint_hash(a)
        .wrapping_add(endpoint_hash(b))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        >> 32) as u32
}

fn endpoint_hash(end: &Endpoint) -> u64 {
    let (high, low) = end.ip.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let mixed = (word(high) ^ u64::from(end.port)).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ word(low);
    let mixed = mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 32)
}

/// An id for a socket found by a snapshot. `number` is unique among snapshot sockets of one recording; the kernel
/// side never makes ids with bit 31 set.
pub fn snapshot_id(local: &Endpoint, remote: &Endpoint, number: u32) -> u64 {
    u64::from(endpoints_hash(local, remote)) << 32 | u64::from(number | 1 << 31)
}

#[cfg(test)]
mod tests {
    use super::{Cut, Direction, Endpoint, Record, endpoints_hash};
    use crate::record::source::decode;

    /// A data record as bpf/event.h lays it out, with 3 bytes of payload in a class of 64.
    fn data_record() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(8u16.to_ne_bytes());
        bytes.extend([1, 1]);
        bytes.extend(3u32.to_ne_bytes());
        for word in [7u64, 0x1122_3344_5566_7788, 42] {
            bytes.extend(word.to_ne_bytes());
        }
        for half in [1000u32, 5, 11, 12] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend(b"abc");
        bytes.resize(48 + 64, 0);
        bytes
    }

    #[test]
    fn data_stops_at_the_captured_length() {
        let bytes = data_record();
        let Ok(Record::Data(data)) = decode(&bytes) else {
            panic!("not data")
        };
        assert_eq!(data.payload, b"abc");
        assert_eq!((data.time, data.id, data.cgroup), (7, 0x1122_3344_5566_7788, 42));
        assert_eq!((data.pos, data.len, data.pid, data.tid), (1000, 5, 11, 12));
        assert_eq!((data.direction, data.cut), (Direction::Received, Cut::Snaplen));
    }

    #[test]
    fn every_cut_of_a_record_is_refused_or_read() {
        let bytes = data_record();
        for len in 0..bytes.len() {
            let result = decode(&bytes[..len]);
            assert_eq!(result.is_ok(), len >= 48 + 3, "{len}");
        }
    }

    #[test]
    fn both_ends_hash_alike() {
        let a = Endpoint::new("127.0.0.1".parse().expect("address"), 80);
        let b = Endpoint::new("::ffff:127.0.0.1".parse().expect("address"), 40000);
        assert_eq!(endpoints_hash(&a, &b), endpoints_hash(&b, &a));
        assert_ne!(endpoints_hash(&a, &b), endpoints_hash(&a, &a));
    }
}
