//! The MySQL client/server protocol: a server that accepts anybody, and a client that counts.
//!
//! The client logs in with an empty password, so it can talk to a real server too, where that has such an account.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::server::{Serve, Server, Target, serve};
use crate::wire::Wire;

const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_STATEMENTS: u32 = 1 << 16;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;
pub const DEPRECATE_EOF: u32 = 1 << 24;

const COM_QUIT: u8 = 1;
const COM_INIT_DB: u8 = 2;
const COM_QUERY: u8 = 3;
const COM_STATISTICS: u8 = 9;
const COM_PING: u8 = 14;
const COM_STMT_PREPARE: u8 = 22;
const COM_STMT_EXECUTE: u8 = 23;
const COM_STMT_CLOSE: u8 = 25;

const STATUS_AUTOCOMMIT: u16 = 2;
const STATUS_MORE_RESULTS: u16 = 8;
const TYPE_LONG: u8 = 3;
const TYPE_VAR_STRING: u8 = 253;
/// A payload of this length goes on in the next packet.
const MAX_PACKET: usize = 0xff_ffff;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A query with --rows rows.
    Select,
    /// A statement that affects one row.
    Insert,
    /// A statement that affects three rows.
    Update,
    /// A query that fails (1146, 42S02).
    Error,
    /// EXECUTE of a statement that each connection prepares once.
    Prepared,
    /// PREPARE, EXECUTE and CLOSE.
    PrepareEach,
    /// One query with two result sets.
    Multi,
    /// A query with one row larger than a packet can be (17 MiB).
    Huge,
    Ping,
    InitDb,
    Statistics,
}

#[derive(clap::Args, Clone)]
pub struct Plan {
    #[command(flatten)]
    pub target: Target,
    /// Pieces of work in all.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub queries: u64,
    /// Connections at the same time, one thread each.
    #[arg(short, long, default_value_t = 4)]
    pub connections: u64,
    /// Kinds of work, taken in turn.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "select")]
    pub mix: Vec<Kind>,
    /// Rows of each result set.
    #[arg(long, default_value_t = 3)]
    pub rows: u64,
    /// Bytes of the text column in each row.
    #[arg(long, default_value_t = 32)]
    pub row_size: usize,
    /// How long the server waits before each answer, microseconds.
    #[arg(long, default_value_t = 0)]
    pub delay_us: u64,
    /// Ask for result sets that end with EOF packets, as before MySQL 5.7.
    #[arg(long)]
    pub eof: bool,
    #[arg(long, default_value = "gen")]
    pub user: String,
    #[arg(long, default_value = "shop")]
    pub database: String,
}

/// Packets over a connection: a 3-byte length and a sequence number before each.
struct Packets {
    wire: Wire,
    sequence: u8,
    outbox: Vec<u8>,
}

impl Packets {
    fn new(wire: Wire) -> Self {
        Packets {
            wire,
            sequence: 0,
            outbox: Vec::new(),
        }
    }

    /// A whole payload, put together from as many packets as it took; `None` at the end of the stream.
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let mut payload = Vec::new();
        loop {
            if self.wire.pending().is_empty() && !self.wire.fill()? {
                return Ok(None);
            }
            let head = self.wire.take(4)?;
            let len = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
            self.sequence = head[3].wrapping_add(1);
            payload.extend_from_slice(&self.wire.take(len)?);
            if len < MAX_PACKET {
                return Ok(Some(payload));
            }
        }
    }

    fn expect(&mut self) -> Result<Vec<u8>> {
        self.read()?.context("the server closed in the middle")
    }

    /// Adds a payload to what the next flush sends.
    fn put(&mut self, payload: &[u8]) {
        self.sequence = packet(&mut self.outbox, self.sequence, payload);
    }

    fn flush(&mut self) -> Result<()> {
        self.wire.send(&self.outbox)?;
        self.outbox.clear();
        Ok(())
    }

    /// Sends a command, which begins a new sequence.
    fn command(&mut self, code: u8, body: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.put(&[&[code], body].concat());
        self.flush()
    }
}

/// Appends a payload in as many packets as it takes; the next sequence number.
pub fn packet(to: &mut Vec<u8>, mut sequence: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let len = rest.len().min(MAX_PACKET);
        let (now, later) = rest.split_at(len);
        to.extend_from_slice(&(len as u32).to_le_bytes()[..3]);
        to.push(sequence);
        to.extend_from_slice(now);
        sequence = sequence.wrapping_add(1);
        rest = later;
        if len < MAX_PACKET {
            return sequence;
        }
    }
}

pub fn put_length(to: &mut Vec<u8>, n: u64) {
    match n {
        0..=250 => to.push(n as u8),
        251..=0xffff => {
            to.push(0xfc);
            to.extend_from_slice(&(n as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            to.push(0xfd);
            to.extend_from_slice(&(n as u32).to_le_bytes()[..3]);
        }
        _ => {
            to.push(0xfe);
            to.extend_from_slice(&n.to_le_bytes());
        }
    }
}

fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    put_length(to, text.len() as u64);
    to.extend_from_slice(text);
}

/// A length-encoded integer, and what is left.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return Some((u64::from(first), rest)),
    };
    let mut number = [0; 8];
    number[..width].copy_from_slice(rest.get(..width)?);
    Some((u64::from_le_bytes(number), &rest[width..]))
}

pub fn ok_packet(header: u8, affected: u64, status: u16) -> Vec<u8> {
    let mut packet = vec![header];
    put_length(&mut packet, affected);
    put_length(&mut packet, 0);
    packet.extend_from_slice(&status.to_le_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet
}

pub fn error_packet() -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.extend_from_slice(&1146u16.to_le_bytes());
    packet.extend_from_slice(b"#42S02Table 'shop.missing' doesn't exist");
    packet
}

pub fn column(name: &str, kind: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    for text in ["def", "shop", "items", "items", name, name] {
        put_text(&mut packet, text.as_bytes());
    }
    packet.push(0x0c);
    packet.extend_from_slice(&45u16.to_le_bytes());
    packet.extend_from_slice(&255u32.to_le_bytes());
    packet.push(kind);
    packet.extend_from_slice(&[0, 0, 0, 0, 0]);
    packet
}

/// What a statement says it wants, in a comment that real servers pass over: `/* rows=3 size=32 delay_us=5 */`.
fn wish(statement: &str, name: &str) -> u64 {
    let comment = statement
        .split_once("/*")
        .and_then(|(_, rest)| rest.split_once("*/"))
        .map_or("", |(inside, _)| inside);
    let mut pairs = comment.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

/// What server and client here can do, apart from DEPRECATE_EOF.
pub const CAPABILITIES: u32 = LONG_PASSWORD
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PLUGIN_AUTH;

/// The first packet of a server (protocol version 10).
pub fn greeting(thread: u32) -> Vec<u8> {
    let offered = CAPABILITIES | DEPRECATE_EOF;
    let mut greeting = vec![10];
    greeting.extend_from_slice(b"8.0.0-traffic_gen\0");
    greeting.extend_from_slice(&thread.to_le_bytes());
    greeting.extend_from_slice(b"abcdefgh\0");
    greeting.extend_from_slice(&(offered as u16).to_le_bytes());
    greeting.push(45);
    greeting.extend_from_slice(&STATUS_AUTOCOMMIT.to_le_bytes());
    greeting.extend_from_slice(&((offered >> 16) as u16).to_le_bytes());
    greeting.push(21);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
    greeting
}

/// The first packet of a client, with an empty password (HandshakeResponse41).
pub fn login(user: &str, database: &str, wanted: u32) -> Vec<u8> {
    let mut login = wanted.to_le_bytes().to_vec();
    login.extend_from_slice(&0x100_0000u32.to_le_bytes());
    login.push(45);
    login.extend_from_slice(&[0; 23]);
    login.extend_from_slice(user.as_bytes());
    login.extend_from_slice(&[0, 0]); // the end of the name; no password
    login.extend_from_slice(database.as_bytes());
    login.extend_from_slice(b"\0mysql_native_password\0");
    login
}

/// One connection of the server.
fn answer(wire: Wire, answered: &AtomicU64) -> Result<()> {
    let mut packets = Packets::new(wire);
    packets.put(&greeting(std::process::id()));
    packets.flush()?;
    let Some(login) = packets.read()? else { return Ok(()) };
    let wanted = login
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes);
    let classic = wanted & DEPRECATE_EOF == 0;
    packets.put(&ok_packet(0, 0, STATUS_AUTOCOMMIT));
    packets.flush()?;

    let mut statements: HashMap<u32, String> = HashMap::new();
    let mut last_id = 0;
    while let Some(payload) = packets.read()? {
        let Some((&code, body)) = payload.split_first() else {
            bail!("an empty command")
        };
        let statement_id = body
            .get(..4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes);
        match code {
            COM_QUIT => break,
            COM_STMT_CLOSE => {
                statements.remove(&statement_id);
                continue;
            }
            COM_QUERY => {
                let text = String::from_utf8_lossy(body).into_owned();
                wait(&text);
                answer_statement(&mut packets, &text, classic, false);
            }
            COM_STMT_PREPARE => {
                let text = String::from_utf8_lossy(body).into_owned();
                last_id += 1;
                let parameters = text.matches('?').count() as u16;
                let columns = if is_query(&text) { 2u16 } else { 0 };
                let mut reply = vec![0];
                reply.extend_from_slice(&u32::to_le_bytes(last_id));
                reply.extend_from_slice(&columns.to_le_bytes());
                reply.extend_from_slice(&parameters.to_le_bytes());
                reply.extend_from_slice(&[0, 0, 0]);
                packets.put(&reply);
                for _ in 0..parameters {
                    packets.put(&column("?", TYPE_VAR_STRING));
                }
                if parameters > 0 && classic {
                    packets.put(&eof(STATUS_AUTOCOMMIT));
                }
                if columns > 0 {
                    put_columns(&mut packets, classic, STATUS_AUTOCOMMIT);
                }
                statements.insert(last_id, text);
            }
            COM_STMT_EXECUTE => match statements.get(&statement_id).cloned() {
                Some(text) => {
                    wait(&text);
                    answer_statement(&mut packets, &text, classic, true);
                }
                None => packets.put(&error_packet()),
            },
            COM_STATISTICS => packets.put(b"Uptime: 1  Threads: 1  Questions: 1"),
            _ => packets.put(&ok_packet(0, 0, STATUS_AUTOCOMMIT)),
        }
        packets.flush()?;
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn wait(statement: &str) {
    match wish(statement, "delay_us") {
        0 => {}
        delay => thread::sleep(Duration::from_micros(delay)),
    }
}

fn is_query(statement: &str) -> bool {
    statement
        .trim_start()
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

fn eof(status: u16) -> Vec<u8> {
    let mut packet = vec![0xfe, 0, 0];
    packet.extend_from_slice(&status.to_le_bytes());
    packet
}

/// The two column definitions that every result set here has.
fn put_columns(packets: &mut Packets, classic: bool, status: u16) {
    packets.put(&column("id", TYPE_LONG));
    packets.put(&column("name", TYPE_VAR_STRING));
    if classic {
        packets.put(&eof(status));
    }
}

fn answer_statement(packets: &mut Packets, statement: &str, classic: bool, binary: bool) {
    if statement.contains("missing") {
        return packets.put(&error_packet());
    }
    if !is_query(statement) {
        let affected = if statement.starts_with("UPDATE") { 3 } else { 1 };
        return packets.put(&ok_packet(0, affected, STATUS_AUTOCOMMIT));
    }
    let (rows, size) = (wish(statement, "rows"), wish(statement, "size") as usize);
    let results = statement.matches(';').count().max(1);
    for result in 1..=results {
        let status = if result < results {
            STATUS_AUTOCOMMIT | STATUS_MORE_RESULTS
        } else {
            STATUS_AUTOCOMMIT
        };
        packets.put(&[2]);
        put_columns(packets, classic, status);
        for number in 0..rows {
            let mut row = Vec::new();
            // Every fifth row has no name.
            let name = (number % 5 != 4).then(|| crate::http::filler(size));
            if binary {
                // The NULL bitmap begins at bit 2.
                row.extend_from_slice(&[0, if name.is_none() { 1 << 3 } else { 0 }]);
                row.extend_from_slice(&(number as u32).to_le_bytes());
            } else {
                put_text(&mut row, number.to_string().as_bytes());
            }
            match name {
                Some(name) => put_text(&mut row, &name),
                None if binary => {}
                None => row.push(0xfb),
            }
            packets.put(&row);
        }
        packets.put(&if classic {
            eof(status)
        } else {
            ok_packet(0xfe, 0, status)
        });
    }
}

/// What was done.
#[derive(Default)]
struct Tally {
    connections: u64,
    commands: BTreeMap<&'static str, u64>,
    ok: u64,
    errors: u64,
    result_sets: u64,
    rows: u64,
    affected: u64,
    sent: u64,
    received: u64,
    latencies_us: Vec<u64>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        other
            .commands
            .into_iter()
            .for_each(|(key, n)| *self.commands.entry(key).or_default() += n);
        self.connections += other.connections;
        self.ok += other.ok;
        self.errors += other.errors;
        self.result_sets += other.result_sets;
        self.rows += other.rows;
        self.affected += other.affected;
        self.sent += other.sent;
        self.received += other.received;
        self.latencies_us.extend(other.latencies_us);
    }

    fn count(&mut self, command: &'static str) {
        *self.commands.entry(command).or_default() += 1;
    }
}

/// Sends the commands; the report says what was done.
pub fn run(plan: &Plan) -> Result<Value> {
    let server = Server::start(&plan.target, "serve-mysql", answer)?;
    let address = server.address();
    let started = Instant::now();
    let mut tally = Tally::default();
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..plan.connections)
            .map(|number| scope.spawn(move || client(plan, address, number)))
            .collect();
        for client in clients {
            tally.add(client.join().expect("a client does not panic")?);
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let server_pid = server.pid();
    drop(server);
    tally.latencies_us.sort_unstable();
    let percentile = |p: usize| {
        tally
            .latencies_us
            .get(tally.latencies_us.len() * p / 100)
            .copied()
            .unwrap_or(0)
    };
    Ok(json!({
        "mode": "mysql", "address": address.to_string(), "io": plan.target.io.name(), "seconds": seconds, "eof": plan.eof,
        "client_pid": std::process::id(), "server_pid": server_pid,
        "connections": tally.connections, "commands": tally.commands,
        "all_commands": tally.commands.values().sum::<u64>(),
        "ok": tally.ok, "errors": tally.errors, "result_sets": tally.result_sets, "rows": tally.rows,
        "affected_rows": tally.affected, "request_bytes": tally.sent, "response_bytes": tally.received,
        "delay_us": plan.delay_us, "client_p50_us": percentile(50), "client_p99_us": percentile(99),
    }))
}

/// What came back for a command.
enum Reply {
    Ok { affected: u64 },
    Error,
    Rows { sets: u64, rows: u64 },
}

/// One thread's share of the work, over one connection.
fn client(plan: &Plan, address: SocketAddr, number: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    if number >= plan.queries {
        return Ok(tally);
    }
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let mut packets = Packets::new(Wire::new(stream, plan.target.io)?);
    tally.connections = 1;
    let classic = log_in(&mut packets, plan)?;
    let mut prepared = None;
    let mut next = number;
    while next < plan.queries {
        let kind = plan.mix[(next % plan.mix.len() as u64) as usize];
        let started = Instant::now();
        work(&mut packets, plan, kind, next, classic, &mut prepared, &mut tally)?;
        tally.latencies_us.push(started.elapsed().as_micros() as u64);
        next += plan.connections;
    }
    if let Some(id) = prepared {
        packets.command(COM_STMT_CLOSE, &u32::to_le_bytes(id))?;
        tally.count("COM_STMT_CLOSE");
    }
    packets.command(COM_QUIT, b"")?;
    tally.count("COM_QUIT");
    // The server closes first, so that the last command is not lost in a reset.
    while packets.wire.fill()? {}
    tally.sent = packets.wire.sent;
    tally.received = packets.wire.received;
    Ok(tally)
}

/// The connection phase; whether result sets end with EOF packets.
fn log_in(packets: &mut Packets, plan: &Plan) -> Result<bool> {
    let greeting = packets.expect()?;
    if greeting.first() != Some(&10) {
        bail!("not the greeting of a MySQL server");
    }
    let version_end = greeting
        .iter()
        .position(|&b| b == 0)
        .context("the greeting has no version")?;
    // Thread id 4, salt 8, zero, capabilities low 2, charset, status 2, capabilities high 2.
    let at = version_end + 14;
    let low = greeting.get(at..at + 2).context("a short greeting")?;
    let high = greeting.get(at + 5..at + 7).context("a short greeting")?;
    let offered = u32::from_le_bytes([low[0], low[1], high[0], high[1]]);
    let wanted = if plan.eof {
        CAPABILITIES
    } else {
        CAPABILITIES | DEPRECATE_EOF & offered
    };
    packets.put(&login(&plan.user, &plan.database, wanted));
    packets.flush()?;
    match packets.expect()?.first() {
        Some(0) => Ok(wanted & DEPRECATE_EOF == 0),
        _ => bail!("the server refuses the login of {}", plan.user),
    }
}

fn work(
    packets: &mut Packets,
    plan: &Plan,
    kind: Kind,
    number: u64,
    classic: bool,
    prepared: &mut Option<u32>,
    tally: &mut Tally,
) -> Result<()> {
    let rows = if kind == Kind::Huge { 1 } else { plan.rows };
    let size = if kind == Kind::Huge { 17 << 20 } else { plan.row_size };
    let wishes = format!("/* rows={rows} size={size} delay_us={} */", plan.delay_us);
    let select = format!("SELECT {wishes} id, name FROM items WHERE id > {number}");
    let execute = |packets: &mut Packets, id: u32, tally: &mut Tally| -> Result<()> {
        let mut body = id.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 1, 0, 0, 0]); // no cursor; one iteration
        body.extend_from_slice(&[0, 1, TYPE_LONG, 0]); // no NULLs; types follow; one LONG
        body.extend_from_slice(&(number as u32).to_le_bytes());
        packets.command(COM_STMT_EXECUTE, &body)?;
        tally.count("COM_STMT_EXECUTE");
        reply(packets, classic, tally)
    };
    let prepare = |packets: &mut Packets, tally: &mut Tally| -> Result<u32> {
        let text = format!("SELECT {wishes} id, name FROM items WHERE id > ?");
        packets.command(COM_STMT_PREPARE, text.as_bytes())?;
        tally.count("COM_STMT_PREPARE");
        let first = packets.expect()?;
        let field = |at: usize| first.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let (columns, parameters) = (field(5), field(7));
        if first.first() != Some(&0) {
            bail!("the server refuses to prepare");
        }
        for count in [parameters, columns] {
            for _ in 0..count + u16::from(classic && count > 0) {
                packets.expect()?;
            }
        }
        tally.ok += 1;
        Ok(u32::from_le_bytes([first[1], first[2], first[3], first[4]]))
    };
    let simple = |packets: &mut Packets, code: u8, body: &[u8], name: &'static str, tally: &mut Tally| {
        packets.command(code, body)?;
        tally.count(name);
        reply(packets, classic, tally)
    };
    match kind {
        Kind::Select | Kind::Huge => simple(packets, COM_QUERY, select.as_bytes(), "COM_QUERY", tally),
        Kind::Multi => simple(
            packets,
            COM_QUERY,
            format!("{select}; {select};").as_bytes(),
            "COM_QUERY",
            tally,
        ),
        Kind::Insert => {
            let text = format!("INSERT {wishes} INTO items VALUES ({number}, 'thing {number}')");
            simple(packets, COM_QUERY, text.as_bytes(), "COM_QUERY", tally)
        }
        Kind::Update => {
            let text = format!("UPDATE {wishes} items SET name = 'thing' WHERE id = {number}");
            simple(packets, COM_QUERY, text.as_bytes(), "COM_QUERY", tally)
        }
        Kind::Error => simple(packets, COM_QUERY, b"SELECT id FROM missing", "COM_QUERY", tally),
        Kind::Ping => simple(packets, COM_PING, b"", "COM_PING", tally),
        Kind::InitDb => simple(packets, COM_INIT_DB, plan.database.as_bytes(), "COM_INIT_DB", tally),
        Kind::Statistics => {
            packets.command(COM_STATISTICS, b"")?;
            tally.count("COM_STATISTICS");
            packets.expect().map(drop)
        }
        Kind::Prepared => {
            let id = match *prepared {
                Some(id) => id,
                None => *prepared.insert(prepare(packets, tally)?),
            };
            execute(packets, id, tally)
        }
        Kind::PrepareEach => {
            let id = prepare(packets, tally)?;
            execute(packets, id, tally)?;
            packets.command(COM_STMT_CLOSE, &id.to_le_bytes())?;
            tally.count("COM_STMT_CLOSE");
            Ok(())
        }
    }
}

fn reply(packets: &mut Packets, classic: bool, tally: &mut Tally) -> Result<()> {
    match read_reply(packets, classic)? {
        Reply::Ok { affected } => {
            tally.ok += 1;
            tally.affected += affected;
        }
        Reply::Error => tally.errors += 1,
        Reply::Rows { sets, rows } => {
            tally.result_sets += sets;
            tally.rows += rows;
        }
    }
    Ok(())
}

fn read_reply(packets: &mut Packets, classic: bool) -> Result<Reply> {
    let (mut sets, mut all_rows) = (0, 0);
    loop {
        let first = packets.expect()?;
        match first.first() {
            Some(0) => {
                let affected = length(&first[1..]).map_or(0, |(n, _)| n);
                return Ok(if sets == 0 {
                    Reply::Ok { affected }
                } else {
                    Reply::Rows { sets, rows: all_rows }
                });
            }
            Some(0xff) => return Ok(Reply::Error),
            _ => {}
        }
        let (columns, _) = length(&first).context("no column count")?;
        for _ in 0..columns + u64::from(classic) {
            packets.expect()?;
        }
        sets += 1;
        loop {
            let row = packets.expect()?;
            match row.first() {
                Some(0xff) => return Ok(Reply::Error),
                Some(0xfe) if row.len() < MAX_PACKET && (!classic || row.len() < 9) => {
                    let at = if classic {
                        3
                    } else {
                        let rest = length(&row[1..])
                            .and_then(|(_, rest)| length(rest))
                            .map_or(0, |(_, rest)| rest.len());
                        row.len() - rest
                    };
                    let status = row.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
                    if status & STATUS_MORE_RESULTS == 0 {
                        return Ok(Reply::Rows { sets, rows: all_rows });
                    }
                    break;
                }
                _ => all_rows += 1,
            }
        }
    }
}

/// The server alone: says where it listens, serves until standard input ends, then says how much it did.
pub fn serve_until_eof(plan: &Serve) -> Result<Value> {
    serve(plan, answer)
}
