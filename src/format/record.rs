//! The stored records: what a capture file says, one struct per kind.
//!
//! Each record is one fact about the recording host. *State* records name things (processes, sockets,
//! cgroups, workloads, addresses); *event* records say what happened. The two never share a block
//! (see SPEC.md), so that a reader who wants one minute of an hour reads all state and only the events of
//! that minute.
//!
//! This module knows no kernel shape and no protocol. Byte layout: SPEC.md.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bincode::{BorrowDecode, Encode};

/// Declares an enum that is stored as one byte. Bytes that this version does not know are kept as
/// `Unknown(byte)`, so that an old reader can pass over a new value.
macro_rules! byte_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant,)* /// A value of a later version.
            Unknown(u8) }
        impl $name {
            /// All values that this version knows, in stored order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The word that reports and tables use.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* $name::Unknown(_) => "unknown" }
            }
            /// The stored byte.
            pub fn byte(self) -> u8 {
                match self { $($name::$variant => $value,)* $name::Unknown(byte) => byte }
            }
        }
        impl From<u8> for $name {
            fn from(byte: u8) -> Self {
                match byte { $($value => $name::$variant,)* other => $name::Unknown(other) }
            }
        }
        impl Encode for $name {
            fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
                self.byte().encode(encoder)
            }
        }
        impl<'de, Context> BorrowDecode<'de, Context> for $name {
            fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                u8::borrow_decode(decoder).map(Self::from)
            }
        }
    };
}

byte_enum! {
    /// How a process became known.
    Origin {
        /// It ran already when recording began (or a part of a rotated set began).
        Snapshot = 1, "snapshot";
        /// It was forked from its parent and has not called execve.
        Fork = 2, "fork";
        /// It called execve.
        Exec = 3, "exec";
    }
}

byte_enum! {
    /// Who this end of a connection is.
    Role {
        /// Not known: opened before recording began, and no listener explains it.
        Undetermined = 0, "";
        /// It called connect.
        Client = 1, "client";
        /// It was accepted from a listening socket.
        Server = 2, "server";
        /// A listening socket; it has no remote end.
        Listener = 3, "listener";
        /// Nobody's end: packets seen on a wire. `local` is whoever opened the connection, if that is known.
        Wire = 4, "wire";
    }
}

byte_enum! {
    /// How a socket became known.
    Opened {
        /// It existed when recording began (or a part of a rotated set began).
        Snapshot = 1, "before_start";
        /// connect was called; whether it succeeded is told by a `Connect` record.
        Connect = 2, "connect";
        /// The handshake of an incoming connection was completed.
        Accept = 3, "accept";
        /// Its first traffic was seen, its opening was not.
        FirstSeen = 4, "first_seen";
        /// listen was called.
        Listen = 5, "listen";
    }
}

byte_enum! {
    /// Which way bytes went, seen from the socket that the record is about.
    Direction {
        /// From this socket to its remote end.
        Sent = 0, "sent";
        /// From the remote end to this socket.
        Received = 1, "received";
    }
}

byte_enum! {
    /// Why fewer bytes were captured than went over the socket, or what else is to be known of them.
    Cut {
        /// Nothing is missing.
        Whole = 0, "whole";
        /// Longer than the snaplen.
        Snaplen = 1, "snaplen";
        /// The page of the user's buffer could not be read.
        PageFault = 2, "page_fault";
        /// Payload in kernel pages (sendfile, splice, io_uring) that this backend cannot read.
        KernelPages = 3, "kernel_pages";
        /// More segments in the iovec than the probe walks.
        Segments = 4, "segments";
        /// The probe could not tell where the payload lay.
        NotVisible = 5, "not_visible";
        /// The last byte, captured or not, is urgent data (RFC 6093): it has a position, and is no part of the stream that
        /// programs read.
        Urgent = 6, "urgent";
    }
}

byte_enum! {
    /// How a connection ended.
    Ending {
        /// Both ends closed in order, or this end closed first.
        Closed = 1, "closed";
        /// A RST was received.
        ResetByPeer = 2, "reset_by_peer";
        /// This end sent a RST.
        ResetLocally = 3, "reset_locally";
        /// Retransmissions gave up.
        TimedOut = 4, "timed_out";
        /// connect failed; the `Connect` record has the error.
        ConnectFailed = 5, "connect_failed";
    }
}

byte_enum! {
    /// Where something was lost. Each has one counter on the way from the kernel to the disk.
    LossReason {
        /// The ring buffer was full.
        RingFull = 1, "ring_full";
        /// A kernel map was full: a socket or process could not be followed.
        MapFull = 2, "map_full";
        /// The kernel skipped the program because it was already running on that CPU, or a kretprobe had no slot.
        Missed = 3, "missed";
        /// The disk was slower than the events, and the queue between them was full.
        QueueFull = 4, "queue_full";
        /// The disk refused a block.
        DiskError = 5, "disk_error";
        /// A ring record did not have the shape it should have.
        Malformed = 6, "malformed";
        /// Payload that could not be read from the user's memory (bytes are known, content is not).
        PageFault = 7, "page_fault";
        /// Payload longer than the snaplen (bytes are known, content beyond the prefix is not).
        Truncated = 8, "truncated";
        /// A packet capture says that its own source dropped packets.
        CaptureDropped = 9, "capture_dropped";
        /// Standard output was slower than the events.
        OutputStalled = 10, "output_stalled";
        /// A limit of the user's was reached.
        Limit = 11, "limit";
        /// Events overwritten in the memory ring of `--ring`.
        Overwritten = 12, "overwritten";
        /// Packets of an imported capture that are malformed or of a kind that is not understood.
        NotUnderstood = 13, "not_understood";
    }
}

impl LossReason {
    /// Whether the user wanted it so: payload beyond the snaplen, events beyond a limit. Nothing else may be missing
    /// from a recording that counts as whole.
    pub fn is_on_purpose(self) -> bool {
        matches!(self, LossReason::Truncated | LossReason::Limit)
    }
}

byte_enum! {
    /// What an address belongs to.
    AddressKind {
        /// A pod's own address.
        Pod = 1, "pod";
        /// A Service's cluster address.
        Service = 2, "service";
        /// A node's own address.
        Node = 3, "node";
    }
}

/// One end of a connection. IPv4 is stored as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Encode, BorrowDecode)]
pub struct Endpoint {
    /// 16 bytes in network order.
    pub ip: [u8; 16],
    pub port: u16,
}

impl Endpoint {
    /// The endpoint of this address and port.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        let v6 = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Endpoint { ip: v6.octets(), port }
    }

    /// The address; an IPv4-mapped one comes back as IPv4.
    pub fn ip(&self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.ip);
        match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(v6),
        }
    }

    /// Whether no address was bound (`0.0.0.0` or `::`).
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_unspecified() || self.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip() {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.port),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

/// A process (thread group) and what it runs. State.
///
/// A process is identified by `pid` and `start`. Each program that it runs has a record, with the `time` of its execve; what
/// the process was before that is told by the records before. A record with the `time` of an earlier one is about the same
/// program: its cgroup counts, its texts may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Process<'a> {
    /// When this was learnt: boot-time clock, ns.
    pub time: u64,
    pub origin: Origin,
    /// Thread group id in the initial pid namespace of the recorder.
    pub pid: u32,
    pub ppid: u32,
    /// The same process as its own pid namespace numbers it; equal to `pid` outside containers.
    pub pid_in_ns: u32,
    /// When the process was started: boot-time clock, ns.
    pub start: u64,
    pub uid: u32,
    /// Kernel cgroup v2 id (inode of the directory); 0 when there is none.
    pub cgroup: u64,
    /// Inode number of its network namespace; 0 when unknown.
    pub netns: u32,
    /// At most 15 bytes, without the ending NUL.
    pub comm: &'a [u8],
    /// Path of the file that is run, without links, from the root of its mount namespace: what /proc/PID/exe is, less its
    /// mark of a file that was removed since. Of a script it is the interpreter; of a forked process, what its parent runs.
    /// Empty when unknown: where the path is longer than 1023 bytes or has more than some 60 parts, and after a fork by a
    /// process that is not recorded.
    pub exe: &'a [u8],
    /// The arguments, each followed by a NUL as in /proc/PID/cmdline; maybe a prefix.
    pub argv: &'a [u8],
    /// Original length of the arguments in bytes.
    pub argv_len: u32,
}

/// The end of a process. Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Exit {
    /// Boot-time clock, ns.
    pub time: u64,
    pub pid: u32,
    /// As in [`Process::start`].
    pub start: u64,
    /// As wait(2) encodes it: exit code << 8, or the signal (with 0x80 for a core dump).
    pub status: u32,
}

/// Set in ids of cgroups that lie in a v1 hierarchy: the recorder makes these ids. Only processes have them; events carry
/// v2 ids, which say nothing on such hosts.
pub const CGROUP_V1: u64 = 1 << 63;

/// A control group and its path. State.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Cgroup<'a> {
    /// Boot-time clock, ns.
    pub time: u64,
    /// cgroup v2 id: inode of the directory, and what open_by_handle_at takes. With [`CGROUP_V1`], made by the recorder.
    pub id: u64,
    /// Path below the root of the hierarchy, with a leading slash.
    pub path: &'a [u8],
}

/// The container, pod and workload behind a cgroup. State; a later record for the same cgroup replaces the earlier.
///
/// Empty strings mean "not known" or "has none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Workload<'a> {
    /// Boot-time clock, ns.
    pub time: u64,
    pub cgroup: u64,
    /// The full container id.
    pub container_id: &'a str,
    /// `containerd`, `cri-o`, `docker`, `podman`, `lxc`, `systemd`.
    pub runtime: &'a str,
    /// The container's name (Kubernetes: in its pod).
    pub container: &'a str,
    pub pod_uid: &'a str,
    pub pod: &'a str,
    pub namespace: &'a str,
    /// What owns the pod, as `kind/name` (`Deployment/cart`), or a systemd unit.
    pub workload: &'a str,
    /// Labels as `key=value`, comma-separated, sorted by key.
    pub labels: &'a str,
}

/// What an IP address is called. State; a later record for the same address replaces the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Address<'a> {
    /// Boot-time clock, ns.
    pub time: u64,
    /// As in [`Endpoint::ip`].
    pub ip: [u8; 16],
    pub kind: AddressKind,
    pub namespace: &'a str,
    pub name: &'a str,
    /// As in [`Workload::workload`].
    pub workload: &'a str,
}

/// A socket, as it became known. State.
///
/// Ids are given by the recorder and are unique within a recording (rotated parts included), never reused. The upper
/// 32 bits are a hash of the two endpoints that does not depend on their order, so both ends of one connection share
/// them; the analyzer splits its work by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Socket {
    /// When it was opened, or first seen: boot-time clock, ns.
    pub time: u64,
    pub id: u64,
    pub opened: Opened,
    pub role: Role,
    pub local: Endpoint,
    /// All zero for a listener.
    pub remote: Endpoint,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// The process that opened it; 0 when not known yet (see [`Owner`]).
    pub pid: u32,
    pub cgroup: u64,
    /// TCP sequence number of the next byte it will send (RFC 9293, absolute); 0 when unknown.
    pub send_pos: u32,
    /// TCP sequence number of the next byte it will receive; 0 when unknown.
    pub receive_pos: u32,
    /// Whether the two positions are known.
    pub positions: bool,
}

/// The process that uses a socket, learnt at its first traffic or accept. State.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Owner {
    /// Boot-time clock, ns.
    pub time: u64,
    pub id: u64,
    pub pid: u32,
    pub cgroup: u64,
}

/// The outcome of connect. Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Connect {
    /// When the handshake was completed or failed: boot-time clock, ns.
    pub time: u64,
    pub id: u64,
    /// 0, or the errno (ECONNREFUSED, ETIMEDOUT, …).
    pub error: u16,
    /// From connect to the outcome, ns.
    pub connect_ns: u64,
    /// As in [`Socket::send_pos`], known when `error` is 0.
    pub send_pos: u32,
    /// As in [`Socket::receive_pos`], known when `error` is 0.
    pub receive_pos: u32,
}

/// The end of a connection. Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Close {
    /// Boot-time clock, ns.
    pub time: u64,
    pub id: u64,
    pub ending: Ending,
    /// Payload bytes over the whole life of the socket, as the kernel counted them.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds; 0 when never measured.
    pub srtt_us: u32,
}

/// Bytes that went over a socket. Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Data<'a> {
    /// When the bytes were handed to the kernel (sent) or to the program (received): boot-time clock, ns.
    pub time: u64,
    /// The socket's id.
    pub id: u64,
    /// TCP sequence number of the first byte (absolute, wraps).
    pub pos: u32,
    /// Bytes that went over the socket: the original length.
    pub len: u32,
    /// Process and thread that made the call; 0 when not known.
    pub pid: u32,
    pub tid: u32,
    pub cgroup: u64,
    pub direction: Direction,
    /// Why `payload` is shorter than `len`.
    pub cut: Cut,
    /// The captured prefix.
    pub payload: &'a [u8],
}

/// Something was lost here. Event, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Loss {
    /// End of the interval in which it was lost: boot-time clock, ns.
    pub time: u64,
    /// Start of that interval.
    pub since: u64,
    pub reason: LossReason,
    /// Events lost (for `Truncated` and `PageFault`: events shortened).
    pub events: u64,
    /// Payload bytes lost, where known.
    pub bytes: u64,
}

/// The clocks, read together. Event; at the start, every few seconds, and at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Clock {
    /// CLOCK_BOOTTIME, ns: the clock of all records.
    pub boot: u64,
    /// CLOCK_MONOTONIC, ns.
    pub monotonic: u64,
    /// CLOCK_REALTIME, ns since 1970-01-01 UTC.
    pub realtime: u64,
}

/// Any record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    Process(Process<'a>),
    Cgroup(Cgroup<'a>),
    Workload(Workload<'a>),
    Address(Address<'a>),
    Socket(Socket),
    Owner(Owner),
    Exit(Exit),
    Connect(Connect),
    Close(Close),
    Data(Data<'a>),
    Loss(Loss),
    Clock(Clock),
}

impl Record<'_> {
    /// When it happened: boot-time clock, ns.
    pub fn time(&self) -> u64 {
        match self {
            Record::Process(r) => r.time,
            Record::Cgroup(r) => r.time,
            Record::Workload(r) => r.time,
            Record::Address(r) => r.time,
            Record::Socket(r) => r.time,
            Record::Owner(r) => r.time,
            Record::Exit(r) => r.time,
            Record::Connect(r) => r.time,
            Record::Close(r) => r.time,
            Record::Data(r) => r.time,
            Record::Loss(r) => r.time,
            Record::Clock(r) => r.boot,
        }
    }

    /// Whether it names something (state) rather than tells what happened (event).
    pub fn is_state(&self) -> bool {
        matches!(
            self,
            Record::Process(_)
                | Record::Cgroup(_)
                | Record::Workload(_)
                | Record::Address(_)
                | Record::Socket(_)
                | Record::Owner(_)
        )
    }
}
