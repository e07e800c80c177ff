//! The stored records of a capture file, one struct per kind.
//!
//! Each record is one fact about the recording host. *State* records name things (processes, sockets,
//! cgroups, workloads, addresses); *event* records are what happened. The two never share a block
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
        /// Nobody's end: packets seen on a wire. `local` is the end that opened the connection, if that is known.
        Wire = 4, "wire";
    }
}

byte_enum! {
    /// How a socket became known.
    Opened {
        /// It existed when recording began (or a part of a rotated set began).
        Snapshot = 1, "before_start";
        /// connect was called; whether it succeeded is in a `Connect` record.
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
    /// At which layer bytes were seen.
    Layer {
        /// As the socket carries them. Only these have positions in its streams, and the kernel counts only these.
        Wire = 0, "wire";
        /// What a program gives to its TLS library, or gets from it: the same bytes once more, in the clear.
        TlsPlaintext = 1, "tls_plaintext";
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
        /// The probe did not find where the payload was.
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
    /// Where something was lost. Each has one counter on the way from the kernel to the disk, but for what the analyzer finds.
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
        /// A record did not have the shape it should have: in the ring, or in the file.
        Malformed = 6, "malformed";
        /// Payload that could not be read from the user's memory (bytes are known, content is not).
        PageFault = 7, "page_fault";
        /// Payload longer than the snaplen (bytes are known, content beyond the prefix is not).
        Truncated = 8, "truncated";
        /// A packet capture has a count of packets that its own source dropped.
        CaptureDropped = 9, "capture_dropped";
        /// Standard output was slower than the events.
        OutputStalled = 10, "output_stalled";
        /// A limit of the user's was reached.
        Limit = 11, "limit";
        /// Events overwritten in the memory ring of `--ring`.
        Overwritten = 12, "overwritten";
        /// Packets of an imported capture that are malformed or of a kind that is not understood, records of later versions,
        /// and data of layers from which the analyzer reads nothing.
        NotUnderstood = 13, "not_understood";
        /// Events of a socket that is not known: its record was lost, or it was closed long before. Found by the analyzer,
        /// not stored.
        NoSocket = 14, "no_socket";
        /// Records of blocks that are damaged, or cut off at the end of the file. Found by the reader, not stored.
        Damaged = 15, "damaged";
    }
}

impl LossReason {
    /// Whether whole events are gone with it, and nobody knows of which connections.
    pub fn loses_any_event(self) -> bool {
        use LossReason::*;
        matches!(
            self,
            RingFull | MapFull | Missed | QueueFull | DiskError | Overwritten | Damaged
        )
    }

    /// Whether the user asked for it: payload beyond the snaplen, events beyond a limit. Nothing else may be missing
    /// from a recording that counts as whole.
    pub fn is_on_purpose(self) -> bool {
        matches!(self, LossReason::Truncated | LossReason::Limit)
    }
}

byte_enum! {
    /// What a [`Remark`] is about; the values from 32 on are causes of [`LossReason::NotUnderstood`]. The texts are those of
    /// messages and tables.
    About {
        /// Packets of another IP protocol than TCP; `number` is the IP protocol.
        IpProtocol = 1, "IP protocol";
        /// Frames of another network protocol than IP; `number` is the EtherType.
        EtherType = 2, "EtherType";
        /// Frames of another network protocol, in LLC; `number` is the destination service access point.
        Llc = 3, "LLC SAP";
        /// Frames of another network protocol, in PPP; `number` is the PPP protocol.
        PppProtocol = 4, "PPP protocol";
        /// Frames of another network protocol, by the address family in `number`.
        AddressFamily = 5, "address family";
        /// Wi-Fi frames that carry no data for a network protocol; `number` is their type (IEEE 802.11, 9.2.4.1.3).
        Wifi = 6, "Wi-Fi frame type";
        /// Packets of another network protocol, by the number that ISO gives it (NLPID).
        Nlpid = 12, "NLPID";
        /// All packets of a link type; `number` is the LINKTYPE_ value.
        Frames = 13, "packets of link type";
        /// Packets that the capture holds more than once.
        Copy = 7, "copy of a packet";
        /// Segments with data that came after their receiver had reset the connection: no program read them.
        AfterReset = 8, "segment after a reset";
        /// RST segments that belong to no connection as it was seen, or after which the connection went on.
        IgnoredReset = 9, "ignored reset";
        /// Files whose times are read as nanoseconds, although the files declare microseconds.
        Nanoseconds = 10, "nanoseconds in a microsecond file";
        /// Packets whose time has a fraction beyond a second, taken as it is.
        Fraction = 11, "fraction beyond a second";
        /// Packets with data that have both sequence numbers of a packet between other addresses or ports, just before: the
        /// same ones after a translation, or the made-up traffic of a test. They count as a connection of their own.
        PossibleCopy = 14, "possible copy of a packet";
        /// A link type that is not read; `number` is the LINKTYPE_ value.
        LinkType = 32, "link type";
        /// Frames that end inside their link header, or whose link header contradicts itself.
        LinkHeader = 33, "link header";
        /// Packets that end inside their IP header or extension headers, or whose headers contradict themselves.
        NetworkHeader = 34, "IP header";
        /// Packets that end inside their TCP header, or whose header contradicts itself.
        TransportHeader = 35, "TCP header";
        /// Packets in a tunnel whose header ends too early, contradicts itself or is of an unknown version.
        TunnelHeader = 36, "tunnel header";
        /// Packets in more tunnels, one inside the other, than are opened.
        Nesting = 37, "too many tunnels inside each other";
        /// Fragments that overlap, never became complete, or were too many.
        Fragment = 38, "fragment";
        /// Frames that the link encrypts (Wi-Fi, MACsec).
        Encrypted = 39, "encrypted";
        /// Segments with data far outside of anything that their connection could send.
        OutOfWindow = 40, "sequence number out of the window";
        /// Blocks of a pcapng file that contradict themselves.
        Block = 41, "pcapng block";
        /// Packets of an interface that the file does not describe.
        Interface = 42, "unknown interface";
        /// The file ends inside a record, or is damaged.
        FileDamage = 43, "damaged file";
        /// Wi-Fi frames with several packets in them.
        Aggregate = 44, "aggregated Wi-Fi frame";
        /// PPP packets that are compressed, encrypted or in pieces; `number` is the PPP protocol.
        PppPacked = 45, "compressed, encrypted or split PPP protocol";
    }
}

impl About {
    /// Whether it is a cause of a loss.
    pub fn is_cause(self) -> bool {
        self.byte() >= 32
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

/// The prefix of IPv4-mapped addresses (RFC 4291, 2.5.5.2), and the one that is stored in its place where packets of IPv6 carried
/// such an address: no address has the second.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const MAPPED_ON_WIRE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// One end of a connection. IPv4 is stored as an IPv4-mapped IPv6 address, network byte order.
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

    /// The endpoint of this address as a packet of IPv6 has it. An IPv4-mapped address, which should not occur in packets,
    /// stays one of IPv6.
    pub fn on_wire(ip: [u8; 16], port: u16) -> Self {
        let mut endpoint = Endpoint { ip, port };
        if ip.starts_with(&MAPPED) {
            endpoint.ip[..12].copy_from_slice(&MAPPED_ON_WIRE);
        }
        endpoint
    }

    /// The address; an IPv4-mapped one comes back as IPv4.
    pub fn ip(&self) -> IpAddr {
        if self.ip.starts_with(&MAPPED_ON_WIRE) {
            let mut ip = self.ip;
            ip[..12].copy_from_slice(&MAPPED);
            return IpAddr::V6(Ipv6Addr::from(ip));
        }
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
/// the process was before that is in the records before. A record with the `time` of an earlier one is about the same
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

/// /proc counts the start of a process in ticks of this length, whatever the kernel's own HZ (USER_HZ is 100 on all
/// architectures that mdf runs on).
pub const START_TICK_NS: u64 = 10_000_000;

/// Whether two starts of a process with the same number are one: /proc and the kernel side round them to a tick, in a time
/// namespace to ticks of different clocks.
pub fn same_start(a: u64, b: u64) -> bool {
    a.abs_diff(b) < START_TICK_NS
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

/// Set in ids of cgroups that are in a v1 hierarchy: the recorder makes these ids. Only processes have them; events carry
/// v2 ids, which name no container on such hosts.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// When the bytes were handed to the kernel (sent) or to the program (received): boot-time clock, ns.
    pub time: u64,
    /// The socket's id.
    pub id: u64,
    /// TCP sequence number of the first byte (absolute, wraps). Of another layer than the wire: a count of that layer's own
    /// bytes.
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
    /// Stored only where it is not [`Layer::Wire`].
    pub layer: Layer,
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

/// Something to know about an imported packet capture. Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Remark {
    /// End of the interval that it is about: boot-time clock, ns.
    pub time: u64,
    /// Start of that interval.
    pub since: u64,
    pub about: About,
    /// See [`About`]; 0 where that has no number.
    pub number: u32,
    /// How many packets.
    pub events: u64,
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
    Remark(Remark),
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
            Record::Remark(r) => r.time,
        }
    }

    /// Whether it names something (state), rather than being something that happened (event).
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
