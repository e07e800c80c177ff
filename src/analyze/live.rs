//! One line for each event, as tcpdump does: while recording, and when a capture is replayed. The same engine as
//! offline, fed block by block.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write};

use chrono::DateTime;

use super::engine::{Block, Engine, Source};
use super::errno;
use super::exchange::Message;
use super::names::{Host, Who};
use super::protocol::PROTOCOLS;
use super::remarks::{self, Subject};
use super::row::{ConnectionRow, Frame, LossRow, Party, Sink};
use super::table::processes::write_argv;
use crate::escape;
use crate::format::block::{self, RawBlock};
use crate::format::header::Header;
use crate::format::record::{Direction, Endpoint, Layer, LossReason, Opened, Origin, Process, Record, Role, Socket};
use crate::human::shortened;

/// Closed sockets that are remembered.
const MAX_CLOSED: usize = 4096;
/// Characters of SQL or of arguments in one line.
const MAX_TEXT: usize = 200;

/// A line and the time it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// UTC, ns.
    pub time: u64,
    pub text: String,
}

impl Line {
    /// A line of this text, which names of hosts and programs that may mean harm are part of.
    fn new(time: u64, mut text: String) -> Self {
        if text.contains(escape::is_harmful) {
            text = escape::text(&text);
        }
        Line { time, text }
    }
}

/// Turns blocks into lines.
pub struct Live {
    engine: Engine<Lines>,
    /// With who is known to use them.
    sockets: HashMap<u64, (Socket, Who)>,
    /// Of these, those that are closed, oldest first: what programs read after that is told too.
    closed: VecDeque<u64>,
    host: u16,
}

/// The exchanges of a batch, as lines.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<Line>,
    /// Something is missing that nobody wanted to be left out.
    lossy: bool,
}

impl Live {
    /// For the recording that this header describes.
    pub fn new(header: &Header) -> Self {
        let mut engine = Engine::new(|_| Lines::default());
        let host = engine.host(header);
        Live {
            engine,
            sockets: HashMap::new(),
            closed: VecDeque::new(),
            host,
        }
    }

    /// The lines of these blocks, in order of time.
    pub fn lines(&mut self, sources: &[Source<'_>]) -> Vec<Line> {
        let blocks: Vec<Block<'_>> = sources
            .iter()
            .map(|source| Block {
                source: *source,
                host: self.host,
                file: 0,
            })
            .collect();
        self.engine.feed(&blocks);
        let mut lines = Vec::new();
        let mut buffer = Vec::new();
        for source in sources {
            let bytes = match source {
                Source::Raw(raw) => raw.bytes.as_slice(),
                Source::Stored(stored) => match stored.inflate(&mut buffer) {
                    Ok(()) => buffer.as_slice(),
                    // The engine has counted it.
                    Err(_) => continue,
                },
            };
            for record in block::records(bytes).flatten() {
                self.line(&record, &mut lines);
            }
        }
        for sink in self.engine.sinks() {
            lines.append(&mut sink.lines);
        }
        lines.sort_by_key(|line| line.time);
        lines
    }

    /// No line of the blocks so far is still to come that belongs before this (UTC, ns).
    pub fn settled_until(&self) -> u64 {
        self.engine.oldest_exchange()
    }

    /// A time of the boot clock as UTC, ns.
    pub fn utc(&self, boot: u64) -> u64 {
        self.engine.hosts()[usize::from(self.host)].utc(boot)
    }

    /// The recording is over: the lines of exchanges that were still waiting for something, and whether nothing was lost or
    /// damaged.
    pub fn finish(self) -> (Vec<Line>, bool) {
        let (sinks, totals) = self.engine.finish(&[]);
        let is_whole = totals.damage.is_empty() && sinks.iter().all(|sink| !sink.lossy);
        let mut lines: Vec<Line> = sinks.into_iter().flat_map(|sink| sink.lines).collect();
        lines.sort_by_key(|line| line.time);
        (lines, is_whole)
    }

    /// Prints the lines of these blocks.
    pub fn feed(&mut self, blocks: &[RawBlock], out: &mut dyn Write) -> io::Result<()> {
        let sources: Vec<Source<'_>> = blocks.iter().map(Source::Raw).collect();
        print(&self.lines(&sources), out)
    }

    fn line(&mut self, record: &Record<'_>, lines: &mut Vec<Line>) {
        let host = &self.engine.hosts()[usize::from(self.host)];
        let text = match record {
            Record::Process(process) => process_line(process),
            Record::Exit(exit) => {
                let comm = host
                    .program(exit.pid, exit.time)
                    .map_or("", |program| program.comm.as_str());
                let how = match exit.status & 0x7f {
                    0 => format!("exit code {}", (exit.status >> 8) & 0xff),
                    signal => format!("killed by signal {signal}"),
                };
                Some(format!("EXIT    {comm}[{}] {how}", exit.pid))
            }
            Record::Socket(socket) => {
                self.sockets.insert(socket.id, (*socket, Who::from(socket)));
                socket_line(host, socket)
            }
            Record::Owner(owner) => {
                if let Some((_, known)) = self.sockets.get_mut(&owner.id)
                    && known.pid == 0
                {
                    *known = Who::from(owner);
                }
                None
            }
            Record::Connect(connect) => self.sockets.get(&connect.id).map(|(socket, owner)| {
                let outcome = match connect.error {
                    0 => format!("connected in {}", milliseconds(connect.connect_ns)),
                    error => {
                        let mut text = format!("failed after {}: ", milliseconds(connect.connect_ns));
                        errno::write(&mut text, error);
                        text
                    }
                };
                format!("CONNECT {} {outcome}", ends(host, socket, *owner, connect.time))
            }),
            Record::Close(close) => self.sockets.get(&close.id).map(|(socket, owner)| {
                let age = match socket.opened {
                    Opened::Connect | Opened::Accept => {
                        format!(", open for {}", milliseconds(close.time.saturating_sub(socket.time)))
                    }
                    _ => String::new(),
                };
                format!(
                    "CLOSE   {} {}: {} bytes sent, {} received{age}",
                    ends(host, socket, *owner, close.time),
                    close.ending.name(),
                    close.bytes_sent,
                    close.bytes_received
                )
            }),
            Record::Data(data) => self.sockets.get(&data.id).map(|(socket, owner)| {
                let way = if data.direction == Direction::Sent {
                    "sent"
                } else {
                    "received"
                };
                let who = match data.pid {
                    0 => *owner,
                    pid => Who {
                        pid,
                        cgroup: data.cgroup,
                        seen: data.time,
                    },
                };
                let ends = ends(host, socket, who, data.time);
                let layer = match data.layer {
                    Layer::Wire => String::new(),
                    layer => format!(" ({})", layer.name()),
                };
                format!("DATA    {ends} {way} {} bytes{layer}", data.len)
            }),
            Record::Loss(loss) => Some(loss_text(loss.reason, loss.events, loss.bytes)),
            Record::Remark(remark) => Some(format!(
                "REMARK  {} packets: {}",
                remark.events,
                remarks::detail(Subject::new(remark.about, remark.number))
            )),
            Record::Cgroup(_) | Record::Workload(_) | Record::Address(_) | Record::Clock(_) => None,
        };
        if let Some(text) = text {
            lines.push(Line::new(host.utc(record.time()), text));
        }
        if let Record::Close(close) = record {
            self.closed.push_back(close.id);
            if self.closed.len() > MAX_CLOSED
                && let Some(oldest) = self.closed.pop_front()
            {
                self.sockets.remove(&oldest);
            }
        }
    }
}

/// Prints lines, each behind its time of day (UTC).
pub fn print(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    for line in lines {
        match i64::try_from(line.time) {
            Ok(ns) => write!(out, "{}", DateTime::from_timestamp_nanos(ns).format("%H:%M:%S%.6f"))?,
            // As in tables, it is not known.
            Err(_) => write!(out, "--:--:--.------")?,
        }
        writeln!(out, " {}", line.text)?;
    }
    out.flush()
}

fn process_line(process: &Process<'_>) -> Option<String> {
    if process.origin != Origin::Exec {
        return None;
    }
    let comm = String::from_utf8_lossy(process.comm);
    let mut argv = String::new();
    write_argv(&mut argv, process.argv);
    let argv = shortened(&argv, MAX_TEXT);
    Some(format!("PROCESS {comm}[{}] ppid {} {argv}", process.pid, process.ppid))
}

fn socket_line(host: &Host, socket: &Socket) -> Option<String> {
    let owner = Who::from(socket);
    match (socket.opened, socket.role) {
        (Opened::Accept, _) => Some(format!("ACCEPT  {}", ends(host, socket, owner, socket.time))),
        (Opened::Listen, _) => Some(format!(
            "LISTEN  {} {}",
            who(&host.party_of(owner, socket.time)),
            socket.local
        )),
        _ => None,
    }
}

/// The ends of a connection at a time, with who used it.
fn ends(host: &Host, socket: &Socket, user: Who, time: u64) -> String {
    let party = host.party_of(user, time);
    let arrow = if socket.role == Role::Server { "<-" } else { "->" };
    format!("{} {} {arrow} {}", who(&party), socket.local, socket.remote)
}

/// A process and where it lives, as far as known.
fn who(party: &Party) -> String {
    let mut text = String::new();
    if !party.pod.is_empty() {
        let _ = write!(text, "Pod: {}/{} ", party.namespace, party.pod);
    } else if !party.container.is_empty() {
        let _ = write!(text, "Container: {} ", party.container);
    }
    if party.pid != 0 {
        let _ = write!(text, "{}[{}]", party.comm, party.pid);
    } else if party.pod.is_empty() && !party.address_name.is_empty() {
        if !party.namespace.is_empty() {
            let _ = write!(text, "Service: {}/", party.namespace);
        }
        text.push_str(&party.address_name);
    }
    text.trim_end().to_owned()
}

fn exchange_ends(frame: &Frame<'_>) -> String {
    let end = |party: &Party, endpoint: &Endpoint| match who(party) {
        name if name.is_empty() => endpoint.to_string(),
        name => format!("{name} {endpoint}"),
    };
    format!(
        "{} -> {}",
        end(frame.client_party, &frame.client),
        end(frame.server_party, &frame.server)
    )
}

fn outcome(frame: &Frame<'_>) -> String {
    match (frame.latency.total_ns, frame.incomplete) {
        (Some(total), _) => format!("({})", milliseconds(total)),
        (None, Some(reason)) => format!("(not measured: {})", reason.name()),
        (None, None) => String::new(),
    }
}

impl Sink for Lines {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        let name = PROTOCOLS.get(message.protocol()).map_or("", |protocol| protocol.name());
        let text = format!(
            "{:<7} {} {} {}",
            name.to_ascii_uppercase(),
            exchange_ends(frame),
            message.line(frame.incomplete, MAX_TEXT),
            outcome(frame)
        );
        self.lines
            .push(Line::new(frame.start + frame.latency.total_ns.unwrap_or(0), text));
    }

    fn connection(&mut self, _row: &ConnectionRow<'_>) {}

    fn loss(&mut self, row: &LossRow<'_>) {
        self.lossy |= !row.reason.is_on_purpose();
        // The others had their lines when they were recorded.
        if row.found {
            let text = loss_text(row.reason, row.events, row.bytes);
            self.lines.push(Line::new(row.until, text));
        }
    }
}

fn loss_text(reason: LossReason, events: u64, bytes: u64) -> String {
    format!("LOSS    {events} events, {bytes} bytes: {}", reason.name())
}

fn milliseconds(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_and_no_text_moves_a_terminal() {
        let line = Line::new(0, "HTTP a[1] -> b GET evil\u{1b}[2J\u{9b}31m\r\n/\u{202e}x".to_owned());
        assert_eq!(line.text, "HTTP a[1] -> b GET evil\\x1b[2J\\x9b31m\\r\\n/\\u{202e}x");
    }
}
