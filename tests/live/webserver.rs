//! nginx under wrk, as fast as two of them go: every request is a row, nothing is lost, the percentiles agree.

use serde::Deserialize;

use crate::harness::Live;
use crate::support::{each_row, free_port};

/// What is needed of a row of `http`.
#[derive(Deserialize)]
struct Row {
    complete: bool,
    status: Option<u16>,
    total_ns: Option<u64>,
    side: String,
}

/// A number with a unit as wrk prints it, in ns.
fn wrk_time(text: &str) -> f64 {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).expect("wrk prints a unit");
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => panic!("wrk's unit {unit} is not known"),
    };
    number.parse::<f64>().expect("wrk prints a number") * scale
}

#[test]
fn every_request_that_wrk_counts_is_a_row_and_nothing_is_lost() {
    let Some(live) = Live::begin("nginx and wrk", &["nginx", "wrk", "bash"]) else {
        return;
    };
    let (port, dir) = (free_port(), live.dir.path().display().to_string());
    live.write("index.html", &"nginx says hello to wrk. ".repeat(20));
    let config = live.write(
        "nginx.conf",
        &format!(
            "daemon off; user root; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/body;\n\
             proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi;\n\
             scgi_temp_path {dir}/scgi; server {{ listen 127.0.0.1:{port}; root {dir}; }} }}\n"
        ),
    );
    let recorded = live.record_script(
        &[],
        &format!(
            "nginx -c {} &\nawait_port {port}\n\
             wrk -t2 -c16 -d10s --latency http://127.0.0.1:{port}/index.html >{dir}/wrk.txt\n\
             kill -QUIT %1\nwait %1",
            config.display()
        ),
    );
    recorded.expect_clean();
    recorded.expect_no_losses();

    let wrk_report = std::fs::read_to_string(live.path("wrk.txt")).expect("wrk has reported");
    let line = |start: &str| {
        wrk_report
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in {wrk_report}"))
    };
    let requests = wrk_report
        .lines()
        .find(|line| line.contains(" requests in "))
        .expect("wrk counts requests");
    let requests: usize = requests
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    let wrk = ["50%", "99%"].map(|p| wrk_time(line(p).split_whitespace().nth(1).expect("wrk prints percentiles")));

    let (mut complete, mut incomplete) = (0usize, 0usize);
    let mut totals = Vec::new();
    each_row(
        &recorded.file,
        "http",
        &["--columns", "complete,status,total_ns,side"],
        |line| {
            let row: Row = serde_json::from_str(line).expect("a row is JSON");
            if row.complete {
                assert_eq!((row.status, row.side.as_str()), (Some(200), "both"), "{line}");
                totals.push(
                    row.total_ns
                        .unwrap_or_else(|| panic!("a complete row has a time: {line}")),
                );
                complete += 1;
            } else {
                incomplete += 1;
            }
        },
    );
    println!("wrk: {requests} requests; rows: {complete} complete, {incomplete} incomplete");
    // wrk stops in the middle: of each of its 16 connections, one last request may be answered and not be counted.
    assert!(
        (requests..=requests + 16).contains(&complete),
        "{complete} rows for {requests} requests"
    );
    assert!(incomplete <= 16, "{incomplete} incomplete rows");

    // wrk corrects its latencies for what it could not send meanwhile ("coordinated omission", stats.c): one that
    // lasted longer than two mean intervals of its connection counts for those that would have come after it, too.
    let interval = 10_000_000_000 / (requests as u64 / 16);
    let omitted: Vec<u64> = totals
        .iter()
        .filter(|total| **total >= 2 * interval)
        .flat_map(|total| {
            (1..)
                .map(move |n| total.saturating_sub(n * interval))
                .take_while(|rest| *rest > interval)
        })
        .collect();
    totals.extend(omitted);
    totals.sort_unstable();
    for (name, p, wrk) in [("p50", 50, wrk[0]), ("p99", 99, wrk[1])] {
        let ours = totals[totals.len() * p / 100] as f64;
        println!("{name}: wrk {:.1} us, mdf {:.1} us", wrk / 1e3, ours / 1e3);
        // wrk's clock runs on while it handles the other connections of its thread; the socket's does not.
        assert!(
            ours <= wrk * 1.15 + 20e3,
            "{name}: {ours} ns, and wrk saw only {wrk} ns"
        );
        assert!(ours >= wrk * 0.5 - 20e3, "{name}: {ours} ns, and wrk saw {wrk} ns");
    }
}
