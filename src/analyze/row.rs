//! Rows: a finished exchange, connection, process or loss, before it becomes a part of a table, a report or a live line.
//!
//! This is the interface between the engine, which fills rows, and everything that shows them: neither knows the other. A row borrows; a sink keeps
//! what it needs. All times are UTC, ns since 1970-01-01; all durations are ns. 0 means "time not known" where a
//! time is not an `Option`.

use std::any::Any;
use std::ops::Deref;

use super::exchange::{Incomplete, Message};
use crate::format::header::Header;
use crate::format::record::{Ending, Endpoint, LossReason, Opened, Origin, Record, Role, Socket};

/// The last time that results hold: Parquet and Arrow count ns since 1970 in 63 bits. It is in 2262; later times, and
/// times before 1970, which have wrapped, come from a wrong clock or a hostile file.
pub const LAST_TIME: u64 = i64::MAX as u64;

/// A time, or 0 (not known) for one that results cannot hold.
pub fn possible(time: u64) -> u64 {
    if time <= LAST_TIME { time } else { 0 }
}

/// The party at one end of a connection: process, container, pod, host. Resolved once for each end and shared by its rows.
///
/// Empty strings mean "not known" or "has none"; `pid` 0 means that the process is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Party {
    pub pid: u32,
    pub comm: String,
    /// Path below the root of the cgroup hierarchy.
    pub cgroup: String,
    /// The container's name, else a short form of its id.
    pub container: String,
    /// The full container id.
    pub container_id: String,
    pub pod: String,
    pub namespace: String,
    /// What owns the pod (`Deployment/cart`), or a systemd unit.
    pub workload: String,
    /// Name of the address when it is not of a process of this capture: a Service, a pod of another node, a host.
    pub address_name: String,
    /// The recording host at this end; empty when this end was not recorded.
    pub hostname: String,
}

impl Party {
    /// Bytes of all its texts.
    pub fn text_bytes(&self) -> usize {
        let texts = [
            &self.comm,
            &self.cgroup,
            &self.container,
            &self.container_id,
            &self.pod,
            &self.namespace,
            &self.workload,
            &self.address_name,
            &self.hostname,
        ];
        texts.iter().map(|text| text.len()).sum()
    }
}

/// At which ends a connection was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Observed {
    /// At the client's socket.
    Client,
    /// At the server's socket.
    Server,
    /// At both sockets.
    Both,
    /// On the wire, in a packet capture.
    #[default]
    Wire,
}

impl Observed {
    /// The word in the `side` column.
    pub fn name(self) -> &'static str {
        match self {
            Observed::Client => "client",
            Observed::Server => "server",
            Observed::Both => "both",
            Observed::Wire => "wire",
        }
    }
}

/// The latency of one exchange as one end saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// First byte of the request until first byte of the response.
    pub ttfb_ns: Option<u64>,
    /// First byte of the request until last byte of the response.
    pub total_ns: Option<u64>,
}

/// The part of an exchange's row that all protocols have.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// When the first byte of the request was seen by the preferred observer (client, else server, else wire).
    pub start: u64,
    pub client: Endpoint,
    pub server: Endpoint,
    pub client_party: &'a Party,
    pub server_party: &'a Party,
    /// Rows of one sink that have the same number here have the same two parties, and the same two addresses.
    pub parties: u64,
    /// The ends that were observed.
    pub side: Observed,
    /// Head and body as on the wire; `None` when its size is not known.
    pub request_bytes: Option<u64>,
    pub response_bytes: Option<u64>,
    /// As the preferred observer saw it; `None` across a gap.
    pub latency: Latency,
    /// As the client's socket saw it, if it was captured.
    pub client_latency: Latency,
    /// As the server's socket saw it, if it was captured.
    pub server_latency: Latency,
    /// The client's view minus the server's; only when both ends were seen whole.
    pub network_ns: Option<u64>,
    pub incomplete: Option<Incomplete>,
    /// It has no whole response because the connection was reset, not by the client, or timed out.
    pub reset: bool,
    /// Number of the connection; does not depend on the number of threads.
    pub connection: u64,
    /// Position of the exchange in its connection, from 0. `(start, connection, sequence)` orders all rows.
    pub sequence: u64,
}

impl Frame<'_> {
    /// Bytes of request and response together, as far as they are known.
    pub fn bytes(&self) -> u64 {
        let (request, response) = (self.request_bytes.unwrap_or(0), self.response_bytes.unwrap_or(0));
        request.saturating_add(response)
    }
}

/// The row of an exchange: the common part, and the message of its protocol.
#[derive(Debug)]
pub struct ExchangeRow<'a, M> {
    pub frame: &'a Frame<'a>,
    pub message: &'a M,
}

impl<M> Clone for ExchangeRow<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for ExchangeRow<'_, M> {}

impl<'a, M: Message> ExchangeRow<'a, M> {
    /// The row of an exchange with a message of this type; `None` when it is of another protocol.
    pub fn of(frame: &'a Frame<'a>, message: &'a dyn Message) -> Option<Self> {
        let message: &dyn Any = message;
        Some(ExchangeRow {
            frame,
            message: message.downcast_ref()?,
        })
    }

    /// Whether it counts as an error.
    pub fn is_error(&self) -> bool {
        self.message.is_error() || self.reset
    }
}

/// Rows with times that results cannot hold.
pub trait Timed: Copy {
    /// The row with such times set to not known; `None` when it has none.
    fn with_possible_times(&self) -> Option<Self>;
}

impl Timed for Frame<'_> {
    fn with_possible_times(&self) -> Option<Self> {
        (self.start > LAST_TIME).then_some(Frame { start: 0, ..*self })
    }
}

impl Timed for ConnectionRow<'_> {
    fn with_possible_times(&self) -> Option<Self> {
        let times = [
            self.open.unwrap_or(0),
            self.close.unwrap_or(0),
            self.first_data,
            self.last_data,
        ];
        times.iter().any(|time| *time > LAST_TIME).then(|| ConnectionRow {
            open: self.open.filter(|time| *time <= LAST_TIME),
            close: self.close.filter(|time| *time <= LAST_TIME),
            first_data: possible(self.first_data),
            last_data: possible(self.last_data),
            ..*self
        })
    }
}

impl Timed for ProcessRow<'_> {
    fn with_possible_times(&self) -> Option<Self> {
        (self.start.max(self.exit.unwrap_or(0)) > LAST_TIME).then(|| ProcessRow {
            start: possible(self.start),
            exit: self.exit.filter(|time| *time <= LAST_TIME),
            ..*self
        })
    }
}

impl Timed for LossRow<'_> {
    fn with_possible_times(&self) -> Option<Self> {
        (self.since.max(self.until) > LAST_TIME).then(|| LossRow {
            since: possible(self.since),
            until: possible(self.until),
            ..*self
        })
    }
}

impl<'a, M> Deref for ExchangeRow<'a, M> {
    type Target = Frame<'a>;
    fn deref(&self) -> &Frame<'a> {
        self.frame
    }
}

/// A connection; both of its ends are one row when both were recorded.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionRow<'a> {
    /// The end that opened the connection; when that is not known, the end that was recorded.
    pub client: Endpoint,
    /// The other end. For a listener: its own address (and `client` is all zero).
    pub server: Endpoint,
    pub client_party: &'a Party,
    pub server_party: &'a Party,
    /// As in [`Frame::parties`] of the last exchange; 0 without exchanges.
    pub parties: u64,
    pub side: Observed,
    /// When connect was called, or the connection was accepted; `None` when that was before the capture.
    pub open: Option<u64>,
    /// `None` when it was still open at the end of the capture.
    pub close: Option<u64>,
    /// The first and the last payload byte; 0 when there was none.
    pub first_data: u64,
    pub last_data: u64,
    /// Whose view `bytes_sent`, `bytes_received`, `retransmits` and `srtt_us` are: the client's where it was recorded, and on a
    /// wire.
    pub role: Role,
    pub opened: Opened,
    pub ending: Option<Ending>,
    /// errno of connect; 0 when it did not fail.
    pub connect_error: u16,
    /// From connect to its outcome.
    pub connect_ns: Option<u64>,
    /// Payload bytes of the connection during the capture, as the kernel counted them where opening and close were seen, else
    /// as captured.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Payload bytes from its opening to its close, also before the capture, as the kernel counted them; `None` when the close
    /// was not seen.
    pub lifetime_sent: Option<u64>,
    pub lifetime_received: Option<u64>,
    pub retransmits: Option<u32>,
    pub srtt_us: Option<u32>,
    /// `http`, `mysql`, or what else it was recognised as (`tls`, `http2`, …); empty when nothing is known.
    pub protocol: &'a str,
    /// Finished exchanges, incomplete ones included.
    pub exchanges: u64,
    /// Bytes that were lost, in both directions together.
    pub lost_bytes: u64,
    /// Events were lost after the last that is known of it, and nothing shows whether some of them were its own.
    pub may_lack_end: bool,
    /// Bytes whose length is known and content is not (snaplen, kernel pages), in both directions together.
    pub unread_bytes: u64,
    /// Why there are no exchanges although there was data; empty otherwise.
    pub why: &'a str,
    /// As in [`Frame::connection`]. `(open or first data, connection)` orders all rows.
    pub connection: u64,
    /// Counts within the selected time span, where there is one.
    pub within: Option<WithinSpan>,
}

/// Counts of a connection within a time span: exchanges that began in it, and bytes that were recorded in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithinSpan {
    pub exchanges: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub lost_bytes: u64,
    pub unread_bytes: u64,
}

impl ConnectionRow<'_> {
    /// What the report counts of it: within the selected span, or all.
    pub fn counted(&self) -> WithinSpan {
        self.within.unwrap_or(WithinSpan {
            exchanges: self.exchanges,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            lost_bytes: self.lost_bytes,
            unread_bytes: self.unread_bytes,
        })
    }

    /// Whether it is a listening socket.
    pub fn is_listener(&self) -> bool {
        self.role == Role::Listener
    }

    /// What the connection is sorted by: the earliest time known of it.
    pub fn time(&self) -> u64 {
        self.open.unwrap_or(match self.first_data {
            0 => self.close.unwrap_or(0),
            first => first,
        })
    }
}

/// A process: one row for each program that it ran (execve makes a new row).
#[derive(Debug, Clone, Copy)]
pub struct ProcessRow<'a> {
    /// When the program began: for the first one that a process ran the fork, where that was seen; else execve; else the
    /// start of the process.
    pub start: u64,
    /// When it exited, or ran another program; `None` when it was alive at the end.
    pub exit: Option<u64>,
    pub origin: Origin,
    pub pid: u32,
    pub ppid: u32,
    pub pid_in_ns: u32,
    pub uid: u32,
    pub comm: &'a str,
    pub exe: &'a str,
    /// Arguments, each followed by NUL; maybe a prefix.
    pub argv: &'a [u8],
    /// Original length of the arguments.
    pub argv_len: u32,
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Cgroup, container, pod, namespace, workload and host of the process.
    pub party: &'a Party,
}

impl ProcessRow<'_> {
    /// From its start to its exit, where both are known.
    pub fn duration_ns(&self) -> Option<u64> {
        let exit = self.exit.filter(|_| self.start != 0)?;
        Some(exit.saturating_sub(self.start))
    }
}

/// Of which connections turns are cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WantedTurns {
    #[default]
    None,
    /// Those whose protocol is not read.
    Unread,
    All,
}

/// Something was lost.
/// A loss.
#[derive(Debug, Clone, Copy)]
pub struct LossRow<'a> {
    /// The interval in which it was lost.
    pub since: u64,
    pub until: u64,
    pub reason: LossReason,
    /// What exactly was lost (`link type 147 (USER)`); empty when only the reason is known.
    pub detail: &'a str,
    /// Events lost; for `Truncated` and `PageFault`, events shortened.
    pub events: u64,
    pub bytes: u64,
    pub hostname: &'a str,
    /// The file that reports the loss, or that is damaged; empty where that is not known.
    pub file: &'a str,
    /// Found by the analyzer, and not in a record.
    pub found: bool,
}

impl LossRow<'_> {
    /// Whether data is missing that should have been recorded. Payload beyond the snaplen and events beyond the user's limits
    /// were left out on purpose.
    pub fn is_lost(&self) -> bool {
        self.events > 0 && !self.reason.is_on_purpose()
    }
}

/// What is known about one capture file after it was read.
#[derive(Debug, Clone)]
pub struct CaptureFacts {
    pub path: String,
    pub header: Header,
    /// On disk, bytes.
    pub file_bytes: u64,
    /// All blocks inflated, bytes.
    pub raw_bytes: u64,
    pub blocks: u64,
    /// Records in all blocks.
    pub records: u64,
    /// Payload bytes captured, and bytes that went over the sockets.
    pub payload_bytes: u64,
    pub data_bytes: u64,
    /// Of the first and the last event; 0 when not known.
    pub first: u64,
    pub last: u64,
    pub closed_cleanly: bool,
    /// The file could not be read: only its name and `damage` are known.
    pub unread: bool,
    /// Descriptions of damage; empty without any.
    pub damage: Vec<String>,
    /// Other remarks, as text: packets that were left out, clocks that were corrected.
    pub remarks: Vec<String>,
}

impl CaptureFacts {
    /// Time from the first to the last event, ns; `None` when one of them is not known.
    pub fn span_ns(&self) -> Option<u64> {
        (self.first != 0 && self.last != 0).then(|| self.last.saturating_sub(self.first))
    }

    /// A file with only its header read.
    pub fn new(path: String, header: Header) -> CaptureFacts {
        CaptureFacts {
            path,
            header,
            file_bytes: 0,
            raw_bytes: 0,
            blocks: 0,
            records: 0,
            payload_bytes: 0,
            data_bytes: 0,
            first: 0,
            last: 0,
            closed_cleanly: true,
            unread: false,
            damage: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// A file that cannot be read, and why.
    pub fn unread(path: String, why: String) -> CaptureFacts {
        CaptureFacts {
            closed_cleanly: false,
            unread: true,
            damage: vec![why],
            ..CaptureFacts::new(path, Header::default())
        }
    }

    /// Whether anything of the file could not be read.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || !self.closed_cleanly
    }
}

/// Something that was recorded, with what is known of it once the names of its batch of blocks are learnt.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// UTC, ns.
    pub time: u64,
    /// Number of its block in the batch, and where it is in that: the order in which the events of a batch were recorded.
    pub place: (usize, u32),
    pub record: &'a Record<'a>,
    /// Of a record about a socket: the socket, with its remote end as its own host knows it.
    pub socket: Option<&'a Socket>,
    /// The process that used the socket, or that ended.
    pub party: &'a Party,
}

/// Takes finished rows. There is one sink for each shard, used by one thread at a time; rows come in the order in which
/// they finish, the same for any number of threads.
pub trait Sink: Send {
    /// Of which connections it takes turns.
    fn turns(&self) -> WantedTurns {
        WantedTurns::None
    }

    /// Whether it is given events. A shard looks up nothing for them where it is not.
    const EVENTS: bool = false;

    /// Records as they were recorded: those about sockets that are known, processes with their ends, losses and remarks.
    /// Those of one batch of blocks come in any order, before the next batch. What is about no connection goes to the sink
    /// of shard 0.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }
    /// An exchange of any protocol, with its message.
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message);
    fn connection(&mut self, row: &ConnectionRow<'_>);
    /// Processes and losses belong to no shard: the engine gives all of them to the sink of shard 0.
    fn process(&mut self, row: &ProcessRow<'_>) {
        let _ = row;
    }
    fn loss(&mut self, row: &LossRow<'_>) {
        let _ = row;
    }
}
