//! What goes wrong or stands still: failed connects, resets, threads that wait in recv.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::server::Listen;
use crate::sys;
use crate::wire::{Io, Wire};

#[derive(clap::Args)]
pub struct Fail {
    #[command(flatten)]
    listen: Listen,
    /// Connects to a port where nobody listens.
    #[arg(long, default_value_t = 0)]
    refused: u64,
    /// Connects to a listener whose queue is full; these take a few seconds, at the same time.
    #[arg(long, default_value_t = 0)]
    timed_out: u64,
    /// Connections that the server resets after it has read one request.
    #[arg(long, default_value_t = 0)]
    reset: u64,
}

pub fn fail(plan: &Fail) -> Result<Value> {
    let address = SocketAddr::new(plan.listen.address, plan.listen.port);
    Ok(json!({
        "mode": "fail",
        "refused": refused(address, plan.refused)?,
        "timed_out": timed_out(address, plan.timed_out)?,
        "reset": reset(plan)?,
    }))
}

fn refused(address: SocketAddr, count: u64) -> Result<u64> {
    // Bound and not listening: nobody else can take the port meanwhile.
    let socket = sys::tcp_socket(address)?;
    sys::bind(&socket, address)?;
    let (address, _socket) = sys::local_address(socket)?;
    for _ in 0..count {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            other => bail!("expected a refused connect, got {other:?}"),
        }
    }
    Ok(count)
}

fn timed_out(address: SocketAddr, count: u64) -> Result<u64> {
    if count == 0 {
        return Ok(0);
    }
    let listener = sys::tcp_socket(address)?;
    sys::bind(&listener, address)?;
    sys::listen(&listener, 0)?;
    let (address, _listener) = sys::local_address(listener)?;
    // A queue of length 0 takes one connection; every later SYN is dropped.
    let _first = TcpStream::connect(address)?;
    let attempt = || -> Result<u64> {
        let socket = sys::tcp_socket(address)?;
        sys::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &1i32)?;
        match sys::connect(&socket, address) {
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(1),
            other => bail!("expected a connect that times out, got {other:?}"),
        }
    };
    thread::scope(|scope| {
        let attempts: Vec<_> = (0..count).map(|_| scope.spawn(attempt)).collect();
        attempts
            .into_iter()
            .map(|attempt| attempt.join().expect("an attempt does not panic"))
            .sum()
    })
}

fn reset(plan: &Fail) -> Result<u64> {
    if plan.reset == 0 {
        return Ok(0);
    }
    let listener = plan.listen.bind()?;
    let address = listener.local_addr()?;
    for number in 0..plan.reset {
        let mut client = Wire::new(TcpStream::connect(address)?, Io::Plain)?;
        let (server, _) = listener.accept()?;
        client.send(format!("GET /reset/{number} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut server = Wire::new(server, Io::Plain)?;
        server.take_until(b"\r\n\r\n")?;
        sys::reset_on_close(server.stream())?;
        drop(server);
        match client.fill() {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => bail!("expected a reset connection, got {other:?}"),
        }
    }
    Ok(plan.reset)
}

#[derive(clap::Args)]
pub struct Blocked {
    #[command(flatten)]
    listen: Listen,
    /// Threads that wait in recv at the same time.
    #[arg(long, default_value_t = 64)]
    threads: u32,
    /// How often each waits and is released.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Which system calls carry the bytes.
    #[arg(long, value_enum, default_value_t = Io::Send)]
    io: Io,
}

/// Holds threads until the round that they wait for is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<u32>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self, round: u32) {
        let open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        drop(
            self.changed
                .wait_while(open, |open| *open <= round)
                .unwrap_or_else(|e| e.into_inner()),
        );
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(|e| e.into_inner()) += 1;
        self.changed.notify_all();
    }
}

/// The threads of one side, and how many are on their way into recv.
#[derive(Default)]
struct Crowd {
    ids: Mutex<Vec<u32>>,
    about_to_receive: AtomicU32,
}

impl Crowd {
    fn enter(&self) {
        self.ids
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(sys::thread_id());
    }

    /// Waits until `count` threads have said that they go to receive, and all of them sleep.
    fn wait_until_asleep(&self, count: u32) -> Result<()> {
        let started = Instant::now();
        loop {
            if self.about_to_receive.load(Ordering::Acquire) == count {
                let ids = self.ids.lock().unwrap_or_else(|e| e.into_inner()).clone();
                if ids.iter().all(|&id| sleeps(id)) {
                    return Ok(());
                }
            }
            if started.elapsed().as_secs() > 60 {
                bail!("the threads do not come to rest");
            }
            thread::yield_now();
        }
    }
}

fn sleeps(thread: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    // The name stands in parentheses and may contain anything; the state follows the last one.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

pub fn blocked(plan: &Blocked) -> Result<Value> {
    plan.io.check()?;
    let listener: TcpListener = plan.listen.bind()?;
    let address = listener.local_addr()?;
    let (ask, reply) = (Gate::default(), Gate::default());
    let (clients, servers) = (Crowd::default(), Crowd::default());
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let client = |number: u32, stream: TcpStream| -> Result<()> {
        clients.enter();
        let mut wire = Wire::new(stream, plan.io)?;
        for round in 0..plan.rounds {
            ask.pass(round);
            let head = format!("GET /wait/{round}?thread={number} HTTP/1.1\r\nHost: {address}\r\n\r\n");
            wire.send(head.as_bytes())?;
            clients.about_to_receive.fetch_add(1, Ordering::Release);
            wire.take_until(b"released")?.context("the server closed")?;
        }
        sent.fetch_add(wire.sent, Ordering::Relaxed);
        received.fetch_add(wire.received, Ordering::Relaxed);
        Ok(())
    };
    let server = |stream: TcpStream| -> Result<()> {
        servers.enter();
        let mut wire = Wire::new(stream, plan.io)?;
        for round in 0..plan.rounds {
            servers.about_to_receive.fetch_add(1, Ordering::Release);
            wire.take_until(b"\r\n\r\n")?.context("the client closed")?;
            reply.pass(round);
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nreleased")?;
        }
        // The client closes first.
        while wire.fill()? {}
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let mut threads = Vec::new();
        for number in 0..plan.threads {
            let stream = TcpStream::connect(address)?;
            let (accepted, _) = listener.accept()?;
            threads.push(scope.spawn(move || server(accepted)));
            threads.push(scope.spawn(move || client(number, stream)));
        }
        for round in 0..plan.rounds {
            servers.wait_until_asleep(plan.threads * (round + 1))?;
            ask.open();
            clients.wait_until_asleep(plan.threads * (round + 1))?;
            reply.open();
        }
        for thread in threads {
            thread.join().expect("a thread does not panic")?;
        }
        Ok(())
    })?;
    Ok(json!({
        "mode": "blocked", "io": plan.io.name(), "address": address.to_string(),
        "connections": plan.threads, "requests": plan.threads * plan.rounds,
        "request_bytes": sent.into_inner(), "response_bytes": received.into_inner(),
    }))
}
