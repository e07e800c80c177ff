//! Captures of real programs give the tables that were read and found right: recordings in fixtures/, packet captures in
//! fixtures/http, fixtures/pcap and fixtures/detection (those in fixtures/mysql have their own reading, by position).
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{mdf, run};

/// The tables that are compared, and the columns that others rely on.
const TABLES: [(&str, &str); 7] = [
    (
        "http",
        "start,client_ip,client_port,server_ip,server_port,method,path,query,host,version,status,request_bytes,\
         response_bytes,ttfb_ns,total_ns,network_ns,side,client_pid,client_comm,server_pid,server_comm,complete,\
         incomplete_reason",
    ),
    (
        "mysql",
        "start,client_port,server_port,user,database,server_version,command,statement,fingerprint,digest,status,\
         error_code,sqlstate,error_message,rows,affected_rows,warnings,no_index_used,ttfb_ns,total_ns,side,client_comm,\
         complete,incomplete_reason",
    ),
    (
        "memcached",
        "start,client_port,server_port,command,key,keys,noreply,value_bytes,status,answer,hits,misses,found_bytes,why,\
         request_bytes,response_bytes,ttfb_ns,total_ns,side,complete,incomplete_reason",
    ),
    (
        "connections",
        "open,close,client_ip,client_port,server_ip,server_port,role,state,connect_error,connect_ns,bytes_sent,\
         bytes_received,retransmits,protocol,exchanges,why,client_comm,server_comm",
    ),
    ("processes", "start,exit,pid,ppid,uid,comm,exe,argv,exit_code,signal"),
    (
        "endpoints",
        "method,endpoint,host,count,errors,client_errors,p50_ns,p99_ns,max_ns",
    ),
    ("losses", "reason,events,bytes"),
];

/// The tables that a fixture has: of packet captures, those that no other table tells of.
fn tables(file: &Path) -> &'static [(&'static str, &'static str)] {
    let of_packets = file.extension().is_some_and(|e| e == "pcap");
    if of_packets { &TABLES[..4] } else { &TABLES }
}

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = ["", "http", "pcap", "detection"]
        .iter()
        .flat_map(|folder| fs::read_dir(dir.join(folder)).expect("fixtures/ is there"))
        .map(|entry| entry.expect("it can be read").path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "mdf" || e == "pcap"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are fixtures");
    files
}

fn table(file: &Path, table: &str, columns: &str, threads: &str) -> String {
    let mut analyze = mdf();
    analyze
        .arg("analyze")
        .arg(file)
        .args(["--table", table, "--columns", columns, "--format", "csv"]);
    run(analyze.args(["--threads", threads])).expect_code(&[0, 3]).stdout
}

#[test]
fn captures_of_real_programs_give_the_expected_tables() {
    let update = std::env::var_os("MDF_UPDATE").is_some();
    let mut wrong = Vec::new();
    for file in fixtures() {
        for (name, columns) in tables(&file) {
            let is = table(&file, name, columns, "1");
            let path = file.with_extension(format!("{name}.csv"));
            let empty = is.lines().count() <= 1;
            if update {
                if empty {
                    let _ = fs::remove_file(&path);
                } else {
                    fs::write(&path, &is).expect("fixtures/ can be written");
                }
                continue;
            }
            // No file stands for no rows.
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if is != expected && !(empty && expected.is_empty()) {
                wrong.push(difference(&path, &expected, &is));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first line that differs.
fn difference(path: &Path, expected: &str, is: &str) -> String {
    let mut lines = expected.lines().zip(is.lines()).enumerate();
    let (e, i) = (expected.lines().count(), is.lines().count());
    match lines.find(|(_, (expected, is))| expected != is) {
        Some((at, (expected, is))) => {
            format!(
                "{}:{}: expected\n  {expected}\nand it is\n  {is}",
                path.display(),
                at + 1
            )
        }
        None => format!("{}: expected {e} lines, and there are {i}", path.display()),
    }
}

#[test]
fn tables_are_the_same_for_any_number_of_threads() {
    for file in fixtures() {
        for (name, columns) in tables(&file) {
            let one = table(&file, name, columns, "1");
            for threads in ["2", "3", "16", "64"] {
                let several = table(&file, name, columns, threads);
                assert_eq!(one, several, "{name} of {} with {threads} threads", file.display());
            }
        }
    }
}

#[test]
fn no_fixture_names_the_machine_it_was_made_on() {
    for file in fixtures() {
        for (name, _) in TABLES {
            let text = fs::read_to_string(file.with_extension(format!("{name}.csv"))).unwrap_or_default();
            for word in ["/work/", "/home/", "/root/"] {
                assert!(!text.contains(word), "{name} of {} has {word}", file.display());
            }
        }
    }
}

/// What the report calls payload is what the connections carried, and all that is said of it is a part of that.
#[test]
fn payload_is_the_same_in_all_that_tells_of_it_and_its_parts_are_no_more_than_the_whole() {
    let mut seen = 0;
    for file in fixtures() {
        let report = run(mdf().arg("analyze").arg(&file).args(["--format", "json"]))
            .expect_code(&[0, 3])
            .stdout;
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let sum = |rows: &[serde_json::Value], columns: &[&str]| -> u64 {
            let cells = rows
                .iter()
                .flat_map(|row| columns.iter().map(|column| row[*column].as_u64().unwrap_or(0)));
            cells.sum()
        };
        let section = |name: &str| report[name].as_array().expect("a list").clone();
        let total = |name: &str| report["totals"][name].as_u64().expect("a number");
        let connections = support::rows(&file, "connections");
        let name = file.display();
        let payload = total("bytes");
        assert_eq!(sum(&connections, &["bytes_sent", "bytes_received"]), payload, "{name}");
        assert_eq!(sum(&section("talkers"), &["to_server", "to_client"]), payload, "{name}");
        assert_eq!(sum(&connections, &["lost_bytes"]), total("lost_bytes"), "{name}");
        assert_eq!(sum(&connections, &["unread_bytes"]), total("unread_bytes"), "{name}");
        assert!(total("unread_bytes") <= payload, "{name}");
        // Exchanges, and connections without any: no greetings, no tunnels.
        assert!(sum(&section("services"), &["bytes"]) <= payload, "{name}");
        let silent: Vec<_> = connections
            .iter()
            .filter(|row| !row["why"].is_null())
            .cloned()
            .collect();
        assert_eq!(
            sum(&silent, &["bytes_sent", "bytes_received"]),
            report["not_parsed"]["bytes"].as_u64().expect("a number"),
            "{name}"
        );
        seen += payload;
    }
    assert!(seen > 0);
}

/// Each end of a connection leaves out the same bytes.
#[test]
fn what_is_not_kept_at_both_ends_is_not_said_to_be_twice_the_payload() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/not-http.mdf");
    let report = run(mdf().arg("analyze").arg(file)).expect_code(&[0, 3]).stdout;
    let said = "1.09 KiB of the payload counted and not kept (beyond the snaplen), 2.18 KiB in the records of both ends together";
    assert!(report.contains(said), "{report}");
}
