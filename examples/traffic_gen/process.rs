//! Processes: short-lived ones, servers of their own, and the demonstration that starts a bit of everything.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::server::Listen;
use crate::wire::{Io, Wire};

/// A server process; ends when dropped.
pub struct Child {
    child: std::process::Child,
    /// Kept open, so that its last words do not break a pipe.
    _output: BufReader<ChildStdout>,
}

impl Child {
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// This program again.
fn again() -> Result<Command> {
    Ok(Command::new(
        std::env::current_exe().context("cannot find this program")?,
    ))
}

/// Starts a server as a process of its own; where it listens.
pub fn server(command: &str, listen: &Listen, io: Io) -> Result<(SocketAddr, Child)> {
    let (address, port) = (listen.address.to_string(), listen.port.to_string());
    let mut child = again()?
        .args([command, "--address", &address, "--port", &port, "--io", io.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the server")?;
    let output = child.stdout.take().context("the server has no output")?;
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let child = Child { child, _output: output };
    let said: Value = serde_json::from_str(&line).context("the server does not say where it listens")?;
    let address = said["listening"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .context("no address")?;
    Ok((address, child))
}

#[derive(clap::Args)]
pub struct Spawn {
    /// How many processes, one after the other.
    #[arg(short = 'n', long, default_value_t = 100)]
    count: u64,
    /// Each sends one request to a server of ours before it ends.
    #[arg(long)]
    request: bool,
    /// How many of them are killed by SIGKILL instead of ending by themselves.
    #[arg(long, default_value_t = 0)]
    killed: u64,
    /// Run this program (without arguments) instead of our own.
    #[arg(long)]
    program: Option<String>,
}

pub fn spawn(plan: &Spawn) -> Result<Value> {
    let listen = Listen {
        address: [127, 0, 0, 1].into(),
        port: 0,
    };
    let server = if plan.request {
        Some(server("serve-http", &listen, Io::Plain)?)
    } else {
        None
    };
    let (mut codes, mut signals) = ([0u64; 4], 0u64);
    for number in 0..plan.count {
        let mut command = match &plan.program {
            Some(program) => Command::new(program),
            None => {
                let mut command = again()?;
                command.args([
                    "noop",
                    "--number",
                    &number.to_string(),
                    "--exit-code",
                    &(number % 3).to_string(),
                ]);
                if let Some((address, _)) = &server {
                    command.args(["--connect", &address.to_string()]);
                }
                if number < plan.killed {
                    command.arg("--die");
                }
                command
            }
        };
        let status = command
            .stdout(Stdio::null())
            .status()
            .context("cannot start a process")?;
        match status.code() {
            Some(code) => codes[code.clamp(0, 3) as usize] += 1,
            None => signals += 1,
        }
    }
    Ok(json!({
        "mode": "spawn", "processes": plan.count, "exit_0": codes[0], "exit_1": codes[1], "exit_2": codes[2],
        "exit_other": codes[3], "signals": signals, "requests": if plan.request { plan.count } else { 0 },
        "servers": u64::from(plan.request),
    }))
}

#[derive(clap::Args)]
pub struct Noop {
    /// Tells the processes apart.
    #[arg(long)]
    number: u64,
    #[arg(long, default_value_t = 0)]
    exit_code: u8,
    /// Send one request there first.
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// End by SIGKILL.
    #[arg(long)]
    die: bool,
}

pub fn noop(plan: &Noop) -> Result<Value> {
    if let Some(address) = plan.connect {
        let mut wire = Wire::new(TcpStream::connect(address)?, Io::Plain)?;
        let head = format!("GET /short/{}?size=2 HTTP/1.1\r\nHost: {address}\r\n\r\n", plan.number);
        wire.send(head.as_bytes())?;
        wire.take_until(b"\r\n\r\n")?.context("no answer")?;
        wire.skip(2)?;
    }
    if plan.die {
        // SAFETY: a signal to ourselves.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    Ok(json!({ "number": plan.number, "exit_code": plan.exit_code }))
}

#[derive(clap::Args)]
pub struct Demo {
    /// How much of everything.
    #[arg(long, default_value_t = 1)]
    scale: u64,
}

pub fn demo(plan: &Demo) -> Result<Value> {
    let n = |count: u64| (count * plan.scale.max(1)).to_string();
    let (web, api, queries, short) = (n(400), n(60), n(300), n(20));
    let parts: [&[&str]; 7] = [
        &[
            "http",
            "--separate",
            "-n",
            &web,
            "-c",
            "4",
            "--delay-us",
            "2000",
            "--paths",
            "5",
        ],
        &[
            "http",
            "--separate",
            "-n",
            &api,
            "-c",
            "2",
            "--mix",
            "post,get,chunked,head,missing,error,empty",
        ],
        &[
            "http",
            "--separate",
            "-n",
            "12",
            "-c",
            "2",
            "--pipeline",
            "3",
            "--address",
            "::1",
        ],
        &[
            "mysql",
            "--separate",
            "-n",
            &queries,
            "-c",
            "3",
            "--delay-us",
            "1000",
            "--mix",
            "select,prepared,insert,select",
        ],
        &[
            "mysql",
            "--separate",
            "-n",
            "20",
            "-c",
            "1",
            "--eof",
            "--mix",
            "update,error,multi,prepare-each,ping",
        ],
        &["spawn", "-n", &short, "--request"],
        &["fail", "--refused", "3", "--reset", "2"],
    ];
    let mut reports = Vec::new();
    let mut running = Vec::new();
    for part in parts {
        // A machine without IPv6 shows the rest.
        if part.contains(&"::1") && std::net::TcpListener::bind("[::1]:0").is_err() {
            continue;
        }
        running.push((part, again()?.args(part).stdout(Stdio::piped()).spawn()?));
    }
    for (part, child) in running {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{} failed", part.join(" "));
        }
        reports.push(serde_json::from_slice::<Value>(&output.stdout)?);
    }
    let sum = |mode: &str, field: &str| -> u64 {
        reports
            .iter()
            .filter(|part| mode.is_empty() || part["mode"] == mode)
            .filter_map(|part| part[field].as_u64())
            .sum()
    };
    Ok(json!({
        "mode": "demo", "http_requests": sum("", "requests") + sum("fail", "reset"),
        "mysql_commands": sum("mysql", "all_commands"), "processes": sum("spawn", "processes"),
        "refused": sum("fail", "refused"), "parts": reports,
    }))
}
