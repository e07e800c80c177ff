//! In what order rows leave, and that the number of threads does not matter.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{analyze, synth};

const TABLES: [&str; 13] = [
    "http",
    "mysql",
    "memcached",
    "turns",
    "connections",
    "processes",
    "endpoints",
    "digests",
    "memcached_keys",
    "turn_services",
    "services",
    "losses",
    "capture",
];

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder was made");
    entries
        .map(|entry| {
            let path = entry.expect("it can be listed").path();
            let name = path
                .file_name()
                .expect("files have names")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(&path).expect("it can be read"))
        })
        .collect()
}

/// Numbers of threads that must write what one writes.
const SEVERAL: [&str; 4] = ["2", "3", "16", "64"];

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("cap.mdf");
    let options = [
        "mixed",
        "-n",
        "6000",
        "-c",
        "40",
        "--per-connection",
        "7",
        "--holes-ppm",
        "2000",
    ];
    synth(&capture, &options);
    let formats: &[&str] = match cfg!(feature = "parquet") {
        true => &["csv", "ndjson", "parquet", "arrow"],
        false => &["csv", "ndjson"],
    };
    for format in formats {
        let tables = |threads: &str| {
            let out = folder.path().join(format!("{format}-{threads}"));
            let out_text = out.to_str().expect("the path is text");
            analyze(&capture, &["--format", format, "--threads", threads, "-o", out_text]);
            files(&out)
        };
        let one = tables("1");
        assert_eq!(one.len(), TABLES.len(), "{format}");
        for (name, bytes) in &one {
            // There are no exchanges of memcached in it, and the protocol of every connection is read.
            let may_be_empty = name.starts_with("memcached") || name.starts_with("turn_services");
            assert!(may_be_empty || !bytes.is_empty(), "{name} is empty");
        }
        for threads in SEVERAL {
            let several = tables(threads);
            for (name, bytes) in &one {
                assert!(
                    several.get(name) == Some(bytes),
                    "{name} differs between 1 and {threads} threads"
                );
            }
        }
    }
    for table in TABLES {
        let shown = |threads: &str| analyze(&capture, &["--table", table, "--threads", threads]);
        let one = shown("1");
        for threads in SEVERAL {
            assert_eq!(one, shown(threads), "{table} with {threads} threads");
        }
    }
    let grouped = |threads: &str| analyze(&capture, &["-g", "endpoint", "--bucket", "100ms", "--threads", threads]);
    let one = grouped("1");
    for threads in SEVERAL {
        assert_eq!(one, grouped(threads), "{threads} threads");
    }
    for format in ["table", "json"] {
        let report = |threads: &str| analyze(&capture, &["--format", format, "--threads", threads]);
        let one = report("1");
        for threads in SEVERAL {
            assert_eq!(one, report(threads), "{format} with {threads} threads");
        }
    }
}

/// The starts of all rows of a table, as text: RFC 3339 in UTC with nine digits sorts as time does.
fn starts(capture: &Path, table: &str) -> Vec<String> {
    let text = analyze(capture, &["--table", table, "--columns", "start", "--format", "csv"]);
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn rows_of_several_row_groups_come_in_the_order_of_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("cap.mdf");
    let said = synth(
        &capture,
        &["mixed", "-n", "150000", "-c", "100", "--per-connection", "50"],
    );
    let http = starts(&capture, "http");
    let mysql = starts(&capture, "mysql");
    // Each login is a row too.
    assert!((http.len() + mysql.len()) as u64 >= said["exchanges"].as_u64().expect("a count"));
    for (table, starts) in [("http", http), ("mysql", mysql)] {
        assert!(
            starts.len() > 65_536,
            "{table} has one row group only: {}",
            starts.len()
        );
        let late = starts.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert_eq!(late, 0, "{table}: rows before earlier ones");
    }
}

#[test]
fn a_window_of_a_long_capture_has_the_rows_that_the_whole_has_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("cap.mdf");
    // About two minutes of few connections.
    let options = [
        "http",
        "-n",
        "20000",
        "-c",
        "16",
        "--pause-us",
        "100000",
        "--ends",
        "server",
    ];
    synth(&capture, &options);
    let of = |options: &[&str]| {
        let common = [
            "--table",
            "http",
            "--columns",
            "start,path,query,total_ns,complete",
            "--format",
            "csv",
        ];
        let text = analyze(&capture, &[&common[..], options].concat());
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = of(&[]);
    let (from, to) = ("2026-01-01T00:00:30.000000000Z", "2026-01-01T00:00:40.000000000Z");
    let wanted: Vec<String> = all
        .into_iter()
        .filter(|row| (from..to).contains(&row.split(',').next().unwrap_or_default()))
        .collect();
    assert!(wanted.len() > 500, "{}", wanted.len());
    assert_eq!(of(&["--from", from, "--to", to]), wanted);
    let expression = format!("start >= {from} and start < {to}");
    assert_eq!(of(&["--where", &expression]), wanted);
    assert_eq!(
        of(&["--from", "+30s", "--to", "+40s", "--port", "8080"]).len(),
        wanted.len()
    );
}
