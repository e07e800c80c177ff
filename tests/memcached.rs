//! What is read of memcached's text protocol is what the server has counted itself.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::{mdf, rows, run};

const CAPTURE: &str = "fixtures/pcap/memcached-text.pcap";

/// The server's own counters.
fn stats() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("fixtures/pcap/memcached-text.stats").expect("a fixture");
    let stats = text
        .lines()
        .filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
    let stats: BTreeMap<_, _> = stats
        .map(|(name, value)| (name.to_string(), value.parse().expect("a number")))
        .collect();
    assert!(stats.len() >= 15, "{stats:?}");
    stats
}

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or(0)
}

#[test]
fn counts_are_those_of_the_server() {
    let rows = rows(Path::new(CAPTURE), "memcached");
    let sum = |names: &[&str], column: &str| -> u64 {
        let these = rows
            .iter()
            .filter(|row| names.contains(&row["command"].as_str().unwrap_or("")));
        these.map(|row| number(row, column)).sum()
    };
    let count = |names: &[&str], wanted: &dyn Fn(&Value) -> bool| {
        let these = rows
            .iter()
            .filter(|row| names.contains(&row["command"].as_str().unwrap_or("")));
        these.filter(|row| wanted(row)).count() as u64
    };
    let stats = stats();
    let is_refused = |row: &Value| row["answer"] == "SERVER_ERROR object too large for cache";
    let stores = ["set", "add", "replace", "append", "prepend", "cas"];
    assert_eq!(
        count(&stores, &|row| !row["value_bytes"].is_null() && !is_refused(row)),
        stats["cmd_set"]
    );
    // The server counts keys, and `gat` as touching. A key that is too long was not looked for.
    let looked = |column| sum(&["get", "gets"], column);
    assert_eq!(
        (looked("hits"), looked("misses")),
        (stats["get_hits"], stats["get_misses"])
    );
    assert_eq!(looked("hits") + looked("misses"), stats["cmd_get"]);
    let is_sound = |row: &Value| row["status"] != "client_error";
    let touched = count(&["touch"], &is_sound) + sum(&["gat", "gats"], "keys");
    assert_eq!(touched, stats["cmd_touch"]);
    // What has no answer (`noreply`) was there or was not.
    for (name, hits, misses) in [
        ("delete", "delete_hits", "delete_misses"),
        ("incr", "incr_hits", "incr_misses"),
        ("decr", "decr_hits", "decr_misses"),
    ] {
        let quiet = count(&[name], &|row| row["noreply"] == true);
        let known = (sum(&[name], "hits"), sum(&[name], "misses"));
        assert!(known.0 <= stats[hits] && known.1 <= stats[misses], "{name}: {known:?}");
        assert_eq!(known.0 + known.1 + quiet, stats[hits] + stats[misses], "{name}");
    }
    let cas = |answer: &str| count(&["cas"], &|row| row["answer"] == answer);
    let of_server = (stats["cas_hits"], stats["cas_badval"], stats["cas_misses"]);
    assert_eq!((cas("STORED"), cas("EXISTS"), cas("NOT_FOUND")), of_server);
    assert!(rows.iter().all(|row| row["complete"] == true), "nothing is lost");
}

/// All that is derived from the registry, once.
#[test]
fn the_protocol_is_everywhere_that_protocols_are() {
    let analyze = |more: &[&str]| {
        let all = ["analyze", CAPTURE].iter().chain(more);
        run(mdf().args(all)).expect_code(&[0]).stdout
    };
    let report = analyze(&[]);
    for words in [
        "memcached keys (",
        "Slowest memcached commands (",
        "user:{id}:cart",
        "exchanges measured",
    ] {
        assert!(report.contains(words), "{words}\n{report}");
    }
    let json: Value = serde_json::from_str(&analyze(&["--format", "json"])).expect("JSON");
    let exchanges = json["confidence_memcached"]["exchanges"].as_u64().expect("a number");
    let requests: u64 = json["services"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| number(row, "requests"))
        .sum();
    assert_eq!(
        (exchanges, number(&json["confidence"], "exchanges")),
        (requests, requests)
    );
    assert!(exchanges > 80, "{exchanges}");

    let csv = analyze(&[
        "--table",
        "memcached",
        "--where",
        "misses > 0 and command = get",
        "--format",
        "csv",
    ]);
    assert_eq!(csv.lines().count(), 1 + 6, "{csv}");
    let groups = analyze(&[
        "--table",
        "memcached",
        "--group-by",
        "command,status",
        "--format",
        "csv",
    ]);
    assert!(groups.contains("cas,ok,3,"), "{groups}");
    let keys = analyze(&[
        "--table",
        "memcached_keys",
        "--format",
        "csv",
        "--columns",
        "command,key_pattern,count,hits",
    ]);
    assert!(keys.contains("get,user:{id}:cart,10,10\n"), "{keys}");

    let capture = tempfile::tempdir().expect("a folder");
    let capture = capture.path().join("text.mdf");
    run(mdf().args(["import", CAPTURE, "-o"]).arg(&capture)).expect_code(&[0]);
    let lines = run(mdf().arg("replay").arg(&capture)).expect_code(&[0]).stdout;
    assert!(lines.contains("MEMCACHED 127.0.0.1:"), "{lines}");
    assert!(
        lines.contains(" get user:0:cart and 3 more END 3 of 4 found ("),
        "{lines}"
    );
    let diff = run(mdf().args(["diff", CAPTURE, CAPTURE, "--format", "csv"]))
        .expect_code(&[0])
        .stdout;
    assert!(diff.contains("memcached,get user:{id}:cart,10,10,"), "{diff}");
}
