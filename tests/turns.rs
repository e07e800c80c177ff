//! Turns: where each request waits for its response they are the exchanges, on every fixture, at every end; and where they are not,
//! it is known why.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{mdf, rows, run, traffic_gen_path};

/// What a turn and an exchange must have in common. The time to the first byte is measured from the last byte of a request in the
/// one, from the first in the other.
const COMMON: [&str; 12] = [
    "connection",
    "start",
    "request_bytes",
    "response_bytes",
    "total_ns",
    "network_ns",
    "client_total_ns",
    "server_total_ns",
    "side",
    "client_pid",
    "server_pid",
    "client_comm",
];

fn key(row: &Value) -> String {
    COMMON.map(|column| row[column].to_string()).join(" ")
}

fn all_rows(file: &Path, table: &str) -> Vec<Value> {
    let found = run(mdf()
        .arg("analyze")
        .arg(file)
        .args(["--table", table, "--format", "ndjson", "--columns", "*"]));
    let rows = found
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row is JSON"));
    rows.collect()
}

/// How many complete exchanges with a latency a capture has, and how many of them are no turn.
fn compared(file: &Path, table: &str) -> (usize, usize) {
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    for turn in all_rows(file, "turns") {
        *turns.entry(key(&turn)).or_default() += 1;
    }
    let exchanges = all_rows(file, table);
    let measured: Vec<&Value> = exchanges
        .iter()
        .filter(|row| row["complete"] == true && !row["total_ns"].is_null())
        .collect();
    let is_turn = |row: &&&Value| {
        turns.get_mut(&key(row)).is_some_and(|left| {
            *left = left.saturating_sub(1);
            true
        })
    };
    let count = measured.len();
    (count, count - measured.iter().filter(is_turn).count())
}

#[test]
fn turns_are_the_exchanges_of_every_fixture_that_neither_pipelines_nor_lost_anything() {
    // Exchanges of each, and those that are no turns.
    let fixtures = [
        ("nginx-curl.mdf", "http", 8, 0),
        ("nginx-wrk.mdf", "http", 144, 0),
        ("python-requests.mdf", "http", 10, 0),
        ("tiny.mdf", "http", 3, 0),
        ("tiny.mdf", "mysql", 3, 0),
        ("mariadb-client.mdf", "mysql", 10, 0),
        ("sysbench-text.mdf", "mysql", 120, 0),
        ("http/python.pcap", "http", 5, 0),
        ("pcap/http-get.pcap", "http", 1, 0),
        ("pcap/http-post.pcap", "http", 1, 0),
        ("mysql/mysql_cli.pcap", "mysql", 11, 0),
        ("mysql/pymysql.pcap", "mysql", 14, 0),
        ("mysql/mariadb_node.pcap", "mysql", 26, 0),
        ("mysql/mysql_zstd.pcap", "mysql", 11, 0),
        ("sysbench-prepared.mdf", "mysql", 142, 0),
        // 100 Continue is a turn of its own.
        ("pcap/http-100-continue.pcap", "http", 1, 1),
        // Several requests at once.
        ("mysql/pipelined.pcap", "mysql", 7, 4),
    ];
    let found = fixtures.map(|(file, table, ..)| {
        let (exchanges, others) = compared(&Path::new("fixtures").join(file), table);
        (file, table, exchanges, others)
    });
    assert_eq!(found, fixtures);
}

#[test]
fn turns_are_the_exchanges_of_synthetic_captures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file: PathBuf = folder.path().join("a.mdf");
    for protocol in ["http", "mysql"] {
        for ends in ["client", "server", "both"] {
            let mut synth = std::process::Command::new(traffic_gen_path());
            synth
                .args(["synth", protocol, "-o"])
                .arg(&file)
                .args(["-n", "3001", "-c", "7", "--ends", ends]);
            run(&mut synth).expect_code(&[0]);
            let (exchanges, others) = compared(&file, protocol);
            assert!(
                exchanges >= 2990 && others == 0,
                "{protocol} {ends}: {exchanges} {others}"
            );
            std::fs::remove_file(&file).expect("it was written");
        }
    }
}

#[test]
fn connections_whose_protocol_is_not_read_have_turns_in_the_report_and_in_services() {
    let turns = rows(Path::new("fixtures/not-http.mdf"), "turns");
    let echoes: Vec<&Value> = turns.iter().filter(|turn| turn["server_port"] == 8083).collect();
    assert_eq!(echoes.len(), 5, "five lines, five answers");
    for echo in &echoes {
        assert_eq!(
            (&echo["request_bytes"], &echo["response_bytes"]),
            (&7.into(), &17.into())
        );
    }
    let report = run(mdf().args(["analyze", "fixtures/not-http.mdf", "--format", "json"]));
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    let of = |section: &str, column: &str, server: &str| -> u64 {
        let rows = report[section].as_array().expect("a section");
        let these = rows.iter().filter(|row| row[column] == server);
        these
            .map(|row| row["count"].as_u64().or(row["turns"].as_u64()).unwrap_or(0))
            .sum()
    };
    assert_eq!(of("turn_services", "server", "python3"), 5);
    assert_eq!(of("services", "callee", "python3"), 5);
    assert_eq!(report["confidence"]["exchanges"], 0, "turns are no exchanges");
    let of_http = rows(Path::new("fixtures/nginx-curl.mdf"), "turn_services");
    assert!(of_http.is_empty(), "what is read is not counted twice: {of_http:?}");
}
