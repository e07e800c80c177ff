//! Synthetic captures: what a recorder would have written, for benchmarks of the analyzer.
//!
//! One simulation serves all shapes of a file: with the same seed the captures of `--ends client` and `--ends server`
//! are two hosts' views of the same connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use masdeepflow::format::block::{BlockBuilder, Class, RawBlock};
use masdeepflow::format::header::Header;
use masdeepflow::format::record::{
    Cgroup, Clock, Close, Connect, Cut, Data, Direction, Ending, Endpoint, Layer, Loss, LossReason, Opened, Origin,
    Process, Record, Role, Socket,
};
use masdeepflow::format::writer::Writer;
use serde_json::{Value, json};

use crate::mysql;
use crate::pcap::{ACK, FIN, Pcap, SYN, Way};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    Http,
    Mysql,
    /// Every second connection is MySQL.
    Mixed,
    /// Bytes of no known protocol.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ends {
    Client,
    Server,
    Both,
}

#[derive(clap::Args)]
pub struct Synth {
    #[arg(value_enum)]
    protocol: Protocol,
    /// The file to write; an existing one is replaced.
    #[arg(short, long)]
    output: PathBuf,
    /// The same traffic as a packet capture too, as seen between the two hosts.
    #[arg(long)]
    pcap: Option<PathBuf>,
    /// Exchanges in all.
    #[arg(short = 'n', long, default_value_t = 1_000_000)]
    exchanges: u64,
    /// Connections at the same time.
    #[arg(short, long, default_value_t = 64)]
    connections: u32,
    /// A connection is closed and replaced after this many exchanges; 0: never.
    #[arg(long, default_value_t = 0)]
    per_connection: u64,
    /// Which ends were captured.
    #[arg(long, value_enum, default_value_t = Ends::Both)]
    ends: Ends,
    /// Body bytes of a response, or bytes of a row.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Payload bytes kept of each event.
    #[arg(long, default_value_t = 1024)]
    snaplen: usize,
    /// Different paths or statements.
    #[arg(long, default_value_t = 100)]
    paths: u64,
    /// Each path is asked for in the same words and answered alike, as wrk and a file server do; otherwise each HTTP
    /// request has a query and an id of its own.
    #[arg(long)]
    repeat: bool,
    /// Each MySQL connection prepares its statement once, and executes it from then on.
    #[arg(long)]
    prepared: bool,
    /// Mean time that the server takes, microseconds.
    #[arg(long, default_value_t = 800)]
    latency_us: u64,
    /// Time that bytes are under way, microseconds.
    #[arg(long, default_value_t = 20)]
    network_us: u64,
    /// Mean pause between two exchanges of a connection, microseconds.
    #[arg(long, default_value_t = 100)]
    pause_us: u64,
    /// One exchange in so many fails (500, or an error packet); 0: none.
    #[arg(long, default_value_t = 50)]
    error_every: u64,
    /// Of a million data events, so many are lost.
    #[arg(long, default_value_t = 0)]
    holes_ppm: u64,
    /// Processes of each side.
    #[arg(long, default_value_t = 4)]
    processes: u32,
    /// By how much the wall clock of the recording host is wrong, microseconds.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    skew_us: i64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// zstd level.
    #[arg(long, default_value_t = 3)]
    level: i32,
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Around `mean`: mostly less, sometimes several times as much.
    fn around(&mut self, mean: u64) -> u64 {
        let bits = self.next();
        let tail = 1 + (bits >> 32).trailing_zeros() as u64;
        mean / 4 + (bits & 0xffff) * mean / 0x1_0000 * tail / 2
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a connection does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Open,
    /// The server speaks first (MySQL greeting), then the login and its answer, as one exchange each.
    Greet(u8),
    Ask,
    RequestArrives,
    Answer,
    ResponseArrives,
}

struct Connection {
    mysql: bool,
    step: Step,
    client: Endpoint,
    server: Endpoint,
    ids: [u64; 2],
    pids: [u32; 2],
    /// TCP positions of the client's and the server's next byte.
    positions: [u32; 2],
    /// Payload bytes of both directions so far.
    sent: [u64; 2],
    srtt_us: u32,
    request: Vec<u8>,
    response: Vec<u8>,
    exchanges: u64,
    /// An event of the present exchange was left out.
    holed: bool,
}

/// Collects records and hands full blocks to the writer thread.
struct Sink {
    state: BlockBuilder,
    events: BlockBuilder,
    blocks: SyncSender<RawBlock>,
    spent: Receiver<RawBlock>,
}

impl Sink {
    fn push(&mut self, record: &Record<'_>) -> Result<()> {
        let builder = if record.is_state() {
            &mut self.state
        } else {
            &mut self.events
        };
        builder.push(record);
        if builder.is_full() { self.flush() } else { Ok(()) }
    }

    /// State goes first: events may refer to it.
    fn flush(&mut self) -> Result<()> {
        for builder in [&mut self.state, &mut self.events] {
            if !builder.is_empty() {
                self.blocks
                    .send(builder.take())
                    .ok()
                    .context("the writer has stopped")?;
                if let Ok(spent) = self.spent.try_recv() {
                    builder.recycle(spent);
                }
            }
        }
        Ok(())
    }
}

/// The boot clock of the recording host when the capture begins, ns.
const BOOT: u64 = 5_000_000_000_000;
/// The wall clock then: 2026-01-01 00:00:00 UTC, ns.
const WALL: u64 = 1_767_225_600_000_000_000;
const SECOND: u64 = 1_000_000_000;

struct Simulation<'a> {
    plan: &'a Synth,
    random: Random,
    /// Decides which events are lost; apart from `random`, so that both hosts' files tell of the same exchanges.
    luck: Random,
    sink: Sink,
    pcap: Option<Pcap>,
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    connections: Vec<Connection>,
    opened: u64,
    asked: u64,
    errors: u64,
    data_events: u64,
    lost_events: u64,
    holed_exchanges: u64,
    next_clock: u64,
}

pub fn run(plan: &Synth) -> Result<Value> {
    let started = Instant::now();
    let wall = WALL.saturating_add_signed(plan.skew_us.saturating_mul(1000));
    let name = match plan.ends {
        Ends::Client => "client-host",
        Ends::Server => "server-host",
        Ends::Both => "one-host",
    };
    let header = Header {
        tool_version: env!("CARGO_PKG_VERSION").into(),
        command_line: format!("traffic_gen synth (seed {})", plan.seed),
        hostname: name.into(),
        boot_id: format!("synthetic-{name}"),
        kernel: "synthetic".into(),
        arch: "synthetic".into(),
        backend: "synthetic".into(),
        filters: String::new(),
        snaplen: plan.snaplen as u32,
        cpus: 2,
        clock: Clock {
            boot: BOOT,
            monotonic: BOOT,
            realtime: wall,
        },
        recording: mix(plan.seed ^ name.len() as u64),
        part: 0,
    };
    let mut options = OpenOptions::new();
    // Captures hold payload; even synthetic ones keep the habit.
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&plan.output);
    let file = file.with_context(|| format!("cannot write {}", plan.output.display()))?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, file), &header, plan.level)?;
    let (blocks, to_write) = sync_channel::<RawBlock>(8);
    let (give_back, spent) = sync_channel(8);
    let writing = thread::spawn(move || -> std::io::Result<u64> {
        for block in to_write {
            writer.write(&block)?;
            let _ = give_back.try_send(block);
        }
        let (mut out, _) = writer.finish()?;
        out.flush()?;
        Ok(out.into_inner().map_err(|error| error.into_error())?.metadata()?.len())
    });
    let mut simulation = Simulation {
        plan,
        random: Random(plan.seed),
        luck: Random(plan.seed ^ 0xdead),
        sink: Sink {
            state: BlockBuilder::new(Class::State),
            events: BlockBuilder::new(Class::Events),
            blocks,
            spent,
        },
        pcap: plan
            .pcap
            .as_deref()
            .map(|path| Pcap::create(path).with_context(|| format!("cannot write {}", path.display())))
            .transpose()?,
        queue: BinaryHeap::new(),
        connections: Vec::new(),
        opened: 0,
        asked: 0,
        errors: 0,
        data_events: 0,
        lost_events: 0,
        holed_exchanges: 0,
        next_clock: BOOT,
    };
    let end = simulation.run(wall)?;
    let Simulation {
        sink,
        pcap,
        opened,
        asked,
        errors,
        data_events,
        lost_events,
        holed_exchanges,
        ..
    } = simulation;
    drop(sink);
    let bytes = writing
        .join()
        .expect("the writer does not panic")
        .context("cannot write the capture")?;
    let packets = pcap.map(Pcap::finish).transpose().context("cannot write the packets")?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "mode": "synth", "file": plan.output, "bytes": bytes, "exchanges": asked, "errors": errors,
        "connections": opened, "data_events": data_events, "packets": packets, "lost_events": lost_events,
        "holed_exchanges": holed_exchanges, "span_seconds": (end - BOOT) as f64 / SECOND as f64,
        "seconds": seconds, "events_per_second": data_events as f64 / seconds,
    }))
}

impl Simulation<'_> {
    fn sees(&self, side: usize) -> bool {
        match self.plan.ends {
            Ends::Client => side == 0,
            Ends::Server => side == 1,
            Ends::Both => true,
        }
    }

    /// Everything; returns when it ended.
    fn run(&mut self, wall: u64) -> Result<u64> {
        self.sink.push(&Record::Cgroup(Cgroup {
            time: BOOT,
            id: 4001,
            path: b"/synthetic/client",
        }))?;
        self.sink.push(&Record::Cgroup(Cgroup {
            time: BOOT,
            id: 4002,
            path: b"/synthetic/server",
        }))?;
        for side in 0..2 {
            if self.sees(side) {
                for number in 0..self.plan.processes.max(1) {
                    let (comm, exe) = [("shop", "/usr/bin/shop"), ("backend", "/usr/sbin/backend")][side];
                    let argv = format!("{exe}\0--worker\0{number}\0");
                    self.sink.push(&Record::Process(Process {
                        time: BOOT,
                        origin: Origin::Snapshot,
                        pid: pid(side, number),
                        ppid: 1,
                        pid_in_ns: pid(side, number),
                        start: BOOT - SECOND,
                        uid: 1000,
                        cgroup: 4001 + side as u64,
                        netns: 4_026_531_840,
                        comm: comm.as_bytes(),
                        exe: exe.as_bytes(),
                        argv: argv.as_bytes(),
                        argv_len: argv.len() as u32,
                    }))?;
                }
            }
        }
        for number in 0..self.plan.connections.max(1) {
            let mysql = match self.plan.protocol {
                Protocol::Mysql => true,
                Protocol::Mixed => number % 2 == 1,
                Protocol::Http | Protocol::Opaque => false,
            };
            self.connections.push(Connection {
                mysql,
                step: Step::Open,
                client: Endpoint::default(),
                server: Endpoint::default(),
                ids: [0; 2],
                pids: [0; 2],
                positions: [0; 2],
                sent: [0; 2],
                srtt_us: 0,
                request: Vec::new(),
                response: Vec::new(),
                exchanges: 0,
                holed: false,
            });
            let first = BOOT + 1000 + self.random.around(self.plan.pause_us * 1000);
            self.queue.push(Reverse((first, number)));
        }
        let mut now = BOOT;
        while let Some(Reverse((time, number))) = self.queue.pop() {
            now = time;
            while self.next_clock <= now {
                let since = self.next_clock - BOOT;
                let clock = Clock {
                    boot: self.next_clock,
                    monotonic: self.next_clock,
                    realtime: wall + since,
                };
                self.sink.push(&Record::Clock(clock))?;
                self.next_clock += SECOND;
            }
            if let Some(pause) = self.step(now, number as usize)? {
                self.queue.push(Reverse((now + pause, number)));
            }
        }
        self.sink.push(&Record::Clock(Clock {
            boot: now,
            monotonic: now,
            realtime: wall + (now - BOOT),
        }))?;
        self.sink.flush()?;
        Ok(now)
    }

    /// One step of a connection; how long until its next, if there is one.
    fn step(&mut self, now: u64, number: usize) -> Result<Option<u64>> {
        let network = self.plan.network_us * 1000 + self.random.next() % 2048;
        match self.connections[number].step {
            Step::Open => {
                if self.asked >= self.plan.exchanges {
                    return Ok(None);
                }
                self.open(now, number)?;
                let connection = &mut self.connections[number];
                connection.step = if connection.mysql { Step::Greet(0) } else { Step::Ask };
                Ok(Some(network))
            }
            Step::Greet(at) => {
                let connection = &mut self.connections[number];
                let server = at != 1;
                connection.request.clear();
                connection.response.clear();
                let to = if server {
                    &mut connection.response
                } else {
                    &mut connection.request
                };
                let _ = match at {
                    0 => mysql::packet(to, 0, &mysql::greeting(7)),
                    1 => mysql::packet(
                        to,
                        1,
                        &mysql::login("shop", "shop", mysql::CAPABILITIES | mysql::DEPRECATE_EOF),
                    ),
                    _ => mysql::packet(to, 2, &mysql::ok_packet(0, 0, 2)),
                };
                connection.step = if at == 2 { Step::Ask } else { Step::Greet(at + 1) };
                let sender = usize::from(server);
                self.transfer(now, number, sender, Direction::Sent)?;
                self.transfer(now + network, number, sender, Direction::Received)?;
                self.connections[number].holed = false;
                Ok(Some(network + 1000))
            }
            Step::Ask => {
                let connection = &mut self.connections[number];
                let full = self.plan.per_connection != 0 && connection.exchanges >= self.plan.per_connection;
                if full || self.asked >= self.plan.exchanges {
                    connection.step = Step::Open;
                    self.close(now, number)?;
                    return Ok(Some(network));
                }
                let asked = self.asked;
                self.asked += 1;
                let fails = self.plan.error_every != 0 && asked % self.plan.error_every == self.plan.error_every - 1;
                self.errors += u64::from(fails);
                connection.exchanges += 1;
                connection.step = Step::RequestArrives;
                write_exchange(self.plan, connection, asked, fails, self.random.next());
                self.transfer(now, number, 0, Direction::Sent)?;
                Ok(Some(network))
            }
            Step::RequestArrives => {
                self.transfer(now, number, 0, Direction::Received)?;
                self.connections[number].step = Step::Answer;
                Ok(Some(self.random.around(self.plan.latency_us * 1000).max(1)))
            }
            Step::Answer => {
                self.transfer(now, number, 1, Direction::Sent)?;
                self.connections[number].step = Step::ResponseArrives;
                Ok(Some(network))
            }
            Step::ResponseArrives => {
                self.transfer(now, number, 1, Direction::Received)?;
                let connection = &mut self.connections[number];
                connection.step = Step::Ask;
                self.holed_exchanges += u64::from(std::mem::take(&mut connection.holed));
                Ok(Some(self.random.around(self.plan.pause_us * 1000)))
            }
        }
    }

    fn open(&mut self, now: u64, number: usize) -> Result<()> {
        let order = self.opened;
        self.opened += 1;
        let random = self.random.next();
        let connection = &mut self.connections[number];
        // Ports come back after 28,000 connections, on another address.
        let client_ip = Ipv4Addr::from(0x0a00_0001 + (order / 28_000) as u32);
        connection.client = Endpoint::new(IpAddr::V4(client_ip), 32_768 + (order % 28_000) as u16);
        let server_port = if connection.mysql { 3306 } else { 8080 };
        connection.server = Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1)), server_port);
        connection.positions = [random as u32, (random >> 32) as u32];
        connection.sent = [0; 2];
        connection.exchanges = 0;
        let pair = mix(u64::from(u32::from(client_ip)) << 32 | u64::from(connection.client.port) << 16)
            .wrapping_add(u64::from(server_port));
        let processes = self.plan.processes.max(1);
        connection.pids = [pid(0, order as u32 % processes), pid(1, order as u32 % processes)];
        connection.ids = [0, 1].map(|side| pair & !0xffff_ffff | (order * 2 + side + 1) & 0xffff_ffff);
        connection.srtt_us = 2 * self.plan.network_us as u32;
        self.packets(now, number, &[(0, SYN, 1, 0), (1, SYN | ACK, 1, 0), (0, ACK, 0, 0)])?;
        let handshake = 2 * self.plan.network_us * 1000 + 5_000;
        for side in 0..2 {
            if !self.sees(side) {
                continue;
            }
            let connection = &self.connections[number];
            let (local, remote) = if side == 0 {
                (connection.client, connection.server)
            } else {
                (connection.server, connection.client)
            };
            let client = side == 0;
            let (send_pos, receive_pos) = (connection.positions[side], connection.positions[1 - side]);
            let socket = Socket {
                time: if client { now - handshake.min(now - BOOT) } else { now },
                id: connection.ids[side],
                opened: if client { Opened::Connect } else { Opened::Accept },
                role: if client { Role::Client } else { Role::Server },
                local,
                remote,
                netns: 4_026_531_840,
                pid: connection.pids[side],
                cgroup: 4001 + side as u64,
                send_pos: if client { 0 } else { send_pos },
                receive_pos: if client { 0 } else { receive_pos },
                positions: !client,
            };
            self.sink.push(&Record::Socket(socket))?;
            if client {
                let id = socket.id;
                let connect = Connect {
                    time: now,
                    id,
                    error: 0,
                    connect_ns: handshake,
                    send_pos,
                    receive_pos,
                };
                self.sink.push(&Record::Connect(connect))?;
            }
        }
        Ok(())
    }

    /// Packets without payload: sender, flags, and by how much sequence and acknowledgement are behind or ahead.
    fn packets(&mut self, now: u64, number: usize, packets: &[(usize, u8, u32, u32)]) -> Result<()> {
        let time = WALL + (now - BOOT);
        let Some(pcap) = &mut self.pcap else { return Ok(()) };
        for (after, (sender, flags, behind, ahead)) in packets.iter().enumerate() {
            let connection = &self.connections[number];
            let way = Way {
                sequence: connection.positions[*sender].wrapping_sub(*behind),
                acknowledged: connection.positions[1 - sender].wrapping_add(*ahead),
                ..way(connection, *sender)
            };
            pcap.packet(time + after as u64, &way, *flags, &[])?;
        }
        Ok(())
    }

    fn close(&mut self, now: u64, number: usize) -> Result<()> {
        let last = [(0, FIN | ACK, 0, 0), (1, FIN | ACK, 0, 1), (0, ACK, u32::MAX, 1)];
        self.packets(now, number, &last)?;
        for side in 0..2 {
            if self.sees(side) {
                let connection = &self.connections[number];
                let close = Close {
                    time: now + side as u64 * self.plan.network_us * 1000,
                    id: connection.ids[side],
                    ending: Ending::Closed,
                    bytes_sent: connection.sent[side],
                    bytes_received: connection.sent[1 - side],
                    retransmits: 0,
                    srtt_us: connection.srtt_us,
                };
                self.sink.push(&Record::Close(close))?;
            }
        }
        Ok(())
    }

    /// What `sender` has to say passes its own socket (sent) or the other one (received).
    fn transfer(&mut self, now: u64, number: usize, sender: usize, direction: Direction) -> Result<()> {
        let side = if direction == Direction::Sent {
            sender
        } else {
            1 - sender
        };
        if let (Direction::Sent, Some(pcap)) = (direction, &mut self.pcap) {
            let connection = &self.connections[number];
            let bytes = if sender == 0 {
                &connection.request
            } else {
                &connection.response
            };
            pcap.data(WALL + (now - BOOT), &way(connection, sender), bytes)?;
        }
        let seen = self.sees(side);
        let lost = self.plan.holes_ppm != 0 && self.luck.next() % 1_000_000 < self.plan.holes_ppm;
        let connection = &mut self.connections[number];
        let bytes = if sender == 0 {
            &connection.request
        } else {
            &connection.response
        };
        let len = bytes.len() as u32;
        if seen && lost {
            connection.holed = true;
            self.lost_events += 1;
            let loss = Loss {
                time: now,
                since: now,
                reason: LossReason::RingFull,
                events: 1,
                bytes: u64::from(len),
            };
            self.sink.push(&Record::Loss(loss))?;
        } else if seen {
            let payload = &bytes[..bytes.len().min(self.plan.snaplen)];
            let data = Data {
                time: now,
                id: connection.ids[side],
                pos: connection.positions[sender],
                len,
                pid: connection.pids[side],
                tid: connection.pids[side],
                cgroup: 4001 + side as u64,
                direction,
                cut: if payload.len() < bytes.len() {
                    Cut::Snaplen
                } else {
                    Cut::Whole
                },
                payload,
                layer: Layer::Wire,
            };
            self.sink.push(&Record::Data(data))?;
            self.data_events += 1;
        }
        if direction == Direction::Received {
            let connection = &mut self.connections[number];
            connection.positions[sender] = connection.positions[sender].wrapping_add(len);
            connection.sent[sender] += u64::from(len);
        }
        Ok(())
    }
}

/// What one end sends next.
fn way(connection: &Connection, sender: usize) -> Way<'_> {
    let ends = [&connection.client, &connection.server];
    Way {
        from: ends[sender],
        to: ends[1 - sender],
        sequence: connection.positions[sender],
        acknowledged: connection.positions[1 - sender],
    }
}

/// The number of a process in the synthetic world.
fn pid(side: usize, number: u32) -> u32 {
    (side as u32 + 1) * 1000 + number
}

/// Six letters for a number: digits would all fall into one path template.
fn word(number: u64) -> [u8; 6] {
    let mut rest = number;
    std::array::from_fn(|_| {
        let letter = b"bcdfghklmnprstvw"[(rest % 16) as usize];
        rest /= 16;
        letter
    })
}

/// Fills in request and response of the next exchange.
fn write_exchange(plan: &Synth, connection: &mut Connection, number: u64, fails: bool, random: u64) {
    let Connection {
        request,
        response,
        exchanges,
        ..
    } = connection;
    request.clear();
    response.clear();
    let place = mix(number) % plan.paths.max(1);
    let word = word(place);
    let word = std::str::from_utf8(&word).unwrap_or("none");
    let content = match plan.repeat {
        true => mix(place),
        false => random,
    };
    let (query, id) = match plan.repeat {
        true => (String::new(), String::new()),
        false => (format!("?id={number}"), format!("X-Request-Id: {random:016x}\r\n")),
    };
    // Writing into a Vec cannot fail.
    if plan.protocol == Protocol::Opaque {
        let _ = write!(request, "\x02\x00{random:016x}{number}{word}");
        response.extend_from_slice(&[3, 0]);
        filler(response, plan.size, random);
    } else if connection.mysql && plan.prepared && *exchanges == 1 {
        let text = format!("SELECT name FROM {word} WHERE id = ?");
        mysql::packet(request, 0, &[&[22], text.as_bytes()].concat());
        // Statement 1 has one column and one parameter.
        mysql::packet(response, 1, &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        mysql::packet(response, 2, &mysql::column("?", 253));
        mysql::packet(response, 3, &mysql::column("name", 253));
    } else if connection.mysql && plan.prepared {
        // Of statement 1, once, with one LONG.
        let id = (random % 1_000_000) as u32;
        let head = [23, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0];
        mysql::packet(request, 0, &[&head[..], &id.to_le_bytes()].concat());
        if fails {
            mysql::packet(response, 1, &mysql::error_packet());
        } else {
            mysql::packet(response, 1, &[1]);
            mysql::packet(response, 2, &mysql::column("name", 253));
            let mut row = vec![0, 0];
            mysql::put_length(&mut row, plan.size as u64);
            filler(&mut row, plan.size, random);
            mysql::packet(response, 3, &row);
            mysql::packet(response, 4, &mysql::ok_packet(0xfe, 0, 2));
        }
    } else if connection.mysql {
        let text = format!("SELECT name FROM {word} WHERE id = {}", random % 1_000_000);
        mysql::packet(request, 0, &[&[3], text.as_bytes()].concat());
        if fails {
            mysql::packet(response, 1, &mysql::error_packet());
        } else {
            mysql::packet(response, 1, &[1]);
            mysql::packet(response, 2, &mysql::column("name", 253));
            let mut row = Vec::with_capacity(plan.size + 9);
            mysql::put_length(&mut row, plan.size as u64);
            filler(&mut row, plan.size, random);
            mysql::packet(response, 3, &row);
            mysql::packet(response, 4, &mysql::ok_packet(0xfe, 0, 2));
        }
    } else {
        let _ = write!(
            request,
            "GET /shop/{word}/items{query} HTTP/1.1\r\nHost: backend.example:8080\r\nUser-Agent: shop/1.4\r\n\
             Accept: application/json\r\n{id}\r\n",
        );
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        let _ = write!(
            response,
            "HTTP/1.1 {status}\r\nServer: backend/2.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n",
            plan.size
        );
        filler(response, plan.size, content);
    }
}

/// `len` bytes that compress as texts of programs do.
fn filler(to: &mut Vec<u8>, len: usize, random: u64) {
    const TEXT: &[u8] =
        b"{\"id\":123456,\"name\":\"a thing of the shop\",\"price\":\"19.90\",\"tags\":[\"new\",\"blue\"]},";
    let end = to.len() + len;
    let mut z = random;
    while to.len() < end {
        z = mix(z);
        let from = (z % TEXT.len() as u64) as usize;
        to.extend_from_slice(&TEXT[from..TEXT.len().min(from + (end - to.len()))]);
    }
}
