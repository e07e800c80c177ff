//! Makes traffic with known counts: real sockets, real protocols, or whole synthetic captures.
//!
//! Each command prints one JSON object that says exactly what was done, so that a test can demand the same numbers
//! from a capture. Small and without heavy dependencies, so that it runs in a bare initramfs.
#![allow(clippy::expect_used, reason = "a program of the tests")]
#![allow(unsafe_code, reason = "calls to the C library")]

mod fail;
mod group;
mod http;
mod mysql;
mod pcap;
mod process;
mod server;
mod synth;
mod sys;
mod uring;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use server::Serve;

/// Make traffic with known counts; print as JSON what was done.
#[derive(Parser)]
struct Cli {
    /// Do it in this cgroup (version 2), made for it and removed afterwards; relative: below the own one.
    #[arg(long, global = true)]
    cgroup: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// HTTP/1.1 requests to an own server, or to one given by --connect.
    Http(http::Plan),
    /// The HTTP server alone, until standard input ends.
    ServeHttp(Serve),
    /// MySQL commands to an own server, or to one given by --connect.
    Mysql(mysql::Plan),
    /// The MySQL server alone, until standard input ends.
    ServeMysql(Serve),
    /// Threads that all block in recv until their answers are released together.
    Blocked(fail::Blocked),
    /// Connects that are refused or time out, connections that are reset.
    Fail(fail::Fail),
    /// Short-lived processes.
    Spawn(process::Spawn),
    /// A short-lived process: one request if told to, then exit.
    Noop(process::Noop),
    /// A bit of everything, each part in processes of its own: the demonstration workload.
    Demo(process::Demo),
    /// Write a synthetic capture file.
    Synth(synth::Synth),
}

fn run(cli: Cli) -> Result<Value> {
    let _group = cli.cgroup.as_deref().map(group::Joined::join).transpose()?;
    match cli.command {
        Command::Http(plan) => http::run(&plan),
        Command::ServeHttp(serve) => http::serve_until_eof(&serve),
        Command::Mysql(plan) => mysql::run(&plan),
        Command::ServeMysql(serve) => mysql::serve_until_eof(&serve),
        Command::Blocked(plan) => fail::blocked(&plan),
        Command::Fail(plan) => fail::fail(&plan),
        Command::Spawn(plan) => process::spawn(&plan),
        Command::Noop(plan) => process::noop(&plan),
        Command::Demo(plan) => process::demo(&plan),
        Command::Synth(plan) => synth::run(&plan),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(Value::Null) => ExitCode::SUCCESS,
        Ok(report) => {
            // Whoever does not read the report has no use for it.
            let _ = writeln!(std::io::stdout(), "{report}");
            // A short-lived process says in its report which code it ends with.
            ExitCode::from(report["exit_code"].as_u64().unwrap_or(0) as u8)
        }
        // What the kernel does not have is no failure of the workload; the reader of the JSON decides.
        Err(error) if error.is::<uring::Unavailable>() => {
            println!("{}", json!({ "skipped": format!("{error}") }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("traffic_gen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
