//! The traffic generator reports what it did; the capture has the same.

use serde_json::Value;

use crate::harness::{Group, Live, Recorded, Recorder};
use crate::support::{count, rows, run, traffic_gen_path};

fn number(reported: &Value, field: &str) -> usize {
    reported[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field} in {reported}")) as usize
}

/// Every request is one complete row, seen from both ends, with the right status, method and bytes.
#[track_caller]
fn expect_http(reported: &Value, recorded: &Recorded) {
    recorded.expect_no_losses();
    let rows = recorded.rows("http");
    assert_eq!(
        count(&rows, "complete", true),
        number(reported, "requests"),
        "{reported}"
    );
    assert_eq!(rows.len(), number(reported, "requests"), "no rows beside them");
    assert_eq!(count(&rows, "side", "both"), rows.len(), "both ends were recorded");
    for (field, column) in [("methods", "method"), ("statuses", "status")] {
        for (value, expected) in reported[field].as_object().into_iter().flatten() {
            let value = value
                .parse::<u64>()
                .map_or_else(|_| Value::from(value.as_str()), Value::from);
            assert_eq!(
                count(&rows, column, value.clone()) as u64,
                expected.as_u64().unwrap_or(0),
                "{column} {value}"
            );
        }
    }
    for column in ["request_bytes", "response_bytes"] {
        let sum: u64 = rows.iter().filter_map(|row| row[column].as_u64()).sum();
        // 100 (Continue) belongs to no exchange's response.
        let informational = if column == "response_bytes" {
            number(reported, "informational") as u64 * 25
        } else {
            0
        };
        assert_eq!(sum + informational, number(reported, column) as u64, "{column}");
    }
}

fn http(name: &str, words: &[&str]) {
    let Some(live) = Live::begin(&format!("traffic_gen http {name}"), &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&[&["http"], words].concat());
    expect_http(&reported, &recorded);
}

const MIX: &str = "get,post,head,post-chunked,chunked,empty,not-modified,missing,error";

#[test]
fn http_of_all_shapes() {
    http("shapes", &["-n", "181", "--mix", MIX]);
}

#[test]
fn http_pipelined() {
    http(
        "pipelined",
        &[
            "-n",
            "96",
            "-c",
            "2",
            "--pipeline",
            "6",
            "--mix",
            "get,head,chunked,post",
        ],
    );
}

#[test]
fn http_with_short_connections_and_bodies_that_end_with_them() {
    http(
        "short connections",
        &["-n", "41", "--mix", "until-close,get", "--per-connection", "2"],
    );
}

#[test]
fn http_that_waits_for_100_continue() {
    http("100-continue", &["-n", "23", "-c", "2", "--mix", "continue,get"]);
}

#[test]
fn http_over_ipv6_between_two_processes() {
    let Some(live) = Live::begin("traffic_gen over IPv6", &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&["http", "-n", "37", "--address", "::1", "--separate"]);
    expect_http(&reported, &recorded);
    let rows = recorded.rows("http");
    assert_eq!(count(&rows, "server_ip", "::1"), 37);
    assert_eq!(count(&rows, "client_pid", reported["client_pid"].clone()), 37);
    assert_eq!(count(&rows, "server_pid", reported["server_pid"].clone()), 37);
}

#[test]
fn known_latency_of_the_server_is_what_the_rows_say() {
    let Some(live) = Live::begin("known latency", &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&["http", "-n", "40", "-c", "2", "--delay-us", "20000"]);
    expect_http(&reported, &recorded);
    let mut totals: Vec<u64> = recorded
        .rows("http")
        .iter()
        .filter_map(|row| row["ttfb_ns"].as_u64())
        .collect();
    totals.sort_unstable();
    assert!(totals[0] >= 20_000_000, "no answer before the delay: {}", totals[0]);
    assert!(
        totals[20] < 30_000_000,
        "the median is the delay and little more: {}",
        totals[20]
    );
}

/// Bytes that this backend cannot read are length-only, never missing; the requests are there where it can.
fn by_system_call(io: &str, readable: bool) {
    let Some(live) = Live::begin(&format!("traffic_gen --io {io}"), &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&["http", "-n", "45", "--mix", MIX, "--io", io]);
    if reported["skipped"].is_string() {
        return crate::support::not_run(
            &format!("traffic_gen --io {io}"),
            reported["skipped"].as_str().unwrap_or_default(),
        );
    }
    recorded.expect_no_losses();
    let connections = recorded.rows("connections");
    let sum = |column: &str| -> u64 { connections.iter().filter_map(|row| row[column].as_u64()).sum() };
    assert_eq!(
        sum("bytes_sent") as usize,
        number(&reported, "request_bytes"),
        "{connections:?}"
    );
    assert_eq!(
        sum("bytes_received") as usize,
        number(&reported, "response_bytes"),
        "{connections:?}"
    );
    if readable {
        expect_http(&reported, &recorded);
    }
}

#[test]
fn bytes_by_write_and_read() {
    by_system_call("plain", true);
}

#[test]
fn bytes_by_send_and_recv() {
    by_system_call("send", true);
}

#[test]
fn bytes_by_writev_and_readv() {
    by_system_call("vector", true);
}

#[test]
fn bytes_by_sendmsg_and_recvmsg() {
    by_system_call("message", true);
}

#[test]
fn bytes_by_sendmmsg_and_recvmmsg() {
    by_system_call("batch", true);
}

#[test]
fn bytes_by_sendfile() {
    by_system_call("sendfile", false);
}

#[test]
fn bytes_by_splice() {
    by_system_call("splice", false);
}

#[test]
fn bytes_by_io_uring() {
    by_system_call("io-uring", false);
}

#[test]
fn bytes_by_io_uring_with_a_polling_thread() {
    by_system_call("io-uring-sqpoll", false);
}

#[test]
fn bytes_in_300_segments_are_never_missing() {
    by_system_call("many-segments", false);
}

#[test]
fn threads_that_block_in_recv_lose_nothing() {
    let Some(live) = Live::begin("64 threads in recv", &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&["blocked", "--threads", "64", "--rounds", "3"]);
    recorded.expect_no_losses();
    assert_eq!(
        count(&recorded.rows("http"), "complete", true),
        number(&reported, "requests")
    );
}

fn mysql(name: &str, words: &[&str]) {
    let Some(live) = Live::begin(&format!("traffic_gen mysql {name}"), &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&[&["mysql", "-c", "3"], words].concat());
    recorded.expect_no_losses();
    let rows = recorded.rows("mysql");
    for (command, expected) in reported["commands"].as_object().into_iter().flatten() {
        assert_eq!(
            count(&rows, "command", command.as_str()) as u64,
            expected.as_u64().unwrap_or(0),
            "{command}"
        );
    }
    assert_eq!(count(&rows, "status", "error"), number(&reported, "errors"));
    assert_eq!(count(&rows, "error_code", 1146), number(&reported, "errors"));
    let sum = |column: &str| -> usize { rows.iter().filter_map(|row| row[column].as_u64()).sum::<u64>() as usize };
    // Rows that follow a packet longer than the snaplen cannot be counted; nothing is guessed.
    let uncounted = rows
        .iter()
        .filter(|row| row["rows"].is_null() && row["response_bytes"].as_u64() > Some(1 << 20));
    assert_eq!(sum("rows") + uncounted.count(), number(&reported, "rows"));
    assert_eq!(sum("affected_rows"), number(&reported, "affected_rows"));
    assert_eq!(count(&rows, "user", "gen"), rows.len());
    assert_eq!(count(&rows, "database", "shop"), rows.len());
}

const WORK: &str = "select,insert,update,error,prepared,prepare-each,multi,ping,init-db,statistics";

#[test]
fn mysql_of_all_shapes() {
    mysql("shapes", &["-n", "121", "--mix", WORK]);
}

#[test]
fn mysql_with_eof_packets() {
    mysql("with EOF packets", &["-n", "121", "--mix", WORK, "--eof", "--separate"]);
}

#[test]
fn mysql_rows_larger_than_a_packet() {
    mysql("17 MiB rows", &["-n", "4", "--mix", "huge,select"]);
}

#[test]
fn failed_connects_and_resets_have_their_error() {
    let Some(live) = Live::begin("failed connects", &["bash"]) else {
        return;
    };
    let (_, recorded) = live.record_traffic(&["fail", "--refused", "5", "--reset", "3", "--timed-out", "2"]);
    recorded.expect_no_losses();
    let rows = recorded.rows("connections");
    assert_eq!(count(&rows, "connect_error", "ECONNREFUSED"), 5, "{rows:?}");
    assert_eq!(count(&rows, "connect_error", "ETIMEDOUT"), 2, "{rows:?}");
    assert_eq!(count(&rows, "ending", "connect_failed"), 7, "{rows:?}");
    // Beside them, the connection that fills the queue of the listener is reset unused.
    let reset = |row: &&Value| {
        row["bytes_sent"].as_u64() > Some(0) && row["ending"].as_str().is_some_and(|ending| ending.starts_with("reset"))
    };
    assert_eq!(rows.iter().filter(reset).count(), 3, "{rows:?}");
}

#[test]
fn a_cgroup_named_as_a_pod_is_attributed() {
    let Some(live) = Live::begin("a pod's cgroup", &[]) else {
        return;
    };
    let container = "c0ffee".repeat(10) + "cafe";
    let path = format!("/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/{container}");
    let group = Group::named(&path);
    let file = live.path("cap.mdf");
    let recorder = Recorder::start(&["-o".as_ref(), file.as_os_str(), "--cgroup".as_ref(), path.as_ref()]);
    run(group.command(traffic_gen_path()).args(["http", "-n", "9"])).expect_code(&[0]);
    recorder.stop().expect_code(&[0]);
    let rows = rows(&file, "http");
    assert_eq!(count(&rows, "complete", true), 9);
    for row in &rows {
        assert_eq!(row["client_cgroup"], path, "{row}");
        assert_eq!(row["server_container_id"], container, "{row}");
    }
}
