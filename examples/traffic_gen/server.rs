//! Where a server runs: in threads of this process, in a process of its own, or elsewhere.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process;
use crate::wire::{Io, Wire};

/// Where a server listens.
#[derive(clap::Args, Clone)]
pub struct Listen {
    /// Address of the own server.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Port of the own server; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

impl Listen {
    pub fn bind(&self) -> Result<TcpListener> {
        let address = SocketAddr::new(self.address, self.port);
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
    }
}

/// Whom a client talks to, and how.
#[derive(clap::Args, Clone)]
pub struct Target {
    #[command(flatten)]
    pub listen: Listen,
    /// Use this server instead of an own one.
    #[arg(long)]
    pub connect: Option<SocketAddr>,
    /// Run the own server as a process of its own.
    #[arg(long)]
    pub separate: bool,
    /// Which system calls carry the client's and the own server's bytes.
    #[arg(long, value_enum, default_value_t = Io::Plain)]
    pub io: Io,
}

/// A server alone.
#[derive(clap::Args)]
pub struct Serve {
    #[command(flatten)]
    listen: Listen,
    /// Which system calls carry the bytes.
    #[arg(long, value_enum, default_value_t = Io::Plain)]
    io: Io,
}

/// What a server does with one connection; it counts what it has answered.
pub type Answer = fn(Wire, &AtomicU64) -> Result<()>;

/// A server that a client can be sent to; dropping it ends it, where it is ours.
pub enum Server {
    CrossHost(SocketAddr),
    Threads(Listener),
    Process(SocketAddr, process::Child),
}

impl Server {
    /// Starts what the target asks for; `command` is the subcommand that serves alone.
    pub fn start(target: &Target, command: &str, answer: Answer) -> Result<Self> {
        target.io.check()?;
        Ok(match target.connect {
            Some(address) => Server::CrossHost(address),
            None if target.separate => {
                let (address, child) = process::server(command, &target.listen, target.io)?;
                Server::Process(address, child)
            }
            None => Server::Threads(Listener::start(target.listen.bind()?, target.io, answer)?),
        })
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Server::CrossHost(address) | Server::Process(address, _) => *address,
            Server::Threads(listener) => listener.address,
        }
    }

    /// The server's process; 0 when it is not ours.
    pub fn pid(&self) -> u32 {
        match self {
            Server::CrossHost(_) => 0,
            Server::Threads(_) => std::process::id(),
            Server::Process(_, child) => child.id(),
        }
    }
}

/// Accepts connections, one thread each, until dropped.
pub struct Listener {
    address: SocketAddr,
    socket: TcpListener,
    answered: Arc<AtomicU64>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Listener {
    fn start(listener: TcpListener, io: Io, answer: Answer) -> Result<Self> {
        let address = listener.local_addr()?;
        let answered = Arc::new(AtomicU64::new(0));
        let (socket, counter) = (listener.try_clone()?, answered.clone());
        let acceptor = thread::spawn(move || {
            let mut workers: Vec<thread::JoinHandle<()>> = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                // A finished thread keeps its stack until its handle is gone.
                workers.retain(|worker| !worker.is_finished());
                let count = counter.clone();
                workers.push(thread::spawn(move || {
                    let served = Wire::new(stream, io).and_then(|wire| answer(wire, &count));
                    if let Err(error) = served {
                        // A client that goes away in the middle is the client's business.
                        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                        if !matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)) {
                            eprintln!("traffic_gen: server: {error:#}");
                        }
                    }
                }));
            }
            for worker in workers {
                let _ = worker.join();
            }
        });
        Ok(Listener {
            address,
            socket,
            answered,
            acceptor: Some(acceptor),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Wakes the acceptor out of accept without a connection that a capture would count.
        // SAFETY: the descriptor is open; shutdown touches nothing else.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Says where it listens, serves until standard input ends, then says how much it did.
pub fn serve(plan: &Serve, answer: Answer) -> Result<Value> {
    let listener = Listener::start(plan.listen.bind()?, plan.io, answer)?;
    println!(
        "{}",
        json!({ "listening": listener.address.to_string(), "pid": std::process::id() })
    );
    io::stdin().read_to_end(&mut Vec::new())?;
    let answered = listener.answered.clone();
    drop(listener);
    Ok(json!({ "answered": answered.load(Ordering::Relaxed) }))
}
