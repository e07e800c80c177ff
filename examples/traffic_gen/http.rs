//! HTTP/1.1 (RFC 9110, 9112): a server that does what the request's query string says, and a client that counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::server::{Serve, Server, Target, serve};
use crate::wire::Wire;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Get,
    Head,
    /// With a body of --request-size and a Content-Length.
    Post,
    /// With a chunked body of --request-size.
    PostChunked,
    /// GET whose answer is chunked, with an extension and a trailer.
    Chunked,
    /// GET whose answer ends with the connection.
    UntilClose,
    /// GET answered 204.
    Empty,
    /// GET answered 304.
    NotModified,
    /// GET answered 404.
    Missing,
    /// GET answered 500.
    Error,
    /// POST that waits for 100 (Continue) before it sends its body.
    Continue,
}

impl Kind {
    fn method(self) -> &'static str {
        match self {
            Kind::Head => "HEAD",
            Kind::Post | Kind::PostChunked | Kind::Continue => "POST",
            _ => "GET",
        }
    }

    fn status(self) -> u16 {
        match self {
            Kind::Empty => 204,
            Kind::NotModified => 304,
            Kind::Missing => 404,
            Kind::Error => 500,
            _ => 200,
        }
    }
}

#[derive(clap::Args, Clone)]
pub struct Plan {
    #[command(flatten)]
    pub target: Target,
    /// Requests in all.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub requests: u64,
    /// Connections at the same time, one thread each.
    #[arg(short, long, default_value_t = 4)]
    pub connections: u64,
    /// Open a new connection after this many requests; 0: never.
    #[arg(long, default_value_t = 0)]
    pub per_connection: u64,
    /// Requests sent before the first answer is read.
    #[arg(long, default_value_t = 1)]
    pub pipeline: u64,
    /// Kinds of requests, taken in turn.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "get")]
    pub mix: Vec<Kind>,
    /// Body bytes of a POST.
    #[arg(long, default_value_t = 64)]
    pub request_size: usize,
    /// Body bytes of an answer.
    #[arg(long, default_value_t = 256)]
    pub response_size: usize,
    /// How long the server waits before each answer, microseconds.
    #[arg(long, default_value_t = 0)]
    pub delay_us: u64,
    /// How many different paths are asked for.
    #[arg(long, default_value_t = 10)]
    pub paths: u64,
}

/// What was done.
#[derive(Default)]
struct Tally {
    connections: u64,
    methods: BTreeMap<&'static str, u64>,
    statuses: BTreeMap<String, u64>,
    informational: u64,
    sent: u64,
    received: u64,
    latencies_us: Vec<u64>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.connections += other.connections;
        self.informational += other.informational;
        self.sent += other.sent;
        self.received += other.received;
        self.latencies_us.extend(other.latencies_us);
        other
            .methods
            .into_iter()
            .for_each(|(key, n)| *self.methods.entry(key).or_default() += n);
        other
            .statuses
            .into_iter()
            .for_each(|(key, n)| *self.statuses.entry(key).or_default() += n);
    }
}

/// Sends the requests; the report says what was done.
pub fn run(plan: &Plan) -> Result<Value> {
    if plan.mix.contains(&Kind::Continue) && plan.pipeline > 1 {
        bail!("a request that waits for 100 (Continue) cannot be pipelined");
    }
    let server = Server::start(&plan.target, "serve-http", answer)?;
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
    let requests: u64 = tally.methods.values().sum();
    tally.latencies_us.sort_unstable();
    let percentile = |p: usize| {
        tally
            .latencies_us
            .get(tally.latencies_us.len() * p / 100)
            .copied()
            .unwrap_or(0)
    };
    Ok(json!({
        "mode": "http", "address": address.to_string(), "io": plan.target.io.name(), "seconds": seconds,
        "client_pid": std::process::id(), "server_pid": server_pid,
        "connections": tally.connections, "requests": requests, "responses": requests,
        "informational": tally.informational, "methods": tally.methods, "statuses": tally.statuses,
        "request_bytes": tally.sent, "response_bytes": tally.received, "delay_us": plan.delay_us,
        "client_p50_us": percentile(50), "client_p99_us": percentile(99),
    }))
}

/// One thread's share: requests `number`, `number + connections`, …
fn client(plan: &Plan, address: SocketAddr, number: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut next = number;
    let per_connection = if plan.per_connection == 0 {
        u64::MAX
    } else {
        plan.per_connection
    };
    while next < plan.requests {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        let mut wire = Wire::new(stream, plan.target.io)?;
        tally.connections += 1;
        let mut left = per_connection;
        let mut open = true;
        while open && left > 0 && next < plan.requests {
            let mut batch = Vec::new();
            let mut bytes = Vec::new();
            while (batch.len() as u64) < plan.pipeline.max(1).min(left) && next < plan.requests {
                let kind = plan.mix[(next % plan.mix.len() as u64) as usize];
                bytes.extend_from_slice(&request(plan, kind, next, address));
                batch.push(kind);
                next += plan.connections;
                if kind == Kind::UntilClose {
                    break; // nothing can follow it
                }
            }
            left -= batch.len() as u64;
            let asked = Instant::now();
            wire.send(&bytes)?;
            for kind in batch {
                let (status, closes) = response(&mut wire, kind, plan, &mut tally)?;
                tally.latencies_us.push(asked.elapsed().as_micros() as u64);
                if status != kind.status() && plan.target.connect.is_none() {
                    bail!("status {status} for {kind:?}");
                }
                *tally.methods.entry(kind.method()).or_default() += 1;
                *tally.statuses.entry(status.to_string()).or_default() += 1;
                open &= !closes;
            }
        }
        tally.sent += wire.sent;
        tally.received += wire.received;
    }
    Ok(tally)
}

fn request(plan: &Plan, kind: Kind, number: u64, address: SocketAddr) -> Vec<u8> {
    let mut head = format!(
        "{} /items/{}?size={}",
        kind.method(),
        number % plan.paths.max(1),
        plan.response_size
    );
    if plan.delay_us > 0 {
        let _ = write!(head, "&delay_us={}", plan.delay_us);
    }
    match kind {
        Kind::Chunked => head.push_str("&chunked=1"),
        Kind::UntilClose => head.push_str("&until_close=1"),
        _ if kind.status() != 200 => {
            let _ = write!(head, "&status={}", kind.status());
        }
        _ => {}
    }
    let _ = write!(
        head,
        " HTTP/1.1\r\nHost: {address}\r\nUser-Agent: traffic_gen\r\nX-Request: {number}\r\n"
    );
    let mut body = Vec::new();
    match kind {
        Kind::Post => {
            let _ = write!(head, "Content-Length: {}\r\n", plan.request_size);
            body = filler(plan.request_size);
        }
        Kind::PostChunked => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            body = chunked(&filler(plan.request_size));
        }
        Kind::Continue => {
            let _ = write!(
                head,
                "Content-Length: {}\r\nExpect: 100-continue\r\n",
                plan.request_size
            );
        }
        _ => {}
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.append(&mut body);
    bytes
}

/// Reads one response; its status, and whether the connection ends with it.
fn response(wire: &mut Wire, kind: Kind, plan: &Plan, tally: &mut Tally) -> Result<(u16, bool)> {
    loop {
        let Some(head) = wire.take_until(b"\r\n\r\n")? else {
            bail!("the server closed before it answered")
        };
        let head = String::from_utf8(head)?;
        let status: u16 = head
            .split(' ')
            .nth(1)
            .unwrap_or("")
            .parse()
            .context("no status in the response")?;
        if status == 100 {
            tally.informational += 1;
            wire.send(&filler(plan.request_size))?;
            continue;
        }
        let closes = header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if kind == Kind::Head || status == 204 || status == 304 {
            return Ok((status, closes));
        }
        if header(&head, "transfer-encoding").is_some() {
            skip_chunked(wire)?;
        } else if let Some(len) = header(&head, "content-length") {
            wire.skip(len.parse()?)?;
        } else {
            while wire.fill()? {
                wire.consume(wire.pending().len());
            }
            return Ok((status, true));
        }
        return Ok((status, closes));
    }
}

/// The value of a header field, by its lower-case name.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn skip_chunked(wire: &mut Wire) -> Result<()> {
    loop {
        let line = wire.take_until(b"\r\n")?.context("the body ends in the middle")?;
        let line = String::from_utf8(line)?;
        let size = line.trim().split(';').next().unwrap_or("");
        let size = usize::from_str_radix(size, 16).context("no chunk size")?;
        if size == 0 {
            break;
        }
        wire.skip(size + 2)?;
    }
    // Trailers, up to an empty line.
    while wire
        .take_until(b"\r\n")?
        .context("the trailers end in the middle")?
        .len()
        > 2
    {}
    Ok(())
}

/// Text of this length, not too easy to compress.
pub fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + ((i * i / 7 + i / 26) % 26) as u8).collect()
}

/// The body in a few chunks, one of them with an extension, and with a trailer.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, chunk) in body.chunks((body.len() / 3).max(1)).enumerate() {
        let extension = if i == 1 { ";part=1" } else { "" };
        bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nX-Checksum: none\r\n\r\n");
    bytes
}

/// Answers requests until the client closes.
fn answer(mut wire: Wire, answered: &AtomicU64) -> Result<()> {
    while let Some(head) = wire.take_until(b"\r\n\r\n")? {
        let head = String::from_utf8(head)?;
        let mut words = head.lines().next().unwrap_or("").split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if header(&head, "expect").is_some() {
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if header(&head, "transfer-encoding").is_some() {
            skip_chunked(&mut wire)?;
        } else if let Some(len) = header(&head, "content-length") {
            wire.skip(len.parse()?)?;
        }
        let option = |name: &str| -> u64 {
            let query = target.split_once('?').map_or("", |(_, query)| query);
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(key, _)| *key == name)
                .find_map(|(_, value)| value.parse().ok())
                .unwrap_or(0)
        };
        match option("delay_us") {
            0 => {}
            delay => thread::sleep(Duration::from_micros(delay)),
        }
        let (status, size) = (option("status").max(200) as u16, option("size") as usize);
        let mut reply = format!("HTTP/1.1 {status} {}\r\nServer: traffic_gen\r\n", reason(status)).into_bytes();
        let bodiless = status == 204 || status == 304;
        let until_close = option("until_close") == 1;
        let asked_to_close = header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if until_close || asked_to_close {
            reply.extend_from_slice(b"Connection: close\r\n");
        }
        let body = filler(size);
        if bodiless {
            reply.extend_from_slice(b"\r\n");
        } else if option("chunked") == 1 {
            reply.extend_from_slice(b"Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n");
            if method != "HEAD" {
                reply.extend_from_slice(&chunked(&body));
            }
        } else {
            if !until_close {
                reply.extend_from_slice(format!("Content-Length: {size}\r\n").as_bytes());
            }
            reply.extend_from_slice(b"Content-Type: text/plain\r\n\r\n");
            if method != "HEAD" {
                reply.extend_from_slice(&body);
            }
        }
        wire.send(&reply)?;
        answered.fetch_add(1, Ordering::Relaxed);
        if until_close || asked_to_close {
            break;
        }
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        404 => "Not Found",
        500 => "Internal Server Error",
        _ => "Other",
    }
}

/// The server alone: says where it listens, serves until standard input ends, then says how much it did.
pub fn serve_until_eof(plan: &Serve) -> Result<Value> {
    serve(plan, answer)
}
