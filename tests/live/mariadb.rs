//! MariaDB under sysbench: every query that sysbench counts is a row, with the text protocol and with prepared
//! statements.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Group, Live, Recorder};
use crate::support::{Guard, free_port, lost_events, rows, run};

/// A server of our own, in a cgroup, with tables for sysbench.
struct Server {
    port: u16,
    _process: Guard,
}

impl Server {
    fn start(live: &Live, group: &Group) -> Self {
        let (port, data) = (free_port(), live.path("data"));
        run(Command::new("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args([
                "--user=root",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]))
        .expect_code(&[0]);
        let process = group
            .command("mariadbd")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", live.path("socket").display()))
            .arg(format!("--pid-file={}", live.path("pid").display()))
            .arg(format!("--port={port}"))
            .args([
                "--user=root",
                "--bind-address=127.0.0.1",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Server {
            port,
            _process: Guard(process.expect("cannot start mariadbd")),
        };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "mariadbd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let create = "CREATE DATABASE sbtest";
        run(Command::new("mariadb").args(["-h127.0.0.1", "-uroot", "-e", create, "-P", &port.to_string()]))
            .expect_code(&[0]);
        run(&mut server.sysbench(Command::new("sysbench"), "prepare", "disable")).expect_code(&[0]);
        server
    }

    fn sysbench(&self, mut command: Command, what: &str, prepared: &str) -> Command {
        command.args([
            "oltp_read_write",
            "--db-driver=mysql",
            "--mysql-host=127.0.0.1",
            "--mysql-user=root",
        ]);
        command.args([
            "--tables=2",
            "--table-size=1000",
            "--threads=4",
            "--time=0",
            "--events=500",
        ]);
        command
            .arg(format!("--mysql-port={}", self.port))
            .arg(format!("--db-ps-mode={prepared}"))
            .arg(what);
        command
    }
}

/// The number after a word in sysbench's report.
fn reported(report: &str, word: &str) -> usize {
    let line = report.lines().map(str::trim).find(|line| line.starts_with(word));
    let number = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|n| n.parse().ok());
    number.unwrap_or_else(|| panic!("no {word} in {report}"))
}

/// Runs sysbench with both ends recorded; its report, and the rows of its connections.
fn sysbench(live: &Live, prepared: &str) -> (String, Vec<Value>) {
    let group = Group::make();
    let server = Server::start(live, &group);
    let file: PathBuf = live.path("cap.mdf");
    // The server and its listener are there already: the snapshot has to find them.
    let recorder = Recorder::start(&[
        "-o".as_ref(),
        file.as_os_str(),
        "--cgroup".as_ref(),
        group.path().as_ref(),
    ]);
    let report = run(&mut server.sysbench(group.command("sysbench"), "run", prepared)).expect_code(&[0]);
    recorder.stop().expect_code(&[0]);
    assert_eq!(lost_events(&file), 0);
    (report.stdout, rows(&file, "mysql"))
}

/// The rows that are queries in sysbench's sense.
fn queries(rows: &[Value], command: &str) -> usize {
    rows.iter()
        .filter(|row| row["command"] == command && row["complete"] == true && row["status"] == "ok")
        .count()
}

#[test]
fn queries_of_the_text_protocol_equal_those_of_sysbench() {
    let Some(live) = Live::begin(
        "MariaDB and sysbench, text",
        &["mariadbd", "mariadb-install-db", "sysbench"],
    ) else {
        return;
    };
    let (report, rows) = sysbench(&live, "disable");
    println!(
        "sysbench: {} queries; rows: {}",
        reported(&report, "total:"),
        rows.len()
    );
    assert_eq!(queries(&rows, "COM_QUERY"), reported(&report, "total:"), "{report}");
    assert!(rows.iter().all(|row| row["side"] == "both"), "both ends were recorded");
    assert!(
        rows.iter()
            .any(|row| row["client_comm"] == "sysbench" && row["server_comm"] == "mariadbd")
    );
}

#[test]
fn executions_of_prepared_statements_equal_the_queries_of_sysbench() {
    let Some(live) = Live::begin(
        "MariaDB and sysbench, prepared",
        &["mariadbd", "mariadb-install-db", "sysbench"],
    ) else {
        return;
    };
    let (report, rows) = sysbench(&live, "auto");
    let executed = queries(&rows, "COM_STMT_EXECUTE");
    println!(
        "sysbench: {} queries; rows: {}, {executed} executions",
        reported(&report, "total:"),
        rows.len()
    );
    assert_eq!(
        executed + queries(&rows, "COM_QUERY"),
        reported(&report, "total:"),
        "{report}"
    );
    let select = |row: &&Value| {
        row["command"] == "COM_STMT_EXECUTE" && row["statement"].as_str().is_some_and(|s| s.starts_with("SELECT"))
    };
    assert!(
        rows.iter().filter(select).count() > executed / 3,
        "executions carry the text of their statement"
    );
}
