//! One line for each event, as tcpdump does: while recording, and when a capture is replayed. A sink of the same engine as
//! offline, which is fed block by block and gives it events besides rows.

use std::fmt::Write as _;
use std::io::{self, Write};

use chrono::DateTime;

use super::engine::{Block, Engine, Source};
use super::errno;
use super::exchange::Message;
use super::protocol::PROTOCOLS;
use super::remarks::{self, Subject};
use super::row::{ConnectionRow, Event, Frame, LossRow, Party, Sink};
use super::table::processes::write_argv;
use crate::escape;
use crate::format::block::RawBlock;
use crate::format::header::Header;
use crate::format::record::{Direction, Endpoint, Layer, LossReason, Opened, Origin, Process, Record, Role, Socket};
use crate::human::shortened;

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
    host: u16,
}

impl Live {
    /// For the recording that this header describes.
    pub fn new(header: &Header) -> Self {
        let mut engine = Engine::new(|_| Lines::default());
        let host = engine.host(header);
        Live { engine, host }
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
        in_order(self.engine.sinks().map(|sink| std::mem::take(&mut sink.lines)))
    }

    /// No line of the blocks so far is still to come that belongs before this (UTC, ns).
    pub fn settled_until(&self) -> u64 {
        self.engine.oldest_exchange()
    }

    /// A time of the boot clock as UTC, ns.
    pub fn utc(&self, boot: u64) -> u64 {
        self.engine.hosts()[usize::from(self.host)].utc(boot)
    }

    /// The recording is over: the lines of exchanges that were still waiting for something, and whether everything could be
    /// read.
    pub fn finish(self) -> (Vec<Line>, bool) {
        let (sinks, totals) = self.engine.finish(&[]);
        let is_whole = totals.damage.is_empty() && sinks.iter().all(|sink| !sink.lossy);
        (in_order(sinks.into_iter().map(|sink| sink.lines)), is_whole)
    }

    /// Prints the lines of these blocks.
    pub fn feed(&mut self, blocks: &[RawBlock], out: &mut dyn Write) -> io::Result<()> {
        let sources: Vec<Source<'_>> = blocks.iter().map(Source::Raw).collect();
        print(&self.lines(&sources), out)
    }
}

/// The order of lines of one batch that have the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// As [`Event::place`].
    Recorded(usize, u32),
    /// An exchange or a loss that the analyzer found, in the order in which its shard found it.
    Found,
}

/// The lines of one shard.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<(Place, Line)>,
    /// Something is missing that nobody wanted to be left out.
    lossy: bool,
}

/// The lines of all shards by time.
fn in_order(shards: impl Iterator<Item = Vec<(Place, Line)>>) -> Vec<Line> {
    let mut lines: Vec<(Place, Line)> = shards.flatten().collect();
    lines.sort_by_key(|(place, line)| (line.time, *place));
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The text of an event, if it has a line.
fn event_text(event: &Event<'_>) -> Option<String> {
    let ends = |socket: &Socket| {
        let arrow = if socket.role == Role::Server { "<-" } else { "->" };
        format!("{} {} {arrow} {}", who(event.party), socket.local, socket.remote)
    };
    match (event.record, event.socket) {
        (Record::Process(process), _) => process_text(process),
        (Record::Exit(exit), _) => {
            let how = match exit.status & 0x7f {
                0 => format!("exit code {}", (exit.status >> 8) & 0xff),
                signal => format!("killed by signal {signal}"),
            };
            Some(format!("EXIT    {}[{}] {how}", event.party.comm, exit.pid))
        }
        (Record::Loss(loss), _) => Some(loss_text(loss.reason, loss.events, loss.bytes)),
        (Record::Remark(remark), _) => Some(format!(
            "REMARK  {} packets: {}",
            remark.events,
            remarks::detail(Subject::new(remark.about, remark.number))
        )),
        (Record::Socket(_), Some(socket)) => match socket.opened {
            Opened::Accept => Some(format!("ACCEPT  {}", ends(socket))),
            Opened::Listen => Some(format!("LISTEN  {} {}", who(event.party), socket.local)),
            _ => None,
        },
        (Record::Connect(connect), Some(socket)) => {
            let outcome = match connect.error {
                0 => format!("connected in {}", milliseconds(connect.connect_ns)),
                error => {
                    let mut text = format!("failed after {}: ", milliseconds(connect.connect_ns));
                    errno::write(&mut text, error);
                    text
                }
            };
            Some(format!("CONNECT {} {outcome}", ends(socket)))
        }
        (Record::Close(close), Some(socket)) => {
            let age = match socket.opened {
                Opened::Connect | Opened::Accept => {
                    format!(", open for {}", milliseconds(close.time.saturating_sub(socket.time)))
                }
                _ => String::new(),
            };
            Some(format!(
                "CLOSE   {} {}: {} bytes sent, {} received{age}",
                ends(socket),
                close.ending.name(),
                close.bytes_sent,
                close.bytes_received
            ))
        }
        (Record::Data(data), Some(socket)) => {
            let way = if data.direction == Direction::Sent {
                "sent"
            } else {
                "received"
            };
            let layer = match data.layer {
                Layer::Wire => String::new(),
                layer => format!(" ({})", layer.name()),
            };
            Some(format!("DATA    {} {way} {} bytes{layer}", ends(socket), data.len))
        }
        _ => None,
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

fn process_text(process: &Process<'_>) -> Option<String> {
    if process.origin != Origin::Exec {
        return None;
    }
    let comm = String::from_utf8_lossy(process.comm);
    let mut argv = String::new();
    write_argv(&mut argv, process.argv);
    let argv = shortened(&argv, MAX_TEXT);
    Some(format!("PROCESS {comm}[{}] ppid {} {argv}", process.pid, process.ppid))
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
    const EVENTS: bool = true;

    fn event(&mut self, event: &Event<'_>) {
        if let Some(text) = event_text(event) {
            let (block, at) = event.place;
            self.lines
                .push((Place::Recorded(block, at), Line::new(event.time, text)));
        }
    }

    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        let name = PROTOCOLS.get(message.protocol()).map_or("", |protocol| protocol.name());
        let text = format!(
            "{:<7} {} {} {}",
            name.to_ascii_uppercase(),
            exchange_ends(frame),
            message.line(frame.incomplete, MAX_TEXT),
            outcome(frame)
        );
        let line = Line::new(frame.start + frame.latency.total_ns.unwrap_or(0), text);
        self.lines.push((Place::Found, line));
    }

    fn connection(&mut self, _row: &ConnectionRow<'_>) {}

    fn loss(&mut self, row: &LossRow<'_>) {
        // The others had their lines when they were recorded.
        self.lossy |= !row.reason.is_on_purpose();
        if row.found {
            let text = loss_text(row.reason, row.events, row.bytes);
            self.lines.push((Place::Found, Line::new(row.until, text)));
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
